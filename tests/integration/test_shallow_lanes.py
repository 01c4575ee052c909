"""Lanes of a shallow clone: the history ends, and every verb knows where."""

from __future__ import annotations

from pathlib import Path

import pygit2
import pytest

from agentrelay.workstream import (
    AheadBehind,
    FindingLevel,
    LaneConflictError,
    LaneWorkspace,
    MergeVerdict,
    PushRejectedError,
    RepositoryError,
    clone,
    diagnose,
    open_lane,
    preview_merge,
    preview_pairs,
)
from agentrelay.workstream._git.remotes import RemoteAccess, open_remote
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream.testing import World, commit_files, refs
from tests.integration._workspaces import workspace_in, write


@pytest.fixture
def workspace(agentrelay_world: World) -> LaneWorkspace:
    """Return a lane of a clone that has the last commit of ``main`` alone."""
    world = agentrelay_world
    for number in range(3):
        commit_files(world.remote_path, {"old.txt": f"{number}\n"}, message=f"Old {number}")
    repo = clone(world.remote_url, world.root / "shallow", depth=1, token=world.token)
    assert (repo / ".git" / "shallow").read_text()
    return workspace_in(world, repo)


def theirs(world: World, workspace: LaneWorkspace, branch: str | None = None) -> str:
    """Let somebody else push two commits; return the last."""
    commit_files(world.remote_path, {"a": "1\n"}, message="A", branch=branch or workspace.branch)
    return commit_files(
        world.remote_path, {"b": "1\n"}, message="B", branch=branch or workspace.branch
    )


def test_a_lane_that_has_nothing_yet_is_where_its_base_is(workspace: LaneWorkspace) -> None:
    """Neither ahead nor behind, of anything; nothing to list and nothing to show."""
    status = workspace.status()
    assert status.remote == status.base == status.target == AheadBehind(0, 0)
    assert workspace.log() == workspace.log("remote") == workspace.log("target") == ()
    assert workspace.diff().files == ()


def test_what_the_lane_commits_is_all_that_is_listed(workspace: LaneWorkspace) -> None:
    """The log ends where the lane was cut, whatever it is compared with."""
    for number in range(2):
        write(workspace, new=f"{number}\n")
        workspace.commit(f"Work {number}")
    status = workspace.status()
    assert status.remote == status.base == status.target == AheadBehind(2, 0)
    for against in ("base", "target", "remote"):
        assert [each.subject for each in workspace.log(against)] == ["Work 1", "Work 0"]
        (file,) = workspace.diff(against).files
        assert (file.path, file.kind) == ("new", "added")
    assert workspace.diff("head").files == ()


def test_a_lane_may_be_pushed_again_and_again(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """Each time it goes forward, from a commit whose parents are not here."""
    for number in range(2):
        write(workspace, new=f"{number}\n")
        made = workspace.commit(f"Work {number}")
        assert workspace.push() == made.commit_id
        at = refs(agentrelay_world.remote_path)[f"refs/heads/{workspace.branch}"]
        assert at == made.commit_id
        assert workspace.status().remote == AheadBehind(0, 0)


def test_others_commits_are_pulled_and_counted(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """To the lane and to its base; the clone stays as shallow as it was."""
    before = _edge(workspace)
    last = theirs(agentrelay_world, workspace)
    assert [each.subject for each in workspace.pull()] == ["B", "A"]
    status = workspace.status()
    assert (status.commit_id, status.is_clean) == (last, True)
    assert (status.base, status.remote) == (AheadBehind(2, 0), AheadBehind(0, 0))
    assert [each.subject for each in workspace.log()] == ["B", "A"]
    assert _edge(workspace) == before


def test_histories_that_came_apart_are_told_as_such(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """Neither pulled nor pushed over."""
    write(workspace, mine="1\n")
    workspace.commit("Mine")
    theirs(agentrelay_world, workspace)
    with pytest.raises(LaneConflictError, match="diverged"):
        workspace.pull()
    assert workspace.status().remote == AheadBehind(1, 2)
    with pytest.raises(PushRejectedError, match="diverged"):
        workspace.push()


def test_a_base_that_moved_on_is_behind_nothing_else(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """Once another lane has fetched it, the lane is behind it by just what came."""
    write(workspace, mine="1\n")
    workspace.commit("Mine")
    theirs(agentrelay_world, workspace, "main")
    other = workspace_in(agentrelay_world, _repo(workspace), "lexer")
    status = workspace.status()
    assert status.base == status.target == AheadBehind(1, 2)
    assert other.status().base == AheadBehind(0, 0)
    assert [each.subject for each in workspace.log()] == ["Mine"]
    assert [file.path for file in workspace.diff().files] == ["mine"]


@pytest.mark.parametrize("place", ["lane", "repository"])
def test_previews_know_where_lanes_were_cut(
    agentrelay_world: World, workspace: LaneWorkspace, place: str
) -> None:
    """From the repository as from a lane's worktree, which has no such note of its own."""
    write(workspace, README__md="mine\n")
    workspace.commit("Mine")
    theirs(agentrelay_world, workspace, "main")
    other = workspace_in(agentrelay_world, _repo(workspace), "lexer")
    write(other, README__md="others\n")
    other.commit("Others")
    where = {"lane": workspace.path, "repository": _repo(workspace)}[place]
    preview = preview_merge(where, workspace.runtime)
    assert (preview.is_mergeable, preview.is_related, preview.is_merged) == (True, True, False)
    (pair,) = preview_pairs(where, [workspace.runtime, other.runtime])
    assert [conflict.path for conflict in pair.conflicts] == ["README.md"]


def test_what_lies_beyond_the_end_is_said_to_be_missing(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """A branch that left before it has nothing in common that is here: no guess."""
    world = agentrelay_world
    handle = pygit2.Repository(str(world.remote_path))
    old = handle.references["refs/heads/main"].peel(pygit2.Commit).parents[0].parents[0]
    handle.references.create("refs/heads/old", old.id)
    last = theirs(world, workspace, "old")
    there = pygit2.Repository(str(_repo(workspace)))
    open_remote(open_repository(_repo(workspace)), RemoteAccess("origin", world.token)).fetch(
        ["old"]
    )
    assert last in there
    for where in (_repo(workspace), workspace.path):
        with pytest.raises(RepositoryError, match="shallow"):
            preview_merge(where, workspace.runtime, target="old")


def test_lanes_live_and_end_in_a_linked_worktree_as_well(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """Given a worktree of a person's for the repository, which has no note of the end either."""
    world, before = agentrelay_world, _edge(workspace)
    repo = world.root / "linked"
    pygit2.Repository(str(_repo(workspace))).add_worktree("linked", str(repo))
    theirs(world, workspace, "main")
    lane = workspace_in(world, repo, "lexer")
    assert lane.runtime.artifacts.concerns == []
    write(lane, new="1\n")
    lane.commit("Work")
    assert lane.status().base == AheadBehind(1, 0)
    runner = world.runner(repo)
    assert runner.integrate(lane.runtime).error is None
    world.github.merge_pull(1, method="merge")
    check = runner.check(lane.runtime)
    assert (check.verdict, check.method) == (MergeVerdict.MERGED, "merge")
    runner.teardown(lane.runtime)
    assert lane.runtime.artifacts.concerns == []
    assert not [ref for ref in refs(repo) if "lexer" in ref]
    assert _edge(workspace) == before
    named = {each.name: each for each in diagnose(repo, token=world.token)}
    assert named["history"].level is FindingLevel.NOTE


def test_a_whole_lane_lives_and_ends(agentrelay_world: World, workspace: LaneWorkspace) -> None:
    """Submitted, merged, torn down: nothing kept, nothing left."""
    world, repo = agentrelay_world, _repo(workspace)
    write(workspace, new="1\n")
    workspace.commit("Work")
    lane = workspace.runtime
    runner = world.runner(repo)
    assert runner.integrate(lane).error is None
    world.github.merge_pull(1, method="squash")
    runner.teardown(lane)
    assert lane.artifacts.concerns == []
    assert not [ref for ref in refs(repo) if "agentrelay" in ref]


def test_a_workspace_is_found_from_inside(workspace: LaneWorkspace) -> None:
    """By its path, in a shallow clone as anywhere."""
    assert open_lane(workspace.path).status() == workspace.status()


def _repo(workspace: LaneWorkspace) -> Path:
    return workspace.path.parents[2]


def _edge(workspace: LaneWorkspace) -> str:
    return (_repo(workspace) / ".git" / "shallow").read_text()
