"""The demo: a story that is true, on any machine, and tidy afterwards."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from agentrelay.workstream import WorkstreamStatus
from agentrelay.workstream.cli import checks, program
from agentrelay.workstream.cli.narrator import Narrator
from agentrelay.workstream.cli.report import make_console
from agentrelay.workstream.cli.story import FOREIGN, UNSAVED, Story
from agentrelay.workstream.testing import World, read_tree, refs
from tests.integration._command_line import terminal

OPEN_BRANCH = "refs/heads/agentrelay/nightly/rounding/integration"


def test_the_demo_tells_its_story_in_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal: status 0, every part told, no control character, nothing left."""
    monkeypatch.setenv("PATH", "")
    before = threading.enumerate()
    result = CliRunner().invoke(program, ["demo"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    lines = result.stdout.splitlines()
    assert "1. Prepare six lanes at once" in lines
    assert any(
        line.startswith("power ") and "needs a design review first" in line for line in lines
    )
    assert any("stays open: 405 Pull Request is not mergeable" in line for line in lines)
    assert any(line.startswith("Nothing left this machine: ") for line in lines)
    (directory,) = (line.split()[-1] for line in lines if line.startswith("  directory"))
    assert not Path(directory).exists()
    for thread in set(threading.enumerate()) - {*before}:
        # Some are at their last line.
        thread.join(60)
        assert not thread.is_alive()


def test_the_demo_ends_with_a_table_of_lanes() -> None:
    """What was pushed, what became of the pull request, and what was kept, a line a lane."""
    lines = CliRunner().invoke(program, ["demo"]).stdout.splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("lane "))
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines[first + 1 : first + 7]}
    assert list(rows) == ["multiply", "divide", "readme", "power", "rounding", "release"]
    for merged in ("multiply", "divide", "power"):
        assert rows[merged].split() == [
            "merged",
            "pushed,",
            "deleted",
            rows[merged].split()[3],
            "merged",
            "-",
        ]
    assert rows["readme"].endswith("uncommitted files, in 2 rescue refs")
    assert rows["rounding"].startswith("pr_created  pushed, still there")
    assert rows["rounding"].endswith("both branches, for the open pull request")
    assert rows["release"].split() == [
        "failed",
        "never",
        "pushed",
        "-",
        "what",
        "lay",
        "in",
        "the",
        "way",
    ]
    assert sum(line.startswith("  yes  ") for line in lines) == 9


def test_a_kept_world_holds_what_the_demo_told(tmp_path: Path) -> None:
    """Branches, merged files, rescued bytes and the foreign folder are there to look at."""
    world_dir = tmp_path / "world"
    result = CliRunner().invoke(program, ["demo", "--keep", str(world_dir)])
    assert result.exit_code == 0
    checkout = world_dir / "clones" / "checkout"
    assert f"agentrelay-workstream status --repo {checkout}" in result.stdout
    remote = world_dir / "remotes" / "octo" / "widgets.git"
    assert set(refs(remote)) == {"refs/heads/main", OPEN_BRANCH}
    main = read_tree(remote, "main")
    for name in ("multiply", "divide", "power"):
        assert f"src/calculator/{name}.py" in main
    assert b"multiplies and divides" in main["README.md"]
    assert b"rounds half to even" in read_tree(remote, OPEN_BRANCH)["README.md"]
    rescued = [ref for ref in refs(checkout) if ref.startswith("refs/agentrelay/rescue/")]
    assert {ref.split("/")[-1] for ref in rescued} == {"unstaged", "untracked"}
    for ref, name in zip(sorted(rescued), ("run", "notes.md"), strict=True):
        assert read_tree(checkout, ref)[name] == UNSAVED[name].encode()
    name, text = FOREIGN
    assert (checkout / ".worktrees" / "nightly" / "release" / name).read_text() == text
    listed = CliRunner().invoke(program, ["status", "--repo", str(checkout), "--json"])
    statuses = {lane["id"]: lane["status"] for lane in json.loads(listed.stdout)["lanes"]}
    assert statuses == dict.fromkeys(["divide", "multiply", "power", "readme"], "merged") | {
        "rounding": "pr_created"
    }


def test_the_demo_refuses_a_directory_in_use(tmp_path: Path) -> None:
    """Somebody's files and a throwaway world are never mixed."""
    (tmp_path / "thesis.txt").write_text("Chapter 1\n")
    result = CliRunner().invoke(program, ["demo", "--keep", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not empty" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_demo_as_json_is_one_document() -> None:
    """Programs get lanes, checks and addresses, and nothing else on stdout."""
    result = CliRunner().invoke(program, ["demo", "--json"])
    document = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    assert document["told"] is True
    assert all(check["held"] for check in document["checks"])
    assert document["git_url"].startswith("http://127.0.0.1:")
    assert document["api_url"].startswith("http://127.0.0.1:")
    lanes = {lane["id"]: lane for lane in document["lanes"]}
    assert lanes["release"]["status"] == "failed"
    assert lanes["release"]["error"].startswith("LaneConflictError: ")
    assert lanes["rounding"]["remote_branch"] == "pushed, still there"
    assert len(lanes["readme"]["kept"]) == 2


def test_the_demo_moves_and_is_coloured_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes are shown while they work, and the table has a frame."""
    with terminal(monkeypatch, columns=120) as sent, pytest.raises(SystemExit) as ended:
        program(["demo"])
    assert ended.value.code == 0
    assert "preparing" in sent[0]
    assert re.search(r"\x1b\[(?:[0-9]+;)*32m", sent[0])
    assert "╭──" in sent[0]


def test_the_demo_has_no_colours_where_they_are_not_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """NO_COLOR is honoured in a terminal too."""
    with terminal(monkeypatch, columns=120, NO_COLOR="1") as sent, pytest.raises(SystemExit):
        program(["demo"])
    assert "multiply" in sent[0]
    assert re.search(r"\x1b\[(?:[0-9]+;)*3[0-7]m", sent[0]) is None


def test_a_story_that_goes_otherwise_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks can fail: then the status is 1 and one line names what does not hold."""
    monkeypatch.setitem(checks._EXPECTED, "release", WorkstreamStatus.MERGED)
    result = CliRunner().invoke(program, ["demo"])
    assert result.exit_code == 1
    assert "  NO   every lane ended as the story tells" in result.stdout.splitlines()
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: the story did not go as told; this does not hold: every lane")
    assert hint.startswith("hint: ")


def test_a_remote_that_refuses_everything_spoils_the_story_and_nothing_else() -> None:
    """Lanes that fail drop out; the story goes on to its end, and the checks tell."""
    with World() as world:
        story = Story(world, Narrator(make_console(quiet=True)))
        world.git.hooks.append(lambda updates: dict.fromkeys((each.ref for each in updates), "no"))
        story.play()
        endings, looked = checks.look(world, story)
    assert {ending.lane.status for ending in endings} == {"failed"}
    assert {ending.branch for ending in endings} == {"never pushed"}
    held = {check.what: check.held for check in looked}
    assert not held["every lane ended as the story tells"]
    assert held["your own checkout is as it was: files, index, HEAD and 'main'"]


def test_a_lane_without_a_pull_request_is_passed_over_in_the_review() -> None:
    """A GitHub that refuses to open one leaves the lane as it is."""
    from agentrelay.workstream.testing import Fault

    with World() as world:
        story = Story(world, Narrator(make_console(quiet=True)))
        world.github.faults.add(Fault.status(422, method="POST", path="/pulls", times=6))
        story.play()
        endings, _ = checks.look(world, story)
    assert {ending.pull for ending in endings} == {""}
