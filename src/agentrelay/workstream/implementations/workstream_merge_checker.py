"""Telling whether lanes' integration pull requests were merged, through GitHub's API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Optional

from agentrelay.workstream._durations import check_seconds, check_whole_seconds
from agentrelay.workstream._policy import RetryPolicy, check_policy
from agentrelay.workstream._steps import Step, Verb
from agentrelay.workstream.core.merge import MergeCheck, MergeEvent
from agentrelay.workstream.core.runtime import WorkstreamRuntime, graph_of
from agentrelay.workstream.credentials import TokenSource, seal_token
from agentrelay.workstream.errors import RepositoryError
from agentrelay.workstream.implementations._watching import Watching

__all__ = ["GhIntegrationMergeChecker"]

# Looking more often is no watching: an answer takes a good part of a second.
_SHORTEST_EVERY_S: Final = 1.0


@dataclass
class GhIntegrationMergeChecker:
    """Tell whether integration pull requests were merged, by asking GitHub's API.

    Keep one for as long as its answers are wanted: it remembers what GitHub sent, and
    asks only whether that has changed. An answer that it has not costs none of the hourly
    quota. Nothing is written, here or there, and nothing is fetched by git.

    May be shared between threads. A copy that comes out of a pickle has forgotten.

    Attributes:
        repo_path: Repository the lanes were prepared in.
        remote: Name of the remote the lanes were pushed to; its address names the
            repository at GitHub.
        token: Token for the API, or a callable that returns one; when ``None`` the
            environment, netrc and the GitHub CLI's file are asked.
        ssh_key: Not used; it is here so that one set of settings fits all steps.
        api_url: Base URL of the API, instead of what the remote's address says.
        full_name: ``"owner/name"``, instead of what the remote's address says.
        head_full_name: ``"owner/name"`` of the fork that the lanes are pushed to.
        api_timeout_s: Longest silence of the API, in whole seconds; one answer may take
            four times as long.
        policy: How long and how often the API is asked in all; one check, of however many
            lanes, is one operation.
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
    _memory: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Seal the token, so that no repr, dump or pickle of this object shows it."""
        self.token = seal_token(self.token)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the settings, not what was seen."""
        return {**vars(self), "_memory": None}

    def check_merged(self, workstream_runtime: WorkstreamRuntime) -> MergeCheck:
        """Look whether the lane's pull request was merged: one request, as a rule.

        Judged are the pull requests from the lane's branch into its merge target, and no
        others. A merged one counts if it holds all that the branch holds here.
        Where no pull request of the lane is on record, one that may be an earlier lane's of
        the same name counts for nothing.

        Args:
            workstream_runtime: Workstream runtime whose pull request is looked at.

        Returns:
            The answer; ``CANNOT_TELL`` where GitHub refused, did not answer or made no sense.

        Raises:
            RepositoryError: No repository at GitHub can be told from the remote, or a
                setting is not what it should be.
        """
        with Verb("check", graph_of(workstream_runtime), workstream_runtime.spec.id) as verb:
            check = self._check([workstream_runtime], self.policy)[0]
            verb.say(f"{check.verdict.value}{': ' if check.reason else ''}{check.reason or ''}")
            return check

    def check_all(self, runtimes: Iterable[WorkstreamRuntime]) -> list[MergeCheck]:
        """Look at many lanes of this repository at once.

        Two requests serve a hundred lanes: one for the pull requests that changed last,
        one for the commits that merges have left. Asked again, the first is free while
        nothing changes, and the second is not sent. Lanes whose pull requests are not
        among the three hundred that changed last take a request each.

        Args:
            runtimes: The lanes.

        Returns:
            One answer for each, in the same order.

        Raises:
            RepositoryError: As for :meth:`check_merged`.
        """
        with Verb("check_all"):
            return self._check(list(runtimes), self.policy)

    def watch(
        self,
        runtimes: Iterable[WorkstreamRuntime],
        *,
        until_s: float,
        every_s: float = 30.0,
    ) -> Generator[MergeEvent, None, None]:
        """Look at lanes again and again until each is merged or closed, or the time is over.

        Says when a lane was merged or closed, and, once for each reason, that it cannot be
        told. When the time is over there is a last look, and a last word on each lane that
        is left. Where so many lanes were merged at once that one look does not learn how,
        their words wait for the looks that follow, a second apart. Nothing is marked: pass
        events on to :func:`agentrelay.workstream.record_merge`.

        The policy's clock and its ``wait`` are used. GitHub's own wish for the time between
        two looks, and the pause of a rate limit, are respected.

        Args:
            runtimes: The lanes.
            until_s: How long to watch, in seconds from the first event asked for; the last
                look may take ``api_timeout_s`` more.
            every_s: Seconds between two looks, at least 1.

        Yields:
            What is new, as soon as it is known.

        Raises:
            RepositoryError: As for :meth:`check_merged`.
        """
        with _told_as_watch() as verb:
            watching, end = self._begin(list(runtimes), until_s, every_s)
            while watching.waiting:
                with verb.active():
                    checks, is_over = self._look(watching.waiting, end)
                yield from watching.tell(checks, is_over=is_over, is_partial=self._is_partial)
                if watching.waiting:
                    self.policy.wait(self._pause_s(watching, every_s, end))

    async def awatch(
        self,
        runtimes: Iterable[WorkstreamRuntime],
        *,
        until_s: float,
        every_s: float = 30.0,
        wait: Optional[Callable[[float], Awaitable[object]]] = None,
    ) -> AsyncGenerator[MergeEvent, None]:
        """Watch like :meth:`watch`, without holding up an event loop.

        Looks happen in a thread. Cancelling ends a wait at once; a look that has begun ends
        by itself, within the policy, and its answer is dropped.

        Args:
            runtimes: The lanes.
            until_s: How long to watch, in seconds from the first event asked for.
            every_s: Seconds between two looks, at least 1.
            wait: Waits between looks; ``asyncio.sleep`` unless given.

        Yields:
            What is new, as soon as it is known.

        Raises:
            RepositoryError: As for :meth:`check_merged`.
        """
        # Loads what starts programs: only who asks for it pays that.
        import asyncio

        with _told_as_watch() as verb:
            watching, end = self._begin(list(runtimes), until_s, every_s)
            while watching.waiting:
                with verb.active():
                    look = asyncio.to_thread(self._look, list(watching.waiting), end)
                    checks, is_over = await look
                told = watching.tell(checks, is_over=is_over, is_partial=self._is_partial)
                for event in told:
                    yield event
                if watching.waiting:
                    await (wait or asyncio.sleep)(self._pause_s(watching, every_s, end))

    def _begin(
        self, runtimes: list[WorkstreamRuntime], until_s: float, every_s: float
    ) -> tuple[Watching, float]:
        """Check the settings of a watch; return its state, and when it ends."""
        check_policy(self.policy)
        check_seconds("until_s", until_s)
        check_seconds("every_s", every_s)
        if every_s < _SHORTEST_EVERY_S:
            raise RepositoryError(
                f"every_s is {every_s!r}", hint="Leave at least a second between two looks."
            )
        return Watching(runtimes), self.policy.monotonic() + until_s

    def _look(self, runtimes: list[WorkstreamRuntime], end: float) -> tuple[list[MergeCheck], bool]:
        """Look once; tell whether it was the last time."""
        from agentrelay.workstream.implementations._merge_truth import cannot_tell

        now = self.policy.monotonic()
        left_s = end - now
        if self._memory is not None and now < self._memory.quiet_until:
            # Asking during a pause makes it longer.
            return [cannot_tell(self._memory.quiet_reason)] * len(runtimes), left_s <= 0
        longest_s = min(self.policy.deadline_s, max(left_s, self.api_timeout_s))
        checks = self._check(runtimes, replace(self.policy, deadline_s=longest_s))
        # A look that ran past the end was the last: another would take as long once more.
        return checks, self.policy.monotonic() >= end

    def _is_partial(self, check: MergeCheck) -> bool:
        """Tell whether another look would say more about how a lane was merged."""
        return (check.merge_commit, check.head) in self._memory.put_off

    def _pause_s(self, watching: Watching, every_s: float, end: float) -> float:
        """Return the seconds to the next look, none of them after the end."""
        now = self.policy.monotonic()
        wished_s = _SHORTEST_EVERY_S if watching.hurries else every_s
        asked_s = max(self._memory.interval_s, self._memory.quiet_until - now)
        return max(0.0, min(max(wished_s, float(asked_s)), end - now))

    def _check(self, runtimes: list[WorkstreamRuntime], policy: RetryPolicy) -> list[MergeCheck]:
        """Look at lanes, within a policy."""
        from agentrelay.workstream._git.remotes import RemoteAccess
        from agentrelay.workstream._github.memory import Memory
        from agentrelay.workstream.implementations._access import ApiAccess
        from agentrelay.workstream.implementations._merge_truth import check_lanes

        check_whole_seconds("api_timeout_s", self.api_timeout_s)
        api = ApiAccess(
            self.token,
            self.api_url,
            self.full_name,
            self.api_timeout_s,
            policy,
            self.head_full_name,
        )
        api.check()
        if self._memory is None:
            self._memory = Memory()
        with Step("ask GitHub"):
            return check_lanes(
                Path(self.repo_path),
                runtimes,
                access=RemoteAccess(self.remote, self.token, self.ssh_key),
                api=api,
                memory=self._memory,
            )


@contextmanager
def _told_as_watch() -> Iterator[Verb]:
    """Say that a watch begins and how it ended; between two looks nobody is in its steps.

    A generator's caller goes on in the same context, and may end it in another.
    """
    verb = Verb("watch")
    verb.begin()
    try:
        yield verb
    except BaseException as error:
        verb.end(error)
        raise
    verb.end()
