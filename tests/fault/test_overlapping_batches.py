"""Batches that have lanes in common, at the same time: they queue, and nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    LaneBusyError,
    LaneResult,
    WorkstreamRuntime,
    WorkstreamSpec,
    prepare_all,
    teardown_all,
)
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.implementations._lane_record import lane_lock
from agentrelay.workstream.testing import clone_repository, commit_files, refs
from fixtures.crowd import Crowd, ref_of

NAMES = [f"lane{number}" for number in range(8)]
# Long beyond what these take: a circle of waiting ends here, and fails.
_PATIENCE_S = 60.0


def together(*works: Callable[[], list[LaneResult]]) -> list[list[LaneResult]]:
    """Do several things at the same time, each in a thread; return what each returned."""
    start = threading.Barrier(len(works))
    done: dict[int, list[LaneResult]] = {}

    def run(number: int) -> None:
        start.wait(timeout=_PATIENCE_S)
        done[number] = works[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_PATIENCE_S)
        assert not thread.is_alive(), "two batches wait for each other"
    return [done[number] for number in range(len(works))]


def fresh(names: Sequence[str]) -> list[WorkstreamRuntime]:
    """Return new runtimes."""
    return [WorkstreamRuntime(WorkstreamSpec(name)) for name in names]


def errors(results: list[LaneResult]) -> list[Exception]:
    """Return what stopped lanes."""
    return [result.error for result in results if result.error is not None]


def test_batches_in_opposite_orders_queue_and_both_succeed(tmp_path: Path) -> None:
    """Of the same lanes one makes them and the other finds them made; so with their ends."""
    crowd = Crowd(tmp_path)

    def prepare(names: Sequence[str]) -> Callable[[], list[LaneResult]]:
        return lambda: prepare_all(fresh(names), GitWorkstreamPreparer(crowd.repo, "nightly"))

    def tear_down(names: Sequence[str]) -> Callable[[], list[LaneResult]]:
        runtimes = [WorkstreamRuntime.load(crowd.signal_dir(name)) for name in names]
        return lambda: teardown_all(runtimes, GitWorkstreamTeardown(crowd.repo))

    backwards = NAMES[::-1]
    for results in together(prepare(NAMES), prepare(backwards), prepare(NAMES[3:6])):
        assert errors(results) == []
    assert {name for name in NAMES if ref_of(name) in refs(crowd.bare)} == set(NAMES)
    for results in together(tear_down(NAMES), tear_down(backwards), tear_down(NAMES[2:7])):
        assert errors(results) == []
        assert [result.runtime.artifacts.concerns for result in results] == [[]] * len(results)
    assert crowd.leftovers() == []


def test_batches_of_two_clones_share_the_lanes_out(tmp_path: Path) -> None:
    """Each lane has one winner; the other clone's is refused, and nothing of it is left."""
    crowd = Crowd(tmp_path)
    other = clone_repository(crowd.bare, tmp_path / "other")
    # So that it shows whose lane the remote has.
    commit_files(other, {"other.txt": "1"}, message="other")
    found = together(
        lambda: prepare_all(fresh(NAMES), GitWorkstreamPreparer(crowd.repo, "nightly")),
        lambda: prepare_all(fresh(NAMES[::-1]), GitWorkstreamPreparer(other, "nightly")),
    )
    won = [
        {result.runtime.spec.id for result in results if result.error is None} for results in found
    ]
    assert sorted([*won[0], *won[1]]) == NAMES
    for clone, mine in zip((crowd.repo, other), won, strict=True):
        here, there = refs(clone), refs(crowd.bare)
        assert {name for name in NAMES if ref_of(name) in here} == mine
        assert all(here[ref_of(name)] == there[ref_of(name)] for name in mine)
        worktrees = clone / ".worktrees" / "nightly"
        made = {path.name for path in worktrees.iterdir()} if worktrees.exists() else set()
        assert made == mine


def test_a_batch_waits_for_all_of_its_lanes_together(tmp_path: Path) -> None:
    """Lanes that stay busy cost one time-out, and not one each."""
    crowd = Crowd(tmp_path)
    repository = open_repository(crowd.repo)
    with ExitStack() as held:
        for name in NAMES[:-1]:
            held.enter_context(
                lane_lock(repository, Lane.of(crowd.repo, "nightly", name), timeout_s=0)
            )
        preparer = GitWorkstreamPreparer(crowd.repo, "nightly", lane_timeout_s=0.2)
        results = prepare_all(fresh(NAMES), preparer)
    waited = [error.waited_s for error in errors(results) if isinstance(error, LaneBusyError)]
    assert len(waited) == len(NAMES) - 1
    assert sum(waited) <= 0.2
    assert results[-1].error is None
