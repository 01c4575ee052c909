"""Events from a shell: JSON lines, an audit log, and lanes as they are worked on."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import Result
from pytest_mock import MockerFixture

from agentrelay.workstream import WorkstreamRuntime, WorkstreamSpec
from agentrelay.workstream.cli import program
from agentrelay.workstream.cli.event_lines import AUDIT_FAILED, AuditLog
from agentrelay.workstream.cli.event_log import EventLog, LaneNow
from agentrelay.workstream.cli.live import LiveLane, follow
from agentrelay.workstream.cli.report import LaneReport
from agentrelay.workstream.events import EventOutcome, LaneEvent
from agentrelay.workstream.testing import World
from tests.integration._clock import StillClock
from tests.integration._command_line import lanes_of, on, run, terminal

LOG = "lanes.jsonl"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Return a world whose token is where an enterprise host's belongs."""
    with World() as made:
        assert made.token is not None
        monkeypatch.setenv("GH_ENTERPRISE_TOKEN", made.token)
        yield made


@pytest.fixture
def repo(world: World) -> Path:
    """Return a clone over smart HTTP."""
    return world.clone()


def events_in(text: str) -> list[LaneEvent]:
    """Return the events that lines of JSON hold."""
    return [LaneEvent.from_json(line) for line in text.splitlines() if line.startswith("{")]


def event(step: str | None, outcome: str, **more: object) -> LaneEvent:
    """Return an event of the lane nightly/parser."""
    facts = {"graph": "nightly", "workstream_id": "parser", "verb": "prepare", **more}
    return LaneEvent(at=1.0, operation="1", step=step, outcome=EventOutcome(outcome), **facts)  # type: ignore[arg-type]  # texts


# --- lines ----------------------------------------------------------------------------------


def test_what_a_command_does_is_on_stderr_and_its_result_on_stdout(repo: Path) -> None:
    """Several lanes are worked on at once, and every line is one event."""
    result = on(repo, "prepare", "parser", "lexer", "--json", "--events")
    assert result.exit_code == 0
    assert set(lanes_of(result)) == {"parser", "lexer"}
    events = [LaneEvent.from_json(line) for line in result.stderr.splitlines()]
    for name in ("parser", "lexer"):
        own = [event for event in events if event.workstream_id == name]
        assert own[-1].outcome is EventOutcome.DONE
        assert "checkout" in {event.step for event in own}


def test_without_the_option_nothing_is_printed(repo: Path) -> None:
    """A listener of an earlier command is gone, too."""
    assert on(repo, "prepare", "parser", "--events").stderr
    assert on(repo, "integrate", "parser").stderr == ""


@pytest.mark.parametrize("name", sorted(set(program.commands) - {"live", "lane"}))
def test_every_command_can_tell_and_keep_a_log(name: str) -> None:
    """The two options are everywhere but where nothing is done."""
    options = {option for found in program.commands[name].params for option in found.opts}
    assert {"--events", "--audit"} <= options


def test_a_failure_is_told_and_holds_no_secret(
    world: World, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token that was refused is in no line."""
    monkeypatch.setenv("GH_ENTERPRISE_TOKEN", "hunter2-and-more")
    result = on(repo, "prepare", "parser", "--events", "--debug", "--audit", world.root / LOG)
    assert result.exit_code == 1
    ends = [event for event in events_in(result.stderr) if event.step is None and event.is_end]
    assert ("prepare", EventOutcome.FAILED) in {(end.verb, end.outcome) for end in ends}
    assert "hunter2" not in result.output + (world.root / LOG).read_text()


# --- the audit log --------------------------------------------------------------------------


def test_commands_append_to_one_log(world: World, repo: Path) -> None:
    """Its lines are what was told, in order, and nobody else may read it."""
    log = world.root / LOG
    told = ""
    for command in ("prepare", "integrate", "teardown"):
        result = on(repo, command, "parser", "--events", "--audit", log)
        told += "".join(line + "\n" for line in result.stderr.splitlines() if line[0] == "{")
    assert log.read_text() == told
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    verbs = [event.verb for event in events_in(told) if event.step is None and event.is_end]
    assert [verb for verb in verbs if verb != "mark"] == ["prepare", "integrate", "teardown"]


def test_a_log_that_cannot_be_opened_is_refused_before_anything_is_tried(
    world: World, repo: Path
) -> None:
    """Status 2, as for any command line that cannot be used."""
    result = on(repo, "prepare", "parser", "--audit", world.root / "no" / "such" / LOG)
    assert result.exit_code == 2
    assert "cannot be opened" in result.stderr
    assert not (repo / ".worktrees").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full is /dev/full")
def test_a_log_that_cannot_be_written_is_an_error_and_the_lanes_go_on(repo: Path) -> None:
    """It is said once; the lane is prepared; the status is not that of a success."""
    result = on(repo, "prepare", "parser", "--json", "--audit", Path("/dev/full"))
    assert result.exit_code == 1
    assert result.stderr.count("the audit log '/dev/full' cannot be written") == 1
    assert lanes_of(result)["parser"]["status"] == "active"


def test_a_line_that_is_cut_short_ends_the_log(
    tmp_path: Path, mocker: MockerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that becomes full in the middle of a line takes a part of it, without an error."""
    context = click.Context(program)
    log = AuditLog(tmp_path / LOG, context)
    mocker.patch("agentrelay.workstream.cli.event_lines.os.write", return_value=1)
    for _ in range(2):
        log._append(event("fetch", "done"))
    mocker.stopall()
    with log:
        pass
    assert capsys.readouterr().err.count("it was cut short") == 1
    assert context.meta == {AUDIT_FAILED: True}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_nobody_is_at_is_not_waited_for(world: World, repo: Path) -> None:
    """Neither by who writes a log nor by who reads one: every wait is bounded."""
    pipe = world.root / "pipe"
    os.mkfifo(pipe)
    assert on(repo, "prepare", "parser", "--audit", pipe).exit_code == 2
    read = look(repo, "--log", pipe)
    assert read.exit_code == 1
    assert "it is no regular file" in read.stderr


def test_completing_a_command_line_makes_no_log(world: World) -> None:
    """A shell that completes what is typed runs nothing."""
    log = world.root / LOG
    context = program.commands["prepare"].make_context(
        "prepare", ["--audit", str(log), "--events"], resilient_parsing=True
    )
    context.close()
    assert not log.exists()


# --- live -----------------------------------------------------------------------------------


def look(repo: Path, *arguments: str | Path) -> Result:
    """Look once."""
    return run("live", "--repo", repo, "--once", *arguments)


def test_lanes_are_shown_with_what_was_done_last(world: World, repo: Path) -> None:
    """Statuses come from signal files, the rest from the log; a line each."""
    log = world.root / LOG
    assert look(repo, "--log", log).stdout == "No lanes here yet.\n"
    on(repo, "prepare", "parser", "lexer", "--audit", log)
    lines = look(repo, "--log", log).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["nightly/lexer", "active"],
        ["nightly/parser", "active"],
    ]
    assert all("prepare done (agentrelay/nightly/" in line for line in lines)
    (line,) = look(repo, "--graph", "nightly", "parser").stdout.splitlines()
    assert line == "nightly/parser  active"
    assert look(repo, "--graph", "other").stdout == "No lanes here yet.\n"


def test_the_json_document_has_the_last_event(world: World, repo: Path) -> None:
    """Beside what 'status' says of a lane."""
    log = world.root / LOG
    on(repo, "prepare", "parser", "--audit", log)
    (lane,) = json.loads(look(repo, "--log", log, "--json").stdout)["lanes"]
    assert (lane["status"], lane["doing"]) == ("active", "")
    assert lane["last_event"]["detail"] == "active"
    (lane,) = json.loads(look(repo, "--json").stdout)["lanes"]
    assert lane["last_event"] is None


def test_a_lane_that_only_the_log_knows_is_about_to_be_made(world: World, repo: Path) -> None:
    """It is shown while it is prepared for the first time."""
    log = world.root / LOG
    log.write_text(event("fetch", "started").to_json() + "\n")
    (line,) = look(repo, "--log", log).stdout.splitlines()
    assert line.startswith("nightly/parser  pending  prepare: fetch  prepare: fetch started")


def test_a_line_is_printed_when_something_has_changed(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Elsewhere than on a terminal; every wait is as long as was asked, and there is an end."""
    del repo
    clock = StillClock()
    steps = iter(["started", "started", "done", "done"])
    report = LaneReport("nightly", "parser", "pending")

    def now() -> list[LiveLane]:
        return [LiveLane(report, LaneNow(event("fetch", next(steps))))]

    follow(now, until_s=2.5, every_s=1, monotonic=clock.monotonic, wait=clock.wait)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[3] for line in lines] == [
        "prepare: fetch started",
        "prepare: fetch done",
    ]
    assert clock.waits == [1, 1, 0.5]


def test_a_terminal_has_a_table_that_is_kept_up_to_date(
    world: World, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a column for each fact."""
    log = world.root / LOG
    on(repo, "prepare", "parser", "--audit", log)
    with terminal(monkeypatch, columns=160) as sent, pytest.raises(SystemExit):
        program(["live", "--repo", str(repo), "--log", str(log), "--once"])
    (shown,) = sent
    for word in ("graph", "doing", "last event", "nightly", "active", "mark done"):
        assert word in shown


def test_ctrl_c_ends_it_as_it_should_end(capsys: pytest.CaptureFixture[str]) -> None:
    """Looking is not interrupted, it is over."""

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    lane = LiveLane(LaneReport("nightly", "parser", "active"))
    follow(lambda: [lane], until_s=9, every_s=1, monotonic=StillClock().monotonic, wait=interrupt)
    assert capsys.readouterr() == ("nightly/parser  active\n", "")


# --- reading a log --------------------------------------------------------------------------


def test_a_log_is_read_as_it_grows(tmp_path: Path) -> None:
    """Half a line waits for its other half; what is no event is passed over."""
    path = tmp_path / LOG
    log = EventLog(path)
    log.read()
    line = event("fetch", "progress", done=2, total=9).to_json()
    path.write_text(f"no event\n{line[:20]}")
    log.read()
    assert log.lanes == {}
    with path.open("a") as file:
        file.write(line[20:] + "\n" + event(None, "started", graph=None).to_json() + "\n\xff\n")
    log.read()
    (now,) = log.lanes.values()
    assert now.doing == "prepare: fetch (2 of 9)"
    # Begun anew, as a log that is rotated.
    path.write_text(event(None, "done").to_json() + "\n")
    log.read()
    assert log.lanes["nightly", "parser"].doing == ""


def test_a_line_without_an_end_is_given_up(tmp_path: Path) -> None:
    """Memory does not grow with what somebody writes there."""
    path = tmp_path / LOG
    path.write_bytes(b"x" * 1_200_000)
    log = EventLog(path)
    log.read()
    with path.open("a") as file:
        file.write("x\n" + event("fetch", "started").to_json() + "\n")
    log.read()
    assert [now.doing for now in log.lanes.values()] == ["prepare: fetch"]


def test_of_a_long_log_the_end_is_read(tmp_path: Path) -> None:
    """What was years ago is of no interest, and not worth the memory."""
    path = tmp_path / LOG
    with path.open("w") as file:
        file.write(event("old", "started", workstream_id="long-ago").to_json() + "\n")
        file.write((" " * 1000 + "\n") * 2200)
        file.write(event("new", "started").to_json() + "\n")
    log = EventLog(path)
    log.read()
    assert set(log.lanes) == {("nightly", "parser")}


def test_a_log_that_cannot_be_read_is_an_error(tmp_path: Path, repo: Path) -> None:
    """It names the file, and says which one is meant."""
    path = tmp_path / "loop"
    path.symlink_to(path)
    result = look(repo, "--log", path)
    assert result.exit_code == 1
    assert f"error: the log '{path}' cannot be read: " in result.stderr
    assert "--audit" in result.stderr


def test_a_time_nobody_can_show_is_left_out() -> None:
    """Somebody else may have written the line."""
    far = LaneNow(LaneEvent(1e30, "1", "prepare", EventOutcome.DONE))
    lane = LiveLane(LaneReport("nightly", "parser", "pending"), far)
    assert lane.at == ""
    assert lane.last_event == "prepare done"


def test_a_runtime_is_shown_whoever_made_it(repo: Path, world: World) -> None:
    """A lane of a program appears as one of a command does."""
    world.runner(repo).prepare(WorkstreamRuntime(WorkstreamSpec("lexer")))
    assert look(repo).stdout == "nightly/lexer  active\n"


def test_it_waits_between_two_looks(repo: Path) -> None:
    """And not beyond the end."""
    assert run("live", "--repo", repo, "--until", "0.01", "--every", "60").exit_code == 0
