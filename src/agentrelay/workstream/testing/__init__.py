"""A world to test lanes in: repositories, a git server and a GitHub, all in this process.

Everything here works without pytest too; :class:`World` puts it together. Importing
this package loads nothing: each name is imported when it is first asked for, so that
an installed but unused pytest plugin costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from agentrelay.workstream.testing._github_apps import InstalledApp
    from agentrelay.workstream.testing._github_settings import RepositorySettings, TokenTraits
    from agentrelay.workstream.testing._loopback import LoggedRequest
    from agentrelay.workstream.testing.contracts import (
        IntegratorContract,
        PreparerContract,
        RunnerContract,
        TeardownContract,
    )
    from agentrelay.workstream.testing.faults import Fault, FaultPlan
    from agentrelay.workstream.testing.git_server import GitServer, RefUpdate
    from agentrelay.workstream.testing.github_server import GitHubServer, PullView
    from agentrelay.workstream.testing.merge_contracts import (
        AutoMergerContract,
        MergeCheckerContract,
    )
    from agentrelay.workstream.testing.repositories import (
        AUTHOR,
        SMALL,
        BranchRecipe,
        CommitRecipe,
        Executable,
        RepositoryRecipe,
        Symlink,
        clone_repository,
        commit_files,
        create_bare_repository,
        read_tree,
        refs,
    )
    from agentrelay.workstream.testing.world import World

__all__ = [
    "AUTHOR",
    "SMALL",
    "AutoMergerContract",
    "BranchRecipe",
    "CommitRecipe",
    "Executable",
    "Fault",
    "FaultPlan",
    "GitHubServer",
    "GitServer",
    "InstalledApp",
    "IntegratorContract",
    "LoggedRequest",
    "MergeCheckerContract",
    "PreparerContract",
    "PullView",
    "RefUpdate",
    "RepositoryRecipe",
    "RepositorySettings",
    "RunnerContract",
    "Symlink",
    "TeardownContract",
    "TokenTraits",
    "World",
    "clone_repository",
    "commit_files",
    "create_bare_repository",
    "read_tree",
    "refs",
]

# What is not made in the module of repositories and recipes, by where it is made.
_ELSEWHERE: Final = {
    "AutoMergerContract": "merge_contracts",
    "Fault": "faults",
    "FaultPlan": "faults",
    "GitHubServer": "github_server",
    "GitServer": "git_server",
    "InstalledApp": "_github_apps",
    "IntegratorContract": "contracts",
    "LoggedRequest": "_loopback",
    "MergeCheckerContract": "merge_contracts",
    "PreparerContract": "contracts",
    "PullView": "github_server",
    "RefUpdate": "git_server",
    "RepositorySettings": "_github_settings",
    "RunnerContract": "contracts",
    "TeardownContract": "contracts",
    "TokenTraits": "_github_settings",
    "World": "world",
}

_WITHOUT_GIT: Final = frozenset({"_loopback", "faults"})


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _ELSEWHERE.get(name, "repositories")
    if home not in _WITHOUT_GIT:
        # It knows how to load libgit2 on a machine without certificates.
        import_module("agentrelay.workstream._git")
    module = import_module(f"{__name__}.{home}")
    value = getattr(module, name)
    # The next look-up finds it without coming here.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
