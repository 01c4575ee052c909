"""One thread's HTTP connection, under PyGithub: bounded, and it follows nobody.

PyGithub's requester takes a connection as an argument. Ours reads nothing from the
environment, sends once, never follows a redirect, never waits for a 202, and bounds
the size of an answer and the time an exchange may take as a whole.

A socket's time-out starts again with every byte, so a server that sends one now and
then outlasts it, in the head of an answer as well as in its body. Therefore each
exchange has an alarm that shuts the socket.
"""

from __future__ import annotations

import logging
import math
import socket
import sys
import threading
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterator
    from types import ModuleType

    import requests

__all__ = ["API_VERSION", "Connection", "DivertedError", "import_github", "user_agent"]

# The version whose answers this package reads. Newer ones drop fields from pull
# requests; without a pin GitHub chooses for us.
API_VERSION: Final = "2022-11-28"

# A page of 100 pull requests is about 3 MB; ten times that is not an answer to read.
_LARGEST_ANSWER_BYTES: Final = 32 * 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024

# How many silences' worth of time a whole exchange may take.
_ANSWER_TIMEOUTS: Final = 4

# A time-out of zero would mean "do not block" to a socket.
_SHORTEST_S: Final = 0.001

# Statuses PyGithub's requester acts on by itself: it follows a 301 without its query,
# and asks again for as long as it gets a 202. They leave by an exception instead.
_SELF_WILLED: Final = frozenset({202, 301, 302})

_import_lock: Final = threading.Lock()


class DivertedError(Exception):
    """An answer that the requester must not see.

    Attributes:
        status: HTTP status.
        headers: Headers, their names in lower case.
        text: The body.
    """

    def __init__(self, status: int, headers: dict[str, str], text: str) -> None:
        """Carry an answer past the requester."""
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.text = text


def user_agent() -> str:
    """Return how this package calls itself; GitHub refuses requests without a name."""
    return f"agentrelay-workstream/{version('agentrelay-workstream')}"


def import_github() -> ModuleType:
    """Import PyGithub on first use and undo what the import does to logging.

    Importing it sets the level of the logger "github" and adds a handler that prints
    to stderr, in every program that merely uses this library. Where the program has
    imported it already, its logging is the program's own affair.
    """
    with _import_lock:
        was_imported = "github" in sys.modules
        logger = logging.getLogger("github")
        level, handlers = logger.level, list(logger.handlers)
        import github

        if not was_imported:
            for handler in logger.handlers[:]:
                if handler not in handlers and type(handler) is logging.StreamHandler:
                    logger.removeHandler(handler)
            logger.setLevel(level)
        return github


class Connection:
    """What PyGithub's requester needs of a connection, on a requests session.

    Attributes:
        left_s: Seconds the next exchange may take in all, if that is less than the
            time-out allows by itself. Whoever sends sets it.
    """

    def __init__(
        self, api_url: str, *, timeout_s: float, verify: bool | str, proxy: str | None
    ) -> None:
        """Prepare a session; nothing is opened yet.

        Args:
            api_url: Base of the API; gives scheme, host and port.
            timeout_s: Longest silence, in seconds.
            verify: Certificate bundle, or ``True`` for the default one.
            proxy: Proxy URL, or ``None``.
        """
        parts = urlsplit(api_url)
        # The attribute PyGithub compares with its own host.
        self.host = parts.hostname
        self.left_s = math.inf
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._timeout_s = timeout_s
        self._sockets = _Sockets()
        self._session = _blind_session()
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, _watched_adapter(self._sockets))
        # Proxies, certificates and netrc come from the credential chain alone.
        self._session.trust_env = False
        self._session.verify = verify
        if proxy is not None:
            self._session.proxies = {"http": proxy, "https": proxy}
        self._call: tuple[str, str, str | None, dict[str, str]] | None = None

    def request(
        self,
        verb: str,
        url: str,
        input: str | None,  # noqa: A002 - PyGithub's name
        headers: dict[str, str],
        stream: bool = False,  # noqa: ARG002, FBT001, FBT002 - PyGithub's signature
    ) -> None:
        """Note the request; :meth:`getresponse` sends it."""
        self._call = (verb, url, input, headers)

    def getresponse(self) -> _Response:
        """Send the noted request, once, and read the whole answer.

        Raises:
            requests.exceptions.RequestException: No answer.
            TimeoutError: The answer did not end in time.
            ValueError: The answer is too large.
            DivertedError: A status PyGithub would act on by itself.
        """
        assert self._call is not None
        verb, url, body, headers = self._call
        self._call = None
        longest_s = max(_SHORTEST_S, min(_ANSWER_TIMEOUTS * self._timeout_s, self.left_s))
        with (
            self._sockets.alarm(longest_s),
            self._session.request(
                verb,
                self._origin + url,
                headers=headers,
                data=body,
                timeout=min(self._timeout_s, longest_s),
                allow_redirects=False,
                stream=True,
            ) as answer,
        ):
            text = _read(answer)
            headers = dict(answer.headers)
        if answer.status_code in _SELF_WILLED:
            lowered = {name.lower(): value for name, value in headers.items()}
            raise DivertedError(answer.status_code, lowered, text)
        return _Response(answer.status_code, headers, text)

    def close(self) -> None:
        """Close the session's sockets."""
        self._session.close()
        self._sockets.forget()


class _Response:
    """What PyGithub's requester needs of an answer."""

    def __init__(self, status: int, headers: dict[str, str], text: str) -> None:
        """Hold a read answer."""
        self.status = status
        self.headers = headers
        self._text = text

    def getheaders(self) -> ItemsView[str, str]:
        """Return the headers as they came."""
        return self.headers.items()

    def read(self) -> str:
        """Return the body as text."""
        return self._text


def _read(answer: requests.Response) -> str:
    """Read a body up to our limit; JSON is UTF-8 whatever the header says."""
    body = bytearray()
    chunk: Any
    for chunk in answer.iter_content(_CHUNK_BYTES):
        body += chunk
        if len(body) > _LARGEST_ANSWER_BYTES:
            raise ValueError(f"larger than {_LARGEST_ANSWER_BYTES} bytes")
    return body.decode("utf-8", "replace")


class _Sockets:
    """The sockets of one session, and the alarm that shuts them.

    Duplicates are kept: while a TLS connection is made the library above holds no
    handle of it that could be shut.
    """

    def __init__(self) -> None:
        """Know no socket yet."""
        self._lock = threading.Lock()
        self._duplicates: dict[int, socket.socket] = {}

    def add(self, owner: int, made: socket.socket) -> None:
        """Keep a duplicate of a connection's socket until :meth:`drop`."""
        self.drop(owner)
        with self._lock:
            self._duplicates[owner] = made.dup()

    def drop(self, owner: int) -> None:
        """Close the duplicate of a connection that is closed itself."""
        with self._lock:
            old = self._duplicates.pop(owner, None)
        if old is not None:
            old.close()

    def forget(self) -> None:
        """Close what is left."""
        with self._lock:
            duplicates, self._duplicates = self._duplicates, {}
        for duplicate in duplicates.values():
            duplicate.close()

    @contextmanager
    def alarm(self, longest_s: float) -> Iterator[None]:
        """Shut all sockets once ``longest_s`` seconds are over.

        Raises:
            TimeoutError: They were over before the ``with`` block was.
        """
        rang = threading.Event()
        # Emptied at the end: later the sockets may be in use for something else.
        armed = [rang]

        def ring() -> None:
            with self._lock:
                for alarm in armed:
                    alarm.set()
                    self._shut()

        timer = threading.Timer(longest_s, ring)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception as error:
            if rang.is_set():
                raise TimeoutError("the answer did not end in time") from error
            raise
        finally:
            timer.cancel()
            with self._lock:
                armed.clear()
        if rang.is_set():
            raise TimeoutError("the answer did not end in time")

    def _shut(self) -> None:
        """Shut every socket; hold the lock."""
        for duplicate in self._duplicates.values():
            with suppress(OSError):  # the other side may have been faster
                duplicate.shutdown(socket.SHUT_RDWR)


def _blind_session() -> requests.Session:
    """Return a session that sees no redirects.

    Even where it is told to follow none, requests reads where they lead, and their whole
    body: an address it cannot read would be an error of its own.
    """
    import requests

    class Blind(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002 - theirs
            return None

    return Blind()


def _watched_adapter(sockets: _Sockets) -> requests.adapters.HTTPAdapter:
    """Return an adapter whose connections tell ``sockets`` of every socket they open."""
    import requests

    def watch(manager: Any) -> None:
        # The classes of urllib3, which is a dependency of requests and not of ours.
        manager.pool_classes_by_scheme = {
            scheme: _watched_pool(pool, sockets)
            for scheme, pool in manager.pool_classes_by_scheme.items()
        }

    class Adapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *args: Any, **settings: Any) -> None:
            super().init_poolmanager(*args, **settings)
            watch(self.poolmanager)

        def proxy_manager_for(self, proxy: str, **settings: Any) -> Any:
            is_known = proxy in self.proxy_manager
            manager = super().proxy_manager_for(proxy, **settings)
            if not is_known:
                watch(manager)
            return manager

    return Adapter()


def _watched_pool(pool: Any, sockets: _Sockets) -> Any:
    """Return a pool like another one, whose connections tell of their sockets."""

    class Watched(pool.ConnectionCls):  # type: ignore[misc] # its base is known when it runs
        def _new_conn(self) -> socket.socket:
            made: socket.socket = super()._new_conn()
            sockets.add(id(self), made)
            return made

        def close(self) -> None:
            super().close()
            sockets.drop(id(self))

    return type(pool.__name__, (pool,), {"ConnectionCls": Watched})
