"""The verbs of a lane's worktree: what they tell, what they commit, and what they refuse."""

from __future__ import annotations

import threading
from pathlib import Path

import pygit2
import pytest

from agentrelay.workstream import (
    AheadBehind,
    ChangedPath,
    CommitInfo,
    CommitRefusedError,
    LaneConflictError,
    LaneWorkspace,
    NothingToCommitError,
    RepositoryError,
    WorkstreamError,
    WorkstreamRuntime,
    WorkstreamSpec,
    open_lane,
)
from agentrelay.workstream.testing import World, commit_files, refs
from tests.integration._workspaces import conflicted, contents, workspace_in, write


@pytest.fixture
def workspace(agentrelay_world: World) -> LaneWorkspace:
    """Return the workspace of a lane that was just prepared."""
    return workspace_in(agentrelay_world)


def handle_of(workspace: LaneWorkspace) -> pygit2.Repository:
    """Open the worktree with libgit2."""
    return pygit2.Repository(str(workspace.path))


def tip(workspace: LaneWorkspace) -> str:
    """Return where the lane's branch is."""
    return refs(Path(handle_of(workspace).path).parents[1])[f"refs/heads/{workspace.branch}"]


def new_in(workspace: LaneWorkspace) -> dict[str, bytes]:
    """Return the files of HEAD that the base has not, or not like that."""
    base = contents(workspace, str(workspace.runtime.state.base_commit))
    return {path: data for path, data in contents(workspace).items() if base.get(path) != data}


# -- opening


def test_a_lane_is_found_from_any_path_inside_its_worktree(workspace: LaneWorkspace) -> None:
    """An agent that knows where it stands needs nothing else."""
    deep = workspace.path / "src" / "deep"
    deep.mkdir(parents=True)
    found = open_lane(deep)
    assert (found.path, found.branch, found.remote) == (
        workspace.path,
        workspace.branch,
        "origin",
    )
    assert found.runtime.spec == workspace.runtime.spec


def test_a_lane_whose_signals_are_elsewhere_is_found_too(agentrelay_world: World) -> None:
    """The note beside the lane's lock says where its record is."""
    runtime = WorkstreamRuntime(WorkstreamSpec("parser", base_branch="main"))
    run_dir = agentrelay_world.root / "runs" / "tonight"
    preparer = agentrelay_world.preparer(agentrelay_world.clone(), run_dir=run_dir)
    preparer.prepare_workstream(runtime)
    assert runtime.state.worktree_path is not None
    found = open_lane(runtime.state.worktree_path)
    assert found.runtime.state.signal_dir == run_dir / "workstreams" / "parser"


@pytest.mark.parametrize("where", [".", "clones", "clones/clone"])
def test_a_place_that_is_no_lane_is_refused(agentrelay_world: World, where: str) -> None:
    """The main checkout and what is around it are never taken for a lane."""
    agentrelay_world.clone()
    with pytest.raises(LaneConflictError, match="not inside a lane's worktree"):
        open_lane(agentrelay_world.root / where)


def test_a_lane_that_was_never_prepared_has_no_workspace() -> None:
    """The message says what to do."""
    with pytest.raises(LaneConflictError, match="never prepared") as caught:
        open_lane(WorkstreamRuntime(WorkstreamSpec("parser")))
    assert caught.value.hint == "Prepare it, then open it."


def test_a_lane_that_was_torn_down_is_refused_by_every_verb(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """A workspace that was kept does not bring a lane back."""
    agentrelay_world.teardown(workspace.path.parents[2]).teardown_workstream(workspace.runtime)
    for verb in (workspace.status, lambda: workspace.commit("late")):
        with pytest.raises(LaneConflictError, match="is not there"):
            verb()
    assert not workspace.path.exists()


def test_no_token_is_shown(agentrelay_world: World, workspace: LaneWorkspace) -> None:
    """A workspace in a log gives nothing away."""
    assert str(agentrelay_world.token) not in repr(workspace)


# -- status


def test_status_tells_what_is_staged_changed_new_and_how_far_the_branch_is(
    workspace: LaneWorkspace,
) -> None:
    """Each path is in the lists it belongs to, and the network is not asked."""
    write(workspace, ours__py="1\n")
    workspace.commit("Ours")
    repo = workspace.path.parents[2]
    commit_files(repo, {"theirs.py": "1\n"}, message="Theirs")
    write(workspace, new__txt="new\n", staged__txt="staged\n", README__md="changed\n")
    index = handle_of(workspace).index
    index.add("staged.txt")
    index.write()
    (workspace.path / "ours.py").unlink()
    status = workspace.status()
    assert status.staged == (ChangedPath("staged.txt", "added"),)
    assert status.unstaged == (
        ChangedPath("README.md", "modified"),
        ChangedPath("ours.py", "deleted"),
    )
    assert status.untracked == ("new.txt",)
    assert (status.remote, status.base, status.target) == (
        AheadBehind(1, 0),
        AheadBehind(1, 1),
        AheadBehind(1, 1),
    )
    assert (status.branch, status.commit_id) == (workspace.branch, tip(workspace))
    assert not status.is_clean


def test_status_knows_of_a_detached_head_and_of_branches_that_are_not_here(
    agentrelay_world: World, workspace: LaneWorkspace
) -> None:
    """It looks at whatever is there, and says nothing it cannot know."""
    handle = handle_of(workspace)
    handle.set_head(handle.head.target)
    repo = pygit2.Repository(str(workspace.path.parents[2]))
    repo.references.delete(f"refs/remotes/origin/{workspace.branch}")
    status = workspace.status()
    assert (status.branch, status.remote) == (None, None)
    assert status.base == AheadBehind(0, 0)
    with pytest.raises(LaneConflictError, match="detached HEAD"):
        workspace.commit("lost")
    agentrelay_world.check()


# -- committing


def test_a_commit_has_everything_that_is_not_ignored_and_says_what_it_is(
    workspace: LaneWorkspace,
) -> None:
    """Files, links and modes; the ignored ones stay as they were."""
    write(workspace, __gitignore="*.log\n", tool="#!/bin/sh\n", trace__log="noise\n")
    (workspace.path / "tool").chmod(0o755)
    (workspace.path / "link").symlink_to("tool")
    (workspace.path / "README.md").unlink()
    parent = tip(workspace)
    made = workspace.commit("Add a tool\n\nAnd why.\n", trailers={"Reviewed-by": "R <r@b>"})
    assert tip(workspace) == made.commit_id
    assert made.parent_ids == (parent,)
    assert (made.subject, made.body) == ("Add a tool", "And why.\n\nReviewed-by: R <r@b>")
    assert made.trailers == (("Reviewed-by", "R <r@b>"),)
    assert new_in(workspace) == {
        ".gitignore": b"*.log\n",
        "link": b"tool",
        "tool": b"#!/bin/sh\n",
    }
    assert "README.md" not in contents(workspace)
    tree = handle_of(workspace).head.peel(pygit2.Tree)
    modes = [tree[name].filemode for name in (".gitignore", "link", "tool")]
    assert modes == [0o100644, 0o120000, 0o100755]
    assert workspace.status().is_clean
    assert (workspace.path / "trace.log").read_text() == "noise\n"
    log = Path(handle_of(workspace).path, "logs", "HEAD").read_text()
    assert log.splitlines()[-1].startswith(f"{parent} {made.commit_id} ")
    assert log.endswith("\tcommit: Add a tool\n")


def test_nothing_to_commit_is_said_and_changes_nothing(workspace: LaneWorkspace) -> None:
    """No empty commit is ever made."""
    before = tip(workspace)
    with pytest.raises(NothingToCommitError):
        workspace.commit("nothing")
    write(workspace, a="1\n")
    with pytest.raises(NothingToCommitError, match="below the paths"):
        workspace.commit("nothing", ["README.md"])
    assert tip(workspace) == before


def test_named_paths_leave_everything_else_as_it_was(workspace: LaneWorkspace) -> None:
    """Absolute or relative, file or folder; what somebody else staged stays staged."""
    (workspace.path / "d").mkdir()
    for name in ("d/one", "d/two", "three", "staged"):
        (workspace.path / name).write_text(name)
    index = handle_of(workspace).index
    index.add("staged")
    index.write()
    workspace.commit("Folder", ["d", workspace.path / "three"])
    status = workspace.status()
    assert status.staged == (ChangedPath("staged", "added"),)
    assert (status.unstaged, status.untracked) == ((), ())
    assert set(new_in(workspace)) == {"d/one", "d/two", "three"}


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", ".git/config", "", "no-such-file"])
def test_a_path_that_is_none_of_the_worktrees_is_refused(
    workspace: LaneWorkspace, path: str
) -> None:
    """Before anything is staged."""
    write(workspace, a="1\n")
    with pytest.raises(RepositoryError):
        workspace.commit("no", [path, "a"])
    assert workspace.status().untracked == ("a",)


def test_a_path_through_a_link_is_refused(workspace: LaneWorkspace, tmp_path: Path) -> None:
    """What a link leads to lies elsewhere."""
    (tmp_path / "secret").write_text("secret\n")
    (workspace.path / "link").symlink_to(tmp_path)
    with pytest.raises(LaneConflictError, match="symbolic link"):
        workspace.commit("no", ["link/secret"])


def test_one_path_that_is_no_list_is_refused(workspace: LaneWorkspace) -> None:
    """A text is a sequence of letters, and no letter was meant."""
    with pytest.raises(RepositoryError, match="a single path"):
        workspace.commit("no", "README.md")


def refusal(workspace: LaneWorkspace, *paths: str) -> CommitRefusedError:
    """Try to commit, and return the refusal; nothing is staged or moved by it."""
    before = tip(workspace), workspace.status()
    with pytest.raises(CommitRefusedError) as caught:
        workspace.commit("no", paths or None)
    assert (tip(workspace), workspace.status()) == before
    assert caught.value.hint
    return caught.value


def test_nothing_is_taken_out_of_an_ignored_folder_again(workspace: LaneWorkspace) -> None:
    """Git does not look into one, though a file in it is tracked and a rule names another."""
    (workspace.path / "d/e").mkdir(parents=True)
    write(workspace, **{"d/e/tracked": "1\n"})
    workspace.commit("Tracked")
    write(
        workspace, __gitignore="e/\n*.txt\n!keep.txt\n", **{"d/e/keep__txt": "x", "keep__txt": "x"}
    )
    assert workspace.status().untracked == (".gitignore", "keep.txt")
    with pytest.raises(CommitRefusedError, match="ignore rules"):
        workspace.commit("By name", ["d/e/keep.txt"])
    workspace.commit("All")
    assert "d/e/keep.txt" not in contents(workspace)
    assert (workspace.path / "d/e/keep.txt").read_text() == "x"


def test_an_ignored_path_is_not_committed_by_naming_it(workspace: LaneWorkspace) -> None:
    """Like git, which wants to be forced; a tracked file may be ignored all the same."""
    write(workspace, __gitignore="*.log\nout/\n", a__log="1\n")
    (workspace.path / "out").mkdir()
    (workspace.path / "out" / "x").write_text("1\n")
    assert refusal(workspace, "a.log", "out").paths == ("a.log", "out")
    index = handle_of(workspace).index
    index.add("a.log")
    index.write()
    workspace.commit("Tracked all the same", ["a.log"])
    assert "a.log" in contents(workspace)


def test_a_file_the_remote_would_refuse_is_not_committed(agentrelay_world: World) -> None:
    """All that are too large are named at once, staged ones too; the limit itself may be met."""
    workspace = workspace_in(agentrelay_world, largest_file_bytes=10)
    write(workspace, exact="x" * 10, large="x" * 11, staged="x" * 12)
    index = handle_of(workspace).index
    index.add("staged")
    index.write()
    assert refusal(workspace).paths == ("large", "staged")
    workspace.commit("This one", ["exact"])


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12\n"


def test_only_a_pointer_is_committed_where_git_lfs_tracks(workspace: LaneWorkspace) -> None:
    """Raw content of a large file never gets into the history by mistake."""
    write(workspace, __gitattributes="*.bin filter=lfs diff=lfs merge=lfs -text\n")
    write(workspace, a__bin=POINTER, b__bin="raw\n", empty__bin="")
    refused = refusal(workspace)
    assert refused.paths == ("b.bin",)
    assert "LFS" in refused.reason
    (workspace.path / "b.bin").unlink()
    workspace.commit("Pointers")
    assert contents(workspace)["a.bin"] == POINTER.encode()


def test_what_a_program_would_change_first_is_not_committed(workspace: LaneWorkspace) -> None:
    """A clean filter that is configured, and an encoding that libgit2 does not know."""
    handle_of(workspace).config["filter.secret.clean"] = "sed s/x/y/"
    write(
        workspace,
        __gitattributes="a filter=secret\nb working-tree-encoding=UTF-16\n*.c filter=gone\n",
    )
    write(workspace, a="x\n", b="x\n", free__c="x\n")
    assert refusal(workspace, "a").paths == ("a",)
    assert refusal(workspace, "b").paths == ("b",)
    workspace.commit("No such filter is configured", ["free.c"])


def test_a_repository_inside_is_not_committed(workspace: LaneWorkspace) -> None:
    """Its commits would be lost with the worktree, and only an id would be stored."""
    pygit2.init_repository(str(workspace.path / "inner"))
    commit_files(workspace.path / "inner", {"a": "1\n"}, message="Inner")
    assert refusal(workspace).paths == ("inner/",)


def test_conflicts_are_not_committed_until_they_are_resolved(workspace: LaneWorkspace) -> None:
    """Then the merge is concluded, with both parents and nothing left of its state."""
    theirs = conflicted(workspace)
    ours = tip(workspace)
    assert workspace.status().conflicted == ("README.md",)
    assert workspace.status().operation == "merge"
    assert refusal(workspace).paths == ("README.md",)
    write(workspace, README__md="both\n")
    assert workspace.resolve(["."]) == ("README.md",)
    with pytest.raises(LaneConflictError, match="a part of it cannot"):
        workspace.commit("Only this", ["README.md"])
    made = workspace.commit("Merge theirs")
    assert made.parent_ids == (ours, str(theirs))
    assert new_in(workspace) == {"README.md": b"both\n", "theirs.txt": b"new\n"}
    assert workspace.status().operation is None
    assert workspace.resolve(["README.md"]) == ()


def test_a_rebase_or_pick_in_progress_is_left_alone(workspace: LaneWorkspace) -> None:
    """It is git's to finish; the message says how."""
    handle = handle_of(workspace)
    Path(handle.path, "CHERRY_PICK_HEAD").write_text(f"{tip(workspace)}\n")
    write(workspace, a="1\n")
    with pytest.raises(LaneConflictError, match="cherry-pick is in progress") as caught:
        workspace.commit("no")
    assert "cherry-pick --continue" in str(caught.value.hint)
    assert workspace.status().operation == "cherry-pick"


def test_what_a_sparse_checkout_hides_is_not_deleted(workspace: LaneWorkspace) -> None:
    """A flagged file that is absent is no change, and cannot be named as one."""
    write(workspace, hidden="1\n")
    workspace.commit("Hidden")
    handle = handle_of(workspace)
    from pygit2.ffi import C

    index = handle.index
    raw = C.git_index_get_bypath(index._index, b"hidden", 0)
    raw.flags_extended |= 0x4000
    index.write()
    (workspace.path / "hidden").unlink()
    assert workspace.status().is_clean
    with pytest.raises(NothingToCommitError):
        workspace.commit("gone?")
    assert refusal(workspace, "hidden").paths == ("hidden",)
    write(workspace, a="1\n")
    workspace.commit("Another")
    assert "hidden" in contents(workspace)
    assert workspace.status().is_clean


# -- who


def who(workspace: LaneWorkspace, **settings: str) -> list[str]:
    """Commit something, and return author and committer."""
    write(workspace, a=f"{tip(workspace)}\n")
    made = workspace.commit("Work", **settings)  # type: ignore[arg-type]  # author alone is given
    commit = handle_of(workspace)[made.commit_id].peel(pygit2.Commit)
    return [f"{one.name} <{one.email}>" for one in (commit.author, commit.committer)]


def test_identity_comes_from_caller_environment_configuration_or_the_lane(
    workspace: LaneWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In that order, and never from the machine's names or the main checkout's neighbours."""
    config = pygit2.Repository(str(workspace.path.parents[2])).config
    del config["user.name"], config["user.email"]
    lane = "agentrelay lane nightly/parser <parser.nightly@agentrelay.invalid>"
    monkeypatch.setenv("EMAIL", "root@machine.local")
    assert who(workspace) == [lane, lane]
    assert who(workspace, author="A U Thor <a@b.c>") == ["A U Thor <a@b.c>"] * 2
    config["user.name"], config["user.email"] = "Configured", "c@b.c"
    assert who(workspace) == ["Configured <c@b.c>"] * 2
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Of the <environment>")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "e@b.c")
    assert who(workspace) == ["Of the environment <c@b.c>", "Configured <e@b.c>"]
    assert who(workspace, author="A <a@b.c>") == ["A <a@b.c>", "Configured <e@b.c>"]


def test_who_must_be_configured_where_the_user_says_so(workspace: LaneWorkspace) -> None:
    """``user.useConfigOnly`` forbids a made-up identity here as it does to git."""
    config = pygit2.Repository(str(workspace.path.parents[2])).config
    del config["user.email"]
    config["user.useconfigonly"] = True
    write(workspace, a="1\n")
    with pytest.raises(RepositoryError, match=r"no user\.email is configured"):
        workspace.commit("no")


@pytest.mark.parametrize(
    "author", ["", "No Address", "<a@b>", "A <a@b> x", "A\nB <a@b>", "A <a@b>\n"]
)
def test_an_author_that_is_none_is_refused(workspace: LaneWorkspace, author: str) -> None:
    """Nothing can be smuggled into a commit's header."""
    write(workspace, a="1\n")
    with pytest.raises(RepositoryError, match="not of the form"):
        workspace.commit("no", author=author)


@pytest.mark.parametrize("message", ["", " \n\t\n", "a\0b", "\ud800"])
def test_a_message_that_is_none_is_refused(workspace: LaneWorkspace, message: str) -> None:
    """Before anything is looked at."""
    write(workspace, a="1\n")
    with pytest.raises(RepositoryError, match="cannot commit"):
        workspace.commit(message)


@pytest.mark.parametrize(
    "pair", [("a b", "x"), ("", "x"), ("Key", " "), ("Key", 1), "abc", ("K\n", "x")]
)
def test_a_trailer_that_is_none_is_refused(workspace: LaneWorkspace, pair: object) -> None:
    """A key that git would not read back is a mistake."""
    with pytest.raises(RepositoryError, match="is no trailer"):
        workspace.commit("x", trailers=[pair])  # type: ignore[list-item]  # that is the point


def test_a_trailers_further_lines_are_folded(workspace: LaneWorkspace) -> None:
    """A value cannot begin a trailer of its own."""
    write(workspace, a="1\n")
    made = workspace.commit("x", trailers=[("Note", "one\nSigned-off-by: two\n")])
    assert made.trailers == (("Note", "one Signed-off-by: two"),)


# -- before and after


def test_before_may_change_files_or_stop_the_commit(workspace: LaneWorkspace) -> None:
    """What a check raises reaches the caller, and nothing was committed."""
    write(workspace, a="1 \n")

    def tidy(lane: LaneWorkspace) -> None:
        (lane.path / "a").write_text("1\n")

    def refuse(lane: LaneWorkspace) -> None:
        raise ValueError(f"{len(lane.status().untracked)} files without tests")

    before = tip(workspace)
    with pytest.raises(ValueError, match="1 files without tests"):
        workspace.commit("no", before=refuse)
    assert tip(workspace) == before
    seen: list[CommitInfo] = []
    made = workspace.commit("yes", before=tidy, after=seen.append)
    assert contents(workspace)["a"] == b"1\n"
    assert seen == [made]


def test_what_after_raises_comes_when_the_commit_stands(workspace: LaneWorkspace) -> None:
    """The lane is free by then: it may push, or commit again."""
    write(workspace, a="1\n")

    def fail(made: CommitInfo) -> None:
        write(workspace, b="1\n")
        workspace.commit(f"After {made.subject}")
        raise KeyError("later")

    with pytest.raises(KeyError):
        workspace.commit("First", after=fail)
    assert {"a", "b"} <= set(contents(workspace))


# -- several at once


def test_commits_of_several_threads_all_stay(workspace: LaneWorkspace) -> None:
    """Each commits its own file, and every commit is in the branch's history."""
    failures: list[WorkstreamError] = []

    def work(name: str) -> None:
        for number in range(3):
            (workspace.path / name).write_text(f"{number}\n")
            try:
                workspace.commit(f"{name} {number}", [name])
            except WorkstreamError as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(f"file{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    handle = handle_of(workspace)
    subjects = {commit.message.strip() for commit in handle.walk(tip(workspace))}
    assert {f"file{n} {k}" for n in range(4) for k in range(3)} <= subjects
    assert workspace.status().is_clean
