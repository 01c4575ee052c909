"""What the documentation says is so: names, links, tables, commands and examples."""

from __future__ import annotations

import configparser
import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import agentrelay.workstream
from agentrelay.workstream import (
    GhWorkstreamIntegrator,
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    RetryPolicy,
    WorkstreamArtifacts,
    WorkstreamState,
    WorkstreamStatus,
    aio,
    credentials,
    errors,
    events,
    testing,
)
from agentrelay.workstream.cli import program
from agentrelay.workstream.cli.report import LaneReport
from agentrelay.workstream.core import _signals
from agentrelay.workstream.credentials import ca_bundle, find_credential
from agentrelay.workstream.credentials._owners import token_variables
from agentrelay.workstream.testing import pytest_plugin

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT: Final = Path(__file__).parents[2]
_PAGES: Final = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/ARCHITECTURE.md",
    "docs/asyncio.md",
    "docs/cli.md",
    "docs/credentials.md",
    "docs/events.md",
    "docs/fault-matrix.md",
    "docs/github-faults.md",
    "docs/performance.md",
    "docs/merging.md",
    "docs/pull-requests.md",
    "docs/reliability.md",
    "docs/testing.md",
    "docs/workspace.md",
)
# Where a reader may look for a name that starts with a capital letter.
_PUBLIC: Final = (agentrelay.workstream, aio, errors, credentials, events, testing)
_MODULE_FOLDERS: Final = (".", "core", "_git", "_github", "credentials", "implementations")

_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN: Final = re.compile(r"`([^`\n]+)`")


def _page(name: str) -> str:
    return (_ROOT / name).read_text(encoding="utf-8")


def _blocks(name: str, language: str) -> list[str]:
    return [text for kind, text in _FENCE.findall(_page(name)) if kind == language]


def _spans(name: str) -> set[str]:
    """Return what a page sets in code within its prose and tables."""
    return set(_SPAN.findall(_FENCE.sub("", _page(name))))


def _table(name: str, heading: str) -> list[list[str]]:
    """Return the cells of the one table whose first column has this heading."""
    tables = re.findall(
        rf"^\| {re.escape(heading)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", _page(name), re.MULTILINE
    )
    assert len(tables) == 1, f"{name} has {len(tables)} tables that start with '{heading}'"
    return [
        [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        for line in tables[0].splitlines()
    ]


def _names(cell: str) -> list[str]:
    return _SPAN.findall(cell)


def _headings(text: str) -> set[str]:
    """Return the anchors GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", _PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """A link to another file of the repository, or to a heading in it, resolves."""
    links = re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", _page(page)))
    for link in links:
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = (_ROOT / page).parent / target if target else _ROOT / page
        assert path.is_file(), link
        assert not anchor or anchor in _headings(path.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", _PAGES)
def test_public_names_exist(page: str) -> None:
    """A class, method or module that a page names can be imported."""
    for span in _spans(page):
        if span.startswith("agentrelay.workstream"):
            assert _resolves(span), span
        found = re.fullmatch(r"([A-Z][a-z]+[A-Za-z]*)(?:\.([a-z_]+))?(?:\(.*\))?", span)
        if found is None:
            continue
        owners = [module for module in _PUBLIC if found[1] in module.__all__]
        assert owners, f"{page}: {span}"
        assert found[2] is None or hasattr(getattr(owners[0], found[1]), found[2]), span


def _resolves(dotted: str) -> bool:
    """Tell whether a dotted name is a module, or something in one."""
    try:
        importlib.import_module(dotted)
    except ModuleNotFoundError:
        module, _, name = dotted.rpartition(".")
        return hasattr(importlib.import_module(module), name)
    return True


@pytest.mark.parametrize("page", _PAGES)
def test_paths_of_the_repository_exist(page: str) -> None:
    """A file or folder that a page sends its reader to is there."""
    for span in _spans(page):
        if re.match(r"(src|tests|docs|fixtures|benchmarks|\.ci)(/|$)", span):
            assert (_ROOT / span).exists(), span


def test_everything_at_the_front_door_is_explained() -> None:
    """No public name is left to be found by reading the code."""
    read = "".join(_page(page) for page in _PAGES)
    assert [name for name in agentrelay.workstream.__all__ if name not in read] == []


def test_the_two_commands_are_what_ci_runs() -> None:
    """The README's commands work: they are run word for word, the tests last."""
    (text,) = [block for block in _blocks("README.md", "bash") if "pytest" in block]
    commands = text.splitlines()
    assert len(commands) == 2
    assert "demo" in commands[0]
    lines = [line.strip() for line in _page(".ci/run").splitlines()]
    assert lines.index(commands[1]) == lines.index(commands[0]) + 1
    # What they say is shown last.
    assert lines[-2:] == ['cat "$work/said-newcomer"', 'exit "$status"']


def test_the_diagram_has_the_states_of_the_library() -> None:
    """The picture shows every status and no other."""
    (diagram,) = _blocks("README.md", "mermaid")
    arrows = re.findall(r"^ +(\S+) --> (\w+|\[\*\])", diagram, re.MULTILINE)
    drawn = {state for arrow in arrows for state in arrow} - {"[*]"}
    assert drawn == {status.value for status in WorkstreamStatus}


def test_the_signal_files_are_those_of_the_library() -> None:
    """The table has a row for every file in a signal directory."""
    rows = [_names(row[0])[0] for row in _table("README.md", "file")]
    statuses = [status.value for status in WorkstreamStatus]
    assert rows == [*statuses, _signals.RECORD_NAME, _signals.HISTORY_NAME]


def test_every_error_has_its_advice() -> None:
    """The table names each error a caller meets, with attributes it has."""
    rows = _table("README.md", "error")
    bases = {"RemoteError", "WorkstreamError"}
    assert {_names(row[0])[0] for row in rows} == set(errors.__all__) - bases
    for row in rows:
        kind = getattr(errors, _names(row[0])[0])
        attributes = {name for base in kind.__mro__ for name in inspect.get_annotations(base)}
        assert set(_names(row[1])) <= attributes, row


def test_the_data_flow_has_every_field() -> None:
    """Each field of state and artifacts has its writer and its readers in the table."""
    rows = {name for row in _table("docs/ARCHITECTURE.md", "field") for name in _names(row[0])}
    fields = {f"state.{field.name}" for field in dataclasses.fields(WorkstreamState)}
    fields |= {f"artifacts.{field.name}" for field in dataclasses.fields(WorkstreamArtifacts)}
    assert {name for name in rows if "." in name} - {_signals.RECORD_NAME} == fields


def test_every_module_has_its_purpose() -> None:
    """The map of modules is complete, so a new one is placed on purpose."""
    package = _ROOT / "src" / "agentrelay" / "workstream"
    there = {
        path.relative_to(package).as_posix()
        for folder in _MODULE_FOLDERS
        for path in (package / folder).glob("*.py")
        if not path.name.startswith("__")
    }
    assert {_names(row[0])[0] for row in _table("docs/ARCHITECTURE.md", "module")} == there


def test_the_events_have_the_fields_and_outcomes_described() -> None:
    """The table has each field of an event, and its text each outcome."""
    described = [name for row in _table("docs/events.md", "field") for name in _names(row[0])]
    assert sorted(described) == sorted(field.name for field in dataclasses.fields(events.LaneEvent))
    assert {outcome.value for outcome in events.EventOutcome} <= _spans("docs/events.md")


def test_the_fixtures_are_those_of_the_plugin() -> None:
    """The table lists what the plugin offers."""
    listed = [name for row in _table("docs/testing.md", "fixture") for name in _names(row[0])]
    assert sorted(listed) == sorted(pytest_plugin.__all__)


def test_the_commands_are_those_of_the_program() -> None:
    """Commands, their options and the keys of the JSON document are all described."""
    assert {_names(row[0])[0] for row in _table("docs/cli.md", "command")} == set(program.commands)
    described = {name for row in _table("docs/cli.md", "option") for name in _names(row[0])}
    offered = {
        option
        for command in program.commands.values()
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--")
    }
    assert described == offered
    assert set(LaneReport("g", "i", "pending").document()) <= _spans("docs/cli.md")


def _tables_of_tokens() -> Iterator[tuple[str, list[str]]]:
    """Yield a host and the variables a page promises to look at for it, in order."""
    for row in [*_table("README.md", "for"), *_table("docs/credentials.md", "#")]:
        text = " ".join(row)
        variables = re.findall(r"`([A-Z_]+TOKEN)`", text)
        if variables:
            yield ("github.com" if "github.com" in text else "ghe.example"), variables


def test_token_variables_are_for_the_hosts_in_the_table(tmp_path: Path) -> None:
    """Each variable serves the hosts of its row, in the order of the row, and no others."""
    promised = [*_tables_of_tokens()]
    assert [host for host, _ in promised] == ["github.com", "ghe.example"] * 2
    for host, variables in promised:
        assert tuple(variables) == token_variables(host, {})[0]
        for position, variable in enumerate(variables):
            environ = {name: f"of-{name}" for name in variables[position:]}
            found = find_credential(host, environ=environ, home=tmp_path)
            assert found is not None
            assert found.secret.reveal() == f"of-{variable}"
        others = {name: "other" for _, row in promised for name in row}
        for variable in variables:
            del others[variable]
        assert find_credential(host, environ=others, home=tmp_path) is None


def test_certificate_variables_are_looked_at_in_the_order_written(tmp_path: Path) -> None:
    """Each variable that may name a bundle does, and the first that is set counts."""
    (cell,) = [row[0] for row in _table("docs/credentials.md", "variable") if "CA_BUNDLE" in row[0]]
    variables = _names(cell)
    for variable in variables:
        (tmp_path / variable).touch()
    for position, variable in enumerate(variables):
        environ = {name: str(tmp_path / name) for name in variables[position:]}
        assert ca_bundle(environ) == tmp_path / variable


def test_the_time_outs_are_the_defaults() -> None:
    """A number of seconds in the table is the default of the setting beside it."""
    kinds = (GitWorkstreamPreparer, GhWorkstreamIntegrator, GitWorkstreamTeardown)
    defaults = {field.name: field.default for kind in kinds for field in dataclasses.fields(kind)}
    rows = [row[1] for row in _table("docs/credentials.md", "what")]
    found = dict(re.findall(r"`(\w+_s)=`, (\d+) s", "\n".join(rows)))
    assert found == {name: f"{value:g}" for name, value in defaults.items() if name.endswith("_s")}


def test_the_policys_settings_are_described_with_their_defaults() -> None:
    """The table has each setting that is a number, and nothing that is out of date."""
    numbers = {
        field.name: f"{field.default:g}"
        for field in dataclasses.fields(RetryPolicy)
        if isinstance(field.default, int | float)
    }
    rows = _table("docs/credentials.md", "setting")
    assert {_names(row[0])[0]: row[2] for row in rows} == numbers
    clocks = {field.name for field in dataclasses.fields(RetryPolicy)} - set(numbers)
    assert clocks <= _spans("docs/credentials.md")


def test_the_environments_are_those_of_tox() -> None:
    """CONTRIBUTING and tox.ini list the same environments, and each says what it is for."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(_ROOT / "tox.ini", encoding="utf-8")
    listed = set(re.split(r"[,\s]+", tox["tox"]["env_list"].strip()))
    described = {name for row in _table("CONTRIBUTING.md", "name") for name in _names(row[0])}
    assert described == listed
    for name in listed - {"py311", "py312", "py313"}:
        assert tox[f"testenv:{name}"]["description"], name


def _examples() -> Iterator[Any]:
    for page in _PAGES:
        for number, block in enumerate(_blocks(page, "python")):
            # Doctest runs those with a prompt.
            if not block.startswith(">>>"):
                yield pytest.param(page, block, id=f"{Path(page).stem}-{number}")


@pytest.mark.parametrize(("page", "block"), [*_examples()])
def test_examples_run(
    page: str, block: str, hermetic_git: Path, request: pytest.FixtureRequest
) -> None:
    """Every example can be copied: its statements run, and its tests pass with the plugin."""
    assert hermetic_git.is_dir()
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(block, page, "exec"), names)  # noqa: S102 - our own documentation
    tests = {name: thing for name, thing in names.items() if name.startswith("test_")}
    for test in tests.values():
        test(*(request.getfixturevalue(wanted) for wanted in inspect.signature(test).parameters))
