"""What a caller set a step to, checked, and as the steps want it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agentrelay.workstream._durations import (
    check_bytes,
    check_path,
    check_seconds,
    check_text,
    check_whole_seconds,
)
from agentrelay.workstream._git.exchange import RemoteAccess
from agentrelay.workstream._lane import Lane, check_branch_name
from agentrelay.workstream.core.runtime import TaskSummary
from agentrelay.workstream.credentials import seal_token
from agentrelay.workstream.errors import WorkstreamError
from agentrelay.workstream.implementations._access import ApiAccess

if TYPE_CHECKING:
    from agentrelay.workstream.core.runtime import WorkstreamArtifacts, WorkstreamRuntime
    from agentrelay.workstream.implementations.workstream_integrator import (
        GhWorkstreamIntegrator,
    )
    from agentrelay.workstream.implementations.workstream_preparer import GitWorkstreamPreparer
    from agentrelay.workstream.implementations.workstream_teardown import GitWorkstreamTeardown

__all__ = [
    "access_to_clean_up",
    "access_to_prepare",
    "access_to_submit",
    "check_artifacts",
    "check_places",
    "lane_to_prepare",
]


def check_places(
    *, repo_path: object, remote: object, ssh_key: object, run_dir: object = None
) -> None:
    """Refuse what names no place, before anything is done.

    Raises:
        RepositoryError: A setting is of another kind.
    """
    check_path("repo_path", repo_path)
    check_text("remote", remote)
    for name, value in (("ssh_key", ssh_key), ("run_dir", run_dir)):
        if value is not None:
            check_path(name, value)


def check_artifacts(artifacts: WorkstreamArtifacts) -> None:
    """Refuse summaries and concerns that are no texts: agents' answers are put there as they come.

    Raises:
        WorkstreamError: A part is of another kind; named is where it is, not what.
    """
    _check_texts("the lane's concerns", artifacts.concerns)
    summaries: object = artifacts.task_summaries
    if not isinstance(summaries, list | tuple):
        raise _no_text("task_summaries", summaries, "a list of TaskSummary")
    for number, task in enumerate(summaries, 1):
        where = f"task summary {number}"
        if not isinstance(task, TaskSummary):
            raise _no_text(where, task, "a TaskSummary")
        if not isinstance(task.task_id, str):
            raise _no_text(f"the task_id of {where}", task.task_id, "a text")
        for name in ("description", "pr_url", "role"):
            value: object = getattr(task, name)
            if value is not None and not isinstance(value, str):
                raise _no_text(f"the {name} of {where}", value, "a text or None")
        _check_texts(f"the concerns of {where}", task.concerns)


def _check_texts(where: str, value: object) -> None:
    if not isinstance(value, list | tuple):
        raise _no_text(where, value, "a list of texts")
    for text in value:
        if not isinstance(text, str):
            raise _no_text(f"one of {where}", text, "a text")


def _no_text(where: str, value: object, wanted: str) -> WorkstreamError:
    return WorkstreamError(
        f"{where}: {wanted} is wanted, and it is of type {type(value).__name__}",
        hint="Set it before the lane is integrated or merged.",
    )


def access_to_prepare(preparer: GitWorkstreamPreparer) -> RemoteAccess:
    """Return how a preparer reaches the remote.

    Raises:
        RepositoryError: A setting is of another kind.
        WorkstreamError: The token is.
    """
    check_places(
        repo_path=preparer.repo_path,
        remote=preparer.remote,
        ssh_key=preparer.ssh_key,
        run_dir=preparer.run_dir,
    )
    check_seconds("lane_timeout_s", preparer.lane_timeout_s)
    check_seconds("network_timeout_s", preparer.network_timeout_s)
    return RemoteAccess(
        preparer.remote,
        # Sealed when the preparer was made; it may have been set since.
        seal_token(preparer.token),
        preparer.ssh_key,
        deadline_s=preparer.network_timeout_s,
    )


def lane_to_prepare(preparer: GitWorkstreamPreparer, runtime: WorkstreamRuntime) -> Lane:
    """Return the lane of a runtime that is to be prepared.

    Raises:
        LaneNameError: A name cannot be a ref and a directory.
    """
    spec = runtime.spec
    lane = Lane.of(Path(preparer.repo_path), preparer.graph_name, spec.id, run_dir=preparer.run_dir)
    check_branch_name(spec.base_branch, kind="base branch")
    check_branch_name(spec.merge_target_branch, kind="merge target branch")
    return lane


def access_to_clean_up(teardown: GitWorkstreamTeardown) -> tuple[RemoteAccess, ApiAccess]:
    """Return how a teardown reaches the remote and GitHub.

    Raises:
        RepositoryError: A setting is of another kind.
        WorkstreamError: The token is.
    """
    check_places(
        repo_path=teardown.repo_path,
        remote=teardown.remote,
        ssh_key=teardown.ssh_key,
        run_dir=teardown.run_dir,
    )
    check_bytes("ignored_limit_bytes", teardown.ignored_limit_bytes)
    return _access_to_both(teardown)


def access_to_submit(integrator: GhWorkstreamIntegrator) -> tuple[RemoteAccess, ApiAccess]:
    """Return how an integrator reaches the remote and GitHub.

    Raises:
        RepositoryError: A setting is of another kind.
        WorkstreamError: The token is.
    """
    check_places(
        repo_path=integrator.repo_path,
        remote=integrator.remote,
        ssh_key=integrator.ssh_key,
    )
    return _access_to_both(integrator)


def _access_to_both(
    owner: GhWorkstreamIntegrator | GitWorkstreamTeardown,
) -> tuple[RemoteAccess, ApiAccess]:
    """Return how the remote and GitHub are reached, by the settings both kinds have."""
    check_seconds("lane_timeout_s", owner.lane_timeout_s)
    check_seconds("network_timeout_s", owner.network_timeout_s)
    check_whole_seconds("api_timeout_s", owner.api_timeout_s)
    # Sealed when the owner was made; it may have been set since.
    token = seal_token(owner.token)
    api = ApiAccess(
        token,
        owner.api_url,
        owner.full_name,
        owner.api_timeout_s,
        owner.policy,
        owner.head_full_name,
    )
    api.check()
    return (
        RemoteAccess(owner.remote, token, owner.ssh_key, deadline_s=owner.network_timeout_s),
        api,
    )
