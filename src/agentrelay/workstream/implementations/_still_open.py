"""Asking GitHub whether a lane's pull request is open, before its branches may go."""

from __future__ import annotations

from agentrelay.workstream._github.pulls import find_pulls
from agentrelay.workstream._lane import Lane
from agentrelay.workstream._steps import Step
from agentrelay.workstream.core.runtime import WorkstreamRuntime, record_concern
from agentrelay.workstream.errors import WorkstreamError
from agentrelay.workstream.implementations._access import ApiAccess, renamed

__all__ = ["why_branches_stay"]


def why_branches_stay(
    runtime: WorkstreamRuntime, lane: Lane, api: ApiAccess, remote_url: str
) -> str | None:
    """Return why both branches stay, or ``None`` when they may go.

    Deleting a branch closes its pull request. Where a pull request is remembered, or the
    remote surely is a GitHub, no answer counts as an open one.

    Args:
        runtime: The lane's runtime; a new name of the repository becomes a concern.
        lane: The lane.
        api: How GitHub is reached.
        remote_url: Address of the remote, empty when it could not be opened.
    """
    remembered = runtime.artifacts.merge_pr_url
    try:
        address = api.address(remote_url)
    except WorkstreamError as error:
        return None if remembered is None else f"{remembered} could not be asked for ({error})"
    # Some other git server: nothing says that it has pull requests at all.
    is_github = remembered is not None or address.is_hosted or address.api_is_given
    try:
        with Step("ask GitHub"), (api if is_github else api.impatient()).client(address) as client:
            try:
                pulls = find_pulls(
                    client,
                    head_branch=lane.branch,
                    head_full_name=api.head_full_name,
                    state="open",
                )
            finally:
                if (remark := renamed(client)) is not None:
                    record_concern(runtime, remark)
    except WorkstreamError as error:
        if not is_github:
            return None
        return f"whether a pull request is open could not be asked ({error})"
    return f"{pulls[0].url} is open" if pulls else None
