"""Watching lanes until they settle: when to look, and what to say; without a clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentrelay.workstream.core.merge import MergeCheck, MergeEvent, MergeVerdict
from agentrelay.workstream.core.runtime import WorkstreamRuntime

__all__ = ["Watching"]

_SETTLED = frozenset({MergeVerdict.MERGED, MergeVerdict.CLOSED})


class Watching:
    """Which lanes are still watched, and what was said about them.

    Attributes:
        waiting: The lanes that are still watched.
    """

    def __init__(self, runtimes: Sequence[WorkstreamRuntime]) -> None:
        """Watch these lanes."""
        self.waiting = list(runtimes)
        self._reasons: dict[int, str | None] = {}

    def tell(self, checks: Sequence[MergeCheck], *, is_over: bool) -> Iterator[MergeEvent]:
        """Take one round of answers, and say what is new.

        A lane that was merged or closed is watched no longer. That it cannot be told is
        said once for each reason. When the time is over, every other lane has a last word.

        Args:
            checks: One for each lane in ``waiting``, in its order.
            is_over: Whether this was the last round.
        """
        round_of = list(zip(self.waiting, checks, strict=True))
        self.waiting = [
            runtime for runtime, check in round_of if not is_over and check.verdict not in _SETTLED
        ]
        for runtime, check in round_of:
            is_last = is_over or check.verdict in _SETTLED
            unknown = check.reason if check.verdict is MergeVerdict.CANNOT_TELL else None
            is_news = unknown is not None and self._reasons.get(id(runtime)) != unknown
            self._reasons[id(runtime)] = unknown
            if is_last or is_news:
                yield MergeEvent(runtime, check, is_last)
