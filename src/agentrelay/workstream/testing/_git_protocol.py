"""Requests and answers of git's smart HTTP protocol, versions 0 and 1, as data.

Nothing here knows a socket or a repository: bytes become requests, and verdicts
become bytes. A client that asks for version 2 gets version 0, as from an older
server, and follows.

Source:
    gitprotocol-http(5), gitprotocol-pack(5), gitprotocol-capabilities(5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from agentrelay.workstream.testing._pktline import (
    BAND_PACK,
    BAND_PROGRESS,
    FLUSH,
    PktLineReader,
    frame,
    side_band,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "NO_ID",
    "ProtocolError",
    "PushRequest",
    "RefUpdate",
    "UploadRequest",
    "advertise",
    "push_report",
]

NO_ID: Final = "0" * 40
"""The id that stands for "no object": a ref that is created or deleted."""

_AGENT: Final = "agent=agentrelay-workstream-testing"

_CAPABILITIES: Final = {
    "git-upload-pack": (
        f"multi_ack multi_ack_detailed side-band-64k ofs-delta no-progress shallow {_AGENT}"
    ),
    "git-receive-pack": (
        f"report-status delete-refs side-band-64k quiet atomic ofs-delta {_AGENT}"
    ),
}

_ID: Final = re.compile(r"[0-9a-f]{40}")


class ProtocolError(ValueError):
    """The request is not what the protocol allows; the text is for the client."""


def _checked_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ProtocolError(f"protocol error: expected an object id, got {text[:60]!r}")
    return text


def _known_id(text: str) -> str | None:
    return None if _checked_id(text) == NO_ID else text


def advertise(
    service: str, entries: Iterable[tuple[str, str]], *, symrefs: Mapping[str, str]
) -> bytes:
    """Return the answer to ``GET info/refs?service=...``.

    Args:
        service: ``git-upload-pack`` or ``git-receive-pack``.
        entries: Names and ids, in the order in which they are shown.
        symrefs: Targets of symbolic refs by name.
    """
    capabilities = "".join(f"symref={name}:{to} " for name, to in symrefs.items())
    capabilities += _CAPABILITIES[service]
    shown = list(entries) or [("capabilities^{}", NO_ID)]
    lines = [f"{oid} {name}" for name, oid in shown]
    lines[0] += f"\0{capabilities}"
    return b"".join(
        [frame(f"# service={service}\n"), FLUSH, *(frame(f"{line}\n") for line in lines), FLUSH]
    )


@dataclass(frozen=True)
class UploadRequest:
    """What a fetch asks for in one request.

    Attributes:
        wants: Ids it wants, in order.
        capabilities: What the client chose.
        shallow: Commits whose parents the client lacks.
        depth: How many generations it wants, or ``None`` for all.
        rounds: Ids it has, one list for each flush it sent.
        done: Whether it wants the pack now.
    """

    wants: tuple[str, ...]
    capabilities: frozenset[str]
    shallow: frozenset[str]
    depth: int | None
    rounds: tuple[tuple[str, ...], ...]
    done: bool

    @property
    def haves(self) -> tuple[str, ...]:
        """Every id the client says it has."""
        return tuple(oid for round_ in self.rounds for oid in round_)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read the body of ``POST git-upload-pack``.

        Raises:
            ProtocolError: It asks for nothing, or for something not on offer.
            PktLineError: It is cut off or not framed.
        """
        reader = PktLineReader(body)
        wants: list[str] = []
        shallow: set[str] = set()
        capabilities: frozenset[str] = frozenset()
        depth = None
        for raw in reader.section():
            word, _, value = raw.decode().partition(" ")
            if word == "want":
                oid, _, chosen = value.partition(" ")
                wants.append(_checked_id(oid))
                if len(wants) == 1:
                    capabilities = frozenset(chosen.split())
            elif word == "shallow":
                shallow.add(_checked_id(value))
            elif word == "deepen" and value.isdecimal():
                depth = int(value) or None
            else:
                raise ProtocolError(f"protocol error: unexpected {raw[:60]!r}")
        rounds, done = _read_haves(reader)
        return cls(tuple(wants), capabilities, frozenset(shallow), depth, rounds, done)


def _read_haves(reader: PktLineReader) -> tuple[tuple[tuple[str, ...], ...], bool]:
    """Read ``have`` lines up to ``done`` or to the end of the request."""
    rounds: list[tuple[str, ...]] = []
    current: list[str] = []
    while not reader.at_end:
        raw = reader.line()
        if raw is None:
            rounds.append(tuple(current))
            current = []
            continue
        word, _, value = raw.decode().removesuffix("\n").partition(" ")
        if word == "done":
            return (*rounds, tuple(current)), True
        if word != "have":
            raise ProtocolError(f"protocol error: expected have or done, got {raw[:60]!r}")
        current.append(_checked_id(value))
    return tuple(rounds), False


@dataclass(frozen=True)
class RefUpdate:
    """One command of a push.

    Attributes:
        ref: Full ref name.
        old_id: Where the client believes it is, or ``None`` for nowhere.
        new_id: Where it shall be, or ``None`` for nowhere.
    """

    ref: str
    old_id: str | None
    new_id: str | None


@dataclass(frozen=True)
class PushRequest:
    """What a push asks for.

    Attributes:
        updates: Its commands, in order; none for a client that only knocks.
        capabilities: What the client chose.
        pack: The pack, or nothing when refs are only deleted.
    """

    updates: tuple[RefUpdate, ...]
    capabilities: frozenset[str]
    pack: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read the body of ``POST git-receive-pack``.

        Raises:
            ProtocolError: A line is not a command.
            PktLineError: It is cut off or not framed.
        """
        reader = PktLineReader(body)
        updates: list[RefUpdate] = []
        capabilities: frozenset[str] = frozenset()
        for raw in reader.section():
            line, _, chosen = raw.decode().partition("\0")
            if line.startswith("shallow "):
                continue  # The client's history is cut there; connectivity is checked anyway.
            if not updates:
                capabilities = frozenset(chosen.split())
            old, _, tail = line.partition(" ")
            new, _, ref = tail.partition(" ")
            if any(update.ref == ref for update in updates):
                raise ProtocolError(f"multiple updates for ref '{ref}' not allowed")
            updates.append(RefUpdate(ref, _known_id(old), _known_id(new)))
        return cls(tuple(updates), capabilities, reader.rest)


def push_report(
    updates: Sequence[RefUpdate],
    refusals: Mapping[str, str],
    *,
    capabilities: frozenset[str],
    unpack: str = "ok",
    messages: Sequence[str] = (),
) -> bytes:
    """Return the answer to a push.

    Args:
        updates: The commands, in the client's order.
        refusals: Reasons by ref; a ref without one was updated.
        capabilities: What the client chose.
        unpack: ``ok``, or why the pack was not taken.
        messages: Lines for the person at the other end (``remote: ...``).

    Source:
        gitprotocol-pack(5), "Report Status". Without ``report-status`` nothing is said.
    """
    if "report-status" not in capabilities:
        return b""
    lines = [f"unpack {unpack}\n"]
    for update in updates:
        reason = refusals.get(update.ref)
        # A line break would end the report's line early.
        words = None if reason is None else " ".join(reason.split())
        lines.append(f"ok {update.ref}\n" if words is None else f"ng {update.ref} {words}\n")
    report = b"".join(map(frame, lines)) + FLUSH
    if "side-band-64k" not in capabilities:
        return report
    said = "".join(f"{message}\n" for message in messages).encode()
    return side_band(BAND_PROGRESS, said) + side_band(BAND_PACK, report) + FLUSH
