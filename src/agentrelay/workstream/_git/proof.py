"""Proving that a commit exists elsewhere before its last ref goes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import pygit2

from agentrelay.workstream._git.repository import OpenRepository

__all__ = ["is_contained", "is_merged", "is_superseded"]

# Not refs/remotes: what a remote was once seen to have, it may have deleted since, and the
# next "git fetch --prune" forgets it.
_LASTING: Final = ("refs/heads/", "refs/tags/")
_OF_A_LANE: Final = re.compile(r"refs/heads/(.*/)?agentrelay/[^/]+/[^/]+/")


def is_contained(
    repository: OpenRepository, commit_id: str, *, target_refs: tuple[str, ...]
) -> bool:
    """Return whether a commit's work survives when its lane's refs are gone.

    Branches of lanes prove nothing: they come and go, and two of them that are torn down
    at once must not count on each other. Neither do remote-tracking refs, unless the
    caller names one among the targets because the remote has just confirmed it.

    Args:
        repository: Repository to look in.
        commit_id: Hex id of the commit that is about to lose its ref.
        target_refs: Refs to try first, by ancestry and by content: a squash or rebase
            merge leaves no ancestry, but merging once more would change nothing.
    """
    if is_merged(repository, commit_id, target_refs=target_refs):
        return True
    for reference in repository.handle.references.iterator():
        name = reference.name
        if not name.startswith(_LASTING) or _OF_A_LANE.match(name):
            continue
        try:
            tip = str(reference.peel(pygit2.Commit).id)
        except (pygit2.GitError, ValueError):
            # A tag of something else, or a broken ref of somebody else's: it proves nothing.
            continue
        if repository.contains(commit_id, tip):
            return True
    return False


def is_merged(repository: OpenRepository, commit_id: str, *, target_refs: tuple[str, ...]) -> bool:
    """Return whether a commit's work is in one of the targets, by ancestry or by content.

    A squash or rebase merge leaves no ancestry, but merging once more would change
    nothing.

    Args:
        repository: Repository to look in.
        commit_id: Hex id of the commit.
        target_refs: Full names of the refs it may be merged into; missing ones are fine.
    """
    targets = [tip for tip in (repository.resolve(ref) for ref in target_refs) if tip is not None]
    return is_superseded(repository, commit_id, targets)


def is_superseded(repository: OpenRepository, commit_id: str, tips: Sequence[str]) -> bool:
    """Return whether a commit's work is in one of some commits, by ancestry or by content.

    Args:
        repository: Repository to look in.
        commit_id: Hex id of the commit.
        tips: Hex ids of the commits it may be in.
    """
    return any(repository.contains(commit_id, tip) for tip in tips) or any(
        _changes_nothing(repository, commit_id, tip) for tip in tips
    )


def _changes_nothing(repository: OpenRepository, commit_id: str, target_id: str) -> bool:
    """Return whether merging a commit into a target would leave the target's tree as it is."""
    handle = repository.handle
    try:
        fork: object = repository.history.merge_base(commit_id, target_id)
        if fork is None:
            return False
        if handle[str(fork)].peel(pygit2.Tree).id == handle[commit_id].peel(pygit2.Tree).id:
            # Commits that undo each other are in every target by content; that proves nothing.
            return False
        merged = handle.merge_commits(target_id, commit_id)
        if merged.conflicts is not None:
            return False
        return bool(merged.write_tree(handle) == handle[target_id].peel(pygit2.Tree).id)
    except (pygit2.GitError, KeyError, ValueError):
        return False
