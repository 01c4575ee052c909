"""A working tree's index, changed in a copy and put in its place all at once.

libgit2 writes an index under a lock file that a killed process leaves behind, and nobody
can tell whose it was. So the copy is written by it, and the index by us, under git's own
lock and only while it still is what was copied.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, Self

import pygit2
from pygit2.enums import FileMode
from pygit2.errors import check_error
from pygit2.ffi import C, ffi

from agentrelay.workstream._git.lockfile import LockedError, LockFile
from agentrelay.workstream._git.repository import OpenRepository

__all__ = ["NO_STAGES", "SKIP_WORKTREE", "IndexDraft", "Stages", "entry_of", "stages_of"]

# gitformat-index(5), "extended flags".
SKIP_WORKTREE: Final = 0x4000

# Beside the index and not in a directory of temporary files: it goes when the entry goes.
_NAME: Final = "agentrelay-index"
# gitformat-index(5): times, sizes and numbers are kept modulo 2**32.
_WORD: Final = 0xFFFFFFFF
_NANOSECONDS: Final = 1_000_000_000


class Stages(NamedTuple):
    """What an index has of a path in conflict: hex id and mode, where there is something.

    Attributes:
        base: What both sides began with; git's stage 1.
        ours: Stage 2.
        theirs: Stage 3.
    """

    base: tuple[str, int] | None
    ours: tuple[str, int] | None
    theirs: tuple[str, int] | None


NO_STAGES: Final[Mapping[str, Stages]] = MappingProxyType({})


def stages_of(
    base: pygit2.IndexEntry | None,
    ours: pygit2.IndexEntry | None,
    theirs: pygit2.IndexEntry | None,
) -> Stages:
    """Return the stages of a conflict as libgit2 tells it."""
    sides = (None if one is None else (str(one.id), int(one.mode)) for one in (base, ours, theirs))
    return Stages(*sides)


def entry_of(path: str, side: tuple[str, int]) -> pygit2.IndexEntry:
    """Return one side of a conflict as libgit2 wants it."""
    return pygit2.IndexEntry(path, pygit2.Oid(hex=side[0]), FileMode(side[1]))


class IndexDraft:
    """A changed copy of the index of one working tree; use it as a context manager.

    One at a time for each working tree: hold the lane.

    Attributes:
        index: The copy, to be read and changed.
    """

    index: pygit2.Index

    def __init__(self, repository: OpenRepository) -> None:
        """Name the index; nothing is read yet.

        Args:
            repository: Opened at the working tree.
        """
        self._path = Path(repository.handle.path) / "index"
        self._aside = self._path.with_name(_NAME)
        self._own_dir = repository.own_dir

    def __enter__(self) -> Self:
        """Copy the index."""
        self._clear()
        # The time first: of an index that is replaced in between it is too early, no harm.
        self._written_ns = _time_of(self._path)
        self._before = self._contents()
        self._put: set[str] = set()
        self._aside.touch()
        self._begun_ns = _time_of(self._aside)
        self._aside.unlink()
        if self._before:
            self._aside.write_bytes(self._before)
        self.index = pygit2.Index(str(self._aside))
        self.index.read()
        return self

    def __exit__(self, *_: object) -> None:
        """Forget the copy."""
        self._clear()

    def put(
        self,
        path: str,
        blob: pygit2.Oid,
        mode: FileMode,
        seen: os.stat_result | None,
        *,
        hidden: bool = False,
    ) -> None:
        """Add or replace an entry; a file takes the place of a folder, and the reverse.

        Args:
            path: Relative to the top of the working tree.
            blob: What it holds.
            mode: Its mode.
            seen: The file as it was before it was read, so that git need not read it again.
            hidden: Whether a sparse checkout hides it: that there is no file says nothing.
        """
        raw, name = pygit2.IndexEntry(path, blob, mode)._to_c()  # noqa: SLF001 - pygit2's own entries leave these fields out
        if seen is not None:
            for field, when in ((raw.ctime, seen.st_ctime_ns), (raw.mtime, seen.st_mtime_ns)):
                field.seconds, field.nanoseconds = divmod(when, _NANOSECONDS)
            raw.dev, raw.ino = seen.st_dev & _WORD, seen.st_ino & _WORD
            raw.uid, raw.gid = seen.st_uid & _WORD, seen.st_gid & _WORD
            # As young as this, it may have been written to again without a sign of it.
            is_settled = seen.st_mtime_ns < self._begun_ns
            raw.file_size = seen.st_size & _WORD if is_settled else 0
        self._put.add(path)
        if hidden:
            raw.flags_extended |= SKIP_WORKTREE
        check_error(C.git_index_add(self.index._index, raw), io=True)  # noqa: SLF001 - see above
        del name  # libgit2 has its own copy by now

    def drop(self, path: str) -> None:
        """Remove an entry, if there is one."""
        if path in self.index:
            self.index.remove(path)

    def conflict(self, path: str, stages: Stages) -> None:
        """Put the sides of a conflict in the place of an entry."""
        self.drop(path)
        base, ours, theirs = (
            None
            if one is None
            else pygit2.IndexEntry(path, pygit2.Oid(hex=one[0]), FileMode(one[1]))
            for one in stages
        )
        # Its types do not say that sides may be missing.
        self.index.add_conflict(base, ours, theirs)  # type: ignore[arg-type]

    def install(self) -> None:
        """Make the copy the index.

        Raises:
            LockedError: Somebody holds the index, or has changed it since it was copied.
        """
        self._doubt_young()
        self.index.write()
        data = self._aside.read_bytes()
        with LockFile(self._path, own_dir=self._own_dir, data=data) as lock:
            if self._contents() != self._before:
                raise LockedError(f"'{self._path}' is being changed")
            lock.commit()
        self._before = data

    def _doubt_young(self) -> None:
        """Have files read again that are as young as the index was.

        Such a file may have been changed since without a sign of it but that; beside an
        index that is younger it would be taken for unchanged.

        Source:
            git's Documentation/technical/racy-git.txt: the size is set to zero.
        """
        for number in range(len(self.index)):
            raw = C.git_index_get_byindex(self.index._index, number)  # noqa: SLF001 - pygit2's own entries leave these fields out
            when = raw.mtime.seconds * _NANOSECONDS + raw.mtime.nanoseconds
            if when >= self._written_ns and os.fsdecode(ffi.string(raw.path)) not in self._put:
                raw.file_size = 0

    def _contents(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""

    def _clear(self) -> None:
        """Remove the copy, and what a killed process left of writing it."""
        for path in (self._aside, self._aside.with_name(f"{_NAME}.lock")):
            path.unlink(missing_ok=True)


def _time_of(path: Path) -> int:
    """Return when a file was written, in nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
