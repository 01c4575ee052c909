"""The credential chain: the right token for the right host, and none ever shown."""

from __future__ import annotations

import copy
import dataclasses
import functools
import getpass
import pickle
import socket
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.workstream import (
    GhWorkstreamIntegrator,
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
)
from agentrelay.workstream.credentials import (
    Secret,
    SshKey,
    ca_bundle,
    describe_search,
    find_credential,
    find_ssh_keys,
    has_ssh_agent,
    is_loopback,
    proxy_for,
    seal_token,
)
from agentrelay.workstream.errors import (
    CredentialsRejectedError,
    RemoteUnavailableError,
    RepositoryError,
    WorkstreamError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_VALUE = "s3cret-value"


def _found(
    host: str, home: Path, environ: Mapping[str, str] | None = None, token: Any = None
) -> tuple[str, str] | None:
    """Return value and source of what is found with nothing of this machine in sight."""
    credential = find_credential(host, token=token, environ=environ or {}, home=home)
    return None if credential is None else (credential.secret.reveal(), credential.source)


# --- a secret ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "show", [str, repr, format, lambda secret: f"{secret:>40}", lambda secret: f"{secret!r}"]
)
def test_a_secret_is_never_shown(show: Callable[[Secret], str]) -> None:
    """Every way of turning a secret into text gives the mask."""
    assert _VALUE not in show(Secret(_VALUE))
    assert "***" in show(Secret(_VALUE))


def test_a_pickle_does_not_hold_the_secret_and_what_comes_back_says_so() -> None:
    """The value is not in the bytes; the forgotten secret explains what to pass instead."""
    data = pickle.dumps({"token": Secret(_VALUE)})
    assert _VALUE.encode() not in data
    forgotten = pickle.loads(data)["token"]  # noqa: S301 - our own bytes
    assert str(forgotten) == "***"
    with pytest.raises(WorkstreamError) as caught:
        forgotten.reveal()
    assert "callable" in str(caught.value.hint)
    assert "environment variable" in str(caught.value.hint)


def test_copies_of_a_secret_keep_its_value() -> None:
    """Copying within a process is not travelling."""
    secret = Secret(_VALUE)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0].reveal() == _VALUE


def test_secrets_compare_and_hash_by_value_and_forgotten_ones_by_identity() -> None:
    """Equal values are equal; two forgotten secrets say nothing about each other."""
    assert Secret(_VALUE) == Secret(_VALUE)
    assert Secret(_VALUE) != Secret("other")
    assert Secret(_VALUE) != _VALUE
    assert len({Secret(_VALUE), Secret(_VALUE)}) == 1
    first, second = (pickle.loads(pickle.dumps(Secret(_VALUE))) for _ in range(2))  # noqa: S301
    assert first != second
    assert first == first  # noqa: PLR0124 - identity is the claim
    assert first != Secret(_VALUE)


def test_sealing_hides_text_and_leaves_secrets_alone() -> None:
    """A text becomes a secret; a secret and nothing stay what they are."""
    secret = Secret(_VALUE)
    sealed = seal_token(_VALUE)
    assert isinstance(sealed, Secret)
    assert sealed.reveal() == _VALUE
    assert seal_token(secret) is secret
    assert seal_token(None) is None


@pytest.mark.parametrize("token", [7, 1.5, _VALUE.encode(), bytearray(b"s3cret-value"), [_VALUE]])
def test_a_token_of_a_wrong_type_is_refused_by_its_type(token: Any) -> None:
    """The type is named, the value is not shown, and the error is one of this library's."""
    with pytest.raises(WorkstreamError, match=f"not {type(token).__name__}") as caught:
        seal_token(token)
    assert _VALUE not in repr(caught.value)
    assert "7" not in repr(caught.value)


_PARTIAL = functools.partial(max, _VALUE, _VALUE)


class _Minter:
    """A callable object that holds its token in plain sight."""

    def __init__(self, value: str = _VALUE) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"_Minter({self.value!r})"

    def __call__(self) -> str:
        return self.value


@pytest.mark.parametrize(
    "call",
    [_PARTIAL, _Minter(), Secret(_VALUE).reveal, _Minter().__call__, f" {_VALUE}".strip],
    ids=["partial", "object", "method of a secret", "method", "method of a text"],
)
def test_a_sealed_callable_hides_what_it_holds(call: Callable[[], str]) -> None:
    """Called it answers; shown or pickled it gives nothing away, and a copy still answers."""
    sealed = seal_token(call)
    assert callable(sealed)
    assert sealed() == _VALUE
    data = pickle.dumps(sealed)
    shown = [repr(sealed), str(sealed), f"{sealed}", repr({"token": sealed})]
    assert [text for text in shown if _VALUE in text] == []
    assert "***" in repr(sealed)
    assert not hasattr(sealed, "__dict__")
    assert _VALUE.encode() not in data
    assert copy.deepcopy([sealed])[0]() == _VALUE
    assert seal_token(sealed) is sealed
    assert copy.copy(sealed) == sealed == seal_token(call)
    assert sealed != seal_token(_Minter())
    assert sealed != call
    forgotten = pickle.loads(data)  # noqa: S301 - our own bytes
    assert "***" in repr(forgotten)
    with pytest.raises(WorkstreamError, match="does not travel") as caught:
        forgotten()
    assert "module" in str(caught.value.hint)


@pytest.mark.parametrize(
    "make",
    [
        lambda token: GitWorkstreamPreparer(Path("r"), "g", token=token),
        lambda token: GhWorkstreamIntegrator(Path("r"), token=token),
        lambda token: GitWorkstreamTeardown(Path("r"), token=token),
    ],
    ids=["preparer", "integrator", "teardown"],
)
@pytest.mark.parametrize("token", [_VALUE, _PARTIAL], ids=["text", "callable"])
def test_no_part_of_a_lane_gives_its_token_away(make: Callable[[Any], Any], token: Any) -> None:
    """Neither its fields nor its pickle hold it; a replaced or copied one still has it."""
    part = make(token)
    assert _VALUE not in repr(part) + repr(vars(part)) + repr(dataclasses.asdict(part))
    assert _VALUE.encode() not in pickle.dumps(part)
    assert dataclasses.replace(part) == copy.deepcopy(part) == part
    with pytest.raises(WorkstreamError, match="not bytes"):
        make(_VALUE.encode())


def test_a_forgotten_callable_says_so_when_its_token_is_asked_for(tmp_path: Path) -> None:
    """The reason reaches the user of another process, not only the name of an exception."""
    forgotten = pickle.loads(pickle.dumps(seal_token(_Minter())))  # noqa: S301 - our own bytes
    with pytest.raises(WorkstreamError, match="does not travel"):
        _found("github.com", tmp_path, token=forgotten)


def test_a_function_of_a_module_travels_by_its_name() -> None:
    """Another process imports the same function; equal functions make equal seals."""
    sealed = seal_token(getpass.getuser)
    back = pickle.loads(pickle.dumps(sealed))  # noqa: S301 - our own bytes
    assert back == sealed
    assert hash(back) == hash(sealed)
    assert "***" in repr(back)
    assert b"getuser" in pickle.dumps(sealed)


def test_a_function_that_no_module_has_stays_behind() -> None:
    """A closure, a lambda or a renamed function could carry data: none of it is pickled."""

    def mint() -> str:
        return _VALUE

    renamed = functools.wraps(getpass.getuser)(lambda: _VALUE)
    for call in (mint, lambda: _VALUE, renamed):
        back = pickle.loads(pickle.dumps(seal_token(call)))  # noqa: S301 - our own bytes
        with pytest.raises(WorkstreamError, match="does not travel"):
            back()


# --- the token argument -----------------------------------------------------------------


@pytest.mark.parametrize(
    "token", [_VALUE, Secret(_VALUE), lambda: _VALUE, lambda: Secret(_VALUE), f"  {_VALUE}\n"]
)
def test_an_argument_beats_everything_and_is_stripped(token: Any, tmp_path: Path) -> None:
    """A value or a callable is used before the environment is looked at."""
    found = _found("github.com", tmp_path, {"GH_TOKEN": "other"}, token)
    assert found is not None
    assert found[0] == _VALUE
    assert found[1].startswith("the token ")


def test_the_user_name_beside_a_token_is_githubs_own(tmp_path: Path) -> None:
    """Git over HTTP needs a user name; GitHub's is the same for every kind of token."""
    credential = find_credential("github.com", token="t", environ={}, home=tmp_path)
    assert credential is not None
    assert credential.username == "x-access-token"


@pytest.mark.parametrize(
    "bad", ["", "  ", "two words", "a\nb", "tökén", "\ud800", "a\x7fb", "a\x00"]
)
def test_a_malformed_token_is_refused_by_its_source_and_not_shown(bad: str, tmp_path: Path) -> None:
    """What is not one word of visible ASCII never reaches an HTTP header."""
    with pytest.raises(CredentialsRejectedError) as caught:
        _found("github.com", tmp_path, token=f"{bad}")
    assert caught.value.source == "the token argument"
    assert not bad.strip() or bad not in caught.value.message


def test_a_malformed_variable_is_named_and_not_passed_over(tmp_path: Path) -> None:
    """A broken token is an error at its place, not a reason to try the next place."""
    with pytest.raises(CredentialsRejectedError) as caught:
        _found("github.com", tmp_path, {"GH_TOKEN": "a\nb", "GITHUB_TOKEN": "fine"})
    assert caught.value.source == "environment variable GH_TOKEN"
    assert "a\nb" not in repr(caught.value)


def test_a_callable_that_fails_leaves_no_trace_of_its_token(tmp_path: Path) -> None:
    """Its exception is named by its type alone, and is not chained."""

    def mint() -> str:
        raise ValueError(f"the vault said {_VALUE}")

    with pytest.raises(CredentialsRejectedError, match=r"raised ValueError$") as caught:
        _found("github.com", tmp_path, token=seal_token(mint))
    assert _VALUE not in repr(vars(caught.value))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert caught.value.source == "the token callable"


def test_a_callable_without_a_text_is_refused(tmp_path: Path) -> None:
    """``None`` from a callable is a mistake of the caller, not the end of the search."""
    with pytest.raises(CredentialsRejectedError, match="gave NoneType"):
        _found("github.com", tmp_path, token=lambda: None)


# --- the environment --------------------------------------------------------------------

_ALL = {
    "GH_TOKEN": "gh",
    "GITHUB_TOKEN": "github",
    "GH_ENTERPRISE_TOKEN": "ghe",
    "GITHUB_ENTERPRISE_TOKEN": "githube",
}


def _without(*names: str) -> dict[str, str]:
    return {name: value for name, value in _ALL.items() if name not in names}


@pytest.mark.parametrize(
    ("host", "environ", "expected"),
    [
        ("github.com", _ALL, "gh"),
        ("GitHub.com:443", _ALL, "gh"),
        ("ssh.github.com", _ALL, "gh"),
        ("api.github.com", _ALL, "gh"),
        ("github.com", _without("GH_TOKEN"), "github"),
        ("github.com", {**_ALL, "GH_TOKEN": " "}, "github"),
        ("github.com", _without("GH_TOKEN", "GITHUB_TOKEN"), None),
        ("octo.ghe.com", _ALL, "gh"),
        ("api.octo.ghe.com", _ALL, "gh"),
        ("ghe.corp", _ALL, "ghe"),
        ("ghe.corp:8443", _ALL, "ghe"),
        ("ghe.corp", _without("GH_ENTERPRISE_TOKEN"), "githube"),
        ("ghe.corp", {"GH_TOKEN": "gh", "GITHUB_TOKEN": "github"}, None),
        ("ghe.corp", {**_ALL, "GH_HOST": "ghe.corp"}, "ghe"),
        ("ghe.corp", {**_ALL, "GH_HOST": "other.corp"}, None),
        ("github.com", {**_ALL, "GH_HOST": "other.corp"}, "gh"),
        ("gitlab.com", _ALL, None),
        ("gitlab.com:8443", _ALL, None),
        ("bitbucket.org", _ALL, None),
        ("codeberg.org", _ALL, None),
        ("dev.azure.com", _ALL, None),
        ("org.visualstudio.com", _ALL, None),
        (
            "github.com.evil.example",
            _without("GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN"),
            None,
        ),
        ("evilgithub.com", _without("GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN"), None),
        ("ghe.com.evil.example", _without("GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN"), None),
    ],
)
def test_a_variable_serves_only_the_hosts_it_is_for(
    host: str, environ: dict[str, str], expected: str | None, tmp_path: Path
) -> None:
    """github.com's tokens and an enterprise's never stand in for each other."""
    found = _found(host, tmp_path, environ)
    assert (found[0] if found else None) == expected


@pytest.mark.parametrize(
    ("host", "server", "expected"),
    [
        ("github.com", "https://github.com", "github"),
        ("ghe.corp", "https://ghe.corp", "github"),
        ("github.com", "https://ghe.corp", None),
        ("other.corp", "https://ghe.corp", None),
        ("github.com", "https://[broken", None),
    ],
)
def test_a_workflows_token_belongs_to_the_server_it_runs_on(
    host: str, server: str, expected: str | None, tmp_path: Path
) -> None:
    """Inside GitHub Actions ``GITHUB_TOKEN`` goes to that server and nowhere else."""
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": server, "GITHUB_TOKEN": "github"}
    found = _found(host, tmp_path, environ)
    assert (found[0] if found else None) == expected


# --- netrc ------------------------------------------------------------------------------


def test_netrc_answers_for_exactly_its_machine_and_never_by_default(tmp_path: Path) -> None:
    """The entry for everybody else would hand one host's password to another."""
    (tmp_path / ".netrc").write_text(
        "machine github.com login octo password n1\ndefault login any password d1\n"
    )
    credential = find_credential("github.com", environ={}, home=tmp_path)
    assert credential is not None
    assert (credential.username, credential.secret.reveal()) == ("octo", "n1")
    assert credential.source == "~/.netrc entry for github.com"
    assert _found("ghe.corp", tmp_path) is None
    assert _found("default", tmp_path) is None


def test_a_netrc_machine_with_the_port_is_more_exact_than_one_without(tmp_path: Path) -> None:
    """An entry without a port serves the host on any: the format knows none."""
    file = tmp_path / "elsewhere"
    file.write_text("machine ghe.corp password plain\nmachine GHE.corp:8443 password exact\n")
    environ = {"NETRC": str(file)}
    exact, plain = (_found(host, tmp_path, environ) for host in ("ghe.corp:8443", "ghe.corp:1"))
    assert exact is not None
    assert exact[0] == "exact"
    assert plain is not None
    assert plain == ("plain", "the netrc file that NETRC names entry for ghe.corp")


@pytest.mark.parametrize("content", [b"machine", b"\xff\xfe\x00", b"nonsense s3cret-value\n"])
def test_a_netrc_that_is_none_is_passed_over_and_mentioned(content: bytes, tmp_path: Path) -> None:
    """A broken file does not stop the search; the summary says that it was broken."""
    (tmp_path / ".netrc").write_bytes(content)
    assert _found("github.com", tmp_path) is None
    text = describe_search("github.com", environ={}, home=tmp_path)
    assert "~/.netrc (not a netrc file)" in text
    assert _VALUE not in text


def test_an_unreadable_file_is_passed_over_and_mentioned(tmp_path: Path) -> None:
    """A directory in the file's place stands for whatever cannot be read."""
    (tmp_path / ".netrc").mkdir()
    (tmp_path / ".config" / "gh" / "hosts.yml").mkdir(parents=True)
    assert _found("github.com", tmp_path) is None
    text = describe_search("github.com", environ={}, home=tmp_path)
    assert text.count("not readable") == 2


# --- GitHub CLI -------------------------------------------------------------------------

_OLD = """\
# written by gh
github.com:
    user: octo
    oauth_token: old-token # a comment
    git_protocol: https
"ghe.corp:8443":
    oauth_token: 'it''s'
"""

_NEW = """\
github.com:
    git_protocol: ssh
    users:
        hubot:
            oauth_token: "hubot-token"
        octo:
            oauth_token: octo-token
    user: octo
ghe.corp:
    users:
        someone:
    user: someone
    oauth_token: in-the-old-place
keyring.corp:
    users: {}
    user: octo
    oauth_token: null
"""


@pytest.mark.parametrize(
    ("text", "host", "expected"),
    [
        (_OLD, "github.com", "old-token"),
        (_OLD, "ghe.corp:8443", "it's"),
        (_OLD, "ghe.corp", None),
        (_OLD.replace("\n", "\r\n"), "github.com", "old-token"),
        ("\ufeff---\n" + _OLD, "github.com", "old-token"),
        (_NEW, "github.com", "octo-token"),
        (_NEW.replace("user: octo", "user: hubot"), "github.com", "hubot-token"),
        (_NEW, "ghe.corp", "in-the-old-place"),
        (_NEW, "keyring.corp", None),
        ("", "github.com", None),
        ("github.com:\n", "github.com", None),
        ("github.com: text\n", "github.com", None),
        ("GitHub.com:\n  oauth_token: x\n", "github.com", "x"),
        ('github.com:\n  oauth_token: "a\\"b\\\\c"\n', "github.com", 'a"b\\c'),
        ("github.com:\n  oauth_token:\n", "github.com", None),
        ("github.com:\n  oauth_token: # none\n", "github.com", None),
    ],
)
def test_hosts_yml_is_read_in_both_layouts(
    text: str, host: str, expected: str | None, tmp_path: Path
) -> None:
    """The active account's token is found, wherever gh's version put it."""
    (tmp_path / "gh").mkdir()
    (tmp_path / "gh" / "hosts.yml").write_bytes(text.encode())
    found = _found(host, tmp_path, {"XDG_CONFIG_HOME": str(tmp_path)})
    assert found == (None if expected is None else (expected, "GitHub CLI's hosts.yml"))


@pytest.mark.parametrize(
    "text",
    [
        "github.com:\n  - s3cret-value\n",
        "github.com:\n\toauth_token: s3cret-value\n",
        "github.com:\n  oauth_token: *s3cret-value\n",
        "github.com:\n  oauth_token: |\n    s3cret-value\n",
        "github.com: {oauth_token: s3cret-value}\n",
        "github.com:\n    a: s3cret-value\n  b: 1\n",
        "github.com:\n  a: s3cret-value\n  a: 1\n",
        "  github.com:\n    a: s3cret-value\n",
        'github.com:\n  oauth_token: "s3cret-value\\x41"\n',
        "s3cret-value\n",
        "\x00\n",
    ],
)
def test_a_hosts_yml_beyond_what_gh_writes_is_not_guessed_at(text: str, tmp_path: Path) -> None:
    """It is passed over, and the summary gives a line number, not the line."""
    (tmp_path / "hosts.yml").write_text(text)
    environ = {"GH_CONFIG_DIR": str(tmp_path)}
    assert _found("github.com", tmp_path, environ) is None
    described = describe_search("github.com", environ=environ, home=tmp_path)
    assert "hosts.yml (not understood: line" in described
    assert _VALUE not in described


def test_a_hosts_yml_that_is_not_text_is_passed_over(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are named as such."""
    (tmp_path / "hosts.yml").write_bytes(b"\xff\xff")
    environ = {"GH_CONFIG_DIR": str(tmp_path)}
    assert "not text" in describe_search("github.com", environ=environ, home=tmp_path)


@given(st.text(max_size=200))
def test_any_text_as_hosts_yml_is_read_or_refused(text: str) -> None:
    """The reader never fails in another way than the one it documents."""
    from agentrelay.workstream.credentials._gh_hosts import token_for

    refusal, found = "line ", None
    try:
        found = token_for("github.com", text)
    except ValueError as error:
        refusal = str(error)
    assert refusal.startswith("line ")
    assert found is None or found in text or "\\" in text or "''" in text


# --- describing the search --------------------------------------------------------------


def test_the_summary_names_every_place_and_why_it_held_nothing(tmp_path: Path) -> None:
    """A reader without a token learns where to put one."""
    text = describe_search("github.com", environ={"GH_TOKEN": ""}, home=tmp_path)
    assert text == (
        "looked for a token for github.com in: the token argument (not given); "
        "environment variable GH_TOKEN (empty); environment variable GITHUB_TOKEN (not set); "
        "~/.netrc (no such file); GitHub CLI's hosts.yml (no such file)"
    )


@pytest.mark.parametrize(
    ("host", "environ", "said"),
    [
        ("ghe.corp", {}, "GH_TOKEN and GITHUB_TOKEN are for github.com"),
        ("ghe.corp", {"GH_HOST": "a.corp"}, "GH_HOST reserves the enterprise variables for a.corp"),
        ("gitlab.com", {}, "gitlab.com is not a GitHub"),
        (
            "github.com",
            {"GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": "https://ghe.corp"},
            "GITHUB_TOKEN is for ghe.corp, where this workflow runs",
        ),
    ],
)
def test_the_summary_says_why_an_expected_variable_was_not_looked_at(
    host: str, environ: dict[str, str], said: str, tmp_path: Path
) -> None:
    """Leaving a token alone on purpose must not look like not finding it."""
    assert said in describe_search(host, environ=environ, home=tmp_path)


def test_the_summary_neither_calls_nor_shows_a_given_token(tmp_path: Path) -> None:
    """With an argument nothing else is looked at, and it is left alone."""

    def mint() -> str:
        raise AssertionError("must not be called")

    text = describe_search("github.com", token=mint, environ={}, home=tmp_path)
    assert "was given as an argument" in text


def test_the_summary_survives_a_malformed_token(tmp_path: Path) -> None:
    """Describing does not fail where finding did."""
    text = describe_search("github.com", environ={"GH_TOKEN": "a b"}, home=tmp_path)
    assert "environment variable GH_TOKEN (malformed)" in text
    assert "a b" not in text


def test_a_user_without_a_home_is_searched_as_far_as_possible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A container's user may have neither ``HOME`` nor a passwd entry."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert find_credential("github.com", environ={}) is None
    assert describe_search("github.com", environ={}).count("no home directory") == 2
    assert find_ssh_keys(environ={}) == ()


def test_the_home_directory_follows_the_environment_that_was_passed(tmp_path: Path) -> None:
    """``HOME`` of the given environment counts, not that of the process."""
    (tmp_path / ".netrc").write_text("machine github.com password n1\n")
    credential = find_credential("github.com", environ={"HOME": str(tmp_path)})
    assert credential is not None
    assert credential.secret.reveal() == "n1"


def test_the_processs_own_environment_is_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without arguments the chain looks where a user expects it to."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GH_TOKEN", "from-the-process")
    credential = find_credential("github.com")
    assert credential is not None
    assert credential.secret.reveal() == "from-the-process"


# --- ssh --------------------------------------------------------------------------------


def test_default_ssh_keys_are_those_that_exist_strongest_first(tmp_path: Path) -> None:
    """Security-key and unknown names are left out; public halves are found."""
    ssh_dir = tmp_path / ".ssh"
    ssh_dir.mkdir()
    for name in ("id_rsa", "id_ed25519", "id_ed25519.pub", "id_ed25519_sk", "other"):
        (ssh_dir / name).write_text("x")
    keys = find_ssh_keys(environ={}, home=tmp_path)
    assert [key.source for key in keys] == ["~/.ssh/id_ed25519", "~/.ssh/id_rsa"]
    assert [key.public_key_path for key in keys] == [ssh_dir / "id_ed25519.pub", None]


def test_an_explicit_ssh_key_is_the_only_one(tmp_path: Path) -> None:
    """Nothing else is offered, whether it is given as a path or as a key."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_rsa").write_text("x")
    path = tmp_path / "deploy"
    path.write_text("x")
    key = SshKey(private_key_path=path, passphrase=Secret("p4ss"))
    assert find_ssh_keys(key=key, environ={}, home=tmp_path) == (key,)
    assert "p4ss" not in repr(key)
    (found,) = find_ssh_keys(key=path, environ={}, home=tmp_path)
    assert found.private_key_path == path
    with pytest.raises(RepositoryError, match="no ssh key"):
        find_ssh_keys(key=tmp_path / "absent", environ={}, home=tmp_path)


def test_an_agent_is_there_when_its_variable_names_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable left over from a dead session is no agent."""
    plain = tmp_path / "file"
    plain.write_text("x")
    assert not has_ssh_agent({})
    assert not has_ssh_agent({"SSH_AUTH_SOCK": str(plain)})
    assert not has_ssh_agent({"SSH_AUTH_SOCK": str(tmp_path / "gone")})
    assert not has_ssh_agent({"SSH_AUTH_SOCK": "a\x00b"})
    monkeypatch.chdir(tmp_path)  # the path of a socket may have about 100 bytes only
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        assert has_ssh_agent({"SSH_AUTH_SOCK": str(tmp_path / "s")})


# --- certificates and proxies -----------------------------------------------------------


def test_the_first_ca_variable_that_is_set_counts(tmp_path: Path) -> None:
    """Git's own variable beats OpenSSL's; empty ones are passed over."""
    first, second = tmp_path / "a.pem", tmp_path / "b.pem"
    first.write_text("x")
    second.write_text("x")
    assert ca_bundle({}) is None
    assert ca_bundle({"GIT_SSL_CAINFO": "", "SSL_CERT_FILE": str(second)}) == second
    assert ca_bundle({"GIT_SSL_CAINFO": str(first), "SSL_CERT_FILE": str(second)}) == first
    assert ca_bundle({"REQUESTS_CA_BUNDLE": str(tmp_path)}) == tmp_path


@pytest.mark.parametrize("value", ["/nowhere/ca.pem", "a\x00b"])
def test_a_ca_bundle_that_is_not_there_is_an_error_that_names_its_variable(value: str) -> None:
    """Going on with other certificates would fail later, and less clearly."""
    with pytest.raises(RepositoryError, match="CURL_CA_BUNDLE") as caught:
        ca_bundle({"CURL_CA_BUNDLE": value})
    assert "unset" in str(caught.value.hint)


_PROXIED = {"https_proxy": "http://p:1", "HTTP_PROXY": "http://plain:1", "ALL_PROXY": "all:1"}


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        ("https://ghe.corp/x", {}, None),
        ("https://ghe.corp/x", _PROXIED, "http://p:1"),
        ("https://ghe.corp/x", {"HTTPS_PROXY": "p:1"}, "http://p:1"),
        ("https://ghe.corp/x", {"ALL_PROXY": "socks5://all:1"}, "socks5://all:1"),
        ("http://ghe.corp/x", _PROXIED, "http://plain:1"),
        ("http://ghe.corp/x", {**_PROXIED, "REQUEST_METHOD": "GET"}, "http://all:1"),
        ("https://127.0.0.1/x", _PROXIED, None),
        ("https://localhost:8/x", _PROXIED, None),
        ("https://[::1]/x", _PROXIED, None),
        ("https://ghe.corp/x", {**_PROXIED, "NO_PROXY": "*"}, None),
        ("https://ghe.corp/x", {**_PROXIED, "NO_PROXY": "a.b, corp"}, None),
        ("https://ghe.corp/x", {**_PROXIED, "NO_PROXY": ".corp"}, None),
        ("https://ghe.corp/x", {**_PROXIED, "NO_PROXY": "*.corp"}, None),
        ("https://ghe.corp/x", {**_PROXIED, "NO_PROXY": "he.corp,,"}, "http://p:1"),
        ("https://ghe.corp/x", {**_PROXIED, "NO_PROXY": "ghe.corp:443"}, None),
        ("https://ghe.corp:8/x", {**_PROXIED, "NO_PROXY": "ghe.corp:443"}, "http://p:1"),
        ("https://10.1.2.3/x", {**_PROXIED, "NO_PROXY": "10.0.0.0/8"}, None),
        ("https://11.1.2.3/x", {**_PROXIED, "NO_PROXY": "10.0.0.0/8"}, "http://p:1"),
        ("https://ghe.corp/x", {**_PROXIED, "NO_PROXY": "10.0.0.0/8"}, "http://p:1"),
        ("https://ghe.corp/x", {**_PROXIED, "no_proxy": "", "NO_PROXY": "*"}, "http://p:1"),
        ("https://[2001:db8::1]/x", {**_PROXIED, "NO_PROXY": "[2001:db8::1]:443"}, None),
    ],
)
def test_the_proxy_is_chosen_as_curl_chooses_it(
    url: str, environ: dict[str, str], expected: str | None
) -> None:
    """Lower case beats upper case, exceptions are honoured, loopback is never proxied."""
    assert proxy_for(url, environ) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_and_nothing_that_looks_like_it(
    host: str,
    expected: bool,  # noqa: FBT001 - a table's column
) -> None:
    """Plain HTTP is allowed on the strength of this answer."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:pr0xyS3/cret@127.0.0.1:9",
        "user:pr0xyS3/cret@127.0.0.1:9",
        "http://user:pr0xyS3\u2100cret@127.0.0.1:9",
        "http://user:pr0xyS3[cret@127.0.0.1:9",
        "user:pr0xyS3://cret@127.0.0.1:9",
        "pr0xyS3://127.0.0.1:9",
        "http://user:pr0xyS3\u20ac@127.0.0.1:9",
    ],
)
def test_a_proxy_that_cannot_be_read_is_not_quoted(proxy: str, tmp_path: Path) -> None:
    """The parser's words hold pieces of the password; ours name the variables to check."""
    from agentrelay.workstream._github.address import parse_address
    from agentrelay.workstream._github.client import GitHubClient

    environ = {"HTTPS_PROXY": proxy, "GH_TOKEN": "t"}
    client = GitHubClient(
        parse_address("https://github.com/o/n", environ=environ), environ=environ, home=tmp_path
    )
    with pytest.raises(RemoteUnavailableError, match="cannot be read; check the proxy") as caught:
        client.request("GET", "/pulls", operation="list pull requests")
    shown = repr(vars(caught.value)) + "".join(traceback.format_exception(caught.value))
    cause: BaseException | None = caught.value
    while cause is not None:
        shown += repr(cause) + repr(vars(cause))
        cause = cause.__cause__ or cause.__context__
    assert "pr0xys3" not in shown.lower()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://robin:s3/cret@ghe.corp/o/r", "http://p:1"),
        ("https://robin:s3?cret@exempt.corp/o/r", None),
        ("https://robin:s3\u2100cret@ghe.corp/o/r", "http://p:1"),
        ("https://robin:s3cret", None),
        ("https://[robin", None),
    ],
)
def test_an_address_as_somebody_typed_it_is_proxied_or_not_without_a_word(
    url: str, expected: str | None
) -> None:
    """Asking for the proxy never fails with the standard library's quote of the address."""
    assert proxy_for(url, {"https_proxy": "http://p:1", "no_proxy": "exempt.corp"}) == expected


def test_an_address_that_cannot_be_read_has_an_endpoint_and_no_words() -> None:
    """The standard library's refusal quotes the address: it must not be heard of."""
    from agentrelay.workstream._git.exchange import Endpoint

    for url in ("https://robin:s3cret\u2100@h/x", "https://[robin:s3cret@h/x"):
        assert Endpoint.of(url).name == ""
    assert Endpoint.of("https://robin:s3cret/x@h/o/r").port is None
