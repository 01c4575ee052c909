"""A task that is cancelled at any step leaves a lane that the verb itself completes.

No step is listed anywhere. An undisturbed run is listened to; then the same run, awaited,
is cancelled as each step begins, stops at the next one, is repeated without asyncio, and
compared. Cases are those of the crash harness.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from agentrelay.workstream import aio
from agentrelay.workstream.events import EventOutcome, LaneEvent, listening
from agentrelay.workstream.testing import World
from tests.fault import _crash_cases, _crash_cases_after, _crash_cases_tasks
from tests.fault._crash import Stage

_CASES: Final = {**_crash_cases.CASES, **_crash_cases_after.CASES, **_crash_cases_tasks.CASES}
# As for crash points: "all" takes every step of every case.
_WANTED: Final = os.environ.get("AGENTRELAY_CRASH_POINTS", "1")
# Longer than any machine stalls.
_LONG_S: Final = 60.0
# Turns of the loop until a task that was cancelled has been told so, and more.
_TURNS: Final = 10

pytestmark = pytest.mark.timeout(0 if _WANTED == "all" else 300)


class _Begins:
    """Counts what begins, and cancels a task when it is at a number.

    Attributes:
        names: What began so far: verbs, and steps.
    """

    def __init__(self, cancel_at: int | None = None) -> None:
        self.names: list[str] = []
        self.task: asyncio.Task[object] | None = None
        self._cancel_at = cancel_at
        self._loop: asyncio.AbstractEventLoop | None = None
        self._counting = threading.Lock()

    def __call__(self, event: LaneEvent) -> None:
        if event.outcome is not EventOutcome.STARTED:
            return
        with self._counting:
            self.names.append(event.step or event.verb)
            is_it = self._cancel_at == len(self.names) - 1
        if is_it and self._loop is not None and self.task is not None:
            # This thread goes on when the task has been told.
            told = threading.Event()
            self._loop.call_soon_threadsafe(self._cancel, told, 0)
            assert told.wait(_LONG_S)

    def _cancel(self, told: threading.Event, turn: int) -> None:
        assert self._loop is not None
        assert self.task is not None
        if turn == 0:
            self.task.cancel()
        if turn == _TURNS:
            told.set()
        else:
            self._loop.call_soon(self._cancel, told, turn + 1)

    async def run(self, stage: Stage) -> bool:
        """Do it in a task; return whether that was cancelled."""
        self._loop = asyncio.get_running_loop()
        with listening(self):
            self.task = asyncio.create_task(aio.call(stage.case.act, stage.case.runtime))
        try:
            await self.task
        except asyncio.CancelledError:
            return True
        return False


def _chosen(numbers: Sequence[int], name: str) -> Sequence[int]:
    """Return all steps of the main cases, and one of each other, not always the same."""
    if _WANTED == "all" or name in _MAIN:
        return numbers
    return numbers[len(name) % len(numbers) :: max(1, len(numbers) // int(_WANTED))][:1]


# At every step, also when others are tried at one.
_MAIN: Final = {"prepare_afresh", "integrate_for_the_first_time", "teardown_of_a_clean_lane"}
# One case of each verb, batches among them; with "all", all there are.
_SOME: Final = _MAIN | {
    min(name for name in _CASES if name.startswith(verb)) for verb in _crash_cases.VERBS
}


@pytest.mark.parametrize("name", sorted(_CASES if _WANTED == "all" else _SOME))
def test_whatever_step_a_task_is_cancelled_at_the_verb_completes_it(
    tmp_path: Path, name: str
) -> None:
    """Nothing is lost meanwhile, no lock stays held, and a repeat ends like a run in peace."""
    with World(tmp_path / "world", token=None) as world:
        stage = Stage(world, _CASES[name])
        stage.put_back()
        begins = _Begins()
        assert not asyncio.run(begins.run(stage))
        steps = range(len(begins.names))
        assert len(steps) > 1
        failures = []
        for number in _chosen(steps, name):
            stage.put_back()
            counted = _Begins(cancel_at=number)
            was_cancelled = asyncio.run(counted.run(stage))
            # The last step is ended before anybody looks.
            assert was_cancelled
            if number < len(steps) - 1 and len(counted.names) > number + _most_at_once(name):
                failures.append(f"{begins.names[number]}: went on to {counted.names}")
            try:
                stage._and_then()
            except Exception as failure:  # noqa: BLE001 - reported with the others
                failures.append(f"{begins.names[number]}: {type(failure).__name__}: {failure}")
    assert not failures, "\n".join(failures)


def _most_at_once(name: str) -> int:
    """Return how many steps may begin until all threads are stopped: those of a batch are four."""
    return 1 if "batch" not in name else 5
