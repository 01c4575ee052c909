"""Tearing lanes down: everything goes, nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pygit2
import pytest

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    LaneConflictError,
    WorkstreamRuntime,
    WorkstreamSpec,
)
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.testing.repositories import (
    clone_repository,
    commit_files,
    create_bare_repository,
    read_tree,
    refs,
)

BRANCH = "agentrelay/nightly/parser/integration"
REF = f"refs/heads/{BRANCH}"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return a bare repository that plays the remote."""
    return create_bare_repository(tmp_path / "origin.git")


@pytest.fixture
def repo(bare: Path, tmp_path: Path) -> Path:
    """Return a clone of it."""
    return clone_repository(bare, tmp_path / "clone")


@pytest.fixture
def runtime(repo: Path) -> WorkstreamRuntime:
    """Return a prepared lane."""
    made = WorkstreamRuntime(WorkstreamSpec("parser"))
    GitWorkstreamPreparer(repo, "nightly").prepare_workstream(made)
    return made


@pytest.fixture
def worktree(runtime: WorkstreamRuntime) -> Path:
    """Return the prepared lane's worktree."""
    assert runtime.state.worktree_path is not None
    return runtime.state.worktree_path


def tear_down(repo: Path, runtime: WorkstreamRuntime) -> None:
    """Tear a lane down with the default settings."""
    GitWorkstreamTeardown(repo).teardown_workstream(runtime)


def rescued(repo: Path) -> dict[str, str]:
    """Return the rescue refs by their last component."""
    return {
        name.rpartition("/")[2]: name
        for name in refs(repo)
        if name.startswith("refs/agentrelay/rescue/nightly/parser/")
    }


def assert_gone(repo: Path, bare: Path) -> None:
    """Assert that nothing of the lane stands."""
    assert REF not in refs(repo)
    assert REF not in refs(bare)
    assert f"refs/remotes/origin/{BRANCH}" not in refs(repo)
    assert not (repo / ".worktrees/nightly/parser").exists()
    assert not (repo / ".git/worktrees").exists()
    assert BRANCH not in (repo / ".git/config").read_text()


def test_a_clean_lane_goes_without_a_trace(
    repo: Path, bare: Path, runtime: WorkstreamRuntime
) -> None:
    """Worktree, entry, both branches and the upstream go; nothing is rescued or reported."""
    tear_down(repo, runtime)
    assert_gone(repo, bare)
    assert rescued(repo) == {}
    assert runtime.artifacts.concerns == []


def test_tearing_down_twice_is_fine(repo: Path, bare: Path, runtime: WorkstreamRuntime) -> None:
    """The second time there is nothing left to do and nothing to report."""
    tear_down(repo, runtime)
    tear_down(repo, runtime)
    assert_gone(repo, bare)
    assert runtime.artifacts.concerns == []


def test_a_lane_that_was_never_prepared_is_nothing_to_do(repo: Path) -> None:
    """No state, no effect, no error."""
    before = refs(repo)
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    tear_down(repo, runtime)
    assert refs(repo) == before
    assert runtime.artifacts.concerns == []


def test_unmerged_commits_are_kept_under_a_rescue_ref(
    repo: Path, bare: Path, runtime: WorkstreamRuntime, worktree: Path
) -> None:
    """Commits that are merged nowhere outlive their branch, and a concern says where."""
    work = commit_files(worktree, {"work.py": "pass"}, message="work")
    tear_down(repo, runtime)
    assert_gone(repo, bare)
    assert refs(repo)[rescued(repo)["commits"]] == work
    (concern,) = runtime.artifacts.concerns
    assert rescued(repo)["commits"] in concern


def test_merged_commits_leave_no_rescue_ref(
    repo: Path, bare: Path, runtime: WorkstreamRuntime, worktree: Path
) -> None:
    """A lane whose commits are in the remote's target is simply gone."""
    work = commit_files(worktree, {"work.py": "pass"}, message="work")
    origin = pygit2.Repository(str(worktree)).remotes["origin"]
    origin.push([f"{work}:refs/heads/main"])
    tear_down(repo, runtime)
    assert_gone(repo, bare)
    assert rescued(repo) == {}


def test_a_squash_merged_lane_leaves_no_rescue_ref(
    repo: Path, bare: Path, runtime: WorkstreamRuntime, worktree: Path
) -> None:
    """The target holds the same content by a commit of its own."""
    commit_files(worktree, {"work.py": "one"}, message="one")
    commit_files(worktree, {"work.py": "two"}, message="two")
    commit_files(bare, {"work.py": "two"}, message="squashed", branch="main")
    commit_files(bare, {"unrelated": "x"}, message="later", branch="main")
    tear_down(repo, runtime)
    assert_gone(repo, bare)
    assert rescued(repo) == {}


def test_commits_that_undo_each_other_are_kept(
    repo: Path, runtime: WorkstreamRuntime, worktree: Path
) -> None:
    """An empty difference is no proof that a history is somewhere else."""
    commit_files(worktree, {"idea.py": "idea"}, message="an idea")
    tip = commit_files(worktree, {"idea.py": None}, message="or not")
    tear_down(repo, runtime)
    assert refs(repo)[rescued(repo)["commits"]] == tip


def test_staged_unstaged_untracked_and_ignored_files_are_kept(
    repo: Path, bare: Path, runtime: WorkstreamRuntime, worktree: Path
) -> None:
    """Each kind of unsaved work becomes a commit with the very bytes."""
    tracked = next(iter(read_tree(repo, "refs/heads/main")))
    handle = pygit2.Repository(str(worktree))
    (worktree / "staged.txt").write_text("staged")
    handle.index.add("staged.txt")
    handle.index.write()
    (worktree / tracked).write_bytes(b"changed\r\n")
    (worktree / "new dir").mkdir()
    (worktree / "new dir" / "untracked.txt").write_text("untracked")
    (worktree / "link").symlink_to("nowhere")
    (worktree / "run.sh").write_text("#!/bin/sh\n")
    (worktree / "run.sh").chmod(0o755)
    exclude = repo / ".git/info/exclude"
    exclude.write_text(exclude.read_text() + "*.env\ncache/\n")
    (worktree / "local.env").write_text("setting")
    (worktree / "cache" / "deep").mkdir(parents=True)
    (worktree / "cache" / "deep" / "blob").write_bytes(b"\x00cache")
    tear_down(repo, runtime)
    assert_gone(repo, bare)
    kept = {label: read_tree(repo, ref) for label, ref in rescued(repo).items()}
    assert kept["staged"]["staged.txt"] == b"staged"
    assert kept["unstaged"][tracked] == b"changed\r\n"
    assert kept["untracked"]["new dir/untracked.txt"] == b"untracked"
    assert kept["untracked"]["link"] == b"nowhere"
    assert kept["ignored"]["local.env"] == b"setting"
    assert kept["ignored"]["cache/deep/blob"] == b"\x00cache"
    tree = pygit2.Repository(str(repo)).revparse_single(rescued(repo)["untracked"])
    assert tree.peel(pygit2.Tree)["run.sh"].filemode == pygit2.enums.FileMode.BLOB_EXECUTABLE
    assert len(runtime.artifacts.concerns) == 4


def test_a_detached_head_with_commits_is_kept(
    repo: Path, runtime: WorkstreamRuntime, worktree: Path
) -> None:
    """Commits no branch ever pointed to are kept as well."""
    handle = pygit2.Repository(str(worktree))
    handle.set_head(handle.head.target)
    tip = commit_files(worktree, {"loose.py": "x"}, message="on no branch")
    tear_down(repo, runtime)
    assert refs(repo)[rescued(repo)["detached"]] == tip


def test_commits_others_pushed_to_the_remote_branch_are_kept(
    repo: Path, bare: Path, runtime: WorkstreamRuntime
) -> None:
    """What only the remote branch held is fetched before that branch goes."""
    theirs = commit_files(bare, {"theirs.py": "x"}, message="theirs", branch=BRANCH)
    tear_down(repo, runtime)
    assert_gone(repo, bare)
    assert refs(repo)[rescued(repo)["remote"]] == theirs


def test_a_locked_worktree_keeps_itself_and_its_branch(
    repo: Path, runtime: WorkstreamRuntime, worktree: Path
) -> None:
    """A lock somebody put there is respected, and the reason is repeated."""
    name = Lane.of(repo, "nightly", "parser").admin_name
    (repo / ".git/worktrees" / name / "locked").write_text("on a USB stick")
    tear_down(repo, runtime)
    assert worktree.is_dir()
    assert REF in refs(repo)
    assert "on a USB stick" in runtime.artifacts.concerns[0]


def test_a_nested_repository_keeps_the_worktree(
    repo: Path, bare: Path, runtime: WorkstreamRuntime, worktree: Path
) -> None:
    """What cannot be kept is not deleted."""
    nested = clone_repository(bare, worktree / "vendored")
    tear_down(repo, runtime)
    assert nested.is_dir()
    assert REF in refs(repo)
    assert "vendored" in " ".join(runtime.artifacts.concerns)


def test_an_unreachable_remote_does_not_stop_the_local_steps(
    repo: Path, bare: Path, runtime: WorkstreamRuntime, worktree: Path
) -> None:
    """Worktree and local branch go; the remote's part is a concern, and can be repeated."""
    away = bare.with_name("away.git")
    bare.rename(away)
    work = commit_files(worktree, {"work.py": "pass"}, message="work")
    tear_down(repo, runtime)
    assert not worktree.exists()
    assert REF not in refs(repo)
    assert refs(repo)[rescued(repo)["commits"]] == work
    assert any("reach the remote" in concern for concern in runtime.artifacts.concerns)
    away.rename(bare)
    tear_down(repo, runtime)
    assert REF not in refs(bare)


def test_a_deleted_folder_is_no_obstacle(
    repo: Path, bare: Path, runtime: WorkstreamRuntime, worktree: Path
) -> None:
    """A lane that is half gone is removed the rest of the way."""
    shutil.rmtree(worktree)
    tear_down(repo, runtime)
    assert_gone(repo, bare)


def test_a_branch_deleted_by_hand_is_no_obstacle(
    repo: Path, bare: Path, runtime: WorkstreamRuntime
) -> None:
    """Likewise when the branch went first."""
    pygit2.Repository(str(repo)).references.delete(REF)
    tear_down(repo, runtime)
    assert_gone(repo, bare)


def test_a_directory_that_is_not_the_lanes_worktree_stays(
    repo: Path, runtime: WorkstreamRuntime, worktree: Path
) -> None:
    """Whatever replaced the worktree is left alone."""
    shutil.rmtree(worktree)
    worktree.mkdir()
    (worktree / "notes.txt").write_text("mine")
    tear_down(repo, runtime)
    assert (worktree / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "branch", ["main", "agentrelay/nightly/other/integration", "agentrelay/../parser/integration"]
)
def test_a_state_that_names_somebody_elses_branch_is_refused(
    repo: Path, runtime: WorkstreamRuntime, branch: str
) -> None:
    """Only the lane's own names are ever deleted, whatever the state claims."""
    before = refs(repo)
    runtime.state.branch_name = branch
    with pytest.raises((LaneConflictError, ValueError)):
        tear_down(repo, runtime)
    assert refs(repo) == before


def test_a_branch_checked_out_elsewhere_stays(
    repo: Path, tmp_path: Path, runtime: WorkstreamRuntime, worktree: Path
) -> None:
    """A second checkout of the lane's branch keeps it."""
    shutil.rmtree(worktree)
    handle = pygit2.Repository(str(repo))
    entry = repo / ".git/worktrees" / Lane.of(repo, "nightly", "parser").admin_name
    shutil.rmtree(entry)
    handle.add_worktree("second", str(tmp_path / "second"), handle.references[REF])
    tear_down(repo, runtime)
    assert REF in refs(repo)
    assert any(str(tmp_path / "second") in concern for concern in runtime.artifacts.concerns)


def test_two_lanes_do_not_count_on_each_other(repo: Path) -> None:
    """The same commit on two lanes is kept although each had it from the other."""
    lanes = [WorkstreamRuntime(WorkstreamSpec(name)) for name in ("parser", "other")]
    for made in lanes:
        GitWorkstreamPreparer(repo, "nightly").prepare_workstream(made)
    first, second = (made.state.worktree_path for made in lanes)
    assert first is not None
    assert second is not None
    work = commit_files(first, {"work.py": "pass"}, message="work")
    handle = pygit2.Repository(str(second))
    handle.reset(work, pygit2.enums.ResetMode.HARD)
    for made in lanes:
        tear_down(repo, made)
    kept = [ref for ref in refs(repo) if ref.startswith("refs/agentrelay/rescue/")]
    assert {refs(repo)[ref] for ref in kept} == {work}


def test_packed_refs_of_others_survive(repo: Path, runtime: WorkstreamRuntime) -> None:
    """Deleting a packed lane branch rewrites nobody else's line."""
    handle = pygit2.Repository(str(repo))
    tip = str(handle.head.target)
    (repo / ".git/packed-refs").write_text(
        "# pack-refs with: peeled fully-peeled sorted \n"
        f"{tip} {REF}\n{tip} refs/heads/theirs\n{tip} refs/tags/v1\n^{tip}\n"
    )
    (repo / ".git" / REF).unlink()
    tear_down(repo, runtime)
    assert (repo / ".git/packed-refs").read_text() == (
        "# pack-refs with: peeled fully-peeled sorted \n"
        f"{tip} refs/heads/theirs\n{tip} refs/tags/v1\n^{tip}\n"
    )


def test_a_teardown_says_that_it_was_begun_and_a_prepare_takes_it_back(
    repo: Path, bare: Path, runtime: WorkstreamRuntime, worktree: Path
) -> None:
    """Until it is over the record has it, so that what a crash leaves is not taken for a lane."""
    record = repo / ".workflow/nightly/workstreams/parser/lane.json"
    assert not json.loads(record.read_text())["ending"]
    (repo / ".git/HEAD").write_text(f"ref: {REF}\n")
    tear_down(repo, runtime)
    assert not worktree.exists()
    assert REF in refs(bare)
    assert json.loads(record.read_text())["ending"] is True
    pygit2.Repository(str(repo)).set_head("refs/heads/main")
    GitWorkstreamPreparer(repo, "nightly").prepare_workstream(runtime)
    assert not json.loads(record.read_text())["ending"]
    tear_down(repo, runtime)
    assert_gone(repo, bare)
    assert not json.loads(record.read_text())["ending"]


def test_the_empty_folder_of_a_worktree_goes(
    repo: Path, bare: Path, runtime: WorkstreamRuntime, worktree: Path
) -> None:
    """Somebody emptied it by hand; nothing of the lane is left standing."""
    shutil.rmtree(worktree)
    worktree.mkdir()
    tear_down(repo, runtime)
    assert_gone(repo, bare)


def test_a_worktree_whose_prepare_stopped_before_its_entry_goes(
    repo: Path, bare: Path, runtime: WorkstreamRuntime, worktree: Path
) -> None:
    """A folder that holds nothing but our own link to an entry never made is the lane's."""
    shutil.rmtree(repo / ".git/worktrees")
    for path in worktree.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != ".git":
            path.unlink()
    tear_down(repo, runtime)
    assert_gone(repo, bare)
    assert runtime.artifacts.concerns == []


def test_pipes_and_nothing_else_leave_no_rescue_ref(
    repo: Path, runtime: WorkstreamRuntime, worktree: Path
) -> None:
    """What tools leave to talk through holds no work, ignored or not."""
    exclude = repo / ".git" / "info" / "exclude"
    exclude.write_text(exclude.read_text() + "*.sock\ncache/\n")
    (worktree / "cache").mkdir()
    for name in ("pipe", "agent.sock", "cache/agent"):
        os.mkfifo(worktree / name)
    tear_down(repo, runtime)
    assert runtime.artifacts.concerns == []
    assert not [ref for ref in refs(repo) if "/rescue/" in ref]
    assert not worktree.exists()
