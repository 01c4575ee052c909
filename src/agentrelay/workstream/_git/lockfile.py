"""Git's own lock files: ``<name>.lock``, made exclusively, renamed into place.

The user's git respects these and not ours, so whatever git may write at the same time
is written under one of them. Unlike a kernel lock such a file outlives a killed
process and blocks everybody. So ours are hard links to a file of our own that the
holder has locked in the kernel: a leftover that is provably ours and provably nobody's
any more is removed, and no other ever is.

Source:
    git's lockfile API (Documentation/technical, "lockfile"): create with ``O_EXCL``,
    write, rename. link(2) fails like ``O_EXCL`` when the name is taken.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

if sys.platform != "win32":
    import fcntl

__all__ = ["LockFile", "LockedError", "is_held", "remove_if_dead", "sweep_dead"]

# What link(2) says where there are no hard links, or none more for this file.
_NO_HARD_LINKS: Final = frozenset(
    {errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOSYS}
)


class LockedError(OSError):
    """A ``.lock`` file is there already."""


# Descriptors that say "the holder lives". A forked child must close its copies: it may
# outlive a killed parent, and nobody would dare to remove the parent's leftovers.
_living: weakref.WeakSet[LockFile] = weakref.WeakSet()


def _forget_holders() -> None:
    for lock in list(_living):
        lock.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_holders)


class LockFile:
    """``<path>.lock`` for the length of a ``with`` block.

    The git program does not wait for some of these locks, so what is going to be written
    is written and synced before the lock is taken: it is held for an instant.
    """

    def __init__(self, path: Path, *, own_dir: Path, data: bytes | None = None) -> None:
        """Name the lock; nothing is made yet.

        Args:
            path: File that is about to be rewritten.
            own_dir: Directory of our own on the same file system.
            data: What :meth:`commit` will make of the file, if it will.
        """
        self._data = data
        self._path = path
        # Strings and not paths: there are a dozen of these a lane.
        self._lock = f"{path}.lock"
        self._held_dir = f"{own_dir}/held"
        self._descriptor: int | None = None
        self._committed = False

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            LockedError: Somebody holds it, or the directory was pruned meanwhile.
            OSError: It cannot be made.
        """
        own = f"{self._held_dir}/{os.urandom(8).hex()}"
        # As any program makes a file: the umask says who may read it.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = os.open(own, flags, 0o666)
        except FileNotFoundError:
            os.makedirs(self._held_dir, exist_ok=True)  # noqa: PTH103 - a string
            descriptor = os.open(own, flags, 0o666)
        self._descriptor = descriptor
        self._own: str | None = own
        _living.add(self)
        self._committed = False
        try:
            if sys.platform != "win32":
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if self._data is not None:
                _write_out(descriptor, self._data)
                _keep_mode(self._path, descriptor)
            try:
                os.link(own, self._lock)
            except FileExistsError as error:
                remove_if_dead(self._lock, Path(self._held_dir))
                raise self._locked() from error
            except FileNotFoundError as error:
                # Somebody pruned the empty directory between mkdir and here.
                raise self._locked() from error
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                self._fall_back()
        except BaseException:
            with contextlib.suppress(OSError):
                # An interrupt may have come right after the link.
                if os.path.samestat(os.stat(self._lock), os.fstat(descriptor)):  # noqa: PTH116 - a string
                    os.unlink(self._lock)  # noqa: PTH108 - a string
            _unlink_if_there(self._own)
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock; without a commit the locked file is as it was."""
        if self._descriptor is None:
            # A forked child: the lock is its parent's.
            return
        try:
            if not self._committed:
                _unlink_if_there(self._lock)
            assert self._own is not None
            # Last: while it is there, a lock that an interrupt left behind is provably ours.
            _unlink_if_there(self._own)
        finally:
            self._close()

    def commit(self) -> None:
        """Make the data the content of the locked file; the lock is gone then.

        Once renamed, the lock's name may already be somebody else's lock, so it is
        not unlinked any more.
        """
        assert self._data is not None
        os.replace(self._lock, self._path)  # noqa: PTH105 - a string
        self._committed = True

    def disown(self) -> None:
        """Close the copy of the descriptor that a forked child has."""
        with contextlib.suppress(OSError):
            self._close()

    def __del__(self) -> None:
        """Let go of what an interrupt between two lines left taken; it is a dead holder's now."""
        with contextlib.suppress(Exception):
            self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _living.discard(self)
            os.close(descriptor)

    def _fall_back(self) -> None:
        """Make the lock as git does, where the file system has no hard links."""
        try:
            plain = os.open(self._lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError as error:
            raise self._locked() from error
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = plain
        if self._data is not None:
            _write_out(plain, self._data)
        _keep_mode(self._path, plain)

    def _locked(self) -> LockedError:
        return LockedError(f"'{self._lock}' is locked")


def _write_out(descriptor: int, data: bytes) -> None:
    """Write all of it, durably."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def _unlink_if_there(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - a string


def _keep_mode(path: Path, descriptor: int) -> None:
    """Give the file that replaces another the other's permissions."""
    with contextlib.suppress(FileNotFoundError):
        os.fchmod(descriptor, stat.S_IMODE(os.stat(path).st_mode))  # noqa: PTH116 - a dozen times a lane


def is_held(path: Path) -> bool | None:
    """Tell whether somebody holds the kernel's lock on a file; ``None`` if that cannot be told.

    The lock is asked for, for an instant and together with any other asker.
    """
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def sweep_dead(held_dir: Path) -> None:
    """Remove what killed holders left: their own names, and the lock files these prove ours.

    A holder may be killed before it has the lock, inside, or when the lock has become the
    file already. A name that was swept before its maker locked it fails to become a lock,
    and is made anew.

    Args:
        held_dir: ``agentrelay/held`` below a repository's common directory.
    """
    with contextlib.suppress(FileNotFoundError):
        for candidate in held_dir.iterdir():
            _remove_dead(candidate, lambda: _locks_of(held_dir.parent.parent))


def remove_if_dead(lock: str | Path, held_dir: Path) -> None:
    """Remove a lock file that is ours and whose holder is gone; leave any other."""
    with contextlib.suppress(OSError):
        wanted = os.stat(lock)  # noqa: PTH116 - asked dozens of times a lane
        for candidate in held_dir.iterdir():
            with contextlib.suppress(OSError):
                if os.path.samestat(candidate.stat(), wanted):
                    _remove_dead(candidate, lambda: [Path(lock)])
                    return


def _locks_of(common_dir: Path) -> list[Path]:
    """Return every lock file there may be one of ours among."""
    config = Path(os.path.realpath(common_dir / "config"))
    return [
        config.with_name(f"{config.name}.lock"),
        *common_dir.glob("*.lock"),
        *common_dir.glob("worktrees/*/index.lock"),
        *(common_dir / "refs").rglob("*.lock"),
    ]


def _remove_dead(candidate: Path, locks: Callable[[], list[Path]]) -> None:
    """Remove a holder's own name and its lock file, unless the holder lives."""
    if sys.platform == "win32":
        # Leftovers are reported there, never removed.
        return
    with contextlib.suppress(OSError), candidate.open("rb") as stream:
        # Raises while the holder lives.
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(stream.fileno())
        # A single name never became a lock. A second one may be the file by now.
        for lock in locks() if found.st_nlink > 1 else []:
            with contextlib.suppress(FileNotFoundError):
                # Another waiter may have been here first, and may hold the name by now.
                if os.path.samestat(lock.stat(), found):
                    lock.unlink()
        candidate.unlink(missing_ok=True)
