"""Looking for lanes in every place that one leaves traces in; nothing is changed.

Each place is gone through once, however many lanes there are, and what one of them says
is never believed alone: the traces of a lane are put together here and judged in
``_verdict.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agentrelay.workstream._git.refs import tips_below
from agentrelay.workstream._git.remotes import RemoteAccess, open_remote
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.worktree_entries import Entry, entries
from agentrelay.workstream._lane import (
    BRANCH_PREFIX,
    RESCUE_PREFIX,
    SIGNALS_DIR,
    WORKTREES_DIR,
    split_admin_name,
    split_branch,
    split_rescue_ref,
    split_task_branch,
    trash_dir_of,
)
from agentrelay.workstream.core import _signals
from agentrelay.workstream.errors import WorkstreamError
from agentrelay.workstream.implementations._traces import Traces, look

__all__ = ["Stranger", "Survey", "Way", "survey"]

_HEADS = "refs/heads/"
_Names = tuple[str, str]


@dataclass(frozen=True)
class Way:
    """What the rest of the world has under one lane's name.

    Attributes:
        checked_out_at: Another checkout that is on the lane's branch, or ``None``.
        remote_tip: Hex id of the remote's branch, or ``None``.
        remote_asked: Whether the remote of this lane was asked and answered.
        rescue_refs: Full names of the lane's rescue refs.
    """

    checked_out_at: Path | None = None
    remote_tip: str | None = None
    remote_asked: bool = False
    rescue_refs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stranger:
    """What is under a lane's name that no lane can have.

    Attributes:
        graph: The part of its name where the graph's would be.
        rest: What comes after it.
        ref: Full name of a local ref, or ``None``.
        remote_branch: Short name of a branch of the remote, or ``None``.
        path: What lies where a worktree belongs, or ``None``.
    """

    graph: str
    rest: str
    ref: str | None = None
    remote_branch: str | None = None
    path: Path | None = None


@dataclass(frozen=True)
class Survey:
    """All that was found.

    Attributes:
        lanes: What is here of each lane, and elsewhere; sorted by graph and id.
        strangers: What is under a lane's name and none.
        concerns: What could not be looked at.
        remote_answered: Whether the remote could be asked.
    """

    lanes: list[tuple[Traces, Way]]
    strangers: list[Stranger]
    concerns: list[str]
    remote_answered: bool


@dataclass
class _Index:
    """What each place says, by graph and id."""

    names: set[_Names] = field(default_factory=set)
    tips: dict[_Names, str] = field(default_factory=dict)
    remote_tips: dict[_Names, str] = field(default_factory=dict)
    rescue_refs: dict[_Names, list[str]] = field(default_factory=dict)
    strangers: list[Stranger] = field(default_factory=list)

    def add_ref(self, ref: str, tip: str | None) -> None:
        """Note a local ref."""
        is_rescue = ref.startswith(RESCUE_PREFIX)
        short = ref.removeprefix(RESCUE_PREFIX if is_rescue else _HEADS + BRANCH_PREFIX)
        named = split_rescue_ref(ref) if is_rescue else split_branch(ref.removeprefix(_HEADS))
        if split_task_branch(ref.removeprefix(_HEADS)) is not None:
            # Of a task, which comes and goes by itself.
            return
        if named is None:
            graph, _, rest = short.partition("/")
            self.strangers.append(Stranger(graph, rest, ref=ref))
            return
        self.names.add(named)
        if is_rescue:
            self.rescue_refs.setdefault(named, []).append(ref)
        elif tip is not None:
            self.tips[named] = tip

    def add_remote_branch(self, branch: str, tip: str) -> None:
        """Note a branch of the remote."""
        named = split_branch(branch)
        if split_task_branch(branch) is not None:
            return
        if named is None:
            graph, _, rest = branch.removeprefix(BRANCH_PREFIX).partition("/")
            self.strangers.append(Stranger(graph, rest, remote_branch=branch))
            return
        self.names.add(named)
        self.remote_tips[named] = tip

    def add_folder(self, path: Path) -> None:
        """Note what lies where worktrees do."""
        named = split_branch(f"{BRANCH_PREFIX}{path.parent.name}/{path.name}/integration")
        if named is None:
            self.strangers.append(Stranger(path.parent.name, path.name, path=path))
            return
        self.names.add(named)


def survey(
    repository: OpenRepository, *, graph: str | None, access: RemoteAccess, run_dir: Path | None
) -> Survey:
    """Look for lanes in refs, entries, folders, signals and at the remote.

    Args:
        repository: Repository to look in, opened at the path lanes are below.
        graph: Only lanes of this graph; all when ``None``.
        access: How to reach the remote; one exchange serves all lanes.
        run_dir: A run directory to look for records in, besides the usual places.
    """
    concerns: list[str] = []
    index = _Index()
    remote = _ask_remote(repository, access, concerns)
    for branch, there in (remote or {}).items():
        index.add_remote_branch(branch, there)
    for ref, tip in tips_below(repository, _HEADS + BRANCH_PREFIX, RESCUE_PREFIX).items():
        index.add_ref(ref, tip)
    for path in _folders(repository.path, concerns):
        index.add_folder(path)
    checkouts = _checkouts(repository, index.names)
    index.names.update(_noted(repository), _recorded(repository.path, run_dir, concerns))
    lanes = []
    for name in sorted(index.names):
        if graph is not None and name[0] != graph:
            continue
        traces = look(repository, name, run_dir=run_dir, tip=index.tips.get(name))
        noted = traces.record.data.get("remote")
        asked = remote is not None and (not isinstance(noted, str) or noted == access.remote)
        way = Way(
            _other_checkout(repository, traces, checkouts.get(traces.lane.branch_ref, [])),
            index.remote_tips.get(name) if asked else None,
            asked,
            tuple(index.rescue_refs.get(name, ())),
        )
        lanes.append((traces, way))
    strangers = [one for one in index.strangers if graph in {None, one.graph}]
    return Survey(lanes, strangers, concerns, remote is not None)


def _ask_remote(
    repository: OpenRepository, access: RemoteAccess, concerns: list[str]
) -> dict[str, str] | None:
    """Return the remote's branches below ours, or ``None`` and a concern that says why not."""
    try:
        return open_remote(repository, access).list_branches(BRANCH_PREFIX)
    except WorkstreamError as error:
        concerns.append(f"the remote '{access.remote}' could not be asked: {error.message}")
        return None


def _checkouts(repository: OpenRepository, names: set[_Names]) -> dict[str, list[Entry]]:
    """Return the entries by what they are on, and note the lanes they are named after."""
    found: dict[str, list[Entry]] = {}
    for entry in entries(repository):
        named = split_admin_name(entry.admin_dir.name)
        if named is not None:
            names.add(named)
        if entry.head_ref is not None and entry.head_ref.startswith(_HEADS + BRANCH_PREFIX):
            found.setdefault(entry.head_ref, []).append(entry)
    return found


def _other_checkout(
    repository: OpenRepository, traces: Traces, checkouts: list[Entry]
) -> Path | None:
    """Return where else the lane's branch is checked out, or ``None``."""
    if repository.is_head(traces.lane.branch_ref):
        return repository.common_dir.parent
    for entry in checkouts:
        if entry in {traces.entry, traces.own}:
            continue
        # A locked worktree that is not there may be on a disk that is not mounted.
        if entry.is_live or (entry.locked is not None and not entry.is_half_made):
            return entry.worktree_path or entry.admin_dir
    return None


def _folders(root: Path, concerns: list[str]) -> Iterator[Path]:
    """Yield what lies in the folder of worktrees, two levels down."""
    for graph in _directories(root / WORKTREES_DIR, concerns):
        # People keep worktrees of their own in there; their folders are no lanes.
        if graph != trash_dir_of(root) and not os.path.lexists(graph / ".git"):
            yield from _children(graph)


def _noted(repository: OpenRepository) -> Iterator[_Names]:
    """Yield the lanes this repository remembers to have prepared."""
    for path in _children(repository.own_dir / "lanes"):
        named = split_admin_name(path.stem) if path.suffix == ".json" else None
        if named is not None:
            yield named


def _recorded(root: Path, run_dir: Path | None, concerns: list[str]) -> Iterator[_Names]:
    """Yield the lanes that have a record, by the branch it names."""
    runs = _directories(root / SIGNALS_DIR, concerns)
    if run_dir is not None:
        runs.append(run_dir)
    for run in runs:
        for signal_dir in _directories(run / "workstreams", concerns):
            branch = (_signals.read_record(signal_dir) or {}).get("branch_name")
            named = split_branch(branch) if isinstance(branch, str) else None
            if named is not None and named[1] == signal_dir.name:
                yield named


def _directories(directory: Path, concerns: list[str]) -> list[Path]:
    """Return the folders in a directory; a link may lead elsewhere and is not followed."""
    if directory.is_symlink():
        concerns.append(f"'{directory}' is a symbolic link, and was not looked into")
        return []
    return [path for path in _children(directory) if path.is_dir() and not path.is_symlink()]


def _children(directory: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(directory.iterdir())
    return []
