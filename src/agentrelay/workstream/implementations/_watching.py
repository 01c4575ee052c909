"""Watching lanes until they settle: when to look, and what to say; without a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

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
        self._merged: dict[int, MergeCheck] = {}

    @property
    def hurries(self) -> bool:
        """Whether lanes are held back only until it is known how they were merged."""
        return bool(self._merged)

    def tell(
        self,
        checks: Sequence[MergeCheck],
        *,
        is_over: bool,
        is_partial: Callable[[MergeCheck], bool] = lambda _: False,
    ) -> Iterator[MergeEvent]:
        """Take one round of answers, and say what is new.

        A lane that was merged or closed is watched no longer. That it cannot be told is
        said once for each reason. When the time is over, every other lane has a last word.

        Args:
            checks: One for each lane in ``waiting``, in its order.
            is_over: Whether this was the last round.
            is_partial: Tells whether the next round knows more about a merge that is
                certain. Its lane is held back until then, or until a round fails.
        """
        told, left, held = [], [], self._merged
        self._merged = {}
        for runtime, now in zip(self.waiting, checks, strict=True):
            known = held.get(id(runtime))
            is_failure = known is not None and now.verdict is MergeVerdict.CANNOT_TELL
            check = known if is_failure and known is not None else now
            settled = check.verdict in _SETTLED
            if settled and not is_over and not is_failure and is_partial(check):
                self._merged[id(runtime)] = check
                left.append(runtime)
                continue
            told.append((runtime, check, is_over or settled))
            if not (is_over or settled):
                left.append(runtime)
        self.waiting = left
        for runtime, check, is_last in told:
            unknown = check.reason if check.verdict is MergeVerdict.CANNOT_TELL else None
            is_news = unknown is not None and self._reasons.get(id(runtime)) != unknown
            self._reasons[id(runtime)] = unknown
            if is_last or is_news:
                yield MergeEvent(runtime, check, is_last)
