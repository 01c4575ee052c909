"""Cloning, step by step: look, make it aside, rename it into place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agentrelay.workstream._durations import absolute_path
from agentrelay.workstream._git.aside import made_aside, sweep_aside
from agentrelay.workstream._git.cloning import Progress, fill_clone, is_path, remote_url_of
from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.remotes import RemoteAccess
from agentrelay.workstream._redact import redact
from agentrelay.workstream._steps import Step
from agentrelay.workstream.errors import LaneConflictError, RepositoryError

__all__ = ["make_clone"]

# What is made aside, in one word.
_KIND: Final = "clone"


def make_clone(
    url: str,
    path: Path,
    access: RemoteAccess,
    *,
    branch: str | None,
    depth: int | None,
    progress: Progress,
) -> Path:
    """Clone; see ``clone``.

    Raises:
        WorkstreamError: As documented there.
    """
    address = _address(url, depth)
    if "\0" in str(path):
        raise RepositoryError(
            f"cannot clone to {str(path)!r}: no path holds a NUL character", hint="Pass a path."
        )
    with Step("look"):
        if _is_there(path, address, access.remote):
            sweep_aside(path, kind=_KIND)
            return path
    with made_aside(path, kind=_KIND) as aside:
        made = aside / "repository"
        fill_clone(made, address, access, branch=branch, depth=depth, progress=progress)
        _put_in_place(made, path, address, access.remote)
    return path


def _address(url: str, depth: int | None) -> str:
    """Return the address as it is written down.

    Raises:
        RepositoryError: It holds a secret or nothing, or the depth is none.
    """
    if not url.strip() or not url.isprintable():
        raise RepositoryError(
            "cannot clone from an address that is empty or holds control characters",
            hint="Pass an https or ssh address, or a path.",
        )
    scheme = url.partition("://")[0].lower()
    try:
        netloc = urlsplit(url).netloc if "://" in url else ""
    except ValueError:
        netloc = ""
    if "@" in netloc and (scheme != "ssh" or ":" in netloc.rpartition("@")[0]):
        raise RepositoryError(
            f"cannot clone from '{redact(url)}': the address holds a user name or a password",
            hint="Addresses are written into the configuration. Pass token= and leave it out.",
        )
    given: object = depth
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
        raise RepositoryError(
            f"depth is {ascii(given)[:60]}, which is no number of generations",
            hint="Pass 1 or more.",
        )
    if not is_path(url):
        return url
    if depth is not None:
        raise RepositoryError(
            f"cannot make a shallow clone of '{url}': it is a path",
            path=url,
            hint="Leave depth out, or use another address: libgit2 cannot do it for paths.",
        )
    # As git writes it: what is relative means something else to the clone.
    if url.startswith("file://"):
        return url
    return os.path.normpath(absolute_path("url", url))


def _is_there(path: Path, url: str, remote: str) -> bool:
    """Return whether the clone is there already.

    Raises:
        LaneConflictError: Something else is.
    """
    if not os.path.lexists(path):
        return False
    what = "is not a directory"
    if path.is_dir():
        with repository_failures("look at the clone's place", path=path):
            is_empty = not os.listdir(path)
        if is_empty and not path.is_symlink():
            return False
        what = "is a link" if is_empty else "is not empty, and no clone of that address"
        try:
            if remote_url_of(path, remote) == url:
                return True
        except (RepositoryError, LaneConflictError):
            pass
    raise LaneConflictError(
        f"cannot clone '{redact(url)}' to '{path}': it {what}",
        obstacle=path,
        hint="Look at what it is, then move it, or name another directory.",
    )


def _put_in_place(made: Path, path: Path, url: str, remote: str) -> None:
    """Rename the clone to where it belongs, unless somebody was quicker.

    Raises:
        LaneConflictError: Something else is there by now.
    """
    try:
        made.rename(path)
    except OSError as error:
        # Another clone of the same may have come first: then that is the one.
        if not _is_there(path, url, remote):
            raise RepositoryError(
                f"cannot put the clone into its place '{path}': {error.strerror or error}",
                path=path,
                hint="A place where something is mounted cannot be replaced; name one below it.",
            ) from error
