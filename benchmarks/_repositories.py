"""Repositories to measure with, and the git program as judge of what was made of them."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["build_remote", "clone", "faults_of", "git", "write_floor"]

# A folder of sources holds about as many.
FILES_A_FOLDER = 25
_WORDS = [
    "if",
    "else",
    "return",
    "for",
    "in",
    "import",
    "self",
    "value",
    "name",
    "path",
    "lane",
    "branch",
    "commit",
    "tree",
    "index",
    "ref",
]


def git(cwd: Path, *arguments: str, given: bytes | None = None) -> bytes:
    """Run the git program without the machine's configuration; return what it prints."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(cwd),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        **{
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "bench"), ("EMAIL", "bench@example.invalid"))
        },
    }
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, env=environment, input=given, capture_output=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.decode()}")
    return done.stdout


def _source(number: int) -> bytes:
    """Return a source file of four to eight kilobytes, the same for the same number."""
    rolls = random.Random(number)  # noqa: S311 - text to write, no secret
    size = rolls.randrange(4 << 10, 8 << 10)
    lines: list[str] = []
    length = 0
    while length < size:
        line = "    " * rolls.randrange(4) + " ".join(rolls.choices(_WORDS, k=8)) + f" {number}\n"
        lines.append(line)
        length += len(line)
    return "".join(lines).encode()


def _import_stream(files: int, large_bytes: int) -> Iterator[bytes]:
    """Iterate over the pieces of a git-fast-import(1) stream of one commit."""
    yield b"commit refs/heads/main\ncommitter bench <bench@example.invalid> 0 +0000\ndata 4\nmade\n"
    for number in range(files):
        data = _source(number)
        folder = number // FILES_A_FOLDER
        name = f"src/pkg{folder // 40}/mod{folder}/file{number}.py"
        yield f"M 100644 inline {name}\ndata {len(data)}\n".encode() + data + b"\n"
    if large_bytes:
        yield f"M 100644 inline large.bin\ndata {large_bytes}\n".encode()
        block = random.Random(0).randbytes(1 << 20)  # noqa: S311 - bytes to write, no secret
        for _ in range(large_bytes >> 20):
            yield block
        yield b"\n"


def build_remote(path: Path, *, files: int, large_bytes: int = 0) -> Path:
    """Make a bare repository of one commit, in one pack.

    Args:
        path: Where it will be.
        files: How many source files it holds.
        large_bytes: Size of one more file, a multiple of 1 MiB; none when 0.
    """
    path.mkdir(parents=True)
    git(path, "init", "-q", "--bare", "-b", "main", ".")
    environment = {"PATH": os.environ["PATH"], "HOME": str(path), "GIT_CONFIG_NOSYSTEM": "1"}
    with subprocess.Popen(
        ["git", "fast-import", "--quiet"], cwd=path, env=environment, stdin=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        for piece in _import_stream(files, large_bytes):
            child.stdin.write(piece)
    if child.returncode:
        raise RuntimeError("git fast-import failed")
    git(path, "repack", "-q", "-a", "-d")
    return path


def clone(remote: Path, path: Path, *, url: str | None = None, bare: bool = False) -> Path:
    """Clone with the git program; a bare clone fetches like any other."""
    git(remote, "clone", "-q", *(["--bare"] if bare else []), url or str(remote), str(path))
    if bare:
        git(path, "config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
        git(path, "fetch", "-q", "origin")
    return path


def faults_of(worktree: Path) -> list[str]:
    """Return what the git program finds wrong with a worktree: nothing, one hopes.

    Every file's bytes are hashed and compared with the commit.
    """
    found = []
    if git(worktree, "status", "--porcelain", "--ignored"):
        found.append("status is not clean")
    try:
        git(worktree, "diff-files", "--quiet")
    except RuntimeError:
        found.append("diff-files finds stale entries")
    rows = git(worktree, "ls-tree", "-r", "-z", "HEAD").split(b"\0")[:-1]
    names = b"\n".join(row.partition(b"\t")[2] for row in rows) + b"\n"
    there = git(worktree, "hash-object", "--no-filters", "--stdin-paths", given=names).split()
    wanted = [row.split()[2] for row in rows]
    if there != wanted:
        found.append("the bytes of a file differ")
    return found


def write_floor(source: Path, target: Path) -> float:
    """Write the files of a worktree elsewhere, in the plainest loop there is.

    The bytes are read before, and nothing is checked: no checkout in Python can be quicker.

    Returns:
        How long the writing took, in seconds.
    """
    files = [
        (target / path.relative_to(source), path.read_bytes())
        for path in sorted(source.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(source).parts
    ]
    folders = sorted({path.parent for path, _ in files})
    names = [(os.fspath(path), data) for path, data in files]
    started = time.perf_counter()
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for name, data in names:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        os.write(descriptor, data)
        os.close(descriptor)
    return time.perf_counter() - started
