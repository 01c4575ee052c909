"""How the command line ends when it cannot go on: one line, a status, and no secret."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from agentrelay.workstream.cli import program
from agentrelay.workstream.cli.parallel import in_parallel
from agentrelay.workstream.testing import World, refs
from tests.integration._command_line import on, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agentrelay.workstream.testing import RefUpdate

PARSER = "refs/heads/agentrelay/nightly/parser/integration"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Return a world whose token is where an enterprise host's belongs."""
    with World() as made:
        assert made.token is not None
        monkeypatch.setenv("GH_ENTERPRISE_TOKEN", made.token)
        yield made


@pytest.fixture
def repo(world: World) -> Path:
    """Return a working copy."""
    return world.clone()


@pytest.mark.parametrize(
    "arguments",
    [
        ("prepare", "--graph", "nightly"),
        ("prepare", "parser"),
        ("status", "--repo", "/nonexistent/place"),
        ("prepare", "--token", "x", "--graph", "nightly", "parser"),
        ("fly",),
    ],
    ids=["no lane", "no graph", "no repository", "no tokens in arguments", "no such command"],
)
def test_a_command_line_that_cannot_be_used_is_status_2(arguments: tuple[str, ...]) -> None:
    """Nothing is tried, stdout is empty, and stderr says what is wrong."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr


def test_no_command_takes_a_token_and_help_says_where_it_is_looked_for() -> None:
    """Arguments are visible to every user of a machine."""
    for name in ("prepare", "integrate", "check", "watch", "teardown", "reconcile"):
        text = run(name, "--help").stdout
        assert "--token" not in text
        for place in ("GH_TOKEN", "GH_ENTERPRISE_TOKEN", "~/.netrc", "hosts.yml"):
            assert place in text
        assert "130  interrupted" in text
    commands = run("--help").stdout.partition("Commands:\n")[2].split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in commands] == [
        "demo", "clone", "prepare", "lane", "integrate", "check", "watch", "retarget", "teardown",
        "status", "live", "rescued", "restore", "forget", "reconcile", "doctor",
    ]  # fmt: skip


def test_the_version_is_the_packages() -> None:
    """The number installers know."""
    from agentrelay.workstream import __version__

    assert run("--version").stdout == f"agentrelay-workstream, version {__version__}\n"


def test_user_info_of_a_remote_is_never_shown(world: World, tmp_path: Path) -> None:
    """A password in a remote's address stays out of tables, documents and tracebacks."""
    from agentrelay.workstream.testing import clone_repository

    url = world.remote_url.replace("://", "://robin:hunter2-hunter2@").replace("widgets", "gone")
    repo = clone_repository(world.remote_path, tmp_path / "clone", url=url)
    for more in ((), ("--json",), ("--debug",)):
        result = on(repo, "prepare", "parser", *more)
        assert result.exit_code == 1
        assert "hunter2" not in result.output
        assert ("Traceback" in result.stderr) == (more == ("--debug",))


def test_what_fails_in_a_thread_is_raised_where_it_was_asked_for() -> None:
    """An action's exception is not lost, and what was not begun is not begun any more."""
    begun: list[int] = []

    def act(number: int) -> int:
        begun.append(number)
        raise LookupError(number)

    with pytest.raises(LookupError):
        list(in_parallel(range(1000), act))
    assert len(begun) <= 1000
    assert list(in_parallel((), act)) == []


def _program_with(name: str, error: BaseException) -> click.Group:
    """Return the program with one more command, which fails."""
    from agentrelay.workstream.cli.options import output_options

    @click.command(name)
    @output_options
    def failing(**_: Any) -> None:
        raise error

    return type(program)(commands={name: failing})


@pytest.mark.skipif(sys.platform == "win32", reason="the current directory cannot be deleted")
@pytest.mark.parametrize(
    "command",
    [
        ("prepare", "--graph", "nightly", "parser"),
        ("teardown", "--graph", "nightly", "parser"),
        ("integrate", "--graph", "nightly", "parser"),
        ("check", "--graph", "nightly", "parser"),
        ("clone", "/nowhere/origin.git", "there"),
        ("lane", "status"),
        ("status",),
        ("rescued",),
        ("restore", "nightly/parser/1/commits"),
        ("reconcile",),
        ("doctor",),
    ],
    ids=" ".join,
)
def test_a_deleted_current_directory_is_named_as_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """Every command whose repository is the current directory says so, also as a document."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = CliRunner().invoke(program, [*command, "--json"])
    assert result.exit_code == 1
    message = "the current directory does not exist any more"
    assert json.loads(result.stdout)["error"] == message
    assert result.stderr.startswith(f"error: {message}\nhint: Change to a directory that exists")
    assert list(tmp_path.iterdir()) == []


def test_an_unexpected_error_is_one_line() -> None:
    """No traceback unless it is asked for, and no secret either way."""
    broken = _program_with("break", ValueError("ghp_abcdefgh12345678 is\nodd"))
    plain = CliRunner().invoke(broken, ["break"])
    assert plain.exit_code == 1
    assert plain.stderr.splitlines()[0] == "error: unexpected ValueError: *** is\\nodd"
    assert len(plain.stderr.splitlines()) == 2
    document = CliRunner().invoke(broken, ["break", "--json"])
    assert json.loads(document.stdout)["error"] == "unexpected ValueError: *** is\nodd"
    traced = CliRunner().invoke(broken, ["break", "--debug"])
    assert "  Traceback (most recent call last):" in traced.stderr.splitlines()
    assert "ghp_" not in traced.stderr


def test_an_interrupted_demo_has_nothing_to_resume() -> None:
    """Its world is gone: nobody is told to repeat anything."""
    result = CliRunner().invoke(_program_with("demo", KeyboardInterrupt()), ["demo"])
    assert (result.exit_code, result.stderr) == (130, "error: interrupted\n")


def test_ctrl_c_leaves_lanes_that_the_same_command_resumes(world: World, repo: Path) -> None:
    """One line and status 130 at once, though the network still hangs; then it is repeated."""
    going_on = threading.Event()
    main_thread = threading.main_thread().ident
    assert main_thread is not None

    def interrupt(updates: Sequence[RefUpdate]) -> dict[str, str]:
        del updates
        signal.pthread_kill(main_thread, signal.SIGINT)
        going_on.wait(30)
        return {}

    world.git.hooks.append(interrupt)
    # What was started behind a shell's back, as CI may start this, ignores Ctrl-C from there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        first = on(repo, "prepare", "parser", "--json")
    finally:
        signal.signal(signal.SIGINT, before)
        world.git.hooks.clear()
        going_on.set()
    assert first.exit_code == 130
    sentence = "interrupted; lanes can be resumed by repeating the command"
    assert first.stderr == f"error: {sentence}\n"
    assert json.loads(first.stdout)["error"] == sentence
    for worker in threading.enumerate():
        if worker.name.startswith("lane-worker"):
            worker.join(30)
    assert on(repo, "prepare", "parser").exit_code == 0
    assert PARSER in refs(world.remote_path)


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["table", "json"])
def test_a_reader_that_goes_away_is_no_error(
    as_json: tuple[str, ...], repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``status | head`` ends quietly: no traceback, no message."""
    on(repo, "prepare", "parser")
    reading, writing = os.pipe()
    os.close(reading)
    said_path = repo.parent / "stderr.txt"
    with open(writing, "w", encoding="utf-8") as stdout, said_path.open("w") as stderr:  # noqa: PTH123 - a descriptor
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stdout)
            patch.setattr(sys, "stderr", stderr)
            with pytest.raises(SystemExit):
                program(["status", "--repo", str(repo), *as_json])
        _drop(stdout)
    assert said_path.read_text() == ""


class _FullDisk(io.StringIO):
    """An output that nothing more can be written to."""

    def write(self, text: str) -> int:
        """Refuse it."""
        del text
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_output_that_is_full_is_one_error_and_no_traceback(
    repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The document that would say so cannot be written either; stderr says it."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", _FullDisk())
        with pytest.raises(SystemExit) as ended:
            program(["status", "--repo", str(repo), "--json"])
    assert ended.value.code == 1
    said = capsys.readouterr().err.splitlines()
    assert "No space left on device" in said[0]
    assert [line.partition(":")[0] for line in said] == ["error", "hint"]


def test_a_diff_that_nobody_can_see_is_no_error(
    repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a program is started without a stdout, Python has none: the others bear it too."""
    on(repo, "prepare", "parser")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        with pytest.raises(SystemExit) as ended:
            program(["lane", "diff", "--in", str(repo / ".worktrees/nightly/parser")])
    assert (ended.value.code, capsys.readouterr().err) == (0, "")


def _drop(stream: Any) -> None:
    """Lead what a stream still holds nowhere, so that closing it is quiet."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
