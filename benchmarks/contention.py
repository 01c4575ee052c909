"""Lanes a second with 1, 8 and 32 threads and processes, as ratios within one run.

Each round makes and removes the same number of lanes, one after the other and all at
once, alternately, in clones of one remote on the same disk. Printed are medians: the
milliseconds a lane took, and how that compares with one lane after the other. Below one
is a gain; what keeps it from the number of cores is Python's own lock and git's files.

    python benchmarks/contention.py [ROUNDS]
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    WorkstreamRuntime,
    WorkstreamSpec,
)
from agentrelay.workstream.testing import clone_repository, create_bare_repository

LANES = 32


def one_lane(repo: Path, name: str) -> None:
    """Make and remove a lane."""
    lane = WorkstreamRuntime(WorkstreamSpec(name))
    GitWorkstreamPreparer(repo, "bench").prepare_workstream(lane)
    GitWorkstreamTeardown(repo).teardown_workstream(lane)
    assert lane.artifacts.concerns == []


def share(repo: Path, number: int, workers: int) -> None:
    """Make and remove one worker's share of the lanes."""
    for lane in range(number, LANES, workers):
        one_lane(repo, f"lane{lane}")


def by_threads(repo: Path, workers: int) -> None:
    """Share the lanes among threads."""
    threads = [
        threading.Thread(target=share, args=(repo, number, workers)) for number in range(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def by_processes(repo: Path, workers: int) -> None:
    """Share the lanes among forked processes."""
    children = []
    for number in range(workers):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                share(repo, number, workers)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * workers


def main() -> None:
    """Measure each way in turn, and print the ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    ways: dict[str, tuple[Callable[[Path, int], None], int]] = {
        "1 thread": (by_threads, 1),
        "8 threads": (by_threads, 8),
        "32 threads": (by_threads, 32),
        "8 processes": (by_processes, 8),
        "32 processes": (by_processes, 32),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        remote = create_bare_repository(root / "remote.git")
        repo = clone_repository(remote, root / "clone")
        one_lane(repo, "warm")  # imports and caches
        for _ in range(rounds):
            for name, (run, workers) in ways.items():
                started = time.perf_counter()
                run(repo, workers)
                times[name].append((time.perf_counter() - started) * 1000 / LANES)
    alone = statistics.median(times["1 thread"])
    print(f"{LANES} lanes, {rounds} rounds, in {tempfile.gettempdir()}")
    print(f"{'at once':14}  {'ms a lane':>9}  {'ratio':>6}")
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name:14}  {median:9.1f}  {median / alone:6.2f}")


if __name__ == "__main__":
    main()
