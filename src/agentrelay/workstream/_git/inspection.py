"""Looking at a repository without changing anything in it, not even a lock.

Nothing here takes the repository's lock, reads the state of files into the index, or
waits. What it says may be over a moment later.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pygit2

from agentrelay.workstream._git.config_names import config_entries
from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.lockfile import is_held
from agentrelay.workstream._git.refs import dead_logs_below
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.worktree_entries import entries
from agentrelay.workstream._lane import RESCUE_PREFIX

__all__ = [
    "MINIMUM",
    "count_files",
    "find_foreign_locks",
    "find_leftovers",
    "ignored_settings",
    "ignores_case",
    "is_set",
    "raw_urls",
    "rewrites",
    "versions",
]

# The first libgit2 with every published security fix, and the first pygit2 that has it.
MINIMUM: Final = ((1, 21), (1, 9, 7))

# What git would do, and libgit2 does not: ask a program, send a header, take a
# certificate or a way to a host from the configuration.
_IGNORED: Final = re.compile(
    r"credential\.(.+\.)?helper"
    r"|http\.(.+\.)?(extraheader|sslverify|sslcainfo|sslcapath|sslcert|cookiefile)"
    r"|core\.(sshcommand|askpass|hookspath)"
)

_REWRITES: Final = re.compile(r"url\..+\.(push)?insteadof")

# Lock files git makes beside these, and beside whatever lies below "refs".
_LOCKED_DIRS: Final = ("", "worktrees", "info", "objects/info")


def versions() -> tuple[str, str]:
    """Return the versions of pygit2 and of the libgit2 it brought."""
    return version("pygit2"), pygit2.LIBGIT2_VERSION


def count_files(repository: OpenRepository) -> int:
    """Return how many files the main checkout's index lists; 0 for a bare repository.

    Raises:
        RepositoryError: libgit2 cannot read the index, a split or sparse one above all.
    """
    if repository.handle.is_bare:
        return 0
    with repository_failures("read the index", path=repository.path):
        return len(repository.handle.index)


def is_set(repository: OpenRepository, key: str) -> bool:
    """Return whether a switch of the configuration is on; a value that is none is off."""
    with contextlib.suppress(KeyError, ValueError, pygit2.GitError):
        return repository.handle.config.get_bool(key)
    return False


def raw_urls(repository: OpenRepository, remote: str) -> list[str]:
    """Return a remote's addresses as they were written; they may hold a password."""
    config = repository.handle.config
    keys = (f"remote.{remote}.url", f"remote.{remote}.pushurl")
    return [str(config[key]) for key in keys if key in config]


def rewrites(repository: OpenRepository, urls: Sequence[str]) -> list[str]:
    """Return the keys that rewrite addresses: ``url.<base>.insteadOf`` and its like for pushing.

    Args:
        repository: Repository whose configuration is read.
        urls: Addresses as they were written.
    """
    return [
        name
        for name, entry in config_entries(repository.handle.config)
        if entry is not None
        and _REWRITES.fullmatch(name.lower())
        and any(url.encode().startswith(entry.raw_value or b"") for url in urls)
    ]


def ignored_settings(repository: OpenRepository) -> list[str]:
    """Return the keys of the configuration that git heeds and lanes do not, sorted."""
    names = {name for name, _ in config_entries(repository.handle.config)}
    return sorted(name for name in names if _IGNORED.fullmatch(name.lower()))


def ignores_case(repository: OpenRepository) -> bool:
    """Return whether the file system takes ``head`` for ``HEAD``, which is always there."""
    try:
        return (repository.common_dir / "HEAD").samefile(repository.common_dir / "head")
    except OSError:
        return False


def find_foreign_locks(repository: OpenRepository, *, before_s: float) -> list[Path]:
    """Return ``.lock`` files that are not ours and have not been touched for a while, sorted.

    Args:
        repository: Repository to look in.
        before_s: Only those last written before this time, in seconds since the epoch.
    """
    ours = {found for path in _below(repository.own_dir / "held") if (found := _inode(path))}
    return sorted(
        path
        for path in _lock_files(repository.common_dir)
        if _is_older(path, before_s) and _inode(path) not in ours
    )


def find_leftovers(
    repository: OpenRepository, *, trash_dir: Path, before_s: float
) -> dict[Path, str]:
    """Return what killed processes left, and what each thing is.

    Args:
        repository: Repository to look in.
        trash_dir: Where worktrees are renamed to before they are unlinked.
        before_s: Only what was last changed before this time, in seconds since the epoch:
            younger things may be in use.
    """
    own_dir = repository.own_dir
    # One that is held is being unlinked just now.
    removed = (path for path in _below(trash_dir) if not is_held(path))
    found = dict.fromkeys(removed, "a removed worktree that is not unlinked yet")
    found |= dict.fromkeys(_below(own_dir / "trash"), "a removed entry that is not unlinked yet")
    found |= dict.fromkeys(own_dir.glob("new-*"), "an entry that was never finished")
    dead = (path for path in _below(own_dir / "held") if is_held(path) is False)
    found |= dict.fromkeys(dead, "a lock whose holder is gone")
    logs = dead_logs_below(repository, RESCUE_PREFIX)
    found |= dict.fromkeys(logs, "the log of a rescue ref that is not there")
    found |= {
        entry.admin_dir: "a worktree that is half made"
        for entry in entries(repository)
        # A lane's entry is called like the lane's lock, which is held while files are written.
        if entry.is_half_made and not is_held(own_dir / "lanes" / f"{entry.admin_dir.name}.lock")
    }
    return {path: found[path] for path in sorted(found) if _is_older(path, before_s)}


def _below(directory: Path) -> Iterator[Path]:
    """Iterate over a directory, if it is one and no link to another."""
    with contextlib.suppress(OSError):
        if not directory.is_symlink():
            yield from directory.iterdir()


def _lock_files(common_dir: Path) -> Iterator[Path]:
    for name in _LOCKED_DIRS:
        yield from (common_dir / name).glob("*.lock")
    yield from (common_dir / "worktrees").glob("*/*.lock")
    for directory, _, names in os.walk(common_dir / "refs"):
        yield from (Path(directory, name) for name in names if name.endswith(".lock"))


def _is_older(path: Path, before_s: float) -> bool:
    """Tell whether something was last written before a time; what is gone was not."""
    found = _look(path)
    return found is not None and found.st_mtime < before_s


def _inode(path: Path) -> tuple[int, int] | None:
    found = _look(path)
    return None if found is None else (found.st_dev, found.st_ino)


def _look(path: Path) -> os.stat_result | None:
    """Return what the system knows of a path; ``None`` once its owner has removed it."""
    with contextlib.suppress(OSError):
        return path.lstat()
    return None
