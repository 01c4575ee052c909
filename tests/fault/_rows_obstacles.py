"""Rows of the fault matrix: what crashes and people leave in a lane's way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pygit2

from agentrelay.workstream import LaneBusyError, LaneConflictError, WorkstreamError
from agentrelay.workstream.testing import commit_files, refs
from tests.fault._injectors import Inject, Where, in_git
from tests.fault._matrix import BRANCH, REF, Place, Row, Step
from tests.fault._trouble import quick_clock

__all__ = ["ROWS"]

_LOCK: Final = "Lock files nobody removes"
_WAY: Final = "Things in the way"


def locked(where: Where) -> Inject:
    """Leave the lock file of a git that crashed."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        path = where(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        with quick_clock():
            yield
        # With the worktree, its own lock goes too; any other stays.
        if path.parent.is_dir():
            assert path.read_bytes() == b""
            path.unlink()

    return inject


@contextmanager
def packed(place: Place) -> Iterator[None]:
    """Pack the lane's branch, then leave the lock of a ``git pack-refs`` that crashed."""
    place.handle().compress_references()
    with locked(in_git("packed-refs.lock"))(place):
        yield


def a_ref(name: str) -> Inject:
    """Have a ref where a lane's refs need a directory, or the reverse."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        place.handle().references.create(name, refs(place.repo)["refs/heads/main"])
        yield
        assert refs(place.repo)[name] == refs(place.repo)["refs/heads/main"]
        place.handle().references.delete(name)

    return inject


def a_file_at(name: str) -> Inject:
    """Have a file where a directory is needed."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        path = place.repo / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
        yield
        assert path.read_text() == "mine"
        path.unlink()

    return inject


def a_link_at(name: str) -> Inject:
    """Have a link to a directory elsewhere where a directory is needed."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        path = place.repo / name
        kept = path.with_name(f"{path.name}-aside")
        if path.exists():
            path.rename(kept)
        path.parent.mkdir(parents=True, exist_ok=True)
        target = place.root / "neighbour"
        is_file = kept.is_file() or path.suffix == ".lock"
        path.symlink_to(target / "precious.txt" if is_file else target)
        yield
        path.unlink()
        if kept.exists():
            kept.rename(path)

    return inject


@contextmanager
def somebodys_folder(place: Place) -> Iterator[None]:
    """Have somebody's files where the worktree belongs."""
    place.worktree.mkdir(parents=True)
    (place.worktree / "thesis.txt").write_text("mine")
    yield
    assert (place.worktree / "thesis.txt").read_text() == "mine"
    shutil.rmtree(place.worktree)


@contextmanager
def another_branch(place: Place) -> Iterator[None]:
    """Let an agent switch the worktree to a branch of its own."""
    handle = pygit2.Repository(str(place.worktree))
    tip = handle.head.target
    handle.references.create("refs/heads/agents-own", tip)
    handle.set_head("refs/heads/agents-own")
    commit_files(place.worktree, {"more.py": "pass\n"}, message="more")
    yield
    handle.set_head(REF)
    handle.index.remove("more.py")
    handle.index.write()
    (place.worktree / "more.py").unlink()
    handle.references.delete("refs/heads/agents-own")


@contextmanager
def a_link_for_trash(place: Place) -> Iterator[None]:
    """Have a link to somebody's directory where crashed clean-ups leave theirs."""
    (place.repo / ".worktrees" / ".trash").symlink_to(place.root / "neighbour")
    yield
    (place.repo / ".worktrees" / ".trash").unlink()


@contextmanager
def a_link_for_scratch(place: Place) -> Iterator[None]:
    """Have a link to somebody's file where packed refs are written before they are renamed."""
    place.handle().compress_references()
    (place.git_dir / "agentrelay" / "packed-refs").symlink_to(
        place.root / "neighbour" / "precious.txt"
    )
    yield


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
        return Row(part, fault, step, inject, error, says, **{"over": "path", **more})

    part = _LOCK
    busy = LaneBusyError
    yield row("prepare", "config.lock", locked(in_git("config.lock")), busy, "config.lock")
    yield row("prepare", f"{REF}.lock", locked(in_git(f"{REF}.lock")), busy, f"{REF}.lock")
    tracking = f"refs/remotes/origin/{BRANCH}"
    yield row(
        "prepare", f"{tracking}.lock", locked(in_git(f"{tracking}.lock")), busy, f"{tracking}.lock"
    )
    for name in ("HEAD.lock", "packed-refs.lock", "index.lock", "FETCH_HEAD.lock"):
        yield row("prepare", name, locked(in_git(name)), None)
    yield row("teardown", "config.lock", locked(in_git("config.lock")), busy, "config.lock")
    yield row("teardown", f"{REF}.lock", locked(in_git(f"{REF}.lock")), busy, f"{REF}.lock")
    yield row(
        "teardown", "packed-refs.lock, the branch being packed", packed, busy, "packed-refs.lock"
    )
    yield row(
        "integrate",
        "the worktree's index.lock",
        locked(lambda place: place.admin_dir / "index.lock"),
        None,
    )
    yield row(
        "teardown",
        "the worktree's index.lock",
        locked(lambda place: place.admin_dir / "index.lock"),
        None,
    )

    part = _WAY
    conflict = LaneConflictError
    moved = "it was moved out of the way, then the same call"
    for name in ("agentrelay", "agentrelay/nightly"):
        yield row(
            "prepare",
            f"a local branch named {name}",
            a_ref(f"refs/heads/{name}"),
            conflict,
            f"refs/heads/{name}",
            again=moved,
        )
    yield row(
        "prepare",
        "a local branch below the lane's",
        a_ref(f"{REF}/deeper"),
        conflict,
        f"{REF}/deeper",
        again=moved,
    )
    for name in ("agentrelay", "agentrelay/nightly"):
        yield row(
            "prepare",
            f"a stale tracking ref of {name}",
            a_ref(f"refs/remotes/origin/{name}"),
            conflict,
            f"refs/remotes/origin/{name}",
            again=moved,
        )
    for name in (".worktrees", ".workflow", ".workflow/nightly"):
        yield row(
            "prepare", f"a file at {name}", a_file_at(name), conflict, f"REPO/{name}", again=moved
        )
    for name in (
        ".worktrees",
        ".worktrees/nightly",
        ".workflow",
        ".workflow/nightly/workstreams",
        ".git/agentrelay",
        ".git/agentrelay/repository.lock",
        ".git/refs/heads/agentrelay",
        ".git/refs/remotes/origin/agentrelay",
        ".git/logs/refs/heads/agentrelay",
        ".git/worktrees",
        ".git/info/exclude",
    ):
        yield row(
            "prepare",
            f"a link that leads elsewhere at {name}",
            a_link_at(name),
            conflict,
            f"REPO/{name}",
            again=moved,
        )
    yield row(
        "teardown",
        "a link that leads elsewhere at .worktrees/.trash",
        a_link_for_trash,
        conflict,
        "REPO/.worktrees/.trash",
        again=moved,
    )
    yield row(
        "teardown",
        "a link that leads elsewhere at .git/agentrelay/packed-refs",
        a_link_for_scratch,
        None,
    )
    yield row(
        "prepare",
        "somebody's folder where the worktree belongs",
        somebodys_folder,
        conflict,
        "thesis.txt",
        again=moved,
    )
    yield row(
        "integrate",
        "the worktree is on another branch",
        another_branch,
        conflict,
        "agents-own",
        again="the worktree was switched back, then the same call",
    )


ROWS: Final = tuple(_rows())
