"""How long GitHub's API is waited for, and how often it is asked: every wait is ours.

The one owner of retries. PyGithub repeats nothing, urllib3 repeats nothing; a request is
sent again by the client here, and only while the deadline, the number of attempts and
the cap on waits allow it.

Source:
    docs.github.com, "Best practices for using the REST API" (a secondary limit without
    ``retry-after``: at least one minute; then exponentially longer).
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass, field

from agentrelay.workstream._durations import check_seconds
from agentrelay.workstream.errors import RepositoryError

__all__ = ["Deadline", "RetryPolicy", "check_policy", "lend_time", "lent_s"]

# A token source is asked between two layers that know no deadline, in the caller's thread.
_lent: ContextVar[Callable[[], float]] = ContextVar("_lent")


def _monotonic() -> float:
    """Read the clock that measures waits."""
    return time.monotonic()


def _wall_clock() -> float:
    """Read the clock that says what time it is."""
    return time.time()


def _pause(seconds: float) -> object:
    """Wait; an event, because a sleep of the process cannot be replaced."""
    return threading.Event().wait(seconds)


def _draw() -> float:
    """Draw a number from 0 up to 1."""
    return random.random()  # noqa: S311 - spreads callers apart, guards nothing


@dataclass(frozen=True)
class RetryPolicy:
    """How often, how long and by which clock GitHub's API is asked.

    One integration, or one question of a teardown, is one operation: its requests,
    pages, repetitions and waits all happen before ``deadline_s`` is over. Reading is
    repeated after failures that pass: no answer, an unusable one, 5xx, a rate limit
    with a short wait. Writing is repeated only after a look that shows that nothing
    happened. A pause that GitHub asks for and that is longer than ``longest_wait_s``,
    or than what is left of the deadline, is not begun: ``RateLimitedError`` says at
    once when to come back.

    May be shared between threads, compared and pickled; a replaced clock must be
    picklable for the last.

    Attributes:
        deadline_s: Longest time one operation may take, in seconds, more than 0.
        attempts: How often one request, or one write, is sent at most; from 1.
        longest_wait_s: Longest single wait, whoever asks for it, in seconds.
        first_wait_s: Wait after the first failure, in seconds; it doubles each time.
        jitter: How much of a wait is left to chance, 0 to 1: our own waits are
            shortened by up to this part, those GitHub asked for lengthened by it.
        monotonic: Reads a clock in seconds that never goes back.
        wall_clock: Reads the time of day in seconds since 1970, for limits that end at
            a time of day.
        wait: Waits that many seconds.
        draw: Draws from 0 up to 1.
    """

    _: KW_ONLY
    deadline_s: float = 90.0
    attempts: int = 4
    longest_wait_s: float = 60.0
    first_wait_s: float = 1.0
    jitter: float = 0.25
    monotonic: Callable[[], float] = field(default=_monotonic, repr=False)
    wall_clock: Callable[[], float] = field(default=_wall_clock, repr=False)
    wait: Callable[[float], object] = field(default=_pause, repr=False)
    draw: Callable[[], float] = field(default=_draw, repr=False)

    def __post_init__(self) -> None:
        """Refuse a policy that would never end, or never begin.

        Raises:
            RepositoryError: A setting is no duration, number or part, or a clock is none.
        """
        for name in ("deadline_s", "longest_wait_s", "first_wait_s"):
            check_seconds(name, getattr(self, name))
        if self.deadline_s == 0:
            raise RepositoryError("deadline_s is 0", hint="Set deadline_s to more than 0 seconds.")
        attempts: object = self.attempts
        jitter: object = self.jitter
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise RepositoryError(
                f"attempts is {attempts!r}", hint="Set attempts to a whole number from 1."
            )
        if isinstance(jitter, bool) or not isinstance(jitter, int | float) or not 0 <= jitter <= 1:
            raise RepositoryError(f"jitter is {jitter!r}", hint="Set jitter to 0, 1 or between.")
        for name in ("monotonic", "wall_clock", "wait", "draw"):
            clock: object = getattr(self, name)
            if not callable(clock):
                raise RepositoryError(
                    f"{name} is {clock!r}", hint=f"Set {name} to a function, or leave it out."
                )

    def backoff_s(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row, in seconds.

        Args:
            failures: From 1.
        """
        # Far above any cap, and far below the largest float.
        doubled = self.first_wait_s * 2.0 ** min(failures - 1, 64)
        return min(doubled, self.longest_wait_s) * (1 - self.jitter * self.draw())

    def start(self) -> Deadline:
        """Start the clock of one operation."""
        return Deadline(self)


def check_policy(value: object) -> None:
    """Accept a policy.

    Args:
        value: What the caller set ``policy`` to.

    Raises:
        RepositoryError: It is something else.
    """
    if not isinstance(value, RetryPolicy):
        raise RepositoryError(
            f"policy is of type {type(value).__name__}",
            hint="Set policy to a RetryPolicy: RetryPolicy(deadline_s=30), for example.",
        )


class Deadline:
    """The time one operation has left."""

    def __init__(self, policy: RetryPolicy) -> None:
        """Start counting now."""
        self.policy = policy
        self._end = policy.monotonic() + policy.deadline_s

    @property
    def left_s(self) -> float:
        """Seconds left; 0 when the time is over."""
        return max(0.0, self._end - self.policy.monotonic())

    def may_wait(self, seconds: float) -> bool:
        """Tell whether a wait is short enough, and leaves time for something after it."""
        return seconds <= self.policy.longest_wait_s and seconds < self.left_s

    def wait_as_asked(self, seconds: float) -> None:
        """Wait as long as a server asked, a little longer if there is time.

        Args:
            seconds: What :meth:`may_wait` allowed.
        """
        longer = seconds * (1 + self.policy.jitter * self.policy.draw())
        self._wait(longer if longer < self.left_s else seconds)

    def back_off(self, failures: int) -> bool:
        """Wait after a failure that passes, if that leaves time to try again.

        Args:
            failures: How many there were in a row, from 1.

        Returns:
            Whether there is time left.
        """
        seconds = self.policy.backoff_s(failures)
        if seconds >= self.left_s:
            return False
        self._wait(seconds)
        return self.left_s > 0

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self.policy.wait(seconds)


@contextmanager
def lend_time(left_s: Callable[[], float]) -> Iterator[None]:
    """Tell what is called in a ``with`` block, in this thread, how long it may take.

    Args:
        left_s: Returns the seconds that are left.
    """
    token = _lent.set(left_s)
    try:
        yield
    finally:
        _lent.reset(token)


def lent_s() -> float:
    """Return the seconds the caller has left; infinite where it set no deadline."""
    left_s = _lent.get(None)
    return math.inf if left_s is None else max(0.0, left_s())
