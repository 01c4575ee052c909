"""One path in a tree, in the index and in the working tree, told alike."""

from __future__ import annotations

from pathlib import Path

import pygit2

from agentrelay.workstream._git.blobs import blob_at
from agentrelay.workstream._git.file_rules import FileRules
from agentrelay.workstream._git.kept_trees import mode_at

__all__ = ["FileEntry", "changes_between", "entry_in", "file_at", "is_file", "staged_at"]

# Id and mode.
FileEntry = tuple[pygit2.Oid, int]


def is_file(path: Path) -> bool:
    """Return whether there is what git knows: a regular file, or a link."""
    return path.is_symlink() or path.is_file()


def entry_in(tree: pygit2.Tree, path: str) -> FileEntry | None:
    """Return id and mode of a file in a tree."""
    try:
        entry = tree[path]
    except KeyError:
        return None
    return None if isinstance(entry, pygit2.Tree) else (entry.id, int(entry.filemode))


def staged_at(handle: pygit2.Repository, path: str) -> FileEntry | None:
    """Return id and mode of a file in the index."""
    if path not in handle.index:
        return None
    entry = handle.index[path]
    return entry.id, int(entry.mode)


def file_at(handle: pygit2.Repository, path: str, rules: FileRules) -> FileEntry | None:
    """Return id and mode that the file at a path would have in a commit."""
    root = Path(handle.workdir)
    if mode_at(root, path) is None:
        return None
    if not is_file(root / path):
        # A folder; or a pipe, which nobody may ever write to.
        return None
    blob, kind = blob_at(handle, path, (root / path).lstat(), rules)
    return blob, int(kind)


def changes_between(
    handle: pygit2.Repository, tip: str, target: str
) -> list[tuple[str, FileEntry | None]]:
    """Return what the new commit has at each path that differs; deletions first."""
    old, new = (handle[name].peel(pygit2.Tree) for name in (tip, target))
    paths: set[str] = set()
    for delta in old.diff_to_tree(new).deltas:
        for file in (delta.old_file, delta.new_file):
            paths.add(file.raw_path.decode("utf-8", "surrogateescape"))
    found = [(path, entry_in(new, path)) for path in sorted(paths)]
    return sorted(found, key=lambda item: item[1] is not None)
