"""A string that does not show itself."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any, TypeAlias

from agentrelay.workstream._redact import MASK
from agentrelay.workstream.errors import WorkstreamError

__all__ = ["Secret", "TokenSource", "seal_token"]


class Secret:
    """A secret text: printed, formatted and logged as ``***``.

    Copies share the value. A pickle never holds it: what comes back from one is a
    *forgotten* secret, whose :meth:`reveal` says what to pass instead.
    """

    __slots__ = ("_value",)

    _value: str | None

    def __init__(self, value: str) -> None:
        """Hide ``value``; it is neither checked nor changed."""
        self._value = value

    def reveal(self) -> str:
        """Return the text itself, for the one call that needs it.

        Raises:
            WorkstreamError: The secret came out of a pickle, which did not hold it.
        """
        if self._value is None:
            raise WorkstreamError(
                "a secret does not travel to another process",
                hint="pass a callable, or set an environment variable in that process",
            )
        return self._value

    def __repr__(self) -> str:
        """Show the mask."""
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        """Show the mask."""
        return MASK

    def __format__(self, spec: str) -> str:
        """Show the mask, whatever the format asks for."""
        return MASK

    def __eq__(self, other: object) -> bool:
        """Compare the values in constant time; a forgotten secret equals only itself."""
        if not isinstance(other, Secret):
            return NotImplemented
        if self._value is None or other._value is None:
            return self is other
        # surrogatepass: what the environment hands over may hold lone surrogates.
        return hmac.compare_digest(
            self._value.encode("utf-8", "surrogatepass"),
            other._value.encode("utf-8", "surrogatepass"),
        )

    def __hash__(self) -> int:
        """Hash the value; Python's string hash is keyed per process."""
        return hash(("Secret", self._value))

    def __copy__(self) -> Secret:
        """Return the same object: it cannot change."""
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        """Return the same object: it cannot change."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle nothing but the fact that there was a secret."""
        return (_forgotten, ())


TokenSource: TypeAlias = str | Secret | Callable[[], str | Secret] | None
"""What a caller may pass as ``token=``: a value, or a callable asked for each request."""


def _forgotten() -> Secret:
    """Make the secret that comes out of a pickle."""
    secret = Secret("")
    secret._value = None  # noqa: SLF001 - the class's own other constructor
    return secret


def seal_token(token: TokenSource) -> Secret | Callable[[], str | Secret] | None:
    """Hide a token so that it can be kept in an object with a plain ``repr``.

    The value is not checked: that happens when it is used, where the error can say
    for which host.

    Args:
        token: What the caller passed.

    Raises:
        TypeError: ``token`` is neither text, a secret, a callable nor ``None``.
    """
    if token is None or isinstance(token, Secret):
        return token
    if isinstance(token, str):
        return Secret(token)
    if callable(token):
        return token
    raise TypeError(
        f"token must be a str, a Secret, a callable or None, not {type(token).__name__}"
    )
