"""The top of a lane's section in a pull request: which lane, between which branches; pure.

It says, too, why the branches are others than they were: a lane is retargeted when its
parent was merged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final, Optional

from agentrelay.workstream._redact import redact
from agentrelay.workstream.core.workstream import WorkstreamSpec
from agentrelay.workstream.implementations._neutral import show_link, show_name

__all__ = ["RETARGETS", "Retarget", "amend_head", "read_retargets", "render_head"]

# Key of a lane's record.
RETARGETS: Final = "retargets"
_INTRODUCTION: Final = "This brings the work of workstream "
_ITEM: Final = "- **"


@dataclass(frozen=True)
class Retarget:
    """One time that a lane got another target.

    Attributes:
        old: Branch it was to be merged into; its parent's.
        new: Branch it is to be merged into since.
        parent: Id of the workstream that was merged.
        pull_request: Page of that workstream's pull request, or ``None``.
    """

    old: str
    new: str
    parent: str
    pull_request: Optional[str] = None

    def document(self) -> dict[str, Any]:
        """Return its entry in the lane's record."""
        return asdict(self)


def read_retargets(record: dict[str, Any]) -> tuple[Retarget, ...]:
    """Read what a lane's record, which anyone may have edited, says of its targets."""
    entries = record.get(RETARGETS)
    found = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        old, new, parent = (entry.get(key) for key in ("old", "new", "parent"))
        url = entry.get("pull_request")
        if isinstance(old, str) and isinstance(new, str) and isinstance(parent, str):
            found.append(Retarget(old, new, parent, url if isinstance(url, str) else None))
    return tuple(found)


def render_head(
    spec: WorkstreamSpec,
    branch_name: str,
    retargets: Iterable[Retarget] = (),
    *,
    secrets: Iterable[str] = (),
) -> str:
    """Return the top of a lane's section, in Markdown.

    Args:
        spec: The workstream.
        branch_name: Its integration branch.
        retargets: The times it got another target, oldest first.
        secrets: Values to mask besides what looks like a secret.
    """
    known = tuple(secrets)

    def name(text: str) -> str:
        return show_name(redact(text, *known))

    lines = [
        f"{_INTRODUCTION}{name(spec.id)} together.",
        "It was opened by a program and waits for review.",
        "",
        f"{_ITEM}Workstream:** {name(spec.id)}",
    ]
    if spec.parent_workstream_id is not None:
        lines.append(f"{_ITEM}Parent:** {name(spec.parent_workstream_id)}")
    lines += [
        f"{_ITEM}Branches:** {name(branch_name)} into {name(spec.merge_target_branch)}",
        f"{_ITEM}Cut from:** {name(spec.base_branch)}",
    ]
    for one in retargets:
        merged = f"workstream {name(one.parent)} was merged"
        if one.pull_request is not None:
            merged += f" by {show_link(redact(one.pull_request, *known))}"
        lines.append(
            f"{_ITEM}Retargeted:** from {name(one.old)} to {name(one.new)}, because {merged}"
        )
    return "\n".join(lines)


def amend_head(content: str, head: str) -> str:
    """Return a section's content with another top, and everything below it as it was.

    Content that does not begin with such a top is returned as it is.

    Args:
        content: What is between the markers.
        head: The new top.
    """
    introduction, _, below = content.partition("\n\n")
    items, gap, rest = below.partition("\n\n")
    is_head = introduction.startswith(_INTRODUCTION) and all(
        line.startswith(_ITEM) for line in items.split("\n")
    )
    return f"{head}{gap}{rest}" if is_head else content
