"""Judges that know nothing of how this library keeps things, and what the dead leave."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path

import pygit2
from pygit2.enums import FileMode

__all__ = ["contents", "leave_dead_lock", "reachable"]

HEX_LENGTH = 40


def reachable(
    repo: Path,
    *,
    tracking: bool = True,
    without: Collection[str] = (),
    besides: Iterable[str] = (),
) -> set[str]:
    """Return every object that a repository holds on to: commits, trees, blobs.

    That is what its refs lead to and the HEADs of its worktrees, as for ``git gc``.

    Args:
        repo: The repository.
        tracking: Whether remote-tracking refs count.
        without: Full names of refs that do not count.
        besides: Ids of further objects that count, and what they lead to.
    """
    handle = pygit2.Repository(str(repo))
    found: set[str] = set()
    pending = [
        *besides,
        *(
            str(reference.resolve().target)
            for reference in handle.references.objects
            if reference.name not in without
            and (tracking or not reference.name.startswith("refs/remotes/"))
        ),
    ]
    for head in Path(handle.path, "worktrees").glob("*/HEAD"):
        text = head.read_bytes().strip().decode("ascii", "replace")
        if len(text) == HEX_LENGTH and text in handle:
            pending.append(text)
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        thing: object = handle[name]
        if isinstance(thing, pygit2.Commit):
            pending += [str(thing.tree_id), *map(str, thing.parent_ids)]
        elif isinstance(thing, pygit2.Tree):
            for entry in thing:
                if entry.filemode != FileMode.COMMIT:
                    pending.append(str(entry.id))
        elif isinstance(thing, pygit2.Tag):
            pending.append(str(thing.target))
    return found


def contents(directory: Path) -> dict[Path, bytes]:
    """Return every file at or below a path, without following links; a link is its target."""
    found: dict[Path, bytes] = {}
    pending = [directory]
    while pending:
        path = pending.pop()
        if path.is_symlink():
            found[path] = os.fsencode(path.readlink())
        elif path.is_dir():
            pending += path.iterdir()
        elif path.is_file():
            found[path] = path.read_bytes()
    return found


def leave_dead_lock(repo: Path, name: str) -> None:
    """Leave the lock file on a file of git's that a killed process of this library leaves."""
    held = repo / ".git" / "agentrelay" / "held"
    held.mkdir(parents=True, exist_ok=True)
    descriptor, own = tempfile.mkstemp(dir=held)
    os.close(descriptor)
    lock = repo / ".git" / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        lock.hardlink_to(own)
