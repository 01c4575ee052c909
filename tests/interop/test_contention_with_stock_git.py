"""Any number of lanes beside a stock git that works in the same repository all the time.

``AGENTRELAY_CONTENTION_ROUNDS`` multiplies the repetitions.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from agentrelay.workstream import GitWorkstreamTeardown, WorkstreamRuntime
from agentrelay.workstream.testing import commit_files, read_tree, refs
from fixtures.crowd import LANES, ROUNDS, Crowd, by_processes, by_threads
from tests.interop._stock_git import GIT, run_git

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(GIT is None, reason="there is no git program to work beside"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

# What keeps a repository small, each with the least mercy it knows.
_TIDYING: Final = (
    ("pack-refs", "--all", "--prune"),
    ("worktree", "prune"),
    ("fetch", "-q", "--prune", "origin"),
    ("gc", "-q", "--prune=now"),
    ("remote", "prune", "origin"),
    ("gc", "-q", "--auto"),
    ("maintenance", "run", "-q"),
)
Workers = Callable[[list[str], Callable[[str], object]], list[str]]


def git(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the stock git without any of the machine's configuration."""
    return run_git(cwd, *arguments)


class Neighbour:
    """Somebody who works in the repository with a stock git, and keeps it tidy."""

    def __init__(self, crowd: Crowd) -> None:
        """Take the clone the lanes are in."""
        self.repo = crowd.repo
        self.bare = crowd.bare
        self.rounds = 0
        self.failures: list[str] = []
        git(self.repo, "config", "gc.pruneExpire", "now")
        git(self.repo, "config", "gc.auto", "1")
        git(self.repo, "config", "gc.autoDetach", "false")

    def _insist(self, *arguments: str) -> None:
        """Do it again if a lock was in the way, as people do; give up after a minute."""
        ends_at = time.monotonic() + 60
        while (done := git(self.repo, *arguments)).returncode:
            if time.monotonic() > ends_at:
                self.failures.append(f"git {' '.join(arguments)}: {done.stdout}{done.stderr}")
                return

    def work(self) -> None:
        """One round: a commit, a branch, a setting, news at the remote, and some tidying."""
        number = self.rounds
        (self.repo / f"file{number}.txt").write_text("theirs\n")
        self._insist("add", f"file{number}.txt")
        self._insist("commit", "-q", "-m", f"commit {number}")
        self._insist("branch", f"theirs/{number}", "HEAD")
        self._insist("config", f"neighbour.key{number}", str(number))
        commit_files(self.bare, {f"news{number}": "1"}, message="news", branch="news")
        git(self.repo, *_TIDYING[number % len(_TIDYING)])
        self.rounds += 1

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Work all the time, in a thread."""
        done = threading.Event()

        def loop() -> None:
            while not done.is_set():
                self.work()

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def losses(self) -> list[str]:
        """Return what of theirs is gone, and what git finds odd."""
        names = set(refs(self.repo))
        lost = [f"theirs/{n}" for n in range(self.rounds) if f"refs/heads/theirs/{n}" not in names]
        settings = git(self.repo, "config", "--get-regexp", "^neighbour").stdout.split("\n")
        lost += [n for n in map(str, range(self.rounds)) if f"neighbour.key{n} {n}" not in settings]
        commits = git(self.repo, "log", "--format=%s", "main").stdout.split("\n")
        lost += [f"commit {n}" for n in range(self.rounds) if f"commit {n}" not in commits]
        for where in (self.repo, self.bare):
            checked = git(where, "fsck", "--strict", "--no-dangling", "--no-progress")
            if checked.returncode or checked.stdout or checked.stderr:
                lost.append(f"fsck of {where}: {checked.stdout}{checked.stderr}")
        return lost + self.failures


@pytest.fixture
def crowd(tmp_path: Path) -> Crowd:
    """Return a remote and a clone for many lanes."""
    return Crowd(tmp_path)


@pytest.mark.parametrize(
    "workers", [pytest.param(by_threads, id="threads"), pytest.param(by_processes, id="processes")]
)
def test_thirty_two_lanes_beside_a_stock_git_are_whole_and_nothing_of_its_user_is_lost(
    crowd: Crowd, workers: Workers
) -> None:
    """They come and go while git commits, fetches, packs, prunes and collects garbage."""
    neighbour = Neighbour(crowd)
    for _ in range(ROUNDS):
        with neighbour.at_work():
            assert workers(LANES, crowd.prepare) == []
        # A "fetch --prune" that listed the remote's refs before a lane was pushed takes the
        # lane's new tracking ref for a stale one; the next fetch brings it back.
        git(crowd.repo, "fetch", "-q", "origin")
        assert crowd.broken(LANES) == []
        listed = git(crowd.repo, "worktree", "list", "--porcelain").stdout
        assert listed.count("worktree ") == len(LANES) + 1
        assert "prunable" not in listed
        assert neighbour.losses() == []
        with neighbour.at_work():
            assert workers(LANES, crowd.tear_down) == []
        assert neighbour.losses() == []
        # Likewise the other way round: one that listed them before a lane was torn down
        # writes its tracking ref afterwards, and the next one prunes it.
        git(crowd.repo, "fetch", "-q", "--prune", "origin")
        left = [ref for ref in [*refs(crowd.repo), *refs(crowd.bare)] if "agentrelay" in ref]
        assert left == []
        assert b"agentrelay" not in crowd.config()
        assert list((crowd.repo / ".git" / "worktrees").glob("*")) == []
        assert crowd.locks(crowd.repo / ".git") == crowd.locks(crowd.bare) == []


def test_work_rescued_beside_a_merciless_garbage_collection_is_all_there(crowd: Crowd) -> None:
    """What a teardown writes is never taken for garbage before a ref leads to it."""
    names = LANES[:6]
    done = threading.Event()

    def collect() -> None:
        while not done.is_set():
            git(crowd.repo, "prune", "--expire=now")
            git(crowd.repo, "repack", "-q", "-a", "-d")
            git(crowd.repo, "gc", "-q", "--prune=now")

    def tear_down(name: str) -> None:
        runtime = WorkstreamRuntime.load(crowd.signal_dir(name))
        GitWorkstreamTeardown(crowd.repo).teardown_workstream(runtime)

    for turn in range(ROUNDS):
        for name in names:
            crowd.prepare(name)
            worktree = crowd.repo / ".worktrees" / "nightly" / name
            # New work each time: what was kept a moment ago is not kept once more.
            commit_files(worktree, {f"{name}.py": f"work {turn} of {name}"}, message=name)
            for number in range(20):
                (worktree / f"draft{number}.txt").write_text(f"{name}, draft {number} of {turn}")
            (worktree / "README.md").write_text(f"{name} was here {turn}")
        before = set(refs(crowd.repo))
        done.clear()
        collector = threading.Thread(target=collect)
        collector.start()
        try:
            assert by_threads(names, tear_down) == []
        finally:
            done.set()
            collector.join()
            done.clear()
        git(crowd.repo, "gc", "-q", "--prune=now")
        kept = [read_tree(crowd.repo, ref) for ref in set(refs(crowd.repo)) - before]
        for name in names:
            worktree = crowd.repo / ".worktrees" / "nightly" / name
            if worktree.exists():
                # It could not be kept, so it was not deleted, and the next time it can.
                tear_down(name)
                kept = [read_tree(crowd.repo, ref) for ref in set(refs(crowd.repo)) - before]
            assert not worktree.exists()
            for path, text in {
                f"{name}.py": f"work {turn} of {name}",
                "README.md": f"{name} was here {turn}",
                **{
                    f"draft{number}.txt": f"{name}, draft {number} of {turn}"
                    for number in range(20)
                },
            }.items():
                assert any(tree.get(path) == text.encode() for tree in kept), (name, path)
        checked = git(crowd.repo, "fsck", "--strict", "--no-dangling", "--no-progress")
        assert checked.stdout + checked.stderr == ""
