"""Git's packs and objects as data: what a push sends, unpacked without a repository.

libgit2's own indexer is not bound by pygit2, and the packs of tests are small. Unpacked
objects also stay in memory until a push is accepted, so a refused one leaves nothing.

Source:
    gitformat-pack(5), "pack-*.pack files have the following format"; gitformat-pack(5),
    "Deltified representation".
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["COMMIT", "TAG", "TREE", "PackError", "PackedObject", "links", "tree_entries", "unpack"]

COMMIT: Final = 1
TREE: Final = 2
_BLOB: Final = 3
TAG: Final = 4
_OFS_DELTA: Final = 6
_REF_DELTA: Final = 7

_NAMES: Final = {COMMIT: b"commit", TREE: b"tree", _BLOB: b"blob", TAG: b"tag"}

_HEADER_BYTES: Final = 12
_SUM_BYTES: Final = 20
_ID_BYTES: Final = 20

# How much is given to the inflater at a time. It copies what it did not need, so
# giving it the rest of a large pack for each small object would cost the square.
_WINDOW_BYTES: Final = 4096

# Trees name submodules' commits, which live in another repository.
_SUBMODULE_MODE: Final = b"160000"
_TREE_MODE: Final = b"40000"


class PackError(ValueError):
    """The pack, or an object in it, is damaged or incomplete."""


class PackedObject(NamedTuple):
    """One object.

    Attributes:
        kind: Its type's number: commit 1, tree 2, blob 3, tag 4.
        data: Its content.
    """

    kind: int
    data: bytes


@dataclass
class _Entry:
    """One entry as it stands in the pack: an object, or a delta against its base."""

    kind: int
    data: bytes
    base: int | str | None


def unpack(pack: bytes, outside: Callable[[str], PackedObject | None]) -> dict[str, PackedObject]:
    """Return the objects of a pack by id.

    Args:
        pack: The whole pack.
        outside: Finds an object that is not in the pack by its id: the base of a delta
            in a thin pack.

    Raises:
        PackError: The pack is cut off or damaged, or the base of a delta is nowhere.
    """
    try:
        waiting = dict(_entries(pack))
    except IndexError as error:
        raise PackError("an object in the pack is cut off") from error
    by_offset: dict[int, PackedObject] = {}
    by_id: dict[str, PackedObject] = {}
    while waiting:
        later: dict[int, _Entry] = {}
        for offset, entry in waiting.items():
            if entry.base is None:
                item = PackedObject(entry.kind, entry.data)
            else:
                base = _base(entry.base, by_offset, by_id, outside)
                if base is None:
                    later[offset] = entry
                    continue
                item = PackedObject(base.kind, _patched(base.data, entry.data))
            by_offset[offset] = item
            by_id[_object_id(item)] = item
        # A base may stand behind its delta, so go round again while that helps.
        if len(later) == len(waiting):
            raise PackError(f"pack has {len(later)} unresolved deltas")
        waiting = later
    return by_id


def _base(
    base: int | str,
    by_offset: dict[int, PackedObject],
    by_id: dict[str, PackedObject],
    outside: Callable[[str], PackedObject | None],
) -> PackedObject | None:
    if isinstance(base, int):
        return by_offset.get(base)
    return by_id.get(base) or outside(base)


def _object_id(item: PackedObject) -> str:
    header = b"%b %d\0" % (_NAMES[item.kind], len(item.data))
    return hashlib.sha1(header + item.data, usedforsecurity=False).hexdigest()


def _entries(pack: bytes) -> Iterator[tuple[int, _Entry]]:
    """Yield the entries of a pack by offset, its checksum verified."""
    end = len(pack) - _SUM_BYTES
    if end < _HEADER_BYTES or pack[:4] != b"PACK":
        raise PackError("not a pack, or cut off")
    version, count = (int.from_bytes(pack[at : at + 4]) for at in (4, 8))
    if version != 2:  # noqa: PLR2004  # the only version git writes
        raise PackError(f"pack version {version} is not supported")
    if hashlib.sha1(pack[:end], usedforsecurity=False).digest() != pack[end:]:
        raise PackError("pack is damaged or cut off: its checksum does not match")
    # Without its checksum, so that what runs over the end is noticed as such.
    pack = pack[:end]
    position = _HEADER_BYTES
    for _ in range(count):
        offset = position
        kind, size, position = _entry_header(pack, position)
        base: int | str | None = None
        if kind == _OFS_DELTA:
            distance, position = _distance(pack, position)
            base = offset - distance
        elif kind == _REF_DELTA:
            base = pack[position : position + _ID_BYTES].hex()
            position += _ID_BYTES
        elif kind not in _NAMES:
            raise PackError(f"pack has an object of unknown type {kind}")
        data, position = _inflated(pack, position)
        if len(data) != size:
            raise PackError(f"an object in the pack has {len(data)} bytes instead of {size}")
        yield offset, _Entry(kind, data, base)
    if position != end:
        raise PackError("pack has bytes after its last object")


def _entry_header(pack: bytes, position: int) -> tuple[int, int, int]:
    """Read type and size: three bits and four, then seven more for each further byte."""
    byte = pack[position]
    kind, size, shift = byte >> 4 & 7, byte & 15, 4
    while byte & 0x80:
        position += 1
        byte = pack[position]
        size |= (byte & 0x7F) << shift
        shift += 7
    return kind, size, position + 1


def _distance(pack: bytes, position: int) -> tuple[int, int]:
    """Read how far back a base is: big-endian, with one added at each further byte."""
    byte = pack[position]
    value = byte & 0x7F
    while byte & 0x80:
        position += 1
        byte = pack[position]
        value = (value + 1 << 7) | (byte & 0x7F)
    return value, position + 1


def _inflated(pack: bytes, position: int) -> tuple[bytes, int]:
    inflater = zlib.decompressobj()
    parts = []
    try:
        while not inflater.eof:
            if position >= len(pack):
                raise PackError("an object in the pack is cut off")
            stop = min(position + _WINDOW_BYTES, len(pack))
            parts.append(inflater.decompress(pack[position:stop]))
            position = stop
    except zlib.error as error:
        raise PackError(f"an object in the pack is damaged: {error}") from error
    return b"".join(parts), position - len(inflater.unused_data)


def _patched(base: bytes, delta: bytes) -> bytes:
    """Return what a delta makes of its base."""
    try:
        base_size, position = _delta_size(delta, 0)
        size, position = _delta_size(delta, position)
        parts = []
        while position < len(delta):
            code = delta[position]
            position += 1
            if code & 0x80:
                start = length = 0
                for bit in range(7):
                    if code >> bit & 1:
                        if bit < 4:  # noqa: PLR2004  # four bytes of offset, then three of length
                            start |= delta[position] << 8 * bit
                        else:
                            length |= delta[position] << 8 * (bit - 4)
                        position += 1
                length = length or 0x10000
                if start + length > len(base):
                    raise PackError("a delta in the pack copies from behind its base's end")
                parts.append(base[start : start + length])
            elif code:
                parts.append(delta[position : position + code])
                position += code
            else:
                raise PackError("a delta in the pack has a reserved instruction")
    except IndexError as error:
        raise PackError("a delta in the pack is cut off") from error
    result = b"".join(parts)
    # Past the end of the delta: its last insert promised more bytes than there are.
    if position != len(delta) or len(base) != base_size or len(result) != size:
        raise PackError("a delta in the pack does not fit its base")
    return result


def _delta_size(delta: bytes, position: int) -> tuple[int, int]:
    size = shift = 0
    while True:
        byte = delta[position]
        position += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return size, position


def tree_entries(data: bytes) -> Iterator[tuple[bytes, int | None, str]]:
    """Yield what is in a tree.

    Args:
        data: Content of a tree object.

    Returns:
        Name, type number (``None`` for a submodule's commit) and id of each entry.

    Raises:
        PackError: It is no tree.
    """
    position = 0
    while position < len(data):
        stop = data.find(b"\0", position)
        mode, space, name = data[position:stop].partition(b" ")
        position = stop + 1 + _ID_BYTES
        if stop < 0 or not space or not name or position > len(data):
            raise PackError("bad tree object")
        kind = None if mode == _SUBMODULE_MODE else TREE if mode == _TREE_MODE else _BLOB
        yield name, kind, data[position - _ID_BYTES : position].hex()


def links(item: PackedObject) -> list[str]:
    """Return the ids of the objects that an object needs.

    Args:
        item: The object.

    Raises:
        PackError: It is not what its type says.
    """
    if item.kind == TREE:
        return [oid for _, kind, oid in tree_entries(item.data) if kind is not None]
    if item.kind == _BLOB:
        return []
    head = item.data.partition(b"\n\n")[0].split(b"\n")
    wanted = (b"tree ", b"parent ") if item.kind == COMMIT else (b"object ",)
    found = [line.partition(b" ")[2].decode() for line in head if line.startswith(wanted)]
    if not head[0].startswith(wanted[0]):
        raise PackError(f"bad {_NAMES[item.kind].decode()} object")
    return found
