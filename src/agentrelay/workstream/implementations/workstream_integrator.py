"""Opening a lane's integration pull request through GitHub's API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Union

from agentrelay.workstream._lane import Lane, check_branch_name
from agentrelay.workstream._policy import RetryPolicy
from agentrelay.workstream._steps import Verb
from agentrelay.workstream.core.runtime import WorkstreamRuntime, graph_of
from agentrelay.workstream.credentials import TokenSource, seal_token
from agentrelay.workstream.errors import WorkstreamError

__all__ = ["GhWorkstreamIntegrator"]


@dataclass
class GhWorkstreamIntegrator:
    """Create the workstream integration pull request through GitHub's API.

    Opens a pull request from the lane's integration branch into the workstream's
    ``merge_target_branch``. It is never merged here: that is left for human review.
    Commits the remote lacks are pushed first, so the pull request never shows less than
    the lane holds.

    Constructing one opens nothing.

    Attributes:
        repo_path: Repository the lane was prepared in.
        remote: Name of the remote the lane was pushed to; its address names the
            repository at GitHub.
        token: Token for https remotes and the API, or a callable that returns one; when
            ``None`` the environment, netrc and the GitHub CLI's file are asked.
        ssh_key: Private key for ssh remotes.
        api_url: Base URL of the API, instead of what the remote's address says.
        full_name: ``"owner/name"``, instead of what the remote's address says.
        head_full_name: ``"owner/name"`` of the fork that the lanes are pushed to, where
            pull requests go from there into ``full_name``.
        api_timeout_s: Longest silence of the API, in whole seconds; one answer may take
            four times as long.
        policy: How long and how often the API is asked in all; one integration is one
            operation.
        draft: Whether a new pull request is to be a draft; where the repository has none
            an ordinary one is opened, and a concern says so.
        labels: Names of labels it is to have; GitHub makes those it lacks.
        reviewers: Logins whose review is requested, except of those who have given one.
        team_reviewers: Slugs of teams whose review is requested, while there is no review.
        assignees: Logins it is assigned to.
        milestone: Number of its milestone, or title of an open one.
        lane_timeout_s: Longest wait for another holder of the same lane, in seconds.
        network_timeout_s: Longest time one fetch or push may take, in seconds, looked at
            whenever something arrives; a remote that says nothing at all is given up
            after a minute.
    """

    repo_path: Path
    remote: str = field(default="origin", kw_only=True)
    token: TokenSource = field(default=None, kw_only=True, repr=False)
    ssh_key: Optional[Path] = field(default=None, kw_only=True)
    api_url: Optional[str] = field(default=None, kw_only=True)
    full_name: Optional[str] = field(default=None, kw_only=True)
    head_full_name: Optional[str] = field(default=None, kw_only=True)
    api_timeout_s: int = field(default=15, kw_only=True)
    policy: RetryPolicy = field(default_factory=RetryPolicy, kw_only=True)
    draft: bool = field(default=False, kw_only=True)
    labels: Sequence[str] = field(default=(), kw_only=True)
    reviewers: Sequence[str] = field(default=(), kw_only=True)
    team_reviewers: Sequence[str] = field(default=(), kw_only=True)
    assignees: Sequence[str] = field(default=(), kw_only=True)
    milestone: Optional[Union[int, str]] = field(default=None, kw_only=True)
    lane_timeout_s: float = field(default=60.0, kw_only=True)
    network_timeout_s: float = field(default=600.0, kw_only=True)

    def __post_init__(self) -> None:
        """Seal the token, so that no repr, dump or pickle of this object shows it."""
        self.token = seal_token(self.token)

    def create_integration_pr(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Create a pull request from the integration branch to the merge target.

        An open pull request of the lane is adopted; beside one into another branch than
        the target no second one is opened. A branch with no commits ahead of its target
        opens nothing: the lane becomes MERGED and a concern says so. Labels, reviewers,
        assignees and milestone are asked for as far as they are missing; the pull request
        stands without them, and a concern says what could not be had.

        Args:
            workstream_runtime: Workstream runtime whose integration branch should be
                submitted as a pull request.

        Raises:
            WorkstreamError: The lane was never prepared.
            LaneNameError: The base or target is no name of a branch; nothing was changed.
            RepositoryError: No repository at GitHub can be told from the remote, the branch
                or its target does not exist, or a setting is not what it should be.
            LaneConflictError: Lane and remote branch have diverged, the worktree is not on
                the lane's branch, or the lane's open pull request goes into another branch
                than its target.
            LaneBusyError: Another thread or process is working on this lane.
            PushRejectedError: The remote refused commits the lane holds.
            PullRequestError: GitHub refused the pull request.
            RateLimitedError: GitHub asked for a pause longer than ``policy`` allows; the
                hint says when to come back.
            CredentialsRejectedError: The token was refused, or none was found.
            RemoteUnavailableError: No usable answer in time.
        """
        from agentrelay.workstream.implementations._extras import check_draft, read_extras
        from agentrelay.workstream.implementations._settings import (
            access_to_submit,
            check_artifacts,
        )
        from agentrelay.workstream.implementations._submit import submit

        with Verb("integrate", graph_of(workstream_runtime), workstream_runtime.spec.id):
            access, api = access_to_submit(self)
            check_draft(self.draft)
            extras = read_extras(
                labels=self.labels,
                reviewers=self.reviewers,
                team_reviewers=self.team_reviewers,
                assignees=self.assignees,
                milestone=self.milestone,
            )
            check_artifacts(workstream_runtime.artifacts)
            spec, branch = workstream_runtime.spec, workstream_runtime.state.branch_name
            if branch is None:
                message = f"workstream '{spec.id}' has no integration branch"
                raise WorkstreamError(message, hint="Prepare the workstream first.")
            check_branch_name(spec.base_branch, kind="base branch")
            check_branch_name(spec.merge_target_branch, kind="merge target branch")
            submit(
                Lane.from_branch(Path(self.repo_path), branch, spec.id),
                workstream_runtime,
                access=access,
                api=api,
                lane_timeout_s=self.lane_timeout_s,
                draft=self.draft,
                extras=extras,
            )
