"""How a pull request was merged, told from nothing but commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from agentrelay.workstream._commits import CommitFacts, facts_of
from agentrelay.workstream._github.memory import Memory
from agentrelay.workstream.implementations._merge_method import tell_method


def commit(sha: str, *parents: str, at: int = 0, text: str = "") -> CommitFacts:
    """Return a commit, written by one author at a time."""
    return facts_of(sha, parents, email="a@b", authored_s=at, message=text or sha)


BASE = commit("base")
ONE, TWO = commit("one", "base", at=1), commit("two", "one", at=2)
HEAD = (TWO, ONE, BASE)
NEW_ONE = commit("one2", "base", at=1, text="one\n")
NEW_TWO = commit("two2", "one2", at=2, text="two")


def tell(*target: CommitFacts, brought: Iterable[CommitFacts] | None = HEAD) -> Any:
    """Tell from the target's commits, the last of them first."""
    known = {each.sha: each for each in target}
    return tell_method(target[0].sha, "two", find=known.get, brought=lambda: brought)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (lambda: tell(commit("m", "base", "two")), ("merge", "base")),
        (lambda: tell(commit("s", "base", at=9)), ("squash", "base")),
        (lambda: tell(NEW_TWO, NEW_ONE, BASE), ("rebase", "base")),
        (lambda: tell(NEW_TWO, NEW_ONE), ("rebase", None)),
        (lambda: tell(commit("m", "base", "x")), (None, None)),
        (lambda: tell(commit("root")), (None, None)),
        (lambda: tell(TWO, ONE, BASE), (None, None)),
        (lambda: tell(ONE, BASE), (None, None)),
        (lambda: tell(commit("s", "base", at=9), brought=None), (None, None)),
        (
            lambda: tell_method("gone", "two", find=lambda _: None, brought=lambda: HEAD),
            (None, None),
        ),
    ],
    ids=[
        "merge", "squash", "rebase", "rebase, the base unknown", "a merge of something else",
        "a root", "fast-forward", "a push of a part", "the lane unknown", "the merge unknown",
    ],
)  # fmt: skip
def test_a_method_is_told_only_where_the_commits_say_so(
    told: Callable[[], Any], expected: tuple[str | None, str | None]
) -> None:
    """Parents tell a merge, origins a rebase; what neither tells stays untold."""
    assert told() == expected


def test_a_rebase_longer_than_github_makes_is_followed_no_further() -> None:
    """An endless run of commits ends."""
    run = [commit(f"n{n}", f"n{n - 1}", at=n, text=f"t{n}") for n in range(200, 0, -1)]
    lane = [commit(f"o{n}", f"o{n - 1}", at=n, text=f"t{n}") for n in range(200, 0, -1)]
    assert tell(*run, brought=lane) == ("rebase", None)


def test_a_memory_does_not_grow_without_end() -> None:
    """Commits that were read make room for new ones."""
    memory = Memory()
    for start in range(0, 60_000, 100):
        memory.remember(tuple(commit(str(start + n)) for n in range(100)))
    assert len(memory.commits) <= 20_000
    assert "59999" in memory.commits
