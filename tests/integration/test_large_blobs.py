"""Large files are written from the objects piece by piece, and no byte goes unproved."""

from __future__ import annotations

import os
import random
import zlib
from pathlib import Path
from typing import Final

import pygit2
import pytest

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    RepositoryError,
    WorkstreamRuntime,
    WorkstreamSpec,
)
from agentrelay.workstream._git import large_blobs
from agentrelay.workstream._git.large_blobs import LargeBlobs
from agentrelay.workstream.testing import (
    BranchRecipe,
    CommitRecipe,
    Executable,
    RepositoryRecipe,
    create_bare_repository,
)
from agentrelay.workstream.testing.repositories import FileContent

_NOISE: Final = random.Random(1).randbytes(300_000)  # noqa: S311 - content, no secret


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take everything for large that has more than a thousand bytes, in small pieces."""
    monkeypatch.setattr(large_blobs, "_LARGE_BYTES", 1000)
    monkeypatch.setattr(large_blobs, "_SUSPECT_BYTES", 1)
    monkeypatch.setattr(large_blobs, "_PIECE_BYTES", 4096)


@pytest.fixture
def bare(tmp_path: Path) -> pygit2.Repository:
    """An empty bare repository."""
    return pygit2.init_repository(str(tmp_path / "bare.git"), bare=True)


def written(repository: pygit2.Repository, blob: pygit2.Oid, file: Path) -> bytes | None:
    """Return what is written of a blob, ``None`` if nothing is."""
    large = LargeBlobs(Path(repository.path))
    assert large.has(blob.raw, repository)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        return file.read_bytes() if large.write(blob.raw, descriptor) else None
    finally:
        os.close(descriptor)
        file.unlink()


def packed(repository: pygit2.Repository) -> Path:
    """Move all objects into one pack; return it."""
    folder = Path(repository.path) / "objects"
    repository.pack(folder / "pack")
    for loose in folder.glob("??/*"):
        loose.chmod(0o600)
        loose.unlink()
    (pack,) = folder.glob("pack/*.pack")
    pack.chmod(0o600)
    return pack


@pytest.mark.parametrize(
    "content",
    [bytes(1001), b"text\n" * 50_000, _NOISE, b"\0blob 7\0" + _NOISE[:5000]],
    ids=["zeros", "text", "noise", "like a header"],
)
def test_a_blob_is_the_same_from_a_file_of_its_own_and_from_a_pack(
    bare: pygit2.Repository, tmp_path: Path, content: bytes
) -> None:
    """However far it is compressed."""
    blob = bare.create_blob(content)
    assert written(bare, blob, tmp_path / "file") == content
    packed(bare)
    assert written(pygit2.Repository(bare.path), blob, tmp_path / "file") == content


def test_each_of_many_in_a_pack_is_found(bare: pygit2.Repository, tmp_path: Path) -> None:
    """Among names of every beginning."""
    contents = [_NOISE[number * 1500 :][:1500] for number in range(200)]
    blobs = [bare.create_blob(content) for content in contents]
    packed(bare)
    again = pygit2.Repository(bare.path)
    for blob, content in zip(blobs, contents, strict=True):
        assert written(again, blob, tmp_path / "file") == content


def test_a_delta_and_what_is_not_there_are_left_to_libgit2(
    bare: pygit2.Repository, tmp_path: Path
) -> None:
    """And so is anything small."""
    blobs = [bare.create_blob(_NOISE + bytes([number])) for number in range(2)]
    packed(bare)
    again = pygit2.Repository(bare.path)
    found = [written(again, blob, tmp_path / "file") for blob in blobs]
    assert found.count(None) == 1
    large = LargeBlobs(Path(bare.path))
    small = again.create_blob(b"small")
    for missing in (bytes(20), small.raw):
        assert not large.has(missing, again)
    assert not LargeBlobs(Path(bare.path)).has(small.raw, again)


def test_offsets_beyond_two_gigabytes_are_read_from_their_own_table(
    bare: pygit2.Repository, tmp_path: Path
) -> None:
    """An index may have it for smaller packs too."""
    contents = [_NOISE[number * 5000 :][:5000] for number in range(4)]
    blobs = [bare.create_blob(content) for content in contents]
    index = packed(bare).with_suffix(".idx")
    data, count = index.read_bytes(), len(blobs)
    place = 8 + 1024 + count * 24
    offsets = [data[place + row * 4 :][:4] for row in range(count)]
    # One stays: an index has fewer of these than objects, for the first begins at 12.
    moved = offsets[0] + b"".join((1 << 31 | row).to_bytes(4, "big") for row in range(count - 1))
    table = b"".join(bytes(4) + offset for offset in offsets[1:])
    index.chmod(0o600)
    index.write_bytes(data[:place] + moved + table + data[-40:])
    again = pygit2.Repository(bare.path)
    for blob, content in zip(blobs, contents, strict=True):
        assert written(again, blob, tmp_path / "file") == content


def test_an_object_that_went_meanwhile_is_not_large(bare: pygit2.Repository) -> None:
    """Somebody collects garbage just then; libgit2 says what is missing."""
    blob = bare.create_blob(_NOISE)
    large = LargeBlobs(Path(bare.path))
    (Path(bare.path) / "objects" / str(blob)[:2] / str(blob)[2:]).unlink()
    assert not large.has(blob.raw, pygit2.Repository(bare.path))


def test_a_borrowed_blob_is_found_where_it_is(bare: pygit2.Repository, tmp_path: Path) -> None:
    """Also if that is named from there, and if that borrows in a circle."""
    blob = bare.create_blob(_NOISE)
    packed(bare)
    borrower = pygit2.init_repository(str(tmp_path / "borrower.git"), bare=True)
    alternates = Path(borrower.path) / "objects/info/alternates"
    alternates.write_text("# theirs\n../../bare.git/objects\n")
    theirs = Path(bare.path) / "objects/info/alternates"
    theirs.write_text(f"{borrower.path}objects\n")
    assert written(pygit2.Repository(borrower.path), blob, tmp_path / "file") == _NOISE


def test_damage_is_never_written_for_good(bare: pygit2.Repository, tmp_path: Path) -> None:
    """A bit in a pack, the end of a file, another object by that name; a whole copy serves."""
    blob = bare.create_blob(_NOISE)
    pack = packed(bare)
    again = pygit2.Repository(bare.path)
    whole = pack.read_bytes()
    middle = len(whole) // 2
    pack.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    assert written(again, blob, tmp_path / "file") is None
    loose = Path(bare.path) / "objects" / str(blob)[:2] / str(blob)[2:]
    loose.parent.mkdir(exist_ok=True)
    for content in (
        zlib.compress(b"blob 300000\0" + _NOISE)[:-9000],
        zlib.compress(b"blob 300000\0" + _NOISE[::-1]),
        zlib.compress(b"tree 300000\0" + _NOISE),
        zlib.compress(_NOISE),
        b"",
    ):
        loose.write_bytes(content)
        assert written(again, blob, tmp_path / "file") is None
        pack.write_bytes(whole)
        assert written(again, blob, tmp_path / "file") == _NOISE
        pack.write_bytes(whole[:middle])
    pack.unlink()
    loose.unlink()
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    assert not LargeBlobs(Path(bare.path)).write(blob.raw, descriptor)
    os.close(descriptor)


def test_an_index_of_the_first_version_is_left_to_libgit2(
    bare: pygit2.Repository, tmp_path: Path
) -> None:
    """Nothing in it is taken for an offset."""
    blob = bare.create_blob(_NOISE)
    index = packed(bare).with_suffix(".idx")
    large = LargeBlobs(Path(bare.path))
    index.chmod(0o600)
    index.write_bytes(bytes(8) + index.read_bytes()[8:])
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    assert not large.write(blob.raw, descriptor)
    os.close(descriptor)
    assert not LargeBlobs(Path(bare.path)).has(blob.raw, bare)


def test_a_lane_of_a_bare_repository_has_its_large_files(tmp_path: Path) -> None:
    """With their modes; git finds nothing changed."""
    files: dict[str, FileContent] = {
        "large.bin": _NOISE,
        "bin/tool": Executable(b"#!/bin/sh\n" + _NOISE),
        "small": "small\n",
        "almost/large.bin": _NOISE[:-1],
    }
    recipe = RepositoryRecipe((BranchRecipe("main", (CommitRecipe("Start", files),)),))
    remote = create_bare_repository(tmp_path / "remote.git", recipe)
    repo = tmp_path / "repo.git"
    pygit2.clone_repository(str(remote), str(repo), bare=True)
    packed(pygit2.Repository(str(repo)))
    lane = WorkstreamRuntime(WorkstreamSpec("task"))
    GitWorkstreamPreparer(repo, "nightly").prepare_workstream(lane)
    path = lane.state.worktree_path
    assert path is not None
    assert (path / "large.bin").read_bytes() == _NOISE
    assert (path / "almost/large.bin").read_bytes() == _NOISE[:-1]
    assert (path / "bin/tool").read_bytes() == b"#!/bin/sh\n" + _NOISE
    assert os.access(path / "bin/tool", os.X_OK)
    assert not os.access(path / "large.bin", os.X_OK)
    assert pygit2.Repository(str(path)).status() == {}


def test_a_lane_with_a_damaged_large_file_is_not_made(tmp_path: Path) -> None:
    """libgit2 says what is wrong with it, and nothing is handed out."""
    recipe = RepositoryRecipe(
        (BranchRecipe("main", (CommitRecipe("Start", {"large.bin": _NOISE}),)),)
    )
    remote = create_bare_repository(tmp_path / "remote.git", recipe)
    repo = tmp_path / "repo.git"
    pygit2.clone_repository(str(remote), str(repo), bare=True)
    pack = packed(pygit2.Repository(str(repo)))
    whole = pack.read_bytes()
    middle = len(whole) // 2
    pack.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    lane = WorkstreamRuntime(WorkstreamSpec("task"))
    with pytest.raises(RepositoryError):
        GitWorkstreamPreparer(repo, "nightly").prepare_workstream(lane)
    assert not (repo / ".worktrees/nightly/task").exists()
