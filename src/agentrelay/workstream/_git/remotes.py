"""Fetching and pushing single refs, with every answer of the server checked.

libgit2 returns normally for a ref the server refused, waits for ever on a silent
server, asks for credentials without end, accepts any ssh host key, and follows a
redirect before asking. Each of these is closed here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

import pygit2

from agentrelay.workstream._git import libgit2
from agentrelay.workstream._git.exchange import Callbacks, RemoteAccess, translated
from agentrelay.workstream._git.failures import is_repacked, is_transient, repository_failures
from agentrelay.workstream._git.incoming import Incoming, Marks
from agentrelay.workstream._git.locks import reading, until_free
from agentrelay.workstream._git.path_remote import PathRemote
from agentrelay.workstream._git.pushes import Pusher, RefUpdate
from agentrelay.workstream._git.refs import refuse_blocked, set_tracking_ref
from agentrelay.workstream._git.remote_address import (
    absolute,
    addresses,
    find_proxy,
    refuse_led_away,
    refuse_program,
)
from agentrelay.workstream._git.repository import OpenRepository, read_ref
from agentrelay.workstream._redact import redact
from agentrelay.workstream._steps import Step
from agentrelay.workstream.errors import RepositoryError, WorkstreamError

__all__ = ["RefUpdate", "RemoteAccess", "RemoteEnd", "open_remote"]

# GIT_DIRECTION_FETCH and GIT_DIRECTION_PUSH, include/git2/net.h.
_DIRECTIONS: Final = {"fetch": 0, "push": 1}
# A single lane asks for its branch, its base and its target.
_MOST_NAMED: Final = 3


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
    _addresses: tuple[str, str] = field(repr=False)
    _seen: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    # Opened once for all that is done at this end.
    _opened: dict[str, PathRemote] = field(default_factory=dict, repr=False, compare=False)
    _marks: Marks = field(default_factory=Marks, repr=False, compare=False)

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
            # Found out now, and not when the remote has been changed already. Where there is
            # one nothing can be in its way.
            if read_ref(self.repository.common_dir, self.tracking_ref(branch)) is None:
                self.refuse_blocked(branch)
        try:
            tips = self.look(branches)
            for branch, tip in tips.items():
                self.note(branch, tip)
        finally:
            self.settle()
        return tips

    def refuse_blocked(self, branch: str) -> None:
        """Refuse a branch whose remote-tracking ref cannot be written.

        Raises:
            LaneConflictError: A stale remote-tracking ref stands where it belongs.
        """
        refuse_blocked(
            self.repository,
            self.tracking_ref(branch),
            hint=f"If the remote has no such branch any more, 'git remote prune "
            f"{self.access.remote}' removes it; else rename that branch.",
        )

    def note(self, branch: str, tip: str | None) -> None:
        """Write down in the remote-tracking ref where :meth:`look` saw a branch, if it did."""
        if tip is not None:
            set_tracking_ref(self.repository, self.tracking_ref(branch), tip, message="fetch")

    def settle(self) -> None:
        """Leave what :meth:`look` fetched to git's garbage collection: refs lead to it by now."""
        self._marks.remove()

    def look(self, branches: Sequence[str]) -> dict[str, str | None]:
        """Fetch what branches lead to, in one exchange; no ref is written.

        No garbage collection takes it until :meth:`settle` is called, as it must be.

        Of a remote that is a path only the branches' own refs are read, and nothing is
        exchanged if all of their commits are here.

        Args:
            branches: Short branch names.

        Returns:
            For each branch the hex id the remote has, or ``None`` where it has none.

        Raises:
            CredentialsRejectedError: The remote refused the credential, or none was found.
            RemoteUnavailableError: No usable answer in time.
        """
        refs = [f"refs/heads/{branch}" for branch in branches]
        with Step("fetch") as step:
            there = self._read_path(refs)
            if there is None:
                there = self._fetch(refs, _named(branches), step)
        self._seen.update({tip: ref for ref, tip in there.items() if ref in set(refs)})
        return {branch: there.get(f"refs/heads/{branch}") for branch in branches}

    def _read_path(self, refs: Sequence[str]) -> dict[str, str] | None:
        """Read refs of a remote that is a path; ``None`` where libgit2 must fetch."""
        there = self._at_path(self._addresses[0])
        tips = None if there is None else there.tips(refs)
        if tips is None or any(tip not in self.repository.handle for tip in tips.values()):
            return None
        return tips

    def _at_path(self, address: str) -> PathRemote | None:
        """Return the other end, if it is one that is read and written here."""
        there = self._opened.get(address) or PathRemote.at(address, seen=self._seen)
        if there is not None:
            self._opened[address] = there
        return there

    def _fetch(self, refs: Sequence[str], names: str, step: Step) -> dict[str, str]:
        """Fetch refs through libgit2; return all that the remote has."""

        def attempt() -> dict[str, str]:
            with self._arriving() as handle:
                return fetch(handle)

        def fetch(handle: pygit2.Repository) -> dict[str, str]:
            remote, url = self._connect_to("fetch", handle)
            callbacks = Callbacks(url, self.access, ends_at=ends_at, step=step)
            with translated(f"fetch {names}", url, callbacks):
                # Without a destination: what libgit2 has locked when it is killed stays
                # locked, and the base's tracking ref is every lane's.
                remote.fetch(
                    list(refs),
                    callbacks=callbacks,
                    proxy=find_proxy(self.repository, self.access.remote, url),
                )
                heads = remote.list_heads(connect=False)
                return {str(head.name): str(head.oid) for head in heads}

        ends_at = time.monotonic() + self.access.deadline_s
        libgit2.configure_network()
        return until_free(
            lambda: reading(attempt, torn=is_repacked), busy=is_transient, what=f"fetch {names}"
        )

    @contextmanager
    def _arriving(self) -> Iterator[pygit2.Repository]:
        """Give a handle to fetch with; what comes is the repository's when the block ends."""
        failures = repository_failures("make a place for fetching", path=self.repository.path)
        with ExitStack() as stack:
            with failures:
                handle = self.repository.fetching_handle()
                incoming = None
                # Where a shallow history ends is only known to the repository's own handle.
                if not handle.is_shallow:
                    incoming = stack.enter_context(Incoming(self.repository))
                    incoming.receive(handle)
            yield handle
            if incoming is not None:
                with repository_failures("take in what came", path=self.repository.path):
                    incoming.admit(self._marks)

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
        self._change(RefUpdate(branch, commit_id, expected, announce), f"push '{branch}'")

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
        self._change(RefUpdate(branch, None, expected), f"delete '{branch}'")

    def _change(self, update: RefUpdate, operation: str) -> None:
        """Change one branch of the remote, and the remote-tracking ref with it."""
        with Step("push") as step:
            error = self._pusher(step).update([update], operation)[update.branch]
            if error is not None:
                raise error
        self.note_change(update)

    def note_change(self, update: RefUpdate) -> None:
        """Write down in the remote-tracking ref that a branch of the remote was changed."""
        set_tracking_ref(self.repository, self.tracking_ref(update.branch), update.new)

    def update_all(
        self, updates: Sequence[RefUpdate], operation: str
    ) -> dict[str, WorkstreamError | None]:
        """Change many branches of the remote in one exchange; each has its own result.

        What :meth:`push` and :meth:`delete` promise holds for each. A branch that is
        refused, or not where it was seen, is left out and the others are changed.

        Args:
            updates: At most one a branch.
            operation: What is being done, for the messages: ``"push 12 branches"``.

        Returns:
            By short branch name the error, or ``None`` for a branch that was changed. The
            remote-tracking refs are not written.
        """
        if not updates:
            return {}
        with Step("push") as step:
            results = self._pusher(step).update(updates, operation)
            refused = sum(error is not None for error in results.values())
            if refused:
                step.fail(f"{refused} of {len(updates)} branches were not changed")
        return results

    def _pusher(self, step: Step) -> Pusher:
        return Pusher(
            self.repository, self.access, self._addresses[1], self._connect_to, self._at_path, step
        )

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
            with translated(operation, url, callbacks):
                remote.connect(
                    callbacks,
                    _DIRECTIONS[purpose],
                    find_proxy(self.repository, self.access.remote, url),
                )
                return {str(head.name): str(head.oid) for head in remote.list_heads(connect=False)}

        ends_at = time.monotonic() + self.access.deadline_s
        libgit2.configure_network()
        with Step("list refs"):
            return until_free(attempt, busy=is_transient, what=operation)

    def _connect_to(
        self, purpose: Literal["fetch", "list", "push"], source: pygit2.Repository | None = None
    ) -> tuple[pygit2.Remote, str]:
        """Return a fresh remote and its address: one that has listed refs cannot push over HTTP.

        Never the named remote itself. Fetching from it also applies its configured
        refspecs, which in a mirror force the user's own branches; pushing to it makes
        libgit2 delete remote-tracking refs, in a way that can lose others.

        Args:
            purpose: Which of the addresses is wanted.
            source: Handle to fetch with; the repository's own when ``None``.
        """
        handle = self.repository.handle
        name, pushing = self.access.remote, purpose == "push"
        url = self._addresses[1 if pushing else 0]
        # As it was written: making a remote of it applies url.<base>.insteadOf, once.
        keys = [f"remote.{name}.pushurl"] if pushing else []
        keys.append(f"remote.{name}.url")
        raw: str = next((str(handle.config[key]) for key in keys if key in handle.config), url)
        chosen = self.repository.history if source is None else source
        return chosen.remotes.create_anonymous(absolute(raw, self.repository)), url


def open_remote(repository: OpenRepository, access: RemoteAccess) -> RemoteEnd:
    """Return the remote the caller named.

    Raises:
        RepositoryError: No such remote is configured.
    """
    url, push_url = addresses(repository, access.remote)
    for address in (url, push_url):
        refuse_program(address, repository, access.remote)
    refuse_led_away(repository, access.remote, url, key="url")
    refuse_led_away(repository, access.remote, push_url, key="pushurl")
    if repository.history.is_shallow and url.startswith(("/", "file:")):
        message = f"'{repository.path}' is a shallow clone, and its remote '{redact(url)}' a path"
        raise RepositoryError(
            message,
            path=repository.path,
            hint="libgit2 would damage it: run 'git fetch --unshallow', or use another address.",
        )
    return RemoteEnd(repository, access, redact(url), redact(push_url), (url, push_url))


def _named(branches: Sequence[str]) -> str:
    """Return branches as a message names them."""
    if len(branches) <= _MOST_NAMED:
        return " and ".join(f"'{branch}'" for branch in branches)
    return f"'{branches[0]}' and {len(branches) - 1} more branches"
