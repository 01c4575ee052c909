"""Bodies of pull requests: the full schema and the smaller one of lists."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from agentrelay.workstream.testing import _github_issue_json as issues
from agentrelay.workstream.testing import _github_json as bodies
from agentrelay.workstream.testing._github_merge import commits_between, is_mergeable

if TYPE_CHECKING:
    import pygit2

    from agentrelay.workstream.testing._github_json import Json, Urls
    from agentrelay.workstream.testing._github_store import HostedRepository, Pull

__all__ = ["full_pull", "mergeability", "simple_pull"]

# Numbers start again in each repository, ids do not: this many pull requests fit.
_IDS_PER_REPOSITORY = 100_000


def simple_pull(urls: Urls, hosted: HostedRepository, pull: Pull) -> Json:
    """Return a pull-request-simple: an item of a list.

    It has no ``merged``, no ``mergeable`` and no counts: clients that read those
    from a list work against a generous double and fail on GitHub.
    """
    api, page = urls.repository(hosted), f"{urls.page(hosted)}/pull/{pull.number}"
    url, issue = f"{api}/pulls/{pull.number}", f"{api}/issues/{pull.number}"
    number = hosted.repository_id * _IDS_PER_REPOSITORY + pull.number
    links = {
        "self": url,
        "html": page,
        "issue": issue,
        "comments": f"{issue}/comments",
        "review_comments": f"{url}/comments",
        "review_comment": f"{api}/pulls/comments{{/number}}",
        "commits": f"{url}/commits",
        "statuses": f"{api}/statuses/{pull.head_sha}",
    }
    return {
        "url": url,
        "id": number,
        "node_id": bodies.node_id("PR", number),
        "html_url": page,
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        "issue_url": issue,
        "number": pull.number,
        "state": pull.state,
        "locked": False,
        "title": pull.title,
        "user": bodies.user(urls, pull.author),
        "body": pull.body,
        "created_at": bodies.timestamp(pull.created_at),
        "updated_at": bodies.timestamp(pull.updated_at),
        "closed_at": bodies.timestamp(pull.closed_at),
        "merged_at": bodies.timestamp(pull.merged_at),
        "merge_commit_sha": _merge_commit(pull),
        "assignee": next((bodies.user(urls, login) for login in pull.assignees), None),
        "assignees": [bodies.user(urls, login) for login in pull.assignees],
        "requested_reviewers": [bodies.user(urls, login) for login in pull.reviewers],
        "requested_teams": [issues.team(urls, hosted, slug) for slug in pull.teams],
        "labels": [bodies.label(urls, hosted, name) for name in pull.labels],
        "milestone": issues.milestone_of(urls, hosted, pull),
        "draft": pull.draft,
        "commits_url": links["commits"],
        "review_comments_url": links["review_comments"],
        "review_comment_url": links["review_comment"],
        "comments_url": links["comments"],
        "statuses_url": links["statuses"],
        "head": _end(urls, pull.fork or hosted, pull.head, pull.head_sha),
        "base": _end(urls, hosted, pull.base, pull.base_sha),
        "_links": {name: {"href": address} for name, address in links.items()},
        "author_association": "COLLABORATOR",
        "auto_merge": None,
        "active_lock_reason": None,
    }


def full_pull(urls: Urls, hosted: HostedRepository, pull: Pull, git: pygit2.Repository) -> Json:
    """Return a pull-request: the answer about a single one."""
    mergeable, state = mergeability(git, pull)
    commits = commits_between(git, pull.base_sha, pull.head_sha)
    fork_point = git.merge_base(pull.base_sha, pull.head_sha)
    stats = git.diff(str(fork_point), pull.head_sha).stats
    return {
        **simple_pull(urls, hosted, pull),
        "merged": pull.merged,
        "mergeable": mergeable,
        "rebaseable": mergeable,
        "mergeable_state": state,
        "merged_by": bodies.user(urls, hosted.owner) if pull.merged else None,
        "comments": 0,
        "review_comments": 0,
        "maintainer_can_modify": pull.maintainer_can_modify,
        "commits": len(commits),
        "additions": stats.insertions,
        "deletions": stats.deletions,
        "changed_files": stats.files_changed,
    }


def mergeability(git: pygit2.Repository, pull: Pull) -> tuple[bool | None, str]:
    """Return ``mergeable`` and ``mergeable_state``.

    Both are unknown until somebody has asked once for these two commits: GitHub
    starts to compute when it is first asked, and answers that request without.
    """
    if pull.state == "closed" or pull.probed != (pull.head_sha, pull.base_sha):
        return None, "unknown"
    if not is_mergeable(git, pull.base_sha, pull.head_sha):
        return False, "dirty"
    return True, "draft" if pull.draft else "clean"


def _merge_commit(pull: Pull) -> str | None:
    """Return ``merge_commit_sha``: before the merge, that of a trial merge.

    GitHub keeps the trial's commit; here it is a name of no commit at all, so a
    client that takes it for the merge is found out.
    """
    if pull.merged or pull.state == "closed":
        return pull.merge_commit_sha
    if pull.probed != (pull.head_sha, pull.base_sha):
        return None
    trial = f"trial merge of {pull.head_sha} into {pull.base_sha}".encode()
    return hashlib.sha1(trial, usedforsecurity=False).hexdigest()


def _end(urls: Urls, hosted: HostedRepository, branch: str, sha: str) -> Json:
    return {
        "label": f"{hosted.owner}:{branch}",
        "ref": branch,
        "sha": sha,
        "user": bodies.user(urls, hosted.owner),
        "repo": bodies.repository(urls, hosted),
    }
