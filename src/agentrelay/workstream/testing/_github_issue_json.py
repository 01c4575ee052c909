"""Bodies about what a pull request shares with issues, and about its reviews; pure.

Source:
    GitHub's description of its REST API, version 2022-11-28 (schemas issue, milestone,
    team, team-simple, pull-request-review).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from agentrelay.workstream.testing import _github_json as bodies

if TYPE_CHECKING:
    from agentrelay.workstream.testing._github_json import Json, Urls
    from agentrelay.workstream.testing._github_store import (
        HostedRepository,
        Milestone,
        Pull,
        Review,
    )

__all__ = ["issue", "milestone", "milestone_of", "review", "team"]


def issue(urls: Urls, hosted: HostedRepository, pull: Pull) -> Json:
    """Return the issue that a pull request is as well."""
    url = f"{urls.repository(hosted)}/issues/{pull.number}"
    page = f"{urls.page(hosted)}/pull/{pull.number}"
    number = hosted.repository_id * 200_000 + pull.number
    return {
        "id": number,
        "node_id": bodies.node_id("I", number),
        "url": url,
        "repository_url": urls.repository(hosted),
        "labels_url": f"{url}/labels{{/name}}",
        "comments_url": f"{url}/comments",
        "events_url": f"{url}/events",
        "html_url": page,
        "number": pull.number,
        "state": pull.state,
        "title": pull.title,
        "body": pull.body,
        "user": bodies.user(urls, pull.author),
        "labels": [bodies.label(urls, hosted, name) for name in pull.labels],
        "assignee": next((bodies.user(urls, login) for login in pull.assignees), None),
        "assignees": [bodies.user(urls, login) for login in pull.assignees],
        "milestone": milestone_of(urls, hosted, pull),
        "locked": False,
        "comments": 0,
        "draft": pull.draft,
        "closed_at": bodies.timestamp(pull.closed_at),
        "created_at": bodies.timestamp(pull.created_at),
        "updated_at": bodies.timestamp(pull.updated_at),
        "author_association": "COLLABORATOR",
        "pull_request": {
            "url": f"{urls.repository(hosted)}/pulls/{pull.number}",
            "html_url": page,
            "diff_url": f"{page}.diff",
            "patch_url": f"{page}.patch",
            "merged_at": bodies.timestamp(pull.merged_at),
        },
    }


def milestone_of(urls: Urls, hosted: HostedRepository, pull: Pull) -> Json | None:
    """Return a pull request's milestone."""
    if pull.milestone is None:
        return None
    return milestone(urls, hosted, hosted.milestones[pull.milestone])


def milestone(urls: Urls, hosted: HostedRepository, found: Milestone) -> Json:
    """Return a milestone, with the pull requests that are in it counted."""
    url = f"{urls.repository(hosted)}/milestones/{found.number}"
    inside = [pull for pull in hosted.pulls.values() if pull.milestone == found.number]
    number = hosted.repository_id * 100_000 + found.number
    return {
        "url": url,
        "html_url": f"{urls.page(hosted)}/milestone/{found.number}",
        "labels_url": f"{url}/labels",
        "id": number,
        "node_id": bodies.node_id("MI", number),
        "number": found.number,
        "title": found.title,
        "description": None,
        "creator": bodies.user(urls, hosted.owner),
        "open_issues": sum(pull.state == "open" for pull in inside),
        "closed_issues": sum(pull.state == "closed" for pull in inside),
        "state": "open",
        "created_at": bodies.timestamp(found.created_at),
        "updated_at": bodies.timestamp(found.created_at),
        "closed_at": None,
        "due_on": None,
    }


def team(urls: Urls, hosted: HostedRepository, slug: str) -> Json:
    """Return a team of the repository's organisation."""
    number = zlib.crc32(slug.encode())
    url = f"{urls.api}/organizations/{hosted.repository_id}/team/{number}"
    return {
        "id": number,
        "node_id": bodies.node_id("T", number),
        "url": url,
        "html_url": f"{urls.web}/orgs/{hosted.owner}/teams/{slug}",
        "name": slug,
        "slug": slug,
        "description": None,
        "privacy": "closed",
        "notification_setting": "notifications_enabled",
        "permission": "pull",
        "members_url": f"{url}/members{{/member}}",
        "repositories_url": f"{url}/repos",
        "type": "organization",
        "organization_id": hosted.repository_id,
        "parent": None,
    }


def review(urls: Urls, hosted: HostedRepository, pull: Pull, found: Review) -> Json:
    """Return a review that approves."""
    url = f"{urls.repository(hosted)}/pulls/{pull.number}"
    page = f"{urls.page(hosted)}/pull/{pull.number}#pullrequestreview-{found.number}"
    return {
        "id": found.number,
        "node_id": bodies.node_id("PRR", found.number),
        "user": bodies.user(urls, found.author),
        "body": "",
        "state": "APPROVED",
        "html_url": page,
        "pull_request_url": url,
        "_links": {"html": {"href": page}, "pull_request": {"href": url}},
        "submitted_at": bodies.timestamp(pull.updated_at),
        "commit_id": found.commit_sha,
        "author_association": "COLLABORATOR",
    }
