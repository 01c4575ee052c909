"""Looking before a lane is made: what is in the way, and where it is cut from."""

from __future__ import annotations

import os
from contextlib import suppress

from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.ref_deletion import refuse_symbolic
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.worktree_entries import entry_at, entry_of_moved
from agentrelay.workstream._lane import Lane, same_on_some_file_system
from agentrelay.workstream.core import _signals
from agentrelay.workstream.core.runtime import WorkstreamRuntime, record_concern
from agentrelay.workstream.errors import LaneConflictError, LaneNameError, RepositoryError
from agentrelay.workstream.implementations._refusals import off_branch

__all__ = ["choose_base", "refuse_case_collisions", "refuse_obstacles"]


def refuse_obstacles(repository: OpenRepository, lane: Lane) -> None:
    """Refuse what is plainly in the way before the network is used."""
    refuse_symbolic(repository, lane.branch_ref)
    path = lane.worktree_path
    above = (*reversed(path.parents), *reversed(lane.signal_dir.parents), lane.signal_dir)
    for parent in dict.fromkeys(map(os.fspath, above)):
        if not os.path.isdir(parent) and os.path.lexists(parent):  # noqa: PTH112 - a string
            message = f"'{parent}' is not a directory"
            raise LaneConflictError(message, obstacle=parent, hint="Move or remove it.")
    if not os.path.lexists(path):
        return
    entry = entry_at(repository, path)
    if entry is not None:
        refusal = off_branch(lane, entry)
        if refusal is not None:
            raise refusal
        return
    if not path.is_dir():
        message = f"'{path}' is not a directory"
        raise LaneConflictError(message, obstacle=path, hint="Move or remove it.")
    with repository_failures("look into the worktree's place", path=path):
        others = sorted(name for name in os.listdir(path) if name != ".git")
    if others and entry_of_moved(repository, path, admin_name=lane.admin_name) is None:
        message = (
            f"'{path}' exists and is not a worktree of '{repository.path}' "
            f"(it holds {', '.join(repr(name) for name in others[:3])})"
        )
        raise LaneConflictError(
            message, obstacle=path, hint="Look at what it is, then move or remove it."
        )


def choose_base(
    repository: OpenRepository, runtime: WorkstreamRuntime, *, remote_base: str | None, url: str
) -> str:
    """Return the commit to cut from: the newer side, the remote's where they diverge."""
    branch = runtime.spec.base_branch
    local_base = repository.resolve(f"refs/heads/{branch}")
    if remote_base is None and local_base is None:
        message = f"the base branch '{branch}' exists neither at '{url}' nor in '{repository.path}'"
        raise RepositoryError(
            message,
            path=repository.path,
            hint="Create and push it, or set the workstream's base_branch.",
        )
    if remote_base is None:
        assert local_base is not None
        return local_base
    if local_base is None or repository.contains(local_base, remote_base):
        return remote_base
    if repository.contains(remote_base, local_base):
        return local_base
    record_concern(
        runtime,
        f"base branch '{branch}' has diverged: local {local_base[:12]}, remote "
        f"{remote_base[:12]}; the lane was cut from the remote's",
    )
    return remote_base


def refuse_case_collisions(lane: Lane) -> None:
    """Refuse a lane whose name differs from another's only by case."""
    for directory, name, kind in (
        (lane.worktrees_dir.parent, lane.graph, "graph name"),
        (lane.worktrees_dir, lane.workstream_id, "workstream id"),
        (lane.signal_dir.parent, lane.workstream_id, "workstream id"),
    ):
        with suppress(FileNotFoundError, NotADirectoryError):
            folded = name.casefold()
            others = os.listdir(directory)
            # All at once: there may be a thousand.
            if f"/{folded}/" not in "/{}/".format("/".join(others).casefold()):
                continue
            for other in [other for other in others if other.casefold() == folded]:
                if not same_on_some_file_system(name, other):
                    continue
                record = _signals.read_record(directory / other)
                if record is not None and record.get("claim") == "released":
                    continue
                rule = "names must differ by more than case"
                message = (
                    f"{kind} '{name}' cannot name a lane: it differs from '{other}' in "
                    f"'{directory}' only by case"
                )
                raise LaneNameError(
                    message, name=name, rule=rule, hint="Choose a name that differs in letters."
                )
