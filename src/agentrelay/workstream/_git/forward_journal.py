"""What a move forward has begun to write, so that the next one can tell it from a person's.

libgit2 writes files in place: stopped in the middle, it leaves the beginning of one, which
is in no commit. Only because it is on record that we were writing it, and only if it holds
nothing else, may it be written again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import FileMode

from agentrelay.workstream._git.repository import is_commit_id

__all__ = ["Begun", "begin", "finish", "read_begun"]

# Beside the index: it goes when the worktree's entry goes.
_NAME: Final = "agentrelay-forward"
_FILES: Final = (FileMode.BLOB, FileMode.BLOB_EXECUTABLE)


class Begun:
    """A move forward that was begun from the commit the branch is still at."""

    def __init__(self, handle: pygit2.Repository, tip: str, target: str) -> None:
        """Take the commits it was from and to."""
        self._handle = handle
        self._old, self._new = (handle[name].peel(pygit2.Tree) for name in (tip, target))

    def entry(self, path: str) -> tuple[pygit2.Oid, int] | None:
        """Return id and mode that it was to give a path."""
        found = _find(self._new, path)
        return None if found is None else (found.id, int(found.filemode))

    def may_have_left(self, path: str) -> bool:
        """Tell whether what is at a path is what it left, and nothing of anybody else's.

        That is: nothing, or the file it was to write, or the beginning of it.

        Args:
            path: Relative to the top of the working tree.
        """
        old, new = _find(self._old, path), _find(self._new, path)
        if (old and (old.id, old.filemode)) == (new and (new.id, new.filemode)):
            return False
        place = Path(self._handle.workdir, path)
        if not os.path.lexists(place):
            return True
        if place.is_symlink() or not place.is_file():
            return False
        if not isinstance(new, pygit2.Blob) or new.filemode not in _FILES:
            return False
        # As it is written: line endings and all.
        with pygit2.BlobIO(new, as_path=path) as stream:
            whole = stream.read()
        return place.stat().st_size <= len(whole) and whole.startswith(place.read_bytes())


def _find(tree: pygit2.Tree, path: str) -> pygit2.Object | None:
    """Return a file of a tree."""
    try:
        found = tree[path]
    except KeyError:
        return None
    return None if isinstance(found, pygit2.Tree) else found


def begin(handle: pygit2.Repository, *, tip: str, target: str) -> None:
    """Put on record that files are about to be written.

    Raises:
        OSError: It cannot be written.
    """
    _path(handle).write_text(f"{tip} {target}\n")


def finish(handle: pygit2.Repository) -> None:
    """Forget it: branch, index and files are as they ought to be."""
    _path(handle).unlink(missing_ok=True)


def read_begun(handle: pygit2.Repository, *, tip: str) -> Begun | None:
    """Return the move that was begun from a commit, if there is one on record.

    Args:
        handle: Repository opened at the working tree.
        tip: Hex id of the commit its branch is at.
    """
    with suppress(OSError, ValueError, KeyError, pygit2.GitError):
        start, _, target = _path(handle).read_text().strip().partition(" ")
        if start == tip and is_commit_id(target):
            return Begun(handle, tip, target)
    return None


def _path(handle: pygit2.Repository) -> Path:
    return Path(handle.path, _NAME)
