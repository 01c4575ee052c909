"""Merging commits in memory: the tree it gives, or what is in conflict."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple, cast

import pygit2
from pygit2.enums import DeltaStatus, DiffOption, FileMode, ObjectType

from agentrelay.workstream._conflicts import ConflictHunk, ConflictKind, PathConflict
from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.scratch import Scratch, keep_objects_in_memory
from agentrelay.workstream._git.tree_ids import TreeEntry, changed_tree_id
from agentrelay.workstream._git.type_changes import settled_file
from agentrelay.workstream.errors import RepositoryError

__all__ = ["InMemoryMerges", "Merged"]

# People read hunks; a generated file of this size is not read.
_LONGEST_BYTES: Final = 4 * 1024 * 1024
_REGULAR: Final = frozenset({int(FileMode.BLOB), int(FileMode.BLOB_EXECUTABLE)})
# Seven characters, and no line of a file can begin with one: see _spaced.
_OURS, _BETWEEN, _THEIRS = "<<<<<<<", "=======", ">>>>>>>"

_Entry = pygit2.IndexEntry | None


class _Change(NamedTuple):
    """What a side did to a path: whether it was not there before or is not now; its mode."""

    is_new: bool
    is_gone: bool
    mode: int


class Merged(NamedTuple):
    """What became of a merge.

    Attributes:
        is_merged: Whether there was nothing to do.
        is_related: Whether there is a common history.
        conflicts: What is in conflict, sorted by path.
        tree_id: Hex id of the tree, or ``None``.
        is_certain: Whether git would come to the same.
    """

    is_merged: bool
    is_related: bool
    conflicts: tuple[PathConflict, ...]
    tree_id: str | None
    is_certain: bool = True


class InMemoryMerges:
    """Merges in one repository that write nothing to it, with what they have in common kept.

    Not to be shared between threads. Files of the checkout are not looked at.
    """

    def __init__(self, repository: OpenRepository, scratch: Scratch | None = None) -> None:
        """Use a fresh handle, which is of no use for writing afterwards.

        Args:
            repository: By this handle; its attributes count.
            scratch: Where merged trees are kept; nowhere when ``None``, only their ids are
                told then.
        """
        if scratch is None:
            keep_objects_in_memory(repository)
        else:
            scratch.attach(repository)
        self._keeps_trees = scratch is not None
        self._repository = repository
        self._handle = repository.handle
        self._bases: dict[tuple[str, str], str | None] = {}
        self._changes: dict[tuple[str, str], Mapping[str, _Change]] = {}

    def merge(self, source: str, target: str) -> Merged:
        """Merge one commit into another.

        Args:
            source: Hex id of the commit that is merged.
            target: Hex id of the commit it is merged into.

        Raises:
            RepositoryError: A part of the history or a file is missing or cannot be read.
        """
        with self._failures(f"merge {source[:12]} into {target[:12]}"):
            return self._merge(source, target)

    def pick(self, commit_id: str, parent: str, onto: str) -> Merged:
        """Do to one commit or tree what another commit did to its parent.

        Args:
            commit_id: Hex id of the commit.
            parent: Hex id of its parent.
            onto: Hex id of what is changed.

        Raises:
            RepositoryError: A file is missing or cannot be read.

        Source:
            git-cherry-pick(1): a merge whose base is the parent.
        """
        with self._failures(f"apply {commit_id[:12]} to {onto[:12]}"):
            base, ours, theirs = (
                self._handle[each].peel(pygit2.Tree).id for each in (parent, onto, commit_id)
            )
            index = self._handle.merge_trees(base, ours, theirs)
            return self._judged(index, parent, commit_id, onto, is_certain=True)

    def index_of(self, source: str, target: str) -> pygit2.Index:
        """Return a merge as an index, with the stages of what is in conflict.

        Raises:
            RepositoryError: A part of the history or a file is missing or cannot be read.
        """
        with self._failures(f"merge {source[:12]} into {target[:12]}"):
            return self._handle.merge_commits(target, source)

    def is_trivially_clean(self, one: str, other: str) -> bool:
        """Return whether two commits cannot conflict, by the paths they change alone.

        They cannot, if nothing that one changes is, contains or is contained in what the
        other changes since the only best commit they have in common. ``False`` says nothing.

        Raises:
            RepositoryError: A part of the history is missing.
        """
        with self._failures(f"compare {one[:12]} with {other[:12]}"):
            base = self._base(one, other)
            if base is None or base in (one, other):
                return base is not None
            mine, yours = self._changed(base, one).keys(), self._changed(base, other).keys()
            return (
                mine.isdisjoint(yours)
                and mine.isdisjoint(_above(yours))
                and yours.isdisjoint(_above(mine))
                # With two best ones, git merges those first: paths alone prove nothing then.
                and self._is_only_base(base, one, other)
            )

    @contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        """Translate libgit2's failures, and what pygit2 makes of some."""
        path = self._repository.path
        with repository_failures(what, path=path):
            try:
                yield
            except (KeyError, ValueError) as error:
                message = f"cannot {what} in '{path}': an object of it is missing"
                raise RepositoryError(
                    message, path=path, hint="Fetch the whole history, or look with 'git fsck'."
                ) from error

    def _base(self, one: str, other: str) -> str | None:
        """Return a best commit two have in common."""
        key = (one, other) if one < other else (other, one)
        if key not in self._bases:
            # Its types do not say that there may be none.
            found = cast("pygit2.Oid | None", self._handle.merge_base(*key))
            if found is None and self._handle.is_shallow:
                path = self._repository.path
                raise RepositoryError(
                    f"'{path}' is shallow and has no commit that {one[:12]} and {other[:12]} "
                    "have in common",
                    path=path,
                    hint="Fetch more of the history: 'git fetch --unshallow'.",
                )
            self._bases[key] = None if found is None else str(found)
        return self._bases[key]

    def _merge(self, source: str, target: str) -> Merged:
        base = self._base(source, target)
        if base is None:
            return Merged(is_merged=False, is_related=False, conflicts=(), tree_id=None)
        if base in (source, target):
            tip = target if base == source else source
            tree = str(self._handle[tip].peel(pygit2.Tree).id)
            return Merged(base == source, is_related=True, conflicts=(), tree_id=tree)
        index = self._handle.merge_commits(target, source)
        only = self._is_only_base(base, source, target)
        return self._judged(index, base, source, target, is_certain=only)

    def _judged(
        self, index: pygit2.Index, base: str, source: str, target: str, *, is_certain: bool
    ) -> Merged:
        """Say what became of a merge that libgit2 has made an index of."""
        certain = is_certain and not (
            self._adds_where_nothing_is_left(base, source, target)
            or self._adds_where_nothing_is_left(base, target, source)
        )
        clashes = self._mode_clashes(base, source, target)
        found = [*(index.conflicts or ())]
        for sides in found:
            settled = settled_file(self._handle, *sides)
            if settled is not None:
                del index.conflicts[settled.path]
                index.add(settled)
        found = [*(index.conflicts or ())]
        if not found and not clashes:
            tree = self._tree_of(index, base, source, target)
            return Merged(
                is_merged=False, is_related=True, conflicts=(), tree_id=tree, is_certain=certain
            )
        # Names that a side has put something below.
        changes = (self._changed(base, source), self._changed(base, target))
        dirs = _above(path for side in changes for path in side if not side[path].is_gone)
        told = [self._conflict(ancestor, ours, theirs, dirs) for ancestor, ours, theirs in found]
        by_path = {each.path: each for each in told}
        for path in clashes:
            by_path.setdefault(path, PathConflict(path, ConflictKind.ADD_ADD))
        conflicts = tuple(by_path[path] for path in sorted(by_path))
        return Merged(
            is_merged=False, is_related=True, conflicts=conflicts, tree_id=None, is_certain=certain
        )

    def _tree_of(self, index: pygit2.Index, base: str, source: str, target: str) -> str:
        """Return the id of the tree of a clean merge: the target's, but for what changed."""
        paths = self._changed(base, source).keys() | self._changed(base, target).keys()
        merged: dict[bytes, TreeEntry | None] = dict.fromkeys(map(os.fsencode, paths))
        for path in paths:
            with suppress(KeyError):
                entry = index[path]
                merged[os.fsencode(path)] = TreeEntry(b"%o" % int(entry.mode), entry.id.raw)
        tree = str(self._handle[target].peel(pygit2.Tree).id)
        keep = self._keep_tree if self._keeps_trees else None
        return changed_tree_id(self._handle, tree, merged, keep=keep)

    def _keep_tree(self, data: bytes) -> None:
        self._handle.odb.write(ObjectType.TREE, data)

    def _is_only_base(self, base: str, one: str, other: str) -> bool:
        """Return whether all that two have in common is in one commit's history."""
        ahead, _ = self._handle.ahead_behind(one, other)
        return bool(ahead == self._handle.ahead_behind(one, base)[0])

    def _adds_where_nothing_is_left(self, base: str, one: str, other: str) -> bool:
        """Return whether a side adds to a directory that the other one emptied."""
        start, tree = (self._handle[commit].peel(pygit2.Tree) for commit in (base, other))
        added = (path for path, change in self._changed(base, one).items() if change.is_new)
        dirs = {path.rpartition("/")[0] for path in added} - {""}
        # pygit2 looks up no name that is not UTF-8.
        return any(
            not _is_utf8(os.fsencode(name)) or (name in start and name not in tree) for name in dirs
        )

    def _mode_clashes(self, base: str, source: str, target: str) -> list[str]:
        """Return paths that both sides added with different modes.

        libgit2 takes one of the modes where the contents are the same; git asks a human.
        """
        mine, yours = self._changed(base, source), self._changed(base, target)
        return [
            path
            for path in mine.keys() & yours.keys()
            if mine[path].is_new and yours[path].is_new and mine[path].mode != yours[path].mode
        ]

    def _conflict(
        self, base: _Entry, target: _Entry, source: _Entry, dirs: AbstractSet[str]
    ) -> PathConflict:
        """Say in which way a path is in conflict."""
        path = next(str(entry.path) for entry in (base, target, source) if entry is not None)
        hunks: tuple[ConflictHunk, ...] = ()
        if target is not None and source is not None:
            kind = ConflictKind.CONTENT if base is not None else ConflictKind.ADD_ADD
            hunks = self._hunks(base, target, source)
        elif path in dirs:
            kind = ConflictKind.FILE_DIRECTORY
        elif base is not None and (target is not None or source is not None):
            kind = ConflictKind.MODIFY_DELETE
        else:
            kind = ConflictKind.RENAME
        return PathConflict(
            path,
            kind,
            hunks,
            is_in_source=source is not None,
            is_in_target=target is not None,
        )

    def _hunks(
        self, base: _Entry, target: pygit2.IndexEntry, source: pygit2.IndexEntry
    ) -> tuple[ConflictHunk, ...]:
        """Return what each side has where both changed the same lines."""
        entries = [base, target, source]
        if any(entry is not None and int(entry.mode) not in _REGULAR for entry in entries):
            return ()
        blobs = [
            None if entry is None else self._handle[entry.id].peel(pygit2.Blob) for entry in entries
        ]
        if any(blob is not None and blob.size > _LONGEST_BYTES for blob in blobs):
            return ()
        contents = [None if blob is None else blob.data for blob in blobs]
        if any(data is not None and b"\0" in data for data in contents):
            return ()
        are_text = all(data is None or _is_utf8(data) for data in contents)
        spaced = [None if data is None else self._spaced(data, are_text) for data in contents]
        result = self._handle.merge_file_from_index(spaced[0], spaced[1], spaced[2])
        return tuple(_parsed(result.contents, are_text=are_text))

    def _spaced(self, data: bytes, are_text: bool) -> pygit2.IndexEntry:  # noqa: FBT001 - private
        """Return an entry for a file with a space before each line: none looks like a marker.

        Lines are the same exactly if they were the same before, so the merge is too.
        """
        # pygit2 reads the result as UTF-8; what is none becomes so, byte by byte.
        data = data if are_text else data.decode("latin-1").encode()
        made = b" " + data.replace(b"\n", b"\n ")
        if not data or data.endswith(b"\n"):
            # There is no line after the last line end.
            made = made[:-1]
        # The same name and mode for all: what differs there is no line.
        return pygit2.IndexEntry("file", self._handle.create_blob(made), FileMode.BLOB)

    def _changed(self, base: str, tip: str) -> Mapping[str, _Change]:
        """Return the paths that are not the same in two commits, a renamed file's both."""
        key = (base, tip)
        if key not in self._changes:
            trees = [self._handle[commit].peel(pygit2.Tree) for commit in key]
            self._changes[key] = {
                os.fsdecode(delta.new_file.raw_path): _Change(
                    delta.status == DeltaStatus.ADDED,
                    delta.status == DeltaStatus.DELETED,
                    int(delta.new_file.mode),
                )
                for delta in trees[0].diff_to_tree(trees[1], DiffOption.INCLUDE_TYPECHANGE).deltas
            }
        return self._changes[key]


def _above(paths: Iterable[str]) -> set[str]:
    """Return every directory that one of the paths is in."""
    found: set[str] = set()
    for path in paths:
        end = path.rfind("/")
        while end > 0 and path[:end] not in found:
            found.add(path[:end])
            end = path.rfind("/", 0, end)
    return found


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parsed(text: str, *, are_text: bool) -> Iterator[ConflictHunk]:
    """Yield the hunks of a file that has conflict markers, and a space before other lines.

    Args:
        text: The merged file.
        are_text: Whether each character stands for itself, and not for a byte.
    """
    target: list[str] = []
    source: list[str] = []
    side: list[str] | None = None
    for line in text.split("\n"):
        if line.startswith(_OURS):
            side = target
        elif line.startswith(_BETWEEN):
            side = source
        elif line.startswith(_THEIRS):
            yield ConflictHunk(source_lines=tuple(source), target_lines=tuple(target))
            target, source, side = [], [], None
        elif side is not None:
            own = line[1:].removesuffix("\r")
            side.append(own if are_text else own.encode("latin-1").decode("utf-8", "replace"))
