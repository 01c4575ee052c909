"""Workstream lanes for coding agents: branch, worktree, pull request, clean end.

This package defines immutable workstream specifications, mutable runtime state for
each lane, the protocols and runner of the lifecycle, and implementations of them
that work inside the process. Importing it loads neither libgit2 nor the GitHub
client nor the implementations nor anything else; each name loads on first use.
"""

from __future__ import annotations

# Not typing's own: loading that would be a third of the cost of importing this module.
TYPE_CHECKING = False

if TYPE_CHECKING:
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
        RetargetedChild,
        SigningKey,
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
        retarget_children,
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
    "RetargetedChild",
    "RetryPolicy",
    "SigningKey",
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
    "retarget_children",
    "teardown_all",
]


# Where each name is at home; those that are nowhere here are the implementations'.
_HOMES = {
    "AheadBehind": "_changes",
    "ChangedPath": "_changes",
    "CommitInfo": "_changes",
    "FileChange": "_changes",
    "LaneDiff": "_changes",
    "RetryPolicy": "_policy",
    "WorkstreamGraph": "core.graph",
    "IntegrationAutoMerger": "core.io",
    "IntegrationMergeChecker": "core.io",
    "WorkstreamIntegrator": "core.io",
    "WorkstreamPreparer": "core.io",
    "WorkstreamTeardown": "core.io",
    "MergeCheck": "core.merge",
    "MergeEvent": "core.merge",
    "MergeVerdict": "core.merge",
    "record_merge": "core.merge",
    "StandardWorkstreamRunner": "core.runner",
    "WorkstreamRunResult": "core.runner",
    "WorkstreamRunner": "core.runner",
    "TaskSummary": "core.runtime",
    "WorkstreamArtifacts": "core.runtime",
    "WorkstreamRuntime": "core.runtime",
    "WorkstreamState": "core.runtime",
    "WorkstreamStatus": "core.runtime",
    "WorkstreamSpec": "core.workstream",
    "CommitRefusedError": "errors",
    "CredentialsRejectedError": "errors",
    "LaneBusyError": "errors",
    "LaneConflictError": "errors",
    "LaneNameError": "errors",
    "LeaseLostError": "errors",
    "MergeConflictError": "errors",
    "MergeNotReadyError": "errors",
    "MergeRefusedError": "errors",
    "NothingToCommitError": "errors",
    "PullRequestError": "errors",
    "PushRejectedError": "errors",
    "RateLimitedError": "errors",
    "RemoteError": "errors",
    "RemoteUnavailableError": "errors",
    "RepositoryError": "errors",
    "WorkstreamError": "errors",
}


def __getattr__(name: str) -> object:
    """Load a name on its first use: who needs a lane's specification needs no more."""
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import version

        return version("agentrelay-workstream")
    if name in {"core", "errors"}:
        return import_module(f"{__name__}.{name}")
    if name in __all__:
        home = import_module(f"{__name__}.{_HOMES.get(name, 'implementations')}")
        found: object = getattr(home, name)
        globals()[name] = found
        return found
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    """List what there is, loaded or not."""
    return sorted({*globals(), *__all__})
