"""A token, or a callable that returns one, that does not show itself."""

from __future__ import annotations

import hmac
import sys
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any

from agentrelay.workstream._redact import MASK
from agentrelay.workstream.errors import WorkstreamError

__all__ = ["SealedCallable", "Secret"]


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


class SealedCallable:
    """A callable that does not show itself: what it is bound to may be the token.

    Copies share it. A pickle holds a function of a module by its name alone; anything
    else comes back *forgotten*, and says so when it is called.
    """

    __slots__ = ("_call",)

    _call: Callable[[], str | Secret] | None

    def __init__(self, call: Callable[[], str | Secret]) -> None:
        """Hide ``call``; it is not called yet."""
        self._call = call

    def reveal(self) -> Callable[[], str | Secret]:
        """Return the callable itself, for the one call that needs it.

        Raises:
            WorkstreamError: It came out of a pickle, which did not hold it.
        """
        if self._call is None:
            raise WorkstreamError(
                "a token callable that holds data does not travel to another process",
                hint="pass a function of a module, or set an environment variable in that process",
            )
        return self._call

    def __call__(self) -> str | Secret:
        """Call it.

        Raises:
            WorkstreamError: As :meth:`reveal`.
        """
        return self.reveal()()

    def __repr__(self) -> str:
        """Show the mask."""
        return f"SealedCallable({MASK!r})"

    def __eq__(self, other: object) -> bool:
        """Compare the callables; a forgotten one equals only itself."""
        if not isinstance(other, SealedCallable):
            return NotImplemented
        if self._call is None or other._call is None:
            return self is other
        return self._call == other._call

    def __hash__(self) -> int:
        """Hash the callable."""
        return hash(("SealedCallable", self._call))

    def __copy__(self) -> SealedCallable:
        """Return the same object: it cannot change."""
        return self

    def __deepcopy__(self, memo: object) -> SealedCallable:
        """Return the same object: it cannot change."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a name, or the fact that there was a callable."""
        return (SealedCallable, (self._call,)) if _is_named(self._call) else (_forgotten_call, ())


def _forgotten() -> Secret:
    """Make the secret that comes out of a pickle."""
    secret = Secret("")
    secret._value = None  # noqa: SLF001 - the class's own other constructor
    return secret


def _forgotten_call() -> SealedCallable:
    """Make the callable that comes out of a pickle that did not hold it."""
    sealed = SealedCallable(str)
    sealed._call = None  # noqa: SLF001 - the class's own other constructor
    return sealed


def _is_named(call: object) -> bool:
    """Tell whether a pickle would hold nothing but the name of a module's function."""
    if not isinstance(call, FunctionType | BuiltinFunctionType):
        return False
    # A method of a value is a built-in function too; its name is looked up all the same.
    module = sys.modules.get(call.__module__ or "")
    return module is not None and vars(module).get(call.__qualname__) is call
