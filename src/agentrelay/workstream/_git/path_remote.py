"""Remotes that are a path: their refs are written here, with compare-and-swap.

libgit2's local transport forces a ref to what is pushed, whatever has happened since it
looked, and deletes a packed ref in a way that can lose others. A git server compares
first, and a path should be no worse. So libgit2 brings the objects only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import pygit2

from agentrelay.workstream._git.exchange import Callbacks, lease_lost
from agentrelay.workstream._git.ref_deletion import delete_refs, packed_contents
from agentrelay.workstream._git.refs import delete_ref, move_ref, refs_below
from agentrelay.workstream._git.repository import (
    OpenRepository,
    is_commit_id,
    open_repository,
    read_ref,
    read_refs,
)
from agentrelay.workstream.errors import (
    LaneConflictError,
    LeaseLostError,
    PushRejectedError,
    RepositoryError,
    WorkstreamError,
)

__all__ = ["PathRemote"]

# Where objects are brought to before the branch is moved; gone when it is.
_INCOMING: Final = "refs/agentrelay/incoming/"


class PathRemote:
    """The repository at the other end of a path or of a ``file://`` address."""

    def __init__(
        self, repository: OpenRepository, *, seen: Mapping[str, str] | None = None
    ) -> None:
        """Take an open bare repository.

        Args:
            repository: It.
            seen: Full ref names by the hex id they were seen at: where to look first. What
                is seen later counts, too.
        """
        self._repository = repository
        self._seen = {} if seen is None else seen

    @classmethod
    def at(cls, url: str, *, seen: Mapping[str, str] | None = None) -> PathRemote | None:
        """Return the remote at an address, or ``None`` if that is libgit2's affair.

        That is every other address, and what cannot be opened or is not bare: libgit2
        refuses it in its own words.
        """
        if url.startswith("file://"):
            url = unquote(urlsplit(url).path)
        if not url.startswith("/"):
            return None
        try:
            repository = open_repository(Path(url))
        except RepositoryError:
            return None
        return cls(repository, seen=seen) if repository.handle.is_bare else None

    def tip(self, ref: str) -> str | None:
        """Return the hex id a ref is at, or ``None``."""
        return read_ref(self._repository.common_dir, ref)

    def tips(self, refs: Sequence[str]) -> dict[str, str] | None:
        """Return where some refs are; those that are not there are left out.

        The other refs are not looked at, however many there are.

        Returns:
            Hex ids by full ref name, or ``None`` when one of them is symbolic or damaged:
            libgit2 must be asked.
        """
        common_dir, handle = self._repository.common_dir, self._repository.handle
        found = read_refs(common_dir, refs, symbolic_too=True)
        for tip in found.values():
            if not is_commit_id(tip) or tip not in handle:
                return None
        return found

    def update_all(
        self,
        source: OpenRepository,
        updates: Mapping[str, tuple[str | None, str | None]],
        *,
        callbacks: Callbacks,
        bring: Callable[[Mapping[str, str]], None],
        refused: Callable[[str, str], PushRejectedError],
    ) -> dict[str, WorkstreamError | None]:
        """Move, create or delete refs that are where the caller saw them.

        Args:
            source: The repository that is pushed from.
            updates: By full ref name the hex id it was seen at, ``None`` when it was
                absent, and the hex id of the new commit, ``None`` to delete.
            callbacks: Holds the leases.
            bring: Pushes commits to refs of the given names.
            refused: Makes the error of a ref's refusal from its reason.

        Returns:
            By full ref name ``None``, or why it was not changed: a :class:`LeaseLostError`
            when it was elsewhere or the commit is no fast-forward, a
            :class:`PushRejectedError` when another ref stands where a directory is needed,
            a :class:`LaneBusyError` when another program kept it locked, a
            :class:`RepositoryError` when it cannot be written.
        """
        answers: dict[str, WorkstreamError | None] = {}

        def examine(ref: str) -> None:
            expected, new = updates[ref]
            callbacks.check_lease(ref, now=self.tip(ref), new=new)
            if new and expected and not source.contains(expected, new):
                raise lease_lost(refused(ref, "it is not a fast-forward"))
            callbacks.announce(ref)

        going = _singly(updates, examine, answers)
        made = {ref: str(updates[ref][1]) for ref in going if updates[ref][1] is not None}
        with self._brought(made, bring):
            written = _singly(
                made,
                lambda ref: self._write(
                    ref, made[ref], updates[ref][0], callbacks=callbacks, refused=refused
                ),
                answers,
            )
        answers.update(dict.fromkeys(written))
        deleted = {ref: str(updates[ref][0]) for ref in going if updates[ref][1] is None}
        for ref, result in delete_refs(self._repository, deleted).items():
            answers[ref] = result if isinstance(result, WorkstreamError) else None
            if isinstance(result, LaneConflictError):
                answers[ref] = self._told(ref, result, callbacks, refused)
            self._sweep(ref)
        return answers

    def _write(
        self,
        ref: str,
        new: str,
        expected: str | None,
        *,
        callbacks: Callbacks,
        refused: Callable[[str, str], PushRejectedError],
    ) -> None:
        """Make a ref point to a commit that is there, if it is where the caller saw it."""
        try:
            if not move_ref(self._repository, ref, new, expected=expected, message="push"):
                callbacks.check_lease(ref, now=self.tip(ref), new=new)
                if self.tip(ref) != new:
                    raise lease_lost(refused(ref, "it moved meanwhile"))
        except LaneConflictError as error:
            callbacks.check_lease(ref, now=self.tip(ref), new=new)
            raise refused(ref, error.message) from error

    def _told(
        self,
        ref: str,
        conflict: LaneConflictError,
        callbacks: Callbacks,
        refused: Callable[[str, str], PushRejectedError],
    ) -> WorkstreamError:
        """Return why a deletion was refused: the lease was lost, or another ref is in the way."""
        try:
            callbacks.check_lease(ref, now=self.tip(ref), new=None)
        except LeaseLostError as lost:
            lost.__cause__ = conflict
            return lost
        told = refused(ref, conflict.message)
        told.__cause__ = conflict
        return told

    @contextlib.contextmanager
    def _brought(
        self, wanted: Mapping[str, str], bring: Callable[[Mapping[str, str]], None]
    ) -> Iterator[None]:
        """Let the remote have some commits; their objects are safe inside the block."""
        missing = {commit: ref for ref, commit in wanted.items() if not self._is_a_tip(commit)}
        # Of its own: several clones may be bringing theirs.
        mark = os.urandom(8).hex()
        incoming = {f"{_INCOMING}{ref}/{mark}": commit for commit, ref in missing.items()}
        try:
            if incoming:
                bring(incoming)
                # What was opened before the objects came may not see them.
                self._repository = open_repository(self._repository.path)
            yield
        finally:
            for ref in incoming:
                self._forget(ref)

    def _sweep(self, ref: str) -> None:
        """Delete what killed processes left on their way to a ref that is deleted.

        One that lives loses nothing: it has its objects there.
        """
        below = f"{_INCOMING}{ref}/"
        common_dir = self._repository.common_dir
        packed = packed_contents(common_dir / "packed-refs")
        if (common_dir / below).is_dir() or below.encode() in packed:
            for left in refs_below(self._repository, below):
                self._forget(left)

    def _is_a_tip(self, commit_id: str) -> bool:
        """Return whether a ref says that the remote has the commit and all below it."""
        handle = self._repository.handle
        if commit_id not in handle:
            return False
        seen = self._seen.get(commit_id)
        if seen is not None and self.tip(seen) == commit_id:
            return True
        return any(
            reference.target == pygit2.Oid(hex=commit_id)
            for reference in handle.references.iterator()
        )

    def _forget(self, incoming: str) -> None:
        """Delete a ref that objects were brought to."""
        tip = self.tip(incoming)
        if tip is not None:
            with contextlib.suppress(LaneConflictError):
                delete_ref(self._repository, incoming, expected=tip)


def _singly(
    refs: Iterable[str],
    action: Callable[[str], None],
    answers: dict[str, WorkstreamError | None],
) -> list[str]:
    """Do something to each ref; what fails answers for that one, the others are returned."""
    done: list[str] = []
    for ref in refs:
        try:
            action(ref)
        except WorkstreamError as error:
            answers[ref] = error
        else:
            done.append(ref)
    return done
