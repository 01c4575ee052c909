"""The steps of merging a lane's pull request: look, ask whether it may be, merge once."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NoReturn, Optional

from agentrelay.workstream._git.remotes import RemoteAccess, open_remote
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream._github import merging
from agentrelay.workstream._github.client import GitHubClient
from agentrelay.workstream._github.memory import Memory
from agentrelay.workstream._github.reading import PullRequest
from agentrelay.workstream._policy import Deadline
from agentrelay.workstream._steps import Step
from agentrelay.workstream.core.merge import MergeCheck, MergeVerdict
from agentrelay.workstream.core.runtime import WorkstreamRuntime
from agentrelay.workstream.errors import (
    MergeConflictError,
    MergeNotReadyError,
    MergeRefusedError,
    PullRequestError,
    RateLimitedError,
)
from agentrelay.workstream.implementations._access import ApiAccess, renamed
from agentrelay.workstream.implementations._listed_concerns import lists_other_concerns
from agentrelay.workstream.implementations._merge_truth import (
    Found,
    Inquiry,
    Question,
    put_question,
    with_reason,
)
from agentrelay.workstream.implementations._pull_text import (
    render_merge_message,
    render_merge_title,
)

__all__ = ["MergePlan", "merge_lane"]

_REBASE_HINT: Final = "Bring the target into the lane's branch, and integrate it again."


@dataclass(frozen=True)
class MergePlan:
    """How a caller wants lanes to be merged.

    Attributes:
        method: Way to merge.
        pending_checks: Who waits for required checks: GitHub, where it has auto-merge for
            the repository, or the caller.
        accepted_concerns: Concerns that do not stand against it, in their very words.
    """

    method: Literal["merge", "squash", "rebase"]
    pending_checks: Literal["github", "caller"]
    accepted_concerns: Collection[str]


def merge_lane(
    repo_path: Path,
    runtime: WorkstreamRuntime,
    plan: MergePlan,
    *,
    access: RemoteAccess,
    api: ApiAccess,
) -> MergeCheck:
    """Merge one lane's pull request; see ``GhIntegrationAutoMerger.merge_integration_pr``.

    Raises:
        WorkstreamError: As documented there.
    """
    repository = open_repository(repo_path)
    question = put_question(repository, repo_path, runtime)
    address = api.address(open_remote(repository, access).url)
    with api.client(address) as client, client.deadline() as deadline:
        inquiry = Inquiry(repository, client, Memory(), head_full_name=api.head_full_name)
        with Step("look for the pull request"):
            found = inquiry.look(question)
        if found.verdict is not MergeVerdict.MERGED:
            _refuse_open_concerns(client, runtime, plan, found)
            pull = _pull_to_merge(client, question, found)
            with Step("merge the pull request"):
                outcome = _Merge(client, deadline, runtime, plan, pull).run()
            if isinstance(outcome, MergeCheck):
                return with_reason(outcome, renamed(client))
            found = Found(MergeVerdict.MERGED, outcome)
        check = inquiry.explain({question: found})[question]
        return with_reason(check, renamed(client))


def _refuse_open_concerns(
    client: GitHubClient, runtime: WorkstreamRuntime, plan: MergePlan, found: Found
) -> None:
    """Refuse while there is a concern nobody has accepted; a task's is one as well."""
    known = list(runtime.artifacts.concerns)
    for task in runtime.artifacts.task_summaries:
        known += task.concerns
    against = [text for text in known if text not in plan.accepted_concerns]
    if against:
        listed = "; ".join(f"'{text}'" for text in against)
        _refuse(
            client, f"there are open concerns: {listed}", "Settle them, or accept them by name."
        )
    if found.pull is not None and lists_other_concerns(
        found.pull.body,
        tuple(runtime.artifacts.task_summaries),
        tuple(runtime.artifacts.concerns),
        host=client.address.host,
        secrets=client.secrets_in_use(),
    ):
        # Concerns are in memory only; another process had some when it described the lane.
        _refuse(
            client,
            f"the description of {found.pull.url} lists concerns that this process does not know",
            "Merge it by hand, or from the process that integrated the lane.",
        )


def _pull_to_merge(client: GitHubClient, question: Question, found: Found) -> PullRequest:
    """Return the open pull request, if it shows what the lane holds."""
    pull = found.pull
    if pull is None or found.verdict is not MergeVerdict.OPEN:
        reason = found.reason or f"{'' if pull is None else pull.url} was closed without a merge"
        _refuse(client, reason, "Integrate the lane again, if it is to be merged.")
    if question.tip is None:
        # Whoever may push decides what the pull request holds.
        _refuse(
            client,
            f"'{question.branch}' is gone here, and nothing says that {pull.url} is at its commit",
            "Prepare the workstream again, or merge it by hand.",
        )
    if question.tip != pull.head_sha:
        _refuse(
            client,
            f"{pull.url} is at {pull.head_sha}, and '{question.branch}' is at {question.tip} here",
            "Integrate the lane again, or look who pushed to it.",
        )
    if pull.is_draft:
        _refuse(client, f"{pull.url} is a draft", "Mark it as ready for review.")
    return pull


def _refuse(client: GitHubClient, why: str, hint: str, status: int | None = None) -> NoReturn:
    message = f"nothing was merged into {client.address.full_name}: {why}"
    raise MergeRefusedError(message, repository=client.address.full_name, status=status, hint=hint)


class _Merge:
    """One try to merge one pull request at one commit."""

    def __init__(
        self,
        client: GitHubClient,
        deadline: Deadline,
        runtime: WorkstreamRuntime,
        plan: MergePlan,
        pull: PullRequest,
    ) -> None:
        """Prepare; nothing is asked yet."""
        self._client = client
        self._deadline = deadline
        self._plan = plan
        self._pull = pull
        self._waits = 0
        host, secrets = client.address.host, client.secrets_in_use()
        self._title = render_merge_title(runtime.spec.id, pull.number, host=host, secrets=secrets)
        self._message = render_merge_message(
            runtime.spec,
            pull.head_branch,
            tuple(runtime.artifacts.task_summaries),
            host=host,
            secrets=secrets,
        )

    def run(self) -> MergeCheck | PullRequest:
        """Merge, or let GitHub do it later.

        Returns:
            The pull request, merged, or the answer that it is not merged yet.
        """
        while True:
            done = self._wait_until_known()
            if done is not None:
                return done
            try:
                return merging.merge(
                    self._client,
                    self._pull,
                    method=self._plan.method,
                    title=self._title,
                    message=self._message,
                )
            except RateLimitedError:
                raise
            except PullRequestError as error:
                done = self._after_refusal(error)
                if done is not None:
                    return done

    def _wait_until_known(self) -> MergeCheck | PullRequest | None:
        """Wait until GitHub knows whether it merges; ``None`` when it is to be tried."""
        while True:
            now = merging.look(self._client, self._pull.number)
            if now.pull.head_sha != self._pull.head_sha:
                _refuse(
                    self._client,
                    f"{self._pull.url} went on to {now.pull.head_sha} meanwhile",
                    "Look who pushed to it, and integrate the lane again.",
                )
            if now.pull.state == "merged":
                return now.pull
            if now.pull.state != "open":
                _refuse(self._client, f"{self._pull.url} was closed meanwhile", "Ask who did it.")
            if now.is_automatic:
                return self._later("auto-merge is enabled: GitHub merges it when it may be")
            if now.mergeable is False:
                self._conflict(f"{self._pull.url} conflicts with '{self._pull.base_branch}'")
            if now.state == "behind":
                self._conflict(f"{self._pull.url} is behind '{self._pull.base_branch}'")
            if now.mergeable:
                return None
            self._wait("GitHub does not know yet whether it merges")

    def _after_refusal(self, error: PullRequestError) -> MergeCheck | PullRequest | None:
        """Do what a refusal asks for; ``None`` when it is to be tried again."""
        # Somebody else may have been faster: then it was refused for that alone.
        merged = merging.merged_as(self._client, self._pull)
        if merged is not None:
            return merged
        demand = merging.demand_of(error)
        if demand == "again":
            self._wait("its target keeps moving", error)
        elif demand == "queue":
            return self._enqueue()
        elif demand == "checks":
            return self._for_checks(error)
        elif demand == "rebase":
            self._conflict(error.message, error)
        else:
            hint = error.hint or "Ask somebody who may change that."
            raise MergeRefusedError(
                error.message,
                repository=error.repository,
                status=error.status,
                hint=hint,
            ) from error
        return None

    def _enqueue(self) -> MergeCheck:
        try:
            merging.enqueue(self._client, self._pull)
        except RateLimitedError:
            raise
        except PullRequestError as error:
            if merging.demand_of(error) == "checks":
                self._not_ready(error.message, error)
            _refuse_like(error)
        return self._later("it is in the merge queue: GitHub merges it in its turn")

    def _for_checks(self, error: PullRequestError) -> MergeCheck | None:
        if self._plan.pending_checks == "github":
            try:
                merging.enable_auto_merge(
                    self._client,
                    self._pull,
                    method=self._plan.method,
                    title=self._title,
                    message=self._message,
                )
            except RateLimitedError:
                raise
            except PullRequestError as refused:
                if not re.search(r"not allowed|clean status", refused.message, re.IGNORECASE):
                    _refuse_like(refused)
            else:
                return self._later("auto-merge is enabled: GitHub merges it when its checks pass")
        self._wait("required checks have not passed", error)
        return None

    def _later(self, reason: str) -> MergeCheck:
        return MergeCheck(
            MergeVerdict.OPEN, url=self._pull.url, head=self._pull.head_sha, reason=reason
        )

    def _wait(self, what: str, cause: Optional[PullRequestError] = None) -> None:
        """Wait for something that passes, within the policy."""
        self._waits += 1
        policy = self._deadline.policy
        # A policy without waits would ask as fast as it can until the time is over.
        hurries = policy.first_wait_s == 0 or policy.longest_wait_s == 0
        may_wait = not hurries or self._waits < policy.attempts
        with Step("wait"):
            has_waited = may_wait and self._deadline.back_off(self._waits)
        if not has_waited:
            self._not_ready(f"{self._pull.url} cannot be merged yet: {what}", cause)

    def _not_ready(self, message: str, cause: Optional[PullRequestError]) -> NoReturn:
        raise MergeNotReadyError(
            message,
            repository=self._client.address.full_name,
            status=None if cause is None else cause.status,
            hint="Try again later, or allow more time: RetryPolicy(deadline_s=...).",
        ) from cause

    def _conflict(self, message: str, cause: Optional[PullRequestError] = None) -> NoReturn:
        raise MergeConflictError(
            message,
            repository=self._client.address.full_name,
            status=None if cause is None else cause.status,
            hint=_REBASE_HINT,
        ) from cause


def _refuse_like(error: PullRequestError) -> NoReturn:
    raise MergeRefusedError(
        error.message, repository=error.repository, status=error.status, hint=error.hint
    ) from error
