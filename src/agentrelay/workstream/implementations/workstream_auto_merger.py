"""Merging a lane's integration pull request through GitHub's API, where that is wanted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Optional

from agentrelay.workstream._durations import check_whole_seconds
from agentrelay.workstream._policy import RetryPolicy
from agentrelay.workstream._steps import Verb
from agentrelay.workstream.core.merge import MergeCheck
from agentrelay.workstream.core.runtime import WorkstreamRuntime, graph_of
from agentrelay.workstream.credentials import TokenSource, seal_token
from agentrelay.workstream.errors import RepositoryError

__all__ = ["GhIntegrationAutoMerger"]


@dataclass
class GhIntegrationAutoMerger:
    """Merge integration pull requests through GitHub's API.

    No other part of the library uses one: merging is for people unless a program was told
    otherwise by making this and calling it, or by a runner's ``merge``.

    Attributes:
        repo_path: Repository the lanes were prepared in.
        remote: Name of the remote the lanes were pushed to; its address names the
            repository at GitHub.
        token: Token for the API, or a callable that returns one; it needs
            "Contents: write" besides "Pull requests: write".
        ssh_key: Not used; it is here so that one set of settings fits all steps.
        api_url: Base URL of the API, instead of what the remote's address says.
        full_name: ``"owner/name"``, instead of what the remote's address says.
        head_full_name: ``"owner/name"`` of the fork that the lanes are pushed to.
        api_timeout_s: Longest silence of the API, in whole seconds; one answer may take
            four times as long.
        policy: How long and how often the API is asked in all; one merge is one operation,
            the wait for checks included.
        method: Way to merge: ``"merge"``, ``"squash"`` or ``"rebase"``.
        pending_checks: Who waits for required checks that are pending: ``"github"``, where
            the repository has auto-merge, or ``"caller"``, within the policy. GitHub's
            auto-merge also merges what somebody with the right to write pushes meanwhile.
        accepted_concerns: Concerns that do not stand against a merge, in their very words.
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
    method: Literal["merge", "squash", "rebase"] = field(default="merge", kw_only=True)
    pending_checks: Literal["github", "caller"] = field(default="github", kw_only=True)
    accepted_concerns: Collection[str] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        """Seal the token, so that no repr, dump or pickle of this object shows it."""
        self.token = seal_token(self.token)

    def merge_integration_pr(self, workstream_runtime: WorkstreamRuntime) -> MergeCheck:
        """Merge the lane's pull request, at the lane's own commit, with a message of ours.

        Waits, within the policy, until GitHub knows whether it merges, and for required
        checks. Where the repository has a merge queue it is put there. After an answer that
        leaves open whether it was merged it is looked at before anything else.

        Args:
            workstream_runtime: Workstream runtime whose pull request is to be merged.

        Returns:
            ``MERGED``; or ``OPEN``, with the reason, where GitHub will merge it.

        Raises:
            MergeNotReadyError: Required checks are pending, the target keeps moving, or GitHub
                does not know yet: wait.
            MergeConflictError: It conflicts with its target or is behind it: rebase.
            MergeRefusedError: Open concerns, a rule, a review, a permission, a draft, a push by
                somebody else: ask.
            WorkstreamError: The lane was never prepared.
            RepositoryError: No repository at GitHub can be told from the remote, or a
                setting is not what it should be.
            RateLimitedError: GitHub asked for a pause longer than ``policy`` allows.
            CredentialsRejectedError: The token was refused, or none was found.
            PullRequestError: GitHub refused to show the pull request.
            RemoteUnavailableError: No usable answer in time; calling again finds out what
                came of it.
        """
        from agentrelay.workstream._git.remotes import RemoteAccess
        from agentrelay.workstream.implementations._access import ApiAccess
        from agentrelay.workstream.implementations._merge_lane import MergePlan, merge_lane
        from agentrelay.workstream.implementations._settings import check_artifacts

        with Verb("merge", graph_of(workstream_runtime), workstream_runtime.spec.id) as verb:
            check_whole_seconds("api_timeout_s", self.api_timeout_s)
            _check_choice("method", self.method, ("merge", "squash", "rebase"))
            _check_choice("pending_checks", self.pending_checks, ("github", "caller"))
            accepted: object = self.accepted_concerns
            if isinstance(accepted, str | bytes) or not isinstance(accepted, Collection):
                raise RepositoryError(
                    "accepted_concerns is no list of texts",
                    hint="Pass a list of the concerns' own words.",
                )
            api = ApiAccess(
                self.token,
                self.api_url,
                self.full_name,
                self.api_timeout_s,
                self.policy,
                self.head_full_name,
            )
            api.check()
            check_artifacts(workstream_runtime.artifacts)
            check = merge_lane(
                Path(self.repo_path),
                workstream_runtime,
                MergePlan(self.method, self.pending_checks, self.accepted_concerns),
                access=RemoteAccess(self.remote, self.token, self.ssh_key),
                api=api,
            )
            verb.say(check.verdict.value)
            return check


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a setting that is none of a few words.

    Raises:
        RepositoryError: It is none.
    """
    if value not in choices:
        listed = ", ".join(f'"{choice}"' for choice in choices)
        raise RepositoryError(f"{name} is {value!r}", hint=f"Set {name} to one of {listed}.")
