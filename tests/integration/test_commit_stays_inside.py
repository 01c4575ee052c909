"""Committing in a lane: nothing from elsewhere gets in, and nothing is waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentrelay.workstream import CommitRefusedError, LaneWorkspace, RepositoryError, clone
from agentrelay.workstream.testing import World
from tests.integration._workspaces import conflicted, contents, workspace_in, write

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links and pipes are POSIX's")


@pytest.fixture
def workspace(agentrelay_world: World) -> LaneWorkspace:
    """Return a lane with a file in a folder."""
    made = workspace_in(agentrelay_world)
    (made.path / "folder").mkdir()
    (made.path / "folder" / "file").write_text("ours\n")
    made.commit("Begin")
    return made


@pytest.mark.parametrize("paths", [None, ["folder"]])
def test_nothing_beyond_a_link_is_committed(
    workspace: LaneWorkspace, tmp_path: Path, paths: list[str] | None
) -> None:
    """Where a link took a folder's place, the link is the change, and the file is gone."""
    (tmp_path / "file").write_text("somebody's secret\n")
    (workspace.path / "folder" / "file").unlink()
    (workspace.path / "folder").rmdir()
    (workspace.path / "folder").symlink_to(tmp_path)
    workspace.commit("Link the folder", paths)
    found = contents(workspace)
    assert "folder/file" not in found
    assert found["folder"] == os.fsencode(tmp_path)
    assert workspace.status().is_clean


@pytest.mark.parametrize("paths", [None, ["folder/file"]])
def test_a_pipe_in_a_files_place_is_refused_at_once(
    workspace: LaneWorkspace, paths: list[str] | None
) -> None:
    """It would be read for ever; and once it is gone, the rest is committed."""
    (workspace.path / "folder" / "file").unlink()
    os.mkfifo(workspace.path / "folder" / "file")
    write(workspace, other="1\n")
    with pytest.raises(CommitRefusedError, match="neither a regular file nor a link") as refused:
        workspace.commit("Pipe", paths)
    assert refused.value.paths == ("folder/file",)
    assert workspace.status().staged == ()
    (workspace.path / "folder" / "file").unlink()
    workspace.commit("Without", paths)
    assert "folder/file" not in contents(workspace)


def test_a_pipe_resolves_no_conflict(workspace: LaneWorkspace) -> None:
    """It is refused at once, and the conflict stays."""
    conflicted(workspace)
    (workspace.path / "README.md").unlink()
    os.mkfifo(workspace.path / "README.md")
    with pytest.raises(CommitRefusedError, match=r"'README\.md'"):
        workspace.resolve(["README.md"])
    assert workspace.status().conflicted == ("README.md",)


def test_what_is_no_message_and_no_path_is_said(workspace: LaneWorkspace) -> None:
    """Before anything is looked at, and as an error of ours."""
    write(workspace, other="1\n")
    with pytest.raises(RepositoryError, match="the message is NoneType, not text"):
        workspace.commit(None)  # type: ignore[arg-type]  # as a caller without types would
    for path in (b"other", 3):
        with pytest.raises(RepositoryError, match="is no path"):
            workspace.commit("Other", [path])  # type: ignore[list-item]  # likewise
    assert workspace.status().untracked == ("other",)


def test_a_clone_to_what_is_no_path_is_refused(agentrelay_world: World, tmp_path: Path) -> None:
    """Nothing is fetched, and nothing is made next to it."""
    with pytest.raises(RepositoryError, match="NUL"):
        clone(str(agentrelay_world.remote_path), f"{tmp_path}/a\0b")
    assert list(tmp_path.iterdir()) == []
