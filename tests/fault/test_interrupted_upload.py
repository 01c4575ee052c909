"""A line that is cut in the middle of a push, and a server that stops reading there."""

from __future__ import annotations

import os
import time
from typing import Any, Final

import pygit2
import pytest

from agentrelay.workstream import (
    LaneWorkspace,
    RemoteUnavailableError,
    WorkstreamRuntime,
    WorkstreamSpec,
    open_lane,
)
from agentrelay.workstream._git import libgit2
from agentrelay.workstream.testing import World, refs
from tests.fault._doors import UploadDoor
from tests.fault._matrix import REF

# More than the system takes in by itself before anybody reads: net.ipv4.tcp_wmem is 4 MiB.
_LARGE_BYTES: Final = 6 << 20


def _lane_with_much_to_push(
    world: World, *, network_timeout_s: float = 600.0, size_bytes: int = _LARGE_BYTES
) -> LaneWorkspace:
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    world.preparer(world.clone()).prepare_workstream(runtime)
    lane = open_lane(runtime, token=world.token, network_timeout_s=network_timeout_s)
    (lane.path / "large.bin").write_bytes(os.urandom(size_bytes))
    lane.commit("Large")
    return lane


def test_a_server_that_stops_reading_is_given_up_when_the_exchange_should_be_over(
    agentrelay_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not only after the minute a silent server is borne otherwise; then it is repeated."""
    world = agentrelay_world
    lane = _lane_with_much_to_push(world, network_timeout_s=0.5)
    # So that nobody has to wait for as long as a loaded machine may be silent.
    monkeypatch.setattr(libgit2, "_SHORTEST_MS", 500)
    handle = pygit2.Repository(str(lane.path))
    usual_ms = pygit2.settings.server_timeout
    with UploadDoor(world.git.port, after_bytes=50_000, then="stall") as door:
        handle.remotes.set_url("origin", f"http://127.0.0.1:{door.port}/octo/widgets.git")
        began = time.monotonic()
        with pytest.raises(RemoteUnavailableError, match=r"timed out|did not finish"):
            lane.push()
        assert time.monotonic() - began < 50
    assert pygit2.settings.server_timeout == usual_ms
    handle.remotes.set_url("origin", world.remote_url)
    again = open_lane(lane.runtime, token=world.token)
    assert again.push() == refs(world.remote_path)[REF]


@pytest.mark.parametrize("after_bytes", [1_000, 100_000, 300_000])
def test_an_upload_that_is_cut_in_the_pack_changes_nothing_and_is_repeated(
    agentrelay_world: World, after_bytes: int
) -> None:
    """Wherever the line is cut, the remote's branch stays where it was until all has arrived."""
    world = agentrelay_world
    lane = _lane_with_much_to_push(world, size_bytes=300_000)
    before = refs(world.remote_path)
    handle = pygit2.Repository(str(lane.path))
    with UploadDoor(world.git.port, after_bytes=after_bytes, then="cut", times=1) as door:
        handle.remotes.set_url("origin", f"http://127.0.0.1:{door.port}/octo/widgets.git")
        with pytest.raises(RemoteUnavailableError, match="cannot push"):
            lane.push()
        assert refs(world.remote_path) == before
        assert lane.push() == refs(world.remote_path)[REF]


@pytest.mark.parametrize("own_ms", [7_000, 90_000])
def test_a_process_keeps_its_own_time_outs_whatever_a_caller_waits(
    agentrelay_world: World, monkeypatch: pytest.MonkeyPatch, own_ms: int
) -> None:
    """They are the application's to set, for everything it does with libgit2."""
    world = agentrelay_world
    monkeypatch.setattr(pygit2.settings, "server_timeout", own_ms)
    seen: list[int] = []
    handle = world.git.handle

    def look(request: Any) -> Any:
        seen.append(pygit2.settings.server_timeout)
        return handle(request)

    monkeypatch.setattr(world.git, "handle", look)
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    world.preparer(world.clone(), network_timeout_s=30.0).prepare_workstream(runtime)
    assert set(seen) == {own_ms}


def test_the_longest_of_several_exchanges_decides_how_long_silence_is_borne(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process has one time-out: one caller's haste must not end another's exchange."""
    # 0 is libgit2's own: nobody has set them.
    monkeypatch.setattr(pygit2.settings, "server_timeout", 0)
    monkeypatch.setattr(pygit2.settings, "server_connect_timeout", 0)
    libgit2.configure_network()
    usual_ms = pygit2.settings.server_timeout
    with libgit2.patience(20):
        hasty_ms = pygit2.settings.server_timeout
        with libgit2.patience(600):
            both_ms = pygit2.settings.server_timeout
        after_ms = pygit2.settings.server_timeout
    assert (usual_ms, hasty_ms, both_ms, after_ms) == (60_000, 20_000, 60_000, 20_000)
    assert pygit2.settings.server_timeout == usual_ms
    with libgit2.patience(0):
        assert pygit2.settings.server_timeout == 5_000
        assert pygit2.settings.server_connect_timeout == 5_000
