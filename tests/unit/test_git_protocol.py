"""Requests and answers of smart HTTP: bytes against data."""

from __future__ import annotations

import pytest

from agentrelay.workstream.testing._git_protocol import (
    NO_ID,
    ProtocolError,
    PushRequest,
    RefUpdate,
    UploadRequest,
    advertise,
    push_report,
)
from agentrelay.workstream.testing._pktline import FLUSH, PktLineError, PktLineReader, frame

_A, _B, _C = ("a" * 40, "b" * 40, "c" * 40)


def _body(*lines: str | None) -> bytes:
    return b"".join(FLUSH if line is None else frame(f"{line}\n") for line in lines)


def test_a_fetch_request_is_read_with_its_rounds() -> None:
    """Wants, capabilities of the first, limits and every round of haves arrive in order."""
    request = UploadRequest.parse(
        _body(
            f"want {_A} multi_ack_detailed side-band-64k",
            f"want {_B}",
            f"shallow {_C}",
            "deepen 3",
            None,
            f"have {_B}",
            None,
            f"have {_C}",
            "done",
        )
    )
    assert request.wants == (_A, _B)
    assert request.capabilities == {"multi_ack_detailed", "side-band-64k"}
    assert request.shallow == {_C}
    assert request.depth == 3
    assert request.rounds == ((_B,), (_C,))
    assert request.haves == (_B, _C)
    assert request.done


def test_a_fetch_that_is_not_done_keeps_negotiating() -> None:
    """Without "done" there is no pack yet, and depth 0 is no limit."""
    request = UploadRequest.parse(_body(f"want {_A}", "deepen 0", None, f"have {_B}", None))
    assert (request.done, request.depth, request.rounds) == (False, None, ((_B,),))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(_body("want nothing", None), id="no id"),
        pytest.param(_body(f"want {_A.upper()}", None), id="an id in capitals"),
        pytest.param(_body("deepen-since 1", None), id="not on offer"),
        pytest.param(_body("deepen x", None), id="no depth"),
        pytest.param(_body(f"want {_A}", None, f"want {_B}"), id="a want among haves"),
        pytest.param(_body(f"want {_A}", None, "have x"), id="a have without an id"),
    ],
)
def test_a_fetch_request_out_of_order_is_refused(body: bytes) -> None:
    """What the protocol does not allow is an error for the client."""
    with pytest.raises(ProtocolError):
        UploadRequest.parse(body)


def test_a_push_request_is_read_with_its_pack() -> None:
    """Zero ids become "nowhere", and the bytes behind the commands are the pack."""
    body = _body(
        f"shallow {_C}",
        f"{NO_ID} {_A} refs/heads/new\0 report-status atomic",
        f"{_A} {NO_ID} refs/heads/old",
        None,
    )
    request = PushRequest.parse(body + b"PACK...")
    assert request.updates == (
        RefUpdate("refs/heads/new", None, _A),
        RefUpdate("refs/heads/old", _A, None),
    )
    assert request.capabilities == {"report-status", "atomic"}
    assert request.pack == b"PACK..."


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(_body("nonsense", None), id="no command"),
        pytest.param(_body(f"{_A} refs/heads/x", None), id="one id"),
        pytest.param(_body(f"{_A} {_B} refs/x", f"{_A} {_C} refs/x", None), id="one ref twice"),
    ],
)
def test_a_push_request_that_is_none_is_refused(body: bytes) -> None:
    """Commands that cannot be carried out as they stand are an error for the client."""
    with pytest.raises(ProtocolError):
        PushRequest.parse(body)


def test_commands_without_their_flush_are_a_cut_request() -> None:
    """A push that breaks off between two commands moves nothing."""
    with pytest.raises(PktLineError):
        PushRequest.parse(_body(f"{NO_ID} {_A} refs/heads/new\0report-status"))


def test_the_list_of_refs_names_the_service_and_its_capabilities_once() -> None:
    """Capabilities follow the first ref only, after a NUL, with what HEAD stands for."""
    entries = [("HEAD", _A), ("refs/heads/main", _A)]
    answer = advertise("git-upload-pack", entries, symrefs={"HEAD": "refs/heads/main"})
    reader = PktLineReader(answer)
    assert reader.section() == [b"# service=git-upload-pack"]
    first, second = reader.section()
    name, _, capabilities = first.partition(b"\0")
    assert name == f"{_A} HEAD".encode()
    assert b"symref=HEAD:refs/heads/main" in capabilities.split()
    assert second == f"{_A} refs/heads/main".encode()
    assert reader.at_end


def test_an_empty_repository_still_tells_its_capabilities() -> None:
    """Where there is no ref, a line with no id carries them."""
    reader = PktLineReader(advertise("git-receive-pack", [], symrefs={}))
    reader.section()
    (line,) = reader.section()
    name, _, capabilities = line.partition(b"\0")
    assert name == f"{NO_ID} capabilities^{{}}".encode()
    assert {b"report-status", b"delete-refs", b"atomic"} <= set(capabilities.split())


_UPDATES = (RefUpdate("refs/heads/a", None, _A), RefUpdate("refs/heads/b", None, _B))


def test_a_report_names_every_ref_in_order_and_reasons_in_one_line() -> None:
    """A reason with line breaks cannot forge another verdict."""
    answer = push_report(
        _UPDATES,
        {"refs/heads/b": "no\nok refs/heads/b"},
        capabilities=frozenset({"report-status"}),
    )
    assert PktLineReader(answer).section() == [
        b"unpack ok",
        b"ok refs/heads/a",
        b"ng refs/heads/b no ok refs/heads/b",
    ]


def test_a_report_over_side_bands_carries_messages_for_people_first() -> None:
    """Messages travel in band 2, the framed report in band 1."""
    answer = push_report(
        _UPDATES,
        {},
        capabilities=frozenset({"report-status", "side-band-64k"}),
        messages=["hello"],
    )
    said, report = PktLineReader(answer).section()
    assert said == b"\x02hello"
    assert report[:1] == b"\x01"
    assert PktLineReader(report[1:]).section()[0] == b"unpack ok"


def test_a_client_that_wants_no_report_gets_none() -> None:
    """Without report-status the answer is empty."""
    assert push_report(_UPDATES, {}, capabilities=frozenset()) == b""
