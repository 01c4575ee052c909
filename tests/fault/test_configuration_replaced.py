"""The configuration or an index is replaced at the very moment libgit2 reads it.

libgit2 asks for a file's size before it opens the file, and looks at it again whenever it
wants a value. Neither moment can be hit from outside, so its refusal is planted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pygit2
import pytest
from pytest_mock import MockerFixture

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    WorkstreamRuntime,
    WorkstreamSpec,
)
from agentrelay.workstream.testing import clone_repository, create_bare_repository, refs

# The new file is the shorter one, or the longer one.
_WORDS = (
    "could not read (expected 3444 bytes, read 3322)",
    "invalid data in index - extension is truncated",
)


class _Moments:
    """Counts what libgit2 is asked to do, and fails one of the times."""

    def __init__(self) -> None:
        self.fails_at: int | None = None
        self.seen = 0

    def pass_one(self) -> None:
        self.seen += 1
        if self.seen - 1 == self.fails_at:
            raise pygit2.GitError(_WORDS[self.seen % 2])


@pytest.fixture
def moments(mocker: MockerFixture) -> _Moments:
    """Return the moments at which any handle reads the configuration."""
    counted = _Moments()

    class Handle(pygit2.Repository):
        def __init__(self, *args: Any, **options: Any) -> None:
            counted.pass_one()
            super().__init__(*args, **options)

        @property
        def config(self) -> Any:
            counted.pass_one()
            return super().config

        def status(self, *args: Any, **options: Any) -> dict[str, int]:
            counted.pass_one()
            return super().status(*args, **options)

        def checkout_head(self, *args: Any, **options: Any) -> None:
            counted.pass_one()
            super().checkout_head(*args, **options)  # type: ignore[no-untyped-call]

        def merge_trees(self, *args: Any, **options: Any) -> pygit2.Index:
            counted.pass_one()
            return super().merge_trees(*args, **options)

    mocker.patch("pygit2.Repository", Handle)
    return counted


def test_a_configuration_replaced_at_any_moment_is_read_again(
    moments: _Moments, tmp_path: Path
) -> None:
    """Whichever read is torn, the lane is made, goes, and its unsaved work is kept once."""
    bare = create_bare_repository(tmp_path / "origin.git")
    repo = clone_repository(bare, tmp_path / "clone")
    before = {name for name in refs(repo) if "/rescue/" not in name}
    reached = True
    number = 0
    while reached:
        moments.seen, moments.fails_at = 0, number
        runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
        GitWorkstreamPreparer(repo, "nightly").prepare_workstream(runtime)
        assert runtime.state.worktree_path is not None
        (runtime.state.worktree_path / "draft.txt").write_text(f"{number}\n")
        (runtime.state.worktree_path / "README.md").write_text(f"changed {number}\n")

        GitWorkstreamTeardown(repo).teardown_workstream(runtime)

        reached = moments.seen > number
        moments.fails_at = None
        rescued = {name for name in refs(repo) if "/rescue/" in name}
        assert len(rescued) == len(runtime.artifacts.concerns) == 2
        assert {name.rpartition("/")[2] for name in rescued} == {"unstaged", "untracked"}
        assert not runtime.state.worktree_path.exists()
        handle = pygit2.Repository(str(repo))
        for name in rescued:
            handle.references.delete(name)
        assert {name for name in refs(repo) if "/rescue/" not in name} == before
        number += 1
    assert number > 10
