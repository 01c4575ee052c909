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
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

if sys.platform != "win32":
    import fcntl

__all__ = ["LockFile", "LockedError", "remove_if_dead", "sweep_dead"]

# What link(2) says where there are no hard links, or none more for this file.
_NO_HARD_LINKS: Final = frozenset(
    {errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOSYS}
)


class LockedError(OSError):
    """A ``.lock`` file is there already."""


class LockFile:
    """``<path>.lock`` for the length of a ``with`` block."""

    def __init__(self, path: Path, *, own_dir: Path) -> None:
        """Name the lock; nothing is made yet.

        Args:
            path: File that is about to be rewritten.
            own_dir: Directory of our own on the same file system.
        """
        self._path = path
        self._lock = path.with_name(path.name + ".lock")
        self._held_dir = own_dir / "held"

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            LockedError: Somebody holds it, or the directory was pruned meanwhile.
            OSError: It cannot be made.
        """
        self._held_dir.mkdir(parents=True, exist_ok=True)
        remove_if_dead(self._lock, self._held_dir)
        descriptor, name = tempfile.mkstemp(dir=self._held_dir)
        # An object and not a number: whatever interrupts us, its end closes the file, and
        # with it goes the kernel's lock.
        self._stream = os.fdopen(descriptor, "wb", buffering=0)
        self._own = Path(name)
        self._committed = False
        try:
            if sys.platform != "win32":
                fcntl.flock(self._stream, fcntl.LOCK_EX)
            os.chmod(name, _usual_mode(self._path))  # noqa: PTH101 - a swept name is told below
            try:
                os.link(name, self._lock)
            except FileExistsError as error:
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
                if os.path.samestat(self._lock.stat(), os.fstat(self._stream.fileno())):
                    self._lock.unlink()
            self._own.unlink(missing_ok=True)
            self._stream.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock; without a commit the locked file is as it was."""
        try:
            if not self._committed:
                self._lock.unlink(missing_ok=True)
            # Last: while it is there, a lock that an interrupt left behind is provably ours.
            self._own.unlink(missing_ok=True)
        finally:
            self._stream.close()

    def commit(self, data: bytes) -> None:
        """Make ``data`` the content of the locked file; the lock is gone then.

        Once renamed, the lock's name may already be somebody else's lock, so it is
        not unlinked any more.
        """
        view = memoryview(data)
        while view:
            view = view[self._stream.write(view) or 0 :]
        os.fsync(self._stream.fileno())
        self._lock.replace(self._path)
        self._committed = True

    def _fall_back(self) -> None:
        """Make the lock as git does, where the file system has no hard links."""
        try:
            plain = os.open(self._lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError as error:
            raise self._locked() from error
        self._stream.close()
        self._stream = os.fdopen(plain, "wb", buffering=0)
        self._lock.chmod(_usual_mode(self._path))

    def _locked(self) -> LockedError:
        return LockedError(f"'{self._lock}' is locked")


def _usual_mode(path: Path) -> int:
    """Return the permissions the file has, or those a new file gets."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return 0o644


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


def remove_if_dead(lock: Path, held_dir: Path) -> None:
    """Remove a lock file that is ours and whose holder is gone; leave any other."""
    with contextlib.suppress(OSError):
        wanted = lock.stat()
        for candidate in held_dir.iterdir():
            if os.path.samestat(candidate.stat(), wanted):
                _remove_dead(candidate, lambda: [lock])
                return


def _locks_of(common_dir: Path) -> list[Path]:
    """Return every lock file there may be one of ours among."""
    config = Path(os.path.realpath(common_dir / "config"))
    return [
        config.with_name(f"{config.name}.lock"),
        *common_dir.glob("*.lock"),
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
