"""The git server as libgit2 sees it: what it gives, to whom, and what it does not serve."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pygit2
import pytest

from agentrelay.workstream.testing._pktline import FLUSH, PktLineReader, frame
from agentrelay.workstream.testing.git_server import GitServer
from agentrelay.workstream.testing.repositories import (
    RepositoryRecipe,
    clone_repository,
    commit_files,
    create_bare_repository,
    read_tree,
    refs,
)
from tests.integration._git_client import (
    LIST,
    MAIN,
    NO_ID,
    Client,
    command,
    fetch,
    get,
    post,
    push,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
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


# -- fetching


def test_a_clone_holds_what_the_repository_holds(
    tmp_path: Path, server: GitServer, bare: Path
) -> None:
    """Refs, HEAD and files arrive, with ``.git`` in the URL and without."""
    for number, name in enumerate(("owner/project", "owner/project.git")):
        path = tmp_path / f"clone{number}"
        repo = pygit2.clone_repository(server.repository_url(name), str(path))
        assert repo.head.name == MAIN
        assert read_tree(path, "main") == read_tree(bare, "main")


def test_a_fetch_brings_what_is_new_and_no_more(server: GitServer, bare: Path, work: Path) -> None:
    """The pack holds the new commit, its three changed trees and its new file."""
    tip = commit_files(bare, {"src/calculator/multiply.py": "new\n"}, message="New")
    remote = pygit2.Repository(str(work)).remotes["origin"]
    progress = remote.fetch()
    assert progress.received_objects == 5
    assert refs(work)["refs/remotes/origin/main"] == tip
    assert read_tree(work, "origin/main") == read_tree(bare, "main")
    assert server.requests[-1].path == "/owner/project/git-upload-pack"


def test_a_fetch_after_histories_diverged_negotiates(bare: Path, work: Path) -> None:
    """Commits only the client has do not keep it from getting the others."""
    for number in range(30):
        commit_files(work, {"mine": str(number)}, message=f"Mine {number}")
        commit_files(bare, {"theirs": str(number)}, message=f"Theirs {number}")
    tip = refs(bare)[MAIN]
    fetch(work)
    assert refs(work)["refs/remotes/origin/main"] == tip
    assert len(list(pygit2.Repository(str(work)).walk(tip))) == 32


def test_an_empty_repository_can_be_cloned_and_filled(tmp_path: Path, server: GitServer) -> None:
    """The first push of a project works."""
    bare = create_bare_repository(tmp_path / "root" / "empty.git", RepositoryRecipe())
    path = tmp_path / "clone"
    repo = pygit2.clone_repository(server.repository_url(bare), str(path))
    assert repo.is_empty
    repo.set_head(MAIN)
    tip = commit_files(path, {"a": "1"}, message="First")
    assert push(path, MAIN) == {MAIN: None}
    assert refs(bare) == {MAIN: tip}


def test_tags_arrive_with_what_they_name(tmp_path: Path, server: GitServer, bare: Path) -> None:
    """Annotated tags travel as objects of their own, beside the commit."""
    repo = pygit2.Repository(str(bare))
    signature = pygit2.Signature("a", "a@example.invalid", 1_704_067_200, 0)
    commit = repo.head.peel(pygit2.Commit)
    tag = repo.create_tag("v1", commit.id, pygit2.enums.ObjectType.COMMIT, signature, "One")
    repo.create_tag("v1-again", tag, pygit2.enums.ObjectType.TAG, signature, "Of a tag")
    clone = pygit2.clone_repository(server.repository_url(bare), str(tmp_path / "clone"))
    assert clone.lookup_reference("refs/tags/v1").target == tag
    assert clone[tag].peel(pygit2.Commit).id == commit.id
    heads = {head.name: head.oid for head in clone.remotes["origin"].list_heads()}
    assert heads["refs/tags/v1^{}"] == heads["refs/tags/v1-again^{}"] == commit.id


def test_a_shallow_clone_ends_where_asked_and_can_be_deepened(
    tmp_path: Path, server: GitServer, bare: Path
) -> None:
    """Depth counts generations; a deeper fetch brings the ones below."""
    for number in range(4):
        commit_files(bare, {"n": str(number)}, message=str(number))
    repo = pygit2.clone_repository(server.repository_url(bare), str(tmp_path / "clone"), depth=2)
    assert repo.is_shallow
    assert len(list(repo.walk(repo.head.target))) == 2
    fetch(tmp_path / "clone", depth=4)
    repo = pygit2.Repository(str(tmp_path / "clone"))
    assert len(list(repo.walk(repo.head.target))) == 4
    tip = commit_files(bare, {"n": "new"}, message="New")
    fetch(tmp_path / "clone")
    assert len(list(pygit2.Repository(str(tmp_path / "clone")).walk(tip))) == 5


def test_a_shallow_clone_can_push(tmp_path: Path, server: GitServer, bare: Path) -> None:
    """The server knows the history the client lacks."""
    pygit2.clone_repository(server.repository_url(bare), str(tmp_path / "clone"), depth=1)
    tip = commit_files(tmp_path / "clone", {"a": "1"}, message="A")
    assert push(tmp_path / "clone", MAIN) == {MAIN: None}
    assert refs(bare) == {MAIN: tip}


@pytest.mark.parametrize("below", ["a commit below a tip", "a stranger", "a tree"])
def test_only_what_a_ref_leads_to_is_given(server: GitServer, bare: Path, below: str) -> None:
    """Objects no ref leads to stay private, commits below a tip are fair as in git."""
    repo = pygit2.Repository(str(bare))
    tip = repo.head.peel(pygit2.Commit)
    signature = tip.author
    wanted = {
        "a commit below a tip": tip.parent_ids[0],
        "a stranger": repo.create_commit(None, signature, signature, "x", tip.tree_id, []),
        "a tree": tip.tree_id,
    }[below]
    body = frame(f"want {wanted}\n") + FLUSH + frame("done\n")
    status, answer = post(server, "git-upload-pack", body)
    assert status == 200
    expected = b"NAK\n" if below == "a commit below a tip" else f"not our ref {wanted}".encode()
    assert expected in (PktLineReader(answer).line() or b"")


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        ("", ["ACK {0}", "NAK?"]),
        ("multi_ack", ["ACK {0} continue", "ACK {1} continue", "NAK", "ACK {1}"]),
        (
            "multi_ack_detailed",
            ["ACK {0} common", "ACK {1} common", "ACK {1} ready", "NAK", "ACK {1}"],
        ),
    ],
)
def test_each_dialect_of_negotiation_is_spoken(
    server: GitServer, bare: Path, dialect: str, expected: list[str]
) -> None:
    """Common commits are named as the client chose, and unknown ones are passed over."""
    repo = pygit2.Repository(str(bare))
    tip = repo.head.peel(pygit2.Commit)
    ids = (str(tip.parent_ids[0]), str(tip.id))
    haves = b"".join(frame(f"have {oid}\n") for oid in ("f" * 40, *ids))
    body = frame(f"want {tip.id} {dialect}\n") + FLUSH + haves + FLUSH + frame("done\n")
    _, answer = post(server, "git-upload-pack", body)
    reader = PktLineReader(answer)
    lines = [line.format(*ids) for line in expected if not line.endswith("?")]
    assert [(reader.line() or b"").decode().rstrip() for _ in lines] == lines
    assert reader.rest[:4] == b"PACK"


def test_the_list_shows_what_git_would_show(bare: Path, work: Path) -> None:
    """Plain tags are not peeled, broken refs are left out, a detached HEAD names no branch."""
    repo = pygit2.Repository(str(bare))
    commit = repo.head.peel(pygit2.Commit)
    repo.references.create("refs/tags/plain", commit.parent_ids[0])
    repo.references.create("refs/heads/nowhere", "refs/heads/missing")
    (bare / "refs" / "heads" / "lost").write_text(f"{'f' * 40}\n")
    (bare / "refs" / "heads" / "torn").write_text("no id\n")
    author = commit.author
    apart = repo.create_commit(None, author, author, "x", commit.tree_id, [commit.id])
    repo.set_head(apart)
    heads = pygit2.Repository(str(work)).remotes["origin"].list_heads()
    assert {head.name: head.oid for head in heads} == {
        "HEAD": apart,
        MAIN: commit.id,
        "refs/tags/plain": commit.parent_ids[0],
    }
    pygit2.Repository(str(work)).remotes["origin"].fetch(["+HEAD:refs/heads/apart"])
    assert refs(work)["refs/heads/apart"] == str(apart)


def test_a_damaged_repository_says_so_to_its_clients(
    tmp_path: Path, server: GitServer, bare: Path
) -> None:
    """A missing object is the client's error message, not a failure of the server."""
    repo = pygit2.Repository(str(bare))
    oid = str(repo.head.peel(pygit2.Commit).tree_id)
    (bare / "objects" / oid[:2] / oid[2:]).unlink()
    with pytest.raises((pygit2.GitError, KeyError)):
        pygit2.clone_repository(server.repository_url(bare), str(tmp_path / "clone"))
    server.check()


# -- who may


def test_a_token_is_asked_for_once_and_never_kept(tmp_path: Path) -> None:
    """The right token lets git in with any user name, and the log does not have it."""
    bare = create_bare_repository(tmp_path / "root" / "project.git")
    with GitServer(tmp_path / "root", token="s3cr3t") as server:
        path = tmp_path / "work"
        work = clone_repository(bare, path, url=server.repository_url("project"))
        client = Client(("anybody", "s3cr3t"))
        fetch(work, client=client)
        assert client.asked == 1
        tip = commit_files(work, {"a": "1"}, message="A")
        assert push(work, MAIN, client=Client(("x", "s3cr3t"))) == {MAIN: None}
        assert refs(bare) == {MAIN: tip}
        assert [entry.status for entry in server.requests[:2]] == [401, 200]
        written = repr(server) + repr(server.requests)
    assert "s3cr3t" not in written
    assert base64.b64encode(b"x:s3cr3t").decode() not in written


def _basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        (_basic("robot:t0ken"), 200),
        (_basic("other:t0ken"), 401),
        (_basic("robot:wrong"), 401),
        (_basic("robot"), 401),
        ("Basic !!!", 401),
        ("Basic é", 401),
        ("Bearer t0ken", 200),
        ("bearer t0ken", 200),
        ("Bearer wrong", 401),
        ("Digest t0ken", 401),
    ],
)
def test_only_the_token_opens(tmp_path: Path, authorization: str | None, status: int) -> None:
    """Basic with the expected name, or Bearer; everything else is asked for a login."""
    create_bare_repository(tmp_path / "root" / "project.git")
    with GitServer(tmp_path / "root", token="t0ken", username="robot") as server:
        fields = {} if authorization is None else {"authorization": authorization}
        found, headers = get(server, f"/project{LIST}", **fields)
        assert found == status
        assert ("www-authenticate" in headers) is (status == 401)


def test_a_wrong_token_reaches_no_repository(tmp_path: Path) -> None:
    """A push without the token changes nothing, also where the client skips the question."""
    bare = create_bare_repository(tmp_path / "root" / "owner" / "project.git")
    before = refs(bare)
    with GitServer(tmp_path / "root", token="t0ken", deny_delete_current=False) as server:
        body = command(before[MAIN], NO_ID, MAIN) + FLUSH
        status, _ = post(server, "git-receive-pack", body, authorization="Bearer wrong")
        assert status == 401
    assert refs(bare) == before


# -- what is served


def test_nothing_outside_the_root_is_served(tmp_path: Path, server: GitServer, bare: Path) -> None:
    """Dots, encoded dots, absolute paths and symbolic links do not lead out."""
    create_bare_repository(tmp_path / "outside.git")
    root = bare.parent.parent
    (root / "link.git").symlink_to(tmp_path / "outside.git")
    (root / "inside.git").symlink_to(bare)
    assert get(server, f"/inside{LIST}")[0] == 200
    for path in (
        "/../outside",
        "/%2e%2e/outside.git",
        "/owner/../../outside.git",
        "/owner/..%2f..%2foutside.git",
        f"/{tmp_path}/outside.git",
        "/link",
        "/link.git",
        "/owner/./project",
        "/owner%00/project",
        "",
        "/",
        "/.git",
    ):
        assert get(server, f"{path}{LIST}")[0] == 404, path


def test_only_bare_repositories_are_served(tmp_path: Path, server: GitServer, bare: Path) -> None:
    """A checkout, its ``.git`` and a folder that is nothing are not found."""
    root = bare.parent.parent
    clone_repository(bare, root / "checkout")
    (root / "half.git").mkdir()
    (root / "half.git" / "HEAD").write_text("ref: refs/heads/main\n")
    (root / "circle.git").symlink_to("circle.git")
    for path in (
        "/checkout",
        "/checkout/.git",
        "/half",
        "/owner",
        "/nobody/nothing",
        "/circle",
        f"/{'x' * 300}",
    ):
        assert get(server, f"{path}{LIST}")[0] == 404, path
    assert server.repository_url(bare) == f"{server.url}/owner/project.git"
    with pytest.raises(ValueError, match="outside"):
        server.repository_url(tmp_path / "outside")


def test_only_the_smart_protocol_is_spoken(server: GitServer, bare: Path) -> None:
    """Other requests get the status they deserve, and are no failures of the server."""
    assert bare.is_dir()
    assert get(server, "/owner/project/info/refs")[0] == 403
    assert get(server, "/owner/project/info/refs?service=git-shell")[0] == 403
    assert get(server, "/owner/project/HEAD")[0] == 404
    assert get(server, "/owner/project/git-upload-pack")[0] == 405
    form = {"content-type": "text/plain"}
    assert post(server, "git-upload-pack", b"", **form)[0] == 415
    assert post(server, "git-receive-pack", b"nonsense")[0] == 400
    assert post(server, "git-receive-pack", FLUSH) == (200, b"")
    assert post(server, "git-receive-pack", FLUSH, path="/owner/nobody")[0] == 404
    assert post(server, LIST[1:], b"", path="/owner/project")[0] == 405
    assert post(server, "git-upload-pack", FLUSH) == (200, b"")
    assert get(server, f"/owner/project{LIST}")[1]["cache-control"].startswith("no-cache")


def test_the_log_keeps_commands_and_not_packs(server: GitServer, work: Path) -> None:
    """A test can see which refs a push named without wading through its pack."""
    commit_files(work, {"a": "1"}, message="A")
    push(work, MAIN)
    entry = server.requests[-1]
    assert entry.method == "POST"
    assert MAIN.encode() in entry.body
    assert b"PACK" not in entry.body
    assert entry.body.endswith(FLUSH)
