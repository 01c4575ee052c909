"""The GitHub double through a real client: pull requests, merges, lists."""

from __future__ import annotations

import importlib
from contextlib import closing
from typing import TYPE_CHECKING, Any

import github
import pygit2
import pytest

from agentrelay.workstream.testing.github_server import GitHubServer
from agentrelay.workstream.testing.repositories import commit_files
from tests.integration._github_client import (
    NAME,
    TOKEN,
    add_lane,
    call,
    client,
    files,
    make_remote,
    open_lane,
    tip,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from github.Repository import Repository


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return a bare repository with ``main`` and a lane one commit ahead of it."""
    return make_remote(tmp_path)


@pytest.fixture
def server(bare: Path) -> Iterator[GitHubServer]:
    """Return a started double that wants a token."""
    with GitHubServer(bare, token=TOKEN, teams=["core"]) as started:
        yield started


@pytest.fixture
def repo(server: GitHubServer) -> Iterator[Repository]:
    """Return PyGithub's view of the repository."""
    with closing(client(server)) as hub:
        yield hub.get_repo(NAME)


@pytest.fixture(scope="session")
def models() -> ModuleType:
    """Return the models generated from GitHub's description of its API; slow to import."""
    return importlib.import_module("githubkit_schemas.v2022_11_28.models")


# -- what a client sees


def test_a_pull_request_is_opened_found_edited_and_closed(
    repo: Repository, server: GitHubServer
) -> None:
    """The whole ordinary life goes through an ordinary client."""
    opened = repo.create_pull(base="main", head="lane", title="Lane", body="Text")
    assert opened.number == 1
    assert opened.html_url == f"{server.web_url}/{NAME}/pull/1"
    assert not opened.merged
    (found,) = repo.get_pulls(state="open", head="octo:lane", base="main")
    assert (found.head.ref, found.head.label, found.base.ref) == ("lane", "octo:lane", "main")
    opened.edit(title="New title", body="New text")
    again = repo.get_pull(1)
    assert (again.title, again.body, again.commits, again.changed_files) == (
        "New title",
        "New text",
        1,
        1,
    )
    again.edit(state="closed")
    assert [(view.state, view.merged) for view in server.pulls()] == [("closed", False)]
    again.edit(state="open")
    assert [view.state for view in server.pulls()] == ["open"]


def test_a_merge_commit_has_both_parents_and_the_text_that_was_asked_for(
    repo: Repository, bare: Path
) -> None:
    """Merging moves the base to a new commit with base and head as its parents."""
    before, head = tip(bare, "main"), tip(bare, "lane")
    pull = repo.create_pull(base="main", head="lane", title="Lane")
    result = pull.merge(commit_title="Title", commit_message="Message", sha=head)
    merged = pygit2.Repository(str(bare))[tip(bare, "main")].peel(pygit2.Commit)
    assert (result.merged, result.sha) == (True, str(merged.id))
    assert [str(parent) for parent in merged.parent_ids] == [before, head]
    assert merged.message == "Title\n\nMessage"
    assert "lane.txt" in files(bare, "main")
    assert pull.is_merged()
    assert repo.get_pull(1).merge_commit_sha == result.sha


def test_a_squash_is_one_commit_that_lists_what_it_holds(repo: Repository, bare: Path) -> None:
    """Squashing two commits leaves one, named after the pull request."""
    commit_files(bare, {"two.txt": "2\n"}, message="Second step", branch="lane")
    before = tip(bare, "main")
    pull = repo.create_pull(base="main", head="lane", title="Lane")
    pull.merge(merge_method="squash")
    merged = pygit2.Repository(str(bare))[tip(bare, "main")].peel(pygit2.Commit)
    assert [str(parent) for parent in merged.parent_ids] == [before]
    assert merged.message == "Lane (#1)\n\n* Step 1 of lane\n\nWhy.\n\n* Second step"
    assert {"lane.txt", "two.txt"} <= files(bare, "main")
    assert repo.get_pull(1).merged


def test_a_rebase_writes_each_commit_again_on_top_of_the_base(repo: Repository, bare: Path) -> None:
    """Rebasing keeps texts and authors, and leaves a straight line."""
    commit_files(bare, {"two.txt": "2\n"}, message="Second step", branch="lane")
    on_main = commit_files(bare, {"main.txt": "m\n"}, message="On main", branch="main")
    old_head = tip(bare, "lane")
    repo.create_pull(base="main", head="lane", title="Lane").merge(merge_method="rebase")
    git = pygit2.Repository(str(bare))
    last = git[tip(bare, "main")].peel(pygit2.Commit)
    (first,) = last.parents
    assert [str(parent) for parent in first.parent_ids] == [on_main]
    assert [first.message, last.message] == ["Step 1 of lane\n\nWhy.\n", "Second step"]
    assert last.author == git[old_head].peel(pygit2.Commit).author
    assert {"lane.txt", "two.txt", "main.txt"} <= files(bare, "main")
    assert repo.get_pull(1).merged


def test_rebasing_leaves_out_what_the_base_has_already(repo: Repository, bare: Path) -> None:
    """A commit that changes nothing on the base, or merges, is not written again."""
    add_lane(bare, "side", {"side.txt": "s\n"})
    git = pygit2.Repository(str(bare))
    head, side = tip(bare, "lane"), tip(bare, "side")
    who = pygit2.Signature("A", "a@example.invalid", 0, 0)
    tree = git.merge_commits(head, side).write_tree(git)
    git.create_commit("refs/heads/lane", who, who, "Join", tree, [head, side])
    commit_files(bare, {"side.txt": "s\n"}, message="The same on main", branch="main")
    before = tip(bare, "main")
    repo.create_pull(base="main", head="lane", title="Lane").merge(merge_method="rebase")
    last = pygit2.Repository(str(bare))[tip(bare, "main")].peel(pygit2.Commit)
    assert last.message.startswith("Step 1 of lane")
    assert [str(parent) for parent in last.parent_ids] == [before]


def test_a_squash_of_one_commit_takes_its_text(server: GitHubServer, bare: Path) -> None:
    """One commit's own words are better than the pull request's title."""
    open_lane(server)
    server.merge_pull(1, method="squash")
    merged = pygit2.Repository(str(bare))[tip(bare, "main")].peel(pygit2.Commit)
    assert merged.message == "Step 1 of lane (#1)\n\nWhy."


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("merge", "Pull Request is not mergeable"),
        ("squash", "Pull Request is not mergeable"),
        ("rebase", "This branch can't be rebased"),
    ],
)
def test_a_conflict_is_refused_and_moves_nothing(
    server: GitHubServer, repo: Repository, bare: Path, method: str, message: str
) -> None:
    """405 in GitHub's words; the base stays and the pull request stays open."""
    before = commit_files(bare, {"lane.txt": "other\n"}, message="In the way", branch="main")
    pull = repo.create_pull(base="main", head="lane", title="Lane")
    with pytest.raises(github.GithubException) as caught:
        pull.merge(merge_method=method)
    assert caught.value.status == 405
    assert caught.value.data["message"] == message
    assert tip(bare, "main") == before
    assert [view.state for view in server.pulls()] == ["open"]
    assert [repo.get_pull(1).mergeable for _ in range(2)] == [None, False]


def test_mergeable_is_unknown_to_the_first_question_and_after_each_push(
    server: GitHubServer, bare: Path
) -> None:
    """GitHub computes it only when asked, and anew for every pair of commits."""
    open_lane(server)

    def ask() -> tuple[object, object, bool]:
        body = call(server, "GET", "/pulls/1").json()
        return body["mergeable"], body["mergeable_state"], body["merge_commit_sha"] is None

    assert [ask(), ask()] == [(None, "unknown", True), (True, "clean", False)]
    commit_files(bare, {"more.txt": "m\n"}, message="More", branch="lane")
    assert [ask(), ask()] == [(None, "unknown", True), (True, "clean", False)]


def test_the_trial_merge_is_not_a_commit_anybody_could_use(
    server: GitHubServer, bare: Path
) -> None:
    """A client that takes ``merge_commit_sha`` of an open pull request for the merge fails."""
    open_lane(server)
    call(server, "GET", "/pulls/1")
    sha = call(server, "GET", "/pulls/1").json()["merge_commit_sha"]
    assert sha not in pygit2.Repository(str(bare))


# -- lists and the smaller answers


def test_a_list_is_filtered_by_state_base_and_owned_head(server: GitHubServer, bare: Path) -> None:
    """A head without its owner filters nothing at all, as on GitHub."""
    for number in range(3):
        add_lane(bare, f"lane-{number}", {f"{number}.txt": "x\n"})
        open_lane(server, head=f"lane-{number}")
    open_lane(server, head="lane-2", base="lane-1")
    server.close_pull(1)

    def numbers(query: str) -> list[int]:
        return [item["number"] for item in call(server, "GET", f"/pulls?{query}").json()]

    assert numbers("") == [4, 3, 2]
    assert numbers("state=all&direction=asc") == [1, 2, 3, 4]
    assert numbers("state=closed") == [1]
    assert numbers("head=octo:lane-2") == [4, 3]
    assert numbers("head=lane-2") == [4, 3, 2]
    assert numbers("head=else:lane-2") == []
    assert numbers("base=lane-1") == [4]
    assert numbers("state=all&sort=updated") == [1, 2, 3, 4]
    assert call(server, "GET", "/pulls?state=some").status_code == 422


def test_pages_are_linked_both_ways_and_clients_follow(
    server: GitHubServer, repo: Repository, bare: Path
) -> None:
    """``Link`` names the neighbours by the repository's id; a client collects all of them."""
    for number in range(5):
        add_lane(bare, f"lane-{number}", {f"{number}.txt": "x\n"})
        open_lane(server, head=f"lane-{number}")
    answer = call(server, "GET", "/pulls?per_page=2&page=2&state=all")
    assert set(answer.links) == {"first", "prev", "next", "last"}
    assert "/repositories/1000/pulls?" in answer.links["next"]["url"]
    last = call(server, "GET", answer.links["last"]["url"])
    assert [item["number"] for item in last.json()] == [1]
    repo.requester.per_page = 2
    assert [pull.number for pull in repo.get_pulls()] == [5, 4, 3, 2, 1]
    assert call(server, "GET", "/pulls?page=x&per_page=0").links["next"]


def test_an_item_of_a_list_has_less_than_the_pull_request(server: GitHubServer) -> None:
    """What GitHub leaves out of lists is not in ours: ``merged`` above all."""
    whole = open_lane(server)
    (item,) = call(server, "GET", "/pulls").json()
    assert {"merged", "mergeable", "commits", "merged_by"} <= set(whole) - set(item)
    assert item["merged_at"] is None


def test_branches_refs_commits_and_comparisons_are_the_repositorys_own(
    server: GitHubServer, repo: Repository, bare: Path
) -> None:
    """Everything about commits is read from the bare repository."""
    head = tip(bare, "lane")
    assert repo.get_branch("lane").commit.sha == head
    ref = repo.get_git_ref("heads/lane").complete()
    assert ref.object.sha == head
    assert call(server, "GET", "/commits/lane").json()["sha"] == head
    assert repo.get_commit(head).commit.message.startswith("Step 1 of lane")
    comparison = repo.compare("main", "lane")
    assert (comparison.status, comparison.ahead_by, comparison.behind_by) == ("ahead", 1, 0)
    assert [file.filename for file in comparison.files] == ["lane.txt"]
    commit_files(bare, {"m.txt": "m\n"}, message="On main", branch="main")
    assert repo.compare("main", "lane").status == "diverged"
    assert repo.compare("lane", "lane").status == "identical"
    assert repo.compare(head, "main").status == "diverged"
    pull = repo.create_pull(base="main", head="lane", title="Lane")
    assert [commit.sha for commit in pull.get_commits()] == [head]
    assert [file.filename for file in pull.get_files()] == ["lane.txt"]
    ref.delete()
    assert server.pulls()[0].state == "closed"


def test_a_maintainers_permission_is_remembered(server: GitHubServer) -> None:
    """It has no consequence here, and comes back as it was set."""
    open_lane(server)
    changed = call(server, "PATCH", "/pulls/1", {"maintainer_can_modify": True})
    assert changed.json()["maintainer_can_modify"] is True
    assert server.pulls()[0].title == "Lane"


def test_labels_and_reviewers_are_kept_on_the_pull_request(
    repo: Repository, server: GitHubServer
) -> None:
    """Labels appear by being used; the author cannot review."""
    pull = repo.create_pull(base="main", head="lane", title="Lane")
    pull.add_to_labels("lane", "agents")
    pull.add_to_labels("lane")
    pull.create_review_request(reviewers=["hubot"])
    again = repo.get_pull(1)
    assert [label.name for label in again.labels] == ["lane", "agents"]
    assert [user.login for user in again.requested_reviewers] == ["hubot"]
    with pytest.raises(github.GithubException, match="from pull request author"):
        pull.create_review_request(reviewers=["octocat"])
    assert call(server, "POST", "/issues/1/labels", {"labels": "x"}).status_code == 422


def test_every_answer_fits_githubs_own_schema(server: GitHubServer, models: ModuleType) -> None:
    """The models are generated from GitHub's description of its API."""
    created = open_lane(server, body="Text")
    call(server, "GET", "/pulls/1")
    cases: list[tuple[type[Any], Any]] = [
        (models.PullRequest, created),
        (models.PullRequest, call(server, "GET", "/pulls/1").json()),
        (models.PullRequest, call(server, "PATCH", "/pulls/1", {"title": "New"}).json()),
        (models.FullRepository, call(server, "GET", "").json()),
        (models.PublicUser, call(server, "GET", f"{server.api_url}/user").json()),
        (models.GitRef, call(server, "GET", "/git/ref/heads/lane").json()),
        (models.BranchWithProtection, call(server, "GET", "/branches/lane").json()),
        (models.Commit, call(server, "GET", "/commits/lane").json()),
        (models.CommitComparison, call(server, "GET", "/compare/main...lane").json()),
        (models.BasicError, call(server, "GET", "/pulls/9").json()),
    ]
    server.add_milestone("Spring")
    server.review_pull(1, "hubot")
    many: list[tuple[type[Any], list[Any]]] = [
        (models.Label, call(server, "POST", "/issues/1/labels", {"labels": ["x"]}).json()),
        (models.Milestone, call(server, "GET", "/milestones?state=open").json()),
        (models.PullRequestReview, call(server, "GET", "/pulls/1/reviews").json()),
        (models.PullRequestSimple, call(server, "GET", "/pulls").json()),
        (models.Commit, call(server, "GET", "/pulls/1/commits").json()),
        (models.DiffEntry, call(server, "GET", "/pulls/1/files").json()),
    ]
    reviewers = {"reviewers": ["hubot"], "team_reviewers": ["core"]}
    assignees = {"assignees": ["hubot"]}
    cases += [
        (models.Issue, call(server, "POST", "/issues/1/assignees", assignees).json()),
        (models.Issue, call(server, "PATCH", "/issues/1", {"milestone": 1}).json()),
        (
            models.PullRequestSimple,
            call(server, "POST", "/pulls/1/requested_reviewers", reviewers).json(),
        ),
        (models.PullRequest, call(server, "GET", "/pulls/1").json()),
        (models.PullRequestMergeResult, call(server, "PUT", "/pulls/1/merge", {}).json()),
        (models.PullRequest, call(server, "GET", "/pulls/1").json()),
    ]
    for model, items in many:
        assert items
        cases += [(model, item) for item in items]
    for model, data in cases:
        model.model_validate(data)
    assert server.pulls()[0].merged
