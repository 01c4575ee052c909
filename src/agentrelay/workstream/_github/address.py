"""From a git remote's URL to the repository on GitHub and the API that serves it.

Pure: nothing is resolved or asked. What cannot be read without guessing is refused,
because the host decides where a token is sent and the name decides where a pull
request is opened.

Source:
    git-clone(1), "Git URLs"; RFC 3986 section 3.2. API base: GitHub's documentation of
    "Getting started with the REST API" (github.com and GitHub Enterprise Server) and
    of GitHub Enterprise Cloud with data residency (``*.ghe.com``).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from agentrelay.workstream._redact import redact
from agentrelay.workstream.credentials import canonical_host, is_hosted, is_loopback, is_other_forge
from agentrelay.workstream.errors import RepositoryError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GitHubAddress", "is_full_name", "is_own_pull_url", "parse_address"]

_SCHEMES: Final = frozenset({"https", "http", "ssh", "git", "git+ssh", "git+https", "ssh+git"})
_WEB_SCHEMES: Final = frozenset({"https", "http"})
_DEFAULT_PORT: Final = {"https": 443, "http": 80}

# [user@]host:path, git's short form of an ssh address.
_SCP: Final = re.compile(r"(?:[^@:/\[\]]*@)?(?P<host>[^@:/\[\]]+):(?P<path>.*)")
_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
# Everything GitHub allows in an owner's or a repository's name.
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._-]+")
_VISIBLE: Final = re.compile(r"[!-~]+")

_HINT: Final = (
    'pass full_name="owner/name", and api_url= for the address of the API, '
    "or point the remote at a GitHub repository"
)


@dataclass(frozen=True)
class GitHubAddress:
    """One repository on one GitHub.

    Attributes:
        host: Host whose token is used, with its port where that is part of the name:
            ``"github.com"``, ``"ghe.corp:8443"``.
        owner: User or organisation.
        name: Repository, without ``.git``.
        api_url: Base of the REST API, without a trailing slash.
        web_url: The repository's page.
        api_is_given: Whether the caller named ``api_url``; then answers may speak of
            themselves by another name, as emulators do.
    """

    host: str
    owner: str
    name: str
    api_url: str
    web_url: str
    api_is_given: bool = False

    def __post_init__(self) -> None:
        """Refuse an API address a token must not be sent to.

        Raises:
            RepositoryError: Not a URL, ``http`` beyond this machine, or a host other
                than the one whose token would be sent.
        """
        parts = _check_api_url(self.api_url)
        netloc = _netloc(parts.hostname or "", parts.port, parts.scheme)
        if canonical_host(netloc) != self.host:
            raise RepositoryError(f"the API at {netloc} is not that of {self.host}")

    @property
    def is_hosted(self) -> bool:
        """Whether GitHub itself runs the site."""
        return is_hosted(self.host)

    @property
    def full_name(self) -> str:
        """``"owner/name"``."""
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True)
class _Remote:
    """What a remote's URL says, before it is taken for a GitHub."""

    scheme: str
    host: str
    port: int | None
    path: str


def parse_address(
    url: str,
    *,
    api_url: str | None = None,
    full_name: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> GitHubAddress:
    """Read a remote's URL as a repository on GitHub.

    Args:
        url: URL of the remote, with ``insteadOf`` already applied. With both
            overrides it may be anything, a path for example.
        api_url: Base of the REST API, instead of the one that follows from the host.
        full_name: ``"owner/name"``, instead of the URL's path.
        environ: Environment to look at; the process's own by default. GitHub
            Actions' ``GITHUB_API_URL`` is used when ``GITHUB_SERVER_URL`` is the
            remote's own host, and ``GITHUB_REPOSITORY`` when the path ends in it.

    Raises:
        RepositoryError: The URL, or an override, is not of a GitHub repository. User
            name and password of the URL are not shown.
    """
    environ = os.environ if environ is None else environ
    given = None if full_name is None else _given_name(full_name)
    if api_url is not None and given is not None:
        return _on_given_api(api_url, *given)
    remote = _split_remote(url)
    if given is None:
        given = _path_name(remote, environ, url)
    if api_url is not None:
        return _on_given_api(api_url, *given)
    if is_other_forge(remote.host):
        raise RepositoryError(f"{remote.host} is not a GitHub", hint=_HINT)
    owner, name = given
    host, scheme = _host_of_remote(remote)
    api = _actions_api(host, environ) or _default_api(host, scheme)
    web_url = f"{scheme}://{host}/{owner}/{name}"
    return GitHubAddress(host=host, owner=owner, name=name, api_url=api, web_url=web_url)


def is_full_name(text: str) -> bool:
    """Tell whether a text is ``"owner/name"``, and nothing else."""
    return _names(text) is not None


def is_own_pull_url(address: GitHubAddress, url: str, number: int) -> bool:
    """Tell whether ``url`` is the page of this repository's pull request ``number``.

    Args:
        address: The repository.
        url: What an answer claims.
        number: What the same answer gives as the number.
    """
    if not _VISIBLE.fullmatch(url) or "\\" in url:
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in _WEB_SCHEMES or "@" in parts.netloc or parts.query or parts.fragment:
        return False
    path = f"/{address.full_name}/pull/{number}"
    host = parts.hostname or ""
    return parts.path.lower() == path.lower() and (
        canonical_host(_netloc(host, port, parts.scheme)) == address.host
        or (address.api_is_given and _is_name_of_given_api(host, address))
    )


def _is_name_of_given_api(host: str, address: GitHubAddress) -> bool:
    """Tell whether an emulator at ``api_url`` may call itself ``host``.

    Its own host on any port, another name of this machine, or github.com, which it
    plays.
    """
    api_host = urlsplit(address.api_url).hostname or ""
    both_local = is_loopback(host) and is_loopback(api_host)
    return both_local or host in {api_host, "github.com"}


def _split_remote(url: str) -> _Remote:
    """Take a remote's URL apart; refuse what two readers could read differently."""
    text = url.strip()
    if not _VISIBLE.fullmatch(text) or text.startswith("-") or "\\" in text:
        raise _refusal(url, "it is not a URL")
    if "::" in text.partition("://")[0]:
        raise _refusal(url, "it names a program, not a server")
    if "?" in text or "#" in text:
        raise _refusal(url, "it has a query or a fragment")
    if "://" in text:
        scheme, host, port, path = _split_url(url, text)
    else:
        match = _SCP.fullmatch(text)
        if match is None or (len(match["host"]) == 1 and "@" not in text):
            raise _refusal(url, "it is a path, not the address of a server")
        scheme, host, port, path = "ssh", match["host"], None, match["path"]
    host = host.lower().rstrip(".")
    if not (_HOST.fullmatch(host) or host == "::1"):
        raise _refusal(url, "its host is not a host name")
    if host.startswith("gist."):
        raise _refusal(url, "a gist has no pull requests")
    return _Remote(scheme=scheme, host=host, port=port, path=path)


def _split_url(url: str, text: str) -> tuple[str, str, int | None, str]:
    """Split ``scheme://[user@]host[:port]/path``."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        # Not "from": the standard library's text quotes what it could not read.
        raise _refusal(url, "its host or port is malformed") from None
    if parts.scheme not in _SCHEMES:
        raise _refusal(url, f"{parts.scheme}:// is not the address of a GitHub repository")
    if parts.netloc.count("@") > 1:
        raise _refusal(url, "it has more than one @ before the path")
    scheme = "https" if parts.scheme == "git+https" else parts.scheme
    return scheme, parts.hostname or "", port, parts.path


def _refusal(url: str, why: str) -> RepositoryError:
    """Make the error for a remote, without user-info and without control characters."""
    shown = "".join(char if char.isprintable() else "?" for char in redact(url))
    if "@" in shown:
        shown = shown.rpartition("@")[2]
    return RepositoryError(f"remote URL {shown!r} cannot be read: {why}", hint=_HINT)


def _path_name(remote: _Remote, environ: Mapping[str, str], url: str) -> tuple[str, str]:
    """Read owner and name from the remote's path."""
    path = remote.path.removeprefix("/").rstrip("/").removesuffix(".git")
    found = _names(path)
    if found is not None:
        return found
    # A server below a path: GitHub Actions says how it is called there.
    known = environ.get("GITHUB_REPOSITORY", "")
    if _serves(remote.host, environ) and path.lower().endswith(f"/{known}".lower()):
        found = _names(known)
    if found is None:
        raise _refusal(url, "its path is not owner/name")
    return found


def _names(path: str) -> tuple[str, str] | None:
    """Split exactly ``owner/name``."""
    match path.split("/"):
        case [owner, name] if all(
            _SEGMENT.fullmatch(segment) and segment not in {".", ".."} for segment in (owner, name)
        ):
            return owner, name
        case _:
            return None


def _given_name(full_name: str) -> tuple[str, str]:
    """Check a ``full_name`` override."""
    names = _names(full_name.strip())
    if names is None:
        raise RepositoryError(
            f"full_name {full_name!r} is not a repository's name", hint='pass "owner/name"'
        )
    return names


def _host_of_remote(remote: _Remote) -> tuple[str, str]:
    """Return the site's host, with the port that matters, and its web scheme.

    The port of an ssh or git address says nothing about the web server. Plain
    ``http`` is kept on this machine only; elsewhere the API is asked over https.
    """
    local = remote.scheme == "http" and is_loopback(remote.host)
    scheme = "http" if local else "https"
    port = remote.port if remote.scheme == scheme else None
    host = canonical_host(_netloc(remote.host, port, scheme))
    bare = canonical_host(remote.host)
    return (bare if is_hosted(bare) else host), scheme


def _netloc(host: str, port: int | None, scheme: str) -> str:
    """Join host and port; leave out a port that goes without saying."""
    name = f"[{host}]" if ":" in host else host
    return name if port in {None, _DEFAULT_PORT[scheme]} else f"{name}:{port}"


def _default_api(host: str, scheme: str) -> str:
    """Return the API's base for a site."""
    return f"https://api.{host}" if is_hosted(host) else f"{scheme}://{host}/api/v3"


def _serves(host: str, environ: Mapping[str, str]) -> bool:
    """Tell whether this is a workflow of the GitHub that runs at ``host``."""
    try:
        server = urlsplit(environ.get("GITHUB_SERVER_URL", ""))
        return bool(host) and canonical_host(server.netloc) == canonical_host(host)
    except ValueError:
        return False


def _actions_api(host: str, environ: Mapping[str, str]) -> str | None:
    """Return GitHub Actions' own idea of the API, when it is of this very host."""
    value = environ.get("GITHUB_API_URL", "").strip().rstrip("/")
    if not value or not _serves(host, environ):
        return None
    try:
        return value if canonical_host(urlsplit(value).netloc) == host else None
    except ValueError:
        return None


def _on_given_api(api_url: str, owner: str, name: str) -> GitHubAddress:
    """Build the address for an API the caller named: its host is the token's host."""
    value = api_url.strip().rstrip("/")
    parts = _check_api_url(value)
    host = canonical_host(_netloc(parts.hostname or "", parts.port, parts.scheme))
    return GitHubAddress(
        host=host,
        owner=owner,
        name=name,
        api_url=value,
        web_url=f"{parts.scheme}://{host}/{owner}/{name}",
        api_is_given=True,
    )


def _check_api_url(api_url: str) -> SplitResult:
    """Accept ``https``, and ``http`` to this machine."""
    try:
        parts = urlsplit(api_url)
        usable = parts.scheme in _WEB_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, usable = None, False
    if not usable or parts is None or not _VISIBLE.fullmatch(api_url) or "\\" in api_url:
        raise RepositoryError(
            "api_url is not a URL", hint="https://ghe.example/api/v3, for example"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise RepositoryError(
            "api_url has more than a host and a path", hint="pass the token as token="
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise RepositoryError(
            f"the API at {api_url} would get the token unencrypted", hint="use https"
        )
    return parts
