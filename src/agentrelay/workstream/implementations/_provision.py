"""The steps of preparing a lane, in an order that a crash anywhere cannot spoil.

Read first (repository, remote), then claim on disk (record), then branch, worktree,
files, push. Each step looks at what is there and does what is missing, so running the
whole again after a crash completes the lane.
"""

from __future__ import annotations

from collections.abc import Callable

from agentrelay.workstream._git.config import set_upstream
from agentrelay.workstream._git.failures import is_torn, repository_failures
from agentrelay.workstream._git.locks import reading
from agentrelay.workstream._git.remotes import RemoteAccess, open_remote
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream._git.sweep import sweep_own_dir
from agentrelay.workstream._lane import Lane
from agentrelay.workstream._steps import Step, say
from agentrelay.workstream.core.runtime import WorkstreamRuntime
from agentrelay.workstream.errors import (
    WorkstreamError,
)
from agentrelay.workstream.implementations._lane_record import (
    lane_lock,
)
from agentrelay.workstream.implementations._provision_steps import (
    begin,
    branches_of,
    check_own_base,
    finish,
    look_around,
    make,
    missing_push,
    undo,
)

__all__ = ["provision"]


def provision(
    lane: Lane,
    runtime: WorkstreamRuntime,
    *,
    access: RemoteAccess,
    lane_timeout_s: float,
    confirm: Callable[[], None] | None = None,
    tell: Callable[[int, int, int], None] | None = None,
) -> None:
    """Prepare one lane; see ``GitWorkstreamPreparer.prepare_workstream``.

    Args:
        lane: Names and paths.
        runtime: The runtime to fill in.
        access: How to reach the remote.
        lane_timeout_s: Longest wait for another holder of the lane, in seconds.
        confirm: Called once the lane is held; what it raises ends the matter.
        tell: Called with files done, files in all and bytes done; it must not raise.

    Raises:
        WorkstreamError: As documented there.
    """
    check_own_base(lane, runtime)
    # From the start, when git replaced the configuration just when it was read.
    reading(
        lambda: _provision(
            lane, runtime, access=access, lane_timeout_s=lane_timeout_s, confirm=confirm, tell=tell
        ),
        torn=is_torn,
    )


def _provision(
    lane: Lane,
    runtime: WorkstreamRuntime,
    *,
    access: RemoteAccess,
    lane_timeout_s: float,
    confirm: Callable[[], None] | None,
    tell: Callable[[int, int, int], None] | None,
) -> None:
    with Step("look"):
        repository = open_repository(lane.repo_path)
        look_around(repository, lane, lane_timeout_s=lane_timeout_s)
        end = open_remote(repository, access)
    with lane_lock(repository, lane, timeout_s=lane_timeout_s):
        if confirm is not None:
            confirm()
        sweep_own_dir(repository)
        run = begin(lane, runtime, repository, end, tell=tell)
        try:
            with repository_failures(f"prepare lane '{lane}'", path=repository.path):
                make(run, end.fetch(branches_of(run)))
                update = missing_push(run)
                if update is not None:
                    end.push(
                        update.branch, str(update.new), expected=None, announce=update.announce
                    )
                with Step("configure"):
                    set_upstream(repository, lane.branch, remote=access.remote)
                with Step("hand out"):
                    finish(run)
                say(lane.branch)
        except WorkstreamError as error:
            undo(run, error)
            raise
