"""Whose lane it is: what another clone or a person holds is never taken or deleted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pygit2
import pytest

from agentrelay.workstream import (
    LaneConflictError,
    PushRejectedError,
    StandardWorkstreamRunner,
    WorkstreamError,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
)
from agentrelay.workstream.testing import Fault, RefUpdate, World, commit_files, refs

BRANCH: Final = "agentrelay/nightly/parser/integration"
REF: Final = f"refs/heads/{BRANCH}"


@dataclass(frozen=True)
class Place:
    """One clone with its own runtime of the lane that all of them want.

    Attributes:
        world: The world it is in.
        repo: The clone.
        lane: Its runtime.
        runner: Its runner.
    """

    world: World
    repo: Path
    lane: WorkstreamRuntime
    runner: StandardWorkstreamRunner

    def prepare(self) -> None:
        """Prepare the lane."""
        self.runner.prepare(self.lane)

    def work(self, name: str = "work.py") -> str:
        """Commit a file in the lane's worktree, and return the commit's id."""
        assert self.lane.state.worktree_path is not None
        return commit_files(self.lane.state.worktree_path, {name: f"{name}\n"}, message=name)

    def integrate(self) -> None:
        """Integrate the lane, which must succeed."""
        self.world.integrator(self.repo).create_integration_pr(self.lane)

    def push(self, name: str = "work.py") -> str:
        """Commit a file in the lane's worktree and push the branch, as an agent does."""
        tip = self.work(name)
        token = self.world.token
        assert token is not None
        callbacks = pygit2.RemoteCallbacks(credentials=pygit2.UserPass("x-access-token", token))
        remote = pygit2.Repository(str(self.repo)).remotes["origin"]
        remote.push([f"{REF}:{REF}"], callbacks=callbacks)
        return tip

    def tear_down(self) -> str:
        """Tear the lane down; return the concerns, one a line."""
        self.world.teardown(self.repo).teardown_workstream(self.lane)
        return "\n".join(self.lane.artifacts.concerns)


def place(world: World, name: str, **settings: Any) -> Place:
    """Make a clone of its own with a fresh runtime."""
    repo = world.clone(name)
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    return Place(world, repo, lane, world.runner(repo, **settings))


def again(here: Place) -> Place:
    """Return the same clone as a new process sees it, knowing the lane's name alone."""
    return Place(here.world, here.repo, WorkstreamRuntime(WorkstreamSpec("parser")), here.runner)


@pytest.fixture
def world() -> Iterator[World]:
    """Return a world of one remote and one GitHub."""
    with World() as made:
        yield made


@pytest.fixture
def a(world: World) -> Place:
    """Return the first clone."""
    return place(world, "a")


@pytest.fixture
def b(world: World) -> Place:
    """Return the second clone."""
    return place(world, "b")


def at_remote(world: World) -> str | None:
    """Return where the lane's branch is at the remote."""
    return refs(world.remote_path).get(REF)


def assert_whole(there: Place) -> None:
    """Assert that a lane stands, on both sides and on disk."""
    assert refs(there.repo)[REF] == at_remote(there.world)
    assert there.lane.status in {WorkstreamStatus.ACTIVE, WorkstreamStatus.PR_CREATED}
    worktree = there.lane.state.worktree_path
    assert worktree is not None
    assert (worktree / "README.md").is_file()


# -- two clones want one lane


@pytest.mark.parametrize("has_work", [False, True], ids=["as cut", "with work"])
def test_a_lane_that_is_found_at_the_remote_stays_its_owners(
    world: World, a: Place, b: Place, *, has_work: bool
) -> None:
    """Prepare refuses and leaves nothing here; teardown does not touch it either."""
    b.prepare()
    if has_work:
        b.push()
    before, here = refs(world.remote_path), refs(a.repo)
    with pytest.raises(LaneConflictError, match="already has the branch") as caught:
        a.prepare()
    assert caught.value.hint
    assert REF not in refs(a.repo)
    assert set(refs(a.repo)) - set(here) <= {f"refs/remotes/origin/{BRANCH}"}
    assert not (a.repo / ".worktrees").exists()
    a.tear_down()
    assert refs(world.remote_path) == before
    assert_whole(b)


def test_a_teardown_that_knows_only_the_name_leaves_anothers_branch(
    world: World, a: Place, b: Place
) -> None:
    """Where nothing of the lane stands and nothing is on record, nothing is deleted."""
    b.prepare()
    tip = b.push()
    a.lane.state.branch_name = BRANCH
    said = a.tear_down()
    assert at_remote(world) == tip
    assert BRANCH in said
    assert "is ours" in said
    b.integrate()
    assert_whole(b)


def test_a_teardown_that_is_repeated_leaves_the_branch_another_clone_made_since(
    world: World, a: Place, b: Place
) -> None:
    """Its own went in the first try, whose other steps failed; the next one is not its own."""
    a.prepare()
    (entry,) = (a.repo / ".git" / "worktrees").iterdir()
    shutil.rmtree(entry)
    assert "is not this lane's worktree" in a.tear_down()
    assert at_remote(world) is None
    b.prepare()
    assert "is ours" in a.tear_down()
    assert_whole(b)


Race = Callable[[World, Callable[[], None]], Place]


def between_look_and_push(world: World, other: Callable[[], None]) -> Place:
    """Return a clone that is overtaken after it looked at the remote, before it pushes."""
    repo = world.root / "clones" / "a"

    def token() -> str:
        # Asked for when the remote wants it: at the look and again at the push.
        if (repo / ".worktrees/nightly/parser/README.md").exists():
            other()
        return str(world.token)

    return place(world, "a", token=token)


def during_the_push(world: World, other: Callable[[], None]) -> Place:
    """Return a clone that is overtaken while the server judges its push."""

    def hook(updates: Sequence[RefUpdate]) -> Mapping[str, str]:
        del updates
        other()
        return {}

    world.git.hooks.append(hook)
    return place(world, "a")


@pytest.mark.parametrize("has_work", [False, True], ids=["as cut", "with work"])
@pytest.mark.parametrize("race", [between_look_and_push, during_the_push])
def test_the_loser_of_a_race_leaves_the_winners_branch(
    world: World, race: Race, *, has_work: bool
) -> None:
    """Both saw no branch; one creates it. The other fails, and stays away ever after."""
    repo = world.clone("b", by="path")
    winner = Place(world, repo, WorkstreamRuntime(WorkstreamSpec("parser")), world.runner(repo))

    def other() -> None:
        if winner.lane.status is WorkstreamStatus.PENDING:
            winner.prepare()
            if has_work:
                pygit2.Repository(str(repo)).remotes["origin"].push([f"{winner.work()}:{REF}"])

    loser = race(world, other)
    with pytest.raises(WorkstreamError):
        loser.prepare()
    tip = at_remote(world)
    assert tip == refs(winner.repo)[REF]
    with pytest.raises(LaneConflictError, match="already has the branch"):
        loser.prepare()
    said = loser.tear_down()
    assert at_remote(world) == tip
    assert "is ours" in said
    again(loser).tear_down()
    assert at_remote(world) == tip
    assert REF not in refs(loser.repo)
    assert not (loser.repo / ".worktrees/nightly/parser").exists()
    assert_whole(winner)
    winner.tear_down()
    assert at_remote(world) is None


def test_the_loser_gets_the_lane_once_the_winner_is_done(world: World, a: Place, b: Place) -> None:
    """A refusal is about the branch that is there, not for ever."""
    b.prepare()
    with pytest.raises(LaneConflictError):
        a.prepare()
    b.tear_down()
    assert at_remote(world) is None
    a.prepare()
    assert_whole(a)
    a.tear_down()
    assert at_remote(world) is None


FAILURES: Final[Mapping[str, Callable[[], Fault]]] = {
    "unavailable": lambda: Fault.status(503, path="receive-pack", times=9),
    "unavailable at the last step": lambda: Fault.status(503, method="POST", path="receive-pack"),
    "refused": lambda: Fault.refuse_ref(REF, "lanes are closed on Fridays"),
}


def fail_to_push(a: Place, name: str) -> None:
    """Prepare a lane whose push fails without effect."""
    a.world.git.faults.add(FAILURES[name]())
    with pytest.raises(WorkstreamError):
        a.prepare()
    a.world.git.faults.clear()
    assert at_remote(a.world) is None


@pytest.mark.parametrize("name", FAILURES)
def test_a_lane_whose_push_failed_is_lost_to_a_clone_that_pushed_it(
    world: World, a: Place, b: Place, name: str
) -> None:
    """The name was free meanwhile, and is the other's now: neither step touches its work."""
    fail_to_push(a, name)
    b.prepare()
    tip = b.push()
    for _ in range(2):
        with pytest.raises(LaneConflictError, match="already has the branch"):
            a.prepare()
        assert at_remote(world) == tip
    said = a.tear_down()
    assert at_remote(world) == tip
    assert BRANCH in said
    assert "is ours" in said
    assert REF not in refs(a.repo)
    assert_whole(b)
    b.integrate()
    assert [pull.state for pull in world.github.pulls()] == ["open"]


@pytest.mark.parametrize("name", FAILURES)
def test_a_lane_whose_push_failed_is_torn_down_beside_anothers(
    world: World, a: Place, b: Place, name: str
) -> None:
    """Without a second try here, teardown tells just as well whose branch it is."""
    fail_to_push(a, name)
    b.prepare()
    tip = b.push()
    assert "is ours" in a.tear_down()
    assert at_remote(world) == tip
    assert_whole(b)


@pytest.mark.parametrize("name", FAILURES)
def test_work_made_after_a_failed_push_is_kept_when_the_lane_is_lost(
    world: World, a: Place, b: Place, name: str
) -> None:
    """What was committed here before the name was lost ends under a rescue ref."""
    fail_to_push(a, name)
    mine = a.work("mine.py")
    b.prepare()
    theirs = b.push("theirs.py")
    with pytest.raises(LaneConflictError):
        a.prepare()
    a.tear_down()
    kept = [ref for ref, commit in refs(a.repo).items() if commit == mine]
    assert [ref.startswith("refs/agentrelay/rescue/") for ref in kept] == [True]
    assert at_remote(world) == theirs


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_push_with_nobody_else_is_completed(world: World, a: Place, name: str) -> None:
    """The same clone tries again and the lane is its own, to the end."""
    fail_to_push(a, name)
    a.prepare()
    assert_whole(a)
    tip = a.push()
    again(a).prepare()
    assert at_remote(world) == tip
    a.tear_down()
    assert at_remote(world) is None
    assert REF not in refs(a.repo)


def test_a_branch_that_starts_where_a_refused_one_did_is_not_taken_for_it(
    world: World, a: Place, b: Place
) -> None:
    """The server said no, so what it has now is another's, at the very same commit."""
    fail_to_push(a, "refused")
    b.prepare()
    assert at_remote(world) == refs(a.repo)[REF]
    with pytest.raises(LaneConflictError, match="already has the branch"):
        a.prepare()
    assert "is ours" in a.tear_down()
    assert_whole(b)


def test_a_lane_once_lost_is_not_taken_back_by_its_starting_commit(
    world: World, a: Place, b: Place
) -> None:
    """The winner starts over where the failed push would have: it still is the winner's."""
    fail_to_push(a, "unavailable")
    cut_at = refs(a.repo)[REF]
    b.prepare()
    b.push()
    with pytest.raises(LaneConflictError):
        a.prepare()
    b.tear_down()
    anew = again(b)
    anew.prepare()
    assert at_remote(world) == cut_at
    with pytest.raises(LaneConflictError, match="already has the branch"):
        a.prepare()
    assert "is ours" in a.tear_down()
    assert_whole(anew)


def test_a_lane_that_was_torn_down_can_become_anothers(world: World, a: Place, b: Place) -> None:
    """Tearing down once more, or preparing, does not reach for what used to be ours."""
    a.prepare()
    a.tear_down()
    b.prepare()
    tip = b.push()
    assert "is ours" in a.tear_down()
    assert at_remote(world) == tip
    with pytest.raises(LaneConflictError, match="already has the branch"):
        again(a).prepare()
    assert at_remote(world) == tip
    assert_whole(b)


def test_a_lane_keeps_its_branch_when_others_push_to_it(world: World, a: Place, b: Place) -> None:
    """Task branches are merged into the lane at the remote: it is still the lane of ``a``."""
    a.prepare()
    theirs = commit_files(world.remote_path, {"task.py": "1"}, message="Task", branch=BRANCH)
    again(a).prepare()
    with pytest.raises(LaneConflictError):
        b.prepare()
    assert at_remote(world) == theirs
    a.tear_down()
    assert at_remote(world) is None
    assert theirs in refs(a.repo).values()


# -- an open pull request keeps the branches


def test_a_pull_request_a_person_opened_keeps_both_branches(world: World, a: Place) -> None:
    """Nobody here remembers it, so GitHub is asked; deleting the branch would close it."""
    a.prepare()
    tip = a.push()
    pull = world.github.open_pull(head=BRANCH, base="main", title="By hand")
    said = a.tear_down()
    assert pull.html_url in said
    assert refs(a.repo)[REF] == at_remote(world) == tip
    assert [found.state for found in world.github.pulls()] == ["open"]
    assert not (a.repo / ".worktrees/nightly/parser").exists()


def test_a_pull_request_into_any_branch_keeps_both_branches(world: World, a: Place) -> None:
    """A person's may go somewhere else than the lane's own."""
    commit_files(world.remote_path, {"release.txt": "1"}, message="Release", branch="release")
    a.prepare()
    tip = a.push()
    world.github.open_pull(head=BRANCH, base="release", title="Backport")
    a.tear_down()
    assert refs(a.repo)[REF] == at_remote(world) == tip
    assert [found.state for found in world.github.pulls()] == ["open"]


def test_a_pull_request_nobody_wrote_down_keeps_both_branches(world: World, a: Place) -> None:
    """A crash right after it was opened: its address is nowhere on this side."""
    a.prepare()
    tip = a.work()
    a.integrate()
    assert a.lane.state.signal_dir is not None
    (a.lane.state.signal_dir / "pr_created").unlink()
    a.lane.artifacts.merge_pr_url = None
    a.tear_down()
    assert refs(a.repo)[REF] == at_remote(world) == tip
    assert [pull.state for pull in world.github.pulls()] == ["open"]


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_the_branches_of_a_merged_pull_request_go(world: World, a: Place, method: Any) -> None:
    """Nothing is left, kept or said; of its own GitHub is asked only where commits changed."""
    a.prepare()
    a.work("one.py")
    a.work("two.py")
    a.integrate()
    world.github.merge_pull(1, method=method)
    world.github.clear()
    assert a.tear_down() == ""
    asked = [request.path for request in world.github.requests]
    assert ["head=" in path for path in asked] == [True] * (method != "merge") + [False]
    assert "base=" in asked[-1]
    assert at_remote(world) is None
    assert [ref for ref in refs(a.repo) if "agentrelay" in ref] == []


def test_an_open_pull_request_keeps_its_branches_though_the_target_has_its_content(
    world: World, a: Place
) -> None:
    """Somebody committed the same change to the target: the pull request is open all the same."""
    a.prepare()
    tip = a.work()
    a.integrate()
    commit_files(world.remote_path, {"work.py": "work.py\n"}, message="Same", branch="main")
    assert "is open" in a.tear_down()
    assert refs(a.repo)[REF] == at_remote(world) == tip
    assert [pull.state for pull in world.github.pulls()] == ["open"]


def test_the_branches_of_a_closed_pull_request_go_and_the_work_is_kept(
    world: World, a: Place
) -> None:
    """It is not open any more, and not merged: the commits end under a rescue ref."""
    a.prepare()
    tip = a.work()
    a.integrate()
    world.github.close_pull(1)
    assert "refs/agentrelay/rescue/" in a.tear_down()
    assert at_remote(world) is None
    assert [ref.split("/")[2] for ref, commit in refs(a.repo).items() if commit == tip] == [
        "rescue"
    ]


def test_a_merged_lane_goes_while_github_is_away(world: World, a: Place) -> None:
    """With all of its work in the target no answer is needed: what goes into it GitHub moves."""
    a.prepare()
    a.work()
    a.integrate()
    world.github.merge_pull(1)
    a.integrate()
    assert a.lane.status is WorkstreamStatus.MERGED
    world.github.clear()
    world.github.faults.add(Fault.status(503, times=99))
    a.tear_down()
    assert len(world.github.requests) == 1
    assert at_remote(world) is None
    assert REF not in refs(a.repo)
    assert a.lane.status is WorkstreamStatus.MERGED


AWAY: Final[Mapping[str, Callable[[], Fault]]] = {
    "unavailable": lambda: Fault.status(503, times=99),
    "connection closed": lambda: Fault.drop_answer(times=99),
    "captive portal": lambda: Fault.html(times=99),
    "token refused": lambda: Fault.status(401, times=99),
    "rate limit": lambda: Fault.rate_limit(times=99),
}


@pytest.mark.parametrize("name", AWAY)
def test_the_branches_stay_while_github_cannot_be_asked(world: World, a: Place, name: str) -> None:
    """The worktree goes; no answer counts as an open one, and a concern says so."""
    a.prepare()
    tip = a.work()
    a.integrate()
    world.github.faults.add(AWAY[name]())
    said = a.tear_down()
    assert "were kept" in said
    assert refs(a.repo)[REF] == at_remote(world) == tip
    assert not (a.repo / ".worktrees/nightly/parser").exists()
    world.github.faults.clear()
    a.tear_down()
    assert at_remote(world) == tip
    world.github.close_pull(1)
    a.tear_down()
    assert at_remote(world) is None
    assert REF not in refs(a.repo)
    assert tip in refs(a.repo).values()


def test_the_branches_stay_when_nobody_remembers_and_github_cannot_be_asked(
    world: World, a: Place
) -> None:
    """The settings say that it is a GitHub: a person may have a pull request there."""
    a.prepare()
    tip = a.push()
    world.github.faults.add(Fault.status(503, times=99))
    assert "were kept" in a.tear_down()
    assert refs(a.repo)[REF] == at_remote(world) == tip
    world.github.faults.clear()
    a.tear_down()
    assert at_remote(world) is None
    assert tip in refs(a.repo).values()


def test_a_remembered_pull_request_whose_github_is_not_named_keeps_the_branches(
    world: World,
) -> None:
    """The teardown was given a path and no settings: it knows of it and cannot ask."""
    repo = world.clone("a", by="path")
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    here = Place(world, repo, lane, world.runner(repo))
    here.prepare()
    tip = here.work()
    here.integrate()
    world.teardown(repo, api_url=None, full_name=None).teardown_workstream(lane)
    assert refs(repo)[REF] == at_remote(world) == tip
    assert any(str(lane.artifacts.merge_pr_url) in text for text in lane.artifacts.concerns)


def test_a_lane_prepared_again_remembers_its_pull_request(world: World, a: Place) -> None:
    """A fresh runtime that adopts the lane knows the URL, and the status that goes with it."""
    a.prepare()
    tip = a.work()
    a.integrate()
    (pull,) = world.github.pulls()
    fresh = again(a)
    fresh.prepare()
    assert fresh.lane.artifacts.merge_pr_url == pull.html_url
    assert fresh.lane.status is WorkstreamStatus.PR_CREATED
    world.github.faults.add(Fault.status(503, times=99))
    assert "were kept" in fresh.tear_down()
    assert refs(a.repo)[REF] == at_remote(world) == tip


def test_a_lane_made_anew_does_not_remember_an_earlier_pull_request(world: World, a: Place) -> None:
    """The name is used again after a whole life: its new lane has no pull request yet."""
    a.prepare()
    a.work()
    a.integrate()
    world.github.merge_pull(1)
    a.tear_down()
    fresh = again(a)
    fresh.prepare()
    assert fresh.lane.artifacts.merge_pr_url is None
    assert fresh.lane.status is WorkstreamStatus.ACTIVE
    fresh.work("more.py")
    fresh.integrate()
    assert [pull.merged for pull in world.github.pulls()] == [True, False]


def test_a_refused_deletion_is_a_concern_and_can_be_repeated(world: World, a: Place) -> None:
    """The remote branch stays the lane's until it is gone."""
    a.prepare()
    world.git.faults.add(Fault.refuse_ref(REF, "branches are kept"))
    assert "branches are kept" in a.tear_down()
    assert at_remote(world) is not None
    assert REF not in refs(a.repo)
    a.tear_down()
    assert at_remote(world) is None


def test_a_push_that_a_rule_refused_is_no_lost_race(world: World, a: Place) -> None:
    """The lane stays here for the next try; only another's branch makes it lost."""
    world.git.faults.add(Fault.refuse_ref(REF, "GH013: rule violations"))
    with pytest.raises(PushRejectedError, match="GH013"):
        a.prepare()
    assert REF in refs(a.repo)
    assert a.lane.status is WorkstreamStatus.FAILED
