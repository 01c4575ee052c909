"""Changing the branch a pull request goes into, and finding those that go into one.

Source:
    docs.github.com, "Update a pull request" (``base``), "List pull requests" (``base``),
    "About branches", "Working with branches": deleting the branch of a merged pull
    request moves those that go into it to where it was merged; deleting any other
    branch closes those that go into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agentrelay.workstream._github.failures import unusable
from agentrelay.workstream._github.pulls import get_pull, insist_on_list
from agentrelay.workstream._github.reading import NotOursError, PullRequest, read_pull
from agentrelay.workstream._github.settling import settle

if TYPE_CHECKING:
    from agentrelay.workstream._github.client import GitHubClient
    from agentrelay.workstream._github.transport import Answer

__all__ = ["open_pull_into", "retarget_pull"]

# A page of pull requests into another branch than the one asked for is a filter that was
# ignored; it does not go on for ever.
_PER_PAGE: Final = 100
_MOST_PAGES: Final = 10


def retarget_pull(client: GitHubClient, pull: PullRequest, base_branch: str) -> PullRequest:
    """Change the branch that an open pull request goes into; repeating it changes nothing.

    Args:
        client: Client of the repository.
        pull: The pull request, as it was seen.
        base_branch: Branch it is to go into; a short name.

    Returns:
        The pull request afterwards: into that branch, from the same one.

    Raises:
        CredentialsRejectedError: The token was refused, or none was offered.
        RateLimitedError: GitHub asked for a pause.
        PullRequestError: GitHub refused.
        RemoteUnavailableError: No usable answer; it may have happened. Doing it again is
            safe.
    """
    operation = f"change the base of pull request {pull.number} to {base_branch}"

    def read(answer: Answer) -> PullRequest:
        try:
            found = read_pull(answer.data, client.address)
        except NotOursError as error:
            raise unusable(operation, client.address, str(error)) from None
        if (found.number, found.head_branch) != (pull.number, pull.head_branch):
            raise unusable(operation, client.address, f"it is about {found.url}")
        if found.base_branch != base_branch:
            raise unusable(operation, client.address, f"it still goes into {found.base_branch}")
        return found

    def look() -> PullRequest | None:
        found = get_pull(client, pull.number)
        return found if found.base_branch == base_branch else None

    return settle(
        client,
        send=lambda: read(
            client.request(
                "PATCH",
                f"/pulls/{pull.number}",
                operation=operation,
                body={"base": base_branch},
                check=read,
            )
        ),
        look=look,
    )


def open_pull_into(client: GitHubClient, base_branch: str) -> PullRequest | None:
    """Return an open pull request into a branch, from wherever, or ``None``.

    Args:
        client: Client of the repository.
        base_branch: The branch; a short name.

    Raises:
        CredentialsRejectedError: The token was refused, or none was offered.
        RateLimitedError: GitHub asked for a pause.
        PullRequestError: GitHub refused.
        RemoteUnavailableError: No usable answer.
    """
    operation = f"list the pull requests into {base_branch}"
    for page in range(1, _MOST_PAGES + 1):
        answer = client.request(
            "GET",
            "/pulls",
            operation=operation,
            parameters=lambda _, page=page: {
                "state": "open",
                "base": base_branch,
                "per_page": _PER_PAGE,
                "page": page,
            },
            check=lambda answer: insist_on_list(answer, operation, client.address),
        )
        for item in answer.data:
            try:
                pull = read_pull(item, client.address)
            except NotOursError as error:
                # Leaving it out would say that there is none.
                raise unusable(operation, client.address, str(error)) from None
            if pull.base_branch == base_branch and pull.state == "open":
                return pull
        if 'rel="next"' not in answer.headers.get("link", ""):
            return None
    raise unusable(operation, client.address, f"it did not end after {_MOST_PAGES} pages")
