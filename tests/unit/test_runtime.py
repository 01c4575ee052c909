"""The runtime: state in memory, status on disk, and the same answer in every process."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.workstream.core import _signals
from agentrelay.workstream.core.runtime import (
    TaskSummary,
    WorkstreamArtifacts,
    WorkstreamRuntime,
    WorkstreamState,
    WorkstreamStatus,
    record_concern,
)
from agentrelay.workstream.core.workstream import WorkstreamSpec
from agentrelay.workstream.errors import WorkstreamError
from tests._examples import refusal, tries

_URL = "https://github.example/owner/name/pull/7"
_ORDER = ("pending", "active", "merge_ready", "pr_created", "merged")
_TOKEN = "ghp_0123456789abcdefghij"

# What a signal's name may stand for on disk, and whether it then counts as set: for an
# empty signal, for "pr_created" and for "failed".
_KINDS: dict[str, tuple[bool, bool, bool]] = {
    "empty": (True, False, True),
    "line end": (True, False, True),
    "text": (False, False, True),
    "address": (False, True, True),
    "two lines": (False, False, True),
    "directory": (False, False, False),
    "pipe": (False, False, False),
    "link": (False, False, False),
    "binary": (False, False, False),
    "huge": (False, False, False),
}


def _runtime(signal_dir: Path | None = None) -> WorkstreamRuntime:
    return WorkstreamRuntime(WorkstreamSpec("parser"), WorkstreamState(signal_dir=signal_dir))


def _place(path: Path, kind: str) -> None:
    """Put something under a signal's name, as another program might."""
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        real = path.with_name(f".real-{path.name}")
        real.touch()
        path.symlink_to(real)
    else:
        path.write_bytes(
            {
                "empty": b"",
                "line end": b"\n",
                "text": b"yes",
                "address": f"{_URL}\n".encode(),
                "two lines": b"https://github.example/\nowner",
                "binary": b"\xff\xfe\x00",
                "huge": b" " * ((1 << 20) + 1),
            }[kind]
        )


def _mark(runtime: WorkstreamRuntime, name: str) -> None:
    """Call the ``mark_*`` method of a status."""
    if name == "pr_created":
        runtime.mark_pr_created(_URL)
    elif name == "failed":
        runtime.mark_failed("it broke")
    else:
        getattr(runtime, f"mark_{name}")()


# --- values -----------------------------------------------------------------------------


def test_status_values_are_the_documented_words() -> None:
    """A status is a string too, so it can be stored and compared as one."""
    assert [status.value for status in WorkstreamStatus] == [*_ORDER, "failed"]
    assert [status.name for status in WorkstreamStatus] == [*map(str.upper, _ORDER), "FAILED"]
    assert WorkstreamStatus("merged") is WorkstreamStatus.MERGED
    assert json.dumps(WorkstreamStatus.MERGED) == '"merged"'


def test_a_new_runtime_knows_nothing_and_shares_nothing() -> None:
    """Every field starts empty, and no two runtimes share a list."""
    one, other = _runtime(), _runtime()
    assert vars(one.state) == dict.fromkeys(vars(one.state))
    assert one.artifacts == WorkstreamArtifacts(None, [], [])
    one.artifacts.concerns.append("mine")
    one.artifacts.task_summaries.append(TaskSummary("t"))
    one.state.error = "mine"
    assert other == _runtime()


def test_specs_and_summaries_cannot_be_changed() -> None:
    """What the orchestrator wrote stays as it wrote it."""
    with pytest.raises(AttributeError):
        cast("Any", WorkstreamSpec("a")).id = "b"
    with pytest.raises(AttributeError):
        cast("Any", TaskSummary("a")).task_id = "b"


def test_specs_are_not_checked_when_they_are_made() -> None:
    """Names are refused by the preparer, before it changes anything; a spec is data."""
    assert WorkstreamSpec("../x").id == "../x"


# --- status -----------------------------------------------------------------------------


def test_a_lane_without_signals_is_pending_until_an_error_is_recorded(tmp_path: Path) -> None:
    """Without a directory the error in memory decides; with one, only the files do."""
    assert _runtime().status is WorkstreamStatus.PENDING
    for signal_dir, expected in (
        (None, WorkstreamStatus.FAILED),
        (tmp_path / "not-there", WorkstreamStatus.FAILED),
        (tmp_path, WorkstreamStatus.PENDING),
    ):
        runtime = _runtime(signal_dir)
        runtime.state.error = "no such branch"
        assert runtime.status is expected


@given(marks=st.lists(st.sampled_from([*_ORDER, "failed"]), max_size=6))
@tries(40)
def test_the_furthest_mark_counts_in_whatever_order_they_came(
    tmp_path_factory: pytest.TempPathFactory, marks: list[str]
) -> None:
    """``failed`` beats everything, otherwise the furthest; nothing ever moves back."""
    runtime = _runtime(tmp_path_factory.mktemp("signals"))
    for name in marks:
        _mark(runtime, name)
    furthest = max(marks, key=[*_ORDER, "failed"].index, default="pending")
    assert runtime.status.value == furthest


@tries(150)
@given(
    present=st.dictionaries(
        st.sampled_from([*_ORDER, "failed", "merged.tmp", "unknown"]), st.sampled_from([*_KINDS])
    )
)
def test_status_follows_from_any_set_of_files_without_an_error_or_a_wait(
    tmp_path_factory: pytest.TempPathFactory, present: dict[str, str]
) -> None:
    """Torn and foreign files count for nothing; the rest is derived as documented."""
    directory = tmp_path_factory.mktemp("signals")
    for name, kind in present.items():
        _place(directory / name, kind)
    counting = [
        name
        for name in _ORDER
        if name in present and _KINDS[present[name]][1 if name == "pr_created" else 0]
    ]
    expected = counting[-1] if counting else "pending"
    if "failed" in present and _KINDS[present["failed"]][2]:
        expected = "failed"
    assert _runtime(directory).status.value == expected


def test_status_is_read_again_each_time(tmp_path: Path) -> None:
    """Two runtimes on one directory agree at once, as two processes would."""
    one, other = _runtime(tmp_path), _runtime(tmp_path)
    one.mark_active()
    assert other.status is WorkstreamStatus.ACTIVE
    other.mark_failed("x")
    assert one.status is WorkstreamStatus.FAILED


# --- marks ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", _ORDER)
def test_a_fresh_runtime_may_be_marked_anything(tmp_path: Path, name: str) -> None:
    """Marks are plain writes without an opinion about order."""
    directory = tmp_path / "signals"
    runtime = _runtime(directory)
    _mark(runtime, name)
    assert runtime.status.value == name
    assert [entry.name for entry in directory.iterdir()] == [name]
    assert (directory / name).read_text() == (_URL if name == "pr_created" else "")


@pytest.mark.parametrize("name", _ORDER)
def test_a_lane_that_was_never_prepared_cannot_be_marked(name: str) -> None:
    """The error names the lane and the mark, and says to prepare; nothing is recorded."""
    runtime = _runtime()
    with pytest.raises(WorkstreamError, match=rf"'parser' {name}") as caught:
        _mark(runtime, name)
    assert "Prepare" in str(caught.value.hint)
    assert runtime == _runtime()


def test_a_failure_before_provisioning_is_kept_in_memory() -> None:
    """``mark_failed`` works without a directory, and writes nothing then."""
    runtime = _runtime()
    runtime.mark_failed("no such branch")
    assert runtime.state.error == "no such branch"
    assert runtime.status is WorkstreamStatus.FAILED
    assert runtime.state.signal_dir is None


def test_a_failure_is_written_with_its_text(tmp_path: Path) -> None:
    """The ``failed`` signal holds the error, for whoever looks at the directory."""
    runtime = _runtime(tmp_path)
    runtime.mark_failed("RemoteError: gone\nsecond line")
    assert (tmp_path / "failed").read_text() == "RemoteError: gone\nsecond line"
    assert runtime.state.error == "RemoteError: gone\nsecond line"


@pytest.mark.parametrize("error", ["", " ", "\ud800", "x" * 3_000_000], ids=len)
def test_any_error_text_fails_the_lane(tmp_path: Path, error: str) -> None:
    """Empty, unprintable or megabytes long: the lane is FAILED, in every process."""
    runtime = _runtime(tmp_path)
    runtime.mark_active()
    runtime.mark_failed(error)
    assert runtime.status is WorkstreamStatus.FAILED
    assert _runtime(tmp_path).status is WorkstreamStatus.FAILED


def test_an_error_that_cannot_be_written_is_still_recorded_in_memory(tmp_path: Path) -> None:
    """The disk's refusal is raised, and does not hide the error."""
    (tmp_path / "failed").mkdir()
    runtime = _runtime(tmp_path)
    with pytest.raises(OSError, match="failed"):
        runtime.mark_failed("it broke")
    assert runtime.state.error == "it broke"


def test_secrets_reach_neither_memory_nor_disk(tmp_path: Path) -> None:
    """Errors, concerns and URLs are masked on their way in."""
    runtime = _runtime(tmp_path)
    runtime.mark_failed(f"cannot push to https://robin:{_TOKEN}@host/x with {_TOKEN}")
    runtime.mark_pr_created(f"https://robin:{_TOKEN}@github.example/owner/name/pull/7")
    record_concern(runtime, f"token {_TOKEN} was refused")
    everything = repr(runtime) + "".join(entry.read_text() for entry in tmp_path.iterdir())
    assert _TOKEN not in everything
    assert "robin" not in everything
    assert runtime.artifacts.merge_pr_url == _URL


def test_a_pull_request_is_remembered_with_its_url(tmp_path: Path) -> None:
    """File and artifact hold the same trimmed URL; the latest one counts."""
    runtime = _runtime(tmp_path)
    runtime.mark_pr_created("https://github.example/owner/name/pull/6")
    runtime.mark_pr_created(f" {_URL}\n")
    assert runtime.artifacts.merge_pr_url == _URL
    assert (tmp_path / "pr_created").read_text() == _URL
    assert runtime.status is WorkstreamStatus.PR_CREATED


@pytest.mark.parametrize("url", ["", "  ", "\n", "https://a.example/1\nhttps://a.example/2"])
def test_what_is_no_url_marks_no_pull_request(tmp_path: Path, url: str) -> None:
    """A mark that could not be read back is refused, and nothing is recorded."""
    runtime = _runtime(tmp_path)
    with pytest.raises(WorkstreamError, match="URL"):
        runtime.mark_pr_created(url)
    assert list(tmp_path.iterdir()) == []
    assert runtime.artifacts.merge_pr_url is None


# --- leaving a failure behind -----------------------------------------------------------


def test_a_cleared_failure_moves_into_the_history(tmp_path: Path) -> None:
    """The status behind it shows again, and the old error can still be read."""
    runtime = _runtime(tmp_path)
    runtime.mark_active()
    runtime.mark_failed("first")
    runtime.clear_failure()
    assert runtime.status is WorkstreamStatus.ACTIVE
    assert runtime.state.error is None
    runtime.mark_failed("second")
    runtime.clear_failure()
    lines = (tmp_path / _signals.HISTORY_NAME).read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["first", "second"]


def test_clearing_is_harmless_where_nothing_failed(tmp_path: Path) -> None:
    """It can be called after every success, with a directory or without."""
    runtime = _runtime(tmp_path)
    runtime.clear_failure()
    assert list(tmp_path.iterdir()) == []
    nowhere = _runtime()
    nowhere.mark_failed("x")
    nowhere.clear_failure()
    assert nowhere.status is WorkstreamStatus.PENDING


# --- concerns ---------------------------------------------------------------------------


def test_a_concern_is_listed_once_where_it_was_first_observed() -> None:
    """A repeated step does not repeat itself, and the order stays that of the events."""
    runtime = _runtime()
    for text in ("a", "b", "a"):
        record_concern(runtime, text)
    assert runtime.artifacts.concerns == ["a", "b"]


# --- loading ----------------------------------------------------------------------------


def _record(directory: Path, **fields: object) -> Path:
    _signals.write_record(directory, {"workstream_id": "parser", **fields})
    return directory


def test_a_lane_is_loaded_as_it_was_left(tmp_path: Path) -> None:
    """Spec, state, error and pull request come back in any process."""
    directory = _record(
        tmp_path,
        parent_workstream_id="root",
        base_branch="develop",
        merge_target_branch="release/2",
        worktree_path="/srv/lane",
        branch_name="agentrelay/g/parser/integration",
        base_commit="ab" * 20,
    )
    before = _runtime(directory)
    before.mark_active()
    before.mark_pr_created(_URL)
    before.mark_failed("it broke")
    loaded = WorkstreamRuntime.load(directory)
    assert loaded == WorkstreamRuntime(
        WorkstreamSpec("parser", "root", "develop", "release/2"),
        WorkstreamState(
            signal_dir=directory,
            worktree_path=Path("/srv/lane"),
            branch_name="agentrelay/g/parser/integration",
            error="it broke",
            base_commit="ab" * 20,
        ),
        WorkstreamArtifacts(merge_pr_url=_URL),
    )
    assert loaded.status is WorkstreamStatus.FAILED


def test_a_sparse_or_damaged_record_loads_with_the_defaults(tmp_path: Path) -> None:
    """Fields of the wrong type count as missing; the id falls back to the directory."""
    directory = tmp_path / "parser"
    _signals.write_record(
        directory, {"workstream_id": 7, "base_branch": None, "worktree_path": [], "branch_name": ""}
    )
    loaded = WorkstreamRuntime.load(directory)
    assert loaded.spec == WorkstreamSpec("parser")
    assert loaded.state == WorkstreamState(signal_dir=directory)
    assert loaded.status is WorkstreamStatus.PENDING


def test_a_directory_without_a_record_cannot_be_loaded(tmp_path: Path) -> None:
    """Signals alone do not say which lane it is."""
    _runtime(tmp_path).mark_active()
    with pytest.raises(WorkstreamError, match="no readable lane record") as caught:
        WorkstreamRuntime.load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.hint


# Anything JSON can say, where a record has a text.
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = (
    "workstream_id",
    "parent_workstream_id",
    "base_branch",
    "merge_target_branch",
    "worktree_path",
    "branch_name",
    "base_commit",
    "claim",
    "unknown",
)


def _expected(record: dict[str, Any], field: str, default: str | None = None) -> str | None:
    value = record.get(field)
    return value if isinstance(value, str) and value else default


@tries(60)
@given(
    record=st.dictionaries(st.sampled_from(_FIELDS), _JSON),
    marks=st.lists(st.sampled_from([*_ORDER, "failed"]), max_size=3),
)
def test_no_record_makes_loading_fail_and_each_good_field_is_restored(
    tmp_path_factory: pytest.TempPathFactory, record: dict[str, Any], marks: list[str]
) -> None:
    """Whatever an editor wrote into the record, the lane can be looked at."""
    directory = tmp_path_factory.mktemp("lane")
    _signals.write_record(directory, record)
    before = _runtime(directory)
    for name in marks:
        _mark(before, name)
    loaded = WorkstreamRuntime.load(directory)
    assert loaded.status is before.status
    assert loaded.spec == WorkstreamSpec(
        id=_expected(record, "workstream_id") or directory.name,
        parent_workstream_id=_expected(record, "parent_workstream_id"),
        base_branch=_expected(record, "base_branch") or "main",
        merge_target_branch=_expected(record, "merge_target_branch") or "main",
    )
    worktree = _expected(record, "worktree_path")
    assert loaded.state == WorkstreamState(
        signal_dir=directory,
        worktree_path=None if worktree is None else Path(worktree),
        branch_name=_expected(record, "branch_name"),
        error="it broke" if "failed" in marks else None,
        base_commit=_expected(record, "base_commit"),
    )
    assert loaded.artifacts.merge_pr_url == (_URL if "pr_created" in marks else None)


_DOCUMENT = b'{"workstream_id": "parser", "base_commit": "abcd", "n": [1, {"x": 1.5e3}]}\n'


@tries(100)
@given(
    content=st.binary()
    | st.integers(0, len(_DOCUMENT) - 2).map(lambda end: _DOCUMENT[:end])
    | _JSON.filter(lambda value: not isinstance(value, dict)).map(json.dumps).map(str.encode)
    | st.sampled_from(
        [
            b"[" * 200_000,
            b'{"a":' * 100_000,
            b'{"workstream_id": 1' + b"0" * 5_000 + b"}",
            b"{}" + b" " * (1 << 20),
            b"\xef\xbb\xbf{}",
        ]
    )
)
def test_what_is_no_whole_record_is_an_error_of_ours_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Torn, foreign, nested beyond reason or huge: the caller learns that there is no record."""
    directory = tmp_path_factory.mktemp("lane")
    (directory / _signals.RECORD_NAME).write_bytes(content)
    with pytest.raises(WorkstreamError, match="no readable lane record"):
        WorkstreamRuntime.load(directory)


# --- the pull request's address ---------------------------------------------------------

_ADDRESSES = st.one_of(
    st.text(),
    st.from_regex(
        r"(https?|HTTPS|ftp|file|javascript|ssh)?(://|:)?([a-z]{0,4}(:[a-z]{0,4})?@)?"
        r"[a-z.]{0,8}(:[0-9a-z]{0,6})?(/[a-z0-9 %?#=&]{0,12}){0,3}\n?",
        fullmatch=True,
    ),
    st.sampled_from(
        [
            "yes",
            "true",
            "merged",
            "7",
            "github.example/owner/name/pull/7",
            "git@github.example:owner/name",
            "ssh://git@github.example/owner/name",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "https:",
            "https://",
            "https:///pull/7",
            "https://[/pull/7",
            "https://host:port/pull/7",
            "https://host:99999/pull/7",
            "https://robin@github.example/owner/name/pull/7",
            f"https://robin:{_TOKEN}@github.example/owner/name/pull/7",
            f"https://github.example/owner/name/pull/7?access_token={_TOKEN}",
            "https://github.example/\x1b[31m",
            "https://github.example/\u202e7/llup",
            "https://github.example/" + "x" * 3_000,
        ]
    ),
)


def _is_page(url: str) -> bool:
    """Return whether a text is one http(s) address, judged by a regular expression."""
    return bool(
        re.fullmatch(
            r"(?i:https?)://([^\s/?#@:\[\]\\]+|\[[0-9a-f:.]+\])(:[0-9]{0,5})?([/?#][^\s]*)?", url
        )
    )


@tries(150)
@given(text=_ADDRESSES)
def test_a_foreign_pr_created_file_is_no_status_unless_it_is_a_pages_address(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    """One word is not enough: a torn or foreign file must not end the work on a lane."""
    directory = tmp_path_factory.mktemp("signals")
    (directory / "pr_created").write_bytes(text.encode("utf-8", "surrogatepass"))
    _signals.write_record(directory, {"workstream_id": "parser"})
    loaded = WorkstreamRuntime.load(directory)
    url = loaded.artifacts.merge_pr_url
    assert (loaded.status is WorkstreamStatus.PR_CREATED) == (url is not None)
    if url is not None:
        assert url == text.strip()
        assert _is_page(url)
        assert "@" not in url.split("/")[2]
        assert _TOKEN not in url
        assert url.isprintable()


@tries(150)
@given(text=_ADDRESSES)
def test_what_marks_a_pull_request_can_be_read_back_and_nothing_else_marks_one(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    """Both sides have one rule, so no status is written that no reader would see."""
    runtime = _runtime(tmp_path_factory.mktemp("signals"))
    error = refusal(lambda: runtime.mark_pr_created(text))
    if error is not None:
        assert error.hint
        assert runtime.status is WorkstreamStatus.PENDING
        assert runtime.artifacts.merge_pr_url is None
        return
    assert runtime.status is WorkstreamStatus.PR_CREATED
    assert runtime.artifacts.merge_pr_url is not None
    assert _is_page(runtime.artifacts.merge_pr_url)
    _signals.write_record(runtime.state.signal_dir or Path(), {"workstream_id": "parser"})
    loaded = WorkstreamRuntime.load(runtime.state.signal_dir or Path())
    assert loaded.artifacts.merge_pr_url == runtime.artifacts.merge_pr_url


@pytest.mark.parametrize("url", ["yes", "github.example/pull/7", "ssh://github.example/x", "7"])
def test_one_word_that_is_no_address_marks_no_pull_request(tmp_path: Path, url: str) -> None:
    """The error says what is wanted; the file that says the same is no status either."""
    runtime = _runtime(tmp_path)
    with pytest.raises(WorkstreamError, match=r"http\(s\) URL"):
        runtime.mark_pr_created(url)
    (tmp_path / "pr_created").write_text(url)
    assert runtime.status is WorkstreamStatus.PENDING


def test_an_address_with_user_info_in_the_file_is_not_ours(tmp_path: Path) -> None:
    """It was never written like that, and nothing takes a password from a signal file."""
    (tmp_path / "pr_created").write_text(f"https://robin:{_TOKEN}@github.example/pull/7")
    assert _runtime(tmp_path).status is WorkstreamStatus.PENDING
