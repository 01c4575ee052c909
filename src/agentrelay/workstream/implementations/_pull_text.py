"""Title and body of a lane's pull request, and the words of its merge; pure.

Most of it is written by agents, and shown as they wrote it, but without power over
GitHub: see :mod:`agentrelay.workstream.implementations._neutral`.

Source:
    GitHub refuses bodies above 65536 UTF-16 units and titles above 256 characters.
    docs.github.com, "Organizing information with collapsed sections".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agentrelay.workstream._redact import redact
from agentrelay.workstream.core.runtime import OperationalConcern
from agentrelay.workstream.implementations._neutral import (
    neutral_line,
    neutral_lines,
    printable,
    show_link,
    show_name,
)
from agentrelay.workstream.implementations._pull_head import render_head
from agentrelay.workstream.implementations._pull_section import (
    LONGEST_BODY_UNITS,
    count_units,
    wrap_section,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agentrelay.workstream.core.runtime import TaskSummary
    from agentrelay.workstream.core.workstream import WorkstreamSpec
    from agentrelay.workstream.implementations._pull_head import Retarget

__all__ = ["lines_of", "render_body", "render_merge_message", "render_merge_title", "render_title"]

_LONGEST_TITLE: Final = 256

# A commit message is read in a terminal: a line a task, and no novel.
_LONGEST_MERGE_LINE: Final = 200
_MOST_MERGE_LINES: Final = 50

# What is longer than a glance is folded.
_FOLDED_LINES: Final = 12
_FOLDED_CHARACTERS: Final = 1_000

_LEADING_BLANKS: Final = re.compile(r"(?:[ \t]*+\n)*")

_MORE: Final = "[…]"
_NOTICE: Final = "_Parts of this text were left out: GitHub limits its length._"
_SHORTEST: Final = (
    "This is the work of one workstream. There is no room left here for what it brings: "
    "GitHub limits the length of this text."
)


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


@dataclass(frozen=True)
class _Task:
    """A task's summary with its secrets masked and no more text than can be shown."""

    task_id: str
    pr_url: str
    description: str
    concerns: tuple[str, ...]
    role: str


def render_title(
    workstream_id: str, *, host: str = "github.com", secrets: Iterable[str] = ()
) -> str:
    """Return the pull request's title.

    Args:
        workstream_id: Id of the workstream.
        host: Host of the GitHub that will show it.
        secrets: Values to mask besides what looks like a secret.
    """
    title = neutral_line(redact(f"Integrate workstream {workstream_id}", *secrets), host=host)
    return _cut_line(title, _LONGEST_TITLE)


def render_merge_title(
    workstream_id: str, number: int, *, host: str = "github.com", secrets: Iterable[str] = ()
) -> str:
    """Return the first line of the commit that merges a lane's pull request.

    Args:
        workstream_id: Id of the workstream.
        number: Number of the pull request; GitHub links it.
        host: Host of the GitHub that will read it.
        secrets: Values to mask besides what looks like a secret.
    """
    end = f" (#{number})"
    title = neutral_line(redact(f"Integrate workstream {workstream_id}", *secrets), host=host)
    return _cut_line(title, _LONGEST_TITLE - len(end)) + end


def render_merge_message(
    spec: WorkstreamSpec,
    branch_name: str,
    summaries: Iterable[TaskSummary],
    *,
    host: str = "github.com",
    secrets: Iterable[str] = (),
) -> str:
    """Return what the merging commit says below its first line: a line a task.

    Merging with a message of one's own matters: the one GitHub makes can hold the body,
    and a commit message knows no code, so what is harmless there could act here.

    Args:
        spec: The workstream.
        branch_name: Its integration branch.
        summaries: What its tasks did.
        host: Host of the GitHub that will read it.
        secrets: Values to mask besides what looks like a secret.
    """
    known = tuple(secrets)

    def line(text: str) -> str:
        return _cut_line(neutral_line(redact(text, *known), host=host), _LONGEST_MERGE_LINE)

    brings = line(f"Brings {branch_name} into {spec.merge_target_branch}.")
    lines = []
    tasks = sorted(summaries, key=lambda task: task.task_id)
    for task in tasks[:_MOST_MERGE_LINES]:
        first = (task.description or "").strip().split("\n", 1)[0]
        # No line is a trailer ("Co-authored-by:"): each begins with a dash.
        lines.append(f"- {line(f'{task.task_id}: {first}' if first else task.task_id) or '?'}")
    if len(tasks) > _MOST_MERGE_LINES:
        lines.append(f"- and {len(tasks) - _MOST_MERGE_LINES} more tasks")
    return "\n\n".join([brings, "\n".join(lines)] if lines else [brings])


def render_body(
    spec: WorkstreamSpec,
    branch_name: str,
    summaries: Iterable[TaskSummary],
    concerns: Iterable[str],
    *,
    host: str = "github.com",
    secrets: Iterable[str] = (),
    longest_units: int = LONGEST_BODY_UNITS,
    retargets: Iterable[Retarget] = (),
) -> str:
    """Return the library's section of a pull request's body: all of a new one's, in Markdown.

    The same input gives the same text: tasks are in the order of their ids, concerns
    in the order they were recorded, each once. Secrets are masked.

    Args:
        spec: The workstream.
        branch_name: Its integration branch.
        summaries: What its tasks did.
        concerns: What was noted about the lane as a whole; those the library recorded
            itself are listed apart.
        host: Host of the GitHub that will show it.
        secrets: Values to mask besides what looks like a secret.
        longest_units: Longest text to return, in UTF-16 units. What matters least is
            cut first, and a notice says so.
        retargets: The times the workstream got another target, oldest first.

    Returns:
        A section between the markers by which
        :func:`agentrelay.workstream.implementations._pull_section.refresh_body` finds
        it. Below 800 units its room may not be enough for anything but a sentence.
    """
    page = _Page(host, tuple(secrets))
    tasks, others, own = page.read(summaries, concerns)
    head = render_head(spec, branch_name, retargets, secrets=page.secrets)
    # Whoever edits the body sees the markers.
    marked = redact(branch_name, *page.secrets)

    def wrap(parts: Sequence[str]) -> str:
        return wrap_section("\n\n".join(parts), marked, tasks=len(tasks))

    for budget in _BUDGETS:
        if _least_units(tasks, [*own, *others], budget) > longest_units:
            continue
        sections, cut = page.sections(tasks, others, own, budget)
        body = wrap([head, *sections, *([_NOTICE] if cut else [])])
        if count_units(body) < longest_units:
            return body

    def render(count: int) -> str:
        sections, _ = page.sections(tasks[:count], [], [], _BUDGETS[-1])
        return wrap([head, *sections, f"… and {len(tasks) - count} more tasks.", _NOTICE])

    shortened = _most_that_fits(len(tasks), render, longest_units)
    return wrap([_SHORTEST]) if shortened is None else shortened


def lines_of(
    summaries: Iterable[TaskSummary],
    concerns: Iterable[str],
    *,
    host: str = "github.com",
    secrets: Iterable[str] = (),
) -> frozenset[str]:
    """Return the lines in which :func:`render_body` shows these, whatever room there is."""
    page = _Page(host, tuple(secrets))
    read = page.read(summaries, concerns)
    shown = ["\n".join(page.sections(*read, budget)[0]) for budget in _BUDGETS]
    return frozenset(["", _NOTICE, *"\n".join(shown).split("\n")])


def _most_that_fits(most: int, render: Callable[[int], str], longest_units: int) -> str | None:
    """Render as many of the first tasks as fit; there are thousands, or hardly any room."""
    low, high = -1, most
    while low < high:
        middle = (low + high + 1) // 2
        fits = count_units(render(middle)) < longest_units
        low, high = (middle, high) if fits else (low, middle - 1)
    return None if low < 0 else render(low)


def _least_units(tasks: Sequence[_Task], concerns: Sequence[str], budget: _Budget) -> int:
    """Tell how long a body is at least, without rendering it."""
    return (
        sum(min(len(task.description), budget.description) for task in tasks)
        + sum(min(len(text), budget.task_concern) for task in tasks for text in task.concerns)
        + sum(min(len(text), budget.lane_concern) for text in concerns)
    )


@dataclass(frozen=True)
class _Page:
    """How texts become Markdown: for which GitHub, and without which secrets."""

    host: str
    secrets: tuple[str, ...]

    def clean(self, text: str) -> str:
        """Mask and tidy a free text, and keep no more of it than the widest budget shows.

        Masking comes before any cut: half a secret would not be recognised any more.
        """
        tidy = printable(redact(text, *self.secrets))
        begin = _LEADING_BLANKS.match(tidy)
        return tidy[begin.end() if begin else 0 :].rstrip()[: _BUDGETS[0].description + 1]

    def read(
        self, summaries: Iterable[TaskSummary], concerns: Iterable[str]
    ) -> tuple[list[_Task], list[str], list[str]]:
        """Clean what is to be shown: tasks, concerns, and the library's own apart."""
        tasks = [
            _Task(
                redact(task.task_id, *self.secrets),
                redact((task.pr_url or "").strip(), *self.secrets),
                self.clean(task.description or ""),
                tuple(map(self.clean, dict.fromkeys(task.concerns))),
                redact((task.role or "").strip(), *self.secrets),
            )
            for task in sorted(summaries, key=lambda task: task.task_id)
        ]
        notes = [(isinstance(text, OperationalConcern), text) for text in dict.fromkeys(concerns)]
        own = [self.clean(text) for is_own, text in notes if is_own]
        return tasks, [self.clean(text) for is_own, text in notes if not is_own], own

    def sections(
        self,
        tasks: Sequence[_Task],
        concerns: Sequence[str],
        operational: Sequence[str],
        budget: _Budget,
    ) -> tuple[list[str], bool]:
        """Render the lists within a budget; tell whether anything was left out."""
        sections: list[str] = []
        cut = False
        if tasks:
            items = [self._task(task, budget) for task in tasks]
            cut = any(item_cut for _, item_cut in items)
            sections.append("## Tasks\n\n" + "\n".join(item for item, _ in items))
        for heading, texts in (("Concerns", concerns), ("Operational concerns", operational)):
            if texts:
                shown, were_cut = self._concerns(texts, budget.lane_concern, indent=0)
                cut = cut or were_cut
                sections.append(f"## {heading}\n\n" + "\n".join(shown))
        return sections, cut

    def _task(self, task: _Task, budget: _Budget) -> tuple[str, bool]:
        """Render one task: id, role, link, description, concerns."""
        first = f"- **Task** {show_name(task.task_id)}"
        if task.role:
            first += f" by {show_name(task.role)}"
        if task.pr_url:
            first += f": {show_link(task.pr_url)}"
        lines, cut = [first], False
        if task.description:
            shown, cut = self._text(task.description, budget.description)
            if shown:
                lines += ["", *_indent(_fold(shown, "Description"), 2)]
        if task.concerns:
            concerns, were_cut = self._concerns(task.concerns, budget.task_concern, indent=2)
            cut = cut or were_cut
            lines += ["", "  Concerns:", "", *concerns]
        return "\n".join(lines), cut

    def _concerns(
        self, concerns: Sequence[str], budget: int, *, indent: int
    ) -> tuple[list[str], bool]:
        """Render concerns as a list, or just their number when there is no room."""
        if budget == 0:
            return _indent([f"- {len(concerns)} left out"], indent), True
        lines: list[str] = []
        cut = False
        for concern in concerns:
            shown, was_cut = self._text(concern, budget)
            cut = cut or was_cut
            if len(shown) > 1 or len("".join(shown)) > _FOLDED_CHARACTERS:
                item = ["- **Concern:**", "", *_indent(_fold(shown, "Concern"), 2)]
            else:
                item = [f"- **Concern:** {''.join(shown).strip() or '(empty)'}"]
            lines += _indent(item, indent)
        return lines, cut

    def _text(self, text: str, longest: int) -> tuple[list[str], bool]:
        """Render a free text, cut at a line or a word where there is one near."""
        if len(text) <= longest:
            return neutral_lines(text, host=self.host), False
        kept = text[:longest]
        edge = max(kept.rfind("\n"), kept.rfind(" "))
        kept = kept[:edge] if edge > longest // 2 else kept
        lines = neutral_lines(kept.rstrip(), host=self.host)
        if lines and lines[-1][:3] not in {"```", "~~~"}:
            lines[-1] += f" {_MORE}"
        elif lines:
            lines += ["", _MORE]
        return lines, True


def _indent(lines: Iterable[str], columns: int) -> list[str]:
    pad = " " * columns
    return [pad + line if line else "" for line in lines]


def _fold(lines: list[str], label: str) -> list[str]:
    """Fold a long text; what is inside cannot end the fold, it holds no tags."""
    if len(lines) <= _FOLDED_LINES and sum(map(len, lines)) <= _FOLDED_CHARACTERS:
        return lines
    count = f"{len(lines)} lines" if len(lines) > 1 else "one long line"
    summary = f"<summary>{label}, {count}</summary>"
    return ["<details>", summary, "", *lines, "", "</details>"]


def _cut_line(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
