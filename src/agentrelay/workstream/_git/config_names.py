"""Reading the configuration's names, however many lanes have a section in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pygit2
from pygit2.config import ConfigEntry, DefaultConfig
from pygit2.enums import ConfigLevel

from agentrelay.workstream._git.whole_files import read_whole

__all__ = ["ConfigNames", "config_entries", "config_names"]

# What takes more configuration in than the file itself.
_MORE: Final = (b"include", b"worktreeconfig")
# Where git's files are that hold for all repositories, by libgit2's search path.
_DEFAULTS: Final = (
    (ConfigLevel.PROGRAMDATA, "config"),
    (ConfigLevel.SYSTEM, "gitconfig"),
    (ConfigLevel.XDG, "config"),
    (ConfigLevel.GLOBAL, ".gitconfig"),
)


class ConfigNames(NamedTuple):
    """What the names in a configuration tell.

    Attributes:
        names: Names of entries, at least those with one of the words in them.
        is_plain: Whether nothing is included, and no worktree has settings of its own:
            then all worktrees of the repository have these.
    """

    names: tuple[str, ...]
    is_plain: bool


def config_names(
    handle: pygit2.Repository, common_dir: Path, words: Sequence[bytes]
) -> ConfigNames:
    """Return the names of configuration entries that have one of some words in them.

    Every lane has a section in the repository's own file. No file is read entry by entry
    if none of the words is in it, and nothing is included.

    Args:
        handle: Repository whose configuration it is.
        common_dir: Its common directory.
        words: In lower case.
    """
    config: pygit2.Config = handle.config
    own = _hints(f"{common_dir}/config", words)
    defaults = set().union(*(_hints(path, words) for path in _default_files()))
    is_plain = (own | defaults).isdisjoint(_MORE)
    if not own:
        if not defaults:
            return ConfigNames((), is_plain)
        config = DefaultConfig()
    return ConfigNames(tuple(name for name, _ in config_entries(config)), is_plain)


def _default_files() -> Iterator[str]:
    """Iterate over the paths of files that hold for all repositories; they need not be there."""
    for level, name in _DEFAULTS:
        for folder in pygit2.settings.search_path[level].split(os.pathsep):
            if folder:
                yield f"{folder}/{name}"


def _hints(path: str, words: Sequence[bytes]) -> set[bytes]:
    """Return which of some words a file may have in it, or take in with others."""
    try:
        text = read_whole(path).lower()
    except FileNotFoundError:
        return set()
    except OSError:
        return {*words, *_MORE}
    return {hint for hint in (*words, *_MORE) if hint in text}


def config_entries(config: pygit2.Config) -> Iterator[tuple[str, ConfigEntry | None]]:
    """Yield the name of each entry, and the entry, if pygit2 can read it.

    git takes any bytes for the name in a section's quotes. pygit2 takes UTF-8 and fails at
    such an entry, but goes on after it. Its bytes stand in the name as surrogates.
    """
    entries = iter(config)
    while True:
        try:
            entry = next(entries)
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            yield error.object.decode("utf-8", "surrogateescape"), None
        else:
            yield entry.name, entry
