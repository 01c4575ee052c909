"""Every fault ends in a typed error and a lane that the next try completes.

The rows are data: see the modules named ``_rows_``. What each saw is compared with
``docs/fault-matrix.md``, which is written from here.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Literal

import pytest

import agentrelay.workstream as front_door
from agentrelay.workstream import LaneWorkspace, WorkstreamError
from agentrelay.workstream.testing import World
from tests.fault import (
    _rows_contents,
    _rows_halves,
    _rows_hosts,
    _rows_machine,
    _rows_network,
    _rows_obstacles,
    _rows_planted,
    _rows_tampered,
    _rows_verbs,
)
from tests.fault._matrix import BRANCH, Place, Row, Seen, Step
from tests.fault._matrix_page import COMMAND, PAGE, Record, read_page, render_page, write_page
from tests.fault._plain_words import assert_no_secret
from tests.fault._verbs import VERBS, do, is_told_by_concerns, reach

_BY_HAND: Final = (
    *_rows_network.ROWS,
    *_rows_hosts.ROWS,
    *_rows_machine.ROWS,
    *_rows_obstacles.ROWS,
    *_rows_halves.ROWS,
    *_rows_contents.ROWS,
    *_rows_planted.ROWS,
    *_rows_tampered.ROWS,
)
_ROWS: Final = (*_BY_HAND, *_rows_verbs.rows_besides({row.name for row in _BY_HAND}))
_VARIABLE: Final = COMMAND.partition("=")[0]

Places = Callable[[str, Literal["http", "path"]], Place]


@pytest.fixture
def places(tmp_path: Path, hermetic_git: Path) -> Iterator[Places]:
    """Return a maker of places."""
    with ExitStack() as stack:

        def make(name: str, over: Literal["http", "path"]) -> Place:
            root = tmp_path / name
            home = hermetic_git / name
            home.mkdir()
            world = stack.enter_context(World(root / "world"))
            return Place(world, home, root.resolve(), over)

        yield make


@pytest.fixture(scope="session")
def records() -> Iterator[dict[str, Record]]:
    """Collect what the rows see; in the end the page is written, if that is asked for."""
    seen = read_page()
    yield seen
    if _VARIABLE in os.environ:
        write_page([seen[row.name] for row in _ROWS if row.name in seen])


@pytest.fixture(scope="module")
def undisturbed() -> dict[tuple[Step, str], Any]:
    """Remember how each step ends when nothing happens to it."""
    return {}


def _undisturbed_end(
    cache: dict[tuple[Step, str], Any], places: Places, step: Step, over: Literal["http", "path"]
) -> Any:
    """Return the picture after a step that nothing disturbed, made once a step."""
    if (step, over) not in cache:
        place = places("undisturbed", over)
        reach(place, step)
        assert do(place, step).error is None
        cache[step, over] = place.picture()
    return cache[step, over]


def _assert_told(row: Row, place: Place, seen: Seen) -> str:
    """Assert that the caller was told what had to be told; return it for the page."""
    # What was kept of the lane's unsaved work is compared as a picture.
    text = " ".join(concern for concern in seen.concerns if "kept as 'refs/" not in concern)
    if seen.error is not None:
        assert row.error is type(seen.error), repr(seen.error)
        assert isinstance(seen.error, WorkstreamError)
        assert seen.error.hint
        assert_no_secret(seen.error, place.secrets)
        text = str(seen.error)
    else:
        assert row.error is None or (is_told_by_concerns(row.step) and text), "nothing was told"
    text = " ".join(place.plain(text).split())
    for words in row.says:
        assert words in text, text
    assert not any(secret in f"{text} {place.runtime}" for secret in place.secrets)
    if row.error is None:
        return f"success{'; ' if text else ''}{text}"
    return f"{row.error.__name__}: {text}"


@pytest.mark.parametrize("row", _ROWS, ids=[row.name for row in _ROWS])
def test_a_fault_is_told_spares_the_users_and_ends_in_a_lane_the_next_try_completes(
    row: Row,
    places: Places,
    undisturbed: dict[tuple[Step, str], Any],
    records: dict[str, Record],
) -> None:
    """One row of the matrix; what it saw is what the page says."""
    place = places("disturbed", row.over)
    reach(place, row.step)
    place.settings["network_timeout_s"] = 30.0
    with row.inject(place):
        before = place.the_users(), place.surroundings()
        seen = do(place, row.step) if row.act is None else row.act(place)
        after = place.the_users(), place.surroundings()
        told = _assert_told(row, place, seen)
        for then, now in zip(before, after, strict=True):
            assert now == then
        state = place.state()
    place.assert_work_is_reachable()
    again = "not needed"
    if row.error is not None:
        repeated = do(place, row.step)
        assert repeated.error is None, repr(repeated.error)
        again = f"{row.again}: as if undisturbed"
    if row.error is not None or row.comparable:
        found = place.picture()
        wanted = dict(_undisturbed_end(undisturbed, places, row.step, row.over))
        # Work may have been kept once more than needed, never once less.
        assert set(found.pop("kept")) >= set(wanted.pop("kept"))
        assert found == wanted
    place.assert_work_is_reachable()
    place.assert_no_secret_on_disk()
    told = told.replace(BRANCH, "BRANCH")
    record = Record(row.part, (row.fault, row.step, told, state, again))
    committed = records.get(row.name)
    records[row.name] = record
    if _VARIABLE not in os.environ:
        assert committed is not None, f"the page lacks this row; write it: {COMMAND}"
        assert record == committed, f"the page says otherwise; write it anew: {COMMAND}"


# Public functions and verbs of a workspace that are no row, and why.
_ELSEWHERE: Final = {
    "diagnose": "it raises nothing, each trouble is a finding: tests/integration/test_doctor.py",
    "record_merge": "it opens no repository: tests/integration/test_auto_merge.py",
}


def test_every_public_verb_meets_the_faults_that_touch_it() -> None:
    """A new verb is one entry in ``_verbs.VERBS``; the rows follow from what it touches."""
    functions = [
        name for name in front_door.__all__ if inspect.isfunction(getattr(front_door, name))
    ]
    verbs = [name for name, _ in inspect.getmembers(LaneWorkspace, inspect.isfunction)]
    public = {name for name in (*functions, *verbs) if not name.startswith("_")}
    assert public - set(VERBS) == set(_ELSEWHERE), "add an entry to tests/fault/_verbs.py"
    steps = {"prepare", "integrate", "teardown"}
    assert set(VERBS) == (public - set(_ELSEWHERE)) | steps


def test_the_page_holds_these_rows_and_nothing_else() -> None:
    """Rows come and go with the tables; the rest of the page is generated as well."""
    committed = read_page()
    names = [row.name for row in _ROWS]
    assert len(set(names)) == len(names)
    if _VARIABLE not in os.environ:
        assert list(committed) == names
        assert PAGE.read_text(encoding="utf-8") == render_page(list(committed.values()))
