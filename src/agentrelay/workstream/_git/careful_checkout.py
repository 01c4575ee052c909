"""Writing files of a commit by libgit2, and nothing over what is in no commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pygit2
from pygit2.callbacks import git_checkout_options
from pygit2.enums import CheckoutNotify, CheckoutStrategy
from pygit2.ffi import C, ffi

__all__ = ["ObstructedError", "write_files", "write_new_files"]

_STRATEGY: Final = (
    CheckoutStrategy.SAFE
    | CheckoutStrategy.DONT_UPDATE_INDEX
    | CheckoutStrategy.DONT_OVERWRITE_IGNORED
    | CheckoutStrategy.DISABLE_PATHSPEC_MATCH
)
# libgit2 knows it without an object, as git does.
_EMPTY_TREE: Final = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


class ObstructedError(Exception):
    """Something in the working tree is in no commit, and was not overwritten.

    Attributes:
        paths: What it is, in order.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        """Carry the paths to who words the refusal."""
        super().__init__(", ".join(paths))
        self.paths = list(paths)


class _Notes(pygit2.CheckoutCallbacks):
    """Remembers what a checkout must not overwrite."""

    def __init__(self) -> None:
        super().__init__()
        self.conflicts: list[str] = []

    def checkout_notify_flags(self) -> CheckoutNotify:
        """Ask for conflicts alone."""
        return CheckoutNotify.CONFLICT

    def checkout_notify(self, why: CheckoutNotify, path: str, *_: Any) -> None:  # noqa: ARG002 - asked for conflicts only
        """Remember one."""
        self.conflicts.append(path)


def write_files(handle: pygit2.Repository, target: str, paths: list[str] | None) -> None:
    """Make files as a commit has them that are as HEAD has them.

    Args:
        handle: Repository opened at the working tree.
        target: Hex id of the commit.
        paths: Which files, all when ``None``. A new one is not written where HEAD has a
            folder in its place and that is gone.

    Raises:
        ObstructedError: Something is in no commit; nothing was written.
    """
    _check_out(handle, target, paths, baseline=None)


def write_new_files(handle: pygit2.Repository, target: str, paths: list[str]) -> None:
    """Write files of a commit where there is nothing now, whatever HEAD has there.

    Args:
        handle: Repository opened at the working tree.
        target: Hex id of the commit.
        paths: Which files.

    Raises:
        ObstructedError: There is something; nothing was written.
    """
    _check_out(handle, target, paths, baseline=handle[_EMPTY_TREE])


def _check_out(
    handle: pygit2.Repository,
    target: str,
    paths: list[str] | None,
    *,
    baseline: pygit2.Object | None,
) -> None:
    notes = _Notes()
    wanted, known = ffi.new("git_object **"), ffi.new("git_tree **")
    commit = handle[target]
    # As pygit2 does it; its own call has no baseline.
    ffi.buffer(wanted)[:] = commit._pointer[:]  # noqa: SLF001 - same
    with git_checkout_options(callbacks=notes, strategy=_STRATEGY, paths=paths) as payload:
        if baseline is not None:
            ffi.buffer(known)[:] = baseline._pointer[:]  # noqa: SLF001 - same
            payload.checkout_options.baseline = known[0]
        try:
            payload.check_error(
                C.git_checkout_tree(handle._repo, wanted[0], payload.checkout_options)  # noqa: SLF001 - same
            )
        except pygit2.GitError as error:
            if notes.conflicts:
                raise ObstructedError(sorted(set(notes.conflicts))) from error
            raise
