"""What somebody else wrote reads the same, and commands nothing."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from agentrelay.workstream.implementations._blocks import Code, read_blocks
from agentrelay.workstream.implementations._neutral import (
    GAP,
    neutral_line,
    neutral_lines,
    printable,
    show_name,
)
from tests.unit._markdown import fences, linked_hosts, live_words, read

if TYPE_CHECKING:
    from types import FrameType

_HOST: Final = "ghe.corp"


def _neutral(text: str) -> str:
    return "\n".join(neutral_lines(text, host=_HOST))


# --- what becomes of it -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ping @octo and @org/team", "ping @·octo and @·org/team"),
        ("see #12, o/r#3, C# and #x", "see #·12, o/r#·3, C#· and #x"),
        ("GH-12 gh-3 GH\\-4 NIGHGH-1 GH-1234567", "GH-·12 gh-·3 GH\\-·4 NIGHGH-1 GH-·123456·7"),
        ("_GH-1_", "_GH-·1_"),
        ("&#64;octo &#x40;o &commat;o a && b", "&#·64;octo &#·x40;o &·commat;o a && b"),
        ("<!-- x --> --!> <img src=x> <?x 1 < 2", "<·!-- x --·> --·!> <·img src=x> <·?x 1 < 2"),
        ("</details><script>", "<·/details><·script>"),
        ("![x](https://t) <https://t>", "!·[x]·(https://t) <·https://t>"),
        ("[x][y] [x]: y a[0]", "[x]·[y] [x]·: y a[0]"),
        ("closes https://h/o/r/issues/1", "closes https:·//h/o/r/issues/1"),
        ("Fix: https://github.com/o/r/issues/1", "Fix: https://redirect.github.com/o/r/issues/1"),
        ("resolves https://h/1", "resolves https://h/1"),
        ("closed, fixes #1, resolve o/r#1", "closed, fixes #·1, resolve o/r#·1"),
        ("[skip ci] [x] ***NO_CI***", "[·skip ci] [x] ***·NO_CI***"),
        ("skip-checks: true", "skip-checks·: true"),
        ("a\x00b\x1b[31m\ud800\u202e\U000e0041", "a\ufffdb\ufffd[31m\ufffd\ufffd\ufffd"),
        ("\uff20octo \uff0312 C\uff03x", "\uff20·octo \uff03·12 C\uff03x"),
        ("@\u200docto #\u200d1", "@·\u200docto #·\u200d1"),
        ("o@abcdef1 o/r@abcdef1234567", "o@·abcdef·1 o/r@·abcdef·123456·7"),
        ("Fixes: #12, Fixes:GH-12, closes &#35;12", "Fixes: #·12, Fixes:GH-·12, closes &#·35;12"),
        ("# Title", "#· Title"),
        ("Title\n===", "Title\n·==="),
        ("> Title\n> ---", "> Title\n> ·---"),
    ],
)
def test_a_text_reads_the_same_and_commands_nothing(text: str, shown: str) -> None:
    """Mentions, references, entities, HTML, images, keywords and headings are only text."""
    assert _neutral(text) == shown.replace("·", GAP)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://github.com/o/r/issues/1", "https://redirect.github.com/o/r/issues/1"),
        ("HTTPS://www.GitHub.com./o/r", "HTTPS://redirect.github.com/o/r"),
        ("http://github.com:80/o/r#12", "http://redirect.github.com/o/r#·12"),
        ("1https://github.com/o", "1https://redirect.github.com/o"),
        ("https://redirect.github.com/o/r/pull/1", "https://redirect.github.com/o/r/pull/1"),
        ("https://ghe.corp/o/r", "https:·//ghe.corp/o/r"),
        ("https://other.corp/o/r/pull/1", "https:·//other.corp/o/r/pull/1"),
        ("https://h/1-->", "https://h/1--·>"),
        ("https://h/https://github.com/o", "https://h/https://redirect.github.com/o"),
        ("https://h/o/r/commit/abcdef1234567", "https:·//h/o/r/commit/abcdef·123456·7"),
        ("https://x@ghe.corp/o", "https:·//x@·ghe.corp/o"),
        ("www.github.com/o/r/pull/1", "www·.github.com/o/r/pull/1"),
        ("https://m.com/@u/abcdef1234567", "https://m.com/%40u/abcdef1234567"),
        ("https://m.com/~~abcdef1", "https://m.com/~~abcdef·1"),
        ("https://j.c/browse/GH-12", "https://j.c/browse/GH%2D12"),
        ("https://docs.org/re.html#re.sub", "https://docs.org/re.html#re.sub"),
        (r"https:\//github.com/o/r/issues/1", r"https:·\//github.com/o/r/issues/1"),
        (r"https:\/\/github.com/o/r/issues/1", r"https:·\/\/github.com/o/r/issues/1"),
        (r"https\:/\/github.com/o/r/issues/1", r"https\:·/\/github.com/o/r/issues/1"),
        (r"https://github\.com/o/r/issues/1", r"https:·//github\.com/o/r/issues/1"),
        (r"https://github.com\/o/r/issues/1", r"https:·//github.com\/o/r/issues/1"),
        (r"https://other.corp/o\/r/iss\ues/1", r"https:·//other.corp/o\/r/iss\ues/1"),
        (r"https:\//h/https:\//github.com/o", r"https:·\//h/https:·\//github.com/o"),
        (r"https://docs.org/a\_b", r"https://docs.org/a\_b"),
        (r"https://docs.org/a\_abcdef1", r"https://docs.org/a\_abcdef·1"),
        (r"www\.github.com/o/r/pull/1", r"www·\.github.com/o/r/pull/1"),
        (
            "https://\uff47\uff49\uff54\uff48\uff55\uff42.com/o",
            "https:·//\uff47\uff49\uff54\uff48\uff55\uff42.com/o",
        ),
        ("https:&sol;/github.com/o/r/issues/1", "https:&·sol;/github.com/o/r/issues/1"),
    ],
)
def test_an_address_of_an_issue_leads_there_without_a_trace_or_is_no_link(
    text: str, shown: str
) -> None:
    """Those at github.com are redirected, those that may be on a GitHub are not linked."""
    assert _neutral(text) == shown.replace("·", GAP)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("in abcdef1 too", "in `abcdef1` too"),
        ("abcdef1234567890abcdef1234567890abcdef12", "`abcdef1234567890abcdef1234567890abcdef12`"),
        ("(abcdef1, abcdef2).", "(`abcdef1`, `abcdef2`)."),
        ("o/r@abcdef1", "o/r@·abcdef·1"),
        ("550e8400-e29b-41d4-a716", "550e84·00-e29b-41d4-a716"),
        ("1048576 bytes defaced", "104857·6 bytes deface·d"),
        ("\\abcdef1", "\\abcdef·1"),
        ("`x`abcdef1", "`x`abcdef·1"),
        ("a ` abcdef1", "a ` abcdef·1"),
        ("abcdefg1 12345678z", "abcdefg1 12345678z"),
    ],
)
def test_the_name_of_a_commit_is_code_where_backticks_mean_that(text: str, shown: str) -> None:
    """It can be copied, and is no link; elsewhere a gap keeps it from being one."""
    assert _neutral(text) == shown.replace("·", GAP)


@pytest.mark.parametrize(
    "text",
    [
        "use `@decorator` and `List<T>`",
        "``a ` @b`` then `#1`",
        "\\\\`@b` and \\` x",
        "- `#include <x>`\n- `&amp;`",
        "`a\\`",
        "\\``@x`",
    ],
)
def test_a_code_span_stays_as_it_is(text: str) -> None:
    """What is plainly code can be copied without anything unseen in it."""
    assert _neutral(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "a ` b\n`@x` c `",  # the first one pairs with the next line's
        "| `a | `@x` |\n|---|---|\n| b | c |",
        "| a | b |\n|---|---|\n| `a | @x` |",
        "[x`]: /u`\n\n[x`] `@x`]: `",
        "$` `@x` `$",
        "`` @x `",
    ],
)
def test_what_may_be_no_code_span_is_neutralised(text: str) -> None:
    """Where other lines, a table or a formula may decide, nothing is taken for code."""
    assert "@x" not in _neutral(text)


def test_a_code_fence_stays_as_it_is() -> None:
    """Tabs, blanks at line ends, blank lines and everything live: all of it is inert."""
    code = "```py\n@x  \n\tclose #1\n\n  <!-- -->\n    \n```"
    assert _neutral(code) == code
    assert _neutral(f"~~~~\n```\n{code}\n~~~~").count("@x  ") == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("```py\nx", "```py\nx\n```"),
        ("~~~~\n~~~", "~~~~\n~~~\n~~~~"),
        ("> ```\n> x\ny @z", "```\nx\n```\n\ny @·z"),
        ("   ```\n      ```\n   ```", "````\n   ```\n````"),
        ("- a\n  ```\n  x\n  ```\n  b\n- c", "- a\n\n```\nx\n```\n\nb\n- c"),
        ("1. ```\n   x\n   ```\n2. ```\n   y", "1.\n\n```\nx\n```\n\n2.\n\n```\ny\n```"),
        ("- ```\n  x\n  ```", "```\nx\n```"),
        ("- ```\n\tx", "```\n  x\n```"),
        ("a\n2. ```\n   @x\n", "a\n2. ·```\n   @·x"),
        ("  ```\n\tx\n   \ty\n    z\n a\n  ```", "```\n  x\n \ty\n  z\na\n```"),
        ("-     ```\n      x", "-     ·```\n      x"),
        ("a\n    ```\n    @x", "a\n    ·```\n    @·x"),
        ("```a`b", "·```a`b"),
        ("```mermaid\nx\n```", "```\nx\n```"),
        ("```@x y\nx\n```", "```\nx\n```"),
    ],
)
def test_a_fence_is_written_at_the_left_edge_and_closed(text: str, shown: str) -> None:
    """Wherever it was, it is code for every reader; what only looks like one is not."""
    assert _neutral(text) == shown.replace("·", GAP)


def test_line_ends_of_every_kind_are_line_ends() -> None:
    """A carriage return or a Unicode line end hides nothing and breaks no layout."""
    assert neutral_lines("a\r\nb\rc\u2028d", host=_HOST) == ["a", "b", "c", "d"]
    assert neutral_line("a\r\n  b\u2029c", host=_HOST) == "a b c"


def test_a_blank_text_has_no_lines() -> None:
    """There is nothing to show."""
    assert neutral_lines("", host=_HOST) == neutral_lines(" \n\n", host=_HOST) == []


def test_a_name_is_shown_exactly() -> None:
    """As code, whatever backticks it holds; a name of nothing is a question mark."""
    assert show_name("a/b") == "`a/b`"
    assert show_name("`a") == "`` `a ``"
    assert show_name("a``b\nc") == "```a``b c```"
    assert show_name(" \n") == "`?`"


# --- for any text -----------------------------------------------------------------------

_PIECES: Final = (
    "```", "~~~", "````", "\n", "\n", "\n\n", "- ", "1. ", "2) ", "> ", "  ", "    ", "# ", "===",
    "---", "* * *", "-", "10. ", "`", "``", "~", "\\", "|", "$", "a", "b", "@x", "#1", "GH-1",
    "o/r#2", "abcdef1", "closes ", "fixes: ", "https://github.com/o/r/issues/1", "www.github.com/",
    "https://h/1", "&#64;", "&commat;", "<!--", "-->", "<b>", "</details>", "<img src=x>",
    "![a](b)", "[a](b)", "[a]: b", "[skip ci]", "\u200b", "é", "[^1]: ",
    "https:\\//github.com/o/r/", "https", "http", ":", "\\:", "\\/", "/", "//", "github", "\\.",
    ".", "com", "www", "/o/r", "issues/1", "pull/", "\uff20", "\uff03", "\u200d", "o@", "GH", "\\-",
    "&#35;", "&sol;", "&colon;", "Fixes: ", "abcdef1234567",
)  # fmt: skip
_HOSTILE: Final = st.lists(st.sampled_from(_PIECES), max_size=24).map("".join) | st.text(
    st.sampled_from("ab1 \n\t`~#@<>!?&;:[]()*_-+=|\\/.\"'{}$^\r\x00\u2028") | st.characters(),
    max_size=60,
)
# The judge takes a quote mark after four spaces for one, against the standard.
_JUDGE_ERRS: Final = re.compile(r"^.*(?: {4}|\t).*>", re.MULTILINE)


@settings(deadline=None, max_examples=150)
@given(_HOSTILE)
@example("- a\n\n  ```\n  @x\n")
@example("``` `\n@x\n```")
@example("[a\n]: b\n```\n@x\n```")
@example("<!-- --\\>")
def test_no_text_keeps_power_wherever_a_reader_sees_text(text: str) -> None:
    """By a reader that is not ours: nothing live outside code, no HTML, link, image, heading."""
    neutral = _neutral(text)
    reading = read(neutral)
    assert [word for said in reading.texts for word in live_words(said)] == []
    assert (reading.html, reading.links, reading.images, reading.headings) == ([], [], 0, [])
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", neutral)
    neutral.encode("utf-8")


@settings(deadline=None, max_examples=150)
@given(_HOSTILE)
@example("* a\n  1. ```\n     x\n\n     y\n  ```\n  z")
@example("> - ```\n>   x\n  lazy\n")
def test_every_fence_of_any_text_is_found_and_kept_to_the_byte(text: str) -> None:
    """The contents of all fences, by the other reader, are the same before and after."""
    text = printable(text)
    assume(not _JUDGE_ERRS.search(text) and "\t" not in text)
    assert read(_neutral(text)).fences == fences(text)


@settings(deadline=None, max_examples=150)
@given(_HOSTILE)
@example(r"https:\//github.com/o/r/issues/1")
@example(r"https://github\.com/o/r/issues/1")
@example("see www.github.com/o/r/issues/1")
def test_no_link_leads_to_the_host_itself(text: str) -> None:
    """However an address is spelled; one with a user before the host shows where it leads."""
    assume("@" not in text and "\uff20" not in text)
    shown = read(_neutral(text)).texts
    found = {
        host for said in [*shown, neutral_line(text, host=_HOST)] for host in linked_hosts(said)
    }
    assert not found & {"github.com", _HOST}


@settings(deadline=None, max_examples=100)
@given(_HOSTILE)
def test_one_line_of_any_text_commands_nothing(text: str) -> None:
    """Read as plain text, where no code is, as a commit message is."""
    line = neutral_line(text, host=_HOST)
    assert live_words(line) == []
    assert "\n" not in line


@settings(deadline=None, max_examples=100)
@given(_HOSTILE)
def test_doing_it_twice_opens_nothing(text: str) -> None:
    """What is neutral stays neutral, and its code stays as it is."""
    once = _neutral(text)
    twice = _neutral(once)
    assert read(twice).fences == read(once).fences
    assert [word for said in read(twice).texts for word in live_words(said)] == []


@settings(deadline=None, max_examples=100)
@given(_HOSTILE)
def test_fences_lie_where_they_say(text: str) -> None:
    """First and last line of each fence are in order and within the text."""
    end = 0
    for block in read_blocks(text):
        if isinstance(block, Code):
            assert end <= block.first <= block.last < text.count("\n") + 1
            end = block.last + 1


# --- how much work it is ----------------------------------------------------------------

_GROWING: Final = (
    "`a", "` ", "``` x\n", "~~~\n", "> ", "- ", "- a\n", "> ```\n", "1. ", "@", "#", "&", "&a", "[",
    "](", "<", "https://", "https://a/b/c/", "abcdef1 ", "abcdef1", "closes ", "GH-", "\\`", "=",
    "-", "   \n", "\t", "$", "|", "www.", "*", "--", "word ", "\\", "\\/", "https:\\/\\/",
    "https:", "www\\.", "https://a\\/b ", "http",
)  # fmt: skip


def _work(text: str) -> int:
    """Count the calls, of Python and of C, that neutralising a text takes."""
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        del frame, argument
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        neutral_lines(text, host=_HOST)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("piece", _GROWING)
def test_twice_the_text_is_twice_the_work(piece: str) -> None:
    """Nothing anybody can write makes it more than in proportion."""
    once, twice = _work(piece * 300), _work(piece * 600)
    assert twice <= 2.2 * once + 100


@pytest.mark.parametrize("piece", _GROWING)
def test_no_expression_goes_over_a_long_text_again_and_again(piece: str) -> None:
    """What the calls do not show: a square of this length would run into the time limit."""
    assert neutral_lines(f"{piece * (100_000 // len(piece))}!", host=_HOST)
