"""The commands that carry lanes through their life: prepare, integrate, teardown.

Every command rebuilds its lanes from their signal directories, works on them at the same
time, several to prepare or to tear down as one batch, and reports each lane by itself: one
that fails does not stop the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from agentrelay.workstream import (
    GitHubApp,
    LaneConflictError,
    WorkstreamArtifacts,
    WorkstreamError,
    WorkstreamGraph,
    WorkstreamRuntime,
    WorkstreamSpec,
    prepare_all,
    teardown_all,
)
from agentrelay.workstream.cli.meter import Meter
from agentrelay.workstream.cli.options import (
    DEBUG,
    EVENTS,
    JSON,
    NOTES,
    github_options,
    graph_option,
    ids_argument,
    output_options,
    remote_options,
    repository_options,
)
from agentrelay.workstream.cli.parallel import in_parallel
from agentrelay.workstream.cli.runners import preparer_of, standard_runner, teardown_of
from agentrelay.workstream.credentials import AfterEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agentrelay.workstream.cli.report import LaneReport

__all__ = ["Place", "integrate", "prepare", "split_options", "teardown"]

# How _clean_up words a step that failed while the others went on.
_STEP_FAILED = "teardown could not "


@dataclass(frozen=True)
class Place:
    """Where the lanes of one command are."""

    repo: Path
    graph: str
    run_dir: Path | None

    def load(self, workstream_id: str) -> WorkstreamRuntime:
        """Rebuild a lane from disk.

        Raises:
            WorkstreamError: It was never prepared here, or its name is refused.
            LaneConflictError: What is there is another graph's lane.
        """
        from agentrelay.workstream._lane import Lane

        lane = Lane.of(self.repo, self.graph, workstream_id, run_dir=self.run_dir)
        if not lane.signal_dir.is_dir():
            message = f"there is no lane here: '{lane.signal_dir}' does not exist"
            hint = "Prepare it first, or check --repo, --graph and --run-dir."
            raise WorkstreamError(message, hint=hint)
        runtime = WorkstreamRuntime.load(lane.signal_dir)
        branch = runtime.state.branch_name
        if branch != lane.branch:
            # Two graphs may share a run directory; only one of them has this lane there.
            message = f"'{lane.signal_dir}' is of the branch '{branch}', not of '{lane.branch}'"
            hint = "Check --graph and --run-dir."
            raise LaneConflictError(message, obstacle=lane.signal_dir, hint=hint)
        return runtime


@click.command(epilog=NOTES)
@ids_argument
@graph_option
@repository_options
@click.option(
    "--base",
    metavar="BRANCH",
    help="Branch the lanes are cut from; the newer of the remote's and the local one. "
    "The one of an earlier prepare unless given, else main.",
)
@click.option(
    "--target",
    metavar="BRANCH",
    help="Branch the lanes' pull requests ask to be merged into. "
    "The one of an earlier prepare unless given, else main.",
)
@click.option(
    "--parent",
    metavar="ID",
    help="Workstream of the graph that the lanes are below: they are cut from its branch, and "
    "go into it, unless --base or --target says otherwise. Prepare it first.",
)
@remote_options
@output_options
@click.pass_context
def prepare(
    context: click.Context,
    /,
    ids: tuple[str, ...],
    base: str | None,
    target: str | None,
    parent: str | None,
    **given: Any,
) -> None:
    """Provision lanes: branch, linked worktree, push.

    Each ID is a workstream. Its lane is the branch agentrelay/GRAPH/ID/integration,
    checked out in .worktrees/GRAPH/ID below the repository, pushed to the remote and
    tracking it. Your own branches, HEAD, index and files are not touched.

    Repeating the command completes what an earlier one left unfinished. Whatever is in
    the way and is not this lane's is left alone, and the lane fails.
    """
    place, settings = split_options(given)
    meter = Meter()

    def fresh(workstream_id: str) -> WorkstreamRuntime:
        return _fresh(place, workstream_id, base=base, target=target, parent=parent)

    def step(workstream_id: str) -> LaneReport:
        from agentrelay.workstream.cli.report import LaneReport

        runtime = fresh(workstream_id)
        runner, _ = standard_runner(place, progress=meter, **settings)
        try:
            runner.prepare(runtime)
        except Exception as error:  # noqa: BLE001 - each lane has a result of its own
            return LaneReport.of(place.graph, runtime, failure=error)
        return LaneReport.of(place.graph, runtime)

    def batch(names: tuple[str, ...]) -> dict[str, LaneReport]:
        from agentrelay.workstream.cli.report import LaneReport

        runtimes, reports = _each_loaded(place.graph, names, fresh)
        for result in prepare_all(runtimes, preparer_of(place, progress=meter, **settings)):
            reports[result.runtime.spec.id] = LaneReport.of(
                place.graph, result.runtime, failure=result.error
            )
        return reports

    _carry_out(
        context,
        ids,
        step,
        graph=place.graph,
        doing="Preparing",
        batch=batch,
        columns=("branch", "worktree path"),
        meter=meter,
    )


@click.command(epilog=NOTES)
@ids_argument
@graph_option
@repository_options
@remote_options
@github_options
@output_options
@click.pass_context
def integrate(context: click.Context, /, ids: tuple[str, ...], **given: Any) -> None:
    """Open one pull request for each lane.

    From the lane's branch into its merge target. Commits that the remote lacks are
    pushed first. The pull request is never merged here; that is for a review.

    Repeating the command finds the open pull request again. A lane without commits of
    its own opens none and is merged already.
    """
    place, settings = split_options(given)

    def step(workstream_id: str) -> LaneReport:
        from agentrelay.workstream.cli.report import LaneReport

        runtime = place.load(workstream_id)
        runner, witness = standard_runner(place, **settings)
        result = runner.integrate(runtime)
        return LaneReport.of(place.graph, runtime, error=result.error, failure=witness.failure)

    _carry_out(
        context, ids, step, graph=place.graph, doing="Integrating", columns=("pull request",)
    )


@click.command(epilog=NOTES)
@ids_argument
@graph_option
@repository_options
@remote_options
@github_options
@output_options
@click.pass_context
def teardown(context: click.Context, /, ids: tuple[str, ...], **given: Any) -> None:
    """Remove lanes: worktree, local branch, remote branch.

    Both branches stay while the pull request is open. Work that exists nowhere else,
    uncommitted files included, is kept first, under refs/agentrelay/rescue/GRAPH/ID/;
    what cannot be kept is not removed. The signal files stay, so that 'status' still
    tells how the lane ended.

    Repeating the command removes what is left.
    """
    place, settings = split_options(given)

    def step(workstream_id: str) -> LaneReport:
        runtime = place.load(workstream_id)
        runner, witness = standard_runner(place, **settings)
        runner.teardown(runtime)
        return _after_teardown(place.graph, runtime, witness.failure)

    def batch(names: tuple[str, ...]) -> dict[str, LaneReport]:
        runtimes, reports = _each_loaded(place.graph, names, place.load)
        for result in teardown_all(runtimes, teardown_of(place, **settings)):
            reports[result.runtime.spec.id] = _after_teardown(
                place.graph, result.runtime, result.error
            )
        return reports

    _carry_out(
        context,
        ids,
        step,
        graph=place.graph,
        doing="Tearing down",
        batch=batch,
        columns=("worktree", "pull request"),
    )


def split_options(given: dict[str, Any]) -> tuple[Place, dict[str, Any]]:
    """Part what says where the lanes are from what the steps are set to."""
    place = Place(given.pop("repo").absolute(), given.pop("graph"), given.pop("run_dir"))
    for shown in ("as_json", "debug"):
        del given[shown]
    # One for the whole command: its lanes share a token.
    app = GitHubApp.from_environment()
    given["token"] = None if app is None else AfterEnvironment(app)
    return place, given


def _fresh(
    place: Place, workstream_id: str, *, base: str | None, target: str | None, parent: str | None
) -> WorkstreamRuntime:
    """Return a runtime to prepare, with what an earlier prepare was told.

    It has no signal directory yet: a prepare that is refused because another process
    works on the lane must not mark that process's lane as failed.
    """
    spec, artifacts = WorkstreamSpec(workstream_id), WorkstreamArtifacts()
    try:
        earlier = place.load(workstream_id)
    except LaneConflictError:
        raise
    except WorkstreamError:
        # There is none yet, or the preparer is about to say what is wrong with it.
        pass
    else:
        spec, artifacts.merge_pr_url = earlier.spec, earlier.artifacts.merge_pr_url
    if parent is not None:
        specs = [WorkstreamSpec(parent), replace(spec, parent_workstream_id=parent)]
        spec = WorkstreamGraph(place.graph, specs).spec_for(workstream_id)
    if base is not None:
        spec = replace(spec, base_branch=base)
    if target is not None:
        spec = replace(spec, merge_target_branch=target)
    return WorkstreamRuntime(spec, artifacts=artifacts)


def _after_teardown(
    graph: str, runtime: WorkstreamRuntime, failure: Exception | None
) -> LaneReport:
    """Report a lane that was torn down, as far as it could be."""
    from agentrelay.workstream.cli.report import LaneReport

    unfinished = [text for text in runtime.artifacts.concerns if text.startswith(_STEP_FAILED)]
    if failure is None and unfinished:
        return LaneReport.of(
            graph,
            runtime,
            error="; ".join(unfinished),
            hint="What could be removed is gone. Repeat the command for the rest.",
        )
    return LaneReport.of(graph, runtime, failure=failure)


def _each_loaded(
    graph: str, names: tuple[str, ...], load: Callable[[str], WorkstreamRuntime]
) -> tuple[list[WorkstreamRuntime], dict[str, LaneReport]]:
    """Load lanes, and report those that cannot be."""
    runtimes: list[WorkstreamRuntime] = []
    reports: dict[str, LaneReport] = {}
    for name in names:
        try:
            runtimes.append(load(name))
        except Exception as error:  # noqa: BLE001 - each lane has a result of its own
            reports[name] = _unknown(graph, name, error)
    return runtimes, reports


def _unknown(graph: str, name: str, error: Exception) -> LaneReport:
    """Report a lane that could not even be rebuilt from disk: nothing more is known of it."""
    from agentrelay.workstream.cli.report import LaneReport

    runtime = WorkstreamRuntime(WorkstreamSpec(name))
    runtime.mark_failed(str(error))
    return LaneReport.of(graph, runtime, failure=error)


def _carry_out(
    context: click.Context,
    ids: tuple[str, ...],
    step: Callable[[str], LaneReport],
    *,
    graph: str,
    doing: str,
    columns: tuple[str, ...],
    batch: Callable[[tuple[str, ...]], dict[str, LaneReport]] | None = None,
    meter: Meter | None = None,
) -> None:
    """Do one step for every lane at once, report in the order asked, and end with a status."""
    from agentrelay.workstream.cli import report

    def safely(workstream_id: str) -> LaneReport:
        try:
            return step(workstream_id)
        except Exception as error:  # noqa: BLE001 - each lane has a result of its own
            return _unknown(graph, workstream_id, error)

    wanted = tuple(dict.fromkeys(ids))
    # A bar and lines would overwrite each other.
    console = report.make_console(stderr=True, quiet=context.meta[EVENTS])
    waiting = f"{doing} {', '.join(report.visible(name) for name in wanted)}"
    with (meter or Meter()).show(console, waiting):
        if batch is None or len(wanted) == 1:
            done = dict(in_parallel(wanted, safely))
        else:
            # In a thread all the same: Ctrl-C ends the command at once.
            ((_, done),) = in_parallel([wanted], batch)
    reports = [done[name] for name in wanted]
    if context.meta[JSON]:
        report.print_document({"lanes": [lane.document() for lane in reports]})
    else:
        report.print_lanes(reports, ("id", "status", *columns))
        for lane in reports:
            for concern in lane.concerns:
                report.print_line(f"note: {lane.graph}/{lane.id}: {concern}")
    report.print_failures(reports, debug=context.meta[DEBUG])
    if any(lane.error is not None for lane in reports):
        context.exit(1)
