"""Requests to GitHub's API, and time, to open, repeat and check 1, 10 and 100 lanes.

Everything happens on loopback, against the doubles of ``agentrelay.workstream.testing``:
what counts are the requests, and how times compare within one run. Opening is one lane
after the other, as a runner does it; checking is one call for all of them.

    python benchmarks/pull_requests.py [COUNT...]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from agentrelay.workstream import MergeVerdict, WorkstreamRuntime, WorkstreamSpec
from agentrelay.workstream.testing import World, commit_files


def measure(world: World, step: Callable[[], object]) -> tuple[int, int, float]:
    """Return the requests of a step, those that cost quota, and its seconds."""
    before = len(world.github.requests)
    start = time.perf_counter()
    step()
    took_s = time.perf_counter() - start
    requests = world.github.requests[before:]
    return len(requests), sum(request.status != 304 for request in requests), took_s  # noqa: PLR2004 - HTTP: not modified


def rounds(count: int) -> dict[str, tuple[int, int, float]]:
    """Measure every step for so many lanes."""
    with World() as world:
        repo = world.clone()
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
        return found


def main() -> None:
    """Print a table of each count, and how a lane's cost compares with that of one alone."""
    counts = [int(argument) for argument in sys.argv[1:]] or [1, 10, 100]
    rounds(1)  # the first of all loads libgit2 and the GitHub client
    alone: dict[str, float] = {}
    print("| lanes | step | requests | of the quota | requests a lane | ms a lane | ratio |")
    print("|---|---|---|---|---|---|---|")
    for count in counts:
        for step, (requests, paid, took_s) in rounds(count).items():
            each_ms = took_s / count * 1000
            ratio = each_ms / alone.setdefault(step, each_ms)
            print(
                f"| {count} | {step} | {requests} | {paid} | {requests / count:.2f} "
                f"| {each_ms:.1f} | {ratio:.2f} |"
            )


if __name__ == "__main__":
    main()
