"""Pulling a lane: what is in no commit stays, whatever it is and wherever it stands."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import FileMode
from pygit2.ffi import C

from agentrelay.workstream import LaneConflictError, LaneWorkspace
from agentrelay.workstream.testing import World, commit_files
from tests.integration._workspaces import contents, workspace_in, write


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


def exchange_folders_and_files(world: World, workspace: LaneWorkspace) -> None:
    """Let somebody else push a commit with a file for the folder, and a folder for the notes."""
    handle = pygit2.Repository(str(world.remote_path))
    name = f"refs/heads/{workspace.branch}"
    tip = handle.references[name].peel(pygit2.Commit)
    blob = handle.create_blob(b"new\n")
    index = pygit2.Index()
    index.read_tree(tip.tree)
    index.remove_all(["folder/*", "notes"])
    for path in ("folder", "notes/x", "notes/deep/y"):
        index.add(pygit2.IndexEntry(path, blob, FileMode.BLOB))
    who = pygit2.Signature("Other", "other@example.com")
    handle.create_commit(name, who, who, "Exchange", index.write_tree(handle), [tip.id])


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
    """A former pull was stopped there; the file would be missing, and the next commit delete it."""
    others_replace_the_folder(agentrelay_world, workspace, FileMode.BLOB)
    (workspace.path / "folder" / "tracked").unlink()
    (workspace.path / "folder").rmdir()
    assert len(workspace.pull()) == 1
    assert (workspace.path / "folder").read_text() == "notes"
    assert workspace.status().is_clean


@dataclass(frozen=True)
class Halfway:
    """Where a pull was stopped that turns a folder into a file and a file into a folder."""

    gone: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    written: tuple[str, ...] = ()

    def arrange(self, root: Path) -> None:
        """Leave a worktree so."""
        for name in self.gone:
            path = root / name
            path.rmdir() if path.is_dir() else path.unlink()
        for name in self.folders:
            (root / name).mkdir()
        for name in self.written:
            (root / name).write_text("new\n")


HALFWAY = (
    Halfway(("folder/tracked",)),
    Halfway(("folder/deep/er/x",)),
    Halfway(("folder/tracked", "folder/deep/er/x", "folder/deep/er")),
    Halfway(("folder/tracked", "folder/deep/er/x", "folder/deep/er", "folder/deep", "folder")),
    Halfway(
        ("folder/tracked", "folder/deep/er/x", "folder/deep/er", "folder/deep", "folder"),
        written=("folder",),
    ),
    Halfway(("notes",)),
    Halfway(("notes",), ("notes",)),
    Halfway(("notes",), ("notes", "notes/deep")),
    Halfway(("notes",), ("notes", "notes/deep"), ("notes/deep/y",)),
    Halfway(("notes", "folder/tracked"), ("notes",), ("notes/x",)),
)


@pytest.mark.parametrize("halfway", HALFWAY, ids=str)
def test_a_pull_that_was_stopped_between_folders_and_files_is_completed(
    agentrelay_world: World, workspace: LaneWorkspace, halfway: Halfway
) -> None:
    """Whatever was gone and written by then, a repeat ends with the files of the new commit."""
    (workspace.path / "folder" / "deep" / "er").mkdir(parents=True)
    (workspace.path / "folder" / "deep" / "er" / "x").write_text("1\n")
    workspace.commit("Deeper")
    workspace.push()
    exchange_folders_and_files(agentrelay_world, workspace)
    halfway.arrange(workspace.path)
    assert len(workspace.pull()) == 1
    assert workspace.status().is_clean
    assert (workspace.path / "folder").read_text() == "new\n"
    for name in ("notes/x", "notes/deep/y"):
        assert (workspace.path / name).read_text() == "new\n"


@pytest.mark.parametrize("name", ["folder/tracked", "notes"])
def test_a_change_beside_one_that_was_stopped_is_in_the_way(
    agentrelay_world: World, workspace: LaneWorkspace, name: str
) -> None:
    """What is neither old nor new is somebody's."""
    exchange_folders_and_files(agentrelay_world, workspace)
    other = ({"folder/tracked", "notes"} - {name}).pop()
    (workspace.path / other).unlink()
    (workspace.path / name).write_text("mine\n")
    with pytest.raises(LaneConflictError, match=f"'{name}'"):
        workspace.pull()
    assert (workspace.path / name).read_text() == "mine\n"


@pytest.mark.parametrize("by_then", ["new\n", "old\n"])
def test_an_ignored_file_in_the_place_of_a_new_one_stays(
    agentrelay_world: World, workspace: LaneWorkspace, by_then: str
) -> None:
    """Also beside what a former pull has done; nothing is written before that is known."""
    files = {"made.o": "theirs\n", "notes": "new\n", "other": "new\n"}
    commit_files(agentrelay_world.remote_path, files, message="Theirs", branch=workspace.branch)
    (workspace.path / "made.o").write_text("mine\n")
    write(workspace, notes=by_then)
    with pytest.raises(LaneConflictError, match=r"'made\.o'"):
        workspace.pull()
    assert (workspace.path / "made.o").read_text() == "mine\n"
    assert not (workspace.path / "other").exists()


# --- a file that a pull had begun to write ------------------------------------------------


def begun(world: World, workspace: LaneWorkspace) -> None:
    """Let others push, and leave it on record that a pull was writing that."""
    files = {"notes": "all of it\n", "fresh": "all of it\n"}
    tip = workspace.status().commit_id
    target = commit_files(world.remote_path, files, message="Theirs", branch=workspace.branch)
    handle = pygit2.Repository(str(workspace.path))
    remote = handle.remotes.create_anonymous(str(world.remote_path))
    remote.fetch([f"+refs/heads/{workspace.branch}:refs/remotes/origin/{workspace.branch}"])
    note = {"tip": tip, "target": target, "conflicts": []}
    Path(handle.path, "agentrelay-move").write_text(json.dumps(note))


@pytest.mark.parametrize("name", ["notes", "fresh"])
@pytest.mark.parametrize("text", ["", "all ", "all of it\n"])
def test_a_file_that_a_stopped_pull_left_half_written_is_written_again(
    agentrelay_world: World, workspace: LaneWorkspace, name: str, text: str
) -> None:
    """It holds the beginning of what is on record, and nothing else; others may have gone on."""
    begun(agentrelay_world, workspace)
    (workspace.path / name).write_text(text)
    files = {"notes": "other words\n", "fresh": "other words\n"}
    commit_files(agentrelay_world.remote_path, files, message="Later", branch=workspace.branch)
    assert len(workspace.pull()) == 2
    assert workspace.status().is_clean
    assert (workspace.path / name).read_text() == "other words\n"


@pytest.mark.parametrize("staged", ["staged", "not staged"])
@pytest.mark.parametrize("text", ["all ", "all of it\n"])
def test_what_others_took_back_since_is_as_it_was(
    agentrelay_world: World, workspace: LaneWorkspace, text: str, staged: str
) -> None:
    """The stopped pull was of a commit that the next one undid: nobody's change is left."""
    begun(agentrelay_world, workspace)
    handle = pygit2.Repository(str(workspace.path))
    (workspace.path / "notes").write_text("all of it\n")
    if staged == "staged":
        handle.index.add("notes")
        handle.index.write()
    (workspace.path / "notes").write_text(text)
    files = {"notes": "old\n", "fresh": None}
    commit_files(agentrelay_world.remote_path, files, message="Undo", branch=workspace.branch)
    assert len(workspace.pull()) == 2
    assert workspace.status().is_clean
    assert (workspace.path / "notes").read_text() == "old\n"


def test_a_refused_pull_leaves_nothing_on_record(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """A file that is emptied after it is somebody's."""
    files = {"made.o": "theirs\n", "notes": "new\n"}
    commit_files(agentrelay_world.remote_path, files, message="Theirs", branch=workspace.branch)
    (workspace.path / "made.o").write_text("mine\n")
    with pytest.raises(LaneConflictError):
        workspace.pull()
    (workspace.path / "made.o").unlink()
    (workspace.path / "notes").write_text("")
    with pytest.raises(LaneConflictError, match="'notes'"):
        workspace.pull()
    write(workspace, notes="old\n")
    workspace.pull()
    assert not list(Path(pygit2.Repository(str(workspace.path)).path).glob("agentrelay*"))


@pytest.mark.parametrize("name", ["notes", "fresh", "run"])
@pytest.mark.parametrize("text", ["all mine\n", "all of it\nand more\n"])
def test_what_somebody_wrote_after_a_pull_was_stopped_is_in_the_way(
    agentrelay_world: World, workspace: LaneWorkspace, name: str, text: str
) -> None:
    """A byte more or another one is theirs, and so is a file the pull had nothing to do with."""
    begun(agentrelay_world, workspace)
    (workspace.path / name).write_text(text)
    commit_files(
        agentrelay_world.remote_path, {"run": "new\n"}, message="Later", branch=workspace.branch
    )
    with pytest.raises(LaneConflictError, match=f"'{name}'"):
        workspace.pull()
    assert (workspace.path / name).read_text() == text


@pytest.mark.parametrize("text", ["", "all "])
def test_without_a_record_half_a_file_is_somebodys(
    agentrelay_world: World, workspace: LaneWorkspace, text: str
) -> None:
    """Emptying a file is a change as well."""
    begun(agentrelay_world, workspace)
    handle = pygit2.Repository(str(workspace.path))
    (workspace.path / "notes").write_text(text)
    note = {"tip": "0" * 40, "target": "1" * 40, "conflicts": []}
    Path(handle.path, "agentrelay-move").write_text(json.dumps(note))
    with pytest.raises(LaneConflictError, match="'notes'"):
        workspace.pull()
    assert (workspace.path / "notes").read_text() == text


# --- what a sparse checkout hides --------------------------------------------------------


def hide(workspace: LaneWorkspace, patterns: str, *names: str) -> None:
    """Make the lane's checkout sparse, as git does it."""
    handle = pygit2.Repository(str(workspace.path))
    handle.config["core.sparseCheckout"] = True
    info = Path(handle.path, "info")
    info.mkdir(exist_ok=True)
    (info / "sparse-checkout").write_text(patterns)
    for name in names:
        raw = C.git_index_get_bypath(handle.index._index, name.encode(), 0)
        raw.flags_extended |= 0x4000
        (workspace.path / name).unlink()
    handle.index.write()
    assert workspace.status().is_clean


CONE = "/*\n!/*/\n/shown/\n"


@pytest.fixture
def sparse(workspace: LaneWorkspace) -> LaneWorkspace:
    """Return the lane with a folder that is shown; the other one is hidden."""
    (workspace.path / "shown").mkdir()
    (workspace.path / "shown" / "a").write_text("1\n")
    (workspace.path / "folder" / "more").write_text("1\n")
    workspace.commit("Two folders")
    workspace.push()
    hide(workspace, CONE, "folder/tracked", "folder/more")
    (workspace.path / "folder").rmdir()
    return workspace


def test_a_pull_writes_nothing_that_a_sparse_checkout_hides(
    agentrelay_world: World, sparse: LaneWorkspace
) -> None:
    """Changed, new and deleted: the index has it all, the working tree what is shown of it."""
    files = {
        "folder/tracked": "2\n", "folder/more": None, "folder/new": "new\n", "hid/den": "new\n",
        "shown/a": "2\n", "shown/b": "new\n", "top": "new\n",
    }  # fmt: skip
    commit_files(agentrelay_world.remote_path, files, message="Theirs", branch=sparse.branch)
    sparse.pull()
    assert not (sparse.path / "folder").exists()
    assert not (sparse.path / "hid").exists()
    for name, text in (("shown/a", "2\n"), ("shown/b", "new\n"), ("top", "new\n")):
        assert (sparse.path / name).read_text() == text
    assert sparse.status().is_clean
    write(sparse, mine="1\n")
    sparse.commit("Mine")
    found = contents(sparse)
    assert found["folder/tracked"] == b"2\n"
    assert found["folder/new"] == found["hid/den"] == b"new\n"
    assert "folder/more" not in found


def test_a_pull_of_hidden_files_that_was_stopped_is_completed(
    agentrelay_world: World, sparse: LaneWorkspace
) -> None:
    """The index was there before the branch."""
    files: dict[str, str | None] = {"folder/tracked": "2\n", "folder/more": None, "hid/den": "x\n"}
    commit_files(agentrelay_world.remote_path, files, message="Theirs", branch=sparse.branch)
    handle = pygit2.Repository(str(sparse.path))
    before = handle.head.target
    sparse.pull()
    reset = pygit2.Repository(str(sparse.path))
    reset.references[f"refs/heads/{sparse.branch}"].set_target(before)
    assert len(sparse.pull()) == 1
    assert sparse.status().is_clean
    assert not (sparse.path / "hid").exists()


def test_an_untracked_file_in_a_hidden_place_is_in_the_way(
    agentrelay_world: World, sparse: LaneWorkspace
) -> None:
    """Hidden there would be others' file, and what is there would be taken for it."""
    files = {"hid": "new\n", "folder/x": "new\n"}
    commit_files(agentrelay_world.remote_path, files, message="Theirs", branch=sparse.branch)
    (sparse.path / "folder").mkdir()
    (sparse.path / "folder" / "x").write_text("mine\n")
    with pytest.raises(LaneConflictError, match="'folder/x'"):
        sparse.pull()
    assert (sparse.path / "folder" / "x").read_text() == "mine\n"


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


def test_what_is_put_back_after_a_stopped_pull_stays_hidden(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """A sparse lane's hidden files are neither written by putting back nor by the next pull."""
    hide(workspace, "/*\n!/notes\n!/fresh\n", "notes")
    begun(agentrelay_world, workspace)
    assert workspace.status().is_clean
    assert len(workspace.pull()) == 1
    assert workspace.status().is_clean
    for name in ("notes", "fresh"):
        assert not (workspace.path / name).exists()
    index = pygit2.Repository(str(workspace.path)).index
    assert {entry.path for entry in index} >= {"notes", "fresh"}
