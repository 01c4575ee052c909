"""Whatever a worktree holds when it is torn down exists afterwards, judged by the objects.

Hypothesis plays the agent: it edits, stages, renames, links, merges and commits, under
names and flags that are hard to keep. The judge knows nothing of rescue refs and labels.
It hashes what is there before the clean-up and looks for each hash in what all refs
together lead to.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pygit2
from hypothesis import event, given
from hypothesis import strategies as st
from pygit2.enums import FileMode
from pygit2.ffi import C, ffi

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    WorkstreamRuntime,
    WorkstreamSpec,
)
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.testing import (
    BranchRecipe,
    CommitRecipe,
    Executable,
    RepositoryRecipe,
    Symlink,
    clone_repository,
    create_bare_repository,
    refs,
)
from tests._examples import tries
from tests.fault._objects import reachable

_RECIPE: Final = RepositoryRecipe(
    (
        BranchRecipe(
            "main",
            (
                CommitRecipe(
                    "Start",
                    {
                        "README.md": "# Calculator\n",
                        "src/add.py": "def add(a, b):\n    return a + b\n",
                        "src/deep/er/leaf.txt": "leaf\n",
                        "src/.gitignore": "generated/\n",
                        "run": Executable("#!/bin/sh\n"),
                        "link": Symlink("README.md"),
                        "data.bin": bytes(range(256)),
                        "page.crlf": "one\ntwo\n",
                        "empty": "",
                        ".gitattributes": (
                            "*.crlf text eol=crlf\n*.md text\n*.bin binary\n*.id ident\n"
                        ),
                        ".gitignore": "*.log\nbuild/\n",
                    },
                ),
            ),
        ),
    )
)

# Where things happen: tracked paths, new ones, ignored ones, paths that need a file to be
# a folder or the reverse, and names that are hard to keep.
_PATHS: Final = (
    b"README.md",
    b"src/add.py",
    b"src/deep/er/leaf.txt",
    b"run",
    b"link",
    b"data.bin",
    b"page.crlf",
    b"empty",
    b"new.txt",
    b"new.crlf",
    b"src/new.py",
    b"a/b/c",
    b"a/b",
    b"a",
    b"src",
    b"src/deep",
    b"README.md/inside",
    b"link/inside",
    b"run/in/side",
    b"debug.log",
    b"build/out.o",
    b"build/sub/.gitignore",
    b"src/generated/x",
    b".gitignore",
    b"src/.gitignore",
    b".gitattributes",
    b".gitmodules",
    b"caf\xc3\xa9",
    b"cafe\xcc\x81",
    b"bad\xff\xfename",
    b"bad\xff/in\xfeside.log",
    b"build/\xff",
    b"new\nline",
    b"\x01\x1b[31m",
    b"tab\tand space ",
    b" ",
    b"-rf",
    b"quote\"'",
    b"back\\slash",
    b"star*[x]?",
    b"#!",
    b"con.txt",
    b"a:b",
    b"git~1",
    b"src/GIT~2/x",
    b".GIT",
    b".Git/inside",
    b"src/.giT",
    b"a/.git",
    b"build/.git",
    b".git ",
    b".git.",
    b".g\xe2\x80\x8cit",
    b"sub/.git::$INDEX_ALLOCATION",
    b"dot.",
    b"...",
    b"n" * 255,
    b"/".join([b"d" * 60] * 20),
    b"%/git%7E1",
    b"README.md.ours",
    b"README.MD",
)

_CONTENTS: Final = ("text", "crlf", "mixed", "binary", "empty", "ident", "large")


@dataclass
class Agent:
    """A lane's worktree and somebody who works in it.

    Every content it writes is its own, so a hash tells which edit survived.
    """

    root: Path
    number: int = 0
    did: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make remote, clone and lane."""
        self.bare = create_bare_repository(self.root / "origin.git", _RECIPE)
        self.repo = clone_repository(self.bare, self.root / "clone")
        self.runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
        GitWorkstreamPreparer(self.repo, "nightly").prepare_workstream(self.runtime)
        lane = Lane.of(self.repo, "nightly", "parser")
        self.branch_ref = lane.branch_ref
        self.worktree = lane.worktree_path
        self.admin_dir = self.repo / ".git" / "worktrees" / lane.admin_name
        self.handle = pygit2.Repository(str(self.worktree))

    def tear_down(self) -> None:
        """Tear the lane down, as another process."""
        assert self.runtime.state.signal_dir is not None
        self.runtime = WorkstreamRuntime.load(self.runtime.state.signal_dir)
        GitWorkstreamTeardown(self.repo).teardown_workstream(self.runtime)

    def act(self, action: str, path: bytes, other: bytes, kind: str) -> None:
        """Do one thing; what the file system or libgit2 refuses is not done."""
        with contextlib.suppress(OSError, ValueError, KeyError, pygit2.GitError):
            _ACTIONS[action](self, path, other, kind)
            self.did.append(action)

    # -- what it may do

    def _at(self, path: bytes) -> Path:
        return self.worktree / os.fsdecode(path)

    def _content(self, kind: str) -> bytes:
        self.number += 1
        text = f"edit {self.number}".encode()
        return {
            "text": text + b"\n",
            "crlf": text + b"\r\nsecond\r\n",
            "mixed": text + b"\r\nsecond\nthird\r",
            "binary": text + b"\x00\xff\xfe\r\n",
            "empty": b"",
            "ident": text + b" $Id$\n",
            "large": text + bytes(range(256)) * 500,
        }[kind]

    def write(self, path: bytes, other: bytes, kind: str) -> None:
        """Write a file, whatever stands there."""
        del other
        full = self._at(path)
        self._clear(full)
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_bytes(self._content(kind))

    def _clear(self, full: Path) -> None:
        """Take away what is in the way of a path: files above it, folders at it."""
        for parent in full.parents:
            if parent == self.worktree:
                break
            if parent.is_symlink() or parent.is_file():
                parent.unlink()
        if full.is_dir() and not full.is_symlink():
            shutil.rmtree(full)
        else:
            full.unlink(missing_ok=True)

    def remove(self, path: bytes, other: bytes, kind: str) -> None:
        """Delete a file or folder."""
        del other, kind
        self._clear(self._at(path))

    def rename(self, path: bytes, other: bytes, kind: str) -> None:
        """Rename a file or folder."""
        del kind
        if self._at(path).exists():
            self._clear(self._at(other))
            self._at(other).parent.mkdir(parents=True, exist_ok=True)
            self._at(path).rename(self._at(other))

    def link(self, path: bytes, other: bytes, kind: str) -> None:
        """Make a symbolic link, whose target is its content."""
        del kind
        self._clear(self._at(path))
        self._at(path).parent.mkdir(parents=True, exist_ok=True)
        self.number += 1
        self._at(path).symlink_to(f"{os.fsdecode(other)}/{self.number}")

    def mode(self, path: bytes, other: bytes, kind: str) -> None:
        """Turn the executable bit, or make a folder read-only."""
        del other, kind
        full = self._at(path)
        full.chmod(0o555 if full.is_dir() else full.stat().st_mode ^ 0o111)

    def folder(self, path: bytes, other: bytes, kind: str) -> None:
        """Make an empty folder."""
        del other, kind
        self._at(path).mkdir(parents=True)

    def pipe(self, path: bytes, other: bytes, kind: str) -> None:
        """Make a pipe; reading it would wait for ever."""
        del other, kind
        os.mkfifo(self._at(path))

    def stage(self, path: bytes, other: bytes, kind: str) -> None:
        """Add a path to the index, ignored or not, or take a missing one out of it."""
        del other, kind
        index = self.handle.index
        index.read(False)
        if os.path.lexists(self._at(path)):
            index.add(os.fsdecode(path))
        else:
            index.remove(os.fsdecode(path))
        index.write()

    def stage_and_edit(self, path: bytes, other: bytes, kind: str) -> None:
        """Leave a content in the index alone, another one in the file."""
        self.write(path, other, kind)
        self.stage(path, other, kind)
        self.write(path, other, kind)

    def intend(self, path: bytes, other: bytes, kind: str) -> None:
        """Write a file and add only the intent, as ``git add -N`` does."""
        self.write(path, other, kind)
        full = self._at(path)
        data = full.read_bytes()
        full.write_bytes(b"")
        self.stage(path, other, kind)
        full.write_bytes(data)
        self._flag(self.handle.index, path, extended=0x2000)

    def assume(self, path: bytes, other: bytes, kind: str) -> None:
        """Tell git not to look at a path, and edit it."""
        index = self.handle.index
        index.read(False)
        self._flag(index, path, plain=0x8000)
        self.write(path, other, kind)

    def skip(self, path: bytes, other: bytes, kind: str) -> None:
        """Take a path out of a sparse checkout, and edit it."""
        index = self.handle.index
        index.read(False)
        self._flag(index, path, extended=0x4000)
        self.write(path, other, kind)

    @staticmethod
    def _flag(index: pygit2.Index, path: bytes, *, plain: int = 0, extended: int = 0) -> None:
        for number in range(len(index)):
            raw = C.git_index_get_byindex(index._index, number)
            if ffi.string(raw.path) == path:
                raw.flags |= plain | (0x4000 if extended else 0)
                raw.flags_extended |= extended
        index.write()

    def commit(self, path: bytes, other: bytes, kind: str) -> None:
        """Commit a new content where HEAD is."""
        self.write(path, other, kind)
        self.stage(path, other, kind)
        index = self.handle.index
        self._commit_tree("HEAD", str(index.write_tree()))

    def _commit_tree(self, ref: str | None, tree: str) -> pygit2.Oid:
        self.number += 1
        author = self.handle.default_signature
        parents = [self.handle.head.target]
        text = f"commit {self.number}"
        return self.handle.create_commit(ref, author, author, text, tree, parents)

    def detach(self, path: bytes, other: bytes, kind: str) -> None:
        """Leave the branch and commit there."""
        self.handle.set_head(pygit2.Oid(hex=str(self.handle.head.target)))
        self.commit(path, other, kind)

    def _loose(self, path: bytes, kind: str) -> pygit2.Oid:
        """Make a commit on top of HEAD that no ref leads to."""
        index = pygit2.Index()
        index.read_tree(self.handle.head.peel(pygit2.Tree))
        blob = self.handle.create_blob(self._content(kind))
        index.add(pygit2.IndexEntry(os.fsdecode(path), blob, FileMode.BLOB))
        return self._commit_tree(None, str(index.write_tree(self.handle)))

    def branch(self, path: bytes, other: bytes, kind: str) -> None:
        """Commit on a branch of one's own."""
        del other
        commit = self._loose(path, kind)
        self.handle.references.create(f"refs/heads/side-{self.number}", commit)

    def own_ref(self, path: bytes, other: bytes, kind: str) -> None:
        """Commit on a ref that only this worktree has."""
        del other
        commit = self._loose(path, kind)
        self.handle.references.create(f"refs/worktree/save-{self.number}", commit)

    def merge(self, path: bytes, other: bytes, kind: str) -> None:
        """Begin to merge a commit no ref leads to, in conflict where both sides changed."""
        theirs = self._loose(path, kind)
        self.write(path, other, kind)
        self.commit(path, other, kind)
        self.handle.merge(theirs)

    def repository(self, path: bytes, other: bytes, kind: str) -> None:
        """Make a repository of its own within the worktree."""
        del other, kind
        self._clear(self._at(path))
        made = pygit2.init_repository(str(self._at(path)))
        author = self.handle.default_signature
        tree = made.TreeBuilder().write()
        made.create_commit("HEAD", author, author, f"inside {self.number}", tree, [])

    def drop_branch(self, path: bytes, other: bytes, kind: str) -> None:
        """Delete the branch under the worktree."""
        del path, other, kind
        self.handle.references.delete(self.branch_ref)

    # -- what there is

    def files(self) -> dict[bytes, set[str]]:
        """Return the hashes of every content in the worktree, by path.

        Two where there are line ends of Windows: git commits such a text without them.
        """
        found: dict[bytes, set[str]] = {}
        top = os.fsencode(self.worktree)
        for directory, folders, names in os.walk(top):
            for name in [*names, *folders]:
                full = os.path.join(directory, name)  # noqa: PTH118 - bytes
                path = os.path.relpath(full, top)
                if os.path.islink(full):  # noqa: PTH114 - bytes
                    found[path] = {str(pygit2.hash(os.readlink(full)))}  # noqa: PTH115 - bytes
                elif os.path.isfile(full) and path != b".git":  # noqa: PTH113 - bytes
                    with open(full, "rb") as stream:  # noqa: PTH123 - bytes
                        data = stream.read()
                    plain = data.replace(b"\r\n", b"\n")
                    found[path] = {str(pygit2.hash(data)), str(pygit2.hash(plain))}
        return found

    def has_repository_inside(self) -> bool:
        """Return whether something below the top is called as a repository is."""
        top = os.fsencode(self.worktree)
        return any(
            b".git" in [*folders, *names] and directory != top
            for directory, folders, names in os.walk(top)
        )

    def staged(self) -> set[str]:
        """Return the hash of every content in the index, each side of a conflict included."""
        index = pygit2.Index(str(self.admin_dir / "index"))
        found = set()
        for number in range(len(index)):
            raw = C.git_index_get_byindex(index._index, number)
            if raw.mode != FileMode.COMMIT:
                found.add(bytes(raw.id.id).hex())
        return found

    def commits(self) -> set[str]:
        """Return the commits the worktree's own files and the clone's refs lead to."""
        found = set(refs(self.repo).values())
        for name in ("HEAD", "MERGE_HEAD", "refs/worktree"):
            place = self.admin_dir / name
            for path in [place, *place.rglob("*")]:
                if path.is_file():
                    words = path.read_text().split()
                    found |= {word for word in words if len(word) == 40}
        return {commit for commit in found if not commit.startswith("ref:")}


_ACTIONS: Final[dict[str, Callable[[Agent, bytes, bytes, str], None]]] = {
    name: getattr(Agent, name)
    for name in (
        "write",
        "remove",
        "rename",
        "link",
        "mode",
        "folder",
        "pipe",
        "stage",
        "stage_and_edit",
        "intend",
        "assume",
        "skip",
        "commit",
        "detach",
        "branch",
        "own_ref",
        "merge",
        "repository",
        "drop_branch",
    )
}


@contextlib.contextmanager
def working() -> Iterator[Agent]:
    """Give an agent a lane of its own, and take everything away in the end."""
    with tempfile.TemporaryDirectory(prefix="lane-") as root:
        try:
            yield Agent(Path(root).resolve())
        finally:
            # Read-only folders, which the context manager of Python 3.11 cannot remove.
            for directory, folders, _ in os.walk(os.fsencode(root)):
                for name in folders:
                    path = os.path.join(directory, name)  # noqa: PTH118 - bytes
                    if not os.path.islink(path):  # noqa: PTH114 - bytes
                        os.chmod(path, 0o700)  # noqa: PTH101 - bytes


_PATH = st.sampled_from(_PATHS)
_STEPS = st.lists(
    st.tuples(st.sampled_from([*_ACTIONS]), _PATH, _PATH, st.sampled_from(_CONTENTS)),
    min_size=1,
    max_size=12,
)


@tries(40)
@given(steps=_STEPS)
def test_every_content_of_a_worktree_exists_after_its_clean_up(
    steps: list[tuple[str, bytes, bytes, str]],
) -> None:
    """Files, index and commits are under some ref, or the worktree stands as it was."""
    with working() as agent:
        for step in steps:
            agent.act(*step)
        for action in set(agent.did):
            event(action)
        files, staged, commits = agent.files(), agent.staged(), agent.commits()
        agent.tear_down()
        there = reachable(agent.repo)
        said = agent.runtime.artifacts.concerns
        if agent.worktree.exists():
            assert agent.files() == files
            assert agent.staged() >= staged
            assert commits <= there | agent.commits()
            assert any("remove the worktree" in text for text in said)
            assert agent.has_repository_inside(), said
        else:
            assert {path for path, hashes in files.items() if not hashes & there} == set()
            assert staged | commits <= there
        # Once more, from another process: nothing that was kept is taken back.
        agent.tear_down()
        assert there <= reachable(agent.repo)
