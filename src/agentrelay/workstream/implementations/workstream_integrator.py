"""Opening a lane's integration pull request through GitHub's API."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from agentrelay.workstream.core.runtime import WorkstreamRuntime
from agentrelay.workstream.credentials import TokenSource, seal_token

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
        api_timeout_s: Longest wait for one answer of the API, in whole seconds.
        network_timeout_s: Longest time one fetch or push may take, in seconds.
    """

    repo_path: Path
    remote: str = field(default="origin", kw_only=True)
    token: TokenSource = field(default=None, kw_only=True, repr=False)
    ssh_key: Optional[Path] = field(default=None, kw_only=True)
    api_url: Optional[str] = field(default=None, kw_only=True)
    full_name: Optional[str] = field(default=None, kw_only=True)
    api_timeout_s: int = field(default=15, kw_only=True)
    network_timeout_s: float = field(default=600.0, kw_only=True)

    def __post_init__(self) -> None:
        """Seal the token, so that no repr, dump or pickle of this object shows it."""
        self.token = seal_token(self.token)

    def create_integration_pr(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Create a pull request from the integration branch to the merge target.

        An open pull request of the lane is adopted. A branch with no commits ahead of
        its target opens nothing: the lane becomes MERGED and a concern says so.

        Args:
            workstream_runtime: Workstream runtime whose integration branch should be
                submitted as a pull request.

        Raises:
            WorkstreamError: The lane was never prepared.
            RepositoryError: No repository at GitHub can be told from the remote.
            LaneConflictError: Lane and remote branch have diverged.
            PushRejectedError: The remote refused commits the lane holds.
            PullRequestError: GitHub refused the pull request.
            CredentialsRejectedError: The token was refused, or none was found.
            RemoteUnavailableError: No usable answer in time.
        """
        from agentrelay.workstream.implementations._submit import submit

        submit(
            workstream_runtime,
            repo_path=Path(self.repo_path),
            remote=self.remote,
            token=self.token,
            ssh_key=self.ssh_key,
            api_url=self.api_url,
            full_name=self.full_name,
            api_timeout_s=self.api_timeout_s,
            network_timeout_s=self.network_timeout_s,
        )
