"""Commits of trees that are there already, of whatever somebody says about them."""

from __future__ import annotations

from collections.abc import Sequence

import pygit2

from agentrelay.workstream._git.identity import Person
from agentrelay.workstream._git.repository import OpenRepository

__all__ = ["new_commit", "person_line", "tree_id_of"]


def new_commit(
    repository: OpenRepository,
    tree_id: str,
    parents: Sequence[str],
    message: str,
    *,
    author: Person,
    committer: Person,
) -> str:
    """Make a commit that no ref leads to, and return its hex id.

    Args:
        repository: Where to make it.
        tree_id: Hex id of its tree.
        parents: Hex ids of its parents.
        message: Its message, as it will be stored.
        author: Who wrote it.
        committer: Who commits it.
    """
    made = repository.handle.create_commit(
        None,
        author.signature(),
        committer.signature(),
        message,
        pygit2.Oid(hex=tree_id),
        [pygit2.Oid(hex=parent) for parent in parents],
    )
    return str(made)


def person_line(person: Person) -> bytes:
    """Return name, address, time and zone as a commit's header has them.

    Source:
        git-commit-tree(1), "COMMIT INFORMATION".
    """
    who = person.signature()
    minutes = abs(who.offset)
    zone = f"{'-' if who.offset < 0 else '+'}{minutes // 60:02d}{minutes % 60:02d}"
    return who.raw_name + b" <" + who.raw_email + f"> {who.time} {zone}".encode()


def tree_id_of(repository: OpenRepository, commit_id: str) -> str:
    """Return the hex id of a commit's tree."""
    return str(repository.handle[commit_id].peel(pygit2.Tree).id)
