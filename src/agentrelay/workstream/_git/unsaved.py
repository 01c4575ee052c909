"""What a worktree holds that no commit does."""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pygit2
from pygit2.enums import FileMode, FileStatus
from pygit2.ffi import C, ffi

from agentrelay.workstream._git.config_names import config_entries
from agentrelay.workstream._git.failures import is_torn
from agentrelay.workstream._git.kept_trees import mode_at, repository_inside
from agentrelay.workstream._git.locks import reading
from agentrelay.workstream.errors import RepositoryError

__all__ = [
    "WorktreeFindings",
    "find_unsaved",
    "has_unsaved",
    "refuse_repositories_inside",
    "within_limit",
]

_STAGED: Final = (
    FileStatus.INDEX_NEW
    | FileStatus.INDEX_MODIFIED
    | FileStatus.INDEX_DELETED
    | FileStatus.INDEX_RENAMED
    | FileStatus.INDEX_TYPECHANGE
)
# gitformat-index(5), "flags" and "extended flags".
_ASSUME_VALID: Final = 0x8000
_STAGE: Final = 0x3000
_SKIP_WORKTREE: Final = 0x4000


@dataclass(frozen=True)
class WorktreeFindings:
    """Unsaved work in a worktree, by path relative to it.

    Attributes:
        staged: Whether the index differs from HEAD.
        unstaged: Tracked paths whose file differs from the index.
        untracked: Paths git neither tracks nor ignores.
        ignored: Ignored paths; a folder ends in ``/``.
        conflicted: Paths with unresolved conflicts.
    """

    staged: bool
    unstaged: tuple[str, ...]
    untracked: tuple[str, ...]
    ignored: tuple[str, ...]
    conflicted: tuple[str, ...]


def find_unsaved(handle: pygit2.Repository, *, ignored_too: bool = True) -> WorktreeFindings:
    """Return what a worktree holds that no commit does.

    Args:
        handle: Repository opened at the worktree.
        ignored_too: Whether ignored files are looked for, and those status never lists;
            folders of dependencies make that slow.

    Raises:
        RepositoryError: Below the top something is called ``.git``.
    """
    unstaged, untracked, ignored, conflicted = [], [], [], []
    staged = False
    for path, flags in handle.status(untracked_files="all", ignored=ignored_too).items():
        staged = staged or bool(flags & (_STAGED | FileStatus.CONFLICTED))
        if flags & FileStatus.CONFLICTED:
            conflicted.append(path)
        elif flags & FileStatus.IGNORED:
            ignored.append(path)
        elif flags & FileStatus.WT_NEW:
            untracked.append(path)
        elif flags & ~_STAGED:
            unstaged.append(path)
    if ignored_too:
        known = {*unstaged, *untracked, *ignored, *conflicted, *_tracked(handle.index)}
        for path in _never_listed(Path(handle.workdir), known):
            (ignored if _is_ignored(handle, path) else untracked).append(path)
    changed, absent = _behind_flags(handle)
    unstaged = [path for path in unstaged if path not in absent]
    unstaged += [path for path in changed if path not in unstaged]
    return WorktreeFindings(
        staged, tuple(unstaged), tuple(untracked), tuple(ignored), tuple(conflicted)
    )


def _entries(index: pygit2.Index) -> Iterator[Any]:
    """Iterate over libgit2's own entries: pygit2's leave the flags out, and take long to make."""
    for number in range(len(index)):
        yield C.git_index_get_byindex(index._index, number)  # noqa: SLF001 - see above


def _tracked(index: pygit2.Index) -> Iterator[str]:
    """Iterate over the paths of an index."""
    for entry in _entries(index):
        yield os.fsdecode(ffi.string(entry.path))


def _is_ignored(handle: pygit2.Repository, path: str) -> bool:
    """Return whether git's rules ignore a path; a name that is no text is never ignored."""
    try:
        return bool(handle.path_is_ignored(path))
    except UnicodeEncodeError:
        return False


def _never_listed(root: Path, known: set[str]) -> list[str]:
    """Return the files libgit2 passes over when it lists a worktree.

    What it takes for a part of git, whatever its letters' case; and what is ignored in a
    folder that is ignored as a whole and holds a tracked file all the same.

    Args:
        root: Top of the worktree.
        known: Paths that are tracked or listed; a folder listed as a whole ends in ``/``.

    Raises:
        RepositoryError: Below the top something is called exactly ``.git``.
    """
    found: list[str] = []
    for item in _walk(root, besides={f"{root}/{path}" for path in known if path.endswith("/")}):
        path = item.path.removeprefix(f"{root}/")
        if item.name == ".git":
            if path != ".git":
                raise repository_inside(Path(item.path).parent)
        elif path not in known:
            found.append(path)
    return found


def _behind_flags(handle: pygit2.Repository) -> tuple[list[str], set[str]]:
    """Look at the files that git was told not to look at.

    Returns:
        Paths flagged assume-unchanged or skip-worktree whose file differs from the index,
        and those flagged skip-worktree that have no file, as in a sparse checkout. Where git
        was told not to trust what a file system knows of changes, all files are looked at.
    """
    looks_at_all = _trusts_less(handle)
    changed: list[str] = []
    absent: set[str] = set()
    index, root = handle.index, Path(handle.workdir)
    for number, raw in enumerate(_entries(index)):
        skipped = bool(raw.flags_extended & _SKIP_WORKTREE)
        is_settled = looks_at_all and not raw.flags & _STAGE
        if not (skipped or raw.flags & _ASSUME_VALID or is_settled):
            continue
        entry = index[number]
        mode = mode_at(root, entry.path)
        if mode is None:
            if skipped:
                absent.add(entry.path)
            continue
        if stat.S_ISDIR(mode):
            continue
        if stat.S_ISLNK(mode):
            there = pygit2.hash(os.fsencode(os.readlink(root / entry.path)))  # noqa: PTH115 - bytes
        else:
            there = handle.create_blob_fromworkdir(entry.path)
        if there != entry.id:
            changed.append(entry.path)
    return changed, absent


def _trusts_less(handle: pygit2.Repository) -> bool:
    """Return whether an edit may go unseen that keeps a file's size and is dated back.

    Source:
        git-config(1), "core.trustctime".
    """
    # Not asked for by its name: where there is none, libgit2's words for that would be taken
    # for those of the next failure that it has no words for.
    said = [
        entry.value
        for name, entry in config_entries(handle.config)
        if name == "core.trustctime" and entry is not None
    ]
    return bool(said) and str(said[-1]).lower() in {"false", "no", "off", "0", ""}


def has_unsaved(worktree_path: Path) -> bool:
    """Return whether a worktree holds changes or new files that no commit does.

    Raises:
        RepositoryError: Its entry does not lead back to it.
    """
    return reading(lambda: _has_unsaved(worktree_path), torn=is_torn)


def _has_unsaved(worktree_path: Path) -> bool:
    handle = pygit2.Repository(str(worktree_path))
    if os.path.realpath(handle.workdir or "") != os.path.realpath(worktree_path):
        # libgit2 would look at the current directory, or at whatever the entry names.
        message = f"the entry '{handle.path}' is not that of the worktree '{worktree_path}'"
        raise RepositoryError(
            message,
            path=worktree_path,
            hint="Nothing in it was looked at. 'git worktree repair' run there sets it right.",
        )
    found = find_unsaved(handle, ignored_too=False)
    return bool(found.staged or found.unstaged or found.untracked or found.conflicted)


def refuse_repositories_inside(handle: pygit2.Repository, admin_dir: Path) -> None:
    """Refuse submodules that were checked out: their commits live inside the worktree.

    Raises:
        RepositoryError: One was found.
    """
    modules = admin_dir / "modules"
    if modules.is_dir() and any(modules.iterdir()):
        raise repository_inside(modules)
    for entry in _entries(handle.index):
        if entry.mode == FileMode.COMMIT:
            full = Path(handle.workdir) / os.fsdecode(ffi.string(entry.path))
            if (full / ".git").exists():
                raise repository_inside(full)


def within_limit(
    worktree_path: Path, ignored: tuple[str, ...], *, limit_bytes: int
) -> tuple[tuple[str, ...], list[str]]:
    """Return the ignored files to keep, and a sentence about those too large to.

    Args:
        worktree_path: Where they are.
        ignored: Their paths; a folder ends in ``/`` and is kept as a whole or not at all.
        limit_bytes: Size up to which they are kept, all together.

    Raises:
        RepositoryError: There is a repository among them.
    """
    files: list[str] = []
    total_bytes = 0
    skipped: list[str] = []
    for path in ignored:
        found, size_bytes = _files_below(worktree_path, path)
        if total_bytes + size_bytes > limit_bytes:
            skipped.append(f"'{path}' ({_shown(size_bytes)})")
            continue
        total_bytes += size_bytes
        files.extend(found)
    if not skipped:
        return tuple(files), []
    sentence = (
        f"ignored files beyond {_shown(limit_bytes)} in all were not kept: {', '.join(skipped)}"
    )
    return tuple(files), [sentence]


def _shown(size_bytes: int) -> str:
    """Return a size for a person."""
    if size_bytes < 1 << 20:
        return f"{size_bytes:,} bytes"
    return f"{size_bytes / (1 << 20):.1f} MiB"


def _files_below(worktree_path: Path, path: str) -> tuple[list[str], int]:
    """Return the files at or below an ignored path, and their size in bytes."""
    full = worktree_path / path
    if not path.endswith("/"):
        return [path], full.lstat().st_size
    found: list[str] = []
    size_bytes = 0
    for item in _walk(full):
        if item.name == ".git":
            raise repository_inside(Path(item.path).parent)
        found.append(os.path.relpath(item.path, worktree_path))
        size_bytes += item.stat(follow_symlinks=False).st_size
    return found, size_bytes


def _walk(directory: Path, besides: Container[str] = frozenset()) -> Iterator[os.DirEntry[str]]:
    """Iterate over files, and what is named ``.git``, without following links.

    Sockets, pipes and devices hold no work and are passed over.

    Args:
        directory: Where to begin.
        besides: Folders to pass over, ending in ``/``.
    """
    # Not recursively: folders may be nested deeper than Python calls, or files may be open.
    pending = [os.fspath(directory)]
    while pending:
        with os.scandir(pending.pop()) as scanned:
            items = list(scanned)
        for item in items:
            if item.is_dir(follow_symlinks=False) and item.name != ".git":
                if f"{item.path}/" not in besides:
                    pending.append(item.path)
            elif item.name == ".git" or item.is_symlink() or item.is_file():
                yield item
