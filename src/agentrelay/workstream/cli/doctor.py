"""The command that says whether a repository is ready for lanes: doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

import agentrelay.workstream as library
from agentrelay.workstream import FindingLevel
from agentrelay.workstream.cli.options import (
    EVENTS,
    JSON,
    github_options,
    output_options,
    remote_options,
    repository_option,
)
from agentrelay.workstream.credentials import AfterEnvironment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from agentrelay.workstream import Finding

__all__ = ["doctor"]

_STYLES: Final = {
    FindingLevel.OK: "green",
    FindingLevel.NOTE: "yellow",
    FindingLevel.PROBLEM: "bold red",
}

_EPILOG: Final = """\b
Exit status:
  0    there is no problem; notes may be worth reading
  1    there is a problem: lanes will fail
  2    the command line cannot be used; nothing was looked at
"""


@click.command(epilog=_EPILOG)
@repository_option
@click.option(
    "--base",
    metavar="BRANCH",
    default="main",
    show_default=True,
    help="Branch the lanes will be cut from.",
)
@click.option(
    "--target",
    metavar="BRANCH",
    help="Branch their pull requests will ask to be merged into; that of --base unless given.",
)
@remote_options
@github_options
@output_options
@click.pass_context
def doctor(
    context: click.Context, /, repo: Path, base: str, target: str | None, **given: Any
) -> None:
    """Check all that a lane needs, without changing anything.

    The machine, the repository, the remote, the credential, and GitHub: each check has a
    name, a sentence, and a fix where one is needed. One that cannot be made says so and
    does not stop the others. The remote is asked for its refs, GitHub gets GET requests
    only, and nothing secret is shown.
    """
    from rich.text import Text

    from agentrelay.workstream.cli import report

    for shown in ("as_json", "debug"):
        del given[shown]
    app = library.GitHubApp.from_environment()
    token = None if app is None else AfterEnvironment(app)
    # An ASCII spinner, shown on a terminal only.
    with report.make_console(stderr=True, quiet=context.meta[EVENTS]).status(
        Text("Looking"), spinner="line"
    ):
        findings = library.diagnose(
            repo, base_branch=base, merge_target_branch=target, token=token, **given
        )
    if context.meta[JSON]:
        report.print_document({"findings": [_document(finding) for finding in findings]})
    else:
        _print(report.make_console(), findings)
    if any(finding.level is FindingLevel.PROBLEM for finding in findings):
        context.exit(1)


def _document(finding: Finding) -> dict[str, str | None]:
    """Return one entry of the JSON document."""
    return {
        "name": finding.name,
        "level": finding.level.value,
        "sentence": finding.sentence,
        "fix": finding.fix,
    }


def _print(console: Console, findings: Sequence[Finding]) -> None:
    """Print a line a finding, and one more for its fix; then how many there are of each kind.

    On a terminal sentences are folded beside their names; elsewhere a line stays a line.
    """
    from rich.table import Table
    from rich.text import Text

    from agentrelay.workstream.cli import report

    levels = max(len(level.value) for level in FindingLevel)
    names = max(len(finding.name) for finding in findings)
    grid = Table.grid(padding=(0, 2))
    for finding in findings:
        level = Text(finding.level.value.ljust(levels), _STYLES[finding.level])
        texts = [Text(report.visible(finding.sentence))]
        if finding.fix is not None:
            texts.append(Text.assemble(("fix: ", "bold"), report.visible(finding.fix)))
        grid.add_row(level, finding.name, Text("\n").join(texts))
        if not console.is_terminal:
            line = Text.assemble(level, f"  {finding.name.ljust(names)}  ", texts[0])
            for text in (line, *(Text.assemble(" " * (levels + 2), fix) for fix in texts[1:])):
                console.print(text, soft_wrap=True)
    if console.is_terminal:
        for column in grid.columns:
            column.overflow = "fold"
        console.print(grid)
    count = {level: sum(finding.level is level for finding in findings) for level in FindingLevel}
    report.print_line(
        f"problems: {count[FindingLevel.PROBLEM]}, notes: {count[FindingLevel.NOTE]}, "
        f"ok: {count[FindingLevel.OK]}"
    )
