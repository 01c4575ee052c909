"""How far the files of a lane are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agentrelay.workstream.core.runtime import WorkstreamRuntime, record_concern

__all__ = ["CheckoutProgress", "teller"]


@dataclass(frozen=True)
class CheckoutProgress:
    """How far the files of one lane are written.

    How many bytes there will be is not known before the last file: git's trees do not say.

    Attributes:
        workstream_id: Whose lane it is.
        files_done: Files and links that are there.
        files_total: How many there will be.
        bytes_done: Size of those files, in bytes; 0 where libgit2 writes them by its own
            rules, because attributes or settings convert some.
    """

    workstream_id: str
    files_done: int
    files_total: int
    bytes_done: int


def teller(
    runtime: WorkstreamRuntime, listener: Callable[[CheckoutProgress], None] | None
) -> Callable[[int, int, int], None] | None:
    """Return what tells a listener; one that fails is not told again, and the lane has a concern.

    Args:
        runtime: Whose lane it is.
        listener: Whom to tell, if anybody.

    Returns:
        A function of files done, files in all, and bytes done.
    """
    if listener is None:
        return None
    listening = [listener]

    def tell(files_done: int, files_total: int, bytes_done: int) -> None:
        for one in listening:
            try:
                one(CheckoutProgress(runtime.spec.id, files_done, files_total, bytes_done))
            except Exception as error:  # noqa: BLE001 - the lane is not the listener's
                listening.clear()
                kind = type(error).__name__
                record_concern(runtime, f"progress could not be reported: {kind}: {error}")

    return tell
