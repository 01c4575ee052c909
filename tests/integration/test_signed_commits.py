"""Commits that are signed with an SSH key; the stock git judges them in ``tests/interop``."""

from __future__ import annotations

import base64
import hashlib
import pickle
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pygit2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_public_key,
)

from agentrelay.workstream import LaneWorkspace, RepositoryError, SigningKey
from agentrelay.workstream.testing import World
from tests.integration._command_line import run
from tests.integration._workspaces import contents, workspace_in, write

KEYS: dict[str, Any] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "rsa": rsa.generate_private_key(65537, 2048),
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
}
PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def workspace(agentrelay_world: World) -> LaneWorkspace:
    """Return a lane with a change."""
    made = workspace_in(agentrelay_world)
    write(made, new="1\n")
    return made


def text_of(key: Any, kind: PrivateFormat = PrivateFormat.OpenSSH, secret: str = "") -> str:
    """Return a private key as a file holds it."""
    protection = BestAvailableEncryption(secret.encode()) if secret else NoEncryption()
    data = key.private_bytes(Encoding.PEM, kind, protection)
    assert isinstance(data, bytes)
    return data.decode()


def parts(data: bytes) -> list[bytes]:
    """Split strings of RFC 4251."""
    found = []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


def verify(workspace: LaneWorkspace, commit_id: str) -> str:
    """Check a commit's signature, by the letter of PROTOCOL.sshsig; return the algorithm."""
    handle = pygit2.Repository(str(workspace.path))
    commit = handle[commit_id].peel(pygit2.Commit)
    signature, payload = commit.gpg_signature
    assert signature is not None
    assert payload is not None
    begin, *lines, end = signature.decode().split("\n")
    assert (begin, end) == ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----")
    assert {len(line) for line in lines[:-1]} == {70}
    blob = base64.b64decode("".join(lines))
    assert blob[:10] == b"SSHSIG\0\0\0\x01"
    public, namespace, reserved, hashed, made = parts(blob[10:])
    assert (namespace, reserved, hashed) == (b"git", b"", b"sha512")
    digest = hashlib.sha512(payload).digest()
    signed = b"SSHSIG" + b"".join(
        len(part).to_bytes(4, "big") + part for part in (namespace, reserved, hashed, digest)
    )
    algorithm, raw = parts(made)
    kind = parts(public)[0]
    key = load_ssh_public_key(kind + b" " + base64.b64encode(public))
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(raw, signed)
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(raw, signed, padding.PKCS1v15(), hashes.SHA512())
    else:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert not any(number[0] & 0x80 for number in parts(raw))
        r, s = (int.from_bytes(number, "big") for number in parts(raw))
        by_size = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(by_size[key.key_size]))
    # What is signed is the commit without its signature.
    stored = handle.read(commit_id)[1]
    header = b"gpgsig " + signature.replace(b"\n", b"\n ") + b"\n"
    assert stored.replace(header, b"") == payload
    return algorithm.decode()


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("ed25519", "ssh-ed25519"),
        ("rsa", "rsa-sha2-512"),
        ("p256", "ecdsa-sha2-nistp256"),
        ("p384", "ecdsa-sha2-nistp384"),
        ("p521", "ecdsa-sha2-nistp521"),
    ],
)
def test_a_commit_is_signed_with_each_kind_of_key(
    workspace: LaneWorkspace, name: str, algorithm: str
) -> None:
    """Several times: the numbers of an ECDSA signature have this or that highest bit."""
    key = SigningKey(text=text_of(KEYS[name]))
    for number in range(4):
        write(workspace, new=f"{number}\n")
        made = workspace.commit(f"Wörk {number}", signing_key=key, trailers=[("Key", "v")])
        assert verify(workspace, made.commit_id) == algorithm
        assert made.subject == f"Wörk {number}"
    assert contents(workspace)["new"] == b"3\n"
    assert workspace.status().is_clean


@pytest.mark.parametrize("kind", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8])
def test_a_key_is_read_from_a_file_in_either_format(
    workspace: LaneWorkspace, tmp_path: Path, kind: PrivateFormat
) -> None:
    """A path alone will do."""
    path = tmp_path / "key"
    # A file that went through a form: other line ends, the last one lost.
    path.write_bytes(text_of(KEYS["ed25519"], kind).rstrip("\n").replace("\n", "\r\n").encode())
    made = workspace.commit("Work", signing_key=path)
    assert verify(workspace, made.commit_id) == "ssh-ed25519"


def test_a_protected_key_is_opened_by_its_passphrase_alone(workspace: LaneWorkspace) -> None:
    """Without it, and with another one, nothing is committed."""
    text = text_of(KEYS["rsa"], PrivateFormat.PKCS8, PASSPHRASE)
    before = workspace.status()
    with pytest.raises(RepositoryError, match="protected by a passphrase"):
        workspace.commit("Work", signing_key=SigningKey(text=text))
    with pytest.raises(RepositoryError, match="this passphrase does not open"):
        workspace.commit("Work", signing_key=SigningKey(text=text, passphrase="wrong"))
    assert workspace.status() == before
    key = SigningKey(text=text, passphrase=PASSPHRASE)
    made = workspace.commit("Work", signing_key=key)
    assert verify(workspace, made.commit_id) == "rsa-sha2-512"


def test_a_passphrase_that_is_not_needed_does_no_harm(workspace: LaneWorkspace) -> None:
    """The key opens without."""
    key = SigningKey(text=text_of(KEYS["ed25519"]), passphrase=PASSPHRASE)
    verify(workspace, workspace.commit("Work", signing_key=key).commit_id)


def test_a_key_protected_by_openssh_opens_or_says_what_is_missing(
    workspace: LaneWorkspace,
) -> None:
    """It takes a package that does not come along."""
    text = PROTECTED_BY_OPENSSH
    with pytest.raises(RepositoryError) as caught:
        workspace.commit("Work", signing_key=SigningKey(text=text))
    assert "passphrase" in str(caught.value) or "bcrypt" in str(caught.value)
    key = SigningKey(text=text, passphrase=PASSPHRASE)
    if find_spec("bcrypt") is None:
        with pytest.raises(RepositoryError, match="needs the package bcrypt") as caught:
            workspace.commit("Work", signing_key=key)
        assert "[signing]" in str(caught.value.hint)
    else:
        verify(workspace, workspace.commit("Work", signing_key=key).commit_id)


def test_what_is_configured_counts_only_when_it_is_asked_for(
    workspace: LaneWorkspace, tmp_path: Path
) -> None:
    """Named by its public half, as people do."""
    (tmp_path / "key").write_text(text_of(KEYS["ed25519"]))
    config = pygit2.Repository(str(workspace.path)).config
    config["gpg.format"], config["commit.gpgSign"] = "ssh", True
    config["user.signingKey"] = str(tmp_path / "key.pub")
    made = workspace.commit("Unsigned")
    handle = pygit2.Repository(str(workspace.path))
    assert handle[made.commit_id].peel(pygit2.Commit).gpg_signature[0] is None
    write(workspace, new="2\n")
    made = workspace.commit("Signed", signing_key="configured")
    assert verify(workspace, made.commit_id) == "ssh-ed25519"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "gpg.format is 'openpgp'"),
        ({"gpg.format": "x509"}, "gpg.format is 'x509'"),
        ({"gpg.format": "ssh"}, "user.signingKey is not set"),
        ({"gpg.format": "ssh", "user.signingKey": "key::ssh-ed25519 AAAA"}, "an agent holds"),
        ({"gpg.format": "ssh", "user.signingKey": "/nowhere/key"}, "does not exist"),
    ],
)
def test_what_is_configured_and_cannot_be_used_is_said(
    workspace: LaneWorkspace, settings: dict[str, str], words: str
) -> None:
    """By the setting that is in the way; nothing is committed."""
    config = pygit2.Repository(str(workspace.path)).config
    for name, value in settings.items():
        config[name] = value
    with pytest.raises(RepositoryError, match=re.escape(words)):
        workspace.commit("Work", signing_key="configured")
    assert workspace.status().untracked == ("new",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no private key"),
        ("ssh-ed25519 AAAA a@b\n", "holds no private key"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "damaged"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nA\n-----END OPENSSH PRIVATE KEY-----", "damaged"),
        (text_of(x25519.X25519PrivateKey.generate(), PrivateFormat.PKCS8), "of another kind"),
        (text_of(ec.generate_private_key(ec.SECP256K1()), PrivateFormat.PKCS8), "of another kind"),
    ],
    ids=range(6),
)
def test_what_is_no_key_that_signs_is_refused(
    workspace: LaneWorkspace, text: str, words: str
) -> None:
    """In words that do not quote it."""
    with pytest.raises(RepositoryError, match=words) as caught:
        workspace.commit("Work", signing_key=SigningKey(text=text))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert workspace.status().untracked == ("new",)


def test_a_place_that_holds_no_file_is_refused(workspace: LaneWorkspace, tmp_path: Path) -> None:
    """A folder, and nothing at all."""
    with pytest.raises(RepositoryError, match="is not a file"):
        workspace.commit("Work", signing_key=tmp_path)
    with pytest.raises(RepositoryError, match="does not exist"):
        workspace.commit("Work", signing_key=tmp_path / "none")


def test_neither_key_nor_passphrase_is_shown_anywhere() -> None:
    """Not in a repr, nor in a pickle, nor where a key is passed for a path."""
    text = text_of(KEYS["ed25519"])
    key = SigningKey(text=text, passphrase=PASSPHRASE)
    body = text.split("\n")[2]
    for shown in (repr(key), str(key), str(pickle.dumps(key))):
        assert body not in shown
        assert PASSPHRASE not in shown


def test_a_key_that_was_pickled_says_that_it_stayed_behind(workspace: LaneWorkspace) -> None:
    """It is passed in the process that signs."""
    key = SigningKey(text=text_of(KEYS["ed25519"]))
    again = pickle.loads(pickle.dumps(key))  # noqa: S301 - made in the line itself
    with pytest.raises(RepositoryError, match="did not travel"):
        workspace.commit("Work", signing_key=again)


def test_what_is_passed_for_a_key_and_is_none_is_refused_unseen(workspace: LaneWorkspace) -> None:
    """A text might be the key; it is not looked for as a file."""
    text: Any = text_of(KEYS["ed25519"])
    others: list[Any] = [text, 7, b"x"]
    for wrong in others:
        with pytest.raises(RepositoryError, match="signing_key is a") as caught:
            workspace.commit("Work", signing_key=wrong)
        assert str(wrong) not in str(caught.value)
    for settings in ({}, {"path": "a", "text": "b"}, {"path": 7}, {"text": 7}):
        given: Any = settings
        with pytest.raises(RepositoryError, match="signing key"):
            SigningKey(**given)


def test_a_shell_signs_too(
    workspace: LaneWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a file; a passphrase is in the environment, and never an argument."""
    path = tmp_path / "key"
    path.write_text(text_of(KEYS["rsa"], PrivateFormat.PKCS8, PASSPHRASE))
    arguments = ("lane", "commit", "--in", workspace.path, "-m", "Work", "--signing-key", path)
    result = run(*arguments)
    assert result.exit_code == 1
    assert "AGENTRELAY_SIGNING_PASSPHRASE" in result.stderr
    monkeypatch.setenv("AGENTRELAY_SIGNING_PASSPHRASE", PASSPHRASE)
    assert run(*arguments).exit_code == 0
    assert verify(workspace, str(workspace.status().commit_id)) == "rsa-sha2-512"


# Made for this test alone; it opens nothing.
PROTECTED_BY_OPENSSH = """-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABChXr92BU
5XAlNiO4aTJk6DAAAAAQAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIGQdzN9cAPj0+rWq
SUdPVq8q5GAuZFHfMOAHFqB7ehkYAAAAkG3VrpyC0t5+PaRpInNJ9XXgmtiZTXVQCtIuUS
xTdjQmKlTpcv4k/yoPZaQaRP4wS91Ija69mLfaAsaRpv+skpfSkUn1Oveh3uAg/U3dtuGG
HlvmeldMEkMDnYDtVoMJLbnEYpRuSg8JfjUC6RkTAggdc4WDbp5SBBybFMoWzo0WKzuoFD
AGTXXTXH1bXCe8Fg==
-----END OPENSSH PRIVATE KEY-----
"""
