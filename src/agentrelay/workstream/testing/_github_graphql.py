"""The two mutations of GitHub's GraphQL API that the double knows.

Errors come with status 200, as GitHub's do. Stricter than GitHub: the head must be named,
and a query other than these two fails the test.

Source:
    docs.github.com, "GraphQL mutations"; the refusal of auto-merge was recorded by
    PyGithub, the others are from reports of other clients' users.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from agentrelay.workstream.testing import _github_json as bodies
from agentrelay.workstream.testing._github_pull_json import pull_id
from agentrelay.workstream.testing._github_refusals import NotImplementedRouteError, RefusedError
from agentrelay.workstream.testing._github_routes import answer
from agentrelay.workstream.testing._github_rules import refuse_method, why_blocked
from agentrelay.workstream.testing._github_store import AutoMerge

if TYPE_CHECKING:
    from agentrelay.workstream.testing._github_store import HostedRepository, Pull, Store
    from agentrelay.workstream.testing._loopback_wire import Request, Response

__all__ = ["GRAPHQL_PATH", "answer_graphql"]

GRAPHQL_PATH: Final = re.compile(r"(/api)?/graphql")

_FIELDS: Final = {
    "enablePullRequestAutoMerge": (
        {"pullRequestId", "expectedHeadOid", "mergeMethod"},
        {"commitHeadline", "commitBody"},
    ),
    "enqueuePullRequest": ({"pullRequestId", "expectedHeadOid"}, set()),
}


def answer_graphql(store: Store, request: Request) -> Response:
    """Answer a mutation; hold the store's lock.

    Raises:
        NotImplementedRouteError: It is not one of the two, or says too little or too much.
        RefusedError: The body is not JSON.
    """
    try:
        sent: Any = json.loads(request.body)
    except ValueError:
        raise RefusedError.bad_json() from None
    query = sent.get("query") if isinstance(sent, dict) else None
    found = re.match(r"mutation\(\$input: (\w+)Input!\) \{ (\w+)\(input: \$input\)", str(query))
    name = "" if found is None else found[2]
    fields = sent.get("variables", {}).get("input", {}) if name else {}
    needed, allowed = _FIELDS.get(name, (set(), set()))
    is_whole = needed <= set(fields) <= needed | allowed
    if found is None or found[1].lower() != name.lower() or name not in _FIELDS or not is_whole:
        raise NotImplementedRouteError(f"the double has no such GraphQL request: {sent}")
    hosted, pull = _find(store, fields["pullRequestId"])
    if hosted is None or pull is None:
        return _refuse(name, "NOT_FOUND", "Could not resolve to a node with the global id.")
    hosted.refresh(hosted.open_git(), store.now())
    why = _why_not(name, hosted, pull, fields)
    if why is not None:
        return _refuse(name, "UNPROCESSABLE", why)
    if name == "enqueuePullRequest":
        pull.is_queued = True
        done: dict[str, Any] = {"mergeQueueEntry": {"id": f"MQE_{pull.number}", "state": "QUEUED"}}
    else:
        pull.automatic = AutoMerge(
            fields["mergeMethod"].lower(), fields.get("commitHeadline"), fields.get("commitBody")
        )
        done = {"pullRequest": {"number": pull.number}}
    return answer(200, {"data": {name: done}})


def _why_not(  # noqa: PLR0911 - one for each refusal
    name: str, hosted: HostedRepository, pull: Pull, fields: Any
) -> str | None:
    """Return why GitHub refuses, in its words."""
    if pull.state != "open":
        return "Pull request is closed"
    if fields["expectedHeadOid"] != pull.head_sha:
        return "Head sha didn't match the expected value"
    if name == "enqueuePullRequest":
        if not hosted.rules.has_queue:
            return "Pull request's base branch does not require merging with a merge queue"
        return "Pull request is already in the queue" if pull.is_queued else None
    if not hosted.rules.has_auto_merge:
        return "Pull request Auto merge is not allowed for this repository"
    if why_blocked(hosted, hosted.open_git(), pull) is None:
        return "Pull request is in clean status"
    try:
        refuse_method(hosted, fields["mergeMethod"].lower())
    except RefusedError as refused:
        return refused.message
    return None


def _find(store: Store, node_id: str) -> tuple[HostedRepository | None, Pull | None]:
    for hosted in store.all():
        for pull in hosted.pulls.values():
            if bodies.node_id("PR", pull_id(hosted, pull)) == node_id:
                return hosted, pull
    return None, None


def _refuse(name: str, kind: str, message: str) -> Response:
    error = {"type": kind, "path": [name], "message": message}
    return answer(200, {"data": {name: None}, "errors": [error]})
