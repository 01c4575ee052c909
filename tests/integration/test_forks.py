"""Lanes pushed to a fork: pull requests from there into the repository it was forked from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentrelay.workstream import (
    LaneConflictError,
    PullRequestError,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
)
from agentrelay.workstream.testing import (
    SMALL,
    Fault,
    World,
    clone_repository,
    commit_files,
    create_bare_repository,
    refs,
)
from tests.integration._github_client import call

BRANCH = "agentrelay/nightly/parser/integration"


@dataclass
class Fork:
    """A fork, a clone of it, and a lane with a commit."""

    world: World
    full_name: str
    path: Path
    repo: Path
    lane: WorkstreamRuntime

    @property
    def settings(self) -> dict[str, Any]:
        """What an integrator and a teardown have to be told."""
        return {"head_full_name": self.full_name}

    def integrate(self, **settings: Any) -> None:
        """Integrate the lane."""
        chosen = {**self.settings, **settings}
        self.world.integrator(self.repo, **chosen).create_integration_pr(self.lane)


@pytest.fixture(params=["me/widgets", "octo/widgets-fork"], ids=["another owner", "one owner"])
def fork(request: pytest.FixtureRequest) -> Iterator[Fork]:
    """A fork of another owner, and one that the same owner has under another name."""
    full_name = request.param
    with World() as world:
        path = create_bare_repository(world.root / "remotes" / f"{full_name}.git", SMALL)
        world.github.add_repository(full_name, path, fork_of="octo/widgets")
        url = world.git.repository_url(f"{full_name}.git")
        repo = clone_repository(path, world.root / "clones" / "fork", url=url)
        lane = WorkstreamRuntime(WorkstreamSpec("parser"))
        world.runner(repo).prepare(lane)
        assert lane.state.worktree_path is not None
        commit_files(lane.state.worktree_path, {"work.py": "1\n"}, message="Work")
        yield Fork(world, full_name, path, repo, lane)


def test_the_pull_request_goes_from_the_fork_into_the_base(fork: Fork) -> None:
    """The branch is in the fork alone; the pull request is the base's."""
    fork.integrate()
    (pull,) = fork.world.github.pulls()
    assert (pull.head_repository, pull.head, pull.base) == (fork.full_name, BRANCH, "main")
    assert fork.lane.artifacts.merge_pr_url == pull.html_url
    assert fork.world.github.pulls(fork.full_name) == []
    assert f"refs/heads/{BRANCH}" not in refs(fork.world.remote_path)
    assert [request.method for request in fork.world.github.requests].count("POST") == 1


def test_integrating_again_adopts_it(fork: Fork) -> None:
    """Whatever the filter of the list forgets: there is one pull request, and it is found."""
    fork.integrate()
    url = fork.lane.artifacts.merge_pr_url
    fork.integrate()
    assert len(fork.world.github.pulls()) == 1
    assert fork.lane.artifacts.merge_pr_url == url
    assert fork.lane.status is WorkstreamStatus.PR_CREATED


def test_no_second_one_is_opened_beside_one_whose_base_was_changed(fork: Fork) -> None:
    """It is found without its base, whatever the filter by head forgets."""
    world = fork.world
    commit_files(world.remote_path, {"next.txt": "1\n"}, message="Next", branch="next")
    fork.integrate()
    token = f"Bearer {world.token}"
    answer = call(world.github, "PATCH", "/pulls/1", {"base": "next"}, Authorization=token)
    assert answer.status_code == 200
    with pytest.raises(LaneConflictError) as caught:
        fork.integrate()
    assert caught.value.obstacle == fork.lane.artifacts.merge_pr_url
    assert [(pull.base, pull.state) for pull in world.github.pulls()] == [("next", "open")]


def test_a_creation_whose_answer_is_lost_is_found(fork: Fork) -> None:
    """Across repositories too, and without a second one."""
    fork.world.github.faults.add(Fault.drop_answer(method="POST"))
    fork.integrate()
    (pull,) = fork.world.github.pulls()
    assert fork.lane.artifacts.merge_pr_url == pull.html_url


def test_a_branch_of_that_name_in_the_base_is_not_the_forks(fork: Fork) -> None:
    """Its pull request is somebody else's: it is neither adopted nor in the way."""
    commit_files(fork.world.remote_path, {"other.py": "1\n"}, message="Other", branch=BRANCH)
    other = fork.world.github.open_pull(head=BRANCH, base="main", title="Somebody else's")
    fork.integrate()
    heads = [pull.head_repository for pull in fork.world.github.pulls()]
    assert heads == ["octo/widgets", fork.full_name]
    assert fork.lane.artifacts.merge_pr_url != other.html_url


def test_without_the_setting_the_forks_pull_request_is_nobodys(fork: Fork) -> None:
    """The base has no such branch, and GitHub says so; nothing is opened by accident."""
    with pytest.raises(PullRequestError, match="head"):
        fork.integrate(head_full_name=None)
    assert fork.world.github.pulls() == []


def test_naming_the_repository_itself_is_no_fork(fork: Fork) -> None:
    """Asked for as the base's own branch, which GitHub does not have here."""
    with pytest.raises(PullRequestError, match="head"):
        fork.integrate(head_full_name="octo/widgets")


def test_a_merged_one_is_recognised_at_its_commit(fork: Fork) -> None:
    """The base has the commits; the lane is done."""
    fork.integrate()
    fork.world.github.merge_pull(1, method="squash")
    fork.integrate()
    assert fork.lane.status is WorkstreamStatus.MERGED
    assert len(fork.world.github.pulls()) == 1


def test_of_closed_ones_the_latest_are_looked_through(fork: Fork) -> None:
    """A list that does not end is read as far as a lane's could be; open ones are always found."""
    fork.world.github.faults.add(
        Fault.status(
            200,
            body="[]",
            headers=[("link", '<x>; rel="next"')],
            path=r"/pulls\?(?!.*head=).*state=all",
            times=99,
        )
    )
    fork.integrate()
    lists = [each.path for each in fork.world.github.requests if each.method == "GET"]
    asked = [("state=all" in path, "state=open" in path) for path in lists]
    whole = [(True, False)] * 3 + [(False, True)]
    assert asked == (whole if fork.full_name.startswith("octo/") else whole[:1])
    fork.integrate()
    assert [each.method for each in fork.world.github.requests].count("POST") == 1
    assert [pull.state for pull in fork.world.github.pulls()] == ["open"]


def test_maintainers_who_cannot_be_let_in_are_left_out(fork: Fork) -> None:
    """An organisation's fork cannot allow it: it is opened without, and that is said."""
    fork.world.github.faults.add(
        Fault.status(
            422,
            message="Fork collab can't be granted by someone without permission",
            method="POST",
        )
    )
    fork.integrate()
    assert len(fork.world.github.pulls()) == 1
    (concern,) = fork.lane.artifacts.concerns
    assert "maintainers of octo/widgets cannot push" in concern
    assert b'"maintainer_can_modify": false' in fork.world.github.requests[-1].body


def test_a_teardown_keeps_the_branches_of_an_open_one(fork: Fork) -> None:
    """It asks the base about the fork's branch."""
    fork.integrate()
    fork.world.teardown(fork.repo, **fork.settings).teardown_workstream(fork.lane)
    assert f"refs/heads/{BRANCH}" in refs(fork.path)
    assert [pull.state for pull in fork.world.github.pulls()] == ["open"]


def test_a_fork_costs_the_requests_that_are_documented(fork: Fork) -> None:
    """One list, of the branch's pull requests or, where GitHub's filter may forget it, of all."""
    for creations in (1, 0):
        since = len(fork.world.github.requests)
        fork.integrate()
        asked = [each.method for each in fork.world.github.requests[since:]]
        assert asked == ["GET"] + ["POST"] * creations
