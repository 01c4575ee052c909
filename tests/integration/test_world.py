"""The world as one universe, and whole lanes in it from the first step to the last."""

from __future__ import annotations

import http.client
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pygit2
import pytest

from agentrelay.workstream import (
    LaneConflictError,
    PushRejectedError,
    WorkstreamError,
    WorkstreamRunResult,
    WorkstreamRuntime,
    WorkstreamSpec,
    WorkstreamStatus,
)
from agentrelay.workstream.testing import Fault, World, commit_files, read_tree, refs
from agentrelay.workstream.testing.repositories import SMALL, RepositoryRecipe
from fixtures import recipes, scenarios

if TYPE_CHECKING:
    from collections.abc import Iterator

_BRANCH = "agentrelay/nightly/parser/integration"
_REF = f"refs/heads/{_BRANCH}"


@pytest.fixture
def world() -> Iterator[World]:
    """Open a world without the help of the plugin."""
    with World() as opened:
        yield opened


@pytest.fixture
def lane() -> WorkstreamRuntime:
    """Make a lane that was never prepared."""
    return WorkstreamRuntime(WorkstreamSpec("parser"))


def _status(url: str, path: str, **headers: str) -> int:
    """Ask a server and return the status of its answer."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    connection.request("GET", path, headers={"user-agent": "test", **headers})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def _worktree(lane: WorkstreamRuntime) -> Path:
    assert lane.state.worktree_path is not None
    return lane.state.worktree_path


# -- the world itself


def test_both_servers_speak_of_one_repository(world: World) -> None:
    """A commit pushed by anyone is in the pull request; a merge is in the next clone."""
    commit_files(world.remote_path, {"new.txt": "new\n"}, message="New", branch="topic")
    pull = world.github.open_pull(head="topic", base="main", title="New file")
    world.github.merge_pull(pull.number)
    assert (world.clone() / "new.txt").read_text() == "new\n"


def test_a_clones_origin_is_the_server_or_the_path(world: World) -> None:
    """``by`` chooses; no working copy's configuration holds the token."""
    by_http, by_path = world.clone("one"), world.clone("two", by="path")
    urls = [pygit2.Repository(str(repo)).remotes["origin"].url for repo in (by_http, by_path)]
    assert urls == [world.remote_url, str(world.remote_path)]
    assert world.token is not None
    assert world.token not in (by_http / ".git" / "config").read_text()


def test_a_temporary_world_leaves_nothing(tmp_path: Path) -> None:
    """Without a root everything is gone in the end; a root that was given stays."""
    with World() as world:
        world.clone()
        root = world.root
    assert not root.exists()
    with World(tmp_path / "kept") as world:
        world.clone()
        remote_path = world.remote_path
    assert refs(remote_path)
    assert (tmp_path / "kept" / "clones" / "clone" / "README.md").is_file()


def test_both_servers_ask_for_the_token(world: World) -> None:
    """Without it nobody is let in, neither to git nor to the API."""
    refs_path = f"/{world.full_name}.git/info/refs?service=git-upload-pack"
    api_path = f"/api/v3/repos/{world.full_name}"
    assert _status(world.git.url, refs_path) == 401
    assert _status(world.github.url, api_path) == 401
    assert _status(world.git.url, refs_path, authorization=f"Bearer {world.token}") == 200
    assert _status(world.github.url, api_path, authorization=f"Bearer {world.token}") == 200


def test_a_world_without_a_token_lets_everybody_in(lane: WorkstreamRuntime) -> None:
    """Then a whole lane needs none."""
    with World(token=None) as world:
        runner = world.runner(world.clone())
        runner.prepare(lane)
        commit_files(_worktree(lane), {"work.txt": "work"}, message="Work")
        assert runner.integrate(lane).status is WorkstreamStatus.PR_CREATED


def test_a_token_is_never_shown(world: World) -> None:
    """Neither the world's repr nor those of what it makes hold it."""
    repo = world.clone()
    assert world.token is not None
    for shown in (world, world.runner(repo), world.integrator(repo), world.git, world.github):
        assert world.token not in repr(shown)


def test_settings_of_the_caller_win(world: World) -> None:
    """What is passed on by hand replaces what the world would say."""
    repo = world.clone()
    assert world.integrator(repo, full_name="other/name").full_name == "other/name"
    assert world.integrator(repo).full_name == world.full_name
    assert world.teardown(repo, remote="upstream").remote == "upstream"
    assert world.preparer(repo, "weekly").graph_name == "weekly"


def test_a_world_is_entered_once_at_a_time() -> None:
    """Outside it nothing can be asked, and entering twice is an error."""
    world = World()
    with pytest.raises(RuntimeError, match="enter the World first"):
        world.root  # noqa: B018  # asking is what fails
    with world:
        assert world.full_name in repr(world)
        with pytest.raises(RuntimeError, match="entered already"):
            world.__enter__()
    world.close()
    assert "not entered" in repr(world)


def test_a_root_in_use_is_refused_and_nothing_is_left_running(tmp_path: Path) -> None:
    """A second world in one place would mix two histories."""
    with World(tmp_path), pytest.raises(FileExistsError), World(tmp_path):
        pass  # pragma: no cover  # never entered


def test_an_unknown_route_is_raised_by_check_and_by_leaving() -> None:
    """A double that shrugs would let a wrong client pass."""
    with World(token=None) as world:
        assert _status(world.github.url, "/api/v3/repos/octo/widgets/unheard-of") == 404
        with pytest.raises(Exception, match="unheard-of"):
            world.check()
        world.check()
        _status(world.github.url, "/api/v3/repos/octo/widgets/again")
        url = world.github.url
        with pytest.raises(Exception, match="again"):
            world.close()
    with pytest.raises(ConnectionRefusedError):
        _status(url, "/")


def test_failures_of_both_servers_are_told_together() -> None:
    """The first is raised and the other is its note; an exception of the test hides neither."""
    world = World().__enter__()
    world.git.remember(ValueError("in git"))
    world.github.remember(ValueError("in GitHub"))
    with pytest.raises(ValueError, match="in git") as caught:
        world.close()
    assert caught.value.__notes__ == ["also: ValueError: in GitHub"]
    with pytest.raises(KeyError, match="the test's own"), World() as world:  # noqa: PT012  # in a world
        world.git.remember(ValueError("in git"))
        raise KeyError("the test's own")


# -- whole lanes


def test_a_lane_goes_from_prepare_to_merge_to_nothing(
    world: World, lane: WorkstreamRuntime
) -> None:
    """Branch, worktree and remote branch appear, become a pull request, and go."""
    repo = world.clone()
    before = refs(world.remote_path)
    runner = world.runner(repo)
    runner.prepare(lane)
    assert lane.status is WorkstreamStatus.ACTIVE
    assert _worktree(lane) == repo / ".worktrees" / "nightly" / "parser"
    commit = commit_files(_worktree(lane), {"parser.py": "parse = str\n"}, message="Parse")

    assert runner.integrate(lane) == WorkstreamRunResult("parser", WorkstreamStatus.PR_CREATED)
    (pull,) = world.github.pulls()
    assert (pull.title, pull.base, pull.head, pull.state, pull.merged) == (
        "Integrate workstream parser",
        "main",
        _BRANCH,
        "open",
        False,
    )
    assert lane.artifacts.merge_pr_url == pull.html_url
    assert refs(world.remote_path) == {**before, _REF: commit}

    world.github.merge_pull(pull.number)
    runner.teardown(lane)
    assert lane.artifacts.concerns == []
    assert not _worktree(lane).exists()
    assert pygit2.Repository(str(repo)).list_worktrees() == []
    assert [name for name in refs(repo) if "agentrelay" in name] == []
    assert list(refs(world.remote_path)) == list(before)
    assert read_tree(world.remote_path, "main")["parser.py"] == b"parse = str\n"


@pytest.mark.parametrize("method", ["squash", "rebase"])
def test_work_that_was_merged_in_another_form_needs_no_rescue(
    world: World,
    lane: WorkstreamRuntime,
    method: str,
) -> None:
    """A squash or a rebase leaves other commits with the same content: nothing is kept."""
    repo = world.clone()
    runner = world.runner(repo)
    runner.prepare(lane)
    commit_files(_worktree(lane), {"parser.py": "parse = str\n"}, message="Parse")
    runner.integrate(lane)
    world.github.merge_pull(1, method="squash" if method == "squash" else "rebase")
    runner.teardown(lane)
    assert lane.artifacts.concerns == []
    assert [name for name in refs(repo) if "agentrelay" in name] == []


def test_integrating_again_adopts_and_shows_the_new_commits(
    world: World, lane: WorkstreamRuntime
) -> None:
    """There is one pull request however often it is asked for, and it is never behind."""
    runner = world.runner(world.clone())
    runner.prepare(lane)
    commit_files(_worktree(lane), {"one": "1"}, message="One")
    first = runner.integrate(lane)
    last = commit_files(_worktree(lane), {"two": "2"}, message="Two")
    assert runner.integrate(lane) == first
    assert len(world.github.pulls()) == 1
    assert refs(world.remote_path)[_REF] == last
    assert [entry.method for entry in world.github.requests].count("POST") == 1


def test_a_lane_of_a_clone_by_path_has_a_pull_request_too(
    world: World, lane: WorkstreamRuntime
) -> None:
    """The GitHub is named by the settings, wherever the commits are pushed."""
    runner = world.runner(world.clone(by="path"))
    runner.prepare(lane)
    commit_files(_worktree(lane), {"work": "1"}, message="Work")
    assert runner.integrate(lane).status is WorkstreamStatus.PR_CREATED
    assert [pull.head for pull in world.github.pulls()] == [_BRANCH]
    assert world.git.requests == ()


def test_a_lane_without_commits_is_merged_and_says_so(
    world: World, lane: WorkstreamRuntime
) -> None:
    """No pull request is opened, GitHub is not even asked, and a concern tells."""
    runner = world.runner(world.clone())
    runner.prepare(lane)
    assert runner.integrate(lane).status is WorkstreamStatus.MERGED
    assert world.github.requests == ()
    (concern,) = lane.artifacts.concerns
    assert "nothing to merge" in concern
    runner.teardown(lane)
    assert list(refs(world.remote_path)) == ["refs/heads/main"]


def test_teardown_keeps_the_branches_of_an_open_pull_request(
    world: World, lane: WorkstreamRuntime
) -> None:
    """The worktree goes; deleting a branch would close the pull request, so both stay."""
    repo = world.clone()
    runner = world.runner(repo)
    runner.prepare(lane)
    commit = commit_files(_worktree(lane), {"work": "1"}, message="Work")
    runner.integrate(lane)
    runner.teardown(lane)
    assert not _worktree(lane).exists()
    assert refs(repo)[_REF] == refs(world.remote_path)[_REF] == commit
    assert world.github.pulls()[0].state == "open"
    (concern,) = lane.artifacts.concerns
    assert "is open" in concern
    world.github.close_pull(1)
    runner.teardown(lane)
    assert _REF not in refs(repo)
    assert _REF not in refs(world.remote_path)


@pytest.mark.parametrize("code", [401, 404, 410, 422, 500, 503])
def test_integrate_and_teardown_never_raise(
    world: World, lane: WorkstreamRuntime, code: int
) -> None:
    """Whatever GitHub answers is a result of the one and a concern of the other."""
    runner = world.runner(world.clone())
    runner.prepare(lane)
    commit_files(_worktree(lane), {"work": "1"}, message="Work")
    assert runner.integrate(lane).status is WorkstreamStatus.PR_CREATED
    world.github.faults.add(Fault.status(code, times=100))
    result = runner.integrate(lane)
    assert result.status is WorkstreamStatus.FAILED
    assert result.error is not None
    runner.teardown(lane)
    assert lane.artifacts.concerns != []
    assert _REF in refs(world.remote_path)


def test_integrate_and_teardown_of_a_lane_that_was_never_prepared(
    world: World, lane: WorkstreamRuntime
) -> None:
    """The first fails with a reason, the second has nothing to do; neither raises."""
    runner = world.runner(world.clone())
    result = runner.integrate(lane)
    assert result.status is WorkstreamStatus.FAILED
    assert result.error is not None
    assert "parser" in result.error
    runner.teardown(lane)
    assert lane.artifacts.concerns == []
    assert world.git.requests == ()


# -- starting points

_REFUSED: dict[str, type[WorkstreamError]] = {
    "protected_target": PushRejectedError,
    "foreign_directory_in_the_way": LaneConflictError,
    "branch_checked_out_elsewhere": LaneConflictError,
    "remote_branch_exists": LaneConflictError,
    "diverged_remote_lane": LaneConflictError,
    "detached_worktree": LaneConflictError,
}


@pytest.mark.parametrize("name", sorted(set(scenarios.SCENARIOS) - set(_REFUSED)))
def test_prepare_makes_a_whole_lane_of(world: World, name: str) -> None:
    """From what crashes and people leave behind, prepare gets to a lane that stands."""
    scene = scenarios.SCENARIOS[name](world)
    world.runner(scene.repo).prepare(scene.runtime)
    worktree = pygit2.Repository(str(scene.lane.worktree_path))
    assert worktree.lookup_reference("HEAD").target == scene.lane.branch_ref
    assert scene.lane.branch_ref in refs(world.remote_path)
    assert (scene.lane.worktree_path / "README.md").is_file()
    if scene.commit_id is not None and name != "squash_merged":
        assert str(worktree.head.target) == scene.commit_id


@pytest.mark.parametrize("name", sorted(_REFUSED))
def test_prepare_refuses_what_is_not_its_own(world: World, name: str) -> None:
    """A conflict is named with its type, and whatever is in the way stays as it was."""
    scene = scenarios.SCENARIOS[name](world)
    remote_before = refs(world.remote_path)
    with pytest.raises(_REFUSED[name]) as caught:
        world.runner(scene.repo).prepare(scene.runtime)
    assert caught.value.hint
    assert scene.runtime.status is WorkstreamStatus.FAILED
    assert refs(world.remote_path) == remote_before
    if scene.obstacle is not None:
        assert str(scene.obstacle) in str(caught.value)
        assert scene.obstacle.exists()
    if name == "foreign_directory_in_the_way":
        assert (scene.lane.worktree_path / "notes.txt").read_text() == "do not delete\n"


@pytest.mark.parametrize(
    "name",
    [
        "diverged_remote_lane",
        "unpushed_commits",
        "detached_worktree",
        "branch_deleted_by_hand",
    ],
)
def test_teardown_keeps_a_commit_nobody_merged(world: World, name: str) -> None:
    """The lane is gone, the commit is not: some ref of the clone still leads to it."""
    scene = scenarios.SCENARIOS[name](world)
    world.runner(scene.repo).teardown(scene.runtime)
    assert not scene.lane.worktree_path.exists()
    assert scene.lane.branch_ref not in refs(world.remote_path)
    repo = pygit2.Repository(str(scene.repo))
    tips = [reference.peel(pygit2.Commit).id for reference in repo.references.objects]
    assert scene.commit_id is not None
    kept = pygit2.Oid(hex=scene.commit_id)
    assert any(tip == kept or repo.descendant_of(tip, kept) for tip in tips)


@pytest.mark.parametrize("name", ["detached_worktree", "branch_deleted_by_hand"])
def test_work_beside_the_branch_is_never_called_merged(world: World, name: str) -> None:
    """A commit the lane holds and the branch does not is submitted, or integration refuses."""
    scene = scenarios.SCENARIOS[name](world)
    result = world.runner(scene.repo).integrate(scene.runtime)
    assert result.status is not WorkstreamStatus.MERGED


# -- repositories


@pytest.mark.parametrize(
    "recipe",
    [
        SMALL,
        recipes.LINKS_AND_MODES,
        recipes.DEEP_FOLDERS,
        recipes.UNICODE_NAMES,
        recipes.SEVERAL_BRANCHES,
        recipes.many_files(),
    ],
    ids=["small", "links and modes", "deep folders", "unicode names", "branches", "many files"],
)
def test_a_lanes_files_are_the_recipes(recipe: RepositoryRecipe, lane: WorkstreamRuntime) -> None:
    """Every byte, link and mode arrives in the worktree, whatever it is called."""
    with World(recipe=recipe) as world:
        repo = world.clone()
        world.runner(repo).prepare(lane)
        worktree = _worktree(lane)
        found = {
            os.fsencode(path.relative_to(worktree)).decode(): os.fsencode(path.readlink())
            if path.is_symlink()
            else path.read_bytes()
            for path in worktree.rglob("*")
            if (path.is_symlink() or path.is_file()) and path.name != ".git"
        }
        assert found == read_tree(world.remote_path, "main")
        assert pygit2.Repository(str(worktree)).status() == {}


def test_an_executable_file_arrives_executable(world: World, lane: WorkstreamRuntime) -> None:
    """Modes are part of what a lane starts with."""
    world.runner(world.clone()).prepare(lane)
    assert os.access(_worktree(lane) / "run", os.X_OK)
    assert not os.access(_worktree(lane) / "README.md", os.X_OK)


def _prepare_hostile(world: World, name: str) -> list[Path]:
    """Prepare a lane from a hostile tree; return where its planted file went."""
    recipes.add_hostile_branch(world.remote_path, name)
    repo = world.clone()
    lane = WorkstreamRuntime(WorkstreamSpec("parser", base_branch="hostile"))
    try:
        world.runner(repo).prepare(lane)
    finally:
        planted = [path for path in world.root.rglob("config") if b"planted" in path.read_bytes()]
        worktree = repo / ".worktrees" / "nightly" / "parser"
        assert [path for path in planted if not path.is_relative_to(worktree)] == []
        assert (repo / ".git" / "config").read_bytes().startswith(b"[core]")
    return planted


@pytest.mark.parametrize("name", recipes.HOSTILE_NAMES)
def test_a_hostile_tree_is_refused_and_leaves_no_lane(world: World, name: str) -> None:
    """Nothing is written into the repository or above the worktree, and nothing is left."""
    with pytest.raises(WorkstreamError):
        _prepare_hostile(world, name)
    repo = world.root / "clones" / "clone"
    assert not (repo / ".worktrees" / "nightly" / "parser").exists()
    assert [ref for ref in refs(repo) if "agentrelay" in ref] == []
    assert list(refs(world.remote_path)) == ["refs/heads/hostile", "refs/heads/main"]


@pytest.mark.parametrize("name", recipes.ODD_NAMES)
def test_an_odd_tree_stays_inside_the_worktree(world: World, name: str) -> None:
    """Where the system allows such a name it is one name in the lane, and nowhere else."""
    try:
        planted = _prepare_hostile(world, name)
    except WorkstreamError:
        return
    assert [str(path).endswith(f"/parser/{name}/config") for path in planted] == [True]


def test_a_repository_without_commits_has_no_lanes(lane: WorkstreamRuntime) -> None:
    """There is nothing to cut one from, and the error says which branch is missing."""
    with World(recipe=recipes.EMPTY) as world:
        repo = world.clone()
        with pytest.raises(WorkstreamError, match="'main'"):
            world.runner(repo).prepare(lane)
        assert refs(world.remote_path) == {}
