"""The command that finds lanes nobody keeps, and completes or removes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

import agentrelay.workstream as library
from agentrelay.workstream._redact import redact
from agentrelay.workstream.cli.options import (
    EVENTS,
    JSON,
    NOTES,
    github_options,
    output_options,
    remote_options,
    repository_options,
)

if TYPE_CHECKING:
    from pathlib import Path

    from agentrelay.workstream import FoundLane, Reconciliation

__all__ = ["found_document", "reconcile"]

_STYLES: Final = {
    "live": "green",
    "resumable": "yellow",
    "orphaned": "yellow",
    "foreign": "magenta",
    "rescued": "blue",
    "busy": "cyan",
}


_HELP: Final = """Find lanes nobody keeps; complete or remove them.

Looks at branches, worktrees, signal files, rescue refs and the remote's branches, and
says of each lane what it is:

\b
  live       it stands; left alone
  resumable  its prepare was interrupted, or a part deleted by hand: completed
  orphaned   its teardown was interrupted, or pieces outlived it: removed
  foreign    not provably this repository's lane; left alone and named
  rescued    only work that a teardown kept is left
  busy       another process is working on it; left alone

Completing is what 'prepare' does, and removing what 'teardown' does: work that exists
nowhere else is kept first, and both branches stay while a pull request is open.
Repeating the command does what is left.
"""


@click.command(help=_HELP, epilog=NOTES)
@click.option(
    "--graph",
    metavar="NAME",
    help="Only lanes of this task graph; those of all graphs unless given.",
)
@repository_options
@remote_options
@github_options
@click.option("--dry-run", is_flag=True, help="Only say what would be done; nothing is written.")
@output_options
@click.pass_context
def reconcile(context: click.Context, /, graph: str | None, repo: Path, **given: Any) -> None:
    """Find lanes, act on those nobody keeps, and say what became of each."""
    from rich.text import Text

    from agentrelay.workstream.cli import report

    for shown in ("as_json", "debug"):
        del given[shown]
    console = report.make_console(stderr=True, quiet=context.meta[EVENTS])
    # An ASCII spinner, shown on a terminal only.
    with console.status(Text("Looking for lanes"), spinner="line"):
        found = library.reconcile(repo, graph=graph, **given)
    if context.meta[JSON]:
        report.print_document(
            {
                "lanes": [found_document(lane) for lane in found.lanes],
                "leftovers": [redact(str(path)) for path in found.leftovers],
                "stuck": [redact(str(path)) for path in found.stuck],
                "concerns": list(found.concerns),
            }
        )
    else:
        _print(found, is_dry=given["dry_run"])
    for lane in found.failed:
        said = "; ".join(lane.concerns)
        report.print_failure(f"{lane.graph}/{lane.workstream_id}: {said}", None)
    for path in found.stuck:
        report.print_failure(f"'{path}' could not be removed", None)
    if found.failed or found.stuck:
        context.exit(1)


def found_document(lane: FoundLane) -> dict[str, Any]:
    """Return a lane's entry in the JSON document, without secrets."""

    def text(value: object) -> str | None:
        return None if value is None else redact(str(value))

    return {
        "graph": redact(lane.graph),
        "id": redact(lane.workstream_id),
        "kind": lane.kind.value,
        "why": lane.why,
        "outcome": lane.outcome.value,
        "worktree": text(lane.worktree),
        "entry": text(lane.entry),
        "branch": text(lane.branch),
        "remote_branch": text(lane.remote_branch),
        "signal_dir": text(lane.signal_dir),
        "rescue_refs": [redact(ref) for ref in lane.rescue_refs],
        "concerns": list(lane.concerns),
    }


def _print(found: Reconciliation, *, is_dry: bool) -> None:
    """Print a table of lanes, and below it what else there is to know."""
    from rich.text import Text

    from agentrelay.workstream.cli import report

    rows: list[list[str | Text]] = [
        [
            Text(lane.kind.value, _STYLES[lane.kind.value]),
            lane.graph,
            lane.workstream_id,
            _pieces(lane),
            lane.outcome.value,
        ]
        for lane in found.lanes
    ]
    if rows:
        report.print_table(report.make_console(), ["kind", "graph", "id", "found", "outcome"], rows)
    else:
        report.print_line("No lanes were found.")
    for lane in found.lanes:
        name = f"{lane.graph}/{lane.workstream_id}"
        if lane.kind is not library.LaneKind.LIVE:
            report.print_line(f"note: {name}: {lane.why}")
        for concern in lane.concerns if lane not in found.failed else ():
            report.print_line(f"note: {name}: {concern}")
    if found.leftovers:
        verb = "to be removed" if is_dry else "removed"
        count = len(found.leftovers) - len(found.stuck)
        report.print_line(f"note: leftovers of killed processes {verb}: {count}")
    for concern in found.concerns:
        report.print_line(f"note: {concern}")


def _pieces(lane: FoundLane) -> str:
    """Return what was found of a lane, in a few words."""
    pieces = {
        "worktree": lane.worktree,
        "entry": lane.entry,
        "branch": lane.branch,
        "remote branch": lane.remote_branch,
        "signals": lane.signal_dir,
    }
    words = [word for word, piece in pieces.items() if piece is not None]
    if lane.rescue_refs:
        words.append(f"{len(lane.rescue_refs)} rescue ref{'s' * (len(lane.rescue_refs) > 1)}")
    return ", ".join(words)
