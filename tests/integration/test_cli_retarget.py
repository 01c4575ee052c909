"""The command that lets the lanes below a merged lane go where it went."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentrelay.workstream.testing import Fault, World, commit_files
from tests.integration._command_line import lanes_of, on

PARENT = "agentrelay/nightly/parser/integration"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Return a world whose token is where an enterprise host's belongs."""
    with World() as made:
        assert made.token is not None
        monkeypatch.setenv("GH_ENTERPRISE_TOKEN", made.token)
        yield made


@pytest.fixture
def repo(world: World) -> Path:
    """Return a working copy with a lane, one below it and one beside it, all submitted."""
    repo = world.clone()
    for arguments in (("parser", "docs"), ("errors", "--parent", "parser")):
        for name, lane in lanes_of(on(repo, "prepare", *arguments, "--json")).items():
            commit_files(Path(lane["worktree"]), {f"{name}.txt": "x\n"}, message="Work")
    for name in ("parser", "docs", "errors"):
        assert on(repo, "integrate", name, *github(world)).exit_code == 0
    assert [pull.base for pull in world.github.pulls()] == ["main", "main", PARENT]
    return repo


def github(world: World) -> tuple[str, ...]:
    """Return the options that name a world's GitHub."""
    return ("--api-url", world.github.api_url, "--full-name", world.full_name)


def merge(world: World, repo: Path) -> None:
    """Merge the lane above and mark it."""
    world.github.merge_pull(1, method="squash")
    assert on(repo, "check", "parser", *github(world)).exit_code == 0


def below(repo: Path, world: World, name: str = "parser") -> tuple[int, list[dict[str, Any]]]:
    """Retarget; return the exit status and the children of a lane."""
    result = on(repo, "retarget", name, *github(world), "--json")
    return result.exit_code, lanes_of(result)[name]["children"]


def test_the_lanes_below_a_merged_one_go_where_it_went(world: World, repo: Path) -> None:
    """Only those, once; a new process goes on with it."""
    merge(world, repo)
    child = {
        "id": "errors",
        "old_target": PARENT,
        "new_target": "main",
        "pull_request": world.github.pulls()[2].html_url,
        "changed": True,
        "reason": None,
        "error": None,
        "hint": None,
    }
    assert below(repo, world) == (0, [child])
    again = child | {"old_target": "main", "changed": False}
    assert below(repo, world) == (0, [again])
    assert on(repo, "integrate", "errors", *github(world)).exit_code == 0
    assert [(pull.base, pull.state) for pull in world.github.pulls()] == [
        ("main", "closed"),
        ("main", "open"),
        ("main", "open"),
    ]


def test_it_says_so_in_a_table(world: World, repo: Path) -> None:
    """A line for each lane below."""
    merge(world, repo)
    result = on(repo, "retarget", "parser", *github(world))
    assert result.exit_code == 0
    row = result.stdout.splitlines()[1].split()
    assert row == ["parser", "errors", PARENT, "main", world.github.pulls()[2].html_url, "-"]


def test_a_lane_that_is_not_merged_moves_nobody(world: World, repo: Path) -> None:
    """An error under its name that says what to do; the next lane is looked at."""
    merge(world, repo)
    result = on(repo, "retarget", "docs", "parser", *github(world), "--json")
    assert result.exit_code == 1
    lanes = lanes_of(result)
    assert "nothing says that workstream 'docs' was merged" in lanes["docs"]["error"]
    assert lanes["docs"]["children"] == []
    # The lane itself is as well as before.
    assert (lanes["docs"]["status"], lanes["docs"]["worktree_exists"]) == ("pr_created", True)
    assert [child["id"] for child in lanes["parser"]["children"]] == ["errors"]


def test_what_github_refuses_is_an_error_of_the_child(world: World, repo: Path) -> None:
    """Under the child's name, in GitHub's words, with the exit status."""
    merge(world, repo)
    world.github.faults.add(Fault.status(422, method="PATCH", message="Not today", times=2))
    result = on(repo, "retarget", "parser", *github(world))
    assert result.exit_code == 1
    assert "error: nightly/errors: " in result.stderr
    assert "Not today" in result.stderr
    status, (child,) = below(repo, world)
    assert (status, child["changed"], child["new_target"]) == (1, False, PARENT)
    assert "Not today" in child["error"]


def test_a_lane_below_another_says_so_in_its_record(repo: Path) -> None:
    """``prepare --parent`` cuts it from that lane's branch; a base may be given all the same."""
    (signals,) = repo.rglob("workstreams/errors/lane.json")
    record = json.loads(signals.read_text())
    assert record["parent_workstream_id"] == "parser"
    assert record["base_branch"] == record["merge_target_branch"] == PARENT
    result = on(repo, "prepare", "spare", "--parent", "parser", "--target", "main", "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads((signals.parents[1] / "spare" / "lane.json").read_text())
    assert (record["base_branch"], record["merge_target_branch"]) == (PARENT, "main")


def test_a_lane_cannot_be_below_itself(repo: Path) -> None:
    """Refused before anything is made."""
    result = on(repo, "prepare", "a", "--parent", "a", "--json")
    assert result.exit_code == 1
    assert "unique" in lanes_of(result)["a"]["error"]
