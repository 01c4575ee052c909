"""Filling a new repository from a remote, in a directory nobody else knows yet."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pygit2
from pygit2.enums import CheckoutStrategy

from agentrelay.workstream._git import libgit2
from agentrelay.workstream._git.checkout import Place, write_files
from agentrelay.workstream._git.exchange import Callbacks, RemoteAccess
from agentrelay.workstream._git.failures import (
    is_transient,
    remote_failures,
    repository_failures,
)
from agentrelay.workstream._git.locks import until_free
from agentrelay.workstream._git.remote_address import absolute, find_proxy
from agentrelay.workstream._git.remotes import open_remote
from agentrelay.workstream._git.repository import OpenRepository, open_repository
from agentrelay.workstream._steps import Step
from agentrelay.workstream.errors import RepositoryError

__all__ = ["Progress", "fill_clone", "is_path", "remote_url_of"]

# Objects received, objects in all, bytes received.
Progress = Callable[[int, int, int], None]
# GIT_DIRECTION_FETCH, include/git2/net.h.
_FETCH: Final = 0


def is_path(url: str) -> bool:
    """Return whether an address is a path of this machine.

    Source:
        git-clone(1), "GIT URLS": a colon before the first slash makes it ssh.
    """
    return url.startswith("file://") or ("://" not in url and ":" not in url.partition("/")[0])


def remote_url_of(path: Path, remote: str) -> str | None:
    """Return the address a repository's remote was configured with, or ``None``.

    Raises:
        RepositoryError: There is no repository at exactly that path.
    """
    config = open_repository(path).handle.config
    key = f"remote.{remote}.url"
    with repository_failures(f"read the remote '{remote}'", path=path):
        return str(config[key]) if key in config else None


@dataclass
class _Heads:
    """What a remote has: ids by full ref name, and the branch its HEAD is on."""

    ids: dict[str, str]
    head_ref: str | None


class _Watching(Callbacks):
    """Callbacks that also tell the caller how far a transfer is."""

    def __init__(
        self, url: str, access: RemoteAccess, *, ends_at: float, told: Progress, step: Step
    ) -> None:
        super().__init__(url, access, ends_at=ends_at, step=step)
        self._told = told
        self.stopped: BaseException | None = None

    def transfer_progress(self, stats: Any) -> None:
        """Look at the deadline, then tell; what the caller raises stops the transfer."""
        super().transfer_progress(stats)
        try:
            self._told(stats.received_objects, stats.total_objects, stats.received_bytes)
        except BaseException as error:
            self.stopped = error
            raise


def fill_clone(
    path: Path,
    url: str,
    access: RemoteAccess,
    *,
    branch: str | None,
    depth: int | None,
    progress: Progress,
) -> None:
    """Make a clone in an absent directory; what fails leaves a half one there.

    All branches and tags are fetched; of a shallow clone, one branch and no tags.

    Args:
        path: Directory to make, in which nobody else looks.
        url: Address, as it is written into the configuration: without any secret.
        access: How to reach it; its ``remote`` is what the remote is called.
        branch: Short name of the branch to check out; the remote's own when ``None``.
        depth: Number of generations to fetch; all when ``None``.
        progress: Told how far the transfer is.

    Raises:
        RepositoryError: The remote has no such branch, or something cannot be written.
        RemoteError: As for any fetch.
    """
    with repository_failures("make a repository", path=path):
        handle = pygit2.init_repository(str(path))
        try:
            handle.remotes.create(access.remote, url)
        except ValueError as error:
            message = f"{ascii(access.remote)[:60]} cannot name a remote"
            raise RepositoryError(message, hint="Call it 'origin'.") from error
    repository = open_repository(path)
    # Refuses what leads astray.
    open_remote(repository, access)
    exchange = _Exchange(repository, url, access, progress)
    if depth is None:
        heads = exchange.fetch(
            [f"+refs/heads/*:refs/remotes/{access.remote}/*", "+refs/tags/*:refs/tags/*"]
        )
        head_ref = _chosen(heads, branch, url)
    else:
        heads = exchange.list_heads()
        head_ref = _chosen(heads, branch, url)
        if head_ref is not None:
            tracking = head_ref.replace("refs/heads/", f"refs/remotes/{access.remote}/", 1)
            spec = f"+{head_ref}:{tracking}"
            key = f"remote.{access.remote}.fetch"
            with repository_failures("configure the remote", path=path):
                repository.handle.config[key] = spec
            exchange.fetch([spec], depth=depth)
    hint = (
        "If it names a path, the tree holds something a checkout must not write; "
        "otherwise look at the disk. Nothing of the clone was kept."
    )
    with Step("checkout"), repository_failures("check out the files", path=path, hint=hint):
        _set_up(repository.handle, heads, head_ref, access.remote)
        # Empty, and made by libgit2 whatever it is told.
        (repository.common_dir / "FETCH_HEAD").unlink(missing_ok=True)


@dataclass(frozen=True)
class _Exchange:
    """The connections of one clone, within one deadline."""

    repository: OpenRepository
    url: str
    access: RemoteAccess
    progress: Progress

    def fetch(self, specs: list[str], *, depth: int = 0) -> _Heads:
        """Fetch, and return what the remote has."""

        def attempt(remote: pygit2.Remote, callbacks: _Watching, proxy: str | None) -> None:
            remote.fetch(specs, callbacks=callbacks, proxy=proxy, depth=depth)

        return self._do("clone", attempt, Step("fetch"))

    def list_heads(self) -> _Heads:
        """Return what the remote has."""

        def attempt(remote: pygit2.Remote, callbacks: _Watching, proxy: str | None) -> None:
            remote.connect(callbacks, _FETCH, proxy)

        return self._do("list the refs", attempt, Step("list refs"))

    def _do(
        self,
        operation: str,
        exchange: Callable[[pygit2.Remote, _Watching, str | None], None],
        step: Step,
    ) -> _Heads:
        def attempt() -> _Heads:
            remote = self.repository.handle.remotes.create_anonymous(
                absolute(self.url, self.repository)
            )
            led = remote.url or self.url
            callbacks = _Watching(led, self.access, ends_at=ends_at, told=self.progress, step=step)
            try:
                proxy = find_proxy(self.repository, self.access.remote, led)
                with libgit2.patience(callbacks.left_s):
                    exchange(remote, callbacks, proxy)
                listed = remote.list_heads(connect=False)
            except Exception:
                if callbacks.stopped is not None:
                    raise callbacks.stopped from None
                with remote_failures(operation, url=led, source=callbacks.source):
                    raise
            head = next((found for found in listed if found.name == "HEAD"), None)
            return _Heads(
                {str(found.name): str(found.oid) for found in listed},
                None if head is None else head.symref_target or _like(head, listed),
            )

        ends_at = time.monotonic() + self.access.deadline_s
        libgit2.configure_network()
        with step:
            return until_free(attempt, busy=is_transient, what=operation)


def _like(head: Any, listed: list[Any]) -> str | None:
    """Return a branch that is where HEAD is, for a server that does not say which it is on."""
    same = sorted(str(found.name) for found in listed if found.oid == head.oid)
    usual = [name for name in ("refs/heads/main", "refs/heads/master") if name in same]
    return next((name for name in (*usual, *same) if name.startswith("refs/heads/")), None)


def _chosen(heads: _Heads, branch: str | None, url: str) -> str | None:
    """Return the branch to check out; ``None`` for a remote without any."""
    ref = heads.head_ref if branch is None else f"refs/heads/{branch}"
    if ref in heads.ids:
        return ref
    if branch is not None:
        raise RepositoryError(
            f"'{url}' has no branch '{branch}'", hint="Name one it has, or none for its own."
        )
    return None


def _set_up(handle: pygit2.Repository, heads: _Heads, head_ref: str | None, remote: str) -> None:
    """Make the branch, let it follow the remote's, and write its files."""
    if heads.head_ref in heads.ids:
        own = heads.head_ref.removeprefix("refs/heads/")
        if f"refs/remotes/{remote}/{own}" in handle.references:
            handle.references.create(f"refs/remotes/{remote}/HEAD", f"refs/remotes/{remote}/{own}")
    if head_ref is not None:
        _set_up_branch(handle, heads.ids[head_ref], head_ref, remote)
    elif "HEAD" in heads.ids and heads.ids["HEAD"] in handle:
        # On no branch there, so on none here.
        handle.set_head(pygit2.Oid(hex=heads.ids["HEAD"]))
    else:
        return
    tree_id = handle.head.peel(pygit2.Commit).tree_id
    if write_files(handle, Place(Path(handle.workdir), Path(handle.path), tree_id)):
        return
    strategy = CheckoutStrategy.FORCE | CheckoutStrategy.RECREATE_MISSING
    handle.checkout_head(strategy=strategy)  # type: ignore[no-untyped-call]  # pygit2 has no types there


def _set_up_branch(handle: pygit2.Repository, tip: str, head_ref: str, remote: str) -> None:
    """Make the branch and let it follow the remote's."""
    branch = head_ref.removeprefix("refs/heads/")
    handle.references.create(head_ref, tip)
    handle.set_head(head_ref)
    handle.config[f"branch.{branch}.remote"] = remote
    handle.config[f"branch.{branch}.merge"] = head_ref
