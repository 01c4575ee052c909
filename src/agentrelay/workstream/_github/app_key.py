"""The private key of a GitHub App: where it is, and signing with it.

The key is read when it is needed and forgotten afterwards, so a replaced one is seen.
No error quotes it, and no exception of the libraries below is kept: the frames in
their tracebacks hold it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agentrelay.workstream.credentials import Secret
from agentrelay.workstream.errors import CredentialsRejectedError, WorkstreamError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

__all__ = ["KeyPlace", "Signer"]

# A key of 8192 bits takes 6.4 kB; whatever is larger than this is something else.
_LARGEST_KEY_BYTES: Final = 65536

_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_LINE: Final = re.compile(r".{1,64}")


@dataclass(frozen=True)
class Signer:
    """A key that was read and checked, which takes some 30 ms; signing takes one."""

    _key: RSAPrivateKey = field(repr=False)

    def sign(self, claims: Mapping[str, str | int]) -> Secret:
        """Return a JSON web token that says this, signed with RS256."""
        import jwt

        return Secret(jwt.encode(dict(claims), self._key, algorithm="RS256"))


@dataclass(frozen=True)
class KeyPlace:
    """Where the private key is; exactly one of the three.

    Attributes:
        text: The key itself.
        path: A file that holds it.
        variable: An environment variable that holds it.
    """

    text: Secret | None = None
    path: Path | None = None
    variable: str | None = None

    @property
    def source(self) -> str:
        """The place, in words for a person."""
        if self.path is not None:
            return f"the file {self.path}"
        if self.variable is not None:
            return f"environment variable {self.variable}"
        return "the private_key argument"

    def load(self, *, url: str) -> Signer:
        """Read the key.

        Args:
            url: Where its signatures will be sent, for the error.

        Raises:
            CredentialsRejectedError: There is no key at the place, or none that signs.
        """
        key, why = self._load()
        if key is None:
            raise CredentialsRejectedError(
                f"the private key of the GitHub App cannot be used: {self.source} {why}",
                url=url,
                source=self.source,
                hint="GitHub hands the key out as a .pem file, in the app's settings",
            )
        return Signer(key)

    def _load(self) -> tuple[RSAPrivateKey | None, str]:
        """Return the key, or why there is none."""
        text, why = self._read()
        return (None, why) if text is None else _parse(text)

    def _read(self) -> tuple[Secret | None, str]:
        """Return the text at the place, or why there is none."""
        if self.text is not None:
            try:
                self.text.reveal()
            except WorkstreamError:
                return None, (
                    "does not travel to another process; "
                    "pass private_key_path= or private_key_variable="
                )
            return self.text, ""
        if self.path is not None:
            return _read_file(self.path)
        value = os.environ.get(self.variable or "")
        return (Secret(value), "") if value else (None, "is empty" if value == "" else "is not set")


def _read_file(path: Path) -> tuple[Secret | None, str]:
    """Read a file; nothing that could keep the reader waiting."""
    try:
        # A pipe or a device would not end.
        if not stat.S_ISREG(path.stat().st_mode):
            return None, "is not a file"
        with path.open("rb") as stream:
            data = stream.read(_LARGEST_KEY_BYTES)
        return Secret(data.decode("utf-8", "replace")), ""
    except FileNotFoundError:
        return None, "does not exist"
    except (OSError, ValueError) as error:
        return None, f"cannot be read: {getattr(error, 'strerror', None) or 'not a path'}"


def _parse(text: Secret) -> tuple[RSAPrivateKey | None, str]:
    """Make a key of its text, or say what else it is."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = _normalized(text)
    if pem is None:
        return None, "holds no key in PEM format"
    label = pem.reveal().partition("-----BEGIN ")[2].partition("-----")[0]
    if "ENCRYPTED" in pem.reveal():
        return None, "holds an encrypted key; GitHub's are not"
    if "PRIVATE KEY" not in label:
        return None, f"holds a {label.lower()}, not a private key"
    key: object = None
    try:
        key = load_pem_private_key(pem.reveal().encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None, "holds a private key that is damaged, or of an unknown kind"
    if not isinstance(key, RSAPrivateKey):
        return None, "holds a private key that is not RSA; GitHub's are"
    return key, ""


def _normalized(text: Secret) -> Secret | None:
    r"""Return the first PEM block, laid out as RFC 7468 wants it.

    What goes through an environment variable, a YAML file or a web form arrives with
    its line breaks written as ``\n``, as spaces, or gone.
    """
    found = _PEM.search(text.reveal().replace("\\r", "").replace("\\n", "\n"))
    if found is None:
        return None
    label, body = found.groups()
    if "Proc-Type" not in body:  # else it has headers, and is encrypted
        body = "\n".join(_LINE.findall("".join(body.split())))
    return Secret(f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
