"""Keeping what would otherwise be lost, under refs of our own.

A ref below ``refs/agentrelay/rescue/`` keeps its commits from garbage collection,
shows up in no branch list and is not fetched or pushed by default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pygit2

from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.refs import create_ref
from agentrelay.workstream._git.repository import OpenRepository, is_commit_id
from agentrelay.workstream._git.unsaved import (
    find_unsaved,
    refuse_repositories_inside,
    staged_tree,
    tree_with,
    within_limit,
)
from agentrelay.workstream._git.worktrees import Entry, last_logged
from agentrelay.workstream.errors import RepositoryError

__all__ = ["Kept", "Rescuer", "describe", "new_stamp"]

_SIGNATURE_NAME: Final = "agentrelay-workstream"
_SIGNATURE_EMAIL: Final = "rescue@agentrelay.invalid"
_HINT: Final = "It was left as it is. Save what you need from it, then repeat."

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
_AUTOSTASHES: Final = ("MERGE_AUTOSTASH", "rebase-merge/autostash", "rebase-apply/autostash")


@dataclass(frozen=True)
class Kept:
    """One thing that was kept.

    Attributes:
        ref: Full ref name it is kept under.
        commit_id: Hex id of the commit.
        what: What it is, in words.
    """

    ref: str
    commit_id: str
    what: str


def new_stamp() -> str:
    """Return the time as a ref component: UTC, sortable, to the microsecond."""
    return datetime.now(tz=UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def describe(kept: Kept) -> str:
    """Return what was kept and where, for a concern."""
    return f"{kept.what} kept as '{kept.ref}' ({kept.commit_id[:12]})"


class Rescuer:
    """Writes rescue refs of one lane, all under one time stamp.

    Attributes:
        kept: What was kept so far.
    """

    def __init__(
        self,
        repository: OpenRepository,
        *,
        prefix: str,
        stamp: str,
        survives: Callable[[str], bool],
    ) -> None:
        """Remember where to write; nothing is written yet.

        Args:
            repository: Repository the refs are written to.
            prefix: The lane's rescue prefix, ending in ``/``.
            stamp: Ref component that tells this rescue from others.
            survives: Tells whether a commit exists elsewhere for good.
        """
        self._repository = repository
        self._prefix = f"{prefix}{stamp}/"
        self._survives = survives
        self.kept: list[Kept] = []

    def prove_or_keep(self, label: str, commit_id: str, *, what: str) -> None:
        """Make sure that a commit survives; call it where the deletion follows.

        Args:
            label: Last component of the ref, if one is needed: ``"commits"``.
            commit_id: Hex id of the commit.
            what: What it is, in words.

        Raises:
            RepositoryError: It could not be kept; then nothing may be deleted.
        """
        if any(self._repository.contains(commit_id, kept.commit_id) for kept in self.kept):
            return
        if not self._survives(commit_id):
            self._keep(label, commit_id, what)

    def keep_worktree(self, entry: Entry, worktree_path: Path) -> list[str]:
        """Keep everything in a worktree that no lasting ref holds.

        One commit each for what is staged, unstaged, untracked and ignored, only where
        there is something; then the commits only the worktree knows.

        Args:
            entry: The worktree's administrative entry.
            worktree_path: Its directory.

        Returns:
            Sentences about ignored files that were too large to keep.

        Raises:
            RepositoryError: Something could not be kept; then the worktree must stay.
        """
        with repository_failures("keep the unsaved work", path=worktree_path, hint=_HINT):
            handle = pygit2.Repository(str(worktree_path))
            refuse_repositories_inside(handle, entry.admin_dir)
            findings = find_unsaved(handle)
            files, skipped = within_limit(worktree_path, findings.ignored)
            head = self._head(entry)
            base = None if head is None else self._tree_of(head)
            if findings.staged:
                self._snapshot("staged", entry, staged_tree(handle, handle.index), "staged changes")
            for label, paths, what in (
                ("unstaged", findings.unstaged + findings.conflicted, "unstaged changes"),
                ("untracked", findings.untracked, "untracked files"),
                ("ignored", files, "ignored files"),
            ):
                if paths:
                    tree = tree_with(handle, base, worktree_path, paths)
                    self._snapshot(label, entry, tree, what)
            self._keep_loose_commits(entry)
            return skipped

    def keep_entry(self, entry: Entry) -> None:
        """Keep what the entry of a worktree holds whose folder is gone.

        That is the index with what was staged, and the commits only the worktree knew.

        Raises:
            RepositoryError: Something could not be kept; then the entry must stay.
        """
        with repository_failures("keep what the entry holds", path=entry.admin_dir, hint=_HINT):
            self.keep_staged(entry)
            self._keep_loose_commits(entry)

    def keep_staged(self, entry: Entry) -> None:
        """Keep what is staged in a worktree, if that differs from HEAD.

        Raises:
            RepositoryError: It could not be kept.
        """
        path = entry.admin_dir / "index"
        if not path.exists():
            return
        with repository_failures("keep the staged changes", path=path, hint=_HINT):
            tree = staged_tree(self._repository.handle, pygit2.Index(str(path)))
            head = self._head(entry)
            if head is None or tree != self._tree_of(head):
                self._snapshot("staged", entry, tree, "staged changes")

    def _keep_loose_commits(self, entry: Entry) -> None:
        """Keep the commits only a worktree's own files lead to."""
        head = self._head(entry)
        if head is not None and (
            entry.head_ref is None or self._repository.resolve(entry.head_ref) is None
        ):
            what = "commits on no branch"
            self.prove_or_keep("detached" if entry.head_ref is None else "deleted", head, what=what)
        for name in _AUTOSTASHES:
            for commit_id in self._commits_in(entry.admin_dir / name):
                self.prove_or_keep("autostash", commit_id, what="autostashed changes")
        for number, commit_id in enumerate(self._operation_heads(entry)):
            self.prove_or_keep(
                f"operation-{number}", commit_id, what=f"the {entry.operation} in progress"
            )
        # git-worktree(1), "REFS": refs/bisect, refs/worktree and refs/rewritten are the
        # worktree's own and go with it.
        for path in sorted((entry.admin_dir / "refs").rglob("*")):
            for commit_id in self._commits_in(path):
                self.prove_or_keep(
                    f"ref-{path.name}", commit_id, what=f"the worktree's ref {path.name}"
                )

    def _head(self, entry: Entry) -> str | None:
        """Return the commit a worktree stands on, or stood on if its branch is gone."""
        if entry.head_ref is None:
            return next(iter(self._commits_in(entry.admin_dir / "HEAD")), None)
        return self._repository.resolve(entry.head_ref) or last_logged(self._repository, entry)

    def _operation_heads(self, entry: Entry) -> list[str]:
        """Return the commits an operation under way brings in."""
        return [
            commit_id
            for name in _OPERATION_HEADS
            for commit_id in self._commits_in(entry.admin_dir / name)
        ]

    def _commits_in(self, path: Path) -> list[str]:
        """Return the commits named in one of git's small files."""
        if not path.is_file():
            return []
        words = path.read_text(errors="replace").split()
        handle = self._repository.handle
        return [
            word
            for word in words
            if is_commit_id(word) and word in handle and isinstance(handle[word], pygit2.Commit)
        ]

    def _tree_of(self, commit_id: str) -> str:
        return str(self._repository.handle[commit_id].peel(pygit2.Tree).id)

    def _snapshot(self, label: str, entry: Entry, tree: str, what: str) -> None:
        """Commit a tree on top of the worktree's commit, and keep it."""
        head = self._head(entry)
        parents = list(dict.fromkeys([*([head] if head else []), *self._operation_heads(entry)]))
        now = pygit2.Signature(_SIGNATURE_NAME, _SIGNATURE_EMAIL)
        message = f"Rescue: {what}\n\nKept by a teardown because nothing else held it.\n"
        handle = self._repository.handle
        self._keep(label, str(handle.create_commit(None, now, now, message, tree, parents)), what)

    def _keep(self, label: str, commit_id: str, what: str) -> None:
        """Write one rescue ref."""
        ref = self._prefix + label
        if not create_ref(self._repository, ref, commit_id, message=f"rescue: {what}"):
            message = f"the rescue ref '{ref}' exists already"
            raise RepositoryError(message, path=self._repository.path, hint="Repeat the teardown.")
        self.kept.append(Kept(ref, commit_id, what))
