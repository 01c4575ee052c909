"""What breaks: servers that misbehave below HTTP, and limits of the operating system.

Each is a context manager; leaving it makes the world whole again. What needs a right
or a system that is not there says so, and the test is skipped with that reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime as dt
import gc
import ipaddress
import os
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, Self

import pygit2
import pytest

from agentrelay.workstream._git import locks

if sys.platform != "win32":
    import resource

__all__ = [
    "Door",
    "SshDoor",
    "TlsDoor",
    "UploadDoor",
    "certificate",
    "closed_port",
    "few_descriptors",
    "impatience",
    "mounted_tmpfs",
    "no_privileges",
    "quick_clock",
    "small_files",
]

# linux/capability.h: what lets root read and write whatever its mode says.
_DAC_OVERRIDE_AND_SEARCH: Final = 0b110
_CAPABILITY_V3: Final = 0x20080522


def closed_port() -> int:
    """Return a port of loopback that nobody listens at just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Door:
    """A listener that notes the first bytes of each visitor, and answers by a function."""

    def __init__(
        self,
        answer: Callable[[bytes, socket.socket], None],
        *,
        receive_bytes: int | None = None,
    ) -> None:
        """Listen on a free port of loopback.

        Args:
            answer: Called with the first bytes and the connection, in the visitor's thread.
            receive_bytes: How much the system takes in before anybody reads it.
        """
        self.asked: list[bytes] = []
        self._answer = answer
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        if receive_bytes is not None:
            # What is accepted inherits it.
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening and wait for the threads."""
        self._over.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        self._threads[0].join()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for connection in self._open:
            connection.close()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._over.is_set():
                connection.close()
                return
            self._open.append(connection)
            thread = threading.Thread(target=self._visit, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _visit(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self.receive(connection)
            connection.shutdown(socket.SHUT_RDWR)

    def receive(self, connection: socket.socket) -> None:
        """Read the first bytes and answer."""
        first = connection.recv(65536)
        self.asked.append(first)
        self._answer(first, connection)


class SshDoor(Door):
    """A door at which no ssh server is: one that says something else, or nothing any more."""

    def __init__(self, greeting: bytes, then: Literal["close", "hang"]) -> None:
        """Listen for ssh clients.

        Args:
            greeting: What each is told at once.
            then: Whether the connection ends then, or stays without a word.
        """
        self._greeting = greeting
        self._then = then
        super().__init__(lambda _first, _connection: None)

    def receive(self, connection: socket.socket) -> None:
        """Greet, and be silent."""
        connection.sendall(self._greeting)
        self.asked.append(connection.recv(65536))
        if self._then == "hang":
            self._over.wait()


class TlsDoor(Door):
    """A door behind TLS that passes everything on to a server of this machine."""

    def __init__(self, behind: int, certificate_path: Path) -> None:
        """Listen in front of port ``behind``, with a certificate and its key in one file."""
        self._behind = behind
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate_path)
        super().__init__(lambda _first, _connection: None)

    def receive(self, connection: socket.socket) -> None:
        """Shake hands, then pass bytes in both directions until one side has enough."""
        with (
            self._context.wrap_socket(connection, server_side=True) as visitor,
            socket.create_connection(("127.0.0.1", self._behind)) as server,
        ):
            self._open.append(server)
            back = threading.Thread(target=_pump, args=(server, visitor))
            back.start()
            _pump(visitor, server, note=self.asked.append)
            back.join()


class UploadDoor(Door):
    """A door to a server of this machine that has had enough in the middle of a push.

    What comes before the push passes, and so does everything once ``times`` are over.
    """

    ALWAYS: Final = 99

    def __init__(
        self, behind: int, *, after_bytes: int, then: Literal["cut", "stall"], times: int = ALWAYS
    ) -> None:
        """Listen in front of port ``behind``.

        Args:
            behind: Port of the server.
            after_bytes: How much of the push it still gets, head and all.
            then: Whether the line is cut then, or nobody reads any more.
            times: How many pushes it happens to.
        """
        self._behind = behind
        self._after_bytes = after_bytes
        self._then = then
        self.left = times
        super().__init__(lambda _first, _connection: None, receive_bytes=1 << 14)

    def receive(self, connection: socket.socket) -> None:
        """Pass bytes in both directions, of a push only so many."""
        with socket.create_connection(("127.0.0.1", self._behind)) as server:
            self._open.append(server)
            back = threading.Thread(target=_pump, args=(server, connection))
            back.start()
            passed: int | None = None
            while data := connection.recv(1 << 16):
                if b"POST" in data and b"git-receive-pack HTTP/1.1" in data and self.left:
                    self.left -= 1
                    passed = 0
                if passed is not None:
                    data = data[: self._after_bytes - passed]
                    passed += len(data)
                server.sendall(data)
                if passed == self._after_bytes:
                    break
            if passed is not None and self._then == "stall":
                self._over.wait()
            elif passed is not None:
                # Reset, as a line that is cut: with a mere end the client would go on sending.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            for side in (server, connection):
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
            back.join()
            if passed is not None:
                connection.close()


def _pump(
    source: socket.socket, sink: socket.socket, note: Callable[[bytes], object] | None = None
) -> None:
    """Pass bytes on until there are no more, then tell the other side so."""
    with contextlib.suppress(OSError, ValueError):
        while data := source.recv(65536):
            if note is not None:
                note(data)
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def certificate(path: Path, *, address: str) -> Path:
    """Write a self-made certificate for an address, and its key, into one file.

    Returns:
        The path.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # A name of its own: of two with one name OpenSSL tries the one it got to know first.
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"made up {serial}")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False
        )
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def _libc(function: str, *arguments: Any) -> None:
    """Call a function of the C library that returns 0 or fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


class _QuickClock:
    """A clock on which ten seconds of waiting for a lock file are a tenth of one."""

    def __init__(self) -> None:
        """Start at the real clock's reading."""
        self._real = time.monotonic
        self._start = self._real()

    def monotonic(self) -> float:
        """Return a reading, in seconds."""
        return self._start + (self._real() - self._start) * 100


@contextmanager
def quick_clock() -> Iterator[None]:
    """Let whoever waits for a lock file think that time flies; everybody else is left alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locks, "time", _QuickClock())
        yield


@contextmanager
def impatience(silence_ms: int) -> Iterator[None]:
    """Let libgit2 wait less for a silent server; the setting belongs to the whole process."""
    before = pygit2.settings.server_timeout
    pygit2.settings.server_timeout = silence_ms
    try:
        yield
    finally:
        pygit2.settings.server_timeout = before


@contextmanager
def no_privileges() -> Iterator[None]:
    """Let file modes count for whoever is above them as well, in this thread alone.

    Source:
        capabilities(7): the sets belong to a thread, and what is permitted may become
        effective again.
    """
    if sys.platform != "linux":
        yield
        return
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_V3, 0)
    # Effective, permitted and inheritable, twice 32 bits.
    sets = (ctypes.c_uint32 * 6)()
    _libc("capget", header, sets)
    before = sets[0]
    sets[0] = before & ~_DAC_OVERRIDE_AND_SEARCH
    _libc("capset", header, sets)
    try:
        yield
    finally:
        sets[0] = before
        _libc("capset", header, sets)


@contextmanager
def mounted_tmpfs(path: Path, *, size_bytes: int) -> Iterator[None]:
    """Mount a small file system of its own, for a disk that is really full."""
    if sys.platform != "linux":
        pytest.skip("only Linux has a tmpfs")
    options = f"size={size_bytes},mode=700".encode()
    try:
        _libc("mount", b"tmpfs", str(path).encode(), b"tmpfs", 0, options)
    except OSError as error:
        pytest.skip(f"a file system can be mounted by root only ({error})")
    try:
        yield
    finally:
        _libc("umount2", str(path).encode(), 2)  # MNT_DETACH: nobody is waited for


@contextmanager
def small_files(limit_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as a quota does.

    Source:
        setrlimit(2), RLIMIT_FSIZE; the interpreter ignores SIGXFSZ, so writes fail.
    """
    if sys.platform == "win32":
        pytest.skip("there are no resource limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def few_descriptors(left: int) -> Iterator[None]:
    """Leave this process only a few files it may still open."""
    if sys.platform == "win32":
        pytest.skip("there are no resource limits")
    # A collection in the middle would close files of other tests, and leave more than that.
    gc.collect()
    gc.disable()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/dev/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + left + 1, hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(left):
            os.close(taken.pop())
        yield
    finally:
        gc.enable()
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
