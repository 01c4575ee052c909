"""The one place that removes secrets from text.

Every message of this library passes through :func:`redact` on its way into an
exception, a signal file or a report, so no caller has to remember it.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MASK", "redact", "strip_userinfo"]

MASK: Final = "***"

# The user-info part of a URL: everything between "://" and the last "@" before
# the path. Greedy on purpose: a password may itself hold an "@".
_USERINFO: Final = re.compile(r"(?<=://)[^/\s<>?#]*@")

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
        url: A URL, or any text that holds URLs.

    Returns:
        The same text; ``https://user:secret@host/x`` becomes ``https://host/x``.
    """
    return _USERINFO.sub("", url)


def redact(text: str, *secrets: str) -> str:
    """Return ``text`` with everything that is or looks like a secret masked.

    Args:
        text: Text for a person: a message, a log line, the body of a report.
        *secrets: Values known to be secret here, masked wherever they occur.

    Returns:
        The text with user-info removed from URLs, and known secrets, GitHub tokens
        and authorization headers replaced by ``***``.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        if secret:
            text = text.replace(secret, MASK)
    text = strip_userinfo(text)
    text = _TOKENS.sub(MASK, text)
    return _HEADER.sub(rf"\g<1>{MASK}", text)
