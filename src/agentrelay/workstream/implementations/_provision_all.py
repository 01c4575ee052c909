"""Preparing many lanes: each step for all of them, the network and the configuration once.

What holds for one lane holds for each: its record is written before its effects, whatever
stops it undoes or leaves it as a single prepare would, and a repetition completes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from agentrelay.workstream._git.config import set_upstreams
from agentrelay.workstream._git.failures import is_torn, repository_failures
from agentrelay.workstream._git.remotes import RefUpdate, RemoteAccess, RemoteEnd, open_remote
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.sweep import sweep_own_dir
from agentrelay.workstream._lane import Lane
from agentrelay.workstream._steps import Step, Verb
from agentrelay.workstream.core.runtime import WorkstreamRuntime
from agentrelay.workstream.errors import WorkstreamError
from agentrelay.workstream.implementations._provision import provision
from agentrelay.workstream.implementations._provision_steps import (
    Provision,
    begin,
    branches_of,
    check_own_base,
    finish,
    look_around,
    make,
    missing_push,
    undo,
)
from agentrelay.workstream.implementations._rounds import (
    Crew,
    copied,
    hold_lanes,
    rounds,
    unique,
)
from agentrelay.workstream.implementations.checkout_progress import CheckoutProgress, teller

__all__ = ["provision_all"]


@dataclass
class _Job:
    """One lane of a batch.

    Attributes:
        lane: Names and paths.
        runtime: The runtime to fill in.
        verb: What says how far it is.
        tell: Whom to tell how far its files are.
        begun: Its steps, once it is held.
        update: The push it needs, once that is known.
        error: What stopped it.
    """

    lane: Lane
    runtime: WorkstreamRuntime
    verb: Verb
    tell: Callable[[int, int, int], None] | None = None
    begun: Provision | None = None
    update: RefUpdate | None = None
    error: Exception | None = None

    @property
    def run(self) -> Provision:
        """Its steps, where there is no doubt that it is held."""
        assert self.begun is not None
        return self.begun


def provision_all(
    wanted: Sequence[tuple[Lane, WorkstreamRuntime, Verb]],
    *,
    access: RemoteAccess,
    lane_timeout_s: float,
    workers: int,
    listener: Callable[[CheckoutProgress], None] | None = None,
) -> list[Exception | None]:
    """Prepare lanes of one repository.

    Args:
        wanted: The lanes, each once, with their runtimes and what says how far they are.
        access: How to reach the remote.
        lane_timeout_s: Longest wait for other holders of the lanes, all together, in
            seconds; anew for each round of lanes.
        workers: How many threads make lanes at once.
        listener: Whom to tell how far the files of each lane are, from any of the threads.

    Returns:
        In the same order ``None``, or what stopped the lane.
    """
    jobs = [_Job(lane, runtime, verb, teller(runtime, listener)) for lane, runtime, verb in wanted]
    for job in jobs:
        job.verb.say(job.lane.branch)
        _attempt(job, lambda job: check_own_base(job.lane, job.runtime))
    for some in rounds([job for job in jobs if job.error is None]):
        try:
            crew = Crew(some[0].lane.repo_path, workers)
            _Round(some, crew, access).carry_out(lane_timeout_s)
        except WorkstreamError as error:
            # No repository, or no such remote.
            for job in some:
                job.error = job.error or copied(error)
    for job in jobs:
        if job.error is not None and is_torn(job.error):
            # Git replaced the configuration just when it was read: from the start.
            job.error = None
            _attempt(
                job,
                lambda job: provision(
                    job.lane,
                    job.runtime,
                    access=access,
                    lane_timeout_s=lane_timeout_s,
                    tell=job.tell,
                ),
            )
    return [job.error for job in jobs]


class _Round:
    """As many lanes as can be held at once."""

    def __init__(self, jobs: Sequence[_Job], crew: Crew, access: RemoteAccess) -> None:
        """Take the lanes; nothing is done yet."""
        self._jobs = jobs
        self._crew = crew
        self._access = access

    @property
    def _left(self) -> list[_Job]:
        """The lanes that nothing has stopped."""
        return [job for job in self._jobs if job.error is None]

    def carry_out(self, lane_timeout_s: float) -> None:
        """Prepare the lanes; what stops one is in its job.

        Raises:
            WorkstreamError: No lane could be begun.
        """
        repository = self._crew.repository
        for job in self._jobs:
            _attempt(job, lambda job: _look(job, repository, lane_timeout_s))
        end = open_remote(repository, self._access)
        with ExitStack() as stack:
            lanes = {
                number: (job.lane, job.verb)
                for number, job in enumerate(self._jobs)
                if not job.error
            }
            busy = hold_lanes(repository, lanes, timeout_s=lane_timeout_s, stack=stack)
            for number, error in busy.items():
                self._jobs[number].error = error
            if self._left:
                sweep_own_dir(repository)
                self._take_steps(end)

    def _take_steps(self, end: RemoteEnd) -> None:
        """Take each step for all lanes that have come so far."""
        self._each(lambda job, own: _begin(job, own, end))
        # Found out now, and not when the remote has been changed already.
        self._for_each_branch(end.refuse_blocked)
        wanted = unique(name for job in self._left for name in branches_of(job.run))
        there: dict[str, str | None] = {}
        try:
            self._for_all(lambda: there.update(end.look(wanted)))
            self._for_each_branch(lambda name: end.note(name, there[name]))
        finally:
            end.settle()
        self._each(lambda job, _: _make(job, there))
        self._push(end)
        branches = [job.lane.branch for job in self._left]
        with Step("configure"):
            self._for_all(
                lambda: set_upstreams(end.repository, branches, remote=self._access.remote)
            )
        self._each(lambda job, _: _finish(job))

    def _push(self, end: RemoteEnd) -> None:
        """Push what the remote lacks, in one exchange; a refused lane is the only one stopped."""
        pushed = {job.lane.branch: job for job in self._left if job.update is not None}
        updates = [job.update for job in pushed.values() if job.update is not None]
        operation = f"push {len(updates)} branches"
        if len(updates) == 1:
            operation = f"push '{updates[0].branch}'"
        for branch, error in end.update_all(updates, operation).items():
            if error is not None:
                _stop(pushed[branch], error)

        def note(job: _Job, own: OpenRepository) -> None:
            if job.update is not None:
                replace(end, repository=own).note_change(job.update)

        self._each(note)

    def _each(self, action: Callable[[_Job, OpenRepository], None]) -> None:
        """Do something for each lane that is left, several at once."""

        def work(job: _Job, own: OpenRepository) -> None:
            if job.begun is not None:
                job.begun.repository = own
            _attempt(job, lambda job: action(job, own))

        self._crew.each(self._left, work)

    def _for_each_branch(self, action: Callable[[str], None]) -> None:
        """Do something once for each branch; its failure stops the lanes that name it."""
        jobs: dict[str, list[_Job]] = {}
        for job in self._left:
            for name in branches_of(job.run):
                jobs.setdefault(name, []).append(job)
        for name, concerned in jobs.items():
            try:
                with repository_failures(f"look at '{name}'", path=self._crew.repository.path):
                    action(name)
            except WorkstreamError as error:
                for job in concerned:
                    if job.error is None:
                        _stop(job, copied(error) if len(concerned) > 1 else error)

    def _for_all(self, action: Callable[[], None]) -> None:
        """Do something for all lanes that are left at once; its failure stops each of them."""
        left = self._left
        if not left:
            return
        try:
            what = "a lane" if len(left) == 1 else f"{len(left)} lanes"
            with repository_failures(f"prepare {what}", path=self._crew.repository.path):
                action()
        except WorkstreamError as error:
            for job in left:
                _stop(job, copied(error) if len(left) > 1 else error)


def _look(job: _Job, repository: OpenRepository, lane_timeout_s: float) -> None:
    """Refuse what is plainly in the way."""
    with Step("look"):
        look_around(repository, job.lane, lane_timeout_s=lane_timeout_s)


def _finish(job: _Job) -> None:
    """Hand the lane out."""
    with Step("hand out"):
        finish(job.run)


def _begin(job: _Job, own: OpenRepository, end: RemoteEnd) -> None:
    """Read what is on record of the lane."""
    job.begun = begin(job.lane, job.runtime, own, replace(end, repository=own), tell=job.tell)


def _make(job: _Job, there: Mapping[str, str | None]) -> None:
    """Make the lane as far as this machine goes."""
    make(job.run, there)
    job.update = missing_push(job.run)


def _attempt(job: _Job, action: Callable[[_Job], None]) -> None:
    """Do something for one lane; its failure stops this one alone."""
    try:
        with (
            job.verb.active(),
            repository_failures(f"prepare lane '{job.lane}'", path=job.lane.repo_path),
        ):
            action(job)
    except Exception as error:  # noqa: BLE001 - each lane has a result of its own
        _stop(job, error)


def _stop(job: _Job, error: Exception) -> None:
    """Undo what the next prepare could not complete, and remember why."""
    job.error = error
    if job.begun is not None and isinstance(error, WorkstreamError):
        undo(job.begun, error)
