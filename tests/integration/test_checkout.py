"""A lane's files are the commit's, byte for byte, wherever they were taken from."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path
from typing import Any

import pygit2
import pytest
from pygit2.enums import ConfigLevel, FileMode, FileStatus, ObjectType
from pytest_mock import MockerFixture

from agentrelay.workstream._git.refs import create_ref
from agentrelay.workstream._git.repository import OpenRepository, open_repository
from agentrelay.workstream._git.worktrees import check_out, link_worktree
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.errors import RepositoryError
from agentrelay.workstream.testing.repositories import (
    Executable,
    Symlink,
    clone_repository,
    commit_files,
    create_bare_repository,
    read_tree,
)

LARGE = b"0123456789abcdef" * 100_000
FILES: dict[str, Any] = {
    "README.md": "read me\n",
    "empty": "",
    "run": Executable("#!/bin/sh\n"),
    "link": Symlink("src/deep/a.py"),
    "dangling": Symlink("nowhere"),
    "src/deep/a.py": "a = 1\n",
    "src/deep/b.py": "b = 2\r\n",
    "src/deep.txt": "sorted between\n",
    "src/Zoë/ü.txt": "umlauts\n",
    ".github/workflows/ci.yml": "on: push\n",
    ".gitignore": "*.log\n",
    "middle.bin": b"\0\xff" * 40_000,
    "large.bin": LARGE,
}
MANY = {f"src/pkg{number // 40}/file{number}.py": f"x = {number}\n" for number in range(1_640)}


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A remote with files of every kind."""
    bare = create_bare_repository(tmp_path / "bare.git")
    commit_files(bare, FILES, message="Files", branch="main")
    return bare


@pytest.fixture
def project(tmp_path: Path, bare: Path) -> OpenRepository:
    """A clean checkout with a remote, as a user has it."""
    return open_repository(clone_repository(bare, tmp_path / "project"))


def link(repository: OpenRepository, name: str = "parser", ref: str = "refs/heads/main") -> Lane:
    """Return a lane whose worktree has no files yet."""
    lane = Lane.of(repository.path, "nightly", name)
    tip = repository.resolve(ref)
    assert tip is not None
    create_ref(repository, lane.branch_ref, tip, message="branch: lane")
    link_worktree(
        repository, lane.worktree_path, branch_ref=lane.branch_ref, admin_name=lane.admin_name
    )
    return lane


def make(repository: OpenRepository, name: str = "parser") -> Lane:
    """Return a lane whose worktree is complete."""
    lane = link(repository, name)
    check_out(lane.worktree_path)
    return lane


def dirty(lane: Lane) -> dict[str, int]:
    """Return what ``git status`` would list."""
    return dict(pygit2.Repository(str(lane.worktree_path)).status())


def files(path: Path) -> dict[str, bytes]:
    """Return all files below a folder but git's own, links as what they lead to."""
    return {
        str(item.relative_to(path)): (
            os.fsencode(item.readlink()) if item.is_symlink() else item.read_bytes()
        )
        for item in path.rglob("*")
        if item.name != ".git"
        and (item.is_symlink() or item.is_file())
        and ".git" not in item.relative_to(path).parts
    }


def assert_whole(repository: OpenRepository, lane: Lane) -> None:
    """The worktree has the commit's files and modes, and the index knows them as they are."""
    assert files(lane.worktree_path) == read_tree(repository.path, lane.branch_ref)
    assert dirty(lane) == {}
    handle = pygit2.Repository(str(lane.worktree_path))
    assert handle.index.write_tree() == handle.head.peel(pygit2.Commit).tree_id
    for entry in handle.index:
        mode = (lane.worktree_path / entry.path).lstat().st_mode
        assert stat.S_ISLNK(mode) == (entry.mode == FileMode.LINK)
        if entry.mode != FileMode.LINK:
            assert bool(mode & stat.S_IXUSR) == (entry.mode == FileMode.BLOB_EXECUTABLE)


# --- where files come from --------------------------------------------------------------


def test_files_of_every_kind_are_whole_beside_a_clean_checkout(project: OpenRepository) -> None:
    """Empty, executable, large, with names of any script, and links that lead nowhere."""
    assert_whole(project, make(project))


def test_files_of_every_kind_are_whole_without_any_checkout(bare: Path) -> None:
    """A bare repository has nothing but its objects."""
    repository = open_repository(bare)
    assert_whole(repository, make(repository))


def test_another_lane_helps_where_there_is_no_checkout(bare: Path) -> None:
    """What it has changed since is not taken from it."""
    commit_files(bare, MANY, message="Many", branch="main")
    repository = open_repository(bare)
    first = make(repository, "first")
    for name in list(MANY)[::7]:
        (first.worktree_path / name).write_text("edited\n")
    assert_whole(repository, make(repository, "second"))


def test_nothing_of_a_dirty_checkout_gets_into_a_lane(project: OpenRepository) -> None:
    """Edited, deleted and new files, and one whose size and times say that it is unchanged."""
    top = project.path
    hidden = top / "README.md"
    before = hidden.stat()
    hidden.write_text("READ ME\n")
    os.utime(hidden, ns=(before.st_atime_ns, before.st_mtime_ns))
    (top / "src" / "deep" / "a.py").unlink()
    (top / "src" / "deep" / "new.py").write_text("new\n")
    (top / "run").chmod(0o644)
    (top / "src" / "deep" / "b.py").chmod(0o755)
    (top / "large.bin").write_bytes(LARGE[:-1] + b"!")
    assert_whole(project, make(project))
    assert hidden.read_text() == "READ ME\n"


def test_a_checkout_of_another_branch_gives_what_it_shares(project: OpenRepository) -> None:
    """The user may stand anywhere."""
    commit_files(project.path, {"README.md": "other\n", "src/deep/a.py": None}, message="Other")
    lane = link(project, ref="refs/remotes/origin/main")
    check_out(lane.worktree_path)
    assert_whole(project, lane)


def test_links_pipes_and_folders_in_a_files_place_are_not_followed(
    project: OpenRepository, tmp_path: Path
) -> None:
    """Not even to the very bytes: what a link leads to is nobody's checkout."""
    top = project.path
    outside = tmp_path / "outside"
    shutil.copytree(top / "src", outside)
    shutil.rmtree(top / "src")
    (top / "src").symlink_to(outside)
    (top / "README.md").unlink()
    (top / "README.md").symlink_to(outside / "deep.txt")
    (top / "run").unlink()
    os.mkfifo(top / "run")
    (top / "middle.bin").unlink()
    (top / "middle.bin").mkdir()
    assert_whole(project, make(project))


def test_a_checkout_that_is_gone_is_no_obstacle(bare: Path, tmp_path: Path) -> None:
    """A repository whose folder was emptied still has its objects."""
    top = clone_repository(bare, tmp_path / "project")
    for item in top.iterdir():
        if item.name != ".git":
            shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
    repository = open_repository(top)
    assert_whole(repository, make(repository))


def test_a_large_file_that_changes_while_it_is_copied_is_not_taken(
    project: OpenRepository, mocker: MockerFixture
) -> None:
    """It was right when it was read first; the copy is what counts."""
    seek, calls = os.lseek, []

    def change(*arguments: int) -> int:
        calls.append(arguments)
        if len(calls) == 2:
            (project.path / "large.bin").write_bytes(LARGE[:-1] + b"?")
        return seek(*arguments)

    mocker.patch("os.lseek", side_effect=change)
    lane = make(project)
    mocker.stopall()
    assert len(calls) == 2
    assert_whole(project, lane)


@pytest.mark.parametrize("name", ["README.md", "large.bin"])
def test_a_file_that_cannot_be_read_there_comes_from_the_objects(
    project: OpenRepository, mocker: MockerFixture, name: str
) -> None:
    """A disk that fails under the user's checkout fails no lane."""
    read, bad = os.read, (project.path / name).stat().st_ino

    def fail(descriptor: int, size: int) -> bytes:
        if os.fstat(descriptor).st_ino == bad:
            raise OSError(5, "Input/output error")
        return read(descriptor, size)

    mocker.patch("os.read", side_effect=fail)
    lane = make(project)
    mocker.stopall()
    assert_whole(project, lane)


def test_a_write_that_takes_only_a_part_is_continued(
    project: OpenRepository, mocker: MockerFixture
) -> None:
    """The kernel may write less than it was given."""
    write = os.write

    def some(descriptor: int, content: bytes) -> int:
        return write(descriptor, content[: max(1, len(content) // 2)])

    mocker.patch("os.write", side_effect=some)
    lane = make(project)
    mocker.stopall()
    assert_whole(project, lane)


# --- many files -------------------------------------------------------------------------


def test_many_files_are_whole_with_and_without_a_checkout(bare: Path, tmp_path: Path) -> None:
    """Two threads share the work, and no file is left to the other one."""
    commit_files(bare, MANY, message="Many", branch="main")
    project = open_repository(clone_repository(bare, tmp_path / "project"))
    for name in list(MANY)[::3]:
        (project.path / name).write_text("edited\n")
    assert_whole(project, make(project))
    commit_files(bare, {f"one/{n}": f"{n}" for n in range(1_000)}, message="One", branch="main")
    alone = open_repository(bare)
    assert_whole(alone, make(alone))


def test_a_folder_that_is_one_share_exactly_is_whole(project: OpenRepository) -> None:
    """Nothing is left over, and nothing is left out."""
    blob = project.handle.create_blob(b"same\n")
    builder = project.handle.TreeBuilder()
    for number in range(500):
        builder.insert(f"{number}.txt", blob, FileMode.BLOB)
    who = pygit2.Signature("A", "a@example.invalid")
    project.handle.create_commit("refs/heads/share", who, who, "Share", builder.write(), [])
    lane = link(project, ref="refs/heads/share")
    check_out(lane.worktree_path)
    assert_whole(project, lane)


def test_the_index_is_younger_than_many_files(bare: Path, tmp_path: Path) -> None:
    """So the first status reads none of them."""
    commit_files(bare, MANY, message="Many", branch="main")
    project = open_repository(clone_repository(bare, tmp_path / "project"))
    lane = make(project)
    index = project.worktrees_admin_dir / lane.admin_name / "index"
    youngest = max((lane.worktree_path / name).lstat().st_mtime_ns for name in MANY)
    assert index.stat().st_mtime_ns > youngest


def test_a_missing_object_is_named_whoever_met_it(bare: Path) -> None:
    """Also in the second thread; the lane stays half made."""
    commit_files(bare, MANY, message="Many", branch="main")
    repository = open_repository(bare)
    for name in list(MANY)[::25]:
        blob = pygit2.hash(MANY[name].encode())
        (bare / "objects" / str(blob)[:2] / str(blob)[2:]).unlink()
    lane = link(repository)
    with pytest.raises(RepositoryError, match="parser"):
        check_out(lane.worktree_path)
    assert not (repository.worktrees_admin_dir / lane.admin_name / "index").exists()


def test_a_lost_object_is_no_loss_where_the_checkout_has_its_bytes(
    project: OpenRepository,
) -> None:
    """They are proved by their hash, which is all an object's name is."""
    blob = str(pygit2.hash(b"a = 1\n"))
    (project.common_dir / "objects" / blob[:2] / blob[2:]).unlink()
    lane = make(project)
    assert (lane.worktree_path / "src" / "deep" / "a.py").read_bytes() == b"a = 1\n"
    assert dirty(lane) == {}


def test_a_failure_of_the_second_thread_is_the_checkouts(
    bare: Path, tmp_path: Path, mocker: MockerFixture
) -> None:
    """The first one does not go on, and nothing is handed out."""
    commit_files(bare, MANY, message="Many", branch="main")
    project = open_repository(clone_repository(bare, tmp_path / "project"))
    lane = link(project)
    write = os.write

    def fail_there(descriptor: int, content: bytes) -> int:
        if threading.current_thread().name == "lane-checkout":
            raise OSError(28, "No space left on device")
        for thread in threading.enumerate():
            if thread.name == "lane-checkout":
                thread.join(60)
        return write(descriptor, content)

    mocker.patch("os.write", side_effect=fail_there)
    mocker.patch("os.sched_getaffinity", return_value={0, 1})
    with pytest.raises(RepositoryError, match="No space left"):
        check_out(lane.worktree_path)
    mocker.stopall()
    assert not (project.worktrees_admin_dir / lane.admin_name / "index").exists()


def test_a_missing_folder_is_named(bare: Path) -> None:
    """In libgit2's words, which know what it is."""
    repository = open_repository(bare)
    tree = repository.handle.references["refs/heads/main"].peel(pygit2.Tree)["src"]
    name = str(tree.id)
    (bare / "objects" / name[:2] / name[2:]).unlink()
    lane = link(repository)
    with pytest.raises(RepositoryError, match="parser"):
        check_out(lane.worktree_path)


def test_lanes_that_are_gone_or_moved_are_no_help_and_no_obstacle(bare: Path) -> None:
    """Their entries lead nowhere, or somewhere that is no path."""
    commit_files(bare, MANY, message="Many", branch="main")
    repository = open_repository(bare)
    gone, odd = make(repository, "gone"), make(repository, "odd")
    shutil.rmtree(gone.worktree_path)
    (repository.worktrees_admin_dir / odd.admin_name / "gitdir").write_text("../elsewhere\n")
    assert_whole(repository, make(repository, "parser"))


def test_a_checkout_that_is_elsewhere_is_not_looked_for(bare: Path, tmp_path: Path) -> None:
    """The folder beside the repository is not the user's checkout then."""
    top = clone_repository(bare, tmp_path / "project")
    repository = open_repository(top)
    lane = link(repository)
    (tmp_path / "elsewhere").mkdir()
    repository.handle.config["core.worktree"] = str(tmp_path / "elsewhere")
    check_out(lane.worktree_path)
    assert files(lane.worktree_path) == read_tree(top, lane.branch_ref)


# --- what is left to libgit2 ------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("*.py text eol=crlf\n", "tree"),
        ("[attr]windows eol=crlf\n*.py windows text\n", "info"),
        ("*.py text eol=crlf\n", "info"),
        ("*.py text eol=crlf\n", "configured"),
        ("*.py text eol=crlf\n", "home"),
        ("*.py ident\n", "tree"),
    ],
)
def test_attributes_that_change_files_are_obeyed_wherever_they_are(
    project: OpenRepository,
    line: str,
    where: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bytes of the user's checkout, where they were not obeyed, are not taken."""
    content = "id = '$Id$'\n"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    changes: dict[str, Any] = {"src/deep/a.py": content}
    if where == "tree":
        changes["src/.gitattributes"] = line
    commit_files(project.path, changes, message="Attributes")
    (project.path / "src" / "deep" / "a.py").write_text(content)
    places = {
        "info": project.common_dir / "info" / "attributes",
        "configured": tmp_path / "my attributes",
        "home": tmp_path / "xdg" / "git" / "attributes",
    }
    if where in places:
        places[where].parent.mkdir(parents=True, exist_ok=True)
        places[where].write_text(line)
    if where == "configured":
        project.handle.config["core.attributesFile"] = str(places[where])
    lane = make(open_repository(project.path))
    there = (lane.worktree_path / "src" / "deep" / "a.py").read_bytes()
    blob = pygit2.hash(content.encode())
    if "ident" in line:
        assert there == f"id = '$Id: {blob} $'\n".encode()
    elif where != "home":
        # The plugin keeps libgit2 from looking at home; it is not for us to look instead.
        assert there == b"id = '$Id$'\r\n"
    assert dirty(lane) == {}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("core.autocrlf", "true", b"a = 1\r\n"),
        ("core.autocrlf", "input", b"a = 1\n"),
        ("core.fileMode", "false", b"a = 1\n"),
        ("core.ignoreCase", "true", b"a = 1\n"),
        ("core.eol", "lf", b"a = 1\n"),
    ],
)
def test_settings_that_change_files_are_obeyed(
    project: OpenRepository, name: str, value: str, expected: bytes
) -> None:
    """As they are when the lane is made, whatever they were for the user's checkout."""
    project.handle.config[name] = value
    lane = make(open_repository(project.path))
    assert (lane.worktree_path / "src" / "deep" / "a.py").read_bytes() == expected
    assert dirty(lane) == {}


def test_attributes_of_the_machine_are_obeyed(project: OpenRepository, tmp_path: Path) -> None:
    """Wherever libgit2 was told to look for them."""
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine" / "attributes").write_text("*.py text eol=crlf\n")
    paths = pygit2.settings.search_path
    before = paths[ConfigLevel.XDG]
    paths[ConfigLevel.XDG] = str(tmp_path / "machine")
    try:
        lane = make(open_repository(project.path))
    finally:
        paths[ConfigLevel.XDG] = before
    assert (lane.worktree_path / "src" / "deep" / "a.py").read_bytes() == b"a = 1\r\n"


def test_attributes_behind_a_link_are_libgit2s_to_judge(project: OpenRepository) -> None:
    """Git does not follow it; what libgit2 makes of it is what the lane gets."""
    changes: dict[str, Any] = {"src/.gitattributes": Symlink("../rules"), "rules": "*.py text\n"}
    commit_files(project.path, changes, message="Link")
    lane = make(project)
    assert files(lane.worktree_path) == read_tree(project.path, lane.branch_ref)


def test_harmless_attributes_change_nothing(project: OpenRepository) -> None:
    """What says how to merge, compare or archive says nothing of a file's bytes."""
    text = "* text=auto eol=lf\n*.bin binary -diff\n*.md merge=union linguist-documentation\n"
    commit_files(project.path, {".gitattributes": text}, message="Attributes")
    (project.common_dir / "info").mkdir(exist_ok=True)
    (project.common_dir / "info" / "attributes").write_text("*.md -text\n")
    assert_whole(project, make(project))


def test_attributes_that_cannot_be_read_are_libgit2s_to_judge(project: OpenRepository) -> None:
    """A folder in the place of the file."""
    (project.common_dir / "info" / "attributes").mkdir(parents=True)
    lane = link(project)
    try:
        check_out(lane.worktree_path)
    except RepositoryError:
        assert not (project.worktrees_admin_dir / lane.admin_name / "index").exists()
    else:
        assert_whole(project, lane)


def test_a_submodule_gets_its_empty_folder(project: OpenRepository) -> None:
    """Its commit lives elsewhere."""
    handle = project.handle
    builder = handle.TreeBuilder(handle.head.peel(pygit2.Tree))
    builder.insert("module", "1" * 40, FileMode.COMMIT)
    who = pygit2.Signature("A", "a@example.invalid")
    parents = [handle.head.target]
    handle.create_commit("refs/heads/main", who, who, "Module", builder.write(), parents)
    lane = make(project)
    assert list((lane.worktree_path / "module").iterdir()) == []
    assert dirty(lane) == {}


@pytest.mark.parametrize("name", [b"a\\b", b"a b.", b".g\xe2\x80\x8cit", b"x~1", b"con:aux"])
def test_a_name_that_is_doubtful_elsewhere_is_written_or_refused_as_a_whole(
    project: OpenRepository, name: bytes
) -> None:
    """Either the tree stands as it is, or nothing is handed out."""
    blob = project.handle.create_blob(b"doubtful\n")
    tree = project.handle.write(ObjectType.TREE, b"100644 " + name + b"\0" + blob.raw)
    who = pygit2.Signature("A", "a@example.invalid")
    commit = project.handle.create_commit(None, who, who, "Doubtful", tree, [])
    project.handle.references.create("refs/heads/doubtful", commit)
    lane = link(project, ref="refs/heads/doubtful")
    try:
        check_out(lane.worktree_path)
    except RepositoryError:
        assert os.listdir(os.fsencode(lane.worktree_path)) == [b".git"]
    else:
        assert (lane.worktree_path / os.fsdecode(name)).read_bytes() == b"doubtful\n"
        assert dirty(lane) == {}


def test_a_tree_with_one_name_twice_is_never_written_to_both(project: OpenRepository) -> None:
    """A file and a folder of one name: no git makes such a tree."""
    blob = project.handle.create_blob(b"x\n")
    folder = project.handle.write(ObjectType.TREE, b"100644 x\0" + blob.raw)
    raw = b"100644 a\0" + blob.raw + b"100644 a.b\0" + blob.raw + b"40000 a\0" + folder.raw
    tree = project.handle.write(ObjectType.TREE, raw)
    who = pygit2.Signature("A", "a@example.invalid")
    commit = project.handle.create_commit(None, who, who, "Twice", tree, [])
    project.handle.references.create("refs/heads/twice", commit)
    lane = link(project, ref="refs/heads/twice")
    try:
        check_out(lane.worktree_path)
    except RepositoryError:
        return
    assert (lane.worktree_path / "a").exists()


def test_a_worktree_with_files_in_it_keeps_them(project: OpenRepository) -> None:
    """What an earlier checkout or somebody left is not in the way, and not lost."""
    lane = link(project)
    (lane.worktree_path / "notes.txt").write_text("mine\n")
    (lane.worktree_path / "README.md").write_text("half")
    check_out(lane.worktree_path)
    assert (lane.worktree_path / "notes.txt").read_text() == "mine\n"
    assert (lane.worktree_path / "README.md").read_text() == "read me\n"
    assert dirty(lane) == {"notes.txt": FileStatus.WT_NEW}


def test_what_appears_while_files_are_written_is_not_in_the_way(
    project: OpenRepository, mocker: MockerFixture
) -> None:
    """Somebody made a folder of the tree's in between; the lane is whole all the same."""
    lane = link(project)
    make_folder = os.mkdir

    def meddle(path: Any, *arguments: Any, **named: Any) -> None:
        mocker.stopall()
        (lane.worktree_path / "src").mkdir()
        (lane.worktree_path / "src" / "notes.txt").write_text("mine\n")
        make_folder(path, *arguments, **named)

    mocker.patch("os.mkdir", side_effect=meddle)
    check_out(lane.worktree_path)
    assert dirty(lane) == {"src/notes.txt": FileStatus.WT_NEW}
    assert (lane.worktree_path / "src" / "deep" / "a.py").read_text() == "a = 1\n"


def test_the_umask_says_who_may_read(project: OpenRepository) -> None:
    """As for any file a program makes."""
    lane = link(project)
    before = os.umask(0o027)
    try:
        check_out(lane.worktree_path)
    finally:
        os.umask(before)
    modes = {
        name: stat.S_IMODE((lane.worktree_path / name).stat().st_mode)
        for name in ("README.md", "run", "src", "large.bin")
    }
    assert modes == {"README.md": 0o640, "run": 0o750, "src": 0o750, "large.bin": 0o640}


def test_a_full_disk_is_named_and_nothing_is_handed_out(
    project: OpenRepository, mocker: MockerFixture
) -> None:
    """The lane stays half made, for the next try."""
    lane = link(project)
    mocker.patch("os.write", side_effect=OSError(28, "No space left on device"))
    with pytest.raises(RepositoryError, match="No space left"):
        check_out(lane.worktree_path)
    mocker.stopall()
    assert not (project.worktrees_admin_dir / lane.admin_name / "index").exists()
    check_out(lane.worktree_path)
    assert_whole(project, lane)
