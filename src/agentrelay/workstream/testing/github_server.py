"""A GitHub API double over real HTTP, backed by real bare repositories.

It answers like GitHub Enterprise Server (below ``/api/v3``) and like api.github.com
(at the root). Branches live in the repositories, pull requests here; merging writes
commits. Where it differs from GitHub it is the stricter one: see
:class:`GitHubServer`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from agentrelay.workstream.testing import _github_json as bodies
from agentrelay.workstream.testing import _github_lifecycle as lifecycle
from agentrelay.workstream.testing._github_apps import AppDesk
from agentrelay.workstream.testing._github_door import NO_USER_AGENT, RATE_LIMIT, Door, moved
from agentrelay.workstream.testing._github_graphql import GRAPHQL_PATH, answer_graphql
from agentrelay.workstream.testing._github_issues import ISSUE_ROUTES
from agentrelay.workstream.testing._github_pulls import PULL_ROUTES
from agentrelay.workstream.testing._github_refusals import (
    NotImplementedRouteError,
    RefusedError,
)
from agentrelay.workstream.testing._github_routes import (
    REPOSITORY_ROUTES,
    Call,
    answer,
    find_route,
    read_fields,
)
from agentrelay.workstream.testing._github_store import Milestone, Review, Rules, Store, existing
from agentrelay.workstream.testing._github_view import PullView, view
from agentrelay.workstream.testing._loopback import LoopbackServer, Request, Response

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from agentrelay.workstream.testing._github_merge import MergeMethod
    from agentrelay.workstream.testing._github_settings import RepositorySettings, TokenTraits
    from agentrelay.workstream.testing._github_store import HostedRepository

__all__ = ["GitHubServer", "PullView"]

_PREFIX: Final = "/api/v3"
# Any day does, as long as it is the same in every run.
_NOW: Final = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


class GitHubServer(LoopbackServer):
    """GitHub on loopback; use it as a context manager, or :meth:`start` and :meth:`close`.

    * Pull requests follow the refs: one whose head disappears is closed, one whose
      base receives its commits is merged, whoever pushed them.
    * A request for something GitHub has and the double has not, be it a route, a query
      parameter or a body field, is answered 404 and fails the test through
      :meth:`check`. So does a failure inside the double.
    * Stricter than GitHub: with a token set, anonymous requests are refused
      everywhere; bodies must say that they are JSON; a list's items carry the small
      schema only; ``merge_commit_sha`` of an open pull request names no commit.

    Attributes:
        apps: GitHub Apps, whose tokens are accepted too.
        now: The time of everything that happens; it stands still until it is set.
        faults: What goes wrong next.
    """

    def __init__(
        self,
        repository_path: os.PathLike[str] | str,
        *,
        full_name: str = "octo/widgets",
        token: str | None = None,
        default_branch: str = "main",
        first_number: int = 1,
        login: str = "octocat",
        web_url: str | None = None,
        rate_limit: int = RATE_LIMIT,
        now: datetime = _NOW,
        collaborators: Iterable[str] = ("hubot",),
        teams: Iterable[str] = (),
        knows_drafts: bool = True,
    ) -> None:
        """Make a double that hosts one repository and does not listen yet.

        Args:
            repository_path: A bare repository.
            full_name: What it is called, ``"owner/name"``.
            token: What clients must send, or ``None`` for no check.
            default_branch: Its default branch, as the API says it.
            first_number: Number of its first pull request.
            login: Who every client is.
            web_url: Base of web addresses, without a slash at the end; the server's
                own address unless told.
            rate_limit: Requests until the hourly quota is used up.
            now: Time of everything that happens, with a time zone.
            collaborators: Logins that may be asked for a review or be assigned, besides
                ``login``.
            teams: Slugs of teams that may be asked for a review.
            knows_drafts: Whether the repository's plan has draft pull requests.
        """
        super().__init__()
        self.now = now
        self._login = login
        self._web_url = web_url
        self._store = Store(lambda: self.now)
        self.apps = AppDesk(self._store.find)
        self._door = Door(token=token, rate_limit=rate_limit, apps=self.apps)
        self._first = self._store.add(
            full_name,
            existing(repository_path),
            default_branch=default_branch,
            first_number=first_number,
        )
        self._first.collaborators |= {login, *collaborators}
        self._first.teams |= set(teams)
        self._first.knows_drafts = knows_drafts

    @property
    def api_url(self) -> str:
        """Base of the API, for ``Github(base_url=...)``."""
        return self.url + _PREFIX

    @property
    def web_url(self) -> str:
        """Base of web addresses."""
        return self.url if self._web_url is None else self._web_url

    @property
    def settings(self) -> RepositorySettings:
        """Settings of the first repository; set its attributes as an administrator would."""
        return self._first.settings

    @property
    def token_traits(self) -> TokenTraits:
        """What answers say about the token: its scopes, and when it expires."""
        return self._door.traits

    def add_repository(
        self,
        full_name: str,
        repository_path: os.PathLike[str] | str,
        *,
        default_branch: str = "main",
        first_number: int = 1,
        fork_of: str | None = None,
    ) -> None:
        """Host one more bare repository.

        Args:
            full_name: What it is called, ``"owner/name"``.
            repository_path: A bare repository.
            default_branch: Its default branch, as the API says it.
            first_number: Number of its first pull request.
            fork_of: What the repository is called that it is a fork of: pull requests
                may go from one to the other.

        Raises:
            ValueError: The name is taken, or nothing is called ``fork_of``.
        """
        with self._store.lock:
            parent = None if fork_of is None else self._hosted(fork_of)
            added = self._store.add(
                full_name,
                existing(repository_path),
                default_branch=default_branch,
                first_number=first_number,
            )
            added.parent = parent

    def add_milestone(self, title: str) -> int:
        """Open a milestone in the first repository; return its number."""
        with self._store.lock:
            number = len(self._first.milestones) + 1
            self._first.milestones[number] = Milestone(number, title, self.now)
            return number

    def review_pull(self, number: int, author: str) -> None:
        """Approve a pull request of the first repository: its author is asked no longer.

        Raises:
            ValueError: There is no such pull request.
        """
        with self._store.lock:
            pull = self._first.pull(number)
            pull.reviews.append(Review(1500 + len(pull.reviews), author, pull.head_sha))
            pull.reviewers = [login for login in pull.reviewers if login != author]

    def protect(
        self,
        *,
        checks: Iterable[str] = (),
        reviews: int = 0,
        methods: Iterable[MergeMethod] = ("merge", "squash", "rebase"),
        is_strict: bool = False,
        has_queue: bool = False,
        has_auto_merge: bool = False,
    ) -> None:
        """Say what the first repository demands of merges from now on.

        Args:
            checks: Names of checks that must pass.
            reviews: How many approving reviews there must be.
            methods: Ways to merge that are allowed.
            is_strict: Whether a head must have all of its base.
            has_queue: Whether merges go through the merge queue.
            has_auto_merge: Whether GitHub may be asked to merge later.
        """
        with self._store.lock:
            self._first.rules = Rules(
                frozenset(checks), reviews, frozenset(methods), is_strict, has_queue, has_auto_merge
            )

    def report_check(self, number: int, name: str, *, passed: bool = True) -> None:
        """Report how a check of a pull request's head ended; GitHub merges what it now may.

        Raises:
            ValueError: There is no such pull request.
        """
        with self._store.lock:
            hosted = self._first
            hosted.refresh(hosted.open_git(), self.now)
            pull = hosted.pull(number)
            hosted.checks.setdefault(pull.head_sha, {})[name] = passed
            lifecycle.merge_what_may_be(hosted, [pull], self.now)

    def run_queue(self) -> None:
        """Merge what is in the merge queue of the first repository, in order."""
        with self._store.lock:
            queued = [pull for pull in self._first.pulls.values() if pull.is_queued]
            lifecycle.merge_what_may_be(self._first, queued, self.now)

    def rename_repository(self, old: str, new: str) -> None:
        """Call a repository something else; its old name answers 301 and 307 from now on.

        Raises:
            ValueError: ``old`` is not hosted.
        """
        with self._store.lock:
            self._store.rename(old, new)

    def pulls(self, full_name: str | None = None) -> list[PullView]:
        """Return all pull requests of a repository (the first one unless told), by number."""
        with self._store.lock:
            hosted = self._hosted(full_name)
            hosted.refresh(hosted.open_git(), self.now)
            return [view(self.web_url, hosted, pull) for pull in hosted.pulls.values()]

    def open_pull(
        self,
        *,
        head: str,
        base: str,
        title: str,
        body: str | None = None,
        full_name: str | None = None,
    ) -> PullView:
        """Open a pull request, as somebody else would on the web.

        Raises:
            ValueError: GitHub would refuse; the text is its message.
        """
        with self._store.lock:
            hosted = self._hosted(full_name)
            git = hosted.open_git()
            hosted.refresh(git, self.now)
            pull = lifecycle.create(
                hosted,
                git,
                head=head,
                base=base,
                title=title,
                body=body,
                author=self._login,
                now=self.now,
            )
            return view(self.web_url, hosted, pull)

    def merge_pull(
        self, number: int, *, method: MergeMethod = "merge", full_name: str | None = None
    ) -> PullView:
        """Merge a pull request, as somebody else would on the web.

        Raises:
            ValueError: GitHub would refuse; the text is its message.
        """
        with self._store.lock:
            hosted = self._hosted(full_name)
            git = hosted.open_git()
            hosted.refresh(git, self.now)
            pull = hosted.pull(number)
            lifecycle.merge_pull(hosted, git, pull, method=method, now=self.now)
            return view(self.web_url, hosted, pull)

    def close_pull(self, number: int, *, full_name: str | None = None) -> PullView:
        """Close a pull request without merging it; closing it again changes nothing.

        Raises:
            ValueError: There is no such pull request.
        """
        with self._store.lock:
            hosted = self._hosted(full_name)
            hosted.refresh(hosted.open_git(), self.now)
            pull = hosted.pull(number)
            if pull.state == "open":
                pull.close(self.now)
            return view(self.web_url, hosted, pull)

    def handle(self, request: Request) -> Response:
        """Answer one request of the API; see the class for what it promises."""
        # GitHub's proxy looks at this before anything else does.
        if not request.headers.get("user-agent"):
            return Response(403, {"content-type": "text/html"}, NO_USER_AGENT.encode())
        with self._store.lock:
            try:
                response = self._dispatch(request)
            except RefusedError as refused:
                response = answer(refused.status, refused.body())
            except NotImplementedRouteError as unknown:
                self.remember(unknown)
                response = answer(404, {"message": str(unknown)})
            return self._door.finish(request, response)

    def _dispatch(self, request: Request) -> Response:
        path, urls = request.path, bodies.Urls(self.url, self.web_url)
        if path.startswith(f"{_PREFIX}/"):
            path, urls = path.removeprefix(_PREFIX), bodies.Urls(self.api_url, self.web_url)
        by_name = re.match(r"/repos/([^/]+/[^/]+)", path)
        by_id = re.match(r"/repositories/([0-9]+)", path)
        hosted = self._store.find(by_name[1]) if by_name else None
        hosted = self._store.find_id(int(by_id[1])) if by_id else hosted
        self._door.admit(request, path, hosted)
        if request.method == "POST" and GRAPHQL_PATH.fullmatch(path):
            return answer_graphql(self._store, request)
        if self.apps.owns(path):
            return self._app_call(request, path, urls)
        if (request.method, path) == ("GET", "/rate_limit"):
            return answer(200, self._door.rate_overview())
        if (request.method, path) == ("GET", "/user"):
            if request.authorization is None:
                raise RefusedError.requires_authentication()
            return answer(200, bodies.authenticated_user(urls, self._login, self.now))
        return self._repository_call(request, path, urls)

    def _app_call(self, request: Request, path: str, urls: bodies.Urls) -> Response:
        answered = self.apps.answer(request, path, urls)
        if answered is not None:
            return answer(*answered)
        name = path.removeprefix("/repos/").removesuffix("/installation")
        moved_to = self._store.moved_to(name)
        if moved_to is None:
            raise RefusedError.not_found()
        return moved(request, f"{urls.api}/repositories/{moved_to}/installation")

    def _repository_call(self, request: Request, path: str, urls: bodies.Urls) -> Response:
        routes = REPOSITORY_ROUTES + PULL_ROUTES + ISSUE_ROUTES
        by_name = re.fullmatch(r"/repos/([^/]+/[^/]+)(/.*)?", path)
        by_id = re.fullmatch(r"/repositories/([0-9]+)(/.*)?", path)
        found = by_name or by_id
        # What is not below a repository fits no route, and the error lists those there are.
        rest = path if found is None else found[2] or ""
        route, args = find_route(routes, request, rest)
        assert found is not None
        if by_id is not None:
            hosted = self._store.find_id(int(found[1]))
        else:
            hosted = self._store.find(found[1])
            moved_to = self._store.moved_to(found[1])
            if hosted is None and moved_to is not None:
                return moved(request, f"{urls.api}/repositories/{moved_to}{rest}")
        if hosted is None:
            raise RefusedError.not_found()
        fields = read_fields(request, route)
        git = hosted.open_git()
        hosted.refresh(git, self.now)
        hosted.settings.admit(request.method)
        return route.handler(
            Call(
                store=self._store,
                hosted=hosted,
                git=git,
                urls=urls,
                login=self._login,
                args=args,
                query=request.query,
                fields=fields,
                path=rest,
                caller=self._door.caller(request),
            )
        )

    def _hosted(self, full_name: str | None) -> HostedRepository:
        hosted = self._first if full_name is None else self._store.find(full_name)
        if hosted is None:
            raise ValueError(f"{full_name} is not hosted here")
        return hosted
