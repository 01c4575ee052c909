"""The lane branch's section in the repository's configuration.

Written under git's own ``config.lock`` in one go: libgit2 rewrites the file once a key
and leaves an empty section behind when keys are deleted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.lockfile import LockedError, LockFile
from agentrelay.workstream._git.locks import until_free
from agentrelay.workstream._git.repository import OpenRepository

__all__ = ["drop_upstream", "set_upstream"]


def set_upstream(repository: OpenRepository, branch: str, *, remote: str) -> None:
    """Make a branch track the branch of the same name on a remote.

    A plain ``git push`` or ``git pull`` in a worktree on that branch then goes there.

    Args:
        repository: Repository whose configuration is written.
        branch: Short name of a lane's branch; validated, so it needs no quoting.
        remote: Name of the remote.

    Raises:
        LaneBusyError: Another program kept the configuration locked.
        RepositoryError: It cannot be written.
    """
    section = (
        f"{_header(branch)}\n\tremote = {_quoted(remote)}\n\tmerge = refs/heads/{branch}\n"
    ).encode()

    def with_section(data: bytes) -> bytes:
        rest = _without_section(data, branch)
        gap = b"" if not rest or rest.endswith(b"\n") else b"\n"
        changed = rest + gap + section
        return data if section in data and len(changed) == len(data) else changed

    _rewrite(repository, with_section, f"set the upstream of '{branch}'")


def drop_upstream(repository: OpenRepository, branch: str) -> None:
    """Remove a branch's section, if it has one.

    Raises:
        LaneBusyError: Another program kept the configuration locked.
        RepositoryError: It cannot be written.
    """
    _rewrite(
        repository, lambda data: _without_section(data, branch), f"unset the upstream of '{branch}'"
    )


def _header(branch: str) -> str:
    return f'[branch "{branch}"]'


def _quoted(value: str) -> str:
    """Return a value as git-config(1) wants it quoted."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    plain = escaped == value == value.strip() and not set("#;") & set(value)
    return value if plain else f'"{escaped}"'


def _without_section(data: bytes, branch: str) -> bytes:
    """Return the configuration without one branch's section; all else byte for byte."""
    header = _header(branch).encode()
    kept: list[bytes] = []
    dropping = False
    for line in data.splitlines(keepends=True):
        stripped = line.strip()
        if stripped.startswith(b"["):
            dropping = stripped == header
        if not dropping or stripped.startswith((b"#", b";")):
            kept.append(line)
    return b"".join(kept)


def _rewrite(repository: OpenRepository, change: Callable[[bytes], bytes], operation: str) -> None:
    """Apply a change under ``config.lock``; an unchanged file is not written."""
    # Git locks the file a linked configuration leads to.
    path = Path(os.path.realpath(repository.common_dir / "config"))

    def attempt() -> None:
        before = path.read_bytes()
        if change(before) == before:
            return
        with LockFile(path, own_dir=repository.own_dir) as lock:
            lock.commit(change(path.read_bytes()))

    with repository_failures(operation, path=path):
        until_free(attempt, busy=lambda error: isinstance(error, LockedError), what=operation)
