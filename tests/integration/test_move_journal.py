"""A worktree whose move to another commit was stopped is put back, and nobody's work with it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pygit2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygit2.enums import FileMode, ResetMode

from agentrelay.workstream import LaneWorkspace, NothingToCommitError
from agentrelay.workstream._git.move_journal import undo_move
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream.testing import World, commit_files
from agentrelay.workstream.testing.repositories import clone_repository, create_bare_repository
from tests._examples import tries
from tests.integration._workspaces import picture, repo_of, workspace_in, write

_NAME: Final = "agentrelay-move"
# A file where the other commit has a folder, and the reverse; one by itself, one deep.
_PATHS: Final = ("a", "a/b", "c", "d/e", "d/f/g")
_CONTENTS: Final = ("", "one\n", "one\ntwo\n", "two\r\nthree\r\n")

Files = Mapping[str, str]


def _fits(files: Files) -> bool:
    return not ("a" in files and "a/b" in files)


_files = st.dictionaries(st.sampled_from(_PATHS), st.sampled_from(_CONTENTS)).filter(_fits)


def note(workspace: LaneWorkspace, target: str, *conflicts: str) -> Path:
    """Write down that a move was begun, as whoever was killed did."""
    path = Path(pygit2.Repository(str(workspace.path)).path, _NAME)
    document = {
        "tip": workspace.status().commit_id,
        "target": target,
        "conflicts": list(conflicts),
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a working tree; each example resets it."""
    root = tmp_path_factory.mktemp("moved")
    return clone_repository(create_bare_repository(root / "origin.git"), root / "clone")


def commit(handle: pygit2.Repository, files: Files) -> str:
    """Commit some files without a parent, and nothing else."""
    index = pygit2.Index()
    for path, text in files.items():
        index.add(pygit2.IndexEntry(path, handle.create_blob(text.encode()), FileMode.BLOB))
    who = pygit2.Signature("A", "a@example.invalid", 1_704_067_200)
    return str(handle.create_commit(None, who, who, "x", index.write_tree(handle), []))


@given(data=st.data(), old=_files, new=_files, is_staged=st.booleans())
@tries(40)
def test_wherever_it_was_stopped_it_is_put_back(
    top: Path, data: st.DataObject, old: Files, new: Files, *, is_staged: bool
) -> None:
    """Each file old, new, torn or gone; the index old or new. Somebody's own file stays."""
    for left in top.iterdir():
        if left.is_dir() and left.name != ".git":
            shutil.rmtree(left)
        elif left.name != ".git":
            left.unlink()
    handle = pygit2.Repository(str(top))
    tip, target = commit(handle, old), commit(handle, new)
    handle.references["refs/heads/main"].set_target(tip)
    handle.reset(pygit2.Oid(hex=tip), ResetMode.HARD)
    for path in {*old, *new}:
        if old.get(path) == new.get(path):
            continue
        states = [files[path] for files in (old, new) if path in files]
        states += [text[: len(text) // 2] for text in states]
        state = data.draw(st.none() | st.sampled_from(states), label=path)
        place = top / path
        blocked = any((top / up).is_file() for up in Path(path).parents[:-1]) or place.is_dir()
        if blocked:
            continue
        if state is None:
            place.unlink(missing_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(state.encode())
    (top / "own").write_text("somebody's\n")
    if is_staged:
        handle.index.read_tree(handle[target].peel(pygit2.Tree))
        handle.index.write()
    document = {"tip": tip, "target": target, "conflicts": []}
    Path(handle.path, _NAME).write_text(json.dumps(document))
    undo_move(open_repository(top))
    assert not Path(handle.path, _NAME).exists()
    assert pygit2.Repository(str(top)).status() == {"own": pygit2.enums.FileStatus.WT_NEW}


def test_a_pull_that_was_killed_in_a_file_is_put_back_and_repeated(
    agentrelay_world: World,
) -> None:
    """Half a file is nobody's; a commit that comes first does not take it for work."""
    lane = workspace_in(agentrelay_world)
    theirs = {"README.md": "theirs, and long\n", "new": "theirs\n", "run": None}
    target = commit_files(agentrelay_world.remote_path, theirs, message="T", branch=lane.branch)
    lane.pull()
    handle = pygit2.Repository(str(lane.path))
    handle.reset(handle[target].peel(pygit2.Commit).parent_ids[0], ResetMode.HARD)
    before = picture(lane)
    write(lane, README__md="theirs, an", new="")
    (lane.path / "run").unlink()
    place = note(lane, target)
    with pytest.raises(NothingToCommitError):
        lane.commit("Work")
    assert picture(lane) == before
    assert not place.exists()
    write(lane, README__md="theirs, an")
    note(lane, target)
    assert [commit.commit_id for commit in lane.pull()] == [target]
    assert lane.status().is_clean


def test_what_somebody_made_since_is_left_alone(agentrelay_world: World) -> None:
    """An edit, a folder, a link: none of them is what was being written."""
    lane = workspace_in(agentrelay_world)
    theirs = {"README.md": "theirs\n", "new": "theirs\n", "more": "1\n", "deep/x": "1\n"}
    target = commit_files(repo_of(lane), theirs, message="T", branch="other")
    write(lane, README__md="ours\n", deep="ours\n")
    (lane.path / "new").mkdir()
    (lane.path / "new" / "mine").write_text("1\n")
    (lane.path / "more").symlink_to("nowhere")
    before = picture(lane)
    note(lane, target)
    lane.resolve(["README.md"])
    assert picture(lane) == before


def test_a_mode_that_somebody_set_since_stays(agentrelay_world: World) -> None:
    """Neither commit has it: what the file holds, old or new, does not tell whose it is."""
    lane = workspace_in(agentrelay_world)
    theirs = {"README.md": "theirs\n", "new": "theirs\n"}
    target = commit_files(repo_of(lane), theirs, message="T", branch="other")
    write(lane, new="theirs\n")
    for name in ("README.md", "new"):
        (lane.path / name).chmod(0o755)
    note(lane, target)
    lane.resolve(["README.md"])
    for name in ("README.md", "new"):
        assert (lane.path / name).stat().st_mode & 0o100, name


def test_a_note_that_says_nothing_is_no_hindrance(agentrelay_world: World) -> None:
    """Garbage, another commit, a merge in progress, or a pipe in its place."""
    lane = workspace_in(agentrelay_world)
    target = commit_files(repo_of(lane), {"README.md": "1\n"}, message="T", branch="other")
    write(lane, README__md="1\n")
    before = picture(lane)
    path = note(lane, target)
    for text in ("", "[]", '{"tip": 1, "target": 2, "conflicts": []}', "\0", "[" * 100_000):
        path.write_text(text)
        lane.resolve(["README.md"])
        assert not path.exists()
    note(lane, "f" * 40)
    lane.resolve(["README.md"])
    os.mkfifo(path)
    lane.resolve(["README.md"])
    path.unlink()
    assert picture(lane) == before
    note(lane, target)
    (path.parent / "MERGE_HEAD").write_text(f"{target}\n")
    lane.resolve(["README.md"])
    assert not path.exists()
    assert (lane.path / "README.md").read_text() == "1\n"


@pytest.mark.parametrize("path", ["a\0b", "\ud800", "x" * 5_000, "/etc/passwd", "src", ""])
def test_conflicts_that_no_index_can_have_are_passed_over(
    agentrelay_world: World, path: str
) -> None:
    """What was being done is put back all the same."""
    lane = workspace_in(agentrelay_world)
    before = picture(lane)
    target = commit_files(repo_of(lane), {"new": "theirs\n"}, message="T", branch="other")
    write(lane, new="thei")
    place = note(lane, target, path)
    lane.resolve(["README.md"])
    assert not place.exists()
    assert not (lane.path / "new").exists()
    assert picture(lane)[:1] == before[:1]


@pytest.mark.parametrize("name", [b"../evil", b"d/../../evil", b".GIT"])
def test_names_that_lead_elsewhere_are_not_put_back(agentrelay_world: World, name: bytes) -> None:
    """What is outside is not removed, although it is what would have been written there."""
    lane = workspace_in(agentrelay_world)
    outside = lane.path / os.fsdecode(name)
    (lane.path / "d").mkdir()
    outside.write_text("evil\n")
    handle = pygit2.Repository(str(lane.path))
    blob = handle.create_blob(b"evil\n").raw
    tree = handle.write(pygit2.enums.ObjectType.TREE, b"100644 " + name + b"\0" + blob)
    note(lane, str(tree))
    lane.resolve(["README.md"])
    assert outside.read_text() == "evil\n"
    assert (lane.path / "README.md").is_file()


def test_conflicts_of_a_merge_that_was_not_left_to_the_end_are_put_back(
    agentrelay_world: World,
) -> None:
    """The index has its stages, and nothing says yet that there is a merge."""
    lane = workspace_in(agentrelay_world)
    write(lane, README__md="ours\n", kept="ours\n")
    (lane.path / "run").unlink()
    lane.commit("Ours")
    before = picture(lane)
    theirs = {"README.md": "base\n", "run": "changed\n", "kept": "base\n"}
    commit_files(agentrelay_world.remote_path, theirs, message="B", branch="main")
    found = lane.sync(leave_conflicts=True)
    handle = pygit2.Repository(str(lane.path))
    tree = handle.TreeBuilder(handle.head.peel(pygit2.Tree))
    for name in ("README.md", "run", "kept"):
        blob = handle.create_blob((lane.path / name).read_bytes())
        tree.insert(name, blob, FileMode.BLOB)
    for name in ("MERGE_HEAD", "MERGE_MODE", "MERGE_MSG"):
        Path(handle.path, name).unlink()
    note(lane, str(tree.write()), *(conflict.path for conflict in found.conflicts))
    with pytest.raises(NothingToCommitError):
        lane.commit("Work")
    assert picture(lane) == before
