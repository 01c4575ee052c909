"""The library's verbs for asyncio: each blocking one has a twin that is awaited.

A twin has the name, the parameters, the result and the errors of its verb, which does its
work in a thread. Listeners of the caller's context hear it.

Cancelling the task stops the verb at its next step (see :mod:`agentrelay.workstream.events`)
and nowhere else: what must not be split is not. The task waits until the thread has
stopped, at most a minute, and only then is it cancelled; a verb that came to its end
meanwhile is done. What is left is what a crash at that place leaves: repeating the verb,
here or without asyncio, completes it. A step that takes longer than the minute, a slow
transfer for example, ends in its thread, and the verb with it.

Importing this module imports asyncio, and through it what could start programs; nothing
here does.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar

from agentrelay.workstream import _steps, implementations
from agentrelay.workstream.core.merge import record_merge as _record_merge
from agentrelay.workstream.core.runner import StandardWorkstreamRunner
from agentrelay.workstream.core.runtime import WorkstreamRuntime
from agentrelay.workstream.events import EventStream, LaneEvent

__all__ = [
    "AsyncEventStream",
    "AsyncLaneWorkspace",
    "AsyncTwin",
    "AsyncWorkstreamRunner",
    "call",
    "check_all",
    "check_merged",
    "clone",
    "create_integration_pr",
    "diagnose",
    "forget",
    "merge_integration_pr",
    "open_lane",
    "prepare_all",
    "prepare_workstream",
    "preview_merge",
    "preview_pairs",
    "reconcile",
    "record_merge",
    "rescued",
    "restore",
    "retarget_children",
    "teardown_all",
    "teardown_workstream",
    "watch",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_S = TypeVar("_S")

# Verbs mostly wait, for the network and the disk; more at once would wait for each other.
_MOST_THREADS: Final = 32
# How long a cancelled task waits for its thread: the longest silence of a remote.
_STOPS_WITHIN_S: Final = 60.0


class _Threads:
    """The threads of all event loops; a forked child starts afresh, since it has none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, work: Callable[[], _R]) -> Future[_R]:
        """Do something in a thread, in a copy of this context."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="lanes-aio")
            return self._pool.submit(_steps.carried(work))


_threads = _Threads()


def _forget_threads() -> None:
    global _threads  # noqa: PLW0603 - a lock cannot be reset in place
    _threads = _Threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


async def call(function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Call a blocking function in a thread; if it is a verb of this library, it can be cancelled.

    Args:
        function: ``runner.prepare``, for example, of any runner.
        *args: Passed on.
        **kwargs: Passed on.

    Returns:
        What it returned.

    Raises:
        CancelledError: The task was cancelled, and the function has stopped at its next
            step, or goes on for longer than a minute.
        Exception: What the function raised.
    """
    stop = threading.Event()

    def work() -> _R:
        with _steps.stoppable(stop):
            return function(*args, **kwargs)

    begun = _threads.submit(work)
    running = asyncio.wrap_future(begun)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        # If it has not begun yet, it never will.
        begun.cancel()
        running.add_done_callback(_take_note)
        await _until_done(running)
        raise


async def _until_done(running: asyncio.Future[Any]) -> None:
    """Wait until a thread has stopped, within bounds; being cancelled again changes nothing."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + _STOPS_WITHIN_S
    while not running.done() and (left_s := ends_at - loop.time()) > 0:
        try:
            await asyncio.wait([running], timeout=left_s)
        except asyncio.CancelledError:
            # It is being stopped already, and cannot be left: whoever goes on would find
            # the lane held.
            continue


def _take_note(running: asyncio.Future[Any]) -> None:
    """Look at how it ended, so that asyncio does not complain that nobody did."""
    if not running.cancelled():
        running.exception()


def _twin(function: Callable[_P, _R]) -> Callable[_P, Coroutine[Any, Any, _R]]:
    """Return the twin of a function, or of a method that is called with its object first."""

    @functools.wraps(function)
    async def awaited(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return await call(function, *args, **kwargs)

    return _as_our_own(awaited)


def _as_our_own(twin: _R) -> _R:
    """Let a twin say where it is found; its documentation is its verb's."""
    twin.__module__ = __name__
    return twin


class AsyncTwin(Generic[_S]):
    """An object whose methods are awaited.

    Attributes:
        blocking: The object that does the work.
    """

    def __init__(self, blocking: _S) -> None:
        """Take an object; nothing is done yet.

        Args:
            blocking: The object that does the work.
        """
        self.blocking = blocking

    def __repr__(self) -> str:
        """Show the object."""
        return f"{type(self).__name__}({self.blocking!r})"


def _method(
    method: Callable[Concatenate[_S, _P], _R],
) -> Callable[Concatenate[AsyncTwin[_S], _P], Coroutine[Any, Any, _R]]:
    """Return the twin of a method, for a class of twins."""

    @functools.wraps(method)
    async def awaited(self: AsyncTwin[_S], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return await call(method, self.blocking, *args, **kwargs)

    return _as_our_own(awaited)


class AsyncWorkstreamRunner(AsyncTwin[StandardWorkstreamRunner]):
    """A :class:`StandardWorkstreamRunner` whose steps are awaited.

    Of other runners: ``await call(runner.prepare, runtime)``.
    """

    prepare = _method(StandardWorkstreamRunner.prepare)
    integrate = _method(StandardWorkstreamRunner.integrate)
    check = _method(StandardWorkstreamRunner.check)
    merge = _method(StandardWorkstreamRunner.merge)
    teardown = _method(StandardWorkstreamRunner.teardown)


class AsyncLaneWorkspace(AsyncTwin[implementations.LaneWorkspace]):
    """A :class:`LaneWorkspace` whose verbs are awaited; :func:`open_lane` returns it.

    ``before=`` and ``after=`` of a commit are called in its thread.
    """

    @property
    def path(self) -> Path:
        """Absolute path of the worktree."""
        return self.blocking.path

    @property
    def branch(self) -> str:
        """Short name of the lane's branch."""
        return self.blocking.branch

    @property
    def runtime(self) -> WorkstreamRuntime:
        """The lane's runtime."""
        return self.blocking.runtime

    status = _method(implementations.LaneWorkspace.status)
    commit = _method(implementations.LaneWorkspace.commit)
    resolve = _method(implementations.LaneWorkspace.resolve)
    push = _method(implementations.LaneWorkspace.push)
    pull = _method(implementations.LaneWorkspace.pull)
    diff = _method(implementations.LaneWorkspace.diff)
    log = _method(implementations.LaneWorkspace.log)
    start_task = _method(implementations.LaneWorkspace.start_task)
    tasks = _method(implementations.LaneWorkspace.tasks)
    merge_task = _method(implementations.LaneWorkspace.merge_task)
    finish_task = _method(implementations.LaneWorkspace.finish_task)
    sync = _method(implementations.LaneWorkspace.sync)


def _opened(
    function: Callable[_P, implementations.LaneWorkspace],
) -> Callable[_P, Coroutine[Any, Any, AsyncLaneWorkspace]]:
    """Return the twin of what opens a workspace."""

    @functools.wraps(function)
    async def awaited(*args: _P.args, **kwargs: _P.kwargs) -> AsyncLaneWorkspace:
        return AsyncLaneWorkspace(await call(function, *args, **kwargs))

    return _as_our_own(awaited)


class AsyncEventStream(EventStream):
    """The events of this process, one after the other, for a task.

    ::

        with AsyncEventStream() as stream:
            async for event in stream:
                ...
    """

    def __init__(self, *, maxsize: int = 10_000, silence_s: float = 600.0) -> None:
        """Begin to listen; call it where an event loop is running.

        Args:
            maxsize: As for :class:`EventStream`.
            silence_s: Likewise.

        Raises:
            WorkstreamError: A setting is no number, or too small.
            RuntimeError: No event loop is running.
        """
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        super().__init__(maxsize=maxsize, silence_s=silence_s)

    def _put(self, event: LaneEvent) -> None:
        super()._put(event)
        self._wake()

    def close(self) -> None:
        """Listen no more; what has not been read can be read still. May be repeated."""
        super().close()
        self._wake()

    def _wake(self) -> None:
        # A loop that is closed already reads no more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._news.set)

    async def __aiter__(self) -> AsyncIterator[LaneEvent]:
        """Yield events until the stream is closed and read, or nothing happens for long."""
        while True:
            self._news.clear()
            while (event := self.get(timeout_s=0)) is not None:
                yield event
            if self._is_closed:
                return
            try:
                async with asyncio.timeout(self._silence_s):
                    await self._news.wait()
            except TimeoutError:
                return


prepare_all = _twin(implementations.prepare_all)
teardown_all = _twin(implementations.teardown_all)
clone = _twin(implementations.clone)
open_lane = _opened(implementations.open_lane)
preview_merge = _twin(implementations.preview_merge)
preview_pairs = _twin(implementations.preview_pairs)
reconcile = _twin(implementations.reconcile)
rescued = _twin(implementations.rescued)
restore = _twin(implementations.restore)
forget = _twin(implementations.forget)
diagnose = _twin(implementations.diagnose)
record_merge = _twin(_record_merge)
retarget_children = _twin(implementations.retarget_children)
# Of the protocols' implementations: called with the implementation first.
prepare_workstream = _twin(implementations.GitWorkstreamPreparer.prepare_workstream)
create_integration_pr = _twin(implementations.GhWorkstreamIntegrator.create_integration_pr)
teardown_workstream = _twin(implementations.GitWorkstreamTeardown.teardown_workstream)
check_merged = _twin(implementations.GhIntegrationMergeChecker.check_merged)
check_all = _twin(implementations.GhIntegrationMergeChecker.check_all)
merge_integration_pr = _twin(implementations.GhIntegrationAutoMerger.merge_integration_pr)
# An asynchronous generator; its looks end by themselves, its waits at once.
watch = implementations.GhIntegrationMergeChecker.awatch
