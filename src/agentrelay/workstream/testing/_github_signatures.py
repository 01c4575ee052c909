"""JSON web tokens as the GitHub double checks them: by hand, signature and all.

So a client's library is not judged by itself.

Source:
    docs.github.com, "Generating a JSON Web Token (JWT) for a GitHub App"; RFC 7515. The
    refusals' texts are from reports of their users.
"""

from __future__ import annotations

import base64
import functools
import json
from typing import TYPE_CHECKING, Any, Final

from agentrelay.workstream.testing._github_refusals import RefusedError

if TYPE_CHECKING:
    from agentrelay.workstream.testing._github_json import Json

__all__ = ["check", "jwt_refused", "made_key", "read_claims"]

# "Up to 10 minutes"; and no grace for clocks, so that a client that needs it is noticed.
_LONGEST_S: Final = 600


def jwt_refused(message: str) -> RefusedError:
    """Refuse a JSON web token, in GitHub's words."""
    return RefusedError(401, message)


def check(jwt: str, claims: Json, *, private_key: str, now: float) -> None:
    """Check who signed a JSON web token, and that it is good now.

    Args:
        jwt: The token.
        claims: What it says.
        private_key: Key of the app it claims to be from, in PEM format.
        now: Seconds since the epoch.

    Raises:
        RefusedError: GitHub would refuse.
    """
    if not _is_signed(jwt, private_key):
        raise jwt_refused("A JSON web token could not be decoded")
    issued, expires = claims.get("iat"), claims.get("exp")
    if type(issued) is not int or issued > now:
        raise jwt_refused(
            "'Issued at' claim ('iat') must be an Integer representing the time that the"
            " assertion was issued"
        )
    if type(expires) is not int or expires <= now:
        raise jwt_refused(
            "'Expiration time' claim ('exp') must be a numeric value representing the future"
            " time at which the assertion expires"
        )
    if expires > now + _LONGEST_S or expires - issued > _LONGEST_S:
        raise jwt_refused("'Expiration time' claim ('exp') is too far in the future")


@functools.cache
def made_key() -> str:
    """Return a private key made for this process; all apps here have the same."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


@functools.cache
def _public_key(private_key: str) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(private_key.encode(), password=None).public_key()


def _unpadded(text: str) -> bytes:
    """Undo base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def read_claims(jwt: str) -> Json:
    """Return the claims of a JSON web token; its signature is not checked here."""
    try:
        head, claims, _ = jwt.split(".")
        header: Any = json.loads(_unpadded(head))
        read: Any = json.loads(_unpadded(claims))
        right = header["alg"] == "RS256" and isinstance(read, dict)
    except (ValueError, KeyError, TypeError):
        right, read = False, {}
    if not right:
        raise jwt_refused("A JSON web token could not be decoded")
    return dict(read)


def _is_signed(jwt: str, private_key: str) -> bool:
    """Tell whether the owner of a key signed a JSON web token."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    signed, _, signature = jwt.rpartition(".")
    try:
        _public_key(private_key).verify(_unpadded(signature), signed.encode(), PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True
