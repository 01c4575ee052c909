"""A git server over smart HTTP, in a thread: for tests that push and fetch for real.

It serves bare repositories on loopback, to libgit2 and to the stock git alike, asks
for a token where one is set, refuses what it is told to refuse in git's own words, and
misbehaves on request. Local paths cannot stand in for it: libgit2's local transport
runs no rules, so nothing is ever refused there.

    with GitServer(root, token="secret") as server:
        url = server.repository_url("owner/project")
        server.faults.add(Fault.refuse_ref("refs/heads/main", "protected branch"))
"""

from __future__ import annotations

import base64
import hmac
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pygit2
from pygit2.enums import RepositoryOpenFlag

from agentrelay.workstream.testing._git_protocol import ProtocolError, RefUpdate
from agentrelay.workstream.testing._loopback import LoopbackServer, Request, Response
from agentrelay.workstream.testing._pktline import PktLineError, PktLineReader
from agentrelay.workstream.testing._receive_pack import PushRules, answer_push
from agentrelay.workstream.testing._upload_pack import advertisement, answer_fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["GitServer", "RefUpdate"]

_SERVICES: Final = ("git-upload-pack", "git-receive-pack")

# The user name GitHub documents for tokens of apps.
_MINTED_USER: Final = b"x-access-token"

_REALM: Final = 'Basic realm="agentrelay-workstream testing"'

# gitprotocol-http(5): answers must not be cached, since refs move.
_UNCACHED: Final = {"cache-control": "no-cache, max-age=0, must-revalidate", "pragma": "no-cache"}


class GitServer(LoopbackServer):
    """Serves every bare repository below a directory; use it as a context manager.

    ``<root>/owner/project.git`` is at ``<url>/owner/project`` and at
    ``<url>/owner/project.git``. Repositories may come and go, and be changed directly on
    disk, while it runs. Faults are planned with :attr:`faults`; one that replaces or cuts
    an answer happens before the token is looked at, so with a token choose the requests
    by ``method`` and ``path``: clients often send their first request without it.

    Hooks declared in the repositories are never run: no program is ever started.

    Attributes:
        hooks: Called with the updates of a push that no rule refused, in the server's
            thread and under the repository's lock. Each returns reasons by ref for those
            it declines, and nothing for the others. The first line of a reason is what
            the client is told about the ref (empty: "pre-receive hook declined"); the
            following ones are shown to the person there as ``remote:`` lines.
        deny_non_fast_forwards: Refuse updates of branches that lose commits.
        deny_deletes: Refuse to delete any ref.
        deny_delete_current: Refuse to delete the branch HEAD names, as git does.
        judge: Asked about a token that is not the server's own and comes with the user
            ``x-access-token``, with the repository's path and whether it is to be written;
            returns the HTTP status, 200 to go on.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        token: str | None = None,
        username: str | None = None,
        hooks: Iterable[Callable[[Sequence[RefUpdate]], Mapping[str, str]]] = (),
        deny_non_fast_forwards: bool = False,
        deny_deletes: bool = False,
        deny_delete_current: bool = True,
    ) -> None:
        """Make a server that does not listen yet; entering it starts it.

        Args:
            root: Directory below which the repositories are.
            token: What clients must show, as the password of HTTP Basic or as a Bearer
                token; ``None`` lets everybody in.
            username: The only user name accepted with it, or ``None`` for any.
            hooks: See the class.
            deny_non_fast_forwards: See the class.
            deny_deletes: See the class.
            deny_delete_current: See the class.
        """
        super().__init__()
        self.hooks = list(hooks)
        self.deny_non_fast_forwards = deny_non_fast_forwards
        self.deny_deletes = deny_deletes
        self.deny_delete_current = deny_delete_current
        self.judge: Callable[[str, str, bool], int] | None = None
        self._root = Path(root).resolve()
        self._token = token
        self._username = username
        self._guard = threading.Lock()
        self._locks: dict[Path, threading.Lock] = {}

    def repository_url(self, path: Path | str) -> str:
        """Return the URL of a repository.

        Args:
            path: Its path below the root, or its absolute path.

        Raises:
            ValueError: An absolute path that is not below the root.
        """
        below = Path(path)
        if below.is_absolute():
            below = below.resolve().relative_to(self._root)
        return f"{self.url}/{below.as_posix()}"

    def handle(self, request: Request) -> Response:
        """Answer one request; see the base class."""
        status = self._admission(request)
        if status == 401:  # noqa: PLR2004  # RFC 9110: Unauthorized
            return _text(401, "a token is needed here", {"www-authenticate": _REALM})
        if status != 200:  # noqa: PLR2004  # RFC 9110: OK
            return _text(status, "Write access to repository not granted.")
        if request.path.endswith("/info/refs"):
            return self._list_refs(request)
        name, _, service = request.path.rpartition("/")
        if service in _SERVICES:
            return self._serve(name, service, request)
        return _text(404, "not found")

    def loggable_body(self, request: Request) -> bytes:
        """Return the commands of a push without its pack; see the base class."""
        reader = PktLineReader(request.body)
        if not request.path.endswith("/git-receive-pack"):
            return request.body
        try:
            reader.section()
        except PktLineError:
            return request.body
        return request.body.removesuffix(reader.rest) if reader.rest else request.body

    def _list_refs(self, request: Request) -> Response:
        service = request.query.get("service")
        if request.method != "GET":
            return _text(405, "this is asked with GET", {"allow": "GET"})
        if service not in _SERVICES:
            return _text(403, "only the smart protocol is spoken here")
        found = self._find(request.path.removesuffix("/info/refs"))
        if found is None:
            return _text(404, "repository not found")
        return _answer(service, "advertisement", advertisement(_open(found), service))

    def _serve(self, name: str, service: str, request: Request) -> Response:
        if request.method != "POST":
            return _text(405, "this is asked with POST", {"allow": "POST"})
        if request.headers.get("content-type") != f"application/x-{service}-request":
            return _text(415, "this is not a request of the service")
        found = self._find(name)
        if found is None:
            return _text(404, "repository not found")
        try:
            if service == "git-upload-pack":
                body = answer_fetch(_open(found), request.body)
            else:
                body = self._receive(found, request.body)
        except (ProtocolError, PktLineError, UnicodeDecodeError) as error:
            return _text(400, f"bad request: {error}")
        return _answer(service, "result", body)

    def _receive(self, found: Path, body: bytes) -> bytes:
        with self._guard:
            lock = self._locks.setdefault(found, threading.Lock())
        return answer_push(_open(found), body, rules=self._rules(), lock=lock)

    def _rules(self) -> PushRules:
        def planned(ref: str) -> str | None:
            fault = self.faults.take_ref(ref)
            return None if fault is None else fault.reason

        return PushRules(
            deny_non_fast_forwards=self.deny_non_fast_forwards,
            deny_deletes=self.deny_deletes,
            deny_delete_current=self.deny_delete_current,
            hooks=tuple(self.hooks),
            planned=planned,
        )

    def _admission(self, request: Request) -> int:
        """Return 200 for a request that shows a good token, else the status of the refusal."""
        if self._token is None:
            return 200
        shown = _shown(request.authorization)
        if shown is None:
            return 401
        user, password = shown
        known = None in {self._username, user} or user == (self._username or "").encode()
        # Without telling by the time it takes.
        if hmac.compare_digest(password, self._token.encode()) and known:
            return 200
        if self.judge is None or user not in {None, _MINTED_USER}:
            return 401
        path, _, service = request.path.removeprefix("/").rpartition("/")
        if service == "refs":
            path, service = path.removesuffix("/info"), request.query.get("service", "")
        writes = service == "git-receive-pack"
        return self.judge(password.decode("latin-1"), path, writes)

    def _find(self, path: str) -> Path | None:
        """Return the bare repository a URL's path names, or ``None``."""
        parts = path.removeprefix("/").split("/")
        # Two slashes, dots and NUL are no names of directories one could mean.
        if any(part in {"", ".", ".."} or "\0" in part or "\\" in part for part in parts):
            return None
        name = parts[-1]
        for last in (name, f"{name}.git", name.removesuffix(".git")):
            try:
                # A symbolic link may lead anywhere: what counts is where it ends.
                real = self._root.joinpath(*parts[:-1], last).resolve()
                if real.is_relative_to(self._root) and (real / "HEAD").is_file():
                    return real if _open(real).is_bare else None
            except (OSError, RuntimeError, pygit2.GitError):
                # A name too long, links in a circle, or a HEAD that makes no repository.
                return None
        return None


def _shown(authorization: str | None) -> tuple[bytes | None, bytes] | None:
    """Return user and password of a request, or ``None`` where it shows neither."""
    scheme, _, value = (authorization or "").partition(" ")
    if scheme.lower() == "bearer":
        return None, value.encode()
    try:
        user, _, password = base64.b64decode(value, validate=True).partition(b":")
    except ValueError:
        return None
    return (user, password) if scheme.lower() == "basic" else None


def _open(path: Path) -> pygit2.Repository:
    """Open a repository anew: a handle is for one thread, and is quick to get."""
    return pygit2.Repository(str(path), RepositoryOpenFlag.NO_SEARCH)


def _text(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    fields = {"content-type": "text/plain; charset=utf-8", **(headers or {})}
    return Response(status, fields, f"{text}\n".encode())


def _answer(service: str, part: str, body: bytes) -> Response:
    return Response(200, {"content-type": f"application/x-{service}-{part}", **_UNCACHED}, body)
