"""What clean-ups kept: listing it, bringing it back, and letting go of it.

A teardown keeps whatever exists nowhere else under refs of its own, below
``refs/agentrelay/rescue/<graph>/<id>/<time>/``. They appear in no branch list and are
neither fetched nor pushed by default, and git never collects what they lead to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Optional, Union

from agentrelay.workstream._durations import absolute_path, check_seconds
from agentrelay.workstream._lane import check_branch_name, rescue_prefix
from agentrelay.workstream._steps import Step, Verb
from agentrelay.workstream.errors import RepositoryError

__all__ = ["RescuedWork", "RestoredWork", "forget", "rescued", "restore"]

_LANE_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True)
class RescuedWork:
    """One thing a clean-up kept.

    Attributes:
        ref: Full name of the ref that keeps it.
        graph: Name of the task graph.
        workstream_id: Identifier of the workstream.
        kept_at: When it was kept, in UTC; ``None`` where the ref's name does not tell.
        label: Last part of the ref: ``"commits"``, ``"remote"``, ``"detached"``, ``"reflog"``
            and others lead to commits; ``"staged"``, ``"unstaged"``, ``"untracked"``,
            ``"ignored"`` and ``"patches"`` to a snapshot of files.
        commit_id: Hex id of the commit.
        subject: First line of the commit's message.
        files: Paths the snapshot brings, sorted; empty where commits were kept.
        deleted: Paths the snapshot takes away, likewise.
    """

    ref: str
    graph: str
    workstream_id: str
    kept_at: Optional[datetime]
    label: str
    commit_id: str
    subject: str
    files: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    @property
    def is_snapshot(self) -> bool:
        """Whether it is a snapshot of files, and not commits somebody made."""
        return self.label in {"staged", "unstaged", "untracked", "ignored", "patches"}

    def is_older_than(self, age_s: float) -> bool:
        """Return whether it was kept more than ``age_s`` seconds ago.

        ``False`` where the ref's name does not tell when.
        """
        if self.kept_at is None:
            return False
        return (datetime.now(tz=UTC) - self.kept_at).total_seconds() > age_s


@dataclass(frozen=True)
class RestoredWork:
    """What was brought back, and where it is now.

    Attributes:
        work: What had been kept; its ref is still there.
        branch: Short name of the branch that leads to it, or ``None``.
        directory: Directory its files were written to, or ``None``.
    """

    work: RescuedWork
    branch: Optional[str] = None
    directory: Optional[Path] = None


def rescued(
    repo_path: Path, *, graph: Optional[str] = None, workstream_id: Optional[str] = None
) -> list[RescuedWork]:
    """List what clean-ups kept, oldest first; nothing is changed.

    Args:
        repo_path: Repository the lanes were in.
        graph: Only lanes of this task graph.
        workstream_id: Only this workstream; needs ``graph``.

    Raises:
        LaneNameError: A name breaks a rule, or an id is given without its graph.
        RepositoryError: There is no repository, or something kept cannot be read.
    """
    from agentrelay.workstream._git.repository import open_repository
    from agentrelay.workstream.implementations._rescued import find

    with Verb("rescued", graph, workstream_id):
        prefix = rescue_prefix(graph, workstream_id)
        with Step("find"):
            return find(open_repository(repo_path), prefix)


def restore(
    repo_path: Path,
    work: Union[RescuedWork, str],
    *,
    branch: Optional[str] = None,
    directory: Optional[Path] = None,
) -> RestoredWork:
    """Bring back one thing that was kept; no checkout and no existing branch is touched.

    Without ``directory`` a new branch leads to it, from which it can be merged, picked or
    checked out. With ``directory`` the files of a snapshot are written there, byte for byte.
    Either way the rescue ref stays. Restoring to the same branch again is harmless.

    Args:
        repo_path: Repository the lanes were in.
        work: What :func:`rescued` returned, or the name of its ref, in full or without
            ``refs/agentrelay/rescue/``.
        branch: Short name of the new branch; ``rescued/<graph>/<id>/<time>/<label>`` when
            neither is given.
        directory: Directory to write a snapshot's files to; it must be absent or empty.

    Raises:
        LaneNameError: ``branch`` cannot be the name of a branch.
        LaneConflictError: The branch exists and leads elsewhere, or the directory is not
            empty; nothing was changed.
        LaneBusyError: What a killed process left is to be removed, and the repository's
            lock was held for a minute.
        RepositoryError: No such thing was kept, both places were named, or files were asked
            for where commits were kept.
    """
    from agentrelay.workstream._git.repository import open_repository
    from agentrelay.workstream.implementations._rescued import find_one, to_branch, to_directory

    with Verb("restore") as verb:
        if branch is not None and directory is not None:
            raise RepositoryError(
                "cannot restore to a branch and to a directory at once",
                path=directory,
                hint="Name one of them; restore again for the other.",
            )
        if branch is not None:
            check_branch_name(branch, kind="branch")
        place = None if directory is None else absolute_path("directory", directory)
        with Step("find"):
            repository = open_repository(repo_path)
            found = find_one(repository, work.ref if isinstance(work, RescuedWork) else work)
        verb.graph, verb.workstream_id = found.graph, found.workstream_id
        verb.say(found.ref)
        with Step("restore"):
            if place is not None:
                return to_directory(repository, found, place)
            return to_branch(repository, found, branch)


def forget(
    repo_path: Path,
    works: Sequence[Union[RescuedWork, str]] = (),
    *,
    older_than_s: Optional[float] = None,
    graph: Optional[str] = None,
    workstream_id: Optional[str] = None,
    lane_timeout_s: float = _LANE_TIMEOUT_S,
) -> list[RescuedWork]:
    """Delete rescue refs: those that are named, or those of a certain age. For good.

    What only they led to is collected by git's next garbage collection. A ref that was
    changed since it was looked at stays, and so does one whose name tells no time unless
    it is named itself. Forgetting something that is gone already is harmless.

    Args:
        repo_path: Repository the lanes were in.
        works: What to forget, as for :func:`restore`.
        older_than_s: Forget what was kept longer ago than this, in seconds.
        graph: With ``older_than_s``: only lanes of this task graph.
        workstream_id: With ``older_than_s``: only this workstream; needs ``graph``.
        lane_timeout_s: Longest wait for somebody who works on one of the lanes, in seconds.

    Returns:
        What was forgotten, oldest first.

    Raises:
        LaneNameError: A name breaks a rule, or an id is given without its graph.
        LaneConflictError: A ref changed meanwhile; it and the ones after it stay.
        LaneBusyError: Another thread or process is working on the lane.
        RepositoryError: Neither or both of ``works`` and ``older_than_s`` are given, or a
            ref cannot be deleted.
    """
    from agentrelay.workstream._git.repository import open_repository
    from agentrelay.workstream.implementations._rescued import drop, find, find_named

    with Verb("forget", graph, workstream_id) as verb:
        if bool(works) == (older_than_s is not None):
            raise RepositoryError(
                "forget needs either what to forget or an age",
                path=repo_path,
                hint="Pass what rescued() returned, or older_than_s=.",
            )
        prefix = rescue_prefix(graph, workstream_id)
        check_seconds("lane_timeout_s", lane_timeout_s)
        repository = open_repository(repo_path)
        with Step("find"):
            if older_than_s is None:
                seen = {work.ref: work for work in works if isinstance(work, RescuedWork)}
                refs = [work.ref if isinstance(work, RescuedWork) else work for work in works]
                # What the caller looked at is what may go, and not what the ref keeps by now.
                doomed = [seen.get(work.ref, work) for work in find_named(repository, refs)]
            else:
                check_seconds("older_than_s", older_than_s)
                doomed = [
                    work for work in find(repository, prefix) if work.is_older_than(older_than_s)
                ]
        verb.say(f"{len(doomed)} refs")
        with Step("forget"):
            return drop(repository, doomed, lane_timeout_s=lane_timeout_s)
