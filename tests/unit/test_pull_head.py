"""The top of a lane's section says between which branches it goes, and why those changed."""

from __future__ import annotations

from typing import Any

import pytest

from agentrelay.workstream import WorkstreamSpec
from agentrelay.workstream.implementations._pull_head import (
    Retarget,
    amend_head,
    read_retargets,
    render_head,
)
from agentrelay.workstream.implementations._pull_section import amend_body, find_section
from agentrelay.workstream.implementations._pull_text import render_body

SPEC = WorkstreamSpec("parser", "compiler", "base", "old")
NEW = WorkstreamSpec("parser", None, "main", "main")
BRANCH = "agentrelay/nightly/parser/integration"
MOVED = Retarget("old", "main", "compiler", "https://github.com/octo/widgets/pull/12")
SECTION = render_body(SPEC, BRANCH, [], ["slow"])


def amended(body: str) -> str | None:
    """Return a body with another top."""
    head = render_head(NEW, BRANCH, [MOVED])
    return amend_body(body, BRANCH, lambda content: amend_head(content, head))


@pytest.mark.parametrize(
    "value", [None, "x", 5, {}, [None], [{}], [{"old": 1, "new": "b", "parent": "c"}], [[]]]
)
def test_a_record_that_somebody_edited_says_nothing(value: Any) -> None:
    """Whatever stands there, nothing is made of it."""
    assert read_retargets({"retargets": value}) == ()
    assert read_retargets({}) == ()


def test_what_is_recorded_is_read_again() -> None:
    """One that is whole counts beside one that is not, and without a page too."""
    bare = Retarget("a", "b", "c")
    entries = [MOVED.document(), {"old": "x"}, {**bare.document(), "pull_request": 7}]
    assert read_retargets({"retargets": entries}) == (MOVED, bare)


def test_names_cannot_act_and_secrets_are_masked() -> None:
    """Branches and pages come from a file: shown as code, or as a link that is one."""
    secret = "ghp_0123456789abcdefghij"
    page = "https://github.com/octo/widgets/pull/1) @everybody"
    text = render_head(NEW, BRANCH, [Retarget("`@all` #1", secret, "x", page)])
    last = text.split("\n")[-1]
    assert last.startswith("- **Retargeted:** from `` `@all` #1 `` to `")
    assert secret not in text
    assert f"by `{page}`" in last


def test_the_top_is_replaced_and_the_rest_stays() -> None:
    """Around the section, and below its top, to the byte."""
    body = amended(f"Mine\n\n{SECTION}\n\nMine too")
    assert body is not None
    assert body.startswith("Mine\n\n<!-- agentrelay:")
    assert body.endswith(" -->\n\nMine too")
    assert "into `main`\n- **Cut from:** `main`\n- **Retargeted:** from `old` to `main`" in body
    assert "## Concerns\n\n- **Concern:** slow" in body
    assert "**Parent:**" not in body
    assert find_section(body, BRANCH) == "intact"
    assert amended(body) is None


def test_line_ends_of_a_form_are_kept() -> None:
    """All of them are of one kind afterwards."""
    body = amended(SECTION.replace("\n", "\r\n"))
    assert body is not None
    assert body.replace("\r\n", "") == body.replace("\n", "").replace("\r", "")


@pytest.mark.parametrize(
    "body",
    ["", "Mine", SECTION.replace("slow", "fast"), f"> {SECTION}", SECTION + "x" * 65_000],
    ids=range(5),
)
def test_what_is_somebodys_or_has_no_room_is_left_alone(body: str) -> None:
    """No section, an edited one, a copy, and one too long for GitHub."""
    assert amended(body) is None


def test_a_section_that_begins_with_something_else_keeps_it() -> None:
    """Where there was room for a sentence only, it says the same as before."""
    assert amend_head("This is the work.\n\n- **x", "new") == "This is the work.\n\n- **x"
    short = render_body(SPEC, BRANCH, [], [], longest_units=200)
    assert "no room left" in short
    assert amended(short) is None
