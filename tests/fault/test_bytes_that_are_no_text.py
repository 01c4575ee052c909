"""Git's names and messages are bytes: what is no UTF-8 stops nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pygit2
import pytest

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    RepositoryError,
    WorkstreamRuntime,
    WorkstreamSpec,
    diagnose,
    open_lane,
    reconcile,
    rescued,
)
from agentrelay.workstream.testing import clone_repository, create_bare_repository, refs

BRANCH = "agentrelay/nightly/parser/integration"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return a bare repository that plays the remote."""
    return create_bare_repository(tmp_path / "origin.git")


def whole_life(repo: Path) -> list[str]:
    """Prepare a lane, leave a file in it, tear it down; return the concerns."""
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    GitWorkstreamPreparer(repo, "nightly").prepare_workstream(runtime)
    assert runtime.state.worktree_path is not None
    assert pygit2.Repository(str(runtime.state.worktree_path)).head.shorthand == BRANCH
    (runtime.state.worktree_path / "draft.txt").write_text("draft\n")
    GitWorkstreamTeardown(repo).teardown_workstream(runtime)
    assert not runtime.state.worktree_path.exists()
    return runtime.artifacts.concerns


def test_a_checkout_on_a_branch_whose_name_is_no_text_has_lanes(tmp_path: Path, bare: Path) -> None:
    """The user's own branch may be called in Latin-1."""
    repo = clone_repository(bare, tmp_path / "clone")
    tip = refs(repo)["refs/heads/main"]
    (Path(os.fsdecode(os.fsencode(repo) + b"/.git/refs/heads/caf\xe9"))).write_text(f"{tip}\n")
    head = b"ref: refs/heads/caf\xe9\n"
    (repo / ".git" / "HEAD").write_bytes(head)
    (concern,) = whole_life(repo)
    assert concern.startswith("untracked files kept as")
    assert [lane.kind.value for lane in reconcile(repo).lanes] == ["rescued"]
    assert (repo / ".git" / "HEAD").read_bytes() == head


def test_a_repository_in_a_folder_whose_name_is_no_text_has_lanes(
    tmp_path: Path, bare: Path
) -> None:
    """Git's files hold the very bytes of the path."""
    repo = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    clone_repository(bare, tmp_path / "clone").rename(repo)
    (concern,) = whole_life(repo)
    assert concern.startswith("untracked files kept as")


@pytest.mark.parametrize(
    "lines",
    [
        b'[section "caf\xe9"]\n\tkey = 1\n',
        b'[remote "caf\xe9"]\n\turl = /nowhere\n',
        b'[url "/caf\xe9"]\n\tinsteadOf = cafe:\n',
        b"[user]\n\tname = J\xe9r\xf4me\n",
        b'[url "/elsewhere"]\n\tinsteadOf = caf\xe9:\n',
    ],
    ids=["section", "remote", "rule", "name", "value of a rule"],
)
def test_a_configuration_that_is_no_text_has_lanes(
    tmp_path: Path, bare: Path, lines: bytes
) -> None:
    """Git takes any bytes in a section's quotes, and for a value."""
    repo = clone_repository(bare, tmp_path / "clone")
    with (repo / ".git" / "config").open("ab") as config:
        # With an include every entry is looked at, whoever wrote it.
        config.write(lines + b"[include]\n\tpath = nothing\n")
    (concern,) = whole_life(repo)
    assert concern.startswith("untracked files kept as")
    assert [lane.kind.value for lane in reconcile(repo).lanes] == ["rescued"]
    assert all(finding.sentence for finding in diagnose(repo))


def test_a_name_that_is_no_text_is_said_to_be_in_the_way_of_a_commit(
    tmp_path: Path, bare: Path
) -> None:
    """A commit under half a name would be wrong for ever; nothing is committed."""
    repo = clone_repository(bare, tmp_path / "clone")
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    GitWorkstreamPreparer(repo, "nightly").prepare_workstream(runtime)
    assert runtime.state.worktree_path is not None
    (runtime.state.worktree_path / "draft.txt").write_text("draft\n")
    with (repo / ".git" / "config").open("ab") as config:
        config.write(b"[user]\n\tname = J\xe9r\xf4me\n")
    before = refs(repo)
    with pytest.raises(RepositoryError, match=r"user\.name .*J\\xe9r\\xf4me.* not UTF-8") as caught:
        open_lane(runtime).commit("Draft")
    assert caught.value.hint is not None
    assert refs(repo) == before


def test_a_configuration_that_cannot_be_read_names_its_file(tmp_path: Path, bare: Path) -> None:
    """Outside of quotes a section's name is of few letters, for git as well."""
    repo = clone_repository(bare, tmp_path / "clone")
    config = repo / ".git" / "config"
    config.write_bytes(config.read_bytes() + b"[caf\xe9]\n\tkey = 1\n")
    with pytest.raises(RepositoryError) as caught:
        whole_life(repo)
    assert str(config) in caught.value.message


@pytest.mark.parametrize(
    ("encoding", "words"),
    [(b"", "caf\ufffd"), (b"encoding klingon\n", "caf\ufffd"), (b"encoding latin-1\n", "caf\xe9")],
    ids=["none", "unknown", "latin-1"],
)
def test_kept_commits_with_messages_that_are_no_text_are_listed(
    tmp_path: Path, bare: Path, encoding: bytes, words: str
) -> None:
    """A commit in an encoding nobody knows neither hides the others nor counts as missing."""
    repo = clone_repository(bare, tmp_path / "clone")
    handle = pygit2.Repository(str(repo))
    commit = handle.head.peel(pygit2.Commit)
    who = b"J\xe9r\xf4me <j@example.org> 1 +0000"
    raw = b"tree %b\nauthor %b\ncommitter %b\n%b\ncaf\xe9\n\nmore\n" % (
        str(commit.tree_id).encode(),
        who,
        who,
        encoding,
    )
    made = handle.odb.write(pygit2.enums.ObjectType.COMMIT, raw)
    for label, oid in (("commits", made), ("remote", commit.id)):
        ref = f"refs/agentrelay/rescue/nightly/parser/20260101T000000.000000Z/{label}"
        handle.references.create(ref, oid)
    found = {work.label: work.subject for work in rescued(repo)}
    assert set(found) == {"commits", "remote"}
    assert found["commits"] == words
