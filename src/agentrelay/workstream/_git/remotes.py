"""Fetching and pushing single refs, with every answer of the server checked.

libgit2 returns normally for a ref the server refused, waits for ever on a silent
server, asks for credentials without end, accepts any ssh host key, and follows a
redirect before asking. Each of these is closed here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import pygit2

from agentrelay.workstream._git import libgit2
from agentrelay.workstream._git.exchange import Callbacks, RemoteAccess, lease_lost
from agentrelay.workstream._git.failures import (
    is_not_fast_forward,
    is_repacked,
    is_transient,
    remote_failures,
    repository_failures,
    says_locked,
)
from agentrelay.workstream._git.locks import reading, until_free
from agentrelay.workstream._git.path_remote import PathRemote
from agentrelay.workstream._git.refs import refuse_blocked, set_tracking_ref
from agentrelay.workstream._git.remote_address import (
    absolute,
    find_proxy,
    named_remote,
    refuse_led_away,
    refuse_program,
)
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._redact import redact
from agentrelay.workstream.errors import (
    LeaseLostError,
    PushRejectedError,
    RepositoryError,
    WorkstreamError,
)

__all__ = ["RemoteAccess", "RemoteEnd", "open_remote"]

# GIT_DIRECTION_FETCH and GIT_DIRECTION_PUSH, include/git2/net.h.
_DIRECTIONS: Final = {"fetch": 0, "push": 1}
# No lease: the ref is our own and nobody else counts on it.
_ANYWHERE: Final = "anywhere"


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
            For each branch the hex id the remote has, or ``None`` where it has none. The
            tracking ref of such a branch stays: it may be the last that leads to a commit.

        Raises:
            CredentialsRejectedError: The remote refused the credential, or none was found.
            LaneConflictError: A stale remote-tracking ref stands where a new one belongs.
            RemoteUnavailableError: No usable answer in time.
        """
        for branch in branches:
            # Found out now, and not when the remote has been changed already.
            refuse_blocked(
                self.repository,
                self.tracking_ref(branch),
                hint=f"If the remote has no such branch any more, 'git remote prune "
                f"{self.access.remote}' removes it; else rename that branch.",
            )
        names = " and ".join(f"'{branch}'" for branch in branches)
        # Without a destination: what libgit2 has locked when it is killed stays locked, and
        # the base's tracking ref is every lane's.
        specs = [f"refs/heads/{branch}" for branch in branches]

        def attempt() -> dict[str, str]:
            remote, url = self._connect_to("fetch")
            callbacks = Callbacks(url, self.access, ends_at=ends_at)
            with _translated(f"fetch {names}", url, callbacks):
                remote.fetch(
                    specs,
                    callbacks=callbacks,
                    proxy=find_proxy(self.repository, self.access.remote, url),
                )
                heads = remote.list_heads(connect=False)
                return {str(head.name): str(head.oid) for head in heads}

        ends_at = time.monotonic() + self.access.deadline_s
        libgit2.configure_network()
        there = until_free(
            lambda: reading(attempt, torn=is_repacked), busy=is_transient, what=f"fetch {names}"
        )
        tips = {branch: there.get(f"refs/heads/{branch}") for branch in branches}
        for branch, tip in tips.items():
            if tip is not None:
                ref = self.tracking_ref(branch)
                set_tracking_ref(self.repository, ref, tip, message="fetch")
        return tips

    def list_branches(self, prefix: str) -> dict[str, str]:
        """List the remote's branches below a prefix; nothing is fetched or written.

        Args:
            prefix: Beginning of the short names, such as ``"agentrelay/"``.

        Returns:
            The hex id of each branch, by its short name. The server sends all of its
            refs; one exchange serves however many lanes.

        Raises:
            CredentialsRejectedError: The remote refused the credential, or none was found.
            RemoteUnavailableError: No usable answer in time.
        """
        wanted = f"refs/heads/{prefix}"
        return {
            ref.removeprefix("refs/heads/"): tip
            for ref, tip in self.list_heads().items()
            if ref.startswith(wanted)
        }

    def push(
        self,
        branch: str,
        commit_id: str,
        *,
        expected: str | None,
        announce: Callable[[], None] | None = None,
    ) -> None:
        """Make the remote's branch point to a commit; fast-forward only.

        Repeating an update is harmless. A creation is not repeated: a branch that is
        there by now is somebody else's, even at the same commit.

        Args:
            branch: Short branch name, the same on both sides.
            commit_id: Hex id of a commit this repository has.
            expected: Hex id the remote's branch was seen at, ``None`` when it was absent.
            announce: Called right before anything is sent, the lease being good.

        Raises:
            LeaseLostError: The remote's branch is not where it was seen.
            PushRejectedError: The remote refused.
            CredentialsRejectedError: The remote refused the credential, or none was found.
            RemoteUnavailableError: No usable answer in time.

        Source:
            gitprotocol-pack(5), "report-status".
        """
        ref = f"refs/heads/{branch}"
        self._push(f"{commit_id}:{ref}", ref, expected, f"push '{branch}'", announce)
        set_tracking_ref(self.repository, self.tracking_ref(branch), commit_id)

    def delete(self, branch: str, *, expected: str) -> None:
        """Delete the remote's branch if it still is where it was seen.

        Repeating it is harmless: a branch that is gone is a success.

        Args:
            branch: Short branch name.
            expected: Hex id the remote's branch was examined at.

        Raises:
            LeaseLostError: The remote's branch is not where it was seen.
            PushRejectedError: The remote refused.
            CredentialsRejectedError: The remote refused the credential, or none was found.
            RemoteUnavailableError: No usable answer in time.
        """
        ref = f"refs/heads/{branch}"
        self._push(f":{ref}", ref, expected, f"delete '{branch}'")
        set_tracking_ref(self.repository, self.tracking_ref(branch), None)

    def list_heads(self, purpose: Literal["fetch", "push"] = "fetch") -> dict[str, str]:
        """List the remote's refs; nothing is transferred or written, on either side.

        Args:
            purpose: Whom to ask. A server lists its refs for a push only to a credential
                that may push at all; which refs it would take is not told.

        Returns:
            Hex ids by full ref name.

        Raises:
            CredentialsRejectedError: The remote refused the credential, or none was found.
            RemoteUnavailableError: No usable answer in time.

        Source:
            gitprotocol-http(5), "Discovering References"; both services begin with it.
        """
        operation = f"list the refs for a {purpose}"

        def attempt() -> dict[str, str]:
            remote, url = self._connect_to("push" if purpose == "push" else "list")
            callbacks = Callbacks(url, self.access, ends_at=ends_at)
            with _translated(operation, url, callbacks):
                remote.connect(
                    callbacks,
                    _DIRECTIONS[purpose],
                    find_proxy(self.repository, self.access.remote, url),
                )
                return {str(head.name): str(head.oid) for head in remote.list_heads(connect=False)}

        ends_at = time.monotonic() + self.access.deadline_s
        libgit2.configure_network()
        return until_free(attempt, busy=is_transient, what=operation)

    def _push(
        self,
        spec: str,
        ref: str,
        expected: str | None,
        operation: str,
        announce: Callable[[], None] | None = None,
    ) -> None:
        """Push one refspec and check the server's word on it."""

        def attempt() -> Callbacks:
            remote, url = self._connect_to("push")
            lease = {} if expected == _ANYWHERE else {ref: expected}
            callbacks = Callbacks(
                url, self.access, ends_at=ends_at, expected=lease, announce=announce
            )
            there = PathRemote.at(url) if lease else None
            if there is not None:
                new = spec.partition(":")[0] or None
                there.push(
                    self.repository,
                    ref,
                    new,
                    expected=expected,
                    callbacks=callbacks,
                    bring=self._bring,
                    refused=lambda reason: self._rejected(operation, ref, reason, callbacks),
                )
                return callbacks
            with _translated(operation, url, callbacks):
                try:
                    remote.push(
                        [spec],
                        callbacks=callbacks,
                        proxy=find_proxy(self.repository, self.access.remote, url),
                    )
                except pygit2.GitError as error:
                    if not is_not_fast_forward(error):
                        raise
                    refused = self._rejected(operation, ref, str(error), callbacks)
                    raise lease_lost(refused) from error
            return callbacks

        ends_at = time.monotonic() + self.access.deadline_s
        libgit2.configure_network()
        callbacks = until_free(attempt, busy=is_transient, what=operation)
        reason = callbacks.verdicts.get(ref, "the server did not report on it")
        if reason is not None:
            refused = self._rejected(operation, ref, reason, callbacks)
            if expected != _ANYWHERE:
                self._tell_lost_race(ref, spec, expected, refused)
            raise refused

    def _tell_lost_race(
        self, ref: str, spec: str, expected: str | None, refused: PushRejectedError
    ) -> None:
        """Tell a rule's refusal from a lost race: a server may compare later than we did.

        Raises:
            LeaseLostError: The ref is not where it was seen any more.
        """
        remote, url = self._connect_to("list")
        ends_at = time.monotonic() + self.access.deadline_s
        callbacks = Callbacks(url, self.access, ends_at=ends_at, expected={ref: expected})
        try:
            with _translated(f"look at '{ref}'", url, callbacks):
                heads = remote.list_heads(
                    callbacks=callbacks, proxy=find_proxy(self.repository, self.access.remote, url)
                )
        except WorkstreamError:
            # Then the server's own words must do.
            return
        now = next((str(head.oid) for head in heads if head.name == ref), None)
        try:
            callbacks.check_lease(ref, now=now, new=spec.partition(":")[0] or None)
        except LeaseLostError as lost:
            raise lost from refused

    def _bring(self, commit_id: str, ref: str) -> None:
        """Push a commit to a ref of our own, through libgit2."""
        operation = f"push '{ref}'"
        until_free(
            lambda: self._push(f"+{commit_id}:{ref}", ref, _ANYWHERE, operation),
            # Its local transport reports this as if a server had refused the ref.
            busy=lambda error: isinstance(error, PushRejectedError) and says_locked(error.reason),
            what=operation,
        )

    def _rejected(
        self, operation: str, ref: str, reason: str, callbacks: Callbacks
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

    def _connect_to(self, purpose: Literal["fetch", "list", "push"]) -> tuple[pygit2.Remote, str]:
        """Return a fresh remote: one that has listed refs cannot push over HTTP.

        Never the named remote itself. Fetching from it also applies its configured
        refspecs, which in a mirror force the user's own branches; pushing to it makes
        libgit2 delete remote-tracking refs, in a way that can lose others.

        Returns:
            The remote, and the address it leads to.
        """
        handle = self.repository.handle
        name, pushing = self.access.remote, purpose == "push"
        remote = named_remote(self.repository, name)
        url = (remote.push_url if pushing else None) or remote.url or ""
        # As it was written: making a remote of it applies url.<base>.insteadOf, once.
        keys = [f"remote.{name}.pushurl"] if pushing else []
        keys.append(f"remote.{name}.url")
        raw: str = next((str(handle.config[key]) for key in keys if key in handle.config), url)
        with repository_failures("make a place for fetching", path=self.repository.path):
            source = self.repository.fetching_handle() if purpose == "fetch" else handle
        made = source.remotes.create_anonymous(absolute(raw, self.repository))
        return made, absolute(url, self.repository)


def open_remote(repository: OpenRepository, access: RemoteAccess) -> RemoteEnd:
    """Return the remote the caller named.

    Raises:
        RepositoryError: No such remote is configured.
    """
    remote = named_remote(repository, access.remote)
    url = absolute(remote.url or "", repository)
    push_url = absolute(remote.push_url or remote.url or "", repository)
    for address in (url, push_url):
        refuse_program(address, repository, access.remote)
    refuse_led_away(repository, access.remote, url, key="url")
    refuse_led_away(repository, access.remote, push_url, key="pushurl")
    if repository.handle.is_shallow and url.startswith(("/", "file:")):
        message = f"'{repository.path}' is a shallow clone, and its remote '{redact(url)}' a path"
        raise RepositoryError(
            message,
            path=repository.path,
            hint="libgit2 would damage it: run 'git fetch --unshallow', or use another address.",
        )
    return RemoteEnd(repository, access, redact(url), redact(push_url))


@contextmanager
def _translated(operation: str, url: str, callbacks: Callbacks) -> Iterator[None]:
    """Turn libgit2's failures of one exchange into ours, naming the credential's source."""
    try:
        yield
    except Exception:
        # Only now is it known which credential was offered.
        with remote_failures(operation, url=url, source=callbacks.source):
            raise
