"""Where a renamed or moved repository is now, as far as a redirect may be believed; pure.

GitHub redirects every request for a repository's old name to its number: 301 for
reading, 307 or 308 for writing. The number is asked for its name, and everything goes
on under the name.

Source:
    docs.github.com, "Best practices for using the REST API", "Follow redirects".
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

from agentrelay.workstream._github.address import is_full_name

if TYPE_CHECKING:
    from agentrelay.workstream._github.address import GitHubAddress

__all__ = ["new_address", "path_to_ask"]

_REPOSITORY: Final = re.compile(r"/repositories/\d{1,18}(?=/|$)|/repos/[^/]+/[^/]+(?=/|$)")


def path_to_ask(address: GitHubAddress, location: str) -> str | None:
    """Return the path, below the API's base, that tells a redirected repository's name.

    Args:
        address: The repository that was asked for.
        location: The redirect's ``Location``.

    Returns:
        ``None`` when the redirect leaves the API's scheme, host, port or base, names no
        repository, or names the same one again.
    """
    try:
        there = urlsplit(urljoin(f"{address.api_url}/", location))
        here = urlsplit(address.api_url)
        same = (there.scheme, there.hostname, there.port) == (here.scheme, here.hostname, here.port)
    except ValueError:
        return None
    if not same or "@" in there.netloc or not there.path.startswith(here.path):
        return None
    match = _REPOSITORY.match(there.path.removeprefix(here.path))
    if match is None or match[0].lower() == f"/repos/{address.full_name}".lower():
        return None
    return match[0]


def new_address(address: GitHubAddress, data: Any) -> GitHubAddress | None:
    """Return the address a repository has now.

    Args:
        address: The one it had.
        data: What the API says about the repository.

    Returns:
        ``None`` when that is no repository, or still called the same.
    """
    name = data.get("full_name") if isinstance(data, dict) else None
    if not isinstance(name, str) or not is_full_name(name):
        return None
    if name.lower() == address.full_name.lower():
        return None
    owner, _, short = name.partition("/")
    site = address.web_url.removesuffix(address.full_name)
    return replace(address, owner=owner, name=short, web_url=site + name)
