"""The steps of preparing a lane, in an order that a crash anywhere cannot spoil.

Read first (repository, remote), then claim on disk (record), then branch, worktree,
files, push. Each step looks at what is there and does what is missing, so running the
whole again after a crash completes the lane.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agentrelay.workstream._git.config import set_upstream
from agentrelay.workstream._git.exclude import exclude_lane_directories
from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.lane import Lane, same_on_some_file_system
from agentrelay.workstream._git.locks import hold
from agentrelay.workstream._git.refs import create_ref, delete_ref
from agentrelay.workstream._git.remotes import RemoteAccess, RemoteEnd, open_remote
from agentrelay.workstream._git.repository import OpenRepository, open_repository, refuse_links
from agentrelay.workstream._git.rescue import Rescuer, describe, new_stamp
from agentrelay.workstream._git.worktrees import (
    Entry,
    check_out,
    entries,
    entry_at,
    git_file_target,
    last_logged,
    link_worktree,
    read_entry,
    relink_worktree,
    remove_entry,
    set_aside,
    unlink_tree,
    unlock_entry,
)
from agentrelay.workstream.core import _signals
from agentrelay.workstream.core.runtime import (
    WorkstreamRuntime,
    WorkstreamStatus,
    record_concern,
)
from agentrelay.workstream.credentials import TokenSource
from agentrelay.workstream.errors import (
    LaneConflictError,
    LaneNameError,
    PushRejectedError,
    RepositoryError,
    WorkstreamError,
)

__all__ = ["lane_lock", "provision"]

_FORMAT: Final = 1
# What the lane's record says of the remote branch.
WANTED: Final = "wanted"  # a push was about to be tried: the branch may be ours
PUSHED: Final = "pushed"  # it is ours
LOST: Final = "lost"  # somebody else created it first
RELEASED: Final = "released"  # the lane was torn down
_OURS: Final = (WANTED, PUSHED)


@dataclass
class _Provision:
    """One run of the steps; holds what several of them read.

    Attributes:
        lane: Names and paths.
        runtime: The runtime that is being filled in.
        repository: Open handle.
        remote: Where the lane is pushed.
        record: The lane's record as it is on disk.
        claim: What an earlier run recorded of the remote branch, ``None`` when nothing
            says that the lane is ours.
        created_branch_at: Commit this run created the branch at, if it did.
        created_entry: Entry this run made, if it did.
    """

    lane: Lane
    runtime: WorkstreamRuntime
    repository: OpenRepository
    remote: RemoteEnd
    record: dict[str, Any]
    claim: str | None
    created_branch_at: str | None = None
    created_entry: Entry | None = None


def lane_lock(repository: OpenRepository, lane: Lane, *, timeout_s: float) -> Any:
    """Hold one lane against every other thread and process; other lanes are free."""
    return hold(
        repository.own_dir / "lanes" / f"{lane.admin_name}.lock",
        what=f"lane '{lane}'",
        timeout_s=timeout_s,
    )


def provision(
    lane: Lane,
    runtime: WorkstreamRuntime,
    *,
    remote: str,
    token: TokenSource,
    ssh_key: Path | None,
    lane_timeout_s: float,
    network_timeout_s: float,
) -> None:
    """Prepare one lane; see ``GitWorkstreamPreparer.prepare_workstream``.

    Raises:
        WorkstreamError: As documented there.
    """
    repository = open_repository(lane.repo_path)
    refuse_links(lane.worktree_path, below=lane.repo_path)
    if lane.signal_dir.is_relative_to(lane.repo_path):
        refuse_links(lane.signal_dir, below=lane.repo_path)
    else:
        # A run directory elsewhere is the caller's choice; what is below it is not.
        refuse_links(lane.signal_dir, below=lane.signal_dir.parent.parent)
    _check_obstacles(repository, lane)
    access = RemoteAccess(remote=remote, token=token, ssh_key=ssh_key, deadline_s=network_timeout_s)
    end = open_remote(repository, access)
    with lane_lock(repository, lane, timeout_s=lane_timeout_s):
        record = _signals.read_record(lane.signal_dir) or {}
        ours = record.get("branch_name") == lane.branch
        if record and not ours and record.get("claim") != RELEASED:
            message = (
                f"'{lane.signal_dir}' holds the signals of another lane, "
                f"'{record.get('branch_name')}'"
            )
            raise LaneConflictError(
                message,
                obstacle=lane.signal_dir,
                hint="Give each graph a run_dir of its own, or tear that lane down.",
            )
        claim = record.get("claim") if ours and record.get("claim") in _OURS else None
        run = _Provision(lane, runtime, repository, end, record, claim)
        try:
            with repository_failures(f"prepare lane '{lane}'", path=repository.path):
                _run(run)
        except WorkstreamError as error:
            _undo(run, error)
            raise


def _run(run: _Provision) -> None:
    """Do the steps."""
    lane, runtime, repository = run.lane, run.runtime, run.repository
    spec = runtime.spec
    there = run.remote.fetch(list(dict.fromkeys([spec.base_branch, lane.branch])))
    remote_tip = there[lane.branch]
    tip = repository.resolve(lane.branch_ref)
    entry = entry_at(repository, lane.worktree_path)
    if tip is None and entry is None and remote_tip is not None and run.claim is None:
        _refuse_foreign_remote_branch(run, remote_tip)
    base = _base_commit(run, there[spec.base_branch])

    with repository.metadata_section():
        _refuse_twins(lane)
        if tip is None and entry is None and remote_tip is None:
            # Nothing stands: whatever the signals say is of an earlier run.
            _retire_signals(runtime, lane)
        _write_record(run, base, claim=run.claim or WANTED)
        runtime.state.signal_dir = lane.signal_dir
        runtime.state.worktree_path = lane.worktree_path
        runtime.state.branch_name = lane.branch
        runtime.state.base_commit = run.record["base_commit"]
        _ensure_branch(run, tip, entry, start=_start(run, tip, entry, remote_tip, base))
        exclude_lane_directories(repository)
        entry = _ensure_entry(run, entry)
    if entry.is_half_made:
        _keep_staged(run, entry)
        check_out(lane.worktree_path)
        unlock_entry(entry)
    _push(run, remote_tip)
    with repository.metadata_section():
        set_upstream(repository, lane.branch, remote=run.remote.access.remote)
    _write_record(run, base, claim=PUSHED)
    runtime.clear_failure()
    runtime.mark_pending()


def _check_obstacles(repository: OpenRepository, lane: Lane) -> None:
    """Refuse what is plainly in the way before the network is used."""
    path = lane.worktree_path
    if not os.path.lexists(path):
        return
    entry = entry_at(repository, path)
    if entry is not None:
        if entry.head_ref != lane.branch_ref:
            on = entry.head_ref or "a detached HEAD"
            doing = f" ({entry.operation} in progress)" if entry.operation else ""
            message = f"the worktree '{path}' is on {on}{doing}, not on '{lane.branch}'"
            raise LaneConflictError(
                message,
                obstacle=path,
                hint=f"Switch it back to '{lane.branch}', or tear the lane down.",
            )
        return
    if not path.is_dir():
        message = f"'{path}' is not a directory"
        raise LaneConflictError(message, obstacle=path, hint="Move or remove it.")
    others = sorted(name for name in os.listdir(path) if name != ".git")
    target = git_file_target(path)
    moved = (
        target is not None
        and target.name == lane.admin_name
        and not target.exists()
        and read_entry(repository.worktrees_admin_dir / lane.admin_name) is not None
    )
    if others and not moved:
        message = (
            f"'{path}' exists and is not a worktree of '{repository.path}' "
            f"(it holds {', '.join(repr(name) for name in others[:3])})"
        )
        raise LaneConflictError(
            message, obstacle=path, hint="Look at what it is, then move or remove it."
        )


def _refuse_foreign_remote_branch(run: _Provision, remote_tip: str) -> None:
    """One lane has one winner across machines: who created the remote branch."""
    message = (
        f"the remote '{run.remote.url}' already has the branch '{run.lane.branch}' (at "
        f"{remote_tip[:12]}), and this repository has no such lane"
    )
    raise LaneConflictError(
        message,
        obstacle=run.lane.branch_ref,
        hint="Another clone holds this lane, or left it behind. Tear it down there, delete "
        "the remote branch, or choose another id or graph name.",
    )


def _base_commit(run: _Provision, remote_base: str | None) -> str:
    """Return the commit to cut from: the newer side, the remote's where they diverge."""
    branch = run.runtime.spec.base_branch
    local_base = run.repository.resolve(f"refs/heads/{branch}")
    if remote_base is None and local_base is None:
        message = (
            f"the base branch '{branch}' exists neither at '{run.remote.url}' nor in "
            f"'{run.repository.path}'"
        )
        raise RepositoryError(
            message,
            path=run.repository.path,
            hint="Create and push it, or set the workstream's base_branch.",
        )
    if remote_base is None:
        assert local_base is not None
        return local_base
    if local_base is None or run.repository.contains(local_base, remote_base):
        return remote_base
    if run.repository.contains(remote_base, local_base):
        return local_base
    record_concern(
        run.runtime,
        f"base branch '{branch}' has diverged: local {local_base[:12]}, remote "
        f"{remote_base[:12]}; the lane was cut from the remote's",
    )
    return remote_base


def _refuse_twins(lane: Lane) -> None:
    """Refuse a lane whose name differs from another's only by case."""
    for directory, name, kind in (
        (lane.worktrees_dir.parent, lane.graph, "graph name"),
        (lane.worktrees_dir, lane.workstream_id, "workstream id"),
        (lane.signal_dir.parent, lane.workstream_id, "workstream id"),
    ):
        with suppress(FileNotFoundError, NotADirectoryError):
            for other in os.listdir(directory):
                if not same_on_some_file_system(name, other):
                    continue
                record = _signals.read_record(directory / other)
                if record is not None and record.get("claim") == RELEASED:
                    continue
                rule = "names must differ by more than case"
                message = (
                    f"{kind} '{name}' cannot name a lane: it differs from '{other}' in "
                    f"'{directory}' only by case"
                )
                raise LaneNameError(
                    message, name=name, rule=rule, hint="Choose a name that differs in letters."
                )


def _retire_signals(runtime: WorkstreamRuntime, lane: Lane) -> None:
    """Move the signals of an earlier run into the lane's history."""
    for status in WorkstreamStatus:
        text = _signals.read_signal(lane.signal_dir, status.value)
        if text is not None:
            _signals.append_history(lane.signal_dir, f"earlier {status.value}", text)
            _signals.remove_signal(lane.signal_dir, status.value)
    runtime.artifacts.merge_pr_url = None


def _write_record(run: _Provision, base: str, *, claim: str) -> None:
    """Write down what the lane is, so that any process can carry on."""
    spec, lane = run.runtime.spec, run.lane
    kept_base = run.record.get("base_commit") if run.claim else None
    record = {
        "format": _FORMAT,
        "graph": lane.graph,
        "workstream_id": spec.id,
        "parent_workstream_id": spec.parent_workstream_id,
        "base_branch": spec.base_branch,
        "merge_target_branch": spec.merge_target_branch,
        "branch_name": lane.branch,
        "worktree_path": str(lane.worktree_path),
        "base_commit": kept_base if isinstance(kept_base, str) else base,
        "remote": run.remote.access.remote,
        "claim": claim,
    }
    if record != run.record:
        _write(lane.signal_dir, record)
        run.record = record


def _write(signal_dir: Path, record: dict[str, Any]) -> None:
    """Write the record, translating what a disk can do to it."""
    try:
        _signals.write_record(signal_dir, record)
    except OSError as error:
        message = f"cannot write the lane's signals in '{signal_dir}': {error.strerror or error}"
        raise RepositoryError(
            message, path=signal_dir, hint="Is the directory writable, and the disk not full?"
        ) from error


def _start(
    run: _Provision, tip: str | None, entry: Entry | None, remote_tip: str | None, base: str
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
    return str(run.record.get("base_commit", base)) if entry is not None else base


def _ensure_branch(run: _Provision, tip: str | None, entry: Entry | None, *, start: str) -> None:
    """Create the branch, or make sure that the existing one is this lane's."""
    lane, repository = run.lane, run.repository
    if tip is None:
        if create_ref(repository, lane.branch_ref, start, message=f"lane {lane}: created"):
            run.created_branch_at = start
            return
        tip = repository.resolve(lane.branch_ref)
    if entry is not None or run.claim is not None or tip == start == run.record["base_commit"]:
        return
    message = (
        f"the branch '{lane.branch}' exists (at {str(tip)[:12]}) and nothing here says "
        "that it is this lane's"
    )
    raise LaneConflictError(
        message,
        obstacle=lane.branch_ref,
        hint="Look at its commits. If they are not needed, tear the lane down, then prepare.",
    )


def _ensure_entry(run: _Provision, entry: Entry | None) -> Entry:
    """Make or repair the worktree's entry; call it in a metadata section."""
    lane, repository = run.lane, run.repository
    if entry is not None:
        return entry
    ours = read_entry(repository.worktrees_admin_dir / lane.admin_name)
    if run.created_branch_at is None or ours is not None:
        _refuse_other_checkout(run, ours)
    if ours is not None and ours.worktree_path is not None and ours.head_ref == lane.branch_ref:
        if ours.is_live:
            message = f"lane '{lane}' was moved to '{ours.worktree_path}'"
            raise LaneConflictError(
                message,
                obstacle=ours.worktree_path,
                hint=f"Move it back to '{lane.worktree_path}', or tear the lane down.",
            )
        # The folder was deleted, or the whole repository was moved.
        return relink_worktree(repository, lane.worktree_path, ours)
    if ours is not None:
        # Half made by a crash or by libgit2, attached to nothing: it holds no work.
        remove_entry(repository, ours)
    made = link_worktree(
        repository, lane.worktree_path, branch_ref=lane.branch_ref, admin_name=lane.admin_name
    )
    run.created_entry = made
    return made


def _keep_staged(run: _Provision, entry: Entry) -> None:
    """Keep what was staged in a worktree whose folder somebody deleted.

    A checkout writes its index last, so an index here is not of an interrupted one.
    """
    if not (entry.admin_dir / "index").exists():
        return
    rescuer = Rescuer(run.repository, prefix=run.lane.rescue_prefix, stamp=new_stamp())
    rescuer.keep_staged(run.lane.worktree_path, entry)
    # What the index said beyond HEAD is safe; the new checkout starts from HEAD.
    (entry.admin_dir / "index").unlink()
    for kept in rescuer.kept:
        record_concern(run.runtime, f"the worktree's folder was gone: {describe(kept)}")


def _refuse_other_checkout(run: _Provision, ours: Entry | None) -> None:
    """Refuse a branch that is checked out somewhere else."""
    lane, repository = run.lane, run.repository
    where: Path | None = None
    for other in entries(repository):
        if other.head_ref == lane.branch_ref and other.is_live and other != ours:
            where = other.worktree_path
    head = (repository.common_dir / "HEAD").read_text().strip()
    if where is None and head == f"ref: {lane.branch_ref}":
        where = repository.common_dir
    if where is not None:
        message = f"the branch '{lane.branch}' is checked out at '{where}'"
        raise LaneConflictError(
            message, obstacle=where, hint="Switch that checkout to another branch."
        )


def _push(run: _Provision, remote_tip: str | None) -> None:
    """Give the remote the lane's branch where it has none."""
    tip = run.repository.resolve(run.lane.branch_ref)
    assert tip is not None
    if remote_tip is None:
        run.remote.push(run.lane.branch, tip, expected=None)
        return
    related = run.repository.contains(remote_tip, tip) or run.repository.contains(tip, remote_tip)
    if not related:
        message = (
            f"the lane's branch has diverged: here {tip[:12]}, at '{run.remote.url}' "
            f"{remote_tip[:12]}"
        )
        raise LaneConflictError(
            message,
            obstacle=run.lane.branch_ref,
            hint="Bring both together in the worktree by a merge or rebase, then repeat.",
        )


def _undo(run: _Provision, error: WorkstreamError) -> None:
    """Take back what this run made, where the next prepare could not complete it.

    A refused or failed push leaves the lane for the next try. A lost race or files that
    cannot be written leave nothing behind.
    """
    lane, repository = run.lane, run.repository
    lost = isinstance(error, PushRejectedError) and error.reason.startswith("stale info")
    now = entry_at(repository, lane.worktree_path)
    complete = now is not None and not now.is_half_made
    if complete and not lost:
        return
    try:
        if lost:
            _write(lane.signal_dir, {**run.record, "claim": LOST})
        grave = None
        with repository.metadata_section():
            if run.created_entry is not None:
                grave = set_aside(lane.worktree_path, trash_dir=lane.trash_dir)
                remove_entry(repository, run.created_entry)
            if run.created_branch_at is not None:
                delete_ref(repository, lane.branch_ref, expected=run.created_branch_at)
        unlink_tree(grave)
    except (WorkstreamError, OSError) as failed:
        record_concern(run.runtime, f"a failed prepare left something behind: {failed}")
