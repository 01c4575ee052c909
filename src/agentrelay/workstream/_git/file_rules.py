"""What configuration and attributes may have to say of files, found out once for many.

libgit2 answers such questions one file at a time, and looks for every file of attributes
each time: that would be most of the work of a large commit. Where there is no such file,
or none that speaks of programs, it need not be asked.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import ConfigLevel

from agentrelay.workstream._git.repository import common_dir_of

__all__ = ["FileRules"]

_NAME: Final = ".gitattributes"
# What is said of a file that cannot be read: anything.
_UNKNOWN: Final = b"filter working-tree-encoding"


class FileRules:
    """The rules of one working tree, as they are when each folder is first looked at.

    Attributes:
        trusts_modes: Whether the file system says which files are executable
            (``core.fileMode``).
    """

    def __init__(self, handle: pygit2.Repository) -> None:
        """Read what holds for all folders.

        Args:
            handle: Repository opened at the working tree.
        """
        config = handle.config
        self._handle = handle
        self.trusts_modes = "core.filemode" not in config or config.get_bool("core.filemode")
        crlf = str(config["core.autocrlf"]).lower() if "core.autocrlf" in config else "false"
        self._converts = crlf not in {"false", "no", "off", "0"}
        self._known: dict[str, bytes] = {}
        self._everywhere = _UNKNOWN if "core.attributesfile" in config else b""
        for path in self._common_files():
            self._everywhere += _read(path)

    def _common_files(self) -> list[Path]:
        """Return the files that speak of every folder.

        Source:
            gitattributes(5): ``info/attributes``, the user's and the system's.
        """
        found = [common_dir_of(Path(self._handle.path)) / "info" / "attributes"]
        for level, name in ((ConfigLevel.XDG, "attributes"), (ConfigLevel.SYSTEM, "gitattributes")):
            folders = pygit2.settings.search_path[level].split(os.pathsep)
            found += [Path(folder) / name for folder in folders if folder]
        return found

    def is_verbatim(self, path: str) -> bool:
        """Return whether a file is certainly stored as it is: no rule speaks of any."""
        return not self._converts and not self._text(path)

    def may_need_program(self, path: str) -> bool:
        """Return whether a rule may name a filter or an encoding for a file."""
        text = self._text(path)
        return b"filter" in text or b"working-tree-encoding" in text

    def _text(self, path: str) -> bytes:
        """Return all rules that may speak of a path."""
        folder = path.rpartition("/")[0]
        known = self._known.get(folder)
        if known is None:
            above = self._text(folder) if folder else self._everywhere
            known = self._known[folder] = above + self._own(folder)
        return known

    def _own(self, folder: str) -> bytes:
        """Return the rules in a folder, in the index too: they count where the file is gone."""
        name = f"{folder}/{_NAME}" if folder else _NAME
        text = _read(Path(self._handle.workdir) / name)
        if name in self._handle.index:
            text += self._handle[self._handle.index[name].id].peel(pygit2.Blob).data
        return text


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError:
        return _UNKNOWN
