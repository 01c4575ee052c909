"""What the demo looks at when its story is over, in the repositories themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentrelay.workstream.cli.report import LaneReport
from agentrelay.workstream.cli.story import FOREIGN, GRAPH, UNSAVED
from agentrelay.workstream.core.runtime import WorkstreamRuntime, WorkstreamStatus

if TYPE_CHECKING:
    from agentrelay.workstream.cli.story import Part, Story
    from agentrelay.workstream.testing.github_server import PullView
    from agentrelay.workstream.testing.world import World

__all__ = ["Check", "Ending", "look"]

_RESCUE = "refs/agentrelay/rescue/"
_EXPECTED = {
    "multiply": WorkstreamStatus.MERGED,
    "divide": WorkstreamStatus.MERGED,
    "readme": WorkstreamStatus.MERGED,
    "power": WorkstreamStatus.MERGED,
    "rounding": WorkstreamStatus.PR_CREATED,
    "release": WorkstreamStatus.FAILED,
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        what: What should hold.
        held: Whether it did.
    """

    what: str
    held: bool


@dataclass(frozen=True)
class Ending:
    """How one lane ended.

    Attributes:
        lane: The lane, as every command reports one.
        pull: What became of its pull request, in words.
        branch: What became of its branch on the remote, in words.
        kept: What was kept of it, in words; empty where nothing needed to be.
    """

    lane: LaneReport
    pull: str
    branch: str
    kept: tuple[str, ...]


def look(world: World, story: Story) -> tuple[list[Ending], list[Check]]:
    """Return how every lane ended, and what was checked.

    Args:
        world: The world, still open.
        story: The story, played.
    """
    from agentrelay.workstream.testing import refs

    remote, local = refs(world.remote_path), refs(story.checkout)
    pulls = {pull.html_url: pull for pull in world.github.pulls()}
    endings = [
        _ending(part, story, pulls=pulls, remote=remote, local=local) for part in story.parts
    ]
    return endings, [
        Check("every lane ended as the story tells", _statuses(story)),
        Check(
            "signal files alone, read again, tell the same statuses",
            _statuses_on_disk(story),
        ),
        Check(
            "'main' on the remote holds the work of the merged lanes, and only theirs",
            _main_is_complete(world, story),
        ),
        Check(
            "the remote has 'main' and the branch of the open pull request, nothing else",
            _branches(remote) == {"refs/heads/main", _part(story, "rounding").branch_ref},
        ),
        Check(
            "each lane has one pull request, though one was asked for twice",
            _one_pull_each(world, story),
        ),
        Check(
            "uncommitted files of 'readme' are kept in rescue refs, byte for byte",
            _unsaved_is_kept(story, local),
        ),
        Check(
            "what lay in the way of 'release' was not touched",
            _foreign_is_untouched(story),
        ),
        Check(
            "no worktree is left behind",
            _worktrees_are_gone(story),
        ),
        Check(
            "your own checkout is as it was: files, index, HEAD and 'main'",
            story.own_things() == story.before,
        ),
    ]


def _part(story: Story, name: str) -> Part:
    return next(part for part in story.parts if part.id == name)


def _branches(found: dict[str, str]) -> set[str]:
    return {name for name in found if name.startswith("refs/heads/")}


def _rescued(part_id: str, local: dict[str, str]) -> tuple[str, ...]:
    """Return the lane's rescue refs."""
    return tuple(
        name
        for name in local
        if name.startswith(_RESCUE) and name.removeprefix(_RESCUE).split("/")[1] == part_id
    )


def _ending(
    part: Part,
    story: Story,
    *,
    pulls: dict[str, PullView],
    remote: dict[str, str],
    local: dict[str, str],
) -> Ending:
    if not part.pushed:
        branch = "never pushed"
    elif part.branch_ref in remote:
        branch = "pushed, still there"
    else:
        branch = "pushed, deleted"
    kept = list(_rescued(part.id, local))
    pull = pulls.get(part.runtime.artifacts.merge_pr_url or "")
    if part.branch_ref in local:
        is_open = pull is not None and pull.state == "open"
        kept.append("both branches, for the open pull request" if is_open else "the branch")
    if part.id == "release" and story.foreign_path.exists():
        kept.append("what lay in the way")
    lane = LaneReport.of(GRAPH, part.runtime, error=part.runtime.state.error)
    return Ending(lane, _pull_words(pull), branch, tuple(kept))


def _pull_words(pull: PullView | None) -> str:
    if pull is None:
        return ""
    return f"#{pull.number} {'merged' if pull.merged else pull.state}"


def _statuses(story: Story) -> bool:
    return {part.id: part.status for part in story.parts} == _EXPECTED


def _statuses_on_disk(story: Story) -> bool:
    return all(
        WorkstreamRuntime.load(part.runtime.state.signal_dir).status is part.status
        for part in story.parts
        if part.runtime.state.signal_dir is not None
    )


def _main_is_complete(world: World, story: Story) -> bool:
    from agentrelay.workstream.testing import read_tree

    main = read_tree(world.remote_path, "main")
    expected = read_tree(story.checkout, "main")
    for part in story.parts:
        if part.status is WorkstreamStatus.MERGED:
            expected |= {name: text.encode() for name, text in part.files.items()}
    return main == expected


def _one_pull_each(world: World, story: Story) -> bool:
    heads = [f"refs/heads/{pull.head}" for pull in world.github.pulls()]
    wanted = [part.branch_ref for part in story.parts if part.id != "release"]
    return sorted(heads) == sorted(wanted) and len(set(story.asked_again)) == 1


def _unsaved_is_kept(story: Story, local: dict[str, str]) -> bool:
    from agentrelay.workstream.testing import read_tree

    kept: dict[str, bytes] = {}
    for ref in _rescued("readme", local):
        tree = read_tree(story.checkout, ref)
        kept |= {name: tree[name] for name in UNSAVED if tree.get(name) == UNSAVED[name].encode()}
    return kept.keys() == UNSAVED.keys()


def _foreign_is_untouched(story: Story) -> bool:
    name, text = FOREIGN
    folder = story.foreign_path.parent
    return [path.name for path in folder.iterdir()] == [name] and (
        story.foreign_path.read_text() == text
    )


def _worktrees_are_gone(story: Story) -> bool:
    admin = story.checkout / ".git" / "worktrees"
    left = [path.name for path in story.foreign_path.parent.parent.iterdir()]
    return left == ["release"] and not (admin.is_dir() and any(admin.iterdir()))
