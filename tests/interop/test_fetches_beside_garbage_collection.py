"""What a lane has fetched is no garbage to a stock git, before any ref leads to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from agentrelay.workstream import (
    WorkstreamRuntime,
    WorkstreamSpec,
    prepare_all,
    rescued,
    teardown_all,
)
from agentrelay.workstream.testing import World, commit_files, read_tree, refs
from fixtures.crowd import ref_of
from tests.interop._stock_git import GIT, run_git

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(GIT is None, reason="there is no git program to collect garbage"),
]

_REF: Final = ref_of("parser")
_COLLECTIONS: Final = [
    pytest.param(("repack", "-q", "-a", "-d"), id="repack"),
    pytest.param(("gc", "-q", "--prune=now"), id="gc"),
    pytest.param(("prune", "--expire=now"), id="prune"),
]


def collect_before(
    monkeypatch: pytest.MonkeyPatch, repo: Path, ref: str, arguments: tuple[str, ...]
) -> list[int]:
    """Let git collect garbage right before a ref is locked; return what became of it."""
    link, done = os.link, list[int]()

    def watched(source: Any, target: Any, **settings: Any) -> None:
        if Path(target) == repo / ".git" / f"{ref}.lock" and not done:
            done.append(run_git(repo, *arguments).returncode)
        link(source, target, **settings)

    monkeypatch.setattr(os, "link", watched)
    return done


def judge(repo: Path) -> None:
    """Let git look for anything that leads nowhere, and for marks that keep things for ever."""
    checked = run_git(repo, "fsck", "--strict", "--no-dangling", "--no-progress")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert list((repo / ".git/objects/pack").glob("*.keep")) == []
    assert list((repo / ".git/agentrelay/fetch").glob("objects-*")) == []


def lane() -> WorkstreamRuntime:
    """Return a lane that is not prepared."""
    return WorkstreamRuntime(WorkstreamSpec("parser"))


@pytest.mark.parametrize("batch", [False, True], ids=["alone", "batch"])
@pytest.mark.parametrize("arguments", _COLLECTIONS)
def test_a_base_that_was_just_fetched_is_there_whatever_git_collects(
    agentrelay_world: World,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    batch: bool,  # noqa: FBT001 - named by the parametrization
) -> None:
    """The lane is cut from it, and the repository is whole."""
    world, runtime = agentrelay_world, lane()
    repo, preparer = world.clone(), world.preparer(world.root / "clones/clone")
    news = commit_files(world.remote_path, {"news.txt": "news"}, message="News")
    done = collect_before(monkeypatch, repo, "refs/remotes/origin/main", arguments)
    if batch:
        (result,) = prepare_all([runtime], preparer)
        assert result.error is None
    else:
        preparer.prepare_workstream(runtime)
    assert done == [0]
    assert refs(repo)[_REF] == news
    judge(repo)


@pytest.mark.parametrize("batch", [False, True], ids=["alone", "batch"])
@pytest.mark.parametrize("arguments", _COLLECTIONS)
def test_what_others_pushed_is_kept_whatever_git_collects(
    agentrelay_world: World,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    batch: bool,  # noqa: FBT001 - named by the parametrization
) -> None:
    """A teardown fetches it before it deletes their branch, and it is there afterwards."""
    world, runtime = agentrelay_world, lane()
    repo = world.clone()
    world.preparer(repo).prepare_workstream(runtime)
    branch = _REF.removeprefix("refs/heads/")
    commit_files(world.remote_path, {"theirs.txt": "1"}, message="Theirs", branch=branch)
    done = collect_before(monkeypatch, repo, f"refs/remotes/origin/{branch}", arguments)
    tear_down: Callable[[], object] = lambda: world.teardown(repo).teardown_workstream(runtime)  # noqa: E731 - one of two
    if batch:
        tear_down = lambda: teardown_all([runtime], world.teardown(repo))  # noqa: E731 - the other
    tear_down()
    assert done == [0]
    (work,) = rescued(repo)
    assert read_tree(repo, work.ref)["theirs.txt"] == b"1"
    judge(repo)
