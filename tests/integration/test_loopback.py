"""The ground the doubles stand on: a small HTTP server that closes at once."""

from __future__ import annotations

import gzip
import socket
from typing import TYPE_CHECKING

import pytest
import requests

from agentrelay.workstream.testing._loopback import LoopbackServer, Request, Response
from agentrelay.workstream.testing.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator


class Echo(LoopbackServer):
    """A server that says what it was sent."""

    def handle(self, request: Request) -> Response:
        """Answer with the method, the path and the body; fail when asked to."""
        if request.path == "/fail":
            raise LookupError("asked for")
        text = f"{request.method} {request.path} ".encode() + request.body
        return Response(200, {"content-type": "text/plain"}, text)


@pytest.fixture
def echo() -> Iterator[Echo]:
    """Return a started echo."""
    with Echo() as started:
        yield started


def speak(server: LoopbackServer, sent: bytes) -> bytes:
    """Send bytes, say that nothing follows, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as reader:
            return reader.read()


def test_bodies_arrive_whole_however_they_were_sent(echo: Echo) -> None:
    """Chunked, compressed, and after a pause for permission: as the stock git sends them."""
    assert requests.post(f"{echo.url}/c", data=iter([b"ab", b"cd"]), timeout=60).text == (
        "POST /c abcd"
    )
    packed = gzip.compress(b"hello")
    answer = requests.post(
        f"{echo.url}/z", data=packed, headers={"Content-Encoding": "gzip"}, timeout=60
    )
    assert answer.text == "POST /z hello"
    waited = speak(
        echo,
        b"POST /e HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    )
    assert waited.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert waited.endswith(b"POST /e ok")
    trailers = speak(
        echo,
        b"POST /t HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nA: b\r\n\r\n",
    )
    assert trailers.endswith(b"POST /t ok")


def test_one_connection_carries_many_requests_until_a_side_closes_it(echo: Echo) -> None:
    """Keep-alive is the rule; ``Connection: close`` and HTTP/1.0 end it."""
    both = speak(echo, b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
    assert both.count(b"HTTP/1.1 200 OK") == 2
    one = speak(echo, b"GET /1 HTTP/1.0\r\n\r\nGET /2 HTTP/1.0\r\n\r\n")
    assert one.count(b"HTTP/1.1 200 OK") == 1
    assert speak(echo, b"HEAD /h HTTP/1.1\r\n\r\n").endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nno",
    ],
)
def test_bytes_that_are_no_request_are_refused(echo: Echo, sent: bytes) -> None:
    """400, and the server goes on with the next client."""
    assert speak(echo, sent).startswith(b"HTTP/1.1 400 Bad Request")
    assert requests.get(f"{echo.url}/next", timeout=60).text == "GET /next "


def test_a_client_that_leaves_in_the_middle_harms_nobody(echo: Echo) -> None:
    """An unfinished body is nobody's failure, and nothing is logged."""
    assert speak(echo, b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf") == b""
    assert echo.requests == ()


def test_a_failure_in_a_handler_reaches_the_test_and_not_the_screen(
    echo: Echo, capfd: pytest.CaptureFixture[str]
) -> None:
    """The client gets a 500, the test gets the exception itself."""
    assert requests.get(f"{echo.url}/fail", timeout=60).status_code == 500
    with pytest.raises(LookupError, match="asked for"):
        echo.check()
    assert capfd.readouterr() == ("", "")


def test_repeated_headers_are_joined_and_odd_statuses_have_a_phrase(echo: Echo) -> None:
    """Both are allowed on the wire, so both work here."""
    echo.faults.add(Fault.status(599, path="^/odd"))
    assert speak(echo, b"GET /odd HTTP/1.1\r\nX: 1\r\nX: 2\r\n\r\n").startswith(
        b"HTTP/1.1 599 Unknown"
    )
    assert echo.requests[0].headers["x"] == "1, 2"


def test_a_server_has_no_address_before_it_starts_and_starts_again_after_closing() -> None:
    """Starting and closing twice are harmless."""
    server = Echo()
    with pytest.raises(RuntimeError, match="start the Echo"):
        server.url  # noqa: B018  # asking is the point
    for _ in range(2):
        assert server.start() is server.start()
        assert requests.get(f"{server.url}/x", timeout=60).text == "GET /x "
        server.close()
        server.close()


def test_a_server_that_overrides_nothing_says_so(echo: Echo) -> None:
    """The base class answers nothing by itself."""
    with pytest.raises(NotImplementedError, match="answers nothing"), LoopbackServer() as bare:
        requests.get(bare.url, timeout=60)
    assert echo.requests == ()


class Careless(Echo):
    """A server whose own bookkeeping fails."""

    def loggable_body(self, request: Request) -> bytes:
        """Fail after the answer was made."""
        raise LookupError(f"no body to log in {request.path}")


def test_a_failure_outside_the_handler_is_not_lost_either() -> None:
    """The connection ends, and the test learns why."""
    server = Careless().start()
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(f"{server.url}/x", timeout=60)
    with pytest.raises(LookupError, match="no body to log in /x"):
        server.close()
