"""Judging a lane by its traces; pure. The table is in ``workstream_reconciler.py``."""

from __future__ import annotations

from dataclasses import dataclass

from agentrelay.workstream.core.runtime import WorkstreamStatus
from agentrelay.workstream.implementations._survey import Way
from agentrelay.workstream.implementations._traces import Folder, Traces
from agentrelay.workstream.implementations.workstream_reconciler import LaneKind

__all__ = ["Verdict", "judge"]


@dataclass(frozen=True)
class Verdict:
    """What a lane is.

    Attributes:
        kind: In one word.
        why: In one sentence, without its full stop.
        concern: What a person should know besides, or ``None``.
    """

    kind: LaneKind
    why: str
    concern: str | None = None


def judge(traces: Traces, way: Way) -> Verdict | None:
    """Return what a lane is, or ``None`` when there is nothing left of it to speak of."""
    return (
        _in_the_way(traces, way)
        or (_of_ours(traces, way) if traces.record.is_ours else _of_nobodys(traces))
        or _remains(way)
    )


def _foreign(why: str, concern: str | None = None) -> Verdict:
    return Verdict(LaneKind.FOREIGN, why, concern)


def _in_the_way(traces: Traces, way: Way) -> Verdict | None:  # noqa: C901, PLR0911 - one return a row
    """Judge what neither a prepare nor a teardown may touch, whatever the record says."""
    lane = traces.lane
    if not traces.stands and not traces.record.is_ours:
        return None
    if traces.trouble is not None:
        return _foreign(traces.trouble)
    if traces.leads_to is not None:
        return _foreign(f"its branch is a symbolic ref, '{traces.leads_to[:200]}'")
    if traces.home is not None:
        return _foreign(f"it was prepared in '{traces.home}'; reconcile it there")
    if traces.folder is Folder.OTHER:
        return _foreign(f"'{lane.worktree_path}' is not this lane's worktree")
    if traces.folder is not Folder.UNLINKED and traces.registered_elsewhere is not None:
        return _foreign(f"its worktree belongs to '{traces.registered_elsewhere}'")
    if way.checked_out_at is not None:
        return _foreign(f"its branch is checked out at '{way.checked_out_at}'")
    own = traces.entry or traces.own
    if own is not None and own.locked is not None and not own.is_half_made:
        reason = own.locked or "no reason given"
        why = f"its worktree is locked ({reason}){'' if traces.entry else ', and not there'}"
        if not traces.record.is_ours:
            return _foreign(why)
        concern = "its teardown was begun; unlock it to go on" if traces.record.is_ending else None
        return Verdict(LaneKind.LIVE, why, concern)
    if traces.folder is Folder.OFF_BRANCH and not traces.record.is_ending:
        assert traces.entry is not None
        return _foreign(f"its worktree is on '{traces.entry.head_ref}'")
    return None


def _of_ours(traces: Traces, way: Way) -> Verdict:  # noqa: PLR0911 - one return a row
    """Judge a lane whose record says that it is this repository's."""
    record, remote_tip = traces.record, way.remote_tip
    owns = remote_tip is None or record.owns(remote_tip)
    if record.is_ending and (traces.stands or owns):
        return Verdict(LaneKind.ORPHANED, "its teardown was begun and is not finished")
    if not owns:
        return _foreign("the remote's branch is another clone's")
    if traces.folder is Folder.UNLINKED:
        return Verdict(
            LaneKind.LIVE,
            "its worktree leads to the repository at another place: moved, or mounted there",
            "preparing it again connects it with the repository here",
        )
    whole = traces.tip is not None and traces.folder in {Folder.WHOLE, Folder.DETACHED}
    if traces.folder is Folder.DETACHED:
        doing = traces.entry.operation if traces.entry else None
        concern = f"its worktree is on no branch ({doing or 'a detached HEAD'})"
        return Verdict(LaneKind.LIVE, "its worktree stands, on no branch", concern)
    if whole and record.claim == "pushed" and traces.status is not None:
        is_missing = way.remote_asked and remote_tip is None
        return Verdict(
            LaneKind.LIVE,
            "branch, worktree and record agree",
            "the remote has its branch no more; preparing it again pushes it"
            if is_missing
            else None,
        )
    if traces.status is WorkstreamStatus.MERGED and not whole:
        return Verdict(LaneKind.ORPHANED, "it is merged, and a part of it is gone")
    is_gone_there = way.remote_asked and remote_tip is None
    if traces.status is WorkstreamStatus.PR_CREATED and is_gone_there and not whole:
        # GitHub deletes a merged branch by itself; pushing it anew would help nobody.
        why = "it had a pull request, the remote has its branch no more, and a part of it is gone"
        return Verdict(LaneKind.ORPHANED, why)
    if record.claim == "pushed" and not traces.stands and is_gone_there:
        return Verdict(LaneKind.ORPHANED, "only its record is left")
    return Verdict(LaneKind.RESUMABLE, _missing(traces))


def _missing(traces: Traces) -> str:
    """Say what keeps a lane of ours from being whole."""
    if not traces.stands:
        return "its prepare was interrupted, or all of it was deleted by hand"
    if traces.folder is Folder.HALF_MADE:
        return "its worktree is half made"
    if traces.folder is not Folder.WHOLE:
        return "its worktree is gone"
    if traces.tip is None:
        return "its branch is gone"
    return "its prepare was interrupted before the lane was pushed and noted"


def _of_nobodys(traces: Traces) -> Verdict | None:  # noqa: PLR0911 - one return a row
    """Judge what stands where no record says that it is this repository's."""
    if not traces.stands:
        return None
    claim = traces.record.claim
    says = {
        "lost": "its record says that another clone has the lane",
        "released": "its record says that the lane was torn down",
    }.get(claim or "", "it has no record")
    if traces.entry is not None or traces.folder is Folder.UNLINKED:
        if claim == "lost" and traces.record.is_ending:
            return Verdict(LaneKind.ORPHANED, "its teardown was begun and is not finished")
        return _foreign(
            f"a worktree stands, and {says}",
            "If it is yours, prepare it again or tear it down.",
        )
    if traces.tip is None:
        if traces.own is None and claim is None and not traces.is_noted:
            return _foreign(f"an empty folder is there, and {says}")
        return Verdict(LaneKind.ORPHANED, f"an entry or an empty folder is left, and {says}")
    if claim == "lost":
        return Verdict(LaneKind.ORPHANED, f"a branch is left, and {says}")
    if claim is None and traces.is_noted:
        return Verdict(LaneKind.ORPHANED, "it was prepared here, and its record is gone")
    return _foreign(f"a branch of its name is there, and {says}")


def _remains(way: Way) -> Verdict | None:
    """Judge a name of which nothing stands here."""
    if way.remote_tip is not None:
        return _foreign("only the remote has its branch: another clone's, or left behind by one")
    if way.rescue_refs:
        return Verdict(LaneKind.RESCUED, "only what a teardown kept is left")
    return None
