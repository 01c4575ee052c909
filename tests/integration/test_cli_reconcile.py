"""The command that finds lanes nobody keeps, on real repositories."""

from __future__ import annotations

import errno
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from agentrelay.workstream import WorkstreamRuntime, WorkstreamSpec
from agentrelay.workstream.testing import World, refs
from fixtures.neglected import NEGLECTED, change_record
from fixtures.scenarios import Scene, whole_lane
from tests.integration._command_line import run

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Return a world whose token is where an enterprise host's belongs."""
    with World() as made:
        assert made.token is not None
        monkeypatch.setenv("GH_ENTERPRISE_TOKEN", made.token)
        yield made


@pytest.fixture
def scene(world: World) -> Scene:
    """Return a lane whose folder was deleted, beside a whole one and a half-gone one."""
    made = whole_lane(world)
    runner = world.runner(made.repo)
    for name in ("docs", "lexer"):
        runner.prepare(WorkstreamRuntime(WorkstreamSpec(name)))
    shutil.rmtree(made.lane.worktree_path)
    record = made.repo / ".workflow/nightly/workstreams/lexer/lane.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "ending": True}))
    return made


def options(scene: Scene) -> list[str]:
    """Return what names the repository and its GitHub."""
    github = ["--api-url", scene.world.github.api_url, "--full-name", scene.world.full_name]
    return ["--repo", str(scene.repo), *github]


def rows(text: str) -> dict[str, list[str]]:
    """Return the rows of a table by the id in them."""
    table = [line.split() for line in text.splitlines() if not line.startswith("note:")]
    return {row[2]: row for row in table}


def test_a_dry_run_tells_and_a_real_one_does(scene: Scene) -> None:
    """Each lane has its row; the same lanes are then completed and removed, and stay so."""
    before = refs(scene.repo)
    dry = run("reconcile", *options(scene), "--dry-run")
    assert (dry.exit_code, dry.stderr) == (0, "")
    assert rows(dry.stdout)["docs"][:2] == ["live", "nightly"]
    assert rows(dry.stdout)["lexer"][-2:] == ["to", "remove"]
    assert rows(dry.stdout)["parser"][-2:] == ["to", "complete"]
    assert "note: nightly/lexer: its teardown was begun" in dry.stdout
    assert (refs(scene.repo), scene.lane.worktree_path.exists()) == (before, False)

    done = run("reconcile", *options(scene))
    assert (done.exit_code, done.stderr) == (0, "")
    assert rows(done.stdout)["docs"][-1] == "left"
    assert rows(done.stdout)["lexer"][-1] == "removed"
    assert rows(done.stdout)["parser"][-1] == "completed"
    assert scene.lane.worktree_path.is_dir()
    assert not (scene.repo / ".worktrees/nightly/lexer").exists()

    again = run("reconcile", *options(scene))
    assert {name: row[-1] for name, row in rows(again.stdout).items() if name != "id"} == {
        "docs": "left",
        "parser": "left",
    }


def test_the_document_has_every_lane_and_what_was_found_of_it(scene: Scene) -> None:
    """Programs read kinds, outcomes and places; stdout holds nothing else."""
    (scene.repo / ".worktrees/.trash/gone-1").mkdir(parents=True)
    result = run("reconcile", *options(scene), "--dry-run", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert set(document) == {"lanes", "leftovers", "stuck", "concerns"}
    assert document["leftovers"] == [str(scene.repo / ".worktrees/.trash/gone-1")]
    lanes = {lane["id"]: lane for lane in document["lanes"]}
    assert {name: (lane["kind"], lane["outcome"]) for name, lane in lanes.items()} == {
        "docs": ("live", "left"),
        "lexer": ("orphaned", "to remove"),
        "parser": ("resumable", "to complete"),
    }
    assert lanes["parser"] == {
        "graph": "nightly",
        "id": "parser",
        "kind": "resumable",
        "why": "its worktree is gone",
        "outcome": "to complete",
        "worktree": None,
        "entry": str(scene.admin_dir),
        "branch": scene.lane.branch_ref,
        "remote_branch": scene.lane.branch,
        "signal_dir": str(scene.lane.signal_dir),
        "rescue_refs": [],
        "concerns": [],
    }


def test_a_lane_that_fails_is_an_error_and_the_exit_status(scene: Scene) -> None:
    """The others are done all the same; the reason is on stderr, in one line."""
    change_record(scene, base_branch="no-such-branch")
    result = run("reconcile", *options(scene))
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: nightly/parser: ")
    assert "no-such-branch" in line
    assert rows(result.stdout)["parser"][-1] == "failed"
    assert rows(result.stdout)["lexer"][-1] == "removed"


def test_a_remote_that_is_away_is_said(scene: Scene) -> None:
    """The lanes are listed from what is here, and the note says what is missing."""
    scene.world.git.close()
    result = run("reconcile", *options(scene), "--dry-run")
    assert result.exit_code == 0
    assert "note: the remote 'origin' could not be asked" in result.stdout
    assert run("reconcile", *options(scene)).exit_code == 1


def test_one_graph_and_nothing_found(scene: Scene) -> None:
    """A graph without lanes is no failure; a name that cannot be one is."""
    result = run("reconcile", *options(scene), "--graph", "weekly")
    assert (result.exit_code, result.stdout) == (0, "No lanes were found.\n")
    refused = run("reconcile", *options(scene), "--graph", "..", "--json")
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["lanes"] == []


def test_names_that_could_act_on_a_terminal_are_made_visible(world: World) -> None:
    """A folder's name is a stranger's text; rescue refs are counted."""
    scene = NEGLECTED["only_rescue_refs"](world)
    (scene.repo / ".worktrees/nightly/\x1b[31mred").mkdir(parents=True)
    result = run("reconcile", *options(scene))
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "\\x1b[31mred" in result.stdout
    assert "1 rescue ref" in result.stdout


def test_what_killed_processes_left_is_counted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leftover that cannot be removed is an error of its own."""
    trash = scene.repo / ".worktrees/.trash/gone-1"
    trash.mkdir(parents=True)
    shared = ("reconcile", *options(scene), "--graph", "weekly")
    dry = run(*shared, "--dry-run")
    assert "note: leftovers of killed processes to be removed: 1" in dry.stdout

    def refuse(path: str, **_settings: Any) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        stuck = run(*shared)
    assert stuck.exit_code == 1
    assert stuck.stderr == f"error: '{trash}' could not be removed\n"
    done = run(*shared)
    assert (done.exit_code, trash.exists()) == (0, False)
    assert "note: leftovers of killed processes removed: 1" in done.stdout
