"""Standing in line for a kernel lock, in order, with an end, and safe beside forks.

Threads of one process queue here, first come first served, and only the first deals with
the kernel. The kernel has a queue of its own for the processes, but no time-out: so the
first waits there in a thread of its own. Polling instead costs a core as soon as thirty
processes wait, and whoever comes last is as likely to be the next as whoever came first.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["Held", "LockQueue", "queue_of"]

# How often is looked again, for waits that are too short for a thread, or where the
# kernel has no queue.
_POLL_S: Final = 0.002
_SHORT_WAIT_S: Final = 0.25
# How long the threads of one process may hand a lock to each other before they leave it
# alone long enough for another process to take it.
_LONGEST_TURN_S: Final = 0.03


class Held:
    """An open lock file, locked or about to be."""

    def __init__(self, path: Path) -> None:
        """Open the file; it and its directory are made when missing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        self._path = path
        with _registry:
            self._descriptor = os.open(path, flags, 0o666)
            _open_files.add(self)

    def try_lock(self) -> bool:
        """Lock it if it is free."""
        try:
            if sys.platform == "win32":
                msvcrt.locking(self._descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def wait(self) -> None:
        """Lock it, however long that takes."""
        if sys.platform == "win32":
            while not self.try_lock():
                _pause(_POLL_S)
        else:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def is_current(self) -> bool:
        """Return whether it is still the file at its path, and not one that was removed."""
        try:
            there = self._path.stat()
        except OSError:
            return False
        ours = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def close(self) -> None:
        """Close it, which unlocks it; in a forked child it is closed already."""
        with _registry:
            if self in _open_files:
                _open_files.discard(self)
                if sys.platform != "win32":
                    # Closing alone would not do if somebody copied the descriptor.
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)
                os.close(self._descriptor)

    def disown(self) -> None:
        """Close the copy a forked child has; that unlocks nothing."""
        with suppress(OSError):
            os.close(self._descriptor)


class LockQueue:
    """The threads of this process that want one lock file."""

    def __init__(self, path: Path) -> None:
        """Begin with nobody in line."""
        self._path = path
        self._guard = threading.Lock()
        self._taken = False
        self._line: deque[threading.Lock] = deque()
        self._ours_since: float | None = None
        # Of a waiter that gave up: its place in the kernel's queue is the next one's.
        self._place: _Place | None = None

    def enter(self, ends_at: float) -> Held | None:
        """Wait for the turn, then for the kernel's lock.

        Args:
            ends_at: Reading of the monotonic clock at which the waiting is over.

        Returns:
            The locked file, or ``None`` when the time was over.

        Raises:
            OSError: The file cannot be made or locked.
        """
        if not self._await_turn(ends_at):
            return None
        held = None
        try:
            if self._is_greedy():
                _pause(_POLL_S)
            held = self._lock(ends_at)
        finally:
            if held is None:
                self._next()
        return held

    def leave(self, held: Held) -> None:
        """Give the lock back."""
        held.close()
        self._next()

    def _await_turn(self, ends_at: float) -> bool:
        with self._guard:
            if not self._taken:
                self._taken = True
                return True
            turn = threading.Lock()
            turn.acquire()
            self._line.append(turn)
        try:
            if turn.acquire(timeout=max(0.0, ends_at - time.monotonic())):
                return True
        except BaseException:
            if not self._withdraw(turn):
                self._next()
            raise
        return not self._withdraw(turn)

    def _withdraw(self, turn: threading.Lock) -> bool:
        """Leave the line; ``False`` if the turn came in that very moment."""
        with self._guard:
            if turn not in self._line:
                return False
            self._line.remove(turn)
            return True

    def _next(self) -> None:
        with self._guard:
            if self._line:
                self._line.popleft().release()
            else:
                self._taken = False
                self._ours_since = None

    def _is_greedy(self) -> bool:
        """Return whether this process has handed the lock on to itself for too long."""
        now = time.monotonic()
        if self._ours_since is None:
            self._ours_since = now
        if now - self._ours_since < _LONGEST_TURN_S:
            return False
        self._ours_since = now
        return True

    def _lock(self, ends_at: float) -> Held | None:
        """Lock the file, or return ``None`` when the time is over."""
        place, self._place = self._place, None
        if place is not None and not place.take_over():
            place = None
        while True:
            held = _lock_soon(self._path, ends_at) if place is None else None
            if held is not None:
                return held
            if place is None:
                if time.monotonic() >= ends_at:
                    return None
                place = _Place(self, Held(self._path))
                place.start()
            try:
                over = place.wait(max(_SHORT_WAIT_S, ends_at - time.monotonic()))
            except BaseException:
                place.give_up()
                raise
            if not over:
                self._place = place
                return None
            if place.error is not None:
                place.held.close()
                raise place.error
            if place.held.is_current():
                return place.held
            place.held.close()
            place = None


def _lock_soon(path: Path, ends_at: float) -> Held | None:
    """Lock a file that is free, or wait for it here if that is not worth a thread."""
    held = Held(path)
    try:
        while True:
            if held.try_lock():
                if held.is_current():
                    return held
                # Somebody removed the file, or its directory, in this very moment.
                held.close()
                held = Held(path)
                continue
            left_s = ends_at - time.monotonic()
            if left_s <= 0 or left_s >= _SHORT_WAIT_S:
                held.close()
                return None
            _pause(min(left_s, _POLL_S))
    except BaseException:
        held.close()
        raise


class _Place(threading.Thread):
    """A thread that stands in the kernel's queue for one lock."""

    def __init__(self, queue: LockQueue, held: Held) -> None:
        super().__init__(name="agentrelay-lock", daemon=True)
        # The queue must stay the only one of its path while this stands in line.
        self._queue = queue
        self._guard = threading.Lock()
        self._done = threading.Event()
        self._wanted = True
        self.held = held
        self.error: OSError | None = None

    def run(self) -> None:
        """Wait for the lock, and give it back at once if nobody wants it any more."""
        try:
            self.held.wait()
        except OSError as error:
            self.error = error
        with self._guard:
            self._done.set()
            if self._wanted:
                return
        self.held.close()

    def wait(self, timeout_s: float) -> bool:
        """Return whether it was over in time; if not, nobody wants the lock any more."""
        self._done.wait(timeout_s)
        with self._guard:
            self._wanted = self._done.is_set()
            return self._wanted

    def give_up(self) -> None:
        """Want the lock no more, whether it was had or not: the waiter was interrupted."""
        with self._guard:
            self._wanted = False
            if self._done.is_set():
                self.held.close()

    def take_over(self) -> bool:
        """Want the lock again, unless it was given back meanwhile."""
        with self._guard:
            self._wanted = not self._done.is_set()
            return self._wanted


def queue_of(path: Path) -> LockQueue:
    """Return the one queue of this process for a lock file."""
    key = str(path)
    with _registry:
        queue = _queues.get(key)
        if queue is None:
            queue = _queues[key] = LockQueue(path)
        return queue


# Guards the two below, for a few instructions at a time, and is taken around a fork, so
# that no child inherits them half changed. Reentrant: a signal handler may fork.
_registry = threading.RLock()
# Gone when nobody uses it. Two orchestrators in one process must share a queue, so it
# cannot hang on an instance.
_queues: weakref.WeakValueDictionary[str, LockQueue] = weakref.WeakValueDictionary()
# A lock lives as long as any copy of its descriptor, and a forked child may outlive a
# killed parent: it must close its copies.
_open_files: set[Held] = set()


def _start_afresh() -> None:
    """In a forked child: neither the threads nor the locks of the parent are its own."""
    global _registry, _queues  # noqa: PLW0603 - a lock cannot be reset in place
    _registry = threading.RLock()
    _queues = weakref.WeakValueDictionary()
    for held in _open_files:
        held.disown()
    _open_files.clear()


def _before_fork() -> None:
    _registry.acquire()


def _after_fork() -> None:
    _registry.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_start_afresh
    )


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)
