"""The steps of submitting a lane: bring the remote up to date, then one pull request."""

from __future__ import annotations

from pathlib import Path

from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.lane import Lane
from agentrelay.workstream._git.remotes import RemoteAccess, RemoteEnd, open_remote
from agentrelay.workstream._git.repository import OpenRepository, open_repository
from agentrelay.workstream._git.rescue import has_unsaved
from agentrelay.workstream._git.worktrees import entry_at
from agentrelay.workstream._github.address import parse_address
from agentrelay.workstream._github.client import GitHubClient
from agentrelay.workstream._github.pulls import find_pulls, open_pull
from agentrelay.workstream.core.runtime import WorkstreamRuntime, record_concern
from agentrelay.workstream.credentials import TokenSource
from agentrelay.workstream.errors import LaneConflictError, RepositoryError, WorkstreamError
from agentrelay.workstream.implementations._pull_text import render_body, render_title

__all__ = ["submit"]


def submit(
    runtime: WorkstreamRuntime,
    *,
    repo_path: Path,
    remote: str,
    token: TokenSource,
    ssh_key: Path | None,
    api_url: str | None,
    full_name: str | None,
    api_timeout_s: int,
    network_timeout_s: float,
) -> None:
    """Submit one lane; see ``GhWorkstreamIntegrator.create_integration_pr``.

    Raises:
        WorkstreamError: As documented there.
    """
    spec = runtime.spec
    if runtime.state.branch_name is None:
        message = f"workstream '{spec.id}' has no integration branch"
        raise WorkstreamError(message, hint="Prepare the workstream first.")
    lane = Lane.from_branch(repo_path, runtime.state.branch_name, spec.id)
    repository = open_repository(lane.repo_path)
    access = RemoteAccess(remote=remote, token=token, ssh_key=ssh_key, deadline_s=network_timeout_s)
    end = open_remote(repository, access)
    # Before anything is pushed: a remote that is no GitHub is an error without effects.
    address = parse_address(end.url, api_url=api_url, full_name=full_name)
    with repository_failures(f"submit lane '{lane}'", path=repository.path):
        _refuse_work_beside_the_branch(lane, repository)
        nothing = _bring_up_to_date(runtime, lane, repository, end)
        if lane.worktree_path.is_dir() and has_unsaved(lane.worktree_path):
            record_concern(
                runtime, "the worktree holds uncommitted changes that no pull request shows"
            )
    if nothing:
        record_concern(
            runtime,
            f"'{lane.branch}' has no commits ahead of '{spec.merge_target_branch}': "
            "nothing to merge, no pull request was opened",
        )
        runtime.clear_failure()
        runtime.mark_merged()
        return
    client = GitHubClient(address, token=token, timeout_s=api_timeout_s)
    found = find_pulls(
        client, head_branch=lane.branch, base_branch=spec.merge_target_branch, state="open"
    )
    pull = found[0] if found else None
    if pull is None:
        pull = open_pull(
            client,
            head_branch=lane.branch,
            base_branch=spec.merge_target_branch,
            title=render_title(spec.id),
            body=render_body(
                spec,
                lane.branch,
                tuple(runtime.artifacts.task_summaries),
                tuple(runtime.artifacts.concerns),
            ),
        )
    runtime.clear_failure()
    runtime.mark_pr_created(pull.url)


def _refuse_work_beside_the_branch(lane: Lane, repository: OpenRepository) -> None:
    """Refuse a worktree whose commits the branch does not have: they would be left out."""
    entry = entry_at(repository, lane.worktree_path)
    if entry is None:
        return
    if entry.head_ref != lane.branch_ref:
        doing = f" ({entry.operation} in progress)" if entry.operation else ""
        message = (
            f"the worktree '{lane.worktree_path}' is on {entry.head_ref or 'a detached HEAD'}"
            f"{doing}, not on '{lane.branch}'"
        )
        hint = f"Finish what is going on there and switch back to '{lane.branch}'."
    elif repository.resolve(lane.branch_ref) is None:
        message = f"the branch '{lane.branch}' was deleted under its worktree"
        hint = "Prepare the workstream again: the branch comes back where it was."
    else:
        return
    raise LaneConflictError(message, obstacle=lane.worktree_path, hint=hint)


def _bring_up_to_date(
    runtime: WorkstreamRuntime, lane: Lane, repository: OpenRepository, end: RemoteEnd
) -> bool:
    """Push what the remote lacks; return whether there is nothing to merge."""
    target = runtime.spec.merge_target_branch
    there = end.fetch(list(dict.fromkeys([target, lane.branch])))
    target_tip, remote_tip = there[target], there[lane.branch]
    if target_tip is None:
        message = f"the merge target '{target}' does not exist at '{end.url}'"
        raise RepositoryError(
            message, path=repository.path, hint="Push it, or set the workstream's target."
        )
    local_tip = repository.resolve(lane.branch_ref)
    tip = local_tip or remote_tip
    if tip is None:
        message = f"the branch '{lane.branch}' exists neither here nor at '{end.url}'"
        raise RepositoryError(message, path=repository.path, hint="Prepare the workstream again.")
    if remote_tip is not None and repository.contains(tip, remote_tip):
        tip = remote_tip
    elif remote_tip is not None and not repository.contains(remote_tip, tip):
        message = (
            f"the lane's branch has diverged: here {tip[:12]}, at '{end.url}' {remote_tip[:12]}"
        )
        raise LaneConflictError(
            message,
            obstacle=lane.branch_ref,
            hint="Bring both together in the worktree by a merge or rebase, then repeat.",
        )
    if repository.contains(tip, target_tip):
        return True
    if tip != remote_tip:
        end.push(lane.branch, tip, expected=remote_tip)
    return False
