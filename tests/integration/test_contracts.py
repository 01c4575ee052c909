"""Our implementations keep the contracts that anybody's have to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from agentrelay.workstream.testing.contracts import (
    IntegratorContract,
    PreparerContract,
    RunnerContract,
    TeardownContract,
)
from agentrelay.workstream.testing.merge_contracts import AutoMergerContract, MergeCheckerContract

if TYPE_CHECKING:
    from pathlib import Path

    from agentrelay.workstream import (
        GhIntegrationAutoMerger,
        GhIntegrationMergeChecker,
        GhWorkstreamIntegrator,
        GitWorkstreamPreparer,
        GitWorkstreamTeardown,
        StandardWorkstreamRunner,
    )
    from agentrelay.workstream.testing import World


class TestGitWorkstreamPreparer(PreparerContract):
    def make_preparer(self, world: World, repo: Path) -> GitWorkstreamPreparer:
        """Return ours."""
        return world.preparer(repo)


class TestGhWorkstreamIntegrator(IntegratorContract):
    def make_integrator(self, world: World, repo: Path) -> GhWorkstreamIntegrator:
        """Return ours."""
        return world.integrator(repo)


class TestGitWorkstreamTeardown(TeardownContract):
    def make_teardown(self, world: World, repo: Path) -> GitWorkstreamTeardown:
        """Return ours."""
        return world.teardown(repo)


class TestStandardWorkstreamRunner(RunnerContract):
    def make_runner(self, world: World, repo: Path) -> StandardWorkstreamRunner:
        """Return ours."""
        return world.runner(repo)


class TestGhIntegrationMergeChecker(MergeCheckerContract):
    def make_merge_checker(self, world: World, repo: Path) -> GhIntegrationMergeChecker:
        """Return ours."""
        return world.merge_checker(repo)


class TestGhIntegrationAutoMerger(AutoMergerContract):
    def make_auto_merger(self, world: World, repo: Path) -> GhIntegrationAutoMerger:
        """Return ours."""
        return world.auto_merger(repo)


_IDLE: Final = """
import shutil

import pygit2
from agentrelay.workstream import MergeCheck, MergeVerdict, WorkstreamRunResult
from agentrelay.workstream.testing import contracts, merge_contracts


class Idle:
    def prepare_workstream(self, workstream_runtime): pass
    def create_integration_pr(self, workstream_runtime): pass
    def teardown_workstream(self, workstream_runtime): pass
    def check_merged(self, workstream_runtime): return MergeCheck(MergeVerdict.OPEN)
    def merge_integration_pr(self, workstream_runtime): return MergeCheck(MergeVerdict.MERGED)
    def prepare(self, workstream_runtime): pass
    def integrate(self, workstream_runtime):
        return WorkstreamRunResult.from_runtime(workstream_runtime)
    def teardown(self, workstream_runtime): pass


class Reckless:
    def __init__(self, world, repo):
        self.world, self.repo = world, repo

    def teardown_workstream(self, workstream_runtime):
        state = workstream_runtime.state
        shutil.rmtree(state.worktree_path)
        for path in (self.repo, self.world.remote_path):
            for name in list(pygit2.Repository(str(path)).references):
                if name.endswith(state.branch_name):
                    pygit2.Repository(str(path)).references.delete(name)


class TestIdlePreparer(contracts.PreparerContract):
    def make_preparer(self, world, repo): return Idle()


class TestIdleIntegrator(contracts.IntegratorContract):
    def make_integrator(self, world, repo): return Idle()


class TestIdleTeardown(contracts.TeardownContract):
    def make_teardown(self, world, repo): return Idle()


class TestRecklessTeardown(contracts.TeardownContract):
    def make_teardown(self, world, repo): return Reckless(world, repo)


class TestIdleRunner(contracts.RunnerContract):
    def make_runner(self, world, repo): return Idle()


class TestIdleMergeChecker(merge_contracts.MergeCheckerContract):
    def make_merge_checker(self, world, repo): return Idle()


class TestIdleAutoMerger(merge_contracts.AutoMergerContract):
    def make_auto_merger(self, world, repo): return Idle()
"""


def test_the_contracts_can_be_broken(pytester: pytest.Pytester) -> None:
    """Doing nothing keeps only promises about what must not happen; deleting all, fewer."""
    pytester.makepyfile(_IDLE)
    result = pytester.runpytest_inprocess("-q", "-rA")
    kept = sorted(line.partition("::")[2] for line in result.outlines if line.startswith("PASSED"))
    assert kept == [
        "TestIdleAutoMerger::test_it_satisfies_the_protocol",
        "TestIdleIntegrator::test_it_satisfies_the_protocol",
        "TestIdleIntegrator::test_nothing_is_merged",
        "TestIdleMergeChecker::test_it_satisfies_the_protocol",
        "TestIdleMergeChecker::test_looking_changes_nothing",
        "TestIdlePreparer::test_it_satisfies_the_protocol",
        "TestIdleRunner::test_it_satisfies_the_protocol",
        "TestIdleTeardown::test_again_is_harmless",
        "TestIdleTeardown::test_commits_that_are_nowhere_else_survive",
        "TestIdleTeardown::test_files_that_are_nowhere_else_survive",
        "TestIdleTeardown::test_it_satisfies_the_protocol",
        "TestRecklessTeardown::test_it_satisfies_the_protocol",
    ]
    # The assertions explain themselves, although the contracts are not test files.
    result.stdout.fnmatch_lines(["*assert * == *"])


@pytest.mark.parametrize(
    ("contract", "hook"),
    [
        (PreparerContract, "make_preparer"),
        (IntegratorContract, "make_integrator"),
        (TeardownContract, "make_teardown"),
        (RunnerContract, "make_runner"),
        (MergeCheckerContract, "make_merge_checker"),
        (AutoMergerContract, "make_auto_merger"),
    ],
)
def test_a_contract_without_an_implementation_says_what_is_missing(
    contract: type[object], hook: str
) -> None:
    """Whoever inherits a contract and forgets its hook is told, and not shown green tests."""
    with pytest.raises(NotImplementedError, match="say how to make the"):
        getattr(contract(), hook)(None, None)
