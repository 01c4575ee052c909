"""Moments at which a run can be stopped, found by watching it rather than listed.

Three kinds, told by the interpreter:

* *lines* of the package, each once;
* *writes*: audit events that change the disk or the network, every one of them, right
  before and right after;
* *calls* from the package, and from the libraries below it, into compiled code, each
  place once, right after: libgit2 and the kernel's locks are entered there.

The kernel's own account, system call by system call, is in ``_crash_syscalls.py``.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, Self

import filelock
import pygit2

from agentrelay.workstream import implementations

__all__ = ["KINDS", "Moment", "StoppedError", "Watch", "kill", "raise_stopped"]

Moment = tuple[str, ...]

KINDS: Final = frozenset({"line", "write", "call"})

_PACKAGE: Final = str(Path(implementations.__file__).parent.parent)
_TESTING: Final = str(Path(_PACKAGE, "testing"))
_BELOW: Final = tuple(str(Path(str(module.__file__)).parent) for module in (pygit2, filelock))
# Everything else with these beginnings changes something, events of later Pythons included.
_CHANGES: Final = ("os.", "shutil.", "tempfile.", "socket.", "fcntl.")
_LOOKS: Final = frozenset(
    {
        *("os.listdir", "os.scandir", "os.walk", "os.fwalk", "os.getxattr", "os.listxattr"),
        *("os.putenv", "os.unsetenv", "os.fork", "os.add_dll_directory", "os.listdrives"),
        *("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostname"),
        *("socket.getnameinfo", "socket.getservbyname", "socket.__new__"),
    }
)
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class StoppedError(KeyboardInterrupt):
    """What interrupts a run; nothing may swallow it, as nothing may swallow Ctrl-C."""


def kill() -> NoReturn:
    """End this process as the kernel's out-of-memory killer does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def raise_stopped() -> NoReturn:
    """Interrupt this thread where it is."""
    raise StoppedError


def _changes(event: str, arguments: tuple[Any, ...]) -> bool:
    """Tell whether an audit event announces a change of the disk or the network."""
    if event == "open":
        return isinstance(arguments[2], int) and bool(arguments[2] & _WRITING)
    return event.startswith(_CHANGES) and event not in _LOOKS


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    watch = _watching[-1] if _watching else None
    if watch is not None and _changes(event, arguments):
        watch.write(event)


# An audit hook cannot be removed; with nobody watching this one does nothing.
_watching: Final[list[Watch]] = []
sys.addaudithook(_audit)


class Watch:
    """Notes the moments of one thread's run, and stops it at one of them.

    Attributes:
        seen: The moments so far, in order.
        struck: Whether the run was stopped.
    """

    def __init__(
        self,
        kinds: frozenset[str] = KINDS,
        *,
        stop_at: Moment | None = None,
        strike: Any = raise_stopped,
    ) -> None:
        """Watch for moments of some kinds; ``strike`` is called at ``stop_at``."""
        self.seen: dict[Moment, None] = {}
        self.struck = False
        self._kinds = kinds
        self._stop_at = stop_at
        self._strike = strike
        self._times: Counter[Moment] = Counter()
        self._owed: Moment | None = None
        self._thread = threading.get_ident()
        self._ours: dict[str, bool] = {}
        self._calling: dict[str, bool] = {}

    def __enter__(self) -> Self:
        """Begin to watch this thread."""
        self._before = sys.gettrace(), sys.getprofile()
        _watching.append(self)
        if self._kinds & {"write", "call"}:
            sys.setprofile(self._profile)
        if "line" in self._kinds:
            sys.settrace(self._trace)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Watch no more."""
        self._rest()
        sys.settrace(self._before[0])
        sys.setprofile(self._before[1])

    def _rest(self) -> None:
        sys.settrace(None)
        sys.setprofile(None)
        if self in _watching:
            _watching.remove(self)

    def _note(self, moment: Moment) -> None:
        if moment in self.seen or self.struck or _is_final():
            return
        self.seen[moment] = None
        if moment == self._stop_at:
            self.struck = True
            self._rest()
            self._strike()

    def _is_ours(self, name: str) -> bool:
        known = self._ours.get(name)
        if known is None:
            known = name.startswith(_PACKAGE) and not name.startswith(_TESTING)
            self._ours[name] = known
        return known

    def write(self, event: str) -> None:
        """Note a change that is about to happen; what comes next owes the one after it."""
        if threading.get_ident() != self._thread or "write" not in self._kinds:
            return
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and not self._is_ours(frame.f_code.co_filename):
            frame = frame.f_back
        where = "elsewhere" if frame is None else _place(frame)
        self._times[event, where] += 1
        moment = ("write", event, where, str(self._times[event, where]))
        self._note((*moment, "before"))
        self._owed = moment

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:  # noqa: ARG002 - the tracer's signature
        if not self._is_ours(frame.f_code.co_filename):
            return None
        if event == "line":
            self._note(("line", _place(frame)))
        return self._trace

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        owed, self._owed = self._owed, None
        if owed is not None:
            self._note((*owed, "after"))
        if event != "c_return" or "call" not in self._kinds:
            return
        name = frame.f_code.co_filename
        if self._is_ours(name) or name.startswith(_BELOW):
            self._note(("call", getattr(argument, "__qualname__", "?"), _place(frame), "after"))


def _is_final() -> bool:
    """Tell whether an object is being taken apart: nothing raised there gets anywhere."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


def _place(frame: FrameType) -> str:
    name = frame.f_code.co_filename
    return f"{name.removeprefix(_PACKAGE).lstrip('/')}:{frame.f_lineno}"
