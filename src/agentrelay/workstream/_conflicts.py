"""What a merge would come to, as data: paths in conflict, and the lines of both sides."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Optional

__all__ = ["ConflictHunk", "ConflictKind", "MergePreview", "PathConflict"]


class ConflictKind(StrEnum):
    """In which way a path is in conflict; the values are git's words."""

    CONTENT = "content"
    ADD_ADD = "add/add"
    MODIFY_DELETE = "modify/delete"
    RENAME = "rename"
    FILE_DIRECTORY = "file/directory"


@dataclass(frozen=True)
class ConflictHunk:
    """One place of a file that both sides changed differently.

    Attributes:
        source_lines: What the merged branch has there, without line ends.
        target_lines: What the branch it is merged into has there.
    """

    source_lines: tuple[str, ...]
    target_lines: tuple[str, ...]


@dataclass(frozen=True)
class PathConflict:
    """One path that cannot be merged by itself.

    Attributes:
        path: Path in the repository, with ``/``.
        kind: In which way.
        hunks: The places, in the order of the file. Empty where lines say nothing: the file
            is on one side only, binary, longer than 4 MiB, no regular file, or has conflicting
            modes only.
        is_in_source: Whether the merged branch has something at this path.
        is_in_target: Whether the branch it is merged into has.
    """

    path: str
    kind: ConflictKind
    hunks: tuple[ConflictHunk, ...] = ()
    is_in_source: bool = True
    is_in_target: bool = True


@dataclass(frozen=True)
class MergePreview:
    """What merging one branch into another would come to at this moment.

    Attributes:
        source: Full name of the ref that would be merged, or the commit asked for.
        target: Full name of the ref it would be merged into, or the commit asked for.
        source_commit: Hex id of the commit the source was at.
        target_commit: Hex id of the commit the target was at.
        is_merged: Whether the target has the source's commits already: nothing would be done.
        is_related: Whether the two have any history in common; git merges no others.
        conflicts: What is in conflict, sorted by path.
        tree_id: Hex id of the tree the merge would have, or ``None`` where it cannot be made.
            The tree itself is not kept.
        is_certain: Whether git is known to come to the same. It may not where the histories
            have crossed, or where one side moved a whole directory to which the other added
            something: git may ask a human there, or move that too.
    """

    source: str
    target: str
    source_commit: str
    target_commit: str
    is_merged: bool = False
    is_related: bool = True
    conflicts: tuple[PathConflict, ...] = ()
    tree_id: Optional[str] = None
    is_certain: bool = True

    @property
    def is_mergeable(self) -> bool:
        """Whether the merge would need nobody's help."""
        return self.is_related and not self.conflicts

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths in conflict, sorted, each once."""
        return tuple(dict.fromkeys(conflict.path for conflict in self.conflicts))
