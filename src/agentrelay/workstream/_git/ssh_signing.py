"""Signing commits with an SSH key, in process.

The key is read when it is needed and forgotten afterwards. No error quotes it, and no
exception of the library below is kept: the frames in their tracebacks hold it.

Source:
    PROTOCOL.sshsig and PROTOCOL.key of OpenSSH; RFC 4251, section 5 (strings and mpints),
    RFC 8332 (rsa-sha2-512), RFC 5656 (ecdsa), RFC 8709 (ed25519); git-config(1),
    ``gpg.format`` and ``user.signingKey``; gitformat-signature(5).
"""

from __future__ import annotations

import base64
import hashlib
import stat
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream.credentials import Secret, SigningKey, SigningSource
from agentrelay.workstream.errors import RepositoryError, WorkstreamError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    _Key = Ed25519PrivateKey | RSAPrivateKey | EllipticCurvePrivateKey

__all__ = ["Signer", "load_signer"]

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_NAMESPACE: Final = b"git"
_HASH: Final = b"sha512"
# As ssh-keygen wraps them.
_LINE: Final = 70
# A key of 16384 bits takes 13 kB; whatever is larger than this is something else.
_LARGEST_KEY_BYTES: Final = 65536
_HINT: Final = (
    "It must be an SSH private key that signs: ed25519, RSA or ECDSA, as ssh-keygen writes it."
)
_PROTECTED_HINT: Final = (
    "Pass its passphrase=; to the command line, in AGENTRELAY_SIGNING_PASSPHRASE."
)


def _string(data: bytes) -> bytes:
    """Return a string of RFC 4251."""
    return len(data).to_bytes(4, "big") + data


def _mpint(number: int) -> bytes:
    """Return a positive mpint of RFC 4251: the highest bit says that a number is negative."""
    return _string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


@dataclass(frozen=True)
class Signer:
    """A key that was read.

    Attributes:
        public_key: Its public half, a line as in ``authorized_keys``.
    """

    public_key: str
    _key: _Key = field(repr=False)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: the key would be in it."""
        raise TypeError("a signing key does not travel to another process")

    def sign(self, content: bytes) -> str:
        """Return the signature of a commit, armored, without a line end after it.

        Args:
            content: The commit as it is without a signature.
        """
        signed = (
            _MAGIC
            + _string(_NAMESPACE)
            + _string(b"")
            + _string(_HASH)
            + _string(hashlib.sha512(content).digest())
        )
        blob = (
            _MAGIC
            + _VERSION.to_bytes(4, "big")
            + _string(base64.b64decode(self.public_key.split()[1]))
            + _string(_NAMESPACE)
            + _string(b"")
            + _string(_HASH)
            + _string(self._raw(signed))
        )
        lines = textwrap.wrap(base64.b64encode(blob).decode("ascii"), _LINE)
        return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----"])

    def _raw(self, data: bytes) -> bytes:
        """Sign, and return algorithm and signature."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        if isinstance(self._key, rsa.RSAPrivateKey):
            made = self._key.sign(data, padding.PKCS1v15(), hashes.SHA512())
            return _string(b"rsa-sha2-512") + _string(made)
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            hashed: hashes.HashAlgorithm = {
                "ecdsa-sha2-nistp256": hashes.SHA256(),
                "ecdsa-sha2-nistp384": hashes.SHA384(),
                "ecdsa-sha2-nistp521": hashes.SHA512(),
            }[self.public_key.split()[0]]
            r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(hashed)))
            return _string(self.public_key.split()[0].encode()) + _string(_mpint(r) + _mpint(s))
        return _string(b"ssh-ed25519") + _string(self._key.sign(data))


def load_signer(repository: OpenRepository, source: SigningSource) -> Signer:
    """Read a key.

    Args:
        repository: Whose configuration counts, where that is asked for.
        source: Where the key is.

    Raises:
        RepositoryError: There is no key at the place, or none that signs.
    """
    if source == "configured":
        source = _configured(repository)
    key = source if isinstance(source, SigningKey) else SigningKey(path=Path(source))
    made, why, hint = _load(key)
    if made is None:
        where = "the text that was passed" if key.path is None else f"the file '{key.path}'"
        raise RepositoryError(f"commits cannot be signed: {where} {why}", path=key.path, hint=hint)
    return made


def _configured(repository: OpenRepository) -> Path:
    """Return the file that git is configured to sign with.

    Raises:
        RepositoryError: There is none, or git would ask another program.
    """
    kind, name = (_setting(repository, key) for key in ("gpg.format", "user.signingKey"))
    why = None
    if kind != "ssh":
        why = f"gpg.format is '{kind or 'openpgp'}', and only 'ssh' is signed in process"
    elif not name:
        why = "user.signingKey is not set"
    elif name.startswith(("key::", "ssh-", "ecdsa-", "sk-")):
        why = "user.signingKey is a public key, whose private half an agent holds"
    if why is not None:
        raise RepositoryError(
            f"commits cannot be signed as '{repository.path}' is configured: {why}",
            path=repository.path,
            hint="Pass a Path or a SigningKey.",
        )
    path = repository.path / Path(name).expanduser()
    # git is often told the public half, which ssh-keygen looks for the other one beside.
    return path.with_suffix("") if path.suffix == ".pub" else path


def _setting(repository: OpenRepository, key: str) -> str:
    """Return a setting, empty where it is not set."""
    try:
        return repository.handle.config[key] or ""
    except KeyError:
        return ""


def _load(key: SigningKey) -> tuple[Signer | None, str, str]:
    """Return the key, or why there is none and what can be done."""
    text, why = _read(key)
    if text is None:
        return None, why, _HINT
    passphrase = key.passphrase
    assert passphrase is None or isinstance(passphrase, Secret)
    try:
        secret = None if passphrase is None else Secret(passphrase.reveal())
    except WorkstreamError:
        return None, "has a passphrase that did not travel to this process", "Pass it here."
    return _parse(text, secret)


def _read(key: SigningKey) -> tuple[Secret | None, str]:
    """Return the text of a key, or why there is none; nothing keeps the reader waiting."""
    if key.path is None:
        assert isinstance(key.text, Secret)
        try:
            return Secret(key.text.reveal()), ""
        except WorkstreamError:
            return None, "did not travel to this process"
    try:
        # A pipe or a device would not end.
        if not stat.S_ISREG(key.path.stat().st_mode):
            return None, "is not a file"
        with key.path.open("rb") as stream:
            return Secret(stream.read(_LARGEST_KEY_BYTES).decode("latin-1")), ""
    except FileNotFoundError:
        return None, "does not exist"
    except (OSError, ValueError) as error:
        return None, f"cannot be read: {getattr(error, 'strerror', None) or 'not a path'}"


def _parse(text: Secret, passphrase: Secret | None) -> tuple[Signer | None, str, str]:
    """Make a key of its text, or say what else it is."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if "PRIVATE KEY-----" not in text.reveal():
        return None, "holds no private key", _HINT
    key, why, hint = _decrypt(text, passphrase)
    if key is None:
        return None, why, hint
    if not isinstance(
        key, ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    ):
        return None, "holds a private key of another kind", _HINT
    public: bytes | None = None
    try:
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    except (ValueError, UnsupportedAlgorithm):
        # A curve that SSH has no name for.
        return None, "holds a private key of another kind", _HINT
    return Signer(public.decode("ascii"), key), "", ""


def _decrypt(text: Secret, passphrase: Secret | None) -> tuple[Any, str, str]:
    """Read a private key, or say why it cannot be read."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        load_pem_private_key,
        load_ssh_private_key,
    )

    # Line ends of a web form, and the last one, which is easily lost.
    data = text.reveal().replace("\r\n", "\n").strip().encode("utf-8", "replace") + b"\n"
    load = load_ssh_private_key if b"BEGIN OPENSSH" in data else load_pem_private_key
    tries = [None] if passphrase is None else [passphrase.reveal().encode(), None]
    is_missing = False
    for password in tries:
        try:
            return load(data, password=password), "", ""
        except UnsupportedAlgorithm as error:
            is_missing = is_missing or "bcrypt" in str(error)
        except (ValueError, TypeError):
            continue
    if is_missing:
        return (
            None,
            "holds a key that is protected as OpenSSH does it, which needs the package bcrypt",
            "Install agentrelay-workstream[signing].",
        )
    if passphrase is None and _is_encrypted(data):
        return None, "holds a key that is protected by a passphrase", _PROTECTED_HINT
    if passphrase is not None and _is_encrypted(data):
        return None, "holds a key that this passphrase does not open", _PROTECTED_HINT
    return None, "holds a private key that is damaged, or of an unknown kind", _HINT


def _is_encrypted(data: bytes) -> bool:
    """Tell whether a key is protected by a passphrase."""
    if b"BEGIN OPENSSH" not in data:
        return b"ENCRYPTED" in data
    body = b"".join(line for line in data.split(b"\n") if not line.startswith(b"-----"))
    try:
        raw = base64.b64decode(body)
    except ValueError:
        return False
    # PROTOCOL.key: a magic, then the cipher's name.
    return raw.startswith(b"openssh-key-v1\0") and not raw[15:].startswith(_string(b"none"))
