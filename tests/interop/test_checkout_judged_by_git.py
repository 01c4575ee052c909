"""The stock git program looks at the files and the index of lanes, and makes the same itself."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.workstream._git.refs import create_ref
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream._git.worktrees import check_out, link_worktree, unlock_entry
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.testing.repositories import (
    Executable,
    Symlink,
    clone_repository,
    commit_files,
    create_bare_repository,
)
from tests._examples import tries
from tests.interop._stock_git import GIT, run_git

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(GIT is None, reason="there is no git program to judge"),
]

FOLDERS = st.sampled_from(["", "a/", "a/b/", "a.b/", "a-b/", "Ärger/", "x/y/z/"])
NAMES = st.sampled_from(["a", "b.txt", "c.bin", "d.py", "é.txt", "with blank.txt", ".hidden"])
LINES = st.lists(st.sampled_from([b"one", b"two $Id$", b"\xff", b"\0", b""]), max_size=4)
CONTENTS = st.builds(
    lambda lines, ending: ending.join([*lines, b""]), LINES, st.sampled_from([b"\n", b"\r\n"])
)
THINGS = st.one_of(
    CONTENTS,
    st.builds(Executable, CONTENTS),
    st.sampled_from(["a", "../outside", "nowhere"]).map(Symlink),
    st.just(b"large" * 300_000),
)
ATTRIBUTES = st.lists(
    st.sampled_from(
        [
            "* text=auto",
            "*.txt text eol=crlf",
            "*.txt eol=lf",
            "*.txt -text",
            "*.bin binary",
            "a/** -crlf",
            "*.py merge=union export-ignore",
            # Not '"with blank.txt"': libgit2 takes the quotes for a part of the name.
            "with?blank.txt text eol=crlf",
        ]
    ),
    max_size=2,
).map("\n".join)
DIRT = st.sampled_from(["edited", "deleted", "same size", "link", "mode", "clean"])


def git(cwd: Path, *arguments: str) -> str:
    """Run the stock git without any of the machine's configuration."""
    done = run_git(cwd, *arguments, GIT_OPTIONAL_LOCKS="0")
    assert done.returncode == 0, done.stderr
    return done.stdout


def spoil(path: Path, how: str) -> None:
    """Do to a file of the user's checkout what a user does."""
    if not path.is_file() or path.is_symlink():
        return
    if how == "edited":
        path.write_bytes(path.read_bytes() + b"more\n")
    elif how == "deleted":
        path.unlink()
    elif how == "same size":
        before = path.stat()
        path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif how == "link":
        path.unlink()
        path.symlink_to("elsewhere")
    elif how == "mode":
        path.chmod(path.stat().st_mode ^ 0o111)


def picture(top: Path) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of everything below a folder but ``.git``."""
    found = {}
    for path in top.rglob("*"):
        if path.name != ".git" and (path.is_symlink() or path.is_file()):
            mode = path.lstat().st_mode
            content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            found[str(path.relative_to(top))] = (mode, content)
    return found


def lane_of(project: Path) -> Lane:
    """Make a lane at the tip of the main branch, as a prepare does."""
    repository = open_repository(project)
    lane = Lane.of(project, "nightly", "parser")
    tip = repository.resolve("refs/heads/main")
    assert tip is not None
    create_ref(repository, lane.branch_ref, tip, message="branch: lane")
    entry = link_worktree(
        repository, lane.worktree_path, branch_ref=lane.branch_ref, admin_name=lane.admin_name
    )
    check_out(lane.worktree_path)
    unlock_entry(entry)
    return lane


def judge(project: Path, lane: Lane, git_tree: Path, *, normal: bool) -> None:
    """Let git look at a lane, and make a worktree of the same commit itself.

    What is stored with CRLF against its own attributes is a change to git from the start,
    if it happens to read it.
    """
    worktree = lane.worktree_path
    if normal:
        assert git(worktree, "status", "--porcelain") == ""
        git(worktree, "diff-files", "--quiet")
    git(worktree, "fsck", "--no-dangling")
    git(project, "worktree", "add", "--quiet", "--detach", str(git_tree), lane.branch)
    assert picture(worktree) == picture(git_tree)
    staged = git(worktree, "ls-files", "--stage", "-z").split("\0")
    assert staged == git(git_tree, "ls-files", "--stage", "-z").split("\0")
    for line, blob in zip(
        git(worktree, "ls-files", "-z", "--debug").split("\0")[1:], staged, strict=False
    ):
        assert blob
        assert "size: " in line


@given(data=st.data())
@tries(12)
def test_any_lane_is_what_git_makes_of_the_same_commit(data: st.DataObject) -> None:
    """Whatever the tree, its attributes, and what the user did to the checkout meanwhile."""
    paths = data.draw(st.lists(st.builds(str.__add__, FOLDERS, NAMES), unique=True, max_size=12))
    # A file is no folder besides.
    paths = [path for path in paths if not any(f"{path}/" in other for other in paths)]
    files: dict[str, Any] = {path: data.draw(THINGS) for path in paths}
    for folder in data.draw(st.lists(st.sampled_from(["", "a/", "x/"]), unique=True, max_size=2)):
        if not any(f"{path}/" == folder for path in paths):
            files[f"{folder}.gitattributes"] = data.draw(ATTRIBUTES)
    with tempfile.TemporaryDirectory() as place:
        bare = create_bare_repository(Path(place, "bare.git"))
        commit_files(bare, files, message="Files", branch="main")
        project = clone_repository(bare, Path(place, "project"))
        for path in paths:
            spoil(project / path, data.draw(DIRT))
        attributes = [text for path, text in files.items() if path.endswith(".gitattributes")]
        normal = not any("text" in text or "eol" in text for text in attributes)
        judge(project, lane_of(project), Path(place, "git"), normal=normal)


def test_git_need_not_read_a_file_to_know_that_it_is_unchanged(tmp_path: Path) -> None:
    """The index has each file's size, times, inode and owner as they are.

    Git sees a file that was changed behind its back only when it reads it. As it is built by
    default it reads what is of the index's own second, after its own checkout too.
    """
    bare = create_bare_repository(tmp_path / "bare.git")
    names = [f"src/{number}.txt" for number in range(600)]
    commit_files(bare, dict.fromkeys(names, "text\n"), message="Files", branch="main")
    project = clone_repository(bare, tmp_path / "project")
    worktree = lane_of(project).worktree_path
    debug = git(worktree, "ls-files", "--debug", names[7]).splitlines()
    found = (worktree / names[7]).lstat()
    assert [line.strip() for line in debug[1:]] == [
        f"ctime: {found.st_ctime_ns // 10**9}:{found.st_ctime_ns % 10**9}",
        f"mtime: {found.st_mtime_ns // 10**9}:{found.st_mtime_ns % 10**9}",
        f"dev: {found.st_dev}\tino: {found.st_ino & 0xFFFFFFFF}",
        f"uid: {found.st_uid}\tgid: {found.st_gid}",
        f"size: {found.st_size}\tflags: 0",
    ]
    for name in names:
        path = worktree / name
        before = path.stat()
        path.write_text("TEXT\n")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    index = worktree / git(worktree, "rev-parse", "--git-path", "index").strip()
    os.utime(index, (index.stat().st_mtime + 2,) * 2)
    # Whoever read one of them now would see the change.
    assert git(worktree, "-c", "core.trustctime=false", "status", "--porcelain") == ""
    os.utime(index, ((worktree / names[0]).stat().st_mtime,) * 2)
    assert len(git(worktree, "status", "--porcelain").splitlines()) == len(names)


def test_a_change_right_after_the_checkout_is_seen(tmp_path: Path) -> None:
    """Same size, same tick of the clock: the index is not so young that it would hide it."""
    bare = create_bare_repository(tmp_path / "bare.git")
    commit_files(bare, {"a.txt": "one\n"}, message="Files", branch="main")
    worktree = lane_of(clone_repository(bare, tmp_path / "project")).worktree_path
    (worktree / "a.txt").write_text("two\n")
    assert git(worktree, "status", "--porcelain") == " M a.txt\n"
    assert stat.S_IMODE((worktree / "a.txt").stat().st_mode) & 0o111 == 0
