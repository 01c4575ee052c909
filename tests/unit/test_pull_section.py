"""The library's section of a body is kept up to date, and people's text is left alone."""

from __future__ import annotations

import re
from typing import Final

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from agentrelay.workstream.core.runtime import TaskSummary
from agentrelay.workstream.core.workstream import WorkstreamSpec
from agentrelay.workstream.implementations import _pull_section
from agentrelay.workstream.implementations._pull_section import (
    LONGEST_BODY_UNITS,
    count_units,
    find_section,
    refresh_body,
    wrap_section,
)
from agentrelay.workstream.implementations._pull_text import render_body

_BRANCH: Final = "agentrelay/nightly/parser/integration"
_OLD: Final = wrap_section("old\n\n- one", _BRANCH, tasks=1)
_NEW: Final = wrap_section("new\n\n- one\n- two", _BRANCH, tasks=2)


def _refresh(body: str, section: str = _NEW) -> str | None:
    return refresh_body(body, _BRANCH, lambda _: section)


def _crlf(text: str) -> str:
    return text.replace("\n", "\r\n")


def test_a_section_is_replaced_where_it_is() -> None:
    """What people wrote before and after it stays, to the byte."""
    assert _refresh(_OLD) == _NEW
    assert _refresh(f"Look at this  \n\n{_OLD}\r\n\r\nThanks\t") == (
        f"Look at this  \n\n{_NEW}\r\n\r\nThanks\t"
    )


def test_nothing_changes_where_nothing_changed() -> None:
    """No new body, so no request: also after an editor brought its own line ends."""
    for body in (_NEW, f"a\n{_NEW}\nb", _crlf(_NEW), _NEW.replace("new\n", "new  \n")):
        assert _refresh(body) is None
        assert find_section(body, _BRANCH) == "intact"


def test_a_body_with_the_line_ends_of_the_web_editor_keeps_them() -> None:
    """The new section is written with them too, and found unchanged the next time."""
    body = _refresh(_crlf(f"Mine\n\n{_OLD}\n"))
    assert body == _crlf(f"Mine\n\n{_NEW}\n")
    assert _refresh(body) is None


@pytest.mark.parametrize("body", ["", " \n\r\n"])
def test_an_empty_body_is_filled(body: str) -> None:
    """There is nothing of anybody's in it."""
    assert _refresh(body) == _NEW


_EDITED: Final = {
    "words within": _OLD.replace("- one", "- one, says Ann"),
    "a line within": _OLD.replace("- one\n", "- one\n- mine\n"),
    "all within taken out": _OLD.replace("old\n\n- one", ""),
    "no end": _OLD.rsplit("\n", 1)[0],
    "no beginning": _OLD.split("\n", 1)[1],
    "another digest": re.sub("begin tasks:1 ....", "begin tasks:1 0000", _OLD),
    "other digests": re.sub("(begin tasks:1|end) ....", r"\1 0000", _OLD),
    "text on a marker's line": f"see {_OLD}",
    "turned round": "\n".join([_OLD.split("\n")[-1], _OLD.split("\n")[0]]),
}


@pytest.mark.parametrize("name", _EDITED)
def test_a_section_somebody_edited_is_theirs(name: str) -> None:
    """The body stays as it is, no second section joins it, and the change can be told."""
    assert _refresh(f"a\n\n{_EDITED[name]}\n\nb") is None
    assert find_section(f"a\n\n{_EDITED[name]}\n\nb", _BRANCH) == "changed"


_THEIRS: Final = {
    "text": "I opened this by hand.",
    "a quote": "> " + _OLD.replace("\n", "\n> "),
    "a list": "- " + _OLD.replace("\n", "\n  "),
    "code": f"```\n{_OLD}\n```",
    "code that is not closed": f"~~~\n{_OLD}",
    "another lane": _OLD.replace("parser", "lexer"),
    "an old marker": f"text\n\n<!-- agentrelay:{_BRANCH} -->",
}


@pytest.mark.parametrize("name", _THEIRS)
def test_a_body_without_a_section_is_somebodys(name: str) -> None:
    """It was opened by hand, or the section was taken out: neither is undone."""
    assert _refresh(_THEIRS[name]) is None
    assert find_section(_THEIRS[name], _BRANCH) == "absent"


@pytest.mark.parametrize("name", _THEIRS)
def test_copies_are_somebodys_and_stay(name: str) -> None:
    """Beside a whole section, a quotation of it is only text."""
    if not name.endswith("closed"):
        assert _refresh(f"{_THEIRS[name]}\n\n{_OLD}") == f"{_THEIRS[name]}\n\n{_NEW}"
    assert _refresh(f"{_OLD}\n\n{_THEIRS[name]}") == f"{_NEW}\n\n{_THEIRS[name]}"


def test_a_second_whole_section_goes() -> None:
    """It is our own text, and would tell what is no longer so; what is between stays."""
    assert _refresh(f"{_OLD}\n\nMine\n\n{_OLD}\n") == f"{_NEW}\n\nMine\n\n\n"
    assert _refresh(f"{_NEW}\n\nMine\n\n{_OLD}") == f"{_NEW}\n\nMine\n\n"
    edited = _EDITED["words within"]
    assert _refresh(f"{edited}\n{_OLD}") == f"{edited}\n{_NEW}"


def test_a_process_that_knows_no_tasks_does_not_take_those_away_that_are_listed() -> None:
    """Summaries live in memory: whoever was started anew has none."""
    assert _refresh(_OLD, wrap_section("nothing", _BRANCH, tasks=0)) is None
    fewer = wrap_section("less", _BRANCH, tasks=1)
    assert _refresh(_NEW, fewer) == fewer
    none = wrap_section("a", _BRANCH, tasks=0)
    assert _refresh(none, wrap_section("b", _BRANCH, tasks=0)) is not None


def _render(longest_units: int) -> str:
    tasks = [TaskSummary(f"t{n}", "word " * 300) for n in range(60)]
    spec = WorkstreamSpec("parser")
    return render_body(spec, _BRANCH, tasks, [], longest_units=longest_units)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("length", [0, 30_000, 60_000, 63_000])
def test_peoples_text_is_never_cut_and_the_section_gets_the_rest(length: int, newline: str) -> None:
    """Together they stay below what GitHub takes."""
    theirs = "😀" * (length // 2)
    body = refresh_body(f"{theirs}{newline}{_OLD.replace(chr(10), newline)}", _BRANCH, _render)
    assert body is not None
    assert body.startswith(f"{theirs}{newline}<!-- agentrelay")
    assert find_section(body, _BRANCH) == "intact"
    assert count_units(body) <= max(LONGEST_BODY_UNITS, 65_000)
    if length < 60_000:
        assert body.count("word") > 1_000


def test_line_ends_of_two_characters_are_counted() -> None:
    """A section that fills its room does so with the body's line ends too."""

    def fill(longest_units: int) -> str:
        frame = count_units(wrap_section("", _BRANCH, tasks=1))
        return wrap_section("x\n" * ((longest_units - frame) // 2) + "y", _BRANCH, tasks=1)

    theirs = "x" * 20_000
    body = refresh_body(_crlf(f"{theirs}\n{_OLD}"), _BRANCH, fill)
    assert body is not None
    assert 40_000 < count_units(body) <= 65_000
    assert find_section(body, _BRANCH) == "intact"


def test_a_body_without_any_room_is_left_alone() -> None:
    """GitHub would refuse the whole of it."""
    assert refresh_body(f"{'x' * 64_800}\n{_OLD}", _BRANCH, _render) is None


@pytest.mark.parametrize("branch", ["x-->y--", "a b", "é/\ud800", "--!>", "x" * 400])
def test_a_section_is_found_whatever_the_branch_is_called(branch: str) -> None:
    """Names are escaped the same way when they are written and when they are looked for."""
    section = wrap_section("old", branch, tasks=0)
    new = wrap_section("new", branch, tasks=0)
    assert refresh_body(f"a\n{section}", branch, lambda _: new) == f"a\n{new}"


_TEXT: Final = st.lists(
    st.sampled_from(
        ["a", "é", "\n", "\r\n", "\r", " ", "```", "~~~", "> ", "- ", "    ", "<!--", "-->", "\t",
         *_OLD.split("\n"), *_NEW.split("\n"), _OLD, _NEW]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@settings(deadline=None)
@given(_TEXT, _TEXT, st.sampled_from(["\n", "\r\n"]))
@example("```", f"```\n{_OLD}", "\n")
def test_text_around_a_section_is_never_touched(before: str, after: str, newline: str) -> None:
    """Whatever it is, unless it is a whole section itself; and doing it twice changes nothing."""
    old, new = _OLD.replace("\n", newline), _NEW.replace("\n", newline)
    body = f"{before}\n{old}\n{after}"
    # By its place and not by its own text: a fence opened in front of it may end behind it.
    sections, _ = _pull_section._find(body, _BRANCH)
    assume({one.start for one in sections if one.is_intact} <= {len(before) + 1})
    changed = _refresh(body)
    if changed is not None:
        assert changed == f"{before}\n{new}\n{after}"
        assert _refresh(changed) is None


@settings(deadline=None)
@given(st.lists(_TEXT | st.sampled_from([_OLD, _NEW]), max_size=6))
def test_there_are_never_two_whole_sections_afterwards(parts: list[str]) -> None:
    """However many there were, and whatever is between them."""
    changed = _refresh("\n".join(parts))
    if changed is not None:
        sections, _ = _pull_section._find(changed, _BRANCH)
        assert [changed[one.start : one.end] for one in sections if one.is_intact] == [_NEW]
        assert _refresh(changed) is None


@settings(deadline=None)
@given(_TEXT)
def test_nothing_an_agent_writes_is_taken_for_the_end_of_the_section(text: str) -> None:
    """Markers in its code fences are code: the section around them is found whole."""
    tasks = [TaskSummary("t", f"```\n{text}"), TaskSummary("u", text)]
    section = render_body(WorkstreamSpec("parser"), _BRANCH, tasks, [text])
    assert find_section(f"a\n\n{section}\n\nb", _BRANCH) == "intact"
    assert _refresh(f"a\n\n{section}\n\nb") == f"a\n\n{_NEW}\n\nb"
