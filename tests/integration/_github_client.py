"""What the tests of the GitHub double share: a remote, ways to change it, and two clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import github
import pygit2
import requests

from agentrelay.workstream.testing.repositories import commit_files, create_bare_repository

if TYPE_CHECKING:
    from pathlib import Path

    from agentrelay.workstream.testing.github_server import GitHubServer

__all__ = [
    "NAME",
    "TOKEN",
    "add_lane",
    "add_root",
    "call",
    "client",
    "files",
    "make_remote",
    "move",
    "open_lane",
    "tip",
]

TOKEN = "ghp_" + "t" * 36
NAME = "octo/widgets"


def make_remote(where: Path) -> Path:
    """Make a bare repository with ``main`` and a lane one commit ahead of it."""
    path = create_bare_repository(where / "widgets.git")
    add_lane(path, "lane", {"lane.txt": "one\n"})
    return path


def client(server: GitHubServer, *, token: str = TOKEN, timeout: int = 60) -> github.Github:
    """Return a client as the library builds it: lazy, without retries and throttle."""
    return github.Github(
        base_url=server.api_url,
        auth=github.Auth.Token(token),
        lazy=True,
        retry=None,
        timeout=timeout,
        seconds_between_requests=None,
        seconds_between_writes=None,
    )


def add_lane(path: Path, branch: str, *steps: dict[str, str], start: str = "main") -> None:
    """Make a branch at ``start`` and commit each step to it."""
    git = pygit2.Repository(str(path))
    git.references.create(f"refs/heads/{branch}", git.references[f"refs/heads/{start}"].target)
    for number, files in enumerate(steps, 1):
        commit_files(path, files, message=f"Step {number} of {branch}\n\nWhy.\n", branch=branch)


def add_root(path: Path) -> None:
    """Make the branch ``root``, which shares no commit with any other."""
    git = pygit2.Repository(str(path))
    who = pygit2.Signature("A", "a@example.invalid", 0, 0)
    git.create_commit("refs/heads/root", who, who, "Root", git.TreeBuilder().write(), [])


def tip(path: Path, branch: str) -> str:
    """Return the commit a branch points at."""
    return str(pygit2.Repository(str(path)).references[f"refs/heads/{branch}"].target)


def move(path: Path, branch: str, sha: str) -> None:
    """Point a branch at a commit, as a forced push does."""
    git = pygit2.Repository(str(path))
    git.references.create(f"refs/heads/{branch}", sha, force=True)


def files(path: Path, branch: str) -> set[str]:
    """Return the names of the files at the top of a branch's tree."""
    tree = pygit2.Repository(str(path))[tip(path, branch)].peel(pygit2.Tree)
    return {str(entry.name) for entry in tree}


def call(
    server: GitHubServer,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    **headers: str,
) -> requests.Response:
    """Send one request below the repository, or anywhere if ``path`` starts with a URL."""
    url = path if path.startswith("http") else f"{server.api_url}/repos/{NAME}{path}"
    fields = {"Authorization": f"Bearer {TOKEN}"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(
        method, url, json=body, headers=fields, timeout=60, allow_redirects=False
    )


def open_lane(server: GitHubServer, **fields: str) -> dict[str, Any]:
    """Open the lane's pull request and return the answer's body."""
    body = {"title": "Lane", "head": "lane", "base": "main", **fields}
    answer = call(server, "POST", "/pulls", body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())
