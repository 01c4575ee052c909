"""Giving child lanes another target, once their parent's lane is merged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from agentrelay.workstream._lane import check_branch_name
from agentrelay.workstream._steps import Verb
from agentrelay.workstream.core.merge import MergeCheck, MergeVerdict
from agentrelay.workstream.core.runtime import WorkstreamRuntime, WorkstreamStatus, graph_of
from agentrelay.workstream.errors import WorkstreamError
from agentrelay.workstream.implementations.workstream_integrator import GhWorkstreamIntegrator

__all__ = ["RetargetedChild", "retarget_children"]


@dataclass(frozen=True)
class RetargetedChild:
    """What became of one lane below a lane that was merged.

    Attributes:
        workstream_id: Id of the child.
        old_target: Branch it was to be merged into.
        new_target: Branch it is to be merged into now; the old one where it stays.
        pull_request_url: Page of its pull request, or ``None``.
        changed: Whether its pull request, record or specification is another than before.
        reason: What there is to know besides: why a pull request was left alone.
        error: What stopped it, ``None`` when nothing did.
    """

    workstream_id: str
    old_target: str
    new_target: str
    pull_request_url: Optional[str] = None
    changed: bool = False
    reason: Optional[str] = None
    error: Optional[Exception] = None


def retarget_children(
    parent: WorkstreamRuntime,
    children: Iterable[WorkstreamRuntime],
    integrator: GhWorkstreamIntegrator,
    *,
    check: Optional[MergeCheck] = None,
) -> list[RetargetedChild]:
    """Give the lanes below a merged lane the target that it was merged into.

    Of each child that is cut from the parent's integration branch, or goes into it: its
    open pull request gets the new base, its record the new base and target, its pull
    request's description a line that says why, and ``runtime.spec`` becomes the new
    specification. Integrating, checking and tearing down go on with that. Commits are
    not touched: bring the new base into the lane next.

    Do this before the parent is torn down. Its branches stay while an open pull request
    goes into them.

    A child is held while this runs. What stops one is its ``error``, and changes none of
    its record; the others go on. Repeating it completes what was stopped, and finds what
    GitHub did by itself. A pull request that is merged or closed is left alone, and so is
    a child that goes somewhere else.

    Args:
        parent: The lane that was merged: MERGED, or ``check`` says so.
        children: Lanes below it, of the same repository; others are left alone.
        integrator: How they are integrated: repository, remote, credentials, time-outs.
        check: The answer that says that the parent was merged.

    Returns:
        What became of each child, in the same order. ``error`` may be: LaneConflictError,
        where its pull request goes into a third branch, or another one into the new target
        already; LaneBusyError; PullRequestError, where GitHub refused; RateLimitedError;
        CredentialsRejectedError; RemoteUnavailableError; RepositoryError.

    Raises:
        WorkstreamError: The parent was never prepared, or nothing says that it was merged.
        LaneNameError: Its target is no name of a branch.
        RepositoryError: A setting of the integrator is not what it should be.
    """
    from agentrelay.workstream.implementations._retarget import Move, Outcome, retarget
    from agentrelay.workstream.implementations._settings import access_to_submit

    with Verb("retarget_children", graph_of(parent), parent.spec.id):
        access, api = access_to_submit(integrator)
        spec, branch = parent.spec, parent.state.branch_name
        if branch is None:
            message = f"workstream '{spec.id}' has no integration branch"
            raise WorkstreamError(message, hint="Prepare the workstream first.")
        if parent.status is not WorkstreamStatus.MERGED and (
            check is None or check.verdict is not MergeVerdict.MERGED
        ):
            message = f"nothing says that workstream '{spec.id}' was merged: its children stay"
            raise WorkstreamError(
                message, hint="Let the checker or the command check mark it merged, or pass check=."
            )
        check_branch_name(spec.merge_target_branch, kind="merge target branch")
        url = parent.artifacts.merge_pr_url
        if check is not None and check.verdict is MergeVerdict.MERGED:
            url = check.url or url
        move = Move(branch, spec.merge_target_branch, spec.id, spec.parent_workstream_id, url)
        results = []
        for child in children:
            old, outcome, error = child.spec.merge_target_branch, Outcome(), None
            try:
                outcome = retarget(
                    child,
                    move,
                    repo_path=Path(integrator.repo_path),
                    access=access,
                    api=api,
                    lane_timeout_s=integrator.lane_timeout_s,
                )
            except Exception as stopped:  # noqa: BLE001 - each child has a result of its own
                error = stopped
            results.append(
                RetargetedChild(
                    child.spec.id,
                    old,
                    child.spec.merge_target_branch,
                    outcome.url,
                    outcome.changed,
                    outcome.reason,
                    error,
                )
            )
        return results
