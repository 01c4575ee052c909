"""What a killed process leaves on disk, made by hand: nobody trips over it, and it goes."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    RepositoryError,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
    forget,
    reconcile,
)
from agentrelay.workstream._git.refs import create_ref, release_dead_lock
from agentrelay.workstream._git.repository import OpenRepository, open_repository, read_ref
from agentrelay.workstream._git.sweep import sweep_own_dir
from agentrelay.workstream._git.whole_files import write_whole
from agentrelay.workstream._lane import Lane
from agentrelay.workstream.core import _signals
from agentrelay.workstream.testing import clone_repository, commit_files, create_bare_repository

_REF = "refs/heads/agentrelay/nightly/parser/integration"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return a remote."""
    return create_bare_repository(tmp_path / "origin.git")


@pytest.fixture
def repo(bare: Path, tmp_path: Path) -> Path:
    """Return a clone of it."""
    return clone_repository(bare, tmp_path / "clone")


@pytest.fixture
def repository(repo: Path) -> OpenRepository:
    """Return an open handle on the clone."""
    return open_repository(repo)


def test_a_tracking_ref_that_moves_is_logged_like_a_fetch(repo: Path, bare: Path) -> None:
    """The user's reflog of ``origin/main`` shows where it was."""
    log = repo / ".git/logs/refs/remotes/origin/main"
    before = log.read_text().splitlines() if log.exists() else []
    tip = commit_files(bare, {"new.py": "1"}, message="New")
    GitWorkstreamPreparer(repo, "nightly").prepare_workstream(
        WorkstreamRuntime(WorkstreamSpec("parser"))
    )
    (line,) = log.read_text().splitlines()[len(before) :]
    assert line.split()[1] == tip


def test_locks_of_the_dead_go_with_the_next_step(repository: OpenRepository) -> None:
    """A holder may be killed before, inside, or when the lock has become the file."""
    held = repository.own_dir / "held"
    held.mkdir(parents=True)
    (held / "before").touch()
    (held / "inside").touch()
    lock = repository.common_dir / "refs/heads/topic.lock"
    lock.hardlink_to(held / "inside")
    (held / "after").write_text("the file by now\n")
    written = repository.common_dir / "refs/heads/written"
    written.hardlink_to(held / "after")
    sweep_own_dir(repository)
    assert list(held.iterdir()) == []
    assert not lock.exists()
    assert written.read_text() == "the file by now\n"


def test_a_lock_of_the_living_stays(repository: OpenRepository) -> None:
    """The kernel says that its holder lives."""
    held = repository.own_dir / "held"
    held.mkdir(parents=True)
    lock = repository.common_dir / "refs/heads/topic.lock"
    with (held / "alive").open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        lock.hardlink_to(held / "alive")
        sweep_own_dir(repository)
        assert lock.exists()
        assert [path.name for path in held.iterdir()] == ["alive"]


def test_an_empty_shallow_file_goes_and_a_real_one_stays(repository: OpenRepository) -> None:
    """A fetch that was killed inside libgit2 leaves one; git would call the clone shallow."""
    repository.own_dir.mkdir(exist_ok=True)
    shallow = repository.common_dir / "shallow"
    shallow.touch()
    sweep_own_dir(repository)
    assert not shallow.exists()
    shallow.write_text("0" * 40 + "\n")
    sweep_own_dir(repository)
    assert shallow.exists()


def test_a_deletion_that_was_cut_short_is_finished(repository: OpenRepository) -> None:
    """The ref is gone; its log and its empty directories go with the next try."""
    tip = repository.resolve("refs/heads/main")
    assert tip is not None
    create_ref(repository, _REF, tip, message="made")
    log = repository.common_dir / "logs" / _REF
    assert log.read_text().endswith("\tmade\n")
    (repository.common_dir / _REF).unlink()
    (repository.common_dir / _REF).parent.rmdir()
    release_dead_lock(repository, _REF)
    assert not log.exists()
    assert not (repository.common_dir / "refs/heads/agentrelay").exists()
    assert not (repository.common_dir / "logs/refs/heads/agentrelay").exists()


_KEPT = "refs/agentrelay/rescue/nightly/parser/20240102T030405.000000Z/commits"


def _tear_down_once_more(repo: Path) -> None:
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    GitWorkstreamPreparer(repo, "nightly").prepare_workstream(lane)
    GitWorkstreamTeardown(repo).teardown_workstream(lane)


def _reconcile(repo: Path) -> None:
    log = repo / ".git/logs" / _KEPT
    assert log in reconcile(repo, dry_run=True).leftovers
    assert log.exists()
    assert log in reconcile(repo).leftovers


@pytest.mark.parametrize(
    "next_step",
    [
        pytest.param(lambda repo: forget(repo, older_than_s=10**9), id="forget by age"),
        pytest.param(lambda repo: forget(repo, [_KEPT]), id="forget by name"),
        pytest.param(_reconcile, id="reconcile"),
        pytest.param(_tear_down_once_more, id="teardown"),
    ],
)
def test_a_log_of_a_rescue_ref_that_is_not_there_goes_with_the_next_step(
    repository: OpenRepository, next_step: Callable[[Path], object]
) -> None:
    """A kill between the two writes leaves one; the log of a ref that is there stays."""
    tip = repository.resolve("refs/heads/main")
    assert tip is not None
    other = _KEPT.replace("commits", "staged")
    for ref in (_KEPT, other):
        create_ref(repository, ref, tip, message="made")
    logs = repository.common_dir / "logs"
    damaged = logs / _KEPT.replace("commits", "damaged")
    damaged.write_text("all that tells what it kept\n")
    (repository.common_dir / damaged.relative_to(logs)).write_text("half")
    (repository.common_dir / _KEPT).unlink()
    next_step(repository.path)
    assert not (logs / _KEPT).exists()
    assert (logs / other).exists()
    assert damaged.exists()


def test_logs_behind_a_link_are_not_ours_to_remove(
    repository: OpenRepository, tmp_path: Path
) -> None:
    """Whoever made the folder of logs a link to somewhere keeps what is there."""
    precious = tmp_path / "precious"
    (precious / "rescue/nightly/parser").mkdir(parents=True)
    (precious / "rescue/nightly/parser/notes.txt").write_text("do not touch\n")
    (repository.common_dir / "logs/refs/agentrelay").symlink_to(precious)
    assert forget(repository.path, older_than_s=0.0) == []
    assert reconcile(repository.path).leftovers == ()
    assert (precious / "rescue/nightly/parser/notes.txt").exists()


def test_a_ref_is_never_without_its_log_the_other_way_round(
    repository: OpenRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deletion that is stopped by the disk leaves a ref without a log, as git does."""
    tip = repository.resolve("refs/heads/main")
    assert tip is not None
    create_ref(repository, _KEPT, tip, message="made")

    def refuse(path: str | Path, *, dir_fd: int | None = None) -> None:
        if Path(path) == repository.common_dir / _KEPT:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        unlink(path, dir_fd=dir_fd)

    unlink = os.unlink
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(RepositoryError):
        forget(repository.path, [_KEPT])
    assert read_ref(repository.common_dir, _KEPT) == tip
    assert not (repository.common_dir / "logs" / _KEPT).exists()


def test_a_small_file_is_the_old_one_or_the_new_one(repository: OpenRepository) -> None:
    """Nobody ever reads a half: another name of the old file still holds the old text."""
    repository.own_dir.mkdir(exist_ok=True)
    path = repository.common_dir / "locked"
    path.write_text("old")
    other = repository.common_dir / "other"
    other.hardlink_to(path)
    write_whole(path, "new", own_dir=repository.own_dir)
    assert (path.read_text(), other.read_text()) == ("new", "old")
    assert list(repository.own_dir.glob("new-*")) == []


def test_a_torn_signal_is_swept_and_one_being_written_is_not(tmp_path: Path) -> None:
    """Who holds a temporary file locked is still writing it."""
    torn = tmp_path / ".pending.0123456789abcdef.tmp"
    torn.write_text("half")
    alive = tmp_path / ".failed.fedcba9876543210.tmp"
    with alive.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        _signals.write_signal(tmp_path, "pending")
        assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "pending"]


def test_an_empty_trash_goes_with_the_teardown(repo: Path) -> None:
    """A clean-up that was killed before it used its trash leaves an empty directory."""
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    GitWorkstreamPreparer(repo, "nightly").prepare_workstream(lane)
    (Lane.of(repo, "nightly", "parser").trash_dir / "gone-left").mkdir(parents=True)
    GitWorkstreamTeardown(repo).teardown_workstream(lane)
    assert not (repo / ".worktrees").exists()
    assert lane.status is WorkstreamStatus.PENDING
