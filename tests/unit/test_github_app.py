"""A GitHub App's settings, its key and where it stands in the chain; nobody is asked here."""

from __future__ import annotations

import copy
import functools
import os
import pickle
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agentrelay.workstream import GitHubApp, GitWorkstreamPreparer
from agentrelay.workstream._github.address import GitHubAddress, parse_address
from agentrelay.workstream._github.app_key import KeyPlace
from agentrelay.workstream._github.app_token import MintedToken
from agentrelay.workstream.credentials import (
    AfterEnvironment,
    Secret,
    TokenProvider,
    describe_search,
    find_credential,
    seal_token,
)
from agentrelay.workstream.errors import (
    CredentialsRejectedError,
    RateLimitedError,
    RemoteUnavailableError,
    RepositoryError,
    WorkstreamError,
)
from agentrelay.workstream.implementations._app_tokens import TokenShelf
from agentrelay.workstream.testing._github_signatures import made_key

_URL = "https://api.github.com"
_ADDRESS: GitHubAddress = parse_address("", api_url=_URL, full_name="octo/widgets")


class _Counter:
    """A provider that hands out tokens by number, for one host."""

    source = "the counter"

    def __init__(self, host: str = "github.com") -> None:
        self.host = host
        self.asked: list[tuple[str, str]] = []
        self.refused: list[str] = []

    def serves(self, host: str) -> bool:
        return host == self.host

    def token_for(self, host: str, path: str) -> str:
        self.asked.append((host, path))
        return f" ghs_number{len(self.asked)}\n"

    def was_refused(self, token: Secret) -> bool:
        self.refused.append(token.reveal())
        return True


def _pem(key: Any, *, password: bytes | None = None, modern: bool = True) -> str:
    form = serialization.PrivateFormat
    return str(
        key.private_bytes(
            serialization.Encoding.PEM,
            form.PKCS8 if modern else form.TraditionalOpenSSL,
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption(),
        ).decode()
    )


# --- every shape of token ---------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("ghp_" + "a1B2" * 9, id="personal"),
        pytest.param("github_pat_" + "11ABCDEFG0_" + "xY9" * 20, id="fine-grained"),
        pytest.param("ghs_" + "Zz09" * 9, id="installation"),
        pytest.param("ghs_" + "eyJh.eyJp.c2ln" * 30, id="installation, of the long kind"),
        pytest.param("0123456789abcdef" * 2 + "01234567", id="of an old enterprise server"),
    ],
)
@pytest.mark.parametrize(("before", "after"), [("", ""), ("", "\n"), (" \t", "\r\n")])
def test_a_token_of_any_kind_is_used_without_the_space_around_it(
    token: str, before: str, after: str, tmp_path: Path
) -> None:
    """Whatever it looks like, given as a value, by a callable or in the environment."""
    given = before + token + after
    for host, variable in (("github.com", "GH_TOKEN"), ("ghe.corp", "GH_ENTERPRISE_TOKEN")):
        for source, environ in ((given, {}), (lambda: given, {}), (None, {variable: given})):
            found = find_credential(host, token=source, environ=environ, home=tmp_path)
            assert found is not None
            assert found.secret.reveal() == token
            assert found.username == "x-access-token"
            assert not found.was_refused()


# --- a provider in the chain ------------------------------------------------------------


def test_a_provider_is_told_what_it_is_asked_for_and_of_a_refusal(tmp_path: Path) -> None:
    """Host and path reach it, its answer is checked like any token, and it hears of a refusal."""
    counter = _Counter()
    found = find_credential(
        "WWW.github.com", path="octo/widgets", token=counter, environ={}, home=tmp_path
    )
    assert found is not None
    assert (found.secret.reveal(), found.source) == ("ghs_number1", "the counter")
    assert counter.asked == [("github.com", "octo/widgets")]
    assert found.was_refused()
    assert counter.refused == ["ghs_number1"]


def test_a_provider_comes_before_the_environment_and_only_for_its_host(tmp_path: Path) -> None:
    """What is passed explicitly wins; for another host that is an error, not a surprise."""
    environ = {"GH_TOKEN": "ghp_environment"}
    found = find_credential("github.com", token=_Counter(), environ=environ, home=tmp_path)
    assert found is not None
    assert found.secret.reveal() == "ghs_number1"
    counter = _Counter("ghe.corp")
    with pytest.raises(CredentialsRejectedError, match=r"the counter are not for github\.com"):
        find_credential("github.com", token=counter, environ=environ, home=tmp_path)
    assert counter.asked == []


def test_a_late_provider_comes_after_the_environment_and_before_the_files(tmp_path: Path) -> None:
    """A variable wins, netrc does not, and a host that is not the provider's passes it over."""
    (tmp_path / ".netrc").write_text(
        "machine github.com password ghp_netrc\nmachine ghe.corp password ghp_corp\n"
    )
    for host, environ, expected in (
        ("github.com", {"GH_TOKEN": "ghp_environment"}, "ghp_environment"),
        ("github.com", {}, "ghs_number1"),
        ("ghe.corp", {}, "ghp_corp"),
    ):
        late = AfterEnvironment(_Counter())
        found = find_credential(host, token=late, environ=environ, home=tmp_path)
        assert found is not None
        assert found.secret.reveal() == expected


def test_the_search_is_described_without_asking_a_provider(tmp_path: Path) -> None:
    """A sentence about places costs no token."""
    counter = _Counter()
    told = describe_search("ghe.corp", token=AfterEnvironment(counter), environ={}, home=tmp_path)
    assert "the counter (not for ghe.corp)" in told
    told = describe_search("github.com", token=AfterEnvironment(counter), environ={}, home=tmp_path)
    assert "the counter (mints tokens)" in told
    assert "argument" in describe_search("github.com", token=counter, environ={}, home=tmp_path)
    assert counter.asked == []


def test_a_provider_is_kept_as_it_is() -> None:
    """Sealing hides values and callables; a provider, late or not, stays the shared object."""
    counter = _Counter()
    late = AfterEnvironment(counter)
    assert isinstance(counter, TokenProvider)
    assert seal_token(counter) is counter
    assert seal_token(str) != counter
    assert seal_token(late) is late


# --- the settings -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="none"),
        pytest.param({"private_key": "a-key", "private_key_path": "k"}, id="two"),
    ],
)
def test_a_key_comes_from_exactly_one_place(settings: dict[str, Any]) -> None:
    """None would fail later; of two, one would be the wrong one."""
    with pytest.raises(WorkstreamError, match="one place") as caught:
        GitHubApp(1, **settings)
    assert "a-key" not in str(caught.value)


@pytest.mark.parametrize("app_id", ["", " ", "a b", "Iv1.x\n.", "é"])
def test_what_is_no_id_is_refused(app_id: str) -> None:
    """Before anything is asked."""
    with pytest.raises(WorkstreamError, match="app_id"):
        GitHubApp(app_id, private_key="k")


def test_an_installation_is_a_number() -> None:
    """It becomes a part of a path."""
    wrong: Any = "1/../2"
    with pytest.raises(WorkstreamError, match="installation_id"):
        GitHubApp(1, private_key="k", installation_id=wrong)


@pytest.mark.parametrize(
    "api_url", ["http://ghe.corp/api/v3", "ghe.corp", "https://u:p@ghe.corp/api/v3"]
)
def test_an_api_that_must_not_get_the_signature_is_refused(api_url: str) -> None:
    """No plain http beyond this machine, nothing but a host and a path."""
    with pytest.raises(RepositoryError):
        GitHubApp(1, private_key="k", api_url=api_url)


@pytest.mark.parametrize(
    ("api_url", "host", "served"),
    [
        (_URL, "github.com", True),
        (_URL, "www.github.com", True),
        (_URL, "ghe.corp", False),
        (_URL, "github.com.evil.example", False),
        (_URL, "github.com:8443", False),
        (_URL, "127.0.0.1:80", False),
        ("https://api.acme.ghe.com", "acme.ghe.com", True),
        ("https://api.acme.ghe.com", "other.ghe.com", False),
        ("https://ghe.corp/api/v3", "ghe.corp", True),
        ("https://ghe.corp/api/v3", "ghe.corp:8443", False),
        ("http://127.0.0.1:81/api/v3", "127.0.0.1:80", True),
        ("http://127.0.0.1:81/api/v3", "[::1]", True),
        ("http://127.0.0.1:81/api/v3", "ghe.corp", False),
    ],
)
def test_an_app_serves_the_github_it_is_registered_at(
    api_url: str, host: str, *, served: bool
) -> None:
    """Its signature goes to one API, whatever a remote's address says."""
    app = GitHubApp(1, private_key="k", api_url=api_url)
    assert app.serves(host) is served
    if not served:
        with pytest.raises(CredentialsRejectedError, match="registered at"):
            app.token_for(host, "octo/widgets")


def test_a_path_that_is_no_repository_is_refused() -> None:
    """The token is for one repository, and this is none."""
    with pytest.raises(RepositoryError, match="not a repository's name"):
        GitHubApp(1, private_key="k").token_for("github.com", "/mirror/octo/widgets.git")


def test_an_app_shows_its_id_and_no_key() -> None:
    """Neither itself nor within what holds it."""
    app = GitHubApp(12345, private_key="very-secret-key")
    held = repr(GitWorkstreamPreparer(Path("r"), "g", token=app)) + repr(vars(app)) + repr(app)
    assert "very-secret-key" not in held
    assert "12345" in repr(app)


def test_a_pickle_holds_the_settings_and_no_secret(tmp_path: Path) -> None:
    """A key in a file is found again; one passed as text is not, and the error says so."""
    path = tmp_path / "app.pem"
    path.write_text(made_key())
    app = GitHubApp(1, private_key_path=path, installation_id=7, full_name="octo/widgets")
    app._tokens()._held["octo/widgets"] = MintedToken(Secret("ghs_held"), 1e12, 1e12)
    data = pickle.dumps(app)
    assert b"ghs_held" not in data
    again = pickle.loads(data)  # noqa: S301 - our own bytes
    assert repr(again) == repr(app)
    assert again._key().load(url=_URL).sign({"iss": "1"}).reveal().count(".") == 2
    data = pickle.dumps(GitHubApp(1, private_key="very-secret-key"))
    assert b"very-secret-key" not in data
    with pytest.raises(CredentialsRejectedError, match="private_key_path="):
        pickle.loads(data).token_for("github.com", "octo/widgets")  # noqa: S301 - as above


def test_copies_share_the_tokens() -> None:
    """A copy that minted for itself would double the requests."""
    app = GitHubApp(1, private_key="k")
    assert copy.copy(app) is app
    assert copy.deepcopy({"token": app})["token"] is app


# --- the environment --------------------------------------------------------------------


def test_the_environment_may_describe_an_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """By id or client id, with the key as text or in a file."""
    assert GitHubApp.from_environment() is None
    monkeypatch.setenv("GITHUB_APP_CLIENT_ID", "Iv23li")
    app = GitHubApp.from_environment()
    assert repr(app) == (
        "GitHubApp('Iv23li', key from environment variable GITHUB_APP_PRIVATE_KEY)"
    )
    monkeypatch.setenv("GITHUB_APP_ID", "12")
    monkeypatch.setenv("GITHUB_APP_PRIVATE_KEY_PATH", "/keys/app.pem")
    monkeypatch.setenv("GITHUB_API_URL", "https://ghe.corp/api/v3")
    monkeypatch.setenv("GITHUB_APP_INSTALLATION_ID", " 7 ")
    app = GitHubApp.from_environment()
    assert repr(app) == "GitHubApp('12', key from the file /keys/app.pem)"
    assert app is not None
    assert app.api_url == "https://ghe.corp/api/v3"
    monkeypatch.setenv("GITHUB_APP_INSTALLATION_ID", "seven")
    with pytest.raises(CredentialsRejectedError, match="GITHUB_APP_INSTALLATION_ID") as caught:
        GitHubApp.from_environment()
    assert "seven" not in str(caught.value)


# --- the key ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(lambda pem: pem, id="as it is"),
        pytest.param(lambda pem: pem.replace("\n", "\\n"), id="literal line breaks"),
        pytest.param(lambda pem: '"' + pem.replace("\n", "\\r\\n") + '"', id="in quotes"),
        pytest.param(lambda pem: pem.replace("\n", " "), id="spaces"),
        pytest.param(lambda pem: pem.replace("\n", ""), id="no line breaks"),
        pytest.param(lambda pem: "\ufeff\n  " + pem.replace("\n", "\r\n"), id="from Windows"),
    ],
)
def test_a_key_is_read_however_it_was_carried(written: Any) -> None:
    """Any of the usual layouts is the key again."""
    place = KeyPlace(text=Secret(written(made_key())))
    assert place.load(url=_URL).sign({"iss": "1"}).reveal().count(".") == 2


def test_a_key_is_found_where_it_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a file or in a variable, and each time as it is then."""
    monkeypatch.setenv("THE_KEY", made_key())
    assert KeyPlace(variable="THE_KEY").load(url=_URL)
    (tmp_path / "app.pem").write_text("not yet")
    place = KeyPlace(path=tmp_path / "app.pem")
    with pytest.raises(CredentialsRejectedError, match="no key"):
        place.load(url=_URL)
    (tmp_path / "app.pem").write_text(made_key())
    assert place.load(url=_URL)


@functools.cache
def _bad_keys() -> dict[str, tuple[str, str]]:
    good = made_key()
    curve = ec.generate_private_key(ec.SECP256R1())
    loaded = serialization.load_pem_private_key(good.encode(), None)
    assert isinstance(loaded, rsa.RSAPrivateKey)
    public = loaded.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {
        "nothing like one": ("hunter2-is-no-key", "no key in PEM"),
        "public": (public.decode(), "public key"),
        "curve": (_pem(curve), "not RSA"),
        "encrypted": (_pem(curve, password=b"x"), "encrypted"),
        "encrypted, old": (_pem(curve, password=b"x", modern=False), "encrypted"),
        "damaged": (good[:200] + good[400:], "damaged"),
    }


@pytest.mark.parametrize(
    "kind",
    ["nothing like one", "public", "curve", "encrypted", "encrypted, old", "damaged"],
)
def test_a_text_that_is_no_key_is_named_and_not_shown(kind: str) -> None:
    """The error says what it is and where it was, and holds none of it."""
    text, why = _bad_keys()[kind]
    with pytest.raises(CredentialsRejectedError, match=why) as caught:
        GitHubApp(1, private_key=text).token_for("github.com", "octo/widgets")
    assert caught.value.source == "the private_key argument"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    lines = [line for line in text.splitlines() if not line.startswith("-----")]
    told = caught.value.message + str(caught.value.hint)
    for frame, _ in traceback.walk_tb(caught.tb):
        if frame.f_code.co_filename != __file__:
            told += repr(frame.f_locals)
    assert not [line for line in lines if line and line in told]


def test_a_key_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file or the variable, and what is wrong with it; a pipe is not waited for."""
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv("EMPTY_KEY", "")
    for settings, why in (
        ({"private_key_path": tmp_path / "none.pem"}, "none.pem does not exist"),
        ({"private_key_path": tmp_path}, "is not a file"),
        ({"private_key_path": tmp_path / "pipe"}, "is not a file"),
        ({"private_key_path": tmp_path / "x\0y"}, "cannot be read"),
        ({"private_key_path": tmp_path / ("x" * 300)}, "cannot be read"),
        ({"private_key_variable": "NO_KEY"}, "NO_KEY is not set"),
        ({"private_key_variable": "EMPTY_KEY"}, "EMPTY_KEY is empty"),
    ):
        app = GitHubApp(1, **settings)
        with pytest.raises(CredentialsRejectedError, match=why):
            app.token_for("github.com", "octo/widgets")


# --- sharing ----------------------------------------------------------------------------


def _minted(number: int) -> MintedToken:
    return MintedToken(Secret(f"ghs_{number}"), renew_at=10.0 * number, ends_at=10.0 * number + 5)


@pytest.mark.parametrize(
    "error",
    [
        CredentialsRejectedError("suspended", url=_URL, source="x"),
        RateLimitedError("later", repository="octo/widgets", retry_after_s=5.0),
    ],
)
def test_threads_that_wait_share_a_failure_and_each_gets_its_own_error(
    error: WorkstreamError,
) -> None:
    """A server that refuses one is not asked by all the others at once."""
    shelf, told, arrived = TokenShelf(), [], threading.Event()
    shelf._held["octo/widgets"] = _minted(0)

    def clock() -> float:
        if threading.current_thread() is waiter:
            # The lock is held now, and is not given back before the waiter waits.
            arrived.set()
        return 100.0

    def wait() -> None:
        with pytest.raises(type(error)) as caught:
            shelf.token_for(_ADDRESS, never, clock=clock, wait_s=30)
        told.append(caught.value)

    def never(_: float) -> MintedToken:
        raise AssertionError("two threads minted")

    def mint(_: float) -> MintedToken:
        waiter.start()
        assert arrived.wait(30)
        raise error

    waiter = threading.Thread(target=wait)
    with pytest.raises(type(error)):
        shelf.token_for(_ADDRESS, mint, clock=clock, wait_s=30)
    waiter.join(30)
    assert [str(each) for each in told] == [str(error)]
    assert told[0] is not error
    # The next one tries again.
    assert (
        shelf.token_for(_ADDRESS, lambda _: _minted(20), clock=clock, wait_s=1).reveal() == "ghs_20"
    )


def test_a_minting_that_failed_is_tried_again_by_one_for_all_who_waited() -> None:
    """Never two at a time; those who came before the second one share what comes of it."""
    shelf, arrived, tries, alone = TokenShelf(), threading.Semaphore(0), [], threading.Lock()
    shelf._held["octo/widgets"] = _minted(0)

    def clock() -> float:
        # The lock is held now, and is not given back before who asks knows what to wait for.
        arrived.release()
        return 100.0

    def mint(left_s: float) -> MintedToken:
        assert alone.acquire(blocking=False)
        tries.append(left_s)
        if len(tries) == 1:
            for _ in range(9):
                assert arrived.acquire(timeout=30)
        alone.release()
        raise RemoteUnavailableError(f"try {len(tries)}", url=_URL)

    def ask() -> str:
        with pytest.raises(RemoteUnavailableError) as caught:
            shelf.token_for(_ADDRESS, mint, clock=clock, wait_s=60)
        return caught.value.message

    with ThreadPoolExecutor(9) as pool:
        told = list(pool.map(lambda _: ask(), range(9)))
    assert sorted(told) == ["try 1", *["try 2"] * 8]
    assert tries[0] == 60
    assert 0 < tries[1] < 60
    with pytest.raises(RemoteUnavailableError, match="try 3"):
        shelf.token_for(_ADDRESS, mint, clock=clock, wait_s=60)


def test_who_wakes_late_shares_what_came_of_the_second_try() -> None:
    """It was begun after this one came, and is over before it looks again."""
    shelf = TokenShelf()
    error = RemoteUnavailableError("no answer", url=_URL)
    shelf._failed["octo/widgets"] = (0, error)
    with pytest.raises(RemoteUnavailableError, match="no answer") as caught:
        shelf.token_for(_ADDRESS, lambda _: _minted(1), clock=lambda: 0.0, wait_s=1)
    assert caught.value is not error


def test_waiting_for_another_thread_ends() -> None:
    """One that hangs keeps nobody for ever, and those who come later mint for themselves."""
    shelf = TokenShelf()

    def mint(_: float) -> MintedToken:
        with pytest.raises(RemoteUnavailableError, match=r"no token after 0\.01 s"):
            shelf.token_for(_ADDRESS, mint, clock=lambda: 0.0, wait_s=0.01)
        later = shelf.token_for(_ADDRESS, lambda _: _minted(2), clock=lambda: 0.0, wait_s=0.01)
        assert later.reveal() == "ghs_2"
        return _minted(1)

    assert shelf.token_for(_ADDRESS, mint, clock=lambda: 0.0, wait_s=9).reveal() == "ghs_1"


def test_an_interrupted_thread_leaves_nobody_waiting() -> None:
    """The interrupt goes on its way, and the next one mints."""
    shelf = TokenShelf()

    def interrupted(_: float) -> MintedToken:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shelf.token_for(_ADDRESS, interrupted, clock=lambda: 0.0, wait_s=1)
    assert shelf.token_for(_ADDRESS, lambda _: _minted(1), clock=lambda: 0.0, wait_s=1)


def test_a_token_that_is_still_good_outlives_a_server_that_gives_no_other() -> None:
    """It is used on, and the server is asked again a minute later, until it expires."""
    now = [0.0]
    asked: list[float] = []
    shelf = TokenShelf()
    shelf._held["octo/widgets"] = MintedToken(Secret("ghs_old"), renew_at=100.0, ends_at=300.0)

    def mint(_: float) -> MintedToken:
        asked.append(now[0])
        raise RemoteUnavailableError("no answer", url=_URL)

    def token() -> str:
        return shelf.token_for(_ADDRESS, mint, clock=lambda: now[0], wait_s=1).reveal()

    for now[0], attempts in ((99.0, 0), (101.0, 1), (160.0, 1), (161.0, 2)):
        assert token() == "ghs_old"
        assert len(asked) == attempts
    now[0] = 290.0
    with pytest.raises(RemoteUnavailableError):
        token()


def test_a_forked_process_starts_with_no_token_and_no_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A lock that another thread held at the fork is never waited for."""
    app = GitHubApp(1, private_key="k")
    with app._tokens()._lock:
        parent = app._tokens()
        own = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: own + 1)
        assert app.was_refused(Secret("ghs_x"))
        assert app._tokens() is not parent
