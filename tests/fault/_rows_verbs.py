"""Rows of the fault matrix: every verb times every fault that touches what it touches.

Neither side lists the other: see ``_verbs`` for the verbs. What is written down by hand in
another module, with words and states of its own, is not made once more.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import pygit2
import pytest

import agentrelay.workstream
from agentrelay.workstream import (
    CredentialsRejectedError,
    LaneConflictError,
    LeaseLostError,
    PushRejectedError,
    RemoteUnavailableError,
    RepositoryError,
    WorkstreamError,
)
from agentrelay.workstream.testing import Fault
from tests._ports import closed_port
from tests.fault._doors import SshDoor, UploadDoor
from tests.fault._injectors import Inject, pointed_at, written
from tests.fault._matrix import REF, Place, Row, Seen
from tests.fault._rows_hosts import (
    a_redirect,
    a_wrong_token,
    between,
    delete_at_remote,
    push_theirs,
    take_back,
)
from tests.fault._rows_machine import extension, full_disk, read_only
from tests.fault._rows_network import a_hook_that_declines, nobody_listens, planned, silence
from tests.fault._trouble import few_descriptors, impatience
from tests.fault._verbs import VERBS, Touches, Verb, do

__all__ = ["rows_besides"]

_PART: Final = "Every verb, every fault"
_LINES: Final = 120


@dataclass(frozen=True)
class Kind:
    """One fault, for every verb it can happen to.

    Attributes:
        fault: What is injected, in words.
        touches: A verb that touches one of these meets it.
        inject: Brings it about, for a verb.
        error: Exact class of what the caller must see.
        says: What the message must hold.
        more: What else the row says; see :class:`Row`.
        files_left: How many files the verb may open at a time, ``None`` for as many as usual.
    """

    fault: str
    touches: Touches
    inject: Callable[[Verb], Inject]
    error: type[WorkstreamError] | None
    says: tuple[str, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)
    files_left: int | None = None

    def act(self, name: str) -> Callable[[Place], Seen] | None:
        """Return how a verb is done that may open only so many files."""
        left = self.files_left
        if left is None:
            return None

        def act(place: Place) -> Seen:
            # What is imported on its first use would need files of its own.
            for module in pkgutil.walk_packages(
                agentrelay.workstream.__path__, "agentrelay.workstream."
            ):
                if not module.name.endswith("__main__"):
                    importlib.import_module(module.name)
            with few_descriptors(left):
                return do(place, name)

        return act


@contextmanager
def _nothing(_: Place) -> Iterator[None]:
    """Bring nothing about: the verb itself is hindered."""
    yield


def _always(inject: Inject) -> Callable[[Verb], Inject]:
    return lambda _verb: inject


def interrupted(after_bytes: int, then: Literal["cut", "stall"]) -> Inject:
    """Let the server have enough in the middle of an upload, for a process that waits 0.2 s."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        with ExitStack() as stack:
            port = place.world.git.port
            door = stack.enter_context(UploadDoor(port, after_bytes=after_bytes, then=then))
            stack.enter_context(pointed_at(place, f"http://127.0.0.1:{door.port}/octo/widgets.git"))
            if then == "stall":
                stack.enter_context(_impatient_upload(place))
            yield
            assert door.left < UploadDoor.ALWAYS

    return inject


@contextmanager
def _impatient_upload(place: Place) -> Iterator[None]:
    """Let uploads, and they alone, wait 0.2 s for the server.

    A connection keeps the time-out it was opened with. So the list of refs ends its own, and
    may take as long as it likes.
    """
    git = place.world.git
    handle = git.handle

    def answer(request: Any) -> Any:
        response = handle(request)
        if "service=git-receive-pack" not in request.target:
            return response
        pygit2.settings.server_timeout = 200
        return replace(response, headers={**dict(response.headers), "connection": "close"})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(git, "handle", answer)
        try:
            yield
        finally:
            # As in a process that has none of its own: the next exchange sets one.
            pygit2.settings.server_timeout = 0


def ssh(greeting: bytes, then: Literal["close", "hang"]) -> Inject:
    """Let the remote be an ssh address where no server, or another one, is."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        with ExitStack() as stack:
            door = stack.enter_context(SshDoor(greeting, then))
            address = f"ssh://git@127.0.0.1:{door.port}/octo/widgets.git"
            stack.enter_context(pointed_at(place, address))
            if then == "hang":
                # Time enough to hear the greeting.
                stack.enter_context(impatience(1000))
            yield
            assert door.asked

    return inject


@contextmanager
def no_ssh_server(place: Place) -> Iterator[None]:
    """Let the remote be an ssh address where nobody listens."""
    with pointed_at(place, f"ssh://git@127.0.0.1:{closed_port()}/octo/widgets.git"):
        yield


def _garbage_record(place: Place) -> Any:
    """Let the lane's record hold garbage."""
    return written(place.lane.signal_dir / "lane.json", b"\xff{ no record \0")


@contextmanager
def nested_folders(place: Place) -> Iterator[None]:
    """Let the agent have made folders nested deeper than libgit2 looks, and a file in them."""
    paths = [place.worktree / "/".join(["d"] * depth) for depth in range(1, _LINES + 1)]
    for path in paths:
        path.mkdir()
    leaf = paths[-1] / "leaf.txt"
    leaf.write_text("precious")
    yield
    assert leaf.read_text() == "precious"
    leaf.unlink()
    for path in reversed(paths):
        path.rmdir()


@contextmanager
def a_symbolic_branch(place: Place) -> Iterator[None]:
    """Let somebody make the lane's branch lead to the user's."""
    path = place.git_dir / REF
    with written(path, b"ref: refs/heads/main\n"):
        yield
        assert path.read_bytes() == b"ref: refs/heads/main\n"
    for directory in list(path.parents)[:3]:
        if not any(directory.iterdir()):
            directory.rmdir()


def _kinds() -> Iterator[Kind]:
    """Yield the faults, in the page's order."""
    gone, refusal, wrong = RemoteUnavailableError, CredentialsRejectedError, RepositoryError
    remote, disk = Touches.REMOTE, Touches.DISK
    yield Kind("nobody listens", remote, _always(nobody_listens), gone, ("127.0.0.1:PORT",))
    yield Kind("connected, and never answered", remote, _always(silence), gone, ("REMOTE",))
    there, session = "ssh://127.0.0.1:PORT", "failed to start SSH session"
    yield Kind("ssh: nobody listens", remote, _always(no_ssh_server), gone, (there,))
    yield Kind(
        "ssh: a server of another kind",
        remote,
        _always(ssh(b"HTTP/1.1 400 Bad Request\r\n\r\n", "close")),
        gone,
        (there, session),
    )
    yield Kind(
        "ssh: a server that greets and hangs",
        remote,
        _always(ssh(b"SSH-2.0-double\r\n", "hang")),
        gone,
        (there, session, "Timed out"),
    )
    yield Kind(
        "the pack is cut in the middle",
        Touches.DOWNLOAD,
        _always(planned(Fault.cut(3000, method="POST", path="upload-pack"))),
        gone,
        ("unexpected EOF",),
    )
    for after_bytes in (1, 250, 500):
        yield Kind(
            f"the upload is cut after {after_bytes} {'bytes' if after_bytes > 1 else 'byte'}",
            Touches.UPLOAD | Touches.CREATION,
            _always(interrupted(after_bytes, "cut")),
            gone,
            ("cannot push",),
        )
    yield Kind(
        "the server stops reading in mid-upload",
        Touches.UPLOAD | Touches.CREATION,
        _always(interrupted(250, "stall")),
        gone,
        ("timed out",),
    )
    yield Kind(
        "a hook declines, in several lines",
        Touches.UPLOAD | Touches.CREATION | Touches.DELETION,
        _always(a_hook_that_declines),
        PushRejectedError,
        ("lanes are closed on Fridays", "Ask Robin", "Monday!"),
    )
    back = {"again": "they took theirs back, then the same call"}
    yield Kind(
        "the remote branch moves on between look and push",
        Touches.UPLOAD,
        _always(between(push_theirs, take_back)),
        LeaseLostError,
        ("stale info",),
        back,
    )
    yield Kind(
        "the remote branch is created between look and push",
        Touches.CREATION,
        _always(between(push_theirs, delete_at_remote)),
        LeaseLostError,
        ("stale info",),
        {"again": "they deleted theirs, then the same call"},
    )
    yield Kind(
        "the remote branch moves on between look and deletion",
        Touches.DELETION,
        _always(between(push_theirs, take_back)),
        LeaseLostError,
        ("stale info",),
        back,
    )
    yield Kind(
        "a wrong token",
        remote,
        _always(a_wrong_token),
        refusal,
        ("the token argument",),
        {"again": "with the right token"},
    )
    yield Kind(
        "a redirect to another host",
        remote,
        _always(a_redirect),
        refusal,
        ("no credential is sent to another host",),
    )
    local: dict[str, Any] = {"over": "path"}
    yield Kind(
        "the disk is full",
        Touches.ROOM,
        lambda verb: full_disk(verb.works_in),
        wrong,
        ("No space left",),
        local,
    )
    yield Kind(
        "every directory is read-only",
        disk,
        lambda verb: read_only(below=verb.works_in),
        wrong,
        ("Permission denied",),
        local,
    )
    yield Kind(
        "no more files may be opened",
        Touches.REPOSITORY | disk,
        _always(_nothing),
        wrong,
        ("Too many open files",),
        local,
        files_left=0,
    )
    # Most verbs have begun by then.
    yield Kind(
        "too many open files",
        Touches.MANY_FILES,
        _always(_nothing),
        wrong,
        ("Too many open files",),
        local,
        files_left=2,
    )
    yield Kind(
        "extensions.refStorage = reftable",
        Touches.REPOSITORY,
        _always(extension("refStorage = reftable")),
        wrong,
        ("REPO", "reftable"),
        local,
    )
    yield Kind(
        "lane.json is garbage",
        Touches.RECORD,
        _always(_garbage_record),
        WorkstreamError,
        ("REPO", "no readable lane record"),
        local,
    )
    yield Kind(
        "lane.json is garbage, and the caller has the runtime",
        Touches.LANE,
        _always(_garbage_record),
        None,
        more={**local, "comparable": False},
    )
    yield Kind(
        f"untracked folders nested {_LINES} deep",
        Touches.WORKTREE,
        _always(nested_folders),
        wrong,
        ("nesting too deep",),
        {**local, "again": "they were moved elsewhere, then the same call"},
    )
    yield Kind(
        "the lane's branch is a symbolic ref",
        Touches.BRANCH,
        _always(a_symbolic_branch),
        LaneConflictError,
        ("symbolic ref", "refs/heads/main"),
        {**local, "again": "it was made a branch again, then the same call"},
    )


def rows_besides(names: Collection[str]) -> Iterator[Row]:
    """Yield a row for each verb and each fault that touches it, except rows of these names."""
    for kind in _kinds():
        for name, verb in VERBS.items():
            row = Row(
                _PART,
                kind.fault,
                name,
                kind.inject(verb),
                kind.error,
                kind.says,
                act=kind.act(name),
                **kind.more,
            )
            if verb.touches & kind.touches and row.name not in names:
                yield row
