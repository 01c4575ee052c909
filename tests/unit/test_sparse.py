"""Patterns of a sparse checkout; the stock git judges them in ``tests/interop``."""

from __future__ import annotations

import pytest

from agentrelay.workstream._git.sparse import parse_patterns

CONE = "/*\n!/*/\n/dir/\n!/dir/*/\n/dir/sub/\n"


@pytest.mark.parametrize(
    ("patterns", "shown", "hidden"),
    [
        (CONE, ["top", "dir/a", "dir/sub/a", "dir/sub/deep/a"], ["x/a", "dir/other/a", "x/dir/a"]),
        ("*.py\n", ["a.py", "deep/b.py"], ["a.pyc", "py"]),
        ("/*\n!docs/\n", ["a", "b/c"], ["docs/a", "b/docs/a"]),
        ("docs/\n", ["docs/a", "a/docs/b"], ["docs", "a"]),
        ("a/**/z\n", ["a/z", "a/b/z", "a/b/c/z/w"], ["z", "ab/z"]),
        ("a/**\n", ["a/b", "a/b/c"], ["a", "b/a/c"]),
        ("# no\n\n\\#yes \n", ["#yes"], ["# no", "no"]),
        ("b[0-9a]?\n", ["b1x", "bax"], ["b1", "bbx", "b/x"]),
        ("b[!0-9]\n", ["bx"], ["b1", "b/"]),
        ("[z-a]\n!\n", ["z"], ["a", "m"]),
        ("[]a]\n", ["]", "a"], ["b"]),
        ("a\\*\n", ["a*"], ["ab"]),
        ("", [], ["a"]),
    ],
)
def test_the_last_pattern_that_matches_decides(
    patterns: str, shown: list[str], hidden: list[str]
) -> None:
    """For the path, or else for the nearest folder it is in."""
    read = parse_patterns(patterns)
    assert [path for path in shown if not read.shows(path)] == []
    assert [path for path in hidden if read.shows(path)] == []
