"""What must hold for whoever tells whether a lane was merged, or merges it, as tests to inherit.

class TestMyChecker(MergeCheckerContract):
    def make_merge_checker(self, world, repo):
        return MyChecker(repo, token=world.token)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentrelay.workstream.core.io import IntegrationAutoMerger, IntegrationMergeChecker
from agentrelay.workstream.core.merge import MergeVerdict
from agentrelay.workstream.core.runtime import WorkstreamRuntime, WorkstreamStatus
from agentrelay.workstream.errors import (
    MergeConflictError,
    MergeRefusedError,
    PullRequestError,
)
from agentrelay.workstream.testing.contracts import _LaneContract
from agentrelay.workstream.testing.faults import Fault
from agentrelay.workstream.testing.repositories import commit_files, refs

if TYPE_CHECKING:
    from pathlib import Path

    from agentrelay.workstream.testing._github_merge import MergeMethod
    from agentrelay.workstream.testing.world import World

__all__ = ["AutoMergerContract", "MergeCheckerContract"]


class _SubmittedLaneContract(_LaneContract):
    """What the two contracts share: a lane that waits to be merged."""

    @pytest.fixture
    def lane(self, world: World, repo: Path) -> WorkstreamRuntime:
        """A lane with one commit and an open pull request."""
        lane = self.new_lane()
        self.prepare_lane(world, repo, lane)
        assert lane.state.worktree_path is not None
        commit_files(lane.state.worktree_path, {"work.txt": "work"}, message="Work")
        world.runner(repo).integrate(lane)
        return lane


class MergeCheckerContract(_SubmittedLaneContract):
    """What must hold for every ``IntegrationMergeChecker``."""

    def make_merge_checker(self, world: World, repo: Path) -> IntegrationMergeChecker:
        """Return the implementation under test."""
        raise NotImplementedError("say how to make the merge checker")

    def test_it_satisfies_the_protocol(self, world: World, repo: Path) -> None:
        """The runner may rely on ``isinstance``."""
        assert isinstance(self.make_merge_checker(world, repo), IntegrationMergeChecker)

    def test_an_open_pull_request_is_open(
        self, world: World, repo: Path, lane: WorkstreamRuntime
    ) -> None:
        """The answer names the pull request."""
        check = self.make_merge_checker(world, repo).check_merged(lane)
        assert (check.verdict, check.url) == (MergeVerdict.OPEN, lane.artifacts.merge_pr_url)

    @pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
    def test_a_merge_is_told_by_any_method(
        self, world: World, repo: Path, lane: WorkstreamRuntime, method: MergeMethod
    ) -> None:
        """A squash and a rebase leave none of the lane's commits, and count as well."""
        world.github.merge_pull(1, method=method)
        after = refs(world.remote_path)["refs/heads/main"]
        check = self.make_merge_checker(world, repo).check_merged(lane)
        assert (check.verdict, check.merge_commit) == (MergeVerdict.MERGED, after)

    def test_closed_is_not_merged(self, world: World, repo: Path, lane: WorkstreamRuntime) -> None:
        """A pull request that was closed without a merge is told apart."""
        world.github.close_pull(1)
        check = self.make_merge_checker(world, repo).check_merged(lane)
        assert check.verdict is MergeVerdict.CLOSED

    def test_no_answer_is_an_answer_of_its_own(
        self, world: World, repo: Path, lane: WorkstreamRuntime
    ) -> None:
        """A GitHub that refuses does not make a merged lane an unmerged one."""
        world.github.merge_pull(1)
        world.github.faults.add(Fault.status(403, message="Resource not accessible", times=1000))
        check = self.make_merge_checker(world, repo).check_merged(lane)
        assert check.verdict is MergeVerdict.CANNOT_TELL
        assert check.reason

    def test_looking_changes_nothing(
        self, world: World, repo: Path, lane: WorkstreamRuntime
    ) -> None:
        """The lane is marked by whoever asked, not by who answers."""
        world.github.merge_pull(1)
        before = refs(repo), refs(world.remote_path)
        self.make_merge_checker(world, repo).check_merged(lane)
        assert (refs(repo), refs(world.remote_path)) == before
        assert lane.status is WorkstreamStatus.PR_CREATED


class AutoMergerContract(_SubmittedLaneContract):
    """What must hold for every ``IntegrationAutoMerger``."""

    def make_auto_merger(self, world: World, repo: Path) -> IntegrationAutoMerger:
        """Return the implementation under test."""
        raise NotImplementedError("say how to make the auto-merger")

    def test_it_satisfies_the_protocol(self, world: World, repo: Path) -> None:
        """The runner may rely on ``isinstance``."""
        assert isinstance(self.make_auto_merger(world, repo), IntegrationAutoMerger)

    def test_the_lane_is_merged_once(
        self, world: World, repo: Path, lane: WorkstreamRuntime
    ) -> None:
        """A second call finds the first one's merge."""
        merger = self.make_auto_merger(world, repo)
        check = merger.merge_integration_pr(lane)
        after = refs(world.remote_path)["refs/heads/main"]
        assert (check.verdict, check.merge_commit) == (MergeVerdict.MERGED, after)
        assert merger.merge_integration_pr(lane).merge_commit == after
        assert refs(world.remote_path)["refs/heads/main"] == after
        assert world.github.pulls()[0].merged

    def test_an_open_concern_is_against_it(
        self, world: World, repo: Path, lane: WorkstreamRuntime
    ) -> None:
        """Nothing is merged, and the error names the concern."""
        lane.artifacts.concerns.append("two tasks changed one file")
        with pytest.raises(MergeRefusedError, match="two tasks changed one file"):
            self.make_auto_merger(world, repo).merge_integration_pr(lane)
        assert not world.github.pulls()[0].merged

    def test_what_somebody_else_pushed_is_not_merged(
        self, world: World, repo: Path, lane: WorkstreamRuntime
    ) -> None:
        """Only the lane's own commit is."""
        branch = str(lane.state.branch_name)
        commit_files(world.remote_path, {"more.txt": "more"}, message="More", branch=branch)
        with pytest.raises(PullRequestError):
            self.make_auto_merger(world, repo).merge_integration_pr(lane)
        assert not world.github.pulls()[0].merged

    def test_a_conflict_asks_for_a_rebase(
        self, world: World, repo: Path, lane: WorkstreamRuntime
    ) -> None:
        """The target's own version of a file stays what it is."""
        files = {"work.txt": "other"}
        after = commit_files(world.remote_path, files, message="Other", branch="main")
        with pytest.raises(MergeConflictError):
            self.make_auto_merger(world, repo).merge_integration_pr(lane)
        assert refs(world.remote_path)["refs/heads/main"] == after
