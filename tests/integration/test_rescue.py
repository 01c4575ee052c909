"""What clean-ups keep can be listed, brought back, and let go of."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pygit2
import pytest
from pytest_mock import MockerFixture

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    LaneBusyError,
    LaneConflictError,
    LaneNameError,
    RepositoryError,
    RescuedWork,
    WorkstreamRuntime,
    WorkstreamSpec,
    forget,
    rescued,
    restore,
)
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.implementations._lane_record import lane_lock
from agentrelay.workstream.testing import (
    clone_repository,
    commit_files,
    create_bare_repository,
    read_tree,
    refs,
)
from tests.integration._command_line import run

PREFIX = "refs/agentrelay/rescue/"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Return a clone of a remote by path."""
    return clone_repository(create_bare_repository(tmp_path / "origin.git"), tmp_path / "clone")


def prepared(repo: Path, workstream_id: str = "parser") -> WorkstreamRuntime:
    """Return a prepared lane."""
    runtime = WorkstreamRuntime(WorkstreamSpec(workstream_id))
    GitWorkstreamPreparer(repo, "nightly").prepare_workstream(runtime)
    return runtime


def worktree_of(runtime: WorkstreamRuntime) -> Path:
    """Return a lane's worktree."""
    assert runtime.state.worktree_path is not None
    return runtime.state.worktree_path


def abandoned(repo: Path, workstream_id: str = "parser") -> str:
    """Tear down a lane with a commit and files of its own, and return the commit."""
    runtime = prepared(repo, workstream_id)
    worktree = worktree_of(runtime)
    work = commit_files(worktree, {"work.py": "pass\n"}, message="Work on it")
    (worktree / "README.md").unlink()
    (worktree / "work.py").write_text("changed\n")
    (worktree / "new" / "deep").mkdir(parents=True)
    (worktree / "new" / "deep" / "run.sh").write_bytes(b"#!/bin/sh\r\n\x00")
    (worktree / "new" / "deep" / "run.sh").chmod(0o755)
    (worktree / "new" / "link").symlink_to("deep/run.sh")
    GitWorkstreamTeardown(repo).teardown_workstream(runtime)
    return work


def by_label(repo: Path) -> dict[str, RescuedWork]:
    """Return what is kept, by label."""
    return {work.label: work for work in rescued(repo)}


# --- listing ----------------------------------------------------------------------------


def test_what_was_kept_is_listed_with_what_it_is(repo: Path) -> None:
    """Lane, time, commit and the snapshot's own files, without anything being changed."""
    before = datetime.now(tz=UTC)
    work = abandoned(repo)
    all_refs = refs(repo)
    found = by_label(repo)
    assert set(found) == {"commits", "unstaged", "untracked"}
    commits = found["commits"]
    assert (commits.graph, commits.workstream_id) == ("nightly", "parser")
    assert (commits.commit_id, commits.subject, commits.files) == (work, "Work on it", ())
    assert commits.kept_at is not None
    assert before <= commits.kept_at <= datetime.now(tz=UTC)
    assert not commits.is_snapshot
    assert (found["unstaged"].files, found["unstaged"].deleted) == (("work.py",), ("README.md",))
    assert found["untracked"].files == ("new/deep/run.sh", "new/link")
    assert found["untracked"].deleted == ()
    assert refs(repo) == all_refs


def test_lists_are_oldest_first_and_can_be_narrowed(repo: Path) -> None:
    """By graph, or by graph and workstream."""
    abandoned(repo, "zeta")
    abandoned(repo, "alpha")
    found = rescued(repo)
    times = [work.kept_at for work in found if work.kept_at is not None]
    assert len(times) == len(found) == 6
    assert times == sorted(times)
    assert {work.workstream_id for work in found[:3]} == {"zeta"}
    assert len(rescued(repo, graph="nightly")) == 6
    assert rescued(repo, graph="night") == []
    assert {w.workstream_id for w in rescued(repo, graph="nightly", workstream_id="alpha")} == {
        "alpha"
    }
    with pytest.raises(LaneNameError, match="needs its graph"):
        rescued(repo, workstream_id="alpha")
    with pytest.raises(LaneNameError):
        rescued(repo, graph="../heads")


def test_refs_of_others_and_damaged_ones_do_not_hide_the_rest(repo: Path) -> None:
    """A ref under no lane's name is not listed, one without its commit says so."""
    work = abandoned(repo)
    handle = pygit2.Repository(str(repo))
    handle.references.create(f"{PREFIX}odd", work)
    handle.references.create(f"{PREFIX}nightly/parser/sometime/mine", work)
    lost = repo / ".git" / PREFIX / "nightly/parser/20200101T000000.000000Z/commits"
    lost.parent.mkdir(parents=True)
    lost.write_text("1" * 40 + "\n")
    found = by_label(repo)
    assert len(rescued(repo)) == 5
    assert found["mine"].kept_at is None
    assert found["commits"].commit_id == work
    (damaged,) = [one for one in rescued(repo) if one.commit_id == "1" * 40]
    assert "cannot be read" in damaged.subject


# --- bringing back ----------------------------------------------------------------------


def test_commits_come_back_on_a_branch_and_nothing_else_moves(repo: Path) -> None:
    """The user's branches, HEAD, index and files are as they were, and the ref stays."""
    work = abandoned(repo)
    commits = by_label(repo)["commits"]
    (repo / "README.md").write_text("the user's own edit\n")
    before = {name: (repo / ".git" / name).read_bytes() for name in ("HEAD", "index")}
    old_refs = refs(repo)
    done = restore(repo, commits)
    assert done.branch == commits.ref.replace(PREFIX, "rescued/")
    assert refs(repo) == {**old_refs, f"refs/heads/{done.branch}": work}
    assert {name: (repo / ".git" / name).read_bytes() for name in before} == before
    assert (repo / "README.md").read_text() == "the user's own edit\n"
    assert restore(repo, commits).branch == done.branch


def test_a_branch_may_be_named_and_is_never_taken_over(repo: Path) -> None:
    """One that exists and leads elsewhere is a conflict; a bad name is refused."""
    work = abandoned(repo)
    short = by_label(repo)["commits"].ref.removeprefix(PREFIX)
    assert restore(repo, short, branch="back").branch == "back"
    assert refs(repo)["refs/heads/back"] == work
    main = refs(repo)["refs/heads/main"]
    with pytest.raises(LaneConflictError, match="'main' exists"):
        restore(repo, short, branch="main")
    assert refs(repo)["refs/heads/main"] == main
    with pytest.raises(LaneNameError):
        restore(repo, short, branch="-x")
    with pytest.raises(RepositoryError, match="nothing is kept"):
        restore(repo, "nightly/parser/never/commits")
    with pytest.raises(RepositoryError, match="nothing is kept"):
        restore(repo, "refs/heads/main")


def test_a_snapshot_comes_back_as_a_branch_on_top_of_the_lanes_commit(repo: Path) -> None:
    """Its parent is the commit the worktree stood on, so it can be picked or merged."""
    work = abandoned(repo)
    done = restore(repo, by_label(repo)["untracked"], branch="drafts")
    handle = pygit2.Repository(str(repo))
    commit = handle.references["refs/heads/drafts"].peel(pygit2.Commit)
    assert [str(parent) for parent in commit.parent_ids] == [work]
    assert done.work.files == ("new/deep/run.sh", "new/link")
    assert read_tree(repo, "drafts")["new/deep/run.sh"] == b"#!/bin/sh\r\n\x00"


def test_a_snapshots_files_come_back_byte_for_byte_in_a_directory(
    repo: Path, tmp_path: Path
) -> None:
    """Bytes, links and the executable bit; only what the snapshot brought."""
    abandoned(repo)
    target = tmp_path / "back" / "here"
    done = restore(repo, by_label(repo)["untracked"], directory=target)
    assert done.directory == target
    assert (target / "new/deep/run.sh").read_bytes() == b"#!/bin/sh\r\n\x00"
    assert os.access(target / "new/deep/run.sh", os.X_OK)
    assert (target / "new/link").readlink() == Path("deep/run.sh")
    assert sorted(path.name for path in target.rglob("*")) == ["deep", "link", "new", "run.sh"]
    assert [path.name for path in target.parent.iterdir()] == ["here"]


def test_a_directory_that_holds_something_is_left_alone(repo: Path, tmp_path: Path) -> None:
    """So is a file, a link, and one that is asked for commits or beside a branch."""
    abandoned(repo)
    found = by_label(repo)
    full, file, link = tmp_path / "full", tmp_path / "file", tmp_path / "link"
    full.mkdir()
    (full / "mine.txt").write_text("mine\n")
    file.write_text("mine\n")
    link.symlink_to(tmp_path / "nowhere")
    for taken in (full, file, link):
        with pytest.raises(LaneConflictError, match="is not an empty directory"):
            restore(repo, found["untracked"], directory=taken)
    assert [path.name for path in full.iterdir()] == ["mine.txt"]
    with pytest.raises(RepositoryError, match="keeps commits"):
        restore(repo, found["commits"], directory=tmp_path / "new")
    with pytest.raises(RepositoryError, match="at once"):
        restore(repo, found["untracked"], branch="b", directory=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_planted_tree_writes_nothing_outside(repo: Path, tmp_path: Path) -> None:
    """A tree no honest git would make stops the restoring, and nothing is left of it."""
    handle = pygit2.Repository(str(repo))
    blob = handle.create_blob(b"planted\n")
    inner = handle.odb.write(pygit2.enums.ObjectType.TREE, b"100644 evil\0" + blob.raw)
    for number, name in enumerate((b"..", b".git", b".GIT")):
        outer = handle.odb.write(pygit2.enums.ObjectType.TREE, b"40000 " + name + b"\0" + inner.raw)
        author = pygit2.Signature("Robin", "robin@example.invalid", 0, 0)
        commit = handle.create_commit(None, author, author, "Plant", outer, [])
        ref = f"nightly/parser/2020010{number + 1}T000000.000000Z/untracked"
        handle.references.create(PREFIX + ref, commit)
        with pytest.raises(RepositoryError):
            restore(repo, ref, directory=tmp_path / "out" / "here")
    assert not (tmp_path / "out" / "evil").exists()
    assert list((tmp_path / "out").rglob("*")) == []


# --- letting go -------------------------------------------------------------------------


def test_forgetting_by_age_spares_what_is_younger_and_what_tells_no_time(repo: Path) -> None:
    """Only rescue refs go, and only old ones."""
    work = abandoned(repo)
    handle = pygit2.Repository(str(repo))
    handle.references.create(f"{PREFIX}nightly/old/20200101T000000.000000Z/commits", work)
    handle.references.create(f"{PREFIX}weekly/old/20200101T000000.000000Z/commits", work)
    handle.references.create(f"{PREFIX}nightly/old/sometime/commits", work)
    before = refs(repo)
    gone = forget(repo, older_than_s=86_400, graph="nightly")
    assert [one.ref for one in gone] == [f"{PREFIX}nightly/old/20200101T000000.000000Z/commits"]
    assert refs(repo) == {name: tip for name, tip in before.items() if name != gone[0].ref}
    assert forget(repo, older_than_s=86_400, graph="nightly") == []


def test_forgetting_by_name_takes_exactly_that(repo: Path) -> None:
    """What is gone already is passed over; what is no rescue ref is refused."""
    abandoned(repo)
    found = by_label(repo)
    assert forget(repo, [found["commits"]]) == [found["commits"]]
    assert forget(repo, [found["commits"], found["untracked"].ref]) == [found["untracked"]]
    assert list(by_label(repo)) == ["unstaged"]
    for name in ("refs/heads/main", "main", "refs/agentrelay/rescue/nightly"):
        with pytest.raises(RepositoryError, match="not the name of a rescue ref"):
            forget(repo, [name])
    assert "refs/heads/main" in refs(repo)


def test_a_ref_that_changed_since_it_was_looked_at_is_not_forgotten(repo: Path) -> None:
    """Somebody let it keep something else meanwhile."""
    abandoned(repo)
    seen = by_label(repo)["commits"]
    main = refs(repo)["refs/heads/main"]
    pygit2.Repository(str(repo)).references.create(seen.ref, main, force=True)
    with pytest.raises(LaneConflictError, match="it is kept"):
        forget(repo, [seen])
    assert refs(repo)[seen.ref] == main


def test_forgetting_needs_to_be_told_what(repo: Path) -> None:
    """Neither everything by accident nor two rules at once."""
    abandoned(repo)
    before = refs(repo)
    for arguments in ({}, {"works": ["nightly/a/b/c"], "older_than_s": 1.0}):
        with pytest.raises(RepositoryError, match="either what to forget or an age"):
            forget(repo, **arguments)  # type: ignore[arg-type]  # a mapping of both kinds
    with pytest.raises(RepositoryError, match="no duration"):
        forget(repo, older_than_s=-1)
    assert refs(repo) == before


def test_forgetting_waits_for_whoever_works_on_the_lane(repo: Path) -> None:
    """A teardown may count on what it has just kept."""
    abandoned(repo)
    before = refs(repo)
    lane = Lane.of(repo, "nightly", "parser")
    with (
        lane_lock(open_repository(repo), lane, timeout_s=1),
        pytest.raises(LaneBusyError),
    ):
        forget(repo, older_than_s=0, lane_timeout_s=0)
    assert refs(repo) == before


# --- what is kept -----------------------------------------------------------------------


def reset_to(worktree: Path, commit_id: str) -> None:
    """Do what ``git reset --hard`` does."""
    handle = pygit2.Repository(str(worktree))
    handle.reset(pygit2.Oid(hex=commit_id), pygit2.enums.ResetMode.HARD)


def test_a_commit_that_was_reset_away_is_kept(repo: Path) -> None:
    """Only the worktree's reflog led to it, and that goes with the worktree."""
    runtime = prepared(repo)
    worktree = worktree_of(runtime)
    assert runtime.state.base_commit is not None
    lost = commit_files(worktree, {"work.py": "pass\n"}, message="Reset away")
    reset_to(worktree, runtime.state.base_commit)
    GitWorkstreamTeardown(repo).teardown_workstream(runtime)
    assert {work.label: work.commit_id for work in rescued(repo)} == {"reflog": lost}
    assert any("reset, amended or rebased away" in text for text in runtime.artifacts.concerns)


def test_several_commits_that_were_reset_away_are_kept_by_one_ref(repo: Path) -> None:
    """Each is a parent of the commit that keeps them; ancestors of one another count once."""
    runtime = prepared(repo)
    worktree = worktree_of(runtime)
    assert runtime.state.base_commit is not None
    tips = []
    for number in range(3):
        commit_files(worktree, {"work.py": f"{number}a\n"}, message="First")
        tips.append(commit_files(worktree, {"work.py": f"{number}b\n"}, message="Second"))
        reset_to(worktree, runtime.state.base_commit)
    GitWorkstreamTeardown(repo).teardown_workstream(runtime)
    (work,) = rescued(repo)
    commit = pygit2.Repository(str(repo))[work.commit_id].peel(pygit2.Commit)
    assert sorted(str(parent) for parent in commit.parent_ids) == sorted(tips)


def test_an_amended_commit_whose_work_lives_on_leaves_no_trace(repo: Path) -> None:
    """The newer version has all the older one had, and is merged: the lane is a merged lane."""
    runtime = prepared(repo)
    worktree = worktree_of(runtime)
    assert runtime.state.base_commit is not None
    commit_files(worktree, {"work.py": "pass\n"}, message="Frist")
    reset_to(worktree, runtime.state.base_commit)
    files = {"work.py": "pass\n", "more.py": "pass\n"}
    tip = commit_files(worktree, files, message="First")
    pygit2.Repository(str(repo)).references.create("refs/heads/keeper", tip)
    GitWorkstreamTeardown(repo).teardown_workstream(runtime)
    assert rescued(repo) == []
    assert runtime.artifacts.concerns == []


def test_a_repeated_teardown_keeps_nothing_twice(repo: Path) -> None:
    """What was kept before the first was killed serves the second."""
    runtime = prepared(repo)
    worktree = worktree_of(runtime)
    commit_files(worktree, {"work.py": "pass\n"}, message="Work")
    (worktree / "draft.txt").write_text("draft\n")
    lock = repo / ".git/agentrelay"
    admin = repo / ".git/worktrees" / Lane.of(repo, "nightly", "parser").admin_name
    # The worktree cannot be renamed away: a file is where its grave belongs.
    grave = repo / ".worktrees/.trash"
    grave.write_text("in the way\n")
    GitWorkstreamTeardown(repo).teardown_workstream(runtime)
    assert admin.is_dir()
    assert lock.is_dir()
    kept = rescued(repo)
    assert [work.label for work in kept] == ["untracked"]
    grave.unlink()
    GitWorkstreamTeardown(repo).teardown_workstream(runtime)
    assert not admin.exists()
    assert sorted(work.label for work in rescued(repo)) == ["commits", "untracked"]
    assert kept[0] in rescued(repo)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names of descriptors are Linux's")
def test_what_is_kept_is_on_the_disk_before_its_source_goes(
    repo: Path, mocker: MockerFixture
) -> None:
    """The new objects, the ref, and the directories that lead to them are synced."""
    runtime = prepared(repo)
    worktree = worktree_of(runtime)
    synced: dict[str, bool] = {}
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.setdefault(os.path.realpath(f"/proc/self/fd/{descriptor}"), worktree.is_dir())
        real(descriptor)

    (worktree / "new" / "deep").mkdir(parents=True)
    (worktree / "new" / "deep" / "draft.txt").write_text("draft\n")
    mocker.patch("os.fsync", side_effect=note)
    GitWorkstreamTeardown(repo).teardown_workstream(runtime)
    (work,) = rescued(repo)
    git = repo / ".git"
    # The new objects came in a pack of their own, and a pack is synced before it is seen.
    packed = [path for path in synced if path.endswith((".pack", ".idx"))]
    assert sorted(Path(path).suffix for path in packed) == [".idx", ".pack"]
    wanted = [git / "objects" / "pack", git / work.ref, (git / work.ref).parent]
    for path in (*packed, *map(str, wanted)):
        assert synced.get(path) is True, path


# --- the command line -------------------------------------------------------------------


def test_the_commands_list_bring_back_and_forget(repo: Path, tmp_path: Path) -> None:
    """A person finds the work, gets it on a branch, and ages the rest out."""
    work = abandoned(repo)
    listed = run("rescued", "--repo", repo)
    assert listed.exit_code == 0
    head, *rows = listed.stdout.splitlines()
    assert head.split() == ["kept", "lane", "what", "commit", "holds", "ref"]
    assert len(rows) == 3
    assert "new/deep/run.sh and 1 more" in listed.stdout
    restored = run("restore", "--repo", repo, "nightly/parser")
    assert (restored.exit_code, restored.stderr) == (0, "")
    assert work in [tip for name, tip in refs(repo).items() if name.startswith("refs/heads/resc")]
    untracked = by_label(repo)["untracked"].ref
    there = run("restore", "--repo", repo, untracked, "--to", tmp_path / "back", "--json")
    assert json.loads(there.stdout)["restored"][0]["directory"] == str(tmp_path / "back")
    assert (tmp_path / "back/new/link").is_symlink()
    dry = run("forget", "--repo", repo, "--older-than", "0", "--dry-run", "--json")
    assert len(json.loads(dry.stdout)["would_forget"]) == 3
    assert len(rescued(repo)) == 3
    gone = run("forget", "--repo", repo, "nightly/parser", "--json")
    assert len(json.loads(gone.stdout)["forgotten"]) == 3
    assert rescued(repo) == []
    assert run("rescued", "--repo", repo).stdout == "Nothing is kept here.\n"


def test_the_commands_say_what_they_cannot_do(repo: Path) -> None:
    """One line and a hint, and nothing is changed."""
    abandoned(repo)
    before = refs(repo)
    for arguments, status, words in (
        (("restore", "nightly/lexer"), 1, "nothing is kept under"),
        (("restore", "nightly/parser", "--branch", "x"), 1, "cannot go to one place"),
        (("forget",), 2, "--older-than"),
        (("forget", "nightly", "--older-than", "1"), 2, "--older-than"),
        (("forget", "nightly", "--graph", "nightly"), 2, "--older-than"),
        (("forget", "--older-than", "-1"), 2, "-1"),
    ):
        result = run(arguments[0], "--repo", repo, *arguments[1:])
        assert result.exit_code == status, arguments
        assert words in result.stderr
    assert refs(repo) == before


def test_the_concern_names_a_command_that_works(repo: Path) -> None:
    """What a teardown tells its reader to type is typed here."""
    runtime = prepared(repo)
    work = commit_files(worktree_of(runtime), {"work.py": "pass\n"}, message="Work")
    GitWorkstreamTeardown(repo).teardown_workstream(runtime)
    (concern,) = runtime.artifacts.concerns
    command = concern.partition("'agentrelay-workstream ")[2].partition("'")[0]
    result = run(*command.split(), "--repo", repo, "--json")
    (done,) = json.loads(result.stdout)["restored"]
    assert refs(repo)[f"refs/heads/{done['branch']}"] == work


@pytest.mark.parametrize("limit_bytes", [0, 5_000])
def test_ignored_files_beyond_the_limit_are_named_and_the_rest_is_kept(
    repo: Path, limit_bytes: int
) -> None:
    """The caller says how much of them is worth keeping."""
    runtime = prepared(repo)
    worktree = worktree_of(runtime)
    exclude = repo / ".git/info/exclude"
    exclude.write_text(exclude.read_text() + "*.log\ncache/\n")
    (worktree / "small.log").write_bytes(b"x" * 10)
    (worktree / "cache").mkdir()
    (worktree / "cache" / "large").write_bytes(b"x" * 9_000)
    teardown = GitWorkstreamTeardown(repo, ignored_limit_bytes=limit_bytes)
    teardown.teardown_workstream(runtime)
    kept = [path for work in rescued(repo) for path in work.files]
    assert kept == (["small.log"] if limit_bytes else [])
    (named,) = [text for text in runtime.artifacts.concerns if "were not kept" in text]
    assert "'cache/' (9,000 bytes)" in named
    assert ("small.log" in named) == (limit_bytes == 0)


@pytest.mark.parametrize("limit_bytes", [-1, 1.5, True, None])
def test_a_limit_that_is_no_size_is_refused_before_anything_happens(
    repo: Path, limit_bytes: int
) -> None:
    """The lane stands as it did."""
    runtime = prepared(repo)
    teardown = GitWorkstreamTeardown(repo, ignored_limit_bytes=limit_bytes)
    with pytest.raises(RepositoryError, match="ignored_limit_bytes"):
        teardown.teardown_workstream(runtime)
    assert worktree_of(runtime).is_dir()


def test_an_edit_that_is_dated_back_is_kept_where_changes_are_not_trusted(repo: Path) -> None:
    """``core.trustctime`` is off: neither size nor time says anything, the content does."""
    runtime = prepared(repo)
    path = worktree_of(runtime) / "README.md"
    handle = pygit2.Repository(str(repo))
    handle.config["core.trustctime"] = False
    before, seen = path.read_bytes(), path.stat()
    after = before.swapcase()
    path.write_bytes(after)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    # Long after the index was written, or it would be read for its age alone.
    index = Path(pygit2.Repository(str(path.parent)).path) / "index"
    os.utime(index, ns=(seen.st_mtime_ns + 10**9, seen.st_mtime_ns + 10**9))
    GitWorkstreamTeardown(repo).teardown_workstream(runtime)
    (kept,) = (ref for ref in handle.references if ref.endswith("/unstaged"))
    assert read_tree(repo, kept)["README.md"] == after
