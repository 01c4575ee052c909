"""The example a reader is sent to first does what it says, in its world and in a clone."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from agentrelay.workstream import rescued
from agentrelay.workstream.testing import World, read_tree, refs

_PLACE: Final = Path(__file__).parents[2] / "examples" / "orchestrator.py"
_NOTES: Final = "agentrelay-example/NOTES.md"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the file as a module."""
    spec = importlib.util.spec_from_file_location("orchestrator", _PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    monkeypatch.setitem(sys.modules, "orchestrator", module)
    spec.loader.exec_module(module)
    return module


def test_without_arguments_it_plays_in_a_world_of_its_own(
    example: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every part is told: the parent, the conflict, the sync and the rescue."""
    monkeypatch.setenv("PATH", "")
    example.main([])
    told = capsys.readouterr().out
    for line in (
        "  add/add: agentrelay-example/NOTES.md",
        "  parser: merged",
        "  cli: from agentrelay/example/parser/integration to main",
        "  docs: merged",
        "  cli: follows its new base",
        "  cli: merged",
    ):
        assert line in told.splitlines()
    assert "/untracked is back as rescued/example/spike/" in told


def test_two_arguments_point_it_at_a_clone(
    example: ModuleType,
    agentrelay_world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Everything is merged, the rest is kept; no branch and no worktree of a lane is left."""
    world = agentrelay_world
    repo = world.clone()
    real = example.Stage.of

    def on_loopback(place: Path, branch: str) -> Any:
        """The stage of a clone, told where the world's GitHub is: it is not at the git server."""
        stage = real(place, branch)
        return dataclasses.replace(
            stage,
            token=world.token,
            preparer=world.preparer(place, stage.preparer.graph_name),
            integrator=world.integrator(place),
            checker=world.merge_checker(place),
            merger=world.auto_merger(place),
            teardown=world.teardown(place),
        )

    monkeypatch.setattr(example.Stage, "of", on_loopback)
    example.main([str(repo), "main"])
    assert world.token is not None
    assert world.token not in capsys.readouterr().out

    files = read_tree(world.remote_path, "main")
    assert files[_NOTES] == b"Read this first. The parser reads one line at a time.\n"
    assert {"agentrelay-example/parser.py", "agentrelay-example/cli.py"} <= set(files)
    assert [pull.state for pull in world.github.pulls()] == ["closed"] * 3
    assert not [ref for ref in refs(world.remote_path) if "agentrelay" in ref]
    (work,) = rescued(repo)
    branch = f"rescued/example/spike/{work.ref.split('/')[-2]}/untracked"
    kept = read_tree(repo, branch)
    assert kept["agentrelay-example/idea.txt"] == b"What if the grammar came first?\n"
    assert not (repo / ".worktrees" / "example").exists()


def test_a_clone_without_a_branch_is_refused(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is missing is said before anything is done."""
    with pytest.raises(SystemExit):
        example.main([str(tmp_path)])
    assert "name the branch to work from and into" in capsys.readouterr().err


_PARTS: Final = (
    "prepare",
    "let_agents_work",
    "look_ahead",
    "open_pull_requests",
    "merge_the_parent",
    "merge_what_conflicts",
    "merge_the_child",
    "clean_up",
)


@pytest.mark.parametrize("done", range(1, len(_PARTS) + 1))
def test_a_run_that_was_stopped_goes_on(
    example: ModuleType, agentrelay_world: World, done: int
) -> None:
    """In another process, after any part: nothing is opened or merged a second time."""
    world = agentrelay_world
    repo = world.clone()

    def stage() -> Any:
        return example.Stage(
            repo,
            "main",
            world.token,
            world.preparer(repo, example.GRAPH),
            world.integrator(repo),
            world.merge_checker(repo),
            world.auto_merger(repo),
            world.teardown(repo),
        )

    stopped = example.Orchestrator(stage(), lambda _: None)
    for part in _PARTS[:done]:
        getattr(stopped, part)()
    example.play(stage(), lambda _: None)
    assert [(pull.base, pull.merged) for pull in world.github.pulls()] == [("main", True)] * 3
    notes = read_tree(world.remote_path, "main")[_NOTES]
    assert notes == b"Read this first. The parser reads one line at a time.\n"
