"""Integrating lanes: what the remote lacks is pushed, then there is one pull request."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pygit2
import pytest

from agentrelay.workstream import (
    GhWorkstreamIntegrator,
    LaneConflictError,
    PullRequestError,
    RepositoryError,
    TaskSummary,
    WorkstreamError,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
)
from agentrelay.workstream.testing import Fault, World, commit_files, read_tree, refs
from fixtures import scenarios
from tests.integration._github_client import call

BRANCH = "agentrelay/nightly/parser/integration"
REF = f"refs/heads/{BRANCH}"
MAIN = "refs/heads/main"

# Without the types that a caller who reads JSON does not have either.
_TASK: Any = TaskSummary


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
    """Return a prepared lane without commits of its own."""
    made = WorkstreamRuntime(WorkstreamSpec("parser"))
    world.runner(repo).prepare(made)
    return made


def work(lane: WorkstreamRuntime, name: str = "work.py") -> str:
    """Commit a new file in the lane's worktree; return the commit's id."""
    assert lane.state.worktree_path is not None
    return commit_files(lane.state.worktree_path, {name: f"{name}\n"}, message=f"Add {name}")


def integrate(world: World, repo: Path, lane: WorkstreamRuntime) -> None:
    """Integrate a lane with the world's settings."""
    world.integrator(repo).create_integration_pr(lane)


def asked(world: World) -> list[str]:
    """Return the methods of all requests to the API, in order."""
    return [request.method for request in world.github.requests]


def pushes(world: World) -> list[bytes]:
    """Return the commands of every push the git server got."""
    return [
        request.body
        for request in world.git.requests
        if request.method == "POST" and "git-receive-pack" in request.path and request.body
    ]


def test_commits_the_remote_lacks_are_pushed_before_the_pull_request(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The remote branch is forwarded to the lane's tip; the pull request shows all of it."""
    base = refs(world.remote_path)[REF]
    work(lane, "one.py")
    tip = work(lane, "two.py")
    world.git.clear()
    world.git.deny_non_fast_forwards = True
    integrate(world, repo, lane)
    assert refs(world.remote_path)[REF] == refs(repo)[REF] == tip
    assert refs(repo)[f"refs/remotes/origin/{BRANCH}"] == tip
    (command,) = pushes(world)
    assert f"{base} {tip} {REF}".encode() in command
    (pull,) = world.github.pulls()
    assert (pull.head, pull.base, pull.state) == (BRANCH, "main", "open")
    assert lane.status is WorkstreamStatus.PR_CREATED
    assert lane.artifacts.merge_pr_url == pull.html_url
    merged = world.github.merge_pull(pull.number)
    assert merged.merged
    assert {"one.py", "two.py"} <= set(read_tree(world.remote_path, "main"))


def test_nothing_is_pushed_where_the_remote_has_it_all(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Integrating again writes to neither side."""
    work(lane)
    integrate(world, repo, lane)
    before = refs(world.remote_path)
    world.git.clear()
    integrate(world, repo, lane)
    assert pushes(world) == []
    assert refs(world.remote_path) == before


def test_work_merged_into_the_remote_branch_alone_is_the_tip(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Task pull requests were merged there: the lane is submitted as the remote has it."""
    before = refs(repo)[REF]
    theirs = commit_files(world.remote_path, {"task.py": "1"}, message="Task", branch=BRANCH)
    world.git.clear()
    integrate(world, repo, lane)
    assert pushes(world) == []
    assert refs(world.remote_path)[REF] == theirs
    assert refs(repo)[REF] == before
    assert [pull.state for pull in world.github.pulls()] == ["open"]
    assert lane.status is WorkstreamStatus.PR_CREATED


def test_a_diverged_lane_is_a_conflict_without_effects(world: World) -> None:
    """Neither side's commits are dropped: nothing is pushed, nothing is opened."""
    scene = scenarios.diverged_remote_lane(world)
    here, there = refs(scene.repo)[REF], refs(world.remote_path)
    world.git.clear()
    with pytest.raises(LaneConflictError, match="diverged") as caught:
        integrate(world, scene.repo, scene.runtime)
    assert caught.value.hint
    assert here[:12] in str(caught.value)
    assert there[REF][:12] in str(caught.value)
    assert refs(scene.repo)[REF] == here
    assert refs(world.remote_path) == there
    assert pushes(world) == []
    assert asked(world) == []


def test_a_target_the_remote_lacks_is_an_error_without_effects(world: World, repo: Path) -> None:
    """The error names the branch; the lane's commits are not pushed for nothing."""
    lane = WorkstreamRuntime(WorkstreamSpec("parser", merge_target_branch="release"))
    world.runner(repo).prepare(lane)
    work(lane)
    before = refs(world.remote_path)
    with pytest.raises(RepositoryError, match="'release'") as caught:
        integrate(world, repo, lane)
    assert caught.value.hint
    assert refs(world.remote_path) == before
    assert asked(world) == []


def test_the_pull_request_goes_into_the_merge_target(world: World, repo: Path) -> None:
    """The target counts, not the branch the lane was cut from."""
    commit_files(world.remote_path, {"release.txt": "1"}, message="Release", branch="release")
    lane = WorkstreamRuntime(WorkstreamSpec("parser", merge_target_branch="release"))
    world.runner(repo).prepare(lane)
    work(lane)
    integrate(world, repo, lane)
    assert [(pull.head, pull.base) for pull in world.github.pulls()] == [(BRANCH, "release")]


def test_a_detached_worktree_is_a_conflict_without_effects(world: World) -> None:
    """Its commits are on no branch and would be left out."""
    scene = scenarios.detached_worktree(world)
    before = refs(world.remote_path)
    with pytest.raises(LaneConflictError, match="detached"):
        integrate(world, scene.repo, scene.runtime)
    assert refs(world.remote_path) == before
    assert asked(world) == []


def test_a_worktree_on_another_branch_is_a_conflict_without_effects(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The error says which branch it is on; back on its own the lane integrates."""
    tip = work(lane)
    handle = pygit2.Repository(str(lane.state.worktree_path))
    handle.references.create("refs/heads/experiment", tip)
    handle.set_head("refs/heads/experiment")
    before = refs(world.remote_path)
    with pytest.raises(LaneConflictError, match="experiment"):
        integrate(world, repo, lane)
    assert refs(world.remote_path) == before
    assert asked(world) == []
    handle.set_head(REF)
    integrate(world, repo, lane)
    assert refs(world.remote_path)[REF] == tip


def test_a_branch_deleted_under_its_worktree_is_a_conflict_prepare_mends(world: World) -> None:
    """The remote's older commit is not taken for the lane; the commit comes back whole."""
    scene = scenarios.branch_deleted_by_hand(world)
    before = refs(world.remote_path)
    with pytest.raises(LaneConflictError, match="deleted") as caught:
        integrate(world, scene.repo, scene.runtime)
    assert "Prepare" in str(caught.value.hint)
    assert refs(world.remote_path) == before
    assert asked(world) == []
    world.runner(scene.repo).prepare(scene.runtime)
    integrate(world, scene.repo, scene.runtime)
    assert refs(world.remote_path)[REF] == scene.commit_id
    assert len(world.github.pulls()) == 1


def test_a_lane_whose_folder_was_deleted_integrates_its_branch(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The commits are in the repository: no folder is needed to submit them."""
    tip = work(lane)
    assert lane.state.worktree_path is not None
    lane.state.worktree_path.rename(repo.with_name("away"))
    integrate(world, repo, lane)
    assert refs(world.remote_path)[REF] == tip
    assert lane.status is WorkstreamStatus.PR_CREATED


def test_uncommitted_changes_are_a_concern_once(world: World) -> None:
    """The pull request says what it does not show; repeating it does not repeat that."""
    scene = scenarios.dirty_worktree(world)
    commit_files(scene.lane.worktree_path, {"work.py": "1"}, message="Work")
    integrate(world, scene.repo, scene.runtime)
    integrate(world, scene.repo, scene.runtime)
    (concern,) = scene.runtime.artifacts.concerns
    assert "uncommitted" in concern
    (pull,) = world.github.pulls()
    assert concern in str(pull.body)
    assert (scene.lane.worktree_path / "untracked.txt").read_text() == "untracked\n"
    assert "untracked.txt" not in read_tree(world.remote_path, REF)


def test_a_lane_with_nothing_ahead_is_merged_with_a_concern(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """No creation is asked for; a target that moved on since changes nothing about it."""
    commit_files(world.remote_path, {"later.txt": "1"}, message="Later", branch="main")
    integrate(world, repo, lane)
    assert lane.status is WorkstreamStatus.MERGED
    assert "POST" not in asked(world)
    assert world.github.pulls() == []
    (concern,) = lane.artifacts.concerns
    assert "nothing to merge" in concern
    assert BRANCH in concern
    assert lane.artifacts.merge_pr_url is None


def test_commits_after_nothing_to_merge_open_a_pull_request(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """MERGED is left behind when there is work again."""
    integrate(world, repo, lane)
    work(lane)
    integrate(world, repo, lane)
    assert lane.status is WorkstreamStatus.PR_CREATED
    assert [pull.state for pull in world.github.pulls()] == ["open"]


def test_a_target_that_receives_the_commits_meanwhile_is_merged(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Between the push and the pull request somebody forwards ``main``: nothing to merge."""
    tip = work(lane)
    remote = pygit2.Repository(str(world.remote_path))

    def token() -> str:
        if refs(world.remote_path)[REF] == tip:
            remote.references[MAIN].set_target(tip)
        return str(world.token)

    world.integrator(repo, token=token).create_integration_pr(lane)
    assert refs(world.remote_path)[MAIN] == tip
    assert lane.status is WorkstreamStatus.MERGED
    assert world.github.pulls() == []
    assert any("nothing to merge" in concern for concern in lane.artifacts.concerns)


def test_integrating_again_adopts_with_one_request(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Two requests at most the first time, one every other time, one creation in all."""
    work(lane)
    integrate(world, repo, lane)
    assert len(asked(world)) <= 2
    first = lane.artifacts.merge_pr_url
    for _ in range(3):
        before = len(asked(world))
        integrate(world, repo, lane)
        assert len(asked(world)) - before == 1
    assert asked(world).count("POST") == 1
    assert lane.artifacts.merge_pr_url == first
    assert lane.artifacts.concerns == []
    assert len(world.github.pulls()) == 1


def test_a_pull_request_a_person_opened_is_adopted(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Its title and text stay the person's."""
    commit_files(world.remote_path, {"task.py": "1"}, message="Task", branch=BRANCH)
    theirs = world.github.open_pull(head=BRANCH, base="main", title="By hand", body="Mine")
    integrate(world, repo, lane)
    assert world.github.pulls() == [theirs]
    assert lane.artifacts.merge_pr_url == theirs.html_url
    assert asked(world).count("POST") == 0


def test_a_new_process_adopts_the_pull_request(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Nothing but what is on disk and at GitHub is needed for it."""
    work(lane)
    integrate(world, repo, lane)
    assert lane.state.signal_dir is not None
    (lane.state.signal_dir / "pr_created").unlink()
    fresh = WorkstreamRuntime.load(lane.state.signal_dir)
    assert fresh.artifacts.merge_pr_url is None
    integrate(world, repo, fresh)
    assert fresh.artifacts.merge_pr_url == lane.artifacts.merge_pr_url
    assert asked(world).count("POST") == 1


def test_two_threads_that_integrate_one_lane_open_one_pull_request(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Each ends with the same pull request, and one creation was asked for."""
    tip = work(lane)
    assert lane.state.signal_dir is not None
    lanes = [lane, WorkstreamRuntime.load(lane.state.signal_dir)]
    start = threading.Barrier(2)
    # Time enough for both to look before either opens one, if they were let.
    world.github.faults.add(Fault.delay(0.1, method="GET", times=2))

    def go(one: WorkstreamRuntime) -> WorkstreamStatus:
        start.wait(timeout=30)
        return world.runner(repo).integrate(one).status

    with ThreadPoolExecutor(2) as pool:
        statuses = list(pool.map(go, lanes))
    assert statuses == [WorkstreamStatus.PR_CREATED] * 2
    (pull,) = world.github.pulls()
    assert {one.artifacts.merge_pr_url for one in lanes} == {pull.html_url}
    assert asked(world).count("POST") == 1
    assert refs(world.remote_path)[REF] == tip


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_a_merged_lane_integrated_again_is_merged(
    world: World, repo: Path, lane: WorkstreamRuntime, method: Literal["merge", "squash", "rebase"]
) -> None:
    """However it was merged there is still one pull request, and GitHub gets no second."""
    work(lane, "one.py")
    work(lane, "two.py")
    integrate(world, repo, lane)
    (pull,) = world.github.pulls()
    world.github.merge_pull(pull.number, method=method)
    target = refs(world.remote_path)[MAIN]
    for _ in range(2):
        integrate(world, repo, lane)
        assert lane.status is WorkstreamStatus.MERGED
    assert [found.number for found in world.github.pulls()] == [pull.number]
    assert asked(world).count("POST") == 1
    assert len(lane.artifacts.concerns) == 1
    assert refs(world.remote_path)[MAIN] == target


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_a_merged_lane_whose_branch_was_deleted_there_is_merged(
    world: World, repo: Path, lane: WorkstreamRuntime, method: Literal["merge", "squash", "rebase"]
) -> None:
    """GitHub can delete merged branches by itself: the work is not submitted once more."""
    work(lane)
    integrate(world, repo, lane)
    world.github.merge_pull(1, method=method)
    pygit2.Repository(str(world.remote_path)).references.delete(REF)
    integrate(world, repo, lane)
    assert lane.status is WorkstreamStatus.MERGED
    assert [(pull.number, pull.merged) for pull in world.github.pulls()] == [(1, True)]
    assert asked(world).count("POST") == 1


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_new_commits_after_a_merge_open_a_second_pull_request(
    world: World, repo: Path, lane: WorkstreamRuntime, method: Literal["merge", "squash", "rebase"]
) -> None:
    """MERGED is left behind: the lane waits for the new one."""
    work(lane, "one.py")
    integrate(world, repo, lane)
    world.github.merge_pull(1, method=method)
    statuses = []
    integrate(world, repo, lane)
    statuses.append(lane.status)
    tip = work(lane, "two.py")
    integrate(world, repo, lane)
    statuses.append(lane.status)
    assert statuses == [WorkstreamStatus.MERGED, WorkstreamStatus.PR_CREATED]
    first, second = world.github.pulls()
    assert (first.merged, second.state, second.merged) == (True, "open", False)
    assert lane.artifacts.merge_pr_url == second.html_url
    assert refs(world.remote_path)[REF] == tip
    assert lane.state.signal_dir is not None
    loaded = WorkstreamRuntime.load(lane.state.signal_dir)
    assert loaded.status is WorkstreamStatus.PR_CREATED
    assert loaded.artifacts.merge_pr_url == second.html_url


def test_a_pull_request_closed_without_a_merge_is_followed_by_a_new_one(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Whoever integrates again wants the work looked at again; the closed one stays closed."""
    work(lane)
    integrate(world, repo, lane)
    world.github.close_pull(1)
    integrate(world, repo, lane)
    first, second = world.github.pulls()
    assert (first.state, first.merged, second.state) == ("closed", False, "open")
    assert lane.artifacts.merge_pr_url == second.html_url
    assert lane.status is WorkstreamStatus.PR_CREATED


def test_the_overrides_name_the_github_of_a_remote_that_is_a_path(world: World) -> None:
    """Commits go where the remote says, the pull request where the settings say."""
    repo = world.clone(by="path")
    world.github.add_repository("octo/gadgets", world.remote_path)
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    world.preparer(repo).prepare_workstream(lane)
    tip = work(lane)
    integrator = GhWorkstreamIntegrator(
        repo, token=world.token, api_url=world.github.api_url, full_name="octo/gadgets"
    )
    integrator.create_integration_pr(lane)
    assert refs(world.remote_path)[REF] == tip
    assert world.git.requests == ()
    assert world.github.pulls() == []
    (pull,) = world.github.pulls("octo/gadgets")
    assert lane.artifacts.merge_pr_url == pull.html_url
    assert "/octo/gadgets/" in pull.html_url


@pytest.mark.parametrize(
    "url", ["path", "https://gitlab.com/octo/widgets.git", "https://github.com/widgets.git"]
)
def test_a_remote_that_is_no_github_is_an_error_before_anything_is_pushed(
    world: World, url: str
) -> None:
    """The error says what to pass instead; remote, API and lane are as they were."""
    repo = world.clone(by="path")
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    world.preparer(repo).prepare_workstream(lane)
    work(lane)
    if url != "path":
        pygit2.Repository(str(repo)).remotes.set_url("origin", url)
    before = refs(world.remote_path)
    tracked = refs(repo)
    with pytest.raises(RepositoryError) as caught:
        GhWorkstreamIntegrator(repo, token=world.token).create_integration_pr(lane)
    assert "full_name" in str(caught.value.hint)
    assert refs(world.remote_path) == before
    assert refs(repo) == tracked
    assert lane.status is not WorkstreamStatus.PR_CREATED


def test_a_lane_that_was_never_prepared_fails_with_a_clear_error(world: World, repo: Path) -> None:
    """The runner's result says what is missing; nobody was asked anything."""
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    result = world.runner(repo).integrate(lane)
    assert result.status is WorkstreamStatus.FAILED
    assert result.error == "WorkstreamError: workstream 'parser' has no integration branch"
    with pytest.raises(WorkstreamError) as caught:
        integrate(world, repo, lane)
    assert "Prepare" in str(caught.value.hint)
    assert world.git.requests == ()
    assert asked(world) == []


def test_a_lane_that_was_torn_down_fails_and_pushes_nothing(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """A runtime that outlived its lane cannot bring it back half."""
    world.runner(repo).teardown(lane)
    before = refs(world.remote_path)
    with pytest.raises(RepositoryError, match="neither here nor at") as caught:
        integrate(world, repo, lane)
    assert "Prepare" in str(caught.value.hint)
    assert refs(world.remote_path) == before


LOST = {
    "connection closed": Fault.drop_answer(method="POST"),
    "answer cut short": Fault.cut(10, method="POST"),
    "bad gateway": Fault.status(502, method="POST", effect="done"),
    "captive portal": Fault.status(
        200, method="POST", effect="done", body="<html>", content_type="text/html"
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_a_creation_whose_answer_is_lost_is_adopted(
    world: World, repo: Path, lane: WorkstreamRuntime, name: str
) -> None:
    """It is looked for, not asked for again: one pull request, and no error."""
    work(lane)
    world.github.faults.add(LOST[name])
    integrate(world, repo, lane)
    assert world.github.faults.pending == ()
    (pull,) = world.github.pulls()
    assert lane.artifacts.merge_pr_url == pull.html_url
    assert asked(world).count("POST") == 1
    integrate(world, repo, lane)
    assert len(world.github.pulls()) == 1


def test_a_refused_creation_fails_and_can_be_repeated(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The commits are pushed already; the next try leaves FAILED and its error behind."""
    tip = work(lane)
    world.github.faults.add(Fault.status(403, method="POST", message="Not today"))
    result = world.runner(repo).integrate(lane)
    assert result.status is WorkstreamStatus.FAILED
    assert result.error is not None
    assert PullRequestError.__name__ in result.error
    assert "Not today" in result.error
    assert refs(world.remote_path)[REF] == tip
    again = world.runner(repo).integrate(lane)
    assert (again.status, again.error) == (WorkstreamStatus.PR_CREATED, None)
    assert lane.status is WorkstreamStatus.PR_CREATED
    assert len(world.github.pulls()) == 1


def test_title_and_body_say_what_the_lane_brings(world: World, repo: Path) -> None:
    """Workstream, parent, branches, tasks with links and concerns: a reviewer's start."""
    spec = WorkstreamSpec("parser", parent_workstream_id="compiler")
    lane = WorkstreamRuntime(spec)
    world.runner(repo).prepare(lane)
    link = f"{world.github.web_url}/octo/widgets/pull/41"
    lane.artifacts.task_summaries = [
        TaskSummary("lexer", "Splits text into words", link, ("Slow on long lines",)),
        TaskSummary("grammar"),
    ]
    lane.artifacts.concerns.append("Two tasks touched one file")
    work(lane)
    integrate(world, repo, lane)
    (pull,) = world.github.pulls()
    assert pull.title == "Integrate workstream parser"
    body = str(pull.body)
    for expected in (
        "`parser`",
        "`compiler`",
        f"`{BRANCH}` into `main`",
        "`lexer`",
        f"({link})",
        "Splits text into words",
        "Slow on long lines",
        "`grammar`",
        "Two tasks touched one file",
    ):
        assert expected in body
    (sent,) = [request.body for request in world.github.requests if request.method == "POST"]
    assert json.loads(sent)["body"] == body


def test_the_section_of_an_adopted_pull_request_is_refreshed_when_the_lane_changed(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """One request more, once; what people wrote around it stays to the byte."""
    work(lane)
    lane.artifacts.task_summaries = [TaskSummary("lexer", "Splits text")]
    integrate(world, repo, lane)
    edit_body(world, "Ann: looks good  \r\n\r\n{}\r\n\r\n- [x] read")
    lane.artifacts.task_summaries.append(TaskSummary("grammar", "Reads words"))
    integrate(world, repo, lane)
    assert asked(world) == ["GET", "PATCH"]
    (pull,) = world.github.pulls()
    assert str(pull.body).startswith("Ann: looks good  \r\n\r\n<!-- agentrelay")
    assert str(pull.body).endswith("-->\r\n\r\n- [x] read")
    assert "Reads words" in str(pull.body)
    integrate(world, repo, lane)
    assert asked(world) == ["GET", "PATCH", "GET"]
    assert lane.artifacts.concerns == []
    assert lane.status is WorkstreamStatus.PR_CREATED


def test_a_section_somebody_edited_is_left_alone_and_a_concern_says_so(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """What they wrote between the markers stays, and nothing is sent."""
    work(lane)
    integrate(world, repo, lane)
    (pull,) = world.github.pulls()
    edited = str(pull.body).replace("It was opened by a program", "Ann opened it")
    edit_body(world, edited)
    lane.artifacts.task_summaries = [TaskSummary("lexer", "Splits text")]
    for _ in range(2):
        integrate(world, repo, lane)
        assert [found.body for found in world.github.pulls()] == [edited]
    (concern,) = lane.artifacts.concerns
    assert "somebody edited" in concern
    assert asked(world).count("PATCH") == 0


def test_a_description_that_cannot_be_refreshed_is_a_concern(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The lane is submitted all the same; the next try makes up for it and says no more of it."""
    work(lane)
    integrate(world, repo, lane)
    lane.artifacts.task_summaries = [TaskSummary("lexer", "Splits text")]
    world.github.faults.add(Fault.status(403, message="Resource not accessible", method="PATCH"))
    result = world.runner(repo).integrate(lane)
    assert (result.status, result.error) == (WorkstreamStatus.PR_CREATED, None)
    (concern,) = lane.artifacts.concerns
    assert "out of date" in concern
    integrate(world, repo, lane)
    (pull,) = world.github.pulls()
    assert "Splits text" in str(pull.body)
    assert "out of date" not in str(pull.body)
    assert lane.artifacts.concerns == [concern]


def test_a_new_process_does_not_take_the_tasks_out_of_the_description(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """Summaries are not on disk: who does not know them leaves them where they are."""
    work(lane)
    lane.artifacts.task_summaries = [TaskSummary("lexer", "Splits text")]
    integrate(world, repo, lane)
    (before,) = world.github.pulls()
    assert lane.state.signal_dir is not None
    integrate(world, repo, WorkstreamRuntime.load(lane.state.signal_dir))
    assert world.github.pulls() == [before]
    assert asked(world).count("PATCH") == 0


def test_the_token_in_use_is_in_no_description() -> None:
    """Whatever it looks like, and however it got into an agent's text."""
    token = "tr0ub4dor-and-3"
    with World(token=token) as world:
        repo = world.clone()
        lane = WorkstreamRuntime(WorkstreamSpec("parser"))
        world.runner(repo).prepare(lane)
        work(lane)
        lane.artifacts.task_summaries = [TaskSummary("lexer", f"```\n{token}\n```")]
        integrate(world, repo, lane)
        lane.artifacts.concerns.append(f"used {token}")
        integrate(world, repo, lane)
        sent = [request.body or b"" for request in world.github.requests]
        assert [b"***" in body for body in sent] == [False, True, False, True]
        assert not [body for body in sent if token.encode() in body]


@pytest.mark.parametrize(
    ("artifacts", "where"),
    [
        ({"concerns": "one text"}, "the lane's concerns"),
        ({"concerns": [None]}, "one of the lane's concerns"),
        ({"task_summaries": None}, "task_summaries"),
        ({"task_summaries": ["t"]}, "task summary 1"),
        ({"task_summaries": [TaskSummary("a"), _TASK(1)]}, "the task_id of task summary 2"),
        ({"task_summaries": [_TASK("t", {"a": 1})]}, "the description of task summary 1"),
        ({"task_summaries": [_TASK("t", role=7)]}, "the role of task summary 1"),
        ({"task_summaries": [_TASK("t", concerns="one text")]}, "the concerns of task summary 1"),
        ({"task_summaries": [_TASK("t", concerns=(b"x",))]}, "one of the concerns of task sum"),
    ],
)
def test_what_is_no_text_is_refused_by_its_place_before_anything_is_pushed(
    world: World, repo: Path, lane: WorkstreamRuntime, artifacts: dict[str, Any], where: str
) -> None:
    """Agents' answers come as they come; a lane is integrated with texts, or not at all."""
    work(lane)
    before = refs(world.remote_path)
    for name, value in artifacts.items():
        setattr(lane.artifacts, name, value)
    for step in (
        lambda: integrate(world, repo, lane),
        lambda: world.auto_merger(repo).merge_integration_pr(lane),
    ):
        with pytest.raises(WorkstreamError, match=f"^{where}") as caught:
            step()
        assert caught.value.hint
    assert refs(world.remote_path) == before
    assert asked(world) == []


def test_the_hidden_marks_of_the_description_hold_no_token_either() -> None:
    """Not even where a lane is named after it; the section is still kept up to date."""
    token = "tr0ub4dor-and-3"
    with World(token=token) as world:
        repo = world.clone()
        lane = WorkstreamRuntime(WorkstreamSpec(f"lane-{token}"))
        world.runner(repo).prepare(lane)
        work(lane)
        integrate(world, repo, lane)
        lane.artifacts.task_summaries = [TaskSummary("lexer", "Splits text")]
        integrate(world, repo, lane)
        (pull,) = world.github.pulls()
        assert token not in str(pull.body)
        assert "Splits text" in str(pull.body)
        assert asked(world) == ["GET", "POST", "GET", "PATCH"]


def edit_body(world: World, template: str) -> None:
    """Edit the body of the first pull request as a person does; ``{}`` is what it was."""
    (pull,) = world.github.pulls()
    body = template.replace("{}", str(pull.body))
    path, token = f"/pulls/{pull.number}", f"Bearer {world.token}"
    answer = call(world.github, "PATCH", path, {"body": body}, Authorization=token)
    assert answer.status_code == 200
    world.github.clear()


@dataclass
class _Pushes:
    """A remote whose branch moves under a push, once."""

    path: Path
    theirs: list[str] = field(default_factory=list)

    def __call__(self, updates: object) -> dict[str, str]:
        """Commit to the branch the push is about."""
        del updates
        if not self.theirs:
            self.theirs.append(commit_files(self.path, {"t": "1"}, message="T", branch=BRANCH))
        return {}


def test_a_branch_that_moves_under_the_push_is_not_overwritten(
    world: World, repo: Path, lane: WorkstreamRuntime
) -> None:
    """The other commit stays, no pull request is opened, and the next try says diverged."""
    work(lane)
    moving = _Pushes(world.remote_path)
    world.git.hooks.append(moving)
    result = world.runner(repo).integrate(lane)
    assert result.status is WorkstreamStatus.FAILED
    assert refs(world.remote_path)[REF] == moving.theirs[0]
    assert world.github.pulls() == []
    with pytest.raises(LaneConflictError, match="diverged"):
        integrate(world, repo, lane)
