"""Trailers of commit messages; the stock git judges them in ``tests/interop``."""

from __future__ import annotations

import pytest

from agentrelay.workstream._trailers import split_message, trailer_block
from agentrelay.workstream.implementations._commit_message import compose_message


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Subject: is none\n", None),
        ("S\n\nKey: value\n", [("Key", "value")]),
        ("S\n\nKey: one\n two\nOther:x\n", [("Key", "one two"), ("Other", "x")]),
        ("S\n\nKey: value\nprose\n", None),
        ("S\n\n  Key: value\n", None),
        ("S\n\nprose\n more\nSigned-off-by: A <a@b>\n", [("Signed-off-by", "A <a@b>")]),
        ("S\n\n1\n2\n3\n4\nSigned-off-by: A <a@b>\n", None),
        ("S\n\nKey: v\n(cherry picked from commit abc)\n", [("Key", "v")]),
        ("S\n\nKey: v\n# a comment\n", [("Key", "v")]),
    ],
)
def test_the_last_paragraph_is_trailers_or_is_not(
    message: str, expected: list[tuple[str, str]] | None
) -> None:
    """As git-interpret-trailers(1) decides it."""
    assert trailer_block(message) == expected


def test_a_message_is_subject_body_and_trailers() -> None:
    """The subject is the first paragraph as one line, as in ``git log``."""
    assert split_message("One\ntwo\n\nBody.\n\nKey: v\n") == (
        "One two",
        "Body.\n\nKey: v",
        (("Key", "v"),),
    )
    assert split_message("") == ("", "", ())


def test_a_trailer_that_is_last_already_is_not_repeated() -> None:
    """Only the neighbour counts, as git's default has it."""
    once = compose_message("S", {"Key": "v"})
    assert once == "S\n\nKey: v\n"
    assert compose_message(once, {"key": "v"}) == once
    assert compose_message(once, [("Key", "w"), ("Key", "v")]) == f"{once}Key: w\nKey: v\n"
