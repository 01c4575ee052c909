"""Somebody who works with a stock git where lanes come and go, and a gate that makes them meet."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from agentrelay.workstream.testing import GitServer, commit_files, refs
from fixtures.crowd import Crowd
from tests.interop._stock_git import run_git

__all__ = ["Gate", "Neighbour", "git"]

Verb = tuple[str, ...]

# Far beyond what anything here takes on a machine that is busy: whoever waits as long fails.
_PATIENCE_S: Final = 240.0
# After so long another lane is let in: one that asked twice may have taken a place.
_NEXT_S: Final = 2.0


def git(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the stock git without any of the machine's configuration."""
    return run_git(cwd, *arguments)


class Neighbour:
    """Somebody who works in the repository with a stock git, and keeps it tidy.

    Attributes:
        failures: What their git could not do, however often it tried.
        tidied: The verbs that ran to their end, in order.
    """

    def __init__(self, crowd: Crowd, *, news: str) -> None:
        """Take the clone the lanes are in.

        Args:
            crowd: Holds the clone and its remote.
            news: Branch of the remote that moves all the time.
        """
        self.repo = crowd.repo
        self.bare = crowd.bare
        self.failures: list[str] = []
        self.tidied: list[Verb] = []
        self._news = news
        self._rounds = 0
        # Always something to do for it, and done before it returns.
        for key, value in (("auto", "1"), ("autoPackLimit", "1"), ("autoDetach", "false")):
            git(self.repo, "config", f"gc.{key}", value)

    def show_no_mercy(self) -> None:
        """Let every garbage collection take what no ref leads to at that moment."""
        git(self.repo, "config", "gc.pruneExpire", "now")

    def _insist(self, *arguments: str) -> None:
        """Do it again if a lock was in the way, as people do; give up after a minute."""
        ends_at = time.monotonic() + 60
        while (done := git(self.repo, *arguments)).returncode:
            if time.monotonic() > ends_at:
                self.failures.append(f"git {' '.join(arguments)}: {done.stdout}{done.stderr}")
                return

    def work(self, verb: Verb) -> None:
        """One round: a commit, a branch, a setting, news at the remote, and some tidying."""
        number = self._rounds
        (self.repo / f"file{number}.txt").write_text("theirs\n")
        self._insist("add", f"file{number}.txt")
        self._insist("commit", "-q", "-m", f"commit {number}")
        self._insist("branch", f"theirs/{number}", "HEAD")
        self._insist("config", f"neighbour.key{number}", str(number))
        commit_files(self.bare, {f"news{number}": "1"}, message="news", branch=self._news)
        self._insist(*verb)
        self.tidied.append(verb)
        self._rounds += 1

    @contextmanager
    def beside(self, loop: Callable[[], None]) -> Iterator[None]:
        """Do something in a thread meanwhile, to its end; what it raises is a failure."""

        def run() -> None:
            try:
                loop()
            except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to
                self.failures.append(repr(error))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            thread.join(_PATIENCE_S)
            assert not thread.is_alive()

    def losses(self) -> list[str]:
        """Return what of theirs is gone, and what git finds odd."""
        names, rounds = set(refs(self.repo)), range(self._rounds)
        lost = [f"theirs/{n}" for n in rounds if f"refs/heads/theirs/{n}" not in names]
        settings = git(self.repo, "config", "--get-regexp", "^neighbour").stdout.split("\n")
        lost += [n for n in map(str, rounds) if f"neighbour.key{n} {n}" not in settings]
        commits = git(self.repo, "log", "--format=%s", "main").stdout.split("\n")
        lost += [f"commit {n}" for n in rounds if f"commit {n}" not in commits]
        for where in (self.repo, self.bare):
            checked = git(where, "fsck", "--strict", "--no-dangling", "--no-progress")
            if checked.returncode or checked.stdout or checked.stderr:
                lost.append(f"fsck of {where}: {checked.stdout}{checked.stderr}")
        return lost + self.failures


class Gate:
    """Lets lanes reach their server a few at a time, and keeps one of them in the middle.

    A lane that has asked what there is to fetch holds its own lock and waits to be let in.
    One that has asked where it may push has done all it does on this machine; the first of
    each few waits there until it is released.

    Attributes:
        kept: How many lanes were kept in the middle.
    """

    def __init__(self, server: GitServer) -> None:
        """Stand before a server; everybody is let through until told otherwise."""
        self.kept = 0
        self._changed = threading.Condition()
        self._asking = 0
        self._admitted: float = float("inf")
        self._keeping = self._inside = False
        self._answer = server.handle
        server.handle = self._handle  # type: ignore[method-assign]  # the moment before an answer

    def _handle(self, request: Any) -> Any:
        if "libgit2" in request.headers.get("user-agent", ""):
            if "service=git-upload-pack" in request.target:
                self._let_in()
            elif "service=git-receive-pack" in request.target:
                self._keep_inside()
        return self._answer(request)

    def _let_in(self) -> None:
        with self._changed:
            self._asking += 1
            place = self._asking
            self._changed.notify_all()
            self._wait_until(lambda: place <= self._admitted)

    def _keep_inside(self) -> None:
        with self._changed:
            if self._keeping and not self._inside:
                self._inside = True
                self.kept += 1
                self._changed.notify_all()
                self._wait_until(lambda: not self._keeping)

    def _wait_until(self, holds: Callable[[], bool]) -> None:
        if not self._changed.wait_for(holds, _PATIENCE_S):
            raise TimeoutError("nobody opened the gate")

    def close(self) -> None:
        """Let nobody in from here on."""
        with self._changed:
            self._asking = 0
            self._admitted = 0

    def open(self) -> None:
        """Let everybody through."""
        with self._changed:
            self._admitted = float("inf")
            self._keeping = False
            self._changed.notify_all()

    def each_beside_some(
        self, verbs: Sequence[Verb], work: Callable[[Verb], None], *, lanes: int
    ) -> None:
        """Do something for each verb while one lane is kept in the middle and others run.

        Args:
            verbs: What is done, one after the other.
            work: Does it.
            lanes: How many lanes there are; each verb has as many as any other.
        """
        try:
            with self._changed:
                # All of them were started: no process is forked beside running threads.
                self._wait_until(lambda: self._asking >= lanes)
            for verb in verbs:
                with self._changed:
                    self._admitted += lanes // len(verbs)
                    self._keeping, self._inside = True, False
                    self._changed.notify_all()
                    rounds = int(_PATIENCE_S / _NEXT_S)
                    while not self._changed.wait_for(lambda: self._inside, _NEXT_S) and rounds:
                        rounds -= 1
                        self._admitted += 1
                        self._changed.notify_all()
                    if not self._inside:
                        raise TimeoutError(f"no lane came to be beside {verb}")
                work(verb)
                with self._changed:
                    self._keeping = False
                    self._changed.notify_all()
        finally:
            self.open()
