"""Merging a pull request, or asking GitHub to do it when it may.

Source:
    docs.github.com, "Merge a pull request" (200, 403, 404, 405, 409, 422; ``sha``), and
    the GraphQL mutations ``enablePullRequestAutoMerge`` and ``enqueuePullRequest``, whose
    refusals come with status 200. GitHub's texts are from its documentation and from what
    users of other clients reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from agentrelay.workstream._github.failures import unusable
from agentrelay.workstream._github.reading import (
    NotOursError,
    PullRequest,
    is_commit_name,
    read_pull,
)
from agentrelay.workstream._github.settling import settle
from agentrelay.workstream.errors import (
    PullRequestError,
    RateLimitedError,
    WorkstreamError,
)

if TYPE_CHECKING:
    from agentrelay.workstream._github.client import GitHubClient
    from agentrelay.workstream._github.transport import Answer

__all__ = [
    "Demand",
    "Mergeable",
    "demand_of",
    "enable_auto_merge",
    "enqueue",
    "look",
    "merge",
    "merged_as",
]

# What a refusal asks for. "again": it passes at once; "checks": it passes with time.
Demand = Literal["again", "checks", "queue", "rebase", "ask"]

_DEMANDS: Final[tuple[tuple[str, Demand], ...]] = (
    (r"Base branch was modified", "again"),
    (r"merge queue", "queue"),
    # A check that failed does not pass by waiting.
    (r"status checks?.*(is|are|has|have) (failing|failed)", "ask"),
    (r"status check.*(expected|pending|queued|in progress|not (yet )?succeeded)", "checks"),
    (r"required status check|checks? (is|are) (pending|expected)", "checks"),
    (r"out[ -]of[ -]date|not up[ -]to[ -]date|is behind", "rebase"),
    (r"still a draft|review|rule violation|protected|not allowed", "ask"),
    (r"merge conflict|not mergeable|can.t be rebased", "rebase"),
)

_ENABLE: Final = (
    "mutation($input: EnablePullRequestAutoMergeInput!)"
    " { enablePullRequestAutoMerge(input: $input) { pullRequest { number } } }"
)
_ENQUEUE: Final = (
    "mutation($input: EnqueuePullRequestInput!)"
    " { enqueuePullRequest(input: $input) { mergeQueueEntry { id state } } }"
)


@dataclass(frozen=True)
class Mergeable:
    """A pull request, and what GitHub thinks of merging it.

    Attributes:
        pull: The pull request.
        mergeable: Whether it merges without a conflict; ``None`` while GitHub computes that.
        state: GitHub's word: ``"clean"``, ``"blocked"``, ``"behind"`` and others.
        is_automatic: Whether GitHub was asked already to merge it when it may.
    """

    pull: PullRequest
    mergeable: bool | None
    state: str
    is_automatic: bool


def look(client: GitHubClient, number: int) -> Mergeable:
    """Read a pull request as far as merging it is concerned.

    Raises:
        WorkstreamError: As :meth:`GitHubClient.request`.
    """
    operation = f"read pull request {number}"

    def read(answer: Answer) -> Mergeable:
        try:
            pull = read_pull(answer.data, client.address)
        except NotOursError as error:
            raise unusable(operation, client.address, str(error)) from None
        if pull.number != number:
            raise unusable(operation, client.address, f"it is about number {pull.number}")
        mergeable, state = answer.data.get("mergeable"), answer.data.get("mergeable_state")
        return Mergeable(
            pull,
            mergeable if isinstance(mergeable, bool) else None,
            state if isinstance(state, str) else "unknown",
            isinstance(answer.data.get("auto_merge"), dict),
        )

    return read(client.request("GET", f"/pulls/{number}", operation=operation, check=read))


def demand_of(error: PullRequestError) -> Demand:
    """Tell what a refused merge asks for, by GitHub's words."""
    for pattern, demand in _DEMANDS:
        if re.search(pattern, error.message, re.IGNORECASE):
            return demand
    return "ask"


def merge(
    client: GitHubClient,
    pull: PullRequest,
    *,
    method: Literal["merge", "squash", "rebase"],
    title: str,
    message: str,
) -> PullRequest:
    """Merge a pull request at the very commit it was seen at, once.

    Args:
        client: Client of the repository.
        pull: The pull request as it was seen.
        method: How.
        title: First line of the new commit; a rebase makes none.
        message: Rest of its message.

    Returns:
        The pull request, merged, with the target's commit afterwards; without it where GitHub
        says that it was merged and not as what.

    Raises:
        PullRequestError: GitHub refused; see :func:`demand_of`.
        WorkstreamError: As :meth:`GitHubClient.request`; after a look that did not show
            that it was merged. Doing it again is safe.
    """
    operation = f"merge pull request {pull.number}"
    body: dict[str, Any] = {"sha": pull.head_sha, "merge_method": method}
    if method != "rebase":
        body |= {"commit_title": title, "commit_message": message}

    def send() -> PullRequest:
        answer = client.request(
            "PUT", f"/pulls/{pull.number}/merge", operation=operation, body=body
        )
        data = answer.data if isinstance(answer.data, dict) else {}
        sha = data.get("sha")
        if data.get("merged") is not True or not isinstance(sha, str) or not is_commit_name(sha):
            raise unusable(operation, client.address, "it does not say that it was merged")
        return replace(pull, state="merged", merge_commit_sha=sha)

    return settle(client, send=send, look=lambda: merged_as(client, pull))


def merged_as(client: GitHubClient, pull: PullRequest) -> PullRequest | None:
    """Return a pull request that was merged at the head it was seen at, as it is now."""
    now = look(client, pull.number).pull
    return now if now.state == "merged" and now.head_sha == pull.head_sha else None


def enable_auto_merge(
    client: GitHubClient,
    pull: PullRequest,
    *,
    method: Literal["merge", "squash", "rebase"],
    title: str,
    message: str,
) -> None:
    """Ask GitHub to merge a pull request when its checks have passed.

    Raises:
        PullRequestError: GitHub refused; ``status`` is ``None``.
        WorkstreamError: As :meth:`GitHubClient.request`.
    """
    wish: dict[str, Any] = {
        "pullRequestId": pull.node_id,
        "expectedHeadOid": pull.head_sha,
        "mergeMethod": method.upper(),
    }
    if method != "rebase":
        wish |= {"commitHeadline": title, "commitBody": message}

    def is_enabled() -> bool | None:
        now = look(client, pull.number)
        return True if now.is_automatic or now.pull.state == "merged" else None

    _mutate(client, f"enable auto-merge of pull request {pull.number}", _ENABLE, wish, is_enabled)


def enqueue(client: GitHubClient, pull: PullRequest) -> None:
    """Put a pull request into the merge queue; one that is there already stays.

    Raises:
        PullRequestError: GitHub refused; ``status`` is ``None``.
        WorkstreamError: As :meth:`GitHubClient.request`.
    """

    def is_merged() -> bool | None:
        return True if look(client, pull.number).pull.state == "merged" else None

    wish = {"pullRequestId": pull.node_id, "expectedHeadOid": pull.head_sha}
    try:
        _mutate(client, f"queue pull request {pull.number} for merging", _ENQUEUE, wish, is_merged)
    except PullRequestError as error:
        # The answer to an earlier try may have been lost.
        if not re.search(r"already (in|queued)", error.message, re.IGNORECASE):
            raise


def _mutate(
    client: GitHubClient,
    operation: str,
    query: str,
    wish: dict[str, Any],
    look: Callable[[], bool | None],
) -> None:
    """Send a mutation until it is known to have happened, or was refused."""

    def send() -> bool:
        answer = client.request(
            "POST",
            "",
            operation=operation,
            at="graphql",
            body={"query": query, "variables": {"input": wish}},
        )
        failure = _failure(client, operation, answer.data)
        if failure is not None:
            raise failure
        return True

    settle(client, send=send, look=look)


def _failure(client: GitHubClient, operation: str, data: Any) -> WorkstreamError | None:
    """Read what a GraphQL answer says went wrong; its status is 200 all the same."""
    address = client.address
    if not isinstance(data, dict) or not isinstance(data.get("errors", []), list):
        return unusable(operation, address, "it is no answer of the GraphQL API")
    errors = [error for error in data.get("errors", []) if isinstance(error, dict)]
    if not errors:
        done = data.get("data")
        # What a mutation has done is an object; a mutation that failed has none.
        parts = list(done.values()) if isinstance(done, dict) else []
        if not parts or not all(isinstance(part, dict) for part in parts):
            return unusable(operation, address, "it does not say that it was done")
        return None
    text = "; ".join(str(error.get("message") or error.get("type")) for error in errors)
    message = f"could not {operation} on {address.host}/{address.full_name}: {text}"
    if any(error.get("type") == "RATE_LIMITED" for error in errors):
        return RateLimitedError(
            message, repository=address.full_name, hint="GraphQL has a quota of its own"
        )
    return PullRequestError(message, repository=address.full_name)
