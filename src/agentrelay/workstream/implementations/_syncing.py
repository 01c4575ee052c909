"""Bringing a lane up to date with its base, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agentrelay.workstream._git.merge_state import begin_merge, half_merge
from agentrelay.workstream._git.reflog import is_logged
from agentrelay.workstream._git.refs import create_ref
from agentrelay.workstream._git.rescue import new_stamp
from agentrelay.workstream.errors import LaneConflictError, MergeConflictError, RepositoryError
from agentrelay.workstream.implementations._bench import Bench, Words, checked_words
from agentrelay.workstream.implementations._previewed import Side
from agentrelay.workstream.implementations._workspace import held
from agentrelay.workstream.implementations._workspace_exchange import refuse_operation, remote_of
from agentrelay.workstream.implementations.workstream_tasks import SyncResult

if TYPE_CHECKING:
    from agentrelay.workstream.implementations.workstream_workspace import LaneWorkspace

__all__ = ["sync"]


def sync(
    workspace: LaneWorkspace,
    method: Literal["merge", "rebase"],
    *,
    is_fetched: bool,
    message: str | None,
    author: str | None,
    leaves_conflicts: bool,
) -> SyncResult:
    """Bring a lane up to date; see ``LaneWorkspace.sync``.

    Raises:
        WorkstreamError: As documented there.
    """
    words = checked_words(method, ("merge", "rebase"), message, author)
    if method == "rebase" and leaves_conflicts:
        raise RepositoryError(
            "a rebase is never left half done in a worktree",
            path=workspace.path,
            hint="Use the method 'merge', or leave leave_conflicts= out.",
        )
    with held(workspace, "bring the base in") as (repository, lane):
        refuse_operation(lane, "sync again")
        bench = Bench(workspace, repository, lane)
        base, there = _look(workspace, bench, is_fetched=is_fetched)
        if bench.history.contains(base.commit_id, bench.tip):
            return SyncResult(method, base.commit_id, bench.tip, bench.tip)
        with bench.failures(f"sync with '{base.name}'"):
            if method == "rebase":
                return _rebase(bench, base, there)
            return _merge(bench, base, words, leaves_conflicts=leaves_conflicts)


def _look(workspace: LaneWorkspace, bench: Bench, *, is_fetched: bool) -> tuple[Side, str | None]:
    """Return the base's branch that counts, and where the remote has the lane's branch."""
    branch = workspace.runtime.spec.base_branch
    prefix, history = f"refs/remotes/{workspace.remote}/", bench.history
    there = history.resolve(prefix + branch)
    of_lane = history.resolve(prefix + bench.lane.branch)
    if is_fetched:
        found = remote_of(workspace, bench.lane).fetch([branch, bench.lane.branch])
        there, of_lane = found[branch], found[bench.lane.branch] or of_lane
    here = history.resolve(f"refs/heads/{branch}")
    if here is not None and (there is None or history.contains(there, here)):
        return Side(f"refs/heads/{branch}", here), of_lane
    if there is None:
        raise RepositoryError(
            f"the base '{branch}' of '{bench.lane.branch}' is not known in "
            f"'{bench.repository.path}'",
            path=bench.repository.path,
            hint=f"Is it at '{workspace.remote}'? Fetch it from there.",
        )
    return Side(prefix + branch, there), of_lane


def _short(side: Side) -> str:
    return side.name.removeprefix("refs/heads/").removeprefix("refs/remotes/")


def _merge(bench: Bench, base: Side, words: Words, *, leaves_conflicts: bool) -> SyncResult:
    """Merge the base into the lane, or move forward to it."""
    default = f"Merge branch '{_short(base)}' into {bench.lane.branch}\n"
    made, is_certain = base.commit_id, True
    if not bench.history.contains(bench.tip, base.commit_id):
        try:
            merged = bench.merge(base)
        except MergeConflictError as error:
            left = _leave(bench, base, words.text or default, error) if leaves_conflicts else None
            if left is None:
                raise
            return left
        made = bench.commit(words, default, merged.tree_id, bench.tip, base.commit_id)
        is_certain = merged.is_certain
    commits = bench.land(made, message=f"sync: merge {_short(base)}")
    return SyncResult("merge", base.commit_id, bench.tip, made, commits, is_certain=is_certain)


def _leave(bench: Bench, base: Side, message: str, error: MergeConflictError) -> SyncResult | None:
    """Leave the merge in progress in the worktree; ``None`` where it cannot be."""
    preview = error.preview
    assert preview is not None
    half = half_merge(
        bench.view,
        bench.merges,
        source=base.commit_id,
        target=bench.tip,
        conflicts=preview.conflicts,
        label=_short(base),
    )
    if half is None:
        return None
    begin_merge(bench.repository, bench.view, bench.scratch, half, tip=bench.tip, message=message)
    return SyncResult(
        "merge",
        base.commit_id,
        bench.tip,
        bench.tip,
        conflicts=preview.conflicts,
        is_certain=preview.is_certain,
    )


def _rebase(bench: Bench, base: Side, of_lane: str | None) -> SyncResult:
    """Put the lane's commits on top of the base."""
    lane, history = bench.lane, bench.history
    if of_lane is not None and not history.contains(of_lane, base.commit_id):
        theirs = "others" if not history.contains(of_lane, bench.tip) else "the lane's"
        raise LaneConflictError(
            f"cannot rebase '{lane.branch}' onto '{_short(base)}': the remote has commits of "
            f"{theirs} on it already (at {of_lane[:12]}), and a push goes forward only",
            obstacle=lane.branch_ref,
            hint="Use the method 'merge'.",
        )
    done = bench.replay(bench.tip, base, f"rebase '{lane.branch}' onto '{_short(base)}'")
    kept: list[str] = []

    def keep() -> None:
        if not is_logged(bench.repository, lane.branch_ref):
            kept.append(_keep(bench))

    commits = bench.land(done.tip, message=f"sync: rebase onto {_short(base)}", before=keep)
    return SyncResult(
        "rebase",
        base.commit_id,
        bench.tip,
        done.tip,
        commits,
        tuple(done.dropped),
        next(iter(kept), None),
        is_certain=done.is_certain,
    )


def _keep(bench: Bench) -> str:
    """Keep the lane's commits as they are, where no reflog will lead to them."""
    ref = f"{bench.lane.rescue_prefix}{new_stamp()}/rebased"
    create_ref(bench.repository, ref, bench.tip, message="rescue: commits before a rebase")
    return ref
