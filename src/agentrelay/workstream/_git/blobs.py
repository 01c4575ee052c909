"""Files of a working tree as objects, the way git would store them."""

from __future__ import annotations

import os
import stat

import pygit2
from pygit2.enums import FileMode

from agentrelay.workstream._git.file_rules import FileRules

__all__ = ["blob_at"]


def blob_at(
    handle: pygit2.Repository, path: str, seen: os.stat_result, rules: FileRules
) -> tuple[pygit2.Oid, FileMode]:
    """Write a file as git would store it, line endings converted, or a link.

    Args:
        handle: Repository opened at the working tree.
        path: Relative to its top.
        seen: What lstat said of it.
        rules: The rules of that working tree.

    Returns:
        The id of the object, and the mode it has in a commit.
    """
    full = f"{handle.workdir}{path}"
    if stat.S_ISLNK(seen.st_mode):
        return handle.create_blob(os.fsencode(os.readlink(full))), FileMode.LINK  # noqa: PTH115 - bytes
    if rules.is_verbatim(path):
        # A link by now must not lead to somebody else's file.
        descriptor = os.open(full, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "rb") as stream:
            blob = handle.create_blob(stream.read())
    else:
        blob = handle.create_blob_fromworkdir(path)
    return blob, _mode(handle, path, seen, rules)


def _mode(handle: pygit2.Repository, path: str, seen: os.stat_result, rules: FileRules) -> FileMode:
    """Return a file's mode: git's where the file system's says nothing.

    Source:
        git-config(1), "core.fileMode".
    """
    if rules.trusts_modes:
        return FileMode.BLOB_EXECUTABLE if seen.st_mode & stat.S_IXUSR else FileMode.BLOB
    before = handle.index[path].mode if path in handle.index else FileMode.BLOB
    return FileMode.BLOB_EXECUTABLE if before == FileMode.BLOB_EXECUTABLE else FileMode.BLOB
