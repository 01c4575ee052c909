"""The GitHub double's settings: what a repository allows, and what a token is said to be."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import requests

from agentrelay.workstream.testing.github_server import GitHubServer
from tests.integration._github_client import NAME, TOKEN, call, make_remote, open_lane

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitHubServer]:
    """Return a started double that wants a token."""
    with GitHubServer(make_remote(tmp_path), token=TOKEN) as started:
        yield started


def test_settings_show_in_bodies_that_fit_githubs_schema(server: GitHubServer) -> None:
    """Whatever is set, GitHub's own models read the answers."""
    models = importlib.import_module("githubkit_schemas.v2022_11_28.models")
    settings = server.settings
    settings.may_push, settings.is_private = False, True
    settings.is_archived = settings.is_disabled = True
    settings.merge_methods = {"squash"}
    settings.protected_branches = {"main"}
    body = call(server, "GET", "").json()
    models.FullRepository.model_validate(body)
    assert body["permissions"] == {"admin": False, "push": False, "pull": True}
    assert (body["private"], body["archived"], body["disabled"]) == (True, True, True)
    methods = [body[f"allow_{name}"] for name in ("merge_commit", "squash_merge", "rebase_merge")]
    assert methods == [False, True, False]
    for name, expected in (("main", True), ("lane", False)):
        branch = call(server, "GET", f"/branches/{name}").json()
        models.BranchWithProtection.model_validate(branch)
        assert branch["protected"] is branch["protection"]["enabled"] is expected


def test_an_archived_repository_is_read_only(server: GitHubServer) -> None:
    """Reading goes on; every write is refused in GitHub's words."""
    open_lane(server)
    server.settings.is_archived = True
    refused = call(server, "PATCH", "/pulls/1", {"title": "New"})
    assert refused.status_code == 403
    assert refused.json()["message"] == "Repository was archived so is read-only."
    assert call(server, "GET", "/pulls/1").json()["title"] == "Lane"


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("merge", "Merge commits are not allowed on this repository."),
        ("squash", "Squash merges are not allowed on this repository."),
        ("rebase", "Rebase merges are not allowed on this repository."),
    ],
)
def test_a_way_of_merging_that_is_switched_off_is_refused(
    server: GitHubServer, method: str, message: str
) -> None:
    """405, and the pull request stays open."""
    open_lane(server)
    server.settings.merge_methods.discard(method)
    refused = call(server, "PUT", "/pulls/1/merge", {"merge_method": method})
    assert (refused.status_code, refused.json()["message"]) == (405, message)
    assert server.pulls()[0].state == "open"


def test_a_tokens_scopes_and_its_end_are_in_the_headers_of_its_own_answers(
    server: GitHubServer,
) -> None:
    """Nothing is said before it is set, nor of a token of an app, which has neither."""
    names = ("x-oauth-scopes", "github-authentication-token-expiration")
    assert [call(server, "GET", "").headers.get(name) for name in names] == [None, None]
    server.token_traits.scopes = ("repo", "read:org")
    server.token_traits.expires_at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    said = [call(server, "GET", "").headers.get(name) for name in names]
    assert said == ["repo, read:org", "2026-01-02 03:04:05 UTC"]


def _permissions(server: GitHubServer, **headers: str) -> Any:
    answer = requests.get(f"{server.api_url}/repos/{NAME}", headers=headers, timeout=60)
    assert not {"x-oauth-scopes", "github-authentication-token-expiration"} & set(answer.headers)
    return answer.json().get("permissions")


def test_a_role_is_told_to_users_only(tmp_path: Path) -> None:
    """Nobody is told nothing; a token of an app has no role, and gets no for an answer."""
    from agentrelay.workstream.testing import World

    with World(tmp_path, token=None) as world:
        world.github.token_traits.scopes = ("repo",)
        token = world.github_app().token_for("127.0.0.1", "/octo/widgets.git").reveal()
        assert _permissions(world.github) is None
        as_app = _permissions(world.github, Authorization=f"Bearer {token}")
    assert as_app == {"admin": False, "push": False, "pull": False}
