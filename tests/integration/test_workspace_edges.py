"""A lane's verbs where something odd is about: races, leftovers, strange files and clocks."""

from __future__ import annotations

import hashlib
import os
import shutil
from datetime import timedelta
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import ConfigLevel, FileMode
from pytest_mock import MockerFixture

from agentrelay.workstream import (
    ChangedPath,
    CommitRefusedError,
    FileChange,
    LaneConflictError,
    LaneWorkspace,
    NothingToCommitError,
    RepositoryError,
    WorkstreamRuntime,
    clone,
    open_lane,
)
from agentrelay.workstream._git.fast_forward import fast_forward
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.testing import World, commit_files, refs
from tests.integration._workspaces import conflicted, contents, workspace_in, write


@pytest.fixture
def workspace(agentrelay_world: World) -> LaneWorkspace:
    """Return the workspace of a lane that was just prepared."""
    return workspace_in(agentrelay_world)


def handle_of(workspace: LaneWorkspace) -> pygit2.Repository:
    """Open the worktree with libgit2."""
    return pygit2.Repository(str(workspace.path))


def repo_of(workspace: LaneWorkspace) -> pygit2.Repository:
    """Open the repository the lane is in."""
    return pygit2.Repository(str(workspace.path.parents[2]))


# -- somebody else is at it


def test_a_commit_that_comes_in_between_is_built_upon(
    workspace: LaneWorkspace, mocker: MockerFixture
) -> None:
    """The branch is moved by another program at the last moment; neither commit is lost."""
    write(workspace, ours="1\n")
    theirs: list[str] = []
    sync = os.fsync

    def interfere(descriptor: int) -> None:
        if not theirs:
            # Where our index is on its way to the disk: the branch was looked at before.
            handle = repo_of(workspace)
            parent = handle.branches[workspace.branch].peel(pygit2.Commit)
            who = handle.default_signature
            made = handle.create_commit(None, who, who, "Theirs", parent.tree_id, [parent.id])
            handle.references[f"refs/heads/{workspace.branch}"].set_target(made)
            theirs.append(str(made))
        sync(descriptor)

    mocker.patch("os.fsync", side_effect=interfere)
    made = workspace.commit("Ours")
    assert made.parent_ids == tuple(theirs)
    assert contents(workspace)["ours"] == b"1\n"


def test_an_index_that_changes_in_between_is_not_overwritten(
    workspace: LaneWorkspace, mocker: MockerFixture
) -> None:
    """What another program staged at the last moment is committed with the rest."""
    write(workspace, ours="1\n", theirs="1\n")
    done: list[bool] = []
    sync = os.fsync

    def interfere(descriptor: int) -> None:
        if not done:
            done.append(True)
            index = handle_of(workspace).index
            index.add("theirs")
            index.write()
        sync(descriptor)

    mocker.patch("os.fsync", side_effect=interfere)
    workspace.commit("Ours", ["ours"])
    assert workspace.status().staged == (ChangedPath("theirs", "added"),)


def test_a_branch_that_moves_during_a_pull_is_said(
    agentrelay_world: World, workspace: LaneWorkspace, mocker: MockerFixture
) -> None:
    """The other's commit stays where it is; the message says what the files are."""
    commit_files(agentrelay_world.remote_path, {"n": "1\n"}, message="T", branch=workspace.branch)
    moved: list[str] = []
    sync = os.fsync

    def interfere(descriptor: int) -> None:
        if not moved and (workspace.path / "n").exists():
            handle = repo_of(workspace)
            parent = handle.branches[workspace.branch].peel(pygit2.Commit)
            who = handle.default_signature
            made = handle.create_commit(None, who, who, "Other", parent.tree_id, [parent.id])
            handle.references[f"refs/heads/{workspace.branch}"].set_target(made)
            moved.append(str(made))
        sync(descriptor)

    mocker.patch("os.fsync", side_effect=interfere)
    with pytest.raises(LaneConflictError, match="was moved by another program"):
        workspace.pull()
    assert refs(workspace.path.parents[2])[f"refs/heads/{workspace.branch}"] == moved[0]


def test_a_pull_that_cannot_write_says_so(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """A folder that is a repository of its own is in the way of a file of that name."""
    commit_files(agentrelay_world.remote_path, {"n": "1\n"}, message="T", branch=workspace.branch)
    pygit2.init_repository(str(workspace.path / "n"))
    with pytest.raises(LaneConflictError, match="in no commit"):
        workspace.pull()
    assert (workspace.path / "n" / ".git").is_dir()


def test_a_pull_that_lacks_an_object_leaves_the_lane_where_it_was(
    workspace: LaneWorkspace,
) -> None:
    """A damaged commit is said to be one, in libgit2's words."""
    handle = handle_of(workspace)
    tree = handle.write(pygit2.enums.ObjectType.TREE, b"100644 lost\0" + b"\1" * 20)
    parent = handle.head.peel(pygit2.Commit)
    who = handle.default_signature
    target = str(handle.create_commit(None, who, who, "Torn", tree, [parent.id]))
    tip = str(parent.id)
    repository = open_repository(workspace.path)
    with pytest.raises(RepositoryError, match="move the worktree forward"):
        fast_forward(
            repository,
            f"refs/heads/{workspace.branch}",
            tip=tip,
            target=target,
            message="pull",
        )
    assert workspace.status().commit_id == tip


@pytest.mark.parametrize("way", ["folder", "gone already"])
def test_files_that_go_with_a_pull(
    agentrelay_world: World, workspace: LaneWorkspace, way: str
) -> None:
    """They go; one that is gone already may be, and one that became a folder may not."""
    remote = pygit2.Repository(str(agentrelay_world.remote_path))
    parent = remote.branches[workspace.branch].peel(pygit2.Commit)
    builder = remote.TreeBuilder(parent.tree)
    builder.remove("run")
    builder.insert("n", remote.create_blob(b"1\n"), FileMode.BLOB)
    who = pygit2.Signature("A", "a@b")
    ref = f"refs/heads/{workspace.branch}"
    remote.create_commit(ref, who, who, "Remove", builder.write(), [parent.id])
    (workspace.path / "run").unlink()
    if way == "folder":
        (workspace.path / "run").mkdir()
        (workspace.path / "run" / "x").write_text("mine\n")
        (workspace.path / "README.md").unlink()
        (workspace.path / "README.md").mkdir()
        with pytest.raises(LaneConflictError, match=r"README\.md"):
            workspace.pull()
        assert (workspace.path / "run" / "x").read_text() == "mine\n"
        return
    index = handle_of(workspace).index
    index.remove("run")
    index.write()
    workspace.pull()
    assert workspace.status().is_clean
    assert not (workspace.path / "run").exists()


def test_many_drafts_in_the_way_are_counted(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """A message names a few, and says how many more."""
    names = [f"n{number}" for number in range(7)]
    files = dict.fromkeys(names, "theirs\n")
    commit_files(agentrelay_world.remote_path, files, message="T", branch=workspace.branch)
    for name in names:
        (workspace.path / name).write_text("draft\n")
    with pytest.raises(LaneConflictError, match="'n4' and 2 more"):
        workspace.pull()


# -- what is left over, or missing


def test_a_merge_that_was_committed_already_is_forgotten(workspace: LaneWorkspace) -> None:
    """Somebody was stopped right after: what says that it goes on is taken away."""
    admin = Path(handle_of(workspace).path)
    (admin / "MERGE_HEAD").write_text(f"{workspace.status().commit_id}\n")
    with pytest.raises(NothingToCommitError):
        workspace.commit("again")
    assert workspace.status().operation is None


def test_a_merge_with_nothing_known_is_refused(workspace: LaneWorkspace) -> None:
    """A parent that is not here would make a broken commit."""
    admin = Path(handle_of(workspace).path)
    for text in ("", "0" * 40, "HEAD\n"):
        (admin / "MERGE_HEAD").write_text(text)
        with pytest.raises(LaneConflictError, match="names no commit"):
            workspace.commit("no")


def test_a_conflict_can_be_resolved_by_a_deletion(workspace: LaneWorkspace) -> None:
    """What is not in the worktree is not in the merge; the text of a merge names its parents."""
    conflicted(workspace)
    (workspace.path / "README.md").unlink()
    assert workspace.resolve(["README.md"]) == ("README.md",)
    made = workspace.commit("Without it")
    assert "README.md" not in contents(workspace)
    assert f"Merge: {made.parent_ids[0][:7]} {made.parent_ids[1][:7]}\n" in made.text


def test_a_branch_that_was_deleted_under_its_worktree_is_said(workspace: LaneWorkspace) -> None:
    """No commit without a parent is made in its place."""
    repo = repo_of(workspace)
    repo.references.delete(f"refs/heads/{workspace.branch}")
    write(workspace, a="1\n")
    for verb in (workspace.status, workspace.push, workspace.pull, lambda: workspace.commit("no")):
        with pytest.raises(LaneConflictError, match="is gone"):
            verb()


def test_without_an_index_everything_is_staged_anew(workspace: LaneWorkspace) -> None:
    """Git reads a missing index as an empty one, and so do we."""
    (Path(handle_of(workspace).path) / "index").unlink()
    write(workspace, a="1\n")
    before = contents(workspace)
    workspace.commit("A")
    assert contents(workspace) == {**before, "a": b"1\n"}


def test_no_reflog_is_written_where_none_is_wanted(workspace: LaneWorkspace) -> None:
    """``core.logAllRefUpdates`` counts for HEAD's as for the branch's."""
    admin = Path(handle_of(workspace).path)
    repo_of(workspace).config["core.logallrefupdates"] = False
    shutil.rmtree(admin / "logs", ignore_errors=True)
    write(workspace, a="1\n")
    workspace.commit("A")
    assert not (admin / "logs" / "HEAD").exists()


def test_a_half_made_worktree_is_no_workspace(workspace: LaneWorkspace) -> None:
    """Nor is a folder that is none; preparing again completes either."""
    admin = Path(handle_of(workspace).path)
    (admin / "locked").write_text("initializing")
    with pytest.raises(LaneConflictError, match="not a whole worktree"):
        workspace.status()
    (admin / "locked").unlink()
    (workspace.path / ".git").unlink()
    with pytest.raises(LaneConflictError, match="not a whole worktree"):
        workspace.status()


def test_a_worktree_of_another_repository_at_the_place_is_refused(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """A ``.git`` file that leads elsewhere does not make it the lane's."""
    other = workspace_in(agentrelay_world, agentrelay_world.clone("other"), "lexer")
    (workspace.path / ".git").write_bytes((other.path / ".git").read_bytes())
    with pytest.raises(RepositoryError, match="is inside the repository"):
        workspace.status()
    # Nor if its entry says that it is.
    Path(handle_of(other).path, "gitdir").write_text(f"{workspace.path / '.git'}\n")
    with pytest.raises(LaneConflictError, match="not a whole worktree"):
        workspace.status()


def test_a_runtime_that_names_another_place_is_refused(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """Paths come from the spec, and are never believed."""
    runtime = WorkstreamRuntime(workspace.runtime.spec)
    runtime.state.branch_name = workspace.branch
    runtime.state.worktree_path = workspace.path.parent / "lexer"
    with pytest.raises(LaneConflictError, match="is not the worktree of"):
        open_lane(runtime)
    agentrelay_world.check()


@pytest.mark.parametrize("path", ["/", "/somewhere", "/a/b/c/d"])
def test_a_runtime_with_any_other_path_is_refused(workspace: LaneWorkspace, path: str) -> None:
    """However short it is."""
    runtime = WorkstreamRuntime(workspace.runtime.spec)
    runtime.state.branch_name = workspace.branch
    runtime.state.worktree_path = Path(path)
    with pytest.raises(LaneConflictError, match="is not the worktree of"):
        open_lane(runtime)


def test_a_record_of_another_worktree_is_not_believed(workspace: LaneWorkspace) -> None:
    """Who opens a lane by its path works in that one and in no other."""
    assert workspace.runtime.state.signal_dir is not None
    record = workspace.runtime.state.signal_dir / "lane.json"
    record.write_text(record.read_text().replace("nightly/parser", "nightly/lexer"))
    with pytest.raises(LaneConflictError, match="is of another worktree"):
        open_lane(workspace.path)


def test_a_link_straight_into_a_worktree_leads_to_its_lane(
    workspace: LaneWorkspace, tmp_path: Path
) -> None:
    """An agent may see its lane under another name."""
    (tmp_path / "mine").symlink_to(workspace.path)
    assert open_lane(tmp_path / "mine").path == workspace.path


def test_a_lane_that_git_added_anew_is_found_by_its_path(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """Its entry has another name then; the path says which lane it is."""
    admin = Path(handle_of(workspace).path)
    renamed = admin.rename(admin.with_name("parser"))
    (workspace.path / ".git").write_text(f"gitdir: {renamed}\n")
    assert open_lane(workspace.path).branch == workspace.branch
    agentrelay_world.check()


# -- strange files


def test_a_file_that_becomes_a_folder_and_the_reverse_are_committed(
    workspace: LaneWorkspace,
) -> None:
    """Whole: nothing of the old one stays."""
    write(workspace, a="1\n", b="1\n")
    workspace.commit("Files")
    (workspace.path / "a").unlink()
    (workspace.path / "a").mkdir()
    (workspace.path / "a" / "x").write_text("1\n")
    workspace.commit("Folder")
    assert {"a/x", "b"} <= set(contents(workspace))
    assert "a" not in contents(workspace)
    shutil.rmtree(workspace.path / "a")
    write(workspace, a="2\n")
    workspace.commit("File", ["a"])
    assert contents(workspace)["a"] == b"2\n"
    assert workspace.status().is_clean


def test_staged_links_and_submodules_are_looked_at(workspace: LaneWorkspace) -> None:
    """A link is committed, only a commit's id is not; all refused paths are counted."""
    (workspace.path / "link").symlink_to("README.md")
    index = handle_of(workspace).index
    index.add("link")
    index.write()
    workspace.commit("Link", ["link"])
    index = handle_of(workspace).index
    for number in range(7):
        entry = pygit2.IndexEntry(
            f"sub{number}", pygit2.Oid(hex=workspace.status().commit_id), FileMode.COMMIT
        )
        index.add(entry)
    index.write()
    with pytest.raises(CommitRefusedError, match="and 2 more") as caught:
        workspace.commit("Submodules")
    assert len(caught.value.paths) == 7


def test_where_the_file_system_knows_no_modes_the_known_ones_stay(
    workspace: LaneWorkspace,
) -> None:
    """``core.fileMode`` is false: what is executable stays so, what is new is not."""
    repo_of(workspace).config["core.filemode"] = False
    write(workspace, run="changed\n", new="1\n")
    (workspace.path / "run").chmod(0o644)
    (workspace.path / "new").chmod(0o755)
    workspace.commit("Modes")
    tree = handle_of(workspace).head.peel(pygit2.Tree)
    assert [tree[name].filemode for name in ("run", "new")] == [0o100755, 0o100644]


def test_a_file_that_was_only_announced_is_an_addition(workspace: LaneWorkspace) -> None:
    """As "git add --intent-to-add" leaves it, and as git lists it."""
    from pygit2.ffi import C

    write(workspace, a="1\n", b="1\n", c="1\n")
    index = handle_of(workspace).index
    index.add("a")
    index.add("b")
    index.write()
    for name in (b"a", b"b"):
        raw = C.git_index_get_bypath(index._index, name, 0)
        raw.flags_extended |= 0x2000
    index.write()
    (workspace.path / "b").unlink()
    status = workspace.status()
    assert status.unstaged == (ChangedPath("a", "added"), ChangedPath("b", "deleted"))
    assert (status.staged, status.untracked) == ((), ("c",))
    workspace.commit("Announced", ["a", "b"])
    assert "a" in contents(workspace)
    assert "b" not in contents(workspace)


def test_a_type_change_is_one_change_in_a_diff(workspace: LaneWorkspace) -> None:
    """The text takes the file away and adds the link, as git's does."""
    (workspace.path / "run").unlink()
    (workspace.path / "run").symlink_to("README.md")
    workspace.commit("Link")
    shown = workspace.diff()
    (change,) = shown.files
    assert (change.path, change.kind) == ("run", "type_changed")
    assert change == FileChange("run", "type_changed", None, change.additions, change.deletions)
    assert "deleted file mode 100755" in shown.text
    assert "new file mode 120000" in shown.text


def test_what_a_sparse_checkout_hides_is_no_difference(workspace: LaneWorkspace) -> None:
    """Neither in the list nor in the text."""
    from pygit2.ffi import C

    index = handle_of(workspace).index
    C.git_index_get_bypath(index._index, b"run", 0).flags_extended |= 0x4000
    index.write()
    (workspace.path / "run").unlink()
    write(workspace, a="1\n")
    shown = workspace.diff("head")
    assert [file.path for file in shown.files] == ["a"]
    assert "run" not in shown.text


def test_a_folder_is_named_with_all_that_is_below(workspace: LaneWorkspace) -> None:
    """However deep, and no folder beside it."""
    for name in ("a/b/c/d", "ab/c"):
        (workspace.path / name).parent.mkdir(parents=True)
        (workspace.path / name).write_text("1\n")
    workspace.commit("Deep", ["a"])
    assert workspace.status().untracked == ("ab/c",)


def test_an_empty_folder_may_be_named(workspace: LaneWorkspace) -> None:
    """It is there, and holds nothing to commit."""
    (workspace.path / "empty").mkdir()
    with pytest.raises(NothingToCommitError):
        workspace.commit("no", ["empty"])


# -- times


@pytest.mark.parametrize(
    ("text", "time_s", "east_minutes"),
    [
        ("1700000000 +0130", 1_700_000_000, 90),
        ("@1700000000 -0800", 1_700_000_000, -480),
        ("Tue, 14 Nov 2023 22:13:20 +0000", 1_700_000_000, 0),
        ("2023-11-14T22:13:20+02:00", 1_699_992_800, 120),
    ],
)
def test_the_environment_may_say_when(
    workspace: LaneWorkspace,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    time_s: int,
    east_minutes: int,
) -> None:
    """In each of git's documented formats, with the time zone."""
    monkeypatch.setenv("GIT_AUTHOR_DATE", text)
    write(workspace, a="1\n")
    made = workspace.commit("A", author="A <a@b>")
    assert made.authored_at.timestamp() == time_s
    assert made.authored_at.utcoffset() == timedelta(minutes=east_minutes)


def test_a_date_without_a_zone_is_the_machines(
    workspace: LaneWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that is none is refused before anything is written."""
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2023-11-14 22:13:20")
    write(workspace, a="1\n")
    workspace.commit("A")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "yesterday")
    write(workspace, b="1\n")
    with pytest.raises(RepositoryError, match="GIT_COMMITTER_DATE is 'yesterday'"):
        workspace.commit("B")


def test_a_time_no_clock_shows_is_shown_all_the_same(workspace: LaneWorkspace) -> None:
    """A commit may hold any number."""
    handle = handle_of(workspace)
    parent = handle.head.peel(pygit2.Commit)
    who = b"A <a@b> 999999999999 +0000"
    raw = b"tree %s\nparent %s\nauthor %s\ncommitter %s\n\nLater\n" % (
        str(parent.tree_id).encode(),
        str(parent.id).encode(),
        who,
        who,
    )
    made = handle.write(pygit2.enums.ObjectType.COMMIT, raw)
    handle.references[f"refs/heads/{workspace.branch}"].set_target(made)
    (commit,) = workspace.log()
    assert (commit.commit_id, commit.authored_at.year) == (str(made), 2106)


# -- branches


def test_a_base_that_is_newer_at_the_remote_counts_as_it_is_there(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """The newer of both, as a lane would be cut from."""
    repo = repo_of(workspace)
    who, parent = repo.default_signature, repo.references["refs/heads/main"].peel(pygit2.Commit)
    newer = repo.create_commit(None, who, who, "Newer", parent.tree_id, [parent.id])
    repo.references["refs/remotes/origin/main"].set_target(newer)
    base = workspace.status().base
    assert base is not None
    assert (base.ahead, base.behind) == (0, 1)
    agentrelay_world.check()


def test_branches_without_a_common_history_are_not_compared(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """It is said, with what may help; and a base that is not here is counted as nothing."""
    repo = repo_of(workspace)
    who = repo.default_signature
    root = repo.create_commit(None, who, who, "Root", repo.TreeBuilder().write(), [])
    repo.references["refs/remotes/origin/main"].set_target(root)
    repo.references["refs/heads/main"].set_target(root)
    with pytest.raises(RepositoryError, match="no history in common"):
        workspace.diff()
    for name in ("refs/remotes/origin/main", "refs/heads/main"):
        repo.references.delete(name)
    assert (workspace.status().base, workspace.status().target) == (None, None)
    agentrelay_world.check()


# -- clones


def test_a_clone_of_a_detached_head_stands_where_it_stands(agentrelay_world: World) -> None:
    """On a branch that is there too, if there is one; else on none."""
    world = agentrelay_world
    remote = pygit2.Repository(str(world.remote_path))
    tip = remote.references["refs/heads/main"].target
    (world.remote_path / "HEAD").write_text(f"{tip}\n")
    first = clone(world.remote_url, world.root / "first", token=world.token)
    assert pygit2.Repository(str(first)).head.name == "refs/heads/main"
    old = remote[tip].peel(pygit2.Commit).parents
    who = remote.default_signature if "user.name" in remote.config else pygit2.Signature("A", "a@b")
    tree = remote[tip].peel(pygit2.Tree)
    lone = remote.create_commit(None, who, who, "Lone", tree.id, [parent.id for parent in old])
    remote.references.create("refs/keep/lone", lone)
    (world.remote_path / "HEAD").write_text(f"{lone}\n")
    second = clone(str(world.remote_path), world.root / "second")
    handle = pygit2.Repository(str(second))
    assert refs(second).keys() >= {"refs/remotes/origin/main"}
    if handle.head_is_unborn:
        # A transport that brings branches alone does not bring that commit.
        assert not (second / "README.md").exists()
    else:
        assert handle.head.target == lone


def test_a_shallow_clone_of_another_branch_or_of_nothing(agentrelay_world: World) -> None:
    """Only that branch is there, and of nothing there is nothing."""
    world = agentrelay_world
    remote = pygit2.Repository(str(world.remote_path))
    remote.references.create("refs/heads/old", remote.references["refs/heads/main"].target)
    path = clone(world.remote_url, world.root / "old", depth=1, branch="old", token=world.token)
    assert refs(path).keys() == {"refs/heads/old", "refs/remotes/origin/old"}
    for name in list(remote.references):
        remote.references.delete(name)
    empty = clone(world.remote_url, world.root / "empty", depth=1, token=world.token)
    assert refs(empty) == {}


def test_a_place_that_is_taken_meanwhile_stays(agentrelay_world: World) -> None:
    """A clone does not replace what somebody put there while it was being fetched."""
    world, path = agentrelay_world, agentrelay_world.root / "place"

    def interfere(_: object) -> None:
        path.mkdir(exist_ok=True)
        (path / "mine").write_text("mine\n")

    with pytest.raises(LaneConflictError, match="is not empty"):
        clone(world.remote_url, path, token=world.token, progress=interfere)
    assert os.listdir(path) == ["mine"]
    assert [name for name in os.listdir(world.root) if name.startswith(".place")] == []


def test_an_address_nobody_can_read_is_refused_by_libgit2(tmp_path: Path) -> None:
    """What the standard library cannot split is no reason to fail otherwise."""
    with pytest.raises(Exception, match="clone") as caught:
        clone("https://[bad/o/n.git", tmp_path / "x")
    assert type(caught.value).__module__.startswith("agentrelay.workstream")


def test_a_lane_can_be_named_from_its_worktree(workspace: LaneWorkspace) -> None:
    """What a workspace says of itself is what the lane's names say."""
    lane = Lane.of(workspace.path.parents[2], "nightly", "parser")
    assert (workspace.path, workspace.branch) == (lane.worktree_path, lane.branch)


@pytest.mark.parametrize("where", ["info", "configured", "home", "index", "folder", "autocrlf"])
def test_rules_for_files_are_found_wherever_git_looks(
    workspace: LaneWorkspace, where: str, tmp_path: Path
) -> None:
    """Line endings are converted and programs refused, wherever the rule stands."""
    rule = "*.txt text\n*.bin filter=lfs\n"
    repo = repo_of(workspace)
    top = workspace.path / "deep"
    top.mkdir()
    settings = pygit2.settings
    xdg = settings.search_path[ConfigLevel.XDG]
    try:
        if where == "info":
            (Path(repo.path) / "info" / "attributes").write_text(rule)
        elif where == "configured":
            (tmp_path / "rules").write_text(rule)
            repo.config["core.attributesfile"] = str(tmp_path / "rules")
        elif where == "home":
            (tmp_path / "attributes").write_text(rule)
            settings.search_path[ConfigLevel.XDG] = str(tmp_path)
        elif where == "autocrlf":
            repo.config["core.autocrlf"] = "input"
        else:
            folder = top if where == "folder" else workspace.path
            (folder / ".gitattributes").write_text(rule)
        if where == "index":
            workspace.commit("Rules", [".gitattributes"])
            (workspace.path / ".gitattributes").unlink()
        (top / "a.txt").write_bytes(b"one\r\ntwo\r\n")
        (top / "b.bin").write_text("raw\n")
        workspace.commit("Text", ["deep/a.txt"])
        assert contents(workspace)["deep/a.txt"] == b"one\ntwo\n"
        if where != "autocrlf":
            with pytest.raises(CommitRefusedError, match="LFS"):
                workspace.commit("Raw", ["deep/b.bin"])
    finally:
        settings.search_path[ConfigLevel.XDG] = xdg


def test_rules_that_cannot_be_read_are_asked_for(workspace: LaneWorkspace) -> None:
    """A folder of that name says nothing, and what libgit2 makes of it counts."""
    (workspace.path / ".gitattributes").mkdir()
    write(workspace, a="1\r\n")
    workspace.commit("A")
    assert contents(workspace)["a"] == b"1\r\n"


def test_an_index_that_a_killed_commit_locked_is_free_again(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """Any lane's next step frees it, for git too; a lock of somebody else's is left alone."""
    repo = workspace.path.parents[2]
    other = workspace_in(agentrelay_world, repo, "lexer")
    held = repo / ".git" / "agentrelay" / "held" / "0123456789abcdef"
    held.write_bytes(b"half an index")
    locks = [Path(handle_of(lane).path) / "index.lock" for lane in (workspace, other)]
    locks[0].hardlink_to(held)
    locks[1].write_bytes(b"git's")
    write(other, a="1\n")
    agentrelay_world.preparer(repo).prepare_workstream(other.runtime)
    assert [lock.exists() for lock in locks] == [False, True]
    assert not held.exists()


def test_an_edit_as_young_as_the_index_is_not_hidden_by_the_commit_of_another_file(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """Size and times are those of what was staged; only the index's age gives it away."""
    write(workspace, a="one\n")
    workspace.commit("A")
    write(workspace, a="two\n")
    handle = handle_of(workspace)
    one = handle.index["a"].id
    handle.index.add("a")
    handle.index.write()
    index = Path(handle.path) / "index"
    # As a clock of coarse ticks leaves it, where the file was staged in the tick of the edit.
    raw = index.read_bytes()[:-20].replace(handle.index["a"].id.raw, one.raw)
    index.write_bytes(raw + hashlib.sha1(raw, usedforsecurity=False).digest())
    youngest_ns = (workspace.path / "a").stat().st_mtime_ns
    os.utime(index, ns=(youngest_ns, youngest_ns))
    write(workspace, b="1\n")
    workspace.commit("B", ["b"])
    assert [change.path for change in workspace.status().unstaged] == ["a"]
    repo = repo_of(workspace)
    agentrelay_world.teardown(Path(repo.workdir)).teardown_workstream(workspace.runtime)
    kept = [ref for ref in repo.references if ref.endswith("/unstaged")]
    assert [repo.revparse_single(f"{ref}:a").peel(pygit2.Blob).data for ref in kept] == [b"two\n"]
