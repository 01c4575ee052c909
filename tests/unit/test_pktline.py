"""Frames: what is framed is read back, and nothing else is taken for a frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.workstream.testing._pktline import (
    BAND_PACK,
    FLUSH,
    MAX_PAYLOAD_BYTES,
    PktLineError,
    PktLineReader,
    frame,
    side_band,
)

_PAYLOADS = st.lists(st.binary(max_size=40), max_size=8)


@given(_PAYLOADS, st.binary(max_size=40))
def test_a_section_reads_back_what_was_framed_and_leaves_the_rest(
    payloads: list[bytes], rest: bytes
) -> None:
    """Framing and reading are inverse, and bytes after the flush are not touched."""
    reader = PktLineReader(b"".join(map(frame, payloads)) + FLUSH + rest)
    lines = []
    while (line := reader.line()) is not None:
        lines.append(line)
    assert lines == payloads
    assert reader.rest == rest
    assert reader.at_end is (rest == b"")


@given(_PAYLOADS, st.data())
def test_a_section_that_is_cut_anywhere_is_an_error(
    payloads: list[bytes], data: st.DataObject
) -> None:
    """No beginning of a section is mistaken for the section."""
    whole = b"".join(map(frame, payloads)) + FLUSH
    stop = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(PktLineError):
        PktLineReader(whole[:stop]).section()


@given(st.binary(max_size=60))
def test_any_bytes_are_lines_or_a_typed_error(noise: bytes) -> None:
    """Noise never raises anything but PktLineError, and never reads past the end."""
    reader = PktLineReader(noise)
    try:
        while not reader.at_end:
            reader.line()
    except PktLineError:
        pass
    assert noise.endswith(reader.rest)


@pytest.mark.parametrize(
    "noise", [b"0001", b"0002", b"0003", b"ffff", b"+00f", b"0_0f", b" 00f", b"00x4"]
)
def test_lengths_that_are_none_are_refused(noise: bytes) -> None:
    """Marks of protocol 2, lengths above the limit and Python's own spellings are no frames."""
    with pytest.raises(PktLineError):
        PktLineReader(noise + b"x" * 70000).line()


def test_a_section_drops_one_newline_of_each_line() -> None:
    """Lines come without the newline the protocol ends them with, and lose no more than that."""
    reader = PktLineReader(frame(b"a\n") + frame(b"b\n\n") + frame(b"") + FLUSH)
    assert reader.section() == [b"a", b"b\n", b""]


def test_the_longest_payload_fits_and_one_byte_more_does_not() -> None:
    """The limit of a frame is the protocol's: 65520 bytes with its length."""
    longest = b"x" * MAX_PAYLOAD_BYTES
    assert frame(longest)[:4] == b"fff0"
    assert PktLineReader(frame(longest)).line() == longest
    with pytest.raises(PktLineError):
        frame(longest + b"x")


def test_text_is_framed_as_utf8() -> None:
    """The length counts bytes, not characters."""
    assert frame("é\n") == b"0007\xc3\xa9\n"


@pytest.mark.parametrize("size", [0, 1, 65515, 65516, 200_000])
def test_a_band_carries_any_number_of_bytes(size: int) -> None:
    """Frames of a band join to what was sent, each with its band in front."""
    sent = bytes(range(256)) * (size // 256) + b"y" * (size % 256)
    reader = PktLineReader(side_band(BAND_PACK, sent) + FLUSH)
    frames = []
    while (line := reader.line()) is not None:
        frames.append(line)
    assert b"".join(line[1:] for line in frames) == sent
    assert {line[0] for line in frames} <= {BAND_PACK}
    assert all(len(line) > 1 for line in frames)
