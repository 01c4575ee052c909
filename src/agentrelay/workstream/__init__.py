"""Workstream lanes for coding agents: branch, worktree, pull request, clean end.

This package defines immutable workstream specifications, mutable runtime state for
each lane, the protocols and runner of the lifecycle, and implementations of them
that work inside the process. Importing it loads neither libgit2 nor the GitHub
client nor the implementations; each loads on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrelay.workstream._changes import (
    AheadBehind,
    ChangedPath,
    CommitInfo,
    FileChange,
    LaneDiff,
)
from agentrelay.workstream._policy import RetryPolicy
from agentrelay.workstream.core.graph import WorkstreamGraph
from agentrelay.workstream.core.io import (
    IntegrationAutoMerger,
    IntegrationMergeChecker,
    WorkstreamIntegrator,
    WorkstreamPreparer,
    WorkstreamTeardown,
)
from agentrelay.workstream.core.merge import (
    MergeCheck,
    MergeEvent,
    MergeVerdict,
    record_merge,
)
from agentrelay.workstream.core.runner import (
    StandardWorkstreamRunner,
    WorkstreamRunner,
    WorkstreamRunResult,
)
from agentrelay.workstream.core.runtime import (
    TaskSummary,
    WorkstreamArtifacts,
    WorkstreamRuntime,
    WorkstreamState,
    WorkstreamStatus,
)
from agentrelay.workstream.core.workstream import WorkstreamSpec
from agentrelay.workstream.errors import (
    CommitRefusedError,
    CredentialsRejectedError,
    LaneBusyError,
    LaneConflictError,
    LaneNameError,
    LeaseLostError,
    MergeConflictError,
    MergeNotReadyError,
    MergeRefusedError,
    NothingToCommitError,
    PullRequestError,
    PushRejectedError,
    RateLimitedError,
    RemoteError,
    RemoteUnavailableError,
    RepositoryError,
    WorkstreamError,
)

if TYPE_CHECKING:
    from agentrelay.workstream.implementations import (
        CheckoutProgress,
        CloneProgress,
        ConflictHunk,
        ConflictKind,
        Finding,
        FindingLevel,
        FoundLane,
        GhIntegrationAutoMerger,
        GhIntegrationMergeChecker,
        GhWorkstreamIntegrator,
        GitHubApp,
        GitWorkstreamPreparer,
        GitWorkstreamTeardown,
        LaneKind,
        LaneOutcome,
        LaneResult,
        LaneStatus,
        LaneWorkspace,
        MergePreview,
        PathConflict,
        Reconciliation,
        RescuedWork,
        RestoredWork,
        SyncResult,
        TaskBranch,
        TaskMerge,
        clone,
        diagnose,
        forget,
        open_lane,
        prepare_all,
        preview_merge,
        preview_pairs,
        reconcile,
        rescued,
        restore,
        teardown_all,
    )

__all__ = [
    "AheadBehind",
    "ChangedPath",
    "CheckoutProgress",
    "CloneProgress",
    "CommitInfo",
    "CommitRefusedError",
    "ConflictHunk",
    "ConflictKind",
    "CredentialsRejectedError",
    "FileChange",
    "Finding",
    "FindingLevel",
    "FoundLane",
    "GhIntegrationAutoMerger",
    "GhIntegrationMergeChecker",
    "GhWorkstreamIntegrator",
    "GitHubApp",
    "GitWorkstreamPreparer",
    "GitWorkstreamTeardown",
    "IntegrationAutoMerger",
    "IntegrationMergeChecker",
    "LaneBusyError",
    "LaneConflictError",
    "LaneDiff",
    "LaneKind",
    "LaneNameError",
    "LaneOutcome",
    "LaneResult",
    "LaneStatus",
    "LaneWorkspace",
    "LeaseLostError",
    "MergeCheck",
    "MergeConflictError",
    "MergeEvent",
    "MergeNotReadyError",
    "MergePreview",
    "MergeRefusedError",
    "MergeVerdict",
    "NothingToCommitError",
    "PathConflict",
    "PullRequestError",
    "PushRejectedError",
    "RateLimitedError",
    "Reconciliation",
    "RemoteError",
    "RemoteUnavailableError",
    "RepositoryError",
    "RescuedWork",
    "RestoredWork",
    "RetryPolicy",
    "StandardWorkstreamRunner",
    "SyncResult",
    "TaskBranch",
    "TaskMerge",
    "TaskSummary",
    "WorkstreamArtifacts",
    "WorkstreamError",
    "WorkstreamGraph",
    "WorkstreamIntegrator",
    "WorkstreamPreparer",
    "WorkstreamRunResult",
    "WorkstreamRunner",
    "WorkstreamRuntime",
    "WorkstreamSpec",
    "WorkstreamState",
    "WorkstreamStatus",
    "WorkstreamTeardown",
    "clone",
    "diagnose",
    "forget",
    "open_lane",
    "prepare_all",
    "preview_merge",
    "preview_pairs",
    "reconcile",
    "record_merge",
    "rescued",
    "restore",
    "teardown_all",
]


def __getattr__(name: str) -> Any:
    """Load the implementations, and ``__version__``, on their first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("agentrelay-workstream")
    if name in __all__:
        from agentrelay.workstream import implementations

        found = globals()[name] = getattr(implementations, name)
        return found
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    """List what there is, loaded or not."""
    return sorted({*globals(), *__all__})
