"""Many lanes, by this library in one batch and by the git program one by one.

    python benchmarks/many_lanes.py [LANES]

Both work in clones of the same bare repository, whose path is the remote, on the same disk.
Ours prepares all lanes by one ``prepare_all`` and removes them by one ``teardown_all``; the
git program takes ``fetch``, ``worktree add -b``, ``push -u`` for each, and ``worktree
remove --force``, ``branch -D``, ``push --delete``. A thousand lanes take it ten minutes, so
it makes and removes 10 lanes only, once beside no other lane, once beside half of them and
once beside all, and the sum is put together from the three medians (trapezoids). What it
makes and removes is what it would have: the other lanes are made by ours.

Printed are milliseconds a lane and the ratio of ours to git's; then what the 10th and the
last lane cost when ours prepares them one by one. Use ``TMPDIR=/dev/shm`` to measure in
memory; ext4 without a journal is slow at creating files soon after deleting many.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from _repositories import git

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    LaneResult,
    WorkstreamRuntime,
    WorkstreamSpec,
    prepare_all,
    teardown_all,
)
from agentrelay.workstream.testing import (
    BranchRecipe,
    CommitRecipe,
    RepositoryRecipe,
    clone_repository,
    create_bare_repository,
)

FILES = 20
SAMPLES = 10
# Source files of a few kilobytes, as repositories of code have them.
CONTENT = "".join(f"line {number} of a source file\n" for number in range(200))


def by_git(repo: Path) -> tuple[float, float]:
    """Make a few lanes with the git program and remove them; return both medians in ms."""
    made, removed = [], []
    for number in range(SAMPLES):
        branch, path = f"agentrelay/bench/g{number}/integration", f".worktrees/bench/g{number}"
        started = time.perf_counter()
        git(repo, "fetch", "-q", "--no-tags", "origin", "+refs/heads/main:refs/remotes/origin/main")
        git(repo, "worktree", "add", "-q", "--no-track", "-b", branch, path, "origin/main")
        git(repo, "push", "-q", "-u", "origin", branch)
        made.append(1000 * (time.perf_counter() - started))
    for number in range(SAMPLES):
        branch, path = f"agentrelay/bench/g{number}/integration", f".worktrees/bench/g{number}"
        started = time.perf_counter()
        git(repo, "worktree", "remove", "--force", path)
        git(repo, "branch", "-q", "-D", branch)
        git(repo, "push", "-q", "origin", "--delete", branch)
        removed.append(1000 * (time.perf_counter() - started))
    return statistics.median(made), statistics.median(removed)


def runtimes(first: int, last: int) -> list[WorkstreamRuntime]:
    """Return runtimes of some lanes."""
    return [WorkstreamRuntime(WorkstreamSpec(f"o{number}")) for number in range(first, last)]


def checked(results: list[LaneResult]) -> None:
    """Stop when a lane failed or has something to say."""
    for result in results:
        if result.error is not None or result.runtime.artifacts.concerns:
            sys.exit(
                f"{result.runtime.spec.id}: {result.error} {result.runtime.artifacts.concerns}"
            )


def over_all(medians: list[float]) -> float:
    """Return the cost a lane of all lanes, from the cost at none, half and all of them."""
    none, half, everything = medians
    return (none + 2 * half + everything) / 4


def place(root: Path, name: str) -> Path:
    """Make a bare repository and a clone of it; return the clone."""
    files = {f"src/module{number}.py": CONTENT for number in range(FILES)}
    recipe = RepositoryRecipe((BranchRecipe("main", (CommitRecipe("files", files),)),))
    return clone_repository(
        create_bare_repository(root / name / "remote.git", recipe), root / name / "clone"
    )


def the_git_program(root: Path, lanes: int) -> list[tuple[float, float]]:
    """Return its medians beside no, half and all of the lanes."""
    repo = place(root, "git")
    preparer = GitWorkstreamPreparer(repo, "bench")
    samples = [by_git(repo)]
    checked(prepare_all(runtimes(0, lanes // 2), preparer))
    samples.append(by_git(repo))
    checked(prepare_all(runtimes(lanes // 2, lanes), preparer))
    samples.append(by_git(repo))
    shutil.rmtree(root / "git")
    return samples


def in_a_batch(root: Path, lanes: int) -> tuple[float, float]:
    """Prepare and remove all lanes in a new place; return milliseconds a lane."""
    repo, batch = place(root, "batch"), runtimes(0, lanes)
    started = time.perf_counter()
    checked(prepare_all(batch, GitWorkstreamPreparer(repo, "bench")))
    made = time.perf_counter()
    checked(teardown_all(batch, GitWorkstreamTeardown(repo)))
    removed = time.perf_counter()
    shutil.rmtree(root / "batch")
    return 1000 * (made - started) / lanes, 1000 * (removed - made) / lanes


def compare(root: Path, lanes: int) -> None:
    """Measure and print."""
    in_a_batch(root, 2)  # imports and caches
    ours = [in_a_batch(root, lanes)]
    samples = the_git_program(root, lanes)
    ours += [in_a_batch(root, lanes) for _ in range(2)]
    print(
        f"{'in a batch':12} {'git, ms':>8} {'ours, ms':>9} {'ratio':>6}   git beside no, half, all"
    )
    for index, step in enumerate(("prepare", "teardown")):
        medians = [sample[index] for sample in samples]
        theirs, mine = over_all(medians), statistics.median(row[index] for row in ours)
        shown = ", ".join(f"{value:.0f}" for value in medians)
        print(f"{step:12} {theirs:8.1f} {mine:9.2f} {mine / theirs:6.3f}   {shown}")

    repo = place(root, "single")
    preparer = GitWorkstreamPreparer(repo, "bench")
    few = one_by_one(preparer, runtimes(0, 25))[5:]
    checked(prepare_all(runtimes(25, lanes - 20), preparer))
    many = one_by_one(preparer, runtimes(lanes - 20, lanes))
    tenth, last = statistics.median(few), statistics.median(many)
    print(
        f"one by one   lane 10 {tenth:.1f} ms, lane {lanes} {last:.1f} ms, {last / tenth:.2f} times"
    )


def one_by_one(preparer: GitWorkstreamPreparer, some: list[WorkstreamRuntime]) -> list[float]:
    """Prepare lanes one by one; return the time of each in milliseconds."""
    times = []
    for runtime in some:
        started = time.perf_counter()
        preparer.prepare_workstream(runtime)
        times.append(1000 * (time.perf_counter() - started))
    return times


def main() -> None:
    """Build the repositories and compare."""
    lanes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    if shutil.which("git") is None:
        sys.exit("there is no git program to compare with")
    print(f"{lanes} lanes of {FILES} files, in {tempfile.gettempdir()}")
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), lanes)


if __name__ == "__main__":
    main()
