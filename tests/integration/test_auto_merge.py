"""Merging by a program: only the lane's own commit, only once, and not against a concern."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pygit2
import pytest
import requests

from agentrelay.workstream import (
    CredentialsRejectedError,
    MergeCheck,
    MergeConflictError,
    MergeNotReadyError,
    MergeRefusedError,
    MergeVerdict,
    RateLimitedError,
    RemoteUnavailableError,
    RepositoryError,
    StandardWorkstreamRunner,
    TaskSummary,
    WorkstreamError,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
)
from agentrelay.workstream.testing import Fault, World, commit_files, refs
from tests.integration._clock import StillClock
from tests.integration._github_client import call
from tests.unit._markdown import live_words

BRANCH = "agentrelay/nightly/parser/integration"


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
def lane(world: World, repo: Path) -> WorkstreamRuntime:
    """Return a lane with two commits and an open pull request."""
    made = WorkstreamRuntime(WorkstreamSpec("parser"))
    runner = world.runner(repo)
    runner.prepare(made)
    work(made, "one")
    work(made, "two")
    made.artifacts.task_summaries = [TaskSummary("lexer", "Splits text, closes #7")]
    assert runner.integrate(made).status is WorkstreamStatus.PR_CREATED
    return made


def work(lane: WorkstreamRuntime, name: str) -> str:
    """Commit to the lane's worktree."""
    assert lane.state.worktree_path is not None
    return commit_files(lane.state.worktree_path, {f"{name}.txt": f"{name}\n"}, message=name)


def main_of(world: World) -> str:
    """Return the commit the target is at."""
    return refs(world.remote_path)["refs/heads/main"]


def message_of(world: World, name: str) -> str:
    """Return the message of a commit of the remote."""
    found = pygit2.Repository(str(world.remote_path)).revparse_single(name)
    return found.peel(pygit2.Commit).message


def sent(world: World, method: str = "PUT") -> list[dict[str, Any]]:
    """Return the bodies of all requests of a method."""
    return [json.loads(one.body) for one in world.github.requests if one.method == method]


# --- merging ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_the_lane_is_merged_the_way_that_was_chosen(
    world: World, repo: Path, lane: WorkstreamRuntime, method: Any
) -> None:
    """At the lane's own commit; the answer has the commits before and after."""
    before, head = main_of(world), refs(repo)[f"refs/heads/{BRANCH}"]
    check = world.auto_merger(repo, method=method).merge_integration_pr(lane)
    assert check == MergeCheck(
        MergeVerdict.MERGED,
        url=lane.artifacts.merge_pr_url,
        method=method,
        head=head,
        target_before=before,
        merge_commit=main_of(world),
    )
    assert [body["sha"] for body in sent(world)] == [head]
    assert lane.status is WorkstreamStatus.PR_CREATED


_COMMANDS = (
    "closes #7, @octo/all, GH-8, octo/widgets#9, [skip ci] https://github.com/octo/w/issues/1"
)


@pytest.mark.parametrize("method", ["merge", "squash"])
def test_the_commit_says_what_we_say_and_commands_nothing(
    world: World, repo: Path, lane: WorkstreamRuntime, method: Any
) -> None:
    """Neither the description nor an agent's "closes #7" becomes a commit message."""
    lane.artifacts.task_summaries.append(TaskSummary("@octo/all fixes #7", _COMMANDS))
    world.auto_merger(repo, method=method).merge_integration_pr(lane)
    title, empty, message = message_of(world, "main").partition("\n\n")
    assert (title, empty) == ("Integrate workstream parser (#1)", "\n\n")
    assert message.startswith(f"Brings {BRANCH} into main.\n\n- @")
    assert "- lexer: Splits text, closes #" in message
    assert live_words(message) == []


def test_a_rebase_keeps_the_words_of_the_commits_and_adds_none(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """There is no commit of ours to write on: what is sent names a commit and a method."""
    before, head = main_of(world), refs(repo)[f"refs/heads/{BRANCH}"]
    lane.artifacts.task_summaries.append(TaskSummary("more", _COMMANDS))
    world.auto_merger(repo, method="rebase").merge_integration_pr(lane)
    assert sent(world) == [{"sha": head, "merge_method": "rebase"}]
    assert [message_of(world, name) for name in ("main", "main~1")] == ["two", "one"]
    assert pygit2.Repository(str(world.remote_path)).revparse_single("main~2").id == before


def test_merging_again_merges_nothing(world: World, repo: Path, lane: WorkstreamRuntime) -> None:
    """What is merged is found, without another try."""
    merger = world.auto_merger(repo)
    first = merger.merge_integration_pr(lane)
    assert merger.merge_integration_pr(lane) == first
    assert len(sent(world)) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault.drop_answer(method="PUT"),
        Fault.status(502, effect="done", method="PUT"),
        Fault.status(200, body="{}", effect="done", method="PUT"),
        Fault.status(204, body="", effect="done", method="PUT"),
        Fault.status(200, body='{"merged": true, "sha": "x"}', effect="done", method="PUT"),
    ],
    ids=["dropped", "502, done", "{}, done", "204, done", "no commit, done"],
)
def test_a_lost_answer_is_looked_for_and_not_asked_for_again(
    world: World, repo: Path, lane: WorkstreamRuntime, fault: Fault
) -> None:
    """One merge, whatever its answer looked like."""
    world.github.faults.add(fault)
    check = world.auto_merger(repo).merge_integration_pr(lane)
    assert (check.verdict, check.merge_commit) == (MergeVerdict.MERGED, main_of(world))
    assert len(sent(world)) == 1


def test_what_did_not_happen_is_asked_for_again(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """A 502 that did nothing, and a base that moved, pass."""
    world.github.faults.add(
        Fault.status(502, method="PUT"),
        Fault.status(
            405, message="Base branch was modified. Review and try the merge again.", method="PUT"
        ),
    )
    assert world.auto_merger(repo).merge_integration_pr(lane).verdict is MergeVerdict.MERGED
    assert len(sent(world)) == 3


def test_somebody_who_was_faster_has_merged_it(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """A refusal of what is merged already is no refusal."""
    world.github.faults.add(
        Fault.status(405, message="Pull Request is not mergeable", effect="done", method="PUT")
    )
    assert world.auto_merger(repo).merge_integration_pr(lane).verdict is MergeVerdict.MERGED
    assert len(sent(world)) == 1


# --- refusals -----------------------------------------------------------------------------


def test_open_concerns_are_named_and_nothing_is_asked(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The lane's and its tasks'; accepting one by its words leaves the other."""
    lane.artifacts.concerns.append("two tasks changed one file")
    lane.artifacts.task_summaries.append(TaskSummary("t", concerns=("slow",)))
    with pytest.raises(MergeRefusedError, match=r"two tasks changed one file.*slow"):
        world.auto_merger(repo).merge_integration_pr(lane)
    accepted = ["two tasks changed one file"]
    with pytest.raises(MergeRefusedError, match="'slow'"):
        world.auto_merger(repo, accepted_concerns=accepted).merge_integration_pr(lane)
    assert sent(world) == []
    accepted.append("slow")
    merger = world.auto_merger(repo, accepted_concerns=accepted)
    assert merger.merge_integration_pr(lane).verdict is MergeVerdict.MERGED


def test_concerns_of_another_process_count_as_well(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """They are not on disk, but the description lists them."""
    lane.artifacts.concerns.append("two tasks changed one file")
    world.runner(repo).integrate(lane)
    assert lane.state.signal_dir is not None
    again = WorkstreamRuntime.load(lane.state.signal_dir)
    with pytest.raises(MergeRefusedError, match="does not know"):
        world.auto_merger(repo).merge_integration_pr(again)
    assert sent(world) == []


@pytest.mark.parametrize("was", ["nothing ahead", "unsaved work"])
def test_what_the_last_integrate_found_settled_hinders_no_merge(
    world: World, repo: Path, was: str
) -> None:
    """Integrating again asks anew, and takes back what is no longer so; the caller's words stay."""
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    runner = world.runner(repo)
    runner.prepare(lane)
    assert lane.state.worktree_path is not None
    if was == "unsaved work":
        work(lane, "one")
        (lane.state.worktree_path / "two.txt").write_text("two\n")
    lane.artifacts.concerns.append("two tasks changed one file")
    runner.integrate(lane)
    assert len(lane.artifacts.concerns) == 2
    with pytest.raises(MergeRefusedError):
        world.auto_merger(
            repo, accepted_concerns=["two tasks changed one file"]
        ).merge_integration_pr(lane)
    work(lane, "two")
    runner.integrate(lane)
    assert lane.artifacts.concerns == ["two tasks changed one file"]
    merger = world.auto_merger(repo, accepted_concerns=["two tasks changed one file"])
    assert merger.merge_integration_pr(lane).verdict is MergeVerdict.MERGED


@pytest.mark.parametrize("whose", ["the lane's", "a task's"])
def test_accepting_ones_own_concerns_accepts_no_others(
    world: World, repo: Path, lane: WorkstreamRuntime, whose: str
) -> None:
    """What another process described stays open; what this one knows as well does not."""
    if whose == "the lane's":
        lane.artifacts.concerns.append("two tasks changed one file\n\nat once")
    else:
        lane.artifacts.task_summaries = [TaskSummary("t", concerns=("two tasks changed one file",))]
    world.runner(repo).integrate(lane)
    assert lane.state.signal_dir is not None
    again = WorkstreamRuntime.load(lane.state.signal_dir)
    again.artifacts.concerns.append("slow")
    with pytest.raises(MergeRefusedError, match="does not know"):
        world.auto_merger(repo, accepted_concerns=["slow"]).merge_integration_pr(again)
    assert sent(world) == []
    accepted = [*lane.artifacts.concerns, *lane.artifacts.task_summaries[0].concerns]
    merger = world.auto_merger(repo, accepted_concerns=accepted)
    assert merger.merge_integration_pr(lane).verdict is MergeVerdict.MERGED


def test_a_lane_whose_branch_is_gone_is_not_merged_at_anybodys_commit(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Without the branch nothing says which commit is the lane's own."""
    _push(world, lane)
    (repo / ".git" / "refs" / "heads" / BRANCH).unlink()
    with pytest.raises(MergeRefusedError, match="is gone here"):
        world.auto_merger(repo).merge_integration_pr(lane)
    assert sent(world) == []


def _push(world: World, _: WorkstreamRuntime) -> None:
    commit_files(world.remote_path, {"evil.txt": "x\n"}, message="More", branch=BRANCH)


def _conflict(world: World, _: WorkstreamRuntime) -> None:
    commit_files(world.remote_path, {"one.txt": "other\n"}, message="Other", branch="main")


def _behind(world: World, _: WorkstreamRuntime) -> None:
    commit_files(world.remote_path, {"new.txt": "x\n"}, message="New", branch="main")
    world.github.protect(is_strict=True)


@pytest.mark.parametrize(
    ("arrange", "error", "words"),
    [
        (_push, MergeRefusedError, "is at"),
        (lambda _, lane: work(lane, "unpushed"), MergeRefusedError, "is at"),
        (_conflict, MergeConflictError, "conflicts"),
        (_behind, MergeConflictError, "behind"),
        (lambda world, _: world.github.protect(reviews=1), MergeRefusedError, "approving review"),
        (lambda world, _: world.github.protect(methods=["squash"]), MergeRefusedError, "allowed"),
        (lambda world, _: world.github.protect(checks=["ci"]), MergeNotReadyError, "checks"),
        (lambda world, _: world.github.close_pull(1), MergeRefusedError, "closed"),
    ],
    ids=["push", "unpushed", "conflict", "behind", "review", "method", "checks", "closed"],
)
def test_a_refusal_is_typed_by_what_to_do(  # noqa: PLR0917 - pytest passes them by name
    world: World,
    repo: Path,
    lane: WorkstreamRuntime,
    arrange: Callable[[World, WorkstreamRuntime], object],
    error: type[WorkstreamError],
    words: str,
) -> None:
    """Wait, rebase or ask; nothing is merged, the hint says how to go on, the lane stands."""
    arrange(world, lane)
    before = main_of(world)
    with pytest.raises(error, match=words) as caught:
        world.auto_merger(repo).merge_integration_pr(lane)
    assert caught.value.hint
    assert main_of(world) == before
    assert lane.status is WorkstreamStatus.PR_CREATED
    assert type(pickle.loads(pickle.dumps(caught.value))) is error  # noqa: S301 - made right here


def test_a_failed_check_is_not_waited_for(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """It does not pass by itself."""
    world.github.protect(checks=["ci"], has_auto_merge=True)
    world.github.report_check(1, "ci", passed=False)
    with pytest.raises(MergeRefusedError, match="failing"):
        world.auto_merger(repo).merge_integration_pr(lane)


def test_a_push_in_the_last_moment_is_not_merged(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The commit is a precondition of the merge itself."""
    world.github.faults.add(
        Fault.status(
            409, message="Head branch was modified. Review and try the merge again.", method="PUT"
        )
    )
    with pytest.raises(MergeRefusedError, match="Head branch was modified"):
        world.auto_merger(repo).merge_integration_pr(lane)
    assert len(sent(world)) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.status(401, message="Bad credentials", times=99), CredentialsRejectedError),
        (Fault.status(403, message="Resource not accessible", method="PUT"), MergeRefusedError),
        (Fault.rate_limit(method="PUT"), RateLimitedError),
        (Fault.status(500, method="PUT", times=99), RemoteUnavailableError),
    ],
    ids=["401", "403", "limit", "500"],
)
def test_other_failures_are_what_they_are_everywhere(
    world: World, repo: Path, lane: WorkstreamRuntime, fault: Fault, error: type[WorkstreamError]
) -> None:
    """No refusal is made of them, and the next try merges."""
    world.github.faults.add(fault)
    with pytest.raises(error):
        world.auto_merger(repo).merge_integration_pr(lane)
    world.github.faults.clear()
    assert world.auto_merger(repo).merge_integration_pr(lane).verdict is MergeVerdict.MERGED


# --- waiting ------------------------------------------------------------------------------


def test_checks_are_waited_for_within_the_policy(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Each wait is longer than the one before; when they have passed it is merged."""
    world.github.protect(checks=["ci"])
    clock = StillClock()

    def wait(seconds: float) -> None:
        clock.wait(seconds)
        if clock.waited_s > 20:
            world.github.report_check(1, "ci")

    merger = world.auto_merger(repo, policy=clock.policy(wait=wait))
    assert merger.merge_integration_pr(lane).verdict is MergeVerdict.MERGED
    # The first is for GitHub to find out whether it merges.
    assert clock.waits == [1, 2, 4, 8, 16]


def test_checks_that_never_pass_end_with_the_policy(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The error says to wait, and nothing was merged."""
    world.github.protect(checks=["ci"], has_auto_merge=True)
    clock = StillClock()
    merger = world.auto_merger(repo, policy=clock.policy(), pending_checks="caller")
    with pytest.raises(MergeNotReadyError, match="required checks"):
        merger.merge_integration_pr(lane)
    assert 30 < clock.waited_s < 90
    assert not world.github.pulls()[0].merged


@pytest.mark.parametrize("mergeable", [None, "perhaps"])
@pytest.mark.parametrize("first_wait_s", [1.0, 0.0])
def test_github_that_never_knows_whether_it_merges_is_not_waited_for_for_ever(
    world: World, repo: Path, lane: WorkstreamRuntime, mergeable: object, first_wait_s: float
) -> None:
    """The error says to wait; nothing was tried, however fast the policy would have it asked."""
    answer = call(world.github, "GET", "/pulls/1", Authorization=f"Bearer {world.token}").json()
    world.github.clear()
    body = json.dumps({**answer, "mergeable": mergeable, "mergeable_state": "unknown"})
    world.github.faults.add(Fault.status(200, body=body, path="/pulls/1$", times=1000))
    clock = StillClock()
    merger = world.auto_merger(repo, policy=clock.policy(first_wait_s=first_wait_s))
    with pytest.raises(MergeNotReadyError, match="does not know yet") as caught:
        merger.merge_integration_pr(lane)
    assert caught.value.hint
    assert clock.waited_s < 90
    assert len(world.github.requests) <= 8
    assert sent(world) == []
    world.github.faults.clear()
    assert merger.merge_integration_pr(lane).verdict is MergeVerdict.MERGED


def test_github_waits_for_checks_where_it_can(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Auto-merge is enabled at the lane's commit with our words, and once."""
    world.github.protect(checks=["ci"], has_auto_merge=True)
    merger = world.auto_merger(repo, method="squash")
    check = merger.merge_integration_pr(lane)
    assert check.verdict is MergeVerdict.OPEN
    assert "auto-merge is enabled" in str(check.reason)
    assert merger.merge_integration_pr(lane).verdict is MergeVerdict.OPEN
    mutations = [body for body in sent(world, "POST") if "query" in body]
    assert [body["variables"]["input"]["expectedHeadOid"] for body in mutations] == [
        refs(repo)[f"refs/heads/{BRANCH}"]
    ]
    world.github.report_check(1, "ci")
    done = world.merge_checker(repo).check_merged(lane)
    assert (done.verdict, done.method) == (MergeVerdict.MERGED, "squash")
    message = pygit2.Repository(str(world.remote_path))[main_of(world)].peel(pygit2.Commit).message
    assert message.startswith("Integrate workstream parser (#1)")


def test_a_merge_queue_is_stood_in(world: World, repo: Path, lane: WorkstreamRuntime) -> None:
    """Once, however often it is asked for."""
    world.github.protect(has_queue=True)
    merger = world.auto_merger(repo)
    world.github.faults.add(Fault.drop_answer(path="/graphql"))
    for _ in range(2):
        check = merger.merge_integration_pr(lane)
        assert check.verdict is MergeVerdict.OPEN
        assert "merge queue" in str(check.reason)
    world.github.run_queue()
    assert world.merge_checker(repo).check_merged(lane).verdict is MergeVerdict.MERGED


def test_what_graphql_refuses_is_a_refusal_although_its_status_is_200(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Its quota is a limit, anything else a question for a person."""
    world.github.protect(has_queue=True)
    for kind, error in (("RATE_LIMITED", RateLimitedError), ("FORBIDDEN", MergeRefusedError)):
        body = json.dumps({"data": None, "errors": [{"type": kind, "message": "no"}]})
        world.github.faults.add(Fault.status(200, body=body, path="/graphql"))
        with pytest.raises(error):
            world.auto_merger(repo).merge_integration_pr(lane)


@pytest.mark.parametrize("done", [None, [], {}, {"x": 1}, {"enqueuePullRequest": None}, {"x": "y"}])
def test_graphql_that_does_not_say_what_it_has_done_has_done_nothing(
    world: World, repo: Path, lane: WorkstreamRuntime, done: object
) -> None:
    """Neither errors nor a result: nobody may rely on it that the pull request is queued."""
    world.github.protect(has_queue=True)
    body = json.dumps({"data": done})
    world.github.faults.add(Fault.status(200, body=body, path="/graphql", times=99))
    with pytest.raises(RemoteUnavailableError, match="does not say that it was done"):
        world.auto_merger(repo, policy=StillClock().policy()).merge_integration_pr(lane)


def test_a_merge_in_a_renamed_repository_says_what_to_change(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The new name is followed and told, and is no concern that would stop the next try."""
    world.github.rename_repository("octo/widgets", "octo/gadgets")
    merger = world.auto_merger(repo)
    for check in [merger.merge_integration_pr(lane), merger.merge_integration_pr(lane)]:
        assert check.verdict is MergeVerdict.MERGED
        assert "octo/widgets is now called octo/gadgets" in str(check.reason)
    assert lane.artifacts.concerns == []


# --- the runner ---------------------------------------------------------------------------


def test_a_runner_merges_only_when_it_was_told_how(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Without an auto-merger it refuses; with one the lane is MERGED and can go."""
    parts = world.runner(repo)
    with pytest.raises(WorkstreamError, match="merges nothing"):
        parts.merge(lane)
    runner = StandardWorkstreamRunner(
        parts._preparer,
        parts._integrator,
        parts._teardown,
        _auto_merger=world.auto_merger(repo, method="squash"),
    )
    assert runner.merge(lane).verdict is MergeVerdict.MERGED
    assert lane.status is WorkstreamStatus.MERGED
    runner.teardown(lane)
    assert f"refs/heads/{BRANCH}" not in refs(world.remote_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "octopus"},
        {"pending_checks": "nobody"},
        {"accepted_concerns": "slow"},
        {"accepted_concerns": None},
        {"api_url": 5},
        {"full_name": 5},
        {"head_full_name": 5},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_that_are_none_are_refused_before_anything_is_asked(
    world: World, repo: Path, lane: WorkstreamRuntime, settings: dict[str, Any]
) -> None:
    """A typing mistake merges nothing."""
    since = len(world.github.requests)
    with pytest.raises(RepositoryError):
        world.auto_merger(repo, **settings).merge_integration_pr(lane)
    assert len(world.github.requests) == since


# --- what happens meanwhile ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("meanwhile", "error"),
    [
        (lambda world: world.github.merge_pull(1), None),
        (lambda world: world.github.close_pull(1), MergeRefusedError),
        (lambda world: _push(world, WorkstreamRuntime(WorkstreamSpec("x"))), MergeRefusedError),
    ],
    ids=["merged", "closed", "pushed"],
)
def test_what_others_do_while_github_computes_is_noticed(
    world: World,
    repo: Path,
    lane: WorkstreamRuntime,
    meanwhile: Callable[[World], object],
    error: type[WorkstreamError] | None,
) -> None:
    """Merged is merged; closed and pushed to are for a person; nothing is sent by us."""
    clock = StillClock()

    def wait(seconds: float) -> None:
        clock.wait(seconds)
        meanwhile(world)

    merger = world.auto_merger(repo, policy=clock.policy(wait=wait))
    if error is None:
        assert merger.merge_integration_pr(lane).verdict is MergeVerdict.MERGED
    else:
        with pytest.raises(error, match=r"meanwhile|closed"):
            merger.merge_integration_pr(lane)
    assert sent(world) == []


def test_merged_is_merged_where_github_does_not_say_as_what(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Without the commit it left, it was still not closed, and is not asked for again."""
    world.github.faults.add(Fault.status(502, effect="done", method="PUT"))
    clock = StillClock()

    def hide(seconds: float) -> None:
        clock.wait(seconds)
        if world.github.pulls()[0].merged:
            answer = call(world.github, "GET", "/pulls/1", Authorization=f"Bearer {world.token}")
            body = json.dumps({**answer.json(), "merge_commit_sha": None})
            world.github.faults.add(Fault.status(200, body=body, path="/pulls/1$"))

    merger = world.auto_merger(repo, policy=clock.policy(wait=hide))
    check = merger.merge_integration_pr(lane)
    assert (check.verdict, check.merge_commit) == (MergeVerdict.MERGED, None)
    assert len(sent(world)) == 1


def test_a_draft_is_for_a_person(world: World, repo: Path) -> None:
    """Whoever made it a draft did not mean it to be merged."""
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    world.runner(repo).prepare(lane)
    work(lane, "one")
    world.integrator(repo, draft=True).create_integration_pr(lane)
    with pytest.raises(MergeRefusedError, match="draft"):
        world.auto_merger(repo).merge_integration_pr(lane)


def test_a_conflict_that_shows_late_is_one(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """GitHub's refusal of the merge itself counts like its forecast."""
    world.github.faults.add(
        Fault.status(405, message="Pull Request is not mergeable", method="PUT")
    )
    with pytest.raises(MergeConflictError, match="not mergeable"):
        world.auto_merger(repo).merge_integration_pr(lane)


def _graphql(kind: str, message: str) -> Fault:
    body = json.dumps({"data": None, "errors": [{"type": kind, "message": message}]})
    return Fault.status(200, body=body, path="/graphql")


def test_a_rebase_needs_no_message(world: World, repo: Path, lane: WorkstreamRuntime) -> None:
    """Auto-merge by rebase names the commit and no words."""
    world.github.protect(checks=["ci"], has_auto_merge=True)
    world.auto_merger(repo, method="rebase").merge_integration_pr(lane)
    (mutation,) = [body for body in sent(world, "POST") if "query" in body]
    assert set(mutation["variables"]["input"]) == {
        "pullRequestId",
        "expectedHeadOid",
        "mergeMethod",
    }


def test_auto_merge_that_is_refused_for_another_reason_is_for_a_person(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Only "not allowed here" and "can be merged now" are answers to go on after."""
    world.github.protect(checks=["ci"], has_auto_merge=True)
    world.github.faults.add(_graphql("FORBIDDEN", "Viewer does not have permission"))
    with pytest.raises(MergeRefusedError, match="permission"):
        world.auto_merger(repo).merge_integration_pr(lane)
    world.github.faults.add(_graphql("RATE_LIMITED", "API rate limit exceeded"))
    with pytest.raises(RateLimitedError):
        world.auto_merger(repo).merge_integration_pr(lane)


def test_checks_that_pass_in_between_are_no_reason_to_wait(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """GitHub says that it can be merged now, and so it is."""
    world.github.protect(has_auto_merge=True)
    world.github.faults.add(
        Fault.status(405, message='Required status check "ci" is expected.', method="PUT")
    )
    assert world.auto_merger(repo).merge_integration_pr(lane).verdict is MergeVerdict.MERGED


def test_a_queue_that_wants_checks_first_is_waited_for(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The refusal is one to wait after."""
    world.github.protect(has_queue=True)
    world.github.faults.add(
        _graphql(
            "UNPROCESSABLE", "Required status check is expected before the pull request queues"
        )
    )
    with pytest.raises(MergeNotReadyError, match="expected"):
        world.auto_merger(repo).merge_integration_pr(lane)


# --- the double ---------------------------------------------------------------------------


def _mutation(world: World, name: str, **fields: Any) -> dict[str, Any]:
    """Send a mutation as the library does; return the answer."""
    kind = f"{name[0].upper()}{name[1:]}"
    answer = requests.post(
        f"{world.github.url}/api/graphql",
        json={
            "query": f"mutation($input: {kind}Input!) {{ {name}(input: $input)",
            "variables": {"input": fields},
        },
        headers={"Authorization": f"Bearer {world.token}"},
        timeout=60,
    )
    return dict(answer.json())


def test_the_double_refuses_as_github_does_and_knows_nothing_else(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """With status 200 and its words; what it does not know fails the test."""
    del repo
    head = world.github.pulls()[0]
    node = requests.get(
        f"{world.github.api_url}/repos/{world.full_name}/pulls/1",
        headers={"Authorization": f"Bearer {world.token}"},
        timeout=60,
    ).json()
    known = {"pullRequestId": node["node_id"], "expectedHeadOid": node["head"]["sha"]}
    queue, enable = "enqueuePullRequest", "enablePullRequestAutoMerge"

    def why(name: str, **fields: Any) -> str:
        return str(_mutation(world, name, **{**known, **fields})["errors"][0]["message"])

    assert "merge queue" in why(queue)
    assert "expected value" in why(queue, expectedHeadOid="0" * 40)
    assert "resolve to a node" in why(queue, pullRequestId="PR_x")
    assert "not allowed" in why(enable, mergeMethod="SQUASH")
    world.github.protect(methods=["merge"], checks=["ci"], has_auto_merge=True)
    assert "Squash merges are not allowed" in why(enable, mergeMethod="SQUASH")
    world.github.close_pull(1)
    assert "closed" in why(queue)
    assert head.number == 1
    assert lane.status is WorkstreamStatus.PR_CREATED
    for name, fields in (("addStar", {"starrableId": "x"}), (queue, {"pullRequestId": "x"})):
        _mutation(world, name, **fields)
        with pytest.raises(AssertionError, match="no such GraphQL request"):
            world.check()
