"""The tokens an app has minted: shared by all who ask, minted by one of them."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from agentrelay.workstream._github.app_token import AppMemory, MintedToken
from agentrelay.workstream.credentials import Secret
from agentrelay.workstream.errors import RateLimitedError, RemoteUnavailableError, WorkstreamError

if TYPE_CHECKING:
    from agentrelay.workstream._github.address import GitHubAddress

__all__ = ["TokenShelf"]

# How long a token is kept that could not be renewed while it is still good, in seconds.
_NEXT_TRY_S: Final = 60.0


@dataclass(eq=False)
class _Flight:
    """One minting that is under way.

    Attributes:
        number: How many were begun before it.
        result: What comes of it.
        is_own_fault: Whether it ended because its thread's time did, or the thread itself.
    """

    number: int
    result: Future[Secret] = field(default_factory=Future)
    is_own_fault: bool = False


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
    _minting: dict[str, _Flight] = field(default_factory=dict)
    _failed: dict[str, tuple[int, WorkstreamError]] = field(default_factory=dict)
    _begun: int = 0

    def token_for(
        self,
        address: GitHubAddress,
        mint: Callable[[float], MintedToken],
        *,
        clock: Callable[[], float],
        wait_s: float,
    ) -> Secret:
        """Return a token that is good for a while.

        One thread mints and the others wait for what comes of it. A refusal is a refusal of
        all. After a failure that passes those who have time left try once more, again one of
        them for the others. While a token is still good, a server that gives no new one is
        not a failure.

        Args:
            address: The repository.
            mint: Gets a new token, within so many seconds.
            clock: The clock ``mint`` reads.
            wait_s: Longest time in all, another thread's minting included, in seconds.

        Raises:
            WorkstreamError: Whatever ``mint`` raises, in each thread an error of its own.
            RemoteUnavailableError: Another thread did not finish in time.
        """
        name = address.full_name.lower()
        came_at, came_after = time.monotonic(), self._begun
        left_s = wait_s
        while True:
            with self._lock:
                held = self._held.get(name)
                if held is not None and clock() < held.renew_at:
                    return held.secret
                flight = self._minting.get(name)
                number, failure = self._failed.get(name, (-1, None))
                if flight is None and failure is not None and number >= came_after:
                    # It came and went before this thread was awake.
                    raise copy.copy(failure)
                own = None
                if flight is None:
                    flight = own = self._minting[name] = _Flight(self._begun)
                    self._begun += 1
            if own is not None:
                return self._fly(own, address, partial(self._mint, held, mint, clock), left_s)
            error = self._wait_for(flight, address, left_s)
            if error is None:
                return flight.result.result()
            left_s = wait_s - (time.monotonic() - came_at)
            # One that began after this thread came has asked for it as well.
            is_anothers = flight.number < came_after or flight.is_own_fault
            passes = isinstance(error, RemoteUnavailableError)
            if not (is_anothers and passes and left_s > 0):
                # One exception raised in several threads would mix up their tracebacks.
                raise copy.copy(error)

    def drop(self, secret: Secret) -> None:
        """Forget a token that was refused; one that came after it stays."""
        with self._lock:
            for name in [name for name, held in self._held.items() if held.secret == secret]:
                del self._held[name]

    def _fly(
        self,
        own: _Flight,
        address: GitHubAddress,
        mint: Callable[[float], MintedToken],
        left_s: float,
    ) -> Secret:
        """Mint, and tell those who wait what came of it."""
        name, ends_at = address.full_name.lower(), time.monotonic() + left_s
        try:
            minted = mint(left_s)
        except BaseException as error:
            is_ours = isinstance(error, WorkstreamError)
            own.is_own_fault = not is_ours or time.monotonic() >= ends_at
            if isinstance(error, WorkstreamError) and not own.is_own_fault:
                with self._lock:
                    # A copy: it has no frames, which may hold secrets.
                    self._failed[name] = (own.number, copy.copy(error))
            self._land(own)
            own.result.set_exception(
                error if is_ours else _gave_up(address, "the thread that asked was interrupted")
            )
            raise
        with self._lock:
            self._held[name] = minted
            self._failed.pop(name, None)
        self._land(own)
        own.result.set_result(minted.secret)
        return minted.secret

    def _wait_for(
        self, flight: _Flight, address: GitHubAddress, wait_s: float
    ) -> BaseException | None:
        """Wait for another thread's minting, and return what went wrong.

        Raises:
            RemoteUnavailableError: It took longer than this thread can wait.
        """
        try:
            return flight.result.exception(wait_s)
        except TimeoutError:
            # Nobody else shall wait for it.
            self._land(flight)
        raise _gave_up(address, f"no token after {wait_s:g} s")

    def _land(self, flight: _Flight) -> None:
        """Let the next one who needs a token mint it."""
        with self._lock:
            for name in [name for name, found in self._minting.items() if found is flight]:
                del self._minting[name]

    @staticmethod
    def _mint(
        held: MintedToken | None,
        mint: Callable[[float], MintedToken],
        clock: Callable[[], float],
        left_s: float,
    ) -> MintedToken:
        try:
            return mint(left_s)
        except (RemoteUnavailableError, RateLimitedError):
            now = clock()
            if held is None or now + _NEXT_TRY_S > held.ends_at:
                raise
            return replace(held, renew_at=now + _NEXT_TRY_S)


def _gave_up(address: GitHubAddress, why: str) -> RemoteUnavailableError:
    message = f"could not mint a token for {address.host}/{address.full_name}: {why}"
    return RemoteUnavailableError(message, url=address.api_url, hint="try again")
