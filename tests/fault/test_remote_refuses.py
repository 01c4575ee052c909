"""A git remote that refuses, lies, hangs or breaks off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from agentrelay.workstream import (
    CredentialsRejectedError,
    PushRejectedError,
    RemoteError,
    RemoteUnavailableError,
    WorkstreamError,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
)
from agentrelay.workstream.testing import Fault, GitServer, World, commit_files, refs
from tests.fault._trouble import impatience, overtime

BRANCH = "agentrelay/nightly/parser/integration"
REF = f"refs/heads/{BRANCH}"


@pytest.fixture
def world() -> Iterator[World]:
    """Return a world of one remote and one GitHub."""
    with World() as made:
        yield made


@pytest.fixture
def repo(world: World) -> Path:
    """Return a clone over smart HTTP."""
    return world.clone()


@pytest.fixture
def lane() -> WorkstreamRuntime:
    """Return a fresh lane."""
    return WorkstreamRuntime(WorkstreamSpec("parser"))


def short_wait_for(name: str) -> AbstractContextManager[None]:
    """Let libgit2 wait for what never comes, and for nothing else, a second only."""
    return impatience(1000) if name == "no answer" else nullcontext()


def assert_resumable(world: World, repo: Path, lane: WorkstreamRuntime) -> None:
    """Assert that the lane failed with its error on record, and that trying again works."""
    assert lane.status.value == "failed"
    assert world.token is not None
    assert world.token not in str(lane)
    world.runner(repo).prepare(lane)
    assert lane.status.value == "active"
    assert lane.state.error is None
    assert refs(world.remote_path)[REF] == refs(repo)[REF] == lane.state.base_commit


FETCHES: dict[str, tuple[Callable[[], Fault], type[WorkstreamError]]] = {
    "server error": (lambda: Fault.status(500, path="info/refs", times=9), RemoteUnavailableError),
    "unavailable": (lambda: Fault.status(503, path="info/refs", times=9), RemoteUnavailableError),
    "not found": (lambda: Fault.status(404, path="info/refs", times=9), RemoteError),
    "a captive portal": (lambda: Fault.html(path="info/refs", times=9), RemoteUnavailableError),
    "no answer": (lambda: Fault.silence(path="info/refs", times=9), RemoteUnavailableError),
    "an answer cut short": (
        lambda: Fault.cut(40, path="info/refs", times=9),
        RemoteUnavailableError,
    ),
}


@pytest.mark.parametrize("name", FETCHES)
def test_a_fetch_that_fails_leaves_nothing_and_can_be_repeated(
    world: World, repo: Path, lane: WorkstreamRuntime, name: str
) -> None:
    """The error is typed and names the remote; no branch, worktree or signal is left."""
    fault, expected = FETCHES[name]
    before = refs(repo)
    world.git.faults.add(fault())
    with pytest.raises(expected) as caught, short_wait_for(name):
        world.runner(repo).prepare(lane)
    assert isinstance(caught.value, RemoteError)
    assert caught.value.url == world.remote_url
    assert caught.value.hint
    assert refs(repo) == before
    assert not (repo / ".worktrees").exists()
    world.git.faults.clear()
    assert_resumable(world, repo, lane)


PUSHES: dict[str, Callable[[], Fault]] = {
    "server error": lambda: Fault.status(500, method="POST", path="receive-pack"),
    "no answer": lambda: Fault.silence(method="POST", path="receive-pack"),
    "an answer lost after the effect": lambda: Fault.drop_answer(
        method="POST", path="receive-pack"
    ),
    "an answer cut short after the effect": lambda: Fault.cut(
        5, method="POST", path="receive-pack"
    ),
    "a captive portal": lambda: Fault.html(method="POST", path="receive-pack"),
}


@pytest.mark.parametrize("name", PUSHES)
def test_a_push_that_fails_leaves_a_lane_the_next_prepare_completes(
    world: World, repo: Path, lane: WorkstreamRuntime, name: str
) -> None:
    """Whether or not the server acted, the second try ends as if nothing had happened."""
    world.git.faults.add(PUSHES[name]())
    with pytest.raises(RemoteError), short_wait_for(name):
        world.runner(repo).prepare(lane)
    world.git.faults.clear()
    assert_resumable(world, repo, lane)


def test_a_refused_ref_is_an_error_in_the_servers_words(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """libgit2 calls it a success; the server's report does not."""
    world.git.faults.add(Fault.refuse_ref(REF, "lanes are closed on Fridays"))
    with pytest.raises(PushRejectedError, match="closed on Fridays") as caught:
        world.runner(repo).prepare(lane)
    assert caught.value.ref == REF
    assert "PushRejectedError" in str(lane.state.error)
    assert REF not in refs(world.remote_path)
    assert_resumable(world, repo, lane)


def test_a_wrong_token_is_offered_once_and_its_source_is_named(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """One refusal is enough; neither message, cause, repr nor pickle shows the token."""
    wrong = "ghp_" + "0123456789" * 3
    with pytest.raises(CredentialsRejectedError) as caught:
        world.preparer(repo, token=wrong).prepare_workstream(lane)
    assert caught.value.source == "the token argument"
    offered = [request for request in world.git.requests if "authorization" in request.headers]
    assert len(offered) == 1
    error: BaseException | None = caught.value
    while error is not None:
        assert wrong not in f"{error!r} {error} {vars(error)}"
        error = error.__cause__ or error.__context__
    assert wrong not in repr(world.preparer(repo, token=wrong))


def test_without_a_token_the_error_says_where_one_was_looked_for(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The reader learns every place a token may be put."""
    with pytest.raises(CredentialsRejectedError) as caught:
        world.preparer(repo, token=None).prepare_workstream(lane)
    assert "GH_ENTERPRISE_TOKEN" in str(caught.value.hint)


def test_no_token_follows_a_redirect_to_another_host(
    world: World, repo: Path, lane: WorkstreamRuntime, tmp_path: Path
) -> None:
    """Another host may ask as it likes: it gets no credential."""
    with GitServer(tmp_path, token="never sent") as other:
        target = f"{other.url}/octo/widgets.git/info/refs?service=git-upload-pack"
        world.git.faults.add(Fault.redirect(target, path="info/refs", times=9))
        with pytest.raises(RemoteError):
            world.runner(repo).prepare(lane)
        assert not any("authorization" in request.headers for request in other.requests)
    assert lane.status is WorkstreamStatus.FAILED


def test_a_server_that_trickles_cannot_outlast_the_deadline(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Each byte resets a socket's time-out; the deadline counts the whole."""
    commit_files(
        world.remote_path,
        {f"file{number}": "x" * 500 + str(number) for number in range(200)},
        message="more than one packet",
        branch="main",
    )
    world.git.faults.add(Fault.dribble(200, 0.001, method="POST", path="upload-pack"))
    with (
        overtime(world.git, "upload-pack$"),
        pytest.raises(RemoteUnavailableError, match="did not finish within 30 s"),
    ):
        world.preparer(repo, network_timeout_s=30).prepare_workstream(lane)


def test_a_lane_somebody_pushed_between_look_and_push_is_not_overwritten(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The branch is created only where it is absent: the loser has nothing left."""
    theirs: list[str] = []

    seen = world.git.handle

    def race(request: object) -> object:
        path = getattr(request, "path", "")
        query = str(getattr(request, "query", ""))
        if "receive-pack" in path + query and not theirs:
            theirs.append(
                commit_files(world.remote_path, {"theirs": "x"}, message="theirs", branch=BRANCH)
            )
        return seen(request)  # type: ignore[arg-type]  # the server's own request, passed on

    world.git.handle = race  # type: ignore[assignment,method-assign]  # the moment between two requests
    with pytest.raises(PushRejectedError, match="stale info"):
        world.runner(repo).prepare(lane)
    assert refs(world.remote_path)[REF] == theirs[0]
    assert REF not in refs(repo)
    assert not (repo / ".worktrees/nightly/parser").exists()
    with pytest.raises(WorkstreamError, match="already has the branch"):
        world.runner(repo).prepare(lane)


def test_a_teardown_beside_a_broken_remote_keeps_what_it_cannot_see(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The local part is done, the remote branch stays, and a repetition finishes."""
    world.runner(repo).prepare(lane)
    world.git.faults.add(Fault.status(500, times=9))
    world.runner(repo).teardown(lane)
    assert any("reach the remote" in concern for concern in lane.artifacts.concerns)
    assert REF in refs(world.remote_path)
    assert REF not in refs(repo)
    world.git.faults.clear()
    world.runner(repo).teardown(lane)
    assert REF not in refs(world.remote_path)
