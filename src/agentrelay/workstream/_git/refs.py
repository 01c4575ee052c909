"""Creating and deleting refs without losing anybody's.

libgit2 deletes a packed ref from a copy of ``packed-refs`` it read before taking the
lock. Beside ``git pack-refs``, which ``git gc --auto`` runs, that loses unrelated
branches. And the lock file of a process that is killed inside libgit2 blocks everybody
for ever. So refs are written and deleted here, with git's own lock files, in git's own
order.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final, Literal

import pygit2

from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.lockfile import LockedError, LockFile, remove_if_dead
from agentrelay.workstream._git.locks import until_free
from agentrelay.workstream._git.repository import HEX_LENGTH, OpenRepository, read_ref
from agentrelay.workstream.errors import LaneConflictError, RepositoryError

__all__ = ["create_ref", "delete_ref", "refs_below", "release_dead_lock", "set_tracking_ref"]

_NOTHING: Final = "0" * HEX_LENGTH
# Source: git-config(1), "core.logAllRefUpdates".
_LOGGED: Final = ("refs/heads/", "refs/remotes/", "refs/notes/")


def create_ref(repository: OpenRepository, ref: str, commit_id: str, *, message: str) -> bool:
    """Create a ref where there is none.

    Args:
        repository: Repository to create it in.
        ref: Full ref name.
        commit_id: Hex id of the commit it will point to.
        message: Line for the reflog.

    Returns:
        ``True`` if this call created it, ``False`` if it exists already. Of any number
        of callers exactly one gets ``True``.

    Raises:
        LaneConflictError: Another ref stands where a directory is needed.
        LaneBusyError: Another program kept it locked.
        RepositoryError: It cannot be written.
    """
    operation = f"create the ref '{ref}'"
    if not pygit2.reference_is_valid_name(ref):
        text = f"cannot {operation}: git allows no such name"
        raise RepositoryError(text, path=repository.path)
    if commit_id not in repository.handle:
        text = f"cannot {operation}: there is no commit {commit_id} in '{repository.path}'"
        raise RepositoryError(text, path=repository.path)
    parts = ref.split("/")
    for length in range(3, len(parts)):
        shorter = "/".join(parts[:length])
        if repository.handle.references.get(shorter) is not None:
            text = f"the ref '{shorter}' exists, so '{ref}' cannot be created below it"
            raise LaneConflictError(
                text, obstacle=shorter, hint="Rename or delete that branch, or rename the graph."
            )
    below = refs_below(repository, f"{ref}/") if _may_hold(repository, ref) else []
    if below:
        text = f"the ref '{below[0]}' exists, so '{ref}' cannot be created above it"
        raise LaneConflictError(
            text, obstacle=below[0], hint="Rename or delete that branch, or rename the graph."
        )
    with repository_failures(operation, path=repository.path):
        return until_free(
            lambda: _write(repository, ref, commit_id, message=message, over="nothing"),
            busy=_is_busy,
            what=operation,
        )


def set_tracking_ref(repository: OpenRepository, ref: str, commit_id: str | None) -> None:
    """Record what a remote has under a remote-tracking ref, or that it has nothing.

    Raises:
        LaneBusyError: Another program kept it locked.
        RepositoryError: It cannot be written.
    """
    current = read_ref(repository.common_dir, ref)
    if current == commit_id:
        return
    if commit_id is None:
        assert current is not None
        delete_ref(repository, ref, expected=current)
        return
    with repository_failures(f"update '{ref}'", path=repository.path):
        until_free(
            lambda: _write(repository, ref, commit_id, message="fetch", over="anything"),
            busy=_is_busy,
            what=f"update the ref '{ref}'",
        )


def refs_below(repository: OpenRepository, prefix: str) -> list[str]:
    """Return the full names of the refs that start with ``prefix``, sorted."""
    return sorted(
        reference.name
        for reference in repository.handle.references.iterator()
        if reference.name.startswith(prefix)
    )


def delete_ref(repository: OpenRepository, ref: str, *, expected: str) -> bool:
    """Delete a ref if it still points where the caller saw it.

    Args:
        repository: Repository to delete it in.
        ref: Full ref name below ``refs/``.
        expected: Hex id the caller examined.

    Returns:
        ``True`` if it was deleted, ``False`` if it was gone already.

    Raises:
        LaneConflictError: It points elsewhere by now; nothing was changed.
        LaneBusyError: Another program kept a lock file.
        RepositoryError: It cannot be deleted.

    Source:
        gitrepository-layout(5) "packed-refs", and the order of git's own files backend:
        lock the ref and packed-refs, rewrite packed-refs without it, unlink the loose file,
        unlock both.
    """
    loose = repository.common_dir / ref
    with repository_failures(f"delete the ref '{ref}'", path=repository.path):
        return until_free(
            lambda: _delete(repository, loose, ref, expected),
            busy=_is_busy,
            what=f"delete the ref '{ref}'",
        )


def release_dead_lock(repository: OpenRepository, ref: str) -> None:
    """Finish the deletion of a ref that is gone, if its deleter was killed.

    Its lock file goes if it is ours and nobody's any more, and so do its log and the
    directories it left empty. A deletion looks after this by itself; a ref that is gone is
    not deleted again.
    """
    common_dir = repository.common_dir
    loose, log = common_dir / ref, common_dir / "logs" / ref
    remove_if_dead(loose.with_name(loose.name + ".lock"), repository.own_dir / "held")
    if read_ref(common_dir, ref) is None and log.is_file():
        log.unlink(missing_ok=True)
    _drop_empty_parents(loose.parent, common_dir / "refs")
    _drop_empty_parents(log.parent, common_dir / "logs" / "refs")


def _is_busy(error: Exception) -> bool:
    """Tell whether somebody holds a lock file just now."""
    return isinstance(error, LockedError)


def _may_hold(repository: OpenRepository, ref: str) -> bool:
    """Tell cheaply whether there may be refs below a ref's name."""
    if (repository.common_dir / ref).is_dir():
        return True
    with contextlib.suppress(FileNotFoundError):
        return f" {ref}/".encode() in (repository.common_dir / "packed-refs").read_bytes()
    return False


def _make_parent(path: Path) -> None:
    """Make the directory of a ref, or raise :class:`LockedError` where it was pruned again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        if any(parent.is_file() for parent in path.parents):
            raise
        # Made, then pruned by somebody else before it could be used.
        message = f"'{path.parent}' is locked"
        raise LockedError(message) from error


def _write(
    repository: OpenRepository,
    ref: str,
    commit_id: str,
    *,
    message: str,
    over: Literal["nothing", "anything"],
) -> bool:
    """Write a ref once, or raise :class:`LockedError`.

    Not by libgit2: the lock file of a process killed inside it stays for good, and blocks
    everybody, since nothing says whose it was.

    Returns:
        ``False`` where there is one and it may not be written over.
    """
    loose = repository.common_dir / ref
    _make_parent(loose)
    with LockFile(loose, own_dir=repository.own_dir) as lock:
        before = read_ref(repository.common_dir, ref)
        if over == "nothing" and (before is not None or loose.is_file()):
            return False
        _drop_empty_directories(loose)
        _log(repository, ref, before or _NOTHING, commit_id, message)
        lock.commit(f"{commit_id}\n".encode())
    return True


def _log(repository: OpenRepository, ref: str, before: str, after: str, message: str) -> None:
    """Add a line to a ref's log, where git keeps one.

    Source:
        git-config(1), "core.logAllRefUpdates"; gitrepository-layout(5), "logs".
    """
    path = repository.common_dir / "logs" / ref
    config = repository.handle.config
    key = "core.logallrefupdates"
    setting = str(config[key]).lower() if key in config else ""
    if not path.exists():
        if setting in {"false", "no", "off", "0"} or (not setting and repository.handle.is_bare):
            return
        if setting != "always" and not ref.startswith(_LOGGED):
            return
    _drop_empty_directories(path)
    _make_parent(path)
    try:
        who = repository.handle.default_signature
    except (KeyError, pygit2.GitError):
        who = pygit2.Signature("agentrelay-workstream", "lanes@agentrelay.invalid")
    hours, minutes = divmod(abs(who.offset), 60)
    zone = f"{'-' if who.offset < 0 else '+'}{hours:02}{minutes:02}"
    words = " ".join(message.split())
    line = f"{before} {after} {who.name} <{who.email}> {who.time} {zone}\t{words}\n"
    with path.open("ab", buffering=0) as stream:
        stream.write(line.encode("utf-8", "replace"))


def _delete(repository: OpenRepository, loose: Path, ref: str, expected: str) -> bool:
    """Delete once, or raise :class:`LockedError`."""
    common_dir, own_dir = repository.common_dir, repository.own_dir
    log = common_dir / "logs" / ref
    try:
        _make_parent(loose)
    except (FileExistsError, FileNotFoundError, NotADirectoryError):
        # A branch stands where a directory would be, so nothing can be below it.
        return False
    try:
        packed = common_dir / "packed-refs"
        # The packed refs stay locked until the loose file is gone: otherwise a
        # "git pack-refs" that has read the loose file writes the ref back.
        with LockFile(loose, own_dir=own_dir), LockFile(packed, own_dir=own_dir):
            current = _symbolic_target(loose) or read_ref(common_dir, ref)
            if current is None:
                return False
            if current != expected:
                message = f"'{ref}' is at {current[:40]} and was at {expected[:12]}; it is kept"
                raise LaneConflictError(
                    message, obstacle=ref, hint="Look at the new commits, then tear down again."
                )
            # First what may refuse: a ref must not be half deleted.
            _drop_empty_directories(loose)
            _drop_empty_directories(log)
            _drop_packed(packed, ref, scratch=own_dir / "packed-refs")
            loose.unlink(missing_ok=True)
            log.unlink(missing_ok=True)
    finally:
        _drop_empty_parents(loose.parent, common_dir / "refs")
        _drop_empty_parents(log.parent, common_dir / "logs" / "refs")
    return True


def _symbolic_target(loose: Path) -> str | None:
    """Return ``ref: <target>`` if the ref is symbolic."""
    with contextlib.suppress(OSError):
        text = loose.read_text().strip()
        if text.startswith("ref:"):
            return text
    return None


def _drop_empty_directories(path: Path) -> None:
    """Remove the empty directories git may leave under a ref's name."""
    if not path.is_dir():
        return
    for directory, _, _ in os.walk(path, topdown=False):
        Path(directory).rmdir()


def _drop_packed(packed: Path, ref: str, *, scratch: Path) -> None:
    """Rewrite ``packed-refs`` without one ref, if it is there; its lock must be held."""
    name = ref.encode()
    try:
        lines = packed.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    kept: list[bytes] = []
    dropping = False
    for line in lines:
        if not line.startswith(b"^"):
            dropping = not line.startswith(b"#") and line[HEX_LENGTH + 1 :].rstrip() == name
        if not dropping:
            kept.append(line)
    if len(kept) == len(lines):
        return
    # Not "packed-refs.new", git's own name for it: a leftover of that stops every git.
    with scratch.open("wb") as stream:
        stream.write(b"".join(kept))
        stream.flush()
        os.fsync(stream.fileno())
    scratch.replace(packed)


def _drop_empty_parents(directory: Path, root: Path) -> None:
    """Remove directories that a deleted ref left empty, as git does."""
    # The first level always stays: refs/heads and refs/remotes belong to git.
    while root in directory.parents and directory.parent != root:
        try:
            directory.rmdir()
        except FileNotFoundError:
            # A deleter that was killed came this far.
            pass
        except OSError:
            return
        directory = directory.parent
