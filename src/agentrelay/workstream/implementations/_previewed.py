"""Finding the two sides of a merge that is looked at, and putting the answer together."""

from __future__ import annotations

from typing import NamedTuple

from agentrelay.workstream._conflicts import MergePreview
from agentrelay.workstream._git.history import local_commit
from agentrelay.workstream._git.merging import InMemoryMerges
from agentrelay.workstream._git.repository import OpenRepository, is_commit_id
from agentrelay.workstream._lane import check_branch_name
from agentrelay.workstream.errors import RepositoryError

__all__ = ["Side", "look_up", "previewed"]


class Side(NamedTuple):
    """One side of a merge.

    Attributes:
        name: Full ref name, or the commit's id if that was asked for.
        commit_id: Hex id of the commit it was at.
    """

    name: str
    commit_id: str


def look_up(repository: OpenRepository, name: str, *, remote: str, is_remote_first: bool) -> Side:
    """Return the commit that a branch, a full ref or a commit id stands for.

    Args:
        repository: Where to look.
        name: Which; a branch of 40 hex digits needs its full name.
        remote: Whose branches count besides the local ones.
        is_remote_first: Which of both counts where both are there.

    Raises:
        LaneNameError: It can be none of the three.
        RepositoryError: There is none.
    """
    refs = []
    if is_commit_id(name):
        if local_commit(repository, name) is not None:
            return Side(name, name)
    elif name.startswith("refs/"):
        refs = [f"refs/{check_branch_name(name.removeprefix('refs/'), kind='ref')}"]
    else:
        check_branch_name(name, kind="branch")
        refs = [f"refs/heads/{name}", f"refs/remotes/{remote}/{name}"]
        if is_remote_first:
            refs.reverse()
    for ref in refs:
        commit_id = repository.resolve(ref)
        if commit_id is not None:
            return Side(ref, commit_id)
    what = "branch or ref" if refs else "commit"
    raise RepositoryError(
        f"there is no {what} '{name}' in '{repository.path}'",
        path=repository.path,
        hint="Fetch it, or correct the name.",
    )


def previewed(merges: InMemoryMerges, source: Side, target: Side) -> MergePreview:
    """Look at one merge."""
    merged = merges.merge(source.commit_id, target.commit_id)
    return MergePreview(
        source.name,
        target.name,
        source.commit_id,
        target.commit_id,
        is_merged=merged.is_merged,
        is_related=merged.is_related,
        conflicts=merged.conflicts,
        tree_id=merged.tree_id,
        is_certain=merged.is_certain,
    )
