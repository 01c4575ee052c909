"""Events: what is done to which lane, step by step, as it happens.

Every verb of the library says when it begins and how it ended, and so does each of its
steps. A callback hears of it, or an iterator; the same facts go to the standard logger
``agentrelay.workstream``: verbs at INFO, steps at DEBUG, failures at WARNING. No event and
no log record holds a secret.

Callbacks are called in the threads that do the work, several at once where several lanes
are worked on, and the work waits for them; some of it holds a lane. They should be quick,
and not work on lanes themselves: of what they do nothing is told. One that raises is not
called again, which the log says; the lane is not harmed.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from types import TracebackType
from typing import Final, Optional, Self

from agentrelay.workstream import _audience
from agentrelay.workstream.errors import WorkstreamError

__all__ = ["EventOutcome", "EventStream", "LaneEvent", "Subscription", "listening", "subscribe"]


# In ASCII: no terminal and no pipe can spoil it.
_encoded: Final = json.JSONEncoder(separators=(",", ":")).encode
# More would not fit into any memory.
_MOST_WAITING: Final = 1_000_000_000
_NUMBERS: Final = frozenset({"at", "duration_s", "size_bytes", "done", "total"})


class EventOutcome(StrEnum):
    """What an event says.

    Attributes:
        STARTED: A verb or step begins.
        PROGRESS: A step is so far.
        DONE: It ended well.
        FAILED: It raised an error; or, of a teardown, a step of it did.
        STOPPED: It was interrupted or cancelled.
    """

    STARTED = "started"
    PROGRESS = "progress"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class LaneEvent:
    """Something that happened to a lane, or to several at once.

    Attributes:
        at: When, in seconds since 1970.
        operation: The same in all events of one call of a verb, and in no others.
        verb: What was called: ``"prepare"``, ``"integrate"``, ``"commit"``, ...
        outcome: What is said about it.
        graph: Name of the task graph, ``None`` where it is about none.
        workstream_id: Whose lane it is; ``None`` where it is about none or about several.
        step: Which step it is about; ``None`` for the verb as a whole.
        duration_s: Time since the beginning of the step or verb, in seconds; ``None`` at
            the beginning.
        size_bytes: What the step has received, sent or written so far, in bytes; ``None``
            where that is not known.
        done: Files or objects that are there, in progress; ``None`` otherwise.
        total: How many there will be, likewise.
        detail: What came of it, or what went wrong, in one line; may be ``None``.
    """

    at: float
    operation: str
    verb: str
    outcome: EventOutcome
    graph: Optional[str] = None
    workstream_id: Optional[str] = None
    step: Optional[str] = None
    duration_s: Optional[float] = None
    size_bytes: Optional[int] = None
    done: Optional[int] = None
    total: Optional[int] = None
    detail: Optional[str] = None

    @property
    def is_end(self) -> bool:
        """Whether the step or verb is over."""
        return self.outcome not in {EventOutcome.STARTED, EventOutcome.PROGRESS}

    def to_json(self) -> str:
        """Return the event as a JSON object on one line, in ASCII, without a line's end."""
        return _encoded(vars(self))

    @classmethod
    def from_json(cls, line: str) -> LaneEvent:
        """Return the event that :meth:`to_json` wrote; fields that are not known are left out.

        Raises:
            ValueError: It is no event.
        """
        document = json.loads(line)
        if not isinstance(document, dict):
            raise ValueError(f"{line[:80]!a} is no event")  # noqa: TRY004 - the text is wrong
        known = {field.name for field in fields(cls)}
        facts = {key: value for key, value in document.items() if key in known}
        facts["outcome"] = EventOutcome(str(facts.get("outcome")))
        for name, value in facts.items():
            kinds = (int, float) if name in _NUMBERS else (str,)
            is_left_out = value is None and name not in {"at", "operation", "verb"}
            if not is_left_out and (not isinstance(value, kinds) or isinstance(value, bool)):
                raise ValueError(f"{name} of an event is {value!a:.80}")
        try:
            return cls(**facts)
        except TypeError as error:
            raise ValueError(f"{line[:80]!a} is no event") from error


class Subscription:
    """A callback that hears of everything in this process until it is closed.

    :func:`subscribe` returns it. Also a context manager, which closes it.
    """

    def __init__(self, callback: Callable[[LaneEvent], object]) -> None:
        """Begin to listen.

        Raises:
            WorkstreamError: It cannot be called, or would have to be awaited.
        """
        self._sink = _sink(callback)
        _audience.add_sink(self._sink)

    def close(self) -> None:
        """Hear no more, except of what is being told right now; harmless when repeated."""
        _audience.remove_sink(self._sink)

    def __enter__(self) -> Self:
        """Go on listening."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening."""
        self.close()


def subscribe(callback: Callable[[LaneEvent], object]) -> Subscription:
    """Call somebody with each event of this process, whichever thread it happens in.

    Args:
        callback: Called in the thread that does the work; see the module.

    Returns:
        What ends it.

    Raises:
        WorkstreamError: It cannot be called, or would have to be awaited.
    """
    return Subscription(callback)


@contextmanager
def listening(callback: Callable[[LaneEvent], object]) -> Iterator[None]:
    """Call somebody with the events of what is done in a ``with`` block, and no others.

    It follows the context (:mod:`contextvars`): into the threads of a batch, into asyncio's
    tasks and ``asyncio.to_thread``, not into threads the caller starts himself. Two
    orchestrators in one process do not hear each other.

    Args:
        callback: Called in the thread that does the work; see the module.

    Raises:
        WorkstreamError: It cannot be called, or would have to be awaited.
    """
    with _audience.hearing(_sink(callback)):
        yield


class EventStream:
    """The events of this process, one after the other, for a thread of its own.

    ::

        with EventStream() as stream:
            threading.Thread(target=work).start()
            for event in stream:
                ...

    No lane waits for the reader: while ``maxsize`` events are waiting to be read, each new
    one drops the oldest, which ``dropped`` counts.

    Attributes:
        dropped: How many events were dropped so far.
    """

    def __init__(self, *, maxsize: int = 10_000, silence_s: float = 600.0) -> None:
        """Begin to listen.

        Args:
            maxsize: How many events may wait to be read, from 1 to a billion.
            silence_s: How long to wait for the next event, in seconds; when none comes,
                the iteration ends. The usual 600 is the longest time one transfer may take.

        Raises:
            WorkstreamError: A setting is no number, or too small.
        """
        _check("maxsize", maxsize, at_least=1, at_most=_MOST_WAITING, is_whole=True)
        _check("silence_s", silence_s, at_least=0)
        self.dropped = 0
        self._silence_s = silence_s
        self._events: deque[LaneEvent] = deque(maxlen=maxsize)
        self._changed = threading.Condition()
        self._is_closed = False
        _streams.add(self)
        self._subscription = subscribe(self._put)

    def _put(self, event: LaneEvent) -> None:
        with self._changed:
            if self._is_closed:
                return
            self.dropped += len(self._events) == self._events.maxlen
            self._events.append(event)
            self._changed.notify()

    def get(self, *, timeout_s: float) -> LaneEvent | None:
        """Return the next event.

        Args:
            timeout_s: How long to wait for it, in seconds.

        Returns:
            ``None`` when there was none, or the stream is closed and read to its end.

        Raises:
            WorkstreamError: The time is no number, or negative.
        """
        _check("timeout_s", timeout_s, at_least=0)
        ends_at = time.monotonic() + timeout_s
        with self._changed:
            while not self._events:
                left_s = ends_at - time.monotonic()
                if self._is_closed or left_s <= 0:
                    return None
                self._changed.wait(min(left_s, threading.TIMEOUT_MAX))
            return self._events.popleft()

    def __iter__(self) -> Iterator[LaneEvent]:
        """Yield events until the stream is closed and read, or nothing happens for long."""
        while (event := self.get(timeout_s=self._silence_s)) is not None:
            yield event

    def close(self) -> None:
        """Listen no more; what has not been read can be read still. May be repeated."""
        self._subscription.close()
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def __enter__(self) -> Self:
        """Go on listening."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening."""
        self.close()


# Of this process; a forked child may not wait for a thread of its parent's.
_streams: Final[weakref.WeakSet[EventStream]] = weakref.WeakSet()


def _renew_locks() -> None:
    for stream in tuple(_streams):
        stream._changed = threading.Condition()  # noqa: SLF001 - a lock cannot be reset in place


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def _sink(callback: Callable[[LaneEvent], object]) -> _audience.Sink:
    """Return what turns facts into events; a callback that fails is not called again."""
    given: object = callback
    is_awaited = inspect.iscoroutinefunction(given)
    if is_awaited or not callable(given):
        kind = "coroutine function" if is_awaited else type(given).__name__
        raise WorkstreamError(
            f"a {kind} is no listener: it cannot be called with an event",
            hint="Pass a function; from asyncio, read an AsyncEventStream.",
        )
    listening_ones = [callback]

    def sink(facts: _audience.Facts) -> None:
        for one in tuple(listening_ones):
            try:
                one(LaneEvent(**{**facts, "outcome": EventOutcome(facts["outcome"])}))
            except Exception as error:  # noqa: BLE001 - the lane is not the listener's
                listening_ones.clear()
                _complain(one, error)

    return sink


def _check(
    name: str,
    value: object,
    *,
    at_least: int,
    at_most: float = math.inf,
    is_whole: bool = False,
) -> None:
    """Refuse a setting that is no number, or too small, or too large.

    Raises:
        WorkstreamError: It is.
    """
    kinds = int if is_whole else int | float
    if isinstance(value, kinds) and not isinstance(value, bool) and at_least <= value <= at_most:
        return
    number = "a whole number" if is_whole else "a number"
    raise WorkstreamError(
        f"{name} is {value!a:.80}", hint=f"Set it to {number} of {at_least} or more."
    )


def _complain(callback: object, error: Exception) -> None:
    """Say once that a callback is not called any more; its error's text may be anything."""
    if sys.modules.get("logging") is None:
        return
    import logging

    name = getattr(callback, "__qualname__", type(callback).__name__)
    kind = type(error).__name__
    logging.getLogger(_audience.LOGGER_NAME).error(
        "the listener %s raised %s and hears no more events", name, kind
    )
