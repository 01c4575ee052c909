"""A relative path means nothing where the current directory was deleted, and that is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from agentrelay.workstream import (
    GhIntegrationAutoMerger,
    GhIntegrationMergeChecker,
    GhWorkstreamIntegrator,
    GitHubApp,
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    RepositoryError,
    WorkstreamRuntime,
    WorkstreamSpec,
    clone,
    diagnose,
    forget,
    open_lane,
    prepare_all,
    preview_merge,
    preview_pairs,
    reconcile,
    rescued,
    restore,
    teardown_all,
)
from tests.fault._matrix import BRANCH

_HERE: Final = Path("repo")


def _lane() -> WorkstreamRuntime:
    """Return the runtime of a lane that says it was prepared, by a relative path."""
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    runtime.state.branch_name = BRANCH
    runtime.state.worktree_path = _HERE / ".worktrees" / "nightly" / "parser"
    return runtime


def _without_branch() -> WorkstreamRuntime:
    runtime = _lane()
    runtime.state.branch_name = None
    return runtime


_CALLS: Final[dict[str, Callable[[], Any]]] = {
    "prepare": lambda: GitWorkstreamPreparer(_HERE, "nightly").prepare_workstream(_lane()),
    "prepare, run directory": lambda: GitWorkstreamPreparer(
        Path("/nowhere"), "nightly", run_dir=Path("runs")
    ).prepare_workstream(_lane()),
    "integrate": lambda: GhWorkstreamIntegrator(_HERE).create_integration_pr(_lane()),
    "teardown": lambda: GitWorkstreamTeardown(_HERE).teardown_workstream(_lane()),
    "teardown, by the worktree": lambda: GitWorkstreamTeardown(
        Path("/nowhere")
    ).teardown_workstream(_without_branch()),
    "check_merged": lambda: GhIntegrationMergeChecker(_HERE).check_merged(_lane()),
    "check_all": lambda: GhIntegrationMergeChecker(_HERE).check_all([_lane()]),
    "merge_integration_pr": lambda: GhIntegrationAutoMerger(_HERE).merge_integration_pr(_lane()),
    "prepare_all": lambda: prepare_all([_lane()], GitWorkstreamPreparer(_HERE, "nightly")),
    "teardown_all": lambda: teardown_all([_lane()], GitWorkstreamTeardown(_HERE)),
    "reconcile": lambda: reconcile(_HERE),
    "reconcile, run directory": lambda: reconcile(Path("/nowhere"), run_dir=Path("runs")),
    "diagnose": lambda: diagnose(_HERE),
    "rescued": lambda: rescued(_HERE),
    "restore": lambda: restore(_HERE, "nightly/parser/x"),
    "forget": lambda: forget(_HERE, older_than_s=1),
    "preview_merge": lambda: preview_merge(_HERE, BRANCH, target="main"),
    "preview_pairs": lambda: preview_pairs(_HERE, [BRANCH]),
    "open_lane, by its runtime": lambda: open_lane(_lane()),
    "open_lane, by a path": lambda: open_lane("."),
    "clone, from a path": lambda: clone("remote.git", "/nowhere/clone"),
    "clone, to a path": lambda: clone("https://example.invalid/a.git", "clone"),
    "GitHubApp": lambda: GitHubApp(1, private_key_path=Path("key.pem")),
}


@pytest.mark.parametrize("call", _CALLS.values(), ids=_CALLS)
def test_a_relative_path_without_a_current_directory_is_a_typed_refusal(
    call: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every way in says that the current directory is gone, and what to do about it."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        # Of many lanes each has its own result.
        outcome = call()
        errors = [result.error for result in outcome]
    except RepositoryError as error:
        errors = [error]
    assert [type(error) for error in errors] == [RepositoryError]
    for refusal in errors:
        assert "current directory" in refusal.message
        assert "absolute" in (refusal.hint or "")
