"""The GitHub double's apps: whose signature it takes, what it mints, and what a token may do."""

from __future__ import annotations

import importlib
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from agentrelay.workstream.testing import GitHubServer, World, create_bare_repository
from agentrelay.workstream.testing._github_refusals import NotImplementedRouteError
from tests.integration._github_client import NAME, TOKEN, make_remote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agentrelay.workstream.testing import InstalledApp

_GRANTED = {"contents": "write", "pull_requests": "write", "issues": "read"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitHubServer]:
    """Return a started double that wants a token."""
    with GitHubServer(make_remote(tmp_path), token=TOKEN) as started:
        yield started


@pytest.fixture
def app(server: GitHubServer) -> InstalledApp:
    """Return an app that is installed on the double's repository."""
    return server.apps.install([NAME], _GRANTED)


def _signed(app: InstalledApp, **claims: Any) -> str:
    """Return a JSON web token, right but for the claims that are given."""
    now = int(time.time())
    said = {"iat": now - 60, "exp": now + 500, "iss": str(app.app_id), **claims}
    # What PyJWT would not sign: the double has to refuse it all the same.
    return jwt.PyJWS().encode(json.dumps(said).encode(), app.private_key, algorithm="RS256")


def _ask(
    server: GitHubServer,
    credential: str,
    path: str,
    body: Any = None,
    *,
    method: str | None = None,
    scheme: str = "Bearer",
) -> requests.Response:
    """Send a request, POST where there is a body, and return the answer."""
    return requests.request(
        method or ("GET" if body is None else "POST"),
        server.api_url + path,
        json=body,
        headers={"Authorization": f"{scheme} {credential}"},
        timeout=60,
        allow_redirects=False,
    )


def _mint(server: GitHubServer, app: InstalledApp, **fields: Any) -> requests.Response:
    body = {"repositories": ["widgets"], "permissions": {"contents": "read"}, **fields}
    path = f"/app/installations/{app.installation_id}/access_tokens"
    return _ask(server, _signed(app), path, body)


def _token(server: GitHubServer, app: InstalledApp, **permissions: str) -> str:
    answer = _mint(server, app, permissions=permissions)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def _said(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["message"]


# -- the app itself


def test_answers_about_apps_are_those_of_githubs_schema(
    server: GitHubServer, app: InstalledApp
) -> None:
    """The models generated from GitHub's own description read them."""
    models = importlib.import_module("githubkit_schemas.v2022_11_28.models")
    token = _signed(app)
    models.Integration.model_validate(_ask(server, token, "/app").json())
    for suspend in (False, True):
        if suspend:
            server.apps.suspend(app)
        installation = _ask(server, token, f"/repos/{NAME}/installation").json()
        models.Installation.model_validate(installation)
        assert installation["id"] == app.installation_id
        assert (installation["suspended_at"] is not None) is suspend
    server.apps.unsuspend(app)
    models.InstallationToken.model_validate(_mint(server, app).json())


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"iat": 120}, "'Issued at' claim ('iat') must be an Integer"),
        ({"iat": "0"}, "'Issued at' claim ('iat') must be an Integer"),
        ({"exp": -1}, "'Expiration time' claim ('exp') must be a numeric"),
        ({"exp": None}, "'Expiration time' claim ('exp') must be a numeric"),
        ({"exp": 700}, "'Expiration time' claim ('exp') is too far"),
        ({"iat": -300}, "'Expiration time' claim ('exp') is too far"),
    ],
)
def test_a_signature_has_its_time(
    server: GitHubServer, app: InstalledApp, claims: dict[str, Any], message: str
) -> None:
    """Not from the future, not over, and for ten minutes at most, in GitHub's words."""
    now = int(time.time())
    claims = {name: now + at if isinstance(at, int) else at for name, at in claims.items()}
    status, said = _said(_ask(server, _signed(app, **claims), "/app"))
    assert (status, said[: len(message)]) == (401, message)


def test_the_doubles_clock_decides(server: GitHubServer, app: InstalledApp) -> None:
    """It is in the answer's Date, once, so that a client can find out."""
    server.apps.clock_ahead_s = 3600.0
    answer = _ask(server, _signed(app), "/app")
    assert answer.status_code == 401
    assert "," not in answer.headers["date"].partition(",")[2]
    ahead = int(time.time()) + 3600
    assert _ask(server, _signed(app, iat=ahead - 60, exp=ahead + 500), "/app").status_code == 200


def test_a_signature_is_checked(server: GitHubServer, app: InstalledApp) -> None:
    """Another key, another algorithm, no signature, no token at all, or the wrong scheme."""
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claims = {"iat": int(time.time()) - 60, "exp": int(time.time()) + 60, "iss": str(app.app_id)}
    head, body, signature = _signed(app).split(".")
    for credential in (
        jwt.encode(claims, other, algorithm="RS256"),
        jwt.encode(claims, "k" * 32, algorithm="HS256"),
        f"{head}.{body}.",
        f"{head}.{body}.é",
        f"{head}.{signature}.{body}",
        "no-token",
        TOKEN,
    ):
        answer = _ask(server, credential.encode("latin-1").decode("latin-1"), "/app")
        assert _said(answer) == (401, "A JSON web token could not be decoded")
    assert _ask(server, _signed(app), "/app", scheme="token").status_code == 401
    for iss in ("1", app.app_id, None):
        assert _said(_ask(server, _signed(app, iss=iss), "/app")) == (404, "Integration not found")
    assert _ask(server, _signed(app, iss=app.client_id), "/app").status_code == 200
    assert requests.get(f"{server.api_url}/app", timeout=60).status_code == 401


def test_a_signature_opens_nothing_else(server: GitHubServer, app: InstalledApp) -> None:
    """An app that wants to do something needs a token."""
    assert _said(_ask(server, _signed(app), f"/repos/{NAME}")) == (401, "Bad credentials")


# -- tokens


def test_nobody_gets_more_than_was_granted(server: GitHubServer, app: InstalledApp) -> None:
    """Neither repositories nor permissions nor levels; no such installation is a 404."""
    for fields, message in (
        ({"repositories": ["other"]}, "There is at least one repository that does not exist"),
        ({"repositories": ["widgets", "x"]}, "There is at least one repository"),
        ({"permissions": {"issues": "write"}}, "The permissions requested are not granted"),
        ({"permissions": {"workflows": "read"}}, "The permissions requested are not granted"),
        ({"permissions": {"contents": "admin"}}, "The permissions requested are not granted"),
    ):
        status, said = _said(_mint(server, app, **fields))
        assert (status, said[: len(message)]) == (422, message)
    other = f"/app/installations/{app.installation_id + 1}/access_tokens"
    assert _ask(server, _signed(app), other, {}).status_code == 404
    assert server.apps.minted == 0


def test_an_app_is_installed_on_what_there_is(server: GitHubServer) -> None:
    """A test that names something else is mistaken."""
    for repositories, permissions in (
        (["octo/none"], {"contents": "read"}),
        ([NAME], {"contents": "admin"}),
    ):
        with pytest.raises(ValueError, match="hosted repositories"):
            server.apps.install(repositories, permissions)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/app", {}),
        ("GET", "/app?page=2", None),
        ("POST", "/app/installations/50001/access_tokens", {"permissions": {}}),
        ("POST", "/app/installations/50001/access_tokens", []),
    ],
)
def test_what_the_double_does_not_know_about_apps_fails_the_test(
    tmp_path: Path, method: str, path: str, body: Any
) -> None:
    """A token for everything, above all: nobody here may ask for that."""
    server = GitHubServer(make_remote(tmp_path), token=TOKEN).start()
    app = server.apps.install([NAME], _GRANTED)
    assert _ask(server, _signed(app), path, body, method=method).status_code == 404
    with pytest.raises(NotImplementedRouteError):
        server.close()


def test_a_body_must_be_json_and_say_so(server: GitHubServer, app: InstalledApp) -> None:
    """As everywhere in the double."""
    url = f"{server.api_url}/app/installations/{app.installation_id}/access_tokens"
    for data, kind, status in (("{", "application/json", 400), ("{}", "text/plain", 415)):
        headers = {"Authorization": f"Bearer {_signed(app)}", "Content-Type": kind}
        assert requests.post(url, data=data, headers=headers, timeout=60).status_code == status


@pytest.mark.parametrize(
    ("permissions", "method", "path", "status"),
    [
        ({}, "GET", f"/repos/{NAME}", 200),
        ({}, "GET", "/repositories/1000", 200),
        ({}, "GET", "/rate_limit", 200),
        ({}, "GET", "/user", 403),
        ({}, "GET", f"/repos/{NAME}/pulls", 403),
        ({}, "GET", f"/repos/{NAME}/branches/main", 403),
        ({"contents": "read"}, "GET", f"/repos/{NAME}/branches/main", 200),
        ({"contents": "read"}, "DELETE", f"/repos/{NAME}/git/refs/heads/lane", 403),
        ({"contents": "write"}, "DELETE", f"/repos/{NAME}/git/refs/heads/lane", 204),
        ({"pull_requests": "read"}, "GET", f"/repos/{NAME}/pulls", 200),
        ({"pull_requests": "read"}, "POST", f"/repos/{NAME}/pulls", 403),
        ({"pull_requests": "write"}, "POST", f"/repos/{NAME}/pulls", 201),
        ({"pull_requests": "write"}, "PUT", f"/repos/{NAME}/pulls/1/merge", 403),
    ],
)
def test_a_token_may_do_what_it_was_minted_for(  # noqa: PLR0917 - a row of the table
    server: GitHubServer,
    app: InstalledApp,
    permissions: dict[str, str],
    method: str,
    path: str,
    status: int,
) -> None:
    """Everything else is "Resource not accessible by integration"."""
    token = _token(server, app, **permissions)
    body = {"title": "Lane", "head": "lane", "base": "main"} if method == "POST" else None
    answer = _ask(server, token, path, body, method=method)
    assert answer.status_code == status, answer.text
    if status == 403:
        assert _said(answer) == (403, "Resource not accessible by integration")


def test_a_token_sees_its_own_repository_only(
    server: GitHubServer, app: InstalledApp, tmp_path: Path
) -> None:
    """Another one is not found, and one that was renamed is still its own."""
    server.add_repository("octo/other", create_bare_repository(tmp_path / "other.git"))
    token = _token(server, app, contents="read")
    assert _said(_ask(server, token, "/repos/octo/other")) == (404, "Not Found")
    assert _ask(server, token, "/repos/octo/none").status_code == 404
    assert _ask(server, _signed(app), "/repos/octo/other/installation").status_code == 404
    assert _ask(server, _signed(app), "/repos/octo/none/installation").status_code == 404
    server.rename_repository(NAME, "octo/gadgets")
    assert _ask(server, token, "/repos/octo/gadgets").status_code == 200
    moved = _ask(server, _signed(app), f"/repos/{NAME}/installation")
    assert moved.status_code == 301
    assert moved.headers["location"].endswith("/repositories/1000/installation")


def test_a_token_ends(server: GitHubServer, app: InstalledApp) -> None:
    """By its time, by revocation, and while the installation is suspended."""
    path = f"/repos/{NAME}"
    token = _token(server, app)
    assert _ask(server, token, path, scheme="token").status_code == 200
    assert _ask(server, token, path, scheme="Basic").status_code == 401
    server.apps.suspend(app)
    assert _said(_ask(server, token, path)) == (401, "Bad credentials")
    assert _said(_mint(server, app)) == (403, "This installation has been suspended")
    server.apps.unsuspend(app)
    assert _ask(server, token, path).status_code == 200
    server.apps.clock_ahead_s = 3600.0
    assert _ask(server, token, path).status_code == 401
    server.apps.clock_ahead_s = 0.0
    server.apps.revoke_tokens()
    assert _ask(server, token, path).status_code == 401


def test_a_permission_nobody_knows_of_fails_the_test(tmp_path: Path) -> None:
    """A new route has to say what it takes."""
    server = GitHubServer(make_remote(tmp_path), token=TOKEN).start()
    app = server.apps.install([NAME], _GRANTED)
    assert _ask(server, _token(server, app), f"/repos/{NAME}/hooks").status_code == 404
    with pytest.raises(NotImplementedRouteError, match="which permission"):
        server.close()


def test_where_anybody_may_ask_an_app_still_signs(tmp_path: Path) -> None:
    """A double without a token checks no tokens, but mints none for strangers either."""
    with GitHubServer(make_remote(tmp_path)) as server:
        app = server.apps.install([NAME], _GRANTED)
        assert requests.get(f"{server.api_url}/app", timeout=60).status_code == 401
        assert _mint(server, app).status_code == 201


def test_the_git_server_of_a_world_takes_the_same_tokens() -> None:
    """To read or to write, for the repository they are for."""
    with World() as world:
        create_bare_repository(world.root / "remotes" / "octo" / "other.git")
        app = world.github.apps.install([world.full_name], _GRANTED)
        tokens = {
            "write": _token(world.github, app, contents="write"),
            "read": _token(world.github, app, contents="read"),
            "none": _token(world.github, app, issues="read"),
            "unknown": "ghs_unknown",
        }
        for name, service, status in (
            ("write", "git-receive-pack", 200),
            ("read", "git-upload-pack", 200),
            ("read", "git-receive-pack", 403),
            ("none", "git-upload-pack", 403),
            ("unknown", "git-upload-pack", 401),
        ):
            url = f"{world.remote_url}/info/refs?service={service}"
            answer = requests.get(url, auth=("x-access-token", tokens[name]), timeout=60)
            assert answer.status_code == status, (name, service)
        # A request for a pack is judged like one for the list of refs.
        answer = requests.post(
            f"{world.remote_url}/git-receive-pack",
            auth=("x-access-token", tokens["read"]),
            timeout=60,
        )
        assert answer.status_code == 403
        url = world.git.repository_url("octo/other.git") + "/info/refs?service=git-upload-pack"
        for user, status in (("x-access-token", 404), ("octocat", 401)):
            answer = requests.get(url, auth=(user, tokens["write"]), timeout=60)
            assert answer.status_code == status
