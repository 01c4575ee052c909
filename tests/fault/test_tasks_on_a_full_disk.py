"""Bringing branches together where the files cannot be written to their end."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from agentrelay.workstream import LaneWorkspace, RepositoryError
from agentrelay.workstream.testing import World, commit_files
from tests.fault._trouble import small_files
from tests.integration._workspaces import picture, repo_of, workspace_in

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")

_LARGE = "a line of a large file\n" * 20_000


def _merge(lane: LaneWorkspace) -> object:
    return lane.merge_task("write")


def _sync(lane: LaneWorkspace) -> object:
    return lane.sync(fetch=False)


@pytest.mark.parametrize("verb", [_merge, _sync])
def test_a_file_that_does_not_fit_takes_the_others_back(
    agentrelay_world: World, verb: Callable[[LaneWorkspace], object]
) -> None:
    """All is as it was, with half a file nowhere; with room it is done."""
    lane = workspace_in(agentrelay_world)
    lane.start_task("write")
    files = {"README.md": "changed\n", "large": _LARGE, "src/more.py": "1\n"}
    for branch in ("agentrelay/nightly/write", "main"):
        commit_files(repo_of(lane), files, message="Large", branch=branch)
    before = picture(lane)
    with small_files(200_000), pytest.raises(RepositoryError, match="too large") as caught:
        verb(lane)
    assert caught.value.hint
    assert picture(lane) == before
    verb(lane)
    assert lane.status().is_clean
    assert (lane.path / "large").read_text() == _LARGE
