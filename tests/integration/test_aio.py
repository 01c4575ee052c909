"""The twins of blocking verbs: the same verbs, awaited, and stopped between two steps only."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from agentrelay.workstream import (
    GhIntegrationMergeChecker,
    LaneBusyError,
    MergeVerdict,
    NothingToCommitError,
    RepositoryError,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
    aio,
)
from agentrelay.workstream._git.locks import hold
from agentrelay.workstream._steps import Step, Verb
from agentrelay.workstream.aio import AsyncLaneWorkspace, AsyncWorkstreamRunner
from agentrelay.workstream.events import EventOutcome, LaneEvent, listening, subscribe
from agentrelay.workstream.testing import World
from tests.integration import _verbs

# Longer than any machine stalls; nothing here waits for it to be over.
_LONG_S = 60.0


def _twin_of(verb: str) -> Any:
    """Return what is awaited instead of a verb."""
    owner, _, method = verb.rpartition(".")
    if owner == "LaneWorkspace":
        return getattr(AsyncLaneWorkspace, method, None)
    if owner == "StandardWorkstreamRunner":
        return getattr(AsyncWorkstreamRunner, method, None)
    return getattr(aio, method, None)


# --- the mapping ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb",
    # A signal is one small file; whoever wants can call() it.
    [name for name in _verbs.public_verbs() if not name.startswith("WorkstreamRuntime.")],
)
def test_every_blocking_verb_has_a_twin_with_its_parameters(verb: str) -> None:
    """A verb that is added to the front door needs one line here, and this test says so."""
    twin = _twin_of(verb)
    assert twin is not None
    blocking: Any = __import__("agentrelay.workstream", fromlist=["workstream"])
    for part in verb.split("."):
        blocking = getattr(blocking, part)
    if inspect.isgeneratorfunction(blocking):
        assert inspect.isasyncgenfunction(twin)
        return
    assert inspect.iscoroutinefunction(twin)
    assert inspect.signature(twin).parameters == inspect.signature(blocking).parameters
    assert twin.__doc__ == blocking.__doc__
    assert twin.__module__ == "agentrelay.workstream.aio"


def test_properties_of_a_workspace_need_no_waiting() -> None:
    """What a twin has that is no verb is what the workspace has."""
    from agentrelay.workstream import LaneWorkspace

    blocking = {name for name, value in vars(LaneWorkspace).items() if isinstance(value, property)}
    twins = {
        name for name, value in vars(AsyncLaneWorkspace).items() if isinstance(value, property)
    }
    assert twins == blocking | {"runtime"}


# --- a life ---------------------------------------------------------------------------------


def test_a_lane_lives_from_prepare_to_teardown(agentrelay_world: World) -> None:
    """With the results and the effects of the verbs themselves."""
    world = agentrelay_world
    repo = world.clone()
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))

    async def live() -> None:
        runner = AsyncWorkstreamRunner(world.runner(repo))
        await runner.prepare(runtime)
        lane = await aio.open_lane(runtime, token=world.token)
        assert lane.runtime is runtime
        assert (lane.path / ".git").is_file()
        (lane.path / "parser.py").write_text("def parse(text): ...\n")
        made = await lane.commit("Parse")
        assert await lane.push() == made.commit_id
        assert await lane.log() == (made,)
        assert (await lane.status()).is_clean
        with pytest.raises(NothingToCommitError):
            await lane.commit("Again")
        result = await runner.integrate(runtime)
        assert result.status is WorkstreamStatus.PR_CREATED
        assert (await runner.check(runtime)).verdict is MergeVerdict.OPEN
        checker = world.merge_checker(repo)
        assert (await aio.check_all(checker, [runtime]))[0].verdict is MergeVerdict.OPEN
        world.github.merge_pull(1)
        assert [event.check.verdict async for event in aio.watch(checker, [runtime], until_s=0)]
        assert (await runner.check(runtime)).verdict is MergeVerdict.MERGED
        await runner.teardown(runtime)
        assert not lane.path.exists()
        assert await aio.rescued(repo) == []
        assert lane.branch in repr(lane) or "parser" in repr(lane)

    asyncio.run(live())
    assert runtime.status is WorkstreamStatus.MERGED


def test_lanes_are_worked_on_at_once_and_the_loop_goes_on(agentrelay_world: World) -> None:
    """Each in a thread of its own; an error is raised where it is awaited."""
    world = agentrelay_world
    repo = world.clone()
    lanes = [WorkstreamRuntime(WorkstreamSpec(f"lane{number}")) for number in range(4)]

    async def live() -> None:
        runner = AsyncWorkstreamRunner(world.runner(repo))
        nowhere = AsyncWorkstreamRunner(world.runner(repo / "nowhere"))
        wrong = WorkstreamRuntime(WorkstreamSpec("wrong"))
        *_, error = await asyncio.gather(
            *map(runner.prepare, lanes), nowhere.prepare(wrong), return_exceptions=True
        )
        assert isinstance(error, RepositoryError)
        results = await aio.teardown_all(lanes, world.teardown(repo))
        assert [result.error for result in results] == [None] * 4

    asyncio.run(live())
    assert not list((repo / ".worktrees").glob("*/*"))


def test_a_task_that_a_listener_started_is_heard_as_well(agentrelay_world: World) -> None:
    """The process hears everything, also what begins because of what was heard."""
    runner = AsyncWorkstreamRunner(agentrelay_world.runner(agentrelay_world.clone()))
    first, second = (WorkstreamRuntime(WorkstreamSpec(name)) for name in ("first", "second"))
    heard: list[LaneEvent] = []

    async def orchestrate() -> None:
        loop = asyncio.get_running_loop()
        started: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()

        def go_on() -> None:
            started.put_nowait(asyncio.create_task(runner.prepare(second)))

        def listener(event: LaneEvent) -> None:
            heard.append(event)
            is_over = event.verb == "prepare" and event.step is None and event.is_end
            if is_over and event.workstream_id == "first":
                loop.call_soon_threadsafe(go_on)

        with subscribe(listener):
            await runner.prepare(first)
            task = await asyncio.wait_for(started.get(), _LONG_S)
            await task

    asyncio.run(orchestrate())
    assert second.status == "active"
    assert [
        event.outcome
        for event in heard
        if event.verb == "prepare" and event.workstream_id == "second" and event.step is None
    ] == ["started", "done"]


def test_listeners_of_the_tasks_context_hear_the_thread(agentrelay_world: World) -> None:
    """And those of other tasks do not."""
    world = agentrelay_world
    preparer = world.preparer(world.clone())

    async def prepare(name: str) -> list[LaneEvent]:
        heard: list[LaneEvent] = []
        with listening(heard.append):
            await aio.prepare_workstream(preparer, WorkstreamRuntime(WorkstreamSpec(name)))
        return heard

    async def live() -> None:
        for name, heard in zip("ab", await asyncio.gather(prepare("a"), prepare("b")), strict=True):
            assert {event.workstream_id for event in heard} == {name}
            assert heard[-1].outcome is EventOutcome.DONE

    asyncio.run(live())


# --- being cancelled ------------------------------------------------------------------------


class _Work:
    """A verb of two steps, in the first of which it waits to be told to go on."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_go_on = threading.Event()
        self.done: list[str] = []

    def __call__(self) -> str:
        with Verb("work"):
            with Step("first"):
                self.begun.set()
                assert self.may_go_on.wait(_LONG_S)
                self.done.append("first")
            with Step("second"):
                self.done.append("second")
        return "result"


async def _begun(work: _Work) -> asyncio.Task[str]:
    """Begin some work, and wait until it is in its first step."""
    task = asyncio.create_task(aio.call(work))
    assert await asyncio.to_thread(work.begun.wait, _LONG_S)
    return task


def test_a_step_that_has_begun_is_not_split() -> None:
    """The task is cancelled when the thread has stopped, and not before."""
    work = _Work()
    heard: list[LaneEvent] = []

    async def live() -> None:
        with listening(heard.append):
            task = await _begun(work)
        task.cancel()
        # As often as somebody likes: it is being stopped.
        for _ in range(3):
            await asyncio.sleep(0)
            assert not task.done()
            task.cancel()
        work.may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(live())
    assert work.done == ["first"]
    assert [(event.step, event.outcome) for event in heard if event.is_end] == [
        ("first", "done"),
        (None, "stopped"),
    ]


@pytest.mark.parametrize("holder", ["this process", "another"])
def test_a_wait_for_a_lane_ends_where_it_is(agentrelay_world: World, holder: str) -> None:
    """Nothing was done yet, and whoever holds the lane may do so for long."""
    world = agentrelay_world
    repo = world.clone()
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    preparer = world.preparer(repo, lane_timeout_s=_LONG_S)
    preparer.prepare_workstream(runtime)
    waits = threading.Event()

    def listen(event: LaneEvent) -> None:
        if event.step == "hold the lane":
            waits.set()

    async def live() -> None:
        with listening(listen):
            task = asyncio.create_task(aio.prepare_workstream(preparer, runtime))
        assert await asyncio.to_thread(waits.wait, _LONG_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    lock = next((repo / ".git" / "agentrelay" / "lanes").glob("*.lock"))
    with _held_by(holder, lock):
        asyncio.run(live())
    preparer.prepare_workstream(runtime)


@pytest.mark.parametrize("holder", ["this process", "another"])
def test_a_wait_for_a_lane_that_nobody_cancels_is_as_long_as_ever(
    agentrelay_world: World, holder: str
) -> None:
    """And no longer: it is the setting of the preparer that ends it."""
    repo = agentrelay_world.clone()
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    agentrelay_world.preparer(repo).prepare_workstream(runtime)
    lock = next((repo / ".git" / "agentrelay" / "lanes").glob("*.lock"))
    hurried = agentrelay_world.preparer(repo, lane_timeout_s=0.15)
    with _held_by(holder, lock), pytest.raises(LaneBusyError):
        asyncio.run(aio.prepare_workstream(hurried, runtime))


@contextmanager
def _held_by(holder: str, lock: Path) -> Iterator[None]:
    """Hold a lane as a thread of ours does, or as another process does."""
    if holder == "this process":
        with hold(lock, what="the lane", timeout_s=_LONG_S):
            yield
        return
    # A lock of its own, which our threads do not know of, is as good as another process's.
    with FileLock(lock, thread_local=False):
        yield


def test_what_never_began_never_does() -> None:
    """A task that is cancelled while all threads are busy leaves nothing behind."""
    works = [_Work() for _ in range(40)]

    async def live() -> None:
        tasks = [asyncio.create_task(aio.call(work)) for work in works]
        assert await asyncio.to_thread(works[0].begun.wait, _LONG_S)
        for _ in range(3):
            await asyncio.sleep(0)
        last = tasks.pop()
        last.cancel()
        with pytest.raises(asyncio.CancelledError):
            await last
        for work in works:
            work.may_go_on.set()
        assert await asyncio.gather(*tasks) == ["result"] * len(tasks)

    asyncio.run(live())
    assert works[-1].done == []


def test_a_step_that_does_not_end_is_left_to_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is bounded; the verb ends after its step all the same."""
    monkeypatch.setattr(aio, "_STOPS_WITHIN_S", 0.0)
    work = _Work()

    async def live() -> asyncio.Task[str]:
        task = await _begun(work)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return task

    task = asyncio.run(live())
    assert task.cancelled()
    assert work.done == []
    work.may_go_on.set()


def test_a_failure_while_being_cancelled_is_dropped_silently() -> None:
    """Nobody is left to raise it to, and asyncio must not complain that nobody looked."""
    complaints: list[dict[str, Any]] = []

    def fail() -> None:
        begun.set()
        assert may_fail.wait(_LONG_S)
        raise LaneBusyError("no", waited_s=0.0)

    begun, may_fail = threading.Event(), threading.Event()

    async def live() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
        task = asyncio.create_task(aio.call(fail))
        assert await asyncio.to_thread(begun.wait, _LONG_S)
        task.cancel()
        await asyncio.sleep(0)
        may_fail.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(live())
    assert complaints == []


@pytest.mark.child
@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own() -> None:
    """Those of its parent are not there, and whoever counted on them would wait for ever."""
    assert asyncio.run(aio.call(os.getpid)) == os.getpid()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if asyncio.run(aio.call(os.getpid)) == os.getpid() else 1
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


# --- events ---------------------------------------------------------------------------------


def test_a_stream_is_read_by_a_task(agentrelay_world: World) -> None:
    """It ends when it is closed, and what was told before is read."""
    world = agentrelay_world
    runner = AsyncWorkstreamRunner(world.runner(world.clone()))

    async def read(stream: aio.AsyncEventStream) -> list[LaneEvent]:
        return [event async for event in stream]

    async def live() -> list[LaneEvent]:
        with aio.AsyncEventStream() as stream:
            reading = asyncio.create_task(read(stream))
            await runner.prepare(WorkstreamRuntime(WorkstreamSpec("parser")))
        return await reading

    ends = [event for event in asyncio.run(live()) if event.step is None and event.is_end]
    assert [event.verb for event in ends] == ["mark", "prepare", "mark"]


def test_a_stream_gives_a_silence_up() -> None:
    """Every wait is bounded; and it takes a loop to wake."""

    async def live() -> None:
        stream = aio.AsyncEventStream(silence_s=0)
        assert [event async for event in stream] == []
        streams.append(stream)

    streams: list[aio.AsyncEventStream] = []
    asyncio.run(live())
    # Its loop is closed by now.
    WorkstreamRuntime(WorkstreamSpec("x")).mark_failed("no")
    streams[0].close()
    with pytest.raises(RuntimeError):
        aio.AsyncEventStream()


def test_the_checkers_own_generator_is_the_twin_of_its_watch() -> None:
    """It was there before; there is one way to do it."""
    assert aio.watch is GhIntegrationMergeChecker.awatch
    assert Path(inspect.getfile(aio.watch)).name == "workstream_merge_checker.py"
