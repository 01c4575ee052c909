"""libgit2 as a whole: the one place that touches its process-wide settings.

Three things are set, and only where the process has not set them: the two network
time-outs (0 means "wait for ever") and the CA bundle named by the environment.
Owner validation and the configuration search path stay the user's.
"""

from __future__ import annotations

import contextlib
import functools
import os
import ssl
from typing import Final

from agentrelay.workstream.credentials import ca_bundle
from agentrelay.workstream.errors import RepositoryError

__all__ = ["configure_network", "load"]

# One unanswered connection attempt, and one silent socket. Git itself waits for
# ever; curl's default for connecting is 300 s, which is longer than agents live.
_CONNECT_MS: Final = 15_000
_SILENCE_MS: Final = 60_000


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
    import pygit2

    if not pygit2.settings.server_connect_timeout:
        pygit2.settings.server_connect_timeout = _CONNECT_MS
    if not pygit2.settings.server_timeout:
        pygit2.settings.server_timeout = _SILENCE_MS
    bundle = ca_bundle()
    if bundle is not None:
        _use_bundle(str(bundle))


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
