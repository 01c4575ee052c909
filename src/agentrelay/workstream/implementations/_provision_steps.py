"""The steps of preparing a lane, each of which looks at what is there and does what is missing.

One lane takes them one after the other; a batch of lanes takes each for all of them, and
has the network and the configuration in between to itself once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from agentrelay.workstream._git.exclude import exclude_lane_directories
from agentrelay.workstream._git.refs import create_ref, delete_ref
from agentrelay.workstream._git.remotes import RefUpdate, RemoteEnd
from agentrelay.workstream._git.repository import OpenRepository, refuse_links
from agentrelay.workstream._git.trash import set_aside, unlink_tree
from agentrelay.workstream._git.worktree_entries import (
    Entry,
    entry_at,
    last_logged,
    read_entry,
)
from agentrelay.workstream._git.worktrees import (
    check_out,
    clear_operation,
    link_worktree,
    refuse_foreign_files,
    relink_worktree,
    remove_entry,
    repair_entry,
    unlock_entry,
)
from agentrelay.workstream._lane import Lane
from agentrelay.workstream._steps import Step
from agentrelay.workstream.core.runtime import WorkstreamRuntime, record_concern
from agentrelay.workstream.errors import (
    LaneConflictError,
    LaneNameError,
    LeaseLostError,
    PushRejectedError,
    WorkstreamError,
)
from agentrelay.workstream.implementations._earlier_life import keep_entry, keep_files
from agentrelay.workstream.implementations._lane_record import (
    LaneRecord,
    forget_place,
    lane_lock,
    note_place,
    read_lane_record,
    retire_signals,
)
from agentrelay.workstream.implementations._preflight import (
    choose_base,
    refuse_case_collisions,
    refuse_obstacles,
)
from agentrelay.workstream.implementations._refusals import (
    diverged,
    locked_and_absent,
    moved,
    other_checkout,
)

__all__ = [
    "Provision",
    "begin",
    "branches_of",
    "check_own_base",
    "finish",
    "look_around",
    "make",
    "missing_push",
    "undo",
]


@dataclass
class Provision:
    """One run of the steps; holds what several of them read.

    Attributes:
        lane: Names and paths.
        runtime: The runtime that is being filled in.
        repository: Open handle.
        remote: Where the lane is pushed.
        record: The lane's record as it is on disk.
        is_known: Whether an earlier run recorded that the lane is ours.
        tell: Whom to tell how far the files are.
        remote_tip: Commit the remote had the lane's branch at, if it had one.
        created_branch_at: Commit this run created the branch at, if it did.
        created_entry: Entry this run made, if it did.
    """

    lane: Lane
    runtime: WorkstreamRuntime
    repository: OpenRepository
    remote: RemoteEnd
    record: LaneRecord
    is_known: bool
    tell: Callable[[int, int, int], None] | None = None
    remote_tip: str | None = None
    created_branch_at: str | None = None
    created_entry: Entry | None = None


def check_own_base(lane: Lane, runtime: WorkstreamRuntime) -> None:
    """Refuse a lane whose base or target is its own branch.

    Raises:
        LaneNameError: That is so.
    """
    if lane.branch in {runtime.spec.base_branch, runtime.spec.merge_target_branch}:
        rule = "a lane cannot be its own base or target"
        message = f"'{lane.branch}' is the branch of lane '{lane}' itself: {rule}"
        raise LaneNameError(
            message, name=lane.branch, rule=rule, hint="Name another base or target branch."
        )


def look_around(repository: OpenRepository, lane: Lane, *, lane_timeout_s: float) -> None:
    """Refuse what is plainly in the way; nothing is changed and no network is used.

    Raises:
        LaneConflictError: Something is.
        LaneBusyError: Something is, and another process is working on the lane.
    """
    refuse_links(lane.worktree_path, below=lane.repo_path)
    if lane.signal_dir.is_relative_to(lane.repo_path):
        refuse_links(lane.signal_dir, below=lane.repo_path)
    else:
        # A run directory elsewhere is the caller's choice; what is below it is not.
        refuse_links(lane.signal_dir, below=lane.signal_dir.parent.parent)
    try:
        refuse_obstacles(repository, lane)
    except LaneConflictError:
        # Or another process is just taking the lane down, and this was half of it.
        with lane_lock(repository, lane, timeout_s=lane_timeout_s):
            refuse_obstacles(repository, lane)


def begin(
    lane: Lane,
    runtime: WorkstreamRuntime,
    repository: OpenRepository,
    remote: RemoteEnd,
    *,
    tell: Callable[[int, int, int], None] | None = None,
) -> Provision:
    """Read what is on record of a lane that is held.

    ``tell`` is called with files done, files in all and bytes done, and must not raise.

    Raises:
        LaneConflictError: The signal directory is another lane's, or another repository's.
    """
    record = read_lane_record(repository, lane)
    return Provision(lane, runtime, repository, remote, record, record.is_ours, tell)


def branches_of(run: Provision) -> list[str]:
    """Return the branches :func:`make` wants to know the remote's side of."""
    return list(dict.fromkeys([run.runtime.spec.base_branch, run.lane.branch]))


def make(run: Provision, there: Mapping[str, str | None]) -> None:
    """Make the lane as far as this machine goes: record, branch, worktree, files.

    Args:
        run: The lane, held.
        there: Where the remote has the branches of :func:`branches_of`.

    Raises:
        WorkstreamError: As ``GitWorkstreamPreparer.prepare_workstream`` documents.
    """
    lane, runtime, repository = run.lane, run.runtime, run.repository
    spec = runtime.spec
    remote_tip = run.remote_tip = there[lane.branch]
    tip = repository.resolve(lane.branch_ref)
    entry = entry_at(repository, lane.worktree_path)
    if remote_tip is not None:
        _refuse_foreign_remote_branch(run, remote_tip, stands=bool(tip or entry))
    base = choose_base(repository, runtime, remote_base=there[spec.base_branch], url=run.remote.url)

    with repository.metadata_section():
        refuse_case_collisions(lane)
        if tip is not None and tip != base and entry is None and not run.is_known:
            # Before anything is on record: the next try would take the record's word for it.
            raise other_checkout(lane, repository, besides=None) or _foreign_branch(run, tip)
        for directory in (lane.signal_dir, lane.worktrees_dir):
            # Taken: a lane whose name differs only by case comes too late. What fails here
            # fails below, in words.
            with suppress(OSError):
                directory.mkdir(parents=True, exist_ok=True)
    # Not in that section: these wait for the disk, and all other lanes would wait with them.
    if tip is None and entry is None and remote_tip is None:
        # Nothing stands: whatever the signals say is of an earlier run.
        retire_signals(runtime, lane)
    with Step("branch"):
        start = _start(run, tip, entry, remote_tip, base)
        _record_names(run, base, remote_tip)
        _ensure_branch(run, tip, entry, start=start)
    with Step("worktree"), repository.metadata_section():
        exclude_lane_directories(repository)
        entry = _ensure_entry(run, entry)
        repair_entry(repository, entry)
    if entry.is_half_made:
        if run.created_entry is None:
            keep_files(repository, lane, runtime, entry)
            clear_operation(entry)
        made_in = None if run.created_entry is None else (repository, entry)
        check_out(lane.worktree_path, made_in=made_in, tell=run.tell)
        unlock_entry(entry)


def missing_push(run: Provision) -> RefUpdate | None:
    """Return the push that gives the remote the lane's branch, ``None`` where it has it.

    Raises:
        LaneConflictError: Both sides have commits the other lacks.
    """
    lane, repository, remote_tip = run.lane, run.repository, run.remote_tip
    tip = repository.resolve(lane.branch_ref)
    assert tip is not None

    def announce() -> None:
        # Only from here on can the branch at the remote be ours.
        run.record = run.record.write(lane, attempt=tip)

    if remote_tip is None:
        return RefUpdate(lane.branch, tip, None, announce)
    if not (repository.contains(remote_tip, tip) or repository.contains(tip, remote_tip)):
        raise diverged(lane, here=tip, there=remote_tip, url=run.remote.url)
    return None


def finish(run: Provision) -> None:
    """Hand the lane out: it is pushed, and its branch tracks the remote's."""
    run.record = run.record.write(run.lane, claim="pushed")
    artifacts = run.runtime.artifacts
    artifacts.merge_pr_url = artifacts.merge_pr_url or _remembered_pull(run.lane)
    run.runtime.clear_failure()
    run.runtime.mark_pending()


def _remembered_pull(lane: Lane) -> str | None:
    """Return the pull request an adopted lane has, if its signals say so."""
    return WorkstreamRuntime.load(lane.signal_dir).artifacts.merge_pr_url


def _refuse_foreign_remote_branch(run: Provision, remote_tip: str, *, stands: bool) -> None:
    """One lane has one winner across machines: who created the remote branch."""
    if run.record.owns(remote_tip) or (stands and run.record.claim is None):
        return
    if run.record.claim == "wanted":
        run.record = run.record.write(run.lane, claim="lost")
    message = (
        f"the remote '{run.remote.url}' already has the branch '{run.lane.branch}' (at "
        f"{remote_tip[:12]}), and nothing here says that this repository pushed it"
    )
    raise LaneConflictError(
        message,
        obstacle=run.lane.branch_ref,
        hint="Another clone holds this lane, or left it behind. Tear it down there, delete "
        "the remote branch, or choose another id or graph name.",
    )


def _record_names(run: Provision, base: str, remote_tip: str | None) -> None:
    """Write down what the lane is before anything of it is made."""
    spec, lane, state = run.runtime.spec, run.lane, run.runtime.state
    note_place(run.repository, lane)
    run.record = run.record.write(
        lane,
        graph=lane.graph,
        workstream_id=spec.id,
        parent_workstream_id=spec.parent_workstream_id,
        base_branch=spec.base_branch,
        merge_target_branch=spec.merge_target_branch,
        branch_name=lane.branch,
        worktree_path=str(lane.worktree_path),
        base_commit=run.record.base_commit if run.is_known and run.record.base_commit else base,
        remote=run.remote.access.remote,
        # One that is there by now was found to be ours.
        claim="wanted" if remote_tip is None else "pushed",
        attempt=run.record.attempt if run.is_known else None,
        ending=None,
    )
    state.signal_dir = lane.signal_dir
    state.worktree_path = lane.worktree_path
    state.branch_name = lane.branch
    state.base_commit = run.record.base_commit


def _start(
    run: Provision, tip: str | None, entry: Entry | None, remote_tip: str | None, base: str
) -> str:
    """Return where the branch belongs if it has to be made."""
    if tip is not None:
        return tip
    if entry is not None:
        # Somebody deleted the branch under a live worktree: its own log knows the tip.
        last = last_logged(run.repository, entry)
        if last is not None:
            return last
    if remote_tip is not None:
        return remote_tip
    return run.record.base_commit or base if entry is not None else base


def _ensure_branch(run: Provision, tip: str | None, entry: Entry | None, *, start: str) -> None:
    """Create the branch, or make sure that the existing one is this lane's."""
    lane, repository = run.lane, run.repository
    if tip is None:
        if create_ref(repository, lane.branch_ref, start, message=f"lane {lane}: created"):
            run.created_branch_at = start
            return
        # Made meanwhile by somebody who does not know our lock.
        tip = repository.resolve(lane.branch_ref)
        if tip != start and entry is None and not run.is_known:
            run.record = run.record.write(lane, claim=None)
            raise _foreign_branch(run, tip)


def _foreign_branch(run: Provision, tip: str | None) -> LaneConflictError:
    """Return the refusal of a branch that nobody recorded."""
    return LaneConflictError(
        f"the branch '{run.lane.branch}' exists (at {str(tip)[:12]}) and nothing here says "
        "that it is this lane's",
        obstacle=run.lane.branch_ref,
        hint="Look at its commits. If they are not needed, tear the lane down, then prepare.",
    )


def _ensure_entry(run: Provision, entry: Entry | None) -> Entry:
    """Make or repair the worktree's entry; call it in a metadata section."""
    lane, repository = run.lane, run.repository
    if entry is not None:
        return entry
    ours = read_entry(repository.worktrees_admin_dir / lane.admin_name)
    if run.created_branch_at is None or ours is not None:
        refusal = other_checkout(lane, repository, besides=ours)
        if refusal is not None:
            raise refusal
    if ours is not None and ours.worktree_path is not None and ours.head_ref == lane.branch_ref:
        if ours.is_live:
            raise moved(lane, ours)
        # The folder was deleted, or the whole repository was moved.
        refusal = locked_and_absent(lane, ours)
        if refusal is not None:
            raise refusal
        return relink_worktree(repository, lane.worktree_path, ours)
    if ours is not None:
        # Half made by a crash or by libgit2, or left on another commit with its folder gone.
        refuse_foreign_files(repository, lane.worktree_path, admin_name=lane.admin_name)
        keep_entry(repository, lane, run.runtime, ours)
        remove_entry(repository, ours)
    made = link_worktree(
        repository, lane.worktree_path, branch_ref=lane.branch_ref, admin_name=lane.admin_name
    )
    run.created_entry = made
    return made


def undo(run: Provision, error: WorkstreamError) -> None:
    """Take back what this run made, where the next prepare could not complete it.

    A refused or failed push leaves the lane for the next try. A lost race or files that
    cannot be written leave nothing behind.
    """
    lane, repository = run.lane, run.repository
    lost = isinstance(error, LeaseLostError)
    if isinstance(error, PushRejectedError) and not lost:
        # The server said no: whatever the remote has under that name is not ours.
        with suppress(WorkstreamError):
            run.record = run.record.write(lane, attempt=None)
    now = entry_at(repository, lane.worktree_path)
    complete = now is not None and not now.is_half_made
    if complete and not lost:
        return
    try:
        if lost:
            run.record = run.record.write(lane, claim="lost")
            forget_place(repository, lane)
        aside = None
        with repository.metadata_section():
            if run.created_entry is not None:
                aside = set_aside(lane.worktree_path, trash_dir=lane.trash_dir)
                remove_entry(repository, run.created_entry)
            # Taken for the lane's name, and empty again; under the lock, since another lane
            # may be about to use the upper ones.
            for directory in (lane.signal_dir, lane.worktrees_dir, lane.worktrees_dir.parent):
                with suppress(OSError):
                    directory.rmdir()
        if run.created_branch_at is not None:
            delete_ref(repository, lane.branch_ref, expected=run.created_branch_at)
        unlink_tree(aside)
    except (WorkstreamError, OSError) as failed:
        record_concern(run.runtime, f"a failed prepare left something behind: {failed}")
