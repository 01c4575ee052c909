"""An interruption of reconciling is no accident of the lane it happened in.

That reconciling again finishes what was stopped is for the crash points to test.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from agentrelay.workstream import WorkstreamRuntime, WorkstreamSpec, reconcile
from agentrelay.workstream.testing import World

# What is interrupted while it is made is taken apart half made.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_a_stop_is_not_an_accident_of_one_lane(tmp_path: Path) -> None:
    """An interruption ends the whole call; only failures become a lane's outcome."""

    def interrupt(frame: FrameType, event: str, argument: Any) -> Any:
        del event, argument
        if frame.f_code.co_name == "clean_up":
            raise KeyboardInterrupt
        return None

    with World(tmp_path) as world:
        repo = world.clone()
        world.runner(repo).prepare(WorkstreamRuntime(WorkstreamSpec("lexer")))
        draft = repo / ".worktrees/nightly/lexer/draft.txt"
        draft.write_text("draft")
        record = repo / ".workflow/nightly/workstreams/lexer/lane.json"
        record.write_text(json.dumps({**json.loads(record.read_bytes()), "ending": True}))
        before = sys.gettrace()
        sys.settrace(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                reconcile(repo, token=world.token)
        finally:
            sys.settrace(before)
    assert draft.exists()
