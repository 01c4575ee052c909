"""The stock git, and the ssh-keygen it asks, find our signatures good."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from agentrelay.workstream import LaneWorkspace, SigningKey
from agentrelay.workstream.testing import World
from tests.integration._workspaces import workspace_in, write
from tests.interop._stock_git import GIT, run_git

_KEYGEN = shutil.which("ssh-keygen")

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(GIT is None or _KEYGEN is None, reason="there is nobody to judge"),
]

KINDS = (
    ("ed25519",), ("rsa", "-b", "2048"), ("ecdsa", "-b", "256"), ("ecdsa", "-b", "521"),
    ("ed25519", "-m", "PEM"), ("rsa", "-b", "2048", "-m", "PEM"),
    ("rsa", "-b", "2048", "-m", "PKCS8", "-N", "a passphrase"),
)  # fmt: skip


@pytest.fixture
def workspace(agentrelay_world: World) -> LaneWorkspace:
    """Return a lane with a change."""
    made = workspace_in(agentrelay_world)
    write(made, new="1\n")
    return made


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_git_verifies_what_was_signed(
    workspace: LaneWorkspace, tmp_path: Path, kind: tuple[str, ...]
) -> None:
    """With keys that ssh-keygen made; of somebody else's key it says that it is not known."""
    path, allowed = tmp_path / "key", tmp_path / "allowed"
    secret = kind[kind.index("-N") + 1] if "-N" in kind else None
    arguments = ["-q", "-C", "", "-f", str(path), "-t", *kind]
    if secret is None:
        arguments += ["-N", ""]
    subprocess.run([str(_KEYGEN), *arguments], check=True, timeout=60)
    public = path.with_suffix(".pub").read_text()
    author = "A <a@example.invalid>"
    key = SigningKey(path=path, passphrase=secret)
    made = workspace.commit("Work", author=author, signing_key=key)

    def judged(whose: str) -> subprocess.CompletedProcess[str]:
        allowed.write_text(f"a@example.invalid {whose}")
        setting = f"gpg.ssh.allowedSignersFile={allowed}"
        return run_git(workspace.path, "-c", setting, "verify-commit", made.commit_id)

    good = judged(public)
    assert good.returncode == 0, good.stderr
    assert 'Good "git" signature for a@example.invalid' in good.stdout + good.stderr
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGMqqdBlgFt3CtJdAf7tzX7v3wzEBpDHQ9YkWJ7ZpAbC"
    assert judged(other).returncode != 0
    assert run_git(workspace.path, "fsck", "--strict").returncode == 0
