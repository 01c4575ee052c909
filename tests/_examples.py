"""What property tests share: how many examples they try, and how a refusal is caught."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from hypothesis import HealthCheck, Phase, settings

from agentrelay.workstream.errors import WorkstreamError

__all__ = ["TIMES", "refusal", "tries"]

# CONTRIBUTING.md, "Property tests".
TIMES: Final = int(os.environ.get("HYPOTHESIS_TIMES", "1"))


def tries(count: int, **more: Any) -> settings:
    """Return settings for ``count`` examples, times what the environment asks for.

    No deadline: a disk has no promise about time. A failure prints the line that
    reproduces it.

    Args:
        count: Number of examples in an ordinary run.
        **more: Further settings.
    """
    # Building a repository is slow for Hypothesis, and an example is large.
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    return settings(
        max_examples=count * TIMES,
        deadline=None,
        print_blob=True,
        suppress_health_check=checks,
        # Not "explain": it takes minutes where an example takes a tenth of a second.
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        **more,
    )


def refusal(action: Callable[[], object]) -> WorkstreamError | None:
    """Do something, and return the error of ours it was refused with, if it was."""
    try:
        action()
    except WorkstreamError as error:
        return error
    return None
