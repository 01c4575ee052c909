"""What an agent without a git does in its lane: the verbs of a workspace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pygit2
from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from agentrelay.workstream import (
    LaneStatus,
    LaneWorkspace,
    NothingToCommitError,
    errors,
    open_lane,
)
from agentrelay.workstream.testing import read_tree
from tests._examples import refusal
from tests.fault._lane_machine import PLACES, Key, LaneWorld, assert_says_what_to_do
from tests.fault._lane_places import Place

__all__ = ["Workspaces"]


def head_of(place: Place) -> str:
    """Return the commit a lane's worktree is at."""
    return str(pygit2.Repository(str(place.worktree)).head.target)


class Workspaces(LaneWorld):
    """Rules for status, commit, push and pull."""

    def _open(self, place: Place) -> LaneWorkspace:
        return open_lane(place.runtime, token=self.world.token)

    def _try(
        self, place: Place, what: Callable[[LaneWorkspace], object], **settings: Any
    ) -> errors.WorkstreamError | None:
        """Let the library do something in a lane; return what it was refused with, if it was."""
        error: errors.WorkstreamError | None = self.verb(
            [place], lambda: refusal(lambda: what(self._open(place))), **settings
        )
        if error is not None:
            assert_says_what_to_do(error)
        return error

    @rule(key=PLACES)
    def look(self, key: Key) -> None:
        """Where a lane stands is told without a change; where it does not, it is said."""
        place = self.places[key]
        found: list[LaneStatus] = []
        picture = place.picture()
        error = self._try(place, lambda workspace: found.append(workspace.status()))
        assert place.picture() == picture
        if error is None and place.is_open:
            assert found[0].commit_id == head_of(place)

    @precondition(lambda self: any(place.is_open for place in self.places.values()))
    @rule(data=st.data(), edits=st.booleans())
    def commit(self, data: st.DataObject, edits: bool) -> None:  # noqa: FBT001 - drawn by name
        """Everything is in the new commit, on top of the last one, or nothing was done."""
        place = self.draw(data, lambda place: place.is_open)
        if edits:
            folder = place.worktree / f"folder-{self.next_number()}"
            folder.mkdir()
            (folder / "new.txt").write_text(f"new {self.number}\n")
        before = head_of(place)
        # As with "git add": what was only staged is replaced by what the file has.
        error = self._try(place, lambda workspace: workspace.commit("All"), staged_counts=False)
        event("commit: " + ("done" if error is None else type(error).__name__))
        if isinstance(error, NothingToCommitError):
            assert self._open(place).status().is_clean
        if error is not None:
            assert head_of(place) == before
            return
        handle = pygit2.Repository(str(place.worktree))
        now = handle[handle.head.target].peel(pygit2.Commit)
        assert str(now.parent_ids[0]) == before
        assert place.tip == str(now.id)
        assert self._open(place).status().is_clean
        assert not (place.admin_dir / "MERGE_HEAD").exists()
        files = {
            path.relative_to(place.worktree).as_posix()
            for path in place.worktree.rglob("*")
            if path.is_file() and path != place.worktree / ".git"
        }
        assert set(read_tree(place.worktree, str(now.id))) == files

    @rule(data=st.data(), commits=st.booleans())
    def push(self, data: st.DataObject, commits: bool) -> None:  # noqa: FBT001 - drawn by name
        """The remote has the lane's commits, or what it had."""
        place = self.draw(data, lambda place: place.is_open)
        if commits and place.is_open:
            self.commit_work(place)
        ref, there = place.lane.branch_ref, self.there
        error = self._try(place, lambda workspace: workspace.push(), moves=[ref])
        event("push: " + ("done" if error is None else type(error).__name__))
        now = self.there.get(ref)
        if error is not None:
            assert now == there.get(ref)
            return
        assert now is not None
        assert now == place.tip
        assert ref not in there or self.contains(there[ref], now)
        if self.owners.get(place.id) != place.clone.name:
            self.owners[place.id] = None

    @rule(data=st.data(), news=st.booleans())
    def pull(self, data: st.DataObject, news: bool) -> None:  # noqa: FBT001 - drawn by name
        """The lane follows the remote forward, or stays where it was."""
        place = self.draw(data, lambda place: place.is_open)
        if news:
            self.push_from_clone(place)
        before = place.tip
        error = self._try(place, lambda workspace: workspace.pull())
        event("pull: " + ("done" if error is None else type(error).__name__))
        now = place.tip
        if error is not None:
            assert now == before
            return
        assert before is not None
        assert now is not None
        handle = place.clone.handle
        assert now == before or handle.descendant_of(now, before)
        theirs = self.there.get(place.lane.branch_ref)
        assert theirs is not None
        assert now == theirs or handle.descendant_of(now, theirs)
