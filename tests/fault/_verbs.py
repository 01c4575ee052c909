"""What a caller can do with lanes, one entry a verb: the fault matrix multiplies it by the faults.

A new verb is covered by adding it to ``VERBS``: its entry says what it touches, and meets every
fault of ``_rows_verbs`` that touches the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Flag, auto
from pathlib import Path
from typing import Any, Final

import pytest

from agentrelay.workstream import (
    LaneResult,
    LaneWorkspace,
    MergeCheck,
    MergeVerdict,
    WorkstreamError,
    WorkstreamRuntime,
    WorkstreamSpec,
    clone,
    forget,
    open_lane,
    prepare_all,
    preview_merge,
    preview_pairs,
    reconcile,
    rescued,
    restore,
    retarget_children,
    teardown_all,
)
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.testing import commit_files
from tests.fault._matrix import BRANCH, NEWS, Place, Seen

__all__ = ["VERBS", "Touches", "Verb", "do", "is_told_by_concerns", "reach"]

# A second lane, so that a batch is one.
_OTHER: Final = WorkstreamSpec("lexer")
_CHILD: Final = WorkstreamSpec(
    "lexer", parent_workstream_id="parser", base_branch=BRANCH, merge_target_branch=BRANCH
)
_TASK: Final = "grammar"
# What a teardown may have kept.
_KEPT: Final = "refs/agentrelay/rescue/nightly/parser/20261125T120000.000000Z/commits"
# When whatever a verb commits was committed: pictures hold ids.
_DATE: Final = "1800000000 +0000"


class Touches(Flag):
    """What a verb needs, and so what can be in trouble.

    Attributes:
        REPOSITORY: It opens the repository.
        DISK: It writes below the directory it works in.
        ROOM: It needs free blocks there.
        MANY_FILES: It opens more than two files at a time.
        REMOTE: It talks to the remote.
        DOWNLOAD: It fetches objects.
        CREATION: It creates branches at the remote.
        UPLOAD: It pushes commits to branches the remote has.
        DELETION: It deletes branches of the remote.
        WORKTREE: It looks at what the worktree holds that no commit does.
        BRANCH: It moves or hands out the lane's branch.
        RECORD: It reads the lane's record, knowing no more than where the lane is.
        LANE: It is given the runtime of a lane that was prepared.
    """

    REPOSITORY = auto()
    DISK = auto()
    ROOM = auto()
    MANY_FILES = auto()
    REMOTE = auto()
    DOWNLOAD = auto()
    CREATION = auto()
    UPLOAD = auto()
    DELETION = auto()
    WORKTREE = auto()
    BRANCH = auto()
    RECORD = auto()
    LANE = auto()


@dataclass(frozen=True)
class Verb:
    """One verb.

    Attributes:
        act: Does it once, and returns what the caller saw; or raises.
        touches: What can be in trouble.
        ready: Does undisturbed what comes before it, once the lane is prepared and has work;
            ``None`` where nothing of the lane is to be there.
        works_in: The directory it writes in.
        is_told_by_concerns: Whether it raises nothing, and failures are the lane's concerns.
    """

    act: Callable[[Place], Seen]
    touches: Touches
    ready: Callable[[Place], object] | None = field(default=lambda _place: None)
    works_in: Callable[[Place], Path] = field(default=lambda place: place.repo)
    is_told_by_concerns: bool = False


def do(place: Place, step: str) -> Seen:
    """Do one step of a lane's life, or one verb."""
    if step not in VERBS:
        return place.do("whole life")
    try:
        return VERBS[step].act(place)
    except Exception as error:  # noqa: BLE001 - what kind it is gets asserted
        return Seen(error, ())


def reach(place: Place, step: str) -> None:
    """Do undisturbed what comes before it."""
    ready = VERBS[step].ready if step in VERBS else None
    if ready is not None:
        place.reach("teardown")
        ready(place)


def is_told_by_concerns(step: str) -> bool:
    """Return whether a step raises nothing, and failures are the lane's concerns."""
    return step in VERBS and VERBS[step].is_told_by_concerns


def _step(name: Any) -> Callable[[Place], Seen]:
    """A step of the lifecycle, through the standard runner."""
    return lambda place: place.do(name)


def _settings(place: Place) -> dict[str, Any]:
    """Return what the caller passes to a function."""
    return {"token": place.world.token, **place.settings}


def _open(place: Place) -> LaneWorkspace:
    return open_lane(place.runtime, **_settings(place))


def _in_lane(act: Callable[[LaneWorkspace], object]) -> Callable[[Place], Seen]:
    """A verb of the workspace, of a lane that the caller has the runtime of."""

    def verb(place: Place) -> Seen:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GIT_AUTHOR_DATE", _DATE)
            patch.setenv("GIT_COMMITTER_DATE", _DATE)
            act(_open(place))
        return Seen(None, ())

    return verb


def _others_push(place: Place) -> None:
    """Let others push to the lane, more than one packet, and nothing be in their way."""
    (place.worktree / "unsaved.txt").unlink()
    _open(place).push()
    theirs = {f"their-{path}": text[::-1] for path, text in NEWS.items()}
    commit_files(place.bare, theirs, message="theirs", branch=BRANCH)


def _start_task(place: Place) -> None:
    """Let a task have a commit, and nothing be in its way."""
    (place.worktree / "unsaved.txt").unlink()
    branch = _open(place).start_task(_TASK).branch
    commit_files(place.repo, {"grammar.txt": "grammar\n"}, message="Grammar", branch=branch)


def _end_task(place: Place) -> None:
    """Let a task have nothing that the lane has not."""
    _open(place).start_task(_TASK)


def _base_moves(place: Place) -> None:
    """Let others push to the base, more than one packet, and nothing be in their way."""
    (place.worktree / "unsaved.txt").unlink()
    theirs = {f"their-{path}": text[::-1] for path, text in NEWS.items()}
    commit_files(place.bare, theirs, message="theirs", branch="main")


def _clone(place: Place) -> Seen:
    url = str(place.bare) if place.over == "path" else _url(place)
    clone(url, place.made, **_settings(place))
    return Seen(None, ())


def _url(place: Place) -> str:
    """Return where ``origin`` leads just now: a fault may have pointed it elsewhere."""
    return next(str(remote.url) for remote in place.handle().remotes if remote.name == "origin")


def _open_by_path(place: Place) -> Seen:
    workspace = open_lane(place.worktree, **_settings(place))
    assert workspace.branch == BRANCH
    return Seen(None, ())


def _preview(place: Place) -> Seen:
    preview = preview_merge(place.repo, BRANCH, target="main")
    assert preview.is_mergeable
    return Seen(None, ())


def _seen(results: Sequence[LaneResult]) -> Seen:
    """Return what the caller of a batch saw of the first lane: the others may go on."""
    return Seen(results[0].error, tuple(results[0].runtime.artifacts.concerns))


def _prepare_all(place: Place) -> Seen:
    place.runtime = WorkstreamRuntime(place.spec)
    preparer = place.world.preparer(place.repo, place.graph, **place.settings)
    return _seen(prepare_all([place.runtime, WorkstreamRuntime(_OTHER)], preparer, workers=1))


def _prepare_other(place: Place, spec: WorkstreamSpec = _OTHER) -> None:
    runtime = WorkstreamRuntime(spec)
    place.world.runner(place.repo, place.graph, **place.settings).prepare(runtime)


def _teardown_all(place: Place) -> Seen:
    with contextlib.suppress(WorkstreamError):
        place.runtime = WorkstreamRuntime.load(place.lane.signal_dir)
    place.runtime.artifacts.concerns.clear()
    other, lane = WorkstreamRuntime(_OTHER), Lane.of(place.repo, place.graph, _OTHER.id)
    other.state.signal_dir = lane.signal_dir
    other.state.worktree_path = lane.worktree_path
    other.state.branch_name = lane.branch
    teardown = place.world.teardown(place.repo, **place.settings)
    found = _seen(teardown_all([place.runtime, other], teardown, workers=1))
    # The runner turns what stopped a lane into a concern, as it does for a single one.
    return Seen(None, found.concerns)


def _on(act: Callable[[Path], object]) -> Callable[[Place], Seen]:
    """A function that is given the repository and no more."""

    def verb(place: Place) -> Seen:
        act(place.repo)
        return Seen(None, ())

    return verb


def _reconcile(place: Place) -> Seen:
    world = place.world
    address = {"api_url": world.github.api_url, "full_name": world.full_name}
    found = reconcile(place.repo, **{**_settings(place), **address})
    return Seen(None, found.concerns)


def _prepare_child(place: Place) -> None:
    """Prepare a lane that is cut from the first one's branch, and goes into it."""
    _open(place).push()
    _prepare_other(place, _CHILD)


def _retarget_children(place: Place) -> Seen:
    lane = Lane.of(place.repo, place.graph, _CHILD.id)
    child = WorkstreamRuntime(_CHILD)
    child.state.signal_dir = lane.signal_dir
    child.state.worktree_path = lane.worktree_path
    child.state.branch_name = lane.branch
    integrator = place.world.integrator(place.repo, **place.settings)
    merged = MergeCheck(MergeVerdict.MERGED)
    (result,) = retarget_children(place.runtime, [child], integrator, check=merged)
    if result.error is not None:
        raise result.error
    return Seen(None, ())


def _keep(place: Place) -> None:
    """Let a teardown have kept something."""
    assert place.work is not None
    place.handle().references.create(_KEPT, place.work)


_WRITES: Final = Touches.DISK | Touches.ROOM | Touches.MANY_FILES
_LOCAL: Final = Touches.REPOSITORY | _WRITES
_PREPARES: Final = _LOCAL | Touches.REMOTE | Touches.DOWNLOAD | Touches.CREATION | Touches.BRANCH
_CLEANS_UP: Final = _LOCAL | Touches.REMOTE | Touches.DELETION | Touches.WORKTREE | Touches.LANE
_EXCHANGES: Final = _LOCAL | Touches.REMOTE | Touches.BRANCH | Touches.LANE
_LOOKS: Final = Touches.REPOSITORY | Touches.LANE

VERBS: Final[dict[str, Verb]] = {
    "prepare": Verb(_step("prepare"), _PREPARES, ready=None),
    "integrate": Verb(_step("integrate"), _EXCHANGES | Touches.UPLOAD),
    "teardown": Verb(_step("teardown"), _CLEANS_UP, is_told_by_concerns=True),
    "prepare_all": Verb(_prepare_all, _PREPARES, ready=None),
    "teardown_all": Verb(_teardown_all, _CLEANS_UP, ready=_prepare_other, is_told_by_concerns=True),
    "commit": Verb(
        _in_lane(lambda lane: lane.commit("Work")),
        _LOCAL | Touches.WORKTREE | Touches.BRANCH | Touches.LANE,
    ),
    "push": Verb(_in_lane(LaneWorkspace.push), _EXCHANGES | Touches.UPLOAD),
    "pull": Verb(_in_lane(LaneWorkspace.pull), _EXCHANGES | Touches.DOWNLOAD, ready=_others_push),
    "start_task": Verb(
        _in_lane(lambda lane: lane.start_task(_TASK)),
        Touches.REPOSITORY | Touches.DISK | Touches.ROOM | Touches.LANE | Touches.BRANCH,
    ),
    "tasks": Verb(_in_lane(LaneWorkspace.tasks), _LOOKS, ready=_end_task),
    "merge_task": Verb(
        _in_lane(lambda lane: lane.merge_task(_TASK)),
        _LOCAL | Touches.BRANCH | Touches.LANE,
        ready=_start_task,
    ),
    "finish_task": Verb(
        _in_lane(lambda lane: lane.finish_task(_TASK)),
        Touches.REPOSITORY | Touches.DISK | Touches.LANE | Touches.BRANCH,
        ready=_end_task,
    ),
    "sync": Verb(_in_lane(LaneWorkspace.sync), _EXCHANGES | Touches.DOWNLOAD, ready=_base_moves),
    "clone": Verb(
        _clone,
        _WRITES | Touches.REMOTE | Touches.DOWNLOAD,
        ready=None,
        works_in=lambda place: place.made.parent,
    ),
    "open_lane": Verb(_open_by_path, Touches.REPOSITORY | Touches.RECORD),
    "status": Verb(_in_lane(LaneWorkspace.status), _LOOKS | Touches.WORKTREE),
    "resolve": Verb(_in_lane(lambda lane: lane.resolve(["README.md"])), _LOOKS | Touches.BRANCH),
    "diff": Verb(_in_lane(LaneWorkspace.diff), _LOOKS),
    "log": Verb(_in_lane(LaneWorkspace.log), _LOOKS),
    "preview_merge": Verb(_preview, Touches.REPOSITORY),
    "preview_pairs": Verb(_on(lambda repo: preview_pairs(repo, [BRANCH])), Touches.REPOSITORY),
    "rescued": Verb(_on(rescued), Touches.REPOSITORY),
    "restore": Verb(
        _on(lambda repo: restore(repo, _KEPT, branch="again")),
        Touches.REPOSITORY | Touches.DISK | Touches.ROOM,
        ready=_keep,
    ),
    "forget": Verb(
        _on(lambda repo: forget(repo, [_KEPT])),
        Touches.REPOSITORY | Touches.DISK | Touches.MANY_FILES,
        ready=_keep,
    ),
    "retarget_children": Verb(
        _retarget_children,
        Touches.REPOSITORY | Touches.DISK | Touches.ROOM,
        ready=_prepare_child,
    ),
    "reconcile": Verb(_reconcile, Touches.REPOSITORY | Touches.REMOTE, is_told_by_concerns=True),
}
