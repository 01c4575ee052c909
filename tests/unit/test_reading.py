"""What a server says about a pull request: whole and ours, or refused, whatever it is."""

from __future__ import annotations

import copy
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrelay.workstream._github.address import parse_address
from agentrelay.workstream._github.reading import (
    NotOursError,
    is_commit_name,
    is_of_branch,
    read_pull,
)

_ADDRESS: Final = parse_address("https://github.com/octo/widgets", environ={})
_SHA: Final = "0123456789abcdef0123456789abcdef01234567"
_HEAD: Final = "agentrelay/nightly/parser/integration"


def _item(**changes: Any) -> dict[str, Any]:
    """Return a pull request that was merged, as a list shows it."""
    return {
        "number": 7,
        "html_url": "https://github.com/octo/widgets/pull/7",
        "state": "closed",
        "title": "Integrate workstream parser",
        "body": None,
        "merged_at": "2024-01-01T00:00:00Z",
        "merge_commit_sha": _SHA,
        "node_id": "PR_7",
        "draft": False,
        "labels": [{"name": "x"}],
        "requested_reviewers": [{"login": "ann"}],
        "requested_teams": [],
        "assignees": None,
        "milestone": {"number": 1, "title": "Spring"},
        "head": {"ref": _HEAD, "sha": _SHA, "label": "x", "repo": {"full_name": "octo/widgets"}},
        "base": {"ref": "main", "sha": _SHA},
        **changes,
    }


def test_a_whole_one_is_read() -> None:
    """The tests below fail because of what they change."""
    pull = read_pull(_item(), _ADDRESS)
    assert (pull.state, pull.head_sha, pull.merge_commit_sha) == ("merged", _SHA, _SHA)
    assert (pull.labels, pull.reviewers, pull.milestone) == (("x",), ("ann",), (1, "Spring"))
    assert is_of_branch(_item(), _ADDRESS, _HEAD, "main")


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "open"},
        {"merged_at": ""},
        {"merged_at": "yes"},
        {"merged_at": 1_700_000_000},
        {"merged_at": True},
        {"merged": "true"},
        {"merged": 2},
    ],
)
def test_what_contradicts_itself_about_the_merge_is_not_believed(changes: dict[str, Any]) -> None:
    """Neither merged nor not merged: it cannot be told."""
    with pytest.raises(NotOursError, match="merged"):
        read_pull(_item(**changes), _ADDRESS)


def test_what_says_nothing_about_the_merge_is_not_taken_for_not_merged() -> None:
    """Both forms of an answer have the time of the merge, or that there is none."""
    silent = _item()
    del silent["merged_at"]
    with pytest.raises(NotOursError, match="whether it was merged"):
        read_pull(silent, _ADDRESS)
    assert read_pull({**silent, "merged": False}, _ADDRESS).state == "closed"
    assert read_pull({**silent, "merged": True}, _ADDRESS).state == "merged"


@pytest.mark.parametrize("name", ["", "main", "HEAD", _SHA[:12], _SHA.upper(), "../../user", "é"])
def test_a_commit_is_known_by_its_full_name_only(name: str) -> None:
    """A short one would be looked up, and a branch's moves."""
    assert not is_commit_name(name)
    for changes in ({"merge_commit_sha": name}, {"head": {**_item()["head"], "sha": name}}):
        with pytest.raises(NotOursError, match="name of a commit"):
            read_pull(_item(**changes), _ADDRESS)


@pytest.mark.parametrize("base", ["", "a b", "a\nb", "a\x1b[31m", "\ud800"])
def test_a_base_that_is_no_name_of_a_branch_is_not_shown(base: str) -> None:
    """It would be in a sentence, on a terminal, in a signal file."""
    with pytest.raises(NotOursError, match="no name of a branch"):
        read_pull(_item(base={"ref": base}), _ADDRESS)


_ANYTHING: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["open", "closed", _SHA, _HEAD, "main", "\ud800", "a\nb\x1b[31m", "x" * 999]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["ref", "sha", "repo", "name", "title"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
_PLACES: Final = [
    *((key,) for key in _item()),
    *(("head", key) for key in ("ref", "sha", "label", "repo")),
    ("head", "repo", "full_name"),
    ("base", "ref"),
    ("base", "sha"),
    ("labels", 0),
    ("milestone", "number"),
]


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(_PLACES), _ANYTHING, st.sampled_from(["open", "closed"]))
def test_anything_in_any_place_is_read_or_refused(place: Any, value: Any, state: str) -> None:
    """Nothing else comes out, and what is read can be written down and compared."""
    item: Any = copy.deepcopy(_item(state=state, merged_at=None))
    inner = item
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert is_of_branch(item, _ADDRESS, _HEAD, "main") in {True, False}
    try:
        pull = read_pull(item, _ADDRESS)
    except NotOursError:
        return
    assert isinstance(hash(pull), int)
    assert pull.state in {"open", "closed", "merged"}
    assert is_commit_name(pull.head_sha)
    for text in (pull.url, pull.base_branch):
        assert not [character for character in text if ord(character) < 32]
        text.encode("utf-8")


@settings(deadline=None, max_examples=50)
@given(_ANYTHING)
def test_anything_instead_of_a_pull_request_is_refused(value: Any) -> None:
    """In a list, or alone."""
    assert not is_of_branch(value, _ADDRESS, _HEAD, None)
    with pytest.raises(NotOursError):
        read_pull(value, _ADDRESS)
