"""A process that is stopped anywhere leaves a lane that the next call completes.

No moment is listed anywhere. An undisturbed run is watched, by the interpreter and by the
kernel; then the same run is stopped at each moment that was seen, repeated, and compared.
Cases are found in ``_crash_cases.py``, ``_crash_cases_after.py`` and ``_crash_cases_tasks.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import pytest

from agentrelay.workstream.testing import World
from tests.fault import _crash_cases, _crash_cases_after, _crash_cases_tasks
from tests.fault._crash import Stage
from tests.fault._crash_syscalls import can_trace

T = TypeVar("T")

_CASES: Final = {**_crash_cases.CASES, **_crash_cases_after.CASES, **_crash_cases_tasks.CASES}

# "all" takes an hour or more; one of each kind for each case takes seconds.
_WANTED: Final = os.environ.get("AGENTRELAY_CRASH_POINTS", "1")

pytestmark = [
    pytest.mark.child,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked"),
    # A child is only a client of the servers whose threads it does not have.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
    # What is interrupted while it is made is taken apart half made, pygit2's objects too.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(0 if _WANTED == "all" else 300),
]


def some(moments: Sequence[T], offset: int) -> Sequence[T]:
    """Return all moments, or a few that are spread evenly, not the same ones everywhere."""
    if _WANTED == "all" or not moments:
        return moments
    stride = max(1, len(moments) // int(_WANTED))
    return moments[offset % stride :: stride]


def disturb(stop: Callable[[T], None], moments: Sequence[T]) -> Iterator[str]:
    """Stop at each of the moments, and yield what went wrong."""
    for moment in moments:
        try:
            stop(moment)
        except Exception as failure:  # noqa: BLE001 - reported with the others
            yield f"{stop.__name__} {moment}: {type(failure).__name__}: {failure}"


@pytest.mark.parametrize("name", sorted(_CASES))
def test_whatever_moment_a_run_is_stopped_at_the_next_call_makes_it_good(
    tmp_path: Path, name: str
) -> None:
    """Nothing of the user's is out of reach meanwhile, and a repeat ends like a run in peace.

    Killed at a system call, wherever a library was in its writing; killed at a line of ours
    or at a change the interpreter announced; interrupted as by Ctrl-C, after which the same
    objects do it again: no lock stays held, and no half state in memory is used.
    """
    with World(tmp_path / "world", token=None) as world:
        stage = Stage(world, _CASES[name])
        moments = stage.moments
        assert {moment[0] for moment in moments} == {"line", "write", "call"}
        calls = range(1, stage.count_calls() + 1 if can_trace() else 1)
        shift = len(moments)
        failures = [
            *disturb(stage.killed_at_call, some(calls, shift)),
            *disturb(stage.killed_at, some([m for m in moments if m[0] != "call"], shift)),
            *disturb(stage.interrupted_at, some(moments, shift)),
        ]
    assert not failures, "\n".join([f"{len(failures)} moments", *failures])
