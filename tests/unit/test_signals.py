"""Signal files: whole or absent, never written through, never waited for."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.workstream.core import _signals
from agentrelay.workstream.core._signals import (
    append_history,
    has_signal,
    read_record,
    read_signal,
    remove_signal,
    write_record,
    write_signal,
)
from tests._examples import tries


def _link_to_a_file(path: Path) -> None:
    other = path.with_name("elsewhere.txt")
    other.write_text("not yours")
    path.symlink_to(other)


def _socket(path: Path) -> None:
    # Bound by a relative name: the path of a socket may have about 100 bytes only.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


# Everything that may stand under a signal's name and is no signal.
_FOREIGN: dict[str, Callable[[Path], object]] = {
    "directory": Path.mkdir,
    "pipe": os.mkfifo,
    "socket": _socket,
    "link to a file": _link_to_a_file,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to a directory": lambda path: path.symlink_to("."),
    "binary": lambda path: path.write_bytes(b"\x00\xff\xfe\x80"),
    "torn text": lambda path: path.write_bytes("caf\u00e9".encode()[:-1]),
    "huge": lambda path: path.write_bytes(b"\n" * ((1 << 20) + 1)),
}

_REPLACED = sorted(set(_FOREIGN) - {"directory"})


# --- writing and reading ----------------------------------------------------------------


@tries(40)
@given(content=st.text())
def test_what_was_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, content: str
) -> None:
    """Any text comes back to the letter, line ends included; a lone surrogate becomes '?'."""
    directory = tmp_path_factory.mktemp("signals")
    write_signal(directory, "failed", content)
    assert read_signal(directory, "failed") == re.sub("[\ud800-\udfff]", "?", content)


@tries(80)
@given(content=st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_whole_text_or_no_signal(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """What is no UTF-8 is torn or foreign; nothing is guessed or replaced."""
    path = tmp_path_factory.mktemp("signals") / "failed"
    path.write_bytes(content)
    text = read_signal(path.parent, "failed")
    assert text is None or text.encode() == content
    assert (text is None) == (content.decode("utf-8", "ignore").encode() != content)


def test_the_directory_is_made_and_no_temporary_file_stays(tmp_path: Path) -> None:
    """The first signal of a lane needs no preparation and leaves nothing beside it."""
    directory = tmp_path / "deep" / "signals"
    write_signal(directory, "active")
    assert [entry.name for entry in directory.iterdir()] == ["active"]
    assert (directory / "active").read_bytes() == b""


@pytest.mark.parametrize(
    ("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o007, 0o660), (0o000, 0o666)]
)
def test_files_are_open_to_whom_the_umask_lets_in(tmp_path: Path, umask: int, mode: int) -> None:
    """A user who shares nothing shares no status, no record and no history either."""
    before = os.umask(umask)
    try:
        write_signal(tmp_path, "failed", "x")
        write_record(tmp_path, {})
        append_history(tmp_path, "failed", "x")
    finally:
        os.umask(before)
    found = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir()}
    assert found == dict.fromkeys(("failed", _signals.RECORD_NAME, _signals.HISTORY_NAME), mode)


def test_a_second_write_replaces_the_first(tmp_path: Path) -> None:
    """The newest content counts, also when it is shorter."""
    write_signal(tmp_path, "failed", "a long story")
    write_signal(tmp_path, "failed", "short")
    assert read_signal(tmp_path, "failed") == "short"


def test_text_that_is_no_unicode_is_written_all_the_same(tmp_path: Path) -> None:
    """An error message with a lone surrogate still fails the lane."""
    write_signal(tmp_path, "failed", "bad \udcff name")
    assert read_signal(tmp_path, "failed") == "bad ? name"


def test_a_missing_signal_or_directory_reads_as_none(tmp_path: Path) -> None:
    """Absence is an answer, not an error."""
    assert read_signal(tmp_path, "active") is None
    assert read_signal(tmp_path / "nowhere", "active") is None
    assert not has_signal(tmp_path, "active")
    (tmp_path / "file").touch()
    assert read_signal(tmp_path / "file", "active") is None


def test_an_empty_signal_with_content_is_not_ours(tmp_path: Path) -> None:
    """Only an empty file is an empty signal; a stray line end does no harm."""
    write_signal(tmp_path, "active")
    write_signal(tmp_path, "merged", "yes\n")
    write_signal(tmp_path, "pending", "\n")
    assert has_signal(tmp_path, "active")
    assert has_signal(tmp_path, "pending")
    assert not has_signal(tmp_path, "merged")


# --- foreign things ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", _FOREIGN)
def test_what_is_no_regular_text_file_is_no_signal(tmp_path: Path, kind: str) -> None:
    """Links, folders, pipes, sockets, binary, torn and huge files do not count, or block."""
    _FOREIGN[kind](tmp_path / "failed")
    assert read_signal(tmp_path, "failed") is None
    assert not has_signal(tmp_path, "failed")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("kind", _FOREIGN)
def test_looking_at_a_foreign_thing_leaves_no_file_open(tmp_path: Path, kind: str) -> None:
    """A status that is polled all day does not run out of descriptors."""

    def still_open() -> list[str]:
        found = []
        for descriptor in Path("/proc/self/fd").iterdir():
            try:
                found.append(str(descriptor.readlink()))
            except FileNotFoundError:  # the listing's own descriptor
                continue
        return [target for target in found if target.startswith(str(tmp_path))]

    _FOREIGN[kind](tmp_path / "failed")
    # That it raises nothing is the promise of the test above.
    with contextlib.suppress(OSError):
        read_signal(tmp_path, "failed")
    assert still_open() == []


@pytest.mark.parametrize("kind", _REPLACED)
def test_a_write_replaces_what_stands_there_and_never_goes_through_it(
    tmp_path: Path, kind: str
) -> None:
    """A planted link leads nowhere: its target keeps its content."""
    _FOREIGN[kind](tmp_path / "active")
    write_signal(tmp_path, "active")
    assert has_signal(tmp_path, "active")
    assert not (tmp_path / "active").is_symlink()
    elsewhere = tmp_path / "elsewhere.txt"
    assert not elsewhere.exists() or elsewhere.read_text() == "not yours"


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    """A folder under the signal's name is refused, and no temporary file stays."""
    (tmp_path / "active").mkdir()
    with pytest.raises(OSError, match="active"):
        write_signal(tmp_path, "active")
    assert [entry.name for entry in tmp_path.iterdir()] == ["active"]
    assert (tmp_path / "active").is_dir()


def test_a_full_disk_keeps_the_old_text_and_leaves_no_litter(tmp_path: Path) -> None:
    """The new text is whole or not there; the refusal is raised."""
    write_signal(tmp_path, "failed", "the first story")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file of this process may grow beyond this, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="large"):
            write_signal(tmp_path, "failed", "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_signal(tmp_path, "failed") == "the first story"
    assert [entry.name for entry in tmp_path.iterdir()] == ["failed"]


def test_a_signal_directory_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    """Nothing is overwritten to make room for signals."""
    (tmp_path / "signals").write_text("mine")
    with pytest.raises(OSError, match="signals"):
        write_signal(tmp_path / "signals", "active")
    assert (tmp_path / "signals").read_text() == "mine"


def test_a_reader_sees_the_old_text_or_the_new_but_never_half_of_one(tmp_path: Path) -> None:
    """Beside a writer that never stops, every read gives a whole text."""
    texts = {letter * 50_000 for letter in "ab"}
    write_signal(tmp_path, "failed", "a" * 50_000)
    stop = threading.Event()
    seen: list[str | None] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(read_signal(tmp_path, "failed"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        writings = 0
        while reader.is_alive() and (writings < 40 or len(seen) < 10):
            write_signal(tmp_path, "failed", "ab"[writings % 2] * 50_000)
            writings += 1
    finally:
        stop.set()
        reader.join()
    assert len(seen) >= 10
    assert set(seen) <= texts


def test_concurrent_writers_leave_one_whole_text_and_no_litter(tmp_path: Path) -> None:
    """Of several writers one is last, whole, and the others left nothing behind."""
    texts = [str(number) * 10_000 for number in range(8)]
    threads = [
        threading.Thread(target=write_signal, args=(tmp_path, "failed", text)) for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_signal(tmp_path, "failed") in texts
    assert [entry.name for entry in tmp_path.iterdir()] == ["failed"]


# --- removing ---------------------------------------------------------------------------


def test_writers_of_different_signals_in_one_directory_do_not_sweep_each_other_away(
    tmp_path: Path,
) -> None:
    """The notes of all lanes share a directory: a file about to get its name is nobody's litter."""
    failures: list[OSError] = []

    def write(name: str) -> None:
        try:
            for _ in range(150):
                write_signal(tmp_path, name, "text")
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(f"lane{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_removing_is_harmless_when_there_is_nothing(tmp_path: Path) -> None:
    """A signal can be removed twice, or before it was ever set."""
    write_signal(tmp_path, "failed", "x")
    remove_signal(tmp_path, "failed")
    remove_signal(tmp_path, "failed")
    remove_signal(tmp_path / "nowhere", "failed")
    assert list(tmp_path.iterdir()) == []


def test_removing_a_link_keeps_what_it_leads_to(tmp_path: Path) -> None:
    """Only the name in the signal directory goes."""
    _link_to_a_file(tmp_path / "failed")
    remove_signal(tmp_path, "failed")
    assert (tmp_path / "elsewhere.txt").read_text() == "not yours"
    assert not (tmp_path / "failed").is_symlink()


# --- the record and the history ---------------------------------------------------------


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    """Names in any script and paths that are no Unicode survive."""
    record = {"workstream_id": "parser", "path": "/x/\udcff/\u00e9", "n": 3, "none": None}
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert (tmp_path / _signals.RECORD_NAME).read_text().endswith("}\n")


@pytest.mark.parametrize(
    "content",
    ["", "{", "null", "[]", '"text"', "12", '{"a": 1', "[" * 100_000, '{"a": 1} trailing'],
)
def test_a_record_that_is_not_ours_reads_as_none(tmp_path: Path, content: str) -> None:
    """Anyone may have edited the file; what is no JSON object is no record."""
    write_signal(tmp_path, _signals.RECORD_NAME, content)
    assert read_record(tmp_path) is None


@pytest.mark.parametrize("kind", _FOREIGN)
def test_a_record_that_is_no_file_reads_as_none(tmp_path: Path, kind: str) -> None:
    """A record is trusted as little as a signal."""
    _FOREIGN[kind](tmp_path / _signals.RECORD_NAME)
    assert read_record(tmp_path) is None


def test_history_grows_by_whole_lines(tmp_path: Path) -> None:
    """Every entry is one line of JSON with a time, whatever its text holds."""
    append_history(tmp_path, "failed", "first\nsecond line")
    append_history(tmp_path, "failed", "caf\u00e9 \udcff")
    lines = (tmp_path / _signals.HISTORY_NAME).read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert [entry["text"] for entry in entries] == ["first\nsecond line", "caf\u00e9 \udcff"]
    assert {entry["event"] for entry in entries} == {"failed"}
    assert all(entry["time"] > 1_700_000_000 for entry in entries)


def _history(directory: Path) -> list[str]:
    """Return the texts of a history as a tolerant reader finds them."""
    found = []
    for line in (directory / _signals.HISTORY_NAME).read_bytes().splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            found.append(json.loads(line)["text"])
    return found


def test_an_entry_after_a_torn_last_line_can_still_be_read(tmp_path: Path) -> None:
    """A writer that was killed half-way swallows nothing of those after it."""
    append_history(tmp_path, "failed", "whole")
    with (tmp_path / _signals.HISTORY_NAME).open("ab") as stream:
        stream.write(b'{"time": 1764000000.0, "event": "fai')
    append_history(tmp_path, "failed", "after")
    append_history(tmp_path, "failed", "later")
    assert _history(tmp_path) == ["whole", "after", "later"]


@tries(40)
@given(garbage=st.binary(max_size=60), texts=st.lists(st.text(), min_size=1, max_size=3))
def test_no_bytes_in_a_history_swallow_what_is_added(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes, texts: list[str]
) -> None:
    """What was there stays to the byte, and every entry after it is a line of its own."""
    directory = tmp_path_factory.mktemp("signals")
    (directory / _signals.HISTORY_NAME).write_bytes(garbage)
    for text in texts:
        append_history(directory, "failed", text)
    assert (directory / _signals.HISTORY_NAME).read_bytes().startswith(garbage)
    assert _history(directory)[-len(texts) :] == texts


def test_a_history_entry_that_is_cut_by_a_full_disk_is_an_error(tmp_path: Path) -> None:
    """The caller learns of it and keeps the signal; the next entry is whole."""
    append_history(tmp_path, "failed", "first")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="history"):
            append_history(tmp_path, "failed", "x" * 500)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    append_history(tmp_path, "failed", "second")
    assert _history(tmp_path) == ["first", "second"]


def test_history_written_at_the_same_time_loses_no_line(tmp_path: Path) -> None:
    """Appending needs no lock: every line of every writer is there, whole."""

    def write(number: int) -> None:
        for turn in range(10):
            append_history(tmp_path, "failed", f"{number}-{turn}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / _signals.HISTORY_NAME).read_text().splitlines()
    texts = {json.loads(line)["text"] for line in lines}
    assert texts == {f"{number}-{turn}" for number in range(4) for turn in range(10)}
    assert len(lines) == 40


def test_history_is_not_written_through_a_link(tmp_path: Path) -> None:
    """A planted link is an error, and its target keeps its content."""
    _link_to_a_file(tmp_path / _signals.HISTORY_NAME)
    with pytest.raises(OSError, match=_signals.HISTORY_NAME):
        append_history(tmp_path, "failed", "x")
    assert (tmp_path / "elsewhere.txt").read_text() == "not yours"


def test_history_does_not_wait_for_the_reader_of_a_planted_pipe(tmp_path: Path) -> None:
    """A pipe under the history's name is an error at once, not a wait for ever."""
    pipe = tmp_path / _signals.HISTORY_NAME
    os.mkfifo(pipe)
    raised: list[OSError] = []

    def write() -> None:
        try:
            append_history(tmp_path, "failed", "x")
        except OSError as error:
            raised.append(error)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(timeout=30.0)
    waited = writer.is_alive()
    # Let go of a writer that waits, so that a failure ends the test and not the run.
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer.join(timeout=10.0)
    os.close(reader)
    assert not waited
    assert len(raised) == 1


def test_a_note_replaces_what_a_killed_writer_left_and_leads_nowhere(tmp_path: Path) -> None:
    """A link in its temporary file's place is removed, not followed; nothing else is left."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / ".a.json.tmp").symlink_to(victim)
    _signals.write_note(notes / "a.json", "first")
    _signals.write_note(notes / "a.json", "second")
    (notes / ".b.json.tmp").write_text("to")
    assert (notes / "a.json").read_text() == "second"
    assert victim.read_text() == "mine"
    _signals.remove_note(notes / "b.json")
    _signals.remove_note(notes / "a.json")
    assert list(notes.iterdir()) == []


def test_a_note_that_cannot_be_written_leaves_the_older_one(tmp_path: Path) -> None:
    """A directory in its place: an error, and no temporary file."""
    (tmp_path / "a.json" / "kept").mkdir(parents=True)
    with pytest.raises(OSError, match=r"a\.json"):
        _signals.write_note(tmp_path / "a.json", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json" / "kept").is_dir()
