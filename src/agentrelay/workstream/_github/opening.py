"""Opening a lane's pull request: never two, never none when there should be one.

A head branch and a base branch have at most one open pull request, so opening one is
made repeatable by looking: after a refusal as a duplicate, or when nobody knows whether
a creation happened, the pull request is looked for before it is asked for again.

Source:
    docs.github.com, "Create a pull request": ``head`` with the owner in front for another
    repository of the network, and ``head_repo`` where both have one owner.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentrelay.workstream._github.failures import refuses_drafts, refuses_maintainers, unusable
from agentrelay.workstream._github.pulls import find_pulls
from agentrelay.workstream._github.reading import NotOursError, PullRequest, is_of_branch, read_pull
from agentrelay.workstream._github.settling import settle
from agentrelay.workstream.errors import PullRequestError

if TYPE_CHECKING:
    from agentrelay.workstream._github.address import GitHubAddress
    from agentrelay.workstream._github.client import GitHubClient

__all__ = ["Opened", "open_pull"]


@dataclass(frozen=True)
class Opened:
    """A pull request there is now.

    Attributes:
        pull: The pull request.
        remarks: What is not as it was asked for, one sentence each.
        is_new: Whether it was surely opened just now.
    """

    pull: PullRequest
    remarks: tuple[str, ...] = ()
    is_new: bool = False


@dataclass(frozen=True)
class _Wish:
    """What to ask for, beside the branches and the text."""

    head_branch: str
    base_branch: str
    head_full_name: str | None
    draft: bool
    closed_to_maintainers: bool = False

    def body(self, address: GitHubAddress, title: str, text: str) -> dict[str, Any]:
        """Return the body of the request."""
        body: dict[str, Any] = {
            "title": title,
            "body": text,
            "head": self.head_branch,
            "base": self.base_branch,
        }
        if self.head_full_name is not None:
            owner, _, name = self.head_full_name.partition("/")
            body["head"] = f"{owner}:{self.head_branch}"
            if owner.lower() == address.owner.lower():
                body["head_repo"] = name
        if self.draft:
            body["draft"] = True
        if self.closed_to_maintainers:
            body["maintainer_can_modify"] = False
        return body


def open_pull(
    client: GitHubClient,
    *,
    head_branch: str,
    base_branch: str,
    title: str,
    body: str,
    head_sha: str | None = None,
    head_full_name: str | None = None,
    draft: bool = False,
) -> Opened:
    """Open a pull request, or return the open one that is there already.

    After an answer that was lost that may be one into another branch: somebody has changed
    its base since, and a second one beside it is none the lane should have.

    What a repository cannot do is done without, and said: drafts, and letting
    maintainers push to a fork.

    Args:
        client: Client of the repository.
        head_branch: Branch to merge; a short name, on the remote.
        base_branch: Branch to merge into.
        title: Title of a new pull request; an existing one keeps its own.
        body: Body of a new pull request; an existing one keeps its own.
        head_sha: Commit the branch is at; a pull request that was merged at it meanwhile
            is the result too.
        head_full_name: ``"owner/name"`` of the fork that holds the branch.
        draft: Whether a new one is to be a draft.

    Raises:
        CredentialsRejectedError: The token was refused, or none was offered.
        RateLimitedError: GitHub asked for a pause; nothing was created.
        PullRequestError: GitHub refused. Without commits to merge,
            :func:`agentrelay.workstream._github.failures.is_no_commits` holds.
        RemoteUnavailableError: No usable answer, and no such pull request was found
            afterwards. Doing it again is safe.
    """
    if head_full_name is not None and head_full_name.lower() == client.address.full_name.lower():
        head_full_name = None
    wish = _Wish(head_branch, base_branch, head_full_name, draft)
    remarks: list[str] = []
    with client.deadline():
        while True:
            try:
                pull, is_new = _settled(client, wish, title, body, head_sha)
            except PullRequestError as error:
                if wish.draft and refuses_drafts(error):
                    wish = replace(wish, draft=False)
                    remarks.append(
                        f"{client.address.full_name} has no draft pull requests: "
                        "an ordinary one was opened"
                    )
                elif not wish.closed_to_maintainers and refuses_maintainers(error):
                    wish = replace(wish, closed_to_maintainers=True)
                    remarks.append(
                        f"maintainers of {client.address.full_name} cannot push to the pull "
                        "request's branch: GitHub does not let its owner allow it"
                    )
                else:
                    raise
            else:
                return Opened(pull, tuple(remarks), is_new)


def _settled(
    client: GitHubClient, wish: _Wish, title: str, body: str, head_sha: str | None
) -> tuple[PullRequest, bool]:
    """Ask for the pull request, and look for it after every failure that passes.

    Returns:
        The pull request, and whether it came from the answer to the creation.
    """
    operation = f"open a pull request from {wish.head_branch} into {wish.base_branch}"

    def send() -> tuple[PullRequest, bool]:
        answer = client.request(
            "POST",
            "/pulls",
            operation=operation,
            body=lambda address: wish.body(address, title, body),
        )
        if not is_of_branch(
            answer.data,
            client.address,
            wish.head_branch,
            wish.base_branch,
            head_full_name=wish.head_full_name,
        ):
            raise unusable(operation, client.address, "it is not about these branches")
        try:
            return read_pull(answer.data, client.address), True
        except NotOursError as error:
            raise unusable(operation, client.address, str(error)) from None

    def look() -> tuple[PullRequest, bool] | None:
        # Into whichever branch: the base of one whose answer was lost may have been changed.
        pulls = find_pulls(client, head_branch=wish.head_branch, head_full_name=wish.head_full_name)
        ours = [pull for pull in pulls if pull.base_branch == wish.base_branch]
        for pull in ours:
            if pull.state == "open" or (pull.state == "merged" and pull.head_sha == head_sha):
                return pull, False
        return next(((pull, False) for pull in pulls if pull.state == "open"), None)

    return settle(client, send=send, look=look)
