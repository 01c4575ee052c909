"""What operations under way in a worktree refer to, by files of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pygit2

from agentrelay.workstream._git.repository import HEX_LENGTH, OpenRepository, is_commit_id
from agentrelay.workstream._git.worktree_entries import Entry

__all__ = ["AUTOSTASHES", "commits_in", "is_quiet", "operation_heads", "pending_patches", "planned"]

# Commits an operation under way refers to by files of its own: git-merge(1),
# git-rebase(1), git-cherry-pick(1).
_OPERATION_HEADS: Final = (
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "REBASE_HEAD",
    "rebase-merge/orig-head",
    "rebase-merge/stopped-sha",
    "rebase-apply/orig-head",
)
# What is still to be picked, by ids that git abbreviates.
_TODOS: Final = (
    "sequencer/todo",
    "sequencer/head",
    "rebase-merge/git-rebase-todo",
    "rebase-merge/git-rebase-todo.backup",
)
_ABBREVIATED: Final = re.compile(rf"[0-9a-f]{{4,{HEX_LENGTH}}}")
# gitrepository-layout(5): what leads to no commit but HEAD and the logs, which are looked at
# in any case.
_QUIET: Final = frozenset(
    {
        "COMMIT_EDITMSG",
        "FETCH_HEAD",
        "HEAD",
        "ORIG_HEAD",
        "commondir",
        "config.worktree",
        "gitdir",
        "index",
        "locked",
        "logs",
    }
)
AUTOSTASHES: Final = ("MERGE_AUTOSTASH", "rebase-merge/autostash", "rebase-apply/autostash")


def is_quiet(entry: Entry) -> bool:
    """Return whether an entry holds the files of a worktree where nothing is under way.

    Then there are neither an operation's commits nor refs of the worktree's own.
    """
    return _QUIET.issuperset(os.listdir(entry.admin_dir))


def operation_heads(repository: OpenRepository, entry: Entry) -> list[str]:
    """Return the commits an operation under way brings in."""
    return [
        commit_id
        for name in _OPERATION_HEADS
        for commit_id in commits_in(repository, entry.admin_dir / name)
    ]


def planned(repository: OpenRepository, entry: Entry) -> Iterator[str]:
    """Iterate over the commits a pick or rebase under way has yet to come to.

    Source:
        git-rebase(1), "INTERACTIVE MODE": a command, what it is done to, and a subject.
    """
    for name in _TODOS:
        path = entry.admin_dir / name
        lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
        for line in lines:
            # With "merge -C" and "fixup -C" the id comes third.
            for word in line.split()[:3]:
                found: object = (
                    repository.handle.get(word) if _ABBREVIATED.fullmatch(word) else None
                )
                if isinstance(found, pygit2.Commit):
                    yield str(found.id)


def pending_patches(entry: Entry) -> tuple[str, ...]:
    """Return the patches of a ``git am`` under way, which no commit holds yet.

    Paths are relative to the entry. A rebase makes its patches of commits, and has none here.
    """
    folder = entry.admin_dir / "rebase-apply"
    names = os.listdir(folder) if folder.is_dir() else []
    if "rebasing" in names:
        return ()
    files = [name for name in names if name == "patch" or name.isdecimal()]
    return tuple(sorted(f"rebase-apply/{name}" for name in files))


def commits_in(repository: OpenRepository, path: Path) -> list[str]:
    """Return the commits named in one of git's small files."""
    if not path.is_file():
        return []
    words = path.read_text(errors="replace").split()
    handle = repository.handle
    return [
        word
        for word in words
        if is_commit_id(word) and word in handle and isinstance(handle[word], pygit2.Commit)
    ]
