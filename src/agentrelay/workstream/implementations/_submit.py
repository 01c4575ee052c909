"""The steps of submitting a lane: bring the remote up to date, then one pull request."""

from __future__ import annotations

from typing import Final

from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.proof import is_merged
from agentrelay.workstream._git.ref_deletion import refuse_symbolic
from agentrelay.workstream._git.remotes import RemoteAccess, RemoteEnd, open_remote
from agentrelay.workstream._git.repository import OpenRepository, open_repository
from agentrelay.workstream._git.sweep import sweep_own_dir
from agentrelay.workstream._git.unsaved import has_unsaved
from agentrelay.workstream._git.worktree_entries import entry_at
from agentrelay.workstream._github.client import GitHubClient
from agentrelay.workstream._github.extras import Extras, add_extras
from agentrelay.workstream._github.failures import is_no_commits
from agentrelay.workstream._github.opening import Opened, open_pull
from agentrelay.workstream._github.pulls import find_pulls
from agentrelay.workstream._lane import Lane
from agentrelay.workstream._steps import Step, say
from agentrelay.workstream.core.runtime import (
    OperationalConcern,
    WorkstreamRuntime,
    record_concern,
)
from agentrelay.workstream.errors import LaneConflictError, PullRequestError, RepositoryError
from agentrelay.workstream.implementations._access import ApiAccess, renamed
from agentrelay.workstream.implementations._description import describe, refresh_description
from agentrelay.workstream.implementations._lane_record import lane_lock
from agentrelay.workstream.implementations._pull_text import render_title
from agentrelay.workstream.implementations._refusals import diverged, into_another, off_branch

__all__ = ["submit"]

_NO_EXTRAS: Final = Extras()
_UNSAVED: Final = "the worktree holds uncommitted changes that no pull request shows"
_NOTHING_TO_MERGE: Final = "nothing to merge, no pull request was opened"


def submit(
    lane: Lane,
    runtime: WorkstreamRuntime,
    *,
    access: RemoteAccess,
    api: ApiAccess,
    lane_timeout_s: float,
    draft: bool = False,
    extras: Extras = _NO_EXTRAS,
) -> None:
    """Submit one lane; see ``GhWorkstreamIntegrator.create_integration_pr``.

    Raises:
        WorkstreamError: As documented there.
    """
    with Step("look"):
        repository = open_repository(lane.repo_path)
        end = open_remote(repository, access)
    # Before anything is pushed: a remote that is no GitHub is an error without effects.
    address = api.address(end.url)
    with lane_lock(repository, lane, timeout_s=lane_timeout_s):
        sweep_own_dir(repository)
        with repository_failures(f"submit lane '{lane}'", path=repository.path):
            _refuse_work_beside_the_branch(lane, repository)
            tip = _bring_up_to_date(runtime, lane, repository, end)
            _take_back(runtime)
            _tell_unsaved(runtime, lane)
        if tip is None:
            _record(runtime, lane, None)
            return
        with api.client(address) as client:
            try:
                with Step("find or open the pull request"):
                    opened = _settle(
                        runtime, lane, client, tip, draft=draft, head_full_name=api.head_full_name
                    )
                _record(runtime, lane, opened)
                if opened is not None and opened.pull.state == "open":
                    # Not before the lane's end is on record: a crash here is completed by
                    # asking for what is missing.
                    with Step("ask for what it lacks"):
                        remarks = add_extras(client, opened.pull, extras, is_new=opened.is_new)
                    for remark in remarks:
                        record_concern(runtime, remark)
            finally:
                if (moved := renamed(client)) is not None:
                    record_concern(runtime, moved)


def _record(runtime: WorkstreamRuntime, lane: Lane, opened: Opened | None) -> None:
    """Write down what became of the lane; without a pull request nothing was to merge."""
    with repository_failures("write the lane's signals", path=lane.signal_dir):
        if opened is None:
            _nothing_to_merge(runtime, lane)
            return
        pull = opened.pull
        say(pull.url)
        for remark in opened.remarks:
            record_concern(runtime, remark)
        runtime.clear_failure()
        if pull.state == "merged":
            record_concern(runtime, f"{pull.url} had been merged already, at this very commit")
            runtime.mark_merged()
        else:
            runtime.reopen()
            runtime.mark_pr_created(pull.url)


def _take_back(runtime: WorkstreamRuntime) -> None:
    """Forget what an earlier try said and this one finds out anew: it would hinder the merge."""
    concerns = runtime.artifacts.concerns
    for text in tuple(concerns):
        is_ours = isinstance(text, OperationalConcern)
        if is_ours and text.endswith((_UNSAVED, _NOTHING_TO_MERGE)):
            concerns.remove(text)


def _tell_unsaved(runtime: WorkstreamRuntime, lane: Lane) -> None:
    """Say that the worktree holds more than its branch, or that it could not be told."""
    if not lane.worktree_path.is_dir():
        return
    try:
        with repository_failures("look for uncommitted changes", path=lane.worktree_path):
            unsaved = has_unsaved(lane.worktree_path)
    except RepositoryError as error:
        record_concern(runtime, f"{error}. {error.hint or ''}".rstrip())
        return
    if unsaved:
        record_concern(runtime, _UNSAVED)


def _settle(
    runtime: WorkstreamRuntime,
    lane: Lane,
    client: GitHubClient,
    tip: str,
    *,
    draft: bool,
    head_full_name: str | None,
) -> Opened | None:
    """Return the lane's one pull request: open, merged at this commit, or opened now.

    Returns:
        ``None`` when GitHub finds nothing to merge: the target moved meanwhile.

    Raises:
        LaneConflictError: The one that is open goes into another branch than the target.
    """
    target = runtime.spec.merge_target_branch
    # Into whichever branch: a base that somebody changed must not hide the lane's own.
    pulls = find_pulls(client, head_branch=lane.branch, head_full_name=head_full_name)
    found = [pull for pull in pulls if pull.base_branch == target]
    for pull in found:
        if pull.state == "open":
            refresh_description(runtime, lane, client, pull)
            return Opened(pull)
    # A squash or rebase merge leaves the commits ahead of the target for ever.
    for pull in found:
        if pull.state == "merged" and pull.head_sha == tip:
            return Opened(pull)
    for pull in pulls:
        if pull.state == "open":
            raise into_another(lane, url=pull.url, base=pull.base_branch, target=target)
    try:
        opened = open_pull(
            client,
            head_branch=lane.branch,
            base_branch=target,
            title=render_title(
                runtime.spec.id, host=client.address.host, secrets=client.secrets_in_use()
            ),
            body=describe(runtime, lane, client),
            head_sha=tip,
            head_full_name=head_full_name,
            draft=draft,
        )
    except PullRequestError as error:
        if is_no_commits(error):
            return None
        raise
    base = opened.pull.base_branch
    if base != target:
        raise into_another(lane, url=opened.pull.url, base=base, target=target)
    return opened


def _nothing_to_merge(runtime: WorkstreamRuntime, lane: Lane) -> None:
    """Say that the target has everything the lane holds."""
    record_concern(
        runtime,
        f"'{lane.branch}' has no commits ahead of '{runtime.spec.merge_target_branch}': "
        f"{_NOTHING_TO_MERGE}",
    )
    say("nothing to merge")
    runtime.clear_failure()
    runtime.mark_merged()


def _refuse_work_beside_the_branch(lane: Lane, repository: OpenRepository) -> None:
    """Refuse a worktree whose commits the branch does not have: they would be left out."""
    refuse_symbolic(repository, lane.branch_ref)
    entry = entry_at(repository, lane.worktree_path)
    if entry is None:
        return
    refusal = off_branch(lane, entry)
    if refusal is not None:
        raise refusal
    if repository.resolve(lane.branch_ref) is None:
        message = f"the branch '{lane.branch}' was deleted under its worktree"
        raise LaneConflictError(
            message,
            obstacle=lane.worktree_path,
            hint="Prepare the workstream again: the branch comes back where it was.",
        )


def _bring_up_to_date(
    runtime: WorkstreamRuntime, lane: Lane, repository: OpenRepository, end: RemoteEnd
) -> str | None:
    """Push what the remote lacks.

    Returns:
        Hex id of the commit the remote's branch is at now, or ``None`` when the target
        has it already.
    """
    target = runtime.spec.merge_target_branch
    there = end.fetch(list(dict.fromkeys([target, lane.branch])))
    target_tip, remote_tip = there[target], there[lane.branch]
    if target_tip is None:
        message = f"the merge target '{target}' does not exist at '{end.url}'"
        raise RepositoryError(
            message, path=repository.path, hint="Push it, or set the workstream's target."
        )
    tip = repository.resolve(lane.branch_ref) or remote_tip
    if tip is None:
        message = f"the branch '{lane.branch}' exists neither here nor at '{end.url}'"
        raise RepositoryError(message, path=repository.path, hint="Prepare the workstream again.")
    if remote_tip is not None and repository.contains(tip, remote_tip):
        tip = remote_tip
    elif remote_tip is not None and not repository.contains(remote_tip, tip):
        raise diverged(lane, here=tip, there=remote_tip, url=end.url)
    if repository.contains(tip, target_tip):
        return None
    if remote_tip is None and is_merged(repository, tip, target_refs=(end.tracking_ref(target),)):
        # Squashed or rebased into the target, and the branch deleted: it stays deleted.
        return None
    if tip != remote_tip:
        end.push(lane.branch, tip, expected=remote_tip)
    return tip
