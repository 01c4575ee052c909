"""The places from which runs are stopped: one function each, found by its first word.

A case arranges a lane and says what is done there. To cover another operation, add a
function whose name begins with a new word of :data:`VERBS`; nothing else has to change.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Final

import pygit2

from agentrelay.workstream import (
    LaneResult,
    NothingToCommitError,
    WorkstreamRuntime,
    WorkstreamSpec,
    clone,
    open_lane,
    prepare_all,
    teardown_all,
)
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.testing import World, commit_files, refs
from fixtures import scenarios

__all__ = ["CASES", "Case", "find_cases", "standing"]

VERBS: Final = (
    *("prepare", "integrate", "teardown", "commit", "push", "pull", "clone"),
    *("restore", "forget", "reconcile", "retarget"),
    *("start", "merge", "finish", "sync"),
)
_LANE_TIMEOUT_S: Final = 3.0


@dataclass
class Case:
    """One operation in one place.

    Attributes:
        repo: The clone it happens in.
        runtime: The lane's runtime as the operation finds it.
        act: The operation.
        may_go: Commits that need not survive, since their content is merged.
    """

    repo: Path
    runtime: WorkstreamRuntime
    act: Callable[[WorkstreamRuntime], object]
    may_go: frozenset[str] = field(default=frozenset())


def _prepare(world: World, scene: scenarios.Scene) -> Case:
    preparer = world.preparer(scene.repo, lane_timeout_s=_LANE_TIMEOUT_S)
    return Case(
        scene.repo, WorkstreamRuntime(WorkstreamSpec("parser")), preparer.prepare_workstream
    )


def _integrate(world: World, scene: scenarios.Scene) -> Case:
    integrator = world.integrator(scene.repo, lane_timeout_s=_LANE_TIMEOUT_S)
    return Case(scene.repo, scene.runtime, integrator.create_integration_pr)


def _tear_down(world: World, scene: scenarios.Scene, may_go: frozenset[str] = frozenset()) -> Case:
    teardown = world.teardown(scene.repo, lane_timeout_s=_LANE_TIMEOUT_S)
    return Case(scene.repo, scene.runtime, teardown.teardown_workstream, may_go)


def standing(world: World) -> scenarios.Scene:
    """Return a lane without work of its own."""
    repo = world.clone()
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    world.runner(repo).prepare(runtime)
    return scenarios.Scene(world, repo, Lane.of(repo, "nightly", "parser"), runtime)


# -- prepare


def prepare_afresh(world: World) -> Case:
    """Nothing is there yet, but the user's own unsaved work in the main checkout."""
    repo = world.clone()
    (repo / "notes.txt").write_text("the user's notes\n")
    (repo / "README.md").write_text("the user's draft\n")
    index = pygit2.Repository(str(repo)).index
    index.add("README.md")
    index.write()
    commit_files(repo, {"local.py": "ahead = True\n"}, message="Not pushed yet")
    return _prepare(world, scenarios._start(world))


def prepare_over_a_failed_one(world: World) -> Case:
    """An earlier run failed at the push and left its error behind."""
    scene = standing(world)
    pygit2.Repository(str(world.remote_path)).references.delete(scene.lane.branch_ref)
    scene.runtime.mark_failed("the remote was away")
    return _prepare(world, scene)


def prepare_over_a_half_made_one(world: World) -> Case:
    """An earlier run was killed before the files were written."""
    return _prepare(world, scenarios.half_made_worktree(world))


def prepare_again(world: World) -> Case:
    """The lane stands, with commits and unsaved work in it."""
    scene = scenarios.dirty_worktree(world)
    commit_files(scene.lane.worktree_path, {"ours.py": "1\n"}, message="Ours")
    return _prepare(world, scene)


def prepare_where_the_folder_was_deleted(world: World) -> Case:
    """The entry is the last to know what was staged."""
    return _prepare(world, scenarios.worktree_folder_deleted(world))


def prepare_where_the_branch_was_deleted(world: World) -> Case:
    """The worktree's own log is the last to know the commit."""
    return _prepare(world, scenarios.branch_deleted_by_hand(world))


def prepare_after_an_end(world: World) -> Case:
    """The lane was torn down, and is wanted again."""
    scene = scenarios.unpushed_commits(world)
    world.teardown(scene.repo).teardown_workstream(scene.runtime)
    return _prepare(world, scene)


def prepare_a_batch(world: World) -> Case:
    """The lane and another one are prepared as one batch."""
    repo = world.clone()
    preparer = world.preparer(repo, lane_timeout_s=_LANE_TIMEOUT_S)

    def act(runtime: WorkstreamRuntime) -> None:
        both = [runtime, WorkstreamRuntime(WorkstreamSpec("lexer"))]
        # One thread: the harness stops the one it watches.
        _raise_first(prepare_all(both, preparer, workers=1))

    return Case(repo, WorkstreamRuntime(WorkstreamSpec("parser")), act)


def _raise_first(results: list[LaneResult]) -> None:
    """Let no failure of a lane go by."""
    for result in results:
        if result.error is not None:
            raise result.error


# -- integrate


def integrate_for_the_first_time(world: World) -> Case:
    """The remote lacks the lane's commits, and there is no pull request."""
    return _integrate(world, scenarios.unpushed_commits(world))


def integrate_again(world: World) -> Case:
    """There is a pull request, and new commits since."""
    scene = scenarios.unpushed_commits(world)
    world.runner(scene.repo).integrate(scene.runtime)
    commit_files(scene.lane.worktree_path, {"more.py": "2\n"}, message="More")
    return _integrate(world, scene)


def integrate_with_nothing_ahead(world: World) -> Case:
    """The target has all there is."""
    return _integrate(world, standing(world))


def integrate_after_a_failure(world: World) -> Case:
    """The lane is FAILED, with the remote ahead of it."""
    scene = scenarios.unpushed_commits(world)
    scene.runtime.mark_failed("GitHub was away")
    return _integrate(world, scene)


# -- teardown


def teardown_of_a_clean_lane(world: World) -> Case:
    """Nothing in it is worth keeping."""
    return _tear_down(world, standing(world))


def teardown_of_a_dirty_lane(world: World) -> Case:
    """Everything at once: staged, changed, new, ignored, not pushed, and pushed by others."""
    scene = scenarios.unpushed_commits(world)
    top = scene.lane.worktree_path
    commit_files(top, {".gitignore": "*.log\n"}, message="Ignore logs")
    theirs = {"theirs.py": "theirs = True\n"}
    commit_files(world.remote_path, theirs, message="Theirs", branch=scene.lane.branch)
    index = pygit2.Repository(str(top)).index
    (top / "staged.txt").write_text("staged\n")
    (top / "README.md").write_text("staged, then changed\n")
    index.add("staged.txt")
    index.add("README.md")
    index.write()
    (top / "README.md").write_text("changed\n")
    (top / "new.txt").write_text("new\n")
    (top / "trace.log").write_text("ignored\n")
    return _tear_down(world, scene)


def teardown_of_a_squashed_lane(world: World) -> Case:
    """Its commits are in the target by content alone."""
    scene = scenarios.squash_merged(world)
    return _tear_down(world, scene, frozenset({refs(scene.repo)[scene.lane.branch_ref]}))


def teardown_of_a_detached_lane(world: World) -> Case:
    """A commit on no branch."""
    return _tear_down(world, scenarios.detached_worktree(world))


def teardown_in_the_middle_of_a_merge(world: World) -> Case:
    """Conflicts, and a commit that only MERGE_HEAD leads to."""
    scene = scenarios.unpushed_commits(world)
    handle = pygit2.Repository(str(scene.lane.worktree_path))
    author, ours = handle.default_signature, handle.head.peel(pygit2.Commit)
    theirs_blob = handle.create_blob(b"theirs\n")
    base = ours.parents[0]
    builder = handle.TreeBuilder(base.tree)
    builder.insert("ours.txt", theirs_blob, pygit2.enums.FileMode.BLOB)
    theirs = handle.create_commit(None, author, author, "Theirs", builder.write(), [base.id])
    handle.merge(theirs)
    return _tear_down(world, scene)


def teardown_of_a_failed_lane(world: World) -> Case:
    """Its folder was deleted, its branch is gone from the remote."""
    scene = scenarios.worktree_folder_deleted(world)
    pygit2.Repository(str(world.remote_path)).references.delete(scene.lane.branch_ref)
    scene.runtime.mark_failed("everything went wrong")
    return _tear_down(world, scene)


def teardown_with_an_open_pull_request(world: World) -> Case:
    """Both branches stay."""
    scene = scenarios.unpushed_commits(world)
    world.runner(scene.repo).integrate(scene.runtime)
    return _tear_down(world, scene)


def teardown_a_batch(world: World) -> Case:
    """The lane, with unsaved work, and another one are torn down as one batch."""
    scene = standing(world)
    other = WorkstreamRuntime(WorkstreamSpec("lexer"))
    world.runner(scene.repo).prepare(other)
    (scene.lane.worktree_path / "draft.txt").write_text("unsaved\n")
    teardown = world.teardown(scene.repo, lane_timeout_s=_LANE_TIMEOUT_S)
    signal_dir = other.state.signal_dir
    assert signal_dir is not None

    def act(runtime: WorkstreamRuntime) -> None:
        both = [runtime, WorkstreamRuntime.load(signal_dir)]
        _raise_first(teardown_all(both, teardown, workers=1))

    return Case(scene.repo, scene.runtime, act)


# -- commit


def _commit(scene: scenarios.Scene, *paths: str) -> Case:
    """Commit, at a moment that is always the same: an id holds the time."""

    def act(runtime: WorkstreamRuntime) -> None:
        dates = {f"GIT_{role}_DATE": "1700000000 +0100" for role in ("AUTHOR", "COMMITTER")}
        os.environ.update(dates)
        try:
            # What a repeat says of a commit that was made before the end of the run.
            with suppress(NothingToCommitError):
                open_lane(runtime, lane_timeout_s=_LANE_TIMEOUT_S).commit("Work", paths or None)
        finally:
            for name in dates:
                del os.environ[name]

    return Case(scene.repo, scene.runtime, act)


def commit_everything(world: World) -> Case:
    """Staged, changed and new files, and one that is gone."""
    scene = scenarios.dirty_worktree(world)
    (scene.lane.worktree_path / "run").unlink()
    return _commit(scene)


def commit_of_a_path(world: World) -> Case:
    """One file of several."""
    scene = scenarios.dirty_worktree(world)
    (scene.lane.worktree_path / "one.txt").write_text("one\n")
    return _commit(scene, "one.txt")


def commit_of_a_merge(world: World) -> Case:
    """A merge without conflicts, begun by somebody else."""
    scene = scenarios.unpushed_commits(world)
    handle = pygit2.Repository(str(scene.lane.worktree_path))
    author, base = handle.default_signature, handle.head.peel(pygit2.Commit).parents[0]
    builder = handle.TreeBuilder(base.tree)
    builder.insert("theirs.txt", handle.create_blob(b"1\n"), pygit2.enums.FileMode.BLOB)
    handle.merge(handle.create_commit(None, author, author, "T", builder.write(), [base.id]))
    return _commit(scene)


# -- push and pull


def push_of_commits(world: World) -> Case:
    """The remote lacks them."""
    scene = scenarios.unpushed_commits(world)

    def act(runtime: WorkstreamRuntime) -> None:
        open_lane(runtime, lane_timeout_s=_LANE_TIMEOUT_S).push()

    return Case(scene.repo, scene.runtime, act)


def pull_of_commits(world: World) -> Case:
    """Others changed, added and removed files; a draft of ours is not in the way."""
    scene = standing(world)
    theirs = {"README.md": "theirs\n", "deep/er/new.txt": "1\n", "run": None}
    commit_files(world.remote_path, theirs, message="Theirs", branch=scene.lane.branch)
    (scene.lane.worktree_path / "draft.txt").write_text("ours\n")

    def act(runtime: WorkstreamRuntime) -> None:
        open_lane(runtime, lane_timeout_s=_LANE_TIMEOUT_S).pull()

    return Case(scene.repo, scene.runtime, act)


def pull_of_folders_and_files_exchanged(world: World) -> Case:
    """Others put a file where a folder was, and a folder where a file was."""
    scene = standing(world)
    ref, remote = scene.lane.branch_ref, pygit2.Repository(str(world.remote_path))
    tip = remote.references[ref].peel(pygit2.Commit)
    index, blob = pygit2.Index(), remote.create_blob(b"theirs\n")
    index.read_tree(tip.tree)
    index.remove_all(["src/*", "README.md"])
    for path in ("src", "README.md/one", "README.md/deep/two"):
        index.add(pygit2.IndexEntry(path, blob, pygit2.enums.FileMode.BLOB))
    who = pygit2.Signature("Other", "other@example.com")
    remote.create_commit(ref, who, who, "Exchange", index.write_tree(remote), [tip.id])

    def act(runtime: WorkstreamRuntime) -> None:
        open_lane(runtime, lane_timeout_s=_LANE_TIMEOUT_S).pull()

    return Case(scene.repo, scene.runtime, act)


# -- clone


def clone_of_everything(world: World) -> Case:
    """Into a directory that is not there; nothing else is left beside it."""
    scene = standing(world)
    place = world.root / "clones" / "more" / "another"

    def act(_: WorkstreamRuntime) -> None:
        clone(world.remote_url, place)
        assert os.listdir(place.parent) == [place.name]
        handle = pygit2.Repository(str(place))
        assert handle.status() == {}
        assert refs(place)["refs/heads/main"] == refs(world.remote_path)["refs/heads/main"]

    return Case(scene.repo, scene.runtime, act)


def find_cases(module: ModuleType) -> dict[str, Callable[[World], Case]]:
    """Return the cases a module defines, by their names."""
    return {
        name: function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and name.startswith(VERBS)
        and "world" in inspect.signature(function).parameters
    }


CASES: Final = find_cases(sys.modules[__name__])
