"""Which paths a sparse checkout shows, by its patterns.

Source:
    git-sparse-checkout(1), "Internals"; gitignore(5), "Pattern format". A path that no
    pattern matches is as the folder it is in; at the top there is nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

import pygit2

from agentrelay.workstream._git.file_entries import FileEntry
from agentrelay.workstream._git.tree_status import hidden_paths

__all__ = ["SparsePatterns", "parse_patterns", "paths_to_hide", "read_sparse_patterns"]

_PART: Final = re.compile(
    r"""
      (?P<folders> (?:^|(?<=/)) \*\*/ )
    | (?P<rest> (?:^|(?<=/)) \*\*$ )
    | (?P<star> \*+ )
    | (?P<one> \? )
    | \\ (?P<quoted> . )
    | \[ (?P<not> [!^]? ) (?P<set> \]?[^\]]* ) \]
    | (?P<plain> . )
    """,
    re.DOTALL | re.VERBOSE,
)
_RANGE: Final = re.compile(r"(.)-(.)", re.DOTALL)
_WILD: Final = {"folders": "(?:.*/)?", "rest": ".*", "star": "[^/]*", "one": "[^/]"}


class SparsePatterns:
    """The patterns of one sparse checkout, the last that matches counts."""

    def __init__(self, patterns: list[tuple[re.Pattern[str], bool, bool]]) -> None:
        """Take what :func:`parse_patterns` made: what matches, shown or hidden, folders only."""
        self._patterns = patterns

    def shows(self, path: str) -> bool:
        """Tell whether a file is to be in the working tree.

        Args:
            path: Relative to the top of the working tree.
        """
        is_folder = False
        while path:
            for pattern, is_shown, is_of_folders in reversed(self._patterns):
                if (is_folder or not is_of_folders) and pattern.fullmatch(path):
                    return is_shown
            path, is_folder = path.rpartition("/")[0], True
        return False


def paths_to_hide(
    handle: pygit2.Repository, entries: Sequence[tuple[str, FileEntry | None]]
) -> set[str]:
    """Return which of some paths a sparse checkout hides; new ones by its patterns.

    Args:
        handle: Repository opened at the working tree.
        entries: Each path, and what it is going to be.
    """
    hidden = hidden_paths(handle)
    patterns = read_sparse_patterns(handle)
    if patterns is not None:
        root = Path(handle.workdir)
        hidden |= {
            path
            for path, entry in entries
            if entry is not None
            and path not in handle.index
            and not os.path.lexists(root / path)
            and not patterns.shows(path)
        }
    return hidden.intersection(path for path, _ in entries)


def read_sparse_patterns(handle: pygit2.Repository) -> SparsePatterns | None:
    """Return the patterns of a working tree, ``None`` where its checkout is not sparse.

    Args:
        handle: Repository opened at the working tree.
    """
    try:
        if not handle.config.get_bool("core.sparseCheckout"):
            return None
    except (KeyError, ValueError):
        return None
    try:
        data = Path(handle.path, "info", "sparse-checkout").read_bytes()
    except OSError:
        # Without a file git shows everything.
        return None
    return parse_patterns(os.fsdecode(data))


def parse_patterns(text: str) -> SparsePatterns:
    """Read the lines of ``info/sparse-checkout``."""
    found = []
    for line in text.split("\n"):
        pattern = _without_trailing_blanks(line.removesuffix("\r"))
        if not pattern or pattern.startswith("#"):
            continue
        is_shown = not pattern.startswith("!")
        pattern = pattern.removeprefix("!")
        is_of_folders = pattern.endswith("/")
        pattern = pattern.removesuffix("/")
        if pattern:
            found.append((_compiled(pattern), is_shown, is_of_folders))
    return SparsePatterns(found)


def _without_trailing_blanks(line: str) -> str:
    bare = line.rstrip(" ")
    return f"{bare} " if bare != line and bare.endswith("\\") else bare


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Turn a pattern into an expression for whole paths."""
    prefix = "" if "/" in pattern else "(?:.*/)?"
    return re.compile(prefix + _PART.sub(_expression, pattern.removeprefix("/")), re.DOTALL)


def _expression(part: re.Match[str]) -> str:
    """Return the regular expression for a part of a pattern."""
    if part["set"] is not None:
        # A range that runs backwards is where it begins.
        inner = _RANGE.sub(
            lambda found: found[0] if found[1] <= found[2] else found[1], part["set"]
        )
        inner = re.sub(r"[\\\[\]^&~|]", r"\\\g<0>", inner)
        return f"(?!/)[{'^' if part['not'] else ''}{inner}]"
    if part["quoted"] is not None:
        return re.escape(part["quoted"])
    return _WILD.get(part.lastgroup or "") or re.escape(part[0])
