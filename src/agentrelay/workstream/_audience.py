"""Who hears what is done: listeners of a context, listeners of the process, and the log.

All of them get the same facts, and secrets are taken out here: whoever says something
cannot forget it.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final, TypeVar

from agentrelay.workstream._redact import redact

if TYPE_CHECKING:
    import logging

__all__ = [
    "DEBUG",
    "INFO",
    "LOGGER_NAME",
    "WARNING",
    "Facts",
    "Sink",
    "add_sink",
    "carried",
    "clean",
    "has_listeners",
    "hearing",
    "is_heard",
    "remove_sink",
    "tell",
]

# The fields of one event, by name; :class:`agentrelay.workstream.events.LaneEvent` has them all.
Facts = dict[str, Any]
Sink = Callable[[Facts], None]
_R = TypeVar("_R")

LOGGER_NAME: Final = "agentrelay.workstream"
# Those of logging, which is imported when somebody else has done so.
DEBUG, INFO, WARNING = 10, 20, 30
# A detail is for one line of a log.
_LONGEST_DETAIL: Final = 1_000

_sinks: ContextVar[tuple[Sink, ...]] = ContextVar("_sinks", default=())
# What a listener does itself is not told: it would be told of that, too, without end. That is
# the thread in the list, while it is there: whatever the listener lets others begin, a task
# of asyncio's for example, keeps a copy of this context and is told all the same.
_telling: ContextVar[list[int] | None] = ContextVar("_telling", default=None)

# Replaced, never changed: whoever tells something reads it once, without the lock.
_everywhere: tuple[Sink, ...] = ()
_changing = threading.Lock()
_logger: logging.Logger | None = None


def _renew_lock() -> None:
    global _changing  # noqa: PLW0603 - a lock cannot be reset in place
    _changing = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def hearing(sink: Sink) -> Iterator[None]:
    """Tell somebody what is done in a ``with`` block, in this context only."""
    token = _sinks.set((*_sinks.get(), sink))
    try:
        yield
    finally:
        _sinks.reset(token)


def add_sink(sink: Sink) -> None:
    """Tell somebody what is done in this process from now on."""
    global _everywhere  # noqa: PLW0603 - it is the process that is listened to
    with _changing:
        _everywhere = (*_everywhere, sink)


def remove_sink(sink: Sink) -> None:
    """Tell somebody no more; harmless where nobody did."""
    global _everywhere  # noqa: PLW0603 - as above
    with _changing:
        _everywhere = tuple(other for other in _everywhere if other is not sink)


def has_listeners() -> bool:
    """Tell whether anybody but the log would hear something."""
    return bool(_everywhere or _sinks.get())


def _find_logger() -> logging.Logger | None:
    """Return the logger, or ``None`` while nobody in this process logs anything."""
    global _logger  # noqa: PLW0603 - made on first use: importing logging takes milliseconds
    if _logger is None and sys.modules.get("logging") is not None:
        import logging

        logger = logging.getLogger(LOGGER_NAME)
        # A library does not print: without it, warnings of nobody's appear on stderr.
        logger.addHandler(logging.NullHandler())
        _logger = logger
    return _logger


def is_heard(level: int) -> bool:
    """Tell whether anybody would hear of something of this level."""
    if _everywhere or _sinks.get():
        return True
    logger = _logger or _find_logger()
    return logger is not None and logger.isEnabledFor(level)


def tell(facts: Facts, *, level: int) -> None:
    """Tell everybody, now.

    Args:
        facts: The fields of an event but for the time; the detail is made clean here,
            names are clean already.
        level: Level of the log; 0 for what is not logged.
    """
    facts["at"] = time.time()
    facts["detail"] = clean(facts["detail"])
    logger = _find_logger()
    if level and logger is not None and logger.isEnabledFor(level):
        # A filter or a record factory of the program's may fail; the lane is not theirs.
        with suppress(Exception):
            logger.log(level, "%s", _sentence(facts), extra=facts)
    if _is_telling():
        return
    listening = [threading.get_ident()]
    token = _telling.set(listening)
    try:
        for sink in (*_sinks.get(), *_everywhere):
            sink(facts)
    finally:
        listening.clear()
        _telling.reset(token)


def _is_telling() -> bool:
    return threading.get_ident() in (_telling.get() or ())


def carried(function: Callable[[], _R]) -> Callable[[], _R]:
    """Return a function that does the same in another thread, for the same verb and listeners.

    What a listener does in threads of a verb's is done by itself, and not told either.
    """
    if not _is_telling():
        return functools.partial(copy_context().run, function)

    def run_untold() -> _R:
        listening = [threading.get_ident()]
        token = _telling.set(listening)
        try:
            return function()
        finally:
            listening.clear()
            _telling.reset(token)

    return functools.partial(copy_context().run, run_untold)


def clean(value: object) -> str | None:
    """Return a text as it is told: on one line, not too long, and without secrets."""
    if value is None:
        return None
    if not isinstance(value, str):
        # A name that is none is about to be refused; its words may be anything.
        return f"({type(value).__name__})"
    text = redact(value)
    if not text.isprintable():
        text = " ".join(text.split())
        # What could act on a terminal, or cannot be encoded, as Python spells it.
        text = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
    return text if len(text) <= _LONGEST_DETAIL else f"{text[:_LONGEST_DETAIL]}..."


def _sentence(facts: Facts) -> str:
    """Return the facts as a log shows them."""
    names = [facts["graph"], facts["workstream_id"]]
    lane = "/".join(name for name in names if name is not None)
    words = [facts["verb"], *([lane] if lane else [])]
    if facts["step"] is not None:
        words[-1] += ":"
        words.append(facts["step"])
    words.append(facts["outcome"])
    if facts["duration_s"] is not None:
        words.append(f"after {facts['duration_s']:.3f} s")
    if facts["size_bytes"] is not None:
        words.append(f"({facts['size_bytes']:,} bytes)")
    sentence = " ".join(words)
    return sentence if facts["detail"] is None else f"{sentence}: {facts['detail']}"
