"""What agents, users and others do in and to lanes, between the things the library does."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import pygit2
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from agentrelay.workstream.testing import commit_files
from tests.fault._lane_machine import IDS, NAMES, PLACES, Key, LaneWorld
from tests.fault._lane_operations import OPERATIONS
from tests.fault._lane_places import MEDDLING

__all__ = ["MARKS", "Interference"]

MARKS: Final = ("pending", "active", "merge_ready", "pr_created", "merged", "failed")


class Interference(LaneWorld):
    """Rules for everybody but the library."""

    # -- what agents and users of the lane do

    @precondition(lambda self: any(place.is_open for place in self.places.values()))
    @rule(data=st.data(), how=st.sampled_from(["commit", "push", "edit", "stage", "detach"]))
    def work(self, data: st.DataObject, how: str) -> None:
        """An agent works in some worktree."""
        place = self.draw(data, lambda place: place.is_open)
        number = self.next_number()
        name = f"work-{number}.txt"
        if how in {"commit", "push", "detach"}:
            if how == "detach":
                handle = pygit2.Repository(str(place.worktree))
                handle.set_head(pygit2.Oid(hex=str(handle.head.target)))
            self.commit_work(place)
            if how == "push":
                with contextlib.suppress(pygit2.GitError, KeyError):
                    origin = pygit2.Repository(str(place.worktree)).remotes["origin"]
                    origin.push([f"{place.lane.branch_ref}:{place.lane.branch_ref}"])
                if self.owners.get(place.id) != place.clone.name:
                    self.owners[place.id] = None
            return
        (place.worktree / name).write_text(f"unsaved {number}\n")
        if (place.worktree / "README.md").is_file():
            (place.worktree / "README.md").write_text(f"edited {number}\n")
        if how == "stage":
            index = pygit2.Repository(str(place.worktree)).index
            index.add(name)
            index.write()
            (place.worktree / name).write_text(f"edited since {number}\n")

    @precondition(lambda self: any(p.state == "open" for p in self.world.github.pulls()))
    @rule(data=st.data(), how=st.sampled_from(["merge", "squash", "rebase", "close"]))
    def decide(self, data: st.DataObject, how: Any) -> None:
        """Somebody merges or closes a pull request."""
        numbers = [pull.number for pull in self.world.github.pulls() if pull.state == "open"]
        number = data.draw(st.sampled_from(numbers))
        if how == "close":
            self.world.github.close_pull(number)
            return
        head = next(p.head for p in self.world.github.pulls() if p.number == number)
        squashed = self.note_squash(head)
        with contextlib.suppress(ValueError):
            self.world.github.merge_pull(number, method=how)
            if how != "merge":
                self.squashed |= squashed

    # -- what gets in the way

    @rule(key=PLACES, how=st.sampled_from([*MEDDLING]))
    def meddle(self, key: Key, how: str) -> None:
        """A user deletes, moves, locks or damages a part of a lane, or sets it right."""
        MEDDLING[how](self.places[key], self.world.root)

    @rule(
        key=PLACES,
        name=st.sampled_from([*MARKS, "lane.json", "history.jsonl"]),
        content=st.sampled_from([None, b"", b"yes", b"\xff", b'{"claim": ', b"[]", b"x" * 70_000]),
    )
    def tamper(self, key: Key, name: str, content: bytes | None) -> None:
        """Something deletes or overwrites a signal file."""
        place = self.places[key]
        path = place.lane.signal_dir / name
        if content is None:
            path.unlink(missing_ok=True)
        elif path.parent.is_dir():
            path.write_bytes(content)
        if name == "lane.json" and self.owners.get(place.id) == place.clone.name:
            self.owners[place.id] = None

    @precondition(lambda self: any(place.is_open for place in self.places.values()))
    @rule(data=st.data(), how=st.sampled_from([*OPERATIONS]))
    def leave_in_the_middle(self, data: st.DataObject, how: str) -> None:
        """An agent begins a merge, a pick, a rebase or patches, and does not come back."""
        place = self.draw(data, lambda place: place.is_open)
        OPERATIONS[how](place, self.next_number())

    @rule(name=st.sampled_from(IDS), which=st.sampled_from(NAMES))
    def another_clone_pushes(self, name: str, which: str) -> None:
        """A person fetches a lane's branch into one of the clones, and pushes on top of it."""
        self.push_from_clone(self.places[which, name])

    @rule(name=st.sampled_from(IDS), how=st.sampled_from(["add", "force", "delete"]))
    def others_push(self, name: str, how: str) -> None:
        """Somebody else pushes to a lane's remote branch, forces or deletes it."""
        clone = self.clones[0]
        ref = self.places["a", name].lane.branch_ref
        tip = self.there.get(ref)
        remote = pygit2.Repository(str(self.world.remote_path))
        if how == "delete":
            if tip is not None:
                remote.references.delete(ref)
        elif how == "force":
            clone.send(clone.commit(self.next_number(), parents=[]), ref)
        elif tip is not None:
            number = self.next_number()
            commit_files(
                self.world.remote_path,
                {f"theirs-{number}.txt": f"theirs {number}\n"},
                message=f"theirs {number}",
                branch=ref.removeprefix("refs/heads/"),
            )
        if how != "add":
            # No clone can tell a branch that was made anew from its own.
            self.owners[name] = None
            self.unowned.add(name)

    @rule(where=st.sampled_from(["a", "b", "remote"]))
    def main_moves(self, where: str) -> None:
        """A user commits to main, here or at the remote; both may diverge."""
        number = self.next_number()
        target = {"a": self.clones[0].repo, "b": self.clones[1].repo}.get(where)
        commit_files(
            target or self.world.remote_path,
            {f"main-{number}.txt": f"main {number}\n"},
            message=f"main {number}",
            branch="main",
        )
