"""One throwaway universe for lanes: a remote, a GitHub in front of it, and clones."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from agentrelay.workstream._policy import RetryPolicy
from agentrelay.workstream.core.runner import StandardWorkstreamRunner
from agentrelay.workstream.implementations import (
    GhIntegrationAutoMerger,
    GhIntegrationMergeChecker,
    GhWorkstreamIntegrator,
    GitHubApp,
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
)
from agentrelay.workstream.testing.git_server import GitServer
from agentrelay.workstream.testing.github_server import GitHubServer
from agentrelay.workstream.testing.repositories import (
    SMALL,
    clone_repository,
    create_bare_repository,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from agentrelay.workstream.testing.repositories import RepositoryRecipe

__all__ = ["World"]

# Opens nothing anywhere; servers on loopback ask for it so that a client that forgets
# to authenticate is noticed.
_MADE_UP: Final = "made-up-for-this-world-only"


@dataclass(frozen=True)
class _Running:
    """What exists between entering and leaving."""

    root: Path
    remote_path: Path
    git: GitServer
    github: GitHubServer
    temporary: tempfile.TemporaryDirectory[str] | None


class World:
    """A bare repository, a git server and a GitHub double for it, on this machine only.

    Both servers speak of the same repository: a push shows up in its pull requests, a
    merged pull request in the next fetch. Use it as a context manager; leaving it
    closes the servers, whatever their clients do, and raises what went wrong inside them,
    unknown routes for example.

        with World() as world:
            repo = world.clone()
            runner = world.runner(repo)
            lane = WorkstreamRuntime(WorkstreamSpec("parser"))
            runner.prepare(lane)

    Attributes:
        token: What both servers ask for, or ``None`` when they let everybody in.
        full_name: What the repository is called at the GitHub double, ``"owner/name"``.
    """

    def __init__(
        self,
        root: Path | None = None,
        *,
        recipe: RepositoryRecipe = SMALL,
        token: str | None = _MADE_UP,
        full_name: str = "octo/widgets",
    ) -> None:
        """Make a world that does not exist yet; entering it makes it.

        Args:
            root: Directory for everything, which stays when the world ends; a temporary
                one that goes with it when ``None``.
            recipe: What the repository holds.
            token: What both servers ask for, or ``None`` to let everybody in.
            full_name: What the repository is called at the GitHub double.
        """
        self.token = token
        self.full_name = full_name
        self._wanted_root = root
        self._recipe = recipe
        self._now: _Running | None = None

    def __repr__(self) -> str:
        """Name the repository and where it is; never the token."""
        where = "not entered" if self._now is None else str(self._now.root)
        return f"<World {self.full_name}: {where}>"

    def __enter__(self) -> Self:
        """Make the repository and start both servers.

        Raises:
            RuntimeError: It is entered already.
            FileExistsError: ``root`` holds an earlier world.
        """
        if self._now is not None:
            raise RuntimeError("this World is entered already")
        with contextlib.ExitStack() as undo:
            root, temporary = self._wanted_root, None
            if root is None:
                temporary = tempfile.TemporaryDirectory(prefix="agentrelay-world-")
                undo.callback(temporary.cleanup)
                root = Path(temporary.name)
            # libgit2 resolves paths, and tests compare its answers with these.
            root = root.resolve()
            served = root / "remotes"
            remote_path = create_bare_repository(served / f"{self.full_name}.git", self._recipe)
            git = undo.enter_context(GitServer(served, token=self.token))
            github = GitHubServer(
                remote_path,
                full_name=self.full_name,
                token=self.token,
                default_branch=self._recipe.default_branch,
            ).start()
            undo.pop_all()
        git.judge = lambda shown, path, writes: github.apps.git_status(shown, path, writes=writes)
        self._now = _Running(root, remote_path, git, github, temporary)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close both servers, and raise what they remembered unless all is lost already."""
        self._end(failing=error is not None)

    def close(self) -> None:
        """End the world; calling it again is harmless.

        Raises:
            BaseException: What a server remembered, as :meth:`check` raises it.
        """
        self._end(failing=False)

    def _end(self, *, failing: bool) -> None:
        """Close everything; while another exception is on its way, only that one counts."""
        running, self._now = self._now, None
        if running is None:
            return
        failures: list[BaseException] = []
        for server in (running.git, running.github):
            try:
                server.close()
            except BaseException as failure:  # noqa: BLE001  # raised below, when both are closed
                failures.append(failure)
        if running.temporary is not None:
            running.temporary.cleanup()
        if not failing:
            _raise_first(failures)

    @property
    def root(self) -> Path:
        """Directory that holds everything: ``remotes`` and ``clones``."""
        return self._running.root

    @property
    def remote_path(self) -> Path:
        """The bare repository behind both servers; it may be changed directly."""
        return self._running.remote_path

    @property
    def remote_url(self) -> str:
        """Where the git server serves it; without the token."""
        return self.git.repository_url(f"{self.full_name}.git")

    @property
    def git(self) -> GitServer:
        """The git server, with its request log, hooks and planned faults."""
        return self._running.git

    @property
    def github(self) -> GitHubServer:
        """The GitHub double, with its request log, pull requests and planned faults."""
        return self._running.github

    def clone(self, name: str = "clone", *, by: Literal["http", "path"] = "http") -> Path:
        """Make a working copy with ``origin``, as ``git clone`` leaves it.

        Args:
            name: Directory below ``<root>/clones``.
            by: Whether ``origin`` is the git server's URL or the path of the repository.

        Returns:
            Its absolute path.

        Raises:
            FileExistsError: There is one of that name.
        """
        url = self.remote_url if by == "http" else None
        return clone_repository(self.remote_path, self.root / "clones" / name, url=url)

    def github_app(
        self, *, permissions: Mapping[str, str] | None = None, **settings: Any
    ) -> GitHubApp:
        """Install an app on the repository, and return it for ``token=``.

        Args:
            permissions: What it is granted; contents and pull requests unless told.
            **settings: As for :class:`GitHubApp`; they win.
        """
        granted = permissions or {"contents": "write", "pull_requests": "write"}
        app = self.github.apps.install([self.full_name], granted)
        app_id = settings.pop("app_id", app.app_id)
        known = {"private_key": app.private_key, "api_url": self.github.api_url}
        return GitHubApp(app_id, **{**known, **settings})

    def preparer(
        self, repo: Path, graph: str = "nightly", **settings: Any
    ) -> GitWorkstreamPreparer:
        """Return a preparer that knows this world's token.

        Args:
            repo: Repository to prepare lanes in.
            graph: Name of the task graph.
            **settings: As for :class:`GitWorkstreamPreparer`; they win.
        """
        return GitWorkstreamPreparer(repo, graph, **{"token": self.token, **settings})

    def integrator(self, repo: Path, **settings: Any) -> GhWorkstreamIntegrator:
        """Return an integrator that asks this world's GitHub, and waits for nothing.

        Args:
            repo: Repository the lanes were prepared in.
            **settings: As for :class:`GhWorkstreamIntegrator`; they win.
        """
        return GhWorkstreamIntegrator(repo, **{**self._github_settings, **settings})

    def teardown(self, repo: Path, **settings: Any) -> GitWorkstreamTeardown:
        """Return a teardown that asks this world's GitHub, and waits for nothing.

        Args:
            repo: Repository the lanes were prepared in.
            **settings: As for :class:`GitWorkstreamTeardown`; they win.
        """
        return GitWorkstreamTeardown(repo, **{**self._github_settings, **settings})

    def merge_checker(self, repo: Path, **settings: Any) -> GhIntegrationMergeChecker:
        """Return a merge checker that asks this world's GitHub, and waits for nothing.

        Args:
            repo: Repository the lanes were prepared in.
            **settings: As for :class:`GhIntegrationMergeChecker`; they win.
        """
        return GhIntegrationMergeChecker(repo, **{**self._github_settings, **settings})

    def auto_merger(self, repo: Path, **settings: Any) -> GhIntegrationAutoMerger:
        """Return an auto-merger that asks this world's GitHub, and waits for nothing.

        Args:
            repo: Repository the lanes were prepared in.
            **settings: As for :class:`GhIntegrationAutoMerger`; they win.
        """
        return GhIntegrationAutoMerger(repo, **{**self._github_settings, **settings})

    def runner(
        self, repo: Path, graph: str = "nightly", **settings: Any
    ) -> StandardWorkstreamRunner:
        """Return the standard runner on all of them.

        Args:
            repo: Repository to work in.
            graph: Name of the task graph.
            **settings: What all of them take, such as ``remote`` and ``ssh_key``; they win.
        """
        return StandardWorkstreamRunner(
            self.preparer(repo, graph, **settings),
            self.integrator(repo, **settings),
            self.teardown(repo, **settings),
            _merge_checker=self.merge_checker(repo, **settings),
        )

    def check(self) -> None:
        """Raise what went wrong inside the servers since the last check.

        Raises:
            BaseException: The first failure; the others are its notes.
        """
        failures: list[BaseException] = []
        for server in (self.git, self.github):
            try:
                server.check()
            except BaseException as failure:  # noqa: BLE001  # raised below, when both were asked
                failures.append(failure)
        _raise_first(failures)

    @property
    def _running(self) -> _Running:
        if self._now is None:
            raise RuntimeError("enter the World first: with World() as world: ...")
        return self._now

    @property
    def _github_settings(self) -> dict[str, Any]:
        return {
            "token": self.token,
            "api_url": self.github.api_url,
            "full_name": self.full_name,
            # Nothing a test plans is worth waiting for: failures that pass are met by
            # asking again at once, and pauses GitHub asks for are errors.
            "policy": RetryPolicy(first_wait_s=0.0, longest_wait_s=0.0),
        }


def _raise_first(failures: list[BaseException]) -> None:
    """Raise the first of several failures, the others as its notes."""
    if failures:
        first = failures[0]
        for other in failures[1:]:
            first.add_note(f"also: {type(other).__name__}: {other}")
        raise first
