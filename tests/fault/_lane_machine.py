"""The world random lives of lanes are lived in, and the promises that are checked at each step."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Final

import pygit2
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from agentrelay.workstream import WorkstreamRuntime, WorkstreamSpec, errors
from agentrelay.workstream.testing import World, commit_files, refs
from tests.fault._lane_places import Clone, Place, all_objects

__all__ = ["IDS", "NAMES", "PLACES", "Key", "LaneWorld", "assert_says_what_to_do"]

Key = tuple[str, str]

IDS: Final = ("parser", "lexer")
NAMES: Final = ("a", "b")
PLACES: Final = st.sampled_from([(name, lane) for name in NAMES for lane in IDS])


def assert_says_what_to_do(error: errors.WorkstreamError) -> None:
    """Check that an error is of use to whoever reads it."""
    assert error.message
    assert error.hint
    # Nobody works beside this test, so nobody can be waited for.
    assert not isinstance(error, errors.LaneBusyError)


class LaneWorld(RuleBasedStateMachine):
    """Two clones of one remote; each may want each of two lanes."""

    def __init__(self) -> None:
        """Make the world."""
        super().__init__()
        self.undo = contextlib.ExitStack()
        root = self.undo.enter_context(tempfile.TemporaryDirectory(prefix="lanes-"))
        self.world = self.undo.enter_context(World(Path(root).resolve() / "world"))
        self.clones = [Clone(self.world, name) for name in NAMES]
        self.places = {
            (clone.name, name): Place(clone, name, WorkstreamRuntime(WorkstreamSpec(name)))
            for clone in self.clones
            for name in IDS
        }
        self.number = 0
        self.squashed: set[str] = set()
        # Who created the remote branch, while nobody else interfered with it.
        self.owners: dict[str, str | None] = {}
        self.unowned: set[str] = set()

    def teardown(self) -> None:
        """Close the world; what went wrong inside its servers is raised."""
        self.undo.close()

    def next_number(self) -> int:
        """Return a number that was not used yet."""
        self.number += 1
        return self.number

    def commit_work(self, place: Place) -> None:
        """Let an agent commit in a lane's worktree; a lock that is in the way stops it there."""
        number = self.next_number()
        files = {f"work-{number}.txt": f"work {number}\n"}
        with contextlib.suppress(OSError):
            commit_files(place.worktree, files, message=f"work {number}")

    def push_from_clone(self, place: Place) -> None:
        """Let a person fetch a lane's branch into a clone, and push on top of it."""
        ref = place.lane.branch_ref
        with contextlib.suppress(pygit2.GitError):
            origin = place.clone.handle.remotes["origin"]
            origin.fetch([f"+{ref}:refs/remotes/origin/{place.lane.branch}"])
        if ref in self.there:
            number = self.next_number()
            tip = place.clone.commit(number, parents=[self.there[ref]])
            place.clone.handle.remotes["origin"].push([f"{tip}:{ref}"])

    def draw(self, data: st.DataObject, wanted: Callable[[Place], bool]) -> Place:
        """Draw a lane, one that is as wanted where there is one: mostly there is more to see."""
        keys = [key for key, place in self.places.items() if wanted(place)]
        return self.places[data.draw(st.sampled_from(keys or [*self.places]), label="lane")]

    @property
    def there(self) -> dict[str, str]:
        """The refs of the remote."""
        return refs(self.world.remote_path)

    def places_in(self, clone: Clone) -> list[Place]:
        """Return the lanes of one clone."""
        return [place for place in self.places.values() if place.clone is clone]

    def contains(self, ancestor: str, descendant: str) -> bool:
        """Return whether the remote has a commit below another."""
        handle = pygit2.Repository(str(self.world.remote_path))
        return ancestor == descendant or handle.descendant_of(descendant, ancestor)

    def note_squash(self, head: str) -> set[str]:
        """Return what of a branch is proved by its content once it was squashed or rebased."""
        remote = pygit2.Repository(str(self.world.remote_path))
        walker = remote.walk(remote.references[f"refs/heads/{head}"].target)
        walker.hide(remote.references["refs/heads/main"].target)
        # Every file of theirs has a name of its own.
        return {str(name) for commit in walker for name in (commit.id, commit.tree_id)}

    # -- the promises

    def verb(
        self,
        places: Iterable[Place],
        action: Callable[[], Any],
        *,
        forgotten: Collection[str] = (),
        made: Collection[str] = (),
        moves: Collection[str] = (),
        staged_counts: bool = True,
    ) -> Any:
        """Let the library do something with some lanes, and check what it may not do.

        Args:
            places: The lanes it is told to work on.
            action: What it is told to do.
            forgotten: Rescue refs it is told to let go of.
            made: Branches of the user's it is told to make.
            moves: Refs of the remote it is told to move.
            staged_counts: Whether what is only staged stays.

        Returns:
            What ``action`` returned.
        """
        acted_on = list(places)
        users = self._users(besides=made)
        others = {
            key: place.picture() for key, place in self.places.items() if place not in acted_on
        }
        at_remote = self.there
        unsaved = [(place, self._unsaved(place, staged_counts)) for place in acted_on]
        # What only a remote-tracking ref leads to was removed by somebody at the remote.
        alive = all_objects(self.clones, self.world, tracking=False, without=forgotten)
        alive -= self.squashed

        result = action()

        assert self._users(besides=made) == users
        for key, picture in others.items():
            assert self.places[key].picture() == picture, key
        now = all_objects(self.clones, self.world)
        assert alive <= now
        for place, before in unsaved:
            assert place.lost(before, now) == set()
        after = self.there
        mine = {place.lane.branch_ref for place in acted_on}
        for place in acted_on:
            ref = place.lane.branch_ref
            if self.owners.get(place.id) not in {None, place.clone.name} and ref not in moves:
                assert after.get(ref) == at_remote.get(ref)
            if ref in at_remote and ref not in after:
                self.owners.pop(place.id, None)
        assert {r: t for r, t in after.items() if r not in mine and r not in moves} == {
            r: t for r, t in at_remote.items() if r not in mine and r not in moves
        }
        for clone in self.clones:
            handle = clone.handle
            for name in refs(clone.repo):
                handle.references[name].peel(pygit2.Commit)
            assert not list(clone.git.glob("worktrees/*/index.lock"))
        self.world.check()
        return result

    def _users(self, *, besides: Collection[str]) -> list[dict[str, Any]]:
        """Return everything of the users', without branches they asked for just now."""
        found = [clone.users() for clone in self.clones]
        for picture in found:
            picture["refs"] = {
                ref: tip for ref, tip in picture["refs"].items() if ref not in besides
            }
        return found

    @staticmethod
    def _unsaved(place: Place, staged_counts: bool) -> dict[Path, str]:  # noqa: FBT001 - as verb() has it
        index = place.admin_dir / "index"
        return {
            path: name
            for path, name in place.unsaved().items()
            if staged_counts or path.parent != index
        }
