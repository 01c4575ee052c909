"""Durations: a finite number of seconds, or a clear refusal before anything is done."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agentrelay.workstream import (
    GhIntegrationAutoMerger,
    GhIntegrationMergeChecker,
    GhWorkstreamIntegrator,
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    RepositoryError,
    WorkstreamRuntime,
    WorkstreamSpec,
)
from agentrelay.workstream._durations import check_seconds, check_whole_seconds

# More digits than Python turns into text.
_HUGE = 10**6000

_FIVE: Any = 5

_NO_DURATION: tuple[Any, ...] = (
    -1,
    -5,
    -0.001,
    math.inf,
    -math.inf,
    math.nan,
    1e12,
    _HUGE,
    "3",
    b"3",
    None,
    True,
    Decimal(3),
    [3],
)


def _id(value: object) -> str:
    return "huge" if value == _HUGE else repr(value)


@pytest.mark.parametrize("value", [0, 0.0, 0.25, 1, 3600, 1e9, threading.TIMEOUT_MAX])
def test_any_time_a_lock_can_wait_is_a_duration(value: float) -> None:
    """From not at all to as long as the platform can count."""
    check_seconds("lane_timeout_s", value)


@pytest.mark.parametrize("value", _NO_DURATION, ids=_id)
def test_what_no_clock_can_count_is_no_duration(value: Any) -> None:
    """The setting and the value are named, and what is accepted."""
    with pytest.raises(RepositoryError, match=r"^lane_timeout_s is ") as caught:
        check_seconds("lane_timeout_s", value)
    assert "finite number of seconds" in str(caught.value.hint)
    assert f"{threading.TIMEOUT_MAX:.0f}" in str(caught.value.hint)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("value", [1, 15, 3600, 2**31 // 1000])
def test_any_whole_time_a_socket_can_wait_is_accepted(value: int) -> None:
    """A socket counts milliseconds in 31 bits; beyond that it would wait hardly at all."""
    check_whole_seconds("api_timeout_s", value)


@pytest.mark.parametrize("value", [0, 0.5, 1.0, 2**31 // 1000 + 1, *_NO_DURATION], ids=_id)
def test_what_is_no_whole_second_is_refused_for_the_api(value: Any) -> None:
    """The backend takes nothing else, and a truth value is no number here."""
    with pytest.raises(RepositoryError, match=r"^api_timeout_s is ") as caught:
        check_whole_seconds("api_timeout_s", value)
    assert "whole number of seconds" in str(caught.value.hint)


def _prepare(part: Any, runtime: WorkstreamRuntime) -> None:
    part.prepare_workstream(runtime)


def _integrate(part: Any, runtime: WorkstreamRuntime) -> None:
    part.create_integration_pr(runtime)


def _tear_down(part: Any, runtime: WorkstreamRuntime) -> None:
    part.teardown_workstream(runtime)


@pytest.mark.parametrize(
    ("make", "step", "names"),
    [
        (
            lambda path: GitWorkstreamPreparer(path, "nightly"),
            _prepare,
            ("lane_timeout_s", "network_timeout_s"),
        ),
        (
            GhWorkstreamIntegrator,
            _integrate,
            ("lane_timeout_s", "network_timeout_s", "api_timeout_s"),
        ),
        (
            GitWorkstreamTeardown,
            _tear_down,
            ("lane_timeout_s", "network_timeout_s", "api_timeout_s"),
        ),
    ],
    ids=["prepare", "integrate", "teardown"],
)
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "3", None])
def test_a_step_refuses_a_duration_before_it_does_anything(
    tmp_path: Path,
    make: Callable[[Path], Any],
    step: Callable[[Any, WorkstreamRuntime], None],
    names: tuple[str, ...],
    value: Any,
) -> None:
    """Constructing accepts it; the step names the setting, whatever else is wrong."""
    for name in names:
        part = replace(make(tmp_path / "nowhere"), **{name: value})
        runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
        with pytest.raises(RepositoryError, match=rf"^{name} is "):
            step(part, runtime)
        assert runtime == WorkstreamRuntime(WorkstreamSpec("parser"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda path, lane: GhWorkstreamIntegrator(path, policy=_FIVE).create_integration_pr(lane),
        lambda path, lane: GitWorkstreamTeardown(path, policy=_FIVE).teardown_workstream(lane),
        lambda path, lane: GhIntegrationAutoMerger(path, policy=_FIVE).merge_integration_pr(lane),
        lambda path, lane: GhIntegrationMergeChecker(path, policy=_FIVE).check_merged(lane),
        lambda path, lane: next(
            GhIntegrationMergeChecker(path, policy=_FIVE).watch([lane], until_s=9)
        ),
    ],
    ids=["integrate", "teardown", "merge", "check", "watch"],
)
def test_a_policy_that_is_none_is_refused_before_anything_is_done(
    tmp_path: Path, ask: Callable[[Path, WorkstreamRuntime], object]
) -> None:
    """A number of seconds, say: the setting is named, and what it should be."""
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    with pytest.raises(RepositoryError, match=r"^policy is of type int$") as caught:
        ask(tmp_path / "nowhere", runtime)
    assert "RetryPolicy" in str(caught.value.hint)
    assert runtime == WorkstreamRuntime(WorkstreamSpec("parser"))
    assert list(tmp_path.iterdir()) == []
