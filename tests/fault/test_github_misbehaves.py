"""Every fault the GitHub double can plan, in every call that is made: what comes of it.

The results are the page ``docs/github-faults.md``. After a change on purpose::

    REWRITE_GITHUB_FAULTS=1 python -m pytest tests/fault/test_github_misbehaves.py
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives import serialization

from agentrelay.workstream import RetryPolicy, WorkstreamError
from agentrelay.workstream._github.address import parse_address
from agentrelay.workstream._github.client import GitHubClient
from agentrelay.workstream.testing._loopback import LoopbackServer
from agentrelay.workstream.testing.faults import FaultKind
from agentrelay.workstream.testing.github_server import GitHubServer
from tests.fault._github_calls import CALLS, FAULTS, HEAD, NAME, NEXT, TOKEN, Call, Misbehaviour
from tests.integration._clock import StillClock
from tests.integration._github_client import add_lane, make_remote
from tests.integration._impatience import impatience

_PAGE: Final = Path(__file__).parents[2] / "docs" / "github-faults.md"

# What a client waits for an answer that nobody delays, in seconds.
_NEVER_S: Final = 60.0

_ALWAYS: Final = 1000


@dataclass(frozen=True)
class _Cell:
    """What came of one call with one fault.

    Attributes:
        outcome: ``"succeeds"``, ``"concern"`` or the name of the error.
        requests: How many requests were sent.
        waited_s: How long was waited, by the injected clock.
        pulls: How many pull requests there were afterwards.
        afterwards: Outcome of the same call without a fault.
        pulls_afterwards: How many pull requests there were then.
    """

    outcome: str
    requests: int
    waited_s: float
    pulls: int
    afterwards: str
    pulls_afterwards: int

    def __str__(self) -> str:
        """Show a cell as the page does."""
        return f"{self.outcome} · {self.requests} · {self.waited_s:g} s · {self.pulls}"


_Table = dict[tuple[str, str, int], _Cell]


def _try(call: Call, client: GitHubClient) -> str:
    """Make a call; nothing but our own errors may come out, and no secret in them."""
    try:
        return call.run(client)
    except WorkstreamError as failure:
        error = failure
    text = f"{error} {error.hint} {getattr(error, '__notes__', '')}"
    assert TOKEN not in text, text
    assert error.hint or type(error).__name__ == "PullRequestError", text
    return type(error).__name__


def _measure(
    bare: Path,
    home: Path,
    call: Call,
    fault: Misbehaviour,
    times: int,
    *,
    late: dict[str, LoopbackServer],
) -> _Cell:
    """Make one call against a double of its own that misbehaves; it becomes one of ``late``."""
    clock = StillClock()
    if call.moves_refs:
        bare = Path(shutil.copytree(bare, Path(tempfile.mkdtemp(dir=home)) / "widgets.git"))
    with GitHubServer(bare, token=TOKEN) as server:
        late[server.url] = server
        address = parse_address(f"{server.url}/{NAME}.git", environ={})
        call.prepare(server)
        server.faults.add(fault.plan(call.method, call.path, times, server))
        client = GitHubClient(
            address,
            token=call.token(server, ceil(_NEVER_S)),
            timeout_s=_NEVER_S,
            policy=clock.policy(),
            environ={},
            home=home,
        )
        with closing(client), client.deadline():
            outcome = _try(call, client)
        requests, waited_s, pulls = len(server.requests), clock.waited_s, len(_pulls(server))
        # A fault that never happened would make the cell a success.
        assert (times == 1) is not bool(server.faults.pending), (call.title, fault.title)
        server.faults.clear()
        afterwards = outcome
        if outcome != "succeeds":
            again = GitHubClient(
                address,
                token=call.token(server, ceil(_NEVER_S)),
                timeout_s=_NEVER_S,
                policy=RetryPolicy(attempts=1),
                home=home,
            )
            with closing(again):
                afterwards = _try(call, again)
        return _Cell(outcome, requests, waited_s, pulls, afterwards, len(_pulls(server)))


def _pulls(server: GitHubServer) -> list[str]:
    """Return the addresses of the lane's pull requests, by whatever name."""
    for name in (NAME, "octo/gadgets"):
        try:
            return [pull.html_url for pull in server.pulls(name) if pull.head == HEAD]
        except ValueError:
            continue
    raise AssertionError("the repository is gone")


@contextmanager
def _keys_checked_once() -> Iterator[None]:
    """Remember keys: OpenSSL's checks of one take 30 ms, and here it is always the same."""
    with pytest.MonkeyPatch.context() as patch:
        real = serialization.load_pem_private_key
        patch.setattr(serialization, "load_pem_private_key", functools.cache(real))
        yield


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> _Table:
    """Return every cell; those that wait for the real clock do so at the same time."""
    bare, home = make_remote(tmp_path_factory.mktemp("remote")), tmp_path_factory.mktemp("home")
    add_lane(bare, NEXT)
    wanted = [
        (call, fault, times)
        for fault in FAULTS
        for call in CALLS
        for times in ((1, _ALWAYS) if fault.for_ever else (1,))
    ]
    # Those that wait longest begin first.
    wanted.sort(key=lambda one: (one[1].takes_time, one[2]), reverse=True)
    with _keys_checked_once(), impatience() as late, ThreadPoolExecutor(24) as pool:
        cells = pool.map(lambda one: _measure(bare, home, *one, late=late), wanted)
        return {
            (call.title, fault.title, times): cell
            for (call, fault, times), cell in zip(wanted, cells, strict=True)
        }


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.title)
def test_no_fault_makes_a_second_pull_request_or_loses_the_one(call: Call, table: _Table) -> None:
    """Never two; after a success what there should be; and the next call mends the rest."""
    for (title, fault, times), cell in table.items():
        if title != call.title:
            continue
        where = f"{title}, {fault}, {times}: {cell}"
        assert cell.pulls <= max(1, call.pulls), where
        if cell.outcome == "succeeds":
            assert cell.pulls == call.pulls, where
        assert (cell.afterwards, cell.pulls_afterwards) == ("succeeds", call.pulls), where


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.title)
def test_no_fault_makes_a_call_endless(call: Call, table: _Table) -> None:
    """Requests and waits stay within the policy, whatever the server does."""
    policy = RetryPolicy()
    for (title, fault, times), cell in table.items():
        if title != call.title:
            continue
        where = f"{title}, {fault}, {times}: {cell}"
        assert cell.waited_s < policy.deadline_s, where
        # Each of a write's attempts has one look, and a look may have its own repetitions.
        assert cell.requests <= 2 * policy.attempts + 3, where


def test_a_failure_that_passes_once_is_nobodys_business(table: _Table) -> None:
    """One bad answer that says nothing, or asks for a short pause, is overcome."""
    passing = ("50", "answer", "silence", "page", "empty", "{}", "202", "204", "422")
    for (title, fault, times), cell in table.items():
        if times == 1 and fault.startswith(passing):
            assert cell.outcome == "succeeds", (title, fault, cell)


def test_every_fault_of_the_double_is_tried(tmp_path: Path) -> None:
    """A new kind of fault has to be tried as well; a refused ref is the git server's."""
    with GitHubServer(make_remote(tmp_path)) as server:
        planned = {fault.plan("GET", "/", 1, server).kind for fault in FAULTS}
    assert planned == set(FaultKind) - {FaultKind.REFUSE_REF}


def _render(table: _Table) -> str:
    """Write the page."""
    policy = RetryPolicy()
    lines = [
        "# When GitHub misbehaves",
        "",
        "Written by a test, which compares it with what happens:",
        "",
        "```bash",
        "REWRITE_GITHUB_FAULTS=1 python -m pytest tests/fault/test_github_misbehaves.py",
        "```",
        "",
        "Each table is one call, each line one fault of `agentrelay.workstream.testing.Fault`,",
        "once and, for some, without an end. A cell says what the caller sees · how many requests",
        "were sent in all · how long was waited, by the policy's clock, no jitter · how many",
        "pull requests the lane has afterwards. `concern` is a pull request that stands, with a",
        "sentence about what it lacks. The same call without the fault always succeeds afterwards.",
        "Every request of the library has a table: `tests/fault/test_every_request_is_tried.py`.",
        "",
        (
            f"The policy is the usual one: {policy.attempts} attempts, waits of "
            f"{policy.first_wait_s:g} s and doubling, {policy.longest_wait_s:g} s at most, "
            f"{policy.deadline_s:g} s in all."
        ),
    ]
    for call in CALLS:
        lines += ["", f"## {call.title}", "", "| fault | once | without end |", "|---|---|---|"]
        for fault in FAULTS:
            cells = [table.get((call.title, fault.title, times)) for times in (1, _ALWAYS)]
            shown = " | ".join("" if cell is None else str(cell) for cell in cells)
            lines.append(f"| {fault.title} | {shown} |")
    return "\n".join([*lines, ""])


def test_the_page_says_what_happens(table: _Table) -> None:
    """The committed page is what was just measured."""
    text = _render(table)
    if os.environ.get("REWRITE_GITHUB_FAULTS"):
        _PAGE.write_text(text, encoding="utf-8")
    assert _PAGE.read_text(encoding="utf-8") == text
