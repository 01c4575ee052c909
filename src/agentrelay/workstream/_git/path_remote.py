"""Remotes that are a path: their refs are written here, with compare-and-swap.

libgit2's local transport forces a ref to what is pushed, whatever has happened since it
looked, and deletes a packed ref in a way that can lose others. A git server compares
first, and a path should be no worse. So libgit2 brings the objects only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import pygit2

from agentrelay.workstream._git.exchange import Callbacks, lease_lost
from agentrelay.workstream._git.refs import delete_ref, move_ref, refs_below
from agentrelay.workstream._git.repository import OpenRepository, open_repository, read_ref
from agentrelay.workstream.errors import LaneConflictError, PushRejectedError, RepositoryError

__all__ = ["PathRemote"]

# Where objects are brought to before the branch is moved; gone when it is.
_INCOMING: Final = "refs/agentrelay/incoming/"


class PathRemote:
    """The repository at the other end of a path or of a ``file://`` address."""

    def __init__(self, repository: OpenRepository) -> None:
        """Take an open bare repository."""
        self._repository = repository

    @classmethod
    def at(cls, url: str) -> PathRemote | None:
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
        return cls(repository) if repository.handle.is_bare else None

    def tip(self, ref: str) -> str | None:
        """Return the hex id a ref is at, or ``None``."""
        return read_ref(self._repository.common_dir, ref)

    def push(
        self,
        source: OpenRepository,
        ref: str,
        new: str | None,
        *,
        expected: str | None,
        callbacks: Callbacks,
        bring: Callable[[str, str], None],
        refused: Callable[[str], PushRejectedError],
    ) -> None:
        """Move, create or delete one ref if it is where the caller saw it.

        Args:
            source: The repository that is pushed from.
            ref: Full ref name.
            new: Hex id of the commit, ``None`` to delete.
            expected: Hex id the ref was seen at, ``None`` when it was absent.
            callbacks: Holds the lease, and gets the verdict.
            bring: Pushes a commit to a ref of the given name.
            refused: Makes the error of a refusal from its reason.

        Raises:
            LeaseLostError: It was elsewhere, or the commit is no fast-forward.
            PushRejectedError: Another ref stands where a directory is needed.
            LaneBusyError: Another program kept it locked.
            RepositoryError: It cannot be written.
        """
        callbacks.check_lease(ref, now=self.tip(ref), new=new)
        if new and expected and not source.contains(expected, new):
            raise lease_lost(refused("it is not a fast-forward"))
        callbacks.announce()
        try:
            if new is None:
                assert expected is not None
                self._delete(ref, expected=expected)
            elif not self._update(ref, new, expected=expected, bring=bring):
                callbacks.check_lease(ref, now=self.tip(ref), new=new)
                if self.tip(ref) != new:
                    raise lease_lost(refused("it moved meanwhile"))
        except LaneConflictError as error:
            callbacks.check_lease(ref, now=self.tip(ref), new=new)
            raise refused(error.message) from error
        callbacks.verdicts[ref] = None

    def _update(
        self, ref: str, commit_id: str, *, expected: str | None, bring: Callable[[str, str], None]
    ) -> bool:
        """Make a ref point to a commit; return whether it was where the caller saw it."""
        # Of its own: several clones may be bringing theirs.
        incoming = f"{_INCOMING}{ref}/{os.urandom(8).hex()}"
        if not self._is_a_tip(commit_id):
            bring(commit_id, incoming)
        try:
            # What was opened before the objects came may not see them.
            repository = open_repository(self._repository.path)
            return move_ref(repository, ref, commit_id, expected=expected, message="push")
        finally:
            self._forget(incoming)

    def _delete(self, ref: str, *, expected: str) -> None:
        """Delete a ref; gone is fine."""
        delete_ref(self._repository, ref, expected=expected)
        for left in refs_below(self._repository, f"{_INCOMING}{ref}/"):
            # Of a killed process; one that lives loses nothing: it has its objects there.
            self._forget(left)

    def _is_a_tip(self, commit_id: str) -> bool:
        """Return whether a ref says that the remote has the commit and all below it."""
        handle = self._repository.handle
        return commit_id in handle and any(
            reference.target == pygit2.Oid(hex=commit_id)
            for reference in handle.references.iterator()
        )

    def _forget(self, incoming: str) -> None:
        """Delete a ref that objects were brought to."""
        tip = self.tip(incoming)
        if tip is not None:
            with contextlib.suppress(LaneConflictError):
                delete_ref(self._repository, incoming, expected=tip)
