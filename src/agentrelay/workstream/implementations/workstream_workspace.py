"""Working in a lane where there is no git: the verbs of its worktree."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Optional, Union

from agentrelay.workstream._changes import AheadBehind, ChangedPath, CommitInfo, LaneDiff
from agentrelay.workstream._durations import (
    check_bytes,
    check_path,
    check_seconds,
    check_text,
)
from agentrelay.workstream._lane import Lane
from agentrelay.workstream._steps import Verb, lane_verb
from agentrelay.workstream.core.runtime import WorkstreamRuntime, graph_of
from agentrelay.workstream.credentials import SigningSource, TokenSource, seal_token
from agentrelay.workstream.implementations._commit_message import Trailers

__all__ = ["LaneStatus", "LaneWorkspace", "open_lane"]

# What GitHub refuses ("About large files on GitHub"): files larger than 100 MiB.
_LARGEST_FILE_BYTES: Final = 100 * 2**20


@dataclass(frozen=True)
class LaneStatus:
    """What a lane's worktree holds that no commit does, and where its branch stands.

    The counts come from what is known here; the network is not used.

    Attributes:
        branch: Short name of the branch the worktree is on; ``None`` for a detached HEAD.
        commit_id: Hex id of the commit it is at.
        staged: Where the index differs from HEAD; a rename is a deletion and an addition.
        unstaged: Where the file differs from the index.
        untracked: Files git neither tracks nor ignores, each by itself.
        conflicted: Paths with unresolved conflicts.
        remote: Against the lane's branch at the remote, as it was last seen; ``None`` where
            it was never seen.
        base: Against the base branch; ``None`` where it is not known here.
        target: Against the merge target branch; likewise.
        operation: ``"merge"``, ``"rebase"``, ``"cherry-pick"``, ``"revert"`` or ``"bisect"``
            while one is in progress, else ``None``.
    """

    branch: Optional[str]
    commit_id: str
    staged: tuple[ChangedPath, ...]
    unstaged: tuple[ChangedPath, ...]
    untracked: tuple[str, ...]
    conflicted: tuple[str, ...]
    remote: Optional[AheadBehind]
    base: Optional[AheadBehind]
    target: Optional[AheadBehind]
    operation: Optional[str]

    @property
    def is_clean(self) -> bool:
        """Whether everything that git does not ignore is in a commit."""
        return not (self.staged or self.unstaged or self.untracked or self.conflicted)


@dataclass(frozen=True)
class LaneWorkspace:
    """One lane's worktree, and what can be done in it; :func:`open_lane` returns it.

    It holds no handle: every verb opens the repository anew, so a workspace may be kept,
    and used from any thread. Verbs that write hold the lane against every other thread
    and process of this library.

    Attributes:
        runtime: The lane's runtime: the one that was given, or as it is on disk.
        remote: Name of the remote the lane is pushed to.
        token: Token for https remotes, or a callable that returns one; when ``None`` the
            usual places are asked.
        ssh_key: Private key for ssh remotes; when ``None`` the agent and the usual files
            are tried.
        lane_timeout_s: Longest wait for another holder of the lane, in seconds.
        network_timeout_s: Longest time one fetch or push may take, in seconds.
        largest_file_bytes: Size up to which a file may be committed, in bytes. 100 MiB is
            what GitHub takes.
    """

    runtime: WorkstreamRuntime
    remote: str = field(default="origin", kw_only=True)
    token: TokenSource = field(default=None, kw_only=True, repr=False)
    ssh_key: Optional[Path] = field(default=None, kw_only=True)
    lane_timeout_s: float = field(default=60.0, kw_only=True)
    network_timeout_s: float = field(default=600.0, kw_only=True)
    largest_file_bytes: int = field(default=_LARGEST_FILE_BYTES, kw_only=True)
    _lane: Lane = field(kw_only=True, repr=False)

    def __post_init__(self) -> None:
        """Check the settings, and seal the token."""
        check_text("remote", self.remote)
        if self.ssh_key is not None:
            check_path("ssh_key", self.ssh_key)
        check_seconds("lane_timeout_s", self.lane_timeout_s)
        check_seconds("network_timeout_s", self.network_timeout_s)
        check_bytes("largest_file_bytes", self.largest_file_bytes)
        object.__setattr__(self, "token", seal_token(self.token))

    @property
    def path(self) -> Path:
        """Absolute path of the worktree."""
        return self._lane.worktree_path

    @property
    def branch(self) -> str:
        """Short name of the lane's branch."""
        return self._lane.branch

    @lane_verb
    def status(self) -> LaneStatus:
        """Return what is in no commit, and how far the branch is from others.

        Nothing is written, and the network is not used. It says what
        ``git status --porcelain=v2 --untracked-files=all --no-renames`` says, with the
        differences named in ``docs/workspace.md``.

        Raises:
            LaneConflictError: The worktree is not there, or not this lane's any more.
            RepositoryError: It cannot be read.
        """
        from agentrelay.workstream.implementations._workspace import look

        return look(self._lane, self.runtime.spec, remote=self.remote)

    @lane_verb
    def commit(
        self,
        message: str,
        paths: Optional[Sequence[Union[str, os.PathLike[str]]]] = None,
        *,
        author: Optional[str] = None,
        trailers: Optional[Trailers] = None,
        signing_key: Optional[SigningSource] = None,
        before: Optional[Callable[[LaneWorkspace], object]] = None,
        after: Optional[Callable[[CommitInfo], object]] = None,
    ) -> CommitInfo:
        """Commit everything, or the named paths, and nothing else.

        Ignore rules, modes, links and line endings are git's. A merge that is in progress
        and has no conflicts left is concluded. Other commits on the branch are never lost:
        where one came first, ours is made on top of it. Stopped anywhere, it can be
        repeated; :class:`NothingToCommitError` may then mean that it had been done.

        Args:
            message: What was changed; white space is cleaned up as git does.
            paths: What to commit, as it is in the worktree: files and folders, relative to
                the worktree's top or absolute, without patterns. Whatever else is staged
                stays staged. Everything that git does not ignore when ``None``.
            author: ``"Name <address>"``. When ``None``, ``GIT_AUTHOR_NAME`` and
                ``GIT_AUTHOR_EMAIL``, then the configuration (``author.name``,
                ``user.name``), then the lane itself at an address that cannot exist.
                The committer is found the same way, and is the author where nothing else
                says who it is.
            trailers: Key and value of each trailer, added as git-interpret-trailers(1)
                adds them.
            signing_key: SSH private key the commit is signed with, as git does with
                ``gpg.format=ssh``: a file, a :class:`SigningKey`, or ``"configured"`` for
                what ``user.signingKey`` names. It is not signed when ``None``, whatever
                ``commit.gpgSign`` says.
            before: Called with this workspace before anything is looked at; it may change
                files. What it raises ends the matter, and nothing was committed. It must not
                commit itself.
            after: Called with the commit. What it raises is raised; the commit stands.

        Returns:
            The commit.

        Raises:
            NothingToCommitError: There is no change.
            CommitRefusedError: Some paths are ignored, conflicted, too large, repositories
                of their own, no files, or need a program such as Git LFS; ``paths`` names them.
            LaneConflictError: The worktree is not on the lane's branch, or a rebase or the
                like is in progress.
            LaneBusyError: Somebody else held the lane, the index or the branch.
            RepositoryError: The message, author, trailers, paths or key cannot be used, or
                something cannot be read or written.

        Source:
            git-commit(1), with ``--only`` where paths are named.
        """
        from agentrelay.workstream.implementations._workspace import record

        return record(
            self,
            message,
            paths=paths,
            author=author,
            trailers=trailers,
            signing_key=signing_key,
            before=before,
            after=after,
        )

    @lane_verb
    def resolve(self, paths: Sequence[Union[str, os.PathLike[str]]]) -> tuple[str, ...]:
        """Mark conflicts as resolved: what the worktree has is what was wanted.

        Args:
            paths: Conflicted files, or folders that hold some; as for :meth:`commit`.

        Returns:
            The paths that are not conflicted any more.

        Raises:
            CommitRefusedError: There is a pipe or the like where a file ought to be.
            LaneConflictError: The worktree is not this lane's any more.
            LaneBusyError: Somebody else held the lane or the index.
            RepositoryError: A path is outside, or something cannot be read or written.
        """
        from agentrelay.workstream.implementations._workspace import settle

        return settle(self, paths)

    @lane_verb
    def push(self) -> str:
        """Push the lane's commits; forward only, and only from where the branch was seen.

        What counts as seen is the remote-tracking branch: a push that finds others' commits
        there is refused, and changes nothing. Calling it again is harmless.

        Returns:
            Hex id the remote's branch is at now.

        Raises:
            LeaseLostError: The remote's branch is not where it was last seen.
            PushRejectedError: The lane lacks commits of the remote's, or the remote refused;
                ``reason`` is in its words.
            CredentialsRejectedError: The remote refused the credential, or none was found.
            RemoteUnavailableError: No usable answer in time.
            LaneConflictError: The worktree is not this lane's any more.
            LaneBusyError: Somebody else held the lane.
            RepositoryError: The remote is not configured, or something cannot be read.
        """
        from agentrelay.workstream.implementations._workspace_exchange import send

        return send(self)

    @lane_verb
    def pull(self) -> tuple[CommitInfo, ...]:
        """Fetch what others pushed to the lane, and follow them forward, files and all.

        Nothing is merged and nothing is overwritten. Calling it again is harmless, also
        after it was stopped in the middle.

        Returns:
            The commits that came, newest first; none when there were none.

        Raises:
            LaneConflictError: The lane has commits the remote lacks and the reverse, or
                changes in no commit that are in the way or would be mixed up with what
                comes, or the remote has no such branch. All is as it was.
            CredentialsRejectedError: The remote refused the credential, or none was found.
            RemoteUnavailableError: No usable answer in time.
            LaneBusyError: Somebody else held the lane or the index.
            RepositoryError: The remote is not configured, or something cannot be written.
        """
        from agentrelay.workstream.implementations._workspace_exchange import fetch_and_follow

        return fetch_and_follow(self)

    @lane_verb
    def diff(self, against: Literal["base", "target", "remote", "head"] = "base") -> LaneDiff:
        """Return what the lane changed, as a pull request would show it.

        The network is not used: branches are where they were last seen.

        Args:
            against: ``"base"`` or ``"target"`` compares the lane's last commit with the one
                it shares with that branch, ``"remote"`` with what was pushed; ``"head"``
                compares the worktree with the last commit, untracked files included.

        Raises:
            LaneConflictError: The worktree is not this lane's any more.
            RepositoryError: That branch is not known here, or shares no history.
        """
        from agentrelay.workstream.implementations._workspace_views import show_changes

        return show_changes(self, against)

    @lane_verb
    def log(
        self,
        against: Literal["base", "target", "remote"] = "base",
        *,
        most: Optional[int] = None,
    ) -> tuple[CommitInfo, ...]:
        """Return the lane's commits that another branch has not, newest first.

        Args:
            against: Whose commits are left out; as for :meth:`diff`.
            most: How many to return at most; all when ``None``.

        Raises:
            LaneConflictError: The worktree is not this lane's any more.
            RepositoryError: That branch is not known here.
        """
        from agentrelay.workstream.implementations._workspace_views import list_commits

        return list_commits(self, against, most)


def open_lane(
    lane: Union[WorkstreamRuntime, str, os.PathLike[str]],
    *,
    remote: Optional[str] = None,
    token: TokenSource = None,
    ssh_key: Optional[Path] = None,
    lane_timeout_s: float = 60.0,
    network_timeout_s: float = 600.0,
    largest_file_bytes: int = _LARGEST_FILE_BYTES,
) -> LaneWorkspace:
    """Return the workspace of a prepared lane.

    Args:
        lane: The lane's runtime, or any path inside its worktree.
        remote: Name of the remote; the one it was prepared with when ``None``.
        token: Token for https remotes, or a callable that returns one.
        ssh_key: Private key for ssh remotes.
        lane_timeout_s: Longest wait for another holder of the lane, in seconds.
        network_timeout_s: Longest time one fetch or push may take, in seconds.
        largest_file_bytes: Size up to which a file may be committed, in bytes.

    Raises:
        LaneConflictError: The runtime was never prepared, or names what is not its lane's;
            or there is no lane's worktree at the path.
        LaneNameError: A name breaks a rule.
        RepositoryError: There is no repository, or a setting is of another kind.
        WorkstreamError: The lane's record cannot be read.
    """
    from agentrelay.workstream.implementations._workspace import find_lane

    with Verb("open_lane") as verb:
        if isinstance(lane, WorkstreamRuntime):
            verb.graph, verb.workstream_id = graph_of(lane), lane.spec.id
        runtime, names, recorded_remote = find_lane(lane)
        verb.graph, verb.workstream_id = names.graph, names.workstream_id
        return LaneWorkspace(
            runtime,
            remote=remote or recorded_remote,
            token=token,
            ssh_key=ssh_key,
            lane_timeout_s=lane_timeout_s,
            network_timeout_s=network_timeout_s,
            largest_file_bytes=largest_file_bytes,
            _lane=names,
        )
