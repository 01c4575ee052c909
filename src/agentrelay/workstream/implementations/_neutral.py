"""Taking the power over GitHub out of a text somebody else wrote; pure.

A zero width space, which nobody sees, is put where GitHub would start to read a
command: a mention, a reference, a tag. Names of commits become code, and addresses
of issues at github.com go by way of GitHub's own redirecting host, which leaves no
trace at the issue. Code stays as it was written, and so do code spans that are plainly
code whatever else is on their lines.

A fence is always written at the left edge, between blank lines, and no other line is
left that could open or close one. So what is and what is not code does not depend on
reading a text exactly as GitHub does.

Source:
    GitHub Flavored Markdown and CommonMark 0.31 (an HTML tag needs a letter, ``/``,
    ``!`` or ``?`` right after ``<``; a code span goes before all other inline
    structure, but a ``|`` in a table goes before it). docs.github.com, "Autolinked
    references and URLs", "Linking a pull request to an issue", "Skipping workflow
    runs", "Writing mathematical expressions". github.com/renovatebot/renovate sends
    its readers by way of ``redirect.github.com``.
"""

from __future__ import annotations

import re
from typing import Final

from agentrelay.workstream.implementations._blocks import Code, read_blocks

__all__ = ["GAP", "neutral_line", "neutral_lines", "printable", "show_link", "show_name"]

GAP: Final = "\u200b"

# No name git or GitHub accepts is longer.
_LONGEST_NAME: Final = 300

# A URL that cannot end the Markdown link it is put into.
_LINK: Final = re.compile(r"https?://[A-Za-z0-9.-]+(?::\d{1,5})?(?:/[A-Za-z0-9._~/%?&=+,;:!$-]*)?")
_LONGEST_LINK: Final = 300
_PULL_NUMBER: Final = re.compile(r"/pull/(\d{1,12})$")

# Controls except line feed and tab; lone surrogates, which no JSON can carry; marks
# that reorder text on the screen, so that it reads unlike it is; letters nobody can see.
_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"
    r"\U000e0000-\U000e007f]"
)
_NEWLINE: Final = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")

# None of these repeats a group possessively that can fail half-way: up to Python 3.11.4 the
# half would be a part of the match. Source: python/cpython issue 106052.

# Where a gap goes: after the match. Every one of these starts something on GitHub. A
# closing keyword ("fixes") needs none: no reference is left for it to close.
_BEFORE_GAP: Final = r"""
      [@\uff20]                              # a mention, in full width too
    | [\#\uff03](?![A-Za-z_])                # a reference, a heading, an entity
    | \#(?=x[0-9A-F])                        # an entity
    | https?\\?:(?=\\?/\\?/)                 # an address, its escapes still to be read
    | <(?=[A-Za-z/!?])                       # HTML, a comment, an <autolink>
    | -\\?-(?=!?\\?>)                        # the end of a comment
    | &(?=[A-Za-z][A-Za-z0-9]{0,40};)        # an entity, which may spell any of the others
    | !(?=\[)                                # an image
    | \](?=[(\[:])                           # a link whose text hides where it goes
    | \[(?=(?:skip\ ci|ci\ skip|no\ ci|skip\ actions|actions\ skip)\])
    | \*\*\*(?=NO_CI) | skip-checks(?=:)
    | (?<![A-Za-z0-9])GH\\?-(?=\d)           # a reference in its long form
"""
# What is looked at as a whole: an address, or what may be the name of a commit.
_WORD: Final = r"""
      (?P<url>https?://(?:www\.)?
          (?:(?!https?\\?:\\?/\\?/|-\\?-!?\\?>|(?<![A-Za-z0-9])www\\?\.)
          [A-Za-z0-9._~/?\#@!$&+,;=:%\\-])+)
    | (?<![A-Za-z0-9]) (?P<www>www\\?\.) (?=\\?[A-Za-z0-9-])
    | (?<![A-Za-z0-9]) (?P<hex>[0-9a-f]{7,}+) (?=https?://|(?![A-Za-z0-9]))
"""
_GAPS: Final = re.compile(_BEFORE_GAP, re.VERBOSE | re.IGNORECASE)
_LIVE: Final = re.compile(f"{_WORD} | {_BEFORE_GAP}", re.VERBOSE | re.IGNORECASE)
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9-]++(?:\.[a-z0-9-]++)*\.?)(?P<port>:\d{1,5})?"
    r"(?P<path>(?:[/?#].*+)?)",
    re.IGNORECASE,
)
_PUBLIC: Final = frozenset({"github.com", "www.github.com"})
_REDIRECTING: Final = "redirect.github.com"
# On any host that may be a GitHub by another name.
_REFERENCE: Final = re.compile(
    r"/[^/?#]++/[^/?#]++/(?:issues?|pulls?|commits?|discussions|compare)(?:[/?#]|$)", re.IGNORECASE
)
# The dash of a reference in its long form.
_LONG_FORM: Final = re.compile(r"(?<=(?<![A-Za-z0-9])GH)-(?=\d)", re.IGNORECASE)
# GitHub takes seven digits and more for the name of a commit.
_DIGITS: Final = re.compile(r"[0-9A-Fa-f]{6}(?=[0-9A-Fa-f])")

# What may stand beside one that is put in backticks.
_BESIDE: Final = frozenset(" \n()[]{},.;:!?\"'")

_TICKS: Final = re.compile(r"\\[\\`]|`++")
_RUN: Final = re.compile("`++")
# A "|" would end the cell of a table, "]:" could be a definition's.
_CERTAIN: Final = re.compile(r"(?:[^|\]]|\](?!:))*")
# After any list and quote marks: what would open a fence.
_FENCE_LIKE: Final = re.compile(r"^(?:[ >*+\-]|\d{1,9}[.)])*(?=`{3}|~{3})", re.MULTILINE)
# What would make a heading of the line before it.
_UNDERLINE: Final = re.compile(r"^[ >]*+(?=(?:=++|-++) *+$)", re.MULTILINE)

_LANGUAGE: Final = re.compile(r"[A-Za-z0-9_+#.-]{1,30}")
# GitHub draws these, or acts on them, instead of showing them.
_DRAWN: Final = frozenset({"geojson", "math", "mermaid", "stl", "suggestion", "topojson"})


def printable(text: str) -> str:
    """Make every line end a line feed and replace what cannot be shown, or must not be."""
    return _UNPRINTABLE.sub("\ufffd", _NEWLINE.sub("\n", text))


def neutral_line(text: str, *, host: str) -> str:
    """Return a text as one line that commands nothing, for a title or a commit message.

    Args:
        text: Any text.
        host: Host of the GitHub that will read it, ``"github.com"`` for example.
    """
    return _neutral(" ".join(printable(text).split()), host)


def neutral_lines(text: str, *, host: str) -> list[str]:
    """Return a Markdown text as lines that command nothing.

    Its paragraphs, lists, tables and code read as before, without links, images, HTML
    and headings. Every fence is closed, its content as it was.

    Args:
        text: Any text.
        host: Host of the GitHub that will read it, ``"github.com"`` for example.

    Returns:
        Lines for the left edge of a document or of a list item; none when there is
        nothing to show.
    """
    lines: list[str] = []
    paragraph: list[str] = []

    def end_paragraph() -> None:
        if paragraph:
            lines.extend(_neutral_paragraph(paragraph, host))
            paragraph.clear()

    for block in read_blocks(printable(text)):
        if isinstance(block, Code):
            end_paragraph()
            lines += ["", *_fence(block), ""]
        elif block.text:
            paragraph.append(block.text)
        else:
            end_paragraph()
            lines.append("")
    end_paragraph()
    return _without_outer_blanks(lines)


def show_name(text: str) -> str:
    """Show a name exactly, as code: nothing inside is read as Markdown."""
    name = " ".join(printable(text).split())[:_LONGEST_NAME].rstrip() or "?"
    longest = max((len(run) for run in re.findall("`+", name)), default=0)
    ticks = "`" * (longest + 1)
    # A space each is dropped again by the reader; it keeps backticks apart.
    pad = " " if name.startswith("`") or name.endswith("`") else ""
    return f"{ticks}{pad}{name}{pad}{ticks}"


def show_link(url: str) -> str:
    """Link to a pull request; anything but a plain web address is shown as text."""
    if len(url) > _LONGEST_LINK or not _LINK.fullmatch(url):
        return show_name(url)
    number = _PULL_NUMBER.search(url)
    return f"[pull request {number[1]}]({url})" if number else f"[pull request]({url})"


def _without_outer_blanks(lines: list[str]) -> list[str]:
    """Drop the blank lines around; those within code are between its marks."""
    begin, end = 0, len(lines)
    while begin < end and not lines[begin]:
        begin += 1
    while end > begin and not lines[end - 1]:
        end -= 1
    return lines[begin:end]


def _fence(code: Code) -> list[str]:
    """Write a fence anew, with marks that its content cannot close."""
    sign = code.mark[0]
    runs = re.findall(f"{sign}+", "\n".join(code.lines))
    mark = sign * max(len(code.mark), *(len(run) + 1 for run in runs), 3)
    language = (code.info.split() or [""])[0]
    if not _LANGUAGE.fullmatch(language) or language.lower() in _DRAWN:
        language = ""
    return [f"{mark}{language}", *code.lines, mark]


def _neutral_paragraph(lines: list[str], host: str) -> list[str]:
    """Neutralise lines without a blank one between them."""
    parted = [_code_spans(line) for line in lines]
    whole = [pieces for pieces in parted if pieces is not None]
    # Two dollar signs may be the ends of a formula, whatever is between them.
    if len(whole) == len(lines) and sum(line.count("$") for line in lines) < 2:  # noqa: PLR2004
        # No span reaches from line to line, however they fall into blocks.
        text = "\n".join(
            "".join(
                piece if is_code else _neutral(piece, host, edge=" " if len(pieces) == 1 else "`")
                for piece, is_code in pieces
            )
            for pieces in whole
        )
    else:
        text = _neutral("\n".join(lines), host)
    text = _FENCE_LIKE.sub(rf"\g<0>{GAP}", text)
    return _UNDERLINE.sub(rf"\g<0>{GAP}", text).split("\n")


def _code_spans(line: str) -> list[tuple[str, bool]] | None:
    """Part a line at its code spans.

    Returns:
        Pieces, each with whether it is code; ``None`` when that depends on other lines
        or on what else GitHub may read here: the cells of a table, a definition.
    """
    pieces: list[tuple[str, bool]] = []
    at = done = 0
    while run := _TICKS.search(line, at):
        at = run.end()
        if run[0][0] == "\\":
            continue
        # A backslash means nothing within a span: the runs of backticks are what counts.
        end = next((end for end in _RUN.finditer(line, at) if end[0] == run[0]), None)
        if end is None or not _CERTAIN.fullmatch(line, at, end.start()):
            return None
        pieces += [(line[done : run.start()], False), (line[run.start() : end.end()], True)]
        at = done = end.end()
    return [*pieces, (line[done:], False)]


def _neutral(text: str, host: str, *, edge: str | None = None) -> str:
    """Neutralise what is no code.

    Args:
        text: The text.
        host: As for :func:`neutral_lines`.
        edge: What is on both sides of it; ``None`` where backticks do not mean code,
            so that the names of commits cannot have any.
    """

    def replace(live: re.Match[str]) -> str:
        if live["url"]:
            return _neutral_url(live["url"], host)
        if live["www"]:
            # Behind the dot it would be a part of the host, which a browser drops.
            return f"{live['www'][:3]}{GAP}{live['www'][3:]}"
        if not live["hex"]:
            return live[0] + GAP
        if edge is not None and _can_wrap(live, edge):
            return f"`{live[0]}`"
        return _split_digits(live[0])

    return _LIVE.sub(replace, text)


def _can_wrap(word: re.Match[str], edge: str) -> bool:
    """Tell whether backticks can be put around what looks like the name of a commit.

    A mere number or word stays plain, and so does a part of something longer: an
    identifier, a path. Beside another backtick or a backslash they would not mean what
    they should.
    """
    digits = sum(character.isdigit() for character in word[0])
    before = word.string[word.start() - 1] if word.start() else edge
    after = word.string[word.end()] if word.end() < len(word.string) else edge
    return 0 < digits < len(word[0]) and before in _BESIDE and after in _BESIDE


def _with_gaps(text: str) -> str:
    return _GAPS.sub(rf"\g<0>{GAP}", text)


def _split_digits(text: str) -> str:
    return _DIGITS.sub(rf"\g<0>{GAP}", text)


def _neutral_url(text: str, host: str) -> str:
    """Let an address lead elsewhere, or nowhere, if GitHub would note that it was named."""
    url = _URL.fullmatch(text)
    name = url["host"].lower().rstrip(".") if url else ""
    if url and name not in _PUBLIC and not _is_noted(url, name, host):
        start = text[: url.start("path")]
    elif url and name in _PUBLIC:
        start = f"{url['scheme']}://{_REDIRECTING}"
    else:
        # GitHub links no address that is interrupted here.
        scheme, _, rest = text.partition("//")
        return f"{scheme}{GAP}//{_split_digits(_with_gaps(rest))}"
    # Within an address an escape keeps it working where a gap would not.
    path = _LONG_FORM.sub("%2D", url["path"].replace("@", "%40"))
    gapped = _with_gaps(path)
    # Emphasis and escapes could end the link before the name of a commit that is in it.
    is_whole = gapped == path and not {"_", "~", "\\"} & set(path)
    return start + (gapped if is_whole else _split_digits(gapped))


def _is_noted(url: re.Match[str], name: str, host: str) -> bool:
    """Tell whether an address is on a GitHub of its own, or may be."""
    if name == _REDIRECTING:
        return False
    on_host = host.lower() in {name, f"{name}{url['port'] or ''}"}
    return on_host or _REFERENCE.match(url["path"].replace("\\", "")) is not None
