"""Preparing and tearing down many lanes at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Optional

from agentrelay.workstream._durations import check_kind, listed
from agentrelay.workstream._lane import Lane
from agentrelay.workstream._steps import Verb
from agentrelay.workstream.core.runner import StandardWorkstreamRunner
from agentrelay.workstream.core.runtime import WorkstreamRuntime, graph_of
from agentrelay.workstream.errors import (
    LaneConflictError,
    LaneNameError,
    RepositoryError,
    WorkstreamError,
)
from agentrelay.workstream.implementations.workstream_preparer import GitWorkstreamPreparer
from agentrelay.workstream.implementations.workstream_teardown import GitWorkstreamTeardown

__all__ = ["LaneResult", "prepare_all", "teardown_all"]

# More threads only wait for each other: each holds the interpreter most of the time.
_MOST_WORKERS: Final = 4


@dataclass(frozen=True)
class LaneResult:
    """What became of one lane of a batch.

    Attributes:
        runtime: The runtime that was given.
        error: What stopped the lane, ``None`` when nothing did.
    """

    runtime: WorkstreamRuntime
    error: Optional[Exception] = None


def prepare_all(
    runtimes: Iterable[WorkstreamRuntime],
    preparer: GitWorkstreamPreparer,
    *,
    workers: Optional[int] = None,
) -> list[LaneResult]:
    """Prepare many lanes, with one fetch and one push for all of them.

    Each lane is what :meth:`StandardWorkstreamRunner.prepare` makes of it: ACTIVE, or FAILED
    with the error on record, whatever becomes of the others. A branch the remote refuses
    fails its lane alone. After a crash anywhere, calling it again completes the lanes.

    The lanes are held together while this runs. Lanes that another thread or process holds
    are waited for, ``lane_timeout_s`` in all. Where a process may have few files open, and
    beyond 500 lanes, the batch is carried out in rounds, each with a fetch and a push of
    its own.

    Args:
        runtimes: The lanes, each at most once. ``state`` is filled in.
        preparer: Its settings count for all of them.
        workers: How many threads write lanes at once; by default one a processor, and four
            at most.

    Returns:
        One result a lane, in the order given. No lane's failure is raised. A lane that is
        named twice, or has a name that breaks a rule, failed before anything was changed.

    Raises:
        RepositoryError: An argument or a setting is of another kind; nothing was done.
    """
    from agentrelay.workstream.implementations._provision_all import provision_all
    from agentrelay.workstream.implementations._settings import access_to_prepare, lane_to_prepare

    check_kind("preparer", preparer, GitWorkstreamPreparer)
    given = _runtimes(runtimes)
    verbs = [Verb("prepare", preparer.graph_name, runtime.spec.id) for runtime in given]
    with _told(Verb("prepare_all", preparer.graph_name), verbs):
        threads, access = _threads(workers), access_to_prepare(preparer)
        lanes, errors = _lanes(given, lambda runtime: lane_to_prepare(preparer, runtime))
        _refuse_case_collisions(lanes, errors)
        numbers = sorted(lanes)
        found = provision_all(
            [(lanes[number], given[number], verbs[number]) for number in numbers],
            access=access,
            lane_timeout_s=preparer.lane_timeout_s,
            workers=threads,
            listener=preparer.progress,
        )
        errors.update(zip(numbers, found, strict=True))
        return [
            _prepared(runtime, errors.get(number), verbs[number])
            for number, runtime in enumerate(given)
        ]


def teardown_all(
    runtimes: Iterable[WorkstreamRuntime],
    teardown: GitWorkstreamTeardown,
    *,
    workers: Optional[int] = None,
) -> list[LaneResult]:
    """Tear many lanes down, with one fetch and one push for all of them.

    Each lane is what :meth:`StandardWorkstreamRunner.teardown` makes of it, whatever becomes
    of the others: a step that fails becomes a concern of its lane and the next step still
    runs. What a single teardown proves or keeps before it deletes is proved or kept here.

    The lanes are held together while this runs, and waited for as in :func:`prepare_all`.

    Args:
        runtimes: The lanes, each at most once. One that was never prepared is left alone.
        teardown: Its settings count for all of them.
        workers: How many threads look at lanes at once; by default one a processor, and
            four at most.

    Returns:
        One result a lane, in the order given. No lane's failure is raised.

    Raises:
        RepositoryError: An argument or a setting is of another kind; nothing was done.
    """
    from agentrelay.workstream.implementations._clean_up_all import clean_up_all
    from agentrelay.workstream.implementations._named_lane import lane_of
    from agentrelay.workstream.implementations._settings import access_to_clean_up

    check_kind("teardown", teardown, GitWorkstreamTeardown)
    given = _runtimes(runtimes)
    verbs = [Verb("teardown", graph_of(runtime), runtime.spec.id) for runtime in given]
    with _told(Verb("teardown_all"), verbs):
        threads = _threads(workers)
        access, api = access_to_clean_up(teardown)
        lanes, errors = _lanes(
            given, lambda runtime: lane_of(runtime, Path(teardown.repo_path), teardown.run_dir)
        )
        numbers = sorted(lanes)
        found = clean_up_all(
            [(lanes[number], given[number], verbs[number]) for number in numbers],
            access=access,
            api=api,
            lane_timeout_s=teardown.lane_timeout_s,
            ignored_limit_bytes=teardown.ignored_limit_bytes,
            workers=threads,
        )
        errors.update(zip(numbers, found, strict=True))
        return [
            _torn_down(runtime, errors.get(number), verbs[number])
            for number, runtime in enumerate(given)
        ]


@contextmanager
def _told(batch: Verb, verbs: Sequence[Verb]) -> Iterator[None]:
    """Say of a batch, and of each of its lanes, that it begins; in the end, of those left."""
    with batch:
        try:
            for verb in verbs:
                verb.begin()
            yield
        except BaseException as stopped:
            for verb in verbs:
                verb.end(stopped)
            raise


def _runtimes(given: Iterable[WorkstreamRuntime]) -> list[WorkstreamRuntime]:
    """Return the lanes of a batch.

    Raises:
        RepositoryError: They are no list of runtimes.
    """
    found = listed("runtimes", given)
    for runtime in found:
        check_kind("one of the runtimes", runtime, WorkstreamRuntime)
    return found


def _threads(workers: object) -> int:
    """Return how many threads to use.

    Raises:
        RepositoryError: The setting is no number of threads.
    """
    if workers is None:
        return min(_MOST_WORKERS, os.cpu_count() or 1)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise RepositoryError(
            f"workers is {workers!r}, which is no number of threads",
            hint="Pass a whole number from 1, or None.",
        )
    return workers


def _lanes(
    given: Sequence[WorkstreamRuntime], name: Callable[[WorkstreamRuntime], Lane | None]
) -> tuple[dict[int, Lane], dict[int, Exception | None]]:
    """Name the lanes; those that have no name or share one come with an error instead."""
    lanes: dict[int, Lane] = {}
    errors: dict[int, Exception | None] = {}
    for number, runtime in enumerate(given):
        try:
            lane = name(runtime)
        except WorkstreamError as error:
            errors[number] = error
        else:
            if lane is not None:
                lanes[number] = lane
    numbers_of: dict[str, list[int]] = {}
    for number, lane in lanes.items():
        numbers_of.setdefault(lane.admin_name, []).append(number)
    for numbers in numbers_of.values():
        for number in numbers if len(numbers) > 1 else ():
            lane = lanes.pop(number)
            errors[number] = LaneConflictError(
                f"lane '{lane}' is named {len(numbers)} times in one batch",
                obstacle=lane.branch_ref,
                hint="Name each lane once; nothing was done with this one.",
            )
    return lanes, errors


def _refuse_case_collisions(lanes: dict[int, Lane], errors: dict[int, Exception | None]) -> None:
    """Refuse lanes that differ from another of the batch only by case."""
    folded: dict[str, list[int]] = {}
    for number, lane in lanes.items():
        folded.setdefault(lane.workstream_id.casefold(), []).append(number)
    for numbers in folded.values():
        for number in numbers if len(numbers) > 1 else ():
            lane, other = lanes[number], lanes[next(n for n in numbers if n != number)]
            rule = "names must differ by more than case"
            errors[number] = LaneNameError(
                f"workstream id '{lane.workstream_id}' cannot name a lane: it differs from "
                f"'{other.workstream_id}' in the same batch only by case",
                name=lane.workstream_id,
                rule=rule,
                hint="Choose names that differ in letters.",
            )
    for number in errors:
        lanes.pop(number, None)


class _Done:
    """Stands where the runner expects a step: it was carried out already."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def prepare_workstream(self, workstream_runtime: WorkstreamRuntime) -> None:  # noqa: ARG002 - protocol
        """Raise what stopped the lane."""
        self._raise()

    def create_integration_pr(self, workstream_runtime: WorkstreamRuntime) -> None:  # noqa: ARG002 - protocol
        """Raise what stopped the lane."""
        self._raise()

    def teardown_workstream(self, workstream_runtime: WorkstreamRuntime) -> None:  # noqa: ARG002 - protocol
        """Raise what stopped the lane."""
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def _prepared(runtime: WorkstreamRuntime, error: Exception | None, verb: Verb) -> LaneResult:
    """Let the standard runner draw the consequences of a prepare."""
    done = _Done(error)
    try:
        with verb.active():
            StandardWorkstreamRunner(done, done, done).prepare(runtime)
    except Exception as failed:  # noqa: BLE001 - each lane has a result of its own
        verb.end(failed)
        return LaneResult(runtime, failed)
    verb.end()
    return LaneResult(runtime)


def _torn_down(runtime: WorkstreamRuntime, error: Exception | None, verb: Verb) -> LaneResult:
    """Let the standard runner draw the consequences of a teardown."""
    done = _Done(error)
    with verb.active():
        StandardWorkstreamRunner(done, done, done).teardown(runtime)
    verb.end(error)
    return LaneResult(runtime, error)
