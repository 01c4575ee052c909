"""A GitHub App as the source of tokens."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from agentrelay.workstream._durations import absolute_path
from agentrelay.workstream.credentials import Secret, canonical_host, is_loopback
from agentrelay.workstream.errors import CredentialsRejectedError, WorkstreamError

__all__ = ["GitHubApp"]

_API_URL: Final = "https://api.github.com"

# What pushing a branch and opening a pull request take; reading metadata goes with any.
_LEAST: Final = {"contents": "write", "metadata": "read", "pull_requests": "write"}

# How many silences' worth of time minting may take in all, where the caller sets no limit
# or a later one: as much as one answer.
_LONGEST_MINTING: Final = 4

# Both ids: a number, or "Iv" and a word.
_APP_ID: Final = re.compile(r"[A-Za-z0-9._-]+")


class GitHubApp:
    """Mints tokens for ``token=``: for one repository, for an hour, renewed in time.

    git and the API share a token where they share the object, in any number of threads.
    It is renewed ten minutes before it expires, by the server's clock, and once when it
    is refused. Nothing is asked before the first token is needed. The key and the tokens
    are in no ``repr`` and no pickle; a pickle holds the settings, so a key in a file or
    a variable is found again in another process.

        app = GitHubApp(12345, private_key_path="app.pem")
        GitWorkstreamPreparer(repo, "nightly", token=app)
        GhWorkstreamIntegrator(repo, token=app)

    Attributes:
        api_url: Base of the API the app is registered at.
        permissions: What its tokens may do.
    """

    def __init__(
        self,
        app_id: int | str,
        *,
        private_key: str | Secret | None = None,
        private_key_path: Path | str | None = None,
        private_key_variable: str | None = None,
        installation_id: int | None = None,
        extra_permissions: Mapping[str, str] | None = None,
        api_url: str = _API_URL,
        full_name: str | None = None,
        timeout_s: int = 15,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        r"""Remember the settings; the key is not read yet.

        Args:
            app_id: The app's id or its client id.
            private_key: The key as PEM text; line breaks may be written as ``\n``.
            private_key_path: A file that holds it, instead.
            private_key_variable: An environment variable that holds it, instead.
            installation_id: The app's installation on the repository's owner; asked of
                GitHub unless given.
            extra_permissions: Permissions beside contents and pull requests, such as
                ``{"workflows": "write"}``, by the names of GitHub's API.
            api_url: Base of the API the app is registered at. Its key is used for no other,
                whatever a remote's address says.
            full_name: ``"owner/name"``, instead of what is asked for.
            timeout_s: Longest silence of the API, in whole seconds; minting takes four times
                as long at most, and no longer than the operation's deadline leaves.
            clock: A clock that never jumps, in seconds.

        Raises:
            WorkstreamError: Not exactly one place for the key, or a setting of another
                kind; its value is not shown.
            RepositoryError: ``api_url`` or ``full_name`` cannot be read, or the API would
                be asked without encryption.
        """
        self._app_id = str(app_id).strip()
        if not _APP_ID.fullmatch(self._app_id):
            raise WorkstreamError("app_id is neither the id nor the client id of a GitHub App")
        given = [private_key, private_key_path, private_key_variable]
        if sum(place is not None for place in given) != 1:
            raise WorkstreamError(
                "a GitHub App needs its private key from one place",
                hint="pass private_key=, private_key_path= or private_key_variable=",
            )
        if isinstance(installation_id, bool) or not isinstance(installation_id, int | None):
            raise WorkstreamError("installation_id is not a number")
        self._text = Secret(private_key) if isinstance(private_key, str) else private_key
        # Absolute now: the directory may be another one when the key is read.
        self._path = (
            None
            if private_key_path is None
            else absolute_path("private_key_path", private_key_path)
        )
        self._variable = private_key_variable
        self._installation_id = installation_id
        self.permissions = {**_LEAST, **(extra_permissions or {})}
        self.api_url = api_url
        self._full_name = full_name
        self._timeout_s = timeout_s
        self._clock = clock
        # By process: see TokenShelf.
        self._shelves: dict[int, Any] = {}
        self._host = self._address(full_name or "owner/name").host

    @classmethod
    def from_environment(cls) -> GitHubApp | None:
        """Return the app that the environment describes, or ``None`` where it names none.

        ``GITHUB_APP_ID`` or ``GITHUB_APP_CLIENT_ID`` names it; the key is in
        ``GITHUB_APP_PRIVATE_KEY`` or in the file ``GITHUB_APP_PRIVATE_KEY_PATH`` names.
        ``GITHUB_APP_INSTALLATION_ID`` and ``GITHUB_API_URL`` are optional.

        Raises:
            CredentialsRejectedError: ``GITHUB_APP_INSTALLATION_ID`` is not a number.
            WorkstreamError: As the constructor.
        """
        values = {name: os.environ.get(f"GITHUB_{name}", "").strip() for name in _VARIABLES}
        app_id = values["APP_ID"] or values["APP_CLIENT_ID"]
        if not app_id:
            return None
        api_url = values["API_URL"] or _API_URL
        installation = values["APP_INSTALLATION_ID"]
        if installation and not (installation.isascii() and installation.isdecimal()):
            name = "environment variable GITHUB_APP_INSTALLATION_ID"
            raise CredentialsRejectedError(f"{name} is not a number", url=api_url, source=name)
        path = values["APP_PRIVATE_KEY_PATH"] if not values["APP_PRIVATE_KEY"] else ""
        return cls(
            app_id,
            private_key_path=path or None,
            private_key_variable=None if path else "GITHUB_APP_PRIVATE_KEY",
            installation_id=int(installation) if installation else None,
            api_url=api_url,
        )

    def __repr__(self) -> str:
        """Name the app and where its key is; never the key."""
        return f"GitHubApp({self._app_id!r}, key from {self._key().source})"

    def __copy__(self) -> GitHubApp:
        """Return the same object: copies share its tokens."""
        return self

    def __deepcopy__(self, memo: object) -> GitHubApp:
        """Return the same object: copies share its tokens."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings; key and tokens stay behind."""
        settings = {
            "private_key": self._text,
            "private_key_path": self._path,
            "private_key_variable": self._variable,
            "installation_id": self._installation_id,
            "extra_permissions": self.permissions,
            "api_url": self.api_url,
            "full_name": self._full_name,
            "timeout_s": self._timeout_s,
        }
        return (_restore, (self._app_id, settings))

    @property
    def source(self) -> str:
        """The app, in words for a person."""
        return f"GitHub App {self._app_id}"

    def serves(self, host: str) -> bool:
        """Tell whether ``host`` is the GitHub the app is registered at.

        On this machine ports do not count: a git server and an API have two.
        """
        asked = canonical_host(host)
        both_local = all(is_loopback(_without_port(name)) for name in (asked, self._host))
        return asked == self._host or both_local

    def token_for(self, host: str, path: str) -> Secret:
        """Return a token for a repository of a host the app serves.

        Raises:
            CredentialsRejectedError: The host is not the app's, the key cannot be used, or
                GitHub refuses the app.
            RateLimitedError: GitHub asked for a pause.
            RemoteUnavailableError: No usable answer in time.
            PullRequestError: The repository was renamed.
            RepositoryError: The path is not a repository's.
        """
        if not self.serves(host):
            raise CredentialsRejectedError(
                f"{self.source} is registered at {self._host}, not at {host}",
                url=f"https://{host}",
                source=self.source,
                hint="pass api_url= if the app is registered there",
            )
        from agentrelay.workstream._github.app_token import AppSettings, mint_token
        from agentrelay.workstream._policy import lent_s

        name = self._full_name or path.strip("/").removesuffix(".git")
        address = self._address(name)
        shelf = self._tokens()

        def mint(longest_s: float) -> Any:
            settings = AppSettings(
                self._app_id,
                self._key(),
                self.source,
                self.permissions,
                self._installation_id,
                self._timeout_s,
                longest_s,
                self._clock,
            )
            return mint_token(address, settings, shelf.memory)

        token: Secret = shelf.token_for(
            address,
            mint,
            clock=self._clock,
            wait_s=min(float(_LONGEST_MINTING * self._timeout_s), lent_s()),
        )
        return token

    def was_refused(self, token: Secret) -> bool:
        """Forget a token that was refused; the next one is minted anew."""
        self._tokens().drop(token)
        return True

    # The three below return Any: their types' modules stay unloaded until they are needed,
    # and annotations have to resolve at run time.

    def _address(self, full_name: str) -> Any:
        """Return the GitHubAddress of a repository."""
        from agentrelay.workstream._github.address import parse_address

        return parse_address("", api_url=self.api_url, full_name=full_name)

    def _key(self) -> Any:
        """Return the KeyPlace."""
        from agentrelay.workstream._github.app_key import KeyPlace

        return KeyPlace(self._text, self._path, self._variable)

    def _tokens(self) -> Any:
        """Return this process's TokenShelf."""
        from agentrelay.workstream.implementations._app_tokens import TokenShelf

        # One step, so that threads that come at once get the same.
        return self._shelves.setdefault(os.getpid(), TokenShelf())


def _restore(app_id: str, settings: dict[str, Any]) -> GitHubApp:
    """Make the app that comes out of a pickle."""
    return GitHubApp(app_id, **settings)


def _without_port(host: str) -> str:
    return host if host.endswith("]") else re.sub(r":[0-9]+$", "", host)


# What the environment may say, each after "GITHUB_".
_VARIABLES: Final = (
    "APP_ID",
    "APP_CLIENT_ID",
    "APP_PRIVATE_KEY",
    "APP_PRIVATE_KEY_PATH",
    "APP_INSTALLATION_ID",
    "API_URL",
)
