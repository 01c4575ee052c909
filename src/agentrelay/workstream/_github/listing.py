"""Lists for many lanes at once: pull requests, and the commits a target is made of."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from agentrelay.workstream._commits import CommitFacts, facts_of
from agentrelay.workstream._github.failures import unusable
from agentrelay.workstream._github.pulls import find_pulls
from agentrelay.workstream._github.reading import (
    NotOursError,
    PullRequest,
    is_commit_name,
    is_of_branch,
    read_pull,
)
from agentrelay.workstream.errors import PullRequestError

if TYPE_CHECKING:
    from agentrelay.workstream._github.address import GitHubAddress
    from agentrelay.workstream._github.client import GitHubClient
    from agentrelay.workstream._github.memory import Memory, Page
    from agentrelay.workstream._github.transport import Answer

__all__ = ["commits_of_pull", "contains", "latest_commits", "latest_pulls", "pulls_of"]

_PER_PAGE: Final = 100
_NOT_FOUND: Final = 404


def latest_pulls(
    client: GitHubClient,
    memory: Memory,
    *,
    prefix: str,
    head_full_name: str | None,
    page: int,
) -> Page[PullRequest]:
    """Return those of the lanes among the pull requests that changed last.

    Args:
        client: Client of the repository.
        memory: What was seen before.
        prefix: Beginning of the names of the branches that are wanted. One prefix for all:
            what is remembered does not depend on which lanes are asked for.
        head_full_name: ``"owner/name"`` of the fork that holds them.
        page: Which hundred, from 1.

    Raises:
        WorkstreamError: As :meth:`GitHubClient.request`.
    """
    operation = "list the latest pull requests"

    def read(items: list[Any], address: GitHubAddress) -> tuple[PullRequest, ...]:
        return _wanted(items, address, prefix, head_full_name, operation)

    return memory.page(
        client,
        "/pulls",
        operation=operation,
        parameters=lambda _: {
            "state": "all",
            "sort": "updated",
            "direction": "desc",
            "per_page": _PER_PAGE,
            "page": page,
        },
        read=read,
        variant=f"{prefix} {head_full_name}",
    )


def pulls_of(
    client: GitHubClient, memory: Memory, *, head_branch: str, head_full_name: str | None
) -> list[PullRequest]:
    """Return all pull requests of one branch, newest first.

    Args:
        client: Client of the repository.
        memory: What was seen before.
        head_branch: The branch.
        head_full_name: ``"owner/name"`` of the fork that holds it.

    Raises:
        WorkstreamError: As :meth:`GitHubClient.request`.
    """
    owner = (head_full_name or client.address.full_name).partition("/")[0]
    if head_full_name is not None and owner.lower() == client.address.owner.lower():
        # GitHub's filter may forget such a fork.
        return find_pulls(client, head_branch=head_branch, head_full_name=head_full_name)
    operation = f"list the pull requests of {head_branch}"

    def read(items: list[Any], address: GitHubAddress) -> tuple[PullRequest, ...]:
        # GitHub ignores a filter it does not understand, and sends everybody's.
        found = _wanted(items, address, head_branch, head_full_name, operation)
        return tuple(pull for pull in found if pull.head_branch == head_branch)

    page = memory.page(
        client,
        "/pulls",
        operation=operation,
        parameters=lambda address: {
            "state": "all",
            "head": f"{(head_full_name or address.full_name).partition('/')[0]}:{head_branch}",
            "per_page": _PER_PAGE,
        },
        read=read,
    )
    if page.has_next:
        return find_pulls(client, head_branch=head_branch, head_full_name=head_full_name)
    return sorted(page.items, key=lambda pull: -pull.number)


def _wanted(
    items: list[Any],
    address: GitHubAddress,
    prefix: str,
    head_full_name: str | None,
    operation: str,
) -> tuple[PullRequest, ...]:
    """Read the items that are about branches of a prefix; others may be anything."""
    found = []
    for item in items:
        head = item.get("head") if isinstance(item, dict) else None
        ref = head.get("ref") if isinstance(head, dict) else None
        if not isinstance(ref, str):
            # Leaving it out would say that there is no pull request.
            raise unusable(operation, address, "an item does not say which branch it is of")
        if not ref.startswith(prefix) or not is_of_branch(
            item, address, ref, None, head_full_name=head_full_name
        ):
            continue
        try:
            found.append(read_pull(item, address))
        except NotOursError as error:
            raise unusable(operation, address, str(error)) from None
    return tuple(found)


def latest_commits(
    client: GitHubClient, memory: Memory, *, start: str, page: int = 1
) -> Page[CommitFacts]:
    """Return commits of a branch, or before a commit, and keep them in the memory.

    Args:
        client: Client of the repository.
        memory: What was seen before.
        start: Branch, or hex id of the commit to begin with.
        page: Which hundred, from 1.

    Raises:
        WorkstreamError: As :meth:`GitHubClient.request`.
    """
    found = memory.page(
        client,
        "/commits",
        operation=f"list the commits of {start}",
        parameters=lambda _: {"sha": start, "per_page": _PER_PAGE, "page": page},
        read=_commits,
    )
    memory.remember(found.items)
    return found


def commits_of_pull(client: GitHubClient, memory: Memory, number: int) -> tuple[CommitFacts, ...]:
    """Return the commits a pull request consists of, the first hundred.

    Raises:
        WorkstreamError: As :meth:`GitHubClient.request`.
    """
    return memory.page(
        client,
        f"/pulls/{number}/commits",
        operation=f"list the commits of pull request {number}",
        parameters=lambda _: {"per_page": _PER_PAGE},
        read=_commits,
    ).items


def contains(client: GitHubClient, ancestor: str, descendant: str) -> bool:
    """Tell whether GitHub finds one commit in the history of another.

    ``False`` also where it does not know the first.

    Raises:
        WorkstreamError: As :meth:`GitHubClient.request`, but for a commit that is unknown.
    """
    operation = f"compare {ancestor} with {descendant}"

    def relation(answer: Answer) -> str:
        status = answer.data.get("status") if isinstance(answer.data, dict) else None
        if status not in ("ahead", "behind", "diverged", "identical"):
            raise unusable(operation, client.address, "it does not say how they relate")
        return str(status)

    try:
        answer = client.request(
            "GET",
            f"/compare/{ancestor}...{descendant}",
            operation=operation,
            # The commits themselves are not wanted.
            parameters={"per_page": 1, "page": 1},
            check=relation,
        )
    except PullRequestError as error:
        if error.status == _NOT_FOUND:
            return False
        raise
    return relation(answer) in {"ahead", "identical"}


def _commits(items: list[Any], address: GitHubAddress) -> tuple[CommitFacts, ...]:
    """Read a list of commits.

    Raises:
        RemoteUnavailableError: An item is none.
    """
    try:
        return tuple(_facts(item) for item in items)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        why = f"an item is no commit ({type(error).__name__})"
        raise unusable("list commits", address, why) from None


def _facts(item: Any) -> CommitFacts:
    """Read one commit.

    Raises:
        KeyError: A part is missing.
        TypeError: A part is of another kind.
        ValueError: A name or a date is none.
    """
    written = item["commit"]["author"]
    names = [item["sha"], *(parent["sha"] for parent in item["parents"])]
    if not all(is_commit_name(name) for name in names):
        raise ValueError("a commit has no name of a commit")
    return facts_of(
        names[0],
        tuple(names[1:]),
        email=str(written["email"]),
        authored_s=int(datetime.fromisoformat(written["date"]).timestamp()),
        message=str(item["commit"]["message"]),
    )
