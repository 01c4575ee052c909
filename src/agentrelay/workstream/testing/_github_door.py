"""What happens to every request of the GitHub double before and after its route."""

from __future__ import annotations

import email.utils
import hashlib
import hmac
import time
from typing import TYPE_CHECKING, Final

from agentrelay.workstream.testing._github_refusals import (
    NotImplementedRouteError,
    RefusedError,
)
from agentrelay.workstream.testing._github_routes import answer
from agentrelay.workstream.testing._github_settings import TokenTraits
from agentrelay.workstream.testing._loopback_wire import Request, Response

if TYPE_CHECKING:
    from agentrelay.workstream.testing._github_apps import AppDesk
    from agentrelay.workstream.testing._github_json import Json
    from agentrelay.workstream.testing._github_settings import Caller
    from agentrelay.workstream.testing._github_store import HostedRepository

__all__ = ["NO_USER_AGENT", "RATE_LIMIT", "Door", "moved"]

# GitHub's hourly quota for a token ("Rate limits for the REST API").
RATE_LIMIT: Final = 5000
_HOUR_S: Final = 3600

# Asking about the quota does not use it.
_FREE: Final = "/rate_limit"

# The version whose bodies the double writes. GitHub has a newer one, without some of
# their fields: a client that asks for it has to be told.
_VERSION: Final = "2022-11-28"

NO_USER_AGENT: Final = (
    "\r\nRequest forbidden by administrative rules. Please make sure your request has a"
    " User-Agent header (https://docs.github.com/en/rest/overview/"
    "resources-in-the-rest-api#user-agent-required). Check https://developer.github.com"
    " for other possible causes.\r\n"
)


class Door:
    """Lets requests in and stamps what goes out; hold the store's lock while using it.

    Attributes:
        traits: What is said about the token.
    """

    def __init__(self, *, token: str | None, rate_limit: int, apps: AppDesk) -> None:
        """Admit holders of ``token`` (anybody, if ``None``) and apps, ``rate_limit`` times."""
        self.traits = TokenTraits()
        self._token = token
        self._apps = apps
        self._limit = rate_limit
        self._used = 0
        self._reset = int(time.time()) + _HOUR_S
        self._served = 0

    def admit(self, request: Request, path: str, hosted: HostedRepository | None) -> None:
        """Check a request's version, media type, credential and quota, in this order.

        Args:
            request: The request.
            path: Its path below the API's base.
            hosted: The repository the path names, if there is one.

        Raises:
            RefusedError: GitHub would refuse.
            NotImplementedRouteError: It asks for something other than JSON.
        """
        self._served += 1
        version = request.headers.get("x-github-api-version", _VERSION)
        if version != _VERSION:
            raise RefusedError.unsupported_version(version, _VERSION)
        _check_accept(request)
        self._authenticate(request, path, hosted)
        if path != _FREE:
            if self._used >= self._limit:
                raise RefusedError.rate_limited()
            self._used += 1

    def finish(self, request: Request, response: Response) -> Response:
        """Add what every answer of GitHub carries; answer 304 where nothing changed."""
        headers = dict(response.headers)
        status, body = response.status, response.body
        if request.method == "GET" and status == 200:  # noqa: PLR2004  # RFC 9110: OK
            etag = f'"{hashlib.sha256(body).hexdigest()}"'
            headers["etag"] = f"W/{etag}"
            asked = request.headers.get("if-none-match", "").replace("W/", "").split(", ")
            if etag in asked:
                # A conditional request that finds nothing new is free.
                self._used -= not request.path.endswith(_FREE)
                status, body = 304, b""
        headers |= {
            "x-github-api-version-selected": _VERSION,
            "x-github-media-type": "github.v3; format=json",
            "x-github-request-id": f"0000:{self._served:04X}",
            "x-ratelimit-limit": str(self._limit),
            "x-ratelimit-remaining": str(self._limit - self._used),
            "x-ratelimit-used": str(self._used),
            "x-ratelimit-reset": str(self._reset),
            "x-ratelimit-resource": "core",
            "date": email.utils.formatdate(self._apps.now(), usegmt=True),
            **self.traits.headers(request, caller=self.caller(request)),
        }
        return Response(status, headers, body)

    def caller(self, request: Request) -> Caller:
        """Tell which kind of credential a request shows."""
        if request.authorization is None:
            return "nobody"
        return "app" if self._apps.owns_token(request) else "user"

    def rate_overview(self) -> Json:
        """Return the answer of ``GET /rate_limit``."""
        rate = {
            "limit": self._limit,
            "remaining": self._limit - self._used,
            "used": self._used,
            "reset": self._reset,
        }
        return {"resources": {"core": rate, "search": rate}, "rate": rate}

    def _authenticate(self, request: Request, path: str, hosted: HostedRepository | None) -> None:
        if self._token is None and not self._apps.owns(path):
            return
        if request.authorization is None:
            raise RefusedError.requires_authentication()
        if self._apps.admits(request, path, hosted):
            return
        scheme, _, token = request.authorization.partition(" ")
        same = hmac.compare_digest(token.encode(), (self._token or "").encode())
        if scheme.lower() not in {"token", "bearer"} or not same:
            raise RefusedError.bad_credentials()


def moved(request: Request, location: str) -> Response:
    """Redirect to a repository's new place: 301 for reading, 307 for writing.

    Source:
        Recorded in @octokit/fixtures, scenario "rename-repository".
    """
    query = request.target.partition("?")[2]
    location = f"{location}?{query}" if query else location
    body = {
        "message": "Moved Permanently",
        "url": location,
        "documentation_url": "https://docs.github.com/v3/#http-redirects",
    }
    return answer(301 if request.method == "GET" else 307, body, location=location)


def _check_accept(request: Request) -> None:
    """Let no client ask for a diff, a patch or rendered text and get JSON instead."""
    for part in request.headers.get("accept", "*/*").split(","):
        media = part.partition(";")[0].strip()
        if media != "*/*" and not media.endswith("json"):
            raise NotImplementedRouteError(
                f"{request.method} {request.path}: the double does not answer with {media}"
            )
