"""The lane branch's section in the repository's configuration.

Written under git's own ``config.lock`` in one go: libgit2 rewrites the file once a key
and leaves an empty section behind when keys are deleted.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Final

from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.lockfile import LockedError, LockFile
from agentrelay.workstream._git.locks import until_free
from agentrelay.workstream._git.repository import OpenRepository

__all__ = ["drop_upstream", "drop_upstreams", "set_upstream", "set_upstreams"]

_HEADER: Final = re.compile(
    rb'\s*\[\s*(?P<section>[A-Za-z0-9.-]+)(?:\s+"(?P<subsection>(?:[^"\\\n]|\\.)*)")?\s*\]'
)
# A subsection may have backslashes anywhere: git-config(1), "Syntax".
_ESCAPED_HEADER: Final = re.compile(rb'\[[^"\n]*"[^"\n]*\\')
# As it is written here, and followed by another one or by nothing.
_SECTION: Final = re.compile(
    rb'\[branch "([^"\n]*)"\]\n\tremote = [^\n\\]*\n\tmerge = refs/heads/([^\n]*)\n(?=\[|\Z)'
)
_OURS: Final = re.compile(rb"(?i)\s*(remote|merge)\s*(=|$)")


def set_upstream(repository: OpenRepository, branch: str, *, remote: str) -> None:
    """Make a branch track the branch of the same name on a remote.

    A plain ``git push`` or ``git pull`` in a worktree on that branch then goes there.

    Args:
        repository: Repository whose configuration is written.
        branch: Short name of a lane's branch; validated, so it needs no quoting.
        remote: Name of the remote.

    Raises:
        LaneBusyError: Another program kept the configuration locked.
        RepositoryError: It cannot be written.
    """
    set_upstreams(repository, [branch], remote=remote)


def set_upstreams(repository: OpenRepository, branches: Sequence[str], *, remote: str) -> None:
    """Make branches track their namesakes on a remote; the file is written once.

    Args:
        repository: Repository whose configuration is written.
        branches: Short names of lanes' branches.
        remote: Name of the remote.

    Raises:
        LaneBusyError: Another program kept the configuration locked.
        RepositoryError: It cannot be written.
    """
    quoted = _quoted(remote)

    def with_sections(data: bytes) -> bytes:
        escaped = _ESCAPED_HEADER.search(data) is not None
        new: list[bytes] = []
        for branch in branches:
            keys = f"\tremote = {quoted}\n\tmerge = refs/heads/{branch}\n".encode()
            if escaped or branch.encode() in data:
                data = _with_section(data, branch, keys)
            else:
                # The usual case. However long the file is, nothing in it is of the branch.
                new += [f'[branch "{branch}"]\n'.encode(), keys]
        return b"".join([_ended(data), *new]) if new else data

    _rewrite(repository, with_sections, f"set the upstream of {_named(branches)}")


def _with_section(data: bytes, branch: str, keys: bytes) -> bytes:
    """Return the configuration with the keys in the branch's section, made if missing."""
    kept: list[bytes] = []
    found = False
    for line, inside in _lines(data, {branch}):
        if inside is _Inside.HEADER and not found:
            found = True
            kept += [_ended(line), keys]
        elif inside is not _Inside.KEYS or not _OURS.match(line):
            kept.append(line)
    if not found:
        kept = [_ended(data), f'[branch "{branch}"]\n'.encode(), keys]
    return b"".join(kept)


def drop_upstream(repository: OpenRepository, branch: str) -> None:
    """Remove a branch's section, if it has one.

    Raises:
        LaneBusyError: Another program kept the configuration locked.
        RepositoryError: It cannot be written.
    """
    drop_upstreams(repository, [branch])


def drop_upstreams(repository: OpenRepository, branches: Collection[str]) -> None:
    """Remove the sections of branches, those that there are; the file is written once.

    Raises:
        LaneBusyError: Another program kept the configuration locked.
        RepositoryError: It cannot be written.
    """

    def without_sections(data: bytes) -> bytes:
        escaped = _ESCAPED_HEADER.search(data) is not None
        there = [branch for branch in branches if escaped or branch.encode() in data]
        if len(there) == 1 and not escaped:
            cut = _cut(data, there[0])
            if cut is not None:
                return cut
        return _without_sections(data, there) if there else data

    _rewrite(repository, without_sections, f"unset the upstream of {_named(branches)}")


def _cut(data: bytes, branch: str) -> bytes | None:
    """Return the configuration without a section that is just as it was written here.

    ``None`` where anything about it is otherwise: then each line has to be looked at.
    """
    # Not one pattern with the name in it: compiling that takes longer than all else.
    name = branch.encode()
    start = data.find(b'[branch "%s"]\n\tremote = ' % name)
    if start < 0 or data[:start].endswith((b"\\\n", b"\\\r\n")):
        return None
    section = _SECTION.match(data, start)
    if section is None or section[1] != name or section[2] != name:
        return None
    if data.count(name) != section[0].count(name):
        return None
    if start and data[start - 1 : start] != b"\n":
        return None
    return data[:start] + data[section.end() :]


def _named(branches: Collection[str]) -> str:
    """Return branches as a message names them."""
    return f"'{next(iter(branches))}'" if len(branches) == 1 else f"{len(branches)} branches"


def _quoted(value: str) -> str:
    """Return a value as git-config(1) wants it quoted."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    plain = escaped == value == value.strip() and not set("#;") & set(value)
    return value if plain else f'"{escaped}"'


class _Inside(Enum):
    """What a line of the configuration has to do with the branch."""

    NOTHING = "not of its section"
    HEADER = "the section's header"
    KEYS = "a line of the section"
    NOTE = "a comment in the section"


def _lines(data: bytes, branches: Collection[str]) -> Iterator[tuple[bytes, _Inside]]:
    """Iterate over logical lines, each with what it has to do with the branches' sections.

    Source:
        git-config(1), "Syntax": section names ignore case, subsections do not; a
        comment or a key may follow the header; a backslash continues a value.
    """
    ours = False
    names = {branch.encode() for branch in branches}
    for line in _logical_lines(data):
        header = _HEADER.match(line)
        if header is None:
            note = line.lstrip()[:1] in (b"#", b";")
            yield line, (_Inside.NOTE if note else _Inside.KEYS) if ours else _Inside.NOTHING
            continue
        name = header["subsection"]
        ours = (
            header["section"].lower() == b"branch"
            and name is not None
            and re.sub(rb"\\(.)", rb"\1", name) in names
        )
        rest = line[header.end() :]
        if ours and rest.strip() and rest.lstrip()[:1] not in (b"#", b";"):
            # A key on the header's own line is a line like any other.
            yield line[: header.end()] + b"\n", _Inside.HEADER
            yield b"\t" + rest.lstrip(), _Inside.KEYS
        else:
            yield line, _Inside.HEADER if ours else _Inside.NOTHING


def _logical_lines(data: bytes) -> Iterator[bytes]:
    """Iterate over lines, a continued value being one line."""
    pending = b""
    for line in data.splitlines(keepends=True):
        pending += line
        text = line.rstrip(b"\r\n")
        slashes = len(text) - len(text.rstrip(b"\\"))
        if slashes % 2 and pending.lstrip()[:1] not in (b"#", b";"):
            continue
        yield pending
        pending = b""
    if pending:
        yield pending


def _ended(data: bytes) -> bytes:
    """Return text that ends its last line."""
    return data if not data or data.endswith(b"\n") else data + b"\n"


def _without_sections(data: bytes, branches: Collection[str]) -> bytes:
    """Return the configuration without some branches' sections; all else byte for byte."""
    return b"".join(
        line for line, inside in _lines(data, branches) if inside in {_Inside.NOTHING, _Inside.NOTE}
    )


def _rewrite(repository: OpenRepository, change: Callable[[bytes], bytes], operation: str) -> None:
    """Apply a change under ``config.lock``; an unchanged file is not written.

    ``git config`` gives up at once when the file is locked. So the new content is made
    before, and the lock is held only to see that the old one is still the same.
    """
    # Git locks the file a linked configuration leads to.
    path = Path(os.path.realpath(repository.common_dir / "config"))
    has_failed = False

    def attempt() -> None:
        nonlocal has_failed
        # Lanes queue here instead of colliding there; who has met nobody yet need not.
        queue = repository.queue_for("config") if has_failed else contextlib.nullcontext()
        has_failed = True
        with queue:
            before = path.read_bytes()
            after = change(before)
            if after == before:
                return
            with LockFile(path, own_dir=repository.own_dir, data=after) as lock:
                if path.read_bytes() != before:
                    raise LockedError(f"'{path}' is being changed")
                lock.commit()

    with repository_failures(operation, path=path):
        until_free(attempt, busy=lambda error: isinstance(error, LockedError), what=operation)
