"""What a power cut leaves of the signal files, judged by what was synced before it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from agentrelay.workstream.core._signals import (
    HISTORY_NAME,
    append_history,
    remove_signal,
    retire_signal,
    write_signal,
)

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")


class Disk:
    """Remembers what was synced, and tells what a power cut would leave of it.

    Stricter than any real disk: nothing reaches it by itself. A file is there after the
    cut if its content was synced and each name on the way to it stood in its directory
    when that was synced last.
    """

    def __init__(self, root: Path, mocker: MockerFixture) -> None:
        """Watch ``os.fsync``; what is below ``root`` now is on the disk already."""
        self.root = root
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        for path in (root, *root.rglob("*")):
            self._sync(path)
        self._fsync = os.fsync
        mocker.patch("os.fsync", side_effect=self._observe)

    def _observe(self, descriptor: int) -> None:
        self._fsync(descriptor)
        self._sync(Path(f"/proc/self/fd/{descriptor}").readlink())

    def _sync(self, path: Path) -> None:
        """Note what is durable from now on."""
        number = path.stat().st_ino
        if path.is_dir():
            self._names[number] = {entry.name: entry.stat().st_ino for entry in path.iterdir()}
        else:
            self._contents[number] = path.read_bytes()

    def after_power_cut(self) -> dict[str, bytes]:
        """Return the files that are left, by path below the root."""
        return dict(self._walk(self.root.stat().st_ino, ""))

    def _walk(self, number: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        for name, below in self._names.get(number, {}).items():
            if below in self._contents:
                yield f"{prefix}{name}", self._contents[below]
            yield from self._walk(below, f"{prefix}{name}/")


@pytest.fixture
def disk(tmp_path: Path, mocker: MockerFixture) -> Disk:
    """Return an empty disk whose power can fail."""
    return Disk(tmp_path, mocker)


def test_a_signal_outlives_a_power_cut_in_directories_that_were_made_for_it(disk: Disk) -> None:
    """Each new directory on the way is synced into its parent, not the last one alone."""
    write_signal(disk.root / ".workflow" / "nightly" / "workstreams" / "parser", "failed", "why")
    assert disk.after_power_cut() == {".workflow/nightly/workstreams/parser/failed": b"why"}


def test_a_replaced_signal_outlives_a_power_cut(disk: Disk) -> None:
    """The directory is synced after the rename, and no temporary name stays."""
    write_signal(disk.root, "failed", "first")
    write_signal(disk.root, "failed", "second")
    assert disk.after_power_cut() == {"failed": b"second"}


def test_a_removed_signal_does_not_come_back(disk: Disk) -> None:
    """After a power cut a lane that left FAILED behind is not FAILED again."""
    write_signal(disk.root, "failed", "why")
    remove_signal(disk.root, "failed")
    assert disk.after_power_cut() == {}


def test_a_new_history_outlives_a_power_cut(disk: Disk) -> None:
    """The first entry makes the file, so its name has to be synced as well."""
    append_history(disk.root, "failed", "why")
    (content,) = disk.after_power_cut().values()
    assert json.loads(content)["text"] == "why"


def test_a_retired_error_is_at_every_moment_in_the_history_or_still_a_signal(
    disk: Disk, mocker: MockerFixture
) -> None:
    """Between the two steps of moving it, a power cut loses nothing."""
    write_signal(disk.root, "failed", "why")
    seen: list[dict[str, bytes]] = []
    unlink = Path.unlink

    def cut_before(path: Path, *, missing_ok: bool = False) -> None:
        seen.append(disk.after_power_cut())
        unlink(path, missing_ok=missing_ok)

    mocker.patch.object(Path, "unlink", cut_before)
    retire_signal(disk.root, "failed", event="failed")
    for left in [*seen, disk.after_power_cut()]:
        assert b"why" in left.get(HISTORY_NAME, b"")
    assert seen
