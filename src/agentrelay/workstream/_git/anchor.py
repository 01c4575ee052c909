"""Keeping new objects from a garbage collection until a ref leads to them.

``git gc --prune=now`` deletes whatever no ref led to when it began to look, and an object
that was written meanwhile is among that. Git's own fetch marks its pack with a ``.keep``
file until the refs are written; so does this, for the few objects of a snapshot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pygit2
from pygit2.enums import FileMode

from agentrelay.workstream._git.durable import sync_path
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.trash import remove_tree
from agentrelay.workstream.errors import RepositoryError

__all__ = ["anchored", "weigh_anchors"]


@contextmanager
def anchored(repository: OpenRepository, commit_id: str, *, owner: str) -> Iterator[None]:
    """Let no garbage collection take a new commit while a ref to it is written inside.

    Whatever the commit has that its first parent lacks is written to a pack of its own,
    durably, that is marked before git can see it. A collection that began earlier does
    not know the pack, one that begins now leaves it alone, a later one finds the ref.

    Args:
        repository: Repository the commit is in.
        commit_id: Hex id of the commit; its parents have refs.
        owner: Whoever does this, one at a time: a lane's rescue prefix.

    Raises:
        RepositoryError: Something of it is gone already.
        OSError: The pack cannot be written.

    Source:
        git-repack(1), "-a": packs with a .keep file stay; git-index-pack(1), "--keep".
    """
    weigh_anchors(repository, owner=owner)
    aside = repository.own_dir / "packing" / owner
    if aside.exists():
        # Of a killed process: the owner does one thing at a time.
        remove_tree(aside)
    aside.mkdir(parents=True)
    pack_dir = repository.common_dir / "objects" / "pack"
    keep = None
    try:
        _pack(repository.handle, commit_id, aside)
        (index,) = aside.glob("*.idx")
        pack_dir.mkdir(parents=True, exist_ok=True)
        keep = pack_dir / index.with_suffix(".keep").name
        keep.write_text(_mark(owner))
        # The index last: without one a pack is not seen.
        for path in (index.with_suffix(".pack"), index):
            sync_path(path)
            path.replace(pack_dir / path.name)
        sync_path(pack_dir)
        yield
    finally:
        if keep is not None:
            keep.unlink(missing_ok=True)
        remove_tree(aside)
        for parent in aside.parents:
            if parent == repository.own_dir:
                break
            with contextlib.suppress(OSError):
                parent.rmdir()


def weigh_anchors(repository: OpenRepository, *, owner: str) -> None:
    """Remove the marks that a killed process of the same owner left."""
    for keep in (repository.common_dir / "objects" / "pack").glob("*.keep"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if keep.read_text() == _mark(owner):
                keep.unlink()


def _mark(owner: str) -> str:
    return f"agentrelay-workstream {owner}\n"


def _pack(handle: pygit2.Repository, commit_id: str, directory: Path) -> None:
    """Write a pack of what a commit has and its first parent lacks."""

    def add_new(builder: pygit2.PackBuilder) -> None:
        commit = handle[commit_id].peel(pygit2.Commit)
        builder.add(commit.id)
        base = commit.parents[0].tree if commit.parents else None
        for oid in _new_in(handle, commit.tree, base):
            builder.add(oid)

    try:
        handle.pack(directory, pack_delegate=add_new, n_threads=1)
    except KeyError as error:
        message = f"an object of {commit_id[:12]} is gone: a garbage collection is running"
        raise RepositoryError(message, hint="Repeat it when that is over.") from error


def _new_in(
    handle: pygit2.Repository, tree: pygit2.Tree, base: pygit2.Tree | None
) -> Iterator[pygit2.Oid]:
    """Iterate over the ids of a tree and of what is in it, without what the base has."""
    if base is not None and tree.id == base.id:
        return
    yield tree.id
    known = {entry.name: entry.id for entry in base} if base is not None else {}
    for entry in tree:
        there = known.get(entry.name)
        if entry.filemode == FileMode.COMMIT or entry.id == there:
            continue
        if entry.filemode == FileMode.TREE:
            before = handle.get(there) if there is not None else None
            below = before if isinstance(before, pygit2.Tree) else None
            yield from _new_in(handle, handle[entry.id].peel(pygit2.Tree), below)
        else:
            yield entry.id
