"""Writing the files of a new worktree, each byte proved, as fast as the machine allows.

Files come from another checkout where that has the very bytes (their hash is taken while
they are copied), and from the repository's objects otherwise. Where anything about names,
settings or attributes is not plain, nothing is written here: libgit2's own checkout knows
all the rules.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pygit2

from agentrelay.workstream._git.index_file import write_index
from agentrelay.workstream._git.large_blobs import LargeBlobs
from agentrelay.workstream._git.plain_settings import writes_as_stored
from agentrelay.workstream._git.plain_trees import PlainFolder, PlainTree, read_plain_tree
from agentrelay.workstream._git.plain_writer import PlainWriter
from agentrelay.workstream._git.proven_copies import (
    Written,
    copy_folders,
    main_checkout,
    other_worktrees,
)
from agentrelay.workstream._git.repository import common_dir_of

__all__ = ["Place", "write_files"]

# Files that a worker takes at a time: some ten milliseconds of work.
_SHARE: Final = 500
# With fewer files a second thread costs more than it saves.
_WORTH_A_THREAD: Final = 1_500
# With fewer files that the user's own checkout lacks, no other worktree is looked at.
_WORTH_A_LOOK: Final = 200
_FOLDER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True, slots=True)
class Place:
    """Where files are written: a worktree nobody has been given yet.

    Attributes:
        worktree_path: Its top.
        git_dir: Its entry.
        tree_id: The tree of its HEAD.
    """

    worktree_path: Path
    git_dir: Path
    tree_id: pygit2.Oid


def write_files(
    handle: pygit2.Repository,
    place: Place,
    *,
    tell: Callable[[int, int, int], None] | None = None,
) -> bool:
    """Write the files and the index of HEAD to an empty worktree, if all of it is plain.

    Args:
        handle: Repository opened at the worktree, or where it has the very settings of that.
        place: The worktree.
        tell: Called with files done, files in all and bytes done, now and then, by the
            caller's thread.

    Returns:
        Whether it was done. If not, a checkout by libgit2 is wanted: nothing was written, or
        something was in the way of what was.

    Raises:
        GitError: An object cannot be read.
        OSError: Something cannot be written.
    """
    # Elsewhere names may differ by case or by normal form and be one file all the same.
    if sys.platform != "linux" or os.listdir(place.worktree_path) != [".git"]:
        return False
    try:
        tree = read_plain_tree(handle, place.tree_id)
        if tree is None or not writes_as_stored(handle, tree.attributes):
            return False
    except (KeyError, ValueError, pygit2.GitError):
        # An object is missing, or is none: libgit2 says so in its own words.
        return False
    try:
        _Checkout(handle, place, tree, tell).run()
    except (FileExistsError, FileNotFoundError):
        # Names that are one to this file system, or somebody is at work in here.
        return False
    return True


class _Checkout:
    """One checkout, and what its threads share."""

    def __init__(
        self,
        handle: pygit2.Repository,
        place: Place,
        tree: PlainTree,
        tell: Callable[[int, int, int], None] | None,
    ) -> None:
        self._handle = handle
        self._worktree_path = place.worktree_path
        self._tree_id = place.tree_id
        self._git_dir = place.git_dir
        self._tree = tree
        self._written = Written(tree.count)
        self._tell = tell
        self._told = [0, 0]

    def run(self) -> None:
        """Write everything, the index last."""
        target = os.open(self._worktree_path, _FOLDER)
        try:
            for folder in self._tree.folders:
                if folder.prefix:
                    os.mkdir(folder.prefix, dir_fd=target)
            missing = [folder for folder in self._tree.folders if folder.files]
            for source_path in self._sources():
                missing = self._copy_from(source_path, missing, target)
                if _count(missing) < _WORTH_A_LOOK:
                    break
            if missing:
                self._share_out(missing, target, source=None)
            if self._tree.links:
                writer = PlainWriter(self._worktree_path, self._tree_id)
                writer.write_links(self._tree.links, target, self._written)
            self._report()
        finally:
            os.close(target)
        write_index(
            self._git_dir,
            self._written.records,
            cached=self._tree.cached,
            newest_ns=self._written.newest_ns,
        )

    def _sources(self) -> Iterator[Path]:
        main = main_checkout(self._handle)
        if main is not None:
            yield main
        if self._tree.count >= _WORTH_A_LOOK:
            yield from other_worktrees(self._git_dir)

    def _copy_from(
        self, source_path: Path, folders: list[PlainFolder], target: int
    ) -> list[PlainFolder]:
        """Copy what another checkout has; return what it has not."""
        try:
            source = os.open(source_path, _FOLDER)
        except OSError:
            return folders
        try:
            return self._share_out(folders, target, source=source)
        finally:
            os.close(source)

    def _share_out(
        self, folders: list[PlainFolder], target: int, *, source: int | None
    ) -> list[PlainFolder]:
        """Write folders, in two threads if there are many; return what the source has not.

        A second thread that copies gains a little, since most of it is in the kernel; one in
        libgit2 gains nearly everything, since libgit2 does not wait for the interpreter.
        """
        large = None
        if source is None:
            large = LargeBlobs(common_dir_of(Path(self._handle.path)))
        shares = deque(_shares(folders))
        missing: list[PlainFolder] = []

        def work(take: Callable[[], list[PlainFolder]], *, report: Callable[[], None]) -> None:
            writer = None
            while share := _taken(take):
                report()
                if source is not None:
                    missing.extend(copy_folders(share, source, target, self._written))
                    continue
                writer = writer or PlainWriter(self._worktree_path, self._tree_id, large)
                writer.write_files(share, target, self._written)

        with _helper(
            lambda: work(shares.pop, report=lambda: None),
            shares,
            worth_it=_count(folders) >= _WORTH_A_THREAD,
        ):
            work(shares.popleft, report=self._report)
        return missing

    def _report(self) -> None:
        """Say how far the files are."""
        if self._tell is not None:
            fresh = self._written.sizes[self._told[0] :]
            self._told = [self._told[0] + len(fresh), self._told[1] + sum(fresh)]
            self._tell(self._told[0], self._tree.count, self._told[1])


@contextmanager
def _helper(
    work: Callable[[], None], shares: deque[list[PlainFolder]], *, worth_it: bool
) -> Iterator[None]:
    """Let a second thread work meanwhile, if there is a processor for it.

    Whoever fails or is interrupted takes the rest of the work away; the other one ends with
    what it is at.
    """
    failures: list[BaseException] = []

    def attempt() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failures.append(error)
            shares.clear()

    thread = threading.Thread(target=attempt, name="lane-checkout")
    if worth_it and len(os.sched_getaffinity(0)) > 1:
        thread.start()
    try:
        yield
    finally:
        shares.clear()
        if thread.ident is not None:
            thread.join()
    if failures:
        raise failures[0]


def _taken(take: Callable[[], list[PlainFolder]]) -> list[PlainFolder]:
    """Take a share; the other thread may just have taken the last one."""
    try:
        return take()
    except IndexError:
        return []


def _count(folders: list[PlainFolder]) -> int:
    """Return how many files there are."""
    return sum(len(folder.files) for folder in folders)


def _shares(folders: list[PlainFolder]) -> Iterator[list[PlainFolder]]:
    """Part folders into shares; a large folder is parted too."""
    share: list[PlainFolder] = []
    size = 0
    for folder in folders:
        for start in range(0, len(folder.files), _SHARE):
            part = folder.files[start : start + _SHARE]
            share.append(PlainFolder(folder.prefix, part))
            size += len(part)
            if size >= _SHARE:
                yield share
                share, size = [], 0
    if share:
        yield share
