"""The command line's door: ``agentrelay-workstream`` and ``python -m agentrelay.workstream``."""

from __future__ import annotations

import contextlib
import io
import sys
from importlib.util import find_spec
from typing import Final

__all__ = ["main"]

_NEEDS: Final = ("click", "rich")
# What click answers to a command line it cannot use: nothing was tried.
_USAGE: Final = 2
# 128 + SIGINT, as shells report it.
_INTERRUPTED: Final = 130


def main() -> int:
    """Run the command line of this process; see ``--help`` for what it offers.

    Returns:
        Exit status 2 where the extra is not installed, 130 where it was interrupted before a
        command began, after one sentence on stderr.
        Otherwise it does not return.

    Raises:
        SystemExit: With the command's exit status.
    """
    if any(find_spec(name) is None for name in _NEEDS):
        sys.stderr.write(
            "error: the command line needs the extra 'cli': "
            "pip install 'agentrelay-workstream[cli]'\n"
        )
        return _USAGE
    try:
        from agentrelay.workstream.cli import program

        # A terminal without Unicode shows what it cannot print as \x.., instead of failing.
        with contextlib.suppress(AttributeError, io.UnsupportedOperation):
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # may be replaced
        program(prog_name="agentrelay-workstream")
    except KeyboardInterrupt:
        # Between two commands' own handling: while modules are loaded, or at the very end.
        sys.stderr.write("error: interrupted; lanes can be resumed by repeating the command\n")
        return _INTERRUPTED
    return 0  # pragma: no cover - click raises SystemExit


if __name__ == "__main__":
    sys.exit(main())
