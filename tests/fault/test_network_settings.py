"""What the environment says about the network is honoured, or refused in clear words."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pygit2
import pytest

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    RemoteUnavailableError,
    RepositoryError,
    WorkstreamRuntime,
    WorkstreamSpec,
)
from agentrelay.workstream.testing import clone_repository, create_bare_repository

URL = "https://git.example.invalid/octo/widgets.git"


class Proxy:
    """A proxy that notes what it is asked for and refuses."""

    def __init__(self) -> None:
        """Listen on a free port of loopback."""
        self.asked: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                line = connection.recv(4096).split(b"\r\n")[0].decode()
                if line == "STOP":
                    return
                self.asked.append(line)
                connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")

    def close(self) -> None:
        """Stop listening."""
        with socket.create_connection(self._socket.getsockname()) as last:
            last.sendall(b"STOP\r\n")
        self._thread.join()
        self._socket.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Return a proxy that refuses everything."""
    made = Proxy()
    yield made
    made.close()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Return a clone whose origin is an https address nobody answers at."""
    bare = create_bare_repository(tmp_path / "origin.git")
    return clone_repository(bare, tmp_path / "clone", url=URL)


def prepare(repo: Path) -> None:
    """Prepare a lane."""
    GitWorkstreamPreparer(repo, "nightly").prepare_workstream(
        WorkstreamRuntime(WorkstreamSpec("parser"))
    )


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_git_goes_through_the_proxy_of_the_environment(
    repo: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each of the usual variables is honoured."""
    monkeypatch.setenv(name, proxy.url)
    with pytest.raises(RemoteUnavailableError):
        prepare(repo)
    assert proxy.asked == ["CONNECT git.example.invalid:443 HTTP/1.1"]


def test_git_goes_around_the_proxy_where_no_proxy_says_so(
    repo: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exempt hosts are reached directly."""
    # This machine, by an address that is not loopback: no name has to be resolved.
    pygit2.Repository(str(repo)).remotes.set_url("origin", "https://0.0.0.0:1/octo/widgets.git")
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "0.0.0.0")  # noqa: S104 - nothing is bound
    with pytest.raises(RemoteUnavailableError):
        prepare(repo)
    assert proxy.asked == []


def test_a_configured_proxy_beats_the_environment(
    repo: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``http.proxy`` is the user's choice for git."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    pygit2.Repository(str(repo)).config["http.proxy"] = proxy.url
    with pytest.raises(RemoteUnavailableError):
        prepare(repo)
    assert len(proxy.asked) == 1


@pytest.mark.parametrize("name", ["GIT_SSL_CAINFO", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_missing_ca_bundle_is_named_before_anything_is_sent(
    repo: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """The error says which variable names which file."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv(name, str(tmp_path / "missing.pem"))
    with pytest.raises(RepositoryError, match=name) as caught:
        prepare(repo)
    assert "missing.pem" in str(caught.value)
    assert caught.value.hint
    assert proxy.asked == []


def test_a_file_that_is_no_ca_bundle_is_named(
    repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Something other than certificates is refused in clear words."""
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("not a certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(nonsense))
    with pytest.raises(RepositoryError, match=r"nonsense\.pem"):
        prepare(repo)


@pytest.mark.parametrize(
    "url", ["s3cret-token:x@127.0.0.1:o/r", "https://robin:s3cret-token@0.0.0.0:1/o/r.git"]
)
def test_a_secret_in_the_remotes_address_is_in_no_error(repo: Path, url: str) -> None:
    """Even where libgit2 takes a part of the user-info for the host."""
    pygit2.Repository(str(repo)).remotes.set_url("origin", url)
    with pytest.raises(RemoteUnavailableError) as caught:
        prepare(repo)
    assert "s3cret" not in f"{caught.value} {caught.value!r} {vars(caught.value)}"


@pytest.mark.parametrize(
    ("before_ms", "connect_ms", "silence_ms"), [(0, 15_000, 60_000), (7, 7, 7)]
)
def test_libgit2_gets_time_outs_where_the_process_has_none(
    repo: Path, monkeypatch: pytest.MonkeyPatch, before_ms: int, connect_ms: int, silence_ms: int
) -> None:
    """0 would wait for ever; what the process chose is left alone."""
    settings = pygit2.settings
    found = settings.server_connect_timeout, settings.server_timeout
    settings.server_connect_timeout = settings.server_timeout = before_ms
    # A path that leads nowhere: the exchange is over at once.
    pygit2.Repository(str(repo)).remotes.set_url("origin", str(repo.with_name("nowhere.git")))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    try:
        with pytest.raises(RemoteUnavailableError):
            prepare(repo)
        assert (settings.server_connect_timeout, settings.server_timeout) == (
            connect_ms,
            silence_ms,
        )
    finally:
        settings.server_connect_timeout, settings.server_timeout = found
