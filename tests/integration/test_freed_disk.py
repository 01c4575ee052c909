"""A large lane is gone at once, and its disk soon after without anybody's help."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    WorkstreamRuntime,
    WorkstreamSpec,
    reconcile,
)
from agentrelay.workstream._git.inspection import find_leftovers
from agentrelay.workstream._git.lockfile import is_held
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream._git.trash import (
    lock_grave,
    set_aside,
    sweep_trash,
)
from agentrelay.workstream._git.unlinking import THREAD_NAME, unlink_soon
from agentrelay.workstream.testing.repositories import (
    clone_repository,
    commit_files,
    create_bare_repository,
)

MANY = {f"src/pkg{number // 40}/file{number}.py": f"x = {number}\n" for number in range(1_100)}


def settle() -> None:
    """Wait until what is being unlinked is unlinked."""
    for thread in threading.enumerate():
        if thread.name == THREAD_NAME:
            thread.join(60)


def tree_of(path: Path, count: int = 1_100) -> Path:
    """Make a tree with so many files."""
    (path / "below").mkdir(parents=True)
    for number in range(count):
        (path / "below" / f"{number}.txt").touch()
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with many files, and a remote."""
    bare = create_bare_repository(tmp_path / "bare.git")
    commit_files(bare, MANY, message="Many", branch="main")
    return clone_repository(bare, tmp_path / "project")


def test_a_large_lane_leaves_no_trace_soon_after_its_teardown(project: Path) -> None:
    """The worktree is gone when the call returns, the rest when the thread is done."""
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    GitWorkstreamPreparer(project, "nightly").prepare_workstream(runtime)
    worktree = runtime.state.worktree_path
    assert worktree is not None
    GitWorkstreamTeardown(project).teardown_workstream(runtime)
    assert not worktree.exists()
    assert runtime.artifacts.concerns == []
    settle()
    assert not (project / ".worktrees").exists()


def test_a_tree_that_is_being_unlinked_is_nobody_elses(project: Path) -> None:
    """Sweeping, reconcile and the doctor pass it over; a dead holder protects nothing."""
    trash = project / ".worktrees" / ".trash"
    grave = set_aside(tree_of(project / ".worktrees" / "tree", 3), trash_dir=trash)
    assert grave is not None
    lock = lock_grave(grave)
    assert lock is not None
    assert lock_grave(grave) is None
    assert is_held(grave)
    sweep_trash(trash)
    assert grave.is_dir()
    assert grave not in reconcile(project, dry_run=True).leftovers
    repository = open_repository(project)
    now_s = time.time() + 60
    assert grave not in find_leftovers(repository, trash_dir=trash, before_s=now_s)
    os.close(lock)
    assert not is_held(grave)
    assert grave in find_leftovers(repository, trash_dir=trash, before_s=now_s)
    sweep_trash(trash)
    assert not trash.exists()


def test_what_cannot_be_unlinked_behind_the_scenes_stays_for_the_next(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    """Nothing is raised where nobody listens; whoever sweeps the trash hears of it."""
    trash = tmp_path / "trash"
    grave = set_aside(tree_of(tmp_path / "tree"), trash_dir=trash)
    mocker.patch("shutil.rmtree", side_effect=PermissionError(13, "Permission denied"))
    called: list[str] = []
    unlink_soon(grave, afterwards=lambda: called.append("after"))
    settle()
    assert called == []
    with pytest.raises(PermissionError):
        sweep_trash(trash)
    mocker.stopall()
    sweep_trash(trash)
    assert not trash.exists()


def test_without_a_thread_a_large_tree_goes_before_the_call_returns(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    """No more threads can be had, for example while the interpreter ends."""
    grave = set_aside(tree_of(tmp_path / "tree"), trash_dir=tmp_path / "trash")
    mocker.patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread"))
    called: list[str] = []
    unlink_soon(grave, afterwards=lambda: called.append("after"))
    assert called == ["after"]
    assert list(tmp_path.iterdir()) == []


def test_a_small_tree_goes_before_the_call_returns(tmp_path: Path, mocker: MockerFixture) -> None:
    """Also one with a folder that is closed to its owner at first."""
    unlink_soon(None, afterwards=lambda: pytest.fail("there was nothing"))
    called: list[str] = []
    grave = set_aside(tree_of(tmp_path / "tree", 3), trash_dir=tmp_path / "trash")

    def closed(*arguments: Any) -> Any:
        mocker.stopall()
        raise PermissionError(13, "Permission denied", *arguments)

    mocker.patch("os.scandir", side_effect=closed)
    unlink_soon(grave, afterwards=lambda: called.append("after"))
    assert called == ["after"]
    assert list(tmp_path.iterdir()) == []
