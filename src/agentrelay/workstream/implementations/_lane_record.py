"""What is written down of a lane, and who holds it just now.

The record says whose the remote branch is. That cannot be told from the branch: a
second clone's lane starts at the same commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from agentrelay.workstream._git.locks import hold
from agentrelay.workstream._git.repository import (
    OpenRepository,
    is_commit_id,
    open_repository,
)
from agentrelay.workstream._git.worktree_entries import entry_at, read_entry
from agentrelay.workstream._lane import Lane
from agentrelay.workstream._steps import Step, way_out
from agentrelay.workstream.core import _signals
from agentrelay.workstream.core.runtime import WorkstreamRuntime, WorkstreamStatus
from agentrelay.workstream.errors import LaneConflictError, RepositoryError, WorkstreamError

__all__ = [
    "LaneRecord",
    "Place",
    "forget_place",
    "lane_lock",
    "lane_lock_path",
    "note_place",
    "noted_place",
    "read_lane_record",
    "retire_signals",
]

_FORMAT: Final = 1

Claim = Literal["wanted", "pushed", "lost", "released"]


@dataclass(frozen=True)
class LaneRecord:
    """The lane's record as it is on disk.

    Attributes:
        claim: ``"wanted"``: a push was about to be tried; ``"pushed"``: the remote branch
            is ours; ``"lost"``: somebody else's; ``"released"``: the lane was torn down;
            ``None``: there is no record.
        attempt: Hex id of the commit that was about to be pushed, or ``None``.
        base_commit: Hex id of the commit the lane was cut from, or ``None``.
        data: All of it.
    """

    claim: Claim | None
    attempt: str | None
    base_commit: str | None
    data: dict[str, Any]

    @property
    def is_ours(self) -> bool:
        """Whether the record says that the lane, if it stands, is ours."""
        return self.claim in {"wanted", "pushed"}

    @property
    def is_ending(self) -> bool:
        """Whether a teardown of the lane was begun, and no prepare since."""
        return self.data.get("ending") is True

    def owns(self, remote_tip: str) -> bool:
        """Return whether the remote's branch, at this commit, is ours.

        While a push was only wanted, the lane had not been handed to anybody: at the
        remote there can be the pushed commit, and nothing else that is ours.
        """
        return self.claim == "pushed" or (self.claim == "wanted" and self.attempt == remote_tip)

    def write(self, lane: Lane, **changes: Any) -> LaneRecord:
        """Write the record with changes, if it has any.

        Returns:
            The new record.

        Raises:
            RepositoryError: It cannot be written.
        """
        data = {**self.data, **changes, "format": _FORMAT}
        if data != self.data:
            try:
                _signals.write_record(lane.signal_dir, data)
            except OSError as error:
                message = (
                    f"cannot write the lane's signals in '{lane.signal_dir}': "
                    f"{error.strerror or error}"
                )
                raise RepositoryError(
                    message,
                    path=lane.signal_dir,
                    hint="Is the directory writable, and the disk not full?",
                ) from error
        return _of(data)


def _of(data: dict[str, Any]) -> LaneRecord:
    """Read a record that anyone may have edited."""
    claim, attempt, base = (data.get(key) for key in ("claim", "attempt", "base_commit"))
    return LaneRecord(
        claim=claim if claim in get_args(Claim) else None,
        attempt=_commit_id(attempt),
        base_commit=_commit_id(base),
        data=data,
    )


def _commit_id(value: object) -> str | None:
    """Return a full commit id, and nothing else: a ref's name would be followed by git."""
    return value if isinstance(value, str) and is_commit_id(value) else None


def read_lane_record(repository: OpenRepository, lane: Lane) -> LaneRecord:
    """Read the lane's record; it is empty where there is none.

    Raises:
        LaneConflictError: The signal directory is another lane's, or another repository's.
    """
    data = _signals.read_record(lane.signal_dir) or {}
    if data and data.get("branch_name") != lane.branch:
        if data.get("claim") == "released":
            return _of({})
        message = (
            f"'{lane.signal_dir}' holds the signals of another lane, '{data.get('branch_name')}'"
        )
        raise LaneConflictError(
            message,
            obstacle=lane.signal_dir,
            hint="Give each graph a run_dir of its own, or tear that lane down.",
        )
    record = _of(data)
    if record.is_ours:
        _refuse_anothers_record(repository, lane)
    return record


def _refuse_anothers_record(repository: OpenRepository, lane: Lane) -> None:
    """Refuse a record that says "ours" and was written for another repository.

    Two clones may be given one run directory, and a clone may be copied with its lanes.

    Raises:
        LaneConflictError: That is so.
    """
    place = noted_place(repository, lane.admin_name)
    if place is None:
        is_entered = (
            read_entry(repository.worktrees_admin_dir / lane.admin_name) is not None
            or entry_at(repository, lane.worktree_path) is not None
        )
        if lane.signal_dir.is_relative_to(lane.repo_path) or is_entered:
            # Our own notes were cleared by hand.
            return
        raise LaneConflictError(
            f"'{lane.signal_dir}' holds the signals of lane '{lane}' of another repository",
            obstacle=lane.signal_dir,
            hint="Give each repository a run_dir of its own, or tear that lane down there.",
        )
    if place.repo_path == repository.path:
        return
    try:
        home = open_repository(place.repo_path)
        is_same = home.common_dir.samefile(repository.common_dir)
    except (WorkstreamError, OSError):
        # Moved: the lane came along.
        return
    if not is_same and noted_place(home, lane.admin_name) == place:
        raise LaneConflictError(
            f"lane '{lane}' was prepared in '{place.repo_path}', of which this is a copy",
            obstacle=place.repo_path,
            hint="Prepare it or tear it down there.",
        )


@contextmanager
def lane_lock(repository: OpenRepository, lane: Lane, *, timeout_s: float) -> Iterator[None]:
    """Hold one lane against every other thread and process; other lanes are free.

    Held for a whole step, its network included: two steps of one lane must not mix.

    Raises:
        LaneBusyError: Somebody else held it all that time.
    """
    with ExitStack() as stack:
        with Step("hold the lane"):
            stack.enter_context(
                hold(
                    lane_lock_path(repository, lane),
                    what=f"lane '{lane}'",
                    timeout_s=timeout_s,
                    # Nothing was done yet: a wait may end where it is.
                    waiting=way_out(),
                )
            )
        yield


def lane_lock_path(repository: OpenRepository, lane: Lane) -> Path:
    """Return the file that :func:`lane_lock` locks."""
    return repository.own_dir / "lanes" / f"{lane.admin_name}.lock"


@dataclass(frozen=True)
class Place:
    """From where a lane was prepared: its signals may be in any run directory.

    Attributes:
        repo_path: The checkout, or bare repository, the lane was prepared in.
        signal_dir: Directory of the lane's signal files.
    """

    repo_path: Path
    signal_dir: Path


def note_place(repository: OpenRepository, lane: Lane) -> None:
    """Write down beside the lane's lock where its record is kept; before the record.

    Whoever finds a branch of a lane's name can tell by this whether it was ever this
    repository's lane, and asks the record itself for the rest.

    Raises:
        RepositoryError: It cannot be written.
    """
    place = Place(lane.repo_path, lane.signal_dir)
    if noted_place(repository, lane.admin_name) == place:
        return
    path = _place_path(repository, lane.admin_name)
    document = {"repo_path": str(place.repo_path), "signal_dir": str(place.signal_dir)}
    try:
        # Of this lane alone, which is held: nobody else writes it.
        _signals.write_note(path, json.dumps(document, sort_keys=True) + "\n")
    except OSError as error:
        message = f"cannot write '{path}': {error.strerror or error}"
        raise RepositoryError(
            message, path=path, hint="Is the repository writable, and the disk not full?"
        ) from error


def noted_place(repository: OpenRepository, admin_name: str) -> Place | None:
    """Return where a lane's record is kept, or ``None`` when nothing readable says so."""
    path = _place_path(repository, admin_name)
    text = _signals.read_signal(path.parent, path.name)
    try:
        document = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    repo_path, signal_dir = document.get("repo_path"), document.get("signal_dir")
    for text in (repo_path, signal_dir):
        if not isinstance(text, str) or not Path(text).is_absolute() or "\0" in text:
            return None
    return Place(Path(str(repo_path)), Path(str(signal_dir)))


def forget_place(repository: OpenRepository, lane: Lane) -> None:
    """Remove the note of :func:`note_place`: nothing of the lane is here any more.

    Raises:
        OSError: It is there and cannot be removed.
    """
    _signals.remove_note(_place_path(repository, lane.admin_name))


def _place_path(repository: OpenRepository, admin_name: str) -> Path:
    return repository.own_dir / "lanes" / f"{admin_name}.json"


def retire_signals(runtime: WorkstreamRuntime, lane: Lane) -> None:
    """Move the signals of an earlier run into the lane's history."""
    for status in WorkstreamStatus:
        _signals.retire_signal(lane.signal_dir, status.value, event=f"earlier {status.value}")
    runtime.artifacts.merge_pr_url = None
