"""One thread's HTTP connection, under PyGithub: bounded, and it follows nobody.

PyGithub's requester takes a connection as an argument. Ours reads nothing from the
environment, sends once, never follows a redirect, never waits for a 202, and bounds
the size of an answer and the time it may take as a whole.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import ItemsView
    from types import ModuleType

    import requests

__all__ = ["API_VERSION", "Connection", "DivertedError", "import_github", "user_agent"]

# The version whose answers this package reads. Newer ones drop fields from pull
# requests; without a pin GitHub chooses for us.
API_VERSION: Final = "2022-11-28"

# A page of 100 pull requests is about 3 MB; ten times that is not an answer to read.
_LARGEST_ANSWER_BYTES: Final = 32 * 1024 * 1024
_CHUNK_BYTES: Final = 1024

# How many silences' worth of time a whole answer may take: the time-out of a socket
# starts again with every byte.
_ANSWER_TIMEOUTS: Final = 4

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
    """What PyGithub's requester needs of a connection, on a requests session."""

    def __init__(
        self, api_url: str, *, timeout_s: int, verify: bool | str, proxy: str | None
    ) -> None:
        """Prepare a session; nothing is opened yet.

        Args:
            api_url: Base of the API; gives scheme, host and port.
            timeout_s: Longest silence, in seconds.
            verify: Certificate bundle, or ``True`` for the default one.
            proxy: Proxy URL, or ``None``.
        """
        import requests

        parts = urlsplit(api_url)
        # The attribute PyGithub compares with its own host.
        self.host = parts.hostname
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._timeout_s = timeout_s
        self._session = requests.Session()
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
        deadline = time.monotonic() + _ANSWER_TIMEOUTS * self._timeout_s
        with self._session.request(
            verb,
            self._origin + url,
            headers=headers,
            data=body,
            timeout=self._timeout_s,
            allow_redirects=False,
            stream=True,
        ) as answer:
            text = _read(answer, deadline)
            headers = dict(answer.headers)
        if answer.status_code in _SELF_WILLED:
            lowered = {name.lower(): value for name, value in headers.items()}
            raise DivertedError(answer.status_code, lowered, text)
        return _Response(answer.status_code, headers, text)

    def close(self) -> None:
        """Close the session's sockets."""
        self._session.close()


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


def _read(answer: requests.Response, deadline: float) -> str:
    """Read a body up to our limits; JSON is UTF-8 whatever the header says."""
    body = bytearray()
    chunk: Any
    for chunk in answer.iter_content(_CHUNK_BYTES):
        body += chunk
        if len(body) > _LARGEST_ANSWER_BYTES:
            raise ValueError(f"larger than {_LARGEST_ANSWER_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError("the answer did not end in time")
    return body.decode("utf-8", "replace")
