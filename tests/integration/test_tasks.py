"""Tasks' branches: started off a lane, merged into it three ways, finished."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pygit2
import pytest

from agentrelay.workstream import (
    ConflictKind,
    CredentialsRejectedError,
    LaneConflictError,
    LaneNameError,
    LaneWorkspace,
    MergeConflictError,
    PushRejectedError,
    RepositoryError,
    WorkstreamError,
    reconcile,
)
from agentrelay.workstream._git.fast_forward import fast_forward
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream.testing import Fault, World, commit_files, refs
from tests._examples import refusal
from tests.integration._workspaces import contents, picture, repo_of, workspace_in, write

TASK = "agentrelay/nightly/write"
REF = f"refs/heads/{TASK}"


@pytest.fixture
def lane(agentrelay_world: World) -> LaneWorkspace:
    """Return the workspace of a lane that was just prepared."""
    return workspace_in(agentrelay_world)


def work(lane: LaneWorkspace, message: str, branch: str = TASK, **files: str | None) -> str:
    """Commit to a branch without any checkout; ``__`` in a name stands for a dot."""
    named = {name.replace("__", "."): text for name, text in files.items()}
    return commit_files(repo_of(lane), named, message=message, branch=branch)


# -- start


def test_a_task_starts_where_its_lane_is(lane: LaneWorkspace) -> None:
    """Only here, on nobody's checkout; again it is the same, wherever the lane is by then."""
    write(lane, a="1\n")
    tip = lane.commit("A").commit_id
    started = lane.start_task("write")
    assert (started.branch, started.commit_id, started.remote_commit) == (TASK, tip, None)
    assert (started.ahead, started.behind, started.is_merged) == (0, 0, True)
    done = work(lane, "Work", b="1\n")
    write(lane, c="1\n")
    lane.commit("C")
    again = lane.start_task("write")
    assert (again.commit_id, again.ahead, again.behind, again.is_merged) == (done, 1, 1, False)
    assert lane.status().branch == lane.branch


def test_a_task_may_start_at_the_remote_too(agentrelay_world: World, lane: LaneWorkspace) -> None:
    """It goes forward there, and what others pushed to it is left alone."""
    assert lane.start_task("write", push=True).remote_commit == lane.status().commit_id
    assert refs(agentrelay_world.remote_path)[REF] == lane.status().commit_id
    done = work(lane, "Work", b="1\n")
    assert lane.start_task("write", push=True).remote_commit == done
    theirs = commit_files(agentrelay_world.remote_path, {"t": "1\n"}, message="Theirs", branch=TASK)
    assert lane.start_task("write", push=True).remote_commit == theirs
    work(lane, "Ours", c="1\n")
    with pytest.raises(LaneConflictError, match="diverged"):
        lane.start_task("write", push=True)
    assert refs(agentrelay_world.remote_path)[REF] == theirs


def test_what_the_remote_says_of_a_started_task_is_said(
    agentrelay_world: World, lane: LaneWorkspace
) -> None:
    """The branch is there, here; a repetition pushes it."""
    agentrelay_world.git.faults.add(Fault.refuse_ref(REF, "no tasks here"))
    with pytest.raises(PushRejectedError, match="no tasks here"):
        lane.start_task("write", push=True)
    assert REF in refs(repo_of(lane))
    agentrelay_world.git.faults.clear()
    assert lane.start_task("write", push=True).remote_commit is not None


@pytest.mark.parametrize("task_id", ["parser", "PARSER", "a/b", "", "x.lock", "-x"])
def test_a_task_cannot_have_a_name_that_is_no_branch_beside_the_lane(
    lane: LaneWorkspace, task_id: str
) -> None:
    """Nor the lane's own; nothing is created."""
    before = refs(repo_of(lane))
    for verb in (lane.start_task, lane.merge_task, lane.finish_task):
        with pytest.raises(LaneNameError) as caught:
            verb(task_id)
        assert caught.value.rule
    assert refs(repo_of(lane)) == before


def test_a_task_is_one_lanes_only(agentrelay_world: World, lane: LaneWorkspace) -> None:
    """Two lanes of a graph, cut from one commit, cannot take each other's for their own."""
    other = workspace_in(agentrelay_world, repo_of(lane), "lexer")
    lane.start_task("write")
    for verb in (other.start_task, other.finish_task):
        with pytest.raises(LaneConflictError, match="nightly/parser") as caught:
            verb("write")
        assert caught.value.obstacle == REF
    assert other.tasks() == ()
    assert [task.task_id for task in lane.tasks()] == ["write"]
    # When it is over the name is free.
    lane.finish_task("write")
    assert other.start_task("write").branch == TASK


@pytest.mark.parametrize("name", ["lexer", "Lexer"])
def test_a_task_cannot_be_where_another_lanes_branch_is(
    agentrelay_world: World, lane: LaneWorkspace, name: str
) -> None:
    """The error says which ref is in the way."""
    workspace_in(agentrelay_world, repo_of(lane), "lexer")
    with pytest.raises(LaneConflictError) as caught:
        lane.start_task(name)
    assert caught.value.obstacle == "refs/heads/agentrelay/nightly/lexer/integration"


def test_a_strangers_branch_is_not_taken_for_a_task(lane: LaneWorkspace) -> None:
    """One that goes on from where the lane is, or has nothing of its own, may be one."""
    work(lane, "Ours", b="1\n")
    assert lane.start_task("write").ahead == 1
    handle = pygit2.Repository(str(repo_of(lane)))
    handle.references.create("refs/heads/agentrelay/nightly/behind", handle.head.target)
    write(lane, a="1\n")
    lane.commit("A")
    assert (lane.start_task("behind").ahead, lane.start_task("behind").behind) == (0, 1)
    commit_files(repo_of(lane), {"x": "1\n"}, message="X", branch="agentrelay/nightly/stray")
    with pytest.raises(LaneConflictError, match="is there already"):
        lane.start_task("stray")


def test_a_stale_note_of_a_task_that_is_gone_is_no_hindrance(
    agentrelay_world: World, lane: LaneWorkspace
) -> None:
    """Somebody deleted the branch by hand; whoever starts the task anew has it."""
    other = workspace_in(agentrelay_world, repo_of(lane), "lexer")
    lane.start_task("write")
    pygit2.Repository(str(repo_of(lane))).references.delete(REF)
    other.start_task("write")
    assert lane.tasks() == ()
    with pytest.raises(LaneConflictError, match="nightly/lexer"):
        lane.start_task("write")


def test_tasks_of_a_lane_that_is_gone_are_anybodys(
    agentrelay_world: World, lane: LaneWorkspace
) -> None:
    """Nobody could finish them otherwise; what is in no lane stays all the same."""
    other = workspace_in(agentrelay_world, repo_of(lane), "lexer")
    lane.start_task("write")
    work(lane, "Work", b="1\n")
    agentrelay_world.teardown(repo_of(lane)).teardown_workstream(lane.runtime)
    assert [task.task_id for task in other.tasks()] == ["write"]
    with pytest.raises(LaneConflictError, match="not in lane"):
        other.finish_task("write")
    other.merge_task("write")
    assert other.finish_task("write") == (REF,)


def test_of_two_lanes_that_start_a_task_one_has_it(
    agentrelay_world: World, lane: LaneWorkspace
) -> None:
    """At the same moment, from the same commit."""
    other = workspace_in(agentrelay_world, repo_of(lane), "lexer")
    ready = threading.Barrier(2)

    def start(workspace: LaneWorkspace, task_id: str) -> bool:
        ready.wait(30)
        return refusal(lambda: workspace.start_task(task_id)) is None

    with ThreadPoolExecutor(2) as pool:
        for task_id in ("a", "b", "c"):
            both = [pool.submit(start, workspace, task_id) for workspace in (lane, other)]
            assert sorted(one.result(60) for one in both) == [False, True]
    listed = [[task.task_id for task in workspace.tasks()] for workspace in (lane, other)]
    assert sorted([*listed[0], *listed[1]]) == ["a", "b", "c"]


# -- merge


def test_a_merged_task_is_in_branch_index_and_files(lane: LaneWorkspace) -> None:
    """One merge commit, as GitHub makes it; the task stays where it is, and again is nothing."""
    lane.start_task("write")
    done = work(lane, "Work", b="1\n", README__md="new\n", run=None)
    write(lane, a="1\n", draft="untracked\n")
    (lane.path / "draft").rename(lane.path / "note")
    before = lane.commit("A", ["a"]).commit_id
    merged = lane.merge_task("write", author="A <a@b>")
    (made, brought) = merged.commits
    assert (made.commit_id, made.parent_ids) == (merged.commit_id, (before, done))
    assert (made.subject, made.author_name) == (f"Merge branch '{TASK}' into {lane.branch}", "A")
    assert (brought.commit_id, merged.task_commit, merged.previous) == (done, done, before)
    assert (merged.method, merged.already_merged, merged.is_certain) == ("merge", False, True)
    status = lane.status()
    assert (status.commit_id, status.staged, status.unstaged) == (merged.commit_id, (), ())
    assert status.untracked == ("note",)
    assert contents(lane)["README.md"] == b"new\n"
    assert (lane.path / "README.md").read_text() == "new\n"
    assert not (lane.path / "run").exists()
    log = Path(pygit2.Repository(str(lane.path)).path, "logs", "HEAD").read_text()
    assert log.splitlines()[-1].endswith("\tmerge task write: merge")
    again = lane.merge_task("write", "squash")
    assert again.already_merged
    assert (again.commit_id, again.commits) == (merged.commit_id, ())
    assert [task.is_merged for task in lane.tasks()] == [True]


def test_a_squashed_task_is_one_commit(lane: LaneWorkspace) -> None:
    """Its message lists what it was made of; of a single commit it is that commit's own."""
    lane.start_task("write")
    work(lane, "First\n\nWhy.\n", b="1\n")
    squashed = lane.merge_task("write", "squash")
    assert (squashed.commits[0].subject, squashed.commits[0].body) == ("First", "Why.")
    assert squashed.commits[0].parent_ids == (squashed.previous,)
    assert lane.merge_task("write", "squash").already_merged
    work(lane, "Second", c="1\n")
    work(lane, "Third", d="1\n")
    (made,) = lane.merge_task("write", "squash").commits
    assert made.subject == f"Squash branch '{TASK}'"
    assert made.body == "* First\n* Second\n* Third"
    assert lane.merge_task("write", "squash", message="x").already_merged
    assert lane.finish_task("write") == (REF,)


def test_a_rebased_task_keeps_its_commits_authors(lane: LaneWorkspace) -> None:
    """One by one on top of the lane, without what the lane has already."""
    lane.start_task("write")
    work(lane, "First", b="1\n")
    second = work(lane, "Second", a="1\n")
    work(lane, "Third", c="1\n")
    fourth = work(lane, "Fourth", d="1\n")
    work(lane, "Empty", d="1\n")
    write(lane, a="1\n")
    lane.commit("The same")
    write(lane, d="1\n", e="1\n")
    before = lane.commit("The same and more").commit_id
    rebased = lane.merge_task("write", "rebase")
    assert [commit.subject for commit in rebased.commits] == ["Empty", "Third", "First"]
    assert rebased.commits[-1].parent_ids == (before,)
    assert rebased.dropped == (second, fourth)
    assert lane.merge_task("write", "rebase").already_merged
    assert lane.status().is_clean
    assert contents(lane)["b"] == b"1\n"


def test_a_rebased_task_on_top_of_the_lane_is_just_followed(lane: LaneWorkspace) -> None:
    """Nothing is made anew that need not be."""
    lane.start_task("write")
    done = work(lane, "Work", b="1\n")
    assert lane.merge_task("write", "rebase").commit_id == done


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_a_conflict_changes_nothing_and_says_where(lane: LaneWorkspace, method: str) -> None:
    """The same data as a preview's, path by path."""
    lane.start_task("write")
    done = work(lane, "Theirs", README__md="theirs\n", x="1\n")
    write(lane, README__md="ours\n")
    tip = lane.commit("Ours").commit_id
    before = picture(lane)
    with pytest.raises(MergeConflictError, match=r"'README\.md'") as caught:
        lane.merge_task("write", method)  # type: ignore[arg-type]  # one of the three
    preview = caught.value.preview
    assert preview is not None
    assert (preview.source_commit, preview.target_commit) == (done, tip)
    (conflict,) = preview.conflicts
    assert (conflict.path, conflict.kind) == ("README.md", ConflictKind.CONTENT)
    assert conflict.hunks[0].source_lines == ("theirs",)
    assert conflict.hunks[0].target_lines == ("ours",)
    assert picture(lane) == before


@pytest.mark.parametrize("way", ["changed", "staged", "untracked", "ignored", "gone"])
def test_what_is_in_no_commit_is_neither_overwritten_nor_mixed(
    lane: LaneWorkspace, way: str
) -> None:
    """The path is named; after it is out of the way the task can be merged."""
    lane.start_task("write")
    work(lane, "Theirs", README__md="theirs\n", new="1\n", x__log="1\n")
    handle = pygit2.Repository(str(lane.path))
    path = {"untracked": "new", "ignored": "x.log"}.get(way, "run")
    if way == "ignored":
        Path(handle.path).parents[1].joinpath("info/exclude").write_text("*.log\n")
    (lane.path / path).unlink(missing_ok=True)
    if way != "gone":
        (lane.path / path).write_text("draft\n")
    if way == "staged":
        handle.index.add(path)
        handle.index.write()
    before = picture(lane)
    with pytest.raises(LaneConflictError, match=f"in no commit: '{path}'"):
        lane.merge_task("write")
    assert picture(lane) == before
    objects = [*Path(handle.path).parents[1].glob("objects/??/*")]
    with pytest.raises(LaneConflictError):
        lane.merge_task("write")
    assert [*Path(handle.path).parents[1].glob("objects/??/*")] == objects


def test_a_merge_goes_on_where_it_was_stopped(lane: LaneWorkspace) -> None:
    """Files that are as the merge will have them count as clean."""
    lane.start_task("write")
    work(lane, "Theirs", README__md="theirs\n", new="1\n")
    write(lane, README__md="theirs\n", new="1\n")
    lane.merge_task("write", "squash")
    assert lane.status().is_clean


def test_somebody_elses_operation_is_waited_for(lane: LaneWorkspace) -> None:
    """A merge that somebody began is theirs to finish."""
    lane.start_task("write")
    work(lane, "Theirs", new="1\n")
    admin = Path(pygit2.Repository(str(lane.path)).path)
    (admin / "MERGE_HEAD").write_text(f"{lane.status().commit_id}\n")
    for verb in (lambda: lane.merge_task("write"), lane.sync):
        with pytest.raises(LaneConflictError, match="merge is in progress"):
            verb()


def test_a_merge_among_the_commits_is_not_rebased(lane: LaneWorkspace) -> None:
    """What was decided in it would be lost; merge and squash keep it."""
    lane.start_task("write")
    first = work(lane, "First", b="1\n")
    other = work(lane, "Other", "side", c="1\n")
    handle = pygit2.Repository(str(repo_of(lane)))
    tree = handle[first].peel(pygit2.Tree).id
    who = handle.default_signature
    handle.create_commit(REF, who, who, "M", tree, [pygit2.Oid(hex=first), pygit2.Oid(hex=other)])
    write(lane, a="1\n")
    lane.commit("A")
    with pytest.raises(LaneConflictError, match="is a merge") as caught:
        lane.merge_task("write", "rebase")
    assert "squash" in str(caught.value.hint)
    lane.merge_task("write", "squash")


def test_the_newer_of_both_branches_is_merged(agentrelay_world: World, lane: LaneWorkspace) -> None:
    """Somebody works on a task elsewhere; what they pushed is asked for only if wanted."""
    lane.start_task("write", push=True)
    theirs = commit_files(agentrelay_world.remote_path, {"t": "1\n"}, message="Theirs", branch=TASK)
    assert lane.merge_task("write").already_merged
    assert lane.merge_task("write", fetch=True).task_commit == theirs
    # What is newer here counts as well, and what is only there.
    ours = commit_files(
        agentrelay_world.remote_path, {"u": "1\n"}, message="U", branch="agentrelay/nightly/far"
    )
    assert lane.merge_task("far", fetch=True).task_commit == ours
    assert lane.merge_task("far").already_merged
    assert [task.task_id for task in lane.tasks()] == ["far", "write"]
    work(lane, "Ours", v="1\n")
    commit_files(agentrelay_world.remote_path, {"w": "1\n"}, message="W", branch=TASK)
    with pytest.raises(LaneConflictError, match="diverged"):
        lane.merge_task("write", fetch=True)


def test_what_cannot_be_merged_is_said(lane: LaneWorkspace) -> None:
    """An unknown branch, method, message or author; a history of its own."""
    lane.start_task("write")
    questions: list[Callable[[], object]] = [
        lambda: lane.merge_task("unknown"),
        lambda: lane.merge_task("unknown", fetch=True),
        lambda: lane.merge_task("write", "fold"),  # type: ignore[arg-type]  # that is the point
        lambda: lane.merge_task("write", "rebase", message="x"),
        lambda: lane.merge_task("write", "rebase", author="A <a@b>"),
        lambda: lane.merge_task("write", message=" "),
        lambda: lane.merge_task("write", author="nobody"),
        lambda: lane.sync("squash"),  # type: ignore[arg-type]  # that is the point
        lambda: lane.sync("rebase", leave_conflicts=True),
    ]
    for ask in questions:
        with pytest.raises(RepositoryError) as caught:
            ask()
        assert isinstance(caught.value, WorkstreamError)
        assert caught.value.hint
    handle = pygit2.Repository(str(repo_of(lane)))
    who = handle.default_signature
    tree = handle.TreeBuilder().write()
    handle.create_commit("refs/heads/agentrelay/nightly/alien", who, who, "X", tree, [])
    with pytest.raises(MergeConflictError, match="no history in common"):
        lane.merge_task("alien")


@pytest.mark.parametrize("name", [b".git", b"../../evil"])
@pytest.mark.parametrize("method", ["squash", "rebase"])
def test_names_that_lead_elsewhere_are_not_written(
    lane: LaneWorkspace, name: bytes, method: str
) -> None:
    """An agent can commit any name; all is as it was, also what is there by that name."""
    outside = repo_of(lane) / ".worktrees" / "evil"
    outside.write_text("evil\n")
    lane.start_task("write")
    handle = pygit2.Repository(str(repo_of(lane)))
    tip = handle.references[REF].peel(pygit2.Commit)
    blob = handle.create_blob(b"evil\n").raw
    entries = {str(item.name).encode(): (b"%o" % item.filemode, item.id.raw) for item in tip.tree}
    entries |= dict.fromkeys((b"!first", name), (b"100644", blob))
    listed = sorted(entries.items(), key=lambda item: item[0] + b"/" * (item[1][0] == b"40000"))
    data = b"".join(b"%b %b\0%b" % (mode, each, raw_id) for each, (mode, raw_id) in listed)
    tree = handle.write(pygit2.enums.ObjectType.TREE, data)
    who = "A <a@example.invalid> 1704067200 +0000"
    raw = f"tree {tree}\nparent {tip.id}\nauthor {who}\ncommitter {who}\n\nEvil\n"
    commit = handle.write(pygit2.enums.ObjectType.COMMIT, raw.encode())
    handle.references.create(REF, commit, force=True)
    before = picture(lane)
    with pytest.raises(WorkstreamError, match=rf"{re.escape(name.decode())}'"):
        lane.merge_task("write", method)  # type: ignore[arg-type]  # one of the three
    assert picture(lane) == before
    assert outside.read_text() == "evil\n"


def test_a_wrong_token_is_said(agentrelay_world: World) -> None:
    """The same chain and the same errors as for every other step."""
    lane = workspace_in(agentrelay_world, token="wrong-token-wrong-token")
    verbs: list[Callable[[], object]] = [
        lambda: lane.start_task("write", push=True),
        lambda: lane.merge_task("write", fetch=True),
        lambda: lane.finish_task("write", remote=True),
        lane.sync,
    ]
    for verb in verbs:
        with pytest.raises(CredentialsRejectedError) as caught:
            verb()
        assert "wrong-token" not in str(caught.value)


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_a_part_of_the_history_that_is_missing_is_said(lane: LaneWorkspace, method: str) -> None:
    """With the path of the worktree, and what to do; nothing is changed."""
    lane.start_task("write")
    first = work(lane, "First", b="1\n")
    work(lane, "Second", c="1\n")
    write(lane, a="1\n")
    lane.commit("A")
    before = picture(lane)
    (repo_of(lane) / ".git" / "objects" / first[:2] / first[2:]).unlink()
    with pytest.raises(RepositoryError) as caught:
        lane.merge_task("write", method)  # type: ignore[arg-type]  # one of the three
    assert caught.value.path == str(lane.path)
    assert picture(lane) == before


def test_a_branch_that_somebody_else_moves_is_not_moved(lane: LaneWorkspace) -> None:
    """The commit that was looked at must still be the branch's when files are to be written."""
    lane.start_task("write")
    done = work(lane, "Work", b="1\n")
    seen = lane.status().commit_id
    write(lane, a="1\n")
    lane.commit("Meanwhile")
    before = picture(lane)
    with pytest.raises(LaneConflictError, match="moved by another program") as caught:
        fast_forward(
            open_repository(lane.path),
            f"refs/heads/{lane.branch}",
            tip=seen,
            target=done,
            message="x",
        )
    assert caught.value.obstacle == f"refs/heads/{lane.branch}"
    assert picture(lane) == before


# -- finish


def test_a_finished_task_leaves_nothing(agentrelay_world: World, lane: LaneWorkspace) -> None:
    """Here and, if asked, at the remote; again there is nothing to do."""
    before = refs(repo_of(lane))
    lane.start_task("write", push=True)
    done = work(lane, "Work", b="1\n")
    lane.start_task("write", push=True)
    with pytest.raises(LaneConflictError, match="not in lane"):
        lane.finish_task("write", remote=True)
    assert refs(repo_of(lane))[REF] == refs(agentrelay_world.remote_path)[REF] == done
    lane.merge_task("write", "squash")
    tracking = f"refs/remotes/origin/{TASK}"
    assert lane.finish_task("write", remote=True) == (tracking, REF)
    assert REF not in refs(agentrelay_world.remote_path)
    after = refs(repo_of(lane))
    assert {**after, f"refs/heads/{lane.branch}": ""} == {**before, f"refs/heads/{lane.branch}": ""}
    assert lane.finish_task("write", remote=True) == ()
    assert lane.tasks() == ()


def test_what_others_pushed_to_a_task_is_not_deleted(
    agentrelay_world: World, lane: LaneWorkspace
) -> None:
    """The remote's branch is looked at before it goes, and then nothing goes."""
    lane.start_task("write", push=True)
    theirs = commit_files(agentrelay_world.remote_path, {"t": "1\n"}, message="Theirs", branch=TASK)
    with pytest.raises(LaneConflictError, match="not in lane"):
        lane.finish_task("write", remote=True)
    assert refs(agentrelay_world.remote_path)[REF] == theirs
    assert REF in refs(repo_of(lane))
    assert lane.finish_task("write") == (REF,)


@pytest.mark.parametrize("is_merged", [True, False])
def test_a_remote_branch_that_is_gone_is_forgotten_if_nothing_is_lost(
    agentrelay_world: World, lane: LaneWorkspace, *, is_merged: bool
) -> None:
    """Its remote-tracking ref may be the last that leads to what others made."""
    tracking = f"refs/remotes/origin/{TASK}"
    lane.start_task("write", push=True)
    if not is_merged:
        commit_files(agentrelay_world.remote_path, {"t": "1\n"}, message="T", branch=TASK)
        lane.start_task("write", push=True)
    pygit2.Repository(str(agentrelay_world.remote_path)).references.delete(REF)
    assert lane.finish_task("write", remote=True) == (REF,)
    assert (tracking in refs(repo_of(lane))) is not is_merged


def test_a_task_that_is_checked_out_is_not_deleted(lane: LaneWorkspace) -> None:
    """In the user's own checkout, or in another worktree; merging leaves both alone."""
    lane.start_task("write")
    work(lane, "Work", b="1\n")
    handle = pygit2.Repository(str(repo_of(lane)))
    handle.set_head(REF)
    lane.merge_task("write")
    with pytest.raises(LaneConflictError, match="checked out") as caught:
        lane.finish_task("write")
    assert caught.value.obstacle == str(repo_of(lane))
    handle.set_head("refs/heads/main")
    elsewhere = repo_of(lane).with_name("elsewhere")
    handle.add_worktree("elsewhere", str(elsewhere), handle.references[REF])
    before = pygit2.Repository(str(elsewhere)).status()
    lane.merge_task("write")
    with pytest.raises(LaneConflictError, match="checked out") as caught:
        lane.finish_task("write")
    assert caught.value.obstacle == str(elsewhere)
    assert pygit2.Repository(str(elsewhere)).status() == before


def test_commits_that_undo_each_other_are_not_in_every_lane(lane: LaneWorkspace) -> None:
    """They change nothing, and are in the lane by ancestry alone."""
    lane.start_task("write")
    work(lane, "There", b="1\n")
    work(lane, "And back", b=None)
    with pytest.raises(LaneConflictError, match="not in lane"):
        lane.finish_task("write")
    lane.merge_task("write")
    assert lane.finish_task("write") == (REF,)


def test_other_steps_leave_tasks_alone(agentrelay_world: World, lane: LaneWorkspace) -> None:
    """A lane's end is not its tasks'; nor are they lanes that nobody keeps."""
    lane.start_task("write", push=True)
    done = work(lane, "Work", b="1\n")
    found = reconcile(
        repo_of(lane),
        token=agentrelay_world.token,
        api_url=agentrelay_world.github.api_url,
        full_name=agentrelay_world.full_name,
    )
    assert [one.graph + "/" + one.workstream_id for one in found.lanes] == ["nightly/parser"]
    agentrelay_world.teardown(repo_of(lane)).teardown_workstream(lane.runtime)
    assert refs(repo_of(lane))[REF] == done
    assert REF in refs(agentrelay_world.remote_path)
