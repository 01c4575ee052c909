"""Trees of what a worktree and its index hold, made without its filters."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pygit2
from pygit2.enums import FileMode

from agentrelay.workstream.errors import RepositoryError

__all__ = ["mode_at", "repository_inside", "staged_tree", "stat_at", "tree_with"]

# Components libgit2 refuses in a tree, whatever the platform: git's own folder, and what
# NTFS and HFS take for it (CVE-2014-9390, CVE-2019-1352).
_REFUSED: Final = re.compile(r"(?i)(^|/)(\.git|git~\d+)[. \u200c\u200d]*(:[^/]*)?(/|$)|\\")


def staged_tree(handle: pygit2.Repository, index: pygit2.Index) -> str:
    """Return an index as a tree; each side of a conflict becomes a file of its own.

    So does a file whose name is a folder's too: libgit2 writes such an index, and leaves
    the file out of the tree.
    """
    sides = list(index.conflicts or ())
    torn = {side.path for conflict in sides for side in conflict if side is not None}
    entries = list(index)
    folders = _folders(entries)
    beside = [entry for entry in entries if entry.path in folders and entry.path not in torn]
    if not torn and not beside:
        return str(index.write_tree(handle))
    plain = pygit2.Index()
    for entry in entries:
        if entry.path not in torn and entry.path not in folders:
            plain.add(entry)
    labelled = [("file", entry) for entry in beside]
    for conflict in sides:
        labelled += zip(("ancestor", "ours", "theirs"), conflict, strict=True)
    for label, side in labelled:
        if side is not None:
            name = f"{side.path}.{label}"
            while name in plain:
                name += "_"
            plain.add(pygit2.IndexEntry(name, side.id, side.mode))
    return str(plain.write_tree(handle))


def tree_with(
    handle: pygit2.Repository, base: str | None, worktree_path: Path, paths: tuple[str, ...]
) -> str:
    """Return a tree: the base with some paths as they are in the worktree.

    Args:
        handle: Repository the tree is written to.
        base: Hex id of the base tree, or ``None`` for an empty one.
        worktree_path: Where the files are.
        paths: Paths relative to it. One that is gone is left out; one that git refuses
            to have in a tree is kept under a percent-encoded name.

    Raises:
        RepositoryError: A path is a repository of its own.
    """
    index = pygit2.Index()
    if base is not None:
        index.read_tree(handle[base].peel(pygit2.Tree))
    folders = _folders(index)
    # Those under a name of our own come last: it must be nobody else's.
    for path in sorted(paths, key=lambda path: bool(_REFUSED.search(path))):
        found = _blob_at(handle, worktree_path, path)
        if found is None:
            if path in index:
                index.remove(path)
            continue
        name = _escaped(path, index) if _REFUSED.search(path) else path
        if name in folders:
            # A file where the base has a folder.
            for below in [entry.path for entry in index if entry.path.startswith(f"{name}/")]:
                index.remove(below)
        index.add(pygit2.IndexEntry(name, *found))
    return str(index.write_tree(handle))


def _folders(entries: Iterable[pygit2.IndexEntry]) -> set[str]:
    """Return every folder that some entry is in."""
    found: set[str] = set()
    for entry in entries:
        folder = str(entry.path).rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _escaped(path: str, taken: pygit2.Index) -> str:
    """Return a name git accepts, from which the path can be read, and which is free."""
    folder = "%"
    name = quote(path, safe="").replace(".", "%2E").replace("~", "%7E")
    while folder in taken or f"{folder}/{name}" in taken:
        folder += "_"
    return f"{folder}/{name}"


def _blob_at(
    handle: pygit2.Repository, root: Path, name: str
) -> tuple[pygit2.Oid, FileMode] | None:
    """Return a path's content as it lies there, or ``None`` when there is none to keep."""
    path, mode = root / name, mode_at(root, name)
    if mode is None:
        return None
    if stat.S_ISLNK(mode):
        return handle.create_blob(os.fsencode(os.readlink(path))), FileMode.LINK  # noqa: PTH115 - bytes
    if stat.S_ISREG(mode):
        # The very bytes: no filter may change what is being rescued.
        with path.open("rb") as stream:
            blob = handle.create_blob_fromiobase(stream)
        return blob, FileMode.BLOB_EXECUTABLE if mode & stat.S_IXUSR else FileMode.BLOB
    if stat.S_ISDIR(mode) and (path / ".git").exists():
        raise repository_inside(path)
    # A folder where a file was has paths of its own; a socket, pipe or device holds no work.
    return None


def mode_at(root: Path, name: str) -> int | None:
    """Return the mode of what is at a path below ``root``, or ``None`` when nothing is.

    What a link on the way leads to lies elsewhere, or goes round in circles.
    """
    seen = stat_at(root, name)
    return None if seen is None else seen.st_mode


def stat_at(root: Path, name: str) -> os.stat_result | None:
    """Return what ``lstat`` says of what is at a path, or ``None`` where :func:`mode_at` does.

    Text and no path objects: this is asked of every file of a large commit.
    """
    *above, last = name.rstrip("/").split("/")
    folder = os.fspath(root)
    for part in above:
        folder = f"{folder}/{part}"
        if os.path.islink(folder):  # noqa: PTH114 - see above
            return None
    try:
        return os.lstat(f"{folder}/{last}")
    except (FileNotFoundError, NotADirectoryError):
        return None


def repository_inside(path: Path) -> RepositoryError:
    message = f"'{path}' is a repository of its own, and its commits cannot be kept here"
    return RepositoryError(
        message,
        path=path,
        hint="Push what it holds, then remove it or move it out of the worktree, and repeat.",
    )
