"""What killed processes leave in a repository that belongs to no lane.

Trees that were renamed aside and not unlinked yet, entries that were being built, git
lock files that were ours, and logs of rescue refs that are not there. All of it is told
from what is in use by where it lies, or by a lock that its holder would still hold.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from agentrelay.workstream._git.lockfile import is_held, remove_if_dead
from agentrelay.workstream._git.refs import dead_logs_below, release_dead_logs_below
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.trash import remove_tree, sweep_trash
from agentrelay.workstream._lane import RESCUE_PREFIX

if sys.platform != "win32":
    import fcntl

__all__ = ["find_leftovers", "remove_leftovers"]


def find_leftovers(repository: OpenRepository, *, trash_dir: Path) -> list[Path]:
    """Return what can be removed, sorted; nothing is changed.

    Args:
        repository: Repository to look in.
        trash_dir: Where worktrees are renamed to before they are unlinked.
    """
    own_dir = repository.own_dir
    found = [path for path in _below(trash_dir) if not is_held(path)]
    found += [*_below(own_dir / "trash"), *own_dir.glob("new-*")]
    found += [path for path in _below(own_dir / "held") if _is_dead(path)]
    found += dead_logs_below(repository, RESCUE_PREFIX)
    return sorted(found)


def remove_leftovers(repository: OpenRepository, *, trash_dir: Path) -> None:
    """Remove what :func:`find_leftovers` finds.

    Repeating it is harmless, and so is running it beside a teardown that is unlinking the
    same tree: each file goes once.

    Raises:
        LaneBusyError: The repository's lock was held all the time.
        OSError: Something cannot be removed; the rest may be gone.
    """
    own_dir = repository.own_dir
    sweep_trash(trash_dir)
    release_dead_logs_below(repository, RESCUE_PREFIX)
    with repository.metadata_section():
        # Entries are built and thrown away under this lock, so their makers are gone.
        sweep_trash(own_dir / "trash")
        for left in own_dir.glob("new-*"):
            remove_tree(left)
        held = own_dir / "held"
        dead = [path for path in _below(held) if _is_dead(path)]
        if any(_is_linked(path) for path in dead):
            for lock in _lock_files(repository.common_dir):
                remove_if_dead(lock, held)
        for path in dead:
            _is_dead(path, unlink=True)


def _below(directory: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        if not directory.is_symlink():
            yield from directory.iterdir()


def _is_linked(path: Path) -> bool:
    """Return whether a lock file somewhere is this very file."""
    try:
        return path.lstat().st_nlink > 1
    except OSError:
        return False


def _is_dead(path: Path, *, unlink: bool = False) -> bool:
    """Return whether a file that says who holds a lock is held by nobody any more.

    One that was made a moment ago and is not locked yet looks dead too. Whoever made it
    finds it gone, and takes the lock anew.

    Args:
        path: File that its holder keeps locked in the kernel.
        unlink: Remove it while nobody can take it, unless a lock file is linked to it:
            then it is the proof that the lock is ours.
    """
    if sys.platform == "win32":
        return False
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if unlink and os.fstat(descriptor).st_nlink == 1:
            path.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _lock_files(common_dir: Path) -> Iterator[Path]:
    """Return the lock files of refs, and of the files beside them."""
    yield from common_dir.glob("*.lock")
    for directory, _, names in os.walk(common_dir / "refs"):
        for name in names:
            if name.endswith(".lock"):
                yield Path(directory, name)
