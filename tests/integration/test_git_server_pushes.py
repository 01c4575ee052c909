"""Pushes as libgit2 makes them: what arrives, what is refused, and in which words."""

from __future__ import annotations

import hashlib
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pygit2
import pytest

from agentrelay.workstream.testing._pktline import FLUSH, PktLineReader
from agentrelay.workstream.testing.faults import Fault
from agentrelay.workstream.testing.git_server import GitServer, RefUpdate
from agentrelay.workstream.testing.repositories import (
    clone_repository,
    commit_files,
    create_bare_repository,
    read_tree,
    refs,
)
from tests.integration._git_client import (
    MAIN,
    NO_ID,
    Client,
    command,
    fetch,
    pack_of,
    post,
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


def test_a_push_moves_creates_and_deletes(bare: Path, work: Path) -> None:
    """Three kinds of updates in one push, each with its verdict, as the server has them then."""
    repo = pygit2.Repository(str(bare))
    repo.references.create("refs/heads/old", repo.head.target)
    fetch(work)
    tip = commit_files(work, {"a": "1"}, message="A")
    verdicts = push(work, MAIN, f"{MAIN}:refs/heads/deep/new", ":refs/heads/old")
    assert verdicts == {MAIN: None, "refs/heads/deep/new": None, "refs/heads/old": None}
    assert refs(bare) == {MAIN: tip, "refs/heads/deep/new": tip}
    assert read_tree(bare, "main")["a"] == b"1"


def test_a_push_of_four_megabytes_arrives(bare: Path, work: Path) -> None:
    """Bodies that libgit2 sends in chunks are put together again."""
    noise = hashlib.shake_128(b"does not compress").digest(4_000_000)
    commit_files(work, {"large.bin": noise}, message="Large")
    assert push(work, MAIN) == {MAIN: None}
    assert read_tree(bare, "main")["large.bin"] == noise


def test_three_hundred_refs_go_in_one_push(bare: Path, work: Path) -> None:
    """A batch is one request, both ways."""
    names = [f"refs/heads/many/{number}" for number in range(300)]
    assert push(work, *(f"{MAIN}:{name}" for name in names)) == dict.fromkeys(names)
    assert set(refs(bare)) == {MAIN, *names}
    assert push(work, *(f":{name}" for name in names)) == dict.fromkeys(names)
    assert set(refs(bare)) == {MAIN}


def test_a_ref_that_moved_meanwhile_is_not_overwritten(bare: Path, work: Path) -> None:
    """Between a client's look and its push the ref moved: the push is refused, nothing lost."""
    commit_files(work, {"mine": "1"}, message="Mine")
    theirs: list[str] = []
    client = Client(
        before_push=lambda: theirs.append(commit_files(bare, {"theirs": "1"}, message="Theirs"))
    )
    assert push(work, MAIN, client=client) == {MAIN: "failed to update ref"}
    assert refs(bare) == {MAIN: theirs[0]}
    assert f"is at {theirs[0]} but expected" in client.said


def test_a_ref_that_appeared_meanwhile_is_not_overwritten(bare: Path, work: Path) -> None:
    """A client that saw no ref may not replace one."""
    main = refs(bare)[MAIN]
    tip = commit_files(work, {"mine": "1"}, message="Mine")
    repo = pygit2.Repository(str(bare))
    client = Client(before_push=lambda: repo.references.create("refs/heads/lane", main))
    verdicts = push(work, f"{MAIN}:refs/heads/lane", client=client)
    assert verdicts == {"refs/heads/lane": "failed to update ref"}
    assert refs(bare)["refs/heads/lane"] == main != tip
    assert "reference already exists" in client.said


def test_a_ref_that_vanished_meanwhile_is_not_made_again(bare: Path, work: Path) -> None:
    """An update of a ref somebody deleted is refused; deleting it is done already."""
    repo = pygit2.Repository(str(bare))
    for name in ("refs/heads/a", "refs/heads/b"):
        repo.references.create(name, repo.head.target)
    fetch(work)
    commit_files(work, {"mine": "1"}, message="Mine")

    def vanish() -> None:
        for name in ("refs/heads/a", "refs/heads/b"):
            repo.references.delete(name)

    client = Client(before_push=vanish)
    verdicts = push(work, f"{MAIN}:refs/heads/a", ":refs/heads/b", client=client)
    assert verdicts == {"refs/heads/a": "failed to update ref", "refs/heads/b": None}
    assert "non-existent" in client.said


def test_a_name_in_the_way_of_another_is_refused(bare: Path, work: Path) -> None:
    """A branch and a folder of branches cannot share a name."""
    verdicts = push(work, f"{MAIN}:{MAIN}/below", f"{MAIN}:refs/heads/fine")
    assert verdicts == {f"{MAIN}/below": "failed to update ref", "refs/heads/fine": None}
    assert set(refs(bare)) == {MAIN, "refs/heads/fine"}


def test_eight_clients_race_for_one_branch_and_one_wins(
    tmp_path: Path, server: GitServer, bare: Path
) -> None:
    """Compare and swap holds under concurrency, and every other branch still arrives."""
    url = server.repository_url(bare)
    works = [clone_repository(bare, tmp_path / f"work{n}", url=url) for n in range(8)]
    tips = [commit_files(work, {"n": str(n)}, message="N") for n, work in enumerate(works)]
    gate = threading.Barrier(len(works))

    def race(number: int) -> str | None:
        # All have looked at the refs before the first one pushes.
        client = Client(before_push=lambda: gate.wait(timeout=20))
        own = f"refs/heads/own{number}"
        verdicts = push(works[number], f"{MAIN}:{own}", f"{MAIN}:refs/heads/x", client=client)
        assert verdicts[own] is None
        return verdicts["refs/heads/x"]

    with ThreadPoolExecutor(len(works)) as pool:
        results = list(pool.map(race, range(len(works))))
    assert results.count(None) == 1
    assert set(results) == {None, "failed to update ref"}
    assert refs(bare)["refs/heads/x"] == tips[results.index(None)]
    assert [refs(bare)[f"refs/heads/own{n}"] for n in range(8)] == tips


# -- rules


def test_deletions_are_refused_where_the_rules_say(
    server: GitServer, bare: Path, work: Path
) -> None:
    """The default branch stays unless told otherwise, everything stays when told so."""
    push(work, f"{MAIN}:refs/heads/x")
    current = "deletion of the current branch prohibited"
    assert push(work, f":{MAIN}") == {MAIN: current}
    server.deny_deletes = True
    assert push(work, ":refs/heads/x") == {"refs/heads/x": "deletion prohibited"}
    assert set(refs(bare)) == {MAIN, "refs/heads/x"}
    server.deny_deletes = server.deny_delete_current = False
    assert push(work, f":{MAIN}", ":refs/heads/x") == {MAIN: None, "refs/heads/x": None}
    assert refs(bare) == {}


def test_branches_lose_commits_only_where_the_rules_allow(
    server: GitServer, bare: Path, work: Path
) -> None:
    """A forced push is a server's decision."""
    repo = pygit2.Repository(str(work))
    old = str(repo.head.target)
    below = str(repo.head.peel(pygit2.Commit).parent_ids[0])
    repo.references.create("refs/heads/back", below)
    server.deny_non_fast_forwards = True
    assert push(work, f"+refs/heads/back:{MAIN}") == {MAIN: "non-fast-forward"}
    assert refs(bare) == {MAIN: old}
    # An older tip below commits the server has already, on another branch.
    commit_files(work, {"ahead": "1"}, message="Ahead")
    assert push(work, f"{MAIN}:refs/heads/other") == {"refs/heads/other": None}
    commit_files(work, {"ahead": "2"}, message="Further ahead")
    assert push(work, MAIN) == {MAIN: None}
    for n in range(3):
        commit_files(work, {"n": str(n)}, message="Ahead")
    assert push(work, MAIN) == {MAIN: None}
    assert refs(bare)[MAIN] == refs(work)[MAIN]
    server.deny_non_fast_forwards = False
    assert push(work, f"+refs/heads/back:{MAIN}") == {MAIN: None}
    assert refs(bare)[MAIN] == below


def test_hooks_decline_single_refs_with_words_for_the_person(
    server: GitServer, bare: Path, work: Path
) -> None:
    """A hook sees every update, its first line becomes the verdict, the rest is shown."""
    seen: list[RefUpdate] = []

    def protect(updates: Sequence[RefUpdate]) -> Mapping[str, str]:
        seen.extend(updates)
        return {
            MAIN: "protected branch hook declined\nerror: GH006: Protected branch update failed.",
            "refs/heads/quiet": "",
        }

    server.hooks.append(protect)
    old = refs(bare)[MAIN]
    tip = commit_files(work, {"a": "1"}, message="A")
    client = Client()
    specs = [MAIN, f"{MAIN}:refs/heads/quiet", f"{MAIN}:refs/heads/free"]
    assert push(work, *specs, client=client) == {
        MAIN: "protected branch hook declined",
        "refs/heads/quiet": "pre-receive hook declined",
        "refs/heads/free": None,
    }
    assert RefUpdate(MAIN, old, tip) in seen
    assert len(seen) == 3
    assert client.said == "error: GH006: Protected branch update failed.\n"
    assert refs(bare) == {MAIN: old, "refs/heads/free": tip}


def test_a_refused_push_leaves_no_object_behind(server: GitServer, bare: Path, work: Path) -> None:
    """What was refused is not there, not even unreachable."""
    before = set(pygit2.Repository(str(bare)).odb)
    server.faults.add(Fault.refuse_ref(MAIN, "not today"))
    commit_files(work, {"a": "1"}, message="A")
    assert push(work, MAIN) == {MAIN: "not today"}
    assert set(pygit2.Repository(str(bare)).odb) == before
    assert push(work, MAIN) == {MAIN: None}


def test_an_atomic_push_is_all_or_nothing(
    tmp_path: Path, server: GitServer, bare: Path, work: Path
) -> None:
    """One refusal refuses the others, where the client asked for that."""
    tip, old = refs(work)[MAIN], refs(bare)
    pack = pack_of(work, tmp_path / "out", tip)
    server.faults.add(Fault.refuse_ref("refs/heads/b", "no"))
    commands = command(NO_ID, tip, "refs/heads/a", "report-status atomic")
    commands += command(NO_ID, tip, "refs/heads/b")
    _, answer = post(server, "git-receive-pack", commands + FLUSH + pack)
    assert PktLineReader(answer).section() == [
        b"unpack ok",
        b"ng refs/heads/a atomic push failure",
        b"ng refs/heads/b no",
    ]
    assert refs(bare) == old


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ("main", b"ng main funny refname"),
        ("refs/heads/../x", b"ng refs/heads/../x funny refname"),
        ("refs/heads/a.lock", b"ng refs/heads/a.lock funny refname"),
        ("refs/tags/tree", b"ok refs/tags/tree"),
        ("refs/heads/tree", b"ng refs/heads/tree failed to update ref"),
    ],
)
def test_refs_hold_what_git_lets_them_hold(
    tmp_path: Path, server: GitServer, bare: Path, ref: str, reason: bytes
) -> None:
    """Names are checked, and a branch holds a commit."""
    tree = str(pygit2.Repository(str(bare)).head.peel(pygit2.Commit).tree_id)
    body = command(NO_ID, tree, ref) + FLUSH + pack_of(bare, tmp_path / "out", tree)
    _, answer = post(server, "git-receive-pack", body)
    assert PktLineReader(answer).section() == [b"unpack ok", reason]


@pytest.mark.parametrize("missing", ["the commit", "its tree", "a file"])
def test_a_push_that_lacks_objects_is_refused(
    tmp_path: Path, server: GitServer, bare: Path, work: Path, missing: str
) -> None:
    """A ref never points to something that is not whole."""
    before = refs(bare)
    tip = commit_files(work, {"new": "content nobody else has\n"}, message="New")
    repo = pygit2.Repository(str(work))
    tree = repo[tip].peel(pygit2.Tree)
    parts = {"the commit": tip, "its tree": str(tree.id), "a file": str(tree["new"].id)}
    rest = [oid for name, oid in parts.items() if name != missing]
    pack = pack_of(work, tmp_path / "out", *rest)
    _, answer = post(server, "git-receive-pack", command(before[MAIN], tip, MAIN) + FLUSH + pack)
    verdict = f"ng {MAIN} missing necessary objects".encode()
    assert PktLineReader(answer).section() == [b"unpack ok", verdict]
    assert refs(bare) == before


def test_a_damaged_object_is_refused(
    tmp_path: Path, server: GitServer, bare: Path, work: Path
) -> None:
    """A commit that is none does not get in, and the person is told."""
    repo = pygit2.Repository(str(work))
    bad = str(repo.odb.write(pygit2.enums.ObjectType.COMMIT, b"no commit"))
    pack = pack_of(work, tmp_path / "out", bad)
    body = command(NO_ID, bad, "refs/heads/x", "report-status side-band-64k") + FLUSH + pack
    _, answer = post(server, "git-receive-pack", body)
    said, report = PktLineReader(answer).section()
    assert said == b"\x02error: bad commit object"
    assert b"missing necessary objects" in report
    assert set(refs(bare)) == {MAIN}


@pytest.mark.parametrize("stop", [0, 11, 40, -1])
def test_a_pack_that_was_cut_moves_nothing(
    tmp_path: Path, server: GitServer, bare: Path, work: Path, stop: int
) -> None:
    """Every ref of a push whose pack is damaged is refused, deletions too."""
    before = refs(bare)
    tip = commit_files(work, {"new": "1"}, message="New")
    pack = pack_of(work, tmp_path / "out", tip)[:stop]
    commands = command(NO_ID, tip, "refs/heads/x") + command(before[MAIN], NO_ID, MAIN)
    _, answer = post(server, "git-receive-pack", commands + FLUSH + pack)
    unpack, *verdicts = PktLineReader(answer).section()
    assert unpack.startswith(b"unpack ") and unpack != b"unpack ok"  # noqa: PT018  # one claim
    assert verdicts == [f"ng {ref} unpacker error".encode() for ref in ("refs/heads/x", MAIN)]
    assert refs(bare) == before


def test_a_delta_against_nothing_is_refused(server: GitServer, bare: Path) -> None:
    """A thin pack whose base is not here cannot be completed."""
    before = refs(bare)
    delta = b"\x01\x01\x01x"
    pack = b"PACK" + (2).to_bytes(4) + (1).to_bytes(4)
    pack += bytes([7 << 4 | len(delta)]) + b"\xee" * 20 + zlib.compress(delta)
    pack += hashlib.sha1(pack, usedforsecurity=False).digest()
    _, answer = post(
        server, "git-receive-pack", command(NO_ID, "e" * 40, "refs/heads/x") + FLUSH + pack
    )
    assert PktLineReader(answer).section() == [
        b"unpack pack has 1 unresolved deltas",
        b"ng refs/heads/x unpacker error",
    ]
    assert refs(bare) == before
