"""What must not become a commit, found out before anything is written."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import FileMode

from agentrelay.workstream._git.file_rules import FileRules
from agentrelay.workstream.errors import CommitRefusedError

__all__ = ["NO_FILE", "NO_FILE_HINT", "FileChecks", "refuse_paths"]

# Nobody may ever write to a pipe: reading it would take for ever.
NO_FILE: Final = "neither a regular file nor a link, and git stores nothing else"
NO_FILE_HINT: Final = "Remove it, or move it out of the worktree."

# git-lfs, docs/spec.md: the first line is fixed, the others are sorted, all is short.
_POINTER: Final = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n"
    rb"(?:[a-z0-9.-]+ [^\n]*\n)*?oid sha256:[0-9a-f]{64}\n(?:[a-z0-9.-]+ [^\n]*\n)*?size [0-9]+\n"
    rb"(?:[a-z0-9.-]+ [^\n]*\n)*"
)
_LONGEST_POINTER_BYTES: Final = 1024
_MOST_SHOWN: Final = 5


def refuse_paths(paths: list[str], reason: str, *, hint: str) -> CommitRefusedError:
    """Return the refusal of some paths.

    Args:
        paths: Relative to the top of the working tree.
        reason: Why they cannot be committed: ``"is ignored"`` would be ``"are ignored"``.
        hint: What the reader can do.
    """
    shown = ", ".join(f"'{path}'" for path in paths[:_MOST_SHOWN])
    if len(paths) > _MOST_SHOWN:
        shown = f"{shown} and {len(paths) - _MOST_SHOWN} more"
    return CommitRefusedError(
        f"cannot commit {shown}: {reason}", paths=tuple(paths), reason=reason, hint=hint
    )


@dataclass
class FileChecks:
    """Looks at one file after the other, and refuses all that have the same flaw at once.

    Attributes:
        handle: Repository opened at the working tree.
        largest_bytes: Size of a file from which on it is refused, in bytes.
        rules: The rules of the working tree.
    """

    handle: pygit2.Repository
    largest_bytes: int
    rules: FileRules
    _found: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def look_at_file(self, path: str, seen: os.stat_result) -> None:
        """Look at a file of the working tree that is about to be added."""
        if stat.S_ISDIR(seen.st_mode):
            self._note_repository(path)
        elif stat.S_ISREG(seen.st_mode):
            self._look_at_size(path, seen.st_size)
            self._look_at_attributes(path, lambda: _beginning(Path(self.handle.workdir, path)))
        elif not stat.S_ISLNK(seen.st_mode):
            self._note(path, NO_FILE, NO_FILE_HINT)

    def look_at_entry(self, entry: pygit2.IndexEntry) -> None:
        """Look at an entry of the index that somebody else put there."""
        if entry.mode == FileMode.COMMIT:
            self._note_repository(str(entry.path))
            return
        if entry.mode == FileMode.LINK:
            return
        path = str(entry.path)
        _, size = self.handle.odb.read_header(entry.id)
        self._look_at_size(path, size)
        self._look_at_attributes(
            path, lambda: self.handle[entry.id].peel(pygit2.Blob).data[:_LONGEST_POINTER_BYTES]
        )

    def _look_at_size(self, path: str, size_bytes: int) -> None:
        if size_bytes > self.largest_bytes:
            self._note(
                path,
                f"larger than {self.largest_bytes:,} bytes, which the remote would refuse",
                "Leave it out, or raise largest_file_bytes= if the remote takes it.",
            )

    def _look_at_attributes(self, path: str, beginning: Callable[[], bytes]) -> None:
        if not self.rules.may_need_program(path):
            return
        name = os.fsencode(path)
        driver = self.handle.get_attr(name, "filter")
        if driver == "lfs":
            data = beginning()
            if data and not _POINTER.fullmatch(data):
                self._note(
                    path,
                    "tracked by Git LFS, and the content is not a pointer",
                    "No program is run here, so it would be stored as it is. Commit it with "
                    "git and git-lfs.",
                )
        elif isinstance(driver, str) and self._has_program(driver):
            self._note(
                path,
                f"git would run the filter '{driver}' over the content, and no program is run here",
                "Commit it with git.",
            )
        encoding = self.handle.get_attr(name, "working-tree-encoding")
        if isinstance(encoding, str) and encoding.upper() not in {"UTF-8", "UTF8"}:
            self._note(
                path,
                f"git would convert the content from {encoding}, which libgit2 does not",
                "Commit it with git.",
            )

    def _has_program(self, driver: str) -> bool:
        config = self.handle.config
        return any(f"filter.{driver}.{kind}" in config for kind in ("clean", "process"))

    def _note_repository(self, path: str) -> None:
        self._note(
            path,
            "a repository of its own or a submodule, of which only a commit's id would be stored",
            "Move it out of the worktree or ignore it; commit submodules with git.",
        )

    def _note(self, path: str, reason: str, hint: str) -> None:
        self._found.setdefault((reason, hint), []).append(path)

    def conclude(self) -> None:
        """Refuse what was found.

        Raises:
            CommitRefusedError: Something was; of several flaws the first.
        """
        for (reason, hint), paths in self._found.items():
            raise refuse_paths(paths, reason, hint=hint)


def _beginning(path: Path) -> bytes:
    with path.open("rb") as stream:
        # One more: a pointer is shorter.
        return stream.read(_LONGEST_POINTER_BYTES)
