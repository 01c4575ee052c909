"""Linked worktrees, made and removed by ourselves.

libgit2's ``add_worktree`` holds the interpreter's lock for the whole checkout, opens
every other worktree, leaves debris after a failure and reports branches as checked
out while another entry is half made. An entry is four small files, so it is built
aside and renamed into place, locked ``initializing`` until its files are there, just
as git itself does.

Source:
    gitrepository-layout(5) "worktrees/", git-worktree(1) "DETAILS".
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import CheckoutStrategy

from agentrelay.workstream._git.failures import is_torn, repository_failures
from agentrelay.workstream._git.locks import reading, until_free
from agentrelay.workstream._git.reflog import logged_commits
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.trash import remove_tree, set_aside, unlink_tree
from agentrelay.workstream._git.whole_files import write_whole
from agentrelay.workstream.errors import LaneConflictError

__all__ = [
    "INITIALIZING",
    "Entry",
    "check_out",
    "clear_operation",
    "entries",
    "entry_at",
    "entry_logs",
    "entry_of_moved",
    "git_file_target",
    "is_only_linked",
    "last_logged",
    "link_worktree",
    "read_entry",
    "refuse_foreign_files",
    "relink_worktree",
    "remove_entry",
    "repair_entry",
    "unlock_entry",
]

# What git writes into "locked" while it adds a worktree; ours says whose it is. Any other
# reason, however it begins, is somebody's wish to keep the worktree.
_GITS_INITIALIZING: Final = "initializing"
INITIALIZING: Final = "initializing (agentrelay-workstream)"
# Git's administrative files are a line long; anything larger was not written by git.
_LINE_LIMIT_BYTES: Final = 8192
# gitrepository-layout(5) and sequencer.c: what says that an operation is under way.
_OPERATION_FILES: Final = (
    "MERGE_HEAD",
    "MERGE_MODE",
    "MERGE_MSG",
    "MERGE_RR",
    "MERGE_AUTOSTASH",
    "AUTO_MERGE",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "REBASE_HEAD",
    "SQUASH_MSG",
)
_OPERATION_DIRS: Final = ("rebase-merge", "rebase-apply", "sequencer")


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


def _line(path: Path) -> str | None:
    """Return the one line of an administrative file, or ``None``."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_LINE_LIMIT_BYTES)
    except OSError:
        return None
    return os.fsdecode(data).strip()


def git_file_target(worktree_path: Path) -> Path | None:
    """Return the administrative directory a worktree's ``.git`` file names."""
    git_file = worktree_path / ".git"
    try:
        if not git_file.is_file():
            return None
    except PermissionError:
        return None
    text = _line(git_file)
    if text is None or not text.startswith("gitdir:"):
        return None
    return Path(os.path.normpath(worktree_path / text.removeprefix("gitdir:").strip()))


def read_entry(admin_dir: Path) -> Entry | None:
    """Return the entry in ``admin_dir``, or ``None`` when there is no directory."""
    if not admin_dir.is_dir():
        return None
    gitdir = _line(admin_dir / "gitdir")
    worktree = None
    if gitdir:
        worktree = Path(os.path.normpath(admin_dir / gitdir)).parent
    head = _line(admin_dir / "HEAD")
    head_ref = head.removeprefix("ref:").strip() if head and head.startswith("ref:") else None
    return Entry(admin_dir, worktree, head_ref, _line(admin_dir / "locked"))


def entry_at(repository: OpenRepository, worktree_path: Path) -> Entry | None:
    """Return the live entry of the worktree at a path, or ``None``.

    Costs a few file reads however many worktrees there are.
    """
    target = git_file_target(worktree_path)
    if target is None:
        return None
    if os.path.realpath(target.parent) != os.path.realpath(repository.worktrees_admin_dir):
        return None
    entry = read_entry(target)
    if entry is None or entry.worktree_path is None:
        return None
    same = os.path.realpath(entry.worktree_path) == os.path.realpath(worktree_path)
    return entry if same else None


def entry_logs(entry: Entry) -> tuple[Path, ...]:
    """Return the files of a worktree's own that lead to commits it once stood on."""
    return (entry.admin_dir / "logs" / "HEAD", entry.admin_dir / "ORIG_HEAD")


def last_logged(repository: OpenRepository, entry: Entry) -> str | None:
    """Return the newest commit in a worktree's own reflog that still exists.

    Somebody may have deleted the branch under a live worktree; this is where it was.
    """
    return next(logged_commits(repository, entry.admin_dir / "logs" / "HEAD"), None)


def entries(repository: OpenRepository) -> Iterator[Entry]:
    """Iterate over all entries of linked worktrees, broken ones included."""
    try:
        names = sorted(os.listdir(repository.worktrees_admin_dir))
    except OSError:
        return
    for name in names:
        entry = read_entry(repository.worktrees_admin_dir / name)
        if entry is not None:
            yield entry


def link_worktree(
    repository: OpenRepository, worktree_path: Path, *, branch_ref: str, admin_name: str
) -> Entry:
    """Make a worktree without files, locked ``initializing``; call it in a metadata section.

    After a crash anywhere in here, calling it again completes the work.

    Args:
        repository: Repository the worktree belongs to.
        worktree_path: Directory of the worktree; made if missing.
        branch_ref: Full name of the branch it stands on.
        admin_name: Name of its entry, one path component.

    Returns:
        The new entry.

    Raises:
        LaneConflictError: Somebody else's files are at ``worktree_path``.
        RepositoryError: Something cannot be written.
    """
    admin_dir = repository.worktrees_admin_dir / admin_name
    with repository_failures(f"make the worktree '{worktree_path}'", path=repository.path):
        worktree_path.mkdir(parents=True, exist_ok=True)
        real = Path(os.path.realpath(worktree_path))
        link = f"gitdir: {admin_dir_spelling(repository, admin_name)}\n"
        refuse_foreign_files(repository, worktree_path, admin_name=admin_name)
        repository.own_dir.mkdir(exist_ok=True)
        for left in repository.own_dir.glob("new-*"):
            # Made under the lock that is held here, so its maker is gone.
            remove_tree(left)
        aside = Path(tempfile.mkdtemp(prefix="new-", dir=repository.own_dir))
        try:
            aside.chmod(0o755)
            (aside / "locked").write_text(INITIALIZING)
            (aside / "HEAD").write_text(f"ref: {branch_ref}\n")
            (aside / "commondir").write_text("../..\n")
            (aside / "gitdir").write_bytes(os.fsencode(f"{real / '.git'}\n"))
            # First the worktree's side: an entry whose ".git" file is missing may be
            # pruned by any git at any moment.
            write_whole(worktree_path / ".git", link, own_dir=repository.own_dir)
            _rename_in(aside, admin_dir)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    entry = read_entry(admin_dir)
    assert entry is not None
    return entry


def _rename_in(aside: Path, admin_dir: Path) -> None:
    """Rename an entry into place; "git worktree prune" removes the directory while it is empty."""

    def attempt() -> None:
        admin_dir.parent.mkdir(exist_ok=True)
        aside.rename(admin_dir)

    until_free(
        attempt,
        busy=lambda error: isinstance(error, FileNotFoundError) and aside.is_dir(),
        what=f"make the entry '{admin_dir}'",
    )


def clear_operation(entry: Entry) -> None:
    """Forget a merge, rebase or pick that was under way in a worktree that is made anew.

    Left in place, the next commit would claim to have merged what its tree lacks. What
    it brought in must have been kept before.
    """
    with repository_failures("forget the operation in progress", path=entry.admin_dir):
        for name in _OPERATION_FILES:
            (entry.admin_dir / name).unlink(missing_ok=True)
        for name in _OPERATION_DIRS:
            if (entry.admin_dir / name).is_dir():
                remove_tree(entry.admin_dir / name)


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
    except OSError:
        return False
    target = git_file_target(worktree_path) if alone else None
    return target == admin_dir_spelling(repository, admin_name) and not target.exists()


def relink_worktree(repository: OpenRepository, worktree_path: Path, entry: Entry) -> Entry:
    """Connect an entry with its worktree again; call it in a metadata section.

    For a worktree whose directory was deleted, or whose repository was moved as a whole.
    Where files are missing the entry is locked ``initializing`` and wants a checkout.

    Args:
        repository: Repository the entry belongs to.
        worktree_path: Where the worktree is, or belongs.
        entry: The lane's own entry.

    Returns:
        The repaired entry.

    Raises:
        RepositoryError: Something cannot be written.
    """
    with repository_failures(f"repair the worktree '{worktree_path}'", path=repository.path):
        worktree_path.mkdir(parents=True, exist_ok=True)
        has_files = any(name != ".git" for name in os.listdir(worktree_path))
        own_dir = repository.own_dir
        if not has_files:
            write_whole(entry.admin_dir / "locked", INITIALIZING, own_dir=own_dir)
        real = Path(os.path.realpath(worktree_path))
        link = f"gitdir: {admin_dir_spelling(repository, entry.admin_dir.name)}\n"
        write_whole(worktree_path / ".git", link, own_dir=own_dir)
        write_whole(entry.admin_dir / "gitdir", f"{real / '.git'}\n", own_dir=own_dir)
    repaired = read_entry(entry.admin_dir)
    assert repaired is not None
    return repaired


def repair_entry(repository: OpenRepository, entry: Entry) -> None:
    """Make an entry lead to its repository again; call it in a metadata section.

    Without ``commondir`` no git opens the worktree, and there is one right content.

    Raises:
        RepositoryError: It cannot be written.
    """
    path = entry.admin_dir / "commondir"
    with repository_failures(f"repair the entry '{entry.admin_dir}'", path=repository.path):
        named = _line(path)
        target = os.path.realpath(entry.admin_dir / named) if named and "\0" not in named else None
        if target != os.path.realpath(repository.common_dir):
            path.write_text("../..\n")


def admin_dir_spelling(repository: OpenRepository, admin_name: str) -> Path:
    """Return an entry's directory as git spells it: links resolved."""
    return Path(os.path.realpath(repository.common_dir)) / "worktrees" / admin_name


def refuse_foreign_files(
    repository: OpenRepository, worktree_path: Path, *, admin_name: str
) -> None:
    """Accept an empty directory, or one where an earlier try wrote our own ``.git`` file.

    Raises:
        LaneConflictError: There is anything else.
    """
    names = os.listdir(worktree_path) if worktree_path.is_dir() else []
    if not names:
        return
    if names == [".git"] and (worktree_path / ".git").is_file():
        text = _line(worktree_path / ".git")
        if text == f"gitdir: {admin_dir_spelling(repository, admin_name)}":
            return
    message = (
        f"'{worktree_path}' exists, is not empty, and is not this lane's worktree "
        f"(it holds {', '.join(repr(name) for name in sorted(names)[:3])})"
    )
    raise LaneConflictError(
        message, obstacle=worktree_path, hint="Look at what it is, then move or remove it."
    )


def check_out(worktree_path: Path) -> pygit2.Repository:
    """Write the files and the index of a half-made worktree's HEAD.

    The worktree has not been handed to anybody yet, so a file that a killed process
    left half written is written again. Files that git does not track stay.

    Args:
        worktree_path: A worktree made by :func:`link_worktree`.

    Returns:
        A handle on the worktree.

    Raises:
        RepositoryError: The tree cannot be written: a hostile name, no space, ...
    """
    hint = (
        "If it names a path, the tree holds something a checkout must not write; "
        "otherwise look at the disk. Nothing of the lane was handed out."
    )
    with repository_failures("check out the files", path=worktree_path, hint=hint):
        return reading(lambda: _written(worktree_path), torn=is_torn)


def _written(worktree_path: Path) -> pygit2.Repository:
    handle = pygit2.Repository(str(worktree_path))
    # A killed checkout leaves its own index lock; nobody else works in here yet.
    Path(handle.path, "index.lock").unlink(missing_ok=True)
    strategy = CheckoutStrategy.FORCE | CheckoutStrategy.RECREATE_MISSING
    handle.checkout_head(strategy=strategy)  # type: ignore[no-untyped-call]  # pygit2 has no types there
    return handle


def unlock_entry(entry: Entry) -> None:
    """Say that a worktree is complete."""
    with repository_failures("unlock the worktree", path=entry.admin_dir):
        (entry.admin_dir / "locked").unlink(missing_ok=True)


def remove_entry(repository: OpenRepository, entry: Entry) -> None:
    """Remove a worktree's entry; call it in a metadata section, after its files are gone.

    Raises:
        RepositoryError: It cannot be removed.
    """
    with repository_failures(f"remove the entry '{entry.admin_dir}'", path=repository.path):
        unlink_tree(set_aside(entry.admin_dir, trash_dir=repository.own_dir / "trash"))
        with contextlib.suppress(OSError):
            repository.worktrees_admin_dir.rmdir()
