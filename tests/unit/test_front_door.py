"""The front door: every documented name, where it is documented, at no cost to import."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import inspect
import pkgutil
import sys
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any, Optional, Protocol

import pytest

import agentrelay.workstream as front_door

_PACKAGE = "agentrelay.workstream"

# Where a user finds each class besides the front door.
_HOMES: dict[str, tuple[str, ...]] = {
    "core.workstream": ("WorkstreamSpec",),
    "core.graph": ("WorkstreamGraph",),
    "core.runtime": (
        "TaskSummary",
        "WorkstreamArtifacts",
        "WorkstreamRuntime",
        "WorkstreamState",
        "WorkstreamStatus",
    ),
    "core.io": (
        "IntegrationAutoMerger",
        "IntegrationMergeChecker",
        "WorkstreamIntegrator",
        "WorkstreamPreparer",
        "WorkstreamTeardown",
    ),
    "core.merge": ("MergeCheck", "MergeEvent", "MergeVerdict", "record_merge"),
    "core.runner": ("StandardWorkstreamRunner", "WorkstreamRunResult", "WorkstreamRunner"),
    "_changes": ("AheadBehind", "ChangedPath", "CommitInfo", "FileChange", "LaneDiff"),
    "implementations": (
        "CloneProgress",
        "CheckoutProgress",
        "ConflictHunk",
        "ConflictKind",
        "MergePreview",
        "PathConflict",
        "Finding",
        "FindingLevel",
        "FoundLane",
        "GhIntegrationAutoMerger",
        "GhIntegrationMergeChecker",
        "GhWorkstreamIntegrator",
        "GitHubApp",
        "GitWorkstreamPreparer",
        "GitWorkstreamTeardown",
        "LaneKind",
        "LaneOutcome",
        "LaneResult",
        "LaneStatus",
        "LaneWorkspace",
        "Reconciliation",
        "prepare_all",
        "reconcile",
        "RescuedWork",
        "RestoredWork",
        "RetargetedChild",
        "SigningKey",
        "clone",
        "diagnose",
        "forget",
        "open_lane",
        "preview_merge",
        "preview_pairs",
        "rescued",
        "restore",
        "retarget_children",
        "teardown_all",
    ),
    "credentials": ("SigningKey",),
    "implementations.checkout_progress": ("CheckoutProgress",),
    "implementations.github_app": ("GitHubApp",),
    "implementations.workstream_auto_merger": ("GhIntegrationAutoMerger",),
    "implementations.workstream_doctor": ("Finding", "FindingLevel", "diagnose"),
    "implementations.workstream_integrator": ("GhWorkstreamIntegrator",),
    "implementations.workstream_merge_checker": ("GhIntegrationMergeChecker",),
    "implementations.workstream_preparer": ("GitWorkstreamPreparer",),
    "implementations.workstream_preview": ("preview_merge", "preview_pairs"),
    "implementations.workstream_reconciler": (
        "FoundLane",
        "LaneKind",
        "LaneOutcome",
        "Reconciliation",
        "reconcile",
    ),
    "implementations.workstream_clone": ("CloneProgress", "clone"),
    "implementations.workstream_workspace": ("LaneStatus", "LaneWorkspace", "open_lane"),
    "implementations.workstream_retarget": ("RetargetedChild", "retarget_children"),
    "implementations.workstream_rescue": (
        "RescuedWork",
        "RestoredWork",
        "forget",
        "rescued",
        "restore",
    ),
    "implementations.workstream_teardown": ("GitWorkstreamTeardown",),
}

_REQUIRED = dataclasses.MISSING

# The documented fields of each dataclass, in order, with their defaults. A class may
# have more after these; it may not have fewer or others in between.
_FIELDS: dict[str, dict[str, object]] = {
    "WorkstreamSpec": {
        "id": _REQUIRED,
        "parent_workstream_id": None,
        "base_branch": "main",
        "merge_target_branch": "main",
    },
    "TaskSummary": {"task_id": _REQUIRED, "description": None, "pr_url": None, "concerns": ()},
    "WorkstreamState": {
        "signal_dir": None,
        "worktree_path": None,
        "branch_name": None,
        "error": None,
    },
    "WorkstreamArtifacts": {"merge_pr_url": None, "concerns": [], "task_summaries": []},
    "WorkstreamRuntime": {
        "spec": _REQUIRED,
        "state": front_door.WorkstreamState(),
        "artifacts": front_door.WorkstreamArtifacts(),
    },
    "WorkstreamRunResult": {"workstream_id": _REQUIRED, "status": _REQUIRED, "error": None},
    "StandardWorkstreamRunner": {
        "_preparer": _REQUIRED,
        "_integrator": _REQUIRED,
        "_teardown": _REQUIRED,
    },
    "GitWorkstreamPreparer": {"repo_path": _REQUIRED, "graph_name": _REQUIRED},
    "GhWorkstreamIntegrator": {"repo_path": _REQUIRED},
    "GitWorkstreamTeardown": {"repo_path": _REQUIRED},
    "GhIntegrationAutoMerger": {"repo_path": _REQUIRED},
    "GhIntegrationMergeChecker": {"repo_path": _REQUIRED},
    "MergeCheck": {
        "verdict": _REQUIRED,
        "url": None,
        "method": None,
        "head": None,
        "target_before": None,
        "merge_commit": None,
        "reason": None,
    },
    "MergeEvent": {"runtime": _REQUIRED, "check": _REQUIRED, "is_last": _REQUIRED},
}

_LANE = ("self", "workstream_runtime")

# The documented methods and the names of their parameters.
_METHODS: dict[tuple[str, str], tuple[str, ...]] = {
    ("WorkstreamPreparer", "prepare_workstream"): _LANE,
    ("WorkstreamIntegrator", "create_integration_pr"): _LANE,
    ("WorkstreamTeardown", "teardown_workstream"): _LANE,
    ("IntegrationAutoMerger", "merge_integration_pr"): _LANE,
    ("GhIntegrationAutoMerger", "merge_integration_pr"): _LANE,
    ("IntegrationMergeChecker", "check_merged"): _LANE,
    ("GhIntegrationMergeChecker", "check_merged"): _LANE,
    ("GitWorkstreamPreparer", "prepare_workstream"): _LANE,
    ("GhWorkstreamIntegrator", "create_integration_pr"): _LANE,
    ("GitWorkstreamTeardown", "teardown_workstream"): _LANE,
    ("WorkstreamRunner", "prepare"): _LANE,
    ("WorkstreamRunner", "integrate"): _LANE,
    ("WorkstreamRunner", "teardown"): _LANE,
    ("StandardWorkstreamRunner", "prepare"): _LANE,
    ("StandardWorkstreamRunner", "integrate"): _LANE,
    ("StandardWorkstreamRunner", "teardown"): _LANE,
    ("WorkstreamRunResult", "from_runtime"): ("runtime",),
    ("WorkstreamRuntime", "mark_pending"): ("self",),
    ("WorkstreamRuntime", "mark_active"): ("self",),
    ("WorkstreamRuntime", "mark_merge_ready"): ("self",),
    ("WorkstreamRuntime", "mark_pr_created"): ("self", "pr_url"),
    ("WorkstreamRuntime", "mark_merged"): ("self",),
    ("WorkstreamRuntime", "mark_failed"): ("self", "error"),
}

_PROTOCOLS = (
    "WorkstreamPreparer",
    "WorkstreamIntegrator",
    "WorkstreamTeardown",
    "WorkstreamRunner",
    "IntegrationMergeChecker",
    "IntegrationAutoMerger",
)
_BACKENDS = (
    "pygit2",
    "github",
    "requests",
    "urllib3",
    "filelock",
    "click",
    "rich",
    "pytest",
    "certifi",
    "subprocess",
    "logging",
    "asyncio",
)


def _get(name: str) -> Any:
    return getattr(front_door, name)


def _modules() -> list[str]:
    """Return the name of every module of the package, except the program."""
    found = pkgutil.walk_packages(front_door.__path__, prefix=f"{_PACKAGE}.")
    names = [_PACKAGE, *(entry.name for entry in found)]
    return [name for name in names if not name.endswith(".__main__")]


@contextmanager
def _fresh_interpreter_without(*names: str) -> Iterator[None]:
    """Let imports start anew, with some modules impossible to import; undo it afterwards."""
    before = dict(sys.modules)
    ours = [name for name in before if name == "agentrelay" or name.startswith("agentrelay.")]
    theirs = [name for name in before if name.split(".")[0] in names]
    for name in (*ours, *theirs):
        del sys.modules[name]
    # None makes an import fail at once, with the name in the message.
    sys.modules.update(dict.fromkeys(names, typing.cast("ModuleType", None)))
    try:
        yield
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]
        sys.modules.update(before)


# --- names ------------------------------------------------------------------------------


@pytest.mark.parametrize("home", _HOMES)
def test_documented_modules_hold_the_front_doors_very_classes(home: str) -> None:
    """Either import gives the same class, so ``except`` and ``isinstance`` agree."""
    module = importlib.import_module(f"{_PACKAGE}.{home}")
    for name in _HOMES[home]:
        assert getattr(module, name) is _get(name)
        assert name in module.__all__


def test_the_front_door_lists_everything_it_offers_in_order() -> None:
    """``__all__`` is sorted, has no duplicates, and leaves out nothing public."""
    listed = front_door.__all__
    assert listed == sorted(set(listed))
    for name in listed:
        _get(name)
    public = {
        name
        for name, value in vars(front_door).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.startswith(_PACKAGE)
        and not name.startswith("_")
    }
    assert set(listed) == public
    documented = {name for names in _HOMES.values() for name in names}
    errors = importlib.import_module(f"{_PACKAGE}.errors")
    assert set(listed) == documented | set(errors.__all__) | {"RetryPolicy"}


def test_the_version_is_the_distributions() -> None:
    """It is read from the installed metadata, so there is one place to change it."""
    assert _get("__version__") == importlib.metadata.version("agentrelay-workstream")
    with pytest.raises(AttributeError, match="no_such_name"):
        _get("no_such_name")


@pytest.mark.parametrize("name", _modules())
def test_every_module_lists_existing_names_once(name: str) -> None:
    """``from module import *`` works, and a reader sees at once what a module is for."""
    module = importlib.import_module(name)
    assert module.__doc__
    if hasattr(module, "__path__") and not hasattr(module, "__all__"):
        # A folder whose front door is elsewhere re-exports nothing.
        assert not any(inspect.isclass(value) for value in vars(module).values())
        return
    assert len(module.__all__) == len(set(module.__all__))
    assert [entry for entry in module.__all__ if not hasattr(module, entry)] == []


# --- shapes -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", _FIELDS)
def test_dataclasses_have_the_documented_fields_and_defaults(name: str) -> None:
    """Documented fields come first, in order, and can be passed by position or name."""
    expected = _FIELDS[name]
    fields = dataclasses.fields(_get(name))
    assert [field.name for field in fields[: len(expected)]] == list(expected)
    for field, default in zip(fields, expected.values(), strict=False):
        assert field.init
        assert not field.kw_only
        made = field.default
        if field.default_factory is not dataclasses.MISSING:
            made = field.default_factory()
        assert made == default
    for field in fields[len(expected) :]:
        optional = field.default is not _REQUIRED or field.default_factory is not _REQUIRED
        assert optional, f"{field.name} would break a documented call"


@pytest.mark.parametrize(
    "name", ["GitWorkstreamPreparer", "GhWorkstreamIntegrator", "GitWorkstreamTeardown"]
)
def test_settings_of_the_implementations_are_keyword_only(name: str) -> None:
    """Positions are for the documented operands; settings can be added without harm."""
    fields = dataclasses.fields(_get(name))[len(_FIELDS[name]) :]
    assert fields
    assert all(field.kw_only for field in fields)


@pytest.mark.parametrize(("name", "method"), _METHODS)
def test_methods_have_the_documented_parameters(name: str, method: str) -> None:
    """Names count too: callers pass them as keywords."""
    signature = inspect.signature(getattr(_get(name), method))
    assert tuple(signature.parameters) == _METHODS[name, method]


def test_the_status_of_a_runtime_is_a_property_without_a_setter() -> None:
    """Status is derived; nobody can set it."""
    attribute = inspect.getattr_static(front_door.WorkstreamRuntime, "status")
    assert isinstance(attribute, property)
    assert attribute.fset is None
    assert not {"status"} & {field.name for field in dataclasses.fields(_get("WorkstreamRuntime"))}


def test_the_status_is_a_string_enumeration() -> None:
    """Its bases are ``str`` and ``Enum``, in this order."""
    assert front_door.WorkstreamStatus.__bases__ == (str, Enum)


@pytest.mark.parametrize(
    "name", ["WorkstreamSpec", "TaskSummary", "WorkstreamRunResult", "Finding"]
)
def test_specifications_and_snapshots_are_frozen(name: str) -> None:
    """They are hashable values, and a change is a new one."""
    parameters = _get(name).__dataclass_params__
    assert parameters.frozen
    assert parameters.eq


@pytest.mark.parametrize("name", _PROTOCOLS)
def test_protocols_can_be_asked_at_run_time(name: str) -> None:
    """``isinstance`` answers by methods, for our classes and for anybody's."""
    protocol = _get(name)
    assert Protocol in protocol.__bases__
    methods = [method for owner, method in _METHODS if owner == name]
    look_alike = type("LookAlike", (), dict.fromkeys(methods, print))
    assert isinstance(look_alike(), protocol)
    assert not isinstance(object(), protocol)


def test_every_implementation_satisfies_its_protocol_and_no_other(tmp_path: Path) -> None:
    """Each class plays exactly one part."""
    parts = (
        front_door.GitWorkstreamPreparer(tmp_path, "nightly"),
        front_door.GhWorkstreamIntegrator(tmp_path),
        front_door.GitWorkstreamTeardown(tmp_path),
    )
    runner = front_door.StandardWorkstreamRunner(*parts)
    for at, part in enumerate((*parts, runner)):
        answers = [isinstance(part, _get(name)) for name in _PROTOCOLS]
        assert answers == [at == position for position in range(len(_PROTOCOLS))]


def test_constructors_open_nothing(tmp_path: Path) -> None:
    """The repository may not exist yet, may be a file, and nothing is made for it."""
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    for path in (tmp_path / "nowhere" / "at" / "all", blocked, Path("relative")):
        assert front_door.GitWorkstreamPreparer(path, "../odd").repo_path == path
        assert front_door.GitWorkstreamPreparer(repo_path=path, graph_name="g").graph_name == "g"
        assert front_door.GhWorkstreamIntegrator(repo_path=path).repo_path == path
        assert front_door.GitWorkstreamTeardown(repo_path=path).repo_path == path
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_token_given_to_a_constructor_is_not_shown() -> None:
    """Neither by ``repr`` nor in the fields that a debugger or a log prints."""
    makers: tuple[Callable[..., Any], ...] = (
        front_door.GitWorkstreamPreparer,
        front_door.GhWorkstreamIntegrator,
        front_door.GitWorkstreamTeardown,
    )
    for make, operands in zip(makers, (("r", "g"), ("r",), ("r",)), strict=True):
        part = make(*map(Path, operands), token="hidden-value")
        assert "hidden-value" not in repr(part) + repr(vars(part)) + repr(dataclasses.asdict(part))


# --- annotations ------------------------------------------------------------------------


def _annotated() -> list[Any]:
    found: list[Any] = []
    for name in front_door.__all__:
        cls = _get(name)
        found.append(pytest.param(cls, id=name))
        for attribute, value in vars(cls).items():
            function = value.fget if isinstance(value, property) else value
            function = getattr(function, "__func__", function)
            if inspect.isfunction(function) and function.__module__.startswith(_PACKAGE):
                found.append(pytest.param(function, id=f"{name}.{attribute}"))
    return found


@pytest.mark.parametrize("item", _annotated())
def test_annotations_resolve_at_run_time(item: Any) -> None:
    """Tools that read annotations, such as serialisers and dependency injectors, can."""
    hints = typing.get_type_hints(item)
    assert all(not isinstance(hint, str) for hint in hints.values())


def test_optional_fields_have_the_documented_types() -> None:
    """The documented types, as a program sees them."""
    state = typing.get_type_hints(front_door.WorkstreamState)
    assert state["signal_dir"] == state["worktree_path"] == Optional[Path]
    assert state["branch_name"] == state["error"] == Optional[str]
    artifacts = typing.get_type_hints(front_door.WorkstreamArtifacts)
    assert artifacts["task_summaries"] == list[front_door.TaskSummary]
    assert typing.get_type_hints(front_door.TaskSummary)["concerns"] == tuple[str, ...]


# --- what importing costs ---------------------------------------------------------------


@pytest.mark.parametrize(
    "module",
    [
        _PACKAGE,
        *(f"{_PACKAGE}.{home}" for home in _HOMES),
        f"{_PACKAGE}.errors",
        f"{_PACKAGE}.credentials",
    ],
)
def test_importing_loads_no_backend(module: str) -> None:
    """Names, runtime, errors and even the implementations need the standard library only."""
    with _fresh_interpreter_without(*_BACKENDS):
        fresh = importlib.import_module(module)
        loaded = {name for name in sys.modules if sys.modules[name] is not None}
        backends = {name for name in loaded if name.split(".")[0] in _BACKENDS}
        private = {
            name for name in loaded if name.startswith((f"{_PACKAGE}._g", f"{_PACKAGE}.test"))
        }
    assert fresh.__name__ == module
    assert fresh is not sys.modules.get(module)
    assert (backends, private) == (set(), set())


def test_constructing_everything_loads_no_backend(tmp_path: Path) -> None:
    """A program may wire up its lanes before it needs git or GitHub."""
    with _fresh_interpreter_without(*_BACKENDS):
        fresh = importlib.import_module(_PACKAGE)
        runner = fresh.StandardWorkstreamRunner(
            fresh.GitWorkstreamPreparer(tmp_path, "g", token="t"),
            fresh.GhWorkstreamIntegrator(tmp_path, token="t"),
            fresh.GitWorkstreamTeardown(tmp_path, token="t"),
        )
        lane = fresh.WorkstreamRuntime(fresh.WorkstreamSpec("a"))
        lane.mark_failed("x")
        assert isinstance(runner, fresh.WorkstreamRunner)
        assert lane.status == "failed"


def test_the_check_for_backends_can_fail() -> None:
    """A module that does import a backend is caught by the same means."""
    with _fresh_interpreter_without("pygit2"), pytest.raises(Exception, match="pygit2"):
        importlib.import_module(f"{_PACKAGE}._git")
