"""What is found of lanes, what it is, and what becomes of it; row by row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pygit2
import pytest

from agentrelay.workstream import FoundLane, LaneKind, LaneOutcome, Reconciliation, reconcile
from agentrelay.workstream.testing import World, refs
from fixtures.neglected import NEGLECTED
from fixtures.scenarios import SCENARIOS, Scene

_LEFT, _COMPLETED, _REMOVED = LaneOutcome.LEFT, LaneOutcome.COMPLETED, LaneOutcome.REMOVED
_KEPT = LaneOutcome.KEPT
_LIVE, _RESUMABLE, _ORPHANED = LaneKind.LIVE, LaneKind.RESUMABLE, LaneKind.ORPHANED
_FOREIGN, _RESCUED = LaneKind.FOREIGN, LaneKind.RESCUED

# The decision table: where a lane starts from, what it is, what becomes of it. None where
# nothing is to be reported.
_ROWS: Final[dict[str, tuple[LaneKind, LaneOutcome] | None]] = {
    # before the first prepare
    "stale_admin_dir": (_ORPHANED, _REMOVED),
    "diverged_base": None,
    "protected_target": None,
    "foreign_directory_in_the_way": (_FOREIGN, _LEFT),
    "branch_checked_out_elsewhere": (_FOREIGN, _LEFT),
    "remote_branch_exists": (_FOREIGN, _LEFT),
    # a prepare that was stopped
    "half_made_worktree": (_RESUMABLE, _COMPLETED),
    "prepare_stopped_after_its_record": (_RESUMABLE, _COMPLETED),
    "prepare_stopped_before_its_entry": (_RESUMABLE, _COMPLETED),
    "prepare_stopped_before_its_push": (_RESUMABLE, _COMPLETED),
    "prepare_stopped_before_its_signal": (_RESUMABLE, _COMPLETED),
    # a lane that stands
    "whole_lane": (_LIVE, _LEFT),
    "diverged_remote_lane": (_LIVE, _LEFT),
    "unpushed_commits": (_LIVE, _LEFT),
    "dirty_worktree": (_LIVE, _LEFT),
    "detached_worktree": (_LIVE, _LEFT),
    "locked_worktree": (_LIVE, _LEFT),
    "remote_branch_deleted": (_LIVE, _LEFT),
    "squash_merged": (_LIVE, _LEFT),
    # deleted by hand
    "worktree_folder_deleted": (_RESUMABLE, _COMPLETED),
    "branch_deleted_by_hand": (_RESUMABLE, _COMPLETED),
    "all_but_the_remote_branch_deleted": (_RESUMABLE, _COMPLETED),
    "all_but_the_record_deleted": (_ORPHANED, _REMOVED),
    "merged_and_folder_deleted": (_ORPHANED, _REMOVED),
    "record_deleted_under_a_whole_lane": (_FOREIGN, _LEFT),
    "record_and_worktree_deleted": (_ORPHANED, _REMOVED),
    "locked_folder_absent": (_LIVE, _LEFT),
    # a teardown that was stopped
    "teardown_stopped_before_it_removed_anything": (_ORPHANED, _REMOVED),
    "teardown_of_a_worktree_on_another_branch": (_ORPHANED, _REMOVED),
    "teardown_stopped_at_an_entry_never_made": (_ORPHANED, _REMOVED),
    "teardown_cut_off_from_the_remote": (_ORPHANED, _REMOVED),
    "teardown_of_a_locked_worktree": (_LIVE, _LEFT),
    "teardown_of_an_open_pull_request": (_ORPHANED, _KEPT),
    "only_rescue_refs": (_RESCUED, _LEFT),
    "nothing_left": None,
    # lost to another clone
    "lost_with_a_branch": (_ORPHANED, _REMOVED),
    "lost_with_a_worktree": (_FOREIGN, _LEFT),
    "wanted_and_taken_by_another": (_FOREIGN, _LEFT),
    # made by hand, under a lane's name
    "branch_of_another_clones_lane": (_FOREIGN, _LEFT),
    "branch_made_after_the_end": (_FOREIGN, _LEFT),
    "worktree_made_after_the_end": (_FOREIGN, _LEFT),
    "empty_folder": (_ORPHANED, _REMOVED),
    "link_in_the_way": (_FOREIGN, _LEFT),
    "notes_instead_of_the_worktree": (_FOREIGN, _LEFT),
    "worktree_moved": (_FOREIGN, _LEFT),
    "worktree_on_another_branch": (_FOREIGN, _LEFT),
    "branch_in_the_users_checkout": (_FOREIGN, _LEFT),
    "pushed_to_another_remote": (_RESUMABLE, _LEFT),
}
_PLACES: Final = {**SCENARIOS, **NEGLECTED}


@pytest.fixture
def world() -> Iterator[World]:
    """Return a world of one remote and one GitHub."""
    with World() as made:
        yield made


def run(scene: Scene, **settings: Any) -> Reconciliation:
    """Reconcile a scene's repository at its world."""
    known = {"api_url": scene.world.github.api_url, "full_name": scene.world.full_name}
    return reconcile(scene.repo, **{"token": scene.world.token, **known, **settings})


def the_lane(found: Reconciliation) -> FoundLane:
    """Return the one lane that was found."""
    (lane,) = found.lanes
    assert (lane.graph, lane.workstream_id) == ("nightly", "parser")
    return lane


def everything(scene: Scene) -> dict[str, Any]:
    """Return every file of the clone, and where the remote's refs are."""
    own = scene.repo / ".git" / "agentrelay"
    return {
        "remote": refs(scene.world.remote_path),
        "files": {
            str(path): path.readlink() if path.is_symlink() else path.read_bytes()
            for path in scene.repo.rglob("*")
            if (path.is_symlink() or path.is_file())
            and not (path.suffix == ".lock" and path.is_relative_to(own))
        },
        "folders": {str(path) for path in (scene.repo / ".worktrees").rglob("*") if path.is_dir()},
    }


def assert_whole(scene: Scene) -> None:
    """Assert that branch, worktree, files, entry, remote branch, record and signal agree."""
    repo, lane = pygit2.Repository(str(scene.lane.worktree_path)), scene.lane
    assert repo.references["HEAD"].target == lane.branch_ref
    assert repo.status() == {}
    assert (lane.worktree_path / "README.md").is_file()
    assert lane.branch_ref in refs(scene.repo)
    assert lane.branch_ref in refs(scene.world.remote_path)
    assert not (scene.admin_dir / "locked").exists()
    assert (lane.signal_dir / "pending").is_file()


def assert_kept(scene: Scene) -> None:
    """Assert that the commit a scene is about is under some ref, of either side, still."""
    for path in (scene.repo, scene.world.remote_path):
        repo = pygit2.Repository(str(path))
        if scene.commit_id is None:
            return
        wanted = pygit2.Oid(hex=scene.commit_id)
        tips = [repo.references[name].peel(pygit2.Commit).id for name in refs(path)]
        if wanted in repo and any(
            tip == wanted or repo.descendant_of(tip, wanted) for tip in tips
        ):
            return
    raise AssertionError(f"nothing leads to {scene.commit_id}")


def test_every_place_has_its_row() -> None:
    """A new scenario is decided on purpose."""
    assert set(_ROWS) == set(_PLACES)


@pytest.mark.parametrize("name", _ROWS)
def test_each_row_of_the_table(world: World, name: str) -> None:
    """A dry run says what it is and changes nothing; a real one does that, and nothing else.

    Once done there is nothing left to do: a second run finds the lane live, gone, or
    whatever the first one had to leave.
    """
    scene = _PLACES[name](world)
    before = everything(scene)
    dry = run(scene, dry_run=True)
    assert everything(scene) == before
    row = _ROWS[name]
    if row is None:
        assert (dry.lanes, run(scene).lanes) == ((), ())
        assert everything(scene) == before
        return
    kind, outcome = row
    planned = the_lane(dry)
    assert planned.kind is kind
    assert planned.why
    done = the_lane(run(scene))
    assert (done.kind, done.outcome) == (kind, outcome), done
    second = run(scene)
    again = the_lane(second) if second.lanes else None
    assert second.leftovers == ()
    if outcome is _LEFT:
        assert everything(scene) == before
        assert planned.outcome is _LEFT or name == "pushed_to_another_remote"
        assert again == done
    elif outcome is _COMPLETED:
        assert planned.outcome is LaneOutcome.TO_COMPLETE
        assert_whole(scene)
        assert again is not None
        assert (again.kind, again.outcome) == (_LIVE, _LEFT)
    else:
        assert planned.outcome is LaneOutcome.TO_REMOVE
        assert not scene.lane.worktree_path.exists()
        assert not scene.admin_dir.exists()
        assert_kept(scene)
        if outcome is _REMOVED:
            assert scene.lane.branch_ref not in refs(scene.repo)
            assert again is None or again.kind in {_RESCUED, _FOREIGN}
            assert again is None or again.outcome is _LEFT
        else:
            assert again == done
