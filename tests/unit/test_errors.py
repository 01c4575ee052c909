"""The error tree: split by what to do next, free of secrets, able to travel."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.workstream import errors
from agentrelay.workstream.errors import (
    CommitRefusedError,
    CredentialsRejectedError,
    LaneBusyError,
    LaneConflictError,
    LaneNameError,
    LeaseLostError,
    MergeConflictError,
    MergeNotReadyError,
    MergeRefusedError,
    NothingToCommitError,
    PullRequestError,
    PushRejectedError,
    RateLimitedError,
    RemoteError,
    RemoteUnavailableError,
    RepositoryError,
    WorkstreamError,
)

_TOKEN = "ghp_0123456789abcdefghij"
_URL = f"https://robin:{_TOKEN}@github.example/owner/name.git"

# Every class with the names of its own text fields and how to fill them all.
_MAKERS: dict[type[WorkstreamError], tuple[Callable[..., WorkstreamError], tuple[str, ...]]] = {
    WorkstreamError: (WorkstreamError, ()),
    LaneNameError: (LaneNameError, ("name", "rule")),
    RepositoryError: (RepositoryError, ("path",)),
    LaneConflictError: (LaneConflictError, ("obstacle",)),
    LaneBusyError: (lambda message, **more: LaneBusyError(message, waited_s=1.5, **more), ()),
    NothingToCommitError: (NothingToCommitError, ()),
    CommitRefusedError: (
        lambda message, **more: CommitRefusedError(message, paths=(more["reason"],), **more),
        ("reason",),
    ),
    RemoteError: (RemoteError, ("url",)),
    RemoteUnavailableError: (RemoteUnavailableError, ("url",)),
    CredentialsRejectedError: (CredentialsRejectedError, ("url", "source")),
    PushRejectedError: (PushRejectedError, ("url", "ref", "reason")),
    LeaseLostError: (LeaseLostError, ("url", "ref", "reason")),
    PullRequestError: (
        lambda message, **more: PullRequestError(message, status=422, **more),
        ("repository",),
    ),
    MergeNotReadyError: (MergeNotReadyError, ("repository",)),
    MergeConflictError: (MergeConflictError, ("repository",)),
    MergeRefusedError: (MergeRefusedError, ("repository",)),
    RateLimitedError: (
        lambda message, **more: RateLimitedError(message, status=429, retry_after_s=30.0, **more),
        ("repository",),
    ),
}
_CLASSES = sorted(_MAKERS, key=lambda cls: cls.__name__)


def _make(cls: type[WorkstreamError], message: str, hint: str | None, text: str) -> WorkstreamError:
    """Return an error of a class with every field set."""
    make, fields = _MAKERS[cls]
    return make(message, hint=hint, **dict.fromkeys(fields, text))


class _UsersError(RepositoryError):
    """What a user of the library may derive."""

    def __init__(self, message: str, *, lane_count: int) -> None:
        super().__init__(message, path="/somewhere")
        self.lane_count = lane_count


def test_the_table_above_names_every_error_there_is() -> None:
    """No public error escapes the promises below."""
    assert sorted(cls.__name__ for cls in _CLASSES) == sorted(errors.__all__)


@pytest.mark.parametrize(
    ("child", "parents"),
    [
        (LaneNameError, (WorkstreamError, ValueError)),
        (RepositoryError, (WorkstreamError,)),
        (LaneConflictError, (WorkstreamError,)),
        (LaneBusyError, (WorkstreamError, TimeoutError)),
        (RemoteError, (WorkstreamError,)),
        (RemoteUnavailableError, (RemoteError,)),
        (CredentialsRejectedError, (RemoteError,)),
        (PushRejectedError, (RemoteError,)),
        (LeaseLostError, (PushRejectedError,)),
        (PullRequestError, (WorkstreamError,)),
        (RateLimitedError, (PullRequestError,)),
        (MergeNotReadyError, (PullRequestError,)),
        (MergeConflictError, (PullRequestError,)),
        (MergeRefusedError, (PullRequestError,)),
    ],
)
def test_each_error_can_be_caught_by_what_to_do_next(
    child: type[WorkstreamError], parents: tuple[type[Exception], ...]
) -> None:
    """A caller who catches the parent catches the child."""
    assert child.__bases__ == parents


@pytest.mark.parametrize("cls", _CLASSES)
def test_an_error_reads_as_its_message_and_keeps_its_hint_apart(cls: type[WorkstreamError]) -> None:
    """``str`` gives the message alone; hint and operands are attributes."""
    error = _make(cls, "cannot do it", "do this", "operand")
    assert str(error) == error.message == "cannot do it"
    assert error.args == ("cannot do it",)
    assert error.hint == "do this"
    for field in _MAKERS[cls][1]:
        assert getattr(error, field) == "operand"


def test_numbers_keep_their_fields() -> None:
    """Durations are seconds and statuses are HTTP's."""
    busy = LaneBusyError("held", waited_s=2.5)
    limited = RateLimitedError("slow down", repository="o/n", status=429, retry_after_s=30.0)
    assert busy.waited_s == 2.5
    assert (limited.repository, limited.status, limited.retry_after_s) == ("o/n", 429, 30.0)


def test_what_is_not_known_is_none() -> None:
    """Optional operands and hints default to ``None``, not to an empty text."""
    assert WorkstreamError("x").hint is None
    assert RepositoryError("x").path is None
    assert LaneConflictError("x").obstacle is None
    assert CredentialsRejectedError("x", url="https://h").source is None
    assert PullRequestError("x", repository="o/n").status is None
    assert RateLimitedError("x", repository="o/n").retry_after_s is None


@pytest.mark.parametrize("cls", _CLASSES)
def test_no_error_shows_a_secret_it_was_given(cls: type[WorkstreamError]) -> None:
    """Message, hint and every text field are free of tokens and of user-info."""
    error = _make(cls, f"cannot reach {_URL}", f"try {_URL}", _URL)
    shown = [str(error), repr(error), *(str(value) for value in vars(error).values())]
    assert [text for text in shown if _TOKEN in text or "robin" in text] == []
    assert _TOKEN.encode() not in pickle.dumps(error)


@pytest.mark.parametrize("cls", _CLASSES)
@given(message=st.text(), hint=st.none() | st.text(), text=st.text(), protocol=st.integers(2, 5))
def test_errors_travel_with_their_fields_and_without_their_cause(
    cls: type[WorkstreamError], message: str, hint: str | None, text: str, protocol: int
) -> None:
    """A pickle brings back class, message and fields, and nothing of the backend."""
    error = _make(cls, message, hint, text)
    error.__cause__ = OSError(f"backend said {_TOKEN}")
    error.__context__ = KeyError(_TOKEN)
    data = pickle.dumps(error, protocol)
    back = pickle.loads(data)  # noqa: S301 - our own bytes
    assert type(back) is cls
    assert vars(back) == vars(error)
    assert (back.args, str(back)) == (error.args, str(error))
    assert (back.__cause__, back.__context__, back.__traceback__) == (None, None, None)
    assert _TOKEN.encode() not in data


def test_a_copy_of_an_error_is_equal_in_everything_that_counts() -> None:
    """``copy`` takes the same road as ``pickle``."""
    error = PushRejectedError("no", url="https://h/r", ref="refs/heads/x", reason="hook declined")
    for twin in (copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is PushRejectedError
        assert vars(twin) == vars(error)


def test_a_users_own_error_travels_although_its_constructor_differs() -> None:
    """A pickle does not call constructors, so a subclass may ask for what it likes."""
    back: Any = pickle.loads(pickle.dumps(_UsersError("three", lane_count=3)))  # noqa: S301 - ours
    assert (str(back), back.lane_count, back.path) == ("three", 3, "/somewhere")


def test_an_error_keeps_its_cause_within_the_process() -> None:
    """``raise ... from`` works as ever, so that a debugger sees the backend's words."""
    cause = KeyError("backend")
    with pytest.raises(LaneBusyError) as caught:
        raise LaneBusyError("held", waited_s=0.0) from cause
    assert caught.value.__cause__ is cause
