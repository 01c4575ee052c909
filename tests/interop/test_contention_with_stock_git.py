"""Any number of lanes beside a stock git that works in the same repository all the time.

``AGENTRELAY_CONTENTION_ROUNDS`` multiplies the repetitions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from agentrelay.workstream import GitWorkstreamTeardown, WorkstreamRuntime
from agentrelay.workstream.testing import GitServer, commit_files, read_tree, refs
from fixtures.crowd import LANES, ROUNDS, Crowd, by_processes, by_threads
from tests.interop._neighbour import Gate, Neighbour, git
from tests.interop._stock_git import GIT

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(GIT is None, reason="there is no git program to work beside"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

# What a user's git does by itself, or is told to, to keep a repository small and up to date.
_TIDYING: Final = (
    ("fetch", "-q", "--prune", "origin"),
    ("pack-refs", "--all", "--prune"),
    ("gc", "-q"),
    ("worktree", "prune"),
    ("repack", "-q", "-A", "-d"),
    ("gc", "-q", "--auto"),
    ("remote", "prune", "origin"),
    ("maintenance", "run", "--quiet"),
)
# The same with the least mercy it knows; people do that by hand.
_MERCILESS: Final = (*_TIDYING, ("gc", "-q", "--prune=now"), ("repack", "-q", "-a", "-d"))
Workers = Callable[[list[str], Callable[[str], object]], list[str]]


def whole(crowd: Crowd, names: list[str]) -> None:
    """Check that lanes are there, to us and to git."""
    # A "fetch --prune" that listed the remote's refs before a lane was pushed takes the
    # lane's new tracking ref for a stale one; the next fetch brings it back.
    git(crowd.repo, "fetch", "-q", "origin")
    assert crowd.broken(names) == []
    listed = git(crowd.repo, "worktree", "list", "--porcelain").stdout
    assert listed.count("worktree ") == len(names) + 1
    assert "prunable" not in listed


def gone(crowd: Crowd) -> None:
    """Check that nothing is left of any lane."""
    # Likewise the other way round: one that listed them before a lane was torn down
    # writes its tracking ref afterwards, and the next one prunes it.
    git(crowd.repo, "fetch", "-q", "--prune", "origin")
    left = [ref for ref in [*refs(crowd.repo), *refs(crowd.bare)] if "agentrelay" in ref]
    assert left == []
    assert b'"agentrelay/' not in crowd.config()
    assert list((crowd.repo / ".git" / "worktrees").glob("*")) == []
    assert crowd.locks(crowd.repo / ".git") == crowd.locks(crowd.bare) == []


@pytest.mark.parametrize(
    "workers", [pytest.param(by_threads, id="threads"), pytest.param(by_processes, id="processes")]
)
def test_thirty_two_lanes_beside_a_stock_git_are_whole_and_nothing_of_its_user_is_lost(
    tmp_path: Path, workers: Workers
) -> None:
    """Beside each thing git does to tidy up, one lane is in the middle and others run."""
    with GitServer(tmp_path) as server:
        crowd = Crowd(tmp_path, url=server.repository_url("origin.git"))
        # Lanes are cut from it, so each few of them fetch commits nobody here has yet.
        neighbour, gate = Neighbour(crowd, news="main"), Gate(server)

        def tidy() -> None:
            gate.each_beside_some(_TIDYING, neighbour.work, lanes=len(LANES))

        for step in (crowd.prepare, crowd.tear_down) * ROUNDS:
            neighbour.tidied.clear()
            gate.kept = 0
            gate.close()
            with neighbour.beside(tidy):
                assert workers(LANES, step) == []
            assert (neighbour.tidied, gate.kept) == (list(_TIDYING), len(_TIDYING))
            if step == crowd.prepare:
                whole(crowd, LANES)
            else:
                gone(crowd)
            assert neighbour.losses() == []


def test_lanes_of_a_remote_that_is_a_path_survive_a_merciless_stock_git(tmp_path: Path) -> None:
    """They come and go until git has done all it knows, collecting garbage without mercy."""
    crowd = Crowd(tmp_path)
    neighbour = Neighbour(crowd, news="news")
    neighbour.show_no_mercy()
    names = LANES[:8]
    for _ in range(ROUNDS):
        neighbour.tidied.clear()
        over = threading.Event()

        def tidy(over: threading.Event = over) -> None:
            try:
                for verb in _MERCILESS:
                    neighbour.work(verb)
            finally:
                over.set()

        with neighbour.beside(tidy):
            while not over.is_set():
                assert by_threads(names, crowd.prepare) == []
                assert by_threads(names, crowd.tear_down) == []
        assert neighbour.tidied == list(_MERCILESS)
        gone(crowd)
        assert by_threads(names, crowd.prepare) == []
        whole(crowd, names)
        assert by_threads(names, crowd.tear_down) == []
        gone(crowd)
        assert neighbour.losses() == []


def test_work_rescued_beside_a_merciless_garbage_collection_is_all_there(tmp_path: Path) -> None:
    """What a teardown writes is never taken for garbage before a ref leads to it."""
    crowd = Crowd(tmp_path)
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
