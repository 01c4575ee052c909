"""Reading a tree whose files may be written byte for byte, or saying that it is none.

Only names are judged here that no platform takes for anything else, and only files and
links. Everything else is for libgit2, with its refusals.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

import pygit2

__all__ = ["PlainFile", "PlainFolder", "PlainLink", "PlainTree", "read_plain_tree"]

# One entry of a tree object: mode, name, object id. Modes that only old gits wrote are not
# here, nor submodules, nor names with what separates folders or streams on some platform.
_ENTRY: Final = re.compile(
    rb"(100644|100755|40000|120000) ([^\x00-\x1f\x7f/\\:]+)\0(.{20})", re.DOTALL
)
_OVERHEAD: Final = len(b" \0") + 20
# In names joined by "/": what NTFS takes for ".git" (CVE-2014-9390, CVE-2019-1352), its
# short names, and names that Windows shortens.
_DOUBTFUL: Final = re.compile(rb"(?i)/\.git[^a-z0-9_-]|/\.+/|~[0-9]|[ .]/")
_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]+")
_DEEPEST: Final = 100

# Name, whether it is executable, object id, place in the index.
PlainFile = tuple[bytes, bool, bytes, int]
# Path, object id, place in the index.
PlainLink = tuple[bytes, bytes, int]


@dataclass(frozen=True, slots=True)
class PlainFolder:
    """One folder of a tree.

    Attributes:
        prefix: Its path with a ``/`` at the end; empty for the top.
        files: The regular files right in it.
    """

    prefix: bytes
    files: list[PlainFile]


@dataclass(slots=True)
class PlainTree:
    """A whole tree, in the order of an index.

    Attributes:
        folders: All folders, each before those below it.
        links: Symbolic links.
        attributes: Object ids of the ``.gitattributes`` files.
        count: How many files and links there are.
        cached: Content of the index's ``TREE`` extension.
    """

    folders: list[PlainFolder] = field(default_factory=list)
    links: list[PlainLink] = field(default_factory=list)
    attributes: list[bytes] = field(default_factory=list)
    count: int = 0
    cached: bytes = b""


def read_plain_tree(handle: pygit2.Repository, tree_id: pygit2.Oid) -> PlainTree | None:
    """Return all of a tree, or ``None`` when anything in it is not plainly harmless.

    Args:
        handle: Repository the tree is in; object names are verified as it is set to.
        tree_id: The tree.

    Raises:
        KeyError: An object is missing.
        GitError: An object cannot be read.

    Source:
        gitformat-index(5), "Cache tree": path, number of entries, number of subtrees, id.
    """
    reader = _Reader(handle)
    if not reader.read(tree_id, b"", b"", depth=0):
        return None
    reader.tree.cached = b"".join(reader.cached)
    return reader.tree


class _Reader:
    """Goes through a tree in the order of an index."""

    def __init__(self, handle: pygit2.Repository) -> None:
        self._handle = handle
        self.tree = PlainTree()
        self.cached: list[bytes] = []

    def read(self, tree_id: pygit2.Oid, name: bytes, prefix: bytes, *, depth: int) -> bool:
        """Read one folder and all below it; tell whether all of it is harmless."""
        raw = self._handle.read(tree_id)[1]
        found = _ENTRY.findall(raw)
        if not _is_harmless(raw, found) or depth > _DEEPEST:
            return False
        tree = self.tree
        files: list[PlainFile] = []
        tree.folders.append(PlainFolder(prefix, files))
        place, before, folders = len(self.cached), tree.count, 0
        self.cached.append(b"")
        for mode, entry, object_id in found:
            if mode == b"40000":
                folders += 1
                below = pygit2.Oid(raw=object_id)
                if not self.read(below, entry, prefix + entry + b"/", depth=depth + 1):
                    return False
                continue
            if mode == b"120000":
                if entry == b".gitattributes":
                    return False
                tree.links.append((prefix + entry, object_id, tree.count))
            else:
                files.append((entry, mode == b"100755", object_id, tree.count))
                if entry == b".gitattributes":
                    tree.attributes.append(object_id)
            tree.count += 1
        self.cached[place] = b"%b\0%d %d\n%b" % (name, tree.count - before, folders, tree_id.raw)
        return True


def _is_harmless(raw: bytes, found: list[tuple[bytes, bytes, bytes]]) -> bool:
    """Tell whether a tree holds nothing but what was found, sorted, under harmless names."""
    if sum(len(mode) + len(name) for mode, name, _ in found) + _OVERHEAD * len(found) != len(raw):
        return False
    names = [name for _, name, _ in found]
    keys = [name + b"/" if mode == b"40000" else name for mode, name, _ in found]
    if len(set(names)) != len(names) or sorted(keys) != keys:
        return False
    joined = b"/%b/" % b"/".join(names)
    if _DOUBTFUL.search(joined):
        return False
    # HFS passes over some characters: what spells "git" without them may be ".git" there.
    return not (
        _NOT_ASCII.search(joined)
        and any(b"git" in _NOT_ASCII.sub(b"", name).lower() for name in names if not name.isascii())
    )
