"""Requests and answers of HTTP/1.1 on a socket, as far as the doubles need them."""

from __future__ import annotations

import email.utils
import http.client
import zlib
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

__all__ = ["BadRequestError", "Request", "Response", "read_request", "send_response"]

# The longest request or chunk-size line; the standard library's own limit.
_LINE_BYTES: Final = 65536

_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


@dataclass(frozen=True)
class Request:
    """One request as a handler sees it.

    Attributes:
        method: Method in upper case.
        path: Path without its query, percent-decoded.
        target: Path and query as they came.
        query: Query parameters; the last one wins.
        headers: Header fields by lower-case name.
        body: Body, with transfer and content codings undone.
        authorization: The ``Authorization`` field, or ``None``.
    """

    method: str
    path: str
    target: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    authorization: str | None = field(repr=False)


@dataclass(frozen=True)
class Response:
    """One answer.

    Attributes:
        status: HTTP status.
        headers: Header fields; ``Date``, where it is missing, and the body's length are added.
        body: The whole body.
    """

    status: int
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    body: bytes = b""


class BadRequestError(Exception):
    """The bytes on the connection are not a request."""


def read_request(connection: socket.socket, reader: BinaryIO) -> Request | None:
    """Read one request.

    Args:
        connection: Where ``100 Continue`` goes when the client waits for it.
        reader: The connection's incoming bytes.

    Returns:
        The request, or ``None`` where the client has closed.

    Raises:
        BadRequestError: These bytes are no request.
        OSError: The connection ended in the middle.
    """
    try:
        return _read_request(connection, reader)
    except (ValueError, http.client.HTTPException, zlib.error) as error:
        raise BadRequestError(str(error)) from error


def _read_request(connection: socket.socket, reader: BinaryIO) -> Request | None:
    line = reader.readline(_LINE_BYTES)
    if not line:
        return None
    parts = line.decode("latin-1").split()
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):  # noqa: PLR2004  # RFC 9112, section 3
        raise BadRequestError("not a request line of HTTP/1.1")
    method, target, version = parts
    message = http.client.parse_headers(reader)
    headers: dict[str, str] = {}
    for name, value in message.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    if version == "HTTP/1.0":
        headers["connection"] = "close"
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    url = urlsplit(target)
    return Request(
        method=method.upper(),
        path=unquote(url.path),
        target=target,
        query=dict(parse_qsl(url.query, keep_blank_values=True)),
        headers=headers,
        body=_read_body(reader, headers),
        authorization=headers.get("authorization"),
    )


def _read_body(reader: BinaryIO, headers: Mapping[str, str]) -> bytes:
    """Read a request's body and undo its codings (RFC 9112, sections 6 and 7)."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        chunks = []
        while size := int(reader.readline(_LINE_BYTES).partition(b";")[0], 16):
            chunks.append(_read_exactly(reader, size))
            reader.readline(_LINE_BYTES)
        while reader.readline(_LINE_BYTES).strip():
            pass  # Trailer fields: nobody here sends any that matter.
        body = b"".join(chunks)
    else:
        body = _read_exactly(reader, int(headers.get("content-length", "0")))
    if headers.get("content-encoding", "").lower() in {"gzip", "x-gzip"}:
        body = zlib.decompress(body, wbits=zlib.MAX_WBITS | 16)  # 16: a gzip header is expected
    return body


def _read_exactly(reader: BinaryIO, size: int) -> bytes:
    data = reader.read(size)
    if len(data) != size:
        raise ConnectionResetError("the client closed in the middle of a body")
    return data


def send_response(
    connection: socket.socket,
    response: Response,
    *,
    method: str = "GET",
    stop_bytes: int | None = None,
) -> None:
    """Send an answer in one piece: its head with its full length, and its body.

    Args:
        connection: Where to.
        response: The answer.
        method: The request's method; ``HEAD`` has no body.
        stop_bytes: Send no more of the body than this.
    """
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = "Unknown"
    headers = response.headers
    pairs = [*(headers.items() if hasattr(headers, "items") else headers)]
    if not any(name.lower() == "date" for name, _ in pairs):
        pairs.append(("date", email.utils.formatdate(usegmt=True)))
    if response.status not in _BODILESS:
        pairs.append(("content-length", str(len(response.body))))
    lines = [f"HTTP/1.1 {response.status} {phrase}", *(f"{name}: {value}" for name, value in pairs)]
    head = "\r\n".join([*lines, "\r\n"]).encode("latin-1")
    hidden = method == "HEAD" or response.status in _BODILESS
    connection.sendall(head + (b"" if hidden else response.body[:stop_bytes]))
