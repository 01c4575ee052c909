"""What has to be known of a commit to tell how it came to be, wherever that was read."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CommitFacts", "facts_of"]


@dataclass(frozen=True)
class CommitFacts:
    """A few facts about one commit.

    Attributes:
        sha: Its hex id.
        parents: Hex ids of its parents.
        origin: What stays when it is rebased: the author's e-mail address, the time of
            writing in seconds since 1970, and the message without its white space.
    """

    sha: str
    parents: tuple[str, ...]
    origin: tuple[str, int, str]


def facts_of(
    sha: str, parents: tuple[str, ...], *, email: str, authored_s: int, message: str
) -> CommitFacts:
    """Make the facts; two places that show one message differ in its white space."""
    return CommitFacts(sha, parents, (email, authored_s, " ".join(message.split())))
