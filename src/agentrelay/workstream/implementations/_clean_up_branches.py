"""The last steps of tearing a lane down: its branches, here and at the remote.

Each is examined first, and deleted at the very commit that was examined once its work is
safe. A batch of lanes examines each by itself and deletes all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from agentrelay.workstream._git.config import drop_upstream
from agentrelay.workstream._git.ref_deletion import refuse_symbolic
from agentrelay.workstream._git.refs import delete_ref, release_dead_lock, set_tracking_ref
from agentrelay.workstream._git.remotes import RefUpdate
from agentrelay.workstream._git.repository import read_ref
from agentrelay.workstream.errors import LaneConflictError
from agentrelay.workstream.implementations._refusals import other_checkout

if TYPE_CHECKING:
    from agentrelay.workstream.implementations._clean_up import CleanUp

__all__ = [
    "delete_local_branch",
    "delete_remote_branch",
    "examine_local_branch",
    "examine_remote_branch",
    "forget_push",
]


def delete_local_branch(run: CleanUp) -> None:
    """Delete the branch at the commit that was examined, and its upstream."""
    if run.branches_stay is not None:
        return
    # Without the repository's lock: no other lane's branch counts as a proof, and a branch
    # or a configuration that the user's git holds must not hold up the other lanes.
    tip = examine_local_branch(run)
    if tip is not None:
        delete_ref(run.repository, run.lane.branch_ref, expected=tip)
    drop_upstream(run.repository, run.lane.branch)


def examine_local_branch(
    run: CleanUp, *, heads: Mapping[str, Sequence[str]] | None = None
) -> str | None:
    """Make the branch's work safe, and return the commit it may be deleted at.

    ``None`` where there is no branch.

    Args:
        run: The lane, whose worktree is gone.
        heads: What every worktree is on, if that was just looked at for many lanes.

    Raises:
        LaneConflictError: It is checked out somewhere else, or a symbolic ref.
        RepositoryError: Its work cannot be kept.
    """
    lane, repository = run.lane, run.repository
    refuse_symbolic(repository, lane.branch_ref)
    tip = repository.resolve(lane.branch_ref)
    if tip is None:
        release_dead_lock(repository, lane.branch_ref)
        return None
    refusal = other_checkout(lane, repository, besides=None, heads=heads)
    if refusal is not None:
        raise refusal
    run.rescuer.prove_or_keep("commits", tip, what="commits of the lane that are merged nowhere")
    log = repository.common_dir / "logs" / lane.branch_ref
    run.rescuer.keep_logged("reflog-branch", (log,), tips=(tip,))
    return tip


def delete_remote_branch(run: CleanUp) -> None:
    """Delete the remote's branch at the commit that was fetched, once its work is safe."""
    update = examine_remote_branch(run)
    if update is not None:
        assert run.remote is not None
        run.remote.delete(update.branch, expected=str(update.expected))
        forget_push(run)


def examine_remote_branch(run: CleanUp) -> RefUpdate | None:
    """Make the remote branch's work safe, and return its deletion.

    ``None`` where nothing is to be deleted; if that is because the remote has no such
    branch, it is written down.

    Raises:
        LaneConflictError: Nothing says that the branch is this lane's.
        RepositoryError: Its work cannot be kept.
    """
    lane, repository, tip = run.lane, run.repository, run.remote_tip
    if run.remote is None or not run.remote_seen or run.branches_stay is not None:
        return None
    if read_ref(repository.common_dir, lane.branch_ref, symbolic_too=True) is not None:
        # The local branch could not go, for a reason that is on record: the lane stands.
        return None
    if run.seen_before is not None:
        # Where the remote's branch was last seen, before the fetch: it may have been
        # forced or deleted since.
        run.rescuer.prove_or_keep(
            "remote-before", run.seen_before, what="commits the remote branch had before"
        )
    if tip is None:
        tracking_ref = run.remote.tracking_ref(lane.branch)
        release_dead_lock(repository, tracking_ref)
        set_tracking_ref(repository, tracking_ref, None)
        forget_push(run)
        return None
    if not (run.record.owns(tip) or (run.record.claim is None and run.stood)):
        message = f"nothing here says that the branch '{lane.branch}' at '{run.remote.url}' is ours"
        raise LaneConflictError(
            message,
            obstacle=lane.branch_ref,
            hint="Another clone holds this lane, or left it behind: tear it down there.",
        )
    run.rescuer.prove_or_keep("remote", tip, what="commits pushed to the remote branch")
    return RefUpdate(lane.branch, None, tip)


def forget_push(run: CleanUp) -> None:
    """Write down that the remote has no branch of ours: the next one there is another's.

    Also where another step failed, and the lane is not released yet.
    """
    if run.record.claim == "pushed":
        run.record = run.record.write(run.lane, claim="wanted", attempt=None)
