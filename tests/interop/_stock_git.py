"""Running the stock git program as a judge, without any of the machine's configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

__all__ = ["GIT", "IDENTITY", "run_git"]

GIT: Final = shutil.which("git")
# Who commits, where the repository does not say.
IDENTITY: Final = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "A"), ("EMAIL", "a@example.invalid"))
}


def run_git(
    cwd: Path, *arguments: str, given: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run git; its outcome is the caller's to judge.

    Args:
        cwd: Where; also its home.
        arguments: Its arguments.
        given: What it reads from its input.
        variables: More of its environment.
    """
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(cwd),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        **variables,
    }
    done = subprocess.run(
        [str(GIT), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        input=os.fsencode(given),
        check=False,
        timeout=120,
    )
    # As bytes until here: text mode would change the ends of lines.
    return subprocess.CompletedProcess(
        done.args, done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr)
    )
