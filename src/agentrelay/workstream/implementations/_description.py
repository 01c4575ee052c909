"""Keeping the description of a lane's pull request up to date."""

from __future__ import annotations

from functools import partial
from typing import Final

from agentrelay.workstream._github.client import GitHubClient
from agentrelay.workstream._github.pulls import update_pull_body
from agentrelay.workstream._github.reading import PullRequest
from agentrelay.workstream._lane import Lane
from agentrelay.workstream._redact import redact
from agentrelay.workstream.core import _signals
from agentrelay.workstream.core.runtime import WorkstreamRuntime, record_concern
from agentrelay.workstream.errors import WorkstreamError
from agentrelay.workstream.implementations._pull_head import (
    Retarget,
    amend_head,
    read_retargets,
    render_head,
)
from agentrelay.workstream.implementations._pull_section import (
    LONGEST_BODY_UNITS,
    amend_body,
    find_section,
    refresh_body,
)
from agentrelay.workstream.implementations._pull_text import render_body

__all__ = ["amend_description", "describe", "refresh_description"]

# What is said about the description itself does not go into it: there it would be out of
# date as soon as it could be written.
_ABOUT_ITSELF: Final = "the description of the pull request "


def describe(
    runtime: WorkstreamRuntime,
    lane: Lane,
    client: GitHubClient,
    longest_units: int = LONGEST_BODY_UNITS,
) -> str:
    """Return the body of a new pull request, which is the library's section of any.

    Args:
        runtime: The lane's runtime: tasks and concerns.
        lane: The lane.
        client: Client of the repository, after its first request: its token is masked.
        longest_units: Longest text to return, in UTF-16 units.
    """
    artifacts = runtime.artifacts
    return render_body(
        runtime.spec,
        lane.branch,
        tuple(artifacts.task_summaries),
        [text for text in artifacts.concerns if not text.startswith(_ABOUT_ITSELF)],
        host=client.address.host,
        secrets=client.secrets_in_use(),
        longest_units=longest_units,
        retargets=_retargets(runtime),
    )


def _retargets(runtime: WorkstreamRuntime) -> tuple[Retarget, ...]:
    """Return the times the lane got another target, which its record knows."""
    signal_dir = runtime.state.signal_dir
    record = None if signal_dir is None else _signals.read_record(signal_dir)
    return read_retargets(record or {})


def refresh_description(
    runtime: WorkstreamRuntime, lane: Lane, client: GitHubClient, pull: PullRequest
) -> None:
    """Bring the library's section of an open pull request's body up to date.

    One request, and only where something changed. A failure is a concern: the pull
    request stands all the same.
    """
    marked = redact(lane.branch, *client.secrets_in_use())
    body = refresh_body(pull.body, marked, partial(describe, runtime, lane, client))
    _replace(runtime, client, pull, body, branch=marked)


def amend_description(
    runtime: WorkstreamRuntime, lane: Lane, client: GitHubClient, pull: PullRequest
) -> None:
    """Bring the top of the library's section up to date, and leave what it says below.

    For a process that does not know the tasks. A failure is a concern.
    """
    head = render_head(
        runtime.spec, lane.branch, _retargets(runtime), secrets=client.secrets_in_use()
    )
    marked = redact(lane.branch, *client.secrets_in_use())
    body = amend_body(pull.body, marked, lambda content: amend_head(content, head))
    _replace(runtime, client, pull, body, branch=marked)


def _replace(
    runtime: WorkstreamRuntime,
    client: GitHubClient,
    pull: PullRequest,
    body: str | None,
    *,
    branch: str,
) -> None:
    """Write a body, if there is a new one; say so where it is somebody else's now.

    Args:
        runtime: Keeps what went wrong.
        client: Writes.
        pull: The pull request.
        body: Its new body, or ``None``.
        branch: Name of the branch as the markers have it.
    """
    if body is not None:
        try:
            update_pull_body(client, pull.number, body)
        except WorkstreamError as error:
            record_concern(runtime, f"{_ABOUT_ITSELF}is out of date: {error}")
    elif find_section(pull.body, branch) == "changed":
        record_concern(
            runtime,
            f"{_ABOUT_ITSELF}is not kept up to date: somebody edited the part between the markers",
        )
