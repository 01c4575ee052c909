"""What may be passed as ``token=``: a value, a callable, or something that mints tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from agentrelay.workstream.credentials._secret import SealedCallable, Secret
from agentrelay.workstream.errors import WorkstreamError

__all__ = ["AfterEnvironment", "TokenProvider", "TokenSource", "seal_token"]


@runtime_checkable
class TokenProvider(Protocol):
    """A source that knows what it is asked for, and can be told of a refusal.

    git and the API ask the same object, from several threads at once. It may use the
    network, for a bounded time, and raises errors of this library only: they reach the
    caller as they are. Its ``repr`` and its pickle show no secret.
    """

    @property
    def source(self) -> str:
        """Where its tokens come from, in words for a person."""
        ...

    def serves(self, host: str) -> bool:
        """Tell whether its tokens are for ``host``, without using the network.

        Args:
            host: ``"github.com"``, or ``"ghe.corp:8443"``; a port is part of the name.
        """
        ...

    def token_for(self, host: str, path: str) -> str | Secret:
        """Return a token that is good now, for one repository of a host it serves.

        Args:
            host: As for :meth:`serves`.
            path: Path of the repository at that host, ``"owner/name"`` or as a remote's
                address spells it, ``"/owner/name.git"``.
        """
        ...

    def was_refused(self, token: Secret) -> bool:
        """Take note that the other side refused a token that was handed out.

        The caller asks again at most once for each operation, and only if told to.

        Args:
            token: The refused token.

        Returns:
            Whether :meth:`token_for` may give a better one now.
        """
        ...


@dataclass(frozen=True)
class AfterEnvironment:
    """A provider that stands behind the environment's tokens instead of before them.

    Attributes:
        provider: Asked when no variable holds a token for the host, and only for the
            hosts it serves; netrc and the GitHub CLI's file come after it.
    """

    provider: TokenProvider


TokenSource: TypeAlias = (
    str | Secret | Callable[[], str | Secret] | TokenProvider | AfterEnvironment | None
)
"""What a caller may pass as ``token=``; all but a value is asked for each request."""


def seal_token(
    token: TokenSource,
) -> Secret | Callable[[], str | Secret] | TokenProvider | AfterEnvironment | None:
    """Hide a token so that it can be kept in an object with a plain ``repr``.

    The value is not checked: that happens when it is used, where the error can say
    for which host.

    Args:
        token: What the caller passed. A provider hides its secrets itself.

    Raises:
        WorkstreamError: ``token`` is neither text, a secret, a callable, a provider nor
            ``None``; its type is named, its value is not shown.
    """
    if token is None or isinstance(token, Secret | SealedCallable | AfterEnvironment):
        return token
    if isinstance(token, str):
        return Secret(token)
    if isinstance(token, TokenProvider) and not isinstance(token, type):
        return token
    if callable(token):
        return SealedCallable(token)
    raise WorkstreamError(
        f"token must be a str, a Secret, a callable or None, not {type(token).__name__}",
        hint="decode bytes first; a callable is asked for each request",
    )
