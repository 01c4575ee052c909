"""Settings of another kind: a clear refusal before anything is done."""

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
    WorkstreamError,
    WorkstreamRuntime,
    WorkstreamSpec,
    reconcile,
)
from agentrelay.workstream._durations import check_path, check_seconds, check_whole_seconds

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


class _PathOfBytes:
    """A path-like object that is of no use to ``pathlib``."""

    def __fspath__(self) -> bytes:
        return b"/tmp"


@pytest.mark.parametrize("value", [5, None, b"/tmp", True, _PathOfBytes()], ids=_id)
def test_what_pathlib_takes_for_no_path_is_refused(value: Any) -> None:
    """Numbers, truth values and bytes, also as what an object says it is."""
    with pytest.raises(RepositoryError, match=r"^run_dir is .*, which is no path"):
        check_path("run_dir", value)


def test_a_path_may_be_text_and_need_not_exist() -> None:
    """As everywhere in Python."""
    check_path("run_dir", "")
    check_path("run_dir", "/nonexistent")
    check_path("run_dir", Path("nonexistent"))


_STEPS: dict[str, tuple[Callable[[Path], Any], Callable[[Any, WorkstreamRuntime], None]]] = {
    "prepare": (lambda path: GitWorkstreamPreparer(path, "nightly"), _prepare),
    "integrate": (GhWorkstreamIntegrator, _integrate),
    "teardown": (GitWorkstreamTeardown, _tear_down),
}


@pytest.mark.parametrize(
    ("names", "setting", "value", "says"),
    [
        ("prepare integrate teardown", "repo_path", 5, "^repo_path is 5, which is no path"),
        ("prepare integrate teardown", "repo_path", None, "^repo_path is None, which is no path"),
        ("prepare integrate teardown", "remote", 5, "^remote is 5, which is no text"),
        ("prepare integrate teardown", "remote", None, "^remote is None, which is no text"),
        ("prepare integrate teardown", "remote", b"o", "^remote is b'o', which is no text"),
        ("prepare integrate teardown", "ssh_key", 5, "^ssh_key is 5, which is no path"),
        ("prepare integrate teardown", "token", 5, "^token must be .*, not int"),
        ("prepare teardown", "run_dir", 5, "^run_dir is 5, which is no path"),
        ("prepare teardown", "run_dir", b"r", "^run_dir is b'r', which is no path"),
        ("prepare", "graph_name", 5, "^graph name <int> cannot name a lane: it must be text"),
        ("prepare", "graph_name", None, "^graph name <NoneType> cannot name a lane"),
    ],
)
def test_a_step_refuses_a_setting_of_another_kind_before_it_does_anything(
    tmp_path: Path, names: str, setting: str, value: Any, says: str
) -> None:
    """It is said the same way by every step, also of what was set after construction."""
    for name in names.split():
        make, step = _STEPS[name]
        part = make(tmp_path / "nowhere")
        setattr(part, setting, value)
        runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
        with pytest.raises(WorkstreamError, match=says) as caught:
            step(part, runtime)
        assert caught.value.hint is not None
        assert runtime == WorkstreamRuntime(WorkstreamSpec("parser"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", ["remote", "run_dir", "ssh_key"])
def test_reconcile_refuses_a_setting_of_another_kind(tmp_path: Path, setting: str) -> None:
    """Before it looks whether there is a repository."""
    with pytest.raises(RepositoryError, match=rf"^{setting} is 5, which is no "):
        reconcile(tmp_path / "nowhere", **{setting: 5})  # type: ignore[arg-type]  # a mistake
    assert list(tmp_path.iterdir()) == []
