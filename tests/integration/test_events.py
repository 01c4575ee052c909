"""Events: what every verb says of itself, to whom, and that nothing secret is in it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import re
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

import agentrelay.workstream as library
from agentrelay.workstream import (
    WorkstreamError,
    WorkstreamRuntime,
    WorkstreamSpec,
    aio,
    prepare_all,
    teardown_all,
)
from agentrelay.workstream.events import (
    EventOutcome,
    EventStream,
    LaneEvent,
    listening,
    subscribe,
)
from agentrelay.workstream.testing import Fault, World, commit_files
from tests.integration._verbs import (
    PLAYS,
    WITHOUT_STEPS,
    Action,
    Scene,
    fresh,
    nowhere,
    public_verbs,
    scene_in,
)


@pytest.fixture
def scene(agentrelay_world: World) -> Scene:
    """Return a prepared lane with a commit."""
    return scene_in(agentrelay_world)


def _heard(action: Action, scene: Scene) -> list[LaneEvent]:
    """Play something; return what was heard of it."""
    heard: list[LaneEvent] = []
    with listening(heard.append), suppress(WorkstreamError, OSError):
        ready = action(scene)
        if callable(ready):
            heard.clear()
            ready()
    return heard


def _ends(events: list[LaneEvent], name: str) -> list[str]:
    """Return how a verb's calls were told, without its steps."""
    return [event.outcome.value for event in events if event.verb == name and event.step is None]


# --- every verb -----------------------------------------------------------------------------


def test_every_public_verb_is_played_here() -> None:
    """A verb that is added to the front door has to say what it does, and is tried below."""
    assert set(public_verbs()) == set(PLAYS)


@pytest.mark.parametrize("name", PLAYS)
def test_a_verb_begins_once_and_ends_once(name: str, scene: Scene) -> None:
    """Also when it fails, for whatever reason, a wrong setting included.

    There are steps in between, each of them ended, and no time runs backwards.
    """
    play = PLAYS[name]
    failed = _heard(play.badly, scene)
    assert _ends(failed, play.name) == ["started", "failed"]
    assert [event.detail for event in failed if event.verb == play.name][-1]
    events = _heard(play.well, scene)
    assert _ends(events, play.name) == ["started", "done"]
    own = [event for event in events if event.verb == play.name]
    assert (own[0].outcome, own[0].step) == (EventOutcome.STARTED, None)
    assert (own[-1].is_end, own[-1].step) == (True, None)
    assert len({event.operation for event in own}) == 1
    steps = [event for event in own if event.step is not None]
    assert bool(steps) != (play.name in WITHOUT_STEPS)
    begun = [str(event.step) for event in steps if event.outcome is EventOutcome.STARTED]
    assert sorted(begun) == sorted(str(event.step) for event in steps if event.is_end)
    for event in events:
        assert (event.duration_s is None) == (event.outcome is EventOutcome.STARTED)
        assert event.duration_s is None or event.duration_s >= 0
        assert LaneEvent.from_json(event.to_json()) == event
        assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301 - our own


def test_the_documentation_lists_the_verbs() -> None:
    """Their names stay, so somebody may wait for one."""
    page = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| verb \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", page, re.MULTILINE)
    cells = [line.split(" | ")[0] for line in table.splitlines()]
    assert set(re.findall(r"`(\w+)`", " ".join(cells))) == {play.name for play in PLAYS.values()}


def test_each_lane_of_a_batch_has_a_beginning_and_an_end_of_its_own(scene: Scene) -> None:
    """Also one that failed before anything was done; the other threads are heard as well."""
    names = [f"lane-{number}" for number in range(4)]
    runtimes = [fresh(scene, name) for name in names]
    wrong = WorkstreamRuntime(WorkstreamSpec("../odd"))
    heard: list[LaneEvent] = []
    with listening(heard.append):
        prepare_all([*runtimes, wrong], scene.world.preparer(scene.repo), workers=3)
        teardown_all([*runtimes, wrong], scene.world.teardown(scene.repo), workers=3)
    for name in names:
        own = [event for event in heard if event.workstream_id == name]
        assert _ends(own, "prepare") == ["started", "done"]
        assert _ends(own, "teardown") == ["started", "done"]
        assert "checkout" in {event.step for event in own}
        assert "remove the worktree" in {event.step for event in own}
    assert _ends([event for event in heard if event.workstream_id == "../odd"], "prepare") == [
        "started",
        "failed",
    ]
    assert _ends(heard, "prepare_all") == ["started", "done"]
    # One fetch and one push for all of them.
    done = [event.step for event in heard if event.verb == "prepare_all" and event.is_end]
    assert (done.count("fetch"), done.count("push")) == (1, 1)


def test_transfers_and_checkouts_say_how_much_they_moved(scene: Scene) -> None:
    """In bytes, in the end of the step; a step that knows says meanwhile how far it is."""
    files = {f"{number}.txt": f"{number}\n" * 50 for number in range(30)}
    commit_files(scene.world.remote_path, files, message="Many")
    events = _heard(
        lambda scene: scene.world.preparer(scene.repo).prepare_workstream(fresh(scene)), scene
    )
    moved = {event.step: event.size_bytes for event in events if event.outcome == "done"}
    assert moved["checkout"] == sum(map(len, files.values())) + _bytes_of(scene.repo)
    assert (moved["fetch"] or 0) > 0
    assert (moved["push"] or 0) > 0
    told = [event for event in events if event.outcome is EventOutcome.PROGRESS]
    assert {"fetch", "checkout"} <= {event.step for event in told}
    # On a machine that stalls there is more of it in between.
    last = [event for event in told if event.step == "checkout"][-1]
    assert (last.done, last.size_bytes) == (last.total, moved["checkout"])


def _bytes_of(repo: Path) -> int:
    files = [path for path in repo.rglob("*") if path.is_file() and not path.is_symlink()]
    outside = [path for path in files if path.relative_to(repo).parts[0][0] != "."]
    links = [path for path in repo.iterdir() if path.is_symlink()]
    hidden = [path for path in repo.iterdir() if path.is_file() and path.name.startswith(".")]
    return sum(path.lstat().st_size for path in {*outside, *links, *hidden})


def test_a_teardown_whose_step_fails_counts_as_failed(scene: Scene) -> None:
    """It raises nothing, and the others are tried; the event names the step."""
    scene.world.git.close()
    events = _heard(
        lambda scene: scene.world.teardown(scene.repo).teardown_workstream(scene.runtime), scene
    )
    assert _ends(events, "teardown") == ["started", "failed"]
    assert "reach the remote" in str(events[-1].detail)
    assert any(event.step == "remove the worktree" and event.outcome == "done" for event in events)


def test_a_branch_that_is_refused_in_a_batch_fails_the_push_of_all(scene: Scene) -> None:
    """The other lanes end well all the same, and the push says how many did not."""
    names = ["one", "two"]
    ref = "refs/heads/agentrelay/nightly/two/integration"
    scene.world.git.faults.add(Fault.refuse_ref(ref, "GH013: not on a Friday"))
    heard: list[LaneEvent] = []
    with listening(heard.append):
        prepare_all([fresh(scene, name) for name in names], scene.world.preparer(scene.repo))
    (push,) = [event for event in heard if event.step == "push" and event.is_end]
    assert (push.outcome, push.detail) == ("failed", "1 of 2 branches were not changed")
    ends = {
        event.workstream_id: event.outcome.value
        for event in heard
        if event.verb == "prepare" and event.step is None and event.is_end
    }
    assert ends == {"one": "done", "two": "failed"}


def test_an_interrupted_verb_is_stopped_and_not_failed(scene: Scene) -> None:
    """Ctrl-C is nobody's failure."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    heard: list[LaneEvent] = []
    scene.write()
    lane = scene.lane
    with listening(heard.append), pytest.raises(KeyboardInterrupt):
        lane.commit("x", before=interrupt)
    assert _ends(heard, "commit") == ["started", "stopped"]


def test_a_watch_that_is_left_is_stopped(scene: Scene) -> None:
    """Whoever stops listening to it ends it, and in between nobody else is in its steps."""
    heard: list[LaneEvent] = []
    checker = scene.world.merge_checker(scene.repo)
    scene.integrate()
    scene.world.github.merge_pull(1)
    other = fresh(scene, "other")
    scene.world.preparer(scene.repo).prepare_workstream(other)
    with listening(heard.append):
        watching = checker.watch([scene.runtime, other], until_s=0)
        next(watching)
        scene.lane.status()
        watching.close()
    assert _ends(heard, "watch") == ["started", "stopped"]
    assert {event.step for event in heard if event.verb == "watch"} == {None, "ask GitHub"}


# --- who hears ------------------------------------------------------------------------------


def test_two_orchestrators_do_not_hear_each_other(scene: Scene) -> None:
    """Each hears what is done in its own context; the process hears both."""
    everything: list[LaneEvent] = []

    def orchestrate(name: str) -> list[LaneEvent]:
        return _heard(
            lambda scene: scene.world.preparer(scene.repo).prepare_workstream(fresh(scene, name)),
            scene,
        )

    with subscribe(everything.append), ThreadPoolExecutor(2) as pool:
        names = ["one", "two"]
        heard = dict(zip(names, pool.map(orchestrate, names), strict=True))
    for name in names:
        assert {event.workstream_id for event in heard[name]} == {name}
    assert {event.workstream_id for event in everything} == {"one", "two"}
    scene.runtime.mark_active()
    assert {event.workstream_id for event in everything} == {"one", "two"}


def test_a_listener_that_fails_harms_no_lane_and_is_told_no_more(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so once, and not in the listener's words: they may be anything."""
    calls: list[LaneEvent] = []

    def listener(event: LaneEvent) -> None:
        calls.append(event)
        raise RuntimeError("the token is hunter2")

    heard: list[LaneEvent] = []
    with listening(listener), listening(heard.append):
        scene.runner.prepare(fresh(scene))
    assert len(calls) == 1
    assert _ends(heard, "prepare") == ["started", "done"]
    complaints = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(complaints) == 1
    assert "RuntimeError" in complaints[0].getMessage()
    assert "hunter2" not in caplog.text


def test_what_a_listener_does_itself_is_not_told(scene: Scene) -> None:
    """Or it would be told of that, and so on without end."""
    heard: list[LaneEvent] = []
    lane = scene.lane

    def listener(event: LaneEvent) -> None:
        heard.append(event)
        assert lane.status().branch == lane.branch

    with listening(listener):
        scene.runtime.mark_active()
    assert _ends(heard, "mark") == ["started", "done"]
    assert {event.verb for event in heard} == {"mark"}


def test_what_a_listener_does_in_threads_of_a_verb_is_not_told(scene: Scene) -> None:
    """A batch has threads of its own, and asyncio too; they are the listener's then."""
    heard: list[LaneEvent] = []
    repo, world = scene.repo, scene.world

    def listener(event: LaneEvent) -> None:
        heard.append(event)
        if len(heard) == 1:
            prepare_all([fresh(scene, "one"), fresh(scene, "two")], world.preparer(repo))
            asyncio.run(aio.prepare_workstream(world.preparer(repo), fresh(scene, "three")))

    with subscribe(listener):
        scene.runtime.mark_active()
    assert {event.verb for event in heard} == {"mark"}
    assert (repo / ".worktrees/nightly/three").is_dir()


def test_a_stream_yields_events_until_it_is_closed(scene: Scene) -> None:
    """What was told before is read to the end; afterwards nothing is added."""
    with EventStream() as stream:
        scene.runtime.mark_active()
    scene.runtime.mark_merge_ready()
    assert [(event.verb, event.detail) for event in stream] == [("mark", None), ("mark", "active")]
    assert stream.dropped == 0
    assert stream.get(timeout_s=60) is None


def test_a_stream_that_nobody_reads_drops_the_oldest(scene: Scene) -> None:
    """No lane waits for a reader, and memory does not grow."""
    stream = EventStream(maxsize=3)
    for _ in range(4):
        scene.runtime.mark_active()
    stream.close()
    assert len(list(stream)) == 3
    assert stream.dropped == 5


def test_a_stream_is_read_while_lanes_are_worked_on(scene: Scene) -> None:
    """By a thread of its own, which ends with the stream."""
    with ThreadPoolExecutor(1) as pool:
        with EventStream() as stream:
            read = pool.submit(lambda: list(stream))
            scene.runner.prepare(fresh(scene))
        assert _ends(read.result(timeout=60), "prepare") == ["started", "done"]


@pytest.mark.parametrize(
    "settings",
    [
        {"maxsize": 0},
        {"maxsize": True},
        {"maxsize": 10.0},
        {"maxsize": 1 << 70},
        {"silence_s": -1},
        {"silence_s": float("nan")},
    ],
)
def test_a_stream_that_could_not_work_is_refused(settings: Any) -> None:
    """Before anything is listened to; the error names the setting."""
    with pytest.raises(WorkstreamError, match=next(iter(settings))):
        EventStream(**settings)


@pytest.mark.parametrize("timeout_s", [None, "1", float("nan"), -1])
def test_a_wait_for_an_event_that_is_no_time_is_refused(timeout_s: Any) -> None:
    """Typed, whether or not an event is there already."""
    with EventStream() as stream, pytest.raises(WorkstreamError, match="timeout_s"):
        stream.get(timeout_s=timeout_s)


async def _awaited(_: LaneEvent) -> None:
    """Stand for what an orchestrator in asyncio may think of first."""


@pytest.mark.parametrize("listener", [None, "print", _awaited])
def test_what_cannot_be_called_is_refused_as_a_listener(listener: Any) -> None:
    """At once, and not by the first event."""
    with pytest.raises(WorkstreamError, match="listener"):
        subscribe(listener)
    with pytest.raises(WorkstreamError, match="listener"), listening(listener):
        pass


def test_a_listener_may_leave_while_it_is_told(scene: Scene) -> None:
    """Closing twice is harmless, and the others go on."""
    heard: list[LaneEvent] = []

    def once(event: LaneEvent) -> None:
        heard.append(event)
        subscription.close()

    subscription = subscribe(once)
    scene.runtime.mark_active()
    subscription.close()
    assert [event.outcome for event in heard] == ["started"]


@pytest.mark.child
@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_stream_of_its_parents(scene: Scene) -> None:
    """Whoever was being told something while it was forked is not there to end that."""
    telling, forked = threading.Event(), threading.Event()

    class Slow(EventStream):
        def _put(self, event: LaneEvent) -> None:
            with self._changed:
                super()._put(event)
                telling.set()
                assert forked.wait(60)

    with Slow() as stream, ThreadPoolExecutor(1) as pool:
        marking = pool.submit(scene.runtime.mark_active)
        assert telling.wait(60)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                # The end of one that waits for ever.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(20)
                EventStream._put(stream, LaneEvent(0.0, "1", "mark", EventOutcome.DONE))
                status = 0
            finally:
                os._exit(status)
        forked.set()
        marking.result(60)
        assert os.waitpid(child, 0)[1] == 0


def test_a_stream_gives_a_silence_up() -> None:
    """Every wait is bounded: the iteration ends when nothing happens for long."""
    with EventStream(silence_s=0) as stream:
        assert list(stream) == []


@pytest.mark.parametrize(
    "line",
    [
        *("", "[]", "1", "{}", '{"verb": "x"}', "{", "\x00"),
        '{"at": 1, "operation": "a", "verb": "x", "outcome": "maybe"}',
        '{"operation": "a", "verb": "x", "outcome": "done"}',
        '{"at": true, "operation": "a", "verb": "x", "outcome": "done"}',
        '{"at": 1, "operation": null, "verb": "x", "outcome": "done"}',
        '{"at": 1, "operation": "a", "verb": "x", "outcome": "done", "step": 3}',
    ],
)
def test_what_is_no_event_is_refused(line: str) -> None:
    """A log that was torn by a full disk, or is none, can be read line by line all the same."""
    with pytest.raises(ValueError, match=r".*"):
        LaneEvent.from_json(line)


def test_fields_that_are_not_known_are_left_out() -> None:
    """A newer version may have written the line."""
    event = LaneEvent(1.5, "op", "prepare", EventOutcome.DONE, detail="ok")
    document = json.loads(event.to_json()) | {"colour": "red"}
    assert LaneEvent.from_json(json.dumps(document)) == event


# --- the log --------------------------------------------------------------------------------


def test_the_log_has_the_same_facts(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Verbs at INFO, steps at DEBUG, failures at WARNING, the fields as attributes."""
    heard: list[LaneEvent] = []
    with caplog.at_level(logging.DEBUG, "agentrelay.workstream"), listening(heard.append):
        scene.runner.prepare(fresh(scene))
        scene.world.runner(nowhere(scene)).teardown(scene.runtime)
    told = [event for event in heard if event.outcome is not EventOutcome.PROGRESS]
    fields = LaneEvent.__dataclass_fields__
    logged = [
        LaneEvent(**{name: getattr(record, name) for name in fields}) for record in caplog.records
    ]
    assert logged == told
    for record, event in zip(caplog.records, told, strict=True):
        wanted = logging.DEBUG if event.step is not None else logging.INFO
        failed = event.outcome is EventOutcome.FAILED
        assert record.levelno in ({logging.WARNING, logging.DEBUG} if failed else {wanted})
    (warning, *_) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.name == "agentrelay.workstream"
    assert warning.getMessage().startswith("teardown nightly/parser")


def test_one_failure_is_one_warning_of_a_step(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """The innermost step's, and then the verb's; those in between are for whoever debugs."""
    scene.world.git.close()
    with pytest.raises(WorkstreamError):
        scene.world.preparer(scene.repo).prepare_workstream(fresh(scene))
    assert [(record.__dict__["verb"], record.__dict__["step"]) for record in caplog.records] == [
        ("prepare", "fetch"),
        ("prepare", None),
    ]


def test_a_log_that_fails_harms_no_lane(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Filters and record factories are the program's own, and run in our thread."""

    def refuse(_: logging.LogRecord) -> bool:
        raise RuntimeError("no disk for a log")

    logger = logging.getLogger("agentrelay.workstream")
    monkeypatch.setattr(logger, "filters", [refuse])
    runtime = fresh(scene)
    with caplog.at_level(logging.DEBUG, logger.name):
        scene.runner.prepare(runtime)
    assert runtime.status == "active"


def test_a_program_that_configures_no_log_gets_no_output(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standard library would print warnings on stderr where nobody has a handler."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    with pytest.raises(WorkstreamError):
        scene.world.preparer(nowhere(scene)).prepare_workstream(fresh(scene))
    assert capsys.readouterr() == ("", "")


# --- no secret ------------------------------------------------------------------------------

_SECRET: Final = "hunter2-and-more"


def _everything_said(
    action: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> tuple[str, list[LaneEvent]]:
    """Do something; return all texts that events and log records of it hold."""
    heard: list[LaneEvent] = []
    with (
        caplog.at_level(logging.DEBUG, "agentrelay.workstream"),
        listening(heard.append),
        suppress(Exception),
    ):
        action()
    texts = [event.to_json() + repr(event) + repr(pickle.dumps(event)) for event in heard]
    texts += [record.getMessage() + repr(record.__dict__) for record in caplog.records]
    return "\n".join(texts), heard


def _a_refused_token(scene: Scene) -> None:
    scene.world.runner(scene.repo, token=_SECRET).prepare(fresh(scene))


def _a_password_in_the_address(scene: Scene) -> object:
    url = scene.world.remote_url.replace("://", f"://user:{_SECRET}@")
    return library.clone(url, scene.repo.with_name("never"))


def _a_source_that_fails(scene: Scene) -> None:
    def source(host: str) -> str:
        raise ValueError(f"{host}: {_SECRET} is no token")

    scene.world.runner(scene.repo, token=source).prepare(fresh(scene))


def _a_token_for_a_name(scene: Scene) -> None:
    name = f"ghp_{_SECRET.replace('-', '')}0123456789"
    scene.world.runner(scene.repo, graph=name).prepare(fresh(scene, name))


def _a_hook_that_talks(scene: Scene) -> object:
    def hook(_: object) -> None:
        raise RuntimeError(f"cannot log in with {_SECRET}")

    scene.write()
    return scene.lane.commit("x", before=hook)


def _a_refusal_that_quotes(scene: Scene) -> None:
    scene.runtime.mark_failed(f"Authorization: Bearer {_SECRET}")
    scene.runner.teardown(scene.runtime)


@pytest.mark.parametrize(
    "action",
    [
        _a_refused_token,
        _a_password_in_the_address,
        _a_source_that_fails,
        _a_token_for_a_name,
        _a_hook_that_talks,
        _a_refusal_that_quotes,
    ],
)
def test_no_secret_is_in_an_event_or_in_the_log(
    action: Action, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in a field, nor in a message, nor in a pickle of either."""
    said, heard = _everything_said(lambda: action(scene), caplog)
    assert heard
    assert caplog.records
    assert _SECRET not in said
    assert _SECRET.replace("-", "") not in said


def test_the_worlds_token_is_nowhere_in_a_whole_life(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """Prepare, work, integrate, merge, teardown: nothing that was told holds it."""
    assert scene.world.token

    def live() -> None:
        for play in PLAYS.values():
            if play.name in {"commit", "push", "pull", "merge", "teardown"}:
                ready: Any = play.well(scene)
                if callable(ready):
                    ready()

    said, heard = _everything_said(live, caplog)
    assert len(heard) > 20
    assert scene.world.token not in said
