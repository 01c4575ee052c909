"""Replaying commits onto another one, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pygit2
from pygit2.enums import ObjectType, SortMode

from agentrelay.workstream._git.merging import InMemoryMerges, Merged
from agentrelay.workstream._git.repository import OpenRepository

__all__ = ["Replayed", "merge_among", "replay"]


@dataclass
class Replayed:
    """What became of commits that were replayed.

    Attributes:
        tip: Hex id of the last commit.
        made: Hex ids of the commits that are there now, the oldest first.
        dropped: Hex ids of commits that would change nothing any more.
        stopped_at: Hex id of a commit in conflict; those after it were not looked at.
        merged: What is in conflict there.
        is_certain: Whether git would come to the same.
    """

    tip: str
    made: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    stopped_at: str | None = None
    merged: Merged | None = None
    is_certain: bool = True


def merge_among(repository: OpenRepository, onto: str, tip: str) -> str | None:
    """Return a merge, or a commit without parents, among what would be replayed.

    Args:
        repository: Where the history is.
        onto: Hex id of the commit whose history is left out.
        tip: Hex id of the last commit.
    """
    found = (str(commit.id) for commit in _between(repository, onto, tip) if _is_odd(commit))
    return next(found, None)


def _is_odd(commit: pygit2.Commit) -> bool:
    return len(commit.parent_ids) != 1


def replay(
    view: OpenRepository,
    merges: InMemoryMerges,
    history: OpenRepository,
    *,
    onto: str,
    tip: str,
    committer: bytes,
) -> Replayed:
    """Replay what one history has and another has not; none of it is a merge.

    Authors, their dates and messages stay. A commit whose changes are there already, as
    another commit with the same patch or by content, is dropped; one that never had any stays,
    unless it was replayed before.
    A commit that already is where it would come stays the same commit.

    Args:
        view: A handle with the scratch that the commits are made in.
        merges: Merges with the same scratch.
        history: Where the history is.
        onto: Hex id of the commit they come on top of.
        tip: Hex id of the last of them.
        committer: Name, address, time and zone, as a commit has them.

    Source:
        git-rebase(1), ``--empty=drop``, ``--no-reapply-cherry-picks``, ``--no-force-rebase``.
    """
    commits = [*_between(history, onto, tip)]
    there = _same_patches(history, commits, onto=onto, tip=tip)
    done = Replayed(onto)
    for commit in commits:
        name, parent = str(commit.id), str(commit.parent_ids[0])
        if name in there:
            done.dropped.append(name)
            continue
        if parent == done.tip:
            done.tip = name
            done.made.append(name)
            continue
        merged = merges.pick(name, parent, done.tip)
        if merged.tree_id is None:
            done.stopped_at, done.merged = name, merged
            return done
        done.is_certain = done.is_certain and merged.is_certain
        before = str(view.handle[done.tip].peel(pygit2.Tree).id)
        was_empty = commit.tree_id == commit.parents[0].tree_id
        if merged.tree_id == before and not was_empty:
            done.dropped.append(name)
            continue
        data = _recommitted(commit.read_raw(), merged.tree_id, done.tip, committer)
        done.tip = str(view.handle.odb.write(ObjectType.COMMIT, data))
        done.made.append(done.tip)
    return done


def _between(repository: OpenRepository, onto: str, tip: str) -> Iterator[pygit2.Commit]:
    """Yield the commits that would be replayed, the oldest first."""
    walker = repository.handle.walk(tip, SortMode.TOPOLOGICAL | SortMode.REVERSE)
    walker.hide(onto)
    yield from walker


def _recommitted(raw: bytes, tree: str, parent: str, committer: bytes) -> bytes:
    """Return a commit with another tree, parent and committer, and all else as it was.

    As bytes: names and messages need not be text. A signature does not hold any more.

    Source:
        gitformat-signature(5), "commit": a header of several lines goes on after a space.
    """
    header, _, message = raw.partition(b"\n\n")
    lines = [f"tree {tree}".encode(), f"parent {parent}".encode()]
    lines += [line for line in header.split(b"\n") if line.startswith(b"author ")]
    lines.append(b"committer " + committer)
    lines += [line for line in header.split(b"\n") if line.startswith(b"encoding ")]
    return b"\n".join(lines) + b"\n\n" + message


def _same_patches(
    repository: OpenRepository, commits: Sequence[pygit2.Commit], *, onto: str, tip: str
) -> set[str]:
    """Return those of some commits whose very patch is on the other side as well.

    Most commits differ by their paths already: a patch is made only where those are the same.

    Source:
        git-patch-id(1).
    """
    mine: dict[frozenset[bytes], list[tuple[pygit2.Commit, pygit2.Diff]]] = {}
    for commit in commits:
        diff = _diff(commit)
        mine.setdefault(_paths(diff), []).append((commit, diff))
    found: set[str] = set()
    if not mine:
        return found
    for other in _between(repository, tip, onto):
        if _is_odd(other):
            continue
        diff = _diff(other)
        paths = _paths(diff)
        for own, own_diff in mine.get(paths, ()):
            # Those without any patch are told apart by whoever made them: a rebase that is
            # repeated must not make them again.
            is_same = own_diff.patchid == diff.patchid if paths else _origin(own) == _origin(other)
            if is_same:
                found.add(str(own.id))
    return found


def _origin(commit: pygit2.Commit) -> tuple[bytes, int, bytes]:
    """Return what stays of a commit that is replayed."""
    return commit.author.raw_email, commit.author.time, commit.raw_message


def _diff(commit: pygit2.Commit) -> pygit2.Diff:
    return commit.parents[0].tree.diff_to_tree(commit.tree)


def _paths(diff: pygit2.Diff) -> frozenset[bytes]:
    return frozenset(delta.new_file.raw_path for delta in diff.deltas)
