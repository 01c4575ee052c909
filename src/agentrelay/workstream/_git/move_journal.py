"""What was being done to a working tree by whoever was stopped, and putting it back.

libgit2 writes files in place: a killed process leaves some as they were, some as they were
going to be, one torn, one not there. The note says from which commit to which, so that
these can be told from what somebody made: only what is as in one of the two, or the
beginning of that, is put back to where it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pygit2
from pygit2.enums import CheckoutStrategy, FileMode

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
from agentrelay.workstream._git.index_draft import IndexDraft
from agentrelay.workstream._git.kept_trees import mode_at
from agentrelay.workstream._git.lockfile import LockedError
from agentrelay.workstream._git.locks import reading, until_free
from agentrelay.workstream._git.repository import OpenRepository, is_commit_id
from agentrelay.workstream._git.sparse import paths_to_hide
from agentrelay.workstream._git.whole_files import write_whole
from agentrelay.workstream._git.worktree_entries import read_entry

__all__ = ["begin_move", "end_move", "undo_move"]

# Beside the index: it goes when the entry goes.
_NAME: Final = "agentrelay-move"
_REGULAR: Final = frozenset({int(FileMode.BLOB), int(FileMode.BLOB_EXECUTABLE)})
_STRATEGY: Final = (
    CheckoutStrategy.SAFE
    | CheckoutStrategy.RECREATE_MISSING
    | CheckoutStrategy.DONT_UPDATE_INDEX
    | CheckoutStrategy.DONT_OVERWRITE_IGNORED
    | CheckoutStrategy.DISABLE_PATHSPEC_MATCH
    # Conflicts that somebody else has made are theirs.
    | CheckoutStrategy.SKIP_UNMERGED
)


class _Note(NamedTuple):
    """What was being done.

    Attributes:
        tip: Hex id of the commit the files were of.
        target: Hex id of the commit or tree they were going to be of.
        conflicts: Paths that were going to be in conflict.
    """

    tip: str
    target: str
    conflicts: tuple[str, ...]


def begin_move(
    repository: OpenRepository, *, tip: str, target: str, conflicts: Iterable[str]
) -> None:
    """Write down what is about to be done; hold the lane.

    Raises:
        OSError: It cannot be written.
    """
    note = {"tip": tip, "target": target, "conflicts": sorted(conflicts)}
    write_whole(_path(repository), json.dumps(note) + "\n", own_dir=repository.own_dir)


def end_move(repository: OpenRepository) -> None:
    """Say that it is done."""
    _path(repository).unlink(missing_ok=True)


def undo_move(repository: OpenRepository) -> None:
    """Put back what somebody was stopped in the middle of; hold the lane.

    Index and files of the paths concerned become those of the commit HEAD is at, where they
    are not somebody else's. Where the branch has moved, or a merge is in progress, it had been
    done. Stopped anywhere, this can be repeated.

    Args:
        repository: Opened at the working tree.

    Raises:
        LaneBusyError: Another program kept the index locked.
        RepositoryError: Something cannot be read or written.
    """
    note = _read(repository)
    if note is None:
        return
    if _is_pending(repository, note):
        with repository_failures("put back what was stopped", path=repository.path):
            until_free(
                lambda: reading(lambda: _put_back(repository, note), torn=is_torn),
                busy=lambda error: isinstance(error, LockedError),
                what=f"write the index of '{repository.path}'",
            )
    end_move(repository)


def _path(repository: OpenRepository) -> Path:
    return Path(repository.handle.path) / _NAME


def _read(repository: OpenRepository) -> _Note | None:
    """Return the note, if there is one that was written here."""
    path = _path(repository)
    if not path.is_file() or path.is_symlink():
        # Not even a pipe must make us wait.
        return None
    try:
        document: Any = json.loads(path.read_bytes())
        note = _Note(document["tip"], document["target"], tuple(document["conflicts"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return _Note("", "", ())
    texts = all(isinstance(text, str) for text in (note.tip, note.target, *note.conflicts))
    return note if texts else _Note("", "", ())


def _is_pending(repository: OpenRepository, note: _Note) -> bool:
    """Return whether it was not done, and can still be told from what others made."""
    entry = read_entry(Path(repository.handle.path))
    head = None if entry is None or entry.head_ref is None else entry.head_ref
    return (
        entry is not None
        and entry.operation is None
        and head is not None
        and repository.resolve(head) == note.tip
        and is_commit_id(note.target)
        and note.target in repository.handle
    )


def _put_back(repository: OpenRepository, note: _Note) -> None:
    """Put back once, or raise :class:`LockedError`."""
    handle = repository.handle
    handle.index.read()
    old = handle[note.tip].peel(pygit2.Tree)
    new = handle[note.target].peel(pygit2.Tree)
    paths = [path for path, _ in changes_between(handle, note.tip, note.target)]
    rules = FileRules(handle)
    # Those alone that the index has: anything may have been written into the note.
    torn = {side.path for sides in handle.index.conflicts or () for side in sides if side}
    paths += [path for path in note.conflicts if path in torn]
    pairs = {path: (entry_in(old, path), entry_in(new, path)) for path in paths}
    pairs = {
        path: pair for path, pair in pairs.items() if _is_inside(path) and not _has_submodule(pair)
    }
    # Found out before the index says something else.
    hidden = paths_to_hide(handle, [(path, pair[0]) for path, pair in pairs.items()])
    _put_back_index(repository, note, pairs, hidden)
    ours = [path for path, pair in pairs.items() if _is_ours(handle, path, pair, rules)]
    root = Path(handle.workdir)
    for path in ours:
        (root / path).unlink()
    for folder in _folders(pairs):
        if not _has_folder(old, folder):
            _drop_empty(root / folder)
    missing = [
        path
        for path, pair in pairs.items()
        if pair[0] and path not in hidden and _is_free(root, path)
    ]
    if missing:
        handle.checkout_tree(  # type: ignore[no-untyped-call]  # pygit2 has no types there
            handle[note.tip], strategy=_STRATEGY, paths=missing
        )


def _has_folder(tree: pygit2.Tree, path: str) -> bool:
    try:
        return isinstance(tree[path], pygit2.Tree)
    except KeyError:
        return False


def _is_free(root: Path, path: str) -> bool:
    """Return whether nothing is at a path, nor anything but folders on the way."""
    if os.path.lexists(root / path):
        return False
    above = [root / parent for parent in Path(path).parents[:-1]]
    return all(
        folder.is_dir() and not folder.is_symlink() for folder in above if os.path.lexists(folder)
    )


_Pair = tuple[FileEntry | None, FileEntry | None]


def _is_inside(path: str) -> bool:
    """Return whether a path cannot lead out of a working tree, nor into git's own files.

    libgit2 writes no other; somebody may have committed some.
    """
    parts = path.split("/")
    return not any(part in {"", ".", ".."} or part.lower() == ".git" for part in parts)


def _has_submodule(pair: _Pair) -> bool:
    return any(entry is not None and entry[1] == FileMode.COMMIT for entry in pair)


def _put_back_index(
    repository: OpenRepository, note: _Note, pairs: dict[str, _Pair], hidden: set[str]
) -> None:
    handle = repository.handle
    conflicts = handle.index.conflicts
    with IndexDraft(repository) as draft:
        for path, (old, new) in sorted(pairs.items(), key=lambda item: item[1][0] is not None):
            is_conflicted = path in note.conflicts and conflicts is not None and path in conflicts
            if is_conflicted:
                del draft.index.conflicts[path]
            elif staged_at(handle, path) != new or old == new:
                continue
            if old is None:
                draft.drop(path)
            else:
                draft.put(path, old[0], FileMode(old[1]), None, hidden=path in hidden)
        draft.install()
    handle.index.read()


def _is_ours(handle: pygit2.Repository, path: str, pair: _Pair, rules: FileRules) -> bool:
    """Return whether what is at a path was left there by whoever was stopped.

    One of the two files, or the beginning of one; but not what is right already.
    """
    full = Path(handle.workdir) / path
    if mode_at(Path(handle.workdir), path) is None:
        return False
    if not is_file(full):
        return False
    there = file_at(handle, path, rules)
    if there == pair[0]:
        return False
    known = [entry for entry in pair if entry is not None]
    if there is not None and there[0] in {blob for blob, _ in known}:
        # Of another mode than either has, somebody has changed that since.
        return there[1] in {mode for _, mode in known}
    return not full.is_symlink() and _is_beginning(handle, full.read_bytes(), pair)


def _is_beginning(handle: pygit2.Repository, data: bytes, pair: _Pair) -> bool:
    """Return whether a file is the beginning of one of two, line endings aside."""
    torn = data.replace(b"\r\n", b"\n").removesuffix(b"\r")
    for entry in pair:
        if entry is not None and entry[1] in _REGULAR:
            whole = handle[entry[0]].peel(pygit2.Blob).data
            if whole.startswith(data) or whole.replace(b"\r\n", b"\n").startswith(torn):
                return True
    return False


def _folders(paths: Iterable[str]) -> Iterator[str]:
    """Yield the folders that paths are in, the deepest first."""
    found = {str(parent) for path in paths for parent in Path(path).parents[:-1]}
    yield from sorted(found, key=lambda folder: -folder.count("/"))


def _drop_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        # It holds something, or is not there.
        return
