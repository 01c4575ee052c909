"""The one place that builds a PyGithub client, and the one way a request is made.

PyGithub is the transport: authentication, headers, encoding. Its retries (which
repeat a POST), its throttling, its redirects and its 202 loop are not used, and its
objects are not either: they turn a redirect or a page of HTML into an object full of
``None``. What comes out of here is an answer with a 2xx status, or one of our errors.
"""

from __future__ import annotations

import json
import os
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from agentrelay.workstream._github.connection import (
    API_VERSION,
    Connection,
    DivertedError,
    import_github,
    user_agent,
)
from agentrelay.workstream._github.failures import location_of, scrub, translate
from agentrelay.workstream._redact import MASK
from agentrelay.workstream.credentials import (
    Credential,
    TokenSource,
    ca_bundle,
    describe_search,
    find_credential,
    proxy_for,
    seal_token,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from github.Requester import Requester

    from agentrelay.workstream._github.address import GitHubAddress

__all__ = ["Answer", "GitHubClient"]

_PER_PAGE: Final = 100

# Where GitHub sends a request for a renamed repository.
_BY_ID: Final = re.compile(r"/repositories/\d+(?=/|$)")

# Shorter tokens are those of emulators ("test"); masking them would garble words.
_SHORTEST_SECRET: Final = 8

_OK: Final = range(200, 300)
_UNAUTHORIZED: Final = 401
# "Ask again later": no call made here has a use for that.
_ACCEPTED: Final = 202


@dataclass(frozen=True)
class Answer:
    """A successful answer.

    Attributes:
        status: HTTP status, 200 to 299.
        headers: Headers, their names in lower case.
        data: The JSON value, or ``None`` for an empty body.
    """

    status: int
    headers: Mapping[str, str]
    data: Any


@dataclass(frozen=True)
class _Line:
    """What one thread of one process keeps between requests."""

    pid: int
    credential: Credential | None
    requester: Requester
    connection: Connection


class GitHubClient:
    """Makes requests to the API of one repository's GitHub.

    May be shared between threads: each has a connection of its own. Nothing is opened
    before the first request. The credential is looked up for each request, so that a
    renewed token is used at once.
    """

    def __init__(
        self,
        address: GitHubAddress,
        *,
        token: TokenSource = None,
        timeout_s: int = 15,
        environ: Mapping[str, str] | None = None,
        home: Path | None = None,
    ) -> None:
        """Remember the settings.

        Args:
            address: The repository; requests go to its ``api_url`` only.
            token: Token, or a callable asked for each request; see
                :func:`agentrelay.workstream.credentials.find_credential`.
            timeout_s: Longest silence to bear, in whole seconds; a whole answer may
                take four times as long.
            environ: Environment for tokens, proxies and certificates; the process's
                own by default.
            home: Home directory to look for credentials in; the user's by default.
        """
        self.address = address
        self._token = seal_token(token)
        self._timeout_s = timeout_s
        self._environ = environ
        self._home = home
        self._local = threading.local()

    def __repr__(self) -> str:
        """Name the repository and nothing secret."""
        return f"GitHubClient({self.address.host!r}, {self.address.full_name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings; tokens and the environment stay behind."""
        return (
            _restore,
            (self.address, self._token, self._timeout_s, self._home),
        )

    def close(self) -> None:
        """Close the calling thread's connection; a later request opens another."""
        line: _Line | None = getattr(self._local, "line", None)
        if line is not None:
            del self._local.line
            line.connection.close()

    def secrets_in_use(self) -> tuple[str, ...]:
        """Return what the calling thread's last request proved itself with, to be masked.

        A token too short to be a real one is left out: masking it would garble words.
        """
        line: _Line | None = getattr(self._local, "line", None)
        secret = "" if line is None or line.credential is None else line.credential.secret.reveal()
        return (secret,) if len(secret) >= _SHORTEST_SECRET else ()

    def request(
        self,
        method: str,
        path: str,
        *,
        operation: str,
        parameters: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Send one request, once.

        A token that was minted for us and is refused is renewed, and the request is sent
        again: a request without a valid token does nothing.

        Args:
            method: ``"GET"``, ``"POST"`` or ``"PATCH"``.
            path: Path below the repository's own, ``"/pulls/1"`` for example. Never a
                URL an answer gave.
            operation: What is being done, to end "could not …".
            parameters: Query of the URL.
            body: JSON object to send.

        Raises:
            CredentialsRejectedError: The token was refused, or none was offered.
            RateLimitedError: GitHub asked for a pause.
            PullRequestError: GitHub refused; ``status`` is its answer's.
            RemoteUnavailableError: No answer, or none that can be read. What was
                asked may have happened.
            RepositoryError: The environment names a CA bundle that cannot be read.
        """
        path = f"/repos/{self.address.full_name}{path}"
        credential = self._credential()
        try:
            return self._attempt(credential, method, path, parameters, body)
        except Exception as error:  # noqa: BLE001 - the backend raises outside any hierarchy
            failure = error
        if _is_refused(failure) and credential is not None and credential.was_refused():
            credential = self._credential()
            try:
                return self._attempt(credential, method, path, parameters, body)
            except Exception as error:  # noqa: BLE001 - as above
                failure = error
        if location := location_of(failure):
            self._name_new_home(failure, location, credential)
        ours = translate(
            failure,
            operation=operation,
            address=self.address,
            credential_source=None if credential is None else credential.source,
            search=describe_search(
                self.address.host, token=self._token, environ=self._environ, home=self._home
            ),
        )
        if ours is failure:
            raise ours
        scrub(failure)
        raise ours from failure

    def _credential(self) -> Credential | None:
        """Look for the credential as it is now."""
        return find_credential(
            self.address.host,
            path=self.address.full_name,
            token=self._token,
            environ=self._environ,
            home=self._home,
        )

    def _attempt(
        self,
        credential: Credential | None,
        method: str,
        path: str,
        parameters: Mapping[str, str | int] | None,
        body: Mapping[str, Any] | None,
    ) -> Answer:
        """Send the request with one credential."""
        line = self._line(credential)
        return _send(line, method, path, parameters=parameters, body=body)

    def _line(self, credential: Credential | None) -> _Line:
        """Return this thread's connection, made anew after a fork or for another token."""
        line: _Line | None = getattr(self._local, "line", None)
        if line is not None and line.pid == os.getpid() and line.credential == credential:
            return line
        self.close()
        bundle = ca_bundle(self._environ)
        connection = Connection(
            self.address.api_url,
            timeout_s=self._timeout_s,
            verify=True if bundle is None else str(bundle),
            proxy=proxy_for(self.address.api_url, self._environ),
        )
        github = import_github()
        client = github.Github(
            auth=None if credential is None else github.Auth.Token(credential.secret.reveal()),
            base_url=self.address.api_url,
            timeout=self._timeout_s,
            retry=None,
            lazy=True,
            per_page=_PER_PAGE,
            seconds_between_requests=None,
            seconds_between_writes=None,
            user_agent=user_agent(),
            api_version=API_VERSION,
            verify=True if bundle is None else str(bundle),
        )
        line = _Line(os.getpid(), credential, client.requester, connection)
        self._local.line = line
        return line

    def _name_new_home(
        self, failure: Exception, location: str, credential: Credential | None
    ) -> None:
        """Ask for the new name of a renamed repository; the answer goes into the hint.

        GitHub redirects to ``/repositories/<id>``. Only that path is taken from the
        redirect, and it is asked of the same API: a token follows nobody elsewhere.
        """
        match = _BY_ID.search(urlsplit(location).path)
        headers = getattr(failure, "headers", None)
        if match is None or not isinstance(headers, dict):
            return
        try:
            data = _send(self._line(credential), "GET", match[0]).data
        except Exception:  # noqa: BLE001 - only a better hint is lost
            return
        if isinstance(data, dict) and isinstance(data.get("full_name"), str):
            headers["x-renamed-to"] = data["full_name"]


def _is_refused(failure: Exception) -> bool:
    """Tell whether the answer was that the token is not valid."""
    return getattr(failure, "status", None) == _UNAUTHORIZED


def _restore(
    address: GitHubAddress, token: TokenSource, timeout_s: int, home: Path | None
) -> GitHubClient:
    """Make the client that comes out of a pickle."""
    return GitHubClient(address, token=token, timeout_s=timeout_s, home=home)


def _send(
    line: _Line,
    method: str,
    path: str,
    *,
    parameters: Mapping[str, str | int] | None = None,
    body: Mapping[str, Any] | None = None,
) -> Answer:
    """Send one request over this thread's connection and read its JSON."""
    try:
        status, headers, text = line.requester.requestJson(
            method,
            path,
            parameters=dict(parameters or {}),
            input=None if body is None else dict(body),
            cnx=line.connection,  # type: ignore[arg-type] # its three methods are what is used
        )
    except DivertedError as diverted:
        status, headers, text = diverted.status, diverted.headers, diverted.text
    if status not in _OK or status == _ACCEPTED:
        # A server may say in its refusal what it was sent.
        secret = "" if line.credential is None else line.credential.secret.reveal()
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, MASK)
        raise import_github().GithubException(status, _json_or_text(text), headers)
    return Answer(status=status, headers=headers, data=json.loads(text) if text.strip() else None)


def _json_or_text(text: str) -> Any:
    """Read an error's body, which may be a page of HTML from something in between."""
    try:
        return json.loads(text)
    except ValueError:
        return re.sub(r"<[^>]*>", " ", text)
