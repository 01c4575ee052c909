"""Tearing a lane down on libgit2."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from agentrelay.workstream.core.runtime import WorkstreamRuntime
from agentrelay.workstream.credentials import TokenSource, seal_token

__all__ = ["GitWorkstreamTeardown"]


@dataclass
class GitWorkstreamTeardown:
    """Clean up a lane: worktree, its entry, local branch, remote branch.

    Each step stands on its own. What fails becomes a concern and the rest still runs.
    Before anything is deleted it is either found elsewhere (in the target branch, by
    ancestry or by content, or under another ref) or kept under
    ``refs/agentrelay/rescue/<graph>/<id>/<time>/``; what cannot be kept is not deleted.
    While the pull request is open both branches stay.

    Constructing one opens nothing.

    Attributes:
        repo_path: Repository the lane was prepared in.
        remote: Name of the remote the lane was pushed to.
        run_dir: Directory whose ``workstreams/<id>`` holds the signal files, if it was
            set when the lane was prepared.
        token: Token for https remotes and GitHub's API, or a callable that returns one.
        ssh_key: Private key for ssh remotes.
        api_url: Base URL of GitHub's API where it cannot be told from the remote.
        full_name: ``"owner/name"`` of the repository at GitHub, likewise.
        lane_timeout_s: Longest wait for another holder of the same lane, in seconds.
        network_timeout_s: Longest time one fetch or push may take, in seconds.
    """

    repo_path: Path
    remote: str = field(default="origin", kw_only=True)
    run_dir: Optional[Path] = field(default=None, kw_only=True)
    token: TokenSource = field(default=None, kw_only=True, repr=False)
    ssh_key: Optional[Path] = field(default=None, kw_only=True)
    api_url: Optional[str] = field(default=None, kw_only=True)
    full_name: Optional[str] = field(default=None, kw_only=True)
    lane_timeout_s: float = field(default=60.0, kw_only=True)
    network_timeout_s: float = field(default=600.0, kw_only=True)

    def __post_init__(self) -> None:
        """Seal the token, so that no repr, dump or pickle of this object shows it."""
        self.token = seal_token(self.token)

    def teardown_workstream(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Delete worktree and integration branch for this workstream.

        Running it again removes what is left; on a lane that was never prepared it does
        nothing. The signal files stay, so the lane's status can still be read.

        Args:
            workstream_runtime: Workstream runtime whose resources should be cleaned up.

        Raises:
            RepositoryError: There is no repository to clean up in.
            LaneConflictError: The state names a branch that is not this lane's.
            LaneBusyError: Another thread or process is working on this lane.
        """
        from agentrelay.workstream.implementations._clean_up import clean_up

        clean_up(
            workstream_runtime,
            repo_path=Path(self.repo_path),
            remote=self.remote,
            run_dir=self.run_dir,
            token=self.token,
            ssh_key=self.ssh_key,
            api_url=self.api_url,
            full_name=self.full_name,
            lane_timeout_s=self.lane_timeout_s,
            network_timeout_s=self.network_timeout_s,
        )
