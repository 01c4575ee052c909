"""What a pull request may have beside its text: labels, reviewers, assignees, a milestone.

Each is asked for on its own, and only as far as it is missing. The pull request stands
whatever becomes of them, so a failure is a sentence and not an exception.

Source:
    docs.github.com, "Add labels to an issue", "Request reviewers for a pull request" (a
    reviewer leaves the list with the review), "Add assignees to an issue" (who may not
    be assigned is left out silently), "Update an issue", "List milestones".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agentrelay.workstream._github.failures import unusable
from agentrelay.workstream._github.pulls import get_pull, insist_on_list
from agentrelay.workstream._github.reading import PullRequest
from agentrelay.workstream._github.settling import settle
from agentrelay.workstream.errors import PullRequestError, WorkstreamError

if TYPE_CHECKING:
    from agentrelay.workstream._github.client import GitHubClient

__all__ = ["Extras", "add_extras"]

_PER_PAGE: Final = 100

# A thousand reviews, or open milestones, is more than anybody has.
_MOST_PAGES: Final = 10


@dataclass(frozen=True)
class Extras:
    """What a pull request is to have.

    Attributes:
        labels: Names of labels; GitHub makes those it lacks.
        reviewers: Logins whose review is requested.
        team_reviewers: Slugs of teams whose review is requested.
        assignees: Logins it is assigned to.
        milestone: Number of a milestone, or title of an open one.
    """

    labels: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    team_reviewers: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    milestone: int | str | None = None


@dataclass(frozen=True)
class _Request:
    """One thing to ask for.

    Attributes:
        what: What it is, to end "could not …".
        missing: Returns the body that asks for what a pull request lacks, empty for nothing.
        method: HTTP method.
        path: Path below the repository's own.
        shortfall: Tells from an answer what was left out, empty for nothing, ``None``
            where it is no answer.
    """

    what: str
    missing: Callable[[PullRequest], dict[str, Any]]
    method: str
    path: str
    shortfall: Callable[[Any], str | None]


def add_extras(
    client: GitHubClient, pull: PullRequest, extras: Extras, *, is_new: bool
) -> tuple[str, ...]:
    """Ask for what a pull request lacks; asking again asks for nothing it has.

    Args:
        client: Client of the repository.
        pull: The pull request as it was last seen.
        extras: What it is to have.
        is_new: Whether it was opened just now, so that nobody can have reviewed it.

    Returns:
        One sentence for each thing that could not be had.
    """
    remarks = []
    with client.deadline():
        for ask in (_labels, _reviewers, _assignees, _milestone):
            try:
                request = ask(client, pull, extras, is_new)
                remark = "" if request is None else _carry_out(client, pull, request)
            except WorkstreamError as error:
                hint = f" ({error.hint})" if error.hint else ""
                remark = f"{error.message}{hint}"
            if remark:
                remarks.append(f"{pull.url} stands, but not all it was to have: {remark}")
    return tuple(remarks)


def _carry_out(client: GitHubClient, pull: PullRequest, request: _Request) -> str:
    """Make one request until nothing is missing; return what was left out."""
    operation = f"{request.what} of pull request {pull.number}"
    body = request.missing(pull)
    if not body:
        return ""

    def send() -> str:
        answer = client.request(request.method, request.path, operation=operation, body=body)
        shortfall = request.shortfall(answer.data)
        if shortfall is None:
            raise unusable(operation, client.address, "it does not say what became of it")
        return shortfall

    def look() -> str | None:
        nonlocal body
        body = request.missing(get_pull(client, pull.number))
        return None if body else ""

    return settle(client, send=send, look=look)


def _about(number: int) -> Callable[[Any], str | None]:
    """Return the reading of an answer that is about the pull request as a whole."""

    def shortfall(data: Any) -> str | None:
        return "" if isinstance(data, dict) and data.get("number") == number else None

    return shortfall


def _lacking(wanted: Iterable[str], there: Iterable[str]) -> list[str]:
    """Return the names that are wanted and not there, whatever their case."""
    known = {name.lower() for name in there}
    lacking: dict[str, str] = {}
    for name in wanted:
        if name.lower() not in known:
            lacking.setdefault(name.lower(), name)
    return list(lacking.values())


def _labels(
    client: GitHubClient,  # noqa: ARG001 - the four have one form
    pull: PullRequest,
    extras: Extras,
    is_new: bool,  # noqa: ARG001, FBT001 - the same
) -> _Request:
    def missing(pull: PullRequest) -> dict[str, Any]:
        names = _lacking(extras.labels, pull.labels)
        return {"labels": names} if names else {}

    def shortfall(data: Any) -> str | None:
        return "" if isinstance(data, list) else None

    path = f"/issues/{pull.number}/labels"
    return _Request("set the labels", missing, "POST", path, shortfall)


def _reviewers(
    client: GitHubClient,
    pull: PullRequest,
    extras: Extras,
    is_new: bool,  # noqa: FBT001 - the four have one form
) -> _Request:
    reviewed: list[str] = []

    def missing(pull: PullRequest) -> dict[str, Any]:
        people = _lacking(extras.reviewers, [*pull.reviewers, *reviewed])
        # A team's request ends with a member's review, and nothing tells whose it was.
        teams = [] if reviewed else _lacking(extras.team_reviewers, pull.team_reviewers)
        body = {"reviewers": people, "team_reviewers": teams}
        return {name: value for name, value in body.items() if value}

    if not is_new and missing(pull):
        reviewed += _who_reviewed(client, pull)
    path = f"/pulls/{pull.number}/requested_reviewers"
    return _Request("request the reviewers", missing, "POST", path, _about(pull.number))


def _who_reviewed(client: GitHubClient, pull: PullRequest) -> list[str]:
    """Return the logins of everybody who has reviewed: asking them again would ping them."""
    operation = f"list the reviews of pull request {pull.number}"
    logins = []
    for review in _pages(client, f"/pulls/{pull.number}/reviews", operation, {}):
        user = review.get("user") if isinstance(review, dict) else None
        login = user.get("login") if isinstance(user, dict) else None
        # The account may be gone; the review is there.
        logins.append(login if isinstance(login, str) else "")
    return logins


def _assignees(
    client: GitHubClient,  # noqa: ARG001 - the four have one form
    pull: PullRequest,
    extras: Extras,
    is_new: bool,  # noqa: ARG001, FBT001 - the same
) -> _Request:
    def missing(pull: PullRequest) -> dict[str, Any]:
        names = _lacking(extras.assignees, pull.assignees)
        return {"assignees": names} if names else {}

    def shortfall(data: Any) -> str | None:
        entries = data.get("assignees") if isinstance(data, dict) else None
        if not isinstance(entries, list):
            return None
        there = [entry.get("login") for entry in entries if isinstance(entry, dict)]
        left_out = _lacking(extras.assignees, [name for name in there if isinstance(name, str)])
        names = ", ".join(left_out)
        return f"GitHub does not assign it to {names}, who lacks access" if names else ""

    path = f"/issues/{pull.number}/assignees"
    return _Request("set the assignees", missing, "POST", path, shortfall)


def _milestone(
    client: GitHubClient,
    pull: PullRequest,
    extras: Extras,
    is_new: bool,  # noqa: ARG001, FBT001 - the four have one form
) -> _Request | None:
    wanted = extras.milestone
    if wanted is None or (pull.milestone is not None and wanted in pull.milestone):
        return None
    number = wanted if isinstance(wanted, int) else _number_of(client, wanted)

    def missing(pull: PullRequest) -> dict[str, Any]:
        there = pull.milestone is not None and pull.milestone[0] == number
        return {} if there else {"milestone": number}

    path = f"/issues/{pull.number}"
    return _Request("set the milestone", missing, "PATCH", path, _about(pull.number))


def _number_of(client: GitHubClient, title: str) -> int:
    """Return the number of the open milestone with that title."""
    operation = f"find the milestone {title!r}"
    for entry in _pages(client, "/milestones", operation, {"state": "open"}):
        if isinstance(entry, dict) and entry.get("title") == title:
            number = entry.get("number")
            if isinstance(number, int):
                return number
    address = client.address
    raise PullRequestError(
        f"could not {operation} on {address.host}/{address.full_name}: none is open",
        repository=address.full_name,
        hint="make it first, or pass its number",
    )


def _pages(
    client: GitHubClient, path: str, operation: str, parameters: dict[str, str]
) -> list[Any]:
    """Return all entries of a list."""
    entries: list[Any] = []
    for page in range(1, _MOST_PAGES + 1):
        query = {**parameters, "per_page": _PER_PAGE, "page": page}
        answer = client.request(
            "GET",
            path,
            operation=operation,
            parameters=query,
            check=lambda answer: insist_on_list(answer, operation, client.address),
        )
        entries += answer.data
        if 'rel="next"' not in answer.headers.get("link", ""):
            return entries
    raise unusable(operation, client.address, f"it did not end after {_MOST_PAGES} pages")
