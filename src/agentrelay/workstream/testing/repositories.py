"""Throwaway repositories from declarative recipes, with the same ids every time.

Authors, texts and times are fixed, so one recipe always gives the same commit ids:
a failure message that names a commit names it tomorrow too. Everything is made by
libgit2 in this process, in milliseconds.
"""

from __future__ import annotations

from email.utils import parseaddr
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pygit2
from pygit2.enums import FileMode, RepositoryOpenFlag

from agentrelay.workstream.testing._recipes import (
    AUTHOR,
    SMALL,
    BranchRecipe,
    CommitRecipe,
    Executable,
    FileContent,
    RepositoryRecipe,
    Symlink,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AUTHOR",
    "SMALL",
    "BranchRecipe",
    "CommitRecipe",
    "Executable",
    "FileContent",
    "RepositoryRecipe",
    "Symlink",
    "clone_repository",
    "commit_files",
    "create_bare_repository",
    "read_tree",
    "refs",
]

# 2024-01-01T00:00:00Z for a root commit, and a minute later for each generation: an
# id depends on the history below it alone, and logs sort the way they were written.
_EPOCH_S: Final = 1_704_067_200
_GENERATION_S: Final = 60

# What a checkout gives its files under the usual umask.
_PLAIN: Final = 0o644
_EXECUTABLE: Final = 0o755

_ALTERNATES: Final = ("objects/info/alternates", ".git/objects/info/alternates")


def create_bare_repository(path: Path | str, recipe: RepositoryRecipe = SMALL) -> Path:
    """Make a bare repository as a recipe describes it.

    Args:
        path: Where; parents are made, and nothing may be there except an empty directory.
        recipe: What it holds.

    Returns:
        The absolute path of the repository.

    Raises:
        FileExistsError: Something is at ``path`` already.
        ValueError: The recipe contradicts itself: an unknown start, a branch named
            twice, or a branch without any commit.
    """
    where = _vacant(path)
    repo = pygit2.init_repository(str(where), bare=True, initial_head=recipe.default_branch)
    tips: dict[str, str | None] = {}
    for branch in recipe.branches:
        if branch.name in tips:
            raise ValueError(f"the recipe makes branch {branch.name!r} twice")
        if branch.start is not None and branch.start not in tips:
            raise ValueError(f"branch {branch.name!r} starts from unknown {branch.start!r}")
        tip = None if branch.start is None else tips[branch.start]
        for commit in branch.commits:
            tip = _commit(repo, tip, commit.files, message=commit.message, author=commit.author)
        if tip is None:
            raise ValueError(f"branch {branch.name!r} has no commit")
        tips[branch.name] = tip
        repo.references.create(f"refs/heads/{branch.name}", tip)
    return where


def clone_repository(source: Path | str, path: Path | str, *, url: str | None = None) -> Path:
    """Make a checkout of a repository on this disk, as ``git clone`` leaves it.

    The clone has ``origin`` with its tracking refs, a checked-out default branch that
    tracks the remote's, and a user name and address of its own. It stays whole when
    the source is deleted; object files may be hard links, as ``git clone`` makes them.

    Args:
        source: The repository to copy.
        path: Where; parents are made, and nothing may be there except an empty directory.
        url: What is written as the URL of ``origin``, such as a server's, or ``None``
            for the path of the source.

    Returns:
        The absolute path of the checkout.

    Raises:
        FileExistsError: Something is at ``path`` already.
    """
    where = _vacant(path)
    origin = Path(source).resolve()
    # A local clone copies an alternates file as it is, and would then need the source's
    # own source; through file:// the objects themselves travel.
    shares = any((origin / part).exists() for part in _ALTERNATES)
    repo = pygit2.clone_repository(origin.as_uri() if shares else str(origin), str(where))
    repo.remotes.set_url("origin", str(origin) if url is None else url)
    if repo.is_empty:
        # libgit2 then takes the name from the machine's configuration; git asks the source.
        unborn = _open(origin).lookup_reference("HEAD").target
        assert isinstance(unborn, str)
        repo.set_head(unborn)
        branch = unborn.removeprefix("refs/heads/")
        repo.config[f"branch.{branch}.remote"] = "origin"
        repo.config[f"branch.{branch}.merge"] = unborn
    name, email = parseaddr(AUTHOR)
    repo.config["user.name"] = name
    repo.config["user.email"] = email
    return where


def commit_files(
    path: Path | str,
    files: Mapping[str, FileContent],
    *,
    message: str,
    branch: str | None = None,
    author: str = AUTHOR,
) -> str:
    """Commit changes to a branch, in a checkout or in a bare repository.

    In a checkout of that branch the files and the index follow, and other changes there
    stay as they are, staged ones too. Elsewhere only the branch moves. The time is a
    minute after the parent's: the same call on the same history gives the same id.

    Args:
        path: The repository: bare, a checkout, or a linked worktree.
        files: What changes, by path with ``/``.
        message: Commit message.
        branch: Short name, or ``None`` for the one HEAD names (or a detached HEAD). One
            that does not exist yet starts at HEAD's commit.
        author: Author and committer as ``Name <email>``.

    Returns:
        The id of the commit, 40 hex digits.

    Raises:
        ValueError: The branch is checked out elsewhere and moving it would turn that
            checkout upside down.
        KeyError: A path to delete is not there.
    """
    repo = _open(path)
    head = repo.lookup_reference("HEAD").target
    # A detached HEAD's target is an id; it is moved by its own name.
    ref = f"refs/heads/{branch}" if branch is not None else head
    name = ref if isinstance(ref, str) else "HEAD"
    here = name in {head, "HEAD"}
    if not here and branch is not None:
        existing = repo.branches.local.get(branch)
        if existing is not None and existing.is_checked_out():
            raise ValueError(f"branch {branch!r} is checked out elsewhere: commit there")
    tip = _tip(repo, name) or _tip(repo, "HEAD")
    commit_id = _commit(repo, tip, files, message=message, author=author)
    if here and not repo.is_bare:
        _update_checkout(repo, files)
    if name == "HEAD":
        repo.set_head(pygit2.Oid(hex=commit_id))
    else:
        repo.references.create(name, commit_id, force=True)
    return commit_id


def read_tree(path: Path | str, ref: str) -> dict[str, bytes]:
    """Return the files of a commit, for comparison.

    Args:
        path: The repository.
        ref: Branch, full ref or commit id.

    Returns:
        Contents by path, sorted; a symbolic link's content is its target. Submodules
        are left out: their files live elsewhere.

    Raises:
        KeyError: There is no such commit.
    """
    repo = _open(path)
    tree = repo.revparse_single(ref).peel(pygit2.Tree)
    files: dict[str, bytes] = {}
    pending = [("", tree)]
    while pending:
        prefix, tree = pending.pop()
        for entry in tree:
            if isinstance(entry, pygit2.Tree):
                pending.append((f"{prefix}{entry.name}/", entry))
            elif isinstance(entry, pygit2.Blob):
                files[f"{prefix}{entry.name}"] = entry.data
    return dict(sorted(files.items()))


def refs(path: Path | str) -> dict[str, str]:
    """Return every ref of a repository except HEAD, for comparison.

    Args:
        path: The repository.

    Returns:
        Ids by full name, sorted by name; a symbolic ref reads ``ref: <its target>``.
    """
    found: dict[str, str] = {}
    for reference in _open(path).references.objects:
        target = reference.target
        found[reference.name] = f"ref: {target}" if isinstance(target, str) else str(target)
    return dict(sorted(found.items()))


def _open(path: Path | str) -> pygit2.Repository:
    """Open the repository at ``path`` itself, never one above it."""
    return pygit2.Repository(str(path), RepositoryOpenFlag.NO_SEARCH)


def _vacant(path: Path | str) -> Path:
    """Return ``path`` made absolute; an empty directory may be there, nothing else."""
    where = Path(path).absolute()
    if where.exists() and not (where.is_dir() and not any(where.iterdir())):
        raise FileExistsError(f"{where} is in use: a throwaway repository needs a new path")
    where.parent.mkdir(parents=True, exist_ok=True)
    return where


def _tip(repo: pygit2.Repository, ref: str) -> str | None:
    """Return the commit ``ref`` leads to, or ``None`` while it is unborn."""
    try:
        return str(repo.lookup_reference(ref).resolve().target)
    except KeyError:
        return None


def _blob(content: str | bytes | Symlink | Executable) -> tuple[bytes, FileMode]:
    """Return what git stores for a file: its bytes and its mode."""
    if isinstance(content, Symlink):
        return content.target.encode(), FileMode.LINK
    if isinstance(content, Executable):
        return _blob(content.content)[0], FileMode.BLOB_EXECUTABLE
    return (content.encode() if isinstance(content, str) else content), FileMode.BLOB


def _apply(repo: pygit2.Repository, index: pygit2.Index, files: Mapping[str, FileContent]) -> None:
    """Make ``index`` hold ``files``; deletions first, so that a file can become a folder."""
    for name in (name for name, content in files.items() if content is None):
        if name not in index:
            raise KeyError(f"{name} cannot be deleted: it is not there")
        index.remove(name)
    for name, content in files.items():
        if content is not None:
            data, mode = _blob(content)
            index.add(pygit2.IndexEntry(name, repo.create_blob(data), mode))


def _commit(
    repo: pygit2.Repository,
    parent: str | None,
    files: Mapping[str, FileContent],
    *,
    message: str,
    author: str,
) -> str:
    """Write a commit that no ref names yet, and return its id."""
    index, when_s = pygit2.Index(), _EPOCH_S
    if parent is not None:
        below = repo[parent].peel(pygit2.Commit)
        index.read_tree(below.tree)
        when_s = below.commit_time + _GENERATION_S
    _apply(repo, index, files)
    signature = pygit2.Signature(*parseaddr(author), when_s, 0)
    tree_id = index.write_tree(repo)
    parents = [] if parent is None else [parent]
    return str(repo.create_commit(None, signature, signature, message, tree_id, parents))


def _update_checkout(repo: pygit2.Repository, files: Mapping[str, FileContent]) -> None:
    """Write what a commit changed to the checkout and its index, and nothing else."""
    root = Path(repo.workdir)
    for name in (name for name, content in files.items() if content is None):
        (root / name).unlink(missing_ok=True)
        # git leaves no empty folders behind either.
        folder = (root / name).parent
        while folder != root and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
        if name in repo.index:
            repo.index.remove(name)
    for name, content in files.items():
        if content is None:
            continue
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        data, mode = _blob(content)
        if mode is FileMode.LINK:
            target.symlink_to(data.decode())
        else:
            target.write_bytes(data)
            target.chmod(_EXECUTABLE if mode is FileMode.BLOB_EXECUTABLE else _PLAIN)
        repo.index.add(name)
    repo.index.write()
