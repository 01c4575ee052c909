"""The order of a diagnosis, and the sheet its findings are written on.

libgit2 may be what is missing. So this module and those for the machine and for GitHub
import nothing of it, and the modules that need it are imported once it has loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from agentrelay.workstream._redact import redact
from agentrelay.workstream._steps import Step
from agentrelay.workstream.credentials import TokenSource
from agentrelay.workstream.errors import WorkstreamError
from agentrelay.workstream.implementations.workstream_doctor import Finding, FindingLevel

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Question", "Sheet", "examine"]

T = TypeVar("T")

# Shorter tokens are those of emulators ("test"); masking them would garble words.
_SHORTEST_SECRET: Final = 8

_REPOSITORY: Final = (
    "repository",
    "ownership",
    "history",
    "index",
    "sparse-checkout",
    "file-system",
    "places",
    "disk-space",
    "inodes",
    "locks",
    "leftovers",
)
_REMOTE: Final = ("remote", "ssh-key", "ssh-host", "ignored-settings")
_HEADS: Final = ("remote-read", "remote-push", "base-branch", "merge-target")
_GITHUB: Final = (
    "api",
    "clock",
    "github-repository",
    "push-permission",
    "pull-permission",
    "token-expiry",
    "merge-methods",
    "target-protection",
    "rate-limit",
)
# The order in which findings are returned.
_NAMES: Final = (
    "libgit2",
    "open-files",
    *_REPOSITORY,
    *_REMOTE,
    "proxy",
    "certificates",
    "github-address",
    "credential",
    *_HEADS,
    *_GITHUB,
)


@dataclass(frozen=True)
class Question:
    """What a caller wants to know; see :func:`diagnose` for each."""

    repo_path: Path
    remote: str
    base_branch: str
    merge_target_branch: str
    token: TokenSource = field(repr=False)
    ssh_key: Path | None
    api_url: str | None
    full_name: str | None
    api_timeout_s: int
    network_timeout_s: float
    clock: Callable[[], float]


class Sheet:
    """What was found so far, one finding a name.

    Attributes:
        secrets: Texts that must not be in any finding.
    """

    def __init__(self) -> None:
        """Start with an empty sheet."""
        self.secrets: set[str] = set()
        self._findings: dict[str, Finding] = {}

    def ok(self, name: str, sentence: str) -> None:
        """Write down that all is well."""
        self._findings[name] = Finding(name, FindingLevel.OK, sentence)

    def note(self, name: str, sentence: str, fix: str | None = None) -> None:
        """Write down what the reader should know."""
        self._findings[name] = Finding(name, FindingLevel.NOTE, sentence, fix)

    def problem(self, name: str, sentence: str, fix: str) -> None:
        """Write down what will make lanes fail."""
        self._findings[name] = Finding(name, FindingLevel.PROBLEM, sentence, fix)

    def failed(self, name: str, error: WorkstreamError) -> None:
        """Write down an error of ours as a problem."""
        self.problem(name, error.message, error.hint or "Mend that, then look again.")

    def skip(self, names: Sequence[str], why: str) -> None:
        """Write down what could not be checked; what has been found already stays."""
        for name in names:
            if name not in self._findings:
                self.note(name, f"not checked: {why}")

    def attempt(self, name: str, check: Callable[[], T]) -> T | None:
        """Make a check, and whatever it meets its own finding, so that the others go on.

        Args:
            name: Name of the finding.
            check: Writes the finding down last of all, when nothing can fail any more.

        Returns:
            What the check returned, or ``None`` after a failure.
        """
        try:
            with Step(name):
                return check()
        except WorkstreamError as error:
            self.failed(name, error)
        except Exception as error:  # noqa: BLE001 - a diagnosis comes to its end
            # Not its words: the standard library's may quote an address, password and all.
            reason = getattr(error, "strerror", None)
            kind = type(error).__name__
            self.note(name, f"not checked: {kind}: {reason}" if reason else f"not checked: {kind}")
        return None

    def read(self) -> list[Finding]:
        """Return all findings in their order, without secrets."""
        secrets = [text for text in self.secrets if len(text) >= _SHORTEST_SECRET]
        return [
            replace(
                found,
                sentence=redact(found.sentence, *secrets),
                fix=None if found.fix is None else redact(found.fix, *secrets),
            )
            for found in (self._findings[name] for name in _NAMES)
        ]


def examine(question: Question) -> list[Finding]:
    """Look at everything, from the machine to GitHub.

    Raises:
        LaneNameError: A branch name cannot be one.
    """
    from agentrelay.workstream.implementations import _diagnosis_github, _diagnosis_machine

    sheet = Sheet()
    _diagnosis_machine.look_at_limits(sheet)
    git = sheet.attempt("libgit2", _load_git)
    end = None
    if git is not None:
        end = git.look(sheet, question)
    sheet.skip(_REPOSITORY, "it takes libgit2 and a repository that opens")
    sheet.skip(_REMOTE, "it takes a repository that opens")
    remote_url = "" if end is None else end.url
    address = _diagnosis_github.look_at_address(sheet, question, remote_url)
    _diagnosis_machine.look_at_network(
        sheet, [remote_url, "" if address is None else address.api_url]
    )
    credential = _diagnosis_github.look_for_credential(sheet, question, address, remote_url)
    if git is not None and end is not None:
        git.look_at_heads(sheet, question, end)
    sheet.skip(_HEADS, "it takes a remote that is configured")
    if address is not None:
        _diagnosis_github.look(sheet, question, address, credential)
    sheet.skip(_GITHUB, "it takes the address of a repository at GitHub")
    return sheet.read()


def _load_git() -> ModuleType:
    """Import what needs libgit2, and so libgit2.

    Raises:
        RepositoryError: It cannot be loaded.
    """
    from agentrelay.workstream.implementations import _diagnosis_remote

    return _diagnosis_remote
