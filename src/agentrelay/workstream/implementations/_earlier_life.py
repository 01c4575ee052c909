"""Keeping what an earlier life of a lane's worktree left, before it is made anew.

Its folder was deleted by hand, or a prepare was killed halfway.
"""

from __future__ import annotations

import os

from agentrelay.workstream._git.proof import is_contained
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.rescue import Rescuer, describe, new_stamp
from agentrelay.workstream._git.worktree_entries import Entry, entry_logs
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.core.runtime import WorkstreamRuntime, record_concern

__all__ = ["keep_entry", "keep_files"]


def keep_entry(
    repository: OpenRepository, lane: Lane, runtime: WorkstreamRuntime, entry: Entry
) -> None:
    """Keep what an entry without a worktree leads to: its index, its HEAD, its log.

    Raises:
        RepositoryError: It cannot be kept.
    """
    tip = repository.resolve(lane.branch_ref)
    rescuer = _rescuer(repository, lane)
    rescuer.keep_entry(entry)
    rescuer.keep_logged("reflog", entry_logs(entry), tips=() if tip is None else (tip,))
    _tell(runtime, rescuer)


def keep_files(
    repository: OpenRepository, lane: Lane, runtime: WorkstreamRuntime, entry: Entry
) -> None:
    """Keep what is in a worktree whose files are about to be written again.

    A checkout writes its index last, so without one there was nothing of anybody's.

    Raises:
        RepositoryError: It cannot be kept.
    """
    index = entry.admin_dir / "index"
    if not index.exists():
        return
    rescuer = _rescuer(repository, lane)
    if any(name != ".git" for name in os.listdir(lane.worktree_path)):
        rescuer.keep_worktree(entry, lane.worktree_path)
    else:
        rescuer.keep_entry(entry)
    # What the index said beyond HEAD is safe; the new checkout starts from HEAD.
    index.unlink()
    _tell(runtime, rescuer)


def _rescuer(repository: OpenRepository, lane: Lane) -> Rescuer:
    """Return a rescuer that believes any lasting ref."""
    return Rescuer(
        repository,
        prefix=lane.rescue_prefix,
        stamp=new_stamp(),
        survives=lambda commit_id: is_contained(repository, commit_id, target_refs=()),
    )


def _tell(runtime: WorkstreamRuntime, rescuer: Rescuer) -> None:
    """Say what was found where a worktree had been, and kept."""
    for kept in rescuer.kept:
        record_concern(runtime, f"the worktree's folder was gone: {describe(kept)}")
