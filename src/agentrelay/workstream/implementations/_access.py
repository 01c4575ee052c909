"""How a step reaches the two other sides: the git remote and GitHub's API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

from agentrelay.workstream._github.address import GitHubAddress, is_full_name, parse_address
from agentrelay.workstream._github.client import GitHubClient
from agentrelay.workstream._policy import RetryPolicy, check_policy
from agentrelay.workstream.credentials import TokenSource
from agentrelay.workstream.errors import RepositoryError

__all__ = ["ApiAccess", "renamed"]


@dataclass(frozen=True)
class ApiAccess:
    """How a caller wants GitHub's API to be reached.

    Attributes:
        token: Explicit token, or a callable that returns one; else the usual places.
        api_url: Base URL of the API, instead of what the remote's address says.
        full_name: ``"owner/name"``, instead of what the remote's address says.
        timeout_s: Longest silence of the API, in seconds.
        policy: How long and how often the API is asked in all.
        head_full_name: ``"owner/name"`` of the fork the lanes are pushed to, ``None``
            when that is the repository itself.
    """

    token: TokenSource = field(default=None, repr=False)
    api_url: str | None = None
    full_name: str | None = None
    timeout_s: float = 15
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    head_full_name: str | None = None

    def check(self) -> None:
        """Refuse settings that cannot be used, before anything is done.

        Raises:
            RepositoryError: A setting is of another kind, or the fork's name is none.
        """
        check_policy(self.policy)
        for name in ("api_url", "full_name", "head_full_name"):
            value: object = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise RepositoryError(f"{name} is {value!r}", hint=f"Pass {name} as text, or None.")
        if self.head_full_name is not None and not is_full_name(self.head_full_name):
            raise RepositoryError(
                f"head_full_name {self.head_full_name!r} is not a repository's name",
                hint='pass "owner/name"',
            )

    def impatient(self) -> ApiAccess:
        """Return the same access for a question whose answer is not needed."""
        return replace(self, policy=replace(self.policy, attempts=1))

    def address(self, remote_url: str) -> GitHubAddress:
        """Return the repository at GitHub that a remote's address names.

        Raises:
            RepositoryError: It names none, and the settings do not either.
        """
        return parse_address(remote_url, api_url=self.api_url, full_name=self.full_name)

    @contextmanager
    def client(self, address: GitHubAddress) -> Iterator[GitHubClient]:
        """Open a client for the length of a ``with`` block, which has one deadline."""
        client = GitHubClient(
            address, token=self.token, timeout_s=self.timeout_s, policy=self.policy
        )
        with closing(client) as made, made.deadline():
            yield made


def renamed(client: GitHubClient, *, known_as: str | None = None) -> str | None:
    """Say that the repository was found under another name, if it was.

    Args:
        client: Has asked.
        known_as: What the settings call it, where the client was made with a name that had
            been learnt before.
    """
    old, new = known_as or client.renamed_from, client.address.full_name
    if old is None or old == new:
        return None
    return f"{old} is now called {new}: change the remote's URL, or pass full_name={new!r}"
