"""Reading the trailers of a commit's message; pure."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["SEPARATOR", "split_message", "trailer_block"]

SEPARATOR: Final = ":"
_LINE: Final = re.compile(r"(?P<key>[A-Za-z0-9-]+)[ \t]*:(?P<value>.*)")
# Lines git itself writes: one of them makes a block of a paragraph that is mostly prose.
_GITS: Final = ("Signed-off-by: ", "(cherry picked from commit ")
# git's trailer.c: then a quarter of the paragraph's lines must be trailers.
_SHARE: Final = 3


def trailer_block(message: str) -> list[tuple[str, str]] | None:
    """Return the trailers of a message's last paragraph, or ``None`` if it is no block.

    The first paragraph is the subject, whatever it looks like.

    Args:
        message: The whole message.

    Returns:
        Key and value of each, in order; a value of several lines is one line.

    Source:
        git-interpret-trailers(1): all lines are trailers, or at least one is git's own and
        a quarter of all are trailers; a line that begins with white space continues one.
    """
    paragraphs = re.split(r"\n(?:[ \t]*\n)+", message.strip("\n").rstrip())
    if len(paragraphs) < 2:  # noqa: PLR2004 - subject and block
        return None
    lines = [line for line in paragraphs[-1].split("\n") if not line.startswith("#")]
    return _read(lines) if _is_block(lines) else None


def _is_block(lines: list[str]) -> bool:
    trailers = others = continuing = 0
    by_git = False
    # Backwards: whether a line continues a trailer is known at the line it continues.
    for line in reversed(lines):
        if line.startswith(_GITS):
            by_git = True
        if line.startswith(_GITS) or _LINE.match(line):
            trailers += 1
        elif line[:1] in (" ", "\t"):
            continuing += 1
            continue
        else:
            others += 1 + continuing
        continuing = 0
    others += continuing
    return trailers > 0 and (others == 0 or (by_git and trailers * _SHARE >= others))


def _read(lines: list[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    is_open = False
    for line in lines:
        match = _LINE.match(line)
        if match is not None:
            found.append((match["key"], match["value"].strip()))
            is_open = True
        elif line[:1] in (" ", "\t") and is_open:
            key, value = found[-1]
            found[-1] = (key, f"{value} {line.strip()}".strip())
        else:
            is_open = False
    return found


def split_message(message: str) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Return subject, body and trailers of a commit's message.

    Source:
        git-log(1), ``%s``: the first paragraph with its lines joined.
    """
    text = message.strip("\n")
    first, _, rest = text.partition("\n\n")
    return " ".join(first.split("\n")), rest.strip("\n"), tuple(trailer_block(text) or ())
