"""What this machine has of one lane, put together from every place it leaves traces in.

A few file reads, however many lanes there are, and nothing is changed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from agentrelay.workstream._git.locks import hold
from agentrelay.workstream._git.ref_deletion import symbolic_target
from agentrelay.workstream._git.repository import OpenRepository, refuse_links
from agentrelay.workstream._git.worktree_entries import (
    Entry,
    entry_at,
    entry_of_moved,
    is_only_linked,
    read_entry,
)
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.core import _signals
from agentrelay.workstream.core.runtime import WorkstreamRuntime, WorkstreamState, WorkstreamStatus
from agentrelay.workstream.core.workstream import WorkstreamSpec
from agentrelay.workstream.errors import LaneBusyError, LaneConflictError, WorkstreamError
from agentrelay.workstream.implementations._lane_record import (
    LaneRecord,
    lane_lock_path,
    noted_place,
    read_lane_record,
)

__all__ = ["Folder", "Traces", "is_held", "look"]

_Names = tuple[str, str]


class Folder(Enum):
    """What stands where a lane's worktree belongs.

    Attributes:
        ABSENT: Nothing.
        EMPTY: An empty folder, or one whose maker was killed before it had an entry.
        WHOLE: A worktree of this repository on the lane's branch.
        DETACHED: One whose HEAD is on no branch: a rebase, say, or an agent's experiment.
        OFF_BRANCH: One that is on another branch.
        HALF_MADE: One that was never handed to anybody.
        UNLINKED: The lane's worktree, in a repository that was moved as a whole.
        OTHER: Anything else: somebody's files, a link.
    """

    ABSENT = "absent"
    EMPTY = "empty"
    WHOLE = "whole"
    DETACHED = "detached"
    OFF_BRANCH = "off branch"
    HALF_MADE = "half made"
    UNLINKED = "unlinked"
    OTHER = "other"


@dataclass(frozen=True)
class Traces:
    """What this machine has of one lane; two looks are equal if nothing happened between.

    Attributes:
        lane: Names and paths, the signals' included.
        record: The lane's record; empty where there is none.
        trouble: Why the record cannot be this lane's, or ``None``.
        is_noted: Whether this repository remembers to have prepared such a lane.
        home: Another checkout the lane was prepared in, or ``None``.
        status: The status on disk, ``None`` when no signal is set.
        folder: What is where the worktree belongs.
        entry: Entry of the worktree that is there, or ``None``.
        own: Entry of the lane's name, or ``None``.
        tip: Hex id of the local branch, or ``None``.
        leads_to: ``"ref: <target>"`` where somebody made the branch a symbolic ref.
    """

    lane: Lane
    record: LaneRecord
    trouble: str | None
    is_noted: bool
    home: Path | None
    status: WorkstreamStatus | None
    folder: Folder
    entry: Entry | None
    own: Entry | None
    tip: str | None
    leads_to: str | None = None

    @property
    def stands(self) -> bool:
        """Whether there is anything but records."""
        is_here = self.folder is not Folder.ABSENT or self.own is not None
        return is_here or self.tip is not None or self.leads_to is not None

    @property
    def registered_elsewhere(self) -> Path | None:
        """Where the lane's entry says that its worktree is, if that is another place."""
        if self.own is None or self.own == self.entry or self.own.worktree_path is None:
            return None
        there, here = (
            os.path.realpath(path) for path in (self.own.worktree_path, self.lane.worktree_path)
        )
        return None if there == here else self.own.worktree_path


def look(
    repository: OpenRepository, name: _Names, *, run_dir: Path | None, tip: str | None
) -> Traces:
    """Look at one lane on this machine; a few file reads, however many lanes there are.

    Args:
        repository: Repository to look in.
        name: Graph and id.
        run_dir: A run directory to look for the record in, besides the usual places.
        tip: Where the local branch is.
    """
    lane, is_noted, home = _locate(repository, name, run_dir)
    trouble = None
    is_below = lane.signal_dir.is_relative_to(lane.repo_path)
    try:
        # What a link leads to was not written by a prepare, which refuses links too.
        refuse_links(
            lane.signal_dir, below=lane.repo_path if is_below else lane.signal_dir.parent.parent
        )
        record = read_lane_record(repository, lane)
    except LaneConflictError as error:
        record, trouble = LaneRecord(None, None, None, {}), error.message
    entry = entry_at(repository, lane.worktree_path)
    return Traces(
        lane,
        record,
        trouble,
        is_noted,
        home,
        _status(lane),
        _folder(repository, lane, entry),
        entry,
        read_entry(repository.worktrees_admin_dir / lane.admin_name),
        tip,
        symbolic_target(repository, lane.branch_ref),
    )


def is_held(repository: OpenRepository, lane: Lane) -> bool:
    """Return whether a thread or process is working on a lane just now."""
    path = lane_lock_path(repository, lane)
    if not path.exists():
        return False
    try:
        with hold(path, what=f"lane '{lane}'", timeout_s=0):
            return False
    except LaneBusyError:
        return True
    except WorkstreamError:
        # A repository that can only be read has no lane that is worked on by us.
        return False


def _locate(
    repository: OpenRepository, name: _Names, run_dir: Path | None
) -> tuple[Lane, bool, Path | None]:
    """Return a lane with the directory of its signals, and where it was prepared."""
    root = repository.path
    usual = Lane.of(root, *name)
    lanes = [usual] if run_dir is None else [Lane.of(root, *name, run_dir=run_dir), usual]
    place = noted_place(repository, usual.admin_name)
    home = None
    if place is not None:
        if _is_same(place.repo_path, root):
            noted = place.signal_dir
            if noted.parent.name == "workstreams" and noted.name == usual.workstream_id:
                lanes.insert(0, Lane.of(root, *name, run_dir=noted.parent.parent))
        elif place.repo_path.exists():
            home = place.repo_path
    for lane in lanes:
        record = _signals.read_record(lane.signal_dir)
        if record is not None and record.get("branch_name") == lane.branch:
            return lane, place is not None, home
    return lanes[0], place is not None, home


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _status(lane: Lane) -> WorkstreamStatus | None:
    """Return the lane's status, or ``None`` when no signal says anything."""
    names = [status.value for status in WorkstreamStatus]
    if all(_signals.read_signal(lane.signal_dir, name) is None for name in names):
        return None
    state = WorkstreamState(signal_dir=lane.signal_dir)
    return WorkstreamRuntime(WorkstreamSpec(lane.workstream_id), state).status


def _folder(repository: OpenRepository, lane: Lane, entry: Entry | None) -> Folder:  # noqa: PLR0911 - one return a state
    """Return what is where a lane's worktree belongs."""
    path = lane.worktree_path
    if not os.path.lexists(path):
        return Folder.ABSENT
    if path.is_symlink() or not path.is_dir():
        return Folder.OTHER
    if entry is not None:
        if entry.head_ref is None:
            return Folder.DETACHED
        if entry.head_ref != lane.branch_ref:
            return Folder.OFF_BRANCH
        return Folder.HALF_MADE if entry.is_half_made else Folder.WHOLE
    if entry_of_moved(repository, path, admin_name=lane.admin_name) is not None:
        return Folder.UNLINKED
    if not any(_scan(path)) or is_only_linked(repository, path, admin_name=lane.admin_name):
        return Folder.EMPTY
    return Folder.OTHER


def _scan(directory: Path) -> list[str]:
    """Return the names in a directory; one that cannot be read is not empty."""
    try:
        return os.listdir(directory)
    except OSError:
        return ["?"]
