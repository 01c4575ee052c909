"""Deleting refs, one or many under one lock of the packed refs, and losing nobody's.

libgit2 deletes a packed ref from a copy of ``packed-refs`` it read before taking the lock,
which beside ``git pack-refs`` loses unrelated branches. Here git's own lock files are taken
in git's own order.

Source:
    gitrepository-layout(5) "packed-refs", and the order of git's own files backend: lock
    the refs and packed-refs, unlink the logs, rewrite packed-refs without the refs, unlink
    the loose files, unlock all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.lockfile import LockedError, LockFile
from agentrelay.workstream._git.locks import until_free
from agentrelay.workstream._git.repository import HEX_LENGTH, OpenRepository, read_ref
from agentrelay.workstream._git.whole_files import read_whole
from agentrelay.workstream.errors import LaneConflictError, WorkstreamError

__all__ = [
    "delete_refs",
    "drop_empty_directories",
    "drop_empty_parents",
    "packed_contents",
    "refuse_symbolic",
    "symbolic_target",
]

# How many refs are locked at once. The user's git waits a second for the packed refs at
# most, and each lock is an open file.
_GROUP: Final = 64


def delete_refs(
    repository: OpenRepository, wanted: Mapping[str, str]
) -> dict[str, bool | WorkstreamError]:
    """Delete refs that still point where the caller saw them; each has its own result.

    The packed refs are rewritten once for many of them.

    Args:
        repository: Repository to delete them in.
        wanted: By full name below ``refs/`` the hex id the caller examined.

    Returns:
        By full name ``True`` if it was deleted, ``False`` if it was gone already, and else
        the error: a :class:`LaneConflictError` where it points elsewhere by now and was not
        changed, a :class:`LaneBusyError` where another program kept a lock file, a
        :class:`RepositoryError` where it cannot be deleted.
    """
    results: dict[str, bool | WorkstreamError] = {}
    names = sorted(wanted)
    for start in range(0, len(names), _GROUP):
        group = {ref: wanted[ref] for ref in names[start : start + _GROUP]}
        results.update(_delete_group(repository, group))
    return results


def _delete_group(
    repository: OpenRepository, group: Mapping[str, str]
) -> dict[str, bool | WorkstreamError]:
    """Delete a group; what stops it as a whole stops each of its refs by itself."""
    results: dict[str, bool | WorkstreamError] = {}
    what = f"the ref '{next(iter(group))}'" if len(group) == 1 else f"{len(group)} refs"

    has_failed = False

    def attempt() -> None:
        nonlocal has_failed
        left = {ref: expected for ref, expected in group.items() if ref not in results}
        # Lanes queue there instead of colliding at git's lock files; who has nothing to
        # rewrite, and has met nobody yet, need not.
        queues = has_failed or len(group) > 1 or _is_packed(repository, group)
        has_failed = True
        with repository.queue_for("packed-refs") if queues else contextlib.nullcontext():
            locked = _delete(repository, left, results, rewriting=queues)
        if locked is not None:
            raise locked

    try:
        with repository_failures(f"delete {what}", path=repository.path):
            until_free(
                attempt,
                busy=lambda error: isinstance(error, LockedError),
                what=f"delete {what}",
            )
    except WorkstreamError as error:
        left = [ref for ref in group if ref not in results]
        if len(group) == 1:
            return {left[0]: error}
        for ref in left:
            results.update(_delete_group(repository, {ref: group[ref]}))
    return results


def _delete(
    repository: OpenRepository,
    wanted: Mapping[str, str],
    results: dict[str, bool | WorkstreamError],
    *,
    rewriting: bool,
) -> LockedError | None:
    """Delete once, and say what was locked; raise :class:`LockedError` if that was all.

    Only who stands in line may be rewriting the packed refs: the new ones are made in one
    place.
    """
    common_dir, own_dir = repository.common_dir, repository.own_dir
    packed, scratch = common_dir / "packed-refs", own_dir / "packed-refs"
    made, locked = _places(repository, wanted, results)
    try:
        if not made:
            return locked
        with contextlib.ExitStack() as held:
            # What is long is done before git's own locks are taken: the user's git waits a
            # second for them at most.
            before = packed_contents(packed) if rewriting else b""
            after = _without(before, made)
            _prepare(scratch, after, before)
            going: list[str] = []
            for ref in made:
                try:
                    held.enter_context(LockFile(common_dir / ref, own_dir=own_dir))
                except LockedError as error:
                    locked = error
                else:
                    going.append(ref)
            # The packed refs stay locked until the loose files are gone: otherwise a
            # "git pack-refs" that has read a loose file writes the ref back.
            held.enter_context(LockFile(packed, own_dir=own_dir))
            going = [ref for ref in going if _may_go(repository, ref, wanted[ref], results)]
            now = packed_contents(packed)
            left = _without(now, going)
            if left != now and not rewriting:
                # Packed by somebody just now.
                raise LockedError(f"'{packed}' must be rewritten")
            # Before the refs: git calls a log without a ref a fault, and nobody looks for it.
            _unlink(f"{common_dir}/logs", going)
            if left != now:
                if left != after:
                    _prepare(scratch, left, now)
                scratch.replace(packed)
            _unlink(common_dir, going)
            results.update(dict.fromkeys(going, True))
    finally:
        _drop_folders(common_dir, made)
    return locked


def _unlink(top: str | Path, names: Iterable[str]) -> None:
    """Remove files that need not be there."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{top}/{name}")  # noqa: PTH108 - a string


def _drop_folders(common_dir: Path, refs: Iterable[str]) -> None:
    """Remove the directories that deleted refs and their logs left empty."""
    for ref in refs:
        folder = ref.rpartition("/")[0]
        drop_empty_parents(f"{common_dir}/{folder}", f"{common_dir}/refs")
        drop_empty_parents(f"{common_dir}/logs/{folder}", f"{common_dir}/logs/refs")


def _is_packed(repository: OpenRepository, refs: Collection[str]) -> bool:
    packed = packed_contents(repository.common_dir / "packed-refs")
    return any(ref.encode() in packed for ref in refs)


def _places(
    repository: OpenRepository,
    wanted: Mapping[str, str],
    results: dict[str, bool | WorkstreamError],
) -> tuple[list[str], LockedError | None]:
    """Make the directories of the refs' lock files; return for which there is one now."""
    made: list[str] = []
    locked: LockedError | None = None
    for ref in wanted:
        try:
            if _make_place(repository.common_dir / ref):
                made.append(ref)
            else:
                results[ref] = False
        except LockedError as error:
            locked = error
    return made, locked


def _make_place(loose: Path) -> bool:
    """Make the directory a ref's lock file is in; ``False`` if there can be no such ref."""
    try:
        loose.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        if any(parent.is_file() for parent in loose.parents):
            # A branch stands where a directory would be, so nothing can be below it.
            return False
        # Made, then pruned by somebody else before it could be used.
        message = f"'{loose.parent}' is locked"
        raise LockedError(message) from error
    return True


def _may_go(
    repository: OpenRepository,
    ref: str,
    expected: str,
    results: dict[str, bool | WorkstreamError],
) -> bool:
    """Return whether a ref, locked by now, is where the caller saw it; else say what is."""
    top = os.fspath(repository.common_dir)
    current = read_ref(repository.common_dir, ref, symbolic_too=True)
    if current is None:
        results[ref] = False
        return False
    if current.startswith("ref:"):
        results[ref] = _symbolic(ref, current)
        return False
    if current != expected:
        message = f"'{ref}' is at {current[:40]} and was at {expected[:12]}; it is kept"
        results[ref] = LaneConflictError(
            message, obstacle=ref, hint="Look at the new commits, then tear down again."
        )
        return False
    # First what may refuse: a ref must not be half deleted.
    drop_empty_directories(f"{top}/{ref}")
    drop_empty_directories(f"{top}/logs/{ref}")
    return True


def refuse_symbolic(repository: OpenRepository, ref: str) -> None:
    """Refuse a branch that is a symbolic ref: what is written to it lands on another.

    Raises:
        LaneConflictError: It is one.
    """
    target = symbolic_target(repository, ref)
    if target is not None:
        raise _symbolic(ref, target)


def symbolic_target(repository: OpenRepository, ref: str) -> str | None:
    """Return ``ref: <target>`` if a ref is symbolic."""
    found = read_ref(repository.common_dir, ref, symbolic_too=True)
    return found if found is not None and found.startswith("ref:") else None


def _symbolic(ref: str, target: str) -> LaneConflictError:
    leads_to = ascii(target.removeprefix("ref:").strip())[:200]
    return LaneConflictError(
        f"'{ref}' is a symbolic ref that leads to {leads_to}, and no branch of its own",
        obstacle=ref,
        hint=f"'git update-ref --no-deref {ref} <commit>' makes it one; then repeat.",
    )


def drop_empty_directories(path: str | Path) -> None:
    """Remove the empty directories git may leave under a ref's name."""
    if not os.path.isdir(path):  # noqa: PTH112 - several times a ref
        return
    for directory, _, _ in os.walk(path, topdown=False):
        Path(directory).rmdir()


def drop_empty_parents(directory: str | Path, root: str | Path) -> None:
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


def packed_contents(packed: Path) -> bytes:
    """Return ``packed-refs``, which need not be there."""
    try:
        return read_whole(os.fspath(packed))
    except FileNotFoundError:
        return b""


def _without(packed: bytes, refs: Collection[str]) -> bytes:
    """Return ``packed-refs`` without some refs and what their tags were peeled to."""
    names = {name for name in (ref.encode() for ref in refs) if name in packed}
    if not names:
        return packed
    kept: list[bytes] = []
    dropping = False
    for line in packed.splitlines(keepends=True):
        if not line.startswith(b"^"):
            dropping = not line.startswith(b"#") and line[HEX_LENGTH + 1 :].rstrip() in names
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
