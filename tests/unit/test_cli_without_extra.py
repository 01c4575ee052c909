"""The command line's door: what it says without its extra, and what it costs with it."""

from __future__ import annotations

import runpy
import sys

import pytest

from agentrelay.workstream.__main__ import main

_SENTENCE = (
    "error: the command line needs the extra 'cli': pip install 'agentrelay-workstream[cli]'\n"
)


@pytest.mark.usefixtures("fresh_package")
@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_one_sentence_says_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, nothing on stdout, no traceback: the sentence can be copied to a shell."""
    monkeypatch.setitem(sys.modules, missing, None)
    assert main() == 2
    said = capsys.readouterr()
    assert said.err == _SENTENCE
    assert said.out == ""


def test_python_m_runs_the_same_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The module and the installed script are one thing under two names."""
    monkeypatch.setattr(sys, "argv", ["__main__.py", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(main.__code__.co_filename, run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("agentrelay-workstream, version ")


@pytest.mark.usefixtures("fresh_package")
def test_help_needs_neither_libgit2_nor_the_github_client(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading about the commands works where the backends cannot be loaded."""
    for backend in ("pygit2", "github", "requests"):
        monkeypatch.setitem(sys.modules, backend, None)
    monkeypatch.setattr(sys, "argv", ["agentrelay-workstream", "prepare", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("Usage: agentrelay-workstream prepare ")


@pytest.mark.usefixtures("fresh_package")
def test_ctrl_c_while_modules_are_loaded_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was begun yet; there is no traceback, and the status is that of an interruption."""

    class Interrupted:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            del path, target
            if name == "agentrelay.workstream.cli.lanes":
                raise KeyboardInterrupt

    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    assert main() == 130
    sentence = "interrupted; lanes can be resumed by repeating the command"
    assert capsys.readouterr() == ("", f"error: {sentence}\n")


def test_an_output_that_cannot_show_a_character_shows_its_number(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A name outside ASCII does not end the program on a terminal that knows only that."""
    stdout = open(1, "w", encoding="ascii", closefd=False)  # noqa: SIM115 - the descriptor itself
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "argv", ["agentrelay-workstream", "status", "--run-dir", "läufe"])
    with pytest.raises(SystemExit) as ended:
        main()
    stdout.flush()
    assert ended.value.code == 0
    assert capfdbinary.readouterr().out == b"No lanes in 'l\\xe4ufe'.\n"
