"""Whatever a lane's state claims and however it ended, it is torn down by the same rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentrelay.workstream import WorkstreamRuntime, WorkstreamSpec, WorkstreamStatus
from agentrelay.workstream.testing import World, commit_files, refs


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return a remote and a GitHub double."""
    with World(tmp_path / "world") as made:
        yield made


@pytest.fixture
def lanes(world: World) -> tuple[Path, WorkstreamRuntime, WorkstreamRuntime]:
    """Return a repository and two prepared lanes of it."""
    repo = world.clone()
    both = [WorkstreamRuntime(WorkstreamSpec(name)) for name in ("parser", "lexer")]
    for runtime in both:
        world.runner(repo).prepare(runtime)
    return repo, both[0], both[1]


def test_a_failed_lane_keeps_what_it_made(
    world: World, lanes: tuple[Path, WorkstreamRuntime, WorkstreamRuntime]
) -> None:
    """Its commits and its untracked files are kept under refs; it stays failed."""
    repo, lane, _ = lanes
    worktree = lane.state.worktree_path
    assert worktree is not None
    made = commit_files(worktree, {"work.py": "1\n"}, message="Work")
    (worktree / "draft.txt").write_text("draft\n")
    lane.mark_failed("the agent gave up")
    world.teardown(repo).teardown_workstream(lane)
    assert not worktree.exists()
    kept = {name.rpartition("/")[2]: tip for name, tip in refs(repo).items() if "/rescue/" in name}
    assert set(kept) == {"commits", "untracked"}
    assert kept["commits"] == made
    assert lane.status is WorkstreamStatus.FAILED


def test_a_worktree_path_that_is_not_the_lanes_is_not_believed(
    world: World, lanes: tuple[Path, WorkstreamRuntime, WorkstreamRuntime], tmp_path: Path
) -> None:
    """The paths of another lane, of a stranger's folder and of the repository stay as they are."""
    repo, lane, other = lanes
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("precious\n")
    theirs = other.state.worktree_path
    assert theirs is not None
    for claimed in (theirs, outside, repo):
        lane.state.worktree_path = claimed
        world.teardown(repo).teardown_workstream(lane)
        world.runner(repo).prepare(lane)
    assert (outside / "precious.txt").read_text() == "precious\n"
    assert (theirs / ".git").is_file()
    assert (repo / ".git").is_dir()
    assert other.state.branch_name is not None
    assert f"refs/heads/{other.state.branch_name}" in refs(repo)


def test_a_locked_worktree_keeps_both_branches(
    world: World, lanes: tuple[Path, WorkstreamRuntime, WorkstreamRuntime]
) -> None:
    """Whoever locked it is told in a concern, and finds all of it."""
    repo, lane, _ = lanes
    worktree = lane.state.worktree_path
    assert worktree is not None
    entry = Path((worktree / ".git").read_text().removeprefix("gitdir: ").strip())
    (entry / "locked").write_text("on a disk that comes and goes\n")
    world.teardown(repo).teardown_workstream(lane)
    ref = f"refs/heads/{lane.state.branch_name}"
    assert ref in refs(repo)
    assert ref in refs(world.remote_path)
    assert (worktree / "README.md").is_file()
    assert any("on a disk that comes and goes" in concern for concern in lane.artifacts.concerns)
