"""Workstream lanes for coding agents: branch, worktree, pull request, clean end.

This package defines immutable workstream specifications, mutable runtime state for
each lane, the protocols and runner of the lifecycle, and implementations of them
that work inside the process. Importing it loads neither libgit2 nor the GitHub
client; both load on first use.
"""

from __future__ import annotations

from typing import Any

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
    CredentialsRejectedError,
    LaneBusyError,
    LaneConflictError,
    LaneNameError,
    LeaseLostError,
    MergeConflictError,
    MergeNotReadyError,
    MergeRefusedError,
    PullRequestError,
    PushRejectedError,
    RateLimitedError,
    RemoteError,
    RemoteUnavailableError,
    RepositoryError,
    WorkstreamError,
)
from agentrelay.workstream.implementations import (
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
    MergePreview,
    PathConflict,
    Reconciliation,
    RescuedWork,
    RestoredWork,
    diagnose,
    forget,
    preview_merge,
    preview_pairs,
    reconcile,
    rescued,
    restore,
)

__all__ = [
    "ConflictHunk",
    "ConflictKind",
    "CredentialsRejectedError",
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
    "LaneKind",
    "LaneNameError",
    "LaneOutcome",
    "LeaseLostError",
    "MergeCheck",
    "MergeConflictError",
    "MergeEvent",
    "MergeNotReadyError",
    "MergePreview",
    "MergeRefusedError",
    "MergeVerdict",
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
    "diagnose",
    "forget",
    "preview_merge",
    "preview_pairs",
    "reconcile",
    "record_merge",
    "rescued",
    "restore",
]


def __getattr__(name: str) -> Any:
    """Answer ``__version__`` from the installed metadata, read only when asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("agentrelay-workstream")
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
