"""Asking GitHub which pull requests are open, before a lane's branches may go."""

from __future__ import annotations

from agentrelay.workstream._github.client import GitHubClient
from agentrelay.workstream._github.moves import new_address
from agentrelay.workstream._github.pulls import find_pulls
from agentrelay.workstream._github.retargeting import open_pull_into
from agentrelay.workstream._lane import Lane
from agentrelay.workstream._steps import Step
from agentrelay.workstream.core.runtime import WorkstreamRuntime, record_concern
from agentrelay.workstream.errors import WorkstreamError
from agentrelay.workstream.implementations._access import ApiAccess, renamed

__all__ = ["why_branches_stay"]


def why_branches_stay(
    runtime: WorkstreamRuntime, lane: Lane, api: ApiAccess, remote_url: str, *, is_merged: bool
) -> str | None:
    """Return why both branches stay, or ``None`` when they may go.

    Deleting a branch closes its pull request, and those into it: of tasks, and of lanes
    below. Where a pull request is remembered, or the remote surely is a GitHub, no answer
    counts as an open one; but what goes into the branch of a merged pull request GitHub
    moves by itself, so there no answer is needed.

    Args:
        runtime: The lane's runtime; a new name of the repository becomes a concern.
        lane: The lane.
        api: How GitHub is reached.
        remote_url: Address of the remote, empty when it could not be opened.
        is_merged: Whether the target has the branch's very commits: its own pull request
            then is not asked for.
    """
    remembered = runtime.artifacts.merge_pr_url
    try:
        address = api.address(remote_url)
    except WorkstreamError as error:
        return (
            None
            if remembered is None or is_merged
            else f"{remembered} could not be asked for ({error})"
        )
    # Some other git server: nothing says that it has pull requests at all.
    is_github = remembered is not None or address.is_hosted or address.api_is_given
    if is_merged and not is_github:
        return None
    must_know = is_github and not (is_merged and remembered is not None)
    try:
        client_of = api if must_know else api.impatient()
        with Step("ask GitHub"), client_of.client(address) as client:
            try:
                return _own(lane, client, api, is_merged=is_merged) or _into(lane, client, api)
            finally:
                if (remark := renamed(client)) is not None:
                    record_concern(runtime, remark)
    except WorkstreamError as error:
        if not must_know:
            return None
        return f"whether a pull request is open could not be asked ({error})"


def _own(lane: Lane, client: GitHubClient, api: ApiAccess, *, is_merged: bool) -> str | None:
    """Say that the lane's own pull request is open, if it is."""
    if is_merged:
        return None
    pulls = find_pulls(
        client, head_branch=lane.branch, head_full_name=api.head_full_name, state="open"
    )
    return f"{pulls[0].url} is open" if pulls else None


def _into(lane: Lane, client: GitHubClient, api: ApiAccess) -> str | None:
    """Say that a pull request into the lane's branch is open, if there is one."""
    fork = None
    if api.head_full_name is not None:
        fork = new_address(client.address, {"full_name": api.head_full_name})
    if fork is None:
        pull = open_pull_into(client, lane.branch)
    else:
        # The branch is in the fork, and so are those that go into it.
        with api.client(fork) as there:
            pull = open_pull_into(there, lane.branch)
    if pull is None:
        return None
    return f"{pull.url} is open into '{lane.branch}', and would be closed: retarget or close it"
