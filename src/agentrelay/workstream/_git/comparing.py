"""Commits and diffs of a lane, as data and as text."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import pygit2
from pygit2.enums import DeltaStatus, DiffFind, DiffOption, SortMode

from agentrelay.workstream._changes import ChangeKind, CommitInfo, FileChange, LaneDiff
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.tree_status import hidden_paths
from agentrelay.workstream._trailers import split_message

__all__ = ["commit_info", "commits_between", "diff_between", "diff_of_worktree", "fork_point"]

_KINDS: Final[dict[DeltaStatus, ChangeKind]] = {
    DeltaStatus.ADDED: "added",
    DeltaStatus.UNTRACKED: "added",
    DeltaStatus.DELETED: "deleted",
    DeltaStatus.RENAMED: "renamed",
}
_WORKTREE_TOO: Final = (
    DiffOption.INCLUDE_UNTRACKED
    | DiffOption.RECURSE_UNTRACKED_DIRS
    | DiffOption.SHOW_UNTRACKED_CONTENT
)


def fork_point(repository: OpenRepository, one: str, other: str) -> str | None:
    """Return the best commit two histories have in common, or ``None``."""
    # Typed as if there always were one.
    found: Any = repository.handle.merge_base(one, other)
    return None if found is None else str(found)


def diff_between(repository: OpenRepository, base: str, commit_id: str) -> LaneDiff:
    """Return what changed from one commit to another, renames found as git finds them.

    Args:
        repository: Repository that has both.
        base: Hex id of the earlier commit.
        commit_id: Hex id of the later one.
    """
    old, new = (repository.handle[name].peel(pygit2.Tree) for name in (base, commit_id))
    diff = old.diff_to_tree(new)
    files, text = _read(diff, frozenset())
    return LaneDiff(base, commit_id, files, text)


def diff_of_worktree(repository: OpenRepository, commit_id: str) -> LaneDiff:
    """Return what the working tree changes against a commit, untracked files included.

    Args:
        repository: Opened at the working tree.
        commit_id: Hex id of the commit its HEAD is at.
    """
    tree = repository.handle[commit_id].peel(pygit2.Tree)
    diff = tree.diff_to_workdir(flags=_WORKTREE_TOO)
    files, text = _read(diff, frozenset(hidden_paths(repository.handle)))
    return LaneDiff(commit_id, None, files, text)


def _read(diff: pygit2.Diff, without: frozenset[str]) -> tuple[tuple[FileChange, ...], str]:
    diff.find_similar(flags=DiffFind.FIND_RENAMES)
    files: dict[str, FileChange] = {}
    texts: list[str] = []
    for patch in diff:
        # None only for what is not changed, which is not asked for.
        assert patch is not None
        delta = patch.delta
        kind = _KINDS.get(delta.status, "modified")
        path = _decoded(delta.old_file if kind == "deleted" else delta.new_file)
        if path in without:
            continue
        _, additions, deletions = patch.line_stats
        old_path = _decoded(delta.old_file) if kind == "renamed" else None
        is_binary = bool(delta.is_binary)
        before = files.get(path)
        if before is not None:
            # A file that became a link, or the reverse: taken away and added, as git shows it.
            kind, old_path = "type_changed", before.old_path or old_path
            additions, deletions = additions + before.additions, deletions + before.deletions
            is_binary = is_binary or before.is_binary
        files[path] = FileChange(path, kind, old_path, additions, deletions, is_binary)
        texts.append(patch.data.decode("utf-8", "replace"))
    return tuple(files[path] for path in sorted(files)), "".join(texts)


def _decoded(file: pygit2.DiffFile) -> str:
    return file.raw_path.decode("utf-8", "surrogateescape")


def commits_between(
    repository: OpenRepository, base: str, commit_id: str, *, most: int | None = None
) -> tuple[CommitInfo, ...]:
    """Return the commits one history has and the other has not, newest first.

    Args:
        repository: Repository that has both.
        base: Hex id of the commit whose history is left out.
        commit_id: Hex id of the commit to begin with.
        most: How many to return at most.
    """
    walker = repository.handle.walk(commit_id, SortMode.TOPOLOGICAL)
    walker.hide(base)
    return tuple(_info(commit) for commit in itertools.islice(walker, most))


def commit_info(repository: OpenRepository, commit_id: str) -> CommitInfo:
    """Return the facts of one commit.

    Args:
        repository: Repository that has it.
        commit_id: Its hex id.
    """
    return _info(repository.handle[commit_id].peel(pygit2.Commit))


def _info(commit: pygit2.Commit) -> CommitInfo:
    author = commit.author
    subject, body, trailers = split_message(commit.raw_message.decode("utf-8", "replace"))
    return CommitInfo(
        commit_id=str(commit.id),
        parent_ids=tuple(map(str, commit.parent_ids)),
        author_name=author.raw_name.decode("utf-8", "replace"),
        author_email=author.raw_email.decode("utf-8", "replace"),
        authored_at=_when(author.time, author.offset),
        subject=subject,
        body=body,
        trailers=trailers,
    )


def _when(time_s: int, offset_minutes: int) -> datetime:
    """Return a moment in the time zone it was written in; what no clock shows is UTC."""
    try:
        zone = timezone(timedelta(minutes=offset_minutes))
        return datetime.fromtimestamp(time_s, zone)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(min(max(time_s, 0), 2**32), UTC)
