"""The pytest plugin as a stranger's suite meets it: installed, and nothing else done."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Final

import pygit2
import pytest
from pygit2.enums import ConfigLevel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PLUGIN: Final = "agentrelay.workstream.testing.pytest_plugin"
_TESTING: Final = "agentrelay.workstream.testing"
_FIXTURES: Final = (
    "agentrelay_world",
    "bare_repo",
    "cloned_repo",
    "git_server",
    "github_server",
    "hermetic_git",
    "lane_runner",
)
_BACKENDS: Final = ("pygit2", "github", "requests", "filelock", "http.server", "http.client")


@pytest.fixture
def fresh_imports() -> Iterator[None]:
    """Forget this project's modules, and let no backend be imported meanwhile."""
    kept = dict(sys.modules)
    for name in list(sys.modules):
        if name.partition(".")[0] == "agentrelay":
            del sys.modules[name]
    # What is None cannot be imported.
    sys.modules.update(dict.fromkeys(_BACKENDS))  # type: ignore[arg-type]  # documented in importlib
    yield
    sys.modules.clear()
    sys.modules.update(kept)


def test_an_empty_project_has_a_world(pytester: pytest.Pytester) -> None:
    """One argument is enough for a whole lane; nothing is imported or configured."""
    pytester.makepyfile(
        """
        from agentrelay.workstream import WorkstreamRuntime, WorkstreamSpec, WorkstreamStatus
        from agentrelay.workstream.testing import commit_files

        def test_lane(agentrelay_world):
            runner = agentrelay_world.runner(agentrelay_world.clone())
            lane = WorkstreamRuntime(WorkstreamSpec("parser"))
            runner.prepare(lane)
            commit_files(lane.state.worktree_path, {"a.txt": "a"}, message="Work")
            assert runner.integrate(lane).status is WorkstreamStatus.PR_CREATED
            assert [pull.title for pull in agentrelay_world.github.pulls()] == [
                "Integrate workstream parser"
            ]
        """
    )
    pytester.runpytest_inprocess("-W", "error").assert_outcomes(passed=1)


def test_all_fixtures_are_parts_of_one_world(pytester: pytest.Pytester) -> None:
    """Within a test they belong together; the next test has a world of its own."""
    pytester.makepyfile(
        """
        import pygit2, pytest
        from agentrelay.workstream import WorkstreamRuntime, WorkstreamSpec

        seen = []

        @pytest.mark.parametrize("turn", [1, 2])
        def test_parts(
            agentrelay_world, bare_repo, cloned_repo, git_server, github_server, lane_runner, turn
        ):
            assert bare_repo == agentrelay_world.remote_path
            assert git_server is agentrelay_world.git
            assert github_server is agentrelay_world.github
            origin = pygit2.Repository(str(cloned_repo)).remotes["origin"].url
            assert origin == agentrelay_world.remote_url
            lane = WorkstreamRuntime(WorkstreamSpec("parser"))
            lane_runner.prepare(lane)
            assert lane.state.worktree_path.is_relative_to(cloned_repo)
            assert bare_repo not in seen
            seen.append(bare_repo)
        """
    )
    pytester.runpytest_inprocess("-W", "error").assert_outcomes(passed=2)


@pytest.mark.parametrize("fixture", ["agentrelay_world", "git_server", "github_server"])
def test_an_unknown_route_is_an_error_of_the_test_that_asked(
    pytester: pytest.Pytester, fixture: str
) -> None:
    """A double that shrugs would let a wrong client pass; the tests around it stay green."""
    pytester.makepyfile(
        f"""
        from urllib.error import HTTPError
        from urllib.request import Request, urlopen

        def test_before(github_server):
            pass

        def test_wrong(request, agentrelay_world, {fixture}_alias):
            url = agentrelay_world.github.api_url + "/repos/octo/widgets/unheard-of"
            token = "token " + agentrelay_world.token
            try:
                urlopen(Request(url, headers={{"Authorization": token}}))
            except HTTPError as answer:
                assert answer.code == 404
                answer.close()

        def test_after(github_server):
            pass
        """
    )
    pytester.makeconftest(
        f"import pytest\n@pytest.fixture\ndef {fixture}_alias({fixture}):\n    return {fixture}\n"
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_wrong*", "*no route for GET*unheard-of*"]
    )


def test_a_suite_may_use_our_names_for_its_own(pytester: pytest.Pytester) -> None:
    """A fixture of the suite wins, and ours do not stumble over it."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def git_server(): return "mine"

        @pytest.fixture
        def bare_repo(): return "mine"

        @pytest.fixture
        def hermetic_git(): return "mine"

        @pytest.fixture
        def cloned_repo(): return "mine"

        def test_mixed(
            git_server, bare_repo, cloned_repo, hermetic_git, agentrelay_world, lane_runner
        ):
            assert {git_server, bare_repo, cloned_repo, hermetic_git} == {"mine"}
            assert agentrelay_world.remote_path.is_dir()
            assert lane_runner is not None
        """
    )
    pytester.runpytest_inprocess("-W", "error").assert_outcomes(passed=1)


def test_nothing_of_the_machine_reaches_a_hermetic_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Configuration, credentials and proxies are away during the test, and back after it."""
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = Somebody\n")
    variables = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "GIT_DIR": "/elsewhere",
        "GH_TOKEN": "a",
        "GITHUB_TOKEN": "b",
        "https_proxy": "http://proxy.invalid",
        "NO_PROXY": "*",
        "SSL_CERT_FILE": "/missing.pem",
        "REQUESTS_CA_BUNDLE": "/missing.pem",
        "SSH_AUTH_SOCK": "/missing.sock",
        "NETRC": "/missing",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    search_path = pygit2.settings.search_path
    search_path[ConfigLevel.GLOBAL] = str(tmp_path)
    pytester.makepyfile(
        """
        import os, pathlib, pygit2, pytest

        def test_bare():
            assert os.environ["GH_TOKEN"] == "a"

        def test_away(hermetic_git, tmp_path):
            kept = {"HOME", "XDG_CONFIG_HOME"}
            assert not [name for name in NAMES - kept if name in os.environ]
            assert pathlib.Path.home() == hermetic_git
            assert list(hermetic_git.iterdir()) == []
            assert pathlib.Path(os.environ["XDG_CONFIG_HOME"]).is_relative_to(hermetic_git)
            assert pathlib.Path(pygit2.settings.homedir) != pathlib.Path(HOME)
            repo = pygit2.init_repository(tmp_path / "repo")
            assert "user.name" not in repo.config

        def test_bare_again():
            assert os.environ["GH_TOKEN"] == "a"
        """.replace("NAMES", repr(set(variables))).replace("HOME)", f"{str(tmp_path)!r})")
    )
    try:
        result = pytester.runpytest_inprocess("-W", "error")
        assert search_path[ConfigLevel.GLOBAL] == str(tmp_path)
    finally:
        search_path[ConfigLevel.GLOBAL] = ""
    result.assert_outcomes(passed=3)
    assert {name: os.environ.get(name) for name in variables} == variables


def test_the_fixtures_are_listed_with_what_they_are(pytester: pytest.Pytester) -> None:
    """``pytest --fixtures`` shows the public ones, each with its sentence."""
    result = pytester.runpytest_inprocess("--fixtures")
    listed = {line.split(" -- ")[0]: line for line in result.outlines if "pytest_plugin.py" in line}
    ours = {name.split(" ")[0] for name in listed if "testing/pytest_plugin" in listed[name]}
    assert ours == set(_FIXTURES)
    result.stdout.no_fnmatch_line("*no docstring available*agentrelay*")


@pytest.mark.usefixtures("fresh_imports")
def test_the_plugin_loads_no_backend_and_no_sibling() -> None:
    """Installed but unused it costs its own module and the standard library."""
    importlib.import_module(_PLUGIN)
    loaded = {name for name in sys.modules if name.startswith(f"{_TESTING}.")}
    assert loaded == {_PLUGIN}
    assert not [
        name
        for name in sys.modules
        if name.startswith(("agentrelay.workstream._git.", "agentrelay.workstream._github."))
    ]


def test_every_public_name_loads_on_first_use() -> None:
    """The package lists what it has, gives each of it, and nothing else."""
    testing = importlib.import_module(_TESTING)
    assert set(testing.__all__) <= set(dir(testing))
    for name in testing.__all__:
        assert getattr(testing, name).__class__ is not None
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        testing.Nonsense  # noqa: B018  # asking is what fails


@pytest.mark.usefixtures("fresh_imports")
def test_faults_can_be_planned_without_a_backend() -> None:
    """Names that need no repository load none."""
    testing = importlib.import_module(_TESTING)
    assert testing.Fault.silence().times == 1
    with pytest.raises(ImportError):
        importlib.import_module("pygit2")
