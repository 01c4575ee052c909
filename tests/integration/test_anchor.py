"""New objects that no ref leads to yet are safe from any garbage collection."""

from __future__ import annotations

from pathlib import Path

import pygit2
import pytest

from agentrelay.workstream._git.anchor import anchored, weigh_anchors
from agentrelay.workstream._git.refs import create_ref, delete_ref
from agentrelay.workstream._git.repository import OpenRepository, open_repository
from agentrelay.workstream.errors import RepositoryError
from agentrelay.workstream.testing import (
    BranchRecipe,
    CommitRecipe,
    RepositoryRecipe,
    create_bare_repository,
    read_tree,
)

_OWNER = "refs/agentrelay/rescue/nightly/parser"
_FILES = {"kept/old.txt": "old", "changed/a.txt": "a", "changed/b.txt": "b"}


@pytest.fixture
def bare(tmp_path: Path) -> OpenRepository:
    """Return a repository with a few files."""
    recipe = RepositoryRecipe((BranchRecipe("main", (CommitRecipe("files", _FILES),)),))
    return open_repository(create_bare_repository(tmp_path / "bare.git", recipe))


def _snapshot(bare: OpenRepository) -> str:
    """Write a commit no ref leads to: one file changed, one added."""
    handle, index = bare.handle, pygit2.Index()
    head = handle.references["refs/heads/main"].peel(pygit2.Commit)
    index.read_tree(head.tree)
    for path in ("changed/a.txt", "new/c.txt"):
        blob = handle.create_blob(f"new text of {path}".encode())
        index.add(pygit2.IndexEntry(path, blob, pygit2.enums.FileMode.BLOB))
    author = pygit2.Signature("A", "a@example.invalid", 1, 0)
    tree = index.write_tree(handle)
    return str(handle.create_commit(None, author, author, "snapshot", tree, [head.id]))


def _pack_dir(bare: OpenRepository) -> Path:
    return bare.common_dir / "objects" / "pack"


def _collect_loose(bare: OpenRepository) -> None:
    """Do what ``git prune --expire=now`` may do to objects it saw no ref to."""
    for folder in (bare.common_dir / "objects").glob("??"):
        for item in folder.iterdir():
            item.unlink()


def test_an_anchored_commit_outlives_all_loose_objects(bare: OpenRepository) -> None:
    """While the ref is written every new object is in a pack that is marked to stay."""
    commit_id = _snapshot(bare)
    bare.handle.pack(_pack_dir(bare), pack_delegate=lambda pack: _add_main(bare, pack))
    before = set(_pack_dir(bare).iterdir())
    with anchored(bare, commit_id, owner=_OWNER):
        made = {path.suffix for path in set(_pack_dir(bare).iterdir()) - before}
        assert {".pack", ".idx", ".keep"} <= made
        _collect_loose(bare)
        create_ref(bare, f"{_OWNER}/now/untracked", commit_id, message="rescue")
    assert read_tree(bare.path, commit_id) == {
        "changed/a.txt": b"new text of changed/a.txt",
        "changed/b.txt": b"b",
        "kept/old.txt": b"old",
        "new/c.txt": b"new text of new/c.txt",
    }
    assert not list(_pack_dir(bare).glob("*.keep"))
    assert not (bare.own_dir / "packing").exists()


def _add_main(bare: OpenRepository, pack: pygit2.PackBuilder) -> None:
    """Put everything of the branch into a pack, as a garbage collection has done before."""
    head = bare.handle.references["refs/heads/main"].peel(pygit2.Commit)
    pack.add(head.id)
    pack.add_recur(head.tree.id)


def test_only_what_is_new_is_packed(bare: OpenRepository) -> None:
    """A snapshot of a few files costs a few objects, however large the repository is."""
    commit_id = _snapshot(bare)
    before = set(_pack_dir(bare).iterdir())
    with anchored(bare, commit_id, owner=_OWNER):
        (pack,) = {path for path in set(_pack_dir(bare).iterdir()) if path.suffix == ".pack"}
        assert pack not in before
        # gitformat-pack(5): the count is in the bytes 8 to 11. Commit, root, two folders
        # and two files.
        assert int.from_bytes(pack.read_bytes()[8:12], "big") == 6


def test_a_failure_inside_leaves_no_mark(bare: OpenRepository) -> None:
    """A pack that is marked for ever would never be tidied up."""
    commit_id = _snapshot(bare)
    with pytest.raises(ValueError, match="stop"), anchored(bare, commit_id, owner=_OWNER):
        raise ValueError("stop")
    assert not list(_pack_dir(bare).glob("*.keep"))
    assert not (bare.own_dir / "packing").exists()


def test_an_object_that_is_gone_already_is_said(bare: OpenRepository) -> None:
    """What cannot be kept is an error, before anything that holds the work is deleted."""
    commit_id = _snapshot(bare)
    _collect_loose(bare)
    fresh = open_repository(bare.path)
    with (
        pytest.raises(RepositoryError, match="garbage collection"),
        anchored(fresh, commit_id, owner=_OWNER),
    ):
        pytest.fail("there is nothing to anchor")


def test_marks_of_a_killed_process_go_and_others_stay(bare: OpenRepository) -> None:
    """Only the same owner's, by what is written in them."""
    pack_dir = _pack_dir(bare)
    pack_dir.mkdir(exist_ok=True)
    (pack_dir / "pack-1.keep").write_text(f"agentrelay-workstream {_OWNER}\n")
    (pack_dir / "pack-2.keep").write_text(f"agentrelay-workstream {_OWNER}2\n")
    (pack_dir / "pack-3.keep").write_text("fetch-pack 1 on host\n")
    (pack_dir / "pack-4.keep").write_bytes(b"\xff")
    weigh_anchors(bare, owner=_OWNER)
    left = sorted(path.name for path in pack_dir.glob("*.keep"))
    assert left == ["pack-2.keep", "pack-3.keep", "pack-4.keep"]


def test_a_rescue_ref_also_stands_in_a_log_until_it_is_deleted(bare: OpenRepository) -> None:
    """A collection that has passed the refs by when this one is made reads the logs last."""
    tip = str(bare.handle.references["refs/heads/main"].target)
    ref, log = f"{_OWNER}/now/commits", bare.common_dir / "logs" / _OWNER / "now" / "commits"
    assert create_ref(bare, ref, tip, message="rescue: commits")
    old, new, rest = log.read_text().split(" ", 2)
    assert (old, new) == ("0" * 40, tip)
    assert rest.endswith("\trescue: commits\n")
    assert bare.handle.references[ref].log is not None
    assert delete_ref(bare, ref, expected=tip)
    assert not log.exists()
