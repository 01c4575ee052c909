"""Nothing here starts a program, and a test that did would fail."""

from __future__ import annotations

import ast
import os
import pty
import subprocess  # noqa: TID251  # to prove that using it fails a test
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import pytest

import agentrelay.workstream
from agentrelay.workstream import WorkstreamRuntime, WorkstreamSpec, WorkstreamStatus
from agentrelay.workstream.testing import commit_files, refs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from agentrelay.workstream.testing import World

_SOURCES: Final = sorted(Path(agentrelay.workstream.__file__).parent.rglob("*.py"))

_MODULES: Final = frozenset({"subprocess", "multiprocessing", "pty", "popen2", "commands"})
# Prefixes of what "os" and "asyncio" offer, and executors that live in processes.
_CALLS: Final = {
    "os": ("exec", "fork", "popen", "posix_spawn", "spawn", "startfile", "system"),
    "asyncio": ("create_subprocess",),
}
_NAMES: Final = frozenset({"ProcessPoolExecutor", "create_subprocess_exec"})

_NOWHERE: Final = "/nonexistent/program"


class _Guard(Protocol):
    """What these tests use of the watch in conftest.py, which cannot be imported."""

    def watch(self, item: pytest.Item) -> AbstractContextManager[None]: ...


def _suspicious(source: str) -> Iterator[str]:
    """Name everything in a module that could start a program."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [f"{node.value.id}.{node.attr}"]
        elif isinstance(node, ast.Name):
            names = [node.id]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # For import_module() and __import__(); prose has more than one word.
            names = [node.value]
        else:
            continue
        for name in names:
            module, _, member = name.partition(".")
            starts = _CALLS.get(module)
            if (
                module in _MODULES
                or _NAMES & set(name.split("."))
                or (starts is not None and member.startswith(starts))
            ):
                yield name


def test_the_package_has_nothing_that_starts_a_program() -> None:
    """No module under src/ imports or calls anything that could."""
    assert len(_SOURCES) > 30
    found = {
        str(path): names
        for path in _SOURCES
        if (names := list(_suspicious(path.read_text(encoding="utf-8"))))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess",
        "import multiprocessing.pool",
        "from subprocess import run",
        "from os import execv",
        "from concurrent.futures import ProcessPoolExecutor",
        "import os\nos.system('ls')",
        "import os\nos.posix_spawnp('ls', [], {})",
        "import importlib\nimportlib.import_module('subprocess')",
        "async def f(): await asyncio.create_subprocess_shell('ls')",
    ],
)
def test_the_scan_sees(source: str) -> None:
    """Each way of starting a program is found by the scan."""
    assert list(_suspicious(source)) != []


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run([_NOWHERE], check=False),  # noqa: S603  # it does not exist
        lambda: subprocess.Popen([_NOWHERE]),  # noqa: S603  # it does not exist
        lambda: os.system(_NOWHERE),  # noqa: S605, TID251  # proves that it fails
        lambda: os.popen(_NOWHERE),  # noqa: S605
        lambda: os.execv(_NOWHERE, ["program"]),  # noqa: S606
        lambda: os.posix_spawn(_NOWHERE, ["program"], {}),
        lambda: os.spawnv(os.P_WAIT, _NOWHERE, ["program"]),  # noqa: S606
        lambda: os.fork() or os._exit(0),
        lambda: os.forkpty()[0] or os._exit(0),
        lambda: pty.spawn([_NOWHERE]),
    ],
    ids=[
        "run",
        "Popen",
        "system",
        "popen",
        "execv",
        "posix_spawn",
        "spawnv",
        "fork",
        "forkpty",
        "pty",
    ],
)
def test_starting_a_program_is_stopped_and_remembered(
    no_programs: _Guard, request: pytest.FixtureRequest, start: Callable[[], object]
) -> None:
    """The attempt raises on the spot, and swallowing that does not help."""
    with pytest.raises(AssertionError, match="this test started a program"):  # noqa: PT012, SIM117
        with no_programs.watch(request.node):
            with pytest.raises(AssertionError):
                start()


def test_a_test_that_starts_a_program_fails(pytester: pytest.Pytester, no_programs: object) -> None:
    """In the test, in a fixture, swallowed or in a thread: it fails; with a marker it may."""
    pytester.makepyfile(
        f"""
        import contextlib, os, threading
        import pytest

        def start():
            with contextlib.suppress(BaseException):
                os.posix_spawn({_NOWHERE!r}, ["program"], {{}})

        @pytest.fixture
        def program():
            start()

        def test_openly():
            os.posix_spawn({_NOWHERE!r}, ["program"], {{}})

        def test_swallowed():
            start()

        def test_in_a_thread():
            thread = threading.Thread(target=start)
            thread.start()
            thread.join()

        def test_in_a_fixture(program):
            pass

        def test_innocent():
            pass

        @pytest.mark.interop
        def test_judged_by_a_program():
            with pytest.raises(FileNotFoundError):
                os.posix_spawn({_NOWHERE!r}, ["program"], {{}})
        """
    )
    pytester.makeini("[pytest]\nmarkers = interop")
    result = pytester.runpytest_inprocess(plugins=[no_programs])
    result.assert_outcomes(failed=3, errors=1, passed=2)


def test_a_whole_lane_runs_with_an_empty_path(
    agentrelay_world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where no program can be found, none is missed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    repo = agentrelay_world.clone()
    runner = agentrelay_world.runner(repo)
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    runner.prepare(lane)
    assert lane.state.worktree_path is not None
    commit_files(lane.state.worktree_path, {"work.txt": "work"}, message="Work")
    assert runner.integrate(lane).status is WorkstreamStatus.PR_CREATED
    agentrelay_world.github.merge_pull(1)
    runner.teardown(lane)
    assert lane.artifacts.concerns == []
    assert list(refs(agentrelay_world.remote_path)) == ["refs/heads/main"]
