"""Keeping our directories out of the user's ``git status`` and ``git add -A``."""

from __future__ import annotations

from typing import Final

from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.repository import OpenRepository, refuse_links
from agentrelay.workstream._lane import SIGNALS_DIR, WORKTREES_DIR

__all__ = ["exclude_lane_directories"]

_LINES: Final = (f"/{WORKTREES_DIR}/", f"/{SIGNALS_DIR}/")


def exclude_lane_directories(repository: OpenRepository) -> None:
    """Add our directories to ``info/exclude`` once; call it in a metadata section.

    The user's own lines stay, and so does the file's last line without a newline.

    Raises:
        RepositoryError: The file cannot be written.
        LaneConflictError: It is a link, and could lead outside the repository.

    Source:
        gitignore(5): patterns in ``$GIT_COMMON_DIR/info/exclude`` are not shared.
    """
    path = repository.common_dir / "info" / "exclude"
    refuse_links(path, below=repository.common_dir)
    with repository_failures("exclude the lanes' directories", path=path):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = b""
        present = set(data.splitlines())
        missing = [line for line in _LINES if line.encode() not in present]
        if not missing:
            return
        gap = b"" if not data or data.endswith(b"\n") else b"\n"
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as stream:
            stream.write(gap + "".join(f"{line}\n" for line in missing).encode())
