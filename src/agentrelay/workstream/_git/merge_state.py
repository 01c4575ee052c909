"""Leaving a merge in progress in a working tree, conflicts and all, as git leaves one.

The files first, then the index, and last what says that there is a merge. So nobody can
commit files with markers as a finished merge; and whoever is stopped in between begins anew.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import pygit2
from pygit2.enums import FileMode

from agentrelay.workstream._conflicts import ConflictKind, PathConflict
from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.fast_forward import move_files, refuse_in_the_way
from agentrelay.workstream._git.file_entries import changes_between, file_at, staged_at
from agentrelay.workstream._git.file_rules import FileRules
from agentrelay.workstream._git.index_draft import IndexDraft, Stages, entry_of, stages_of
from agentrelay.workstream._git.kept_trees import stat_at
from agentrelay.workstream._git.lockfile import LockedError
from agentrelay.workstream._git.merging import InMemoryMerges
from agentrelay.workstream._git.move_journal import end_move
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.scratch import Scratch
from agentrelay.workstream._git.whole_files import write_whole

__all__ = ["HalfMerge", "begin_merge", "half_merge"]

_REGULAR: Final = frozenset({int(FileMode.BLOB), int(FileMode.BLOB_EXECUTABLE)})
_NAMELESS_OURS: Final = re.compile(rb"\A<{7}(?=\r?\n)")
_NAMELESS_THEIRS: Final = re.compile(rb">{7}(\r?\n)\Z")
_LEAVABLE: Final = frozenset(
    {ConflictKind.CONTENT, ConflictKind.ADD_ADD, ConflictKind.MODIFY_DELETE}
)
# The coarsest tick of a kernel's clock is 10 ms.
_TICK_S: Final = 0.02


class HalfMerge(NamedTuple):
    """A merge with conflicts, ready to be left in a working tree.

    Attributes:
        source: Hex id of the commit that is merged in.
        tree_id: Hex id of a tree with the files, markers among them.
        stages: What the index has of the paths in conflict.
    """

    source: str
    tree_id: str
    stages: dict[str, Stages]


def half_merge(
    view: OpenRepository,
    merges: InMemoryMerges,
    *,
    source: str,
    target: str,
    conflicts: Iterable[PathConflict],
    label: str,
) -> HalfMerge | None:
    """Make a merge as far as it goes, in memory.

    Args:
        view: A handle with the scratch it is made in, opened at the working tree.
        merges: Merges with the same scratch.
        source: Hex id of the commit that is merged in.
        target: Hex id of the commit HEAD is at.
        conflicts: What is in conflict.
        label: What the merged branch is called in the markers.

    Returns:
        The merge; ``None`` where some path is in conflict in a way in which git would have to
        move files aside.

    Raises:
        RepositoryError: A file is missing or cannot be read.
    """
    index = merges.index_of(source, target)
    stages: dict[str, Stages] = {}
    for base, ours, theirs in index.conflicts or ():
        sides = [side for side in (base, ours, theirs) if side is not None]
        path = str(sides[0].path)
        if any(side.path != path for side in sides) or path in stages:
            return None
        stages[path] = stages_of(base, ours, theirs)
    kinds = {conflict.path: conflict.kind for conflict in conflicts}
    if kinds.keys() != stages.keys() or not _LEAVABLE.issuperset(kinds.values()):
        return None
    if not all(_is_of_one_kind(sides) for sides in stages.values()):
        return None
    with repository_failures("merge files", path=view.path):
        for path, its_stages in stages.items():
            del index.conflicts[path]
            index.add(_file(view.handle, path, its_stages, label))
        tree = str(index.write_tree(view.handle))
    return HalfMerge(source, tree, stages)


def _is_of_one_kind(stages: Stages) -> bool:
    """Return whether all sides are regular files, or all are links."""
    modes = {side[1] for side in stages if side is not None}
    return modes <= _REGULAR or modes == {int(FileMode.LINK)}


def _file(handle: pygit2.Repository, path: str, stages: Stages, label: str) -> pygit2.IndexEntry:
    """Return what git leaves of a conflict for somebody to edit."""
    base, ours, theirs = stages
    if ours is None or theirs is None:
        kept = ours or theirs
        assert kept is not None
        return entry_of(path, kept)
    mode = theirs[1] if base is not None and base[1] == ours[1] else ours[1]
    sides = [None if side is None else handle[side[0]].peel(pygit2.Blob).data for side in stages]
    is_binary = any(data is not None and b"\0" in data for data in sides)
    if ours[1] not in _REGULAR or is_binary or _is_unmergeable(handle, path):
        return entry_of(path, ours)
    # pygit2 reads the result as UTF-8: each byte becomes a character, and one again.
    names = ("base", "HEAD", label.encode().decode("latin-1"))
    entries = [
        None
        if data is None
        else pygit2.IndexEntry(
            name, handle.create_blob(data.decode("latin-1").encode()), FileMode.BLOB
        )
        for name, data in zip(names, sides, strict=True)
    ]
    merged = handle.merge_file_from_index(entries[0], entries[1], entries[2])
    text = merged.contents.encode("latin-1")
    # libgit2 leaves the name of an empty file out.
    if not sides[1]:
        text = _NAMELESS_OURS.sub(rb"\g<0> HEAD", text, count=1)
    if not sides[2]:
        text = _NAMELESS_THEIRS.sub(rb">>>>>>> %b\g<1>" % label.encode(), text, count=1)
    return pygit2.IndexEntry(path, handle.create_blob(text), FileMode(mode))


def _is_unmergeable(handle: pygit2.Repository, path: str) -> bool:
    """Return whether attributes say that a file is not merged by lines.

    Source:
        gitattributes(5), "merge".
    """
    # As bytes: a name may be no text.
    return handle.get_attr(os.fsencode(path), "merge") in {False, "binary"}


def begin_merge(
    repository: OpenRepository,
    view: OpenRepository,
    scratch: Scratch,
    half: HalfMerge,
    *,
    tip: str,
    message: str,
) -> None:
    """Leave a merge in progress in a working tree; hold the lane.

    Args:
        repository: Opened at the working tree.
        view: The same, with the scratch.
        scratch: What the merge was made in.
        half: The merge.
        tip: Hex id of the commit HEAD is at.
        message: What git would propose as its message.

    Raises:
        LaneConflictError: Something that is in no commit is in the way; nothing was changed.
        LaneBusyError: Another program kept the index locked.
        RepositoryError: Something cannot be read or written.

    Source:
        gitrepository-layout(5) and git-merge(1), "HOW CONFLICTS ARE PRESENTED": MERGE_HEAD,
        MERGE_MODE and MERGE_MSG.
    """
    refuse_in_the_way(view, tip=tip, target=half.tree_id, stages=half.stages)
    sides = [side[0] for sides in half.stages.values() for side in sides if side is not None]
    scratch.store(repository, half.tree_id, *sides)
    move_files(repository, tip=tip, target=half.tree_id, stages=half.stages)
    admin_dir = Path(repository.handle.path)
    listed = "".join(f"#\t{path}\n" for path in sorted(half.stages))
    with repository_failures("say that a merge is in progress", path=repository.path):
        _know_files(repository, tip, half)
        for name, text in (
            ("MERGE_MSG", f"{message.rstrip()}\n\n# Conflicts:\n{listed}"),
            ("MERGE_MODE", ""),
            ("MERGE_HEAD", f"{half.source}\n"),
        ):
            write_whole(admin_dir / name, text, own_dir=repository.own_dir)
        end_move(repository)


def _know_files(repository: OpenRepository, tip: str, half: HalfMerge) -> None:
    """Give the index the times and sizes of the files just written, each proved once more.

    ``git merge --abort`` reads no file, and refuses to touch one that the index does not
    know. Waits a tick of the clock, so that a later change shows; without it, or where
    another program has the index locked, ``git status`` has to come first.
    """
    threading.Event().wait(_TICK_S)
    handle = repository.handle
    handle.index.read()
    with suppress(LockedError), IndexDraft(repository) as draft:
        rules = FileRules(handle)
        for path, entry in changes_between(handle, tip, half.tree_id):
            if entry is None or path in half.stages or staged_at(handle, path) != entry:
                continue
            seen = stat_at(Path(handle.workdir), path)
            if seen is not None and file_at(handle, path, rules) == entry:
                draft.put(path, entry[0], FileMode(entry[1]), seen)
        draft.install()
