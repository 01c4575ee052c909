"""Rows of the fault matrix: a repository, a disk or a machine that is in trouble."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pygit2
import pytest
from pygit2.enums import ConfigLevel

from agentrelay.workstream import RepositoryError, WorkstreamError
from tests.fault._injectors import Inject, Where, in_git, written
from tests.fault._matrix import Place, Row, Step
from tests.fault._trouble import few_descriptors, mounted_tmpfs, no_privileges, small_files

__all__ = ["ROWS", "extension", "full_disk", "read_only"]

_OWNER: Final = "Repository and configuration"
_FORMAT: Final = "Formats libgit2 cannot read"
_DISK: Final = "Disk and limits"


@contextmanager
def of_another_user(place: Place) -> Iterator[None]:
    """Give the repository to somebody else, as a volume of a container does."""
    if sys.platform == "win32" or os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    for path in (place.repo, place.git_dir):
        os.chown(path, 12345, 12345)
    yield
    for path in (place.repo, place.git_dir):
        os.chown(path, 0, 0)


def home_configuration(data: bytes, mode: int) -> Inject:
    """Give the user a ``~/.gitconfig``, with a mode, and let libgit2 look for it."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        path = place.home / ".gitconfig"
        paths = pygit2.settings.search_path
        before = paths[ConfigLevel.GLOBAL]
        paths[ConfigLevel.GLOBAL] = str(place.home)
        path.write_bytes(data)
        path.chmod(mode)
        try:
            with no_privileges():
                yield
        finally:
            paths[ConfigLevel.GLOBAL] = before
            path.chmod(0o600)
            path.unlink()

    return inject


def configured(text: str) -> Inject:
    """Add lines to the repository's configuration."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        path = place.git_dir / "config"
        with written(path, path.read_bytes() + text.encode()):
            yield

    return inject


def extension(line: str) -> Inject:
    """Say that the repository needs an extension."""
    return configured(f"[core]\n\trepositoryformatversion = 1\n[extensions]\n\t{line}\n")


def index_extension(where: Where, signature: bytes) -> Inject:
    """Add an extension to an index, as ``git sparse-checkout`` or ``git update-index`` do.

    Source:
        gitformat-index(5): a signature that starts with a small letter is mandatory; the
        file ends with the hash of all before.
    """

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        path = where(place)
        data = path.read_bytes()[:-20] + signature + (20).to_bytes(4, "big") + bytes(20)
        with written(path, data + hashlib.sha1(data, usedforsecurity=False).digest()):
            yield

    return inject


@contextmanager
def a_missing_object(place: Place) -> Iterator[None]:
    """Lose a file of the base commit on this disk; the user's checkout has it no more either."""
    blob = place.handle().revparse_single("main:README.md")
    path = place.git_dir / "objects" / str(blob.id)[:2] / str(blob.id)[2:]
    aside = path.rename(place.git_dir / "aside")
    with written(place.repo / "README.md", b"edited\n"):
        yield
    aside.rename(path)


@contextmanager
def a_corrupt_object(place: Place) -> Iterator[None]:
    """Damage a file of the base commit on this disk; the user's checkout has another one."""
    blob = place.handle().revparse_single("main:README.md")
    path = place.git_dir / "objects" / str(blob.id)[:2] / str(blob.id)[2:]
    data = path.read_bytes()
    # The clone shares its object files with the remote: a new file, not the old one.
    path.unlink()
    path.write_bytes(b"not an object")
    with written(place.repo / "README.md", b"edited\n"):
        yield
    path.chmod(0o600)
    path.write_bytes(data)


def the_clone(place: Place) -> Path:
    """Return the top of the user's repository."""
    return place.repo


def full_disk(where: Where) -> Inject:
    """Move a directory to a disk without a free block."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        path = where(place)
        aside = path.with_name("aside")
        path.rename(aside)
        path.mkdir()
        with mounted_tmpfs(path, size_bytes=3 << 20):
            shutil.copytree(aside, path, symlinks=True, dirs_exist_ok=True)
            ballast = (path / ".git" if (path / ".git").is_dir() else path) / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
                while stream.write(bytes(4096)):
                    pass
            yield
            ballast.unlink()
            shutil.rmtree(aside)
            shutil.copytree(path, aside, symlinks=True)
        path.rmdir()
        aside.rename(path)

    return inject


@contextmanager
def no_more_file_size(_: Place) -> Iterator[None]:
    """Allow no file to grow beyond a few bytes."""
    with small_files(100):
        yield


def read_only(*names: str, below: Where = the_clone) -> Inject:
    """Take the right to write into directories of the repository.

    Args:
        *names: Which; every directory when there are none.
        below: Where they are.
    """

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        top = below(place)
        paths = [top / name for name in names]
        if not names:
            paths = [Path(directory) for directory, _, _ in os.walk(top)]
        modes = [path.stat().st_mode for path in paths]
        for path in paths:
            path.chmod(0o500)
        with no_privileges():
            yield
        for path, mode in zip(paths, modes, strict=True):
            path.chmod(mode)

    return inject


@contextmanager
def no_more_files(_: Place) -> Iterator[None]:
    """Leave three files that may still be opened."""
    with few_descriptors(3):
        yield


def _rows() -> Iterator[Row]:
    """Yield the rows, in the page's order."""

    def row(
        step: Step,
        fault: str,
        inject: Inject,
        error: type[WorkstreamError] | None,
        *says: str,
        **more: Any,
    ) -> Row:
        return Row(part, fault, step, inject, error, says, **{"over": "path", **more})

    wrong = RepositoryError
    part = _OWNER
    yield row(
        "prepare",
        "the repository belongs to another user",
        of_another_user,
        wrong,
        "REPO",
        "not owned",
    )
    yield row(
        "prepare",
        "~/.gitconfig cannot be read",
        home_configuration(b"[user]\n", 0),
        wrong,
        "REPO",
        "HOME/.gitconfig",
    )
    yield row(
        "prepare",
        "~/.gitconfig is broken",
        home_configuration(b"[user\n", 0o600),
        wrong,
        "REPO",
        "HOME/.gitconfig",
    )
    yield row(
        "prepare", "the repository's configuration is broken", configured("[core\n"), wrong, "REPO"
    )
    yield row(
        "integrate",
        "the repository's configuration is broken",
        configured("[core\n"),
        wrong,
        "REPO",
    )
    yield row(
        "teardown", "the repository's configuration is broken", configured("[core\n"), wrong, "REPO"
    )
    yield row(
        "prepare",
        "a file of the base commit is damaged",
        a_corrupt_object,
        wrong,
        "check out the files",
    )

    yield row(
        "prepare",
        "a file of the base commit is missing",
        a_missing_object,
        wrong,
        "check out the files",
        again="the object was fetched, then the same call",
    )
    part = _FORMAT
    for line, name in (
        ("refStorage = reftable", "reftable"),
        ("objectFormat = sha256", "SHA-256"),
        ("partialClone = origin", "partial clone"),
        ("compatObjectFormat = sha256", "second object format"),
        ("somethingNew = true", "somethingnew"),
    ):
        yield row("prepare", f"extensions.{line}", extension(line), wrong, "REPO", name)
    yield row(
        "prepare",
        "a promisor remote, as a partial clone has",
        configured('[remote "origin"]\n\tpromisor = true\n'),
        wrong,
        "REPO",
        "partial clone",
    )
    users, lanes = in_git("index"), (lambda place: place.admin_dir / "index")
    for signature, name in ((b"sdir", "sparse"), (b"link", "split")):
        yield row(
            "prepare",
            f"a {name} index in the user's checkout",
            index_extension(users, signature),
            None,
        )
        yield row(
            "integrate",
            f"a {name} index in the worktree",
            index_extension(lanes, signature),
            None,
            signature.decode(),
        )
        yield row(
            "teardown",
            f"a {name} index in the worktree",
            index_extension(lanes, signature),
            wrong,
            signature.decode(),
        )

    part = _DISK
    yield row("prepare", "the disk is full", full_disk(the_clone), wrong, "No space left")
    yield row("integrate", "the disk is full", full_disk(the_clone), wrong, "No space left")
    yield row("teardown", "the disk is full", full_disk(the_clone), wrong, "No space left")
    yield row("prepare", "no file may grow", no_more_file_size, wrong, "File too large")
    yield row(
        "prepare",
        "the repository's directory is read-only",
        read_only(".git", ".git/objects", ".git/refs", ".git/refs/heads", "."),
        wrong,
        "Permission denied",
    )
    yield row(
        "prepare",
        "the working tree's directory is read-only",
        read_only("."),
        wrong,
        "Permission denied",
    )
    yield row(
        "prepare",
        "the directory of packs is read-only",
        read_only(".git/objects/pack"),
        wrong,
        "Permission denied",
    )
    yield row(
        "teardown",
        "the worktrees' directory is read-only",
        read_only(".worktrees", ".worktrees/nightly"),
        wrong,
        "Permission denied",
    )
    yield row("prepare", "too many open files", no_more_files, wrong, "Too many open files")


ROWS: Final = tuple(_rows())
