"""Writing git's reflogs, for the refs that are written here and not by libgit2."""

from __future__ import annotations

import pygit2

from agentrelay.workstream._git.failures import is_torn
from agentrelay.workstream._git.locks import reading
from agentrelay.workstream._git.repository import HEX_LENGTH, OpenRepository

__all__ = ["log_update"]

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
    path = repository.common_dir / "logs" / ref
    if not path.exists() and not _wanted(repository, ref):
        return
    who = _author(repository.handle)
    minutes = abs(who.offset)
    zone = f"{'-' if who.offset < 0 else '+'}{minutes // 60:02d}{minutes % 60:02d}"
    words = " ".join(message.split())
    line = f"{old or _NOBODY} {new} {who.name} <{who.email}> {who.time} {zone}\t{words}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        stream.write(line.encode("utf-8", "replace"))


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
    try:
        return handle.default_signature
    except (KeyError, pygit2.GitError):
        return pygit2.Signature("unknown", "unknown@agentrelay.invalid")
