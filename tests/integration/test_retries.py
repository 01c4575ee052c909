"""Asking GitHub again, and waiting for it: what the policy allows, and no more."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from agentrelay.workstream import (
    PullRequestError,
    RateLimitedError,
    RemoteUnavailableError,
    RetryPolicy,
)
from agentrelay.workstream._github.address import parse_address
from agentrelay.workstream._github.client import GitHubClient
from agentrelay.workstream._github.opening import open_pull
from agentrelay.workstream._github.pulls import find_pulls, get_pull, update_pull_body
from agentrelay.workstream.testing.faults import Fault
from agentrelay.workstream.testing.github_server import GitHubServer
from tests.integration._clock import StillClock
from tests.integration._github_client import NAME, TOKEN, make_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agentrelay.workstream.testing._loopback import Request, Response


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitHubServer]:
    """A GitHub that hosts ``octo/widgets`` and wants a token."""
    with GitHubServer(make_remote(tmp_path), token=TOKEN) as running:
        yield running


@pytest.fixture
def clock() -> StillClock:
    """Time that passes only while the client waits."""
    return StillClock()


def _client(
    server: GitHubServer, home: Path, policy: RetryPolicy, timeout_s: float = 60
) -> GitHubClient:
    address = parse_address(f"{server.url}/{NAME}.git", environ={})
    return GitHubClient(
        address, token=TOKEN, timeout_s=timeout_s, policy=policy, environ={}, home=home
    )


@pytest.fixture
def client(server: GitHubServer, clock: StillClock, tmp_path: Path) -> Iterator[GitHubClient]:
    """A client that lives by the clock."""
    made = _client(server, tmp_path, clock.policy())
    yield made
    made.close()


def _find(client: GitHubClient) -> list[int]:
    return [pull.number for pull in find_pulls(client, head_branch="lane")]


def _open(client: GitHubClient, **settings: Any) -> Any:
    return open_pull(
        client, head_branch="lane", base_branch="main", title="T", body="B", **settings
    ).pull


def _asked(server: GitHubServer) -> list[str]:
    return [request.method for request in server.requests]


# -- waits


def test_reading_is_repeated_with_growing_waits(
    server: GitHubServer, client: GitHubClient, clock: StillClock
) -> None:
    """Three failures that pass, then the answer: one, two and four seconds."""
    server.faults.add(Fault.status(502), Fault.drop_answer(), Fault.html())
    assert _find(client) == []
    assert clock.waits == [1, 2, 4]
    assert _asked(server) == ["GET"] * 4


def test_attempts_are_counted_and_the_last_failure_says_so(
    server: GitHubServer, client: GitHubClient, clock: StillClock
) -> None:
    """After the last attempt nothing is waited for."""
    server.faults.add(Fault.status(502, times=9))
    with pytest.raises(RemoteUnavailableError) as caught:
        _find(client)
    assert (len(server.requests), clock.waits) == (4, [1, 2, 4])
    assert "4 attempts" in "".join(caught.value.__notes__)


@pytest.mark.parametrize("code", [401, 403, 404, 410, 422, 451])
def test_a_refusal_is_not_repeated(
    code: int, server: GitHubServer, client: GitHubClient, clock: StillClock
) -> None:
    """GitHub has answered; asking again would get the same."""
    server.faults.add(Fault.status(code, times=9))
    with pytest.raises(Exception, match=str(code)):
        _find(client)
    assert (len(server.requests), clock.waits) == (1, [])


@pytest.mark.parametrize(
    ("fault", "wait_s"),
    [
        (Fault.rate_limit(retry_after_s=7), 7),
        (Fault.rate_limit(code=429, retry_after_s=0), None),
        (Fault.rate_limit(secondary=True), 60),
        (Fault.rate_limit(secondary=True, code=429, retry_after_s=9), 9),
        (Fault.status(429), 60),
        (Fault.status(403, message="You have triggered an abuse detection mechanism."), 60),
        (Fault.status(422, message="was submitted too quickly"), 1),
        (Fault.status(403, headers=[("retry-after", "3")]), 3),
        (Fault.status(403, headers=[("retry-after", "soon"), ("x-ratelimit-remaining", "0")]), 60),
        (Fault.status(429, headers=[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]), None),
    ],
)
def test_a_short_pause_that_github_asks_for_is_made(
    fault: Fault, wait_s: float | None, server: GitHubServer, client: GitHubClient,
    clock: StillClock,
) -> None:  # fmt: skip
    """As long as it says; a minute where a limit does not say; and then it goes on."""
    server.faults.add(fault)
    assert _find(client) == []
    assert clock.waits == ([] if wait_s is None else [wait_s])


def test_a_limit_that_ends_at_a_time_of_day_is_waited_for_by_the_servers_clock(
    server: GitHubServer, client: GitHubClient, clock: StillClock
) -> None:
    """The clock here is years behind: it decides nothing where the answer has a date."""
    now = 1_760_000_000
    date = ("date", formatdate(now, usegmt=True))
    server.faults.add(
        Fault.status(
            403,
            message="API rate limit exceeded for user ID 1.",
            headers=[date, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", str(now + 30))],
        ),
        Fault.status(429, headers=[date, ("retry-after", formatdate(now + 20, usegmt=True))]),
    )
    assert _find(client) == []
    assert clock.waits == [30, 20]


@pytest.mark.parametrize(
    ("fault", "when"),
    [
        (Fault.rate_limit(retry_after_s=3600), "2023-11-14 23:13:20 UTC"),
        (Fault.rate_limit(secondary=True, code=429, retry_after_s=61), "2023-11-14 22:14:21 UTC"),
        (Fault.status(429, headers=[("retry-after", "9" * 30)]), "9999-01-01 00:00:00 UTC"),
    ],
)
def test_a_long_pause_is_an_error_at_once_that_says_when_to_come_back(
    fault: Fault, when: str, server: GitHubServer, client: GitHubClient, clock: StillClock
) -> None:
    """Nobody is kept waiting for an hour; the time is given in UTC."""
    server.faults.add(fault)
    with pytest.raises(RateLimitedError) as caught:
        _find(client)
    assert (len(server.requests), clock.waits) == (1, [])
    assert when in str(caught.value.hint)
    assert caught.value.retry_after_s is not None
    assert "60 s" in "".join(caught.value.__notes__)


def test_a_pause_longer_than_what_is_left_is_an_error_at_once(
    server: GitHubServer, client: GitHubClient, clock: StillClock
) -> None:
    """The cap allows a minute, twice; the deadline of ninety seconds does not."""
    server.faults.add(Fault.rate_limit(secondary=True, times=9))
    with pytest.raises(RateLimitedError, match="secondary"):
        _find(client)
    assert clock.waits == [60]


def test_one_operation_has_one_deadline(
    server: GitHubServer, clock: StillClock, tmp_path: Path
) -> None:
    """Pages, requests and looks share it; what comes after the end is not sent."""
    client = _client(server, tmp_path, clock.policy(deadline_s=10.0))
    with client.deadline():
        server.faults.add(Fault.status(502, times=2))
        assert _find(client) == []
        clock.wait(7.0)
        with pytest.raises(RemoteUnavailableError, match="deadline of 10 s is over"):
            _find(client)
        assert len(server.requests) == 3
    # The next operation has its own.
    assert _find(client) == []
    client.close()


def test_a_wait_that_ends_after_the_deadline_is_not_begun(
    server: GitHubServer, clock: StillClock, tmp_path: Path
) -> None:
    """What failed last is reported, with the reason why it was the last."""
    client = _client(server, tmp_path, clock.policy(deadline_s=2.5))
    server.faults.add(Fault.status(502, times=9))
    with pytest.raises(RemoteUnavailableError, match="502") as caught:
        _find(client)
    client.close()
    assert clock.waits == [1]
    assert "deadline of 2.5 s" in "".join(caught.value.__notes__)


# -- writing


def test_writing_is_repeated_only_after_a_look(
    server: GitHubServer, client: GitHubClient, clock: StillClock
) -> None:
    """A creation, a wait, a look, a creation; and so on until it works."""
    server.faults.add(Fault.status(502, method="POST", times=2))
    assert _open(client).number == 1
    assert _asked(server) == ["POST", "GET", "POST", "GET", "POST"]
    assert clock.waits == [1, 2]
    assert len(server.pulls()) == 1


def test_a_limit_on_writing_is_waited_for_and_looked_after(
    server: GitHubServer, client: GitHubClient, clock: StillClock
) -> None:
    """Somebody else may have opened it during the pause."""
    server.faults.add(Fault.rate_limit(secondary=True, retry_after_s=5, method="POST"))
    assert _open(client).number == 1
    assert _asked(server) == ["POST", "GET", "POST"]
    assert clock.waits == [5]


def test_nothing_is_written_again_while_looking_fails(
    server: GitHubServer, client: GitHubClient
) -> None:
    """Not knowing is no reason to create a second one; the first failure is reported."""
    server.faults.add(
        Fault.drop_answer(method="POST"), Fault.status(500, message="blind", method="GET", times=9)
    )
    with pytest.raises(RemoteUnavailableError, match="open a pull request") as caught:
        _open(client)
    assert "blind" in "".join(caught.value.__notes__)
    assert _asked(server) == ["POST", *["GET"] * 4]
    server.faults.clear()
    assert _open(client).number == 1
    assert len(server.pulls()) == 1


def test_a_duplicate_that_shows_up_late_is_waited_for(
    server: GitHubServer, client: GitHubClient, clock: StillClock
) -> None:
    """Lists lag behind: GitHub says it exists, so it is looked for again."""
    server.open_pull(head="lane", base="main", title="T")
    server.faults.add(Fault.status(200, body="[]", method="GET"))
    assert _open(client).number == 1
    assert _asked(server) == ["POST", "GET", "POST", "GET"]
    assert clock.waits == [1]


def test_a_duplicate_that_never_shows_up_is_an_error(
    server: GitHubServer, client: GitHubClient
) -> None:
    """It is not waited for without an end, and nothing is invented."""
    server.open_pull(head="lane", base="main", title="T")
    server.faults.add(Fault.status(200, body="[]", method="GET", times=99))
    with pytest.raises(PullRequestError, match="already exists"):
        _open(client)
    assert _asked(server).count("POST") == 4


def test_a_closed_one_is_no_result_of_a_creation(
    server: GitHubServer, client: GitHubClient
) -> None:
    """The look shows an old one that was given up; the new one is asked for again."""
    server.open_pull(head="lane", base="main", title="Given up")
    server.close_pull(1)
    server.faults.add(Fault.status(502, method="POST"))
    assert _open(client).number == 2
    assert [pull.state for pull in server.pulls()] == ["closed", "open"]


def test_one_that_was_merged_meanwhile_is_the_result(
    server: GitHubServer, client: GitHubClient
) -> None:
    """The answer was lost and a person was fast: at our commit it counts."""
    pull = _open(client)
    server.merge_pull(1, method="squash")
    server.faults.add(Fault.status(502, method="POST"))
    found = _open(client, head_sha=pull.head_sha)
    assert (found.number, found.state) == (1, "merged")
    assert found.merge_commit_sha is not None
    assert len(server.pulls()) == 1


def test_a_body_whose_answer_is_lost_is_read_back(
    server: GitHubServer, client: GitHubClient
) -> None:
    """It is there already, so it is not sent again."""
    _open(client)
    server.faults.add(Fault.drop_answer(method="PATCH"))
    assert update_pull_body(client, 1, "New\ntext").body == "New\ntext"
    assert _asked(server) == ["POST", "PATCH", "GET"]


def test_a_body_that_did_not_arrive_is_sent_again(
    server: GitHubServer, client: GitHubClient
) -> None:
    """The look shows the old one."""
    _open(client)
    server.faults.add(Fault.status(503, method="PATCH"))
    assert update_pull_body(client, 1, "New").body == "New"
    assert _asked(server) == ["POST", "PATCH", "GET", "PATCH"]


# -- renamed repositories


def test_a_renamed_repository_is_followed_once_by_its_new_name(
    server: GitHubServer, client: GitHubClient
) -> None:
    """Reading asks for the name, keeps it, and everything after uses it."""
    server.open_pull(head="lane", base="main", title="T")
    server.rename_repository(NAME, "octo/gadgets")
    (pull,) = find_pulls(client, head_branch="lane")
    assert pull.url.endswith("/octo/gadgets/pull/1")
    assert (client.renamed_from, client.address.full_name) == (NAME, "octo/gadgets")
    assert [request.status for request in server.requests] == [301, 200, 200]
    get_pull(client, 1)
    assert [request.status for request in server.requests][3:] == [200]


def test_a_moved_repository_is_searched_under_its_new_owner(
    server: GitHubServer, client: GitHubClient
) -> None:
    """The filter by head has the owner in it: the old one would find nothing."""
    server.open_pull(head="lane", base="main", title="T")
    server.rename_repository(NAME, "newcorp/gadgets")
    assert _find(client) == [1]
    assert "newcorp%3Alane" in server.requests[-1].path


@pytest.mark.parametrize("code", [307, 308])
def test_writing_to_a_renamed_repository_is_followed(
    code: int, server: GitHubServer, client: GitHubClient
) -> None:
    """The redirect means that nothing was done: one creation under the new name."""
    server.rename_repository(NAME, "octo/gadgets")
    location = f"{server.api_url}/repositories/1000/pulls"
    server.faults.add(Fault.redirect(location, code=code, method="POST"))
    pull = _open(client)
    assert pull.url.endswith("/octo/gadgets/pull/1")
    assert [request.status for request in server.requests] == [code, 200, 201]
    assert len(server.pulls("octo/gadgets")) == 1


def test_threads_follow_a_new_name_together(
    server: GitHubServer, clock: StillClock, tmp_path: Path
) -> None:
    """One learns it; another, already under way by the old one, uses it."""
    server.open_pull(head="lane", base="main", title="T")
    server.rename_repository(NAME, "octo/gadgets")
    client = _client(server, tmp_path, clock.policy())
    asked_by_the_old_name, go_on = threading.Event(), threading.Event()
    handle = server.handle

    def late_once(request: Request) -> Response:
        answer = handle(request)
        if not asked_by_the_old_name.is_set():
            asked_by_the_old_name.set()
            assert go_on.wait(60)
        return answer

    server.handle = late_once  # type: ignore[method-assign]  # the moment before an answer

    def ask() -> list[int]:
        found = _find(client)
        client.close()
        return found

    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(ask)
        try:
            assert asked_by_the_old_name.wait(60)
            # It is not answered yet.
            assert _find(client) == [1]
        finally:
            go_on.set()
        assert late.result(60) == [1]
    client.close()
    asked = [request.path.partition("?")[0] for request in server.requests]
    assert asked.count("/api/v3/repositories/1000") == 1


def test_a_second_new_name_is_not_followed(server: GitHubServer, client: GitHubClient) -> None:
    """Names that change while one asks are a loop, or somebody's game."""
    server.rename_repository(NAME, "octo/gadgets")
    _find(client)
    server.rename_repository("octo/gadgets", "octo/things")
    with pytest.raises(PullRequestError, match="301"):
        _find(client)


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.example/repositories/1000/pulls",
        "http://user@{host}/repositories/1000",
        "http://{host}:1/repositories/1000",
        "//evil.example/repositories/1000",
        "http://[broken/repositories/1000",
        "http://{host}/elsewhere/repositories/1000",
        "{api}/users/octocat",
        "{api}/repos/octo/widgets/pulls",
        "",
    ],
)
def test_a_redirect_to_anything_but_a_repository_of_the_same_api_is_an_error(
    location: str, server: GitHubServer, client: GitHubClient
) -> None:
    """No request follows it, so no token does."""
    host = server.url.removeprefix("http://")
    server.faults.add(Fault.redirect(location.format(api=server.api_url, host=host), code=307))
    with pytest.raises(PullRequestError, match="307"):
        _open(client)
    assert len(server.requests) == 1


def test_a_redirect_by_name_is_followed(server: GitHubServer, client: GitHubClient) -> None:
    """GitHub redirects to numbers; a name on the same API will do as well."""
    server.rename_repository(NAME, "octo/gadgets")
    server.faults.add(Fault.redirect("/api/v3/repos/octo/gadgets/pulls", code=301))
    assert _find(client) == []
    assert client.address.full_name == "octo/gadgets"


# -- conditional requests


def test_an_unchanged_answer_is_told_apart_and_costs_nothing(
    client: GitHubClient,
) -> None:
    """With the etag of an earlier answer GitHub says 304, free of the quota."""
    first = client.request("GET", "/pulls", operation="look")
    again = client.request("GET", "/pulls", operation="look", etag=first.headers["etag"])
    assert (again.status, again.data) == (304, None)
    assert again.headers["x-ratelimit-used"] == first.headers["x-ratelimit-used"]
    _open(client)
    changed = client.request("GET", "/pulls", operation="look", etag=first.headers["etag"])
    assert (changed.status, len(changed.data)) == (200, 1)


def test_what_is_below_the_api_itself_can_be_asked_for(client: GitHubClient) -> None:
    """Who the token belongs to, for example."""
    assert client.request("GET", "/user", operation="ask", at="api").data["login"] == "octocat"


# -- the deadline of one exchange


class _Trickle:
    """A server on loopback that sends one answer byte by byte, for as long as it may."""

    def __init__(self, answer: bytes, pause_s: float) -> None:
        """Listen on a free port."""
        self._answer, self._pause_s = answer, pause_s
        self.is_through = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
            with connection:
                connection.recv(65536)
                for byte in self._answer:
                    if self._over.wait(self._pause_s):
                        return
                    connection.sendall(bytes([byte]))
                self.is_through = True
                self._over.wait(600)
        except OSError:
            pass  # the client has gone, which is what is tested

    def close(self) -> None:
        """End it."""
        self._over.set()
        self._listener.close()
        self._thread.join(60)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n" + b"x-long: 1\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n[" + b" " * 9000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 1000,
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[" + b" " * 9000,
    ],
    ids=["head", "body", "chunks", "until the end"],
)
def test_a_server_that_dribbles_cannot_outlast_the_deadline(
    answer: bytes, clock: StillClock, tmp_path: Path
) -> None:
    """Each byte restarts the time-out of the socket, in the head too; the alarm does not."""
    trickle = _Trickle(answer, 0.02)
    try:
        address = parse_address(f"{trickle.url}/{NAME}.git", environ={})
        # By a clock that stands still the exchange has that time, whatever came before it.
        policy = clock.policy(deadline_s=0.3, attempts=1)
        client = GitHubClient(address, timeout_s=60, policy=policy, environ={}, home=tmp_path)
        with pytest.raises(RemoteUnavailableError, match="no answer in time"):
            client.request("GET", "", operation="ask")
        client.close()
        assert not trickle.is_through
    finally:
        trickle.close()


def test_an_answer_that_dribbles_and_ends_is_an_answer(
    server: GitHubServer, tmp_path: Path
) -> None:
    """Slow is not silent, and pauses are not the end."""
    client = _client(server, tmp_path, RetryPolicy(attempts=1))
    server.open_pull(head="lane", base="main", title="T")
    server.faults.add(Fault.dribble(3000, 0.02))
    assert _find(client) == [1]
    client.close()


def test_a_body_that_stops_coming_is_no_answer_in_time(
    server: GitHubServer, tmp_path: Path
) -> None:
    """Not a broken connection, whose address the hint would doubt."""
    client = _client(server, tmp_path, RetryPolicy(attempts=1), timeout_s=0.1)
    server.open_pull(head="lane", base="main", title="T")
    server.faults.add(Fault.dribble(2000, 1.0))
    with pytest.raises(RemoteUnavailableError, match="no answer in time"):
        _find(client)
    client.close()


def test_a_connection_is_used_again_after_an_alarm(
    server: GitHubServer, clock: StillClock, tmp_path: Path
) -> None:
    """The alarm shuts one exchange, not the client."""
    client = _client(server, tmp_path, clock.policy(deadline_s=0.3, attempts=1))
    server.open_pull(head="lane", base="main", title="T")
    server.faults.add(Fault.dribble(1, 0.05))
    with pytest.raises(RemoteUnavailableError, match="no answer in time"):
        _find(client)
    easy = _client(server, tmp_path, RetryPolicy(attempts=1))
    assert _find(easy) == [1]
    easy.close()
    client.close()


def test_threads_have_deadlines_of_their_own(
    server: GitHubServer, clock: StillClock, tmp_path: Path
) -> None:
    """What one thread has used up is not another one's."""
    client = _client(server, tmp_path, clock.policy(deadline_s=10.0))
    found: list[list[int]] = []

    def other() -> None:
        found.append(_find(client))
        client.close()

    with client.deadline():
        clock.wait(11.0)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(60)
        with pytest.raises(RemoteUnavailableError, match="is over"):
            _find(client)
    assert found == [[]]
    client.close()


@pytest.mark.parametrize("operation", [_find, _open])
def test_a_tls_failure_is_reported_as_one(
    operation: Callable[[GitHubClient], Any], clock: StillClock, tmp_path: Path
) -> None:
    """A server without TLS is no trusted connection, however often it is asked."""
    with GitHubServer(make_remote(tmp_path)) as plain:
        address = parse_address(f"https://127.0.0.1:{plain.url.rpartition(':')[2]}/o/r", environ={})
        client = GitHubClient(
            address, timeout_s=60, policy=clock.policy(attempts=2), environ={}, home=tmp_path
        )
        with pytest.raises(RemoteUnavailableError, match="no trusted connection"):
            operation(client)
        client.close()
