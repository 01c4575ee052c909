"""Cloning a repository where there is no git."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from agentrelay.workstream._durations import (
    absolute_path,
    check_callable,
    check_path,
    check_seconds,
    check_text,
)
from agentrelay.workstream._lane import check_branch_name
from agentrelay.workstream._steps import Verb
from agentrelay.workstream.credentials import TokenSource, seal_token

__all__ = ["CloneProgress", "clone"]


@dataclass(frozen=True)
class CloneProgress:
    """How far the transfer of a clone is.

    Attributes:
        received_objects: Number of objects that have arrived.
        total_objects: Number of objects there will be.
        received_bytes: Number of bytes that have arrived.
    """

    received_objects: int
    total_objects: int
    received_bytes: int


def clone(
    url: str,
    path: Union[str, os.PathLike[str]],
    *,
    branch: Optional[str] = None,
    depth: Optional[int] = None,
    progress: Optional[Callable[[CloneProgress], object]] = None,
    remote: str = "origin",
    token: TokenSource = None,
    ssh_key: Optional[Path] = None,
    network_timeout_s: float = 600.0,
) -> Path:
    """Clone a repository; lanes can be prepared in it then.

    It is made aside and renamed into place, so that at ``path`` there is either all of it or
    nothing. Repeating it is harmless: a clone of the same address that is there already is a
    success and stays as it is, and what a killed try left beside it is removed.

    Args:
        url: Address: https, ssh or a path; without a user name or password for https. It is
            written into the configuration, and no token ever is.
        path: Directory to make. It must be absent or empty; its parents are made.
        branch: Short name of the branch to check out; the remote's own when ``None``.
        depth: Fetch this many generations of one branch, and no tags; all when ``None``.
            Not for a path.
        progress: Called while objects arrive. What it raises stops the clone, and is raised.
        remote: What the remote is called.
        token: Token for https, or a callable that returns one; when ``None`` the usual
            places are asked.
        ssh_key: Private key for ssh; when ``None`` the agent and the usual files are tried.
        network_timeout_s: Longest time the transfer may take, in seconds.

    Returns:
        The absolute path of the clone.

    Raises:
        LaneConflictError: Something else is at ``path``; it stays.
        RepositoryError: The address, branch or depth cannot be used, or something cannot be
            written.
        CredentialsRejectedError: The remote refused the credential, or none was found.
        RemoteUnavailableError: No usable answer in time.
        RemoteError: The remote has no such repository.
    """
    from agentrelay.workstream._git.remotes import RemoteAccess
    from agentrelay.workstream.implementations._cloning import make_clone

    with Verb("clone") as verb:
        check_text("url", url)
        check_text("remote", remote)
        if ssh_key is not None:
            check_path("ssh_key", ssh_key)
        check_callable("progress", progress)
        check_seconds("network_timeout_s", network_timeout_s)
        if branch is not None:
            check_branch_name(branch, kind="branch")

        def tell(received_objects: int, total_objects: int, received_bytes: int) -> None:
            if progress is not None:
                progress(CloneProgress(received_objects, total_objects, received_bytes))

        access = RemoteAccess(remote, seal_token(token), ssh_key, deadline_s=network_timeout_s)
        target = Path(os.path.normpath(absolute_path("path", path)))
        verb.say(str(target))
        return make_clone(url, target, access, branch=branch, depth=depth, progress=tell)
