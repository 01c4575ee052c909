"""Whatever a lane's place looks like, a prepare makes it a lane or says what is in the way.

Hypothesis puts the place together: branch, worktree, its ``.git`` file, its entry, the
record, the signals and the remote branch are each there, missing, wrong or somebody
else's, in any combination.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pygit2
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    LaneConflictError,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
)
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.testing import (
    clone_repository,
    create_bare_repository,
    refs,
)
from tests._examples import refusal, tries
from tests.fault._objects import contents, leave_dead_lock, reachable

_URL: Final = "https://github.example/owner/name/pull/7"


@dataclass
class Scene:
    """A clone with a lane in some state, another lane beside it, and a user's own work."""

    root: Path
    planted: dict[Path, bytes] = field(default_factory=dict)
    commits: set[str] = field(default_factory=set)
    number: int = 0

    def __post_init__(self) -> None:
        """Make remote, clone and the other lane."""
        self.bare = create_bare_repository(self.root / "origin.git")
        self.repo = clone_repository(self.bare, self.root / "clone")
        self.handle = pygit2.Repository(str(self.repo))
        self.lane = Lane.of(self.repo, "nightly", "parser")
        self.worktree = self.lane.worktree_path
        self.admin_dir = self.repo / ".git" / "worktrees" / self.lane.admin_name
        self.prepare("lexer")
        self.other_admin_dir = next((self.repo / ".git" / "worktrees").iterdir())

    def prepare(self, name: str = "parser") -> WorkstreamRuntime:
        """Prepare a lane as a new process does."""
        runtime = WorkstreamRuntime(WorkstreamSpec(name))
        GitWorkstreamPreparer(self.repo, "nightly").prepare_workstream(runtime)
        return runtime

    # -- what it consists of

    def plant(self, path: Path) -> None:
        """Write a file whose content exists nowhere else."""
        self.number += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"planted %d\n" % self.number)

    def commit(self, *, parents: list[str]) -> str:
        """Make a commit that no ref leads to yet."""
        self.number += 1
        blob = self.handle.create_blob(b"committed %d\n" % self.number)
        builder = self.handle.TreeBuilder()
        builder.insert(f"file-{self.number}", blob, pygit2.enums.FileMode.BLOB)
        author = self.handle.default_signature
        text = f"commit {self.number}"
        made = self.handle.create_commit(None, author, author, text, builder.write(), parents)
        self.commits.add(str(made))
        return str(made)

    def main(self) -> pygit2.Commit:
        """Return the commit of the user's own branch."""
        return self.handle.references["refs/heads/main"].peel(pygit2.Commit)

    def set_branch(self, commit_id: str | None) -> None:
        """Put the lane's branch somewhere, or nowhere."""
        if commit_id is not None:
            self.handle.references.create(self.lane.branch_ref, commit_id, force=True)
        elif self.lane.branch_ref in refs(self.repo):
            self.handle.references.delete(self.lane.branch_ref)

    def set_remote(self, commit_id: str | None) -> None:
        """Put the remote's branch somewhere, or nowhere."""
        remote = pygit2.Repository(str(self.bare))
        if commit_id is None:
            if self.lane.branch_ref in refs(self.bare):
                remote.references.delete(self.lane.branch_ref)
            return
        if commit_id not in remote:
            scratch = "refs/heads/scratch"
            self.handle.remotes["origin"].push([f"+{commit_id}:{scratch}"])
            remote.references.delete(scratch)
        remote.references.create(self.lane.branch_ref, commit_id, force=True)

    def clear_worktree(self) -> None:
        """Take away whatever is where the worktree belongs."""
        if self.worktree.is_dir() and not self.worktree.is_symlink():
            shutil.rmtree(self.worktree)
        else:
            self.worktree.unlink(missing_ok=True)
        self.worktree.parent.mkdir(parents=True, exist_ok=True)

    def write_git_file(self, text: str) -> None:
        """Say whose worktree a directory is."""
        if self.worktree.is_dir():
            git_file = self.worktree / ".git"
            if git_file.is_dir():
                shutil.rmtree(git_file)
            git_file.write_text(text)

    def edit_record(self, **changes: Any) -> None:
        """Change the record, as anyone can."""
        path = self.lane.signal_dir / "lane.json"
        data = json.loads(path.read_text()) if path.exists() else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**data, **changes}))

    def edit_entry(self, name: str, text: str | None) -> None:
        """Change one of the entry's files, if there is an entry."""
        if self.admin_dir.is_dir():
            (self.admin_dir / name).unlink(missing_ok=True)
            if text is not None:
                (self.admin_dir / name).write_text(text)

    # -- what is looked at

    def users(self) -> dict[str, Any]:
        """Return everything that is the user's or the other lane's."""
        other = self.worktree.with_name("lexer")
        git = self.repo / ".git"
        return {
            "refs": {
                ref: tip
                for ref, tip in refs(self.repo).items()
                if "/parser/" not in ref and not ref.startswith("refs/remotes/")
            },
            "remote": {
                ref: tip for ref, tip in refs(self.bare).items() if ref != self.lane.branch_ref
            },
            "head": (git / "HEAD").read_bytes(),
            "index": (git / "index").read_bytes(),
            "status": self.handle.status(),
            "other": contents(other),
            "other entry": contents(self.other_admin_dir),
            "other signals": contents(self.lane.signal_dir.with_name("lexer")),
        }


def _folder_link(scene: Scene) -> None:
    scene.clear_worktree()
    scene.plant(scene.root / "outside" / "precious.txt")
    scene.worktree.symlink_to(scene.root / "outside")


def _folder_file(scene: Scene) -> None:
    scene.clear_worktree()
    scene.plant(scene.worktree)


def _folder_repository(scene: Scene) -> None:
    scene.clear_worktree()
    pygit2.init_repository(str(scene.worktree))
    scene.plant(scene.worktree / "theirs.txt")


def _folder_foreign(scene: Scene) -> None:
    scene.clear_worktree()
    scene.plant(scene.worktree / "theirs.txt")
    scene.plant(scene.worktree / "README.md")


def _folder_empty(scene: Scene) -> None:
    scene.clear_worktree()
    scene.worktree.mkdir()


def _folder_with_more(scene: Scene) -> None:
    if scene.worktree.is_dir():
        scene.plant(scene.worktree / "more" / "new.txt")
        if (scene.worktree / "README.md").exists():
            scene.plant(scene.worktree / "README.md")


def _folder_with_staged(scene: Scene) -> None:
    if (scene.worktree / ".git").is_file() and (scene.admin_dir / "index").exists():
        handle = pygit2.Repository(str(scene.worktree))
        scene.plant(scene.worktree / "staged.txt")
        handle.index.add("staged.txt")
        handle.index.write()


def _entry_absent(scene: Scene) -> None:
    shutil.rmtree(scene.admin_dir, ignore_errors=True)


def _entry_empty(scene: Scene) -> None:
    _entry_absent(scene)
    scene.admin_dir.mkdir(parents=True)


def _record_torn(scene: Scene) -> None:
    scene.edit_record()
    (scene.lane.signal_dir / "lane.json").write_text('{"claim": "pus')


def _entry_moved(scene: Scene) -> None:
    """Somebody moved the worktree, as ``git worktree move`` does."""
    elsewhere = scene.root / "elsewhere"
    if scene.admin_dir.is_dir() and scene.worktree.is_dir():
        scene.worktree.rename(elsewhere)
        scene.plant(elsewhere / "moved.txt")
        (elsewhere / ".git").unlink(missing_ok=True)
        (elsewhere / ".git").write_text(f"gitdir: {scene.admin_dir}\n")
        (scene.admin_dir / "gitdir").write_text(f"{elsewhere / '.git'}\n")


def _entry_detached(scene: Scene) -> None:
    scene.edit_entry("HEAD", f"{scene.commit(parents=[str(scene.main().id)])}\n")
    if not scene.admin_dir.is_dir():
        scene.commits.clear()


def _signals(*names: str) -> Callable[[Scene], None]:
    def write(scene: Scene) -> None:
        scene.lane.signal_dir.mkdir(parents=True, exist_ok=True)
        for name in names:
            text = {"failed": "an earlier failure", "pr_created": _URL}.get(name, "")
            (scene.lane.signal_dir / name).write_text(text)

    return write


def _tip(scene: Scene) -> str | None:
    return refs(scene.repo).get(scene.lane.branch_ref)


# Each part of the place, and what may have become of it; None leaves it as it is.
_PARTS: Final[dict[str, dict[str, Callable[[Scene], None] | None]]] = {
    "branch": {
        "as it was": None,
        "absent": lambda scene: scene.set_branch(None),
        "at the base": lambda scene: scene.set_branch(str(scene.main().id)),
        "behind": lambda scene: scene.set_branch(str(scene.main().parent_ids[0])),
        "ahead": lambda scene: scene.set_branch(scene.commit(parents=[str(scene.main().id)])),
        "unrelated": lambda scene: scene.set_branch(scene.commit(parents=[])),
    },
    "remote": {
        "as it was": None,
        "absent": lambda scene: scene.set_remote(None),
        "ours": lambda scene: scene.set_remote(_tip(scene)),
        "at the base": lambda scene: scene.set_remote(str(scene.main().id)),
        "ahead": lambda scene: scene.set_remote(
            scene.commit(parents=[_tip(scene) or str(scene.main().id)])
        ),
        "diverged": lambda scene: scene.set_remote(scene.commit(parents=[str(scene.main().id)])),
        "unrelated": lambda scene: scene.set_remote(scene.commit(parents=[])),
    },
    "folder": {
        "as it was": None,
        "absent": Scene.clear_worktree,
        "empty": _folder_empty,
        "more files": _folder_with_more,
        "staged files": _folder_with_staged,
        "foreign files": _folder_foreign,
        "a file": _folder_file,
        "a link": _folder_link,
        "a repository": _folder_repository,
    },
    "git file": {
        "as it was": None,
        "missing": lambda scene: (
            (scene.worktree / ".git").unlink(missing_ok=True)
            if (scene.worktree / ".git").is_file()
            else None
        ),
        "right": lambda scene: scene.write_git_file(f"gitdir: {scene.admin_dir}\n"),
        "relative": lambda scene: scene.write_git_file(
            f"gitdir: ../../../.git/worktrees/{scene.lane.admin_name}\n"
        ),
        "the main repository": lambda scene: scene.write_git_file(f"gitdir: {scene.repo}/.git\n"),
        "the other lane": lambda scene: scene.write_git_file(f"gitdir: {scene.other_admin_dir}\n"),
        "nowhere": lambda scene: scene.write_git_file("gitdir: /nowhere/at/all\n"),
        "an old place": lambda scene: scene.write_git_file(
            f"gitdir: /old/clone/.git/worktrees/{scene.lane.admin_name}\n"
        ),
        "garbage": lambda scene: scene.write_git_file("\x00\x01 not git's\n"),
    },
    "entry": {
        "as it was": None,
        "absent": _entry_absent,
        "empty": _entry_empty,
        "without gitdir": lambda scene: scene.edit_entry("gitdir", None),
        "gitdir elsewhere": lambda scene: scene.edit_entry("gitdir", "/nowhere/at/all/.git\n"),
        "gitdir garbage": lambda scene: scene.edit_entry("gitdir", "\x00\n"),
        "without HEAD": lambda scene: scene.edit_entry("HEAD", None),
        "HEAD garbage": lambda scene: scene.edit_entry("HEAD", "\x00\x01"),
        "HEAD elsewhere": lambda scene: scene.edit_entry("HEAD", "ref: refs/heads/topic\n"),
        "detached": _entry_detached,
        "moved": _entry_moved,
        "without commondir": lambda scene: scene.edit_entry("commondir", None),
    },
    "lock": {
        "as it was": None,
        "by a person": lambda scene: scene.edit_entry("locked", "usb stick\n"),
        "half made": lambda scene: scene.edit_entry(
            "locked", "initializing (agentrelay-workstream)"
        ),
    },
    "record": {
        "as it was": None,
        "absent": lambda scene: (scene.lane.signal_dir / "lane.json").unlink(missing_ok=True),
        "torn": _record_torn,
        "another lane's": lambda scene: scene.edit_record(
            branch_name="agentrelay/nightly/lexer/integration"
        ),
        "released": lambda scene: scene.edit_record(claim="released"),
        "lost": lambda scene: scene.edit_record(claim="lost"),
        "wanted": lambda scene: scene.edit_record(claim="wanted", attempt=_tip(scene)),
        "wanted elsewhere": lambda scene: scene.edit_record(claim="wanted", attempt="0" * 40),
        "wrong types": lambda scene: scene.edit_record(
            claim=["pushed"], attempt=7, base_commit={}, remote=None, format="new"
        ),
        "unknown base": lambda scene: scene.edit_record(base_commit="12" * 20),
    },
    "locks of the dead": {
        "as it was": None,
        "branch": lambda scene: leave_dead_lock(scene.repo, scene.lane.branch_ref),
        "tracking ref": lambda scene: leave_dead_lock(
            scene.repo, f"refs/remotes/origin/{scene.lane.branch}"
        ),
        "packed refs": lambda scene: leave_dead_lock(scene.repo, "packed-refs"),
        "configuration": lambda scene: leave_dead_lock(scene.repo, "config"),
    },
    "signals": {
        "as it was": None,
        "merged": _signals("pending", "active", "merged"),
        "failed": _signals("failed", "active"),
        "pull request": _signals("active", "pr_created"),
    },
}


def _build(root: Path, choice: dict[str, str], *, prepared: bool) -> Scene:
    """Make a place in the chosen state."""
    scene = Scene(root)
    if prepared:
        scene.prepare()
    for part, kinds in _PARTS.items():
        change = kinds[choice.get(part, "as it was")]
        if change is not None:
            change(scene)
    return scene


def _contents_of(scene: Scene) -> dict[Path, bytes]:
    """Return every file somebody planted, where it lies now."""
    return {
        path: data
        for directory in (scene.worktree, scene.root / "outside", scene.root / "elsewhere")
        for path, data in contents(directory).items()
        if path.name != ".git" and b"planted" in data
    }


def _assert_whole(scene: Scene, runtime: WorkstreamRuntime) -> None:
    """Assert that the lane stands, as far as anybody can see."""
    lane, state = scene.lane, runtime.state
    handle = pygit2.Repository(str(scene.worktree))
    assert Path(handle.path) == scene.admin_dir
    assert (scene.admin_dir / "HEAD").read_text() == f"ref: {lane.branch_ref}\n"
    assert not (scene.admin_dir / "locked").exists() or (
        (scene.admin_dir / "locked").read_text() == "usb stick\n"
    )
    assert handle.head.name == lane.branch_ref
    assert str(handle.head.target) == refs(scene.repo)[lane.branch_ref]
    assert lane.branch_ref in refs(scene.bare)
    assert (state.signal_dir, state.worktree_path) == (lane.signal_dir, lane.worktree_path)
    assert state.branch_name == lane.branch
    assert state.error is None
    assert runtime.status is not WorkstreamStatus.FAILED
    assert json.loads((lane.signal_dir / "lane.json").read_text())["claim"] == "pushed"
    scene.handle.config.get_multivar(f"branch.{lane.branch}.remote")


@tries(45)
@given(
    # Few changes lead to lanes, many to conflicts; both are wanted.
    choice=st.lists(
        st.sampled_from([(part, kind) for part, kinds in _PARTS.items() for kind in kinds]),
        max_size=6,
    ).map(dict),
    prepared=st.booleans(),
)
def test_any_place_becomes_a_lane_or_names_what_is_in_the_way(
    choice: dict[str, str], *, prepared: bool
) -> None:
    """Nothing planted is lost, no stranger's directory is taken, and a second try agrees."""
    with tempfile.TemporaryDirectory(prefix="lane-") as name:
        scene = _build(Path(name).resolve(), choice, prepared=prepared)
        users, planted = scene.users(), _contents_of(scene)
        tips = {
            tip for place in (scene.repo, scene.bare) for tip in refs(place).values()
        } | scene.commits
        remote_tip = refs(scene.bare).get(scene.lane.branch_ref)
        stood = (
            _tip(scene) is not None or remote_tip is not None or (scene.worktree / ".git").exists()
        )
        before = contents(scene.worktree)

        made: list[WorkstreamRuntime] = []
        first = refusal(lambda: made.append(scene.prepare()))
        event("a lane" if first is None else type(first).__name__)

        assert scene.users() == users
        there = reachable(scene.repo) | reachable(scene.bare)
        assert {tip for tip in tips if not tip.startswith("ref:")} <= there
        for path, data in planted.items():
            assert str(pygit2.hash(data)) in there or path.read_bytes() == data, path
        if remote_tip is not None:
            assert refs(scene.bare)[scene.lane.branch_ref] == remote_tip
        if first is None:
            _assert_whole(scene, made[0])
            if choice.get("folder") in {"foreign files", "a file", "a link", "a repository"}:
                # Only a directory that was registered, and says so itself, is the lane's.
                assert prepared
                assert choice.get("folder") in {"foreign files", "a repository"}
                assert choice.get("git file") in {"right", "relative", "an old place"}
            if not stood:
                assert made[0].status is WorkstreamStatus.PENDING
                assert made[0].artifacts.merge_pr_url is None
        else:
            assert isinstance(first, LaneConflictError), repr(first)
            assert first.hint
            assert first.obstacle
            # It may have made what is missing, so that both sides can be brought together.
            # And a ".git" file that named the lane's entry at an old place is set right.
            before.pop(scene.worktree / ".git", None)
            assert before.items() <= contents(scene.worktree).items()

        picture = (refs(scene.repo), refs(scene.bare), contents(scene.worktree), scene.users())
        second = refusal(scene.prepare)
        assert (type(second), str(second)) == (type(first), str(first))
        assert picture == (
            refs(scene.repo),
            refs(scene.bare),
            contents(scene.worktree),
            scene.users(),
        )


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Return a clone without the lane."""
    return Scene(tmp_path)


def test_a_branch_that_was_refused_once_is_refused_for_ever(scene: Scene) -> None:
    """The refusal leaves no record that the next try would take for a proof."""
    scene.set_branch(scene.commit(parents=[]))
    for _ in range(2):
        with pytest.raises(LaneConflictError, match="nothing here says"):
            scene.prepare()


def test_a_conflict_does_not_take_the_remote_branch_from_its_lane(scene: Scene) -> None:
    """With its record gone and its worktree moved, a lane waits to be moved back."""
    scene.prepare()
    (scene.lane.signal_dir / "lane.json").unlink()
    _entry_moved(scene)
    with pytest.raises(LaneConflictError, match="was moved"):
        scene.prepare()
    (scene.root / "elsewhere").rename(scene.worktree)
    (scene.admin_dir / "gitdir").write_text(f"{scene.worktree / '.git'}\n")
    _assert_whole(scene, scene.prepare())


@pytest.mark.parametrize("prepared", [False, True])
def test_a_lock_that_a_killed_process_of_ours_left_on_a_ref_stops_no_lane(
    scene: Scene, *, prepared: bool
) -> None:
    """Nobody waits for the dead, neither when a ref is made nor when it is fetched."""
    if prepared:
        scene.prepare()
    tracking = [f"refs/remotes/origin/{name}" for name in ("main", scene.lane.branch)]
    for ref in (scene.lane.branch_ref, *tracking):
        leave_dead_lock(scene.repo, ref)
    runtime = scene.prepare()
    _assert_whole(scene, runtime)
    for ref in (scene.lane.branch_ref, *tracking):
        leave_dead_lock(scene.repo, ref)
    GitWorkstreamTeardown(scene.repo).teardown_workstream(runtime)
    assert runtime.artifacts.concerns == []
    assert not list((scene.repo / ".git" / "refs").rglob("*.lock"))


def test_a_record_whose_claim_is_no_text_is_no_claim(scene: Scene) -> None:
    """Anyone may have edited it; no raw error escapes."""
    scene.prepare()
    scene.edit_record(claim=["pushed"])
    _assert_whole(scene, scene.prepare())


@pytest.mark.parametrize("text", [None, "", "/nowhere\n", "\0"])
def test_an_entry_that_lost_its_repository_is_repaired(scene: Scene, text: str | None) -> None:
    """A lane that no git can open is not handed out, and not left behind."""
    scene.prepare()
    scene.edit_entry("commondir", text)
    runtime = scene.prepare()
    _assert_whole(scene, runtime)
    scene.edit_entry("commondir", text)
    scene.plant(scene.worktree / "new.txt")
    GitWorkstreamTeardown(scene.repo).teardown_workstream(runtime)
    assert not scene.worktree.exists()
    assert str(pygit2.hash(b"planted 1\n")) in reachable(scene.repo)


def test_a_broken_entry_stays_while_files_are_in_the_way(scene: Scene) -> None:
    """Nothing is changed before the conflict is told."""
    scene.prepare()
    scene.edit_entry("HEAD", None)
    scene.write_git_file(f"gitdir: /old/clone/.git/worktrees/{scene.lane.admin_name}\n")
    before = contents(scene.admin_dir)
    with pytest.raises(LaneConflictError, match="is not this lane's worktree"):
        scene.prepare()
    assert contents(scene.admin_dir) == before
