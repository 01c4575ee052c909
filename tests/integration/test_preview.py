"""What merging lanes would come to is told without anything being written."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import FileMode, ObjectType

from agentrelay.workstream import (
    ConflictHunk,
    ConflictKind,
    GitWorkstreamPreparer,
    LaneNameError,
    MergePreview,
    PathConflict,
    RepositoryError,
    WorkstreamRuntime,
    WorkstreamSpec,
    preview_merge,
    preview_pairs,
)
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream._git.scratch import keep_objects_in_memory
from agentrelay.workstream.testing import (
    BranchRecipe,
    CommitRecipe,
    Executable,
    RepositoryRecipe,
    Symlink,
    clone_repository,
    commit_files,
    create_bare_repository,
    refs,
)
from agentrelay.workstream.testing.repositories import FileContent

TEXT = "".join(f"line {number}\n" for number in range(20))


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return a bare repository with a text in it."""
    where = create_bare_repository(tmp_path / "origin.git")
    commit_files(where, {"text": TEXT, "data": b"\0\1", "bytes": b"caf\xe9\n"}, message="Start")
    return where


def on_branches(repo: Path, **files: Mapping[str, FileContent]) -> None:
    """Commit to new branches, each of one name."""
    for branch, changes in files.items():
        commit_files(repo, changes, message=branch, branch=branch)


def everything(root: Path) -> dict[str, bytes | None]:
    """Return every file below a directory, with what is in it."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
    }


def changed(text: str, line: int, words: str) -> str:
    """Return a text with one line replaced."""
    return text.replace(f"line {line}\n", f"{words}\n")


def test_a_lane_is_looked_at_against_its_remote_target(bare: Path, tmp_path: Path) -> None:
    """The runtime says which; the target is what was fetched, and nothing is written."""
    repo = clone_repository(bare, tmp_path / "clone")
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    GitWorkstreamPreparer(repo, "nightly").prepare_workstream(lane)
    assert lane.state.worktree_path is not None
    tip = commit_files(lane.state.worktree_path, {"text": changed(TEXT, 3, "A")}, message="A")
    theirs = commit_files(bare, {"text": changed(TEXT, 3, "B")}, message="B")
    before = preview_merge(repo, lane)
    assert (before.is_mergeable, before.conflicts) == (True, ())
    pygit2.Repository(str(repo)).remotes["origin"].fetch()
    all_files = everything(tmp_path)
    preview = preview_merge(repo, lane)
    assert everything(tmp_path) == all_files
    assert preview == MergePreview(
        f"refs/heads/{lane.state.branch_name}",
        "refs/remotes/origin/main",
        tip,
        theirs,
        conflicts=(PathConflict("text", ConflictKind.CONTENT, (ConflictHunk(("A",), ("B",)),)),),
    )
    assert not preview.is_mergeable
    assert preview.paths == ("text",)
    assert pickle.loads(pickle.dumps(preview)) == preview  # noqa: S301 - made in the line itself


def test_a_clean_merge_is_told_with_its_tree_and_leaves_no_object(bare: Path) -> None:
    """Files merged line by line are in the tree, which is nowhere on the disk."""
    on_branches(bare, one={"text": changed(TEXT, 2, "A")}, other={"text": changed(TEXT, 17, "B")})
    before = everything(bare)
    preview = preview_merge(bare, "one", target="other")
    assert everything(bare) == before
    assert (preview.is_mergeable, preview.is_merged, preview.is_certain) == (True, False, True)
    assert preview.tree_id is not None
    assert preview.tree_id not in pygit2.Repository(str(bare))
    both = {"text": changed(changed(TEXT, 2, "A"), 17, "B")}
    commit_files(bare, both, message="By hand", branch="one")
    made = pygit2.Repository(str(bare)).revparse_single("one").peel(pygit2.Tree)
    assert str(made.id) == preview.tree_id


def test_what_is_merged_or_ahead_needs_no_merge(bare: Path) -> None:
    """The tree is the one of the side that has it all."""
    on_branches(bare, ahead={"new": "x\n"})
    repo = pygit2.Repository(str(bare))
    tree = str(repo.revparse_single("ahead").peel(pygit2.Tree).id)
    ahead = preview_merge(bare, "ahead", target="main")
    behind = preview_merge(bare, "main", target="ahead")
    same = preview_merge(bare, "main", target="main")
    assert [each.is_merged for each in (ahead, behind, same)] == [False, True, True]
    assert {ahead.tree_id, behind.tree_id} == {tree}
    assert all(each.is_mergeable for each in (ahead, behind, same))


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (
            {"text": changed(changed(TEXT, 2, "A"), 15, "<<<<<<< C")},
            {"text": changed(changed(TEXT, 2, "B\r"), 15, "=======")},
            [
                PathConflict(
                    "text",
                    ConflictKind.CONTENT,
                    (
                        ConflictHunk(("A",), ("B",)),
                        ConflictHunk(("<<<<<<< C",), ("=======",)),
                    ),
                )
            ],
        ),
        (
            {"new": "a\n"},
            {"new": "b"},
            [PathConflict("new", ConflictKind.ADD_ADD, (ConflictHunk(("a",), ("b",)),))],
        ),
        (
            {"text": None},
            {"text": changed(TEXT, 2, "B")},
            [PathConflict("text", ConflictKind.MODIFY_DELETE, is_in_source=False)],
        ),
        (
            {"text": changed(TEXT, 2, "B")},
            {"text": None},
            [PathConflict("text", ConflictKind.MODIFY_DELETE, is_in_target=False)],
        ),
        ({"data": b"\0\2"}, {"data": b"\0\3"}, [PathConflict("data", ConflictKind.CONTENT)]),
        (
            {"bytes": b"th\xe9\n"},
            {"bytes": "thé\n"},
            [PathConflict("bytes", ConflictKind.CONTENT, (ConflictHunk(("th\ufffd",), ("thé",)),))],
        ),
        ({"new": Symlink("a")}, {"new": Symlink("b")}, [PathConflict("new", ConflictKind.ADD_ADD)]),
        (
            {"new": Executable("x\n")},
            {"new": "x\n"},
            [PathConflict("new", ConflictKind.ADD_ADD)],
        ),
        (
            {"new/file": "x\n"},
            {"new": "y\n"},
            [PathConflict("new", ConflictKind.FILE_DIRECTORY, is_in_source=False)],
        ),
        (
            {"text": None, "one": TEXT},
            {"text": None, "two": TEXT},
            [
                PathConflict("one", ConflictKind.RENAME, is_in_target=False),
                PathConflict("text", ConflictKind.RENAME, is_in_source=False, is_in_target=False),
                PathConflict("two", ConflictKind.RENAME, is_in_source=False),
            ],
        ),
        (
            {"long": "a" * 5_000_000},
            {"long": "b" * 5_000_000},
            [PathConflict("long", ConflictKind.ADD_ADD)],
        ),
    ],
)
def test_each_kind_of_conflict_is_told(
    bare: Path,
    source: dict[str, FileContent],
    target: dict[str, FileContent],
    expected: list[PathConflict],
) -> None:
    """Paths, kinds, sides and lines, markers in the text or not; a pair tells the same."""
    on_branches(bare, source=source, target=target)
    before = everything(bare)
    preview = preview_merge(bare, "source", target="target")
    assert list(preview.conflicts) == expected
    assert preview.tree_id is None
    assert preview_pairs(bare, ["target", "source"]) == [preview]
    assert everything(bare) == before


def test_only_pairs_that_conflict_are_told(bare: Path) -> None:
    """Each pair once, in the order of the lanes; a merged or ancestor lane is in nobody's way."""
    on_branches(
        bare,
        a={"text": changed(TEXT, 2, "A")},
        b={"text": changed(TEXT, 2, "B")},
        c={"text": changed(TEXT, 12, "C")},
        d={"dir": "file\n"},
        e={"dir/below": "file\n"},
        f={"elsewhere": "file\n"},
    )
    pairs = preview_pairs(bare, [*"abcdef", "main", "a"])
    assert [(each.target[-1], each.source[-1]) for each in pairs] == [
        ("a", "b"),
        ("b", "a"),
        ("d", "e"),
    ]
    assert preview_pairs(bare, []) == preview_pairs(bare, ["a"]) == []


def test_fifty_lanes_that_keep_apart_all_go_together(bare: Path) -> None:
    """The number of pairs is no reason to tell fewer."""
    names = [f"lane{number}" for number in range(50)]
    on_branches(bare, **{name: {f"{name}/file": "x\n"} for name in names})
    assert preview_pairs(bare, names) == []
    commit_files(bare, {"lane0/file": "y\n"}, message="Clash", branch="lane49")
    (pair,) = preview_pairs(bare, names)
    assert pair.paths == ("lane0/file",)


def test_crossed_histories_are_merged_although_paths_keep_apart(bare: Path) -> None:
    """What paths prove of one common commit they do not prove of two."""
    repo = pygit2.Repository(str(bare))
    on_branches(bare, a={"text": changed(TEXT, 2, "A")}, b={"other": "x\n"})
    a, b = (repo.revparse_single(name).peel(pygit2.Commit) for name in "ab")
    who = pygit2.Signature("A", "a@example.invalid", 1_704_067_200)
    for name, first, second, tree in (("c", a, b, b.tree_id), ("d", b, a, a.tree_id)):
        parents = [first.id, second.id]
        repo.create_commit(f"refs/heads/{name}", who, who, name, tree, parents)
    preview = preview_merge(bare, "c", target="d")
    assert preview.is_mergeable
    assert not preview.is_certain
    assert preview_pairs(bare, ["c", "d"]) == []


def test_histories_without_a_common_commit_are_told(bare: Path) -> None:
    """Nothing conflicts, and yet git would not merge them."""
    repo = pygit2.Repository(str(bare))
    who = pygit2.Signature("A", "a@example.invalid", 1)
    tree = repo.revparse_single("main").peel(pygit2.Tree).id
    repo.create_commit("refs/heads/alien", who, who, "Alone", tree, [])
    preview = preview_merge(bare, "alien", target="main")
    assert (preview.is_related, preview.is_mergeable, preview.tree_id) == (False, False, None)
    assert preview_pairs(bare, ["main", "alien"]) == [preview]


def test_a_shallow_repository_does_not_claim_that_nothing_is_common(bare: Path) -> None:
    """Where the common commit may be cut off, that is an error and no answer."""
    repo = pygit2.Repository(str(bare))
    who = pygit2.Signature("A", "a@example.invalid", 1)
    tree = repo.revparse_single("main").peel(pygit2.Tree).id
    alien = repo.create_commit("refs/heads/alien", who, who, "Alone", tree, [])
    (bare / "shallow").write_text(f"{alien}\n")
    with pytest.raises(RepositoryError, match="shallow") as caught:
        preview_merge(bare, "alien", target="main")
    assert "unshallow" in str(caught.value.hint)


def test_an_unreadable_history_is_an_error(bare: Path) -> None:
    """A missing object is named as such, and not taken for an answer."""
    on_branches(bare, a={"text": changed(TEXT, 2, "A")}, b={"text": changed(TEXT, 2, "B")})
    repo = pygit2.Repository(str(bare))
    lost = str(repo.revparse_single("a:text").id)
    path = bare / "objects" / lost[:2] / lost[2:]
    path.chmod(0o644)
    path.unlink()
    for look in (
        lambda: preview_merge(bare, "a", target="b"),
        lambda: preview_pairs(bare, ["a", "b"]),
    ):
        with pytest.raises(RepositoryError, match="cannot merge"):
            look()


def test_names_that_are_no_text_are_no_obstacle(bare: Path) -> None:
    """A path is what the file system would call it, whatever its bytes."""
    repo = pygit2.Repository(str(bare))
    who = pygit2.Signature("A", "a@example.invalid", 1_704_067_200)
    start = repo.revparse_single("main").peel(pygit2.Commit)
    for name in "ab":
        # pygit2's builder of trees takes text only.
        blob = repo.create_blob(name.encode())
        inner = repo.write(ObjectType.TREE, b"100644 caf\xe9\0" + blob.raw)
        tree = repo.write(ObjectType.TREE, b"40000 d\xe9\0" + inner.raw)
        repo.create_commit(f"refs/heads/{name}", who, who, name, tree, [start.id])
    preview = preview_merge(bare, "a", target="b")
    assert preview.paths == (os.fsdecode(b"d\xe9/caf\xe9"),)
    assert preview_pairs(bare, ["b", "a"]) == [preview]


def test_the_tree_of_a_clean_merge_knows_names_that_are_no_text(bare: Path) -> None:
    """A path of any bytes is merged, and counts for the tree's id, like another."""
    repo = pygit2.Repository(str(bare))
    who = pygit2.Signature("A", "a@example.invalid", 1_704_067_200)
    blob = repo.create_blob(b"x")
    start = repo.create_commit(None, who, who, "Start", repo.write(ObjectType.TREE, b""), [])
    entries = {"a": b"100644 a\xe9\0" + blob.raw, "b": b"100755 b\xe9\0" + blob.raw}
    for name, data in entries.items():
        inner = repo.write(ObjectType.TREE, data)
        tree = repo.write(ObjectType.TREE, b"40000 " + name.encode() + b"\xe9\0" + inner.raw)
        repo.create_commit(f"refs/heads/{name}", who, who, name, tree, [start])
    preview = preview_merge(bare, "a", target="b")
    both = b"".join(repo.revparse_single(name).peel(pygit2.Tree).read_raw() for name in ("a", "b"))
    assert preview.tree_id == str(repo.write(ObjectType.TREE, both))


def test_a_merge_that_leaves_nothing_has_the_empty_tree(bare: Path) -> None:
    """Both sides delete a part, and directories go with their last file."""
    empty = create_bare_repository(
        bare.parent / "few.git",
        RepositoryRecipe(
            (BranchRecipe("main", (CommitRecipe("Start", {"a": "a\n", "d/e/b": "b\n"}),)),)
        ),
    )
    on_branches(empty, one={"a": None}, other={"d/e/b": None})
    for source, target in (("one", "other"), ("other", "one")):
        preview = preview_merge(empty, source, target=target)
        assert preview.tree_id == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def test_sides_may_be_branches_refs_or_commits(bare: Path, tmp_path: Path) -> None:
    """The local branch counts for the lane, the remote's for the target, each for want of other."""
    on_branches(bare, there={"new": "x\n"})
    repo = clone_repository(bare, tmp_path / "clone")
    ours = commit_files(repo, {"own": "x\n"}, message="Ours")
    found = preview_merge(repo, "main", target="main")
    assert (found.source, found.target) == ("refs/heads/main", "refs/remotes/origin/main")
    assert found.source_commit == ours
    assert found.target_commit == refs(repo)["refs/remotes/origin/main"]
    found = preview_merge(repo, "there", target="refs/heads/main")
    assert (found.source, found.target) == ("refs/remotes/origin/there", "refs/heads/main")
    found = preview_merge(repo, ours, target=ours)
    assert (found.source, found.target) == (ours, ours)


def test_what_is_not_there_is_refused(bare: Path, tmp_path: Path) -> None:
    """Each wrong operand is named."""
    with pytest.raises(RepositoryError, match="no branch or ref 'nothing'"):
        preview_merge(bare, "nothing", target="main")
    with pytest.raises(RepositoryError, match=f"no commit '{'0' * 40}'"):
        preview_pairs(bare, ["0" * 40])
    with pytest.raises(LaneNameError, match="branch"):
        preview_merge(bare, "a..b", target="main")
    with pytest.raises(LaneNameError, match="remote"):
        preview_pairs(bare, [], remote="a b")
    with pytest.raises(RepositoryError, match="no target"):
        preview_merge(bare, "main")
    with pytest.raises(RepositoryError, match="never prepared"):
        preview_merge(bare, WorkstreamRuntime(WorkstreamSpec("a")))
    with pytest.raises(RepositoryError, match="not a directory"):
        preview_pairs(tmp_path / "missing", [])


def test_a_handle_that_writes_to_memory_reads_as_before(bare: Path) -> None:
    """Objects of the disk are found by full and short names, those of memory by full ones."""
    repository = open_repository(bare)
    on_disk = repository.handle.revparse_single("main").id
    keep_objects_in_memory(repository)
    short = str(on_disk)[:12]
    assert repository.handle.expand_id(short) == on_disk
    assert repository.handle.revparse_single(short).id == on_disk
    made = repository.handle.create_blob(b"in memory")
    assert repository.handle[made].peel(pygit2.Blob).data == b"in memory"
    index = pygit2.Index()
    index.add(pygit2.IndexEntry("file", made, FileMode.BLOB))
    tree = index.write_tree(repository.handle)
    disk = pygit2.Repository(str(bare))
    assert made not in disk
    assert tree not in disk
