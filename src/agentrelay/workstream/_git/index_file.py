"""Writing an index whose stat data is that of files just written.

libgit2 stats every file again to make one; and it knows no way to take over stat data.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["index_record", "write_index"]

_FIXED: Final = struct.Struct(">10I20sH")
_LOW: Final = 0xFFFFFFFF
_LONGEST_NAME: Final = 0xFFF
_BILLION: Final = 1_000_000_000
# From this many files on it is worth while to wait until the clock of the file system has
# moved on: whoever looks next would read again every file that is as young as the index.
_WORTH_A_TICK: Final = 500
# The coarsest tick of a kernel's clock is 10 ms. Where times are whole seconds nobody waits.
_TICK_S: Final = 0.001
_MOST_TICKS: Final = 20


def index_record(status: os.stat_result, mode: int, object_id: bytes, path: bytes) -> bytes:
    """Return an index entry.

    Args:
        status: ``lstat`` of the file.
        mode: Mode as git spells it: ``0o100644``, ``0o100755``, ``0o120000``.
        object_id: Binary id of the blob.
        path: Path relative to the worktree.

    Source:
        gitformat-index(5), version 2: ten numbers of 32 bits, id, flags, path, and one to
        eight NUL bytes up to a multiple of eight.
    """
    changed, modified = status.st_ctime_ns, status.st_mtime_ns
    fixed = _FIXED.pack(
        changed // _BILLION & _LOW,
        changed % _BILLION,
        modified // _BILLION & _LOW,
        modified % _BILLION,
        status.st_dev & _LOW,
        status.st_ino & _LOW,
        mode,
        status.st_uid & _LOW,
        status.st_gid & _LOW,
        status.st_size & _LOW,
        object_id,
        min(len(path), _LONGEST_NAME),
    )
    return b"%b%b%b" % (fixed, path, b"\0" * (8 - (_FIXED.size + len(path)) % 8))


def write_index(git_dir: Path, records: Sequence[bytes], *, cached: bytes, newest_ns: int) -> None:
    """Write the index of a worktree by one rename, as git does.

    Args:
        git_dir: The worktree's entry.
        records: The entries, in order.
        cached: Content of the ``TREE`` extension.
        newest_ns: Modification time of the youngest file, in nanoseconds.

    Raises:
        OSError: It cannot be written; ``index.lock`` may be left.
    """
    extension = b"TREE%b%b" % (struct.pack(">I", len(cached)), cached)
    head = b"DIRC" + struct.pack(">II", 2, len(records))
    content = b"".join([head, *records, extension])
    lock = git_dir / "index.lock"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(lock, flags, 0o666), "wb") as stream:
        stream.write(content)
        stream.write(hashlib.sha1(content, usedforsecurity=False).digest())
        stream.flush()
        if len(records) >= _WORTH_A_TICK:
            _outlast(stream.fileno(), newest_ns)
    lock.replace(git_dir / "index")


def _outlast(descriptor: int, newest_ns: int) -> None:
    """Make a file younger than any other, as soon as the clock allows it.

    Source:
        git's Documentation/technical/racy-git.txt. A time that is still to come would hide
        a change made before it.
    """
    for _ in range(_MOST_TICKS):
        if os.fstat(descriptor).st_mtime_ns > newest_ns:
            return
        threading.Event().wait(_TICK_S)
        os.utime(descriptor)
