"""Pushing and pulling a lane, and what it changed: against a server that may say no."""

from __future__ import annotations

from pathlib import Path

import pygit2
import pytest

from agentrelay.workstream import (
    AheadBehind,
    CredentialsRejectedError,
    FileChange,
    LaneConflictError,
    LaneWorkspace,
    LeaseLostError,
    PushRejectedError,
    RepositoryError,
    WorkstreamError,
)
from agentrelay.workstream.testing import Fault, World, commit_files, refs
from tests.integration._workspaces import workspace_in, write


@pytest.fixture
def workspace(agentrelay_world: World) -> LaneWorkspace:
    """Return the workspace of a lane that was just prepared."""
    return workspace_in(agentrelay_world)


def there(world: World, workspace: LaneWorkspace) -> str | None:
    """Return where the remote has the lane's branch."""
    return refs(world.remote_path).get(f"refs/heads/{workspace.branch}")


def others_push(world: World, workspace: LaneWorkspace, **files: str | None) -> str:
    """Let somebody else push a commit to the lane's branch at the remote."""
    named = {name.replace("__", "."): text for name, text in files.items() if text is not None}
    return commit_files(world.remote_path, named, message="Theirs", branch=workspace.branch)


def everything(workspace: LaneWorkspace) -> object:
    """Return all that must be as it was after a refusal."""
    files = {path.name: path.read_bytes() for path in workspace.path.rglob("*") if path.is_file()}
    status = workspace.status()
    return files, status.commit_id, status.staged, status.unstaged, status.untracked


# -- push


def test_push_brings_the_lanes_commits_to_the_remote(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """Again is harmless, and afterwards nothing is ahead."""
    write(workspace, a="1\n")
    made = workspace.commit("A")
    assert workspace.push() == made.commit_id
    assert there(agentrelay_world, workspace) == made.commit_id
    assert workspace.status().remote == AheadBehind(0, 0)
    assert workspace.push() == made.commit_id


def test_push_never_takes_others_commits_away(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """Whether they were seen already or not, the remote's branch stays where it is."""
    theirs = others_push(agentrelay_world, workspace, theirs="1\n")
    write(workspace, a="1\n")
    workspace.commit("A")
    with pytest.raises(LeaseLostError):
        workspace.push()
    with pytest.raises(LaneConflictError, match="diverged"):
        workspace.pull()
    with pytest.raises(PushRejectedError, match="non-fast-forward") as caught:
        workspace.push()
    assert caught.value.ref == f"refs/heads/{workspace.branch}"
    assert there(agentrelay_world, workspace) == theirs


def test_a_refused_push_says_why_in_the_servers_words(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """A rule of the remote's is for a person to look at."""
    write(workspace, a="1\n")
    workspace.commit("A")
    ref = f"refs/heads/{workspace.branch}"
    agentrelay_world.git.faults.add(Fault.refuse_ref(ref, "GH013: secrets were found"))
    with pytest.raises(PushRejectedError, match="GH013: secrets were found") as caught:
        workspace.push()
    assert not isinstance(caught.value, LeaseLostError)


def test_push_makes_a_branch_again_that_was_never_seen(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """Without a remote-tracking branch the remote is asked first."""
    repo = pygit2.Repository(str(workspace.path.parents[2]))
    repo.references.delete(f"refs/remotes/origin/{workspace.branch}")
    write(workspace, a="1\n")
    made = workspace.commit("A")
    assert workspace.push() == there(agentrelay_world, workspace) == made.commit_id


def test_a_branch_that_was_deleted_there_is_not_made_again_unasked(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """Somebody may have merged and deleted it; push and pull say so."""
    pygit2.Repository(str(agentrelay_world.remote_path)).references.delete(
        f"refs/heads/{workspace.branch}"
    )
    write(workspace, a="1\n")
    workspace.commit("A")
    with pytest.raises(LeaseLostError, match="not there any more"):
        workspace.push()
    with pytest.raises(LaneConflictError, match="no branch"):
        workspace.pull()


def test_a_wrong_token_is_said(agentrelay_world: World) -> None:
    """The same chain and the same errors as for every other step."""
    workspace = workspace_in(agentrelay_world, token="wrong-token-wrong-token")
    for verb in (workspace.push, workspace.pull):
        with pytest.raises(CredentialsRejectedError) as caught:
            verb()
        assert "wrong-token" not in str(caught.value)


# -- pull


def test_pull_follows_others_with_files_and_index(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """What is not in the way stays: untracked and ignored files."""
    write(workspace, mine="draft\n")
    theirs = others_push(agentrelay_world, workspace, README__md="changed\n", new="1\n")
    before = workspace.status().commit_id
    (came,) = workspace.pull()
    assert (came.commit_id, came.parent_ids, came.subject) == (theirs, (before,), "Theirs")
    status = workspace.status()
    assert (status.commit_id, status.staged, status.unstaged) == (theirs, (), ())
    assert status.untracked == ("mine",)
    assert (workspace.path / "README.md").read_text() == "changed\n"
    assert (workspace.path / "new").read_text() == "1\n"
    log = Path(pygit2.Repository(str(workspace.path)).path, "logs", "HEAD").read_text()
    assert log.splitlines()[-1].startswith(f"{before} {theirs} ")
    assert workspace.pull() == ()


@pytest.mark.parametrize("way", ["changed", "staged", "untracked", "ignored", "elsewhere", "gone"])
def test_pull_leaves_everything_where_something_is_in_no_commit(
    agentrelay_world: World, workspace: LaneWorkspace, way: str
) -> None:
    """A draft is never overwritten, nor mixed with what comes; after it is gone, pull works."""
    others_push(agentrelay_world, workspace, README__md="theirs\n", new="theirs\n", x__log="1\n")
    handle = pygit2.Repository(str(workspace.path))
    if way in {"changed", "staged"}:
        write(workspace, README__md="draft\n")
    elif way == "untracked":
        write(workspace, new="draft\n")
    elif way == "ignored":
        Path(handle.path).parents[1].joinpath("info/exclude").write_text("*.log\n")
        write(workspace, x__log="draft\n")
    elif way == "elsewhere":
        write(workspace, run="draft\n")
    else:
        (workspace.path / "README.md").unlink()
    if way == "staged":
        index = handle.index
        index.add("README.md")
        index.write()
    before = everything(workspace)
    with pytest.raises(LaneConflictError, match="in no commit"):
        workspace.pull()
    assert everything(workspace) == before


def test_pull_goes_on_where_it_was_stopped(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """Files and index that are as in the new commit already count as clean."""
    theirs = others_push(agentrelay_world, workspace, README__md="theirs\n", new="theirs\n")
    write(workspace, README__md="theirs\n", new="theirs\n")
    index = pygit2.Repository(str(workspace.path)).index
    index.add("new")
    index.write()
    workspace.pull()
    status = workspace.status()
    assert (status.commit_id, status.is_clean) == (theirs, True)


def test_pull_waits_for_an_operation_in_progress(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """A merge that somebody began is theirs to finish."""
    others_push(agentrelay_world, workspace, new="1\n")
    handle = pygit2.Repository(str(workspace.path))
    Path(handle.path, "MERGE_HEAD").write_text(f"{workspace.status().commit_id}\n")
    with pytest.raises(LaneConflictError, match="merge is in progress"):
        workspace.pull()


# -- diff and log


def test_diff_and_log_tell_what_the_lane_changed_since_it_was_cut(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """What the base got meanwhile is not the lane's; a rename is one."""
    base = str(workspace.runtime.state.base_commit)
    commit_files(workspace.path.parents[2], {"base.txt": "1\n"}, message="Base")
    (workspace.path / "tests/test_add.py").rename(workspace.path / "tests/test_sum.py")
    write(workspace, README__md="one\ntwo\n", data="\0\1")
    (workspace.path / "run").unlink()
    first = workspace.commit("First\n\nWhy.\n")
    write(workspace, README__md="one\n")
    second = workspace.commit("Second")
    shown = workspace.diff()
    assert (shown.base_commit, shown.commit_id) == (base, second.commit_id)
    files = {file.path: file for file in shown.files}
    assert files["tests/test_sum.py"] == FileChange(
        "tests/test_sum.py", "renamed", "tests/test_add.py"
    )
    assert files["data"] == FileChange("data", "added", is_binary=True)
    assert (files["run"].kind, files["README.md"].additions) == ("deleted", 1)
    assert set(files) == {"tests/test_sum.py", "data", "run", "README.md"}
    assert "rename from tests/test_add.py" in shown.text
    assert "+one\n" in shown.text
    assert shown.additions == 1
    assert shown.deletions == sum(file.deletions for file in shown.files)
    assert workspace.log() == (second, first)
    assert workspace.log("target", most=1) == (second,)
    assert f"commit {first.commit_id}\n" in first.text
    assert "    First\n\n    Why.\n" in first.text
    workspace.push()
    assert workspace.log("remote") == ()
    assert workspace.diff("remote").files == ()
    agentrelay_world.check()


def test_diff_of_the_worktree_has_what_is_in_no_commit(workspace: LaneWorkspace) -> None:
    """Staged, changed and new files, against the last commit."""
    write(workspace, README__md="changed\n", new="1\n", staged="2\n")
    index = pygit2.Repository(str(workspace.path)).index
    index.add("staged")
    index.write()
    shown = workspace.diff("head")
    assert shown.commit_id is None
    assert [(file.path, file.kind) for file in shown.files] == [
        ("README.md", "modified"),
        ("new", "added"),
        ("staged", "added"),
    ]
    assert "+changed\n" in shown.text


def test_what_cannot_be_compared_is_said(agentrelay_world: World, workspace: LaneWorkspace) -> None:
    """A branch that is not known here, a word that is none, and a number that is none."""
    repo = pygit2.Repository(str(workspace.path.parents[2]))
    repo.references.delete(f"refs/remotes/origin/{workspace.branch}")
    questions = (
        lambda: workspace.diff("remote"),
        lambda: workspace.log("head"),  # type: ignore[arg-type]  # that is the point
        lambda: workspace.log(most=-1),
    )
    for ask in questions:
        with pytest.raises(RepositoryError) as caught:
            ask()
        assert isinstance(caught.value, WorkstreamError)
        assert caught.value.hint
    agentrelay_world.check()
