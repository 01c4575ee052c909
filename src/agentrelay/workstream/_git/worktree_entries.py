"""Reading the administrative entries of linked worktrees, broken ones included.

Nothing is opened with libgit2 and nothing is changed: an entry is four small files.

Source:
    gitrepository-layout(5) "worktrees/".
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.reflog import logged_commits
from agentrelay.workstream._git.repository import OpenRepository

__all__ = [
    "INITIALIZING",
    "Entry",
    "admin_dir_spelling",
    "attached_heads",
    "entries",
    "entries_on",
    "entry_at",
    "entry_logs",
    "entry_of_moved",
    "git_file_target",
    "is_only_linked",
    "last_logged",
    "read_entry",
    "read_line",
]

# What git writes into "locked" while it adds a worktree; ours says whose it is. Any other
# reason, however it begins, is somebody's wish to keep the worktree.
_GITS_INITIALIZING: Final = "initializing"
INITIALIZING: Final = "initializing (agentrelay-workstream)"
# Git's administrative files are a line long; anything larger was not written by git.
_LINE_LIMIT_BYTES: Final = 8192
# The machine's trouble, which says nothing about what is there.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})
# A pipe somebody put in a file's place must not make us wait.
_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True)
class Entry:
    """One administrative entry of a linked worktree.

    Attributes:
        admin_dir: The entry's directory.
        worktree_path: Directory of the worktree, or ``None`` if the entry names none.
        head_ref: Full ref its HEAD is attached to; ``None`` when detached or unreadable.
        locked: Reason it is locked for, or ``None``.
    """

    admin_dir: Path
    worktree_path: Path | None
    head_ref: str | None
    locked: str | None

    @property
    def is_half_made(self) -> bool:
        """Whether its maker did not get as far as unlocking it."""
        return self.locked in {INITIALIZING, _GITS_INITIALIZING}

    @property
    def is_live(self) -> bool:
        """Whether the worktree is where the entry says and points back to it."""
        if self.worktree_path is None:
            return False
        if not os.access(self.worktree_path, os.X_OK):
            # Whatever may not be looked at counts as one.
            return os.path.lexists(self.worktree_path)
        target = git_file_target(self.worktree_path)
        return target is not None and os.path.realpath(target) == os.path.realpath(self.admin_dir)

    @property
    def operation(self) -> str | None:
        """Name of an operation that is under way in the worktree, or ``None``."""
        for name, marker in (
            ("rebase", "rebase-merge"),
            ("rebase", "rebase-apply"),
            ("merge", "MERGE_HEAD"),
            ("cherry-pick", "CHERRY_PICK_HEAD"),
            ("revert", "REVERT_HEAD"),
            ("bisect", "BISECT_LOG"),
        ):
            if (self.admin_dir / marker).exists():
                return name
        return None


def read_line(path: Path) -> str | None:
    """Return the one line of an administrative file, or ``None``.

    Raises:
        RepositoryError: It could not be looked at: too many files are open, for example.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_LINE_LIMIT_BYTES)
    except OSError as error:
        _refuse_exhausted(error, path)
        return None
    return os.fsdecode(data).strip()


def _refuse_exhausted(error: OSError, path: Path) -> None:
    """Refuse to take a file that could not be looked at for one that is not there.

    Raises:
        RepositoryError: The machine could not look.
    """
    if error.errno in _EXHAUSTED:
        with repository_failures("look at a worktree's entry", path=path):
            raise error


def git_file_target(worktree_path: Path) -> Path | None:
    """Return the administrative directory a worktree's ``.git`` file names."""
    git_file = worktree_path / ".git"
    try:
        if not git_file.is_file():
            return None
    except PermissionError:
        return None
    text = read_line(git_file)
    if text is None or not text.startswith("gitdir:"):
        return None
    return Path(os.path.normpath(worktree_path / text.removeprefix("gitdir:").strip()))


def read_entry(admin_dir: Path) -> Entry | None:
    """Return the entry in ``admin_dir``, or ``None`` when there is no directory."""
    if not admin_dir.is_dir():
        return None
    gitdir = read_line(admin_dir / "gitdir")
    worktree = None
    if gitdir:
        worktree = Path(os.path.normpath(admin_dir / gitdir)).parent
    head = read_line(admin_dir / "HEAD")
    head_ref = head.removeprefix("ref:").strip() if head and head.startswith("ref:") else None
    return Entry(admin_dir, worktree, head_ref, read_line(admin_dir / "locked"))


def entry_at(repository: OpenRepository, worktree_path: Path) -> Entry | None:
    """Return the live entry of the worktree at a path, or ``None``.

    Costs a few file reads however many worktrees there are.
    """
    target = git_file_target(worktree_path)
    if target is None:
        return None
    if not _are_same(target.parent, repository.worktrees_admin_dir):
        return None
    entry = read_entry(target)
    if entry is None or entry.worktree_path is None:
        return None
    return entry if _are_same(entry.worktree_path, worktree_path) else None


def _are_same(one: Path, other: Path) -> bool:
    """Return whether two paths lead to the same place."""
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def entries(repository: OpenRepository) -> Iterator[Entry]:
    """Iterate over all entries of linked worktrees, broken ones included."""
    try:
        names = sorted(os.listdir(repository.worktrees_admin_dir))
    except OSError as error:
        _refuse_exhausted(error, repository.worktrees_admin_dir)
        return
    for name in names:
        entry = read_entry(repository.worktrees_admin_dir / name)
        if entry is not None:
            yield entry


def entries_on(
    repository: OpenRepository, ref: str, *, heads: Mapping[str, Sequence[str]] | None = None
) -> Iterator[Entry]:
    """Iterate over the entries whose HEAD is attached to a ref.

    Args:
        repository: Repository whose worktrees they are.
        ref: Full ref name.
        heads: What :func:`attached_heads` returned a moment ago, if it was asked.
    """
    for name in (attached_heads(repository) if heads is None else heads).get(ref, ()):
        entry = read_entry(repository.worktrees_admin_dir / name)
        if entry is not None and entry.head_ref == ref:
            yield entry


def attached_heads(repository: OpenRepository) -> dict[str, list[str]]:
    """Return the names of the entries whose HEAD is attached to a ref, by that ref.

    Their HEAD is read and no more of each: there may be a thousand.
    """
    found: dict[str, list[str]] = {}
    top = os.fspath(repository.worktrees_admin_dir)
    try:
        names = sorted(os.listdir(top))
    except OSError as error:
        _refuse_exhausted(error, repository.worktrees_admin_dir)
        return found
    for name in names:
        try:
            descriptor = os.open(f"{top}/{name}/HEAD", os.O_RDONLY | _NO_WAIT)
        except OSError as error:
            _refuse_exhausted(error, repository.worktrees_admin_dir / name)
            continue
        try:
            head = os.fsdecode(os.read(descriptor, _LINE_LIMIT_BYTES)).strip()
        except OSError:
            continue
        finally:
            os.close(descriptor)
        if head.startswith("ref:"):
            found.setdefault(head.removeprefix("ref:").strip(), []).append(name)
    return found


def entry_logs(entry: Entry) -> tuple[Path, ...]:
    """Return the files of a worktree's own that lead to commits it once stood on."""
    return (entry.admin_dir / "logs" / "HEAD", entry.admin_dir / "ORIG_HEAD")


def last_logged(repository: OpenRepository, entry: Entry) -> str | None:
    """Return the newest commit in a worktree's own reflog that still exists.

    Somebody may have deleted the branch under a live worktree; this is where it was.
    """
    return next(logged_commits(repository, entry.admin_dir / "logs" / "HEAD"), None)


def admin_dir_spelling(repository: OpenRepository, admin_name: str) -> Path:
    """Return an entry's directory as git spells it: links resolved."""
    return Path(os.path.realpath(repository.common_dir)) / "worktrees" / admin_name


def entry_of_moved(
    repository: OpenRepository, worktree_path: Path, *, admin_name: str
) -> Entry | None:
    """Return the entry of a worktree whose repository was moved as a whole, or ``None``.

    Its ``.git`` file names the right entry at a place that does not exist any more, as in
    a container with another mount point.
    """
    target = git_file_target(worktree_path)
    if target is None or target.name != admin_name or target.exists():
        return None
    return read_entry(repository.worktrees_admin_dir / admin_name)


def is_only_linked(repository: OpenRepository, worktree_path: Path, *, admin_name: str) -> bool:
    """Return whether a folder holds our ``.git`` file alone, and no entry was ever made.

    That is what a maker leaves that was killed between the two.
    """
    try:
        alone = os.listdir(worktree_path) == [".git"]
    except OSError as error:
        _refuse_exhausted(error, worktree_path)
        return False
    target = git_file_target(worktree_path) if alone else None
    return target == admin_dir_spelling(repository, admin_name) and not target.exists()
