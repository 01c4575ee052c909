"""What is found of lanes, what it is, and what becomes of it; row by row."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pygit2
import pytest

from agentrelay.workstream import (
    FoundLane,
    LaneKind,
    LaneNameError,
    LaneOutcome,
    Reconciliation,
    RepositoryError,
    WorkstreamRuntime,
    WorkstreamSpec,
    reconcile,
)
from agentrelay.workstream._git.lockfile import LockFile
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.implementations._lane_record import lane_lock
from agentrelay.workstream.testing import Fault, RefUpdate, World, refs
from fixtures.neglected import NEGLECTED, change_record
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
    "branch_deleted_at_the_merge_and_folder_deleted": (_ORPHANED, _REMOVED),
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
    "lost_with_a_branch": (_ORPHANED, _KEPT),
    "lost_with_a_worktree": (_FOREIGN, _LEFT),
    "wanted_and_taken_by_another": (_FOREIGN, _LEFT),
    "lost_and_locked": (_FOREIGN, _LEFT),
    "lost_and_teardown_begun": (_ORPHANED, _KEPT),
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
        if wanted in repo and any(tip == wanted or repo.descendant_of(tip, wanted) for tip in tips):
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
            assert again is not None
            assert (again.kind, again.outcome) == (kind, outcome)


# -- what is found and said


def test_a_lane_is_found_in_every_place_it_is_in(world: World) -> None:
    """Worktree, entry, branches, signals and rescue refs are named each by where they are."""
    scene = _PLACES["only_rescue_refs"](world)
    world.runner(scene.repo).prepare(scene.runtime)
    lane = the_lane(run(scene))
    assert lane.kind is _LIVE
    assert lane.worktree == scene.lane.worktree_path
    assert lane.entry == scene.admin_dir
    assert lane.branch == scene.lane.branch_ref
    assert lane.remote_branch == scene.lane.branch
    assert lane.signal_dir == scene.lane.signal_dir
    kept = {name for name in refs(scene.repo) if name.startswith("refs/agentrelay/rescue/")}
    assert set(lane.rescue_refs) == kept
    assert len(kept) == 1


def test_what_a_teardown_begun_keeps_is_said_where_it_is_kept(world: World) -> None:
    """Removing is the teardown's: work is rescued, and the concern names the ref."""
    scene = _PLACES["teardown_stopped_before_it_removed_anything"](world)
    lane = the_lane(run(scene))
    kept = [name for name in refs(scene.repo) if name.startswith("refs/agentrelay/rescue/")]
    assert "untracked" in {name.rpartition("/")[2] for name in kept}
    for ref in kept:
        assert any(ref in concern for concern in lane.concerns)
    again = the_lane(run(scene))
    assert (again.kind, set(again.rescue_refs)) == (_RESCUED, set(kept))


def test_branches_kept_for_a_pull_request_go_once_it_is_merged(world: World) -> None:
    """What a teardown had to leave is found again, and removed when nothing needs it."""
    scene = _PLACES["teardown_of_an_open_pull_request"](world)
    (pull,) = world.github.pulls()
    waiting = the_lane(run(scene))
    assert any(pull.html_url in concern for concern in waiting.concerns)
    assert scene.lane.branch_ref in refs(world.remote_path)
    world.github.merge_pull(pull.number)
    assert the_lane(run(scene)).outcome is _REMOVED
    assert scene.lane.branch_ref not in refs(world.remote_path)
    assert run(scene).lanes == ()


def test_preparing_again_calls_a_teardown_off(world: World) -> None:
    """The note goes with the next prepare, and the lane is left alone from then on."""
    scene = _PLACES["teardown_stopped_before_it_removed_anything"](world)
    world.runner(scene.repo).prepare(scene.runtime)
    assert the_lane(run(scene)).kind is _LIVE
    assert (scene.lane.worktree_path / "draft.txt").read_text() == "draft\n"


def test_names_no_lane_can_have_are_named_and_left(world: World) -> None:
    """Refs, remote branches and folders that only begin like a lane's, in any spelling."""
    scene = _PLACES["diverged_base"](world)
    repo, there = (pygit2.Repository(str(path)) for path in (scene.repo, world.remote_path))
    tip, theirs = repo.head.target, there.head.target
    for name in ("a/b/c/d", "con/parser/integration", "nightly/caf\u00e9/integration", "x"):
        repo.references.create(f"refs/heads/agentrelay/{name}", tip)
    repo.references.create("refs/heads/agentrelay/g/link/integration", "refs/heads/main")
    repo.references.create("refs/agentrelay/rescue/loose", tip)
    there.references.create("refs/heads/agentrelay/y", theirs)
    raw = os.fsencode(scene.repo) + b"/.git/refs/heads/agentrelay/\xff\xfe"
    Path(os.fsdecode(raw)).write_text(f"{tip}\n")
    for folder in ("nightly/.hidden", "nightly/two words", "aux/parser"):
        (scene.repo / ".worktrees" / folder).mkdir(parents=True)
        (scene.repo / ".worktrees" / folder / "notes.txt").write_text("notes\n")
    before = everything(scene)
    found = run(scene)
    assert everything(scene) == before
    assert {(lane.kind, lane.outcome) for lane in found.lanes} == {(_FOREIGN, _LEFT)}
    assert {(lane.graph, lane.workstream_id) for lane in found.lanes} == {
        ("a", "b/c/d"), ("con", "parser/integration"), ("nightly", "caf\u00e9/integration"),
        ("x", ""), ("g", "link"), ("loose", ""), ("y", ""), ("\udcff\udcfe", ""),
        ("nightly", ".hidden"), ("nightly", "two words"), ("aux", "parser"),
    }  # fmt: skip


def test_lanes_whose_names_differ_by_case_are_two(world: World) -> None:
    """Where the disk tells them apart so does the answer, and nothing falls over."""
    scene = _PLACES["whole_lane"](world)
    (scene.repo / ".worktrees/Nightly/Parser").mkdir(parents=True)
    found = run(scene)
    assert [(lane.graph, lane.workstream_id, lane.kind) for lane in found.lanes] == [
        ("Nightly", "Parser", _FOREIGN),
        ("nightly", "parser", _LIVE),
    ]


def test_one_graph_can_be_asked_for(world: World) -> None:
    """Lanes and strangers of other graphs are neither listed nor touched."""
    scene = _PLACES["worktree_folder_deleted"](world)
    (scene.repo / ".worktrees/weekly/.hidden").mkdir(parents=True)
    before = everything(scene)
    assert [lane.workstream_id for lane in run(scene, graph="weekly").lanes] == [".hidden"]
    assert everything(scene) == before
    assert the_lane(run(scene, graph="nightly")).outcome is _COMPLETED
    with pytest.raises(LaneNameError):
        run(scene, graph="../x")


def test_records_that_say_nothing_sensible_decide_nothing(world: World) -> None:
    """A torn record, or one that a stranger wrote, is no record; the lane is left."""
    scene = _PLACES["whole_lane"](world)
    note = next((scene.repo / ".git/agentrelay/lanes").glob("*.json"))
    for text in ("", "{", "[]", '{"repo_path": 1}', '{"repo_path": "x", "signal_dir": "\\u0000"}'):
        note.write_text(text)
        assert the_lane(run(scene)).kind is _LIVE
    record = scene.lane.signal_dir / "lane.json"
    for text in ("", "{", "[]", "\x00", '{"branch_name": 7, "claim": "pushed", "ending": true}'):
        record.write_text(text)
        before = everything(scene)
        assert the_lane(run(scene)).kind is _FOREIGN
        assert everything(scene) == before


def test_folders_behind_a_link_are_not_looked_into(world: World) -> None:
    """A link in the place of a folder may lead anywhere; it is said, and not followed."""
    scene = _PLACES["diverged_base"](world)
    outside = world.root / "outside"
    (outside / "nightly" / "parser").mkdir(parents=True)
    (outside / ".trash" / "gone-1").mkdir(parents=True)
    (scene.repo / ".worktrees").symlink_to(outside)
    (scene.repo / ".workflow").symlink_to(outside)
    found = run(scene)
    assert found.lanes == ()
    assert sum("link" in concern or "elsewhere" in concern for concern in found.concerns) == 3
    assert (outside / ".trash" / "gone-1").is_dir()


def test_a_record_behind_a_link_decides_nothing(world: World) -> None:
    """Signals that were moved away, with a link in their place, are in the lane's way."""
    scene = _PLACES["teardown_stopped_before_it_removed_anything"](world)
    (scene.repo / ".workflow").rename(world.root / "moved-signals")
    (scene.repo / ".workflow").symlink_to(world.root / "moved-signals")
    before = everything(scene)
    lane = the_lane(run(scene))
    assert (lane.kind, lane.outcome) == (_FOREIGN, _LEFT)
    assert "symbolic link" in lane.why
    assert everything(scene) == before


# -- the places a lane's record can be in


def test_a_lane_in_a_run_directory_is_found_without_being_told(
    world: World, tmp_path: Path
) -> None:
    """The repository remembers where the record is, so the lane is not taken for a stray."""
    scene = _PLACES["diverged_base"](world)
    world.preparer(scene.repo, run_dir=tmp_path / "run").prepare_workstream(scene.runtime)
    assert the_lane(run(scene)).kind is _LIVE
    shutil.rmtree(scene.lane.worktree_path)
    assert the_lane(run(scene)).outcome is _COMPLETED
    assert (tmp_path / "run/workstreams/parser/pending").is_file()
    assert not (scene.repo / ".workflow").exists()
    (note,) = (scene.repo / ".git/agentrelay/lanes").glob("*.json")
    note.unlink()
    assert the_lane(run(scene, run_dir=tmp_path / "run")).kind is _LIVE
    assert the_lane(run(scene)).kind is _FOREIGN


def test_a_lane_of_another_checkout_is_left_to_it(world: World, tmp_path: Path) -> None:
    """A repository's checkouts share branches and entries, not lanes."""
    scene = _PLACES["diverged_base"](world)
    pygit2.Repository(str(scene.repo)).add_worktree("beside", str(tmp_path / "beside"))
    world.runner(tmp_path / "beside").prepare(scene.runtime)
    shutil.rmtree(tmp_path / "beside/.worktrees/nightly/parser")
    before = everything(scene)
    lane = the_lane(run(scene))
    assert (lane.kind, lane.outcome) == (_FOREIGN, _LEFT)
    assert str(tmp_path / "beside") in lane.why
    assert everything(scene) == before
    there = reconcile(tmp_path / "beside", token=world.token)
    assert the_lane(there).outcome is _COMPLETED


def test_a_copy_of_a_repository_leaves_the_originals_lane(world: World) -> None:
    """The copy's entries lead to the original's worktrees, and its records to its signals."""
    scene = _PLACES["teardown_stopped_before_it_removed_anything"](world)
    shutil.copytree(scene.repo, world.root / "copy", symlinks=True)
    before = everything(scene)
    lane = the_lane(reconcile(world.root / "copy", token=world.token))
    assert (lane.kind, lane.outcome) == (_FOREIGN, _LEFT)
    assert everything(scene) == before


def test_a_worktree_that_leads_to_another_place_is_left(world: World) -> None:
    """The repository was moved, or somebody works in it where it is mounted too."""
    scene = _PLACES["dirty_worktree"](world)
    moved = world.root / "moved"
    scene.repo.rename(moved)
    link = (moved / ".worktrees/nightly/parser/.git").read_text()
    lane = the_lane(reconcile(moved, token=world.token))
    assert (lane.kind, lane.outcome) == (_LIVE, _LEFT)
    assert "preparing it again" in lane.concerns[0]
    assert (moved / ".worktrees/nightly/parser/.git").read_text() == link
    world.runner(moved).prepare(WorkstreamRuntime(WorkstreamSpec("parser")))
    assert the_lane(reconcile(moved, token=world.token)).concerns == ()


def test_a_persons_own_worktree_beside_the_lanes_holds_none(world: World) -> None:
    """Its folders are not lanes, and an empty one is not cleared away."""
    scene = _PLACES["whole_lane"](world)
    beside = scene.repo / ".worktrees" / "feature"
    pygit2.Repository(str(scene.repo)).add_worktree("feature", str(beside))
    (beside / "empty").mkdir()
    before = everything(scene)
    assert the_lane(run(scene)).kind is _LIVE
    assert everything(scene) == before


def test_signals_of_another_graphs_lane_are_in_the_way(world: World, tmp_path: Path) -> None:
    """Two graphs may not share a run directory; neither is judged by the other's record."""
    scene = _PLACES["diverged_base"](world)
    world.preparer(scene.repo, run_dir=tmp_path).prepare_workstream(scene.runtime)
    (scene.repo / ".worktrees/weekly/parser").mkdir(parents=True)
    weekly, nightly = sorted(
        run(scene, run_dir=tmp_path).lanes, key=lambda lane: lane.kind is _LIVE
    )
    assert (weekly.kind, weekly.outcome, nightly.kind) == (_FOREIGN, _LEFT, _LIVE)


# -- others at work


def test_a_lane_somebody_holds_is_left_to_its_holder(world: World) -> None:
    """Whatever it looks like meanwhile, nothing is waited for and nothing is touched."""
    scene = _PLACES["half_made_worktree"](world)
    repository = open_repository(scene.repo)
    before = everything(scene)
    with lane_lock(repository, scene.lane, timeout_s=0):
        lane = the_lane(run(scene))
    assert (lane.kind, lane.outcome) == (LaneKind.BUSY, _LEFT)
    assert everything(scene) == before
    assert the_lane(run(scene)).outcome is _COMPLETED


def test_a_lane_that_changed_meanwhile_is_left(world: World) -> None:
    """Between looking and acting another process took the lane up: it is not torn down."""
    scene = _PLACES["teardown_stopped_before_it_removed_anything"](world)
    first = WorkstreamRuntime(WorkstreamSpec("lexer"))
    world.runner(scene.repo).prepare(first)
    assert first.state.worktree_path is not None
    shutil.rmtree(first.state.worktree_path)
    pygit2.Repository(str(world.remote_path)).references.delete(
        "refs/heads/agentrelay/nightly/lexer/integration"
    )

    def take_up(updates: Sequence[RefUpdate]) -> Mapping[str, str]:
        # While the first lane is being pushed: the second has been looked at by then.
        del updates
        change_record(scene, ending=None)
        return {}

    world.git.hooks.append(take_up)
    lexer, parser = run(scene).lanes
    assert (lexer.workstream_id, lexer.outcome) == ("lexer", _COMPLETED)
    assert (parser.kind, parser.outcome) == (LaneKind.BUSY, _LEFT)
    assert (scene.lane.worktree_path / "draft.txt").read_text() == "draft\n"
    assert the_lane_named("parser", run(scene)).kind is _LIVE


def the_lane_named(workstream_id: str, found: Reconciliation) -> FoundLane:
    """Return one lane of several."""
    (lane,) = (lane for lane in found.lanes if lane.workstream_id == workstream_id)
    return lane


def test_one_lanes_failure_does_not_stop_the_others(world: World) -> None:
    """It is that lane's outcome, with its reason; the next run may do better."""
    scene = _PLACES["worktree_folder_deleted"](world)
    other = WorkstreamRuntime(WorkstreamSpec("lexer"))
    world.runner(scene.repo).prepare(other)
    assert other.state.worktree_path is not None
    shutil.rmtree(other.state.worktree_path)
    lane = Lane.of(scene.repo, "nightly", "lexer")
    bad = Scene(world, scene.repo, lane, other)
    change_record(bad, base_branch="no-such-branch")
    found = run(scene)
    failed = the_lane_named("lexer", found)
    assert found.failed == (failed,)
    assert "no-such-branch" in failed.concerns[-1]
    assert the_lane_named("parser", found).outcome is _COMPLETED
    change_record(bad, base_branch="..")
    assert the_lane_named("lexer", run(scene)).outcome is LaneOutcome.FAILED
    change_record(bad, base_branch="main")
    assert run(scene).failed == ()


def test_a_refusal_of_the_remote_is_that_lanes_failure(world: World) -> None:
    """What could be removed is gone, the rest is found again and removed once it may be."""
    scene = _PLACES["teardown_cut_off_from_the_remote"](world)
    world.git.faults.add(Fault.refuse_ref(scene.lane.branch_ref, "not now"))
    lane = the_lane(run(scene))
    assert lane.outcome is LaneOutcome.FAILED
    assert any("not now" in concern for concern in lane.concerns)
    assert the_lane(run(scene)).outcome is _REMOVED
    assert scene.lane.branch_ref not in refs(world.remote_path)


def test_an_accident_is_one_lanes_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a backend falls over is said of the lane, and does not end the call."""
    scene = _PLACES["worktree_folder_deleted"](world)

    def fall_over(*_: object, **__: object) -> None:
        raise MemoryError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(pygit2.Repository, "read", fall_over)
        lane = the_lane(run(scene))
    assert lane.outcome is LaneOutcome.FAILED
    assert lane.concerns[-1] == "unexpected MemoryError: no more"
    assert the_lane(run(scene)).outcome is _COMPLETED


def test_a_lane_that_cannot_be_locked_is_not_called_busy(world: World) -> None:
    """Something in the place of the lock file is named by the step that needs it."""
    scene = _PLACES["worktree_folder_deleted"](world)
    lock = scene.repo / ".git/agentrelay/lanes" / f"{scene.lane.admin_name}.lock"
    lock.unlink()
    lock.mkdir()
    lane = the_lane(run(scene))
    assert (lane.kind, lane.outcome) == (_RESUMABLE, LaneOutcome.FAILED)
    assert str(lock) in lane.concerns[-1]


def test_a_note_that_cannot_be_written_is_named_before_anything_is_made(world: World) -> None:
    """Without it a stray branch could not be told from a lane, so there is no lane."""
    scene = _PLACES["diverged_base"](world)
    note = scene.repo / ".git/agentrelay/lanes" / f"{scene.lane.admin_name}.json"
    note.mkdir(parents=True)
    with pytest.raises(RepositoryError, match=r"\.json"):
        world.preparer(scene.repo).prepare_workstream(scene.runtime)
    assert scene.lane.branch_ref not in refs(scene.repo)
    assert not scene.lane.signal_dir.exists()


def test_a_note_that_leads_astray_is_not_followed(world: World, tmp_path: Path) -> None:
    """It may only name a directory that a lane's signals can be in."""
    scene = _PLACES["worktree_folder_deleted"](world)
    (note,) = (scene.repo / ".git/agentrelay/lanes").glob("*.json")
    document = {"repo_path": str(scene.repo), "signal_dir": str(tmp_path / "parser")}
    note.write_text(json.dumps(document))
    shutil.copytree(scene.lane.signal_dir, tmp_path / "parser")
    assert the_lane(run(scene)).signal_dir == scene.lane.signal_dir
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parser"]


def test_lanes_are_listed_while_the_remote_is_away_and_none_is_touched(world: World) -> None:
    """It is said, and nothing is decided on half the facts."""
    scene = _PLACES["worktree_folder_deleted"](world)
    other = WorkstreamRuntime(WorkstreamSpec("lexer"))
    world.runner(scene.repo).prepare(other)
    world.git.close()
    before = everything(scene)
    found = run(scene)
    assert [(lane.workstream_id, lane.kind, lane.outcome) for lane in found.lanes] == [
        ("lexer", _LIVE, _LEFT),
        ("parser", _RESUMABLE, LaneOutcome.FAILED),
    ]
    assert "could not be asked" in found.concerns[0]
    assert everything(scene) == before
    assert the_lane_named("parser", run(scene, dry_run=True)).outcome is LaneOutcome.TO_COMPLETE
    unnamed = run(scene, remote="no-such-remote", dry_run=True)
    assert "no-such-remote" in unnamed.concerns[0]
    assert len(unnamed.lanes) == 2


# -- what belongs to no lane


def test_leftovers_of_killed_processes_go(world: World) -> None:
    """Renamed trees, half-built entries and dead locks go; what lives or is git's stays."""
    scene = _PLACES["whole_lane"](world)
    own, trash = scene.repo / ".git/agentrelay", scene.repo / ".worktrees/.trash/gone-1"
    for tree in (trash / "parser", own / "trash/gone-2/parser", own / "new-3"):
        tree.mkdir(parents=True)
        (tree / "file").write_text("file\n")
    own_lock = own / "held/dead"
    own_lock.write_text("")
    dead = scene.repo / ".git/refs/heads/topic.lock"
    dead.hardlink_to(own_lock)
    (own / "held/stray").write_text("")
    (own / "held/link").symlink_to(own_lock)
    gits = scene.repo / ".git/refs/heads/other.lock"
    gits.write_text("")
    with LockFile(scene.repo / ".git/packed-refs", own_dir=own):
        ours = {own_lock, own / "held/stray", own / "held/link"}
        (living,) = set((own / "held").iterdir()) - ours
        planned = run(scene, dry_run=True)
        assert trash.is_dir()
        found = run(scene)
        assert living.exists()
        assert (scene.repo / ".git/packed-refs.lock").exists()
    expected = {trash, own / "trash/gone-2", own / "new-3", own_lock, own / "held/stray"}
    assert set(planned.leftovers) == set(found.leftovers) == expected
    assert found.stuck == ()
    assert not any(path.exists() for path in (*expected, dead))
    assert gits.exists()
    assert run(scene).leftovers == ()


def test_leftovers_that_cannot_go_are_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that refuses is said, beside what was found; the lanes are done all the same."""
    scene = _PLACES["worktree_folder_deleted"](world)
    trash = scene.repo / ".worktrees/.trash/gone-1"
    trash.mkdir(parents=True)

    def refuse(path: str, **_settings: Any) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        found = run(scene)
    assert the_lane(found).outcome is _COMPLETED
    assert found.stuck == found.leftovers == (trash,)
    assert "could not be removed" in found.concerns[0]
    assert run(scene).stuck == ()


# -- how much it costs


def test_the_remote_is_asked_once_however_many_lanes_there_are(world: World) -> None:
    """One exchange lists all branches; a live lane costs nothing more."""
    scene = _PLACES["whole_lane"](world)
    for name in ("lexer", "docs"):
        world.runner(scene.repo).prepare(WorkstreamRuntime(WorkstreamSpec(name)))
    before = len(world.git.requests)
    assert len(run(scene).lanes) == 3
    asked = [(sent.method, sent.path.partition("?")[0]) for sent in world.git.requests[before:]]
    assert {path.rpartition("/")[2] for _, path in asked} == {"refs"}
    assert len(asked) <= 2  # the first may be told to come with a credential


def test_twice_the_lanes_cost_twice_the_work(world: World) -> None:
    """No lane goes through all refs, entries or folders: function calls grow in step."""
    scene = _PLACES["diverged_base"](world)
    repo = pygit2.Repository(str(scene.repo))

    def calls_for(count: int) -> int:
        for number in range(count):
            lane = Lane.of(scene.repo, "many", f"lane-{number}")
            if lane.worktree_path.exists():
                continue
            lane.worktree_path.mkdir(parents=True)
            (lane.worktree_path / "notes.txt").write_text("notes\n")
            repo.references.create(lane.branch_ref, repo.head.target)
            entry = scene.repo / ".git/worktrees" / lane.admin_name
            entry.mkdir(parents=True)
            (entry / "HEAD").write_text(f"ref: {lane.branch_ref}\n")
            (entry / "gitdir").write_text(f"{lane.worktree_path / '.git'}\n")
        calls = 0

        def count_call(frame: object, event: str, argument: object) -> None:
            del frame, argument
            nonlocal calls
            calls += event in {"call", "c_call"}

        sys.setprofile(count_call)
        try:
            found = run(scene)
        finally:
            sys.setprofile(None)
        assert len(found.lanes) == count
        return calls

    calls_for(1)  # what is done once a process is done now
    few, many = calls_for(20), calls_for(40)
    assert many < 2.2 * few
