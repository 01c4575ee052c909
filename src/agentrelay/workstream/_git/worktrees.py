"""Linked worktrees, made, repaired and removed by ourselves.

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
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pygit2
import pygit2.callbacks
from pygit2.enums import CheckoutStrategy

from agentrelay.workstream._git.checkout import Place, write_files
from agentrelay.workstream._git.failures import is_torn, repository_failures
from agentrelay.workstream._git.locks import reading, until_free
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.trash import remove_tree, set_aside, unlink_tree
from agentrelay.workstream._git.whole_files import write_whole
from agentrelay.workstream._git.worktree_entries import (
    INITIALIZING,
    Entry,
    admin_dir_spelling,
    read_entry,
    read_line,
)
from agentrelay.workstream._steps import Step
from agentrelay.workstream.errors import LaneConflictError

__all__ = [
    "check_out",
    "clear_operation",
    "leads_home",
    "link_worktree",
    "refuse_foreign_files",
    "relink_worktree",
    "remove_entry",
    "repair_entry",
    "unlock_entry",
]

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
# How often progress is told, in files.
_TOLD_EACH: Final = 100
_OPERATION_DIRS: Final = ("rebase-merge", "rebase-apply", "sequencer")


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
    with repository_failures(f"repair the entry '{entry.admin_dir}'", path=repository.path):
        if not leads_home(repository, entry):
            (entry.admin_dir / "commondir").write_text("../..\n")


def leads_home(repository: OpenRepository, entry: Entry) -> bool:
    """Return whether an entry leads to its repository."""
    named = read_line(entry.admin_dir / "commondir")
    if named == "../.." and entry.admin_dir.parent == repository.worktrees_admin_dir:
        return True
    target = os.path.realpath(entry.admin_dir / named) if named and "\0" not in named else None
    return target == os.path.realpath(repository.common_dir)


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
        text = read_line(worktree_path / ".git")
        if text == f"gitdir: {admin_dir_spelling(repository, admin_name)}":
            return
    message = (
        f"'{worktree_path}' exists, is not empty, and is not this lane's worktree "
        f"(it holds {', '.join(repr(name) for name in sorted(names)[:3])})"
    )
    raise LaneConflictError(
        message, obstacle=worktree_path, hint="Look at what it is, then move or remove it."
    )


def check_out(
    worktree_path: Path,
    *,
    made_in: tuple[OpenRepository, Entry] | None = None,
    tell: Callable[[int, int, int], None] | None = None,
) -> None:
    """Write the files and the index of a half-made worktree's HEAD.

    The worktree has not been handed to anybody yet, so a file that a killed process
    left half written is written again. Files that git does not track stay.

    Args:
        worktree_path: A worktree made by :func:`link_worktree`.
        made_in: Its repository and its entry, if that was made just now. Then the worktree
            need not be opened where it has the repository's very settings.
        tell: Called with files done, files in all and bytes done, now and then; it must not
            raise.

    Raises:
        RepositoryError: The tree cannot be written: a hostile name, no space, ...
    """
    hint = (
        "If it names a path, the tree holds something a checkout must not write; "
        "otherwise look at the disk. Nothing of the lane was handed out."
    )

    def progress(files_done: int, files_total: int, bytes_done: int) -> None:
        # 0 bytes: libgit2 writes them, and does not say.
        step.progress(files_done, files_total, bytes_done or None)
        if tell is not None:
            tell(files_done, files_total, bytes_done)

    with (
        Step("checkout") as step,
        repository_failures("check out the files", path=worktree_path, hint=hint),
    ):
        # libgit2 asks of each file, which costs: only where somebody wants to know.
        told = progress if step.wants_progress else tell
        reading(lambda: _write(worktree_path, made_in, told), torn=is_torn)


class _Listening(pygit2.callbacks.CheckoutCallbacks):
    """Passes on how far libgit2 is; not of each file."""

    def __init__(self, tell: Callable[[int, int, int], None]) -> None:
        super().__init__()
        self._tell = tell

    def checkout_progress(self, path: str, completed_steps: int, total_steps: int) -> None:  # noqa: ARG002 - pygit2's signature
        if completed_steps % _TOLD_EACH == 0 or completed_steps == total_steps:
            self._tell(completed_steps, total_steps, 0)


def _write(
    worktree_path: Path,
    made_in: tuple[OpenRepository, Entry] | None,
    tell: Callable[[int, int, int], None] | None,
) -> None:
    if made_in is not None and made_in[0].config.is_plain:
        repository, entry = made_in
        commit_id = None if entry.head_ref is None else repository.resolve(entry.head_ref)
        if commit_id is not None:
            tree_id = repository.handle[commit_id].peel(pygit2.Tree).id
            place = Place(worktree_path, entry.admin_dir, tree_id)
            if write_files(repository.handle, place, tell=tell):
                return
    handle = pygit2.Repository(str(worktree_path))
    # A killed checkout leaves its own index lock; nobody else works in here yet.
    Path(handle.path, "index.lock").unlink(missing_ok=True)
    tree_id = handle.head.peel(pygit2.Commit).tree_id
    if write_files(handle, Place(Path(handle.workdir), Path(handle.path), tree_id), tell=tell):
        return
    strategy = CheckoutStrategy.FORCE | CheckoutStrategy.RECREATE_MISSING
    callbacks = None if tell is None else _Listening(tell)
    handle.checkout_head(strategy=strategy, callbacks=callbacks)  # type: ignore[no-untyped-call]  # pygit2 has no types there


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
