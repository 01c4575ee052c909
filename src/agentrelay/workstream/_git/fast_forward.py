"""Moving a branch forward together with the working tree that is on it.

First the files, then the index, then the branch. Stopped in between, what is there is
partly as in the old commit and partly as in the new one, and nobody's: whoever comes next
puts it back first, by what was written down in ``move_journal.py``. Where that is gone, what
is as in the new commit counts as clean.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import FileMode

from agentrelay.workstream._git.careful_checkout import (
    ObstructedError,
    write_files,
    write_new_files,
)
from agentrelay.workstream._git.failures import is_torn, repository_failures
from agentrelay.workstream._git.file_entries import (
    FileEntry,
    changes_between,
    entry_in,
    file_at,
    is_file,
    staged_at,
)
from agentrelay.workstream._git.file_rules import FileRules
from agentrelay.workstream._git.index_draft import NO_STAGES, IndexDraft, Stages, stages_of
from agentrelay.workstream._git.lockfile import LockedError
from agentrelay.workstream._git.locks import reading, until_free
from agentrelay.workstream._git.move_journal import begin_move, end_move, undo_move
from agentrelay.workstream._git.reflog import log_head
from agentrelay.workstream._git.refs import move_ref
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.sparse import paths_to_hide
from agentrelay.workstream._git.tree_status import read_status
from agentrelay.workstream.errors import LaneConflictError

__all__ = ["fast_forward", "move_files", "refuse_in_the_way"]

_MOST_SHOWN: Final = 5
_Change = tuple[str, FileEntry | None]


def fast_forward(
    repository: OpenRepository, branch_ref: str, *, tip: str, target: str, message: str
) -> None:
    """Move a branch, its index and its files forward; hold the lane.

    Args:
        repository: Opened at the working tree, which is on that branch.
        branch_ref: Full name of the branch.
        tip: Hex id it is at.
        target: Hex id of a descendant, or of what the branch's commits were rebased to.
        message: What to write into the reflogs.

    Raises:
        LaneConflictError: Something that is in no commit is in the way, or the branch has
            moved; nothing was changed.
        LaneBusyError: Another program kept the index locked.
        RepositoryError: Something cannot be read or written.
    """
    if repository.resolve(branch_ref) != tip:
        raise _moved(branch_ref, "Look at its new commits, then repeat. Nothing was changed.")
    move_files(repository, tip=tip, target=target)
    with repository_failures("move the branch forward", path=repository.path):
        log_head(repository, tip, target, message=message)
        if not move_ref(repository, branch_ref, target, expected=tip, message=message):
            end_move(repository)
            raise _moved(branch_ref, f"The files are those of {target[:12]}. Look at both.")
        end_move(repository)


def _moved(branch_ref: str, hint: str) -> LaneConflictError:
    return LaneConflictError(
        f"'{branch_ref}' was moved by another program meanwhile", obstacle=branch_ref, hint=hint
    )


def refuse_in_the_way(
    repository: OpenRepository, *, tip: str, target: str, stages: Mapping[str, Stages] = NO_STAGES
) -> None:
    """Refuse what :func:`move_files` would refuse; nothing is changed.

    Raises:
        LaneConflictError: Something that is in no commit is in the way.
        RepositoryError: Something cannot be read.
    """
    with repository_failures("look at the worktree", path=repository.path):
        reading(lambda: _looked_at(repository, tip, target, stages), torn=is_torn)


def move_files(
    repository: OpenRepository, *, tip: str, target: str, stages: Mapping[str, Stages] = NO_STAGES
) -> None:
    """Write the files and the index of a commit or tree over those of another; hold the lane.

    What is being done stays written down until the caller says :func:`end_move`.

    Args:
        repository: Opened at the working tree.
        tip: Hex id of the commit HEAD is at.
        target: Hex id of a commit or tree.
        stages: What the index has of the paths in conflict.

    Raises:
        LaneConflictError: Something that is in no commit is in the way; nothing was changed.
        LaneBusyError: Another program kept the index locked.
        RepositoryError: Something cannot be read or written.
    """

    def attempt() -> None:
        with IndexDraft(repository) as draft:
            changed, shown, hidden = _looked_at(repository, tip, target, stages)
            begin_move(repository, tip=tip, target=target, conflicts=stages)
            try:
                if len(shown) == len(changed):
                    write_files(repository.handle, target, None)
                else:
                    _write_rest(repository.handle, tip, target, shown)
            except ObstructedError as error:
                raise _in_the_way(repository, error.paths) from error
            for path, entry in changed:
                if entry is None:
                    draft.drop(path)
                else:
                    # Without the file's time and size: somebody may have written to it by now,
                    # and git must find that out.
                    draft.put(path, entry[0], FileMode(entry[1]), None, hidden=path in hidden)
            for path, wanted in stages.items():
                draft.conflict(path, wanted)
            draft.install()

    with repository_failures("move the worktree forward", path=repository.path):
        try:
            until_free(
                lambda: reading(attempt, torn=is_torn),
                busy=lambda error: isinstance(error, LockedError),
                what=f"write the index of '{repository.path}'",
            )
        except Exception:
            undo_move(repository)
            raise


def _looked_at(
    repository: OpenRepository, tip: str, target: str, stages: Mapping[str, Stages]
) -> tuple[list[_Change], list[_Change], set[str]]:
    """Return what changes, what of it has to be written, and the paths that are hidden.

    Raises:
        LaneConflictError: Something that is in no commit is in the way.
    """
    handle = repository.handle
    changed = changes_between(handle, tip, target)
    hidden = paths_to_hide(handle, changed)
    done = _refuse_changes(repository, tip, target, stages, hidden=hidden)
    shown = [item for item in changed if item[0] not in hidden and item[0] not in done]
    _refuse_obstacles(repository, tip, [path for path, entry in shown if entry is not None])
    return changed, shown, hidden


def _write_rest(handle: pygit2.Repository, tip: str, target: str, shown: list[_Change]) -> None:
    """Write what is not there already, or what a sparse checkout shows.

    libgit2 refuses a new file that is there already, even as it ought to be; and what it
    compares with HEAD it does not write where a folder is gone. So first what HEAD has,
    and then, into the room that leaves, what is new.

    Raises:
        ObstructedError: Something is in no commit.
    """
    old = handle[tip].peel(pygit2.Tree)
    known = [path for path, _ in shown if entry_in(old, path) is not None]
    if known:
        write_files(handle, target, known)
    # Where a file became a folder, all of that is written by now.
    rules = FileRules(handle)
    new = [
        path
        for path, entry in shown
        if entry_in(old, path) is None
        and entry is not None
        and file_at(handle, path, rules) != entry
    ]
    for path in new:
        _drop_empty(Path(handle.workdir, path))
    if new:
        write_new_files(handle, target, new)


def _drop_empty(path: Path) -> None:
    """Remove what is left of a folder: the empty ones in it, and itself."""
    if not _is_folder(path):
        return
    for top, _, _ in os.walk(path, topdown=False):
        with suppress(OSError):
            Path(top).rmdir()


def _refuse_changes(
    repository: OpenRepository,
    tip: str,
    target: str,
    stages: Mapping[str, Stages],
    *,
    hidden: set[str],
) -> set[str]:
    """Refuse what is in no commit, unless it is what the new commit holds.

    Returns:
        The paths that are as in the new commit already.

    Raises:
        LaneConflictError: There is some.
    """
    handle = repository.handle
    status = read_status(handle)
    old, new = (handle[name].peel(pygit2.Tree) for name in (tip, target))
    changed = {change.path for change in (*status.staged, *status.unstaged)}
    # In conflict as they will be: somebody may have begun to resolve them.
    done = {path for path in status.conflicted if _stages_at(handle, path) == stages.get(path)}
    wrong = [path for path in status.conflicted if path not in done]
    rules = FileRules(handle)
    for path in sorted(changed.union(status.untracked)):
        wanted = entry_in(new, path.rstrip("/"))
        if path not in changed and wanted is None:
            # Untracked, and in nobody's way.
            continue
        if path in changed and staged_at(handle, path) not in {wanted, entry_in(old, path)}:
            wrong.append(path)
        elif path in changed and path in hidden:
            # There is no file, and there ought to be none.
            continue
        else:
            (done.add if file_at(handle, path, rules) == wanted else wrong.append)(path)
    if wrong:
        raise _in_the_way(repository, sorted(wrong))
    return done


def _refuse_obstacles(repository: OpenRepository, tip: str, coming: list[str]) -> None:
    """Refuse what stands where folders and files will be written, ignored or not.

    libgit2 takes a folder away, with all that is ignored in it, where a link is to be; where
    it is given paths, it writes through links; and it waits for the reader of a pipe.

    Raises:
        LaneConflictError: There is something; nothing was changed.
    """
    root = Path(repository.handle.workdir)
    old = repository.handle[tip].peel(pygit2.Tree)
    wrong: set[str] = set()
    seen: set[str] = set()
    for path in coming:
        if _is_folder(root / path):
            # An empty folder that HEAD has is what is left of it.
            wrong.update(below for below in _below(root, path) if below not in old)
        elif os.path.lexists(root / path) and (
            not is_file(root / path) or entry_in(old, path) is None
        ):
            # A file that is ignored is refused by libgit2, but late.
            wrong.add(path)
        for folder in map(str, Path(path).parents[:-1]):
            if folder in seen:
                break
            seen.add(folder)
            there = os.path.lexists(root / folder) and not _is_folder(root / folder)
            if there and entry_in(old, folder) is None:
                wrong.add(folder)
    if wrong:
        raise _in_the_way(repository, sorted(wrong))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _below(root: Path, path: str) -> Iterator[str]:
    """Return all that is in a folder, and of the folders in it those that are empty."""
    for top, folders, files in os.walk(root / path):
        if not folders and not files and Path(top) != root / path:
            yield Path(top).relative_to(root).as_posix()
        for name in (*files, *(name for name in folders if Path(top, name).is_symlink())):
            yield Path(top, name).relative_to(root).as_posix()


def _in_the_way(repository: OpenRepository, paths: list[str]) -> LaneConflictError:
    shown = ", ".join(f"'{path}'" for path in paths[:_MOST_SHOWN])
    if len(paths) > _MOST_SHOWN:
        shown = f"{shown} and {len(paths) - _MOST_SHOWN} more"
    return LaneConflictError(
        f"the worktree '{repository.path}' has changes that are in no commit: {shown}",
        obstacle=repository.path / paths[0],
        hint="Commit them, or move them away, then repeat. Nothing was changed.",
    )


def _stages_at(handle: pygit2.Repository, path: str) -> Stages | None:
    """Return what the index has of a path in conflict."""
    found = handle.index.conflicts
    try:
        sides = None if found is None else found[path]
    except KeyError:
        return None
    return None if sides is None else stages_of(*sides)
