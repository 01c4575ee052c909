"""A prepared lane and its workspace, for tests of what can be done in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pygit2

from agentrelay.workstream import LaneWorkspace, WorkstreamRuntime, WorkstreamSpec, open_lane
from agentrelay.workstream.testing import World, commit_files

__all__ = ["conflicted", "contents", "workspace_in", "write"]


def workspace_in(
    world: World, repo: Path | None = None, lane_id: str = "parser", **settings: Any
) -> LaneWorkspace:
    """Prepare a lane in a world, and open it."""
    runtime = WorkstreamRuntime(WorkstreamSpec(lane_id))
    where = world.clone() if repo is None else repo
    world.preparer(where).prepare_workstream(runtime)
    return open_lane(runtime, **{"token": world.token, **settings})


def write(workspace: LaneWorkspace, **files: str) -> None:
    """Write text files into a worktree; ``__`` in a name stands for a dot."""
    for name, text in files.items():
        (workspace.path / name.replace("__", ".")).write_text(text)


def contents(workspace: LaneWorkspace, commit_id: str = "HEAD") -> dict[str, bytes]:
    """Return the files of a commit, by path."""
    handle = pygit2.Repository(str(workspace.path))
    index = pygit2.Index()
    index.read_tree(handle.revparse_single(commit_id).peel(pygit2.Tree))
    return {str(entry.path): handle[entry.id].peel(pygit2.Blob).data for entry in index}


def conflicted(workspace: LaneWorkspace) -> pygit2.Oid:
    """Begin a merge whose both sides changed README.md; return the commit merged in."""
    handle = pygit2.Repository(str(workspace.path))
    base = handle.head.peel(pygit2.Commit)
    commit_files(workspace.path, {"README.md": "ours\n"}, message="Ours")
    builder = handle.TreeBuilder(base.tree)
    builder.insert("README.md", handle.create_blob(b"theirs\n"), pygit2.enums.FileMode.BLOB)
    builder.insert("theirs.txt", handle.create_blob(b"new\n"), pygit2.enums.FileMode.BLOB)
    who = handle.default_signature
    theirs = handle.create_commit(None, who, who, "Theirs", builder.write(), [base.id])
    handle.merge(theirs)
    return theirs
