"""The stock git program merges, squashes and rebases the same histories, and must agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pygit2
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pygit2.enums import FileMode, ResetMode

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    LaneWorkspace,
    MergeConflictError,
    MergePreview,
    TaskMerge,
    WorkstreamRuntime,
    WorkstreamSpec,
    open_lane,
)
from agentrelay.workstream.testing import World, commit_files
from agentrelay.workstream.testing.repositories import clone_repository, create_bare_repository
from tests._examples import tries
from tests.integration._workspaces import workspace_in
from tests.interop._stock_git import GIT, IDENTITY, run_git

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(GIT is None, reason="there is no git program to judge"),
]

_PATHS: Final = ("a", "b", "d/x", "d/e/y")
_MODES: Final = (FileMode.BLOB, FileMode.BLOB, FileMode.BLOB_EXECUTABLE, FileMode.LINK)
_WHO: Final = pygit2.Signature("A", "a@example.invalid", 1_704_067_200)
_TASK: Final = "refs/heads/agentrelay/nightly/work"


class Entry(NamedTuple):
    """A file of a tree: the numbers of its lines, and its mode."""

    lines: tuple[int, ...]
    mode: FileMode = FileMode.BLOB


Tree = Mapping[str, Entry]

_lines = st.lists(st.integers(0, 5), max_size=5, unique=True).map(tuple)
_entries = st.builds(Entry, _lines, st.sampled_from(_MODES))
_trees = st.dictionaries(st.sampled_from(_PATHS), _entries, min_size=1, max_size=4)
_edit = st.dictionaries(st.sampled_from(_PATHS), st.none() | _entries, max_size=2)
_edits = st.lists(_edit, min_size=1, max_size=3)


class Place(NamedTuple):
    """A lane, and a worktree of the same repository that git works in."""

    lane: LaneWorkspace
    judge: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Return a lane whose branches each example sets anew."""
    root = tmp_path_factory.mktemp("judged")
    repo = clone_repository(create_bare_repository(root / "origin.git"), root / "clone")
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    GitWorkstreamPreparer(repo, "nightly").prepare_workstream(runtime)
    git(repo, "worktree", "add", "-q", "--detach", str(root / "judge"))
    return Place(open_lane(runtime), root / "judge")


def git(cwd: Path, *arguments: str, may_fail: bool = False) -> str | None:
    """Run the stock git; return what it says, or ``None`` where it may fail and did."""
    done = run_git(cwd, "-c", "core.quotePath=false", *arguments, **IDENTITY)
    if done.returncode and not may_fail:
        raise AssertionError(f"{arguments}: {done.stderr!r}")
    return None if done.returncode else done.stdout


def said(cwd: Path, *arguments: str) -> str:
    """Return what git says."""
    return str(git(cwd, *arguments)).strip()


def grow(
    repo: pygit2.Repository,
    tree: Tree,
    edits: Sequence[Mapping[str, Entry | None]],
    *parents: str,
    words: str,
) -> tuple[Tree, str]:
    """Commit edits one after the other; lines of different paths are never alike."""
    now = dict(tree)
    tip, above = "", list(parents)
    for number, edit in enumerate(edits):
        for path, entry in edit.items():
            now.pop(path, None)
            if entry is not None:
                now[path] = entry
        index = pygit2.Index()
        for path, entry in now.items():
            text = "".join(f"{path} has {line}{'.' * 40}\n" for line in entry.lines)
            if entry.mode == FileMode.LINK:
                text = f"to/{'-'.join(map(str, entry.lines))}/of/{path}"
            index.add(pygit2.IndexEntry(path, repo.create_blob(text.encode()), entry.mode))
        made = repo.create_commit(
            None,
            _WHO,
            _WHO,
            f"{words} {number}\n",
            index.write_tree(repo),
            [pygit2.Oid(hex=each) for each in above],
        )
        tip, above = str(made), [str(made)]
    return now, tip


def arrange(
    place: Place,
    base: Tree,
    ours: Sequence[Mapping[str, Entry | None]],
    theirs: Sequence[Mapping[str, Entry | None]],
) -> tuple[str, str]:
    """Set the lane's and the task's branches; return both tips."""
    repo = pygit2.Repository(str(place.lane.path.parents[2]))
    _, start = grow(repo, base, [{}], words="base")
    _, lane = grow(repo, base, ours, start, words="ours")
    _, task = grow(repo, base, theirs, start, words="theirs")
    worktree = pygit2.Repository(str(place.lane.path))
    worktree.reset(pygit2.Oid(hex=lane), ResetMode.HARD)
    repo.references.create(_TASK, pygit2.Oid(hex=task), force=True)
    git(place.judge, "checkout", "-q", "-f", "--detach", lane)
    return lane, task


def tree_of(place: Place, commit: str) -> str:
    """Return the id of a commit's tree."""
    return str(pygit2.Repository(str(place.judge))[commit].peel(pygit2.Tree).id)


def outcome(place: Place, method: Any) -> TaskMerge | MergePreview:
    """Merge the task, and return what it came to, or what is in conflict."""
    try:
        return place.lane.merge_task("work", method)
    except MergeConflictError as error:
        if error.preview is None:
            raise
        return error.preview


def is_clean(place: Place) -> bool:
    """Tell whether git finds nothing in the lane that is in no commit."""
    return not said(place.lane.path, "status", "--porcelain=v2", "--untracked-files=all")


@given(base=_trees, ours=_edits, theirs=_edits, method=st.sampled_from(["merge", "squash"]))
@tries(10)
def test_merges_and_squashes_have_gits_trees(
    place: Place,
    base: Tree,
    ours: Sequence[Mapping[str, Entry | None]],
    theirs: Sequence[Mapping[str, Entry | None]],
    method: str,
) -> None:
    """In conflict where git is, and else with the same tree, in branch, index and files."""
    lane, task = arrange(place, base, ours, theirs)
    wanted = git(
        place.judge,
        "merge",
        "-q",
        f"--{'no-ff' if method == 'merge' else method}",
        task,
        may_fail=True,
    )
    tree = None if wanted is None else said(place.judge, "write-tree")
    git(place.judge, "reset", "-q", "--hard")
    found = outcome(place, method)
    assume(found.is_certain)
    if isinstance(found, MergePreview):
        assert tree is None
        assert place.lane.status().commit_id == lane
    else:
        assert tree_of(place, found.commit_id) == tree
        assert said(place.lane.path, "rev-parse", "HEAD") == found.commit_id
    assert is_clean(place)


@given(base=_trees, ours=_edits, theirs=_edits)
@tries(10)
def test_rebases_have_gits_commits(
    place: Place,
    base: Tree,
    ours: Sequence[Mapping[str, Entry | None]],
    theirs: Sequence[Mapping[str, Entry | None]],
) -> None:
    """The same ones dropped, the others with the same trees, authors and messages, in order."""
    lane, task = arrange(place, base, ours, theirs)
    git(place.judge, "checkout", "-q", "-f", "--detach", task)
    wanted: list[str] | None = None
    form = "--format=%T %an %ae %ad %s"
    if git(place.judge, "rebase", "-q", lane, may_fail=True) is None:
        git(place.judge, "rebase", "--abort")
    else:
        wanted = said(place.judge, "log", "--reverse", form, f"{lane}..HEAD").splitlines()
    found = outcome(place, "rebase")
    assume(found.is_certain)
    if isinstance(found, MergePreview):
        assert wanted is None
        assert place.lane.status().commit_id == lane
    else:
        told = said(place.judge, "log", "--reverse", form, f"{lane}..{found.commit_id}")
        assert told.splitlines() == wanted
    assert is_clean(place)


# Files that both sides change, so that most of these are in conflict.
_both = st.dictionaries(
    st.sampled_from(_PATHS), st.tuples(*[st.none() | _entries] * 3), min_size=1, max_size=3
)


@given(files=_both)
@tries(10)
def test_a_merge_that_is_left_is_left_as_git_leaves_it(
    place: Place, files: Mapping[str, tuple[Entry | None, Entry | None, Entry | None]]
) -> None:
    """The same stages in the index, the same markers in the files, and git can give it up."""
    base = {"kept": Entry((1,)), **{path: one[0] for path, one in files.items() if one[0]}}
    ours, theirs = ([{path: one[side] for path, one in files.items()}] for side in (1, 2))
    _, task = arrange(place, base, ours, theirs)
    repo = pygit2.Repository(str(place.judge))
    repo.references.create("refs/heads/main", pygit2.Oid(hex=task), force=True)
    repo.references.create("refs/remotes/origin/main", pygit2.Oid(hex=task), force=True)
    try:
        found = place.lane.sync(fetch=False, leave_conflicts=True)
    except MergeConflictError:
        # Where git moves files aside.
        return
    if not found.conflicts:
        return
    git(place.judge, "merge", "-q", "main", may_fail=True)
    try:
        for arguments in (
            ("ls-files", "--stage"),
            ("status", "--porcelain=v2", "--untracked-files=all"),
            ("diff", "--no-color", "HEAD"),
            ("rev-parse", "MERGE_HEAD"),
        ):
            assert said(place.lane.path, *arguments) == said(place.judge, *arguments)
        assert (
            "# Conflicts:"
            in Path(pygit2.Repository(str(place.lane.path)).path, "MERGE_MSG").read_text()
        )
    finally:
        for where in (place.judge, place.lane.path):
            git(where, "merge", "--abort")
    assert is_clean(place)


def test_git_gives_a_merge_up_that_was_left_just_now(agentrelay_world: World) -> None:
    """Without a ``git status`` before: what was merged is known to be as it was written."""
    lane = workspace_in(agentrelay_world)
    (lane.path / "README.md").write_text("ours\n")
    lane.commit("Ours")
    theirs = {"README.md": "theirs\n", "run": "theirs\n", "new": "theirs\n"}
    commit_files(agentrelay_world.remote_path, theirs, message="B", branch="main")
    assert lane.sync(leave_conflicts=True).conflicts
    git(lane.path, "merge", "--abort")
    assert lane.status().is_clean
    assert not (lane.path / "new").exists()
