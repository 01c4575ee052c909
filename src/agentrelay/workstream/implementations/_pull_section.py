"""The library's section within the body of a pull request; pure.

A body belongs to whoever edits it. The library's part of it is between two markers,
comments that nobody sees who does not edit. Both carry a digest of what is between
them, so text that somebody wrote in there is noticed, and no text within can be taken
for the end of it. Only a section that is whole and unchanged is ever replaced; in every
other case the body stays as it is.
"""

from __future__ import annotations

import hashlib
import re
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from agentrelay.workstream._redact import redact
from agentrelay.workstream.implementations._blocks import Code, read_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "LONGEST_BODY_UNITS",
    "amend_body",
    "count_units",
    "find_section",
    "refresh_body",
    "wrap_section",
]

# GitHub refuses bodies above 65536 UTF-16 units. An answer's own escapes have been
# seen to count too, so a text of ours stays well below; people's may use the rest.
LONGEST_BODY_UNITS: Final = 60_000
_MOST_UNITS: Final = 65_000

_LONGEST_NAME: Final = 300

# What a branch's name may hold without an escape inside a comment.
_PLAIN_BYTES: Final = frozenset(f"{string.ascii_letters}{string.digits}._/-".encode())

# Markers count only as lines of their own, at the left edge: in a quote or a list they
# are somebody's copy.
_BEGIN: Final = re.compile(
    r"^<!-- agentrelay:(?P<name>[^ \n]++) begin tasks:(?P<tasks>\d{1,9}) (?P<digest>[0-9a-f]{16})"
    r"[^\n>]*+(?<=--)>[ \t]*+\r?(?:\n|\Z)",
    re.MULTILINE,
)
_END: Final = re.compile(
    r"^<!-- agentrelay:(?P<name>[^ \n]++) end (?P<digest>[0-9a-f]{16}) -->(?=[ \t]*+\r?$)",
    re.MULTILINE,
)
_ADVICE: Final = "; this part is kept up to date: write above or below it"


@dataclass(frozen=True)
class _Section:
    """A pair of markers in a body, from ``start`` to ``end``."""

    start: int
    end: int
    tasks: int
    is_intact: bool


def wrap_section(content: str, branch_name: str, *, tasks: int) -> str:
    """Put a text between the markers of a lane.

    Args:
        content: The text, in Markdown.
        branch_name: The lane's integration branch, secrets masked; the markers carry it.
        tasks: How many tasks it speaks of.
    """
    name, digest = _escape(branch_name), _digest(content)
    return (
        f"<!-- agentrelay:{name} begin tasks:{tasks} {digest}{_ADVICE} -->\n\n"
        f"{content}\n\n"
        f"<!-- agentrelay:{name} end {digest} -->"
    )


def find_section(body: str, branch_name: str) -> Literal["intact", "changed", "absent"]:
    """Tell what has become of a lane's section.

    Args:
        body: Body of a pull request.
        branch_name: The lane's integration branch, secrets masked as in the markers.

    Returns:
        ``"changed"`` when somebody wrote within it, or lost one of its markers.
    """
    sections, is_damaged = _find(body, _escape(branch_name))
    if any(section.is_intact for section in sections):
        return "intact"
    return "changed" if sections or is_damaged else "absent"


def refresh_body(existing_body: str, branch_name: str, render: Callable[[int], str]) -> str | None:
    """Return a body with a lane's section brought up to date.

    What people wrote stays, byte for byte:

    * Around the section, it stays where it is, with its line ends, however long it is;
      the section becomes shorter when room is short.
    * Within the section, or when a marker was deleted or changed, the whole body is
      theirs now and is left alone.
    * A body without a trace of the section is left alone too: somebody wrote it, or
      took the section out. Only an empty one is filled.
    * Copies in quotes, lists and code are theirs. A second whole copy at the left edge
      is the library's own text, and goes.

    A section that names no tasks never replaces one that does: whoever renders it has
    been started anew and does not know them.

    Args:
        existing_body: Body as GitHub has it.
        branch_name: The lane's integration branch, secrets masked as in the markers.
        render: Returns the new section, given the longest it may be in UTF-16 units.

    Returns:
        The new body, or ``None`` when there is nothing to change.
    """
    if not existing_body.strip():
        return render(LONGEST_BODY_UNITS)
    sections = [found for found in _find(existing_body, _escape(branch_name))[0] if found.is_intact]
    if not sections:
        return None
    first, *copies = sections
    there = existing_body[first.start : first.end]
    kept = _without(existing_body[first.end :], first.end, copies)
    around = existing_body[: first.start] + kept
    section = _fit(render, "\r\n" if "\r\n" in there else "\n", _MOST_UNITS - count_units(around))
    begin = _BEGIN.match(section)
    if begin is None or (first.tasks and not int(begin["tasks"])) or _tidy(section) == _tidy(there):
        section = there
    body = existing_body[: first.start] + section + kept
    return None if body == existing_body or count_units(body) > _MOST_UNITS else body


def amend_body(existing_body: str, branch_name: str, amend: Callable[[str], str]) -> str | None:
    """Return a body with a part of a lane's section changed, and everything else as it was.

    For who does not know all that the section says. Only a section that is whole and
    unchanged is amended; what people wrote stays, byte for byte.

    Args:
        existing_body: Body as GitHub has it.
        branch_name: The lane's integration branch.
        amend: Returns the new content, given what is between the markers now.

    Returns:
        The new body, or ``None`` when there is nothing to change.
    """
    for section in _find(existing_body, _escape(branch_name))[0]:
        there = existing_body[section.start : section.end]
        begin = _BEGIN.match(there)
        if not section.is_intact or begin is None:
            continue
        content = there[begin.end() : there.rindex("<!-- agentrelay:")]
        amended = wrap_section(
            amend(content.replace("\r\n", "\n").strip("\n")), branch_name, tasks=section.tasks
        )
        if _tidy(amended) == _tidy(there):
            return None
        if "\r\n" in there:
            amended = amended.replace("\n", "\r\n")
        body = existing_body[: section.start] + amended + existing_body[section.end :]
        return None if count_units(body) > _MOST_UNITS else body
    return None


def count_units(text: str) -> int:
    """Count UTF-16 units, as GitHub's limit does."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _fit(render: Callable[[int], str], newline: str, room: int) -> str:
    """Render a section for the room there is, with the line ends of the body."""
    section = render(min(room, LONGEST_BODY_UNITS))
    if newline == "\n":
        return section
    # Each line end counts once more.
    longer = section.count("\n")
    if count_units(section) + longer > room:
        section = render(min(room, LONGEST_BODY_UNITS) - longer)
    return section.replace("\n", newline)


def _without(text: str, offset: int, copies: list[_Section]) -> str:
    """Cut copies out of the text that begins at an offset of the body."""
    kept, at = [], 0
    for copy in copies:
        kept.append(text[at : copy.start - offset])
        at = copy.end - offset
    return "".join([*kept, text[at:]])


def _find(body: str, name: str) -> tuple[list[_Section], bool]:
    """Find the pairs of markers of a lane; tell whether there is half of one."""
    in_code = _places_in_code(body) if f"<!-- agentrelay:{name} " in body else []

    def markers(pattern: re.Pattern[str]) -> list[re.Match[str]]:
        return [
            found
            for found in pattern.finditer(body)
            if found["name"] == name and not _is_within(in_code, found.start())
        ]

    begins, ends = markers(_BEGIN), markers(_END)
    sections: list[_Section] = []
    for number, begin in enumerate(begins):
        # One section ends before the next begins, or it has lost its end.
        limit = begins[number + 1].start() if number + 1 < len(begins) else len(body)
        for end in ends:
            if begin.end() <= end.start() < limit and end["digest"] == begin["digest"]:
                is_intact = _digest(body[begin.end() : end.start()]) == begin["digest"]
                tasks = int(begin["tasks"])
                sections.append(_Section(begin.start(), end.end(), tasks, is_intact))
                break
    is_damaged = len(sections) < len(begins) or any(
        not _is_within([(one.start, one.end) for one in sections], end.start()) for end in ends
    )
    return sections, is_damaged


def _places_in_code(body: str) -> list[tuple[int, int]]:
    """Return from where to where the fences of a body reach."""
    lines = body.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    blocks = read_blocks("\n".join(line.removesuffix("\r") for line in lines))
    return [
        (starts[block.first], starts[block.last + 1]) for block in blocks if isinstance(block, Code)
    ]


def _is_within(spans: list[tuple[int, int]], place: int) -> bool:
    return any(start <= place < end for start, end in spans)


def _digest(content: str) -> str:
    """Sum up a text so that the line ends and trailing blanks of an editor do not count."""
    return hashlib.sha256(_tidy(content).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _tidy(text: str) -> str:
    lines = text.replace("\r\n", "\n").strip("\n").split("\n")
    return "\n".join(line.rstrip(" \t\r") for line in lines)


def _escape(branch_name: str) -> str:
    """Write a branch's name so that it cannot end the comment it is in."""
    raw = redact(branch_name)[:_LONGEST_NAME].encode("utf-8", "replace")
    escaped = "".join(chr(byte) if byte in _PLAIN_BYTES else f"%{byte:02X}" for byte in raw)
    return escaped.replace("--", "-%2D")
