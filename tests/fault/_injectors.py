"""Ways to bring a fault about that rows of several kinds share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from agentrelay.workstream import WorkstreamError
from agentrelay.workstream.testing import Fault
from tests.fault._matrix import Place, Row, Step

__all__ = ["Inject", "Where", "at_github", "in_git", "pointed_at", "row", "written"]

Inject = Callable[[Place], AbstractContextManager[None]]
Where = Callable[[Place], Path]


def at_github(*faults: Fault) -> Inject:
    """Plan misbehaviour of the GitHub double."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        place.world.github.faults.add(*faults)
        yield
        place.world.github.faults.clear()

    return inject


@contextmanager
def pointed_at(place: Place, url: str) -> Iterator[None]:
    """Let ``origin`` lead to another address for a while."""
    before = next(remote.url for remote in place.handle().remotes if remote.name == "origin")
    assert before is not None
    place.handle().remotes.set_url("origin", url)
    yield
    place.handle().remotes.set_url("origin", before)


def row(
    part: str,
    step: Step,
    fault: str,
    inject: Inject,
    error: type[WorkstreamError] | None,
    *says: str,
    **more: Any,
) -> Row:
    """Make a row of the matrix, the words that must be said last."""
    return Row(part, fault, step, inject, error, says, **more)


@contextmanager
def written(path: Path, data: bytes) -> Iterator[None]:
    """Let a file hold something else for a while."""
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    yield
    if before is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(before)


def in_git(name: str) -> Where:
    """Return where a file of the repository is."""
    return lambda place: place.git_dir / name
