"""Looking at GitHub: the address, the credential, and what its API says about both."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from agentrelay.workstream.credentials import (
    Credential,
    canonical_host,
    describe_search,
    find_credential,
)
from agentrelay.workstream.errors import WorkstreamError
from agentrelay.workstream.implementations._access import ApiAccess
from agentrelay.workstream.implementations.github_app import GitHubApp

if TYPE_CHECKING:
    from agentrelay.workstream._github.address import GitHubAddress
    from agentrelay.workstream._github.client import GitHubClient
    from agentrelay.workstream._github.inspection import RepositoryFacts
    from agentrelay.workstream.implementations._diagnosis import Question, Sheet

__all__ = ["API_ANSWERS", "look", "look_at_address", "look_for_credential"]

# What the API's answer tells.
API_ANSWERS: Final = (
    "github-repository",
    "push-permission",
    "pull-permission",
    "token-expiry",
    "merge-methods",
    "target-protection",
    "rate-limit",
)

# GitHub refuses an app's signed token that is ten minutes off; half of that leaves room
# for a clock that drifts. A minute confuses logs and nobody else.
_WRONG_S: Final = 300.0
_OFF_S: Final = 60.0
# A Date header names the second that has begun.
_HALF_A_SECOND: Final = 0.5
_WEEK_DAYS: Final = 7
# A lane takes about ten requests in its life.
_FEW_REQUESTS: Final = 100

# docs.github.com, "GitHub's token formats".
_KINDS: Final = {
    "ghp_": "a classic personal token",
    "github_pat_": "a fine-grained personal token",
    "gho_": "a token of an OAuth app",
    "ghu_": "a user's token of a GitHub App",
    "ghs_": "an installation token of a GitHub App or of GitHub Actions",
}


def look_at_address(sheet: Sheet, question: Question, remote_url: str) -> GitHubAddress | None:
    """Read which repository at which GitHub the remote is, or the settings say."""
    name = "github-address"
    if not remote_url and None in {question.api_url, question.full_name}:
        sheet.skip([name], "it takes a remote that is configured")
        return None

    def read() -> GitHubAddress:
        address = ApiAccess(None, question.api_url, question.full_name).address(remote_url)
        sheet.ok(name, f"pull requests go to {address.full_name} at {address.api_url}")
        return address

    return sheet.attempt(name, read)


def look_for_credential(
    sheet: Sheet, question: Question, address: GitHubAddress | None, remote_url: str
) -> Credential | None:
    """Find the token, as a lane would, and say where it comes from; never what it is."""
    name = "credential"
    if address is not None:
        host, path = address.host, address.full_name
    elif remote_url.startswith(("http://", "https://")):
        parts = urlsplit(remote_url)
        host, path = canonical_host(parts.netloc), parts.path
    else:
        sheet.skip([name], "no address says for which host")
        return None

    def find() -> Credential | None:
        found = find_credential(host, path=path, token=question.token)
        if found is None:
            search = describe_search(host, token=question.token)
            sheet.problem(name, f"there is no token for {host}", f"Give one; {search}.")
            return None
        secret = found.secret.reveal()
        sheet.secrets.add(secret)
        kinds = (kind for prefix, kind in _KINDS.items() if secret.startswith(prefix))
        kind = next(kinds, "a token of a kind that does not show")
        sheet.ok(name, f"{kind} for {host}, from {found.source}")
        return found

    return sheet.attempt(name, find)


def look(
    sheet: Sheet, question: Question, address: GitHubAddress, credential: Credential | None
) -> None:
    """Ask GitHub for the repository and for the merge target, once each."""
    from agentrelay.workstream._github.inspection import read_repository, served_at_of

    if credential is None:
        sheet.skip(["push-permission", "pull-permission", "token-expiry"], "there is no token")
    api = ApiAccess(question.token, question.api_url, question.full_name, question.api_timeout_s)
    with api.impatient().client(address) as client:
        asked_at = question.clock()
        try:
            facts = read_repository(client)
        except WorkstreamError as error:
            sheet.failed("api", error)
            served_at = served_at_of(error)
            _look_at_clock(sheet, served_at, asked_at, question.clock)
            sheet.skip(API_ANSWERS, "GitHub's API gave no answer that could be used")
            return
        _look_at_clock(sheet, facts.served_at, asked_at, question.clock)
        sheet.ok("api", f"{address.api_url} answers")
        _look_at_repository(sheet, address, facts)
        if credential is not None:
            _look_at_permissions(sheet, facts, credential)
            _look_at_expiry(sheet, facts, credential, question.clock())
        _look_at_methods(sheet, facts)
        _look_at_rate(sheet, facts)
        target = question.merge_target_branch
        sheet.attempt("target-protection", lambda: _look_at_target(sheet, client, target))


def _look_at_clock(
    sheet: Sheet, served_at: datetime | None, asked_at: float, clock: Callable[[], float]
) -> None:
    if served_at is None:
        sheet.skip(["clock"], "GitHub did not say what time it is")
        return
    here = (asked_at + clock()) / 2
    off_s = here - served_at.timestamp() - _HALF_A_SECOND
    side = "ahead of" if off_s > 0 else "behind"
    sentence = f"this machine's clock is {abs(off_s):.0f} s {side} GitHub's"
    fix = "Set the clock, or let it be kept by NTP."
    if abs(off_s) > _WRONG_S:
        sheet.problem("clock", f"{sentence}: an app's signed tokens may be refused", fix)
    elif abs(off_s) > _OFF_S:
        sheet.note("clock", sentence, fix)
    else:
        sheet.ok("clock", "this machine's clock and GitHub's agree within a minute")


def _look_at_repository(sheet: Sheet, address: GitHubAddress, facts: RepositoryFacts) -> None:
    name = "github-repository"
    if facts.is_archived or facts.is_disabled:
        state = "archived, and read-only" if facts.is_archived else "disabled by GitHub"
        fix = "Unarchive it in its settings." if facts.is_archived else "Ask its owner."
        sheet.problem(name, f"{facts.full_name} is {state}", fix)
    elif facts.full_name.lower() != address.full_name.lower():
        sheet.note(
            name,
            f"{address.full_name} is called {facts.full_name} now",
            "Change the remote's URL.",
        )
    else:
        sheet.ok(name, f"{facts.full_name} is there, and takes changes")


def _look_at_permissions(sheet: Sheet, facts: RepositoryFacts, credential: Credential) -> None:
    """Say what the token may do, from its own rights where they show, else from its role."""
    push, pull = "push-permission", "pull-permission"
    if isinstance(credential.provider, GitHubApp):
        granted = credential.provider.permissions
        said = ", ".join(f"{name}: {level}" for name, level in sorted(granted.items()))
        for name, key in ((push, "contents"), (pull, "pull_requests")):
            if granted.get(key) == "write":
                sheet.ok(name, f"the app's token was minted with {said}")
            else:
                fix = f"Let the app have '{key}: write'."
                sheet.problem(name, f"the app's token was minted with {said} only", fix)
        return
    if facts.scopes is not None:
        wanted = {"repo"} if facts.is_private else {"repo", "public_repo"}
        said = ", ".join(facts.scopes) or "none"
        if not wanted & set(facts.scopes):
            for name in (push, pull):
                fix = "Give the token the scope 'repo', or use a fine-grained one."
                sheet.problem(name, f"the token's scopes do not do: {said}", fix)
            return
        sheet.ok(pull, f"the token's scopes do: {said}")
        if facts.may_push is not False:
            sheet.ok(push, f"the token's scopes do: {said}; and its user may push")
            return
    if facts.may_push is False and not credential.secret.reveal().startswith("ghs_"):
        sheet.problem(
            push,
            "the user behind the token may not push to this repository",
            "Let the user have the role 'Write', or use another user's token.",
        )
    else:
        said = "not checked: GitHub does not show what such a token may do"
        sheet.note(push, said, "See remote-push, which asked git's side.")
    if facts.scopes is None:
        said = "not checked: GitHub shows only when one is opened whether such a token may"
        sheet.note(pull, said, "Let the token have 'Pull requests: read and write'.")


def _look_at_expiry(
    sheet: Sheet, facts: RepositoryFacts, credential: Credential, now_s: float
) -> None:
    name = "token-expiry"
    if credential.provider is not None:
        sheet.ok(name, f"{credential.source} renews its tokens in time")
        return
    if facts.expires_at is None:
        sheet.ok(name, "GitHub names no day on which the token expires")
        return
    left = facts.expires_at - datetime.fromtimestamp(now_s, UTC)
    sentence = f"the token expires on {facts.expires_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if left.days < _WEEK_DAYS:
        sheet.note(name, f"{sentence}, in less than a week", "Make a new one in time.")
    else:
        sheet.ok(name, sentence)


def _look_at_methods(sheet: Sheet, facts: RepositoryFacts) -> None:
    name = "merge-methods"
    if facts.merge_methods is None:
        sheet.skip([name], "GitHub tells it only those who may push")
    else:
        said = ", ".join(facts.merge_methods) or "not at all"
        sheet.ok(name, f"pull requests may be merged by: {said}")


def _look_at_rate(sheet: Sheet, facts: RepositoryFacts) -> None:
    name = "rate-limit"
    if facts.requests_left is None:
        sheet.skip([name], "GitHub did not say how many requests are left")
        return
    sentence = f"{facts.requests_left} requests are left"
    if facts.requests_limit is not None:
        sentence += f" of {facts.requests_limit} an hour"
    if facts.requests_left < _FEW_REQUESTS:
        sheet.note(name, f"{sentence}, enough for a few lanes", "Wait for the next hour.")
    else:
        sheet.ok(name, sentence)


def _look_at_target(sheet: Sheet, client: GitHubClient, branch: str) -> None:
    from agentrelay.workstream._github.inspection import is_protected

    name = "target-protection"
    protected = is_protected(client, branch)
    if protected is None:
        sheet.skip([name], f"GitHub knows no branch '{branch}'")
    elif protected:
        sheet.ok(name, f"'{branch}' is protected: its rules decide when a lane can be merged")
    else:
        sheet.ok(name, f"'{branch}' is not protected")
