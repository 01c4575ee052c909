"""Merging a path that was a link or a submodule, and is a file on both sides now."""

from __future__ import annotations

from typing import Final

import pygit2
from pygit2.enums import FileMode

__all__ = ["settled_file"]

_REGULAR: Final = frozenset({int(FileMode.BLOB), int(FileMode.BLOB_EXECUTABLE)})


def settled_file(
    handle: pygit2.Repository,
    base: pygit2.IndexEntry | None,
    target: pygit2.IndexEntry | None,
    source: pygit2.IndexEntry | None,
) -> pygit2.IndexEntry | None:
    """Return the file git makes of such a path without asking, or ``None``.

    libgit2 asks a human whenever the type has changed. git merges both files as if nothing
    had been there before, so one that is empty, or has the old content, gives way.

    Args:
        handle: Repository that has their contents.
        base: The path's entry in the common commit.
        target: Its entry in the commit that is merged into.
        source: Its entry in the commit that is merged.

    Source:
        git-merge(1), "ort"; seen with git 2.39 and ``git merge-tree --write-tree``.
    """
    if base is None or target is None or source is None or int(base.mode) in _REGULAR:
        return None
    if target.mode != source.mode or int(target.mode) not in _REGULAR:
        return None
    if base.id in (target.id, source.id):
        return source if base.id == target.id else target
    for side, other in ((target, source), (source, target)):
        if _size(handle, side) == 0 and not _blob(handle, other).is_binary:
            return other
    return None


def _blob(handle: pygit2.Repository, entry: pygit2.IndexEntry) -> pygit2.Blob:
    return handle[entry.id].peel(pygit2.Blob)


def _size(handle: pygit2.Repository, entry: pygit2.IndexEntry) -> int:
    return _blob(handle, entry).size
