"""Reading a worktree's index for what it says of files: names, ids and stat data.

libgit2 makes an object of each entry, and reads the whole configuration first. Here the
entries are taken apart all at once, into columns. Whatever is not the plain format is
refused: then libgit2 must be asked.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
from dataclasses import dataclass
from itertools import chain, groupby, repeat
from pathlib import Path
from typing import Final

__all__ = ["KEPT_BITS", "LOW", "StatIndex", "read_stat_index", "tree_id_of"]

# Ten numbers, object id, flags, path, padding.
_ENTRY: Final = re.compile(rb"(.{40})(.{20})(..)([^\0]+)\0{1,8}", re.DOTALL)
_PARTS: Final = 5
# Without path and padding, which makes it a multiple of eight by one byte to eight.
_FIXED_BYTES: Final = 62
_NUMBERS: Final = 10
_HEADER: Final = struct.Struct(">4sII")
_TRAILER_BYTES: Final = 20
# Version 3 is 2 with entries of more flags, which are refused one by one.
_VERSIONS: Final = (2, 3)
_BILLION: Final = 1_000_000_000
# gitformat-index(5): numbers are kept modulo 2**32.
LOW: Final = 0xFFFFFFFF
# All that git keeps of a mode: the kind of file, and whether its owner may execute it.
KEPT_BITS: Final = 0o170000 | stat.S_IXUSR
# By mode in the index: those bits, as a file has them.
_BITS: Final = {
    0o100644: stat.S_IFREG,
    0o100755: stat.S_IFREG | stat.S_IXUSR,
    0o120000: stat.S_IFLNK | stat.S_IXUSR,
}
# By those bits: how an entry of a tree begins.
_SPELLED: Final = {bits: b"%o " % mode for mode, bits in _BITS.items()}


@dataclass(frozen=True, slots=True)
class StatIndex:
    """An index, in columns: one row is one file or link, in git's order.

    Attributes:
        written_ns: When the index was written, in nanoseconds.
        names: Names in their folder.
        ids: Binary object ids.
        bits: ``KEPT_BITS`` of the modes, as files have them.
        changed_ns: Times of the last change, in nanoseconds.
        modified_ns: Times of the last modification, in nanoseconds.
        inodes: Numbers of the inodes, modulo 2**32.
        owners: Numbers of the owners.
        groups: Numbers of the groups.
        sizes: Sizes in bytes, modulo 2**32.
        folders: By path, ending in ``/`` but for the top, which is empty, what is right in a
            folder, in git's order: the name of a folder, or the first row of some files and
            the one behind the last. Each folder comes after the one it is in.
    """

    written_ns: int
    names: list[str]
    ids: list[bytes]
    bits: list[int]
    changed_ns: list[int]
    modified_ns: list[int]
    inodes: tuple[int, ...]
    owners: tuple[int, ...]
    groups: tuple[int, ...]
    sizes: tuple[int, ...]
    folders: dict[str, list[str | tuple[int, int]]]


def read_stat_index(path: Path) -> StatIndex | None:
    """Read an index, or return ``None`` where anything about it is not plain.

    Plain are files and links that are not in conflict, without flags, in a whole file of the
    usual format. What is said of them may still be wrong, and in any order: it is for the
    caller to compare.

    Args:
        path: The index.

    Raises:
        OSError: It cannot be read.

    Source:
        gitformat-index(5), versions 2 and 3, and "Extensions".
    """
    with path.open("rb", buffering=0) as stream:
        written_ns = os.fstat(stream.fileno()).st_mtime_ns
        raw = stream.read()
    count = _count_of(raw)
    if not count:
        return None
    # Flat, for the sake of time. What follows the entries may look like some more.
    parts = _ENTRY.split(raw[_HEADER.size :], count)
    if len(parts) != count * _PARTS + 1:
        return None
    paths = parts[4::_PARTS]
    flags = struct.unpack(f">{count}H", b"".join(parts[3::_PARTS]))
    # Any flag, any stage, and any entry that was found at a wrong place is in these. So is a
    # name of 4 KiB.
    if list(flags) != list(map(len, paths)):
        return None
    numbers = struct.unpack(f">{count * _NUMBERS}I", b"".join(parts[1::_PARTS]))
    column = [numbers[place::_NUMBERS] for place in range(_NUMBERS)]
    # What follows may begin with a byte that looks like one more of padding: a hash, say.
    end = _HEADER.size + sum((_FIXED_BYTES + len(path) + 8) & ~7 for path in paths)
    if not set(column[6]) <= _BITS.keys() or not _are_harmless(raw[end:]):
        return None
    shown = os.fsdecode(b"\0".join(paths)).split("\0")
    names = [path.rpartition("/")[2] for path in shown]
    return StatIndex(
        written_ns=written_ns,
        names=names,
        ids=parts[2::_PARTS],
        bits=list(map(_BITS.__getitem__, column[6])),
        changed_ns=_together(column[0], column[1]),
        modified_ns=_together(column[2], column[3]),
        # Git compares no device (4) either: it is another one after a restart.
        inodes=column[5],
        owners=column[7],
        groups=column[8],
        sizes=column[9],
        folders=_folders(
            [path[: len(path) - len(name)] for path, name in zip(shown, names, strict=True)]
        ),
    )


def _count_of(raw: bytes) -> int:
    """Return how many entries a whole index of the usual format has; 0 for any other."""
    if len(raw) < _HEADER.size + _TRAILER_BYTES:
        return 0
    signature, version, count = _HEADER.unpack_from(raw)
    if signature != b"DIRC" or version not in _VERSIONS:
        return 0
    digest = hashlib.sha1(memoryview(raw)[:-_TRAILER_BYTES], usedforsecurity=False).digest()
    return int(count) if digest == raw[-_TRAILER_BYTES:] else 0


def _are_harmless(rest: bytes) -> bool:
    """Tell whether no extension changes what the entries mean; git's names for such are small."""
    place, end = 0, len(rest) - _TRAILER_BYTES
    while place + 8 <= end:
        if not b"A" <= rest[place : place + 1] <= b"Z":
            return False
        place += 8 + int.from_bytes(rest[place + 4 : place + 8], "big")
    return place == end


def _together(seconds: tuple[int, ...], nanoseconds: tuple[int, ...]) -> list[int]:
    return [whole * _BILLION + part for whole, part in zip(seconds, nanoseconds, strict=True)]


def _folders(prefixes: list[str]) -> dict[str, list[str | tuple[int, int]]]:
    """Return what is right in each folder, from the folder that each row is in."""
    folders: dict[str, list[str | tuple[int, int]]] = {"": []}

    def enter(path: str) -> list[str | tuple[int, int]]:
        found = folders.get(path)
        if found is None:
            above, _, name = path[:-1].rpartition("/")
            enter(f"{above}/" if above else "").append(name)
            found = folders[path] = []
        return found

    row = 0
    for prefix, group in groupby(prefixes):
        end = row + len(list(group))
        enter(prefix).append((row, end))
        row = end
    return folders


def tree_id_of(index: StatIndex) -> str:
    r"""Return the hex id of the tree that a commit of the index would have.

    Source:
        A tree is "<mode> <name>\0<raw id>" for each entry, in the order of an index.
    """
    spelled = list(map(_SPELLED.__getitem__, index.bits))
    names = os.fsencode("\0".join(index.names)).split(b"\0")
    made: dict[str, bytes] = {}
    for path in reversed(index.folders):
        pieces: list[bytes] = []
        for what in index.folders[path]:
            if isinstance(what, str):
                pieces.append(b"40000 %b\0%b" % (os.fsencode(what), made.pop(f"{path}{what}/")))
                continue
            rows = slice(*what)
            columns = zip(spelled[rows], names[rows], repeat(b"\0"), index.ids[rows])
            pieces.extend(chain.from_iterable(columns))
        data = b"".join(pieces)
        made[path] = hashlib.sha1(
            b"tree %d\0%b" % (len(data), data), usedforsecurity=False
        ).digest()
    return made[""].hex()
