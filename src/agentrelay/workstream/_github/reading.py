"""Reading an answer about a pull request, believing only what is ours and whole; pure.

Source:
    docs.github.com, "REST API endpoints for pull requests". Items of a list lack what a
    single pull request has: ``merged``, for one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from agentrelay.workstream._github.address import is_own_pull_url

if TYPE_CHECKING:
    from agentrelay.workstream._github.address import GitHubAddress

__all__ = [
    "NotOursError",
    "PullRequest",
    "is_commit_name",
    "is_of_branch",
    "read_pull",
    "text_at",
]

# Full names only: git would look an abbreviated one up.
_COMMIT_NAME: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

# What git allows in no name of a branch, and no text of ours can carry.
_NO_NAME: Final = re.compile(r"[\x00-\x20\x7f\ud800-\udfff]|\A\Z")


@dataclass(frozen=True)
class PullRequest:
    """A pull request of this repository.

    Attributes:
        number: Number within the repository.
        url: Page for people.
        state: ``"open"``, ``"closed"`` (without a merge) or ``"merged"``.
        head_branch: Branch it asks to merge.
        head_sha: Commit that branch pointed to, as GitHub saw it.
        base_branch: Branch it asks to merge into.
        title: Title.
        body: Body; empty when there is none.
        base_sha: Commit of the target, as GitHub saw it; of a merged one, before that.
        merge_commit_sha: Of a merged one, the commit that brought it into the target.
        node_id: Its name for GraphQL.
        is_draft: Whether it is a draft.
        labels: Names of its labels.
        reviewers: Logins whose review is requested; who has given one is not among them.
        team_reviewers: Slugs of the teams whose review is requested.
        assignees: Logins it is assigned to.
        milestone: Number and title of its milestone.
    """

    number: int
    url: str
    state: Literal["open", "closed", "merged"]
    head_branch: str
    head_sha: str
    base_branch: str
    title: str
    body: str
    base_sha: str | None = None
    merge_commit_sha: str | None = None
    node_id: str | None = None
    is_draft: bool = False
    labels: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    team_reviewers: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    milestone: tuple[int, str] | None = None


class NotOursError(ValueError):
    """An answer is not a pull request of this repository; the text says why."""


def is_of_branch(
    item: object,
    address: GitHubAddress,
    head_branch: str,
    base_branch: str | None,
    *,
    head_full_name: str | None = None,
) -> bool:
    """Tell whether an item is about these branches of these repositories."""
    if text_at(item, "head", "ref") != head_branch:
        return False
    if base_branch is not None and text_at(item, "base", "ref") != base_branch:
        return False
    wanted = head_full_name or address.full_name
    full_name = text_at(item, "head", "repo", "full_name")
    if full_name is None:
        # Null once a fork was deleted, and then it was not this repository. But an emulator,
        # named explicitly, may know a single repository and no forks.
        ours = f"{wanted.partition('/')[0]}:{head_branch}"
        label = text_at(item, "head", "label") or ours
        return address.api_is_given and head_full_name is None and label.lower() == ours.lower()
    return full_name.lower() == wanted.lower()


def read_pull(item: object, address: GitHubAddress) -> PullRequest:
    """Read one pull request; everything used must be there and be ours.

    Raises:
        NotOursError: It is not a pull request of this repository.
    """
    if not isinstance(item, dict):
        raise NotOursError("it is not a pull request")
    number, url = item.get("number"), item.get("html_url")
    if type(number) is not int or number < 1 or not isinstance(url, str):
        raise NotOursError("it has no number or no URL")
    if not is_own_pull_url(address, url, number):
        raise NotOursError(
            f"its URL is not a pull request of {address.host}/{address.full_name}: {url}"
        )
    head, base = text_at(item, "head", "ref"), text_at(item, "base", "ref")
    sha, title, state = text_at(item, "head", "sha"), text_at(item, "title"), item.get("state")
    if head is None or base is None or sha is None or title is None:
        raise NotOursError("it lacks a branch, a commit or a title")
    if _NO_NAME.search(base):
        raise NotOursError("its base is no name of a branch")
    if state not in ("open", "closed"):
        raise NotOursError("its state is neither open nor closed")
    is_merged = _is_merged(item)
    if is_merged and state == "open":
        raise NotOursError("it says that it is open, and that it was merged")
    merged_as = text_at(item, "merge_commit_sha") if is_merged else None
    if not all(name is None or is_commit_name(name) for name in (sha, merged_as)):
        raise NotOursError("a commit of it has no name of a commit")
    return PullRequest(
        number=number,
        url=url,
        state="merged" if is_merged else "open" if state == "open" else "closed",
        head_branch=head,
        head_sha=sha,
        base_branch=base,
        title=title,
        body=text_at(item, "body") or "",
        base_sha=text_at(item, "base", "sha"),
        # Before the merge it names a trial of it.
        merge_commit_sha=merged_as,
        node_id=text_at(item, "node_id"),
        is_draft=item.get("draft") is True,
        labels=_names(item, "labels", "name"),
        reviewers=_names(item, "requested_reviewers", "login"),
        team_reviewers=_names(item, "requested_teams", "slug"),
        assignees=_names(item, "assignees", "login"),
        milestone=_milestone(item),
    )


def _is_merged(item: dict[str, Any]) -> bool:
    """Tell whether it says that it was merged.

    Raises:
        NotOursError: What it says makes no sense, or is nothing at all.
    """
    # Items of a list have no "merged"; the time of the merge is in both forms.
    said, at = item.get("merged"), item.get("merged_at")
    if said not in (True, False, None) or not (at is None or _is_time(at)):
        raise NotOursError("it does not say whether it was merged")
    if said is None and "merged_at" not in item:
        raise NotOursError("it does not say whether it was merged")
    return said is True or at is not None


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value) is not None
    except ValueError:
        return False


def is_commit_name(text: str) -> bool:
    """Tell whether a text is the full name of a commit, in either of git's forms."""
    return _COMMIT_NAME.fullmatch(text) is not None


def _names(item: dict[str, Any], key: str, name: str) -> tuple[str, ...]:
    """Return one text of each entry of a list; entries without it are left out."""
    entries = item.get(key)
    names = [text_at(entry, name) for entry in entries] if isinstance(entries, list) else []
    return tuple(text for text in names if text is not None)


def _milestone(item: dict[str, Any]) -> tuple[int, str] | None:
    """Return number and title of the milestone, if there is one."""
    title = text_at(item, "milestone", "title")
    if title is None:
        return None
    number = item["milestone"].get("number")
    return (number, title) if isinstance(number, int) else None


def text_at(item: object, *keys: str) -> str | None:
    """Return the text at a path of keys, or ``None`` when something is in the way."""
    value = item
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value if isinstance(value, str) else None
