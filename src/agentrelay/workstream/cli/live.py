"""The command that shows lanes as they are worked on: live."""

from __future__ import annotations

import json
import threading
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agentrelay.workstream.cli.event_log import EventLog
from agentrelay.workstream.cli.options import JSON, quiet_output_options, repository_options
from agentrelay.workstream.cli.status import find_lanes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.text import Text

    from agentrelay.workstream.cli.event_log import LaneNow
    from agentrelay.workstream.cli.report import LaneReport

__all__ = ["LiveLane", "follow", "live"]

_COLUMNS: Final = ("graph", "id", "status", "doing", "last event", "at", "pull request")


@dataclass(frozen=True)
class LiveLane:
    """One lane as it is just now.

    Attributes:
        report: What its signal files say.
        now: What the event log says; ``None`` without a log, or where it says nothing.
    """

    report: LaneReport
    now: LaneNow | None = None

    @property
    def doing(self) -> str:
        """The verb and step that are under way."""
        return "" if self.now is None else self.now.doing

    @property
    def last_event(self) -> str:
        """The last event in a few words."""
        if self.now is None:
            return ""
        event = self.now.last
        words = [event.verb if event.step is None else f"{event.verb}: {event.step}"]
        words.append(event.outcome.value)
        if event.detail is not None:
            words.append(f"({event.detail})")
        return " ".join(words)

    @property
    def at(self) -> str:
        """When that was, in the time of this machine."""
        if self.now is None:
            return ""
        try:
            then = datetime.fromtimestamp(self.now.last.at, tz=UTC)
        except (OverflowError, OSError, ValueError, TypeError):
            # A line that somebody else wrote.
            return ""
        return then.astimezone().strftime("%H:%M:%S")

    def cells(self) -> list[str | Text]:
        """Return what is shown, a text a column."""
        from rich.text import Text

        from agentrelay.workstream.cli.report import STYLES

        lane = self.report
        status = Text(lane.status, STYLES[lane.status])
        url = lane.pull_request or ""
        return [lane.graph, lane.id, status, self.doing, self.last_event, self.at, url]

    def document(self) -> dict[str, Any]:
        """Return the lane's entry in the JSON document."""
        last = None if self.now is None else json.loads(self.now.last.to_json())
        return {**self.report.document(), "doing": self.doing, "last_event": last}


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option(
    "--graph",
    metavar="NAME",
    help="Only lanes of this task graph; those of all graphs unless given.",
)
@repository_options
@click.option(
    "--log",
    "log_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Audit log to read steps from: the file other commands write with --audit.",
)
@click.option(
    "--until",
    "until_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=3600.0,
    show_default=True,
    help="How long to look; Ctrl-C ends it at any time.",
)
@click.option(
    "--every",
    "every_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0.1),
    default=0.5,
    show_default=True,
    help="Time between two looks.",
)
@click.option("--once", is_flag=True, help="Look once, as --until 0.")
@quiet_output_options
@click.pass_context
def live(  # noqa: PLR0917 - click passes them by name
    context: click.Context,
    /,
    ids: tuple[str, ...],
    graph: str | None,
    log_path: Path | None,
    until_s: float,
    every_s: float,
    once: bool,  # noqa: FBT001 - click's flag
    **given: Any,
) -> None:
    """Show lanes while they are worked on, by whichever process.

    A table that is kept up to date on a terminal; elsewhere a line for each lane, and one
    more whenever something about it has changed. Statuses come from signal files; what is
    being done just now from an audit log, if one is given. Nothing is changed and no
    network is used.
    """
    root: Path = given["repo"].absolute()
    run_dir: Path | None = given["run_dir"]
    log = None if log_path is None else EventLog(log_path)

    def look() -> list[LiveLane]:
        return _look(root, run_dir, log, graph=graph, ids=ids)

    from agentrelay.workstream.cli import report

    if context.meta[JSON]:
        report.print_document({"lanes": [lane.document() for lane in look()]})
        return
    follow(look, until_s=0 if once else until_s, every_s=every_s)


def _pause(seconds: float) -> object:
    """Wait; an event, because a sleep of the process cannot be replaced."""
    return threading.Event().wait(seconds)


def follow(
    look: Callable[[], list[LiveLane]],
    *,
    until_s: float,
    every_s: float,
    monotonic: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = _pause,
) -> None:
    """Show lanes on stdout until the time is over, or Ctrl-C.

    Args:
        look: Returns the lanes.
        until_s: How long, in seconds; there is one look at least.
        every_s: Time between two looks, in seconds.
        monotonic: Reads a clock in seconds that never goes back.
        wait: Waits that many seconds.
    """
    from agentrelay.workstream.cli import report

    console = report.make_console()
    show: Callable[[Sequence[LiveLane]], None] = _Lines().show
    screen: Any = nullcontext()
    if console.is_terminal:
        from rich.live import Live

        screen = Live(console=console, auto_refresh=False)

        def draw(lanes: Sequence[LiveLane]) -> None:
            rows = [lane.cells() for lane in lanes]
            screen.update(report.make_table(_COLUMNS, rows), refresh=True)

        show = draw
    ends_at = monotonic() + until_s
    # Ctrl-C is how one stops looking; nothing is interrupted.
    with suppress(KeyboardInterrupt), screen:
        while True:
            show(look())
            left_s = ends_at - monotonic()
            if left_s <= 0:
                return
            wait(min(every_s, left_s))


class _Lines:
    """Lanes as lines, for what is no terminal."""

    def __init__(self) -> None:
        self._shown: dict[tuple[str, str], str] = {}
        self._has_begun = False

    def show(self, lanes: Sequence[LiveLane]) -> None:
        """Print a line for each lane about which something has changed."""
        from agentrelay.workstream.cli.report import print_line

        for lane in lanes:
            graph, name, status, *rest = (str(cell) for cell in lane.cells())
            line = "  ".join(filter(None, [f"{graph}/{name}", status, *rest]))
            if self._shown.get((graph, name)) != line:
                self._shown[graph, name] = line
                print_line(line)
        if not lanes and not self._has_begun:
            print_line("No lanes here yet.")
        self._has_begun = True


def _look(
    root: Path,
    run_dir: Path | None,
    log: EventLog | None,
    *,
    graph: str | None,
    ids: tuple[str, ...],
) -> list[LiveLane]:
    """Return the lanes on disk, and those only the log knows: they are about to be made."""
    from agentrelay.workstream.cli.report import LaneReport

    if log is not None:
        log.read()
    said = {} if log is None else log.lanes
    found = {(lane.graph, lane.id): lane for lane in find_lanes(root, run_dir)}
    for key in said:
        if key not in found:
            found[key] = LaneReport(*key, "pending")
    return [
        LiveLane(found[key], said.get(key))
        for key in sorted(found)
        if graph in {None, key[0]} and (not ids or key[1] in ids)
    ]
