"""Short waits: kernel locks and bounded retries.

A kernel lock vanishes with its holder, so nobody ever has to guess whether a lock
is stale. Lock files are never unlinked: removing one would let two waiters lock
two different files under one name.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agentrelay.workstream._git.lock_queue import queue_of
from agentrelay.workstream.errors import LaneBusyError, RepositoryError

__all__ = ["Backoff", "hold", "reading", "until_free"]

T = TypeVar("T")


@contextmanager
def hold(lock_path: Path, *, what: str, timeout_s: float) -> Iterator[None]:
    """Hold a kernel lock for the length of a ``with`` block.

    Waiters of one process are served in their order, those of different processes in
    the kernel's. A child that is forked inside the block does not hold the lock.

    Args:
        lock_path: Lock file; it and its directory are made when missing, and stay.
        what: What is being locked, for the message: ``"lane 'g/a'"``.
        timeout_s: Longest wait, in seconds.

    Raises:
        LaneBusyError: Somebody else held it all that time.
        RepositoryError: The lock file cannot be made.
    """
    queue = queue_of(lock_path)
    try:
        held = queue.enter(time.monotonic() + timeout_s)
    except OSError as error:
        message = f"cannot make the lock file '{lock_path}': {error.strerror or error}"
        raise RepositoryError(
            message, path=lock_path, hint="Is the repository writable, and the disk not full?"
        ) from error
    if held is None:
        message = (
            f"{what} is held by another thread or process (lock file '{lock_path}'); "
            f"waited {timeout_s:g} s"
        )
        raise LaneBusyError(
            message,
            waited_s=timeout_s,
            hint="Try again when the other operation is over; a dead holder blocks nobody.",
        )
    try:
        yield
    finally:
        queue.leave(held)


@dataclass(frozen=True)
class Backoff:
    """How to wait for something that another program holds for a moment.

    Attributes:
        deadline_s: Longest total wait, in seconds.
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
        Exception: What ``attempt`` raised, if that does not change for half a second.
    """
    try:
        return until_free(attempt, busy=torn, what="read", backoff=Backoff(deadline_s=0.5))
    except LaneBusyError as error:
        if error.__cause__ is None:
            raise
        raise error.__cause__ from None


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
    started = time.monotonic()
    pause_s = policy.first_s
    while True:
        try:
            return attempt()
        except Exception as error:
            waited_s = time.monotonic() - started
            if not busy(error):
                raise
            if waited_s >= policy.deadline_s:
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
