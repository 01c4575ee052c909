"""libgit2 as a whole: the one place that touches its process-wide settings.

Three things are set, and only where the process has not set them: the two network
time-outs (0 means "wait for ever"; shorter while exchanges with a short deadline run) and
the CA bundle named by the environment.
Owner validation and the configuration search path stay the user's.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import ssl
import threading
from collections.abc import Iterator
from typing import Final

from agentrelay.workstream.credentials import ca_bundle
from agentrelay.workstream.errors import RepositoryError

__all__ = ["configure_network", "load", "patience"]

# One unanswered connection attempt, and one silent socket. Git itself waits for
# ever; curl's default for connecting is 300 s, which is longer than agents live.
_CONNECT_MS: Final = 15_000
_SILENCE_MS: Final = 60_000
# A loaded machine is silent for a second or two now and then, and is well.
_SHORTEST_MS: Final = 5_000


class _Limits:
    """What running exchanges want of the two time-outs, which the whole process shares."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.wanted_ms: list[int] = []
        # What was set here last, by the setting's name: anything else is the process's own.
        self.ours_ms: dict[str, int] = {}

    def apply(self) -> None:
        """Set them, unless the process has set its own; call it with the lock held."""
        import pygit2

        silence_ms = max(self.wanted_ms, default=_SILENCE_MS)
        connect_ms = min(silence_ms, _CONNECT_MS)
        for name, value in (("server_connect_timeout", connect_ms), ("server_timeout", silence_ms)):
            if getattr(pygit2.settings, name) in {0, self.ours_ms.get(name)}:
                setattr(pygit2.settings, name, value)
                self.ours_ms[name] = value


_limits = _Limits()


def _forget_threads() -> None:
    """Start afresh in a forked child: the exchanges that ran elsewhere are not there."""
    _limits.lock = threading.Lock()
    _limits.wanted_ms.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def load() -> None:
    """Import pygit2, also where the machine has no CA certificates.

    pygit2 refuses to be imported when it finds no certificates at all, as in images
    without ``ca-certificates``. The bundle that comes with ``requests`` stands in.

    Raises:
        RepositoryError: ``SSL_CERT_FILE`` or a like variable names a missing file, or
            libgit2 cannot be loaded.
    """
    before = os.environ.get("SSL_CERT_FILE")
    paths = ssl.get_default_verify_paths()
    found: tuple[str | None, str | None] = (paths.cafile, paths.capath)
    if not any(found):
        ca_bundle()
        with contextlib.suppress(ImportError):
            import certifi

            # Read once, during the import below; restored right after it.
            os.environ["SSL_CERT_FILE"] = certifi.where()
    try:
        import pygit2  # noqa: F401 - loading it is the point
    except Exception as error:
        message = f"cannot load libgit2 through pygit2: {error}"
        raise RepositoryError(
            message, hint="Reinstall pygit2, and install CA certificates if it names them."
        ) from error
    finally:
        if before is None:
            os.environ.pop("SSL_CERT_FILE", None)
        else:
            os.environ["SSL_CERT_FILE"] = before


def configure_network() -> None:
    """Give libgit2 time-outs and the CA bundle the environment names.

    Raises:
        RepositoryError: A variable names a CA bundle that does not exist.
    """
    with _limits.lock:
        _limits.apply()
    bundle = ca_bundle()
    if bundle is not None:
        _use_bundle(str(bundle))


@contextlib.contextmanager
def patience(left_s: float) -> Iterator[None]:
    """Let libgit2 wait no longer for a silent server than an exchange may take.

    A connection keeps the time-outs there are when it is made, and the process has one
    pair of them: while several exchanges run the longest counts, so that nobody's haste
    ends another's. Nothing else stops an exchange that waits: libgit2 calls nobody while a
    server neither sends nor reads.

    Args:
        left_s: Seconds the exchange has left; fewer than 5 count as 5.

    Source:
        libgit2 1.9, src/libgit2/streams/socket.c: each stream copies the two options.
    """
    wanted_ms = min(_SILENCE_MS, max(_SHORTEST_MS, math.ceil(min(left_s, 3600.0) * 1000)))
    with _limits.lock:
        _limits.wanted_ms.append(wanted_ms)
        _limits.apply()
    try:
        yield
    finally:
        with _limits.lock:
            _limits.wanted_ms.remove(wanted_ms)
            _limits.apply()


@functools.lru_cache(maxsize=1)
def _use_bundle(path: str) -> None:
    """Set the CA bundle once a path; libgit2 loads and parses the whole file."""
    import pygit2

    try:
        if os.path.isdir(path):  # noqa: PTH112 - the cache's key is a string
            pygit2.settings.set_ssl_cert_locations(None, path)
        else:
            pygit2.settings.set_ssl_cert_locations(path, None)
    except pygit2.GitError as error:
        message = f"the CA bundle '{path}' cannot be used: {error}"
        raise RepositoryError(
            message, path=path, hint="It must be a file of PEM certificates."
        ) from error
