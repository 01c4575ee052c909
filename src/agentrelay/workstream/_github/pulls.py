"""Pull requests: find, open, read and update them, believing only what is ours.

A head branch and a base branch have at most one open pull request, so opening one is
made repeatable by looking: after a refusal as a duplicate, or when nobody knows
whether a creation happened, the pull request is looked for before giving up. It is
never asked for twice.

Source:
    docs.github.com, "REST API endpoints for pull requests". A ``head`` filter without
    ``owner:`` is silently ignored, so every item is checked here as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from agentrelay.workstream._github.address import is_own_pull_url
from agentrelay.workstream._github.failures import is_ambiguous, is_duplicate, unusable
from agentrelay.workstream.errors import WorkstreamError

if TYPE_CHECKING:
    from agentrelay.workstream._github.address import GitHubAddress
    from agentrelay.workstream._github.client import GitHubClient

__all__ = ["PullRequest", "find_pulls", "get_pull", "open_pull", "update_pull_body"]

_PER_PAGE: Final = 100

# 5000 pull requests of one branch do not exist; a server that keeps saying "next" does.
_MOST_PAGES: Final = 50


@dataclass(frozen=True)
class PullRequest:
    """A pull request of this repository, from one of its own branches.

    Attributes:
        number: Number within the repository.
        url: Page for people.
        state: ``"open"``, ``"closed"`` (without a merge) or ``"merged"``.
        head_branch: Branch it asks to merge.
        head_sha: Commit that branch pointed to, as GitHub saw it.
        base_branch: Branch it asks to merge into.
        title: Title.
        body: Body; empty when there is none.
    """

    number: int
    url: str
    state: Literal["open", "closed", "merged"]
    head_branch: str
    head_sha: str
    base_branch: str
    title: str
    body: str


class _NotOursError(ValueError):
    """An answer is not a pull request of this repository; the text says why."""


def find_pulls(
    client: GitHubClient,
    *,
    head_branch: str,
    base_branch: str | None = None,
    state: Literal["open", "closed", "all"] = "all",
) -> list[PullRequest]:
    """Return the pull requests of a branch, newest first.

    Those of forks that use the same branch name are not among them.

    Args:
        client: Client of the repository.
        head_branch: Branch they ask to merge; a short name.
        base_branch: Branch they ask to merge into, or ``None`` for any.
        state: Which to ask for; a merged one counts as closed here.

    Raises:
        CredentialsRejectedError: The token was refused, or none was offered.
        RateLimitedError: GitHub asked for a pause.
        PullRequestError: GitHub refused.
        RemoteUnavailableError: No usable answer.
    """
    address = client.address
    operation = f"list the pull requests of {head_branch}"
    parameters: dict[str, str | int] = {
        "state": state,
        "head": f"{address.owner}:{head_branch}",
        "per_page": _PER_PAGE,
    }
    if base_branch is not None:
        parameters["base"] = base_branch
    found: dict[int, PullRequest] = {}
    for page in range(1, _MOST_PAGES + 1):
        answer = client.request(
            "GET", "/pulls", operation=operation, parameters={**parameters, "page": page}
        )
        if not isinstance(answer.data, list):
            raise unusable(operation, address, "it is not a list")
        for item in answer.data:
            if _text(item, "head", "ref") is None:
                # Leaving it out would say that there is no pull request.
                raise unusable(operation, address, "an item does not say which branch it is of")
            if not _is_of_branch(item, address, head_branch, base_branch):
                continue
            try:
                pull = _read(item, address)
            except _NotOursError as error:
                raise unusable(operation, address, str(error)) from None
            if state == "all" or (state == "open") == (pull.state == "open"):
                found[pull.number] = pull
        if 'rel="next"' not in answer.headers.get("link", ""):
            return [found[number] for number in sorted(found, reverse=True)]
    raise unusable(operation, address, f"it did not end after {_MOST_PAGES} pages")


def open_pull(
    client: GitHubClient, *, head_branch: str, base_branch: str, title: str, body: str
) -> PullRequest:
    """Open a pull request, or return the open one that is there already.

    One creation is asked for, once. When it is refused as a duplicate, or fails in a
    way that leaves open whether it happened, the pull request is looked for.

    Args:
        client: Client of the repository.
        head_branch: Branch to merge; a short name, on the remote.
        base_branch: Branch to merge into.
        title: Title of a new pull request; an existing one keeps its own.
        body: Body of a new pull request; an existing one keeps its own.

    Raises:
        CredentialsRejectedError: The token was refused, or none was offered.
        RateLimitedError: GitHub asked for a pause; nothing was created.
        PullRequestError: GitHub refused. Without commits to merge,
            :func:`agentrelay.workstream._github.failures.is_no_commits` holds.
        RemoteUnavailableError: No usable answer, and no such pull request was found
            afterwards. Doing it again is safe.
    """
    operation = f"open a pull request from {head_branch} into {base_branch}"
    failure: WorkstreamError
    try:
        answer = client.request(
            "POST",
            "/pulls",
            operation=operation,
            body={"title": title, "body": body, "head": head_branch, "base": base_branch},
        )
        if _is_of_branch(answer.data, client.address, head_branch, base_branch):
            return _read(answer.data, client.address)
        failure = unusable(operation, client.address, "it is not about these branches")
    except _NotOursError as error:
        failure = unusable(operation, client.address, str(error))
    except WorkstreamError as error:
        if not (is_duplicate(error) or is_ambiguous(error)):
            raise
        failure = error
    try:
        pulls = find_pulls(client, head_branch=head_branch, base_branch=base_branch, state="open")
    except WorkstreamError as looking:
        # The creation's own failure is what the caller has to deal with.
        failure.add_note(f"looking whether it exists failed too: {looking.message}")
        pulls = []
    if pulls:
        return pulls[0]
    raise failure


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
    return _one(client, "PATCH", number, f"update pull request {number}", {"body": body})


def _one(
    client: GitHubClient, method: str, number: int, operation: str, body: dict[str, Any] | None
) -> PullRequest:
    """Ask for one pull request by its own path and insist on an answer about it."""
    answer = client.request(method, f"/pulls/{number}", operation=operation, body=body)
    try:
        pull = _read(answer.data, client.address)
    except _NotOursError as error:
        raise unusable(operation, client.address, str(error)) from None
    if pull.number != number:
        raise unusable(operation, client.address, f"it is about number {pull.number}")
    return pull


def _is_of_branch(
    item: object, address: GitHubAddress, head_branch: str, base_branch: str | None
) -> bool:
    """Tell whether an item is about these branches of this repository."""
    if _text(item, "head", "ref") != head_branch:
        return False
    if base_branch is not None and _text(item, "base", "ref") != base_branch:
        return False
    full_name = _text(item, "head", "repo", "full_name")
    if full_name is None:
        # Null once a fork was deleted, and then it was not this repository. But an emulator,
        # named explicitly, may know a single repository and no forks.
        label = _text(item, "head", "label") or f"{address.owner}:{head_branch}"
        ours = f"{address.owner}:{head_branch}"
        return address.api_is_given and label.lower() == ours.lower()
    return full_name.lower() == address.full_name.lower()


def _read(item: object, address: GitHubAddress) -> PullRequest:
    """Read one pull request; everything used must be there and be ours.

    Raises:
        _NotOursError: It is not a pull request of this repository.
    """
    if not isinstance(item, dict):
        raise _NotOursError("it is not a pull request")
    number, url = item.get("number"), item.get("html_url")
    if type(number) is not int or number < 1 or not isinstance(url, str):
        raise _NotOursError("it has no number or no URL")
    if not is_own_pull_url(address, url, number):
        raise _NotOursError(
            f"its URL is not a pull request of {address.host}/{address.full_name}: {url}"
        )
    head, base = _text(item, "head", "ref"), _text(item, "base", "ref")
    sha, title, state = _text(item, "head", "sha"), _text(item, "title"), item.get("state")
    if head is None or base is None or sha is None or title is None:
        raise _NotOursError("it lacks a branch, a commit or a title")
    if state not in {"open", "closed"}:
        raise _NotOursError("its state is neither open nor closed")
    # Items of a list have no "merged"; the time of the merge is in both forms.
    is_merged = item.get("merged") is True or isinstance(item.get("merged_at"), str)
    return PullRequest(
        number=number,
        url=url,
        state="merged" if is_merged else "open" if state == "open" else "closed",
        head_branch=head,
        head_sha=sha,
        base_branch=base,
        title=title,
        body=_text(item, "body") or "",
    )


def _text(item: object, *keys: str) -> str | None:
    """Return the text at a path of keys, or ``None`` when something is in the way."""
    value = item
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value if isinstance(value, str) else None
