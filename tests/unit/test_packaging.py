"""What is installed: metadata, entry points, declared dependencies, import contracts."""

from __future__ import annotations

import ast
import configparser
import re
import sys
import tomllib
from importlib import metadata, resources, util
from pathlib import Path
from typing import Any, Final

import pytest
from importlinter.application.use_cases import lint_imports
from importlinter.configuration import configure

import agentrelay.workstream

_ROOT: Final = Path(__file__).parents[2]
_SOURCE: Final = _ROOT / "src"
_DISTRIBUTION: Final = "agentrelay-workstream"
# Imported by name, but never without the one that brings it: (import, whose requirement).
_BROUGHT_ALONG: Final = {
    "requests": "PyGithub",
    "certifi": "requests",
    "jwt": "PyGithub",
    "cryptography": "PyJWT",
}


def _project() -> dict[str, Any]:
    return tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _tox() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(_ROOT / "tox.ini", encoding="utf-8")
    return parser


def _name(requirement: str) -> str:
    """Return the normalised name of the distribution a requirement asks for."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def _required(distribution: str) -> set[str]:
    return {_name(line) for line in metadata.requires(distribution) or ()}


def test_the_version_is_the_newest_in_the_changelog() -> None:
    """Whoever reads the changelog reads about the version they installed."""
    text = (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    assert released[0] == agentrelay.workstream.__version__
    assert released[0] == _project()["project"]["version"]
    assert sorted(released, key=lambda version: [*map(int, version.split("."))])[::-1] == released


def test_the_metadata_names_python_and_licence() -> None:
    """Installers and licence scanners find what they look for."""
    about = metadata.metadata(_DISTRIBUTION)
    assert about["Requires-Python"] == ">=3.11"
    assert about["License-Expression"] == "MIT"
    assert about.get_all("License-File") == ["LICENSE"]
    assert (_ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    assert "Typing :: Typed" in (about.get_all("Classifier") or ())


def test_the_package_says_that_it_is_typed() -> None:
    """Type checkers of other projects use the annotations."""
    assert (resources.files(agentrelay.workstream) / "py.typed").is_file()


def test_the_namespace_stays_open() -> None:
    """Another distribution may put its own package beside this one."""
    assert not (_SOURCE / "agentrelay" / "__init__.py").exists()
    spec = util.find_spec("agentrelay")
    assert spec is not None
    assert spec.origin is None
    assert [path.name for path in (_SOURCE / "agentrelay").iterdir() if path.is_dir()] == [
        "workstream"
    ]


def test_nothing_is_installed_outside_the_package() -> None:
    """Installing puts no tests and no stray module into site-packages."""
    files = metadata.files(_DISTRIBUTION)
    assert files is not None
    strays = [
        str(file)
        for file in files
        if file.parts[:2] != ("agentrelay", "workstream")
        and not file.parts[0].endswith(".dist-info")
        # The console script, and the pointer of an editable installation.
        and not (file.parts[0] == ".." or file.suffix == ".pth")
    ]
    assert strays == []


@pytest.mark.parametrize("group", ["console_scripts", "pytest11"])
def test_entry_points_load(group: str) -> None:
    """The command and the plugin exist where the metadata says."""
    mine = [
        entry
        for entry in metadata.entry_points(group=group)
        if entry.dist is not None and _name(entry.dist.name) == _DISTRIBUTION
    ]
    assert len(mine) == 1
    assert mine[0].load() is not None


def _imported() -> set[str]:
    """Return the top-level names of everything the sources import, wherever they do."""
    names: set[str] = set()
    for path in _SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"agentrelay"}


def test_every_import_is_a_declared_dependency() -> None:
    """A fresh environment with the extras misses nothing, and nothing is asked for in vain."""
    project = _project()["project"]
    declared = {_name(line) for line in project["dependencies"]}
    for extra in ("cli", "testing"):
        declared |= {_name(line) for line in project["optional-dependencies"][extra]}
    distributions = metadata.packages_distributions()
    found: set[str] = set()
    for name in _imported():
        parent = _BROUGHT_ALONG.get(name)
        if parent is None:
            found.add(_name(distributions[name][0]))
        else:
            brought = _name(distributions[name][0])
            assert brought in _required(parent), f"{parent} does not bring {name} any more"
    assert found == declared


def test_the_oldest_dependencies_are_the_ones_that_are_tried() -> None:
    """A lower bound nobody runs is a guess: the environment "lowest" pins every one."""
    project = _project()["project"]
    bounds = [*project["dependencies"]]
    for extra in ("cli", "testing"):
        bounds += project["optional-dependencies"][extra]
    oldest = {_name(line): line.partition(">=")[2].split(".") for line in bounds}
    pins = {
        _name(line): line.partition("==")[2].split(".")
        for line in _tox()["testenv:lowest"]["deps"].split()
    }
    assert oldest.keys() == pins.keys()
    for name, bound in oldest.items():
        padded = [*bound, "0", "0"]
        assert pins[name] == padded[: len(pins[name])], name


def test_the_pythons_of_the_metadata_are_the_ones_that_are_tried() -> None:
    """A classifier is a promise that tox keeps."""
    promised = re.findall(
        r"Programming Language :: Python :: 3\.(\d+)",
        "\n".join(_project()["project"]["classifiers"]),
    )
    listed = re.findall(r"\bpy3(\d+)\b", _tox()["tox"]["env_list"])
    assert promised == listed
    assert f'supported="{" ".join(f"3.{minor}" for minor in promised)}"' in (
        _ROOT / ".ci" / "run"
    ).read_text(encoding="utf-8")


def test_the_import_contracts_hold(capsys: pytest.CaptureFixture[str]) -> None:
    """Layers are imported one way, and each backend behind its own door only."""
    configure()
    held = lint_imports(config_filename=str(_ROOT / "pyproject.toml"), cache_dir=None, no_logo=True)
    assert held, capsys.readouterr().out
