"""The public API as a user would write it; read by the type checker, never run.

Each statement must be accepted as it stands, and ``assert_type`` says what a user's
editor shows. A line that must be refused carries an ignore, which the checker reports
once it is refused no longer.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal, Optional, assert_type

from agentrelay.workstream import (
    AheadBehind,
    ChangedPath,
    CheckoutProgress,
    CloneProgress,
    CommitInfo,
    CommitRefusedError,
    ConflictHunk,
    ConflictKind,
    CredentialsRejectedError,
    FileChange,
    Finding,
    FindingLevel,
    FoundLane,
    GhIntegrationAutoMerger,
    GhIntegrationMergeChecker,
    GhWorkstreamIntegrator,
    GitHubApp,
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    IntegrationAutoMerger,
    IntegrationMergeChecker,
    LaneBusyError,
    LaneConflictError,
    LaneDiff,
    LaneKind,
    LaneNameError,
    LaneOutcome,
    LaneResult,
    LaneStatus,
    LaneWorkspace,
    MergeCheck,
    MergeConflictError,
    MergeEvent,
    MergeNotReadyError,
    MergePreview,
    MergeRefusedError,
    MergeVerdict,
    NothingToCommitError,
    PathConflict,
    PullRequestError,
    PushRejectedError,
    RateLimitedError,
    Reconciliation,
    RemoteError,
    RemoteUnavailableError,
    RepositoryError,
    RescuedWork,
    RestoredWork,
    RetargetedChild,
    RetryPolicy,
    SigningKey,
    StandardWorkstreamRunner,
    TaskSummary,
    WorkstreamArtifacts,
    WorkstreamError,
    WorkstreamGraph,
    WorkstreamIntegrator,
    WorkstreamPreparer,
    WorkstreamRunner,
    WorkstreamRunResult,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamState,
    WorkstreamStatus,
    WorkstreamTeardown,
    aio,
    clone,
    diagnose,
    forget,
    open_lane,
    prepare_all,
    preview_merge,
    preview_pairs,
    reconcile,
    record_merge,
    rescued,
    restore,
    retarget_children,
    teardown_all,
)
from agentrelay.workstream.core import io, runner, runtime, workstream
from agentrelay.workstream.credentials import AfterEnvironment, Secret, TokenProvider
from agentrelay.workstream.events import (
    EventOutcome,
    EventStream,
    LaneEvent,
    Subscription,
    listening,
    subscribe,
)
from agentrelay.workstream.implementations import (
    workstream_integrator,
    workstream_preparer,
    workstream_reconciler,
    workstream_teardown,
)

# --- the documented modules hold the same classes ----------------------------------------

spec_class: type[WorkstreamSpec] = workstream.WorkstreamSpec
runtime_class: type[WorkstreamRuntime] = runtime.WorkstreamRuntime
preparer_class: type[GitWorkstreamPreparer] = workstream_preparer.GitWorkstreamPreparer
integrator_class: type[GhWorkstreamIntegrator] = workstream_integrator.GhWorkstreamIntegrator
teardown_class: type[GitWorkstreamTeardown] = workstream_teardown.GitWorkstreamTeardown
found_class: type[FoundLane] = workstream_reconciler.FoundLane
runner_class: type[StandardWorkstreamRunner] = runner.StandardWorkstreamRunner


# --- the whole story --------------------------------------------------------------------


def whole_lane(repo: Path) -> WorkstreamRunResult:
    """Drive one lane from its name to its end."""
    standard = StandardWorkstreamRunner(
        GitWorkstreamPreparer(repo, "nightly"),
        GhWorkstreamIntegrator(repo),
        GitWorkstreamTeardown(repo),
    )
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    standard.prepare(lane)
    assert_type(lane.state.worktree_path, Optional[Path])
    lane.artifacts.task_summaries.append(TaskSummary("t1", "Parse", "https://h/p/1", ("slow",)))
    lane.mark_merge_ready()
    result = standard.integrate(lane)
    assert_type(result, WorkstreamRunResult)
    standard.teardown(lane)
    return result


# --- values -----------------------------------------------------------------------------


def values() -> None:
    """Build every value by position and by name."""
    spec = WorkstreamSpec("a", None, "main", "release/2")
    spec = WorkstreamSpec(
        id="a", parent_workstream_id="root", base_branch="b", merge_target_branch="m"
    )
    assert_type(spec.id, str)
    assert_type(spec.parent_workstream_id, Optional[str])
    assert_type(spec.base_branch, str)
    assert_type(spec.merge_target_branch, str)
    spec.id = "b"  # type: ignore[misc]  # a specification is immutable

    task = TaskSummary(task_id="t", description=None, pr_url=None, concerns=(), role="coder")
    assert_type(task.concerns, tuple[str, ...])
    task.pr_url = "x"  # type: ignore[misc]  # so is a summary

    state = WorkstreamState(signal_dir=Path("s"), worktree_path=None, branch_name="b", error=None)
    assert_type(state.signal_dir, Optional[Path])
    assert_type(state.branch_name, Optional[str])
    assert_type(state.error, Optional[str])
    state.error = "changed"

    artifacts = WorkstreamArtifacts(merge_pr_url=None, concerns=["a"], task_summaries=[task])
    assert_type(artifacts.merge_pr_url, Optional[str])
    assert_type(artifacts.concerns, list[str])
    assert_type(artifacts.task_summaries, list[TaskSummary])

    lane = WorkstreamRuntime(spec=spec, state=state, artifacts=artifacts)
    assert_type(lane.spec, WorkstreamSpec)
    assert_type(lane.status, WorkstreamStatus)
    lane.status = WorkstreamStatus.MERGED  # type: ignore[misc]  # status is derived
    lane.mark_pending()
    lane.mark_active()
    lane.mark_merge_ready()
    lane.mark_pr_created("https://h/p/1")
    lane.mark_merged()
    lane.mark_failed("it broke")
    assert_type(WorkstreamRuntime.load(Path("s")), WorkstreamRuntime)

    result = WorkstreamRunResult.from_runtime(lane)
    result = WorkstreamRunResult(workstream_id="a", status=WorkstreamStatus.FAILED, error="x")
    assert_type(result.workstream_id, str)
    assert_type(result.status, WorkstreamStatus)
    assert_type(result.error, Optional[str])


def every_status(status: WorkstreamStatus) -> str:
    """Handle a status exhaustively; the checker knows when one is missing."""
    match status:
        case WorkstreamStatus.PENDING | WorkstreamStatus.ACTIVE:
            return "wait"
        case WorkstreamStatus.MERGE_READY:
            return "integrate"
        case WorkstreamStatus.PR_CREATED:
            return "review"
        case WorkstreamStatus.MERGED:
            return "tear down"
        case WorkstreamStatus.FAILED:
            return "look"


def status_is_text(status: WorkstreamStatus) -> str:
    """A status is a ``str``, so it goes where one is wanted."""
    return status


# --- implementations and their settings -------------------------------------------------


def listen(progress: CheckoutProgress) -> None:
    """Numbers of files and bytes, and whose they are."""
    assert_type(progress.workstream_id, str)
    assert_type((progress.files_done, progress.files_total), tuple[int, int])
    assert_type(progress.bytes_done, int)


def settings(repo: Path, ask: Callable[[], str]) -> None:
    """Pass every setting by name, each kind of token, and both kinds of operand."""
    GitWorkstreamPreparer(
        repo_path=repo,
        graph_name="g",
        remote="upstream",
        run_dir=repo / "runs",
        token="t",
        ssh_key=repo / "id_ed25519",
        lane_timeout_s=5,
        network_timeout_s=60.5,
        progress=listen,
    )
    GhWorkstreamIntegrator(
        repo_path=repo,
        remote="upstream",
        token=ask,
        ssh_key=None,
        api_url="https://github.example/api/v3",
        full_name="owner/name",
        api_timeout_s=5,
        network_timeout_s=60.5,
        head_full_name="me/name",
        policy=RetryPolicy(deadline_s=30, attempts=2, longest_wait_s=10.5, jitter=0),
        draft=True,
        labels=["lane"],
        reviewers=("ann",),
        team_reviewers=["core"],
        assignees=[],
        milestone="Spring",
    )
    GhWorkstreamIntegrator(repo, milestone=4)
    GhWorkstreamIntegrator(repo, milestone=4.5)  # type: ignore[arg-type]  # a number or a title
    policy = RetryPolicy(
        monotonic=lambda: 0.0, wall_clock=lambda: 0.0, wait=print, draw=lambda: 0.5
    )
    assert_type(policy.deadline_s, float)
    RetryPolicy(30)  # type: ignore[call-arg]  # which of them?
    policy.attempts = 2  # type: ignore[misc]  # a policy is immutable
    GitWorkstreamTeardown(
        repo_path=repo,
        remote="upstream",
        run_dir=None,
        token=Secret("t"),
        ssh_key=None,
        api_url=None,
        full_name=None,
        head_full_name=None,
        policy=policy,
        lane_timeout_s=5,
        network_timeout_s=60.5,
    )
    GitWorkstreamPreparer(repo, "g", "upstream")  # type: ignore[call-arg]  # settings have names
    GhWorkstreamIntegrator(repo, "t")  # type: ignore[call-arg]  # and a token above all
    GitWorkstreamPreparer(repo)  # type: ignore[call-arg]  # the graph has no default


# --- protocols --------------------------------------------------------------------------


class DryRun:
    """A user's own lifecycle: nothing to inherit from."""

    def prepare_workstream(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Pretend."""
        workstream_runtime.mark_pending()

    def create_integration_pr(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Pretend."""
        workstream_runtime.mark_merged()

    def teardown_workstream(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Pretend."""


class Wrong:
    """Almost a preparer."""

    def prepare_workstream(self, workstream_runtime: str) -> None:
        """Take the wrong thing."""


def protocols(repo: Path) -> None:
    """Our implementations and a user's satisfy the same protocols."""
    preparers: list[WorkstreamPreparer] = [GitWorkstreamPreparer(repo, "g"), DryRun()]
    integrators: list[WorkstreamIntegrator] = [GhWorkstreamIntegrator(repo), DryRun()]
    teardowns: list[WorkstreamTeardown] = [GitWorkstreamTeardown(repo), DryRun()]
    mixed = StandardWorkstreamRunner(
        _preparer=preparers[0], _integrator=integrators[1], _teardown=teardowns[1]
    )
    driven: WorkstreamRunner = mixed
    assert_type(driven.integrate(WorkstreamRuntime(WorkstreamSpec("a"))), WorkstreamRunResult)
    same: type[io.WorkstreamPreparer] = DryRun
    wrong: WorkstreamPreparer = Wrong()  # type: ignore[assignment]  # its parameter differs
    other: WorkstreamPreparer = GhWorkstreamIntegrator(repo)  # type: ignore[assignment]  # no
    for part in (same(), wrong, other):
        ask_at_run_time(part)


def ask_at_run_time(part: object) -> str:
    """Narrow an unknown object by protocol."""
    if isinstance(part, WorkstreamPreparer):
        part.prepare_workstream(WorkstreamRuntime(WorkstreamSpec("a")))
        return "preparer"
    if isinstance(part, WorkstreamRunner):
        return part.integrate(WorkstreamRuntime(WorkstreamSpec("a"))).workstream_id
    return "neither"


# --- was it merged? ---------------------------------------------------------------------


def follow(repo: Path, lanes: list[WorkstreamRuntime]) -> list[str]:
    """Ask once, ask for many, and watch, and read every field of the answers."""
    checker = GhIntegrationMergeChecker(
        repo,
        remote="upstream",
        token=lambda: "t",
        ssh_key=Path("key"),
        api_url="https://ghe.example/api/v3",
        full_name="o/n",
        head_full_name="fork/n",
        api_timeout_s=5,
        policy=RetryPolicy(attempts=2),
    )
    GhIntegrationMergeChecker(repo, "upstream")  # type: ignore[call-arg]  # settings have names
    asking: IntegrationMergeChecker = checker
    check = asking.check_merged(lanes[0])
    assert_type(check, MergeCheck)
    assert_type(check.verdict, MergeVerdict)
    assert_type(check.url, Optional[str])
    assert_type(check.method, Optional[Literal["merge", "squash", "rebase"]])
    assert_type(check.head, Optional[str])
    assert_type(check.target_before, Optional[str])
    assert_type(check.merge_commit, Optional[str])
    assert_type(check.reason, Optional[str])
    check.reason = "no"  # type: ignore[misc]  # an answer is immutable
    assert_type(record_merge(lanes[0], check), bool)
    assert_type(checker.check_all(lanes), list[MergeCheck])
    seen = []
    for event in checker.watch(lanes, until_s=60, every_s=5):
        assert_type(event, MergeEvent)
        assert_type(event.is_last, bool)
        seen.append(f"{event.runtime.spec.id} {event.check.verdict.value}")
    standard = StandardWorkstreamRunner(
        GitWorkstreamPreparer(repo, "g"),
        GhWorkstreamIntegrator(repo),
        GitWorkstreamTeardown(repo),
        _merge_checker=checker,
    )
    assert_type(standard.check(lanes[0]), MergeCheck)
    return seen


def merge_by_program(repo: Path, lane: WorkstreamRuntime) -> str:
    """Merge a lane, and tell apart what there is to do where that is refused."""
    merger = GhIntegrationAutoMerger(
        repo,
        token=lambda: "t",
        policy=RetryPolicy(deadline_s=900),
        method="squash",
        pending_checks="caller",
        accepted_concerns=["slow"],
    )
    GhIntegrationAutoMerger(repo, method="octopus")  # type: ignore[arg-type]  # one of three
    merging: IntegrationAutoMerger = merger
    try:
        assert_type(merging.merge_integration_pr(lane), MergeCheck)
    except MergeNotReadyError:
        return "wait"
    except MergeConflictError:
        return "rebase"
    except MergeRefusedError as error:
        return f"ask: {error.hint}"
    return "merged"


async def follow_in_a_loop(repo: Path, lanes: list[WorkstreamRuntime]) -> None:
    """Watch without holding up an event loop."""
    async for event in GhIntegrationMergeChecker(repo).awatch(lanes, until_s=60):
        assert_type(event, MergeEvent)


# --- leftovers --------------------------------------------------------------------------


def use_batches(lanes: tuple[WorkstreamRuntime, ...], repo: Path) -> None:
    """Prepare and tear down many lanes; each has a result, and none is raised."""
    results = prepare_all(lanes, GitWorkstreamPreparer(repo, "nightly"))
    assert_type(results, list[LaneResult])
    for result in prepare_all(iter(lanes), GitWorkstreamPreparer(repo, "nightly"), workers=2):
        assert_type(result.runtime, WorkstreamRuntime)
        assert_type(result.error, Optional[Exception])
        result.error = None  # type: ignore[misc]  # results are frozen
    assert_type(teardown_all(lanes, GitWorkstreamTeardown(repo), workers=None), list[LaneResult])
    prepare_all(lanes, GitWorkstreamPreparer(repo, "nightly"), 2)  # type: ignore[call-arg]  # settings have names


def keep_house(repo: Path, run_dir: Path) -> list[str]:
    """Look first, then act, and read every field of what was found."""
    planned = reconcile(repo, dry_run=True)
    assert_type(planned, Reconciliation)
    found = reconcile(
        repo,
        graph="nightly",
        remote="upstream",
        run_dir=run_dir,
        token=lambda: "t",
        ssh_key=Path("key"),
        api_url="https://ghe.example/api/v3",
        full_name="o/n",
        api_timeout_s=5,
        lane_timeout_s=1.5,
        network_timeout_s=30,
    )
    reconcile(repo, "nightly")  # type: ignore[call-arg]  # settings have names
    assert_type(found.leftovers, tuple[Path, ...])
    assert_type(found.stuck, tuple[Path, ...])
    assert_type(found.concerns, tuple[str, ...])
    assert_type(found.failed, tuple[FoundLane, ...])
    said: list[str] = []
    for lane in found.lanes:
        assert_type(lane.kind, LaneKind)
        assert_type(lane.outcome, LaneOutcome)
        assert_type(lane.worktree, Optional[Path])
        assert_type(lane.entry, Optional[Path])
        assert_type(lane.branch, Optional[str])
        assert_type(lane.remote_branch, Optional[str])
        assert_type(lane.signal_dir, Optional[Path])
        assert_type(lane.rescue_refs, tuple[str, ...])
        if lane.kind is LaneKind.FOREIGN or lane.outcome is LaneOutcome.FAILED:
            said += [f"{lane.graph}/{lane.workstream_id}: {lane.why}", *lane.concerns]
    return said


# --- sources of tokens ------------------------------------------------------------------


class Vault:
    """A provider of one's own."""

    source = "the vault"

    def serves(self, host: str) -> bool:
        """Serve everybody."""
        return bool(host)

    def token_for(self, host: str, path: str) -> str:
        """Name a token."""
        return f"token-for-{host}-{path}"

    def was_refused(self, token: Secret) -> bool:
        """Have no other."""
        return not token


def sources(repo: Path) -> None:
    """Pass an app, or something like it, wherever a token is taken."""
    app = GitHubApp(
        12345,
        private_key_path=Path("app.pem"),
        installation_id=1,
        extra_permissions={"workflows": "write"},
        api_url="https://ghe.example/api/v3",
        full_name="octo/widgets",
        timeout_s=5,
    )
    GitHubApp("Iv23li", private_key=Secret("pem"))
    GitHubApp("Iv23li", private_key_variable="APP_KEY")
    GitHubApp("Iv23li", "pem")  # type: ignore[call-arg]  # settings are passed by name
    assert_type(GitHubApp.from_environment(), GitHubApp | None)
    assert_type(app.token_for("ghe.example", "octo/widgets"), Secret)
    provider: TokenProvider = app
    provider = Vault()
    for token in (app, provider, AfterEnvironment(app)):
        GitWorkstreamPreparer(repo, "g", token=token)
        GhWorkstreamIntegrator(repo, token=token)
        GitWorkstreamTeardown(repo, token=token)


# --- errors -----------------------------------------------------------------------------


def what_to_do(error: WorkstreamError) -> str:  # noqa: C901, PLR0911 - one answer for each kind
    """Read every field of every error, the way a caller branches on them."""
    assert_type(error.message, str)
    assert_type(error.hint, str | None)
    if isinstance(error, LaneNameError):
        return error.name + error.rule
    if isinstance(error, RepositoryError):
        return error.path or ""
    if isinstance(error, LaneConflictError):
        return error.obstacle or ""
    if isinstance(error, LaneBusyError):
        return f"{error.waited_s:.1f}"
    if isinstance(error, RateLimitedError):
        assert_type(error.retry_after_s, float | None)
        return error.repository
    if isinstance(error, PullRequestError):
        assert_type(error.status, int | None)
        return error.repository
    if isinstance(error, CredentialsRejectedError):
        return error.source or error.url
    if isinstance(error, PushRejectedError):
        return error.ref + error.reason
    if isinstance(error, CommitRefusedError):
        assert_type(error.paths, tuple[str, ...])
        return error.reason
    if isinstance(error, (RemoteUnavailableError, RemoteError)):
        return error.url
    return error.message


def builtin_parents(busy: LaneBusyError, name: LaneNameError) -> tuple[TimeoutError, ValueError]:
    """Two of them are also what the standard library calls them."""
    return busy, name


# --- what clean-ups kept ----------------------------------------------------------------


def find_lost_work(repo: Path) -> None:
    """List, restore and forget; each takes what the other returned."""
    found = assert_type(rescued(repo), list[RescuedWork])
    assert_type(rescued(repo, graph="nightly", workstream_id="parser"), list[RescuedWork])
    work = found[0]
    assert_type(work.kept_at, Optional[datetime])
    assert_type(work.files, tuple[str, ...])
    assert_type(work.is_older_than(60.0), bool)
    done = assert_type(restore(repo, work), RestoredWork)
    assert_type(done.branch, Optional[str])
    restore(repo, work.ref, branch="back")
    restore(repo, work, directory=repo / "back")
    assert_type(forget(repo, [work, "nightly/parser/x/y"]), list[RescuedWork])
    forget(repo, older_than_s=86_400.0, graph="nightly")
    forget(repo, graph="nightly", lane_timeout_s="1")  # type: ignore[arg-type]


# --- is everything ready? ---------------------------------------------------------------


def is_ready(repo: Path) -> bool:
    """Read every field of every finding."""
    app = GitHubApp(12345, private_key_path=Path("app.pem"))
    diagnose(
        repo,
        remote="upstream",
        base_branch="dev",
        merge_target_branch="main",
        token=app,
        ssh_key=Path("key"),
        api_url="https://ghe.example/api/v3",
        full_name="octo/widgets",
        api_timeout_s=5,
        network_timeout_s=2.5,
        clock=lambda: 0.0,
    )
    diagnose(repo, "upstream")  # type: ignore[call-arg]  # settings are passed by name
    found = assert_type(diagnose(repo), list[Finding])
    for finding in found:
        assert_type(finding.name, str)
        assert_type(finding.level, FindingLevel)
        assert_type(finding.sentence, str)
        assert_type(finding.fix, Optional[str])
    return all(finding.level is not FindingLevel.PROBLEM for finding in found)


# --- working in a lane ------------------------------------------------------------------


def work(runtime: WorkstreamRuntime, repo: Path) -> Optional[CommitInfo]:
    """Look, commit, and read every field of what came back."""
    open_lane(repo / "src", remote="upstream", token="t", ssh_key=Path("key"))
    open_lane("path", lane_timeout_s=1.5, network_timeout_s=2, largest_file_bytes=1)
    open_lane(runtime, "origin")  # type: ignore[call-arg]  # settings are passed by name
    lane = assert_type(open_lane(runtime), LaneWorkspace)
    assert_type(lane.path, Path)
    assert_type(lane.branch, str)
    status = assert_type(lane.status(), LaneStatus)
    assert_type(status.staged, tuple[ChangedPath, ...])
    assert_type(status.unstaged, tuple[ChangedPath, ...])
    assert_type(status.untracked, tuple[str, ...])
    assert_type(status.remote, Optional[AheadBehind])
    assert_type(lane.resolve(status.conflicted), tuple[str, ...])
    try:
        made = lane.commit(
            "Message",
            [Path("a"), "b"],
            author="A <a@b>",
            trailers={"Key": "value"},
            before=lambda workspace: workspace.status(),
            after=lambda commit: commit.commit_id,
        )
    except NothingToCommitError:
        return None
    assert_type(lane.commit("Message", trailers=[("Key", "value")]), CommitInfo)
    lane.commit("Message", signing_key=Path("key"))
    lane.commit("Message", signing_key="configured")
    lane.commit("Message", signing_key="key")  # type: ignore[arg-type]  # it may be the key itself
    lane.commit("Message", signing_key=SigningKey(path=Path("key"), passphrase="p"))
    lane.commit("Message", signing_key=SigningKey(text="..."))
    SigningKey(Path("key"))  # type: ignore[call-arg]  # settings are passed by name
    assert_type(made.authored_at, datetime)
    assert_type(made.trailers, tuple[tuple[str, str], ...])
    assert_type(made.text, str)
    return made


def share(lane: LaneWorkspace) -> str:
    """Push, pull and review; each gives data, with the text beside it."""
    assert_type(lane.push(), str)
    assert_type(lane.pull(), tuple[CommitInfo, ...])
    shown = assert_type(lane.diff(), LaneDiff)
    for against in ("base", "target", "remote"):
        lane.diff(against)
        lane.log(against, most=10)
    lane.diff("head")
    lane.log("head")  # type: ignore[arg-type]  # it has no commits
    assert_type(shown.files, tuple[FileChange, ...])
    assert_type(shown.commit_id, Optional[str])
    assert_type(shown.files[0].old_path, Optional[str])
    return f"{shown.additions} {shown.deletions}\n{shown.text}"


def get(repo: Path) -> Path:
    """Clone, with every setting."""

    def tell(progress: CloneProgress) -> None:
        assert_type(progress.received_objects, int)
        assert_type(progress.total_objects, int)
        assert_type(progress.received_bytes, int)

    clone("https://h/o/n.git", "there", branch="main", depth=1, progress=tell, token="t")
    clone("git@h:o/n.git", repo, remote="upstream", ssh_key=Path("key"), network_timeout_s=1)
    clone("https://h/o/n.git", repo, "main")  # type: ignore[call-arg]  # settings are passed by name
    return assert_type(clone("https://h/o/n.git", repo), Path)


# --- a graph of lanes -------------------------------------------------------------------


def in_order(specs: list[WorkstreamSpec]) -> list[str]:
    """Check, order and relate workstreams."""
    graph = WorkstreamGraph("nightly", specs, task_ids=["write"])
    WorkstreamGraph("nightly", specs, ["write"])  # type: ignore[call-arg]  # settings are passed by name
    assert_type(graph.ordered(), tuple[WorkstreamSpec, ...])
    assert_type(
        graph.roots() + graph.children("a") + graph.ancestors("a"), tuple[WorkstreamSpec, ...]
    )
    assert_type(graph.spec_for("a"), WorkstreamSpec)
    assert_type(graph.after_merge("a"), WorkstreamGraph)
    return [graph.branch_of(spec.id) for spec in graph.specs] + [graph.name, *graph.task_ids]


def move_up(parent: WorkstreamRuntime, below: list[WorkstreamRuntime], repo: Path) -> list[str]:
    """Retarget lanes and read every field of the results."""
    integrator = GhWorkstreamIntegrator(repo)
    done = assert_type(retarget_children(parent, below, integrator), list[RetargetedChild])
    retarget_children(parent, iter(below), integrator, check=MergeCheck(MergeVerdict.MERGED))
    retarget_children(parent, below, integrator, None)  # type: ignore[call-arg]  # settings are passed by name
    for child in done:
        assert_type(child.pull_request_url, Optional[str])
        assert_type(child.reason, Optional[str])
        assert_type(child.changed, bool)
        assert_type(child.error, Optional[Exception])
    return [f"{child.workstream_id} {child.old_target} {child.new_target}" for child in done]


# --- events -----------------------------------------------------------------------------


def hear(event: LaneEvent) -> None:
    """Read every field of an event."""
    assert_type(event.at, float)
    assert_type(event.outcome, EventOutcome)
    assert_type(event.is_end, bool)
    assert_type(event.duration_s, Optional[float])
    assert_type([event.size_bytes, event.done, event.total], list[Optional[int]])
    assert_type([event.graph, event.workstream_id, event.step, event.detail], list[Optional[str]])
    assert_type(LaneEvent.from_json(event.to_json()), LaneEvent)
    event.verb = event.operation  # type: ignore[misc]  # it is a value


def overhear(runtime: WorkstreamRuntime) -> int:
    """Listen in every way there is."""
    with listening(hear):
        runtime.mark_active()
    with subscribe(hear) as subscription:
        assert_type(subscription, Subscription)
    subscription.close()
    with EventStream(maxsize=10, silence_s=1.0) as stream:
        for event in stream:
            assert_type(event, LaneEvent)
        assert_type(stream.get(timeout_s=0), Optional[LaneEvent])
    return stream.dropped


# --- asyncio ----------------------------------------------------------------------------


async def awaited(repo: Path, runtime: WorkstreamRuntime, runner: StandardWorkstreamRunner) -> str:
    """Await a life; what is refused by a verb is refused by its twin."""
    lanes = aio.AsyncWorkstreamRunner(runner)
    assert_type(await lanes.integrate(runtime), WorkstreamRunResult)
    assert_type(await lanes.check(runtime), MergeCheck)
    await lanes.prepare(runtime)
    await lanes.prepare("parser")  # type: ignore[arg-type]  # it is no runtime
    lane = assert_type(await aio.open_lane(runtime, token="t"), aio.AsyncLaneWorkspace)
    assert_type(await lane.status(), LaneStatus)
    made = assert_type(await lane.commit("m", ["a"], author="A <a@b>"), CommitInfo)
    await lane.commit("m", author=3)  # type: ignore[arg-type]  # it is no text
    assert_type(await lane.push(), str)
    assert_type(await lane.pull() + await lane.log("base", most=3), tuple[CommitInfo, ...])
    assert_type(await lane.diff(against="head"), LaneDiff)
    assert_type(lane.blocking, LaneWorkspace)
    assert_type(await aio.clone("https://h/o/n.git", repo, depth=1), Path)
    assert_type(
        await aio.prepare_all([runtime], GitWorkstreamPreparer(repo, "g")), list[LaneResult]
    )
    assert_type(await aio.reconcile(repo, dry_run=True), Reconciliation)
    assert_type(await aio.preview_merge(repo, runtime), MergePreview)
    assert_type(await aio.check_all(GhIntegrationMergeChecker(repo), [runtime]), list[MergeCheck])
    assert_type(await aio.call(runner.integrate, runtime), WorkstreamRunResult)
    with aio.AsyncEventStream() as stream:
        async for event in stream:
            assert_type(event, LaneEvent)
    return f"{made} {lane.path} {lane.branch}"


# --- will it merge? ---------------------------------------------------------------------


def will_merge(repo: Path, lanes: list[WorkstreamRuntime]) -> list[str]:
    """Read every field of a preview."""
    preview = assert_type(preview_merge(repo, lanes[0]), MergePreview)
    preview_merge(repo, "feature", target="main", remote="upstream")
    preview_merge(repo, "feature", "main")  # type: ignore[call-arg]  # settings are passed by name
    pairs = assert_type(preview_pairs(repo, lanes), list[MergePreview])
    preview_pairs(repo, ["a", "b"], remote="upstream")
    assert_type(
        preview.is_mergeable and preview.is_merged and preview.is_certain and preview.is_related,
        bool,
    )
    assert_type(preview.tree_id, Optional[str])
    conflicts: tuple[PathConflict, ...] = preview.conflicts
    for conflict in conflicts:
        assert_type(conflict.kind, ConflictKind)
        assert_type(conflict.is_in_source or conflict.is_in_target, bool)
        hunks: tuple[ConflictHunk, ...] = conflict.hunks
        for hunk in hunks:
            assert_type(hunk.source_lines + hunk.target_lines, tuple[str, ...])
    named = [f"{pair.source} {pair.target} {pair.paths}" for pair in pairs]
    return [*named, preview.source_commit, preview.target_commit]
