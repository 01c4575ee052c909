"""Frames of git's wire protocol: pkt-lines and side bands. Bytes in, bytes out.

Source:
    gitprotocol-common(5), "pkt-line Format"; gitprotocol-pack(5), "Packfile Data".
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BAND_ERROR",
    "BAND_PACK",
    "BAND_PROGRESS",
    "FLUSH",
    "MAX_PAYLOAD_BYTES",
    "PktLineError",
    "PktLineReader",
    "frame",
    "side_band",
]

FLUSH: Final = b"0000"

# 65520 is the longest frame; four bytes of it are its length.
MAX_PAYLOAD_BYTES: Final = 65516
_LENGTH_BYTES: Final = 4

BAND_PACK: Final = 1
BAND_PROGRESS: Final = 2
BAND_ERROR: Final = 3

_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


class PktLineError(ValueError):
    """The bytes are not pkt-lines, or end in the middle of one."""


def frame(payload: bytes | str) -> bytes:
    """Return one pkt-line.

    Args:
        payload: What it carries; text is encoded as UTF-8. Nothing is appended: most
            lines of the protocol end in a newline, and the caller writes it.

    Raises:
        PktLineError: The payload is longer than a frame can be.
    """
    data = payload.encode() if isinstance(payload, str) else payload
    if len(data) > MAX_PAYLOAD_BYTES:
        raise PktLineError(f"a pkt-line holds {MAX_PAYLOAD_BYTES} bytes, not {len(data)}")
    return b"%04x%b" % (len(data) + _LENGTH_BYTES, data)


def side_band(band: int, data: bytes) -> bytes:
    """Return ``data`` as frames of one band of ``side-band-64k``.

    Args:
        band: :data:`BAND_PACK`, :data:`BAND_PROGRESS` or :data:`BAND_ERROR`.
        data: Any number of bytes; none gives no frame.
    """
    room = MAX_PAYLOAD_BYTES - 1
    prefix = bytes([band])
    return b"".join(
        frame(prefix + data[start : start + room]) for start in range(0, len(data), room)
    )


class PktLineReader:
    """Reads pkt-lines from the front of a body that may go on with something else."""

    def __init__(self, data: bytes) -> None:
        """Start at the first byte of ``data``."""
        self._data = data
        self._position = 0

    @property
    def at_end(self) -> bool:
        """Whether every byte was read."""
        return self._position == len(self._data)

    @property
    def rest(self) -> bytes:
        """The bytes not read yet: after a push's commands, the pack."""
        return self._data[self._position :]

    def line(self) -> bytes | None:
        """Read one frame.

        Returns:
            Its payload, or ``None`` for a flush.

        Raises:
            PktLineError: The data ends here or inside the frame, or it is no frame.
        """
        digits = self._data[self._position : self._position + _LENGTH_BYTES]
        if len(digits) < _LENGTH_BYTES:
            raise PktLineError("the data ends where a pkt-line should begin")
        # int() alone would take signs, spaces and underscores.
        if not _HEX.issuperset(digits):
            raise PktLineError(f"a pkt-line does not begin with {digits!r}")
        size = int(digits, 16)
        if size == 0:
            self._position += _LENGTH_BYTES
            return None
        # 1 and 2 are marks of protocol version 2, which is not spoken here; 3 is nothing.
        if size < _LENGTH_BYTES or size > MAX_PAYLOAD_BYTES + _LENGTH_BYTES:
            raise PktLineError(f"a pkt-line cannot have the length {size}")
        end = self._position + size
        if end > len(self._data):
            raise PktLineError(f"the data ends inside a pkt-line of {size} bytes")
        payload = self._data[self._position + _LENGTH_BYTES : end]
        self._position = end
        return payload

    def section(self) -> list[bytes]:
        """Read up to the next flush, and the flush.

        Returns:
            The payloads before it, without their final newlines.

        Raises:
            PktLineError: The data ends before a flush.
        """
        lines = []
        while (line := self.line()) is not None:
            lines.append(line.removesuffix(b"\n"))
        return lines
