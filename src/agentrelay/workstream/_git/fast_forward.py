"""Moving a branch forward together with the working tree that is on it.

First the files, then the index, then the branch. Stopped in between, what is there is
partly as in the old commit and partly as in the new one, and nobody's: so that counts as
clean, and the next try goes on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import FileMode

from agentrelay.workstream._git.blobs import blob_at
from agentrelay.workstream._git.careful_checkout import (
    ObstructedError,
    write_files,
    write_new_files,
)
from agentrelay.workstream._git.failures import is_torn, repository_failures
from agentrelay.workstream._git.file_rules import FileRules
from agentrelay.workstream._git.forward_journal import begin, finish, read_begun
from agentrelay.workstream._git.index_draft import IndexDraft
from agentrelay.workstream._git.kept_trees import mode_at
from agentrelay.workstream._git.lockfile import LockedError
from agentrelay.workstream._git.locks import reading, until_free
from agentrelay.workstream._git.reflog import log_head
from agentrelay.workstream._git.refs import move_ref
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.sparse import read_sparse_patterns
from agentrelay.workstream._git.tree_status import hidden_paths, read_status
from agentrelay.workstream.errors import LaneConflictError

__all__ = ["fast_forward"]

_MOST_SHOWN: Final = 5
_Entry = tuple[pygit2.Oid, int]
_Change = tuple[str, _Entry | None]


def fast_forward(
    repository: OpenRepository, branch_ref: str, *, tip: str, target: str, message: str
) -> None:
    """Move a branch, its index and its files forward; hold the lane.

    Args:
        repository: Opened at the working tree, which is on that branch.
        branch_ref: Full name of the branch.
        tip: Hex id it is at.
        target: Hex id of a descendant.
        message: What to write into the reflogs.

    Raises:
        LaneConflictError: Something that is in no commit is in the way, or the branch has
            moved; nothing was changed.
        LaneBusyError: Another program kept the index locked.
        RepositoryError: Something cannot be read or written.
    """

    def attempt() -> None:
        with IndexDraft(repository) as draft:
            changed = _changed(repository.handle, tip, target)
            hidden = _hidden(repository.handle, changed)
            done, torn = _refuse_changes(repository, tip, target, hidden)
            # What a former move did may not be a change at all by now.
            changed += _unchanged(repository.handle, target, done | torn, changed)
            shown = [item for item in changed if item[0] not in hidden and item[0] not in done]
            _refuse_obstacles(repository, tip, [p for p, entry in shown if entry and p not in torn])
            for path in torn:
                Path(repository.handle.workdir, path).unlink(missing_ok=True)
            begin(repository.handle, tip=tip, target=target)
            try:
                if len(shown) == len(changed) and not torn:
                    write_files(repository.handle, target, None)
                else:
                    _write_rest(repository.handle, tip, target, shown, torn)
            except ObstructedError as error:
                if not (error.is_halfway or done or torn):
                    finish(repository.handle)
                raise _in_the_way(repository, error.paths) from error
            for path, entry in changed:
                if entry is None:
                    draft.drop(path)
                else:
                    # Without the file's time and size: somebody may have written to it by now,
                    # and git must find that out.
                    draft.put(path, entry[0], FileMode(entry[1]), None, hidden=path in hidden)
            draft.install()
        finish(repository.handle)

    with repository_failures("move the worktree forward", path=repository.path):
        until_free(
            lambda: reading(attempt, torn=is_torn),
            busy=lambda error: isinstance(error, LockedError),
            what=f"write the index of '{repository.path}'",
        )
        log_head(repository, tip, target, message=message)
        if not move_ref(repository, branch_ref, target, expected=tip, message=message):
            raise LaneConflictError(
                f"'{branch_ref}' was moved by another program while it was pulled",
                obstacle=branch_ref,
                hint="The files are those of the pulled commit. Look at both, then pull again.",
            )


def _hidden(handle: pygit2.Repository, changed: list[_Change]) -> set[str]:
    """Return which of the paths a sparse checkout hides; new ones by its patterns."""
    hidden = hidden_paths(handle)
    patterns = read_sparse_patterns(handle)
    if patterns is not None:
        root = Path(handle.workdir)
        hidden |= {
            path
            for path, entry in changed
            if entry is not None
            and path not in handle.index
            and not os.path.lexists(root / path)
            and not patterns.shows(path)
        }
    return hidden.intersection(path for path, _ in changed)


def _write_rest(
    handle: pygit2.Repository, tip: str, target: str, left: list[_Change], torn: set[str]
) -> None:
    """Write what a pull that was stopped, or a sparse checkout, leaves to be written.

    libgit2 refuses a new file that is there already, even as it ought to be; and what it
    compares with HEAD it does not write where a folder is gone. So first what HEAD has,
    and then, into the room that leaves, what is new.

    Raises:
        ObstructedError: Something is in no commit.
    """
    old = handle[tip].peel(pygit2.Tree)
    known = [path for path, _ in left if _entry_of(old, path) is not None and path not in torn]
    if known:
        write_files(handle, target, known)
    # Where a file became a folder, all of that is written by now.
    rules = FileRules(handle)
    new = [
        path
        for path, entry in left
        if (_entry_of(old, path) is None or path in torn)
        and entry is not None
        and _there(handle, path, rules) != entry
    ]
    for path in new:
        _drop_empty(Path(handle.workdir, path))
    if not new:
        return
    try:
        write_new_files(handle, target, new)
    except ObstructedError as error:
        error.is_halfway = bool(known)
        raise


def _drop_empty(path: Path) -> None:
    """Remove what is left of a folder: the empty ones in it, and itself."""
    if not _is_folder(path):
        return
    for top, _, _ in os.walk(path, topdown=False):
        with suppress(OSError):
            Path(top).rmdir()


def _refuse_changes(
    repository: OpenRepository, tip: str, target: str, hidden: set[str]
) -> tuple[set[str], set[str]]:
    """Refuse what is in no commit, unless it is what the new commit holds.

    Returns:
        The paths that are as in the new commit already, and those that a move forward left
        half written when it was stopped.

    Raises:
        LaneConflictError: There is some.
    """
    handle = repository.handle
    status = read_status(handle)
    old, new = (handle[name].peel(pygit2.Tree) for name in (tip, target))
    changed = {change.path for change in (*status.staged, *status.unstaged)}
    wrong = list(status.conflicted)
    done: set[str] = set()
    torn: set[str] = set()
    begun = read_begun(handle, tip=tip)
    rules = FileRules(handle)
    for path in sorted(changed.union(status.untracked)):
        wanted = _entry_of(new, path.rstrip("/"))
        if path not in changed and wanted is None:
            # Untracked, and in nobody's way.
            continue
        known = {wanted, _entry_of(old, path), *([begun.entry(path)] if begun else [])}
        if path in changed and _staged(handle, path) not in known:
            wrong.append(path)
        elif path in changed and path in hidden:
            # There is no file, and there ought to be none.
            continue
        elif _there(handle, path, rules) == wanted:
            done.add(path)
        elif begun is not None and begun.may_have_left(path):
            torn.add(path)
        else:
            wrong.append(path)
    if wrong:
        raise _in_the_way(repository, sorted(wrong))
    return done, torn


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
            not _is_file(root / path) or _entry_of(old, path) is None
        ):
            wrong.add(path)
        for folder in map(str, Path(path).parents[:-1]):
            if folder in seen:
                break
            seen.add(folder)
            there = os.path.lexists(root / folder) and not _is_folder(root / folder)
            if there and _entry_of(old, folder) is None:
                wrong.add(folder)
    if wrong:
        raise _in_the_way(repository, sorted(wrong))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_file(path: Path) -> bool:
    """Return whether there is what git knows: a regular file, or a link."""
    return path.is_symlink() or path.is_file()


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


def _entry_of(tree: pygit2.Tree, path: str) -> _Entry | None:
    """Return id and mode of a file in a tree."""
    try:
        entry = tree[path]
    except KeyError:
        return None
    return None if isinstance(entry, pygit2.Tree) else (entry.id, int(entry.filemode))


def _staged(handle: pygit2.Repository, path: str) -> _Entry | None:
    if path not in handle.index:
        return None
    entry = handle.index[path]
    return entry.id, int(entry.mode)


def _there(handle: pygit2.Repository, path: str, rules: FileRules) -> _Entry | None:
    """Return id and mode that the file at a path would have in a commit."""
    root = Path(handle.workdir)
    if mode_at(root, path) is None:
        return None
    if not _is_file(root / path):
        # A folder; or a pipe, which nobody may ever write to.
        return None
    blob, kind = blob_at(handle, path, (root / path).lstat(), rules)
    return blob, int(kind)


def _unchanged(
    handle: pygit2.Repository, target: str, paths: set[str], changed: list[_Change]
) -> list[_Change]:
    """Return what the new commit has at paths that it does not change."""
    new = handle[target].peel(pygit2.Tree)
    return [(path, _entry_of(new, path)) for path in sorted(paths - {path for path, _ in changed})]


def _changed(handle: pygit2.Repository, tip: str, target: str) -> list[_Change]:
    """Return what the new commit has at each path that differs; deletions first."""
    old, new = (handle[name].peel(pygit2.Tree) for name in (tip, target))
    paths: set[str] = set()
    for delta in old.diff_to_tree(new).deltas:
        for file in (delta.old_file, delta.new_file):
            paths.add(file.raw_path.decode("utf-8", "surrogateescape"))
    found = [(path, _entry_of(new, path)) for path in sorted(paths)]
    return sorted(found, key=lambda item: item[1] is not None)
