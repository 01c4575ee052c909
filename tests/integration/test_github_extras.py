"""The GitHub double about people, milestones, drafts and forks: as strict as GitHub, or more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pygit2
import pytest

from agentrelay.workstream.testing.github_server import GitHubServer
from agentrelay.workstream.testing.repositories import commit_files, create_bare_repository
from tests.integration._github_client import (
    NAME,
    TOKEN,
    add_lane,
    call,
    files,
    make_remote,
    open_lane,
    tip,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return a bare repository with ``main`` and a lane one commit ahead of it."""
    return make_remote(tmp_path)


@pytest.fixture
def server(bare: Path) -> Iterator[GitHubServer]:
    """Return a started double that wants a token."""
    with GitHubServer(bare, token=TOKEN) as started:
        yield started


@pytest.fixture
def fork(server: GitHubServer, tmp_path: Path) -> Path:
    """Return a fork of another owner, with a lane of its own."""
    path = create_bare_repository(tmp_path / "fork.git")
    add_lane(path, "theirs", {"theirs.txt": "1\n"})
    server.add_repository("me/widgets", path, fork_of=NAME)
    return path


def _post(server: GitHubServer, path: str, body: dict[str, Any]) -> tuple[int, str]:
    answer = call(server, "POST", path, body)
    return answer.status_code, answer.text


# -- people and milestones


def test_one_stranger_among_the_reviewers_refuses_all_of_them(server: GitHubServer) -> None:
    """GitHub requests all of the reviews or none."""
    open_lane(server)
    status, text = _post(
        server, "/pulls/1/requested_reviewers", {"reviewers": ["hubot", "stranger"]}
    )
    assert status == 422
    assert f"is not a collaborator of the {NAME} repository" in text
    assert server.pulls()[0].reviewers == ()


def test_a_stranger_among_the_assignees_is_left_out_without_a_word(server: GitHubServer) -> None:
    """The answer is a success, and the only sign is who is not in it."""
    open_lane(server)
    answer = call(server, "POST", "/issues/1/assignees", {"assignees": ["hubot", "stranger"]})
    assert answer.status_code == 201
    assert [user["login"] for user in answer.json()["assignees"]] == ["hubot"]
    call(server, "POST", "/issues/1/assignees", {"assignees": ["hubot"]})
    assert server.pulls()[0].assignees == ("hubot",)


def test_no_more_than_ten_are_assigned(bare: Path) -> None:
    """The eleventh is left out like a stranger."""
    people = [f"person{number}" for number in range(11)]
    with GitHubServer(bare, token=TOKEN, collaborators=people) as server:
        open_lane(server)
        call(server, "POST", "/issues/1/assignees", {"assignees": people})
        assert server.pulls()[0].assignees == tuple(people[:10])


def test_labels_are_the_same_in_any_case(server: GitHubServer) -> None:
    """Adding one again in capitals adds nothing."""
    open_lane(server)
    call(server, "POST", "/issues/1/labels", {"labels": ["lane"]})
    call(server, "POST", "/issues/1/labels", {"labels": ["LANE", "two"]})
    assert server.pulls()[0].labels == ("lane", "two")


def test_a_milestone_must_be_there(server: GitHubServer) -> None:
    """By its number alone; null takes it away."""
    open_lane(server)
    assert call(server, "PATCH", "/issues/1", {"milestone": 1}).status_code == 422
    assert call(server, "PATCH", "/issues/1", {"milestone": "Spring"}).status_code == 422
    assert server.add_milestone("Spring") == 1
    assert call(server, "PATCH", "/issues/1", {"milestone": 1}).status_code == 200
    assert server.pulls()[0].milestone == "Spring"
    assert call(server, "PATCH", "/issues/1", {"milestone": None}).status_code == 200
    assert server.pulls()[0].milestone is None


def test_a_review_takes_its_author_off_the_list(server: GitHubServer) -> None:
    """As on GitHub: who has reviewed is not asked any more."""
    open_lane(server)
    _post(server, "/pulls/1/requested_reviewers", {"reviewers": ["hubot"]})
    server.review_pull(1, "hubot")
    assert server.pulls()[0].reviewers == ()
    (review,) = call(server, "GET", "/pulls/1/reviews").json()
    assert (review["user"]["login"], review["state"]) == ("hubot", "APPROVED")


def test_a_plan_without_drafts_refuses_them(bare: Path) -> None:
    """And opens the same pull request when it is no draft."""
    with GitHubServer(bare, token=TOKEN, knows_drafts=False) as server:
        body = {"title": "T", "head": "lane", "base": "main", "draft": True}
        status, text = _post(server, "/pulls", body)
        assert (status, "Draft pull requests are not supported" in text) == (422, True)
        assert server.pulls() == []
        open_lane(server)


# -- forks


def test_a_fork_opens_a_pull_request_that_is_merged_into_the_base(
    server: GitHubServer, fork: Path, bare: Path
) -> None:
    """The base gets the fork's commits; the head is the fork's in every answer."""
    head = tip(fork, "theirs")
    created = open_lane(server, head="me:theirs")
    assert created["head"]["repo"]["full_name"] == "me/widgets"
    assert (created["head"]["label"], created["head"]["sha"]) == ("me:theirs", head)
    assert created["head"]["repo"]["fork"]
    assert created["base"]["repo"]["full_name"] == NAME
    call(server, "PUT", "/pulls/1/merge", {"sha": head})
    assert "theirs.txt" in files(bare, "main")
    assert server.pulls()[0].merged


def test_a_forks_pull_request_follows_the_fork(server: GitHubServer, fork: Path) -> None:
    """A push to the fork shows; deleting its branch closes the pull request."""
    open_lane(server, head="me:theirs")
    sha = commit_files(fork, {"more.txt": "2\n"}, message="More", branch="theirs")
    assert call(server, "GET", "/pulls/1").json()["head"]["sha"] == sha
    pygit2.Repository(str(fork)).references.delete("refs/heads/theirs")
    assert server.pulls()[0].state == "closed"


def test_the_list_by_head_knows_owners_and_forgets_a_fork_of_the_same_one(
    server: GitHubServer, fork: Path, tmp_path: Path
) -> None:
    """So a client that trusts the filter is found out."""
    assert fork.is_dir()
    open_lane(server, head="me:theirs")
    sibling = create_bare_repository(tmp_path / "sibling.git")
    add_lane(sibling, "theirs", {"sibling.txt": "1\n"})
    server.add_repository("octo/sibling", sibling, fork_of=NAME)
    created = open_lane(server, head="octo:theirs", head_repo="sibling")
    assert created["head"]["repo"]["full_name"] == "octo/sibling"
    found = call(server, "GET", "/pulls?head=me:theirs").json()
    assert [pull["number"] for pull in found] == [1]
    assert call(server, "GET", "/pulls?head=octo:theirs").json() == []
    assert len(call(server, "GET", "/pulls").json()) == 2


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"head": "nobody:theirs"}, '"field": "head"'),
        ({"head": "me:missing"}, '"field": "head"'),
        ({"head": "octo:theirs", "head_repo": "missing"}, '"field": "head"'),
        ({"head": "stranger:lane"}, '"field": "head"'),
        ({"head": "me:main"}, "No commits between octo:main and me:main"),
    ],
)
def test_a_head_that_is_not_of_the_network_is_refused(
    server: GitHubServer, fork: Path, tmp_path: Path, fields: dict[str, str], why: str
) -> None:
    """A repository of the same content that is no fork is somebody else's."""
    assert fork.is_dir()
    server.add_repository("stranger/widgets", make_remote(tmp_path / "stranger"))
    status, text = _post(server, "/pulls", {"title": "T", "base": "main", **fields})
    assert (status, why in text) == (422, True), text


def test_a_duplicate_is_one_of_the_same_repository(server: GitHubServer, fork: Path) -> None:
    """The same branch name in the base is another head."""
    add_lane(fork, "lane", {"fork.txt": "1\n"})
    open_lane(server)
    open_lane(server, head="me:lane")
    status, text = _post(server, "/pulls", {"title": "T", "base": "main", "head": "me:lane"})
    assert (status, "already exists for me:lane" in text) == (422, True)


def test_a_fork_of_nothing_is_refused_where_it_is_named(server: GitHubServer, bare: Path) -> None:
    """Before anything is hosted."""
    with pytest.raises(ValueError, match="not hosted"):
        server.add_repository("me/widgets", bare, fork_of="octo/missing")
