"""Creating, moving and deleting refs without losing anybody's.

libgit2 looks whether a ref exists before it locks it, so two creators can both succeed.
It deletes a packed ref from a copy of ``packed-refs`` it read before taking the lock,
which beside ``git pack-refs`` loses unrelated branches. And what it has locked stays
locked when it is killed. So refs are written here, with git's own lock files, in git's
own order.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pygit2

from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.lockfile import LockedError, LockFile, remove_if_dead
from agentrelay.workstream._git.locks import until_free
from agentrelay.workstream._git.reflog import log_update
from agentrelay.workstream._git.repository import (
    HEX_LENGTH,
    OpenRepository,
    read_ref,
    refuse_links,
)
from agentrelay.workstream.errors import LaneConflictError, RepositoryError

__all__ = [
    "create_ref",
    "delete_ref",
    "move_ref",
    "refs_below",
    "refuse_blocked",
    "release_dead_lock",
    "release_dead_locks_below",
    "set_tracking_ref",
    "tips_below",
]


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
    return move_ref(repository, ref, commit_id, expected=None, message=message)


def move_ref(
    repository: OpenRepository, ref: str, commit_id: str, *, expected: str | None, message: str
) -> bool:
    """Make a ref point to a commit if it is where the caller saw it.

    Args:
        repository: Repository the ref is in.
        ref: Full ref name.
        commit_id: Hex id of the commit it will point to.
        expected: Hex id the caller saw, ``None`` when there was no such ref.
        message: Line for the reflog.

    Returns:
        Whether it was there; if not, nothing was changed.

    Raises:
        LaneConflictError: Another ref stands where a directory is needed.
        LaneBusyError: Another program kept it locked.
        RepositoryError: It cannot be written.
    """
    return _write(repository, ref, commit_id, lambda now: now == expected, message)


def set_tracking_ref(
    repository: OpenRepository, ref: str, commit_id: str | None, *, message: str = "update by push"
) -> None:
    """Record what a remote has under a remote-tracking ref, or that it has nothing.

    Raises:
        LaneBusyError: Another program kept it locked.
        RepositoryError: It cannot be written.
    """
    if commit_id is None:
        current = repository.resolve(ref)
        if current is not None:
            delete_ref(repository, ref, expected=current)
        return
    if read_ref(repository.common_dir, ref) == commit_id:
        # A dead lock would not stop us here, but the user's own fetch.
        release_dead_lock(repository, ref)
    else:
        _write(repository, ref, commit_id, lambda _: True, message)


def _write(
    repository: OpenRepository,
    ref: str,
    commit_id: str,
    wanted: Callable[[str | None], bool],
    message: str,
) -> bool:
    """Write a ref if what it points to is as wanted."""
    operation = f"write the ref '{ref}'"
    if not pygit2.reference_is_valid_name(ref) or commit_id not in repository.handle:
        text = f"cannot {operation} in '{repository.path}': no valid name, or no such commit"
        raise RepositoryError(text, path=repository.path, hint="Look with 'git fsck'.")
    with repository_failures(operation, path=repository.path):
        return until_free(
            lambda: _write_once(repository, ref, commit_id, wanted, message),
            busy=lambda error: isinstance(error, LockedError),
            what=operation,
        )


def _write_once(
    repository: OpenRepository,
    ref: str,
    commit_id: str,
    wanted: Callable[[str | None], bool],
    message: str,
) -> bool:
    """Write once, or raise :class:`LockedError`."""
    common_dir = repository.common_dir
    loose = common_dir / ref
    refuse_blocked(repository, ref)
    try:
        loose.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        # A branch was made there just now.
        refuse_blocked(repository, ref)
        raise LockedError(f"'{loose.parent}' is no directory") from error
    except FileNotFoundError as error:
        raise LockedError(f"'{loose.parent}' is being pruned") from error
    data = f"{commit_id}\n".encode()
    with LockFile(loose, own_dir=repository.own_dir, data=data) as lock:
        now = _symbolic_target(loose) or read_ref(common_dir, ref)
        if not wanted(now):
            return False
        if now == commit_id:
            return True
        for path in (loose, common_dir / "logs" / ref):
            try:
                _drop_empty_directories(path)
            except OSError as error:
                refuse_blocked(repository, ref)
                raise LockedError(f"'{path}' is a directory in use") from error
        log_update(repository, ref, now, commit_id, message=message)
        lock.commit()
    return True


def refuse_blocked(
    repository: OpenRepository,
    ref: str,
    *,
    hint: str = "Rename or delete that branch, or rename the graph.",
) -> None:
    """Refuse a ref that cannot be made, because of another ref or of a link in its path.

    Args:
        repository: Repository it would be in.
        ref: Full ref name.
        hint: What the reader can do about the other.

    Raises:
        LaneConflictError: There is a ref above or below it, or a link there leads its file
            or its log elsewhere.
    """
    top = repository.common_dir
    refuse_links(top / ref, below=top / "refs")
    refuse_links(top / "logs" / ref, below=top / "logs")
    packed = _contents(top / "packed-refs")
    parts = ref.split("/")
    for length in range(3, len(parts)):
        shorter = "/".join(parts[:length])
        # One that is neither packed nor a file is none.
        if f" {shorter}\n".encode() not in packed and not os.path.isfile(f"{top}/{shorter}"):  # noqa: PTH113 - asked dozens of times a lane
            continue
        if read_ref(top, shorter) is not None:
            text = f"the ref '{shorter}' exists, so '{ref}' cannot be created below it"
            raise LaneConflictError(text, obstacle=shorter, hint=hint)
    if os.path.isdir(f"{top}/{ref}") or f" {ref}/".encode() in packed:  # noqa: PTH112 - likewise
        below = refs_below(repository, f"{ref}/")
        if below:
            text = f"the ref '{below[0]}' exists, so '{ref}' cannot be created above it"
            raise LaneConflictError(text, obstacle=below[0], hint=hint)


def refs_below(repository: OpenRepository, prefix: str) -> list[str]:
    """Return the full names of the refs that start with ``prefix``, sorted."""
    return sorted(
        reference.name
        for reference in repository.handle.references.iterator()
        if reference.name.startswith(prefix)
    )


def tips_below(repository: OpenRepository, *prefixes: str) -> dict[str, str | None]:
    """Return what the refs below some prefixes point to, in one pass over all refs.

    Returns:
        By full name the hex id, or ``None`` for a symbolic ref; sorted. A ref whose file
        is damaged is passed over, as libgit2 passes it over.
    """
    found: dict[str, str | None] = {}
    for reference in repository.handle.references.iterator():
        name = reference.name
        if name.startswith(prefixes):
            target = reference.target
            found[name] = None if isinstance(target, str) else str(target)
    return dict(sorted(found.items()))


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
            busy=lambda error: isinstance(error, LockedError),
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
    if log.is_file() and read_ref(common_dir, ref) is None:
        log.unlink(missing_ok=True)
    _drop_empty_parents(loose.parent, common_dir / "refs")
    _drop_empty_parents(log.parent, common_dir / "logs" / "refs")


def release_dead_locks_below(repository: OpenRepository, prefix: str) -> None:
    """Remove what killed writers of ours left locked below a prefix nobody writes to again."""
    for lock in sorted((repository.common_dir / prefix).rglob("*.lock")):
        remove_if_dead(lock, repository.own_dir / "held")
        _drop_empty_parents(lock.parent, repository.common_dir / "refs")


def _delete(repository: OpenRepository, loose: Path, ref: str, expected: str) -> bool:
    """Delete once, or raise :class:`LockedError`."""
    common_dir, own_dir = repository.common_dir, repository.own_dir
    log = common_dir / "logs" / ref
    try:
        loose.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        if any(parent.is_file() for parent in loose.parents):
            # A branch stands where a directory would be, so nothing can be below it.
            return False
        # Made, then pruned by somebody else before it could be used.
        message = f"'{loose.parent}' is locked"
        raise LockedError(message) from error
    packed, scratch = common_dir / "packed-refs", own_dir / "packed-refs"
    try:
        # Lanes queue here instead of colliding at git's lock files, and what is long is done
        # before those are taken: the user's git waits a second for them at most.
        with repository.queue_for("packed-refs"):
            before = _contents(packed)
            after = _without(before, ref)
            _prepare(scratch, after, before)
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
                now = _contents(packed)
                if now != before:
                    before, after = now, _without(now, ref)
                    _prepare(scratch, after, before)
                if after != before:
                    scratch.replace(packed)
                loose.unlink(missing_ok=True)
                log.unlink(missing_ok=True)
    finally:
        _drop_empty_parents(loose.parent, common_dir / "refs")
        _drop_empty_parents(log.parent, common_dir / "logs" / "refs")
    return True


def _symbolic_target(loose: Path) -> str | None:
    """Return ``ref: <target>`` if the ref is symbolic."""
    with contextlib.suppress(OSError):
        text = loose.read_bytes().decode("utf-8", "replace").strip()
        if text.startswith("ref:"):
            return text
    return None


def _drop_empty_directories(path: Path) -> None:
    """Remove the empty directories git may leave under a ref's name."""
    if not os.path.isdir(path):  # noqa: PTH112 - several times a ref
        return
    for directory, _, _ in os.walk(path, topdown=False):
        Path(directory).rmdir()


def _contents(packed: Path) -> bytes:
    """Return ``packed-refs``, which need not be there."""
    try:
        return packed.read_bytes()
    except FileNotFoundError:
        return b""


def _without(packed: bytes, ref: str) -> bytes:
    """Return ``packed-refs`` without one ref and what its tag was peeled to."""
    name = ref.encode()
    if name not in packed:
        return packed
    kept: list[bytes] = []
    dropping = False
    for line in packed.splitlines(keepends=True):
        if not line.startswith(b"^"):
            dropping = not line.startswith(b"#") and line[HEX_LENGTH + 1 :].rstrip() == name
        if not dropping:
            kept.append(line)
    return b"".join(kept)


def _prepare(scratch: Path, after: bytes, before: bytes) -> None:
    """Write the new ``packed-refs`` aside, if there is to be one."""
    if after == before:
        return
    # Not "packed-refs.new", git's own name for it: a leftover of that stops every git. A new
    # file always: what is there may be a link to somebody's.
    scratch.unlink(missing_ok=True)
    with scratch.open("xb") as stream:
        stream.write(after)
        stream.flush()
        os.fsync(stream.fileno())


def _drop_empty_parents(directory: Path, root: Path) -> None:
    """Remove directories that a deleted ref left empty, as git does."""
    # The first level always stays: refs/heads and refs/remotes belong to git.
    first = f"{root}{os.sep}"
    name = os.fspath(directory)
    while name.startswith(first) and os.sep in name[len(first) :]:
        try:
            os.rmdir(name)  # noqa: PTH106 - many of them a lane, and a path object costs more
        except FileNotFoundError:
            # A deleter that was killed came this far.
            pass
        except OSError:
            return
        name = name.rpartition(os.sep)[0]
