"""The commands for working in a lane where there is no git: clone, and the group ``lane``."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

import agentrelay.workstream as library
from agentrelay.workstream.cli.options import JSON, output_options, remote_options
from agentrelay.workstream.credentials import AfterEnvironment, SigningKey

if TYPE_CHECKING:
    from agentrelay.workstream import AheadBehind, CommitInfo, LaneWorkspace
    from agentrelay.workstream.credentials import TokenSource

__all__ = [
    "EPILOG",
    "SHORT",
    "clone",
    "commit_document",
    "connected",
    "in_option",
    "lane",
    "remote_option",
    "say",
    "ssh_key_option",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])

EPILOG: Final = """\b
Exit status:
  0    everything went well
  1    it could not be done; the message says why
  2    the command line cannot be used; nothing was tried
"""
SHORT: Final = 12
# Never an argument, which every user of the machine could read.
_PROTECTED_BY: Final = "AGENTRELAY_SIGNING_PASSPHRASE"

in_option = click.option(
    "--in",
    "inside",
    type=click.Path(exists=True, path_type=Path),
    default=Path(),
    show_default="the current directory",
    help="Any path inside the lane's worktree.",
)


remote_option = click.option(
    "--remote", metavar="NAME", help="Name of the remote; the one the lane was prepared with."
)
ssh_key_option = click.option(
    "--ssh-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Private key for an ssh remote; the agent and the usual files unless given.",
)


def _against(*choices: str) -> Callable[[_Command], _Command]:
    return click.option(
        "--against",
        type=click.Choice(choices),
        default="base",
        show_default=True,
        help="What the lane is compared with, as it was last seen.",
    )


def _token() -> TokenSource:
    app = library.GitHubApp.from_environment()
    return None if app is None else AfterEnvironment(app)


@click.command(epilog=EPILOG)
@click.argument("url")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--branch", metavar="NAME", help="Branch to check out; the remote's own unless given."
)
@click.option(
    "--depth", type=click.IntRange(min=1), help="Fetch so many generations of one branch, no tags."
)
@remote_options
@output_options
@click.pass_context
def clone(context: click.Context, /, url: str, path: Path, **given: Any) -> None:
    """Clone a repository, for lanes to be prepared in it; no git is needed.

    PATH must be absent or empty. A clone of the same address that is there already is a
    success, so that the command can be repeated.
    """
    settings = {name: given[name] for name in ("branch", "depth", "remote", "ssh_key")}
    made = library.clone(url, path, token=_token(), **settings)
    say(context, {"path": str(made)}, [f"cloned to {made}"])


@click.group()
def lane() -> None:
    """Work in a lane's worktree where there is no git.

    Each command finds its lane from --in, or from the current directory.
    """


@lane.command("status", epilog=EPILOG)
@in_option
@output_options
@click.pass_context
def _status(context: click.Context, /, inside: Path, **_given: Any) -> None:
    """Show what is in no commit, and how far the branch is from others."""
    opened = library.open_lane(inside)
    now = opened.status()
    lines = [f"on {now.branch or 'no branch'} at {now.commit_id[:SHORT]}"]
    for name, apart in (("remote", now.remote), ("base", now.base), ("target", now.target)):
        lines.append(f"{name}: {_apart(apart)}")
    if now.operation is not None:
        lines.append(f"in progress: {now.operation}")
    for place, changes in (("staged", now.staged), ("unstaged", now.unstaged)):
        lines += [f"{place} {change.kind}: {change.path}" for change in changes]
    lines += [f"untracked: {path}" for path in now.untracked]
    lines += [f"conflicted: {path}" for path in now.conflicted]
    say(context, dataclasses.asdict(now), lines)


def _apart(counts: AheadBehind | None) -> str:
    return "not known here" if counts is None else f"{counts.ahead} ahead, {counts.behind} behind"


@lane.command("commit", epilog=EPILOG)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH...]")
@click.option("-m", "--message", required=True, help="What was changed.")
@click.option("--author", metavar="'NAME <ADDRESS>'", help="Who wrote it.")
@click.option("--trailer", "trailers", multiple=True, metavar="KEY=VALUE", help="May be repeated.")
@click.option(
    "--signing-key",
    type=click.Path(dir_okay=False, path_type=Path),
    help="SSH private key to sign with; its passphrase is in AGENTRELAY_SIGNING_PASSPHRASE.",
)
@in_option
@output_options
@click.pass_context
def _commit(
    context: click.Context,
    /,
    paths: tuple[Path, ...],
    message: str,
    author: str | None,
    trailers: tuple[str, ...],
    **given: Any,
) -> None:
    """Commit everything that is not ignored, or PATHs alone."""
    signing_key: Path | None = given["signing_key"]
    pairs = [tuple(text.partition("=")[::2]) for text in trailers]
    made = library.open_lane(given["inside"]).commit(
        message,
        # From here, as every program takes them; the library takes them from the top.
        [path.absolute() for path in paths] or None,
        author=author,
        trailers=[(key, value) for key, value in pairs],
        signing_key=None if signing_key is None else _signing(signing_key),
    )
    say(context, commit_document(made), [f"{made.commit_id[:SHORT]} {made.subject}"])


def _signing(path: Path) -> SigningKey:
    return SigningKey(path=path, passphrase=os.environ.get(_PROTECTED_BY) or None)


@lane.command("resolve", epilog=EPILOG)
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH..."
)
@in_option
@output_options
@click.pass_context
def _resolve(context: click.Context, /, paths: tuple[Path, ...], inside: Path, **_: Any) -> None:
    """Mark conflicts as resolved: what the worktree has is what was wanted."""
    done = library.open_lane(inside).resolve([path.absolute() for path in paths])
    say(context, {"resolved": list(done)}, [f"resolved: {path}" for path in done])


@lane.command("push", epilog=EPILOG)
@in_option
@remote_option
@ssh_key_option
@output_options
@click.pass_context
def _push(context: click.Context, /, **given: Any) -> None:
    """Push the lane's commits; forward only, and never over somebody else's."""
    opened = connected(**given)
    pushed = opened.push()
    say(context, {"commit": pushed}, [f"{opened.branch} is at {pushed[:SHORT]}"])


@lane.command("pull", epilog=EPILOG)
@in_option
@remote_option
@ssh_key_option
@output_options
@click.pass_context
def _pull(context: click.Context, /, **given: Any) -> None:
    """Follow what others pushed to the lane, if nothing is in the way."""
    came = connected(**given).pull()
    lines = [f"{commit.commit_id[:SHORT]} {commit.subject}" for commit in came]
    say(
        context, {"commits": [commit_document(commit) for commit in came]}, lines or ["nothing new"]
    )


def connected(
    *, inside: Path, remote: str | None, ssh_key: Path | None, **_given: Any
) -> LaneWorkspace:
    """Open the lane a command is about, to talk to its remote."""
    return library.open_lane(inside, remote=remote, ssh_key=ssh_key, token=_token())


@lane.command("diff", epilog=EPILOG)
@_against("base", "target", "remote", "head")
@in_option
@output_options
@click.pass_context
def _diff(context: click.Context, /, against: Any, inside: Path, **_given: Any) -> None:
    """Show what the lane changed since it was cut; with head, what is in no commit."""
    shown = library.open_lane(inside).diff(against)
    # Without a stdout, nobody is shown anything.
    if context.meta[JSON] or sys.stdout is None or sys.stdout.isatty():
        say(context, dataclasses.asdict(shown), shown.text.split("\n")[:-1])
        return
    # Not a terminal: as it is, so that it can be applied.
    click.echo(shown.text.encode("utf-8", "replace"), nl=False)


@lane.command("log", epilog=EPILOG)
@_against("base", "target", "remote")
@click.option("-n", "--max-count", type=click.IntRange(min=0), help="How many at most.")
@in_option
@output_options
@click.pass_context
def _log(
    context: click.Context, /, against: Any, max_count: int | None, inside: Path, **_given: Any
) -> None:
    """List the lane's commits that another branch has not, newest first."""
    found = library.open_lane(inside).log(against, most=max_count)
    text = "\n".join(commit.text for commit in found)
    document = {"commits": [commit_document(commit) for commit in found]}
    say(context, document, text.split("\n")[:-1])


def commit_document(commit: CommitInfo) -> dict[str, Any]:
    """Return a commit as JSON has it."""
    return dataclasses.asdict(commit)


def say(context: click.Context, document: dict[str, Any], lines: list[str]) -> None:
    """Print a document, or the lines for a person."""
    from agentrelay.workstream.cli import report

    if context.meta[JSON]:
        report.print_document(_plain(document))
        return
    for line in lines:
        report.print_line(line)


def _plain(value: Any) -> Any:
    """Return what JSON can hold."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value
