"""Cloning without git: all of it or nothing, and no secret written down."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pygit2
import pytest
from pytest_mock import MockerFixture

from agentrelay.workstream import (
    CloneProgress,
    CredentialsRejectedError,
    LaneConflictError,
    RemoteError,
    RepositoryError,
    WorkstreamError,
    clone,
)
from agentrelay.workstream._git.locks import hold
from agentrelay.workstream.testing import Fault, World, commit_files, refs
from tests.integration._workspaces import workspace_in, write


def place(world: World) -> Path:
    """Return where the clone goes."""
    return world.root / "clones" / "deep" / "widgets"


def test_a_clone_is_what_git_would_have_made_and_lanes_live_in_it(agentrelay_world: World) -> None:
    """Branches, tags, upstream and files; and the whole way of a lane from there."""
    world = agentrelay_world
    origin = pygit2.Repository(str(world.remote_path))
    tip = refs(world.remote_path)["refs/heads/main"]
    origin.references.create("refs/tags/v1", tip)
    origin.references.create("refs/heads/release/2", tip)
    told: list[CloneProgress] = []
    path = clone(world.remote_url, place(world), token=world.token, progress=told.append)
    assert path == place(world)
    assert refs(path) == {
        "refs/heads/main": tip,
        "refs/remotes/origin/HEAD": "ref: refs/remotes/origin/main",
        "refs/remotes/origin/main": tip,
        "refs/remotes/origin/release/2": tip,
        "refs/tags/v1": tip,
    }
    handle = pygit2.Repository(str(path))
    assert handle.head.name == "refs/heads/main"
    assert handle.branches["main"].upstream_name == "refs/remotes/origin/main"
    assert handle.status() == {}
    assert told[-1].received_objects == told[-1].total_objects > 0
    assert os.listdir(path.parent) == [path.name]
    workspace = workspace_in(world, path)
    write(workspace, a="1\n")
    made = workspace.commit("A")
    workspace.push()
    assert refs(world.remote_path)[f"refs/heads/{workspace.branch}"] == made.commit_id


def test_no_secret_is_written_down(agentrelay_world: World) -> None:
    """Neither in the configuration nor in any other file of the clone."""
    token = str(agentrelay_world.token).encode()
    path = clone(agentrelay_world.remote_url, place(agentrelay_world), token=token.decode())
    assert not [file for file in path.rglob("*") if file.is_file() and token in file.read_bytes()]


@pytest.mark.parametrize(
    "url",
    [
        "https://robin:hunter2pass@github.example/o/n.git",
        "https://hunter2pass@github.example/o/n.git",
        "ssh://git:hunter2pass@github.example/o/n.git",
        "",
        "https://github.example/\nx",
        "ext::sh -c hunter2pass",
    ],
)
def test_an_address_that_cannot_be_used_is_refused(tmp_path: Path, url: str) -> None:
    """Before anything is made, or with nothing left; and what it holds is not repeated."""
    with pytest.raises(RepositoryError) as caught:
        clone(url, tmp_path / "here" / "x")
    assert "hunter2" not in str(caught.value)
    assert not (tmp_path / "here").exists() or not os.listdir(tmp_path / "here")


def test_a_finished_clone_is_a_success_and_stays(agentrelay_world: World) -> None:
    """Work in it is not touched, and the remote is not asked."""
    world = agentrelay_world
    path = clone(world.remote_url, place(world), token=world.token)
    (path / "draft").write_text("mine\n")
    world.git.clear()
    assert clone(world.remote_url, path, token="wrong") == path
    assert (path / "draft").read_text() == "mine\n"
    assert list(world.git.requests) == []


def test_an_empty_directory_is_taken(agentrelay_world: World) -> None:
    """Somebody may have made it beforehand."""
    place(agentrelay_world).mkdir(parents=True)
    path = clone(agentrelay_world.remote_url, place(agentrelay_world), token=agentrelay_world.token)
    assert (path / "README.md").is_file()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "clone"])
def test_anything_else_at_the_place_stays(agentrelay_world: World, kind: str) -> None:
    """A file, a folder with something in it, a link, or a clone of another address."""
    world, path = agentrelay_world, place(agentrelay_world)
    path.parent.mkdir(parents=True)
    if kind == "file":
        path.write_text("mine\n")
    elif kind == "link":
        path.symlink_to(world.root / "nowhere")
    elif kind == "folder":
        path.mkdir()
        (path / "mine").write_text("mine\n")
    else:
        clone(str(world.remote_path), path)
    before = sorted(path.rglob("*"))
    with pytest.raises(LaneConflictError) as caught:
        clone(world.remote_url, path, token=world.token)
    assert caught.value.obstacle == str(path)
    assert sorted(path.rglob("*")) == before
    assert os.listdir(path.parent) == [path.name]


def test_a_path_is_cloned_too_and_written_down_whole(
    agentrelay_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path would mean something else to the clone."""
    world = agentrelay_world
    monkeypatch.chdir(world.root)
    relative = os.path.relpath(world.remote_path, world.root)
    path = clone(relative, "here")
    assert path == world.root / "here"
    config = pygit2.Repository(str(path)).config
    assert config["remote.origin.url"] == str(world.remote_path)
    assert clone(relative, "here") == path
    with pytest.raises(RepositoryError, match="shallow"):
        clone(relative, "shallow", depth=1)


def test_a_shallow_clone_has_one_branch_and_carries_lanes(agentrelay_world: World) -> None:
    """Its lane is committed, pushed, pulled and counted like any other."""
    world = agentrelay_world
    commit_files(world.remote_path, {"b": "1\n"}, message="B", branch="main")
    pygit2.Repository(str(world.remote_path)).references.create(
        "refs/heads/other", refs(world.remote_path)["refs/heads/main"]
    )
    path = clone(world.remote_url, place(world), depth=1, token=world.token)
    handle = pygit2.Repository(str(path))
    assert handle.is_shallow
    assert len(list(handle.walk(handle.head.target))) == 1
    assert "refs/remotes/origin/other" not in refs(path)
    workspace = workspace_in(world, path)
    write(workspace, a="1\n")
    made = workspace.commit("A")
    assert workspace.log() == (made,)
    assert [file.path for file in workspace.diff().files] == ["a"]
    workspace.push()
    theirs = commit_files(world.remote_path, {"c": "1\n"}, message="C", branch=workspace.branch)
    assert [commit.commit_id for commit in workspace.pull()] == [theirs]
    status = workspace.status()
    assert status.base is not None
    assert (status.base.ahead, status.base.behind, status.is_clean) == (2, 0, True)


def test_another_branch_and_another_name_for_the_remote(agentrelay_world: World) -> None:
    """What is checked out and what the remote is called is the caller's choice."""
    world = agentrelay_world
    commit_files(world.remote_path, {"b": "1\n"}, message="B", branch="main")
    origin = pygit2.Repository(str(world.remote_path))
    old = origin.references["refs/heads/main"].peel(pygit2.Commit).parents[0]
    origin.references.create("refs/heads/old", old.id)
    path = clone(world.remote_url, place(world), branch="old", remote="upstream", token=world.token)
    handle = pygit2.Repository(str(path))
    assert (handle.head.name, handle.head.target) == ("refs/heads/old", old.id)
    assert set(refs(path)) == {
        "refs/heads/old",
        "refs/remotes/upstream/HEAD",
        "refs/remotes/upstream/main",
        "refs/remotes/upstream/old",
    }


@pytest.mark.parametrize("settings", [{"branch": "nowhere"}, {"depth": 0}, {"remote": "a b"}])
def test_settings_that_cannot_be_met_are_refused(
    agentrelay_world: World, settings: dict[str, object]
) -> None:
    """And nothing stays behind."""
    world, path = agentrelay_world, place(agentrelay_world)
    with pytest.raises(RepositoryError):
        clone(world.remote_url, path, token=world.token, **settings)  # type: ignore[arg-type]  # made up
    assert not path.parent.exists() or not os.listdir(path.parent)


def test_what_a_remote_refuses_leaves_nothing_and_the_next_try_succeeds(
    agentrelay_world: World,
) -> None:
    """A wrong token, a repository that is not there, an answer that is cut off."""
    world, path = agentrelay_world, place(agentrelay_world)
    with pytest.raises(CredentialsRejectedError) as caught:
        clone(world.remote_url, path, token="wrong-token-wrong-token")
    assert "wrong-token" not in str(caught.value)
    with pytest.raises(RemoteError):
        clone(f"{world.remote_url}x", path, token=world.token)
    world.git.clear()
    world.git.faults.add(Fault.status(503, path="git-upload-pack"))
    with pytest.raises(RemoteError):
        clone(world.remote_url, path, token=world.token)
    assert os.listdir(path.parent) == []
    assert clone(world.remote_url, path, token=world.token) == path


def test_a_caller_can_stop_a_clone(agentrelay_world: World) -> None:
    """What its callback raises is what it gets, and nothing stays behind."""
    world, path = agentrelay_world, place(agentrelay_world)

    def stop(progress: CloneProgress) -> None:
        raise ValueError(f"{progress.total_objects} are too many")

    with pytest.raises(ValueError, match="too many"):
        clone(world.remote_url, path, token=world.token, progress=stop)
    assert os.listdir(path.parent) == []


def test_what_a_killed_clone_left_goes_and_what_a_living_one_makes_stays(
    agentrelay_world: World,
) -> None:
    """Nobody has to guess who is alive: the kernel knows."""
    world, path = agentrelay_world, place(agentrelay_world)
    dead, living = (path.with_name(f".{path.name}.clone-{name}") for name in ("00" * 8, "11" * 8))
    theirs = path.with_name(f".{path.name}.clone-old")
    for directory in (dead, living, theirs):
        (directory / "repository").mkdir(parents=True)
    (path.parent / f".{path.name}.clone-file").write_text("somebody's\n")
    with hold(living / "alive", what="a clone", timeout_s=1.0):
        clone(world.remote_url, path, token=world.token)
        assert living.is_dir()
    assert not dead.exists()
    (dead / "repository").mkdir(parents=True)
    clone(world.remote_url, path, token=world.token)
    assert not dead.exists()
    assert (theirs / "repository").is_dir()
    assert (path.parent / f".{path.name}.clone-file").is_file()


def test_a_place_that_cannot_be_replaced_is_said(
    agentrelay_world: World, mocker: MockerFixture
) -> None:
    """A disk may be mounted there."""
    world, path = agentrelay_world, place(agentrelay_world)
    path.mkdir(parents=True)
    mocker.patch("os.rename", side_effect=OSError(errno.EBUSY, "Device or resource busy"))
    with pytest.raises(RepositoryError, match="Device or resource busy"):
        clone(world.remote_url, path, token=world.token)
    assert os.listdir(path.parent) == [path.name]


def test_several_that_clone_to_one_place_all_succeed(agentrelay_world: World) -> None:
    """Whoever comes first has made it for all."""
    world, path = agentrelay_world, place(agentrelay_world)
    failures: list[WorkstreamError] = []

    def work() -> None:
        try:
            clone(world.remote_url, path, token=world.token)
        except WorkstreamError as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(path.parent) == [path.name]
    assert pygit2.Repository(str(path)).status() == {}


def test_an_empty_remote_gives_an_empty_clone(tmp_path: Path) -> None:
    """As with git: the first commit is made there."""
    pygit2.init_repository(str(tmp_path / "origin.git"), bare=True, initial_head="trunk")
    path = clone(str(tmp_path / "origin.git"), tmp_path / "clone")
    assert pygit2.Repository(str(path)).is_empty
    assert refs(path) == {}


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_path_with_nothing_there_is_named_as_missing(tmp_path: Path, prefix: str) -> None:
    """Not as a protocol nobody supports, which is what libgit2 calls it."""
    missing = tmp_path / "no-such.git"
    with pytest.raises(RemoteError, match="there is nothing at that path") as caught:
        clone(f"{prefix}{missing}", tmp_path / "here" / "x")
    assert str(missing) in caught.value.message
    assert "protocol" not in caught.value.message
    assert not os.listdir(tmp_path / "here")


def test_a_path_with_something_else_there_holds_no_repository(tmp_path: Path) -> None:
    """That is told apart from a path with nothing there."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(RemoteError, match="there is no repository at that path"):
        clone(str(tmp_path / "folder"), tmp_path / "here" / "x")
