"""What is written down of a lane, and who holds it just now.

The record says whose the remote branch is. That cannot be told from the branch: a
second clone's lane starts at the same commit.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from agentrelay.workstream._git.locks import hold
from agentrelay.workstream._git.repository import OpenRepository, is_commit_id
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.core import _signals
from agentrelay.workstream.core.runtime import WorkstreamRuntime, WorkstreamStatus
from agentrelay.workstream.errors import LaneConflictError, RepositoryError

__all__ = ["LaneRecord", "lane_lock", "read_lane_record", "retire_signals"]

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


def read_lane_record(lane: Lane) -> LaneRecord:
    """Read the lane's record; it is empty where there is none.

    Raises:
        LaneConflictError: The signal directory is another lane's.
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
    return _of(data)


def lane_lock(
    repository: OpenRepository, lane: Lane, *, timeout_s: float
) -> AbstractContextManager[None]:
    """Hold one lane against every other thread and process; other lanes are free.

    Held for a whole step, its network included: two steps of one lane must not mix.

    Raises:
        LaneBusyError: Somebody else held it all that time.
    """
    return hold(
        repository.own_dir / "lanes" / f"{lane.admin_name}.lock",
        what=f"lane '{lane}'",
        timeout_s=timeout_s,
    )


def retire_signals(runtime: WorkstreamRuntime, lane: Lane) -> None:
    """Move the signals of an earlier run into the lane's history."""
    for status in WorkstreamStatus:
        _signals.retire_signal(lane.signal_dir, status.value, event=f"earlier {status.value}")
    runtime.artifacts.merge_pr_url = None
