"""Creating and deleting refs without losing anybody's.

libgit2 deletes a packed ref from a copy of ``packed-refs`` it read before taking the
lock. Beside ``git pack-refs``, which ``git gc --auto`` runs, that loses unrelated
branches. So deletion is done here, with git's own lock files, in git's own order.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pygit2

from agentrelay.workstream._git.failures import is_existing, is_locked, repository_failures
from agentrelay.workstream._git.lockfile import LockedError, LockFile, remove_if_dead
from agentrelay.workstream._git.locks import until_free
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
    "refs_below",
    "refuse_blocked",
    "release_dead_lock",
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

    def create() -> bool:
        try:
            repository.handle.create_reference(ref, commit_id, message=message)
        except (pygit2.GitError, ValueError) as error:
            if is_existing(error):
                return False
            raise
        return True

    refuse_blocked(repository, ref, hint="Rename or delete that branch, or rename the graph.")
    try:
        with repository_failures(f"create the ref '{ref}'", path=repository.path):
            return until_free(create, busy=is_locked, what=f"create the ref '{ref}'")
    except RepositoryError as error:
        below = refs_below(repository, f"{ref}/")
        if not below:
            raise
        text = f"the ref '{below[0]}' exists, so '{ref}' cannot be created above it"
        raise LaneConflictError(
            text, obstacle=below[0], hint="Rename or delete that branch, or rename the graph."
        ) from error


def refuse_blocked(repository: OpenRepository, ref: str, *, hint: str) -> None:
    """Refuse a ref that cannot be made, because of another ref or of a link in its path.

    Args:
        repository: Repository it would be in.
        ref: Full ref name.
        hint: What the reader can do about the other.

    Raises:
        LaneConflictError: Another ref stands where its directory would, or a link there
            leads its file or its log elsewhere.
    """
    for top in (repository.common_dir / "refs", repository.common_dir / "logs"):
        refuse_links(top / ref.removeprefix("refs/" if top.name == "refs" else ""), below=top)
    parts = ref.split("/")
    for length in range(3, len(parts)):
        shorter = "/".join(parts[:length])
        if repository.handle.references.get(shorter) is not None:
            text = f"the ref '{shorter}' exists, so '{ref}' cannot be created below it"
            raise LaneConflictError(text, obstacle=shorter, hint=hint)


def set_tracking_ref(repository: OpenRepository, ref: str, commit_id: str | None) -> None:
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

    def write() -> None:
        repository.handle.references.create(ref, commit_id, force=True)

    with repository_failures(f"update '{ref}'", path=repository.path):
        until_free(write, busy=is_locked, what=f"update the ref '{ref}'")


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
    """Remove the lock file of a ref if it is ours and its holder was killed.

    A deletion looks after this by itself; a ref that is gone is not deleted again.
    """
    loose = repository.common_dir / ref
    remove_if_dead(loose.with_name(loose.name + ".lock"), repository.own_dir / "held")
    _drop_empty_parents(loose.parent, repository.common_dir / "refs")


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
    # Not "packed-refs.new", git's own name for it: a leftover of that stops every git. A new
    # file always: what is there may be a link to somebody's.
    scratch.unlink(missing_ok=True)
    with scratch.open("xb") as stream:
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
        except OSError:
            return
        directory = directory.parent
