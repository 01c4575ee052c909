"""Doing one thing for several lanes at once, and hearing of each as it is done."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Final, TypeVar

from agentrelay.workstream._steps import carried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["in_parallel"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Lanes mostly wait for the network; more connections at a time look like an attack.
_WORKERS: Final = 8


def in_parallel(
    items: Sequence[_Item], action: Callable[[_Item], _Result]
) -> Iterator[tuple[_Item, _Result]]:
    """Call ``action`` for every item in threads, and yield each result when it is there.

    The threads are daemons: whoever stops iterating, by Ctrl-C for example, may leave
    the process at once, and what was not begun is not begun any more. A pool of the
    standard library would make the interpreter wait for them.

    Args:
        items: What to call it for.
        action: Called once an item.

    Raises:
        BaseException: The first exception an action raised.
    """
    waiting: queue.SimpleQueue[_Item] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[_Item, _Result | None, BaseException | None]]
    done = queue.SimpleQueue()
    stopped = threading.Event()
    for item in items:
        waiting.put(item)

    def work() -> None:
        while not stopped.is_set():
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((item, action(item), None))
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                done.put((item, None, error))

    workers = [
        threading.Thread(target=carried(work), name=f"lane-worker-{number}", daemon=True)
        for number in range(min(len(items), _WORKERS))
    ]
    try:
        for worker in workers:
            worker.start()
        for _ in items:
            item, result, error = done.get()
            if error is not None:
                raise error
            yield item, result  # type: ignore[misc]  # a result without an error is one
    finally:
        stopped.set()
    for worker in workers:
        worker.join()
