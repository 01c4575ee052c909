"""What libgit2 asks and tells during one exchange with a remote.

Credentials are offered once each, and only to the host they are for; ssh host keys are
checked; the server's verdict on each ref is kept; a lease is checked against what the
server advertises; and whatever goes on past the deadline is stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pygit2
from pygit2.enums import CredentialType

from agentrelay.workstream import credentials
from agentrelay.workstream._git import libgit2
from agentrelay.workstream._git.failures import remote_failures
from agentrelay.workstream._policy import lend_time
from agentrelay.workstream._redact import redact, strip_userinfo
from agentrelay.workstream._steps import Step
from agentrelay.workstream.errors import (
    CredentialsRejectedError,
    LeaseLostError,
    PushRejectedError,
    RemoteUnavailableError,
    WorkstreamError,
)

__all__ = ["Callbacks", "Endpoint", "RemoteAccess", "lease_lost", "translated"]

_NOBODY: Final = "0" * 40
# GIT_REMOTE_DOWNLOAD_TAGS_NONE, include/git2/remote.h.
_NO_TAGS: Final = 2
_USUAL_PORTS: Final = {"http": 80, "https": 443, "ssh": 22}


@dataclass(frozen=True)
class RemoteAccess:
    """How a caller wants remotes to be reached.

    Attributes:
        remote: Name of a configured remote.
        token: Explicit token, or a callable that returns one; else the usual places.
        ssh_key: Explicit private key for ssh, else the agent and the usual files.
        deadline_s: Longest time one fetch or push may take in all, in seconds. It is
            looked at whenever data or a message arrives; a socket that neither sends nor
            reads is given up after that time as well, at least 5 s and at most 60.
    """

    remote: str = "origin"
    token: credentials.TokenSource = field(default=None, repr=False)
    ssh_key: Path | None = None
    deadline_s: float = 600.0


@dataclass(frozen=True)
class Endpoint:
    """Scheme, host and port of an address: what a credential is pinned to.

    The path says which repository it is, and does not take part in comparisons.
    """

    scheme: str
    host: str
    port: int | None
    path: str = field(default="", compare=False)

    @classmethod
    def of(cls, url: str) -> Endpoint:
        """Return the endpoint of a URL or of an scp-like address."""
        if "://" in url:
            # What cannot be read is left to libgit2, which refuses it in its own words; the
            # standard library's quote the address, password and all.
            try:
                parts = urlsplit(url)
            except ValueError:
                return cls("", "", None)
            try:
                port = parts.port or _USUAL_PORTS.get(parts.scheme)
            except ValueError:
                port = None
            return cls(parts.scheme.lower(), (parts.hostname or "").lower(), port, parts.path)
        host = url.partition(":")[0].rpartition("@")[2]
        return cls("ssh", host.lower(), 22)

    @property
    def name(self) -> str:
        """The host as the credential chain knows it: with a port that is not the scheme's."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port in {_USUAL_PORTS.get(self.scheme), None}
        return host if usual else f"{host}:{self.port}"


class Callbacks(pygit2.RemoteCallbacks):
    """What libgit2 asks and tells during one exchange."""

    def __init__(
        self,
        url: str,
        access: RemoteAccess,
        *,
        ends_at: float,
        expected: dict[str, str | None] | None = None,
        announce: Mapping[str, Callable[[], None]] | None = None,
        step: Step | None = None,
    ) -> None:
        """Pin the exchange to an address.

        Args:
            url: Address as configured, user-info included.
            access: The caller's settings.
            ends_at: Reading of the monotonic clock at which the exchange is over,
                repetitions included.
            expected: The lease: where each pushed ref was seen, ``None`` for absent.
            announce: By full ref name what is called when all leases hold, right before
                anything is sent.
            step: The step it is, to say how far it is.
        """
        super().__init__()
        self._step = step
        self._pinned = Endpoint.of(url)
        self._url = strip_userinfo(url)
        self._access = access
        self._expected = expected
        self._announce = dict(announce or {})
        self._ends_at = ends_at
        self._offered: credentials.Credential | None = None
        self._renewed = False
        self._ssh_ways: list[tuple[str, Any]] | None = None
        self.source: str | None = None
        self.secret = ""
        self.verdicts: dict[str, str | None] = {}
        # Why refs were not even sent; each is its own affair.
        self.withheld: dict[str, WorkstreamError] = {}
        self.words: list[str] = []

    # -- options pygit2 has no parameter for -------------------------------------

    @property
    def fetch_options(self) -> Any:
        """libgit2's fetch options; a lane wants its refs and no tags."""
        return self._fetch_options

    @fetch_options.setter
    def fetch_options(self, options: Any) -> None:
        options.download_tags = _NO_TAGS
        # The user's: a "git pull" reads there what its own fetch has just written.
        options.update_fetchhead = 0
        self._fetch_options = options

    # -- credentials --------------------------------------------------------------

    def credentials(
        self, url: str, username_from_url: str | None, allowed_types: CredentialType
    ) -> Any:
        """Offer each credential once, and only to the host it is for.

        A source that mints tokens is told of a refusal, and asked for one more.
        """
        asking = Endpoint.of(url)
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
        if self._offered is not None and (self._renewed or not self._offered.was_refused()):
            message = f"'{self._url}' refused the credential from {self.source}"
            raise CredentialsRejectedError(
                message,
                url=self._url,
                source=self.source,
                hint="Check that the token is valid and may read and write this repository.",
            )
        if self._pinned.scheme != "https" and not credentials.is_loopback(self._pinned.host):
            message = f"'{self._url}' asks for a token over a connection that is not encrypted"
            raise CredentialsRejectedError(message, url=self._url, hint="Use an https address.")
        self._renewed = self._offered is not None
        with lend_time(lambda: self._ends_at - time.monotonic()):
            found = credentials.find_credential(
                self._pinned.name, path=self._pinned.path, token=self._access.token
            )
        if found is None:
            message = f"'{self._url}' asks for a credential, and none was found"
            raise CredentialsRejectedError(
                message,
                url=self._url,
                hint=credentials.describe_search(self._pinned.name, token=self._access.token),
            )
        self._offered = found
        self.source = found.source
        self.secret = found.secret.reveal()
        # GitHub wants its own name beside a token it minted, whoever the address names.
        name = found.username if found.provider is not None else username or found.username
        return pygit2.UserPass(name, self.secret)

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
        if self._step is not None:
            self._step.progress(stats.received_objects, stats.total_objects, stats.received_bytes)

    def push_transfer_progress(
        self, objects_pushed: int, total_objects: int, bytes_pushed: int
    ) -> None:
        """Stop an upload that trickles on past the deadline."""
        self._check_deadline(f"{objects_pushed} of {total_objects} objects, {bytes_pushed} bytes")
        if self._step is not None:
            self._step.progress(objects_pushed, total_objects, bytes_pushed)

    def sideband_progress(self, string: str) -> None:
        """Keep the server's last words: a hook explains itself there."""
        self._check_deadline("the server is still talking")
        self.words = [*self.words[-20:], string]

    @property
    def left_s(self) -> float:
        """Seconds until the exchange is over."""
        return self._ends_at - time.monotonic()

    def _check_deadline(self, detail: str) -> None:
        if time.monotonic() > self._ends_at:
            message = (
                f"'{self._url}' did not finish within {self._access.deadline_s:g} s ({detail})"
            )
            raise RemoteUnavailableError(
                message, url=self._url, hint="Try again, or allow a longer deadline."
            )

    def push_negotiation(self, updates: list[Any]) -> None:
        """Compare what the remote has now with what the caller saw: the leases.

        Nothing is sent while one of several does not hold; the others are tried again.
        """
        # Nothing looks at the clock while the remote lists its refs.
        self._check_deadline("nothing was sent")
        for update in updates:
            ref = update.dst_refname
            now = None if str(update.src) == _NOBODY else str(update.src)
            new = None if str(update.dst) == _NOBODY else str(update.dst)
            with self._withholding(ref):
                self.check_lease(ref, now=now, new=new)
        for update in () if self.withheld else updates:
            with self._withholding(update.dst_refname):
                self.announce(update.dst_refname)
        for error in self.withheld.values():
            raise error

    @contextmanager
    def _withholding(self, ref: str) -> Iterator[None]:
        try:
            yield
        except WorkstreamError as error:
            self.withheld[ref] = error

    def announce(self, ref: str) -> None:
        """Tell the caller that the lease holds and something is about to be sent."""
        if ref in self._announce:
            self._announce[ref]()

    def check_lease(self, ref: str, *, now: str | None, new: str | None) -> None:
        """Compare where the remote has a ref with where the caller saw it.

        Args:
            ref: Full ref name at the remote; one that is not in the lease is fine.
            now: Hex id the remote has now, ``None`` for absent.
            new: Hex id it is going to have.

        Raises:
            LeaseLostError: It moved, and not to where it was going to be.
        """
        if self._expected is None or ref not in self._expected:
            return
        wanted = self._expected[ref]
        # Of a creation not even the same commit is a success: somebody else made it.
        if now == wanted or (now == new and wanted is not None):
            return
        there = "is not there any more" if now is None else f"is at {now[:12]}"
        seen = "was absent" if wanted is None else f"was at {wanted[:12]}"
        reason = f"stale info: the remote ref {there}, and {seen} when it was examined"
        message = f"cannot push '{ref}' to '{self._url}': {reason}"
        raise LeaseLostError(
            message,
            url=self._url,
            ref=ref,
            reason=reason,
            hint="Somebody else pushed in between. Look at their commits, then repeat.",
        )

    def push_update_reference(self, refname: str, message: str | None) -> None:
        """Record the server's verdict on one ref."""
        self.verdicts[refname] = message


def lease_lost(refused: PushRejectedError) -> LeaseLostError:
    """Return a refusal as what it was: the ref had moved."""
    return LeaseLostError(
        refused.message,
        url=refused.url,
        ref=refused.ref,
        reason=refused.reason,
        hint=refused.hint,
    )


@contextmanager
def translated(operation: str, url: str, callbacks: Callbacks) -> Iterator[None]:
    """Turn libgit2's failures of one exchange into ours, naming the credential's source.

    Meanwhile a silent server is waited for no longer than the exchange may take.
    """
    try:
        with libgit2.patience(callbacks.left_s):
            yield
    except Exception:
        # Only now is it known which credential was offered.
        with remote_failures(operation, url=url, source=callbacks.source):
            raise
