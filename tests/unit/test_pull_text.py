"""The pull request's text: readable, deterministic, and without power over GitHub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrelay.workstream._redact import redact
from agentrelay.workstream.core.runtime import OperationalConcern, TaskSummary
from agentrelay.workstream.core.workstream import WorkstreamSpec
from agentrelay.workstream.implementations._pull_section import (
    LONGEST_BODY_UNITS,
    count_units,
    find_section,
    refresh_body,
    wrap_section,
)
from agentrelay.workstream.implementations._pull_text import (
    render_body,
    render_merge_message,
    render_merge_title,
    render_title,
)
from tests.unit._markdown import live_words, read

if TYPE_CHECKING:
    from collections.abc import Iterable

_SPEC = WorkstreamSpec("parser", merge_target_branch="release", base_branch="develop")
_BRANCH = "agentrelay/nightly/parser/integration"
_ZWSP = "\u200b"


def _whole(
    summaries: Iterable[TaskSummary] = (),
    concerns: Iterable[str] = (),
    secrets: Iterable[str] = (),
) -> str:
    return render_body(_SPEC, _BRANCH, summaries, concerns, secrets=secrets)


def _between(body: str) -> str:
    """Return what is between the two markers."""
    return body.split("\n\n", 1)[1].rsplit("\n\n", 1)[0]


def _body(summaries: Iterable[TaskSummary] = (), concerns: Iterable[str] = ()) -> str:
    return _between(_whole(summaries, concerns))


def _said(text: str) -> str:
    """Return what becomes of an agent's text."""
    return _body([TaskSummary("t", description=text)])


# --- layout -----------------------------------------------------------------------------


def test_the_title_names_the_workstream() -> None:
    """The title is the reference's, word for word."""
    assert render_title("parser") == "Integrate workstream parser"


def test_a_title_is_one_line_of_a_length_github_takes() -> None:
    """Whatever the id holds, the title is printable and at most 256 long."""
    assert render_title("a\nb\x00") == "Integrate workstream a b\ufffd"
    assert len(render_title("x" * 500)) == 256
    assert render_title("x" * 500).endswith("…")


def test_the_body_shows_the_lane_its_tasks_and_its_concerns() -> None:
    """The whole body, once: this is what a reviewer reads."""
    body = render_body(
        WorkstreamSpec("parser", parent_workstream_id="compiler"),
        _BRANCH,
        [
            TaskSummary("lexer", "Split the input.", "https://github.com/o/r/pull/12", ("slow",)),
            TaskSummary("grammar"),
        ],
        ["two lanes\ntouch this", OperationalConcern("the base was stale")],
    )
    assert _between(body) == (
        "This brings the work of workstream `parser` together.\n"
        "It was opened by a program and waits for review.\n"
        "\n"
        "- **Workstream:** `parser`\n"
        "- **Parent:** `compiler`\n"
        f"- **Branches:** `{_BRANCH}` into `main`\n"
        "- **Cut from:** `main`\n"
        "\n"
        "## Tasks\n"
        "\n"
        "- **Task** `grammar`\n"
        "- **Task** `lexer`: [pull request 12](https://github.com/o/r/pull/12)\n"
        "\n"
        "  Split the input.\n"
        "\n"
        "  Concerns:\n"
        "\n"
        "  - **Concern:** slow\n"
        "\n"
        "## Concerns\n"
        "\n"
        "- **Concern:**\n"
        "\n"
        "  two lanes\n"
        "  touch this\n"
        "\n"
        "## Operational concerns\n"
        "\n"
        "- **Concern:** the base was stale"
    )


def test_the_example_of_the_documentation_is_a_body() -> None:
    """What the page shows is what a reviewer gets, to the byte."""
    page = (Path(__file__).parents[2] / "docs" / "pull-requests.md").read_text(encoding="utf-8")
    example = page.split("````markdown\n")[1].split("\n````")[0]
    pulls = "https://github.com/octo/widgets/pull"
    description = "Words come from a table now:\n```py\n@cached\ndef words(text): ...\n```"
    concern = "slow on long lines, see https://github.com/octo/widgets/issues/7"
    body = render_body(
        WorkstreamSpec("parser", parent_workstream_id="compiler"),
        _BRANCH,
        [
            TaskSummary("lexer", description, f"{pulls}/12", (concern,), "coder"),
            TaskSummary("grammar", None, f"{pulls}/13"),
        ],
        [
            OperationalConcern("the worktree holds uncommitted changes that no pull request shows"),
            "two tasks changed one file",
        ],
    )
    assert re.sub(r"(tasks:2|end) [0-9a-f]{16}", r"\1 DIGEST", body) == example


def test_a_lane_without_tasks_and_concerns_has_no_empty_sections() -> None:
    """Nothing to say is not said."""
    body = _body()
    assert "##" not in body
    assert "Parent" not in body
    assert "into `release`" in body
    assert "`develop`" in body


def test_the_order_in_which_tasks_finished_does_not_show() -> None:
    """The same tasks give the same text, so an update changes nothing for nothing."""
    tasks = [TaskSummary(name, name) for name in ("b", "a", "c")]
    assert _body(tasks) == _body(reversed(tasks))


def test_a_concern_is_listed_once_and_in_the_order_it_was_recorded() -> None:
    """A retry that notes the same thing again adds no line."""
    body = _body([TaskSummary("t", concerns=("x", "x"))], ["late", "early", "late"])
    assert body.count("**Concern:** x") == 1
    assert body.count("late") == 1
    assert body.index("late") < body.index("early")


def test_a_role_is_shown_beside_its_task_and_not_where_there_is_none() -> None:
    """As a name: exactly as it was written, and whatever it holds, it is no more than that."""
    assert "- **Task** `t` by `reviewer`\n" in _body([TaskSummary("t", "Text", role="reviewer")])
    assert _body([TaskSummary("t", role=" ")]) == _body([TaskSummary("t")])
    shown = _body([TaskSummary("t", pr_url="https://h/pull/7", role="@octo/team\n`#1`")])
    assert shown.endswith(
        "- **Task** `t` by `` @octo/team `#1` ``: [pull request 7](https://h/pull/7)"
    )


def test_an_empty_text_leaves_no_hole() -> None:
    """Blank descriptions are left out, blank concerns are said to be blank."""
    assert _body([TaskSummary("t", " \n ")]) == _body([TaskSummary("t")])
    assert "- **Concern:** (empty)" in _body(concerns=[" \n"])


def test_a_long_text_is_folded_and_a_short_one_is_not() -> None:
    """A reviewer sees at a glance what there is, and opens what matters."""
    assert "<details>" not in _said("a\n" * 12)
    body = _body([TaskSummary("t", "a\n" * 13, None, ("c " * 600,))])
    assert "\n  <details>\n  <summary>Description, 13 lines</summary>\n\n  a\n" in body
    assert "\n    <details>\n    <summary>Concern, one long line</summary>\n\n    c " in body
    assert body.count("</details>") == 2


def test_the_markers_cannot_be_broken_out_of() -> None:
    """Each is one comment, whatever git allows in a branch's name."""
    for name in ("x-->y--", "a\nb", "--!>"):
        reading = read(wrap_section("text", name, tasks=0))
        assert len(reading.html) == 2
        assert reading.texts == ["text"]


def test_the_markers_carry_no_secret_and_are_found_again() -> None:
    """A branch that holds a token is masked there too, and its section is still refreshed."""
    token, branch = "hunter2--hunter2", "agentrelay/g/hunter2--hunter2-->/integration"
    marked = redact(branch, token)

    def render(text: str) -> str:
        return render_body(_SPEC, branch, [TaskSummary("t", text)], [], secrets=[token])

    first = render("old")
    assert "hunter2" not in first
    assert len(read(first).html) == 2
    assert find_section(first, marked) == "intact"
    assert refresh_body(first, marked, lambda _: render("new")) == render("new")


# --- links ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://github.com/o/r/pull/7", "[pull request 7](https://github.com/o/r/pull/7)"),
        ("http://127.0.0.1:1/o/r/pull/7", "[pull request 7](http://127.0.0.1:1/o/r/pull/7)"),
        ("https://ghe.corp/x", "[pull request](https://ghe.corp/x)"),
        ("https://t0ken@ghe.corp/x", "[pull request](https://ghe.corp/x)"),
        ("javascript:alert(1)", "`javascript:alert(1)`"),
        ("https://x/) [y](https://z", "`https://x/) [y](https://z`"),
        ("https://x/`", "`` https://x/` ``"),
        ("data:text/html,x", "`data:text/html,x`"),
        ("https://x/" + "y" * 400, "`https://x/" + "y" * 290 + "`"),
    ],
)
def test_only_a_plain_web_address_becomes_a_link(url: str, shown: str) -> None:
    """Anything else is shown as what it is, and cannot be clicked."""
    assert _body([TaskSummary("t", pr_url=url)]).endswith(f"- **Task** `t`: {shown}")


# --- agents' text -----------------------------------------------------------------------


def test_a_secret_is_masked_wherever_it_is() -> None:
    """What looks like one, and what is known to be one: in ids, texts, links and code."""
    task = TaskSummary(
        "id-hunter2",
        "```\nhunter2 ghp_abcdefghijkl\n```",
        "https://h/hunter2",
        ("a hunter2",),
        "hunter2",
    )
    body = _whole([task], ["hunter2 https://u:p@h/x"], ["hunter2"])
    assert "hunter2" not in body
    assert "ghp_" not in body
    assert "u:p@" not in body
    assert body.count("***") == 7
    assert "hunter2" not in render_title("hunter2", secrets=["hunter2"])
    assert "hunter2" not in render_merge_title("hunter2", 1, secrets=["hunter2"])
    assert "hunter2" not in render_merge_message(_SPEC, "hunter2", [task], secrets=["hunter2"])


def test_code_in_a_description_stays_as_it_is() -> None:
    """To the byte, at any depth, and a fence left open is closed where the text ends."""
    code = "```py\n\tx  \n\n@a #1 </details>\n```"
    said = _said(code)
    assert read(said).fences == ["\tx  \n\n@a #1 </details>\n"]
    assert _said(code.removesuffix("```")) == said
    assert read(_body(concerns=[code])).fences == read(said).fences


_HOSTILE = st.text(
    st.sampled_from("ab1 \n\t`~#@<>!?&;:[]()*_-+=|\\/.\"'{}$^\r\x00\u2028") | st.characters(),
    max_size=60,
) | st.lists(
    st.sampled_from(
        ["```", "~~~", "\n", "<!--", "-->", "<b>", "@x", "#1", "GH-1", "![a](b)", "closes ",
         "https://h/1", "&#64;", "- ", "1. ", "> ", "===\n", "---\n", "[a]: b\n", "    ", "\n\n"]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@settings(deadline=None)
@given(_HOSTILE, _HOSTILE, _HOSTILE, _HOSTILE, st.sampled_from(["", "\nmore" * 12]))
def test_no_text_leaves_its_place_or_commands_anything(
    task_id: str, description: str, task_concern: str, concern: str, more: str
) -> None:
    """A Markdown reader sees our sections, lists and folds, whatever was written."""
    description += more
    body = _body(
        [TaskSummary(task_id, description, "https://h/pull/1", (task_concern,), concern)],
        [concern, OperationalConcern(f"own {concern}")],
    )
    reading = read(body)
    assert [word for said in reading.texts for word in live_words(said)] == []
    assert reading.top == ["p", "ul", "h2", "ul", "h2", "ul", "h2", "ul"]
    assert reading.headings == ["Tasks", "Concerns", "Operational concerns"]
    assert reading.links == ["https://h/pull/1"]
    assert reading.images == 0
    openings = [text for text in reading.html if re.match("<details>\n *<summary>[^<>]*</s", text)]
    assert sorted(reading.html) == sorted([*openings, *(["</details>"] * len(openings))])
    body.encode("utf-8")


@settings(deadline=None)
@given(_HOSTILE, _HOSTILE)
def test_titles_and_merge_messages_command_nothing(text: str, other: str) -> None:
    """They are plain text, where no code protects anything; no line of a task is a trailer."""
    spec = WorkstreamSpec(text, merge_target_branch=other)
    message = render_merge_message(spec, other, [TaskSummary(text, other), TaskSummary(other)])
    title = render_merge_title(text, 7)
    assert live_words(render_title(text)) == []
    assert title.endswith(" (#7)")
    assert live_words(title.removesuffix(" (#7)")) == []
    assert live_words(message) == []
    assert all(line.startswith("- ") for line in message.split("\n")[2:])


# --- length -----------------------------------------------------------------------------


def test_concerns_of_tasks_are_cut_before_those_of_the_lane_and_descriptions_last() -> None:
    """What a reviewer needs most is kept longest, and a notice says that parts are missing."""
    tasks = [
        TaskSummary(f"t{n:03}", "w" * 90, f"https://h/o/r/pull/{n}", ("z" * 900,))
        for n in range(100)
    ]
    body = _body(tasks, ["lane " * 50])
    assert count_units(body) < LONGEST_BODY_UNITS
    assert body.count("w" * 90) == 100
    assert "lane lane" in body
    assert "z" * 301 not in body
    assert "left out" in body


def test_half_a_secret_is_never_left_by_a_cut() -> None:
    """Masking comes before cutting."""
    text = "x" * 19_990 + " https://user:" + "p4ss" * 10_000 + "@h/x"
    assert "p4ss" not in _said(text)


def test_a_cut_falls_between_words_and_shows() -> None:
    """A shortened text says so at its end."""
    body = _said("word " * 9_000)
    assert "word […]" in body
    assert "left out" in body


def test_a_cut_within_code_shows_below_the_code() -> None:
    """The fence is closed, and what is in it is what was there."""
    body = _said("```\n" + "line\n" * 9_000)
    (code,) = read(body).fences
    assert set(code.split()) == {"line"}
    assert re.search(r"\n  ```\n\n  \[…\]\n", body)


def test_thousands_of_tasks_end_in_a_count() -> None:
    """When not even ids and links fit, the first ones are listed and the rest counted."""
    tasks = [TaskSummary(f"t{n:05}", "d", f"https://h/o/r/pull/{n}") for n in range(5_000)]
    body = _body(tasks, ["concern"])
    assert count_units(body) < LONGEST_BODY_UNITS
    listed = body.count("- **Task**")
    assert listed > 500
    assert f"… and {5_000 - listed} more tasks." in body


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 60), st.integers(0, 30_000), st.sampled_from(["x", "😀", "a b\n", "@"]))
def test_no_amount_of_text_exceeds_the_limit(count: int, length: int, text: str) -> None:
    """Characters outside the basic plane count twice, as GitHub counts them."""
    long = (text * length)[:length]
    tasks = [TaskSummary(f"t{n}", long[:2_000], None, (long,)) for n in range(count)]
    assert count_units(_body(tasks, [long])) < LONGEST_BODY_UNITS


@settings(max_examples=25, deadline=None)
@given(st.integers(-100, 8_000), st.integers(0, 60))
def test_a_section_is_as_short_as_it_is_told_to_be(room: int, count: int) -> None:
    """Where even that is too long, it is one sentence and its markers."""
    tasks = [TaskSummary(f"t{n}", "d " * 200, f"https://h/pull/{n}", ("c",)) for n in range(count)]
    body = render_body(_SPEC, _BRANCH, tasks, ["x" * 900], longest_units=room)
    assert count_units(body) < max(room, 600)


def test_the_words_of_a_merge_say_what_it_brings() -> None:
    """A first line with the number, then a line a task: no body, no code."""
    assert render_merge_title("parser", 12) == "Integrate workstream parser (#12)"
    assert len(render_merge_title("x" * 500, 12)) == 256
    tasks = [TaskSummary("b", "Closes #1.\nMore"), TaskSummary("a")]
    assert render_merge_message(_SPEC, _BRANCH, tasks) == (
        f"Brings {_BRANCH} into release.\n\n- a\n- b: Closes #{_ZWSP}1."
    )
    many = render_merge_message(_SPEC, _BRANCH, [TaskSummary(f"t{n:02}") for n in range(60)])
    assert many.endswith("- t49\n- and 10 more tasks")
