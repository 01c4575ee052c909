"""What batches of lanes have in common: rounds, locks in one order, threads with a handle each."""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from agentrelay.workstream._git.repository import OpenRepository, open_repository
from agentrelay.workstream._lane import Lane
from agentrelay.workstream._steps import Verb, carried
from agentrelay.workstream.errors import WorkstreamError
from agentrelay.workstream.implementations._lane_record import lane_lock

try:
    import resource
except ImportError:  # pragma: no cover - Windows has no such limit
    resource = None  # type: ignore[assignment]

__all__ = ["Crew", "copied", "hold_lanes", "rounds", "unique"]

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

# Each lane that is held is an open file.
_MOST_LANES: Final = 500


def rounds(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Split a batch where a process may not have as many files open as there are lanes.

    A round holds at most 500 lanes, and at most half as many as the process may open files
    besides those it has open.
    """
    size = _MOST_LANES
    if resource is not None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY:
            size = max(1, min(size, (soft - _open_files()) // 2))
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _open_files() -> int:
    """Return how many files the process has open, where that can be told."""
    with suppress(OSError):
        return len(os.listdir("/proc/self/fd"))
    return 0


def hold_lanes(
    repository: OpenRepository,
    lanes: Mapping[K, tuple[Lane, Verb]],
    *,
    timeout_s: float,
    stack: ExitStack,
) -> dict[K, WorkstreamError]:
    """Hold lanes until a stack is closed; those that cannot be held are returned with why.

    They are taken in the order of their names, so two batches that have lanes in common
    never wait for each other in a circle.

    Args:
        repository: Their repository.
        lanes: The lanes and what says how far they are, by whatever the caller calls them.
        timeout_s: Longest wait for all of them together, in seconds.
        stack: Lets go of them.
    """
    ends_at = time.monotonic() + timeout_s
    refused: dict[K, WorkstreamError] = {}
    for key, (lane, verb) in sorted(lanes.items(), key=lambda item: item[1][0].admin_name):
        left_s = round(min(timeout_s, max(0.0, ends_at - time.monotonic())), 3)
        try:
            with verb.active():
                stack.enter_context(lane_lock(repository, lane, timeout_s=left_s))
        except WorkstreamError as error:
            refused[key] = error
    return refused


class Crew:
    """Threads that work for a batch, each with a repository handle of its own.

    Attributes:
        repository: The handle of the caller's own thread.
    """

    def __init__(self, repo_path: Path, workers: int) -> None:
        """Open the repository; the threads' handles are opened when there is work.

        Args:
            repo_path: The repository.
            workers: How many threads work at once; 1 is the caller's own.

        Raises:
            RepositoryError: There is none.
        """
        self.repository = open_repository(repo_path)
        self._path = repo_path
        self._handles: list[OpenRepository | None] = [self.repository]
        self._handles += [None] * (workers - 1)

    def each(self, items: Sequence[T], action: Callable[[T, OpenRepository], None]) -> None:
        """Do something for each item, several at once.

        Args:
            items: What to do it for.
            action: Called with an item and the handle of its thread; it keeps its failures.

        Raises:
            BaseException: What an action raised all the same; the other threads end with
                the item they are at.
        """
        waiting = iter(items)
        taking = threading.Lock()
        stopped = threading.Event()

        def work(number: int) -> None:
            try:
                own = self._handle(number)
                while not stopped.is_set():
                    with taking:
                        item = next(waiting, None)
                    if item is None:
                        return
                    action(item, own)
            except BaseException:
                stopped.set()
                raise

        workers = min(len(self._handles), len(items))
        if workers <= 1:
            work(0)
            return
        with ThreadPoolExecutor(workers, thread_name_prefix="lanes") as pool:
            try:
                works = [carried(partial(work, number)) for number in range(workers)]
                for future in [pool.submit(one) for one in works]:
                    future.result()
            except BaseException:
                # Also an interrupt of the caller's own thread.
                stopped.set()
                raise

    def _handle(self, number: int) -> OpenRepository:
        """Return the repository as one thread has it open; one call at a time uses it."""
        handle = self._handles[number]
        if handle is None:
            handle = self._handles[number] = open_repository(self._path)
        return handle


def copied(error: Exception) -> Exception:
    """Return an error of its own for one of several lanes that one failure struck."""
    own = copy.copy(error)
    own.__cause__ = error
    return own


def unique(names: Iterable[K]) -> list[K]:
    """Return each name once, in order."""
    return list(dict.fromkeys(names))
