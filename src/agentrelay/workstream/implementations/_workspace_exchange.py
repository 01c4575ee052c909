"""Pushing a lane's commits, and pulling what others pushed to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrelay.workstream._changes import CommitInfo
from agentrelay.workstream._git.comparing import commits_between
from agentrelay.workstream._git.fast_forward import fast_forward
from agentrelay.workstream._git.history import with_history
from agentrelay.workstream._git.remotes import RemoteAccess, RemoteEnd, open_remote
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream._lane import Lane
from agentrelay.workstream._steps import Step, say
from agentrelay.workstream.errors import LaneConflictError, PushRejectedError
from agentrelay.workstream.implementations._refusals import diverged
from agentrelay.workstream.implementations._workspace import held, standing, tip_of

if TYPE_CHECKING:
    from agentrelay.workstream.implementations.workstream_workspace import LaneWorkspace

__all__ = ["fetch_and_follow", "refuse_operation", "remote_of", "send"]


def remote_of(workspace: LaneWorkspace, lane: Lane) -> RemoteEnd:
    """Return the lane's remote, as its preparer opens it."""
    access = RemoteAccess(
        workspace.remote,
        workspace.token,
        workspace.ssh_key,
        deadline_s=workspace.network_timeout_s,
    )
    return open_remote(open_repository(lane.repo_path), access)


def send(workspace: LaneWorkspace) -> str:
    """Push; see ``LaneWorkspace.push``.

    Raises:
        WorkstreamError: As documented there.
    """
    with held(workspace, f"push '{workspace.branch}'") as (repository, lane):
        remote, history = remote_of(workspace, lane), with_history(repository)
        tip = tip_of(repository, lane)
        expected = repository.resolve(remote.tracking_ref(lane.branch))
        if expected is None:
            expected = remote.fetch([lane.branch])[lane.branch]
        if expected is not None and not history.contains(expected, tip):
            ahead = history.contains(tip, expected)
            words = "has commits this lane lacks" if ahead else "and this lane have diverged"
            reason = f"non-fast-forward: the remote branch (at {expected[:12]}) {words}"
            raise PushRejectedError(
                f"cannot push '{lane.branch}' (at {tip[:12]}) to '{remote.push_url}': {reason}",
                url=remote.push_url,
                ref=lane.branch_ref,
                reason=reason,
                hint="Pull first." if ahead else "Bring both together, then push again.",
            )
        remote.push(lane.branch, tip, expected=expected)
        say(tip)
        return tip


def fetch_and_follow(workspace: LaneWorkspace) -> tuple[CommitInfo, ...]:
    """Pull; see ``LaneWorkspace.pull``.

    Raises:
        WorkstreamError: As documented there.
    """
    with held(workspace, f"pull '{workspace.branch}'") as (repository, lane):
        remote, history = remote_of(workspace, lane), with_history(repository)
        there = remote.fetch([lane.branch])[lane.branch]
        if there is None:
            raise LaneConflictError(
                f"the remote '{remote.url}' has no branch '{lane.branch}' any more",
                obstacle=lane.branch_ref,
                hint="It may have been merged and deleted. push() makes it again.",
            )
        tip = tip_of(repository, lane)
        if history.contains(there, tip):
            return ()
        if not history.contains(tip, there):
            raise diverged(lane, here=tip, there=there, url=remote.url)
        refuse_operation(lane, "pull again")
        say(there)
        with Step("follow"):
            fast_forward(
                repository, lane.branch_ref, tip=tip, target=there, message="pull: Fast-forward"
            )
        return commits_between(history, tip, there)


def refuse_operation(lane: Lane, again: str) -> None:
    """Refuse to move a worktree in which somebody is in the middle of something.

    Args:
        lane: The lane.
        again: What to do when that is over: ``"pull again"``.

    Raises:
        LaneConflictError: A merge, rebase or the like is in progress.
    """
    _, entry = standing(lane)
    if entry.operation is not None:
        raise LaneConflictError(
            f"a {entry.operation} is in progress in '{lane.worktree_path}'",
            obstacle=lane.worktree_path,
            hint=f"Finish it or give it up, then {again}. Nothing was changed.",
        )
