"""The command line: ``agentrelay-workstream``.

Needs the extra ``cli`` (click and rich). Importing it loads neither libgit2 nor the
GitHub client; commands load them when they need them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import click

from agentrelay.workstream.cli.demo import demo
from agentrelay.workstream.cli.doctor import doctor
from agentrelay.workstream.cli.event_lines import AUDIT_FAILED
from agentrelay.workstream.cli.lanes import integrate, prepare, teardown
from agentrelay.workstream.cli.live import live
from agentrelay.workstream.cli.merges import check, watch
from agentrelay.workstream.cli.options import DEBUG, JSON, NOTES
from agentrelay.workstream.cli.reconcile import reconcile
from agentrelay.workstream.cli.rescue import forget, rescued, restore
from agentrelay.workstream.cli.retarget import retarget
from agentrelay.workstream.cli.status import status
from agentrelay.workstream.cli.tasks import sync, task
from agentrelay.workstream.cli.workspace import clone, lane

__all__ = ["program"]

# 128 + SIGINT, as shells report it.
_INTERRUPTED: Final = 130

_HELP: Final = """Git lanes for coding agents, in process: no git, no gh.

A lane is one workstream's place in a repository: a branch, a linked worktree to work in,
and in the end one pull request. Many lanes stand side by side, and your own checkout is
never touched.

\b
See it all happen, on this machine only:
  agentrelay-workstream demo

\b
On a repository of yours:
  agentrelay-workstream prepare --graph nightly parser
  ... commit in .worktrees/nightly/parser ...
  agentrelay-workstream integrate --graph nightly parser
  ... review and merge the pull request ...
  agentrelay-workstream check --graph nightly parser
  agentrelay-workstream teardown --graph nightly parser
"""


class _Program(click.Group):
    """A group whose failures are one line, whatever they are."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the commands in the order in which a lane meets them."""
        del context
        return list(self.commands)

    def invoke(self, context: click.Context) -> Any:
        """Run the chosen command, and say in one line why it ended early."""
        try:
            result = super().invoke(context)
            if context.meta.get(AUDIT_FAILED):
                context.exit(1)
            return result  # noqa: TRY300 - what exit raises is handled as any other exit
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt as error:
            message = "interrupted; lanes can be resumed by repeating the command"
            if context.invoked_subcommand == demo.name:
                message = "interrupted"
            self._give_up(context, message, None, error)
            context.exit(_INTERRUPTED)
        except Exception as error:  # noqa: BLE001 - the last resort of a program
            from agentrelay.workstream.cli.report import explain

            self._give_up(context, *explain(error), error)
            context.exit(1)

    @staticmethod
    def _give_up(
        context: click.Context, message: str, hint: str | None, error: BaseException
    ) -> None:
        from agentrelay.workstream.cli.report import print_document, print_failure

        if context.meta.get(JSON):
            # Where stdout is full that was the error, and the document cannot be printed either.
            with suppress(OSError):
                print_document({"lanes": [], "error": message, "hint": hint})
        print_failure(message, hint, failure=error if context.meta.get(DEBUG) else None)


@click.group(
    cls=_Program,
    help=_HELP,
    epilog=NOTES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="agentrelay-workstream", prog_name="agentrelay-workstream")
def program() -> None:
    """Hold the commands; each is a command of its own."""


for _command in (
    demo,
    clone,
    prepare,
    lane,
    integrate,
    check,
    watch,
    retarget,
    teardown,
    status,
    live,
    rescued,
    restore,
    forget,
    reconcile,
    doctor,
):
    program.add_command(_command)

for _command in (task, sync):
    lane.add_command(_command)
