"""The two axes of the table of faults: every call made to GitHub, and every way to fail it.

A new call is one more :class:`Call` in :data:`CALLS`; a new fault one more
:class:`Misbehaviour` in :data:`FAULTS`. The page ``docs/github-faults.md`` follows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from agentrelay.workstream import GitHubApp
from agentrelay.workstream._github.client import GitHubClient
from agentrelay.workstream._github.extras import Extras, add_extras
from agentrelay.workstream._github.inspection import is_protected, read_repository
from agentrelay.workstream._github.listing import (
    commits_of_pull,
    contains,
    latest_commits,
    latest_pulls,
    pulls_of,
)
from agentrelay.workstream._github.memory import Memory
from agentrelay.workstream._github.merging import enable_auto_merge, enqueue, merge
from agentrelay.workstream._github.opening import open_pull
from agentrelay.workstream._github.pulls import find_pulls, get_pull, update_pull_body
from agentrelay.workstream._github.retargeting import open_pull_into, retarget_pull
from agentrelay.workstream.testing.faults import Fault
from agentrelay.workstream.testing.github_server import GitHubServer

__all__ = ["CALLS", "FAULTS", "HEAD", "NAME", "NEXT", "TOKEN", "Call", "Misbehaviour"]

NAME: Final = "octo/widgets"
TOKEN: Final = "made-up-token-0123456789"
HEAD: Final = "lane"
# A branch that is there beside the default one.
NEXT: Final = "next"

_OK: Final = "succeeds"
_CONCERN: Final = "concern"


@dataclass(frozen=True)
class Call:
    """One call, as a step makes it.

    Attributes:
        title: What it is for, as the page's heading.
        method: Method of the requests the fault happens to.
        path: Regular expression of their paths.
        run: Makes the call and returns ``"succeeds"``, or ``"concern"`` where a failure
            is a sentence and not an exception.
        prepare: Brings the double into the state the call is made in; may plan faults
            that lead up to it.
        pulls: How many pull requests there must be after a success.
        moves_refs: Whether it needs a repository that nobody else uses.
        token: What the client proves itself with, given how long a silence it bears, in
            seconds.
    """

    title: str
    method: str
    path: str
    run: Callable[[GitHubClient], str]
    prepare: Callable[[GitHubServer], None] = lambda _: None
    pulls: int = 0
    moves_refs: bool = False
    token: Callable[[GitHubServer, int], GitHubApp | str] = lambda *_: TOKEN


@dataclass(frozen=True)
class Misbehaviour:
    """One way GitHub, or something on the way to it, misbehaves.

    Attributes:
        title: How the page calls it.
        plan: Makes the fault for a method, a path and a number of times.
        takes_time: Whether the client has to run into a time-out of the real clock.
        for_ever: Whether it is also tried without an end, and not only once.
    """

    title: str
    plan: Callable[[str, str, int, GitHubServer], Fault]
    takes_time: bool = False
    for_ever: bool = False


def _opened(server: GitHubServer) -> None:
    server.open_pull(head=HEAD, base="main", title="Lane", body="Text")


def _with_milestone(server: GitHubServer) -> None:
    _opened(server)
    server.add_milestone("Spring")


def _find(client: GitHubClient) -> str:
    find_pulls(client, head_branch=HEAD)
    return _OK


def _ask_before_teardown(client: GitHubClient) -> str:
    assert [pull.number for pull in find_pulls(client, head_branch=HEAD, state="open")] == [1]
    return _OK


def _open(client: GitHubClient) -> str:
    pull = open_pull(client, head_branch=HEAD, base_branch="main", title="T", body="B").pull
    assert (pull.number, pull.state) == (1, "open")
    return _OK


def _update(client: GitHubClient) -> str:
    assert update_pull_body(client, 1, "New text").body == "New text"
    return _OK


def _read(client: GitHubClient) -> str:
    assert get_pull(client, 1).number == 1
    return _OK


def _check_one(client: GitHubClient) -> str:
    pulls = pulls_of(client, Memory(), head_branch=HEAD, head_full_name=None)
    assert [pull.number for pull in pulls] == [1]
    return _OK


def _check_many(client: GitHubClient) -> str:
    page = latest_pulls(client, Memory(), prefix=HEAD, head_full_name=None, page=1)
    assert [pull.number for pull in page.items] == [1]
    return _OK


def _commits(client: GitHubClient) -> str:
    assert latest_commits(client, Memory(), start="main").items
    return _OK


def _commits_of_pull(client: GitHubClient) -> str:
    assert commits_of_pull(client, Memory(), 1)
    return _OK


def _compare(client: GitHubClient) -> str:
    # Whether the target has the lane's commit decides between merged and cannot tell.
    return _OK if contains(client, "main", HEAD) else _CONCERN


def _merge(client: GitHubClient) -> str:
    # Looking first is what a lane's merge does as well.
    (pull,) = find_pulls(client, head_branch=HEAD, base_branch="main")
    if pull.state != "merged":
        assert merge(client, pull, method="squash", title="Title", message="Message")
    return _OK


def _enable(client: GitHubClient) -> str:
    (pull,) = find_pulls(client, head_branch=HEAD, base_branch="main")
    enable_auto_merge(client, pull, method="squash", title="Title", message="Message")
    return _OK


def _enqueue(client: GitHubClient) -> str:
    (pull,) = find_pulls(client, head_branch=HEAD, base_branch="main")
    enqueue(client, pull)
    return _OK


def _retarget(client: GitHubClient) -> str:
    # Looking first is what the step does as well.
    (pull,) = find_pulls(client, head_branch=HEAD)
    assert retarget_pull(client, pull, NEXT).base_branch == NEXT
    return _OK


def _ask_who_goes_into(client: GitHubClient) -> str:
    found = open_pull_into(client, "main")
    assert found is not None
    assert found.number == 1
    return _OK


def _checked(server: GitHubServer) -> None:
    _opened(server)
    server.protect(checks=["ci"], has_auto_merge=True)


def _queued(server: GitHubServer) -> None:
    _opened(server)
    server.protect(has_queue=True)


def _extras(extras: Extras, *, is_new: bool = True) -> Callable[[GitHubClient], str]:
    def run(client: GitHubClient) -> str:
        # A connection of its own: this is not the call the fault is meant for.
        pull = find_pulls(client, head_branch=HEAD, base_branch="main")[0]
        return _CONCERN if add_extras(client, pull, extras, is_new=is_new) else _OK

    return run


def _lose(fault: Fault, prepare: Callable[[GitHubServer], None]) -> Callable[[GitHubServer], None]:
    def lose(server: GitHubServer) -> None:
        prepare(server)
        server.faults.add(fault)

    return lose


def _renamed(server: GitHubServer) -> None:
    _opened(server)
    server.rename_repository(NAME, "octo/gadgets")


def _app(server: GitHubServer, timeout_s: int) -> GitHubApp:
    app = server.apps.install([NAME], {"contents": "write", "pull_requests": "write"})
    return GitHubApp(
        app.app_id, private_key=app.private_key, api_url=server.api_url, timeout_s=timeout_s
    )


def _look_at_repository(client: GitHubClient) -> str:
    assert read_repository(client).full_name == NAME
    return _OK


def _look_at_branch(client: GitHubClient) -> str:
    # Where GitHub knows no such branch, nothing is said about it.
    return _CONCERN if is_protected(client, "main") is None else _OK


CALLS: Final = (
    Call("Integrate: find the pull request", "GET", r"/pulls\?", _find),
    Call("Integrate: open it", "POST", "/pulls$", _open, pulls=1),
    Call(
        "Integrate: look whether it was opened, its answer being lost",
        "GET",
        r"/pulls\?",
        _open,
        _lose(Fault.drop_answer(method="POST"), lambda _: None),
        pulls=1,
    ),
    Call("Integrate: update its text", "PATCH", "/pulls/1$", _update, _opened, pulls=1),
    Call("Integrate: read it", "GET", "/pulls/1$", _read, _opened, pulls=1),
    Call(
        "Integrate: ask for the new name of a renamed repository",
        "GET",
        "/repositories/[0-9]+$",
        _find,
        _renamed,
        pulls=1,
    ),
    Call("Integrate: labels", "POST", "/labels$", _extras(Extras(labels=("x",))), _opened, pulls=1),
    Call(
        "Integrate: assignees",
        "POST",
        "/assignees$",
        _extras(Extras(assignees=("hubot",))),
        _opened,
        pulls=1,
    ),
    Call(
        "Integrate: who has reviewed",
        "GET",
        r"/reviews\?",
        _extras(Extras(reviewers=("hubot",)), is_new=False),
        _opened,
        pulls=1,
    ),
    Call(
        "Integrate: reviewers",
        "POST",
        "/requested_reviewers$",
        _extras(Extras(reviewers=("hubot",))),
        _opened,
        pulls=1,
    ),
    Call(
        "Integrate: find the milestone",
        "GET",
        r"/milestones\?",
        _extras(Extras(milestone="Spring")),
        _with_milestone,
        pulls=1,
    ),
    Call(
        "Integrate: set the milestone",
        "PATCH",
        "/issues/1$",
        _extras(Extras(milestone=1)),
        _with_milestone,
        pulls=1,
    ),
    Call("Check: one lane's pull requests", "GET", r"/pulls\?", _check_one, _opened, pulls=1),
    Call("Check: many lanes' pull requests", "GET", r"/pulls\?", _check_many, _opened, pulls=1),
    Call("Check: the target's commits", "GET", f"{NAME}/commits\\?", _commits, _opened, pulls=1),
    Call(
        "Check: a pull request's commits",
        "GET",
        r"/pulls/1/commits\?",
        _commits_of_pull,
        _opened,
        pulls=1,
    ),
    Call("Check: compare two commits", "GET", "/compare/", _compare, _opened, pulls=1),
    Call("Merge: merge it", "PUT", "/pulls/1/merge$", _merge, _opened, pulls=1, moves_refs=True),
    Call(
        "Merge: look whether it was merged, its answer being lost",
        "GET",
        "/pulls/1$",
        _merge,
        _lose(Fault.drop_answer(method="PUT"), _opened),
        pulls=1,
        moves_refs=True,
    ),
    Call("Merge: enable auto-merge", "POST", "/graphql$", _enable, _checked, pulls=1),
    Call("Merge: stand in the merge queue", "POST", "/graphql$", _enqueue, _queued, pulls=1),
    Call("Retarget: change the base", "PATCH", "/pulls/1$", _retarget, _opened, pulls=1),
    Call(
        "Teardown: is a pull request open",
        "GET",
        r"/pulls\?.*state=open",
        _ask_before_teardown,
        _opened,
        pulls=1,
    ),
    Call("App: find its installation", "GET", "/installation$", _find, token=_app),
    Call("App: mint a token", "POST", "/access_tokens$", _find, token=_app),
    Call("Doctor: look at the repository", "GET", f"/repos/{NAME}$", _look_at_repository),
    Call("Doctor: look at the target", "GET", "/branches/[a-z0-9]+$", _look_at_branch),
    Call(
        "Teardown: is one open into the branch",
        "GET",
        r"/pulls\?.*base=main",
        _ask_who_goes_into,
        _opened,
        pulls=1,
    ),
)


def _status(
    code: int, *, headers: tuple[tuple[str, str], ...] = (), **settings: Any
) -> Callable[[str, str, int, GitHubServer], Fault]:
    effect = settings.pop("effect", "none")

    def plan(method: str, path: str, times: int, _: GitHubServer) -> Fault:
        return Fault.status(
            code,
            headers=headers,
            effect="done" if effect == "done" else "none",
            method=method,
            path=path,
            times=times,
            **settings,
        )

    return plan


def _limit(**settings: Any) -> Callable[[str, str, int, GitHubServer], Fault]:
    def plan(method: str, path: str, times: int, _: GitHubServer) -> Fault:
        return Fault.rate_limit(method=method, path=path, times=times, **settings)

    return plan


def _simple(make: Callable[..., Fault], *args: float) -> Callable[..., Fault]:
    return lambda method, path, times, _: make(*args, method=method, path=path, times=times)


def _redirect(location: str, code: int) -> Callable[..., Fault]:
    return lambda method, path, times, server: Fault.redirect(
        location.format(api=server.api_url), code=code, method=method, path=path, times=times
    )


_NODE: Final = json.dumps({"message": "Could not resolve to a node with the global id of 'x'."})

FAULTS: Final = (
    Misbehaviour("500, nothing done", _status(500)),
    Misbehaviour("502, nothing done", _status(502), for_ever=True),
    Misbehaviour("502, done all the same", _status(502, effect="done"), for_ever=True),
    Misbehaviour("503 with a page of HTML", _simple(lambda **w: Fault.html(503, **w))),
    Misbehaviour("401", _status(401, message="Bad credentials")),
    Misbehaviour("403 without a limit", _status(403, message="Resource not accessible")),
    Misbehaviour("404", _status(404)),
    Misbehaviour("422 that does not know its own node yet, done", _status(
        422, body=_NODE, effect="done"
    ), for_ever=True),
    Misbehaviour("422 submitted too quickly", _status(
        422, message="was submitted too quickly"
    )),
    Misbehaviour("403 primary limit, over in an hour", _limit()),
    Misbehaviour("403 primary limit, over in 20 s", _limit(
        retry_after_s=20
    ), for_ever=True),
    Misbehaviour("429 primary limit, over in an hour", _limit(code=429)),
    Misbehaviour("403 secondary limit, no time said", _limit(secondary=True)),
    Misbehaviour("403 secondary limit, 5 s", _limit(secondary=True, retry_after_s=5)),
    Misbehaviour("429 secondary limit, 3600 s", _limit(
        secondary=True, code=429, retry_after_s=3600
    )),
    Misbehaviour("429 without a word", _status(429)),
    Misbehaviour("429 until a day long ago", _status(
        429, headers=(("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"),)
    )),
    Misbehaviour("429 until the year 9999", _status(
        429, headers=(("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT"),)
    )),
    Misbehaviour("answer cut in the middle", _simple(Fault.cut, 10)),
    Misbehaviour("answer dropped", _simple(Fault.drop_answer), for_ever=True),
    Misbehaviour("answer late", _simple(Fault.delay, 60), takes_time=True),
    Misbehaviour("silence", _simple(Fault.silence), takes_time=True, for_ever=True),
    Misbehaviour("answer that dribbles", _simple(Fault.dribble, 1, 15), takes_time=True),
    Misbehaviour("page of HTML instead", _simple(Fault.html), for_ever=True),
    Misbehaviour("empty answer, done", _status(200, body="", effect="done")),
    Misbehaviour("{} instead, done", _status(200, body="{}", effect="done")),
    Misbehaviour("202, done", _status(202, body="{}", effect="done")),
    Misbehaviour("204, done", _status(204, body="", effect="done")),
    Misbehaviour("301 to another host", _redirect("https://evil.example/repositories/1000", 301)),
    Misbehaviour("307 to another host", _redirect("https://evil.example/repositories/1000", 307)),
    Misbehaviour("301 to a repository nobody knows", _redirect("{api}/repositories/4711", 301)),
    Misbehaviour("308 to itself", _redirect("{api}/repositories/1000", 308)),
)  # fmt: skip
