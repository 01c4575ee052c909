"""Which host a token belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["canonical_host", "is_other_forge", "token_variables"]

# Other names under which the same site answers. A token for one is a token for all.
_ALIASES: Final = {
    "www.github.com": "github.com",
    "ssh.github.com": "github.com",
    "api.github.com": "github.com",
}

# Public forges that are not GitHub. A GitHub token in the environment is never
# theirs, and none of them speaks GitHub's API.
_OTHER_FORGES: Final = (
    "gitlab.com",
    "bitbucket.org",
    "codeberg.org",
    "dev.azure.com",
    "visualstudio.com",
    "sourceforge.net",
    "sr.ht",
    "gitea.com",
    "gitee.com",
    "notabug.org",
    "savannah.gnu.org",
    "kernel.org",
    "googlesource.com",
    "amazonaws.com",
    "huggingface.co",
    "salsa.debian.org",
    "framagit.org",
    "launchpad.net",
)


def canonical_host(host: str) -> str:
    """Return the one spelling of ``host``: lower case, no ``:443``, no alias.

    Args:
        host: ``"github.com"`` or ``"ghe.corp:8443"``.
    """
    name = host.strip().lower().removesuffix(":443").rstrip(".")
    if name.startswith("api.") and name.endswith(".ghe.com"):
        name = name.removeprefix("api.")
    return _ALIASES.get(name, name)


def is_other_forge(host: str) -> bool:
    """Tell whether ``host`` is a public forge that is known not to be GitHub."""
    name = canonical_host(host).rpartition(":")[0] or canonical_host(host)
    return any(name == forge or name.endswith("." + forge) for forge in _OTHER_FORGES)


def is_hosted(host: str) -> bool:
    """Tell whether github.com's own tokens are for ``host``."""
    return host == "github.com" or host.endswith(".ghe.com")


def token_variables(host: str, environ: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """Say which environment variables hold a token for ``host``.

    Args:
        host: A canonical host.
        environ: The environment, for ``GH_HOST`` and GitHub Actions' own variables.

    Returns:
        The names to look at, in order, and a clause that says why when names a
        reader would expect are missing (empty otherwise).

    Source:
        ``gh help environment``. GitHub Actions' default variables: the runner's
        ``GITHUB_TOKEN`` is minted by the server that ``GITHUB_SERVER_URL`` names.
    """
    if is_hosted(host):
        names = ["GH_TOKEN", "GITHUB_TOKEN"]
        why = ""
    elif is_other_forge(host):
        names, why = [], f"{host} is not a GitHub"
    else:
        only = canonical_host(environ.get("GH_HOST", ""))
        if only and only != host:
            names, why = [], f"GH_HOST reserves the enterprise variables for {only}"
        else:
            names = ["GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN"]
            why = "GH_TOKEN and GITHUB_TOKEN are for github.com"
    server = environ.get("GITHUB_SERVER_URL", "")
    if environ.get("GITHUB_ACTIONS", "").lower() == "true" and server:
        owner = canonical_host(_netloc(server))
        if owner == host:
            names = [*dict.fromkeys([*names, "GITHUB_TOKEN"])]
            why = why.replace("GH_TOKEN and GITHUB_TOKEN are", "GH_TOKEN is")
        elif "GITHUB_TOKEN" in names:
            names.remove("GITHUB_TOKEN")
            why = f"GITHUB_TOKEN is for {owner}, where this workflow runs"
    return tuple(names), why


def _netloc(url: str) -> str:
    """Return ``host[:port]`` of ``url``, or nothing when it is not a URL."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return ""
