"""A clock of a test's own: waiting takes no time and is remembered."""

from __future__ import annotations

import threading
from typing import Any

from agentrelay.workstream import RetryPolicy

__all__ = ["StillClock"]


class StillClock:
    """Time that passes only while somebody waits.

    Attributes:
        waits: Every wait, in seconds, in order.
        wall_s: Time of day when the clock was made, in seconds since 1970.
    """

    def __init__(self, *, wall_s: float = 1_700_000_000.0) -> None:
        """Start at a time of day."""
        self.waits: list[float] = []
        self.wall_s = wall_s
        self._lock = threading.Lock()
        self._passed_s = 0.0

    @property
    def waited_s(self) -> float:
        """How long was waited in all, in seconds."""
        return self._passed_s

    def monotonic(self) -> float:
        """Return the seconds since the clock was made."""
        return self._passed_s

    def wall_clock(self) -> float:
        """Return the time of day."""
        return self.wall_s + self._passed_s

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self.waits.append(seconds)
            self._passed_s += seconds

    def policy(self, **settings: Any) -> RetryPolicy:
        """Return a policy that lives by this clock and leaves nothing to chance."""
        return RetryPolicy(
            **{
                "monotonic": self.monotonic,
                "wall_clock": self.wall_clock,
                "wait": self.wait,
                "draw": lambda: 0.0,
                **settings,
            }
        )
