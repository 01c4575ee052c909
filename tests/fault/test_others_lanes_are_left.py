"""What another repository or a person made under a lane's name is never taken for the lane."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pygit2
import pytest

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    LaneConflictError,
    LaneKind,
    RepositoryError,
    WorkstreamRuntime,
    WorkstreamSpec,
    reconcile,
)
from agentrelay.workstream.testing import (
    clone_repository,
    commit_files,
    create_bare_repository,
    refs,
)

BRANCH = "agentrelay/nightly/parser/integration"
REF = f"refs/heads/{BRANCH}"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return a bare repository that plays the remote."""
    return create_bare_repository(tmp_path / "origin.git")


@pytest.fixture
def repo(bare: Path, tmp_path: Path) -> Path:
    """Return a clone of it."""
    return clone_repository(bare, tmp_path / "clone")


def prepared(repo: Path, run_dir: Path | None = None) -> WorkstreamRuntime:
    """Return a prepared lane whose branch at the remote has work of its own."""
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    GitWorkstreamPreparer(repo, "nightly", run_dir=run_dir).prepare_workstream(runtime)
    assert runtime.state.worktree_path is not None
    commit_files(runtime.state.worktree_path, {"work.py": "pass\n"}, message="Work on it")
    pygit2.Repository(str(repo)).remotes["origin"].push([f"{REF}:{REF}"])
    return runtime


def assert_untouched(repo: Path, bare: Path) -> None:
    """Assert that the first repository's lane stands, here and at the remote."""
    assert refs(repo)[REF] == refs(bare)[REF]
    assert (repo / ".worktrees" / "nightly" / "parser" / "work.py").is_file()
    (lane,) = reconcile(repo).lanes
    assert (lane.kind, lane.why) == (LaneKind.LIVE, "branch, worktree and record agree")


def test_a_run_directory_two_clones_share_gives_neither_the_others_lane(
    repo: Path, bare: Path, tmp_path: Path
) -> None:
    """The record in it is the first one's: the second neither completes nor deletes the lane."""
    run_dir = tmp_path / "runs"
    runtime = prepared(repo, run_dir)
    other = clone_repository(bare, tmp_path / "other")
    assert [lane.kind for lane in reconcile(other, run_dir=run_dir).lanes] == [LaneKind.FOREIGN]
    with pytest.raises(LaneConflictError, match="another repository") as caught:
        prepared(other, run_dir)
    assert caught.value.obstacle == str(runtime.state.signal_dir)
    assert caught.value.hint is not None
    known = WorkstreamRuntime.load(run_dir / "workstreams" / "parser")
    with pytest.raises(LaneConflictError, match="another repository"):
        GitWorkstreamTeardown(other, run_dir=run_dir).teardown_workstream(known)
    # All it has is what a clone sees at the remote.
    assert {ref for ref in refs(other) if "agentrelay" in ref} <= {f"refs/remotes/origin/{BRANCH}"}
    assert_untouched(repo, bare)


def test_a_run_directory_is_free_for_another_clone_once_the_lane_is_torn_down(
    repo: Path, bare: Path, tmp_path: Path
) -> None:
    """A record that says so is in nobody's way."""
    run_dir = tmp_path / "runs"
    runtime = prepared(repo, run_dir)
    GitWorkstreamTeardown(repo).teardown_workstream(runtime)
    other = clone_repository(bare, tmp_path / "other")
    assert prepared(other, run_dir).artifacts.concerns == []
    assert refs(other)[REF] == refs(bare)[REF]


def test_a_lane_whose_repository_forgot_it_is_completed_from_its_run_directory(
    repo: Path, bare: Path, tmp_path: Path
) -> None:
    """Our own notes may be cleared by hand; the worktree's entry tells whose lane it is."""
    run_dir = tmp_path / "runs"
    prepared(repo, run_dir)
    shutil.rmtree(repo / ".git" / "agentrelay")
    prepared(repo, run_dir)
    assert_untouched(repo, bare)


def test_a_copy_of_a_repository_does_not_tear_down_the_originals_lane(
    repo: Path, bare: Path, tmp_path: Path
) -> None:
    """Its record is a copy too; what stands at the remote is the original's."""
    prepared(repo)
    copy = tmp_path / "copy"
    shutil.copytree(repo, copy, symlinks=True)
    known = WorkstreamRuntime.load(copy / ".workflow" / "nightly" / "workstreams" / "parser")
    with pytest.raises(LaneConflictError, match="was prepared in") as caught:
        GitWorkstreamTeardown(copy).teardown_workstream(known)
    assert str(repo) in str(caught.value)
    with pytest.raises(LaneConflictError):
        prepared(copy)
    assert_untouched(repo, bare)


def test_a_copy_takes_its_lane_once_the_original_is_gone(
    repo: Path, bare: Path, tmp_path: Path
) -> None:
    """Then the repository was moved, in effect, and the lane goes on."""
    prepared(repo)
    copy = tmp_path / "copy"
    shutil.copytree(repo, copy, symlinks=True)
    shutil.rmtree(repo)
    known = WorkstreamRuntime.load(copy / ".workflow" / "nightly" / "workstreams" / "parser")
    GitWorkstreamTeardown(copy).teardown_workstream(known)
    assert REF not in refs(bare)
    assert not (copy / ".worktrees").exists()


@pytest.mark.parametrize("head", ["on a branch", "detached"])
def test_a_persons_worktree_at_the_lanes_place_outlives_a_teardown(repo: Path, head: str) -> None:
    """An entry that no lane made, on another branch, is not the lane's whatever its place."""
    home = pygit2.Repository(str(repo))
    mine = home.branches.local.create("mine", home[home.head.target].peel(pygit2.Commit))
    there = repo / ".worktrees" / "nightly" / "parser"
    there.parent.mkdir(parents=True)
    home.add_worktree("parser", str(there), mine)
    if head == "detached":
        pygit2.Repository(str(there)).set_head(home.head.target)
    (there / "precious.txt").write_text("mine\n")
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    runtime.state.branch_name = BRANCH
    GitWorkstreamTeardown(repo).teardown_workstream(runtime)
    assert (there / "precious.txt").read_text() == "mine\n"
    assert pygit2.Repository(str(there)).head_is_detached is (head == "detached")
    (concern,) = runtime.artifacts.concerns
    assert "is not this lane's" in concern
    assert str(there) in concern


def test_a_worktree_that_may_not_be_searched_stops_no_other_lane(repo: Path) -> None:
    """It counts as a worktree that stands; what is refused is refused by name."""
    parser = prepared(repo)
    lexer = WorkstreamRuntime(WorkstreamSpec("lexer"))
    GitWorkstreamPreparer(repo, "nightly").prepare_workstream(lexer)
    worktree = parser.state.worktree_path
    assert worktree is not None
    worktree.chmod(0)
    if os.access(worktree / ".git", os.R_OK):
        worktree.chmod(0o755)
        pytest.skip("this user may search everything")
    try:
        with pytest.raises((LaneConflictError, RepositoryError), match="parser"):
            GitWorkstreamPreparer(repo, "nightly").prepare_workstream(parser)
        found = {lane.workstream_id: lane for lane in reconcile(repo).lanes}
        assert found["parser"].kind is LaneKind.FOREIGN
        GitWorkstreamTeardown(repo).teardown_workstream(lexer)
        assert lexer.artifacts.concerns == []
        GitWorkstreamTeardown(repo).teardown_workstream(parser)
    finally:
        worktree.chmod(0o755)
    assert (worktree / "work.py").is_file()
    assert "Permission denied" in "\n".join(parser.artifacts.concerns)
    assert REF in refs(repo)
