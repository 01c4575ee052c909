"""The protocols' implementations on libgit2 and GitHub's API."""

from agentrelay.workstream._conflicts import (
    ConflictHunk,
    ConflictKind,
    MergePreview,
    PathConflict,
)
from agentrelay.workstream.credentials import SigningKey
from agentrelay.workstream.implementations.checkout_progress import CheckoutProgress
from agentrelay.workstream.implementations.github_app import GitHubApp
from agentrelay.workstream.implementations.workstream_auto_merger import GhIntegrationAutoMerger
from agentrelay.workstream.implementations.workstream_batch import (
    LaneResult,
    prepare_all,
    teardown_all,
)
from agentrelay.workstream.implementations.workstream_clone import CloneProgress, clone
from agentrelay.workstream.implementations.workstream_doctor import (
    Finding,
    FindingLevel,
    diagnose,
)
from agentrelay.workstream.implementations.workstream_integrator import GhWorkstreamIntegrator
from agentrelay.workstream.implementations.workstream_merge_checker import (
    GhIntegrationMergeChecker,
)
from agentrelay.workstream.implementations.workstream_preparer import GitWorkstreamPreparer
from agentrelay.workstream.implementations.workstream_preview import (
    preview_merge,
    preview_pairs,
)
from agentrelay.workstream.implementations.workstream_reconciler import (
    FoundLane,
    LaneKind,
    LaneOutcome,
    Reconciliation,
    reconcile,
)
from agentrelay.workstream.implementations.workstream_rescue import (
    RescuedWork,
    RestoredWork,
    forget,
    rescued,
    restore,
)
from agentrelay.workstream.implementations.workstream_retarget import (
    RetargetedChild,
    retarget_children,
)
from agentrelay.workstream.implementations.workstream_tasks import (
    SyncResult,
    TaskBranch,
    TaskMerge,
)
from agentrelay.workstream.implementations.workstream_teardown import GitWorkstreamTeardown
from agentrelay.workstream.implementations.workstream_workspace import (
    LaneStatus,
    LaneWorkspace,
    open_lane,
)

__all__ = [
    "CheckoutProgress",
    "CloneProgress",
    "ConflictHunk",
    "ConflictKind",
    "Finding",
    "FindingLevel",
    "FoundLane",
    "GhIntegrationAutoMerger",
    "GhIntegrationMergeChecker",
    "GhWorkstreamIntegrator",
    "GitHubApp",
    "GitWorkstreamPreparer",
    "GitWorkstreamTeardown",
    "LaneKind",
    "LaneOutcome",
    "LaneResult",
    "LaneStatus",
    "LaneWorkspace",
    "MergePreview",
    "PathConflict",
    "Reconciliation",
    "RescuedWork",
    "RestoredWork",
    "RetargetedChild",
    "SigningKey",
    "SyncResult",
    "TaskBranch",
    "TaskMerge",
    "clone",
    "diagnose",
    "forget",
    "open_lane",
    "prepare_all",
    "preview_merge",
    "preview_pairs",
    "reconcile",
    "rescued",
    "restore",
    "retarget_children",
    "teardown_all",
]
