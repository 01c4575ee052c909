"""A branch that moves between the look and the deletion stays where it is by then.

Each moment is met exactly. A remote's is the double's own: before it lists its refs, and
after it did. A branch of a repository on this disk is moved right before its lock file is
made, where it was examined already, as by somebody whose git was a moment faster.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pygit2
import pytest

from agentrelay.workstream import (
    WorkstreamRuntime,
    WorkstreamSpec,
    prepare_all,
    rescued,
    teardown_all,
)
from agentrelay.workstream.testing import RefUpdate, World, commit_files, refs
from fixtures.crowd import ref_of

# The second one's branch is moved.
_NAMES: Final = ["lexer", "parser", "printer"]
_REF: Final = ref_of("parser")
_LOCAL, _REMOTE = "the local branch", "the remote branch"


@dataclass
class Lanes:
    """Some lanes of one clone, and somebody who moves the branch of one of them.

    Attributes:
        world: Where they are.
        repo: The clone.
        runtimes: The lanes, by id.
        moved: Ids of the commits somebody moved the branch to; one at most.
    """

    world: World
    repo: Path
    monkeypatch: pytest.MonkeyPatch
    runtimes: dict[str, WorkstreamRuntime]
    moved: list[str] = field(default_factory=list)

    def move(self, where: Path) -> None:
        """Commit to the branch, once."""
        if not self.moved:
            handle = pygit2.Repository(str(where))
            old = handle.references[_REF].peel(pygit2.Commit)
            who = pygit2.Signature("Sam Example", "sam@example.invalid", 1_704_200_000, 0)
            new = handle.create_commit(None, who, who, "theirs", old.tree_id, [old.id])
            self.moved.append(str(new))
            handle.references.create(_REF, new, force=True)

    def when_locked(self, which: Path, moving: Path) -> None:
        """Move the branch in ``moving`` when the one in ``which`` is about to be locked."""
        link, lock = os.link, which / f"{_REF}.lock"

        def watched(source: Any, target: Any, **settings: Any) -> None:
            if Path(target) == lock:
                self.move(moving)
            link(source, target, **settings)

        self.monkeypatch.setattr(os, "link", watched)


def _here(lanes: Lanes) -> str:
    lanes.when_locked(lanes.repo / ".git", lanes.repo)
    return _LOCAL


def _here_and_packed(lanes: Lanes) -> str:
    pygit2.Repository(str(lanes.repo)).compress_references()
    return _here(lanes)


def _before_the_server_lists(lanes: Lanes) -> str:
    handle = lanes.world.git.handle

    def race(request: Any) -> Any:
        # The lane's turn has come: its local branch is gone already.
        if "service=git-receive-pack" in request.target and _REF not in refs(lanes.repo):
            lanes.move(lanes.world.remote_path)
        return handle(request)

    lanes.monkeypatch.setattr(lanes.world.git, "handle", race)
    return _REMOTE


def _after_the_server_listed(lanes: Lanes) -> str:
    def race(updates: Sequence[RefUpdate]) -> dict[str, str]:
        if _REF in [update.ref for update in updates]:
            lanes.move(lanes.world.remote_path)
        return {}

    lanes.world.git.hooks.append(race)
    return _REMOTE


def _before_the_path_is_read(lanes: Lanes) -> str:
    lanes.when_locked(lanes.repo / ".git", lanes.world.remote_path)
    return _REMOTE


def _after_the_path_was_read(lanes: Lanes) -> str:
    lanes.when_locked(lanes.world.remote_path, lanes.world.remote_path)
    return _REMOTE


_MOMENTS: Final = [
    pytest.param(by, arrange, id=f"{arrange.__name__[1:]}-{by}")
    for by, arrange in (
        ("http", _here),
        ("path", _here_and_packed),
        ("http", _before_the_server_lists),
        ("http", _after_the_server_listed),
        ("path", _before_the_path_is_read),
        ("path", _after_the_path_was_read),
    )
]


def _one_by_one(lanes: Lanes) -> None:
    for runtime in lanes.runtimes.values():
        lanes.world.teardown(lanes.repo).teardown_workstream(runtime)


def _all(lanes: Lanes) -> None:
    results = teardown_all(lanes.runtimes.values(), lanes.world.teardown(lanes.repo))
    assert [result.error for result in results] == [None] * len(_NAMES)


@pytest.mark.parametrize("tear_down", [_one_by_one, _all])
@pytest.mark.parametrize(("by", "arrange"), _MOMENTS)
def test_a_branch_that_moved_meanwhile_stays_and_is_reported(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    by: Any,
    arrange: Callable[[Lanes], str],
    tear_down: Callable[[Lanes], None],
) -> None:
    """Theirs is where they put it, the other lanes are gone, and the next teardown keeps it."""
    repo = world.clone(by=by)
    runtimes = {name: WorkstreamRuntime(WorkstreamSpec(name)) for name in _NAMES}
    prepare_all(runtimes.values(), world.preparer(repo))
    for name, runtime in runtimes.items():
        assert runtime.state.worktree_path is not None
        commit_files(runtime.state.worktree_path, {f"{name}.txt": "1"}, message=name)
    lanes = Lanes(world, repo, monkeypatch, runtimes)

    which = arrange(lanes)
    tear_down(lanes)

    (theirs,) = lanes.moved
    stays_in = repo if which is _LOCAL else world.remote_path
    assert refs(stays_in)[_REF] == theirs
    said = {name: runtime.artifacts.concerns for name, runtime in runtimes.items()}
    (concern,) = [one for one in said["parser"] if "could not" in one]
    assert f"could not delete {which}" in concern
    assert _REF.removeprefix("refs/heads/") in concern
    for name in ("lexer", "printer"):
        assert all("could not" not in concern for concern in said[name])
        assert ref_of(name) not in {**refs(repo), **refs(world.remote_path)}

    tear_down(lanes)
    assert _REF not in {**refs(repo), **refs(world.remote_path)}
    kept = [work.commit_id for work in rescued(repo, graph="nightly", workstream_id="parser")]
    assert theirs in kept


@pytest.fixture
def world(agentrelay_world: World) -> World:
    """Return a world to move branches in."""
    return agentrelay_world
