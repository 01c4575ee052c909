"""Keeping what would otherwise be lost, under refs of our own.

A ref below ``refs/agentrelay/rescue/`` keeps its commits from garbage collection,
shows up in no branch list and is not fetched or pushed by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pygit2

from agentrelay.workstream._git.anchor import anchored, weigh_anchors
from agentrelay.workstream._git.clean_proof import is_provably_clean
from agentrelay.workstream._git.durable import sync_ref
from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.kept_trees import staged_tree, tree_with
from agentrelay.workstream._git.operations import (
    AUTOSTASHES,
    commits_in,
    is_quiet,
    operation_heads,
    pending_patches,
    planned,
)
from agentrelay.workstream._git.proof import is_superseded
from agentrelay.workstream._git.reflog import logged_commits
from agentrelay.workstream._git.refs import (
    create_ref,
    refs_below,
    release_dead_locks_below,
    release_dead_logs_below,
)
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.unsaved import (
    find_unsaved,
    refuse_repositories_inside,
    within_limit,
)
from agentrelay.workstream._git.worktree_entries import Entry, last_logged
from agentrelay.workstream.errors import RepositoryError

__all__ = ["IGNORED_LIMIT_BYTES", "Kept", "Rescuer", "describe", "new_stamp", "read_stamp"]

# Ignored files are caches more often than work. What is larger is named, and not kept.
IGNORED_LIMIT_BYTES: Final = 64 << 20

_SIGNATURE_NAME: Final = "agentrelay-workstream"
_SIGNATURE_EMAIL: Final = "rescue@agentrelay.invalid"
_STAMP: Final = "%Y%m%dT%H%M%S.%fZ"
# What a teardown kept that was killed before it deleted anything is not kept once more by
# its repetition. Only what is that young: older refs may be aged out at any moment.
_JUST_KEPT: Final = timedelta(hours=1)
# Labels of the commits that hold files, on top of the commit the worktree stood on.
_SNAPSHOTS: Final = frozenset({"staged", "unstaged", "untracked", "ignored", "patches"})
# Proving by content costs a merge each. Beyond this many a commit is kept unproved.
_MOST_MERGES: Final = 50
_LOGGED: Final = "commits that were reset, amended or rebased away"
_HINT: Final = "It was left as it is. Save what you need from it, then repeat."


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
    return datetime.now(tz=UTC).strftime(_STAMP)


def read_stamp(stamp: str) -> datetime | None:
    """Return the time a ref component made by :func:`new_stamp` says, else ``None``."""
    try:
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


def _is_snapshot(ref: str) -> bool:
    """Return whether a rescue ref keeps files, and not commits somebody made."""
    return ref.rpartition("/")[2] in _SNAPSHOTS


def describe(kept: Kept) -> str:
    """Return what was kept, where, and how to get it back, for a concern."""
    return (
        f"{kept.what} kept as '{kept.ref}' ({kept.commit_id[:12]}); get it back with "
        f"'agentrelay-workstream restore {kept.ref}' or agentrelay.workstream.restore()"
    )


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
        """Remember where to write; no ref is written yet.

        Args:
            repository: Repository the refs are written to.
            prefix: The lane's rescue prefix, ending in ``/``.
            stamp: Ref component that tells this rescue from others.
            survives: Tells whether a commit exists elsewhere for good.
        """
        self._repository = repository
        self._owner = prefix.removesuffix("/")
        self._lane_prefix = prefix
        self._prefix = f"{prefix}{stamp}/"
        self._survives = survives
        self._earlier: list[tuple[str, str]] | None = None
        self.kept: list[Kept] = []
        release_dead_locks_below(repository, prefix)
        release_dead_logs_below(repository, prefix)
        weigh_anchors(repository, owner=self._owner)

    def lend(self, repository: OpenRepository) -> None:
        """Go on in another thread, with its handle on the repository."""
        self._repository = repository

    def prove_or_keep(self, label: str, commit_id: str, *, what: str) -> None:
        """Make sure that a commit survives; call it where the deletion follows.

        Args:
            label: Last component of the ref, if one is needed: ``"commits"``.
            commit_id: Hex id of the commit.
            what: What it is, in words.

        Raises:
            RepositoryError: It could not be kept; then nothing may be deleted.
        """
        if self._is_kept(commit_id) or self._survives(commit_id):
            return
        for ref, earlier_id in self._just_kept():
            if not _is_snapshot(ref) and self._repository.contains(commit_id, earlier_id):
                self.kept.append(Kept(ref, earlier_id, what))
                return
        self._keep(label, commit_id, what)

    def keep_logged(self, label: str, logs: Iterable[Path], *, tips: Sequence[str]) -> None:
        """Keep the commits that only reflogs lead to: reset, amended or rebased away.

        A commit whose work is in one of the tips, by ancestry or by content, is none of them.
        All others are kept under one ref; if they are several, by a commit that has them as
        its parents.

        Args:
            label: Last component of the ref, if one is needed: ``"reflog"``.
            logs: Files of reflogs, or git's one-line files such as ``ORIG_HEAD``.
            tips: Hex ids of commits that survive or are kept on their own.

        Raises:
            RepositoryError: They could not be kept; then the reflogs must stay.
        """
        lost: list[str] = []
        for log in logs:
            for commit_id in logged_commits(self._repository, log):
                if self._is_kept(commit_id) or any(
                    self._repository.contains(commit_id, other) for other in (*tips, *lost)
                ):
                    continue
                if len(lost) < _MOST_MERGES and (
                    is_superseded(self._repository, commit_id, tips) or self._survives(commit_id)
                ):
                    continue
                lost = [other for other in lost if not self._repository.contains(other, commit_id)]
                lost.append(commit_id)
        if len(lost) == 1:
            self.prove_or_keep(label, lost[0], what=_LOGGED)
        elif lost:
            self._commit_and_keep(label, self._tree_of(lost[0]), lost, _LOGGED)

    def keep_worktree(
        self, entry: Entry, worktree_path: Path, *, ignored_limit_bytes: int = IGNORED_LIMIT_BYTES
    ) -> list[str]:
        """Keep everything in a worktree that no lasting ref holds.

        One commit each for what is staged, unstaged, untracked and ignored, only where
        there is something; then the commits only the worktree knows.

        Args:
            entry: The worktree's administrative entry.
            worktree_path: Its directory.
            ignored_limit_bytes: Size up to which ignored files are kept, all together.

        Returns:
            Sentences about ignored files that were too large to keep.

        Raises:
            RepositoryError: Something could not be kept; then the worktree must stay.
        """
        with repository_failures("keep the unsaved work", path=worktree_path, hint=_HINT):
            head = self._head(entry)
            base = None if head is None else self._tree_of(head)
            if base is not None and is_provably_clean(worktree_path, entry.admin_dir, base):
                self._keep_loose_commits(entry)
                return []
            handle = pygit2.Repository(str(worktree_path))
            refuse_repositories_inside(handle, entry.admin_dir)
            findings = find_unsaved(handle)
            files, skipped = within_limit(
                worktree_path, findings.ignored, limit_bytes=ignored_limit_bytes
            )
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
        if is_quiet(entry):
            return
        for name in AUTOSTASHES:
            for commit_id in commits_in(self._repository, entry.admin_dir / name):
                self.prove_or_keep("autostash", commit_id, what="autostashed changes")
        what = f"the {entry.operation or 'operation'} in progress"
        brought = [*operation_heads(self._repository, entry), *planned(self._repository, entry)]
        for number, commit_id in enumerate(dict.fromkeys(brought)):
            self.prove_or_keep(f"operation-{number}", commit_id, what=what)
        patches = pending_patches(entry)
        if patches:
            base = None if head is None else self._tree_of(head)
            tree = tree_with(self._repository.handle, base, entry.admin_dir, patches)
            self._snapshot("patches", entry, tree, "patches that were being applied")
        # git-worktree(1), "REFS": refs/bisect, refs/worktree and refs/rewritten are the
        # worktree's own and go with it.
        for path in sorted((entry.admin_dir / "refs").rglob("*")):
            for commit_id in commits_in(self._repository, path):
                self.prove_or_keep(
                    f"ref-{path.name}", commit_id, what=f"the worktree's ref {path.name}"
                )

    def _head(self, entry: Entry) -> str | None:
        """Return the commit a worktree stands on, or stood on if its branch is gone."""
        if entry.head_ref is None:
            return next(iter(commits_in(self._repository, entry.admin_dir / "HEAD")), None)
        return self._repository.resolve(entry.head_ref) or last_logged(self._repository, entry)

    def _tree_of(self, commit_id: str) -> str:
        return str(self._repository.handle[commit_id].peel(pygit2.Tree).id)

    def _snapshot(self, label: str, entry: Entry, tree: str, what: str) -> None:
        """Commit a tree on top of the worktree's commit, and keep it."""
        head = self._head(entry)
        parents = list(
            dict.fromkeys([*([head] if head else []), *operation_heads(self._repository, entry)])
        )
        self._commit_and_keep(label, tree, parents, what)

    def _commit_and_keep(self, label: str, tree: str, parents: list[str], what: str) -> None:
        """Keep a tree by a commit of our own, unless that was just done.

        By a teardown that was interrupted, or by this one in a step that it repeats.
        """
        handle = self._repository.handle
        known = [(kept.ref, kept.commit_id) for kept in self.kept]
        for ref, earlier_id in known + self._just_kept():
            earlier = handle[earlier_id].peel(pygit2.Commit)
            if ref.endswith(f"/{label}") and (
                [str(earlier.tree_id), *map(str, earlier.parent_ids)] == [tree, *parents]
            ):
                if (ref, earlier_id) not in known:
                    self.kept.append(Kept(ref, earlier_id, what))
                return
        now = pygit2.Signature(_SIGNATURE_NAME, _SIGNATURE_EMAIL)
        message = f"Rescue: {what}\n\nKept by a teardown because nothing else held it.\n"
        commit_id = str(handle.create_commit(None, now, now, message, tree, parents))
        with anchored(self._repository, commit_id, owner=self._owner):
            self._keep(label, commit_id, what)

    def _is_kept(self, commit_id: str) -> bool:
        """Return whether what was kept so far leads to a commit.

        Snapshots do not count: whoever lets go of some files must not lose commits.
        """
        return any(
            self._repository.contains(commit_id, kept.commit_id)
            for kept in self.kept
            if not _is_snapshot(kept.ref)
        )

    def _just_kept(self) -> list[tuple[str, str]]:
        """Return refs and commits that an interrupted teardown of this lane has just kept."""
        if self._earlier is None:
            now, self._earlier = datetime.now(tz=UTC), []
            for ref in refs_below(self._repository, self._lane_prefix):
                when = read_stamp(ref.removeprefix(self._lane_prefix).partition("/")[0])
                commit_id = None if when is None else self._repository.resolve(ref)
                if when and commit_id and timedelta() <= now - when < _JUST_KEPT:
                    self._earlier.append((ref, commit_id))
        return self._earlier

    def _keep(self, label: str, commit_id: str, what: str) -> None:
        """Write one rescue ref."""
        ref = self._prefix + label
        if not create_ref(self._repository, ref, commit_id, message=f"rescue: {what}"):
            message = f"the rescue ref '{ref}' exists already"
            raise RepositoryError(message, path=self._repository.path, hint="Repeat the teardown.")
        with repository_failures(f"write '{ref}' to the disk", path=self._repository.path):
            sync_ref(self._repository, ref)
        self.kept.append(Kept(ref, commit_id, what))
