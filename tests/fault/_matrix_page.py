"""The page of the fault matrix: writing it, and reading its rows back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["COMMAND", "PAGE", "Record", "read_page", "render_page", "write_page"]

PAGE: Final = Path(__file__).parents[2] / "docs" / "fault-matrix.md"
COMMAND: Final = "AGENTRELAY_WRITE_FAULT_MATRIX=1 python -m pytest tests/fault/test_fault_matrix.py"

_HEAD: Final = f"""# Fault matrix

What happens to a lane when something breaks. Each row is a test: it injects the fault, runs the
operation, writes down what the caller saw and what stood afterwards, takes the fault away, tries
again, and compares the end with a run that nothing disturbed. Every row also asserts that

* the error is of the library's own kind, has a hint, pickles, and shows no token: not in its
  message, its `repr` or its causes;
* the user's files, HEAD, index, branches and tags are what they were, byte for byte;
* what the agents committed can still be reached from a ref;
* nothing outside the lane's worktree and the repository's own directory was written, no file near
  it holds a token, and no program was started.

The page is written by the tests, not by hand; they fail when it is not what they see:

```bash
{COMMAND}
```

What needs root or Linux keeps its row where there is none. REPO is the clone, REMOTE its remote,
BRANCH the lane's branch (or its ref's end), COMMIT an id, HOME the user's home. `prepare` and
`integrate` raise; `teardown` never does, so its rows show the lane's concerns. A `whole life` is
all three in a row, with committed and uncommitted work, the pull request being merged in between.

The last part is a product: each verb in `tests/fault/_verbs.py` says what it touches, each fault in
`tests/fault/_rows_verbs.py` what it hits, and every pair that meets is a row, unless one above is
that very row already. A new verb is one entry.
"""

_COLUMNS: Final = ("injected", "during", "the caller saw", "afterwards", "tried again")


@dataclass(frozen=True)
class Record:
    """One line of the page.

    Attributes:
        part: Heading it stands under.
        cells: Fault, step, what was seen, the state, and how it was tried again.
    """

    part: str
    cells: tuple[str, str, str, str, str]

    @property
    def name(self) -> str:
        """The name of the row it is of."""
        return f"{self.cells[1]}: {self.cells[0]}"


def _escaped(text: str) -> str:
    """Return text that a table shows as it is."""
    text = " ".join(text.split())
    text = re.sub(r"([\\`*|\[\]])", r"\\\1", text)
    return text.replace("<", "&lt;").replace("&#", "&amp;#")


def _plain(cell: str) -> str:
    return re.sub(r"\\([\\`*|\[\]])", r"\1", cell.replace("&lt;", "<").replace("&amp;#", "&#"))


def render_page(records: Sequence[Record]) -> str:
    """Return the whole page; parts in the order they first appear."""
    lines = [_HEAD]
    for part in dict.fromkeys(record.part for record in records):
        lines.append(f"## {part}\n")
        lines.append(f"| {' | '.join(_COLUMNS)} |")
        lines.append(f"|{'---|' * len(_COLUMNS)}")
        lines += [
            f"| {' | '.join(_escaped(cell) for cell in record.cells)} |"
            for record in records
            if record.part == part
        ]
        lines.append("")
    return "\n".join(lines)


def read_page(path: Path = PAGE) -> dict[str, Record]:
    """Return the rows of the committed page by name; none where there is no page."""
    found: dict[str, Record] = {}
    part = ""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for line in text.splitlines():
        if line.startswith("## "):
            part = line.removeprefix("## ")
        if not line.startswith("| ") or line.startswith("| injected |"):
            continue
        cells = [_plain(cell) for cell in line.removeprefix("| ").removesuffix(" |").split(" | ")]
        fault, step, seen, state, again = cells
        record = Record(part, (fault, step, seen, state, again))
        found[record.name] = record
    return found


def write_page(records: Sequence[Record], path: Path = PAGE) -> None:
    """Write the page."""
    path.write_text(render_page(records), encoding="utf-8")
