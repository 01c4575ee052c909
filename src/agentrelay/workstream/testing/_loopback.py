"""A small threaded HTTP/1.1 server on loopback: the ground both doubles stand on.

Why not ``http.server``: its constructor asks the resolver for the host's name,
its shutdown polls twice a second and cannot interrupt a connection that waits,
and it neither reads chunked bodies nor compressed ones, which the stock git sends.
Here every wait is on the closing event or on a socket that closing shuts.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from agentrelay.workstream.testing._loopback_wire import (
    BadRequestError,
    Request,
    Response,
    read_request,
    send_response,
)
from agentrelay.workstream.testing.faults import Fault, FaultKind, FaultPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

__all__ = ["LoggedRequest", "LoopbackServer", "Request", "Response"]

# How long closing waits for the threads, all together, in seconds. Their sockets
# are shut by then, so only a handler in the middle of its work needs any of it: a moment,
# or seconds where the machine has much else to do. Whoever is left behind would work on
# files that are removed next.
_CLOSE_S: Final = 20.0

# Where acknowledgements cannot be hurried, set again what is set anyway.
_QUICKACK: Final[int] = getattr(socket, "TCP_QUICKACK", socket.TCP_NODELAY)


@dataclass(frozen=True)
class LoggedRequest:
    """One request as a test sees it afterwards; it holds no secret.

    Attributes:
        method: Method in upper case.
        path: Path with its query, as it came.
        headers: Header fields by lower-case name; ``authorization`` is cut to its scheme.
        status: Status of the answer, or 0 where none was sent.
        body: Body of the request, as far as the server keeps it.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    status: int
    body: bytes


class LoopbackServer:
    """A server on ``127.0.0.1`` and a free port; use it as a context manager.

    Each connection has a daemon thread. A failure inside a handler is answered
    with 500 and kept: :meth:`check` raises it where the test can see it, and so do
    :meth:`close` and leaving the ``with`` block, unless another exception is on its way.
    """

    def __init__(self) -> None:
        """Make a server that does not listen yet."""
        self.faults = FaultPlan()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._port: int | None = None
        self._connections: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._log: list[LoggedRequest] = []
        self._failures: list[BaseException] = []

    def handle(self, request: Request) -> Response:
        """Answer one request; runs in the connection's thread.

        Args:
            request: The request.

        Returns:
            The answer.
        """
        raise NotImplementedError(f"{type(self).__name__} answers nothing: {request.method}")

    def loggable_body(self, request: Request) -> bytes:
        """Return what the log keeps of a request's body: all of it, unless overridden."""
        return request.body

    @property
    def port(self) -> int:
        """The port; known once the server was started."""
        if self._port is None:
            raise RuntimeError(f"start the {type(self).__name__} before asking for its address")
        return self._port

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> tuple[LoggedRequest, ...]:
        """Every request so far, in the order in which their answers were decided."""
        with self._lock:
            return tuple(self._log)

    def clear(self) -> None:
        """Forget the log and the planned faults; failures wait for :meth:`check`."""
        self.faults.clear()
        with self._lock:
            self._log.clear()

    def remember(self, failure: BaseException) -> None:
        """Keep ``failure`` for :meth:`check`; callable from any thread."""
        with self._lock:
            self._failures.append(failure)

    def check(self) -> None:
        """Raise what went wrong inside the server since the last check.

        Raises:
            BaseException: The first failure; the others are its notes.
        """
        with self._lock:
            failures, self._failures = self._failures, []
        if failures:
            first = failures[0]
            for other in failures[1:]:
                first.add_note(f"also: {type(other).__name__}: {other}")
            raise first

    def start(self) -> Self:
        """Listen and serve; does nothing when it is doing so already."""
        if self._listener is None:
            self._closing.clear()
            # create_server sets SO_REUSEADDR, and 0 asks the system for a free port.
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
            self._port = self._listener.getsockname()[1]
            self._acceptor = self._spawn(partial(self._accept, self._listener))
        return self

    def close(self) -> None:
        """Stop serving, whatever the clients do; then :meth:`check`.

        Nobody who waits for an answer is waited for; a handler in the middle of its work
        is, twenty seconds at most. Calling it again is harmless. Nothing is raised while
        another exception is being handled: it would hide the reason for the failure.
        """
        if self._listener is not None and self._acceptor is not None:
            self._closing.set()
            deadline = time.monotonic() + _CLOSE_S
            # A last visitor wakes the accepting thread on every system; closing its
            # socket under it would not. Only then is the socket free to go.
            with contextlib.suppress(OSError):
                socket.create_connection(self._listener.getsockname(), _CLOSE_S).close()
            self._acceptor.join(_CLOSE_S)
            self._listener.close()
            self._listener = self._acceptor = None
            with self._lock:
                threads = self._threads - {threading.current_thread()}
                for connection in self._connections:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
        if sys.exception() is None:
            self.check()

    def __enter__(self) -> Self:
        """Start the server."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the server, and check it when nothing else went wrong."""
        self.close()

    # -- the connections

    def _spawn(self, work: Callable[[], None]) -> threading.Thread:
        """Do ``work`` in a daemon thread that close() waits for."""

        def run() -> None:
            try:
                work()
            except BaseException as failure:  # noqa: BLE001  # a thread has nobody to raise to
                self.remember(failure)
            finally:
                with self._lock:
                    self._threads.discard(thread)

        thread = threading.Thread(target=run, name=f"loopback-{self._port}", daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()
        return thread

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            with self._lock:
                self._connections.add(connection)
            if self._closing.is_set():
                self._forget(connection)
                return
            self._spawn(partial(self._converse, connection))

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.discard(connection)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _converse(self, connection: socket.socket) -> None:
        """Serve one connection until either side has enough."""
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection.makefile("rb") as reader:
                while not self._closing.is_set() and self._exchange(connection, reader):
                    pass
        except OSError:
            pass  # The client went away, or close() shut the connection: both are ordinary.
        finally:
            self._forget(connection)

    def _exchange(self, connection: socket.socket, reader: BinaryIO) -> bool:
        """Read one request and answer it; tell whether the connection goes on."""
        # Linux forgets this setting by itself. Without it a client that sends head and
        # body apart waits up to 40 ms for the acknowledgement of the first.
        connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        try:
            request = read_request(connection, reader)
        except BadRequestError as error:
            send_response(connection, Response(400, {"connection": "close"}, str(error).encode()))
            return False
        if request is None:
            return False
        fault = self.faults.take(request.method, request.target)
        if fault is None:
            response = self._answer(request)
            self._record(request, response.status)
            send_response(connection, response, method=request.method)
        elif not self._misbehave(connection, request, fault):
            return False
        return request.headers.get("connection", "").lower() != "close"

    def _answer(self, request: Request) -> Response:
        try:
            return self.handle(request)
        except Exception as failure:  # noqa: BLE001  # raised again by check(), in the test's thread
            self.remember(failure)
            return Response(500, {"content-type": "text/plain"}, b"the double failed; see check()")

    def _misbehave(self, connection: socket.socket, request: Request, fault: Fault) -> bool:
        """Carry out a fault; tell whether the connection goes on."""
        kind = fault.kind
        if kind is FaultKind.SILENCE:
            self._record(request, 0)
            self._closing.wait()
            return False
        acts = kind is not FaultKind.ANSWER or fault.effect == "done"
        response = self._answer(request) if acts else Response(fault.code)
        if kind is FaultKind.ANSWER:
            response = _replacement(fault)
        self._record(request, 0 if kind is FaultKind.DROP_ANSWER else response.status)
        if kind is FaultKind.DROP_ANSWER:
            return False
        if kind is FaultKind.DRIBBLE:
            return self._dribble(connection, request, response, fault)
        if kind is FaultKind.DELAY and self._closing.wait(fault.pause_s):
            return False
        stop_bytes = fault.after_bytes if kind is FaultKind.CUT else None
        if stop_bytes is not None and stop_bytes >= len(response.body):
            # Nothing is cut, so the client must hear that the connection ends: whether it
            # noticed in time before its next request would be a matter of luck.
            fields = dict(response.headers)
            response = replace(response, headers={**fields, "connection": "close"})
        send_response(connection, response, method=request.method, stop_bytes=stop_bytes)
        return kind is not FaultKind.CUT

    def _dribble(
        self, connection: socket.socket, request: Request, response: Response, fault: Fault
    ) -> bool:
        """Send an answer's body in small pieces; tell whether the connection goes on."""
        send_response(connection, response, method=request.method, stop_bytes=0)
        for start in range(0, len(response.body), fault.chunk_bytes):
            if self._closing.wait(fault.pause_s):
                return False
            connection.sendall(response.body[start : start + fault.chunk_bytes])
        return True

    def _record(self, request: Request, status: int) -> None:
        """Log a request before its answer leaves, so that its sender finds it there."""
        headers = dict(request.headers)
        if request.authorization is not None:
            headers["authorization"] = request.authorization.partition(" ")[0]
        entry = LoggedRequest(
            request.method, request.target, headers, status, self.loggable_body(request)
        )
        with self._lock:
            self._log.append(entry)


def _replacement(fault: Fault) -> Response:
    """Return the answer a fault puts in the place of the real one."""
    headers = list(fault.headers)
    if fault.reset_s is not None:
        headers.append(("x-ratelimit-reset", str(int(time.time() + fault.reset_s))))
    return Response(fault.code, headers, fault.body)
