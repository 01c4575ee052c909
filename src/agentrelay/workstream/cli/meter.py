"""Showing on a terminal how far the files of several lanes are written."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.status import Status
    from rich.table import Table

    from agentrelay.workstream import CheckoutProgress

__all__ = ["Meter"]

_WIDTH: Final = 30


class Meter:
    """Listens to the checkouts of all lanes, and shows them as one bar."""

    def __init__(self) -> None:
        """Begin with no lane."""
        self._lock = threading.Lock()
        self._lanes: dict[str, CheckoutProgress] = {}
        self._status: Status | None = None
        self._text = ""

    @contextmanager
    def show(self, console: Console, text: str) -> Iterator[None]:
        """Show a text, and the bar once there is something to show; on a terminal only.

        Args:
            console: Where.
            text: What is being done.
        """
        from rich.text import Text

        # An ASCII spinner.
        with console.status(Text(text), spinner="line") as status:
            self._text, self._status = text, status
            yield

    def __call__(self, progress: CheckoutProgress) -> None:
        """Take note of one lane."""
        with self._lock:
            self._lanes[progress.workstream_id] = progress
            if self._status is not None:
                self._status.update(self._bar())

    def _bar(self) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        done = sum(lane.files_done for lane in self._lanes.values())
        total = sum(lane.files_total for lane in self._lanes.values())
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            Text(self._text),
            ProgressBar(total=max(total, 1), completed=done, width=_WIDTH),
            Text(f"{done:,} of {total:,} files"),
        )
        return bar
