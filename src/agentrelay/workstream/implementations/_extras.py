"""What a caller wants a pull request to have, checked before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agentrelay.workstream._github.extras import Extras
from agentrelay.workstream.errors import RepositoryError

__all__ = ["check_draft", "read_extras"]

# GitHub's limits: names of labels, of accounts and of teams are far shorter than this.
_LONGEST_NAME: Final = 256


def check_draft(value: object) -> None:
    """Accept a truth value, and no word for one: ``"no"`` would be true.

    Raises:
        RepositoryError: It is something else.
    """
    if not isinstance(value, bool):
        raise RepositoryError("draft is neither True nor False", hint="Set draft to True or False.")


def read_extras(
    *,
    labels: Sequence[str],
    reviewers: Sequence[str],
    team_reviewers: Sequence[str],
    assignees: Sequence[str],
    milestone: int | str | None,
) -> Extras:
    """Return the settings in one value.

    Raises:
        RepositoryError: One is not what its name says: a text where a list of texts
            belongs, an empty name, a milestone below 1.
    """
    is_number = isinstance(milestone, int) and not isinstance(milestone, bool) and milestone >= 1
    is_title = isinstance(milestone, str) and _is_name(milestone)
    if milestone is not None and not (is_number or is_title):
        raise RepositoryError(
            "milestone is neither a number nor a title",
            hint='milestone=4, or milestone="Spring", for example',
        )
    return Extras(
        labels=_names("labels", labels),
        reviewers=_names("reviewers", reviewers),
        team_reviewers=_names("team_reviewers", team_reviewers),
        assignees=_names("assignees", assignees),
        milestone=milestone,
    )


def _names(setting: str, value: object) -> tuple[str, ...]:
    """Return the names as a tuple."""
    # A text is a sequence of texts to Python, and a mistake here.
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(map(_is_name, value)):
        raise RepositoryError(
            f"{setting} is not a list of names", hint=f'{setting}=["one", "two"], for example'
        )
    return tuple(value)


def _is_name(value: object) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= _LONGEST_NAME
        and value.isprintable()
        and value == value.strip()
    )
