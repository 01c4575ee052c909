"""Preparing a lane on libgit2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from agentrelay.workstream._steps import Verb
from agentrelay.workstream.core.runtime import WorkstreamRuntime
from agentrelay.workstream.credentials import TokenSource, seal_token
from agentrelay.workstream.implementations.checkout_progress import CheckoutProgress, teller

__all__ = ["GitWorkstreamPreparer"]


@dataclass
class GitWorkstreamPreparer:
    """Provision a worktree and integration branch for a workstream lane.

    The worktree is ``<repo_path>/.worktrees/<graph_name>/<workstream_id>`` on a new
    branch ``agentrelay/<graph_name>/<workstream_id>/integration``, cut from the newer
    of the remote's and the local ``base_branch`` and pushed so that task pull requests
    can target it. The branch tracks its remote branch. The user's branches, HEAD,
    index and files are never touched.

    Constructing one opens nothing: the repository may not exist yet.

    Attributes:
        repo_path: Top of a working tree (main or linked), or a bare repository.
        graph_name: Name of the task graph; part of the lane's branch and paths.
        remote: Name of the remote lanes are pushed to.
        run_dir: Directory whose ``workstreams/<id>`` holds the signal files;
            ``<repo_path>/.workflow/<graph_name>`` when ``None``.
        token: Token for https remotes, or a callable that returns one; when ``None``
            the environment, netrc and the GitHub CLI's file are asked.
        ssh_key: Private key for ssh remotes; when ``None`` the agent and the usual
            files are tried.
        lane_timeout_s: Longest wait for another holder of the same lane, in seconds.
        network_timeout_s: Longest time one fetch or push may take, in seconds, looked at
            whenever something arrives; a remote that says nothing at all is given up
            after a minute.
        progress: Called with a ``CheckoutProgress`` every few hundred files while a lane's
            files are written, in the thread that prepares it. What it raises becomes a
            concern of the lane.
    """

    repo_path: Path
    graph_name: str
    remote: str = field(default="origin", kw_only=True)
    run_dir: Optional[Path] = field(default=None, kw_only=True)
    token: TokenSource = field(default=None, kw_only=True, repr=False)
    ssh_key: Optional[Path] = field(default=None, kw_only=True)
    lane_timeout_s: float = field(default=60.0, kw_only=True)
    network_timeout_s: float = field(default=600.0, kw_only=True)
    progress: Optional[Callable[[CheckoutProgress], None]] = field(
        default=None, kw_only=True, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Seal the token, so that no repr, dump or pickle of this object shows it."""
        self.token = seal_token(self.token)

    def prepare_workstream(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Provision worktree and integration branch for this workstream.

        A lane that is provably this repository's is adopted and completed, whatever an
        earlier try left behind. Anything else in the way is a conflict and stays.

        Args:
            workstream_runtime: Workstream runtime to provision. ``state`` is filled in
                before the branch is pushed.

        Raises:
            LaneNameError: A name cannot be a ref and a directory; nothing was changed.
            RepositoryError: No such repository, remote or base branch, or a setting that is
                of another kind; nothing was changed.
            LaneConflictError: Something that is not this lane's is in the way.
            LaneBusyError: Another thread or process is working on this lane.
            LeaseLostError: Somebody else created the lane's remote branch first.
            PushRejectedError: The remote refused the branch.
            CredentialsRejectedError: The remote refused the credential, or none was found.
            RemoteUnavailableError: No usable answer in time.
        """
        from agentrelay.workstream.implementations._provision import provision
        from agentrelay.workstream.implementations._settings import (
            access_to_prepare,
            lane_to_prepare,
        )

        with Verb("prepare", self.graph_name, workstream_runtime.spec.id):
            access = access_to_prepare(self)
            provision(
                lane_to_prepare(self, workstream_runtime),
                workstream_runtime,
                access=access,
                lane_timeout_s=self.lane_timeout_s,
                tell=teller(workstream_runtime, self.progress),
            )
