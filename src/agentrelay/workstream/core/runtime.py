"""The mutable side of a workstream: state, artifacts and status.

Status is never stored in memory. It is read from signal files each time, so any
process that sees the signal directory sees the same status.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final, Optional
from urllib.parse import urlsplit

from agentrelay.workstream._redact import redact
from agentrelay.workstream._steps import Verb
from agentrelay.workstream.core import _signals
from agentrelay.workstream.core.workstream import WorkstreamSpec
from agentrelay.workstream.errors import WorkstreamError

__all__ = [
    "OperationalConcern",
    "TaskSummary",
    "WorkstreamArtifacts",
    "WorkstreamRuntime",
    "WorkstreamState",
    "WorkstreamStatus",
    "graph_of",
    "record_concern",
]


class WorkstreamStatus(str, Enum):  # noqa: UP042 - the reference names these two bases
    """Execution state of a workstream during orchestration.

    Attributes:
        PENDING: Not started, or being provisioned.
        ACTIVE: The lane stands and agents may work in it.
        MERGE_READY: All tasks are done; the lane is ready for integration.
        PR_CREATED: The integration pull request is open, waiting to be merged.
        MERGED: The lane's work is in the target branch.
        FAILED: A step failed; ``state.error`` says how.
    """

    PENDING = "pending"
    ACTIVE = "active"
    MERGE_READY = "merge_ready"
    PR_CREATED = "pr_created"
    MERGED = "merged"
    FAILED = "failed"


# Furthest first. FAILED is not on the way: it hides whatever was reached before.
_FURTHEST_FIRST: Final = (
    WorkstreamStatus.MERGED,
    WorkstreamStatus.PR_CREATED,
    WorkstreamStatus.MERGE_READY,
    WorkstreamStatus.ACTIVE,
    WorkstreamStatus.PENDING,
)


# A signal file is small; an error text that long has said what it had to.
_LONGEST_ERROR: Final = 100_000
# What any browser opens; GitHub's are a tenth of it.
_LONGEST_URL: Final = 2_000


@dataclass(frozen=True)
class TaskSummary:
    """What one task contributed, for the body of the integration pull request.

    Attributes:
        task_id: Identifier of the task, unique within its graph.
        description: What the task was, in words, or ``None``.
        pr_url: URL of the task's own pull request, or ``None``.
        concerns: Design concerns its agent recorded.
        role: What its agent was, ``"coder"`` or ``"reviewer"`` for example, or ``None``.
    """

    task_id: str
    description: Optional[str] = None
    pr_url: Optional[str] = None
    concerns: tuple[str, ...] = ()
    role: Optional[str] = None


@dataclass
class WorkstreamState:
    """Mutable operational state of a lane.

    Attributes:
        signal_dir: Directory of the lane's signal files; ``None`` means the lane was
            never prepared.
        worktree_path: Directory of the lane's worktree, or ``None``.
        branch_name: Short name of the lane's integration branch, or ``None``.
        error: Text of the error that failed the lane, else ``None``.
        base_commit: Hex id of the commit the lane was cut from, or ``None``.
    """

    signal_dir: Optional[Path] = None
    worktree_path: Optional[Path] = None
    branch_name: Optional[str] = None
    error: Optional[str] = None
    base_commit: Optional[str] = None


@dataclass
class WorkstreamArtifacts:
    """Outputs and observations of a lane.

    Attributes:
        merge_pr_url: URL of the integration pull request, or ``None``.
        concerns: Notable observations, in the order they were made.
        task_summaries: One entry a task, for the pull request's body.
    """

    merge_pr_url: Optional[str] = None
    concerns: list[str] = field(default_factory=list)
    task_summaries: list[TaskSummary] = field(default_factory=list)


@dataclass
class WorkstreamRuntime:
    """Mutable envelope around a :class:`WorkstreamSpec`.

    Attributes:
        spec: The immutable specification.
        state: Operational state of the lane.
        artifacts: What the lane produced.
    """

    spec: WorkstreamSpec
    state: WorkstreamState = field(default_factory=WorkstreamState)
    artifacts: WorkstreamArtifacts = field(default_factory=WorkstreamArtifacts)

    @property
    def status(self) -> WorkstreamStatus:
        """Current status, read from the signal files.

        ``failed`` beats everything, otherwise the furthest signal counts. Without a
        signal directory the lane is PENDING, or FAILED when an error is recorded.
        """
        signal_dir = self.state.signal_dir
        if signal_dir is None or not signal_dir.is_dir():
            return WorkstreamStatus.PENDING if self.state.error is None else WorkstreamStatus.FAILED
        if _signals.read_signal(signal_dir, WorkstreamStatus.FAILED.value) is not None:
            return WorkstreamStatus.FAILED
        for status in _FURTHEST_FIRST:
            if status is WorkstreamStatus.PR_CREATED:
                if _read_url(signal_dir) is not None:
                    return status
            elif _signals.has_signal(signal_dir, status.value):
                return status
        return WorkstreamStatus.PENDING

    def mark_pending(self) -> None:
        """Write the ``pending`` signal.

        Raises:
            WorkstreamError: The lane has no signal directory.
            OSError: The signal cannot be written.
        """
        self._mark(WorkstreamStatus.PENDING)

    def mark_active(self) -> None:
        """Write the ``active`` signal.

        Raises:
            WorkstreamError: The lane has no signal directory.
            OSError: The signal cannot be written.
        """
        self._mark(WorkstreamStatus.ACTIVE)

    def mark_merge_ready(self) -> None:
        """Write the ``merge_ready`` signal.

        Raises:
            WorkstreamError: The lane has no signal directory.
            OSError: The signal cannot be written.
        """
        self._mark(WorkstreamStatus.MERGE_READY)

    def mark_pr_created(self, pr_url: str) -> None:
        """Write the ``pr_created`` signal and remember the pull request.

        Args:
            pr_url: The http or https URL of the pull request. User-info in it is dropped.

        Raises:
            WorkstreamError: The lane has no signal directory, or ``pr_url`` is no such URL.
            OSError: The signal cannot be written.
        """
        url = _one_url(redact(pr_url))
        if url is None:
            message = f"cannot mark workstream '{self.spec.id}' pr_created without one http(s) URL"
            raise WorkstreamError(message, hint="Pass the pull request's html_url.")
        self._mark(WorkstreamStatus.PR_CREATED, url)
        self.artifacts.merge_pr_url = url

    def mark_merged(self) -> None:
        """Write the ``merged`` signal.

        Raises:
            WorkstreamError: The lane has no signal directory.
            OSError: The signal cannot be written.
        """
        self._mark(WorkstreamStatus.MERGED)

    def mark_failed(self, error: str) -> None:
        """Record an error, and write the ``failed`` signal where there is a directory.

        Args:
            error: What went wrong, in words. Secrets in it are masked.

        Raises:
            OSError: The signal could not be written; the error is still recorded in
                memory.
        """
        text = redact(error[:_LONGEST_ERROR])
        self.state.error = text
        with Verb("mark", graph_of(self), self.spec.id) as verb:
            verb.say(WorkstreamStatus.FAILED.value)
            if self.state.signal_dir is not None:
                _signals.write_signal(self.state.signal_dir, WorkstreamStatus.FAILED.value, text)

    def clear_failure(self) -> None:
        """Leave FAILED behind after a success, keeping the error in the lane's history.

        Harmless when the lane did not fail.

        Raises:
            OSError: The signal cannot be removed.
        """
        self._retire(WorkstreamStatus.FAILED)
        self.state.error = None

    def reopen(self) -> None:
        """Leave MERGED behind: the lane holds new work that is merged nowhere yet.

        Harmless when the lane is not MERGED.

        Raises:
            OSError: The signal cannot be removed.
        """
        self._retire(WorkstreamStatus.MERGED)

    def _retire(self, status: WorkstreamStatus) -> None:
        """Move a signal into the lane's history."""
        if self.state.signal_dir is not None:
            _signals.retire_signal(self.state.signal_dir, status.value, event=status.value)

    @classmethod
    def load(cls, signal_dir: Path) -> WorkstreamRuntime:
        """Rebuild a runtime, in any process, from what is on disk.

        Restores the spec, the state (with error and base commit) and the pull
        request's URL. Concerns and task summaries live in memory only.

        Args:
            signal_dir: The lane's signal directory.

        Returns:
            A runtime whose status is the one on disk.

        Raises:
            WorkstreamError: The directory holds no readable lane record.
        """
        record = _signals.read_record(signal_dir)
        if record is None:
            message = f"'{signal_dir}' holds no readable lane record"
            raise WorkstreamError(message, hint="Prepare the workstream to write a new one.")
        spec = WorkstreamSpec(
            id=_text(record, "workstream_id") or signal_dir.name,
            parent_workstream_id=_text(record, "parent_workstream_id"),
            base_branch=_text(record, "base_branch") or WorkstreamSpec.base_branch,
            merge_target_branch=_text(record, "merge_target_branch")
            or WorkstreamSpec.merge_target_branch,
        )
        worktree = _text(record, "worktree_path")
        return cls(
            spec=spec,
            state=WorkstreamState(
                signal_dir=signal_dir,
                worktree_path=None if worktree is None else Path(worktree),
                branch_name=_text(record, "branch_name"),
                error=_signals.read_signal(signal_dir, WorkstreamStatus.FAILED.value),
                base_commit=_text(record, "base_commit"),
            ),
            artifacts=WorkstreamArtifacts(merge_pr_url=_read_url(signal_dir)),
        )

    def _mark(self, status: WorkstreamStatus, content: str = "") -> None:
        """Write one signal; permissive about order, which is the runner's business."""
        with Verb("mark", graph_of(self), self.spec.id) as verb:
            verb.say(status.value)
            if self.state.signal_dir is None:
                message = (
                    f"cannot mark workstream '{self.spec.id}' {status.value}: "
                    "it has no signal directory"
                )
                raise WorkstreamError(message, hint="Prepare the workstream first.")
            _signals.write_signal(self.state.signal_dir, status.value, content)


def _read_url(signal_dir: Path) -> str | None:
    """Return the pull request's URL, or ``None`` for a torn or foreign file."""
    text = _signals.read_signal(signal_dir, WorkstreamStatus.PR_CREATED.value)
    return None if text is None else _one_url(text)


def _one_url(text: str) -> str | None:
    """Return the one http or https URL a text is, or ``None``.

    What :func:`redact` would change was never written, so somebody else wrote it.
    """
    url = text.strip()
    if len(url) > _LONGEST_URL or " " in url or not url.isprintable() or redact(url) != url:
        return None
    try:
        parts = urlsplit(url)
        # Reading the port checks it.
        is_page = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return url if is_page and "@" not in parts.netloc else None


def _text(record: dict[str, Any], key: str) -> str | None:
    """Return a text field of a record that anyone may have edited."""
    value = record.get(key)
    return value if isinstance(value, str) and value else None


def graph_of(runtime: WorkstreamRuntime) -> str | None:
    """Return the task graph a lane's branch is of, as it is written; ``None`` before there is one.

    For what is said of a lane; nothing may be done by it.
    """
    branch: object = runtime.state.branch_name
    parts = branch.split("/") if isinstance(branch, str) else []
    return parts[1] if len(parts) == 4 else None  # noqa: PLR2004 - agentrelay/<graph>/<id>/integration


class OperationalConcern(str):
    """A concern this library recorded itself: a text that can be told from agents'."""

    __slots__ = ()


def record_concern(runtime: WorkstreamRuntime, text: str) -> None:
    """Add a concern unless it is there: a repeated step does not repeat itself."""
    clean = OperationalConcern(redact(text))
    if clean not in runtime.artifacts.concerns:
        runtime.artifacts.concerns.append(clean)
