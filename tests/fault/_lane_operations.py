"""Operations that are left in the middle in a lane's worktree, as git leaves them on disk."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pygit2

if TYPE_CHECKING:
    from tests.fault._lane_places import Clone, Place

__all__ = ["OPERATIONS", "operation_commits", "patches"]

_ID: Final = re.compile(r"\b[0-9a-f]{40}\b")
# Where git writes down what it will need to go on, as gitrepository-layout(5) and the manual
# pages of the commands have it.
_NOTES: Final = (
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "rebase-merge/orig-head",
    "rebase-merge/onto",
    "rebase-merge/git-rebase-todo",
)


def operation_commits(clone: Clone) -> set[str]:
    """Return the commits that operations under way in a clone's worktrees lead to."""
    handle = clone.handle
    return {
        name
        for path in clone.git.glob("worktrees/*")
        for note in _NOTES
        if (path / note).is_file()
        for name in _ID.findall((path / note).read_text())
        if name in handle
    }


def patches(admin_dir: Path) -> dict[Path, bytes]:
    """Return the patches that no commit holds yet, by where they are."""
    return {path: path.read_bytes() for path in admin_dir.glob("rebase-apply/0*")}


def _loose(place: Place, number: int) -> str:
    """Return a commit on top of the lane that no ref leads to."""
    head = str(pygit2.Repository(str(place.worktree)).head.target)
    return place.clone.commit(number, parents=[head])


def _merge(place: Place, number: int) -> None:
    # What is in the way of the merge stops it before anything is changed.
    with contextlib.suppress(pygit2.GitError):
        handle = pygit2.Repository(str(place.worktree))
        # No descendant, so that there is something to merge.
        handle.merge(pygit2.Oid(hex=place.clone.commit(number, parents=[])))


def _cherry_pick(place: Place, number: int) -> None:
    with contextlib.suppress(pygit2.GitError):
        handle = pygit2.Repository(str(place.worktree))
        handle.cherrypick(pygit2.Oid(hex=_loose(place, number)))


def _rebase(place: Place, number: int) -> None:
    onto, planned = _loose(place, number), _loose(place, number + 1000)
    handle = pygit2.Repository(str(place.worktree))
    notes = {
        "head-name": f"{place.lane.branch_ref}\n",
        "orig-head": f"{handle.head.target}\n",
        "onto": f"{onto}\n",
        "git-rebase-todo": f"pick {planned} commit\n# Rebase\n",
        "interactive": "",
    }
    (place.admin_dir / "rebase-merge").mkdir(exist_ok=True)
    for name, text in notes.items():
        (place.admin_dir / "rebase-merge" / name).write_text(text)
    handle.set_head(pygit2.Oid(hex=onto))


def _am(place: Place, number: int) -> None:
    directory = place.admin_dir / "rebase-apply"
    directory.mkdir(exist_ok=True)
    for name, text in {
        "applying": "",
        "next": "1\n",
        "last": "2\n",
        "0001": f"From: Robin\nSubject: {number}\n\nfirst\n",
        "0002": f"From: Robin\nSubject: {number}\n\nsecond\n",
    }.items():
        (directory / name).write_text(text)


# How an operation is begun and not ended, by its name.
OPERATIONS: Final[dict[str, Callable[[Place, int], None]]] = {
    "merge": _merge,
    "cherry-pick": _cherry_pick,
    "rebase": _rebase,
    "am": _am,
}
