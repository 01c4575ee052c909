"""What a kept snapshot of a worktree holds, and writing it to a new directory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import DeltaStatus, FileMode

from agentrelay.workstream._git.aside import made_aside, sweep_aside
from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream.errors import LaneConflictError, RepositoryError

__all__ = ["Snapshot", "read_snapshot", "subject_of", "write_snapshot"]

# What is made aside, in one word.
_KIND: Final = "restore"
# Components no directory of ours gets, whoever wrote the tree: above it, or git's own.
_REFUSED: Final = frozenset({"", ".", "..", ".git"})


@dataclass(frozen=True)
class Snapshot:
    """What a commit changes against its first parent.

    Attributes:
        files: Paths it has that are new or different, sorted.
        deleted: Paths the parent has and it has not, sorted.
    """

    files: tuple[str, ...]
    deleted: tuple[str, ...]


def subject_of(repository: OpenRepository, commit_id: str) -> str:
    """Return the first line of a commit's message.

    Raises:
        RepositoryError: The commit cannot be read.
    """
    with repository_failures(f"read the commit {commit_id[:12]}", path=repository.path):
        try:
            commit = repository.handle[commit_id].peel(pygit2.Commit)
        except (KeyError, ValueError) as error:
            text = f"'{repository.path}' has no commit {commit_id[:40]!a}"
            raise RepositoryError(
                text, path=repository.path, hint="Look with 'git fsck'."
            ) from error
        try:
            message = commit.message
        except (LookupError, ValueError):
            # In an encoding nobody knows, or not in the one it names.
            message = commit.raw_message.decode("utf-8", "replace")
    return message.strip().partition("\n")[0]


def read_snapshot(repository: OpenRepository, commit_id: str) -> Snapshot:
    """Return what a snapshot commit holds.

    Args:
        repository: Repository the commit is in.
        commit_id: Hex id of the commit; one without a parent holds its whole tree.

    Raises:
        RepositoryError: It cannot be read.
    """
    with repository_failures(f"read the commit {commit_id[:12]}", path=repository.path):
        commit = repository.handle[commit_id].peel(pygit2.Commit)
        if commit.parents:
            diff = commit.parents[0].tree.diff_to_tree(commit.tree)
        else:
            diff = commit.tree.diff_to_tree(swap=True)
        deltas = list(diff.deltas)
    gone = {
        os.fsdecode(delta.old_file.raw_path)
        for delta in deltas
        if delta.status == DeltaStatus.DELETED
    }
    there = {
        os.fsdecode(delta.new_file.raw_path)
        for delta in deltas
        if delta.status != DeltaStatus.DELETED
    }
    return Snapshot(tuple(sorted(there)), tuple(sorted(gone)))


def write_snapshot(
    repository: OpenRepository, commit_id: str, files: tuple[str, ...], directory: Path
) -> None:
    """Write files of a commit, byte for byte, to a directory that appears all at once.

    Args:
        repository: Repository the commit is in.
        commit_id: Hex id of the commit.
        files: Paths in it.
        directory: Where; it must be absent or empty.

    Raises:
        LaneConflictError: Something is in the directory already; it stays as it is.
        RepositoryError: It cannot be written; nothing is left behind. What a killed process
            left beside the directory is removed by the next call for the same one.
    """
    sweep_aside(directory, kind=_KIND)
    with repository_failures("write the kept files", path=directory):
        if os.path.lexists(directory) and (
            directory.is_symlink() or not directory.is_dir() or any(directory.iterdir())
        ):
            message = f"'{directory}' is there already, and is not an empty directory"
            raise LaneConflictError(
                message, obstacle=directory, hint="Name a directory that does not exist yet."
            )
        with made_aside(directory, kind=_KIND) as aside:
            made = aside / "files"
            made.mkdir()
            tree = repository.handle[commit_id].peel(pygit2.Commit).tree
            for name in files:
                _write(tree, name, made)
            made.rename(directory)


def _write(tree: pygit2.Tree, name: str, top: Path) -> None:
    """Write one file or link of a tree below a directory nobody else knows yet."""
    parts = name.split("/")
    if any(part.lower() in _REFUSED for part in parts):
        message = f"'{name}' is no path that can be written"
        raise RepositoryError(message, path=top, hint="Restore to a branch and look at it there.")
    entry = tree[name]
    target = top.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(entry, pygit2.Blob):
        # A submodule's commit: its place is kept, its files are not here.
        target.mkdir(exist_ok=True)
    elif entry.filemode == FileMode.LINK:
        target.symlink_to(os.fsdecode(entry.data))
    else:
        mode = 0o777 if entry.filemode == FileMode.BLOB_EXECUTABLE else 0o666
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(target, flags, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(entry.data)
