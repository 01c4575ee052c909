"""Title and body of a lane's pull request; pure.

Most of the body is written by agents. It is shown as they wrote it, but it cannot
mention people, close issues, load images, hide in comments or leave its place in the
layout: a zero width space, which nobody sees, is put where GitHub would start to read
a command. That works inside code as well as outside, so nothing depends on telling
the two apart the way GitHub does.

Source:
    GitHub Flavored Markdown and CommonMark 0.31 (a list item's content, fences
    included, ends where the indentation does; an HTML tag needs a letter, ``/``,
    ``!`` or ``?`` right after ``<``). docs.github.com, "Autolinked references and
    URLs", "Linking a pull request to an issue", "Skipping workflow runs".
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from agentrelay.workstream._redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agentrelay.workstream.core.runtime import TaskSummary
    from agentrelay.workstream.core.workstream import WorkstreamSpec

__all__ = ["LONGEST_BODY_UNITS", "render_body", "render_title"]

# GitHub refuses bodies above 65536 UTF-16 units; an answer's own escapes have been
# seen to count too, so stay well below.
LONGEST_BODY_UNITS: Final = 60_000

_LONGEST_TITLE: Final = 256

# No name git or GitHub accepts is longer.
_LONGEST_NAME: Final = 300

# What a branch's name may hold without an escape inside a comment.
_PLAIN_BYTES: Final = frozenset(f"{string.ascii_letters}{string.digits}._/-".encode())

_GAP: Final = "\u200b"

# Where a gap goes: after the match. Every one of these starts something on GitHub.
_BEFORE_GAP: Final = re.compile(
    r"""
      [@\#]                                  # a mention; a reference, a heading, an entity
    | <(?=[A-Za-z/!?])                       # HTML, a comment, an <autolink>
    | &(?=[A-Za-z][A-Za-z0-9]*;)             # an entity, which may spell any of the others
    | !(?=\[)                                # an image
    | \](?=[(\[:])                           # a link whose text hides where it goes
    | \[(?=(?:skip\ ci|ci\ skip|no\ ci|skip\ actions|actions\ skip)\])
    | (?<![A-Za-z0-9])GH\\?-(?=\d)           # a reference in its long form
      # A closing keyword before a URL; the other forms of a reference are gone by now.
    | (?<![A-Za-z0-9])(?:
          clo(?=se[sd]?[^A-Za-z0-9]{1,40}https?:)
        | fi(?=x(?:es|ed)?[^A-Za-z0-9]{1,40}https?:)
        | resol(?=ve[sd]?[^A-Za-z0-9]{1,40}https?:)
      )
    """,
    re.VERBOSE | re.IGNORECASE,
)

# Controls except line feed and tab; lone surrogates, which no JSON can carry; marks
# that reorder text on the screen, so that it reads unlike it is.
_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_NEWLINE: Final = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_FENCE: Final = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})(?P<info>.*)")

# A URL that cannot end the Markdown link it is put into.
_LINK: Final = re.compile(r"https?://[A-Za-z0-9.-]+(?::\d{1,5})?(?:/[A-Za-z0-9._~/%?&=+,;:!$-]*)?")
_PULL_NUMBER: Final = re.compile(r"/pull/(\d{1,12})$")

_NOTICE: Final = "_Parts of this text were left out: GitHub limits its length._"


@dataclass(frozen=True)
class _Budget:
    """How much of each kind of text is kept, in characters; 0 keeps none."""

    description: int
    lane_concern: int
    task_concern: int


# Tried in order until the body fits: the concerns of tasks give way first (their own
# pull requests hold them), then the lane's, then descriptions. Ids and links stay.
_BUDGETS: Final = (
    _Budget(description=20_000, lane_concern=20_000, task_concern=20_000),
    _Budget(description=8_000, lane_concern=8_000, task_concern=2_000),
    _Budget(description=2_000, lane_concern=4_000, task_concern=300),
    _Budget(description=2_000, lane_concern=2_000, task_concern=0),
    _Budget(description=300, lane_concern=500, task_concern=0),
    _Budget(description=100, lane_concern=0, task_concern=0),
    _Budget(description=0, lane_concern=0, task_concern=0),
)


def render_title(workstream_id: str) -> str:
    """Return the pull request's title.

    Args:
        workstream_id: Id of the workstream.
    """
    title = " ".join(f"Integrate workstream {_printable(workstream_id)}".split())
    return title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1] + "…"


def render_body(
    spec: WorkstreamSpec,
    branch_name: str,
    summaries: Iterable[TaskSummary],
    concerns: Iterable[str],
) -> str:
    """Return the pull request's body, in Markdown.

    The same input gives the same text: tasks are in the order of their ids, concerns
    in the order they were recorded, each once. Secrets are masked.

    Args:
        spec: The workstream.
        branch_name: Its integration branch.
        summaries: What its tasks did.
        concerns: What was noted about the lane as a whole.

    Returns:
        Text of fewer than :data:`LONGEST_BODY_UNITS` UTF-16 units. Its last line is a
        comment that names the branch, by which the pull request can be recognised.
    """
    tasks = [
        replace(
            task,
            description=_clean(task.description or ""),
            concerns=tuple(map(_clean, dict.fromkeys(task.concerns))),
        )
        for task in sorted(summaries, key=lambda task: task.task_id)
    ]
    notes = [_clean(concern) for concern in dict.fromkeys(concerns)]
    head = _head(spec, branch_name)
    tail = f"<!-- agentrelay:{_marker(branch_name)} -->"
    for budget in _BUDGETS:
        sections, cut = _sections(tasks, notes, budget)
        body = "\n\n".join([head, *sections, *([_NOTICE] if cut else []), tail])
        if _units(body) < LONGEST_BODY_UNITS:
            return body
    return _shortest(tasks, head, tail)


def _shortest(tasks: Sequence[TaskSummary], head: str, tail: str) -> str:
    """Keep as many of the first tasks as fit; there are thousands of them."""
    low, high = 0, len(tasks)
    budget = _BUDGETS[-1]

    def render(count: int) -> str:
        sections, _ = _sections(tasks[:count], [], budget)
        more = f"… and {len(tasks) - count} more tasks."
        return "\n\n".join([head, *sections, more, _NOTICE, tail])

    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if _units(render(middle)) < LONGEST_BODY_UNITS else (low, middle - 1)
        )
    return render(low)


def _head(spec: WorkstreamSpec, branch_name: str) -> str:
    """Say what this is, and between which branches."""
    lines = [
        f"This brings the work of workstream {_code(spec.id)} together.",
        "It was opened by a program and waits for review; nothing merges it by itself.",
        "",
        f"- **Workstream:** {_code(spec.id)}",
    ]
    if spec.parent_workstream_id is not None:
        lines.append(f"- **Parent:** {_code(spec.parent_workstream_id)}")
    lines += [
        f"- **Branches:** {_code(branch_name)} into {_code(spec.merge_target_branch)}",
        f"- **Cut from:** {_code(spec.base_branch)}",
    ]
    return "\n".join(lines)


def _sections(
    tasks: Sequence[TaskSummary], concerns: Sequence[str], budget: _Budget
) -> tuple[list[str], bool]:
    """Render the lists within a budget; tell whether anything was left out."""
    sections: list[str] = []
    cut = False
    if tasks:
        items: list[str] = []
        for task in tasks:
            item, item_cut = _task(task, budget)
            items.append(item)
            cut = cut or item_cut
        sections.append("## Tasks\n\n" + "\n".join(items))
    if concerns:
        shown, were_cut = _concerns(concerns, budget.lane_concern, indent=0)
        cut = cut or were_cut
        sections.append("## Concerns\n\n" + "\n".join(shown))
    return sections, cut


def _task(task: TaskSummary, budget: _Budget) -> tuple[str, bool]:
    """Render one task: id, link, description, concerns."""
    first = f"- **Task** {_code(task.task_id)}"
    if task.pr_url:
        first += f": {_link(task.pr_url)}"
    lines, cut = [first], False
    if task.description:
        text, cut = _shorten(task.description, budget.description)
        if text:
            lines += ["", *_block(text, indent=2)]
    if task.concerns:
        shown, were_cut = _concerns(task.concerns, budget.task_concern, indent=2)
        cut = cut or were_cut
        lines += ["", "  Concerns:", "", *shown]
    return "\n".join(lines), cut


def _concerns(concerns: Sequence[str], budget: int, *, indent: int) -> tuple[list[str], bool]:
    """Render concerns as a list, or just their number when there is no room."""
    pad = " " * indent
    if budget == 0:
        return [f"{pad}- {len(concerns)} left out"], True
    lines: list[str] = []
    cut = False
    for concern in concerns:
        text, was_cut = _shorten(concern, budget)
        cut = cut or was_cut
        block = _block(text, indent=indent + 2) or [f"{pad}  (empty)"]
        lines += (
            [f"{pad}- **Concern:** {block[0].strip()}"]
            if len(block) == 1
            else [
                f"{pad}- **Concern:**",
                "",
                *block,
            ]
        )
    return lines, cut


def _clean(text: str) -> str:
    """Mask and tidy a free text, and keep no more of it than the widest budget shows.

    Masking comes before any cut: half a secret would not be recognised any more.
    """
    return _printable(redact(text).strip()[: _BUDGETS[0].description + 1])


def _shorten(text: str, longest: int) -> tuple[str, bool]:
    """Cut a text, at a line or a word where there is one near."""
    if len(text) <= longest:
        return text, False
    kept = text[:longest]
    edge = max(kept.rfind("\n"), kept.rfind(" "))
    kept = kept[:edge] if edge > longest // 2 else kept
    return f"{kept.rstrip()} […]" if kept else "", True


def _block(text: str, *, indent: int) -> list[str]:
    """Make lines of a free text that stay within a list item."""
    if not text:
        return []
    lines = [line.expandtabs(4).rstrip() for line in text.split("\n")]
    pad = " " * indent
    safe = _BEFORE_GAP.sub(rf"\g<0>{_GAP}", "\n".join(_close_fence(lines)))
    return [pad + line if line else "" for line in safe.split("\n")]


def _close_fence(lines: list[str]) -> list[str]:
    """Close a code fence that was left open, for readers less strict than GitHub."""
    fence = ""
    for line in lines:
        match = _FENCE.fullmatch(line)
        if match is None:
            continue
        mark, info = match["fence"], match["info"].strip()
        if not fence:
            fence = "" if mark[0] == "`" and "`" in info else mark
        elif mark[0] == fence[0] and len(mark) >= len(fence) and not info:
            fence = ""
    return [*lines, fence] if fence else lines


def _printable(text: str) -> str:
    """Replace what has no place in a text."""
    return _UNPRINTABLE.sub("\ufffd", _NEWLINE.sub("\n", text))


def _code(text: str) -> str:
    """Show a name exactly, as code: nothing inside is read as Markdown."""
    name = " ".join(_printable(redact(text)).split())[:_LONGEST_NAME] or "?"
    longest = max((len(run) for run in re.findall("`+", name)), default=0)
    ticks = "`" * (longest + 1)
    # A space each is dropped again by the reader; it keeps backticks apart.
    pad = " " if name.startswith("`") or name.endswith("`") else ""
    return f"{ticks}{pad}{name}{pad}{ticks}"


def _link(url: str) -> str:
    """Link to a pull request; anything but a plain web address is shown as text."""
    target = redact(url.strip())
    if len(target) > _LONGEST_NAME or not _LINK.fullmatch(target):
        return _code(target)
    number = _PULL_NUMBER.search(target)
    return f"[pull request {number[1]}]({target})" if number else f"[pull request]({target})"


def _marker(branch_name: str) -> str:
    """Write a branch's name so that it cannot end the comment it is in."""
    raw = redact(branch_name)[:_LONGEST_NAME].encode("utf-8", "replace")
    escaped = "".join(chr(byte) if byte in _PLAIN_BYTES else f"%{byte:02X}" for byte in raw)
    return escaped.replace("--", "-%2D")


def _units(text: str) -> int:
    """Count UTF-16 units, as GitHub's limit does."""
    return len(text.encode("utf-16-le")) // 2
