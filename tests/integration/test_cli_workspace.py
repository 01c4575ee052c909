"""Cloning and working in a lane from a shell that has no git."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pygit2
import pytest

from agentrelay.workstream.testing import World, commit_files, refs
from tests.integration._command_line import lanes_of, on, run, terminal
from tests.integration._workspaces import conflicted, workspace_in

if TYPE_CHECKING:
    from collections.abc import Iterator

BRANCH = "agentrelay/nightly/parser/integration"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Return a world whose token is where an enterprise host's belongs."""
    with World() as made:
        assert made.token is not None
        monkeypatch.setenv("GH_ENTERPRISE_TOKEN", made.token)
        yield made


@pytest.fixture
def worktree(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Clone, prepare a lane, and go into its worktree, all from the shell."""
    repo = world.root / "clones" / "by-command"
    cloned = run("clone", world.remote_url, repo)
    assert (cloned.exit_code, cloned.stdout) == (0, f"cloned to {repo}\n")
    worktree = Path(lanes_of(on(repo, "prepare", "parser", "--json"))["parser"]["worktree"])
    monkeypatch.chdir(worktree)
    return worktree


def test_work_is_committed_pushed_and_shown(world: World, worktree: Path) -> None:
    """The whole way of an agent's work, in the worktree it stands in."""
    (worktree / "deep").mkdir()
    (worktree / "deep" / "a.py").write_text("A = 1\n")
    (worktree / "b.py").write_text("B = 1\n")
    shown = run("lane", "status")
    assert shown.exit_code == 0
    assert "untracked: deep/a.py\n" in shown.stdout
    assert "remote: 0 ahead, 0 behind\n" in shown.stdout
    made = run(
        "lane",
        "commit",
        "deep",
        "-m",
        "Add A",
        "--author",
        "A <a@b>",
        "--trailer",
        "Key=v",
        "--json",
    )
    document = json.loads(made.stdout)
    assert (document["subject"], document["author_name"]) == ("Add A", "A")
    assert document["trailers"] == [["Key", "v"]]
    assert run("lane", "commit", "-m", "Add B").stdout.endswith(" Add B\n")
    pushed = json.loads(run("lane", "push", "--json").stdout)["commit"]
    assert refs(world.remote_path)[f"refs/heads/{BRANCH}"] == pushed
    logged = run("lane", "log", "-n", "1")
    assert logged.stdout.startswith(f"commit {pushed}\n")
    assert len(json.loads(run("lane", "log", "--json").stdout)["commits"]) == 2
    patch = run("lane", "diff")
    assert "+A = 1\n" in patch.stdout
    assert [file["path"] for file in json.loads(run("lane", "diff", "--json").stdout)["files"]] == [
        "b.py",
        "deep/a.py",
    ]


def test_others_commits_are_pulled(world: World, worktree: Path) -> None:
    """What came is listed; nothing new is said to be nothing."""
    assert run("lane", "pull").stdout == "nothing new\n"
    commit_files(world.remote_path, {"theirs": "1\n"}, message="Theirs", branch=BRANCH)
    assert run("lane", "pull").stdout.endswith(" Theirs\n")
    assert (worktree / "theirs").read_text() == "1\n"


def test_a_conflict_is_shown_and_resolved(world: World) -> None:
    """From anywhere, with the path of the worktree."""
    workspace = workspace_in(world)
    conflicted(workspace)
    (workspace.path / "staged").write_text("1\n")
    shown = run("lane", "status", "--in", workspace.path)
    assert "in progress: merge\n" in shown.stdout
    assert "conflicted: README.md\n" in shown.stdout
    assert "staged added: theirs.txt\n" in shown.stdout
    refused = run("lane", "commit", "-m", "no", "--in", workspace.path)
    assert refused.exit_code == 1
    assert "unresolved conflicts" in refused.stderr
    done = run("lane", "resolve", workspace.path / "README.md", "--in", workspace.path)
    assert done.stdout == "resolved: README.md\n"
    assert run("lane", "commit", "-m", "Merge", "--in", workspace.path).exit_code == 0


def test_a_lane_goes_where_it_was_prepared_for(world: World) -> None:
    """The remote's name need not be said again."""
    repo = world.clone()
    handle = pygit2.Repository(str(repo))
    handle.remotes.rename("origin", "upstream")
    prepared = lanes_of(on(repo, "prepare", "parser", "--remote", "upstream", "--json"))
    worktree = Path(prepared["parser"]["worktree"])
    (worktree / "a").write_text("1\n")
    assert run("lane", "commit", "-m", "A", "--in", worktree).exit_code == 0
    pushed = json.loads(run("lane", "push", "--in", worktree, "--json").stdout)["commit"]
    assert refs(world.remote_path)[f"refs/heads/{BRANCH}"] == pushed


def test_a_place_without_a_lane_is_said(world: World) -> None:
    """On stderr, with a hint; as a document too if one is wanted."""
    result = run("lane", "status", "--in", world.root, "--json")
    assert result.exit_code == 1
    assert "not inside a lane's worktree" in json.loads(result.stdout)["error"]
    assert "hint: " in result.stderr


def test_a_terminal_is_shown_nothing_that_acts_on_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agents write files, and a diff shows them."""
    workspace = workspace_in(world)
    (workspace.path / "a").write_text("\x1b[2Jgone\n")
    with terminal(monkeypatch, columns=100) as sent:
        run_here("lane", "diff", "--against", "head", "--in", str(workspace.path))
    assert "\\x1b[2Jgone" in sent[0]


def run_here(*arguments: str) -> None:
    """Run the program on the streams of this process."""
    from agentrelay.workstream.cli import program

    program.main(list(arguments), standalone_mode=False)
