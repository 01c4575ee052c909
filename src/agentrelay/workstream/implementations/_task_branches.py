"""Starting and listing the branches of tasks, step by step.

A ref below ``refs/agentrelay/tasks/<graph>/<task>/`` says from which lane a task was started,
and from which commit: two lanes that were cut from one commit cannot be told apart by
ancestry. It is written by whoever created the branch, right after that.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from agentrelay.workstream._git.failures import is_torn, repository_failures
from agentrelay.workstream._git.history import with_history
from agentrelay.workstream._git.locks import hold, reading
from agentrelay.workstream._git.proof import is_superseded
from agentrelay.workstream._git.refs import (
    create_ref,
    delete_ref,
    refs_below,
    release_dead_lock,
    tips_below,
)
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.scratch import keep_objects_in_memory
from agentrelay.workstream._git.tree_status import tips_apart
from agentrelay.workstream._lane import (
    BRANCH_PREFIX,
    Lane,
    same_on_some_file_system,
    split_task_branch,
    task_branch,
    task_prefix,
)
from agentrelay.workstream._steps import Step
from agentrelay.workstream.errors import LaneConflictError, LaneNameError
from agentrelay.workstream.implementations._workspace import held, standing, tip_of
from agentrelay.workstream.implementations._workspace_exchange import remote_of
from agentrelay.workstream.implementations.workstream_tasks import TaskBranch

if TYPE_CHECKING:
    from agentrelay.workstream.implementations.workstream_workspace import LaneWorkspace

__all__ = [
    "TaskNames",
    "drop_records",
    "is_in_lane",
    "list_tasks",
    "names_of",
    "refuse_others",
    "start",
    "task_diverged",
    "tasks_lock",
]

_HEADS: Final = "refs/heads/"


class TaskNames(NamedTuple):
    """The names of one task's refs.

    Attributes:
        task_id: Its id.
        branch: Short name of its branch.
        ref: Full name of its branch.
        records: Prefix of the refs that say whose it is.
    """

    task_id: str
    branch: str
    ref: str
    records: str


def names_of(lane: Lane, task_id: str) -> TaskNames:
    """Return the names of a task's refs.

    Raises:
        LaneNameError: The id cannot be a branch's, or is the lane's own.
    """
    branch = task_branch(lane.graph, task_id)
    if task_id.casefold() == lane.workstream_id.casefold():
        rule = f"'{branch}' would be where the lane's own branch has its directory"
        raise LaneNameError(
            f"task '{task_id}' cannot be beside lane '{lane}': {rule}",
            name=task_id,
            rule=rule,
            hint="Give the task another id than the workstream's.",
        )
    return TaskNames(task_id, branch, _HEADS + branch, task_prefix(lane.graph, task_id))


def start(workspace: LaneWorkspace, task_id: str, *, is_pushed: bool) -> TaskBranch:
    """Start a task; see ``LaneWorkspace.start_task``.

    Raises:
        WorkstreamError: As documented there.
    """
    names = names_of(workspace._lane, task_id)  # noqa: SLF001 - the other half of the class
    with held(workspace, f"start task '{task_id}'") as (repository, lane):
        with (
            repository_failures(f"start task '{task_id}'", path=repository.path),
            tasks_lock(workspace, repository),
        ):
            _refuse_twins(repository, lane, names)
            _create(repository, lane, names)
        if is_pushed:
            _push(workspace, repository, lane, names)
        return _look(workspace, repository, lane, names)


def tasks_lock(
    workspace: LaneWorkspace, repository: OpenRepository
) -> AbstractContextManager[None]:
    """Hold all tasks of the repository for a short local section, within a lane's own lock.

    Two lanes may want the same one, and its branch and the ref that says whose it is are two.
    """
    return hold(
        repository.own_dir / "tasks.lock",
        what=f"the tasks of '{repository.path}'",
        timeout_s=workspace.lane_timeout_s,
    )


def _refuse_twins(repository: OpenRepository, lane: Lane, names: TaskNames) -> None:
    """Refuse a name that differs by case only from another one of the graph's."""
    prefix = f"{_HEADS}{BRANCH_PREFIX}{lane.graph}/"
    for ref in refs_below(repository, prefix):
        other = ref.removeprefix(prefix).partition("/")[0]
        if same_on_some_file_system(names.task_id, other):
            raise LaneConflictError(
                f"'{ref}' is there, and differs from '{names.ref}' by case only",
                obstacle=ref,
                hint="Give the task another id; case does not tell refs apart everywhere.",
            )


def _create(repository: OpenRepository, lane: Lane, names: TaskNames) -> None:
    """Create the branch, or make sure that the one that is there is the lane's."""
    tip, own = tip_of(repository, lane), names.records + lane.workstream_id
    release_dead_lock(repository, names.ref)
    message = f"branch: Created from {lane.branch}"
    if create_ref(repository, names.ref, tip, message=message):
        # What an earlier life of the name left says nothing any more.
        drop_records(repository, names, besides=own)
    else:
        refuse_others(repository, lane, names)
        if repository.resolve(own) is not None:
            return
        there, history = repository.resolve(names.ref), with_history(repository)
        # What has nothing of its own is nobody's: whoever made it was stopped right after.
        if there is None or not (history.contains(tip, there) or history.contains(there, tip)):
            raise LaneConflictError(
                f"the branch '{names.branch}' is there already, does not go on from lane "
                f"'{lane}', and nothing says that it was started from it",
                obstacle=names.ref,
                hint="Give the task another id, or look at that branch and delete it.",
            )
    create_ref(repository, own, tip, message=f"task started from {lane.branch}")


def refuse_others(repository: OpenRepository, lane: Lane, names: TaskNames) -> None:
    """Refuse a task that was started from another lane.

    Raises:
        LaneConflictError: It was.
    """
    for record in refs_below(repository, names.records):
        owner = Lane.of(lane.repo_path, lane.graph, record.removeprefix(names.records))
        # Of a lane that is gone, nobody else could look after its tasks.
        if owner.branch == lane.branch or repository.resolve(owner.branch_ref) is None:
            continue
        raise LaneConflictError(
            f"task '{names.task_id}' was started from lane '{owner}', not from '{lane}'",
            obstacle=names.ref,
            hint="Merge and finish it there, or give this task another id.",
        )


def drop_records(repository: OpenRepository, names: TaskNames, *, besides: str = "") -> None:
    """Delete the refs that say whose a task is, but for one."""
    for ref, tip in tips_below(repository, names.records).items():
        if ref != besides and tip is not None:
            delete_ref(repository, ref, expected=tip)


def _push(
    workspace: LaneWorkspace, repository: OpenRepository, lane: Lane, names: TaskNames
) -> None:
    """Bring the branch to the remote, forward only."""
    remote, history = remote_of(workspace, lane), with_history(repository)
    tip = repository.resolve(names.ref)
    there = remote.fetch([names.branch])[names.branch]
    if tip is None or (there is not None and history.contains(tip, there)):
        return
    if there is not None and not history.contains(there, tip):
        raise task_diverged(names, here=tip, there=there, url=remote.url)
    remote.push(names.branch, tip, expected=there)


def task_diverged(names: TaskNames, *, here: str, there: str, url: str) -> LaneConflictError:
    """Both sides of a task's branch have commits the other lacks."""
    return LaneConflictError(
        f"the branch '{names.branch}' has diverged: here {here[:12]}, at '{url}' {there[:12]}",
        obstacle=names.ref,
        hint="Bring both together where the task is worked on, then repeat.",
    )


def list_tasks(workspace: LaneWorkspace) -> tuple[TaskBranch, ...]:
    """Return the tasks; see ``LaneWorkspace.tasks``.

    Raises:
        WorkstreamError: As documented there.
    """
    repository, _ = standing(workspace._lane)  # noqa: SLF001 - the other half of the class
    lane = workspace._lane  # noqa: SLF001 - the other half of the class
    tracking = f"refs/remotes/{workspace.remote}/"
    with Step("look"), repository_failures("list tasks", path=repository.path):
        below = f"{BRANCH_PREFIX}{lane.graph}/"
        found = reading(
            lambda: tips_below(repository, _HEADS + below, tracking + below), torn=is_torn
        )
        ids: set[str] = set()
        for ref in found:
            task = split_task_branch(ref.removeprefix(_HEADS).removeprefix(tracking))
            if task is not None and task[1].casefold() != lane.workstream_id.casefold():
                ids.add(task[1])
        listed: list[TaskBranch] = []
        for task_id in sorted(ids):
            names = names_of(lane, task_id)
            with suppress(LaneConflictError):
                refuse_others(repository, lane, names)
                listed.append(_look(workspace, repository, lane, names))
        return tuple(listed)


def _look(
    workspace: LaneWorkspace, repository: OpenRepository, lane: Lane, names: TaskNames
) -> TaskBranch:
    """Return where a task's branch stands."""

    def attempt() -> TaskBranch:
        history, tip = with_history(repository), tip_of(repository, lane)
        here = history.resolve(names.ref)
        there = history.resolve(f"refs/remotes/{workspace.remote}/{names.branch}")
        commit_id = here or there
        apart = None if commit_id is None else tips_apart(history, commit_id, tip)
        return TaskBranch(
            names.task_id,
            names.branch,
            here,
            there,
            ahead=0 if apart is None else apart.ahead,
            behind=0 if apart is None else apart.behind,
            is_merged=commit_id is not None and is_in_lane(history, commit_id, tip),
        )

    with repository_failures(f"look at task '{names.task_id}'", path=repository.path):
        return reading(attempt, torn=is_torn)


def is_in_lane(history: OpenRepository, commit_id: str, tip: str) -> bool:
    """Return whether a task's work is in the lane, looked at in memory."""
    # What is compared by content is merged, and a merge writes files.
    return history.contains(commit_id, tip) or is_superseded(_scratched(history), commit_id, [tip])


def _scratched(repository: OpenRepository) -> OpenRepository:
    """Return a fresh handle that writes no object to the disk."""
    fresh = with_history(repository)
    keep_objects_in_memory(fresh)
    return fresh
