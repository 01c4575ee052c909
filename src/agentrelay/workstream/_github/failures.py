"""From what PyGithub and requests raise to our errors: the one place that decides.

The backend's exceptions carry the request's headers, and their tracebacks the frames
that held them. Both are removed before an exception becomes the cause of ours.

Source:
    docs.github.com, "Troubleshooting the REST API" (404 for what a token may not see),
    "Best practices for using the REST API" (301 and 307 for a renamed repository).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from agentrelay.workstream._github.connection import import_github
from agentrelay.workstream._github.limits import come_back, is_limit, wait_of
from agentrelay.workstream._redact import MASK
from agentrelay.workstream.errors import (
    CredentialsRejectedError,
    PullRequestError,
    RateLimitedError,
    RemoteUnavailableError,
    WorkstreamError,
)

if TYPE_CHECKING:
    from agentrelay.workstream._github.address import GitHubAddress

__all__ = [
    "is_ambiguous",
    "is_duplicate",
    "is_no_commits",
    "is_passing",
    "is_unauthorized",
    "location_of",
    "refuses_drafts",
    "refuses_maintainers",
    "scrub",
    "translate",
    "unusable",
]

_REDIRECTED: Final = 300
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_UNPROCESSABLE: Final = 422
_SERVER_ERROR: Final = 500
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

# The words of urllib.parse about an address it cannot split.
_URL_REFUSAL: Final = re.compile(r"netloc |Invalid IPv6 URL|Port ")

# An answer's own text is a detail in our sentence, not a page of it.
_LONGEST_DETAIL: Final = 500


def translate(
    error: Exception,
    *,
    operation: str,
    address: GitHubAddress,
    credential_source: str | None,
    now_s: float,
    search: str = "",
) -> WorkstreamError:
    """Make our error from the backend's; raise it ``from`` the scrubbed original.

    Args:
        error: What was raised.
        operation: What was tried, to end "could not …".
        address: The repository it was tried on.
        credential_source: Where the token came from, or ``None`` for none.
        now_s: Time of day, in seconds since 1970.
        search: Where a token was looked for, for the hint when there was none.
    """
    if isinstance(error, WorkstreamError):
        return error
    what = f"could not {operation} on {address.host}/{address.full_name}"
    if isinstance(error, import_github().GithubException):
        return _from_answer(error, what, address, (credential_source, search), now_s)
    return _from_transport(error, what, address)


def _from_answer(
    error: Any,
    what: str,
    address: GitHubAddress,
    credential: tuple[str | None, str],
    now_s: float,
) -> WorkstreamError:
    """Translate an answer with a status that is not success."""
    source, search = credential
    status = int(error.status)
    headers: Mapping[str, str] = error.headers or {}
    text = _text_of(error.data)
    message = f"{what}: {text or 'no reason given'} (HTTP {status})"
    full_name = address.full_name
    if status == _UNAUTHORIZED or (source is None and status in {_FORBIDDEN, _NOT_FOUND}):
        if source is not None:
            return CredentialsRejectedError(
                f"{message}; the token from {source} was refused",
                url=address.api_url,
                source=source,
                hint=f"renew the token in {source}, or pass another one",
            )
        if not is_limit(status, text, headers):
            return CredentialsRejectedError(
                f"{message}; no token was offered", url=address.api_url, hint=search or None
            )
    if is_limit(status, text, headers):
        wait_s = wait_of(headers, text, now_s)
        return RateLimitedError(
            message,
            repository=full_name,
            status=status,
            retry_after_s=wait_s,
            hint=come_back(wait_s, now_s)
            + ("" if source else "; with a token the limits are higher"),
        )
    if status >= _SERVER_ERROR or status < _REDIRECTED:
        return RemoteUnavailableError(message, url=address.api_url, hint="try again later")
    return PullRequestError(
        message, repository=full_name, status=status, hint=_hint(status, text, headers, source)
    )


def _hint(status: int, text: str, headers: Mapping[str, str], source: str | None) -> str | None:
    """Say what a reader can do about a refusal."""
    if status == _NOT_FOUND:
        return (
            'GitHub also says "not found" when the token may not see the repository: '
            f"check the name, and that the token from {source} has access to it"
        )
    if status in _REDIRECTS:
        return (
            "the repository was renamed or moved, and its new name could not be learnt "
            "from the same host: change the remote's URL, or pass full_name="
        )
    if status == _FORBIDDEN and "x-github-sso" in headers:
        return f"authorize the token from {source} for the organisation's single sign-on"
    if status == _FORBIDDEN and "GitHub Actions is not permitted" in text:
        return "allow it in the repository's settings: Actions, General, Workflow permissions"
    if status == _FORBIDDEN:
        return (
            f"the token from {source} lacks a permission: pull requests need "
            '"Pull requests: write" (fine-grained) or the scope "repo" (classic)'
        )
    return None


def _from_transport(error: Exception, what: str, address: GitHubAddress) -> WorkstreamError:
    """Translate what went wrong without an answer, or with one nobody can read."""
    import requests

    kind = type(error).__name__
    hint = f"is {address.api_url} the address of the API? If not, pass api_url="
    if _quotes_address(error):
        reason = f"an address that cannot be read; check the proxy variables ({kind})"
        hint = "in a proxy's password write every / ? # @ as %2F %3F %23 %40"
    elif isinstance(error, requests.exceptions.SSLError):
        reason = f"no trusted connection ({kind}: {_short(str(error))})"
        hint = "for a private certificate authority, set SSL_CERT_FILE to its bundle"
    elif isinstance(error, requests.exceptions.Timeout | TimeoutError) or _is_silence(error):
        reason = f"no answer in time ({kind})"
    elif isinstance(error, requests.exceptions.RequestException | OSError):
        reason = f"no connection, or it broke ({kind}: {_short(str(error))})"
    else:
        reason = f"the answer could not be used ({kind}: {_short(str(error))})"
    return RemoteUnavailableError(f"{what}: {reason}", url=address.api_url, hint=hint)


def _is_silence(error: Exception) -> bool:
    """Tell whether a body stopped coming: requests calls that a broken connection."""
    return any(type(item).__name__ == "ReadTimeoutError" for item in error.args)


def unusable(operation: str, address: GitHubAddress, why: str) -> RemoteUnavailableError:
    """Make the error for an answer that claims success and cannot be used."""
    return RemoteUnavailableError(
        f"could not {operation} on {address.host}/{address.full_name}: "
        f"the answer could not be used: {_short(why)}",
        url=address.api_url,
        hint=f"is {address.api_url} the address of the API? If not, pass api_url=",
    )


def is_passing(error: WorkstreamError) -> bool:
    """Tell whether the same request may get another answer a little later.

    A certificate nobody trusts and an address nobody can read stay what they are.
    """
    if isinstance(error, RateLimitedError) or _is_unresolved(error):
        return True
    if not isinstance(error, RemoteUnavailableError):
        return False
    import requests

    cause = error.__cause__
    if cause is None:
        return True
    distrusted = isinstance(cause, requests.exceptions.SSLError) and (
        "certificate verify failed" in str(cause).lower()
    )
    # One that was emptied of its words quoted an address.
    unreadable = _quotes_address(cause) or (isinstance(cause, ValueError) and not cause.args)
    return not (distrusted or unreadable)


def refuses_drafts(error: WorkstreamError) -> bool:
    """Tell whether GitHub refused because the repository's plan knows no drafts."""
    return _is_unprocessable(error) and "Draft pull requests are not supported" in error.message


def refuses_maintainers(error: WorkstreamError) -> bool:
    """Tell whether GitHub refused because the fork's owner cannot let maintainers push."""
    return _is_unprocessable(error) and "Fork collab can" in error.message


def is_no_commits(error: WorkstreamError) -> bool:
    """Tell whether GitHub refused because the head has nothing its base lacks."""
    return _is_unprocessable(error) and "No commits between" in error.message


def is_duplicate(error: WorkstreamError) -> bool:
    """Tell whether GitHub refused because the pull request exists already."""
    return _is_unprocessable(error) and "A pull request already exists" in error.message


def is_ambiguous(error: WorkstreamError) -> bool:
    """Tell whether the operation may have happened although it failed.

    A refusal (4xx) did nothing, with one exception: GitHub answers 422 "Could not
    resolve to a node" to a creation it has just carried out.
    """
    if isinstance(error, RemoteUnavailableError):
        return True
    return _is_unresolved(error)


def _is_unresolved(error: WorkstreamError) -> bool:
    """Tell whether a part of GitHub does not know yet what another one has made."""
    return _is_unprocessable(error) and "Could not resolve to a node" in error.message


def _is_unprocessable(error: WorkstreamError) -> bool:
    return isinstance(error, PullRequestError) and error.status == _UNPROCESSABLE


def is_unauthorized(error: Exception) -> bool:
    """Tell whether the answer was that the token is not valid."""
    return getattr(error, "status", None) == _UNAUTHORIZED


def location_of(error: Exception) -> str | None:
    """Return where an answer says the repository has gone, or ``None``."""
    status, headers = getattr(error, "status", None), getattr(error, "headers", None)
    if status in _REDIRECTS and isinstance(headers, dict):
        location = headers.get("location")
        return location if isinstance(location, str) else None
    return None


def scrub(error: BaseException) -> None:
    """Remove the request's headers, and frames that held them, from a chain of errors."""
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        current = queue.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        queue += [current.__cause__, current.__context__]
        queue += [item for item in current.args if isinstance(item, BaseException)]
        current.__traceback__ = None
        if _quotes_address(current):
            _silence(current)
        response = getattr(current, "response", None)
        for request in (getattr(current, "request", None), getattr(response, "request", None)):
            headers = getattr(request, "headers", None)
            if headers is not None:
                headers.pop("Authorization", None)
                headers.pop("Proxy-Authorization", None)


def _quotes_address(error: BaseException) -> bool:
    """Tell whether an error quotes an address it could not read, password and all.

    The address may be a proxy's: only there a password is expected.
    """
    import requests

    # InvalidProxyURL is one of the first.
    if isinstance(error, requests.exceptions.InvalidURL | UnicodeError):
        return True
    # urllib3's, by name: it is a dependency of requests, not of ours. LocationParseError
    # and ProxySchemeUnknown are such.
    if any(cls.__name__ == "LocationValueError" for cls in type(error).__mro__):
        return True
    return isinstance(error, ValueError) and bool(_URL_REFUSAL.match(str(error)))


def _silence(error: BaseException) -> None:
    """Empty an error of its words; it stays in the chain by its name."""
    error.args = tuple(item for item in error.args if isinstance(item, BaseException))
    if isinstance(error, UnicodeEncodeError):
        error.object = ""  # what it shows is not its arguments
    elif hasattr(error, "location"):
        error.location = MASK


def _text_of(data: Any) -> str:
    """Flatten GitHub's error body: its message and the message of each error."""
    if not isinstance(data, Mapping):
        return _short(data) if isinstance(data, str) else ""
    parts = [data.get("message")]
    errors = data.get("errors")
    for item in errors if isinstance(errors, list) else [errors]:
        if isinstance(item, Mapping):
            named = " ".join(str(item[key]) for key in ("field", "code") if key in item)
            parts.append(item.get("message") or named)
        else:
            parts.append(item)
    return _short("; ".join(part for part in parts if isinstance(part, str) and part))


def _short(text: str) -> str:
    """Make one printable line of a text that came over the wire."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _LONGEST_DETAIL else line[:_LONGEST_DETAIL] + "…"
