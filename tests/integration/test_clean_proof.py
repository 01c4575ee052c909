"""What is called clean without libgit2's help is so by libgit2's own look, and by the bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pygit2
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from pygit2.enums import FileMode
from pygit2.ffi import C
from pytest_mock import MockerFixture

from agentrelay.workstream._git import clean_proof
from agentrelay.workstream._git.clean_proof import is_provably_clean
from agentrelay.workstream._git.unsaved import find_unsaved
from agentrelay.workstream.testing import (
    BranchRecipe,
    CommitRecipe,
    Executable,
    RepositoryRecipe,
    Symlink,
    clone_repository,
    create_bare_repository,
)
from agentrelay.workstream.testing.repositories import FileContent
from tests._examples import tries

_FILES: Final[dict[str, FileContent]] = {
    "README.md": "# Calculator\n",
    "a.b": "before the folder\n",
    "a/b": "in the folder\n",
    "a-b": "after a dash\n",
    "src/add.py": "def add(a, b):\n    return a + b\n",
    "src/deep/er/leaf.txt": "leaf\n",
    "Ärger/é.txt": "umlaut\n",
    "run": Executable("#!/bin/sh\n"),
    "link": Symlink("README.md"),
    "empty": "",
    ".gitignore": "*.log\nbuild/\n",
}
_RECIPE: Final = RepositoryRecipe((BranchRecipe("main", (CommitRecipe("Start", _FILES),)),))
_LATER_NS: Final = 10**9


def checkout(top: Path) -> Path:
    """Return a clean checkout."""
    top.mkdir(exist_ok=True)
    return clone_repository(create_bare_repository(top / "remote.git", _RECIPE), top / "clone")


def settled(repo: Path) -> None:
    """Make the index younger than any file, as it is a moment later."""
    newest = max(path.lstat().st_mtime_ns for path in repo.rglob("*"))
    os.utime(repo / ".git/index", ns=(newest + _LATER_NS, newest + _LATER_NS))


def proved(repo: Path) -> bool:
    """Ask for the proof."""
    handle = pygit2.Repository(str(repo))
    return is_provably_clean(repo, repo / ".git", str(handle.head.peel(pygit2.Tree).id))


def unsaved_by_libgit2(repo: Path) -> bool:
    """Return whether libgit2 and a look behind its back find anything."""
    found = find_unsaved(pygit2.Repository(str(repo)))
    return bool(
        found.staged or found.unstaged or found.untracked or found.ignored or found.conflicted
    )


def contents(repo: Path) -> dict[str, bytes]:
    """Return what is in each file and link outside of git's own folder."""
    return {
        str(path.relative_to(repo)): (
            os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        )
        for path in repo.rglob("*")
        if ".git" not in path.parts and (path.is_symlink() or path.is_file())
    }


# -- what an agent may do ----------------------------------------------------------------


def _same_size(repo: Path) -> None:
    """Change a file, and turn its times back."""
    path = repo / "src/add.py"
    before = path.stat()
    path.write_bytes(path.read_bytes().swapcase())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _retold(repo: Path) -> None:
    """Change a file to one of the same size, and let the index say it was always so."""
    _same_size(repo)
    index = repo / ".git/index"
    handle = pygit2.Repository(str(repo))
    now, entry = (repo / "src/add.py").stat(), handle.index["src/add.py"]
    data = bytearray(index.read_bytes()[:-20])
    start = data.index(entry.id.raw) - 40
    for place, value in (
        (0, now.st_ctime_ns // 10**9),
        (4, now.st_ctime_ns % 10**9),
        (8, now.st_mtime_ns // 10**9),
        (12, now.st_mtime_ns % 10**9),
        (20, now.st_ino),
    ):
        data[start + place : start + place + 4] = (value & 0xFFFFFFFF).to_bytes(4, "big")
    index.write_bytes(data + hashlib.sha1(data, usedforsecurity=False).digest())
    # Racy: it cannot be told from the times.
    os.utime(index, ns=(now.st_mtime_ns, now.st_mtime_ns))


def _flagged(repo: Path, *, extended: int = 0, flags: int = 0) -> None:
    """Tell git not to look at a file, and change it."""
    (repo / "README.md").write_text("changed\n")
    index = pygit2.Repository(str(repo)).index
    raw = C.git_index_get_bypath(index._index, b"README.md", 0)
    raw.flags |= flags
    raw.flags_extended |= extended
    index.write()


def _staged(repo: Path) -> None:
    """Stage a change, and leave the file as it was."""
    handle = pygit2.Repository(str(repo))
    handle.index.add(pygit2.IndexEntry("a/b", handle.create_blob(b"staged\n"), FileMode.BLOB))
    handle.index.write()


def _unstaged_file(repo: Path) -> None:
    """Forget a file in the index."""
    index = pygit2.Repository(str(repo)).index
    index.remove("a.b")
    index.write()


def _conflict(repo: Path) -> None:
    """Leave a conflict in the index."""
    handle = pygit2.Repository(str(repo))
    sides = [
        pygit2.IndexEntry("a/b", handle.create_blob(side), FileMode.BLOB)
        for side in (b"base", b"ours", b"theirs")
    ]
    handle.index.add_conflict(*sides)
    handle.index.write()


def _folder_by_link(repo: Path) -> None:
    """Move a folder elsewhere, and leave a link to it."""
    shutil.move(repo / "src", repo.parent / "elsewhere")
    (repo / "src").symlink_to(repo.parent / "elsewhere", target_is_directory=True)


def _socket(repo: Path) -> None:
    """Put a socket in a file's place."""
    (repo / "a.b").unlink()
    # The path of a socket may have about 100 bytes only.
    with contextlib.chdir(repo), socket.socket(socket.AF_UNIX) as made:
        made.bind("a.b")


def _another_link(repo: Path) -> None:
    """Let the link lead elsewhere."""
    (repo / "link").unlink()
    (repo / "link").symlink_to("a.b")


def _file_for_a_link(repo: Path) -> None:
    """Put a file in a link's place, with the link's content."""
    (repo / "link").unlink()
    (repo / "link").write_text("README.md")


def _replaced(repo: Path, name: str) -> None:
    """Replace a file by a copy of itself: another inode, the same bytes."""
    shutil.copy2(repo / name, repo / "copy", follow_symlinks=False)
    (repo / "copy").replace(repo / name)


_DEEDS: Final[dict[str, Callable[[Path], object]]] = {
    "edit": lambda repo: (repo / "README.md").write_text("edited\n"),
    "edit, same size, old time": _same_size,
    "edit, index retold": _retold,
    "empty": lambda repo: (repo / "README.md").write_bytes(b""),
    "fill": lambda repo: (repo / "empty").write_text("not any more\n"),
    "delete": lambda repo: (repo / "src/deep/er/leaf.txt").unlink(missing_ok=True),
    "touch": lambda repo: os.utime(repo / "README.md"),
    "replace": lambda repo: _replaced(repo, "README.md"),
    "replace the link": lambda repo: _replaced(repo, "link"),
    "mode": lambda repo: (repo / "run").chmod(0o644),
    "other bits": lambda repo: (repo / "run").chmod(0o700),
    "new": lambda repo: (repo / "src/new.py").write_text("new\n"),
    "ignored": lambda repo: (repo / "a/debug.log").write_text("ignored\n"),
    "ignored folder": lambda repo: (repo / "build").mkdir(),
    "another link": _another_link,
    "file for a link": _file_for_a_link,
    "socket": _socket,
    "folder by a link": _folder_by_link,
    "what libgit2 never lists": lambda repo: (repo / "a/.GIT").write_text("hidden\n"),
    "stage": _staged,
    "unstage": _unstaged_file,
    "conflict": _conflict,
    "assume unchanged": lambda repo: _flagged(repo, flags=0x8000),
    "skip worktree": lambda repo: _flagged(repo, extended=0x4000),
    "intend to add": lambda repo: _flagged(repo, extended=0x2000),
}
_HARMLESS: Final = frozenset({"touch", "replace", "replace the link", "other bits"})


@given(deeds=st.lists(st.sampled_from(sorted(_DEEDS)), max_size=3), wait=st.booleans())
@tries(60)
def test_what_is_proved_clean_holds_nothing_libgit2_would_find(
    deeds: list[str],
    wait: bool,  # noqa: FBT001 - Hypothesis passes by name
) -> None:
    """Whatever was done to it; and where nothing was, it is proved, racy or not."""
    with tempfile.TemporaryDirectory() as name:
        repo = checkout(Path(name))
        if wait:
            settled(repo)
        for deed in deeds:
            try:
                _DEEDS[deed](repo)
            except (OSError, KeyError):
                # Its place is another thing by now.
                event("impossible")
        answer = proved(repo)
        event("proved" if answer else "not proved")
        if set(deeds) <= _HARMLESS:
            assert answer
        if answer:
            assert not unsaved_by_libgit2(repo)
            assert contents(repo) == contents(checkout(Path(name) / "fresh"))


def test_a_hash_that_begins_like_padding_is_none(tmp_path: Path) -> None:
    """One index in 256 ends with such a hash; what it says is as good as in the others."""
    repo = checkout(tmp_path)
    path = repo / ".git/index"
    raw = path.read_bytes()[:-20]
    # Another time in the first entry is only a file to be read.
    stamped = (raw[:12] + number.to_bytes(4, "big") + raw[16:] for number in range(1 << 14))
    hashed = ((data, hashlib.sha1(data, usedforsecurity=False).digest()) for data in stamped)
    data, digest = next(pair for pair in hashed if pair[1][0] == 0)
    path.write_bytes(data + digest)
    settled(repo)
    assert proved(repo)


@pytest.mark.parametrize("deed", sorted(set(_DEEDS) - _HARMLESS))
@pytest.mark.parametrize("wait", [False, True])
def test_nothing_that_was_done_is_proved_away(tmp_path: Path, deed: str, wait: bool) -> None:  # noqa: FBT001 - parametrized
    """Each by itself."""
    repo = checkout(tmp_path)
    if wait:
        settled(repo)
    assert proved(repo)
    _DEEDS[deed](repo)
    assert not proved(repo)


def test_an_index_that_is_not_whole_proves_nothing(tmp_path: Path) -> None:
    """Cut, changed in a bit, of another format, or with an extension that must be understood."""
    repo = checkout(tmp_path)
    index = repo / ".git/index"
    whole = index.read_bytes()

    def sealed(data: bytes) -> bytes:
        return data + hashlib.sha1(data, usedforsecurity=False).digest()

    for content in (
        b"",
        whole[:11],
        whole[:-1],
        whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
        sealed(whole[:7] + b"\4" + whole[8:-20]),
        sealed(whole[:11] + b"\1" + whole[12:-20]),
        sealed(whole[:11] + b"\77" + whole[12:-20]),
        sealed(whole[:-20] + b"link" + bytes(4)),
        sealed(whole[:-20] + b"TREE" + b"\0\0\0\11"),
    ):
        index.write_bytes(content)
        assert not proved(repo)
    index.write_bytes(sealed(whole[:-20] + b"ZZZZ" + bytes(4)))
    assert proved(repo)
    index.unlink()
    assert not proved(repo)


def test_many_files_are_looked_at_by_two_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one changed byte among them is seen, in whichever folder."""
    monkeypatch.setattr(clean_proof, "_WORTH_A_THREAD", 0)
    monkeypatch.setattr(clean_proof, "_SHARE", 1)
    repo = checkout(tmp_path)
    assert proved(repo)
    for name in ("README.md", "src/deep/er/leaf.txt", "Ärger/é.txt"):
        content = (repo / name).read_bytes()
        (repo / name).write_bytes(content.swapcase())
        assert not proved(repo)
        (repo / name).write_bytes(content)
    assert proved(repo)


def test_where_no_thread_can_be_had_one_does_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    """While the interpreter ends, for example."""
    monkeypatch.setattr(clean_proof, "_WORTH_A_THREAD", 0)
    mocker.patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread"))
    repo = checkout(tmp_path)
    assert proved(repo)
    (repo / "Ärger/é.txt").write_text("changed\n")
    assert not proved(repo)


def test_large_files_are_left_to_libgit2(tmp_path: Path) -> None:
    """Where their times do not tell; memory stays bounded."""
    recipe = RepositoryRecipe(
        (BranchRecipe("main", (CommitRecipe("Start", {"large": bytes(2 << 20)}),)),)
    )
    repo = clone_repository(create_bare_repository(tmp_path / "remote.git", recipe), tmp_path / "c")
    settled(repo)
    assert proved(repo)
    os.utime(repo / "large")
    assert not proved(repo)
    assert not unsaved_by_libgit2(repo)


def test_no_more_is_read_than_libgit2_reads_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree whose times tell nothing is hashed by libgit2, which is quicker at it."""
    repo = checkout(tmp_path)
    settled(repo)
    for name in ("README.md", "a.b", "run"):
        os.utime(repo / name)
    assert proved(repo)
    monkeypatch.setattr(clean_proof, "_MOST_BYTES", 30)
    assert not proved(repo)


def test_submodules_are_for_libgit2(tmp_path: Path) -> None:
    """Their commits may be in the entry alone."""
    repo = checkout(tmp_path)
    (repo / ".git/modules").mkdir()
    assert not proved(repo)
