"""Every name and path of one lane, validated; pure.

Only this module spells a lane's branch or a lane's path. A name must be a git ref
component, a directory name on any file system and readable in a message at once,
so the rules are an allow-list and not a list of known dangers.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from agentrelay.workstream._durations import absolute_path
from agentrelay.workstream.errors import LaneConflictError, LaneNameError

__all__ = [
    "BRANCH_PREFIX",
    "RESCUE_PREFIX",
    "SIGNALS_DIR",
    "WORKTREES_DIR",
    "Lane",
    "check_branch_name",
    "check_name",
    "rescue_prefix",
    "same_on_some_file_system",
    "split_admin_name",
    "split_branch",
    "split_rescue_ref",
    "split_task_branch",
    "task_branch",
    "task_prefix",
    "trash_dir_of",
]

# Top folders of everything lanes keep in a repository.
WORKTREES_DIR: Final = ".worktrees"
SIGNALS_DIR: Final = ".workflow"

_PREFIX: Final = "agentrelay"
# Refs below it keep what a clean-up found nowhere else: ``<graph>/<id>/<time>/<label>``.
RESCUE_PREFIX: Final = f"refs/{_PREFIX}/rescue/"
# Short names of all lanes' branches begin with it.
BRANCH_PREFIX: Final = f"{_PREFIX}/"
_SUFFIX: Final = "integration"
_REF: Final = "refs/heads/"

# Two names and a hash make one directory name of at most 210 bytes; file systems
# allow 255.
_LONGEST: Final = 100
_ALLOWED: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
# Names that Windows resolves to devices whatever their extension ("Naming Files,
# Paths, and Namespaces"), and names git gives a meaning of its own.
_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{device}{digit}" for device in ("com", "lpt") for digit in "0123456789"}
)
_RESERVED: Final = frozenset({"head", "fetch_head", "orig_head", "merge_head", "git~1"})
_LONGEST_BRANCH: Final = 200
# Hex digits of a hash that make an entry's name injective.
_DIGEST: Final = 8
# git-check-ref-format(1), rules 3 to 10.
_BRANCH_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")


def _refusal(kind: str, name: object, rule: str) -> LaneNameError:
    """Make the error; the name is shown escaped, so a control character cannot act."""
    shown = _shown(name)
    if len(shown) > _LONGEST:
        shown = f"{shown[:40]}..."
    return LaneNameError(
        f"{kind} {shown} cannot name a lane: {rule}",
        name=name if isinstance(name, str) else shown,
        rule=rule,
        hint="Use letters, digits, '-', '_' and single dots; at most 100 characters.",
    )


def _shown(name: object) -> str:
    """Return a name escaped; of what is no text, its type: its own words may fail or be long."""
    return ascii(name) if isinstance(name, str) else f"<{type(name).__name__}>"


def check_name(name: str, *, kind: str) -> str:
    """Return ``name`` if it can be a ref component and a directory everywhere.

    Args:
        name: A graph name or workstream id.
        kind: What it is, for the message: ``"workstream id"``.

    Raises:
        LaneNameError: It breaks a rule; ``rule`` says which.
    """
    rule = _broken_rule(name)
    if rule is not None:
        raise _refusal(kind, name, rule)
    return name


def _broken_rule(name: object) -> str | None:  # noqa: C901, PLR0911, PLR0912 - one branch a rule
    """Return the first rule a name breaks, the most telling first."""
    if not isinstance(name, str):
        return "it must be text"
    if not name:
        return "it must not be empty"
    if len(name) > _LONGEST:
        return f"it must have at most {_LONGEST} characters, and has {len(name)}"
    if any(ord(character) < ord(" ") or ord(character) == 0x7F for character in name):  # noqa: PLR2004 - DEL
        return "it must not contain control characters"
    if "/" in name or "\\" in name:
        return (
            "it must not contain '/' or '\\': a name that is a path prefix of another "
            "cannot be a ref beside it, and paths must not lead elsewhere"
        )
    if ".." in name:
        return "it must not contain '..'"
    if "@{" in name:
        return "it must not contain '@{'"
    if name.startswith(("-", ".")):
        return f"it must not start with '{name[0]}'"
    if name.endswith("."):
        return "it must not end with '.'"
    if name.lower().endswith(".lock"):
        return "it must not end with '.lock', which git keeps for lock files"
    if name.lower().split(".")[0] in _DEVICES or name.lower() in _RESERVED:
        return "it is a reserved name"
    if not name.isascii():
        return "it must be ASCII: other letters have several Unicode forms that look the same"
    if not _ALLOWED.match(name):
        return "it may hold letters, digits, '.', '_' and '-' only"
    return None


def check_branch_name(name: object, *, kind: str) -> str:
    """Return ``name`` if it can be the short name of a branch.

    Args:
        name: Short branch name, ``"main"`` or ``"release/2"``.
        kind: What it is, for the message: ``"base branch"``.

    Raises:
        LaneNameError: It breaks a rule; ``rule`` says which.

    Source:
        git-check-ref-format(1) with ``--branch``; a leading ``refs/`` is refused too,
        because ``refs/heads/refs/heads/main`` is never what was meant.
    """
    rule: str | None = None
    if not isinstance(name, str):
        rule = "it must be text"
    elif not name:
        rule = "it must not be empty"
    elif len(name) > _LONGEST_BRANCH:
        rule = f"it must have at most {_LONGEST_BRANCH} characters"
    elif _BRANCH_FORBIDDEN.search(name):
        rule = "it holds a character or sequence that git refuses in a ref"
    elif name.startswith(("-", "/", "refs/")) or name.endswith(("/", ".")) or name == "@":
        rule = "it must not start with '-', '/' or 'refs/', nor end with '/' or '.'"
    elif name.upper() in {"HEAD", "FETCH_HEAD"}:
        rule = "it is a reserved name"
    elif any(
        part.startswith(".") or part.lower().endswith((".", ".lock")) for part in name.split("/")
    ):
        rule = "no part of it may start with '.' or end with '.' or '.lock'"
    elif any("\ud800" <= character <= "\udfff" for character in name):
        rule = "it must be valid Unicode"
    if rule is not None:
        raise LaneNameError(
            f"{kind} {_shown(name)[:120]} cannot be a branch: {rule}",
            name=name if isinstance(name, str) else _shown(name),
            rule=rule,
            hint="Give the short name of a branch, such as 'main' or 'release/2'.",
        )
    return str(name)


def rescue_prefix(graph: str | None, workstream_id: str | None) -> str:
    """Return the prefix of the rescue refs of all lanes, of a graph's, or of one lane.

    Raises:
        LaneNameError: A name breaks a rule, or an id is given without its graph.
    """
    if graph is None:
        if workstream_id is None:
            return RESCUE_PREFIX
        rule = "a workstream id alone names no lane"
        raise LaneNameError(
            f"{ascii(workstream_id)[:120]} needs its graph: {rule}",
            name=str(workstream_id),
            rule=rule,
            hint="Give the graph's name as well.",
        )
    check_name(graph, kind="graph name")
    if workstream_id is None:
        return f"{RESCUE_PREFIX}{graph}/"
    check_name(workstream_id, kind="workstream id")
    return f"{RESCUE_PREFIX}{graph}/{workstream_id}/"


def same_on_some_file_system(one: str, other: str) -> bool:
    """Return whether two different names are one name where case does not count.

    Refs and worktrees of both would share files on macOS and Windows, and on a
    case-sensitive disk they would surprise the first clone that is not.
    """
    return one != other and one.casefold() == other.casefold()


def split_branch(branch: str) -> tuple[str, str] | None:
    """Return graph and id of the lane a short branch name is of, or ``None`` for no lane's."""
    parts = branch.split("/")
    if len(parts) != 4 or parts[0] != _PREFIX or parts[3] != _SUFFIX:  # noqa: PLR2004 - as below
        return None
    return _names(parts[1], parts[2])


def split_rescue_ref(ref: str) -> tuple[str, str] | None:
    """Return graph and id of the lane a rescue ref keeps work of, or ``None``."""
    parts = ref.removeprefix(RESCUE_PREFIX).split("/")
    deep_enough = ref.startswith(RESCUE_PREFIX) and len(parts) > 2  # noqa: PLR2004 - graph, id, more
    return _names(parts[0], parts[1]) if deep_enough and all(parts) else None


def split_admin_name(admin_name: str) -> tuple[str, str] | None:
    """Return graph and id of the lane an entry's name is of, or ``None`` for no lane's.

    The name does not say where the graph's ends; its hash does.
    """
    both = admin_name[:-_DIGEST] if len(admin_name) < 2 * _LONGEST + 2 + _DIGEST else ""
    for position, character in enumerate(both):
        if character == "-":
            graph, workstream_id = both[:position], both[position + 1 : -1]
            if _admin_name(graph, workstream_id) == admin_name:
                return _names(graph, workstream_id)
    return None


def task_branch(graph: str, task_id: str) -> str:
    """Return the short name of a task's branch, which lies beside the lanes of its graph.

    Raises:
        LaneNameError: A name breaks a rule.
    """
    check_name(graph, kind="graph name")
    return f"{BRANCH_PREFIX}{graph}/{check_name(task_id, kind='task id')}"


def task_prefix(graph: str, task_id: str) -> str:
    """Return the prefix of the refs that say which lane a task was started from, by its id."""
    return f"refs/{_PREFIX}/tasks/{task_branch(graph, task_id).removeprefix(BRANCH_PREFIX)}/"


def split_task_branch(branch: str) -> tuple[str, str] | None:
    """Return graph and id of the task a short branch name is of, or ``None`` for no task's."""
    parts = branch.split("/")
    return _names(*parts[1:]) if len(parts) == 3 and parts[0] == _PREFIX else None  # noqa: PLR2004 - agentrelay, graph, id


def _names(graph: str, workstream_id: str) -> tuple[str, str] | None:
    """Return both names, if a lane can have them."""
    allowed = _broken_rule(graph) is None and _broken_rule(workstream_id) is None
    return (graph, workstream_id) if allowed else None


def _admin_name(graph: str, workstream_id: str) -> str:
    both = f"{graph}/{workstream_id}".encode("utf-8", "surrogateescape")
    return f"{graph}-{workstream_id}-{hashlib.sha256(both).hexdigest()[:_DIGEST]}"


def trash_dir_of(repo_path: Path) -> Path:
    """Return the directory for worktrees of a repository that are being unlinked."""
    return repo_path / WORKTREES_DIR / ".trash"


@dataclass(frozen=True)
class Lane:
    """One workstream's place in one repository.

    Build it with :meth:`of` or :meth:`from_branch`; both validate.

    Attributes:
        repo_path: Absolute path of the repository the lanes live in.
        graph: Name of the task graph.
        workstream_id: Identifier of the workstream within the graph.
        signal_dir: Directory of the lane's signal files.
    """

    repo_path: Path
    graph: str
    workstream_id: str
    signal_dir: Path

    @classmethod
    def of(
        cls, repo_path: Path, graph: str, workstream_id: str, *, run_dir: Path | None = None
    ) -> Lane:
        """Return the lane of a workstream.

        Args:
            repo_path: Repository the lane lives in; made absolute, not resolved.
            graph: Name of the task graph.
            workstream_id: Identifier of the workstream.
            run_dir: Directory whose ``workstreams/<id>`` holds the signals; the
                repository's ``.workflow/<graph>`` when ``None``.

        Raises:
            LaneNameError: A name breaks a rule.
            RepositoryError: A path is none, or cannot be made absolute.
        """
        check_name(graph, kind="graph name")
        check_name(workstream_id, kind="workstream id")
        root = absolute_path("repo_path", repo_path)
        run = root / SIGNALS_DIR / graph
        if run_dir is not None:
            run = absolute_path("run_dir", run_dir)
        return cls(root, graph, workstream_id, run / "workstreams" / workstream_id)

    @classmethod
    def from_branch(
        cls,
        repo_path: Path,
        branch: str,
        workstream_id: str,
        *,
        run_dir: Path | None = None,
    ) -> Lane:
        """Return the lane whose integration branch is ``branch``.

        Args:
            repo_path: Repository the lane lives in.
            branch: Short branch name, as a runtime's state records it.
            workstream_id: Identifier the branch must belong to.
            run_dir: As for :meth:`of`.

        Raises:
            LaneConflictError: The branch is not this workstream's lane branch.
            LaneNameError: A name breaks a rule.
        """
        parts = branch.split("/")
        if (
            len(parts) != 4  # noqa: PLR2004 - agentrelay, graph, id, integration
            or parts[0] != _PREFIX
            or parts[2] != workstream_id
            or parts[3] != _SUFFIX
        ):
            message = f"branch {branch!a} is not the lane of workstream '{workstream_id}'"
            raise LaneConflictError(
                message,
                obstacle=branch,
                hint=f"A lane's branch is '{_PREFIX}/<graph>/{workstream_id}/{_SUFFIX}'.",
            )
        return cls.of(repo_path, parts[1], workstream_id, run_dir=run_dir)

    @property
    def branch(self) -> str:
        """Short name of the integration branch."""
        return f"{_PREFIX}/{self.graph}/{self.workstream_id}/{_SUFFIX}"

    @property
    def branch_ref(self) -> str:
        """Full name of the integration branch."""
        return _REF + self.branch

    @cached_property
    def worktrees_dir(self) -> Path:
        """Directory that holds the worktrees of the lane's graph."""
        return self.repo_path / WORKTREES_DIR / self.graph

    @property
    def trash_dir(self) -> Path:
        """Directory for worktrees that are being unlinked; no graph can have its name."""
        return trash_dir_of(self.repo_path)

    @cached_property
    def worktree_path(self) -> Path:
        """Directory of the lane's worktree."""
        return self.worktrees_dir / self.workstream_id

    @cached_property
    def admin_name(self) -> str:
        """Name of the lane's entry under the repository's ``worktrees`` directory.

        Flat, because git wants one path component; readable; and injective: the hash
        tells ``a-b`` of graph ``c`` from ``b`` of graph ``c-a``.
        """
        return _admin_name(self.graph, self.workstream_id)

    @property
    def rescue_prefix(self) -> str:
        """Prefix of the refs under which the lane's otherwise lost work is kept."""
        return f"{RESCUE_PREFIX}{self.graph}/{self.workstream_id}/"

    def __str__(self) -> str:
        """Return ``graph/id``, as messages name a lane."""
        return f"{self.graph}/{self.workstream_id}"
