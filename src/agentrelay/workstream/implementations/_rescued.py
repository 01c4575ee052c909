"""Finding, restoring and dropping rescue refs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from agentrelay.workstream._git.refs import (
    create_ref,
    delete_ref,
    refs_below,
    release_dead_lock,
    release_dead_logs_below,
)
from agentrelay.workstream._git.repository import OpenRepository, read_ref
from agentrelay.workstream._git.rescue import read_stamp
from agentrelay.workstream._git.snapshot import read_snapshot, subject_of, write_snapshot
from agentrelay.workstream._git.sweep import sweep_own_dir
from agentrelay.workstream._lane import RESCUE_PREFIX, Lane
from agentrelay.workstream.errors import LaneConflictError, LaneNameError, RepositoryError
from agentrelay.workstream.implementations._lane_record import lane_lock
from agentrelay.workstream.implementations.workstream_rescue import RescuedWork, RestoredWork

__all__ = ["drop", "find", "find_named", "find_one", "to_branch", "to_directory"]

# Sorts what tells no time before everything that does.
_NEVER = datetime.min.replace(tzinfo=UTC)


def find(repository: OpenRepository, prefix: str) -> list[RescuedWork]:
    """Return what is kept below a prefix, oldest first.

    A ref that somebody else put there, under no lane's name, is not among it.

    Raises:
        RepositoryError: The refs cannot be read.
    """
    found = (_read(repository, ref) for ref in refs_below(repository, prefix))
    return _sorted(work for work in found if work is not None)


def find_one(repository: OpenRepository, name: str) -> RescuedWork:
    """Return what is kept under one ref.

    Raises:
        RepositoryError: Nothing is.
    """
    ref = name if name.startswith(RESCUE_PREFIX) else RESCUE_PREFIX + name
    work = _read(repository, ref)
    if work is None:
        raise RepositoryError(
            f"nothing is kept under {name!a} in '{repository.path}'",
            path=repository.path,
            hint="'agentrelay-workstream rescued' or agentrelay.workstream.rescued() list it.",
        )
    return work


def find_named(repository: OpenRepository, names: Iterable[str]) -> list[RescuedWork]:
    """Return what is kept under some refs; of those that are gone, the deletion is finished.

    Raises:
        RepositoryError: A name is not one of a rescue ref.
    """
    found: list[RescuedWork] = []
    for name in names:
        ref = name if name.startswith(RESCUE_PREFIX) else RESCUE_PREFIX + name
        if _place(ref) is None:
            raise RepositoryError(
                f"{name!a} is not the name of a rescue ref",
                path=repository.path,
                hint=f"Such a name is '{RESCUE_PREFIX}<graph>/<id>/<time>/<label>'.",
            )
        work = _read(repository, ref)
        if work is not None:
            found.append(work)
        elif read_ref(repository.common_dir, ref) is None:
            # Whoever deleted it may have been killed before its log was gone too.
            release_dead_lock(repository, ref)
    return _sorted(found)


def to_branch(repository: OpenRepository, work: RescuedWork, branch: str | None) -> RestoredWork:
    """Make a new branch lead to what was kept; see ``restore``."""
    sweep_own_dir(repository)
    name = branch or work.ref.removeprefix("refs/agentrelay/").replace("rescue/", "rescued/", 1)
    ref = f"refs/heads/{name}"
    made = create_ref(repository, ref, work.commit_id, message=f"restored from {work.ref}")
    if not made and repository.resolve(ref) != work.commit_id:
        raise LaneConflictError(
            f"the branch '{name}' exists and leads elsewhere",
            obstacle=ref,
            hint="Name another branch; this one was left alone.",
        )
    return RestoredWork(work, branch=name)


def to_directory(repository: OpenRepository, work: RescuedWork, directory: Path) -> RestoredWork:
    """Write a snapshot's files to a new directory; see ``restore``."""
    if not work.is_snapshot:
        raise RepositoryError(
            f"'{work.ref}' keeps commits, which are no files to write",
            path=repository.path,
            hint="Restore it to a branch.",
        )
    write_snapshot(repository, work.commit_id, work.files, directory)
    return RestoredWork(work, directory=directory)


def drop(
    repository: OpenRepository, doomed: list[RescuedWork], *, lane_timeout_s: float
) -> list[RescuedWork]:
    """Delete rescue refs at the commits they were found at.

    A teardown that is under way may count on what it has just kept: each lane is locked.
    """
    # Also with nothing left to delete: a lock of the refs that a killed one holds stops git.
    sweep_own_dir(repository)
    release_dead_logs_below(repository, RESCUE_PREFIX)
    gone: list[RescuedWork] = []
    for (graph, workstream_id), works in groupby(
        sorted(doomed, key=lambda work: (work.graph, work.workstream_id)),
        key=lambda work: (work.graph, work.workstream_id),
    ):
        lane = Lane.of(repository.path, graph, workstream_id)
        with (
            lane_lock(repository, lane, timeout_s=lane_timeout_s),
            repository.metadata_section(),
        ):
            for work in works:
                if delete_ref(repository, work.ref, expected=work.commit_id):
                    gone.append(work)  # noqa: PERF401 - what was done so far counts
    return _sorted(gone)


def _sorted(works: Iterable[RescuedWork]) -> list[RescuedWork]:
    return sorted(works, key=lambda work: (work.kept_at or _NEVER, work.ref))


def _place(ref: str) -> tuple[str, str, str, str] | None:
    """Return graph, id, time and label of a rescue ref's name, or ``None``."""
    parts = ref.removeprefix(RESCUE_PREFIX).split("/", 3)
    if not ref.startswith(RESCUE_PREFIX) or len(parts) != 4 or not all(parts):  # noqa: PLR2004 - as named above
        return None
    graph, workstream_id, stamp, label = parts
    try:
        Lane.of(Path(), graph, workstream_id)
    except LaneNameError:
        return None
    return graph, workstream_id, stamp, label


def _read(repository: OpenRepository, ref: str) -> RescuedWork | None:
    """Return what one ref keeps, or ``None`` where there is no rescue ref of that name."""
    place = _place(ref)
    commit_id = None if place is None else read_ref(repository.common_dir, ref)
    if place is None or commit_id is None:
        return None
    graph, workstream_id, stamp, label = place
    work = RescuedWork(ref, graph, workstream_id, read_stamp(stamp), label, commit_id, "")
    try:
        subject = subject_of(repository, commit_id)
        snapshot = read_snapshot(repository, commit_id) if work.is_snapshot else None
    except RepositoryError as error:
        # A damaged one must not hide the others.
        return replace(work, subject=f"cannot be read: {error}")
    if snapshot is None:
        return replace(work, subject=subject)
    return replace(work, subject=subject, files=snapshot.files, deleted=snapshot.deleted)
