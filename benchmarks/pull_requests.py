"""Requests to GitHub's API, and time, to open, repeat and check 1, 10 and 100 lanes.

Everything happens on loopback, against the doubles of ``agentrelay.workstream.testing``:
what counts are the requests, and how times compare within one run. Opening is one lane
after the other, as a runner does it; checking is one call for all of them. All are squashed
at once; "elsewhere" is a clone that lacks their commits, so that how they were merged takes
a request each, three a look.

    python benchmarks/pull_requests.py [COUNT...]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from agentrelay.workstream import MergeVerdict, RetryPolicy, WorkstreamRuntime, WorkstreamSpec
from agentrelay.workstream.testing import World, commit_files


@dataclass(frozen=True)
class Cost:
    """What a step took.

    Attributes:
        requests: How many were sent.
        paid: How many of them cost quota.
        took_s: Seconds, the doubles' own work among them.
        worked_s: Seconds of a processor that the calling thread used: the library's own work,
            whatever else the machine does.
    """

    requests: int
    paid: int
    took_s: float
    worked_s: float


def measure(world: World, step: Callable[[], object]) -> Cost:
    """Carry out a step and return what it took."""
    before = len(world.github.requests)
    start, start_of_work = time.perf_counter(), time.thread_time()
    step()
    took_s, worked_s = time.perf_counter() - start, time.thread_time() - start_of_work
    requests = world.github.requests[before:]
    paid = sum(request.status != HTTPStatus.NOT_MODIFIED for request in requests)
    return Cost(len(requests), paid, took_s, worked_s)


def rounds(count: int) -> dict[str, Cost]:
    """Measure every step for so many lanes."""
    with World() as world:
        repo, other = world.clone(), world.clone("other")
        runner = world.runner(repo)
        lanes = [WorkstreamRuntime(WorkstreamSpec(f"lane{number}")) for number in range(count)]
        for lane in lanes:
            runner.prepare(lane)
            assert lane.state.worktree_path is not None
            name = lane.spec.id
            commit_files(lane.state.worktree_path, {f"{name}.txt": "x\n"}, message=name)
        checker = world.merge_checker(repo)

        def integrate() -> None:
            for lane in lanes:
                assert runner.integrate(lane).error is None

        def check(verdict: MergeVerdict) -> None:
            assert {found.verdict for found in checker.check_all(lanes)} == {verdict}

        found = {
            "open": measure(world, integrate),
            "repeat": measure(world, integrate),
            "check": measure(world, lambda: check(MergeVerdict.OPEN)),
            "check again": measure(world, lambda: check(MergeVerdict.OPEN)),
        }
        for pull in world.github.pulls():
            world.github.merge_pull(pull.number, method="squash")
        found["check, all merged"] = measure(world, lambda: check(MergeVerdict.MERGED))
        found["and again"] = measure(world, lambda: check(MergeVerdict.MERGED))
        # The looks of a watch are a second apart and more, which is not its work.
        elsewhere = world.merge_checker(other, policy=RetryPolicy(wait=lambda _: None))

        def watch() -> None:
            events = list(elsewhere.watch(lanes, until_s=3600))
            assert {event.check.method for event in events} == {"squash"}

        found["watch, elsewhere"] = measure(world, watch)
        return found


def main() -> None:
    """Print a table of each count, and how the work for a lane compares with one alone."""
    counts = [int(argument) for argument in sys.argv[1:]] or [1, 10, 100]
    rounds(1)  # the first of all loads libgit2 and the GitHub client
    alone: dict[str, float] = {}
    print("| lanes | step | requests | of the quota | a lane | ms a lane | work | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for count in counts:
        for step, cost in rounds(count).items():
            each_ms, work_ms = (1000 * s / count for s in (cost.took_s, cost.worked_s))
            ratio = work_ms / alone.setdefault(step, work_ms)
            print(
                f"| {count} | {step} | {cost.requests} | {cost.paid} "
                f"| {cost.requests / count:.2f} | {each_ms:.1f} | {work_ms:.1f} | {ratio:.2f} |"
            )


if __name__ == "__main__":
    main()
