"""The protocols' implementations on libgit2 and GitHub's API."""

from agentrelay.workstream._conflicts import (
    ConflictHunk,
    ConflictKind,
    MergePreview,
    PathConflict,
)
from agentrelay.workstream.implementations.github_app import GitHubApp
from agentrelay.workstream.implementations.workstream_auto_merger import GhIntegrationAutoMerger
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
from agentrelay.workstream.implementations.workstream_teardown import GitWorkstreamTeardown

__all__ = [
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
    "MergePreview",
    "PathConflict",
    "Reconciliation",
    "RescuedWork",
    "RestoredWork",
    "diagnose",
    "forget",
    "preview_merge",
    "preview_pairs",
    "reconcile",
    "rescued",
    "restore",
]
