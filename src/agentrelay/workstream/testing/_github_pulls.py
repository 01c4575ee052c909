"""The GitHub double's answers about pull requests."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from pygit2.enums import SortMode

from agentrelay.workstream.testing import _github_json as bodies
from agentrelay.workstream.testing import _github_lifecycle as lifecycle
from agentrelay.workstream.testing._github_merge import METHODS, commits_between
from agentrelay.workstream.testing._github_pull_json import full_pull, simple_pull
from agentrelay.workstream.testing._github_refusals import (
    NotImplementedRouteError,
    RefusedError,
)
from agentrelay.workstream.testing._github_routes import Call, Route, answer, find_commit
from agentrelay.workstream.testing._loopback_wire import Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrelay.workstream.testing._github_merge import MergeMethod
    from agentrelay.workstream.testing._github_store import HostedRepository, Pull

__all__ = ["PAGED", "PULL_ROUTES", "paginate", "pull_of"]

# GitHub's page sizes: 30 unless asked, 100 at most ("Using pagination in the REST API").
_PAGE: Final = 30
_PAGE_MAX: Final = 100

_NUMBER: Final = "/pulls/([0-9]+)"


def _list(call: Call) -> Response:
    query = call.query
    state = query.get("state", "open")
    _one_of("state", state, ("open", "closed", "all"))
    pulls = [pull for pull in call.hosted.pulls.values() if state in {pull.state, "all"}]
    head, base = query.get("head", ""), query.get("base")
    # Without an owner the filter is ignored, and everything comes back: so does GitHub.
    if ":" in head:
        owner, _, branch = head.partition(":")
        pulls = [pull for pull in pulls if pull.head == branch and _is_of(call, pull, owner)]
    if base is not None:
        pulls = [pull for pull in pulls if pull.base == base]
    pulls.sort(key=_order(query.get("sort", "created")))
    if query.get("direction", "desc" if query.get("sort", "created") == "created" else "asc") == (
        "desc"
    ):
        pulls.reverse()
    return paginate(call, pulls, lambda pull: simple_pull(call.urls, call.hosted, pull))


def _is_of(call: Call, pull: Pull, owner: str) -> bool:
    """Tell whether the filter by head finds a pull request under an owner.

    Source:
        peter-evans/create-pull-request, which works around it: a fork that has the same
        owner as the base is forgotten.
    """
    if pull.fork is None:
        return owner.lower() == call.hosted.owner.lower()
    theirs = pull.fork.owner.lower()
    return owner.lower() == theirs != call.hosted.owner.lower()


def _order(sort: str) -> Callable[[Pull], Any]:
    if sort == "created":
        return lambda pull: pull.number
    if sort == "updated":
        return lambda pull: (pull.updated_at, pull.number)
    raise NotImplementedRouteError(f"the double does not sort pull requests by {sort!r}")


def paginate(call: Call, items: list[Any], render: Callable[[Any], Any]) -> Response:
    """Return one page, with the addresses of the others in ``Link``.

    Source:
        "Using pagination in the REST API", docs.github.com; the addresses name the
        repository by its id, as GitHub's do.
    """
    size = min(_positive(call, "per_page", _PAGE), _PAGE_MAX)
    page = _positive(call, "page", 1)
    last = max(1, math.ceil(len(items) / size))
    wanted: dict[str, int] = {}
    if page > 1:
        wanted.update(first=1, prev=page - 1)
    if page < last:
        wanted.update(next=page + 1, last=last)
    address = f"{call.urls.api}/repositories/{call.hosted.repository_id}{call.path}"
    links = [
        f'<{address}?{urlencode({**call.query, "page": number})}>; rel="{name}"'
        for name, number in wanted.items()
    ]
    body = [render(item) for item in items[(page - 1) * size : page * size]]
    return answer(200, body, **({"link": ", ".join(links)} if links else {}))


def _positive(call: Call, name: str, default: int) -> int:
    """Read a number from the query; GitHub takes nonsense for the default."""
    text = call.query.get(name, "")
    return max(1, int(text)) if text.isdecimal() else default


def _create(call: Call) -> Response:
    missing = [name for name in ("head", "base") if name not in call.fields]
    if missing:
        raise RefusedError.not_supplied(missing)
    _texts(call, "title", "head", "head_repo", "base", "body")
    branch, fork = _head(call)
    pull = lifecycle.create(
        call.hosted,
        call.git,
        head=branch,
        fork=fork,
        base=call.fields["base"],
        title=call.fields.get("title") or "",
        body=call.fields.get("body"),
        author=call.login,
        draft=bool(call.fields.get("draft")),
        maintainer_can_modify=bool(call.fields.get("maintainer_can_modify")),
        now=call.store.now(),
    )
    body = full_pull(call.urls, call.hosted, pull, call.git)
    return answer(201, body, location=body["url"])


def _head(call: Call) -> tuple[str, HostedRepository | None]:
    """Return the head's branch and the fork that holds it, ``None`` for this repository.

    A branch nobody has stands for a fork nobody has.
    """
    owner, colon, branch = call.fields["head"].rpartition(":")
    name = call.fields.get("head_repo")
    owner = owner if colon else call.hosted.owner
    if name is not None:
        found = call.store.find_fork(call.hosted, f"{owner}/{name}")
    elif owner.lower() == call.hosted.owner.lower():
        found = call.hosted
    else:
        found = next(iter(call.store.forks_of_owner(call.hosted, owner)), None)
    if found is None:
        return "", None
    return branch, None if found is call.hosted else found


def _get(call: Call) -> Response:
    pull = pull_of(call)
    response = answer(200, full_pull(call.urls, call.hosted, pull, call.git))
    pull.probed = (pull.head_sha, pull.base_sha)
    return response


def _edit(call: Call) -> Response:
    pull = pull_of(call)
    _texts(call, "title", "state", "base", "body")
    if "state" in call.fields:
        _one_of("state", call.fields["state"], ("open", "closed"))
    lifecycle.edit(call.hosted, call.git, pull, call.fields, now=call.store.now())
    return answer(200, full_pull(call.urls, call.hosted, pull, call.git))


def _is_merged(call: Call) -> Response:
    if not pull_of(call).merged:
        raise RefusedError.not_found()
    return Response(204)


def _merge(call: Call) -> Response:
    pull = pull_of(call)
    _texts(call, "commit_title", "commit_message", "sha", "merge_method")
    method: MergeMethod = call.fields.get("merge_method") or "merge"
    _one_of("merge_method", method, METHODS)
    call.hosted.settings.check_method(method)
    sha = lifecycle.merge_pull(
        call.hosted,
        call.git,
        pull,
        method=method,
        head_sha=call.fields.get("sha"),
        title=call.fields.get("commit_title"),
        message=call.fields.get("commit_message"),
        now=call.store.now(),
    )
    message = "Pull Request successfully merged"
    return answer(200, {"sha": sha, "merged": True, "message": message})


def _commits(call: Call) -> Response:
    pull = pull_of(call)
    found = commits_between(call.git, pull.base_sha, pull.head_sha)
    return paginate(call, found, lambda one: bodies.commit(call.urls, call.hosted, one))


def _files(call: Call) -> Response:
    pull = pull_of(call)
    fork_point = call.git.merge_base(pull.base_sha, pull.head_sha)
    diff = call.git.diff(str(fork_point), pull.head_sha)
    entries = bodies.diff_entries(call.urls, call.hosted, diff, pull.head_sha)
    return paginate(call, entries, lambda entry: entry)


def _list_commits(call: Call) -> Response:
    """List the commits of a branch, or before a commit, newest first."""
    start = find_commit(call.git, call.query.get("sha", call.hosted.default_branch))
    if start is None:
        raise RefusedError.not_found()
    found = list(call.git.walk(start.id, SortMode.TOPOLOGICAL | SortMode.TIME))
    return paginate(call, found, lambda one: bodies.commit(call.urls, call.hosted, one))


def pull_of(call: Call) -> Pull:
    return call.hosted.pull(int(call.args[0]))


def _texts(call: Call, *names: str) -> None:
    """Refuse fields that are neither text nor null."""
    for name in names:
        value = call.fields.get(name)
        if value is not None and not isinstance(value, str):
            raise RefusedError.wrong_type(name, value, "a string")


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise RefusedError.wrong_type(name, value, f"a member of {list(allowed)!r}")


PAGED: Final = frozenset({"per_page", "page"})

PULL_ROUTES = (
    Route("GET", "/pulls", _list, query=PAGED | {"state", "head", "base", "sort", "direction"}),
    Route(
        "POST",
        "/pulls",
        _create,
        fields=frozenset(
            {"title", "head", "head_repo", "base", "body", "draft", "maintainer_can_modify"}
        ),
    ),
    Route("GET", _NUMBER, _get),
    Route(
        "PATCH",
        _NUMBER,
        _edit,
        fields=frozenset({"title", "body", "state", "base", "maintainer_can_modify"}),
    ),
    Route("GET", f"{_NUMBER}/merge", _is_merged),
    Route(
        "PUT",
        f"{_NUMBER}/merge",
        _merge,
        fields=frozenset({"commit_title", "commit_message", "sha", "merge_method"}),
    ),
    Route("GET", f"{_NUMBER}/commits", _commits, query=PAGED),
    Route("GET", f"{_NUMBER}/files", _files, query=PAGED),
    Route("GET", "/commits", _list_commits, query=PAGED | {"sha"}),
)
