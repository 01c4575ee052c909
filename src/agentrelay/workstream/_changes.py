"""What is changed in a working tree, and what a commit is, as data.

Known to the front door as well as to the code that reads repositories, so it imports
neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Optional

__all__ = [
    "AheadBehind",
    "ChangeKind",
    "ChangedPath",
    "CommitInfo",
    "FileChange",
    "LaneDiff",
    "TreeStatus",
]

ChangeKind = Literal["added", "modified", "deleted", "type_changed", "renamed"]


@dataclass(frozen=True, order=True)
class ChangedPath:
    """One path that differs between two of HEAD, index and working tree.

    Attributes:
        path: Path relative to the top of the working tree, with ``/``; bytes that are no
            UTF-8 are shown as Python's file system functions show them.
        kind: ``"added"``, ``"modified"`` (content or mode), ``"deleted"`` or
            ``"type_changed"`` (a file became a link, or the reverse).
    """

    path: str
    kind: ChangeKind


@dataclass(frozen=True)
class AheadBehind:
    """How far a branch and another one have come apart.

    Attributes:
        ahead: Number of commits only the lane has.
        behind: Number of commits only the other one has.
    """

    ahead: int
    behind: int


@dataclass(frozen=True)
class TreeStatus:
    """What of a working tree is in no commit, by path and sorted.

    Attributes:
        staged: Where the index differs from HEAD.
        unstaged: Where the file differs from the index.
        untracked: Files git neither tracks nor ignores, each by itself; a repository of
            its own is one path that ends in ``/``.
        conflicted: Paths with unresolved conflicts; they are in none of the others.
    """

    staged: tuple[ChangedPath, ...]
    unstaged: tuple[ChangedPath, ...]
    untracked: tuple[str, ...]
    conflicted: tuple[str, ...]


@dataclass(frozen=True)
class FileChange:
    """What a diff says of one file.

    Attributes:
        path: Where it is now; of a deleted file, where it was.
        kind: What happened to it.
        old_path: Where it was, if it was renamed.
        additions: Number of lines that were added; 0 for a binary file.
        deletions: Number of lines that were taken away; 0 for a binary file.
        is_binary: Whether git shows no lines of it.
    """

    path: str
    kind: ChangeKind
    old_path: Optional[str] = None
    additions: int = 0
    deletions: int = 0
    is_binary: bool = False


@dataclass(frozen=True)
class LaneDiff:
    """What changed between two commits, or since one.

    Attributes:
        base_commit: Hex id of the commit that is compared with.
        commit_id: Hex id of the commit that is compared; ``None`` for the worktree as it is.
        files: What changed, by file.
        text: The same as a unified diff. Bytes that are no UTF-8 are replaced, and what is
            binary is only named, so it is for reading, and applies where neither occurs.
    """

    base_commit: str
    commit_id: Optional[str]
    files: tuple[FileChange, ...]
    text: str

    @property
    def additions(self) -> int:
        """Number of lines that were added, in all."""
        return sum(file.additions for file in self.files)

    @property
    def deletions(self) -> int:
        """Number of lines that were taken away, in all."""
        return sum(file.deletions for file in self.files)


@dataclass(frozen=True)
class CommitInfo:
    """One commit.

    Attributes:
        commit_id: Its hex id.
        parent_ids: Hex ids of its parents.
        author_name: Who wrote the change.
        author_email: Their address.
        authored_at: When it was written, with the author's own time zone.
        subject: First paragraph of the message, as one line.
        body: What follows it, trailers included.
        trailers: Key and value of each trailer, in order, as git-interpret-trailers(1) reads
            them.
    """

    commit_id: str
    parent_ids: tuple[str, ...]
    author_name: str
    author_email: str
    authored_at: datetime
    subject: str
    body: str
    trailers: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """The commit as ``git log`` shows it."""
        message = f"{self.subject}\n\n{self.body}".rstrip() if self.body else self.subject
        shown = "\n".join(f"    {line}".rstrip() for line in message.split("\n"))
        merge = ""
        if len(self.parent_ids) > 1:
            merge = f"Merge: {' '.join(parent[:7] for parent in self.parent_ids)}\n"
        when = self.authored_at.strftime("%a %b %d %H:%M:%S %Y %z")
        return (
            f"commit {self.commit_id}\n{merge}"
            f"Author: {self.author_name} <{self.author_email}>\nDate:   {when}\n\n{shown}\n"
        )
