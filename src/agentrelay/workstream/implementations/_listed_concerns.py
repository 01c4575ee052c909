"""Concerns that a description lists: another process may have recorded them; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from agentrelay.workstream.core.runtime import TaskSummary
from agentrelay.workstream.implementations._pull_text import lines_of

__all__ = ["lists_other_concerns"]

# Lines of the library's own. What agents write is behind something, or indented: it can
# begin such a list where it is not known, which is harmless, and end none.
_BEGINS: Final = re.compile(r"## (?:Operational c|C)oncerns|  Concerns:")
_ENDS: Final = re.compile(r"- \*\*Task\*\* |<!-- agentrelay:")


def lists_other_concerns(
    body: str,
    summaries: Iterable[TaskSummary],
    concerns: Iterable[str],
    *,
    host: str,
    secrets: Iterable[str],
) -> bool:
    """Tell whether a description lists a concern, of a lane or a task, beside these.

    Args:
        body: Body of a pull request.
        summaries: The tasks that are known, with their concerns.
        concerns: The lane's concerns that are known.
        host: Host of the GitHub that shows it.
        secrets: Values that were masked in it.
    """
    known: frozenset[str] | None = None
    is_listing = False
    for line in (line.rstrip() for line in body.split("\n")):
        if _BEGINS.fullmatch(line):
            is_listing = True
        elif _ENDS.match(line):
            is_listing = False
        elif is_listing and line:
            known = known or frozenset(
                each.rstrip() for each in lines_of(summaries, concerns, host=host, secrets=secrets)
            )
            if line not in known:
                return True
    return False
