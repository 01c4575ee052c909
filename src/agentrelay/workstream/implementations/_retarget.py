"""The steps of giving a child lane another target, once its parent's lane is merged.

The pull request first, the lane's record after it, its description last: a step that
was stopped anywhere is completed by repeating it, and until the record says so the lane
is what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.remotes import RemoteAccess, open_remote
from agentrelay.workstream._git.repository import OpenRepository, open_repository
from agentrelay.workstream._git.sweep import sweep_own_dir
from agentrelay.workstream._github.client import GitHubClient
from agentrelay.workstream._github.pulls import find_pulls, get_pull
from agentrelay.workstream._github.reading import PullRequest
from agentrelay.workstream._github.retargeting import retarget_pull
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.core import _signals
from agentrelay.workstream.core.runtime import WorkstreamRuntime, record_concern
from agentrelay.workstream.core.workstream import WorkstreamSpec
from agentrelay.workstream.errors import (
    LaneConflictError,
    PullRequestError,
    RateLimitedError,
    WorkstreamError,
)
from agentrelay.workstream.implementations._access import ApiAccess, renamed
from agentrelay.workstream.implementations._description import amend_description
from agentrelay.workstream.implementations._lane_record import (
    LaneRecord,
    lane_lock,
    read_lane_record,
)
from agentrelay.workstream.implementations._named_lane import lane_of
from agentrelay.workstream.implementations._pull_head import RETARGETS, Retarget, read_retargets
from agentrelay.workstream.implementations._refusals import into_another

__all__ = ["Move", "Outcome", "retarget"]


@dataclass(frozen=True)
class Move:
    """What the merge of a parent means for the lanes below it.

    Attributes:
        branch: The parent's integration branch.
        target: Branch it was merged into.
        parent: The parent's id.
        grandparent: Id of the workstream above it, or ``None``.
        pull_request: Page of the parent's pull request, or ``None``.
    """

    branch: str
    target: str
    parent: str
    grandparent: Optional[str]
    pull_request: Optional[str]

    def concerns(self, spec: WorkstreamSpec, noted: Sequence[Retarget]) -> bool:
        """Tell whether a lane goes into the parent's branch, or comes from it, or did.

        One that is on record already may have been stopped before all was said.
        """
        return self.branch in {spec.base_branch, spec.merge_target_branch} or self.was_noted(
            spec, noted
        )

    def was_noted(self, spec: WorkstreamSpec, noted: Sequence[Retarget]) -> bool:
        """Tell whether a lane was retargeted for this very merge."""
        return (
            spec.merge_target_branch == self.target and bool(noted) and noted[-1].old == self.branch
        )

    def base_of(self, spec: WorkstreamSpec) -> WorkstreamSpec:
        """Return a child's specification with another base, if that was the parent's branch."""
        is_gone = spec.base_branch == self.branch
        return replace(spec, base_branch=self.target) if is_gone else spec

    def of(self, spec: WorkstreamSpec) -> WorkstreamSpec:
        """Return a child's specification afterwards."""
        parent, target = spec.parent_workstream_id, spec.merge_target_branch
        return replace(
            self.base_of(spec),
            parent_workstream_id=self.grandparent if parent == self.parent else parent,
            merge_target_branch=self.target if target == self.branch else target,
        )


@dataclass(frozen=True)
class Outcome:
    """What became of one child.

    Attributes:
        changed: Whether anything but a description was changed.
        url: Page of its pull request, or ``None``.
        reason: What else there is to say, or ``None``.
    """

    changed: bool = False
    url: Optional[str] = None
    reason: Optional[str] = None


@dataclass(frozen=True)
class _Finding:
    """What there is of a child's pull requests, after the one that counts was moved.

    Attributes:
        pull: The one that counts.
        moved: Whether it was moved just now.
        is_done: Whether the child had been merged into its parent: its target was reached.
        reason: What else there is to say.
    """

    pull: Optional[PullRequest] = None
    moved: bool = False
    is_done: bool = False
    reason: Optional[str] = None


def retarget(
    runtime: WorkstreamRuntime,
    move: Move,
    *,
    repo_path: Path,
    access: RemoteAccess,
    api: ApiAccess,
    lane_timeout_s: float,
) -> Outcome:
    """Retarget one child; see ``retarget_children``.

    Raises:
        WorkstreamError: As documented there.
    """
    lane = lane_of(runtime, repo_path, None)
    if lane is None:
        # Never prepared: there is only the specification.
        return Outcome(_take(runtime, move.of(runtime.spec)))
    if lane.branch in {move.branch, move.target}:
        message = f"'{lane.branch}' is the branch of lane '{lane}' itself: it cannot be retargeted"
        raise LaneConflictError(
            message, obstacle=lane.branch, hint="Pass the lanes below the one that was merged."
        )
    # Before the lane is held: what it does is nobody's business if it goes somewhere else.
    if not move.concerns(runtime.spec, _noted(lane)):
        return Outcome()
    repository = open_repository(lane.repo_path)
    with lane_lock(repository, lane, timeout_s=lane_timeout_s):
        sweep_own_dir(repository)
        record = read_lane_record(repository, lane)
        target, noted = runtime.spec.merge_target_branch, read_retargets(record.data)
        if target != move.branch and not move.was_noted(runtime.spec, noted):
            # It goes somewhere else; where it comes from may be about to go all the same.
            return Outcome(_write_down(runtime, lane, record, move.base_of(runtime.spec)))
        address = api.address(open_remote(repository, access).url)
        with api.client(address) as client:
            try:
                return _retarget(runtime, move, lane, repository, record, client, api)
            finally:
                if (remark := renamed(client)) is not None:
                    record_concern(runtime, remark)


def _noted(lane: Lane) -> tuple[Retarget, ...]:
    return read_retargets(_signals.read_record(lane.signal_dir) or {})


def _retarget(  # noqa: PLR0917 - what one step knows by then
    runtime: WorkstreamRuntime,
    move: Move,
    lane: Lane,
    repository: OpenRepository,
    record: LaneRecord,
    client: GitHubClient,
    api: ApiAccess,
) -> Outcome:
    """Move the pull request, write it down, and say so in its description."""
    found = _settle(move, lane, repository, client, api.head_full_name)
    url = None if found.pull is None else found.pull.url
    if found.is_done:
        changed = _write_down(runtime, lane, record, move.base_of(runtime.spec))
        return Outcome(changed, url, found.reason)
    noted = read_retargets(record.data)
    if not noted or noted[-1].old != move.branch:
        noted += (Retarget(move.branch, move.target, move.parent, move.pull_request),)
    changed = _write_down(runtime, lane, record, move.of(runtime.spec), noted)
    if found.pull is not None and found.pull.state == "open":
        amend_description(runtime, lane, client, found.pull)
    return Outcome(changed or found.moved, url, found.reason)


def _settle(
    move: Move,
    lane: Lane,
    repository: OpenRepository,
    client: GitHubClient,
    head_full_name: str | None,
) -> _Finding:
    """See to it that the child's open pull request goes into the new target.

    Raises:
        LaneConflictError: It goes into a third branch, or there is one into either.
        WorkstreamError: GitHub refused, or did not answer.
    """
    pulls = find_pulls(client, head_branch=lane.branch, head_full_name=head_full_name)
    live = [pull for pull in pulls if pull.state == "open"]
    into = {pull.base_branch: pull for pull in reversed(live)}
    there, here = into.get(move.target), into.get(move.branch)
    if there is not None and here is not None:
        raise LaneConflictError(
            f"{here.url} cannot go into '{move.target}': {there.url} from '{lane.branch}' does",
            obstacle=here.url,
            hint="Close one of them, then repeat.",
        )
    if there is not None:
        # GitHub did it, when the parent's branch went; or an earlier run.
        return _Finding(there)
    if here is not None:
        now = _moved(client, here, move.target)
        if now.state == "open":
            return _Finding(now, moved=True)
        pulls = [now]
    elif live:
        raise into_another(lane, url=live[0].url, base=live[0].base_branch, target=move.target)
    tip = repository.resolve(lane.branch_ref)
    for pull in pulls:
        if pull.base_branch != move.branch:
            continue
        if pull.state == "merged" and (tip is None or repository.contains(tip, pull.head_sha)):
            return _Finding(pull, is_done=True, reason=f"{pull.url} was merged into it already")
        # Left as it is: the next one goes into the new target.
        return _Finding(pull, reason=f"{pull.url} is {pull.state}: it was left alone")
    return _Finding(pulls[0] if pulls else None)


def _moved(client: GitHubClient, pull: PullRequest, target: str) -> PullRequest:
    """Change a pull request's base; what it is now counts, whoever was faster.

    Raises:
        PullRequestError: GitHub refused, and it is open into another branch still.
        WorkstreamError: GitHub did not answer.
    """
    try:
        return retarget_pull(client, pull, target)
    except RateLimitedError:
        raise
    except PullRequestError as error:
        try:
            now = get_pull(client, pull.number)
        except WorkstreamError as looking:
            error.add_note(f"looking at it failed too: {looking.message}")
            raise error from None
        if now.state == "open" and now.base_branch != target:
            raise
        return now


def _write_down(
    runtime: WorkstreamRuntime,
    lane: Lane,
    record: LaneRecord,
    spec: WorkstreamSpec,
    noted: Sequence[Retarget] = (),
) -> bool:
    """Write down where the lane comes from and goes to; tell whether that is new.

    A lane without a record, of an earlier version or cleared by hand, gets none.
    """
    is_new = False
    if record.claim is not None:
        with repository_failures("write the lane's record", path=lane.signal_dir):
            now = record.write(
                lane,
                parent_workstream_id=spec.parent_workstream_id,
                base_branch=spec.base_branch,
                merge_target_branch=spec.merge_target_branch,
                **({RETARGETS: [one.document() for one in noted]} if noted else {}),
            )
        is_new = now.data != record.data
    return _take(runtime, spec) or is_new


def _take(runtime: WorkstreamRuntime, spec: WorkstreamSpec) -> bool:
    """Give a runtime its new specification; tell whether it is new."""
    is_new = spec != runtime.spec
    runtime.spec = spec
    return is_new
