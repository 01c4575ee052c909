"""An index is written whole, and never waits for ever to be young enough."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pygit2
import pytest

from agentrelay.workstream._git.index_file import index_record, write_index

BLOB = bytes(range(20))


def records(top: Path, count: int) -> list[bytes]:
    """Return entries of files with long and short names, in order."""
    file = top / "file"
    file.write_text("text\n")
    status = file.stat()
    names = sorted(f"{'x' * (number % 40)}{number}" for number in range(count))
    return [index_record(status, 0o100644, BLOB, name.encode()) for name in names]


@pytest.mark.parametrize("count", [0, 1, 600])
def test_what_is_written_is_what_libgit2_reads(tmp_path: Path, count: int) -> None:
    """Names of every length, the hash at the end, and no lock left."""
    written = records(tmp_path, count)
    write_index(tmp_path, written, cached=b"\0-1 0\n", newest_ns=0)
    content = (tmp_path / "index").read_bytes()
    assert content[-20:] == hashlib.sha1(content[:-20], usedforsecurity=False).digest()
    index = pygit2.Index(tmp_path / "index")
    index.read()
    assert len(index) == count
    assert {str(entry.id) for entry in index} == ({BLOB.hex()} if count else set())
    assert not (tmp_path / "index.lock").exists()


@pytest.mark.parametrize("ahead_ns", [0, 3_000_000, 10**15])
def test_the_wait_for_a_younger_index_ends(tmp_path: Path, ahead_ns: int) -> None:
    """Where the clock moves on it is younger; where times lie in the future nobody waits long."""
    newest_ns = time.time_ns() + ahead_ns
    write_index(tmp_path, records(tmp_path, 600), cached=b"\0-1 0\n", newest_ns=newest_ns)
    assert ((tmp_path / "index").stat().st_mtime_ns > newest_ns) == (ahead_ns < 10**9)


def test_a_lock_of_somebody_elses_is_respected(tmp_path: Path) -> None:
    """Git is at work on that index."""
    (tmp_path / "index.lock").write_text("theirs")
    with pytest.raises(FileExistsError):
        write_index(tmp_path, [], cached=b"", newest_ns=0)
    assert os.listdir(tmp_path) == ["index.lock"]
    assert (tmp_path / "index.lock").read_text() == "theirs"
