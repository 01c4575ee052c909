"""Changing refs of a remote, one or many in one exchange, with the server's word on each.

libgit2 returns normally for a ref the server refused, and gives all of an exchange up when
one lease is lost. Each ref is its own affair here: the others are sent.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import pygit2

from agentrelay.workstream._git import libgit2
from agentrelay.workstream._git.exchange import Callbacks, RemoteAccess, lease_lost, translated
from agentrelay.workstream._git.failures import (
    is_not_fast_forward,
    is_repacked,
    is_transient,
    says_locked,
)
from agentrelay.workstream._git.locks import reading, until_free
from agentrelay.workstream._git.path_remote import PathRemote
from agentrelay.workstream._git.remote_address import find_proxy
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._redact import redact
from agentrelay.workstream._steps import Step
from agentrelay.workstream.errors import LeaseLostError, PushRejectedError, WorkstreamError

__all__ = ["Pusher", "RefUpdate"]

# Where a server's report leaves a ref out.
_NO_WORD: Final = "the server did not report on it"


@dataclass(frozen=True)
class RefUpdate:
    """One change of a remote's branch.

    Attributes:
        branch: Short branch name, the same on both sides.
        new: Hex id of a commit this repository has, ``None`` to delete the branch.
        expected: Hex id the remote's branch was seen at, ``None`` when it was absent.
        announce: Called right before anything is sent, the lease being good.
    """

    branch: str
    new: str | None
    expected: str | None
    announce: Callable[[], None] | None = None

    @property
    def ref(self) -> str:
        """Full ref name."""
        return f"refs/heads/{self.branch}"


@dataclass(frozen=True)
class Pusher:
    """Sends changes to one remote.

    Attributes:
        repository: The local side.
        access: How to reach the other.
        address: Where it is, user-info included.
        connect_to: Returns a fresh remote and the address it leads to.
        at_path: Returns the other end, if its address is a path.
        step: The step it is, to say how far it is.
    """

    repository: OpenRepository
    access: RemoteAccess
    address: str = field(repr=False)
    connect_to: Callable[[Literal["fetch", "list", "push"]], tuple[pygit2.Remote, str]]
    at_path: Callable[[str], PathRemote | None]
    step: Step | None = None

    def update(
        self, updates: Sequence[RefUpdate], operation: str
    ) -> dict[str, WorkstreamError | None]:
        """Change branches; each has its own result, by its short name.

        Args:
            updates: At least one, and at most one a branch.
            operation: What is being done, for the messages.
        """
        ends_at = time.monotonic() + self.access.deadline_s
        results: dict[str, WorkstreamError | None] = {}
        left = {update.ref: update for update in updates}
        # Each round answers for one of them at least.
        while left:
            try:
                answers = self._round(left, operation, ends_at)
            except WorkstreamError as error:
                answers = dict.fromkeys(left, error)
                if len(left) > 1:
                    # One object a lane: whoever gets it may change it.
                    answers = {ref: _copied(error) for ref in left}
            for ref, answer in answers.items():
                results[left.pop(ref).branch] = answer
        return results

    def _round(
        self, left: Mapping[str, RefUpdate], operation: str, ends_at: float
    ) -> Mapping[str, WorkstreamError | None]:
        """Send once, and return what became of those that were answered for."""
        made: list[Callbacks] = []

        def attempt() -> Mapping[str, WorkstreamError | None]:
            callbacks = Callbacks(
                self.address,
                self.access,
                ends_at=ends_at,
                expected={ref: update.expected for ref, update in left.items()},
                announce={
                    ref: update.announce
                    for ref, update in left.items()
                    if update.announce is not None
                },
                step=self.step,
            )
            made.append(callbacks)
            there = self.at_path(self.address)
            if there is not None:
                return there.update_all(
                    self.repository,
                    {ref: (update.expected, update.new) for ref, update in left.items()},
                    callbacks=callbacks,
                    bring=self._bring,
                    refused=lambda ref, reason: self._rejected(
                        _single(operation, left, ref), ref, reason, callbacks
                    ),
                )
            return self._exchange(left, operation, callbacks)

        try:
            return until_free(
                lambda: reading(attempt, torn=is_repacked), busy=is_transient, what=operation
            )
        except WorkstreamError:
            if made and made[-1].withheld:
                return made[-1].withheld
            raise

    def _exchange(
        self,
        left: Mapping[str, RefUpdate],
        operation: str,
        callbacks: Callbacks,
    ) -> Mapping[str, WorkstreamError | None]:
        """Push through libgit2 and read the verdicts."""
        libgit2.configure_network()
        remote, url = self.connect_to("push")
        with translated(operation, url, callbacks):
            try:
                specs = [f"{update.new or ''}:{ref}" for ref, update in left.items()]
                self._send(remote, url, specs, callbacks)
            except pygit2.GitError as error:
                if not is_not_fast_forward(error):
                    raise
                if len(left) == 1:
                    (ref,) = left
                    refused = self._rejected(operation, ref, str(error), callbacks)
                    raise lease_lost(refused) from error
                # libgit2 does not say which one it means: they are sent one by one.
                return {
                    ref: self.update([update], _single(operation, left, ref))[update.branch]
                    for ref, update in left.items()
                }
        refusals: dict[str, PushRejectedError] = {}
        for ref in left:
            reason = callbacks.verdicts.get(ref, _NO_WORD)
            if reason is not None:
                name = _single(operation, left, ref)
                refusals[ref] = self._rejected(name, ref, reason, callbacks)
        answers: dict[str, WorkstreamError | None] = dict.fromkeys(left)
        if refusals:
            answers |= self._lost_races(left, refusals)
        return answers

    def _send(
        self, remote: pygit2.Remote, url: str, specs: list[str], callbacks: Callbacks
    ) -> None:
        proxy = find_proxy(self.repository, self.access.remote, url)
        remote.push(specs, callbacks=callbacks, proxy=proxy)

    def _lost_races(
        self, left: Mapping[str, RefUpdate], refusals: Mapping[str, PushRejectedError]
    ) -> Mapping[str, PushRejectedError]:
        """Tell rules' refusals from lost races: a server may compare later than we did.

        Returns:
            The refusals, with a :class:`LeaseLostError` for each ref that is not where it
            was seen any more.
        """
        remote, url = self.connect_to("list")
        ends_at = time.monotonic() + self.access.deadline_s
        expected = {ref: left[ref].expected for ref in refusals}
        callbacks = Callbacks(url, self.access, ends_at=ends_at, expected=expected)
        looking = f"look at {' and '.join(repr(ref) for ref in list(refusals)[:1])}"
        try:
            with translated(looking, url, callbacks):
                heads = remote.list_heads(
                    callbacks=callbacks, proxy=find_proxy(self.repository, self.access.remote, url)
                )
        except WorkstreamError:
            # Then the server's own words must do.
            return refusals
        now = {str(head.name): str(head.oid) for head in heads}
        told: dict[str, PushRejectedError] = {}
        for ref, refused in refusals.items():
            told[ref] = refused
            try:
                callbacks.check_lease(ref, now=now.get(ref), new=left[ref].new)
            except LeaseLostError as lost:
                lost.__cause__ = refused
                told[ref] = lost
        return told

    def _bring(self, incoming: Mapping[str, str]) -> None:
        """Push commits to refs of our own, by full ref name, through libgit2.

        There is no lease: nobody else counts on them.
        """
        specs = [f"+{commit_id}:{ref}" for ref, commit_id in incoming.items()]
        (first, *_) = incoming
        operation = f"push '{first}'"

        def attempt() -> None:
            remote, url = self.connect_to("push")
            callbacks = Callbacks(url, self.access, ends_at=ends_at, step=self.step)
            with translated(operation, url, callbacks):
                self._send(remote, url, specs, callbacks)
            for ref in incoming:
                reason = callbacks.verdicts.get(ref, _NO_WORD)
                if reason is not None:
                    raise self._rejected(operation, ref, reason, callbacks)

        ends_at = time.monotonic() + self.access.deadline_s
        until_free(
            lambda: until_free(
                lambda: reading(attempt, torn=is_repacked), busy=is_transient, what=operation
            ),
            # The local transport reports this as if a server had refused the ref.
            busy=lambda error: isinstance(error, PushRejectedError) and says_locked(error.reason),
            what=operation,
        )

    def _rejected(
        self, operation: str, ref: str, reason: str, callbacks: Callbacks
    ) -> PushRejectedError:
        """Make the error of a refused ref, in the server's words."""
        said = redact(reason, callbacks.secret)
        remarks = redact(" ".join("".join(callbacks.words).split()), callbacks.secret)
        url = redact(self.address)
        detail = f"{said} (the server said: {remarks[:400]})" if remarks else said
        return PushRejectedError(
            f"cannot {operation}: '{url}' refused it: {detail}",
            url=url,
            ref=ref,
            reason=detail,
            hint="The remote's rules decide. Ask whoever administers it, or pull first if "
            "it says that the branch moved.",
        )


def _single(operation: str, left: Mapping[str, RefUpdate], ref: str) -> str:
    """Return what is done to one of several branches, for the message about it."""
    if len(left) == 1:
        return operation
    update = left[ref]
    return f"{'delete' if update.new is None else 'push'} '{update.branch}'"


def _copied(error: WorkstreamError) -> WorkstreamError:
    """Return an error of its own for one of several lanes."""
    own = copy.copy(error)
    own.__cause__ = error
    return own
