"""Options that several commands share, each spelled and explained once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from agentrelay.workstream.cli.event_lines import tell_stderr, write_audit

__all__ = [
    "DEBUG",
    "EVENTS",
    "JSON",
    "NOTES",
    "github_options",
    "graph_option",
    "ids_argument",
    "output_options",
    "quiet_output_options",
    "remote_options",
    "repository_option",
    "repository_options",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Decorator = Callable[[_Command], _Command]

# Keys of click's meta dictionary: the program's own error handler reads them, also when
# a command ends before it could say anything.
JSON: Final = "agentrelay.workstream.json"
DEBUG: Final = "agentrelay.workstream.debug"
EVENTS: Final = "agentrelay.workstream.events"

# A line with \b alone keeps click from filling the paragraph below it.
NOTES: Final = """\b
Exit status:
  0    everything went well
  1    some lane failed; the others went on
  2    the command line cannot be used; nothing was tried
  130  interrupted; repeat the command to resume

\b
Tokens are never taken from the command line, where every user of the machine
could read them. They are looked for, in this order, in
  GH_TOKEN, GITHUB_TOKEN                          github.com and *.ghe.com
  GH_ENTERPRISE_TOKEN, GITHUB_ENTERPRISE_TOKEN    every other host
  GITHUB_APP_ID or GITHUB_APP_CLIENT_ID           a GitHub App; its key is in
    GITHUB_APP_PRIVATE_KEY or the file GITHUB_APP_PRIVATE_KEY_PATH names
  ~/.netrc, or the file NETRC names               an entry for the host
  hosts.yml of the GitHub CLI                     an entry for the host
For ssh remotes: --ssh-key, else the ssh agent, else the usual key files.
"""

_DIRECTORY: Final = click.Path(file_okay=False, path_type=Path)


def _remember(key: str) -> Callable[[click.Context, click.Parameter, bool], bool]:
    """Make a callback that keeps a flag where the error handler finds it."""

    def callback(context: click.Context, _parameter: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click's signature
        context.meta[key] = value
        return value

    return callback


def _all(*decorators: Callable[[Any], Any]) -> Callable[[_Command], _Command]:
    """Apply decorators so that their options are listed in the order written here."""

    def decorate(command: _Command) -> _Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def _events(context: click.Context, parameter: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click's signature
    context.meta[EVENTS] = value
    return tell_stderr(context, parameter, value)


quiet_output_options: _Decorator[Any] = _all(
    click.option(
        "--json",
        "as_json",
        is_flag=True,
        is_eager=True,
        callback=_remember(JSON),
        help="Print one JSON document on stdout, also when something fails.",
    ),
    click.option(
        "--debug",
        is_flag=True,
        is_eager=True,
        callback=_remember(DEBUG),
        help="Show the traceback of whatever fails, on stderr.",
    ),
)

output_options: _Decorator[Any] = _all(
    quiet_output_options,
    click.option(
        "--events",
        is_flag=True,
        expose_value=False,
        callback=_events,
        help="Print what is done, step by step, as JSON lines on stderr.",
    ),
    click.option(
        "--audit",
        type=click.Path(dir_okay=False, path_type=Path),
        expose_value=False,
        callback=write_audit,
        help="Append the same lines to this file, which is made if it is not there.",
    ),
)

repository_option: _Decorator[Any] = _all(
    click.option(
        "--repo",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=Path(),
        show_default="the current directory",
        help="Top of a working tree, or a bare repository; parents are not searched.",
    ),
)

repository_options: _Decorator[Any] = _all(
    repository_option,
    click.option(
        "--run-dir",
        type=_DIRECTORY,
        help="Where signal files are kept, in RUN_DIR/workstreams/ID; inside the repository, in "
        ".workflow/GRAPH, unless given. Give the same directory to every command.",
    ),
)

graph_option: _Decorator[Any] = _all(
    click.option(
        "--graph", metavar="NAME", required=True, help="Name of the task graph the lanes belong to."
    )
)

remote_options: _Decorator[Any] = _all(
    click.option(
        "--remote",
        metavar="NAME",
        default="origin",
        show_default=True,
        help="Name of the remote the lanes' branches are pushed to.",
    ),
    click.option(
        "--ssh-key",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Private key for an ssh remote; the agent and the usual files unless given.",
    ),
)

github_options: _Decorator[Any] = _all(
    click.option(
        "--api-url",
        metavar="URL",
        help="Base URL of GitHub's API, such as https://ghe.example/api/v3; told from the "
        "remote's address unless given.",
    ),
    click.option(
        "--full-name",
        metavar="OWNER/NAME",
        help="The repository's name at GitHub; told from the remote's address unless given.",
    ),
)

ids_argument: _Decorator[Any] = _all(
    click.argument("ids", nargs=-1, required=True, metavar="ID...")
)
