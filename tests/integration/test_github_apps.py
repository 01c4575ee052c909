"""A GitHub App drives lanes: minted once, renewed in time, refused clearly, shown nowhere."""

from __future__ import annotations

import functools
import io
import logging
import re
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pygit2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agentrelay.workstream import (
    CredentialsRejectedError,
    GitHubApp,
    PullRequestError,
    RateLimitedError,
    RemoteUnavailableError,
    RetryPolicy,
    WorkstreamRuntime,
    WorkstreamSpec,
)
from agentrelay.workstream._github.address import parse_address
from agentrelay.workstream._github.client import GitHubClient
from agentrelay.workstream._policy import lend_time
from agentrelay.workstream.testing import Fault, World, commit_files
from tests.integration._clock import StillClock
from tests.integration._command_line import lanes_of, on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAME = "octo/widgets"
_MINT = "/access_tokens"
_REAL_LOAD = serialization.load_pem_private_key


class _Clock:
    """A clock that stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@functools.cache
def _load(data: bytes, password: None) -> Any:
    return _REAL_LOAD(data, password)


@pytest.fixture(autouse=True)
def a_key_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remember keys: OpenSSL's checks of one take 30 ms, and here it is always the same."""
    monkeypatch.setattr(serialization, "load_pem_private_key", _load)


@pytest.fixture
def world() -> Iterator[World]:
    """Return a world whose servers ask for a token."""
    with World() as made:
        yield made


def _token(world: World, app: GitHubApp) -> str:
    """Ask the app for a token as git does, with the host and path of the remote."""
    host = world.remote_url.split("/")[2]
    return app.token_for(host, f"/{_NAME}.git").reveal()


def _mintings(world: World) -> list[int]:
    """Return the statuses of all requests for a token."""
    return [request.status for request in world.github.requests if request.path.endswith(_MINT)]


def _whole_life(world: World, app: Any, repo: Path, name: str = "parser") -> WorkstreamRuntime:
    """Drive a lane from prepare to teardown with an app's tokens alone."""
    runner = world.runner(repo, token=app)
    lane = WorkstreamRuntime(WorkstreamSpec(name))
    runner.prepare(lane)
    assert lane.state.worktree_path is not None
    commit_files(lane.state.worktree_path, {f"{name}.py": "x = 1\n"}, message="Work")
    assert runner.integrate(lane).error is None
    world.github.merge_pull(len(world.github.pulls()))
    lane.mark_merged()
    runner.teardown(lane)
    return lane


def _secrets(world: World) -> list[str]:
    """Return every token the double gave out, and a line of the key of each kind."""
    apps = world.github.apps
    key = next(iter(apps._installations.values())).app.private_key.splitlines()
    return [*apps._tokens, key[1], key[-2], "eyJ"]


# --- what works -------------------------------------------------------------------------


def test_one_token_serves_git_and_the_api_for_a_whole_lane(world: World) -> None:
    """Two requests in all are made as the app, and nothing else than its token is used."""
    lane = _whole_life(world, world.github_app(), world.clone())
    assert lane.artifacts.concerns == []
    assert [pull.merged for pull in world.github.pulls()] == [True]
    asked = [request.path.rpartition("/")[2] for request in world.github.requests]
    assert asked[:2] == ["installation", "access_tokens"]
    assert _mintings(world) == [201]
    schemes = {request.headers.get("authorization") for request in world.git.requests}
    assert schemes == {None, "Basic"}


def test_a_user_in_the_remotes_address_does_not_stand_beside_a_minted_token(
    world: World,
) -> None:
    """GitHub takes an app's token with one user name only, and the address has another."""
    repo = world.clone()
    config = pygit2.Repository(str(repo)).config
    config["remote.origin.url"] = world.remote_url.replace("://", "://alice@")
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    world.runner(repo, token=world.github_app()).prepare(lane)
    assert lane.status.value == "active"


def test_a_token_is_for_one_repository_with_the_least_permissions(world: World) -> None:
    """The request names both, and what a lane needs is all that is asked for."""
    granted = {
        "contents": "write",
        "pull_requests": "write",
        "workflows": "write",
        "issues": "write",
    }
    app = world.github_app(permissions=granted, installation_id=50001)
    _token(world, app)
    (request,) = [each for each in world.github.requests if each.method == "POST"]
    assert request.body == (
        b'{"repositories": ["widgets"], "permissions": '
        b'{"contents": "write", "metadata": "read", "pull_requests": "write"}}'
    )
    # The installation was given, so nobody was asked for it.
    assert len(world.github.requests) == 1
    app = world.github_app(permissions=granted, extra_permissions={"workflows": "write"})
    _token(world, app)
    assert b'"workflows": "write"' in world.github.requests[-1].body


@pytest.mark.parametrize("ident", ["client_id", "text"])
def test_a_client_id_or_a_number_as_text_does_as_well(world: World, ident: str) -> None:
    """Both are what GitHub shows in the settings of an app."""
    installed = world.github.apps.install([_NAME], {"contents": "write", "pull_requests": "write"})
    app_id = installed.client_id if ident == "client_id" else f" {installed.app_id}\n"
    app = GitHubApp(app_id, private_key=installed.private_key, api_url=world.github.api_url)
    assert _token(world, app).startswith("ghs_")


def test_sixteen_threads_mint_once(world: World) -> None:
    """They all get the same token, and one request was made for it."""
    app, ready = world.github_app(), threading.Barrier(16)
    world.github.faults.add(Fault.delay(0.05, path=_MINT))

    def ask(_: int) -> str:
        ready.wait(30)
        return _token(world, app)

    with ThreadPoolExecutor(16) as pool:
        tokens = set(pool.map(ask, range(16)))
    assert len(tokens) == 1
    assert _mintings(world) == [201]


def test_a_token_is_renewed_before_it_expires(world: World) -> None:
    """Ten minutes are left then: as long as the longest fetch or push takes."""
    clock = _Clock()
    app = world.github_app(clock=clock)
    first = _token(world, app)
    clock.now = 2990.0
    assert _token(world, app) == first
    clock.now = 3001.0
    assert _token(world, app) != first
    # The installation is known by now.
    assert [request.path.rpartition("/")[2] for request in world.github.requests] == [
        "installation",
        "access_tokens",
        "access_tokens",
    ]


def test_a_short_lived_token_is_not_minted_for_every_request(world: World) -> None:
    """Of a token that never has ten minutes left, half is used."""
    clock = _Clock()
    world.github.apps.token_life_s = 100.0
    app = world.github_app(clock=clock)
    first = _token(world, app)
    clock.now = 48.0
    assert _token(world, app) == first
    clock.now = 51.0
    assert _token(world, app) != first


@pytest.mark.parametrize("ahead_s", [-86400.0, 700.0])
def test_a_wrong_clock_costs_one_request_and_not_a_token_for_every_other(
    world: World, ahead_s: float
) -> None:
    """The server's time signs the second try and all later ones, and says how long is left."""
    world.github.apps.clock_ahead_s = ahead_s
    clock = _Clock()
    app = world.github_app(clock=clock)
    first = _token(world, app)
    clock.now = 2990.0
    assert _token(world, app) == first
    clock.now = 3001.0
    assert _token(world, app) != first
    assert [request.status for request in world.github.requests] == [401, 200, 201, 201]


def test_a_token_that_stops_working_is_renewed_once_by_git_and_by_the_api(world: World) -> None:
    """Neither fails, and the one that was refused first renews it for both."""
    app, repo = world.github_app(), world.clone()
    runner = world.runner(repo, token=app)
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    runner.prepare(lane)
    assert lane.state.worktree_path is not None
    commit_files(lane.state.worktree_path, {"a.py": "x = 1\n"}, message="Work")
    world.github.apps.revoke_tokens()
    assert runner.integrate(lane).error is None
    assert _mintings(world) == [201, 201]
    world.github.apps.revoke_tokens()
    # The API is the first to notice now.
    address = parse_address("", api_url=world.github.api_url, full_name=_NAME)
    client = GitHubClient(address, token=app)
    assert client.request("GET", "/pulls/1", operation="read it").status == 200
    client.close()
    assert _mintings(world) == [201, 201, 201]


def test_a_lane_whose_token_expired_meanwhile_goes_on(world: World) -> None:
    """A process that slept believes its token good; the refusal tells it better."""
    app, repo = world.github_app(), world.clone()
    runner = world.runner(repo, token=app)
    runner.prepare(WorkstreamRuntime(WorkstreamSpec("one")))
    world.github.apps.clock_ahead_s = 3700.0
    runner.prepare(WorkstreamRuntime(WorkstreamSpec("two")))
    # The clock jumped as well, so the first signature was too old.
    assert _mintings(world) == [201, 401, 201]


# --- what is refused --------------------------------------------------------------------


def test_the_api_that_refuses_every_token_is_asked_twice(world: World) -> None:
    """One renewal and one repetition, then the error names the app."""
    world.github.faults.add(Fault.status(401, path="/pulls", times=9))
    address = parse_address("", api_url=world.github.api_url, full_name=_NAME)
    client = GitHubClient(address, token=world.github_app())
    with pytest.raises(CredentialsRejectedError) as caught:
        client.request("POST", "/pulls", operation="open it", body={})
    client.close()
    assert caught.value.source == "GitHub App 4001"
    assert [each.status for each in world.github.requests if "pulls" in each.path] == [401, 401]
    assert _mintings(world) == [201, 201]


def test_the_git_server_that_refuses_every_token_is_offered_two(world: World) -> None:
    """libgit2 asks for as long as it is answered; the third question is the end."""
    world.git.judge = lambda *_: 401
    app = world.github_app()
    with pytest.raises(CredentialsRejectedError) as caught:
        world.runner(world.clone(), token=app).prepare(WorkstreamRuntime(WorkstreamSpec("a")))
    assert caught.value.source == "GitHub App 4001"
    assert _mintings(world) == [201, 201]
    shown = [each.headers.get("authorization") for each in world.git.requests]
    assert shown == [None, "Basic", "Basic"]


def test_a_refused_value_is_still_offered_once(world: World) -> None:
    """Only what mints tokens has another one."""
    runner = world.runner(world.clone(), token="ghp_wrong")
    with pytest.raises(CredentialsRejectedError):
        runner.prepare(WorkstreamRuntime(WorkstreamSpec("a")))
    assert len(world.git.requests) == 2


def test_an_app_that_is_not_installed_on_the_repository_says_so(
    world: World, tmp_path: Path
) -> None:
    """GitHub says "Not Found"; the hint says what that means."""
    from agentrelay.workstream.testing import create_bare_repository

    other = create_bare_repository(tmp_path / "other.git")
    world.github.add_repository("octo/other", other)
    installed = world.github.apps.install(["octo/other"], {"contents": "write"})
    key, api_url = installed.private_key, world.github.api_url
    for number in (None, installed.installation_id):
        app = GitHubApp(installed.app_id, private_key=key, api_url=api_url, installation_id=number)
        with pytest.raises(CredentialsRejectedError, match=r"HTTP 4(04|22)") as caught:
            _token(world, app)
        assert "is the app installed on octo/widgets" in str(caught.value.hint)
        assert caught.value.source == f"GitHub App {installed.app_id}"


def test_a_suspended_installation_says_so_and_works_again_afterwards(world: World) -> None:
    """A person has to act, and then nothing has to be restarted."""
    app = world.github_app()
    (installation,) = world.github.apps._installations.values()
    world.github.apps.suspend(installation.app)
    with pytest.raises(CredentialsRejectedError, match="suspended") as caught:
        _token(world, app)
    assert "Its owner can end that" in str(caught.value.hint)
    world.github.apps.unsuspend(installation.app)
    assert _token(world, app)


def test_a_permission_that_was_not_granted_is_named(world: World) -> None:
    """The hint lists what was asked for, and who has to accept it."""
    app = world.github_app(permissions={"contents": "write"})
    with pytest.raises(CredentialsRejectedError, match="not granted") as caught:
        _token(world, app)
    assert "pull_requests: write" in str(caught.value.hint)


def test_another_apps_key_and_an_unknown_id_are_told_apart(world: World) -> None:
    """Signed by the wrong key, or by nobody GitHub knows."""
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    app = world.github_app(private_key=other.decode())
    with pytest.raises(CredentialsRejectedError, match="could not be decoded") as caught:
        _token(world, app)
    assert "the private key from the private_key argument" in str(caught.value.hint)
    with pytest.raises(CredentialsRejectedError, match="Integration not found") as caught:
        _token(world, world.github_app(app_id=1))
    assert "the app's id" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.rate_limit(path=_MINT), RateLimitedError),
        (Fault.status(429, path=_MINT, headers=[("retry-after", "7")]), RateLimitedError),
        (Fault.status(502, path=_MINT, effect="done"), RemoteUnavailableError),
        (Fault.drop_answer(path=_MINT), RemoteUnavailableError),
        (Fault.cut(40, path=_MINT), RemoteUnavailableError),
        (Fault.html(path=_MINT), RemoteUnavailableError),
        (Fault.status(200, path="/installation", body="[]"), RemoteUnavailableError),
        (Fault.status(201, path=_MINT, body='{"token": "a b"}'), RemoteUnavailableError),
        (Fault.status(202, path=_MINT, body="{}"), RemoteUnavailableError),
        (Fault.status(401, path="/installation", times=2), CredentialsRejectedError),
        (
            Fault.status(401, path=_MINT, headers=[("date", "today")], times=2),
            CredentialsRejectedError,
        ),
        (Fault.status(409, path=_MINT), PullRequestError),
    ],
)
def test_whatever_goes_wrong_is_typed_once_secret_free_and_over(
    world: World, fault: Fault, kind: type[Exception]
) -> None:
    """One request, one error, no secret in any frame of it, and the next try succeeds."""
    app = world.github_app()
    world.github.faults.add(fault)
    with pytest.raises(kind) as caught:
        _token(world, app)
    told = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    seen: list[BaseException | None] = [caught.value]
    for error in seen:
        if error is not None:
            seen += [each for each in (error.__cause__, error.__context__) if each not in seen]
            request = getattr(error, "request", None)
            told += repr(vars(error)) + repr(getattr(request, "headers", None))
    assert not [secret for secret in _secrets(world) if secret in told]
    world.github.faults.clear()
    assert _token(world, app)


def test_an_answer_without_usable_times_is_an_hours_token(world: World) -> None:
    """As documented; never one for every request."""
    clock = _Clock()
    app = world.github_app(clock=clock)
    for expires_at in ("null", '"soon"', '"2001-01-01T00:00:00Z"', '"2024-01-01"'):
        body = f'{{"token": "ghs_undated", "expires_at": {expires_at}}}'
        world.github.faults.add(Fault.status(201, path=_MINT, body=body))
        assert _token(world, app) == "ghs_undated"
        clock.now += 2999.0
        assert _token(world, app) == "ghs_undated"
        clock.now += 2.0
    assert _token(world, app) != "ghs_undated"


def test_a_renamed_repository_is_reported_and_the_signature_follows_nobody(world: World) -> None:
    """The redirect is not followed: the caller learns that the name is an old one."""
    app = world.github_app()
    world.github.rename_repository(_NAME, "octo/gadgets")
    with pytest.raises(PullRequestError, match="HTTP 301") as caught:
        _token(world, app)
    assert "renamed" in str(caught.value.hint)
    assert len(world.github.requests) == 1


def test_an_app_that_was_installed_anew_is_found_again(world: World) -> None:
    """The installation's id is not believed for ever."""
    clock = _Clock()
    app = world.github_app(clock=clock)
    _token(world, app)
    apps = world.github.apps
    apps._installations[60000] = apps._installations.pop(50001)
    object.__setattr__(apps._installations[60000].app, "installation_id", 60000)
    clock.now = 4000.0
    with pytest.raises(CredentialsRejectedError, match="404"):
        _token(world, app)
    assert _token(world, app)


# --- how long minting takes -------------------------------------------------------------


@pytest.mark.parametrize("path", ["/installation", _MINT])
def test_minting_ends_within_the_deadline_of_the_api(world: World, path: str) -> None:
    """A byte now and then keeps nobody waiting past it, and the next try succeeds."""
    world.github.faults.add(Fault.dribble(1, 0.05, path=path))
    address = parse_address("", api_url=world.github.api_url, full_name=_NAME)
    # By clocks that stand still each request has half a second, whatever came before it.
    policy = StillClock().policy(deadline_s=0.5, attempts=1)
    app = world.github_app(clock=_Clock())
    client = GitHubClient(address, token=app, policy=policy)
    with pytest.raises(RemoteUnavailableError, match="no answer in time"), client.deadline():
        client.request("GET", "", operation="look")
    client.close()
    assert _token(world, app)


def test_minting_ends_within_the_deadline_of_git(world: World) -> None:
    """A fetch has one deadline, and its token is part of it."""
    world.github.faults.add(Fault.dribble(1, 0.05, path=_MINT))
    app = world.github_app(installation_id=50001)
    preparer = world.preparer(world.clone(), token=app, network_timeout_s=0.5)
    with pytest.raises(RemoteUnavailableError, match="mint a token"):
        preparer.prepare_workstream(WorkstreamRuntime(WorkstreamSpec("parser")))


def test_minting_without_a_deadline_has_one_of_its_own(world: World) -> None:
    """It is four silences for all requests together: what one has used the next one lacks."""
    # At the beginning, and before the first request; then its time is over.
    readings = iter([0.0, 0.0])
    app = world.github_app(timeout_s=300, clock=lambda: next(readings, 1200.0))
    world.github.faults.add(Fault.silence(path=_MINT))
    with pytest.raises(RemoteUnavailableError, match=r"mint a token.*no answer in time"):
        _token(world, app)


def test_a_thread_that_waits_for_anothers_minting_keeps_its_own_deadline(world: World) -> None:
    """Who has less time than the one who mints gives up earlier."""
    app = world.github_app(timeout_s=60)
    world.github.faults.add(Fault.silence(path=_MINT))
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(_token, world, app)
        while world.github.faults.pending:
            threading.Event().wait(0.005)
        with lend_time(lambda: 0.05), pytest.raises(RemoteUnavailableError, match=r"after 0\.05 s"):
            _token(world, app)
        assert not slow.done()
        world.github.close()
        with pytest.raises(RemoteUnavailableError):
            slow.result(60)


def test_a_thread_with_time_left_does_not_share_the_end_of_anothers(world: World) -> None:
    """Who minted ran out of time; who waited for it has more, and mints."""
    app = world.github_app(installation_id=50001)
    world.github.faults.add(Fault.silence(path=_MINT))

    def hurry() -> str:
        with lend_time(lambda: 0.5):
            return _token(world, app)

    with ThreadPoolExecutor(1) as pool:
        hurried = pool.submit(hurry)
        while world.github.faults.pending and not hurried.done():
            threading.Event().wait(0.005)
        # Where the machine stood still the time was over before anything was sent.
        world.github.faults.clear()
        token = _token(world, app)
        with pytest.raises(RemoteUnavailableError, match="no answer in time"):
            hurried.result(30)
    assert _token(world, app) == token
    assert _mintings(world).count(201) == 1


def test_a_failed_minting_is_repeated_with_a_question_and_not_with_a_write(world: World) -> None:
    """Only the policy repeats, and it repeats reading alone."""
    address = parse_address("", api_url=world.github.api_url, full_name=_NAME)
    policy = RetryPolicy(attempts=2, first_wait_s=0)
    client = GitHubClient(address, token=world.github_app(), policy=policy)
    world.github.faults.add(Fault.status(502, path=_MINT))
    with pytest.raises(RemoteUnavailableError, match="mint a token"):
        client.request("POST", "/pulls", operation="open it", body={})
    assert _mintings(world) == [502]
    world.github.faults.add(Fault.status(502, path=_MINT))
    client.request("GET", "", operation="look")
    client.close()
    assert _mintings(world) == [502, 502, 201]


# --- what is shown ----------------------------------------------------------------------


def test_no_log_of_a_whole_lane_holds_a_secret(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    """With every logger at DEBUG: no token, no key, no JSON web token, nothing on stderr."""
    from agentrelay.workstream._github.connection import import_github

    import_github()
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    loggers = [logging.getLogger(name) for name in (None, "github", "urllib3", "requests")]
    levels = [logger.level for logger in loggers]
    before = {id(each) for logger in loggers for each in logger.handlers}
    loggers[0].addHandler(handler)
    try:
        for logger in loggers:
            logger.setLevel(logging.DEBUG)
        app, repo = world.github_app(), world.clone()
        _whole_life(world, app, repo)
        tokens = _secrets(world)
        world.github.apps.revoke_tokens()
        _whole_life(world, app, repo, "lexer")
        tokens += _secrets(world)
        world.github.faults.add(Fault.drop_answer(path=_MINT), Fault.status(401, path="/pulls"))
        with pytest.raises(RemoteUnavailableError) as caught:
            _token(world, world.github_app())
        logging.getLogger("mine").error("it failed", exc_info=caught.value)
    finally:
        loggers[0].removeHandler(handler)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        world.github.faults.clear()
    text = written.getvalue()
    assert "POST /api/v3/app/installations/50001/access_tokens" in text
    assert "github.Requester" in text or "/pulls" in text
    assert len(set(tokens)) > 4
    assert not [secret for secret in set(tokens) if secret in text]
    assert not re.search(r"ghs_|BEGIN|Bearer [^*(]", text)
    # Whatever handlers there were are there still, and none of them is PyGithub's.
    assert before <= {id(each) for logger in loggers for each in logger.handlers}
    assert capfd.readouterr().err == ""


# --- from a shell -----------------------------------------------------------------------


def test_the_command_line_uses_an_app_when_no_variable_holds_a_token(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All lanes of a command share its token; a variable with a token comes first."""
    installed = world.github.apps.install([_NAME], {"contents": "write", "pull_requests": "write"})
    (tmp_path / "app.pem").write_text(installed.private_key)
    monkeypatch.setenv("GITHUB_APP_ID", str(installed.app_id))
    monkeypatch.setenv("GITHUB_APP_PRIVATE_KEY_PATH", str(tmp_path / "app.pem"))
    monkeypatch.setenv("GITHUB_API_URL", world.github.api_url)
    repo = world.clone()
    result = on(repo, "prepare", "--json", "parser", "lexer")
    assert {lane["error"] for lane in lanes_of(result).values()} == {None}
    assert _mintings(world) == [201]
    github = ("--api-url", world.github.api_url, "--full-name", _NAME)
    commit_files(repo / ".worktrees/nightly/parser", {"a.py": "x = 1\n"}, message="Work")
    assert on(repo, "integrate", *github, "parser").exit_code == 0
    assert len(world.github.pulls()) == 1
    assert _mintings(world) == [201, 201]
    monkeypatch.setenv("GH_ENTERPRISE_TOKEN", world.token or "")
    assert on(repo, "prepare", "printer").exit_code == 0
    assert _mintings(world) == [201, 201]


def test_an_app_of_another_github_is_passed_over_on_the_command_line(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key is not asked for, and the hint lists it among the places that were looked at."""
    monkeypatch.setenv("GITHUB_APP_ID", "12")
    result = on(world.clone(), "prepare", "--json", "parser")
    lane = lanes_of(result)["parser"]
    assert "none was found" in lane["error"]
    assert "GitHub App 12 (not for 127.0.0.1" in lane["hint"]
