"""Writing blobs by libgit2, byte for byte, over a part of the paths of a tree.

libgit2 asks for the attributes of each file, with two dozen system calls a file, unless it
is told to apply no filter. The interpreter's lock is not held while it works.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import CheckoutStrategy, FileMode
from pygit2.errors import check_error
from pygit2.ffi import C, ffi

from agentrelay.workstream._git.large_blobs import LargeBlobs
from agentrelay.workstream._git.plain_trees import PlainFile, PlainFolder, PlainLink
from agentrelay.workstream._git.proven_copies import NEW_FILE, Written

__all__ = ["PlainWriter"]

_STRATEGY: Final = (
    CheckoutStrategy.FORCE
    | CheckoutStrategy.RECREATE_MISSING
    | CheckoutStrategy.DISABLE_PATHSPEC_MATCH
    # The index is written once, for all paths together.
    | CheckoutStrategy.DONT_UPDATE_INDEX
    | CheckoutStrategy.NO_REFRESH
)


class PlainWriter:
    """Writes paths of one tree; for one thread.

    Only for trees that ``read_plain_tree`` accepts, where nothing is converted.
    """

    def __init__(
        self, worktree_path: Path, tree_id: pygit2.Oid, large: LargeBlobs | None = None
    ) -> None:
        """Open the worktree once more: a handle is of one thread.

        Args:
            worktree_path: Its top.
            tree_id: The tree that is written.
            large: What is not to be held in memory.
        """
        self._handle = pygit2.Repository(str(worktree_path))
        self._large = large
        self._tree = self._handle[tree_id]
        self._pointer = ffi.new("git_object **")
        ffi.buffer(self._pointer)[:] = self._tree._pointer[:]  # noqa: SLF001 - as pygit2 does it

    def write_files(self, folders: Iterable[PlainFolder], target: int, written: Written) -> None:
        """Write the files of some folders; what is there by their names is replaced.

        Args:
            folders: What to write.
            target: Descriptor of the top of the worktree.
            written: Where to note it.

        Raises:
            GitError: A blob cannot be read, or its bytes are not what its name says.
            OSError: It cannot be written.
        """
        files = [
            (folder.prefix + file[0], file)
            for folder in folders
            for file in folder.files
            if not self._stream(folder.prefix + file[0], file, target, written)
        ]
        self._write([path for path, _ in files])
        for path, (_, executable, object_id, place) in files:
            mode = FileMode.BLOB_EXECUTABLE if executable else FileMode.BLOB
            status = os.stat(path, dir_fd=target, follow_symlinks=False)
            written.note(status, mode, object_id, path, place)

    def _stream(self, path: bytes, file: PlainFile, target: int, written: Written) -> bool:
        """Write a large file piece by piece; tell whether that was possible."""
        _, executable, object_id, place = file
        if self._large is None or not self._large.has(object_id, self._handle):
            return False
        descriptor = os.open(path, NEW_FILE, 0o777 if executable else 0o666, dir_fd=target)
        try:
            if self._large.write(object_id, descriptor):
                mode = FileMode.BLOB_EXECUTABLE if executable else FileMode.BLOB
                written.note(os.fstat(descriptor), mode, object_id, path, place)
                return True
        finally:
            os.close(descriptor)
        os.unlink(path, dir_fd=target)
        return False

    def write_links(self, links: Sequence[PlainLink], target: int, written: Written) -> None:
        """Write symbolic links; see :meth:`write_files`.

        Raises:
            GitError: A blob cannot be read, or its bytes are not what its name says.
            OSError: It cannot be written.
        """
        self._write([path for path, _, _ in links])
        for path, object_id, place in links:
            status = os.stat(path, dir_fd=target, follow_symlinks=False)
            written.note(status, FileMode.LINK, object_id, path, place)

    def _write(self, paths: list[bytes]) -> None:
        names = [ffi.new("char[]", path) for path in paths]
        array = ffi.new("char *[]", names)
        options = ffi.new("git_checkout_options *")
        check_error(C.git_checkout_options_init(options, 1))
        options.checkout_strategy = int(_STRATEGY)
        options.disable_filters = 1
        options.paths.strings = array
        options.paths.count = len(names)
        check_error(C.git_checkout_tree(self._handle._repo, self._pointer[0], options))  # noqa: SLF001 - same
