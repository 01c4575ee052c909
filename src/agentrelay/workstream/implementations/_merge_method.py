"""Telling how a pull request was merged from the commits it left in its target; pure.

Source:
    docs.github.com, "About merge methods on GitHub": a merge has the head as its second
    parent; a squash is one new commit with its own author's time; a rebase writes each
    commit again, with author, time of writing and message as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal, Optional

from agentrelay.workstream._commits import CommitFacts

__all__ = ["Method", "tell_method"]

Method = Literal["merge", "squash", "rebase"]

# GitHub rebases no more than this ("About merge methods on GitHub").
_MOST_REBASED: Final = 100


def tell_method(  # noqa: PLR0911 - one for each way to merge, and for each not to know
    merge_commit: str,
    head: str,
    *,
    find: Callable[[str], Optional[CommitFacts]],
    brought: Callable[[], Optional[Iterable[CommitFacts]]],
) -> tuple[Optional[Method], Optional[str]]:
    """Tell how a merge was done, and what the target was at before.

    Args:
        merge_commit: The target's commit right after the merge.
        head: The pull request's last commit.
        find: Looks a commit of the target up; ``None`` where it is not known.
        brought: Returns commits of the pull request, possibly with older ones; ``None``
            where they are not known. Asked only if it matters.

    Returns:
        Method and commit; ``None`` for what cannot be told.
    """
    last = find(merge_commit)
    if last is None or not last.parents or merge_commit == head:
        return None, None
    if len(last.parents) > 1:
        # Without the head right below it, somebody pushed what holds the head.
        return ("merge", last.parents[0]) if head in last.parents[1:] else (None, None)
    known = brought()
    if known is None:
        return None, None
    brought_commits = tuple(known)
    originals = {commit.sha for commit in brought_commits}
    # A rebase leaves merges out.
    origins = {commit.origin for commit in brought_commits if len(commit.parents) <= 1}
    if last.sha in originals:
        return None, None
    if last.origin not in origins:
        return "squash", last.parents[0]
    current: Optional[CommitFacts] = last
    for _ in range(_MOST_REBASED):
        if current is None:
            # Further down than is known: it may be one of the run.
            return "rebase", None
        is_rewritten = current.sha not in originals and current.origin in origins
        if not is_rewritten or len(current.parents) != 1:
            return "rebase", current.sha
        current = find(current.parents[0])
    return "rebase", None
