"""Minting an installation token: a GitHub App asks for one, for one repository.

PyGithub does this too, but cannot ask for a single repository, logs the answer with
the token in clear, believes the local clock, and repeats the request on its own. So
these two requests are ours, over the connection the client uses.

Source:
    docs.github.com, "Generating a JSON Web Token (JWT) for a GitHub App",
    "Generating an installation access token for a GitHub App", "REST API endpoints for
    GitHub Apps".
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from agentrelay.workstream._github.connection import (
    API_VERSION,
    Connection,
    DivertedError,
    import_github,
    user_agent,
)
from agentrelay.workstream._github.failures import is_passing, scrub, translate, unusable
from agentrelay.workstream._redact import MASK
from agentrelay.workstream.credentials import Secret, ca_bundle, proxy_for
from agentrelay.workstream.errors import (
    CredentialsRejectedError,
    PullRequestError,
    WorkstreamError,
)

if TYPE_CHECKING:
    from agentrelay.workstream._github.address import GitHubAddress
    from agentrelay.workstream._github.app_key import KeyPlace, Signer

__all__ = ["AppMemory", "AppSettings", "MintedToken", "mint_token"]

# "60 seconds in the past", as GitHub recommends against clocks that drift.
_BACKDATED_S: Final = 60
# Ten minutes are the most GitHub takes; a little less, again because of clocks.
_JWT_LIFE_S: Final = 540
# A clock within this of the server's is not what a JWT was refused for.
_TOLERATED_S: Final = 30

# "The installation access token will expire after 1 hour."
_TOKEN_LIFE_S: Final = 3600.0
# The longest a fetch or push takes unless told otherwise: a token that is handed out
# outlives what it is used for.
_MARGIN_S: Final = 600.0

_UNAUTHORIZED: Final = 401
_OK: Final = range(200, 300)
_CREATED: Final = 201
_VISIBLE: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class AppSettings:
    """What an app asks with.

    Attributes:
        app_id: Its id or client id.
        key: Where its private key is.
        source: The app in words for a person.
        permissions: What a token may do, by GitHub's names.
        installation_id: Its installation, or ``None`` to look it up.
        timeout_s: Longest silence of the API, in whole seconds.
        longest_s: Longest time one minting may take in all, in seconds.
        clock: A clock that never jumps, in seconds.
    """

    app_id: str
    key: KeyPlace
    source: str
    permissions: Mapping[str, str]
    installation_id: int | None
    timeout_s: int
    longest_s: float
    clock: Callable[[], float]


@dataclass
class AppMemory:
    """What was learnt by asking.

    Attributes:
        skew_s: Seconds the server's clock is ahead of the local one.
        installations: Installation by ``"owner/name"`` in lower case.
    """

    skew_s: float = 0.0
    installations: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class MintedToken:
    """A token and the time it has left.

    Attributes:
        secret: The token.
        renew_at: Reading of the app's clock from when on a new one is wanted.
        ends_at: Reading from when on this one is refused.
    """

    secret: Secret
    renew_at: float
    ends_at: float


@dataclass(frozen=True)
class _Reply:
    """One answer, whatever its status."""

    status: int
    headers: Mapping[str, str]
    data: Any = field(repr=False)


def mint_token(address: GitHubAddress, app: AppSettings, memory: AppMemory) -> MintedToken:
    """Get a token for one repository.

    At most four requests, all within ``app.longest_s``: each of the two may be repeated
    once, with the server's own time, when it finds ours wrong. Minting again is harmless:
    an earlier token stays.

    Args:
        address: The repository; requests go to its ``api_url`` only.
        app: Who asks, and for what.
        memory: Kept by the caller from one call to the next.

    Raises:
        CredentialsRejectedError: The key cannot be used; or GitHub does not know the
            app, or the app is not installed on the repository, is suspended, or lacks a
            permission.
        RateLimitedError: GitHub asked for a pause.
        RemoteUnavailableError: No answer, or none that can be read.
        PullRequestError: GitHub refused for another reason: the repository was renamed.
        RepositoryError: The environment names a CA bundle that cannot be read.
    """
    ends_at = app.clock() + app.longest_s
    signer = app.key.load(url=address.api_url)
    with closing(_connect(address, app)) as connection:
        asker = _Asker(address, app, memory, signer, connection, ends_at)
        name = address.full_name.lower()
        installation = app.installation_id or memory.installations.get(name)
        if installation is None:
            operation = f"find the installation of {app.source}"
            reply = asker.ask("GET", f"/repos/{address.full_name}/installation", operation)
            installation = reply.data.get("id") if isinstance(reply.data, dict) else None
            if not isinstance(installation, int):
                raise unusable(operation, address, "it has no id")
            memory.installations[name] = installation
        operation = f"mint a token of {app.source}"
        wanted = {"repositories": [address.name], "permissions": dict(app.permissions)}
        path = f"/app/installations/{installation}/access_tokens"
        asked_at = app.clock()
        try:
            minted, why = _minted(asker.ask("POST", path, operation, wanted), asked_at)
        except CredentialsRejectedError:
            # Installed anew, it has another id.
            memory.installations.pop(name, None)
            raise
        if minted is None:
            raise unusable(operation, address, why)
        return minted


def _connect(address: GitHubAddress, app: AppSettings) -> Connection:
    """Open a connection for these few requests; an hour lies between them and the next."""
    bundle = ca_bundle()
    return Connection(
        address.api_url,
        timeout_s=app.timeout_s,
        verify=True if bundle is None else str(bundle),
        proxy=proxy_for(address.api_url),
    )


@dataclass(frozen=True)
class _Asker:
    """Asks GitHub as the app itself."""

    address: GitHubAddress
    app: AppSettings
    memory: AppMemory
    signer: Signer
    connection: Connection
    ends_at: float

    def ask(
        self, method: str, path: str, operation: str, body: Mapping[str, Any] | None = None
    ) -> _Reply:
        """Send a request and return the answer, if it is a success."""
        reply: _Reply | None = None
        failure: Exception | None = None
        try:
            reply = self._send(method, path, body)
            if reply.status == _UNAUTHORIZED and self._learn_time(reply):
                reply = self._send(method, path, body)
        except Exception as error:  # noqa: BLE001 - the HTTP library raises outside any hierarchy
            failure = error
        if failure is None and reply is not None:
            if reply.status in _OK:
                return reply
            failure = import_github().GithubException(reply.status, reply.data, dict(reply.headers))
        assert failure is not None
        ours = translate(
            failure,
            operation=operation,
            address=self.address,
            credential_source=self.app.source,
            now_s=time.time(),
        )
        scrub(failure)
        raise _explained(ours, self.address, self.app) from failure

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> _Reply:
        """Send one request, signed for this moment."""
        now = int(time.time() + self.memory.skew_s)
        token = self.signer.sign(
            {"iat": now - _BACKDATED_S, "exp": now + _JWT_LIFE_S, "iss": self.app.app_id}
        )
        headers = {
            "Accept": "application/vnd.github+json",
            "User-Agent": user_agent(),
            "X-GitHub-Api-Version": API_VERSION,
            "Authorization": f"Bearer {token.reveal()}",
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        text_body = None if body is None else json.dumps(body)
        base = urlsplit(self.address.api_url).path
        self.connection.left_s = self.ends_at - self.app.clock()
        self.connection.request(method, base + path, text_body, headers)
        try:
            answer = self.connection.getresponse()
        except DivertedError as diverted:
            status, pairs, text = diverted.status, diverted.headers, diverted.text
        else:
            status, pairs, text = answer.status, dict(answer.getheaders()), answer.read()
        lowered = {name.lower(): value for name, value in pairs.items()}
        if status not in _OK:
            # A server may say in its refusal what it was sent.
            text = text.replace(token.reveal(), MASK)
        return _Reply(status, lowered, _json_or_text(text))

    def _learn_time(self, reply: _Reply) -> bool:
        """Take over the server's time, if ours is what it objects to."""
        served = _date_of(reply.headers)
        if served is None:
            return False
        skew_s = served.timestamp() - time.time()
        if abs(skew_s - self.memory.skew_s) < _TOLERATED_S:
            return False
        self.memory.skew_s = skew_s
        return True


def _minted(reply: _Reply, asked_at: float) -> tuple[MintedToken | None, str]:
    """Read a token and how long it lives, by the server's clock alone."""
    data = reply.data if isinstance(reply.data, dict) else {}
    token = data.get("token")
    if reply.status != _CREATED or not isinstance(token, str) or not _VISIBLE.fullmatch(token):
        return None, "it has no token"
    life_s = _life_of(data.get("expires_at"), _date_of(reply.headers))
    # A token of a few minutes is used for half of them, not renewed for every request.
    renew_at = asked_at + max(life_s - _MARGIN_S, life_s / 2)
    return MintedToken(Secret(token), renew_at, asked_at + life_s), ""


def _life_of(expires_at: object, served: datetime | None) -> float:
    """Return how many seconds a token has; what makes no sense is an hour, as documented."""
    if not isinstance(expires_at, str) or served is None:
        return _TOKEN_LIFE_S
    try:
        life_s = (datetime.fromisoformat(expires_at) - served).total_seconds()
    except (ValueError, TypeError):
        return _TOKEN_LIFE_S
    return life_s if 0 < life_s < _TOKEN_LIFE_S else _TOKEN_LIFE_S


def _date_of(headers: Mapping[str, str]) -> datetime | None:
    """Return the server's time, from the header every answer has."""
    try:
        served = parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return None
    return served if served.tzinfo is not None else None


def _json_or_text(text: str) -> Any:
    """Read a body, which may be a page of HTML from something in between."""
    try:
        return json.loads(text)
    except ValueError:
        return re.sub(r"<[^>]*>", " ", text)


def _explained(error: WorkstreamError, address: GitHubAddress, app: AppSettings) -> WorkstreamError:
    """Say of a refusal what it means for an app."""
    status = _UNAUTHORIZED if isinstance(error, CredentialsRejectedError) else None
    if isinstance(error, PullRequestError) and not is_passing(error):
        status = error.status
    hints = {
        401: f"check that {app.app_id} is the app's id or client id, that the private key from "
        f"{app.key.source} is this app's, and that the clock is right",
        403: "has the installation been suspended? Its owner can end that in the settings"
        " of the organisation or account, under GitHub Apps",
        404: f"is the app installed on {address.full_name}? Install it, or add the repository"
        " to its installation; check the app's id and installation_id too",
        422: f"is the app installed on {address.full_name}, and granted "
        + ", ".join(f"{name}: {level}" for name, level in sorted(app.permissions.items()))
        + "? New permissions have to be accepted by the owner of the installation",
    }
    hint = hints.get(status or 0)
    if hint is None:
        return error
    return CredentialsRejectedError(
        error.message, url=address.api_url, source=app.source, hint=hint
    )
