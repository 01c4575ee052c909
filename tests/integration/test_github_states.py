"""The GitHub double follows its repository: states come from refs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pygit2
import pytest

from agentrelay.workstream.testing.github_server import GitHubServer
from agentrelay.workstream.testing.repositories import commit_files
from tests.integration._github_client import (
    TOKEN,
    add_lane,
    call,
    make_remote,
    move,
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


def test_a_pull_request_shows_its_branches_as_they_are_now(
    server: GitHubServer, bare: Path
) -> None:
    """Head and base are read at every answer, also after a forced push."""
    open_lane(server)
    for branch in ("lane", "main"):
        commit_files(bare, {f"{branch}-2.txt": "2\n"}, message="Later", branch=branch)
        body = call(server, "GET", "/pulls/1").json()
        assert (body["head"]["sha"], body["base"]["sha"]) == (tip(bare, "lane"), tip(bare, "main"))


@pytest.mark.parametrize("branch", ["lane", "target"])
def test_a_pull_request_whose_branch_disappears_is_closed(
    server: GitHubServer, bare: Path, branch: str
) -> None:
    """Deleting head or base closes it, unmerged, with its commits as they were."""
    add_lane(bare, "target")
    head = tip(bare, "lane")
    open_lane(server, base="target")
    assert call(server, "DELETE", f"/git/refs/heads/{branch}").status_code == 204
    body = call(server, "GET", "/pulls/1").json()
    assert (body["state"], body["merged"], body["head"]["sha"]) == ("closed", False, head)


def test_pushing_the_head_to_the_base_merges_the_pull_request(
    server: GitHubServer, bare: Path
) -> None:
    """It is merged by whoever pushes its commits, and later pushes change it no more."""
    open_lane(server)
    head = tip(bare, "lane")
    move(bare, "main", head)
    assert [(view.state, view.merged) for view in server.pulls()] == [("closed", True)]
    commit_files(bare, {"later.txt": "l\n"}, message="Later", branch="lane")
    body = call(server, "GET", "/pulls/1").json()
    assert (body["merge_commit_sha"], body["head"]["sha"], body["commits"]) == (head, head, 1)


def test_a_push_that_merges_and_deletes_the_branch_counts_as_a_merge(
    server: GitHubServer, bare: Path
) -> None:
    """Both happened before anybody looked; the commits are in the base all the same."""
    open_lane(server)
    move(bare, "main", tip(bare, "lane"))
    pygit2.Repository(str(bare)).references.delete("refs/heads/lane")
    assert [(view.state, view.merged) for view in server.pulls()] == [("closed", True)]


def test_forcing_the_head_back_onto_the_base_closes_without_merging(
    server: GitHubServer, bare: Path
) -> None:
    """Nothing is left to merge, and nothing was."""
    open_lane(server)
    move(bare, "lane", tip(bare, "main"))
    assert [(view.state, view.merged) for view in server.pulls()] == [("closed", False)]


def test_merging_one_pull_request_merges_those_it_holds(server: GitHubServer, bare: Path) -> None:
    """A lane stacked on another takes that one's commits into the base with its own."""
    add_lane(bare, "upper", {"upper.txt": "u\n"}, start="lane")
    open_lane(server)
    open_lane(server, head="upper")
    server.merge_pull(2)
    assert [view.merged for view in server.pulls()] == [True, True]


@pytest.mark.parametrize(
    ("happened", "reason"),
    [
        ("deleted", "The lane branch has been deleted."),
        ("forced", "The lane branch was force-pushed or recreated."),
        ("landed", "There are no new commits on the lane branch."),
    ],
)
def test_a_closed_pull_request_opens_again_only_with_its_branch(
    server: GitHubServer, bare: Path, happened: str, reason: str
) -> None:
    """What became of the branch while it was closed is the reason GitHub gives."""
    open_lane(server)
    server.close_pull(1)
    if happened == "deleted":
        pygit2.Repository(str(bare)).references.delete("refs/heads/lane")
    elif happened == "forced":
        move(bare, "lane", tip(bare, "main"))
    else:
        move(bare, "main", tip(bare, "lane"))
    answer = call(server, "PATCH", "/pulls/1", {"state": "open", "title": "Changed"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["message"] == f"state cannot be changed. {reason}"
    assert [(view.state, view.title) for view in server.pulls()] == [("closed", "Lane")]


def test_a_merged_pull_request_does_not_open_again(server: GitHubServer) -> None:
    """Merged is for good."""
    open_lane(server)
    server.merge_pull(1)
    answer = call(server, "PATCH", "/pulls/1", {"state": "open"})
    assert answer.json()["errors"][0]["message"].endswith("The pull request has been merged.")


def test_a_second_pull_request_of_the_same_branches_keeps_the_first_one_closed(
    server: GitHubServer,
) -> None:
    """Only one of them is open at a time."""
    open_lane(server)
    server.close_pull(1)
    open_lane(server)
    answer = call(server, "PATCH", "/pulls/1", {"state": "open"})
    assert answer.json()["errors"][0]["message"] == ("A pull request already exists for octo:lane.")


@pytest.mark.parametrize("method", ["merge", "squash"])
def test_one_into_a_merged_branch_that_is_deleted_goes_where_that_was_merged(
    server: GitHubServer, bare: Path, method: Literal["merge", "squash"]
) -> None:
    """GitHub moves it, open as it was; without a merge it is closed."""
    add_lane(bare, "child")
    commit_files(bare, {"child.txt": "1\n"}, message="Child", branch="child")
    open_lane(server)
    server.open_pull(head="child", base="lane", title="Child")
    server.merge_pull(1, method=method)
    assert call(server, "DELETE", "/git/refs/heads/lane").status_code == 204
    body = call(server, "GET", "/pulls/2").json()
    assert (body["state"], body["base"]["ref"], body["base"]["sha"]) == (
        "open",
        "main",
        tip(bare, "main"),
    )


def test_one_that_has_a_twin_there_is_closed_instead(server: GitHubServer, bare: Path) -> None:
    """Two open ones of the same branches cannot be."""
    add_lane(bare, "child")
    commit_files(bare, {"child.txt": "1\n"}, message="Child", branch="child")
    open_lane(server)
    server.open_pull(head="child", base="lane", title="Child")
    server.open_pull(head="child", base="main", title="Twin")
    server.merge_pull(1)
    assert call(server, "DELETE", "/git/refs/heads/lane").status_code == 204
    assert [(pull.base, pull.state) for pull in server.pulls()[1:]] == [
        ("lane", "closed"),
        ("main", "open"),
    ]
