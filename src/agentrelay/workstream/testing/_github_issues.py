"""The GitHub double's answers about labels, people, milestones and reviews of pull requests."""

from __future__ import annotations

from typing import Final

from agentrelay.workstream.testing import _github_issue_json as issues
from agentrelay.workstream.testing import _github_json as bodies
from agentrelay.workstream.testing._github_pull_json import simple_pull
from agentrelay.workstream.testing._github_pulls import PAGED, paginate, pull_of
from agentrelay.workstream.testing._github_refusals import (
    NotImplementedRouteError,
    RefusedError,
)
from agentrelay.workstream.testing._github_routes import Call, Route, answer
from agentrelay.workstream.testing._loopback_wire import Response

__all__ = ["ISSUE_ROUTES"]

_ISSUE: Final = "/issues/([0-9]+)"
_PULL: Final = "/pulls/([0-9]+)"

# "Add assignees to an issue": up to ten.
_MOST_ASSIGNEES: Final = 10


def _add_labels(call: Call) -> Response:
    pull = pull_of(call)
    known = {name.lower() for name in pull.labels}
    pull.labels += [name for name in _names(call, "labels") if name.lower() not in known]
    return answer(200, [bodies.label(call.urls, call.hosted, name) for name in pull.labels])


def _add_assignees(call: Call) -> Response:
    """Assign who may be assigned, and leave the others out without a word."""
    pull = pull_of(call)
    for login in _names(call, "assignees"):
        may = login in call.hosted.collaborators and len(pull.assignees) < _MOST_ASSIGNEES
        if may and login not in pull.assignees:
            pull.assignees.append(login)
    return answer(201, issues.issue(call.urls, call.hosted, pull))


def _edit_issue(call: Call) -> Response:
    pull = pull_of(call)
    number = call.fields.get("milestone")
    if number is not None and type(number) is not int:
        raise RefusedError.wrong_type("milestone", number, "an integer")
    if number is not None and number not in call.hosted.milestones:
        raise RefusedError.no_milestone(number)
    pull.milestone = number
    return answer(200, issues.issue(call.urls, call.hosted, pull))


def _list_milestones(call: Call) -> Response:
    state = call.query.get("state", "open")
    if state != "open":
        raise NotImplementedRouteError("all milestones of the double are open")
    found = list(call.hosted.milestones.values())
    return paginate(call, found, lambda one: issues.milestone(call.urls, call.hosted, one))


def _request_reviewers(call: Call) -> Response:
    """Request all of the reviews, or none: GitHub refuses the whole for one name."""
    pull = pull_of(call)
    people, teams = _names(call, "reviewers"), _names(call, "team_reviewers")
    if pull.author in people:
        raise RefusedError(422, "Review cannot be requested from pull request author.")
    if not (set(people) <= call.hosted.collaborators and set(teams) <= call.hosted.teams):
        raise RefusedError.no_collaborator(call.hosted.full_name)
    pull.reviewers += [login for login in people if login not in pull.reviewers]
    pull.teams += [slug for slug in teams if slug not in pull.teams]
    return answer(201, simple_pull(call.urls, call.hosted, pull))


def _list_reviews(call: Call) -> Response:
    pull = pull_of(call)
    return paginate(
        call, pull.reviews, lambda one: issues.review(call.urls, call.hosted, pull, one)
    )


def _names(call: Call, field: str) -> list[str]:
    value = call.fields.get(field, [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise RefusedError.wrong_type(field, value, "a list of strings")
    return value


ISSUE_ROUTES = (
    Route(
        "POST",
        f"{_ISSUE}/labels",
        _add_labels,
        fields=frozenset({"labels"}),
        bare_list="labels",
    ),
    Route("POST", f"{_ISSUE}/assignees", _add_assignees, fields=frozenset({"assignees"})),
    Route("PATCH", _ISSUE, _edit_issue, fields=frozenset({"milestone"})),
    Route("GET", "/milestones", _list_milestones, query=PAGED | {"state"}),
    Route("GET", f"{_PULL}/reviews", _list_reviews, query=PAGED),
    Route(
        "POST",
        f"{_PULL}/requested_reviewers",
        _request_reviewers,
        fields=frozenset({"reviewers", "team_reviewers"}),
    ),
)
