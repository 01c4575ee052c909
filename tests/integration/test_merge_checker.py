"""Was it merged? Each way to merge, many lanes at once, and every way not to know."""

from __future__ import annotations

import asyncio
import json
import pickle
import urllib.request
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pygit2
import pytest

from agentrelay.workstream import (
    GhIntegrationMergeChecker,
    MergeCheck,
    MergeEvent,
    MergeVerdict,
    RepositoryError,
    RetryPolicy,
    StandardWorkstreamRunner,
    WorkstreamError,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
    record_merge,
)
from agentrelay.workstream.testing import Fault, World, commit_files, create_bare_repository, refs
from tests.integration._clock import StillClock


@pytest.fixture
def world() -> Iterator[World]:
    """Return a world of one remote and one GitHub."""
    with World() as made:
        yield made


@pytest.fixture
def repo(world: World) -> Path:
    """Return a clone over smart HTTP."""
    return world.clone()


def submit(
    world: World, repo: Path, name: str = "parser", *, commits: int = 2
) -> WorkstreamRuntime:
    """Return a lane with commits of its own and an open pull request."""
    lane = WorkstreamRuntime(WorkstreamSpec(name))
    runner = world.runner(repo)
    runner.prepare(lane)
    work(lane, commits=commits)
    assert runner.integrate(lane).status is WorkstreamStatus.PR_CREATED
    return lane


def work(lane: WorkstreamRuntime, *, commits: int = 1, prefix: str = "") -> str:
    """Commit to a lane; return the last commit."""
    assert lane.state.worktree_path is not None
    last = ""
    for number in range(commits):
        name = f"{prefix}{lane.spec.id}{number}.txt"
        last = commit_files(lane.state.worktree_path, {name: "x\n"}, message=f"Add {name}")
    return last


def main_of(world: World) -> str:
    """Return the commit the target is at."""
    return refs(world.remote_path)["refs/heads/main"]


def asked(world: World, since: int = 0) -> list[str]:
    """Return method, path and status of all requests to the API, without the repository."""
    before = "/api/v3/repos/octo/widgets"
    return [
        f"{request.method} {request.path.partition('?')[0].removeprefix(before)} {request.status}"
        for request in world.github.requests[since:]
    ]


# --- one lane -----------------------------------------------------------------------------


@pytest.mark.parametrize("commits", [1, 3])
@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_each_way_to_merge_is_told_with_the_commits_around_it(
    world: World, repo: Path, method: Any, commits: int
) -> None:
    """The target before and after, told from the commits that the merge has left."""
    lane = submit(world, repo, commits=commits)
    head = refs(repo)["refs/heads/agentrelay/nightly/parser/integration"]
    commit_files(world.remote_path, {"other.txt": "x\n"}, message="Other", branch="main")
    before = main_of(world)
    url = world.github.merge_pull(1, method=method).html_url
    assert world.merge_checker(repo).check_merged(lane) == MergeCheck(
        MergeVerdict.MERGED,
        url=url,
        method=method,
        head=head,
        target_before=before,
        merge_commit=main_of(world),
    )


def test_the_commits_of_the_lane_need_not_be_here(world: World, repo: Path) -> None:
    """Another clone, whose lane it never was, gets the same answer."""
    other = world.clone("other")
    lane = submit(world, repo)
    before = main_of(world)
    world.github.merge_pull(1, method="rebase")
    check = world.merge_checker(other).check_merged(lane)
    assert (check.verdict, check.method, check.target_before) == (
        MergeVerdict.MERGED,
        "rebase",
        before,
    )


def test_what_a_push_merged_is_merged_by_no_method(world: World, repo: Path) -> None:
    """A fast-forward leaves nothing to tell a method from."""
    lane = submit(world, repo)
    tip = refs(repo)["refs/heads/agentrelay/nightly/parser/integration"]
    remote = pygit2.Repository(str(world.remote_path))
    remote.references["refs/heads/main"].set_target(tip)
    check = world.merge_checker(repo).check_merged(lane)
    assert (check.verdict, check.method, check.target_before) == (MergeVerdict.MERGED, None, None)


def test_open_and_closed_are_told_apart(world: World, repo: Path) -> None:
    """Open is waiting; closed is a decision; and opened again it is open again."""
    lane = submit(world, repo)
    checker = world.merge_checker(repo)
    verdicts = [checker.check_merged(lane).verdict]
    url = world.github.close_pull(1).html_url
    closed = checker.check_merged(lane)
    world.github.open_pull(head=str(lane.state.branch_name), base="main", title="Again")
    verdicts += [closed.verdict, checker.check_merged(lane).verdict]
    assert verdicts == [MergeVerdict.OPEN, MergeVerdict.CLOSED, MergeVerdict.OPEN]
    assert closed.url == url


def test_work_after_the_merge_is_not_merged(world: World, repo: Path) -> None:
    """A merged pull request is not the merge of commits that came later."""
    lane = submit(world, repo)
    world.github.merge_pull(1, method="squash")
    work(lane, prefix="later")
    check = world.merge_checker(repo).check_merged(lane)
    assert check.verdict is MergeVerdict.CANNOT_TELL
    assert "holds work besides" in str(check.reason)


def test_what_somebody_added_at_github_belongs_to_the_merge(world: World, repo: Path) -> None:
    """A commit that was pushed to the lane's branch and never fetched is no doubt about it."""
    lane = submit(world, repo)
    commit_files(
        world.remote_path,
        {"review.txt": "x\n"},
        message="Suggested",
        branch=str(lane.state.branch_name),
    )
    world.github.merge_pull(1)
    check = world.merge_checker(repo).check_merged(lane)
    assert (check.verdict, check.method) == (MergeVerdict.MERGED, "merge")


@pytest.mark.parametrize("commits", [0, 1])
@pytest.mark.parametrize("end", ["merged", "pushed", "closed"])
def test_an_earlier_lanes_pull_request_says_nothing_about_a_new_lane(
    world: World, repo: Path, end: str, commits: int
) -> None:
    """A new lane of an old name, at its base or further, is neither merged nor closed."""
    commit_files(world.remote_path, {"d.txt": "x\n"}, message="D", branch="develop")
    spec = WorkstreamSpec("parser", base_branch="main" if end == "pushed" else "develop")
    runner = world.runner(repo)
    first = WorkstreamRuntime(spec)
    runner.prepare(first)
    tip = work(first)
    runner.integrate(first)
    if end == "merged":
        world.github.merge_pull(1)
        assert runner.check(first).verdict is MergeVerdict.MERGED
    elif end == "pushed":
        pygit2.Repository(str(world.remote_path)).references["refs/heads/main"].set_target(tip)
    else:
        world.github.close_pull(1)
    runner.teardown(first)
    again = WorkstreamRuntime(spec)
    runner.prepare(again)
    work(again, commits=commits, prefix="again")
    for check in (runner.check(again), world.merge_checker(repo).check_all([again, again])[0]):
        assert check.verdict is MergeVerdict.CANNOT_TELL
        assert "may be of an earlier one" in str(check.reason)
    assert again.status is WorkstreamStatus.ACTIVE


def test_a_pull_request_into_another_branch_is_not_the_lanes(world: World, repo: Path) -> None:
    """The target is the spec's: merged elsewhere is not merged there."""
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    world.runner(repo).prepare(lane)
    work(lane)
    commit_files(world.remote_path, {"next.txt": "x\n"}, message="Next", branch="next")
    world.runner(repo).integrate(lane)
    world.github.close_pull(1)
    world.github.open_pull(head=str(lane.state.branch_name), base="next", title="Elsewhere")
    world.github.merge_pull(2)
    assert world.merge_checker(repo).check_merged(lane).verdict is MergeVerdict.CLOSED


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(401, message="Bad credentials", times=99),
        Fault.status(403, message="Resource not accessible", times=99),
        Fault.status(404, times=99),
        Fault.status(500, times=99),
        Fault.rate_limit(times=99),
        Fault.rate_limit(secondary=True, code=429, retry_after_s=3600, times=99),
        Fault.drop_answer(times=99),
        Fault.html(times=99),
        Fault.status(200, body="[{}]", times=99),
        Fault.status(200, body="{}", times=99),
        Fault.status(204, body="", times=99),
    ],
    ids=lambda fault: f"{fault.kind.value} {fault.code} {fault.body[:4]!r}",
)
def test_whatever_keeps_the_answer_away_is_never_not_merged(
    world: World, repo: Path, fault: Fault
) -> None:
    """It cannot be told, and the reason says why; the lane stays as it was."""
    lane = submit(world, repo)
    world.github.merge_pull(1)
    world.github.faults.add(fault)
    check = world.runner(repo).check(lane)
    assert check.verdict is MergeVerdict.CANNOT_TELL
    assert check.reason
    assert str(world.token) not in check.reason
    assert lane.status is WorkstreamStatus.PR_CREATED
    world.github.faults.clear()
    assert world.runner(repo).check(lane).verdict is MergeVerdict.MERGED


def test_how_it_was_merged_is_not_worth_the_verdict(world: World, repo: Path) -> None:
    """Without the commits it is merged all the same, by a way that cannot be told."""
    lane = submit(world, repo)
    world.github.merge_pull(1)
    world.github.faults.add(Fault.status(403, path="/commits", times=99))
    check = world.merge_checker(repo).check_merged(lane)
    assert (check.verdict, check.method, check.target_before) == (MergeVerdict.MERGED, None, None)
    assert check.merge_commit == main_of(world)


def test_a_lane_that_was_never_prepared_cannot_be_told(world: World, repo: Path) -> None:
    """Nothing is asked about it, and the others of the round are answered."""
    lane = submit(world, repo)
    never = WorkstreamRuntime(WorkstreamSpec("never"))
    found = world.merge_checker(repo).check_all([never, lane])
    assert [check.verdict for check in found] == [MergeVerdict.CANNOT_TELL, MergeVerdict.OPEN]
    assert "no integration branch" in str(found[0].reason)


def test_a_remote_that_is_no_github_is_an_error(tmp_path: Path, world: World, repo: Path) -> None:
    """What is set wrongly is said so, and not answered."""
    lane = submit(world, repo)
    checker = GhIntegrationMergeChecker(create_bare_repository(tmp_path / "lonely.git"))
    with pytest.raises(RepositoryError):
        checker.check_merged(lane)


def test_a_renamed_repository_is_followed_once(world: World, repo: Path) -> None:
    """Its new name is remembered: the second look asks for it at once."""
    lane = submit(world, repo)
    world.github.rename_repository("octo/widgets", "octo/gadgets")
    checker = world.merge_checker(repo)
    assert checker.check_merged(lane).verdict is MergeVerdict.OPEN
    since = len(world.github.requests)
    assert checker.check_merged(lane).verdict is MergeVerdict.OPEN
    assert [request.status for request in world.github.requests[since:]] == [304]


def test_each_look_at_a_renamed_repository_says_what_to_change(world: World, repo: Path) -> None:
    """Also the look that knows the name already, and beside another reason."""
    lane = submit(world, repo)
    checker = world.merge_checker(repo)
    assert checker.check_merged(lane).reason is None
    world.github.rename_repository("octo/widgets", "octo/gadgets")
    said = (
        "octo/widgets is now called octo/gadgets: change the remote's URL, "
        "or pass full_name='octo/gadgets'"
    )
    assert [checker.check_merged(lane).reason for _ in range(2)] == [said, said]
    world.github.merge_pull(1)
    check = checker.check_merged(lane)
    assert (check.verdict, check.reason) == (MergeVerdict.MERGED, said)
    work(lane)
    check = checker.check_merged(lane)
    assert check.verdict is MergeVerdict.CANNOT_TELL
    assert check.reason is not None
    assert check.reason.endswith(f"holds work besides; {said}")
    world.github.rename_repository("octo/gadgets", "octo/things")
    assert "octo/widgets is now called octo/things" in str(checker.check_merged(lane).reason)


@pytest.mark.parametrize(
    "body",
    [
        "[{}]",
        '[{"sha": "x", "parents": [], "commit": {"author": {"email": "e", "date": "now"}}}]',
        '[{"sha": [], "parents": [], "commit": {"author": {"email": "e", "date": "now"}}}]',
        '[{"sha": "%s", "parents": [{"sha": "main"}], "commit": {"message": "m", "author":'
        ' {"email": "e", "date": "2024-01-01T00:00:00Z"}}}]' % ("a" * 40),
    ],
)
def test_commits_that_are_none_leave_the_verdict_alone(world: World, repo: Path, body: str) -> None:
    """Nonsense about the commits is not nonsense about the merge."""
    lane = submit(world, repo)
    world.github.merge_pull(1)
    world.github.faults.add(Fault.status(200, body=body, path="/commits", times=99))
    check = world.merge_checker(repo).check_merged(lane)
    assert (check.verdict, check.method) == (MergeVerdict.MERGED, None)


def test_a_comparison_that_says_nothing_decides_nothing(world: World, repo: Path) -> None:
    """Whether the merge holds all of the lane cannot be told then."""
    lane = submit(world, repo)
    branch = str(lane.state.branch_name)
    commit_files(world.remote_path, {"review.txt": "x\n"}, message="More", branch=branch)
    world.github.merge_pull(1)
    checker = world.merge_checker(repo, policy=StillClock().policy())
    for fault in (
        Fault.status(200, body="{}", path="/compare/", times=4),
        Fault.status(200, body='{"status": []}', path="/compare/", times=4),
        Fault.status(403, message="Resource not accessible", path="/compare/"),
    ):
        world.github.faults.add(fault)
        check = checker.check_merged(lane)
        assert check.verdict is MergeVerdict.CANNOT_TELL
        world.github.faults.clear()
    # GitHub has never seen the lane's commit: then it was not merged either.
    work(lane, prefix="later")
    check = checker.check_merged(lane)
    assert (check.verdict, "holds work besides" in str(check.reason)) == (
        MergeVerdict.CANNOT_TELL,
        True,
    )


def test_a_pull_request_for_another_target_only_is_named(world: World, repo: Path) -> None:
    """The reason says where it goes instead."""
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    world.runner(repo).prepare(lane)
    work(lane)
    commit_files(world.remote_path, {"next.txt": "x\n"}, message="Next", branch="next")
    other = WorkstreamRuntime(
        WorkstreamSpec("parser", merge_target_branch="next"), lane.state, lane.artifacts
    )
    world.runner(repo).integrate(other)
    checker, reasons = world.merge_checker(repo), []
    for end in (lambda: None, lambda: world.github.merge_pull(1)):
        end()
        check = checker.check_merged(lane)
        assert check.verdict is MergeVerdict.CANNOT_TELL
        reasons.append(str(check.reason).removeprefix(str(check.url)))
    assert reasons == [
        " is open, but into 'next' instead of 'main'",
        " is merged, but into 'next' instead of 'main'",
    ]


def test_a_pull_request_of_ours_that_makes_no_sense_is_not_left_out(
    world: World, repo: Path
) -> None:
    """It might be the open one."""
    lane = submit(world, repo)
    item = (
        '[{"number": 1, "head": {"ref": "agentrelay/nightly/parser/integration", "repo":'
        ' {"full_name": "octo/widgets"}}, "base": {"ref": "main"}}]'
    )
    world.github.faults.add(Fault.status(200, body=item, path="/pulls", times=99))
    assert world.merge_checker(repo).check_merged(lane).verdict is MergeVerdict.CANNOT_TELL


def test_a_branch_with_more_pull_requests_than_a_page_is_read_to_the_end(
    world: World, repo: Path
) -> None:
    """The open one may be on any page."""
    lane = submit(world, repo)
    branch = str(lane.state.branch_name)
    for number in range(1, 103):
        world.github.close_pull(number)
        world.github.open_pull(head=branch, base="main", title="Again")
    assert world.merge_checker(repo).check_merged(lane).verdict is MergeVerdict.OPEN


def test_a_fork_of_the_same_owner_is_looked_through(world: World, repo: Path) -> None:
    """GitHub's filter may forget it; nothing is said for certain without a look."""
    lane = submit(world, repo)
    checker = world.merge_checker(repo, head_full_name="octo/widgets-fork")
    check = checker.check_merged(lane)
    assert (check.verdict, "has no pull request" in str(check.reason)) == (
        MergeVerdict.CANNOT_TELL,
        True,
    )


def test_a_squash_of_commits_nobody_shows_is_merged_by_an_untold_method(
    world: World, repo: Path
) -> None:
    """Another clone, and a GitHub that does not list the pull request's commits."""
    other = world.clone("other")
    lane = submit(world, repo)
    world.github.merge_pull(1, method="squash")
    world.github.faults.add(Fault.status(403, path="/pulls/1/commits", times=99))
    check = world.merge_checker(other).check_merged(lane)
    assert (check.verdict, check.method) == (MergeVerdict.MERGED, None)


def test_how_many_squashes_were_merged_is_learnt_three_at_a_look(world: World, repo: Path) -> None:
    """The commits are not in the other clone; that they were merged is known at once."""
    other, lanes = merged_elsewhere(world, repo, 5)
    checker = world.merge_checker(other)
    for known in (3, 5):
        checks = checker.check_all(lanes)
        assert {check.verdict for check in checks} == {MergeVerdict.MERGED}
        assert [check.method for check in checks].count("squash") == known
        assert [check.target_before for check in checks].count(None) == 5 - known


def test_a_history_with_a_hole_proves_nothing(world: World, repo: Path) -> None:
    """The clone lost a commit of the lane: GitHub's list of them counts instead."""
    lane = submit(world, repo, commits=3)
    world.github.merge_pull(1, method="rebase")
    middle = pygit2.Repository(str(repo)).revparse_single(f"{lane.state.branch_name}~1").id
    (repo / ".git" / "objects" / str(middle)[:2] / str(middle)[2:]).unlink()
    check = world.merge_checker(repo).check_merged(lane)
    assert (check.verdict, check.method) == (MergeVerdict.MERGED, "rebase")


# --- many lanes ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 10, 100])
def test_many_lanes_cost_what_one_does(world: World, repo: Path, count: int) -> None:
    """One request for the pull requests, one for the commits; unchanged, nothing of the quota."""
    lanes = []
    for number in range(count):
        lane = WorkstreamRuntime(WorkstreamSpec(f"lane{number}"))
        lane.state.branch_name = f"agentrelay/nightly/lane{number}/integration"
        name = str(lane.state.branch_name)
        commit_files(world.remote_path, {f"{number}.txt": "x\n"}, message=name, branch=name)
        world.github.open_pull(head=name, base="main", title=name)
        lanes.append(lane)
    checker = world.merge_checker(repo)
    assert {check.verdict for check in checker.check_all(lanes)} == {MergeVerdict.OPEN}
    assert asked(world) == ["GET /pulls 200"]
    checker.check_all(lanes)
    assert asked(world, 1) == ["GET /pulls 304"]
    for number in range(1, count + 1, 3):
        world.github.merge_pull(number, method="squash")
    found = checker.check_all(lanes)
    assert [check.verdict for check in found].count(MergeVerdict.MERGED) == -(-count // 3)
    assert asked(world, 2)[:2] == ["GET /pulls 200", "GET /commits 200"]
    # The pull requests' own commits are not here; a few are asked for, not a hundred.
    assert len(asked(world, 4)) <= 3
    since = len(world.github.requests)
    before = world.github.requests[-1].status
    assert checker.check_all(lanes)[0].verdict is MergeVerdict.MERGED
    assert before == 200
    assert set(asked(world, since)) <= {
        "GET /pulls 304",
        *(f"GET /pulls/{n}/commits {s}" for n in range(count + 1) for s in (200, 304)),
    }


def test_an_older_open_pull_request_beats_a_closed_one_that_changed_last(
    world: World, repo: Path
) -> None:
    """What is not among those that changed last is asked for by name before it counts."""
    lanes = [submit(world, repo, name) for name in ("one", "two")]
    world.github.close_pull(1)
    for number in range(100):
        name = f"agentrelay/nightly/other{number}/integration"
        commit_files(world.remote_path, {f"{number}.txt": "x\n"}, message=name, branch=name)
        world.github.open_pull(head=name, base="main", title=name)
    world.github.open_pull(head=str(lanes[0].state.branch_name), base="main", title="Again")
    found = world.merge_checker(repo).check_all(lanes)
    assert [check.verdict for check in found] == [MergeVerdict.OPEN, MergeVerdict.OPEN]


def test_a_pull_request_that_changes_between_two_pages_is_not_overlooked(
    world: World, repo: Path
) -> None:
    """The lane's new one slips onto the page that was read; the closed one does not count."""
    lanes = [submit(world, repo, name) for name in ("one", "two")]
    world.github.close_pull(1)
    world.github.open_pull(head=str(lanes[0].state.branch_name), base="main", title="Again")
    for number in range(100):
        name = f"agentrelay/nightly/other{number}/integration"
        commit_files(world.remote_path, {f"{number}.txt": "x\n"}, message=name, branch=name)
        world.github.open_pull(head=name, base="main", title=name)
    url = f"{world.github.api_url}/repos/{world.full_name}/pulls?state=all&direction=asc"
    headers = {"authorization": f"token {world.token}", "user-agent": "test"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the double's
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - the double's
        first, second, _ = json.loads(answer.read())[:3]
    page = json.dumps([second, first])
    world.github.faults.add(Fault.status(200, body=page, path=r"[?&]page=2\b"))
    found = world.merge_checker(repo).check_all(lanes)
    assert [check.verdict for check in found] == [MergeVerdict.OPEN, MergeVerdict.OPEN]


def test_other_peoples_pull_requests_are_passed_over(world: World, repo: Path) -> None:
    """And lanes into two targets are answered together."""
    commit_files(world.remote_path, {"f.txt": "x\n"}, message="F", branch="agentrelay/mine")
    world.github.open_pull(head="agentrelay/mine", base="main", title="Mine")
    lanes = [submit(world, repo, "one")]
    commit_files(world.remote_path, {"n.txt": "x\n"}, message="Next", branch="next")
    lanes.append(WorkstreamRuntime(WorkstreamSpec("two", merge_target_branch="next")))
    world.runner(repo).prepare(lanes[1])
    work(lanes[1])
    world.runner(repo).integrate(lanes[1])
    world.github.merge_pull(2)
    world.github.merge_pull(3)
    found = world.merge_checker(repo).check_all(lanes)
    assert [(check.verdict, check.method) for check in found] == [
        (MergeVerdict.MERGED, "merge"),
        (MergeVerdict.MERGED, "merge"),
    ]


def test_nothing_is_asked_about_lanes_that_never_were(world: World, repo: Path) -> None:
    """There is nothing to ask."""
    never = WorkstreamRuntime(WorkstreamSpec("never"))
    assert world.merge_checker(repo).check_all([]) == []
    assert world.merge_checker(repo).check_merged(never).verdict is MergeVerdict.CANNOT_TELL
    assert world.github.requests == ()


def test_a_failure_in_the_middle_keeps_what_is_known(world: World, repo: Path) -> None:
    """The lanes of the first answer are answered; nothing is asked after the failure."""
    lanes = [submit(world, repo, name) for name in ("one", "two")]
    missing = WorkstreamRuntime(WorkstreamSpec("three"))
    missing.state.branch_name = "agentrelay/nightly/three/integration"
    checker = world.merge_checker(repo)
    found = checker.check_all([*lanes, missing])
    assert [check.verdict for check in found] == [
        MergeVerdict.OPEN,
        MergeVerdict.OPEN,
        MergeVerdict.CANNOT_TELL,
    ]
    assert "has no pull request" in str(found[2].reason)


# --- watching -----------------------------------------------------------------------------


class Script:
    """A clock whose waits let the world go on."""

    def __init__(self, *steps: Any) -> None:
        """Take one step at each wait."""
        self.clock = StillClock()
        self.steps = list(steps)

    def wait(self, seconds: float) -> None:
        """Let time pass, and something happen."""
        self.clock.wait(seconds)
        if self.steps:
            self.steps.pop(0)()

    async def await_(self, seconds: float) -> None:
        """Do the same for an event loop."""
        self.wait(seconds)

    def policy(self, **settings: Any) -> RetryPolicy:
        """Return a policy that lives by this clock."""
        return self.clock.policy(wait=self.wait, **settings)


def told(events: list[MergeEvent]) -> list[tuple[str, str, bool]]:
    """Return lane, verdict and finality of events."""
    return [(event.runtime.spec.id, event.check.verdict.value, event.is_last) for event in events]


def test_a_watch_says_what_happens_and_ends_with_the_last_lane(world: World, repo: Path) -> None:
    """Merged and closed are said when they are seen; looks are as far apart as was asked."""
    lanes = [submit(world, repo, name) for name in ("one", "two")]
    script = Script(lambda: world.github.merge_pull(2), lambda: world.github.close_pull(1))
    checker = world.merge_checker(repo, policy=script.policy())
    events = list(checker.watch(lanes, until_s=600, every_s=30))
    assert told(events) == [("two", "merged", True), ("one", "closed", True)]
    assert script.clock.waits == [30, 30]


def merged_elsewhere(world: World, repo: Path, count: int) -> tuple[Path, list[WorkstreamRuntime]]:
    """Squash lanes at GitHub; return a clone that lacks their commits, and the lanes."""
    other = world.clone("other")
    lanes = [submit(world, repo, f"lane-{number}") for number in range(1, count + 1)]
    for number in range(1, count + 1):
        world.github.merge_pull(number, method="squash")
    return other, lanes


@pytest.mark.parametrize("twin", ["watch", "awatch"])
def test_the_last_word_of_a_watch_says_how_each_of_many_lanes_was_merged(
    world: World, repo: Path, twin: str
) -> None:
    """Every look asks for three at most; no lane's last word comes before its method."""
    other, lanes = merged_elsewhere(world, repo, 7)
    script = Script()
    checker = world.merge_checker(other, policy=script.policy())
    since = len(world.github.requests)

    async def follow() -> list[MergeEvent]:
        return [event async for event in checker.awatch(lanes, until_s=600, wait=script.await_)]

    is_plain = twin == "watch"
    events = list(checker.watch(lanes, until_s=600)) if is_plain else asyncio.run(follow())
    assert sorted(told(events)) == [(lane.spec.id, "merged", True) for lane in lanes]
    assert {event.check.method for event in events} == {"squash"}
    assert None not in {event.check.target_before for event in events}
    assert script.clock.waits == [1, 1]
    requests = asked(world, since)
    assert [path.endswith("/commits 200") for path in requests].count(True) == 7 + 1
    # Two lists the first time, and one that has not changed for each look after it.
    assert len(requests) <= 7 + 2 + 2


def test_how_lanes_were_merged_is_not_worth_their_last_word(world: World, repo: Path) -> None:
    """A look that fails, or the end of the time, does not make merged into cannot tell."""
    other, lanes = merged_elsewhere(world, repo, 5)
    limit = Fault.rate_limit(secondary=True, retry_after_s=500, times=99)
    script = Script(lambda: world.github.faults.add(limit))
    checker = world.merge_checker(other, policy=script.policy())
    events = list(checker.watch(lanes, until_s=600))
    assert sorted(told(events)) == [(lane.spec.id, "merged", True) for lane in lanes]
    assert [event.check.method for event in events].count(None) == 2
    world.github.faults.clear()
    hurried = world.merge_checker(other, policy=StillClock().policy())
    assert {verdict for _, verdict, _ in told(list(hurried.watch(lanes, until_s=0)))} == {"merged"}


def test_a_look_that_runs_past_the_end_of_a_watch_is_the_last(world: World, repo: Path) -> None:
    """However badly the last looks go, no more than one time-out is added to the time."""
    lane = submit(world, repo)
    script = Script(lambda: world.github.faults.add(Fault.status(502, method="GET", times=99)))
    checker = world.merge_checker(repo, api_timeout_s=10, policy=script.policy())
    events = list(checker.watch([lane], until_s=31, every_s=30))
    assert told(events) == [("parser", "cannot_tell", True)]
    assert 31 < script.clock.waited_s <= 31 + 10


def test_a_watch_ends_with_its_time_and_a_word_on_each_lane(world: World, repo: Path) -> None:
    """The last look is at the end, not before and not after."""
    lane = submit(world, repo)
    script = Script()
    checker = world.merge_checker(repo, policy=script.policy())
    events = list(checker.watch([lane], until_s=70, every_s=30))
    assert told(events) == [("parser", "open", True)]
    assert script.clock.waits == [30, 30, 10]
    assert asked(world)[-3:] == ["GET /pulls 304"] * 3


def test_not_knowing_is_said_once_and_watched_on(world: World, repo: Path) -> None:
    """An hour of 502 is one event, and the merge behind it another."""
    lane = submit(world, repo)
    script = Script()
    policy = script.policy(attempts=1)
    world.github.faults.add(Fault.status(502, method="GET", times=3))
    script.steps = [lambda: None, lambda: None, lambda: world.github.merge_pull(1)]
    events = list(world.merge_checker(repo, policy=policy).watch([lane], until_s=600))
    assert told(events) == [("parser", "cannot_tell", False), ("parser", "merged", True)]


def test_a_watch_respects_the_pause_of_a_limit(world: World, repo: Path) -> None:
    """Nothing is sent before it is over, not even for the last word."""
    lane = submit(world, repo)
    script = Script()
    since = len(world.github.requests)
    world.github.faults.add(Fault.rate_limit(secondary=True, retry_after_s=500))
    checker = world.merge_checker(repo, policy=script.policy())
    events = list(checker.watch([lane], until_s=300, every_s=30))
    assert told(events) == [("parser", "cannot_tell", False), ("parser", "cannot_tell", True)]
    assert script.clock.waits == [300]
    assert len(world.github.requests) == since + 1


def test_a_watch_respects_the_interval_github_asks_for(world: World, repo: Path) -> None:
    """The header counts where it is longer than what the caller wanted."""
    lane = submit(world, repo)
    script = Script(lambda: world.github.merge_pull(1))
    world.github.faults.add(
        Fault.status(200, body="[]", headers=[("x-poll-interval", "90")], method="GET")
    )
    checker = world.merge_checker(repo, policy=script.policy())
    assert told(list(checker.watch([lane], until_s=600, every_s=30)))[-1] == (
        "parser",
        "merged",
        True,
    )
    assert script.clock.waits == [90]


@pytest.mark.parametrize("settings", [{"until_s": -1}, {"until_s": 9, "every_s": 0.5}])
def test_a_watch_that_would_not_end_or_would_not_rest_is_refused(
    world: World, repo: Path, settings: dict[str, float]
) -> None:
    """Before anything is asked."""
    lane = submit(world, repo)
    since = len(world.github.requests)
    with pytest.raises(RepositoryError):
        list(world.merge_checker(repo).watch([lane], **settings))
    assert len(world.github.requests) == since


def test_the_async_twin_says_the_same(world: World, repo: Path) -> None:
    """The same events by the same clock, without holding up the loop."""
    lane = submit(world, repo)
    script = Script(lambda: world.github.merge_pull(1))
    checker = world.merge_checker(repo, policy=script.policy())

    async def watch() -> list[MergeEvent]:
        events = checker.awatch([lane], until_s=600, wait=script.await_)
        return [event async for event in events]

    assert told(asyncio.run(watch())) == [("parser", "merged", True)]
    assert script.clock.waits == [30]


def test_an_async_watch_can_be_cancelled_between_looks(world: World, repo: Path) -> None:
    """A wait of an hour ends at once, and nothing more is asked."""
    lane = submit(world, repo)
    checker = world.merge_checker(repo)

    async def watch() -> None:
        waiting = asyncio.Event()

        async def wait(_: float) -> None:
            waiting.set()
            await asyncio.Event().wait()

        async def follow() -> None:
            async with aclosing(checker.awatch([lane], until_s=3600, wait=wait)) as events:
                async for _ in events:
                    pass

        task = asyncio.create_task(follow())
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    since = len(world.github.requests)
    asyncio.run(watch())
    assert len(world.github.requests) == since + 1


# --- what follows -------------------------------------------------------------------------


def test_a_lane_that_was_merged_is_marked_and_torn_down(world: World, repo: Path) -> None:
    """The runner's check makes it MERGED; then both branches go, even after a squash."""
    lane = submit(world, repo)
    runner = world.runner(repo)
    assert runner.check(lane).verdict is MergeVerdict.OPEN
    passed = [lane.status]
    world.github.merge_pull(1, method="squash")
    runner.check(lane)
    runner.check(lane)
    passed.append(lane.status)
    assert passed == [WorkstreamStatus.PR_CREATED, WorkstreamStatus.MERGED]
    runner.teardown(lane)
    branch = "refs/heads/agentrelay/nightly/parser/integration"
    assert branch not in refs(repo)
    assert branch not in refs(world.remote_path)
    assert lane.artifacts.concerns == []


def test_a_failed_lane_that_was_merged_leaves_its_failure_behind(world: World, repo: Path) -> None:
    """The pull request is what counts, also where nobody had written it down."""
    lane = submit(world, repo)
    lane.mark_failed("RemoteUnavailableError: no answer")
    lane.artifacts.merge_pr_url = None
    url = world.github.merge_pull(1).html_url
    assert record_merge(lane, world.merge_checker(repo).check_merged(lane))
    assert (lane.status, lane.state.error) == (WorkstreamStatus.MERGED, None)
    assert lane.artifacts.merge_pr_url == url


def test_a_runner_without_a_checker_says_so(world: World, repo: Path) -> None:
    """The three steps work without one, as ever."""
    lane = submit(world, repo)
    whole = world.runner(repo)
    bare = StandardWorkstreamRunner(whole._preparer, whole._integrator, whole._teardown)
    with pytest.raises(WorkstreamError, match="cannot tell"):
        bare.check(lane)


def test_a_pickled_checker_keeps_its_settings_and_no_secret(world: World, repo: Path) -> None:
    """What it saw stays behind, and so does the token."""
    lane = submit(world, repo)
    checker = world.merge_checker(repo, head_full_name="octo/widgets", policy=RetryPolicy())
    checker.check_merged(lane)
    data = pickle.dumps(checker)
    assert str(world.token).encode() not in data
    assert str(world.token) not in repr(checker)
    again = pickle.loads(data)  # noqa: S301 - made right here
    assert (again.repo_path, again.head_full_name) == (repo, "octo/widgets")
