"""Whoever wants to know how far a lane's files are is told, and disturbs nothing."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from agentrelay.workstream import (
    CheckoutProgress,
    GitWorkstreamPreparer,
    WorkstreamRuntime,
    WorkstreamSpec,
)
from agentrelay.workstream.cli.meter import Meter
from agentrelay.workstream.testing.repositories import (
    clone_repository,
    commit_files,
    create_bare_repository,
    read_tree,
)

FILES = {f"src/pkg{number // 40}/file{number}.py": f"x = {number}\n" for number in range(1_100)}


@pytest.fixture(params=["", "*.py text eol=crlf\n"], ids=["plain", "converted"])
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A checkout with many files, written as they are stored or not."""
    bare = create_bare_repository(tmp_path / "bare.git")
    files = {**FILES, ".gitattributes": request.param}
    commit_files(bare, files, message="Many", branch="main")
    return clone_repository(bare, tmp_path / "project")


def test_progress_comes_to_all_files_and_never_goes_back(project: Path) -> None:
    """It names the lane, and ends where every file is there."""
    told: list[CheckoutProgress] = []
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    preparer = GitWorkstreamPreparer(project, "nightly", progress=told.append)
    preparer.prepare_workstream(runtime)
    assert {progress.workstream_id for progress in told} == {"parser"}
    done = [progress.files_done for progress in told]
    assert done == sorted(done)
    assert len(set(done)) > 2
    content = read_tree(project, "refs/heads/main")
    assert {progress.files_total for progress in told} == {len(content)}
    assert done[-1] == len(content)
    assert told[-1].bytes_done in {0, sum(map(len, content.values()))}


def test_a_listener_that_fails_breaks_no_lane(project: Path) -> None:
    """It is not called again, and the lane says so."""
    calls: list[int] = []

    def fail(progress: CheckoutProgress) -> None:
        calls.append(progress.files_done)
        raise ValueError("no such bar")

    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    GitWorkstreamPreparer(project, "nightly", progress=fail).prepare_workstream(runtime)
    assert len(calls) == 1
    assert runtime.artifacts.concerns == ["progress could not be reported: ValueError: no such bar"]
    assert runtime.state.worktree_path is not None
    assert len(list((runtime.state.worktree_path / "src").rglob("file*.py"))) == len(FILES)


def test_a_meter_sums_up_all_lanes_and_only_on_a_terminal() -> None:
    """A file or a pipe gets nothing at all."""
    meter = Meter()
    meter(CheckoutProgress("early", 0, 0, 0))
    terminal = io.StringIO()
    with meter.show(Console(file=terminal, force_terminal=True, width=100), "Preparing a, b"):
        meter(CheckoutProgress("a", 500, 2_000, 1))
        meter(CheckoutProgress("b", 1_000, 2_000, 1))
    assert "1,500 of 4,000 files" in terminal.getvalue()
    assert "Preparing a, b" in terminal.getvalue()
    pipe = io.StringIO()
    with meter.show(Console(file=pipe, force_terminal=False), "Preparing a, b"):
        meter(CheckoutProgress("a", 2_000, 2_000, 1))
    assert pipe.getvalue().strip() == ""
