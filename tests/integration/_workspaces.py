"""A prepared lane and its workspace, for tests of what can be done in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pygit2

from agentrelay.workstream import LaneWorkspace, WorkstreamRuntime, WorkstreamSpec, open_lane
from agentrelay.workstream.testing import World, commit_files, refs

__all__ = ["conflicted", "contents", "picture", "repo_of", "workspace_in", "write"]


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


def repo_of(workspace: LaneWorkspace) -> Path:
    """Return the clone a lane is in."""
    return workspace.path.parents[2]


def picture(workspace: LaneWorkspace) -> tuple[object, ...]:
    """Return all that must be as it was after a refusal, but for what was fetched."""
    files = {
        str(path.relative_to(workspace.path)): path.read_bytes()
        for path in workspace.path.rglob("*")
        if path.is_file()
    }
    status = workspace.status()
    tree = (status.staged, status.unstaged, status.untracked, status.conflicted)
    here = {ref: tip for ref, tip in refs(repo_of(workspace)).items() if "/remotes/" not in ref}
    return files, tree, status.operation, here
