"""Find the credential for a host: the places, their order, and what each is for."""

from __future__ import annotations

import netrc
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agentrelay.workstream.credentials._gh_hosts import hosts_path, token_for
from agentrelay.workstream.credentials._owners import canonical_host, token_variables
from agentrelay.workstream.credentials._secret import SealedCallable, Secret
from agentrelay.workstream.credentials._sources import (
    AfterEnvironment,
    TokenProvider,
    TokenSource,
)
from agentrelay.workstream.errors import CredentialsRejectedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Credential", "describe_search", "find_credential", "home_of"]

# What GitHub accepts as the user name beside a token, of every kind of token.
# Source: docs.github.com, "Authenticating as a GitHub App installation".
_TOKEN_USER: Final = "x-access-token"  # noqa: S105 - a user name, the same for everybody

# A token travels in an HTTP header: visible ASCII only. Anything else would be cut,
# refused by the HTTP library with the token in its message, or split the header.
_TOKEN: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Credential:
    """A user name, a secret and where they were found.

    Attributes:
        username: User name for HTTP Basic authentication.
        secret: The token or password.
        source: Where it comes from, in words for a person.
        provider: What minted the secret, if it was minted.
    """

    username: str
    secret: Secret
    source: str
    provider: TokenProvider | None = field(default=None, repr=False, compare=False)

    def was_refused(self) -> bool:
        """Tell its source that the other side refused it.

        Returns:
            Whether looking again may find another one. Look once, not until it works.
        """
        return self.provider is not None and self.provider.was_refused(self.secret)


@dataclass(frozen=True)
class _Place:
    """One place that was looked at: what it held, or why it held nothing."""

    name: str
    credential: Credential | None
    note: str


def find_credential(
    host: str,
    *,
    path: str = "",
    token: TokenSource = None,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
) -> Credential | None:
    """Return the first credential that belongs to ``host``.

    Looked at in order: the ``token`` argument; the environment; netrc, an entry for
    exactly this host; GitHub CLI's ``hosts.yml``. A file that cannot be read or
    understood is passed over; :func:`describe_search` tells.

    Args:
        host: ``"github.com"``, or ``"ghe.corp:8443"``; a port is part of the name.
        path: Path of the repository at that host, for a source that mints tokens for
            one repository.
        token: A value, or a callable or a provider that is asked now.
        environ: Environment to look at; the process's own by default.
        home: Home directory; the user's own by default.

    Raises:
        CredentialsRejectedError: A token is empty or malformed, or the callable
            failed; ``source`` names it, its value is never shown.
        WorkstreamError: Whatever a provider raises.
    """
    for place in _search(host, path, token=token, environ=environ, home=home):
        if place.credential is not None:
            return place.credential
    return None


def describe_search(
    host: str,
    *,
    token: TokenSource = None,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
) -> str:
    """Say in one sentence where a credential for ``host`` was looked for.

    Args:
        host: As for :func:`find_credential`.
        token: As for :func:`find_credential`; nobody is asked for one.
        environ: As for :func:`find_credential`.
        home: As for :func:`find_credential`.
    """
    late = token.provider if isinstance(token, AfterEnvironment) else None
    if token is not None and late is None:
        return f"the token for {host} was given as an argument; nothing else was looked at"
    places: list[str] = []
    if late is not None:
        noted = _note_on(late, host)
        places.append(f"{noted.name} ({noted.note})")
    try:
        places.extend(
            f"{place.name} ({place.note})"
            for place in _search(host, "", token=None, environ=environ, home=home)
        )
    except CredentialsRejectedError as error:
        places.append(f"{error.source} (malformed)")
    return f"looked for a token for {canonical_host(host)} in: " + "; ".join(places)


def home_of(environ: Mapping[str, str], home: Path | None) -> Path | None:
    """Return the home directory to use, or ``None`` where the user has none."""
    if home is not None:
        return home
    if environ.get("HOME"):
        return Path(environ["HOME"])
    try:
        return Path.home()
    except RuntimeError:  # a container's user without HOME and without a passwd entry
        return None


def _search(
    host: str,
    path: str,
    *,
    token: TokenSource,
    environ: Mapping[str, str] | None,
    home: Path | None,
) -> Iterator[_Place]:
    """Look at one place after the other, each only when the one before held nothing."""
    host = canonical_host(host)
    environ = os.environ if environ is None else environ
    home_dir = home_of(environ, home)
    late = token.provider if isinstance(token, AfterEnvironment) else None
    if token is None or isinstance(token, AfterEnvironment):
        yield _Place("the token argument", None, "not given")
    elif isinstance(token, TokenProvider):
        yield _from_provider(host, path, token)
    else:
        yield _from_argument(host, token)
    yield from _from_environment(host, environ)
    if late is not None:
        serves = late.serves(host)
        yield _from_provider(host, path, late) if serves else _note_on(late, host)
    yield _from_netrc(host, environ, home_dir)
    yield _from_gh(host, environ, home_dir)


def _from_provider(host: str, path: str, provider: TokenProvider) -> _Place:
    """Ask a source that mints tokens, if the host is its own."""
    source = provider.source
    if not provider.serves(host):
        raise CredentialsRejectedError(
            f"the tokens of {source} are not for {host}",
            url=f"https://{host}",
            source=source,
            hint="a GitHub App belongs to one GitHub: api_url= says which",
        )
    given = provider.token_for(host, path)
    value = given.reveal() if isinstance(given, Secret) else given
    found = _checked(value, host=host, source=source)
    return _Place(source, replace(found, provider=provider), "given")


def _note_on(provider: TokenProvider, host: str) -> _Place:
    """Describe a source that mints tokens without asking it for one."""
    serves = provider.serves(canonical_host(host))
    return _Place(provider.source, None, "mints tokens" if serves else f"not for {host}")


def _from_argument(host: str, token: str | Secret | Callable[[], str | Secret]) -> _Place:
    """Use what the caller passed; asking it is the only thing that runs foreign code."""
    source = "the token argument"
    if callable(token):
        source, failure = "the token callable", ""
        call = token.reveal() if isinstance(token, SealedCallable) else token
        try:
            token = call()
        except Exception as error:  # noqa: BLE001 - the caller's code may raise anything
            # Its words may hold the secret that was about to be returned, in any shape.
            failure = f"raised {type(error).__name__}"
        if failure:
            # Outside the "except": a chained exception would be printed with its words.
            raise _refusal(f"{source} for {host} {failure}", host=host, source=source)
    value = token.reveal() if isinstance(token, Secret) else token
    if not isinstance(value, str):
        raise _refusal(
            f"{source} for {host} gave {type(value).__name__}, not text", host=host, source=source
        )
    return _Place(source, _checked(value, host=host, source=source), "given")


def _from_environment(host: str, environ: Mapping[str, str]) -> Iterator[_Place]:
    """Look at the variables whose token is for this host."""
    names, why = token_variables(host, environ)
    for name in names:
        source = f"environment variable {name}"
        value = environ.get(name, "")
        if value.strip():
            yield _Place(source, _checked(value, host=host, source=source), "set")
        else:
            yield _Place(source, None, "empty" if name in environ else "not set")
    if why:
        yield _Place("the environment", None, why)


def _from_netrc(host: str, environ: Mapping[str, str], home_dir: Path | None) -> _Place:
    """Look for an entry of exactly this host; ``default`` would be anybody's password."""
    if named := environ.get("NETRC"):
        path, name = Path(named), "the netrc file that NETRC names"
    elif home_dir is not None:
        path, name = home_dir / ".netrc", "~/.netrc"
    else:
        return _Place("~/.netrc", None, "no home directory")
    note = f"no entry for {host}"
    try:
        machines = {key.lower(): entry for key, entry in netrc.netrc(path).hosts.items()}
    except OSError as error:
        machines, note = {}, _unreadable(error)
    except (netrc.NetrcParseError, ValueError):
        # The parser's message quotes the token it stumbled over: not repeated.
        machines, note = {}, "not a netrc file"
    # netrc knows no ports, as curl and git read it; a spelled-out one is more exact.
    for machine in (host, host.rpartition(":")[0]):
        # "default" is how the standard library files the entry for everybody else.
        login, _, password = machines.get(machine if machine != "default" else "", ("", "", ""))
        if password:
            source = f"{name} entry for {machine}"
            found = _checked(password, host=host, source=source, username=login)
            return _Place(name, found, "found")
    return _Place(name, None, note)


def _from_gh(host: str, environ: Mapping[str, str], home_dir: Path | None) -> _Place:
    """Look into GitHub CLI's file; tokens it put into a keyring are out of reach."""
    name = "GitHub CLI's hosts.yml"
    path = hosts_path(environ, home_dir)
    if path is None:
        return _Place(name, None, "no home directory")
    try:
        value = token_for(host, path.read_text(encoding="utf-8"))
    except OSError as error:
        return _Place(name, None, _unreadable(error))
    except ValueError as error:
        reason = "not text" if isinstance(error, UnicodeError) else str(error)
        return _Place(name, None, f"not understood: {reason}")
    if value is None:
        return _Place(name, None, f"no token for {host}")
    return _Place(name, _checked(value, host=host, source=name), "found")


def _unreadable(error: OSError) -> str:
    """Say why a file was passed over."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return f"not readable: {error.strerror}"


def _checked(value: str, *, host: str, source: str, username: str = "") -> Credential:
    """Strip and check a token before it gets near an HTTP header."""
    stripped = value.strip()
    if not _TOKEN.fullmatch(stripped):
        what = "holds characters no token has" if stripped else "is empty"
        raise _refusal(f"the token for {host} from {source} {what}", host=host, source=source)
    return Credential(username=username or _TOKEN_USER, secret=Secret(stripped), source=source)


def _refusal(message: str, *, host: str, source: str) -> CredentialsRejectedError:
    """Make the error for a token that is not used at all."""
    return CredentialsRejectedError(
        message,
        url=f"https://{host}",
        source=source,
        hint="a token is one word of visible ASCII characters",
    )
