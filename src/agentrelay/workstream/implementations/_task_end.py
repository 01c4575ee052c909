"""Finishing a task: proving that its lane has all of it, and deleting its branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrelay.workstream._git.config import drop_upstream
from agentrelay.workstream._git.failures import is_torn, repository_failures
from agentrelay.workstream._git.history import with_history
from agentrelay.workstream._git.locks import reading
from agentrelay.workstream._git.refs import delete_ref, release_dead_lock
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.errors import LaneConflictError
from agentrelay.workstream.implementations._refusals import checked_out_at
from agentrelay.workstream.implementations._task_branches import (
    TaskNames,
    drop_records,
    is_in_lane,
    names_of,
    refuse_others,
    tasks_lock,
)
from agentrelay.workstream.implementations._workspace import held, tip_of
from agentrelay.workstream.implementations._workspace_exchange import remote_of

if TYPE_CHECKING:
    from agentrelay.workstream.implementations.workstream_workspace import LaneWorkspace

__all__ = ["finish"]


def finish(workspace: LaneWorkspace, task_id: str, *, is_everywhere: bool) -> tuple[str, ...]:
    """Delete a task's branch; see ``LaneWorkspace.finish_task``.

    Raises:
        WorkstreamError: As documented there.
    """
    names = names_of(workspace._lane, task_id)  # noqa: SLF001 - the other half of the class
    deleted: list[str] = []
    with held(workspace, f"finish task '{task_id}'") as (repository, lane):
        refuse_others(repository, lane, names)
        where = checked_out_at(repository, names.ref)
        if where is not None:
            raise LaneConflictError(
                f"the branch '{names.branch}' is checked out at '{where}'",
                obstacle=where,
                hint="Switch that checkout to another branch, then finish the task again.",
            )
        history, tip = with_history(repository), tip_of(repository, lane)
        here = repository.resolve(names.ref)
        if here is not None:
            _refuse_unmerged(history, lane, names, here, tip=tip, where="here")
        if is_everywhere:
            deleted += _delete_there(workspace, repository, lane, names, tip=tip)
        with tasks_lock(workspace, repository):
            release_dead_lock(repository, names.ref)
            if here is not None and delete_ref(repository, names.ref, expected=here):
                deleted.append(names.ref)
            if repository.resolve(names.ref) is None:
                drop_upstream(repository, names.branch)
                drop_records(repository, names)
                release_dead_lock(repository, names.records + lane.workstream_id)
    return tuple(deleted)


def _delete_there(
    workspace: LaneWorkspace,
    repository: OpenRepository,
    lane: Lane,
    names: TaskNames,
    *,
    tip: str,
) -> list[str]:
    """Delete the remote's branch; return its remote-tracking ref if there was one."""
    remote, history = remote_of(workspace, lane), with_history(repository)
    there = remote.fetch([names.branch])[names.branch]
    tracking = remote.tracking_ref(names.branch)
    if there is not None:
        where = f"at '{remote.url}'"
        _refuse_unmerged(history, lane, names, there, tip=tip, where=where)
        remote.delete(names.branch, expected=there)
        return [tracking]
    release_dead_lock(repository, tracking)
    # Whoever deleted it there may have been stopped before this one.
    seen = repository.resolve(tracking)
    with repository_failures(f"compare task '{names.task_id}' with its lane", path=history.path):
        if seen is not None and reading(lambda: is_in_lane(history, seen, tip), torn=is_torn):
            delete_ref(repository, tracking, expected=seen)
    return []


def _refuse_unmerged(
    history: OpenRepository, lane: Lane, names: TaskNames, commit_id: str, *, tip: str, where: str
) -> None:
    """Refuse to delete what is not in the lane."""
    with repository_failures(f"compare task '{names.task_id}' with its lane", path=history.path):
        merged = reading(lambda: is_in_lane(history, commit_id, tip), torn=is_torn)
    if not merged:
        raise LaneConflictError(
            f"the branch '{names.branch}' {where} (at {commit_id[:12]}) has commits that are not "
            f"in lane '{lane}'; it is kept",
            obstacle=names.ref,
            hint="Merge it first: merge_task(). To drop it for good, delete the branch yourself.",
        )
