"""The command that gives the lanes below a merged lane its target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agentrelay.workstream import (
    GhWorkstreamIntegrator,
    RetargetedChild,
    WorkstreamError,
    WorkstreamRuntime,
    retarget_children,
)
from agentrelay.workstream._redact import redact
from agentrelay.workstream.cli.lanes import Place, split_options
from agentrelay.workstream.cli.options import (
    DEBUG,
    JSON,
    NOTES,
    github_options,
    graph_option,
    ids_argument,
    output_options,
    remote_options,
    repository_options,
)

if TYPE_CHECKING:
    from agentrelay.workstream.cli.report import LaneReport

__all__ = ["retarget"]


@click.command(epilog=NOTES)
@ids_argument
@graph_option
@repository_options
@remote_options
@github_options
@output_options
@click.pass_context
def retarget(context: click.Context, /, ids: tuple[str, ...], **given: Any) -> None:
    """Let the lanes below a merged lane go where it went.

    Each ID is a lane that was merged; 'check' marks it so. Every lane of the graph that
    goes into its branch, or is cut from it, gets its target: the open pull request, what
    is on record, and the pull request's description, which says why. Commits stay as they
    are. Do this before 'teardown', which keeps a branch while a pull request goes into it.

    Repeating the command completes what was stopped.
    """
    from agentrelay.workstream.cli import report

    place, settings = split_options(given)
    integrator = GhWorkstreamIntegrator(place.repo, **settings)
    parents: list[LaneReport] = []
    children: list[list[RetargetedChild]] = []
    for name in dict.fromkeys(ids):
        parent = None
        try:
            parent = place.load(name)
            done = retarget_children(parent, _others(place, parent), integrator)
            parents.append(report.LaneReport.of(place.graph, parent))
        except Exception as error:  # noqa: BLE001 - each lane has a result of its own
            parents.append(
                report.LaneReport(place.graph, name, "failed", **_explained(error), failure=error)
                if parent is None
                else report.LaneReport.of(place.graph, parent, failure=error)
            )
            done = []
        children.append([child for child in done if _is_concerned(child)])
    if context.meta[JSON]:
        documents = [
            parent.document() | {"children": [_document(child) for child in below]}
            for parent, below in zip(parents, children, strict=True)
        ]
        report.print_document({"lanes": documents})
    else:
        rows = [
            [parent.id, *_row(child)]
            for parent, below in zip(parents, children, strict=True)
            for child in below
        ]
        headings = ["merged", "id", "was to go into", "goes into", "pull request", "note"]
        report.print_table(report.make_console(), headings, rows)
    failed = [
        *parents,
        *(
            report.LaneReport(
                place.graph,
                child.workstream_id,
                "failed",
                **_explained(child.error),
                failure=child.error,
            )
            for below in children
            for child in below
            if child.error is not None
        ),
    ]
    report.print_failures(failed, debug=context.meta[DEBUG])
    if any(lane.error is not None for lane in failed):
        context.exit(1)


def _others(place: Place, parent: WorkstreamRuntime) -> list[WorkstreamRuntime]:
    """Return the other lanes of the graph that are on disk, by name."""
    assert parent.state.signal_dir is not None
    lanes: list[WorkstreamRuntime] = []
    for signal_dir in sorted(parent.state.signal_dir.parent.iterdir()):
        if signal_dir.name == parent.spec.id or not signal_dir.is_dir():
            continue
        try:
            lanes.append(place.load(signal_dir.name))
        except WorkstreamError:
            # Another graph's, in a directory that both share; or none at all.
            continue
    return lanes


def _is_concerned(child: RetargetedChild) -> bool:
    """Tell whether there is anything to say about a lane."""
    return (
        child.changed
        or child.error is not None
        or child.reason is not None
        or child.pull_request_url is not None
    )


def _row(child: RetargetedChild) -> list[str]:
    note = child.reason or ""
    if child.error is not None:
        note = "failed"
    elif not child.changed and not note:
        note = "was done already"
    return [
        child.workstream_id,
        child.old_target,
        child.new_target,
        child.pull_request_url or "",
        note,
    ]


def _explained(error: Exception) -> dict[str, Any]:
    """Return what an error says, as a report has it."""
    from agentrelay.workstream.cli.report import explain

    message, hint = explain(error)
    return {"error": message, "hint": hint}


def _document(child: RetargetedChild) -> dict[str, Any]:
    """Return a child's entry in the JSON document, without secrets."""
    told = {"error": None, "hint": None} if child.error is None else _explained(child.error)
    document = {
        "id": child.workstream_id,
        "old_target": child.old_target,
        "new_target": child.new_target,
        "pull_request": child.pull_request_url,
        "changed": child.changed,
        "reason": child.reason,
        **told,
    }
    return {
        key: redact(value) if isinstance(value, str) else value for key, value in document.items()
    }
