"""What a command does, as JSON lines: on stderr, and appended to an audit log."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from agentrelay.workstream.events import subscribe

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from agentrelay.workstream.events import LaneEvent

__all__ = ["AUDIT_FAILED", "AuditLog", "tell_stderr", "write_audit"]

# Key of click's meta dictionary: the program ends with another status then.
AUDIT_FAILED: Final = "agentrelay.workstream.audit-failed"


class AuditLog:
    """A file that events are appended to, each as one line by one write.

    Several processes may append to one file: the kernel does not mix their lines.
    """

    def __init__(self, path: Path, context: click.Context) -> None:
        """Open the file, or make it, readable by its owner alone.

        Raises:
            OSError: It can be neither.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        # A pipe that nobody reads would be waited for without end.
        flags |= getattr(os, "O_NONBLOCK", 0)
        self._path = path
        self._meta = context.meta
        self._file: int | None = os.open(path, flags, 0o600)
        self._lock = threading.Lock()
        self._subscription = subscribe(self._append)

    def _append(self, event: LaneEvent) -> None:
        line = event.to_json().encode("ascii") + b"\n"
        with self._lock:
            if self._file is None:
                return
            try:
                if os.write(self._file, line) == len(line):
                    return
                reason = "it was cut short"
            except OSError as error:
                reason = error.strerror or str(error)
            self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        """Say once that the log ends here; the lanes go on."""
        from agentrelay.workstream.cli.report import print_failure

        self._shut()
        self._meta[AUDIT_FAILED] = True
        print_failure(
            f"the audit log '{self._path}' cannot be written: {reason}",
            "It lacks what happened from here on. The command goes on, and ends with status 1.",
        )

    def _shut(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        """Go on appending."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._subscription.close()
        with self._lock:
            self._shut()


def write_audit(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    """Append what the command does to a file, from now until it ends.

    Raises:
        BadParameter: It cannot be opened; nothing was tried.
    """
    if path is None or context.resilient_parsing:
        return
    try:
        log = AuditLog(path, context)
    except OSError as error:
        message = f"'{path}' cannot be opened: {error.strerror or error}"
        raise click.BadParameter(message, context, parameter) from error
    context.with_resource(log)


def tell_stderr(context: click.Context, parameter: click.Parameter, wanted: bool) -> bool:  # noqa: FBT001 - click's signature
    """Print what the command does on stderr, from now until it ends."""
    del parameter
    if wanted and not context.resilient_parsing:
        writing = threading.Lock()

        def tell(event: LaneEvent) -> None:
            with writing:
                click.echo(event.to_json(), err=True)

        context.with_resource(subscribe(tell))
    return wanted
