"""Merging for real: the three ways GitHub merges, written into the bare repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import pygit2
from pygit2.enums import SortMode

from agentrelay.workstream.testing._github_refusals import RefusedError

if TYPE_CHECKING:
    from datetime import datetime

    from agentrelay.workstream.testing._github_store import HostedRepository, Pull

__all__ = ["METHODS", "MergeMethod", "commits_between", "is_mergeable", "merge"]

MergeMethod = Literal["merge", "squash", "rebase"]
METHODS: Final = ("merge", "squash", "rebase")


def commits_between(git: pygit2.Repository, base_sha: str, head_sha: str) -> list[pygit2.Commit]:
    """Return the commits of ``head_sha`` that ``base_sha`` lacks, oldest first."""
    walker = git.walk(head_sha, SortMode.TOPOLOGICAL | SortMode.REVERSE)
    walker.hide(base_sha)
    return list(walker)


def is_mergeable(git: pygit2.Repository, base_sha: str, head_sha: str) -> bool:
    """Tell whether the two merge without a conflict."""
    return git.merge_commits(base_sha, head_sha).conflicts is None


def merge(
    git: pygit2.Repository,
    repository: HostedRepository,
    pull: Pull,
    *,
    method: MergeMethod,
    title: str | None,
    message: str | None,
    now: datetime,
) -> str:
    """Merge an open pull request and move its base branch.

    Args:
        git: The repository, freshly opened; the pull request must be up to date with it.
        repository: What hosts it.
        pull: The pull request.
        method: How.
        title: First line of the commit, or ``None`` for GitHub's.
        message: Rest of the commit's message, or ``None`` for GitHub's.
        now: Time of the commits and of the merge.

    Returns:
        The commit the base branch points at afterwards.

    Raises:
        RefusedError: It conflicts (405), or the base moved meanwhile (405).
    """
    base = git.references.get(f"refs/heads/{pull.base}")
    if base is None or str(base.target) != pull.base_sha:
        raise RefusedError.base_modified()
    who = pygit2.Signature(
        repository.owner, f"{repository.owner}@users.noreply.github.com", int(now.timestamp()), 0
    )
    commits = commits_between(git, pull.base_sha, pull.head_sha)
    if method == "rebase":
        merged = _rebase(git, pull, commits, who)
    else:
        default_title, default_message = _default_text(repository, pull, method, commits)
        text = _join(
            default_title if title is None else title,
            default_message if message is None else message,
        )
        merged = _commit(git, pull, text, who, parents=2 if method == "merge" else 1)
    try:
        # libgit2 compares with the value read above: a push in between makes this fail
        # with its own error, and one under way with an OSError about the ref's lock.
        base.set_target(merged)
    except (pygit2.GitError, OSError) as error:
        raise RefusedError.base_modified() from error
    pull.become_merged(str(merged), now)
    return str(merged)


def _default_text(
    repository: HostedRepository, pull: Pull, method: MergeMethod, commits: list[pygit2.Commit]
) -> tuple[str, str]:
    """Return the title and message GitHub gives a commit when the caller gives none.

    Source:
        "About merge methods on GitHub", docs.github.com: a squash of one commit
        takes that commit's text, a squash of several lists them.
    """
    if method == "merge":
        where = f"{(pull.fork or repository).owner}/{pull.head}"
        return f"Merge pull request #{pull.number} from {where}", pull.title
    if len(commits) == 1:
        title, _, rest = commits[0].message.partition("\n")
        return f"{title} (#{pull.number})", rest.strip()
    listed = "\n\n".join(f"* {commit.message.strip()}" for commit in commits)
    return f"{pull.title} (#{pull.number})", listed


def _join(title: str, message: str) -> str:
    return f"{title}\n\n{message}" if message else title


def _commit(
    git: pygit2.Repository, pull: Pull, text: str, who: pygit2.Signature, *, parents: int
) -> pygit2.Oid:
    """Write the commit of a merge (two parents) or of a squash (one)."""
    index = git.merge_commits(pull.base_sha, pull.head_sha)
    if index.conflicts is not None:
        raise RefusedError.not_mergeable()
    tree = index.write_tree(git)
    chosen: list[str | pygit2.Oid] = [pull.base_sha, pull.head_sha]
    return git.create_commit(None, who, who, text, tree, chosen[:parents])


def _rebase(
    git: pygit2.Repository, pull: Pull, commits: list[pygit2.Commit], who: pygit2.Signature
) -> pygit2.Oid:
    """Write each commit again on top of the base, as ``git rebase`` would.

    Merge commits, and commits that change nothing there, are left out.
    """
    tip = git[pull.base_sha].peel(pygit2.Commit)
    for commit in commits:
        if len(commit.parents) > 1:
            continue
        before = commit.parents[0].tree_id if commit.parents else git.TreeBuilder().write()
        index = git.merge_trees(before, tip.tree_id, commit.tree_id)
        if index.conflicts is not None:
            raise RefusedError.not_mergeable("This branch can't be rebased")
        tree = index.write_tree(git)
        if tree == tip.tree_id:
            continue
        oid = git.create_commit(None, commit.author, who, commit.message, tree, [tip.id])
        tip = git[oid].peel(pygit2.Commit)
    return tip.id
