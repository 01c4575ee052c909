"""The crash harness: one case, stopped at every moment it has, each time from the same start."""

from __future__ import annotations

import copy
import gc
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agentrelay.workstream import WorkstreamError, WorkstreamRuntime
from agentrelay.workstream.testing import World
from agentrelay.workstream.testing._loopback import LoopbackServer
from tests.fault._crash_cases import Case
from tests.fault._crash_moments import KINDS, Moment, StoppedError, Watch, kill
from tests.fault._crash_picture import picture, reach
from tests.fault._crash_syscalls import run_traced

__all__ = ["Stage"]


class Stage:
    """One case, put back to its start as often as wanted.

    Servers keep running meanwhile: children are forked as their clients only. The files are
    put back under the same paths, GitHub's pull requests from a copy.
    """

    def __init__(self, world: World, make: Callable[[World], Case]) -> None:
        """Arrange the case, and run it undisturbed once."""
        self.world = world
        self.case = make(world)
        self._saved = world.root.with_name(f"{world.root.name}-saved")
        shutil.copytree(world.root, self._saved, symlinks=True)
        hosted = world.github._first
        self._pulls = copy.deepcopy(hosted.pulls), hosted.next_number
        self._runtime = copy.deepcopy(self.case.runtime)
        self.before = reach(world, self.case.repo)
        with Watch() as watch:
            self.case.act(self.case.runtime)
        self.moments: Sequence[Moment] = list(watch.seen)
        self.wanted = self.look()
        self._check_nothing_lost()

    def put_back(self) -> None:
        """Make everything as it was before the operation."""
        for name in ("clones", "remotes"):
            shutil.rmtree(self.world.root / name)
            shutil.copytree(self._saved / name, self.world.root / name, symlinks=True)
        hosted = self.world.github._first
        hosted.pulls, hosted.next_number = copy.deepcopy(self._pulls[0]), self._pulls[1]
        self.world.git.clear()
        self.world.github.clear()
        self.case.runtime = copy.deepcopy(self._runtime)

    def look(self) -> dict[str, Any]:
        """Return the picture as it is now."""
        return picture(self.world, self.case.repo, self.case.runtime)

    def count_calls(self) -> int:
        """Return how many changing system calls the operation makes."""
        self.put_back()
        return len(run_traced(lambda: self.case.act(self.case.runtime)))

    # -- three ways to be stopped

    def killed_at_call(self, number: int) -> None:
        """Kill a child before its n-th changing system call, then begin anew."""
        self.put_back()
        run_traced(lambda: self.case.act(self.case.runtime), stop_at=number)
        self._by_another_process()

    def killed_at(self, moment: Moment) -> None:
        """Kill a child at a moment, then begin anew."""
        self.put_back()
        child = os.fork()
        if child == 0:
            try:
                with Watch(KINDS, stop_at=moment, strike=kill):
                    self.case.act(self.case.runtime)
            finally:
                # Not killed: some lines run only once a process. No clean-up of the tests'.
                os._exit(0)
        os.waitpid(child, 0)
        self._by_another_process()

    def interrupted_at(self, moment: Moment) -> None:
        """Interrupt this process at a moment; then it goes on with the same objects."""
        self.put_back()
        try:
            with Watch(KINDS, stop_at=moment):
                self.case.act(self.case.runtime)
        except StoppedError:
            pass
        self._and_then()

    def _by_another_process(self) -> None:
        """Go on with what is on disk, as another process does."""
        state = self._runtime.state
        signal_dir = state.signal_dir or (
            self.case.repo / ".workflow/nightly/workstreams" / self._runtime.spec.id
        )
        try:
            self.case.runtime = WorkstreamRuntime.load(signal_dir)
        except WorkstreamError:
            self.case.runtime = WorkstreamRuntime(self._runtime.spec)
        self._and_then()

    def _and_then(self) -> None:
        """Check that nothing is lost, repeat the operation, and compare."""
        settle(self.world.git)
        settle(self.world.github)
        self._check_nothing_lost()
        self.case.act(self.case.runtime)
        self._check_nothing_lost()
        differences = list(_differences(self.look(), self.wanted))
        assert not differences, "\n".join(differences)
        self.world.check()

    def _check_nothing_lost(self) -> None:
        lost = self.before - reach(self.world, self.case.repo) - self.case.may_go
        assert not lost, f"not reachable any more: {sorted(lost)}"


def settle(server: LoopbackServer) -> None:
    """Wait until a server has dealt with everything its dead clients sent."""
    with socket.create_connection(("127.0.0.1", server.port), 60) as visitor:
        # Connections are accepted in their order, so those before this one are known then.
        visitor.sendall(b"nothing a server answers\r\n\r\n")
        while visitor.recv(4096):
            pass
    # A connection of this process's own lives as long as the objects that hold it.
    gc.collect()
    with server._lock:
        threads = server._threads - {server._acceptor}
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a server still works for a client that is dead"


def _differences(found: Any, wanted: Any, where: str = "") -> Iterator[str]:
    """Yield what differs, by its path in the picture."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted({*found, *wanted}):
            yield from _differences(found.get(key), wanted.get(key), f"{where}/{key}")
    elif found != wanted:
        yield f"{where}: {found!r:.600} instead of {wanted!r:.600}"
