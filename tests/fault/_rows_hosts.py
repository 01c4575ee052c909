"""Rows of the fault matrix: others at the same time, credentials, and whom they go to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pygit2
import pytest

from agentrelay.workstream import (
    CredentialsRejectedError,
    LaneConflictError,
    LeaseLostError,
    RemoteUnavailableError,
    RepositoryError,
    WorkstreamSpec,
)
from agentrelay.workstream.testing import Fault, GitServer, commit_files, refs
from tests.fault._doors import TlsDoor, certificate
from tests.fault._injectors import Inject, at_github, pointed_at, row
from tests.fault._matrix import BRANCH, REF, Place, Row

__all__ = [
    "ROWS",
    "a_redirect",
    "a_wrong_token",
    "between",
    "delete_at_remote",
    "push_theirs",
    "take_back",
]

_RACES: Final = "Others, at the same time"
_CREDENTIALS: Final = "Credentials and hosts"


@contextmanager
def set_token(place: Place, token: Any) -> Iterator[None]:
    """Pass another token for a while; it is as secret as any."""
    if isinstance(token, str):
        place.secrets.append(token)
    place.settings["token"] = token
    yield
    del place.settings["token"]


def between(act: Callable[[Place], None], undo: Callable[[Place], None]) -> Inject:
    """Let somebody act on the remote after it was looked at and before the push."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        git, happened = place.world.git, False
        handle = git.handle

        def race(request: Any) -> Any:
            nonlocal happened
            if "receive-pack" in request.target and not happened:
                happened = True
                act(place)
            return handle(request)

        git.handle = race  # type: ignore[method-assign]  # the moment between two requests
        yield
        git.handle = handle  # type: ignore[method-assign]  # as it was
        assert happened
        undo(place)

    return inject


def push_theirs(place: Place) -> None:
    """Commit to the lane's branch at the remote, as somebody else."""
    commit_files(place.bare, {"theirs.txt": "theirs"}, message="theirs", branch=BRANCH)


def take_back(place: Place) -> None:
    """Move the remote's branch back to where the lane was when it was made."""
    assert place.runtime.state.base_commit is not None
    remote = pygit2.Repository(str(place.bare))
    assert read_message(place) == "theirs"
    remote.references.create(REF, place.runtime.state.base_commit, force=True)


def read_message(place: Place) -> str:
    """Return the message of the remote branch's last commit: nothing was overwritten."""
    tip = pygit2.Repository(str(place.bare)).references[REF].peel(pygit2.Commit)
    return tip.message


def delete_at_remote(place: Place) -> None:
    """Delete the lane's branch at the remote."""
    pygit2.Repository(str(place.bare)).references.delete(REF)


def _push_again(place: Place) -> None:
    """Make the lane's branch at the remote again, where it was."""
    assert place.runtime.state.base_commit is not None
    remote = pygit2.Repository(str(place.bare))
    remote.references.create(REF, place.runtime.state.base_commit)


@contextmanager
def a_branch_of_another_clone(place: Place) -> Iterator[None]:
    """Let another clone have pushed the lane's branch long ago."""
    push_theirs(place)
    yield
    assert read_message(place) == "theirs"
    delete_at_remote(place)


@contextmanager
def a_base_nobody_has(place: Place) -> Iterator[None]:
    """Ask for a base branch that is not there."""
    before = place.spec
    place.spec = WorkstreamSpec("parser", base_branch="release/9")
    yield
    place.spec = before


@contextmanager
def a_target_that_was_deleted(place: Place) -> Iterator[None]:
    """Delete the merge target at the remote after the lane was made."""
    tip = refs(place.bare)["refs/heads/main"]
    pygit2.Repository(str(place.bare)).references.delete("refs/heads/main")
    yield
    pygit2.Repository(str(place.bare)).references.create("refs/heads/main", tip)


@contextmanager
def no_such_remote(place: Place) -> Iterator[None]:
    """Name a remote that is not configured."""
    place.settings["remote"] = "upstream"
    yield
    del place.settings["remote"]


@contextmanager
def a_wrong_token(place: Place) -> Iterator[None]:
    """Pass a token the server does not know; it is offered once."""
    asked = len(place.world.git.requests)
    with set_token(place, "ghp_" + "0123456789" * 3):
        yield
    sent = place.world.git.requests[asked:]
    offered = [entry for entry in sent if "authorization" in entry.headers]
    assert len(offered) == 1


def token(value: Any) -> Inject:
    """Pass another token."""
    return lambda place: set_token(place, value)


def _fails() -> str:
    raise ValueError("made-up-for-this-world-only")  # the secret, in a foreign error's words


@contextmanager
def a_redirect(place: Place) -> Iterator[None]:
    """Redirect to another host, which asks for a token."""
    with GitServer(place.bare.parent.parent, token="never sent") as other:
        target = f"{other.url}/octo/widgets.git/info/refs?service=git-upload-pack"
        place.world.git.faults.add(Fault.redirect(target, path="info/refs", times=9))
        yield
        assert not any("authorization" in entry.headers for entry in other.requests)
    place.world.git.faults.clear()


@contextmanager
def not_encrypted(place: Place) -> Iterator[None]:
    """Use plain http to a host that is not this machine by its name."""
    with pointed_at(place, f"http://0.0.0.0:{place.world.git.port}/octo/widgets.git"):
        yield
    assert not any("authorization" in entry.headers for entry in place.world.git.requests)


def tls(address: str, *, known: bool, downgrade: bool = False) -> Inject:
    """Put TLS in front of the server, with a certificate for an address.

    Args:
        address: What the certificate is for.
        known: Whether the environment's CA bundle has it.
        downgrade: Whether the server sends the client on to plain http.
    """

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        made = certificate(place.root / "door.pem", address=address)
        with pytest.MonkeyPatch.context() as patch, TlsDoor(place.world.git.port, made) as door:
            if known:
                patch.setenv("SSL_CERT_FILE", str(made))
            if downgrade:
                plain = place.world.remote_url + "/info/refs?service=git-upload-pack"
                place.world.git.faults.add(Fault.redirect(plain, path="info/refs", times=9))
            asked = len(place.world.git.requests)
            with pointed_at(place, f"https://127.0.0.1:{door.port}/octo/widgets.git"):
                yield
            if downgrade:
                sent = place.world.git.requests[asked:]
                assert not any("authorization" in entry.headers for entry in sent)
            elif not known or address != "127.0.0.1":
                assert door.asked == []
            place.world.git.faults.clear()

    return inject


def _rows() -> Iterator[Row]:
    """Yield the rows, in the page's order."""
    gone = RemoteUnavailableError
    part = _RACES
    yield row(
        part,
        "prepare",
        "the remote branch is created between look and push",
        between(push_theirs, delete_at_remote),
        LeaseLostError,
        "stale info",
        again="they deleted theirs, then the same call",
    )
    yield row(
        part,
        "integrate",
        "the remote branch moves on between look and push",
        between(push_theirs, take_back),
        LeaseLostError,
        "stale info",
        again="they took theirs back, then the same call",
    )
    yield row(
        part,
        "integrate",
        "the remote branch is deleted between look and push",
        between(delete_at_remote, _push_again),
        LeaseLostError,
        "is not there any more",
        again="they pushed it again, then the same call",
    )
    yield row(
        part,
        "teardown",
        "the remote branch moves on between look and deletion",
        between(push_theirs, take_back),
        LeaseLostError,
        "stale info",
        again="they took theirs back, then the same call",
    )
    yield row(
        part,
        "teardown",
        "the remote branch is deleted between look and deletion",
        between(delete_at_remote, lambda _place: None),
        None,
    )
    yield row(
        part,
        "prepare",
        "another clone has the lane",
        a_branch_of_another_clone,
        LaneConflictError,
        "already has the branch",
        again="they tore it down, then the same call",
    )
    yield row(
        part,
        "prepare",
        "the base branch is nowhere",
        a_base_nobody_has,
        RepositoryError,
        "'release/9'",
        again="with a base branch that exists",
    )
    yield row(
        part,
        "integrate",
        "the merge target was deleted",
        a_target_that_was_deleted,
        RepositoryError,
        "'main'",
        again="the target was pushed again, then the same call",
    )

    part = _CREDENTIALS
    refusal = CredentialsRejectedError
    yield row(
        part,
        "prepare",
        "no such remote",
        no_such_remote,
        RepositoryError,
        "'upstream'",
        again="with a remote that is configured",
    )
    proven = "at an address that proves whose it is"
    right = "with the right token"
    yield row(
        part, "prepare", "a wrong token", a_wrong_token, refusal, "the token argument", again=right
    )
    yield row(part, "prepare", "no token anywhere", token(None), refusal, "REMOTE", again=right)
    yield row(
        part,
        "prepare",
        "a token with a newline in it",
        token("two\nlines-of-a-secret"),
        refusal,
        "the token argument",
        again=right,
    )
    yield row(
        part,
        "prepare",
        "a token callable that fails, with the token in its words",
        token(_fails),
        refusal,
        "the token callable",
        again=right,
    )
    yield row(
        part,
        "integrate",
        "GitHub does not know the token",
        at_github(Fault.status(401, message="Bad credentials", times=9)),
        refusal,
        again="with the right token",
    )
    yield row(
        part,
        "prepare",
        "a redirect to another host",
        a_redirect,
        refusal,
        "no credential is sent to another host",
    )
    yield row(
        part,
        "prepare",
        "plain http to a host that asks for a token",
        not_encrypted,
        refusal,
        "not encrypted",
    )
    yield row(
        part,
        "prepare",
        "a certificate nobody knows",
        tls("127.0.0.1", known=False),
        gone,
        "certificate",
        again=proven,
    )
    yield row(
        part,
        "prepare",
        "a known certificate, for another host",
        tls("127.0.0.9", known=True),
        gone,
        "certificate",
        again=proven,
    )
    yield row(
        part,
        "prepare",
        "a certificate of the CA bundle in SSL_CERT_FILE",
        tls("127.0.0.1", known=True),
        None,
    )
    yield row(
        part,
        "prepare",
        "a redirect from https to http",
        tls("127.0.0.1", known=True, downgrade=True),
        gone,
        "cannot redirect from 'https' to 'http'",
    )


ROWS: Final = tuple(_rows())
