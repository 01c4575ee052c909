"""Ssh keys and the ssh agent, found but not opened."""

from __future__ import annotations

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

__all__ = ["SshKey", "find_ssh_keys", "has_ssh_agent"]

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


def _key_at(path: Path, source: str) -> SshKey:
    """Describe the key at ``path``, with the public half beside it if there is one."""
    public_path = path.with_name(path.name + ".pub")
    return SshKey(
        private_key_path=path,
        public_key_path=public_path if public_path.is_file() else None,
        source=source,
    )
