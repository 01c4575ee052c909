"""Pull requests against a GitHub over real HTTP, behaving and misbehaving."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import logging
import pickle
import socket
import ssl
import sys
import threading
import traceback
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agentrelay.workstream._github.address import GitHubAddress, parse_address
from agentrelay.workstream._github.client import GitHubClient
from agentrelay.workstream._github.connection import import_github
from agentrelay.workstream._github.failures import is_duplicate, is_no_commits, scrub, translate
from agentrelay.workstream._github.opening import open_pull
from agentrelay.workstream._github.pulls import find_pulls, get_pull, update_pull_body
from agentrelay.workstream._policy import RetryPolicy
from agentrelay.workstream.errors import (
    CredentialsRejectedError,
    PullRequestError,
    RateLimitedError,
    RemoteUnavailableError,
    RepositoryError,
    WorkstreamError,
)
from agentrelay.workstream.testing.faults import Fault
from agentrelay.workstream.testing.github_server import GitHubServer
from agentrelay.workstream.testing.repositories import (
    BranchRecipe,
    CommitRecipe,
    RepositoryRecipe,
    create_bare_repository,
)
from tests.integration._impatience import impatience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agentrelay.workstream.testing._loopback import LoopbackServer

_TOKEN = "made-up-token-0123456789"
_HEAD = "agentrelay/g/w/integration"

_RECIPE = RepositoryRecipe(
    branches=(
        BranchRecipe("main", (CommitRecipe("Start", {"a": "1\n"}),)),
        BranchRecipe("release", start="main"),
        BranchRecipe(_HEAD, (CommitRecipe("Work", {"b": "2\n"}),), start="main"),
        BranchRecipe("other", (CommitRecipe("Other", {"c": "3\n"}),), start="main"),
        BranchRecipe("empty", start="main"),
    )
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitHubServer]:
    """A GitHub that hosts ``octo/widgets`` and wants a token."""
    path = create_bare_repository(tmp_path / "widgets.git", _RECIPE)
    with GitHubServer(path, token=_TOKEN) as running:
        yield running
        running.check()


@pytest.fixture
def impatient() -> Iterator[dict[str, LoopbackServer]]:
    """Servers whose planned delays are not waited for; used before a client is made."""
    with impatience() as servers:
        yield servers


@pytest.fixture
def client(server: GitHubServer, tmp_path: Path) -> Iterator[GitHubClient]:
    """A client of ``octo/widgets`` with the right token."""
    made = _client(server, tmp_path)
    yield made
    made.close()


def _client(
    server: GitHubServer, home: Path, token: Any = _TOKEN, environ: dict[str, str] | None = None
) -> GitHubClient:
    """Make a client that sees nothing of this machine."""
    address = parse_address(f"{server.url}/octo/widgets.git", environ={})
    # What repeating does is told in test_retries.py.
    policy = RetryPolicy(attempts=1)
    return GitHubClient(
        address, token=token, timeout_s=60, policy=policy, environ=environ or {}, home=home
    )


def _open(client: GitHubClient, head: str = _HEAD, base: str = "main") -> Any:
    return open_pull(client, head_branch=head, base_branch=base, title="T", body="B").pull


def _asked(server: GitHubServer) -> list[str]:
    """Return what was requested, by method."""
    return [request.method for request in server.requests]


# --- the ordinary way -------------------------------------------------------------------


def test_a_pull_request_is_opened_with_one_request(
    server: GitHubServer, client: GitHubClient
) -> None:
    """What comes back is what GitHub now holds."""
    pull = _open(client)
    assert _asked(server) == ["POST"]
    (view,) = server.pulls()
    assert (view.number, view.title, view.body) == (pull.number, "T", "B")
    assert (view.head, view.base) == (pull.head_branch, pull.base_branch) == (_HEAD, "main")
    assert (pull.url, pull.state, pull.title, pull.body) == (view.html_url, "open", "T", "B")
    assert len(pull.head_sha) == 40


def test_opening_it_again_finds_the_one_that_is_open(
    server: GitHubServer, client: GitHubClient
) -> None:
    """A refusal as a duplicate is not a failure; the existing text stays."""
    first = _open(client)
    again = open_pull(client, head_branch=_HEAD, base_branch="main", title="X", body="Y").pull
    assert again == first
    assert len(server.pulls()) == 1


def test_the_states_are_open_closed_and_merged(server: GitHubServer, client: GitHubClient) -> None:
    """A merged pull request is not mistaken for one that was closed, nor the reverse."""
    merged, closed, still_open = (
        _open(client),
        _open(client, "other"),
        _open(client, base="release"),
    )
    server.merge_pull(merged.number)
    server.close_pull(closed.number)
    states = [get_pull(client, pull.number).state for pull in (merged, closed, still_open)]
    assert states == ["merged", "closed", "open"]
    assert [pull.state for pull in find_pulls(client, head_branch=_HEAD)] == ["open", "merged"]
    assert [pull.state for pull in find_pulls(client, head_branch="other")] == ["closed"]


def test_pulls_are_found_by_branch_base_and_state_newest_first(
    server: GitHubServer, client: GitHubClient
) -> None:
    """Other branches' pull requests are never among them."""
    server.open_pull(head="other", base="main", title="x")
    old = server.open_pull(head=_HEAD, base="main", title="x")
    server.close_pull(old.number)
    new = server.open_pull(head=_HEAD, base="main", title="x")
    side = server.open_pull(head=_HEAD, base="release", title="x")

    def numbers(**where: Any) -> list[int]:
        return [pull.number for pull in find_pulls(client, head_branch=_HEAD, **where)]

    assert numbers() == [side.number, new.number, old.number]
    assert numbers(base_branch="main") == [new.number, old.number]
    assert numbers(base_branch="main", state="open") == [new.number]
    assert numbers(state="closed") == [old.number]
    assert find_pulls(client, head_branch="absent") == []


def test_every_page_of_a_list_is_read(server: GitHubServer, client: GitHubClient) -> None:
    """More pull requests than fit on a page are all found."""
    for _ in range(103):
        view = server.open_pull(head=_HEAD, base="main", title="x")
        server.close_pull(view.number)
    found = find_pulls(client, head_branch=_HEAD)
    assert [pull.number for pull in found] == list(range(103, 0, -1))
    assert _asked(server) == ["GET", "GET"]


def test_a_body_is_replaced(server: GitHubServer, client: GitHubClient) -> None:
    """Updating touches the body alone, and may be repeated."""
    pull = _open(client)
    for _ in range(2):
        assert update_pull_body(client, pull.number, "new").body == "new"
    (view,) = server.pulls()
    assert (view.title, view.body) == ("T", "new")


def test_a_branch_without_commits_is_refused_recognisably(
    server: GitHubServer, client: GitHubClient
) -> None:
    """GitHub's 422 says that there is nothing to merge, and nothing is looked for."""
    with pytest.raises(PullRequestError, match="No commits between main and empty") as caught:
        _open(client, "empty")
    assert caught.value.status == 422
    assert is_no_commits(caught.value)
    assert not is_duplicate(caught.value)
    assert _asked(server) == ["POST"]


def test_a_branch_that_is_not_on_the_remote_is_named(client: GitHubClient) -> None:
    """The field GitHub complains about is part of the message."""
    with pytest.raises(PullRequestError, match="head invalid") as caught:
        _open(client, "absent")
    assert not is_no_commits(caught.value)


def test_a_pull_request_that_does_not_exist_is_a_404(client: GitHubClient) -> None:
    """The hint says that GitHub answers the same when the token may not look."""
    with pytest.raises(PullRequestError) as caught:
        get_pull(client, 99)
    assert caught.value.status == 404
    assert caught.value.repository == "octo/widgets"
    assert "the token argument" in str(caught.value.hint)


# --- credentials ------------------------------------------------------------------------


def test_a_refused_token_is_named_by_its_source_only(server: GitHubServer, tmp_path: Path) -> None:
    """The message says where the token came from, never what it is."""
    wrong = "wrong-token-99"
    port = server.port
    client = _client(server, tmp_path, None, {"GH_ENTERPRISE_TOKEN": wrong})
    with pytest.raises(CredentialsRejectedError, match="Bad credentials") as caught:
        _open(client)
    assert caught.value.source == "environment variable GH_ENTERPRISE_TOKEN"
    assert str(port) in caught.value.url
    assert _asked(server) == ["POST"]
    client.close()


def test_without_a_token_the_error_says_where_it_was_looked_for(
    server: GitHubServer, tmp_path: Path
) -> None:
    """Another host's token in the environment is not sent, and the error explains it."""
    client = _client(server, tmp_path, None, {"GH_TOKEN": _TOKEN})
    with pytest.raises(CredentialsRejectedError, match="no token was offered") as caught:
        _open(client)
    assert caught.value.source is None
    assert "~/.netrc (no such file)" in str(caught.value.hint)
    assert "GH_TOKEN and GITHUB_TOKEN are for github.com" in str(caught.value.hint)
    client.close()


def test_a_callable_is_asked_for_each_request_so_a_renewed_token_is_used(
    server: GitHubServer, tmp_path: Path
) -> None:
    """A token that expires is replaced without a new client."""
    tokens = iter(["expired", _TOKEN, _TOKEN])
    client = _client(server, tmp_path, lambda: next(tokens))
    with pytest.raises(CredentialsRejectedError):
        _open(client)
    assert _open(client).number == 1
    assert get_pull(client, 1).number == 1
    client.close()


def test_no_secret_is_in_anything_that_is_shown_or_pickled(
    server: GitHubServer, tmp_path: Path
) -> None:
    """Client, errors with their causes and tracebacks, and pickles are free of the token."""
    client = _client(server, tmp_path, environ={"GH_ENTERPRISE_TOKEN": _TOKEN})
    server.faults.add(
        Fault.drop_answer(),
        Fault.status(500, message=f"you sent {_TOKEN}"),
        Fault.status(403, body=f"<p>you sent {_TOKEN}</p>"),
        Fault.html(),
    )
    for _ in range(4):
        with pytest.raises(WorkstreamError) as caught:
            get_pull(client, 1)
        error: BaseException | None = caught.value
        assert _TOKEN.encode() not in pickle.dumps(error)
        shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        assert _TOKEN not in "".join(shown.format())
        while error is not None:
            assert _TOKEN not in repr(error)
            assert _TOKEN not in repr(vars(error))
            request = getattr(error, "request", None)
            assert _TOKEN not in repr(getattr(request, "headers", None))
            error = error.__cause__ or error.__context__
    assert _TOKEN not in repr(client)
    data = pickle.dumps(client)
    assert _TOKEN.encode() not in data
    restored = pickle.loads(data)  # noqa: S301 - our own bytes
    assert restored.address == client.address
    with pytest.raises(WorkstreamError, match="does not travel"):
        get_pull(restored, 1)
    client.close()


def test_a_short_token_of_an_emulator_garbles_nothing(tmp_path: Path) -> None:
    """A token that is a piece of every word is masked in none of them."""
    path = create_bare_repository(tmp_path / "widgets.git", _RECIPE)
    with GitHubServer(path, token="t") as server:
        client = _client(server, tmp_path, "t")
        assert _open(client).url.startswith("http")
        with pytest.raises(PullRequestError, match="Not Found"):
            get_pull(client, 99)
        client.close()
        server.check()


def test_the_debug_log_does_not_hold_the_token(
    client: GitHubClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever turns everything on to find a fault does not publish a token."""
    caplog.set_level(logging.DEBUG)
    _open(client)
    assert "POST" in caplog.text
    assert _TOKEN not in caplog.text


def test_plain_http_beyond_this_machine_is_refused_before_a_token_is_looked_for() -> None:
    """No request is made, so nothing can be overheard."""
    with pytest.raises(RepositoryError, match="unencrypted"):
        GitHubAddress(
            host="ghe.corp",
            owner="o",
            name="r",
            api_url="http://ghe.corp/api/v3",
            web_url="http://ghe.corp/o/r",
        )


def test_a_ca_bundle_that_is_missing_is_an_error_before_any_request(
    server: GitHubServer, tmp_path: Path
) -> None:
    """The variable is named; going on without it would be a different trust."""
    client = _client(server, tmp_path, environ={"SSL_CERT_FILE": "/nowhere/ca.pem"})
    with pytest.raises(RepositoryError, match="SSL_CERT_FILE"):
        _open(client)
    assert _asked(server) == []


# --- GitHub misbehaves ------------------------------------------------------------------

_AFTER_EFFECT = {
    "answer dropped": Fault.drop_answer(method="POST"),
    "answer cut": Fault.cut(40, method="POST"),
    "answer late": Fault.delay(600, method="POST"),
    "502 after the effect": Fault.status(502, effect="done", method="POST"),
    "page of HTML": Fault.status(
        200, body="<html>", content_type="text/html", effect="done", method="POST"
    ),
    "202": Fault.status(202, body="{}", effect="done", method="POST"),
    "204": Fault.status(204, body="", effect="done", method="POST"),
    "empty object": Fault.status(201, body="{}", effect="done", method="POST"),
    "empty list": Fault.status(201, body="[]", effect="done", method="POST"),
    "cut JSON": Fault.status(201, body='{"number": 1', effect="done", method="POST"),
    "node": Fault.status(
        422,
        message="Could not resolve to a node with the global id of 'x'",
        effect="done",
        method="POST",
    ),
}


@pytest.mark.parametrize("fault", _AFTER_EFFECT.values(), ids=_AFTER_EFFECT)
def test_a_creation_whose_answer_is_lost_is_found_and_not_repeated(
    impatient: dict[str, LoopbackServer], fault: Fault, server: GitHubServer, client: GitHubClient
) -> None:
    """One POST, one pull request, and the caller gets it."""
    impatient[server.url] = server
    server.faults.add(fault)
    pull = _open(client)
    assert [view.number for view in server.pulls()] == [pull.number]
    assert _asked(server) == ["POST", "GET"]


def test_a_creation_answered_with_a_foreign_url_is_looked_up(
    server: GitHubServer, client: GitHubClient
) -> None:
    """The right branches with somebody else's page: the repository itself is asked."""
    foreign = _pull_json(server, html_url="https://evil.example/octo/widgets/pull/1")
    server.faults.add(Fault.status(201, body=json.dumps(foreign), effect="done", method="POST"))
    assert _open(client).url == f"{server.url}/octo/widgets/pull/1"


_WITHOUT_EFFECT = {
    "502": Fault.status(502, method="POST"),
    "silence": Fault.silence(method="POST"),
    "page of HTML": Fault.html(method="POST"),
    "page of HTML as an error": Fault.html(503, method="POST"),
}


@pytest.mark.parametrize("fault", _WITHOUT_EFFECT.values(), ids=_WITHOUT_EFFECT)
def test_a_creation_that_did_not_happen_fails_after_one_look(
    impatient: dict[str, LoopbackServer], fault: Fault, server: GitHubServer, client: GitHubClient
) -> None:
    """It is reported as worth repeating, and repeating it works."""
    impatient[server.url] = server
    server.faults.add(fault)
    with pytest.raises(RemoteUnavailableError):
        _open(client)
    assert _asked(server) == ["POST", "GET"]
    assert server.pulls() == []
    assert _open(client).number == 1


def test_the_creations_failure_is_reported_when_looking_fails_too(
    server: GitHubServer, client: GitHubClient
) -> None:
    """The second failure is a note on the first."""
    server.faults.add(
        Fault.status(502, message="first", method="POST"),
        Fault.status(500, message="second", method="GET"),
    )
    with pytest.raises(RemoteUnavailableError, match="first") as caught:
        _open(client)
    assert "second" in "".join(caught.value.__notes__)


_LIMITS: list[tuple[Fault, Callable[[float | None], bool]]] = [
    (Fault.rate_limit(reset_s=100), lambda wait: wait is not None and 90 < wait <= 101),
    (Fault.rate_limit(retry_after_s=30), lambda wait: wait == 30),
    (Fault.rate_limit(code=429, retry_after_s=7), lambda wait: wait == 7),
    (Fault.rate_limit(secondary=True), lambda wait: wait is None),
    (Fault.rate_limit(secondary=True, retry_after_s=60), lambda wait: wait == 60),
    (Fault.status(429), lambda wait: wait is None),
    (
        Fault.status(429, headers=[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]),
        lambda wait: wait == 0,
    ),
    (Fault.status(429, headers=[("retry-after", "soon")]), lambda wait: wait is None),
    (Fault.status(422, message="was submitted too quickly"), lambda wait: wait is None),
    (Fault.status(403, headers=[("retry-after", "5")]), lambda wait: wait == 5),
    (
        Fault.status(403, message="You have triggered an abuse detection mechanism."),
        lambda wait: wait is None,
    ),
]


@pytest.mark.parametrize(("fault", "fits"), _LIMITS)
def test_a_rate_limit_is_told_apart_from_a_refusal_and_not_waited_for(
    fault: Fault,
    fits: Callable[[float | None], bool],
    server: GitHubServer,
    client: GitHubClient,
) -> None:
    """The caller learns how long GitHub asked to wait; nothing sleeps or repeats."""
    server.faults.add(fault)
    with pytest.raises(RateLimitedError) as caught:
        _open(client)
    assert fits(caught.value.retry_after_s)
    assert _asked(server) == ["POST"]


@pytest.mark.parametrize(
    ("message", "headers", "hint"),
    [
        ("Resource not accessible by integration", [], "Pull requests: write"),
        ("Resource protected by SAML", [("x-github-sso", "required; url=x")], "single sign-on"),
        (
            "GitHub Actions is not permitted to create or approve pull requests.",
            [],
            "Workflow permissions",
        ),
    ],
)
def test_a_missing_permission_comes_with_a_way_out(
    message: str, headers: list[tuple[str, str]], hint: str, server: GitHubServer,
    client: GitHubClient,
) -> None:  # fmt: skip
    """GitHub's own words are kept; the hint says where to go."""
    server.faults.add(Fault.status(403, message=message, headers=headers))
    with pytest.raises(PullRequestError, match=message) as caught:
        _open(client)
    assert caught.value.status == 403
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_elsewhere_is_not_followed(
    code: int, server: GitHubServer, client: GitHubClient
) -> None:
    """The token goes to no host that an answer names."""
    server.faults.add(Fault.redirect("http://127.0.0.1:9/repositories", code=code))
    with pytest.raises(PullRequestError, match=str(code)) as caught:
        find_pulls(client, head_branch=_HEAD)
    assert "renamed or moved" in str(caught.value.hint)
    assert _asked(server) == ["GET"]


def test_a_new_name_that_cannot_be_asked_for_is_left_out(
    server: GitHubServer, client: GitHubClient
) -> None:
    """The redirect is reported all the same."""
    location = f"{server.api_url}/repositories/4711/pulls"
    server.faults.add(
        Fault.redirect(location),
        Fault.status(404, path="/repositories/4711"),
        Fault.redirect(location),
        Fault.status(200, body='{"full_name": "octo/a/b"}', path="/repositories/4711"),
        Fault.redirect(location),
        Fault.status(200, body='{"full_name": "octo/widgets"}', path="/repositories/4711"),
    )
    for _ in range(3):
        with pytest.raises(PullRequestError) as caught:
            find_pulls(client, head_branch=_HEAD)
        assert "renamed or moved" in str(caught.value.hint)


_UNUSABLE: dict[str, Fault] = {
    "HTML": Fault.html(),
    "object": Fault.status(200, body="{}"),
    "no body": Fault.status(204, body=""),
    "202": Fault.status(202, body="[]"),
    "500 as a list": Fault.status(500, body="[1]"),
    "cut": Fault.cut(1),
    "bad header": Fault.status(200, body="[]", headers=[("x-ratelimit-reset", "x")]),
}  # fmt: skip


@pytest.mark.parametrize("fault", _UNUSABLE.values(), ids=_UNUSABLE)
def test_an_unusable_list_is_not_taken_for_an_empty_one(
    fault: Fault, server: GitHubServer, client: GitHubClient
) -> None:
    """That there is no pull request yet is only believed from a GitHub that says so."""
    server.faults.add(fault)
    with pytest.raises(RemoteUnavailableError):
        find_pulls(client, head_branch=_HEAD)


def _pull_json(server: GitHubServer, **changes: Any) -> dict[str, Any]:
    """Return a pull request's JSON as small as it can be."""
    pull: dict[str, Any] = {
        "number": 1,
        "html_url": f"{server.url}/octo/widgets/pull/1",
        "state": "open",
        "title": "T",
        "body": None,
        "merged_at": None,
        "head": {"ref": _HEAD, "sha": "0" * 40, "repo": {"full_name": "octo/widgets"}},
        "base": {"ref": "main"},
    }
    return pull | changes


def _list_of(*items: Any) -> Fault:
    return Fault.status(200, body=json.dumps(items))


@pytest.mark.parametrize(
    "changes",
    [
        {"number": None},
        {"number": True},
        {"number": "1"},
        {"html_url": None},
        {"html_url": "https://evil.example/octo/widgets/pull/1"},
        {"html_url": "javascript:alert(1)"},
        {"title": None},
        {"state": "weird"},
        {"base": None},
        {"head": {"ref": _HEAD, "sha": None, "repo": {"full_name": "octo/widgets"}}},
    ],
)
def test_a_pull_request_that_is_not_whole_or_not_ours_is_not_believed(
    changes: dict[str, Any], server: GitHubServer, client: GitHubClient
) -> None:
    """Better no result than a URL of somebody else in the lane's records."""
    server.faults.add(_list_of(_pull_json(server, **changes)))
    with pytest.raises(RemoteUnavailableError):
        find_pulls(client, head_branch=_HEAD)


@pytest.mark.parametrize(
    "changes",
    [
        {"head": {"ref": "other", "sha": "0", "repo": {"full_name": "octo/widgets"}}},
        {"head": {"ref": _HEAD, "sha": "0", "repo": {"full_name": "octo/fork"}}},
        {"head": {"ref": _HEAD, "sha": "0", "label": f"fork:{_HEAD}", "repo": None}},
        {"base": {"ref": "release"}},
        {"state": "closed"},
    ],
)
def test_a_server_that_ignores_a_filter_does_not_pass_off_anothers_pull_request(
    changes: dict[str, Any], server: GitHubServer, client: GitHubClient
) -> None:
    """Each item's branches and repository are compared here as well."""
    server.faults.add(_list_of(_pull_json(server, **changes)))
    assert find_pulls(client, head_branch=_HEAD, base_branch="main", state="open") == []


@pytest.mark.parametrize("item", [1, None, {}, {"head": None}, {"head": {"sha": "0"}}])
def test_an_item_nobody_can_read_is_not_taken_for_no_pull_request(
    item: Any, server: GitHubServer, client: GitHubClient
) -> None:
    """Saying "there is none" would let a clean-up close the one there is."""
    server.faults.add(_list_of(item))
    with pytest.raises(RemoteUnavailableError, match="which branch"):
        find_pulls(client, head_branch=_HEAD)


@pytest.mark.parametrize("repo", [None, {}, {"id": 1}])
def test_an_emulator_that_knows_no_forks_is_understood(
    repo: Any, server: GitHubServer, client: GitHubClient
) -> None:
    """Named explicitly, it need not repeat the repository's name."""
    head = {"ref": _HEAD, "sha": "0" * 40, "repo": repo}
    server.faults.add(_list_of(_pull_json(server, head=head)))
    named = GitHubClient(dataclasses.replace(client.address, api_is_given=True), token=_TOKEN)
    assert [pull.head_branch for pull in find_pulls(named, head_branch=_HEAD)] == [_HEAD]
    named.close()


def test_the_smallest_whole_pull_request_is_enough(
    server: GitHubServer, client: GitHubClient
) -> None:
    """The tests above fail because of what they change, and merged shows in either form."""
    server.faults.add(
        _list_of(_pull_json(server)),
        _list_of(_pull_json(server, merged_at="2024-01-01T00:00:00Z", state="closed")),
        _list_of(_pull_json(server, merged=True, state="closed")),
    )
    states = [find_pulls(client, head_branch=_HEAD)[0].state for _ in range(3)]
    assert states == ["open", "merged", "merged"]


def test_an_answer_about_another_pull_request_is_not_believed(
    server: GitHubServer, client: GitHubClient
) -> None:
    """Asked about one number, an answer about another is no answer."""
    _open(client)
    _open(client, "other")
    server.faults.add(Fault.status(200, body="null", path="/pulls/2$"))
    server.faults.add(Fault.status(200, body=json.dumps(_pull_json(server)), path="/pulls/2$"))
    with pytest.raises(RemoteUnavailableError, match="not a pull request"):
        get_pull(client, 2)
    with pytest.raises(RemoteUnavailableError, match="about number 1"):
        get_pull(client, 2)


def test_a_list_without_an_end_is_given_up(server: GitHubServer, client: GitHubClient) -> None:
    """A server that always names a next page is asked a bounded number of times."""
    server.faults.add(
        Fault.status(200, body="[]", headers=[("link", '<x>; rel="next"')], times=1000)
    )
    with pytest.raises(RemoteUnavailableError, match="did not end"):
        find_pulls(client, head_branch=_HEAD)
    assert len(server.requests) < 100


def test_an_answer_without_an_end_is_given_up(
    server: GitHubServer, client: GitHubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A huge answer is not read to its end."""
    from agentrelay.workstream._github import connection

    monkeypatch.setattr(connection, "_LARGEST_ANSWER_BYTES", 10_000)
    server.faults.add(Fault.status(200, body="[" + " " * 20_000 + "]"))
    with pytest.raises(RemoteUnavailableError, match="larger than 10000 bytes"):
        find_pulls(client, head_branch=_HEAD)


def test_an_answer_that_dribbles_is_given_up(
    server: GitHubServer, client: GitHubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then keeps a socket awake, but not the caller waiting."""
    from agentrelay.workstream._github import connection

    monkeypatch.setattr(connection, "_ANSWER_TIMEOUTS", 0.3 / 60)
    for _ in range(3):
        view = server.open_pull(head=_HEAD, base="main", title="x" * 200)
        server.close_pull(view.number)
    server.faults.add(Fault.dribble(600, 0.1))
    with pytest.raises(RemoteUnavailableError, match="no answer in time"):
        find_pulls(client, head_branch=_HEAD)


def test_nobody_listening_is_an_error_worth_repeating(
    server: GitHubServer, client: GitHubClient
) -> None:
    """The address is part of the hint, in case it is the wrong one."""
    server.close()
    with pytest.raises(RemoteUnavailableError, match="no connection") as caught:
        _open(client)
    assert "api_url=" in str(caught.value.hint)


# --- the client -------------------------------------------------------------------------


def test_what_is_sent_says_who_asks_and_which_version_of_the_api(
    server: GitHubServer, client: GitHubClient
) -> None:
    """The version is pinned: the double refuses any other."""
    _open(client)
    (request,) = server.requests
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert headers["x-github-api-version"] == "2022-11-28"
    assert headers["user-agent"].startswith("agentrelay-workstream/")


def test_threads_share_a_client_and_not_a_connection(
    server: GitHubServer, client: GitHubClient
) -> None:
    """Every thread gets the answer to its own question."""
    numbers = [
        server.open_pull(head=head, base=base, title="x").number
        for head in (_HEAD, "other")
        for base in ("main", "release")
    ]
    wrong: list[object] = []

    def ask(number: int) -> None:
        for _ in range(10):
            got = get_pull(client, number).number
            if got != number:
                wrong.append((number, got))
        client.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(server.requests) == 40


def test_a_client_may_be_used_again_after_it_was_closed(client: GitHubClient) -> None:
    """Closing gives back a connection, not the client."""
    pull = _open(client)
    client.close()
    client.close()
    assert get_pull(client, pull.number) == pull


def test_the_environments_proxy_is_not_asked_about_this_machine(
    server: GitHubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the given environment nor the process's own diverts loopback."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    client = _client(server, tmp_path, environ={"http_proxy": "http://127.0.0.1:9"})
    assert _open(client).number == 1
    client.close()


def test_a_proxy_is_asked_about_everything_else(tmp_path: Path) -> None:
    """The request goes to the proxy, which here nobody runs."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"http://user:hunter2@127.0.0.1:{unused.getsockname()[1]}"
        address = parse_address("https://ghe.invalid/o/r", environ={})
        environ = {"https_proxy": proxy}
        client = GitHubClient(
            address,
            token="t",
            timeout_s=60,
            policy=RetryPolicy(attempts=2, first_wait_s=0),
            environ=environ,
            home=tmp_path,
        )
        with pytest.raises(RemoteUnavailableError, match="ProxyError") as caught:
            get_pull(client, 1)
        assert "hunter2" not in str(caught.value)
        client.close()


class _NotFound(BaseHTTPRequestHandler):
    """Answers every GET like GitHub answers for what is not there."""

    def do_GET(self) -> None:
        """Answer 404."""
        body = b'{"message": "Not Found"}'
        self.send_response(404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _self_signed(path: Path) -> Path:
    """Write a key and a certificate of 127.0.0.1 that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    return path


def test_a_private_authority_is_trusted_where_the_environment_names_it(tmp_path: Path) -> None:
    """With the bundle the server is heard; without, nothing is sent to it."""
    bundle = _self_signed(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle)
    with ThreadingHTTPServer(("127.0.0.1", 0), _NotFound) as listener:
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        address = parse_address(f"https://127.0.0.1:{listener.server_port}/o/r", environ={})
        trusting, wary = (
            GitHubClient(address, token="t", timeout_s=60, environ=environ, home=tmp_path)
            for environ in ({"SSL_CERT_FILE": str(bundle)}, {})
        )
        try:
            with pytest.raises(PullRequestError, match="Not Found"):
                get_pull(trusting, 1)
            with pytest.raises(RemoteUnavailableError, match="no trusted connection") as caught:
                get_pull(wary, 1)
            assert "SSL_CERT_FILE" in str(caught.value.hint)
        finally:
            trusting.close()
            wary.close()
            listener.shutdown()
            thread.join()


def test_importing_the_backend_leaves_the_programs_logging_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyGithub's own handler and level are undone, the program's are kept."""
    logger = logging.getLogger("github")
    mine = logging.StreamHandler()
    monkeypatch.setattr(logger, "handlers", [mine])
    monkeypatch.setattr(logger, "level", logging.WARNING)
    for name in [name for name in sys.modules if name.partition(".")[0] == "github"]:
        monkeypatch.delitem(sys.modules, name)
    import_github()
    assert logger.handlers == [mine]
    assert logger.level == logging.WARNING


# --- translation ------------------------------------------------------------------------

_ADDRESS = parse_address("https://github.com/o/r", environ={})


def _translate(error: Exception, source: str | None = "somewhere") -> WorkstreamError:
    return translate(error, operation="try", address=_ADDRESS, credential_source=source, now_s=0.0)


def test_an_untrusted_certificate_comes_with_the_variable_to_set() -> None:
    """A private authority is the usual reason."""
    import requests

    error = _translate(requests.exceptions.SSLError("self-signed certificate"))
    assert isinstance(error, RemoteUnavailableError)
    assert "SSL_CERT_FILE" in str(error.hint)


def test_what_is_not_expected_is_an_unusable_answer() -> None:
    """The backend raises assertions and bare runtime errors for some answers."""
    for original in (AssertionError("host"), RuntimeError("redirected"), KeyError("x")):
        error = _translate(original)
        assert isinstance(error, RemoteUnavailableError)
        assert type(original).__name__ in error.message


def test_without_a_token_a_404_asks_for_one_and_a_limit_stays_a_limit() -> None:
    """What an anonymous request may not see looks as if it did not exist."""
    github: Any = import_github()
    missing = github.GithubException(404, {"message": "Not Found"}, {})
    assert isinstance(_translate(missing, None), CredentialsRejectedError)
    assert isinstance(_translate(missing), PullRequestError)
    limit = github.GithubException(403, {"message": "API rate limit exceeded for 1.2.3.4"}, {})
    error = _translate(limit, None)
    assert isinstance(error, RateLimitedError)
    assert "with a token" in str(error.hint)


def test_every_shape_of_an_error_body_becomes_one_short_line() -> None:
    """Lists, texts, pages and nothing at all are survived."""
    github: Any = import_github()
    bodies: tuple[Any, ...] = (
        None, [], 7, "a page\nof text" * 100, {"message": None},
        {"message": "m", "errors": "e"}, {"errors": [{"field": "f", "code": "c"}, "x", 3, None]},
    )  # fmt: skip
    messages = [_translate(github.GithubException(400, body, None)).message for body in bodies]
    assert all(len(message) < 700 and message.isprintable() for message in messages)
    assert "no reason given" in messages[0]
    assert "m; e" in messages[5]
    assert "f c; x" in messages[6]


def test_scrubbing_reaches_every_exception_of_a_chain() -> None:
    """Headers and frames are removed from causes, contexts and arguments, once each."""
    import requests

    prepared = requests.Request("GET", "http://h/", headers={"Authorization": "x"}).prepare()
    inner = requests.exceptions.ConnectionError(request=prepared)
    outer = ValueError(inner)
    inner.__context__ = outer
    middle = RuntimeError()
    middle.__cause__ = outer
    try:
        raise middle
    except RuntimeError:
        scrub(middle)
    assert "Authorization" not in prepared.headers
    assert middle.__traceback__ is None
