"""Saying what is done: verbs, their steps, and where a verb may be stopped.

What somebody calls is a verb, what it consists of are its steps. While nobody listens a
step costs about a microsecond.

The beginning of a step is also the place, and the only one, where a verb that runs in a
thread is stopped when nobody wants it any more. What follows is what follows a crash at
that place: repeating the verb completes it.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from agentrelay.workstream._audience import (
    DEBUG,
    INFO,
    WARNING,
    carried,
    clean,
    has_listeners,
    is_heard,
    tell,
)
from agentrelay.workstream.errors import WorkstreamError

__all__ = [
    "Step",
    "StoppedBetweenStepsError",
    "Verb",
    "carried",
    "lane_verb",
    "say",
    "say_end",
    "stoppable",
    "way_out",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_S = TypeVar("_S")

# How often a step says how far it is; a display that is drawn more often flickers.
_TELL_EVERY_S: Final = 0.1

_verb: ContextVar[Verb | None] = ContextVar("_verb", default=None)
# Empty again when the work is over: a task that was begun in it keeps a copy of this context.
_stop: ContextVar[list[threading.Event] | None] = ContextVar("_stop", default=None)
_count: Final = itertools.count(1)


class StoppedBetweenStepsError(BaseException):
    """A verb was stopped at the beginning of a step; like Ctrl-C, no step handles it."""


class Verb:
    """One call of a verb; a context manager, or begun and ended by hand.

    Attributes:
        name: What is done: ``"prepare"``.
        graph: Name of the task graph, if it is about one.
        workstream_id: Whose lane it is about, if it is about one.
    """

    __slots__ = (
        *("_began", "_clean", "_detail", "_failed", "_is_over", "_operation", "_token"),
        *("graph", "name", "told", "workstream_id"),
    )

    def __init__(self, name: str, graph: object = None, workstream_id: object = None) -> None:
        """Name it; a name that is no text is told as one."""
        self.name = name
        self.graph = graph
        self.workstream_id = workstream_id
        # The failure that the log has been warned of already.
        self.told: BaseException | None = None
        self._began = 0.0
        self._detail: str | None = None
        self._failed = False
        self._is_over = False
        self._operation = ""
        self._clean: tuple[object, object, str | None, str | None] | None = None
        self._token: Any = None

    @property
    def operation(self) -> str:
        """What tells this call from all others of this machine."""
        if not self._operation:
            self._operation = f"{time.time_ns():x}-{os.getpid():x}-{next(_count):x}"
        return self._operation

    def clean_names(self) -> tuple[str | None, str | None]:
        """Return graph and id as they are told; they are looked through once, which takes long."""
        known = self._clean
        if known is None or known[0] is not self.graph or known[1] is not self.workstream_id:
            names = clean(self.graph), clean(self.workstream_id)
            known = self._clean = (self.graph, self.workstream_id, *names)
        return known[2], known[3]

    def __enter__(self) -> Self:
        """Begin, and take the steps that follow for steps of this verb."""
        self.begin()
        self._token = _verb.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Say how it ended."""
        _verb.reset(self._token)
        self.end(error)

    def begin(self) -> None:
        """Say that it begins.

        Raises:
            StoppedBetweenStepsError: Nobody wants it any more; nothing was said.
        """
        _check_stop()
        self._began = time.monotonic()
        if is_heard(INFO):
            _tell(self, None, "started", level=INFO)

    def end(self, error: BaseException | None = None) -> None:
        """Say how it ended, once; later calls say nothing, nor do those before it began.

        Args:
            error: What ended it early, if something did.
        """
        if self._is_over or not self._began:
            return
        self._is_over = True
        outcome = _outcome(error)
        if self._failed and error is None:
            outcome = "failed"
        level = INFO if outcome != "failed" else WARNING
        if is_heard(level):
            detail = self._detail if error is None else _words(error)
            duration_s = time.monotonic() - self._began
            _tell(self, None, outcome, level=level, duration_s=duration_s, detail=detail)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Take the steps of a ``with`` block for steps of this verb, which is not ended."""
        token = _verb.set(self)
        try:
            yield
        finally:
            _verb.reset(token)

    def say(self, detail: str) -> None:
        """Have a few words said when it ends well."""
        self._detail = detail

    def fail(self, detail: str) -> None:
        """Let it count as failed although nothing is raised."""
        self._detail = detail
        self._failed = True


class Step:
    """One step of whatever verb is going on; a context manager.

    Attributes:
        name: What is done: ``"fetch"``.
        size_bytes: How much was moved so far, in bytes; ``None`` where that is not known.
    """

    __slots__ = ("_began", "_failure", "_told_all", "_told_at", "_verb", "name", "size_bytes")

    def __init__(self, name: str) -> None:
        """Name it."""
        self.name = name
        self.size_bytes: int | None = None
        self._failure: str | None = None
        self._told_all = False

    def __enter__(self) -> Self:
        """Begin.

        Raises:
            StoppedBetweenStepsError: Nobody wants the verb any more.
        """
        _check_stop()
        verb = self._verb = _verb.get()
        if verb is not None:
            self._told_at = self._began = time.monotonic()
            if is_heard(DEBUG):
                _tell(verb, self.name, "started", level=DEBUG)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Say how it ended."""
        verb = self._verb
        if verb is None:
            return
        outcome, level = _outcome(error), DEBUG
        if error is None and self._failure is not None:
            outcome, level = "failed", WARNING
        elif isinstance(error, Exception) and verb.told is not error:
            # One warning for one failure: the innermost step's.
            verb.told, level = error, WARNING
        if is_heard(level):
            _tell(
                verb,
                self.name,
                outcome,
                level=level,
                duration_s=time.monotonic() - self._began,
                size_bytes=self.size_bytes,
                detail=self._failure if error is None else _words(error),
            )

    @property
    def wants_progress(self) -> bool:
        """Whether it is worth finding out how far it is, and how much was moved in the end."""
        return self._verb is not None and is_heard(DEBUG)

    def fail(self, detail: str) -> None:
        """Let it count as failed although nothing is raised."""
        self._failure = detail

    def progress(self, done: int, total: int, size_bytes: int | None) -> None:
        """Say how far it is, now and then.

        Args:
            done: Files or objects that are there.
            total: How many there will be.
            size_bytes: Their size so far, in bytes, if that is known.
        """
        self.size_bytes = size_bytes
        if self._verb is None or self._told_all or not has_listeners():
            return
        now = time.monotonic()
        is_all = 0 < total <= done
        if now - self._told_at < _TELL_EVERY_S and not is_all:
            return
        self._told_at, self._told_all = now, is_all
        _tell(
            self._verb,
            self.name,
            "progress",
            level=0,
            duration_s=now - self._began,
            size_bytes=size_bytes,
            done=done,
            total=total,
        )


def lane_verb(
    method: Callable[Concatenate[_S, _P], _R],
) -> Callable[Concatenate[_S, _P], _R]:
    """Make a method of what has a ``_lane`` a verb of that lane, named as the method is."""

    @functools.wraps(method)
    def told(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        lane: Any = self._lane  # type: ignore[attr-defined]  # the one thing asked of it
        with Verb(method.__name__, lane.graph, lane.workstream_id):
            return method(self, *args, **kwargs)

    return told


def say(detail: str) -> None:
    """Have a few words said when the verb that is going on ends well."""
    verb = _verb.get()
    if verb is not None:
        verb.say(detail)


def say_end(failures: Sequence[str], remark: str | None) -> None:
    """Say of a verb that raises nothing which steps failed, if any did; else a remark."""
    verb = _verb.get()
    if verb is None:
        return
    if failures:
        verb.fail(f"could not {', '.join(failures)}")
    elif remark is not None:
        verb.say(remark)


@contextmanager
def stoppable(stop: threading.Event) -> Iterator[None]:
    """Let what is done in a ``with`` block, in this context, end at its next step if asked to.

    Args:
        stop: Set by whoever does not want it any more.
    """
    asked = [stop]
    token = _stop.set(asked)
    try:
        yield
    finally:
        asked.clear()
        _stop.reset(token)


def way_out() -> Callable[[], None] | None:
    """Return what ends a verb in the middle of a wait, if it can be stopped at all.

    Only for waits before which nothing was done that the step before had not done.
    """
    return _check_stop if _stop.get() else None


def _check_stop() -> None:
    if any(stop.is_set() for stop in _stop.get() or ()):
        raise StoppedBetweenStepsError


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "done"
    return "failed" if isinstance(error, Exception) else "stopped"


def _words(error: BaseException) -> str:
    """Return what may be said of a failure: of a stranger's only what it is called.

    Its text may be anything, an address with its password included.
    """
    kind = type(error).__name__
    if isinstance(error, WorkstreamError):
        return f"{kind}: {error.message}"
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{kind}: {reason}" if reason else kind


def _tell(
    verb: Verb,
    step: str | None,
    outcome: str,
    *,
    level: int,
    duration_s: float | None = None,
    size_bytes: int | None = None,
    done: int | None = None,
    total: int | None = None,
    detail: str | None = None,
) -> None:
    """Tell everybody something of a verb."""
    graph, workstream_id = verb.clean_names()
    tell(
        {
            "operation": verb.operation,
            "graph": graph,
            "workstream_id": workstream_id,
            "verb": verb.name,
            "step": step,
            "outcome": outcome,
            "duration_s": duration_s,
            "size_bytes": size_bytes,
            "done": done,
            "total": total,
            "detail": detail,
        },
        level=level,
    )
