"""Opening a repository, and knowing exactly which one it is."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import RepositoryOpenFlag

from agentrelay.workstream._durations import absolute_path
from agentrelay.workstream._git.config_names import ConfigNames, config_names
from agentrelay.workstream._git.failures import UNSUPPORTED, is_torn, open_failure
from agentrelay.workstream._git.locks import hold, reading
from agentrelay.workstream._git.whole_files import read_whole
from agentrelay.workstream.errors import LaneConflictError, RepositoryError

__all__ = [
    "HEX_LENGTH",
    "OpenRepository",
    "common_dir_of",
    "find_packed",
    "is_commit_id",
    "open_repository",
    "read_ref",
    "read_refs",
    "refuse_linked",
    "refuse_links",
]

# Length of a SHA-1 object name in hex; other formats are refused.
HEX_LENGTH: Final = 40
_OBJECT_NAME: Final = re.compile(rf"[0-9a-f]{{{HEX_LENGTH}}}")
# Where files are made and removed in the common directory besides git's own: a link planted
# there would lead the writing elsewhere.
_WRITTEN_DIRS: Final = (
    ("worktrees",),
    ("agentrelay", "lanes"),
    ("agentrelay", "held"),
    ("agentrelay", "trash"),
)
# What is in the names of settings that an opener has to know of, in lower case.
_MATTERING: Final = (b"promisor", b"partialclone", b"insteadof")
# git-config(1): what makes a clone a partial one.
_PROMISED: Final = re.compile(r"(?s)remote\..*\.promisor|extensions\.partialclone")
# Metadata sections take milliseconds; a minute means somebody hangs.
_METADATA_WAIT_S: Final = 60.0


@dataclass(frozen=True)
class OpenRepository:
    """One open handle on a repository; not to be shared between threads.

    Attributes:
        handle: libgit2's repository.
        path: Absolute path the caller gave.
        common_dir: The directory all worktrees of the repository share.
        config: What the names of its configuration told when it was opened; among them
            are all that rewrite addresses (``url.<base>.insteadOf``).
    """

    handle: pygit2.Repository
    path: Path
    common_dir: Path
    config: ConfigNames

    @cached_property
    def worktrees_admin_dir(self) -> Path:
        """Directory that holds one entry a linked worktree."""
        return self.common_dir / "worktrees"

    @cached_property
    def own_dir(self) -> Path:
        """Directory for our locks and half-made things; git ignores it."""
        return self.common_dir / "agentrelay"

    @cached_property
    def history(self) -> pygit2.Repository:
        """A handle that knows where the history of a shallow clone ends.

        That is written in the repository's own directory, and libgit2 looks for it in that of
        the worktree a handle is opened at: there it takes the last commit's parents for lost.
        """
        is_linked = not self.common_dir.samefile(self.handle.path)
        if not is_linked or not (self.common_dir / "shallow").exists():
            return self.handle
        return pygit2.Repository(str(self.common_dir), RepositoryOpenFlag.NO_SEARCH)

    def metadata_section(self) -> AbstractContextManager[None]:
        """Hold the repository's lock for a short local section; never across the network."""
        return hold(
            self.own_dir / "repository.lock",
            what=f"repository '{self.path}'",
            timeout_s=_METADATA_WAIT_S,
        )

    def queue_for(self, name: str) -> AbstractContextManager[None]:
        """Stand in line before one of git's own ``.lock`` files; nothing is locked inside.

        Those files cannot be waited for in order: lanes would collide there, and wait
        longer with each collision.

        Args:
            name: What is about to be locked: ``"config"``.
        """
        return hold(
            self.own_dir / f"{name}.queue",
            what=f"'{name}' of repository '{self.path}'",
            timeout_s=_METADATA_WAIT_S,
        )

    def fetching_handle(self) -> pygit2.Repository:
        """Return a handle for fetching objects, with a FETCH_HEAD of its own.

        libgit2 empties that file whatever it is told, and a "git pull" of the user's reads
        there what its own fetch has just written. The handle shares all else; it stands
        where the one of a linked worktree would.

        Source:
            gitrepository-layout(5), "commondir".
        """
        if self.history.is_shallow:
            # The view has no note of where the history ends.
            return self.history
        view = self.own_dir / "fetch"
        for name, text in (("HEAD", "ref: refs/heads/none\n"), ("commondir", "../..\n")):
            if not (view / name).exists():
                view.mkdir(parents=True, exist_ok=True)
                aside = view / f"{name}.{os.urandom(8).hex()}"
                aside.write_text(text)
                aside.replace(view / name)
        flags = RepositoryOpenFlag.NO_SEARCH | RepositoryOpenFlag.BARE
        return pygit2.Repository(str(view), flags)

    def resolve(self, ref: str) -> str | None:
        """Return the hex id of the commit a full ref name leads to, or ``None``.

        Raises:
            RepositoryError: The ref is there and leads to no commit.
        """
        # libgit2 misses a ref that "git pack-refs" moves from its own file to the common
        # one between its two looks; "it is not there" must be true.
        found = read_ref(self.common_dir, ref, symbolic_too=True)
        if found is None:
            return None
        if is_commit_id(found):
            with contextlib.suppress(pygit2.GitError, KeyError, ValueError):
                if isinstance(self.handle[found], pygit2.Commit):
                    return found
        # Symbolic, or a tag of its own; or something else.
        with contextlib.suppress(pygit2.GitError, KeyError, ValueError):
            reference = self.handle.references.get(ref)
            if reference is not None:
                return str(reference.peel(pygit2.Commit).id)
        if found.startswith("ref:"):
            return None
        shown = found if is_commit_id(found) else ascii(found[:HEX_LENGTH])
        message = f"the ref '{ref}' of '{self.path}' leads to {shown}, which is no commit here"
        raise RepositoryError(
            message, path=self.path, hint="Fetch that commit, or look with 'git fsck'."
        )

    def is_head(self, ref: str) -> bool:
        """Return whether the repository's own checkout is on a ref."""
        # As bytes: the user's own branch may have any name.
        return (self.common_dir / "HEAD").read_bytes().strip() == f"ref: {ref}".encode()

    def contains(self, ancestor: str, descendant: str) -> bool:
        """Return whether ``descendant`` has ``ancestor`` in its history, or is it.

        ``False`` also when one of the commits is not in this repository.
        """
        if ancestor == descendant:
            return ancestor in self.handle
        if ancestor not in self.handle or descendant not in self.handle:
            return False
        try:
            return bool(self.history.descendant_of(descendant, ancestor))
        except pygit2.GitError:
            # A part of the history is missing: nothing is proved by it.
            return False


def is_commit_id(text: str) -> bool:
    """Return whether a text is a full object name, and not a ref's or garbage."""
    return _OBJECT_NAME.fullmatch(text) is not None


def common_dir_of(git_dir: Path) -> Path:
    """Return the directory shared by all worktrees of a repository.

    Source:
        gitrepository-layout(5), "commondir".
    """
    try:
        text = os.fsdecode(read_whole(f"{git_dir}/commondir")).strip()
    except OSError:
        return git_dir
    return Path(os.path.normpath(git_dir / text))


def read_ref(common_dir: Path, ref: str, *, symbolic_too: bool = False) -> str | None:
    """Return what a ref points to, read from the files, or ``None``.

    What is there need not be an object name: somebody may have written anything.

    Args:
        common_dir: The repository's common directory.
        ref: Full ref name; symbolic refs are not followed.
        symbolic_too: Whether ``ref: <target>`` is returned, and not passed over.

    Source:
        gitrepository-layout(5), "packed-refs": a ref's own file beats its packed line.
        It is looked at first: packing writes the line before it removes the file.
    """
    return read_refs(common_dir, [ref], symbolic_too=symbolic_too).get(ref)


def read_refs(
    common_dir: Path, refs: Sequence[str], *, symbolic_too: bool = False
) -> dict[str, str]:
    """Return what many refs point to, as :func:`read_ref` does; missing ones are left out.

    Args:
        common_dir: The repository's common directory.
        refs: Full ref names; symbolic refs are not followed.
        symbolic_too: See :func:`read_ref`.
    """
    # Strings and not paths: this is asked dozens of times a lane.
    top = os.fspath(common_dir)
    found: dict[str, str] = {}
    for ref in refs:
        with contextlib.suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
            text = read_whole(f"{top}/{ref}").decode("ascii", "replace").strip()
            if text and (symbolic_too or not text.startswith("ref:")):
                found[ref] = text
    if len(found) < len(refs):
        with contextlib.suppress(FileNotFoundError):
            packed = read_whole(f"{top}/packed-refs")
            for ref in refs:
                line = None if ref in found else find_packed(packed, ref)
                if line is not None:
                    found[ref] = line
    return found


def find_packed(packed: bytes, ref: str) -> str | None:
    """Return what a ref points to in the content of ``packed-refs``, or ``None``.

    The line is searched for and not each line looked at: there may be thousands.
    """
    wanted = b" " + ref.encode()
    end = -1
    while (found := packed.find(wanted, end + 1)) >= 0:
        end, start = found + len(wanted), found - HEX_LENGTH
        begins = start == 0 or (start > 0 and packed[start - 1 : start] in (b"\n", b"\r"))
        ends = packed[end : end + 1] in (b"", b"\n", b"\r")
        if begins and ends and packed[start : start + 1] not in (b"#", b"^"):
            return packed[start:found].decode("ascii", "replace")
    return None


def open_repository(path: Path) -> OpenRepository:
    """Open the repository at exactly ``path``.

    Args:
        path: The top of a working tree (main or linked) or a bare repository. Parent
            directories are not searched: a lane must never land in the repository
            that happens to lie above.

    Returns:
        A fresh handle; opening takes about a millisecond.

    Raises:
        RepositoryError: There is none, it is of an unsupported format, belongs to
            another user, or ``path`` is not its top.
        LaneConflictError: A directory of its metadata is a link.
    """
    path = absolute_path("repo_path", path)
    if not path.is_dir():
        message = f"'{path}' is not a directory"
        raise RepositoryError(message, path=path, hint="Give the path of an existing repository.")
    try:
        handle, common_dir, config = reading(lambda: _opened(path), torn=is_torn)
    except (pygit2.GitError, OSError, KeyError, ValueError) as error:
        raise open_failure(path, error) from error
    if not handle.is_bare:
        top = Path(handle.workdir)
        if not top.samefile(path):
            message = f"'{path}' is inside the repository '{top}', not its top"
            raise RepositoryError(message, path=path, hint=f"Use '{top}'.")
    if any(_PROMISED.fullmatch(name) for name in config.names):
        message = f"'{path}' uses {UNSUPPORTED['partialclone']}, which libgit2 cannot complete"
        raise RepositoryError(message, path=path, hint="Use a full clone of the repository.")
    for parts in _WRITTEN_DIRS:
        refuse_linked(os.fspath(common_dir), parts)
    return OpenRepository(handle, path, common_dir, config)


def _opened(path: Path) -> tuple[pygit2.Repository, Path, ConfigNames]:
    """Return a handle, its common directory, and the names of settings that matter."""
    handle = pygit2.Repository(str(path), RepositoryOpenFlag.NO_SEARCH)
    common_dir = common_dir_of(Path(handle.path))
    return handle, common_dir, config_names(handle, common_dir, _MATTERING)


def refuse_links(path: Path, *, below: Path) -> None:
    """Refuse a path that leads through a symbolic link below a trusted directory.

    Args:
        path: Path that is about to be used; it need not exist.
        below: Directory the caller trusts, a parent of ``path``.

    Raises:
        LaneConflictError: A component between the two is a link.
    """
    refuse_linked(os.fspath(below), path.relative_to(below).parts)


def refuse_linked(below: str, parts: Sequence[str]) -> None:
    """Refuse a path like :func:`refuse_links`, given in parts.

    Raises:
        LaneConflictError: One of them is a link.
    """
    current = below
    for part in parts:
        current = f"{current}{os.sep}{part}"
        try:
            mode = os.lstat(current).st_mode
        except (FileNotFoundError, NotADirectoryError):
            # Nothing is there, and so nothing below it.
            return
        if stat.S_ISLNK(mode):
            message = f"'{current}' is a symbolic link, and could lead outside the repository"
            raise LaneConflictError(
                message, obstacle=current, hint="Replace the link by a directory."
            )
