"""Making sure that what was kept outlives a power cut, before its source is deleted.

libgit2 leaves objects and refs to the operating system's caches. A deletion that reaches
the disk before the copy does would lose both.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pygit2

from agentrelay.workstream._git.repository import OpenRepository

__all__ = ["sync_commit", "sync_ref"]

# Syncing a file takes milliseconds on a disk that spins. Beyond this many, everything the
# system holds back is written at once instead.
_MOST_FILES: Final = 200


def sync_commit(repository: OpenRepository, commit_id: str) -> None:
    """Write a new commit to the disk, with what its tree adds to its first parent's.

    Args:
        repository: Repository the commit is in.
        commit_id: Hex id of the commit.

    Raises:
        OSError: The disk refused.
    """
    commit = repository.handle[commit_id].peel(pygit2.Commit)
    base = commit.parents[0].tree if commit.parents else None
    objects = repository.common_dir / "objects"
    paths = [
        path
        for name in (commit_id, *_new_objects(commit.tree, base))
        # What is not a file of its own lies in a pack, and is older than this commit.
        if (path := objects / name[:2] / name[2:]).exists()
    ]
    if len(paths) > _MOST_FILES and hasattr(os, "sync"):
        os.sync()
        return
    for path in paths:
        _sync(path)
    for directory in sorted({path.parent for path in paths}):
        _sync(directory)
    _sync(objects)


def sync_ref(repository: OpenRepository, ref: str) -> None:
    """Write a ref to the disk, with the directories that lead to it.

    Args:
        repository: Repository the ref is in.
        ref: Full ref name; one that was packed meanwhile is left to whoever packed it.

    Raises:
        OSError: The disk refused.
    """
    path = repository.common_dir / ref
    # A "git pack-refs" may be moving it just now: git syncs what it writes.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        _sync(path)
        for directory in path.parents:
            _sync(directory)
            if directory == repository.common_dir:
                break


def _new_objects(tree: pygit2.Tree, base: pygit2.Tree | None) -> Iterator[str]:
    """Iterate over the ids of a tree and of what is below it that a base has not."""
    if base is not None and tree.id == base.id:
        return
    yield str(tree.id)
    known = {entry.name: entry for entry in base} if base is not None else {}
    for entry in tree:
        before = known.get(entry.name)
        if before is not None and before.id == entry.id:
            continue
        if isinstance(entry, pygit2.Tree):
            yield from _new_objects(entry, before if isinstance(before, pygit2.Tree) else None)
        else:
            yield str(entry.id)


def _sync(path: Path) -> None:
    """Flush one file or directory to the disk."""
    if os.name == "nt" and path.is_dir():  # pragma: no cover - Windows cannot open a directory
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
