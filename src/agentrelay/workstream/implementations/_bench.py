"""Where commits are made in memory before a lane moves to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

from agentrelay.workstream._changes import CommitInfo
from agentrelay.workstream._conflicts import MergePreview
from agentrelay.workstream._git.comparing import commits_between
from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.fast_forward import fast_forward, refuse_in_the_way
from agentrelay.workstream._git.history import with_history
from agentrelay.workstream._git.identity import Person
from agentrelay.workstream._git.merging import InMemoryMerges, Merged
from agentrelay.workstream._git.new_commits import new_commit, person_line, tree_id_of
from agentrelay.workstream._git.rebasing import Replayed, merge_among, replay
from agentrelay.workstream._git.repository import OpenRepository, open_repository
from agentrelay.workstream._git.scratch import Scratch
from agentrelay.workstream._lane import Lane
from agentrelay.workstream._steps import Step, say
from agentrelay.workstream.errors import (
    LaneConflictError,
    MergeConflictError,
    RepositoryError,
    WorkstreamError,
)
from agentrelay.workstream.implementations._commit_message import compose_message
from agentrelay.workstream.implementations._previewed import Side
from agentrelay.workstream.implementations._workspace import named_author, signers, tip_of

if TYPE_CHECKING:
    from agentrelay.workstream.implementations.workstream_workspace import LaneWorkspace

__all__ = ["Bench", "Words", "checked_words"]

_MOST_SHOWN: Final = 5


def _listed(paths: tuple[str, ...]) -> str:
    """Return paths as a message names them."""
    shown = ", ".join(f"'{path}'" for path in paths[:_MOST_SHOWN])
    return shown if len(paths) <= _MOST_SHOWN else f"{shown} and {len(paths) - _MOST_SHOWN} more"


class Words:
    """What a caller says about the commit that is to be made, checked.

    Attributes:
        text: The whole message, or ``None``.
        author: Who writes it, or ``None``.
    """

    def __init__(self, message: str | None, author: str | None) -> None:
        """Check both."""
        self.text = None if message is None else compose_message(message)
        self.author: Person | None = named_author(author)


def checked_words(
    method: str, known: tuple[str, ...], message: str | None, author: str | None
) -> Words:
    """Return what is said about a commit, if the method can use it.

    Raises:
        RepositoryError: It cannot, or there is no such method.
    """
    if method not in known:
        raise RepositoryError(
            f"{ascii(method)[:60]} is no method to merge by",
            hint=f"Say one of {', '.join(map(repr, known))}.",
        )
    if method == "rebase" and (message is not None or author is not None):
        raise RepositoryError(
            "a rebase keeps the message and the author of each commit",
            hint="Leave message= and author= out, or merge or squash.",
        )
    return Words(message, author)


class Bench:
    """One lane, held, and commits for it that exist in memory only.

    Attributes:
        lane: The lane.
        repository: Opened at its worktree.
        history: A handle that knows where the history ends.
        view: Opened at the worktree; sees what is made here.
        scratch: What is made here.
        merges: Makes it.
        tip: Hex id of the commit the lane's branch is at.
    """

    def __init__(self, workspace: LaneWorkspace, repository: OpenRepository, lane: Lane) -> None:
        """Begin with nothing."""
        self.lane = lane
        self.repository = repository
        self.history = with_history(repository)
        self.scratch = Scratch()
        self.view = open_repository(workspace.path)
        self.scratch.attach(self.view)
        # In the worktree, whose attributes count; it does not know where a shallow history ends.
        is_shallow = self.history.handle.is_shallow
        place = with_history(repository) if is_shallow else open_repository(workspace.path)
        self.merges = InMemoryMerges(place, self.scratch)
        self.tip = tip_of(repository, lane)

    def merge(self, source: Side) -> Merged:
        """Merge something into the lane, in memory.

        Raises:
            MergeConflictError: It is in conflict.
        """
        with Step("merge in memory"):
            merged = self.merges.merge(source.commit_id, self.tip)
        if merged.tree_id is None:
            self.refuse_conflict(
                merged, source, self._target, f"merge '{source.name}' into '{self.lane.branch}'"
            )
        return merged

    @property
    def _target(self) -> Side:
        return Side(self.lane.branch_ref, self.tip)

    def refuse_conflict(self, merged: Merged, source: Side, target: Side, doing: str) -> NoReturn:
        """Raise what is in conflict.

        Raises:
            MergeConflictError: Always.
        """
        preview = MergePreview(
            source.name,
            target.name,
            source.commit_id,
            target.commit_id,
            is_merged=merged.is_merged,
            is_related=merged.is_related,
            conflicts=merged.conflicts,
            is_certain=merged.is_certain,
        )
        if not merged.is_related:
            why = "they have no history in common"
        else:
            why = f"there are conflicts in {_listed(preview.paths)}"
        raise MergeConflictError(
            f"cannot {doing}: {why}",
            repository=str(self.repository.path),
            preview=preview,
            hint="Nothing was changed. Change one of the two so that both go together, or have "
            "the conflict resolved by hand.",
        )

    def commit(self, words: Words, default: str, tree_id: str | None, *parents: str) -> str:
        """Make a commit in memory.

        Args:
            words: What is said about it.
            default: Its message if nothing is.
            tree_id: Hex id of its tree.
            parents: Hex ids of its parents.
        """
        assert tree_id is not None
        writer, committer = signers(self.repository, self.lane, words.author)
        return new_commit(
            self.view, tree_id, parents, words.text or default, author=writer, committer=committer
        )

    def replay(self, source: str, onto: Side, doing: str) -> Replayed:
        """Put commits on top of another one, in memory.

        Args:
            source: Hex id of the last of them.
            onto: What they come on top of.
            doing: Words for a refusal: ``"rebase 'x' onto 'y'"``.

        Raises:
            LaneConflictError: There is a merge among them.
            MergeConflictError: One is in conflict.
        """
        odd = merge_among(self.history, onto.commit_id, source)
        if odd is not None:
            raise LaneConflictError(
                f"cannot {doing}: {odd[:12]} is a merge, or has no parent",
                obstacle=odd,
                hint="What was decided in a merge would be lost. Use the method 'merge' or, for "
                "a task, 'squash'.",
            )
        _, committer = signers(self.repository, self.lane, None)
        with Step("rebase in memory"):
            done = replay(
                self.view,
                self.merges,
                self.history,
                onto=onto.commit_id,
                tip=source,
                committer=person_line(committer),
            )
        if done.stopped_at is not None and done.merged is not None:
            stopped = Side(done.stopped_at, done.stopped_at)
            self.refuse_conflict(done.merged, stopped, onto, f"{doing}, at {stopped.name[:12]}")
        return done

    def land(
        self, target: str, *, message: str, before: Callable[[], object] | None = None
    ) -> tuple[CommitInfo, ...]:
        """Move the lane to a commit that was made here: branch, index and files.

        Args:
            target: Hex id of the commit.
            message: What to write into the reflogs.
            before: Called when nothing is in the way, before anything is moved.

        Returns:
            The commits it has got, newest first.

        Raises:
            LaneConflictError: Something that is in no commit is in the way; all is as it was.
            LaneBusyError: Somebody else kept the index or the branch locked.
        """
        if target == self.tip:
            return ()
        refuse_in_the_way(self.view, tip=self.tip, target=target)
        with self.failures("write what was merged"):
            self.scratch.store(self.repository, target)
        if before is not None:
            before()
        say(target)
        with Step("follow"):
            fast_forward(
                self.repository, self.lane.branch_ref, tip=self.tip, target=target, message=message
            )
        with self.failures("list what was merged"):
            return commits_between(with_history(self.repository), self.tip, target)

    def tree_of(self, commit_id: str) -> str:
        """Return the hex id of a commit's tree."""
        return tree_id_of(self.view, commit_id)

    def between(self, since: str, tip: str) -> list[CommitInfo]:
        """Return the commits one history has and another has not, the oldest first."""
        with self.failures("list commits"):
            return [*reversed(commits_between(self.history, since, tip))]

    @contextmanager
    def failures(self, what: str) -> Iterator[None]:
        """Translate libgit2's failures."""
        path = self.repository.path
        with repository_failures(what, path=path):
            try:
                yield
            except WorkstreamError:
                raise
            except (KeyError, ValueError) as error:
                message = f"cannot {what} in '{path}': an object of it is missing"
                raise RepositoryError(
                    message, path=path, hint="Fetch the whole history, or look with 'git fsck'."
                ) from error
