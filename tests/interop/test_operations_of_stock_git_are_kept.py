"""What stock git has begun in a lane's worktree, and not finished, outlives the lane."""

from __future__ import annotations

from pathlib import Path

import pygit2
import pytest

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    WorkstreamRuntime,
    WorkstreamSpec,
    rescued,
    restore,
)
from agentrelay.workstream.testing import clone_repository, commit_files, create_bare_repository
from tests.interop._stock_git import GIT, IDENTITY, run_git

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(GIT is None, reason="there is no git program to judge"),
]


def git(cwd: Path, *arguments: str, stops: bool = False) -> None:
    """Run the stock git without any of the machine's configuration.

    Args:
        cwd: Where.
        arguments: Its arguments.
        stops: Whether it has to stop half-way, as at a conflict.
    """
    done = run_git(cwd, *arguments, **IDENTITY)
    assert bool(done.returncode) == stops, done.stdout + done.stderr


@pytest.fixture
def lane(tmp_path: Path) -> WorkstreamRuntime:
    """Return a prepared lane of a clone in ``tmp_path``."""
    bare = create_bare_repository(tmp_path / "origin.git")
    repo = clone_repository(bare, tmp_path / "clone")
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    GitWorkstreamPreparer(repo, "nightly").prepare_workstream(runtime)
    return runtime


def elsewhere(tmp_path: Path) -> tuple[Path, list[str]]:
    """Return another clone, and three commits of its own that conflict with the lane's."""
    other = clone_repository(tmp_path / "origin.git", tmp_path / "other")
    made = [
        commit_files(other, {"README.md": f"theirs {number}\n"}, message=f"Theirs {number}")
        for number in range(3)
    ]
    return other, made


def tear_down(tmp_path: Path, lane: WorkstreamRuntime) -> pygit2.Repository:
    """Tear the lane down, and return the repository."""
    GitWorkstreamTeardown(tmp_path / "clone").teardown_workstream(lane)
    assert lane.state.worktree_path is not None
    assert not lane.state.worktree_path.exists()
    return pygit2.Repository(str(tmp_path / "clone"))


def reachable(handle: pygit2.Repository) -> set[str]:
    """Return the commits that refs lead to."""
    walker = handle.walk(None)
    for name in handle.references:
        walker.push(handle.references[name].peel(pygit2.Commit).id)
    return {str(commit.id) for commit in walker}


def test_picks_that_were_yet_to_come_are_kept(tmp_path: Path, lane: WorkstreamRuntime) -> None:
    """A pick of several commits stopped at the first; the others are named by its list only."""
    worktree = lane.state.worktree_path
    assert worktree is not None
    commit_files(worktree, {"README.md": "ours\n"}, message="Ours")
    other, made = elsewhere(tmp_path)
    git(worktree, "fetch", "-q", str(other), "main")
    git(worktree, "cherry-pick", *made, stops=True)
    assert (worktree / ".git").is_file()
    handle = tear_down(tmp_path, lane)
    assert set(made) <= reachable(handle)


def test_what_a_rebase_was_yet_to_pick_is_kept(tmp_path: Path, lane: WorkstreamRuntime) -> None:
    """A commit that somebody added to the list of an interactive rebase is not the lane's."""
    worktree = lane.state.worktree_path
    assert worktree is not None
    tip = commit_files(worktree, {"one.txt": "1\n"}, message="One")
    other, made = elsewhere(tmp_path)
    git(worktree, "fetch", "-q", str(other), "main")
    todo = f"edit {tip}\npick {made[-1][:9]} Theirs 2\n"
    (tmp_path / "todo").write_text(todo)
    editor = f"cp {tmp_path / 'todo'}"
    git(worktree, "-c", f"sequence.editor={editor}", "rebase", "-q", "-i", "HEAD~1")
    handle = tear_down(tmp_path, lane)
    assert made[-1] in reachable(handle)


def test_patches_that_were_being_applied_are_kept(tmp_path: Path, lane: WorkstreamRuntime) -> None:
    """They came by mail and are in no commit; they come back as files."""
    worktree = lane.state.worktree_path
    assert worktree is not None
    commit_files(worktree, {"README.md": "ours\n"}, message="Ours")
    other, _ = elsewhere(tmp_path)
    mails = tmp_path / "mails"
    git(other, "format-patch", "-q", "-2", "-o", str(mails))
    patches = sorted(mails.iterdir())
    git(worktree, "am", "-q", *map(str, patches), stops=True)
    for patch in patches:
        patch.unlink()
    tear_down(tmp_path, lane)
    (kept,) = [one for one in rescued(tmp_path / "clone") if one.label == "patches"]
    assert any("patches" in concern for concern in lane.artifacts.concerns)
    restore(tmp_path / "clone", kept.ref, directory=tmp_path / "back")
    back = (tmp_path / "back" / "rebase-apply" / "0002").read_text()
    assert "Theirs 2" in back
