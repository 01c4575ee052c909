"""The standard runner: what each step leaves on the runtime, whatever its parts do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from agentrelay.workstream import (
    StandardWorkstreamRunner,
    WorkstreamIntegrator,
    WorkstreamPreparer,
    WorkstreamRunner,
    WorkstreamRunResult,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamState,
    WorkstreamStatus,
    WorkstreamTeardown,
)
from agentrelay.workstream.errors import RemoteUnavailableError

_URL = "https://github.example/owner/name/pull/7"
_TOKEN = "ghp_0123456789abcdefghij"


@dataclass
class _Parts:
    """A user's own preparer, integrator and teardown in one: it works or raises as told."""

    signal_dir: Path | None
    broken: dict[str, BaseException] = field(default_factory=dict)
    integrates: Callable[[WorkstreamRuntime], None] = lambda runtime: runtime.mark_pr_created(_URL)

    def prepare_workstream(self, workstream_runtime: WorkstreamRuntime) -> None:
        if "prepare early" in self.broken:
            raise self.broken["prepare early"]
        workstream_runtime.state.signal_dir = self.signal_dir
        workstream_runtime.mark_pending()
        if "prepare" in self.broken:
            raise self.broken["prepare"]

    def create_integration_pr(self, workstream_runtime: WorkstreamRuntime) -> None:
        if "integrate" in self.broken:
            raise self.broken["integrate"]
        self.integrates(workstream_runtime)

    def teardown_workstream(self, workstream_runtime: WorkstreamRuntime) -> None:
        if "teardown" in self.broken:
            raise self.broken["teardown"]
        workstream_runtime.artifacts.concerns.append("torn down")

    def runner(self) -> StandardWorkstreamRunner:
        return StandardWorkstreamRunner(self, self, self)


@pytest.fixture
def parts(tmp_path: Path) -> _Parts:
    """Working parts that keep their signals in the test's directory."""
    return _Parts(tmp_path / "signals")


@pytest.fixture
def lane() -> WorkstreamRuntime:
    """A runtime that nobody has touched."""
    return WorkstreamRuntime(WorkstreamSpec("parser"))


# --- the shape --------------------------------------------------------------------------


def test_the_runner_takes_its_parts_by_the_documented_names(parts: _Parts) -> None:
    """Positions and names of the three parts are fixed; only what is new has a default."""
    runner = StandardWorkstreamRunner(_preparer=parts, _integrator=parts, _teardown=parts)
    assert runner == StandardWorkstreamRunner(parts, parts, parts)
    fields = dataclasses.fields(StandardWorkstreamRunner)
    needed = [entry.name for entry in fields if not entry.kw_only]
    assert needed == ["_preparer", "_integrator", "_teardown"]
    assert [entry.default for entry in fields if entry.kw_only] == [None, None]
    with pytest.raises(TypeError):
        cast("Any", StandardWorkstreamRunner)(parts, parts)


def test_anything_with_the_right_methods_is_a_part(parts: _Parts) -> None:
    """Protocols are structural and can be asked at run time."""
    assert isinstance(parts, WorkstreamPreparer)
    assert isinstance(parts, WorkstreamIntegrator)
    assert isinstance(parts, WorkstreamTeardown)
    assert isinstance(parts.runner(), WorkstreamRunner)
    assert not isinstance(parts, WorkstreamRunner)
    for protocol in (WorkstreamPreparer, WorkstreamIntegrator, WorkstreamTeardown):
        assert not isinstance(parts.runner(), protocol)


def test_a_result_is_a_snapshot_that_does_not_follow_the_lane(tmp_path: Path) -> None:
    """Id, status and error are those of the moment; the error is optional."""
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"), WorkstreamState(signal_dir=tmp_path))
    runtime.mark_active()
    result = WorkstreamRunResult.from_runtime(runtime)
    runtime.mark_failed("later")
    assert result == WorkstreamRunResult("parser", WorkstreamStatus.ACTIVE)
    assert result.error is None
    assert WorkstreamRunResult.from_runtime(runtime) == WorkstreamRunResult(
        workstream_id="parser", status=WorkstreamStatus.FAILED, error="later"
    )
    with pytest.raises(AttributeError):
        cast("Any", result).error = "changed"


# --- prepare ----------------------------------------------------------------------------


def test_prepare_makes_a_pending_lane_active(parts: _Parts, lane: WorkstreamRuntime) -> None:
    """Success is ACTIVE, without an error or a concern."""
    parts.runner().prepare(lane)
    assert lane.status is WorkstreamStatus.ACTIVE
    assert lane.state.error is None
    assert lane.artifacts.concerns == []


@pytest.mark.parametrize("moment", ["prepare early", "prepare"])
def test_a_failed_prepare_is_recorded_and_raised_again(
    parts: _Parts, lane: WorkstreamRuntime, moment: str
) -> None:
    """The very same exception reaches the caller, and the lane is FAILED with its name."""
    error = RemoteUnavailableError("no answer", url="https://host/x")
    parts.broken[moment] = error
    with pytest.raises(RemoteUnavailableError) as caught:
        parts.runner().prepare(lane)
    assert caught.value is error
    assert lane.state.error == "RemoteUnavailableError: no answer"
    assert lane.status is WorkstreamStatus.FAILED
    on_disk = cast("Path", parts.signal_dir) / "failed"
    assert on_disk.exists() == (moment == "prepare")


def test_a_lane_that_failed_once_and_now_succeeds_leaves_failed_behind(
    parts: _Parts, lane: WorkstreamRuntime
) -> None:
    """A retry is a fresh start: ACTIVE, no error, and the old one in the history."""
    parts.broken["prepare"] = OSError("disk full")
    with pytest.raises(OSError, match="disk full"):
        parts.runner().prepare(lane)
    del parts.broken["prepare"]
    parts.runner().prepare(lane)
    assert lane.status is WorkstreamStatus.ACTIVE
    assert lane.state.error is None
    history = cast("Path", parts.signal_dir) / "history.jsonl"
    assert "OSError: disk full" in history.read_text()


def test_an_interrupt_is_not_mistaken_for_a_failure(parts: _Parts, lane: WorkstreamRuntime) -> None:
    """Ctrl-C passes through every step at once and records nothing."""
    for step in ("prepare early", "integrate", "teardown"):
        parts.broken = {step: KeyboardInterrupt()}
        with pytest.raises(KeyboardInterrupt):
            getattr(parts.runner(), step.split()[0])(lane)
    assert lane == WorkstreamRuntime(WorkstreamSpec("parser"))


def test_a_disk_that_refuses_the_signal_does_not_hide_the_error(
    parts: _Parts, lane: WorkstreamRuntime
) -> None:
    """The caller gets the step's own error; the refusal becomes a concern."""
    assert parts.signal_dir is not None
    (parts.signal_dir / "failed").mkdir(parents=True)
    parts.broken["prepare"] = ValueError("the real reason")
    with pytest.raises(ValueError, match="the real reason"):
        parts.runner().prepare(lane)
    assert lane.state.error == "ValueError: the real reason"
    assert [text for text in lane.artifacts.concerns if "failed signal" in text]


# --- integrate --------------------------------------------------------------------------


def test_integrate_returns_the_lane_with_its_pull_request(
    parts: _Parts, lane: WorkstreamRuntime
) -> None:
    """Success is PR_CREATED, in the result and on the runtime."""
    parts.runner().prepare(lane)
    result = parts.runner().integrate(lane)
    assert result == WorkstreamRunResult("parser", WorkstreamStatus.PR_CREATED)
    assert lane.artifacts.merge_pr_url == _URL


def test_a_lane_with_nothing_to_merge_is_merged(parts: _Parts, lane: WorkstreamRuntime) -> None:
    """The integrator decides the status; the runner only reports it."""
    parts.integrates = WorkstreamRuntime.mark_merged
    parts.runner().prepare(lane)
    assert parts.runner().integrate(lane).status is WorkstreamStatus.MERGED


def test_a_failed_integrate_is_returned_and_not_raised(
    parts: _Parts, lane: WorkstreamRuntime
) -> None:
    """The result carries the error as ``TypeName: message``; so does the lane."""
    parts.runner().prepare(lane)
    parts.broken["integrate"] = RemoteUnavailableError("no answer", url="https://host/x")
    result = parts.runner().integrate(lane)
    assert result == WorkstreamRunResult(
        "parser", WorkstreamStatus.FAILED, "RemoteUnavailableError: no answer"
    )
    assert lane.state.error == result.error
    assert lane.status is WorkstreamStatus.FAILED


def test_a_later_integrate_that_succeeds_leaves_failed_behind(
    parts: _Parts, lane: WorkstreamRuntime
) -> None:
    """One failed attempt does not stick to the lane."""
    parts.runner().prepare(lane)
    parts.broken["integrate"] = OSError("once")
    parts.runner().integrate(lane)
    parts.broken.clear()
    assert parts.runner().integrate(lane) == WorkstreamRunResult(
        "parser", WorkstreamStatus.PR_CREATED
    )


def test_integrating_a_lane_that_was_never_prepared_is_a_failed_result(
    parts: _Parts, lane: WorkstreamRuntime
) -> None:
    """The runner reports it; it does not raise and does not invent a directory."""
    result = parts.runner().integrate(lane)
    assert result.status is WorkstreamStatus.FAILED
    assert result.error is not None
    assert result.error.startswith("WorkstreamError: ")
    assert lane.state.signal_dir is None


# --- teardown ---------------------------------------------------------------------------


def test_teardown_keeps_the_status(parts: _Parts, lane: WorkstreamRuntime) -> None:
    """A lane that was torn down is still what it had become."""
    parts.runner().prepare(lane)
    parts.runner().integrate(lane)
    parts.runner().teardown(lane)
    assert lane.status is WorkstreamStatus.PR_CREATED
    assert lane.artifacts.concerns == ["torn down"]


def test_a_failed_teardown_becomes_a_concern(parts: _Parts, lane: WorkstreamRuntime) -> None:
    """It never raises, never changes the status, and is listed once however often tried."""
    parts.runner().prepare(lane)
    parts.broken["teardown"] = OSError("busy")
    parts.runner().teardown(lane)
    parts.runner().teardown(lane)
    assert lane.artifacts.concerns == ["teardown_failed: busy"]
    assert lane.status is WorkstreamStatus.ACTIVE
    assert lane.state.error is None


# --- secrets ----------------------------------------------------------------------------


def test_a_foreign_exception_cannot_carry_a_secret_into_the_lane(
    parts: _Parts, lane: WorkstreamRuntime
) -> None:
    """Whatever text a part raises is masked in error, result, concern and signal."""
    leak = RuntimeError(f"https://robin:{_TOKEN}@host/x refused {_TOKEN}")
    parts.broken = {"integrate": leak, "teardown": leak}
    parts.runner().prepare(lane)
    result = parts.runner().integrate(lane)
    parts.runner().teardown(lane)
    on_disk = (cast("Path", parts.signal_dir) / "failed").read_text()
    assert _TOKEN not in f"{lane!r}{result!r}{on_disk}"
    assert result.error == "RuntimeError: https://host/x refused ***"
