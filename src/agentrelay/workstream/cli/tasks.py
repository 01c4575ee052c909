"""The commands that bring branches together in a lane: ``lane task`` and ``lane sync``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

import agentrelay.workstream as library
from agentrelay.workstream.cli.options import DEBUG, JSON, output_options
from agentrelay.workstream.cli.workspace import (
    EPILOG,
    SHORT,
    connected,
    in_option,
    remote_option,
    say,
    ssh_key_option,
)

if TYPE_CHECKING:
    from agentrelay.workstream import MergeConflictError, PathConflict, SyncResult, TaskBranch

__all__ = ["sync", "task"]

_message = click.option("-m", "--message", help="Of the commit that is made, if one is.")
_author = click.option("--author", metavar="'NAME <ADDRESS>'", help="Who writes that commit.")
_KINDS: Final = {True: "merged", False: "not merged"}


@click.group()
def task() -> None:
    """Start tasks' branches off a lane, merge them into it, and finish them.

    A task's branch is agentrelay/GRAPH/TASK, beside the lanes of its graph.
    """


@task.command("start", epilog=EPILOG)
@click.argument("task_id", metavar="TASK")
@click.option("--push", is_flag=True, help="Create it at the remote too.")
@in_option
@remote_option
@ssh_key_option
@output_options
@click.pass_context
def _start(context: click.Context, /, task_id: str, push: bool, **given: Any) -> None:  # noqa: FBT001 - click's signature
    """Create the branch of TASK where the lane is; a task that was started stays as it is."""
    started = connected(**given).start_task(task_id, push=push)
    say(context, dataclasses.asdict(started), [_line(started)])


@task.command("list", epilog=EPILOG)
@in_option
@output_options
@click.pass_context
def _list(context: click.Context, /, inside: Path, **_given: Any) -> None:
    """List the tasks that have a branch, with how far they are from the lane."""
    found = library.open_lane(inside).tasks()
    document = {"tasks": [dataclasses.asdict(one) for one in found]}
    say(context, document, [_line(one) for one in found] or ["no tasks"])


def _line(found: TaskBranch) -> str:
    tip = found.commit_id or found.remote_commit or ""
    return (
        f"{found.branch} at {tip[:SHORT]}: {found.ahead} ahead, {found.behind} behind, "
        f"{_KINDS[found.is_merged]}"
    )


@task.command("merge", epilog=EPILOG)
@click.argument("task_id", metavar="TASK")
@click.option(
    "--method",
    type=click.Choice(["merge", "squash", "rebase"]),
    default="merge",
    show_default=True,
    help="A merge commit, one commit, or the task's commits one by one.",
)
@_message
@_author
@click.option("--fetch", is_flag=True, help="Fetch the branch first; the newer one counts.")
@in_option
@remote_option
@ssh_key_option
@output_options
@click.pass_context
def _merge(
    context: click.Context,
    /,
    task_id: str,
    *,
    method: Any,
    message: str | None,
    author: str | None,
    fetch: bool,
    **given: Any,
) -> None:
    """Merge TASK into the lane; nothing changes where there is a conflict or a draft."""
    opened = connected(**given)
    try:
        made = opened.merge_task(task_id, method, message=message, author=author, fetch=fetch)
    except library.MergeConflictError as error:
        _give_up(context, error)
    words = "merged already" if made.already_merged else f"merged, at {made.commit_id[:SHORT]}"
    document = dataclasses.asdict(made) | {"already_merged": made.already_merged}
    say(context, document, [f"{task_id}: {words}"])


@task.command("finish", epilog=EPILOG)
@click.argument("task_id", metavar="TASK")
@click.option("--delete-remote", is_flag=True, help="Delete the remote's branch too.")
@in_option
@remote_option
@ssh_key_option
@output_options
@click.pass_context
def _finish(context: click.Context, /, task_id: str, delete_remote: bool, **given: Any) -> None:  # noqa: FBT001 - click's signature
    """Delete the branch of TASK, if all of it is in the lane."""
    deleted = connected(**given).finish_task(task_id, remote=delete_remote)
    lines = [f"deleted: {ref}" for ref in deleted]
    say(context, {"deleted": list(deleted)}, lines or ["nothing to delete"])


@click.command(epilog=EPILOG)
@click.option(
    "--method",
    type=click.Choice(["merge", "rebase"]),
    default="merge",
    show_default=True,
    help="Merge the base into the lane, or put what was not pushed yet on top of it.",
)
@_message
@_author
@click.option(
    "--leave-conflicts",
    is_flag=True,
    help="Leave a merge that has conflicts in progress in the worktree, to be resolved there.",
)
@click.option("--no-fetch", is_flag=True, help="Take the base as it was last seen.")
@in_option
@remote_option
@ssh_key_option
@output_options
@click.pass_context
def sync(
    context: click.Context,
    /,
    *,
    method: Any,
    message: str | None,
    author: str | None,
    leave_conflicts: bool,
    no_fetch: bool,
    **given: Any,
) -> None:
    """Bring the lane up to date with its base; nothing changes where there is a conflict."""
    opened = connected(**given)
    try:
        found = opened.sync(
            method,
            fetch=not no_fetch,
            message=message,
            author=author,
            leave_conflicts=leave_conflicts,
        )
    except library.MergeConflictError as error:
        _give_up(context, error)
    document = dataclasses.asdict(found) | {"up_to_date": found.up_to_date}
    say(context, document, _said(found))


def _said(found: SyncResult) -> list[str]:
    if found.conflicts:
        return [*map(_conflict, found.conflicts), "resolve these, then commit"]
    return [
        "up to date" if found.up_to_date else f"{found.method} done, at {found.commit_id[:SHORT]}"
    ]


def _give_up(context: click.Context, error: MergeConflictError) -> NoReturn:
    """End with what is in conflict, path by path, and the error."""
    from agentrelay.workstream.cli import report

    conflicts = () if error.preview is None else error.preview.conflicts
    if context.meta[JSON]:
        document = {"conflicts": [dataclasses.asdict(conflict) for conflict in conflicts]}
        report.print_document({"error": error.message, "hint": error.hint, **document})
    else:
        for conflict in conflicts:
            report.print_line(_conflict(conflict))
    report.print_failure(error.message, error.hint, failure=error if context.meta[DEBUG] else None)
    context.exit(1)


def _conflict(conflict: PathConflict) -> str:
    return f"conflicted {conflict.kind.value}: {conflict.path}"
