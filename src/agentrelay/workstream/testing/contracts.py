"""The lifecycle's protocols as tests that any implementation can inherit.

Each class asserts what the docstrings of one protocol promise, against real
repositories and real HTTP. Inherit it, say how to make yours, and run pytest:

    class TestMyPreparer(PreparerContract):
        def make_preparer(self, world, repo):
            return MyPreparer(repo, token=world.token)

``world`` and ``repo`` are fixtures of the class and can be overridden in it.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pygit2
import pytest

from agentrelay.workstream.core.io import (
    WorkstreamIntegrator,
    WorkstreamPreparer,
    WorkstreamTeardown,
)
from agentrelay.workstream.core.runner import WorkstreamRunner, WorkstreamRunResult
from agentrelay.workstream.core.runtime import WorkstreamRuntime, WorkstreamStatus
from agentrelay.workstream.core.workstream import WorkstreamSpec
from agentrelay.workstream.testing.faults import Fault
from agentrelay.workstream.testing.repositories import commit_files, read_tree, refs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from agentrelay.workstream.testing.git_server import RefUpdate
    from agentrelay.workstream.testing.world import World

__all__ = ["IntegratorContract", "PreparerContract", "RunnerContract", "TeardownContract"]


def _refuse_pushes(updates: Sequence[RefUpdate]) -> Mapping[str, str]:
    return {update.ref: "closed for maintenance" for update in updates}


def _worktree(lane: WorkstreamRuntime) -> Path:
    assert lane.state.worktree_path is not None
    return lane.state.worktree_path


def _branch_ref(lane: WorkstreamRuntime) -> str:
    assert lane.state.branch_name is not None
    return f"refs/heads/{lane.state.branch_name}"


def _commits(path: Path) -> set[str]:
    """Return the id of every commit that some ref of a repository keeps alive."""
    repo = pygit2.Repository(str(path))
    walker = repo.walk(None)
    for reference in repo.references.objects:
        walker.push(reference.peel(pygit2.Commit).id)
    return {str(commit.id) for commit in walker}


class _LaneContract:
    """What the contracts share: a world, a working copy, and a lane's spec."""

    @pytest.fixture
    def world(self, agentrelay_world: World) -> World:
        """The world the implementation is tried in; its default branch must be ``main``."""
        return agentrelay_world

    @pytest.fixture
    def repo(self, world: World) -> Path:
        """The repository lanes are prepared in."""
        return world.clone("contract")

    def new_lane(self, workstream_id: str = "parser", **settings: str) -> WorkstreamRuntime:
        """Return a lane that was never prepared; ``settings`` are the spec's."""
        return WorkstreamRuntime(WorkstreamSpec(workstream_id, **settings))

    def prepare_lane(self, world: World, repo: Path, lane: WorkstreamRuntime) -> None:
        """Prepare a lane for the steps after it; override it for another branch layout."""
        world.runner(repo).prepare(lane)


class PreparerContract(_LaneContract):
    """What must hold for every ``WorkstreamPreparer``."""

    def make_preparer(self, world: World, repo: Path) -> WorkstreamPreparer:
        """Return the implementation under test."""
        raise NotImplementedError("say how to make the preparer")

    def test_it_satisfies_the_protocol(self, world: World, repo: Path) -> None:
        """The runner may rely on ``isinstance``."""
        assert isinstance(self.make_preparer(world, repo), WorkstreamPreparer)

    def test_the_state_says_where_the_lane_is(self, world: World, repo: Path) -> None:
        """Signal directory, worktree and branch are set and exist; nothing has failed."""
        lane = self.new_lane()
        self.make_preparer(world, repo).prepare_workstream(lane)
        assert lane.state.signal_dir is not None
        assert lane.state.signal_dir.is_dir()
        assert _worktree(lane).is_dir()
        assert _branch_ref(lane) in refs(repo)
        assert lane.status is not WorkstreamStatus.FAILED

    def test_the_worktree_stands_on_the_branch(self, world: World, repo: Path) -> None:
        """The worktree's HEAD is the lane's branch, and its files are there and clean."""
        lane = self.new_lane()
        self.make_preparer(world, repo).prepare_workstream(lane)
        worktree = pygit2.Repository(str(_worktree(lane)))
        assert worktree.lookup_reference("HEAD").target == _branch_ref(lane)
        assert worktree.status() == {}

    def test_the_remote_has_the_branch(self, world: World, repo: Path) -> None:
        """Task pull requests can target the branch at once: it is pushed."""
        lane = self.new_lane()
        self.make_preparer(world, repo).prepare_workstream(lane)
        assert refs(world.remote_path)[_branch_ref(lane)] == refs(repo)[_branch_ref(lane)]

    def test_the_lane_starts_at_its_base_branch(self, world: World, repo: Path) -> None:
        """The spec's base is what counts, not what happens to be checked out."""
        commit = commit_files(world.remote_path, {"new": "1"}, message="New", branch="release")
        lane = self.new_lane(base_branch="release")
        self.make_preparer(world, repo).prepare_workstream(lane)
        assert refs(repo)[_branch_ref(lane)] == commit
        assert (_worktree(lane) / "new").read_text() == "1"

    def test_preparing_again_changes_nothing(self, world: World, repo: Path) -> None:
        """Work in the lane survives a second call, committed or not."""
        lane = self.new_lane()
        preparer = self.make_preparer(world, repo)
        preparer.prepare_workstream(lane)
        commit_files(_worktree(lane), {"done.txt": "done"}, message="Work")
        (_worktree(lane) / "draft.txt").write_text("draft")
        before = refs(repo)
        preparer.prepare_workstream(lane)
        assert refs(repo) == before
        assert (_worktree(lane) / "done.txt").read_text() == "done"
        assert (_worktree(lane) / "draft.txt").read_text() == "draft"

    def test_preparing_again_completes_the_lane(self, world: World, repo: Path) -> None:
        """A worktree somebody deleted and a remote branch somebody deleted come back."""
        lane = self.new_lane()
        preparer = self.make_preparer(world, repo)
        preparer.prepare_workstream(lane)
        shutil.rmtree(_worktree(lane))
        pygit2.Repository(str(world.remote_path)).references.delete(_branch_ref(lane))
        preparer.prepare_workstream(lane)
        assert pygit2.Repository(str(_worktree(lane))).status() == {}
        assert _branch_ref(lane) in refs(world.remote_path)

    def test_a_refused_push_raises_and_can_be_repeated(self, world: World, repo: Path) -> None:
        """A remote that refuses the branch is an error, and no obstacle for the next try."""
        lane = self.new_lane()
        preparer = self.make_preparer(world, repo)
        before = refs(world.remote_path)
        world.git.hooks.append(_refuse_pushes)
        with pytest.raises(Exception):  # noqa: B017, PT011  # the protocol leaves the type open
            preparer.prepare_workstream(lane)
        assert refs(world.remote_path) == before
        world.git.hooks.clear()
        preparer.prepare_workstream(lane)
        assert _branch_ref(lane) in refs(world.remote_path)

    def test_lanes_have_nothing_in_common(self, world: World, repo: Path) -> None:
        """Two workstreams have two branches, two worktrees and two signal directories."""
        one, other = self.new_lane("one"), self.new_lane("other")
        preparer = self.make_preparer(world, repo)
        preparer.prepare_workstream(one)
        preparer.prepare_workstream(other)
        states = (one.state, other.state)
        assert len({state.branch_name for state in states}) == len(states)
        assert len({state.worktree_path for state in states}) == len(states)
        assert len({state.signal_dir for state in states}) == len(states)


class IntegratorContract(_LaneContract):
    """What must hold for every ``WorkstreamIntegrator``."""

    def make_integrator(self, world: World, repo: Path) -> WorkstreamIntegrator:
        """Return the implementation under test."""
        raise NotImplementedError("say how to make the integrator")

    @pytest.fixture
    def lane(self, world: World, repo: Path) -> WorkstreamRuntime:
        """A prepared lane with one commit of its own."""
        lane = self.new_lane()
        self.prepare_lane(world, repo, lane)
        commit_files(_worktree(lane), {"work.txt": "work"}, message="Work")
        return lane

    def test_it_satisfies_the_protocol(self, world: World, repo: Path) -> None:
        """The runner may rely on ``isinstance``."""
        assert isinstance(self.make_integrator(world, repo), WorkstreamIntegrator)

    def test_one_pull_request_opens(
        self, world: World, repo: Path, lane: WorkstreamRuntime
    ) -> None:
        """It goes from the lane's branch into the merge target, and the lane has its URL."""
        self.make_integrator(world, repo).create_integration_pr(lane)
        (pull,) = world.github.pulls()
        assert (pull.head, pull.base, pull.state) == (lane.state.branch_name, "main", "open")
        assert lane.status is WorkstreamStatus.PR_CREATED
        assert lane.artifacts.merge_pr_url == pull.html_url

    def test_the_pull_request_shows_what_the_lane_holds(
        self, world: World, repo: Path, lane: WorkstreamRuntime
    ) -> None:
        """Commits the remote lacks are there when the pull request is."""
        self.make_integrator(world, repo).create_integration_pr(lane)
        assert refs(world.remote_path)[_branch_ref(lane)] == refs(repo)[_branch_ref(lane)]

    def test_nothing_is_merged(self, world: World, repo: Path, lane: WorkstreamRuntime) -> None:
        """The target branch stays where it was: merging is for people."""
        before = refs(world.remote_path)["refs/heads/main"]
        self.make_integrator(world, repo).create_integration_pr(lane)
        assert refs(world.remote_path)["refs/heads/main"] == before

    def test_the_merge_target_is_the_specs(self, world: World, repo: Path) -> None:
        """A lane may go into another branch than the one it was cut from."""
        commit_files(world.remote_path, {"next": "1"}, message="Next", branch="next")
        lane = self.new_lane(merge_target_branch="next")
        self.prepare_lane(world, repo, lane)
        commit_files(_worktree(lane), {"work.txt": "work"}, message="Work")
        self.make_integrator(world, repo).create_integration_pr(lane)
        assert [pull.base for pull in world.github.pulls()] == ["next"]

    def test_integrating_again_adopts_the_pull_request(
        self, world: World, repo: Path, lane: WorkstreamRuntime
    ) -> None:
        """A second call opens no second one."""
        integrator = self.make_integrator(world, repo)
        integrator.create_integration_pr(lane)
        url = lane.artifacts.merge_pr_url
        integrator.create_integration_pr(lane)
        assert [pull.html_url for pull in world.github.pulls()] == [url]
        assert lane.artifacts.merge_pr_url == url

    def test_a_lane_without_commits_is_merged(self, world: World, repo: Path) -> None:
        """Where there is nothing to merge no pull request is opened."""
        lane = self.new_lane()
        self.prepare_lane(world, repo, lane)
        self.make_integrator(world, repo).create_integration_pr(lane)
        assert world.github.pulls() == []
        assert lane.status is WorkstreamStatus.MERGED

    def test_a_refusal_raises_and_can_be_repeated(
        self, world: World, repo: Path, lane: WorkstreamRuntime
    ) -> None:
        """A GitHub that refuses is an error, and no obstacle for the next try."""
        integrator = self.make_integrator(world, repo)
        refusal = Fault.status(403, message="Resource not accessible", times=1000)
        world.github.faults.add(refusal)
        with pytest.raises(Exception):  # noqa: B017, PT011  # the protocol leaves the type open
            integrator.create_integration_pr(lane)
        assert lane.status is not WorkstreamStatus.PR_CREATED
        world.github.faults.clear()
        integrator.create_integration_pr(lane)
        assert [pull.html_url for pull in world.github.pulls()] == [lane.artifacts.merge_pr_url]


class TeardownContract(_LaneContract):
    """What must hold for every ``WorkstreamTeardown``."""

    def make_teardown(self, world: World, repo: Path) -> WorkstreamTeardown:
        """Return the implementation under test."""
        raise NotImplementedError("say how to make the teardown")

    @pytest.fixture
    def lane(self, world: World, repo: Path) -> WorkstreamRuntime:
        """A prepared lane without commits of its own."""
        lane = self.new_lane()
        self.prepare_lane(world, repo, lane)
        return lane

    def test_it_satisfies_the_protocol(self, world: World, repo: Path) -> None:
        """The runner may rely on ``isinstance``."""
        assert isinstance(self.make_teardown(world, repo), WorkstreamTeardown)

    def test_nothing_is_left(self, world: World, repo: Path, lane: WorkstreamRuntime) -> None:
        """The folder, its entry, the local branch and the remote branch go; the target stays."""
        self.make_teardown(world, repo).teardown_workstream(lane)
        assert not _worktree(lane).exists()
        assert pygit2.Repository(str(repo)).list_worktrees() == []
        assert _branch_ref(lane) not in refs(repo)
        assert _branch_ref(lane) not in refs(world.remote_path)
        assert "refs/heads/main" in refs(world.remote_path)
        assert lane.artifacts.concerns == []

    def test_again_is_harmless(self, world: World, repo: Path, lane: WorkstreamRuntime) -> None:
        """A second call finds nothing to do and nothing to complain about."""
        teardown = self.make_teardown(world, repo)
        teardown.teardown_workstream(lane)
        before = refs(repo)
        teardown.teardown_workstream(lane)
        assert refs(repo) == before
        assert lane.artifacts.concerns == []

    def test_a_lane_that_is_half_gone_goes_completely(
        self, world: World, repo: Path, lane: WorkstreamRuntime
    ) -> None:
        """A folder somebody deleted by hand keeps nothing else from going."""
        shutil.rmtree(_worktree(lane))
        self.make_teardown(world, repo).teardown_workstream(lane)
        assert pygit2.Repository(str(repo)).list_worktrees() == []
        assert _branch_ref(lane) not in refs(repo)
        assert _branch_ref(lane) not in refs(world.remote_path)

    def test_a_failure_is_a_concern(
        self, world: World, repo: Path, lane: WorkstreamRuntime
    ) -> None:
        """A remote that refuses to delete the branch keeps the worktree from nothing."""
        world.git.hooks.append(_refuse_pushes)
        self.make_teardown(world, repo).teardown_workstream(lane)
        assert not _worktree(lane).exists()
        assert _branch_ref(lane) not in refs(repo)
        assert _branch_ref(lane) in refs(world.remote_path)
        assert lane.artifacts.concerns != []

    def test_commits_that_are_nowhere_else_survive(
        self, world: World, repo: Path, lane: WorkstreamRuntime
    ) -> None:
        """What was committed and never pushed or merged is still kept by some ref."""
        commit = commit_files(_worktree(lane), {"work.txt": "work"}, message="Work")
        self.make_teardown(world, repo).teardown_workstream(lane)
        assert commit in _commits(repo)

    def test_files_that_are_nowhere_else_survive(
        self, world: World, repo: Path, lane: WorkstreamRuntime
    ) -> None:
        """What was never committed is still in the worktree, or in some commit."""
        draft = _worktree(lane) / "draft.txt"
        draft.write_text("an idea\n")
        self.make_teardown(world, repo).teardown_workstream(lane)
        kept = [read_tree(repo, commit).values() for commit in sorted(_commits(repo))]
        assert draft.exists() or any(b"an idea\n" in files for files in kept)


class RunnerContract(_LaneContract):
    """What must hold for every ``WorkstreamRunner``."""

    def make_runner(self, world: World, repo: Path) -> WorkstreamRunner:
        """Return the implementation under test."""
        raise NotImplementedError("say how to make the runner")

    def test_it_satisfies_the_protocol(self, world: World, repo: Path) -> None:
        """An orchestrator may rely on ``isinstance``."""
        assert isinstance(self.make_runner(world, repo), WorkstreamRunner)

    def test_a_lane_goes_all_the_way(self, world: World, repo: Path) -> None:
        """PENDING, ACTIVE, PR_CREATED; and after the merge nothing is left of it."""
        lane, runner = self.new_lane(), self.make_runner(world, repo)
        passed = [lane.status]
        runner.prepare(lane)
        passed.append(lane.status)
        commit_files(_worktree(lane), {"work.txt": "work"}, message="Work")
        result = runner.integrate(lane)
        assert passed == [WorkstreamStatus.PENDING, WorkstreamStatus.ACTIVE]
        assert result == WorkstreamRunResult("parser", WorkstreamStatus.PR_CREATED)
        (pull,) = world.github.pulls()
        world.github.merge_pull(pull.number)
        runner.teardown(lane)
        assert not _worktree(lane).exists()
        assert _branch_ref(lane) not in refs(repo)
        assert lane.status is WorkstreamStatus.PR_CREATED

    def test_a_failing_prepare_raises_and_is_recorded(self, world: World, repo: Path) -> None:
        """The error reaches the caller and the status, with its type; a retry clears both."""
        lane, runner = self.new_lane(), self.make_runner(world, repo)
        world.git.hooks.append(_refuse_pushes)
        with pytest.raises(Exception) as caught:  # noqa: PT011  # the protocol leaves the type open
            runner.prepare(lane)
        first_word = str(lane.state.error).partition(": ")[0]
        assert (lane.status, first_word) == (WorkstreamStatus.FAILED, caught.type.__name__)
        world.git.hooks.clear()
        runner.prepare(lane)
        assert (lane.status, lane.state.error) == (WorkstreamStatus.ACTIVE, None)

    def test_a_failing_integrate_is_a_result(self, world: World, repo: Path) -> None:
        """Nothing is raised; status and error are in the result and in the lane."""
        lane, runner = self.new_lane(), self.make_runner(world, repo)
        runner.prepare(lane)
        commit_files(_worktree(lane), {"work.txt": "work"}, message="Work")
        world.github.faults.add(Fault.status(403, message="Resource not accessible", times=1000))
        result = runner.integrate(lane)
        assert (result.status, lane.status) == (WorkstreamStatus.FAILED, WorkstreamStatus.FAILED)
        assert result.error == lane.state.error is not None

    def test_a_failing_teardown_is_a_concern(self, world: World, repo: Path) -> None:
        """Nothing is raised and no failure recorded, but the lane says what went wrong."""
        lane, runner = self.new_lane(), self.make_runner(world, repo)
        runner.prepare(lane)
        shutil.rmtree(repo)
        repo.write_text("this was a repository")
        runner.teardown(lane)
        assert lane.artifacts.concerns != []
        assert lane.state.error is None
