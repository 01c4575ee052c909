"""The steps of tearing a lane down: prove or keep, then delete.

The order is worktree, entry, local branch, remote branch: a branch that is checked out
is not deleted, and the remote's copy goes last because it is the one others see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from agentrelay.workstream._git.failures import is_torn, repository_failures
from agentrelay.workstream._git.locks import reading
from agentrelay.workstream._git.proof import is_contained
from agentrelay.workstream._git.remotes import RemoteAccess, RemoteEnd, open_remote
from agentrelay.workstream._git.repository import (
    OpenRepository,
    open_repository,
    read_ref,
    refuse_links,
)
from agentrelay.workstream._git.rescue import Rescuer, describe, new_stamp
from agentrelay.workstream._git.sweep import sweep_own_dir
from agentrelay.workstream._git.worktree_entries import (
    entry_at,
)
from agentrelay.workstream._lane import Lane
from agentrelay.workstream._steps import Step, say_end
from agentrelay.workstream.core.runtime import WorkstreamRuntime, record_concern
from agentrelay.workstream.errors import LaneConflictError, WorkstreamError
from agentrelay.workstream.implementations._access import ApiAccess
from agentrelay.workstream.implementations._clean_up_branches import (
    delete_local_branch,
    delete_remote_branch,
)
from agentrelay.workstream.implementations._clean_up_worktree import remove_worktree
from agentrelay.workstream.implementations._lane_record import (
    LaneRecord,
    forget_place,
    lane_lock,
    read_lane_record,
)
from agentrelay.workstream.implementations._still_open import why_branches_stay

__all__ = [
    "DELETE_LOCAL_BRANCH",
    "DELETE_REMOTE_BRANCH",
    "REACH_REMOTE",
    "CleanUp",
    "CleanUpResult",
    "begin",
    "branches_of",
    "clean_up",
    "end",
    "expect_remote",
    "remove_what_is_here",
    "see_remote",
]

# Names of the steps that others ask for. A failure of the last one says, too, that the
# branch is another clone's.
REACH_REMOTE: Final = "reach the remote"
DELETE_LOCAL_BRANCH: Final = "delete the local branch"
DELETE_REMOTE_BRANCH: Final = "delete the remote branch"


@dataclass(frozen=True)
class CleanUpResult:
    """How far a teardown came.

    Attributes:
        failures: Names of the steps that failed, in order; each has its concern.
        branches_stay: Why both branches were kept, or ``None``.
    """

    failures: tuple[str, ...]
    branches_stay: str | None


@dataclass
class CleanUp:
    """One run of the steps; holds what several of them read."""

    lane: Lane
    runtime: WorkstreamRuntime
    repository: OpenRepository
    record: LaneRecord
    ignored_limit_bytes: int
    remote: RemoteEnd | None = None
    stood: bool = False
    branches_stay: str | None = None
    remote_tip: str | None = None
    remote_seen: bool = False
    seen_before: str | None = None
    confirmed: frozenset[str] = frozenset()
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the rescuer, which asks what the lane's work must be found in."""
        self.rescuer = Rescuer(
            self.repository,
            prefix=self.lane.rescue_prefix,
            stamp=new_stamp(),
            survives=lambda commit_id: is_contained(
                self.repository, commit_id, target_refs=self.target_refs
            ),
        )

    def lend(self, repository: OpenRepository) -> None:
        """Go on in another thread, with its handle on the repository."""
        self.repository = repository
        self.rescuer.lend(repository)

    def step(self, name: str, action: Callable[[], None]) -> None:
        """Run one step; what fails becomes a concern and the next step still runs."""

        def attempt() -> None:
            with repository_failures(name, path=self.repository.path):
                action()

        try:
            with Step(name):
                reading(attempt, torn=is_torn)
        except (WorkstreamError, OSError) as error:
            hint = error.hint if isinstance(error, WorkstreamError) else None
            self.failures.append(name)
            sentence = f"teardown could not {name}: {error}".rstrip(".")
            record_concern(self.runtime, f"{sentence}. {hint}" if hint else sentence)

    @property
    def target_refs(self) -> tuple[str, ...]:
        """Where the lane's work belongs in the end."""
        spec = self.runtime.spec
        names = dict.fromkeys((spec.merge_target_branch, spec.base_branch))
        found: list[str] = []
        for name in names:
            if self.remote is not None and name in self.confirmed:
                found.append(self.remote.tracking_ref(name))
            found.append(f"refs/heads/{name}")
        # A lane whose target is its own branch has proved nothing.
        return tuple(ref for ref in found if not ref.endswith(f"/{self.lane.branch}"))


def clean_up(
    lane: Lane,
    runtime: WorkstreamRuntime,
    *,
    access: RemoteAccess,
    api: ApiAccess,
    lane_timeout_s: float,
    ignored_limit_bytes: int,
    confirm: Callable[[], None] | None = None,
) -> CleanUpResult:
    """Tear one lane down; see ``GitWorkstreamTeardown.teardown_workstream``.

    ``confirm`` is called once the lane is held; what it raises ends the matter.

    Raises:
        WorkstreamError: As documented there.
    """
    repository = open_repository(lane.repo_path)
    refuse_links(lane.worktree_path, below=lane.repo_path)
    with lane_lock(repository, lane, timeout_s=lane_timeout_s):
        if confirm is not None:
            confirm()
        sweep_own_dir(repository)
        run = begin(lane, runtime, repository, access, ignored_limit_bytes=ignored_limit_bytes)
        run.step(REACH_REMOTE, lambda: _look_at_remote(run, access))
        remove_what_is_here(run, api)
        run.step(DELETE_LOCAL_BRANCH, lambda: delete_local_branch(run))
        run.step(DELETE_REMOTE_BRANCH, lambda: delete_remote_branch(run))
        return end(run)


def begin(
    lane: Lane,
    runtime: WorkstreamRuntime,
    repository: OpenRepository,
    access: RemoteAccess,
    *,
    ignored_limit_bytes: int,
) -> CleanUp:
    """Read what is on record of a lane that is held, and whether anything of it stands.

    Raises:
        LaneConflictError: The record is of another lane, repository or remote.
        RepositoryError: Something cannot be read.
    """
    with repository_failures(f"look at lane '{lane}'", path=repository.path):
        record = read_lane_record(repository, lane)
        run = CleanUp(lane, runtime, repository, record, ignored_limit_bytes)
        _refuse_other_remote(run, access)
        run.stood = (
            read_ref(repository.common_dir, lane.branch_ref) is not None
            or entry_at(repository, lane.worktree_path) is not None
        )
        return run


def remove_what_is_here(run: CleanUp, api: ApiAccess) -> None:
    """Tell whether the branches stay, and remove the worktree; the remote was looked at."""
    try:
        with repository_failures("tell what is merged", path=run.repository.path):
            run.branches_stay = reading(lambda: _why_branches_stay(run, api), torn=is_torn)
    except WorkstreamError as error:
        run.branches_stay = f"what is merged could not be told ({error})"
    run.step("note that the lane ends", lambda: _note_ending(run))
    run.step("remove the worktree", lambda: remove_worktree(run))


def end(run: CleanUp) -> CleanUpResult:
    """Say what became of the lane, and note its end if nothing of it stands."""
    if run.branches_stay is not None:
        record_concern(
            run.runtime, f"the branches of lane '{run.lane}' were kept: {run.branches_stay}"
        )
    elif not run.failures:
        run.step("note the lane's end", lambda: _release(run))
    for kept in run.rescuer.kept:
        record_concern(run.runtime, describe(kept))
    say_end(run.failures, run.branches_stay)
    return CleanUpResult(tuple(run.failures), run.branches_stay)


def _refuse_other_remote(run: CleanUp, access: RemoteAccess) -> None:
    """Refuse to look for the lane's branch where it was never pushed."""
    noted = run.record.data.get("remote")
    if run.record.is_ours and isinstance(noted, str) and noted != access.remote:
        message = f"lane '{run.lane}' was pushed to the remote '{noted}', not to '{access.remote}'"
        raise LaneConflictError(message, obstacle=noted, hint=f"Pass remote={noted!r}.")


def _look_at_remote(run: CleanUp, access: RemoteAccess) -> None:
    """Fetch the target and whatever others pushed to the lane."""
    remote = open_remote(run.repository, access)
    expect_remote(run, remote)
    see_remote(run, remote.fetch(branches_of(run)))


def expect_remote(run: CleanUp, remote: RemoteEnd) -> None:
    """Take the remote, and where its branch was last seen, before it is looked at."""
    run.remote = remote
    run.seen_before = run.repository.resolve(remote.tracking_ref(run.lane.branch))


def branches_of(run: CleanUp) -> list[str]:
    """Return the branches whose tips at the remote are wanted."""
    spec = run.runtime.spec
    return list(dict.fromkeys([spec.merge_target_branch, spec.base_branch, run.lane.branch]))


def see_remote(run: CleanUp, there: Mapping[str, str | None]) -> None:
    """Take down where the remote has the branches of :func:`branches_of`."""
    run.remote_tip = there[run.lane.branch]
    run.confirmed = frozenset(name for name, tip in there.items() if tip is not None)
    run.remote_seen = True


def _why_branches_stay(run: CleanUp, api: ApiAccess) -> str | None:
    """Return why both branches stay, or ``None`` when they may go.

    GitHub is asked. Where the target has the very commits it has merged the pull request
    itself; equal content proves nothing of the kind. One into the branch may be open still.
    """
    repository = run.repository
    tips = [tip for tip in (repository.resolve(run.lane.branch_ref), run.remote_tip) if tip]
    targets = [tip for tip in map(repository.resolve, run.target_refs) if tip is not None]
    is_merged = all(any(repository.contains(tip, target) for target in targets) for tip in tips)
    if is_merged and run.remote_tip is None:
        # Nothing is deleted at the remote.
        return None
    url = "" if run.remote is None else run.remote.url
    return why_branches_stay(run.runtime, run.lane, api, url, is_merged=is_merged)


def _note_ending(run: CleanUp) -> None:
    """Write down, before anything goes, that the lane is to go: a crash is told from a life."""
    if run.record.claim in {"wanted", "pushed", "lost"}:
        run.record = run.record.write(run.lane, ending=True)


def _release(run: CleanUp) -> None:
    """Write down that nothing of the lane stands any more."""
    if run.record.claim is not None:
        run.record.write(run.lane, claim="released", ending=None)
    forget_place(run.repository, run.lane)
