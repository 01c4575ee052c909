"""Telling code fences from everything else in a Markdown text, as CommonMark does; pure.

Only what decides about fences is read: block quotes, list items and what may interrupt
a paragraph. HTML and link reference definitions do not exist here, because the texts
that are read have lost their power to begin one.

Code fences are taken out of the lists and quotes they are in. Whoever writes them down
again at the left edge has a fence whatever is around it, so nothing that GitHub acts on
depends on this reader being right: where it erred, a text would look different, no more.

Source:
    CommonMark 0.31, "Container blocks", "Fenced code blocks", "Tabs" and the appendix
    "A parsing strategy"; the order of the checks is that of its reference parser.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Code", "Prose", "read_blocks"]

# What a line can begin with that is not merely text.
_MARKS: Final = frozenset("#`~=-*_+>0123456789")

# Nobody reads deeper, and lines may cost no more than their length.
_DEEPEST: Final = 32

_TAB: Final = 4
_SPACES: Final = re.compile(" *+")
_HEADING: Final = re.compile(r"#{1,6}(?: |$)")
_OPENING: Final = re.compile(r"(?P<mark>`{3,}+)(?P<info>[^`]*+)$|(?P<tildes>~{3,}+)(?P<rest>.*+)$")
_UNDERLINE: Final = re.compile(r"(?:=++|-++) *+$")
_RULE: Final = re.compile(r"(?:(?:\* *+){3,}+|(?:- *+){3,}+|(?:_ *+){3,}+)$")
_ITEM: Final = re.compile(r"(?P<bullet>[*+-])(?= |$)|(?P<number>\d{1,9})[.)](?= |$)")


@dataclass(frozen=True)
class Prose:
    """One line that is not in a fence.

    Attributes:
        text: The line with its list markers and quote marks, tabs made spaces, without
            the indentation of list items a fence was taken out of.
    """

    text: str


# There can be a great many of them.
_BLANK: Final = Prose("")


@dataclass(frozen=True)
class Code:
    """One code fence.

    Attributes:
        mark: The backticks or tildes that open it.
        info: What follows them.
        lines: Its content, to the byte, without the indentation of what it is in.
        first: Number of its first line, from 0.
        last: Number of its last line, its closing one if it has one.
    """

    mark: str
    info: str
    lines: tuple[str, ...]
    first: int
    last: int


@dataclass
class _Container:
    """A block quote (``width`` 0) or a list item that is open."""

    width: int
    is_empty: bool = False
    is_detached: bool = False


@dataclass
class _Fence:
    mark: str
    info: str
    indent: int
    first: int
    lines: list[str] = field(default_factory=list)

    def is_closed_by(self, text: str) -> bool:
        """Tell whether a line, from its first mark on, is the closing one."""
        run = text.rstrip(" ")
        return len(run) >= len(self.mark) and not run.strip(self.mark[0])


def read_blocks(text: str) -> list[Prose | Code]:
    """Read a text into its fences and its other lines, in their order.

    A fence that is not closed ends where its container or the text does.

    Args:
        text: Any text; its lines end in line feeds.
    """
    reader = _Reader()
    number = 0
    for number, line in enumerate(text.removesuffix("\n").split("\n")):
        reader.feed(number, line)
    reader.end_fence(number)
    return reader.blocks


class _Reader:
    """The state between two lines."""

    def __init__(self) -> None:
        """Begin outside of everything."""
        self.blocks: list[Prose | Code] = []
        self._containers: list[_Container] = []
        self._in_paragraph = False
        self._fence: _Fence | None = None

    def feed(self, number: int, raw: str) -> None:
        """Read one line."""
        if not raw and self._fence is None and not self._containers:
            self.blocks.append(_BLANK)
            self._in_paragraph = False
            return
        line = raw.expandtabs(_TAB)
        column, prefix = self._match(line)
        if self._fence is not None:
            if len(prefix) == len(self._containers):
                self._feed_fence(number, raw, line, column)
                return
            self.end_fence(number - 1)
        self._open(number, line, column, prefix)

    def end_fence(self, last: int) -> None:
        """Close the fence that is open, if one is."""
        if self._fence is not None:
            fence = self._fence
            self.blocks.append(Code(fence.mark, fence.info, tuple(fence.lines), fence.first, last))
            self._fence = None

    def _match(self, line: str) -> tuple[int, list[str]]:
        """Find how far the open containers go on in a line.

        Returns:
            The column after them, and how each that goes on is written.
        """
        column = 0
        prefix: list[str] = []
        for container in self._containers:
            start = _first(line, column)
            is_blank = start == len(line)
            if not container.width:
                if is_blank or start - column >= _TAB or line[start] != ">":
                    break
                column = _after_quote_mark(line, start)
                prefix.append("> ")
                continue
            if start - column >= container.width:
                column += container.width
            elif is_blank and not container.is_empty:
                column = start
            else:
                break
            prefix.append("" if container.is_detached else " " * container.width)
        return column, prefix

    def _feed_fence(self, number: int, raw: str, line: str, column: int) -> None:
        """Read a line whose containers are those of the open fence."""
        fence = self._fence
        assert fence is not None
        start = _first(line, column)
        if start - column < _TAB and fence.is_closed_by(line[start:]):
            self.end_fence(number)
        else:
            fence.lines.append(_without_columns(raw, column, fence.indent))

    def _open(  # noqa: C901, PLR0912 - one branch a construct, in the reference parser's order
        self, number: int, line: str, column: int, prefix: list[str]
    ) -> None:
        """Read what a line opens after the containers that go on."""
        matched, begin = len(prefix), column
        # What the reference parser calls the container's type, and "maybe lazy".
        after_paragraph = self._in_paragraph and matched == len(self._containers)
        may_continue = self._in_paragraph
        opened: list[_Container] = []
        is_text, fence = True, None
        while (start := _first(line, column)) < len(line):
            if start - column >= _TAB:
                is_text = may_continue
                break
            if line[start] not in _MARKS:
                break
            if line[start] == ">" and matched + len(opened) < _DEEPEST:
                opened.append(_Container(0))
                column = _after_quote_mark(line, start)
            elif _HEADING.match(line, start):
                is_text = False
                break
            elif found := _OPENING.match(line, start):
                mark = found["mark"] or found["tildes"]
                info = found["info"] or found["rest"] or ""
                fence = _Fence(mark, info, start - column, number)
                break
            elif (after_paragraph and _UNDERLINE.match(line, start)) or _RULE.match(line, start):
                is_text = False
                break
            elif (
                width := _item_width(line, column, start, interrupts=after_paragraph)
            ) and matched + len(opened) < _DEEPEST:
                opened.append(_Container(width))
                column = min(column + width, len(line))
            else:
                break
            after_paragraph = may_continue = False
        is_blank = start == len(line)
        is_lazy = may_continue and is_text and not is_blank and fence is None
        if not is_lazy:
            # Those that do not go on end here; only a paragraph goes on without them.
            self._containers[matched:] = opened
        self._note_content(is_blank=is_blank, opened=opened)
        self._in_paragraph = is_text and not is_blank and fence is None
        if fence is None:
            self.blocks.append(Prose(("".join(prefix) + line[begin:]).rstrip()))
            return
        head = "".join(prefix) + line[begin:start]
        # A number says something without its text, a bullet does not.
        if any(character.isdigit() for character in head):
            self.blocks.append(Prose(head.rstrip()))
        for container in self._containers:
            container.is_detached = True
        self._fence = fence

    def _note_content(self, *, is_blank: bool, opened: list[_Container]) -> None:
        """Remember which list items have nothing in them yet."""
        if is_blank and not opened:
            return
        for container in self._containers:
            container.is_empty = False
        if is_blank:
            opened[-1].is_empty = True


def _first(line: str, column: int) -> int:
    """Return where the first character is that is no space; the line's end if none is."""
    found = _SPACES.match(line, column)
    return found.end() if found else column


def _after_quote_mark(line: str, start: int) -> int:
    """Return the column after a quote mark and the one space that belongs to it."""
    return start + 2 if line[start + 1 : start + 2] == " " else start + 1


def _item_width(line: str, column: int, start: int, *, interrupts: bool) -> int:
    """Return how far the content of a list item that starts here is indented, 0 if none does."""
    found = _ITEM.match(line, start)
    if found is None:
        return 0
    content = _first(line, found.end())
    is_blank = content == len(line)
    # Neither an empty item nor one that counts from elsewhere interrupts a paragraph.
    if interrupts and (is_blank or (found["number"] is not None and int(found["number"]) != 1)):
        return 0
    gap = content - found.end()
    # More than four spaces belong to indented code within the item.
    return found.end() + (1 if is_blank or gap > _TAB else gap) - column


def _without_columns(raw: str, columns: int, most_spaces: int) -> str:
    """Drop the first columns of a line, and then white space up to a number of columns.

    What is left of a tab that was dropped in part becomes spaces.
    """
    index = column = 0
    while column < columns and index < len(raw):
        column += _TAB - column % _TAB if raw[index] == "\t" else 1
        index += 1
    left = max(column - columns, 0)
    for _ in range(most_spaces):
        if left:
            left -= 1
        elif raw[index : index + 1] == " ":
            index, column = index + 1, column + 1
        elif raw[index : index + 1] == "\t":
            left = _TAB - column % _TAB - 1
            index, column = index + 1, column + left + 1
        else:
            break
    return " " * left + raw[index:]
