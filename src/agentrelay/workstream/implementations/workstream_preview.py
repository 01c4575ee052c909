"""Looking ahead: what merging lanes would come to, without merging anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

from agentrelay.workstream._conflicts import MergePreview
from agentrelay.workstream._durations import check_text, listed
from agentrelay.workstream._lane import check_branch_name
from agentrelay.workstream._steps import Step, Verb
from agentrelay.workstream.core.runtime import WorkstreamRuntime, graph_of
from agentrelay.workstream.errors import RepositoryError

__all__ = ["preview_merge", "preview_pairs"]


def preview_merge(
    repo_path: Path,
    lane: Union[WorkstreamRuntime, str],
    *,
    target: Optional[str] = None,
    remote: str = "origin",
) -> MergePreview:
    """Say whether a lane would merge into its target now, and what is in conflict if not.

    It is looked at in memory and from what is at hand: no ref, index, file or object is
    written, no network is used and no lock is taken, in a bare repository too.

    Args:
        repo_path: Repository the lane lives in.
        lane: A prepared lane, or a short branch name, a full ref name or a commit's hex id.
            Of a branch the local one counts, and the remote's where there is none.
        target: What it would be merged into, likewise; the lane's merge target when ``None``.
            Of a branch the remote's counts, as last fetched, because pull requests are merged
            there, and the local one where there is none.
        remote: Name of the remote.

    Raises:
        LaneNameError: A name can be none of these.
        RepositoryError: There is no such repository, branch or commit, the lane was never
            prepared, no target is known, or objects are missing.
    """
    from agentrelay.workstream._git.history import with_history
    from agentrelay.workstream._git.merging import InMemoryMerges
    from agentrelay.workstream._git.repository import open_repository
    from agentrelay.workstream.implementations._previewed import look_up, previewed

    with _preview_of(lane):
        source_name = _branch_of(lane)
        target_name = lane.spec.merge_target_branch if isinstance(lane, WorkstreamRuntime) else None
        target_name = target if target is not None else target_name
        if target_name is None:
            raise RepositoryError(
                f"no target to merge {ascii(source_name)[:120]} into is known",
                path=repo_path,
                hint="Pass target=, or the lane's runtime.",
            )
        check_text("target", target_name)
        check_branch_name(remote, kind="remote")
        with Step("look"):
            repository = with_history(open_repository(repo_path))
            source = look_up(repository, source_name, remote=remote, is_remote_first=False)
            into = look_up(repository, target_name, remote=remote, is_remote_first=True)
        with Step("merge in memory"):
            return previewed(InMemoryMerges(repository), source, into)


def preview_pairs(
    repo_path: Path,
    lanes: Sequence[Union[WorkstreamRuntime, str]],
    *,
    remote: str = "origin",
) -> list[MergePreview]:
    """Say which of many lanes conflict with each other, each pair looked at once.

    Like :func:`preview_merge` it writes nothing. Pairs that change nothing in common are not
    merged at all, so dozens of lanes are looked at in about the time of a few merges.

    Args:
        repo_path: Repository the lanes live in.
        lanes: Lanes, or what :func:`preview_merge` takes for one.
        remote: Name of the remote.

    Returns:
        The pairs that would not merge, in the order of ``lanes``: the later one is the
        preview's source, the earlier one its target. Empty if all go together.

    Raises:
        LaneNameError: A name can be none of these.
        RepositoryError: There is no such repository, branch or commit, a lane was never
            prepared, or objects are missing.
    """
    from agentrelay.workstream._git.history import with_history
    from agentrelay.workstream._git.merging import InMemoryMerges
    from agentrelay.workstream._git.repository import open_repository
    from agentrelay.workstream.implementations._previewed import look_up, previewed

    with Verb("preview_pairs"):
        check_branch_name(remote, kind="remote")
        with Step("look"):
            repository = with_history(open_repository(repo_path))
            tips = [
                look_up(repository, _branch_of(lane), remote=remote, is_remote_first=False)
                for lane in listed("lanes", lanes)
            ]
        with Step("merge in memory"):
            merges = InMemoryMerges(repository)
            found = [
                previewed(merges, later, earlier)
                for number, earlier in enumerate(tips)
                for later in tips[number + 1 :]
                if not merges.is_trivially_clean(earlier.commit_id, later.commit_id)
            ]
        return [preview for preview in found if not preview.is_mergeable]


def _preview_of(lane: Union[WorkstreamRuntime, str]) -> Verb:
    """Return the verb of a preview, which names the lane where it is known."""
    if isinstance(lane, WorkstreamRuntime):
        return Verb("preview_merge", graph_of(lane), lane.spec.id)
    return Verb("preview_merge")


def _branch_of(lane: Union[WorkstreamRuntime, str]) -> str:
    """Return the branch of a lane, or the text that stands for one."""
    if not isinstance(lane, WorkstreamRuntime):
        check_text("lane", lane)
        return lane
    if lane.state.branch_name is None:
        raise RepositoryError(
            f"workstream {ascii(lane.spec.id)[:120]} has no branch: it was never prepared",
            hint="Prepare the lane first, or load it with WorkstreamRuntime.load().",
        )
    return lane.state.branch_name
