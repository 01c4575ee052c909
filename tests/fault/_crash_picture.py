"""What is left after a run: everything a user could look at, and everything that is reachable.

Neither looks for anything in particular. The picture holds every file, the reach follows
every ref, HEAD, index and worktree file there is to every object it leads to.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pygit2

from agentrelay.workstream import WorkstreamRuntime
from agentrelay.workstream.testing import World

__all__ = ["picture", "reach"]

_RESCUE = "refs/agentrelay/rescue/"
_ID = re.compile(rb"\b[0-9a-f]{40}\b")
_RANDOM = re.compile(r"\.[0-9a-f]{16}\.tmp$")


def picture(world: World, repo: Path, runtime: WorkstreamRuntime) -> dict[str, Any]:
    """Return everything a user could look at, comparable between two runs in one place."""
    return {
        "repository": _git_dir(repo / ".git"),
        "remote": _git_dir(world.remote_path),
        "rescued": _rescued(repo),
        "files": {
            name: (
                path.readlink() if path.is_symlink() else path.read_bytes(),
                path.lstat().st_mode,
            )
            for name, path in _files(repo)
            if not name.startswith((".git/", ".workflow/"))
        },
        "folders": _folders(repo, without=(".git", ".workflow")),
        "signals": {
            _RANDOM.sub(".tmp", name): _signal(path) for name, path in _files(repo / ".workflow")
        },
        "status": {str(top.relative_to(repo)): _status(top) for top in _worktrees(repo)},
        "pulls": [
            (pull.number, pull.state, pull.merged, pull.head, pull.base)
            for pull in world.github.pulls()
        ],
        "lane": (runtime.status, runtime.state, runtime.artifacts.merge_pr_url),
    }


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            yield str(path.relative_to(root)), path


def _content(path: Path) -> bytes:
    """Return what git would store of a file or link."""
    return os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()


def _folders(root: Path, *, without: tuple[str, ...]) -> set[str]:
    found = {str(Path(folder).relative_to(root)) for folder, _, names in os.walk(root) if not names}
    return {name for name in found if not name.startswith(without)}


def _git_dir(git_dir: Path) -> dict[str, Any]:
    """Return every file of a git directory but objects, rescue refs and lock files of ours.

    A lane's own kernel lock is a file that stays. Reflogs and rescue refs hold times.
    """
    found: dict[str, Any] = {"folders": _folders(git_dir / "refs", without=("agentrelay",))}
    for name, path in _files(git_dir):
        if name.startswith(("objects/", _RESCUE, f"logs/{_RESCUE}")):
            continue
        if name.startswith("agentrelay/") and name.endswith((".lock", ".queue")):
            continue
        # What libgit2 leaves of a fetch hampers nobody: the next one repeats itself.
        if name == "shallow.lock" or name.startswith("agentrelay/fetch/"):
            continue
        if "logs" in Path(name).parts:
            found[name] = "a log"
        elif path.name == "index" and "worktrees" in Path(name).parts:
            # The times of files are in there as well.
            found[name] = [
                (entry.path, str(entry.id), entry.mode) for entry in pygit2.Index(str(path))
            ]
        else:
            found[name] = path.read_bytes()
    return found


def _rescued(repo: Path) -> set[tuple[str, str]]:
    """Return the messages and trees of all commits that were kept.

    However many refs lead there: a repeated clean-up may keep the same thing twice.
    """
    handle = pygit2.Repository(str(repo))
    return {
        (commit.message, str(commit.tree_id))
        for name in handle.references
        if name.startswith(_RESCUE)
        for commit in handle.walk(handle.references[name].peel(pygit2.Commit).id)
    }


def _signal(path: Path) -> Any:
    if path.name == "lane.json":
        return json.loads(path.read_bytes())
    if path.name == "history.jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return {(line["event"], line["text"]) for line in lines}
    return path.read_bytes()


def _worktrees(repo: Path) -> list[Path]:
    below = sorted((repo / ".worktrees").glob("[!.]*/*"))
    return [repo, *(path for path in below if (path / ".git").exists())]


def _status(top: Path) -> Any:
    handle = pygit2.Repository(str(top))
    return handle.status(), handle.head_is_detached, str(handle.state())


def reach(world: World, repo: Path) -> frozenset[str]:
    """Return the id of every object a user can still come by, in the clone or at the remote.

    Whatever looks like an id in any file of a git directory that git takes for a root leads
    somewhere: no ref is expected under any name. Files of checkouts count by their content.
    What waits in the trash is as good as gone.
    """
    found: set[str] = set()
    for git_dir in (repo / ".git", world.remote_path):
        handle = pygit2.Repository(str(git_dir))
        pending = [name for name in _roots(git_dir) if name in handle]
        for index in (path for name, path in _files(git_dir) if Path(name).name == "index"):
            pending += [str(entry.id) for entry in pygit2.Index(str(index))]
        while pending:
            name = pending.pop()
            if name in found:
                continue
            found.add(name)
            pending += _below(handle[name])
    for name, path in _files(repo):
        if path.name != ".git" and not name.startswith(
            (".git/", ".workflow/", ".worktrees/.trash/")
        ):
            found.add(str(pygit2.hash(_content(path))))
    return frozenset(found)


def _roots(git_dir: Path) -> Iterator[str]:
    """Yield the ids in refs, HEADs and the small files of operations under way."""
    for name, path in _files(git_dir):
        parts = Path(name).parts
        if parts[0] in {"objects", "agentrelay", "info", "hooks"} or "logs" in parts:
            continue
        # What was once fetched is no promise: the next fetch forgets it.
        if path.name in {"index", "config", "description", "FETCH_HEAD", "ORIG_HEAD"}:
            continue
        if path.name.endswith(".lock"):
            continue
        for found in _ID.findall(path.read_bytes()):
            yield found.decode()


def _below(found: Any) -> list[str]:
    """Return the ids an object leads to."""
    if isinstance(found, pygit2.Commit):
        return [str(found.tree_id), *map(str, found.parent_ids)]
    if isinstance(found, pygit2.Tree):
        return [str(entry.id) for entry in found]
    if isinstance(found, pygit2.Tag):
        return [str(found.target)]
    return []
