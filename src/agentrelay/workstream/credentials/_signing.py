"""A key that commits are signed with: where it is; it is not read here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Optional, Union

from agentrelay.workstream.credentials._secret import Secret
from agentrelay.workstream.errors import RepositoryError

__all__ = ["SigningKey", "SigningSource", "check_signing_source"]


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """An SSH private key that commits are signed with; either of the two.

    It is read whenever something is signed, and forgotten afterwards. Neither text nor
    passphrase is in a repr, an error or a pickle.

    Attributes:
        path: A file that holds it, as ``ssh-keygen`` writes it, or in PEM.
        text: The key itself.
        passphrase: What it is protected with, ``None`` where it is not.

    Raises:
        RepositoryError: Both or neither is given, or something of another kind.
    """

    path: Optional[Path] = None
    text: Union[str, Secret, None] = field(default=None, repr=False)
    passphrase: Union[str, Secret, None] = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Seal text and passphrase."""
        if (self.path is None) == (self.text is None):
            raise RepositoryError(
                "a signing key is either a path or a text",
                hint="Pass SigningKey(path=...) or SigningKey(text=...).",
            )
        if self.path is not None:
            if not isinstance(self.path, str | os.PathLike):
                raise RepositoryError("a signing key's path is no path", hint="Pass a Path.")
            object.__setattr__(self, "path", Path(self.path))
        for name in ("text", "passphrase"):
            value: object = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, Secret(value))
            elif value is not None and not isinstance(value, Secret):
                # Not shown: it may be the key all the same.
                raise RepositoryError(f"a signing key's {name} is no text", hint="Pass a str.")


SigningSource = Union[SigningKey, Path, Literal["configured"]]
"""What ``signing_key=`` takes: a key, a file that holds one, or what git is configured to use."""


def check_signing_source(source: object) -> None:
    """Refuse what is no key, above all a text that may be one: it would be shown as a path.

    Raises:
        RepositoryError: It is something else.
    """
    if source is None or source == "configured" or isinstance(source, SigningKey | os.PathLike):
        return
    raise RepositoryError(
        f"signing_key is a {type(source).__name__} that is no key",
        hint="Pass a Path, SigningKey(path=...), SigningKey(text=...) or 'configured'.",
    )
