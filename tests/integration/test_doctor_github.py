"""The doctor on credential and GitHub: what a token may do, as far as it shows."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentrelay.workstream.testing import Fault
from tests.integration._doctor import ask, levels, problems, set_url, skipped

if TYPE_CHECKING:
    from agentrelay.workstream.testing import World

_OF_THE_API = {
    "github-repository",
    "push-permission",
    "pull-permission",
    "token-expiry",
    "merge-methods",
    "target-protection",
    "rate-limit",
}


# -- the credential


def test_a_credential_is_named_by_its_place_and_kind(
    agentrelay_world: World, cloned_repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never by its value, be it good or bad."""
    missing = ask(agentrelay_world, cloned_repo, token=None)
    assert {"credential", "remote-read", "api"} == problems(missing)
    assert "GH_ENTERPRISE_TOKEN" in str(missing["credential"].fix)
    monkeypatch.setenv("GH_ENTERPRISE_TOKEN", "github_pat_0123456789abcdef")
    found = ask(agentrelay_world, cloned_repo, token=None)["credential"]
    assert found.level.value == "ok"
    assert "environment variable GH_ENTERPRISE_TOKEN" in found.sentence
    assert "a fine-grained personal token" in found.sentence
    assert "0123456789" not in found.sentence
    bad = ask(agentrelay_world, cloned_repo, token="two words-of-a-secret")
    assert "credential" in problems(bad)
    assert not any("words-of" in f"{one.sentence}{one.fix}" for one in bad.values())


def test_without_a_github_the_gits_own_host_is_looked_up(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """A remote that is no GitHub still has a credential, or none."""
    set_url(cloned_repo, agentrelay_world.remote_url.replace("octo/", "a/b/octo/"))
    found = ask(agentrelay_world, cloned_repo, api_url=None, full_name=None)
    assert problems(found) == {"github-address", "remote-read"}
    assert levels(found, "credential") == ["ok"]


def test_a_token_that_anybody_is_let_in_without_may_be_missing(tmp_path: Path) -> None:
    """GitHub shows nobody a role; what a token may do is then not checked."""
    from agentrelay.workstream.testing import World

    with World(tmp_path, token=None) as world:
        found = ask(world, world.clone(), token=None)
    assert problems(found) == {"credential"}
    assert skipped(found) == {"push-permission", "pull-permission", "token-expiry"}


# -- what it may do


@pytest.mark.parametrize(
    ("scopes", "private", "expected"),
    [
        (("repo", "read:org"), True, "ok"),
        (("public_repo",), False, "ok"),
        (("public_repo",), True, "problem"),
        (("read:org",), False, "problem"),
        ((), False, "problem"),
    ],
)
def test_a_classic_tokens_scopes_decide(
    agentrelay_world: World,
    cloned_repo: Path,
    scopes: tuple[str, ...],
    private: bool,  # noqa: FBT001 - a table
    expected: str,
) -> None:
    """``repo`` does for all, ``public_repo`` for public ones."""
    agentrelay_world.github.token_traits.scopes = scopes
    agentrelay_world.github.settings.is_private = private
    found = ask(agentrelay_world, cloned_repo)
    assert levels(found, "push-permission", "pull-permission") == [expected] * 2


def test_a_user_who_may_not_push_is_a_problem_whatever_the_token(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """A classic token may still open pull requests; of another it does not show."""
    github = agentrelay_world.github
    github.settings.may_push = False
    github.token_traits.scopes = ("repo",)
    found = ask(agentrelay_world, cloned_repo)
    assert problems(found) == {"push-permission"}
    assert levels(found, "pull-permission") == ["ok"]
    github.token_traits.scopes = None
    found = ask(agentrelay_world, cloned_repo)
    assert problems(found) == {"push-permission"}
    assert "Pull requests" in str(found["pull-permission"].fix)


def test_an_apps_token_may_do_what_it_was_minted_for(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """The role GitHub shows such a token means nothing and is not believed."""
    app = agentrelay_world.github_app()
    found = ask(agentrelay_world, cloned_repo, token=app)
    assert problems(found) == set()
    assert levels(found, "push-permission", "pull-permission", "token-expiry") == ["ok"] * 3
    assert "pull_requests: write" in found["pull-permission"].sentence
    value = app.token_for("127.0.0.1", "/octo/widgets.git").reveal()
    plain = ask(agentrelay_world, cloned_repo, token=value)
    assert skipped(plain) == {"push-permission", "pull-permission"}
    lesser = agentrelay_world.github_app()
    lesser.permissions["pull_requests"] = "read"
    found = ask(agentrelay_world, cloned_repo, token=lesser)
    assert problems(found) == {"pull-permission"}


def test_an_app_that_gets_no_token_is_a_problem_of_the_credential(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """GitHub's own reason is passed on."""
    app = agentrelay_world.github_app(permissions={"contents": "read"})
    found = ask(agentrelay_world, cloned_repo, token=app)
    assert problems(found) == {"credential", "remote-read", "api"}


@pytest.mark.parametrize(
    ("days", "expected"), [(None, "ok"), (90, "ok"), (3, "note")], ids=["never", "late", "soon"]
)
def test_a_token_that_expires_soon_is_a_note(
    agentrelay_world: World, cloned_repo: Path, days: int | None, expected: str
) -> None:
    """A week is time enough to make another."""
    if days is not None:
        expires_at = datetime.now(UTC) + timedelta(days=days)
        agentrelay_world.github.token_traits.expires_at = expires_at
    assert levels(ask(agentrelay_world, cloned_repo), "token-expiry") == [expected]


@pytest.mark.parametrize(
    "value",
    [
        "soon",
        "2026-99-99 00:00:00 UTC",
        "9999-12-31 23:59:59 -1200",
        "0001-01-01 00:00:00 +1200",
    ],
)
def test_an_expiry_that_cannot_be_read_is_none(
    agentrelay_world: World, cloned_repo: Path, value: str
) -> None:
    """Nothing is made up from it; an offset in the place of UTC is understood."""
    body = _body(agentrelay_world)
    for text, expected in ((value, "ok"), ("2020-01-01 00:00:00 -0500", "note")):
        headers = [("github-authentication-token-expiration", text), ("date", "not a date")]
        fault = Fault.status(200, body=body, headers=headers, path="widgets$")
        agentrelay_world.github.faults.add(fault)
        found = ask(agentrelay_world, cloned_repo)
        assert levels(found, "token-expiry") == [expected]
        assert {"clock", "rate-limit", "merge-methods"} <= skipped(found)


def _body(world: World, **more: Any) -> str:
    import json

    return json.dumps({"full_name": world.full_name, **more})


# -- the repository and the server


def test_a_repository_that_takes_no_changes_is_a_problem(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """Archived or switched off, it can be read, and that is all."""
    settings = agentrelay_world.github.settings
    settings.is_archived = True
    found = ask(agentrelay_world, cloned_repo)
    assert problems(found) == {"github-repository"}
    assert "archived" in found["github-repository"].sentence
    settings.is_archived, settings.is_disabled = False, True
    assert problems(ask(agentrelay_world, cloned_repo)) == {"github-repository"}


def test_a_repository_that_answers_by_another_name_is_a_note(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """Somewhere a redirect was followed; the remote's address should be mended."""
    fault = Fault.status(200, body='{"full_name": "octo/gadgets"}', path="widgets$")
    agentrelay_world.github.faults.add(fault)
    found = ask(agentrelay_world, cloned_repo)
    assert levels(found, "github-repository") == ["note"]
    assert "octo/gadgets" in found["github-repository"].sentence


def test_a_server_that_repeats_the_token_does_not_get_it_shown(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """Whatever an answer says, the token that was found is masked in every finding."""
    assert agentrelay_world.token is not None
    body = f'{{"full_name": "octo/{agentrelay_world.token}"}}'
    agentrelay_world.github.faults.add(Fault.status(200, body=body, path="widgets$"))
    found = ask(agentrelay_world, cloned_repo)
    assert "is called octo/*** now" in found["github-repository"].sentence
    assert not any(agentrelay_world.token in f"{one}" for one in found.values())


def test_merge_methods_and_protection_are_told(agentrelay_world: World, cloned_repo: Path) -> None:
    """They are nobody's fault: a reader wants to know them."""
    settings = agentrelay_world.github.settings
    settings.merge_methods = {"squash"}
    settings.protected_branches = {"main"}
    found = ask(agentrelay_world, cloned_repo)
    assert problems(found) == set()
    assert found["merge-methods"].sentence.endswith(": squash")
    assert "is protected" in found["target-protection"].sentence
    settings.merge_methods = set()
    assert "not at all" in ask(agentrelay_world, cloned_repo)["merge-methods"].sentence
    for code in (403, 500):
        agentrelay_world.github.faults.add(Fault.status(code, path="/branches/", times=9))
        found = ask(agentrelay_world, cloned_repo)
        assert problems(found) == {"target-protection"}
        agentrelay_world.github.clear()


def test_few_requests_left_are_a_note(tmp_path: Path) -> None:
    """The quota is read from the answer, and not asked for."""
    from agentrelay.workstream.testing import GitHubServer, World

    with (
        World(tmp_path / "world") as world,
        GitHubServer(world.remote_path, token=world.token, rate_limit=50) as scarce,
    ):
        repo = world.clone()
        found = ask(world, repo, api_url=scarce.api_url)
        assert levels(found, "rate-limit") == ["note"]
        assert "49 requests are left of 50" in found["rate-limit"].sentence
        body, headers = _body(world), [("x-ratelimit-remaining", "4000")]
        scarce.faults.add(Fault.status(200, body=body, headers=headers, path="widgets$"))
        found = ask(world, repo, api_url=scarce.api_url)
        assert found["rate-limit"].sentence == "4000 requests are left"


@pytest.mark.parametrize(
    ("ahead_s", "expected", "side"),
    [(0, "ok", ""), (120, "note", "behind"), (-120, "note", "ahead"), (-900, "problem", "ahead")],
)
def test_a_clock_that_is_off_is_told(
    agentrelay_world: World, cloned_repo: Path, ahead_s: int, expected: str, side: str
) -> None:
    """A minute is worth a note; with five, signed tokens are about to be refused."""
    agentrelay_world.github.apps.clock_ahead_s = ahead_s
    found = ask(agentrelay_world, cloned_repo)["clock"]
    assert found.level.value == expected
    assert side in found.sentence


def test_the_clock_is_told_from_a_refusal_too(agentrelay_world: World, cloned_repo: Path) -> None:
    """It may be what the token was refused for."""
    late = ask(agentrelay_world, cloned_repo, token="wrong-token", clock=lambda: time.time() + 3600)
    assert {"api", "clock"} <= problems(late)


@pytest.mark.parametrize(
    "fault",
    [Fault.html(), Fault.status(503), Fault.status(200, body="[]"), Fault.drop_answer()],
    ids=["portal", "outage", "list", "drop"],
)
def test_an_api_that_gives_no_answer_leaves_the_rest_standing(
    agentrelay_world: World, cloned_repo: Path, fault: Fault
) -> None:
    """Nothing is concluded from it, about the token or anything else."""
    from dataclasses import replace

    agentrelay_world.github.faults.add(replace(fault, times=99))
    found = ask(agentrelay_world, cloned_repo)
    assert problems(found) == {"api"}
    assert skipped(found) >= _OF_THE_API
    assert levels(found, "remote-read", "remote-push", "credential") == ["ok"] * 3
