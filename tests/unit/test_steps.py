"""Verbs and steps by themselves: when they speak, and what never gets into what they say."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest

from agentrelay.workstream._steps import (
    Step,
    StoppedBetweenStepsError,
    Verb,
    carried,
    say,
    say_end,
    stoppable,
)
from agentrelay.workstream.errors import RepositoryError
from agentrelay.workstream.events import EventOutcome, EventStream, LaneEvent, listening


def heard_of(action: Callable[[], object]) -> list[LaneEvent]:
    """Do something; return what was heard of it."""
    heard: list[LaneEvent] = []
    with listening(heard.append):
        action()
    return heard


def told(events: list[LaneEvent]) -> list[tuple[str | None, str]]:
    """Return steps and outcomes."""
    return [(event.step, event.outcome.value) for event in events]


def test_a_step_of_no_verb_says_nothing() -> None:
    """Whoever calls what is private is not listened to, and meets no error."""

    def act() -> None:
        with Step("fetch") as step:
            step.progress(1, 1, 1)
            assert not step.wants_progress
        say("done")
        say_end(["fetch"], None)

    assert heard_of(act) == []


def test_a_verb_ends_once_and_not_before_it_began() -> None:
    """So whoever gives a batch up may end all of its verbs."""

    def act() -> None:
        verb = Verb("prepare", "g", "a")
        verb.end()
        verb.begin()
        verb.end()
        verb.end(RepositoryError("too late"))

    assert told(heard_of(act)) == [(None, "started"), (None, "done")]


def test_what_failed_without_an_error_is_told() -> None:
    """A teardown goes on after a step that failed; a push tells one branch from the others."""

    def act() -> None:
        with Verb("teardown", "g", "a"):
            with Step("push") as step:
                step.fail("1 of 2")
            say_end(["push"], "a remark")
        with Verb("teardown", "g", "a"):
            say_end([], "kept")
        with Verb("teardown", "g", "a"):
            say_end([], None)

    ends = [(event.outcome, event.detail) for event in heard_of(act) if event.is_end]
    assert ends == [
        ("failed", "1 of 2"),
        ("failed", "could not push"),
        ("done", "kept"),
        ("done", None),
    ]


def test_progress_is_told_at_the_end_and_not_again() -> None:
    """In between now and then only: a transfer may report a thousand times a second."""

    def act() -> None:
        with Verb("clone"), Step("fetch") as step:
            for _ in range(3):
                step.progress(7, 7, 70)

    progress = [event for event in heard_of(act) if event.outcome is EventOutcome.PROGRESS]
    assert [(event.done, event.total, event.size_bytes) for event in progress] == [(7, 7, 70)]


@pytest.mark.parametrize("begin", [Verb("prepare").begin, Step("fetch").__enter__])
def test_what_nobody_wants_any_more_does_not_begin(begin: Callable[[], object]) -> None:
    """Nothing is said of it either; and what goes on elsewhere is not stopped."""
    stop = threading.Event()
    with stoppable(stop):
        stop.set()
        with pytest.raises(StoppedBetweenStepsError):
            begin()
    begin()


def test_what_was_begun_in_stopped_work_and_outlives_it_is_not_stopped() -> None:
    """A task of asyncio's keeps a copy of the context in which a callback began it."""
    stop = threading.Event()
    with stoppable(stop):
        stop.set()
        kept = copy_context()
    kept.run(Verb("prepare").begin)
    kept.run(Step("fetch").__enter__)


def test_a_thread_is_carried_into_the_verb() -> None:
    """Its steps are that verb's, for the same listeners."""

    def act() -> None:
        def work() -> None:
            with Step("checkout"):
                pass

        with Verb("prepare", "g", "a"):
            thread = threading.Thread(target=carried(work))
            thread.start()
            thread.join()

    events = heard_of(act)
    assert told(events)[1:3] == [("checkout", "started"), ("checkout", "done")]
    assert {event.workstream_id for event in events} == {"a"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines", "two lines"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("\udcff", "\\udcff"),
        ("\u202eabc", "\\u202eabc"),
        ("ghp_0123456789abcdefghij", "***"),
        ("https://user:secret@host/x", "https://host/x"),
        ("x" * 2000, "x" * 1000 + "..."),
        (3, "(int)"),
        (b"secret", "(bytes)"),
    ],
)
def test_names_are_made_harmless(name: Any, shown: str) -> None:
    """They come from callers and from disk; a terminal, a file and a log have to take them."""
    started, done = heard_of(lambda: _verb_of(name))
    assert started.workstream_id == done.workstream_id == shown
    assert json.loads(done.to_json())["workstream_id"] == shown
    assert done.to_json().isascii()


def _verb_of(name: object) -> None:
    with Verb("prepare", "g", name):
        pass


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (RepositoryError("there is none"), "RepositoryError: there is none"),
        (OSError(28, "No space left on device", "/secret"), "OSError: No space left on device"),
        (OSError("hunter2"), "OSError"),
        (ValueError("hunter2"), "ValueError"),
        (KeyboardInterrupt("hunter2"), "KeyboardInterrupt"),
    ],
)
def test_of_a_strangers_error_only_the_name_is_told(error: BaseException, detail: str) -> None:
    """Its words may be anything; ours have been looked through."""

    def act() -> None:
        verb = Verb("prepare")
        verb.begin()
        verb.end(error)

    assert heard_of(act)[-1].detail == detail


def test_a_stream_that_is_being_closed_takes_no_more() -> None:
    """An event that is told right now comes too late."""
    stream = EventStream()
    stream.close()
    stream._put(LaneEvent(1.0, "1", "prepare", EventOutcome.DONE))
    assert list(stream) == []


@pytest.mark.usefixtures("fresh_package")
def test_where_nothing_logs_nothing_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard log is not imported for the sake of a listener's mistake either."""
    monkeypatch.setitem(sys.modules, "logging", None)
    events = importlib.import_module("agentrelay.workstream.events")
    library = importlib.import_module("agentrelay.workstream")
    calls: list[object] = []

    def fail(event: object) -> None:
        calls.append(event)
        raise ValueError

    with events.listening(fail):
        library.WorkstreamRuntime(library.WorkstreamSpec("x")).mark_failed("no")
    assert len(calls) == 1
