"""Which files a commit takes: everything, or the paths a caller names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pygit2

from agentrelay.workstream._changes import TreeStatus
from agentrelay.workstream._durations import listed
from agentrelay.workstream._git.commit_checks import refuse_paths
from agentrelay.workstream._git.repository import refuse_links
from agentrelay.workstream._git.tree_status import hidden_paths, ignored_folders
from agentrelay.workstream.errors import RepositoryError

__all__ = ["Selection", "relative_paths"]


def relative_paths(worktree_path: Path, paths: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Return paths as git writes them: relative to the top, with ``/``.

    Args:
        worktree_path: Top of the working tree.
        paths: Relative to it, or absolute within it. They are names and no patterns.

    Returns:
        The paths, each once; ``""`` for the top itself.

    Raises:
        RepositoryError: One is outside, or git's own.
        LaneConflictError: One leads through a symbolic link.
    """
    if isinstance(paths, str | bytes | os.PathLike):
        raise RepositoryError(
            "paths is a single path, not a list of them", hint="Write paths=['that/path']."
        )
    top = Path(worktree_path)
    paths = listed("paths", paths)
    found: dict[str, None] = {}
    for path in paths:
        given: object = path
        if not isinstance(given, str | os.PathLike) or isinstance(os.fspath(given), bytes):
            raise RepositoryError(
                f"{path!r} is no path", path=top, hint="Give paths as text, or as pathlib.Path."
            )
        text = os.fspath(path)
        whole = Path(os.path.normpath(top / text)) if text else top
        inside = whole == top or top in whole.parents
        name = "" if whole == top or not inside else whole.relative_to(top).as_posix()
        if not text or not inside or name.split("/")[0].lower() == ".git":
            raise RepositoryError(
                f"'{text}' is no path inside the worktree '{top}'",
                path=top,
                hint="Give paths of the worktree's own files, relative to its top.",
            )
        if name:
            refuse_links(whole.parent, below=top)
        found[name] = None
    return tuple(found)


class Selection:
    """The named paths, with what is below those that are folders."""

    def __init__(self, paths: tuple[str, ...] | None) -> None:
        """Select some paths as of :func:`relative_paths`, or everything."""
        self._paths = None if paths is None or "" in paths else set(paths)

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self._paths is None

    def has(self, path: str) -> bool:
        """Return whether a path is selected."""
        if self._paths is None or path.rstrip("/") in self._paths:
            return True
        folder = path.rstrip("/")
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            if folder in self._paths:
                return True
        return False

    def refuse_unknown(self, handle: pygit2.Repository, status: TreeStatus) -> None:
        """Refuse a path that selects nothing git could commit, as git does.

        Args:
            handle: Repository opened at the working tree.
            status: Its status.

        Raises:
            CommitRefusedError: A path is ignored, or hidden by a sparse checkout.
            RepositoryError: There is no such file, and git knows none.
        """
        if self._paths is None:
            return
        names = [str(entry.path) for entry in handle.index]
        names += [change.path for change in (*status.staged, *status.unstaged)]
        names += status.untracked
        known = _with_folders(names)
        hidden = sorted(self._paths & hidden_paths(handle))
        if hidden:
            raise refuse_paths(
                hidden,
                "a sparse checkout hides it, so that it is missing says nothing",
                hint="Widen the sparse checkout with git first.",
            )
        strange = sorted(self._paths - known)
        root, is_below_ignored = Path(handle.workdir), ignored_folders(handle)
        ignored = [
            path
            for path in strange
            if os.path.lexists(root / path)
            and (handle.path_is_ignored(os.fsdecode(path)) or is_below_ignored(path))
        ]
        if ignored:
            raise refuse_paths(
                ignored,
                "git's ignore rules leave it out",
                hint="Change the rule, or name another path; nothing is added by force.",
            )
        # An empty folder holds nothing, and is there.
        missing = [path for path in strange if not (root / path).is_dir()]
        if missing:
            raise RepositoryError(
                f"'{missing[0]}' is no file of the worktree '{root}', and git knows none",
                path=root / missing[0],
                hint="Paths are names relative to the worktree's top; patterns are not read.",
            )


def _with_folders(names: list[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        path = name.rstrip("/")
        while path and path not in found:
            found.add(path)
            path = path.rpartition("/")[0]
    return found
