"""Telling a story while it happens: live in a terminal, in plain lines elsewhere."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from agentrelay.workstream.cli.report import STYLES, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

__all__ = ["Chapter", "Narrator"]

_STATUS_WIDTH: Final = max(map(len, STYLES)) + 2


class Chapter:
    """One part of the story, in which several lanes do the same thing at once."""

    def __init__(self, console: Console, names: Sequence[str], *, doing: str, width: int) -> None:
        """Begin with every lane at work.

        Args:
            console: Where to tell it.
            names: The lanes.
            doing: What they do, shown until they have done it.
            width: Columns for a lane's name.
        """
        self._console = console
        self._doing = doing
        self._width = width
        self._lock = threading.Lock()
        # A terminal that says it can do UTF-8 can show the nicer one.
        utf8 = console.encoding.lower().startswith("utf")
        self._spinner = Spinner("dots" if utf8 else "line", style="cyan")
        self._endings: dict[str, tuple[Text, Text] | None] = dict.fromkeys(names)

    def done(self, name: str, status: str, *texts: str) -> None:
        """Say how the lane ended this part; callable from any thread.

        Args:
            name: The lane.
            status: Its status, one of :class:`WorkstreamStatus`' values.
            *texts: The rest, a line each.
        """
        state = Text(status.ljust(_STATUS_WIDTH), STYLES[status])
        lines = [Text(visible(text)) for text in texts]
        with self._lock:
            self._endings[name] = state, Text("\n").join(lines)
            if not self._console.is_interactive:
                indent = "\n" + " " * (self._width + _STATUS_WIDTH)
                said = Text.assemble(name.ljust(self._width), state, Text(indent).join(lines))
                self._console.print(said, soft_wrap=True)

    def picture(self) -> Table:
        """Return the lanes as they are now, for a live display."""
        table = Table.grid()
        table.add_column(no_wrap=True, min_width=2)
        table.add_column(no_wrap=True, min_width=self._width, style="bold")
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        with self._lock:
            for name, ending in self._endings.items():
                if ending is None:
                    table.add_row(self._spinner, name, Text(self._doing, "dim"), "")
                else:
                    table.add_row("", name, *ending)
        return table


class Narrator:
    """Tells a story on one console."""

    def __init__(self, console: Console) -> None:
        """Tell it on ``console``, which may be a quiet one."""
        self._console = console
        self._chapters = 0

    def say(self, text: str, *, style: str = "") -> None:
        """Say one line."""
        self._console.print(Text(visible(text), style), soft_wrap=True)

    @contextmanager
    def chapter(self, title: str, names: Sequence[str], *, doing: str) -> Iterator[Chapter]:
        """Tell one part of the story.

        Args:
            title: Its heading.
            names: The lanes that take part.
            doing: What they do, shown until they have done it.
        """
        self._chapters += 1
        self._console.print()
        self.say(f"{self._chapters}. {title}", style="bold")
        chapter = Chapter(
            self._console, names, doing=doing, width=max(map(len, names), default=0) + 2
        )
        if self._console.is_interactive:
            with Live(
                get_renderable=chapter.picture, console=self._console, refresh_per_second=15
            ) as live:
                # The first picture is not left to the clock: lanes are quick.
                live.refresh()
                yield chapter
        else:
            yield chapter
