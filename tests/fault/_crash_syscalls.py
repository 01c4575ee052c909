"""Stopping a child inside libgit2: at any system call that changes the disk or the network.

A filter in the kernel (seccomp) halts the child before each such call, and its parent
(ptrace) lets it go on or kills it there. So every write is a moment of its own, whoever
makes it and however deep inside a library, and the same run has the same moments.
What is written through a memory map is not seen.

Source:
    seccomp(2), ptrace(2), and linux/filter.h; numbers from the x86-64 system call table.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["can_trace", "run_traced"]

_CHANGING: Final = {
    "write": 1,
    "pwrite64": 18,
    "writev": 20,
    "sendfile": 40,
    "connect": 42,
    "sendto": 44,
    "sendmsg": 46,
    "truncate": 76,
    "ftruncate": 77,
    "rename": 82,
    "mkdir": 83,
    "rmdir": 84,
    "creat": 85,
    "link": 86,
    "unlink": 87,
    "symlink": 88,
    "chmod": 90,
    "fchmod": 91,
    "mknod": 133,
    "mkdirat": 258,
    "mknodat": 259,
    "unlinkat": 263,
    "renameat": 264,
    "linkat": 265,
    "symlinkat": 266,
    "fchmodat": 268,
    "fallocate": 285,
    "renameat2": 316,
    "copy_file_range": 326,
    "openat2": 437,
    "fchmodat2": 452,
}
# Number of the call, and which of its arguments holds the flags.
_OPENING: Final = {"open": (2, 1), "openat": (257, 2)}
_NAMES: Final = {number: name for name, number in _CHANGING.items()} | {
    number: name for name, (number, _) in _OPENING.items()
}
_FLAGS: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

# linux/bpf_common.h, linux/seccomp.h, linux/audit.h, linux/prctl.h
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_ARCH: Final = 0xC000003E
_TRACE, _ALLOW = 0x7FF00000, 0x7FFF0000
_NO_NEW_PRIVS, _SET_SECCOMP, _MODE_FILTER = 38, 22, 2
# sys/ptrace.h
_TRACE_ME, _CONT, _SET_OPTIONS, _SYSCALL_INFO = 0, 7, 0x4200, 0x420E
_OPTIONS: Final = 0x80 | 0x100000  # stop at the filter's calls; die with the parent
_EVENT: Final = signal.SIGTRAP | 7 << 8

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _filter() -> bytes:
    """Return the kernel's filter: halt before changing calls, let all others pass."""
    numbers = sorted(_CHANGING.values())
    openings = sorted(_OPENING.values())
    # The jumps lead to the end: three instructions an opening, then allow, then halt.
    allow = 3 + len(numbers) + 3 * len(openings)
    code = [(_LOAD, 0, 0, 4), (_JUMP_IF_EQUAL, 0, allow - 2, _ARCH), (_LOAD, 0, 0, 0)]
    code += [
        (_JUMP_IF_EQUAL, allow + 1 - (position + 1), 0, number)
        for position, number in enumerate(numbers, start=3)
    ]
    for number, argument in openings:
        code.append((_JUMP_IF_EQUAL, 0, 2, number))
        code.append((_LOAD, 0, 0, 16 + 8 * argument))
        here = len(code)
        code.append((_JUMP_IF_SET, allow + 1 - (here + 1), allow - (here + 1), _FLAGS))
    assert len(code) == allow
    code += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _TRACE)]
    return b"".join(struct.pack("HBBI", *line) for line in code)


def _ptrace(request: int, child: int, address: int = 0, data: object = None) -> int:
    return int(_libc.ptrace(request, child, ctypes.c_void_p(address), data))


def run_traced(action: Callable[[], object], *, stop_at: int | None = None) -> list[str]:
    """Run an action in a child, and kill it before its n-th changing system call.

    Args:
        action: What to run.
        stop_at: Counted from 1; ``None`` lets it run to its end.

    Returns:
        Names of the changing system calls the child came to.
    """
    child = os.fork()
    if child == 0:
        try:
            _ptrace(_TRACE_ME, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            code = _filter()
            program = _Program(len(code) // 8, code)
            _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
            if _libc.prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) == 0:
                action()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    _ptrace(_SET_OPTIONS, child, 0, ctypes.c_void_p(_OPTIONS))
    calls: list[str] = []
    information = ctypes.create_string_buffer(88)
    passed_on = 0
    while True:
        _ptrace(_CONT, child, 0, ctypes.c_void_p(passed_on))
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            return calls
        passed_on = os.WSTOPSIG(status)
        if status >> 8 == _EVENT:
            passed_on = 0
            _ptrace(_SYSCALL_INFO, child, 88, information)
            (number,) = struct.unpack_from("Q", information.raw, 24)
            calls.append(_NAMES.get(number, str(number)))
            if len(calls) == stop_at:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return calls


@functools.cache
def can_trace() -> bool:
    """Try it: containers may forbid it, other systems and processors do not have it."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return False
    return run_traced(lambda: Path("/proc/none").mkdir()) == ["mkdir"]
