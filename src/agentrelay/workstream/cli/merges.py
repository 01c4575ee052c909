"""The commands that ask GitHub whether lanes were merged: check and watch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agentrelay.workstream import (
    GhIntegrationMergeChecker,
    MergeCheck,
    MergeVerdict,
    WorkstreamError,
    WorkstreamRuntime,
    WorkstreamSpec,
    record_merge,
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

__all__ = ["check", "watch"]


@click.command(epilog=NOTES)
@ids_argument
@graph_option
@repository_options
@remote_options
@github_options
@output_options
@click.pass_context
def check(context: click.Context, /, ids: tuple[str, ...], **given: Any) -> None:
    """Ask GitHub whether lanes were merged; mark those that were.

    Two requests serve a hundred lanes. A lane whose pull request was merged becomes
    merged, and 'teardown' then removes its branches; any other answer changes nothing.
    The exit status is 1 where it could not be told.
    """
    place, settings = split_options(given)
    lanes, reports = _load(place, ids)
    checks = GhIntegrationMergeChecker(place.repo, **settings).check_all(lanes.values())
    answers = dict(zip(lanes, checks, strict=True))
    for name, answer in answers.items():
        _mark(place, lanes[name], answer, reports)
    _report(context, place, ids, lanes, reports, answers)


@click.command(epilog=NOTES)
@ids_argument
@graph_option
@repository_options
@remote_options
@github_options
@click.option(
    "--until",
    "until_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=3600.0,
    show_default=True,
    help="How long to watch.",
)
@click.option(
    "--every",
    "every_s",
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    help="Time between two looks; GitHub's own wishes count where they are longer.",
)
@output_options
@click.pass_context
def watch(
    context: click.Context, /, ids: tuple[str, ...], until_s: float, every_s: float, **given: Any
) -> None:
    """Wait until lanes are merged or closed; mark those that were merged.

    Says on stderr what happens, when it does; looks that find nothing new cost nothing of
    GitHub's quota. The exit status is 1 where it could not be told in the end.
    """
    from agentrelay.workstream.cli import report

    place, settings = split_options(given)
    lanes, reports = _load(place, ids)
    names = {id(runtime): name for name, runtime in lanes.items()}
    answers: dict[str, MergeCheck] = {}
    checker = GhIntegrationMergeChecker(place.repo, **settings)
    for event in checker.watch(lanes.values(), until_s=until_s, every_s=every_s):
        name = names[id(event.runtime)]
        answers[name] = event.check
        _mark(place, event.runtime, event.check, reports)
        words = " ".join(filter(None, [event.check.verdict.value, event.check.reason]))
        click.echo(report.visible(f"{place.graph}/{name}: {words}"), err=True)
    _report(context, place, ids, lanes, reports, answers)


def _load(
    place: Place, ids: tuple[str, ...]
) -> tuple[dict[str, WorkstreamRuntime], dict[str, LaneReport]]:
    """Rebuild lanes from disk; return those that could be, and reports of the others."""
    from agentrelay.workstream.cli.report import LaneReport

    lanes: dict[str, WorkstreamRuntime] = {}
    failed: dict[str, LaneReport] = {}
    for name in dict.fromkeys(ids):
        try:
            lanes[name] = place.load(name)
        except Exception as error:  # noqa: BLE001 - each lane has a result of its own
            runtime = WorkstreamRuntime(WorkstreamSpec(name))
            runtime.mark_failed(str(error))
            failed[name] = LaneReport.of(place.graph, runtime, failure=error)
    return lanes, failed


def _mark(
    place: Place,
    runtime: WorkstreamRuntime,
    answer: MergeCheck,
    failed: dict[str, LaneReport],
) -> None:
    """Mark a lane that was merged; where that cannot be written, the others go on."""
    from agentrelay.workstream.cli.report import LaneReport

    try:
        record_merge(runtime, answer)
    except (OSError, WorkstreamError) as error:
        failed[runtime.spec.id] = LaneReport.of(place.graph, runtime, failure=error)


def _report(  # noqa: PLR0917 - what both commands know by then
    context: click.Context,
    place: Place,
    ids: tuple[str, ...],
    lanes: dict[str, WorkstreamRuntime],
    reports: dict[str, LaneReport],
    answers: dict[str, MergeCheck],
) -> None:
    """Say what became of each lane, in the order asked, and end with a status."""
    from agentrelay.workstream.cli import report

    for name, answer in answers.items():
        if name in reports:
            continue
        unknown = answer.verdict is MergeVerdict.CANNOT_TELL
        reports[name] = report.LaneReport.of(
            place.graph,
            lanes[name],
            error=f"whether it was merged cannot be told: {answer.reason}" if unknown else None,
        )
    shown = [reports[name] for name in dict.fromkeys(ids)]
    if context.meta[JSON]:
        documents = [lane.document() | {"merge": _document(answers.get(lane.id))} for lane in shown]
        report.print_document({"lanes": documents})
    else:
        rows = [[lane.id, lane.status, *_words(answers.get(lane.id))] for lane in shown]
        headings = ["id", "status", "merge", "method", "pull request"]
        report.print_table(report.make_console(), headings, rows)
    report.print_failures(shown, debug=context.meta[DEBUG])
    if any(lane.error is not None for lane in shown):
        context.exit(1)


def _words(answer: MergeCheck | None) -> list[str]:
    if answer is None:
        return ["", "", ""]
    return [answer.verdict.value, answer.method or "", answer.url or ""]


def _document(answer: MergeCheck | None) -> dict[str, Any] | None:
    """Return an answer's entry in the JSON document, without secrets."""
    if answer is None:
        return None
    return {
        "verdict": answer.verdict.value,
        "method": answer.method,
        "head": answer.head,
        "target_before": answer.target_before,
        "merge_commit": answer.merge_commit,
        "reason": None if answer.reason is None else redact(answer.reason),
    }
