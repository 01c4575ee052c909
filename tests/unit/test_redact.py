"""Redaction: what is secret goes, what is not stays."""

from __future__ import annotations

import string
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentrelay.workstream._redact import MASK, redact, strip_userinfo

# Put together here, so that no scanner of repositories takes them for live ones.
_ANY = "0123456789abcdefghijABCDEFGHIJ012345"
_TOKENS = (
    *(f"gh{kind}_{_ANY}" for kind in "pour"),
    "ghs" + "_eyJhbGciOiJ.eyJpc3MiOiIx.c2lnbmF0-dXJl_",
    "github" + "_pat_11ABCDEFG0abcdefghij_KLMNOPQRSTUVWXYZ0123456789",
    f"v1.{'0a' * 20}",
)

# RFC 3986: userinfo = *( unreserved / pct-encoded / sub-delims / ":" )
_USERINFO = st.lists(
    st.sampled_from([*string.ascii_letters, *string.digits, *"-._~!$&'()*+,;=:", "%40", "%2F"]),
    min_size=1,
    max_size=30,
).map("".join)

# A known secret: anything but the mask's own character, and no slash, which a URL
# that loses its user-info brings next to other text.
_SECRET = st.text(st.characters(codec="utf-8", exclude_characters="*/"), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://robin:s3cret@host/x", "https://host/x"),
        ("https://x-access-token:s3cret@host:8443/x", "https://host:8443/x"),
        ("https://s3cret@host", "https://host"),
        ("https://robin:s3@cret@host/x", "https://host/x"),
        ("ssh://git@host/x", "ssh://host/x"),
        # Not valid in a URL, and yet what people put into a remote's address.
        ("https://robin:s3/cret@host/o/r", "https://host/o/r"),
        ("https://robin:s3?cret@host/o/r", "https://host/o/r"),
        ("https://robin:s3#cret@host/o/r", "https://host/o/r"),
        ("https://robin:/s3cret@host/o/r", "https://host/o/r"),
        ("https://robin:12345/cret@host/o/r", "https://host/o/r"),
        ("https://robin:s3@c/ret@host/o/r", "https://host/o/r"),
        ("https://robin:s3<cret@host/o/r", "https://host/o/r"),
        ("https://s3<cret@host/o/r", "https://host/o/r"),
        ("https://robin:s3 cret@host/o/r", "https://host/o/r"),
        ("https://robin hood:s3cret@host/o/r", "https://host/o/r"),
        ("https://robin hood:s3/cret@host", "https://host"),
        ("https://robin.hood:s3/cret@host/o/r", "https://host/o/r"),
        ("http://robin:s3/cret@127.0.0.1:9", "http://127.0.0.1:9"),
        ("robin:s3cret@host:o/r", "host:o/r"),
        ("robin:s3/cr@et@host:o/r", "host:o/r"),
        ("robin@corp.example:s3cret@host:o/r", "host:o/r"),
        ("robin:s3cret@host/o/r", "host/o/r"),
        ("https:robin:s3cret@host/o/r", "host/o/r"),
        ("cannot fetch from 'robin:s3cret@host:o/r' now", "cannot fetch from 'host:o/r' now"),
        ("http://a:b/@one/x,http://c:d@two/y", "http://one/x,http://two/y"),
        ("from http://a:b@one/x to http://c:d@two/y", "from http://one/x to http://two/y"),
    ],
)
def test_user_info_is_dropped_from_every_url(text: str, clean: str) -> None:
    """What stands between ``://`` and the last ``@`` before the path goes."""
    assert strip_userinfo(text) == redact(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "",
        "robin@example.invalid wrote to git@github.com:owner/name.git",
        "https://host/owner/name@v1.2",
        "https://host/x?mail=a@b.c and https://host/#a@b",
        "https://host/s3cret/x and 'https://host/s3cret/y'",
        "'https://a' and 'b@c'",
        "'https://host.example:8443' refused it; ask robin@example.invalid",
        "https://host.example:8443/o/r@v1.2 and http://localhost:80/o/r@v1",
        "http://[::1]:8080/o/r@v1.2",
        "http://host:8080 refused it; ask robin@example.invalid",
        "https://host: no answer, ask robin@example.invalid",
        "'https://host/x', 'git@github.com:owner/name.git' and 'main:robin'",
        "git@github.com:owner/name@v1.2",
        "refs/heads/a:refs/heads/b and file.py:12: in robin@example.invalid",
        "mail robin@example.invalid: the key=value pair, the token= and ?page=2&per_page=100",
        "commit f74841897eb3202f20dd4d07bd4260b1ba5d4503",
        "the branch 'ghost_town' and github_patterns are no tokens; authorization failed",
        "it weighs_more than highs_and_lows",
        "refs/heads/agentrelay/nightly/parser/integration",
    ],
)
def test_text_without_secrets_is_left_alone(text: str) -> None:
    """Addresses, ids and ordinary words survive to the letter."""
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://host/x?access_token=s3cret", "https://host/x?access_token=***"),
        ("https://host/x?a=1&private_token=s3cret&b=2", "https://host/x?a=1&private_token=***&b=2"),
        ("'/x?ACCESS_TOKEN=s3cret' failed", "'/x?ACCESS_TOKEN=***' failed"),
        ("https://host/#id_token=s3cret", "https://host/#id_token=***"),
        ("https://host/?token=s3cret;password=s3cret", "https://host/?token=***"),
        ("https://host/?client_secret=s3cret, twice", "https://host/?client_secret=***, twice"),
    ],
)
def test_a_query_keeps_its_names_and_loses_its_secrets(text: str, clean: str) -> None:
    """Only the value of a parameter that is called a secret goes."""
    assert redact(text) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://robin:s3cret", "https://robin:***"),
        (
            "'https://robin:s3cret' and 'https://robin:12s3cret/x'",
            "'https://robin:***' and 'https://robin:***/x'",
        ),
        ("https://host:8443, https://host:, (https://host:80) and https://host:80:", None),
    ],
)
def test_a_port_that_is_no_number_is_a_password(text: str, clean: str | None) -> None:
    """An address that was cut off before its host still keeps its secret."""
    assert redact(text) == (text if clean is None else clean)


@given(userinfo=_USERINFO)
@example(userinfo="robin:it's-secret")
def test_no_valid_user_info_survives(userinfo: str) -> None:
    """Whatever RFC 3986 allows in user-info is dropped, wherever the URL stands."""
    for before, after in (("", ""), ("cannot fetch '", "' now"), ('["', '"]'), ("<", ">")):
        text = f"{before}https://{userinfo}@host/path{after}"
        assert strip_userinfo(text) == f"{before}https://host/path{after}"


@given(text=st.text(), secrets=st.lists(_SECRET, min_size=1, max_size=3), data=st.data())
def test_a_known_secret_never_survives(text: str, secrets: list[str], data: st.DataObject) -> None:
    """Wherever and however often known secrets occur, they are masked."""
    parts = data.draw(st.lists(st.sampled_from([*secrets, text, " "]), min_size=1))
    clean = redact("".join([*secrets, *parts]), *secrets)
    assert [secret for secret in secrets if secret in clean] == []


def test_of_two_nested_secrets_neither_survives_in_part() -> None:
    """The longer is masked first, so the shorter leaves no tail of it behind."""
    assert redact("token-long-tail", "token", "token-long-tail") == MASK


def test_an_empty_secret_masks_nothing() -> None:
    """An unset variable is no reason to mask between all letters."""
    assert redact("plain", "") == "plain"


@pytest.mark.parametrize("token", _TOKENS)
@pytest.mark.parametrize(
    "spell",
    [
        "{}",
        "token {} refused",
        "TOKEN={}&next=1",
        "('{}',)",
        "token:{}:",
        # A token read from a file with a stray line break, shown by repr().
        "'\\n{}'",
        # A user name and a token quoted as one.
        "x-access-token%3A{}%40host",
    ],
)
def test_tokens_are_known_by_their_shape(token: str, spell: str) -> None:
    """Every documented form of a GitHub token is masked, whatever it touches."""
    clean = redact(spell.format(token))
    assert MASK in clean
    assert token[:-4] not in clean


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Basic cm9iaW46czNjcmV0",
        "authorization: bearer cm9iaW46czNjcmV0",
        "Authorization: token cm9iaW46czNjcmV0",
        "Proxy-Authorization: Basic cm9iaW46czNjcmV0",
        "AUTHORIZATION=cm9iaW46czNjcmV0",
        "{'Authorization': 'Basic cm9iaW46czNjcmV0', 'Accept': '*/*'}",
        '{"authorization":"Bearer cm9iaW46czNjcmV0"}',
        "{b'Authorization': b'Basic cm9iaW46czNjcmV0'}",
    ],
)
def test_authorization_headers_are_masked_in_every_spelling(text: str) -> None:
    """A header's credential goes; that there was a header may be seen."""
    clean = redact(text)
    assert "cm9iaW46czNjcmV0" not in clean
    assert "authorization" in clean.lower()
    assert MASK in clean


def test_what_follows_a_masked_header_stays_readable() -> None:
    """Only the credential is masked, not the rest of the report."""
    assert redact("Authorization: Basic abc, then 401") == f"Authorization: Basic {MASK}, then 401"


_PIECES = [
    *"ab1 .,:/@?#&=<'\"*\n[]",
    "://",
    "https://",
    "host.example",
    ":8443",
    "authorization:",
    "bearer ",
    "ghp_abcd.e",
    "token=",
]


@given(
    text=st.text()
    | st.text("ah:/@ '\"=ghp_authorization*bearerx")
    | st.lists(st.sampled_from(_PIECES), max_size=25).map("".join)
)
@example("https://u:p@a b:c@d")
@example("https://authorization=x/y b:c@d")
@example("https://ghp_abcd.e:8443/x@y")
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    """Text may pass through several layers; the words must not change on the way."""
    once = redact(text)
    assert redact(once) == once


def test_a_quoted_user_info_is_not_mistaken_for_plain_text() -> None:
    """Percent-encoded passwords go with the rest of the user-info."""
    password = quote("p@ss/word:'\"<>", safe="")
    assert redact(f"https://robin:{password}@host/x") == "https://host/x"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "piece",
    [
        "authorization:" + " " * 60_000,
        "://" * 30_000,
        "ghp_" * 30_000,
        "://a" * 30_000,
        "://a " * 30_000,
        "://a:b " * 20_000,
        "x://" + "a " * 60_000,
        "x://a:b" + " c" * 60_000,
        "://a:/" * 20_000,
        ",a://" * 20_000,
        "a:," * 40_000,
        "a:b@" * 30_000,
        ",a" * 60_000 + ":",
        "@a" * 60_000,
        "a" * 120_000,
        "?" * 60_000 + "token" * 12_000,
        "?token" * 20_000,
    ],
    ids=lambda piece: f"{piece[:8]!r}",
)
def test_hostile_text_is_redacted_in_time_proportional_to_its_length(piece: str) -> None:
    """A remote or a log may say anything, and must not hold up the one who masks it."""
    assert len(redact(piece)) < 2 * len(piece)
