"""The id a tree would have, without the tree being made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

import pygit2

__all__ = ["TreeEntry", "changed_tree_id", "subtrees_and_files"]

_TREE: Final = b"40000"
_SUBMODULE: Final = b"160000"
_ID_BYTES: Final = 20


class TreeEntry(NamedTuple):
    """What a tree has under a name: git's octal mode without leading zeros, and the raw id."""

    mode: bytes
    raw_id: bytes


def changed_tree_id(
    handle: pygit2.Repository,
    tree_id: str,
    changes: Mapping[bytes, TreeEntry | None],
    *,
    keep: Callable[[bytes], object] | None = None,
) -> str:
    r"""Return the hex id that a tree has after changes; only directories with any are read.

    libgit2 looks up every object of an index before it writes a tree of it, which takes longer
    than the merge did.

    Args:
        handle: Where the tree is.
        tree_id: Hex id of the tree.
        changes: What is at a path now, or ``None`` for nothing, by path with ``/``.
        keep: Called with the content of each tree on the way that was not there, the lowest
            first, by whoever wants to have them.

    Source:
        gitformat-pack and the objects themselves: a tree is "<mode> <name>\0<raw id>" for each
        entry, sorted as if the names of directories ended with a slash.
    """
    keeper = keep or _forget
    raw_id = _changed(handle, pygit2.Oid(hex=tree_id).raw, changes, keeper)
    if raw_id is None:
        keeper(b"")
        raw_id = _hashed(b"")
    return raw_id.hex()


def subtrees_and_files(data: bytes) -> Iterator[str]:
    """Yield the hex ids of what is in a tree; a submodule's commit is in another repository.

    Args:
        data: The tree's content.
    """
    for entry in _parsed(data).values():
        if entry.mode != _SUBMODULE:
            yield entry.raw_id.hex()


def _forget(data: bytes) -> None:
    """Keep nothing."""


def _changed(
    handle: pygit2.Repository,
    raw_id: bytes | None,
    changes: Mapping[bytes, TreeEntry | None],
    keep: Callable[[bytes], object],
) -> bytes | None:
    """Return the raw id of a directory after changes, or ``None`` where nothing is left."""
    entries = {} if raw_id is None else _parsed(handle[pygit2.Oid(raw=raw_id)].read_raw())
    below: dict[bytes, dict[bytes, TreeEntry | None]] = {}
    here: dict[bytes, TreeEntry] = {}
    for path, entry in changes.items():
        name, slash, rest = path.partition(b"/")
        if slash:
            below.setdefault(name, {})[rest] = entry
        elif entry is not None:
            here[name] = entry
        elif name in entries and entries[name].mode != _TREE:
            del entries[name]
    for name, inner in below.items():
        old = entries.get(name)
        is_dir = old is not None and old.mode == _TREE
        made = _changed(handle, old.raw_id if old is not None and is_dir else None, inner, keep)
        if made is not None:
            entries[name] = TreeEntry(_TREE, made)
        elif is_dir:
            del entries[name]
    entries |= here
    if not entries:
        return None
    ordered = sorted(entries, key=lambda name: name + b"/" * (entries[name].mode == _TREE))
    data = b"".join(
        b"%b %b\0%b" % (entries[name].mode, name, entries[name].raw_id) for name in ordered
    )
    keep(data)
    return _hashed(data)


def _parsed(data: bytes) -> dict[bytes, TreeEntry]:
    """Return the entries of a tree by name."""
    found: dict[bytes, TreeEntry] = {}
    start = 0
    while start < len(data):
        space = data.index(b" ", start)
        end = data.index(b"\0", space)
        following = end + 1 + _ID_BYTES
        found[data[space + 1 : end]] = TreeEntry(data[start:space], data[end + 1 : following])
        start = following
    return found


def _hashed(data: bytes) -> bytes:
    return hashlib.sha1(b"tree %d\0" % len(data) + data, usedforsecurity=False).digest()
