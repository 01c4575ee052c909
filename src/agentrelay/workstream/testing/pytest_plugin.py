"""The pytest plugin: a world of its own for every test that asks for one.

Installed with the package and found by itself. The fixtures are nouns:

* ``agentrelay_world``: a :class:`~agentrelay.workstream.testing.World`, with
* ``git_server``, ``github_server``: its two servers,
* ``bare_repo``: the path of the repository behind both,
* ``cloned_repo``: the path of a working copy whose ``origin`` is the git server,
* ``lane_runner``: the standard runner in that working copy;
* ``hermetic_git``: no configuration, credential or proxy of the machine; the
  fixtures above bring it along.

A suite may call its own fixtures the same: pytest prefers them, and those here never
lean on a name that could be taken. Nothing is imported before a test asks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agentrelay.workstream import StandardWorkstreamRunner
    from agentrelay.workstream.testing.git_server import GitServer
    from agentrelay.workstream.testing.github_server import GitHubServer
    from agentrelay.workstream.testing.world import World

__all__ = [
    "agentrelay_world",
    "bare_repo",
    "cloned_repo",
    "git_server",
    "github_server",
    "hermetic_git",
    "lane_runner",
]

# pytest explains failing assertions in test files and in plugins that are packages at
# the top; ours lies in a namespace, so the contracts have to be named.
pytest.register_assert_rewrite(
    "agentrelay.workstream.testing.contracts", "agentrelay.workstream.testing.merge_contracts"
)

# What a machine can say to git, libgit2, GitHub's clients or an HTTP library.
_PREFIXES: Final = ("GIT_", "GH_", "GITHUB_", "SSH_", "SSL_CERT_")
_SUFFIXES: Final = ("_PROXY", "_CA_BUNDLE")
_NAMES: Final = ("EMAIL", "NETRC")


def _is_of_the_machine(variable: str) -> bool:
    """Tell whether an environment variable could change what a lane does."""
    name = variable.upper()
    return name.startswith(_PREFIXES) or name.endswith(_SUFFIXES) or name in _NAMES


@pytest.fixture(scope="session")
def _agentrelay_search_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep libgit2 from the machine's configuration for the rest of the session.

    These settings belong to the whole process and are read when a repository is opened,
    so switching them for each test would gain nothing.
    """
    from agentrelay.workstream._git.libgit2 import load

    # On a machine without certificates a plain import would fail.
    load()
    import pygit2
    from pygit2.enums import ConfigLevel

    settings = pygit2.settings
    levels = (ConfigLevel.PROGRAMDATA, ConfigLevel.SYSTEM, ConfigLevel.XDG, ConfigLevel.GLOBAL)
    kept = {level: settings.search_path[level] for level in levels}
    kept_home = settings.homedir
    for level in levels:
        settings.search_path[level] = ""
    # Where libgit2 looks for known_hosts.
    settings.homedir = str(tmp_path_factory.mktemp("agentrelay-nobody"))
    yield
    for level, path in kept.items():
        settings.search_path[level] = path
    settings.homedir = kept_home or ""


@pytest.fixture
def _agentrelay_hermetic(
    _agentrelay_search_path: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Give one test an empty home; other fixtures depend on this name, which is nobody's."""
    home = tmp_path_factory.mktemp("agentrelay-home")
    # Not the "monkeypatch" fixture: a test that undoes its own patches keeps these.
    with pytest.MonkeyPatch.context() as patch:
        for variable in filter(_is_of_the_machine, list(os.environ)):
            patch.delenv(variable)
        patch.setenv("HOME", str(home))
        patch.setenv("USERPROFILE", str(home))
        patch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        yield home


@pytest.fixture
def _agentrelay_world(
    _agentrelay_hermetic: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Open the test's world; leaving it raises what its servers remembered."""
    from agentrelay.workstream.testing import World

    with World(tmp_path_factory.mktemp("agentrelay-world")) as world:
        yield world


@pytest.fixture
def _agentrelay_clone(_agentrelay_world: World) -> Path:
    """Make the working copy that several fixtures share."""
    return _agentrelay_world.clone("cloned_repo")


@pytest.fixture
def hermetic_git(_agentrelay_hermetic: Path) -> Path:
    """The empty home directory of a test that no configuration of the machine reaches.

    Git configuration, GitHub's and proxies' variables, certificates, ssh agents, netrc:
    none of them is there. libgit2's own search path is empty until the session ends.
    """
    return _agentrelay_hermetic


@pytest.fixture
def agentrelay_world(_agentrelay_world: World) -> World:
    """A throwaway remote with a GitHub in front of it; it is gone after the test.

    A request that a server does not know, or a failure inside one, is an error of the
    test that caused it. The files stay as long as those of pytest's ``tmp_path``.
    """
    return _agentrelay_world


@pytest.fixture
def bare_repo(_agentrelay_world: World) -> Path:
    """The path of the bare repository behind the world's servers."""
    return _agentrelay_world.remote_path


@pytest.fixture
def cloned_repo(_agentrelay_clone: Path) -> Path:
    """The path of a working copy whose ``origin`` is the world's git server."""
    return _agentrelay_clone


@pytest.fixture
def git_server(_agentrelay_world: World) -> GitServer:
    """The world's git server, with its request log and planned faults."""
    return _agentrelay_world.git


@pytest.fixture
def github_server(_agentrelay_world: World) -> GitHubServer:
    """The world's GitHub double, with its pull requests, request log and planned faults."""
    return _agentrelay_world.github


@pytest.fixture
def lane_runner(_agentrelay_world: World, _agentrelay_clone: Path) -> StandardWorkstreamRunner:
    """The standard runner on ``cloned_repo`` and the world's GitHub, for graph ``nightly``."""
    return _agentrelay_world.runner(_agentrelay_clone)
