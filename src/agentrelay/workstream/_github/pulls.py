"""Pull requests: find, read and update them, believing only what is ours.

Source:
    docs.github.com, "REST API endpoints for pull requests". A ``head`` filter without
    ``owner:`` is silently ignored, so every item is checked here as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from agentrelay.workstream._github.failures import unusable
from agentrelay.workstream._github.reading import (
    NotOursError,
    PullRequest,
    is_of_branch,
    read_pull,
    text_at,
)
from agentrelay.workstream._github.settling import settle

if TYPE_CHECKING:
    from agentrelay.workstream._github.address import GitHubAddress
    from agentrelay.workstream._github.client import GitHubClient
    from agentrelay.workstream._github.transport import Answer

__all__ = [
    "find_pulls",
    "get_pull",
    "insist_on_list",
    "update_pull_body",
]

_PER_PAGE: Final = 100

# 5000 pull requests of one branch do not exist; a server that keeps saying "next" does.
_MOST_PAGES: Final = 50

# Three hundred pull requests back is far enough for a lane's that is closed.
_LATEST_PAGES: Final = 3


def find_pulls(
    client: GitHubClient,
    *,
    head_branch: str,
    base_branch: str | None = None,
    head_full_name: str | None = None,
    state: Literal["open", "closed", "all"] = "all",
) -> list[PullRequest]:
    """Return the pull requests of a branch, newest first.

    Those of other repositories that use the same branch name are not among them. Of a
    fork that has the repository's own owner, closed ones are only found among the
    latest: GitHub's filter knows owners and no repositories, and may forget such a fork,
    so the whole repository's are read, a hundred with each request.

    Args:
        client: Client of the repository.
        head_branch: Branch they ask to merge; a short name.
        base_branch: Branch they ask to merge into, or ``None`` for any.
        head_full_name: ``"owner/name"`` of the fork that holds the branch; the
            repository itself by default.
        state: Which to ask for; a merged one counts as closed here.

    Raises:
        CredentialsRejectedError: The token was refused, or none was offered.
        RateLimitedError: GitHub asked for a pause.
        PullRequestError: GitHub refused.
        RemoteUnavailableError: No usable answer.
    """
    search = _Search(head_branch, base_branch, head_full_name)
    with client.deadline():
        is_latest = search.is_forgotten(client.address) and state != "open"
        found, is_whole = _list(client, search, state, _LATEST_PAGES if is_latest else _MOST_PAGES)
        if not is_whole and state == "all":
            # An open one may be older than all of these.
            found |= _list(client, search, "open", _MOST_PAGES)[0]
    return [found[number] for number in sorted(found, reverse=True)]


@dataclass(frozen=True)
class _Search:
    """Which pull requests are looked for."""

    head_branch: str
    base_branch: str | None
    head_full_name: str | None

    def is_forgotten(self, address: GitHubAddress) -> bool:
        """Tell whether GitHub's filter by head may leave them out."""
        if self.head_full_name is None or self.head_full_name.lower() == address.full_name.lower():
            return False
        return self.head_full_name.partition("/")[0].lower() == address.owner.lower()

    def query(self, address: GitHubAddress, state: str, page: int) -> dict[str, str | int]:
        """Return the query for one page."""
        asked: dict[str, str | int] = {"state": state, "per_page": _PER_PAGE, "page": page}
        if not self.is_forgotten(address):
            owner = (self.head_full_name or address.full_name).partition("/")[0]
            asked["head"] = f"{owner}:{self.head_branch}"
        if self.base_branch is not None:
            asked["base"] = self.base_branch
        return asked


def _list(
    client: GitHubClient, search: _Search, state: Literal["open", "closed", "all"], most_pages: int
) -> tuple[dict[int, PullRequest], bool]:
    """Read a list page by page; the whole of it, unless only the latest are wanted.

    Returns:
        What was found, and whether it is all there is.
    """
    operation = f"list the pull requests of {search.head_branch}"
    found: dict[int, PullRequest] = {}
    for page in range(1, most_pages + 1):
        answer = client.request(
            "GET",
            "/pulls",
            operation=operation,
            parameters=lambda address, page=page: search.query(address, state, page),
            check=lambda answer: insist_on_list(answer, operation, client.address),
        )
        for item in answer.data:
            pull = _own(item, client.address, search)
            if isinstance(pull, str):
                raise unusable(operation, client.address, pull)
            if pull and state in {"all", "open" if pull.state == "open" else "closed"}:
                found[pull.number] = pull
        if 'rel="next"' not in answer.headers.get("link", ""):
            return found, True
    if most_pages == _LATEST_PAGES:
        return found, False
    raise unusable(operation, client.address, f"it did not end after {most_pages} pages")


def insist_on_list(answer: Answer, operation: str, address: GitHubAddress) -> None:
    """Refuse an answer that is no list.

    Raises:
        RemoteUnavailableError: It is something else.
    """
    if not isinstance(answer.data, list):
        raise unusable(operation, address, "it is not a list")


def _own(item: object, address: GitHubAddress, search: _Search) -> PullRequest | str | None:
    """Read an item of a list: ours, why it cannot be told, or ``None`` for another's."""
    if text_at(item, "head", "ref") is None:
        # Leaving it out would say that there is no pull request.
        return "an item does not say which branch it is of"
    if not is_of_branch(
        item,
        address,
        search.head_branch,
        search.base_branch,
        head_full_name=search.head_full_name,
    ):
        return None
    try:
        return read_pull(item, address)
    except NotOursError as error:
        return str(error)


def get_pull(client: GitHubClient, number: int) -> PullRequest:
    """Read one pull request.

    Args:
        client: Client of the repository.
        number: Its number.

    Raises:
        CredentialsRejectedError: The token was refused, or none was offered.
        RateLimitedError: GitHub asked for a pause.
        PullRequestError: GitHub refused; ``status`` 404 when there is none.
        RemoteUnavailableError: No usable answer.
    """
    return _one(client, "GET", number, f"read pull request {number}", None)


def update_pull_body(client: GitHubClient, number: int, body: str) -> PullRequest:
    """Replace the body of a pull request; doing it again changes nothing.

    Args:
        client: Client of the repository.
        number: Its number.
        body: The new body.

    Raises:
        CredentialsRejectedError: The token was refused, or none was offered.
        RateLimitedError: GitHub asked for a pause.
        PullRequestError: GitHub refused.
        RemoteUnavailableError: No usable answer; it may have happened.
    """

    def look() -> PullRequest | None:
        pull = get_pull(client, number)
        # GitHub keeps the line ends of a browser's form.
        return pull if pull.body.replace("\r\n", "\n") == body.replace("\r\n", "\n") else None

    return settle(
        client,
        send=lambda: _one(client, "PATCH", number, f"update pull request {number}", {"body": body}),
        look=look,
    )


def _one(
    client: GitHubClient, method: str, number: int, operation: str, body: dict[str, Any] | None
) -> PullRequest:
    """Ask for one pull request by its own path and insist on an answer about it."""

    def read(answer: Answer) -> PullRequest:
        try:
            pull = read_pull(answer.data, client.address)
        except NotOursError as error:
            raise unusable(operation, client.address, str(error)) from None
        if pull.number != number:
            raise unusable(operation, client.address, f"it is about number {pull.number}")
        return pull

    return read(
        client.request(method, f"/pulls/{number}", operation=operation, body=body, check=read)
    )
