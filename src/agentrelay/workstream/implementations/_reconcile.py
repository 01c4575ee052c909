"""Acting on what was found: the ordinary prepare, the ordinary teardown, or nothing.

No lane is changed by code of its own here. A lane is looked at again once it is held, so
that what is done is done to what was judged.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agentrelay.workstream._git.leftovers import find_leftovers, remove_leftovers
from agentrelay.workstream._git.remotes import RemoteAccess
from agentrelay.workstream._git.repository import OpenRepository, open_repository
from agentrelay.workstream._lane import check_branch_name, trash_dir_of
from agentrelay.workstream._redact import redact
from agentrelay.workstream._steps import Step, Verb
from agentrelay.workstream.core._signals import sweep_torn
from agentrelay.workstream.core.runtime import WorkstreamRuntime, WorkstreamState
from agentrelay.workstream.core.workstream import WorkstreamSpec
from agentrelay.workstream.errors import LaneBusyError, WorkstreamError
from agentrelay.workstream.implementations._access import ApiAccess
from agentrelay.workstream.implementations._clean_up import DELETE_REMOTE_BRANCH, clean_up
from agentrelay.workstream.implementations._lane_record import (
    forget_place,
    lane_lock,
    read_lane_record,
)
from agentrelay.workstream.implementations._provision import provision
from agentrelay.workstream.implementations._survey import Stranger, Survey, Way, survey
from agentrelay.workstream.implementations._traces import Folder, Traces, is_held, look
from agentrelay.workstream.implementations._verdict import judge
from agentrelay.workstream.implementations.workstream_reconciler import (
    FoundLane,
    LaneKind,
    LaneOutcome,
    Reconciliation,
)

__all__ = ["reconcile_lanes"]

_PLANS: Final = {
    LaneKind.RESUMABLE: LaneOutcome.TO_COMPLETE,
    LaneKind.ORPHANED: LaneOutcome.TO_REMOVE,
}


@dataclass(frozen=True)
class _Means:
    """What every lane is acted on with."""

    repository: OpenRepository
    access: RemoteAccess
    api: ApiAccess
    run_dir: Path | None
    lane_timeout_s: float
    ignored_limit_bytes: int


def reconcile_lanes(
    repo_path: Path,
    *,
    graph: str | None,
    run_dir: Path | None,
    access: RemoteAccess,
    api: ApiAccess,
    lane_timeout_s: float,
    ignored_limit_bytes: int,
    dry_run: bool,
) -> Reconciliation:
    """Find lanes, and complete or remove them; see ``reconcile``.

    Raises:
        WorkstreamError: As documented there.
    """
    repository = open_repository(repo_path)
    with Step("survey"):
        found = survey(repository, graph=graph, access=access, run_dir=run_dir)
    means = _Means(repository, access, api, run_dir, lane_timeout_s, ignored_limit_bytes)
    lanes = [_name(stranger) for stranger in found.strangers]
    for traces, way in found.lanes:
        lane = _describe(repository, traces, way)
        if traces.record.claim == "released" and not traces.stands and not dry_run:
            _forget_ended(repository, traces)
        if lane is None:
            continue
        if lane.kind in _PLANS:
            lane = replace(lane, outcome=_PLANS[lane.kind])
            if not dry_run:
                lane = _act(lane, traces, way, means, found)
        elif not dry_run and lane.signal_dir is not None and traces.record.is_ours:
            # A lane that is whole may not be written to again for long.
            with suppress(OSError):
                sweep_torn(lane.signal_dir)
        lanes.append(lane)
    concerns = list(found.concerns)
    with Step("sweep"):
        leftovers, stuck = _sweep(repository, concerns, dry_run=dry_run)
    lanes.sort(key=lambda lane: (lane.graph, lane.workstream_id))
    return Reconciliation(tuple(lanes), leftovers, stuck, tuple(map(redact, concerns)))


def _forget_ended(repository: OpenRepository, traces: Traces) -> None:
    """Remove the note of a lane that has ended, which a killed teardown leaves at the last."""
    lane = traces.lane
    with suppress(WorkstreamError, OSError), lane_lock(repository, lane, timeout_s=0.0):
        if read_lane_record(repository, lane).claim == "released":
            forget_place(repository, lane)


def _name(stranger: Stranger) -> FoundLane:
    """Name what is under a lane's name and is none."""
    what = stranger.path or stranger.ref or f"{stranger.remote_branch} at the remote"
    is_branch = stranger.ref is not None and stranger.ref.startswith("refs/heads/")
    return FoundLane(
        stranger.graph,
        stranger.rest,
        LaneKind.FOREIGN,
        redact(f"'{what}' is no name of a lane"),
        worktree=stranger.path,
        branch=stranger.ref if is_branch else None,
        remote_branch=stranger.remote_branch,
        rescue_refs=(stranger.ref,) if stranger.ref and not is_branch else (),
    )


def _describe(repository: OpenRepository, traces: Traces, way: Way) -> FoundLane | None:
    """Return what is found of one lane, judged; ``None`` when nothing of it is left."""
    verdict = judge(traces, way)
    if verdict is None:
        return None
    lane, kind, why = traces.lane, verdict.kind, verdict.why
    may_be_in_the_making = kind in _PLANS or (kind is LaneKind.FOREIGN and traces.stands)
    if may_be_in_the_making and is_held(repository, lane):
        kind, why = LaneKind.BUSY, "another thread or process is working on it"
    own = traces.entry or traces.own
    return FoundLane(
        lane.graph,
        lane.workstream_id,
        kind,
        redact(why),
        worktree=None if traces.folder is Folder.ABSENT else lane.worktree_path,
        entry=None if own is None else own.admin_dir,
        branch=lane.branch_ref if traces.tip or traces.leads_to else None,
        remote_branch=None if way.remote_tip is None else lane.branch,
        signal_dir=lane.signal_dir if lane.signal_dir.is_dir() else None,
        rescue_refs=way.rescue_refs,
        concerns=() if verdict.concern is None else (redact(verdict.concern),),
    )


def _act(lane: FoundLane, traces: Traces, way: Way, means: _Means, found: Survey) -> FoundLane:
    """Complete or remove one lane; whatever happens is in the answer."""
    noted = traces.record.data.get("remote")
    if traces.record.is_ours and isinstance(noted, str) and noted != means.access.remote:
        return _with(lane, LaneOutcome.LEFT, f"it was pushed to '{noted}': pass that remote")
    if not found.remote_answered:
        concern = "nothing was tried while the remote does not answer"
        return _with(lane, LaneOutcome.FAILED, concern)
    runtime = _runtime(traces)
    before = runtime.artifacts.concerns
    name, step = ("teardown", _remove)
    if lane.kind is LaneKind.RESUMABLE:
        name, step = "prepare", _complete
    try:
        with Verb(name, lane.graph, lane.workstream_id):
            outcome = step(traces, way, means, runtime)
    except LaneBusyError as error:
        return _with(replace(lane, kind=LaneKind.BUSY), LaneOutcome.LEFT, *before, error.message)
    except WorkstreamError as error:
        said = f"{error.message}. {error.hint}" if error.hint else error.message
        return _with(lane, LaneOutcome.FAILED, *before, said)
    except Exception as error:  # noqa: BLE001 - one lane's accident must not stop the others
        said = f"unexpected {type(error).__name__}: {error}"
        return _with(lane, LaneOutcome.FAILED, *before, said)
    return _with(lane, outcome, *before)


def _with(lane: FoundLane, outcome: LaneOutcome, *concerns: str) -> FoundLane:
    """Return a lane with what became of it."""
    said = dict.fromkeys([*lane.concerns, *map(redact, concerns)])
    return replace(lane, outcome=outcome, concerns=tuple(said))


def _runtime(traces: Traces) -> WorkstreamRuntime:
    """Return the lane's runtime as its record has it; its names are the lane's own."""
    lane = traces.lane
    runtime = WorkstreamRuntime(WorkstreamSpec(lane.workstream_id))
    if traces.record.claim is not None:
        with suppress(WorkstreamError):
            runtime = WorkstreamRuntime.load(lane.signal_dir)
            runtime.spec = replace(runtime.spec, id=lane.workstream_id)
    runtime.state = WorkstreamState(
        signal_dir=lane.signal_dir if traces.record.claim is not None else None,
        worktree_path=lane.worktree_path,
        branch_name=lane.branch,
        error=runtime.state.error,
        base_commit=runtime.state.base_commit,
    )
    return runtime


def _unchanged(traces: Traces, means: _Means) -> Callable[[], None]:
    """Return a check, for when the lane is held, that it still is what was judged."""

    def check() -> None:
        lane, repository = traces.lane, means.repository
        names = (lane.graph, lane.workstream_id)
        tip = repository.resolve(lane.branch_ref) if traces.tip else None
        now = look(repository, names, run_dir=means.run_dir, tip=tip)
        if now != traces or (tip is None and repository.resolve(lane.branch_ref) is not None):
            message = f"lane '{lane}' changed while it was looked at"
            raise LaneBusyError(message, waited_s=0.0, hint="Somebody is working on it: repeat.")

    return check


def _complete(traces: Traces, way: Way, means: _Means, runtime: WorkstreamRuntime) -> LaneOutcome:
    """Prepare a lane again."""
    del way
    check_branch_name(runtime.spec.base_branch, kind="base branch")
    check_branch_name(runtime.spec.merge_target_branch, kind="merge target branch")
    provision(
        traces.lane,
        runtime,
        access=means.access,
        lane_timeout_s=means.lane_timeout_s,
        confirm=_unchanged(traces, means),
    )
    return LaneOutcome.COMPLETED


def _remove(traces: Traces, way: Way, means: _Means, runtime: WorkstreamRuntime) -> LaneOutcome:
    """Tear a lane down."""
    result = clean_up(
        traces.lane,
        runtime,
        access=means.access,
        api=means.api,
        lane_timeout_s=means.lane_timeout_s,
        ignored_limit_bytes=means.ignored_limit_bytes,
        confirm=_unchanged(traces, means),
    )
    failures = set(result.failures)
    if way.remote_tip is not None and not traces.record.owns(way.remote_tip):
        # Another clone's branch is not ours to remove: it stays, and a concern says so.
        failures.discard(DELETE_REMOTE_BRANCH)
    if failures:
        return LaneOutcome.FAILED
    return LaneOutcome.REMOVED if result.branches_stay is None else LaneOutcome.KEPT


def _sweep(
    repository: OpenRepository, concerns: list[str], *, dry_run: bool
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Remove what belongs to no lane; return what was found, and what of it is stuck."""
    trash_dir = trash_dir_of(repository.path)
    if trash_dir.is_symlink() or trash_dir.parent.is_symlink():
        concerns.append(f"'{trash_dir}' leads elsewhere, and was not swept")
        return (), ()
    found = tuple(find_leftovers(repository, trash_dir=trash_dir))
    if not found or dry_run:
        return found, ()
    try:
        remove_leftovers(repository, trash_dir=trash_dir)
    except (WorkstreamError, OSError) as error:
        concerns.append(f"what killed processes left could not be removed: {error}")
    return found, tuple(path for path in found if path.exists())
