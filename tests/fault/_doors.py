"""Servers that misbehave below HTTP: doors that answer, pass on, cut or hang as they are told."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, Self

__all__ = ["Door", "SshDoor", "TlsDoor", "UploadDoor", "certificate"]


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
