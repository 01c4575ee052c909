"""The lane a runtime speaks of, checked against its spec and never trusted."""

from __future__ import annotations

from pathlib import Path

from agentrelay.workstream._durations import absolute_path
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.core.runtime import WorkstreamRuntime
from agentrelay.workstream.errors import LaneConflictError

__all__ = ["lane_of"]


def lane_of(runtime: WorkstreamRuntime, repo_path: Path, run_dir: Path | None) -> Lane | None:
    """Return the lane a runtime speaks of, checked against its spec, never trusted.

    Returns:
        The lane, or ``None`` for a runtime that was never prepared.

    Raises:
        LaneConflictError: The state names something that is not this workstream's.
        LaneNameError: A name breaks a rule.
    """
    state = runtime.state
    noted = state.signal_dir
    if run_dir is None and noted is not None and noted.parent.name == "workstreams":
        # Wherever the preparer put it; the record there says whose it is.
        run_dir = noted.parent.parent
    if state.branch_name is not None:
        return Lane.from_branch(repo_path, state.branch_name, runtime.spec.id, run_dir=run_dir)
    if state.worktree_path is not None:
        lane = Lane.of(repo_path, state.worktree_path.parent.name, runtime.spec.id, run_dir=run_dir)
        if lane.worktree_path == absolute_path("worktree_path", state.worktree_path):
            return lane
        message = f"'{state.worktree_path}' is not the worktree of workstream '{runtime.spec.id}'"
        raise LaneConflictError(
            message, obstacle=state.worktree_path, hint="Only a lane's own paths are removed."
        )
    return None
