"""Making sure that what was kept outlives a power cut, before its source is deleted.

libgit2 leaves refs to the operating system's caches. A deletion that reaches the disk
before they do would lose what they keep.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from agentrelay.workstream._git.repository import OpenRepository

__all__ = ["sync_path", "sync_ref"]


def sync_ref(repository: OpenRepository, ref: str) -> None:
    """Write a ref to the disk, with the directories that lead to it.

    Args:
        repository: Repository the ref is in.
        ref: Full ref name; one that was packed meanwhile is left to whoever packed it.

    Raises:
        OSError: The disk refused.
    """
    path = repository.common_dir / ref
    # A "git pack-refs" may be moving it just now: git syncs what it writes.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        sync_path(path)
        for directory in path.parents:
            sync_path(directory)
            if directory == repository.common_dir:
                break


def sync_path(path: Path) -> None:
    """Flush one file or directory to the disk.

    Raises:
        OSError: The disk refused.
    """
    if os.name == "nt" and path.is_dir():  # pragma: no cover - Windows cannot open a directory
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
