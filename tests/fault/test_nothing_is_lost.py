"""States an agent leaves behind in which a clean-up could lose the only copy of something."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pygit2
import pytest
from pygit2.ffi import C

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    LaneConflictError,
    LaneNameError,
    RepositoryError,
    WorkstreamRuntime,
    WorkstreamSpec,
)
from agentrelay.workstream._git.unsaved import has_unsaved
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.testing import (
    clone_repository,
    commit_files,
    create_bare_repository,
    read_tree,
    refs,
)

BRANCH = "agentrelay/nightly/parser/integration"
REF = f"refs/heads/{BRANCH}"


class Place:
    """A remote, a clone, and a prepared lane."""

    def __init__(self, root: Path) -> None:
        """Make them."""
        self.bare = create_bare_repository(root / "origin.git")
        self.repo = clone_repository(self.bare, root / "clone")
        self.runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
        self.prepare()
        lane = Lane.of(self.repo, "nightly", "parser")
        self.worktree = lane.worktree_path
        self.admin_dir = self.repo / ".git" / "worktrees" / lane.admin_name
        self.handle = pygit2.Repository(str(self.worktree))

    def prepare(self) -> None:
        """Prepare the lane, again perhaps."""
        GitWorkstreamPreparer(self.repo, "nightly").prepare_workstream(self.runtime)

    def tear_down(self) -> None:
        """Tear the lane down."""
        GitWorkstreamTeardown(self.repo).teardown_workstream(self.runtime)

    def loose_commit(self, message: str = "loose") -> str:
        """Make a commit no ref leads to."""
        handle, author = self.handle, self.handle.default_signature
        tree = handle.head.peel(pygit2.Tree).id
        return str(handle.create_commit(None, author, author, message, tree, [handle.head.target]))

    def assert_reachable(self, commit_id: str) -> None:
        """Assert that some ref leads to a commit."""
        handle = pygit2.Repository(str(self.repo))
        tips = [str(handle.references[ref].peel(pygit2.Commit).id) for ref in refs(self.repo)]
        assert any(tip == commit_id or handle.descendant_of(tip, commit_id) for tip in tips)

    def kept(self) -> dict[str, dict[str, bytes]]:
        """Return the rescued trees by label."""
        prefix = "refs/agentrelay/rescue/nightly/parser/"
        return {
            ref.split("/", 6)[6]: read_tree(self.repo, ref)
            for ref in refs(self.repo)
            if ref.startswith(prefix)
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a prepared lane."""
    return Place(tmp_path)


@pytest.mark.parametrize("by", [Place.tear_down, Place.prepare])
def test_a_detached_commit_and_staged_work_outlive_their_folder(
    place: Place, by: Callable[[Place], None]
) -> None:
    """The entry alone knew them when somebody deleted the folder."""
    commit = place.loose_commit()
    (place.worktree / "staged.txt").write_text("staged")
    place.handle.index.add("staged.txt")
    place.handle.index.write()
    place.handle.set_head(pygit2.Oid(hex=commit))
    shutil.rmtree(place.worktree)
    by(place)
    place.assert_reachable(commit)
    assert place.kept()["staged"]["staged.txt"] == b"staged"


@pytest.mark.parametrize(
    "name", ["MERGE_AUTOSTASH", "rebase-merge/autostash", "rebase-apply/autostash"]
)
def test_an_autostash_is_kept(place: Place, name: str) -> None:
    """What git put aside for an operation under way is named by one small file."""
    commit = place.loose_commit("autostash")
    (place.admin_dir / name).parent.mkdir(exist_ok=True)
    (place.admin_dir / name).write_text(f"{commit}\n")
    place.tear_down()
    assert not place.worktree.exists()
    place.assert_reachable(commit)


@pytest.mark.parametrize("name", ["MERGE_HEAD", "CHERRY_PICK_HEAD", "rebase-merge/orig-head"])
def test_what_an_operation_in_progress_brings_in_is_kept(place: Place, name: str) -> None:
    """A commit fetched only to be merged or picked has no ref of its own."""
    commit = place.loose_commit("theirs")
    (place.admin_dir / name).parent.mkdir(exist_ok=True)
    (place.admin_dir / name).write_text(f"{commit}\n")
    place.tear_down()
    assert not place.worktree.exists()
    place.assert_reachable(commit)


def test_the_worktrees_own_refs_are_kept(place: Place) -> None:
    """Refs below refs/worktree go with the entry, their commits do not."""
    commit = place.loose_commit()
    own = place.admin_dir / "refs" / "worktree" / "save"
    own.parent.mkdir(parents=True)
    own.write_text(f"{commit}\n")
    place.tear_down()
    place.assert_reachable(commit)


@pytest.mark.parametrize("flag", ["assume-unchanged", "skip-worktree"])
def test_edits_behind_an_index_flag_are_kept(place: Place, flag: str) -> None:
    """Status does not look at such files; a clean-up has to."""
    index = place.handle.index
    for number in range(len(index)):
        if index[number].path == "README.md":
            raw = C.git_index_get_byindex(index._index, number)
            if flag == "assume-unchanged":
                raw.flags |= 0x8000
            else:
                raw.flags_extended |= 0x4000
                raw.flags |= 0x4000
    index.write()
    (place.worktree / "README.md").write_text("edited unseen")
    place.tear_down()
    assert not place.worktree.exists()
    assert place.kept()["unstaged"]["README.md"] == b"edited unseen"


def test_a_lock_whose_reason_merely_begins_like_gits_is_respected(place: Place) -> None:
    """Only git's exact word, and ours, mean a worktree that was never handed out."""
    (place.admin_dir / "locked").write_text("initializing database, do not touch")
    (place.worktree / "draft.txt").write_text("draft")
    place.tear_down()
    assert (place.worktree / "draft.txt").read_text() == "draft"


@pytest.mark.parametrize("text", ["", "\0\1", "nowhere"])
def test_a_damaged_entry_leads_no_look_for_changes_astray(
    place: Place, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libgit2 takes the current directory for the working tree of such a worktree."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (place.admin_dir / "gitdir").write_text(text)
    with pytest.raises(RepositoryError, match="not that of the worktree"):
        has_unsaved(place.worktree)


def test_a_checked_out_submodule_keeps_the_worktree(place: Place) -> None:
    """Its commits live below the entry and would go with it."""
    modules = place.admin_dir / "modules" / "library"
    modules.mkdir(parents=True)
    (modules / "HEAD").write_text("ref: refs/heads/main\n")
    place.tear_down()
    assert place.worktree.is_dir()
    assert "modules" in place.runtime.artifacts.concerns[0]


def test_a_repository_in_an_ignored_folder_keeps_the_worktree(place: Place) -> None:
    """Its history is no file that could be kept."""
    exclude = place.repo / ".git/info/exclude"
    exclude.write_text(exclude.read_text() + "vendor/\n")
    clone_repository(place.bare, place.worktree / "vendor" / "n")
    place.tear_down()
    assert (place.worktree / "vendor/n/.git").is_dir()


def test_a_file_where_a_folder_was_and_a_folder_where_a_file_was_are_kept(place: Place) -> None:
    """A change of type is a change like any other, and does not stop the clean-up."""
    folder = place.worktree / "src"
    shutil.rmtree(folder)
    folder.write_text("a file now")
    (place.worktree / "README.md").unlink()
    (place.worktree / "README.md").mkdir()
    (place.worktree / "README.md" / "inside.txt").write_text("inside")
    place.tear_down()
    assert not place.worktree.exists()
    saved = [content for tree in place.kept().values() for content in tree.values()]
    assert b"a file now" in saved
    assert b"inside" in saved


def test_a_name_git_refuses_is_kept_under_another(place: Place) -> None:
    """A file called ``git~1`` cannot be in a tree, its bytes can."""
    (place.worktree / "git~1").write_text("odd")
    place.tear_down()
    assert not place.worktree.exists()
    assert place.kept()["untracked"]["%/git%7E1"] == b"odd"


@pytest.mark.parametrize("name", [".GIT", ".Git/notes.txt", "src/.giT"])
def test_a_name_that_is_gits_but_for_its_case_is_kept(place: Place, name: str) -> None:
    """libgit2 never lists such a file, as changed or as new, wherever it lies."""
    (place.worktree / name).parent.mkdir(exist_ok=True)
    (place.worktree / name).write_text("not git's")
    place.tear_down()
    assert not place.worktree.exists()
    assert b"not git's" in place.kept()["untracked"].values()


@pytest.mark.parametrize("target", ["src/add.py", "."])
def test_a_folder_that_became_a_link_does_not_stop_the_clean_up(
    place: Place, target: str, tmp_path: Path
) -> None:
    """The link is kept; what it leads to, round in circles or outside, is not the lane's."""
    (tmp_path / "outside" / "calculator").mkdir(parents=True)
    (tmp_path / "outside" / "calculator" / "add.py").write_text("not the lane's")
    shutil.rmtree(place.worktree / "src")
    goal = tmp_path / "outside" if target == "." else Path(target)
    (place.worktree / "src").symlink_to(goal)
    place.tear_down()
    assert not place.worktree.exists()
    kept = [content for tree in place.kept().values() for content in tree.values()]
    assert os.fsencode(goal) in kept
    assert b"not the lane's" not in kept


def test_a_file_called_git_below_the_top_keeps_the_worktree(place: Place) -> None:
    """It may be what leads to a repository, so it is no file like others."""
    (place.worktree / "src" / ".git").write_text("gitdir: elsewhere")
    place.tear_down()
    assert (place.worktree / "src" / ".git").read_text() == "gitdir: elsewhere"
    assert any("repository of its own" in text for text in place.runtime.artifacts.concerns)


def test_a_staged_file_that_has_the_name_of_a_staged_folder_is_kept(place: Place) -> None:
    """libgit2 writes an index with both, and a tree without the file."""
    shutil.rmtree(place.worktree / "src")
    (place.worktree / "src").write_text("a file now")
    place.handle.index.add("src")
    place.handle.index.write()
    (place.worktree / "src").write_text("edited since")
    place.tear_down()
    assert b"a file now" in place.kept()["staged"].values()
    assert b"edited since" in place.kept()["unstaged"].values()


@pytest.mark.parametrize("other", ["%/git%7E1", "%"])
def test_a_file_that_has_the_other_name_already_is_kept_too(place: Place, other: str) -> None:
    """The name under which a refused one is kept is taken from nobody."""
    (place.worktree / "git~1").write_text("odd")
    (place.worktree / other).parent.mkdir(exist_ok=True)
    (place.worktree / other).write_text("even")
    place.tear_down()
    kept = place.kept()["untracked"]
    assert kept["%_/git%7E1"] == b"odd"
    assert kept[other] == b"even"


def test_commits_the_remote_branch_had_before_are_kept(place: Place) -> None:
    """Others pushed, the user fetched, somebody deleted the remote branch."""
    theirs = commit_files(place.bare, {"theirs": "x"}, message="theirs", branch=BRANCH)
    user = pygit2.Repository(str(place.repo))
    user.remotes["origin"].fetch()
    pygit2.Repository(str(place.bare)).references.delete(REF)
    place.tear_down()
    place.assert_reachable(theirs)


def test_a_mirrors_own_branches_are_not_forced(tmp_path: Path) -> None:
    """A configured refspec that writes local branches is not applied."""
    bare = create_bare_repository(tmp_path / "origin.git")
    mirror = tmp_path / "mirror.git"
    shutil.copytree(bare, mirror)
    handle = pygit2.Repository(str(mirror))
    handle.remotes.create("origin", str(bare), "+refs/*:refs/*")
    mine = commit_files(mirror, {"mine": "x"}, message="not pushed", branch="main")
    GitWorkstreamPreparer(mirror, "nightly").prepare_workstream(
        WorkstreamRuntime(WorkstreamSpec("parser"))
    )
    assert refs(mirror)["refs/heads/main"] == mine


def test_a_tracking_ref_of_a_deleted_base_stays(place: Place) -> None:
    """It may be the last that leads to those commits."""
    tip = commit_files(place.bare, {"rel": "x"}, message="release", branch="rel")
    pygit2.Repository(str(place.repo)).remotes["origin"].fetch()
    pygit2.Repository(str(place.bare)).references.delete("refs/heads/rel")
    with pytest.raises(Exception, match="exists neither"):
        GitWorkstreamPreparer(place.repo, "nightly").prepare_workstream(
            WorkstreamRuntime(WorkstreamSpec("other", base_branch="rel"))
        )
    assert refs(place.repo)["refs/remotes/origin/rel"] == tip


def test_a_lane_cannot_be_its_own_target(place: Place) -> None:
    """Its work would be proved by itself."""
    spec = WorkstreamSpec("parser", merge_target_branch=BRANCH)
    with pytest.raises(LaneNameError, match="its own base or target"):
        GitWorkstreamPreparer(place.repo, "nightly").prepare_workstream(WorkstreamRuntime(spec))
    work = commit_files(place.worktree, {"work": "x"}, message="work")
    place.runtime.spec = spec
    place.tear_down()
    place.assert_reachable(work)


@pytest.mark.parametrize("name", [".worktrees", ".workflow", ".worktrees/nightly"])
def test_a_file_where_a_directory_belongs_is_named_before_anything_is_made(
    tmp_path: Path, name: str
) -> None:
    """The conflict comes before the network and before the record."""
    bare = create_bare_repository(tmp_path / "origin.git")
    repo = clone_repository(bare, tmp_path / "clone")
    (repo / name).parent.mkdir(exist_ok=True)
    (repo / name).write_text("a file")
    with pytest.raises(LaneConflictError, match="not a directory"):
        GitWorkstreamPreparer(repo, "nightly").prepare_workstream(
            WorkstreamRuntime(WorkstreamSpec("parser"))
        )
    assert (repo / name).read_text() == "a file"
    assert REF not in refs(repo)
    assert os.listdir(repo / ".git" / "refs" / "heads") == ["main"]


def test_a_remote_whose_name_has_a_slash_proves_nothing_either(tmp_path: Path) -> None:
    """A lane's own tracking ref is no proof, whatever the remote is called."""
    bare = create_bare_repository(tmp_path / "origin.git")
    repo = clone_repository(bare, tmp_path / "clone")
    pygit2.Repository(str(repo)).remotes.create("team/origin", str(bare))
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    preparer = GitWorkstreamPreparer(repo, "nightly", remote="team/origin")
    preparer.prepare_workstream(runtime)
    assert runtime.state.worktree_path is not None
    work = commit_files(runtime.state.worktree_path, {"work": "x"}, message="work")
    worktree = pygit2.Repository(str(runtime.state.worktree_path))
    worktree.remotes["team/origin"].push([f"{REF}:{REF}"])
    GitWorkstreamTeardown(repo, remote="team/origin").teardown_workstream(runtime)
    assert work in [tip for ref, tip in refs(repo).items() if "/rescue/" in ref]


def test_what_a_remote_was_once_seen_to_have_proves_nothing(place: Place) -> None:
    """The next prune forgets a branch that the remote has deleted since."""
    work = commit_files(place.worktree, {"work": "x"}, message="work")
    pygit2.Repository(str(place.repo)).references.create("refs/remotes/origin/feature", work)
    place.tear_down()
    assert work in [tip for ref, tip in refs(place.repo).items() if "/rescue/" in ref]


@pytest.mark.parametrize("by", [Place.tear_down, Place.prepare])
def test_work_in_a_worktree_that_only_lacks_its_unlocking_is_kept(
    place: Place, by: Callable[[Place], None]
) -> None:
    """A prepare killed at its last step leaves what looks like a finished worktree."""
    (place.admin_dir / "locked").write_text("initializing (agentrelay-workstream)")
    (place.worktree / "README.md").write_text("edited")
    (place.worktree / "new.txt").write_text("new")
    by(place)
    kept = place.kept()
    assert kept["unstaged"]["README.md"] == b"edited"
    assert kept["untracked"]["new.txt"] == b"new"


def test_a_worktree_made_anew_is_in_the_middle_of_nothing(place: Place) -> None:
    """A merge left over would make the next commit claim what its tree lacks."""
    theirs = place.loose_commit("theirs")
    (place.admin_dir / "MERGE_HEAD").write_text(f"{theirs}\n")
    shutil.rmtree(place.worktree)
    place.prepare()
    assert not (place.admin_dir / "MERGE_HEAD").exists()
    place.assert_reachable(theirs)


@pytest.mark.parametrize("by", [Place.tear_down, Place.prepare])
def test_a_locked_worktree_that_is_not_there_is_left_alone(
    place: Place, by: Callable[[Place], None]
) -> None:
    """It may be on a disk that is not mounted just now."""
    (place.admin_dir / "locked").write_text("usb stick")
    shutil.rmtree(place.worktree)
    if by is Place.prepare:
        with pytest.raises(LaneConflictError, match="usb stick"):
            by(place)
    else:
        by(place)
        assert any("usb stick" in concern for concern in place.runtime.artifacts.concerns)
    assert (place.admin_dir / "locked").read_text() == "usb stick"
    assert REF in refs(place.repo)


def test_a_lane_of_a_repository_that_was_moved_is_torn_down(place: Place) -> None:
    """Made at one mount point, cleaned up at another."""
    (place.worktree / "draft.txt").write_text("draft")
    elsewhere = place.repo.with_name("elsewhere")
    place.repo.rename(elsewhere)
    place.repo = elsewhere
    assert place.runtime.state.signal_dir is not None
    signals = elsewhere / ".workflow/nightly/workstreams/parser"
    place.runtime = WorkstreamRuntime.load(signals)
    place.tear_down()
    assert not (elsewhere / ".worktrees").exists()
    assert REF not in refs(elsewhere)
    assert place.kept()["untracked"]["draft.txt"] == b"draft"


def test_a_teardown_at_another_remote_is_refused(place: Place, tmp_path: Path) -> None:
    """The lane's branch is not there, and would be forgotten where it is."""
    other = create_bare_repository(tmp_path / "other.git")
    pygit2.Repository(str(place.repo)).remotes.create("up", str(other))
    with pytest.raises(LaneConflictError, match="remote 'origin'"):
        GitWorkstreamTeardown(place.repo, remote="up").teardown_workstream(place.runtime)
    place.tear_down()
    assert REF not in refs(place.bare)


def test_a_teardown_finds_the_run_directory_by_itself(tmp_path: Path) -> None:
    """The reference's constructor has no setting for it; the state knows."""
    bare = create_bare_repository(tmp_path / "origin.git")
    repo = clone_repository(bare, tmp_path / "clone")
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    preparer = GitWorkstreamPreparer(repo, "nightly", run_dir=tmp_path / "run")
    preparer.prepare_workstream(runtime)
    GitWorkstreamTeardown(repo).teardown_workstream(runtime)
    assert '"released"' in (tmp_path / "run/workstreams/parser/lane.json").read_text()


def test_a_shallow_clone_is_not_fetched_into_by_path(tmp_path: Path) -> None:
    """libgit2's local transport would drop the boundary and leave a broken history."""
    bare = create_bare_repository(tmp_path / "origin.git")
    repo = clone_repository(bare, tmp_path / "clone")
    tip = refs(repo)["refs/heads/main"]
    (repo / ".git" / "shallow").write_text(f"{tip}\n")
    with pytest.raises(Exception, match="shallow clone"):
        GitWorkstreamPreparer(repo, "nightly").prepare_workstream(
            WorkstreamRuntime(WorkstreamSpec("parser"))
        )
    assert (repo / ".git" / "shallow").read_text() == f"{tip}\n"


def test_a_teardown_in_a_damaged_history_keeps_the_branches_and_says_so(place: Place) -> None:
    """What cannot be told merged is not deleted, and no raw error escapes."""
    work = commit_files(place.worktree, {"work": "x"}, message="work")
    handle = pygit2.Repository(str(place.repo))
    parent = str(handle[work].peel(pygit2.Commit).parent_ids[0])
    older = str(handle[parent].peel(pygit2.Commit).parent_ids[0])
    (place.repo / ".git/objects" / older[:2] / older[2:]).unlink()
    place.tear_down()
    assert work in refs(place.repo).values()


@pytest.mark.child
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts are Linux's")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_disk_mounted_in_the_worktree_is_not_emptied(place: Place) -> None:
    """A cache mounted into an agent's worktree belongs to everybody."""
    cache = place.worktree / "shared cache"
    cache.mkdir()
    said = place.repo / "said"
    child = os.fork()
    if child == 0:  # pragma: no cover - measured in the parent only
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            # CLONE_NEWNS: what is mounted from here on, only this child sees; then the
            # same for what "shared" mounts would pass on (MS_REC | MS_PRIVATE).
            if libc.unshare(0x20000) or libc.mount(b"none", b"/", None, 0x44000, None):
                os._exit(77)
            if libc.mount(b"none", os.fsencode(cache), b"tmpfs", 0, b"size=64k"):
                os._exit(77)
            (cache / "everybodys").write_text("everybody's")
            place.tear_down()
            said.write_text("\n".join(place.runtime.artifacts.concerns))
            os._exit(0 if (cache / "everybodys").exists() else 1)
        except BaseException:  # noqa: BLE001 - a child must not go on as a second pytest
            traceback.print_exc()
            os._exit(2)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 77:
        pytest.skip("mounting needs more rights")
    assert status == 0
    assert "shared cache" in said.read_text()
    assert "unmount it" in said.read_text()


def test_an_ignored_file_beside_a_tracked_one_in_an_ignored_folder_is_kept(place: Place) -> None:
    """Somebody added one file of the folder by force; libgit2 then lists none of the others."""
    exclude = place.repo / ".git/info/exclude"
    exclude.write_text(exclude.read_text() + "build/\n")
    commit_files(place.worktree, {"build/keep.txt": "tracked"}, message="By force")
    (place.worktree / "build" / "deep").mkdir()
    (place.worktree / "build" / "deep" / "result.bin").write_text("days of work")
    place.tear_down()
    assert not place.worktree.exists()
    assert place.kept()["ignored"]["build/deep/result.bin"] == b"days of work"
