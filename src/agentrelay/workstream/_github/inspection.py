"""What one look at a repository tells about it, the token and the clock. Only GET.

Source:
    docs.github.com, "Get a repository", "Get a branch"; "Scopes for OAuth apps" for
    ``x-oauth-scopes``; "Managing your personal access tokens" for the header that says
    when one expires; "Rate limits for the REST API".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from agentrelay.workstream._github.address import is_full_name
from agentrelay.workstream._github.failures import unusable
from agentrelay.workstream.errors import PullRequestError, WorkstreamError

if TYPE_CHECKING:
    from agentrelay.workstream._github.client import GitHubClient
    from agentrelay.workstream._github.transport import Answer

__all__ = ["RepositoryFacts", "is_protected", "read_repository", "served_at_of"]

_NOT_FOUND: Final = 404
_LOOK: Final = "look at the repository"
_METHODS: Final = {
    "merge": "allow_merge_commit",
    "squash": "allow_squash_merge",
    "rebase": "allow_rebase_merge",
}
_LONGEST_NUMBER: Final = 18
# "2026-01-02 03:04:05 UTC"; some servers write an offset.
_EXPIRES: Final = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (UTC|[+-]\d{4})")


@dataclass(frozen=True)
class RepositoryFacts:
    """A repository and a token, as one answer of GitHub's shows them.

    Attributes:
        full_name: What the repository is called now.
        is_private: Whether only those who were invited see it.
        is_archived: Whether it is read-only.
        is_disabled: Whether GitHub switched it off.
        may_pull: Whether the caller's role may read, or ``None`` when that is not said.
        may_push: Whether the caller's role may write, or ``None`` when that is not said.
        merge_methods: How pull requests may be merged; ``None`` when that is not said.
        scopes: Scopes of a classic token; ``None`` for tokens that have none.
        expires_at: When the token expires, or ``None`` when that is not said.
        served_at: The server's clock, to the second, or ``None``.
        requests_left: Requests until the rate limit, or ``None``.
        requests_limit: The rate limit, or ``None``.
    """

    full_name: str
    is_private: bool
    is_archived: bool
    is_disabled: bool
    may_pull: bool | None
    may_push: bool | None
    merge_methods: tuple[str, ...] | None
    scopes: tuple[str, ...] | None
    expires_at: datetime | None
    served_at: datetime | None
    requests_left: int | None
    requests_limit: int | None


def read_repository(client: GitHubClient) -> RepositoryFacts:
    """Ask for the repository, once.

    Raises:
        WorkstreamError: As :meth:`GitHubClient.request`.
    """

    def check(answer: Answer) -> None:
        name = answer.data.get("full_name") if isinstance(answer.data, dict) else None
        if not isinstance(name, str) or not is_full_name(name):
            raise unusable(_LOOK, client.address, "it is not a repository")

    answer = client.request("GET", "", operation=_LOOK, check=check)
    data, headers = answer.data, answer.headers
    role = data.get("permissions")
    role = role if isinstance(role, Mapping) else {}
    allowed = {name: data[key] for name, key in _METHODS.items() if key in data}
    scopes = headers.get("x-oauth-scopes")
    return RepositoryFacts(
        full_name=data["full_name"],
        is_private=data.get("private") is True,
        is_archived=data.get("archived") is True,
        is_disabled=data.get("disabled") is True,
        may_pull=_flag(role, "pull"),
        may_push=_flag(role, "push"),
        merge_methods=tuple(name for name, is_on in allowed.items() if is_on) if allowed else None,
        scopes=None
        if scopes is None
        else tuple(part for part in re.split(r"[,\s]+", scopes) if part),
        expires_at=_expiry(headers.get("github-authentication-token-expiration", "")),
        served_at=_date(headers),
        requests_left=_number(headers, "x-ratelimit-remaining"),
        requests_limit=_number(headers, "x-ratelimit-limit"),
    )


def is_protected(client: GitHubClient, branch: str) -> bool | None:
    """Ask whether rules protect a branch.

    Args:
        client: The repository's client.
        branch: Short name.

    Returns:
        ``None`` when there is no such branch.

    Raises:
        WorkstreamError: As :meth:`GitHubClient.request`.
    """
    operation = "look at the branch"

    def check(answer: Answer) -> bool:
        found = _flag(answer.data, "protected") if isinstance(answer.data, dict) else None
        if found is None:
            raise unusable(operation, client.address, "it does not say whether it is protected")
        return found

    try:
        answer = client.request(
            "GET", f"/branches/{quote(branch)}", operation=operation, check=check
        )
    except PullRequestError as error:
        if error.status == _NOT_FOUND:
            return None
        raise
    return check(answer)


def served_at_of(error: WorkstreamError) -> datetime | None:
    """Return the server's clock from a refusal, or ``None`` where nobody answered."""
    headers = getattr(error.__cause__, "headers", None)
    return _date(headers) if isinstance(headers, Mapping) else None


def _flag(data: Mapping[str, Any], key: str) -> bool | None:
    value = data.get(key)
    return value if isinstance(value, bool) else None


def _number(headers: Mapping[str, str], name: str) -> int | None:
    value = headers.get(name, "")
    # Longer ones are no numbers of requests, and Python would refuse to read them.
    is_number = value.isascii() and value.isdecimal() and len(value) <= _LONGEST_NUMBER
    return int(value) if is_number else None


def _date(headers: Mapping[str, str]) -> datetime | None:
    try:
        found = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _expiry(text: str) -> datetime | None:
    found = _EXPIRES.fullmatch(text.strip())
    if found is None:
        return None
    try:
        return datetime.strptime(
            f"{found[1]} {found[2].replace('UTC', '+0000')}", "%Y-%m-%d %H:%M:%S %z"
        ).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
