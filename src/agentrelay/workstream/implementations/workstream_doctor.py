"""Finding out, without changing anything, whether a repository is ready for lanes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Optional

from agentrelay.workstream._durations import absolute_path, check_seconds, check_whole_seconds
from agentrelay.workstream._lane import check_branch_name
from agentrelay.workstream._steps import Verb
from agentrelay.workstream.credentials import TokenSource, seal_token

__all__ = ["Finding", "FindingLevel", "diagnose"]

# A listing of refs takes about a second; the rest is for a slow line.
_NETWORK_TIMEOUT_S = 60.0
_API_TIMEOUT_S = 15


class FindingLevel(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: What was looked at, in kebab case; it stays the same between releases.
        level: ``PROBLEM`` where lanes will fail, ``NOTE`` where they may, or where it could
            not be told, ``OK`` otherwise.
        sentence: What was found. That of a check that could not be made begins with
            ``"not checked: "``. It holds no secret.
        fix: What to do about it; ``None`` when nothing needs to be done.
    """

    name: str
    level: FindingLevel
    sentence: str
    fix: Optional[str] = None


def diagnose(
    repo_path: Path,
    *,
    remote: str = "origin",
    base_branch: str = "main",
    merge_target_branch: Optional[str] = None,
    token: TokenSource = None,
    ssh_key: Optional[Path] = None,
    api_url: Optional[str] = None,
    full_name: Optional[str] = None,
    api_timeout_s: int = _API_TIMEOUT_S,
    network_timeout_s: float = _NETWORK_TIMEOUT_S,
    clock: Callable[[], float] = time.time,
) -> list[Finding]:
    """Check all that a lane needs: machine, repository, remote, credential, GitHub.

    Nothing is changed: no file, no ref, no setting, here or there. The remote is asked for
    its list of refs twice, as before a fetch and as before a push; GitHub gets two GET
    requests. A :class:`GitHubApp` mints a token for them, as it would for a lane. No lock is
    taken, so it may run beside lanes.

    Each check stands on its own: what one of them meets is its finding, and those that
    need its result say "not checked".

    Args:
        repo_path: Repository the lanes are to be in.
        remote: Name of the remote their branches are pushed to.
        base_branch: Branch they are cut from.
        merge_target_branch: Branch they are to be merged into; ``base_branch`` unless given.
        token: As for the implementations.
        ssh_key: Private key for an ssh remote.
        api_url: Base URL of GitHub's API, instead of what the remote's address says.
        full_name: ``"owner/name"``, instead of what the remote's address says.
        api_timeout_s: Longest silence of the API, in whole seconds; a whole answer may take
            four times as long.
        network_timeout_s: Longest time one listing of refs may take, in seconds. A server
            that says nothing at all is given up after as long, or 60 s if that is
            shorter; one that cannot be connected to, after 15 s.
        clock: The machine's clock, in seconds since the epoch.

    Returns:
        One finding a check, always the same names in the same order.

    Raises:
        RepositoryError: A setting is no duration, or the path cannot be made absolute.
        LaneNameError: A branch name cannot be one.
        WorkstreamError: ``token`` is neither text, a secret, a callable nor a provider.
    """
    from agentrelay.workstream.implementations._diagnosis import Question, examine

    with Verb("diagnose"):
        check_seconds("network_timeout_s", network_timeout_s)
        check_whole_seconds("api_timeout_s", api_timeout_s)
        check_branch_name(base_branch, kind="base branch")
        if merge_target_branch is not None:
            check_branch_name(merge_target_branch, kind="merge target branch")
        question = Question(
            repo_path=absolute_path("repo_path", repo_path),
            remote=remote,
            base_branch=base_branch,
            merge_target_branch=merge_target_branch or base_branch,
            token=seal_token(token),
            ssh_key=ssh_key,
            api_url=api_url,
            full_name=full_name,
            api_timeout_s=api_timeout_s,
            network_timeout_s=network_timeout_s,
            clock=clock,
        )
        return examine(question)
