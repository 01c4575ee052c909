"""What a sparse checkout shows, by the stock git's own judgement."""

from __future__ import annotations

from pathlib import Path

import pygit2
import pytest

from agentrelay.workstream import LaneWorkspace
from agentrelay.workstream._git.sparse import parse_patterns
from agentrelay.workstream.testing import World, commit_files
from tests.integration._workspaces import workspace_in
from tests.interop._stock_git import GIT, run_git

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(GIT is None, reason="there is no git program to judge"),
]

PATHS = (
    "top", "b1x", "b-x", "a*", "a.py", "dir/a", "dir/a.py", "dir/sub/a", "dir/sub/deep/b.py",
    "dir/other/a", "x/dir/a", "x/y/z/a", "x/z", "docs/a", "x/docs/b", "#yes",
)  # fmt: skip

PATTERNS = (
    "/*\n!/*/\n/dir/\n!/dir/*/\n/dir/sub/\n",
    "/*\n!docs/\n",
    "docs/\n",
    "*.py\n!/dir/sub/\n",
    "x/**/z\n",
    "x/**\n!x/docs/\n",
    "**/a\n",
    "/dir/*\n",
    "b[0-9]x\n",
    "b[!0-9]x\n",
    "a\\*\n",
    "\\#yes\n",
    "[z-a]\ntop\n",
    "sub\n",
    "dir/sub\n",
)


def git(cwd: Path, *arguments: str, given: str = "") -> str:
    """Run the stock git; it must succeed."""
    done = run_git(cwd, *arguments, given=given)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout of all paths."""
    root = tmp_path_factory.mktemp("sparse")
    pygit2.init_repository(str(root), initial_head="main")
    commit_files(root, dict.fromkeys(PATHS, "1\n"), message="All")
    return root


@pytest.mark.parametrize("patterns", PATTERNS)
def test_patterns_show_what_git_shows(repo: Path, patterns: str) -> None:
    """Of every path."""
    git(repo, "sparse-checkout", "set", "--no-cone", "--stdin", given=patterns)
    listed = git(repo, "ls-files", "-t", "-z").split("\0")[:-1]
    read = parse_patterns((repo / ".git/info/sparse-checkout").read_text())
    shown = {path for path in PATHS if read.shows(path)}
    assert shown == {entry[2:] for entry in listed if entry[0] == "H"}


@pytest.mark.parametrize("mode", ["--cone", "--no-cone"])
def test_a_pull_leaves_a_sparse_checkout_as_git_would(agentrelay_world: World, mode: str) -> None:
    """Nothing to say for git's status, and nothing to do for its reapply."""
    workspace = workspace_in(agentrelay_world)
    _push(agentrelay_world, workspace, dict.fromkeys(PATHS, "1\n"))
    workspace.pull()
    patterns = {"--cone": ["dir/sub"], "--no-cone": ["*.py", "/top", "new/"]}[mode]
    # Looks at the files: git leaves those that it does not know as they are.
    git(workspace.path, "status")
    git(workspace.path, "sparse-checkout", "set", mode, *patterns)
    assert not (workspace.path / "x").exists()
    files: dict[str, str | None] = dict.fromkeys(PATHS, "2\n")
    files |= {"docs/a": None, "dir/sub/a": None, "new/a": "3\n", "docs/new.py": "3\n", "n": "3\n"}
    _push(agentrelay_world, workspace, files)
    workspace.pull()
    before = _state(workspace.path)
    assert git(workspace.path, "status", "--porcelain") == ""
    git(workspace.path, "sparse-checkout", "reapply")
    assert _state(workspace.path) == before
    assert workspace.status().is_clean


def _push(world: World, workspace: LaneWorkspace, files: dict[str, str | None]) -> None:
    commit_files(world.remote_path, files, message="Theirs", branch=workspace.branch)


def _state(root: Path) -> tuple[str, set[str]]:
    """Return what the index says of every path, and the files that are there."""
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return git(root, "ls-files", "-s", "-t"), files
