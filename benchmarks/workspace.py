"""Status, commit and clone, by this library and by the git program, side by side.

Each round does the same with each of the two, alternately, in lanes of two clones of the
same remote on the same disk. Printed are medians in milliseconds and the ratio of ours to
git's.

    python benchmarks/workspace.py [FILES] [ROUNDS]

Commits: one changed file, and all files changed. Ours looks at each file for what must
not become a commit, and syncs the index and the ref to the disk; git's does neither.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    LaneWorkspace,
    WorkstreamRuntime,
    WorkstreamSpec,
    clone,
    open_lane,
)
from agentrelay.workstream.testing import (
    BranchRecipe,
    CommitRecipe,
    RepositoryRecipe,
    clone_repository,
    create_bare_repository,
)

# Source files of a few kilobytes, as repositories of code have them.
CONTENT = "".join(f"line {number} of a source file\n" for number in range(200))


def git(cwd: Path, *arguments: str) -> None:
    """Run the git program without the machine's configuration."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(cwd),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    subprocess.run(["git", *arguments], cwd=cwd, env=environment, check=True, capture_output=True)


def lane_in(repo: Path, name: str) -> LaneWorkspace:
    """Prepare a lane and open it."""
    runtime = WorkstreamRuntime(WorkstreamSpec(name))
    GitWorkstreamPreparer(repo, "bench").prepare_workstream(runtime)
    return open_lane(runtime)


def change(top: Path, number: int, most: int) -> None:
    """Change some files, never twice to the same."""
    for path in sorted(top.glob("src/*/*.py"))[:most]:
        path.write_text(f"# {number} {time.perf_counter_ns()}\n{CONTENT}")


def timed(action: Callable[[], object]) -> float:
    """Return how long something takes, in milliseconds."""
    started = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - started)


def rounds_of(root: Path, remote: Path, files: int, rounds: int) -> dict[str, list[list[float]]]:
    """Measure every step, git's time and ours in each round."""
    theirs = lane_in(clone_repository(remote, root / "git"), "theirs").path
    ours = lane_in(clone_repository(remote, root / "ours"), "ours")

    def commit_by_git() -> None:
        git(theirs, "add", "-A")
        git(theirs, "commit", "-qm", "all")

    def status_by_git() -> None:
        git(theirs, "status", "--porcelain=v2", "--branch", "--untracked-files=all")

    found: dict[str, list[list[float]]] = {}
    for number in range(rounds + 1):
        row = {"status, clean": [timed(status_by_git), timed(ours.status)]}
        for name, most in (("one file", 1), ("all files", files)):
            for top in (theirs, ours.path):
                change(top, number, most)
            row[f"status, {name}"] = [timed(status_by_git), timed(ours.status)]
            row[f"commit, {name}"] = [timed(commit_by_git), timed(lambda: ours.commit("all"))]
        places = [root / f"clone-{side}-{number}" for side in ("git", "ours")]
        row["clone"] = [
            timed(lambda: git(root, "clone", "-q", "--no-local", str(remote), str(places[0]))),  # noqa: B023 - called at once
            timed(lambda: clone(str(remote), places[1])),  # noqa: B023 - called at once
        ]
        for place in places:
            shutil.rmtree(place)
        if number:  # the first round pays for imports and caches
            for step, times in row.items():
                found.setdefault(step, []).append(times)
    return found


def main() -> None:
    """Build the repositories and compare."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5  # noqa: PLR2004 - the second argument
    if shutil.which("git") is None:
        sys.exit("there is no git program to compare with")
    texts = {f"src/d{n // 25}/module{n}.py": f"# {n}\n{CONTENT}" for n in range(files)}
    recipe = RepositoryRecipe((BranchRecipe("main", (CommitRecipe("files", texts),)),))
    print(f"{files} files, {rounds} rounds, in {tempfile.gettempdir()}")
    print(f"{'step':20}  {'git, ms':>8}  {'ours, ms':>8}  {'ratio':>6}")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        remote = create_bare_repository(root / "remote.git", recipe)
        for step, times in rounds_of(root, remote, files, rounds).items():
            theirs, ours = (statistics.median(column) for column in zip(*times, strict=True))
            print(f"{step:20}  {theirs:8.1f}  {ours:8.1f}  {ours / theirs:6.2f}")


if __name__ == "__main__":
    main()
