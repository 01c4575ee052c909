"""What holds for every test: nothing of the machine reaches it, and it starts no program."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, settings

import agentrelay.workstream

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

pytest_plugins = ["pytester"]

# Disks and loaded machines are slow at times, and that is no failure. Where a change waits
# for the outcome the same examples are tried each time; new ones are for everybody's desk.
settings.register_profile(
    "desk", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("desk"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

# Every event the interpreter raises before it starts or becomes a program.
# Source: the audit events table of the Python documentation.
_STARTS: Final = frozenset(
    {
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.startfile",
        "os.startfile/2",
        "os.system",
        "pty.spawn",
        "subprocess.Popen",
    }
)

# Tests with these may start programs: to be judged by the stock git, and to kill a child.
_EXCUSES: Final = ("interop", "child")


class ProgramStartedError(AssertionError):
    """A test was about to start a program."""


class NoPrograms:
    """A pytest plugin under which starting a program fails the test that tried.

    The attempt is stopped by an exception, and remembered: code that swallows the
    exception, or a thread that dies of it, fails the test all the same.
    """

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._watches: list[list[str] | None] = []

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Look at one audit event of the interpreter, in whatever thread it happens."""
        if event not in _STARTS or not self._watches:
            return
        started = self._watches[-1]
        if started is not None:
            started.append(f"{event}{arguments!r}"[:300])
            raise ProgramStartedError(started[-1])

    @contextmanager
    def watch(self, item: pytest.Item) -> Iterator[None]:
        """Fail in the end if a program was started meanwhile, unless ``item`` may."""
        excused = any(item.get_closest_marker(name) for name in _EXCUSES)
        started: list[str] | None = None if excused else []
        self._watches.append(started)
        try:
            yield
        finally:
            self._watches.pop()
        if started:
            raise ProgramStartedError(f"this test started a program: {'; '.join(started)}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None]:
        """Watch the fixtures."""
        with self.watch(item):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        """Watch the test."""
        with self.watch(item):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None]:
        """Watch the end of the fixtures."""
        with self.watch(item):
            return (yield)

    @pytest.fixture(autouse=True)
    def everything_is_hermetic(self, hermetic_git: Path) -> Path:
        """Keep the machine's configuration and credentials from every test."""
        return hermetic_git


def pytest_configure(config: pytest.Config) -> None:
    """Install the watch, for doctests outside this folder too."""
    config.addinivalue_line(
        "markers", "child: starts a copy of the interpreter, to kill it or to look at a fresh one"
    )
    guard = NoPrograms()
    config.pluginmanager.register(guard, "agentrelay-no-programs")
    # An audit hook cannot be removed; outside a watched test this one does nothing.
    sys.addaudithook(guard.audit)


@pytest.fixture
def no_programs(pytestconfig: pytest.Config) -> NoPrograms:
    """The watch over this session, for tests of the watch itself."""
    guard = pytestconfig.pluginmanager.get_plugin("agentrelay-no-programs")
    assert isinstance(guard, NoPrograms)
    return guard


@pytest.fixture(scope="session")
def everything_imported() -> None:
    """Import all there is, before a pytest within this process is started.

    Afterwards that pytest forgets what was imported meanwhile, but what it forgets lives
    on wherever it is referred to, and extension modules cannot be imported twice.
    """
    for module in pkgutil.walk_packages(agentrelay.workstream.__path__, "agentrelay.workstream."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    importlib.import_module("github")


@pytest.fixture
def fresh_package() -> Iterator[None]:
    """Let the package be imported anew within a test, and put back what was there.

    The packages themselves have to go as well: importing a module anew would change the
    attribute of the old package, and some tests after this one would meet two of a class.
    """

    def ours() -> list[str]:
        return [name for name in sys.modules if name.split(".")[0] == "agentrelay"]

    before = {name: sys.modules.pop(name) for name in ours()}
    yield
    for name in ours():
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture
def pytester(
    everything_imported: None,  # noqa: ARG001  # it must come first
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> pytest.Pytester:
    """Make an empty project, to run pytest in within this process, in the order of its file."""
    # Hypothesis would be imported anew for the summary of each run: half a second.
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest -p no:randomly")
    return pytester
