"""GitHub CLI's ``hosts.yml``, read as a file.

The file is YAML, but gh writes a small part of it: nested block mappings of plain or
quoted scalars. That part is read here, so that no YAML library is needed; anything
else is reported as unreadable rather than guessed at.

Source:
    gh's internal/config: ``<host>: {oauth_token, user}`` before version 2.40,
    ``<host>: {users: {<login>: {oauth_token}}, user: <active login>}`` since.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["hosts_path", "parse_hosts", "token_for"]

Tree = dict[str, "str | Tree"]

_KEY: Final = re.compile(
    r"""(?P<key>"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s"'#&*!|>%@`{\[][^#]*?)\s*:(?:\s+(?P<rest>.*))?$"""
)
_QUOTED: Final = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')\s*(?:#.*)?$""")
_PLAIN: Final = re.compile(r"(?P<value>[^\"'&*!|>%@`{\[\]}].*?)\s*(?:(?<=\s)#.*)?$")
_ESCAPE: Final = re.compile(r"\\(.)")
# How YAML spells "nothing here".
_EMPTY: Final = frozenset({"{}", "~", "null"})


def hosts_path(environ: Mapping[str, str], home_dir: Path | None) -> Path | None:
    """Return where gh keeps its hosts file, whether or not there is one.

    Args:
        environ: Looked at for ``GH_CONFIG_DIR`` and ``XDG_CONFIG_HOME``.
        home_dir: The user's home, or ``None`` when there is none.
    """
    if config := environ.get("GH_CONFIG_DIR"):
        return Path(config) / "hosts.yml"
    if config := environ.get("XDG_CONFIG_HOME"):
        return Path(config) / "gh" / "hosts.yml"
    return None if home_dir is None else home_dir / ".config" / "gh" / "hosts.yml"


def token_for(host: str, text: str) -> str | None:
    """Return the token gh would use for ``host``, or ``None``.

    Args:
        host: Lower-case host, with its port if it has one.
        text: Content of ``hosts.yml``.

    Raises:
        ValueError: The text is not what gh writes; the message never quotes it.
    """
    for name, entry in parse_hosts(text).items():
        if name.lower() != host or isinstance(entry, str):
            continue
        users, active = entry.get("users"), entry.get("user")
        if isinstance(users, dict) and isinstance(active, str):
            account = users.get(active)
            token = account.get("oauth_token") if isinstance(account, dict) else None
            if isinstance(token, str) and token:
                return token
        token = entry.get("oauth_token")
        return token if isinstance(token, str) and token else None
    return None


def parse_hosts(text: str) -> Tree:
    """Parse the part of YAML that gh writes.

    Args:
        text: Content of ``hosts.yml``.

    Returns:
        Nested mappings; an empty value is an empty mapping.

    Raises:
        ValueError: Something else than nested ``key: value`` lines; names the line
            by number only, because the line may hold a token.
    """
    root: Tree = {}
    # The mappings that are open, outermost first, with their indentation; that of one
    # whose first line is still to come is not known yet.
    open_maps: list[tuple[int | None, Tree]] = [(0, root)]
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        content = line.lstrip(" ")
        if not content.strip() or content.startswith("#") or line.rstrip() in {"---", "..."}:
            continue
        match = _KEY.match(content.rstrip())
        if match is None or content.startswith(("\t", "- ")):
            raise ValueError(f"line {number} is not a 'key: value' line")
        indent = len(line) - len(content)
        mapping = _mapping_at(indent, open_maps, number)
        key, rest = _scalar(match["key"], number), (match["rest"] or "").strip()
        if key in mapping:
            raise ValueError(f"line {number} repeats a key")
        if rest in _EMPTY:
            mapping[key] = {}
        elif rest and not rest.startswith("#"):
            mapping[key] = _scalar(rest, number)
        else:
            child: Tree = {}
            mapping[key] = child
            open_maps.append((None, child))
    return root


def _mapping_at(indent: int, open_maps: list[tuple[int | None, Tree]], number: int) -> Tree:
    """Return the mapping a line of this indentation belongs to; close deeper ones."""
    level, mapping = open_maps[-1]
    if level is None:
        open_maps.pop()
        if indent > (open_maps[-1][0] or 0):
            open_maps.append((indent, mapping))
    while (open_maps[-1][0] or 0) > indent:
        open_maps.pop()
    level, mapping = open_maps[-1]
    if level != indent:
        raise ValueError(f"line {number} is indented unlike its neighbours")
    return mapping


def _scalar(text: str, number: int) -> str:
    """Read one plain or quoted scalar, without a comment that follows it."""
    if quoted := _QUOTED.match(text):
        body = quoted[1][1:-1]
        if quoted[1].startswith("'"):
            return body.replace("''", "'")
        if any(letter not in '"\\/' for letter in _ESCAPE.findall(body)):
            raise ValueError(f"line {number} holds an escape no token needs")
        return _ESCAPE.sub(r"\1", body)
    plain = _PLAIN.fullmatch(text)
    if plain is None:
        raise ValueError(f"line {number} holds a value that is not plain text")
    return plain["value"]
