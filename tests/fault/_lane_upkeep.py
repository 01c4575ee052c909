"""What is done about lanes after their end, or after nobody ended them."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from agentrelay.workstream import (
    LaneKind,
    LaneOutcome,
    Reconciliation,
    RescuedWork,
    WorkstreamRuntime,
    forget,
    reconcile,
    rescued,
    restore,
)
from agentrelay.workstream.testing import read_tree, refs
from tests._examples import refusal
from tests.fault._lane_machine import NAMES, PLACES, Key, LaneWorld
from tests.fault._lane_places import INTERRUPTIONS, MEDDLING, Clone, Place
from tests.fault._objects import contents

__all__ = ["Upkeep"]

_PREFIX = "refs/agentrelay/rescue/"


def keeps(clone: Clone) -> dict[str, str]:
    """Return the rescue refs of a clone, by an independent judge."""
    return {ref: tip for ref, tip in refs(clone.repo).items() if ref.startswith(_PREFIX)}


class Upkeep(LaneWorld):
    """Rules for reconcile, rescued, restore and forget."""

    def _clone(self, name: str) -> Clone:
        return self.clones[NAMES.index(name)]

    def _reconcile(self, clone: Clone, *, dry_run: bool) -> Reconciliation:
        world = self.world
        return reconcile(
            clone.repo,
            token=world.token,
            api_url=world.github.api_url,
            full_name=world.full_name,
            dry_run=dry_run,
        )

    @rule(key=PLACES, first=st.sampled_from([*INTERRUPTIONS, None]))
    def reconcile(self, key: Key, first: str | None) -> None:
        """Reconcile a clone: what it would do is done, and what it leaves is as it was."""
        clone = self._clone(key[0])
        places = self.places_in(clone)
        if first is not None:
            MEDDLING[first](self.places[key], self.world.root)
        before = contents(clone.repo), contents(self.world.remote_path)
        planned = self._reconcile(clone, dry_run=True)
        assert (contents(clone.repo), contents(self.world.remote_path)) == before
        pictures = {place.id: place.picture() for place in places}
        there = self.there

        found: Reconciliation = self.verb(places, lambda: self._reconcile(clone, dry_run=False))

        assert [(lane.workstream_id, lane.kind) for lane in found.lanes] == [
            (lane.workstream_id, lane.kind) for lane in planned.lanes
        ]
        assert found.stuck == ()
        assert found.leftovers == planned.leftovers
        lanes = {lane.workstream_id: lane for lane in found.lanes}
        for place in places:
            lane = lanes.get(place.id)
            outcome = LaneOutcome.LEFT if lane is None else lane.outcome
            event(f"reconcile: {'nothing' if lane is None else lane.kind.value}, {outcome.value}")
            assert lane is None or lane.kind is not LaneKind.BUSY
            ref = place.lane.branch_ref
            if outcome is LaneOutcome.LEFT:
                assert place.picture() == pictures[place.id]
                assert self.there.get(ref) == there.get(ref)
            elif outcome is LaneOutcome.COMPLETED:
                assert place.is_open
                assert ref in self.there
            elif outcome is LaneOutcome.REMOVED:
                assert place.tip is None
                assert not place.admin_dir.exists()
                assert not (place.worktree / ".git").exists()
            else:
                assert lane is not None
                assert lane.concerns
            # It works from what is on disk, and so does whoever looks at the lane after it.
            self._load(place)

    def _load(self, place: Place) -> None:
        """Be a new process that reads the lane from disk."""
        found: list[WorkstreamRuntime] = []
        if refusal(lambda: found.append(WorkstreamRuntime.load(place.lane.signal_dir))) is None:
            place.runtime = found[0]
        else:
            place.forget()

    @rule(name=st.sampled_from(NAMES))
    def list_what_is_kept(self, name: str) -> None:
        """What is listed is what is there, with its files; nothing is changed."""
        clone = self._clone(name)
        works: list[RescuedWork] = self.verb([], lambda: rescued(clone.repo))
        assert {work.ref: work.commit_id for work in works} == keeps(clone)
        for work in works:
            assert work.kept_at is not None
            if work.is_snapshot:
                assert set(work.files) <= set(read_tree(clone.repo, work.ref))

    @precondition(lambda self: any(map(keeps, self.clones)))
    @rule(data=st.data())
    def restore_to_a_branch(self, data: st.DataObject) -> None:
        """A branch of the user's leads to what was kept, and the rescue ref stays."""
        clone, work = self._draw(data)
        expected = work.ref.removeprefix("refs/agentrelay/").replace("rescue/", "rescued/", 1)
        ref = f"refs/heads/{expected}"
        before = refs(clone.repo)
        done = self.verb([], lambda: restore(clone.repo, work), made=[ref])
        assert done.branch == expected
        assert refs(clone.repo) == {**before, ref: work.commit_id}

    @precondition(lambda self: any(map(keeps, self.clones)))
    @rule(data=st.data())
    def restore_to_a_directory(self, data: st.DataObject) -> None:
        """The files of a snapshot are there byte for byte; commits are no files."""
        clone, work = self._draw(data)
        place = Path(tempfile.mkdtemp(prefix="restored-", dir=self.world.root))
        before = refs(clone.repo)
        error = self.verb(
            [], lambda: refusal(lambda: restore(clone.repo, work, directory=place / "files"))
        )
        assert refs(clone.repo) == before
        assert (error is None) == work.is_snapshot
        if error is None:
            kept = read_tree(clone.repo, work.ref)
            found = {
                path.relative_to(place / "files").as_posix(): data
                for path, data in contents(place / "files").items()
            }
            assert found == {path: kept[path] for path in work.files}

    @precondition(lambda self: any(map(keeps, self.clones)))
    @rule(data=st.data(), by=st.sampled_from(["name", "age"]))
    def forget(self, data: st.DataObject, by: str) -> None:
        """Exactly what was asked for is let go of."""
        clone, work = self._draw(data)
        places = [self.places[clone.name, work.workstream_id]]
        before = refs(clone.repo)
        if by == "name":
            doomed = {work.ref}
            gone = self.verb(places, lambda: forget(clone.repo, [work]), forgotten=doomed)
        else:
            prefix = f"{_PREFIX}{work.graph}/{work.workstream_id}/"
            doomed = {ref for ref in keeps(clone) if ref.startswith(prefix)}
            by_age = partial(
                forget,
                clone.repo,
                older_than_s=0.0,
                graph=work.graph,
                workstream_id=work.workstream_id,
            )
            gone = self.verb(places, by_age, forgotten=doomed)
        assert {work.ref for work in gone} == doomed
        assert refs(clone.repo) == {r: t for r, t in before.items() if r not in doomed}
        logs = clone.git / "logs"
        assert not any((logs / ref).exists() for ref in doomed)

    def _draw(self, data: st.DataObject) -> tuple[Clone, RescuedWork]:
        clones = [clone for clone in self.clones if keeps(clone)]
        clone = data.draw(st.sampled_from(clones), label="clone")
        works = rescued(clone.repo)
        return clone, works[data.draw(st.integers(0, len(works) - 1), label="work")]
