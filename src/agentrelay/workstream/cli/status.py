"""The command that lists lanes, from signal files alone: no libgit2, no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agentrelay.workstream.cli.options import DEBUG, JSON, output_options, repository_options
from agentrelay.workstream.core import _signals
from agentrelay.workstream.core.runtime import WorkstreamRuntime, WorkstreamState
from agentrelay.workstream.core.workstream import WorkstreamSpec
from agentrelay.workstream.errors import WorkstreamError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentrelay.workstream.cli.report import LaneReport

__all__ = ["find_lanes", "status"]

# As Lane spells them; importing that module loads libgit2, which would triple the time
# this command takes. A test holds the two together.
_WORKFLOW: Final = ".workflow"
_WORKSTREAMS: Final = "workstreams"


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option(
    "--graph",
    metavar="NAME",
    help="Only lanes of this task graph; those of all graphs unless given.",
)
@repository_options
@output_options
@click.pass_context
def status(
    context: click.Context, /, ids: tuple[str, ...], graph: str | None, **given: Any
) -> None:
    """List the lanes found on disk, whichever process made them.

    With IDs, only those. Shows each lane's status, its branch, whether its worktree is
    there, its pull request, and the first line of the error that failed it. Nothing is
    changed, and no network is used: a pull request that was merged meanwhile is not
    noticed; 'check' asks GitHub.

    The exit status is 1 when a lane that is shown has failed.
    """
    from agentrelay.workstream.cli import report

    root: Path = given["repo"].absolute()
    run_dir: Path | None = given["run_dir"]
    found = [
        lane
        for lane in find_lanes(root, run_dir)
        if graph in {None, lane.graph} and (not ids or lane.id in ids)
    ]
    known = {lane.id for lane in found}
    missing = [
        report.LaneReport(
            graph or "*",
            name,
            "failed",
            error="there is no such lane here",
            hint="Prepare it first, or check --repo, --graph and --run-dir.",
        )
        for name in dict.fromkeys(ids)
        if name not in known
    ]
    if context.meta[JSON]:
        report.print_document({"lanes": [lane.document() for lane in found + missing]})
    elif found:
        columns = ["graph", "id", "status", "branch", "worktree", "pull request"]
        if any(lane.error is not None for lane in found):
            columns.append("error")
        report.print_lanes(found, columns)
    elif not missing:
        where = run_dir or root / _WORKFLOW
        report.print_line(f"No lanes in '{where}'.")
    report.print_failures(missing, debug=context.meta[DEBUG])
    if any(lane.error is not None for lane in found + missing):
        context.exit(1)


def find_lanes(root: Path, run_dir: Path | None) -> Iterator[LaneReport]:
    """Report every lane that has a signal directory, sorted by graph and id.

    Args:
        root: The repository, as an absolute path.
        run_dir: Where signal files are kept, if not inside the repository.
    """
    from agentrelay.workstream.cli.report import LaneReport

    runs = _folders(root / _WORKFLOW) if run_dir is None else [run_dir]
    for run in runs:
        for signal_dir in _folders(run / _WORKSTREAMS):
            record = _signals.read_record(signal_dir) or {}
            named = record.get("graph")
            graph = run.name if run_dir is None or not isinstance(named, str) else named
            try:
                runtime = WorkstreamRuntime.load(signal_dir)
            except WorkstreamError as error:
                # Its signals may be readable all the same.
                runtime = WorkstreamRuntime(
                    WorkstreamSpec(signal_dir.name), WorkstreamState(signal_dir=signal_dir)
                )
                yield LaneReport.of(graph, runtime, failure=error)
            else:
                yield LaneReport.of(graph, runtime, error=runtime.state.error)


def _folders(directory: Path) -> list[Path]:
    """Return the folders in a directory, sorted; links may lead elsewhere and do not count."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.is_dir() and not path.is_symlink())
