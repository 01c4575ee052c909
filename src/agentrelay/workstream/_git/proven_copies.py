"""Taking files from another checkout: whatever is there, only the right bytes are taken.

Nothing the other checkout says of its files is believed, neither its index nor a time:
each file's bytes are hashed while they are copied. So it does not matter whether somebody
works there, what is ignored, sparse, converted or half written there, and a file that
changes meanwhile is simply not the right one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pygit2

from agentrelay.workstream._git.index_file import index_record
from agentrelay.workstream._git.plain_trees import PlainFile, PlainFolder
from agentrelay.workstream._git.repository import common_dir_of

__all__ = ["NEW_FILE", "Written", "copy_folders", "main_checkout", "other_worktrees", "write_all"]

# Most files fit in here; reading with a larger buffer costs more than the reading.
_PIECE_BYTES: Final = 32 << 10
# What is larger goes piece by piece, so that memory stays bounded.
_LARGE_BYTES: Final = 1 << 20
_NO_LINK: Final = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
# Without waiting: a pipe may be there by a file's name.
_READ: Final = os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0)
# A file that must not be there yet.
NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK
_FOLDER: Final = _READ | getattr(os, "O_DIRECTORY", 0)
_MOST_WORKTREES: Final = 2


class Written:
    """What was written so far.

    Attributes:
        records: The entries of the index; empty where nothing was written yet.
        newest_ns: Modification time of the youngest file, in nanoseconds.
        sizes: Sizes of the files in bytes, in the order they were written.
    """

    __slots__ = ("newest_ns", "records", "sizes")

    def __init__(self, count: int) -> None:
        """Begin with nothing of ``count`` files."""
        self.records = [b""] * count
        self.newest_ns = 0
        self.sizes: list[int] = []

    def note(
        self, status: os.stat_result, mode: int, object_id: bytes, path: bytes, place: int
    ) -> None:
        """Note a file that is complete; several threads may."""
        self.records[place] = index_record(status, mode, object_id, path)
        self.sizes.append(status.st_size)
        # Not "max" of a shared number: another thread's may be lost in between.
        while status.st_mtime_ns > self.newest_ns:
            self.newest_ns = status.st_mtime_ns


def copy_folders(
    folders: Iterable[PlainFolder], source: int, target: int, written: Written
) -> list[PlainFolder]:
    """Copy the files of some folders, as far as the other checkout has them.

    Args:
        folders: Which folders, and what must be in them.
        source: Descriptor of the top of the other checkout.
        target: Descriptor of the top of the worktree, where the folders are there already.
        written: Where to note what was written.

    Returns:
        The files that were not found; nothing of them is left in the worktree.

    Raises:
        OSError: The worktree cannot be written.
    """
    missing: list[PlainFolder] = []
    for folder in folders:
        missed = _copy_folder(folder, source, target, written)
        if missed:
            missing.append(PlainFolder(folder.prefix, missed))
    return missing


def _copy_folder(
    folder: PlainFolder, source: int, target: int, written: Written
) -> list[PlainFile]:
    missed: list[PlainFile] = []
    with contextlib.ExitStack() as opened:
        try:
            there = _open_below(source, folder.prefix, opened)
        except OSError:
            return folder.files
        here = os.open(folder.prefix or b".", _FOLDER, dir_fd=target)
        opened.callback(os.close, here)
        missed.extend(
            file for file in folder.files if not _copy(file, there, here, folder.prefix, written)
        )
    return missed


def _open_below(top: int, prefix: bytes, opened: contextlib.ExitStack) -> int:
    """Open a folder component by component, through no link."""
    current = top
    for part in prefix.split(b"/")[:-1]:
        current = os.open(part, _FOLDER, dir_fd=current)
        opened.callback(os.close, current)
    return current


def _copy(file: PlainFile, there: int, here: int, prefix: bytes, written: Written) -> bool:
    """Copy one file if its bytes are the right ones."""
    name, executable, object_id, place = file
    try:
        reading = os.open(name, _READ, dir_fd=there)
    except OSError:
        return False
    try:
        try:
            content = os.read(reading, _PIECE_BYTES)
            if len(content) == _PIECE_BYTES:
                size_bytes = os.fstat(reading).st_size
                if size_bytes > _LARGE_BYTES:
                    return _copy_large(file, reading, here, prefix, written)
                content += os.read(reading, size_bytes)
        except OSError:
            return False
        digest = hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False)
        if digest.digest() != object_id:
            return False
    finally:
        os.close(reading)
    writing = os.open(name, NEW_FILE, 0o777 if executable else 0o666, dir_fd=here)
    try:
        write_all(writing, content)
        mode = 0o100755 if executable else 0o100644
        written.note(os.fstat(writing), mode, object_id, prefix + name, place)
    finally:
        os.close(writing)
    return True


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of the bytes.

    Raises:
        OSError: There is no room, or the like.
    """
    done = os.write(descriptor, content)
    while done < len(content):
        done += os.write(descriptor, memoryview(content)[done:])


def _copy_large(file: PlainFile, reading: int, here: int, prefix: bytes, written: Written) -> bool:
    """Copy a large file piece by piece, if it is the right one.

    It is read twice: what is not the right one is not written, and what is written is proved
    by what was read for it.
    """
    name, executable, object_id, place = file
    if not _is_right(_pieces(reading), os.fstat(reading).st_size, object_id):
        return False
    writing = os.open(name, NEW_FILE, 0o777 if executable else 0o666, dir_fd=here)
    try:
        copied = _written(_pieces(reading), writing)
        if not _is_right(copied, os.fstat(reading).st_size, object_id):
            # It changed meanwhile.
            os.unlink(name, dir_fd=here)
            return False
        mode = 0o100755 if executable else 0o100644
        written.note(os.fstat(writing), mode, object_id, prefix + name, place)
    finally:
        os.close(writing)
    return True


def _pieces(reading: int) -> Iterator[bytes]:
    """Read a file from its beginning; what cannot be read is left out."""
    with contextlib.suppress(OSError):
        os.lseek(reading, 0, os.SEEK_SET)
        while piece := os.read(reading, _LARGE_BYTES):
            yield piece


def _written(pieces: Iterable[bytes], writing: int) -> Iterator[bytes]:
    """Write pieces, and pass each on."""
    for piece in pieces:
        write_all(writing, piece)
        yield piece


def _is_right(pieces: Iterable[bytes], size_bytes: int, object_id: bytes) -> bool:
    """Tell whether a file's content is that of a blob."""
    digest = hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
    for piece in pieces:
        digest.update(piece)
    return digest.digest() == object_id


def main_checkout(handle: pygit2.Repository) -> Path | None:
    """Return the user's own checkout, if the repository has one where it usually is."""
    common_dir = common_dir_of(Path(handle.path))
    config = handle.config
    if common_dir.name != ".git" or "core.worktree" in config:
        return None
    if "core.bare" in config and config.get_bool("core.bare"):
        return None
    return common_dir.parent


def other_worktrees(git_dir: Path) -> Iterator[Path]:
    """Return a few linked worktrees, those that were made or used last.

    Args:
        git_dir: Entry of the one that is being made.
    """
    found: list[tuple[int, str]] = []
    with contextlib.suppress(OSError), os.scandir(git_dir.parent) as items:
        for item in items:
            with contextlib.suppress(OSError):
                found.append((os.stat(f"{item.path}/index").st_mtime_ns, item.path))  # noqa: PTH116 - as below
    found.sort(reverse=True)
    for _, path in found[:_MOST_WORKTREES]:
        with contextlib.suppress(OSError):
            link = Path(os.fsdecode(Path(path, "gitdir").read_bytes().strip()))
            if link.is_absolute() and link.name == ".git":
                yield link.parent
