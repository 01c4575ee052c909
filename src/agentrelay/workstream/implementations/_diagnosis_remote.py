"""Looking at the remote: its address, the way to it, and what it says it has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from agentrelay.workstream._git import inspection
from agentrelay.workstream._git.exchange import Endpoint
from agentrelay.workstream._git.remotes import RemoteAccess, RemoteEnd, open_remote
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream.credentials import find_ssh_keys, has_ssh_agent, knows_host
from agentrelay.workstream.implementations._diagnosis_repository import look as look_at_repository

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentrelay.workstream.implementations._diagnosis import Question, Sheet

__all__ = ["look", "look_at_heads"]

_SSH: Final = frozenset({"ssh", "git+ssh", "ssh+git"})
# git(1), "ENVIRONMENT": what names a program, or configuration libgit2 does not read.
_IGNORED_VARIABLES: Final = ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_CONFIG_COUNT")
_MOST_NAMED: Final = 5


def look(sheet: Sheet, question: Question) -> RemoteEnd | None:
    """Look at the repository and at the remote it has, without talking to anybody.

    Returns:
        The remote, or ``None`` where there is none that could be used.
    """
    repository = look_at_repository(sheet, question)
    if repository is None:
        return None
    sheet.attempt("ignored-settings", lambda: _look_at_ignored(sheet, repository))
    end = sheet.attempt("remote", lambda: _find_remote(sheet, question, repository))
    if end is None:
        sheet.skip(["ssh-key", "ssh-host"], "it takes a remote that is configured")
        return None
    over_ssh = [Endpoint.of(url) for url in (end.url, end.push_url) if _is_ssh(url)]
    if not over_ssh:
        sheet.ok("ssh-key", "the remote is not reached by ssh")
        sheet.ok("ssh-host", "the remote is not reached by ssh")
        return end
    sheet.attempt("ssh-key", lambda: _look_at_keys(sheet, question))
    sheet.attempt("ssh-host", lambda: _look_at_hosts(sheet, over_ssh))
    return end


def look_at_heads(sheet: Sheet, question: Question, end: RemoteEnd) -> None:
    """Ask the remote for its refs, as before a fetch and as before a push."""

    def read() -> dict[str, str]:
        found = end.list_heads("fetch")
        count = sum(ref.startswith("refs/heads/") for ref in found)
        branches = "1 branch" if count == 1 else f"{count} branches"
        sheet.ok("remote-read", f"'{end.url}' answers, and has {branches}")
        return found

    def push() -> None:
        end.list_heads("push")
        sheet.ok(
            "remote-push",
            f"'{end.push_url}' lets this credential push; what its rules say of single branches "
            "only a push tells",
        )

    heads = sheet.attempt("remote-read", read)
    if heads is None:
        why = f"'{question.remote}' gave no list of its branches"
        sheet.skip(["base-branch", "merge-target"], why)
        if end.push_url == end.url:
            sheet.skip(["remote-push"], why)
            return
    sheet.attempt("remote-push", push)
    if heads is not None:
        _look_at_branches(sheet, question, end, heads)


def _find_remote(sheet: Sheet, question: Question, repository: OpenRepository) -> RemoteEnd:
    access = RemoteAccess(
        question.remote, question.token, question.ssh_key, deadline_s=question.network_timeout_s
    )
    end = open_remote(repository, access)
    _look_at_address(sheet, end)
    return end


def _is_ssh(url: str) -> bool:
    """Tell an ssh address, git's short form included, from all others and from paths."""
    scheme, separator, _ = url.partition("://")
    return scheme in _SSH if separator else ":" in url.partition("/")[0]


def _look_at_address(sheet: Sheet, end: RemoteEnd) -> None:
    remote = end.access.remote
    raw = inspection.raw_urls(end.repository, remote)
    rewriting = inspection.rewrites(end.repository, raw)
    said = f"'{remote}' is '{end.url}'"
    if end.push_url != end.url:
        said += f", and '{end.push_url}' for pushing"
    if rewriting:
        said += f", as {rewriting[0]} makes of it"
    if any(map(_holds_password, (*raw, *rewriting))):
        sheet.note(
            "remote",
            f"{said}; the configuration holds a password or token in that address, where every "
            "agent can read it",
            f"Run 'git remote set-url {remote}' with an address without it, and give the token in "
            "another way.",
        )
    else:
        sheet.ok("remote", said)


def _holds_password(url: str) -> bool:
    try:
        return urlsplit(url).password is not None
    except ValueError:
        return False


def _look_at_ignored(sheet: Sheet, repository: OpenRepository) -> None:
    """Name what would help git and does not help lanes; whatever it is set to stays unsaid."""
    environ: Mapping[str, str] = os.environ
    found = [*inspection.ignored_settings(repository)]
    found += [name for name in _IGNORED_VARIABLES if environ.get(name)]
    if not found:
        sheet.ok("ignored-settings", "nothing is configured for git that lanes would ignore")
        return
    more = len(found) - _MOST_NAMED
    names = ", ".join(found[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    sheet.note(
        "ignored-settings",
        f"git heeds these and lanes do not, as they start no program: {names}",
        "If the remote needs one of them, give lanes what it gives git: a token, an ssh key, or "
        "a CA bundle in SSL_CERT_FILE.",
    )


def _look_at_keys(sheet: Sheet, question: Question) -> None:
    keys = find_ssh_keys(key=question.ssh_key)
    sources = [key.source for key in keys]
    if question.ssh_key is None and has_ssh_agent():
        sources.insert(0, "the ssh agent")
    if sources:
        sheet.ok("ssh-key", f"keys come from {', '.join(sources)}; none was opened")
        return
    sheet.problem(
        "ssh-key",
        "the remote is reached by ssh, and there is neither an agent nor a key file",
        "Load a key into the ssh agent, put one at ~/.ssh/id_ed25519, or name one; "
        "~/.ssh/config is not read.",
    )


def _look_at_hosts(sheet: Sheet, endpoints: list[Endpoint]) -> None:
    for endpoint in endpoints:
        if not knows_host(endpoint.host, endpoint.port or 22):
            sheet.problem(
                "ssh-host",
                f"~/.ssh/known_hosts has no key of '{endpoint.name}', so it will be refused",
                "Add the host's key, after comparing it with what its owner publishes.",
            )
            return
    sheet.ok("ssh-host", f"~/.ssh/known_hosts has a key of '{endpoints[0].name}'")


def _look_at_branches(
    sheet: Sheet, question: Question, end: RemoteEnd, heads: Mapping[str, str]
) -> None:
    base, target = question.base_branch, question.merge_target_branch

    def look_at_base() -> None:
        if f"refs/heads/{base}" in heads:
            sheet.ok("base-branch", f"the remote has '{base}'")
        elif end.repository.resolve(f"refs/heads/{base}") is not None:
            sheet.note(
                "base-branch",
                f"'{base}' exists here and not at the remote; lanes will be cut from it",
                f"Push '{base}', so that reviewers see what a lane starts from.",
            )
        else:
            sheet.problem(
                "base-branch",
                f"'{base}' exists neither at the remote nor here",
                "Create and push it, or name another base branch.",
            )

    sheet.attempt("base-branch", look_at_base)
    if f"refs/heads/{target}" in heads:
        sheet.ok("merge-target", f"the remote has '{target}'")
    else:
        sheet.problem(
            "merge-target",
            f"the remote has no branch '{target}', so nothing can be merged into it",
            "Create and push it, or name another merge target.",
        )
