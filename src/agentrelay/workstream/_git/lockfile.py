"""Git's own lock files: ``<name>.lock``, made exclusively, renamed into place.

The user's git respects these and not ours, so whatever git may write at the same time
is written under one of them.

Source:
    git's lockfile API (Documentation/technical, "lockfile"): create with ``O_EXCL``,
    write, rename.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Self

__all__ = ["LockFile", "LockedError"]


class LockedError(OSError):
    """A ``.lock`` file is there already."""


class LockFile:
    """``<path>.lock``, made as git makes it, for the length of a ``with`` block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = path.with_name(path.name + ".lock")
        self._held = False

    def __enter__(self) -> Self:
        try:
            self._descriptor = os.open(self._lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except (FileExistsError, FileNotFoundError) as error:
            # Not found: somebody pruned the empty directory between mkdir and open.
            message = f"'{self._lock}' is locked"
            raise LockedError(message) from error
        self._held = True
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        if self._held:
            self._lock.unlink(missing_ok=True)

    def copy_mode(self) -> None:
        """Give the new content the permissions of the old."""
        os.fchmod(self._descriptor, stat.S_IMODE(self._path.stat().st_mode))

    def commit(self, data: bytes) -> None:
        """Make ``data`` the content of the locked file; the lock is gone then.

        Once renamed, the lock's name may already be somebody else's lock, so it is
        not unlinked any more.
        """
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        os.fsync(self._descriptor)
        self._lock.replace(self._path)
        self._held = False
