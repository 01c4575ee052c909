"""A small orchestrator: scripted agents work in lanes, and what they make is brought together.

    python examples/orchestrator.py
    python examples/orchestrator.py REPOSITORY BRANCH

The first plays in a throwaway world with a git server and a GitHub of its own; nothing leaves
this machine. The second does the same in a clone of yours: lanes are cut from BRANCH of its
remote and merged into it by pull requests, so give it one that may be filled. Credentials are
found as always.

The plan: "parser" has a lane below it, "cli". "docs" writes the same file as "parser", so one
of them has to follow the other. "spike" comes to nothing, and its agent leaves work behind
that nobody committed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from agentrelay.workstream import (
    GhIntegrationAutoMerger,
    GhIntegrationMergeChecker,
    GhWorkstreamIntegrator,
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    LaneWorkspace,
    MergeConflictError,
    NothingToCommitError,
    StandardWorkstreamRunner,
    WorkstreamError,
    WorkstreamGraph,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
    open_lane,
    prepare_all,
    preview_pairs,
    rescued,
    restore,
    retarget_children,
    teardown_all,
)
from agentrelay.workstream.events import LaneEvent, listening

GRAPH = "example"
# Everything the agents write is below one folder, so that it is in nobody's way.
FOLDER = "agentrelay-example"
NOTES = f"{FOLDER}/NOTES.md"


@dataclass(frozen=True)
class Stage:
    """Where the orchestrator plays: a repository, and how it is reached.

    Attributes:
        repo: The clone whose lanes these are.
        branch: Branch that lanes are cut from and merged into.
        token: Token for git and GitHub; found by itself when ``None``.
        preparer: Provisions lanes.
        integrator: Opens pull requests.
        checker: Tells whether they were merged.
        merger: Merges them.
        teardown: Cleans up.
    """

    repo: Path
    branch: str
    token: str | None
    preparer: GitWorkstreamPreparer
    integrator: GhWorkstreamIntegrator
    checker: GhIntegrationMergeChecker
    merger: GhIntegrationAutoMerger
    teardown: GitWorkstreamTeardown

    @classmethod
    def of(cls, repo: Path, branch: str) -> Stage:
        """Return the stage of a real clone."""
        return cls(
            repo,
            branch,
            None,
            GitWorkstreamPreparer(repo, GRAPH),
            GhWorkstreamIntegrator(repo),
            GhIntegrationMergeChecker(repo),
            GhIntegrationAutoMerger(repo),
            GitWorkstreamTeardown(repo),
        )


class Orchestrator:
    """Runs the plan, one part after the other.

    Attributes:
        graph: The workstreams; it changes when a parent is merged.
        lanes: Their runtimes by id.

    A run that was stopped anywhere may be repeated: it leaves what was merged alone.
    """

    def __init__(self, stage: Stage, say: Callable[[str], object] = print) -> None:
        """Make the plan; nothing is done yet."""
        self._stage = stage
        self._say = say
        self._runner = StandardWorkstreamRunner(
            stage.preparer,
            stage.integrator,
            stage.teardown,
            _merge_checker=stage.checker,
            _auto_merger=stage.merger,
        )
        target = {"base_branch": stage.branch, "merge_target_branch": stage.branch}
        self.graph = WorkstreamGraph(
            GRAPH,
            [
                WorkstreamSpec("parser", **target),
                WorkstreamSpec("cli", parent_workstream_id="parser"),
                WorkstreamSpec("docs", **target),
                WorkstreamSpec("spike", **target),
            ],
        )
        self.lanes = {spec.id: self._begin(spec.id) for spec in self.graph.ordered()}
        self._done = {
            name for name, lane in self.lanes.items() if lane.status is WorkstreamStatus.MERGED
        }

    def run(self) -> None:
        """Do everything."""
        for part in (
            self.prepare,
            self.let_agents_work,
            self.look_ahead,
            self.open_pull_requests,
            self.merge_the_parent,
            self.merge_what_conflicts,
            self.merge_the_child,
            self.clean_up,
        ):
            self._say(f"\n{(part.__doc__ or '').splitlines()[0]}")
            part()

    def prepare(self) -> None:
        """Prepare the lanes at the top, all at once."""
        tops = [self.lanes[spec.id] for spec in self.graph.roots() if spec.id not in self._done]
        for result in prepare_all(tops, self._stage.preparer):
            if result.error is not None:
                raise result.error
            lane = result.runtime
            lane.mark_active()
            self._say(f"  {lane.spec.id}: {lane.state.worktree_path}")

    def let_agents_work(self) -> None:
        """Let an agent work in each; the one below begins where the first one ended."""
        with ThreadPoolExecutor() as pool:
            agents = {
                "parser": self._write_parser,
                "docs": self._write_docs,
                "spike": self._try_something,
            }
            for done in [
                pool.submit(agent) for name, agent in agents.items() if name not in self._done
            ]:
                done.result()
        if "cli" in self._done:
            return
        child = self.lanes["cli"]
        self._runner.prepare(child)
        lane = self._open("cli")
        _write(lane, {f"{FOLDER}/cli.py": "from parser import parse\n"})
        self._commit(lane, "Add a command line")
        lane.push()

    def _write_parser(self) -> None:
        lane = self._open("parser")
        _write(lane, {f"{FOLDER}/parser.py": "def parse(line): ...\n"})
        self._commit(lane, "Write the parser")
        _write(lane, {NOTES: "The parser reads one line at a time.\n"})
        self._commit(lane, "Say what the parser does")
        lane.push()

    def _write_docs(self) -> None:
        lane = self._open("docs")
        _write(lane, {NOTES: "Read this first.\n"})
        self._commit(lane, "Begin the notes")
        lane.push()

    def _try_something(self) -> None:
        """An agent that gives up, and commits nothing of what it has written."""
        lane = self._open("spike")
        _write(lane, {f"{FOLDER}/idea.txt": "What if the grammar came first?\n"})
        self.lanes["spike"].mark_failed("the agent gave up")

    def look_ahead(self) -> None:
        """Ask which lanes will conflict, before a pull request does."""
        both = [self.lanes[name] for name in ("parser", "docs") if name not in self._done]
        for pair in preview_pairs(self._stage.repo, both):
            for conflict in pair.conflicts:
                self._say(f"  {conflict.kind}: {conflict.path}")

    def open_pull_requests(self) -> None:
        """Open a pull request for each lane; the child's goes into its parent's branch."""
        for name in ("parser", "docs", "cli"):
            if name in self._done:
                continue
            lane = self.lanes[name]
            result = self._runner.integrate(lane)
            if result.error is not None:
                raise WorkstreamError(f"integrating '{name}' failed: {result.error}")
            self._say(f"  {lane.artifacts.merge_pr_url} into {lane.spec.merge_target_branch}")

    def merge_the_parent(self) -> None:
        """Merge the parent, and let its child go where it went."""
        parent = self.lanes["parser"]
        if "parser" not in self._done:
            self._say(f"  parser: {self._runner.merge(parent).verdict.value}")
        below = [self.lanes[spec.id] for spec in self.graph.children("parser")]
        for child in retarget_children(parent, below, self._stage.integrator):
            if child.error is not None:
                raise child.error
            self._say(f"  {child.workstream_id}: from {child.old_target} to {child.new_target}")
        self.graph = self.graph.after_merge("parser")
        self._runner.teardown(parent)

    def merge_what_conflicts(self) -> None:
        """Bring the lane that is in conflict up to date, and merge it."""
        if "docs" in self._done:
            return
        lane = self._open("docs")
        try:
            lane.sync()
        except MergeConflictError as conflict:
            self._say(f"  docs: {conflict}")
            lane.sync(leave_conflicts=True)
            # What an agent would be asked to do.
            _write(lane, {NOTES: "Read this first. The parser reads one line at a time.\n"})
            lane.resolve([NOTES])
            self._commit(lane, "Merge the base, and keep both notes")
        lane.push()
        self._merge("docs")

    def merge_the_child(self) -> None:
        """Bring the child up to date with its new base, and merge it."""
        if "cli" in self._done:
            return
        lane = self._open("cli")
        self._say(f"  cli: {'up to date' if lane.sync().up_to_date else 'follows its new base'}")
        lane.push()
        self._merge("cli")

    def clean_up(self) -> None:
        """Clean up; what was in no commit is kept, and brought back."""
        left = [self.lanes[name] for name in ("docs", "cli", "spike")]
        for result in teardown_all(left, self._stage.teardown):
            if result.error is not None:
                raise result.error
        for work in rescued(self._stage.repo, graph=GRAPH, workstream_id="spike"):
            found = restore(self._stage.repo, work)
            self._say(f"  {work.ref} is back as {found.branch}")

    def _begin(self, name: str) -> WorkstreamRuntime:
        """Return a lane, as an earlier run left it: it may go into another branch by now."""
        signals = self._stage.repo / ".workflow" / GRAPH / "workstreams" / name
        if signals.is_dir():
            return WorkstreamRuntime.load(signals)
        return WorkstreamRuntime(self.graph.spec_for(name))

    def _merge(self, name: str) -> None:
        lane = self.lanes[name]
        self._runner.integrate(lane)
        self._say(f"  {name}: {self._runner.merge(lane).verdict.value}")

    def _open(self, name: str) -> LaneWorkspace:
        return open_lane(self.lanes[name], token=self._stage.token)

    def _commit(self, lane: LaneWorkspace, message: str) -> None:
        try:
            made = lane.commit(message)
        except NothingToCommitError:
            # Done already: this run goes on where one was stopped.
            return
        self._say(f"  {lane.runtime.spec.id}: {made.commit_id[:12]} {made.subject}")


def _write(lane: LaneWorkspace, files: dict[str, str]) -> None:
    """Write files as an agent does: to the lane's folder, with whatever it likes to use."""
    for path, text in files.items():
        place = lane.path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def play(stage: Stage, say: Callable[[str], object] = print) -> Orchestrator:
    """Run the plan, and count what was done: an audit log would write these events down."""
    heard: list[LaneEvent] = []
    orchestrator = Orchestrator(stage, say)
    with listening(heard.append):
        orchestrator.run()
    verbs = sorted({event.verb for event in heard})
    say(f"\n{len(heard)} events were told, of {', '.join(verbs)}")
    return orchestrator


def main(arguments: Iterable[str] | None = None) -> None:
    """Read the command line, and play."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("repository", nargs="?", type=Path, help="a clone of a GitHub repository")
    parser.add_argument("branch", nargs="?", help="branch to work from and into")
    chosen = parser.parse_args(None if arguments is None else list(arguments))
    if chosen.repository is not None:
        if chosen.branch is None:
            parser.error("name the branch to work from and into")
        play(Stage.of(chosen.repository, chosen.branch))
        return
    from agentrelay.workstream.testing import World

    with World() as world:
        repo = world.clone()
        play(
            Stage(
                repo,
                "main",
                world.token,
                world.preparer(repo, GRAPH),
                world.integrator(repo),
                world.merge_checker(repo),
                world.auto_merger(repo),
                world.teardown(repo),
            )
        )


if __name__ == "__main__":
    try:
        main()
    except WorkstreamError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")
