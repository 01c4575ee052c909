"""Writing to GitHub so that repeating it is harmless: send, look, and only then send again.

A write whose answer is lost may have happened. So nothing is sent twice in a row: after
a failure that passes the state is looked at, and what is found there counts, not the
answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from agentrelay.workstream._github.failures import is_ambiguous, is_duplicate, is_passing
from agentrelay.workstream.errors import WorkstreamError

if TYPE_CHECKING:
    from agentrelay.workstream._github.client import GitHubClient

__all__ = ["settle"]

T = TypeVar("T")


def settle(client: GitHubClient, *, send: Callable[[], T], look: Callable[[], T | None]) -> T:
    """Carry out a write, at most as often as the policy allows, and never blindly again.

    Args:
        client: Whose policy and deadline count.
        send: Makes the request, once, and returns what came of it.
        look: Returns what came of it if it has happened, else ``None``.

    Raises:
        WorkstreamError: The first failure of ``send`` that does not pass, or its last
            one. Doing it again is safe.
    """
    with client.deadline() as deadline:
        failures = 0
        while True:
            try:
                return send()
            except WorkstreamError as error:
                failure = error
            failures += 1
            happened = is_ambiguous(failure) or is_duplicate(failure)
            if not (happened or is_passing(failure)):
                raise failure
            # What GitHub says exists, exists now; a lost answer may be about something
            # that is still being done.
            more = is_duplicate(failure) or client.pause_after(failure, failures, deadline)
            if not (more or happened):
                raise failure
            found = _look(look, failure)
            if found is not None:
                return found
            if is_duplicate(failure):
                more = failures < client.policy.attempts and deadline.back_off(failures)
            if not more:
                raise failure


def _look(look: Callable[[], T | None], failure: WorkstreamError) -> T | None:
    """Look, and let the write's own failure count when that fails too."""
    try:
        return look()
    except WorkstreamError as looking:
        # Not knowing is no reason to write again.
        failure.add_note(f"looking whether it happened failed too: {looking.message}")
    raise failure
