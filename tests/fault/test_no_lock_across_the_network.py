"""While a lane talks to a server, everybody else's work goes on: nothing but the lane is locked.

The judge sits in the servers. Before a request of the lane's is answered, another thread looks
at every lock there is, and then does what the locks are for: another lane's whole life, a
user's commit and setting, and somebody's look at what was kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pygit2
import pytest

from agentrelay.workstream import (
    LaneOutcome,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
    forget,
    open_lane,
    prepare_all,
    reconcile,
    rescued,
    teardown_all,
)
from agentrelay.workstream._git.lockfile import is_held
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream.testing import World, commit_files, refs
from fixtures.crowd import Crowd, ref_of

_UPLOAD, _RECEIVE, _API = "git-upload-pack", "git-receive-pack", "the API"


@dataclass
class Bystanders:
    """Others who work in the same repository, and notice every lock that is held too long.

    Attributes:
        world: Where.
        repo: The clone.
        met: What the lane asked for when they did their work.
    """

    world: World
    repo: Path
    met: list[str] = field(default_factory=list)
    _asked: set[str] = field(default_factory=set)
    _lives: int = 0
    _busy: threading.Lock = field(default_factory=threading.Lock)

    def live(self, request: Any) -> None:
        """Do it all, once a question, unless the question is of their own doing."""
        if not self._busy.acquire(blocking=False):
            return
        try:
            asked = f"{request.method} {request.target}"
            if asked not in self._asked:
                self._asked.add(asked)
                self.look_at_the_locks()
                self.work()
                kinds = [kind for kind in (_UPLOAD, _RECEIVE) if kind in asked]
                self.met.append(kinds[0] if kinds else _API)
        finally:
            self._busy.release()

    def look_at_the_locks(self) -> None:
        """Find every lock free but the lane's own."""
        own = self.repo / ".git" / "agentrelay"
        held = [path.name for path in own.rglob("*") if path.is_file() and is_held(path)]
        # The judge sees a lock that is held: it is not blind.
        assert held
        assert {name for name in held if not name.startswith("nightly-parser-")} == set()
        assert Crowd.locks(self.repo / ".git") == []
        repository = open_repository(self.repo)
        with repository.metadata_section(), repository.queue_for("config"):
            pass
        with repository.queue_for("packed-refs"):
            pass

    def work(self) -> None:
        """Let another lane come and go, and a user commit."""
        self._lives += 1
        name = f"other{self._lives}"
        runner = self.world.runner(self.repo)
        lane = WorkstreamRuntime(WorkstreamSpec(name))
        runner.prepare(lane)
        assert lane.state.worktree_path is not None
        (lane.state.worktree_path / "draft.txt").write_text(f"a draft of {name}\n")
        open_lane(lane, token=self.world.token).commit("A draft")
        runner.teardown(lane)
        assert ref_of(name) not in {**refs(self.repo), **refs(self.world.remote_path)}
        kept = rescued(self.repo, graph="nightly", workstream_id=name)
        assert [work.label for work in kept] == ["commits"]
        assert forget(self.repo, kept) == kept
        assert lane.artifacts.concerns
        commit_files(self.repo, {f"{name}.txt": "1"}, message=name)
        pygit2.Repository(str(self.repo)).config[f"user.key{self._lives}"] = name
        # It does what is left of other lanes, and leaves one that is held to its holder.
        found = reconcile(self.repo, token=self.world.token)
        assert {lane.outcome for lane in found.lanes} <= {LaneOutcome.LEFT}


@pytest.fixture
def scene(agentrelay_world: World) -> Bystanders:
    """Return a clone with bystanders; they do nothing yet."""
    return Bystanders(agentrelay_world, agentrelay_world.clone())


@contextmanager
def among(bystanders: Bystanders) -> Iterator[None]:
    """Let them work before each request from here on is answered."""
    bystanders.met.clear()
    bystanders._asked.clear()
    servers: list[Any] = [bystanders.world.git, bystanders.world.github]
    handles = [server.handle for server in servers]
    # So that a fetch brings something.
    commit_files(bystanders.world.remote_path, {"news.txt": str(handles)}, message="News")

    def watched(handle: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def answer(request: Any) -> Any:
            bystanders.live(request)
            return handle(request)

        return answer

    for server, handle in zip(servers, handles, strict=True):
        server.handle = watched(handle)
    try:
        yield
    finally:
        for server, handle in zip(servers, handles, strict=True):
            server.handle = handle
        # What went wrong among them says more than what came of it.
        bystanders.world.check()


def lanes() -> list[WorkstreamRuntime]:
    """Return two lanes that are not prepared."""
    return [WorkstreamRuntime(WorkstreamSpec(f"parser-{number}")) for number in range(2)]


def test_nothing_but_the_lane_is_locked_while_it_talks_to_a_server(scene: Bystanders) -> None:
    """In prepare, push, pull, integrate and teardown others finish what they do meanwhile."""
    world, repo = scene.world, scene.repo
    runner, (lane, _) = world.runner(repo), lanes()
    with among(scene):
        runner.prepare(lane)
    assert set(scene.met) == {_UPLOAD, _RECEIVE}
    workspace = open_lane(lane, token=world.token)
    commit_files(workspace.path, {"parser.txt": "1"}, message="parser")
    with among(scene):
        workspace.push()
    assert set(scene.met) == {_RECEIVE}
    branch = workspace.branch
    commit_files(world.remote_path, {"theirs.txt": "1"}, message="theirs", branch=branch)
    with among(scene):
        assert len(workspace.pull()) == 1
    assert set(scene.met) == {_UPLOAD}
    with among(scene):
        assert runner.integrate(lane).error is None
    assert _API in scene.met
    for pull in world.github.pulls():
        world.github.close_pull(pull.number)
    with among(scene):
        runner.teardown(lane)
    assert set(scene.met) == {_UPLOAD, _RECEIVE, _API}
    assert ref_of("parser-0") not in {**refs(repo), **refs(world.remote_path)}


def test_nothing_but_its_lanes_is_locked_while_a_batch_talks_to_a_server(
    scene: Bystanders,
) -> None:
    """The lanes of a batch are held together, and no other one waits for them."""
    world, repo = scene.world, scene.repo
    batch = lanes()
    with among(scene):
        results = prepare_all(batch, world.preparer(repo))
    assert [result.error for result in results] == [None, None]
    assert set(scene.met) == {_UPLOAD, _RECEIVE}
    assert {lane.status for lane in batch} == {WorkstreamStatus.ACTIVE}
    with among(scene):
        results = teardown_all(batch, world.teardown(repo))
    assert [result.error for result in results] == [None, None]
    # Whether GitHub is asked as well is no matter of locks.
    assert set(scene.met) >= {_UPLOAD, _RECEIVE}
    assert not {ref_of(lane.spec.id) for lane in batch} & {
        *refs(repo),
        *refs(world.remote_path),
    }
