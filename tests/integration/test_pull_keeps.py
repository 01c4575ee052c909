"""Pulling a lane: what is in no commit stays, whatever it is and wherever it stands."""

from __future__ import annotations

import os
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import FileMode

from agentrelay.workstream import LaneConflictError, LaneWorkspace
from agentrelay.workstream.testing import World, commit_files
from tests.integration._workspaces import workspace_in, write


@pytest.fixture
def workspace(agentrelay_world: World) -> LaneWorkspace:
    """Return a pushed lane with a folder, and rules for what is ignored."""
    made = workspace_in(agentrelay_world)
    (made.path / "folder").mkdir()
    (made.path / "folder" / "tracked").write_text("1\n")
    write(made, __gitignore="*.o\ncache\n", notes="old\n")
    made.commit("Begin")
    made.push()
    return made


def others_replace_the_folder(world: World, workspace: LaneWorkspace, mode: FileMode) -> None:
    """Let somebody else push a commit that has a file, or a link, where the folder was."""
    handle = pygit2.Repository(str(world.remote_path))
    name = f"refs/heads/{workspace.branch}"
    tip = handle.references[name].peel(pygit2.Commit)
    builder = handle.TreeBuilder(tip.tree)
    builder.remove("folder")
    builder.insert("folder", handle.create_blob(b"notes"), mode)
    who = pygit2.Signature("Other", "other@example.com")
    handle.create_commit(name, who, who, "Replace the folder", builder.write(), [tip.id])


@pytest.mark.parametrize("mode", [FileMode.LINK, FileMode.BLOB])
@pytest.mark.parametrize("name", ["draft.o", "draft.txt"])
def test_a_folder_that_becomes_a_file_goes_only_with_nothing_else_in_it(
    agentrelay_world: World, workspace: LaneWorkspace, mode: FileMode, name: str
) -> None:
    """Ignored or untracked, a file in it is in the way; and without it the pull goes on."""
    draft = workspace.path / "folder" / name
    draft.write_text("mine\n")
    others_replace_the_folder(agentrelay_world, workspace, mode)
    with pytest.raises(LaneConflictError, match=f"'folder/{name}'"):
        workspace.pull()
    assert draft.read_text() == "mine\n"
    assert (workspace.path / "folder" / "tracked").read_text() == "1\n"
    draft.unlink()
    assert len(workspace.pull()) == 1
    assert not (workspace.path / "folder").is_dir()
    assert workspace.status().is_clean


def test_a_folder_that_holds_an_empty_one_is_left_whole(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """It is in the way before anything is taken away, and not halfway."""
    (workspace.path / "folder" / "empty").mkdir()
    others_replace_the_folder(agentrelay_world, workspace, FileMode.BLOB)
    with pytest.raises(LaneConflictError, match="'folder/empty'"):
        workspace.pull()
    assert (workspace.path / "folder" / "tracked").read_text() == "1\n"


def test_a_file_in_the_place_of_a_folder_that_is_gone_is_not_left_out(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """Others' file would be missing after the pull, and the next commit would delete it."""
    others_replace_the_folder(agentrelay_world, workspace, FileMode.BLOB)
    before = workspace.status().commit_id
    (workspace.path / "folder" / "tracked").unlink()
    (workspace.path / "folder").rmdir()
    with pytest.raises(LaneConflictError, match="'folder'"):
        workspace.pull()
    assert workspace.status().commit_id == before


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_pull_writes_through_no_link(
    agentrelay_world: World, workspace: LaneWorkspace, tmp_path: Path
) -> None:
    """Also when it goes on where another one was stopped, and the link is ignored."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("mine\n")
    (workspace.path / "cache").symlink_to(outside)
    commit_files(
        agentrelay_world.remote_path,
        {"cache/keep": "theirs\n", "notes": "new\n"},
        message="Theirs",
        branch=workspace.branch,
    )
    write(workspace, notes="new\n")
    with pytest.raises(LaneConflictError, match="'cache'"):
        workspace.pull()
    assert (outside / "keep").read_text() == "mine\n"
    assert (workspace.path / "cache").is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
@pytest.mark.parametrize("name", ["notes", "fresh"])
def test_a_pull_waits_for_no_pipe(
    agentrelay_world: World, workspace: LaneWorkspace, name: str
) -> None:
    """By a tracked name or a new one, it is in the way; nobody will ever read or write it."""
    commit_files(
        agentrelay_world.remote_path, {name: "new\n"}, message="Theirs", branch=workspace.branch
    )
    (workspace.path / name).unlink(missing_ok=True)
    os.mkfifo(workspace.path / name)
    with pytest.raises(LaneConflictError, match=f"'{name}'"):
        workspace.pull()
    assert (workspace.path / name).is_fifo()
