"""Throwaway repositories: the same every time, independent of their source, easy to picture."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pygit2
import pytest
from pygit2.enums import FileMode

from agentrelay.workstream.testing.repositories import (
    SMALL,
    BranchRecipe,
    CommitRecipe,
    Executable,
    RepositoryRecipe,
    Symlink,
    clone_repository,
    commit_files,
    create_bare_repository,
    read_tree,
    refs,
)

if TYPE_CHECKING:
    from pathlib import Path

_FORKED = RepositoryRecipe(
    branches=(
        BranchRecipe("trunk", (CommitRecipe("One", {"a.txt": "1\n", "dir/b.txt": b"\x00\xff"}),)),
        BranchRecipe("side", (CommitRecipe("Two", {"a.txt": None, "c": "3"}),), start="trunk"),
        BranchRecipe("same", start="trunk"),
        BranchRecipe("apart", (CommitRecipe("Other root", {"z": "z"}),)),
    ),
    default_branch="trunk",
)


def test_one_recipe_gives_one_set_of_ids(tmp_path: Path) -> None:
    """Ids are fixed across places, and across versions: this one may be relied upon."""
    first = refs(create_bare_repository(tmp_path / "one.git"))
    second = refs(create_bare_repository(tmp_path / "deep" / "two.git", SMALL))
    assert first == second == {"refs/heads/main": "f74841897eb3202f20dd4d07bd4260b1ba5d4503"}


def test_branches_fork_where_the_recipe_says(tmp_path: Path) -> None:
    """A branch starts at the tip of the earlier one, or has a root of its own."""
    path = create_bare_repository(tmp_path / "bare.git", _FORKED)
    repo = pygit2.Repository(str(path))
    trunk, side, same, apart = (
        repo.branches[name].peel(pygit2.Commit) for name in ("trunk", "side", "same", "apart")
    )
    assert side.parent_ids == [trunk.id]
    assert same.id == trunk.id
    assert apart.parent_ids == []
    assert side.commit_time - trunk.commit_time == 60
    assert repo.is_bare
    assert repo.head.name == "refs/heads/trunk"


def test_the_picture_of_a_tree_is_its_files(tmp_path: Path) -> None:
    """Contents come by path, bytes untouched, deleted files gone, for any name of a commit."""
    path = create_bare_repository(tmp_path / "bare.git", _FORKED)
    assert read_tree(path, "trunk") == {"a.txt": b"1\n", "dir/b.txt": b"\x00\xff"}
    assert read_tree(path, "refs/heads/side") == {"c": b"3", "dir/b.txt": b"\x00\xff"}
    assert read_tree(path, refs(path)["refs/heads/apart"]) == {"z": b"z"}
    with pytest.raises(KeyError):
        read_tree(path, "nowhere")


def test_the_picture_of_a_tree_leaves_submodules_out(tmp_path: Path) -> None:
    """A submodule's files live in another repository."""
    path = create_bare_repository(tmp_path / "bare.git")
    repo = pygit2.Repository(str(path))
    builder = repo.TreeBuilder(repo.head.peel(pygit2.Tree))
    builder.insert("module", repo.head.target, FileMode.COMMIT)
    author = repo.head.peel(pygit2.Commit).author
    tip = repo.create_commit(None, author, author, "Module", builder.write(), [])
    assert read_tree(path, str(tip)) == read_tree(path, "main")


def test_an_empty_recipe_gives_an_unborn_default_branch(tmp_path: Path) -> None:
    """A repository without commits still names the branch its first commit will make."""
    path = create_bare_repository(tmp_path / "bare.git", RepositoryRecipe(default_branch="next"))
    assert refs(path) == {}
    first = commit_files(path, {"a": "1"}, message="First")
    assert refs(path) == {"refs/heads/next": first}


@pytest.mark.parametrize(
    ("branches", "complaint"),
    [
        ((BranchRecipe("a", start="b"),), "unknown 'b'"),
        ((BranchRecipe("a"),), "no commit"),
        ((BranchRecipe("a", (CommitRecipe("x"),)), BranchRecipe("a", start="a")), "twice"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(
    tmp_path: Path, branches: tuple[BranchRecipe, ...], complaint: str
) -> None:
    """The mistake is named where it was made, instead of a strange repository later."""
    with pytest.raises(ValueError, match=complaint):
        create_bare_repository(tmp_path / "bare.git", RepositoryRecipe(branches))


def test_nothing_is_made_where_something_is(tmp_path: Path) -> None:
    """A path in use is left as it was; an empty directory is not in use."""
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("mine")
    source = create_bare_repository(tmp_path / "bare.git")
    with pytest.raises(FileExistsError):
        create_bare_repository(tmp_path / "used")
    with pytest.raises(FileExistsError):
        clone_repository(source, tmp_path / "used" / "file")
    (tmp_path / "empty").mkdir()
    assert clone_repository(source, tmp_path / "empty") == tmp_path / "empty"
    assert [entry.name for entry in (tmp_path / "used").iterdir()] == ["file"]


def test_a_clone_is_what_git_clone_leaves(tmp_path: Path) -> None:
    """Remote, tracking refs, upstream, identity and files are there, and all is clean."""
    source = create_bare_repository(tmp_path / "bare.git", _FORKED)
    path = clone_repository(source, tmp_path / "work", url="https://git.example.invalid/o/p")
    repo = pygit2.Repository(str(path))
    ids = refs(source)
    assert refs(path) == {
        "refs/heads/trunk": ids["refs/heads/trunk"],
        "refs/remotes/origin/HEAD": "ref: refs/remotes/origin/trunk",
        **{f"refs/remotes/origin/{name[11:]}": oid for name, oid in ids.items()},
    }
    config = repo.config
    assert config["branch.trunk.remote"] == "origin"
    assert config["branch.trunk.merge"] == "refs/heads/trunk"
    assert config["remote.origin.url"] == "https://git.example.invalid/o/p"
    assert config["remote.origin.fetch"] == "+refs/heads/*:refs/remotes/origin/*"
    assert (config["user.name"], config["user.email"]) == ("Robin Example", "robin@example.invalid")
    assert (path / "dir" / "b.txt").read_bytes() == b"\x00\xff"
    assert repo.status() == {}


def test_a_clone_tracks_its_source_by_default(tmp_path: Path) -> None:
    """Without another URL the clone fetches from the repository it was made from."""
    source = create_bare_repository(tmp_path / "bare.git")
    repo = pygit2.Repository(str(clone_repository(source, tmp_path / "work")))
    tip = commit_files(source, {"new": "1"}, message="New")
    repo.remotes["origin"].fetch()
    assert refs(repo.workdir)["refs/remotes/origin/main"] == tip


@pytest.mark.parametrize("shared", ["own objects", "borrowed objects"])
def test_a_clone_outlives_its_source(tmp_path: Path, shared: str) -> None:
    """Every object is the clone's own, also where the source borrows its objects."""
    source = create_bare_repository(tmp_path / "bare.git")
    if shared == "borrowed objects":
        lender, source = source, create_bare_repository(tmp_path / "b.git", RepositoryRecipe())
        (source / "objects" / "info" / "alternates").write_text(f"{lender}/objects\n")
        tip = refs(lender)["refs/heads/main"]
        pygit2.Repository(str(source)).references.create("refs/heads/main", tip)
    path = clone_repository(source, tmp_path / "work")
    shutil.rmtree(tmp_path / "bare.git")
    assert read_tree(path, "main")["README.md"].startswith(b"# Calculator")
    assert pygit2.Repository(str(path)).config["remote.origin.url"] == str(source)


def test_a_clone_of_an_empty_repository_can_make_the_first_commit(tmp_path: Path) -> None:
    """The unborn branch has the remote's name and tracks it."""
    source = create_bare_repository(tmp_path / "bare.git", RepositoryRecipe(default_branch="next"))
    path = clone_repository(source, tmp_path / "work")
    tip = commit_files(path, {"a": "1"}, message="First")
    assert refs(path) == {"refs/heads/next": tip}
    assert pygit2.Repository(str(path)).config["branch.next.merge"] == "refs/heads/next"


def test_the_same_commit_on_the_same_history_has_the_same_id(tmp_path: Path) -> None:
    """A checkout and a bare repository agree about ids, whatever the clock says."""
    bare = create_bare_repository(tmp_path / "bare.git")
    work = clone_repository(bare, tmp_path / "work")
    files = {"src/new.py": "x = 1\n"}
    assert commit_files(work, files, message="Add") == commit_files(bare, files, message="Add")


def test_a_commit_in_a_checkout_leaves_it_clean(tmp_path: Path) -> None:
    """Files, index and branch agree for plain files, links, programs and deletions."""
    work = clone_repository(create_bare_repository(tmp_path / "bare.git"), tmp_path / "work")
    tip = commit_files(
        work,
        {
            "link": Symlink("README.md"),
            "bin/tool": Executable("#!/bin/sh\n"),
            "run": "no program any more\n",
            "src/calculator": "a file where a folder was\n",
            "tests/test_add.py": None,
            "src/calculator/__init__.py": None,
            "src/calculator/add.py": None,
            "src/calculator/subtract.py": None,
        },
        message="Change everything",
        author="Kim Other <kim@example.invalid>",
    )
    repo = pygit2.Repository(str(work))
    tree = repo[tip].peel(pygit2.Tree)
    assert repo.status() == {}
    assert str(repo.head.target) == tip
    assert (work / "link").is_symlink()
    assert not (work / "tests").exists()
    assert tree["link"].filemode == FileMode.LINK
    assert tree["bin/tool"].filemode == FileMode.BLOB_EXECUTABLE
    assert tree["run"].filemode == FileMode.BLOB
    assert repo[tip].peel(pygit2.Commit).author.email == "kim@example.invalid"
    assert read_tree(work, "HEAD")["link"] == b"README.md"


def test_a_commit_leaves_other_changes_alone(tmp_path: Path) -> None:
    """What was staged or edited before is staged or edited afterwards, and not committed."""
    work = clone_repository(create_bare_repository(tmp_path / "bare.git"), tmp_path / "work")
    repo = pygit2.Repository(str(work))
    (work / "staged").write_text("staged")
    repo.index.add("staged")
    repo.index.write()
    (work / "README.md").write_text("edited")
    before = repo.status()
    repo.index.remove("run")
    repo.index.write()
    commit_files(work, {"mine": "1", "run": None}, message="Mine")
    assert pygit2.Repository(str(work)).status() == before
    assert set(read_tree(work, "HEAD")) - set(read_tree(work, "HEAD~1")) == {"mine"}


def test_a_commit_on_another_branch_touches_no_file(tmp_path: Path) -> None:
    """The branch moves, or starts at HEAD; the checkout stays as it is."""
    work = clone_repository(create_bare_repository(tmp_path / "bare.git"), tmp_path / "work")
    main = refs(work)["refs/heads/main"]
    first = commit_files(work, {"a": "1"}, message="A", branch="other")
    second = commit_files(work, {"b": "1"}, message="B", branch="other")
    repo = pygit2.Repository(str(work))
    assert [str(commit.id) for commit in repo.walk(second)][:3] == [second, first, main]
    assert refs(work)["refs/heads/main"] == main
    assert repo.status() == {}
    assert not (work / "a").exists()


def test_a_branch_of_another_checkout_is_not_moved(tmp_path: Path) -> None:
    """Moving it would turn that checkout upside down; committing there works."""
    work = clone_repository(create_bare_repository(tmp_path / "bare.git"), tmp_path / "work")
    repo = pygit2.Repository(str(work))
    repo.branches.local.create("lane", repo.head.peel(pygit2.Commit))
    lane = tmp_path / "lane"
    repo.add_worktree("lane", str(lane), repo.lookup_reference("refs/heads/lane"))
    with pytest.raises(ValueError, match="checked out elsewhere"):
        commit_files(work, {"a": "1"}, message="A", branch="lane")
    tip = commit_files(lane, {"a": "1"}, message="A")
    assert refs(work)["refs/heads/lane"] == tip
    assert pygit2.Repository(str(lane)).status() == {}


def test_a_commit_on_a_detached_head_moves_head_alone(tmp_path: Path) -> None:
    """No branch follows a detached HEAD."""
    work = clone_repository(create_bare_repository(tmp_path / "bare.git"), tmp_path / "work")
    repo = pygit2.Repository(str(work))
    main = str(repo.head.target)
    repo.set_head(repo.head.target)
    tip = commit_files(work, {"a": "1"}, message="A")
    assert str(pygit2.Repository(str(work)).head.target) == tip
    assert refs(work)["refs/heads/main"] == main


def test_deleting_what_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    """A recipe that deletes nothing says so instead of doing nothing."""
    bare = create_bare_repository(tmp_path / "bare.git")
    with pytest.raises(KeyError, match="gone"):
        commit_files(bare, {"gone": None}, message="Delete")
    assert refs(bare)["refs/heads/main"] == "f74841897eb3202f20dd4d07bd4260b1ba5d4503"
