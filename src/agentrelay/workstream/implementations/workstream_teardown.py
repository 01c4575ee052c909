"""Tearing a lane down on libgit2."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from agentrelay.workstream._policy import RetryPolicy
from agentrelay.workstream._steps import Verb
from agentrelay.workstream.core.runtime import WorkstreamRuntime, graph_of
from agentrelay.workstream.credentials import TokenSource, seal_token

__all__ = ["GitWorkstreamTeardown"]


@dataclass
class GitWorkstreamTeardown:
    """Clean up a lane: worktree, its entry, local branch, remote branch.

    Each step stands on its own. What fails becomes a concern and the rest still runs.
    Before anything is deleted it is either found elsewhere (in the target branch, by
    ancestry or by content, or under another ref) or kept under
    ``refs/agentrelay/rescue/<graph>/<id>/<time>/``; what cannot be kept is not deleted.
    While a pull request of the branch is open both branches stay. GitHub is asked, unless
    the target has the very commits already; where it must be asked and cannot, they stay too.

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
        head_full_name: ``"owner/name"`` of the fork that the lanes are pushed to, likewise.
        api_timeout_s: Longest silence of the API, in whole seconds; one answer may take
            four times as long.
        policy: How long and how often the API is asked in all.
        lane_timeout_s: Longest wait for another holder of the same lane, in seconds.
        network_timeout_s: Longest time one fetch or push may take, in seconds, looked at
            whenever something arrives; a remote that says nothing at all is given up
            after a minute.
        ignored_limit_bytes: Size up to which ignored files of the worktree are kept, all
            together. What is beyond it is named in a concern and goes with the worktree.
    """

    repo_path: Path
    remote: str = field(default="origin", kw_only=True)
    run_dir: Optional[Path] = field(default=None, kw_only=True)
    token: TokenSource = field(default=None, kw_only=True, repr=False)
    ssh_key: Optional[Path] = field(default=None, kw_only=True)
    api_url: Optional[str] = field(default=None, kw_only=True)
    full_name: Optional[str] = field(default=None, kw_only=True)
    head_full_name: Optional[str] = field(default=None, kw_only=True)
    api_timeout_s: int = field(default=15, kw_only=True)
    policy: RetryPolicy = field(default_factory=RetryPolicy, kw_only=True)
    lane_timeout_s: float = field(default=60.0, kw_only=True)
    network_timeout_s: float = field(default=600.0, kw_only=True)
    ignored_limit_bytes: int = field(default=64 << 20, kw_only=True)

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
            RepositoryError: There is no repository to clean up in, or a setting is of
                another kind.
            LaneConflictError: The state names a branch that is not this lane's.
            LaneBusyError: Another thread or process is working on this lane.
        """
        from agentrelay.workstream.implementations._clean_up import clean_up
        from agentrelay.workstream.implementations._named_lane import lane_of
        from agentrelay.workstream.implementations._settings import access_to_clean_up

        with Verb("teardown", graph_of(workstream_runtime), workstream_runtime.spec.id):
            access, api = access_to_clean_up(self)
            lane = lane_of(workstream_runtime, Path(self.repo_path), self.run_dir)
            if lane is None:
                return
            clean_up(
                lane,
                workstream_runtime,
                access=access,
                api=api,
                lane_timeout_s=self.lane_timeout_s,
                ignored_limit_bytes=self.ignored_limit_bytes,
            )
