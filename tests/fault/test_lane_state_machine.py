"""Random lives of several lanes in two clones, with users, agents and others in between.

After each thing the library does, the promises are checked: the user's own is untouched,
nobody else's lane is, every commit and content that existed before still exists, errors
are typed and say what to do, and the status follows a model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import pygit2
from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from agentrelay.workstream import (
    MergeVerdict,
    WorkstreamRuntime,
    WorkstreamStatus,
    errors,
    prepare_all,
    teardown_all,
)
from tests._examples import refusal, tries
from tests.fault._lane_interference import MARKS, Interference
from tests.fault._lane_machine import NAMES, PLACES, Key, LaneWorld, assert_says_what_to_do
from tests.fault._lane_places import GRAPH, Place
from tests.fault._lane_upkeep import Upkeep
from tests.fault._lane_workspaces import Workspaces

_URL: Final = "https://github.example/owner/name/pull/7"


@dataclass(frozen=True)
class Before:
    """What a lane was before something was done with it.

    Attributes:
        stood: Whether anything of it was there, here or at the remote.
        failed: What the lane had failed of.
        status: Its status.
        pulls: Numbers of its open pull requests.
        at_remote: Where the remote had its branch.
    """

    stood: bool
    failed: str | None
    status: WorkstreamStatus
    pulls: frozenset[int]
    at_remote: str | None

    @classmethod
    def of(cls, machine: LaneWorld, place: Place) -> Before:
        """Look at a lane."""
        at_remote = machine.there.get(place.lane.branch_ref)
        pulls = [
            pull.number
            for pull in machine.world.github.pulls()
            if pull.head == place.lane.branch and pull.state == "open"
        ]
        return cls(
            stood=bool(place.tip or at_remote) or (place.worktree / ".git").is_file(),
            failed=place.signal("failed"),
            status=place.runtime.status,
            pulls=frozenset(pulls),
            at_remote=at_remote,
        )


class LaneMachine(Upkeep, Workspaces, Interference):
    """What the library does with lanes, and what becomes of them."""

    @initialize(keys=st.lists(PLACES, min_size=1, max_size=3, unique=True))
    def begin(self, keys: list[Key]) -> None:
        """Most lives begin with a lane or two that have work."""
        for key in keys:
            self.prepare(key)
            if self.places[key].is_open:
                self.commit_work(self.places[key])

    @rule(key=PLACES)
    def prepare(self, key: Key) -> None:
        """Prepare a lane: it stands afterwards, or is FAILED and says why."""
        place = self.places[key]
        before = Before.of(self, place)
        runner, runtime = place.clone.runner, place.runtime
        error = self.verb([place], lambda: refusal(lambda: runner.prepare(runtime)))
        self._prepared(place, before, error)

    @rule(name=st.sampled_from(NAMES))
    def prepare_both(self, name: str) -> None:
        """Prepare both lanes of a clone as a batch: each is what it would be by itself."""
        places = self.places_in(self.clones[NAMES.index(name)])
        before = [Before.of(self, place) for place in places]
        preparer = self.world.preparer(places[0].clone.repo, GRAPH)
        runtimes = [place.runtime for place in places]
        results = self.verb(places, lambda: prepare_all(runtimes, preparer))
        for place, was, result in zip(places, before, results, strict=True):
            assert result.runtime is place.runtime
            self._prepared(place, was, result.error)

    def _prepared(self, place: Place, before: Before, error: Exception | None) -> None:
        """Check what must hold after a prepare."""
        runtime = place.runtime
        event("prepare: " + ("a lane" if error is None else type(error).__name__))
        if error is not None:
            assert isinstance(error, errors.WorkstreamError)
            assert_says_what_to_do(error)
            assert runtime.status is WorkstreamStatus.FAILED
            assert str(error) in str(runtime.state.error)
            return
        assert place.is_open
        handle = pygit2.Repository(str(place.worktree))
        assert handle.head.name == place.lane.branch_ref
        assert place.lane.branch_ref in self.there
        assert runtime.state.error is None
        assert place.signal("failed") is None
        assert before.failed is None or before.failed in place.history()
        if not before.stood:
            assert runtime.status is WorkstreamStatus.ACTIVE
            self.owners[place.id] = None if place.id in self.unowned else place.clone.name
        assert runtime.status not in {WorkstreamStatus.FAILED, WorkstreamStatus.PENDING}

    @rule(data=st.data(), commits=st.booleans())
    def integrate(self, data: st.DataObject, commits: bool) -> None:  # noqa: FBT001 - drawn by name
        """Integrate a lane: one open pull request, or nothing to merge, or FAILED."""
        place = self.draw(data, lambda place: place.runtime.state.branch_name is not None)
        if commits and place.is_open:
            self.commit_work(place)
        runner, runtime = place.clone.runner, place.runtime
        result = self.verb([place], lambda: runner.integrate(runtime))
        event(f"integrate: {result.status.value} {(result.error or '').partition(':')[0]}")
        assert result.status is runtime.status
        assert result.error == runtime.state.error
        pulls = [
            pull
            for pull in self.world.github.pulls()
            if pull.head == place.lane.branch and pull.state == "open"
        ]
        assert len(pulls) <= 1
        if result.error is None:
            assert result.status in {WorkstreamStatus.PR_CREATED, WorkstreamStatus.MERGED}
            if result.status is WorkstreamStatus.PR_CREATED:
                assert [pull.html_url for pull in pulls] == [runtime.artifacts.merge_pr_url]
        else:
            assert result.status is WorkstreamStatus.FAILED
            assert result.error.partition(":")[0] in errors.__all__, result.error

    @rule(key=PLACES)
    def tear_down(self, key: Key) -> None:
        """Tear a lane down: what goes is safe elsewhere, and the status stays."""
        place = self.places[key]
        before = Before.of(self, place)
        teardown, runtime = self.world.teardown(place.clone.repo), place.runtime
        error = self.verb([place], lambda: refusal(lambda: teardown.teardown_workstream(runtime)))
        self._torn_down(place, before, error)

    @rule(name=st.sampled_from(NAMES))
    def tear_both_down(self, name: str) -> None:
        """Tear both lanes of a clone down as a batch: likewise."""
        places = self.places_in(self.clones[NAMES.index(name)])
        before = [Before.of(self, place) for place in places]
        teardown = self.world.teardown(places[0].clone.repo)
        runtimes = [place.runtime for place in places]
        results = self.verb(places, lambda: teardown_all(runtimes, teardown))
        for place, was, result in zip(places, before, results, strict=True):
            assert result.runtime is place.runtime
            self._torn_down(place, was, result.error)

    def _torn_down(self, place: Place, before: Before, error: Exception | None) -> None:
        """Check what must hold after a teardown."""
        event("tear down: " + ("done" if error is None else type(error).__name__))
        assert place.runtime.status is before.status
        if error is not None:
            assert isinstance(error, errors.WorkstreamError)
            assert_says_what_to_do(error)
        still = {pull.number for pull in self.world.github.pulls() if pull.state == "open"}
        merged = before.at_remote is None or self.contains(
            before.at_remote, self.there["refs/heads/main"]
        )
        assert merged or before.pulls <= still

    @precondition(lambda self: bool(self.world.github.pulls()))
    @rule(key=PLACES, method=st.sampled_from([None, "merge", "squash", "rebase"]))
    def ask_or_merge(self, key: Key, method: Any) -> None:
        """Look whether a lane was merged, or merge it: MERGED exactly if GitHub did."""
        place = self.places[key]
        runtime, before = place.runtime, place.runtime.status
        world, found = self.world, []
        heads = {pull.number: pull.head for pull in world.github.pulls() if pull.state == "open"}
        squashed = {number: self.note_squash(head) for number, head in heads.items()}
        merger = world.auto_merger(place.clone.repo, method=method or "merge")
        runner = world.runner(place.clone.repo, GRAPH)
        runner = replace(runner, _auto_merger=merger)
        act = runner.check if method is None else runner.merge
        error = self.verb(
            [place],
            lambda: refusal(lambda: found.append(act(runtime))),
            moves=[] if method is None else ["refs/heads/main"],
        )
        event(f"{act.__name__}: " + (type(error).__name__ if error else found[0].verdict.value))
        merged = [pull.number for pull in world.github.pulls() if pull.merged]
        for number in merged:
            if method in {"squash", "rebase"}:
                self.squashed |= squashed.get(number, set())
        if error is not None:
            assert_says_what_to_do(error)
            assert runtime.status is before
            return
        if found[0].verdict is MergeVerdict.MERGED:
            assert runtime.status is WorkstreamStatus.MERGED
            assert merged or self.contains(str(place.tip), self.there["refs/heads/main"])
        else:
            assert runtime.status is before
            assert found[0].verdict is MergeVerdict.OPEN or method is None

    @rule(key=PLACES)
    def load(self, key: Key) -> None:
        """A new process reads the lane from disk, and sees the same."""
        place = self.places[key]
        found: list[WorkstreamRuntime] = []
        error = refusal(lambda: found.append(WorkstreamRuntime.load(place.lane.signal_dir)))
        if error is not None:
            assert_says_what_to_do(error)
            place.forget()
            return
        if place.runtime.state.signal_dir is not None:
            assert found[0].status is place.runtime.status
        assert found[0].spec.id == place.id
        place.runtime = found[0]

    @rule(key=PLACES, mark=st.sampled_from(MARKS))
    def mark(self, key: Key, mark: str) -> None:
        """Mark a lane; ``failed`` beats everything, otherwise the furthest counts."""
        place = self.places[key]
        runtime, before = place.runtime, place.runtime.status
        actions: dict[str, Callable[[], None]] = {
            "pending": runtime.mark_pending,
            "active": runtime.mark_active,
            "merge_ready": runtime.mark_merge_ready,
            "pr_created": lambda: runtime.mark_pr_created(_URL),
            "merged": runtime.mark_merged,
            "failed": lambda: runtime.mark_failed("an agent gave up"),
        }
        error = self.verb([place], lambda: refusal(actions[mark]))
        if runtime.state.signal_dir is None and mark != "failed":
            assert error is not None
            assert_says_what_to_do(error)
            return
        assert error is None
        furthest = max(before.value, mark, key=MARKS.index)
        assert runtime.status.value == furthest


LaneMachine.TestCase.settings = tries(10, stateful_step_count=30)
TestLanes = LaneMachine.TestCase
