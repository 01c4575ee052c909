"""What a repository of the GitHub double demands of a merge, and its words when it refuses.

Source:
    docs.github.com, "About protected branches" and "Merging a pull request with a merge
    queue"; the texts are those that Renovate and users of other clients match or pasted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrelay.workstream.testing._github_refusals import RefusedError
from agentrelay.workstream.testing._github_store import contains

if TYPE_CHECKING:
    import pygit2

    from agentrelay.workstream.testing._github_store import HostedRepository, Pull

__all__ = ["refuse_method", "state_by_rules", "why_blocked"]


def why_blocked(hosted: HostedRepository, git: pygit2.Repository, pull: Pull) -> str | None:
    """Return what stands against merging a pull request, in GitHub's words."""
    rules = hosted.rules
    approvals = sum(review.commit_sha == pull.head_sha for review in pull.reviews)
    if approvals < rules.reviews:
        return (
            f"At least {rules.reviews} approving review is required by reviewers with write access."
        )
    if rules.is_strict and not contains(git, pull.head_sha, pull.base_sha):
        return "Head branch is out of date. Review and try the merge again."
    reported = hosted.checks.get(pull.head_sha, {})
    for name in sorted(rules.checks):
        if name not in reported:
            return f'Required status check "{name}" is expected.'
        if not reported[name]:
            return f'Required status check "{name}" is failing.'
    return None


def state_by_rules(hosted: HostedRepository, git: pygit2.Repository, pull: Pull) -> str:
    """Return ``mergeable_state`` of a pull request that has no conflict."""
    why = why_blocked(hosted, git, pull)
    if why is None:
        return "clean"
    return "behind" if "out of date" in why else "blocked"


def refuse_method(hosted: HostedRepository, method: str) -> None:
    """Refuse a way to merge that the repository does not allow.

    Raises:
        RefusedError: 405, in GitHub's words.
    """
    if method not in hosted.rules.methods:
        name = {"merge": "Merge commits", "squash": "Squash merges", "rebase": "Rebase merges"}
        raise RefusedError.not_mergeable(f"{name[method]} are not allowed on this repository.")
