"""Addresses of remotes: read as git means them, and refused where they lead astray.

Agents share the repository's configuration, so an address is not believed further than
the user wrote it.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import ConfigLevel

from agentrelay.workstream._git.config_names import config_entries
from agentrelay.workstream._git.exchange import Endpoint
from agentrelay.workstream._git.failures import is_torn
from agentrelay.workstream._git.locks import reading
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._redact import redact
from agentrelay.workstream.credentials import proxy_for
from agentrelay.workstream.errors import RepositoryError

__all__ = [
    "absolute",
    "addresses",
    "find_proxy",
    "named_remote",
    "refuse_led_away",
    "refuse_program",
]

_HELPER: Final = re.compile(r"[A-Za-z0-9+.-]+::")
_REWRITE: Final = re.compile(r"url\.(?P<base>.*)\.(?P<kind>(?:push)?insteadof)", re.DOTALL)


def named_remote(repository: OpenRepository, name: str) -> pygit2.Remote:
    """Return a configured remote.

    Raises:
        RepositoryError: There is none by that name, or it is not usable.
    """
    try:
        return reading(lambda: repository.handle.remotes[name], torn=is_torn)
    except (KeyError, ValueError, pygit2.GitError) as error:
        message = f"'{repository.path}' has no usable remote named '{name}'"
        raise RepositoryError(
            message,
            path=repository.path,
            hint="Lanes are pushed so that others can see them: configure the remote, or name "
            "another one with remote=.",
        ) from error


def addresses(repository: OpenRepository, name: str) -> tuple[str, str]:
    """Return where a configured remote is fetched from and pushed to, user-info included.

    Raises:
        RepositoryError: There is none by that name, or it is not usable.
    """
    config, key = repository.handle.config, f"remote.{name}.url"

    def plain() -> tuple[str, str] | None:
        # No rewriting: then it is as it is written. libgit2's remote is made of a copy of
        # the whole configuration.
        if any(_REWRITE.fullmatch(entry) for entry in repository.config.names) or key not in config:
            return None
        url, push_key = config[key] or "", f"remote.{name}.pushurl"
        push_url = config[push_key] if push_key in config else None  # noqa: SIM401 - it has no get()
        return url, push_url or url

    with contextlib.suppress(KeyError, ValueError, pygit2.GitError):
        found = reading(plain, torn=is_torn)
        if found is not None:
            return absolute(found[0], repository), absolute(found[1], repository)
    remote = named_remote(repository, name)
    url = remote.url or ""
    return absolute(url, repository), absolute(remote.push_url or url, repository)


def absolute(url: str, repository: OpenRepository) -> str:
    """Return a relative path as git means it: from the repository, not from here."""
    if not url or "://" in url or url.startswith(("/", "~")):
        return url
    head = url.partition("/")[0]
    if ":" in head:
        return url
    handle = repository.handle
    base = repository.common_dir if handle.is_bare else Path(handle.workdir)
    return os.path.normpath(base / url)


def refuse_program(url: str, repository: OpenRepository, name: str) -> None:
    """Refuse an address that git would start a program for, before anything resolves it.

    Source:
        gitremote-helpers(7), "URL SYNTAX"; and that ssh takes a host for an option if it
        starts with a dash (CVE-2017-1000117).
    """
    if _HELPER.match(url) or Endpoint.of(url).host.startswith("-"):
        message = f"the remote '{name}' of '{repository.path}' has an address that names a program"
        raise RepositoryError(
            message,
            path=repository.path,
            hint="Use an https or ssh address, or a path; remote helpers are not run.",
        )


def refuse_led_away(repository: OpenRepository, name: str, url: str, *, key: str) -> None:
    """Refuse an address that the repository's own rules lead to another host.

    Every worktree shares that configuration, so whoever works in one could have the token
    sent anywhere by a single line. Rules of the user's or the system's are believed.
    """
    if _is_local(url):
        return
    config = repository.handle.config
    keys = [f"remote.{name}.{key}", f"remote.{name}.url"]
    raw = next((str(config[name]) for name in keys if name in config), url)
    written, led = Endpoint.of(raw), Endpoint.of(url)
    same_port = written.scheme != led.scheme or written.port == led.port
    if written.host == led.host and same_port:
        return
    for key_name, entry in config_entries(config):
        rule = _REWRITE.fullmatch(key_name)
        # Neither a name nor a value that is no text leads a text anywhere.
        if (
            rule is not None
            and entry is not None
            and entry.level in {ConfigLevel.LOCAL, ConfigLevel.WORKTREE}
            and raw.encode().startswith(entry.raw_value or b"")
            and url.startswith(rule["base"])
        ):
            message = (
                f"url.*.insteadOf in the configuration of '{repository.path}' leads the "
                f"remote '{name}' to another host, '{redact(led.name)}'"
            )
            raise RepositoryError(
                message,
                path=repository.path,
                hint="No credential follows. Write the new address into the remote itself, or "
                "the rule into your own configuration ('git config --global').",
            )


def _is_local(url: str) -> bool:
    """Return whether an address is a path of this machine."""
    return url.startswith(("/", "~", ".", "file:")) or not url


def find_proxy(repository: OpenRepository, remote: str, url: str) -> str | None:
    """Return the proxy for an address: as configured, else as the environment says.

    Source:
        git-config(1), ``remote.<name>.proxy`` and ``http.proxy``; an empty value means
        none. libgit2's own detection overlooks ``http_proxy``.
    """

    def configured() -> str | None:
        config = repository.handle.config
        keys = (f"remote.{remote}.proxy", "http.proxy")
        return next((config[key] for key in keys if key in config), None)

    found = reading(configured, torn=is_torn)
    if found is not None:
        return found or None
    return proxy_for(url) if url.startswith(("http://", "https://")) else None
