"""Looking at the machine: limits, proxies, certificates. The standard library only."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from agentrelay.workstream.credentials import ca_bundle, ca_variable, find_proxy

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from agentrelay.workstream.implementations._diagnosis import Sheet

__all__ = ["look_at_limits", "look_at_network"]

# A lane at work holds about thirty descriptors: packs, locks, sockets, files being
# written. 256 is macOS's own limit, and enough for a handful of lanes at once.
_FEW_FILES: Final = 256
_TOO_FEW_FILES: Final = 64


def look_at_limits(sheet: Sheet) -> None:
    """Look at how many files this process may have open."""
    name = "open-files"
    if sys.platform == "win32":
        sheet.skip([name], "this system has no such limit")
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        sheet.ok(name, "this process may have any number of files open")
        return
    sentence = f"this process may have {soft} files open"
    shown = "unlimited" if hard == resource.RLIM_INFINITY else hard
    fix = f"Raise it with 'ulimit -n' (up to {shown} here), or run few lanes at once."
    if soft < _TOO_FEW_FILES:
        sheet.problem(name, f"{sentence}, which does not do for one lane", fix)
    elif soft < _FEW_FILES:
        sheet.note(name, f"{sentence}, which does for a few lanes at once", fix)
    else:
        sheet.ok(name, sentence)


def look_at_network(sheet: Sheet, urls: Sequence[str]) -> None:
    """Look at the proxies and certificates for some addresses.

    Args:
        sheet: Where findings go.
        urls: Addresses that will be used; those that are not of the web use neither.
    """
    of_the_web = [url for url in urls if url.startswith(("http://", "https://"))]
    sheet.attempt("proxy", lambda: _look_at_proxies(sheet, of_the_web))
    sheet.attempt("certificates", lambda: _look_at_certificates(sheet))


def _look_at_proxies(sheet: Sheet, urls: Sequence[str]) -> None:
    name = "proxy"
    said: list[str] = []
    for url in urls:
        found = find_proxy(url)
        host = urlsplit(url).hostname
        if found is None:
            said.append(f"{host} is reached directly")
            continue
        variable, proxy = found
        shown = _without_user_info(proxy)
        if shown is None:
            sheet.problem(
                name,
                f"the proxy for {host} that {variable} names cannot be read",
                f"Set {variable} to http://HOST:PORT; in a password write / ? # @ as %2F %3F "
                "%23 %40.",
            )
            return
        said.append(f"{host} is reached through {shown}, which {variable} names")
    sheet.ok(name, "; ".join(dict.fromkeys(said)) or "no address that a proxy could be for")


def _without_user_info(proxy: str) -> str | None:
    """Return scheme, host and port of a proxy's URL, or ``None`` if it cannot be read."""
    try:
        parts = urlsplit(proxy)
        port = parts.port
    except ValueError:
        return None
    # More than one "@", or one behind the host: a password that was not written as it must.
    if not parts.hostname or parts.netloc.count("@") > 1 or "@" in parts.path + parts.query:
        return None
    return f"{parts.scheme}://{parts.hostname}" + ("" if port is None else f":{port}")


def _look_at_certificates(sheet: Sheet) -> None:
    name = "certificates"
    variable = ca_variable()
    bundle = ca_bundle()
    if bundle is not None:
        sentence = f"certificates come from '{bundle}', which {variable} names"
        if bundle.is_file():
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=bundle)
            except ssl.SSLError:
                fix = f"Set {variable} to a file of PEM certificates, or unset it."
                sheet.problem(name, f"{sentence}, and it holds none that can be read", fix)
                return
        sheet.ok(name, sentence)
        return
    paths = ssl.get_default_verify_paths()
    usual = [path for path in (paths.cafile, paths.capath) if path and Path(path).exists()]
    if usual:
        sheet.ok(name, f"certificates are those of the system, in '{usual[0]}'")
    else:
        sheet.note(
            name,
            "this machine has no certificates of its own; those that came with the HTTP library "
            "stand in",
            "Install the system's CA certificates where a host has a private one.",
        )
