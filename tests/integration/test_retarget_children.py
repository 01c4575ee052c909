"""A parent lane is merged: the lanes below it go where it went, pull request and all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from agentrelay.workstream import (
    GhWorkstreamIntegrator,
    LaneBusyError,
    LaneConflictError,
    MergeVerdict,
    PullRequestError,
    RemoteUnavailableError,
    RetargetedChild,
    RetryPolicy,
    TaskSummary,
    WorkstreamError,
    WorkstreamGraph,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
    retarget_children,
)
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.implementations._lane_record import lane_lock
from agentrelay.workstream.testing import Fault, World, commit_files, refs
from agentrelay.workstream.testing._loopback_wire import Request, Response
from tests.integration._github_client import call

GRAPH = WorkstreamGraph(
    "nightly", [WorkstreamSpec("errors", parent_workstream_id="parser"), WorkstreamSpec("parser")]
)
PARENT, CHILD = GRAPH.branch_of("parser"), GRAPH.branch_of("errors")

Method = Literal["merge", "squash", "rebase"]


@dataclass
class Family:
    """A parent lane that is submitted, and a child of it that is submitted to it."""

    world: World
    repo: Path
    lanes: dict[str, WorkstreamRuntime] = field(default_factory=dict)

    @property
    def parent(self) -> WorkstreamRuntime:
        """The lane above."""
        return self.lanes["parser"]

    @property
    def child(self) -> WorkstreamRuntime:
        """The lane below."""
        return self.lanes["errors"]

    def begin(self, name: str) -> None:
        """Prepare a lane as the graph has it, commit to it and submit it."""
        lane = self.lanes[name] = WorkstreamRuntime(GRAPH.spec_for(name))
        runner = self.world.runner(self.repo)
        runner.prepare(lane)
        self.work(name)
        assert runner.integrate(lane).status is WorkstreamStatus.PR_CREATED

    def work(self, name: str, what: str = "work") -> str:
        """Commit to a lane's worktree."""
        worktree = self.lanes[name].state.worktree_path
        assert worktree is not None
        return commit_files(worktree, {f"{name}-{what}.txt": "1\n"}, message=f"{name} {what}")

    def merge_parent(self, method: Method = "merge") -> None:
        """Merge the parent's pull request, and mark the lane."""
        self.world.github.merge_pull(1, method=method)
        runner = self.world.runner(self.repo)
        assert runner.check(self.parent).verdict is MergeVerdict.MERGED
        self.world.github.clear()

    def retarget(self, **settings: Any) -> RetargetedChild:
        """Retarget the child."""
        integrator = self.world.integrator(self.repo, **settings)
        (done,) = retarget_children(self.parent, [self.child], integrator)
        return done

    def edit(self, number: int, **fields: str) -> None:
        """Change a pull request as a person does."""
        token = f"Bearer {self.world.token}"
        answer = call(self.world.github, "PATCH", f"/pulls/{number}", fields, Authorization=token)
        assert answer.status_code == 200, answer.text
        self.world.github.clear()

    def reload(self) -> None:
        """Forget both runtimes, as a new process has."""
        for name, lane in self.lanes.items():
            assert lane.state.signal_dir is not None
            self.lanes[name] = WorkstreamRuntime.load(lane.state.signal_dir)

    @property
    def asked(self) -> list[str]:
        """Methods of the requests to the API since the log was cleared."""
        return [request.method for request in self.world.github.requests]

    @property
    def pulls(self) -> list[tuple[int, str, str]]:
        """Number, base and state of every pull request."""
        return [(pull.number, pull.base, pull.state) for pull in self.world.github.pulls()]

    @property
    def record(self) -> dict[str, Any]:
        """The child's record as it is on disk."""
        assert self.child.state.signal_dir is not None
        document = json.loads((self.child.state.signal_dir / "lane.json").read_text())
        assert isinstance(document, dict)
        return document

    def body(self, number: int = 2) -> str:
        """Return the body of a pull request."""
        return str(self.world.github.pulls()[number - 1].body)

    def url(self, number: int = 2) -> str:
        """Return the page of a pull request."""
        return str(self.world.github.pulls()[number - 1].html_url)


@pytest.fixture
def family() -> Iterator[Family]:
    """Return both lanes, submitted."""
    with World() as world:
        made = Family(world, world.clone())
        made.begin("parser")
        made.begin("errors")
        assert made.pulls == [(1, "main", "open"), (2, PARENT, "open")]
        yield made


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_a_child_goes_where_its_parent_was_merged(family: Family, method: Method) -> None:
    """One look, one change of the base, one of the description; then everything agrees."""
    family.merge_parent(method)
    done = family.retarget()
    assert done == RetargetedChild("errors", PARENT, "main", family.url(), changed=True)
    assert family.asked == ["GET", "PATCH", "PATCH"]
    assert family.pulls == [(1, "main", "closed"), (2, "main", "open")]
    spec = WorkstreamSpec("errors")
    assert family.child.spec == spec
    family.reload()
    assert family.child.spec == spec


def test_what_follows_goes_on_with_the_new_target(family: Family) -> None:
    """Integrating finds the one pull request, checking and tearing down go by it; no rescue."""
    family.merge_parent("merge")
    family.retarget()
    family.reload()
    runner = family.world.runner(family.repo)
    runner.teardown(family.parent)
    assert PARENT not in " ".join(refs(family.world.remote_path))
    family.work("errors", "more")
    assert runner.integrate(family.child).status is WorkstreamStatus.PR_CREATED
    assert family.pulls == [(1, "main", "closed"), (2, "main", "open")]
    assert runner.check(family.child).verdict is MergeVerdict.OPEN
    family.world.github.merge_pull(2)
    assert runner.check(family.child).verdict is MergeVerdict.MERGED
    runner.teardown(family.child)
    assert family.child.artifacts.concerns == []
    left = {*refs(family.repo), *refs(family.world.remote_path)}
    assert not [ref for ref in left if "nightly" in ref]


def test_repeated_it_changes_nothing(family: Family) -> None:
    """One look, in the same process and in one that comes later."""
    family.merge_parent()
    family.retarget()
    before = family.record
    for _ in range(2):
        family.world.github.clear()
        done = family.retarget()
        assert (done.changed, done.error, done.new_target) == (False, None, "main")
        assert done.pull_request_url == family.url()
        assert family.asked == ["GET"]
        assert family.record == before
        family.reload()


def test_the_description_says_why_and_keeps_the_rest(family: Family) -> None:
    """The top is new; tasks that this process does not know stay, and people's words too."""
    family.child.artifacts.task_summaries.append(TaskSummary("t1", "Did a thing"))
    family.world.runner(family.repo).integrate(family.child)
    section = family.body()
    family.edit(2, body=f"Hello\r\n\r\n{section}\n\nBye")
    family.reload()
    family.merge_parent("squash")
    family.retarget()
    body, url = family.body(), family.url(1)
    assert body.startswith("Hello\r\n\r\n<!-- agentrelay:")
    assert body.endswith("-->\n\nBye")
    assert f"- **Branches:** `{CHILD}` into `main`\n- **Cut from:** `main`\n" in body
    assert (
        f"- **Retargeted:** from `{PARENT}` to `main`, because workstream `parser` was merged by "
        f"[pull request 1]({url})\n\n## Tasks" in body
    )
    assert "Did a thing" in body
    assert "**Parent:**" not in body


def test_the_reason_stays_when_the_lane_is_integrated_again(family: Family) -> None:
    """The record keeps it: a section that is rendered anew says it too."""
    family.merge_parent()
    family.retarget()
    family.child.artifacts.task_summaries.append(TaskSummary("t1", "Did a thing"))
    family.world.runner(family.repo).integrate(family.child)
    assert "Did a thing" in family.body()
    assert f"- **Retargeted:** from `{PARENT}` to `main`" in family.body()


def test_a_section_that_somebody_edited_is_left_alone_and_it_is_said(family: Family) -> None:
    """The pull request is retargeted all the same; a concern says what is out of date."""
    edited = family.body().replace("waits for review", "waits")
    family.edit(2, body=edited)
    family.merge_parent()
    assert family.retarget().changed
    assert family.body() == edited
    assert family.pulls[1] == (2, "main", "open")
    assert "somebody edited" in " ".join(family.child.artifacts.concerns)


def test_what_github_did_itself_is_found(family: Family) -> None:
    """The parent's branch went first: GitHub moved the pull request, the rest follows."""
    family.merge_parent()
    del_ref = f"refs/heads/{PARENT}"
    _delete(family.world.remote_path, del_ref)
    assert family.pulls[1] == (2, "main", "open")
    family.world.github.clear()
    done = family.retarget()
    assert (done.changed, done.old_target, done.new_target) == (True, PARENT, "main")
    assert family.asked == ["GET", "PATCH"]  # of the description only
    assert family.record["merge_target_branch"] == "main"


def test_one_that_github_closed_is_said_and_the_next_goes_to_the_new_target(
    family: Family,
) -> None:
    """Merged by a push and deleted: GitHub closes what goes into it; the lane is retargeted."""
    family.world.github.close_pull(2)
    family.merge_parent()
    done = family.retarget()
    url = family.url()
    assert done.reason == f"{url} is closed: it was left alone"
    assert (done.changed, done.pull_request_url) == (True, url)
    assert family.asked == ["GET"]
    assert family.world.runner(family.repo).integrate(family.child).error is None
    assert family.pulls == [(1, "main", "closed"), (2, PARENT, "closed"), (3, "main", "open")]


def test_a_child_that_was_merged_into_its_parent_has_reached_its_target(family: Family) -> None:
    """It is merged, and stays so; only where it is cut from follows, for the teardown."""
    family.world.github.merge_pull(2, method="merge")
    family.merge_parent()
    done = family.retarget()
    assert done.reason == f"{family.url()} was merged into it already"
    assert (done.old_target, done.new_target, done.error) == (PARENT, PARENT, None)
    assert family.asked == ["GET"]
    check = family.world.merge_checker(family.repo).check_merged(family.child)
    assert check.verdict is MergeVerdict.MERGED
    family.world.runner(family.repo).teardown(family.child)
    assert not [ref for ref in refs(family.repo) if "rescue" in ref]


def test_work_that_came_after_a_merge_into_the_parent_goes_to_the_new_target(
    family: Family,
) -> None:
    """The merged pull request does not hold it, so it is not done."""
    family.world.github.merge_pull(2, method="merge")
    family.work("errors", "more")
    family.merge_parent()
    done = family.retarget()
    assert (done.changed, done.new_target) == (True, "main")
    assert "is merged: it was left alone" in str(done.reason)
    assert family.world.runner(family.repo).integrate(family.child).error is None
    assert family.pulls[2] == (3, "main", "open")


def test_one_that_goes_into_a_third_branch_is_not_moved(family: Family) -> None:
    """Somebody wanted that: an error with both branches, and nothing is changed."""
    commit_files(family.world.remote_path, {"next.txt": "1"}, message="Next", branch="next")
    family.edit(2, base="next")
    family.merge_parent()
    before = family.record
    done = family.retarget()
    assert isinstance(done.error, LaneConflictError)
    assert "into 'next', not into 'main'" in str(done.error)
    assert (done.changed, done.new_target) == (False, PARENT)
    assert (family.record, family.pulls[1]) == (before, (2, "next", "open"))


def test_a_second_one_into_the_new_target_is_in_the_way(family: Family) -> None:
    """Two into one target cannot be; the error names both."""
    theirs = family.world.github.open_pull(head=CHILD, base="main", title="By hand")
    family.merge_parent()
    done = family.retarget()
    assert isinstance(done.error, LaneConflictError)
    assert theirs.html_url in str(done.error)
    assert family.pulls[1:] == [(2, PARENT, "open"), (3, "main", "open")]


def test_a_refused_change_is_told_and_leaves_the_lane_as_it_was(family: Family) -> None:
    """GitHub's own words; the record still says what the pull request does."""
    family.merge_parent()
    family.world.github.faults.add(Fault.status(422, method="PATCH", message="Not today"))
    before = family.record
    done = family.retarget()
    assert isinstance(done.error, PullRequestError)
    assert "Not today" in str(done.error)
    assert done.error.status == 422
    assert (family.record, family.pulls[1]) == (before, (2, PARENT, "open"))
    assert family.child.spec == GRAPH.spec_for("errors")
    assert family.retarget().error is None
    assert family.pulls[1] == (2, "main", "open")


def test_one_that_is_closed_just_then_is_said(family: Family) -> None:
    """GitHub refuses to change it; what it is by then counts."""
    family.merge_parent()
    github, answer = family.world.github, family.world.github.handle

    def race(request: Request) -> Response:
        if request.method == "PATCH":
            github.handle = answer  # type: ignore[method-assign]  # only once
            github.close_pull(2)
        return answer(request)

    github.handle = race  # type: ignore[method-assign]  # the moment between two requests
    done = family.retarget()
    assert (done.error, done.new_target) == (None, "main")
    assert done.reason == f"{family.url()} is closed: it was left alone"
    assert family.record["merge_target_branch"] == "main"


def test_one_that_github_moves_just_then_is_adopted(family: Family) -> None:
    """Its base is what was wanted, and that is no failure."""
    family.merge_parent()
    github, answer = family.world.github, family.world.github.handle

    def race(request: Request) -> Response:
        if request.method == "PATCH":
            github.handle = answer  # type: ignore[method-assign]  # only once
            _delete(family.world.remote_path, f"refs/heads/{PARENT}")
        return answer(request)

    github.handle = race  # type: ignore[method-assign]  # the moment between two requests
    done = family.retarget()
    assert (done.error, done.changed, done.new_target) == (None, True, "main")
    assert family.pulls[1] == (2, "main", "open")


def test_a_change_whose_answer_was_lost_is_found(family: Family) -> None:
    """Looked at before it is asked for again."""
    family.merge_parent()
    family.world.github.faults.add(Fault.drop_answer(method="PATCH"))
    assert family.retarget().error is None
    assert family.asked[:3] == ["GET", "PATCH", "GET"]
    assert family.pulls[1] == (2, "main", "open")


def test_a_silent_github_is_an_error_of_that_child_alone(family: Family) -> None:
    """One that was never prepared gets its specification whatever GitHub does."""
    family.merge_parent()
    family.world.github.faults.add(Fault.status(502, times=100))
    spare = WorkstreamRuntime(replace(GRAPH.spec_for("errors"), id="spare"))
    integrator = family.world.integrator(family.repo, policy=RetryPolicy(attempts=1))
    broken, fresh = retarget_children(family.parent, [family.child, spare], integrator)
    assert isinstance(broken.error, RemoteUnavailableError)
    assert (fresh.error, fresh.changed, fresh.pull_request_url) == (None, True, None)
    assert spare.spec == WorkstreamSpec("spare")


def test_a_child_that_somebody_works_on_is_busy(family: Family) -> None:
    """No step is taken beside another one."""
    family.merge_parent()
    lane = Lane.of(family.repo, "nightly", "errors")
    with lane_lock(open_repository(family.repo), lane, timeout_s=10):
        done = family.retarget(lane_timeout_s=0.01)
    assert isinstance(done.error, LaneBusyError)
    assert family.pulls[1] == (2, PARENT, "open")


def test_a_lane_that_goes_somewhere_else_is_left_alone(family: Family) -> None:
    """Neither asked about nor changed; where it was cut from follows, if that was the parent."""
    family.merge_parent()
    family.child.spec = replace(family.child.spec, merge_target_branch="release")
    done = family.retarget()
    assert (done.old_target, done.new_target, done.error) == ("release", "release", None)
    assert family.asked == []
    assert family.child.spec.base_branch == "main"
    other = WorkstreamRuntime(WorkstreamSpec("docs"))
    family.world.runner(family.repo).prepare(other)
    integrator = family.world.integrator(family.repo)
    (left,) = retarget_children(family.parent, [other], integrator)
    assert left == RetargetedChild("docs", "main", "main")


def test_a_parent_that_is_not_merged_moves_nobody(family: Family) -> None:
    """Nothing is asked; a check that says so is enough, and so is the mark."""
    integrator = family.world.integrator(family.repo)
    family.world.github.clear()
    with pytest.raises(WorkstreamError, match="nothing says that workstream 'parser' was merged"):
        retarget_children(family.parent, [family.child], integrator)
    with pytest.raises(WorkstreamError, match="no integration branch"):
        retarget_children(WorkstreamRuntime(GRAPH.spec("parser")), [family.child], integrator)
    assert family.asked == []
    family.world.github.merge_pull(1)
    check = family.world.merge_checker(family.repo).check_merged(family.parent)
    (done,) = retarget_children(family.parent, [family.child], integrator, check=check)
    assert (done.error, done.new_target) == (None, "main")


def test_a_setting_of_another_kind_is_refused_before_anything_is_done(family: Family) -> None:
    """By name, for all children at once."""
    family.merge_parent()
    integrator: Any = GhWorkstreamIntegrator(family.repo, remote=7)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(WorkstreamError, match="remote"):
        retarget_children(family.parent, [family.child], integrator)
    assert family.pulls[1] == (2, PARENT, "open")


def test_the_lane_itself_is_no_child_of_its_own(family: Family) -> None:
    """Passed by mistake, it keeps its target."""
    family.merge_parent()
    integrator = family.world.integrator(family.repo)
    (done,) = retarget_children(family.parent, [family.parent], integrator)
    assert isinstance(done.error, LaneConflictError)
    assert family.parent.spec == GRAPH.spec("parser")


# --- a teardown before that ---------------------------------------------------------------


@pytest.mark.parametrize("method", ["merge", "squash"])
def test_a_parents_branches_stay_while_a_pull_request_goes_into_them(
    family: Family, method: Method
) -> None:
    """Deleting one would close it, or move it unasked; retargeted, they go."""
    family.merge_parent(method)
    runner = family.world.runner(family.repo)
    runner.teardown(family.parent)
    url = family.url()
    assert f"{url} is open into '{PARENT}'" in " ".join(family.parent.artifacts.concerns)
    for repository in (family.repo, family.world.remote_path):
        assert f"refs/heads/{PARENT}" in refs(repository)
    assert family.pulls[1] == (2, PARENT, "open")
    family.retarget()
    family.parent.artifacts.concerns.clear()
    runner.teardown(family.parent)
    assert family.parent.artifacts.concerns == []
    for repository in (family.repo, family.world.remote_path):
        assert f"refs/heads/{PARENT}" not in refs(repository)
    assert family.pulls[1] == (2, "main", "open")


def test_where_github_does_not_answer_the_branches_stay(family: Family) -> None:
    """Not knowing counts as open, though the parent's own pull request surely is merged."""
    family.merge_parent("squash")
    family.world.github.faults.add(Fault.status(403, path="base=", message="Not today", times=9))
    family.world.runner(family.repo).teardown(family.parent)
    assert "could not be asked" in " ".join(family.parent.artifacts.concerns)
    assert f"refs/heads/{PARENT}" in refs(family.world.remote_path)


def test_a_lane_without_work_keeps_the_branch_that_tasks_go_into(family: Family) -> None:
    """Its commits are all in the target, and yet deleting its branch would close theirs."""
    lane = WorkstreamRuntime(WorkstreamSpec("docs"))
    runner = family.world.runner(family.repo)
    runner.prepare(lane)
    branch = GRAPH.branch_of("parser").replace("parser", "docs")
    commit_files(family.world.remote_path, {"t.txt": "1"}, message="Task", branch="task")
    task = family.world.github.open_pull(head="task", base=branch, title="Task")
    runner.teardown(lane)
    assert f"{task.html_url} is open into '{branch}'" in " ".join(lane.artifacts.concerns)
    assert f"refs/heads/{branch}" in refs(family.world.remote_path)
    family.world.github.close_pull(task.number)
    family.world.github.faults.add(Fault.status(503, path="base="))
    lane.artifacts.concerns.clear()
    runner.teardown(lane)
    assert lane.artifacts.concerns == []
    assert f"refs/heads/{branch}" not in refs(family.world.remote_path)


def _delete(path: Path, ref: str) -> None:
    """Delete a ref of a bare repository, as a person does at GitHub."""
    open_repository(path).handle.references.delete(ref)
