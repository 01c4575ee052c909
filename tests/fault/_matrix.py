"""The fault matrix: what a row is, the place it happens in, and what is looked at there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from base64 import b64encode
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pygit2

from agentrelay.workstream import (
    StandardWorkstreamRunner,
    WorkstreamError,
    WorkstreamIntegrator,
    WorkstreamRuntime,
    WorkstreamSpec,
)
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.testing import World, commit_files, refs
from tests.fault._plain_words import without_chance

__all__ = ["BRANCH", "NEWS", "REF", "Place", "Row", "Seen", "Step"]

# "prepare", "integrate", "teardown", a "whole life" of the three, or a verb of ``_verbs``.
Step = str

BRANCH: Final = "agentrelay/nightly/parser/integration"
REF: Final = f"refs/heads/{BRANCH}"
_RESCUE: Final = "refs/agentrelay/rescue/"
# What the remote has and the clone has not: more than one packet, and hard to compress.
NEWS: Final = {
    f"news/{number}": "".join(
        hashlib.sha256(f"{number} {line}".encode()).hexdigest() + "\n" for line in range(20)
    )
    for number in range(12)
}


@dataclass(frozen=True)
class Row:
    """One fault, and what must come of it.

    Attributes:
        part: Heading of the page it stands under.
        fault: What was injected, in words; with ``step`` it names the row.
        step: The operation it happens to.
        inject: Brings the fault about and takes it away again; after its ``yield`` it may
            assert what is of its own kind, such as another server's request log.
        error: Exact class of what the caller must see; ``None`` for a success. A teardown
            does not raise: its concerns must hold ``says``.
        says: What the message must hold: operand, and the other side's words.
        over: Whether the remote is a URL or a path.
        comparable: Whether a success must end exactly as an undisturbed run does.
        again: What was done about it, when that is more than repeating the call.
        act: Does something else than the step, several things in a row for example.
    """

    part: str
    fault: str
    step: Step
    inject: Callable[[Place], AbstractContextManager[None]]
    error: type[WorkstreamError] | None
    says: tuple[str, ...] = ()
    over: Literal["http", "path"] = "http"
    comparable: bool = True
    again: str = "the same call"
    act: Callable[[Place], Seen] | None = None

    @property
    def name(self) -> str:
        """The row's name: an operation and what happens to it."""
        return f"{self.step}: {self.fault}"


@dataclass(frozen=True)
class Seen:
    """What the caller of a step saw.

    Attributes:
        error: What was raised, or ``None``.
        concerns: What the step added to the lane's concerns.
    """

    error: Exception | None
    concerns: tuple[str, ...]


@dataclass
class _Watched:
    """An integrator whose exception the runner would turn into text."""

    inner: WorkstreamIntegrator
    error: Exception | None = None

    def create_integration_pr(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Pass on, and keep what is raised."""
        try:
            self.inner.create_integration_pr(workstream_runtime)
        except Exception as error:
            self.error = error
            raise


@dataclass
class Place:
    """A remote, a GitHub, a clone and one lane, with a home and neighbours to watch.

    Attributes:
        world: The two servers.
        home: The user's home directory.
        root: Everything but the home is below it.
        settings: What the caller passes to all three implementations.
        spec: The workstream.
        secrets: What must never be seen or written anywhere.
    """

    world: World
    home: Path
    root: Path
    over: Literal["http", "path"] = "http"
    settings: dict[str, Any] = field(default_factory=dict)
    spec: WorkstreamSpec = field(default_factory=lambda: WorkstreamSpec("parser"))
    secrets: list[str] = field(default_factory=list)
    graph: str = "nightly"
    api_timeout_s: int = 15
    work: str | None = None

    def __post_init__(self) -> None:
        """Clone, and let the remote get ahead of the clone."""
        self.repo = self.world.clone(by=self.over)
        self.git_dir = self.repo / ".git"
        commit_files(self.bare, NEWS, message="news", branch="main")
        self.made.parent.mkdir()
        (self.root / "neighbour").mkdir()
        (self.root / "neighbour" / "precious.txt").write_text("precious")
        (self.home / "notes.txt").write_text("notes")
        (self.repo / "draft.txt").write_text("the user's own draft")
        self.lane = Lane.of(self.repo, "nightly", "parser")
        self.runtime = WorkstreamRuntime(self.spec)
        assert self.world.token is not None
        self.secrets.append(self.world.token)

    @property
    def bare(self) -> Path:
        """The repository behind the servers."""
        return self.world.remote_path

    @property
    def worktree(self) -> Path:
        """The lane's worktree."""
        return self.lane.worktree_path

    @property
    def admin_dir(self) -> Path:
        """The entry of the lane's worktree."""
        return self.git_dir / "worktrees" / self.lane.admin_name

    @property
    def made(self) -> Path:
        """Where a clone goes that is made."""
        return self.root / "made" / "clone"

    def handle(self) -> pygit2.Repository:
        """Open the clone."""
        return pygit2.Repository(str(self.repo))

    def reach(self, step: Step) -> None:
        """Do undisturbed what comes before a step."""
        if step not in {"integrate", "teardown"}:
            return
        assert self.do("prepare").error is None
        self.work = commit_files(self.worktree, {"work.py": "pass\n"}, message="work")
        (self.worktree / "unsaved.txt").write_text("unsaved")

    def assert_work_is_reachable(self) -> None:
        """Assert that some ref leads to what the agents committed."""
        if self.work is not None:
            handle = self.handle()
            tips = [str(handle.references[ref].peel(pygit2.Commit).id) for ref in refs(self.repo)]
            assert any(tip == self.work or handle.descendant_of(tip, self.work) for tip in tips)

    def do(self, step: Step) -> Seen:
        """Do one step as another process would, through the standard runner."""
        if step == "whole life":
            return self._live()
        if (self.lane.signal_dir / "lane.json").is_file():
            with contextlib.suppress(WorkstreamError):
                self.runtime = WorkstreamRuntime.load(self.lane.signal_dir)
        if step == "prepare":
            self.runtime = WorkstreamRuntime(self.spec)
        integrator = _Watched(self.world.integrator(self.repo, **self._with_api))
        runner = StandardWorkstreamRunner(
            self.world.preparer(self.repo, self.graph, **self.settings),
            integrator,
            self.world.teardown(self.repo, **self._with_api),
        )
        before = len(self.runtime.artifacts.concerns)
        error: Exception | None = None
        try:
            if step == "prepare":
                runner.prepare(self.runtime)
            elif step == "integrate":
                runner.integrate(self.runtime)
                error = integrator.error
            else:
                runner.teardown(self.runtime)
        except Exception as raised:  # noqa: BLE001 - what kind it is gets asserted
            error = raised
        return Seen(error, tuple(self.runtime.artifacts.concerns[before:]))

    @property
    def _with_api(self) -> dict[str, Any]:
        return {"api_timeout_s": self.api_timeout_s, **self.settings}

    def _live(self) -> Seen:
        """Go through a lane's whole life, with work that is saved and work that is not."""
        concerns: list[str] = []
        for step in ("prepare", "integrate", "teardown"):
            seen = self.do(step)
            concerns += seen.concerns
            if seen.error is not None:
                return Seen(seen.error, tuple(concerns))
            if step == "prepare":
                commit_files(self.worktree, {"work.py": "pass\n"}, message="work")
                (self.worktree / "unsaved.txt").write_text("unsaved")
            if step == "integrate":
                self.world.github.merge_pull(1, method="squash")
        return Seen(None, tuple(concerns))

    def state(self) -> str:
        """Say in words what stands of the lane."""
        local = (self.git_dir / REF).is_file()
        remote = (self.bare / REF).is_file()
        parts = [
            "branch here" if local else "no branch here",
            "branch at the remote" if remote else "none at the remote",
            "worktree" if (self.worktree / ".git").is_file() else "no worktree",
        ]
        if not local and not remote and not (self.worktree / ".git").is_file():
            parts = ["nothing of the lane"]
        # The double cannot look at its repository while that one, too, is broken.
        with contextlib.suppress(pygit2.GitError, OSError):
            parts += [f"pull request {pull.state}" for pull in self.world.github.pulls()]
        if self.made.exists():
            parts.append("a clone")
        return f"{', '.join(parts)}; status {self.runtime.status.value}"

    def picture(self) -> dict[str, Any]:
        """Return what must be the same as after an undisturbed run."""
        local = refs(self.repo)
        worktrees = self.repo / ".worktrees"
        config = self.handle().config
        return {
            "refs": {name: tip for name, tip in local.items() if not name.startswith(_RESCUE)},
            # A snapshot's commit holds its time; its label and tree are always the same.
            "kept": sorted(
                {
                    (name.rpartition("/")[2], str(self.handle()[tip].peel(pygit2.Tree).id))
                    for name, tip in local.items()
                    if name.startswith(_RESCUE)
                }
            ),
            "remote": refs(self.bare),
            "pulls": [(pull.title, pull.state) for pull in self.world.github.pulls()],
            "files": {
                path.relative_to(worktrees).as_posix(): path.read_bytes()
                for path in sorted(worktrees.rglob("*"))
                if path.is_file() and path.name != ".git"
            },
            "status": pygit2.Repository(str(self.worktree)).status()
            if (self.worktree / ".git").is_file()
            else None,
            "entries": sorted(path.name for path in (self.git_dir / "worktrees").glob("*")),
            "locked": sorted(path.name for path in (self.git_dir / "worktrees").glob("*/locked")),
            "signals": sorted(
                path.name for path in self.lane.signal_dir.glob("*") if path.name != "history.jsonl"
            ),
            "lane": self.runtime.status.value,
            "upstream": sorted(
                (entry.name, entry.value)
                for entry in config
                if entry.name.startswith(f"branch.{BRANCH}.")
            ),
            "made": sorted(str(path.relative_to(self.made.parent)) for path in self._made_files()),
            "made refs": refs(self.made) if self.made.exists() else None,
            "exclude": (self.git_dir / "info" / "exclude").read_text(),
            "debris": sorted(
                path.relative_to(self.git_dir).as_posix()
                for path in self.git_dir.rglob("*")
                if (
                    path.suffix == ".lock"
                    and path.parts[len(self.git_dir.parts)] != "agentrelay"
                    # libgit2 leaves it when the disk is full; nobody ever waits for it.
                    and path.name != "FETCH_HEAD.lock"
                )
                or path.parent.name in {"held", "trash"}
                or path.name.startswith("new-")
            ),
        }

    def _made_files(self) -> list[Path]:
        """Return what is where clones are made, but for what is git's own."""
        return [path for path in self.made.parent.rglob("*") if ".git" not in path.parts]

    def the_users(self) -> dict[str, Any]:
        """Return what is the user's, byte for byte: files, HEAD, index and refs."""
        found: dict[str, Any] = {
            str(path): _content(path)
            for name in sorted(os.listdir(self.repo))
            if name not in {".git", ".worktrees", ".workflow"}
            for path in [self.repo / name, *(self.repo / name).rglob("*")]
        }
        for name in ("HEAD", "index", "refs/heads/main", "refs/stash", "ORIG_HEAD"):
            found[name] = _content(self.git_dir / name)
        found["tags"] = sorted(path.name for path in (self.git_dir / "refs/tags").glob("*"))
        found["heads"] = sorted(path.name for path in (self.git_dir / "refs/heads").glob("[!a]*"))
        return found

    def surroundings(self) -> dict[str, Any]:
        """Return everything near the repository that is not its own, byte for byte."""
        own = [self.git_dir, self.repo / ".worktrees", self.repo / ".workflow", self.bare]
        own.append(self.made.parent)
        return {
            str(path): _content(path)
            for top in (self.root, self.home)
            for path in _walk(top, set(own))
        }

    def assert_no_secret_on_disk(self) -> None:
        """Assert that no file anywhere near holds a token, plain or as HTTP sends it."""
        needles = [secret.encode() for secret in self.secrets]
        needles += [b64encode(b"x-access-token:" + needle) for needle in needles]
        for top in (self.root, self.home):
            for directory, _, names in os.walk(top):
                for name in names:
                    path = os.path.join(directory, name)  # noqa: PTH118 - thousands of them
                    # A large worktree that was torn down is being removed meanwhile.
                    with contextlib.suppress(FileNotFoundError):
                        if stat.S_ISREG(os.lstat(path).st_mode):
                            with open(path, "rb") as stream:  # noqa: PTH123 - same
                                data = stream.read()
                            assert not any(needle in data for needle in needles), path

    def plain(self, text: str) -> str:
        """Return a message without what differs from one run to the next."""
        for found, name in (
            (self.world.remote_url, "REMOTE"),
            (str(self.bare), "REMOTE"),
            (str(self.repo), "REPO"),
            (str(self.home), "HOME"),
            (str(self.root), "ROOT"),
        ):
            text = text.replace(found, name)
        return without_chance(text)


def _content(path: Path) -> Any:
    """Return what is at a path, links not followed, pipes not opened."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None
    if stat.S_ISLNK(mode):
        return "->", str(path.readlink())
    if stat.S_ISREG(mode):
        with contextlib.suppress(OSError):
            return stat.S_IMODE(mode), path.read_bytes()
    return mode


def _walk(top: Path, leave_out: set[Path]) -> list[Path]:
    """Return every path below ``top``, some trees left out."""
    found: list[Path] = []
    for directory, names, files in os.walk(top):
        here = Path(directory)
        names[:] = sorted(name for name in names if here / name not in leave_out)
        found += [here / name for name in (*names, *sorted(files)) if here / name not in leave_out]
    return found
