"""What a workstream is: an immutable specification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

__all__ = ["WorkstreamSpec"]


@dataclass(frozen=True)
class WorkstreamSpec:
    """Immutable specification of one workstream.

    Specs carry names only. They are not checked here: the preparer refuses names
    that cannot be refs and directories before it changes anything.

    Attributes:
        id: Identifier of the workstream, unique within its task graph.
        parent_workstream_id: Id of the parent workstream, or ``None`` at the top.
        base_branch: Branch the lane is cut from.
        merge_target_branch: Branch the lane's pull request asks to be merged into.
    """

    id: str
    parent_workstream_id: Optional[str] = None
    base_branch: str = "main"
    merge_target_branch: str = "main"
