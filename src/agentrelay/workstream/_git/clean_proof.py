"""Proving that a worktree holds nothing but the files of its commit, without libgit2.

Whoever tears a lane down asks this of each, and mostly it is so. The proof is git's own, and
stricter: the index is the commit's tree; in every folder are the names of the index and no
others, ignored ones neither; each file has the stat data it had when it was last found
unchanged, all of them, whatever the configuration trusts; and a file that is as young as the
index, or differs in any of them, has the very bytes. Whatever is not proved is for libgit2
to look at, which knows all the rules.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from agentrelay.workstream._git.stat_index import (
    KEPT_BITS,
    LOW,
    StatIndex,
    read_stat_index,
    tree_id_of,
)

__all__ = ["is_provably_clean"]

_OPEN: Final = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
_FOLDER: Final = _OPEN | getattr(os, "O_DIRECTORY", 0)
# Without waiting: a pipe may be there by a file's name by now.
_FILE: Final = _OPEN | getattr(os, "O_NONBLOCK", 0)
# What is larger, or more than so many bytes in all, is for libgit2 to read.
_LARGE_BYTES: Final = 1 << 20
_MOST_BYTES: Final = 16 << 20
# With fewer files a second thread costs more than it saves.
_WORTH_A_THREAD: Final = 4_000
# What is right in a folder: see StatIndex.folders.
_Content = list[str | tuple[int, int]]
# Folders that a thread takes at a time.
_SHARE: Final = 50


def is_provably_clean(worktree_path: Path, admin_dir: Path, tree_id: str) -> bool:
    """Tell whether a worktree certainly holds its commit's files, unchanged, and nothing else.

    ``False`` says nothing. Nothing is written, the index neither.

    Args:
        worktree_path: The worktree.
        admin_dir: Its entry, where its index is.
        tree_id: Hex id of its commit's tree.
    """
    if os.name == "nt" or os.path.lexists(admin_dir / "modules"):
        # Elsewhere stat data says less; and a submodule's own commits are in the entry.
        return False
    try:
        index = read_stat_index(admin_dir / "index")
        if index is None or tree_id_of(index) != tree_id:
            return False
        return _Proof(index).holds(worktree_path)
    except OSError:
        return False


class _Proof:
    """One look at a worktree, and what its threads share."""

    def __init__(self, index: StatIndex) -> None:
        self._index = index
        self._left = iter(index.folders.items())
        self._taking = threading.Lock()
        self._failed = False
        self._read_bytes = 0

    def holds(self, worktree_path: Path) -> bool:
        """Look into each folder, in two threads if there are many files."""
        top = os.open(worktree_path, _FOLDER)
        try:
            other = self._helper(top)
            try:
                self._work(top)
            finally:
                if other is not None:
                    other.join()
        finally:
            os.close(top)
        return not self._failed

    def _helper(self, top: int) -> threading.Thread | None:
        """Start a second thread, where there is a processor for it and enough to do."""
        if len(self._index.names) < _WORTH_A_THREAD or _processors() == 1:
            return None
        thread = threading.Thread(target=self._work, args=(top,), name="lane-proof")
        try:
            thread.start()
        except RuntimeError:
            # No more threads, or the interpreter is ending.
            return None
        return thread

    def _work(self, top: int) -> None:
        """Look into folders until none is left, or one is not proved."""
        done = False
        try:
            while share := self._taken():
                for path, content in share:
                    if self._failed or not self._is_clean(top, path, content):
                        return
            done = True
        except OSError:
            # Not there any more, or closed to us.
            return
        finally:
            if not done:
                # An interrupt, too.
                self._failed = True

    def _taken(self) -> list[tuple[str, _Content]]:
        with self._taking:
            return list(islice(self._left, _SHARE))

    def _is_clean(self, top: int, path: str, content: _Content) -> bool:
        """Tell whether a folder holds the files of the index unchanged, and nothing else."""
        # With the slash a link would be followed.
        here = os.open(path[:-1] or ".", _FOLDER, dir_fd=top)
        try:
            folders = [name for name in content if isinstance(name, str)]
            runs = [run for run in content if isinstance(run, tuple)]
            wanted = [*folders, *([] if path else [".git"])]
            for first, end in runs:
                wanted += self._index.names[first:end]
            there = os.listdir(here)
            if len(there) != len(wanted) or set(there) != set(wanted):
                return False
            return all(self._are_unchanged(here, first, end) for first, end in runs)
        finally:
            os.close(here)

    def _are_unchanged(self, here: int, first: int, end: int) -> bool:
        """Tell whether some files of a folder are as the index has them."""
        index, rows = self._index, slice(first, end)
        look = partial(os.stat, dir_fd=here, follow_symlinks=False)
        found = list(map(look, index.names[rows]))
        if (
            [now.st_ctime_ns for now in found] == index.changed_ns[rows]
            and [now.st_mtime_ns for now in found] == index.modified_ns[rows]
            and [now.st_mode & KEPT_BITS for now in found] == index.bits[rows]
            and tuple([now.st_size for now in found]) == index.sizes[rows]
            and tuple([now.st_ino & LOW for now in found]) == index.inodes[rows]
            and tuple([now.st_uid for now in found]) == index.owners[rows]
            and tuple([now.st_gid for now in found]) == index.groups[rows]
            and max(index.modified_ns[rows]) < index.written_ns
            # Without content it may be one that git could not tell from its index.
            and all(index.sizes[rows])
        ):
            return True
        return all(map(partial(self._is_unchanged, here), range(first, end), found))

    def _is_unchanged(self, here: int, row: int, now: os.stat_result) -> bool:
        """Tell whether a file is as the index has it, by its bytes where that is needed."""
        index = self._index
        if now.st_mode & KEPT_BITS != index.bits[row]:
            return False
        is_known = (
            now.st_ctime_ns == index.changed_ns[row]
            and now.st_mtime_ns == index.modified_ns[row] < index.written_ns
            and now.st_size == index.sizes[row] != 0
            and now.st_ino & LOW == index.inodes[row]
            and now.st_uid == index.owners[row]
            and now.st_gid == index.groups[row]
        )
        return is_known or self._has_bytes(here, row, now)

    def _has_bytes(self, here: int, row: int, now: os.stat_result) -> bool:
        """Tell whether a file has the very bytes of its blob, unconverted."""
        self._read_bytes += now.st_size
        if now.st_size > _LARGE_BYTES or self._read_bytes > _MOST_BYTES:
            return False
        name = self._index.names[row]
        if stat.S_ISLNK(now.st_mode):
            content = os.fsencode(os.readlink(name, dir_fd=here))
        else:
            descriptor = os.open(name, _FILE, dir_fd=here)
            try:
                # What grew meanwhile is told by its length.
                content = os.read(descriptor, now.st_size + 1)
            finally:
                os.close(descriptor)
        blob = b"blob %d\0%b" % (len(content), content)
        return hashlib.sha1(blob, usedforsecurity=False).digest() == self._index.ids[row]


def _processors() -> int:
    """Return how many processors there are for this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # pragma: no cover - macOS does not tell
