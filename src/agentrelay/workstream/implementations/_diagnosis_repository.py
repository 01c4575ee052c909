"""Looking at the repository and the disk it is on. Nothing is written to find out."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agentrelay.workstream._git import inspection
from agentrelay.workstream._git.repository import OpenRepository, open_repository
from agentrelay.workstream._lane import SIGNALS_DIR, WORKTREES_DIR
from agentrelay.workstream.errors import RepositoryError

if TYPE_CHECKING:
    from agentrelay.workstream.implementations._diagnosis import Question, Sheet

__all__ = ["look"]

# Nobody holds one of git's lock files for longer than a moment: git gc, the slowest, rewrites
# packed-refs in seconds.
_STALE_S: Final = 60.0

# A teardown keeps up to 64 MiB of ignored files a lane by default; with less than that
# left it could not. A gibibyte is a few checkouts of a project of usual size.
_TOO_LITTLE_BYTES: Final = 64 * 1024 * 1024
_LITTLE_BYTES: Final = 1024 * 1024 * 1024
# Beside its files a lane takes objects, refs, logs and signal files: a few hundred.
_LANE_INODES: Final = 500
_FEW_LANES: Final = 10

_MOST_NAMED: Final = 3
_MEBIBYTE: Final = 1024 * 1024


def look(sheet: Sheet, question: Question) -> OpenRepository | None:
    """Look at libgit2, then at the repository, if it opens.

    Returns:
        The repository, or ``None``.
    """
    _look_at_versions(sheet)
    repository = sheet.attempt("repository", lambda: _open(sheet, question.repo_path))
    if repository is None:
        return None
    before_s = question.clock() - _STALE_S
    checks: tuple[tuple[str, Callable[[Sheet, OpenRepository], None]], ...] = (
        ("history", _look_at_history),
        ("index", _look_at_index),
        ("sparse-checkout", _look_at_sparseness),
        ("file-system", _look_at_case),
        ("places", _look_at_places),
        ("disk-space", _look_at_space),
        ("inodes", _look_at_inodes),
        ("locks", partial(_look_at_locks, before_s=before_s)),
        ("leftovers", partial(_look_at_leftovers, before_s=before_s)),
    )
    for name, check in checks:
        sheet.attempt(name, partial(check, sheet, repository))
    return repository


def _look_at_versions(sheet: Sheet) -> None:
    found = inspection.versions()
    sentence = f"pygit2 {found[0]} with libgit2 {found[1]}"
    pairs = zip(found, inspection.MINIMUM, strict=True)
    if all(_numbers(version) >= least for version, least in pairs):
        sheet.ok("libgit2", sentence)
        return
    wanted = [".".join(map(str, least)) for least in inspection.MINIMUM]
    sheet.problem(
        "libgit2",
        f"{sentence}: older than pygit2 {wanted[0]} with libgit2 {wanted[1]}, the first with every "
        "published security fix",
        f"Install pygit2 {wanted[0]} or newer.",
    )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, of at most three parts."""
    parts = [part for part in version.split(".")[:3] if part.isdecimal()]
    return tuple(map(int, parts))


def _open(sheet: Sheet, path: Path) -> OpenRepository | None:
    """Open the repository; whose it is comes first, since libgit2 refuses a stranger's."""
    owners = _foreign_owners(path)
    try:
        repository = open_repository(path)
    except RepositoryError as error:
        if owners and "not owned" in str(error.__cause__):
            sheet.failed("ownership", error)
            sheet.skip(["repository"], "libgit2 opens none that belongs to another user")
            return None
        raise
    kind = "a bare repository" if repository.handle.is_bare else "the top of a working tree"
    sheet.ok("repository", f"'{path}' is {kind} in a format that libgit2 reads")
    if owners:
        sheet.note(
            "ownership",
            f"'{owners[0]}' belongs to another user, and the configuration trusts it "
            "(safe.directory)",
            "Let the user that runs lanes own the repository: files of both will mix.",
        )
    else:
        sheet.ok("ownership", f"'{path}' belongs to the user that runs this process")
    return repository


def _foreign_owners(path: Path) -> list[Path]:
    """Return which of the directories git asks about belong to somebody else."""
    if sys.platform == "win32":
        return []
    mine = os.geteuid()
    asked = [found for found in (path, path / ".git") if found.exists()]
    return [found for found in asked if found.stat().st_uid != mine]


def _look_at_history(sheet: Sheet, repository: OpenRepository) -> None:
    if repository.history.is_shallow:
        sheet.note(
            "history",
            "this is a shallow clone: lanes work over a network, but not with a remote that is "
            "a path, and what is merged may not be seen beyond its edge",
            "Run 'git fetch --unshallow'.",
        )
    else:
        sheet.ok("history", "the repository has its whole history")


def _look_at_index(sheet: Sheet, repository: OpenRepository) -> None:
    count = inspection.count_files(repository)
    bare = repository.handle.is_bare
    sheet.ok("index", "a bare repository has none" if bare else f"the index lists {count} files")


def _look_at_sparseness(sheet: Sheet, repository: OpenRepository) -> None:
    if inspection.is_set(repository, "core.sparseCheckout"):
        sheet.note(
            "sparse-checkout",
            "the checkout is sparse, and lanes are not: each holds all files",
            "Nothing, if the disk has room for that.",
        )
    else:
        sheet.ok("sparse-checkout", "the checkout is a full one, as those of lanes are")


def _look_at_case(sheet: Sheet, repository: OpenRepository) -> None:
    if inspection.ignores_case(repository):
        sheet.note(
            "file-system",
            "the file system ignores case: files and branches that differ only by it are one",
            "Use names that differ in letters.",
        )
    else:
        sheet.ok("file-system", "the file system tells names apart by case")


def _look_at_places(sheet: Sheet, repository: OpenRepository) -> None:
    """Look at the directories lanes write to, or those that these will be made in."""
    common = repository.common_dir
    own = [repository.path / WORKTREES_DIR, repository.path / SIGNALS_DIR, repository.own_dir]
    gits = [common / part for part in ("", "objects", "refs", "worktrees", "info")]
    for place in own:
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            sheet.problem(
                "places",
                f"'{place}' is a link or a file, where lanes need a directory of their own",
                "Move or remove it.",
            )
            return
    blocked = {found for place in (*own, *gits) if not _is_writable(found := _existing(place))}
    if blocked:
        sheet.problem(
            "places",
            f"this process may not write to {_named(sorted(blocked))}",
            "Give the user that runs lanes the right to write there; a file system that is "
            "mounted read-only has to be mounted anew.",
        )
        return
    sheet.ok(
        "places",
        "permissions and mounts allow writing to the repository and its places for lanes; "
        "nothing was written to try",
    )


def _existing(place: Path) -> Path:
    """Return a directory, or the nearest one above that is there."""
    return next(found for found in (place, *place.parents) if found.exists())


def _is_writable(place: Path) -> bool:
    """Tell whether files can be made in a directory, as far as that can be told.

    access(2) alone says yes to root on a file system that is mounted read-only, or did so
    on some systems; statvfs(3) knows.
    """
    if sys.platform != "win32" and os.statvfs(place).f_flag & os.ST_RDONLY:
        return False
    return os.access(place, os.W_OK | os.X_OK)


def _look_at_space(sheet: Sheet, repository: OpenRepository) -> None:
    free = min(shutil.disk_usage(place).free for place in _disks(repository))
    sentence = f"{free // _MEBIBYTE} MiB are free where the repository is"
    fix = "Free some space: every lane is a whole checkout."
    if free < _TOO_LITTLE_BYTES:
        sheet.problem("disk-space", f"{sentence}, too little even to keep a lane's files", fix)
    elif free < _LITTLE_BYTES:
        sheet.note("disk-space", sentence, fix)
    else:
        sheet.ok("disk-space", sentence)


def _look_at_inodes(sheet: Sheet, repository: OpenRepository) -> None:
    name = "inodes"
    if sys.platform == "win32":
        sheet.skip([name], "this system does not count them")
        return
    stats = [os.statvfs(place) for place in _disks(repository)]
    counted = [stat.f_favail for stat in stats if stat.f_files]
    if not counted:
        sheet.ok(name, "the file system does not limit how many files it holds")
        return
    free = min(counted)
    try:
        lane = inspection.count_files(repository) + _LANE_INODES
    except RepositoryError:
        lane = _LANE_INODES
    sentence = f"{free} more files can be made, and a lane takes about {lane}"
    fix = "Remove files, or use a file system with more inodes ('df -i')."
    if free < lane:
        sheet.problem(name, sentence, fix)
    elif free < lane * _FEW_LANES:
        sheet.note(name, sentence, fix)
    else:
        sheet.ok(name, sentence)


def _disks(repository: OpenRepository) -> tuple[Path, Path]:
    """Return where objects and where checkouts go: these may be two file systems."""
    return repository.common_dir, _existing(repository.path / WORKTREES_DIR)


def _look_at_locks(sheet: Sheet, repository: OpenRepository, before_s: float) -> None:
    found = inspection.find_foreign_locks(repository, before_s=before_s)
    if found:
        sheet.problem(
            "locks",
            f"another program left {_named(found)}, more than a minute ago: while it is there "
            "git and lanes cannot write",
            "If no git is running here, remove it.",
        )
    else:
        sheet.ok("locks", "no lock file of git is older than a minute")


def _look_at_leftovers(sheet: Sheet, repository: OpenRepository, before_s: float) -> None:
    trash_dir = repository.path / WORKTREES_DIR / ".trash"
    found = inspection.find_leftovers(repository, trash_dir=trash_dir, before_s=before_s)
    if not found:
        sheet.ok("leftovers", "nothing of what killed runs leave is there")
        return
    said = [f"'{path}' ({what})" for path, what in found.items()]
    sheet.note(
        "leftovers",
        f"there is what killed runs leave: {_listed(said)}",
        "Repeat the command that was interrupted: preparing completes a lane, and tearing it "
        "down sweeps up.",
    )


def _named(paths: Sequence[Path]) -> str:
    return _listed([f"'{path}'" for path in paths])


def _listed(texts: Sequence[str]) -> str:
    """Join the first few texts, and say how many there are beyond them."""
    more = len(texts) - _MOST_NAMED
    return ", ".join(texts[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
