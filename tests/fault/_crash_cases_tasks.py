"""Bringing branches together in a lane: tasks, and the base.

Cases as in ``_crash_cases.py``. A commit that is made anew by a repeat has the same id, because
the case says when it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import pygit2

from agentrelay.workstream import LaneConflictError, LaneWorkspace, WorkstreamRuntime, open_lane
from agentrelay.workstream.testing import World, commit_files, refs
from fixtures import scenarios
from tests.fault._crash_cases import Case, find_cases, standing
from tests.fault._crash_picture import reach

__all__ = ["CASES"]

_LANE_TIMEOUT_S: Final = 3.0
_TASK: Final = "agentrelay/nightly/write"
_REF: Final = f"refs/heads/{_TASK}"


@contextmanager
def _at_one_time() -> Iterator[None]:
    """Let commits have the same time in every run."""
    dates = {f"GIT_{role}_DATE": "1700000000 +0100" for role in ("AUTHOR", "COMMITTER")}
    os.environ.update(dates)
    try:
        yield
    finally:
        for name in dates:
            del os.environ[name]


def _case(
    scene: scenarios.Scene,
    act: Callable[[LaneWorkspace], object],
    may_go: frozenset[str] = frozenset(),
) -> Case:
    """Do something with the lane's workspace."""

    def open_and_act(runtime: WorkstreamRuntime) -> None:
        with _at_one_time():
            act(open_lane(runtime, lane_timeout_s=_LANE_TIMEOUT_S))

    return Case(scene.repo, scene.runtime, open_and_act, may_go)


def _at_work(world: World, *, is_pushed: bool = False) -> scenarios.Scene:
    """Return a lane with a commit and a draft, and a task with two commits started from it."""
    scene = scenarios.unpushed_commits(world)
    lane = open_lane(scene.runtime)
    lane.start_task("write", push=is_pushed)
    for number in (1, 2):
        files = {"README.md": f"{number}\n", f"deep/er/{number}.txt": "1\n"}
        gone: dict[str, str | None] = {"run": None} if number == 1 else {}
        commit_files(scene.repo, {**files, **gone}, message=f"Task {number}", branch=_TASK)
    if is_pushed:
        lane.start_task("write", push=True)
    commit_files(scene.lane.worktree_path, {"more.py": "1\n"}, message="More")
    (scene.lane.worktree_path / "draft.txt").write_text("ours\n")
    return scene


# -- tasks


def start_task_for_all(world: World) -> Case:
    """Here and at the remote; nothing is there yet."""
    scene = scenarios.unpushed_commits(world)
    return _case(scene, lambda lane: lane.start_task("write", push=True))


def merge_task_as_a_squash(world: World) -> Case:
    """One commit, with the message of the caller."""
    return _case(_at_work(world), lambda lane: lane.merge_task("write", "squash", message="W"))


def merge_task_as_a_rebase(world: World) -> Case:
    """Two commits, of which a repeat must make neither twice."""
    return _case(_at_work(world), lambda lane: lane.merge_task("write", "rebase"))


def finish_task_everywhere(world: World) -> Case:
    """It was squashed, so its commits may go; its note and its upstream go with it."""
    scene = _at_work(world, is_pushed=True)
    open_lane(scene.runtime).merge_task("write", "squash")
    before = reach(world, scene.repo)
    doomed = [scene.repo / ".git" / name for name in (_REF, f"refs/remotes/origin/{_TASK}")]
    there = world.remote_path / _REF
    kept = {path: path.read_bytes() for path in [*doomed, there]}
    for path in kept:
        path.unlink()
    may_go = before - reach(world, scene.repo)
    for path, data in kept.items():
        path.write_bytes(data)
    assert may_go

    def act(lane: LaneWorkspace) -> None:
        lane.finish_task("write", remote=True)
        names = [*refs(scene.repo), *refs(world.remote_path)]
        assert [name for name in names if "write" in name] == []

    return _case(scene, act, may_go)


# -- sync


def _behind(world: World, **files: str | None) -> scenarios.Scene:
    """Return a lane with a commit that was not pushed, whose base got one."""
    scene = standing(world)
    ours = {"ours.txt": "1\n", "README.md": "ours\n"}
    commit_files(scene.lane.worktree_path, ours, message="Ours")
    (scene.lane.worktree_path / "draft.txt").write_text("ours\n")
    commit_files(world.remote_path, files, message="Base", branch="main")
    return scene


def sync_by_a_merge(world: World) -> Case:
    """Files are changed, added and removed; a draft is not in the way."""
    scene = _behind(world, run=None, deep="1\n")
    return _case(scene, lambda lane: lane.sync())


def sync_by_a_rebase(world: World) -> Case:
    """The former commit is in the reflogs only; all it holds is in the new one."""
    scene = _behind(world, run=None, deep="1\n")
    handle = pygit2.Repository(str(scene.lane.worktree_path))
    former = handle.head.peel(pygit2.Commit)
    may_go = frozenset({str(former.id), str(former.tree_id)})
    return _case(scene, lambda lane: lane.sync("rebase"), may_go)


def sync_that_leaves_conflicts(world: World) -> Case:
    """Markers, stages, and last what says that there is a merge."""
    files: dict[str, str | None] = {"README.md": "base\n", "new.txt": "1\n", "run": None}
    scene = _behind(world, **files)

    def act(lane: LaneWorkspace) -> None:
        # What a repeat says of a merge that was left before the end of the run.
        with suppress(LaneConflictError):
            lane.sync(leave_conflicts=True)
        assert lane.status().operation == "merge"
        assert lane.status().conflicted == ("README.md",)

    return _case(scene, act)


CASES: Final = find_cases(sys.modules[__name__])
