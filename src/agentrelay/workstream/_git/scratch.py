"""Objects that exist in memory only, until somebody wants them on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pygit2
from pygit2.enums import ObjectType

from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.tree_ids import subtrees_and_files

__all__ = ["Scratch", "keep_objects_in_memory"]

# Above the backends of the disk, which have 1 and 2 (libgit2, odb.c): it is written to alone.
_FIRST: Final = 100
_Objects = dict[str, tuple[int, bytes]]


class _Memory(pygit2.OdbBackend):
    """The objects one handle wrote.

    Source:
        git2/sys/odb_backend.h; pygit2 turns a ``KeyError`` into "not found", and the disk is
        asked next.
    """

    def __init__(self, objects: _Objects) -> None:
        super().__init__()
        self._objects = objects

    def write_cb(self, oid: pygit2.Oid, data: bytes, kind: int) -> None:
        self._objects[str(oid)] = (kind, bytes(data))

    def read_cb(self, oid: pygit2.Oid) -> tuple[int, bytes]:
        return self._objects[str(oid)]

    def read_header_cb(self, oid: pygit2.Oid) -> tuple[int, int]:
        kind, data = self._objects[str(oid)]
        return kind, len(data)

    def exists_cb(self, oid: pygit2.Oid) -> bool:
        return str(oid) in self._objects

    def read_prefix_cb(self, prefix: str) -> tuple[int, bytes, pygit2.Oid]:
        # pygit2 asks so for full names too; nobody asks for these by a short one.
        return (*self._objects[prefix], pygit2.Oid(hex=prefix))

    def exists_prefix_cb(self, prefix: str) -> pygit2.Oid:
        raise KeyError(prefix)

    def refresh_cb(self) -> None:
        """There is nothing to look at anew."""


class Scratch:
    """Objects that several handles see as if they were in the repository; not for threads."""

    def __init__(self) -> None:
        """Begin without any."""
        self._objects: _Objects = {}

    def attach(self, repository: OpenRepository) -> None:
        """Show them to a handle, and let it write no object to the disk from now on."""
        repository.handle.odb.add_backend(_Memory(self._objects), _FIRST)

    def store(self, repository: OpenRepository, *tips: str) -> None:
        """Write what some of the objects lead to, and nothing else, to the disk.

        What an object leads to is written before it: whatever is there is whole.

        Args:
            repository: Opened by a handle that they were not shown to.
            tips: Hex ids of commits, trees or files.
        """
        odb = repository.handle.odb
        written: set[str] = set()
        pending = [(tip, False) for tip in reversed(tips)]
        while pending:
            name, is_ready = pending.pop()
            if name not in self._objects or name in written:
                continue
            kind, data = self._objects[name]
            if is_ready:
                odb.write(ObjectType(kind), data)
                written.add(name)
                continue
            pending.append((name, True))
            pending += [(below, False) for below in _below(ObjectType(kind), data)]


def _below(kind: ObjectType, data: bytes) -> Iterator[str]:
    """Yield the ids an object leads to.

    Source:
        git-cat-file(1): a commit's header ends with an empty line.
    """
    if kind == ObjectType.TREE:
        yield from subtrees_and_files(data)
    elif kind == ObjectType.COMMIT:
        for line in data.partition(b"\n\n")[0].split(b"\n"):
            if line.startswith((b"tree ", b"parent ")):
                yield line.split(b" ")[1].decode()


def keep_objects_in_memory(repository: OpenRepository) -> None:
    """Let this handle write no object to the disk from now on.

    libgit2 writes every file it merges by itself; a preview at each poll would fill the
    repository with objects nothing leads to. They go with the handle.
    """
    Scratch().attach(repository)
