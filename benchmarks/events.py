"""What listening costs: lanes prepared and torn down with a listener, against without one.

One clone, whose remote is a path; the same lane is prepared and torn down again and again,
in turn with nobody listening, with a listener that writes an audit log, and with the log at
DEBUG to a file. Printed are medians as ratios to nobody, and what one step costs by itself.

    TMPDIR=/dev/shm python benchmarks/events.py [ROUNDS]
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from agentrelay.workstream import WorkstreamRuntime, WorkstreamSpec
from agentrelay.workstream._steps import Step, Verb
from agentrelay.workstream.events import LaneEvent, listening
from agentrelay.workstream.testing import World

STEPS = 20_000


@contextmanager
def auditing(path: Path) -> Iterator[None]:
    """Append each event to a file, as the command line does."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def append(event: LaneEvent) -> None:
        os.write(file, event.to_json().encode() + b"\n")

    try:
        with listening(append):
            yield
    finally:
        os.close(file)


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Log everything to a file."""
    logger = logging.getLogger("agentrelay.workstream")
    handler = logging.FileHandler(path)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)
        handler.close()


def main() -> None:
    """Measure each way in turn, and print the ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with World(token=None) as world:
        runner = world.runner(world.clone(by="path"))
        ways: dict[str, Callable[[], AbstractContextManager[None]]] = {
            "nobody": nullcontext,
            "audit log": lambda: auditing(world.root / "events.jsonl"),
            "DEBUG log": lambda: logging_to(world.root / "lanes.log"),
        }
        took: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 2):
            for name, way in ways.items():
                runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
                with way():
                    started = time.perf_counter()
                    runner.prepare(runtime)
                    runner.teardown(runtime)
                    # The first rounds fill caches.
                    if number > 1:
                        took[name].append(time.perf_counter() - started)
        base = statistics.median(took["nobody"])
        for name in ways:
            print(f"{name:10} {statistics.median(took[name]) / base:6.2f}")
        with Verb("prepare", "nightly", "parser"):
            started = time.perf_counter()
            for _ in range(STEPS):
                with Step("fetch"):
                    pass
            each = (time.perf_counter() - started) / STEPS
        print(f"a step nobody hears, of a life: {each / base:.1e}")


if __name__ == "__main__":
    main()
