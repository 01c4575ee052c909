"""Planned misbehaviour for the loopback servers.

A test says what goes wrong, how often and for which requests; the server does
it to the next requests that match. Nothing here opens a socket: a
:class:`Fault` is data, and the servers carry it out.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import KW_ONLY, dataclass, replace
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal, TypedDict, Unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Fault", "FaultKind", "FaultPlan"]

_JSON: Final = "application/json; charset=utf-8"

_PORTAL: Final = (
    "<!DOCTYPE html>\n<html><head><title>Sign in to the network</title></head>"
    "<body><h1>Welcome</h1><p>Please accept the terms to go on line.</p></body></html>\n"
)

# GitHub's wording, as far as clients match it ("Rate limits for the REST API",
# "Exceeding the rate limit"). Clients tell the two apart by this text alone: a
# secondary limit often comes without Retry-After and with requests remaining.
_PRIMARY: Final = (
    "API rate limit exceeded for user ID 1. If you reach out to GitHub Support for help,"
    " please include the request ID 0000:0000:0000."
)
_SECONDARY: Final = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
)
_LIMITS_PAGE: Final = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"


class _Where(TypedDict, total=False):
    """Which requests a fault is meant for; see :class:`Fault`."""

    method: str | None
    path: str | None
    times: int


class FaultKind(Enum):
    """What a fault does to one request."""

    ANSWER = "answer"
    CUT = "cut"
    DELAY = "delay"
    SILENCE = "silence"
    DROP_ANSWER = "drop answer"
    DRIBBLE = "dribble"
    REFUSE_REF = "refuse ref"


@dataclass(frozen=True)
class Fault:
    """One planned misbehaviour; build it with the class methods.

    Every class method also takes these keywords, which choose the requests:

    * ``method``: HTTP method (``"POST"``), or ``None`` for any;
    * ``path``: regular expression searched in the request's path with its query,
      or ``None`` for any;
    * ``times``: how many matching requests it happens to, from 1.

    Attributes:
        kind: What happens.
        code: HTTP status of a replaced answer.
        headers: Header lines of a replaced answer, as pairs.
        body: Body of a replaced answer.
        effect: ``"none"`` when a replaced answer means that nothing was done,
            ``"done"`` when the request took effect all the same.
        after_bytes: Body bytes sent before the connection closes.
        chunk_bytes: Body bytes sent at a time.
        pause_s: Pause before the answer, or between its chunks, in seconds.
        reset_s: Seconds until the rate limit's window ends, counted from the answer.
        ref: Full ref name the git server refuses.
        reason: Why, in the server's words.
    """

    kind: FaultKind
    _: KW_ONLY
    code: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    effect: Literal["none", "done"] = "none"
    after_bytes: int = 0
    chunk_bytes: int = 0
    pause_s: float = 0.0
    reset_s: float | None = None
    ref: str | None = None
    reason: str = ""
    method: str | None = None
    path: str | None = None
    times: int = 1

    def __post_init__(self) -> None:
        """Refuse a plan that could never happen, where it was written."""
        if self.times < 1:
            raise ValueError(f"a fault happens at least once, not {self.times} times")
        if min(self.after_bytes, self.chunk_bytes, self.pause_s) < 0:
            raise ValueError("a fault's sizes and pauses are not negative")
        if self.path is not None:
            re.compile(self.path)

    @classmethod
    def status(
        cls,
        code: int,
        *,
        body: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        content_type: str = _JSON,
        message: str | None = None,
        effect: Literal["none", "done"] = "none",
        **where: Unpack[_Where],
    ) -> Fault:
        """Answer with another status.

        Args:
            code: HTTP status of the answer.
            body: Its whole body; ``""`` for none. ``None`` writes ``message`` as JSON.
            headers: More header lines, as pairs.
            content_type: Content type of the body.
            message: GitHub's ``message`` field; the status's own phrase unless told.
            effect: ``"done"`` carries the request out first, as a gateway's 502 may hide.
            **where: ``method``, ``path`` and ``times``; see the class.
        """
        if body is None:
            body = json.dumps({"message": message or _phrase(code), "status": str(code)})
        return cls(
            FaultKind.ANSWER,
            code=code,
            headers=(("content-type", content_type), *headers),
            body=body.encode(),
            effect=effect,
            **where,
        )

    @classmethod
    def cut(cls, after_bytes: int, **where: Unpack[_Where]) -> Fault:
        """Carry the request out, send ``after_bytes`` of the body, close the connection.

        Args:
            after_bytes: Body bytes that still arrive; the head always does.
            **where: ``method``, ``path`` and ``times``; see the class.
        """
        return cls(FaultKind.CUT, after_bytes=after_bytes, **where)

    @classmethod
    def delay(cls, delay_s: float, **where: Unpack[_Where]) -> Fault:
        """Carry the request out at once and answer it late.

        Args:
            delay_s: How late, in seconds; closing the server ends it.
            **where: ``method``, ``path`` and ``times``; see the class.
        """
        return cls(FaultKind.DELAY, pause_s=delay_s, **where)

    @classmethod
    def silence(cls, **where: Unpack[_Where]) -> Fault:
        """Take the request, do nothing and never answer, until the server closes.

        Args:
            **where: ``method``, ``path`` and ``times``; see the class.
        """
        return cls(FaultKind.SILENCE, **where)

    @classmethod
    def drop_answer(cls, **where: Unpack[_Where]) -> Fault:
        """Carry the request out and close the connection without an answer.

        Args:
            **where: ``method``, ``path`` and ``times``; see the class.
        """
        return cls(FaultKind.DROP_ANSWER, **where)

    @classmethod
    def redirect(cls, location: str, *, code: int = 301, **where: Unpack[_Where]) -> Fault:
        """Send the client elsewhere, in GitHub's words.

        Args:
            location: Value of the ``Location`` header.
            code: 301, 302, 307 or 308.
            **where: ``method``, ``path`` and ``times``; see the class.
        """
        body = json.dumps({"message": "Moved Permanently", "url": location})
        return cls.status(code, body=body, headers=[("location", location)], **where)

    @classmethod
    def html(cls, code: int = 200, **where: Unpack[_Where]) -> Fault:
        """Answer as a captive portal does: a page instead of the answer.

        Args:
            code: HTTP status of the page.
            **where: ``method``, ``path`` and ``times``; see the class.
        """
        return cls.status(code, body=_PORTAL, content_type="text/html; charset=utf-8", **where)

    @classmethod
    def dribble(cls, chunk_bytes: int, pause_s: float, **where: Unpack[_Where]) -> Fault:
        """Carry the request out and send the answer's body slowly.

        Args:
            chunk_bytes: Body bytes at a time, at least 1.
            pause_s: Pause before each chunk, in seconds.
            **where: ``method``, ``path`` and ``times``; see the class.
        """
        if chunk_bytes < 1:
            raise ValueError("an answer dribbles at least one byte at a time")
        return cls(FaultKind.DRIBBLE, chunk_bytes=chunk_bytes, pause_s=pause_s, **where)

    @classmethod
    def refuse_ref(cls, ref: str, reason: str, **where: Unpack[_Where]) -> Fault:
        """Refuse one ref of a push, as a hook or a rule does; git server only.

        Args:
            ref: Full name of the ref.
            reason: The server's words; they follow ``ng <ref>`` in the report.
            **where: ``times``; see the class.

        Source:
            gitprotocol-pack(5), "report-status".
        """
        return cls(FaultKind.REFUSE_REF, ref=ref, reason=reason, **where)

    @classmethod
    def rate_limit(
        cls,
        *,
        code: int = 403,
        retry_after_s: int | None = None,
        reset_s: float | None = None,
        secondary: bool = False,
        **where: Unpack[_Where],
    ) -> Fault:
        """Refuse with one of GitHub's rate limits.

        Args:
            code: 403, or 429, which GitHub uses as well.
            retry_after_s: Value of ``Retry-After`` in seconds, or ``None`` for no such line.
            reset_s: Seconds until ``x-ratelimit-reset``; an hour for a primary limit.
            secondary: Not a used-up quota but the limit on bursts, which leaves requests.
            **where: ``method``, ``path`` and ``times``; see the class.

        Source:
            "Rate limits for the REST API", docs.github.com; and that secondary limits
            come without ``Retry-After`` too: scala-steward-org/scala-steward issue 2355.
        """
        headers = [
            ("x-ratelimit-limit", "5000"),
            ("x-ratelimit-remaining", "4290" if secondary else "0"),
            ("x-ratelimit-used", "710" if secondary else "5000"),
            ("x-ratelimit-resource", "core"),
        ]
        if retry_after_s is not None:
            headers.append(("retry-after", str(retry_after_s)))
        text = _SECONDARY if secondary else _PRIMARY
        body = json.dumps({"message": text, "documentation_url": _LIMITS_PAGE})
        fault = cls.status(code, body=body, headers=headers, **where)
        return replace(fault, reset_s=3600.0 if reset_s is None else reset_s)

    def matches(self, method: str, path: str) -> bool:
        """Tell whether this fault is meant for a request.

        Args:
            method: The request's method.
            path: Its path with its query.
        """
        if self.method is not None and self.method.upper() != method:
            return False
        return self.path is None or re.search(self.path, path) is not None


class FaultPlan:
    """The misbehaviour still to come, in order; safe to use from any thread."""

    def __init__(self) -> None:
        """Start with nothing planned."""
        self._lock = threading.Lock()
        self._queue: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        """Plan ``faults``, after what is planned already."""
        with self._lock:
            self._queue.extend(faults)

    def take(self, method: str, path: str) -> Fault | None:
        """Use up one occurrence of the first fault meant for a request.

        Args:
            method: The request's method.
            path: Its path with its query.

        Returns:
            The fault, or ``None``. Refused refs are not requests: see :meth:`take_ref`.
        """
        return self._take(
            lambda fault: fault.kind is not FaultKind.REFUSE_REF and fault.matches(method, path)
        )

    def take_ref(self, ref: str) -> Fault | None:
        """Use up one planned refusal of ``ref`` (a full name), if there is one."""
        return self._take(lambda fault: fault.kind is FaultKind.REFUSE_REF and fault.ref == ref)

    @property
    def pending(self) -> tuple[Fault, ...]:
        """What has not happened yet; ``times`` is what is left of each."""
        with self._lock:
            return tuple(self._queue)

    def clear(self) -> None:
        """Plan nothing any more."""
        with self._lock:
            self._queue.clear()

    def _take(self, wanted: Callable[[Fault], bool]) -> Fault | None:
        with self._lock:
            for index, fault in enumerate(self._queue):
                if wanted(fault):
                    if fault.times == 1:
                        del self._queue[index]
                    else:
                        self._queue[index] = replace(fault, times=fault.times - 1)
                    return fault
        return None


def _phrase(code: int) -> str:
    """Return the standard phrase of a status, or a neutral one."""
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return "Error"
