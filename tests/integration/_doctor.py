"""Asking the doctor, and pictures of everything it could have changed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pygit2

from agentrelay.workstream import Finding, FindingLevel, diagnose

if TYPE_CHECKING:
    from pathlib import Path

    from agentrelay.workstream.testing import World

__all__ = ["ask", "levels", "picture", "problems", "set_url", "skipped"]


def ask(world: World, repo: Path, **settings: Any) -> dict[str, Finding]:
    """Diagnose a repository in a world, and check what holds of every diagnosis."""
    known = {"token": world.token, "api_url": world.github.api_url, "full_name": world.full_name}
    found = diagnose(repo, **{**known, **settings})
    named = {finding.name: finding for finding in found}
    assert len(named) == len(found)
    for finding in found:
        assert finding.sentence
        if finding.level is FindingLevel.OK:
            assert finding.fix is None
        if finding.level is FindingLevel.PROBLEM:
            assert finding.fix
    return named


def levels(found: dict[str, Finding], *names: str) -> list[str]:
    """Return the levels of some findings."""
    return [found[name].level.value for name in names]


def problems(found: dict[str, Finding]) -> set[str]:
    """Return the names of all problems."""
    return {name for name, finding in found.items() if finding.level is FindingLevel.PROBLEM}


def skipped(found: dict[str, Finding]) -> set[str]:
    """Return the names of all checks that could not be made."""
    skips = {name for name, one in found.items() if one.sentence.startswith("not checked: ")}
    assert all(found[name].level is FindingLevel.NOTE for name in skips)
    return skips


def set_url(repo: Path, url: str) -> None:
    """Give ``origin`` another address."""
    pygit2.Repository(str(repo)).remotes.set_url("origin", url)


def picture(root: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Return every file, folder and link below a directory: mode, times, links, content."""
    found: dict[str, tuple[int, int, int, bytes]] = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)  # noqa: PTH118 - thousands of them
            stat = os.lstat(path)
            data = b""
            if os.path.islink(path):  # noqa: PTH114 - as above
                data = os.fsencode(os.readlink(path))  # noqa: PTH115 - as above
            elif name in files:
                with open(path, "rb") as stream:  # noqa: PTH123 - as above
                    data = stream.read()
            found[path] = (stat.st_mode, stat.st_mtime_ns, stat.st_nlink, data)
    return found
