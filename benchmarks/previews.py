"""Previews of merges against ``git merge-tree``, as ratios within one run.

A bare repository of many files with two branches that change a tenth of them each, once apart
from each other and once in the same lines; and fifty branches, all pairs of them. Both ways of
asking are taken in turn, each from nothing: ours opens the repository, git starts. Printed are
medians; below one is a gain.

    python benchmarks/previews.py [FILES] [ROUNDS]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

from agentrelay.workstream import preview_merge, preview_pairs
from agentrelay.workstream.testing import commit_files, create_bare_repository

LANES = 50
TEXT = "".join(f"line {number}\n" for number in range(40))


def name_of(number: int) -> str:
    """Return where a file is: twenty in a directory."""
    return f"dir{number // 20}/file{number}"


def edit(repo: Path, branch: str, numbers: range, line: int) -> None:
    """Change one line of some files on a new branch."""
    text = TEXT.replace(f"line {line}\n", f"{branch}\n")
    commit_files(repo, {name_of(number): text for number in numbers}, message=branch, branch=branch)


def ask_git(repo: Path, pairs: list[tuple[str, str]]) -> int:
    """Ask git about pairs one by one, and return how many conflict."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return sum(
        subprocess.run(
            ["git", "merge-tree", "--write-tree", *pair],
            cwd=repo,
            env=environment,
            check=False,
            stdout=subprocess.DEVNULL,
        ).returncode
        for pair in pairs
    )


def main() -> None:
    """Measure each case in turn, and print the ratios."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7  # noqa: PLR2004 - the second argument
    lanes = [f"lane{number}" for number in range(LANES)]
    with tempfile.TemporaryDirectory() as directory:
        repo = create_bare_repository(Path(directory) / "repo.git")
        commit_files(repo, {name_of(n): TEXT for n in range(files)}, message="Start")
        edit(repo, "ours", range(0, files, 10), 3)
        edit(repo, "apart", range(0, files, 10), 30)
        edit(repo, "clash", range(0, files, 10), 3)
        for number, lane in enumerate(lanes):
            # Each has forty files of its own, and the last two have some in common.
            start = min(number, LANES - 2) * 40
            edit(repo, lane, range(start, start + 40), 5)
        cases: dict[str, tuple[Callable[[], int], list[tuple[str, str]]]] = {
            f"clean, {files // 10} files merged": (
                lambda: int(not preview_merge(repo, "ours", target="apart").is_mergeable),
                [("apart", "ours")],
            ),
            f"{files // 10} files in conflict": (
                lambda: int(not preview_merge(repo, "ours", target="clash").is_mergeable),
                [("clash", "ours")],
            ),
            f"all pairs of {LANES} lanes": (
                lambda: len(preview_pairs(repo, lanes)),
                list(combinations(lanes, 2)),
            ),
        }
        print(f"{files} files, {rounds} rounds, in {tempfile.gettempdir()}")
        print(f"{'case':26}  {'ours ms':>8}  {'git ms':>8}  {'ratio':>6}")
        for name, (ours, pairs) in cases.items():
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(rounds):
                started = time.perf_counter()
                found = ours()
                between = time.perf_counter()
                assert ask_git(repo, pairs) == found
                times[0].append((between - started) * 1000)
                times[1].append((time.perf_counter() - between) * 1000)
            mine, gits = (statistics.median(each) for each in times)
            print(f"{name:26}  {mine:8.1f}  {gits:8.1f}  {mine / gits:6.2f}")


if __name__ == "__main__":
    main()
