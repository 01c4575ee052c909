"""What breaks: limits of the operating system, and patience.

Each is a context manager; leaving it makes the world whole again. What needs a right
or a system that is not there says so, and the test is skipped with that reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pygit2
import pytest

from agentrelay.workstream._git import exchange, locks, pushes, remotes
from agentrelay.workstream.testing import GitServer

if sys.platform != "win32":
    import resource

__all__ = [
    "few_descriptors",
    "impatience",
    "mounted_tmpfs",
    "no_privileges",
    "overtime",
    "quick_clock",
    "small_files",
]

# linux/capability.h: what lets root read and write whatever its mode says.
_DAC_OVERRIDE_AND_SEARCH: Final = 0b110
_CAPABILITY_V3: Final = 0x20080522


def _libc(function: str, *arguments: Any) -> None:
    """Call a function of the C library that returns 0 or fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


class _QuickClock:
    """A clock on which ten seconds of waiting for a lock file are a tenth of one."""

    def __init__(self) -> None:
        """Start at the real clock's reading."""
        self._real = time.monotonic
        self._start = self._real()

    def monotonic(self) -> float:
        """Return a reading, in seconds."""
        return self._start + (self._real() - self._start) * 100


@contextmanager
def quick_clock() -> Iterator[None]:
    """Let whoever waits for a lock file think that time flies; everybody else is left alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locks, "time", _QuickClock())
        yield


@contextmanager
def impatience(silence_ms: int) -> Iterator[None]:
    """Let libgit2 wait less for a silent server; the setting belongs to the whole process."""
    before = pygit2.settings.server_timeout
    pygit2.settings.server_timeout = silence_ms
    try:
        yield
    finally:
        pygit2.settings.server_timeout = before


class _LeapingClock:
    """A clock that is put forward by an hour now and then."""

    def __init__(self) -> None:
        """Start at the real clock's reading."""
        self._ahead_s = 0.0

    def monotonic(self) -> float:
        """Return a reading, in seconds."""
        return time.monotonic() + self._ahead_s

    def leap(self) -> None:
        """Let an hour pass."""
        self._ahead_s += 3600


@contextmanager
def overtime(server: GitServer, path: str) -> Iterator[None]:
    """Let exchanges with a server think that certain answers took an hour.

    Whatever the deadline is, it is over then, and only then: no test has to be faster than
    one that is short.

    Args:
        server: The server that is slow.
        path: Regular expression searched in a request's path with its query.
    """
    clock, handle = _LeapingClock(), server.handle

    def answer(request: Any) -> Any:
        if re.search(path, request.target):
            clock.leap()
        return handle(request)

    with pytest.MonkeyPatch.context() as patch:
        for module in (exchange, pushes, remotes):
            patch.setattr(module, "time", clock)
        patch.setattr(server, "handle", answer)
        yield


@contextmanager
def no_privileges() -> Iterator[None]:
    """Let file modes count for whoever is above them as well, in this thread alone.

    Source:
        capabilities(7): the sets belong to a thread, and what is permitted may become
        effective again.
    """
    if sys.platform != "linux":
        yield
        return
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_V3, 0)
    # Effective, permitted and inheritable, twice 32 bits.
    sets = (ctypes.c_uint32 * 6)()
    _libc("capget", header, sets)
    before = sets[0]
    sets[0] = before & ~_DAC_OVERRIDE_AND_SEARCH
    _libc("capset", header, sets)
    try:
        yield
    finally:
        sets[0] = before
        _libc("capset", header, sets)


@contextmanager
def mounted_tmpfs(path: Path, *, size_bytes: int) -> Iterator[None]:
    """Mount a small file system of its own, for a disk that is really full."""
    if sys.platform != "linux":
        pytest.skip("only Linux has a tmpfs")
    options = f"size={size_bytes},mode=700".encode()
    try:
        _libc("mount", b"tmpfs", str(path).encode(), b"tmpfs", 0, options)
    except OSError as error:
        pytest.skip(f"a file system can be mounted by root only ({error})")
    try:
        yield
    finally:
        _libc("umount2", str(path).encode(), 2)  # MNT_DETACH: nobody is waited for


@contextmanager
def small_files(limit_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as a quota does.

    Source:
        setrlimit(2), RLIMIT_FSIZE; the interpreter ignores SIGXFSZ, so writes fail.
    """
    if sys.platform == "win32":
        pytest.skip("there are no resource limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def few_descriptors(left: int) -> Iterator[None]:
    """Leave this process only a few files it may still open."""
    if sys.platform == "win32":
        pytest.skip("there are no resource limits")
    # A collection in the middle would close files of other tests, and leave more than that.
    gc.collect()
    gc.disable()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/dev/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + left + 1, hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(left):
            os.close(taken.pop())
        yield
    finally:
        gc.enable()
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
