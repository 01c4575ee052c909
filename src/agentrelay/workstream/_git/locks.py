"""Short waits: kernel locks and bounded retries.

A kernel lock vanishes with its holder, so nobody ever has to guess whether a lock
is stale. Lock files are never unlinked: removing one would let two waiters lock
two different files under one name.
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from filelock import BaseFileLock, FileLock, Timeout

from agentrelay.workstream.errors import LaneBusyError, LaneConflictError, RepositoryError

__all__ = ["Backoff", "hold", "reading", "until_free"]

T = TypeVar("T")

# How often a waiter in another process looks again. A metadata section takes a few
# milliseconds; threads of one process queue on a lock of their own and never poll. Thirty
# processes that looked every two milliseconds would keep a core busy with looking.
_POLL_S: Final = 0.005
# How often a short wait looks at least, unless it is not to wait at all. Where a machine
# stands still, all the time is over between two looks, and whoever held the lock has not
# had any of it either.
_FEWEST_LOOKS: Final = 8
# How often a waiter is asked whether it still wants to wait.
_ASK_EVERY_S: Final = 0.1


class _ThreadLock:
    """A lock that can be referred to weakly, and the kernel's for whoever holds it."""

    def __init__(self, lock_path: Path) -> None:
        self.lock = threading.Lock()
        self.file_lock = FileLock(lock_path, thread_local=False)


# One lock a path and process, gone when nobody uses it. Two orchestrators in one
# process must share it, so it cannot hang on an instance.
_thread_locks: weakref.WeakValueDictionary[str, _ThreadLock] = weakref.WeakValueDictionary()
_registry = threading.Lock()
# Those that were used last are kept: a lane takes its repository's lock several times, and
# making one takes as long as locking it.
_recent: deque[_ThreadLock] = deque(maxlen=4)


def _forget_threads() -> None:
    """Start afresh in a forked child: the threads that hold these locks are not there."""
    global _registry, _thread_locks  # noqa: PLW0603 - a lock cannot be reset in place
    _registry = threading.Lock()
    _thread_locks = weakref.WeakValueDictionary()
    _recent.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


@contextmanager
def hold(
    lock_path: Path, *, what: str, timeout_s: float, waiting: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold a kernel lock for the length of a ``with`` block.

    Args:
        lock_path: Lock file; it and its directory are made when missing, and stay.
        what: What is being locked, for the message: ``"lane 'g/a'"``.
        timeout_s: Longest wait, in seconds.
        waiting: Called now and then while it is waited for; what it raises ends the wait.

    Raises:
        LaneBusyError: Somebody else held it all that time.
        LaneConflictError: The lock file is a link.
        RepositoryError: The lock file cannot be made.
    """
    if os.path.islink(lock_path):  # noqa: PTH114 - a dozen times a lane
        message = f"'{lock_path}' is a symbolic link, and could lead outside the repository"
        raise LaneConflictError(message, obstacle=lock_path, hint="Look at it, then remove it.")
    started = time.monotonic()
    key = str(lock_path)
    with _registry:
        mine = _thread_locks.get(key)
        if mine is None:
            mine = _thread_locks[key] = _ThreadLock(lock_path)
            _recent.append(mine)
    if not _acquire_own(mine.lock, timeout_s, waiting):
        raise _held(lock_path, what, timeout_s)
    try:
        file_lock = mine.file_lock
        try:
            _acquire(file_lock, lock_path, ends_at=started + timeout_s, waiting=waiting)
        except Timeout:
            raise _held(lock_path, what, timeout_s) from None
        except OSError as error:
            message = f"cannot make the lock file '{lock_path}': {error.strerror or error}"
            raise RepositoryError(
                message, path=lock_path, hint="Is the repository writable, and the disk not full?"
            ) from error
        try:
            yield
        finally:
            file_lock.release()
    finally:
        mine.lock.release()


def _held(lock_path: Path, what: str, timeout_s: float) -> LaneBusyError:
    return LaneBusyError(
        f"{what} is held by another thread or process (lock file '{lock_path}'); "
        f"waited {timeout_s:g} s",
        waited_s=timeout_s,
        hint="Try again when the other operation is over; a dead holder blocks nobody.",
    )


def _acquire_own(
    lock: threading.Lock, timeout_s: float, waiting: Callable[[], None] | None
) -> bool:
    """Wait for a thread of this process; return whether it let go in time."""
    if waiting is None:
        return lock.acquire(timeout=timeout_s)
    ends_at = time.monotonic() + timeout_s
    while True:
        left_s = max(0.0, ends_at - time.monotonic())
        if lock.acquire(timeout=min(left_s, _ASK_EVERY_S)):
            return True
        waiting()
        if not left_s:
            return False


def _acquire(
    file_lock: BaseFileLock,
    lock_path: Path,
    *,
    ends_at: float,
    waiting: Callable[[], None] | None,
) -> None:
    """Lock a file, made anew whenever somebody removes its directory meanwhile."""
    missing = False
    while True:
        left_s = max(0.0, ends_at - time.monotonic())
        slice_s = left_s if waiting is None else min(left_s, _ASK_EVERY_S)
        try:
            if missing:
                lock_path.parent.mkdir(parents=True, exist_ok=True)
            file_lock.acquire(timeout=slice_s, poll_interval=_POLL_S)
        except Timeout:
            if waiting is None or not left_s:
                raise
            waiting()
        except FileNotFoundError:
            if not left_s:
                raise
            if missing:
                threading.Event().wait(_POLL_S)
            missing = True
        else:
            return


@dataclass(frozen=True)
class Backoff:
    """How to wait for something that another program holds for a moment.

    Attributes:
        deadline_s: Longest total wait, in seconds; longer by what a few looks take where
            the machine stood still meanwhile. 0 is one look.
        first_s: First pause; each further one is longer, with jitter.
        longest_s: Longest single pause.
    """

    deadline_s: float = 10.0
    first_s: float = 0.002
    longest_s: float = 0.1


def reading(attempt: Callable[[], T], *, torn: Callable[[Exception], bool]) -> T:
    """Do what reads a file that others replace, again if it was read torn.

    Args:
        attempt: Harmless to repeat.
        torn: Tells whether a failure may mean that.

    Returns:
        What ``attempt`` returned.

    Raises:
        Exception: What ``attempt`` raised, if that does not change within half a second of
            its first failure, and in a few tries.
    """
    try:
        return until_free(attempt, busy=torn, what="read", backoff=Backoff(deadline_s=0.5))
    except LaneBusyError as error:
        cause = error.__cause__
        if not (isinstance(cause, Exception) and torn(cause)):
            raise
        raise cause from cause.__cause__


def until_free(
    attempt: Callable[[], T],
    *,
    busy: Callable[[Exception], bool],
    what: str,
    backoff: Backoff | None = None,
) -> T:
    """Repeat ``attempt`` while it fails because a lock file is in the way.

    Args:
        attempt: Harmless to repeat after such a failure.
        busy: Tells whether a failure means "locked just now".
        what: What is being done, for the message.
        backoff: How long to wait in all and between two tries.

    Returns:
        What ``attempt`` returned.

    Raises:
        LaneBusyError: It was locked all that time.
    """
    policy = backoff or Backoff()
    found_locked: float | None = None
    pause_s = policy.first_s
    looks = 0
    while True:
        looks += 1
        try:
            return attempt()
        except Exception as error:
            if not busy(error):
                raise
            # From the first time it was locked: an attempt may take long before it is.
            found_locked = time.monotonic() if found_locked is None else found_locked
            waited_s = time.monotonic() - found_locked
            if waited_s >= policy.deadline_s and (not policy.deadline_s or looks >= _FEWEST_LOOKS):
                message = f"cannot {what}: locked by another program for {waited_s:.1f} s ({error})"
                raise LaneBusyError(
                    message,
                    waited_s=waited_s,
                    hint="If no other program is running, a crashed one left the named "
                    "'.lock' file: look at it, then remove it.",
                ) from error
        # Full jitter: two waiters that collided once do not collide for ever.
        threading.Event().wait(random.uniform(policy.first_s, pause_s))  # noqa: S311 - not a secret
        pause_s = min(policy.longest_s, pause_s * 2)
