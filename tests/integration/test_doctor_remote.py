"""The doctor on the way to the remote: address, ssh, proxy, certificates, what it answers."""

from __future__ import annotations

import base64
import hmac
import os
import socket
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import certifi
import pygit2
import pytest

from agentrelay.workstream.credentials import knows_host
from agentrelay.workstream.testing import commit_files
from tests._ports import closed_port
from tests.integration._doctor import ask, levels, problems, set_url, skipped

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from agentrelay.workstream.testing import World

_HEADS = {"remote-read", "remote-push", "base-branch", "merge-target"}


def _config(repo: Path) -> pygit2.Config:
    return pygit2.Repository(str(repo)).config


# -- what is configured


def test_a_remote_that_is_not_configured_is_a_problem(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """What would be asked of it is not checked; with both settings GitHub still is."""
    found = ask(agentrelay_world, cloned_repo, remote="upstream")
    assert problems(found) == {"remote"}
    assert skipped(found) >= _HEADS | {"ssh-key", "ssh-host"}
    assert levels(found, "api", "credential") == ["ok", "ok"]
    lost = ask(agentrelay_world, cloned_repo, remote="upstream", full_name=None)
    assert problems(lost) == {"remote"}
    assert skipped(lost) >= {"github-address", "credential", "api", "clock", "rate-limit"}


def test_an_address_is_shown_as_it_is_rewritten_and_without_its_password(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """``insteadOf`` and ``pushurl`` are said; a password in the configuration is a note."""
    url = agentrelay_world.remote_url
    base = url.removesuffix("widgets.git")
    short = base.replace("/octo/", "/short/")
    _config(cloned_repo)[f"url.{base}.insteadOf"] = short
    set_url(cloned_repo, f"{short}widgets.git")
    found = ask(agentrelay_world, cloned_repo)
    assert problems(found) == set()
    assert url in found["remote"].sentence
    assert "insteadof makes of it" in found["remote"].sentence
    # A rule of the repository's own that leads to another host is not followed.
    _config(cloned_repo)[f"url.{base}.insteadOf"] = "short:"
    set_url(cloned_repo, "short:widgets.git")
    assert "to another host" in ask(agentrelay_world, cloned_repo)["remote"].sentence
    set_url(cloned_repo, url)
    secret = url.replace("://", "://robin:hunter2-hunter2@").removesuffix(".git")
    _config(cloned_repo)["remote.origin.pushurl"] = secret
    found = ask(agentrelay_world, cloned_repo)
    assert levels(found, "remote") == ["note"]
    assert "for pushing" in found["remote"].sentence
    assert not any("hunter2" in f"{one.sentence}{one.fix}" for one in found.values())
    assert "set-url" in str(found["remote"].fix)
    _config(cloned_repo)["remote.origin.pushurl"] = "http://[::1/octo/widgets"
    assert levels(ask(agentrelay_world, cloned_repo), "remote") == ["ok"]


def test_settings_that_only_git_heeds_are_named_and_not_shown(
    agentrelay_world: World, cloned_repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credential helpers, headers, ssh commands: somebody will wonder why they do not help."""
    config = _config(cloned_repo)
    config["credential.helper"] = "store --file=hunter2"
    config["http.https://ghe.example/.extraheader"] = "Authorization: hunter2"
    config["core.sshCommand"] = "ssh -i hunter2"
    config["http.sslVerify"] = "false"
    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -i hunter2")
    monkeypatch.setenv("GIT_ASKPASS", "hunter2")
    found = ask(agentrelay_world, cloned_repo)["ignored-settings"]
    assert found.level.value == "note"
    for name in ("credential.helper", "extraheader", "core.sshcommand", "and 1 more"):
        assert name in found.sentence
    assert "hunter2" not in f"{found.sentence}{found.fix}"
    monkeypatch.delenv("GIT_SSH_COMMAND")
    monkeypatch.delenv("GIT_ASKPASS")
    clean = ask(agentrelay_world, agentrelay_world.clone("clean"))
    assert levels(clean, "ignored-settings") == ["ok"]


# -- ssh


def _known(name: str) -> str:
    """Return a name as ``HashKnownHosts`` writes it."""
    salt = b"0123456789abcdef0123"
    digest = hmac.digest(salt, name.encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def _ssh_dir() -> Path:
    path = Path(os.environ["HOME"]) / ".ssh"
    path.mkdir(exist_ok=True)
    return path


def test_ssh_takes_a_key_and_a_known_host(agentrelay_world: World, cloned_repo: Path) -> None:
    """Each that lacks is a problem of its own; neither is used to find out."""
    port = closed_port()
    set_url(cloned_repo, f"ssh://git@127.0.0.1:{port}/octo/widgets.git")
    found = ask(agentrelay_world, cloned_repo)
    assert problems(found) == {"ssh-key", "ssh-host", "remote-read"}
    assert str(port) in found["ssh-host"].sentence
    (_ssh_dir() / "id_ed25519").write_text("no key at all")
    (_ssh_dir() / "known_hosts").write_text(f"[127.0.0.1]:{port} ssh-ed25519 AAAA\n")
    found = ask(agentrelay_world, cloned_repo)
    assert problems(found) == {"remote-read"}
    assert "~/.ssh/id_ed25519" in found["ssh-key"].sentence


def test_an_agent_or_a_named_key_will_do(
    agentrelay_world: World, cloned_repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The agent is not asked, and a key that is named must be there."""
    set_url(cloned_repo, f"ssh://git@127.0.0.1:{closed_port()}/octo/widgets.git")
    monkeypatch.chdir(tmp_path)  # the path of a socket may have about 100 bytes only
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind("agent")
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        found = ask(agentrelay_world, cloned_repo)
    assert levels(found, "ssh-key") == ["ok"]
    assert "agent" in found["ssh-key"].sentence
    gone = ask(agentrelay_world, cloned_repo, ssh_key=tmp_path / "gone")
    assert {"ssh-key", "remote-read"} <= problems(gone)
    assert "gone" in gone["ssh-key"].sentence


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("git.example ssh-ed25519 AAAA", True),
        ("other,git.example ssh-ed25519 AAAA", True),
        ("GIT.example ssh-ed25519 AAAA", True),
        (f"{_known('git.example')} ssh-ed25519 AAAA", True),
        (f"{_known('other.example')} ssh-ed25519 AAAA", False),
        ("|1|!!!|??? ssh-ed25519 AAAA", False),
        ("|1| ssh-ed25519 AAAA", False),
        ("|1|A|B ssh-ed25519 AAAA", False),
        ("[git.example]:2222 ssh-ed25519 AAAA", False),
        ("# git.example ssh-ed25519 AAAA", False),
        ("@revoked git.example ssh-ed25519 AAAA", False),
        ("", False),
    ],
)
def test_a_known_host_is_found_as_ssh_writes_it(line: str, known: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a table
    """Plain, listed and hashed; comments, revoked keys and other ports do not count."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text(f"\n{line}\n")
    assert knows_host("git.example", home=tmp_path) is known
    assert knows_host("git.example", 2222, home=tmp_path) is (known or ":2222" in line)
    assert not knows_host("git.example", home=tmp_path / "nobody")


# -- proxies and certificates


def test_a_proxy_is_named_without_its_password(
    agentrelay_world: World, cloned_repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable and the host are told; the proxy that is not there is the remote's trouble."""
    proxy = f"127.0.0.1:{closed_port()}"
    monkeypatch.setenv("https_proxy", f"http://robin:hunter2-hunter2@{proxy}")
    set_url(cloned_repo, "https://ghe.invalid/octo/widgets.git")
    found = ask(agentrelay_world, cloned_repo, api_url=None, full_name=None)
    assert problems(found) == {"remote-read", "api"}
    for part in ("ghe.invalid", "https_proxy", proxy):
        assert part in found["proxy"].sentence
    assert not any("hunter2" in f"{one.sentence}{one.fix}" for one in found.values())
    for value in ("http://[half", "http://robin:hun/ter@host:1", "http://a@b@host"):
        monkeypatch.setenv("https_proxy", value)
        found = ask(agentrelay_world, cloned_repo, api_url=None, full_name=None)
        assert levels(found, "proxy") == ["problem"]
        assert value not in found["proxy"].sentence
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("https_proxy", "http://[half")
    found = ask(agentrelay_world, cloned_repo)
    assert "127.0.0.1 is reached directly" in found["proxy"].sentence


def test_a_certificate_bundle_must_be_there_and_hold_certificates(
    agentrelay_world: World,
    cloned_repo: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The variable is named; a file of something else is found before anybody connects."""
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    cases = [(tmp_path / "gone.pem", "problem"), (garbage, "problem"), (tmp_path, "ok")]
    for bundle, expected in [*cases, (Path(certifi.where()), "ok")]:
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
        found = ask(agentrelay_world, cloned_repo)["certificates"]
        assert found.level.value == expected
        assert "SSL_CERT_FILE" in found.sentence


def test_a_machine_without_certificates_is_a_note(
    agentrelay_world: World, cloned_repo: Path, mocker: MockerFixture
) -> None:
    """Those of the HTTP library stand in."""
    none = SimpleNamespace(cafile=None, capath="/nonexistent")
    mocker.patch.object(ssl, "get_default_verify_paths", return_value=none)
    found = ask(agentrelay_world, cloned_repo)
    assert levels(found, "certificates") == ["note"]


# -- what the remote answers


def test_a_remote_that_does_not_answer_leaves_the_rest_standing(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """It is asked once, and GitHub is asked all the same."""
    set_url(cloned_repo, f"http://127.0.0.1:{closed_port()}/octo/widgets.git")
    found = ask(agentrelay_world, cloned_repo)
    assert problems(found) == {"remote-read"}
    assert skipped(found) >= _HEADS - {"remote-read"}
    assert levels(found, "api", "github-repository") == ["ok", "ok"]


def test_two_addresses_are_asked_each_for_itself(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """What cannot be fetched from may still be pushed to, and the other way round."""
    set_url(cloned_repo, f"http://127.0.0.1:{closed_port()}/octo/widgets.git")
    _config(cloned_repo)["remote.origin.pushurl"] = agentrelay_world.remote_url
    found = ask(agentrelay_world, cloned_repo)
    assert levels(found, "remote-read", "remote-push") == ["problem", "ok"]
    _config(cloned_repo)["remote.origin.pushurl"] = f"http://127.0.0.1:{closed_port()}/x"
    set_url(cloned_repo, agentrelay_world.remote_url)
    found = ask(agentrelay_world, cloned_repo)
    assert levels(found, "remote-read", "remote-push", "base-branch") == ["ok", "problem", "ok"]


def test_a_credential_that_may_only_read_is_found_without_a_push(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """A server lists its refs for a push only to whom it would let push."""
    agentrelay_world.git.judge = lambda _token, _path, writes: 403 if writes else 200
    found = ask(agentrelay_world, cloned_repo, token="may-only-read")
    assert levels(found, "remote-read", "remote-push") == ["ok", "problem"]
    assert "the token argument" in found["remote-push"].sentence
    assert {request.method for request in agentrelay_world.git.requests} == {"GET"}


def test_a_token_that_is_refused_is_not_shown(agentrelay_world: World, cloned_repo: Path) -> None:
    """Git's side and the API each say so, and GitHub's clock is known all the same."""
    token = "wrong-token-of-no-kind-at-all"
    found = ask(agentrelay_world, cloned_repo, token=token)
    assert problems(found) == {"remote-read", "api"}
    assert "the token argument" in found["remote-read"].sentence
    assert levels(found, "clock", "credential") == ["ok", "ok"]
    assert not any(token in f"{one.sentence}{one.fix}" for one in found.values())


def test_branches_that_are_missing_are_told_apart(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """A base may exist here only; a target must be where it is to be merged."""
    commit_files(cloned_repo, {"x": "y"}, message="Here only", branch="here")
    found = ask(agentrelay_world, cloned_repo, base_branch="here", merge_target_branch="main")
    assert levels(found, "base-branch", "merge-target") == ["note", "ok"]
    found = ask(agentrelay_world, cloned_repo, base_branch="here")
    assert problems(found) == {"merge-target"}
    found = ask(agentrelay_world, cloned_repo, base_branch="gone")
    assert problems(found) == {"base-branch", "merge-target"}
    assert "target-protection" in skipped(found)


def test_a_remote_by_path_needs_no_network(agentrelay_world: World) -> None:
    """Nothing of it is asked of the git server."""
    repo = agentrelay_world.clone("by-path", by="path")
    found = ask(agentrelay_world, repo)
    assert problems(found) == set()
    assert agentrelay_world.git.requests == ()
    lost = ask(agentrelay_world, repo, api_url=None, full_name=None)
    assert problems(lost) == {"github-address"}
    assert skipped(lost) >= {"credential", "api"}
