"""Reading an audit log that others are appending to."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from agentrelay.workstream.errors import WorkstreamError
from agentrelay.workstream.events import LaneEvent

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["EventLog", "LaneNow"]

# Of a long log only the end is read at first: some ten thousand events.
_END_BYTES: Final = 2 << 20
_LONGEST_LINE: Final = 1 << 20
# At one look; the next one goes on from there.
_MOST_BYTES: Final = 8 << 20


class LaneNow:
    """What a log says of one lane.

    Attributes:
        last: The last event.
        doing: The verb and step that are under way, or an empty text.
    """

    def __init__(self, last: LaneEvent) -> None:
        """Begin with the first event that was read."""
        self.last = last
        self.doing = ""
        self.take(last)

    def take(self, event: LaneEvent) -> None:
        """Go on to the next event."""
        self.last = event
        if event.verb == "mark":
            # One signal, within another verb or by itself.
            return
        if event.step is None:
            self.doing = "" if event.is_end else event.verb
        elif event.is_end:
            self.doing = event.verb
        else:
            far = "" if event.total is None else f" ({event.done} of {event.total})"
            self.doing = f"{event.verb}: {event.step}{far}"


class EventLog:
    """The lines others append to a file, read as they come.

    Lines that are no events are passed over; so is a last line that is not whole yet. A
    file that is not there, or was replaced by a shorter one, is read from its beginning
    when it is.

    Attributes:
        lanes: What the log says of each lane, by graph and id.
    """

    def __init__(self, path: Path) -> None:
        """Read nothing yet."""
        self.lanes: dict[tuple[str, str], LaneNow] = {}
        self._path = path
        self._at: int | None = None
        self._rest = b""

    def read(self) -> None:
        """Read what has come.

        Raises:
            WorkstreamError: It is there and cannot be read, or is no file.
        """
        try:
            text = self._next()
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from error
        *lines, self._rest = (self._rest + text).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            # No event is that long; what follows of it is passed over.
            self._rest = b""
        for line in lines:
            self._take(line)

    def _next(self) -> bytes:
        # A pipe that nobody writes to would be waited for without end.
        with os.fdopen(
            os.open(self._path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb"
        ) as file:
            now = os.fstat(file.fileno())
            if not stat.S_ISREG(now.st_mode):
                raise self._unreadable("it is no regular file")
            if self._at is None or self._at > now.st_size:
                self._at, self._rest = max(0, now.st_size - _END_BYTES), b""
            file.seek(self._at)
            text = file.read(_MOST_BYTES)
        self._at += len(text)
        return text

    def _unreadable(self, reason: str) -> WorkstreamError:
        message = f"the log '{self._path}' cannot be read: {reason}"
        return WorkstreamError(message, hint="Name a file that a command wrote with --audit.")

    def _take(self, line: bytes) -> None:
        try:
            event = LaneEvent.from_json(line.decode("ascii"))
        except ValueError:
            return
        if not isinstance(event.graph, str) or not isinstance(event.workstream_id, str):
            return
        now = self.lanes.get((event.graph, event.workstream_id))
        if now is None:
            self.lanes[event.graph, event.workstream_id] = LaneNow(event)
        else:
            now.take(event)
