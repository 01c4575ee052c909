"""Every exception this library raises on purpose.

The tree is split by what the caller can do next, not by where the failure
happened: fix a name, fix the configuration, look at what is in the way, try
again, fix the token, ask a human.

Messages and hints never carry secrets: whatever is passed in is redacted, and
errors survive pickling with their fields, without the backend's exception.
"""

from __future__ import annotations

from typing import Any

from agentrelay.workstream._conflicts import MergePreview
from agentrelay.workstream._redact import redact, strip_userinfo

__all__ = [
    "CommitRefusedError",
    "CredentialsRejectedError",
    "LaneBusyError",
    "LaneConflictError",
    "LaneNameError",
    "LeaseLostError",
    "MergeConflictError",
    "MergeNotReadyError",
    "MergeRefusedError",
    "NothingToCommitError",
    "PullRequestError",
    "PushRejectedError",
    "RateLimitedError",
    "RemoteError",
    "RemoteUnavailableError",
    "RepositoryError",
    "WorkstreamError",
]


def _text(value: object) -> str | None:
    """Return a field's text without secrets; ``None`` stays ``None``."""
    return None if value is None else redact(str(value))


def _restore(cls: type[WorkstreamError], message: str, fields: dict[str, Any]) -> WorkstreamError:
    """Rebuild a pickled error without running its constructor."""
    error = cls.__new__(cls, message)
    error.args = (message,)
    error.__dict__.update(fields)
    return error


class WorkstreamError(Exception):
    """Base of every error of this library.

    Attributes:
        message: What could not be done, to which operand, and why.
        hint: What the reader can do about it, or ``None``.
    """

    message: str
    hint: str | None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        """Make an error.

        Args:
            message: One sentence; secrets in it are masked.
            hint: One sentence that tells the reader what to do next.
        """
        self.message = redact(message)
        self.hint = None if hint is None else redact(hint)
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message and the fields, never the backend's exception."""
        fields = {name: value for name, value in vars(self).items() if not name.startswith("__")}
        return (_restore, (type(self), self.message, fields))


class LaneNameError(WorkstreamError, ValueError):
    """A name cannot be a git ref and a directory at once: fix the graph.

    Attributes:
        name: The name that was refused.
        rule: The rule it breaks.
    """

    name: str
    rule: str

    def __init__(self, message: str, *, name: str, rule: str, hint: str | None = None) -> None:
        """Make the error; ``name`` and ``rule`` are kept for programs to read."""
        super().__init__(message, hint=hint)
        self.name = redact(name)
        self.rule = redact(rule)


class RepositoryError(WorkstreamError):
    """Not a repository, an unsupported format, no base branch: fix the configuration.

    Attributes:
        path: The repository or file it is about, or ``None``.
    """

    path: str | None

    def __init__(self, message: str, *, path: object = None, hint: str | None = None) -> None:
        """Make the error; ``path`` is anything ``str()`` turns into a path."""
        super().__init__(message, hint=hint)
        self.path = _text(path)


class LaneConflictError(WorkstreamError):
    """Something that is not this lane's is in the way: look, then tear it down.

    Attributes:
        obstacle: The path, ref or pull request's URL in the way, or ``None``.
    """

    obstacle: str | None

    def __init__(self, message: str, *, obstacle: object = None, hint: str | None = None) -> None:
        """Make the error; ``obstacle`` names what is in the way."""
        super().__init__(message, hint=hint)
        self.obstacle = _text(obstacle)


class LaneBusyError(WorkstreamError, TimeoutError):
    """Another thread or process holds what is needed: try again.

    Attributes:
        waited_s: How long was waited, in seconds.
    """

    waited_s: float

    def __init__(self, message: str, *, waited_s: float, hint: str | None = None) -> None:
        """Make the error; ``waited_s`` is in seconds."""
        super().__init__(message, hint=hint)
        self.waited_s = waited_s


class CommitRefusedError(WorkstreamError):
    """Some paths cannot be committed as they are: mend them, or leave them out.

    Attributes:
        paths: The paths, relative to the top of the worktree.
        reason: What is wrong with all of them.
    """

    paths: tuple[str, ...]
    reason: str

    def __init__(
        self, message: str, *, paths: tuple[str, ...], reason: str, hint: str | None = None
    ) -> None:
        """Make the error; ``paths`` and ``reason`` are kept for programs to read."""
        super().__init__(message, hint=hint)
        self.paths = tuple(redact(path) for path in paths)
        self.reason = redact(reason)


class NothingToCommitError(WorkstreamError):
    """There is no change to commit: go on without one."""


class RemoteError(WorkstreamError):
    """A remote, or GitHub's API, did not do what was asked.

    Attributes:
        url: Address of the other side, without user-info.
    """

    url: str

    def __init__(self, message: str, *, url: str, hint: str | None = None) -> None:
        """Make the error; user-info in ``url`` is dropped."""
        super().__init__(message, hint=hint)
        self.url = redact(strip_userinfo(url))


class RemoteUnavailableError(RemoteError):
    """No usable answer in time: try again."""


class CredentialsRejectedError(RemoteError):
    """The host refused the credential, or none was offered: fix the token.

    Attributes:
        source: Where the credential came from (``"environment variable GH_TOKEN"``),
            or ``None`` when there was none. Never the credential.
    """

    source: str | None

    def __init__(
        self, message: str, *, url: str, source: str | None = None, hint: str | None = None
    ) -> None:
        """Make the error; ``source`` names the place, not the value."""
        super().__init__(message, url=url, hint=hint)
        self.source = _text(source)


class PushRejectedError(RemoteError):
    """The remote answered and refused a ref: ask a human.

    Attributes:
        ref: Full name of the refused ref.
        reason: Why, in the server's words.
    """

    ref: str
    reason: str

    def __init__(
        self, message: str, *, url: str, ref: str, reason: str, hint: str | None = None
    ) -> None:
        """Make the error; ``reason`` is what the server said, redacted."""
        super().__init__(message, url=url, hint=hint)
        self.ref = redact(ref)
        self.reason = redact(reason)


class LeaseLostError(PushRejectedError):
    """The remote's ref is not where it was seen: somebody else pushed in between."""


class PullRequestError(WorkstreamError):
    """GitHub refused a pull request operation.

    Attributes:
        repository: ``"owner/name"``.
        status: HTTP status of the answer, or ``None`` when the answer was not usable.
    """

    repository: str
    status: int | None

    def __init__(
        self, message: str, *, repository: str, status: int | None = None, hint: str | None = None
    ) -> None:
        """Make the error; ``status`` is the HTTP status, if there was one."""
        super().__init__(message, hint=hint)
        self.repository = redact(repository)
        self.status = status


class RateLimitedError(PullRequestError):
    """GitHub asked for a pause: come back later.

    Attributes:
        retry_after_s: Seconds GitHub asked to wait, or ``None`` when it did not say.
    """

    retry_after_s: float | None

    def __init__(
        self,
        message: str,
        *,
        repository: str,
        status: int | None = None,
        retry_after_s: float | None = None,
        hint: str | None = None,
    ) -> None:
        """Make the error; ``retry_after_s`` is in seconds."""
        super().__init__(message, repository=repository, status=status, hint=hint)
        self.retry_after_s = retry_after_s


class MergeNotReadyError(PullRequestError):
    """What the merge waits for may come by itself: try again later."""


class MergeConflictError(PullRequestError):
    """Two branches conflict, or a pull request is behind its target: bring the lane up to date.

    Of a merge in a lane's worktree, ``repository`` is the worktree's path and ``status`` is
    ``None``.

    Attributes:
        preview: What is in conflict, path by path; ``None`` where GitHub said that there is
            something, which does not tell more.
    """

    preview: MergePreview | None

    def __init__(
        self,
        message: str,
        *,
        repository: str,
        status: int | None = None,
        preview: MergePreview | None = None,
        hint: str | None = None,
    ) -> None:
        """Make the error; ``preview`` is kept for programs to read."""
        super().__init__(message, repository=repository, status=status, hint=hint)
        self.preview = preview


class MergeRefusedError(PullRequestError):
    """A rule, a person or an open concern stands against the merge: ask a human."""
