"""Fetching and pushing single refs, with every answer of the server checked.

libgit2 returns normally for a ref the server refused, waits for ever on a silent
server, asks for credentials without end, accepts any ssh host key, and follows a
redirect before asking. Each of these is closed here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pygit2
from pygit2.enums import CredentialType

from agentrelay.workstream import credentials
from agentrelay.workstream._git import library
from agentrelay.workstream._git.failures import is_locked, remote_failures
from agentrelay.workstream._git.locks import until_free
from agentrelay.workstream._git.refs import set_tracking_ref
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._redact import redact, strip_userinfo
from agentrelay.workstream.errors import (
    CredentialsRejectedError,
    PushRejectedError,
    RemoteUnavailableError,
    RepositoryError,
)

__all__ = ["RemoteAccess", "RemoteEnd", "open_remote"]

_NOBODY: Final = "0" * 40
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# GIT_REMOTE_DOWNLOAD_TAGS_NONE, include/git2/remote.h.
_NO_TAGS: Final = 2


@dataclass(frozen=True)
class RemoteAccess:
    """How a caller wants remotes to be reached.

    Attributes:
        remote: Name of a configured remote.
        token: Explicit token, or a callable that returns one; else the usual places.
        ssh_key: Explicit private key for ssh, else the agent and the usual files.
        deadline_s: Longest time one fetch or push may take in all, in seconds.
    """

    remote: str = "origin"
    token: credentials.TokenSource = field(default=None, repr=False)
    ssh_key: Path | None = None
    deadline_s: float = 600.0


@dataclass(frozen=True)
class _Endpoint:
    """Scheme, host and port of an address: what a credential is pinned to."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, url: str) -> _Endpoint:
        """Return the endpoint of a URL or of an scp-like address."""
        if "://" in url:
            parts = urlsplit(url)
            port = parts.port or {"http": 80, "https": 443, "ssh": 22}.get(parts.scheme)
            return cls(parts.scheme.lower(), (parts.hostname or "").lower(), port)
        host = url.partition(":")[0].rpartition("@")[2]
        return cls("ssh", host.lower(), 22)

    @property
    def name(self) -> str:
        """The host, with the port where it is not the scheme's own."""
        usual = {"http": 80, "https": 443, "ssh": 22}.get(self.scheme)
        return self.host if self.port in {usual, None} else f"{self.host}:{self.port}"


class _Callbacks(pygit2.RemoteCallbacks):
    """What libgit2 asks and tells during one exchange."""

    def __init__(
        self, url: str, access: RemoteAccess, *, expected: dict[str, str | None] | None = None
    ) -> None:
        super().__init__()
        self._pinned = _Endpoint.of(url)
        self._url = strip_userinfo(url)
        self._access = access
        self._expected = expected
        self._ends_at = time.monotonic() + access.deadline_s
        self._secret_offered = False
        self._ssh_ways: list[tuple[str, Any]] | None = None
        self.source: str | None = None
        self.secret = ""
        self.verdicts: dict[str, str | None] = {}
        self.words: list[str] = []

    # -- options pygit2 has no parameter for -------------------------------------

    @property
    def fetch_options(self) -> Any:
        """libgit2's fetch options; a lane wants its refs and no tags."""
        return self._fetch_options

    @fetch_options.setter
    def fetch_options(self, options: Any) -> None:
        options.download_tags = _NO_TAGS
        self._fetch_options = options

    # -- credentials --------------------------------------------------------------

    def credentials(
        self, url: str, username_from_url: str | None, allowed_types: CredentialType
    ) -> Any:
        """Offer each credential once, and only to the host it is for."""
        asking = _Endpoint.of(url)
        if asking != self._pinned:
            message = (
                f"'{self._url}' redirected to '{redact(asking.name)}'; "
                "no credential is sent to another host"
            )
            raise CredentialsRejectedError(
                message, url=self._url, hint="Set the remote's URL to its new address."
            )
        if allowed_types & CredentialType.SSH_KEY:
            return self._ssh_credential(username_from_url or "git")
        if allowed_types & CredentialType.USERNAME:
            return pygit2.Username(username_from_url or "git")
        if allowed_types & CredentialType.USERPASS_PLAINTEXT:
            return self._password(username_from_url)
        message = f"'{self._url}' asks for a kind of credential that is not supported"
        raise CredentialsRejectedError(message, url=self._url, hint="Use https with a token.")

    def _password(self, username: str | None) -> pygit2.UserPass:
        if self._secret_offered:
            message = f"'{self._url}' refused the credential from {self.source}"
            raise CredentialsRejectedError(
                message,
                url=self._url,
                source=self.source,
                hint="Check that the token is valid and may read and write this repository.",
            )
        if self._pinned.scheme != "https" and self._pinned.host not in _LOOPBACK:
            message = f"'{self._url}' asks for a token over a connection that is not encrypted"
            raise CredentialsRejectedError(message, url=self._url, hint="Use an https address.")
        found = credentials.find_credential(self._pinned.name, token=self._access.token)
        if found is None:
            message = f"'{self._url}' asks for a credential, and none was found"
            raise CredentialsRejectedError(
                message,
                url=self._url,
                hint=credentials.describe_search(self._pinned.name),
            )
        self._secret_offered = True
        self.source = found.source
        self.secret = found.secret.reveal()
        return pygit2.UserPass(username or found.username, self.secret)

    def _ssh_credential(self, username: str) -> Any:
        if self._ssh_ways is None:
            self._ssh_ways = []
            explicit = self._access.ssh_key
            if explicit is None and credentials.has_ssh_agent():
                self._ssh_ways.append(("the ssh agent", pygit2.KeypairFromAgent(username)))
            for key in credentials.find_ssh_keys(key=explicit):
                public = None if key.public_key_path is None else str(key.public_key_path)
                passphrase = "" if key.passphrase is None else key.passphrase.reveal()
                pair = pygit2.Keypair(username, public, str(key.private_key_path), passphrase)
                self._ssh_ways.append((key.source, pair))
        if not self._ssh_ways:
            tried = self.source
            message = (
                f"'{self._url}' refused every ssh key that was offered, the last from {tried}"
                if tried
                else f"'{self._url}' asks for an ssh key, and none was found"
            )
            raise CredentialsRejectedError(
                message,
                url=self._url,
                source=tried,
                hint="Load a key into the ssh agent, put one at ~/.ssh/id_ed25519, pass "
                "ssh_key=, or use an https address with a token. ~/.ssh/config is not read.",
            )
        self.source, way = self._ssh_ways.pop(0)
        return way

    def certificate_check(self, certificate: None, valid: bool, host: bytes) -> bool:  # noqa: ARG002, FBT001 - libgit2's signature
        """Accept only what libgit2 found valid; pygit2's default takes any ssh host key."""
        return valid

    # -- progress and verdicts ----------------------------------------------------

    def transfer_progress(self, stats: Any) -> None:
        """Stop a transfer that trickles on past the deadline."""
        self._check_deadline(f"{stats.received_bytes} bytes received")

    def push_transfer_progress(
        self, objects_pushed: int, total_objects: int, bytes_pushed: int
    ) -> None:
        """Stop an upload that trickles on past the deadline."""
        self._check_deadline(f"{objects_pushed} of {total_objects} objects, {bytes_pushed} bytes")

    def sideband_progress(self, string: str) -> None:
        """Keep the server's last words: a hook explains itself there."""
        self._check_deadline("the server is still talking")
        self.words = [*self.words[-20:], string]

    def _check_deadline(self, detail: str) -> None:
        if time.monotonic() > self._ends_at:
            message = (
                f"'{self._url}' did not finish within {self._access.deadline_s:g} s ({detail})"
            )
            raise RemoteUnavailableError(
                message, url=self._url, hint="Try again, or allow a longer deadline."
            )

    def push_negotiation(self, updates: list[Any]) -> None:
        """Compare what the remote has now with what the caller saw: the lease."""
        for update in updates:
            ref = update.dst_refname
            if self._expected is None or ref not in self._expected:
                continue
            now = None if str(update.src) == _NOBODY else str(update.src)
            wanted = self._expected[ref]
            new = None if str(update.dst) == _NOBODY else str(update.dst)
            if now not in (wanted, new):
                there = "is not there any more" if now is None else f"is at {now[:12]}"
                seen = "was absent" if wanted is None else f"was at {wanted[:12]}"
                reason = f"stale info: the remote ref {there}, and {seen} when it was examined"
                message = f"cannot push '{ref}' to '{self._url}': {reason}"
                raise PushRejectedError(
                    message,
                    url=self._url,
                    ref=ref,
                    reason=reason,
                    hint="Somebody else pushed in between. Look at their commits, then repeat.",
                )

    def push_update_reference(self, refname: str, message: str | None) -> None:
        """Record the server's verdict on one ref."""
        self.verdicts[refname] = message


@dataclass(frozen=True)
class RemoteEnd:
    """One configured remote of one open repository.

    Attributes:
        repository: The local side.
        access: How to reach it.
        url: Address for fetching, after ``url.*.insteadOf``; user-info dropped.
        push_url: Address for pushing; user-info dropped.
    """

    repository: OpenRepository
    access: RemoteAccess
    url: str
    push_url: str

    def tracking_ref(self, branch: str) -> str:
        """Return the full name of the remote-tracking ref of a branch."""
        return f"refs/remotes/{self.access.remote}/{branch}"

    def fetch(self, branches: Sequence[str]) -> dict[str, str | None]:
        """Fetch branches into their remote-tracking refs, and nothing else.

        Args:
            branches: Short branch names. One connection serves them all.

        Returns:
            For each branch the hex id the remote has, or ``None`` where it has none; the
            tracking ref of such a branch is removed.

        Raises:
            CredentialsRejectedError: The remote refused the credential, or none was found.
            RemoteUnavailableError: No usable answer in time.
        """
        names = " and ".join(f"'{branch}'" for branch in branches)
        specs = [f"+refs/heads/{branch}:{self.tracking_ref(branch)}" for branch in branches]

        def attempt() -> dict[str, str]:
            remote, url = self._connect_to(pushing=False)
            callbacks = _Callbacks(url, self.access)
            with _translated(f"fetch {names}", url, callbacks):
                remote.fetch(specs, callbacks=callbacks, proxy=True)
                heads = remote.list_heads(connect=False)
                return {str(head.name): str(head.oid) for head in heads}

        library.configure_network()
        there = until_free(attempt, busy=_is_transient, what=f"fetch {names}")
        found = {branch: there.get(f"refs/heads/{branch}") for branch in branches}
        for branch, commit_id in found.items():
            if commit_id is None:
                set_tracking_ref(self.repository, self.tracking_ref(branch), None)
        return found

    def push(self, branch: str, commit_id: str, *, expected: str | None) -> None:
        """Make the remote's branch point to a commit; fast-forward only.

        Repeating it is harmless: a branch that is there already is a success.

        Args:
            branch: Short branch name, the same on both sides.
            commit_id: Hex id of a commit this repository has.
            expected: Hex id the remote's branch was seen at, ``None`` when it was absent.

        Raises:
            PushRejectedError: The remote refused, or its branch is not where it was seen.
            CredentialsRejectedError: The remote refused the credential, or none was found.
            RemoteUnavailableError: No usable answer in time.

        Source:
            gitprotocol-pack(5), "report-status".
        """
        ref = f"refs/heads/{branch}"
        self._push(f"{commit_id}:{ref}", ref, expected, f"push '{branch}'")
        set_tracking_ref(self.repository, self.tracking_ref(branch), commit_id)

    def delete(self, branch: str, *, expected: str) -> None:
        """Delete the remote's branch if it still is where it was seen.

        Repeating it is harmless: a branch that is gone is a success.

        Args:
            branch: Short branch name.
            expected: Hex id the remote's branch was examined at.

        Raises:
            PushRejectedError: The remote refused, or the branch moved.
            CredentialsRejectedError: The remote refused the credential, or none was found.
            RemoteUnavailableError: No usable answer in time.
        """
        ref = f"refs/heads/{branch}"
        self._push(f":{ref}", ref, expected, f"delete '{branch}'")
        set_tracking_ref(self.repository, self.tracking_ref(branch), None)

    def _push(self, spec: str, ref: str, expected: str | None, operation: str) -> None:
        """Push one refspec and check the server's word on it."""

        def attempt() -> _Callbacks:
            remote, url = self._connect_to(pushing=True)
            callbacks = _Callbacks(url, self.access, expected={ref: expected})
            with _translated(operation, url, callbacks):
                try:
                    remote.push([spec], callbacks=callbacks, proxy=True)
                except pygit2.GitError as error:
                    if "non-fastforwardable" in str(error) or "not present locally" in str(error):
                        raise self._rejected(operation, ref, str(error), callbacks) from error
                    raise
            return callbacks

        library.configure_network()
        callbacks = until_free(attempt, busy=_is_transient, what=operation)
        reason = callbacks.verdicts.get(ref, "the server did not report on it")
        if reason is not None:
            raise self._rejected(operation, ref, reason, callbacks)

    def _rejected(
        self, operation: str, ref: str, reason: str, callbacks: _Callbacks
    ) -> PushRejectedError:
        """Make the error of a refused ref, in the server's words."""
        said = redact(reason, callbacks.secret)
        remarks = redact(" ".join("".join(callbacks.words).split()), callbacks.secret)
        detail = f"{said} (the server said: {remarks[:400]})" if remarks else said
        return PushRejectedError(
            f"cannot {operation}: '{self.push_url}' refused it: {detail}",
            url=self.push_url,
            ref=ref,
            reason=detail,
            hint="The remote's rules decide. Ask whoever administers it, or pull first if "
            "it says that the branch moved.",
        )

    def _connect_to(self, *, pushing: bool) -> tuple[pygit2.Remote, str]:
        """Return a fresh remote: one that has listed refs cannot push over HTTP."""
        handle = self.repository.handle
        try:
            remote = handle.remotes[self.access.remote]
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise _no_remote(self.repository, self.access.remote) from error
        url = (remote.push_url if pushing else None) or remote.url or ""
        absolute = _absolute(url, self.repository)
        if pushing or absolute != url:
            # A push to a named remote makes libgit2 update the remote-tracking refs, and
            # its way of deleting one can lose others; ours are updated by ourselves.
            return handle.remotes.create_anonymous(absolute), absolute
        return remote, url


def open_remote(repository: OpenRepository, access: RemoteAccess) -> RemoteEnd:
    """Return the remote the caller named.

    Raises:
        RepositoryError: No such remote is configured.
    """
    try:
        remote = repository.handle.remotes[access.remote]
    except (KeyError, ValueError, pygit2.GitError) as error:
        raise _no_remote(repository, access.remote) from error
    url = _absolute(remote.url or "", repository)
    push_url = _absolute(remote.push_url or remote.url or "", repository)
    return RemoteEnd(repository, access, redact(url), redact(push_url))


def _no_remote(repository: OpenRepository, name: str) -> RepositoryError:
    message = f"'{repository.path}' has no usable remote named '{name}'"
    return RepositoryError(
        message,
        path=repository.path,
        hint="Lanes are pushed so that others can see them: configure the remote, or name "
        "another one with remote=.",
    )


def _absolute(url: str, repository: OpenRepository) -> str:
    """Return a relative path as git means it: from the repository, not from here."""
    if not url or "://" in url or url.startswith(("/", "~")):
        return url
    head = url.partition("/")[0]
    if ":" in head:
        return url
    handle = repository.handle
    base = repository.common_dir if handle.is_bare else Path(handle.workdir)
    return os.path.normpath(base / url)


def _is_transient(error: Exception) -> bool:
    """Return whether an exchange failed only because refs were changing just then.

    A local ref was locked; or the remote is a path, and one of its refs vanished while
    libgit2 was listing them one by one. Both are over in a moment, and an exchange may
    be repeated.
    """
    cause = error.__cause__
    if not isinstance(cause, Exception):
        return False
    text = str(cause)
    return is_locked(cause) or (text.startswith("reference 'refs/") and "not found" in text)


@contextmanager
def _translated(operation: str, url: str, callbacks: _Callbacks) -> Iterator[None]:
    """Turn libgit2's failures of one exchange into ours, naming the credential's source."""
    try:
        yield
    except Exception:
        # Only now is it known which credential was offered.
        with remote_failures(operation, url=url, source=callbacks.source):
            raise
