"""Merging a task's branch into its lane, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.errors import RepositoryError
from agentrelay.workstream.implementations._bench import Bench, Words, checked_words
from agentrelay.workstream.implementations._previewed import Side
from agentrelay.workstream.implementations._task_branches import (
    TaskNames,
    names_of,
    task_diverged,
)
from agentrelay.workstream.implementations._workspace import held
from agentrelay.workstream.implementations._workspace_exchange import refuse_operation, remote_of
from agentrelay.workstream.implementations.workstream_tasks import MergeMethod, TaskMerge

if TYPE_CHECKING:
    from agentrelay.workstream.implementations.workstream_workspace import LaneWorkspace

__all__ = ["merge_task"]


def merge_task(
    workspace: LaneWorkspace,
    task_id: str,
    method: MergeMethod,
    *,
    message: str | None,
    author: str | None,
    is_fetched: bool,
) -> TaskMerge:
    """Merge a task; see ``LaneWorkspace.merge_task``.

    Raises:
        WorkstreamError: As documented there.
    """
    words = checked_words(method, get_args(MergeMethod), message, author)
    names = names_of(workspace._lane, task_id)  # noqa: SLF001 - the other half of the class
    with held(workspace, f"merge task '{task_id}'") as (repository, lane):
        refuse_operation(lane, "merge the task again")
        source = _find(workspace, repository, lane, names, is_fetched=is_fetched)
        bench = Bench(workspace, repository, lane)
        made, is_certain = bench.tip, True
        dropped: tuple[str, ...] = ()
        if not bench.history.contains(source.commit_id, bench.tip):
            with bench.failures(f"merge task '{task_id}'"):
                made, dropped, is_certain = _make(bench, names, source, method, words)
        return TaskMerge(
            task_id,
            method,
            source.commit_id,
            bench.tip,
            made,
            bench.land(made, message=f"merge task {task_id}: {method}"),
            dropped,
            is_certain,
        )


def _find(
    workspace: LaneWorkspace,
    repository: OpenRepository,
    lane: Lane,
    names: TaskNames,
    *,
    is_fetched: bool,
) -> Side:
    """Return the task's branch that counts, and the commit it is at."""
    tracking = f"refs/remotes/{workspace.remote}/{names.branch}"
    here = repository.resolve(names.ref)
    if is_fetched:
        remote = remote_of(workspace, lane)
        there = remote.fetch([names.branch])[names.branch]
        if here is not None and there is not None and not repository.contains(there, here):
            if not repository.contains(here, there):
                raise task_diverged(names, here=here, there=there, url=remote.url)
            here = None
    else:
        there = repository.resolve(tracking)
    if here is not None:
        return Side(names.ref, here)
    if there is None:
        raise RepositoryError(
            f"there is no branch '{names.branch}' in '{repository.path}'",
            path=repository.path,
            hint="Start the task, or fetch its branch: merge_task(..., fetch=True), or --fetch.",
        )
    return Side(tracking, there)


def _make(
    bench: Bench, names: TaskNames, source: Side, method: MergeMethod, words: Words
) -> tuple[str, tuple[str, ...], bool]:
    """Return the commit the lane will be at, what is left out of it, and whether git agrees."""
    lane = bench.lane
    if method == "rebase":
        onto = Side(lane.branch_ref, bench.tip)
        done = bench.replay(source.commit_id, onto, f"rebase '{source.name}' onto '{lane.branch}'")
        return done.tip, tuple(done.dropped), done.is_certain
    merged = bench.merge(source)
    if method == "merge":
        default = f"Merge branch '{names.branch}' into {lane.branch}\n"
        parents: tuple[str, ...] = (bench.tip, source.commit_id)
    elif merged.tree_id == bench.tree_of(bench.tip):
        return bench.tip, (), merged.is_certain
    else:
        default = _squashed(bench, names, source)
        parents = (bench.tip,)
    return bench.commit(words, default, merged.tree_id, *parents), (), merged.is_certain


def _squashed(bench: Bench, names: TaskNames, source: Side) -> str:
    """Return the message of a squash: the only commit's own, or a list of them."""
    commits = bench.between(bench.tip, source.commit_id)
    if len(commits) == 1:
        (only,) = commits
        return f"{only.subject}\n\n{only.body}".rstrip() + "\n"
    listed = "".join(f"* {commit.subject}\n" for commit in commits)
    return f"Squash branch '{names.branch}'\n\n{listed}"
