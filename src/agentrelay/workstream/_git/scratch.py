"""Objects that exist in memory only, so that looking at a merge leaves nothing behind."""

from __future__ import annotations

from typing import Final

import pygit2

from agentrelay.workstream._git.repository import OpenRepository

__all__ = ["keep_objects_in_memory"]

# Above the backends of the disk, which have 1 and 2 (libgit2, odb.c): it is written to alone.
_FIRST: Final = 100


class _Memory(pygit2.OdbBackend):
    """The objects one handle wrote.

    Source:
        git2/sys/odb_backend.h; pygit2 turns a ``KeyError`` into "not found", and the disk is
        asked next.
    """

    def __init__(self) -> None:
        super().__init__()
        self._objects: dict[str, tuple[int, bytes]] = {}

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


def keep_objects_in_memory(repository: OpenRepository) -> None:
    """Let this handle write no object to the disk from now on.

    libgit2 writes every file it merges by itself; a preview at each poll would fill the
    repository with objects nothing leads to. They go with the handle.
    """
    repository.handle.odb.add_backend(_Memory(), _FIRST)
