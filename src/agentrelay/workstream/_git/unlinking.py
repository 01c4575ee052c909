"""Unlinking large trees while their owner goes on.

A tree that was renamed aside is of no use to anybody, but unlinking it takes as long as
checking it out did. A thread does it, and keeps the tree's folder locked in the kernel
meanwhile, so that nobody who sweeps the trash waits for it or takes it for a leftover. Dies
the process, the lock is gone and the tree is one.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agentrelay.workstream._git.trash import lock_grave, unlink_tree
from agentrelay.workstream.errors import WorkstreamError

__all__ = ["THREAD_NAME", "unlink_soon"]

# What the thread is called; whoever has to see the disk freed joins it.
THREAD_NAME: Final = "lane-unlinking"

# Fewer entries are unlinked in less time than anybody notices.
_LARGE: Final = 1_000


def unlink_soon(grave: Path | None, *, afterwards: Callable[[], None]) -> None:
    """Unlink what was set aside; a large tree in a thread, which the interpreter's end awaits.

    Not a daemon: a command that ends right after must not leave the disk full. What cannot
    be unlinked there stays in the trash, and the next one who sweeps it says why.

    Args:
        grave: What ``set_aside`` returned.
        afterwards: Called in the end, in whichever thread that is; it may fail.

    Raises:
        OSError: Something of a small tree cannot be unlinked.
    """
    if grave is None:
        return
    lock = lock_grave(grave) if _is_large(grave) else None
    if lock is None:
        unlink_tree(grave)
        afterwards()
        return

    def work() -> None:
        try:
            with contextlib.suppress(OSError, WorkstreamError):
                unlink_tree(grave)
                afterwards()
        finally:
            os.close(lock)

    try:
        threading.Thread(target=work, name=THREAD_NAME, daemon=False).start()
    except RuntimeError:
        # No more threads, or the interpreter is ending.
        work()


def _is_large(tree: Path) -> bool:
    """Tell whether a tree has many entries; it is not gone through further than that."""
    waiting, count = [str(tree)], 0
    while waiting:
        try:
            with os.scandir(waiting.pop()) as items:
                for item in items:
                    count += 1
                    if item.is_dir(follow_symlinks=False):
                        waiting.append(item.path)
        except OSError:
            # Closed to us; whoever unlinks it opens it first.
            continue
        if count >= _LARGE:
            return True
    return False
