"""Clones and lanes for the state machine: what can be done to them, and what they look like."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pygit2
from pygit2.enums import FileMode

from agentrelay.workstream import WorkstreamRuntime, WorkstreamSpec
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.testing import World, refs
from tests.fault._lane_operations import operation_commits, patches
from tests.fault._objects import contents, leave_dead_lock, reachable

__all__ = ["GRAPH", "INTERRUPTIONS", "MEDDLING", "Clone", "Place", "all_objects", "index_blobs"]

GRAPH: Final = "nightly"


def index_blobs(index_path: Path) -> set[str]:
    """Return the contents an index file holds on to."""
    if not index_path.is_file():
        return set()
    return {str(entry.id) for entry in pygit2.Index(str(index_path))}


class Clone:
    """One clone of the remote, with a user who has work of their own in it."""

    def __init__(self, world: World, name: str) -> None:
        """Make the clone."""
        self.world = world
        self.name = name
        self.repo = world.clone(name, by="path")
        self.git = self.repo / ".git"
        self.runner = world.runner(self.repo, GRAPH)

    @property
    def handle(self) -> pygit2.Repository:
        """A fresh handle."""
        return pygit2.Repository(str(self.repo))

    def users(self) -> dict[str, Any]:
        """Return everything that is the user's: branches, HEAD, index, checkout, settings."""
        kept = {
            path: data
            for child in self.repo.iterdir()
            if child.name not in {".git", ".worktrees", ".workflow"}
            for path, data in contents(child).items()
        }
        own = ("refs/heads/agentrelay/", "refs/agentrelay/", "refs/remotes/")
        return {
            "refs": {ref: tip for ref, tip in refs(self.repo).items() if not ref.startswith(own)},
            "HEAD": (self.git / "HEAD").read_bytes(),
            "index": (self.git / "index").read_bytes(),
            "files": kept,
            "config": [
                (entry.name, entry.value)
                for entry in self.handle.config
                if "agentrelay" not in entry.name
            ],
        }

    def commit(self, number: int, *, parents: list[str]) -> str:
        """Make a commit that no ref leads to yet."""
        handle = self.handle
        blob = handle.create_blob(b"committed %d\n" % number)
        builder = handle.TreeBuilder()
        if parents:
            builder = handle.TreeBuilder(handle[parents[0]].peel(pygit2.Tree))
        builder.insert(f"file-{number}.txt", blob, FileMode.BLOB)
        author = pygit2.Signature("Robin Example", "robin@example.invalid", 1_704_100_000, 0)
        text = f"commit {number}"
        return str(handle.create_commit(None, author, author, text, builder.write(), parents))

    def send(self, commit_id: str, ref: str) -> None:
        """Put a commit into the remote and a ref on it, by force."""
        self.handle.remotes["origin"].push([f"{commit_id}:refs/heads/scratch"])
        remote = pygit2.Repository(str(self.world.remote_path))
        remote.references.delete("refs/heads/scratch")
        remote.references.create(ref, commit_id, force=True)


@dataclass
class Place:
    """One lane in one clone.

    Attributes:
        clone: The clone.
        id: The workstream's id.
        runtime: What this process knows of it.
    """

    clone: Clone
    id: str
    runtime: WorkstreamRuntime

    def __post_init__(self) -> None:
        """Know the lane's names."""
        self.lane = Lane.of(self.clone.repo, GRAPH, self.id)
        self.worktree = self.lane.worktree_path
        self.admin_dir = self.clone.git / "worktrees" / self.lane.admin_name

    def __str__(self) -> str:
        """Return ``clone:id``."""
        return f"{self.clone.name}:{self.id}"

    @property
    def tip(self) -> str | None:
        """Where the branch is here."""
        return refs(self.clone.repo).get(self.lane.branch_ref)

    @property
    def is_open(self) -> bool:
        """Whether an agent could work in the worktree."""
        if not (self.worktree / ".git").is_file() or self.worktree.is_symlink():
            return False
        with contextlib.suppress(pygit2.GitError, KeyError):
            handle = pygit2.Repository(str(self.worktree))
            # Unborn, or damaged: no agent gets further than this. With a damaged "gitdir",
            # libgit2 takes the current directory for the working tree.
            return (
                Path(handle.path) == self.admin_dir
                and Path(handle.workdir) == self.worktree
                and bool(handle.head.target)
            )
        return False

    def forget(self) -> None:
        """Be a new process that knows the name alone."""
        self.runtime = WorkstreamRuntime(WorkstreamSpec(self.id))

    def signal(self, name: str) -> str | None:
        """Return the text of a signal file, unless it is none."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return (self.lane.signal_dir / name).read_bytes().decode()
        return None

    def history(self) -> list[str]:
        """Return the texts of the lane's history, as a tolerant reader finds them."""
        found = []
        with contextlib.suppress(OSError):
            for line in (self.lane.signal_dir / "history.jsonl").read_bytes().splitlines():
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    found.append(json.loads(line)["text"])
        return found

    def picture(self) -> dict[str, Any]:
        """Return everything there is of the lane in this clone."""
        return {
            "branch": self.tip,
            "files": contents(self.worktree),
            "entry": {
                path: data
                for path, data in contents(self.admin_dir).items()
                # Looking at a worktree may refresh the times in its index.
                if path.name != "index"
            },
            "staged": index_blobs(self.admin_dir / "index"),
            "signals": contents(self.lane.signal_dir),
            "rescued": {
                ref: tip
                for ref, tip in refs(self.clone.repo).items()
                if ref.startswith(self.lane.rescue_prefix)
            },
        }

    def unsaved(self) -> dict[Path, str]:
        """Return the hash of every content in the worktree and its index, by where it is."""
        found = {
            path: str(pygit2.hash(data))
            for path, data in contents(self.worktree).items()
            if path != self.worktree / ".git"
        }
        for blob in index_blobs(self.admin_dir / "index"):
            found[self.admin_dir / "index" / blob] = blob
        for path, data in patches(self.admin_dir).items():
            found[path] = str(pygit2.hash(data))
        return found

    def lost(self, before: dict[Path, str], there: set[str]) -> set[Path]:
        """Return what of ``before`` is neither under a ref nor where it was."""
        now = self.unsaved()
        return {
            path for path, name in before.items() if name not in there and now.get(path) != name
        }

    def clear(self) -> None:
        """Delete what is where the worktree belongs."""
        if self.worktree.is_dir() and not self.worktree.is_symlink():
            shutil.rmtree(self.worktree)
        else:
            self.worktree.unlink(missing_ok=True)


def _delete_branch(place: Place, root: Path) -> None:
    del root
    if place.tip is not None:
        place.clone.handle.references.delete(place.lane.branch_ref)


def _edit_entry(name: str, content: bytes | None) -> Callable[[Place, Path], None]:
    def edit(place: Place, root: Path) -> None:
        del root
        if not place.admin_dir.is_dir():
            return
        if content is None:
            (place.admin_dir / name).unlink(missing_ok=True)
        else:
            (place.admin_dir / name).write_bytes(content)

    return edit


def _switch_back(place: Place, root: Path) -> None:
    _edit_entry("HEAD", f"ref: {place.lane.branch_ref}\n".encode())(place, root)


def _move(place: Place, root: Path) -> None:
    if place.is_open:
        elsewhere = Path(tempfile.mkdtemp(prefix="moved-", dir=root)) / "worktree"
        place.worktree.rename(elsewhere)
        (place.admin_dir / "gitdir").write_text(f"{elsewhere / '.git'}\n")


def _plant_link(place: Place, root: Path) -> None:
    if not os.path.lexists(place.worktree):
        precious = Path(tempfile.mkdtemp(prefix="precious-", dir=root))
        (precious / "notes.txt").write_text("do not touch\n")
        place.worktree.parent.mkdir(parents=True, exist_ok=True)
        place.worktree.symlink_to(precious)


def _plant_file(place: Place, root: Path) -> None:
    del root
    if not os.path.lexists(place.worktree):
        place.worktree.parent.mkdir(parents=True, exist_ok=True)
        place.worktree.write_text(f"notes {os.urandom(4).hex()}\n")


def _plant_folder(place: Place, root: Path) -> None:
    if not os.path.lexists(place.worktree):
        _plant_link(place, root)
        precious = place.worktree.resolve()
        place.worktree.unlink()
        precious.rename(place.worktree)


def _begin_teardown(place: Place, root: Path) -> None:
    """Leave what a teardown leaves that was killed as soon as it had noted its intent."""
    del root
    path = place.lane.signal_dir / "lane.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        record = json.loads(path.read_bytes())
        if record["claim"] in {"wanted", "pushed", "lost"}:
            path.write_text(json.dumps({**record, "ending": True}))


def _make_way(place: Place, root: Path) -> None:
    del root
    if not place.is_open:
        place.clear()


# What a user does to a part of a lane, by name; some set right what others did.
MEDDLING: Final[dict[str, Callable[[Place, Path], None]]] = {
    "delete the folder": lambda place, _: place.clear(),
    "delete the branch": _delete_branch,
    "delete the entry": lambda place, _: shutil.rmtree(place.admin_dir, ignore_errors=True),
    "damage HEAD": _edit_entry("HEAD", b"\x00\x01"),
    "damage gitdir": _edit_entry("gitdir", b"\x00\x01"),
    "lose commondir": _edit_entry("commondir", None),
    "move": _move,
    "lock": _edit_entry("locked", b"on a stick\n"),
    "unlock": _edit_entry("locked", None),
    "leave a dead lock": lambda place, _: leave_dead_lock(place.clone.repo, place.lane.branch_ref),
    "plant a link": _plant_link,
    "plant a file": _plant_file,
    "plant a folder": _plant_folder,
    "switch back": _switch_back,
    "make way": _make_way,
    "begin its teardown": _begin_teardown,
}


# Those that leave a lane which a reconcile has something to do about.
INTERRUPTIONS: Final = ("delete the folder", "delete the branch", "begin its teardown")


def all_objects(
    clones: list[Clone], world: World, *, tracking: bool = True, without: Collection[str] = ()
) -> set[str]:
    """Return everything that the clones or the remote hold on to.

    Args:
        clones: The clones. What an operation under way in a worktree leads to counts.
        world: Has the remote.
        tracking: Whether remote-tracking refs count.
        without: Full names of refs that do not count.
    """
    found = reachable(world.remote_path)
    for clone in clones:
        under_way = operation_commits(clone)
        found |= reachable(clone.repo, tracking=tracking, without=without, besides=under_way)
    return found
