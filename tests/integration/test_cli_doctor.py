"""The command that says whether a repository is ready for lanes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentrelay.workstream import diagnose
from tests._ports import closed_port
from tests.integration._command_line import run, terminal
from tests.integration._doctor import set_url

if TYPE_CHECKING:
    from click.testing import Result

    from agentrelay.workstream.testing import World

_PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.fixture
def world(agentrelay_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world whose token is where an enterprise host's belongs."""
    assert agentrelay_world.token is not None
    monkeypatch.setenv("GH_ENTERPRISE_TOKEN", agentrelay_world.token)
    return agentrelay_world


def _ask(world: World, repo: Path, *arguments: str) -> Result:
    known = ("--api-url", world.github.api_url, "--full-name", world.full_name)
    return run("doctor", "--repo", repo, *known, *arguments)


def test_a_ready_repository_is_status_0_and_one_line_a_finding(
    world: World, cloned_repo: Path
) -> None:
    """Each line begins with a level and a name; the last one counts them."""
    result = _ask(world, cloned_repo)
    assert (result.exit_code, result.stderr) == (0, "")
    *lines, last = [line for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert {re.split(" +", line)[0] for line in lines} == {"ok", "note"}
    names = [re.split(" +", line)[1] for line in lines]
    assert names == [finding.name for finding in diagnose(cloned_repo)]
    assert last == f"problems: 0, notes: 2, ok: {len(lines) - 2}"
    assert world.token is not None
    assert world.token not in result.output


def test_a_problem_is_status_1_with_its_fix_on_a_line_of_its_own(
    world: World, cloned_repo: Path
) -> None:
    """Options reach the diagnosis."""
    result = _ask(world, cloned_repo, "--base", "dev", "--target", "main", "--remote", "origin")
    assert (result.exit_code, result.stderr) == (1, "")
    (at,) = [i for i, line in enumerate(result.stdout.splitlines()) if "problem  " in line]
    problem, fix = result.stdout.splitlines()[at : at + 2]
    assert re.match("problem  base-branch +'dev' exists neither", problem)
    assert fix == "         fix: Create and push it, or name another base branch."
    assert result.stdout.splitlines()[-1].startswith("problems: 1, ")


def test_the_document_holds_every_finding(world: World, cloned_repo: Path) -> None:
    """Names, levels, sentences and fixes, for a program; the status is the same."""
    for more, status in (((), 0), (("--target", "gone"), 1)):
        result = _ask(world, cloned_repo, "--json", *more)
        assert result.exit_code == status
        document = json.loads(result.stdout)
        assert set(document) == {"findings"}
        for entry in document["findings"]:
            assert set(entry) == {"name", "level", "sentence", "fix"}
            assert entry["level"] in {"ok", "note", "problem"}
        levels = {entry["name"]: entry["level"] for entry in document["findings"]}
        assert levels["merge-target"] == ("problem" if status else "ok")


def test_it_ends_on_a_machine_without_git_and_network(
    cloned_repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers anywhere, no token is there, and every finding is."""
    monkeypatch.setenv("PATH", "")
    set_url(cloned_repo, f"http://127.0.0.1:{closed_port()}/octo/widgets.git")
    result = run("doctor", "--repo", cloned_repo, "--json")
    assert result.exit_code == 1
    found = {entry["name"]: entry["level"] for entry in json.loads(result.stdout)["findings"]}
    bad = {name for name, level in found.items() if level == "problem"}
    assert bad == {"remote-read", "credential", "api"}


def test_on_a_terminal_sentences_are_folded_beside_their_names(
    world: World, cloned_repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is longer than the terminal, and nothing of a sentence is lost."""
    with terminal(monkeypatch, columns=70) as sent:
        from agentrelay.workstream.cli import program

        known = ["--api-url", world.github.api_url, "--full-name", world.full_name]
        with pytest.raises(SystemExit) as ended:
            program(["doctor", "--repo", str(cloned_repo), "--base", "dev", *known])
    assert ended.value.code == 1
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent[0])
    lines = [line.rstrip("\r\n") for line in plain.splitlines()]
    assert max(len(line) for line in lines) <= 70
    assert "fix: Create and push it, or name another" in plain
    assert "\x1b[1;31mproblem" in sent[0]


def test_the_findings_are_those_of_the_documentation(tmp_path: Path) -> None:
    """The table lists each name, in the order in which they come."""
    table = _PAGE.read_text(encoding="utf-8").partition("| finding |")[2].partition("\n\n")[0]
    listed = re.findall(r"^\| `([a-z0-9-]+)`", table, re.MULTILINE)
    assert listed == [finding.name for finding in diagnose(tmp_path)]
