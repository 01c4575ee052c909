"""The stock git program judges what previews of merges say."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import pygit2
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pygit2.enums import FileMode

from agentrelay.workstream.implementations.workstream_preview import preview_merge
from tests._examples import tries
from tests.interop._stock_git import GIT, run_git

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(GIT is None, reason="there is no git program to judge"),
]

# One file each, a directory where another side may have a file, and a deep one.
_PATHS: Final = ("a", "b", "b/q", "d/x", "d/y", "d/e/z")
_MODES: Final = (FileMode.BLOB, FileMode.BLOB_EXECUTABLE, FileMode.LINK)
_WHO: Final = pygit2.Signature("A", "a@example.invalid", 1_704_067_200)


class Entry(NamedTuple):
    """A file of a tree."""

    lines: tuple[int, ...]
    mode: FileMode = FileMode.BLOB


Tree = Mapping[str, Entry]

_lines = st.lists(st.integers(0, 9), max_size=6).map(tuple)
_edited = st.builds(Entry, _lines, st.sampled_from([FileMode.BLOB] * 4 + list(_MODES)))


def _has_room(tree: Tree) -> bool:
    """Tell whether no file is where another one needs a directory."""
    return not ("b" in tree and "b/q" in tree)


_trees = st.dictionaries(st.sampled_from(_PATHS), _edited, max_size=5).filter(_has_room)


@st.composite
def _sides(draw: st.DrawFn) -> tuple[Tree, Tree, Tree]:
    """Return a tree, and what two sides made of it: files edited, added, deleted."""
    base = draw(_trees)
    sides: list[Tree] = []
    for _ in range(2):
        side = dict(base)
        for path, entry in draw(
            st.dictionaries(st.sampled_from(_PATHS), st.none() | _edited, max_size=3)
        ).items():
            side.pop(path, None)
            if entry is not None:
                side[path] = entry
        if not _has_room(side):
            del side["b"]
        sides.append(side)
    return base, sides[0], sides[1]


def git(repo: Path, *arguments: str) -> tuple[int, str]:
    """Run the stock git without the machine's configuration; return its code and output."""
    done = run_git(repo, *arguments)
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode, done.stdout


def commit(repo: pygit2.Repository, tree: Tree, *parents: str, words: str = "x") -> str:
    """Commit a tree; lines of different paths are never alike, so nothing looks renamed."""
    index = pygit2.Index()
    for path, entry in tree.items():
        text = "".join(f"{path} has {number}{'.' * 40}\n" for number in entry.lines)
        if entry.mode == FileMode.LINK:
            text = f"to/{'-'.join(map(str, entry.lines))}/of/{path}"
        index.add(pygit2.IndexEntry(path, repo.create_blob(text.encode()), entry.mode))
    found = repo.create_commit(
        None, _WHO, _WHO, words, index.write_tree(repo), [pygit2.Oid(hex=each) for each in parents]
    )
    return str(found)


def judged(repo: Path, source: str, target: str) -> tuple[str | None, set[str]]:
    """Return the tree git makes of a merge, or ``None`` and the paths in conflict."""
    code, text = git(repo, "merge-tree", "--write-tree", "-z", "--no-messages", target, source)
    tree, *conflicted = text.rstrip("\0").split("\0")
    if code == 0:
        return tree, set()
    # Of two things at one path, git moves one aside; we name the path itself.
    names = {line.partition("\t")[2] for line in conflicted if "\t" in line}
    return None, {re.sub(r"~[0-9a-f]{40}$", "", name) for name in names}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one bare repository for all examples: commits do not get in each other's way."""
    where = tmp_path_factory.mktemp("merges")
    pygit2.init_repository(str(where), bare=True)
    return where


def test_of_files_where_a_link_was_the_empty_one_gives_way(shared: Path) -> None:
    """Clean with the other's lines, as git has it; both with lines, or modes apart, are not."""
    repo = pygit2.Repository(str(shared))
    base = commit(repo, {"a": Entry((1,), FileMode.LINK)})
    files = [
        Entry(lines, mode)
        for lines in ((), (0,), (2,))
        for mode in (FileMode.BLOB, FileMode.BLOB_EXECUTABLE)
    ]
    clean = 0
    for one, other in itertools.permutations(files, 2):
        source, target = (commit(repo, {"a": side}, base, words="st") for side in (one, other))
        tree, _ = judged(shared, source, target)
        assert preview_merge(shared, source, target=target).tree_id == tree, (one, other)
        clean += tree is not None
    assert clean == 8, "empty beside either text, of the same mode, both ways"


@given(trees=_sides())
@tries(30)
def test_a_preview_is_what_git_says(shared: Path, trees: tuple[Tree, Tree, Tree]) -> None:
    """Clean where git is, with the very tree; else in conflict, at the same paths."""
    repo = pygit2.Repository(str(shared))
    base = commit(repo, trees[0])
    source, target = (
        commit(repo, tree, base, words=name) for tree, name in zip(trees[1:], "st", strict=True)
    )
    tree, paths = judged(shared, source, target)
    found = preview_merge(shared, source, target=target)
    assert (found.is_mergeable, found.tree_id) == (tree is not None, tree)
    assert set(found.paths) == paths


# Eight lines that are in no other file, for renames to be found by.
_LONG: Final = "".join(f"line {number} of the moved file\n" for number in range(8))
_EDITED: Final = _LONG.replace("line 6", "LINE 6")


def merge_of(
    shared: Path, base: dict[str, str], source: dict[str, str], target: dict[str, str]
) -> tuple[str, str]:
    """Commit three trees of plain files, and return the commits of the two sides."""
    repo = pygit2.Repository(str(shared))

    def commit_texts(files: dict[str, str], *parents: pygit2.Oid, words: str = "x") -> pygit2.Oid:
        index = pygit2.Index()
        for path, text in files.items():
            blob = repo.create_blob(text.encode())
            index.add(pygit2.IndexEntry(path, blob, FileMode.BLOB))
        tree = index.write_tree(repo)
        return repo.create_commit(None, _WHO, _WHO, words, tree, list(parents))

    start = commit_texts(base)
    sides = [commit_texts(files, start, words=n) for files, n in ((source, "s"), (target, "t"))]
    return str(sides[0]), str(sides[1])


@pytest.mark.parametrize(
    ("source", "target", "is_mergeable"),
    [
        pytest.param({"new": _LONG}, {"old": _EDITED}, True, id="renamed-and-edited"),
        pytest.param({"new": _EDITED}, {"old": _LONG.replace("line 1", "X")}, True, id="both-edit"),
        pytest.param(
            {"new": _EDITED}, {"old": _LONG.replace("line 6", "X")}, False, id="same-line"
        ),
        pytest.param({"new": _LONG}, {"other": _LONG}, False, id="renamed-to-two-names"),
        pytest.param({"new": _LONG}, {}, False, id="renamed-and-deleted"),
        pytest.param({"new": _LONG}, {"old": _LONG, "new": "x\n"}, False, id="renamed-onto-added"),
        pytest.param({"d/new": _LONG}, {"old": _LONG, "d": "x\n"}, False, id="renamed-below-file"),
    ],
)
def test_renames_are_followed_as_git_does(
    shared: Path, source: dict[str, str], target: dict[str, str], *, is_mergeable: bool
) -> None:
    """A renamed file is merged with what the other side did to it under its old name."""
    sides = merge_of(shared, {"old": _LONG}, source, target)
    for one, other in (sides, sides[::-1]):
        tree, paths = judged(shared, one, other)
        found = preview_merge(shared, one, target=other)
        assert found.is_mergeable == is_mergeable == (tree is not None)
        assert found.tree_id == tree
        assert paths <= set(found.paths)
        assert found.is_certain


def test_a_renamed_directory_is_the_documented_difference(shared: Path) -> None:
    """Git moves a file added to a directory that the other side renamed; libgit2 does not."""
    base = {"old/a": _LONG, "old/b": _LONG.replace("line", "row")}
    moved = {path.replace("old", "new"): text for path, text in base.items()}
    source, target = merge_of(shared, base, {**base, "old/c": "added\n"}, moved)
    found = preview_merge(shared, source, target=target)
    assert judged(shared, source, target) == (None, {"new/c"})
    assert (found.is_mergeable, found.is_certain) == (True, False)


@given(trees=_sides(), last=_sides())
@tries(15)
def test_histories_that_cross_are_merged_as_git_does(
    shared: Path, trees: tuple[Tree, Tree, Tree], last: tuple[Tree, Tree, Tree]
) -> None:
    """With two best common commits, those are merged first; where they conflict we are not sure."""
    repo = pygit2.Repository(str(shared))
    base = commit(repo, trees[0])
    one, other = (
        commit(repo, tree, base, words=name) for tree, name in zip(trees[1:], "st", strict=True)
    )
    source = commit(repo, last[1], one, other, words="s")
    target = commit(repo, last[2], other, one, words="t")
    found = preview_merge(shared, source, target=target)
    assert not found.is_certain
    assume(preview_merge(shared, one, target=other).is_mergeable)
    tree, _ = judged(shared, source, target)
    assert (found.is_mergeable, found.tree_id) == (tree is not None, tree)
