"""A lane's branch that somebody made a symbolic ref: whatever it leads to is not the lane's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from agentrelay.workstream import (
    LaneConflictError,
    LaneKind,
    LaneWorkspace,
    WorkstreamRuntime,
    WorkstreamSpec,
    open_lane,
    prepare_all,
    reconcile,
    teardown_all,
)
from agentrelay.workstream.testing import World, commit_files, refs
from tests.fault._matrix import REF

_MINE: Final = "refs/heads/mine"


def _redirect(repo: Path) -> None:
    """Let the lane's branch lead to a branch of the user's, as ``git symbolic-ref`` does."""
    path = repo / ".git" / REF
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"ref: {_MINE}\n")


@pytest.fixture
def repo(agentrelay_world: World) -> Path:
    """Return a clone with a branch of the user's."""
    made = agentrelay_world.clone()
    commit_files(made, {"mine.txt": "mine\n"}, message="Mine", branch="mine")
    return made


def _prepared(world: World, repo: Path) -> WorkstreamRuntime:
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    world.runner(repo).prepare(runtime)
    return runtime


def _pictured(world: World, repo: Path) -> Any:
    """Return all refs, here and at the remote, and which files are in the worktree."""
    worktree = repo / ".worktrees" / "nightly" / "parser"
    files = sorted(path.name for path in worktree.iterdir()) if worktree.is_dir() else None
    return refs(repo), refs(world.remote_path), files


def _assert_named(error: BaseException | None) -> None:
    """Assert that the error says which ref is in the way, and where it leads."""
    assert type(error) is LaneConflictError
    assert error.obstacle == REF
    assert "symbolic" in error.message
    assert _MINE in error.message
    assert "update-ref --no-deref" in (error.hint or "")


@pytest.mark.parametrize("lane", ["new", "prepared"])
@pytest.mark.parametrize("verb", ["prepare", "prepare_all"])
def test_no_lane_is_handed_out_on_a_symbolic_branch(
    agentrelay_world: World, repo: Path, verb: str, lane: str
) -> None:
    """What is committed there would land on another branch; nothing is changed."""
    world = agentrelay_world
    if lane == "prepared":
        _prepared(world, repo)
    _redirect(repo)
    before = _pictured(world, repo)
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    preparer = world.preparer(repo)
    error: BaseException | None = None
    if verb == "prepare_all":
        error = prepare_all([runtime], preparer)[0].error
    else:
        with pytest.raises(LaneConflictError) as caught:
            preparer.prepare_workstream(runtime)
        error = caught.value
    _assert_named(error)
    assert _pictured(world, repo) == before


_VERBS: Final[dict[str, Callable[[LaneWorkspace], object]]] = {
    "commit": lambda lane: lane.commit("Work"),
    "push": LaneWorkspace.push,
    "pull": LaneWorkspace.pull,
    "resolve": lambda lane: lane.resolve(["README.md"]),
}


@pytest.mark.parametrize("verb", _VERBS.values(), ids=_VERBS)
def test_a_verb_of_the_workspace_names_a_symbolic_branch(
    agentrelay_world: World, repo: Path, verb: Callable[[LaneWorkspace], object]
) -> None:
    """At once, and not as if somebody held it for a moment."""
    world = agentrelay_world
    lane = open_lane(_prepared(world, repo), token=world.token)
    (lane.path / "work.py").write_text("pass\n")
    _redirect(repo)
    before = _pictured(world, repo)
    with pytest.raises(LaneConflictError) as caught:
        verb(lane)
    _assert_named(caught.value)
    assert _pictured(world, repo) == before


def test_a_symbolic_branch_is_not_submitted(agentrelay_world: World, repo: Path) -> None:
    """Another branch's commits are not pushed in the lane's name."""
    world = agentrelay_world
    runtime = _prepared(world, repo)
    _redirect(repo)
    before = _pictured(world, repo)
    with pytest.raises(LaneConflictError) as caught:
        world.integrator(repo).create_integration_pr(runtime)
    _assert_named(caught.value)
    assert _pictured(world, repo) == before
    assert world.github.pulls() == []


@pytest.mark.parametrize("verb", ["teardown", "teardown_all"])
def test_teardown_keeps_a_symbolic_branch_and_says_so(
    agentrelay_world: World, repo: Path, verb: str
) -> None:
    """The worktree goes, both branches stay, and so does what it leads to."""
    world = agentrelay_world
    runtime = _prepared(world, repo)
    _redirect(repo)
    here, there = refs(repo), refs(world.remote_path)
    if verb == "teardown_all":
        teardown_all([runtime], world.teardown(repo))
    else:
        world.runner(repo).teardown(runtime)
    # Besides, what the worktree held against the other branch is kept as a snapshot.
    assert refs(repo).items() >= here.items()
    assert refs(world.remote_path) == there
    assert not (repo / ".worktrees" / "nightly" / "parser").exists()
    told = " ".join(runtime.artifacts.concerns)
    assert f"'{REF}' is a symbolic ref" in told
    assert _MINE in told


def test_reconcile_calls_a_lane_on_a_symbolic_branch_foreign(
    agentrelay_world: World, repo: Path
) -> None:
    """It is named once, as that lane, and left alone."""
    world = agentrelay_world
    _prepared(world, repo)
    _redirect(repo)
    before = _pictured(world, repo)
    found = reconcile(
        repo, token=world.token, api_url=world.github.api_url, full_name=world.full_name
    )
    assert [(lane.workstream_id, lane.kind) for lane in found.lanes] == [
        ("parser", LaneKind.FOREIGN)
    ]
    assert "symbolic" in found.lanes[0].why
    assert found.lanes[0].branch == REF
    assert _pictured(world, repo) == before
