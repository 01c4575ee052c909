"""Who made a commit, from places that speak of this repository and this process only."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal

import pygit2

from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream.errors import RepositoryError

__all__ = ["Person", "find_date", "find_person"]

# git's own format: seconds since 1970 and a time zone.
_RAW_DATE: Final = re.compile(
    r"@?(?P<time>\d{1,12}) (?P<sign>[+-])(?P<hours>\d\d)(?P<minutes>\d\d)"
)


@dataclass(frozen=True)
class Person:
    """A name and an address, as git writes them into a commit.

    Attributes:
        name: Their name.
        email: Their address.
        date: Seconds since 1970 and minutes east of Greenwich, where the environment says
            when; else the moment of the commit counts, in this machine's time zone.
    """

    name: str
    email: str
    date: tuple[int, int] | None = None

    def signature(self) -> pygit2.Signature:
        """Return it as libgit2 wants it."""
        if self.date is None:
            return pygit2.Signature(self.name, self.email)
        return pygit2.Signature(self.name, self.email, *self.date)


def find_person(
    repository: OpenRepository,
    role: Literal["author", "committer"],
    *,
    fallback: Person,
    environ: Mapping[str, str] | None = None,
) -> Person:
    """Return who the environment or the configuration says it is.

    Git guesses what it is not told from the machine's user and host names; nothing is
    guessed here, the fallback is taken instead.

    Args:
        repository: Its configuration is read, with the user's and the system's.
        role: Which of the two.
        fallback: Name, address or both, where they are nowhere configured.
        environ: Environment to read; this process's by default.

    Raises:
        RepositoryError: ``user.useConfigOnly`` forbids a fallback and one was needed.

    Source:
        git(1) ``GIT_AUTHOR_NAME`` and so on, git-config(1) ``author.name``, ``user.name``,
        ``user.useConfigOnly``.
    """
    env = os.environ if environ is None else environ
    config = repository.handle.config
    found: dict[str, str] = {}
    for half in ("name", "email"):
        values = [env.get(f"GIT_{role.upper()}_{half.upper()}", "")]
        keys = (f"{role}.{half}", f"user.{half}")
        values += [_read(repository, key) for key in keys if key in config]
        cleaned = [text for text in map(_clean, values) if text]
        if cleaned:
            found[half] = cleaned[0]
    if len(found) < len(("name", "email")) and _config_only(config):
        missing = "user.email" if "name" in found else "user.name"
        message = f"'{repository.path}' sets user.useConfigOnly, and no {missing} is configured"
        raise RepositoryError(
            message,
            path=repository.path,
            hint="Configure both, set GIT_AUTHOR_NAME and so on, or pass author=.",
        )
    name, email = found.get("name", fallback.name), found.get("email", fallback.email)
    return Person(name, email, find_date(role, env))


def find_date(
    role: Literal["author", "committer"], environ: Mapping[str, str] | None = None
) -> tuple[int, int] | None:
    """Return when the environment says it is, or ``None``.

    Args:
        role: Which of the two dates.
        environ: Environment to read; this process's by default.

    Returns:
        Seconds since 1970, and minutes east of Greenwich.

    Raises:
        RepositoryError: It cannot be read.

    Source:
        git-commit(1), "DATE FORMATS": git's own, RFC 2822 and ISO 8601.
    """
    name = f"GIT_{role.upper()}_DATE"
    text = (os.environ if environ is None else environ).get(name, "").strip()
    if not text:
        return None
    raw = _RAW_DATE.fullmatch(text)
    if raw is not None:
        east = int(raw["hours"]) * 60 + int(raw["minutes"])
        return int(raw["time"]), -east if raw["sign"] == "-" else east
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        with suppress(ValueError, OverflowError):
            moment = read(text)
            moment = moment if moment.tzinfo else moment.astimezone()
            offset = moment.utcoffset()
            assert offset is not None
            return int(moment.timestamp()), int(offset.total_seconds()) // 60
    raise RepositoryError(
        f"{name} is {ascii(text)[:60]}, which is no date git writes",
        hint="Write it like '2026-01-31T12:00:00+01:00', or unset it.",
    )


def _config_only(config: pygit2.Config) -> bool:
    return "user.useconfigonly" in config and config.get_bool("user.useconfigonly")


def _read(repository: OpenRepository, key: str) -> str:
    try:
        return str(repository.handle.config[key])
    except UnicodeDecodeError as error:
        message = (
            f"{key} in the git configuration is {ascii(error.object)[:60]}, which is not UTF-8"
        )
        raise RepositoryError(
            message,
            path=repository.path,
            hint="Write it in UTF-8, set GIT_AUTHOR_NAME and so on, or pass author=.",
        ) from None


def _clean(text: str) -> str:
    """Take out what cannot stand in a commit's header, as git does.

    Source:
        git's ident.c, "crud": control characters, spaces and some punctuation at the ends;
        angle brackets and newlines anywhere.
    """
    # What the environment has that is no UTF-8 would not survive the header.
    kept = "".join(c for c in text if c not in "<>\n\0" and not "\ud800" <= c <= "\udfff")
    return kept.strip(" .,:;\"\\'" + "".join(map(chr, range(0x20))))
