"""One pull request of the GitHub double as a test looks at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from agentrelay.workstream.testing._github_store import HostedRepository, Pull

__all__ = ["PullView", "view"]


@dataclass(frozen=True)
class PullView:
    """One pull request as a test looks at it.

    Attributes:
        number: Its number within the repository.
        title: Its title.
        body: Its text, or ``None``.
        state: Open or closed; merged ones are closed.
        merged: Whether its commits are in the base.
        head: Branch it comes from.
        base: Branch it goes into.
        html_url: Its web address.
        head_repository: Full name of the repository that holds the head.
        draft: Whether it is a draft.
        labels: Names of its labels.
        reviewers: Logins whose review is requested.
        teams: Slugs of teams whose review is requested.
        assignees: Logins it is assigned to.
        milestone: Title of its milestone.
    """

    number: int
    title: str
    body: str | None
    state: Literal["open", "closed"]
    merged: bool
    head: str
    base: str
    html_url: str
    head_repository: str
    draft: bool = False
    labels: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    milestone: str | None = None


def view(web_url: str, hosted: HostedRepository, pull: Pull) -> PullView:
    """Return what a test may know of a pull request.

    Args:
        web_url: Base of web addresses.
        hosted: Repository of the base.
        pull: The pull request.
    """
    milestone = None if pull.milestone is None else hosted.milestones[pull.milestone].title
    return PullView(
        number=pull.number,
        title=pull.title,
        body=pull.body,
        state=pull.state,
        merged=pull.merged,
        head=pull.head,
        base=pull.base,
        html_url=f"{web_url}/{hosted.full_name}/pull/{pull.number}",
        head_repository=(pull.fork or hosted).full_name,
        draft=pull.draft,
        labels=tuple(pull.labels),
        reviewers=tuple(pull.reviewers),
        teams=tuple(pull.teams),
        assignees=tuple(pull.assignees),
        milestone=milestone,
    )
