"""What may be done with a pull request, and what GitHub says when it may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agentrelay.workstream.testing import _github_merge as merging
from agentrelay.workstream.testing._github_refusals import RefusedError
from agentrelay.workstream.testing._github_store import Pull, branch_tip, contains

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import pygit2

    from agentrelay.workstream.testing._github_merge import MergeMethod
    from agentrelay.workstream.testing._github_store import HostedRepository

__all__ = ["BODY_UNITS", "create", "edit", "merge_pull"]

# GitHub's limits. The body's is counted in UTF-16 units here: the strictest of the
# readings clients report, so text that passes here passes there.
BODY_UNITS: Final = 65536
_TITLE_CHARACTERS: Final = 256


def create(
    hosted: HostedRepository,
    git: pygit2.Repository,
    *,
    head: str,
    base: str,
    title: str,
    body: str | None,
    author: str,
    fork: HostedRepository | None = None,
    draft: bool = False,
    maintainer_can_modify: bool = False,
    now: datetime,
) -> Pull:
    """Open a pull request.

    Args:
        hosted: The repository, its states up to date.
        git: The same, opened.
        head: Branch.
        base: Branch.
        title: Title; it may not be blank.
        body: Text, or ``None``.
        author: Login of who opens it.
        fork: Repository that holds the head, ``None`` for this one.
        draft: Whether it is a draft.
        maintainer_can_modify: Kept, and without consequences here.
        now: Time it is opened.

    Returns:
        The new pull request.

    Raises:
        RefusedError: 422, in GitHub's words.
    """
    errors = _text_errors(title=title, body=body)
    head_sha, base_sha = hosted.head_tip(git, head, fork), branch_tip(git, base)
    errors += [
        _invalid(name) for name, sha in (("base", base_sha), ("head", head_sha)) if sha is None
    ]
    if head_sha is not None and base_sha is not None:
        errors += _pair_errors(hosted, git, (head, head_sha), (base, base_sha), fork=fork)
    if errors or head_sha is None or base_sha is None:
        raise RefusedError.validation(*errors)
    if draft and not hosted.knows_drafts:
        raise RefusedError.no_drafts()
    pull = Pull(
        number=hosted.next_number,
        title=title,
        body=body,
        head=head,
        base=base,
        head_sha=head_sha,
        base_sha=base_sha,
        created_at=now,
        updated_at=now,
        author=author,
        fork=fork,
        draft=draft,
        maintainer_can_modify=maintainer_can_modify,
    )
    hosted.next_number += 1
    hosted.pulls[pull.number] = pull
    return pull


def edit(
    hosted: HostedRepository,
    git: pygit2.Repository,
    pull: Pull,
    fields: Mapping[str, Any],
    *,
    now: datetime,
) -> None:
    """Change a pull request; when anything is refused, nothing is changed.

    Args:
        hosted: The repository, its states up to date.
        git: The same, opened.
        pull: The pull request.
        fields: ``title``, ``body``, ``base``, ``state``, ``maintainer_can_modify``.
        now: Time of the change.

    Raises:
        RefusedError: 422, in GitHub's words.
    """
    title, base = fields.get("title"), fields.get("base")
    errors = _text_errors(title=pull.title if title is None else title, body=fields.get("body"))
    if base is not None and base != pull.base:
        errors += _new_base_errors(hosted, git, pull, base)
    if errors:
        raise RefusedError.validation(*errors)
    state = fields.get("state") or pull.state
    if state == "open" and pull.state == "closed":
        _reopen(hosted, git, pull)
    elif state == "closed" and pull.state == "open":
        pull.close(now)
    if title is not None:
        pull.title = title
    if "body" in fields:
        pull.body = fields["body"]
    if base is not None:
        pull.base = base
        pull.base_sha = branch_tip(git, base) or pull.base_sha
    if "maintainer_can_modify" in fields:
        pull.maintainer_can_modify = bool(fields["maintainer_can_modify"])
    pull.updated_at = now


def merge_pull(
    hosted: HostedRepository,
    git: pygit2.Repository,
    pull: Pull,
    *,
    method: MergeMethod,
    head_sha: str | None = None,
    title: str | None = None,
    message: str | None = None,
    now: datetime,
) -> str:
    """Merge a pull request, if GitHub would.

    Args:
        hosted: The repository, its states up to date.
        git: The same, opened.
        pull: The pull request.
        method: How.
        head_sha: Commit the head must be at, or ``None`` for any.
        title: First line of the commit, or ``None`` for GitHub's.
        message: Rest of its message, or ``None`` for GitHub's.
        now: Time of the merge.

    Returns:
        The commit the base points at afterwards.

    Raises:
        RefusedError: 405 or 409, in GitHub's words.
    """
    if pull.state == "closed":
        raise RefusedError.not_mergeable()
    if pull.draft:
        raise RefusedError.not_mergeable("Pull Request is still a draft")
    if head_sha is not None and head_sha != pull.head_sha:
        raise RefusedError.head_modified()
    merged_sha = merging.merge(
        git, hosted, pull, method=method, title=title, message=message, now=now
    )
    # Other pull requests may have had their commits in this one.
    hosted.refresh(git, now)
    return merged_sha


def _reopen(hosted: HostedRepository, git: pygit2.Repository, pull: Pull) -> None:
    """Open a closed pull request again, if its branches allow it."""
    if pull.merged:
        raise RefusedError.state_unchanged("The pull request has been merged.")
    head, base = hosted.head_tip(git, pull.head, pull.fork), branch_tip(git, pull.base)
    for branch, sha in ((pull.head, head), (pull.base, base)):
        if sha is None:
            raise RefusedError.state_unchanged(f"The {branch} branch has been deleted.")
    assert head is not None
    assert base is not None
    if not contains(git, head, pull.head_sha):
        raise RefusedError.state_unchanged(f"The {pull.head} branch was force-pushed or recreated.")
    if contains(git, base, head):
        raise RefusedError.state_unchanged(f"There are no new commits on the {pull.head} branch.")
    errors = _duplicate_errors(hosted, head=pull.head, base=pull.base, fork=pull.fork)
    if errors:
        raise RefusedError.validation(*errors)
    pull.state, pull.closed_at = "open", None
    pull.head_sha, pull.base_sha = head, base


def _text_errors(*, title: str, body: str | None) -> list[dict[str, str]]:
    errors = []
    if not title.strip():
        errors.append({"resource": "Issue", "code": "missing_field", "field": "title"})
    if len(title) > _TITLE_CHARACTERS:
        errors.append(_too_long("title", _TITLE_CHARACTERS))
    units = len((body or "").encode("utf-16-le", "surrogatepass")) // 2
    if units > BODY_UNITS:
        errors.append(_too_long("body", BODY_UNITS))
    return errors


def _too_long(name: str, limit: int) -> dict[str, str]:
    message = f"{name} is too long (maximum is {limit} characters)"
    return {"resource": "Issue", "code": "custom", "field": name, "message": message}


def _invalid(name: str) -> dict[str, str]:
    return {"resource": "PullRequest", "field": name, "code": "invalid"}


def _custom(message: str) -> dict[str, str]:
    return {"resource": "PullRequest", "code": "custom", "message": message}


def _pair_errors(
    hosted: HostedRepository,
    git: pygit2.Repository,
    head: tuple[str, str],
    base: tuple[str, str],
    *,
    fork: HostedRepository | None,
) -> list[dict[str, str]]:
    """Return what is wrong with these two branches, each with its commit, together."""
    (head_branch, head_sha), (base_branch, base_sha) = head, base
    if git.merge_base(head_sha, base_sha) is None:
        return [_custom(f"The {head_branch} branch has no history in common with {base_branch}")]
    if contains(git, base_sha, head_sha):
        owners = (f"{hosted.owner}:", f"{fork.owner}:") if fork is not None else ("", "")
        between = f"{owners[0]}{base_branch} and {owners[1]}{head_branch}"
        return [_custom(f"No commits between {between}")]
    return _duplicate_errors(hosted, head=head_branch, base=base_branch, fork=fork)


def _duplicate_errors(
    hosted: HostedRepository, *, head: str, base: str, fork: HostedRepository | None
) -> list[dict[str, str]]:
    for pull in hosted.pulls.values():
        if pull.state == "open" and (pull.head, pull.base, pull.fork) == (head, base, fork):
            owner = (fork or hosted).owner
            return [_custom(f"A pull request already exists for {owner}:{head}.")]
    return []


def _new_base_errors(
    hosted: HostedRepository, git: pygit2.Repository, pull: Pull, base: str
) -> list[dict[str, str]]:
    """Return what is wrong with moving a pull request to another base."""
    base_sha = branch_tip(git, base)
    if base_sha is None:
        return [_invalid("base")]
    if pull.state == "closed":
        return [_custom("Cannot change the base branch of a closed pull request.")]
    if contains(git, base_sha, pull.head_sha):
        return [
            _custom(
                f"There are no new commits between base branch '{base}'"
                f" and head branch '{pull.head}'"
            )
        ]
    if _duplicate_errors(hosted, head=pull.head, base=base, fork=pull.fork):
        return [
            _custom(
                f"A pull request already exists for base branch '{base}'"
                f" and head branch '{pull.head}'"
            )
        ]
    return []
