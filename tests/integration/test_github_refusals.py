"""What the GitHub double refuses, and in which words."""

from __future__ import annotations

import importlib
from contextlib import closing
from typing import TYPE_CHECKING

import github
import pygit2
import pytest
import requests

from agentrelay.workstream.testing.github_server import GitHubServer
from tests.integration._github_client import (
    NAME,
    TOKEN,
    add_lane,
    add_root,
    call,
    client,
    make_remote,
    open_lane,
    tip,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from github.Repository import Repository


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
def repo(server: GitHubServer) -> Iterator[Repository]:
    """Return PyGithub's view of the repository."""
    with closing(client(server)) as hub:
        yield hub.get_repo(NAME)


@pytest.fixture(scope="session")
def models() -> ModuleType:
    """Return the models generated from GitHub's description of its API; slow to import."""
    return importlib.import_module("githubkit_schemas.v2022_11_28.models")


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        (
            {"head": "missing"},
            [{"resource": "PullRequest", "field": "head", "code": "invalid"}],
        ),
        (
            {"head": "somebody:lane"},
            [{"resource": "PullRequest", "field": "head", "code": "invalid"}],
        ),
        (
            {"base": "no..name"},
            [{"resource": "PullRequest", "field": "base", "code": "invalid"}],
        ),
        (
            {"head": "main"},
            [
                {
                    "resource": "PullRequest",
                    "code": "custom",
                    "message": "No commits between main and main",
                }
            ],
        ),
        (
            {"head": "root"},
            [
                {
                    "resource": "PullRequest",
                    "code": "custom",
                    "message": "The root branch has no history in common with main",
                }
            ],
        ),
        (
            {"title": " "},
            [{"resource": "Issue", "code": "missing_field", "field": "title"}],
        ),
        (
            {"title": "t" * 257},
            [
                {
                    "resource": "Issue",
                    "code": "custom",
                    "field": "title",
                    "message": "title is too long (maximum is 256 characters)",
                }
            ],
        ),
        (
            {"body": "\N{PARTY POPPER}" * 32769},
            [
                {
                    "resource": "Issue",
                    "code": "custom",
                    "field": "body",
                    "message": "body is too long (maximum is 65536 characters)",
                }
            ],
        ),
    ],
    ids=["no head", "fork", "no base", "same", "unrelated", "no title", "long title", "long body"],
)
def test_a_pull_request_that_cannot_be_is_refused_in_githubs_words(
    server: GitHubServer,
    bare: Path,
    models: ModuleType,
    fields: dict[str, str],
    errors: list[dict[str, str]],
) -> None:
    """422 with GitHub's errors, and nothing is opened."""
    add_root(bare)
    answer = call(
        server, "POST", "/pulls", {"title": "T", "head": "lane", "base": "main", **fields}
    )
    assert answer.status_code == 422
    assert answer.json()["message"] == "Validation Failed"
    assert answer.json()["errors"] == errors
    models.ValidationError.model_validate(answer.json())
    assert server.pulls() == []


def test_a_body_as_long_as_github_allows_is_taken(server: GitHubServer) -> None:
    """The limit itself is inside."""
    open_lane(server, body="b" * 65536)
    assert len(server.pulls()[0].body or "") == 65536


def test_a_second_pull_request_for_the_same_branches_is_a_duplicate(repo: Repository) -> None:
    """GitHub names the owner and the branch."""
    repo.create_pull(base="main", head="lane", title="Lane")
    with pytest.raises(github.GithubException) as caught:
        repo.create_pull(base="main", head="octo:lane", title="Again")
    assert caught.value.status == 422
    assert caught.value.data["errors"] == [
        {
            "resource": "PullRequest",
            "code": "custom",
            "message": "A pull request already exists for octo:lane.",
        }
    ]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("{}", 422, 'Invalid request.\n\n"base", "head" weren\'t supplied.'),
        ('{"head": "lane"}', 422, 'Invalid request.\n\n"base" wasn\'t supplied.'),
        ("[]", 400, "Body should be a JSON object"),
        ("{", 400, "Problems parsing JSON"),
        (
            '{"head": 1, "base": "main"}',
            422,
            "Invalid request.\n\nFor 'properties/head', 1 is not a string.",
        ),
    ],
)
def test_a_request_of_the_wrong_shape_is_refused_before_it_is_understood(
    server: GitHubServer, body: str, status: int, message: str
) -> None:
    """Missing keys, wrong types and bytes that are no JSON have answers of their own."""
    answer = requests.post(
        f"{server.api_url}/repos/{NAME}/pulls",
        data=body,
        headers={"Authorization": f"token {TOKEN}", "Content-Type": "application/json"},
        timeout=60,
    )
    assert (answer.status_code, answer.json()["message"]) == (status, message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base": "missing"}, "base invalid"),
        ({"base": "lane"}, "There are no new commits between base branch 'lane'"),
        ({"base": "other"}, "A pull request already exists for base branch 'other'"),
        ({"state": "merged"}, "'merged' is not a member of"),
    ],
)
def test_an_edit_github_refuses_changes_nothing(
    server: GitHubServer, bare: Path, fields: dict[str, str], message: str
) -> None:
    """One wrong field spoils the whole request."""
    add_lane(bare, "other")
    open_lane(server)
    open_lane(server, base="other")
    answer = call(server, "PATCH", "/pulls/1", {"title": "Changed", **fields})
    assert answer.status_code == 422
    details = answer.json().get("errors", [{}])[0]
    text = details.get("message") or f"{details.get('field')} {details.get('code')}"
    assert message in f"{text} {answer.json()['message']}"
    assert server.pulls()[0].title == "Lane"


def test_a_pull_request_moves_to_another_base_only_while_it_is_open(
    server: GitHubServer, bare: Path
) -> None:
    """The base of a closed one is history."""
    add_lane(bare, "other")
    open_lane(server)
    assert call(server, "PATCH", "/pulls/1", {"base": "other"}).json()["base"]["ref"] == "other"
    server.close_pull(1)
    answer = call(server, "PATCH", "/pulls/1", {"base": "main"})
    assert answer.json()["errors"][0]["message"] == (
        "Cannot change the base branch of a closed pull request."
    )


def test_a_merge_of_a_head_that_moved_is_refused(server: GitHubServer, bare: Path) -> None:
    """409: the commit that was reviewed is not the one that would be merged."""
    before = tip(bare, "main")
    open_lane(server)
    answer = call(server, "PUT", "/pulls/1/merge", {"sha": before})
    assert answer.status_code == 409
    assert answer.json()["message"] == "Head branch was modified. Review and try the merge again."
    assert tip(bare, "main") == before


@pytest.mark.parametrize("state", ["closed", "merged", "draft"])
def test_a_pull_request_that_is_not_open_and_ready_is_not_merged(
    server: GitHubServer, state: str
) -> None:
    """405, whatever the reason."""
    body = {"title": "T", "head": "lane", "base": "main", "draft": state == "draft"}
    call(server, "POST", "/pulls", body)
    if state == "closed":
        server.close_pull(1)
    elif state == "merged":
        server.merge_pull(1)
    answer = call(server, "PUT", "/pulls/1/merge")
    assert answer.status_code == 405
    expected = "Pull Request is still a draft" if state == "draft" else "is not mergeable"
    assert expected in answer.json()["message"]


def test_whether_a_pull_request_is_merged_is_answered_by_status_alone(
    server: GitHubServer,
) -> None:
    """404 before, 204 without a body after."""
    open_lane(server)
    before = call(server, "GET", "/pulls/1/merge")
    assert (before.status_code, before.json()["message"]) == (404, "Not Found")
    server.merge_pull(1)
    after = call(server, "GET", "/pulls/1/merge")
    assert (after.status_code, after.content) == (204, b"")


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/pulls/7", 404, "Not Found"),
        ("/git/ref/heads/missing", 404, "Not Found"),
        ("/branches/missing", 404, "Branch not found"),
        ("/commits/missing", 422, "No commit found for SHA: missing"),
        ("/compare/main...root", 404, "Not Found"),
        (f"/commits/{'0' * 40}", 422, f"No commit found for SHA: {'0' * 40}"),
        ("/compare/main...missing", 404, "Not Found"),
    ],
)
def test_what_is_not_there_is_refused_in_the_words_of_its_route(
    server: GitHubServer, bare: Path, path: str, status: int, message: str
) -> None:
    """GitHub has several ways to say no."""
    add_root(bare)
    answer = call(server, "GET", path)
    assert (answer.status_code, answer.json()["message"]) == (status, message)


def test_deleting_a_branch_twice_is_refused_the_second_time(
    server: GitHubServer, bare: Path
) -> None:
    """422, not 404: clients that treat it as done must know this one."""
    assert call(server, "DELETE", "/git/refs/heads/lane").status_code == 204
    answer = call(server, "DELETE", "/git/refs/heads/lane")
    assert (answer.status_code, answer.json()["message"]) == (422, "Reference does not exist")
    assert "refs/heads/lane" not in pygit2.Repository(str(bare)).references


def test_a_repository_nobody_hosts_is_not_found(server: GitHubServer) -> None:
    """GitHub says the same of one the token may not see."""
    answer = call(server, "GET", f"{server.api_url}/repos/octo/none")
    assert (answer.status_code, answer.json()["message"]) == (404, "Not Found")
