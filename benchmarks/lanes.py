"""Lanes by this library and by the git program, side by side, on small and large repositories.

One command builds its repositories, makes and removes lanes with each side alternately on the
same disk, lets the git program judge every kind of result (``status``, ``diff-files``, every
blob hashed, ``fsck``), and prints medians in milliseconds with ratios to git's:

    python benchmarks/lanes.py [--files 20,2000,50000] [--rounds 5] [--many 1000]
                               [--json FILE] [--chart FILE]

A lane costs the fetch of its base, branch, worktree, push and upstream; its removal takes away
worktree, local and remote branch. Ours also writes durable signal files, locks, and looks for
unsaved work before a lane goes, which git's forced removal does not do. The floor is a loop that
writes the same bytes. Measure in memory (``TMPDIR=/dev/shm``) or on a file system with a journal:
on ext4 without one, making files soon after many were deleted is slow for both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pygit2
from _chart import draw
from _repositories import build_remote, clone, faults_of, git, write_floor

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    WorkstreamRuntime,
    WorkstreamSpec,
)
from agentrelay.workstream.testing import GitServer

GRAPH = "bench"
# What is still there then never goes.
PATIENCE_S = 60.0
# What is still there then never goes.
PATIENCE_S = 60.0
Times = tuple[float, float]
Look = Callable[[Path], None]


def by_git(repo: Path, number: int, look: Look | None = None, *, workers: int = 1) -> Times:
    """Make and remove a lane with the git program; return both times in seconds."""
    branch, path = f"agentrelay/{GRAPH}/g{number}/integration", f".worktrees/{GRAPH}/g{number}"
    started = time.perf_counter()
    git(repo, "fetch", "-q", "--no-tags", "origin", "+refs/heads/main:refs/remotes/origin/main")
    parallel = ["-c", f"checkout.workers={workers}", "-c", "checkout.thresholdForParallelism=1"]
    add = ["worktree", "add", "-q", "--no-track", "-b", branch, path, "origin/main"]
    git(repo, *(parallel if workers > 1 else []), *add)
    git(repo, "push", "-q", "-u", "origin", branch)
    made = time.perf_counter() - started
    if look is not None:
        look(repo / path)
    started = time.perf_counter()
    git(repo, "worktree", "remove", "--force", path)
    git(repo, "branch", "-q", "-D", branch)
    git(repo, "push", "-q", "origin", "--delete", branch)
    return made, time.perf_counter() - started


def by_us(repo: Path, number: int, look: Look | None = None) -> Times:
    """Make and remove a lane with this library; return both times in seconds."""
    lane = WorkstreamRuntime(WorkstreamSpec(f"o{number}"))
    started = time.perf_counter()
    GitWorkstreamPreparer(repo, GRAPH).prepare_workstream(lane)
    made = time.perf_counter() - started
    assert lane.state.worktree_path is not None
    if look is not None:
        look(lane.state.worktree_path)
    started = time.perf_counter()
    GitWorkstreamTeardown(repo).teardown_workstream(lane)
    gone = time.perf_counter() - started
    assert lane.artifacts.concerns == []
    return made, gone


def emptied(repo: Path) -> float:
    """Return how many seconds it takes until no removed file uses the disk any more."""
    started = time.perf_counter()
    trash = repo / ".worktrees" / ".trash"
    while trash.is_dir():
        # It goes when it is empty.
        if time.perf_counter() - started > PATIENCE_S:
            raise RuntimeError(f"{trash} is not emptied")
        os.sched_yield()
    return time.perf_counter() - started


def judged(worktree: Path) -> None:
    """End the run if the git program finds a fault with a lane."""
    faults = faults_of(worktree)
    if faults:
        sys.exit(f"{worktree}: {', '.join(faults)}")


class Report:
    """The rows of a run: printed as they come, written at the end."""

    def __init__(self) -> None:
        """Begin with no rows."""
        self.rows: list[dict[str, Any]] = []

    def add(self, work: str, *, theirs: float, ours: float, **more: float | None) -> None:
        """Print and keep one comparison, in seconds."""
        ratio = ours / theirs
        shown = "  ".join(
            f"{name} {value * 1000:.1f} ms" for name, value in more.items() if value is not None
        )
        print(
            f"{work:44} {theirs * 1000:10.1f} {ours * 1000:10.1f} {ratio:7.3f}  {shown}", flush=True
        )
        extra = {f"{name}_ms": round(v * 1000, 2) for name, v in more.items() if v is not None}
        self.rows.append(
            {
                "work": work,
                "git_ms": round(theirs * 1000, 2),
                "ours_ms": round(ours * 1000, 2),
                "ratio": round(ratio, 4),
                **extra,
            }
        )


def compare(
    report: Report, name: str, repos: tuple[Path, Path], rounds: int, *, files: int
) -> None:
    """Measure one kind of repository: ours and git's, alternately."""
    for_git, for_us = repos
    floor: float | None = None

    def with_floor(worktree: Path) -> None:
        nonlocal floor
        judged(worktree)
        floor = write_floor(worktree, target := worktree.parent.parent / "floor")
        shutil.rmtree(target)

    by_git(for_git, 0, judged)
    by_us(for_us, 0, with_floor)
    git_times, parallel, our_times = [], [], []
    for number in range(1, rounds + 1):
        git_times.append(by_git(for_git, number))
        our_times.append(by_us(for_us, number))
        free = emptied(for_us)
        if files >= 2000:  # noqa: PLR2004 - below, git itself starts no workers
            parallel.append(by_git(for_git, number, workers=2))
    made, gone = (
        [statistics.median(side) for side in zip(*times, strict=True)]
        for times in (git_times, our_times)
    )
    two = statistics.median(first for first, _ in parallel) if parallel else None
    report.add(f"create, {name}", theirs=made[0], ours=gone[0], floor=floor, git_2_workers=two)
    report.add(f"remove, {name}", theirs=made[1], ours=gone[1], free_after=free)
    lives = [statistics.median(map(sum, times)) for times in (git_times, our_times)]
    report.add(f"whole life, {name}", theirs=lives[0], ours=lives[1])
    git(for_us, "fsck", "--no-dangling", "--no-progress")
    assert not pygit2.Repository(str(for_us)).references.get("refs/agentrelay/rescue")


def measure_import(report: Report) -> None:
    """Compare the import of the front door with the start of git and of Python."""
    code = "import sys, agentrelay.workstream; assert not {'pygit2', 'github'} & set(sys.modules)"
    times: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(15):
        for name, text in (("with", code), ("without", "import sys")):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-I", "-c", text], check=True)
            times[name].append(time.perf_counter() - started)
    cost = statistics.median(times["with"]) - statistics.median(times["without"])
    print(f"import agentrelay.workstream: {cost * 1000:.1f} ms, no backend loaded")
    report.rows.append({"work": "import agentrelay.workstream", "ours_ms": round(cost * 1000, 2)})


def measure_memory(report: Report, root: Path) -> None:
    """Report the most memory a lane with a file of 1 GiB takes, from packs and by copying."""
    remote = build_remote(root / "large.git", files=20, large_bytes=1 << 30)
    code = (
        "import resource, sys; from pathlib import Path; from agentrelay.workstream import *;"
        "r = WorkstreamRuntime(WorkstreamSpec('large'));"
        "GitWorkstreamPreparer(Path(sys.argv[1]), 'bench').prepare_workstream(r);"
        "GitWorkstreamTeardown(Path(sys.argv[1])).teardown_workstream(r);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    for bare in (False, True):
        repo = clone(remote, root / f"large-{bare}", bare=bare)
        said = subprocess.run(
            [sys.executable, "-c", code, str(repo)], check=True, capture_output=True
        ).stdout
        work = f"1 GiB file, {'bare' if bare else 'clean checkout present'}"
        print(f"{work}: at most {int(said) / 1024:.0f} MiB of memory")
        report.rows.append({"work": work, "ours_peak_mib": round(int(said) / 1024)})
        shutil.rmtree(repo)


def main() -> None:
    """Build the repositories and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", default="20,2000,50000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=1000, help="lanes in a batch; 0 to leave out")
    parser.add_argument("--large", action="store_true", help="also a file of 1 GiB")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--chart", type=Path)
    options = parser.parse_args()
    if shutil.which("git") is None:
        sys.exit("there is no git program to compare with")
    sizes = [int(size) for size in options.files.split(",")]
    version = git(Path.cwd(), "version").decode().strip()
    where = f"{version}, Python {platform.python_version()}, in {tempfile.gettempdir()}"
    print(where)
    print(f"{'work':44} {'git, ms':>10} {'ours, ms':>10} {'ratio':>7}")
    report = Report()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for files in sizes:
            served = root / str(files)
            remote = build_remote(served / "remote.git", files=files)
            rounds = max(3, options.rounds * (4 if files <= 100 else 1))  # noqa: PLR2004
            pair = (clone(remote, served / "git"), clone(remote, served / "ours"))
            compare(report, f"{files:,} files", pair, rounds, files=files)
            if files == min(sizes):
                with GitServer(served) as server:
                    url = server.repository_url("remote.git")
                    web = (
                        clone(remote, served / "g", url=url),
                        clone(remote, served / "o", url=url),
                    )
                    compare(report, f"{files:,} files, smart HTTP", web, rounds, files=files)
            if files == max(sizes):
                bare = (
                    clone(remote, served / "git.git", bare=True),
                    clone(remote, served / "ours.git", bare=True),
                )
                compare(report, f"{files:,} files, bare", bare, rounds, files=files)
            shutil.rmtree(served)
        measure_import(report)
        if options.large:
            measure_memory(report, root)
    if options.json:
        options.json.write_text(json.dumps({"where": where, "rows": report.rows}, indent=1) + "\n")
    if options.chart:
        drawn = [
            (
                row["work"],
                row["ratio"],
                row["floor_ms"] / row["git_ms"] if "floor_ms" in row else None,
            )
            for row in report.rows
            if "ratio" in row
        ]
        options.chart.write_text(
            draw(
                f"Time against the git program ({where})", drawn, "lower is quicker; bar: the floor"
            )
        )


if __name__ == "__main__":
    main()
