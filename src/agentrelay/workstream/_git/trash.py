"""Removing directory trees out of sight first, and for good later."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from agentrelay.workstream._git.lockfile import is_held
from agentrelay.workstream.errors import LaneConflictError

if sys.platform != "win32":
    import fcntl

__all__ = [
    "is_empty",
    "lock_grave",
    "remove_tree",
    "set_aside",
    "sweep_trash",
    "unlink_tree",
]

# Links to a directory without directories in it: its name, and its own ".".
_NO_FOLDERS: Final = 2
# Each further try needs another thread to sweep at that very moment.
_MOST_TRIES: Final = 100
# What that file spells in octal.
_QUOTED: Final = re.compile(rb"[\s\\#]")
_OCTAL: Final = re.compile(rb"\\([0-3][0-7]{2})")


def set_aside(path: Path, *, trash_dir: Path) -> Path | None:
    """Rename a directory tree out of sight; :func:`unlink_tree` does the slow rest.

    Renaming takes no time however large the tree is, and nobody sees half of it. What a
    crash leaves lies in ``trash_dir``.

    Args:
        path: Directory to remove; missing is fine.
        trash_dir: Directory on the same file system.

    Returns:
        The directory that holds the tree now, or ``None`` when there was nothing.

    Raises:
        LaneConflictError: The trash directory is a link.
        OSError: It cannot be renamed, or something is mounted below it.
    """
    _refuse_link(trash_dir)
    mounted = _mounted_below(path)
    if mounted is not None:
        # It would be renamed along, and unlinking would empty somebody's disk.
        message = f"a file system is mounted at '{mounted}'; unmount it, then repeat"
        raise OSError(errno.EBUSY, message)
    for _ in range(_MOST_TRIES):
        if not os.path.lexists(path):
            return None
        grave = _make_grave(trash_dir)
        try:
            path.rename(grave / path.name)
        except FileNotFoundError:
            # Either the tree is gone ("git worktree prune" was quicker) or somebody swept
            # the empty grave away: look again.
            unlink_tree(grave)
        except BaseException:
            unlink_tree(grave)
            raise
        else:
            return grave
    message = f"'{path}' cannot be moved away: it comes and goes"
    raise OSError(errno.EBUSY, message)


def _mounted_below(path: Path) -> str | None:
    """Return a directory at or below ``path`` where something is mounted, or ``None``.

    Source:
        proc(5), ``/proc/pid/mountinfo``: the fifth field is the mount point, with blanks
        and backslashes as octal numbers. Where there is no such file nothing is known.
    """
    top = os.path.realpath(path)
    with contextlib.suppress(OSError):
        table = Path("/proc/self/mountinfo").read_bytes()
        name = os.fsencode(top).rpartition(b"/")[2]
        if name not in table and not _QUOTED.search(name):
            # The usual case: there may be hundreds, and nothing like it is among them.
            return None
        for line in table.splitlines():
            field = line.split(b" ")[4]
            where = os.fsdecode(_OCTAL.sub(lambda found: bytes([int(found[1], 8)]), field))
            if where == top or where.startswith(f"{top}/"):
                return where
    return None


def _refuse_link(trash_dir: Path) -> None:
    """Refuse a trash directory that leads elsewhere: it is emptied without looking."""
    if trash_dir.is_symlink():
        message = f"'{trash_dir}' is a symbolic link, and could lead outside the repository"
        raise LaneConflictError(message, obstacle=trash_dir, hint="Look at it, then remove it.")


def _make_grave(trash_dir: Path) -> Path:
    """Make a directory of its own; another thread may remove the empty trash meanwhile."""
    for _ in range(_MOST_TRIES):
        # Also "exists": mkdir looks again for the directory it met, and it is gone by then.
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            trash_dir.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix="gone-", dir=trash_dir))
    message = f"'{trash_dir}' cannot be made; is something else there by that name?"
    raise FileExistsError(errno.EEXIST, message)


def unlink_tree(grave: Path | None) -> None:
    """Unlink what :func:`set_aside` renamed, and the trash directory if it is empty then.

    Raises:
        OSError: Something cannot be unlinked.
    """
    if grave is None:
        return
    remove_tree(grave)
    with contextlib.suppress(OSError):
        grave.parent.rmdir()


def sweep_trash(trash_dir: Path) -> None:
    """Unlink what crashed processes left in a trash directory.

    What lies there was examined before it was renamed. A tree that a living process has
    locked is left to it; another thread may be unlinking one just now all the same, and each
    file goes once.

    Raises:
        LaneConflictError: The trash directory is a link: what is there was never thrown away.
        OSError: Something cannot be unlinked.
    """
    _refuse_link(trash_dir)
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(trash_dir)):
            if not is_held(trash_dir / name):
                unlink_tree(trash_dir / name)
    with contextlib.suppress(OSError):
        # Empty from the start: its maker was killed right after.
        trash_dir.rmdir()


def is_empty(directory: Path) -> bool:
    """Return whether a directory is there and nothing is in it."""
    try:
        if os.stat(directory).st_nlink > _NO_FOLDERS:  # noqa: PTH116 - several times a lane
            # Most file systems count the folders in one; there may be a thousand lanes.
            return False
        with os.scandir(directory) as names:
            return next(names, None) is None
    except OSError:
        return False


def lock_grave(grave: Path) -> int | None:
    """Lock what :func:`set_aside` returned while it is unlinked.

    Returns:
        A descriptor that holds the lock until it is closed or its process dies, or ``None``
        where that cannot be had.
    """
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(grave, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def remove_tree(path: Path) -> None:
    """Unlink a tree, read-only directories included."""
    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=_make_writable)
    else:
        shutil.rmtree(path, onerror=_make_writable)


def _make_writable(function: object, path: str, error: object) -> None:  # noqa: ARG001 - rmtree's signature
    """Unlink what a read-only directory protects: agents' tool caches are full of them."""
    reason = error[1] if isinstance(error, tuple) else error
    if isinstance(reason, FileNotFoundError):
        return
    parent = os.path.dirname(path)  # noqa: PTH120 - rmtree hands out strings
    for locked in (parent, path):
        # Never a file's own mode: it may be a hard link into somebody's package store.
        if os.path.isdir(locked) and not os.path.islink(locked):  # noqa: PTH112, PTH114 - same
            with contextlib.suppress(OSError):
                os.chmod(locked, 0o700)  # noqa: PTH101 - same reason
    with contextlib.suppress(FileNotFoundError):
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114 - same
            shutil.rmtree(path)
        else:
            os.unlink(path)  # noqa: PTH108 - same reason
