"""Reading reflogs: the only thing that leads to a commit somebody reset or amended away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pygit2

from agentrelay.workstream._git.repository import HEX_LENGTH, OpenRepository

__all__ = ["logged_commits"]


def logged_commits(repository: OpenRepository, log: Path) -> Iterator[str]:
    """Iterate over the commits of a reflog that still exist, newest first, each once.

    Args:
        repository: Repository the commits are in.
        log: File of the reflog, or a file of one id such as ``ORIG_HEAD``; a missing or
            unreadable one holds none.

    Source:
        gitrepository-layout(5), "logs": old id, new id, who and when, a tab, the message.
    """
    seen: set[str] = set()
    with suppress(OSError):
        for line in reversed(log.read_bytes().splitlines()):
            for field in reversed(line.split(b" ", 2)[:2]):
                commit_id = field.decode("ascii", "replace")
                if len(commit_id) != HEX_LENGTH or commit_id in seen:
                    continue
                seen.add(commit_id)
                if _is_commit(repository, commit_id):
                    yield commit_id


def _is_commit(repository: OpenRepository, commit_id: str) -> bool:
    """Return whether a commit of that id is here and can be read."""
    try:
        return isinstance(repository.handle[commit_id], pygit2.Commit)
    except (KeyError, ValueError, pygit2.GitError):
        return False
