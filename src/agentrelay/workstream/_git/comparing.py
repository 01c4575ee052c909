"""Commits and diffs of a lane, as data and as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pygit2

from agentrelay.workstream._changes import CommitInfo
from agentrelay.workstream._git.repository import OpenRepository
from agentrelay.workstream._trailers import split_message

__all__ = ["commit_info"]


def commit_info(repository: OpenRepository, commit_id: str) -> CommitInfo:
    """Return the facts of one commit.

    Args:
        repository: Repository that has it.
        commit_id: Its hex id.
    """
    commit = repository.handle[commit_id].peel(pygit2.Commit)
    author = commit.author
    subject, body, trailers = split_message(commit.raw_message.decode("utf-8", "replace"))
    return CommitInfo(
        commit_id=str(commit.id),
        parent_ids=tuple(map(str, commit.parent_ids)),
        author_name=author.raw_name.decode("utf-8", "replace"),
        author_email=author.raw_email.decode("utf-8", "replace"),
        authored_at=_when(author.time, author.offset),
        subject=subject,
        body=body,
        trailers=trailers,
    )


def _when(time_s: int, offset_minutes: int) -> datetime:
    """Return a moment in the time zone it was written in; what no clock shows is UTC."""
    try:
        zone = timezone(timedelta(minutes=offset_minutes))
        return datetime.fromtimestamp(time_s, zone)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(min(max(time_s, 0), 2**32), UTC)
