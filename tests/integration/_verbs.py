"""Every verb of the front door, each played once so that it ends well and once so that it fails."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import agentrelay.workstream as library
from agentrelay.workstream import (
    LaneWorkspace,
    MergeCheck,
    MergeVerdict,
    StandardWorkstreamRunner,
    WorkstreamRuntime,
    WorkstreamSpec,
    open_lane,
    prepare_all,
    teardown_all,
)
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.testing import World, commit_files
from tests.integration._workspaces import conflicted

__all__ = [
    "PLAYS",
    "WITHOUT_STEPS",
    "Action",
    "Play",
    "Scene",
    "fresh",
    "nowhere",
    "public_verbs",
    "scene_in",
]

# Classes whose methods are no verbs: values, and what makes tokens.
_NO_VERBS: Final = {
    "GitHubApp",
    "RescuedWork",
    "RetryPolicy",
    "WorkstreamGraph",
    "WorkstreamRunResult",
}
# They change a lane's history, not what it is.
_NO_VERBS_OF_RUNTIMES: Final = {"WorkstreamRuntime.clear_failure", "WorkstreamRuntime.reopen"}


@dataclass
class Scene:
    """A prepared lane with a commit, and where it is.

    Attributes:
        world: Its world.
        repo: Its clone.
        runtime: Its runtime.
    """

    world: World
    repo: Path
    runtime: WorkstreamRuntime

    @property
    def lane(self) -> LaneWorkspace:
        """Its workspace, opened where nobody hears it."""
        return open_lane(self.runtime, token=self.world.token)

    @property
    def runner(self) -> StandardWorkstreamRunner:
        """A runner of its repository that may merge."""
        merger = self.world.auto_merger(self.repo)
        return replace(self.world.runner(self.repo), _auto_merger=merger)

    def integrate(self) -> None:
        """Open the lane's pull request."""
        assert self.runner.integrate(self.runtime).error is None

    def write(self) -> None:
        """Change a file of the lane."""
        (self.lane.path / "more.txt").write_text("more\n")


Action = Callable[[Scene], object]


@dataclass(frozen=True)
class Play:
    """One verb, played twice.

    Attributes:
        name: What the verb is called in its events.
        well: Plays it so that it ends well; returned is what is to be done while listening.
        badly: Plays it so that it fails.
    """

    name: str
    well: Action
    badly: Action


def fresh(scene: Scene, name: str = "lexer") -> WorkstreamRuntime:
    del scene
    return WorkstreamRuntime(WorkstreamSpec(name))


def nowhere(scene: Scene) -> Path:
    return scene.repo / "no" / "repository"


def _after(before: Action, action: Action) -> Action:
    """Return an action that is prepared for without anybody hearing of it."""

    def prepared(scene: Scene) -> object:
        before(scene)
        return lambda: action(scene)

    return prepared


def _rescued_work(scene: Scene) -> library.RescuedWork:
    scene.write()
    scene.world.teardown(scene.repo).teardown_workstream(scene.runtime)
    return library.rescued(scene.repo)[0]


def _restore(scene: Scene) -> object:
    work = _rescued_work(scene)
    return lambda: library.restore(scene.repo, work)


def _forget(scene: Scene) -> object:
    work = _rescued_work(scene)
    return lambda: library.forget(scene.repo, [work])


def _gone(scene: Scene) -> LaneWorkspace:
    """Return a workspace whose worktree is not there."""
    return replace(scene.lane, _lane=Lane.of(scene.repo, "nightly", "nobody"))


def _on_gone(verb: Callable[[LaneWorkspace], object]) -> Action:
    def played(scene: Scene) -> object:
        lane = _gone(scene)
        return lambda: verb(lane)

    return played


def _on_lane(verb: Callable[[LaneWorkspace], object]) -> Action:
    def played(scene: Scene) -> object:
        scene.write()
        lane = scene.lane
        return lambda: verb(lane)

    return played


def _watch(checker: library.GhIntegrationMergeChecker, runtime: WorkstreamRuntime) -> object:
    return list(checker.watch([runtime], until_s=0))


def _merged(scene: Scene) -> object:
    check = MergeCheck(MergeVerdict.MERGED, url="http://127.0.0.1/octo/widgets/pull/1")
    return library.record_merge(scene.runtime, check)


def _on_task(verb: Callable[[LaneWorkspace], object]) -> Action:
    """Return an action in a lane with two tasks, one of which has a commit of its own."""

    def played(scene: Scene) -> object:
        lane = scene.lane
        lane.start_task("empty")
        branch = lane.start_task("grammar").branch
        commit_files(scene.repo, {"grammar.txt": "g\n"}, message="Grammar", branch=branch)
        return lambda: verb(lane)

    return played


def _behind(scene: Scene) -> object:
    """Let the base of the lane move on."""
    files = {"news.txt": "news\n"}
    commit_files(scene.world.remote_path, files, message="News", branch="main")
    lane = scene.lane
    return lane.sync


def _conflict(scene: Scene) -> object:
    """Leave a conflict in the lane."""
    lane = scene.lane
    conflicted(lane)
    return lambda: lane.resolve(["README.md"])


def _with_child(scene: Scene) -> object:
    """Prepare a lane below the scene's."""
    above = scene.runtime.state.branch_name
    assert above is not None
    child = WorkstreamRuntime(WorkstreamSpec("lexer", "parser", above, above))
    scene.runner.prepare(child)
    integrator = scene.world.integrator(scene.repo)
    check = MergeCheck(MergeVerdict.MERGED)
    return lambda: library.retarget_children(scene.runtime, [child], integrator, check=check)


PLAYS: Final[dict[str, Play]] = {
    "GitWorkstreamPreparer.prepare_workstream": Play(
        "prepare",
        lambda scene: scene.world.preparer(scene.repo).prepare_workstream(fresh(scene)),
        lambda scene: scene.world.preparer(nowhere(scene)).prepare_workstream(fresh(scene)),
    ),
    "GhWorkstreamIntegrator.create_integration_pr": Play(
        "integrate",
        lambda scene: scene.world.integrator(scene.repo).create_integration_pr(scene.runtime),
        lambda scene: scene.world.integrator(scene.repo).create_integration_pr(fresh(scene)),
    ),
    "GitWorkstreamTeardown.teardown_workstream": Play(
        "teardown",
        lambda scene: scene.world.teardown(scene.repo).teardown_workstream(scene.runtime),
        lambda scene: scene.world.teardown(nowhere(scene)).teardown_workstream(scene.runtime),
    ),
    "GhIntegrationMergeChecker.check_merged": Play(
        "check",
        lambda scene: scene.world.merge_checker(scene.repo).check_merged(scene.runtime),
        lambda scene: scene.world.merge_checker(nowhere(scene)).check_merged(scene.runtime),
    ),
    "GhIntegrationMergeChecker.check_all": Play(
        "check_all",
        lambda scene: scene.world.merge_checker(scene.repo).check_all([scene.runtime]),
        lambda scene: scene.world.merge_checker(nowhere(scene)).check_all([scene.runtime]),
    ),
    "GhIntegrationMergeChecker.watch": Play(
        "watch",
        lambda scene: _watch(scene.world.merge_checker(scene.repo), scene.runtime),
        lambda scene: _watch(scene.world.merge_checker(nowhere(scene)), scene.runtime),
    ),
    "GhIntegrationAutoMerger.merge_integration_pr": Play(
        "merge",
        _after(
            Scene.integrate,
            lambda scene: scene.world.auto_merger(scene.repo).merge_integration_pr(scene.runtime),
        ),
        lambda scene: scene.world.auto_merger(scene.repo).merge_integration_pr(fresh(scene)),
    ),
    "retarget_children": Play(
        "retarget_children",
        _with_child,
        lambda scene: library.retarget_children(
            fresh(scene), [], scene.world.integrator(scene.repo)
        ),
    ),
    "StandardWorkstreamRunner.prepare": Play(
        "prepare",
        lambda scene: scene.runner.prepare(fresh(scene)),
        lambda scene: scene.world.runner(nowhere(scene)).prepare(fresh(scene)),
    ),
    "StandardWorkstreamRunner.integrate": Play(
        "integrate",
        lambda scene: scene.runner.integrate(scene.runtime),
        lambda scene: scene.runner.integrate(fresh(scene)),
    ),
    "StandardWorkstreamRunner.check": Play(
        "check",
        lambda scene: scene.runner.check(scene.runtime),
        lambda scene: scene.world.runner(nowhere(scene)).check(scene.runtime),
    ),
    "StandardWorkstreamRunner.merge": Play(
        "merge",
        _after(Scene.integrate, lambda scene: scene.runner.merge(scene.runtime)),
        lambda scene: scene.runner.merge(fresh(scene)),
    ),
    "StandardWorkstreamRunner.teardown": Play(
        "teardown",
        lambda scene: scene.runner.teardown(scene.runtime),
        lambda scene: scene.world.runner(nowhere(scene)).teardown(scene.runtime),
    ),
    "LaneWorkspace.status": Play(
        "status", _on_lane(lambda lane: lane.status()), _on_gone(lambda lane: lane.status())
    ),
    "LaneWorkspace.commit": Play(
        "commit",
        _on_lane(lambda lane: lane.commit("More")),
        _on_gone(lambda lane: lane.commit("x")),
    ),
    "LaneWorkspace.resolve": Play(
        "resolve", _conflict, _on_gone(lambda lane: lane.resolve(["README.md"]))
    ),
    "LaneWorkspace.push": Play(
        "push", _on_lane(lambda lane: lane.push()), _on_gone(lambda lane: lane.push())
    ),
    "LaneWorkspace.pull": Play(
        "pull", _on_lane(lambda lane: lane.pull()), _on_gone(lambda lane: lane.pull())
    ),
    "LaneWorkspace.start_task": Play(
        "start_task",
        _on_lane(lambda lane: lane.start_task("grammar")),
        _on_gone(lambda lane: lane.start_task("grammar")),
    ),
    "LaneWorkspace.tasks": Play(
        "tasks", _on_task(lambda lane: lane.tasks()), _on_gone(lambda lane: lane.tasks())
    ),
    "LaneWorkspace.merge_task": Play(
        "merge_task",
        _on_task(lambda lane: lane.merge_task("grammar")),
        _on_gone(lambda lane: lane.merge_task("grammar")),
    ),
    "LaneWorkspace.finish_task": Play(
        "finish_task",
        _on_task(lambda lane: lane.finish_task("empty")),
        _on_gone(lambda lane: lane.finish_task("empty")),
    ),
    "LaneWorkspace.sync": Play("sync", _behind, _on_gone(lambda lane: lane.sync())),
    "LaneWorkspace.diff": Play(
        "diff", _on_lane(lambda lane: lane.diff()), _on_gone(lambda lane: lane.diff())
    ),
    "LaneWorkspace.log": Play(
        "log", _on_lane(lambda lane: lane.log()), _on_gone(lambda lane: lane.log())
    ),
    "WorkstreamRuntime.mark_pending": Play(
        "mark",
        lambda scene: scene.runtime.mark_pending(),
        lambda scene: fresh(scene).mark_pending(),
    ),
    "WorkstreamRuntime.mark_active": Play(
        "mark", lambda scene: scene.runtime.mark_active(), lambda scene: fresh(scene).mark_active()
    ),
    "WorkstreamRuntime.mark_merge_ready": Play(
        "mark",
        lambda scene: scene.runtime.mark_merge_ready(),
        lambda scene: fresh(scene).mark_merge_ready(),
    ),
    "WorkstreamRuntime.mark_pr_created": Play(
        "mark",
        lambda scene: scene.runtime.mark_pr_created("https://example.com/pull/1"),
        lambda scene: fresh(scene).mark_pr_created("https://example.com/pull/1"),
    ),
    "WorkstreamRuntime.mark_merged": Play(
        "mark", lambda scene: scene.runtime.mark_merged(), lambda scene: fresh(scene).mark_merged()
    ),
    "WorkstreamRuntime.mark_failed": Play(
        "mark",
        lambda scene: scene.runtime.mark_failed("no"),
        _after(
            lambda scene: (scene.repo / "a-file").write_text(""),
            lambda scene: WorkstreamRuntime(
                WorkstreamSpec("x"),
                library.WorkstreamState(signal_dir=scene.repo / "a-file" / "below"),
            ).mark_failed("no"),
        ),
    ),
    "clone": Play(
        "clone",
        lambda scene: library.clone(
            scene.world.remote_url, scene.repo.with_name("other"), token=scene.world.token
        ),
        lambda scene: library.clone(scene.world.remote_url, scene.repo.parent),
    ),
    "diagnose": Play(
        "diagnose",
        lambda scene: library.diagnose(scene.repo, token=scene.world.token),
        lambda scene: library.diagnose(scene.repo, network_timeout_s=-1),
    ),
    "forget": Play("forget", _forget, lambda scene: library.forget(scene.repo)),
    "open_lane": Play(
        "open_lane",
        lambda scene: open_lane(scene.runtime.state.worktree_path or ""),
        lambda scene: open_lane(fresh(scene)),
    ),
    "prepare_all": Play(
        "prepare_all",
        lambda scene: prepare_all([fresh(scene)], scene.world.preparer(scene.repo)),
        lambda scene: prepare_all(
            [fresh(scene)], scene.world.preparer(scene.repo, lane_timeout_s=-1)
        ),
    ),
    "preview_merge": Play(
        "preview_merge",
        lambda scene: library.preview_merge(scene.repo, scene.runtime),
        lambda scene: library.preview_merge(scene.repo, "no-such-branch", target="main"),
    ),
    "preview_pairs": Play(
        "preview_pairs",
        lambda scene: library.preview_pairs(scene.repo, [scene.runtime, "main"]),
        lambda scene: library.preview_pairs(scene.repo, ["no-such-branch"]),
    ),
    "reconcile": Play(
        "reconcile",
        lambda scene: library.reconcile(scene.repo, token=scene.world.token),
        lambda scene: library.reconcile(nowhere(scene)),
    ),
    "record_merge": Play(
        "record_merge",
        _merged,
        lambda scene: library.record_merge(fresh(scene), MergeCheck(MergeVerdict.MERGED)),
    ),
    "rescued": Play(
        "rescued",
        lambda scene: library.rescued(scene.repo),
        lambda scene: library.rescued(scene.repo, workstream_id="without-a-graph"),
    ),
    "restore": Play(
        "restore", _restore, lambda scene: library.restore(scene.repo, "refs/no/such/thing")
    ),
    "teardown_all": Play(
        "teardown_all",
        lambda scene: teardown_all([scene.runtime], scene.world.teardown(scene.repo)),
        lambda scene: teardown_all(
            [scene.runtime], scene.world.teardown(scene.repo, lane_timeout_s=-1)
        ),
    ),
}
# What has no steps: a signal is one file.
WITHOUT_STEPS: Final = {"mark", "record_merge"}


def public_verbs() -> Iterator[str]:
    """Yield what the front door offers and that does something to lanes."""
    for name in library.__all__:
        found = getattr(library, name)
        if inspect.isfunction(found):
            yield name
        elif inspect.isclass(found) and name not in _NO_VERBS:
            if issubclass(found, Exception) or Protocol in found.__bases__:
                continue
            methods = (
                f"{name}.{method}"
                for method, function in inspect.getmembers(found, inspect.isfunction)
                if function.__module__.startswith(library.__name__)
                and not method.startswith("_")
                and not inspect.isasyncgenfunction(function)
            )
            yield from (method for method in methods if method not in _NO_VERBS_OF_RUNTIMES)


def scene_in(world: World) -> Scene:
    """Return a prepared lane with a commit."""
    repo = world.clone()
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    world.runner(repo).prepare(runtime)
    assert runtime.state.worktree_path is not None
    commit_files(runtime.state.worktree_path, {"work.txt": "work\n"}, message="Work")
    return Scene(world, repo, runtime)
