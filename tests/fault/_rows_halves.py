"""Rows of the fault matrix: lanes of which only a half is there, and what others hold on to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pygit2

from agentrelay.workstream import LaneConflictError, WorkstreamError
from agentrelay.workstream._git.worktree_entries import INITIALIZING
from tests.fault._injectors import Inject
from tests.fault._matrix import REF, Place, Row, Step

__all__ = ["ROWS"]

_HALVES: Final = "Half-made and half-gone lanes"
_HELD: Final = "What somebody holds on to"


def standing(broken: Callable[[Place], object]) -> Inject:
    """Prepare the lane, then break it; the next prepare is the step."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        assert place.do("prepare").error is None
        broken(place)
        yield

    return inject


def _no_folder(place: Place) -> None:
    shutil.rmtree(place.worktree)


def _no_branch(place: Place) -> None:
    (place.git_dir / REF).unlink()


def _no_branch_and_no_folder(place: Place) -> None:
    _no_folder(place)
    _no_branch(place)


def _no_remote_branch(place: Place) -> None:
    (place.bare / REF).unlink()


def _no_upstream(place: Place) -> None:
    config = place.git_dir / "config"
    config.write_text(config.read_text().partition('[branch "agentrelay')[0])


def _no_signals(place: Place) -> None:
    for path in place.lane.signal_dir.iterdir():
        if path.name != "lane.json":
            path.unlink()


def _no_files(place: Place) -> None:
    """Leave what a kill in the middle of a checkout leaves."""
    (place.admin_dir / "locked").write_text(INITIALIZING)
    for path in place.worktree.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (place.admin_dir / "index").unlink()


@contextmanager
def moved(place: Place) -> Iterator[None]:
    """Move the worktree elsewhere, as ``git worktree move`` does."""
    assert place.do("prepare").error is None
    elsewhere = place.repo / ".worktrees" / "elsewhere"
    place.worktree.rename(elsewhere)
    (place.admin_dir / "gitdir").write_text(f"{elsewhere / '.git'}\n")
    yield
    place.worktree.parent.mkdir(exist_ok=True)
    elsewhere.rename(place.worktree)
    (place.admin_dir / "gitdir").write_text(f"{place.worktree / '.git'}\n")


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Have somebody lock the worktree."""
    (place.admin_dir / "locked").write_text("on a disk that comes and goes\n")
    yield
    assert (place.worktree / "unsaved.txt").read_text() == "unsaved"
    (place.admin_dir / "locked").unlink()


@contextmanager
def checked_out_elsewhere(place: Place) -> Iterator[None]:
    """Have a person look at the lane's branch in a worktree of their own."""
    handle = place.handle()
    path = place.root / "look"
    # Libgit2 refuses a second checkout of a branch; so does git, unless it is forced.
    handle.references.create("refs/heads/look", handle.references[REF].target)
    handle.add_worktree("look", str(path), handle.references["refs/heads/look"])
    (place.git_dir / "worktrees" / "look" / "HEAD").write_text(f"ref: {REF}\n")
    yield
    shutil.rmtree(path)
    shutil.rmtree(place.git_dir / "worktrees" / "look")
    pygit2.Repository(str(place.repo)).references.delete("refs/heads/look")


@contextmanager
def open_pull(place: Place) -> Iterator[None]:
    """Have a pull request under review."""
    assert place.do("integrate").error is None
    yield
    place.world.github.close_pull(1)


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

    part = _HALVES
    for fault, broken in (
        ("the worktree's folder was deleted", _no_folder),
        ("the branch was deleted", _no_branch),
        ("folder and branch were deleted", _no_branch_and_no_folder),
        ("the remote's branch was deleted", _no_remote_branch),
        ("the upstream was unset", _no_upstream),
        ("the signals were deleted", _no_signals),
        ("a checkout was killed before it wrote a file", _no_files),
    ):
        yield row("prepare", fault, standing(broken), None)
    yield row(
        "prepare",
        "the worktree was moved",
        moved,
        LaneConflictError,
        "elsewhere",
        again="it was moved back, then the same call",
    )

    part = _HELD
    yield row(
        "teardown",
        "the worktree is locked",
        locked,
        LaneConflictError,
        "on a disk that comes and goes",
        again="it was unlocked, then the same call",
    )
    yield row(
        "teardown",
        "the branch is checked out elsewhere",
        checked_out_elsewhere,
        LaneConflictError,
        "ROOT/look",
        again="that checkout was removed, then the same call",
    )
    yield row("teardown", "its pull request is open", open_pull, None, comparable=False)


ROWS: Final = tuple(_rows())
