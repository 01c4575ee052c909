"""Certificate bundles and proxies, as the usual environment variables name them."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from agentrelay.workstream._redact import strip_userinfo
from agentrelay.workstream.errors import RepositoryError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ca_bundle", "ca_variable", "find_proxy", "is_loopback", "proxy_for"]

# git's own first, then OpenSSL's, then those of requests and curl.
_CA_VARIABLES: Final = ("GIT_SSL_CAINFO", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def ca_bundle(environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the certificate bundle the environment names, or ``None`` for the default.

    Args:
        environ: Environment to look at; the process's own by default.

    Returns:
        A readable file, or a directory of hashed certificates (``c_rehash``), which
        requests and OpenSSL accept as well.

    Raises:
        RepositoryError: The first variable that is set names nothing readable. Going
            on with the system's certificates would fail later, and less clearly.
    """
    environ = os.environ if environ is None else environ
    name = ca_variable(environ)
    if name is None:
        return None
    value = environ[name].strip()
    path = Path(value)
    try:
        if not path.is_dir():
            path.open("rb").close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise RepositoryError(
            f"the CA bundle {value} that {name} names cannot be read: {reason}",
            path=value,
            hint=f"set {name} to a readable file of certificates, or unset it",
        ) from error
    return path


def ca_variable(environ: Mapping[str, str] | None = None) -> str | None:
    """Return the name of the variable that names the certificate bundle, or ``None``.

    Args:
        environ: Environment to look at; the process's own by default.
    """
    environ = os.environ if environ is None else environ
    return next((name for name in _CA_VARIABLES if environ.get(name, "").strip()), None)


def proxy_for(url: str, environ: Mapping[str, str] | None = None) -> str | None:
    """Return the proxy for ``url``, or ``None`` for a direct connection.

    Loopback is never proxied: a proxy could not reach it, and would see its traffic.

    Args:
        url: An ``http://`` or ``https://`` URL, user-info and all; one that cannot be
            read has no proxy.
        environ: Environment to look at; the process's own by default.

    Returns:
        A proxy URL. It may hold a password: do not show it.

    """
    found = find_proxy(url, environ)
    return None if found is None else found[1]


def find_proxy(url: str, environ: Mapping[str, str] | None = None) -> tuple[str, str] | None:
    """Return the variable that names the proxy for ``url``, and the proxy's URL.

    Args:
        url: As for :func:`proxy_for`.
        environ: As for :func:`proxy_for`.

    Returns:
        ``None`` for a direct connection.

    Source:
        curl(1), "Environment": lower case beats upper case, ``HTTP_PROXY`` in upper
        case is not trusted in a CGI process, ``NO_PROXY`` lists hosts, domains,
        networks or ``*``.
    """
    environ = os.environ if environ is None else environ
    try:
        parts = urlsplit(strip_userinfo(url))
        port = parts.port or {"http": 80}.get(parts.scheme, 443)
    except ValueError:  # its words quote the address; whoever connects refuses it anyway
        return None
    host = (parts.hostname or "").rstrip(".")
    no_proxy = environ.get("no_proxy", environ.get("NO_PROXY", ""))
    if not host or is_loopback(host) or _is_exempt(host, port, no_proxy):
        return None
    names = [f"{parts.scheme}_proxy", f"{parts.scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"]
    if parts.scheme == "http" and "REQUEST_METHOD" in environ:
        names.remove("HTTP_PROXY")
    for name in names:
        if value := environ.get(name, "").strip():
            return name, value if "://" in value else f"http://{value}"
    return None


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` (no port, brackets allowed) can only be this machine."""
    name = host.strip("[]").rstrip(".").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        # RFC 6761: "localhost" and everything below it.
        return name == "localhost" or name.endswith(".localhost")


def _is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Tell whether an entry of ``NO_PROXY`` covers ``host``."""
    for raw in no_proxy.replace(" ", ",").split(","):
        entry = raw.strip().lower()
        if entry == "*":
            return True
        if "/" in entry:
            if _in_network(host, entry):
                return True
            continue
        name, colon, digits = entry.rpartition(":")
        if colon and digits.isdigit() and (":" not in name or name.endswith("]")):
            if int(digits) != port:
                continue
            entry = name
        entry = entry.strip("[]").removeprefix("*").strip(".")
        if entry and (host == entry or host.endswith("." + entry)):
            return True
    return False


def _in_network(host: str, network: str) -> bool:
    """Tell whether ``host`` is an address in ``network`` (``10.0.0.0/8``)."""
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
