"""What somebody set at the GitHub double: a repository's settings, and a token's traits.

Source:
    GitHub's description of its REST API, version 2022-11-28 (schema full-repository);
    "Authenticating to the REST API" for ``permissions`` as tokens of apps see them;
    "Scopes for OAuth apps" and "Managing your personal access tokens" for the headers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from agentrelay.workstream.testing._github_refusals import RefusedError

if TYPE_CHECKING:
    from agentrelay.workstream.testing._loopback_wire import Request

__all__ = ["Caller", "RepositorySettings", "TokenTraits"]

# Who asks, as far as it changes an answer.
Caller = Literal["user", "app", "nobody"]

_METHODS: Final = {"merge": "Merge commits", "squash": "Squash merges", "rebase": "Rebase merges"}


@dataclass
class RepositorySettings:
    """Settings of one repository; a test changes them as an administrator would.

    Attributes:
        may_push: Whether the user behind the token may push.
        is_private: Whether only those who were invited see it.
        is_archived: Whether it is read-only; then every write is refused.
        is_disabled: Whether GitHub switched it off.
        merge_methods: How pull requests may be merged; any other is refused.
        protected_branches: Short names of branches with protection rules. The double shows
            them and enforces none.
    """

    may_push: bool = True
    is_private: bool = False
    is_archived: bool = False
    is_disabled: bool = False
    merge_methods: set[str] = field(default_factory=lambda: set(_METHODS))
    protected_branches: set[str] = field(default_factory=set)

    def permissions(self, caller: Caller) -> dict[str, dict[str, bool]]:
        """Return the field ``permissions`` of a repository, or nothing for nobody.

        An app's token has no user whose role could be told: GitHub then says no to each.
        """
        if caller == "nobody":
            return {}
        is_user = caller == "user"
        push = is_user and self.may_push
        return {"permissions": {"admin": push, "push": push, "pull": is_user}}

    def admit(self, method: str) -> None:
        """Refuse to write to an archived repository."""
        if self.is_archived and method != "GET":
            raise RefusedError(403, "Repository was archived so is read-only.")

    def check_method(self, method: str) -> None:
        """Refuse to merge in a way that is switched off."""
        if method not in self.merge_methods:
            raise RefusedError(405, f"{_METHODS[method]} are not allowed on this repository.")


@dataclass
class TokenTraits:
    """What GitHub says about a personal token in the headers of every answer to it.

    Attributes:
        scopes: Scopes of a classic token; ``None`` for a fine-grained one, which has none.
        expires_at: When it expires, with a time zone, or ``None`` for never.
    """

    scopes: tuple[str, ...] | None = None
    expires_at: datetime | None = None

    def headers(self, request: Request, *, caller: Caller) -> dict[str, str]:
        """Return the headers for a request; tokens of apps have none of them."""
        if request.authorization is None or caller != "user":
            return {}
        found = {} if self.scopes is None else {"x-oauth-scopes": ", ".join(self.scopes)}
        if self.expires_at is not None:
            moment = self.expires_at.astimezone(UTC)
            found["github-authentication-token-expiration"] = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
        return found
