"""Rows of the fault matrix: names, and repositories, made to do harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pygit2
from pygit2.enums import ObjectType

from agentrelay.workstream import LaneNameError, RepositoryError, WorkstreamError, WorkstreamSpec
from agentrelay.workstream.testing import read_tree, refs
from tests.fault._injectors import Inject
from tests.fault._matrix import REF, Place, Row, Step

__all__ = ["ROWS"]

Entry = tuple[int, bytes, str]
# Makes a tree from place, repository and a blob's id; returns its id.
Make = Callable[[Place, pygit2.Repository, str], str]


_NAMES: Final = "Hostile names"
_TREES: Final = "Hostile contents"
_BLOB: Final = 0o100644
_TREE: Final = 0o40000
_LINK: Final = 0o120000
_COMMIT: Final = 0o160000


def named(workstream_id: str = "parser", *, graph: str = "nightly", base: str = "main") -> Inject:
    """Ask for a lane of another name."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        before = place.spec, place.graph
        place.spec = WorkstreamSpec(workstream_id, base_branch=base)
        place.graph = graph
        yield
        assert place.world.git.requests == ()
        assert not (place.git_dir / "agentrelay").exists()
        place.spec, place.graph = before

    return inject


def _object(repo: pygit2.Repository, kind: ObjectType, data: bytes) -> str:
    """Write an object as it is, with none of libgit2's checks."""
    return str(repo.write(kind, data))


def _tree(repo: pygit2.Repository, entries: Sequence[Entry]) -> str:
    """Write a tree of any names."""
    lines = [
        f"{mode:o} ".encode() + name + b"\0" + bytes.fromhex(ident) for mode, name, ident in entries
    ]
    return _object(repo, ObjectType.TREE, b"".join(lines))


def _commit(place: Place, repo: pygit2.Repository, ref: str, make: Make) -> str:
    """Commit a tree of any kind to a branch; return the commit's id."""
    tree = make(place, repo, _object(repo, ObjectType.BLOB, b"hostile\n"))
    who = "A <a@example.com> 1800000000 +0000"
    lines = f"tree {tree}\nparent {repo.references[ref].target}\n"
    lines += f"author {who}\ncommitter {who}\n\nhostile\n"
    made = _object(repo, ObjectType.COMMIT, lines.encode())
    repo.references.create(ref, made, force=True)
    return made


def committed(make: Make) -> Inject:
    """Let the agent have committed a tree, with plumbing: the worktree has none of it."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        repo = place.handle()
        made = _commit(place, repo, REF, make)
        yield
        tips = [repo.references[ref].peel(pygit2.Commit).id for ref in refs(place.repo)]
        assert any(str(tip) == made for tip in tips)

    return inject


def left_behind(make: Callable[[Path], None]) -> Inject:
    """Let the agent have left files that no commit has."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        make(place.worktree)
        yield
        assert not place.worktree.exists()

    return inject


def _many_files(worktree: Path) -> None:
    """Write a folder of many files, and yet so few that they are unlinked before the end."""
    (worktree / "many").mkdir()
    for number in range(900):
        (worktree / "many" / f"file-{number:05}").write_text("x")


def _deep_ignored(worktree: Path) -> None:
    """Nest folders that git ignores, deeper than libgit2 looks and less than a path is long."""
    (worktree / ".gitignore").write_text("d/\n")
    path = worktree
    for _ in range(150):
        path /= "d"
        path.mkdir()
    (path / "leaf.txt").write_text("precious")


def holding(make: Make, *, is_clean: bool = False) -> Inject:
    """Let the base branch hold a tree for a while.

    Args:
        make: Makes the tree from place, repository and a blob's id; returns its id.
        is_clean: Whether the worktree must then be exactly what the tree says.
    """

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        repo = pygit2.Repository(str(place.bare))
        before = repo.references["refs/heads/main"].target
        _commit(place, repo, "refs/heads/main", make)
        yield
        if is_clean:
            assert pygit2.Repository(str(place.worktree)).status() == {}
            files = read_tree(place.repo, REF)
            assert files
            assert all((place.worktree / name).lstat() for name in files)
        repo.references.create("refs/heads/main", before, force=True)

    return inject


def _over_a_link(place: Place, repo: pygit2.Repository, blob: str) -> str:
    """A link that leads out of the worktree, and files below it."""
    outside = _object(repo, ObjectType.BLOB, str(place.root / "neighbour").encode())
    inner = _tree(repo, [(_BLOB, b"precious.txt", blob)])
    return _tree(repo, [(_LINK, b"sub", outside), (_TREE, b"sub", inner)])


def _entry(name: bytes, *, mode: int = _BLOB) -> Make:
    """One entry of a name; a folder gets a file called ``config``."""

    def make(_: Place, repo: pygit2.Repository, blob: str) -> str:
        ident = _tree(repo, [(_BLOB, b"config", blob)]) if mode == _TREE else blob
        return _tree(repo, [(mode, name, ident)])

    return make


def _deep(_: Place, repo: pygit2.Repository, blob: str) -> str:
    """A tree deeper than any path may be long."""
    ident = _tree(repo, [(_BLOB, b"bottom", blob)])
    for _level in range(500):
        ident = _tree(repo, [(_TREE, b"deeper-down", ident)])
    return ident


def _nested(_: Place, repo: pygit2.Repository, blob: str) -> str:
    """A tree nearly as deep as libgit2 looks."""
    ident = _tree(repo, [(_BLOB, b"bottom", blob)])
    for _level in range(90):
        ident = _tree(repo, [(_TREE, b"d", ident)])
    return ident


def _wide(_: Place, repo: pygit2.Repository, blob: str) -> str:
    """A directory of many files."""
    return _tree(repo, [(_BLOB, f"file-{number:05}".encode(), blob) for number in range(1000)])


def _devices(_: Place, repo: pygit2.Repository, blob: str) -> str:
    """Names that are devices elsewhere, and names that differ by case alone."""
    names = (b"AUX", b"README", b"Readme", b"con.txt", b"readme")
    return _tree(repo, [(_BLOB, name, blob) for name in names])


def _submodule(_: Place, repo: pygit2.Repository, blob: str) -> str:
    """A submodule whose name, path and address are attacks."""
    text = b'[submodule "../../hooks"]\n\tpath = lib\n\turl = ext::sh -c touch% /tmp/ran\n'
    text += b"\tupdate = !touch ran\n"
    modules = _object(repo, ObjectType.BLOB, text)
    return _tree(repo, [(_BLOB, b".gitmodules", modules), (_COMMIT, b"lib", blob)])


def _attributes(_: Place, repo: pygit2.Repository, blob: str) -> str:
    """Attributes that ask for programs and for every conversion there is."""
    lines = b"*.bin filter=lfs diff=lfs merge=lfs -text\n*.id ident\n*.crlf text eol=crlf\n"
    lines += b"*.odd filter=evil working-tree-encoding=none-such\n"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    return _tree(repo, [
        (_BLOB, b".gitattributes", _object(repo, ObjectType.BLOB, lines)),
        (_BLOB, b"a.bin", _object(repo, ObjectType.BLOB, pointer)),
        (_BLOB, b"a.crlf", blob),
        (_BLOB, b"a.id", _object(repo, ObjectType.BLOB, b"$Id$\n")),
        (_BLOB, b"a.odd", blob),
    ])  # fmt: skip


def _rows() -> Iterator[Row]:
    """Yield the rows, in the page's order."""

    def row(
        step: Step,
        fault: str,
        inject: Inject,
        error: type[WorkstreamError] | None,
        *says: str,
        **more: Any,
    ) -> Row:
        return Row(part, fault, step, inject, error, says, **more)

    wrong = RepositoryError
    part = _NAMES
    proper = "with a proper name"
    for name in (
        "../../etc",
        "a/b",
        "CON",
        "x.lock",
        "-rf",
        "a\nb",
        'x"]\n[core]\n\teditor = evil',
        "x" * 300,
        "caf\u00e9",
        "@{u}",
        "",
    ):
        shown = name if len(name) < 100 else f"{name[:10]}... ({len(name)} characters)"
        yield row(
            "prepare",
            f"a workstream called {shown!a}",
            named(name),
            LaneNameError,
            "workstream id",
            again=proper,
        )
    yield row(
        "prepare",
        "a graph called '..'",
        named(graph=".."),
        LaneNameError,
        "graph name",
        again=proper,
    )
    yield row(
        "prepare",
        "a base branch called '--upload-pack=evil'",
        named(base="--upload-pack=evil"),
        LaneNameError,
        "base branch",
        again=proper,
    )

    part = _TREES
    cleaned = {"again": "the base was cleaned, then the same call", "over": "path"}
    refused = "check out the files"
    yield row(
        "prepare",
        "a link that leads out of the worktree, and a file below it",
        holding(_over_a_link),
        wrong,
        refused,
        **cleaned,
    )
    for entry in (b".git", b".GIT", b"..", b".", b"/etc/evil", b"git~1"):
        kind = _BLOB if entry == b"/etc/evil" else _TREE
        yield row(
            "prepare",
            f"an entry called {entry.decode()!a}",
            holding(_entry(entry, mode=kind)),
            wrong,
            **cleaned,
        )
    yield row(
        "prepare",
        ".gitmodules as a link",
        holding(_entry(b".gitmodules", mode=_LINK)),
        wrong,
        refused,
        **cleaned,
    )
    yield row("prepare", "a tree deeper than a path may be long", holding(_deep), wrong, **cleaned)
    stands = {"comparable": False, "over": "path"}
    yield row("prepare", "a directory of 1000 files", holding(_wide, is_clean=True), None, **stands)
    yield row("prepare", "folders nested 90 deep", holding(_nested, is_clean=True), None, **stands)
    for what, make in (
        ("a directory of 1000 files", _wide),
        ("folders nested 90 deep", _nested),
        ("a tree deeper than a path may be long", _deep),
        ("an entry called '.git'", _entry(b".git", mode=_TREE)),
    ):
        yield row("teardown", f"the agent committed {what}", committed(make), None, **stands)
    yield row(
        "teardown",
        "the agent left a folder of 900 files",
        left_behind(_many_files),
        None,
        **stands,
    )
    yield row(
        "teardown",
        "the agent left ignored folders nested 150 deep",
        left_behind(_deep_ignored),
        None,
        **stands,
    )
    yield row("prepare", "an entry whose name is a path", holding(_entry(b"a/b")), None, **stands)
    yield row(
        "prepare",
        "names of devices, and names that differ by case",
        holding(_devices, is_clean=True),
        None,
        **stands,
    )
    yield row(
        "prepare",
        "a submodule whose name, address and update are attacks",
        holding(_submodule),
        None,
        **stands,
    )
    yield row(
        "prepare",
        "attributes that ask for filters, ident, line ends and encodings",
        holding(_attributes, is_clean=True),
        None,
        **stands,
    )


ROWS: Final = tuple(_rows())
