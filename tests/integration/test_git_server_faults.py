"""Planned misbehaviour of the git server: what the client sees, and what has happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pygit2
import pytest

from agentrelay.workstream.testing.faults import Fault
from agentrelay.workstream.testing.git_server import GitServer, RefUpdate
from agentrelay.workstream.testing.repositories import (
    BranchRecipe,
    CommitRecipe,
    RepositoryRecipe,
    clone_repository,
    commit_files,
    create_bare_repository,
    refs,
)
from tests.integration._git_client import (
    LIST,
    MAIN,
    fetch,
    push,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    """Serve an empty directory."""
    (tmp_path / "root").mkdir()
    with GitServer(tmp_path / "root") as running:
        yield running


@pytest.fixture
def bare(tmp_path: Path, server: GitServer) -> Path:  # noqa: ARG001  # it makes the root
    """Make the served repository ``owner/project``."""
    return create_bare_repository(tmp_path / "root" / "owner" / "project.git")


@pytest.fixture
def work(tmp_path: Path, server: GitServer, bare: Path) -> Path:
    """Make a checkout whose ``origin`` is the server."""
    return clone_repository(bare, tmp_path / "work", url=server.repository_url("owner/project"))


def test_a_fetch_cut_in_its_pack_fails_and_can_be_repeated(
    server: GitServer, bare: Path, work: Path
) -> None:
    """Half a pack moves no ref of the client; the next fetch is whole."""
    before = refs(work)
    tip = commit_files(bare, {"a": "1"}, message="A")
    server.faults.add(Fault.cut(100, method="POST", path="git-upload-pack"))
    with pytest.raises(pygit2.GitError):
        fetch(work)
    assert refs(work) == before
    fetch(work)
    assert refs(work)["refs/remotes/origin/main"] == tip


def test_a_dropped_answer_hides_a_push_that_happened(
    server: GitServer, bare: Path, work: Path
) -> None:
    """The client sees a failure while the ref has moved; pushing again is harmless."""
    tip = commit_files(work, {"a": "1"}, message="A")
    server.faults.add(Fault.drop_answer(method="POST", path="git-receive-pack"))
    with pytest.raises(pygit2.GitError):
        push(work, MAIN)
    assert refs(bare) == {MAIN: tip}
    push(work, MAIN)
    assert refs(bare) == {MAIN: tip}


def test_a_status_stops_a_push_before_its_effect(server: GitServer, bare: Path, work: Path) -> None:
    """A gateway's error means that nothing was done."""
    before = refs(bare)
    commit_files(work, {"a": "1"}, message="A")
    server.faults.add(Fault.status(502, path="git-receive-pack"))
    with pytest.raises(pygit2.GitError, match="502"):
        push(work, MAIN)
    assert refs(bare) == before
    assert server.requests[-1].status == 502


def test_a_redirect_leads_to_another_server(tmp_path: Path, server: GitServer, work: Path) -> None:
    """A client that follows reaches the other server's repository."""
    bare = create_bare_repository(
        tmp_path / "elsewhere" / "moved.git",
        RepositoryRecipe((BranchRecipe("main", (CommitRecipe("Moved", {"m": "1"}),)),)),
    )
    with GitServer(tmp_path / "elsewhere") as other:
        target = f"{other.repository_url('moved')}{LIST}"
        server.faults.add(Fault.redirect(target, path="/info/refs"))
        fetch(work)
        assert refs(work)["refs/remotes/origin/main"] == refs(bare)[MAIN]
        assert len(other.requests) == 2


def test_a_failing_hook_is_the_tests_failure(server: GitServer, bare: Path, work: Path) -> None:
    """A mistake in a hook is raised by check(), and the push does not happen."""

    def broken(_: Sequence[RefUpdate]) -> Mapping[str, str]:
        raise LookupError("the hook has a bug")

    before = refs(bare)
    server.hooks.append(broken)
    commit_files(work, {"a": "1"}, message="A")
    with pytest.raises(pygit2.GitError):
        push(work, MAIN)
    with pytest.raises(LookupError, match="has a bug"):
        server.check()
    assert refs(bare) == before
