"""The pull request's text: readable, deterministic, and without power over GitHub."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from agentrelay.workstream.core.runtime import TaskSummary
from agentrelay.workstream.core.workstream import WorkstreamSpec
from agentrelay.workstream.implementations._pull_text import (
    LONGEST_BODY_UNITS,
    render_body,
    render_title,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markdown_it.token import Token

_SPEC = WorkstreamSpec("parser", merge_target_branch="release", base_branch="develop")
_BRANCH = "agentrelay/nightly/parser/integration"
_MARKER = f"<!-- agentrelay:{_BRANCH} -->"
_ZWSP = "\u200b"


def _body(summaries: Iterable[TaskSummary] = (), concerns: Iterable[str] = ()) -> str:
    return render_body(_SPEC, _BRANCH, summaries, concerns)


def _said(text: str) -> str:
    """Return what becomes of an agent's text."""
    return _body([TaskSummary("t", description=text)])


def _tokens(body: str) -> list[Token]:
    """Read a body as CommonMark does, flat, with what is inside lines."""
    flat: list[Token] = []
    for token in MarkdownIt("commonmark").parse(body):
        flat += [token, *(token.children or [])]
    return flat


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


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
        ["two lanes\ntouch this"],
    )
    assert body == (
        "This brings the work of workstream `parser` together.\n"
        "It was opened by a program and waits for review; nothing merges it by itself.\n"
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
        f"{_MARKER}"
    )


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


def test_an_empty_text_leaves_no_hole() -> None:
    """Blank descriptions are left out, blank concerns are said to be blank."""
    assert _body([TaskSummary("t", " \n ")]) == _body([TaskSummary("t")])
    assert "- **Concern:** (empty)" in _body(concerns=[" \n"])


def test_the_last_line_names_the_branch_and_cannot_be_broken_out_of() -> None:
    """The marker is one comment, whatever git allows in a branch's name."""
    assert _body().endswith(f"\n{_MARKER}")
    body = render_body(_SPEC, "x-->y--", [], [])
    assert body.endswith("<!-- agentrelay:x-%2D%3Ey-%2D -->")


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
    assert f"- **Task** `t`: {shown}\n" in _body([TaskSummary("t", pr_url=url)])


# --- agents' text -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ping @octo and @org/team", f"ping @{_ZWSP}octo and @{_ZWSP}org/team"),
        ("see #12, o/r#3", f"see #{_ZWSP}12, o/r#{_ZWSP}3"),
        ("GH-12 gh-3 GH\\-4 NIGHGH-1", f"GH-{_ZWSP}12 gh-{_ZWSP}3 GH\\-{_ZWSP}4 NIGHGH-1"),
        ("_GH-1_", f"_GH-{_ZWSP}1_"),
        ("&#64;octo &commat;octo a && b", f"&#{_ZWSP}64;octo &{_ZWSP}commat;octo a && b"),
        ("<!-- x --> <img src=x> </p> <?x 1 < 2", (
            f"<{_ZWSP}!-- x --> <{_ZWSP}img src=x> <{_ZWSP}/p> <{_ZWSP}?x 1 < 2"
        )),
        ("![x](https://t)", f"!{_ZWSP}[x]{_ZWSP}(https://t)"),
        ("[x][y] [x]: y a[0]", f"[x]{_ZWSP}[y] [x]{_ZWSP}: y a[0]"),
        ("closes https://h/o/r/issues/1", f"clo{_ZWSP}ses https://h/o/r/issues/1"),
        ("FIX: https://h/1", f"FI{_ZWSP}X: https://h/1"),
        ("_Resolved_ **https://h/1**", f"_Resol{_ZWSP}ved_ **https://h/1**"),
        ("closed, fixes, resolve it", "closed, fixes, resolve it"),
        ("[skip ci] [x]", f"[{_ZWSP}skip ci] [x]"),
        ("a\x00b\x1b[31m\ud800\u202e", "a\ufffdb\ufffd[31m\ufffd\ufffd"),
        ("a\tb", "a   b"),
        ("ghp_abcdefghijkl https://u:p@h/x", "*** https://h/x"),
    ],
)  # fmt: skip
def test_an_agents_text_reads_the_same_and_commands_nothing(text: str, shown: str) -> None:
    """Mentions, references, entities, HTML, images and keywords are only text."""
    assert f"\n  {shown}\n" in _said(text)


def test_a_code_fence_left_open_is_closed_where_the_text_ends() -> None:
    """What follows is not code, even for readers that ignore indentation."""
    assert "  ```py\n  x\n  ```\n\n<!--" in _said("```py\nx")
    assert "  ~~~~\n  ~~~\n  ~~~~\n\n<!--" in _said("~~~~\n~~~")
    assert _said("```\nx\n```").count("```") == 2
    assert _said("```a`b").count("```") == 1


def test_line_ends_of_every_kind_are_line_ends() -> None:
    """A carriage return or a Unicode line end hides nothing and breaks no layout."""
    assert "\n  a\n  b\n  c\n  d\n\n" in _said("a\r\nb\rc\u2028d")


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


@given(_HOSTILE, _HOSTILE, _HOSTILE, _HOSTILE)
def test_no_text_leaves_its_place_or_becomes_html_or_an_image(
    task_id: str, description: str, task_concern: str, concern: str
) -> None:
    """A Markdown reader sees our sections, our lists and one comment, whatever was written."""
    body = _body(
        [TaskSummary(task_id, description, "https://h/pull/1", (task_concern,))], [concern]
    )
    tokens = _tokens(body)
    assert not [token for token in tokens if token.type in {"image", "html_inline"}]
    assert [token.content.strip() for token in tokens if token.type == "html_block"] == [_MARKER]
    top = [token for token in tokens if token.level == 0 and token.nesting == 1]
    assert [token.tag for token in top if token.block] == ["p", "ul", "h2", "ul", "h2", "ul"]
    links = [token for token in tokens if token.type == "link_open"]
    assert [link.attrs["href"] for link in links] == ["https://h/pull/1"]


@given(_HOSTILE)
def test_no_text_keeps_a_mention_a_reference_or_a_control_character(text: str) -> None:
    """Nothing GitHub would act on is left directly before what it would act on."""
    said = _said(text).removesuffix(_MARKER)
    assert not re.search(r"@(?!\u200b)", said)
    assert not re.search(r"#(?![\u200b# ])", said)
    assert not re.search(r"(?i)\bGH-\d", said)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", said)
    said.encode("utf-8")


# --- length -----------------------------------------------------------------------------


def test_concerns_of_tasks_are_cut_before_those_of_the_lane_and_descriptions_last() -> None:
    """What a reviewer needs most is kept longest, and a notice says that parts are missing."""
    tasks = [
        TaskSummary(f"t{n:03}", "d" * 90, f"https://h/o/r/pull/{n}", ("c" * 900,))
        for n in range(100)
    ]
    body = _body(tasks, ["lane " * 50])
    assert _units(body) < LONGEST_BODY_UNITS
    assert body.count("d" * 90) == 100
    assert "lane lane" in body
    assert "c" * 301 not in body
    assert "left out" in body
    assert body.endswith(_MARKER)


def test_half_a_secret_is_never_left_by_a_cut() -> None:
    """Masking comes before cutting."""
    text = "x" * 19_990 + " https://user:" + "p4ss" * 10_000 + "@h/x"
    assert "p4ss" not in _said(text)


def test_a_cut_falls_between_words_and_shows() -> None:
    """A shortened text says so at its end."""
    body = _said("word " * 9_000)
    assert "word […]" in body
    assert "left out" in body


def test_thousands_of_tasks_end_in_a_count() -> None:
    """When not even ids and links fit, the first ones are listed and the rest counted."""
    tasks = [TaskSummary(f"t{n:05}", "d", f"https://h/o/r/pull/{n}") for n in range(5_000)]
    body = _body(tasks, ["concern"])
    assert _units(body) < LONGEST_BODY_UNITS
    listed = body.count("- **Task**")
    assert listed > 500
    assert f"… and {5_000 - listed} more tasks." in body
    assert body.endswith(_MARKER)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 60), st.integers(0, 30_000), st.sampled_from(["x", "😀", "a b\n", "@"]))
def test_no_amount_of_text_exceeds_the_limit(count: int, length: int, text: str) -> None:
    """Characters outside the basic plane count twice, as GitHub counts them."""
    long = (text * length)[:length]
    tasks = [TaskSummary(f"t{n}", long[:2_000], None, (long,)) for n in range(count)]
    assert _units(_body(tasks, [long])) < LONGEST_BODY_UNITS
