"""What a lane changed, as diffs and as commits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrelay.workstream._changes import CommitInfo, LaneDiff
from agentrelay.workstream._git.comparing import (
    commits_between,
    diff_between,
    diff_of_worktree,
    fork_point,
)
from agentrelay.workstream._git.failures import is_torn, repository_failures
from agentrelay.workstream._git.history import with_history
from agentrelay.workstream._git.locks import reading
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.tree_status import newer_tip
from agentrelay.workstream._steps import Step
from agentrelay.workstream.errors import RepositoryError
from agentrelay.workstream.implementations._workspace import standing

if TYPE_CHECKING:
    from agentrelay.workstream.implementations.workstream_workspace import LaneWorkspace

__all__ = ["list_commits", "show_changes"]


def show_changes(workspace: LaneWorkspace, against: str) -> LaneDiff:
    """Return a diff; see ``LaneWorkspace.diff``.

    Raises:
        WorkstreamError: As documented there.
    """
    repository, _ = standing(workspace._lane)  # noqa: SLF001 - the other half of the class

    def attempt() -> LaneDiff:
        tip = _head(repository)
        if against == "head":
            return diff_of_worktree(repository, tip)
        history = with_history(repository)
        base = fork_point(history, tip, _other(workspace, history, against))
        if base is None:
            raise RepositoryError(
                f"'{workspace.branch}' and its {against} have no history in common",
                path=workspace.path,
                hint="In a shallow clone, fetch more of the history.",
            )
        return diff_between(repository, base, tip)

    with Step("compare"), repository_failures("compare", path=workspace.path):
        return reading(attempt, torn=is_torn)


def list_commits(
    workspace: LaneWorkspace, against: str, most: int | None
) -> tuple[CommitInfo, ...]:
    """Return commits; see ``LaneWorkspace.log``.

    Raises:
        WorkstreamError: As documented there.
    """
    given: object = most
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 0):
        raise RepositoryError(
            f"most is {ascii(given)[:60]}, which is no number of commits", hint="Pass 0 or more."
        )
    repository, _ = standing(workspace._lane)  # noqa: SLF001 - the other half of the class

    def attempt() -> tuple[CommitInfo, ...]:
        history = with_history(repository)
        other = _other(workspace, history, against)
        return commits_between(history, other, _head(repository), most=most)

    with Step("list commits"), repository_failures("list commits", path=workspace.path):
        return reading(attempt, torn=is_torn)


def _head(repository: OpenRepository) -> str:
    return str(repository.handle.head.peel().id)


def _other(workspace: LaneWorkspace, repository: OpenRepository, against: object) -> str:
    """Return the commit of what is compared with.

    Raises:
        RepositoryError: There is no such thing, or it is not known here.
    """
    spec, remote = workspace.runtime.spec, workspace.remote
    names = {"base": spec.base_branch, "target": spec.merge_target_branch}
    found: str | None = None
    if against == "remote":
        found = repository.resolve(f"refs/remotes/{remote}/{workspace.branch}")
    elif isinstance(against, str) and against in names:
        found = newer_tip(repository, names[against], remote=remote)
    else:
        raise RepositoryError(
            f"cannot compare with {ascii(against)[:60]}",
            path=workspace.path,
            hint="Say 'base', 'target', 'remote', or for a diff 'head'.",
        )
    if found is None:
        raise RepositoryError(
            f"the {against} of '{workspace.branch}' is not known in '{workspace.path}'",
            path=workspace.path,
            hint=f"Fetch it from '{remote}' first.",
        )
    return found
