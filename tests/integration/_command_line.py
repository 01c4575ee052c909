"""The command line, run inside this process, and a terminal to run it in."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner, Result

from agentrelay.workstream.cli import program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

__all__ = ["lanes_of", "on", "run", "terminal"]


def run(*arguments: str | Path) -> Result:
    """Run the program in this process."""
    return CliRunner().invoke(program, [str(argument) for argument in arguments])


def on(repo: Path, command: str, *arguments: str | Path) -> Result:
    """Run a lane command on a repository's graph "nightly"."""
    return run(command, "--repo", repo, "--graph", "nightly", *arguments)


def lanes_of(result: Result) -> dict[str, dict[str, Any]]:
    """Return the lanes of a JSON document by id."""
    return {lane["id"]: lane for lane in json.loads(result.stdout)["lanes"]}


@contextmanager
def terminal(
    monkeypatch: pytest.MonkeyPatch, *, columns: int, **environ: str
) -> Iterator[list[str]]:
    """Make stdout and stderr a terminal; what it was sent is in the list afterwards.

    Args:
        monkeypatch: What changes the streams and the environment.
        columns: How wide the terminal is.
        **environ: More variables of the environment.
    """
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    reading, writing = os.openpty()
    sent: list[str] = []
    received = bytearray()

    def read() -> None:
        # A terminal whose last writer is gone reports an error, not an end.
        try:
            while part := os.read(reading, 65536):
                received.extend(part)
        except OSError:
            return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with open(writing, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:  # noqa: PTH123 - a descriptor
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", stream)
            yield sent
    finally:
        reader.join(60)
        os.close(reading)
    sent.append(received.decode())
