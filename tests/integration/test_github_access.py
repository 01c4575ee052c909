"""Who may ask the GitHub double, how, how often, and under which names."""

from __future__ import annotations

import http.client
import importlib
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import requests

from agentrelay.workstream.testing.github_server import GitHubServer
from agentrelay.workstream.testing.repositories import create_bare_repository
from tests.integration._github_client import (
    NAME,
    TOKEN,
    add_lane,
    call,
    client,
    make_remote,
    open_lane,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from github.PullRequest import PullRequest
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


# -- who may ask, and how


def test_nobody_is_nobody_even_where_anybody_may_ask(bare: Path) -> None:
    """Without a token to check, only the question who one is needs a credential."""
    with GitHubServer(bare) as server:
        assert requests.get(f"{server.api_url}/repos/{NAME}", timeout=60).status_code == 200
        answer = requests.get(f"{server.api_url}/user", timeout=60)
        assert (answer.status_code, answer.json()["message"]) == (401, "Requires authentication")


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        (None, "Requires authentication"),
        ("Bearer wrong", "Bad credentials"),
        (f"Basic {TOKEN}", "Bad credentials"),
    ],
)
def test_without_the_token_nothing_is_answered(
    server: GitHubServer, authorization: str | None, message: str
) -> None:
    """401 says whether a credential was missing or wrong."""
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = requests.get(f"{server.api_url}/repos/{NAME}", headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["message"]) == (401, message)


def test_the_log_knows_how_a_client_authenticated_and_not_with_what(
    server: GitHubServer, repo: Repository
) -> None:
    """Neither the log nor the double's own text holds the token."""
    repo.get_branch("main")
    (logged,) = server.requests
    assert logged.headers["authorization"] == "token"
    assert (logged.method, logged.status) == ("GET", 200)
    assert logged.path == f"/api/v3/repos/{NAME}/branches/main"
    assert TOKEN not in f"{server.requests!r}{server!r}{vars(server)['_first']!r}"


def test_a_request_without_a_user_agent_is_forbidden(server: GitHubServer) -> None:
    """GitHub's proxy turns it away with a page, before any token is looked at."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with closing(connection):
        connection.request("GET", "/rate_limit")
        answer = connection.getresponse()
        assert answer.status == 403
        assert b"User-Agent header" in answer.read()


def test_a_body_must_say_that_it_is_json(server: GitHubServer) -> None:
    """The double is stricter here than GitHub."""
    url = f"{server.api_url}/repos/{NAME}/pulls"
    headers = {"Authorization": f"token {TOKEN}"}
    assert requests.post(url, data="{}", headers=headers, timeout=60).status_code == 415


def test_the_api_version_is_echoed_and_an_unknown_one_refused(server: GitHubServer) -> None:
    """A client that pins a version learns whether it got it."""
    answer = call(server, "GET", "", X_GitHub_Api_Version="2022-11-28")
    assert answer.headers["x-github-api-version-selected"] == "2022-11-28"
    refused = call(server, "GET", "", X_GitHub_Api_Version="v3")
    assert refused.status_code == 400
    assert '"v3", is not a supported version' in refused.json()["errors"]


def test_an_unchanged_answer_costs_nothing(server: GitHubServer) -> None:
    """304 has no body and leaves the quota alone; a change brings the whole answer back."""
    open_lane(server)
    call(server, "GET", "/pulls/1")
    first = call(server, "GET", "/pulls/1")
    again = call(server, "GET", "/pulls/1", If_None_Match=first.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["x-ratelimit-used"] == first.headers["x-ratelimit-used"]
    server.merge_pull(1)
    assert call(server, "GET", "/pulls/1", If_None_Match=first.headers["etag"]).json()["merged"]


def test_pygithubs_update_notices_a_change_and_the_lack_of_one(
    repo: Repository, server: GitHubServer
) -> None:
    """``update()`` is built on the entity tag of the answer before."""
    repo.create_pull(base="main", head="lane", title="Lane")
    repo.get_pull(1).complete()
    pull: PullRequest = repo.get_pull(1).complete()
    assert not pull.update()
    server.close_pull(1)
    assert pull.update()
    assert pull.state == "closed"


def test_a_used_up_quota_refuses_everything_but_the_question_about_it(
    bare: Path, models: ModuleType
) -> None:
    """The headers count down, then comes GitHub's primary limit."""
    with GitHubServer(bare, rate_limit=1) as server:
        assert call(server, "GET", "").headers["x-ratelimit-remaining"] == "0"
        refused = call(server, "GET", "")
        assert refused.status_code == 403
        assert "API rate limit exceeded" in refused.json()["message"]
        asked = call(server, "GET", f"{server.url}/rate_limit")
        assert asked.json()["rate"]["remaining"] == 0
        models.RateLimitOverview.model_validate(asked.json())


# -- names


def test_a_renamed_repository_redirects_reading_and_writing_differently(
    server: GitHubServer,
) -> None:
    """301 and 307 to the repository's id, with the rest of the path and the query."""
    open_lane(server)
    server.rename_repository(NAME, "octo/gadgets")
    read = call(server, "GET", "/pulls?state=all&head=octo:lane")
    assert read.status_code == 301
    assert read.headers["location"] == (
        f"{server.api_url}/repositories/1000/pulls?state=all&head=octo:lane"
    )
    assert read.json()["message"] == "Moved Permanently"
    written = call(server, "PATCH", "/pulls/1", {"title": "New"})
    assert written.status_code == 307
    followed = call(server, "PATCH", written.headers["location"], {"title": "New"})
    assert followed.json()["html_url"] == f"{server.web_url}/octo/gadgets/pull/1"
    assert server.pulls("octo/gadgets")[0].title == "New"


def test_pygithub_finds_the_new_name_and_goes_on_with_it(server: GitHubServer) -> None:
    """Asking for the repository follows the redirect and tells its present name."""
    server.rename_repository(NAME, "octo/gadgets")
    with closing(client(server)) as hub:
        name = hub.get_repo(NAME).complete().full_name
        assert name == "octo/gadgets"
        moved = hub.get_repo(name)
        assert moved.create_pull(base="main", head="lane", title="Lane").number == 1


def test_several_repositories_count_on_their_own(server: GitHubServer, tmp_path: Path) -> None:
    """Numbers and branches belong to a repository; a name is taken once."""
    other = create_bare_repository(tmp_path / "other.git")
    add_lane(other, "topic", {"topic.txt": "t\n"})
    server.add_repository("octo/other", other, first_number=40)
    open_lane(server)
    opened = server.open_pull(head="topic", base="main", title="Topic", full_name="octo/other")
    assert opened.number == 40
    assert [view.number for view in server.pulls()] == [1]
    assert server.close_pull(40, full_name="octo/other").state == "closed"
    with pytest.raises(ValueError, match="hosted already"):
        server.add_repository("OCTO/Other", other)
    with pytest.raises(ValueError, match="not hosted here"):
        server.pulls("octo/none")
    with pytest.raises(ValueError, match="not hosted here"):
        server.rename_repository("octo/none", "octo/some")


def test_a_path_without_a_repository_is_refused_where_it_is_named(tmp_path: Path) -> None:
    """A typing error shows at once and not as a failing request."""
    with pytest.raises(ValueError, match="no repository at"):
        GitHubServer(tmp_path / "nowhere")


def test_the_api_answers_at_the_root_too(server: GitHubServer) -> None:
    """As api.github.com does; addresses in the answer then have no prefix either."""
    answer = call(server, "GET", f"{server.url}/repos/OCTO/Widgets")
    assert answer.json()["url"] == f"{server.url}/repos/{NAME}"


def test_addresses_of_pages_can_be_another_servers(bare: Path) -> None:
    """A suite that serves git elsewhere can have pull requests live there."""
    with GitHubServer(bare, web_url="https://example.invalid") as server:
        view = server.open_pull(head="lane", base="main", title="Lane")
        assert view.html_url == f"https://example.invalid/{NAME}/pull/1"


def test_everything_happens_at_the_time_the_test_says(server: GitHubServer) -> None:
    """The clock stands still until it is set."""
    open_lane(server)
    server.now = datetime(2030, 1, 1, tzinfo=UTC)
    server.merge_pull(1)
    body = call(server, "GET", "/pulls/1").json()
    assert (body["created_at"], body["merged_at"]) == (
        "2024-01-02T03:04:05Z",
        "2030-01-01T00:00:00Z",
    )
