"""Bringing together in a lane what several hands made: its tasks' branches, and its base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Optional, cast

from agentrelay.workstream._changes import CommitInfo
from agentrelay.workstream._conflicts import PathConflict
from agentrelay.workstream._steps import lane_verb

if TYPE_CHECKING:
    from agentrelay.workstream.implementations.workstream_workspace import LaneWorkspace

__all__ = ["BringingVerbs", "MergeMethod", "SyncResult", "TaskBranch", "TaskMerge"]

MergeMethod = Literal["merge", "squash", "rebase"]


@dataclass(frozen=True)
class TaskBranch:
    """One task's branch, and where it stands against the lane, by what is known here.

    Attributes:
        task_id: Id of the task.
        branch: Short name of its branch.
        commit_id: Hex id of the commit the local branch is at; ``None`` where there is none.
        remote_commit: Hex id the remote's branch was last seen at, or ``None``.
        ahead: Number of commits it has and the lane has not; of the local branch, and of the
            remote's where there is no local one.
        behind: Number of commits the lane has and it has not.
        is_merged: Whether all of it is in the lane, by ancestry or by content.
    """

    task_id: str
    branch: str
    commit_id: Optional[str]
    remote_commit: Optional[str]
    ahead: int
    behind: int
    is_merged: bool


@dataclass(frozen=True)
class TaskMerge:
    """What merging a task into its lane came to.

    Attributes:
        task_id: Id of the task.
        method: How it was merged.
        task_commit: Hex id of the commit the task's branch was at.
        previous: Hex id the lane's branch was at before.
        commit_id: Hex id it is at now.
        commits: The commits the lane has got, newest first; none where it had all of it.
        dropped: Hex ids of the task's commits that a rebase left out, because the lane has
            what they change.
        is_certain: Whether git is known to come to the same; as in ``MergePreview``.
    """

    task_id: str
    method: MergeMethod
    task_commit: str
    previous: str
    commit_id: str
    commits: tuple[CommitInfo, ...] = ()
    dropped: tuple[str, ...] = ()
    is_certain: bool = True

    @property
    def already_merged(self) -> bool:
        """Whether the lane had all of it, and nothing was done."""
        return self.previous == self.commit_id


@dataclass(frozen=True)
class SyncResult:
    """What bringing a lane up to date with its base came to.

    Attributes:
        method: How it was done.
        base_commit: Hex id of the base's commit.
        previous: Hex id the lane's branch was at before.
        commit_id: Hex id it is at now.
        commits: The commits the lane has and did not have, newest first: the base's, and those
            that were made.
        dropped: Hex ids of the lane's commits that a rebase left out, because the base has what
            they change.
        kept_ref: Full name of the ref the lane's former commits are kept under, where no reflog
            keeps them.
        conflicts: What is to be resolved in the worktree, where that was asked for.
        is_certain: Whether git is known to come to the same; as in ``MergePreview``.
    """

    method: Literal["merge", "rebase"]
    base_commit: str
    previous: str
    commit_id: str
    commits: tuple[CommitInfo, ...] = ()
    dropped: tuple[str, ...] = ()
    kept_ref: Optional[str] = None
    conflicts: tuple[PathConflict, ...] = ()
    is_certain: bool = True

    @property
    def up_to_date(self) -> bool:
        """Whether the lane had all of its base, and nothing was done."""
        return self.previous == self.commit_id and not self.conflicts


class BringingVerbs:
    """The verbs of a lane's workspace that bring branches together."""

    @lane_verb
    def start_task(self, task_id: str, *, push: bool = False) -> TaskBranch:
        """Create a task's branch off the lane's last commit, here.

        It is ``agentrelay/<graph>/<task>``, and nobody's checkout is on it. A task that was
        started from this lane before is returned as it is; so is a branch of that name that
        goes on from where the lane is, or has nothing that the lane has not.

        Args:
            task_id: Id of the task: no workstream's of the graph, and no other lane's task's.
            push: Whether to create it at the remote too, for those who work elsewhere; only
                forward, if it is there.

        Raises:
            LaneNameError: The id cannot be a branch's, or is the lane's own.
            LaneConflictError: Another lane or branch is in the way, or the remote's branch of
                that name has diverged; ``obstacle`` names it.
            PushRejectedError: The remote refused it. The branch is there, here.
            CredentialsRejectedError: The remote refused the credential, or none was found.
            RemoteUnavailableError: No usable answer in time.
            LaneBusyError: Somebody else held the lane or the branch.
            RepositoryError: Something cannot be read or written.
        """
        from agentrelay.workstream.implementations._task_branches import start

        return start(cast("LaneWorkspace", self), task_id, is_pushed=push)

    @lane_verb
    def merge_task(
        self,
        task_id: str,
        method: MergeMethod = "merge",
        *,
        message: Optional[str] = None,
        author: Optional[str] = None,
        fetch: bool = False,
    ) -> TaskMerge:
        """Merge a task's branch into the lane: in memory first, then branch, index and files.

        The task's branch stays where it is, and so does every other checkout. Where there is a
        conflict, or where the lane's worktree has something that is in no commit, all stays
        as it was. Nothing is pushed. Calling it again is harmless, also after it was stopped
        in the middle.

        Args:
            task_id: Id of the task.
            method: ``"merge"`` makes a merge commit, always; ``"squash"`` one commit on top of
                the lane; ``"rebase"`` puts the task's commits on top of it one by one, with
                their authors and messages, without those the lane has already.
            message: Of the merge or the one commit; names the branch when ``None``. A squash of
                a single commit has that commit's own.
            author: As for ``commit()``; not with ``"rebase"``.
            fetch: Whether to fetch the branch first. The newer of the remote's and the local
                one counts.

        Raises:
            MergeConflictError: There are conflicts; ``preview`` says where.
            LaneConflictError: Changes in no commit are in the way or would be mixed up with
                what comes; or something is in progress in the worktree; or the task's branches
                here and at the remote have diverged; or there is a merge among the commits to
                rebase.
            CredentialsRejectedError: The remote refused the credential, or none was found.
            RemoteUnavailableError: No usable answer in time.
            LaneBusyError: Somebody else held the lane, the index or the branch.
            LaneNameError: The id cannot be a branch's.
            RepositoryError: There is no such branch, the method, message or author cannot be
                used, or something cannot be read or written.

        Source:
            git-merge(1) with ``--no-ff``, ``--squash``; git-rebase(1).
        """
        from agentrelay.workstream.implementations._bringing import merge_task

        return merge_task(
            cast("LaneWorkspace", self),
            task_id,
            method,
            message=message,
            author=author,
            is_fetched=fetch,
        )

    @lane_verb
    def tasks(self) -> tuple[TaskBranch, ...]:
        """Return the graph's tasks that have a branch here or, as last seen, at the remote.

        Those that were started from another lane are left out. The network is not used.

        Raises:
            LaneConflictError: The worktree is not this lane's any more.
            RepositoryError: Something cannot be read.
        """
        from agentrelay.workstream.implementations._task_branches import list_tasks

        return list_tasks(cast("LaneWorkspace", self))

    @lane_verb
    def finish_task(self, task_id: str, *, remote: bool = False) -> tuple[str, ...]:
        """Delete a task's branch, if all of it is in the lane, by ancestry or by content.

        Calling it again is harmless.

        Args:
            task_id: Id of the task.
            remote: Whether to delete the remote's branch too, which is fetched and examined
                first, and deleted only where it was examined.

        Returns:
            Full names of the branches that were deleted, the remote's by its remote-tracking
            ref; none where there was nothing to delete.

        Raises:
            LaneConflictError: Something of it is not in the lane; or it is checked out
                somewhere, was started from another lane, or has moved meanwhile. It is kept.
            LeaseLostError: The remote's branch has moved meanwhile. It is kept.
            PushRejectedError: The remote refused to delete it.
            CredentialsRejectedError: The remote refused the credential, or none was found.
            RemoteUnavailableError: No usable answer in time.
            LaneBusyError: Somebody else held the lane or the branch.
            LaneNameError: The id cannot be a branch's.
            RepositoryError: Something cannot be read or written.
        """
        from agentrelay.workstream.implementations._task_end import finish

        return finish(cast("LaneWorkspace", self), task_id, is_everywhere=remote)

    @lane_verb
    def sync(
        self,
        method: Literal["merge", "rebase"] = "merge",
        *,
        fetch: bool = True,
        message: Optional[str] = None,
        author: Optional[str] = None,
        leave_conflicts: bool = False,
    ) -> SyncResult:
        """Bring the lane up to date with its base: in memory first, then branch and files.

        Where there is a conflict, or where the worktree has something that is in no commit, all
        stays as it was: there is never a half-done rebase in the worktree. Nothing is pushed.
        Calling it again is harmless, also after it was stopped in the middle.

        Args:
            method: ``"merge"`` merges the base into the lane, or moves the lane forward where it
                has nothing of its own. ``"rebase"`` puts the lane's commits on top of the base
                one by one, which is refused once the remote has some of them: a push goes
                forward only.
            fetch: Whether to fetch the base, and the lane's branch, first. The newer of the
                remote's base and the local one counts, and the remote's where they have
                diverged.
            message: Of the merge; names the branches when ``None``.
            author: As for ``commit()``; not with ``"rebase"``.
            leave_conflicts: Whether to leave a merge that has conflicts in progress in the
                worktree, as git does, for ``resolve()`` and ``commit()`` to conclude. Where
                git would have to move files aside, the conflict is raised all the same.

        Raises:
            MergeConflictError: There are conflicts; ``preview`` says where.
            LaneConflictError: Changes in no commit are in the way or would be mixed up with
                what comes; or something is in progress in the worktree; or commits to rebase
                are at the remote already, or a merge.
            CredentialsRejectedError: The remote refused the credential, or none was found.
            RemoteUnavailableError: No usable answer in time.
            LaneBusyError: Somebody else held the lane, the index or the branch.
            RepositoryError: The base is not known, the settings cannot be used, or something
                cannot be read or written.

        Source:
            git-merge(1), git-rebase(1).
        """
        from agentrelay.workstream.implementations._syncing import sync

        return sync(
            cast("LaneWorkspace", self),
            method,
            is_fetched=fetch,
            message=message,
            author=author,
            leaves_conflicts=leave_conflicts,
        )
