"""What is fetched, out of a garbage collection's sight until refs lead to it.

libgit2 puts a pack where git can see it, and the refs are written afterwards. A
``git repack -a -d`` or ``git gc --prune=now`` that begins in between takes the pack for
garbage, and the refs then lead nowhere. Git's own fetch marks its pack with a ``.keep``
file; libgit2 has no such thing, so it fetches to a directory of ours, and the packs are
moved from there with their mark.

Source:
    gitrepository-layout(5), "objects/info/alternates"; git-repack(1), "-a": packs with a
    .keep file stay; git-index-pack(1), "--keep".
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import pygit2

from agentrelay.workstream._git.lockfile import is_held
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._git.trash import remove_tree

if sys.platform != "win32":
    import fcntl

__all__ = ["Incoming", "Marks"]

# Says whose a mark is; whether its maker lives is said by the kernel.
_MARK: Final = "agentrelay-workstream fetch\n"


@dataclass
class Marks:
    """The marks of packs that no ref leads to yet; their files are locked while they stand."""

    _held: list[tuple[Path, int]] = field(default_factory=list)

    def add(self, keep: Path, descriptor: int) -> None:
        """Take over a mark and the descriptor that locks it."""
        self._held.append((keep, descriptor))

    def remove(self) -> None:
        """Remove them: refs lead to what was fetched, or nobody wants it any more."""
        while self._held:
            keep, descriptor = self._held.pop()
            # Another fetch of the same objects may have put its own mark there.
            is_ours = _is_at(keep, descriptor)
            os.close(descriptor)
            if is_ours:
                keep.unlink(missing_ok=True)


class Incoming:
    """A place for the objects of one fetch; use it as a context manager.

    What a killed process left of its fetches goes when the next one begins.
    """

    def __init__(self, repository: OpenRepository) -> None:
        """Name the place; nothing is made yet.

        Raises:
            OSError: The repository has no objects.
        """
        self._objects_dir = repository.common_dir / "objects"
        self._parent = _parent_of_places(self._objects_dir, repository.own_dir)
        self._place = self._parent / f"objects-{os.urandom(8).hex()}"
        self._alive: int | None = None

    def __enter__(self) -> Self:
        """Make it, beside the objects that are here already.

        Raises:
            OSError: It cannot be made.
        """
        self._sweep()
        while not self._is_made():
            # Before it was locked, somebody took it for a dead one's; each does so once.
            pass
        for name in ("info", "pack"):
            (self._place / name).mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it, with everything that was not admitted."""
        if self._alive is not None:
            os.close(self._alive)
        # What is left is the next fetch's to sweep: why this one failed is of more use.
        with contextlib.suppress(OSError):
            remove_tree(self._place)

    def _is_made(self) -> bool:
        """Make the place and lock it; return whether it is there then."""
        self._place.mkdir(parents=True, exist_ok=True)
        try:
            self._alive = _lock_directory(self._place)
        except FileNotFoundError:
            return False
        if self._alive is None or _is_at(self._place, self._alive):
            return True
        os.close(self._alive)
        return False

    def receive(self, handle: pygit2.Repository) -> None:
        """Let a handle of the repository write its objects here; it reads all there are."""
        known = [self._objects_dir, *_alternates(self._objects_dir)]
        text = b"".join(os.fsencode(path) + b"\n" for path in known)
        (self._place / "info" / "alternates").write_bytes(text)
        handle.set_odb(pygit2.Odb(str(self._place)))

    def admit(self, marks: Marks) -> None:
        """Move what has come into the repository, each pack with a mark.

        Raises:
            OSError: It cannot be moved.
        """
        pack_dir = self._objects_dir / "pack"
        pack_dir.mkdir(parents=True, exist_ok=True)
        for index in sorted((self._place / "pack").glob("*.idx")):
            keep = index.with_suffix(".keep")
            descriptor = _locked(keep, _MARK)
            marks.add(pack_dir / keep.name, descriptor)
            # The mark first, and the index last: without one a pack is not seen.
            others = [path for path in index.parent.glob(f"{index.stem}.*") if path != keep]
            others.sort(key=lambda path: path == index)
            for path in (keep, *others):
                try:
                    path.replace(pack_dir / path.name)
                except OSError as error:
                    # Where it came from is nobody's business.
                    raise OSError(error.errno, error.strerror, str(pack_dir)) from error

    def _sweep(self) -> None:
        """Remove the places and marks of killed processes."""
        for place in self._parent.glob("objects-*"):
            with contextlib.suppress(OSError):
                # While it is locked here nobody can begin to use it.
                dead = _lock_directory(place, wait=False)
                if dead is not None:
                    try:
                        remove_tree(place)
                    finally:
                        os.close(dead)
        for keep in (self._objects_dir / "pack").glob("*.keep"):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                if keep.read_text() == _MARK and is_held(keep) is False:
                    keep.unlink()


def _parent_of_places(objects_dir: Path, own_dir: Path) -> Path:
    """Return where places are made: packs are renamed, which leads to no other file system.

    Objects may be on one, by a link or a mount; then it is beside the packs, where git looks
    for no folders.
    """
    pack_dir = objects_dir / "pack"
    packs = pack_dir if pack_dir.is_dir() else objects_dir
    ours = own_dir if own_dir.is_dir() else own_dir.parent
    if packs.stat().st_dev == ours.stat().st_dev:
        return own_dir / "fetch"
    return pack_dir / "agentrelay-fetch"


def _lock_directory(path: Path, *, wait: bool = True) -> int | None:
    """Lock a directory in the kernel, where that can be done; return the descriptor.

    Raises:
        BlockingIOError: Somebody has locked it, and is not to be waited for.
    """
    if sys.platform == "win32":
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether what is open is still where it was made."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _locked(path: Path, text: str) -> int:
    """Write a file that the kernel says is in use, until it is closed or its maker dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    if sys.platform != "win32":
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, text.encode())
    return descriptor


def _alternates(objects_dir: Path) -> list[Path]:
    """Return where else a repository looks for objects, absolute: libgit2 asks for that here."""
    try:
        lines = (objects_dir / "info" / "alternates").read_bytes().splitlines()
    except OSError:
        return []
    return [objects_dir / os.fsdecode(line) for line in lines if line and line[:1] != b"#"]
