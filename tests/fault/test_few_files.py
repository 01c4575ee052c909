"""Too many open files: what could not be looked at is not taken for what is not there."""

from __future__ import annotations

import pytest

from agentrelay.workstream import RepositoryError, WorkstreamRuntime, WorkstreamSpec
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream._git.worktree_entries import attached_heads, entries, git_file_target
from agentrelay.workstream.testing import World, refs
from tests.fault._trouble import few_descriptors


def test_an_entry_that_cannot_be_looked_at_is_not_taken_for_none(agentrelay_world: World) -> None:
    """Otherwise a branch that is checked out somewhere else would count as free."""
    repo = agentrelay_world.clone()
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    agentrelay_world.preparer(repo).prepare_workstream(runtime)
    worktree = runtime.state.worktree_path
    assert worktree is not None
    repository = open_repository(repo)
    looks = (
        lambda: attached_heads(repository),
        lambda: list(entries(repository)),
        lambda: git_file_target(worktree),
    )
    for look in looks:
        assert look()
        with few_descriptors(0), pytest.raises(RepositoryError, match="Too many open files") as one:
            look()
        assert "limit of open files" in str(one.value.hint)


def test_a_teardown_that_can_hardly_open_a_file_is_a_typed_refusal(
    agentrelay_world: World,
) -> None:
    """Nothing is deleted, and the next one does it all."""
    world = agentrelay_world
    repo = world.clone()
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    world.preparer(repo).prepare_workstream(runtime)
    teardown = world.teardown(repo)
    before = refs(repo), refs(world.remote_path)
    # What is imported on its first use would need files of its own.
    teardown.teardown_workstream(WorkstreamRuntime(WorkstreamSpec("never prepared")))
    with few_descriptors(1), pytest.raises(RepositoryError, match="Too many open files"):
        teardown.teardown_workstream(runtime)
    assert (refs(repo), refs(world.remote_path)) == before
    teardown.teardown_workstream(runtime)
    assert set(refs(world.remote_path)) == {"refs/heads/main"}
