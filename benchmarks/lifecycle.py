"""One lane's whole life, by this library and by the git program, side by side.

Each round makes and removes one lane with each of the two, alternately, in clones of the
same remote on the same disk, so that whatever else the machine does hits both. Printed are
medians in milliseconds and the ratio of ours to git's.

    python benchmarks/lifecycle.py [ROUNDS]

Creating files soon after deleting many is slow on ext4 without a journal, for both sides;
``TMPDIR=/dev/shm`` measures in memory. What a lane costs: fetch of the base, branch,
worktree, push, upstream; then removal of worktree, local and remote branch. Ours also
writes durable signal files, locks, and checks the lane for unsaved work before it goes;
git's does none of that.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from _repositories import git

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    WorkstreamRuntime,
    WorkstreamSpec,
)
from agentrelay.workstream.testing import (
    BranchRecipe,
    CommitRecipe,
    GitServer,
    RepositoryRecipe,
    clone_repository,
    create_bare_repository,
)

FILES = 20
# Source files of a few kilobytes, as repositories of code have them.
CONTENT = "".join(f"line {number} of a source file\n" for number in range(200))


def by_git(repo: Path, number: int) -> tuple[float, float]:
    """Make and remove a lane with the git program; return both times in seconds."""
    branch, path = f"agentrelay/bench/g{number}/integration", f".worktrees/bench/g{number}"
    started = time.perf_counter()
    git(repo, "fetch", "-q", "--no-tags", "origin", "+refs/heads/main:refs/remotes/origin/main")
    git(repo, "worktree", "add", "-q", "--no-track", "-b", branch, path, "origin/main")
    git(repo, "push", "-q", "-u", "origin", branch)
    made = time.perf_counter()
    git(repo, "worktree", "remove", "--force", path)
    git(repo, "branch", "-q", "-D", branch)
    git(repo, "push", "-q", "origin", "--delete", branch)
    return made - started, time.perf_counter() - made


def by_us(repo: Path, number: int) -> tuple[float, float]:
    """Make and remove a lane with this library; return both times in seconds."""
    lane = WorkstreamRuntime(WorkstreamSpec(f"o{number}"))
    started = time.perf_counter()
    GitWorkstreamPreparer(repo, "bench").prepare_workstream(lane)
    made = time.perf_counter()
    GitWorkstreamTeardown(repo).teardown_workstream(lane)
    assert lane.artifacts.concerns == []
    return made - started, time.perf_counter() - made


def compare(name: str, root: Path, remote: Path, url: str, rounds: int) -> None:
    """Measure one kind of remote and print the ratios."""
    sides: dict[str, tuple[Callable[[Path, int], tuple[float, float]], Path]] = {
        "git": (by_git, clone_repository(remote, root / f"{name}-git", url=url)),
        "ours": (by_us, clone_repository(remote, root / f"{name}-ours", url=url)),
    }
    times: dict[str, list[tuple[float, float]]] = {"git": [], "ours": []}
    for run, repo in sides.values():
        run(repo, 0)  # imports and caches
    for number in range(1, rounds + 1):
        for side, (run, repo) in sides.items():
            times[side].append(run(repo, number))
    rows = {
        side: [1000 * statistics.median(column) for column in zip(*values, strict=True)]
        + [1000 * statistics.median(map(sum, values))]
        for side, values in times.items()
    }
    for index, step in enumerate(("create", "remove", "whole life")):
        theirs, ours = rows["git"][index], rows["ours"][index]
        print(f"{name:12} {step:10}  {theirs:8.1f}  {ours:8.1f}  {ours / theirs:6.2f}")


def main() -> None:
    """Build the repositories and compare over both kinds of remote."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    if shutil.which("git") is None:
        sys.exit("there is no git program to compare with")
    files = {f"src/module{number}.py": CONTENT for number in range(FILES)}
    recipe = RepositoryRecipe((BranchRecipe("main", (CommitRecipe("files", files),)),))
    print(f"{FILES} files, {rounds} rounds, in {tempfile.gettempdir()}")
    print(f"{'remote':12} {'step':10}  {'git, ms':>8}  {'ours, ms':>8}  {'ratio':>6}")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        remote = create_bare_repository(root / "served" / "remote.git", recipe)
        compare("path", root, remote, str(remote), rounds)
        with GitServer(root / "served") as server:
            url = server.repository_url("remote.git")
            compare("smart HTTP", root, remote, url, rounds)


if __name__ == "__main__":
    main()
