"""Messages of commits: cleaned as git cleans them, with trailers; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Union

from agentrelay.workstream._durations import listed
from agentrelay.workstream._trailers import SEPARATOR, trailer_block
from agentrelay.workstream.errors import RepositoryError

__all__ = ["Trailers", "compose_message", "parse_author"]

Trailers = Union[Mapping[str, str], Iterable[tuple[str, str]]]

_KEY: Final = re.compile(r"[A-Za-z0-9-]+\Z")
_AUTHOR: Final = re.compile(r"\s*(?P<name>[^<>\n]*?)\s*<(?P<email>[^<>\n]*)>\s*\Z")


def compose_message(message: str, trailers: Trailers | None = None) -> str:
    """Return a commit's message, as git would write it.

    Args:
        message: As the caller wrote it. White space at the ends of lines goes, and so do
            blank lines at both ends and all but one between paragraphs.
        trailers: Key and value of each; they join a block of trailers that the message
            ends in. One that is the last of the block already is not repeated.

    Raises:
        RepositoryError: There is no text, or something a commit cannot hold.

    Source:
        git-commit(1) ``--cleanup=whitespace``; git-interpret-trailers(1), with its defaults
        ``where=end``, ``ifexists=addIfDifferentNeighbor`` and ``ifmissing=add``.
    """
    if not isinstance(message, str):
        raise _refusal(f"the message is {type(message).__name__}, not text")
    text = _cleaned(message)
    if not text:
        raise _refusal("the message is empty")
    pairs = (
        trailers.items() if isinstance(trailers, Mapping) else listed("trailers", trailers or ())
    )
    for pair in pairs:
        text = _with_trailer(text, *_checked(pair))
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise _refusal("the message holds a NUL character or a lone surrogate")
    return text


def parse_author(author: str) -> tuple[str, str]:
    """Return name and address of ``"Name <address>"``.

    Raises:
        RepositoryError: It is something else.

    Source:
        git-commit(1), ``--author``.
    """
    found = _AUTHOR.match(str(author))
    if found is None or not found["name"] or any(not c.isprintable() for c in author):
        message = f"the author {ascii(author)[:120]} is not of the form 'Name <address>'"
        raise RepositoryError(message, hint="Write it like 'A U Thor <author@example.com>'.")
    return found["name"], found["email"].strip()


def _refusal(reason: str) -> RepositoryError:
    return RepositoryError(f"cannot commit: {reason}", hint="Say in a line what was changed.")


def _cleaned(message: str) -> str:
    """Return the text with git's white space; empty, or ended by a newline."""
    lines = [line.rstrip(" \t\r\n\v\f") for line in message.split("\n")]
    kept: list[str] = []
    for line in lines:
        if line or (kept and kept[-1]):
            kept.append(line)
    text = "\n".join(kept).rstrip("\n")
    return f"{text}\n" if text else ""


def _checked(pair: tuple[str, str]) -> tuple[str, str]:
    """Return key and value of a trailer, if it can be read again as that."""
    try:
        key, value = pair
        valid = bool(_KEY.match(key)) and bool(value.strip())
    except (TypeError, ValueError, AttributeError):
        valid, key, value = False, "", ""
    if not valid:
        raise RepositoryError(
            f"{ascii(pair)[:120]} is no trailer",
            hint="A key of letters, digits and '-', and a value that is not empty.",
        )
    # A further line of a value begins with a space, or it would be another trailer.
    lines = [line.strip() for line in value.strip().splitlines()]
    return key, "\n ".join(line for line in lines if line)


def _with_trailer(text: str, key: str, value: str) -> str:
    line = f"{key}{SEPARATOR} {value}"
    block = trailer_block(text)
    if block is None:
        return f"{text}\n{line}\n"
    if block and block[-1][0].lower() == key.lower() and block[-1][1] == value.replace("\n ", " "):
        return text
    return f"{text}{line}\n"
