"""A process that is killed anywhere leaves a lane that the next call completes.

The points are not listed anywhere: a tracer counts the lines of the package that an
undisturbed run executes, and a child of its own is then killed at each of them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pygit2
import pytest

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    WorkstreamRuntime,
    WorkstreamSpec,
)
from agentrelay.workstream import implementations as package
from agentrelay.workstream.testing.repositories import (
    clone_repository,
    commit_files,
    create_bare_repository,
    read_tree,
    refs,
)

_SOURCE = str(Path(package.__file__).parent.parent)
# Every n-th distinct line is stopped at; the rest are next to one that is.
_STRIDE = 12

pytestmark = [
    pytest.mark.child,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked"),
    # A fork beside threads is fragile; these tests start none.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


class LineTracer:
    """Counts the distinct lines of the package as they run, and kills itself at one."""

    def __init__(self, stop_at: int | None = None) -> None:
        """Count for ever, or die at the n-th new line."""
        self.seen: dict[tuple[str, int], None] = {}
        self._stop_at = stop_at

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:  # noqa: ARG002 - the tracer's signature
        """Note a line of the package."""
        name = frame.f_code.co_filename
        if not name.startswith(_SOURCE) or "testing" in name:
            return None
        if event == "line" and (name, frame.f_lineno) not in self.seen:
            self.seen[name, frame.f_lineno] = None
            if len(self.seen) == self._stop_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def count_lines(action: Callable[[], object]) -> int:
    """Run an action and return how many distinct lines of the package it ran."""
    tracer = LineTracer()
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        action()
    finally:
        sys.settrace(before)
    return len(tracer.seen)


def kill_at(stop_at: int, action: Callable[[], object]) -> None:
    """Run an action in a child that is killed at its n-th new line of the package."""
    child = os.fork()
    if child == 0:
        sys.settrace(LineTracer(stop_at))
        try:
            action()
        finally:
            # Not killed: some lines run only once a process. No clean-up of the tests'.
            os._exit(0)
    os.waitpid(child, 0)


class Place:
    """One remote, one clone and one lane."""

    def __init__(self, root: Path) -> None:
        """Make them; nothing is prepared yet."""
        self.bare = create_bare_repository(root / "origin.git")
        self.repo = clone_repository(self.bare, root / "clone")
        self.runtime = WorkstreamRuntime(WorkstreamSpec("parser"))

    def prepare(self) -> None:
        """Prepare the lane, by a runtime that knows nothing: another process."""
        self.runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
        GitWorkstreamPreparer(self.repo, "nightly").prepare_workstream(self.runtime)

    def tear_down(self) -> None:
        """Tear the lane down, by a runtime read from disk: another process."""
        assert self.runtime.state.signal_dir is not None
        self.runtime = WorkstreamRuntime.load(self.runtime.state.signal_dir)
        GitWorkstreamTeardown(self.repo).teardown_workstream(self.runtime)

    def picture(self) -> dict[str, Any]:
        """Return everything a user could look at, without the place's own path."""
        worktrees = self.repo / ".worktrees"
        signals = self.repo / ".workflow/nightly/workstreams/parser"
        return {
            "refs": {name: tip for name, tip in refs(self.repo).items() if "/rescue/" not in name},
            "remote": refs(self.bare),
            "files": {
                str(path.relative_to(worktrees)): path.read_bytes()
                for path in sorted(worktrees.rglob("*"))
                if path.is_file() and path.name != ".git"
            },
            "status": [
                pygit2.Repository(str(path)).status()
                for path in sorted(worktrees.glob("*/*"))
                if path.parent.name != ".trash"
            ],
            "entries": sorted(path.name for path in (self.repo / ".git/worktrees").glob("*")),
            "locked": [path.name for path in (self.repo / ".git/worktrees").glob("*/locked")],
            "signals": sorted(path.name for path in signals.glob("[!.]*")),
            "lane": self.runtime.status.value,
            "config": (self.repo / ".git/config").read_text().replace(str(self.repo.parent), ""),
            "exclude": (self.repo / ".git/info/exclude").read_text(),
            "head": (self.repo / ".git/HEAD").read_text(),
            "locks": sorted(
                str(path.relative_to(self.repo))
                for path in (self.repo / ".git").rglob("*.lock")
                if "agentrelay" not in path.relative_to(self.repo / ".git").parts[0]
            ),
        }


@pytest.fixture
def place(tmp_path: Path) -> Callable[[str], Place]:
    """Return a maker of fresh places."""
    return lambda name: Place(tmp_path / name)


def test_a_prepare_stopped_anywhere_is_completed_by_the_next(
    place: Callable[[str], Place],
) -> None:
    """Whatever line the process ended at, a second prepare ends as if nothing had happened."""
    undisturbed = place("undisturbed")
    count = count_lines(undisturbed.prepare)
    wanted = undisturbed.picture()
    assert count > 100
    for stop_at in range(1, count + 1, _STRIDE):
        disturbed = place(f"stop-{stop_at}")
        kill_at(stop_at, disturbed.prepare)
        disturbed.prepare()
        assert disturbed.picture() == wanted, f"stopped at line {stop_at} of {count}"


def test_a_teardown_stopped_anywhere_is_completed_by_the_next_and_loses_nothing(
    place: Callable[[str], Place],
) -> None:
    """The lane goes in the second run at the latest; its work is under some ref all the time."""

    def ready(name: str) -> tuple[Place, str]:
        made = place(name)
        made.prepare()
        worktree = made.runtime.state.worktree_path
        assert worktree is not None
        work = commit_files(worktree, {"work.py": "pass"}, message="work")
        (worktree / "draft.txt").write_text("draft")
        return made, work

    def assert_safe(where: Place, work: str) -> None:
        handle = pygit2.Repository(str(where.repo))
        tips = [str(handle.references[name].peel(pygit2.Commit).id) for name in refs(where.repo)]
        assert any(tip == work or handle.descendant_of(tip, work) for tip in tips)
        draft = where.repo / ".worktrees/nightly/parser/draft.txt"
        kept = [name for name in refs(where.repo) if name.endswith("/untracked")]
        assert draft.exists() or any("draft.txt" in read_tree(where.repo, ref) for ref in kept)

    undisturbed, work = ready("undisturbed")
    count = count_lines(undisturbed.tear_down)
    wanted = undisturbed.picture()
    assert_safe(undisturbed, work)
    assert wanted["entries"] == []
    for stop_at in range(1, count + 1, _STRIDE):
        disturbed, work = ready(f"stop-{stop_at}")
        kill_at(stop_at, disturbed.tear_down)
        assert_safe(disturbed, work)
        disturbed.tear_down()
        assert_safe(disturbed, work)
        assert disturbed.picture() == wanted, f"stopped at line {stop_at} of {count}"
