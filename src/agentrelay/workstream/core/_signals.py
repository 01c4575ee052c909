"""Signal files: how a lane's status survives the process.

A signal is a small regular file in the lane's signal directory. It is written to
a temporary file, synced, renamed into place, and the directory is synced, so a
reader sees the old file, the new one, or none, and a power cut loses at most the
newest. Readers trust nothing: a link, a folder, a pipe or a torn file is no signal.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, Final

if sys.platform != "win32":
    import fcntl

__all__ = [
    "HISTORY_NAME",
    "RECORD_NAME",
    "append_history",
    "has_signal",
    "read_record",
    "read_signal",
    "remove_note",
    "remove_signal",
    "retire_signal",
    "sweep_torn",
    "write_note",
    "write_record",
    "write_signal",
]

# The lane's own record: names, base commit and what was pushed.
RECORD_NAME: Final = "lane.json"
# One JSON object a line: errors and earlier runs that no longer decide the status.
HISTORY_NAME: Final = "history.jsonl"
# A signal holds nothing, a URL or an error text. Whatever is larger is not ours.
_LIMIT_BYTES: Final = 1 << 20
_TEMPORARY: Final = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


def _sync_directory(directory: Path) -> None:
    """Make renames in ``directory`` durable where the platform can."""
    if os.name == "nt":  # pragma: no cover - Windows cannot open a directory
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_directory(directory: Path) -> None:
    """Make a directory and its parents so that a power cut does not undo them.

    A new directory's name stands in its parent, so the parent is synced too.
    """
    missing: list[Path] = []
    if os.path.isdir(directory):  # noqa: PTH112 - a dozen times a lane
        return
    for path in (directory, *directory.parents):
        if path.is_dir():
            break
        missing.append(path)
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        # Somebody else's directory may be one that can be written and not be read.
        with contextlib.suppress(PermissionError):
            _sync_directory(path.parent)


def write_signal(signal_dir: Path, name: str, content: str = "") -> None:
    """Write one signal file, atomically and durably.

    Whatever stands under that name is replaced and never written through, so a
    link planted there leads nowhere.

    Args:
        signal_dir: The lane's signal directory; it is made if missing.
        name: File name of the signal.
        content: Text of the file; lone surrogates are replaced.

    Raises:
        OSError: The directory cannot be written; an older file is intact.
    """
    _make_directory(signal_dir)
    # Strings and not paths: a lane writes a dozen of them.
    target = f"{signal_dir}{os.sep}{name}"
    sweep_torn(signal_dir)
    temporary, opened = _open_temporary(signal_dir, name)
    try:
        with opened as stream:
            stream.write(content.encode("utf-8", "replace"))
            stream.flush()
            os.fsync(stream.fileno())
            if sys.platform != "win32":
                # While it is locked: unlocked, another writer would take it for a leftover.
                os.replace(temporary, target)  # noqa: PTH105 - strings
        if sys.platform == "win32":
            os.replace(temporary, target)  # noqa: PTH105 - strings
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108 - a string
        raise
    _sync_directory(signal_dir)


def write_note(path: Path, content: str) -> None:
    """Write one file, atomically and durably, that nobody else writes at the same time.

    Its directory may hold a thousand of other writers, and is not looked through for what
    killed ones left: a killed writer's leftover is in the way of the next one of this file,
    which replaces it.

    Args:
        path: The file; its directory is made if missing.
        content: Text of the file.

    Raises:
        OSError: It cannot be written; an older file is intact.
    """
    _make_directory(path.parent)
    temporary = _note_temporary(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, flags, 0o666)
    try:
        with open(descriptor, "wb") as stream:  # noqa: PTH123 - it is open already
            stream.write(content.encode("utf-8", "replace"))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_directory(path.parent)


def remove_note(path: Path) -> None:
    """Remove what :func:`write_note` wrote, and what a killed one left, if it is there.

    Raises:
        OSError: It is there and cannot be removed.
    """
    _note_temporary(path).unlink(missing_ok=True)
    remove_signal(path.parent, path.name)


def _note_temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _open_temporary(signal_dir: Path, name: str) -> tuple[str, BinaryIO]:
    """Make the file a signal is written to first, locked in the kernel while it is written."""
    # A name nobody can guess, and a file that cannot be there: nothing is written through.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)

    def opener(path: str, _: int) -> int:
        # The umask says who may read; a status is for whoever it lets in.
        return os.open(path, flags, 0o666)

    while True:
        temporary = f"{signal_dir}{os.sep}.{name}.{os.urandom(8).hex()}.tmp"
        # An object and not a number: whatever interrupts us, its end closes the file.
        stream = open(temporary, "wb", opener=opener)  # noqa: SIM115 - Path has no opener
        if sys.platform == "win32":
            return temporary, stream
        # Without such locks nothing is ever swept.
        with contextlib.suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(stream.fileno()).st_nlink:
            return temporary, stream
        # Swept before it was locked.
        stream.close()


def sweep_torn(signal_dir: Path) -> None:
    """Remove what writers left that were killed; one that lives holds its file locked.

    Raises:
        OSError: The directory cannot be listed.
    """
    if sys.platform == "win32":
        return
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    for name in os.listdir(signal_dir):
        if not _TEMPORARY.fullmatch(name):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(signal_dir / name, flags)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (signal_dir / name).unlink()
            finally:
                os.close(descriptor)


def read_signal(signal_dir: Path, name: str) -> str | None:
    """Return the text of a signal file, or ``None`` when there is no such signal.

    Only regular files of a sane size count; a pipe cannot make the reader wait.
    """
    path = f"{signal_dir}{os.sep}{name}"
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LIMIT_BYTES:
            return None
        data = os.read(descriptor, _LIMIT_BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def has_signal(signal_dir: Path, name: str) -> bool:
    """Return whether the empty signal ``name`` is set.

    A file with content under the name of an empty signal was not written by us and
    does not count.
    """
    text = read_signal(signal_dir, name)
    return text is not None and not text.strip()


def remove_signal(signal_dir: Path, name: str) -> None:
    """Remove a signal file if it is there.

    Raises:
        OSError: It is there and cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        (signal_dir / name).unlink()
        _sync_directory(signal_dir)


def retire_signal(signal_dir: Path, name: str, *, event: str) -> None:
    """Move a signal into the lane's history, if it is set.

    Raises:
        OSError: The history cannot be written, or the signal not be removed.
    """
    text = read_signal(signal_dir, name)
    if text is not None:
        append_history(signal_dir, event, text)
        remove_signal(signal_dir, name)


def write_record(signal_dir: Path, record: dict[str, Any]) -> None:
    """Write the lane's record, atomically and durably.

    Raises:
        OSError: The directory cannot be written.
    """
    # A line an entry, for people. Asked to indent, the encoder of json is the slow one.
    lines = ",\n".join(
        f" {json.dumps(key)}: {json.dumps(record[key], sort_keys=True)}" for key in sorted(record)
    )
    write_signal(signal_dir, RECORD_NAME, f"{{\n{lines}\n}}\n")


def read_record(signal_dir: Path) -> dict[str, Any] | None:
    """Return the lane's record, or ``None`` when there is none that can be read."""
    text = read_signal(signal_dir, RECORD_NAME)
    if text is None:
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def append_history(signal_dir: Path, event: str, text: str) -> None:
    """Add one line to the lane's history, durably.

    A line that a crash tore is ended first, so that it swallows nothing.

    Args:
        signal_dir: The lane's signal directory.
        event: What happened, one word: ``"failed"``.
        text: The words that go with it.

    Raises:
        OSError: The history cannot be written.
    """
    path = signal_dir / HISTORY_NAME
    line = json.dumps({"time": round(time.time(), 3), "event": event, "text": text}) + "\n"
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
    # A pipe planted there must not make us wait, nor a link lead us away.
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            message = f"'{path}' is not a regular file"
            raise OSError(message)
        if status.st_size and os.pread(descriptor, 1, status.st_size - 1) != b"\n":
            # Beside another writer this may make an empty line, which is no entry.
            line = f"\n{line}"
        # One write of one line: readers and other writers never see half of it.
        data = line.encode()
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # Its name, if it is new: the caller may remove what was just written down.
    _sync_directory(signal_dir)
