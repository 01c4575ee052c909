"""Lists that are asked for again and again: what has not changed costs no quota.

Source:
    docs.github.com, "Best practices for using the REST API": a conditional request that
    is answered 304 does not count against the primary rate limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from agentrelay.workstream._github.failures import unusable

if TYPE_CHECKING:
    from agentrelay.workstream._commits import CommitFacts
    from agentrelay.workstream._github.address import GitHubAddress
    from agentrelay.workstream._github.client import GitHubClient
    from agentrelay.workstream._github.transport import Answer

__all__ = ["Memory", "Page"]

T = TypeVar("T")

_UNCHANGED: Final = 304

# Pages of lists, and commits: far more than one watch needs, and no leak.
_MOST_PAGES: Final = 512
_MOST_COMMITS: Final = 20_000

# GitHub asks for a minute and the like; an hour is no polling.
_LONGEST_INTERVAL_S: Final = 3_600


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list, read.

    Attributes:
        items: What is wanted of it.
        has_next: Whether there are more pages.
    """

    items: tuple[T, ...]
    has_next: bool


@dataclass
class Memory:
    """What one caller has seen of one GitHub; may be shared between threads.

    Attributes:
        known_as: What the repository was called when its new name was learnt.
        address: Its new name, once it turned out to have one.
        commits: Commits that were read, by their ids: they never change.
        methods: How merges were done and what was there before, by their commit and the
            pull request's head: that does not change either.
        put_off: Merges of ``methods`` that were not asked about yet, for there were many.
        interval_s: Seconds GitHub last asked to leave between two looks; 0 where it did not.
        quiet_until: When a pause that GitHub asked for ends, by the policy's clock.
        quiet_reason: What it said.
    """

    known_as: GitHubAddress | None = None
    address: GitHubAddress | None = None
    commits: dict[str, CommitFacts] = field(default_factory=dict)
    methods: dict[tuple[str, str], tuple[Any, str | None]] = field(default_factory=dict)
    put_off: set[tuple[str, str]] = field(default_factory=set)
    interval_s: float = 0.0
    quiet_until: float = -math.inf
    quiet_reason: str = ""
    _pages: dict[tuple[object, ...], tuple[str, Page[Any]]] = field(default_factory=dict)

    def page(
        self,
        client: GitHubClient,
        path: str,
        *,
        operation: str,
        parameters: Callable[[GitHubAddress], Mapping[str, str | int]],
        read: Callable[[list[Any], GitHubAddress], tuple[T, ...]],
        variant: str = "",
    ) -> Page[T]:
        """Ask for one page, under the condition that it has changed.

        Args:
            client: Client of the repository.
            path: Path of the list.
            operation: What is being done, to end "could not …".
            parameters: The query, which may follow from the repository's address.
            read: Reads the items that are wanted; may raise what
                :func:`agentrelay.workstream._github.failures.unusable` returns.
            variant: Tells two ways to read one list apart.

        Raises:
            WorkstreamError: As :meth:`GitHubClient.request`.
        """

        def key() -> tuple[object, ...]:
            address = client.address
            return (address.api_url, path, tuple(sorted(parameters(address).items())), variant)

        known = self._pages.get(key())
        fresh: list[tuple[T, ...]] = []

        def check(answer: Answer) -> None:
            fresh.clear()
            if answer.status == _UNCHANGED:
                return
            if not isinstance(answer.data, list):
                raise unusable(operation, client.address, "it is not a list")
            fresh.append(read(answer.data, client.address))

        answer = client.request(
            "GET",
            path,
            operation=operation,
            parameters=parameters,
            etag=None if known is None else known[0],
            check=check,
        )
        interval = answer.headers.get("x-poll-interval", "")
        asked_s = float(interval) if interval.isdecimal() and len(interval) < 9 else 0.0  # noqa: PLR2004 - no such wait
        self.interval_s = min(asked_s, _LONGEST_INTERVAL_S)
        if not fresh:
            assert known is not None
            return known[1]
        page = Page(fresh[0], 'rel="next"' in answer.headers.get("link", ""))
        etag = answer.headers.get("etag")
        if etag:
            if len(self._pages) >= _MOST_PAGES:
                self._pages.clear()
            self._pages[key()] = (etag, page)
        return page

    def remember(self, commits: tuple[CommitFacts, ...]) -> None:
        """Keep commits that were read."""
        if len(self.commits) >= _MOST_COMMITS:
            self.commits.clear()
        self.commits.update((commit.sha, commit) for commit in commits)
