"""Tasks and sync from a shell that has no git."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from agentrelay.workstream.testing import World, commit_files, refs
from tests.integration._command_line import run
from tests.integration._workspaces import repo_of, workspace_in, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentrelay.workstream import LaneWorkspace

TASK = "agentrelay/nightly/write"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Return a world whose token is where an enterprise host's belongs."""
    with World() as made:
        assert made.token is not None
        monkeypatch.setenv("GH_ENTERPRISE_TOKEN", made.token)
        yield made


@pytest.fixture
def lane(world: World, monkeypatch: pytest.MonkeyPatch) -> LaneWorkspace:
    """Prepare a lane, and go into its worktree."""
    made = workspace_in(world)
    monkeypatch.chdir(made.path)
    return made


def test_a_tasks_whole_life_from_a_shell(world: World, lane: LaneWorkspace) -> None:
    """Started, listed, merged and finished, here and at the remote."""
    assert run("lane", "task", "list").stdout == "no tasks\n"
    started = json.loads(run("lane", "task", "start", "write", "--push", "--json").stdout)
    assert (started["branch"], started["is_merged"]) == (TASK, True)
    commit_files(world.remote_path, {"a": "1\n"}, message="Theirs", branch=TASK)
    merged = run("lane", "task", "merge", "write", "--method", "squash", "--fetch", "-m", "Mine")
    assert merged.stdout == f"write: merged, at {lane.status().commit_id[:12]}\n"
    assert lane.log()[0].subject == "Mine"
    again = run("lane", "task", "merge", "write", "--method", "squash")
    assert again.stdout == "write: merged already\n"
    listed = run("lane", "task", "list").stdout
    assert listed.startswith(f"{TASK} at ")
    assert listed.endswith(", merged\n")
    assert len(json.loads(run("lane", "task", "list", "--json").stdout)["tasks"]) == 1
    done = json.loads(run("lane", "task", "finish", "write", "--delete-remote", "--json").stdout)
    assert done == {"deleted": [f"refs/remotes/origin/{TASK}", f"refs/heads/{TASK}"]}
    assert f"refs/heads/{TASK}" not in refs(world.remote_path)
    assert run("lane", "task", "finish", "write").stdout == "nothing to delete\n"


def test_a_base_is_followed_from_a_shell(world: World, lane: LaneWorkspace) -> None:
    """Up to date, moved forward, or rebased."""
    assert run("lane", "sync").stdout == "up to date\n"
    base = commit_files(world.remote_path, {"a": "1\n"}, message="Base", branch="main")
    assert run("lane", "sync", "--no-fetch").stdout == "up to date\n"
    assert run("lane", "sync").stdout == f"merge done, at {base[:12]}\n"
    write(lane, b="1\n")
    lane.commit("B")
    commit_files(world.remote_path, {"c": "1\n"}, message="Base", branch="main")
    document = json.loads(run("lane", "sync", "--method", "rebase", "--json").stdout)
    assert (document["method"], document["up_to_date"]) == ("rebase", False)
    assert document["commit_id"] == lane.status().commit_id


def test_conflicts_are_listed_and_may_be_left(world: World, lane: LaneWorkspace) -> None:
    """By path, in words or as a document; nothing is changed unless it is asked for."""
    write(lane, README__md="ours\n")
    lane.commit("Ours")
    lane.start_task("write")
    commit_files(repo_of(lane), {"README.md": "task\n"}, message="T", branch=TASK)
    commit_files(world.remote_path, {"README.md": "base\n"}, message="Base", branch="main")
    shown = run("lane", "sync")
    assert (shown.exit_code, shown.stdout) == (1, "conflicted content: README.md\n")
    assert "hint: " in shown.stderr
    assert run("lane", "task", "merge", "write").exit_code == 0
    write(lane, README__md="ours again\n")
    lane.commit("Ours again")
    commit_files(repo_of(lane), {"README.md": "task again\n"}, message="T", branch=TASK)
    refused = run("lane", "task", "merge", "write", "--json")
    assert refused.exit_code == 1
    document = json.loads(refused.stdout)
    assert [conflict["path"] for conflict in document["conflicts"]] == ["README.md"]
    assert "conflicts in 'README.md'" in document["error"]
    left = run("lane", "sync", "--leave-conflicts")
    assert left.stdout == "conflicted content: README.md\nresolve these, then commit\n"
    assert lane.status().operation == "merge"
