"""The command that shows everything in a throwaway world, on any machine."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentrelay.workstream.cli.options import JSON, output_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from agentrelay.workstream.cli.checks import Check, Ending
    from agentrelay.workstream.cli.narrator import Narrator
    from agentrelay.workstream.cli.story import Story
    from agentrelay.workstream.testing.world import World

__all__ = ["demo"]


@click.command()
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Leave the world in DIR, which must be new or empty, and say what to look at.",
)
@output_options
@click.pass_context
def demo(context: click.Context, /, keep: Path | None, **_: Any) -> None:
    """Play the whole life of six lanes in a throwaway world.

    Needs no git, no network and no account: the remote, which asks for a token, and
    GitHub are servers inside this process, listening on the loopback address only.

    Lanes are prepared in parallel; agents commit; pull requests are opened, reviewed,
    merged; lanes are torn down. One lane finds something foreign in its place, the
    remote refuses one at first, one pull request cannot be merged, and one agent leaves
    files uncommitted. In the end the repositories are checked, and a table says what
    was pushed, opened and kept.

    The exit status is 0 when everything went as the story tells.
    """
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise click.BadParameter(f"'{keep}' is not empty.", param_hint="'--keep'")
    # Before anything else loads libgit2: this also works without CA certificates.
    from agentrelay.workstream import _git
    from agentrelay.workstream.cli import report
    from agentrelay.workstream.cli.checks import look
    from agentrelay.workstream.cli.narrator import Narrator
    from agentrelay.workstream.cli.story import Story
    from agentrelay.workstream.testing import World

    del _git
    console = report.make_console(quiet=context.meta[JSON])
    narrator = Narrator(console)
    started = time.monotonic()
    with World(keep) as world:
        _introduce(narrator, world)
        story = Story(world, narrator)
        story.play()
        endings, checks = look(world, story)
        traffic = (
            f"Nothing left this machine: {len(world.git.requests)} requests went to "
            f"{world.git.url} (git) and {len(world.github.requests)} to {world.github.url} "
            "(GitHub), both inside this process."
        )
        document = _document(world, story, endings, checks)
    seconds = time.monotonic() - started
    if context.meta[JSON]:
        report.print_document(document | {"seconds": round(seconds, 3)})
    narrator.say("")
    headings = ("lane", "status", "branch on the remote", "pull request", "kept")
    report.print_table(console, headings, [_row(ending) for ending in endings])
    narrator.say("")
    narrator.say("What was checked", style="bold")
    for check in checks:
        narrator.say(
            f"  {'yes' if check.held else 'NO '}  {check.what}",
            style="" if check.held else "bold red",
        )
    narrator.say("")
    narrator.say(traffic)
    narrator.say(f"It took {seconds:.1f} s.")
    if keep is not None:
        _show_around(narrator, world_dir=keep.absolute(), story=story)
    broken = [check.what for check in checks if not check.held]
    if broken:
        report.print_failure(
            f"the story did not go as told; this does not hold: {'; '.join(broken)}",
            "Repeat it with --keep DIR and look at the repositories.",
        )
        context.exit(1)


def _introduce(narrator: Narrator, world: World) -> None:
    narrator.say("A throwaway world, on this machine only:", style="bold")
    narrator.say(f"  git remote  {world.remote_url}  (asks for a token)")
    narrator.say(f"  GitHub API  {world.github.api_url}  (likewise)")
    narrator.say(f"  directory   {world.root}")


def _row(ending: Ending) -> tuple[str | Text, ...]:
    from rich.text import Text

    from agentrelay.workstream.cli.report import STYLES

    status = ending.lane.status
    return (
        ending.lane.id,
        Text(status, STYLES[status]),
        ending.branch,
        ending.pull,
        _kept(ending),
    )


def _kept(ending: Ending) -> str:
    """Say in a few words what was kept; the refs were named when it happened."""
    refs = [text for text in ending.kept if text.startswith("refs/")]
    words = [text for text in ending.kept if text not in refs]
    if refs:
        words.append(f"uncommitted files, in {len(refs)} rescue refs")
    return "; ".join(words)


def _document(
    world: World, story: Story, endings: Sequence[Ending], checks: Sequence[Check]
) -> dict[str, Any]:
    """Return what the story left, while the world still stands."""
    lanes = [
        ending.lane.document() | {"remote_branch": ending.branch, "kept": list(ending.kept)}
        for ending in endings
    ]
    return {
        "told": all(check.held for check in checks),
        "git_url": world.remote_url,
        "api_url": world.github.api_url,
        "repository": str(story.checkout),
        "lanes": lanes,
        "checks": [{"what": check.what, "held": check.held} for check in checks],
    }


def _show_around(narrator: Narrator, *, world_dir: Path, story: Story) -> None:
    """Say what is worth looking at in a world that stays."""
    from agentrelay.workstream.cli.story import GRAPH

    checkout = story.checkout
    narrator.say("")
    narrator.say(f"The world stays in '{world_dir}'; its servers are closed. Look at", style="bold")
    for what, place in (
        ("the repository you would work in", checkout),
        ("its lanes' signal files", checkout / ".workflow" / GRAPH),
        ("the remote, a bare repository", world_dir / "remotes"),
    ):
        narrator.say(f"  {what:34}{place}")
    narrator.say("with")
    narrator.say(f"  agentrelay-workstream status --repo {shlex.quote(str(checkout))}")
    narrator.say(f"  git -C {shlex.quote(str(checkout))} for-each-ref refs/agentrelay/rescue")
    narrator.say(f"  git -C {shlex.quote(str(checkout))} log --oneline --graph --all")
    narrator.say("(the last two where there is a git)")
