"""What is called clean without libgit2's help is so by the stock git program, and the reverse."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentrelay.workstream._git.clean_proof import is_provably_clean
from tests._examples import tries
from tests.interop._stock_git import GIT, IDENTITY, run_git

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(GIT is None, reason="there is no git program to judge"),
]

PATHS: Final = ("one", "two/three", "two/four", "two.five", "É")


def stock(repo: Path, *arguments: str) -> str:
    """Run git, which has to succeed; return what it prints."""
    done = run_git(repo, *arguments, **IDENTITY)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write(repo: Path, path: str, text: str) -> None:
    """Write a file, in place."""
    (repo / path).parent.mkdir(exist_ok=True)
    (repo / path).write_text(text)


def refreshed(repo: Path) -> None:
    """Let git write the index anew, some time after the files."""
    for path in PATHS:
        if (repo / path).is_file():
            os.utime(repo / path, ns=(10**18, 10**18))
    run_git(repo, "update-index", "-q", "--really-refresh")


DEEDS: Final[dict[str, Callable[[Path, str], object]]] = {
    "edit": lambda repo, path: write(repo, path, "edited\n"),
    "same size": lambda repo, path: write(repo, path, "TEXT\n"),
    "back": lambda repo, path: write(repo, path, "text\n"),
    "add": lambda repo, _: stock(repo, "add", "-A"),
    "commit": lambda repo, _: stock(repo, "commit", "-q", "--allow-empty", "-a", "-m", "more"),
    "remove": lambda repo, path: run_git(repo, "rm", "-q", "-f", path),
    "reset": lambda repo, _: stock(repo, "reset", "-q", "--hard"),
    "soft": lambda repo, _: run_git(repo, "reset", "-q", "--soft", "HEAD^"),
    "refresh": lambda repo, _: refreshed(repo),
    "new": lambda repo, _: write(repo, "two/new", "new\n"),
    "ignored": lambda repo, _: write(repo, "noise.log", "new\n"),
    "clean": lambda repo, _: stock(repo, "clean", "-q", "-d", "-x", "-f"),
    "flag": lambda repo, path: run_git(repo, "update-index", "--assume-unchanged", path),
    "skip": lambda repo, path: run_git(repo, "update-index", "--skip-worktree", path),
    "intend": lambda repo, _: stock(repo, "add", "-N", "."),
    "mode": lambda repo, path: (repo / path).chmod(0o755),
    "untracked cache": lambda repo, _: stock(repo, "update-index", "--force-untracked-cache"),
    "version 4": lambda repo, _: stock(repo, "update-index", "--index-version", "4"),
    "version 3": lambda repo, _: stock(repo, "update-index", "--index-version", "3"),
    "split": lambda repo, _: stock(repo, "update-index", "--split-index"),
    "crlf": lambda repo, _: stock(repo, "config", "core.autocrlf", "true"),
    "no ctime": lambda repo, _: stock(repo, "config", "core.trustctime", "false"),
    "minimal": lambda repo, _: stock(repo, "config", "core.checkStat", "minimal"),
    "merge": lambda repo, _: run_git(repo, "merge", "-q", "other", **IDENTITY),
}


def made(repo: Path) -> None:
    """Make a repository with two branches that conflict."""
    repo.mkdir()
    stock(repo, "init", "-q", "-b", "main")
    for path in PATHS:
        write(repo, path, "text\n")
    write(repo, ".gitignore", "*.log\n")
    stock(repo, "add", "-A")
    stock(repo, "commit", "-q", "-m", "start")
    stock(repo, "checkout", "-q", "-b", "other")
    write(repo, "one", "other\n")
    stock(repo, "commit", "-q", "-a", "-m", "other")
    stock(repo, "checkout", "-q", "main")


@given(
    deeds=st.lists(st.tuples(st.sampled_from(sorted(DEEDS)), st.sampled_from(PATHS)), max_size=5)
)
@example(deeds=[("crlf", "one"), ("edit", "one"), ("reset", "one"), ("refresh", "one")])
@tries(25)
def test_git_finds_nothing_in_what_is_proved_clean(deeds: list[tuple[str, str]]) -> None:
    """Nor anything ignored; flags do not hide a change, nor does a setting that trusts less."""
    with tempfile.TemporaryDirectory() as name:
        repo = Path(name, "repo")
        made(repo)
        for deed, path in deeds:
            try:
                DEEDS[deed](repo, path)
            except OSError:
                # It is another kind of thing by now.
                continue
        tree = stock(repo, "rev-parse", "HEAD^{tree}").strip()
        if is_provably_clean(repo, repo / ".git", tree):
            # Each file is read, whatever git was told of it. Line endings stay as they were
            # told: git has written them so.
            (repo / ".git/index").unlink()
            stock(repo, "reset", "-q", "--mixed")
            assert stock(repo, "status", "--porcelain", "--ignored", "-uall") == ""
            assert stock(repo, "write-tree").strip() == tree


def test_what_git_has_just_made_or_written_anew_is_proved_clean(tmp_path: Path) -> None:
    """A checkout, a commit, a merge that is done, and all of it after a refresh."""
    repo = tmp_path / "repo"
    made(repo)

    def proved() -> bool:
        tree = stock(repo, "rev-parse", "HEAD^{tree}").strip()
        return is_provably_clean(repo, repo / ".git", tree)

    assert proved()
    stock(repo, "merge", "-q", "other")
    assert proved()
    write(repo, "two/new", "more\n")
    stock(repo, "add", "-A")
    assert not proved()
    stock(repo, "commit", "-q", "-m", "more")
    assert proved()
    refreshed(repo)
    assert proved()
