"""Creating, moving and deleting refs without losing anybody's.

libgit2 looks whether a ref exists before it locks it, so two creators can both succeed.
And what it has locked stays locked when it is killed. So refs are written here, with git's
own lock files, in git's own order.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pygit2

from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.lockfile import LockedError, LockFile, remove_if_dead
from agentrelay.workstream._git.locks import until_free
from agentrelay.workstream._git.ref_deletion import (
    delete_refs,
    drop_empty_directories,
    drop_empty_parents,
    packed_contents,
)
from agentrelay.workstream._git.reflog import log_update
from agentrelay.workstream._git.repository import (
    OpenRepository,
    find_packed,
    read_ref,
    refuse_linked,
)
from agentrelay.workstream.errors import LaneConflictError, RepositoryError, WorkstreamError

__all__ = [
    "create_ref",
    "dead_logs_below",
    "delete_ref",
    "move_ref",
    "refs_below",
    "refuse_blocked",
    "release_dead_lock",
    "release_dead_locks_below",
    "release_dead_logs_below",
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
        now = read_ref(common_dir, ref, symbolic_too=True)
        if not wanted(now):
            return False
        if now == commit_id:
            return True
        for path in (loose, common_dir / "logs" / ref):
            try:
                drop_empty_directories(path)
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
    parts, top_dir = ref.split("/"), os.fspath(repository.common_dir)
    refuse_linked(f"{top_dir}/refs", parts[1:] if parts[0] == "refs" else parts)
    refuse_linked(f"{top_dir}/logs", parts)
    shorter = ["/".join(parts[:length]) for length in range(3, len(parts))]
    own_files = [name for name in shorter if os.path.isfile(f"{top_dir}/{name}")]  # noqa: PTH113 - as often as refs are written
    # After their own files, which is the order in which packing moves them.
    packed = packed_contents(repository.common_dir / "packed-refs")
    for name in shorter:
        if name in own_files:
            exists = read_ref(repository.common_dir, name) is not None
        else:
            exists = find_packed(packed, name) is not None
        if exists:
            text = f"the ref '{name}' exists, so '{ref}' cannot be created below it"
            raise LaneConflictError(text, obstacle=name, hint=hint)
    if (repository.common_dir / ref).is_dir() or f" {ref}/".encode() in packed:
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
    """
    result = delete_refs(repository, {ref: expected})[ref]
    if isinstance(result, WorkstreamError):
        raise result
    return result


def release_dead_lock(repository: OpenRepository, ref: str) -> None:
    """Finish the deletion of a ref that is gone, if its deleter was killed.

    Its lock file goes if it is ours and nobody's any more, and so do its log and the
    directories it left empty. A deletion looks after this by itself; a ref that is gone is
    not deleted again.
    """
    top = os.fspath(repository.common_dir)
    remove_if_dead(f"{top}/{ref}.lock", repository.own_dir / "held")
    if read_ref(repository.common_dir, ref) is not None:
        return
    log = f"{top}/logs/{ref}"
    if os.path.isfile(log):  # noqa: PTH113 - a string
        with contextlib.suppress(FileNotFoundError):
            os.unlink(log)  # noqa: PTH108 - a string
    folder = ref.rpartition("/")[0]
    drop_empty_parents(f"{top}/{folder}", f"{top}/refs")
    drop_empty_parents(f"{top}/logs/{folder}", f"{top}/logs/refs")


def release_dead_locks_below(repository: OpenRepository, prefix: str) -> None:
    """Remove what killed writers of ours left locked below a prefix nobody writes to again."""
    for lock in sorted((repository.common_dir / prefix).rglob("*.lock")):
        remove_if_dead(lock, repository.own_dir / "held")
        drop_empty_parents(lock.parent, repository.common_dir / "refs")


def dead_logs_below(repository: OpenRepository, prefix: str) -> list[Path]:
    """Return the logs below a prefix nobody writes to again whose ref is not there, sorted.

    Who creates a ref writes its log first, and may be killed before the ref. One that is
    being created just now looks the same. Behind a link nothing is looked for.
    """
    common_dir = repository.common_dir
    logs = common_dir / "logs"
    with suppress(LaneConflictError):
        refuse_linked(os.fspath(logs), prefix.rstrip("/").split("/"))
        found = [
            Path(directory, name)
            for directory, _, names in os.walk(logs / prefix)
            for name in names
        ]
        return sorted(log for log in found if _is_gone(common_dir, _logged_ref(logs, log)))
    return []


def release_dead_logs_below(repository: OpenRepository, prefix: str) -> None:
    """Remove what :func:`dead_logs_below` finds, each while nobody can create its ref."""
    common_dir = repository.common_dir
    for log in dead_logs_below(repository, prefix):
        ref = _logged_ref(common_dir / "logs", log)
        loose = common_dir / ref
        # What is in the way of its ref, or locked by another program, is left for later.
        with suppress(OSError, LaneConflictError):
            refuse_linked(f"{common_dir}/refs", ref.split("/")[1:])
            loose.parent.mkdir(parents=True, exist_ok=True)
            with LockFile(loose, own_dir=repository.own_dir):
                if _is_gone(common_dir, ref):
                    log.unlink(missing_ok=True)
        drop_empty_parents(loose.parent, common_dir / "refs")
        drop_empty_parents(log.parent, common_dir / "logs" / "refs")


def _logged_ref(logs: Path, log: Path) -> str:
    """Return the full name of the ref a log is of."""
    return log.relative_to(logs).as_posix()


def _is_gone(common_dir: Path, ref: str) -> bool:
    """Return whether there is no such ref, not even a damaged one."""
    return not os.path.lexists(common_dir / ref) and read_ref(common_dir, ref) is None
