"""Packs: what comes out is what went in, or a typed error."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING

import pygit2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.workstream.testing._packs import (
    COMMIT,
    TAG,
    TREE,
    PackedObject,
    PackError,
    links,
    tree_entries,
    unpack,
)
from agentrelay.workstream.testing.repositories import create_bare_repository

if TYPE_CHECKING:
    from pathlib import Path

_BLOB = 3
_OFS_DELTA = 6
_REF_DELTA = 7


def _nowhere(_: str) -> PackedObject | None:
    return None


def _entry(kind: int, data: bytes, *, base: bytes = b"", size: int | None = None) -> bytes:
    """Write one entry: its type and size, what its delta is against, its deflated bytes."""
    left = len(data) if size is None else size
    byte, left = kind << 4 | left & 15, left >> 4
    head = bytearray()
    while left:
        head.append(byte | 0x80)
        byte, left = left & 0x7F, left >> 7
    head.append(byte)
    return bytes(head) + base + zlib.compress(data)


def _pack(*entries: bytes, count: int | None = None, version: int = 2) -> bytes:
    number = len(entries) if count is None else count
    body = b"PACK" + version.to_bytes(4) + number.to_bytes(4) + b"".join(entries)
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def _blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@given(st.lists(st.binary(max_size=9000), max_size=4))
def test_whole_objects_come_out_by_their_ids(contents: list[bytes]) -> None:
    """Every object is found under the id git gives it, whatever its size."""
    found = unpack(_pack(*(_entry(_BLOB, data) for data in contents)), _nowhere)
    assert found == {_blob_id(data): (_BLOB, data) for data in contents}


def test_a_pack_of_libgit2_comes_out_whole(tmp_path: Path) -> None:
    """Deltas that libgit2 chooses resolve to the objects of the repository."""
    repo = pygit2.Repository(str(create_bare_repository(tmp_path / "bare.git")))
    text = b"".join(b"line %d of a text that is worth a delta\n" % n for n in range(200))
    for n in range(5):
        repo.create_blob(text + b"%d" % n)
    builder = pygit2.PackBuilder(repo)
    everything = {str(oid): repo.odb.read(oid) for oid in repo.odb}
    for oid in everything:
        builder.add(pygit2.Oid(hex=oid))
    (tmp_path / "out").mkdir()
    builder.write(tmp_path / "out")
    (pack,) = (tmp_path / "out").glob("*.pack")
    assert unpack(pack.read_bytes(), _nowhere) == everything


# Base and result lengths; copy 3 from offset 1; insert "XY"; copy 2 from offset 0.
_DELTA = bytes([6, 7, 0x91, 1, 3, 2]) + b"XY" + bytes([0x90, 2])


def test_deltas_find_their_base_before_behind_and_outside() -> None:
    """The three places a base can be all give the same object."""
    base = _entry(_BLOB, b"abcdef")
    reference = bytes.fromhex(_blob_id(b"abcdef"))
    result = _blob_id(b"bcdXYab")
    by_offset = _pack(base, _entry(_OFS_DELTA, _DELTA, base=bytes([len(base)])))
    behind = _pack(_entry(_REF_DELTA, _DELTA, base=reference), base)
    thin = _pack(_entry(_REF_DELTA, _DELTA, base=reference))
    for pack in (by_offset, behind):
        assert unpack(pack, _nowhere)[result] == (_BLOB, b"bcdXYab")
    outside = {_blob_id(b"abcdef"): PackedObject(_BLOB, b"abcdef")}
    assert unpack(thin, outside.get) == {result: (_BLOB, b"bcdXYab")}


def test_a_base_far_before_its_delta_is_found() -> None:
    """Distances of more than one byte count as git counts them, with one added each time."""
    base = _entry(_BLOB, b"abcdef")
    filler = _entry(_BLOB, bytes((n * n) % 251 for n in range(400)))
    distance = len(base) + len(filler)
    assert distance >= 0x80
    wide = bytes([(distance - 0x80 >> 7) | 0x80, distance & 0x7F])
    pack = _pack(base, filler, _entry(_OFS_DELTA, _DELTA, base=wide))
    assert _blob_id(b"bcdXYab") in unpack(pack, _nowhere)


def test_a_copy_without_a_length_is_64_kilobytes() -> None:
    """A length of zero stands for 0x10000, as the format says."""
    content = b"z" * 0x10000
    sizes = bytes([0x80, 0x80, 4])
    delta = sizes + sizes + bytes([0x80])
    pack = _pack(
        _entry(_BLOB, content), _entry(_REF_DELTA, delta, base=bytes.fromhex(_blob_id(content)))
    )
    assert unpack(pack, _nowhere) == {_blob_id(content): (_BLOB, content)}


@given(st.data())
def test_a_pack_cut_anywhere_is_an_error(data: st.DataObject) -> None:
    """No beginning of a pack is mistaken for the pack."""
    pack = _pack(_entry(_BLOB, b"one"), _entry(_BLOB, b"two"))
    stop = data.draw(st.integers(0, len(pack) - 1))
    with pytest.raises(PackError):
        unpack(pack[:stop], _nowhere)


@pytest.mark.parametrize(
    "pack",
    [
        pytest.param(_pack(_entry(_BLOB, b"x"), version=3), id="another version"),
        pytest.param(_pack(_entry(5, b"x")), id="unknown type"),
        pytest.param(_pack(_entry(_BLOB, b"xyz", size=2)), id="longer than it says"),
        pytest.param(_pack(_entry(_BLOB, b"x"), count=2), id="fewer objects than it says"),
        pytest.param(_pack(b"\xb0" + b"\xff" * 40), id="a size without an end"),
        pytest.param(_pack(_entry(_BLOB, b"x"), b"more", count=1), id="bytes behind"),
        pytest.param(_pack(b"\x31not deflated"), id="not deflated"),
        pytest.param(_pack(b"\x31" + zlib.compress(b"x")[:-2]), id="deflated bytes cut off"),
        pytest.param(_pack(_entry(_REF_DELTA, _DELTA, base=bytes(20))), id="no base"),
        pytest.param(_pack(b"\xe0" + b"\x80" * 19), id="a distance without an end"),
        pytest.param(_pack(b"\x70" + b"\x80" * 19), id="half an id"),
        pytest.param(_pack(count=1), id="no entry"),
    ],
)
def test_a_pack_that_lies_is_an_error(pack: bytes) -> None:
    """Each lie a pack can tell under a right checksum is found."""
    with pytest.raises(PackError):
        unpack(pack, _nowhere)


@pytest.mark.parametrize(
    "delta",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bytes([6, 7, 0x91, 1]), id="cut in a copy"),
        pytest.param(bytes([6, 2, 5]) + b"ab", id="cut in an insert"),
        pytest.param(bytes([6, 1, 0]), id="reserved instruction"),
        pytest.param(bytes([5, 2, 0x90, 2]), id="another base's length"),
        pytest.param(bytes([6, 3, 0x91, 5, 3]), id="copy past the end"),
        pytest.param(bytes([6, 1, 0x91, 5, 3]), id="copy past the end, size right"),
        pytest.param(bytes([6, 4, 0x90, 3]), id="another result's length"),
    ],
)
def test_a_delta_that_does_not_fit_is_an_error(delta: bytes) -> None:
    """A delta is applied completely or refused."""
    pack = _pack(
        _entry(_BLOB, b"abcdef"), _entry(_REF_DELTA, delta, base=bytes.fromhex(_blob_id(b"abcdef")))
    )
    with pytest.raises(PackError):
        unpack(pack, _nowhere)


def test_a_damaged_byte_is_an_error() -> None:
    """The checksum guards every byte."""
    pack = bytearray(_pack(_entry(_BLOB, b"content")))
    pack[14] ^= 1
    with pytest.raises(PackError, match="checksum"):
        unpack(bytes(pack), _nowhere)


def test_links_name_what_an_object_needs() -> None:
    """Commits need a tree and parents, tags their object, trees all but submodules."""
    a, b, c = ("a" * 40, "b" * 40, "c" * 40)
    commit = f"tree {a}\nparent {b}\nparent {c}\nauthor x <y> 1 +0000\n\nparent {a}\n"
    assert links(PackedObject(COMMIT, commit.encode())) == [a, b, c]
    assert links(PackedObject(TAG, f"object {a}\ntype commit\n\nobject {b}\n".encode())) == [a]
    tree = b"100644 file\0" + bytes.fromhex(a) + b"160000 sub\0" + bytes.fromhex(b)
    tree += b"40000 dir\0" + bytes.fromhex(c)
    assert links(PackedObject(TREE, tree)) == [a, c]
    assert list(tree_entries(tree)) == [(b"file", 3, a), (b"sub", None, b), (b"dir", 2, c)]
    assert links(PackedObject(_BLOB, tree)) == []


@pytest.mark.parametrize("kind", [COMMIT, TREE, TAG])
@pytest.mark.parametrize("data", [b"nonsense", b"100644 file\0short"])
def test_nonsense_is_no_object(kind: int, data: bytes) -> None:
    """An object that is not what its type says is an error, not an object without links."""
    with pytest.raises(PackError):
        links(PackedObject(kind, data))
