"""The one place that turns libgit2's failures into ours.

libgit2's error text may be left over from an earlier, unrelated call. So the
operation and the operand come from the caller, and libgit2's text is a detail.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import unquote

import pygit2

from agentrelay.workstream._redact import redact
from agentrelay.workstream.errors import (
    CredentialsRejectedError,
    RemoteError,
    RemoteUnavailableError,
    RepositoryError,
    WorkstreamError,
)

__all__ = [
    "UNSUPPORTED",
    "is_locked",
    "is_not_fast_forward",
    "is_repacked",
    "is_torn",
    "is_transient",
    "open_failure",
    "remote_failures",
    "repository_failures",
    "say",
    "says_locked",
]

# What libgit2 1.9 cannot read, by the words of its own refusal without their spaces, and
# what it opens and then fails on. The longer word comes before the one it contains.
UNSUPPORTED: Final = {
    "refstorage": "the reftable ref format",
    "compatobjectformat": "a second object format",
    "objectformat": "SHA-256 object names",
    "unknown object format": "SHA-256 object names",
    "partialclone": "partial clones",
}

# libgit2 1.9: src/libgit2/filebuf.c and refdb_fs.c. There is no error code for it.
_LOCKED: Final = (
    "failed to lock file",
    "failed to create locked file",
    "failed to create lock",
    "is locked",
    "old reference value does not match",
    # libgit2 asks for a file's size before it opens it: git replaced the configuration in
    # between. Source: src/util/futils.c.
    "could not read (expected",
)
# The same, when the new file is the longer one and only its beginning was read. An index is
# read in that way as well.
_TORN: Final = (
    "could not read (expected",
    "failed to parse config file",
    "invalid data in index",
    "index signature mismatch",
)
_REFUSED: Final = (
    "authentication required",
    "too many redirects or authentication replays",
    "status code: 401",
    "status code: 403",
    "auth method",
    "authentication error",
    "failed to authenticate",
    "unable to authenticate",
    "callback returned unsupported credentials",
)

_OWNER: Final = (
    "The repository belongs to another user. Add its path to 'safe.directory' in this user's "
    "or the system's git configuration."
)
_ROOM: Final = "Free some disk space and repeat the operation."
_RIGHTS: Final = "Make the directory writable for this user and repeat the operation."
_GARBAGE: Final = "A ref's file holds garbage: look at it, then write the right id or delete it."
# What this machine refused, by libgit2's or the system's words: also while a remote was
# talked to, where libgit2 has no number for it.
_DISK_HINTS: Final = {
    "not owned by current user": _OWNER,
    "no space left": _ROOM,
    "disk quota": _ROOM,
    "file too large": "Raise the limit of the size of files, and repeat the operation.",
    "too many open files": "Raise the limit of open files, or run fewer lanes at once, and repeat.",
    "read-only file system": _RIGHTS,
    "permission denied": _RIGHTS,
    "corrupted loose ref": _GARBAGE,
    "corrupted packed ref": _GARBAGE,
}
# What libgit2 says of a path at which it finds no repository: any path is a protocol to it.
_NO_REPOSITORY: Final = (
    "unsupported url protocol",
    "failed to resolve path",
    "could not find repository",
)
# libgit2 1.9, src/util/errors.c: nothing was recorded for this failure.
_NO_WORDS: Final = "no error"
_DEEP: Final = (
    "Folders are nested deeper than libgit2 looks (100) or paths can be: move what is deeper "
    "elsewhere, or let git ignore it, then repeat. Nothing of it was changed."
)
_WAY: Final = "Something is where a file or a directory belongs: look at it, then remove it."
_FILE_HINTS: Final = {
    "unsupported mandatory extension": (
        "The index has a format libgit2 cannot read. Run 'git update-index --no-split-index' "
        "or 'git sparse-checkout disable' in that worktree, then repeat."
    ),
    "nesting too deep": _DEEP,
    "recursion depth": _DEEP,
    "file name too long": _DEEP,
    "is a directory": _WAY,
    "not a directory": _WAY,
}


def say(error: BaseException) -> str:
    """Return the words of a failure for a message: one line, no secret."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    words = redact(" ".join(str(text).split()))
    return words[:400] or type(error).__name__


def is_locked(error: Exception) -> bool:
    """Return whether a failure means that somebody holds a ``.lock`` file just now."""
    return isinstance(error, (pygit2.GitError, OSError)) and says_locked(str(error))


def is_torn(error: Exception) -> bool:
    """Return whether a failure may mean that a file was replaced while it was read.

    libgit2 looks at the configuration again whenever it wants a value, so anything it does may
    fail so; and at the index whenever it compares.

    Args:
        error: libgit2's failure, or its translation, which has its words.
    """
    return any(words in str(error) for words in _TORN)


def says_locked(text: str) -> bool:
    """Return whether libgit2's words mean that somebody holds a ``.lock`` file just now."""
    if "failed to make directory" in text:
        # Somebody pruned the empty directory a ref was about to be written to.
        return "No such file" in text
    return any(words in text for words in _LOCKED)


def is_transient(error: Exception) -> bool:
    """Return whether an exchange failed only because refs were changing just then.

    A local ref was locked; or the remote is a path, and one of its refs vanished while
    libgit2 was listing them one by one. Both are over in a moment, and an exchange may
    be repeated.

    Args:
        error: What a fetch or push raised, after translation.
    """
    cause = error.__cause__
    if not isinstance(cause, Exception):
        return False
    text = str(cause)
    return is_locked(cause) or (text.startswith("reference 'refs/") and "not found" in text)


def is_repacked(error: Exception) -> bool:
    """Return whether an object was not found, as when git repacks at that very moment.

    libgit2 looks into the packs anew, and may do so between the removal of the old one and
    its own look at the new one. In a damaged repository it stays so.

    Args:
        error: What a fetch or push raised, after translation.
    """
    return "object not found - no match for id" in str(error.__cause__)


def is_not_fast_forward(error: Exception) -> bool:
    """Return whether libgit2 itself refused a push because the remote has other commits."""
    text = str(error)
    return "non-fastforwardable" in text or "not present locally" in text


def open_failure(path: object, error: Exception) -> RepositoryError:
    """Say why a repository cannot be opened, naming the format when it is that."""
    words = say(error)
    lowered = words.lower()
    for key, name in UNSUPPORTED.items():
        if key in lowered.replace(" ", ""):
            return RepositoryError(
                f"'{path}' uses {name}, which libgit2 cannot open ({words})",
                path=path,
                hint="Use a clone in the default format (SHA-1 objects, 'files' refs).",
            )
    if "not found" in lowered:
        return RepositoryError(
            f"'{path}' is not a git repository ({words})",
            path=path,
            hint="Give the top of a working tree or a bare repository; parents are not searched.",
        )
    return RepositoryError(
        f"cannot open the repository '{path}': {words}",
        path=path,
        hint=_unreadable_hint(lowered)
        or _local_hint(error)
        or "Check the repository's and the user's git configuration for errors, and that "
        "both can be read.",
    )


@contextmanager
def repository_failures(operation: str, *, path: object, hint: str | None = None) -> Iterator[None]:
    """Translate failures of a local operation.

    Args:
        operation: What was being done: ``"create the branch 'x'"``.
        path: Repository or file it was done to.
        hint: What the reader can do about it.

    Raises:
        RepositoryError: In place of whatever libgit2 or the file system raised.
    """
    try:
        yield
    except WorkstreamError:
        raise
    except (pygit2.GitError, OSError, RecursionError) as error:
        words = say(error)
        if words == _NO_WORDS:
            words = _reason_of_none(path)
        message = f"cannot {operation} in '{path}': {words}"
        raise RepositoryError(message, path=path, hint=hint or _local_hint(error)) from error


def _reason_of_none(path: object) -> str:
    """Return why something failed that libgit2 has no words for."""
    with suppress(OSError):
        if shutil.disk_usage(str(path)).free == 0:
            return os.strerror(errno.ENOSPC)
    return "libgit2 gives no reason"


def _unreadable_hint(text: str) -> str | None:
    """Return what to do where a repository is not opened because a file cannot be read."""
    if "permission denied" in text:
        return "Make the named file readable for this user, or let HOME name this user's home."
    return None


def _local_hint(error: Exception) -> str | None:
    """Return what to do about the failures that a disk, its owner or a file causes."""
    text = str(error).lower()
    for table in (_DISK_HINTS, _FILE_HINTS):
        for words, hint in table.items():
            if words in text:
                return hint
    return None


@contextmanager
def remote_failures(
    operation: str, *, url: str, source: str | None = None, searched: str | None = None
) -> Iterator[None]:
    """Translate failures of an operation that talked to a remote.

    Args:
        operation: What was being done: ``"fetch branch 'main'"``.
        url: The remote's address; user-info in it is dropped.
        source: Where the credential that was offered came from, if there was one.
        searched: Where a credential was looked for, for the hint.

    Raises:
        CredentialsRejectedError: The remote refused the credential, or none was offered.
        RemoteUnavailableError: No usable answer.
        RemoteError: It answered, and the operation failed all the same.
        RepositoryError: The failure was on this side of the wire.
    """
    try:
        yield
    except WorkstreamError:
        raise
    except (pygit2.GitError, OSError, KeyError, ValueError) as error:
        raise _remote_error(error, operation, url, source, searched) from error


def _user_info(url: str) -> list[str]:
    """Return what an address holds before its host: libgit2 may take it for the host."""
    before = url.rpartition("@")[0].rpartition("://")[2]
    return [part for part in (before, *before.split(":")) if part not in {"", "git"}]


def _no_credential_hint(text: str, searched: str | None) -> str:
    """Return what to do where something asked for a credential and was offered none."""
    if "proxy authentication" in text:
        return "Put the proxy's user name and password into the proxy's own URL."
    return searched or "Pass a token, or put one where git credentials are looked for."


def _remote_error(
    error: Exception, operation: str, url: str, source: str | None, searched: str | None
) -> WorkstreamError:
    """Choose the error for a failed exchange with a remote."""
    words = redact(say(error), *_user_info(url))
    # libgit2 calls it the user's decision; nobody was asked.
    words = words.replace("user rejected certificate", "untrusted certificate or host key")
    lowered = words.lower()
    message = f"cannot {operation} at '{redact(url)}': {words}"
    if isinstance(error, pygit2.CertificateError) or "certificate" in lowered:
        return RemoteUnavailableError(
            message,
            url=url,
            hint="The host could not prove who it is. For ssh, add its key to "
            "~/.ssh/known_hosts; for https, name your CA bundle in SSL_CERT_FILE.",
        )
    if isinstance(error, pygit2.AuthError) or any(text in lowered for text in _REFUSED):
        offered = f"the credential from {source} was refused" if source else "none was offered"
        return CredentialsRejectedError(
            f"cannot {operation} at '{redact(url)}': {offered} ({words})",
            url=url,
            source=source,
            hint=_no_credential_hint(lowered, searched)
            if source is None
            else "Check that the token is valid and may do this.",
        )
    if "status code: 404" in lowered or "repository not found" in lowered:
        return RemoteError(
            message,
            url=url,
            hint="Check the address. GitHub also says 'not found' when the token may not see "
            "the repository.",
        )
    if isinstance(error, OSError) and "timed out" not in lowered and error.errno is not None:
        return RepositoryError(message, path=url, hint=_local_hint(error))
    # libgit2 has no error number for what this disk refused while it talked to a remote.
    if "failed to connect" not in lowered and any(text in lowered for text in _DISK_HINTS):
        return RepositoryError(message, path=url, hint=_local_hint(error))
    hint = "Check that the remote is reachable, then try again."
    if any(text in lowered for text in _NO_REPOSITORY):
        hint = "Is there a repository at that path? Otherwise use an https or ssh address."
        place = _place(url)
        if place is not None:
            found = "no repository" if os.path.lexists(place) else "nothing"
            message = f"cannot {operation} at '{redact(url)}': there is {found} at that path"
    return RemoteUnavailableError(message, url=url, hint=hint)


def _place(url: str) -> str | None:
    """Return the path an address of this machine leads to, as libgit2 reads it."""
    path = unquote(url.removeprefix("file://")) if url.startswith("file:///") else url
    return path if path.startswith("/") else None
