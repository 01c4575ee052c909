"""Names and paths of a lane: valid everywhere, readable, and never shared by two lanes."""

from __future__ import annotations

import ntpath
import os
import pickle
import re
import sys
from pathlib import Path, PureWindowsPath
from typing import Any, cast

import pygit2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.workstream._lane import (
    Lane,
    check_branch_name,
    check_name,
    same_on_some_file_system,
    split_admin_name,
    split_branch,
    split_rescue_ref,
)
from agentrelay.workstream.errors import LaneConflictError, LaneNameError
from tests._examples import refusal, tries

_ROOT = Path("/srv/project")

# What is likely to pass, and what is likely to hurt; both kinds are checked below.
_TAME = st.text("abcXYZ019._-", min_size=1, max_size=20)
_WILD = st.text() | st.text("aA1._-/\\@{}~^:?*[ \x00\x7f\u00e9\u0301\u2028", max_size=12)
_SPECIAL = st.sampled_from(
    ["HEAD", "con", "Con.txt", "nul", "COM1.a", "x.lock", "x.LOCK", "a..b", ".git", "git~1", "@"]
)
_ANY_NAME = _TAME | _WILD | _SPECIAL


def _accepts(name: str) -> bool:
    try:
        return check_name(name, kind="workstream id") == name
    except LaneNameError:
        return False


_NAME = _TAME.filter(_accepts)


def _is_component_for_git(name: str) -> bool:
    """Return whether git-check-ref-format(1) allows a component, rule by rule."""
    return (
        name != ""
        and not name.startswith(".")  # 1: no component begins with a dot
        and not name.endswith((".lock", "."))  # 1 and 7
        and ".." not in name  # 3
        and not re.search(r"[\x00-\x20\x7f~^:?*\[\\/]", name)  # 4, 5, 6 and 10
        and "@{" not in name  # 8
        and name != "@"  # 9
    )


def _is_directory_on_windows(name: str) -> bool:
    """Return whether Windows takes a name as it is, and not for a device."""
    if sys.version_info >= (3, 13):
        reserved = ntpath.isreserved(name)
    else:
        reserved = PureWindowsPath(name).is_reserved()
    return (
        not reserved
        and PureWindowsPath(name).parts == (name,)
        and not name.endswith((" ", "."))
        and not re.search(r'[<>:"|?*\x00-\x1f]', name)
    )


# --- names ------------------------------------------------------------------------------


@given(name=_ANY_NAME)
def test_every_accepted_name_is_a_ref_component_and_a_flat_directory(name: str) -> None:
    """What passes is fine for git, for libgit2, for POSIX and for Windows."""
    if not _accepts(name):
        return
    assert _is_component_for_git(name)
    assert pygit2.reference_is_valid_name(f"refs/heads/{name}")
    assert os.path.normpath(name) == name == os.path.basename(name)  # noqa: PTH119 - names, not paths
    assert len(os.fsencode(name)) <= 100
    assert _is_directory_on_windows(name)
    assert name.isascii()
    assert name.isprintable()


@given(name=_ANY_NAME)
def test_every_refusal_names_a_rule_and_shows_the_name_harmlessly(name: str) -> None:
    """A refusal says what is wrong on one printable line, whatever the name holds."""
    if _accepts(name):
        return
    with pytest.raises(LaneNameError) as caught:
        check_name(name, kind="graph name")
    assert caught.value.rule
    assert caught.value.rule in str(caught.value)
    assert str(caught.value).startswith("graph name ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    assert caught.value.hint


@pytest.mark.parametrize(
    "name", ["a", "_", "0", "parser", "parser-2", "Parse_r.v1", "x" * 100, "a.b", "integration"]
)
def test_ordinary_names_are_returned_as_they_are(name: str) -> None:
    """Letters, digits, dashes, underscores and single dots make a name."""
    assert check_name(name, kind="workstream id") == name


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "empty"),
        ("x" * 101, "at most 100 characters, and has 101"),
        ("a\x00b", "control characters"),
        ("a\nb", "control characters"),
        ("a\x7f", "control characters"),
        ("a/b", "path prefix"),
        ("/etc", "path prefix"),
        ("../up", "path"),
        ("a\\b", "path"),
        ("C:\\x", "path"),
        ("..", "'..'"),
        ("a..b", "'..'"),
        ("a@{1}", "'@{'"),
        ("-x", "start with '-'"),
        (".git", "start with '.'"),
        (".", "start with '.'"),
        ("a.", "end with '.'"),
        ("a.lock", "'.lock'"),
        ("A.LOCK", "'.lock'"),
        ("HEAD", "reserved"),
        ("head", "reserved"),
        ("con", "reserved"),
        ("NUL.txt", "reserved"),
        ("Lpt9", "reserved"),
        ("git~1", "reserved"),
        ("caf\u00e9", "ASCII"),
        ("cafe\u0301", "ASCII"),
        ("\uff41", "ASCII"),
        ("a b", "only"),
        ("a~1", "only"),
        ("a:b", "only"),
        ("a?", "only"),
        ('a"]', "only"),
        ("$(id)", "only"),
    ],
)
def test_each_dangerous_name_is_refused_by_its_own_rule(name: str, rule: str) -> None:
    """The rule says what is wrong with this name, not that something is."""
    with pytest.raises(LaneNameError) as caught:
        check_name(name, kind="workstream id")
    assert rule in caught.value.rule
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", [None, 5, b"parser", Path("parser"), ["a"]])
def test_a_name_that_is_no_text_is_refused_like_any_other(name: Any) -> None:
    """A graph built from data of the wrong type gets the same error, not an accident."""
    with pytest.raises(LaneNameError) as caught:
        Lane.of(_ROOT, "nightly", name)
    assert "text" in caught.value.rule


class _Hostile:
    """A thing that will not be spoken of, as half-made data classes and mocks are."""

    def __repr__(self) -> str:
        """Fail."""
        raise RuntimeError("no words")

    __str__ = __repr__
    __hash__ = None  # type: ignore[assignment]  # hostile on purpose


_ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(),
    st.text(),
    st.just(f"name of {_Hostile.__name__}" * 1000),
    st.builds(_Hostile),
    st.lists(st.text(), max_size=3),
    st.just(list(range(100_000))),
    st.just(1 << 100_000),
)


@tries(100)
@given(graph=_ANYTHING, name=_ANYTHING)
def test_no_object_at_all_makes_a_lane_or_a_crash(graph: Any, name: Any) -> None:
    """A graph built from anything gets a lane or the one error, in one short line."""
    error = refusal(lambda: Lane.of(_ROOT, graph, name))
    if error is None:
        assert pygit2.reference_is_valid_name(Lane.of(_ROOT, graph, name).branch_ref)
        return
    assert isinstance(error, LaneNameError)
    assert error.rule
    assert len(str(error)) < 400
    assert isinstance(error.name, str)
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)  # noqa: S301 - made here


@tries(100)
@given(name=_ANYTHING)
def test_no_object_at_all_is_a_branch_by_accident(name: Any) -> None:
    """A base branch of the wrong type is refused like a wrong name."""
    error = refusal(lambda: check_branch_name(name, kind="base branch"))
    if error is None:
        assert pygit2.reference_is_valid_name(f"refs/heads/{name}")
        return
    assert isinstance(error, LaneNameError)
    assert error.rule in str(error)
    assert len(str(error)) < 400


def test_graph_and_id_are_both_checked() -> None:
    """Either one can lead outside, so either one is refused."""
    with pytest.raises(LaneNameError, match="graph name"):
        Lane.of(_ROOT, "..", "parser")
    with pytest.raises(LaneNameError, match="workstream id"):
        Lane.of(_ROOT, "nightly", "..")


# --- twins ------------------------------------------------------------------------------


@given(name=_NAME)
def test_names_that_differ_by_case_are_found_in_both_directions(name: str) -> None:
    """A case twin is one, seen from either side; a name is not its own twin."""
    twin = name.swapcase()
    assert same_on_some_file_system(name, twin) == (name != twin)
    assert same_on_some_file_system(twin, name) == (name != twin)
    assert not same_on_some_file_system(name, name)


@given(one=_NAME, other=_NAME)
def test_names_are_twins_only_where_case_makes_the_difference(one: str, other: str) -> None:
    """Two names that stay apart in lower case are two names everywhere."""
    assert same_on_some_file_system(one, other) == (one != other and one.lower() == other.lower())


# --- a lane -----------------------------------------------------------------------------


def test_a_lane_spells_branch_and_paths_as_documented() -> None:
    """The names other tools rely on are exactly these."""
    lane = Lane.of(_ROOT, "nightly", "parser")
    assert lane.branch == "agentrelay/nightly/parser/integration"
    assert lane.branch_ref == "refs/heads/agentrelay/nightly/parser/integration"
    assert lane.worktrees_dir == _ROOT / ".worktrees" / "nightly"
    assert lane.worktree_path == _ROOT / ".worktrees" / "nightly" / "parser"
    assert lane.signal_dir == _ROOT / ".workflow" / "nightly" / "workstreams" / "parser"
    assert lane.rescue_prefix == "refs/agentrelay/rescue/nightly/parser/"
    assert str(lane) == "nightly/parser"
    assert re.fullmatch(r"nightly-parser-[0-9a-f]{8}", lane.admin_name)


def test_admin_names_stay_the_same_from_version_to_version() -> None:
    """A lane made yesterday is found today, so this value may be relied upon."""
    assert Lane.of(_ROOT, "nightly", "parser").admin_name == "nightly-parser-3d0edc29"


def test_a_run_directory_moves_the_signals_and_nothing_else() -> None:
    """``run_dir`` decides where the signals are; branch and worktree stay."""
    plain = Lane.of(_ROOT, "nightly", "parser")
    moved = Lane.of(_ROOT, "nightly", "parser", run_dir=Path("/srv/runs/7"))
    assert moved.signal_dir == Path("/srv/runs/7/workstreams/parser")
    assert (moved.branch, moved.worktree_path, moved.admin_name) == (
        plain.branch,
        plain.worktree_path,
        plain.admin_name,
    )


def test_relative_paths_are_made_absolute_and_links_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paths a user gave are the paths a user reads, from any directory."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    lane = Lane.of(Path("link"), "g", "w", run_dir=Path("runs"))
    assert lane.repo_path == tmp_path / "link"
    assert lane.signal_dir == tmp_path / "runs" / "workstreams" / "w"


def test_making_a_lane_touches_nothing(tmp_path: Path) -> None:
    """Names are pure: the repository need not exist."""
    Lane.of(tmp_path / "nowhere", "g", "w", run_dir=tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


@given(first=st.tuples(_NAME, _NAME), second=st.tuples(_NAME, _NAME))
def test_two_lanes_share_no_name(first: tuple[str, str], second: tuple[str, str]) -> None:
    """Different lanes differ in branch, path and entry, and no branch blocks another."""
    one, other = Lane.of(_ROOT, *first), Lane.of(_ROOT, *second)
    assert (first == second) == (one == other)
    if first == second:
        return
    assert one.branch_ref != other.branch_ref
    assert not other.branch_ref.startswith(one.branch_ref + "/")
    assert one.worktree_path not in (other.worktree_path, *other.worktree_path.parents)
    assert one.signal_dir not in (other.signal_dir, *other.signal_dir.parents)
    assert one.admin_name.casefold() != other.admin_name.casefold()
    assert not other.rescue_prefix.startswith(one.rescue_prefix)


@given(parts=st.lists(_NAME, min_size=3, max_size=5), data=st.data())
def test_admin_names_tell_lanes_apart_that_read_the_same(
    parts: list[str], data: st.DataObject
) -> None:
    """``a-b`` of graph ``c`` and ``b`` of graph ``c-a`` have two entries, flat and short."""
    cuts = [
        ("-".join(parts[:at]), "-".join(parts[at:]))
        for at in range(1, len(parts))
        if _accepts("-".join(parts[:at])) and _accepts("-".join(parts[at:]))
    ]
    names = {Lane.of(_ROOT, graph, name).admin_name for graph, name in cuts}
    assert len(names) == len(cuts)
    if cuts:
        name = Lane.of(_ROOT, *data.draw(st.sampled_from(cuts))).admin_name
        assert _is_component_for_git(name)
        assert _is_directory_on_windows(name)


def test_the_longest_names_still_make_one_directory_name() -> None:
    """File systems allow 255 bytes a component."""
    assert len(Lane.of(_ROOT, "g" * 100, "w" * 100).admin_name) <= 255


# --- from a branch ----------------------------------------------------------------------


@given(graph=_NAME, name=_NAME)
def test_a_lane_is_found_again_from_its_branch(graph: str, name: str) -> None:
    """What the state records leads back to the same lane."""
    lane = Lane.of(_ROOT, graph, name, run_dir=Path("/runs"))
    assert Lane.from_branch(_ROOT, lane.branch, name, run_dir=Path("/runs")) == lane


@pytest.mark.parametrize(
    "branch",
    [
        "main",
        "develop",
        "",
        "agentrelay/nightly/other/integration",
        "agentrelay/nightly/parser",
        "agentrelay/nightly/parser/integration/x",
        "agentrelay/nightly/parser/main",
        "other/nightly/parser/integration",
        "refs/heads/agentrelay/nightly/parser/integration",
        "agentrelay/nightly/Parser/integration",
    ],
)
def test_a_branch_that_is_not_this_lanes_is_refused(branch: str) -> None:
    """A wrong state never leads a clean-up to the user's branches."""
    with pytest.raises(LaneConflictError) as caught:
        Lane.from_branch(_ROOT, branch, "parser")
    assert caught.value.obstacle == branch
    assert "parser" in str(caught.value.hint)


@tries(100)
@given(
    branch=st.text() | st.lists(_ANY_NAME, max_size=6).map("/".join),
    name=_ANY_NAME,
    wrapped=st.booleans(),
)
def test_no_branch_leads_to_a_lane_that_is_not_its_own(
    branch: str, name: str, *, wrapped: bool
) -> None:
    """A state that anyone may have edited names its own lane or is refused, typed."""
    if wrapped:
        branch = f"agentrelay/{branch}/{name}/integration"
    error = refusal(lambda: Lane.from_branch(_ROOT, branch, name))
    if error is not None:
        assert isinstance(error, (LaneConflictError, LaneNameError))
        assert error.hint
        return
    lane = Lane.from_branch(_ROOT, branch, name)
    assert lane.branch == branch
    assert lane.workstream_id == name
    assert lane.worktree_path.parent.parent == _ROOT / ".worktrees"


@tries(100)
@given(names=st.tuples(_NAME, _NAME))
def test_everything_a_lane_is_called_is_a_ref_or_a_flat_name_for_git(
    names: tuple[str, str],
) -> None:
    """Branch, rescue refs and entry of every lane that can be made are taken by libgit2."""
    lane = Lane.of(_ROOT, *names)
    assert pygit2.reference_is_valid_name(lane.branch_ref)
    assert pygit2.reference_is_valid_name(f"{lane.rescue_prefix}20260101T000000.000000Z/commits")
    assert pygit2.reference_is_valid_name(f"refs/worktree/{lane.admin_name}")
    assert os.path.basename(lane.admin_name) == lane.admin_name  # noqa: PTH119 - a name, no path


@pytest.mark.parametrize("graph", ["..", ".git", "", "a.lock"])
def test_a_branch_of_an_impossible_graph_is_refused(graph: str) -> None:
    """A planted branch name cannot lead out of the worktrees' directory."""
    with pytest.raises(LaneNameError):
        Lane.from_branch(_ROOT, f"agentrelay/{graph}/parser/integration", "parser")


# --- base and target branches -----------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["main", "release/2", "feature/a.b-c_d", "f\u00fcnf", "a@b", "x" * 200, "user/HEAD"]
)
def test_usual_branch_names_are_returned_as_they_are(name: str) -> None:
    """Base and target may be any branch git can have, within reason."""
    assert check_branch_name(name, kind="base branch") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        None,
        7,
        "x" * 201,
        "-x",
        "/x",
        "x/",
        "x.",
        "a//b",
        "a..b",
        "a@{b",
        "@",
        "a b",
        "a\tb",
        "a\x7fb",
        "a~b",
        "a^b",
        "a:b",
        "a?b",
        "a*b",
        "a[b",
        "a\\b",
        ".a",
        "a/.b",
        "a.lock",
        "a.lock/b",
        "HEAD",
        "FETCH_HEAD",
        "refs/heads/main",
        "\ud800",
    ],
)
def test_a_branch_name_git_refuses_is_refused_before_git_sees_it(name: object) -> None:
    """The error names the kind and the rule, and prints on one line."""
    with pytest.raises(LaneNameError) as caught:
        check_branch_name(name, kind="merge target branch")
    assert str(caught.value).startswith("merge target branch ")
    assert caught.value.rule in str(caught.value)
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()


@given(name=_ANY_NAME | st.lists(_ANY_NAME, max_size=4).map("/".join))
def test_every_accepted_branch_name_is_a_branch_for_git(name: str) -> None:
    """What passes, libgit2 takes as ``refs/heads/<name>``, and no command takes for an option."""
    try:
        accepted = check_branch_name(name, kind="base branch")
    except LaneNameError:
        return
    assert accepted == name
    assert pygit2.reference_is_valid_name(f"refs/heads/{name}")
    assert all(_is_component_for_git(part) or part == "@" for part in name.split("/"))
    assert not name.startswith("-")


def test_lanes_are_values() -> None:
    """Equal lanes are equal, hashable and cannot be changed by accident."""
    lane = Lane.of(_ROOT, "g", "w")
    assert len({lane, Lane.of(_ROOT, "g", "w")}) == 1
    with pytest.raises(AttributeError):
        cast("Any", lane).graph = "other"


@given(graph=_ANY_NAME, workstream_id=_ANY_NAME)
def test_every_name_of_a_lane_leads_back_to_it(graph: str, workstream_id: str) -> None:
    """Branch, entry and rescue refs say whose they are, also where a name holds a dash."""
    try:
        lane = Lane.of(_ROOT, graph, workstream_id)
    except LaneNameError:
        assert split_branch(f"agentrelay/{graph}/{workstream_id}/integration") is None
        if "/" not in graph + workstream_id:
            # With one it reads as a ref below another lane's.
            assert split_rescue_ref(f"refs/agentrelay/rescue/{graph}/{workstream_id}/t/c") is None
        return
    names = (graph, workstream_id)
    assert split_branch(lane.branch) == names
    assert split_admin_name(lane.admin_name) == names
    assert split_rescue_ref(f"{lane.rescue_prefix}20260101T000000.000000Z/commits") == names
    assert split_admin_name(lane.admin_name + "0") is None
    assert split_rescue_ref(lane.rescue_prefix.rstrip("/")) is None


@given(name=_ANY_NAME | st.lists(_ANY_NAME, max_size=6).map("/".join) | st.text("-", max_size=300))
def test_what_is_no_lanes_name_leads_nowhere(name: str) -> None:
    """Anything may be found under such a name; only what a lane can have is taken for one."""
    for found in (split_branch(name), split_admin_name(name), split_rescue_ref(name)):
        if found is not None:
            lane = Lane.of(_ROOT, *found)
            assert name in {lane.branch, lane.admin_name} or name.startswith(lane.rescue_prefix)
