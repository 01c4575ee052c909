"""GitHub Apps at the GitHub double: installations, their tokens, and what those may do.

Stricter than GitHub: a token is asked for with repositories and permissions, both named;
``iss`` is text; a request that no permission is known for fails the test.

Source:
    docs.github.com, "Create an installation access token for an app", "Permissions
    required for GitHub Apps". The refusals' texts are from reports of their users.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from agentrelay.workstream.testing import _github_app_json as app_bodies
from agentrelay.workstream.testing import _github_json as bodies
from agentrelay.workstream.testing._github_refusals import (
    DOCUMENTATION,
    NotImplementedRouteError,
    RefusedError,
)
from agentrelay.workstream.testing._github_signatures import (
    check,
    jwt_refused,
    made_key,
    read_claims,
)

if TYPE_CHECKING:
    from agentrelay.workstream.testing._github_json import Json, Urls
    from agentrelay.workstream.testing._github_store import HostedRepository
    from agentrelay.workstream.testing._loopback_wire import Request

__all__ = ["AppDesk", "InstalledApp"]

_HOUR_S: Final = 3600

_LEVELS: Final = ("read", "write")
_APP_PATH: Final = re.compile(
    r"/app|/app/installations/([0-9]+)/access_tokens|/repos/([^/]+/[^/]+)/installation"
)

# What a request below a repository takes, by its path: the permission, any one of several.
# "Permissions required for GitHub Apps".
_PERMISSIONS: Final = (
    (r"", ("metadata",)),
    (r"/pulls/[0-9]+/merge", ("contents",)),
    (r"/pulls(/.*)?", ("pull_requests",)),
    (r"/issues(/.*)?", ("issues", "pull_requests")),
    (r"/(labels|milestones|assignees)(/.*)?", ("issues", "pull_requests")),
    (r"/commits/[^/]+/check-(runs|suites)", ("checks",)),
    (r"/commits/[^/]+/status(es)?", ("statuses",)),
    (r"/commits|/(git|branches|commits|compare)/.*", ("contents",)),
    (r"/(collaborators|forks)(/.*)?", ("metadata",)),
)


@dataclass(frozen=True)
class InstalledApp:
    """An app and its one installation.

    Attributes:
        app_id: Its id.
        client_id: Its client id, which does as well.
        installation_id: The installation's id.
        private_key: The app's key, in PEM format.
        permissions: What it was granted.
        repositories: What it was installed on, ``"owner/name"``.
    """

    app_id: int
    client_id: str
    installation_id: int
    private_key: str = field(repr=False)
    permissions: Mapping[str, str]
    repositories: frozenset[str]


@dataclass
class _Installation:
    """One installation as the double keeps it."""

    app: InstalledApp
    repository_ids: frozenset[int]
    suspended: bool = False


@dataclass(frozen=True)
class _Minted:
    """What one token may do, and until when."""

    installation: _Installation
    repository_ids: frozenset[int]
    permissions: Mapping[str, str]
    expires_at: float


class AppDesk:
    """Installs apps, mints their tokens and looks at them; safe to use from any thread.

    Attributes:
        clock_ahead_s: Seconds this GitHub's clock is ahead of the machine's.
        token_life_s: How long a token lives, in seconds.
        minted: How many tokens were asked for and given.
    """

    def __init__(self, find: Callable[[str], HostedRepository | None]) -> None:
        """Know no app; ``find`` looks a repository up by ``owner/name``."""
        self.clock_ahead_s = 0.0
        self.token_life_s = float(_HOUR_S)
        self.minted = 0
        self._find = find
        self._lock = threading.RLock()
        self._installations: dict[int, _Installation] = {}
        self._tokens: dict[str, _Minted] = {}

    def install(self, repositories: Sequence[str], permissions: Mapping[str, str]) -> InstalledApp:
        """Register an app and install it.

        Args:
            repositories: What it is installed on, ``"owner/name"``.
            permissions: What it is granted, ``"read"`` or ``"write"`` by name.

        Raises:
            ValueError: A repository is not hosted here, or a level is none.
        """
        with self._lock:
            hosted = [self._find(name) for name in repositories]
            if None in hosted or not set(permissions.values()) <= set(_LEVELS):
                raise ValueError("an app is installed on hosted repositories, to read or write")
            number = len(self._installations) + 1
            app = InstalledApp(
                app_id=4000 + number,
                client_id=f"Iv23li{number:014d}",
                installation_id=50000 + number,
                private_key=made_key(),
                permissions={"metadata": "read", **permissions},
                repositories=frozenset(repositories),
            )
            ids = frozenset(found.repository_id for found in hosted if found is not None)
            self._installations[app.installation_id] = _Installation(app, ids)
            return app

    def suspend(self, app: InstalledApp) -> None:
        """Suspend an installation: no new tokens, and the old ones are no good meanwhile."""
        with self._lock:
            self._installations[app.installation_id].suspended = True

    def unsuspend(self, app: InstalledApp) -> None:
        """End the suspension of an installation."""
        with self._lock:
            self._installations[app.installation_id].suspended = False

    def revoke_tokens(self) -> None:
        """Make every token that was minted so far invalid."""
        with self._lock:
            self._tokens.clear()

    def now(self) -> float:
        """Return this GitHub's time, in seconds since the epoch."""
        return time.time() + self.clock_ahead_s

    # -- tokens

    def admits(self, request: Request, path: str, hosted: HostedRepository | None) -> bool:
        """Tell whether a request shows a credential of an app that may make it.

        Args:
            request: The request.
            path: Its path below the API's base.
            hosted: The repository the path names, if there is one.

        Returns:
            ``False`` for a credential that is no app's.

        Raises:
            RefusedError: It is an app's, and GitHub would refuse.
        """
        scheme, _, credential = (request.authorization or "").partition(" ")
        with self._lock:
            if self.owns(path):
                if scheme.lower() != "bearer":
                    raise jwt_refused("A JSON web token could not be decoded")
                self._app_of(credential)
                return True
            minted = self._alive(credential)
            if minted is None or scheme.lower() not in {"token", "bearer"}:
                return False
            self._permit(minted, request.method, path, hosted)
            return True

    def git_status(self, token: str, repository: str, *, writes: bool) -> int:
        """Return the HTTP status with which git's requests are met: 200, 401, 403 or 404."""
        with self._lock:
            minted = self._alive(token)
            hosted = self._find(repository.removesuffix(".git"))
            if minted is None:
                return 401
            if hosted is None or hosted.repository_id not in minted.repository_ids:
                return 404
            needed = {"write"} if writes else {"read", "write"}
            return 200 if minted.permissions.get("contents") in needed else 403

    def _alive(self, token: str) -> _Minted | None:
        minted = self._tokens.get(token)
        if minted is None or minted.installation.suspended or self.now() >= minted.expires_at:
            return None
        return minted

    def _permit(
        self, minted: _Minted, method: str, path: str, hosted: HostedRepository | None
    ) -> None:
        if hosted is None:
            if path == "/user":
                raise _lacking()
            return
        if hosted.repository_id not in minted.repository_ids:
            raise RefusedError.not_found()
        below = re.sub(r"^/repos/[^/]+/[^/]+|^/repositories/[0-9]+", "", path)
        for pattern, names in _PERMISSIONS:
            if re.fullmatch(pattern, below):
                wanted = {"read", "write"} if method == "GET" else {"write"}
                if not any(minted.permissions.get(name) in wanted for name in names):
                    raise _lacking()
                return
        raise NotImplementedRouteError(
            f"{method} {path}: the double does not know which permission that takes"
        )

    def owns_token(self, request: Request) -> bool:
        """Tell whether a request shows a token that was minted here, alive or not."""
        return (request.authorization or "").partition(" ")[2] in self._tokens

    # -- the app's own requests

    @staticmethod
    def owns(path: str) -> bool:
        """Tell whether a path is asked with a JSON web token."""
        return _APP_PATH.fullmatch(path) is not None

    def answer(self, request: Request, path: str, urls: Urls) -> tuple[int, Json] | None:
        """Answer an app's own request; it was admitted already.

        Returns:
            Status and body; ``None`` where the repository has another name now.

        Raises:
            RefusedError: GitHub would refuse.
            NotImplementedRouteError: GitHub knows it, and the double does not.
        """
        found = _APP_PATH.fullmatch(path)
        assert found is not None
        with self._lock:
            installations = self._app_of((request.authorization or "").partition(" ")[2])
            method = "POST" if found[1] else "GET"
            if request.method != method or request.query:
                raise NotImplementedRouteError(f"the double has no {request.method} {path}")
            if found[1]:
                wanted = installations.get(int(found[1]))
                if wanted is None:
                    raise RefusedError.not_found()
                return 201, self._mint(wanted, request, urls)
            if found[2]:
                hosted = self._find(found[2])
                if hosted is None:
                    return None
                for wanted in installations.values():
                    if hosted.repository_id in wanted.repository_ids:
                        return 200, app_bodies.installation(
                            urls, wanted.app, hosted, suspended=wanted.suspended
                        )
                raise RefusedError.not_found()
            first = next(iter(installations.values()))
            return 200, app_bodies.app(urls, first.app)

    def _mint(self, installation: _Installation, request: Request, urls: Urls) -> Json:
        if installation.suspended:
            raise RefusedError(403, "This installation has been suspended")
        fields = _fields(request)
        names, permissions = fields["repositories"], fields["permissions"]
        granted = installation.app.permissions
        chosen = {
            found.repository_id: found
            for full_name in installation.app.repositories
            if (found := self._find(full_name)) is not None and found.name in names
        }
        if len(chosen) != len(set(names)):
            raise RefusedError(
                422,
                "There is at least one repository that does not exist or is not accessible"
                " to the parent installation.",
                documentation_url=_TOKEN_PAGE,
            )
        for name, level in permissions.items():
            if level not in _LEVELS or level not in _up_to(granted.get(name)):
                raise RefusedError(
                    422,
                    "The permissions requested are not granted to this installation.",
                    documentation_url=_TOKEN_PAGE,
                )
        token = f"ghs_{secrets.token_hex(18)}"
        expires_at = self.now() + self.token_life_s
        allowed = {"metadata": "read", **permissions}
        self._tokens[token] = _Minted(installation, frozenset(chosen), allowed, expires_at)
        self.minted += 1
        return {
            "token": token,
            "expires_at": bodies.timestamp(datetime.fromtimestamp(expires_at, UTC)),
            "permissions": allowed,
            "repository_selection": "selected",
            "repositories": [bodies.repository(urls, found) for found in chosen.values()],
        }

    def _app_of(self, jwt: str) -> dict[int, _Installation]:
        """Return the installations of the app that signed a JSON web token."""
        claims = read_claims(jwt)
        iss = claims.get("iss")
        mine = {
            number: found
            for number, found in self._installations.items()
            if iss in {str(found.app.app_id), found.app.client_id}
        }
        if not isinstance(iss, str) or not mine:
            raise RefusedError(404, "Integration not found")
        check(jwt, claims, private_key=next(iter(mine.values())).app.private_key, now=self.now())
        return mine


_TOKEN_PAGE: Final = f"{DOCUMENTATION}/apps/apps#create-an-installation-access-token-for-an-app"


def _up_to(level: str | None) -> tuple[str, ...]:
    """Return the levels that somebody who was granted ``level`` may ask for."""
    return () if level is None else _LEVELS[: _LEVELS.index(level) + 1]


def _fields(request: Request) -> Json:
    """Read the body of a request for a token."""
    try:
        fields: Any = json.loads(request.body)
    except ValueError:
        raise RefusedError.bad_json() from None
    if not request.headers.get("content-type", "").endswith("json"):
        raise RefusedError.media_type()
    if not isinstance(fields, dict) or set(fields) != {"repositories", "permissions"}:
        raise NotImplementedRouteError(
            "the double mints tokens for named repositories with named permissions only"
        )
    return fields


def _lacking() -> RefusedError:
    return RefusedError(403, "Resource not accessible by integration")
