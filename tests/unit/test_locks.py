"""Locks and short waits: one holder at a time, every wait bounded, nothing to clean up."""

from __future__ import annotations

import fcntl
import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from agentrelay.workstream._git import locks
from agentrelay.workstream._git.lockfile import LockedError, LockFile
from agentrelay.workstream._git.locks import Backoff, hold, until_free
from agentrelay.workstream.errors import LaneBusyError, RepositoryError

# One that is to be over, and one that is not, whatever else the machine does meanwhile.
_SHORT = Backoff(deadline_s=0.05, first_s=0.001, longest_s=0.005)
_LONG = Backoff(deadline_s=60.0, first_s=0.001, longest_s=0.005)


@contextmanager
def _held_by_another_process(path: Path) -> Iterator[None]:
    """Hold the kernel lock through a file description of our own, as another process would."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _is_locked(error: Exception) -> bool:
    return isinstance(error, LockedError)


# --- hold -------------------------------------------------------------------------------


def test_only_one_thread_is_inside_at_a_time(tmp_path: Path) -> None:
    """A counter that is read and written apart loses no step among eight threads."""
    counter = tmp_path / "counter"
    counter.write_text("0")

    def count() -> None:
        for _ in range(10):
            with hold(tmp_path / "lock", what="the counter", timeout_s=30.0):
                value = int(counter.read_text())
                time.monotonic_ns()
                counter.write_text(str(value + 1))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.read_text() == "80"


def test_another_process_is_kept_out_while_the_lock_is_held(tmp_path: Path) -> None:
    """The lock is the kernel's, so it counts for everybody on this machine."""
    with (
        hold(tmp_path / "lock", what="the lane", timeout_s=1.0),
        pytest.raises(BlockingIOError),
        _held_by_another_process(tmp_path / "lock"),
    ):
        pass
    with _held_by_another_process(tmp_path / "lock"):
        pass


def test_a_lock_held_by_another_process_is_busy_after_the_time_out(tmp_path: Path) -> None:
    """The error names what is held, where, and how long was waited."""
    path = tmp_path / "lock"
    started = time.monotonic()
    with (
        _held_by_another_process(path),
        pytest.raises(LaneBusyError) as caught,
        hold(path, what="lane 'g/a'", timeout_s=0.05),
    ):
        pytest.fail("two holders at once")
    assert time.monotonic() - started >= 0.05
    assert caught.value.waited_s == 0.05
    assert "lane 'g/a'" in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.hint
    with hold(path, what="lane 'g/a'", timeout_s=0.0):
        pass


def test_a_lock_held_by_another_thread_is_busy_after_the_time_out(tmp_path: Path) -> None:
    """Threads queue without polling, and are bounded all the same."""
    inside, leave = threading.Event(), threading.Event()

    def keep() -> None:
        with hold(tmp_path / "lock", what="it", timeout_s=1.0):
            inside.set()
            leave.wait(timeout=30.0)

    holder = threading.Thread(target=keep)
    holder.start()
    try:
        assert inside.wait(timeout=30.0)
        with (
            pytest.raises(LaneBusyError),
            hold(tmp_path / "lock", what="it", timeout_s=0.02),
        ):
            pytest.fail("two holders at once")
    finally:
        leave.set()
        holder.join()
    with hold(tmp_path / "lock", what="it", timeout_s=0.0):
        pass


def test_a_waiter_goes_in_when_the_holder_leaves(tmp_path: Path) -> None:
    """Waiting ends with the lock, not with the time-out."""
    order: list[str] = []
    inside, waiting = threading.Event(), threading.Event()

    def keep() -> None:
        with hold(tmp_path / "lock", what="it", timeout_s=1.0):
            inside.set()
            waiting.wait(timeout=30.0)
            order.append("holder")

    holder = threading.Thread(target=keep)
    holder.start()
    assert inside.wait(timeout=30.0)
    waiting.set()
    with hold(tmp_path / "lock", what="it", timeout_s=30.0):
        order.append("waiter")
    holder.join()
    assert order == ["holder", "waiter"]


def test_taking_a_lock_twice_in_one_thread_is_busy_and_not_a_hang(tmp_path: Path) -> None:
    """A mistake of ours shows as an error, in time."""
    with (
        hold(tmp_path / "lock", what="it", timeout_s=1.0),
        pytest.raises(LaneBusyError),
        hold(tmp_path / "lock", what="it", timeout_s=0.02),
    ):
        pytest.fail("entered twice")


def test_a_lock_is_released_when_its_block_fails(tmp_path: Path) -> None:
    """The block's own exception comes out, even one that looks like the lock's."""
    for error in (ValueError("mine"), OSError("mine"), TimeoutError("mine"), KeyboardInterrupt()):
        with (
            pytest.raises(type(error)) as caught,
            hold(tmp_path / "lock", what="it", timeout_s=0.0),
        ):
            raise error
        assert caught.value is error


def test_different_locks_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """One lane is never held up by another."""
    with (
        hold(tmp_path / "one", what="one", timeout_s=0.0),
        hold(tmp_path / "other", what="other", timeout_s=0.0),
    ):
        pass


def test_the_lock_file_and_its_directory_are_made_and_stay(tmp_path: Path) -> None:
    """Unlinking it would let two waiters lock two files under one name."""
    path = tmp_path / "deep" / "lock"
    with hold(path, what="it", timeout_s=0.0):
        inode = path.stat().st_ino
    with hold(path, what="it", timeout_s=0.0):
        pass
    assert path.stat().st_ino == inode


def test_a_lock_file_of_a_dead_holder_blocks_nobody(tmp_path: Path) -> None:
    """The file means nothing; only the kernel's lock does."""
    (tmp_path / "lock").write_text("pid 1, long dead")
    with hold(tmp_path / "lock", what="it", timeout_s=0.0):
        pass


def test_a_lock_file_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    """It is neither busy nor an accident, and the error names the file."""
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "lock"
    with pytest.raises(RepositoryError) as caught, hold(path, what="it", timeout_s=0.0):
        pytest.fail("there is no such file")
    assert str(path) in str(caught.value)
    assert caught.value.path == str(path)
    assert caught.value.hint


def test_a_waiter_behind_another_process_goes_in_when_that_leaves(tmp_path: Path) -> None:
    """A long wait ends with the other's lock, not with the time-out."""
    path = tmp_path / "lock"
    entered = threading.Event()

    def enter() -> None:
        with hold(path, what="it", timeout_s=30.0):
            entered.set()

    with _held_by_another_process(path):
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.05)
    thread.join(timeout=30.0)
    assert entered.is_set()


def test_a_lock_file_that_was_removed_meanwhile_locks_nothing(tmp_path: Path) -> None:
    """Whoever waited for the old file takes the one that is there now."""
    path = tmp_path / "deep" / "lock"
    path.parent.mkdir()
    inside = threading.Event()

    def enter() -> None:
        with hold(path, what="it", timeout_s=30.0):
            inside.set()

    with _held_by_another_process(path):
        thread = threading.Thread(target=enter)
        thread.start()
        # Both at once: between the two the waiter could make the file anew.
        path.parent.rename(tmp_path / "gone")
    thread.join(timeout=30.0)
    assert inside.is_set()
    assert path.exists()


# --- until_free -------------------------------------------------------------------------


def test_the_first_success_is_returned() -> None:
    """What is free is not waited for."""
    assert until_free(lambda: 7, busy=_is_locked, what="do it") == 7


def test_an_attempt_is_repeated_while_it_is_busy() -> None:
    """Success after some tries is a success, and there are no more tries."""
    failures = [LockedError("locked")] * 3

    def attempt() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert until_free(attempt, busy=_is_locked, what="do it", backoff=_LONG) == "done"


def test_a_failure_that_is_not_busy_is_raised_at_once() -> None:
    """Only what another program holds is worth waiting for."""
    tries: list[int] = []

    def attempt() -> None:
        tries.append(1)
        raise PermissionError("no")

    with pytest.raises(PermissionError):
        until_free(attempt, busy=_is_locked, what="do it", backoff=_SHORT)
    assert len(tries) == 1


def test_what_stays_busy_is_given_up_in_bounded_time() -> None:
    """The error carries the wait, the operation, the backend's words and what to look at."""

    def attempt() -> None:
        raise LockedError("'/x/config.lock' is locked")

    started = time.monotonic()
    with pytest.raises(LaneBusyError, match=r"cannot set it: .*'/x/config\.lock'") as caught:
        until_free(attempt, busy=_is_locked, what="set it", backoff=_SHORT)
    assert 0.05 <= caught.value.waited_s <= time.monotonic() - started
    assert isinstance(caught.value.__cause__, LockedError)
    assert ".lock" in str(caught.value.hint)


def test_a_machine_that_stood_still_is_not_taken_for_a_lock_that_stayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However much time is over, nothing is given up after a look or two."""
    readings = itertools.count(step=3600.0)
    monkeypatch.setattr(locks, "time", SimpleNamespace(monotonic=lambda: next(readings)))
    failures = [LockedError("locked")] * 5

    def attempt() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert until_free(attempt, busy=_is_locked, what="do it", backoff=_SHORT) == "done"


def test_without_any_time_there_is_exactly_one_try() -> None:
    """A deadline of zero does not wait at all."""
    tries: list[int] = []

    def attempt() -> None:
        tries.append(1)
        raise LockedError("locked")

    with pytest.raises(LaneBusyError):
        until_free(attempt, busy=_is_locked, what="do it", backoff=Backoff(deadline_s=0.0))
    assert len(tries) == 1


# --- lock files -------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A file of its own directory that is about to be rewritten."""
    path = tmp_path / "repository" / "config"
    path.parent.mkdir()
    path.write_bytes(b"old")
    return path


def _lock(path: Path, data: bytes | None = None) -> LockFile:
    """Return the lock of a file, with our own directory beside the file's."""
    return LockFile(path, own_dir=path.parent.parent / "own", data=data)


def _names(path: Path) -> list[str]:
    """Return what stands beside a file, and what our own directory still holds."""
    beside = [entry.name for entry in path.parent.iterdir()]
    return sorted(beside + [entry.name for entry in path.parent.parent.glob("own/held/*")])


def test_a_commit_replaces_the_file_and_removes_the_lock(config: Path) -> None:
    """While it is locked the old content can be read; afterwards the new one."""
    config.chmod(0o640)
    with _lock(config, b"new" * 100_000) as lock:
        assert config.with_name("config.lock").exists()
        assert config.read_bytes() == b"old"
        lock.commit()
    assert config.read_bytes() == b"new" * 100_000
    assert config.stat().st_mode & 0o777 == 0o640
    assert config.stat().st_nlink == 1
    assert _names(config) == ["config"]


def test_a_file_that_was_not_there_is_made(config: Path) -> None:
    """``packed-refs`` appears only with the first packed ref."""
    config.unlink()
    with _lock(config, b"first") as lock:
        lock.commit()
    assert config.read_bytes() == b"first"
    assert _names(config) == ["config"]


def test_leaving_without_a_commit_changes_nothing(config: Path) -> None:
    """Neither a plain exit nor an exception leaves the lock or half a file."""
    with _lock(config):
        pass
    with pytest.raises(ValueError, match="stop"), _lock(config):
        raise ValueError("stop")
    assert config.read_bytes() == b"old"
    assert _names(config) == ["config"]


def test_somebody_elses_lock_file_is_respected_and_stays(config: Path) -> None:
    """It is theirs to remove, whoever they are and however old it is."""
    theirs = config.with_name("config.lock")
    theirs.write_text("theirs")
    for _ in range(3):
        with pytest.raises(LockedError, match=r"config\.lock"), _lock(config):
            pytest.fail("two holders at once")
    assert theirs.read_text() == "theirs"
    assert _names(config) == ["config", "config.lock"]


def test_a_living_holder_of_ours_is_respected(config: Path) -> None:
    """The kernel says that the holder lives, so its lock file stays."""
    with _lock(config, b"mine") as lock:
        for _ in range(3):
            with pytest.raises(LockedError), _lock(config):
                pytest.fail("two holders at once")
        lock.commit()
    assert config.read_bytes() == b"mine"


def test_a_lock_file_of_a_dead_holder_of_ours_is_removed(config: Path) -> None:
    """A process that was killed inside blocks nobody: the next try but one succeeds."""
    held = config.parent.parent / "own" / "held"
    held.mkdir(parents=True)
    # What a killed holder leaves: two names of one file that nobody has locked.
    (held / "left").touch()
    config.with_name("config.lock").hardlink_to(held / "left")

    def attempt() -> None:
        with _lock(config, b"new") as lock:
            lock.commit()

    until_free(attempt, busy=_is_locked, what="write", backoff=_LONG)
    assert config.read_bytes() == b"new"
    assert _names(config) == ["config"]


def test_a_dead_holder_is_not_mistaken_for_the_owner_of_another_lock(config: Path) -> None:
    """A leftover of ours proves nothing about a lock file that somebody else made."""
    held = config.parent.parent / "own" / "held"
    held.mkdir(parents=True)
    (held / "left").touch()
    config.with_name("config.lock").write_text("theirs")
    with pytest.raises(LockedError), _lock(config):
        pytest.fail("two holders at once")
    assert config.with_name("config.lock").read_text() == "theirs"


def test_a_directory_that_was_pruned_meanwhile_counts_as_locked(config: Path) -> None:
    """Git removes empty directories at any moment; the next try makes it again."""
    with (
        pytest.raises(LockedError),
        LockFile(config.parent / "gone" / "ref", own_dir=config.parent),
    ):
        pytest.fail("there is no such directory")


def test_a_lock_made_by_somebody_else_after_our_commit_is_not_removed(config: Path) -> None:
    """Once renamed, the lock's name belongs to whoever takes it next."""
    with _lock(config, b"ours") as lock:
        lock.commit()
        config.with_name("config.lock").write_text("theirs")
    assert config.with_name("config.lock").read_text() == "theirs"


def test_lock_files_and_retries_together_lose_no_change(config: Path) -> None:
    """Eight threads that read, change, and commit what is still true end with every change."""
    config.write_bytes(b"0")

    def add_one() -> None:
        def attempt() -> None:
            before = config.read_bytes()
            with _lock(config, str(int(before) + 1).encode()) as lock:
                if config.read_bytes() != before:
                    raise LockedError("somebody was quicker")
                lock.commit()

        for _ in range(5):
            until_free(attempt, busy=_is_locked, what="count", backoff=Backoff(deadline_s=30.0))

    threads = [threading.Thread(target=add_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert config.read_bytes() == b"40"
    assert _names(config) == ["config"]
