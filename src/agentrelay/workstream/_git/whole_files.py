"""Git's small administrative files, read at once, and written whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["read_whole", "write_whole"]

# Most of git's small files fit in here.
_PIECE_BYTES: Final = 64 << 10


def read_whole(path: str) -> bytes:
    """Return what is in a small file.

    Raises:
        OSError: It cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = piece = os.read(descriptor, _PIECE_BYTES)
        while len(piece) == _PIECE_BYTES:
            piece = os.read(descriptor, _PIECE_BYTES)
            content += piece
        return content
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str, *, own_dir: Path) -> None:
    """Replace a small file by one rename, so that a killed process leaves the old one or ours.

    Half a ``gitdir`` or ``locked`` file reads as something else than what was meant.

    Args:
        path: File to write.
        text: Its content.
        own_dir: Directory of our own on the same file system; what a crash leaves there
            is swept with the other half-made things. Where it is another file system the
            file is written in place.

    Raises:
        OSError: It cannot be written.
    """
    own_dir.mkdir(exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix="new-", dir=own_dir)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            # A path need not be text, nor the locale one that can spell it.
            stream.write(os.fsencode(text))
            os.fchmod(stream.fileno(), 0o644)
        try:
            Path(name).replace(path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            path.write_bytes(os.fsencode(text))
            Path(name).unlink()
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
