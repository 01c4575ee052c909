"""The first step of a teardown: keeping what a worktree holds, then removing it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from agentrelay.workstream._git.trash import is_empty, set_aside, sweep_trash
from agentrelay.workstream._git.unlinking import unlink_soon
from agentrelay.workstream._git.worktree_entries import (
    Entry,
    entry_at,
    entry_logs,
    entry_of_moved,
    is_only_linked,
    read_entry,
)
from agentrelay.workstream._git.worktrees import (
    leads_home,
    relink_worktree,
    remove_entry,
    repair_entry,
)
from agentrelay.workstream.core.runtime import record_concern
from agentrelay.workstream.errors import LaneConflictError
from agentrelay.workstream.implementations._refusals import locked_and_absent, moved

if TYPE_CHECKING:
    from agentrelay.workstream.implementations._clean_up import CleanUp

__all__ = ["remove_worktree"]


def remove_worktree(run: CleanUp) -> None:
    """Keep unsaved work, then remove the worktree and its entry."""
    lane, repository = run.lane, run.repository
    entry = entry_at(repository, lane.worktree_path)
    if entry is None:
        stray = entry_of_moved(repository, lane.worktree_path, admin_name=lane.admin_name)
        if stray is not None:
            with repository.metadata_section():
                entry = relink_worktree(repository, lane.worktree_path, stray)
    if entry is None:
        _remove_stale_entry(run)
        _tidy(run)
        return
    if not (
        entry.admin_dir.name == lane.admin_name
        or entry.head_ref == lane.branch_ref
        or (entry.head_ref is None and run.record.is_ours)
    ):
        # Made by a person's git, and on something else: only its place is a lane's.
        message = f"the worktree '{lane.worktree_path}' is not this lane's: it is on "
        message += f"'{entry.head_ref}'" if entry.head_ref else "no branch"
        raise LaneConflictError(
            message, obstacle=lane.worktree_path, hint="Look at what it is; it was left alone."
        )
    if not leads_home(repository, entry):
        with repository.metadata_section():
            repair_entry(repository, entry)
    if entry.locked is not None and not entry.is_half_made:
        message = f"the worktree is locked ({entry.locked or 'no reason given'})"
        raise LaneConflictError(
            message, obstacle=lane.worktree_path, hint="Unlock it if nobody needs it."
        )
    if entry.is_half_made and not (
        (entry.admin_dir / "index").exists()
        and any(path.name != ".git" for path in lane.worktree_path.iterdir())
    ):
        # Never handed to anybody: what lies there came from the branch alone, except for
        # an index that outlived an earlier folder.
        run.rescuer.keep_entry(entry)
    else:
        for sentence in run.rescuer.keep_worktree(
            entry, lane.worktree_path, ignored_limit_bytes=run.ignored_limit_bytes
        ):
            record_concern(run.runtime, f"teardown: {sentence}")
    _keep_logged(run, entry)
    _discard(run, entry)


def _keep_logged(run: CleanUp, entry: Entry) -> None:
    """Keep what only the worktree's own reflog leads to: it goes with the entry."""
    tip = run.repository.resolve(run.lane.branch_ref)
    run.rescuer.keep_logged("reflog", entry_logs(entry), tips=() if tip is None else (tip,))


def _discard(run: CleanUp, entry: Entry) -> None:
    """Rename the tree aside, drop the entry, then unlink the tree outside the lock."""
    with run.repository.metadata_section():
        aside = set_aside(run.lane.worktree_path, trash_dir=run.lane.trash_dir)
        remove_entry(run.repository, entry)
    unlink_soon(aside, afterwards=lambda: _drop_empty(run))
    _tidy(run)


def _tidy(run: CleanUp) -> None:
    """Remove what crashed clean-ups left, and directories that are empty now."""
    sweep_trash(run.lane.trash_dir)
    _drop_empty(run)


def _drop_empty(run: CleanUp) -> None:
    """Remove the directories lanes are in, where they are empty now."""
    directories = (run.lane.worktree_path, *run.lane.worktree_path.parents[:2])
    if not any(map(is_empty, directories)):
        return
    with run.repository.metadata_section():
        # Under the lock: another lane may be about to make its directory in there.
        for directory in directories:
            with suppress(OSError):
                directory.rmdir()


def _remove_stale_entry(run: CleanUp) -> None:
    """Drop the lane's own entry when its folder is gone; leave everything else."""
    lane, repository = run.lane, run.repository
    alone = is_only_linked(repository, lane.worktree_path, admin_name=lane.admin_name)
    if lane.worktree_path.is_dir() and any(lane.worktree_path.iterdir()) and not alone:
        message = f"'{lane.worktree_path}' is not this lane's worktree"
        raise LaneConflictError(
            message, obstacle=lane.worktree_path, hint="Look at what it is; it was left alone."
        )
    with repository.metadata_section():
        entry = read_entry(repository.worktrees_admin_dir / lane.admin_name)
        if entry is not None and entry.is_live:
            raise moved(lane, entry)
        if entry is not None:
            refusal = locked_and_absent(lane, entry)
            if refusal is not None:
                raise refusal
            run.rescuer.keep_entry(entry)
            _keep_logged(run, entry)
            remove_entry(repository, entry)
        if alone and is_only_linked(repository, lane.worktree_path, admin_name=lane.admin_name):
            (lane.worktree_path / ".git").unlink()
