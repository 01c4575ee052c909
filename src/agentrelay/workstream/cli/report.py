"""What the commands say about lanes: rows, one JSON document, one-line errors.

Texts come from remotes, files and exceptions. Before they reach a terminal, secrets are
masked and characters that could act on it are made visible.
"""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentrelay.workstream._redact import redact
from agentrelay.workstream.errors import WorkstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agentrelay.workstream.core.runtime import WorkstreamRuntime

__all__ = [
    "STYLES",
    "LaneReport",
    "explain",
    "make_console",
    "make_table",
    "print_document",
    "print_failure",
    "print_failures",
    "print_lanes",
    "print_line",
    "print_table",
    "visible",
]

STYLES: Final = {
    "pending": "yellow",
    "active": "cyan",
    "merge_ready": "cyan",
    "pr_created": "blue",
    "merged": "green",
    "failed": "red",
}


@dataclass(frozen=True)
class LaneReport:
    """One lane as a command leaves it.

    Attributes:
        graph: Name of the task graph.
        id: Identifier of the workstream.
        status: The lane's status.
        branch: Short name of the integration branch, or ``None`` before there is one.
        worktree: Directory of the worktree, or ``None`` before there is one.
        worktree_exists: Whether that directory is there.
        pull_request: URL of the integration pull request, or ``None``.
        error: What failed, or ``None``.
        hint: What the reader can do about it, or ``None``.
        concerns: What else the reader should know.
        failure: The exception behind ``error``; not part of the document.
    """

    graph: str
    id: str
    status: str
    branch: str | None = None
    worktree: str | None = None
    worktree_exists: bool = False
    pull_request: str | None = None
    error: str | None = None
    hint: str | None = None
    concerns: tuple[str, ...] = ()
    failure: BaseException | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        graph: str,
        runtime: WorkstreamRuntime,
        *,
        error: str | None = None,
        hint: str | None = None,
        failure: BaseException | None = None,
    ) -> LaneReport:
        """Report what a runtime knows, and how the command ended for it.

        Args:
            graph: Name of the task graph.
            runtime: The lane.
            error: What failed; told from ``failure`` when ``None``.
            hint: What the reader can do; likewise.
            failure: The exception that ended the command for this lane.
        """
        if failure is not None:
            error, hint = explain(failure)
        worktree = runtime.state.worktree_path
        return cls(
            graph=graph,
            id=runtime.spec.id,
            status=runtime.status.value,
            branch=runtime.state.branch_name,
            worktree=None if worktree is None else str(worktree),
            worktree_exists=worktree is not None and worktree.is_dir(),
            pull_request=runtime.artifacts.merge_pr_url,
            error=error,
            hint=hint,
            concerns=tuple(runtime.artifacts.concerns),
            failure=failure,
        )

    def document(self) -> dict[str, Any]:
        """Return the lane's entry in the JSON document, without secrets."""
        entry = asdict(self) | {"concerns": [redact(text) for text in self.concerns]}
        del entry["failure"]
        return {
            key: redact(value) if isinstance(value, str) else value for key, value in entry.items()
        }


def visible(text: str) -> str:
    r"""Return ``text`` on one line and without anything that could act on a terminal.

    Control characters, line breaks, lone surrogates and marks that turn the direction
    of writing are spelled as in Python: an escape becomes ``\x1b``. Secrets are masked.
    """
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in redact(text)
    )


def explain(failure: BaseException) -> tuple[str, str | None]:
    """Return what an exception says to a person, and what that person can do."""
    # The library's own words for it speak of an argument that nobody gave here.
    missing = failure.__cause__ if isinstance(failure, WorkstreamError) else failure
    if isinstance(missing, FileNotFoundError) and not _is_anywhere():
        return (
            "the current directory does not exist any more",
            "Change to a directory that exists, and name the repository there or with --repo.",
        )
    if isinstance(failure, WorkstreamError):
        return failure.message, failure.hint
    return (
        redact(f"unexpected {type(failure).__name__}: {failure}"),
        "Repeat the command with --debug to see where it came from.",
    )


def _is_anywhere() -> bool:
    """Return whether the current directory is there: relative paths start from it."""
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def make_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return a console that prints texts as they are: no markup, no guessed colours.

    Args:
        stderr: Write to the error stream.
        quiet: Write nothing at all.
    """
    return Console(stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False)


def print_line(text: str) -> None:
    """Print one line on stdout, made visible."""
    make_console().print(Text(visible(text)), soft_wrap=True)


def print_table(
    console: Console, headings: Sequence[str], rows: Sequence[Sequence[str | Text]]
) -> None:
    """Print rows below headings: boxed and folded on a terminal, a line each elsewhere.

    Args:
        console: Where.
        headings: One a column.
        rows: Cells; plain texts are made visible, styled ones are taken as they are.
    """
    if console.is_terminal:
        console.print(make_table(headings, rows))
        return
    lines = [list(headings), *([cell.plain for cell in row] for row in _cells(rows))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        console.print(Text("  ".join(padded).rstrip()), soft_wrap=True)


def make_table(headings: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> Table:
    """Return rows below headings, boxed and folded, for a terminal.

    Args:
        headings: One a column.
        rows: Cells, as for :func:`print_table`.
    """
    table = Table(*headings, box=ROUNDED, header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    for row in _cells(rows):
        table.add_row(*row)
    return table


def _cells(rows: Sequence[Sequence[str | Text]]) -> list[list[Text]]:
    return [
        [cell if isinstance(cell, Text) else Text(visible(cell) or "-") for cell in row]
        for row in rows
    ]


def print_lanes(reports: Sequence[LaneReport], columns: Sequence[str]) -> None:
    """Print a table of lanes on stdout.

    Args:
        reports: The lanes.
        columns: Names of :data:`_COLUMNS`, from left to right.
    """
    rows = [[_COLUMNS[column](lane) for column in columns] for lane in reports]
    print_table(make_console(), columns, rows)


_COLUMNS: Final[dict[str, Callable[[LaneReport], str | Text]]] = {
    "graph": lambda lane: lane.graph,
    "id": lambda lane: lane.id,
    "status": lambda lane: Text(lane.status, STYLES[lane.status]),
    "branch": lambda lane: lane.branch or "",
    "worktree": lambda lane: ("there" if lane.worktree_exists else "gone") if lane.worktree else "",
    "worktree path": lambda lane: (lane.worktree or "") if lane.worktree_exists else "",
    "pull request": lambda lane: lane.pull_request or "",
    "error": lambda lane: (lane.error or "").partition("\n")[0],
}


def print_document(document: dict[str, Any]) -> None:
    """Print one JSON document on stdout, in ASCII: no terminal and no pipe can spoil it."""
    click.echo(json.dumps(document, indent=2))


def print_failure(
    message: str,
    hint: str | None,
    *,
    failure: BaseException | None = None,
) -> None:
    """Print one error on stderr: a line, one more with the hint, and a traceback if given.

    Args:
        message: What failed.
        hint: What the reader can do, or ``None``.
        failure: The exception whose traceback is wanted, or ``None``.
    """
    console = make_console(stderr=True)
    console.print(Text.assemble(("error: ", "bold red"), visible(message.strip())), soft_wrap=True)
    if hint is not None:
        console.print(Text.assemble(("hint: ", "bold"), visible(hint.strip())), soft_wrap=True)
    if failure is not None:
        for line in redact("".join(traceback.format_exception(failure))).splitlines():
            console.print(Text(f"  {visible(line)}"), soft_wrap=True)


def print_failures(reports: Iterable[LaneReport], *, debug: bool) -> None:
    """Print the errors of lanes on stderr, each under its lane's name.

    Args:
        reports: The lanes; those without an error are passed over.
        debug: Add tracebacks.
    """
    for report in reports:
        if report.error is not None:
            print_failure(
                f"{report.graph}/{report.id}: {report.error}",
                report.hint,
                failure=report.failure if debug else None,
            )
