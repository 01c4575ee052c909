"""Git's reflogs: what once was, and a line for each ref that is written here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pygit2

from agentrelay.workstream._git.failures import is_torn
from agentrelay.workstream._git.locks import reading
from agentrelay.workstream._git.repository import HEX_LENGTH, OpenRepository

__all__ = ["is_logged", "log_head", "log_update", "logged_commits"]

_NOBODY = "0" * HEX_LENGTH
# git-config(1), core.logAllRefUpdates: what is logged when it is "true".
_LOGGED = ("refs/heads/", "refs/remotes/", "refs/notes/")


def log_update(
    repository: OpenRepository, ref: str, old: str | None, new: str, *, message: str
) -> None:
    """Append a line to a ref's log, if it has one or should; call it under the ref's lock.

    Source:
        gitrepository-layout(5), "logs"; git-config(1), "core.logAllRefUpdates".
    """
    if is_logged(repository, ref):
        _append(repository, repository.common_dir / "logs" / ref, old, new, message)


def is_logged(repository: OpenRepository, ref: str) -> bool:
    """Return whether an update of a ref will stand in its log."""
    return (repository.common_dir / "logs" / ref).exists() or _wanted(repository, ref)


def log_head(repository: OpenRepository, old: str | None, new: str, *, message: str) -> None:
    """Append a line to the log of a working tree's own HEAD, as git does beside the branch's.

    Args:
        repository: Opened at the working tree.
        old: Hex id it was at, ``None`` for an unborn branch.
        new: Hex id it is at.
        message: What was done.
    """
    path = Path(repository.handle.path) / "logs" / "HEAD"
    if path.exists() or _wanted(repository, "refs/heads/"):
        _append(repository, path, old, new, message)


def _append(
    repository: OpenRepository, path: Path, old: str | None, new: str, message: str
) -> None:
    who = _author(repository.handle)
    minutes = abs(who.offset)
    zone = f"{'-' if who.offset < 0 else '+'}{minutes // 60:02d}{minutes % 60:02d}"
    words = " ".join(message.split())
    # As bytes: git takes any for a name.
    name = who.raw_name + b" <" + who.raw_email + b">"
    begin, end = f"{old or _NOBODY} {new} ", f" {who.time} {zone}\t{words}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        stream.write(begin.encode() + name + end.encode("utf-8", "replace"))


def _wanted(repository: OpenRepository, ref: str) -> bool:
    """Return whether a log begins with this update."""
    if ref.startswith("refs/agentrelay/"):
        # What keeps rescued work also stands in a log: a garbage collection that is reading
        # all refs just now may have passed the new one already, and not yet reached the
        # branch that goes next. It reads the logs last.
        return True
    config, key = repository.handle.config, "core.logallrefupdates"
    setting = reading(
        lambda: (config[key] or "true").lower() if key in config else "", torn=is_torn
    )
    if setting == "always":
        return True
    if setting in {"", "true", "yes", "on", "1"}:
        return (bool(setting) or not repository.handle.is_bare) and ref.startswith(_LOGGED)
    return False


def _author(handle: pygit2.Repository) -> pygit2.Signature:
    """Return who the repository says is working; a log must not fail for want of a name."""
    config = handle.config
    # The default signature is made of a copy of the whole configuration.
    with suppress(KeyError, ValueError, pygit2.GitError):
        return pygit2.Signature(config["user.name"] or "", config["user.email"] or "")
    try:
        return handle.default_signature
    except (KeyError, pygit2.GitError):
        return pygit2.Signature("unknown", "unknown@agentrelay.invalid")


def logged_commits(repository: OpenRepository, log: Path) -> Iterator[str]:
    """Iterate over the commits of a reflog that still exist, newest first, each once.

    Args:
        repository: Repository the commits are in.
        log: File of the reflog, or a file of one id such as ``ORIG_HEAD``; a missing or
            unreadable one holds none.

    Source:
        gitrepository-layout(5), "logs": old id, new id, who and when, a tab, the message.
    """
    seen: set[str] = set()
    with suppress(OSError):
        for line in reversed(log.read_bytes().splitlines()):
            for field in reversed(line.split(b" ", 2)[:2]):
                commit_id = field.decode("ascii", "replace")
                if len(commit_id) != HEX_LENGTH or commit_id in seen:
                    continue
                seen.add(commit_id)
                if _is_commit(repository, commit_id):
                    yield commit_id


def _is_commit(repository: OpenRepository, commit_id: str) -> bool:
    """Return whether a commit of that id is here and can be read."""
    try:
        return isinstance(repository.handle[commit_id], pygit2.Commit)
    except (KeyError, ValueError, pygit2.GitError):
        return False
