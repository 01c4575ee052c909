"""What the GitHub double knows: repositories, pull requests, and how states follow refs.

Nothing about a branch is stored. While a pull request is open its commits are read
from the repository's refs each time; closing it freezes them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pygit2

from agentrelay.workstream.testing._github_refusals import RefusedError
from agentrelay.workstream.testing._github_settings import RepositorySettings

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from datetime import datetime

__all__ = [
    "AutoMerge",
    "HostedRepository",
    "Milestone",
    "Pull",
    "Review",
    "Rules",
    "Store",
    "branch_tip",
    "contains",
    "existing",
]


@dataclass(frozen=True)
class Milestone:
    """One open milestone."""

    number: int
    title: str
    created_at: datetime


@dataclass(frozen=True)
class Review:
    """One review somebody gave."""

    number: int
    author: str
    commit_sha: str


@dataclass(frozen=True)
class AutoMerge:
    """What GitHub was asked to do when a pull request may be merged."""

    method: Literal["merge", "squash", "rebase"]
    title: str | None
    message: str | None


@dataclass
class Rules:
    """What the repository demands of a merge into any of its branches.

    Attributes:
        checks: Names of the checks that must have passed.
        reviews: How many approving reviews there must be.
        methods: Ways to merge that are allowed.
        is_strict: Whether a head must have all of its base.
        has_queue: Whether merges go through the merge queue.
        has_auto_merge: Whether GitHub may be asked to merge later.
    """

    checks: frozenset[str] = frozenset()
    reviews: int = 0
    methods: frozenset[str] = frozenset({"merge", "squash", "rebase"})
    is_strict: bool = False
    has_queue: bool = False
    has_auto_merge: bool = False


@dataclass
class Pull:
    """One pull request.

    Attributes:
        number: Its number within the repository.
        head_sha: Commit of its head; kept up to date while it is open.
        base_sha: Commit of its base; kept up to date while it is open.
        fork: Repository that holds the head, ``None`` for the one that holds the base.
        teams: Slugs of teams whose review is requested.
        milestone: Number of its milestone.
        probed: Head and base for which GitHub has been asked whether they merge.
        automatic: How GitHub is to merge it when it may.
        is_queued: Whether it is in the merge queue.
    """

    number: int
    title: str
    body: str | None
    head: str
    base: str
    head_sha: str
    base_sha: str
    created_at: datetime
    updated_at: datetime
    author: str
    fork: HostedRepository | None = None
    draft: bool = False
    maintainer_can_modify: bool = False
    state: Literal["open", "closed"] = "open"
    closed_at: datetime | None = None
    merged_at: datetime | None = None
    merge_commit_sha: str | None = None
    labels: list[str] = field(default_factory=list)
    reviewers: list[str] = field(default_factory=list)
    teams: list[str] = field(default_factory=list)
    assignees: list[str] = field(default_factory=list)
    milestone: int | None = None
    reviews: list[Review] = field(default_factory=list)
    probed: tuple[str, str] | None = None
    automatic: AutoMerge | None = None
    is_queued: bool = False

    @property
    def merged(self) -> bool:
        """Whether its commits are in the base."""
        return self.merged_at is not None

    def close(self, now: datetime) -> None:
        """Close it without merging; its commits stay as they were last seen."""
        self.state = "closed"
        self.automatic, self.is_queued = None, False
        self.closed_at = self.updated_at = now

    def become_merged(self, commit_sha: str, now: datetime) -> None:
        """Close it as merged by ``commit_sha``."""
        self.close(now)
        self.merged_at = now
        self.merge_commit_sha = commit_sha


@dataclass
class HostedRepository:
    """One repository: where it is, what it is called now, and its pull requests.

    Attributes:
        parent: What it is a fork of.
        collaborators: Logins that may be asked for a review or be assigned.
        teams: Slugs of teams that may be asked for a review.
        knows_drafts: Whether its plan has draft pull requests.
        rules: What it demands of a merge.
        checks: Which checks passed and which failed, by commit.
    """

    repository_id: int
    full_name: str
    path: Path
    default_branch: str
    created_at: datetime
    next_number: int
    pulls: dict[int, Pull] = field(default_factory=dict)
    settings: RepositorySettings = field(default_factory=RepositorySettings)
    parent: HostedRepository | None = None
    collaborators: set[str] = field(default_factory=set)
    teams: set[str] = field(default_factory=set)
    milestones: dict[int, Milestone] = field(default_factory=dict)
    knows_drafts: bool = True
    rules: Rules = field(default_factory=Rules)
    checks: dict[str, dict[str, bool]] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """The part before the slash."""
        return self.full_name.partition("/")[0]

    @property
    def name(self) -> str:
        """The part after the slash."""
        return self.full_name.partition("/")[2]

    def open_git(self) -> pygit2.Repository:
        """Open the repository anew: libgit2's handles do not cross threads."""
        return pygit2.Repository(str(self.path))

    def pull(self, number: int) -> Pull:
        """Return a pull request, or refuse as GitHub does."""
        try:
            return self.pulls[number]
        except KeyError:
            raise RefusedError.not_found() from None

    def head_tip(
        self, git: pygit2.Repository, branch: str, fork: HostedRepository | None
    ) -> str | None:
        """Return the commit a head is at, and see to it that its objects are here.

        Args:
            git: This repository, opened.
            branch: The head's branch.
            fork: Repository that holds it, ``None`` for this one.
        """
        if fork is None:
            return branch_tip(git, branch)
        sha = branch_tip(fork.open_git(), branch)
        if sha is not None and git.get(sha) is None:
            # GitHub keeps the heads of pull requests below refs/pull as well.
            spec = f"+refs/heads/{branch}:refs/pull/of-{fork.repository_id}/{branch}"
            git.remotes.create_anonymous(str(fork.path)).fetch([spec])
        return sha

    def refresh(self, git: pygit2.Repository, now: datetime) -> None:
        """Let every open pull request follow its refs."""
        for pull in self.pulls.values():
            if pull.state == "open":
                self._leave_merged_base(git, pull, now)
                _follow(git, pull, self.head_tip(git, pull.head, pull.fork), now)

    def _leave_merged_base(self, git: pygit2.Repository, pull: Pull, now: datetime) -> None:
        """Move a pull request whose base was merged and deleted to where that was merged.

        Source:
            "Working with branches", docs.github.com: only of the same repository, and
            only where the branch was the head of a merged pull request. One that cannot
            be there, because its twin is, is closed.
        """
        for merged in sorted(self.pulls.values(), key=lambda one: -one.number):
            if (merged.head, merged.fork, merged.merged) != (pull.base, None, True):
                continue
            base = branch_tip(git, merged.base)
            if branch_tip(git, pull.base) is not None or base is None:
                return
            if any(
                (other.state, other.head, other.base, other.fork)
                == ("open", pull.head, merged.base, pull.fork)
                for other in self.pulls.values()
            ):
                return
            pull.base, pull.base_sha, pull.updated_at = merged.base, base, now
            return


class Store:
    """All repositories of one double; hold :attr:`lock` while using it."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        """Start empty; ``now`` tells the time of every change."""
        self.lock = threading.RLock()
        self.now = now
        self._repositories: dict[int, HostedRepository] = {}
        self._moved: dict[str, int] = {}

    def add(
        self, full_name: str, path: Path, *, default_branch: str, first_number: int
    ) -> HostedRepository:
        """Host the bare repository at ``path`` as ``full_name``."""
        if self.find(full_name) is not None:
            raise ValueError(f"{full_name} is hosted already")
        # Ids of four digits: in a failure they cannot be taken for a number of a pull request.
        repository_id = 1000 + len(self._repositories)
        repository = HostedRepository(
            repository_id, full_name, path, default_branch, self.now(), first_number
        )
        self._repositories[repository_id] = repository
        self._moved.pop(full_name.lower(), None)
        return repository

    def rename(self, old: str, new: str) -> None:
        """Call a repository something else; its old name redirects from now on."""
        repository = self.find(old)
        if repository is None:
            raise ValueError(f"{old} is not hosted here")
        self._moved[repository.full_name.lower()] = repository.repository_id
        self._moved.pop(new.lower(), None)
        repository.full_name = new

    def find(self, full_name: str) -> HostedRepository | None:
        """Return the repository of that name, whatever its case."""
        wanted = full_name.lower()
        for repository in self._repositories.values():
            if repository.full_name.lower() == wanted:
                return repository
        return None

    def find_fork(self, base: HostedRepository, full_name: str) -> HostedRepository | None:
        """Return the repository of that name, if it is of the same network as ``base``."""
        found = self.find(full_name)
        return found if found is not None and _root(found) is _root(base) else None

    def forks_of_owner(self, base: HostedRepository, owner: str) -> list[HostedRepository]:
        """Return an owner's repositories in the network of ``base``."""
        return [
            repository
            for repository in self._repositories.values()
            if repository.owner.lower() == owner.lower() and _root(repository) is _root(base)
        ]

    def all(self) -> list[HostedRepository]:
        """Return every repository."""
        return list(self._repositories.values())

    def find_id(self, repository_id: int) -> HostedRepository | None:
        """Return the repository with that id."""
        return self._repositories.get(repository_id)

    def moved_to(self, full_name: str) -> int | None:
        """Return the id of the repository that once had that name."""
        return self._moved.get(full_name.lower())


def _root(repository: HostedRepository) -> HostedRepository:
    """Return the repository that all of its network are forks of."""
    while repository.parent is not None:
        repository = repository.parent
    return repository


def branch_tip(git: pygit2.Repository, branch: str) -> str | None:
    """Return the commit a branch points at, or ``None`` where there is no such branch."""
    reference = git.references.get(f"refs/heads/{branch}")
    return None if reference is None else str(reference.resolve().target)


def contains(git: pygit2.Repository, tip_sha: str, commit_sha: str) -> bool:
    """Tell whether ``commit_sha`` is ``tip_sha`` or one of its ancestors."""
    return tip_sha == commit_sha or git.descendant_of(tip_sha, commit_sha)


def _follow(git: pygit2.Repository, pull: Pull, head: str | None, now: datetime) -> None:
    """Let one open pull request follow its refs, as GitHub does after a push."""
    base = branch_tip(git, pull.base)
    if head is None and base is not None and contains(git, base, pull.head_sha):
        # Merged by a push, and the branch deleted, before anybody looked.
        pull.become_merged(base, now)
        return
    if head is None or base is None:
        pull.close(now)
        return
    if contains(git, base, head):
        # The base received the head's commits; or the head was forced back onto the
        # base, which leaves nothing to merge and closes the pull request unmerged.
        if contains(git, base, pull.head_sha):
            pull.head_sha = head
            pull.become_merged(base, now)
        else:
            pull.close(now)
        return
    if (head, base) != (pull.head_sha, pull.base_sha):
        if head != pull.head_sha:
            pull.updated_at = now
        pull.head_sha, pull.base_sha = head, base


def existing(path: os.PathLike[str] | str) -> Path:
    """Return an absolute path; refuse one without a repository where it was named."""
    absolute = Path(path).absolute()
    if not (absolute / "objects").is_dir() and not (absolute / ".git").exists():
        raise ValueError(f"there is no repository at {absolute}")
    return absolute
