"""Reconciling that was stopped anywhere is finished by reconciling again.

The points are not listed anywhere: a tracer counts the lines of the package that an
undisturbed run executes, and a run of its own is then stopped at every so-many-th.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pygit2
import pytest

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    LaneOutcome,
    WorkstreamRuntime,
    WorkstreamSpec,
    implementations,
    reconcile,
)
from agentrelay.workstream.testing.repositories import (
    clone_repository,
    commit_files,
    create_bare_repository,
    read_tree,
    refs,
)

_SOURCE: Final = str(Path(implementations.__file__).parent.parent)
# A stop takes a tenth of a second, and each is next to one that is tried.
_STRIDE: Final = 149


# What is interrupted while it is made is taken apart half made.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Stopped(BaseException):
    """The run is over, at the tracer's word."""


def run_until(stop_at: int | None, action: Callable[[], object]) -> int:
    """Run an action, stop it at its n-th new line of the package, and count those lines."""
    seen: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        del argument
        name = frame.f_code.co_filename
        if not name.startswith(_SOURCE) or "testing" in name:
            return None
        if event == "line" and (name, frame.f_lineno) not in seen:
            seen.add((name, frame.f_lineno))
            if len(seen) == stop_at:
                raise Stopped
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except Stopped:
        pass
    finally:
        sys.settrace(before)
    return len(seen)


class Place:
    """One clone with a lane to complete, one to remove, and a tree to sweep."""

    def __init__(self, root: Path) -> None:
        """Make them: a folder deleted by hand, and a teardown that was begun."""
        self.bare = create_bare_repository(root / "origin.git")
        self.repo = clone_repository(self.bare, root / "clone")
        parser, lexer = self._prepare("parser"), self._prepare("lexer")
        shutil.rmtree(parser)
        self.work = commit_files(lexer, {"work.py": "pass"}, message="work")
        (lexer / "draft.txt").write_text("draft")
        record = self.repo / ".workflow/nightly/workstreams/lexer/lane.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "ending": True}))
        (self.repo / ".worktrees/.trash/gone-1/x").mkdir(parents=True)

    def _prepare(self, workstream_id: str) -> Path:
        runtime = WorkstreamRuntime(WorkstreamSpec(workstream_id))
        GitWorkstreamPreparer(self.repo, "nightly").prepare_workstream(runtime)
        assert runtime.state.worktree_path is not None
        return runtime.state.worktree_path

    def picture(self) -> dict[str, Any]:
        """Return what a user could look at, without what was kept and without the path."""
        worktrees, signals = self.repo / ".worktrees", self.repo / ".workflow"
        return {
            "refs": {name: tip for name, tip in refs(self.repo).items() if "/rescue/" not in name},
            "remote": refs(self.bare),
            "worktrees": sorted(str(path.relative_to(worktrees)) for path in worktrees.rglob("*")),
            "entries": sorted(path.name for path in (self.repo / ".git/worktrees").glob("*")),
            "locked": sorted(path.name for path in (self.repo / ".git/worktrees").glob("*/locked")),
            "signals": sorted(str(path.relative_to(signals)) for path in signals.rglob("[!.]*")),
            "config": (self.repo / ".git/config").read_text().replace(str(self.repo.parent), ""),
            "status": pygit2.Repository(str(worktrees / "nightly/parser")).status(),
        }

    def assert_safe(self) -> None:
        """Assert that the commit and the draft are somewhere."""
        handle = pygit2.Repository(str(self.repo))
        tips = [str(handle.references[name].peel(pygit2.Commit).id) for name in refs(self.repo)]
        assert any(tip == self.work or handle.descendant_of(tip, self.work) for tip in tips)
        kept = [name for name in refs(self.repo) if name.endswith("/untracked")]
        draft = self.repo / ".worktrees/nightly/lexer/draft.txt"
        assert draft.exists() or any("draft.txt" in read_tree(self.repo, name) for name in kept)


# Stopped right after a file was opened, its end closes it: that is what Python warns of.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_reconciliation_stopped_anywhere_is_finished_by_the_next(tmp_path: Path) -> None:
    """Whatever line it ended at, the next ends as if nothing had happened, and loses nothing."""
    undisturbed = Place(tmp_path / "undisturbed")
    count = run_until(None, lambda: reconcile(undisturbed.repo))
    wanted = undisturbed.picture()
    undisturbed.assert_safe()
    assert count > 100
    for stop_at in range(1, count + 1, _STRIDE):
        disturbed = Place(tmp_path / f"stop-{stop_at}")
        run_until(stop_at, lambda place=disturbed: reconcile(place.repo))  # type: ignore[misc]  # a default binds it
        disturbed.assert_safe()
        found = reconcile(disturbed.repo)
        assert found.failed == ()
        assert disturbed.picture() == wanted, f"stopped at line {stop_at} of {count}"
        disturbed.assert_safe()
        again = reconcile(disturbed.repo)
        assert {lane.outcome for lane in again.lanes} == {LaneOutcome.LEFT}


def test_a_stop_is_not_an_accident_of_one_lane(tmp_path: Path) -> None:
    """An interruption ends the whole call; only failures become a lane's outcome."""
    place = Place(tmp_path)

    def interrupt(frame: FrameType, event: str, argument: Any) -> Any:
        del event, argument
        if frame.f_code.co_name == "clean_up":
            raise KeyboardInterrupt
        return None

    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            reconcile(place.repo)
    finally:
        sys.settrace(before)
    assert (place.repo / ".worktrees/nightly/lexer/draft.txt").exists()
