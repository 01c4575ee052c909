"""The commands that ask whether lanes were merged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentrelay.workstream.testing import Fault, World, commit_files, refs
from tests.integration._command_line import lanes_of, on


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Return a world whose token is where an enterprise host's belongs."""
    with World() as made:
        assert made.token is not None
        monkeypatch.setenv("GH_ENTERPRISE_TOKEN", made.token)
        yield made


@pytest.fixture
def repo(world: World) -> Path:
    """Return a working copy with two submitted lanes."""
    repo = world.clone()
    for name, lane in lanes_of(on(repo, "prepare", "docs", "parser", "--json")).items():
        commit_files(Path(lane["worktree"]), {f"{name}.txt": "x\n"}, message="Work")
    assert on(repo, "integrate", "docs", *github(world)).exit_code == 0
    assert on(repo, "integrate", "parser", *github(world)).exit_code == 0
    return repo


def github(world: World) -> tuple[str, ...]:
    """Return the options that name a world's GitHub."""
    return ("--api-url", world.github.api_url, "--full-name", world.full_name)


def test_check_marks_what_was_merged_and_nothing_else(world: World, repo: Path) -> None:
    """Merged lanes are merged, and then a teardown removes their branches."""
    before = refs(world.remote_path)["refs/heads/main"]
    world.github.merge_pull(2, method="squash")
    result = on(repo, "check", "docs", "parser", *github(world), "--json")
    lanes = lanes_of(result)
    assert (result.exit_code, result.stderr) == (0, "")
    assert [lanes[name]["status"] for name in ("docs", "parser")] == ["pr_created", "merged"]
    assert [lanes[name]["merge"]["verdict"] for name in lanes] == ["open", "merged"]
    assert lanes["parser"]["merge"] == {
        "verdict": "merged",
        "method": "squash",
        "head": refs(repo)["refs/heads/agentrelay/nightly/parser/integration"],
        "target_before": before,
        "merge_commit": refs(world.remote_path)["refs/heads/main"],
        "reason": None,
    }
    assert on(repo, "teardown", "parser", *github(world)).exit_code == 0
    assert "refs/heads/agentrelay/nightly/parser/integration" not in refs(world.remote_path)


@pytest.mark.parametrize("command", ["check", "watch"])
def test_a_lane_that_cannot_be_marked_holds_up_no_other(
    world: World, repo: Path, command: str
) -> None:
    """The one whose signals refuse is an error of its own; the next is marked."""
    world.github.merge_pull(1)
    world.github.merge_pull(2)
    (signals,) = repo.rglob("workstreams/docs")
    (signals / "merged").mkdir()
    (signals / "merged" / "in the way").touch()
    result = on(repo, command, "docs", "parser", *github(world), "--json")
    lanes = lanes_of(result)
    assert result.exit_code == 1
    assert lanes["docs"]["error"]
    assert [lanes[name]["merge"]["verdict"] for name in ("docs", "parser")] == ["merged", "merged"]
    assert lanes["parser"]["status"] == "merged"


def test_check_says_in_a_table_what_it_found(world: World, repo: Path) -> None:
    """A line a lane, in the order asked."""
    world.github.close_pull(1)
    result = on(repo, "check", "parser", "docs", *github(world))
    rows = [line.split()[:3] for line in result.stdout.splitlines()]
    assert rows == [
        ["id", "status", "merge"],
        ["parser", "pr_created", "open"],
        ["docs", "pr_created", "closed"],
    ]


def test_check_fails_where_it_cannot_tell(world: World, repo: Path) -> None:
    """A lane that is not here, and a GitHub that refuses, are errors; nothing is marked."""
    world.github.merge_pull(1)
    world.github.faults.add(Fault.status(403, message="Resource not accessible", times=99))
    result = on(repo, "check", "docs", "nobody", *github(world), "--json")
    lanes = lanes_of(result)
    assert result.exit_code == 1
    assert (lanes["docs"]["status"], lanes["nobody"]["merge"]) == ("pr_created", None)
    assert "cannot be told" in lanes["docs"]["error"]
    assert "Resource not accessible" in result.stderr
    assert "there is no lane here" in result.stderr


def test_a_lane_that_is_not_here_has_a_row_of_its_own(world: World, repo: Path) -> None:
    """The others are answered."""
    result = on(repo, "check", "nobody", "docs", *github(world))
    assert result.exit_code == 1
    assert [line.split()[:3] for line in result.stdout.splitlines()[1:]] == [
        ["nobody", "failed", "-"],
        ["docs", "pr_created", "open"],
    ]


def test_watch_says_what_happens_and_marks_it(world: World, repo: Path) -> None:
    """Lanes that are settled already end it at once."""
    world.github.merge_pull(1)
    world.github.close_pull(2)
    result = on(repo, "watch", "docs", "parser", *github(world), "--json")
    lanes = lanes_of(result)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == ["nightly/docs: merged", "nightly/parser: closed"]
    assert [lane["status"] for lane in lanes.values()] == ["merged", "pr_created"]


def test_watch_ends_with_its_time(world: World, repo: Path) -> None:
    """One look, and a last word."""
    result = on(repo, "watch", "docs", "--until", "0", *github(world))
    assert (result.exit_code, result.stderr) == (0, "nightly/docs: open\n")
