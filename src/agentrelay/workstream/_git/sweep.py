"""Removing what killed processes left in the library's own directory."""

from __future__ import annotations

import contextlib
import os

from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.lockfile import LockedError, LockFile, sweep_dead
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.trash import remove_tree, sweep_trash

__all__ = ["sweep_own_dir"]


def sweep_own_dir(repository: OpenRepository) -> None:
    """Remove half-made entries, discarded ones, and lock files whose holder was killed.

    The first two are made and discarded under the repository's lock, which is taken here,
    so nobody is at them; the third are locked in the kernel while their holder lives. The
    next step of any lane calls this: what a crash leaves does not add up.

    Raises:
        LaneBusyError: The repository's lock was held all the time.
        RepositoryError: Something cannot be removed.
    """
    own_dir = repository.own_dir
    if not _has_leftovers(repository):
        return
    with (
        repository_failures("remove what a killed process left", path=own_dir),
        repository.metadata_section(),
    ):
        sweep_dead(own_dir / "held")
        sweep_trash(own_dir / "trash")
        for left in own_dir.glob("new-*"):
            if left.is_dir():
                remove_tree(left)
            else:
                left.unlink(missing_ok=True)
        _drop_empty_shallow(repository)


def _has_leftovers(repository: OpenRepository) -> bool:
    """Return whether there is anything to look at; what lanes are at just now counts too."""
    own = os.fspath(repository.own_dir)
    try:
        names = os.listdir(own)
    except OSError:
        return False
    if any(name.startswith("new-") for name in names):
        return True
    for name in ("held", "trash"):
        with contextlib.suppress(OSError):
            if os.listdir(f"{own}/{name}"):
                return True
    with contextlib.suppress(OSError):
        return (repository.common_dir / "shallow").stat().st_size == 0
    return False


def _drop_empty_shallow(repository: OpenRepository) -> None:
    """Remove the empty ``shallow`` file of a libgit2 that was killed in a fetch.

    Git writes none without content, and takes a repository that has one for a shallow clone.
    """
    path = repository.common_dir / "shallow"
    with contextlib.suppress(FileNotFoundError, LockedError):
        if path.stat().st_size == 0:
            with LockFile(path, own_dir=repository.own_dir):
                if path.stat().st_size == 0:
                    path.unlink()
