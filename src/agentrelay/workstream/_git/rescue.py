"""Keeping what would otherwise be lost, under refs of our own.

A ref below ``refs/agentrelay/rescue/`` keeps its commits from garbage collection,
shows up in no branch list and is not fetched or pushed by default.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import FileMode, FileStatus

from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.refs import create_ref
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.worktrees import Entry
from agentrelay.workstream.errors import RepositoryError

__all__ = [
    "Kept",
    "Rescuer",
    "WorktreeFindings",
    "describe",
    "find_unsaved",
    "has_unsaved",
    "is_contained",
    "is_merged",
    "new_stamp",
]

# Ignored files are caches more often than work. Anything within this is kept; what is
# larger is named.
IGNORED_LIMIT_BYTES: Final = 64 << 20
_SIGNATURE_NAME: Final = "agentrelay-workstream"
_SIGNATURE_EMAIL: Final = "rescue@agentrelay.invalid"


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


@dataclass(frozen=True)
class WorktreeFindings:
    """Unsaved work in a worktree, by path relative to it.

    Attributes:
        staged: Whether the index differs from HEAD.
        unstaged: Tracked paths whose file differs from the index.
        untracked: Paths git neither tracks nor ignores.
        ignored: Ignored paths; a folder ends in ``/``.
        conflicted: Paths with unresolved conflicts.
    """

    staged: bool
    unstaged: tuple[str, ...]
    untracked: tuple[str, ...]
    ignored: tuple[str, ...]
    conflicted: tuple[str, ...]


def new_stamp() -> str:
    """Return the time as a ref component: UTC, sortable, to the microsecond."""
    return datetime.now(tz=UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def is_contained(
    repository: OpenRepository, commit_id: str, *, target_refs: tuple[str, ...], own_refs: set[str]
) -> bool:
    """Return whether a commit's work survives when the lane's own refs are gone.

    Args:
        repository: Repository to look in.
        commit_id: Hex id of the commit that is about to lose its ref.
        target_refs: Refs to try first, by ancestry and by content: a squash or rebase
            merge leaves no ancestry, but merging once more would change nothing.
        own_refs: Refs that are about to be deleted, and prove nothing.
    """
    if is_merged(repository, commit_id, target_refs=target_refs):
        return True
    for reference in repository.handle.references.iterator():
        name = reference.name
        if name in own_refs or not name.startswith(("refs/heads/", "refs/remotes/", "refs/tags/")):
            continue
        try:
            tip = str(reference.peel(pygit2.Commit).id)
        except (pygit2.GitError, ValueError):
            # A tag of something else, or a broken ref of somebody else's: it proves nothing.
            continue
        if repository.contains(commit_id, tip):
            return True
    return False


def is_merged(repository: OpenRepository, commit_id: str, *, target_refs: tuple[str, ...]) -> bool:
    """Return whether a commit's work is in one of the targets, by ancestry or by content.

    A squash or rebase merge leaves no ancestry, but merging once more would change
    nothing.

    Args:
        repository: Repository to look in.
        commit_id: Hex id of the commit.
        target_refs: Full names of the refs it may be merged into; missing ones are fine.
    """
    targets = [tip for tip in (repository.resolve(ref) for ref in target_refs) if tip is not None]
    return any(repository.contains(commit_id, tip) for tip in targets) or any(
        _changes_nothing(repository, commit_id, tip) for tip in targets
    )


def _changes_nothing(repository: OpenRepository, commit_id: str, target_id: str) -> bool:
    """Return whether merging a commit into a target would leave the target's tree as it is."""
    handle = repository.handle
    try:
        fork: object = handle.merge_base(commit_id, target_id)
        if fork is None:
            return False
        if handle[str(fork)].peel(pygit2.Tree).id == handle[commit_id].peel(pygit2.Tree).id:
            # Commits that undo each other are in every target by content; that proves nothing.
            return False
        merged = handle.merge_commits(target_id, commit_id)
        if merged.conflicts is not None:
            return False
        return bool(merged.write_tree(handle) == handle[target_id].peel(pygit2.Tree).id)
    except (pygit2.GitError, KeyError, ValueError):
        return False


class Rescuer:
    """Writes rescue refs of one lane, all under one time stamp.

    Args:
        repository: Repository the refs are written to.
        prefix: The lane's rescue prefix, ending in ``/``.
        stamp: Ref component that tells this rescue from others.
    """

    def __init__(self, repository: OpenRepository, *, prefix: str, stamp: str) -> None:
        """Remember where to write; nothing is written yet."""
        self._repository = repository
        self._prefix = f"{prefix}{stamp}/"
        self.kept: list[Kept] = []

    def keep_commit(self, label: str, commit_id: str, *, what: str) -> Kept:
        """Keep a commit and its history.

        Args:
            label: Last component of the ref: ``"commits"``.
            commit_id: Hex id of the commit.
            what: What it is, in words.

        Raises:
            RepositoryError: The ref cannot be written; then nothing may be deleted.
        """
        ref = self._prefix + label
        if not create_ref(self._repository, ref, commit_id, message=f"rescue: {what}"):
            message = f"the rescue ref '{ref}' exists already"
            raise RepositoryError(message, path=self._repository.path, hint="Repeat the teardown.")
        kept = Kept(ref, commit_id, what)
        self.kept.append(kept)
        return kept

    def keep_worktree(self, entry: Entry, worktree_path: Path) -> list[str]:
        """Keep everything in a worktree that no commit holds.

        One commit each for what is staged, unstaged, untracked and ignored, only where
        there is something.

        Args:
            entry: The worktree's administrative entry.
            worktree_path: Its directory.

        Returns:
            Sentences about ignored files that were too large to keep.

        Raises:
            RepositoryError: Something could not be kept; then the worktree must stay.
        """
        hint = "The worktree was left as it is. Save what you need from it, then repeat."
        with repository_failures("keep the unsaved work", path=worktree_path, hint=hint):
            handle = pygit2.Repository(str(worktree_path))
            findings = find_unsaved(handle)
            parents = _parents(handle, entry)
            base_tree = None if handle.head_is_unborn else handle.head.peel(pygit2.Tree).id
            if findings.staged:
                staged_id = self._commit(handle, _staged_tree(handle), parents, "staged changes")
                self.keep_commit("staged", staged_id, what="staged changes")
            for label, paths, what in (
                ("unstaged", findings.unstaged + findings.conflicted, "unstaged changes"),
                ("untracked", findings.untracked, "untracked files"),
            ):
                if paths:
                    tree = _tree_with(handle, base_tree, worktree_path, paths)
                    self.keep_commit(label, self._commit(handle, tree, parents, what), what=what)
            if entry.operation is not None and not self.kept:
                # What is being merged or picked has no ref of its own.
                self._keep_operation(handle, entry, base_tree, parents)
            files, skipped = _within_limit(worktree_path, findings.ignored)
            if files:
                tree = _tree_with(handle, base_tree, worktree_path, files)
                commit = self._commit(handle, tree, parents, "ignored files")
                self.keep_commit("ignored", commit, what="ignored files")
            return skipped

    def keep_staged(self, worktree_path: Path, entry: Entry) -> None:
        """Keep what is staged in a worktree, if that differs from HEAD.

        Raises:
            RepositoryError: It could not be kept.
        """
        with repository_failures("keep the staged changes", path=worktree_path):
            handle = pygit2.Repository(str(worktree_path))
            tree = _staged_tree(handle)
            if handle.head_is_unborn or tree != str(handle.head.peel(pygit2.Tree).id):
                commit = self._commit(handle, tree, _parents(handle, entry), "staged changes")
                self.keep_commit("staged", commit, what="staged changes")

    def _keep_operation(
        self, handle: pygit2.Repository, entry: Entry, tree: object, parents: list[str]
    ) -> None:
        if len(parents) > 1 and tree is not None:
            what = f"{entry.operation} in progress"
            commit = self._commit(handle, str(tree), parents, what)
            self.keep_commit("operation", commit, what=what)

    @staticmethod
    def _commit(handle: pygit2.Repository, tree: str, parents: list[str], what: str) -> str:
        now = pygit2.Signature(_SIGNATURE_NAME, _SIGNATURE_EMAIL)
        message = f"Rescue: {what}\n\nKept by a teardown because nothing else held it.\n"
        return str(handle.create_commit(None, now, now, message, tree, parents))


def find_unsaved(handle: pygit2.Repository, *, ignored_too: bool = True) -> WorktreeFindings:
    """Return what a worktree holds that no commit does.

    Args:
        handle: Repository opened at the worktree.
        ignored_too: Whether ignored files are looked for; folders of dependencies make
            that slow.
    """
    unstaged, untracked, ignored, conflicted = [], [], [], []
    staged = False
    index_flags = (
        FileStatus.INDEX_NEW
        | FileStatus.INDEX_MODIFIED
        | FileStatus.INDEX_DELETED
        | FileStatus.INDEX_RENAMED
        | FileStatus.INDEX_TYPECHANGE
    )
    for path, flags in handle.status(untracked_files="all", ignored=ignored_too).items():
        staged = staged or bool(flags & (index_flags | FileStatus.CONFLICTED))
        if flags & FileStatus.CONFLICTED:
            conflicted.append(path)
        elif flags & FileStatus.IGNORED:
            ignored.append(path)
        elif flags & FileStatus.WT_NEW:
            untracked.append(path)
        elif flags & ~index_flags:
            unstaged.append(path)
    return WorktreeFindings(
        staged, tuple(unstaged), tuple(untracked), tuple(ignored), tuple(conflicted)
    )


def has_unsaved(worktree_path: Path) -> bool:
    """Return whether a worktree holds changes or new files that no commit does."""
    found = find_unsaved(pygit2.Repository(str(worktree_path)), ignored_too=False)
    return bool(found.staged or found.unstaged or found.untracked or found.conflicted)


def _parents(handle: pygit2.Repository, entry: Entry) -> list[str]:
    """Return HEAD and whatever an operation under way brings in."""
    found = [] if handle.head_is_unborn else [str(handle.head.target)]
    for name in ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REBASE_HEAD", "ORIG_HEAD"):
        marker = entry.admin_dir / name
        if name == "ORIG_HEAD" and entry.operation != "rebase":
            continue
        if marker.is_file():
            found.extend(
                line.strip()
                for line in marker.read_text().splitlines()
                if line.strip() in handle and line.strip() not in found
            )
    return found


def _staged_tree(handle: pygit2.Repository) -> str:
    """Return the index as a tree; each side of a conflict becomes a file of its own."""
    index = handle.index
    if index.conflicts is None:
        return str(index.write_tree())
    sides = list(index.conflicts)
    torn = {side.path for conflict in sides for side in conflict if side is not None}
    plain = pygit2.Index()
    for entry in index:
        if entry.path not in torn:
            plain.add(entry)
    for conflict in sides:
        for label, side in zip(("ancestor", "ours", "theirs"), conflict, strict=True):
            if side is not None:
                name = f"{side.path}.{label}"
                plain.add(pygit2.IndexEntry(name, side.id, side.mode))
    return str(plain.write_tree(handle))


def _tree_with(
    handle: pygit2.Repository, base: object, worktree_path: Path, paths: tuple[str, ...]
) -> str:
    """Return a tree: the base with some paths as they are in the worktree."""
    index = pygit2.Index()
    if base is not None:
        index.read_tree(handle[str(base)].peel(pygit2.Tree))
    for path in paths:
        full = worktree_path / path
        try:
            mode = full.lstat().st_mode
        except FileNotFoundError:
            if path in index:
                index.remove(path)
            continue
        if stat.S_ISLNK(mode):
            blob = handle.create_blob(os.fsencode(os.readlink(full)))  # noqa: PTH115 - bytes are kept
            kind = FileMode.LINK
        elif stat.S_ISREG(mode):
            # The bytes as they lie there: no filter may change what is being rescued.
            with full.open("rb") as stream:
                blob = handle.create_blob_fromiobase(stream)
            kind = FileMode.BLOB_EXECUTABLE if mode & stat.S_IXUSR else FileMode.BLOB
        elif stat.S_ISDIR(mode):
            message = f"'{full}' is a repository or submodule of its own and cannot be kept"
            raise RepositoryError(
                message, path=full, hint="Move it out of the worktree, then tear down again."
            )
        else:
            # A socket, pipe or device holds no work.
            continue
        index.add(pygit2.IndexEntry(path, blob, kind))
    return str(index.write_tree(handle))


def _within_limit(
    worktree_path: Path, ignored: tuple[str, ...]
) -> tuple[tuple[str, ...], list[str]]:
    """Return the ignored files to keep, and a sentence about those too large to."""
    files: list[str] = []
    total_bytes = 0
    skipped: list[str] = []
    for path in ignored:
        found, size_bytes = _files_below(worktree_path, path)
        if total_bytes + size_bytes > IGNORED_LIMIT_BYTES:
            skipped.append(f"'{path}' ({size_bytes >> 20} MiB)")
            continue
        total_bytes += size_bytes
        files.extend(found)
    if not skipped:
        return tuple(files), []
    sentence = (
        f"ignored files beyond {IGNORED_LIMIT_BYTES >> 20} MiB were not kept: {', '.join(skipped)}"
    )
    return tuple(files), [sentence]


def _files_below(worktree_path: Path, path: str) -> tuple[list[str], int]:
    """Return the files at or below an ignored path, and their size in bytes."""
    full = worktree_path / path
    if not path.endswith("/"):
        return [path], full.lstat().st_size
    found: list[str] = []
    size_bytes = 0
    for item in _walk(full):
        relative = os.path.relpath(item.path, worktree_path)
        # A repository inside an ignored folder: its ".git" cannot be in a tree.
        if ".git" in relative.split("/"):
            continue
        found.append(relative)
        size_bytes += item.stat(follow_symlinks=False).st_size
    return found, size_bytes


def _walk(directory: Path) -> Iterator[os.DirEntry[str]]:
    """Iterate over files below a directory without following links."""
    with os.scandir(directory) as items:
        for item in items:
            if item.is_dir(follow_symlinks=False):
                yield from _walk(Path(item.path))
            else:
                yield item


def describe(kept: Kept) -> str:
    """Return how to get something back, for a concern."""
    return f"{kept.what} kept as '{kept.ref}' ({kept.commit_id[:12]})"
