"""Many lanes at once: each with its own result, and the network used once for all."""

from __future__ import annotations

import functools
import resource
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pygit2
import pytest

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    LaneBusyError,
    LaneConflictError,
    LaneNameError,
    LaneResult,
    LeaseLostError,
    PushRejectedError,
    RemoteUnavailableError,
    RepositoryError,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
    prepare_all,
    teardown_all,
)
from agentrelay.workstream._git import locks
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.core import _signals
from agentrelay.workstream.implementations._lane_record import lane_lock
from agentrelay.workstream.testing import (
    Fault,
    World,
    clone_repository,
    commit_files,
    create_bare_repository,
    read_tree,
    refs,
)
from fixtures.crowd import ref_of

NAMES = [f"lane{number}" for number in range(6)]


@pytest.fixture
def world() -> Iterator[World]:
    """Return a world whose remote is reached by smart HTTP."""
    with World() as made:
        yield made


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return a bare repository that is a remote by its path."""
    return create_bare_repository(tmp_path / "origin.git")


@pytest.fixture
def repo(bare: Path, tmp_path: Path) -> Path:
    """Return a clone of it."""
    return clone_repository(bare, tmp_path / "clone")


def lanes(*names: str, **spec: str) -> list[WorkstreamRuntime]:
    """Return fresh runtimes."""
    return [WorkstreamRuntime(WorkstreamSpec(name, **spec)) for name in names or NAMES]


def prepare(
    repo: Path, runtimes: Sequence[WorkstreamRuntime], **settings: Any
) -> dict[str, LaneResult]:
    """Prepare lanes in one batch; return the results by id."""
    results = prepare_all(runtimes, GitWorkstreamPreparer(repo, "nightly", **settings))
    assert [result.runtime for result in results] == list(runtimes)
    return {result.runtime.spec.id: result for result in results}


def tear_down(
    repo: Path, runtimes: Sequence[WorkstreamRuntime], **settings: Any
) -> dict[str, LaneResult]:
    """Tear lanes down in one batch; return the results by id."""
    results = teardown_all(runtimes, GitWorkstreamTeardown(repo, **settings))
    assert [result.runtime for result in results] == list(runtimes)
    return {result.runtime.spec.id: result for result in results}


def assert_whole(repo: Path, remote: Path, *names: str) -> None:
    """Assert that lanes are there as a single prepare makes them."""
    here, there, handle = refs(repo), refs(remote), pygit2.Repository(str(repo))
    for name in names:
        worktree = repo / ".worktrees" / "nightly" / name
        ref, branch = ref_of(name), ref_of(name).removeprefix("refs/heads/")
        assert there[ref] == here[ref] == here[f"refs/remotes/origin/{branch}"]
        assert pygit2.Repository(str(worktree)).status() == {}
        files = {path.name for path in worktree.iterdir()} - {".git"}
        assert files == {path.split("/")[0] for path in read_tree(repo, ref)}
        assert list(handle.config.get_multivar(f"branch.{branch}.remote")) == ["origin"]
        assert list(handle.config.get_multivar(f"branch.{branch}.merge")) == [ref]
        record = _signals.read_record(repo / ".workflow" / "nightly" / "workstreams" / name)
        assert record is not None
        assert record["claim"] == "pushed"


def assert_nothing_left(repo: Path, remote: Path, *names: str) -> None:
    """Assert that nothing of lanes is left but their signals."""
    config = (repo / ".git" / "config").read_text()
    for name in names:
        assert not (repo / ".worktrees" / "nightly" / name).exists()
        assert not [ref for ref in (*refs(repo), *refs(remote)) if f"/{name}/" in ref]
        assert f"/{name}/" not in config
        assert not list((repo / ".git" / "worktrees").glob(f"nightly-{name}-*"))


@pytest.mark.parametrize("by", ["http", "path"])
def test_a_batch_makes_each_lane_as_a_single_prepare_does(world: World, by: str) -> None:
    """ACTIVE, with worktree, branch, upstream and remote branch; and all of it goes again."""
    repo = world.clone(by="http" if by == "http" else "path")
    config = (repo / ".git" / "config").read_bytes()
    runtimes = lanes()
    results = prepare_all(runtimes, world.preparer(repo))
    assert [(result.runtime, result.error) for result in results] == [
        (runtime, None) for runtime in runtimes
    ]
    assert {runtime.status for runtime in runtimes} == {WorkstreamStatus.ACTIVE}
    assert {runtime.state.base_commit for runtime in runtimes} == {refs(repo)["refs/heads/main"]}
    assert_whole(repo, world.remote_path, *NAMES)

    done = teardown_all(runtimes, world.teardown(repo))
    assert [result.error for result in done] == [None] * len(NAMES)
    assert [runtime.artifacts.concerns for runtime in runtimes] == [[]] * len(NAMES)
    assert_nothing_left(repo, world.remote_path, *NAMES)
    assert (repo / ".git" / "config").read_bytes() == config


def test_a_batch_uses_the_network_once_for_all_lanes(world: World) -> None:
    """Over HTTP: one listing for the fetch, one listing and one request for the push."""
    repo, runtimes = world.clone(), lanes()
    world.git.clear()

    def asked() -> list[str]:
        """Return what was asked with a credential, and forget it."""
        found = [
            entry.path.partition("widgets.git/")[2]
            for entry in world.git.requests
            if entry.status == 200
        ]
        world.git.clear()
        return found

    prepare_all(runtimes, world.preparer(repo))
    listing, push = "info/refs?service=git-upload-pack", "info/refs?service=git-receive-pack"
    assert asked() == [listing, push, "git-receive-pack"]
    teardown_all(runtimes, world.teardown(repo))
    assert asked() == [listing, push, "git-receive-pack"]
    assert_nothing_left(repo, world.remote_path, *NAMES)


def test_a_refused_branch_fails_its_lane_alone(world: World) -> None:
    """The error is in the server's words, the others are ACTIVE, and a retry completes it."""
    repo, runtimes = world.clone(), lanes()
    world.git.faults.add(Fault.refuse_ref(ref_of("lane2"), "GH013: not on a Friday"))
    results = prepare_all(runtimes, world.preparer(repo))
    failed = [result for result in results if result.error is not None]
    assert [result.runtime.spec.id for result in failed] == ["lane2"]
    error = failed[0].error
    assert isinstance(error, PushRejectedError)
    assert not isinstance(error, LeaseLostError)
    assert (error.ref, error.reason) == (ref_of("lane2"), "GH013: not on a Friday")
    assert runtimes[2].status is WorkstreamStatus.FAILED
    assert runtimes[2].state.error == f"PushRejectedError: {error}"
    assert_whole(repo, world.remote_path, *(set(NAMES) - {"lane2"}))
    assert ref_of("lane2") not in refs(world.remote_path)

    again = prepare_all(runtimes, world.preparer(repo))
    assert [result.error for result in again] == [None] * len(NAMES)
    assert {runtime.status for runtime in runtimes} == {WorkstreamStatus.ACTIVE}
    assert_whole(repo, world.remote_path, *NAMES)


def test_a_refused_deletion_keeps_its_branch_alone(world: World) -> None:
    """It is a concern of its lane, and the other branches are gone."""
    repo, runtimes = world.clone(), lanes()
    prepare_all(runtimes, world.preparer(repo))
    world.git.faults.add(Fault.refuse_ref(ref_of("lane2"), "deletions are not allowed"))
    results = teardown_all(runtimes, world.teardown(repo))
    assert [result.error for result in results] == [None] * len(NAMES)
    said = {runtime.spec.id: runtime.artifacts.concerns for runtime in runtimes}
    (concern,) = said.pop("lane2")
    assert "could not delete the remote branch" in concern
    assert "deletions are not allowed" in concern
    assert set(map(tuple, said.values())) == {()}
    assert ref_of("lane2") in refs(world.remote_path)
    teardown_all(runtimes, world.teardown(repo))
    assert_nothing_left(repo, world.remote_path, *NAMES)


def between_look_and_push(world: World, act: Callable[[], None]) -> None:
    """Let somebody act on the remote after it was looked at and before the push."""
    handle, waiting = world.git.handle, [act]

    def race(request: Any) -> Any:
        if "receive-pack" in request.target and waiting:
            waiting.pop()()
        return handle(request)

    world.git.handle = race  # type: ignore[method-assign]  # the moment between two requests


def test_a_lost_race_fails_its_lane_alone(world: World) -> None:
    """Their branch stays, nothing of ours is left under that name, and the others stand."""
    repo, runtimes = world.clone(), lanes()
    branch = ref_of("lane3").removeprefix("refs/heads/")

    def theirs() -> None:
        commit_files(world.remote_path, {"theirs.txt": "1"}, message="theirs", branch=branch)

    between_look_and_push(world, theirs)
    results = prepare_all(runtimes, world.preparer(repo))
    failed = {result.runtime.spec.id: result.error for result in results if result.error}
    assert {name: type(error) for name, error in failed.items()} == {"lane3": LeaseLostError}
    assert read_tree(world.remote_path, ref_of("lane3"))["theirs.txt"] == b"1"
    assert ref_of("lane3") not in refs(repo)
    assert not (repo / ".worktrees" / "nightly" / "lane3").exists()
    assert_whole(repo, world.remote_path, *(set(NAMES) - {"lane3"}))


def test_a_lane_that_another_clone_holds_fails_alone(repo: Path, bare: Path) -> None:
    """Its remote branch is theirs and stays; the others are made."""
    other = clone_repository(bare, repo.parent / "other")
    prepare(other, lanes("lane3"))
    results = prepare(repo, lanes())
    failed = {name: type(result.error) for name, result in results.items() if result.error}
    assert failed == {"lane3": LaneConflictError}
    assert ref_of("lane3") not in refs(repo)
    assert_whole(other, bare, "lane3")
    assert_whole(repo, bare, *(set(NAMES) - {"lane3"}))


def test_a_lost_race_at_a_deletion_fails_its_lane_alone(world: World) -> None:
    """What somebody pushed in between stays at the remote, and the other branches go."""
    repo, runtimes = world.clone(), lanes()
    prepare_all(runtimes, world.preparer(repo))
    branch = ref_of("lane3").removeprefix("refs/heads/")

    def theirs() -> None:
        commit_files(world.remote_path, {"t": "1"}, message="t", branch=branch)

    between_look_and_push(world, theirs)
    teardown_all(runtimes, world.teardown(repo))
    assert [bool(runtime.artifacts.concerns) for runtime in runtimes] == [
        name == "lane3" for name in NAMES
    ]
    assert "stale info" in runtimes[3].artifacts.concerns[0]
    assert read_tree(world.remote_path, ref_of("lane3"))["t"] == b"1"
    assert_nothing_left(repo, world.remote_path, *(set(NAMES) - {"lane3"}))


def test_a_remote_that_does_not_answer_fails_every_lane_and_the_next_batch_completes_them(
    world: World,
) -> None:
    """Each lane has an error of its own, and is made by a repetition."""
    repo, runtimes = world.clone(), lanes()
    world.git.faults.add(Fault.status(500, path="service=git-receive-pack", times=9))
    errors = [result.error for result in prepare_all(runtimes, world.preparer(repo))]
    assert {type(error) for error in errors} == {RemoteUnavailableError}
    assert len({id(error) for error in errors}) == len(NAMES)
    assert {runtime.status for runtime in runtimes} == {WorkstreamStatus.FAILED}
    world.git.clear()
    assert [result.error for result in prepare_all(lanes(), world.preparer(repo))] == [None] * 6
    assert_whole(repo, world.remote_path, *NAMES)


def test_a_half_made_lane_among_them_is_completed(repo: Path, bare: Path) -> None:
    """One that a killed prepare left without files, and one whose folder was deleted."""
    prepare(repo, lanes())
    admin = repo / ".git" / "worktrees" / Lane.of(repo, "nightly", "lane1").admin_name
    (admin / "locked").write_text("initializing (agentrelay-workstream)")
    (admin / "index").unlink()
    for path in (repo / ".worktrees" / "nightly" / "lane1").glob("*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(repo / ".worktrees" / "nightly" / "lane2")
    work = repo / ".worktrees" / "nightly" / "lane4"
    tip = commit_files(work, {"work.txt": "kept"}, message="work")
    assert {result.error for result in prepare(repo, lanes()).values()} == {None}
    assert refs(repo)[ref_of("lane4")] == tip
    assert pygit2.Repository(str(repo / ".worktrees" / "nightly" / "lane1")).status() == {}
    assert not (admin / "locked").exists()
    assert_whole(repo, bare, *(set(NAMES) - {"lane4"}))


def test_what_is_in_one_lanes_way_stops_no_other(repo: Path, bare: Path) -> None:
    """Somebody's files stay, their lane fails, and the others are made."""
    obstacle = repo / ".worktrees" / "nightly" / "lane0" / "mine.txt"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("mine")
    tracking = "refs/remotes/origin/agentrelay/nightly/lane5"
    pygit2.Repository(str(repo)).references.create(tracking, refs(repo)["refs/heads/main"])
    results = prepare(repo, lanes())
    failed = {name: result.error for name, result in results.items() if result.error}
    assert {name: type(error) for name, error in failed.items()} == {
        "lane0": LaneConflictError,
        "lane5": LaneConflictError,
    }
    assert obstacle.read_text() == "mine"
    assert_whole(repo, bare, *NAMES[1:5])
    assert not [ref for ref in (*refs(repo), *refs(bare)) if ref in map(ref_of, failed)]


def test_bad_names_and_duplicates_are_refused_before_anything_is_changed(
    repo: Path, bare: Path
) -> None:
    """Each gets its own error, each occurrence of a duplicate one, and the rest is made."""
    runtimes = [
        *lanes("good", "twice", "a/b", "twice", "Fold", "fold"),
        *lanes("self", base_branch="agentrelay/nightly/self/integration"),
        *lanes("gone", base_branch="no-such-branch"),
    ]
    results = prepare_all(runtimes, GitWorkstreamPreparer(repo, "nightly"))
    assert [type(result.error) for result in results] == [
        type(None), LaneConflictError, LaneNameError, LaneConflictError, LaneNameError,
        LaneNameError, LaneNameError, RepositoryError,
    ]  # fmt: skip
    assert "'nightly/twice' is named 2 times" in str(results[1].error)
    assert "'Fold'" in str(results[4].error)
    assert "'fold'" in str(results[4].error)
    assert_whole(repo, bare, "good")
    assert [path.name for path in (repo / ".worktrees" / "nightly").iterdir()] == ["good"]
    assert set(refs(bare)) == {"refs/heads/main", ref_of("good")}
    signals = repo / ".workflow" / "nightly" / "workstreams"
    assert [path.name for path in signals.iterdir()] == ["good"]
    twice = teardown_all([runtimes[0], runtimes[0]], GitWorkstreamTeardown(repo))
    assert {type(result.error) for result in twice} == {LaneConflictError}
    assert_whole(repo, bare, "good")


def test_a_lane_that_is_busy_fails_alone_in_bounded_time(repo: Path, bare: Path) -> None:
    """The others are made; the busy one keeps the status it has."""
    repository = open_repository(repo)
    with lane_lock(repository, Lane.of(repo, "nightly", "lane2"), timeout_s=0):
        results = prepare(repo, lanes(), lane_timeout_s=0.05)
        assert isinstance(results["lane2"].error, LaneBusyError)
        assert not (repo / ".workflow" / "nightly" / "workstreams" / "lane2").exists()
    assert_whole(repo, bare, *(set(NAMES) - {"lane2"}))
    runtimes = lanes()
    prepare(repo, runtimes)
    with lane_lock(repository, Lane.of(repo, "nightly", "lane2"), timeout_s=0):
        results = tear_down(repo, runtimes, lane_timeout_s=0.05)
        assert isinstance(results["lane2"].error, LaneBusyError)
        assert "teardown_failed" in runtimes[2].artifacts.concerns[0]
    assert_whole(repo, bare, "lane2")
    assert_nothing_left(repo, bare, *(set(NAMES) - {"lane2"}))


def test_a_teardown_in_a_batch_keeps_what_exists_nowhere_else(repo: Path, bare: Path) -> None:
    """Unsaved files, commits, and another's push to the lane, each under a rescue ref."""
    runtimes = lanes()
    prepare(repo, runtimes)
    (repo / ".worktrees" / "nightly" / "lane0" / "draft.txt").write_text("unsaved")
    mine = commit_files(repo / ".worktrees" / "nightly" / "lane1", {"c": "1"}, message="mine")
    branch = ref_of("lane2").removeprefix("refs/heads/")
    theirs = commit_files(bare, {"t": "1"}, message="theirs", branch=branch)
    assert {result.error for result in tear_down(repo, runtimes).values()} == {None}
    kept = {ref: tip for ref, tip in refs(repo).items() if "/rescue/" in ref}
    assert {ref.split("/")[4] for ref in kept} == {"lane0", "lane1", "lane2"}
    assert {mine, theirs} < set(kept.values())
    untracked = next(tip for ref, tip in kept.items() if ref.endswith("/untracked"))
    handle = pygit2.Repository(str(repo))
    assert handle[untracked].peel(pygit2.Tree)["draft.txt"].data == b"unsaved"  # type: ignore[union-attr]
    assert [bool(runtime.artifacts.concerns) for runtime in runtimes] == [True] * 3 + [False] * 3
    assert not [ref for ref in (*refs(repo), *refs(bare)) if ref in map(ref_of, NAMES)]


def test_branches_of_open_pull_requests_stay_in_a_batch(world: World) -> None:
    """GitHub is asked for each lane that needs it; the worktrees go all the same."""
    repo, runtimes = world.clone(), lanes("open", "merged", "unused")
    prepare_all(runtimes, world.preparer(repo))
    for name in ("open", "merged"):
        worktree = repo / ".worktrees" / "nightly" / name
        commit_files(worktree, {f"{name}.txt": "1"}, message=name)
    for runtime in runtimes[:2]:
        world.integrator(repo).create_integration_pr(runtime)
    world.github.merge_pull(world.github.pulls()[1].number)
    teardown_all(runtimes, world.teardown(repo))
    assert "is open" in runtimes[0].artifacts.concerns[0]
    assert not (repo / ".worktrees" / "nightly").exists()
    assert ref_of("open") in refs(world.remote_path)
    assert ref_of("open") in refs(repo)
    assert_nothing_left(repo, world.remote_path, "merged", "unused")


def test_a_branch_that_is_checked_out_elsewhere_is_kept_alone(repo: Path, bare: Path) -> None:
    """Its checkout would be left on nothing; the other lanes' branches go."""
    runtimes = lanes()
    prepare(repo, runtimes)
    admin = repo / ".git" / "worktrees" / "by-hand"
    other = repo.parent / "by-hand"
    pygit2.Repository(str(repo)).add_worktree("by-hand", str(other))
    (admin / "HEAD").write_text(f"ref: {ref_of('lane1')}\n")
    tear_down(repo, runtimes)
    assert "is checked out at" in runtimes[1].artifacts.concerns[0]
    assert refs(repo)[ref_of("lane1")] == refs(bare)[ref_of("lane1")]
    assert_nothing_left(repo, bare, *(set(NAMES) - {"lane1"}))


def test_packed_branches_go_in_a_batch_and_the_others_stay(repo: Path, bare: Path) -> None:
    """As after "git gc" on both sides: nothing but the lanes' lines leaves packed-refs."""
    runtimes = lanes()
    prepare(repo, runtimes)
    for path in (repo, bare):
        handle = pygit2.Repository(str(path))
        handle.references.create("refs/heads/bystander", handle.head.target)
        pygit2.Refdb.open(handle).compress()
    tear_down(repo, runtimes)
    assert_nothing_left(repo, bare, *NAMES)
    assert refs(bare)["refs/heads/bystander"] == refs(bare)["refs/heads/main"]
    assert refs(repo)["refs/heads/bystander"] == refs(repo)["refs/heads/main"]
    assert not [*(repo / ".git").glob("*.lock"), *bare.glob("*.lock")]


def test_commits_the_remote_lacks_are_brought_for_all_lanes(repo: Path, bare: Path) -> None:
    """A base that exists only here: its commits arrive at a path remote, and no ref beside."""
    tip = commit_files(repo, {"local.txt": "1"}, message="local", branch="local")
    prepare(repo, lanes(base_branch="local"))
    assert {refs(bare)[ref_of(name)] for name in NAMES} == {tip}
    assert read_tree(bare, ref_of("lane0"))["local.txt"] == b"1"
    assert set(refs(bare)) == {"refs/heads/main", *map(ref_of, NAMES)}


def test_many_lanes_are_taken_in_rounds_where_few_files_may_be_open(repo: Path, bare: Path) -> None:
    """Each lane that is held is an open file; the limit of the process bounds a round."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    names = [f"lane{number}" for number in range(40)]
    used = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 36, hard))
    try:
        runtimes = lanes(*names)
        results = prepare_all(runtimes, GitWorkstreamPreparer(repo, "nightly"), workers=1)
        assert {result.error for result in results} == {None}
        assert_whole(repo, bare, *names)
        done = teardown_all(runtimes, GitWorkstreamTeardown(repo), workers=1)
        assert {result.error for result in done} == {None}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert_nothing_left(repo, bare, *names)


def test_nothing_to_do_is_done_and_bad_settings_are_refused_at_once(repo: Path) -> None:
    """An empty batch opens nothing; a lane that never was is no error; settings are checked."""
    preparer = GitWorkstreamPreparer(repo, "nightly")
    assert prepare_all([], GitWorkstreamPreparer(repo / "nowhere", "nightly")) == []
    assert teardown_all([], GitWorkstreamTeardown(repo / "nowhere")) == []
    (never,) = teardown_all(lanes("never"), GitWorkstreamTeardown(repo))
    assert (never.error, never.runtime.artifacts.concerns) == (None, [])
    for workers in (0, -1, True, 1.5, "2"):
        with pytest.raises(RepositoryError, match="workers"):
            prepare_all(lanes(), preparer, workers=workers)  # type: ignore[arg-type]
    preparer.lane_timeout_s = -1.0
    with pytest.raises(RepositoryError, match="lane_timeout_s"):
        prepare_all(lanes(), preparer)
    assert not (repo / ".worktrees").exists()


def test_without_a_repository_every_lane_fails_with_an_error_of_its_own(tmp_path: Path) -> None:
    """Nothing is raised, and nothing is made."""
    runtimes = lanes()
    results = prepare_all(runtimes, GitWorkstreamPreparer(tmp_path / "nowhere", "nightly"))
    assert {type(result.error) for result in results} == {RepositoryError}
    assert len({id(result.error) for result in results}) == len(NAMES)
    assert {runtime.status for runtime in runtimes} == {WorkstreamStatus.FAILED}
    assert not (tmp_path / "nowhere").exists()


def test_a_batch_that_cannot_fetch_makes_nothing(world: World) -> None:
    """Every lane has an error of its own, no branch or folder is left, and a retry works."""
    repo = world.clone()
    before = refs(repo)
    world.git.faults.add(Fault.status(500, path="service=git-upload-pack", times=9))
    results = prepare_all(lanes(), world.preparer(repo))
    assert {type(result.error) for result in results} == {RemoteUnavailableError}
    assert refs(repo) == before
    assert not (repo / ".worktrees").exists()
    world.git.clear()
    assert {result.error for result in prepare_all(lanes(), world.preparer(repo))} == {None}
    assert_whole(repo, world.remote_path, *NAMES)


def test_a_batch_that_cannot_reach_the_remote_tears_down_what_is_here(world: World) -> None:
    """The remote's branches stay, each lane says why, and a repetition deletes them."""
    repo, runtimes = world.clone(), lanes()
    prepare_all(runtimes, world.preparer(repo))
    world.git.faults.add(Fault.status(500, path="service=git-upload-pack", times=9))
    teardown_all(runtimes, world.teardown(repo))
    for runtime in runtimes:
        (concern,) = runtime.artifacts.concerns
        assert concern.startswith("teardown could not reach the remote")
    assert not (repo / ".worktrees" / "nightly").exists()
    assert set(map(ref_of, NAMES)) < set(refs(world.remote_path))
    world.git.clear()
    handle = pygit2.Repository(str(repo))
    handle.remotes.delete("origin")
    again = [WorkstreamRuntime.load(Path(str(lane.state.signal_dir))) for lane in runtimes]
    teardown_all(again, world.teardown(repo))
    assert {lane.artifacts.concerns[0][:40] for lane in again} == {
        "teardown could not reach the remote: '" + str(repo)[:2]
    }
    handle.remotes.create("origin", world.remote_url)
    last = [WorkstreamRuntime.load(Path(str(lane.state.signal_dir))) for lane in runtimes]
    teardown_all(last, world.teardown(repo))
    assert {tuple(lane.artifacts.concerns) for lane in last} == {()}
    assert_nothing_left(repo, world.remote_path, *NAMES)


def test_a_configuration_that_stays_locked_stops_a_batch_and_not_its_repetition(
    repo: Path, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lanes without an upstream are not handed out; one that cannot lose it stays on record."""
    hurried = functools.partial(locks.Backoff, deadline_s=0.05, longest_s=0.01)
    lock = repo / ".git" / "config.lock"
    lock.write_text("somebody's")
    with monkeypatch.context() as patch:
        patch.setattr(locks, "Backoff", hurried)
        results = prepare(repo, lanes())
    assert {type(result.error) for result in results.values()} == {LaneBusyError}
    lock.unlink()
    runtimes = lanes()
    assert {result.error for result in prepare(repo, runtimes).values()} == {None}
    assert_whole(repo, bare, *NAMES)
    lock.write_text("somebody's")
    with monkeypatch.context() as patch:
        patch.setattr(locks, "Backoff", hurried)
        tear_down(repo, runtimes)
    assert {bool(runtime.artifacts.concerns) for runtime in runtimes} == {True}
    assert "could not delete the local branch" in runtimes[0].artifacts.concerns[0]
    assert lock.read_text() == "somebody's"
    lock.unlink()
    again = [WorkstreamRuntime.load(Path(str(lane.state.signal_dir))) for lane in runtimes]
    tear_down(repo, again)
    assert {tuple(lane.artifacts.concerns) for lane in again} == {()}
    assert_nothing_left(repo, bare, *NAMES)


def test_a_teardown_batch_without_a_repository_leaves_the_signals(
    repo: Path, tmp_path: Path
) -> None:
    """Each lane has an error of its own, which is a concern, too."""
    runtimes = lanes()
    prepare(repo, runtimes)
    results = teardown_all(runtimes, GitWorkstreamTeardown(tmp_path / "nowhere"))
    assert {type(result.error) for result in results} == {RepositoryError}
    assert {len(runtime.artifacts.concerns) for runtime in runtimes} == {1}
    assert {runtime.status for runtime in runtimes} == {WorkstreamStatus.ACTIVE}
