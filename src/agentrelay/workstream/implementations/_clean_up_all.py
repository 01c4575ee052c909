"""Tearing many lanes down: each step for all of them, the network and the configuration once.

What holds for one lane holds for each: its work is proved or kept before anything of it is
deleted, refs go at the very commit that was examined, and a step that fails becomes a
concern of its lane while the next one still runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from agentrelay.workstream._git.config import drop_upstreams
from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.ref_deletion import delete_refs
from agentrelay.workstream._git.remotes import RefUpdate, RemoteAccess, RemoteEnd, open_remote
from agentrelay.workstream._git.repository import OpenRepository, refuse_links
from agentrelay.workstream._git.sweep import sweep_own_dir
from agentrelay.workstream._git.worktree_entries import attached_heads
from agentrelay.workstream._lane import Lane
from agentrelay.workstream._steps import Step, Verb
from agentrelay.workstream.core.runtime import WorkstreamRuntime
from agentrelay.workstream.errors import WorkstreamError
from agentrelay.workstream.implementations._access import ApiAccess
from agentrelay.workstream.implementations._clean_up import (
    DELETE_LOCAL_BRANCH,
    DELETE_REMOTE_BRANCH,
    REACH_REMOTE,
    CleanUp,
    begin,
    branches_of,
    end,
    expect_remote,
    remove_what_is_here,
    see_remote,
)
from agentrelay.workstream.implementations._clean_up_branches import (
    examine_local_branch,
    examine_remote_branch,
    forget_push,
)
from agentrelay.workstream.implementations._refusals import other_checkout
from agentrelay.workstream.implementations._rounds import (
    Crew,
    copied,
    hold_lanes,
    rounds,
    unique,
)

__all__ = ["clean_up_all"]


@dataclass
class _Job:
    """One lane of a batch.

    Attributes:
        lane: Names and paths.
        runtime: Its runtime; concerns are added to it.
        verb: What says how far it is.
        begun: Its steps, once it is held.
        tip: Commit its branch may be deleted at, once that is known.
        update: The deletion of its remote branch, once that is known.
        error: What stopped it before the first step.
    """

    lane: Lane
    runtime: WorkstreamRuntime
    verb: Verb
    begun: CleanUp | None = None
    tip: str | None = None
    update: RefUpdate | None = None
    error: Exception | None = None

    @property
    def run(self) -> CleanUp:
        """Its steps, where there is no doubt that it is held."""
        assert self.begun is not None
        return self.begun

    def has_failed(self, step: str) -> bool:
        """Return whether a step of it failed."""
        return step in self.run.failures

    def fail(self, step: str, error: WorkstreamError) -> None:
        """Let a step fail."""

        def raise_it() -> None:
            raise error

        with self.verb.active():
            self.run.step(step, raise_it)


def clean_up_all(
    wanted: Sequence[tuple[Lane, WorkstreamRuntime, Verb]],
    *,
    access: RemoteAccess,
    api: ApiAccess,
    lane_timeout_s: float,
    ignored_limit_bytes: int,
    workers: int,
) -> list[Exception | None]:
    """Tear lanes of one repository down.

    Args:
        wanted: The lanes, each once, with their runtimes and what says how far they are.
        access: How to reach the remote.
        api: How to reach GitHub.
        lane_timeout_s: Longest wait for other holders of the lanes, all together, in
            seconds; anew for each round of lanes.
        ignored_limit_bytes: Size up to which a worktree's ignored files are kept.
        workers: How many threads look at lanes at once.

    Returns:
        In the same order ``None``, or what stopped the lane before its first step.
    """
    jobs = [_Job(lane, runtime, verb) for lane, runtime, verb in wanted]
    for some in rounds(jobs):
        try:
            crew = Crew(some[0].lane.repo_path, workers)
            held = _Round(some, crew, access, api, ignored_limit_bytes)
            held.carry_out(lane_timeout_s)
        except WorkstreamError as error:
            # No repository.
            for job in some:
                job.error = job.error or copied(error)
    return [job.error for job in jobs]


class _Round:
    """As many lanes as can be held at once."""

    def __init__(
        self,
        jobs: Sequence[_Job],
        crew: Crew,
        access: RemoteAccess,
        api: ApiAccess,
        ignored_limit_bytes: int,
    ) -> None:
        """Take the lanes; nothing is done yet."""
        self._jobs = jobs
        self._crew = crew
        self._access = access
        self._api = api
        self._limit_bytes = ignored_limit_bytes

    @property
    def _left(self) -> list[_Job]:
        """The lanes that were begun, or still can be."""
        return [job for job in self._jobs if job.error is None]

    def carry_out(self, lane_timeout_s: float) -> None:
        """Tear the lanes down.

        Raises:
            WorkstreamError: No lane could be begun.
        """
        repository = self._crew.repository
        for job in self._jobs:
            _attempt(
                job, lambda job: refuse_links(job.lane.worktree_path, below=job.lane.repo_path)
            )
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
                self._take_steps()

    def _take_steps(self) -> None:
        """Take each step for all lanes."""
        self._crew.each(
            self._left, lambda job, own: _attempt(job, lambda job: self._begin(job, own))
        )
        remote = self._reach_remote()
        self._each(lambda job: remove_what_is_here(job.run, self._api))
        self._delete_local_branches()
        if remote is not None:
            self._delete_remote_branches(remote)
        self._each(_end)

    def _begin(self, job: _Job, own: OpenRepository) -> None:
        def read(job: _Job) -> None:
            job.begun = begin(
                job.lane, job.runtime, own, self._access, ignored_limit_bytes=self._limit_bytes
            )

        _attempt(job, read)

    def _each(self, action: Callable[[_Job], None]) -> None:
        """Do something for each lane that was begun, several at once."""

        def work(job: _Job, own: OpenRepository) -> None:
            job.run.lend(own)
            _attempt(job, action)

        self._crew.each(self._left, work)

    def _reach_remote(self) -> RemoteEnd | None:
        """Fetch all targets, bases and lanes in one exchange."""
        try:
            with repository_failures(REACH_REMOTE, path=self._crew.repository.path):
                remote = open_remote(self._crew.repository, self._access)
        except WorkstreamError as error:
            self._all_fail(REACH_REMOTE, error)
            return None
        for job in self._left:
            with job.verb.active():
                job.run.step(REACH_REMOTE, lambda run=job.run: _expect(run, remote))  # type: ignore[misc]  # the loop's own
        # Found out now, and not when the remote has been changed already.
        self._for_each_branch(remote.refuse_blocked)
        names = unique(name for job in self._reaching for name in branches_of(job.run))
        there: dict[str, str | None] = {}
        try:
            if names:
                with repository_failures(REACH_REMOTE, path=self._crew.repository.path):
                    there.update(remote.look(names))
        except WorkstreamError as error:
            self._all_fail(REACH_REMOTE, error)
        try:
            self._for_each_branch(lambda name: remote.note(name, there[name]))
        finally:
            remote.settle()
        for job in self._reaching:
            see_remote(job.run, {name: there[name] for name in branches_of(job.run)})
        return remote

    @property
    def _reaching(self) -> list[_Job]:
        """The lanes whose remote branches are still looked for."""
        return [job for job in self._left if not job.has_failed(REACH_REMOTE)]

    def _for_each_branch(self, action: Callable[[str], None]) -> None:
        """Do something once for each branch; its failure is one of the lanes that want it."""
        jobs: dict[str, list[_Job]] = {}
        for job in self._reaching:
            for name in branches_of(job.run):
                jobs.setdefault(name, []).append(job)
        for name, concerned in jobs.items():
            try:
                with repository_failures(REACH_REMOTE, path=self._crew.repository.path):
                    action(name)
            except WorkstreamError as error:
                for job in concerned:
                    if not job.has_failed(REACH_REMOTE):
                        job.fail(REACH_REMOTE, error)

    def _all_fail(self, step: str, error: WorkstreamError) -> None:
        """Let a step fail for each lane that it has not failed for already."""
        for job in self._left:
            if not job.has_failed(step):
                job.fail(step, error)

    def _delete_local_branches(self) -> None:
        """Delete the branches that may go, and their upstreams."""
        repository, step = self._crew.repository, DELETE_LOCAL_BRANCH
        heads = attached_heads(repository)

        def examine(job: _Job) -> None:
            job.tip = examine_local_branch(job.run, heads=heads)

        self._each(
            lambda job: (
                None
                if job.run.branches_stay is not None
                else job.run.step(step, lambda: examine(job))
            )
        )
        going = [
            job for job in self._left if job.run.branches_stay is None and not job.has_failed(step)
        ]
        # Once more, right before: looking at all of them took a moment.
        heads = attached_heads(repository)
        for job in going:
            refusal = other_checkout(job.lane, repository, besides=None, heads=heads)
            if refusal is not None and job.tip is not None:
                job.fail(step, refusal)
        tips = {
            job.lane.branch_ref: job.tip
            for job in going
            if job.tip is not None and not job.has_failed(step)
        }
        with Step(step):
            answers = delete_refs(repository, tips)
        for job in going:
            answer = answers.get(job.lane.branch_ref)
            if isinstance(answer, WorkstreamError):
                job.fail(step, answer)
        gone = [job for job in going if not job.has_failed(step)]
        if not gone:
            return
        try:
            with repository_failures(step, path=repository.path):
                drop_upstreams(repository, [job.lane.branch for job in gone])
        except WorkstreamError as error:
            for job in gone:
                job.fail(step, error)

    def _delete_remote_branches(self, remote: RemoteEnd) -> None:
        """Delete the remote's branches that may go, in one exchange."""
        repository, step = self._crew.repository, DELETE_REMOTE_BRANCH

        def examine(job: _Job) -> None:
            job.update = examine_remote_branch(job.run)

        self._each(lambda job: job.run.step(step, lambda: examine(job)))
        going = {job.lane.branch: job for job in self._left if job.update is not None}
        updates = [job.update for job in going.values() if job.update is not None]
        operation = f"delete {len(updates)} branches"
        if len(updates) == 1:
            operation = f"delete '{updates[0].branch}'"
        tracking: dict[str, str] = {}
        for branch, error in remote.update_all(updates, operation).items():
            if error is not None:
                going.pop(branch).fail(step, error)
                continue
            tip = repository.resolve(remote.tracking_ref(branch))
            if tip is not None:
                tracking[remote.tracking_ref(branch)] = tip
        answers = delete_refs(repository, tracking)
        for branch, job in going.items():
            answer = answers.get(remote.tracking_ref(branch))
            if isinstance(answer, WorkstreamError):
                job.fail(step, answer)

        def forget(job: _Job) -> None:
            if job.lane.branch in going and not job.has_failed(step):
                job.run.step(step, lambda: forget_push(job.run))

        self._each(forget)


def _expect(run: CleanUp, remote: RemoteEnd) -> None:
    expect_remote(run, replace(remote, repository=run.repository))


def _refuse_link(job: _Job) -> None:
    refuse_links(job.lane.worktree_path, below=job.lane.repo_path)


def _end(job: _Job) -> None:
    end(job.run)


def _attempt(job: _Job, action: Callable[[_Job], None]) -> None:
    """Do something for one lane; its failure stops this one alone."""
    try:
        with job.verb.active():
            action(job)
    except Exception as error:  # noqa: BLE001 - each lane has a result of its own
        job.error = error
