"""What a throwaway repository holds, as data; nothing here touches a disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AUTHOR",
    "SMALL",
    "BranchRecipe",
    "CommitRecipe",
    "Executable",
    "FileContent",
    "RepositoryRecipe",
    "Symlink",
]

AUTHOR: Final = "Robin Example <robin@example.invalid>"


@dataclass(frozen=True)
class Symlink:
    """A symbolic link.

    Attributes:
        target: Where it points, as stored in the tree; it need not exist.
    """

    target: str


@dataclass(frozen=True)
class Executable:
    """A file with its executable bit set.

    Attributes:
        content: What is in it.
    """

    content: str | bytes


FileContent = str | bytes | Symlink | Executable | None
"""What a path holds after a commit; ``None`` deletes it."""


@dataclass(frozen=True)
class CommitRecipe:
    """One commit on top of the one before it.

    Attributes:
        message: Commit message.
        files: What changes, by path with ``/``; paths left out stay as they were.
        author: Author and committer as ``Name <email>``.
    """

    message: str
    files: Mapping[str, FileContent] = field(default_factory=dict)
    author: str = AUTHOR


@dataclass(frozen=True)
class BranchRecipe:
    """One branch.

    Attributes:
        name: Short name.
        commits: Its own commits, oldest first.
        start: Earlier branch it starts from, or ``None`` for a history of its own.
    """

    name: str
    commits: tuple[CommitRecipe, ...] = ()
    start: str | None = None


@dataclass(frozen=True)
class RepositoryRecipe:
    """One repository.

    Attributes:
        branches: Branches in the order in which they are made; none for an empty one.
        default_branch: Short name of the branch HEAD names, whether it exists or not.
    """

    branches: tuple[BranchRecipe, ...] = ()
    default_branch: str = "main"


SMALL: Final = RepositoryRecipe(
    branches=(
        BranchRecipe(
            "main",
            commits=(
                CommitRecipe("Start the project", {"README.md": "# Calculator\n"}),
                CommitRecipe(
                    "Add the calculator",
                    {
                        "README.md": "# Calculator\n\nAdds and subtracts.\n",
                        "src/calculator/__init__.py": "",
                        "src/calculator/add.py": "def add(a, b):\n    return a + b\n",
                        "src/calculator/subtract.py": "def subtract(a, b):\n    return a - b\n",
                        "tests/test_add.py": (
                            "from calculator.add import add\n\n\n"
                            "def test_add():\n    assert add(2, 3) == 5\n"
                        ),
                        "run": Executable("#!/bin/sh\nexec python -m calculator\n"),
                    },
                ),
            ),
        ),
    ),
)
"""Two commits on ``main``: a README, a few source files, one executable."""
