"""Bodies of the GitHub double's answers, complete enough for GitHub's own schemas.

Pure: data in, JSON-ready dictionaries out. Commits are read through the handle that
is passed in, and nothing is changed.

Source:
    GitHub's description of its REST API, version 2022-11-28 (schemas pull-request,
    pull-request-simple, repository, full-repository, simple-user, commit, and others).
"""

from __future__ import annotations

import base64
import zlib
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pygit2

    from agentrelay.workstream.testing._github_settings import Caller
    from agentrelay.workstream.testing._github_store import HostedRepository

__all__ = [
    "Json",
    "Urls",
    "authenticated_user",
    "branch",
    "commit",
    "diff_entries",
    "full_repository",
    "git_ref",
    "label",
    "node_id",
    "repository",
    "timestamp",
    "user",
]

Json = dict[str, Any]

# Every address template of a repository's schema that follows the pattern
# "<name>_url": "<repository>/<path>".
_REPOSITORY_PATHS: Final = {
    "archive": "/{archive_format}{/ref}",
    "assignees": "/assignees{/user}",
    "blobs": "/git/blobs{/sha}",
    "branches": "/branches{/branch}",
    "collaborators": "/collaborators{/collaborator}",
    "comments": "/comments{/number}",
    "commits": "/commits{/sha}",
    "compare": "/compare/{base}...{head}",
    "contents": "/contents/{+path}",
    "contributors": "/contributors",
    "deployments": "/deployments",
    "downloads": "/downloads",
    "events": "/events",
    "forks": "/forks",
    "git_commits": "/git/commits{/sha}",
    "git_refs": "/git/refs{/sha}",
    "git_tags": "/git/tags{/sha}",
    "hooks": "/hooks",
    "issue_comment": "/issues/comments{/number}",
    "issue_events": "/issues/events{/number}",
    "issues": "/issues{/number}",
    "keys": "/keys{/key_id}",
    "labels": "/labels{/name}",
    "languages": "/languages",
    "merges": "/merges",
    "milestones": "/milestones{/number}",
    "notifications": "/notifications{?since,all,participating}",
    "pulls": "/pulls{/number}",
    "releases": "/releases{/id}",
    "stargazers": "/stargazers",
    "statuses": "/statuses/{sha}",
    "subscribers": "/subscribers",
    "subscription": "/subscription",
    "tags": "/tags",
    "teams": "/teams",
    "trees": "/git/trees{/sha}",
}

_USER_PATHS: Final = {
    "followers": "/followers",
    "following": "/following{/other_user}",
    "gists": "/gists{/gist_id}",
    "starred": "/starred{/owner}{/repo}",
    "subscriptions": "/subscriptions",
    "organizations": "/orgs",
    "repos": "/repos",
    "events": "/events{/privacy}",
    "received_events": "/received_events",
}


class Urls:
    """Where the API and the web pages are, as the current client reaches them.

    Attributes:
        api: Base of the API, without a slash at the end.
        web: Base of the web pages, without a slash at the end.
    """

    def __init__(self, api: str, web: str) -> None:
        """Keep the two bases."""
        self.api = api
        self.web = web

    def repository(self, hosted: HostedRepository) -> str:
        """Return the API address of a repository."""
        return f"{self.api}/repos/{hosted.full_name}"

    def page(self, hosted: HostedRepository) -> str:
        """Return the web address of a repository."""
        return f"{self.web}/{hosted.full_name}"


def timestamp(moment: datetime | None) -> str | None:
    """Return a moment the way GitHub writes it: UTC, whole seconds, ``Z``."""
    if moment is None:
        return None
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def node_id(kind: str, number: int) -> str:
    """Return an opaque id that is the same in every run."""
    return f"{kind}_{base64.urlsafe_b64encode(number.to_bytes(8, 'big')).decode().rstrip('=')}"


def _stable_number(text: str) -> int:
    """Return a number that depends on the text alone, for ids nobody counts."""
    return zlib.crc32(text.encode())


def user(urls: Urls, login: str) -> Json:
    """Return a simple-user."""
    number = _stable_number(login)
    url = f"{urls.api}/users/{login}"
    return {
        "login": login,
        "id": number,
        "node_id": node_id("U", number),
        "avatar_url": f"{urls.web}/avatars/u/{number}",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{urls.web}/{login}",
        **{f"{name}_url": url + path for name, path in _USER_PATHS.items()},
        "type": "User",
        "site_admin": False,
    }


def authenticated_user(urls: Urls, login: str, created_at: datetime) -> Json:
    """Return a public-user: the answer of ``GET /user``."""
    return {
        **user(urls, login),
        **dict.fromkeys(("name", "company", "location", "email", "hireable", "bio")),
        "blog": "",
        **dict.fromkeys(("public_repos", "public_gists", "followers", "following"), 0),
        "created_at": timestamp(created_at),
        "updated_at": timestamp(created_at),
    }


def repository(urls: Urls, hosted: HostedRepository) -> Json:
    """Return a repository, as it is inside a pull request."""
    url, page = urls.repository(hosted), urls.page(hosted)
    created_at = timestamp(hosted.created_at)
    is_open = sum(pull.state == "open" for pull in hosted.pulls.values())
    bare_host = urls.web.partition("://")[2]
    return {
        "id": hosted.repository_id,
        "node_id": node_id("R", hosted.repository_id),
        "name": hosted.name,
        "full_name": hosted.full_name,
        "private": hosted.settings.is_private,
        "owner": user(urls, hosted.owner),
        "html_url": page,
        "description": None,
        "fork": hosted.parent is not None,
        "url": url,
        **{f"{name}_url": url + path for name, path in _REPOSITORY_PATHS.items()},
        "git_url": f"git://{bare_host}/{hosted.full_name}.git",
        "ssh_url": f"ssh://git@{bare_host}/{hosted.full_name}.git",
        "clone_url": f"{page}.git",
        "svn_url": page,
        "mirror_url": None,
        "homepage": None,
        "language": None,
        **dict.fromkeys(("forks_count", "stargazers_count", "watchers_count", "size"), 0),
        **dict.fromkeys(("forks", "watchers"), 0),
        "default_branch": hosted.default_branch,
        "open_issues_count": is_open,
        "open_issues": is_open,
        "license": None,
        **dict.fromkeys(("has_issues", "has_projects", "has_wiki", "has_downloads"), True),
        **dict.fromkeys(("has_pages", "has_discussions"), False),
        "archived": hosted.settings.is_archived,
        "disabled": hosted.settings.is_disabled,
        "topics": [],
        "visibility": "private" if hosted.settings.is_private else "public",
        "pushed_at": created_at,
        "created_at": created_at,
        "updated_at": created_at,
        "allow_forking": True,
        "is_template": False,
        "web_commit_signoff_required": False,
    }


def full_repository(urls: Urls, hosted: HostedRepository, caller: Caller = "user") -> Json:
    """Return a full-repository: the answer of ``GET /repos/{owner}/{repo}``."""
    methods = hosted.settings.merge_methods
    return {
        **repository(urls, hosted),
        **hosted.settings.permissions(caller),
        "allow_rebase_merge": "rebase" in methods,
        "allow_squash_merge": "squash" in methods,
        "allow_merge_commit": "merge" in methods,
        "delete_branch_on_merge": False,
        "subscribers_count": 0,
        "network_count": 0,
    }


def _person(signature: pygit2.Signature) -> Json:
    zone = timezone(timedelta(minutes=signature.offset))
    moment = datetime.fromtimestamp(signature.time, zone)
    return {"name": signature.name, "email": signature.email, "date": timestamp(moment)}


def commit(urls: Urls, hosted: HostedRepository, found: pygit2.Commit) -> Json:
    """Return a commit; no author is matched with an account."""
    sha = str(found.id)
    url, page = urls.repository(hosted), urls.page(hosted)
    return {
        "sha": sha,
        "node_id": node_id("C", int(sha[:12], 16)),
        "commit": {
            "author": _person(found.author),
            "committer": _person(found.committer),
            "message": found.message.rstrip("\n"),
            "tree": {"sha": str(found.tree_id), "url": f"{url}/git/trees/{found.tree_id}"},
            "url": f"{url}/git/commits/{sha}",
            "comment_count": 0,
            "verification": {
                "verified": False,
                "reason": "unsigned",
                "signature": None,
                "payload": None,
                "verified_at": None,
            },
        },
        "url": f"{url}/commits/{sha}",
        "html_url": f"{page}/commit/{sha}",
        "comments_url": f"{url}/commits/{sha}/comments",
        "author": None,
        "committer": None,
        "parents": [
            {
                "sha": str(parent),
                "url": f"{url}/commits/{parent}",
                "html_url": f"{page}/commit/{parent}",
            }
            for parent in found.parent_ids
        ],
    }


def branch(urls: Urls, hosted: HostedRepository, name: str, tip: pygit2.Commit) -> Json:
    """Return a branch-with-protection; nothing is required of a protected one."""
    is_protected = name in hosted.settings.protected_branches
    url = f"{urls.repository(hosted)}/branches/{name}"
    return {
        "name": name,
        "commit": commit(urls, hosted, tip),
        "_links": {"self": url, "html": f"{urls.page(hosted)}/tree/{name}"},
        "protected": is_protected,
        "protection": {
            "enabled": is_protected,
            "required_status_checks": {
                "enforcement_level": "off",
                "contexts": [],
                "checks": [],
            },
        },
        "protection_url": f"{url}/protection",
    }


def git_ref(urls: Urls, hosted: HostedRepository, ref: str, sha: str) -> Json:
    """Return a git-ref that points at a commit."""
    url = urls.repository(hosted)
    return {
        "ref": ref,
        "node_id": node_id("REF", _stable_number(ref)),
        "url": f"{url}/git/{ref}",
        "object": {"type": "commit", "sha": sha, "url": f"{url}/git/commits/{sha}"},
    }


def label(urls: Urls, hosted: HostedRepository, name: str) -> Json:
    """Return a label, in the grey GitHub gives a new one."""
    number = _stable_number(name)
    return {
        "id": number,
        "node_id": node_id("LA", number),
        "url": f"{urls.repository(hosted)}/labels/{name}",
        "name": name,
        "description": None,
        "color": "ededed",
        "default": False,
        "archived_at": None,
        "archived_by": None,
    }


def diff_entries(urls: Urls, hosted: HostedRepository, diff: pygit2.Diff, sha: str) -> list[Json]:
    """Return the diff-entries of a comparison whose newer side is ``sha``."""
    names = {"A": "added", "D": "removed", "M": "modified", "R": "renamed", "T": "changed"}
    url, page = urls.repository(hosted), urls.page(hosted)
    entries = []
    for patch in diff:
        assert patch is not None  # Only a diff read from text has entries without a patch.
        path = patch.delta.new_file.path
        _, added, removed = patch.line_stats
        entries.append(
            {
                "sha": str(patch.delta.new_file.id),
                "filename": path,
                "status": names[patch.delta.status_char()],
                "additions": added,
                "deletions": removed,
                "changes": added + removed,
                "blob_url": f"{page}/blob/{sha}/{path}",
                "raw_url": f"{page}/raw/{sha}/{path}",
                "contents_url": f"{url}/contents/{path}?ref={sha}",
            }
        )
    return entries
