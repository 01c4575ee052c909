"""A graph of workstreams: checked as a whole, ordered, and asked for its relations; pure data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agentrelay.workstream._lane import Lane, check_branch_name, check_name, task_branch
from agentrelay.workstream.core.workstream import WorkstreamSpec
from agentrelay.workstream.errors import LaneNameError

__all__ = ["WorkstreamGraph"]

# No file is touched here: a lane needs a repository's path only for its own paths.
_NOWHERE: Final = Path()
# Of a long cycle, its beginning says enough.
_MOST_NAMED: Final = 12


def _refusal(what: str, name: str, rule: str, hint: str) -> LaneNameError:
    return LaneNameError(f"{what}: {rule}", name=name, rule=rule, hint=hint)


@dataclass(frozen=True)
class WorkstreamGraph:
    """The workstreams of one task graph, and the tasks that work in them.

    Making one checks it, so a graph that exists is sound: every name can be a ref and a
    directory, ids are unique even where case does not count, parents are known and lead to a
    top, no task's branch is where a lane's branches must be, and no lane is cut from or
    merged into itself or a lane below it. Nothing is looked up in a repository.

    Attributes:
        name: Name of the task graph.
        specs: Its workstreams, in the caller's order.
        task_ids: Ids of tasks that get a branch ``agentrelay/<name>/<task>`` of their own.

    Raises:
        LaneNameError: A rule is broken; ``name`` is the id or branch, ``rule`` the rule.
    """

    name: str
    specs: tuple[WorkstreamSpec, ...]
    task_ids: tuple[str, ...] = ()
    _by_id: dict[str, WorkstreamSpec] = field(init=False, repr=False, compare=False)
    _children: dict[str, tuple[WorkstreamSpec, ...]] = field(init=False, repr=False, compare=False)

    def __init__(
        self, name: str, specs: Iterable[WorkstreamSpec], *, task_ids: Iterable[str] = ()
    ) -> None:
        """Make and check a graph.

        Args:
            name: Name of the task graph.
            specs: Its workstreams, in any order.
            task_ids: Ids of tasks that get a branch of their own.
        """
        set_field = object.__setattr__  # the fields are frozen for everybody else
        set_field(self, "name", check_name(name, kind="graph name"))
        set_field(self, "specs", tuple(specs))
        set_field(self, "task_ids", tuple(task_ids))
        self._check_ids()
        set_field(self, "_by_id", {spec.id: spec for spec in self.specs})
        self._check_parents()
        children: dict[str, list[WorkstreamSpec]] = {spec.id: [] for spec in self.specs}
        for spec in self.specs:
            if spec.parent_workstream_id is not None:
                children[spec.parent_workstream_id].append(spec)
        set_field(self, "_children", {key: tuple(found) for key, found in children.items()})
        self._check_branches()

    def spec(self, workstream_id: str) -> WorkstreamSpec:
        """Return a workstream as the caller specified it.

        Raises:
            LaneNameError: The graph has none of that id.
        """
        found = self._by_id.get(workstream_id)
        if found is None:
            raise _refusal(
                f"no workstream {ascii(workstream_id)[:120]} in graph '{self.name}'",
                str(workstream_id),
                "it must be the id of a workstream of the graph",
                "Ids are compared letter by letter, case included.",
            )
        return found

    def spec_for(self, workstream_id: str) -> WorkstreamSpec:
        """Return the specification that cuts a child from its parent's lane and targets it.

        Base and merge target of a workstream with a parent become the parent's integration
        branch; one at the top stays as it is. The parent's lane must be prepared first, as
        :meth:`ordered` has it.

        Raises:
            LaneNameError: The graph has none of that id.
        """
        spec = self.spec(workstream_id)
        if spec.parent_workstream_id is None:
            return spec
        branch = self.branch_of(spec.parent_workstream_id)
        return dataclasses.replace(spec, base_branch=branch, merge_target_branch=branch)

    def after_merge(self, workstream_id: str) -> WorkstreamGraph:
        """Return the graph as it is once a workstream is merged: its children move up.

        A child of it gets its parent, and, as base and merge target, what
        :meth:`spec_for` has it merged into. The merged workstream stays, without
        children. Where it has none, the graph is the same.

        Raises:
            LaneNameError: The graph has none of that id.
        """
        merged = self.spec_for(workstream_id)
        target = merged.merge_target_branch
        children = {child.id for child in self.children(workstream_id)}
        moved = [
            dataclasses.replace(
                spec,
                parent_workstream_id=merged.parent_workstream_id,
                base_branch=target,
                merge_target_branch=target,
            )
            if spec.id in children
            else spec
            for spec in self.specs
        ]
        return WorkstreamGraph(self.name, moved, task_ids=self.task_ids)

    def branch_of(self, workstream_id: str) -> str:
        """Return the short name of a workstream's integration branch.

        Raises:
            LaneNameError: The graph has none of that id.
        """
        return Lane.of(_NOWHERE, self.name, self.spec(workstream_id).id).branch

    def roots(self) -> tuple[WorkstreamSpec, ...]:
        """Return the workstreams without a parent, in the caller's order."""
        return tuple(spec for spec in self.specs if spec.parent_workstream_id is None)

    def children(self, workstream_id: str) -> tuple[WorkstreamSpec, ...]:
        """Return the workstreams right below one, in the caller's order.

        Raises:
            LaneNameError: The graph has none of that id.
        """
        return self._children[self.spec(workstream_id).id]

    def ancestors(self, workstream_id: str) -> tuple[WorkstreamSpec, ...]:
        """Return the workstreams above one, its parent first and the top last.

        Raises:
            LaneNameError: The graph has none of that id.
        """
        return tuple(self._above(self.spec(workstream_id)))

    def ordered(self) -> tuple[WorkstreamSpec, ...]:
        """Return all workstreams, each after its parent, otherwise in the caller's order."""
        placed: dict[str, WorkstreamSpec] = {}
        for spec in self.specs:
            missing = [spec]
            for above in self._above(spec):
                if above.id in placed:
                    break
                missing.append(above)
            placed |= {each.id: each for each in reversed(missing)}
        return tuple(placed.values())

    def _above(self, spec: WorkstreamSpec) -> Iterator[WorkstreamSpec]:
        while spec.parent_workstream_id is not None:
            spec = self._by_id[spec.parent_workstream_id]
            yield spec

    def _check_ids(self) -> None:
        """Refuse names that are none, and two whose branches cannot be beside each other."""
        lanes = _checked([spec.id for spec in self.specs], "workstream", "git refs and directories")
        tasks = _checked(self.task_ids, "task", "git refs")
        for key in tasks.keys() & lanes.keys():
            branch = task_branch(self.name, tasks[key])
            raise _refusal(
                f"task '{tasks[key]}' cannot be beside workstream '{lanes[key]}'",
                tasks[key],
                f"its branch '{branch}' would be where the workstream's branches have their "
                "directory",
                "Give the task or the workstream another id; case does not tell them apart.",
            )

    def _check_parents(self) -> None:
        """Refuse parents that are not there, and workstreams that are above themselves."""
        sound: set[str] = set()
        for spec in self.specs:
            path: dict[str, None] = {}
            current: WorkstreamSpec | None = spec
            while current is not None and current.id not in sound:
                if current.id in path:
                    raise _cycle([*path][[*path].index(current.id) :])
                path[current.id] = None
                current = self._parent_of(current)
            sound.update(path)

    def _parent_of(self, spec: WorkstreamSpec) -> WorkstreamSpec | None:
        parent = spec.parent_workstream_id
        if parent is None:
            return None
        if parent not in self._by_id:
            raise _refusal(
                f"workstream '{spec.id}' has the unknown parent {ascii(parent)[:120]}",
                str(parent),
                "a parent must be the id of a workstream of the same graph",
                "Add the parent to the graph, or correct the id; case counts.",
            )
        return self._by_id[parent]

    def _check_branches(self) -> None:
        """Refuse bases and targets that are none, or that the graph's own branches exclude."""
        owners = {self.branch_of(spec.id): spec for spec in self.specs}
        # Every name that must be a directory for the graph's branches to be files.
        taken = {branch.casefold(): branch for branch in owners}
        taken |= {
            branch.casefold(): branch
            for branch in (task_branch(self.name, task_id) for task_id in self.task_ids)
        }
        dirs = {
            "/".join(parts[:depth])
            for parts in (branch.split("/") for branch in taken)
            for depth in range(1, len(parts))
        }
        for spec in self.specs:
            for kind, branch in (
                ("base branch", spec.base_branch),
                ("merge target branch", spec.merge_target_branch),
            ):
                check_branch_name(branch, kind=f"{kind} of workstream '{spec.id}',")
                rule = self._broken_rule(spec, branch, owners.get(branch), taken, dirs)
                if rule is not None:
                    raise _refusal(
                        f"workstream '{spec.id}' cannot have the {kind} '{branch}'",
                        branch,
                        rule,
                        "Name a branch outside the graph, or that of a workstream above.",
                    )

    def _broken_rule(
        self,
        spec: WorkstreamSpec,
        branch: str,
        owner: WorkstreamSpec | None,
        taken: dict[str, str],
        dirs: set[str],
    ) -> str | None:
        """Return why a base or target cannot be, the graph's own branches being what they are."""
        folded = branch.casefold()
        if owner is spec:
            return "it is the workstream's own integration branch"
        if owner is not None and any(above is spec for above in self._above(owner)):
            return f"it is the integration branch of '{owner.id}', which is below the workstream"
        if folded in dirs:
            return "the graph's branches need a directory of that name"
        if taken.get(folded, branch) != branch:
            return f"it differs from '{taken[folded]}' by case only"
        parts = folded.split("/")
        for depth in range(1, len(parts)):
            blocking = taken.get("/".join(parts[:depth]))
            if blocking is not None:
                return f"'{blocking}' is a branch, so nothing can be below it"
        return None


def _checked(names: Iterable[str], kind: str, what: str) -> dict[str, str]:
    """Return names by what they are where case does not count, if no two are one."""
    found: dict[str, str] = {}
    for name in names:
        check_name(name, kind=f"{kind} id")
        twin = found.get(name.casefold())
        if twin is not None:
            rule = "ids must be unique"
            if twin != name:
                rule += f", and '{twin}' differs by case only, which does not tell {what} apart"
            raise _refusal(
                f"{kind} '{name}' is there twice", name, rule, f"Give one {kind} another id."
            )
        found[name.casefold()] = name
    return found


def _cycle(ids: list[str]) -> LaneNameError:
    """Make the error for workstreams that are above themselves, naming the way round."""
    shown = [*ids[:_MOST_NAMED], *(["..."] if len(ids) > _MOST_NAMED else []), ids[0]]
    return _refusal(
        f"workstream '{ids[0]}' is above itself",
        ids[0],
        "parents must lead to a top, and these lead round: " + " -> ".join(shown),
        "Remove one parent_workstream_id of them.",
    )
