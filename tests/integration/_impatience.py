"""Clients that give up soon where a server is going to keep them waiting, and nowhere else.

With one time-out for all requests a test has the choice between waiting long for what never
comes, and failing wherever the machine is slow with what does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from agentrelay.workstream._github import app_token, connection, transport
from agentrelay.workstream.testing._loopback import LoopbackServer
from agentrelay.workstream.testing.faults import FaultKind

__all__ = ["impatience"]

# What is waited for an answer that does not come in time, in seconds.
_SOON_S: Final = 0.3
_LATE: Final = frozenset({FaultKind.DELAY, FaultKind.SILENCE, FaultKind.DRIBBLE})
_PATIENCE_S: Final = 60.0


@contextmanager
def impatience() -> Iterator[dict[str, LoopbackServer]]:
    """Let clients made in a ``with`` block wait shortly for planned delays, and long for all else.

    The request has always been dealt with when its sender goes on, so that what it finds
    afterwards does not depend on who was faster.

    Yields:
        The servers this is about, by their URLs; the caller adds them.
    """
    servers: dict[str, LoopbackServer] = {}

    class Impatient(connection.Connection):
        def getresponse(self) -> Any:
            assert self._call is not None
            method, path = self._call[:2]
            server = servers.get(self._origin)
            if server is None or not _keeps_waiting(server, method, path):
                return super().getresponse()
            before, usual_s = len(server.requests), self._timeout_s
            self._timeout_s = _SOON_S
            try:
                return super().getresponse()
            finally:
                self._timeout_s = usual_s
                ends_at = time.monotonic() + _PATIENCE_S
                while len(server.requests) == before:
                    assert time.monotonic() < ends_at, "the request did not arrive"
                    threading.Event().wait(0.001)

    with pytest.MonkeyPatch.context() as patch:
        for module in (transport, app_token):
            patch.setattr(module, "Connection", Impatient)
        # The alarm over a whole exchange runs before anything is sent, too.
        patch.setattr(connection, "_ANSWER_TIMEOUTS", 1000)
        yield servers


def _keeps_waiting(server: LoopbackServer, method: str, path: str) -> bool:
    """Return whether the fault that comes next to a request lets it wait."""
    meant = (fault for fault in server.faults.pending if fault.matches(method, path))
    return next((fault.kind in _LATE for fault in meant), False)
