"""Finding lanes that nobody keeps any more, and completing or removing them.

A lane leaves traces in refs, worktree entries, folders, signal files and at the remote.
What they say together decides, the first row that fits:

=====================================================================  ==========  =========
what is found                                                          kind        what next
=====================================================================  ==========  =========
a name no lane can have; somebody's files, a link or another branch    foreign     left
where the worktree belongs; the worktree at another place; the branch
checked out elsewhere, or a symbolic ref; another lane's record; a lane
that was prepared in another checkout
a worktree somebody locked                                             live        left
the record is ours, a teardown was begun                               orphaned    removed
the record is ours, the remote's branch is not                         foreign     left
worktree and branch stand, the record says pushed, a signal is set     live        left
worktree detached: a rebase, an experiment; or it leads to the         live        left
repository at another place: moved, or mounted there
the record is ours, the lane is MERGED, a piece of it is missing; or   orphaned    removed
PR_CREATED, and the remote's branch is gone as well
only the record is left, not even the remote has the branch            orphaned    removed
the record is ours, anything is missing, half made or not pushed       resumable   completed
the record is lost, released or gone, a whole worktree stands          foreign     left
the record is lost, or gone from a lane this repository remembers; a   orphaned    removed
branch or a stale entry stands
the record is released or there never was one, a branch stands         foreign     left
likewise, but only an entry of the lane's own name, or an empty        orphaned    removed
folder where a lane is known to have been
any other empty folder                                                 foreign     left
only the remote has a branch                                           foreign     left
only rescue refs are left                                              rescued     left
=====================================================================  ==========  =========

A lane that another thread or process holds just now is ``busy`` instead, unless it is live.
So a worktree that stands is removed only where its teardown was begun, and a branch only
where this repository is known to have made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Optional

from agentrelay.workstream._durations import (
    absolute_path,
    check_bytes,
    check_seconds,
    check_whole_seconds,
)
from agentrelay.workstream._lane import check_name
from agentrelay.workstream._steps import Verb
from agentrelay.workstream.credentials import TokenSource, seal_token

__all__ = ["FoundLane", "LaneKind", "LaneOutcome", "Reconciliation", "reconcile"]


class LaneKind(str, Enum):  # noqa: UP042 - as WorkstreamStatus, which is read beside it
    """What a found lane is.

    Attributes:
        LIVE: It stands, or is somebody's to look after; left alone.
        RESUMABLE: Its prepare was interrupted, or a part was deleted by hand; preparing
            it again completes it.
        ORPHANED: Its teardown was interrupted, or pieces outlived it; tearing it down
            removes them by the usual rules.
        FOREIGN: Not provably this repository's lane; left alone and named.
        RESCUED: Nothing is left but what a teardown kept.
        BUSY: Another thread or process is working on it; left alone.
    """

    LIVE = "live"
    RESUMABLE = "resumable"
    ORPHANED = "orphaned"
    FOREIGN = "foreign"
    RESCUED = "rescued"
    BUSY = "busy"


class LaneOutcome(str, Enum):  # noqa: UP042 - as LaneKind
    """What became of a found lane.

    Attributes:
        LEFT: Nothing was done, and nothing was to be done.
        TO_COMPLETE: A run that is not dry would prepare it.
        TO_REMOVE: A run that is not dry would tear it down.
        COMPLETED: It was prepared.
        REMOVED: It was torn down.
        KEPT: It was torn down, but its branches stay for now, as a concern says.
        FAILED: It could not be prepared or torn down, as a concern says.
    """

    LEFT = "left"
    TO_COMPLETE = "to complete"
    TO_REMOVE = "to remove"
    COMPLETED = "completed"
    REMOVED = "removed"
    KEPT = "kept"
    FAILED = "failed"


@dataclass(frozen=True)
class FoundLane:
    """One lane, or what goes under a lane's name.

    Attributes:
        graph: Name of the task graph.
        workstream_id: Identifier of the workstream; of a name that no lane can have,
            whatever is after the graph's.
        kind: What it is.
        why: One sentence: what it was told by.
        outcome: What was done, or would be.
        worktree: What stands where the worktree belongs, or ``None``.
        entry: Directory of the worktree's entry in the repository, or ``None``.
        branch: Full name of the local branch, or ``None``.
        remote_branch: Short name of the remote's branch, or ``None``; also ``None``
            where the remote could not be asked.
        signal_dir: Directory of the lane's signal files, if there is one.
        rescue_refs: Full names of the refs that keep its work.
        concerns: What else a person should know, in order.
    """

    graph: str
    workstream_id: str
    kind: LaneKind
    why: str
    outcome: LaneOutcome = LaneOutcome.LEFT
    worktree: Optional[Path] = None
    entry: Optional[Path] = None
    branch: Optional[str] = None
    remote_branch: Optional[str] = None
    signal_dir: Optional[Path] = None
    rescue_refs: tuple[str, ...] = ()
    concerns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reconciliation:
    """What :func:`reconcile` found and did.

    Attributes:
        lanes: Every lane that was found, sorted by graph and id. A finished lane of which
            nothing is left is not among them.
        leftovers: What killed processes left beside the lanes: renamed trees, half-made
            entries, dead lock files, logs of rescue refs that are not there. Removed, or in a
            dry run to be removed.
        stuck: Those of the leftovers that could not be removed.
        concerns: What could not be looked at or removed; the remote, if it did not answer.
    """

    lanes: tuple[FoundLane, ...]
    leftovers: tuple[Path, ...] = ()
    stuck: tuple[Path, ...] = ()
    concerns: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[FoundLane, ...]:
        """The lanes that could not be completed or removed; repeating may help."""
        return tuple(lane for lane in self.lanes if lane.outcome is LaneOutcome.FAILED)


def reconcile(
    repo_path: Path,
    *,
    graph: Optional[str] = None,
    remote: str = "origin",
    run_dir: Optional[Path] = None,
    token: TokenSource = None,
    ssh_key: Optional[Path] = None,
    api_url: Optional[str] = None,
    full_name: Optional[str] = None,
    dry_run: bool = False,
    api_timeout_s: int = 15,
    lane_timeout_s: float = 0.0,
    network_timeout_s: float = 600.0,
    ignored_limit_bytes: int = 64 << 20,
) -> Reconciliation:
    """List the lanes of a repository, and complete or remove those nobody keeps.

    Lanes are completed as ``GitWorkstreamPreparer`` does it and removed as
    ``GitWorkstreamTeardown`` does it, rescue included; there is no other way in here. Each
    is looked at again once it is held, and left alone if it changed meanwhile. One that
    fails does not stop the others. Repeating it, after a crash too, does what is left.

    While the remote does not answer, lanes are listed and none is completed or removed.

    Args:
        repo_path: Repository the lanes were prepared in.
        graph: Only lanes of this task graph; all of them when ``None``.
        remote: Name of the remote lanes are pushed to.
        run_dir: A run directory to look for signal files in, for lanes of which the
            repository does not remember where theirs are.
        token: Token for https remotes and GitHub's API, or a callable that returns one.
        ssh_key: Private key for ssh remotes.
        api_url: Base URL of GitHub's API where it cannot be told from the remote.
        full_name: ``"owner/name"`` of the repository at GitHub, likewise.
        dry_run: Only say what would be done. Nothing is written anywhere.
        api_timeout_s: Longest wait for one answer of the API, in whole seconds.
        lane_timeout_s: Longest wait for another holder of one lane, in seconds; the usual
            0 leaves a lane that is held to its holder.
        network_timeout_s: Longest time one fetch or push may take, in seconds.
        ignored_limit_bytes: Size up to which ignored files of a worktree are kept, all of
            them together, in bytes.

    Returns:
        What was found and done.

    Raises:
        RepositoryError: No such repository, or a setting is of another kind.
        LaneNameError: ``graph`` cannot name a task graph.
    """
    from agentrelay.workstream._git.remotes import RemoteAccess
    from agentrelay.workstream.implementations._access import ApiAccess
    from agentrelay.workstream.implementations._reconcile import reconcile_lanes
    from agentrelay.workstream.implementations._settings import check_places

    with Verb("reconcile", graph):
        check_places(repo_path=repo_path, remote=remote, ssh_key=ssh_key, run_dir=run_dir)
        check_seconds("lane_timeout_s", lane_timeout_s)
        check_seconds("network_timeout_s", network_timeout_s)
        check_whole_seconds("api_timeout_s", api_timeout_s)
        check_bytes("ignored_limit_bytes", ignored_limit_bytes)
        if graph is not None:
            check_name(graph, kind="graph name")
        sealed = seal_token(token)
        return reconcile_lanes(
            absolute_path("repo_path", repo_path),
            graph=graph,
            run_dir=None if run_dir is None else absolute_path("run_dir", run_dir),
            access=RemoteAccess(remote, sealed, ssh_key, deadline_s=network_timeout_s),
            api=ApiAccess(sealed, api_url, full_name, api_timeout_s),
            lane_timeout_s=lane_timeout_s,
            ignored_limit_bytes=ignored_limit_bytes,
            dry_run=dry_run,
        )
