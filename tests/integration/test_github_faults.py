"""The GitHub double misbehaves as planned, and fails the test that asks too much."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import github
import pytest
import requests

from agentrelay.workstream.testing._github_merge import merge
from agentrelay.workstream.testing.faults import Fault
from agentrelay.workstream.testing.github_server import GitHubServer
from agentrelay.workstream.testing.repositories import commit_files
from tests.integration._github_client import (
    NAME,
    TOKEN,
    add_lane,
    call,
    client,
    make_remote,
    open_lane,
    tip,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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


# -- what the double does not do


@pytest.mark.parametrize(
    ("method", "path", "body", "named"),
    [
        ("GET", "/hooks", None, "/repos/octo/widgets/hooks"),
        ("PUT", "/pulls", None, "PUT"),
        ("GET", "/pulls?since=x", None, "since"),
        ("GET", "/compare/main...lane?page=2", None, "one page"),
        ("GET", "/pulls?sort=popularity", None, "popularity"),
        ("POST", "/pulls", {"head": "lane", "base": "main", "issue": 1}, "issue"),
        ("GET", "/milestones?state=closed", None, "milestones"),
    ],
)
def test_what_the_double_cannot_do_fails_the_test_and_says_what_it_can(
    bare: Path, method: str, path: str, body: dict[str, Any] | None, named: str
) -> None:
    """An unknown route, parameter or field is an error of the suite, in its own thread."""
    server = GitHubServer(bare).start()
    open_lane(server)
    answer = call(server, method, path, body)
    assert answer.status_code == 404
    with pytest.raises(AssertionError, match=named):
        server.close()
    server.close()


def test_an_unknown_route_lists_the_known_ones(bare: Path) -> None:
    """The message is where one looks up what the double offers."""
    with pytest.raises(AssertionError, match="/pulls"), GitHubServer(bare) as server:
        call(server, "GET", f"{server.url}/nonsense")


def test_a_client_that_wants_no_json_is_told(server: GitHubServer) -> None:
    """A diff asked for is not a pull request given."""
    open_lane(server)
    call(server, "GET", "/pulls/1", Accept="application/vnd.github.diff")
    with pytest.raises(AssertionError, match=r"vnd\.github\.diff"):
        server.check()


def test_a_failing_test_is_not_hidden_by_what_the_double_remembers(bare: Path) -> None:
    """Leaving the block with an exception raises that one and no other."""
    server = GitHubServer(bare)

    def failing_test() -> None:
        with server:
            call(server, "GET", "/hooks")
            raise KeyError("the test's own")

    with pytest.raises(KeyError, match="the test's own"):
        failing_test()
    with pytest.raises(AssertionError, match="/hooks"):
        server.check()


def test_helpers_refuse_what_github_would(server: GitHubServer) -> None:
    """A story that could not happen on GitHub does not happen here."""
    with pytest.raises(ValueError, match="head invalid"):
        server.open_pull(head="missing", base="main", title="T")
    with pytest.raises(ValueError, match="Not Found"):
        server.merge_pull(3)
    open_lane(server)
    assert server.close_pull(1) == server.close_pull(1)
    with pytest.raises(ValueError, match="not mergeable"):
        server.merge_pull(1)


def test_a_base_that_moves_during_the_merge_is_not_overwritten(
    server: GitHubServer, bare: Path
) -> None:
    """The ref's own lock decides; GitHub's answer says that asking again helps."""
    open_lane(server)
    lock = bare / "refs" / "heads" / "main.lock"
    lock.touch()
    answer = call(server, "PUT", "/pulls/1/merge")
    assert answer.status_code == 405
    assert answer.json()["message"] == ("Base branch was modified. Review and try the merge again.")
    lock.unlink()
    assert call(server, "PUT", "/pulls/1/merge").status_code == 200


def test_a_base_that_moved_since_it_was_looked_at_is_not_merged_into(
    server: GitHubServer, bare: Path
) -> None:
    """A push that slips in between reading the states and merging is noticed as well."""
    open_lane(server)
    hosted = server._first
    pull = hosted.pull(1)
    after = commit_files(bare, {"m.txt": "m\n"}, message="Slipped in", branch="main")
    with pytest.raises(ValueError, match="Base branch was modified"):
        merge(
            hosted.open_git(),
            hosted,
            pull,
            method="merge",
            title=None,
            message=None,
            now=server.now,
        )
    assert tip(bare, "main") == after
    assert server.pulls()[0].state == "open"


# -- faults


def test_a_planned_status_replaces_the_answer_and_nothing_happens(
    server: GitHubServer, repo: Repository
) -> None:
    """The next matching request gets it, the one after that does not."""
    server.faults.add(Fault.status(502, method="POST", path="/pulls$"))
    with pytest.raises(github.GithubException) as caught:
        repo.create_pull(base="main", head="lane", title="Lane")
    assert caught.value.status == 502
    assert server.pulls() == []
    assert repo.create_pull(base="main", head="lane", title="Lane").number == 1


def test_a_gateway_may_fail_after_the_work_is_done(server: GitHubServer, repo: Repository) -> None:
    """The answer is an error, and the pull request is there."""
    server.faults.add(Fault.status(502, effect="done"))
    with pytest.raises(github.GithubException):
        repo.create_pull(base="main", head="lane", title="Lane")
    assert len(server.pulls()) == 1


@pytest.mark.parametrize("fault", [Fault.drop_answer(), Fault.cut(10)], ids=["dropped", "cut"])
def test_an_answer_that_is_lost_leaves_its_effect(
    server: GitHubServer, repo: Repository, fault: Fault
) -> None:
    """The client sees a broken connection; the pull request exists."""
    server.faults.add(fault)
    with pytest.raises(requests.exceptions.RequestException):
        repo.create_pull(base="main", head="lane", title="Lane")
    assert [view.head for view in server.pulls()] == ["lane"]
    assert server.requests[-1].status == (0 if fault == Fault.drop_answer() else 201)


@pytest.mark.parametrize(
    "fault", [Fault.delay(0.02), Fault.dribble(1000, 0.001)], ids=["late", "slow"]
)
def test_a_slow_answer_is_the_right_one(
    repo: Repository, server: GitHubServer, fault: Fault
) -> None:
    """Late or in small pieces, but whole; and the connection goes on."""
    server.faults.add(fault)
    assert repo.create_pull(base="main", head="lane", title="Lane").number == 1
    assert repo.get_pull(1).title == "Lane"


def test_closing_does_not_wait_for_those_who_were_never_answered(bare: Path) -> None:
    """Silence and long delays end with the server, and no thread of it is left."""
    server = GitHubServer(bare).start()
    server.faults.add(Fault.silence(), Fault.delay(600), Fault.dribble(1, 600))
    errors: list[Exception] = []

    def ask() -> None:
        try:
            call(server, "GET", "")
        except requests.exceptions.RequestException as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(server.requests) == 3)
    name = f"loopback-{server.port}"
    serving = [thread for thread in threading.enumerate() if thread.name == name]
    assert len(serving) == 4
    server.close()
    for thread in [*threads, *serving]:
        thread.join(60)
        assert not thread.is_alive()
    assert len(errors) == 3


def wait_until(reached: Callable[[], bool]) -> None:
    """Wait for another thread, a minute at most."""
    deadline = time.monotonic() + 60
    pause = threading.Event()
    while not reached():
        assert time.monotonic() < deadline
        pause.wait(0.001)


@pytest.mark.parametrize(
    ("fault", "retry_after"),
    [
        (Fault.rate_limit(), None),
        (Fault.rate_limit(retry_after_s=3), "3"),
        (Fault.rate_limit(secondary=True), None),
        (Fault.rate_limit(secondary=True, retry_after_s=60, reset_s=500), "60"),
    ],
)
def test_a_rate_limit_is_recognised_by_a_client(
    server: GitHubServer, repo: Repository, fault: Fault, retry_after: str | None
) -> None:
    """PyGithub knows both kinds by their texts, with and without ``Retry-After``."""
    server.faults.add(fault)
    with pytest.raises(github.RateLimitExceededException) as caught:
        repo.get_pull(1).complete()
    headers = caught.value.headers or {}
    assert headers.get("retry-after") == retry_after
    assert int(headers["x-ratelimit-reset"]) > time.time()


def test_a_portal_page_and_a_redirect_are_what_they_say(server: GitHubServer) -> None:
    """A page instead of JSON, and a place elsewhere."""
    server.faults.add(Fault.html(), Fault.redirect(f"{server.url}/elsewhere", code=302))
    page = call(server, "GET", "")
    assert page.headers["content-type"].startswith("text/html")
    assert page.text.startswith("<!DOCTYPE html>")
    moved = call(server, "GET", "")
    assert (moved.status_code, moved.headers["location"]) == (302, f"{server.url}/elsewhere")


def test_clearing_forgets_the_log_and_the_plan_but_no_failure(server: GitHubServer) -> None:
    """What went wrong inside stays until somebody has seen it."""
    call(server, "GET", "/hooks")
    call(server, "GET", "/teams")
    server.faults.add(Fault.status(500))
    server.clear()
    assert (server.requests, server.faults.pending) == ((), ())
    with pytest.raises(AssertionError) as caught:
        server.check()
    assert "/teams" in caught.value.__notes__[0]
    server.check()


def test_many_clients_are_served_at_once(server: GitHubServer, bare: Path) -> None:
    """Each thread opens its own pull request, and numbers are given out once."""
    for number in range(8):
        add_lane(bare, f"lane-{number}", {f"{number}.txt": "x\n"})
    numbers: list[int] = []

    def work(number: int) -> None:
        numbers.append(open_lane(server, head=f"lane-{number}")["number"])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 9))
    assert {json.loads(entry.body)["title"] for entry in server.requests} == {"Lane"}
