"""A lane's pull request whose base somebody changed: no second one beside it, and it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest

from agentrelay.workstream import (
    GhIntegrationAutoMerger,
    LaneConflictError,
    MergeRefusedError,
    MergeVerdict,
    PullRequestError,
    WorkstreamError,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
)
from agentrelay.workstream.testing import Fault, World, commit_files, refs
from tests.integration._clock import StillClock
from tests.integration._github_client import call

BRANCH = "agentrelay/nightly/parser/integration"


@dataclass
class Scene:
    """A lane with a commit, in a repository that has a branch ``next`` beside ``main``."""

    world: World
    repo: Path
    lane: WorkstreamRuntime

    def integrate(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Integrate the lane; something may happen whenever the library waits."""
        policy = StillClock().policy(wait=lambda _: meanwhile())
        self.world.integrator(self.repo, policy=policy).create_integration_pr(self.lane)

    def retarget(self, base: str, number: int = 1) -> str:
        """Change a pull request's base as a person does; return its URL."""
        path, token = f"/pulls/{number}", f"Bearer {self.world.token}"
        answer = call(self.world.github, "PATCH", path, {"base": base}, Authorization=token)
        assert answer.status_code == 200, answer.text
        self.world.github.clear()
        return str(answer.json()["html_url"])

    def elsewhere(self) -> str:
        """Integrate the lane, then have its pull request go into ``next``; return its URL."""
        self.integrate()
        return self.retarget("next")

    @property
    def asked(self) -> list[str]:
        """Methods of all requests to the API since the base was changed."""
        return [request.method for request in self.world.github.requests]

    @property
    def pulls(self) -> list[tuple[int, str, str]]:
        """Number, base and state of every pull request."""
        return [(pull.number, pull.base, pull.state) for pull in self.world.github.pulls()]


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Return a lane that is not submitted yet."""
    with World() as world:
        repo = world.clone()
        commit_files(world.remote_path, {"next.txt": "1"}, message="Next", branch="next")
        lane = WorkstreamRuntime(WorkstreamSpec("parser"))
        world.runner(repo).prepare(lane)
        made = Scene(world, repo, lane)
        work(made)
        yield made


def work(scene: Scene, name: str = "work.py") -> str:
    """Commit a new file in the lane's worktree; return the commit's id."""
    assert scene.lane.state.worktree_path is not None
    return commit_files(scene.lane.state.worktree_path, {name: "1\n"}, message=f"Add {name}")


def test_no_second_pull_request_is_opened_beside_one_whose_base_was_changed(scene: Scene) -> None:
    """One look, no creation; the error names the pull request, both branches and the ways out."""
    url = scene.elsewhere()
    with pytest.raises(LaneConflictError) as caught:
        scene.integrate()
    assert caught.value.obstacle == url
    assert f"{url} is open from '{BRANCH}' into 'next', not into 'main'" in str(caught.value)
    hint = str(caught.value.hint)
    assert "back to 'main'" in hint
    assert "close it" in hint
    assert "'next' the workstream's target" in hint
    assert scene.asked == ["GET"]
    assert scene.pulls == [(1, "next", "open")]


def test_new_commits_are_pushed_and_submitted_nowhere_else(scene: Scene) -> None:
    """What the lane holds is at the remote, and there is still the one pull request."""
    scene.elsewhere()
    tip = work(scene, "later.py")
    result = scene.world.runner(scene.repo).integrate(scene.lane)
    assert result.status is WorkstreamStatus.FAILED
    assert "LaneConflictError" in str(result.error)
    assert refs(scene.world.remote_path)[f"refs/heads/{BRANCH}"] == tip
    assert scene.pulls == [(1, "next", "open")]


def test_a_new_process_that_remembers_no_pull_request_is_refused_too(scene: Scene) -> None:
    """GitHub is asked, not the lane's own notes."""
    scene.elsewhere()
    assert scene.lane.state.signal_dir is not None
    (scene.lane.state.signal_dir / "pr_created").unlink()
    scene.lane = WorkstreamRuntime.load(scene.lane.state.signal_dir)
    with pytest.raises(LaneConflictError, match="'next'"):
        scene.integrate()
    assert scene.pulls == [(1, "next", "open")]


def test_one_that_a_person_opened_into_another_branch_is_in_the_way_too(scene: Scene) -> None:
    """Whose it is cannot be told from its branches, and two are too many."""
    scene.world.github.faults.add(Fault.status(403, method="POST", message="Not today"))
    with pytest.raises(PullRequestError):
        scene.integrate()
    theirs = scene.world.github.open_pull(head=BRANCH, base="next", title="By hand")
    with pytest.raises(LaneConflictError) as caught:
        scene.integrate()
    assert caught.value.obstacle == theirs.html_url


def test_set_back_it_is_adopted(scene: Scene) -> None:
    """The first way out: one request, and the lane waits for it as before."""
    url = scene.elsewhere()
    with pytest.raises(LaneConflictError):
        scene.integrate()
    scene.retarget("main")
    scene.integrate()
    assert scene.asked == ["GET"]
    assert scene.pulls == [(1, "main", "open")]
    assert scene.lane.artifacts.merge_pr_url == url
    assert scene.lane.status is WorkstreamStatus.PR_CREATED


def test_closed_it_is_out_of_the_way(scene: Scene) -> None:
    """The second way out: a new one goes into the target, two requests in all."""
    scene.elsewhere()
    scene.world.github.close_pull(1)
    scene.integrate()
    assert scene.asked == ["GET", "POST"]
    assert scene.pulls == [(1, "next", "closed"), (2, "main", "open")]
    scene.integrate()
    assert scene.asked == ["GET", "POST", "GET"]


def test_with_its_base_as_the_target_it_is_adopted(scene: Scene) -> None:
    """The third way out: the lane follows the pull request."""
    url = scene.elsewhere()
    scene.lane.spec = replace(scene.lane.spec, merge_target_branch="next")
    scene.integrate()
    assert scene.pulls == [(1, "next", "open")]
    assert scene.lane.artifacts.merge_pr_url == url


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_merged_elsewhere_is_not_merged_into_the_target(
    scene: Scene, method: Literal["merge", "squash", "rebase"]
) -> None:
    """The target lacks the work, so it is submitted there; the lane is not called merged."""
    scene.elsewhere()
    scene.world.github.merge_pull(1, method=method)
    scene.integrate()
    assert scene.asked == ["GET", "POST"]
    assert scene.pulls == [(1, "next", "closed"), (2, "main", "open")]
    assert scene.lane.status is WorkstreamStatus.PR_CREATED


def test_an_open_one_into_the_target_is_adopted_whatever_else_there_is(scene: Scene) -> None:
    """A newer one into another branch is somebody's business, not in the way."""
    scene.integrate()
    scene.world.github.open_pull(head=BRANCH, base="next", title="Backport")
    scene.world.github.clear()
    scene.integrate()
    assert scene.asked == ["GET"]
    assert str(scene.lane.artifacts.merge_pr_url).endswith("/pull/1")


def test_a_lane_merged_at_its_commit_is_merged_whatever_else_is_open(scene: Scene) -> None:
    """One that is open into another branch does not undo the merge into the target."""
    scene.integrate()
    scene.world.github.open_pull(head=BRANCH, base="next", title="Backport")
    scene.world.github.merge_pull(1, method="squash")
    scene.integrate()
    assert scene.lane.status is WorkstreamStatus.MERGED
    assert scene.pulls == [(1, "main", "closed"), (2, "next", "open")]


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_check_says_where_it_goes_instead(scene: Scene, lanes: int) -> None:
    """For one lane as for many: open, into which branch, and what it should be."""
    url = scene.elsewhere()
    asked = [scene.lane, scene.lane]
    if lanes == 2:
        asked[1] = WorkstreamRuntime(WorkstreamSpec("lexer"))
        scene.world.runner(scene.repo).prepare(asked[1])
    check, _ = scene.world.merge_checker(scene.repo).check_all(asked)
    assert (check.verdict, check.url) == (MergeVerdict.CANNOT_TELL, url)
    assert check.reason == f"{url} is open, but into 'next' instead of 'main'"
    assert scene.lane.status is WorkstreamStatus.PR_CREATED


def test_it_is_not_merged_by_a_program(scene: Scene) -> None:
    """Into a branch nobody asked for: refused, and said why; it stays open."""
    url = scene.elsewhere()
    merger = GhIntegrationAutoMerger(
        scene.repo,
        token=scene.world.token,
        api_url=scene.world.github.api_url,
        full_name="octo/widgets",
    )
    with pytest.raises(MergeRefusedError) as caught:
        merger.merge_integration_pr(scene.lane)
    assert f"{url} is open, but into 'next' instead of 'main'" in str(caught.value)
    assert scene.pulls == [(1, "next", "open")]


def test_a_check_is_not_misled_by_an_earlier_one_that_was_closed(scene: Scene) -> None:
    """The lane's second pull request counts, though it is the first that is for its target."""
    scene.integrate()
    scene.world.github.close_pull(1)
    scene.integrate()
    url = scene.retarget("next", 2)
    check = scene.world.merge_checker(scene.repo).check_merged(scene.lane)
    assert (check.verdict, check.url) == (MergeVerdict.CANNOT_TELL, url)


def test_a_check_is_not_misled_by_an_older_one_into_another_branch(scene: Scene) -> None:
    """The newest into the target was closed: that it was is the answer."""
    commit_files(scene.world.remote_path, {"task.py": "1"}, message="Task", branch=BRANCH)
    scene.world.github.open_pull(head=BRANCH, base="next", title="By hand")
    scene.world.github.open_pull(head=BRANCH, base="main", title="By hand")
    url = scene.world.github.close_pull(2).html_url
    scene.lane.mark_pr_created(url)
    check = scene.world.merge_checker(scene.repo).check_merged(scene.lane)
    assert (check.verdict, check.url) == (MergeVerdict.CLOSED, url)


def test_one_whose_creation_was_lost_and_whose_base_was_changed_is_found(scene: Scene) -> None:
    """Nobody here ever knew its address, and still there is no second one."""
    # Neither the creation's answer nor the look after it gets through.
    scene.world.github.faults.add(Fault.drop_answer(method="POST"))

    def refuse() -> None:
        scene.world.github.faults.add(Fault.status(403, message="Not today", method="GET"))

    with pytest.raises(WorkstreamError):
        scene.integrate(meanwhile=refuse)
    assert scene.lane.artifacts.merge_pr_url is None
    url = scene.retarget("next")
    with pytest.raises(LaneConflictError) as caught:
        scene.integrate()
    assert caught.value.obstacle == url
    assert scene.pulls == [(1, "next", "open")]


def test_one_whose_base_was_changed_before_the_look_after_a_lost_creation_is_found(
    scene: Scene,
) -> None:
    """The look asks for the lane's pull requests into any branch, and nothing is opened again."""
    scene.world.github.faults.add(Fault.drop_answer(method="POST"))
    with pytest.raises(LaneConflictError, match="'next'") as caught:
        scene.integrate(meanwhile=lambda: scene.retarget("next"))
    assert scene.pulls == [(1, "next", "open")]
    assert scene.asked == ["GET"]
    assert caught.value.obstacle == scene.world.github.pulls()[0].html_url


def test_a_lost_creation_that_was_merged_elsewhere_is_opened_again(scene: Scene) -> None:
    """The target lacks the work, so there is one into it, as after any look."""
    scene.world.github.faults.add(Fault.drop_answer(method="POST"))

    def merge_elsewhere() -> None:
        scene.retarget("next")
        scene.world.github.merge_pull(1)

    scene.integrate(meanwhile=merge_elsewhere)
    assert scene.pulls == [(1, "next", "closed"), (2, "main", "open")]
    assert scene.lane.status is WorkstreamStatus.PR_CREATED
