"""The one way a request to GitHub's API is made.

What comes out of here is an answer with a 2xx status (or the 304 that was asked for), or
one of our errors.

Reading is repeated here, as the policy allows. Writing is sent once; repeating it is
the business of :mod:`agentrelay.workstream._github.settling`, which looks first.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from agentrelay.workstream._github.address import GitHubAddress
from agentrelay.workstream._github.failures import (
    is_passing,
    is_unauthorized,
    location_of,
    scrub,
    translate,
    unusable,
)
from agentrelay.workstream._github.limits import pause_of
from agentrelay.workstream._github.moves import MovedError, new_address, path_to_ask
from agentrelay.workstream._github.transport import SHORTEST_SECRET, Answer, Line, open_line, send
from agentrelay.workstream._policy import Deadline, RetryPolicy, lend_time
from agentrelay.workstream.credentials import (
    Credential,
    TokenSource,
    ca_bundle,
    describe_search,
    find_credential,
    proxy_for,
    seal_token,
)
from agentrelay.workstream.errors import RemoteUnavailableError, WorkstreamError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Answer", "Fields", "GitHubClient"]

# Names and values, or how they follow from the repository's address: that changes when
# the repository turns out to have been renamed.
Fields: TypeAlias = Mapping[str, Any] | Callable[[GitHubAddress], Mapping[str, Any]]


class GitHubClient:
    """Makes requests to the API of one repository's GitHub.

    May be shared between threads: each has a connection of its own. Nothing is opened
    before the first request. The credential is looked up for each request, so that a
    renewed token is used at once.

    Attributes:
        policy: How long and how often GitHub is asked.
        renamed_from: What the repository was called when the client was made, if it has
            turned out to be called something else, else ``None``.
    """

    def __init__(
        self,
        address: GitHubAddress,
        *,
        token: TokenSource = None,
        timeout_s: float = 15,
        policy: RetryPolicy | None = None,
        environ: Mapping[str, str] | None = None,
        home: Path | None = None,
    ) -> None:
        """Remember the settings.

        Args:
            address: The repository; requests go to its ``api_url`` only.
            token: Token, or a callable asked for each request; see
                :func:`agentrelay.workstream.credentials.find_credential`.
            timeout_s: Longest silence to bear, in seconds; a whole answer may take four
                times as long, and no longer than the policy's deadline leaves.
            policy: How long and how often to ask; the usual one by default.
            environ: Environment for tokens, proxies and certificates; the process's
                own by default.
            home: Home directory to look for credentials in; the user's by default.
        """
        self.policy = RetryPolicy() if policy is None else policy
        self.renamed_from: str | None = None
        self._address = address
        self._token = seal_token(token)
        self._timeout_s = timeout_s
        self._environ = environ
        self._home = home
        self._local = threading.local()

    def __repr__(self) -> str:
        """Name the repository and nothing secret."""
        return f"GitHubClient({self.address.host!r}, {self.address.full_name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings; tokens and the environment stay behind."""
        return (
            _restore,
            (self.address, self._token, self._timeout_s, self.policy, self._home),
        )

    @property
    def address(self) -> GitHubAddress:
        """The repository, by its new name once that is known."""
        return self._address

    @contextmanager
    def deadline(self) -> Iterator[Deadline]:
        """Give everything the calling thread does in a ``with`` block one deadline.

        Within another such block its deadline stays: the whole is what is bounded.
        Without a block each request has a deadline of its own.
        """
        running: Deadline | None = getattr(self._local, "deadline", None)
        if running is not None:
            yield running
            return
        self._local.deadline = started = self.policy.start()
        try:
            yield started
        finally:
            del self._local.deadline

    def close(self) -> None:
        """Close the calling thread's connection; a later request opens another."""
        line: Line | None = getattr(self._local, "line", None)
        if line is not None:
            del self._local.line
            line.connection.close()

    def secrets_in_use(self) -> tuple[str, ...]:
        """Return what the calling thread's last request proved itself with, to be masked.

        A token too short to be a real one is left out: masking it would garble words.
        """
        line: Line | None = getattr(self._local, "line", None)
        secret = "" if line is None or line.credential is None else line.credential.secret.reveal()
        return (secret,) if len(secret) >= SHORTEST_SECRET else ()

    def request(
        self,
        method: str,
        path: str,
        *,
        operation: str,
        parameters: Fields | None = None,
        body: Fields | None = None,
        etag: str | None = None,
        at: Literal["repository", "api", "graphql"] = "repository",
        check: Callable[[Answer], object] | None = None,
    ) -> Answer:
        """Make one request; a GET is repeated as the policy allows, anything else is not.

        A renamed or moved repository is followed once: its new name is asked for at the
        same host, kept, and the request is made again under it. Nothing was done under
        the old name.

        A token that was minted for us and is refused is renewed, and the request is sent
        again: a request without a valid token does nothing.

        Args:
            method: ``"GET"``, ``"POST"``, ``"PATCH"``, ``"PUT"`` or ``"DELETE"``.
            path: Path below the repository's own, ``"/pulls/1"`` for example. Never a
                URL an answer gave.
            operation: What is being done, to end "could not …".
            parameters: Query of the URL.
            body: JSON object to send.
            etag: The ``etag`` header of an earlier answer: where nothing has changed
                since, the answer is 304 without data, and free of the hourly quota.
            at: ``"api"`` when ``path`` is below the API's base instead; ``"graphql"`` when
                it is the GraphQL API's, with an empty ``path``.
            check: Raises what
                :func:`agentrelay.workstream._github.failures.unusable` returns where the
                answer is none; a GET is repeated after that as well.

        Raises:
            CredentialsRejectedError: The token was refused, or none was offered.
            RateLimitedError: GitHub asked for a pause longer than the policy allows, or
                for one too often.
            PullRequestError: GitHub refused; ``status`` is its answer's.
            RemoteUnavailableError: No answer, or none that can be read. What was
                asked may have happened.
            RepositoryError: The environment names a CA bundle that cannot be read.
        """
        with self.deadline() as deadline:
            failures = 0
            while True:
                try:
                    answer = self._once(
                        method, path, operation, parameters, body, etag, at, deadline
                    )
                    if check is not None:
                        check(answer)
                except MovedError as moved:
                    if at != "repository" or not self._follow(moved):
                        raise moved.error from moved.error.__cause__
                except WorkstreamError as error:
                    failures += 1
                    if method != "GET" or not self.pause_after(error, failures, deadline):
                        raise
                else:
                    return answer

    def pause_after(self, error: WorkstreamError, failures: int, deadline: Deadline) -> bool:
        """Wait until a request may be repeated after a failure, if it may.

        Args:
            error: The failure; what was given up for is noted on it.
            failures: How many there were in a row, from 1.
            deadline: The time that is left.

        Returns:
            Whether to go on.
        """
        if not is_passing(error):
            return False
        asked_s = pause_of(error)
        if asked_s is not None and not deadline.may_wait(asked_s):
            limits = f"at most {self.policy.longest_wait_s:g} s, {deadline.left_s:.0f} s are left"
            error.add_note(f"not waited for: {limits}")
            return False
        if failures >= self.policy.attempts:
            if failures > 1:
                error.add_note(f"given up after {failures} attempts")
            return False
        if asked_s is not None:
            deadline.wait_as_asked(asked_s)
            return True
        if not deadline.back_off(failures):
            error.add_note(f"given up: the deadline of {self.policy.deadline_s:g} s leaves no more")
            return False
        return True

    def _once(  # noqa: PLR0917 - what request() was given, passed on
        self,
        method: str,
        path: str,
        operation: str,
        parameters: Fields | None,
        body: Fields | None,
        etag: str | None,
        at: Literal["repository", "api", "graphql"],
        deadline: Deadline,
    ) -> Answer:
        """Send one request, once.

        Raises:
            MovedError: The repository is said to be somewhere else.
            WorkstreamError: Anything else that is no success.
        """
        address = self._address
        if deadline.left_s <= 0:
            raise RemoteUnavailableError(
                f"could not {operation} on {address.host}/{address.full_name}: "
                f"the deadline of {self.policy.deadline_s:g} s is over",
                url=address.api_url,
                hint="try again later, or allow more time: RetryPolicy(deadline_s=...)",
            )
        base = {"repository": f"/repos/{address.full_name}", "graphql": address.graphql_url}.get(
            at, ""
        )

        def attempt(credential: Credential | None) -> Answer:
            line = self._line(credential)
            line.connection.left_s = deadline.left_s
            return send(
                line,
                method,
                base + path,
                parameters=_filled(parameters, address),
                body=_filled(body, address),
                etag=etag,
            )

        credential = self._credential(address, deadline)
        try:
            return attempt(credential)
        except Exception as error:  # noqa: BLE001 - the backend raises outside any hierarchy
            failure = error
        if is_unauthorized(failure) and credential is not None and credential.was_refused():
            # Once: what a new token is refused for is not its age.
            credential = self._credential(address, deadline)
            try:
                return attempt(credential)
            except Exception as error:  # noqa: BLE001 - as above
                failure = error
        ours = self._translated(failure, operation, address, credential)
        location = location_of(failure)
        if location is not None:
            raise MovedError(ours, address, location)
        raise ours

    def _translated(
        self,
        failure: Exception,
        operation: str,
        address: GitHubAddress,
        credential: Credential | None,
    ) -> WorkstreamError:
        """Return our error for a failure, with the scrubbed original as its cause."""
        ours = translate(
            failure,
            operation=operation,
            address=address,
            credential_source=None if credential is None else credential.source,
            now_s=self.policy.wall_clock(),
            search=describe_search(
                address.host, token=self._token, environ=self._environ, home=self._home
            ),
        )
        if ours is not failure:
            scrub(failure)
            ours.__cause__ = failure
        return ours

    def _credential(self, address: GitHubAddress, deadline: Deadline) -> Credential | None:
        """Look for the credential as it is now; minting one takes from the same deadline."""
        with lend_time(lambda: deadline.left_s):
            return find_credential(
                address.host,
                path=address.full_name,
                token=self._token,
                environ=self._environ,
                home=self._home,
            )

    def _follow(self, moved: MovedError) -> bool:
        """Learn the repository's new name from a redirect, once in a client's life.

        Only a path on the very same host is taken from the redirect: a token follows
        nobody elsewhere.

        Raises:
            WorkstreamError: The name could not be asked for just now.
        """
        old = moved.address
        if self._address is not old:
            return True  # another thread was faster
        path = path_to_ask(old, moved.location)
        if path is None or self.renamed_from is not None:
            return False

        def check(answer: Answer) -> None:
            data = answer.data
            if not isinstance(data, dict) or not isinstance(data.get("full_name"), str):
                raise unusable("ask for the new name", old, "it is not a repository")

        try:
            answer = self.request(
                "GET", path, operation="ask for the new name", at="api", check=check
            )
        except WorkstreamError as error:
            if is_passing(error):
                raise
            return False
        new = new_address(old, answer.data)
        if new is None:
            return False
        self.renamed_from, self._address = old.full_name, new
        return True

    def _line(self, credential: Credential | None) -> Line:
        """Return this thread's connection, made anew after a fork or for another token."""
        line: Line | None = getattr(self._local, "line", None)
        if line is not None and line.pid == os.getpid() and line.credential == credential:
            return line
        self.close()
        bundle = ca_bundle(self._environ)
        line = open_line(
            self._address.api_url,
            credential,
            pid=os.getpid(),
            timeout_s=self._timeout_s,
            verify=True if bundle is None else str(bundle),
            proxy=proxy_for(self._address.api_url, self._environ),
        )
        self._local.line = line
        return line


def _filled(fields: Fields | None, address: GitHubAddress) -> Mapping[str, Any] | None:
    """Return the fields for a repository's address."""
    return fields(address) if callable(fields) else fields


def _restore(
    address: GitHubAddress,
    token: TokenSource,
    timeout_s: float,
    policy: RetryPolicy,
    home: Path | None,
) -> GitHubClient:
    """Make the client that comes out of a pickle."""
    return GitHubClient(address, token=token, timeout_s=timeout_s, policy=policy, home=home)
