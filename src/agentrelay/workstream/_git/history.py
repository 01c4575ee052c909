"""Reading commits that are at hand, without asking anybody for more."""

from __future__ import annotations

import itertools

import pygit2
from pygit2.enums import RepositoryOpenFlag, SortMode

from agentrelay.workstream._commits import CommitFacts, facts_of
from agentrelay.workstream._git.repository import OpenRepository

__all__ = ["local_commit", "local_history", "with_history"]


def with_history(repository: OpenRepository) -> OpenRepository:
    """Return a fresh handle on the repository's own directory.

    It knows where the history of a shallow clone ends, as ``OpenRepository.history`` does,
    and all that is walked with it is.

    Args:
        repository: Opened anywhere in it.
    """
    handle = pygit2.Repository(str(repository.common_dir), RepositoryOpenFlag.NO_SEARCH)
    return OpenRepository(handle, repository.path, repository.common_dir, repository.config)


def local_commit(repository: OpenRepository, sha: str) -> CommitFacts | None:
    """Return the facts of a commit, or ``None`` where its object is not here."""
    try:
        return _facts(repository.handle[sha].peel(pygit2.Commit))
    except (KeyError, ValueError, pygit2.GitError):
        return None


def local_history(repository: OpenRepository, sha: str, *, most: int) -> list[CommitFacts] | None:
    """Return a commit and those before it, newest first, or ``None`` where it is not here.

    Args:
        repository: Where to look.
        sha: Hex id of the commit to begin with.
        most: How many to return at most.
    """
    if local_commit(repository, sha) is None:
        return None
    walker = repository.history.walk(sha, SortMode.TOPOLOGICAL)
    try:
        return [_facts(commit) for commit in itertools.islice(walker, most)]
    except (KeyError, pygit2.GitError):
        # A part of the history is missing: what there is might mislead.
        return None


def _facts(commit: pygit2.Commit) -> CommitFacts:
    return facts_of(
        str(commit.id),
        tuple(str(parent) for parent in commit.parent_ids),
        email=commit.author.raw_email.decode("utf-8", "replace"),
        authored_s=commit.author.time,
        message=commit.raw_message.decode("utf-8", "replace"),
    )
