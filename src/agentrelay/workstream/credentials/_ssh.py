"""Ssh keys and the ssh agent, found but not opened."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agentrelay.workstream.credentials._chain import home_of
from agentrelay.workstream.errors import RepositoryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentrelay.workstream.credentials._secret import Secret

__all__ = ["SshKey", "find_ssh_keys", "has_ssh_agent", "knows_host"]

_SSH_PORT: Final = 22

# The default names of ssh(1), strongest first; those on security keys (…_sk) need a
# program to talk to the device, DSA is refused by every current server.
_DEFAULT_NAMES: Final = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass(frozen=True)
class SshKey:
    """A key pair on disk.

    Attributes:
        private_key_path: The private key.
        public_key_path: The public key, or ``None`` to let it be derived.
        passphrase: Passphrase of the private key, or ``None``.
        source: Where the key comes from, in words for a person.
    """

    private_key_path: Path
    public_key_path: Path | None = None
    passphrase: Secret | None = None
    source: str = "the ssh key argument"


def find_ssh_keys(
    *,
    key: Path | SshKey | None = None,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
) -> tuple[SshKey, ...]:
    """Return the keys to offer, in order.

    Args:
        key: The one key to use; with it, nothing else is looked for.
        environ: Environment to look at for ``HOME``; the process's own by default.
        home: Home directory; the user's own by default.

    Raises:
        RepositoryError: ``key`` names a file that does not exist.
    """
    if key is not None:
        given = (
            key if isinstance(key, SshKey) else _key_at(key.expanduser(), "the ssh key argument")
        )
        if not given.private_key_path.is_file():
            raise RepositoryError(
                f"there is no ssh key at {given.private_key_path}",
                path=given.private_key_path,
                hint="pass the path of a private key",
            )
        return (given,)
    home_dir = home_of(os.environ if environ is None else environ, home)
    if home_dir is None:
        return ()
    paths = (home_dir / ".ssh" / name for name in _DEFAULT_NAMES)
    return tuple(_key_at(path, f"~/.ssh/{path.name}") for path in paths if path.is_file())


def has_ssh_agent(environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether ``SSH_AUTH_SOCK`` names a socket; nobody is asked whether it answers."""
    environ = os.environ if environ is None else environ
    try:
        return stat.S_ISSOCK(Path(environ["SSH_AUTH_SOCK"]).stat().st_mode)
    except (KeyError, OSError, ValueError):
        return False


def knows_host(
    host: str,
    port: int = _SSH_PORT,
    *,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
) -> bool:
    """Tell whether ``~/.ssh/known_hosts`` has any key of a host.

    Args:
        host: Name or address, in lower case.
        port: Its port.
        environ: Environment to look at for ``HOME``; the process's own by default.
        home: Home directory; the user's own by default.

    Source:
        sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". libssh2 looks for ``[host]:port``, then for
        the plain name, and knows no patterns.
    """
    home_dir = home_of(os.environ if environ is None else environ, home)
    try:
        text = "" if home_dir is None else (home_dir / ".ssh" / "known_hosts").read_text("latin-1")
    except OSError:
        return False
    names = {host, f"[{host}]:{port}"}
    for line in text.splitlines():
        fields = line.split()
        # A marker makes it a key that is revoked, or that signs others; "#" a comment.
        if not fields or fields[0][0] in "#@":
            continue
        if any(_is_name_of(part, names) for part in fields[0].split(",")):
            return True
    return False


def _is_name_of(part: str, names: set[str]) -> bool:
    """Tell whether a name in ``known_hosts``, hashed or not, is one of some."""
    if not part.startswith("|1|"):
        return part.lower() in names
    _, _, salt, digest = [*part.split("|"), "", ""][:4]
    try:
        key, wanted = base64.b64decode(salt), base64.b64decode(digest)
    except (binascii.Error, ValueError):
        return False
    return any(hmac.digest(key, name.encode(), "sha1") == wanted for name in names)


def _key_at(path: Path, source: str) -> SshKey:
    """Describe the key at ``path``, with the public half beside it if there is one."""
    public_path = path.with_name(path.name + ".pub")
    return SshKey(
        private_key_path=path,
        public_key_path=public_path if public_path.is_file() else None,
        source=source,
    )
