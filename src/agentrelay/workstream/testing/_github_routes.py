"""The GitHub double's routes, and the answers about repositories, refs and commits.

A route names every query parameter and body field it understands. Anything else is a
failure of the test that sent it: a double that shrugs lets a client pass which
GitHub would treat differently.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pygit2

from agentrelay.workstream.testing import _github_json as bodies
from agentrelay.workstream.testing._github_merge import commits_between
from agentrelay.workstream.testing._github_refusals import (
    NotImplementedRouteError,
    RefusedError,
)
from agentrelay.workstream.testing._github_store import branch_tip
from agentrelay.workstream.testing._loopback_wire import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agentrelay.workstream.testing._github_json import Json, Urls
    from agentrelay.workstream.testing._github_settings import Caller
    from agentrelay.workstream.testing._github_store import HostedRepository, Store

__all__ = [
    "REPOSITORY_ROUTES",
    "Call",
    "Route",
    "answer",
    "find_commit",
    "find_route",
    "read_fields",
]

# Commits on one page of a comparison ("Compare two commits").
_COMPARED: Final = 250

# What a comparison is called, by whether either side has commits of its own.
_RELATIONS: Final = {
    (True, True): "diverged",
    (True, False): "ahead",
    (False, True): "behind",
    (False, False): "identical",
}


@dataclass(frozen=True)
class Call:
    """One request on its way through a route, with the store's lock held.

    Attributes:
        store: Everything the double knows.
        hosted: The repository the path names, its states up to date.
        git: That repository, opened for this request.
        urls: Addresses to put into the answer.
        login: Who is asking.
        args: What the route's pattern captured.
        query: Query parameters.
        fields: The JSON body.
        path: The path below the repository, for links to other pages.
        caller: Which kind of credential is shown.
    """

    store: Store
    hosted: HostedRepository
    git: pygit2.Repository
    urls: Urls
    login: str
    args: tuple[str, ...]
    query: Mapping[str, str]
    fields: Json
    path: str
    caller: Caller = "user"

    @property
    def url(self) -> str:
        """API address of the repository."""
        return self.urls.repository(self.hosted)


@dataclass(frozen=True)
class Route:
    """One method and path below a repository.

    Attributes:
        method: HTTP method.
        path: Regular expression of the path after ``/repos/{owner}/{repo}``.
        handler: What answers.
        query: Query parameters it understands.
        fields: Body fields it understands.
        bare_list: Field that a body may consist of, without the object around it.
    """

    method: str
    path: str
    handler: Callable[[Call], Response]
    query: frozenset[str] = field(default_factory=frozenset)
    fields: frozenset[str] = field(default_factory=frozenset)
    bare_list: str | None = None


def answer(status: int, data: Any, **headers: str) -> Response:
    """Return a JSON answer; underscores in header names stand for hyphens."""
    pairs = {name.replace("_", "-"): value for name, value in headers.items()}
    pairs["content-type"] = "application/json; charset=utf-8"
    return Response(status, pairs, json.dumps(data).encode())


def find_route(
    routes: tuple[Route, ...], request: Request, path: str
) -> tuple[Route, tuple[str, ...]]:
    """Return the route for a request, and what its pattern captured.

    Raises:
        NotImplementedRouteError: None fits, or the request has parts none understands.
    """
    for route in routes:
        found = re.fullmatch(route.path, path)
        if found is None or route.method != request.method:
            continue
        unknown = sorted(set(request.query) - route.query)
        if unknown:
            raise NotImplementedRouteError(
                f"{request.method} {request.path}: the double does not implement the query"
                f" parameters {', '.join(unknown)}"
            )
        return route, found.groups()
    known = "\n".join(f"  {route.method} /repos/{{owner}}/{{repo}}{route.path}" for route in routes)
    raise NotImplementedRouteError(
        f"the double has no route for {request.method} {request.path}; it knows:\n{known}"
    )


def read_fields(request: Request, route: Route) -> Json:
    """Read the JSON body, and let no field pass that the double would ignore.

    Raises:
        RefusedError: It is no JSON object, or does not say that it is JSON.
        NotImplementedRouteError: It has fields the route does not understand.
    """
    if not request.body:
        return {}
    if not request.headers.get("content-type", "").partition(";")[0].strip().endswith("json"):
        raise RefusedError.media_type()
    try:
        fields: Any = json.loads(request.body)
    except ValueError:
        raise RefusedError.bad_json() from None
    if isinstance(fields, list) and route.bare_list is not None:
        return {route.bare_list: fields}
    if not isinstance(fields, dict):
        raise RefusedError.not_an_object()
    unknown = sorted(set(fields) - route.fields)
    if unknown:
        raise NotImplementedRouteError(
            f"{request.method} {request.path}: the double does not implement the fields"
            f" {', '.join(unknown)}"
        )
    return fields


def _get_repository(call: Call) -> Response:
    return answer(200, bodies.full_repository(call.urls, call.hosted, call.caller))


def _get_ref(call: Call) -> Response:
    (branch,) = call.args
    sha = branch_tip(call.git, branch)
    if sha is None:
        raise RefusedError.not_found()
    return answer(200, bodies.git_ref(call.urls, call.hosted, f"refs/heads/{branch}", sha))


def _delete_ref(call: Call) -> Response:
    (branch,) = call.args
    if branch_tip(call.git, branch) is None:
        raise RefusedError.no_reference()
    call.git.references.delete(f"refs/heads/{branch}")
    call.hosted.refresh(call.git, call.store.now())
    return Response(204)


def _get_branch(call: Call) -> Response:
    (branch,) = call.args
    sha = branch_tip(call.git, branch)
    if sha is None:
        raise RefusedError.not_found("Branch not found")
    tip = call.git[sha].peel(pygit2.Commit)
    return answer(200, bodies.branch(call.urls, call.hosted, branch, tip))


def _get_commit(call: Call) -> Response:
    found = find_commit(call.git, call.args[0])
    if found is None:
        raise RefusedError.no_commit(call.args[0])
    return answer(200, bodies.commit(call.urls, call.hosted, found))


def _compare(call: Call) -> Response:
    """Compare two commits or branches, the way three dots do."""
    base, head = (find_commit(call.git, name) for name in call.args)
    fork_id = None if base is None or head is None else call.git.merge_base(base.id, head.id)
    if base is None or head is None or fork_id is None:
        raise RefusedError.not_found()
    fork = call.git[fork_id].peel(pygit2.Commit)
    ahead = commits_between(call.git, str(base.id), str(head.id))
    behind = commits_between(call.git, str(head.id), str(base.id))
    shown = ahead[: min(int(call.query.get("per_page", _COMPARED)), _COMPARED)]
    if call.query.get("page", "1") != "1" or ("per_page" not in call.query and shown != ahead):
        raise NotImplementedRouteError("the double compares on one page only")
    status = _RELATIONS[bool(ahead), bool(behind)]
    spread, page = "...".join(call.args), call.urls.page(call.hosted)
    diff = call.git.diff(str(fork.id), str(head.id))
    return answer(
        200,
        {
            "url": f"{call.url}/compare/{spread}",
            "html_url": f"{page}/compare/{spread}",
            "permalink_url": f"{page}/compare/{base.id}...{head.id}",
            "diff_url": f"{page}/compare/{spread}.diff",
            "patch_url": f"{page}/compare/{spread}.patch",
            "base_commit": bodies.commit(call.urls, call.hosted, base),
            "merge_base_commit": bodies.commit(call.urls, call.hosted, fork),
            "status": status,
            "ahead_by": len(ahead),
            "behind_by": len(behind),
            "total_commits": len(ahead),
            "commits": [bodies.commit(call.urls, call.hosted, found) for found in shown],
            "files": bodies.diff_entries(call.urls, call.hosted, diff, str(head.id)),
        },
    )


def find_commit(git: pygit2.Repository, name: str) -> pygit2.Commit | None:
    """Resolve a branch, a full ref below ``refs/`` or a whole commit id."""
    sha = branch_tip(git, name.removeprefix("heads/"))
    if sha is None and re.fullmatch(r"[0-9a-f]{40}", name):
        sha = name
    try:
        return None if sha is None else git[sha].peel(pygit2.Commit)
    except (KeyError, pygit2.InvalidSpecError):
        return None


REPOSITORY_ROUTES = (
    Route("GET", "", _get_repository),
    Route("GET", "/git/ref/heads/(.+)", _get_ref),
    Route("DELETE", "/git/refs/heads/(.+)", _delete_ref),
    Route("GET", "/branches/(.+)", _get_branch),
    Route("GET", r"/compare/(.+?)\.\.\.(.+)", _compare, query=frozenset({"page", "per_page"})),
    # The pages of a commit are pages of its files, which the answer leaves out.
    Route("GET", "/commits/(.+)", _get_commit, query=frozenset({"page", "per_page"})),
)
