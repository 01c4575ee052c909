"""Random lives of several lanes in two clones, with users, agents and others in between.

After each thing the library does, the promises are checked: the user's own is untouched,
nobody else's lane is, every commit and content that existed before still exists, errors
are typed and say what to do, and the status follows a model.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pygit2
from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from agentrelay.workstream import WorkstreamRuntime, WorkstreamSpec, WorkstreamStatus, errors
from agentrelay.workstream.testing import World, commit_files, refs
from tests._examples import refusal, tries
from tests.fault._lane_places import MEDDLING, Clone, Place, all_objects
from tests.fault._objects import reachable

_MARKS: Final = ("pending", "active", "merge_ready", "pr_created", "merged", "failed")
_URL: Final = "https://github.example/owner/name/pull/7"
_IDS: Final = ("parser", "lexer")
_PLACES: Final = st.sampled_from([("a", "parser"), ("a", "lexer"), ("b", "parser"), ("b", "lexer")])


class LaneMachine(RuleBasedStateMachine):
    """Two clones of one remote; each may want each of two lanes."""

    def __init__(self) -> None:
        """Make the world."""
        super().__init__()
        self.undo = contextlib.ExitStack()
        root = self.undo.enter_context(tempfile.TemporaryDirectory(prefix="lanes-"))
        self.world = self.undo.enter_context(World(Path(root).resolve() / "world"))
        self.clones = [Clone(self.world, name) for name in ("a", "b")]
        self.places = {
            (clone.name, name): Place(clone, name, WorkstreamRuntime(WorkstreamSpec(name)))
            for clone in self.clones
            for name in _IDS
        }
        self.number = 0
        self.squashed: set[str] = set()
        # Who created the remote branch, while nobody else interfered with it.
        self.owners: dict[str, str | None] = {}
        self.unowned: set[str] = set()

    def teardown(self) -> None:
        """Close the world; what went wrong inside its servers is raised."""
        self.undo.close()

    def _next(self) -> int:
        self.number += 1
        return self.number

    # -- the promises

    def _verb(self, place: Place, action: Callable[[], Any]) -> Any:
        """Let the library do something with one lane, and check what it may not do."""
        users = [clone.users() for clone in self.clones]
        others = {other: self.places[other].picture() for other in self.places}
        others.pop((place.clone.name, place.id))
        ref = place.lane.branch_ref
        at_remote = refs(self.world.remote_path)
        unsaved = place.unsaved()
        # What only a remote-tracking ref leads to was removed by somebody at the remote.
        there = self.alive - self.squashed

        result = action()

        assert [clone.users() for clone in self.clones] == users
        for other, picture in others.items():
            assert self.places[other].picture() == picture, other
        now = all_objects(self.clones, self.world)
        assert there <= now
        assert place.lost(unsaved, now) == set()
        after = refs(self.world.remote_path)
        if self.owners.get(place.id) not in {None, place.clone.name}:
            assert after.get(ref) == at_remote.get(ref)
        assert {r: t for r, t in after.items() if r != ref} == {
            r: t for r, t in at_remote.items() if r != ref
        }
        for clone in self.clones:
            handle = clone.handle
            for name in refs(clone.repo):
                handle.references[name].peel(pygit2.Commit)
            assert not list(clone.git.glob("worktrees/*/index.lock"))
        self.world.check()
        return result

    @property
    def alive(self) -> set[str]:
        """Everything that something other than a remote-tracking ref leads to."""
        found: set[str] = set()
        for repo in (self.world.remote_path, *(clone.repo for clone in self.clones)):
            found |= reachable(repo, tracking=False)
        return found

    @staticmethod
    def _assert_says_what_to_do(error: errors.WorkstreamError) -> None:
        assert error.message
        assert error.hint
        # Nobody works beside this test, so nobody can be waited for.
        assert not isinstance(error, errors.LaneBusyError)

    # -- what the library does

    @initialize(keys=st.lists(_PLACES, max_size=2, unique=True))
    def begin(self, keys: list[tuple[str, str]]) -> None:
        """Most lives begin with a lane or two that have work."""
        for key in keys:
            self.prepare(key)
            if self.places[key].is_open:
                self._commit(self.places[key])

    @rule(key=_PLACES)
    def prepare(self, key: tuple[str, str]) -> None:
        """Prepare a lane: it stands afterwards, or is FAILED and says why."""
        place = self.places[key]
        stood = (
            place.tip is not None
            or place.lane.branch_ref in refs(self.world.remote_path)
            or (place.worktree / ".git").is_file()
        )
        runner, runtime = place.clone.runner, place.runtime
        failed = place.signal("failed")
        error = self._verb(place, lambda: refusal(lambda: runner.prepare(runtime)))
        event("prepare: " + ("a lane" if error is None else type(error).__name__))
        if error is not None:
            self._assert_says_what_to_do(error)
            assert runtime.status is WorkstreamStatus.FAILED
            assert str(error) in str(runtime.state.error)
            return
        assert place.is_open
        handle = pygit2.Repository(str(place.worktree))
        assert handle.head.name == place.lane.branch_ref
        assert place.lane.branch_ref in refs(self.world.remote_path)
        assert runtime.state.error is None
        assert place.signal("failed") is None
        assert failed is None or failed in place.history()
        if not stood:
            assert runtime.status is WorkstreamStatus.ACTIVE
            self.owners[place.id] = None if place.id in self.unowned else place.clone.name
        assert runtime.status not in {WorkstreamStatus.FAILED, WorkstreamStatus.PENDING}

    @rule(key=_PLACES)
    def integrate(self, key: tuple[str, str]) -> None:
        """Integrate a lane: one open pull request, or nothing to merge, or FAILED."""
        place = self.places[key]
        runner, runtime = place.clone.runner, place.runtime
        result = self._verb(place, lambda: runner.integrate(runtime))
        event(f"integrate: {result.status.value}")
        assert result.status is runtime.status
        assert result.error == runtime.state.error
        pulls = [
            pull
            for pull in self.world.github.pulls()
            if pull.head == place.lane.branch and pull.state == "open"
        ]
        assert len(pulls) <= 1
        if result.error is None:
            assert result.status in {WorkstreamStatus.PR_CREATED, WorkstreamStatus.MERGED}
            if result.status is WorkstreamStatus.PR_CREATED:
                assert [pull.html_url for pull in pulls] == [runtime.artifacts.merge_pr_url]
        else:
            assert result.status is WorkstreamStatus.FAILED
            assert result.error.partition(":")[0] in errors.__all__, result.error

    @rule(key=_PLACES)
    def tear_down(self, key: tuple[str, str]) -> None:
        """Tear a lane down: what goes is safe elsewhere, and the status stays."""
        place = self.places[key]
        runtime, before = place.runtime, place.runtime.status
        pulls = [
            pull.number
            for pull in self.world.github.pulls()
            if pull.head == place.lane.branch and pull.state == "open"
        ]
        at_remote = refs(self.world.remote_path).get(place.lane.branch_ref)
        teardown = self.world.teardown(place.clone.repo)
        error = self._verb(place, lambda: refusal(lambda: teardown.teardown_workstream(runtime)))
        event("tear down: " + ("done" if error is None else type(error).__name__))
        assert runtime.status is before
        if error is not None:
            self._assert_says_what_to_do(error)
        still = [pull.number for pull in self.world.github.pulls() if pull.state == "open"]
        target = refs(self.world.remote_path)["refs/heads/main"]
        merged = at_remote is None or self._contains(at_remote, target)
        assert merged or set(pulls) <= set(still)
        if place.lane.branch_ref not in refs(self.world.remote_path) and at_remote is not None:
            self.owners.pop(place.id, None)

    def _contains(self, ancestor: str, descendant: str) -> bool:
        handle = pygit2.Repository(str(self.world.remote_path))
        return ancestor == descendant or handle.descendant_of(descendant, ancestor)

    @rule(key=_PLACES)
    def load(self, key: tuple[str, str]) -> None:
        """A new process reads the lane from disk, and sees the same."""
        place = self.places[key]
        found: list[WorkstreamRuntime] = []
        error = refusal(lambda: found.append(WorkstreamRuntime.load(place.lane.signal_dir)))
        if error is not None:
            self._assert_says_what_to_do(error)
            place.forget()
            return
        if place.runtime.state.signal_dir is not None:
            assert found[0].status is place.runtime.status
        assert found[0].spec.id == place.id
        place.runtime = found[0]

    @rule(key=_PLACES, mark=st.sampled_from(_MARKS))
    def mark(self, key: tuple[str, str], mark: str) -> None:
        """Mark a lane; ``failed`` beats everything, otherwise the furthest counts."""
        place = self.places[key]
        runtime, before = place.runtime, place.runtime.status
        actions: dict[str, Callable[[], None]] = {
            "pending": runtime.mark_pending,
            "active": runtime.mark_active,
            "merge_ready": runtime.mark_merge_ready,
            "pr_created": lambda: runtime.mark_pr_created(_URL),
            "merged": runtime.mark_merged,
            "failed": lambda: runtime.mark_failed("an agent gave up"),
        }
        error = self._verb(place, lambda: refusal(actions[mark]))
        if runtime.state.signal_dir is None and mark != "failed":
            assert error is not None
            self._assert_says_what_to_do(error)
            return
        assert error is None
        furthest = max(before.value, mark, key=_MARKS.index)
        assert runtime.status.value == furthest

    # -- what agents and users of the lane do

    @precondition(lambda self: any(place.is_open for place in self.places.values()))
    @rule(data=st.data(), how=st.sampled_from(["commit", "push", "edit", "stage", "detach"]))
    def work(self, data: st.DataObject, how: str) -> None:
        """An agent works in some worktree."""
        keys = [key for key, place in self.places.items() if place.is_open]
        place = self.places[data.draw(st.sampled_from(keys))]
        number = self._next()
        name = f"work-{number}.txt"
        if how in {"commit", "push", "detach"}:
            if how == "detach":
                handle = pygit2.Repository(str(place.worktree))
                handle.set_head(pygit2.Oid(hex=str(handle.head.target)))
            self._commit(place)
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

    def _commit(self, place: Place) -> None:
        number = self._next()
        files = {f"work-{number}.txt": f"work {number}\n"}
        commit_files(place.worktree, files, message=f"work {number}")

    @precondition(lambda self: any(p.state == "open" for p in self.world.github.pulls()))
    @rule(data=st.data(), how=st.sampled_from(["merge", "squash", "rebase", "close"]))
    def decide(self, data: st.DataObject, how: Any) -> None:
        """Somebody merges or closes a pull request."""
        numbers = [pull.number for pull in self.world.github.pulls() if pull.state == "open"]
        number = data.draw(st.sampled_from(numbers))
        if how == "close":
            self.world.github.close_pull(number)
            return
        remote = pygit2.Repository(str(self.world.remote_path))
        head = next(p.head for p in self.world.github.pulls() if p.number == number)
        walker = remote.walk(remote.references[f"refs/heads/{head}"].target)
        walker.hide(remote.references["refs/heads/main"].target)
        commits = list(walker)
        with contextlib.suppress(ValueError):
            self.world.github.merge_pull(number, method=how)
            if how != "merge":
                # Proved by content from now on: every file of theirs has a name of its own.
                names = [name for commit in commits for name in (commit.id, commit.tree_id)]
                self.squashed |= set(map(str, names))

    # -- what gets in the way

    @rule(key=_PLACES, how=st.sampled_from([*MEDDLING]))
    def meddle(self, key: tuple[str, str], how: str) -> None:
        """A user deletes, moves, locks or damages a part of a lane, or sets it right."""
        MEDDLING[how](self.places[key], self.world.root)

    @rule(
        key=_PLACES,
        name=st.sampled_from([*_MARKS, "lane.json", "history.jsonl"]),
        content=st.sampled_from([None, b"", b"yes", b"\xff", b'{"claim": ', b"[]", b"x" * 70_000]),
    )
    def tamper(self, key: tuple[str, str], name: str, content: bytes | None) -> None:
        """Something deletes or overwrites a signal file."""
        place = self.places[key]
        path = place.lane.signal_dir / name
        if content is None:
            path.unlink(missing_ok=True)
        elif path.parent.is_dir():
            path.write_bytes(content)
        if name == "lane.json" and self.owners.get(place.id) == place.clone.name:
            self.owners[place.id] = None

    @rule(
        name=st.sampled_from(["parser", "lexer"]), how=st.sampled_from(["add", "force", "delete"])
    )
    def others_push(self, name: str, how: str) -> None:
        """Somebody else pushes to a lane's remote branch, forces or deletes it."""
        clone = self.clones[0]
        ref = self.places["a", name].lane.branch_ref
        tip = refs(self.world.remote_path).get(ref)
        remote = pygit2.Repository(str(self.world.remote_path))
        if how == "delete":
            if tip is not None:
                remote.references.delete(ref)
        elif how == "force":
            clone.send(clone.commit(self._next(), parents=[]), ref)
        elif tip is not None:
            number = self._next()
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
        number = self._next()
        target = {"a": self.clones[0].repo, "b": self.clones[1].repo}.get(where)
        commit_files(
            target or self.world.remote_path,
            {f"main-{number}.txt": f"main {number}\n"},
            message=f"main {number}",
            branch="main",
        )


LaneMachine.TestCase.settings = tries(8, stateful_step_count=25)
TestLanes = LaneMachine.TestCase
