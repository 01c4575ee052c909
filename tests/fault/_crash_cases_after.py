"""What is done about lanes after their end, or after nobody ended them.

Cases as in ``_crash_cases.py``: what clean-ups kept is restored and forgotten, and what
was left behind is reconciled.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from agentrelay.workstream import (
    LaneConflictError,
    RescuedWork,
    WorkstreamGraph,
    WorkstreamRuntime,
    WorkstreamSpec,
    forget,
    reconcile,
    rescued,
    restore,
    retarget_children,
)
from agentrelay.workstream.testing import World, commit_files, refs
from fixtures import scenarios
from tests.fault._crash_cases import Case, find_cases, standing
from tests.fault._crash_picture import reach

__all__ = ["CASES"]

_LANE_TIMEOUT_S: Final = 3.0


def _ended(world: World) -> tuple[scenarios.Scene, dict[str, RescuedWork]]:
    """Return two torn down lanes, and what was kept of the first, by its label."""
    scene = scenarios.dirty_worktree(world)
    top = scene.lane.worktree_path
    commit_files(top, {"ours.py": "ours = True\n"}, message="Ours")
    (top / "deep").mkdir()
    (top / "deep/link").symlink_to("../nowhere")
    (top / "deep/tool").write_text("#!/bin/sh\n")
    (top / "deep/tool").chmod(0o755)
    other = WorkstreamRuntime(WorkstreamSpec("lexer"))
    runner = world.runner(scene.repo)
    runner.prepare(other)
    assert other.state.worktree_path is not None
    (other.state.worktree_path / "lexer.txt").write_text("the other lane's draft\n")
    for runtime in (other, scene.runtime):
        world.teardown(scene.repo).teardown_workstream(runtime)
    kept = rescued(scene.repo, graph="nightly", workstream_id="parser")
    assert len(kept) < len(rescued(scene.repo))
    return scene, {work.label: work for work in kept}


# -- restore


def restore_of_commits_to_a_branch(world: World) -> Case:
    """Commits that were never pushed, to a branch of the usual name."""
    scene, kept = _ended(world)

    def act(_: WorkstreamRuntime) -> None:
        found = restore(scene.repo, kept["commits"].ref)
        assert refs(scene.repo)[f"refs/heads/{found.branch}"] == kept["commits"].commit_id

    return Case(scene.repo, scene.runtime, act)


def restore_of_files_to_a_directory(world: World) -> Case:
    """A link and a program among them, below directories that are not there."""
    scene, kept = _ended(world)
    place = scene.repo / "drafts" / "of" / "parser"
    return _restore_files(scene, kept, place)


def restore_of_files_to_an_empty_directory(world: World) -> Case:
    """The directory stands beside a file of the user's."""
    scene, kept = _ended(world)
    place = scene.repo / "drafts" / "parser"
    place.mkdir(parents=True)
    (place.parent / "notes.txt").write_text("the user's notes\n")
    return _restore_files(scene, kept, place)


def _restore_files(scene: scenarios.Scene, kept: dict[str, RescuedWork], place: Path) -> Case:
    """Write a snapshot's files; done already, a repeat says that the place is taken."""
    work = kept["untracked"]
    assert set(work.files) == {"untracked.txt", "deep/link", "deep/tool"}

    def act(_: WorkstreamRuntime) -> None:
        # It appears all at once: whatever is in it is whole, and the picture looks at it.
        with suppress(LaneConflictError):
            restore(scene.repo, work, directory=place)

    return Case(scene.repo, scene.runtime, act)


# -- forget


def forget_of_what_is_named(world: World) -> Case:
    """Two of the lane's refs; its other ones and the other lane's stay."""
    scene, kept = _ended(world)
    named = [kept["staged"], kept["commits"]]

    def act(_: WorkstreamRuntime) -> None:
        forget(scene.repo, named, lane_timeout_s=_LANE_TIMEOUT_S)

    return _forget(scene, named, act)


def forget_of_what_is_old(world: World) -> Case:
    """All that was kept of the lane."""
    scene, kept = _ended(world)

    def act(_: WorkstreamRuntime) -> None:
        forget(
            scene.repo,
            older_than_s=0.0,
            graph="nightly",
            workstream_id="parser",
            lane_timeout_s=_LANE_TIMEOUT_S,
        )

    return _forget(scene, list(kept.values()), act)


def _forget(
    scene: scenarios.Scene, works: list[RescuedWork], act: Callable[[WorkstreamRuntime], None]
) -> Case:
    """Let go what no other ref leads to, and nothing else."""
    doomed = {work.ref for work in works}
    staying = {ref for ref in refs(scene.repo) if ref.startswith("refs/agentrelay/")} - doomed

    def act_and_look(runtime: WorkstreamRuntime) -> None:
        act(runtime)
        found = {ref for ref in refs(scene.repo) if ref.startswith("refs/agentrelay/")}
        assert found == staying
        # A log without its ref is a fault in the repository, and git says so.
        logs = scene.repo / ".git" / "logs"
        assert [ref for ref in doomed if (logs / ref).exists()] == []

    before = reach(scene.world, scene.repo)
    with _without(scene.repo, doomed):
        after = reach(scene.world, scene.repo)
    assert after < before
    return Case(scene.repo, scene.runtime, act_and_look, before - after)


@contextmanager
def _without(repo: Path, names: Iterable[str]) -> Iterator[None]:
    """Take the files of some refs away for a while."""
    kept = {repo / ".git" / name: (repo / ".git" / name).read_bytes() for name in names}
    for path in kept:
        path.unlink()
    try:
        yield
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


# -- reconcile


def reconcile_of_a_resumable_lane(world: World) -> Case:
    """Its folder was deleted by hand: it is completed, with what was staged kept."""
    scene = scenarios.dirty_worktree(world)
    shutil.rmtree(scene.lane.worktree_path)
    return _reconcile(scene)


def reconcile_of_a_half_made_lane(world: World) -> Case:
    """Its prepare was killed before the files were written."""
    return _reconcile(scenarios.half_made_worktree(world))


def reconcile_of_an_orphaned_lane(world: World) -> Case:
    """Its teardown was begun, with commits and a draft in it; a tree is to be swept."""
    scene = scenarios.unpushed_commits(world)
    (scene.lane.worktree_path / "draft.txt").write_text("a draft\n")
    record = scene.lane.signal_dir / "lane.json"
    record.write_text(json.dumps({**json.loads(record.read_bytes()), "ending": True}))
    (scene.repo / ".worktrees/.trash/gone-1/x").mkdir(parents=True)
    return _reconcile(scene)


def reconcile_of_two_lanes(world: World) -> Case:
    """One is to be removed, with a commit in it; the other is to be completed."""
    scene = standing(world)
    other = WorkstreamRuntime(WorkstreamSpec("lexer"))
    world.runner(scene.repo).prepare(other)
    commit_files(scene.lane.worktree_path, {"ours.py": "1\n"}, message="Ours")
    record = scene.lane.signal_dir / "lane.json"
    record.write_text(json.dumps({**json.loads(record.read_bytes()), "ending": True}))
    assert other.state.worktree_path is not None
    shutil.rmtree(other.state.worktree_path)
    return _reconcile(scene)


def _reconcile(scene: scenarios.Scene) -> Case:
    world = scene.world

    def act(runtime: WorkstreamRuntime) -> None:
        found = reconcile(
            scene.repo,
            token=world.token,
            api_url=world.github.api_url,
            full_name=world.full_name,
            lane_timeout_s=_LANE_TIMEOUT_S,
        )
        assert found.failed == ()
        assert found.stuck == ()
        # It works from what is on disk, and so does whoever looks at the lane after it.
        again = WorkstreamRuntime.load(scene.lane.signal_dir)
        runtime.state, runtime.artifacts = again.state, again.artifacts

    return Case(scene.repo, scene.runtime, act)


# -- retarget


def retarget_of_a_child(world: World) -> Case:
    """Its parent was squashed into the target; it is submitted into the parent's branch."""
    repo = world.clone()
    graph = WorkstreamGraph("nightly", [WorkstreamSpec("lexer"), WorkstreamSpec("parser", "lexer")])
    lanes = {spec.id: WorkstreamRuntime(graph.spec_for(spec.id)) for spec in graph.ordered()}
    runner = world.runner(repo)
    for name, lane in lanes.items():
        runner.prepare(lane)
        assert lane.state.worktree_path is not None
        commit_files(lane.state.worktree_path, {f"{name}.py": "1\n"}, message=name)
        runner.integrate(lane)
    world.github.merge_pull(1, method="squash")
    runner.check(lanes["lexer"])
    integrator = world.integrator(repo, lane_timeout_s=_LANE_TIMEOUT_S)

    def act(runtime: WorkstreamRuntime) -> None:
        (done,) = retarget_children(lanes["lexer"], [runtime], integrator)
        if done.error is not None:
            raise done.error
        assert runtime.spec == graph.after_merge("lexer").spec_for("parser")
        (body,) = [pull.body for pull in world.github.pulls() if pull.number == 2]
        assert "**Retargeted:**" in str(body)

    return Case(repo, lanes["parser"], act)


CASES: Final = find_cases(sys.modules[__name__])
