"""GitHub's rate limits: recognising one, and telling how long it asks to wait; pure.

Source:
    docs.github.com, "Rate limits for the REST API" (403 or 429; ``retry-after``,
    ``x-ratelimit-reset``) and "Best practices for using the REST API" (without either,
    at least a minute).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, overload

from agentrelay.workstream.errors import RateLimitedError, WorkstreamError

__all__ = ["come_back", "is_limit", "pause_of", "wait_of"]

_FORBIDDEN: Final = 403
_UNPROCESSABLE: Final = 422
_TOO_MANY: Final = 429

# GitHub's words for both kinds of rate limit, today's and the older ones. The headers
# do not tell a secondary limit: it comes with requests remaining and may come without
# Retry-After.
_LIMIT_TEXT: Final = re.compile(
    r"rate limit|abuse detection|temporarily blocked from content creation|submitted too quickly",
    re.IGNORECASE,
)

# The used-up quota of an hour; only that one ends when x-ratelimit-reset says.
_PRIMARY_TEXT: Final = re.compile(r"API rate limit exceeded", re.IGNORECASE)

# The last day a date can show: a header may say anything.
_LAST_DAY_S: Final = 253_370_764_800.0

# How long to wait where a limit does not say ("Best practices for using the REST API").
_UNSAID_PAUSE_S: Final = 60.0


def is_limit(status: int, text: str, headers: Mapping[str, str]) -> bool:
    """Tell a rate limit from a refusal, by its text first."""
    if status == _TOO_MANY:
        return True
    if status == _UNPROCESSABLE:
        return "submitted too quickly" in text
    return status == _FORBIDDEN and (
        bool(_LIMIT_TEXT.search(text))
        or "retry-after" in headers
        or headers.get("x-ratelimit-remaining") == "0"
    )


def wait_of(headers: Mapping[str, str], text: str, now_s: float) -> float | None:
    """Return the seconds to wait, from whichever header says so.

    A time of day is compared with the server's own, where the answer has it: a clock
    that is wrong here must not turn a minute into an hour.
    """
    now_s = _time_of(headers.get("date", ""), now_s)
    after = headers.get("retry-after", "").strip()
    if after.isdecimal():
        return float(after)
    if after and (then_s := _time_of(after, None)) is not None:
        return max(0.0, then_s - now_s)
    reset = headers.get("x-ratelimit-reset", "").strip()
    is_primary = headers.get("x-ratelimit-remaining") == "0" or bool(_PRIMARY_TEXT.search(text))
    if reset.isdecimal() and is_primary:
        return max(0.0, float(reset) - now_s)
    return None


def come_back(wait_s: float | None, now_s: float) -> str:
    """Say when to come back, by the clock everybody shares.

    Args:
        wait_s: Seconds GitHub asked to wait, ``None`` where it did not say.
        now_s: Time of day, in seconds since 1970.
    """
    after_s = now_s + (_UNSAID_PAUSE_S if wait_s is None else wait_s)
    when = datetime.fromtimestamp(min(after_s, _LAST_DAY_S), UTC).strftime("%Y-%m-%d %H:%M:%S")
    pause = "without saying how long" if wait_s is None else f"of {wait_s:.0f} s"
    return f"come back after {when} UTC: GitHub asked for a pause {pause}"


def pause_of(error: WorkstreamError) -> float | None:
    """Return the seconds to wait before trying again, ``None`` where nobody asked for a wait.

    A limit that does not say how long gets the minute GitHub's documentation names; a
    creation that came "too quickly" asks for no particular time.
    """
    if not isinstance(error, RateLimitedError):
        return None
    if error.retry_after_s is None and error.status != _UNPROCESSABLE:
        return _UNSAID_PAUSE_S
    return error.retry_after_s


@overload
def _time_of(text: str, default: float) -> float: ...
@overload
def _time_of(text: str, default: None) -> float | None: ...
def _time_of(text: str, default: float | None) -> float | None:
    """Read a date of HTTP as seconds since 1970."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return default
