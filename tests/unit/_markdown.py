"""A judge of Markdown: what a reader sees in a text, by somebody else's parser."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["Reading", "fences", "linked_hosts", "live_words", "read"]

# Both as GitHub reads: with raw HTML, tables and strikethrough.
_GITHUB: Final = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
# As agents' text is read: HTML and definitions are only text there.
_PLAIN: Final = MarkdownIt("commonmark", {"html": False}).disable("reference")

_KEYWORD: Final = r"(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)"
_LIVE: Final = {
    "mention": re.compile(r"@(?!\u200b)"),
    "reference": re.compile(r"#\d|(?<![A-Za-z0-9])GH-\d", re.IGNORECASE),
    "commit": re.compile(r"(?<![A-Za-z0-9])[0-9a-f]{7,}(?![A-Za-z0-9])", re.IGNORECASE),
    "address": re.compile(
        r"(?:https?://|(?<![A-Za-z0-9])www\.)(?:www\.)?github\.com"
        r"|https?://(?!redirect\.github\.com)[^\s/]+/[^\s/]+/[^\s/]+/(?:issues|pull|commit)/",
        re.IGNORECASE,
    ),
    "keyword": re.compile(
        rf"(?<![A-Za-z0-9]){_KEYWORD}[^A-Za-z0-9\u200b]{{1,40}}"
        r"(?:#\d|GH-\d|[\w.-]+/[\w.-]+#\d|https?://(?!redirect\.github)(?:[^\s/]+/){3}issues/)",
        re.IGNORECASE,
    ),
    "command": re.compile(r"\[(?:skip ci|ci skip|no ci)\]|<!--|--!?>", re.IGNORECASE),
}
# Where GitHub begins a link; cmark-gfm's own rule for where it ends.
_LINKED: Final = re.compile(
    r"https?://(?=\w)[^\s<]*|(?:(?<=[\s*_~(])|^)www\.[^\s<]*", re.IGNORECASE
)
# What GitHub makes a link of is no text any more.
_AUTOLINK: Final = re.compile(r"https?://[A-Za-z0-9._~/?#!$&+,;=:%-]+")


@dataclass
class Reading:
    """What a parser found in a text.

    Attributes:
        texts: What is neither code nor markup, one entry a run of text.
        fences: Contents of code fences.
        html: Raw HTML, block by block.
        headings: Texts of headings.
        links: Where links lead.
        images: How many images there are.
        top: Tags of the blocks at the top.
    """

    texts: list[str] = field(default_factory=list)
    fences: list[str] = field(default_factory=list)
    html: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    images: int = 0
    top: list[str] = field(default_factory=list)


def read(text: str) -> Reading:
    """Read a text as GitHub does."""
    reading = Reading()
    tokens = _GITHUB.parse(text)
    for index, token in enumerate(tokens):
        if token.level == 0 and token.nesting == 1:
            reading.top.append(token.tag)
        if token.type == "fence":
            reading.fences.append(token.content)
        elif token.type == "html_block":
            reading.html.append(token.content.strip())
        elif token.type == "heading_open":
            reading.headings.append(tokens[index + 1].content)
        for child in token.children or []:
            _read_inline(child, reading)
    return reading


def _read_inline(token: Token, reading: Reading) -> None:
    if token.type == "text":
        reading.texts.append(token.content)
    elif token.type == "html_inline":
        reading.html.append(token.content)
    elif token.type == "link_open":
        reading.links.append(str(token.attrs["href"]))
    elif token.type == "image":
        reading.images += 1


def fences(text: str) -> list[str]:
    """Return the contents of the code fences of a text in which HTML is only text."""
    return [
        token.content
        for token in _PLAIN.parse(f"{text.removesuffix(chr(10))}\n")
        if token.type == "fence"
    ]


def linked_hosts(text: str) -> set[str]:
    """Return the hosts GitHub's autolinks in a text lead to, as a browser reads them.

    A link reaches to the next blank or ``<``, whatever is in it. A browser takes a backslash
    for a slash, letters in full width for plain ones, and drops what nobody sees.
    """
    hosts = set()
    for form in (text, re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)):
        for link in _LINKED.finditer(form):
            url = re.sub("[\u200b-\u200d\u00ad]", "", link[0].replace("\\", "/"))
            rest = unicodedata.normalize("NFKC", url).lower().removeprefix("www.")
            rest = re.sub("^https?://(?:www\\.)?", "", rest)
            hosts.add(re.split("[/?#:]", rest)[0].rstrip("."))
    return hosts


def live_words(text: str) -> list[str]:
    """Return what GitHub would act on in a text that is not code."""
    found = []
    for kind, pattern in _LIVE.items():
        searched = _AUTOLINK.sub("…", text) if kind in {"commit", "reference"} else text
        found += [f"{kind}: {match[0]}" for match in pattern.finditer(searched)]
    return found
