"""What of a working tree is in no commit, as ``git status`` tells it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import FileStatus
from pygit2.ffi import C

from agentrelay.workstream._changes import AheadBehind, ChangedPath, ChangeKind, TreeStatus
from agentrelay.workstream._git.failures import is_torn
from agentrelay.workstream._git.index_draft import SKIP_WORKTREE
from agentrelay.workstream._git.kept_trees import mode_at
from agentrelay.workstream._git.locks import reading
from agentrelay.workstream._git.repository import OpenRepository

__all__ = ["hidden_paths", "ignored_folders", "newer_tip", "read_status", "tips_apart"]

# Plain numbers: operations on flags of Python's enum take longer than looking at a file.
_STAGED: Final[tuple[tuple[int, ChangeKind], ...]] = (
    (int(FileStatus.INDEX_NEW), "added"),
    (int(FileStatus.INDEX_DELETED), "deleted"),
    (int(FileStatus.INDEX_TYPECHANGE), "type_changed"),
    (int(FileStatus.INDEX_MODIFIED), "modified"),
)
_UNSTAGED: Final[tuple[tuple[int, ChangeKind], ...]] = (
    (int(FileStatus.WT_DELETED), "deleted"),
    (int(FileStatus.WT_TYPECHANGE), "type_changed"),
    (int(FileStatus.WT_MODIFIED), "modified"),
)
_UNTRACKED: Final = int(FileStatus.WT_NEW)
_CONFLICTED: Final = int(FileStatus.CONFLICTED)
# gitformat-index(5), "extended flags".
_INTENT_TO_ADD: Final = 0x2000


def read_status(handle: pygit2.Repository) -> TreeStatus:
    """Compare HEAD, index and working tree; nothing is written, the index neither.

    A file that a sparse checkout hides is not a deletion, and one that was only announced
    ("git add --intent-to-add") is an addition that is not staged.

    Args:
        handle: Repository opened at the working tree.
    """
    flags_of = reading(lambda: handle.status(untracked_files="all"), torn=is_torn)
    handle.index.read(False)
    announced, hidden = _flagged(handle)
    staged: list[ChangedPath] = []
    unstaged: list[ChangedPath] = []
    untracked: list[str] = []
    conflicted = {side.path for sides in handle.index.conflicts or () for side in sides if side}
    for path, all_flags in flags_of.items():
        flags = int(all_flags)
        if flags & _CONFLICTED or path in conflicted:
            conflicted.add(path)
            continue
        if path in announced:
            there = mode_at(Path(handle.workdir), path) is not None
            unstaged.append(ChangedPath(path, "added" if there else "deleted"))
            continue
        if flags & _UNTRACKED:
            untracked.append(path)
        kind = next((kind for flag, kind in _STAGED if flags & flag), None)
        if kind is not None:
            staged.append(ChangedPath(path, kind))
        kind = next((kind for flag, kind in _UNSTAGED if flags & flag), None)
        if kind is not None and not (kind == "deleted" and path in hidden):
            unstaged.append(ChangedPath(path, kind))
    return TreeStatus(
        tuple(sorted(staged)),
        tuple(sorted(unstaged)),
        tuple(sorted(itertools.filterfalse(ignored_folders(handle), untracked))),
        tuple(sorted(conflicted)),
    )


def ignored_folders(handle: pygit2.Repository) -> Callable[[str], bool]:
    """Return what tells whether a path is in an ignored folder: nothing takes it out of that.

    Git never looks into such a folder. libgit2 does where it holds a tracked file, and finds
    rules that include some of it again. Each folder is asked about once.

    Source:
        gitignore(5): "It is not possible to re-include a file if a parent directory of that
        file is excluded."
    """

    @functools.cache
    def is_ignored(folder: str) -> bool:
        if not folder:
            return False
        return is_ignored(_above(folder)) or bool(handle.path_is_ignored(f"{folder}/"))

    return lambda path: is_ignored(_above(path.rstrip("/")))


def _above(path: str) -> str:
    return path.rpartition("/")[0]


def hidden_paths(handle: pygit2.Repository) -> set[str]:
    """Return the tracked paths that a sparse checkout hides: flagged, and without a file."""
    return _flagged(handle)[1]


def _flagged(handle: pygit2.Repository) -> tuple[set[str], set[str]]:
    """Return the paths that were only announced, and those a sparse checkout hides."""
    announced: set[str] = set()
    hidden: set[str] = set()
    index, root = handle.index, Path(handle.workdir)
    for number in range(len(index)):
        # pygit2's own entries leave the flags out.
        raw = C.git_index_get_byindex(index._index, number)  # noqa: SLF001 - see above
        if not raw.flags_extended:
            continue
        path = index[number].path
        if raw.flags_extended & _INTENT_TO_ADD:
            announced.add(path)
        if raw.flags_extended & SKIP_WORKTREE and mode_at(root, path) is None:
            hidden.add(path)
    return announced, hidden


def newer_tip(repository: OpenRepository, branch: str, *, remote: str) -> str | None:
    """Return where a branch is by what is known here: the newer of local and remote.

    Where both diverge it is the remote's, as for a lane that is cut from it.

    Args:
        repository: Repository to look in; the network is not used.
        branch: Short branch name.
        remote: Name of the remote.

    Returns:
        Its hex id, or ``None`` where the branch is not known here.
    """
    local = repository.resolve(f"refs/heads/{branch}")
    there = repository.resolve(f"refs/remotes/{remote}/{branch}")
    if there is None or (local is not None and repository.contains(there, local)):
        return local
    return there


def tips_apart(repository: OpenRepository, tip: str, other: str | None) -> AheadBehind | None:
    """Return how far two commits have come apart; ``None`` where there is no other one."""
    if other is None:
        return None
    ahead, behind = repository.handle.ahead_behind(tip, other)
    return AheadBehind(ahead, behind)
