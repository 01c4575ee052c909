"""Any number of lanes at once: each is whole or cleanly refused, and nothing else is lost.

``AGENTRELAY_CONTENTION_ROUNDS`` multiplies the repetitions.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

import pygit2
import pytest

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    LaneConflictError,
    LeaseLostError,
    WorkstreamError,
    WorkstreamRuntime,
    WorkstreamSpec,
)
from agentrelay.workstream._git.config import drop_upstream, set_upstream
from agentrelay.workstream._git.lockfile import LockFile
from agentrelay.workstream._git.locks import hold
from agentrelay.workstream._git.ref_deletion import delete_refs
from agentrelay.workstream._git.refs import create_ref
from agentrelay.workstream._git.remotes import RemoteAccess, open_remote
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.implementations._lane_record import lane_lock
from agentrelay.workstream.testing import (
    GitServer,
    clone_repository,
    commit_files,
    refs,
)
from fixtures.crowd import LANES, ROUNDS, Crowd, by_processes, by_threads, ref_of

# A fork beside threads is fragile; these tests start none before.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

_FORKS: Final = [
    pytest.mark.child,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked"),
]
_BY: Final = [
    pytest.param(by_threads, id="threads"),
    pytest.param(by_processes, id="processes", marks=_FORKS),
]
Workers = Callable[[list[str], Callable[[str], object]], list[str]]


@pytest.fixture
def crowd(tmp_path: Path) -> Crowd:
    """Return a remote and a clone for many lanes."""
    return Crowd(tmp_path)


# --- distinct lanes -----------------------------------------------------------------------


@pytest.mark.parametrize("workers", _BY)
def test_thirty_two_lanes_made_at_once_are_whole_and_go_without_a_trace(
    crowd: Crowd, workers: Workers
) -> None:
    """Every branch, worktree, upstream and remote branch is there, and then none of them."""
    for _ in range(2 * ROUNDS):
        assert workers(LANES, crowd.prepare) == []
        assert crowd.broken(LANES) == []
        assert crowd.locks(crowd.repo / ".git") == crowd.locks(crowd.bare) == []
        assert workers(LANES, crowd.tear_down) == []
        assert crowd.leftovers() == []


# --- the same lanes -----------------------------------------------------------------------


@pytest.mark.parametrize("workers", _BY)
def test_one_lane_prepared_by_many_is_one_lane(crowd: Crowd, workers: Workers) -> None:
    """Whoever comes later finds the lane of whoever came first, and all of them succeed."""
    for _ in range(ROUNDS):
        assert workers(["shared"] * 8, crowd.prepare) == []
        assert crowd.broken(["shared"]) == []
        assert workers(["shared"] * 8, crowd.tear_down) == []
        assert crowd.leftovers() == []


@pytest.mark.parametrize("workers", _BY)
def test_prepare_against_teardown_ends_whole_or_gone(crowd: Crowd, workers: Workers) -> None:
    """In whatever order they come, each call ends cleanly, and the next makes the lane whole."""
    lanes = [f"lane{number}" for number in range(4)]

    def mix(job: str) -> None:
        name, _, seed = job.partition("/")
        rolls = random.Random(seed)  # noqa: S311 - any order will do
        for _ in range(3):
            if rolls.random() < 0.5:
                crowd.prepare(name)
            elif (crowd.signal_dir(name) / "lane.json").exists():
                # Before the first prepare nothing says that there is a lane to tear down.
                crowd.tear_down(name)

    for _ in range(ROUNDS):
        jobs = [f"{name}/{number}" for number in range(4) for name in lanes]
        assert workers(jobs, mix) == []
        assert workers(lanes, crowd.prepare) == []
        assert crowd.broken(lanes) == []
        assert workers(lanes, crowd.tear_down) == []
        assert crowd.leftovers() == []


# --- one lane, many clones ----------------------------------------------------------------


@pytest.fixture(params=["path", "http"])
def remote_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    """Return how clones reach the remote: ``None`` for its path."""
    if request.param == "path":
        yield None
        return
    with GitServer(tmp_path) as server:
        yield server.repository_url("origin.git")


def test_of_many_clones_exactly_one_gets_the_lane(
    crowd: Crowd, remote_url: str | None, tmp_path: Path
) -> None:
    """The losers are told so, have nothing left, and cannot delete what the winner pushed."""
    clones = [
        clone_repository(crowd.bare, tmp_path / f"clone{number}", url=remote_url)
        for number in range(6)
    ]
    tips = [
        # So that it shows whose commit the branch is at.
        commit_files(clone, {f"{clone.name}.txt": "mine"}, message=clone.name)
        for clone in clones
    ]
    for number in range(2 * ROUNDS):
        name = f"lane{number}"
        lost: dict[str, WorkstreamError] = {}
        runtimes = {str(clone): WorkstreamRuntime(WorkstreamSpec(name)) for clone in clones}

        def prepare(
            clone: str,
            lost: dict[str, WorkstreamError] = lost,
            runtimes: dict[str, WorkstreamRuntime] = runtimes,
        ) -> None:
            try:
                GitWorkstreamPreparer(Path(clone), "nightly").prepare_workstream(runtimes[clone])
            except (LaneConflictError, LeaseLostError) as error:
                lost[clone] = error

        assert by_threads(list(runtimes), prepare) == []
        winners = [clone for clone in clones if str(clone) not in lost]
        assert [clone.name for clone in winners] == [winners[0].name], lost
        tip = refs(crowd.bare)[ref_of(name)]
        assert tip == tips[clones.index(winners[0])]
        for clone in map(Path, lost):
            assert ref_of(name) not in refs(clone)
            assert not (clone / ".worktrees" / "nightly" / name).exists()
            assert not list((clone / ".git" / "worktrees").glob("*"))
            GitWorkstreamTeardown(clone).teardown_workstream(runtimes[str(clone)])
            assert refs(crowd.bare)[ref_of(name)] == tip
        winner = runtimes[str(winners[0])]
        GitWorkstreamTeardown(winners[0]).teardown_workstream(winner)
        assert ref_of(name) not in refs(crowd.bare)


def test_a_remote_that_is_a_path_is_compared_before_it_is_changed(crowd: Crowd) -> None:
    """Who pushes between our look and our push keeps what they pushed."""
    repository = open_repository(crowd.repo)
    end = open_remote(repository, RemoteAccess())
    seen = refs(crowd.bare)["refs/heads/main"]
    theirs = commit_files(crowd.bare, {"theirs": "1"}, message="theirs", branch="theirs")
    ours = commit_files(crowd.repo, {"ours": "1"}, message="ours")

    def they_push() -> None:
        pygit2.Repository(str(crowd.bare)).references.create("refs/heads/x", theirs, force=True)

    with pytest.raises(LeaseLostError, match="was absent"):
        end.push("x", ours, expected=None, announce=they_push)
    assert refs(crowd.bare)["refs/heads/x"] == theirs
    pygit2.Repository(str(crowd.bare)).references.create("refs/heads/x", seen, force=True)
    with pytest.raises(LeaseLostError):
        end.push("x", ours, expected=seen, announce=they_push)
    assert refs(crowd.bare)["refs/heads/x"] == theirs
    with pytest.raises(LeaseLostError):
        end.delete("x", expected=seen)
    assert refs(crowd.bare)["refs/heads/x"] == theirs
    pygit2.Repository(str(crowd.bare)).references.create("refs/heads/x", seen, force=True)
    end.push("x", ours, expected=seen)
    assert refs(crowd.bare)["refs/heads/x"] == ours
    assert not [ref for ref in refs(crowd.bare) if "agentrelay" in ref]
    end.delete("x", expected=ours)
    assert "refs/heads/x" not in refs(crowd.bare)


# --- refs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", _BY)
def test_a_ref_that_many_create_is_created_once(crowd: Crowd, workers: Workers) -> None:
    """Each creator brings a commit of its own, and only the winner's is there afterwards."""
    tips = {
        str(number): commit_files(crowd.repo, {"n": str(number)}, message="x", branch=f"b{number}")
        for number in range(8)
    }
    won = crowd.bare.parent / "won"
    for number in range(10 * ROUNDS):
        won.mkdir()
        ref = f"refs/heads/agentrelay/race/{number}"

        def create(job: str, ref: str = ref) -> None:
            if create_ref(open_repository(crowd.repo), ref, tips[job], message="race"):
                (won / job).touch()

        assert workers(list(tips), create) == []
        (winner,) = won.iterdir()
        assert refs(crowd.repo)[ref] == tips[winner.name]
        winner.unlink()
        won.rmdir()


def test_the_directory_of_entries_may_vanish_at_any_moment(crowd: Crowd) -> None:
    """``git worktree prune`` removes it whenever it is empty; a lane is made all the same."""
    done = threading.Event()

    def prune() -> None:
        while not done.is_set():
            with suppress(OSError):
                (crowd.repo / ".git" / "worktrees").rmdir()

    pruner = threading.Thread(target=prune)
    pruner.start()
    try:
        for _ in range(8 * ROUNDS):
            crowd.prepare("parser")
            assert crowd.broken(["parser"]) == []
            crowd.tear_down("parser")
    finally:
        done.set()
        pruner.join()
    assert crowd.leftovers() == []


def test_what_a_fetch_of_the_users_wrote_for_their_merge_stays(crowd: Crowd) -> None:
    """``git pull`` reads FETCH_HEAD after its own fetch; a lane's fetch must not replace it."""
    path = crowd.repo / ".git" / "FETCH_HEAD"
    path.write_text("the user's")
    crowd.prepare("parser")
    crowd.tear_down("parser")
    assert path.read_text() == "the user's"


# --- killed holders -----------------------------------------------------------------------


def _lane(crowd: Crowd) -> Lane:
    return Lane.of(crowd.repo, "nightly", "parser")


def _holders(crowd: Crowd) -> dict[str, Callable[[], AbstractContextManager[object]]]:
    """Return how each lock is held that a lane waits for."""
    repository = open_repository(crowd.repo)
    remote = open_repository(crowd.bare)
    own, git_dir, lane = repository.own_dir, repository.common_dir, _lane(crowd)
    return {
        "lane": lambda: lane_lock(repository, lane, timeout_s=0.0),
        "repository": repository.metadata_section,
        "configuration queue": lambda: repository.queue_for("config"),
        "packed-refs queue": lambda: repository.queue_for("packed-refs"),
        "config.lock": lambda: LockFile(git_dir / "config", own_dir=own),
        "packed-refs.lock": lambda: LockFile(git_dir / "packed-refs", own_dir=own),
        "branch": lambda: LockFile(git_dir / lane.branch_ref, own_dir=own),
        "tracking ref": lambda: LockFile(
            git_dir / f"refs/remotes/origin/{lane.branch}", own_dir=own
        ),
        "tracking ref of the base": lambda: LockFile(
            git_dir / "refs/remotes/origin/main", own_dir=own
        ),
        "remote branch": lambda: LockFile(
            remote.common_dir / lane.branch_ref, own_dir=remote.own_dir
        ),
        "remote packed-refs.lock": lambda: LockFile(
            remote.common_dir / "packed-refs", own_dir=remote.own_dir
        ),
    }


@pytest.mark.child
@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
@pytest.mark.parametrize("heir", ["alone", "with a child that lives on"])
def test_a_killed_holder_of_any_lock_blocks_nobody(crowd: Crowd, heir: str) -> None:
    """The lane comes and goes, even while a child of the killed process lives on."""
    crowd.prepare("parser")
    crowd.tear_down("parser")
    commit_files(crowd.bare, {"news": "1"}, message="news", branch="main")
    for name in _holders(crowd):
        held, tell = os.pipe()
        end, over = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(over)
            for directory in (
                crowd.repo / ".git" / _lane(crowd).branch_ref,
                crowd.repo / ".git/refs/remotes/origin" / _lane(crowd).branch,
                crowd.bare / _lane(crowd).branch_ref,
            ):
                directory.parent.mkdir(parents=True, exist_ok=True)
            with _holders(crowd)[name]():
                if heir != "alone" and os.fork() == 0:
                    # What an orchestrator's worker does: it lives until its own work is done.
                    os.read(end, 1)
                    os._exit(0)
                os.write(tell, b"x")
                signal.pause()
        os.close(tell)
        os.close(end)
        assert os.read(held, 1) == b"x"
        os.close(held)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        try:
            # Whoever waited for that lock in vain would say so: all of our waits end in errors.
            crowd.prepare("parser")
            assert crowd.broken(["parser"]) == [], name
            crowd.tear_down("parser")
        finally:
            os.close(over)
        assert ref_of("parser") not in {**refs(crowd.repo), **refs(crowd.bare)}
        assert crowd.locks(crowd.repo / ".git") == crowd.locks(crowd.bare) == [], name


@pytest.mark.child
@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_a_child_forked_by_a_holder_neither_holds_nor_gives_back_the_lock(tmp_path: Path) -> None:
    """The child may leave the block it was forked in; the parent holds the lock all the same."""
    path = tmp_path / "lock"

    def is_free() -> bool:
        def look(_: str) -> None:
            with hold(path, what="it", timeout_s=0.0):
                pass

        return not by_processes(["look"], look)

    with hold(path, what="it", timeout_s=0.0):
        child = os.fork()
        if child == 0:
            # Leaves the block below as if it were its own.
            pass
        else:
            os.waitpid(child, 0)
            assert not is_free()
    if child == 0:
        os._exit(0)
    assert is_free()


# --- others' refs -------------------------------------------------------------------------


def test_refs_that_others_make_meanwhile_survive_every_deletion(crowd: Crowd) -> None:
    """Lanes come and go, packed and loose, while somebody makes branches all the time."""
    begun, stop = threading.Event(), threading.Event()
    made: list[str] = []

    def make() -> None:
        repository = open_repository(crowd.repo)
        tip = refs(crowd.repo)["refs/heads/main"]
        # No more than can be deleted again in a moment, however long the lanes take.
        while not stop.is_set() and len(made) < 1000:
            ref = f"refs/heads/theirs/{len(made)}"
            assert create_ref(repository, ref, tip, message="theirs")
            made.append(ref)
            begun.set()

    maker = threading.Thread(target=make)
    maker.start()
    try:
        assert begun.wait(60)
        for _ in range(ROUNDS):
            assert by_threads(LANES[:8], crowd.prepare) == []
            handle = pygit2.Repository(str(crowd.repo))
            handle.compress_references()
            assert by_threads(LANES[:8], crowd.tear_down) == []
    finally:
        stop.set()
        maker.join()
    assert set(made) <= set(refs(crowd.repo))
    tip = refs(crowd.repo)["refs/heads/main"]
    assert set(delete_refs(open_repository(crowd.repo), dict.fromkeys(made, tip)).values()) == {
        True
    }
    assert crowd.leftovers() == []


@pytest.mark.child
@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_a_configuration_that_is_replaced_while_it_is_read_is_read_again(crowd: Crowd) -> None:
    """libgit2 asks for its size first, and then finds a file of another size."""

    def change(job: str) -> None:
        repository = open_repository(crowd.repo)
        for _ in range(25):
            set_upstream(repository, f"agentrelay/nightly/{job}/integration", remote="origin")
            drop_upstream(repository, f"agentrelay/nightly/{job}/integration")

    def read(job: str) -> None:  # noqa: ARG001 - the workers' signature
        for _ in range(150 * ROUNDS):
            open_remote(open_repository(crowd.repo), RemoteAccess())

    jobs = {"a": change, "b": change, "c": read, "d": read}
    assert by_processes(list(jobs), lambda job: jobs[job](job)) == []
    assert crowd.leftovers() == []
