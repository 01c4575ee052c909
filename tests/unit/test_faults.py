"""Faults as data: what they are meant for, and how a plan uses them up."""

from __future__ import annotations

import json
import re
import threading

import pytest

from agentrelay.workstream.testing.faults import Fault, FaultKind, FaultPlan


def test_a_fault_without_conditions_happens_to_the_next_request_and_only_to_it() -> None:
    """One fault, one request."""
    plan = FaultPlan()
    plan.add(Fault.status(500))
    assert plan.take("GET", "/a") == Fault.status(500)
    assert plan.take("GET", "/a") is None


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/repos/o/r/pulls", True),
        ("GET", "/repos/o/r/pulls", False),
        ("POST", "/repos/o/r/issues", False),
        ("POST", "/repos/o/r/pulls?page=2", True),
    ],
)
def test_a_fault_waits_for_its_method_and_its_path(
    method: str, path: str, *, expected: bool
) -> None:
    """The method is compared, and the path is searched for the pattern with its query."""
    plan = FaultPlan()
    plan.add(Fault.silence(method="post", path=r"/pulls(\?|$)"))
    assert (plan.take(method, path) is not None) is expected
    assert bool(plan.pending) is not expected


def test_faults_happen_in_the_order_in_which_they_were_planned() -> None:
    """A later fault waits for the earlier ones that fit the same request."""
    plan = FaultPlan()
    plan.add(Fault.status(500, times=2), Fault.status(502))
    taken = [plan.take("GET", "/") for _ in range(4)]
    assert [fault and fault.code for fault in taken] == [500, 500, 502, None]


def test_pending_tells_how_often_each_fault_is_still_to_come() -> None:
    """What was used up is gone, and ``times`` is what is left."""
    plan = FaultPlan()
    plan.add(Fault.drop_answer(times=3), Fault.cut(4))
    plan.take("GET", "/")
    assert plan.pending == (Fault.drop_answer(times=2), Fault.cut(4))
    plan.clear()
    assert not plan.pending


def test_a_refused_ref_is_not_used_up_by_requests() -> None:
    """Requests pass a planned refusal by; the ref it names takes it, once."""
    plan = FaultPlan()
    plan.add(Fault.refuse_ref("refs/heads/main", "protected branch"))
    assert plan.take("POST", "/git-receive-pack") is None
    assert plan.take_ref("refs/heads/other") is None
    taken = plan.take_ref("refs/heads/main")
    assert taken is not None
    assert taken.reason == "protected branch"
    assert plan.take_ref("refs/heads/main") is None


def test_many_threads_take_each_occurrence_exactly_once() -> None:
    """A fault planned a hundred times happens a hundred times, whoever asks."""
    plan = FaultPlan()
    plan.add(Fault.status(503, times=100))
    taken: list[Fault] = []

    def take() -> None:
        for _ in range(50):
            fault = plan.take("GET", "/")
            if fault is not None:
                taken.append(fault)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 100
    assert not plan.pending


def test_a_status_without_a_body_speaks_as_github_does() -> None:
    """The message is the status's own phrase unless told; an unknown status has one too."""
    assert json.loads(Fault.status(502).body) == {"message": "Bad Gateway", "status": "502"}
    assert json.loads(Fault.status(500, message="Server Error").body)["message"] == "Server Error"
    assert json.loads(Fault.status(599).body)["message"] == "Error"
    assert Fault.status(500, body="").body == b""


def test_a_primary_rate_limit_has_no_requests_left_and_a_secondary_one_has() -> None:
    """Clients cannot go by the remaining requests: the texts tell the two apart."""
    primary = Fault.rate_limit(retry_after_s=7)
    secondary = Fault.rate_limit(secondary=True, code=429)
    assert dict(primary.headers)["x-ratelimit-remaining"] == "0"
    assert dict(primary.headers)["retry-after"] == "7"
    assert b"API rate limit exceeded" in primary.body
    assert dict(secondary.headers)["x-ratelimit-remaining"] != "0"
    assert "retry-after" not in dict(secondary.headers)
    assert b"secondary rate limit" in secondary.body
    assert (primary.code, secondary.code) == (403, 429)


def test_a_redirect_names_the_new_place_twice() -> None:
    """The header is for programs, the body is GitHub's."""
    fault = Fault.redirect("http://127.0.0.1/repositories/1", code=307)
    assert fault.code == 307
    assert dict(fault.headers)["location"] == json.loads(fault.body)["url"]


@pytest.mark.parametrize(
    "fields",
    [{"times": 0}, {"after_bytes": -1}, {"pause_s": -0.1}, {"path": "("}],
    ids=["never", "fewer than no bytes", "into the past", "no pattern"],
)
def test_a_fault_that_could_never_happen_is_refused_where_it_is_written(
    fields: dict[str, object],
) -> None:
    """A plan is checked when it is made: later it would only look like a passing test."""
    with pytest.raises((ValueError, re.error)):
        Fault(FaultKind.CUT, **fields)  # type: ignore[arg-type]  # wrong on purpose


def test_an_answer_cannot_dribble_nothing_at_a_time() -> None:
    """No chunk size below one byte ends."""
    with pytest.raises(ValueError, match="at least one byte"):
        Fault.dribble(0, 0.1)
