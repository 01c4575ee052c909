"""What messages hold: nothing that differs from one run to the next, and no secret."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping

__all__ = ["assert_no_secret", "without_chance"]


def without_chance(text: str) -> str:
    """Return a message without ids, ports, times, sizes and names made up on the spot."""
    text = re.sub(r"\b[0-9a-f]{40}\b|\b[0-9a-f]{12}\b(?![-.])", "COMMIT", text)
    text = re.sub(r"(127\.0\.0\.1|0\.0\.0\.0):\d+", r"\1:PORT", text)
    text = re.sub(r"\d{8}T\d{6}[0-9A-Za-z.-]*", "TIME", text)
    text = re.sub(r"\b\d+ bytes\b", "N bytes", text)
    text = re.sub(r"(/deeper-down)+\S*", "/deeper-down/...", text)
    text = re.sub(r"SSL error: .*", "SSL error", text)
    text = re.sub(r"(?<=failed to start SSH session): (?!Timed)[\w -]+", "", text)
    # Which of these libgit2 says of a cut answer depends on how the bytes arrived.
    text = re.sub(
        r"http parser did not consume entire buffer: Invalid EOF state"
        r"|could not (?:read from|write to) socket: (?:Connection reset by peer|Broken pipe)"
        r"|error (?:receiving data from|sending data to) socket: \S.*?(?=\.|$)",
        "unexpected EOF",
        text,
    )
    text = re.sub(r"(?<=_git2_)[0-9a-f]+|\b[0-9a-f]{16}\b", "RANDOM", text)
    text = re.sub(r"(?<=objects/)[0-9a-f]{2}/[0-9a-f]{38}\b", "OBJECT", text)
    return re.sub(r"(?<=for )\d+\.\d s\b", "N s", text)


def assert_no_secret(error: BaseException, secrets: list[str]) -> None:
    """Assert that neither an error, nor what caused it, nor its pickle shows a secret."""
    seen: Mapping[int, BaseException] = {}
    chain: BaseException | None = error
    while chain is not None and id(chain) not in seen:
        seen = {**seen, id(chain): chain}
        text = f"{chain} {chain!r} {vars(chain)} {chain.args}"
        assert not any(secret in text for secret in secrets), type(chain)
        chain = chain.__cause__ or chain.__context__
    data = pickle.dumps(error)
    assert not any(secret.encode() in data for secret in secrets)
    copy = pickle.loads(data)  # noqa: S301 - our own bytes
    # Notes of a traceback are for whoever sees it happen; they do not travel.
    fields = {name: value for name, value in vars(error).items() if name != "__notes__"}
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), fields)
