"""The lane commands on real repositories, with real servers at the other end."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentrelay.workstream._lane import Lane
from agentrelay.workstream.cli import program
from agentrelay.workstream.core import _signals
from agentrelay.workstream.testing import Fault, World, commit_files, read_tree, refs
from tests.integration._command_line import lanes_of, on, run, terminal

if TYPE_CHECKING:
    from collections.abc import Iterator


PARSER = "refs/heads/agentrelay/nightly/parser/integration"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Return a world whose token is where an enterprise host's belongs."""
    with World() as made:
        assert made.token is not None
        monkeypatch.setenv("GH_ENTERPRISE_TOKEN", made.token)
        yield made


@pytest.fixture
def repo(world: World) -> Path:
    """Return a working copy."""
    return world.clone()


def github(world: World) -> tuple[str, ...]:
    """Return the options that name a world's GitHub."""
    return ("--api-url", world.github.api_url, "--full-name", world.full_name)


def test_a_lane_lives_its_whole_life_on_the_command_line(world: World, repo: Path) -> None:
    """Prepared, worked in, submitted, merged and removed, by five separate commands."""
    prepared = lanes_of(on(repo, "prepare", "parser", "docs", "--json"))
    assert [lane["status"] for lane in prepared.values()] == ["active", "active"]
    worktree = Path(prepared["parser"]["worktree"])
    assert worktree.is_dir()
    assert PARSER in refs(world.remote_path)
    tip = commit_files(worktree, {"parser.py": "PARSER = 1\n"}, message="Add the parser")

    integrated = on(repo, "integrate", "parser", *github(world), "--json")
    assert (integrated.exit_code, integrated.stderr) == (0, "")
    (pull,) = world.github.pulls()
    assert lanes_of(integrated)["parser"]["pull_request"] == pull.html_url
    assert refs(world.remote_path)[PARSER] == tip
    world.github.merge_pull(pull.number)

    removed = on(repo, "teardown", "parser", *github(world))
    assert (removed.exit_code, removed.stderr) == (0, "")
    assert not worktree.exists()
    assert PARSER not in refs(world.remote_path)
    assert read_tree(world.remote_path, "main")["parser.py"] == b"PARSER = 1\n"

    listed = lanes_of(run("status", "--repo", repo, "--json"))
    assert not listed["parser"]["worktree_exists"]
    assert listed["docs"]["worktree_exists"]
    assert set(listed["docs"]) == {
        "graph", "id", "status", "branch", "worktree", "worktree_exists", "pull_request",
        "error", "hint", "concerns",
    }  # fmt: skip


def test_tables_name_where_to_work_and_are_plain_without_a_terminal(repo: Path) -> None:
    """A line a lane, in the order asked, each on one line however long it is."""
    result = on(repo, "prepare", "zeta", "alpha", "zeta")
    assert (result.exit_code, result.stderr) == (0, "")
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["id", "status", "branch", "worktree", "path"]
    assert [row.split() for row in rows] == [
        [name, "active", f"agentrelay/nightly/{name}/integration",
         str(repo / ".worktrees" / "nightly" / name)]
        for name in ("zeta", "alpha")
    ]  # fmt: skip


def test_one_lane_that_fails_does_not_stop_the_others(world: World, repo: Path) -> None:
    """Status 1, the error and its hint on stderr, and the other lane stands."""
    obstacle = repo / ".worktrees" / "nightly" / "docs" / "mine.txt"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("mine\n")
    result = on(repo, "prepare", "docs", "parser", "--json")
    assert result.exit_code == 1
    lanes = lanes_of(result)
    assert lanes["parser"]["status"] == "active"
    assert (lanes["parser"]["error"], lanes["parser"]["hint"]) == (None, None)
    assert lanes["docs"]["status"] == "failed"
    error, hint = result.stderr.splitlines()
    assert error == f"error: nightly/docs: {lanes['docs']['error']}"
    assert hint == f"hint: {lanes['docs']['hint']}"
    assert obstacle.read_text() == "mine\n"
    assert set(refs(world.remote_path)) == {"refs/heads/main", PARSER}


def test_several_lanes_are_one_batch(world: World, repo: Path) -> None:
    """One exchange of each kind for all of them, a refused one fails alone, and all go again."""
    names = ("parser", "docs", "lexer")
    refused = "refs/heads/agentrelay/nightly/docs/integration"

    def listings() -> list[str]:
        """Return which services listed their refs, and forget it."""
        found = [
            entry.path.rpartition("=")[2]
            for entry in world.git.requests
            if entry.status == 200 and "info/refs" in entry.path
        ]
        world.git.clear()
        return found

    world.git.clear()
    world.git.faults.add(Fault.refuse_ref(refused, "not on a Friday"))
    first = on(repo, "prepare", *names, "--json")
    # The last one tells a rule's refusal from a lost race.
    assert listings() == ["git-upload-pack", "git-receive-pack", "git-upload-pack"]
    assert first.exit_code == 1
    lanes = lanes_of(first)
    assert list(lanes) == list(names)
    assert [lane["status"] for lane in lanes.values()] == ["active", "failed", "active"]
    assert "not on a Friday" in lanes["docs"]["error"]
    assert on(repo, "prepare", *names).exit_code == 0
    world.git.clear()
    gone = on(repo, "teardown", *names, "nobody", *github(world), "--json")
    assert listings() == ["git-upload-pack", "git-receive-pack"]
    assert {name: bool(lane["error"]) for name, lane in lanes_of(gone).items()} == {
        "parser": False, "docs": False, "lexer": False, "nobody": True,
    }  # fmt: skip
    assert set(refs(world.remote_path)) == {"refs/heads/main"}


def test_names_that_break_a_rule_fail_their_lane(repo: Path) -> None:
    """The document is valid, the name is shown escaped, and nothing is made."""
    for command in ("prepare", "integrate", "teardown"):
        result = on(repo, command, "a/../b\x1b[31m", "--json")
        assert result.exit_code == 1
        (lane,) = json.loads(result.stdout)["lanes"]
        assert lane["status"] == "failed"
        assert "cannot name a lane" in lane["error"]
        assert "\x1b" not in result.output
    assert not (repo / ".workflow").exists()


def test_a_repeated_prepare_keeps_base_and_target(world: World, repo: Path) -> None:
    """What the first command was told need not be told again; what is told anew wins."""
    commit_files(world.remote_path, {"next.txt": "2\n"}, message="Next", branch="next")
    assert on(repo, "prepare", "parser", "--base", "next", "--target", "next").exit_code == 0
    assert on(repo, "prepare", "parser").exit_code == 0
    place = Lane.of(repo, "nightly", "parser").signal_dir
    record = _signals.read_record(place)
    assert record is not None
    assert (record["base_branch"], record["merge_target_branch"]) == ("next", "next")
    assert on(repo, "prepare", "parser", "--target", "main").exit_code == 0
    record = _signals.read_record(place)
    assert record is not None
    assert (record["base_branch"], record["merge_target_branch"]) == ("next", "main")


def test_a_refused_lane_is_completed_by_repeating_the_command(world: World, repo: Path) -> None:
    """The first try says why in the server's words; the second one leaves FAILED behind."""
    world.git.faults.add(Fault.refuse_ref(PARSER, "frozen [bold]until[/bold] Monday\x1b[2J"))
    first = on(repo, "prepare", "parser")
    assert first.exit_code == 1
    assert "frozen [bold]until[/bold] Monday" in first.stderr
    assert "\x1b" not in first.output
    shown = run("status", "--repo", repo)
    assert shown.exit_code == 1
    assert "[bold]until[/bold]" in shown.stdout
    assert on(repo, "prepare", "parser").exit_code == 0
    assert PARSER in refs(world.remote_path)
    assert run("status", "--repo", repo).exit_code == 0


@pytest.mark.parametrize("command", ["integrate", "teardown"])
def test_a_lane_that_was_never_prepared_is_an_error(command: str, repo: Path) -> None:
    """The reader is told what to do first."""
    result = on(repo, command, "parser")
    assert result.exit_code == 1
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: nightly/parser: there is no lane here: ")
    assert hint == "hint: Prepare it first, or check --repo, --graph and --run-dir."


def test_a_failed_integration_keeps_its_hint(world: World, repo: Path) -> None:
    """A refusal of GitHub is one line with a hint, and the lane is FAILED."""
    on(repo, "prepare", "parser")
    worktree = Lane.of(repo, "nightly", "parser").worktree_path
    commit_files(worktree, {"parser.py": "1\n"}, message="Add the parser")
    world.github.faults.add(Fault.status(403, message="Resource not accessible", path="/pulls"))
    result = on(repo, "integrate", "parser", *github(world), "--json")
    assert result.exit_code == 1
    lane = lanes_of(result)["parser"]
    assert lane["status"] == "failed"
    assert "Resource not accessible" in lane["error"]
    assert lane["hint"]
    assert lanes_of(run("status", "--repo", repo, "--json"))["parser"]["status"] == "failed"


def test_a_teardown_says_what_it_kept(world: World, repo: Path) -> None:
    """An open pull request keeps the branches; that is a note, not a failure."""
    on(repo, "prepare", "parser")
    worktree = Lane.of(repo, "nightly", "parser").worktree_path
    commit_files(worktree, {"parser.py": "1\n"}, message="Add the parser")
    on(repo, "integrate", "parser", *github(world))
    result = on(repo, "teardown", "parser", *github(world))
    assert (result.exit_code, result.stderr) == (0, "")
    note = result.stdout.splitlines()[-1]
    assert note.startswith("note: nightly/parser: the branches of lane 'nightly/parser' were kept")
    assert not worktree.exists()
    assert PARSER in refs(repo)


def test_an_unfinished_teardown_can_be_repeated(repo: Path) -> None:
    """A step that fails makes status 1; once its reason is gone the rest goes too."""
    on(repo, "prepare", "parser")
    lane = Lane.of(repo, "nightly", "parser")
    lock = repo / ".git" / "worktrees" / lane.admin_name / "locked"
    lock.write_text("I am looking at it\n")
    first = on(repo, "teardown", "parser", "--json")
    assert first.exit_code == 1
    assert "I am looking at it" in lanes_of(first)["parser"]["error"]
    assert lane.worktree_path.is_dir()
    lock.unlink()
    assert on(repo, "teardown", "parser").exit_code == 0
    assert not lane.worktree_path.exists()
    assert lane.branch_ref not in refs(repo)


def test_a_teardown_that_cannot_begin_is_an_error(repo: Path, tmp_path: Path) -> None:
    """Signals without their repository: the error is the repository's."""
    on(repo, "prepare", "parser", "--run-dir", tmp_path / "run")
    (tmp_path / "empty").mkdir()
    result = on(tmp_path / "empty", "teardown", "parser", "--run-dir", tmp_path / "run")
    assert result.exit_code == 1
    assert "is not a git repository" in result.stderr


def test_status_lists_the_lanes_of_all_graphs(repo: Path) -> None:
    """Whoever made them, sorted by graph and id; a graph or ids choose among them."""
    on(repo, "prepare", "parser", "docs")
    run("prepare", "--repo", repo, "--graph", "weekly", "docs")

    def listed(*arguments: str) -> list[tuple[str, str]]:
        result = run("status", "--repo", repo, "--json", *arguments)
        assert result.exit_code == 0
        return [(lane["graph"], lane["id"]) for lane in json.loads(result.stdout)["lanes"]]

    assert listed() == [("nightly", "docs"), ("nightly", "parser"), ("weekly", "docs")]
    assert listed("--graph", "weekly") == [("weekly", "docs")]
    assert listed("docs") == [("nightly", "docs"), ("weekly", "docs")]


def test_status_reads_a_run_directory(repo: Path, tmp_path: Path) -> None:
    """Signals outside the repository are found where the command says they are."""
    on(repo, "prepare", "parser", "--run-dir", tmp_path / "run")
    assert run("status", "--repo", repo).stdout == f"No lanes in '{repo / '.workflow'}'.\n"
    (lane,) = json.loads(run("status", "--run-dir", tmp_path / "run", "--json").stdout)["lanes"]
    assert (lane["graph"], lane["id"], lane["status"]) == ("nightly", "parser", "active")


def test_another_graphs_lane_in_a_shared_run_directory_is_left_alone(
    repo: Path, tmp_path: Path
) -> None:
    """No command takes one graph's lane for another's."""
    on(repo, "prepare", "parser", "--run-dir", tmp_path)
    before = refs(repo)
    for command in ("prepare", "integrate", "teardown"):
        result = run(command, "--repo", repo, "--graph", "weekly", "--run-dir", tmp_path, "parser")
        assert result.exit_code == 1
        assert "Check --graph and --run-dir." in result.stderr
    assert refs(repo) == before
    assert Lane.of(repo, "nightly", "parser").worktree_path.is_dir()


def test_status_looks_where_lanes_are_made(tmp_path: Path) -> None:
    """A directory that Lane names is found by the command, which does not load Lane."""
    signal_dir = Lane.of(tmp_path, "nightly", "parser").signal_dir
    signal_dir.mkdir(parents=True)
    (signal_dir / "failed").write_text("OSError: it is late\nand dark\n")
    # Neither is a lane: a link may lead anywhere, and a file is nobody's directory.
    (signal_dir.parent / "link").symlink_to(signal_dir)
    (signal_dir.parent / "file").write_text("")
    result = run("status", "--repo", tmp_path)
    assert result.exit_code == 1
    head, row = result.stdout.splitlines()
    assert head.split()[-1] == "error"
    assert row.split()[:3] == ["nightly", "parser", "failed"]
    assert row.endswith("holds no readable lane record")


def test_status_works_where_libgit2_cannot_be_loaded(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking at lanes needs their signal files and nothing else."""
    on(repo, "prepare", "parser")
    for name in [name for name in sys.modules if name.startswith("agentrelay.workstream._git")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pygit2", None)
    result = run("status", "--repo", repo)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split()[:5] == [
        "nightly", "parser", "active", "agentrelay/nightly/parser/integration", "there"
    ]  # fmt: skip


def test_status_of_an_unknown_lane_is_an_error(repo: Path) -> None:
    """A misspelled id is not an empty list."""
    result = run("status", "--repo", repo, "parser")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: */parser: there is no such lane here\nhint: ")
    assert lanes_of(run("status", "--repo", repo, "parser", "--json"))["parser"]["error"]


def test_status_is_framed_in_a_terminal(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People see a table with colours, folded into the width they have."""
    on(repo, "prepare", "parser")
    with terminal(monkeypatch, columns=60) as sent, pytest.raises(SystemExit):
        program(["status", "--repo", str(repo)])
    assert "╭" in sent[0]
    assert "active" in sent[0]
    assert "\x1b[36m" in sent[0]
