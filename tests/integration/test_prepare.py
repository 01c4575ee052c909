"""Preparing lanes on real repositories."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pygit2
import pytest

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    LaneBusyError,
    LaneConflictError,
    LaneNameError,
    RepositoryError,
    WorkstreamError,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
)
from agentrelay.workstream._git.locks import hold
from agentrelay.workstream._git.repository import open_repository
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


def lane(workstream_id: str = "parser", **spec: str) -> WorkstreamRuntime:
    """Return a fresh runtime."""
    return WorkstreamRuntime(WorkstreamSpec(workstream_id, **spec))


def prepare(repo: Path, workstream_id: str = "parser", **spec: str) -> WorkstreamRuntime:
    """Prepare a lane and return its runtime."""
    runtime = lane(workstream_id, **spec)
    GitWorkstreamPreparer(repo, "nightly").prepare_workstream(runtime)
    return runtime


def admin_dir(repo: Path, workstream_id: str = "parser") -> Path:
    """Return the administrative entry of a lane's worktree."""
    return repo / ".git" / "worktrees" / Lane.of(repo, "nightly", workstream_id).admin_name


def files(directory: Path) -> dict[str, bytes]:
    """Return the files of a worktree by relative path."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".git"
    }


def test_prepare_makes_branch_worktree_upstream_and_signals(repo: Path, bare: Path) -> None:
    """One call gives everything the reference promises."""
    runtime = prepare(repo)

    worktree = repo / ".worktrees" / "nightly" / "parser"
    assert runtime.state.worktree_path == worktree
    assert runtime.state.branch_name == BRANCH
    assert runtime.state.signal_dir == repo / ".workflow" / "nightly" / "workstreams" / "parser"
    assert runtime.status is WorkstreamStatus.PENDING
    main = refs(bare)["refs/heads/main"]
    assert runtime.state.base_commit == main
    assert refs(repo)[REF] == refs(bare)[REF] == main
    assert files(worktree) == read_tree(repo, "refs/heads/main")
    config = pygit2.Repository(str(repo)).config
    assert config[f"branch.{BRANCH}.remote"] == "origin"
    assert config[f"branch.{BRANCH}.merge"] == REF
    assert pygit2.Repository(str(worktree)).status() == {}


def test_prepare_leaves_the_users_checkout_alone(repo: Path) -> None:
    """Branches, HEAD, index and files of the user are the same bytes afterwards."""
    (repo / "draft.txt").write_text("not saved yet")
    before = (
        (repo / ".git" / "HEAD").read_bytes(),
        (repo / ".git" / "index").read_bytes(),
        refs(repo)["refs/heads/main"],
    )
    prepare(repo)
    after = (
        (repo / ".git" / "HEAD").read_bytes(),
        (repo / ".git" / "index").read_bytes(),
        refs(repo)["refs/heads/main"],
    )
    assert after == before
    # Neither lanes nor signals show up among the user's untracked files.
    assert list(pygit2.Repository(str(repo)).status()) == ["draft.txt"]


def test_the_lane_is_cut_from_the_remotes_newer_base(repo: Path, bare: Path) -> None:
    """A stale local main does not make a stale lane, and is not moved."""
    stale = refs(repo)["refs/heads/main"]
    newer = commit_files(bare, {"new.txt": "new"}, message="newer", branch="main")
    runtime = prepare(repo)
    assert runtime.state.base_commit == newer
    assert refs(repo)["refs/heads/main"] == stale


def test_the_lane_is_cut_from_the_local_base_when_that_is_ahead(repo: Path) -> None:
    """Local commits that only lack a push are in the lane."""
    ahead = commit_files(repo, {"local.txt": "local"}, message="ahead")
    assert prepare(repo).state.base_commit == ahead


def test_a_diverged_base_takes_the_remotes_side_and_says_so(repo: Path, bare: Path) -> None:
    """Where both sides have commits of their own, a concern names both."""
    local = commit_files(repo, {"local.txt": "local"}, message="local")
    remote = commit_files(bare, {"remote.txt": "remote"}, message="remote", branch="main")
    runtime = prepare(repo)
    assert runtime.state.base_commit == remote
    (concern,) = runtime.artifacts.concerns
    assert local[:12] in concern
    assert remote[:12] in concern


def test_a_base_that_exists_only_here_works(repo: Path, bare: Path) -> None:
    """A base branch nobody pushed can still carry lanes."""
    handle = pygit2.Repository(str(repo))
    handle.references.create("refs/heads/topic", refs(repo)["refs/heads/main"])
    prepare(repo, base_branch="topic")
    assert REF in refs(bare)


def test_a_base_that_exists_nowhere_is_named_and_nothing_is_made(repo: Path, bare: Path) -> None:
    """The error names the branch; no branch, worktree or signal is left."""
    before = refs(repo), refs(bare)
    with pytest.raises(RepositoryError, match="'nowhere'") as caught:
        prepare(repo, base_branch="nowhere")
    assert caught.value.hint
    assert (refs(repo), refs(bare)) == before
    assert not (repo / ".worktrees").exists()
    assert not (repo / ".workflow").exists()


@pytest.mark.parametrize(
    "bad",
    [
        "", "..", "../up", "/abs", "a/b", "a\\b", "-x", ".x", "x.", "x.lock", "x.LOCK", "a..b",
        "a@{b", "a b", "a\nb", "a\x00b", "nul", "CON", "com1.txt", "HEAD", "x" * 101, "caf\u00e9",
        "a:b", "a~1", "a^", "a?", "a*", "a[",
    ],
)  # fmt: skip
def test_a_bad_id_is_refused_by_rule_before_anything_happens(repo: Path, bad: str) -> None:
    """Every name that cannot be a ref and a directory is refused with the rule it breaks."""
    before = refs(repo)
    with pytest.raises(LaneNameError) as caught:
        prepare(repo, bad)
    assert caught.value.rule
    assert caught.value.rule in str(caught.value)
    assert refs(repo) == before
    assert not (repo / ".worktrees").exists()
    with pytest.raises(LaneNameError):
        GitWorkstreamPreparer(repo, bad).prepare_workstream(lane())


@pytest.mark.parametrize("bad", ["", "a..b", "-x", "a b", "refs/heads/main", "a.lock", "a//b", "@"])
def test_a_bad_base_or_target_is_refused(repo: Path, bad: str) -> None:
    """Branch names are checked by git's own rules."""
    with pytest.raises(LaneNameError):
        prepare(repo, base_branch=bad)
    with pytest.raises(LaneNameError):
        prepare(repo, merge_target_branch=bad)


def test_ids_that_differ_only_by_case_are_refused(repo: Path) -> None:
    """Two such lanes would share files on macOS and Windows."""
    prepare(repo, "parser")
    with pytest.raises(LaneNameError, match="only by case"):
        prepare(repo, "Parser")
    with pytest.raises(LaneNameError, match="only by case"):
        GitWorkstreamPreparer(repo, "Nightly").prepare_workstream(lane("other"))


def test_preparing_twice_changes_nothing(repo: Path, bare: Path) -> None:
    """A second prepare adopts the lane, with the agent's work in it."""
    runtime = prepare(repo)
    worktree = repo / ".worktrees/nightly/parser"
    work = commit_files(worktree, {"work.py": "pass"}, message="work")
    (worktree / "draft").write_text("draft")
    again = prepare(repo)
    assert again.state == runtime.state
    assert refs(repo)[REF] == work
    assert (worktree / "draft").read_text() == "draft"
    assert refs(bare)[REF] == runtime.state.base_commit


@pytest.mark.parametrize("kind", ["bare", "linked", "run_dir"])
def test_lanes_live_in_bare_repositories_and_linked_worktrees(
    repo: Path, bare: Path, tmp_path: Path, kind: str
) -> None:
    """The repository may be bare, or itself a linked worktree; signals may lie elsewhere."""
    where, run_dir = repo, None
    if kind == "bare":
        where = tmp_path / "mirror.git"
        shutil.copytree(bare, where)
        pygit2.Repository(str(where)).remotes.create("origin", str(bare))
    elif kind == "linked":
        where = tmp_path / "linked"
        pygit2.Repository(str(repo)).add_worktree("linked", str(where))
    else:
        run_dir = tmp_path / "run"
    runtime = lane()
    GitWorkstreamPreparer(where, "nightly", run_dir=run_dir).prepare_workstream(runtime)
    worktree = where / ".worktrees/nightly/parser"
    assert files(worktree) == read_tree(bare, "refs/heads/main")
    assert pygit2.Repository(str(worktree)).status() == {}
    if run_dir is not None:
        assert runtime.state.signal_dir == run_dir / "workstreams" / "parser"


def test_a_directory_below_the_top_is_not_the_repository(repo: Path) -> None:
    """A lane never lands in the repository that happens to lie above."""
    inside = repo / "sub"
    inside.mkdir()
    with pytest.raises(RepositoryError, match="not a git repository"):
        GitWorkstreamPreparer(inside, "nightly").prepare_workstream(lane())
    with pytest.raises(RepositoryError, match="not a directory"):
        GitWorkstreamPreparer(repo / "absent", "nightly").prepare_workstream(lane())


def test_two_graphs_in_one_run_directory_do_not_share_a_lane(repo: Path, tmp_path: Path) -> None:
    """The same id of another graph would overwrite the first lane's signals."""
    run_dir = tmp_path / "run"
    first = lane()
    GitWorkstreamPreparer(repo, "nightly", run_dir=run_dir).prepare_workstream(first)
    with pytest.raises(LaneConflictError, match="another lane"):
        GitWorkstreamPreparer(repo, "weekly", run_dir=run_dir).prepare_workstream(lane())
    assert first.state.signal_dir is not None
    assert WorkstreamRuntime.load(first.state.signal_dir).state == first.state


def test_a_missing_remote_is_named(repo: Path) -> None:
    """Without the remote nothing is made."""
    with pytest.raises(RepositoryError, match="no usable remote named 'upstream'"):
        GitWorkstreamPreparer(repo, "nightly", remote="upstream").prepare_workstream(lane())
    assert not (repo / ".worktrees").exists()


def test_a_relative_remote_path_means_what_git_means(repo: Path, bare: Path) -> None:
    """A relative URL starts at the repository, whatever the current directory is."""
    pygit2.Repository(str(repo)).remotes.set_url("origin", "../origin.git")
    prepare(repo)
    assert REF in refs(bare)


def test_a_file_url_works(repo: Path, bare: Path) -> None:
    """The remote may be a file:// URL."""
    pygit2.Repository(str(repo)).remotes.set_url("origin", bare.as_uri())
    prepare(repo)
    assert REF in refs(bare)


def test_a_foreign_directory_in_the_way_is_a_conflict_and_stays(repo: Path) -> None:
    """What is not this repository's worktree on this branch is never taken for a lane."""
    foreign = repo / ".worktrees/nightly/parser/notes.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    with pytest.raises(LaneConflictError, match=r"notes\.txt"):
        prepare(repo)
    assert foreign.read_text() == "mine"
    assert REF not in refs(repo)


def test_another_repository_in_the_way_is_a_conflict(repo: Path, bare: Path) -> None:
    """A clone at the lane's path is not a lane."""
    clone_repository(bare, repo / ".worktrees/nightly/parser")
    with pytest.raises(LaneConflictError):
        prepare(repo)


def test_a_worktree_on_another_branch_is_a_conflict(repo: Path) -> None:
    """A lane whose worktree was switched away is not adopted."""
    prepare(repo)
    worktree = repo / ".worktrees/nightly/parser"
    handle = pygit2.Repository(str(worktree))
    handle.set_head(handle.head.target)
    with pytest.raises(LaneConflictError, match="detached HEAD"):
        prepare(repo)


def test_an_unknown_branch_of_that_name_is_a_conflict(repo: Path) -> None:
    """A branch with commits that nothing says are ours is left alone."""
    handle = pygit2.Repository(str(repo))
    before = handle.head.target
    tip = commit_files(repo, {"x": "x"}, message="x")
    handle.references.create(REF, tip)
    handle.reset(before, pygit2.enums.ResetMode.HARD)
    with pytest.raises(LaneConflictError, match="nothing here says"):
        prepare(repo)
    assert refs(repo)[REF] == tip


def test_a_branch_in_the_way_of_the_lanes_folder_is_named(repo: Path) -> None:
    """``agentrelay/nightly`` as a branch leaves no room for lanes below it."""
    handle = pygit2.Repository(str(repo))
    handle.references.create("refs/heads/agentrelay/nightly", handle.head.target)
    with pytest.raises(LaneConflictError, match="agentrelay/nightly"):
        prepare(repo)


def test_a_lane_somebody_else_pushed_is_a_conflict(repo: Path, bare: Path, tmp_path: Path) -> None:
    """One lane has one winner across clones: who created the remote branch."""
    other = clone_repository(bare, tmp_path / "other")
    prepare(repo)
    with pytest.raises(LaneConflictError, match="already has the branch"):
        prepare(other)
    assert REF not in refs(other)
    assert not (other / ".worktrees").exists()


@pytest.mark.parametrize("link", [".worktrees", ".workflow", ".worktrees/nightly"])
def test_symbolic_links_that_lead_elsewhere_are_refused(
    repo: Path, tmp_path: Path, link: str
) -> None:
    """A lane is never written through a link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (repo / link).parent.mkdir(exist_ok=True)
    (repo / link).symlink_to(outside)
    with pytest.raises(LaneConflictError, match="symbolic link"):
        prepare(repo)
    assert os.listdir(outside) == []


def test_a_deleted_folder_is_written_again(repo: Path) -> None:
    """The branch's commits are all there; what was staged is kept under a rescue ref."""
    prepare(repo)
    worktree = repo / ".worktrees/nightly/parser"
    commit_files(worktree, {"work.py": "pass"}, message="work")
    handle = pygit2.Repository(str(worktree))
    (worktree / "staged.txt").write_text("staged")
    handle.index.add("staged.txt")
    handle.index.write()
    shutil.rmtree(worktree)
    runtime = prepare(repo)
    assert files(worktree) == read_tree(repo, REF)
    assert pygit2.Repository(str(worktree)).status() == {}
    (rescue,) = [ref for ref in refs(repo) if ref.startswith("refs/agentrelay/rescue/")]
    assert read_tree(repo, rescue)["staged.txt"] == b"staged"
    assert rescue in runtime.artifacts.concerns[0]


def test_a_deleted_branch_comes_back_where_it_was(repo: Path) -> None:
    """Deleting the branch under a live worktree loses no commit."""
    prepare(repo)
    worktree = repo / ".worktrees/nightly/parser"
    work = commit_files(worktree, {"work.py": "pass"}, message="work")
    pygit2.Repository(str(repo)).references.delete(REF)
    prepare(repo)
    assert refs(repo)[REF] == work


def test_debris_of_a_failed_add_worktree_does_not_stop_a_prepare(repo: Path) -> None:
    """An empty administrative folder, as libgit2 leaves it, is cleared."""
    admin_dir(repo).mkdir(parents=True)
    prepare(repo)
    assert files(repo / ".worktrees/nightly/parser") == read_tree(repo, "refs/heads/main")


def test_a_moved_worktree_is_named(repo: Path, tmp_path: Path) -> None:
    """A lane somebody moved is a conflict that says where it is."""
    prepare(repo)
    moved = tmp_path / "moved"
    (repo / ".worktrees/nightly/parser").rename(moved)
    (admin_dir(repo) / "gitdir").write_text(f"{moved / '.git'}\n")
    with pytest.raises(LaneConflictError, match=str(moved)):
        prepare(repo)


def test_a_repository_moved_as_a_whole_keeps_its_lanes(repo: Path, tmp_path: Path) -> None:
    """In a container with another mount path the lane is connected again, work included."""
    prepare(repo)
    (repo / ".worktrees/nightly/parser/draft").write_text("draft")
    elsewhere = tmp_path / "elsewhere"
    repo.rename(elsewhere)
    runtime = prepare(elsewhere)
    worktree = elsewhere / ".worktrees/nightly/parser"
    assert runtime.state.worktree_path == worktree
    assert pygit2.Repository(str(worktree)).status() == {"draft": pygit2.enums.FileStatus.WT_NEW}


def test_signals_of_an_earlier_run_do_not_decide_a_new_lane(repo: Path, bare: Path) -> None:
    """A lane prepared anew is PENDING although ``merged`` still lies there."""
    runtime = prepare(repo)
    runtime.mark_merged()
    from agentrelay.workstream import GitWorkstreamTeardown

    GitWorkstreamTeardown(repo).teardown_workstream(runtime)
    assert runtime.artifacts.concerns == []
    assert REF not in refs(bare)
    assert prepare(repo).status is WorkstreamStatus.PENDING


def test_a_held_lane_is_busy_in_bounded_time(repo: Path) -> None:
    """Another holder of the same lane is waited for as long as asked, then named."""
    own = open_repository(repo).own_dir
    name = Lane.of(repo, "nightly", "parser").admin_name
    preparer = GitWorkstreamPreparer(repo, "nightly", lane_timeout_s=0.02)
    with (
        hold(own / "lanes" / f"{name}.lock", what="test", timeout_s=1),
        pytest.raises(LaneBusyError, match="nightly/parser"),
    ):
        preparer.prepare_workstream(lane())
    preparer.prepare_workstream(lane())


def test_the_record_rebuilds_the_runtime_in_another_process(repo: Path) -> None:
    """What is on disk is enough to carry on."""
    runtime = prepare(repo, merge_target_branch="main")
    runtime.mark_pr_created("https://github.com/octo/widgets/pull/7")
    assert runtime.state.signal_dir is not None
    loaded = WorkstreamRuntime.load(runtime.state.signal_dir)
    assert loaded.spec == runtime.spec
    assert loaded.state == runtime.state
    assert loaded.artifacts.merge_pr_url == "https://github.com/octo/widgets/pull/7"
    assert loaded.status is WorkstreamStatus.PR_CREATED
    with pytest.raises(WorkstreamError, match="no readable lane record"):
        WorkstreamRuntime.load(repo)
