"""What is in a lane's way, in words; each is refused in more than one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.worktree_entries import Entry, entries_on
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.errors import LaneConflictError

__all__ = [
    "checked_out_at",
    "diverged",
    "into_another",
    "locked_and_absent",
    "moved",
    "off_branch",
    "other_checkout",
]


def diverged(lane: Lane, *, here: str, there: str, url: str) -> LaneConflictError:
    """Both sides of the lane's branch have commits the other lacks."""
    return LaneConflictError(
        f"the branch '{lane.branch}' has diverged: here {here[:12]}, at '{url}' {there[:12]}",
        obstacle=lane.branch_ref,
        hint="Bring both together in the worktree by a merge or rebase, then repeat.",
    )


def into_another(lane: Lane, *, url: str, base: str, target: str) -> LaneConflictError:
    """The lane's open pull request goes into another branch than the lane's target.

    Args:
        lane: The lane.
        url: The pull request's page for people.
        base: Branch it goes into.
        target: Branch it should go into.
    """
    return LaneConflictError(
        f"{url} is open from '{lane.branch}' into '{base}', not into '{target}': "
        "a second pull request is not opened beside it",
        obstacle=url,
        hint=f"Set its base back to '{target}', close it, or make '{base}' the workstream's "
        "target; then repeat.",
    )


def off_branch(lane: Lane, entry: Entry) -> LaneConflictError | None:
    """Return the refusal of a worktree that is not on the lane's branch."""
    if entry.head_ref == lane.branch_ref:
        return None
    doing = f" ({entry.operation} in progress)" if entry.operation else ""
    return LaneConflictError(
        f"the worktree '{lane.worktree_path}' is on {entry.head_ref or 'a detached HEAD'}"
        f"{doing}, not on '{lane.branch}'",
        obstacle=lane.worktree_path,
        hint=f"Finish what is going on there and switch back to '{lane.branch}', or tear the "
        "lane down.",
    )


def locked_and_absent(lane: Lane, entry: Entry) -> LaneConflictError | None:
    """Return the refusal of a locked worktree that is not there: on an unmounted disk, say."""
    if entry.locked is None or entry.is_half_made or lane.worktree_path.is_dir():
        return None
    return LaneConflictError(
        f"the worktree of lane '{lane}' is locked ({entry.locked or 'no reason given'}) and not "
        "there",
        obstacle=lane.worktree_path,
        hint="Bring it back, or unlock it if nobody needs it.",
    )


def moved(lane: Lane, entry: Entry) -> LaneConflictError:
    """The lane's worktree lives, elsewhere."""
    return LaneConflictError(
        f"the worktree of lane '{lane}' was moved to '{entry.worktree_path}'",
        obstacle=entry.worktree_path,
        hint=f"Move it back to '{lane.worktree_path}', or remove it there.",
    )


def other_checkout(
    lane: Lane,
    repository: OpenRepository,
    *,
    besides: Entry | None,
    heads: Mapping[str, Sequence[str]] | None = None,
) -> LaneConflictError | None:
    """Return the refusal of a branch that is checked out somewhere else.

    Args:
        lane: The lane whose branch it is.
        repository: Its repository.
        besides: The lane's own entry, which does not count.
        heads: What every worktree is on, if that was just looked at for many lanes.
    """
    where = checked_out_at(repository, lane.branch_ref, besides=besides, heads=heads)
    if where is None:
        return None
    return LaneConflictError(
        f"the branch '{lane.branch}' is checked out at '{where}'",
        obstacle=where,
        hint="Switch that checkout to another branch.",
    )


def checked_out_at(
    repository: OpenRepository,
    ref: str,
    *,
    besides: Entry | None = None,
    heads: Mapping[str, Sequence[str]] | None = None,
) -> Path | None:
    """Return where a branch is checked out, if it is.

    Args:
        repository: Its repository.
        ref: Full name of the branch.
        besides: An entry that does not count.
        heads: What every worktree is on, if that was just looked at.
    """
    where: Path | None = None
    if repository.is_head(ref):
        where = repository.common_dir.parent
    for other in entries_on(repository, ref, heads=heads):
        # A locked worktree that is not there may be on a disk that is not mounted.
        stands = other.is_live or (other.locked is not None and not other.is_half_made)
        if stands and other != besides:
            where = other.worktree_path or other.admin_dir
    return where
