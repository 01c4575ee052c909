"""What is known about the merge of a lane's pull request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal, Optional

from agentrelay.workstream._steps import Verb
from agentrelay.workstream.core.runtime import (
    WorkstreamRuntime,
    WorkstreamStatus,
    graph_of,
)

__all__ = ["MergeCheck", "MergeEvent", "MergeVerdict", "record_merge"]


class MergeVerdict(str, Enum):  # noqa: UP042 - as the lane's status
    """The answer to "was it merged?".

    Attributes:
        MERGED: The lane's work is in its target, by its pull request.
        OPEN: The pull request is open.
        CLOSED: The pull request was closed without a merge, and no other is open.
        CANNOT_TELL: There is no answer, or none that says so. Never "not merged".
    """

    MERGED = "merged"
    OPEN = "open"
    CLOSED = "closed"
    CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True)
class MergeCheck:
    """The answer about one lane.

    Attributes:
        verdict: The answer.
        url: Page of the pull request it is about, or ``None``.
        method: How it was merged, or ``None`` where that cannot be told: a push brought
            the commits into the target, for example.
        head: Hex id of the pull request's own last commit.
        target_before: Hex id of the target's commit right before the merge.
        merge_commit: Hex id of the target's commit right after it: the merge, the squashed
            commit, or the last one that was rebased.
        reason: What the caller should know besides: always why it cannot be told.
    """

    verdict: MergeVerdict
    url: Optional[str] = None
    method: Optional[Literal["merge", "squash", "rebase"]] = None
    head: Optional[str] = None
    target_before: Optional[str] = None
    merge_commit: Optional[str] = None
    reason: Optional[str] = None


@dataclass(frozen=True)
class MergeEvent:
    """Something a watch has to say about one lane.

    Attributes:
        runtime: The lane.
        check: What was found.
        is_last: Whether nothing more is said about this lane: it was merged or closed,
            or the time is over.
    """

    runtime: WorkstreamRuntime
    check: MergeCheck
    is_last: bool


def record_merge(runtime: WorkstreamRuntime, check: MergeCheck) -> bool:
    """Mark a lane MERGED if a check says so; any other answer changes nothing.

    May be repeated. A failure the lane had before is left behind in its history.

    Args:
        runtime: The lane that was checked.
        check: The answer.

    Returns:
        Whether the lane is MERGED by this answer.

    Raises:
        WorkstreamError: The lane has no signal directory.
        OSError: A signal cannot be written.
    """
    with Verb("record_merge", graph_of(runtime), runtime.spec.id) as verb:
        verb.say(check.verdict.value)
        if check.verdict is not MergeVerdict.MERGED:
            return False
        if runtime.artifacts.merge_pr_url is None and check.url is not None:
            # A process was killed between opening the pull request and writing it down.
            runtime.mark_pr_created(check.url)
        if runtime.status is not WorkstreamStatus.MERGED:
            runtime.clear_failure()
            runtime.mark_merged()
        return True
