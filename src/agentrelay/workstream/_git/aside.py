"""Directories that appear at their place all at once: made beside it, then renamed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from agentrelay.workstream._git.failures import repository_failures
from agentrelay.workstream._git.locks import hold
from agentrelay.workstream._git.trash import remove_tree
from agentrelay.workstream.errors import LaneBusyError, RepositoryError

__all__ = ["made_aside", "sweep_aside"]

# In a maker's own directory aside: locked in the kernel while the maker lives.
_ALIVE: Final = "alive"
_OWN_WAIT_S: Final = 10.0
_RANDOM_BYTES: Final = 8
_SUFFIX: Final = re.compile(rf"-[0-9a-f]{{{2 * _RANDOM_BYTES}}}\Z")


@contextmanager
def made_aside(path: Path, *, kind: str) -> Iterator[Path]:
    """Yield a directory beside a place, to make in it what is then renamed to the place.

    It is removed at the end with whatever is still in it. One that a killed process left
    beside the same place is removed first; that of a living one is left alone.

    Args:
        path: The place; missing parents are made.
        kind: What is made there, in one word: ``"clone"``.

    Raises:
        RepositoryError: The directory cannot be made or removed.
    """
    sweep_aside(path, kind=kind)
    with repository_failures(f"make a place for the {kind}", path=path):
        path.parent.mkdir(parents=True, exist_ok=True)
    # Not mkdtemp: who may read it is for the umask to say.
    aside = path.with_name(f".{path.name}.{kind}-{os.urandom(_RANDOM_BYTES).hex()}")
    try:
        with hold(aside / _ALIVE, what=f"'{aside}'", timeout_s=_OWN_WAIT_S):
            yield aside
    except BaseException as error:
        # What went wrong first is what the caller must hear; the next call sweeps.
        try:
            _remove(aside)
        except RepositoryError as left:
            error.add_note(left.message)
        raise
    _remove(aside)


def _remove(aside: Path) -> None:
    with repository_failures("remove what was made aside", path=aside):
        remove_tree(aside)


def sweep_aside(path: Path, *, kind: str) -> None:
    """Remove what killed processes left beside a place; call it also where that is taken.

    One may have been killed when it had renamed what it made, and nobody makes it again.

    Args:
        path: The place.
        kind: As for :func:`made_aside`.

    Raises:
        RepositoryError: Something cannot be removed.
    """
    with repository_failures(f"remove what a killed {kind} left", path=path.parent):
        beginning = f".{path.name}.{kind}-"
        # Not glob(): what it makes of a folder that cannot be read depends on the Python.
        for name in sorted(os.listdir(path.parent)) if path.parent.is_dir() else ():
            left = path.parent / name
            # The digits tell it from somebody's of a like name.
            if not name.startswith(beginning) or _SUFFIX.search(name) is None:
                continue
            if left.is_symlink() or not left.is_dir():
                continue
            with suppress(LaneBusyError), hold(left / _ALIVE, what=f"'{left}'", timeout_s=0.0):
                remove_tree(left)
