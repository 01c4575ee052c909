"""What a pull request may have besides its text: asked for, said when refused, never in the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentrelay.workstream import (
    RepositoryError,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
)
from agentrelay.workstream.testing import Fault, World, commit_files, refs
from agentrelay.workstream.testing.github_server import GitHubServer, PullView


@pytest.fixture
def world() -> Iterator[World]:
    """Return a world of one remote and one GitHub."""
    with World() as made:
        yield made


@pytest.fixture
def repo(world: World) -> Path:
    """Return a clone over smart HTTP."""
    return world.clone()


@pytest.fixture
def lane(world: World, repo: Path) -> WorkstreamRuntime:
    """Return a prepared lane with a commit."""
    made = WorkstreamRuntime(WorkstreamSpec("parser"))
    world.runner(repo).prepare(made)
    assert made.state.worktree_path is not None
    commit_files(made.state.worktree_path, {"work.py": "1\n"}, message="Work")
    return made


def integrate(world: World, repo: Path, lane: WorkstreamRuntime, **settings: Any) -> PullView:
    """Integrate a lane; return its one pull request."""
    world.integrator(repo, **settings).create_integration_pr(lane)
    (pull,) = world.github.pulls()
    return pull


def asked(world: World) -> list[str]:
    """Return method and path of all requests to the API, without the repository."""
    before = "/api/v3/repos/octo/widgets"
    return [
        f"{request.method} {request.path.partition('?')[0].removeprefix(before)}"
        for request in world.github.requests
    ]


ALL = {
    "labels": ["lane", "agents"],
    "reviewers": ["hubot"],
    "assignees": ["octocat"],
    "milestone": "Spring",
}


def test_everything_that_is_asked_for_is_there(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Labels, reviewers, assignees, a milestone by its title; and nothing to complain about."""
    world.github.add_milestone("Winter")
    world.github.add_milestone("Spring")
    pull = integrate(world, repo, lane, **ALL)
    assert pull.labels == ("lane", "agents")
    assert (pull.reviewers, pull.assignees, pull.milestone) == (("hubot",), ("octocat",), "Spring")
    assert lane.artifacts.concerns == []
    assert lane.status is WorkstreamStatus.PR_CREATED


def test_repeating_asks_for_nothing_that_is_there(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """One request, as without any of it."""
    world.github.add_milestone("Spring")
    integrate(world, repo, lane, **ALL)
    world.github.clear()
    before = integrate(world, repo, lane, **{**ALL, "labels": ["LANE", "Agents"]})
    assert asked(world) == ["GET /pulls"]
    world.github.clear()
    after = integrate(world, repo, lane, **{**ALL, "labels": ["lane", "third"], "milestone": 1})
    assert asked(world) == ["GET /pulls", "POST /issues/1/labels"]
    assert json.loads(world.github.requests[-1].body) == {"labels": ["third"]}
    assert after.labels == (*before.labels, "third")


def test_a_crash_before_they_were_asked_for_is_made_good_by_the_next_try(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The pull request is adopted, and gets what it lacks."""
    integrate(world, repo, lane)
    pull = integrate(world, repo, lane, labels=["lane"], reviewers=["hubot"], assignees=["hubot"])
    assert (pull.labels, pull.reviewers, pull.assignees) == (("lane",), ("hubot",), ("hubot",))


def test_who_has_given_a_review_is_not_asked_again(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """GitHub takes reviewers off the list with their review: asking again would ping them."""
    integrate(world, repo, lane, reviewers=["hubot"])
    world.github.review_pull(1, "hubot")
    world.github.clear()
    pull = integrate(world, repo, lane, reviewers=["hubot"], team_reviewers=["core"])
    assert pull.reviewers == ()
    assert asked(world) == ["GET /pulls", "GET /pulls/1/reviews"]
    assert lane.artifacts.concerns == []


def test_teams_are_asked_for_reviews(tmp_path: Path) -> None:
    """By their slugs, beside people."""
    with World(tmp_path) as world:
        repo = world.clone()
        lane = WorkstreamRuntime(WorkstreamSpec("parser"))
        world.runner(repo).prepare(lane)
        assert lane.state.worktree_path is not None
        commit_files(lane.state.worktree_path, {"work.py": "1\n"}, message="Work")
        with GitHubServer(world.remote_path, token=world.token, teams=["core"]) as github:
            settings = {"api_url": github.api_url, "team_reviewers": ["core"]}
            world.integrator(repo, **settings).create_integration_pr(lane)
            assert [pull.teams for pull in github.pulls()] == [("core",)]
            github.clear()
            world.integrator(repo, **settings).create_integration_pr(lane)
            assert len(github.requests) == 1
        assert lane.artifacts.concerns == []


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a stranger as reviewer": ({"reviewers": ["stranger"]}, "from collaborators"),
    "the author as reviewer": ({"reviewers": ["octocat"]}, "pull request author"),
    "no such team": ({"team_reviewers": ["core"]}, "from collaborators"),
    "a stranger as assignee": ({"assignees": ["hubot", "stranger"]}, "stranger, who lacks access"),
    "no such milestone": ({"milestone": 7}, "milestone"),
    "no milestone of that title": ({"milestone": "Spring"}, "none is open"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_a_concern_and_the_pull_request_stands(
    world: World, repo: Path, lane: WorkstreamRuntime, name: str
) -> None:
    """The lane is done; the concern names the pull request and says why, and the rest is asked."""
    settings, why = REFUSED[name]
    pull = integrate(world, repo, lane, labels=["lane"], **settings)
    assert lane.status is WorkstreamStatus.PR_CREATED
    assert lane.artifacts.merge_pr_url == pull.html_url
    (concern,) = lane.artifacts.concerns
    assert concern.startswith(f"{pull.html_url} stands")
    assert why in concern
    assert pull.labels == ("lane",)
    # Saying it again is saying it once.
    integrate(world, repo, lane, labels=["lane"], **settings)
    assert lane.artifacts.concerns == [concern]


def test_a_milestone_is_looked_for_on_every_page(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The hundred and first is found like the first."""
    for number in range(101):
        world.github.add_milestone(f"Week {number}")
    assert integrate(world, repo, lane, milestone="Week 100").milestone == "Week 100"
    assert asked(world).count("GET /milestones") == 2


def test_a_list_without_an_end_is_a_concern(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """It is asked a bounded number of times."""
    world.github.faults.add(
        Fault.status(
            200, body="[]", headers=[("link", '<x>; rel="next"')], path="milestones", times=99
        )
    )
    integrate(world, repo, lane, milestone="Spring")
    (concern,) = lane.artifacts.concerns
    assert "did not end after 10 pages" in concern
    assert asked(world).count("GET /milestones") == 10


def test_a_milestone_that_cannot_be_read_is_none(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Its number is what a pull request gets, and this one has none."""
    body = '[7, {"title": "Spring", "number": "1"}]'
    world.github.faults.add(Fault.status(200, body=body, path="milestones"))
    assert integrate(world, repo, lane, milestone="Spring").milestone is None
    (concern,) = lane.artifacts.concerns
    assert "none is open" in concern


@pytest.mark.parametrize("user", ["null", '{"login": null}', '{"login": "HubOt"}'])
def test_a_review_without_a_known_author_is_a_review(
    world: World, repo: Path, lane: WorkstreamRuntime, user: str
) -> None:
    """Accounts vanish and reviews stay: a team is not asked once more."""
    integrate(world, repo, lane)
    world.github.faults.add(Fault.status(200, body=f'[{{"user": {user}}}]', path="reviews"))
    pull = integrate(world, repo, lane, team_reviewers=["core"])
    assert pull.teams == ()
    assert lane.artifacts.concerns == []


@pytest.mark.parametrize("path", ["labels", "requested_reviewers", "assignees", "issues/1$"])
def test_a_call_that_fails_leaves_the_others_alone(
    world: World, repo: Path, lane: WorkstreamRuntime, path: str
) -> None:
    """Each is asked for on its own, and a failure of one is one sentence."""
    world.github.add_milestone("Spring")
    world.github.faults.add(Fault.status(500, path=path, times=99))
    pull = integrate(world, repo, lane, **ALL)
    have = [pull.labels, pull.reviewers, pull.assignees, pull.milestone]
    assert sum(map(bool, have)) == 3
    assert [concern for concern in lane.artifacts.concerns if "HTTP 500" in concern] == (
        lane.artifacts.concerns
    )
    assert len(lane.artifacts.concerns) == 1
    world.github.faults.clear()
    pull = integrate(world, repo, lane, **ALL)
    assert all([pull.labels, pull.reviewers, pull.assignees, pull.milestone])


@pytest.mark.parametrize("path", ["labels", "requested_reviewers", "assignees", "issues/1$"])
def test_an_answer_that_is_lost_is_not_asked_for_again(
    world: World, repo: Path, lane: WorkstreamRuntime, path: str
) -> None:
    """A look shows that it is there already."""
    world.github.add_milestone("Spring")
    world.github.faults.add(Fault.drop_answer(path=path))
    integrate(world, repo, lane, **ALL)
    assert lane.artifacts.concerns == []
    (lost,) = {one for one in asked(world) if one.endswith(path.rstrip("$"))}
    assert asked(world).count(lost) == 1


def test_a_draft_is_opened_where_it_is_asked_for(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Adopting leaves it as people made it: a ready one does not become a draft again."""
    assert integrate(world, repo, lane, draft=True).draft
    assert lane.artifacts.concerns == []


def test_where_there_are_no_drafts_an_ordinary_one_is_opened(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Some plans refuse drafts; the work is submitted all the same, and that is said."""
    with GitHubServer(world.remote_path, token=world.token, knows_drafts=False) as github:
        world.integrator(repo, api_url=github.api_url, draft=True).create_integration_pr(lane)
        (pull,) = github.pulls()
        assert [request.method for request in github.requests] == ["GET", "POST", "POST"]
    assert not pull.draft
    assert lane.status is WorkstreamStatus.PR_CREATED
    (concern,) = lane.artifacts.concerns
    assert "no draft pull requests" in concern


def test_nothing_is_asked_for_once_it_is_merged(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Labels on a closed chapter help nobody."""
    integrate(world, repo, lane)
    world.github.merge_pull(1, method="squash")
    pull = integrate(world, repo, lane, labels=["late"])
    assert (pull.merged, pull.labels) == (True, ())
    assert lane.status is WorkstreamStatus.MERGED


@pytest.mark.parametrize(
    "settings",
    [
        {"labels": "lane"},
        {"labels": ["lane", ""]},
        {"labels": None},
        {"reviewers": [" hubot"]},
        {"reviewers": ["a\nb"]},
        {"team_reviewers": [7]},
        {"assignees": ["x" * 300]},
        {"milestone": 0},
        {"milestone": True},
        {"milestone": ""},
        {"milestone": 1.5},
        {"draft": "no"},
        {"draft": None},
        {"head_full_name": "fork"},
        {"head_full_name": "a/b/c"},
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_before_anything_is_pushed(
    world: World, repo: Path, lane: WorkstreamRuntime, settings: dict[str, Any]
) -> None:
    """A text where a list belongs would be labels of one letter each."""
    world.git.clear()
    (name,) = settings
    with pytest.raises(RepositoryError, match=name):
        world.integrator(repo, **settings).create_integration_pr(lane)
    assert (world.git.requests, world.github.requests) == ((), ())


def test_requests_per_lane_are_counted(world: World, repo: Path, lane: WorkstreamRuntime) -> None:
    """Two to open the first time, one or two when repeated."""
    integrate(world, repo, lane)
    assert asked(world) == ["GET /pulls", "POST /pulls"]
    world.github.clear()
    integrate(world, repo, lane)
    assert len(asked(world)) <= 2
    assert "POST /pulls" not in asked(world)


def test_a_renamed_repository_is_followed_and_said(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The pull request is opened under the new name; the concern says what to change."""
    world.github.rename_repository("octo/widgets", "octo/gadgets")
    world.integrator(repo).create_integration_pr(lane)
    (pull,) = world.github.pulls("octo/gadgets")
    assert lane.artifacts.merge_pr_url == pull.html_url
    assert "/octo/gadgets/pull/" in pull.html_url
    (concern,) = lane.artifacts.concerns
    assert "octo/widgets is now called octo/gadgets" in concern
    world.github.clear()
    said = world.teardown(repo)
    said.teardown_workstream(lane)
    # The open pull request is found under the new name, and so the branches stay.
    assert [found.state for found in world.github.pulls("octo/gadgets")] == ["open"]
    assert any(f"{pull.html_url} is open" in text for text in lane.artifacts.concerns)


def test_a_git_server_that_may_be_no_github_is_asked_once(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Nothing says that it has pull requests: no answer is not waited for, and none is missed."""
    world.git.faults.add(Fault.status(503, path="/api/v3", times=9))
    teardown = world.teardown(repo, api_url=None, full_name=None)
    teardown.teardown_workstream(lane)
    assert len([one for one in world.git.requests if "/api/v3" in one.path]) == 1
    assert "refs/heads/agentrelay/nightly/parser/integration" not in refs(world.remote_path)
