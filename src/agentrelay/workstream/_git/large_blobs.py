"""Writing large files from a repository's objects piece by piece.

libgit2 holds the whole of a blob in memory, twice for a moment. Git stores what is large as
it is, without a delta: such an object is one compressed stream, in a file of its own or in a
pack, and is written here in pieces. Its bytes are proved by its name, as ever. Whatever is
stored in another way is for libgit2.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import pygit2

from agentrelay.workstream._git.proven_copies import write_all

__all__ = ["LargeBlobs"]

# From this size on. Below it libgit2 is quicker, and two files at a time take little.
_LARGE_BYTES: Final = 16 << 20
# What takes less room cannot be large: zlib makes at most 1,032 bytes of one.
_SUSPECT_BYTES: Final = _LARGE_BYTES // 1032
_PIECE_BYTES: Final = 1 << 20
_ID_BYTES: Final = 20
# gitformat-pack(5), "object types": the one of a blob that is no delta.
_BLOB: Final = 3
_INDEX_MAGIC: Final = b"\xfftOc\x00\x00\x00\x02"
_FANOUT_END: Final = len(_INDEX_MAGIC) + 256 * 4
# An offset with this bit is the number of one in the table of large ones.
_LARGE_OFFSET: Final = 1 << 31
# "blob", a size, and a NUL.
_LONGEST_HEADER: Final = 32
# How deep objects may be borrowed from others that borrow; git's own limit.
_DEEPEST: Final = 5


class LargeBlobs:
    """The large blobs of a repository, found at once; asking for the size of each is slow."""

    def __init__(self, common_dir: Path) -> None:
        """Look for objects that may be large.

        Args:
            common_dir: The repository's common directory.
        """
        self._objects_dir = common_dir / "objects"
        self._suspects: set[bytes] = set()
        for objects_dir in _object_dirs(self._objects_dir, _DEEPEST):
            for index in (objects_dir / "pack").glob("*.idx"):
                with suppress(FileNotFoundError):
                    self._suspects.update(_suspects_in(index))
            self._suspects.update(_loose_suspects(objects_dir))

    def has(self, object_id: bytes, handle: pygit2.Repository) -> bool:
        """Tell whether a blob is here and so large that it should not be held in memory.

        Args:
            object_id: Its binary id.
            handle: The repository, open in this thread.
        """
        if object_id not in self._suspects:
            return False
        try:
            _, size_bytes = handle.odb.read_header(pygit2.Oid(raw=object_id))
        except (KeyError, pygit2.GitError):
            return False
        return int(size_bytes) >= _LARGE_BYTES

    def write(self, object_id: bytes, descriptor: int) -> bool:
        """Write a blob to an open, empty file, if it is stored as one stream.

        Args:
            object_id: Its binary id.
            descriptor: The file.

        Returns:
            Whether it was written, every byte proved. If not, there may be anything in it.

        Raises:
            OSError: An object cannot be read, or the file not be written.
        """
        for pieces in self._streams(object_id):
            digest = hashlib.sha1(next(pieces, b""), usedforsecurity=False)
            with suppress(zlib.error):
                for piece in pieces:
                    digest.update(piece)
                    write_all(descriptor, piece)
            if digest.digest() == object_id:
                return True
            # Damaged, and perhaps whole elsewhere.
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
        return False

    def _streams(self, object_id: bytes) -> Iterator[Iterator[bytes]]:
        """Iterate over the places where a blob is one stream: its header, then its pieces."""
        name = object_id.hex()
        for objects_dir in _object_dirs(self._objects_dir, _DEEPEST):
            with (
                suppress(FileNotFoundError),
                (objects_dir / name[:2] / name[2:]).open("rb") as stream,
            ):
                yield _loose(stream)
            for index in sorted((objects_dir / "pack").glob("*.idx")):
                # Packs go, with all they hold, when others were made of them.
                with suppress(FileNotFoundError):
                    offset = _offset_in(index, object_id)
                    if offset is not None:
                        with index.with_suffix(".pack").open("rb") as stream:
                            stream.seek(offset)
                            yield _packed(stream)


def _object_dirs(objects_dir: Path, depth: int) -> Iterator[Path]:
    """Iterate over a directory of objects and those it borrows from.

    Source:
        gitrepository-layout(5), "objects/info/alternates".
    """
    yield objects_dir
    with suppress(FileNotFoundError, NotADirectoryError):
        for line in (objects_dir / "info" / "alternates").read_bytes().splitlines():
            if line and line[:1] not in {b"#", b'"'} and depth:
                yield from _object_dirs(objects_dir / os.fsdecode(line), depth - 1)


def _suspects_in(index: Path) -> Iterator[bytes]:
    """Iterate over the objects of a pack that take much room in it."""
    size_bytes = index.with_suffix(".pack").stat().st_size
    with index.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(_INDEX_MAGIC)] != _INDEX_MAGIC or size_bytes < _SUSPECT_BYTES:
            return
        count = int.from_bytes(data[_FANOUT_END - 4 : _FANOUT_END], "big")
        table = _FANOUT_END + count * (_ID_BYTES + 4)
        offsets = list(struct.unpack_from(f">{count}I", data, table))
        table += count * 4
        # None in a pack of less than 2 GiB, mostly.
        for row, offset in enumerate(offsets) if max(offsets, default=0) & _LARGE_OFFSET else ():
            if offset & _LARGE_OFFSET:
                place = table + (offset ^ _LARGE_OFFSET) * 8
                offsets[row] = int.from_bytes(data[place : place + 8], "big")
        ordered = sorted(offsets)
        ends = [*ordered[1:], size_bytes]
        wide = [
            start for start, end in zip(ordered, ends, strict=True) if end - start >= _SUSPECT_BYTES
        ]
        rows = {offset: row for row, offset in enumerate(offsets)} if wide else {}
        for start in wide:
            place = _FANOUT_END + rows[start] * _ID_BYTES
            yield data[place : place + _ID_BYTES]


def _loose_suspects(objects_dir: Path) -> Iterator[bytes]:
    """Iterate over the objects in large files of their own."""
    for number in range(256):
        with suppress(OSError, ValueError), os.scandir(f"{objects_dir}/{number:02x}") as items:
            for item in items:
                if item.stat().st_size >= _SUSPECT_BYTES:
                    yield bytes.fromhex(f"{number:02x}{item.name}")


def _offset_in(index: Path, object_id: bytes) -> int | None:
    """Return where an object begins in a pack, by the pack's index.

    Source:
        gitformat-pack(5), "Version 2 pack-*.idx files".
    """
    with index.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(_INDEX_MAGIC)] != _INDEX_MAGIC:
            return None

        def number(place: int) -> int:
            return int.from_bytes(data[place : place + 4], "big")

        def name(row: int) -> bytes:
            place = _FANOUT_END + row * _ID_BYTES
            return data[place : place + _ID_BYTES]

        fan = len(_INDEX_MAGIC) + object_id[0] * 4
        first = number(fan - 4) if object_id[0] else 0
        count, end = number(_FANOUT_END - 4), number(fan)
        row = bisect_left(range(end), object_id, lo=first, key=name)
        if row >= end or name(row) != object_id:
            return None
        # Behind the names is a sum of each object.
        offsets = _FANOUT_END + count * (_ID_BYTES + 4)
        offset = number(offsets + row * 4)
        if offset & _LARGE_OFFSET:
            place = offsets + count * 4 + (offset ^ _LARGE_OFFSET) * 8
            offset = int.from_bytes(data[place : place + 8], "big")
        return offset


def _packed(stream: BinaryIO) -> Iterator[bytes]:
    """Iterate over a packed blob; over nothing where there is a delta, or no blob."""
    byte = stream.read(1)[0]
    kind, size_bytes, shift = byte >> 4 & 7, byte & 15, 4
    while byte & 0x80:
        byte = stream.read(1)[0]
        size_bytes |= (byte & 0x7F) << shift
        shift += 7
    if kind == _BLOB:
        yield b"blob %d\0" % size_bytes
        yield from _inflated(stream)


def _loose(stream: BinaryIO) -> Iterator[bytes]:
    """Iterate over a blob in a file of its own."""
    pieces = _inflated(stream)
    with suppress(zlib.error):
        first = next(pieces, b"")
        end = first.find(b"\0", 0, _LONGEST_HEADER) + 1
        if end and first.startswith(b"blob "):
            yield first[:end]
            yield first[end:]
            yield from pieces


def _inflated(stream: BinaryIO) -> Iterator[bytes]:
    """Iterate over what a stream was before it was compressed; it ends where that ends."""
    machine = zlib.decompressobj()
    while not machine.eof:
        data = machine.unconsumed_tail or stream.read(_PIECE_BYTES)
        if not data:
            return
        yield machine.decompress(data, _PIECE_BYTES)
