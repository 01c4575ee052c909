"""A port of loopback nobody listens at, now or later."""

from __future__ import annotations

import functools
import socket

__all__ = ["closed_port"]


def closed_port() -> int:
    """Return a port that refuses connections for as long as this process runs."""
    return int(_bound().getsockname()[1])


@functools.cache
def _bound() -> socket.socket:
    """Return a socket that has a port and does not listen.

    A port that was given back is anybody's: another suite's server may be the next there, or
    a connection of our own, which then connects to itself.
    """
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound
