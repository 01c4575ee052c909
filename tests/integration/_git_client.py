"""A git client for tests of the git server: libgit2, and raw requests beside it."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Final

import pygit2

from agentrelay.workstream.testing._pktline import frame

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agentrelay.workstream.testing.git_server import GitServer

__all__ = ["LIST", "MAIN", "NO_ID", "Client", "command", "fetch", "get", "pack_of", "post", "push"]

NO_ID: Final = "0" * 40
MAIN: Final = "refs/heads/main"
LIST: Final = "/info/refs?service=git-upload-pack"


class Client(pygit2.RemoteCallbacks):
    """What libgit2 tells its caller, and what the caller tells libgit2."""

    def __init__(
        self, *logins: tuple[str, str], before_push: Callable[[], object] | None = None
    ) -> None:
        super().__init__()
        self.verdicts: dict[str, str | None] = {}
        self.said = ""
        self.asked = 0
        self._logins = logins
        self._before_push = before_push

    def credentials(
        self,
        url: str,  # noqa: ARG002  # the binding's signature
        username_from_url: str | None,  # noqa: ARG002
        allowed_types: object,  # noqa: ARG002
    ) -> pygit2.UserPass:
        if self.asked == len(self._logins):
            raise PermissionError("no login left")
        self.asked += 1
        return pygit2.UserPass(*self._logins[self.asked - 1])

    def push_update_reference(self, refname: str, message: str | None) -> None:
        self.verdicts[refname] = message

    def sideband_progress(self, string: str) -> None:
        self.said += string

    def push_negotiation(self, updates: object) -> None:  # noqa: ARG002  # the binding's signature
        if self._before_push is not None:
            self._before_push()


def push(work: Path, *refspecs: str, client: Client | None = None) -> dict[str, str | None]:
    """Push refspecs to ``origin`` and return the server's verdicts by ref."""
    client = client or Client()
    pygit2.Repository(str(work)).remotes["origin"].push(list(refspecs), callbacks=client)
    return client.verdicts


def fetch(work: Path, *, client: Client | None = None, depth: int = 0) -> None:
    """Fetch from ``origin`` as its configuration says."""
    remote = pygit2.Repository(str(work)).remotes["origin"]
    remote.fetch(callbacks=client or Client(), depth=depth)


def post(
    server: GitServer, service: str, body: bytes, *, path: str = "/owner/project", **headers: str
) -> tuple[int, bytes]:
    """Send what no well-behaved client sends, and return status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    fields = {"content-type": f"application/x-{service}-request", **headers}
    connection.request("POST", f"{path}/{service}", body, fields)
    answer = connection.getresponse()
    result = (answer.status, answer.read())
    connection.close()
    return result


def get(server: GitServer, target: str, **headers: str) -> tuple[int, dict[str, str]]:
    """Send a GET and return status and header fields by lower-case name."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", target, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}


def command(old: str, new: str, ref: str, capabilities: str = "report-status") -> bytes:
    """Return one command of a push; capabilities count in the first one only."""
    return frame(f"{old} {new} {ref}\0{capabilities}\n")


def pack_of(path: Path, folder: Path, *ids: str) -> bytes:
    """Return a pack of exactly the objects named."""
    folder.mkdir()
    builder = pygit2.PackBuilder(pygit2.Repository(str(path)))
    for oid in ids:
        builder.add(pygit2.Oid(hex=oid))
    builder.write(folder)
    return next(folder.glob("*.pack")).read_bytes()
