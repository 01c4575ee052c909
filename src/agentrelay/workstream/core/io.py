"""The protocols behind the runner: prepare, integrate, look, merge, tear down.

These docstrings are the contract. Implementations document only what they add.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from agentrelay.workstream.core.merge import MergeCheck
from agentrelay.workstream.core.runtime import WorkstreamRuntime

__all__ = [
    "IntegrationAutoMerger",
    "IntegrationMergeChecker",
    "WorkstreamIntegrator",
    "WorkstreamPreparer",
    "WorkstreamTeardown",
]


@runtime_checkable
class WorkstreamPreparer(Protocol):
    """Provision workspace infrastructure for a workstream lane."""

    def prepare_workstream(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Provision worktree and integration branch for this workstream.

        Afterwards ``state.signal_dir``, ``state.worktree_path`` and
        ``state.branch_name`` are set, the worktree stands on the integration
        branch, the remote has the branch, and the lane is at least PENDING.
        Calling it again on the same lane completes what is missing and changes
        nothing else.

        Args:
            workstream_runtime: Workstream runtime to provision.

        Raises:
            Exception: Whatever went wrong; the lane can be prepared again.
        """
        ...


@runtime_checkable
class WorkstreamIntegrator(Protocol):
    """Create the integration pull request of a workstream lane."""

    def create_integration_pr(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Create a pull request from the integration branch to the merge target.

        Afterwards exactly one pull request of this lane is open and the lane is
        PR_CREATED with its URL, or there was nothing to merge and the lane is
        MERGED. The pull request is never merged here. Calling it again adopts the
        open pull request.

        Args:
            workstream_runtime: Workstream runtime whose integration branch should
                be submitted as a pull request.

        Raises:
            Exception: Whatever went wrong; it may be called again.
        """
        ...


@runtime_checkable
class WorkstreamTeardown(Protocol):
    """Clean up workstream workspace infrastructure."""

    def teardown_workstream(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Delete worktree and integration branch of this workstream.

        Each step stands on its own: what fails becomes an entry of
        ``artifacts.concerns`` and the other steps still run. Nothing that exists
        nowhere else is deleted. Calling it again, or on a lane that is half gone,
        removes what is left.

        Args:
            workstream_runtime: Workstream runtime whose resources should be
                cleaned up.
        """
        ...


@runtime_checkable
class IntegrationMergeChecker(Protocol):
    """Tell whether the integration pull request of a workstream lane was merged."""

    def check_merged(self, workstream_runtime: WorkstreamRuntime) -> MergeCheck:
        """Look whether the lane's work is in its merge target.

        Nothing is changed, neither the lane nor the pull request. What keeps the answer
        from coming is an answer too: ``CANNOT_TELL``, with the reason, and never "not
        merged". A pull request that was merged before the lane's last commit is not the
        lane's merge.

        Args:
            workstream_runtime: Workstream runtime whose pull request is looked at.

        Returns:
            The answer.
        """
        ...


@runtime_checkable
class IntegrationAutoMerger(Protocol):
    """Merge the integration pull request of a workstream lane."""

    def merge_integration_pr(self, workstream_runtime: WorkstreamRuntime) -> MergeCheck:
        """Merge the lane's pull request, if nothing stands against it.

        Nothing calls this unless it was wired up on purpose. Nothing is merged while a
        concern is open, nor at another commit than the lane's, nor twice: calling it again
        finds what was merged. The lane is marked by whoever asked.

        Args:
            workstream_runtime: Workstream runtime whose pull request is to be merged.

        Returns:
            ``MERGED``; or ``OPEN``, with the reason, where somebody else was asked to
            merge it when it may be.

        Raises:
            MergeNotReadyError: It may be merged later: wait.
            MergeConflictError: It conflicts with its target or is behind it: rebase.
            MergeRefusedError: A rule, a person or an open concern is against it: ask.
            Exception: Whatever else went wrong; it may be called again.
        """
        ...
