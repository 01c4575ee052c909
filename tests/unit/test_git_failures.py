"""What libgit2 says becomes an error that names the operation, the operand and a way out."""

from __future__ import annotations

from pathlib import Path

import pygit2
import pytest

from agentrelay.workstream import (
    CredentialsRejectedError,
    RemoteUnavailableError,
    RepositoryError,
    WorkstreamError,
)
from agentrelay.workstream._git.failures import (
    open_failure,
    remote_failures,
    repository_failures,
)

URL = "https://git.example.invalid/octo/widgets.git"


def _fail(words: str) -> None:
    raise pygit2.GitError(words)


def test_a_failure_without_words_says_so(tmp_path: Path) -> None:
    """``no error`` is not a reason, and a disk with room is not one either."""
    with (
        pytest.raises(RepositoryError, match="libgit2 gives no reason"),
        repository_failures("keep it", path=tmp_path),
    ):
        _fail("no error")


def test_a_failure_without_words_needs_no_path_that_is_there(tmp_path: Path) -> None:
    """The place it happened at may be gone by then."""
    with (
        pytest.raises(RepositoryError, match="libgit2 gives no reason"),
        repository_failures("keep it", path=tmp_path / "gone"),
    ):
        _fail("no error")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("unsupported extension name extensions.refstorage", "reftable"),
        ("unknown object format 'sha256'", "SHA-256"),
        ("unsupported extension name extensions.compatobjectformat", "second object format"),
    ],
)
def test_a_format_is_named(words: str, name: str) -> None:
    """However libgit2 spells it, and whatever other word its own contains."""
    assert name in str(open_failure("/somewhere", pygit2.GitError(words)))


def test_what_cannot_be_read_is_to_be_made_readable() -> None:
    """Opening writes nothing: a hint about writing would mislead."""
    error = open_failure("/somewhere", pygit2.GitError("failed open - '/x': Permission denied"))
    assert "readable" in str(error.hint)


@pytest.mark.parametrize(
    ("words", "expected", "hint"),
    [
        ("failed to write: No space left on device", RepositoryError, "disk space"),
        ("could not open 'x': Too many open files", RepositoryError, "limit of open files"),
        ("cannot extend packfile: File too large", RepositoryError, "size of files"),
        ("failed to create 'x': Permission denied", RepositoryError, "writable"),
        ("corrupted loose reference file: refs/x", RepositoryError, "garbage"),
        ("failed to connect to x: Permission denied", RemoteUnavailableError, "reachable"),
        ("proxy authentication required", CredentialsRejectedError, "proxy's own URL"),
        ("unexpected authentication failure", RemoteUnavailableError, "reachable"),
        ("authentication required but no callback set", CredentialsRejectedError, "token"),
        ("unsupported URL protocol", RemoteUnavailableError, "repository at that path"),
        ("user rejected certificate for x", RemoteUnavailableError, "prove"),
    ],
)
def test_a_failed_exchange_says_on_which_side_it_failed(
    words: str, expected: type[WorkstreamError], hint: str
) -> None:
    """This disk's troubles are not the network's; each has its own advice."""
    with pytest.raises(WorkstreamError) as caught, remote_failures("fetch 'main'", url=URL):
        _fail(words)
    assert type(caught.value) is expected
    assert hint in str(caught.value.hint)
    assert "user rejected" not in str(caught.value)
