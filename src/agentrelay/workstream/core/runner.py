"""The standard order of things: prepare, integrate, look whether it was merged, tear down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Protocol, runtime_checkable

from agentrelay.workstream.core.io import (
    IntegrationAutoMerger,
    IntegrationMergeChecker,
    WorkstreamIntegrator,
    WorkstreamPreparer,
    WorkstreamTeardown,
)
from agentrelay.workstream.core.merge import MergeCheck, record_merge
from agentrelay.workstream.core.runtime import (
    WorkstreamRuntime,
    WorkstreamStatus,
    record_concern,
)
from agentrelay.workstream.errors import WorkstreamError

__all__ = ["StandardWorkstreamRunner", "WorkstreamRunResult", "WorkstreamRunner"]


@dataclass(frozen=True)
class WorkstreamRunResult:
    """Snapshot of a lane after a lifecycle operation.

    Attributes:
        workstream_id: Identifier of the workstream.
        status: Its status when the snapshot was taken.
        error: Text of the error that failed it, or ``None``.
    """

    workstream_id: str
    status: WorkstreamStatus
    error: Optional[str] = None

    @classmethod
    def from_runtime(cls, runtime: WorkstreamRuntime) -> WorkstreamRunResult:
        """Build a snapshot of the runtime's current state.

        Args:
            runtime: Workstream runtime to snapshot.

        Returns:
            Its id, status and error.
        """
        return cls(workstream_id=runtime.spec.id, status=runtime.status, error=runtime.state.error)


@runtime_checkable
class WorkstreamRunner(Protocol):
    """What an orchestrator drives; variants of the lifecycle are other classes."""

    def prepare(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Provision workspace infrastructure for a workstream."""
        ...

    def integrate(self, workstream_runtime: WorkstreamRuntime) -> WorkstreamRunResult:
        """Create the integration pull request of a workstream."""
        ...

    def teardown(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Clean up workspace infrastructure of a workstream."""
        ...


@dataclass
class StandardWorkstreamRunner:
    """Drive a lane by delegating each step to one implementation.

    Attributes:
        _preparer: Provisions worktree and integration branch.
        _integrator: Creates the integration pull request.
        _teardown: Cleans up worktree and integration branch.
        _merge_checker: Tells whether the pull request was merged; optional.
        _auto_merger: Merges it; optional, and used by :meth:`merge` alone.
    """

    _preparer: WorkstreamPreparer
    _integrator: WorkstreamIntegrator
    _teardown: WorkstreamTeardown
    _merge_checker: Optional[IntegrationMergeChecker] = field(default=None, kw_only=True)
    _auto_merger: Optional[IntegrationAutoMerger] = field(default=None, kw_only=True)

    def prepare(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Provision the lane; ACTIVE on success, FAILED on error.

        A lane that had failed and now succeeds leaves FAILED behind.

        Args:
            workstream_runtime: Workstream runtime to provision.

        Raises:
            Exception: What the preparer raised, after it was recorded as
                ``TypeName: message``.
        """
        try:
            self._preparer.prepare_workstream(workstream_runtime)
            workstream_runtime.clear_failure()
            workstream_runtime.mark_active()
        except Exception as error:
            _record_failure(workstream_runtime, error)
            raise

    def integrate(self, workstream_runtime: WorkstreamRuntime) -> WorkstreamRunResult:
        """Create the lane's pull request; PR_CREATED on success, FAILED on error.

        Args:
            workstream_runtime: Workstream runtime to integrate.

        Returns:
            Snapshot of the lane afterwards. Errors are in it, not raised.
        """
        try:
            self._integrator.create_integration_pr(workstream_runtime)
            workstream_runtime.clear_failure()
        except Exception as error:  # noqa: BLE001 - the result carries every failure
            _record_failure(workstream_runtime, error)
        return WorkstreamRunResult.from_runtime(workstream_runtime)

    def check(self, workstream_runtime: WorkstreamRuntime) -> MergeCheck:
        """Look whether the lane's pull request was merged; MERGED if it was.

        Any other answer leaves the lane as it is. A teardown afterwards removes the
        branches of a lane that was merged.

        Args:
            workstream_runtime: Workstream runtime to look at.

        Returns:
            The answer.

        Raises:
            WorkstreamError: The runner was made without a merge checker.
            OSError: The ``merged`` signal cannot be written.
        """
        if self._merge_checker is None:
            raise WorkstreamError(
                "this runner cannot tell whether a pull request was merged",
                hint="Pass _merge_checker= when making it.",
            )
        check = self._merge_checker.check_merged(workstream_runtime)
        record_merge(workstream_runtime, check)
        return check

    def merge(self, workstream_runtime: WorkstreamRuntime) -> MergeCheck:
        """Merge the lane's pull request; MERGED if it was.

        No other step calls this. A refusal leaves the lane as it is: it has not failed.

        Args:
            workstream_runtime: Workstream runtime to merge.

        Returns:
            What became of the pull request.

        Raises:
            WorkstreamError: The runner was made without an auto-merger.
            Exception: What the auto-merger raised.
        """
        if self._auto_merger is None:
            raise WorkstreamError(
                "this runner merges nothing", hint="Pass _auto_merger= when making it."
            )
        check = self._auto_merger.merge_integration_pr(workstream_runtime)
        record_merge(workstream_runtime, check)
        return check

    def teardown(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Clean up the lane; failures become concerns and never change its status.

        Args:
            workstream_runtime: Workstream runtime to tear down.
        """
        try:
            self._teardown.teardown_workstream(workstream_runtime)
        except Exception as error:  # noqa: BLE001 - a clean-up must not fail the run
            record_concern(workstream_runtime, f"teardown_failed: {error}")


def _record_failure(runtime: WorkstreamRuntime, error: Exception) -> None:
    """Mark the lane failed; a disk that refuses the signal must not hide the error."""
    try:
        runtime.mark_failed(f"{type(error).__name__}: {error}")
    except OSError as refused:
        record_concern(runtime, f"the failed signal could not be written: {refused}")
