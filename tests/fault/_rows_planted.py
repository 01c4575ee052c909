"""Rows of the fault matrix: programs and configuration that an agent planted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pygit2
import pytest
from pygit2.enums import ConfigLevel

from agentrelay.workstream import (
    CredentialsRejectedError,
    RemoteUnavailableError,
    RepositoryError,
    WorkstreamError,
)
from agentrelay.workstream.testing import GitServer
from tests.fault._doors import Door, TlsDoor, certificate
from tests.fault._injectors import Inject, pointed_at, written
from tests.fault._matrix import Place, Row, Step

__all__ = ["ROWS"]

_PLANTED: Final = "Planted programs and configuration"
_HOOKS: Final = (
    "applypatch-msg", "commit-msg", "fsmonitor-watchman", "post-applypatch", "post-checkout",
    "post-commit", "post-index-change", "post-merge", "post-receive", "post-rewrite",
    "post-update", "pre-applypatch", "pre-auto-gc", "pre-commit", "pre-merge-commit", "pre-push",
    "pre-rebase", "pre-receive", "prepare-commit-msg", "proc-receive", "push-to-checkout",
    "reference-transaction", "sendemail-validate", "update",
)  # fmt: skip


def _program(path: Path, mark: Path) -> Path:
    """Write a program that leaves a mark."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho ran >> '{mark}'\ncat\n")
    path.chmod(0o755)
    return path


def planting(config: Callable[[Place, Path], str], attributes: str = "") -> Inject:
    """Plant hooks, and lines of configuration that may name a program.

    Args:
        config: Makes the lines from the place and the program.
        attributes: Lines of ``info/attributes``.
    """

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        mark = place.git_dir / "mark"
        program = _program(place.root / "planted" / "program", mark)
        for name in _HOOKS:
            _program(place.git_dir / "hooks" / name, mark)
            _program(place.root / "planted" / "hooks" / name, mark)
        path = place.git_dir / "config"
        path.write_text(path.read_text() + config(place, program))
        if attributes:
            (place.git_dir / "info" / "attributes").write_text(attributes)
        yield
        assert not mark.exists()

    return inject


def _no_lines(_place: Place, _program: Path) -> str:
    return ""


def _hooks_path(place: Place, _program: Path) -> str:
    return f"[core]\n\thooksPath = {place.root / 'planted' / 'hooks'}\n"


def _filters(_: Place, program: Path) -> str:
    return "".join(
        f'[filter "{name}"]\n\tclean = {program}\n\tsmudge = {program}\n\tprocess = {program}\n'
        f'\trequired = true\n[diff "{name}"]\n\tcommand = {program}\n\ttextconv = {program}\n'
        f'[merge "{name}"]\n\tdriver = {program}\n'
        for name in ("evil", "lfs")
    )


def _every_program(_: Place, program: Path) -> str:
    lines = {
        "core": ("fsmonitor", "sshCommand", "editor", "askPass", "pager", "gitProxy",
                 "alternateRefsCommand"),
        "credential": ("helper",),
        "gpg": ("program",),
        "diff": ("external",),
        "sequence": ("editor",),
        'remote "origin"': ("uploadpack", "receivepack", "vcs"),
        "uploadpack": ("packObjectsHook",),
        'trailer "x"': ("cmd", "command"),
        "interactive": ("diffFilter",),
    }  # fmt: skip
    text = "".join(
        f"[{section}]\n" + "".join(f"\t{key} = {program}\n" for key in keys)
        for section, keys in lines.items()
    )
    return (
        text + "[commit]\n\tgpgSign = true\n[tag]\n\tgpgSign = true\n[push]\n\tgpgSign = true\n"
        "[gc]\n\tauto = 1\n[protocol]\n\tallow = always\n"
    )


@contextmanager
def an_extra_header(place: Place) -> Iterator[None]:
    """Plant a header for every request."""
    with planting(lambda _place, _program: "[http]\n\textraHeader = X-Evil: yes\n")(place):
        yield
    assert not any("x-evil" in entry.headers for entry in place.world.git.requests)


def leading_away(step: Step, kind: str = "insteadOf") -> Inject:
    """Plant a rule that leads the remote's address to another host."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        with GitServer(place.bare.parent.parent, token="never sent") as other:
            path = place.git_dir / "config"
            rule = f'[url "{other.url}/"]\n\t{kind} = {place.world.git.url}/\n'
            with written(path, path.read_bytes() + rule.encode()):
                yield
            assert other.requests == ()
            assert step == "prepare" or place.world.github.requests == ()

    return inject


@contextmanager
def to_a_mirror(place: Place) -> Iterator[None]:
    """Let the user's own configuration lead to another host: that is the user's wish."""
    paths = pygit2.settings.search_path
    before = paths[ConfigLevel.GLOBAL]
    paths[ConfigLevel.GLOBAL] = str(place.home)
    with GitServer(place.bare.parent.parent, token=place.world.token) as mirror:
        rule = f'[url "{mirror.url}/"]\n\tinsteadOf = {place.world.git.url}/\n'
        (place.home / ".gitconfig").write_text(rule)
        try:
            yield
        finally:
            paths[ConfigLevel.GLOBAL] = before
        assert mirror.requests
        assert place.world.git.requests == ()


def address(url: str) -> Inject:
    """Give the remote an address that names a program."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        mark = place.git_dir / "mark"
        with pointed_at(place, url.format(mark=mark)):
            yield
        assert not mark.exists()

    return inject


@contextmanager
def a_proxy_for_http(place: Place) -> Iterator[None]:
    """Plant a proxy, which would see the token of plain http."""
    with Door(lambda _first, _connection: None) as proxy:
        path = place.git_dir / "config"
        line = f"[http]\n\tproxy = http://127.0.0.1:{proxy.port}\n"
        path.write_text(path.read_text() + line)
        yield
        assert proxy.asked == []


def a_proxy_for_https(answer: bytes) -> Inject:
    """Plant a proxy in front of a server with TLS; it answers what it likes."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        made = certificate(place.root / "door.pem", address="127.0.0.1")
        with (
            pytest.MonkeyPatch.context() as patch,
            TlsDoor(place.world.git.port, made) as door,
            Door(lambda _first, connection: connection.sendall(answer)) as proxy,
        ):
            patch.setenv("SSL_CERT_FILE", str(made))
            path = place.git_dir / "config"
            line = f"[http]\n\tproxy = http://127.0.0.1:{proxy.port}\n\tsslVerify = false\n"
            with (
                pointed_at(place, f"https://127.0.0.1:{door.port}/octo/widgets.git"),
                written(path, path.read_bytes() + line.encode()),
            ):
                yield
            assert proxy.asked
            assert all(first.startswith(b"CONNECT 127.0.0.1:") for first in proxy.asked)
            assert not any(b"uthorization" in first for first in proxy.asked)

    return inject


@contextmanager
def no_verification(place: Place) -> Iterator[None]:
    """Plant that certificates are not verified."""
    made = certificate(place.root / "door.pem", address="127.0.0.1")
    with TlsDoor(place.world.git.port, made) as door, ExitStack() as stack:
        url = f"https://127.0.0.1:{door.port}/octo/widgets.git"
        stack.enter_context(pointed_at(place, url))
        path = place.git_dir / "config"
        line = b"[http]\n\tsslVerify = false\n\tsslCAInfo = /dev/null\n"
        stack.enter_context(written(path, path.read_bytes() + line))
        yield
        assert door.asked == []


def a_worktree_elsewhere(name: str) -> Inject:
    """Plant a working tree outside of the repository."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        path = place.git_dir / "config"
        line = f"[core]\n\tworktree = {place.root / name}\n"
        with written(path, path.read_bytes() + line.encode()):
            yield

    return inject


def _rows() -> Iterator[Row]:
    """Yield the rows, in the page's order."""

    def row(
        step: Step,
        fault: str,
        inject: Inject,
        error: type[WorkstreamError] | None,
        *says: str,
        **more: Any,
    ) -> Row:
        return Row(part, fault, step, inject, error, says, **more)

    wrong = RepositoryError
    part = _PLANTED
    life: Step = "whole life"
    yield row(life, "all hooks in .git/hooks", planting(_no_lines), None)
    yield row(life, "all hooks in core.hooksPath", planting(_hooks_path), None)
    yield row(
        life,
        "clean, smudge, diff and merge programs for every file",
        planting(_filters, "* filter=evil diff=evil merge=evil\n"),
        None,
    )
    yield row(life, "every other key that names a program", planting(_every_program), None)
    yield row(
        "prepare",
        "the remote's address is ext::sh -c ...",
        address("ext::sh -c touch% {mark}"),
        wrong,
        "names a program",
        again="the address was mended, then the same call",
    )
    yield row(
        "prepare",
        "the remote's address is ssh://-oProxyCommand=...",
        address("ssh://-oProxyCommand=touch%20{mark}/x"),
        wrong,
        "names a program",
        again="the address was mended, then the same call",
    )
    yield row(life, "http.extraHeader", an_extra_header, None)
    for step in ("prepare", "integrate"):
        yield row(
            step,
            "url.*.insteadOf leads to another host",
            leading_away(step),
            wrong,
            "insteadOf",
            again="the rule was removed, then the same call",
        )
    yield row("prepare", "the user's own url.*.insteadOf leads to a mirror", to_a_mirror, None)
    yield row(
        "prepare",
        "url.*.pushInsteadOf leads to another host",
        leading_away("prepare", "pushInsteadOf"),
        wrong,
        "insteadOf",
        again="the rule was removed, then the same call",
    )
    yield row("prepare", "http.proxy, the remote being this machine", a_proxy_for_http, None)
    yield row(
        "prepare",
        "http.proxy, which refuses a tunnel",
        a_proxy_for_https(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n"),
        RemoteUnavailableError,
    )
    yield row(
        "prepare",
        "http.proxy, which asks for a password",
        a_proxy_for_https(
            b"HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"
        ),
        CredentialsRejectedError,
        "proxy",
    )
    yield row(
        "prepare",
        "http.proxy, which pretends to be the server",
        a_proxy_for_https(b"HTTP/1.1 200 Fine\r\n\r\nnot TLS"),
        RemoteUnavailableError,
    )
    yield row(
        "prepare",
        "http.sslVerify = false, and a certificate nobody knows",
        no_verification,
        RemoteUnavailableError,
        "certificate",
    )
    for name in ("neighbour", "nowhere"):
        yield row(
            "prepare",
            f"core.worktree leads {'outside' if name == 'neighbour' else name}",
            a_worktree_elsewhere(name),
            wrong,
            again="the line was removed, then the same call",
        )


ROWS: Final = tuple(_rows())
