"""The demo's story: six lanes in a throwaway world, and what becomes of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from agentrelay.workstream.cli.parallel import in_parallel
from agentrelay.workstream.core.runtime import TaskSummary, WorkstreamRuntime, WorkstreamStatus
from agentrelay.workstream.core.workstream import WorkstreamSpec
from agentrelay.workstream.errors import WorkstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agentrelay.workstream.cli.narrator import Narrator
    from agentrelay.workstream.core.runner import StandardWorkstreamRunner
    from agentrelay.workstream.testing.world import World

__all__ = ["FOREIGN", "GRAPH", "UNSAVED", "Part", "Story"]

GRAPH: Final = "nightly"

# What lies where the lane "release" wants its worktree.
FOREIGN: Final = ("draft.txt", "Release notes somebody wrote by hand.\n")
# What the agent of "readme" leaves uncommitted: an untracked file and an edited one.
UNSAVED: Final = {
    "notes.md": "Ask whether division by zero should raise.\n",
    "run": "#!/bin/sh\nexec python -m calculator --verbose\n",
}

_REFUSAL: Final = "needs a design review first"


@dataclass
class Part:
    """One lane's part in the story.

    Attributes:
        id: Identifier of the workstream.
        task: What its agent is asked to do; also the commit's message.
        files: What its agent commits, by path.
        method: How its pull request is merged.
        runtime: The lane.
        branch_ref: Full name of its branch.
        pushed: Whether its branch was on the remote at some time.
    """

    id: str
    task: str
    files: Mapping[str, str]
    method: Literal["merge", "squash", "rebase"] = "merge"
    runtime: WorkstreamRuntime = field(init=False)
    branch_ref: str = ""
    pushed: bool = False

    def __post_init__(self) -> None:
        """Give the lane its runtime."""
        self.runtime = WorkstreamRuntime(WorkstreamSpec(self.id))

    @property
    def status(self) -> WorkstreamStatus:
        """The lane's status, from its signal files."""
        return self.runtime.status


def _parts() -> tuple[Part, ...]:
    readme = "# Calculator\n\nAdds, subtracts, multiplies and divides.\n"
    rounding = "# Calculator\n\nAdds and subtracts; rounds half to even.\n"
    operation = "def {0}(a, b):\n    return a {1} b\n"
    return (
        Part(
            "multiply",
            "Multiply two numbers",
            {"src/calculator/multiply.py": operation.format("multiply", "*")},
        ),
        Part(
            "divide",
            "Divide two numbers",
            {"src/calculator/divide.py": operation.format("divide", "/")},
            method="squash",
        ),
        Part("readme", "Say what the calculator can do", {"README.md": readme}),
        Part(
            "power",
            "Raise to a power",
            {"src/calculator/power.py": operation.format("power", "**")},
            method="rebase",
        ),
        Part("rounding", "Say how results are rounded", {"README.md": rounding}),
        Part("release", "Collect the release notes", {"NOTES.md": "# Notes\n"}),
    )


class Story:
    """Plays the story; afterwards its attributes say what happened.

    Attributes:
        parts: The lanes, in the order they are told of.
        checkout: The repository a person works in, in which the lanes stand.
        before: The person's own things before the first lane, as :func:`own_things`.
        asked_again: URLs of the pull request of "rounding", once for each time asked.
    """

    def __init__(self, world: World, narrator: Narrator) -> None:
        """Set the scene: a checkout, something in a lane's way, and a remote with a rule."""
        from agentrelay.workstream._lane import Lane
        from agentrelay.workstream.testing import Fault

        self._world = world
        self._narrator = narrator
        self.checkout = world.clone("checkout")
        self.parts = _parts()
        self.asked_again: list[str | None] = []
        self._runner: StandardWorkstreamRunner = world.runner(self.checkout, GRAPH)
        lanes = {part.id: Lane.of(self.checkout, GRAPH, part.id) for part in self.parts}
        for part in self.parts:
            part.branch_ref = lanes[part.id].branch_ref
        name, text = FOREIGN
        self.foreign_path: Path = lanes["release"].worktree_path / name
        self.foreign_path.parent.mkdir(parents=True)
        self.foreign_path.write_text(text)
        world.git.faults.add(Fault.refuse_ref(lanes["power"].branch_ref, _REFUSAL))
        self.before = self.own_things()

    def play(self) -> None:
        """Play it from beginning to end; lanes that fail drop out where they fail."""
        from agentrelay.workstream.testing import refs

        self._together("Prepare six lanes at once", self.parts, self._prepare, doing="preparing")
        refused = [part for part in self.parts if part.id == "power"]
        self._together(
            "The design was reviewed: prepare the refused lane again, which completes it",
            refused,
            self._prepare,
            doing="preparing again",
        )
        pushed = refs(self._world.remote_path)
        for part in self.parts:
            part.pushed = part.branch_ref in pushed
        standing = [part for part in self.parts if part.status is WorkstreamStatus.ACTIVE]
        self._together("Agents commit in their worktrees", standing, self._work, doing="working")
        self._together("Open a pull request for each", standing, self._integrate, doing="opening")
        self._review(standing)
        self._leave_unsaved()
        self._together("Tear the lanes down", standing, self._teardown, doing="tearing down")

    def own_things(self) -> dict[str, bytes]:
        """Return what belongs to the person at the checkout: files, index, HEAD and main."""
        from agentrelay.workstream.testing import refs

        found = {
            str(path.relative_to(self.checkout)): path.read_bytes()
            for path in self.checkout.rglob("*")
            if path.is_file()
            and path.relative_to(self.checkout).parts[0] not in {".git", ".worktrees", ".workflow"}
        }
        for name in ("HEAD", "index"):
            found[f".git/{name}"] = (self.checkout / ".git" / name).read_bytes()
        found["main"] = refs(self.checkout)["refs/heads/main"].encode()
        return found

    def _together(
        self,
        title: str,
        parts: tuple[Part, ...] | list[Part],
        action: Callable[[Part], tuple[str, ...]],
        *,
        doing: str,
    ) -> None:
        """Let every lane do something in a thread of its own."""
        with self._narrator.chapter(title, [part.id for part in parts], doing=doing) as chapter:
            for part, texts in in_parallel(parts, action):
                chapter.done(part.id, part.status.value, *texts)

    def _prepare(self, part: Part) -> tuple[str, ...]:
        try:
            self._runner.prepare(part.runtime)
        except WorkstreamError as error:
            return (error.message, f"hint: {error.hint}") if error.hint else (error.message,)
        return (f"worktree made, '{part.runtime.state.branch_name}' pushed",)

    def _work(self, part: Part) -> tuple[str, ...]:
        from agentrelay.workstream.testing import commit_files

        worktree_path = part.runtime.state.worktree_path
        assert worktree_path is not None
        commit_id = commit_files(worktree_path, part.files, message=part.task)
        part.runtime.artifacts.task_summaries.append(TaskSummary(f"{part.id}-1", part.task))
        part.runtime.mark_merge_ready()
        return (f"{commit_id[:7]} {part.task}",)

    def _integrate(self, part: Part) -> tuple[str, ...]:
        result = self._runner.integrate(part.runtime)
        if part.id == "rounding":
            self.asked_again.append(part.runtime.artifacts.merge_pr_url)
            self._runner.integrate(part.runtime)
            self.asked_again.append(part.runtime.artifacts.merge_pr_url)
        return (result.error or str(part.runtime.artifacts.merge_pr_url),)

    def _review(self, parts: list[Part]) -> None:
        """Merge on GitHub, one after the other, as a person would."""
        title = "Somebody reviews and merges them on GitHub"
        numbers = {pull.html_url: pull.number for pull in self._world.github.pulls()}
        with self._narrator.chapter(title, [part.id for part in parts], doing="reviewed") as told:
            for part in parts:
                number = numbers.get(part.runtime.artifacts.merge_pr_url or "")
                if number is None:
                    told.done(part.id, part.status.value, "has no pull request")
                    continue
                try:
                    self._world.github.merge_pull(number, method=part.method)
                except ValueError as refused:
                    told.done(part.id, part.status.value, f"#{number} stays open: {refused}")
                    continue
                part.runtime.mark_merged()
                told.done(part.id, part.status.value, f"#{number} merged ({part.method})")

    def _leave_unsaved(self) -> None:
        """Let the agent of "readme" leave work that no commit holds."""
        for part in self.parts:
            if part.id == "readme" and part.runtime.state.worktree_path is not None:
                for name, text in UNSAVED.items():
                    (part.runtime.state.worktree_path / name).write_text(text)

    def _teardown(self, part: Part) -> tuple[str, ...]:
        part.runtime.artifacts.concerns.clear()
        self._runner.teardown(part.runtime)
        return tuple(part.runtime.artifacts.concerns) or ("worktree and both branches removed",)
