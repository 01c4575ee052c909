"""Making a commit of what a working tree holds.

First everything is looked at, then the objects are written, then the index is replaced,
and last the branch is moved. Stopped anywhere in between, the same commit can be made
again: what is staged by then is what was going to be committed.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pygit2
from pygit2.enums import FileMode

from agentrelay.workstream._changes import TreeStatus
from agentrelay.workstream._git.blobs import blob_at
from agentrelay.workstream._git.commit_checks import (
    NO_FILE,
    NO_FILE_HINT,
    FileChecks,
    refuse_paths,
)
from agentrelay.workstream._git.failures import is_torn, repository_failures
from agentrelay.workstream._git.file_rules import FileRules
from agentrelay.workstream._git.history import with_history
from agentrelay.workstream._git.identity import Person
from agentrelay.workstream._git.index_draft import IndexDraft
from agentrelay.workstream._git.kept_trees import stat_at
from agentrelay.workstream._git.lockfile import LockedError
from agentrelay.workstream._git.locks import reading, until_free
from agentrelay.workstream._git.reflog import log_head
from agentrelay.workstream._git.refs import move_ref
from agentrelay.workstream._git.repository import OpenRepository, is_commit_id
from agentrelay.workstream._git.selection import Selection
from agentrelay.workstream._git.ssh_signing import Signer
from agentrelay.workstream._git.tree_status import read_status
from agentrelay.workstream._git.worktree_entries import read_entry
from agentrelay.workstream.errors import LaneConflictError, NothingToCommitError

__all__ = ["CommitWish", "make_commit", "mark_resolved"]

# What "git commit" takes away when it has concluded a merge. The last one says
# that there is a merge: whoever is stopped in between begins anew.
_MERGE_FILES: Final = (
    "MERGE_MODE",
    "MERGE_MSG",
    "MERGE_RR",
    "AUTO_MERGE",
    "SQUASH_MSG",
    "MERGE_HEAD",
)


@dataclass(frozen=True)
class CommitWish:
    """What a caller wants committed.

    Attributes:
        message: The whole message, as it will be stored.
        paths: Paths as of ``relative_paths``, or ``None`` for everything.
        author: Who wrote it.
        committer: Who commits it.
        largest_bytes: Size of a file from which on it is refused, in bytes.
        signer: Who signs it, if anybody does.
    """

    message: str
    paths: tuple[str, ...] | None
    author: Person
    committer: Person
    largest_bytes: int
    signer: Signer | None = None


def make_commit(repository: OpenRepository, branch_ref: str, wish: CommitWish) -> str:
    """Commit what a working tree holds, and move its branch there; hold the lane.

    Args:
        repository: Opened at the working tree, which is on that branch; the branch is there.
        branch_ref: Full name of the branch.
        wish: What to commit.

    Returns:
        The hex id of the new commit.

    Raises:
        NothingToCommitError: There is no change.
        CommitRefusedError: Some path cannot be committed as it is.
        LaneConflictError: An operation is under way that this cannot conclude.
        LaneBusyError: Another program kept the index or the branch locked.
        RepositoryError: Something cannot be read or written.
    """
    worktree_path = repository.path

    def attempt() -> str:
        return reading(lambda: _attempt(repository, branch_ref, wish), torn=is_torn)

    with repository_failures("commit", path=worktree_path):
        commit_id = until_free(
            attempt,
            busy=lambda error: isinstance(error, LockedError),
            what=f"commit in '{worktree_path}'",
        )
        _forget_merge(repository)
    return commit_id


def _forget_merge(repository: OpenRepository) -> None:
    """Take away what says that a merge is in progress."""
    for name in _MERGE_FILES:
        Path(repository.handle.path, name).unlink(missing_ok=True)


def _attempt(repository: OpenRepository, branch_ref: str, wish: CommitWish) -> str:
    """Commit once, or raise :class:`LockedError` where somebody else was at it."""
    handle = repository.handle
    tip = repository.resolve(branch_ref)
    assert tip is not None
    merged = _merged_heads(repository, tip, wish)
    selection = Selection(wish.paths)
    with IndexDraft(repository) as draft:
        status = read_status(handle)
        _refuse_conflicts(status)
        selection.refuse_unknown(handle, status)
        rules = FileRules(handle)
        checks = FileChecks(handle, wish.largest_bytes, rules)
        edits = _gather(handle, status, selection, checks)
        checks.conclude()
        staged = _written(handle, draft, edits, rules)
        tree = _tree(handle, draft, selection, status, tip=tip, done=staged)
        if not merged and tree == handle[tip].peel(pygit2.Tree).id:
            raise _nothing(repository.path, selection)
        commit_id = _write(handle, wish, tree, (tip, *merged))
        draft.install()
    message = _log_message(repository, commit_id)
    # Before the branch moves, as git does: from then on nobody would write it.
    log_head(repository, tip, commit_id, message=message)
    if not move_ref(repository, branch_ref, commit_id, expected=tip, message=message):
        # Somebody else's commit came first; ours is made again, on top of it.
        raise LockedError(f"'{branch_ref}' has just moved")
    return commit_id


def _write(
    handle: pygit2.Repository, wish: CommitWish, tree: pygit2.Oid, parents: tuple[str, ...]
) -> str:
    """Write the commit as an object, signed if that is wished."""
    author, committer = wish.author.signature(), wish.committer.signature()
    ids = [pygit2.Oid(hex=parent) for parent in parents]
    if wish.signer is None:
        return str(handle.create_commit(None, author, committer, wish.message, tree, ids))
    # Its types are those of the other one.
    make: Any = handle.create_commit_string
    content: str = make(author, committer, wish.message, tree, ids)
    return str(handle.create_commit_with_signature(content, wish.signer.sign(content.encode())))


def _log_message(repository: OpenRepository, commit_id: str) -> str:
    """Return what git writes into a reflog."""
    commit = repository.handle[commit_id].peel(pygit2.Commit)
    kind = " (merge)" if len(commit.parent_ids) > 1 else ""
    return f"commit{kind}: {commit.message.partition(chr(10))[0]}"


def _merged_heads(repository: OpenRepository, tip: str, wish: CommitWish) -> list[str]:
    """Return the commits that a merge in progress brings in.

    Raises:
        LaneConflictError: Another operation is in progress, or only a part of the merge
            is wanted.
    """
    admin_dir = Path(repository.handle.path)
    entry = read_entry(admin_dir)
    operation = None if entry is None else entry.operation
    if operation is None:
        return []
    if operation != "merge":
        raise LaneConflictError(
            f"a {operation} is in progress in '{repository.path}'",
            obstacle=repository.path,
            hint=f"Finish it with 'git {operation} --continue', or give it up with "
            f"'git {operation} --abort'.",
        )
    heads = (admin_dir / "MERGE_HEAD").read_text(encoding="ascii", errors="replace").split()
    if not heads or not all(is_commit_id(head) and head in repository.handle for head in heads):
        raise LaneConflictError(
            f"'{admin_dir / 'MERGE_HEAD'}' names no commit that is here",
            obstacle=admin_dir / "MERGE_HEAD",
            hint="Give the merge up with 'git merge --abort'.",
        )
    history = with_history(repository)
    if all(history.contains(head, tip) for head in heads):
        # It was committed by somebody who was stopped right after.
        _forget_merge(repository)
        return []
    if wish.paths is not None:
        raise LaneConflictError(
            f"a merge is in progress in '{repository.path}', and a part of it cannot be committed",
            obstacle=repository.path,
            hint="Commit everything, without paths.",
        )
    return heads


def _refuse_conflicts(status: TreeStatus) -> None:
    if status.conflicted:
        raise refuse_paths(
            list(status.conflicted),
            "there are unresolved conflicts",
            hint="Resolve them in the files, then mark them as resolved: resolve().",
        )


@dataclass(frozen=True)
class _Edit:
    """What a path of the working tree will be in the index; ``None`` takes it away."""

    path: str
    seen: os.stat_result | None


def _gather(
    handle: pygit2.Repository, status: TreeStatus, selection: Selection, checks: FileChecks
) -> list[_Edit]:
    """Return what has to be staged, each file looked at; deletions first."""
    root = Path(handle.workdir)
    edits: list[_Edit] = []
    changed = {change.path for change in status.unstaged}
    for path in sorted({*changed, *status.untracked}):
        if not selection.has(path):
            continue
        was_link = path in changed and path in handle.index
        if was_link and handle.index[path].mode == FileMode.COMMIT:
            checks.look_at_entry(handle.index[path])
            continue
        seen = stat_at(root, path)
        is_folder = seen is not None and stat.S_ISDIR(seen.st_mode)
        if is_folder and path in changed and not os.path.lexists(root / path / ".git"):
            # The file is gone, and what is in the folder has paths of its own.
            seen = None
        if seen is not None:
            checks.look_at_file(path, seen)
        edits.append(_Edit(path, seen))
    for change in status.staged:
        if change.kind != "deleted" and change.path not in changed and selection.has(change.path):
            checks.look_at_entry(handle.index[change.path])
    return sorted(edits, key=lambda edit: edit.seen is not None)


_Entry = tuple[pygit2.Oid, FileMode]


def _written(
    handle: pygit2.Repository, draft: IndexDraft, edits: list[_Edit], rules: FileRules
) -> dict[str, _Entry | None]:
    """Write the files as objects, and stage them in the draft."""
    done: dict[str, _Entry | None] = {}
    for edit in edits:
        if edit.seen is None:
            draft.drop(edit.path)
            done[edit.path] = None
            continue
        blob, mode = blob_at(handle, edit.path, edit.seen, rules)
        draft.put(edit.path, blob, mode, edit.seen)
        done[edit.path] = (blob, mode)
    return done


def _tree(
    handle: pygit2.Repository,
    draft: IndexDraft,
    selection: Selection,
    status: TreeStatus,
    *,
    tip: str,
    done: dict[str, _Entry | None],
) -> pygit2.Oid:
    """Return the tree to commit: the draft's, or HEAD's with the selected paths."""
    if selection.is_everything:
        return draft.index.write_tree(handle)
    part = pygit2.Index()
    part.read_tree(handle[tip].peel(pygit2.Tree))
    wanted = dict(done)
    for change in status.staged:
        if selection.has(change.path) and change.path not in wanted:
            entry = _entry(draft.index, change.path)
            wanted[change.path] = None if entry is None else (entry.id, entry.mode)
    for path, entry_of in sorted(wanted.items(), key=lambda item: item[1] is not None):
        if entry_of is not None:
            part.add(pygit2.IndexEntry(path, *entry_of))
        elif path in part:
            part.remove(path)
    return part.write_tree(handle)


def _entry(index: pygit2.Index, path: str) -> pygit2.IndexEntry | None:
    return index[path] if path in index else None  # noqa: SIM401 - an index has no get()


def _nothing(worktree_path: Path, selection: Selection) -> NothingToCommitError:
    where = "" if selection.is_everything else " below the paths that were named"
    return NothingToCommitError(
        f"there is nothing to commit in '{worktree_path}'{where}",
        hint="Ignored files do not count. After a crash it may be that the commit was made.",
    )


def mark_resolved(repository: OpenRepository, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Stage conflicted paths as they are in the working tree; hold the lane.

    Args:
        repository: Opened at the working tree.
        paths: Paths as of ``relative_paths``; what is below them counts.

    Returns:
        The paths that were conflicted and are not any more.

    Raises:
        CommitRefusedError: There is a pipe or the like where a file ought to be.
        LaneBusyError: Another program kept the index locked.
        RepositoryError: Something cannot be read or written.
    """
    handle = repository.handle
    selection = Selection(paths)

    def attempt() -> tuple[str, ...]:
        rules = FileRules(handle)
        with IndexDraft(repository) as draft:
            status = read_status(handle)
            chosen = tuple(path for path in status.conflicted if selection.has(path))
            for path in chosen:
                del draft.index.conflicts[path]
                seen = stat_at(Path(handle.workdir), path)
                if seen is not None and not stat.S_ISDIR(seen.st_mode):
                    if not (stat.S_ISREG(seen.st_mode) or stat.S_ISLNK(seen.st_mode)):
                        raise refuse_paths([path], NO_FILE, hint=NO_FILE_HINT)
                    draft.put(path, *blob_at(handle, path, seen, rules), seen)
            if chosen:
                draft.install()
            return chosen

    with repository_failures("mark conflicts as resolved", path=repository.path):
        return until_free(
            lambda: reading(attempt, torn=is_torn),
            busy=lambda error: isinstance(error, LockedError),
            what=f"write the index of '{repository.path}'",
        )
