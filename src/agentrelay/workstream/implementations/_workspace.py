"""The steps of a workspace's verbs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Optional, Union

from agentrelay.workstream._changes import CommitInfo
from agentrelay.workstream._durations import absolute_path, check_callable
from agentrelay.workstream._git.committing import CommitWish, make_commit, mark_resolved
from agentrelay.workstream._git.comparing import commit_info
from agentrelay.workstream._git.failures import is_torn, repository_failures
from agentrelay.workstream._git.history import with_history
from agentrelay.workstream._git.identity import Person, find_date, find_person
from agentrelay.workstream._git.locks import reading
from agentrelay.workstream._git.move_journal import undo_move
from agentrelay.workstream._git.ref_deletion import refuse_symbolic
from agentrelay.workstream._git.repository import OpenRepository, open_repository
from agentrelay.workstream._git.selection import relative_paths
from agentrelay.workstream._git.ssh_signing import load_signer
from agentrelay.workstream._git.sweep import sweep_own_dir
from agentrelay.workstream._git.tree_status import newer_tip, read_status, tips_apart
from agentrelay.workstream._git.worktree_entries import Entry, entry_at, git_file_target
from agentrelay.workstream._lane import WORKTREES_DIR, Lane, split_admin_name
from agentrelay.workstream._steps import Step, say
from agentrelay.workstream.core import _signals
from agentrelay.workstream.core.runtime import WorkstreamRuntime
from agentrelay.workstream.core.workstream import WorkstreamSpec
from agentrelay.workstream.credentials import SigningSource, check_signing_source
from agentrelay.workstream.errors import LaneConflictError
from agentrelay.workstream.implementations._commit_message import (
    Trailers,
    compose_message,
    parse_author,
)
from agentrelay.workstream.implementations._lane_record import lane_lock, noted_place
from agentrelay.workstream.implementations._named_lane import lane_of
from agentrelay.workstream.implementations._refusals import off_branch

if TYPE_CHECKING:
    from agentrelay.workstream.implementations.workstream_workspace import (
        LaneStatus,
        LaneWorkspace,
    )

__all__ = [
    "find_lane",
    "held",
    "look",
    "named_author",
    "record",
    "settle",
    "signers",
    "standing",
    "tip_of",
]

# RFC 2606: no such host can exist.
_NOWHERE: Final = "agentrelay.invalid"
# Folders above a lane's worktree, as far as they are the library's, and the repository.
_DEPTH: Final = 3
Paths = Optional[Sequence[Union[str, os.PathLike[str]]]]


def find_lane(
    named: WorkstreamRuntime | str | os.PathLike[str],
) -> tuple[WorkstreamRuntime, Lane, str]:
    """Return runtime, names and remote of the lane that is meant; see ``open_lane``.

    Raises:
        WorkstreamError: As documented there.
    """
    with Step("look"):
        return _find_lane(named)


def _find_lane(
    named: WorkstreamRuntime | str | os.PathLike[str],
) -> tuple[WorkstreamRuntime, Lane, str]:
    runtime = named if isinstance(named, WorkstreamRuntime) else _runtime_around(named)
    worktree_path = runtime.state.worktree_path
    if worktree_path is None or runtime.state.branch_name is None:
        message = f"workstream '{runtime.spec.id}' was never prepared, so it has no worktree"
        raise LaneConflictError(message, hint="Prepare it, then open it.")
    place = absolute_path("worktree_path", worktree_path)
    lane = lane_of(runtime, place.parents[2], None) if _is_lanes_place(place) else None
    if lane is None or lane.worktree_path != place:
        message = f"'{worktree_path}' is not the worktree of workstream '{runtime.spec.id}'"
        raise LaneConflictError(
            message, obstacle=worktree_path, hint="Load the runtime from its signal directory."
        )
    standing(lane)
    document = _signals.read_record(lane.signal_dir) or {}
    remote = document.get("remote")
    return runtime, lane, remote if isinstance(remote, str) and remote else "origin"


def _runtime_around(path: str | os.PathLike[str]) -> WorkstreamRuntime:
    """Return the runtime of the lane a path is inside of, as it is on disk."""
    inside = Path(os.path.normpath(absolute_path("lane", path)))
    for top in (inside, *inside.parents):
        if not os.path.lexists(top / ".git"):
            continue
        admin_dir = git_file_target(top)
        # A link may lead straight into it.
        place_of = next((at for at in (top, top.resolve()) if _is_lanes_place(at)), None)
        if admin_dir is None or place_of is None:
            break
        top, names = place_of, split_admin_name(admin_dir.name)  # noqa: PLW2901 - the same place
        if names is None:
            # Made by "git worktree add" after the lane had been prepared.
            names = (top.parent.name, top.name)
        lane = Lane.of(top.parents[2], *names)
        repository = open_repository(top)
        place = noted_place(repository, lane.admin_name)
        signal_dir = lane.signal_dir if place is None else place.signal_dir
        runtime = WorkstreamRuntime.load(signal_dir)
        recorded = runtime.state.worktree_path
        if recorded is not None and os.path.realpath(recorded) == os.path.realpath(top):
            return runtime
        raise LaneConflictError(
            f"the record in '{signal_dir}' is of another worktree than '{top}'",
            obstacle=signal_dir,
            hint="Prepare the lane again: where its repository was moved, that is noted anew.",
        )
    raise LaneConflictError(
        f"'{inside}' is not inside a lane's worktree",
        obstacle=inside,
        hint="Give the path of a worktree that was prepared, or the lane's runtime.",
    )


def _is_lanes_place(path: Path) -> bool:
    """Return whether a path is ``<repository>/.worktrees/<graph>/<id>``."""
    return len(path.parents) >= _DEPTH and path.parents[1].name == WORKTREES_DIR


def standing(lane: Lane) -> tuple[OpenRepository, Entry]:
    """Open a lane's worktree, if it is one.

    Raises:
        LaneConflictError: It is not there, half made, or somebody else's.
        RepositoryError: It cannot be opened.
    """
    path = lane.worktree_path
    entry = None
    if path.is_dir():
        with repository_failures("open the worktree", path=path):
            target = git_file_target(path)
            repository = open_repository(path) if target is not None and target.is_dir() else None
        entry = None if repository is None else entry_at(repository, path)
        if repository is not None and entry is not None and not entry.is_half_made:
            home = open_repository(lane.repo_path).common_dir
            if os.path.realpath(home) == os.path.realpath(repository.common_dir):
                return repository, entry
    words = "is not there" if not os.path.lexists(path) else "is not a whole worktree"
    raise LaneConflictError(
        f"the worktree '{path}' of lane '{lane}' {words}",
        obstacle=path,
        hint="Prepare the lane again; what is missing is made anew.",
    )


@contextmanager
def held(workspace: LaneWorkspace, doing: str) -> Iterator[tuple[OpenRepository, Lane]]:
    """Hold the lane, its worktree being on its branch.

    Args:
        workspace: Its workspace.
        doing: What is done meanwhile, in the words of a message: ``"commit"``.

    Raises:
        LaneBusyError: Somebody else held it all the time.
        LaneConflictError: The worktree is not there, or on something else, or its branch is a
            symbolic ref.
        RepositoryError: In place of what libgit2 or the file system raises in the block.
    """
    lane = workspace._lane  # noqa: SLF001 - the other half of the class
    first, _ = standing(lane)
    with (
        lane_lock(first, lane, timeout_s=workspace.lane_timeout_s),
        repository_failures(doing, path=lane.worktree_path),
    ):
        # Anew: whoever held it may have torn it down.
        repository, entry = standing(lane)
        sweep_own_dir(repository)
        refusal = off_branch(lane, entry)
        if refusal is not None:
            raise refusal
        refuse_symbolic(repository, lane.branch_ref)
        undo_move(repository)
        yield repository, lane


def tip_of(repository: OpenRepository, lane: Lane) -> str:
    """Return where the lane's branch is.

    Raises:
        LaneConflictError: It was deleted under its worktree.
    """
    tip = repository.resolve(lane.branch_ref)
    if tip is None:
        raise LaneConflictError(
            f"the branch '{lane.branch}' is gone",
            obstacle=lane.branch_ref,
            hint="Prepare the lane again: it is made anew where the worktree was.",
        )
    return tip


def look(lane: Lane, spec: WorkstreamSpec, *, remote: str) -> LaneStatus:
    """Return the status; see ``LaneWorkspace.status``.

    Raises:
        WorkstreamError: As documented there.
    """
    from agentrelay.workstream.implementations.workstream_workspace import LaneStatus

    with Step("look"), repository_failures("read the status", path=lane.worktree_path):
        repository, entry = standing(lane)
        tree = read_status(repository.handle)

        def counts() -> LaneStatus:
            head = entry.head_ref
            tip = tip_of(repository, lane) if head == lane.branch_ref else _head(repository)
            history = with_history(repository)
            there = history.resolve(f"refs/remotes/{remote}/{lane.branch}")
            base, target = (
                tips_apart(history, tip, newer_tip(history, branch, remote=remote))
                for branch in (spec.base_branch, spec.merge_target_branch)
            )
            return LaneStatus(
                branch=None if entry.head_ref is None else _short(entry.head_ref),
                commit_id=tip,
                staged=tree.staged,
                unstaged=tree.unstaged,
                untracked=tree.untracked,
                conflicted=tree.conflicted,
                remote=tips_apart(history, tip, there),
                base=base,
                target=target,
                operation=entry.operation,
            )

        return reading(counts, torn=is_torn)


def _head(repository: OpenRepository) -> str:
    return str(repository.handle.head.peel().id)


def _short(ref: str) -> str:
    return ref.removeprefix("refs/heads/")


def record(
    workspace: LaneWorkspace,
    message: str,
    *,
    paths: Paths,
    author: str | None,
    trailers: Trailers | None,
    signing_key: SigningSource | None,
    before: Callable[[LaneWorkspace], object] | None,
    after: Callable[[CommitInfo], object] | None,
) -> CommitInfo:
    """Commit; see ``LaneWorkspace.commit``.

    Raises:
        WorkstreamError: As documented there.
    """
    check_callable("before", before)
    check_callable("after", after)
    text = compose_message(message, trailers)
    named = named_author(author)
    chosen = None if paths is None else relative_paths(workspace.path, paths)
    check_signing_source(signing_key)
    # Before anything is looked at: opening a protected key takes its time.
    signer = None
    if signing_key is not None:
        signer = load_signer(standing(workspace._lane)[0], signing_key)  # noqa: SLF001 - the other half of the class
    if before is not None:
        with Step("call before()"):
            before(workspace)
    with held(workspace, "commit") as (repository, lane):
        writer, committer = signers(repository, lane, named)
        tip_of(repository, lane)
        wish = CommitWish(text, chosen, writer, committer, workspace.largest_file_bytes, signer)
        with Step("commit"):
            commit_id = make_commit(repository, lane.branch_ref, wish)
        made = commit_info(repository, commit_id)
    say(commit_id)
    if after is not None:
        with Step("call after()"):
            after(made)
    return made


def named_author(author: str | None) -> Person | None:
    """Return who an ``author=`` names, ``None`` where nobody is named.

    Raises:
        RepositoryError: It names nobody.
    """
    return None if author is None else Person(*parse_author(author), find_date("author"))


def signers(repository: OpenRepository, lane: Lane, named: Person | None) -> tuple[Person, Person]:
    """Return author and committer of a commit in a lane; see ``LaneWorkspace.commit``.

    Raises:
        RepositoryError: ``user.useConfigOnly`` asks for a name, and there is none.
    """
    own = Person(f"agentrelay lane {lane}", f"{lane.workstream_id}.{lane.graph}@{_NOWHERE}")
    with repository_failures("find out who commits", path=repository.path):
        writer = named or reading(
            lambda: find_person(repository, "author", fallback=own), torn=is_torn
        )
        return writer, reading(
            lambda: find_person(repository, "committer", fallback=writer), torn=is_torn
        )


def settle(workspace: LaneWorkspace, paths: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Mark conflicts as resolved; see ``LaneWorkspace.resolve``.

    Raises:
        WorkstreamError: As documented there.
    """
    chosen = relative_paths(workspace.path, paths)
    with held(workspace, "mark conflicts as resolved") as (repository, _), Step("resolve"):
        return mark_resolved(repository, chosen)
