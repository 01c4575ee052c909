"""The git server as the stock git sees it, and the remote as its fsck sees it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pygit2
import pytest

from agentrelay.workstream.testing.faults import Fault
from agentrelay.workstream.testing.git_server import GitServer, RefUpdate
from agentrelay.workstream.testing.repositories import (
    Executable,
    Symlink,
    clone_repository,
    commit_files,
    create_bare_repository,
    read_tree,
    refs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("git") is None, reason="there is no stock git here"),
]

_MAIN: Final = "refs/heads/main"


class _Git:
    """The stock git, with nothing of this machine's configuration."""

    def __init__(self, home: Path) -> None:
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
        }

    def __call__(self, *words: str | Path, cwd: Path | None = None) -> str:
        """Run git and return both of its outputs; it must succeed."""
        status, said = self.result(*words, cwd=cwd)
        assert status == 0, said
        return said

    def result(self, *words: str | Path, cwd: Path | None = None) -> tuple[int, str]:
        """Run git and return its exit status and both of its outputs."""
        done = subprocess.run(
            ["git", *map(str, words)],
            cwd=cwd,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout


@pytest.fixture
def git(tmp_path: Path) -> _Git:
    """Run the stock git with an empty home."""
    (tmp_path / "home").mkdir()
    return _Git(tmp_path / "home")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Make the served repository ``owner/project``."""
    return create_bare_repository(tmp_path / "root" / "owner" / "project.git")


@pytest.fixture
def server(tmp_path: Path, bare: Path, git: _Git) -> Iterator[GitServer]:
    """Serve it, and have git's own check find nothing in it afterwards."""
    with GitServer(tmp_path / "root") as running:
        yield running
    # What was replaced or deleted is still there, as on any server that does not collect.
    assert git("fsck", "--strict", "--full", "--no-dangling", cwd=bare) == ""


@pytest.fixture
def work(tmp_path: Path, server: GitServer, bare: Path) -> Path:
    """Make a checkout whose ``origin`` is the server."""
    return clone_repository(bare, tmp_path / "work", url=server.repository_url("owner/project"))


def test_what_the_recipes_make_is_clean(tmp_path: Path, git: _Git, bare: Path) -> None:
    """Repositories, clones and commits of the recipes are what git expects."""
    work = clone_repository(bare, tmp_path / "work")
    commit_files(
        work,
        {"link": Symlink("README.md"), "tool": Executable("x\n"), "run": None},
        message="Change",
    )
    assert git("status", "--porcelain=v2", "--branch", cwd=work).splitlines() == [
        f"# branch.oid {refs(work)[_MAIN]}",
        "# branch.head main",
        "# branch.upstream origin/main",
        "# branch.ab +1 -0",
    ]
    for path in (bare, work):
        assert git("fsck", "--strict", "--full", cwd=path) == ""


@pytest.mark.parametrize("version", ["0", "1", "2"])
def test_a_clone_is_whole_in_every_protocol_version(
    tmp_path: Path, git: _Git, server: GitServer, bare: Path, version: str
) -> None:
    """A client that would rather speak version 2 falls back by itself."""
    url = server.repository_url("owner/project")
    git("-c", f"protocol.version={version}", "clone", url, tmp_path / "clone")
    assert read_tree(tmp_path / "clone", "HEAD") == read_tree(bare, "main")
    assert git("status", "--porcelain", cwd=tmp_path / "clone") == ""
    assert git("fsck", "--strict", cwd=tmp_path / "clone") == ""


def test_a_fetch_negotiates_over_long_histories(git: _Git, bare: Path, work: Path) -> None:
    """Hundreds of commits on both sides need several rounds and compressed requests."""
    for number in range(150):
        commit_files(work, {"mine": str(number)}, message=f"Mine {number}")
        commit_files(bare, {"theirs": str(number)}, message=f"Theirs {number}")
    git("fetch", "origin", cwd=work)
    assert refs(work)["refs/remotes/origin/main"] == refs(bare)[_MAIN]
    assert git("fsck", "--strict", cwd=work) == ""


def test_pushes_arrive_and_deletions_too(git: _Git, bare: Path, work: Path) -> None:
    """New branches, updates, tags and deletions are what git says they are."""
    tip = commit_files(work, {"a": "1"}, message="A")
    git("tag", "-a", "-m", "One", "v1", cwd=work)
    git("push", "origin", "main", "main:refs/heads/deep/x", "v1", cwd=work)
    assert refs(bare)[_MAIN] == refs(bare)["refs/heads/deep/x"] == tip
    assert f"{tip}\trefs/tags/v1^{{}}" in git("ls-remote", "origin", cwd=work)
    git("push", "origin", ":refs/heads/deep/x", ":v1", cwd=work)
    assert set(refs(bare)) == {_MAIN}
    status, said = git.result("push", "origin", ":main", cwd=work)
    assert status != 0
    assert "deletion of the current branch prohibited" in said


def test_a_large_push_in_thin_deltas_arrives(git: _Git, bare: Path, work: Path) -> None:
    """Chunked bodies, and deltas against objects only the server has, come out right."""
    text = "".join(f"line {number} of a long text\n" for number in range(20_000))
    noise = os.urandom(2_000_000)
    commit_files(work, {"text": text, "noise": noise}, message="Large")
    git("push", "origin", "main", cwd=work)
    changed = text.replace("line 7 ", "line seven ")
    commit_files(work, {"text": changed}, message="Change a line")
    git("push", "--thin", "origin", "main", cwd=work)
    assert read_tree(bare, "main")["text"] == changed.encode()
    assert read_tree(bare, "main")["noise"] == noise


def test_refusals_are_told_in_gits_words(
    git: _Git, server: GitServer, bare: Path, work: Path
) -> None:
    """Rules, hooks and planned refusals show as a remote's rejections do."""

    def protect(updates: Sequence[RefUpdate]) -> Mapping[str, str]:
        lines = "protected branch hook declined\nerror: GH006: Protected branch."
        return {update.ref: lines for update in updates if update.ref == _MAIN}

    server.hooks.append(protect)
    before = refs(bare)
    commit_files(work, {"a": "1"}, message="A")
    server.faults.add(Fault.refuse_ref("refs/heads/x", "not today"))
    status, said = git.result("push", "origin", "main", "main:x", cwd=work)
    assert status != 0
    assert "remote: error: GH006: Protected branch." in said
    assert "[remote rejected] main -> main (protected branch hook declined)" in said
    assert "[remote rejected] main -> x (not today)" in said
    assert refs(bare) == before


def test_an_atomic_push_and_a_lease_work(
    git: _Git, server: GitServer, bare: Path, work: Path
) -> None:
    """All or nothing where git asks for it, and a lease that no longer holds is refused."""
    first = commit_files(work, {"a": "1"}, message="A")
    server.faults.add(Fault.refuse_ref("refs/heads/x", "no"))
    status, said = git.result("push", "--atomic", "origin", "main", "main:x", cwd=work)
    assert status != 0
    assert "atomic push fail" in said
    assert refs(bare)[_MAIN] != first
    git("push", "origin", "main", cwd=work)
    theirs = commit_files(bare, {"b": "1"}, message="B")
    git("commit", "--amend", "-m", "Mine", cwd=work)
    status, said = git.result("push", "--force-with-lease", "origin", "main", cwd=work)
    assert status != 0
    assert "stale info" in said
    assert refs(bare)[_MAIN] == theirs
    server.deny_non_fast_forwards = True
    status, said = git.result("push", "--force", "origin", "main", cwd=work)
    assert status != 0
    assert "[remote rejected] main -> main (non-fast-forward)" in said
    server.deny_non_fast_forwards = False
    git("push", "--force", "origin", "main", cwd=work)


def test_a_shallow_clone_deepens_and_pushes(
    tmp_path: Path, git: _Git, server: GitServer, bare: Path
) -> None:
    """Histories cut short on the client are served, grown, completed and taken from."""
    for number in range(6):
        commit_files(bare, {"n": str(number)}, message=str(number))
    clone = tmp_path / "clone"
    git("clone", "--depth", "2", server.repository_url("owner/project"), clone)

    def depth() -> str:
        return git("rev-list", "--count", "origin/main", cwd=clone).strip()

    assert depth() == "2"
    git("fetch", "--depth", "4", cwd=clone)
    assert depth() == "4"
    commit_files(clone, {"mine": "1"}, message="Mine")
    git("push", "origin", "main", cwd=clone)
    git("fetch", "--depth", "1", cwd=clone)
    assert depth() == "1"
    git("fetch", "--unshallow", cwd=clone)
    assert depth() == "9"
    assert git("fsck", "--strict", cwd=clone) == ""


def test_a_token_in_the_url_is_enough_and_a_wrong_one_is_refused(
    tmp_path: Path, git: _Git, bare: Path
) -> None:
    """Git authenticates with Basic, and does not hang where it cannot."""
    with GitServer(tmp_path / "root", token="s3cr3t") as server:
        place = urlsplit(server.repository_url("owner/project"))
        for login, expected in (("x:s3cr3t@", 0), ("x:wrong@", 128), ("", 128)):
            url = f"http://{login}{place.netloc}{place.path}"
            status, said = git.result("ls-remote", url)
            assert status == expected, said
        work = clone_repository(bare, tmp_path / "work", url=server.repository_url("owner/project"))
        tip = commit_files(work, {"a": "1"}, message="A")
        url = f"http://x:s3cr3t@{place.netloc}{place.path}"
        git("push", url, "main", cwd=work)
        assert refs(bare)[_MAIN] == tip


def test_faults_reach_git_as_failures(git: _Git, server: GitServer, bare: Path, work: Path) -> None:
    """A cut pack, a gateway's error and a lost answer are errors, and a second try works."""
    tip = commit_files(bare, {"theirs": "1"}, message="Theirs")
    for fault in (
        Fault.cut(60, method="POST", path="git-upload-pack"),
        Fault.status(503, path="/info/refs"),
        Fault.html(path="/info/refs"),
    ):
        server.faults.add(fault)
        assert git.result("fetch", "origin", cwd=work)[0] != 0
        assert refs(work)["refs/remotes/origin/main"] != tip
    git("pull", "--ff-only", "origin", "main", cwd=work)
    mine = commit_files(work, {"mine": "1"}, message="Mine")
    server.faults.add(Fault.drop_answer(method="POST", path="git-receive-pack"))
    assert git.result("push", "origin", "main", cwd=work)[0] != 0
    assert refs(bare)[_MAIN] == mine
    assert "up-to-date" in git("push", "origin", "main", cwd=work)


def test_what_libgit2_pushes_is_clean_for_git(git: _Git, bare: Path, work: Path) -> None:
    """Pushes of libgit2 leave a remote git works with: three hundred refs and a repack."""
    commit_files(work, {"a": "1"}, message="A")
    repo = pygit2.Repository(str(work))
    repo.remotes["origin"].push([f"{_MAIN}:refs/heads/many/{n}" for n in range(300)])
    git("gc", "--quiet", cwd=bare)
    git("fetch", "origin", cwd=work)
    assert len(refs(work)) == 304 - 1
    repo.remotes["origin"].push([f":refs/heads/many/{n}" for n in range(299)])
    assert set(refs(bare)) == {_MAIN, "refs/heads/many/299"}
    git("fetch", "--prune", "origin", cwd=work)
    assert len(refs(work)) == 4
