"""The one place that removes secrets from text.

Every message of this library passes through :func:`redact` on its way into an
exception, a signal file or a report, so no caller has to remember it.

A remote's address is what somebody typed, so user-info is recognised far beyond what
RFC 3986 allows in it. In doubt text goes: a message that lost a word can still be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Final

__all__ = ["MASK", "redact", "strip_userinfo"]

MASK: Final = "***"

# Removing one thing may bring another to light; in practice the second round finds none.
_MOST_ROUNDS: Final = 4

_WORD: Final = re.compile(r"\S+")
# Where inside a word the next URL starts: a password may hold "://", but hardly this.
_NEXT_URL: Final = re.compile(r"(?<=[\"'(\[{<>,;|=&])[A-Za-z][A-Za-z0-9+.\-]*+://")
_AUTHORITY_END: Final = re.compile(r"[/?#]")
_ADDRESS: Final = re.compile(r"\[[0-9A-Fa-f:.]*+\](?::[0-9]{0,5}+)?")
_LONGEST_PORT: Final = 5

# "user name:password@" or "user:pass word@" after "://", on one line: the only forms
# with spaces. What ends like the end of a clause is not taken for half a password. No group
# is repeated possessively that can fail half-way: up to Python 3.11.4 the half would be a
# part of the match. Source: python/cpython issue 106052.
_SPACED: Final = re.compile(
    r"""(?<=://)(?:
        [^\s/?#@:"'<>,;]++ (?:[ \t]++[^\s/?#@:"'<>,;]++)+ :(?!//) [^\s]*@
      | [^\s/?#@:"'<>,;]*+ :(?!\d*+\s) (?:[^\s@:]++|:(?!//))+ (?<!["'),.;:>\]}])
        (?:[ \t]++(?:[^\s@"':]++|:(?!//))*)+ @ (?:\S*@)?
    )+""",
    re.VERBOSE,
)

# "user:password@host:path", git's short form of an ssh address, and the same with a
# slash, an https address without its scheme.
_SHORT_USER: Final = re.compile(r"(?<![^\"'(\[{<>,;|=&])[^\s:/\"'(\[{<>,;|=&]++:(?!//)")
_SHORT_HOST: Final = re.compile(r"@(?:[\w.\-]++|\[[0-9A-Fa-f:.]++\])[:/](?=\S)")

# What stands in a port's place and is no number: a password, its address cut off.
_NO_PORT: Final = re.compile(
    r"(?<=://)([^\s/?#@:'\"<>\[\]]++:)(?![0-9]*+(?:\W|\Z))[^\s/?#@'\"<>,;)]++"
)

# Parameters of a query that are called a secret.
_QUERY: Final = re.compile(
    r"(?i)([?&;#][\w.\-]*?(?:token|secret|passw(?:or)?d|pwd|api[_-]?key|signature|credential"
    r"|auth|sig)s?=)[^\s&#'\"<>]*[^\s&#'\"<>,;]"
)

# Token shapes GitHub documents ("About authentication to GitHub", token formats)
# and the header forms in which a token travels.
_TOKENS: Final = re.compile(
    r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"  # also after an escape
    r"(?:gh[pousr]_[A-Za-z0-9_.-]{4,}|github_pat_[A-Za-z0-9_]{4,}|v1\.[0-9a-f]{40})"
)
_HEADER: Final = re.compile(
    r"(?i)\b(authorization['\"]?\s*+[:=]\s*+(?:b(?=['\"]))?['\"]?(?:basic|bearer|token)?\s*+)[^\s'\",]+"
)


def strip_userinfo(url: str) -> str:
    """Return ``url`` without its user name and password.

    Args:
        url: A URL, git's short ``user:secret@host:path``, or any text that holds them.

    Returns:
        The same text; ``https://user:secret@host/x`` becomes ``https://host/x``.
    """
    if "@" not in url:
        return url
    text = _WORD.sub(lambda word: _in_chunks(word[0], _strip_long), url)
    text = _SPACED.sub("", text)
    return _WORD.sub(lambda word: _in_chunks(word[0], _strip_short), text)


def redact(text: str, *secrets: str) -> str:
    """Return ``text`` with everything that is or looks like a secret masked.

    Args:
        text: Text for a person: a message, a log line, the body of a report.
        *secrets: Values known to be secret here, masked wherever they occur.

    Returns:
        The text with user-info removed from URLs, and known secrets, GitHub tokens,
        ports that are no numbers, secret query values and authorization headers
        replaced by ``***``.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        if secret:
            text = text.replace(secret, MASK)
    for _ in range(_MOST_ROUNDS):
        before = text
        text = strip_userinfo(text)
        text = _NO_PORT.sub(rf"\g<1>{MASK}", text)
        text = _QUERY.sub(rf"\g<1>{MASK}", text)
        text = _TOKENS.sub(MASK, text)
        text = _HEADER.sub(rf"\g<1>{MASK}", text)
        if text == before:
            break
    return text


def _in_chunks(word: str, strip: Callable[[str], str]) -> str:
    """Apply ``strip`` to each URL of a word by itself."""
    if "@" not in word:
        return word
    cuts = [0, *(match.start() for match in _NEXT_URL.finditer(word)), len(word)]
    return "".join(strip(word[start:end]) for start, end in pairwise(cuts))


def _strip_long(chunk: str) -> str:
    """Drop the user-info after each ``://``.

    A password that holds ``/``, ``?`` or ``#`` ends what a parser takes for the host,
    so a "host" with a colon and no port goes with everything up to the last ``@``.
    """
    last = chunk.rfind("@")
    kept: list[str] = []
    at = 0
    while 0 <= (found := chunk.find("://", at)) < last:
        kept.append(chunk[at : found + 3])
        at = found + 3
        while at <= last:
            end = _AUTHORITY_END.search(chunk, at)
            authority = chunk[at : end.start() if end else len(chunk)]
            user, sign, _ = authority.rpartition("@")
            if ":" in user or not (sign or _is_host(authority)):
                at = last + 1
            elif sign:
                at += len(user) + 1
            else:
                break
    return "".join([*kept, chunk[at:]])


def _is_host(authority: str) -> bool:
    """Tell a host, with or without a port, from a user name and half a password."""
    host, colon, port = authority.partition(":")
    if not colon or _ADDRESS.fullmatch(authority):
        return True
    if port and not (port.isdecimal() and len(port) <= _LONGEST_PORT):
        return False
    return host.lower() == "localhost" or "." in host or MASK in host


def _strip_short(chunk: str) -> str:
    """Drop ``user:password@`` before a host that stands without a scheme."""
    user = _SHORT_USER.search(chunk)
    if user is None:
        return chunk
    hosts = [match.start() for match in _SHORT_HOST.finditer(chunk, user.end())]
    return chunk[: user.start()] + chunk[hosts[-1] + 1 :] if hosts else chunk
