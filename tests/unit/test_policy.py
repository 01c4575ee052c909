"""The policy of waits: what it allows, what it refuses, and that nothing is left to chance."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

from agentrelay.workstream import RepositoryError, RetryPolicy
from tests.integration._clock import StillClock


def test_waits_double_and_are_capped() -> None:
    """One second, two, four; never more than the longest single wait."""
    policy = StillClock().policy(longest_wait_s=5.0)
    assert [policy.backoff_s(failures) for failures in (1, 2, 3, 4, 1000)] == [1, 2, 4, 5, 5]


def test_jitter_shortens_our_waits_and_lengthens_those_that_were_asked_for() -> None:
    """A crowd spreads out, and nobody comes back before the time GitHub named."""
    clock = StillClock()
    deadline = clock.policy(jitter=0.5, draw=lambda: 0.8).start()
    assert deadline.back_off(1)
    deadline.wait_as_asked(10.0)
    assert clock.waits == pytest.approx([0.6, 14.0])


def test_a_wait_that_leaves_no_time_is_not_begun() -> None:
    """The deadline bounds the waits as well; what is left is what counts."""
    clock = StillClock()
    deadline = clock.policy(deadline_s=10.0, first_wait_s=4.0).start()
    assert (deadline.may_wait(9.9), deadline.may_wait(10.0)) == (True, False)
    assert deadline.back_off(1)
    assert not deadline.back_off(2)
    assert clock.waits == [4.0]
    assert deadline.left_s == 6.0
    # Lengthening by chance must not use up what was left.
    deadline.policy.wait(0)
    deadline.wait_as_asked(5.9)
    assert deadline.left_s > 0


def test_a_longer_wait_than_the_cap_is_not_allowed() -> None:
    """However much time the deadline leaves."""
    deadline = StillClock().policy(deadline_s=1000.0, longest_wait_s=60.0).start()
    assert (deadline.may_wait(60.0), deadline.may_wait(60.1)) == (True, False)


def test_no_wait_is_no_call() -> None:
    """A first wait of zero asks again at once."""
    clock = StillClock()
    assert clock.policy(first_wait_s=0.0).start().back_off(1)
    assert clock.waits == []


def test_the_clocks_of_the_process_are_used_unless_told() -> None:
    """Time passes by itself, a wait takes the time it says, and draws stay in range."""
    policy = RetryPolicy()
    deadline = policy.start()
    before = policy.monotonic()
    policy.wait(0.01)
    assert policy.monotonic() - before >= 0.009
    assert 0 < deadline.left_s < policy.deadline_s
    assert policy.wall_clock() > 1_700_000_000
    assert 0 <= policy.draw() < 1


@pytest.mark.parametrize(
    "settings",
    [
        {"deadline_s": 0},
        {"deadline_s": -1},
        {"deadline_s": float("inf")},
        {"deadline_s": threading.TIMEOUT_MAX * 2},
        {"longest_wait_s": float("nan")},
        {"first_wait_s": "1"},
        {"attempts": 0},
        {"attempts": True},
        {"attempts": 1.5},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"jitter": True},
        {"jitter": "some"},
        {"monotonic": 5},
        {"wall_clock": None},
        {"wait": 0.5},
        {"draw": "often"},
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(settings: dict[str, Any]) -> None:
    """Where it was written, with its name."""
    (name,) = settings
    with pytest.raises(RepositoryError, match=name) as caught:
        RetryPolicy(**settings)
    assert caught.value.hint


def test_a_policy_is_a_value() -> None:
    """Equal settings are equal, it survives pickling, and no clock clutters its repr."""
    policy = RetryPolicy(attempts=2)
    restored = pickle.loads(pickle.dumps(policy))  # noqa: S301 - made on the line itself
    assert restored == policy == RetryPolicy(attempts=2)
    assert policy != RetryPolicy()
    assert "function" not in repr(policy)
    with pytest.raises(AttributeError):
        policy.attempts = 3  # type: ignore[misc]  # it is frozen
