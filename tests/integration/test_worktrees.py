"""Linked worktrees: made so that git agrees, repaired, and removed without touching others."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import FileStatus, ObjectType

from agentrelay.workstream._git.refs import create_ref
from agentrelay.workstream._git.repository import OpenRepository, open_repository
from agentrelay.workstream._git.trash import set_aside, unlink_tree
from agentrelay.workstream._git.worktree_entries import (
    INITIALIZING,
    Entry,
    entries,
    entry_at,
    git_file_target,
    read_entry,
)
from agentrelay.workstream._git.worktrees import (
    check_out,
    link_worktree,
    relink_worktree,
    remove_entry,
    unlock_entry,
)
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.errors import LaneConflictError, RepositoryError
from agentrelay.workstream.testing.repositories import (
    clone_repository,
    commit_files,
    create_bare_repository,
    read_tree,
)


@pytest.fixture
def project(tmp_path: Path) -> OpenRepository:
    """A checkout with a remote, as a user has it."""
    bare = create_bare_repository(tmp_path / "bare.git")
    return open_repository(clone_repository(bare, tmp_path / "project"))


def _branch(repository: OpenRepository, name: str = "parser") -> Lane:
    """Return a lane whose branch exists."""
    lane = Lane.of(repository.path, "nightly", name)
    tip = repository.resolve("refs/heads/main")
    assert tip is not None
    create_ref(repository, lane.branch_ref, tip, message="branch: lane")
    return lane


def _link(repository: OpenRepository, lane: Lane) -> Entry:
    return link_worktree(
        repository,
        lane.worktree_path,
        branch_ref=lane.branch_ref,
        admin_name=lane.admin_name,
    )


def _make(repository: OpenRepository, name: str = "parser") -> tuple[Lane, Entry]:
    """Return a complete worktree: linked, checked out, unlocked."""
    lane = _branch(repository, name)
    entry = _link(repository, lane)
    check_out(lane.worktree_path)
    unlock_entry(entry)
    unlocked = read_entry(entry.admin_dir)
    assert unlocked is not None
    return lane, unlocked


def _dirty(path: Path) -> dict[str, int]:
    """Return what ``git status`` would list."""
    return dict(pygit2.Repository(str(path)).status())


def _as_plain_user(work: Callable[[], None]) -> None:
    """Run ``work`` in a thread that must obey permissions even where the tests run as root."""
    raised: list[BaseException] = []

    def run() -> None:
        if sys.platform == "linux" and os.geteuid() == 0:
            # capset(2) of this thread alone: version 3, no capability at all.
            header = (ctypes.c_uint32 * 2)(0x20080522, 0)
            nothing = (ctypes.c_uint32 * 6)()
            if ctypes.CDLL(None).capset(header, nothing) != 0:
                raised.append(RuntimeError("cannot drop capabilities"))
                return
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


# --- making -----------------------------------------------------------------------------


def test_a_made_worktree_is_one_for_libgit2_too(project: OpenRepository) -> None:
    """It is listed, stands on its branch, is clean, and holds the commit's files."""
    lane, entry = _make(project)
    handle = pygit2.Repository(str(project.path))
    assert handle.list_worktrees() == [lane.admin_name]
    assert Path(handle.lookup_worktree(lane.admin_name).path) == lane.worktree_path
    assert not handle.lookup_worktree(lane.admin_name).is_prunable
    inside = pygit2.Repository(str(lane.worktree_path))
    assert inside.head.name == lane.branch_ref
    assert _dirty(lane.worktree_path) == {}
    for name, content in read_tree(project.path, "main").items():
        assert (lane.worktree_path / name).read_bytes() == content
    assert os.access(lane.worktree_path / "run", os.X_OK)
    assert entry == Entry(
        project.common_dir / "worktrees" / lane.admin_name,
        lane.worktree_path,
        lane.branch_ref,
        locked=None,
    )
    assert entry.is_live
    assert not entry.is_half_made


def test_the_users_checkout_does_not_notice(project: OpenRepository) -> None:
    """HEAD, index and branch of the main working tree stay byte for byte."""
    kept = [project.common_dir / name for name in ("HEAD", "index", "refs/heads/main", "config")]
    before = [path.read_bytes() for path in kept]
    _make(project)
    assert [path.read_bytes() for path in kept] == before


def test_administrative_files_read_as_git_writes_them(project: OpenRepository) -> None:
    """One line each, the way to the repository relative, permissions as usual."""
    lane, entry = _make(project)
    files = {name: (entry.admin_dir / name).read_text() for name in ("HEAD", "commondir", "gitdir")}
    assert files == {
        "HEAD": f"ref: {lane.branch_ref}\n",
        "commondir": "../..\n",
        "gitdir": f"{lane.worktree_path}/.git\n",
    }
    assert (lane.worktree_path / ".git").read_text() == f"gitdir: {entry.admin_dir}\n"
    assert stat.S_IMODE(entry.admin_dir.stat().st_mode) == 0o755


def test_a_worktree_is_locked_until_it_is_complete(project: OpenRepository) -> None:
    """No ``git worktree prune`` removes it half made, and everybody can see that it is."""
    lane = _branch(project)
    entry = _link(project, lane)
    assert entry.locked == INITIALIZING
    assert entry.is_half_made
    assert entry.is_live
    assert (
        pygit2.Repository(str(project.path)).lookup_worktree(lane.admin_name).is_prunable is False
    )
    unlock_entry(entry)
    unlock_entry(entry)
    again = read_entry(entry.admin_dir)
    assert again is not None
    assert not again.is_half_made


def test_a_users_lock_is_not_mistaken_for_a_half_made_worktree(project: OpenRepository) -> None:
    """``git worktree lock --reason`` writes the same file with other words."""
    _, entry = _make(project)
    (entry.admin_dir / "locked").write_text("on a stick\n")
    locked = read_entry(entry.admin_dir)
    assert locked is not None
    assert locked.locked == "on a stick"
    assert not locked.is_half_made


def test_worktrees_come_from_bare_repositories_and_from_worktrees(
    project: OpenRepository, tmp_path: Path
) -> None:
    """Both share the one common directory that entries live in."""
    lane, _ = _make(project)
    inner, inner_entry = _make(open_repository(lane.worktree_path), "inner")
    assert inner_entry.admin_dir.parent == project.worktrees_admin_dir
    assert _dirty(inner.worktree_path) == {}
    bare, bare_entry = _make(open_repository(tmp_path / "bare.git"))
    assert bare_entry.admin_dir.parent == tmp_path / "bare.git" / "worktrees"
    assert _dirty(bare.worktree_path) == {}


def test_a_repository_behind_a_link_makes_worktrees_git_can_find(
    project: OpenRepository, tmp_path: Path
) -> None:
    """Git compares resolved paths, so those are what is written."""
    (tmp_path / "link").symlink_to(project.path)
    linked = open_repository(tmp_path / "link")
    lane, entry = _make(linked)
    assert (entry.admin_dir / "gitdir").read_text().startswith(str(project.path))
    assert entry.is_live
    found = entry_at(project, project.path / ".worktrees" / "nightly" / "parser")
    assert found is not None
    assert entry_at(linked, lane.worktree_path) is not None


@pytest.mark.parametrize("content", ["file", "directory", "foreign git file", "git directory"])
def test_files_that_are_not_ours_are_a_conflict_and_stay(
    project: OpenRepository, content: str
) -> None:
    """Nothing is written over, and no entry is made for it."""
    lane = _branch(project)
    lane.worktree_path.mkdir(parents=True)
    name = ".git" if "git" in content else "notes"
    if "file" in content:
        (lane.worktree_path / name).write_text("gitdir: /somewhere/else\n")
    else:
        (lane.worktree_path / name).mkdir()
    with pytest.raises(LaneConflictError, match=name) as caught:
        _link(project, lane)
    assert caught.value.obstacle == str(lane.worktree_path)
    assert [entry.name for entry in lane.worktree_path.iterdir()] == [name]
    assert list(entries(project)) == []


def test_a_file_where_the_worktree_belongs_is_an_error_and_stays(project: OpenRepository) -> None:
    """The message names the path; the file is untouched."""
    lane = _branch(project)
    lane.worktrees_dir.mkdir(parents=True)
    lane.worktree_path.write_text("mine")
    with pytest.raises(RepositoryError, match="parser"):
        _link(project, lane)
    assert lane.worktree_path.read_text() == "mine"


def test_what_a_crash_left_before_the_entry_is_completed(project: OpenRepository) -> None:
    """A ``.git`` file without its entry, and an entry built aside, are no obstacle."""
    lane = _branch(project)
    link = project.worktrees_admin_dir / lane.admin_name
    lane.worktree_path.mkdir(parents=True)
    (lane.worktree_path / ".git").write_text(f"gitdir: {link}\n")
    (project.own_dir / "new-left").mkdir(parents=True)
    (project.own_dir / "new-left" / "HEAD").write_text("ref: refs/heads/x\n")
    entry = _link(project, lane)
    assert entry.is_live
    assert not list(project.own_dir.glob("new-*"))
    check_out(lane.worktree_path)
    assert _dirty(lane.worktree_path) == {}


def test_many_worktrees_made_at_once_are_all_complete(project: OpenRepository) -> None:
    """Metadata is written in turn, files at the same time, and every lane is whole."""
    lanes = [_branch(project, f"lane-{number}") for number in range(8)]
    raised: list[BaseException] = []

    def make(lane: Lane) -> None:
        try:
            own = open_repository(project.path)
            with own.metadata_section():
                entry = _link(own, lane)
            check_out(lane.worktree_path)
            unlock_entry(entry)
        except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
            raised.append(error)

    threads = [threading.Thread(target=make, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []
    assert [entry.admin_dir.name for entry in entries(project)] == sorted(
        lane.admin_name for lane in lanes
    )
    assert all(entry.is_live and not entry.locked for entry in entries(project))
    assert [_dirty(lane.worktree_path) for lane in lanes] == [{}] * len(lanes)


# --- files ------------------------------------------------------------------------------


def test_an_interrupted_checkout_is_finished_by_the_next(project: OpenRepository) -> None:
    """Missing and half-written files are written, a stale lock goes, untracked files stay."""
    lane = _branch(project)
    entry = _link(project, lane)
    check_out(lane.worktree_path)
    (lane.worktree_path / "README.md").write_text("half a li")
    (lane.worktree_path / "run").unlink()
    (lane.worktree_path / "notes.txt").write_text("untracked")
    (entry.admin_dir / "index.lock").write_text("")
    check_out(lane.worktree_path)
    assert _dirty(lane.worktree_path) == {"notes.txt": FileStatus.WT_NEW}
    assert (lane.worktree_path / "notes.txt").read_text() == "untracked"


@pytest.mark.parametrize("name", [b"../escaped", b".git", b".GIT", b"git~1", b"a/../../escaped"])
def test_a_hostile_tree_is_refused_and_writes_nothing_outside(
    project: OpenRepository, tmp_path: Path, name: bytes
) -> None:
    """A tree that git would never make leads nowhere; the error says which worktree."""
    blob = project.handle.create_blob(b"[core]\n\tfsmonitor = touch /tmp/owned\n")
    raw = b"100644 " + name + b"\0" + blob.raw
    tree = project.handle.write(ObjectType.TREE, raw)
    main = project.handle[project.handle.references["refs/heads/main"].target]
    commit = (
        f"tree {tree}\nparent {main.id}\nauthor R <r@example.invalid> 1704067200 +0000\n"
        "committer R <r@example.invalid> 1704067200 +0000\n\nhostile\n"
    )
    commit_id = str(project.handle.write(ObjectType.COMMIT, commit.encode()))
    lane = Lane.of(project.path, "nightly", "parser")
    project.handle.references.create(lane.branch_ref, commit_id)
    entry = _link(project, lane)
    config = (project.common_dir / "config").read_bytes()
    with pytest.raises(RepositoryError) as caught:
        check_out(lane.worktree_path)
    assert str(lane.worktree_path) in str(caught.value)
    assert caught.value.hint
    assert not [path for path in tmp_path.rglob("*") if path.name == "escaped"]
    assert (project.common_dir / "config").read_bytes() == config
    assert (lane.worktree_path / ".git").read_text() == f"gitdir: {entry.admin_dir}\n"
    assert entry.is_half_made


# --- finding ----------------------------------------------------------------------------


def test_an_entry_is_found_by_its_worktree_and_only_by_it(project: OpenRepository) -> None:
    """Neighbours, the main checkout and missing directories are not it."""
    lane, entry = _make(project)
    _make(project, "other")
    assert entry_at(project, lane.worktree_path) == entry
    assert entry_at(project, project.path) is None
    assert entry_at(project, lane.worktrees_dir) is None
    assert entry_at(project, project.path / "nowhere") is None
    shutil.copytree(lane.worktree_path, lane.worktrees_dir / "copy")
    assert entry_at(project, lane.worktrees_dir / "copy") is None


def test_a_worktree_of_another_repository_is_not_ours(
    project: OpenRepository, tmp_path: Path
) -> None:
    """Its ``.git`` file leads elsewhere, however much its place looks like ours."""
    other = open_repository(clone_repository(tmp_path / "bare.git", tmp_path / "other"))
    lane, _ = _make(other)
    assert entry_at(other, lane.worktree_path) is not None
    assert entry_at(project, lane.worktree_path) is None


@pytest.mark.parametrize(
    "content", [b"", b"gitdir", b"gitdir: ", b"\xff\xfe", b"gitdir: /nowhere\n", b"x" * 100_000]
)
def test_a_damaged_git_file_is_no_worktree(project: OpenRepository, content: bytes) -> None:
    """Nothing is raised: a damaged worktree is simply not recognised."""
    lane, entry = _make(project)
    (lane.worktree_path / ".git").write_bytes(content)
    assert entry_at(project, lane.worktree_path) is None
    assert not entry.is_live


@pytest.mark.parametrize("name", ["HEAD", "gitdir", "locked"])
@pytest.mark.parametrize("content", [None, b"", b"\xff\x00", b"y" * 100_000])
def test_damaged_entries_are_listed_and_not_trusted(
    project: OpenRepository, name: str, content: bytes | None
) -> None:
    """Listing never fails; what cannot be read is ``None`` or not live."""
    lane, entry = _make(project)
    (entry.admin_dir / name).unlink(missing_ok=True)
    if content is not None:
        (entry.admin_dir / name).write_bytes(content)
    (found,) = entries(project)
    assert found.admin_dir == entry.admin_dir
    assert found.head_ref == (None if name == "HEAD" else lane.branch_ref)
    assert found.is_live == (name != "gitdir")


def test_a_detached_worktree_has_no_branch(project: OpenRepository) -> None:
    """An id in HEAD is not taken for a ref."""
    lane, entry = _make(project)
    handle = pygit2.Repository(str(lane.worktree_path))
    handle.set_head(handle[handle.head.target].id)
    found = read_entry(entry.admin_dir)
    assert found is not None
    assert found.head_ref is None


def test_an_operation_under_way_is_named(project: OpenRepository) -> None:
    """Git keeps these in the worktree's own entry; they are what a rescue must know."""
    _, entry = _make(project)
    expected = {
        "rebase-merge": "rebase",
        "rebase-apply": "rebase",
        "MERGE_HEAD": "merge",
        "CHERRY_PICK_HEAD": "cherry-pick",
        "REVERT_HEAD": "revert",
        "BISECT_LOG": "bisect",
    }
    found: dict[str, str | None] = {"none": entry.operation}
    for marker in expected:
        (entry.admin_dir / marker).touch()
        found[marker] = entry.operation
        (entry.admin_dir / marker).unlink()
    assert found == {"none": None, **expected}


def test_a_repository_without_worktrees_lists_none(project: OpenRepository) -> None:
    """The directory for entries need not exist, and no stray file in it is an entry."""
    assert list(entries(project)) == []
    project.worktrees_admin_dir.mkdir()
    (project.worktrees_admin_dir / "stray").write_text("x")
    assert list(entries(project)) == []
    assert read_entry(project.worktrees_admin_dir / "nowhere") is None


def test_a_relative_git_file_is_understood(project: OpenRepository) -> None:
    """Newer gits can link both sides with relative paths."""
    lane, entry = _make(project)
    relative = os.path.relpath(entry.admin_dir, lane.worktree_path)
    (lane.worktree_path / ".git").write_text(f"gitdir: {relative}\n")
    back = os.path.relpath(lane.worktree_path / ".git", entry.admin_dir)
    (entry.admin_dir / "gitdir").write_text(f"{back}\n")
    assert git_file_target(lane.worktree_path) == entry.admin_dir
    found = entry_at(project, lane.worktree_path)
    assert found is not None
    assert found.is_live
    assert found.worktree_path == lane.worktree_path


# --- repairing --------------------------------------------------------------------------


def test_a_deleted_worktree_comes_back_from_its_entry(project: OpenRepository) -> None:
    """Its commits were never in the directory, so a checkout restores everything."""
    lane, entry = _make(project)
    tip = commit_files(lane.worktree_path, {"new.txt": "work\n"}, message="Work")
    shutil.rmtree(lane.worktree_path)
    assert not entry.is_live
    repaired = relink_worktree(project, lane.worktree_path, entry)
    assert repaired.is_half_made
    assert repaired.is_live
    check_out(lane.worktree_path)
    unlock_entry(repaired)
    assert (lane.worktree_path / "new.txt").read_text() == "work\n"
    assert _dirty(lane.worktree_path) == {}
    assert project.resolve(lane.branch_ref) == tip


def test_a_moved_repository_finds_its_worktrees_again(project: OpenRepository) -> None:
    """Both sides hold absolute paths; repairing writes them anew and keeps the files."""
    lane, _ = _make(project)
    (lane.worktree_path / "README.md").write_text("edited\n")
    moved_path = project.path.with_name("moved")
    project.path.rename(moved_path)
    moved = open_repository(moved_path)
    there = Lane.of(moved_path, "nightly", "parser")
    stale = read_entry(moved.worktrees_admin_dir / lane.admin_name)
    assert stale is not None
    assert not stale.is_live
    repaired = relink_worktree(moved, there.worktree_path, stale)
    assert repaired.is_live
    assert not repaired.is_half_made
    assert _dirty(there.worktree_path) == {"README.md": FileStatus.WT_MODIFIED}
    assert (there.worktree_path / "README.md").read_text() == "edited\n"


# --- removing ---------------------------------------------------------------------------


def test_removing_takes_the_tree_and_the_entry_and_nothing_else(project: OpenRepository) -> None:
    """A sibling stays whole; git finds neither the worktree nor a leftover."""
    lane, entry = _make(project)
    sibling, _ = _make(project, "sibling")
    unlink_tree(set_aside(lane.worktree_path, trash_dir=lane.trash_dir))
    remove_entry(project, entry)
    assert not lane.worktree_path.exists()
    assert pygit2.Repository(str(project.path)).list_worktrees() == [sibling.admin_name]
    assert _dirty(sibling.worktree_path) == {}
    assert not lane.trash_dir.exists()
    assert not list(project.own_dir.rglob("gone-*"))


def test_the_last_entry_takes_the_directory_of_entries_with_it(project: OpenRepository) -> None:
    """The repository looks as it did before the first lane."""
    _, entry = _make(project)
    remove_entry(project, entry)
    assert not project.worktrees_admin_dir.exists()
    remove_entry(project, entry)


def test_removing_what_is_gone_is_harmless(tmp_path: Path) -> None:
    """Neither a missing tree nor nothing at all is an error, and no trash is made."""
    assert set_aside(tmp_path / "nowhere", trash_dir=tmp_path / "trash") is None
    unlink_tree(None)
    assert list(tmp_path.iterdir()) == []


def test_a_tree_disappears_at_once_and_is_whole_until_it_is_unlinked(tmp_path: Path) -> None:
    """Nobody ever sees half a tree under the old name."""
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "c.txt").write_text("whole")
    grave = set_aside(tree, trash_dir=tmp_path / "trash")
    assert grave is not None
    assert not tree.exists()
    assert (grave / "tree" / "a" / "b" / "c.txt").read_text() == "whole"
    unlink_tree(grave)
    assert list(tmp_path.iterdir()) == []


def test_links_are_removed_and_never_followed(tmp_path: Path) -> None:
    """Neither a link in the tree nor one in its place leads a removal outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept.txt").write_text("kept")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(outside)
    unlink_tree(set_aside(tree, trash_dir=tmp_path / "trash"))
    (tmp_path / "place").symlink_to(outside)
    unlink_tree(set_aside(tmp_path / "place", trash_dir=tmp_path / "trash"))
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (outside / "kept.txt").read_text() == "kept"


def test_read_only_directories_are_removed_too(tmp_path: Path) -> None:
    """Module caches are full of them, and no owner wants to chmod first."""
    deep = tmp_path / "tree" / "cache" / "module" / "deep"
    deep.mkdir(parents=True)
    (deep / "a.txt").write_text("a")
    (deep / "a.txt").chmod(0o444)
    (deep.parent / "link").symlink_to("deep")
    closed = deep.parent / "closed"
    closed.mkdir()
    (closed / "b.txt").write_text("b")
    closed.chmod(0o000)
    deep.chmod(0o555)
    deep.parent.chmod(0o555)
    trash = tmp_path / "trash"
    _as_plain_user(lambda: unlink_tree(set_aside(tmp_path / "tree", trash_dir=trash)))
    assert list(tmp_path.iterdir()) == []


def test_files_shared_with_another_tree_keep_their_permissions(tmp_path: Path) -> None:
    """Package stores hand out hard links; removing one name must not change the file."""
    store = tmp_path / "store.txt"
    store.write_text("shared")
    store.chmod(0o444)
    locked = tmp_path / "tree" / "locked"
    locked.mkdir(parents=True)
    (locked / "copy.txt").hardlink_to(store)
    locked.chmod(0o555)
    trash = tmp_path / "trash"
    _as_plain_user(lambda: unlink_tree(set_aside(tmp_path / "tree", trash_dir=trash)))
    assert stat.S_IMODE(store.stat().st_mode) == 0o444
    assert [path.name for path in tmp_path.iterdir()] == ["store.txt"]


def test_what_cannot_be_renamed_stays_whole_and_leaves_no_litter(tmp_path: Path) -> None:
    """A refusal is raised, the tree is untouched, and repeating it does not pile up."""
    parent = tmp_path / "parent"
    (parent / "tree").mkdir(parents=True)
    (parent / "tree" / "a.txt").write_text("a")
    parent.chmod(0o555)
    trash = tmp_path / "trash"
    with pytest.raises(PermissionError):
        _as_plain_user(lambda: unlink_tree(set_aside(parent / "tree", trash_dir=trash)))
    parent.chmod(0o755)
    assert (parent / "tree" / "a.txt").read_text() == "a"
    assert not list(tmp_path.rglob("gone-*"))


def test_threads_that_remove_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """They share one trash directory, which is gone in the end."""
    trash = tmp_path / "trash"
    trees = [tmp_path / f"tree-{number}" for number in range(16)]
    for tree in trees:
        (tree / "a").mkdir(parents=True)
        (tree / "a" / "b.txt").write_text("b")
    raised: list[BaseException] = []

    def remove(mine: list[Path]) -> None:
        try:
            for tree in mine:
                unlink_tree(set_aside(tree, trash_dir=trash))
        except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
            raised.append(error)

    threads = [threading.Thread(target=remove, args=(trees[at::4],)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []
    assert list(tmp_path.iterdir()) == []
