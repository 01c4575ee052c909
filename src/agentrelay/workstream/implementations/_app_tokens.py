"""The tokens an app has minted: shared by all who ask, minted by one of them."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from agentrelay.workstream._github.app_token import AppMemory, MintedToken
from agentrelay.workstream.credentials import Secret
from agentrelay.workstream.errors import RateLimitedError, RemoteUnavailableError, WorkstreamError

if TYPE_CHECKING:
    from agentrelay.workstream._github.address import GitHubAddress

__all__ = ["TokenShelf"]

# How long a token is kept that could not be renewed while it is still good, in seconds.
_NEXT_TRY_S: Final = 60.0


@dataclass
class TokenShelf:
    """Tokens by repository, for all threads of one process.

    The process that forked off starts with an empty one: a thread that was minting is
    not there any more, and a lock it held would never be released.

    Attributes:
        memory: What minting taught.
    """

    memory: AppMemory = field(default_factory=AppMemory)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _held: dict[str, MintedToken] = field(default_factory=dict)
    _minting: dict[str, Future[Secret]] = field(default_factory=dict)

    def token_for(
        self,
        address: GitHubAddress,
        mint: Callable[[], MintedToken],
        *,
        clock: Callable[[], float],
        wait_s: float,
    ) -> Secret:
        """Return a token that is good for a while.

        One thread mints and the others wait for what comes of it, be it an error. While
        a token is still good, a server that gives no new one is not a failure.

        Args:
            address: The repository.
            mint: Gets a new token.
            clock: The clock ``mint`` reads.
            wait_s: Longest wait for another thread's minting, in seconds.

        Raises:
            WorkstreamError: Whatever ``mint`` raises, in each thread an error of its own.
            RemoteUnavailableError: Another thread did not finish in time.
        """
        name = address.full_name.lower()
        with self._lock:
            held = self._held.get(name)
            if held is not None and clock() < held.renew_at:
                return held.secret
            own: Future[Secret] = Future()
            flight = self._minting.setdefault(name, own)
        if flight is not own:
            return self._wait_for(flight, address, wait_s)
        try:
            minted = self._mint(held, mint, clock)
        except BaseException as error:
            self._land(own)
            own.set_exception(
                error
                if isinstance(error, WorkstreamError)
                else _gave_up(address, "the thread that asked was interrupted")
            )
            raise
        with self._lock:
            self._held[name] = minted
        self._land(own)
        own.set_result(minted.secret)
        return minted.secret

    def drop(self, secret: Secret) -> None:
        """Forget a token that was refused; one that came after it stays."""
        with self._lock:
            for name in [name for name, held in self._held.items() if held.secret == secret]:
                del self._held[name]

    def _wait_for(self, flight: Future[Secret], address: GitHubAddress, wait_s: float) -> Secret:
        """Wait for another thread's minting, and share its fate."""
        try:
            error = flight.exception(wait_s)
        except TimeoutError:
            # Nobody else shall wait for it.
            self._land(flight)
            error = _gave_up(address, f"no token after {wait_s:g} s")
        if error is not None:
            # One exception raised in several threads would mix up their tracebacks.
            raise copy.copy(error)
        return flight.result()

    def _land(self, flight: Future[Secret]) -> None:
        """Let the next one who needs a token mint it."""
        with self._lock:
            for name in [name for name, found in self._minting.items() if found is flight]:
                del self._minting[name]

    @staticmethod
    def _mint(
        held: MintedToken | None, mint: Callable[[], MintedToken], clock: Callable[[], float]
    ) -> MintedToken:
        try:
            return mint()
        except (RemoteUnavailableError, RateLimitedError):
            now = clock()
            if held is None or now + _NEXT_TRY_S > held.ends_at:
                raise
            return replace(held, renew_at=now + _NEXT_TRY_S)


def _gave_up(address: GitHubAddress, why: str) -> RemoteUnavailableError:
    message = f"could not mint a token for {address.host}/{address.full_name}: {why}"
    return RemoteUnavailableError(message, url=address.api_url, hint="try again")
