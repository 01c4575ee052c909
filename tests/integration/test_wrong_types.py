"""Arguments of another kind: a typed refusal before anything is changed, everywhere alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from agentrelay.workstream import (
    LaneWorkspace,
    WorkstreamError,
    WorkstreamRuntime,
    clone,
    open_lane,
    prepare_all,
    preview_merge,
    preview_pairs,
    teardown_all,
)
from agentrelay.workstream.testing import World, refs
from tests.integration._workspaces import workspace_in, write

# Whatever a caller may pass by mistake, in place of what belongs there.
Call = Callable[[World, Any, Any], object]


def _repo(lane: LaneWorkspace) -> Path:
    return lane.path.parents[2]


def _with(**mistake: Any) -> Call:
    """Open the lane with a setting of another kind."""
    return lambda _world, lane, _: open_lane(lane.runtime, **mistake)


def _commit(**mistake: Any) -> Call:
    """Commit with an argument of another kind."""
    return lambda _world, lane, _: lane.commit(**{"message": "Work", **mistake})


def _clone(**mistake: Any) -> Call:
    """Clone with an argument of another kind."""
    return lambda world, _lane, _: clone(
        **{"url": world.remote_url, "path": world.root / "made", **mistake}
    )


_CALLS: Final[dict[str, tuple[Call, str]]] = {
    "open_lane(5)": (lambda _w, _l, _: open_lane(5), "lane is 5"),  # type: ignore[arg-type]  # the mistake
    "open_lane(None)": (lambda _w, _l, _: open_lane(None), "lane is None"),  # type: ignore[arg-type]  # the mistake
    "open_lane(b'.')": (lambda _w, _l, _: open_lane(b"."), "lane is b'.'"),  # type: ignore[arg-type]  # the mistake
    "open_lane(remote=5)": (_with(remote=5), "remote is 5"),
    "open_lane(ssh_key=5)": (_with(ssh_key=5), "ssh_key is 5"),
    "open_lane(token=5)": (_with(token=5), "token must be"),
    "open_lane(lane_timeout_s='1')": (_with(lane_timeout_s="1"), "lane_timeout_s is '1'"),
    "prepare_all(5)": (
        lambda world, lane, _: prepare_all(5, world.preparer(_repo(lane))),  # type: ignore[arg-type]  # the mistake
        "runtimes is 5",
    ),
    "prepare_all(runtime)": (
        lambda world, lane, _: prepare_all(lane.runtime, world.preparer(_repo(lane))),
        "runtimes is WorkstreamRuntime",
    ),
    "prepare_all(['parser'])": (
        lambda world, lane, _: prepare_all(["parser"], world.preparer(_repo(lane))),  # type: ignore[list-item]  # the mistake
        "one of the runtimes is 'parser'",
    ),
    "prepare_all(_, teardown)": (
        lambda world, lane, _: prepare_all([lane.runtime], world.teardown(_repo(lane))),  # type: ignore[arg-type]  # the mistake
        "preparer is GitWorkstreamTeardown",
    ),
    "teardown_all(None)": (
        lambda world, lane, _: teardown_all(None, world.teardown(_repo(lane))),  # type: ignore[arg-type]  # the mistake
        "runtimes is None",
    ),
    "teardown_all([5])": (
        lambda world, lane, _: teardown_all([lane.runtime, 5], world.teardown(_repo(lane))),  # type: ignore[list-item]  # the mistake
        "one of the runtimes is 5",
    ),
    "teardown_all(_, preparer)": (
        lambda world, lane, _: teardown_all([lane.runtime], world.preparer(_repo(lane))),  # type: ignore[arg-type]  # the mistake
        "teardown is GitWorkstreamPreparer",
    ),
    "log(5)": (lambda _w, lane, _: lane.log(5), "cannot compare with 5"),
    "log([])": (lambda _w, lane, _: lane.log([]), "cannot compare with []"),
    "log(most='3')": (lambda _w, lane, _: lane.log(most="3"), "most is '3'"),
    "log(most=1.5)": (lambda _w, lane, _: lane.log(most=1.5), "most is 1.5"),
    "diff(None)": (lambda _w, lane, _: lane.diff(None), "cannot compare with None"),
    "diff({})": (lambda _w, lane, _: lane.diff({}), "cannot compare with {}"),
    "commit(5)": (_commit(message=5), "the message is int"),
    "commit(paths=5)": (_commit(paths=5), "paths is 5"),
    "commit(paths=[5])": (_commit(paths=[5]), "5 is no path"),
    "commit(author=5)": (_commit(author=5), "the author 5"),
    "commit(trailers=5)": (_commit(trailers=5), "trailers is 5"),
    "commit(trailers=[5])": (_commit(trailers=[5]), "5 is no trailer"),
    "commit(before=5)": (_commit(before=5), "before is 5"),
    "commit(after=5)": (_commit(after=5), "after is 5"),
    "resolve(5)": (lambda _w, lane, _: lane.resolve(5), "paths is 5"),
    "preview_merge(5, ...)": (
        lambda _w, lane, _: preview_merge(5, lane.branch, target="main"),  # type: ignore[arg-type]  # the mistake
        "repo_path is 5",
    ),
    "preview_merge(_, 5)": (
        lambda _w, lane, _: preview_merge(_repo(lane), 5, target="main"),  # type: ignore[arg-type]  # the mistake
        "lane is 5",
    ),
    "preview_merge(_, _, target=5)": (
        lambda _w, lane, _: preview_merge(_repo(lane), lane.branch, target=5),  # type: ignore[arg-type]  # the mistake
        "target is 5",
    ),
    "preview_merge(_, _, remote=5)": (
        lambda _w, lane, _: preview_merge(_repo(lane), lane.branch, target="main", remote=5),  # type: ignore[arg-type]  # the mistake
        "remote <int>",
    ),
    "preview_pairs(_, 5)": (
        lambda _w, lane, _: preview_pairs(_repo(lane), 5),  # type: ignore[arg-type]  # the mistake
        "lanes is 5",
    ),
    "preview_pairs(_, 'main')": (
        lambda _w, lane, _: preview_pairs(_repo(lane), "main"),
        "lanes is 'main'",
    ),
    "preview_pairs(_, [5])": (
        lambda _w, lane, _: preview_pairs(_repo(lane), [5]),  # type: ignore[list-item]  # the mistake
        "lane is 5",
    ),
    "clone(5)": (_clone(url=5), "url is 5"),
    "clone(_, 5)": (_clone(path=5), "path is 5"),
    "clone(remote=5)": (_clone(remote=5), "remote is 5"),
    "clone(ssh_key=5)": (_clone(ssh_key=5), "ssh_key is 5"),
    "clone(branch=5)": (_clone(branch=5), "branch <int>"),
    "clone(depth='1')": (_clone(depth="1"), "depth is '1'"),
    "clone(depth=1.5)": (_clone(depth=1.5), "depth is 1.5"),
    "clone(progress=5)": (_clone(progress=5), "progress is 5"),
    "clone(token=5)": (_clone(token=5), "token must be"),
}


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a world and a prepared lane with a file in no commit; mistakes change neither."""
    with World(tmp_path_factory.mktemp("wrong-types") / "world") as world:
        workspace = workspace_in(world)
        write(workspace, work__py="pass\n")
        yield world, workspace


@pytest.mark.parametrize(("call", "says"), _CALLS.values(), ids=_CALLS)
def test_an_argument_of_another_kind_is_a_typed_refusal_and_changes_nothing(
    call: Call, says: str, lane: tuple[World, LaneWorkspace]
) -> None:
    """It is named, with a hint, before anything is made, committed, torn down or asked for."""
    world, workspace = lane
    repo = _repo(workspace)
    before = refs(repo), refs(world.remote_path), len(world.git.requests)
    with pytest.raises(WorkstreamError) as caught:
        call(world, workspace, None)
    assert says in caught.value.message
    assert caught.value.hint
    assert (refs(repo), refs(world.remote_path), len(world.git.requests)) == before
    assert workspace.status().untracked == ("work.py",)
    assert not (world.root / "made").exists()


def test_a_runtime_of_another_kind_is_not_taken_for_a_lane(lane: tuple[World, Any]) -> None:
    """A class in place of an object is a mistake like any other."""
    world, workspace = lane
    with pytest.raises(WorkstreamError, match="one of the runtimes is"):
        teardown_all([WorkstreamRuntime], world.teardown(_repo(workspace)))  # type: ignore[list-item]  # the mistake
