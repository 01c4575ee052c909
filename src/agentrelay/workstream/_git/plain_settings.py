"""Telling whether a checkout writes every blob as it is stored."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import ConfigLevel

from agentrelay.workstream._git.repository import common_dir_of

__all__ = ["writes_as_stored"]

# Settings that change what is written, and the values with which they change nothing where
# lines end in LF. Source: git-config(1), gitattributes(5).
_HARMLESS: Final[dict[str, frozenset[str | None]]] = {
    "core.autocrlf": frozenset({None, "false", "no", "off", "0", "input"}),
    "core.eol": frozenset({None, "lf", "native"}),
    "core.filemode": frozenset({None, "true", "yes", "on", "1"}),
    "core.ignorecase": frozenset({None, "false", "no", "off", "0"}),
    "core.symlinks": frozenset({None, "true", "yes", "on", "1"}),
    "core.precomposeunicode": frozenset({None, "false", "no", "off", "0"}),
    "attr.tree": frozenset({None}),
}
# Attributes that change what is written, wherever in a line they are and whatever for. "eol"
# to LF changes nothing that is stored with LF or not.
_CHANGING: Final = re.compile(
    rb"(?im)(?:^|[\s\"!-])(?:eol(?!=lf(?:\s|\Z))|filter|ident|crlf|working-tree-encoding|encoding)"
    rb"(?:[\s=]|\Z)"
)


def writes_as_stored(handle: pygit2.Repository, attributes: Iterable[bytes]) -> bool:
    """Tell whether nothing converts a file between the repository and the worktree.

    ``False`` whenever that is not certain.

    Args:
        handle: Repository opened at the worktree.
        attributes: Object ids of the tree's own ``.gitattributes``.
    """
    config = handle.config
    if any(_value(config, name) not in values for name, values in _HARMLESS.items()):
        return False
    for object_id in attributes:
        if _CHANGING.search(handle.read(pygit2.Oid(raw=object_id))[1]):
            return False
    for path in _attribute_files(handle):
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError):
            return False
        if _CHANGING.search(text):
            return False
    return True


def _value(config: pygit2.Config, name: str) -> str | None:
    return (config[name] or "").lower() if name in config else None


def _attribute_files(handle: pygit2.Repository) -> Iterator[Path]:
    """Return where attributes can be besides the tree; what git reads, and what libgit2 reads."""
    git_dir = Path(handle.path)
    yield git_dir / "info" / "attributes"
    yield common_dir_of(git_dir) / "info" / "attributes"
    named = None
    with contextlib.suppress(KeyError):
        named = handle.config["core.attributesfile"]
    if named:
        yield Path(os.path.expanduser(named))  # noqa: PTH111 - a user who is not there is no error
    home = os.environ.get("HOME", "")
    yield Path(os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config") / "git" / "attributes"
    yield Path("/etc/gitattributes")
    for level, name in ((ConfigLevel.XDG, "attributes"), (ConfigLevel.SYSTEM, "gitattributes")):
        for folder in pygit2.settings.search_path[level].split(os.pathsep):
            if folder:
                yield Path(folder) / name
