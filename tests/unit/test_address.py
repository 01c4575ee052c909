"""A remote's URL: read as git reads it, or refused; never guessed at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.workstream._github.address import GitHubAddress, is_own_pull_url, parse_address
from agentrelay.workstream.errors import RepositoryError

_DOTCOM = ("github.com", "https://api.github.com")
_GHES = ("ghe.corp", "https://ghe.corp/api/v3")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://github.com/octo/widgets", _DOTCOM),
        ("https://github.com/octo/widgets.git", _DOTCOM),
        ("https://github.com/octo/widgets/", _DOTCOM),
        ("https://github.com/octo/widgets.git/", _DOTCOM),
        ("  https://github.com/octo/widgets\n", _DOTCOM),
        ("HTTPS://GitHub.COM/octo/widgets", _DOTCOM),
        ("https://www.github.com/octo/widgets", _DOTCOM),
        ("https://github.com./octo/widgets", _DOTCOM),
        ("https://github.com:443/octo/widgets", _DOTCOM),
        ("https://github.com:8443/octo/widgets", _DOTCOM),
        ("http://github.com/octo/widgets", _DOTCOM),
        ("http://github.com:80/octo/widgets", _DOTCOM),
        ("https://ghp_secret@github.com/octo/widgets", _DOTCOM),
        ("https://user:ghp_secret@github.com/octo/widgets", _DOTCOM),
        ("https://x-access-token:ghs_secret@github.com/octo/widgets.git", _DOTCOM),
        ("git+https://github.com/octo/widgets.git", _DOTCOM),
        ("git://github.com/octo/widgets.git", _DOTCOM),
        ("ssh://git@github.com/octo/widgets.git", _DOTCOM),
        ("ssh://git@github.com:22/octo/widgets.git", _DOTCOM),
        ("ssh://git@ssh.github.com:443/octo/widgets.git", _DOTCOM),
        ("ssh://org-123@github.com/octo/widgets.git", _DOTCOM),
        ("ssh://github.com/octo/widgets", _DOTCOM),
        ("git+ssh://git@github.com/octo/widgets.git", _DOTCOM),
        ("ssh+git://git@github.com/octo/widgets.git", _DOTCOM),
        ("git@github.com:octo/widgets.git", _DOTCOM),
        ("git@github.com:octo/widgets", _DOTCOM),
        ("git@github.com:/octo/widgets.git", _DOTCOM),
        ("org-123@github.com:octo/widgets.git", _DOTCOM),
        ("github.com:octo/widgets.git", _DOTCOM),
        ("git@ssh.github.com:octo/widgets.git", _DOTCOM),
        ("https://api.octo.ghe.com/octo/widgets", ("octo.ghe.com", "https://api.octo.ghe.com")),
        ("https://octo.ghe.com/octo/widgets", ("octo.ghe.com", "https://api.octo.ghe.com")),
        ("octo@octo.ghe.com:octo/widgets.git", ("octo.ghe.com", "https://api.octo.ghe.com")),
        ("https://ghe.corp/octo/widgets", _GHES),
        ("https://ghe.corp:443/octo/widgets", _GHES),
        ("https://ghe.corp:8443/octo/widgets", ("ghe.corp:8443", "https://ghe.corp:8443/api/v3")),
        ("ssh://git@ghe.corp:2222/octo/widgets", _GHES),
        ("git://ghe.corp:9418/octo/widgets", _GHES),
        ("git@ghe.corp:octo/widgets", _GHES),
        ("http://ghe.corp/octo/widgets", _GHES),
        ("http://ghe.corp:8080/octo/widgets", _GHES),
        ("https://git_hub.corp/octo/widgets", ("git_hub.corp", "https://git_hub.corp/api/v3")),
        ("http://127.0.0.1:4000/octo/widgets", ("127.0.0.1:4000", "http://127.0.0.1:4000/api/v3")),
        ("http://localhost/octo/widgets", ("localhost", "http://localhost/api/v3")),
        ("http://[::1]:4000/octo/widgets", ("[::1]:4000", "http://[::1]:4000/api/v3")),
        ("https://127.0.0.1:4000/octo/widgets", ("127.0.0.1:4000", "https://127.0.0.1:4000/api/v3")),
        # Looks like another host, and is read as what git would connect to.
        ("https://github.com@ghe.corp/octo/widgets", _GHES),
        ("https://github.com:pw@ghe.corp/octo/widgets", _GHES),
        ("https://github.com.evil.example/octo/widgets",
         ("github.com.evil.example", "https://github.com.evil.example/api/v3")),
        ("https://evilgithub.com/octo/widgets",
         ("evilgithub.com", "https://evilgithub.com/api/v3")),
    ],
)  # fmt: skip
def test_a_repositorys_url_is_read_whatever_its_form(url: str, expected: tuple[str, str]) -> None:
    """Host and API follow from the URL; user names, passwords and ssh ports do not count."""
    address = parse_address(url, environ={})
    assert (address.host, address.api_url) == expected
    assert address.full_name == "octo/widgets"
    assert "secret" not in repr(address)


@pytest.mark.parametrize(
    ("url", "full_name"),
    [
        ("https://github.com/o/r.js", "o/r.js"),
        ("https://github.com/o/r.git.git", "o/r.git"),
        ("https://github.com/o/.github", "o/.github"),
        ("https://github.com/O-1/R_2.x", "O-1/R_2.x"),
        ("git@github.com:o/-r", "o/-r"),
    ],
)
def test_names_keep_their_spelling_and_lose_one_suffix(url: str, full_name: str) -> None:
    """Only the ``.git`` that git adds is not part of the name."""
    assert parse_address(url, environ={}).full_name == full_name


@pytest.mark.parametrize(
    "url",
    [
        "",
        "   ",
        ".",
        "..",
        "/srv/git/octo/widgets.git",
        "../octo/widgets",
        "octo/widgets",
        "file:///srv/octo/widgets",
        "C:\\octo\\widgets",
        "C:/octo/widgets",
        "c:octo/widgets",
        "\\\\server\\octo\\widgets",
        "-oProxyCommand=touch/x:octo/widgets",
        "--upload-pack=x",
        "ext::sh -c true octo/widgets",
        "ext::github.com/octo/widgets",
        "fd::3/octo/widgets",
        "ftp://github.com/octo/widgets",
        "javascript://github.com/octo/widgets",
        "https://github.com/octo",
        "https://github.com/octo/",
        "https://github.com/",
        "https://github.com",
        "https://github.com//octo/widgets",
        "https://github.com/octo//widgets",
        "https://github.com/octo/widgets/tree/main",
        "https://github.com/octo/..",
        "https://github.com/../widgets",
        "https://github.com/octo/.",
        "https://github.com/octo/.git",
        "https://github.com/octo/widgets?x=1",
        "https://github.com/octo/widgets#readme",
        "https://github.com/octo/wid%67ets",
        "https://github.com/octo/wid gets",
        "https://github.com/octo/wid\tgets",
        "https://github.com/octo/widgets\x00",
        "https://git\nhub.com/octo/widgets",
        "https://github.com\\@evil.example/octo/widgets",
        "https://evil.example\\@github.com/octo/widgets",
        "https://a@evil.example@github.com/octo/widgets",
        "https://github.com:port/octo/widgets",
        "https://github.com:99999/octo/widgets",
        "https://[github.com]/octo/widgets",
        "https://[::1/octo/widgets",
        "https://g\u0131thub.com/octo/widgets",
        "https://github\u3002com/octo/widgets",
        "https://git%68ub.com/octo/widgets",
        "https:///octo/widgets",
        "https://-x/octo/widgets",
        "https://gist.github.com/octo/0123",
        "git@gist.github.com:octo/0123.git",
        "git@github.com:2222/octo/widgets",
        "git@a@github.com:octo/widgets",
        "git@[github.com:22]:octo/widgets",
        ":octo/widgets",
        "https://gitlab.com/octo/widgets",
        "git@bitbucket.org:octo/widgets.git",
    ],
)  # fmt: skip
def test_what_is_no_repository_on_a_github_is_refused_with_a_way_out(url: str) -> None:
    """Paths, other programs' schemes, ambiguous and hostile URLs go no further."""
    with pytest.raises(RepositoryError) as caught:
        parse_address(url, environ={})
    assert "full_name=" in str(caught.value.hint)
    assert "api_url=" in str(caught.value.hint)


@pytest.mark.parametrize(
    "url",
    [
        "https://octo:hunter2@github.com/octo",
        "https://hunter2@github.com:port/octo/widgets",
        "https://a:hunter2@b@github.com/octo/widgets",
        "octo:hunter2@github.com/octo",
        "hunter2@github.com:octo",
        "https://octo:hunter2@github.com/octo\x1b[31m",
    ],
)
def test_a_refusal_shows_neither_password_nor_control_characters(url: str) -> None:
    """The message may end up in a log or on a terminal."""
    with pytest.raises(RepositoryError) as caught:
        parse_address(url, environ={})
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.__cause__)
    assert str(caught.value).isprintable()


# --- overrides --------------------------------------------------------------------------


def test_both_overrides_make_the_remote_irrelevant() -> None:
    """The remote may then be a path; the token's host is the API's."""
    address = parse_address(
        "/srv/git/x", api_url="http://127.0.0.1:4000/", full_name="o/r", environ={}
    )
    assert address == GitHubAddress(
        host="127.0.0.1:4000",
        owner="o",
        name="r",
        api_url="http://127.0.0.1:4000",
        web_url="http://127.0.0.1:4000/o/r",
        api_is_given=True,
    )


def test_each_override_replaces_its_half() -> None:
    """The other half still comes from the URL."""
    named = parse_address("https://ghe.corp/a/b/c", full_name="o/r", environ={})
    assert (named.host, named.full_name) == ("ghe.corp", "o/r")
    moved = parse_address("git@alias:o/r", api_url="https://api.github.com", environ={})
    assert (moved.host, moved.full_name) == ("github.com", "o/r")
    other = parse_address("git@gitlab.com:o/r", api_url="https://ghe.corp/api/v3", environ={})
    assert other.host == "ghe.corp"


@pytest.mark.parametrize("url", ["ext::sh", "ext::https://github.com/o/r", "/srv/x", "-x:o/r"])
def test_one_override_does_not_make_up_for_a_remote_without_a_server(url: str) -> None:
    """A name alone does not say which host to ask."""
    with pytest.raises(RepositoryError):
        parse_address(url, full_name="o/r", environ={})


@pytest.mark.parametrize("full_name", ["", "o", "o/r/x", "/r", "o/", "o/..", "o r/x", "o/r?x"])
def test_a_full_name_that_is_none_is_refused(full_name: str) -> None:
    """It becomes part of a URL's path."""
    with pytest.raises(RepositoryError, match="full_name"):
        parse_address("https://github.com/o/r", full_name=full_name, environ={})


@pytest.mark.parametrize(
    "api_url",
    [
        "",
        "ghe.corp",
        "ftp://ghe.corp",
        "https://",
        "https://user:hunter2@ghe.corp/api/v3",
        "https://ghe.corp/api/v3?x=1",
        "https://ghe.corp/api/v3#x",
        "https://ghe.corp\\@evil/api",
        "https://ghe.corp/a b",
        "https://ghe.corp:x/",
        "https://[::1/",
        "http://ghe.corp/api/v3",
        "http://127.0.0.1.evil.example/",
    ],
)
def test_an_api_url_that_cannot_be_trusted_with_a_token_is_refused(api_url: str) -> None:
    """Plain HTTP is for this machine; user names and queries have no place there."""
    with pytest.raises(RepositoryError) as caught:
        parse_address("https://github.com/o/r", api_url=api_url, environ={})
    assert "hunter2" not in str(caught.value)


def test_an_address_never_pairs_one_hosts_token_with_anothers_api() -> None:
    """Not even one that is put together by hand."""
    with pytest.raises(RepositoryError, match=r"not that of github\.com"):
        GitHubAddress(
            host="github.com",
            owner="o",
            name="r",
            api_url="https://evil.example/api/v3",
            web_url="https://github.com/o/r",
        )


_ACTIONS = {"GITHUB_SERVER_URL": "https://ghe.corp", "GITHUB_API_URL": "https://ghe.corp/x/v3"}


@pytest.mark.parametrize(
    ("url", "environ", "api_url"),
    [
        ("https://ghe.corp/o/r", _ACTIONS, "https://ghe.corp/x/v3"),
        ("git@ghe.corp:o/r", _ACTIONS, "https://ghe.corp/x/v3"),
        ("https://github.com/o/r", _ACTIONS, "https://api.github.com"),
        ("https://other.corp/o/r", _ACTIONS, "https://other.corp/api/v3"),
        ("https://ghe.corp/o/r", {"GITHUB_API_URL": "https://x"}, "https://ghe.corp/api/v3"),
        ("https://ghe.corp/o/r", {**_ACTIONS, "GITHUB_API_URL": "https://evil.example/v3"},
         "https://ghe.corp/api/v3"),
        ("https://ghe.corp/o/r", {**_ACTIONS, "GITHUB_API_URL": "https://[x"},
         "https://ghe.corp/api/v3"),
        ("https://ghe.corp/o/r", {**_ACTIONS, "GITHUB_SERVER_URL": "https://[x"},
         "https://ghe.corp/api/v3"),
        ("https://github.com/o/r", {"GITHUB_SERVER_URL": "https://github.com",
                                    "GITHUB_API_URL": "https://api.github.com"},
         "https://api.github.com"),
    ],
)  # fmt: skip
def test_github_actions_names_the_api_of_its_own_server_only(
    url: str, environ: dict[str, str], api_url: str
) -> None:
    """The environment of a workflow says nothing about other hosts."""
    assert parse_address(url, environ=environ).api_url == api_url


def test_github_actions_name_of_the_repository_helps_where_the_path_ends_in_it() -> None:
    """A server below a path is readable only with that help, and it cannot rename."""
    environ = {**_ACTIONS, "GITHUB_REPOSITORY": "o/r"}
    assert parse_address("https://ghe.corp/git/O/R.git", environ=environ).full_name == "o/r"
    assert parse_address("https://ghe.corp/a/b", environ=environ).full_name == "a/b"
    for url in ("https://ghe.corp/git/a/b", "https://other.corp/git/o/r"):
        with pytest.raises(RepositoryError):
            parse_address(url, environ=environ)


# --- own pull request URLs --------------------------------------------------------------

_OWN = parse_address("https://github.com/Octo/Widgets", environ={})
_EMULATED = parse_address("x", api_url="http://127.0.0.1:4000", full_name="o/r", environ={})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://github.com/Octo/Widgets/pull/7", True),
        ("https://github.com/octo/widgets/pull/7", True),
        ("http://github.com/octo/widgets/pull/7", True),
        ("https://github.com:443/octo/widgets/pull/7", True),
        ("https://github.com/octo/widgets/pull/8", False),
        ("https://github.com/octo/widgets/pull/07", False),
        ("https://github.com/octo/widgets/pull/7/files", False),
        ("https://github.com/octo/widgets/issues/7", False),
        ("https://github.com/octo/other/pull/7", False),
        ("https://github.com/octo/widgets/pull/7?x", False),
        ("https://github.com/octo/widgets/pull/7#x", False),
        ("https://evil.example/octo/widgets/pull/7", False),
        ("https://github.com@evil.example/octo/widgets/pull/7", False),
        ("https://evil@github.com/octo/widgets/pull/7", False),
        ("https://github.com:8443/octo/widgets/pull/7", False),
        ("https://github.com:x/octo/widgets/pull/7", False),
        ("https://[github.com/octo/widgets/pull/7", False),
        ("https://github.com\\octo/widgets/pull/7", False),
        ("https://github.com/octo/widgets/pull/7\n", False),
        ("javascript://github.com/octo/widgets/pull/7", False),
        ("/octo/widgets/pull/7", False),
        ("", False),
    ],
)
def test_only_this_repositorys_pull_request_is_accepted_as_ours(
    url: str,
    expected: bool,  # noqa: FBT001 - a table's column
) -> None:
    """What is shown to people and stored as the result comes from our repository."""
    assert is_own_pull_url(_OWN, url, 7) is expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:4000/o/r/pull/1", True),
        ("http://127.0.0.1:4999/o/r/pull/1", True),
        ("http://localhost:4000/o/r/pull/1", True),
        ("https://github.com/o/r/pull/1", True),
        ("https://evil.example/o/r/pull/1", False),
        ("https://github.com/o/other/pull/1", False),
    ],
)
def test_an_api_the_caller_named_may_call_itself_differently(
    url: str,
    expected: bool,  # noqa: FBT001 - a table's column
) -> None:
    """Emulators print their own host, another port, or the host they play."""
    assert is_own_pull_url(_EMULATED, url, 1) is expected


# --- properties -------------------------------------------------------------------------

_NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}[A-Za-z0-9]", fullmatch=True).filter(
    lambda name: not name.endswith(".git")
)
_FORMS = st.sampled_from(
    [
        "https://github.com/{}/{}",
        "https://secret@github.com/{}/{}.git",
        "ssh://git@github.com:22/{}/{}.git",
        "git@github.com:{}/{}.git",
        "github.com:{}/{}",
        "git://github.com/{}/{}/",
    ]
)


@given(_FORMS, _NAMES, _NAMES)
def test_every_form_of_one_repositorys_url_is_the_same_address(
    form: str, owner: str, name: str
) -> None:
    """However a clone was made, the same pull request is opened."""
    address = parse_address(form.format(owner, name), environ={})
    assert address == parse_address(f"https://github.com/{owner}/{name}", environ={})
    assert (address.owner, address.name) == (owner, name)


@given(st.text(max_size=60) | st.from_regex(r"[a-z+]{1,8}://[^/]{0,20}/[^/]{0,9}/[^/]{0,9}"))
def test_any_text_is_an_address_that_can_be_asked_or_refused(text: str) -> None:
    """No text fails in another way, and what is accepted is fit for a request."""
    address, refusal = None, ""
    try:
        address = parse_address(text, environ={})
    except RepositoryError as error:
        refusal = str(error)
    assert refusal.isprintable()
    if address is None:
        return
    assert address.api_url.startswith(("https://", "http://"))
    assert address.host.isascii()
    assert address.host == address.host.lower()
    assert address.full_name.count("/") == 1
    assert parse_address(address.web_url, environ={}) == address


@given(st.text(max_size=40), st.integers(min_value=1, max_value=99))
def test_any_text_can_be_asked_about_as_a_pull_requests_url(text: str, number: int) -> None:
    """Answers are foreign text; judging one never fails."""
    assert not is_own_pull_url(_OWN, text, number) or "/pull/" in text.lower()
