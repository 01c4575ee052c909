"""One request over one connection: PyGithub as the transport, and what came back.

PyGithub contributes authentication, headers and encoding. Its objects are not used: they
turn a redirect or a page of HTML into an object full of ``None``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agentrelay.workstream._github.connection import (
    API_VERSION,
    Connection,
    DivertedError,
    import_github,
    user_agent,
)
from agentrelay.workstream._redact import MASK
from agentrelay.workstream.credentials import Credential

if TYPE_CHECKING:
    from github.Requester import Requester

__all__ = ["SHORTEST_SECRET", "Answer", "Line", "open_line", "send"]

_PER_PAGE: Final = 100

# Shorter tokens are those of emulators ("test"); masking them would garble words.
SHORTEST_SECRET: Final = 8

_OK: Final = range(200, 300)
# "Ask again later": no call made here has a use for that.
_ACCEPTED: Final = 202
_NOT_MODIFIED: Final = 304


@dataclass(frozen=True)
class Answer:
    """A successful answer.

    Attributes:
        status: HTTP status, 200 to 299; 304 where an ``etag`` was sent and still holds.
        headers: Headers, their names in lower case.
        data: The JSON value, or ``None`` for an empty body.
    """

    status: int
    headers: Mapping[str, str]
    data: Any


@dataclass(frozen=True)
class Line:
    """What one thread of one process keeps between requests."""

    pid: int
    credential: Credential | None
    requester: Requester
    connection: Connection


def open_line(
    api_url: str,
    credential: Credential | None,
    *,
    pid: int,
    timeout_s: float,
    verify: bool | str,
    proxy: str | None,
) -> Line:
    """Prepare a connection and PyGithub's requester; nothing is opened yet.

    Args:
        api_url: Base of the API.
        credential: What authenticates, or ``None`` for nothing.
        pid: Process that may use it.
        timeout_s: Longest silence, in seconds.
        verify: Certificate bundle, or ``True`` for the default one.
        proxy: Proxy URL, or ``None``.
    """
    connection = Connection(api_url, timeout_s=timeout_s, verify=verify, proxy=proxy)
    github = import_github()
    client = github.Github(
        auth=None if credential is None else github.Auth.Token(credential.secret.reveal()),
        base_url=api_url,
        timeout=max(1, round(timeout_s)),  # it insists on an int; the connection's own counts
        retry=None,
        lazy=True,
        per_page=_PER_PAGE,
        seconds_between_requests=None,
        seconds_between_writes=None,
        user_agent=user_agent(),
        api_version=API_VERSION,
        verify=verify,
    )
    return Line(pid, credential, client.requester, connection)


def send(
    line: Line,
    method: str,
    path: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    body: Mapping[str, Any] | None = None,
    etag: str | None = None,
) -> Answer:
    """Send one request over a connection, once, and read its JSON.

    Raises:
        GithubException: Any other status than success.
        Exception: Whatever else the backends raise, outside any hierarchy.
    """
    try:
        status, headers, text = line.requester.requestJson(
            method,
            path,
            parameters=dict(parameters or {}),
            headers={} if etag is None else {"If-None-Match": etag},
            input=None if body is None else dict(body),
            cnx=line.connection,  # type: ignore[arg-type] # its three methods are what is used
        )
    except DivertedError as diverted:
        status, headers, text = diverted.status, diverted.headers, diverted.text
    if status == _NOT_MODIFIED and etag is not None:
        return Answer(status=status, headers=headers, data=None)
    if status not in _OK or status == _ACCEPTED:
        # A server may say in its refusal what it was sent.
        secret = "" if line.credential is None else line.credential.secret.reveal()
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, MASK)
        raise import_github().GithubException(status, _json_or_text(text), headers)
    return Answer(status=status, headers=headers, data=json.loads(text) if text.strip() else None)


def _json_or_text(text: str) -> Any:
    """Read an error's body, which may be a page of HTML from something in between."""
    try:
        return json.loads(text)
    except ValueError:
        return re.sub(r"<[^>]*>", " ", text)
