"""Rows of the fault matrix: a network, a server or a GitHub that is in trouble."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypedDict

from agentrelay.workstream import PushRejectedError, RemoteError, RemoteUnavailableError
from agentrelay.workstream.testing import Fault, RefUpdate
from tests._ports import closed_port
from tests.fault._injectors import Inject, at_github, pointed_at, row
from tests.fault._matrix import BRANCH, REF, Place, Row, Step
from tests.fault._trouble import impatience, overtime

__all__ = ["ROWS", "a_hook_that_declines", "nobody_listens", "planned", "silence"]


class _Where(TypedDict, total=False):
    """Which requests a fault is meant for."""

    method: str
    path: str
    times: int


_NETWORK: Final = "The network"
_SERVER: Final = "The server"
_WORDS: Final = "What the server says"
_FETCHED: Final = f"cannot fetch 'main' and '{BRANCH}' at 'REMOTE'"
_PUSHED: Final = f"cannot push '{BRANCH}' at 'REMOTE'"


def planned(*faults: Fault) -> Inject:
    """Plan misbehaviour of the git server."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        place.world.git.faults.add(*faults)
        yield
        place.world.git.faults.clear()

    return inject


@contextmanager
def silence(place: Place) -> Iterator[None]:
    """Let the server take requests and never answer, for a process that waits 0.2 s."""
    with impatience(200), planned(Fault.silence(**_LIST))(place):
        yield


@contextmanager
def nobody_listens(place: Place) -> Iterator[None]:
    """Point the remote at a port nobody listens at."""
    with pointed_at(place, f"http://127.0.0.1:{closed_port()}/octo/widgets.git"):
        yield


@contextmanager
def a_missing_path(place: Place) -> Iterator[None]:
    """Take the remote's directory away."""
    aside = place.bare.with_name("aside")
    place.bare.rename(aside)
    yield
    aside.rename(place.bare)


@contextmanager
def a_hook_that_declines(place: Place) -> Iterator[None]:
    """Let a hook of the server decline, in several lines."""

    def decline(updates: Sequence[RefUpdate]) -> Mapping[str, str]:
        words = "lanes are closed on Fridays\nAsk Robin, or read the wiki.\nSee you on Monday!"
        return {update.ref: words for update in updates}

    place.world.git.hooks.append(decline)
    yield
    place.world.git.hooks.clear()


_UPLOAD: Final[_Where] = {"method": "POST", "path": "upload-pack"}
_RECEIVE: Final[_Where] = {"method": "POST", "path": "receive-pack"}
_LIST: Final[_Where] = {"path": "info/refs", "times": 9}


def _trickling(fault: Fault) -> Inject:
    """Plan an answer of the git server in pieces, which ends long after the deadline."""
    assert fault.path is not None
    path = fault.path

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        with overtime(place.world.git, path), planned(fault)(place):
            yield

    return inject


def _impatient_api(fault: Fault) -> Inject:
    """Plan a silence of GitHub, for a caller that waits a second for it."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        place.world.github.faults.add(fault)
        place.api_timeout_s = 1
        yield
        place.api_timeout_s = 15
        place.world.github.faults.clear()

    return inject


def _rows() -> Iterator[Row]:
    """Yield the rows, in the page's order."""
    gone = RemoteUnavailableError
    part = _NETWORK
    steps: tuple[Step, ...] = ("prepare", "integrate", "teardown")
    for step in steps:
        yield row(part, step, "nobody listens", nobody_listens, gone, "http://127.0.0.1:PORT")
        yield row(part, step, "connected, and never answered", silence, gone, "REMOTE")
    yield row(
        part,
        "prepare",
        "the remote is a path that is gone",
        a_missing_path,
        gone,
        "REMOTE",
        over="path",
    )
    yield row(
        part,
        "prepare",
        "the pack trickles past the deadline",
        _trickling(Fault.dribble(200, 0.001, **_UPLOAD)),
        gone,
        "did not finish within 30 s",
    )
    yield row(
        part,
        "prepare",
        "the list of refs trickles past the deadline",
        _trickling(Fault.dribble(100, 0.001, path="info/refs.*upload-pack", times=9)),
        gone,
        "did not finish within 30 s",
    )
    yield row(
        part,
        "integrate",
        "the list of refs for the push trickles past the deadline",
        _trickling(Fault.dribble(40, 0.001, path="info/refs.*receive-pack", times=9)),
        gone,
        "did not finish within 30 s",
    )
    yield row(
        part,
        "integrate",
        "the list of refs trickles past the deadline, and nothing is "
        "to be fetched: only silence ends it",
        _trickling(Fault.dribble(40, 0.001, path="info/refs.*upload-pack", times=9)),
        None,
    )
    yield row(
        part,
        "prepare",
        "the list of refs is cut short",
        planned(Fault.cut(40, **_LIST)),
        gone,
        _FETCHED,
    )
    yield row(
        part,
        "prepare",
        "the pack is cut in the middle",
        planned(Fault.cut(3000, **_UPLOAD)),
        gone,
        _FETCHED,
    )
    yield row(
        part,
        "prepare",
        "the answer to the push is cut short, after its effect",
        planned(Fault.cut(5, **_RECEIVE)),
        gone,
        _PUSHED,
    )
    yield row(
        part,
        "prepare",
        "the answer to the push is lost, after its effect",
        planned(Fault.drop_answer(**_RECEIVE)),
        gone,
        _PUSHED,
    )
    yield row(
        part,
        "integrate",
        "the answer to the push is lost, after its effect",
        planned(Fault.drop_answer(**_RECEIVE)),
        gone,
        _PUSHED,
    )

    part = _SERVER
    for code in (500, 503):
        yield row(
            part,
            "prepare",
            f"the server answers {code}",
            planned(Fault.status(code, **_LIST)),
            gone,
            _FETCHED,
            str(code),
        )
    yield row(
        part,
        "prepare",
        "the server answers 404",
        planned(Fault.status(404, **_LIST)),
        RemoteError,
        _FETCHED,
        "404",
    )
    yield row(
        part,
        "prepare",
        "a captive portal answers with a page",
        planned(Fault.html(**_LIST)),
        gone,
        _FETCHED,
    )
    yield row(
        part,
        "prepare",
        "the push is answered by a captive portal",
        planned(Fault.html(**_RECEIVE)),
        gone,
        _PUSHED,
    )
    yield row(
        part,
        "integrate",
        "the push is answered with 503",
        planned(Fault.status(503, **_RECEIVE)),
        gone,
        _PUSHED,
        "503",
    )
    yield row(
        part,
        "teardown",
        "the server answers 500",
        planned(Fault.status(500, times=9)),
        gone,
        "could not reach the remote",
        "500",
    )
    yield row(
        part, "integrate", "GitHub answers 503", at_github(Fault.status(503, times=9)), gone, "503"
    )
    yield row(
        part, "integrate", "GitHub never answers", _impatient_api(Fault.silence(times=9)), gone
    )
    yield row(
        part,
        "integrate",
        "a captive portal in front of GitHub",
        at_github(Fault.html(times=9)),
        gone,
    )

    part = _WORDS
    yield row(
        part,
        "prepare",
        "a hook declines, in several lines",
        a_hook_that_declines,
        PushRejectedError,
        BRANCH,
        "lanes are closed on Fridays",
        "Ask Robin",
        "Monday!",
    )
    refused = planned(Fault.refuse_ref(REF, "the branch is frozen"))
    yield row(
        part,
        "prepare",
        "a rule refuses the branch",
        refused,
        PushRejectedError,
        BRANCH,
        "the branch is frozen",
    )
    yield row(
        part,
        "integrate",
        "a rule refuses the branch",
        refused,
        PushRejectedError,
        BRANCH,
        "the branch is frozen",
    )
    yield row(
        part,
        "teardown",
        "a rule refuses the deletion",
        refused,
        PushRejectedError,
        "could not delete the remote branch",
        "the branch is frozen",
    )


ROWS: Final = tuple(_rows())
