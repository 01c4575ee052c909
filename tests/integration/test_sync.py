"""Bringing a lane up to date with its base, by merge or by rebase."""

from __future__ import annotations

import os
from pathlib import Path

import pygit2
import pytest

from agentrelay.workstream import (
    ConflictKind,
    LaneConflictError,
    LaneWorkspace,
    MergeConflictError,
    RemoteUnavailableError,
    RepositoryError,
    WorkstreamRuntime,
    WorkstreamSpec,
    open_lane,
    rescued,
)
from agentrelay.workstream.testing import Fault, World, commit_files, refs
from tests.integration._workspaces import contents, picture, repo_of, workspace_in, write


@pytest.fixture
def lane(agentrelay_world: World) -> LaneWorkspace:
    """Return the workspace of a lane that was just prepared."""
    return workspace_in(agentrelay_world)


def base_gets(world: World, message: str = "Base", **files: str | None) -> str:
    """Let somebody push a commit to the base; ``__`` in a name stands for a dot."""
    named = {name.replace("__", "."): text for name, text in files.items()}
    return commit_files(world.remote_path, named, message=message, branch="main")


def test_the_base_is_merged_into_the_lane(agentrelay_world: World, lane: LaneWorkspace) -> None:
    """Branch, index and files; untracked files stay; it can be pushed, and again is nothing."""
    write(lane, a="1\n")
    before = lane.commit("A").commit_id
    write(lane, note="untracked\n")
    base = base_gets(agentrelay_world, README__md="base\n", b="1\n", run=None)
    user = pygit2.Repository(str(repo_of(lane)))
    users = (user.head.name, str(user.head.target), user.status())
    found = lane.sync()
    made, brought = found.commits
    assert (made.commit_id, made.parent_ids) == (found.commit_id, (before, base))
    assert made.subject == f"Merge branch 'origin/main' into {lane.branch}"
    assert (brought.commit_id, found.base_commit, found.previous) == (base, base, before)
    assert (found.method, found.up_to_date, found.conflicts) == ("merge", False, ())
    status = lane.status()
    assert (status.staged, status.unstaged, status.untracked) == ((), (), ("note",))
    assert status.base is not None
    assert status.base.behind == 0
    assert (lane.path / "README.md").read_text() == "base\n"
    assert lane.push() == found.commit_id
    again = lane.sync()
    assert (again.up_to_date, again.commits) == (True, ())
    assert (user.head.name, str(user.head.target), user.status()) == users


def test_a_lane_without_work_moves_forward(agentrelay_world: World, lane: LaneWorkspace) -> None:
    """There is nothing to merge; either way."""
    base = base_gets(agentrelay_world, b="1\n")
    assert lane.sync().commit_id == base
    base = base_gets(agentrelay_world, b="2\n")
    assert lane.sync("rebase").commit_id == base
    assert (lane.path / "b").read_text() == "2\n"
    assert lane.status().is_clean


def test_a_rebase_puts_the_lanes_commits_on_top(
    agentrelay_world: World, lane: LaneWorkspace
) -> None:
    """Their authors and messages stay; the former ones are in the reflogs, and are no litter."""
    write(lane, a="1\n")
    lane.commit("First\n\nWhy.", author="Ä <a@b>")
    write(lane, b="1\n")
    taken = lane.commit("Second").commit_id
    write(lane, c="1\n")
    before = lane.commit("Third").commit_id
    base = base_gets(agentrelay_world, "The same", b="1\n")
    found = lane.sync("rebase")
    assert [commit.subject for commit in found.commits] == ["Third", "First", "The same"]
    first = found.commits[1]
    assert (first.parent_ids, first.body, first.author_name) == ((base,), "Why.", "Ä")
    assert (found.dropped, found.kept_ref) == ((taken,), None)
    assert lane.status().is_clean
    assert set(contents(lane)) >= {"a", "b", "c"}
    admin = Path(pygit2.Repository(str(lane.path)).path)
    branch_log = admin.parents[1] / "logs/refs/heads" / lane.branch
    for log in (branch_log, admin / "logs" / "HEAD"):
        last = log.read_text().splitlines()[-1]
        assert last.startswith(f"{before} {found.commit_id} ")
        assert last.endswith("\tsync: rebase onto origin/main")
    lane.push()
    assert rescued(repo_of(lane)) == []
    assert lane.sync("rebase").up_to_date


def test_without_reflogs_the_former_commits_get_a_ref(
    agentrelay_world: World, lane: LaneWorkspace
) -> None:
    """They would be out of reach otherwise."""
    write(lane, a="1\n")
    before = lane.commit("A").commit_id
    base_gets(agentrelay_world, b="1\n")
    handle = pygit2.Repository(str(repo_of(lane)))
    handle.config["core.logAllRefUpdates"] = "false"
    Path(handle.path, "logs/refs/heads", lane.branch).unlink()
    found = lane.sync("rebase")
    assert found.kept_ref is not None
    assert refs(repo_of(lane))[found.kept_ref] == before
    (kept,) = rescued(repo_of(lane))
    assert (kept.label, kept.commit_id) == ("rebased", before)


def test_what_was_pushed_is_not_rebased(agentrelay_world: World, lane: LaneWorkspace) -> None:
    """A push goes forward only; others' commits are as good as ours. A merge still works."""
    write(lane, a="1\n")
    lane.commit("A")
    lane.push()
    base_gets(agentrelay_world, b="1\n")
    before = picture(lane)
    with pytest.raises(LaneConflictError, match="forward only") as caught:
        lane.sync("rebase")
    assert "'merge'" in str(caught.value.hint)
    lane.sync()
    assert picture(lane) != before
    other = workspace_in(agentrelay_world, repo_of(lane), "lexer")
    commit_files(agentrelay_world.remote_path, {"t": "1\n"}, message="T", branch=other.branch)
    base_gets(agentrelay_world, c="1\n")
    with pytest.raises(LaneConflictError, match="others"):
        other.sync("rebase")


@pytest.mark.parametrize("method", ["merge", "rebase"])
def test_a_conflict_with_the_base_changes_nothing(
    agentrelay_world: World, lane: LaneWorkspace, method: str
) -> None:
    """There is no half-done rebase or merge; the preview says where they conflict."""
    write(lane, fine="1\n")
    lane.commit("Fine")
    write(lane, README__md="ours\n")
    ours = lane.commit("Ours").commit_id
    base = base_gets(agentrelay_world, README__md="base\n")
    before = picture(lane)
    with pytest.raises(MergeConflictError, match=r"'README\.md'") as caught:
        lane.sync(method)  # type: ignore[arg-type]  # one of the two
    preview = caught.value.preview
    assert preview is not None
    sides = (preview.source_commit, preview.target_commit)
    assert sides == ((base, ours) if method == "merge" else (ours, base))
    assert [conflict.kind for conflict in preview.conflicts] == [ConflictKind.CONTENT]
    assert (caught.value.repository, caught.value.status) == (str(lane.path), None)
    assert picture(lane) == before


def test_conflicts_may_be_left_to_be_resolved(agentrelay_world: World, lane: LaneWorkspace) -> None:
    """As git leaves them; then status, resolve and commit conclude the merge."""
    write(lane, README__md="ours\n", kept="ours\n", gone="1\n")
    (lane.path / "run").unlink()
    before = lane.commit("Ours").commit_id
    base = base_gets(agentrelay_world, README__md="base\n", run="changed\n", kept="b\n", n="1\n")
    write(lane, note="untracked\n")
    found = lane.sync(leave_conflicts=True)
    assert (found.commit_id, found.up_to_date) == (before, False)
    assert [conflict.path for conflict in found.conflicts] == ["README.md", "kept", "run"]
    status = lane.status()
    assert (status.operation, status.conflicted) == ("merge", ("README.md", "kept", "run"))
    assert [change.path for change in status.staged] == ["n"]
    assert (status.unstaged, status.untracked) == ((), ("note",))
    shown = (lane.path / "README.md").read_text()
    assert shown == "<<<<<<< HEAD\nours\n=======\nbase\n>>>>>>> origin/main\n"
    assert (lane.path / "run").read_text() == "changed\n"
    with pytest.raises(LaneConflictError, match="merge is in progress"):
        lane.sync()
    write(lane, README__md="both\n", kept="both\n")
    (lane.path / "note").unlink()
    lane.resolve(status.conflicted)
    made = lane.commit("Merge the base")
    assert made.parent_ids == (before, base)
    assert contents(lane)["README.md"] == b"both\n"
    assert lane.status().operation is None
    assert lane.sync().up_to_date


def test_leaving_conflicts_goes_on_where_it_was_stopped(
    agentrelay_world: World, lane: LaneWorkspace
) -> None:
    """Index and files are there, what says that there is a merge is not: it is written."""
    write(lane, README__md="ours\n")
    lane.commit("Ours")
    base = base_gets(agentrelay_world, README__md="base\n", n="1\n")
    lane.sync(leave_conflicts=True)
    head = Path(pygit2.Repository(str(lane.path)).path, "MERGE_HEAD")
    head.unlink()
    with pytest.raises(MergeConflictError):
        lane.sync()
    lane.sync(leave_conflicts=True)
    assert head.read_text() == f"{base}\n"
    assert lane.status().conflicted == ("README.md",)


def test_conflicts_are_not_left_over_a_draft(agentrelay_world: World, lane: LaneWorkspace) -> None:
    """What is in no commit stays as it is, and so does all else."""
    write(lane, README__md="ours\n")
    lane.commit("Ours")
    base_gets(agentrelay_world, README__md="base\n", n="1\n")
    write(lane, n="draft\n")
    before = picture(lane)
    with pytest.raises(LaneConflictError, match="'n'"):
        lane.sync(leave_conflicts=True)
    assert picture(lane) == before


def test_renames_that_exclude_each_other_are_raised(
    agentrelay_world: World, lane: LaneWorkspace
) -> None:
    """Which of the two names it has is for a person to say."""
    text = (lane.path / "README.md").read_text()
    (lane.path / "README.md").rename(lane.path / "OURS.md")
    lane.commit("Ours")
    base_gets(agentrelay_world, README__md=None, BASE__md=text)
    with pytest.raises(MergeConflictError):
        lane.sync(leave_conflicts=True)
    assert lane.status().is_clean


def test_where_git_would_move_files_aside_the_conflict_is_raised(
    agentrelay_world: World, lane: LaneWorkspace
) -> None:
    """Also when it was asked to be left."""
    write(lane, d="a file\n")
    lane.commit("A file")
    commit_files(agentrelay_world.remote_path, {"d/e": "1\n"}, message="A folder", branch="main")
    with pytest.raises(MergeConflictError) as caught:
        lane.sync(leave_conflicts=True)
    assert caught.value.preview is not None
    assert caught.value.preview.paths == ("d",)
    assert lane.status().is_clean


@pytest.mark.parametrize("ours", ["binary", "links"])
def test_what_has_no_lines_is_left_as_it_was_here(
    agentrelay_world: World, lane: LaneWorkspace, ours: str
) -> None:
    """A binary file and a link get no markers; ours stays, as git leaves it."""
    path = lane.path / "thing"
    if ours == "binary":
        path.write_bytes(b"\0ours")
        commit_files(agentrelay_world.remote_path, {"thing": "\0base"}, message="B", branch="main")
    else:
        path.symlink_to("ours")
        bare = pygit2.Repository(str(agentrelay_world.remote_path))
        main = bare.references["refs/heads/main"].peel(pygit2.Commit)
        builder = bare.TreeBuilder(main.tree)
        builder.insert("thing", bare.create_blob(b"base"), pygit2.enums.FileMode.LINK)
        who = main.author
        bare.create_commit("refs/heads/main", who, who, "B", builder.write(), [main.id])
    lane.commit("Ours")
    lane.sync(leave_conflicts=True)
    assert lane.status().conflicted == ("thing",)
    assert path.read_bytes() == b"\0ours" if ours == "binary" else path.readlink() == Path("ours")


def test_an_empty_side_of_a_conflict_has_its_name_too(
    agentrelay_world: World, lane: LaneWorkspace
) -> None:
    """On either side, as git writes it."""
    commit_files(lane.path, {"a": "1\n", "b": "1\n"}, message="Ours, and pushed")
    lane.push()
    base = pygit2.Repository(str(agentrelay_world.remote_path))
    base.references["refs/heads/main"].set_target(lane.status().commit_id)
    lane.sync()
    write(lane, a="", b="ours\n")
    lane.commit("Ours")
    base_gets(agentrelay_world, a="base\n", b="")
    lane.sync(leave_conflicts=True)
    shown = [(lane.path / name).read_text() for name in "ab"]
    assert shown == [
        "<<<<<<< HEAD\n=======\nbase\n>>>>>>> origin/main\n",
        "<<<<<<< HEAD\nours\n=======\n>>>>>>> origin/main\n",
    ]


def test_a_base_that_is_away_is_said(agentrelay_world: World, lane: LaneWorkspace) -> None:
    """Without asking the remote what is known here counts; what is known nowhere is an error."""
    agentrelay_world.git.faults.add(Fault.status(503, times=50))
    with pytest.raises(RemoteUnavailableError):
        lane.sync()
    assert lane.sync(fetch=False).up_to_date
    agentrelay_world.git.faults.clear()
    local = commit_files(repo_of(lane), {"l": "1\n"}, message="Local", branch="main")
    assert lane.sync().base_commit == local
    runtime = WorkstreamRuntime(WorkstreamSpec("parser", base_branch="nowhere"), lane.runtime.state)
    with pytest.raises(RepositoryError, match="base 'nowhere'"):
        open_lane(runtime, token=agentrelay_world.token).sync()


def test_a_child_follows_its_parent(agentrelay_world: World, lane: LaneWorkspace) -> None:
    """A lane's base may be another lane's branch, pushed or not."""
    runtime = WorkstreamRuntime(
        WorkstreamSpec("errors", "parser", base_branch=lane.branch, merge_target_branch=lane.branch)
    )
    agentrelay_world.preparer(repo_of(lane)).prepare_workstream(runtime)
    child = open_lane(runtime, token=agentrelay_world.token)
    write(lane, a="1\n")
    done = lane.commit("A").commit_id
    assert child.sync().commit_id == done


def test_a_conflict_in_a_name_that_is_no_text_is_left_and_concluded(
    agentrelay_world: World, lane: LaneWorkspace
) -> None:
    """Git names files by bytes."""
    name = os.fsdecode(b"z\xe9")
    try:
        (lane.path / name).write_text("ours\n")
    except OSError:
        pytest.skip("the file system wants text")
    ours = lane.commit("Ours").commit_id
    base = pygit2.Repository(str(agentrelay_world.remote_path))
    main = base.references["refs/heads/main"]
    entry = b"100644 z\xe9\0" + base.create_blob(b"theirs\n").raw
    tree = base.write(pygit2.enums.ObjectType.TREE, main.peel(pygit2.Tree).read_raw() + entry)
    who = pygit2.Signature("A", "a@example.invalid", 1_704_067_200)
    theirs = base.create_commit(main.name, who, who, "B", tree, [main.target])
    left = lane.sync(leave_conflicts=True)
    assert [conflict.path for conflict in left.conflicts] == [name]
    assert lane.status().conflicted == (name,)
    (lane.path / name).write_text("both\n")
    lane.resolve([name])
    assert lane.commit("Merge").parent_ids == (ours, str(theirs))
