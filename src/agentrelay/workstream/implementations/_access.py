"""How a step reaches the two other sides: the git remote and GitHub's API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from agentrelay.workstream._github.address import GitHubAddress, parse_address
from agentrelay.workstream._github.client import GitHubClient
from agentrelay.workstream.credentials import TokenSource

__all__ = ["ApiAccess"]


@dataclass(frozen=True)
class ApiAccess:
    """How a caller wants GitHub's API to be reached.

    Attributes:
        token: Explicit token, or a callable that returns one; else the usual places.
        api_url: Base URL of the API, instead of what the remote's address says.
        full_name: ``"owner/name"``, instead of what the remote's address says.
        timeout_s: Longest silence of the API, in whole seconds.
    """

    token: TokenSource = field(default=None, repr=False)
    api_url: str | None = None
    full_name: str | None = None
    timeout_s: int = 15

    def address(self, remote_url: str) -> GitHubAddress:
        """Return the repository at GitHub that a remote's address names.

        Raises:
            RepositoryError: It names none, and the settings do not either.
        """
        return parse_address(remote_url, api_url=self.api_url, full_name=self.full_name)

    @contextmanager
    def client(self, address: GitHubAddress) -> Iterator[GitHubClient]:
        """Open a client for the length of a ``with`` block."""
        with closing(GitHubClient(address, token=self.token, timeout_s=self.timeout_s)) as made:
            yield made
