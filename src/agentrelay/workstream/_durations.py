"""Durations, sizes, names, paths and callables a caller set, checked before anything is done.

A negative or endless wait means something else to every clock it reaches: a lock waits
for ever, a deadline never comes, a socket gives up at once. None of them gets that far.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeVar

from agentrelay.workstream.errors import RepositoryError

__all__ = [
    "absolute_path",
    "check_bytes",
    "check_callable",
    "check_kind",
    "check_path",
    "check_seconds",
    "check_text",
    "check_whole_seconds",
    "listed",
]

T = TypeVar("T")

# A socket waits in poll(2), which counts milliseconds in a C int. Measured: 2**32 ms and
# 0.2 s more were over after 0.2 s.
_LONGEST_POLL_S: Final = (2**31 - 1) // 1000
_LONGEST_SHOWN: Final = 40


def check_seconds(name: str, value: object) -> None:
    """Accept a finite number of seconds that a lock can wait.

    Args:
        name: Name of the setting, for the message.
        value: What the caller set it to.

    Raises:
        RepositoryError: It is no number, negative, not finite or too large.
    """
    # A truth value is an int to Python, and a mistake here. NaN compares as false.
    if isinstance(value, bool) or not isinstance(value, int | float):
        usable = False
    else:
        usable = 0 <= value <= threading.TIMEOUT_MAX
    if not usable:
        raise RepositoryError(
            f"{name} is {_shown(value)}, which is no duration",
            hint=f"Set {name} to a finite number of seconds, "
            f"from 0 to {threading.TIMEOUT_MAX:.0f}.",
        )


def check_whole_seconds(name: str, value: object) -> None:
    """Accept a positive whole number of seconds that a socket can wait.

    Args:
        name: Name of the setting, for the message.
        value: What the caller set it to.

    Raises:
        RepositoryError: It is no ``int``, not positive or too large.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LONGEST_POLL_S:
        raise RepositoryError(
            f"{name} is {_shown(value)}, which the API's client cannot wait",
            hint=f"Set {name} to a whole number of seconds, from 1 to {_LONGEST_POLL_S}.",
        )


def check_bytes(name: str, value: object) -> None:
    """Accept a number of bytes, 0 included.

    Args:
        name: Name of the setting, for the message.
        value: What the caller set it to.

    Raises:
        RepositoryError: It is no ``int``, or negative.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RepositoryError(
            f"{name} is {_shown(value)}, which is no size",
            hint=f"Set {name} to a whole number of bytes, 0 or more.",
        )


def check_text(name: str, value: object) -> None:
    """Accept a text; what it says is not looked at.

    Args:
        name: Name of the setting, for the message.
        value: What the caller set it to.

    Raises:
        RepositoryError: It is no ``str``.
    """
    if not isinstance(value, str):
        raise RepositoryError(
            f"{name} is {_shown(value)}, which is no text", hint=f"Set {name} to a text."
        )


def check_path(name: str, value: object) -> None:
    """Accept a path, whatever is there.

    Args:
        name: Name of the setting, for the message.
        value: What the caller set it to.

    Raises:
        RepositoryError: It is neither a ``str`` nor an ``os.PathLike`` of one.
    """
    # os.DirEntry and the like may hold bytes, of which no path is made.
    if not isinstance(value, str) and not (
        isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)
    ):
        raise RepositoryError(
            f"{name} is {_shown(value)}, which is no path",
            hint=f"Set {name} to a pathlib.Path, or to a path as text.",
        )


def absolute_path(name: str, value: str | os.PathLike[str]) -> Path:
    """Return a path made absolute, lexically: neither links nor ``..`` are resolved.

    Args:
        name: Name of the setting, for the message.
        value: What the caller set it to.

    Raises:
        RepositoryError: It is no path; or it is relative, and the process is in a directory
            that was deleted or may not be read.
    """
    check_path(name, value)
    try:
        return Path(value).absolute()
    except OSError as error:
        path = os.fspath(value)
        raise RepositoryError(
            f"{name} {path!a} is relative, and the current directory cannot be told: "
            f"{error.strerror or error}",
            path=path,
            hint="Pass an absolute path, or change to a directory that exists.",
        ) from error


def check_callable(name: str, value: object) -> None:
    """Accept what can be called, or ``None``.

    Args:
        name: Name of the setting, for the message.
        value: What the caller set it to.

    Raises:
        RepositoryError: It cannot be called.
    """
    if value is not None and not callable(value):
        raise RepositoryError(
            f"{name} is {_shown(value)}, which cannot be called",
            hint=f"Set {name} to a function, or leave it out.",
        )


def check_kind(name: str, value: object, kind: type) -> None:
    """Accept an object of a class of ours.

    Args:
        name: Name of the argument, for the message.
        value: What the caller passed.
        kind: The class.

    Raises:
        RepositoryError: It is something else.
    """
    if not isinstance(value, kind):
        raise RepositoryError(
            f"{name} is {_shown(value)}, which is no {kind.__name__}",
            hint=f"Pass a {kind.__name__}.",
        )


def listed(name: str, values: Iterable[T]) -> list[T]:
    """Return what a caller passed as several things; a text is a single one.

    Args:
        name: Name of the argument, for the message.
        values: What the caller passed.

    Raises:
        RepositoryError: It is not several things.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise RepositoryError(
            f"{name} is {_shown(values)}, which is no list", hint=f"Pass {name} as a list."
        )
    return list(values)


def _shown(value: object) -> str:
    """Show a value that may be anything, in a few characters."""
    try:
        text = repr(value)
    except ValueError:  # an int of thousands of digits
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
