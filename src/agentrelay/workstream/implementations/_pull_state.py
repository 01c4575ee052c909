"""Asking GitHub whether one remembered pull request is still open."""

from __future__ import annotations

from agentrelay.workstream.credentials import TokenSource
from agentrelay.workstream.errors import RepositoryError

__all__ = ["pull_state"]


def pull_state(
    url: str,
    *,
    remote_url: str,
    token: TokenSource,
    api_url: str | None,
    full_name: str | None,
) -> str:
    """Return ``"open"``, ``"closed"`` or ``"merged"``.

    Args:
        url: The pull request's URL, as the lane remembers it.
        remote_url: Address of the lane's remote; the token goes to its host only.
        token: Explicit token, or a callable that returns one.
        api_url: Base URL of the API, where it cannot be told from the remote.
        full_name: ``"owner/name"``, likewise.

    Raises:
        WorkstreamError: GitHub could not be asked.
    """
    from agentrelay.workstream._github.address import is_own_pull_url, parse_address
    from agentrelay.workstream._github.client import GitHubClient
    from agentrelay.workstream._github.pulls import get_pull

    address = parse_address(remote_url, api_url=api_url, full_name=full_name)
    last = url.rstrip("/").rpartition("/")[2]
    if not last.isdecimal() or not is_own_pull_url(address, url, int(last)):
        message = f"'{url}' is not a pull request of '{address.full_name}'"
        raise RepositoryError(message, hint="The lane's pr_created signal names another place.")
    return get_pull(GitHubClient(address, token=token), int(last)).state
