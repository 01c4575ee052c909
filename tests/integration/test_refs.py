"""Refs: one winner, a safe end, and nobody else's ref lost on the way."""

from __future__ import annotations

import functools
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pygit2
import pytest
from pytest_mock import MockerFixture

from agentrelay.workstream._git import locks
from agentrelay.workstream._git.ref_deletion import delete_refs
from agentrelay.workstream._git.refs import create_ref, delete_ref, refs_below, set_tracking_ref
from agentrelay.workstream._git.remotes import RemoteAccess, open_remote
from agentrelay.workstream._git.repository import OpenRepository, open_repository, read_refs
from agentrelay.workstream.errors import LaneBusyError, LaneConflictError, RepositoryError
from agentrelay.workstream.testing.repositories import (
    clone_repository,
    commit_files,
    create_bare_repository,
    refs,
)

_LANE = "refs/heads/agentrelay/nightly/parser/integration"
_MAIN = "refs/heads/main"


@pytest.fixture
def bare(tmp_path: Path) -> OpenRepository:
    """A bare repository with one branch of two commits."""
    return open_repository(create_bare_repository(tmp_path / "bare.git"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every wait for a lock file end after a moment."""
    hurried = functools.partial(locks.Backoff, deadline_s=0.05, longest_s=0.01)
    monkeypatch.setattr(locks, "Backoff", hurried)


def _tip(repository: OpenRepository, ref: str = _MAIN) -> str:
    commit_id = repository.resolve(ref)
    assert commit_id is not None
    return commit_id


def _parent(repository: OpenRepository) -> str:
    return str(repository.handle[_tip(repository)].peel(pygit2.Commit).parent_ids[0])


def _create(repository: OpenRepository, *names: str) -> None:
    for name in names:
        assert create_ref(repository, name, _tip(repository), message="branch: test")


def _pack(repository: OpenRepository) -> None:
    """Move every loose ref into ``packed-refs``, as ``git gc`` does now and then."""
    pygit2.Refdb.open(pygit2.Repository(str(repository.path))).compress()


def _together(count: int, work: Callable[[int], None]) -> list[BaseException]:
    """Run ``work`` in several threads that start at once; return what they raised."""
    start = threading.Barrier(count)
    raised: list[BaseException] = []

    def run(number: int) -> None:
        try:
            start.wait(timeout=30.0)
            work(number)
        except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@contextmanager
def _full_disk(limit_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- creating ---------------------------------------------------------------------------


def test_a_ref_is_created_once(bare: OpenRepository) -> None:
    """The first call makes it; a second one says so and leaves it where it is."""
    assert create_ref(bare, _LANE, _tip(bare), message="branch: lane") is True
    assert create_ref(bare, _LANE, _parent(bare), message="branch: lane") is False
    assert bare.resolve(_LANE) == _tip(bare)


def test_a_packed_ref_counts_as_existing(bare: OpenRepository) -> None:
    """Where a ref is stored makes no difference."""
    _create(bare, _LANE)
    _pack(bare)
    assert create_ref(bare, _LANE, _parent(bare), message="branch: lane") is False
    assert bare.resolve(_LANE) == _tip(bare)


def test_of_many_creators_exactly_one_wins(bare: OpenRepository) -> None:
    """The ref itself is the claim: eight threads, one ``True``."""
    answers: list[bool] = []

    def create(_: int) -> None:
        own = open_repository(bare.path)
        answers.append(create_ref(own, _LANE, _tip(own), message="branch: lane"))

    assert _together(8, create) == []
    assert sorted(answers) == [False] * 7 + [True]


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
@pytest.mark.parametrize("obstacle", ["refs/heads/agentrelay", "refs/heads/agentrelay/nightly"])
def test_a_branch_where_a_directory_is_needed_is_a_conflict(
    bare: OpenRepository, obstacle: str, *, packed: bool
) -> None:
    """The error names the branch in the way, which stays."""
    _create(bare, obstacle)
    if packed:
        _pack(bare)
    before = refs(bare.path)
    with pytest.raises(LaneConflictError) as caught:
        create_ref(bare, _LANE, _tip(bare), message="branch: lane")
    assert caught.value.obstacle == obstacle
    assert caught.value.hint
    assert refs(bare.path) == before


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_branches_below_the_wanted_one_are_a_conflict(
    bare: OpenRepository, *, packed: bool
) -> None:
    """The other direction of the same rule, with the same kind of error."""
    _create(bare, f"{_LANE}/deeper")
    if packed:
        _pack(bare)
    with pytest.raises(LaneConflictError) as caught:
        create_ref(bare, _LANE, _tip(bare), message="branch: lane")
    assert _LANE in str(caught.value)
    assert sorted(refs(bare.path)) == sorted([_MAIN, f"{_LANE}/deeper"])


def test_a_created_branch_has_a_reflog_with_our_words(tmp_path: Path) -> None:
    """``git reflog`` tells where the branch came from."""
    checkout = clone_repository(create_bare_repository(tmp_path / "b.git"), tmp_path / "clone")
    repository = open_repository(checkout)
    create_ref(repository, _LANE, _tip(repository), message="branch: lane of nightly")
    log = repository.common_dir / "logs" / _LANE
    assert log.read_text().endswith("\tbranch: lane of nightly\n")


def test_an_unknown_commit_creates_nothing(bare: OpenRepository) -> None:
    """A ref never points at something the repository lacks."""
    with pytest.raises(RepositoryError, match="write the ref"):
        create_ref(bare, _LANE, "0" * 39 + "1", message="branch: lane")
    assert sorted(refs(bare.path)) == [_MAIN]


# --- deleting ---------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["loose", "packed", "both"])
def test_a_ref_is_deleted_wherever_it_is_stored(bare: OpenRepository, state: str) -> None:
    """Loose, packed, or packed and moved since: it is gone, and the others are not."""
    _create(bare, _LANE, "refs/heads/other")
    expected = _tip(bare)
    if state != "loose":
        _pack(bare)
    if state == "both":
        expected = commit_files(bare.path, {"x": "y"}, message="Work", branch=_LANE[11:])
    assert delete_ref(bare, _LANE, expected=expected) is True
    assert sorted(refs(bare.path)) == [_MAIN, "refs/heads/other"]
    assert delete_ref(bare, _LANE, expected=expected) is False


def test_deleting_what_never_was_says_so_and_makes_nothing(bare: OpenRepository) -> None:
    """No directory, no lock file and no packed-refs file is left behind."""

    def files() -> list[Path]:
        found = bare.common_dir.rglob("*")
        return sorted(path for path in found if bare.own_dir not in (path, *path.parents))

    before = files()
    assert delete_ref(bare, _LANE, expected=_tip(bare)) is False
    assert files() == before
    assert [path for path in bare.own_dir.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_a_ref_that_moved_is_kept(bare: OpenRepository, *, packed: bool) -> None:
    """Commits the caller has not seen are not thrown away; the error shows both ids."""
    _create(bare, _LANE)
    seen = _tip(bare)
    moved = commit_files(bare.path, {"x": "y"}, message="Late work", branch=_LANE[11:])
    if packed:
        _pack(bare)
    before = refs(bare.path)
    with pytest.raises(LaneConflictError) as caught:
        delete_ref(bare, _LANE, expected=seen)
    assert seen[:12] in str(caught.value)
    assert moved[:12] in str(caught.value)
    assert caught.value.obstacle == _LANE
    assert refs(bare.path) == before
    assert not list(bare.common_dir.rglob("*.lock"))


@pytest.mark.parametrize("stale", [False, True], ids=["alone", "over a packed ref"])
def test_a_symbolic_ref_in_its_place_is_kept(bare: OpenRepository, *, stale: bool) -> None:
    """It is not the ref the caller examined, so it is a conflict and not "gone"."""
    if stale:
        _create(bare, _LANE)
        _pack(bare)
    bare.handle.references.create(_LANE, _MAIN, force=True)
    with pytest.raises(LaneConflictError):
        delete_ref(bare, _LANE, expected=_tip(bare))
    assert refs(bare.path)[_LANE] == f"ref: {_MAIN}"


def test_the_rest_of_packed_refs_stays_byte_for_byte(bare: OpenRepository) -> None:
    """Header, order, and the peeled lines of annotated tags survive; only one line goes."""
    handle, tip = bare.handle, _tip(bare)
    signature = pygit2.Signature("Robin", "robin@example.invalid", 1_704_067_200, 0)
    for name in ("v1", "v2"):
        handle.create_tag(name, handle[tip].id, pygit2.enums.ObjectType.COMMIT, signature, "tag")
    # A neighbour on both sides whose name begins or ends like the deleted one.
    _create(bare, f"{_LANE}2", _LANE, f"refs/remotes/origin/{_LANE}", "refs/heads/agentrelay2/x")
    _pack(bare)
    packed = bare.common_dir / "packed-refs"
    before = packed.read_bytes()
    assert before.count(b"^") == 2
    assert delete_ref(bare, _LANE, expected=tip) is True
    line = f"{tip} {_LANE}\n".encode()
    assert packed.read_bytes() == before.replace(line, b"", 1)
    assert len(packed.read_bytes()) == len(before) - len(line)


def test_a_packed_tag_goes_with_its_peeled_line(bare: OpenRepository) -> None:
    """A peeled line belongs to the line above it, and must not attach to another."""
    handle, tip = bare.handle, _tip(bare)
    signature = pygit2.Signature("Robin", "robin@example.invalid", 1_704_067_200, 0)
    ids = [
        str(handle.create_tag(name, handle[tip].id, pygit2.enums.ObjectType.COMMIT, signature, "t"))
        for name in ("v1", "v2", "v3")
    ]
    _pack(bare)
    assert delete_ref(bare, "refs/tags/v2", expected=ids[1]) is True
    assert refs(bare.path) == {
        _MAIN: tip,
        "refs/tags/v1": ids[0],
        "refs/tags/v3": ids[2],
    }
    text = (bare.common_dir / "packed-refs").read_text()
    assert text.count(f"^{tip}\n") == 2
    assert f"{ids[0]} refs/tags/v1\n^{tip}\n{ids[2]} refs/tags/v3\n^{tip}\n" in text


def test_reflog_and_empty_directories_go_with_the_ref(tmp_path: Path) -> None:
    """Nothing of the lane stays, and ``refs/heads`` always does."""
    checkout = clone_repository(create_bare_repository(tmp_path / "b.git"), tmp_path / "clone")
    repository = open_repository(checkout)
    _create(repository, _LANE)
    assert (repository.common_dir / "logs" / _LANE).exists()
    assert delete_ref(repository, _LANE, expected=_tip(repository))
    assert not (repository.common_dir / "refs/heads/agentrelay").exists()
    assert not (repository.common_dir / "logs/refs/heads/agentrelay").exists()
    assert delete_ref(repository, _MAIN, expected=_tip(repository))
    assert (repository.common_dir / "refs/heads").is_dir()


def test_directories_that_others_use_stay(bare: OpenRepository) -> None:
    """A sibling lane keeps its ref and its directory."""
    sibling = _LANE.replace("parser", "lexer")
    _create(bare, _LANE, sibling)
    assert delete_ref(bare, _LANE, expected=_tip(bare))
    assert sorted(refs(bare.path)) == [sibling, _MAIN]
    assert not (bare.common_dir / _LANE).parent.exists()


def test_a_ref_is_deleted_from_a_linked_worktree_too(tmp_path: Path) -> None:
    """Branches belong to the repository, from wherever it is opened."""
    checkout = clone_repository(create_bare_repository(tmp_path / "b.git"), tmp_path / "clone")
    pygit2.Repository(str(checkout)).add_worktree("side", str(tmp_path / "side"))
    side = open_repository(tmp_path / "side")
    _create(side, _LANE)
    assert delete_ref(side, _LANE, expected=_tip(side)) is True
    assert _LANE not in refs(checkout)


# --- things in the way of a deletion ----------------------------------------------------


@pytest.mark.parametrize("where", ["refs", "logs"])
def test_an_empty_directory_in_a_packed_refs_place_does_no_harm(
    bare: OpenRepository, where: str
) -> None:
    """Git leaves empty directories behind at times; the packed ref is deleted all the same."""
    _create(bare, _LANE)
    _pack(bare)
    place = bare.common_dir / (_LANE if where == "refs" else f"logs/{_LANE}")
    place.mkdir(parents=True, exist_ok=True)
    assert delete_ref(bare, _LANE, expected=_tip(bare)) is True
    assert sorted(refs(bare.path)) == [_MAIN]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_a_branch_where_the_refs_directory_was_means_it_is_gone(
    bare: OpenRepository, *, packed: bool
) -> None:
    """Somebody deleted the lane's branch and made one above it: nothing is left to do."""
    above = "refs/heads/agentrelay/nightly"
    _create(bare, above)
    if packed:
        _pack(bare)
    assert delete_ref(bare, _LANE, expected=_tip(bare)) is False
    assert sorted(refs(bare.path)) == [above, _MAIN]


def test_a_branch_below_the_refs_name_means_it_is_gone(bare: OpenRepository) -> None:
    """The other direction: the branches below stay."""
    _create(bare, f"{_LANE}/deeper")
    assert delete_ref(bare, _LANE, expected=_tip(bare)) is False
    assert sorted(refs(bare.path)) == [f"{_LANE}/deeper", _MAIN]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lock", [f"{_LANE}.lock", "packed-refs.lock"])
def test_a_lock_file_that_stays_is_busy_in_bounded_time(bare: OpenRepository, lock: str) -> None:
    """It is somebody else's: it is named, it stays, and so does the ref."""
    _create(bare, _LANE)
    _pack(bare)
    path = bare.common_dir / lock
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("theirs")
    with pytest.raises(LaneBusyError) as caught:
        delete_ref(bare, _LANE, expected=_tip(bare))
    assert str(path) in str(caught.value)
    assert caught.value.waited_s < 5.0
    assert path.read_text() == "theirs"
    assert bare.resolve(_LANE) == _tip(bare)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "write", [functools.partial(create_ref, message="branch: lane"), set_tracking_ref]
)
def test_a_ref_that_stays_locked_is_busy_for_writers_too(
    bare: OpenRepository, write: Callable[[OpenRepository, str, str], object]
) -> None:
    """libgit2 gives up at once; we wait a little, then say who is in the way."""
    path = bare.common_dir / f"{_LANE}.lock"
    path.parent.mkdir(parents=True)
    path.write_text("theirs")
    tip = _tip(bare)
    with pytest.raises(LaneBusyError) as caught:
        write(bare, _LANE, tip)
    assert caught.value.hint
    assert bare.resolve(_LANE) is None


def test_a_lock_file_that_goes_away_is_waited_for(bare: OpenRepository) -> None:
    """Another git's short lock delays a deletion and does not fail it."""
    _create(bare, _LANE)
    lock = bare.common_dir / "packed-refs.lock"
    lock.touch()
    deleted: list[bool] = []
    waiter = threading.Thread(
        target=lambda: deleted.append(delete_ref(bare, _LANE, expected=_tip(bare)))
    )
    waiter.start()
    waiter.join(timeout=0.02)
    assert deleted == []
    lock.unlink()
    waiter.join(timeout=30.0)
    assert deleted == [True]


def test_a_directory_that_is_pruned_while_it_is_made_is_made_again(
    bare: OpenRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any git may remove an empty directory between two of our steps."""
    _create(bare, _LANE)
    _pack(bare)
    make = Path.mkdir
    pruned: list[Path] = []

    def make_after_a_prune(
        path: Path, mode: int = 0o777, *, parents: bool = False, exist_ok: bool = False
    ) -> None:
        if path == (bare.common_dir / _LANE).parent and not pruned:
            pruned.append(path)
            raise FileNotFoundError(2, "No such file or directory", str(path))
        make(path, mode, parents=parents, exist_ok=exist_ok)

    monkeypatch.setattr(Path, "mkdir", make_after_a_prune)
    assert delete_ref(bare, _LANE, expected=_tip(bare)) is True
    assert pruned


def test_a_full_disk_keeps_every_ref_and_leaves_nothing_behind(bare: OpenRepository) -> None:
    """``packed-refs`` is whole, and no file is left that would stop the next git."""
    names = [f"refs/heads/agentrelay/nightly/lane-{number:02}/integration" for number in range(40)]
    _create(bare, *names)
    _pack(bare)
    before = refs(bare.path)
    with _full_disk(1000), pytest.raises(RepositoryError, match="delete the ref"):
        delete_ref(bare, names[0], expected=_tip(bare))
    assert refs(bare.path) == before
    files = {entry.name for entry in bare.common_dir.iterdir()}
    assert not files & {"packed-refs.lock", "packed-refs.new"}
    assert not list(bare.common_dir.rglob("*.lock"))
    assert delete_ref(bare, names[0], expected=_tip(bare)) is True


# --- at the same time -------------------------------------------------------------------


def test_threads_that_delete_at_once_lose_nothing(bare: OpenRepository) -> None:
    """Every deleted ref is gone for good, every other ref is there, every call succeeds."""
    lanes = [f"refs/heads/agentrelay/nightly/lane-{number:02}/integration" for number in range(48)]
    others = [f"refs/heads/feature/{number:02}" for number in range(20)]
    _create(bare, *lanes[:24], *others[:10])
    _pack(bare)
    _create(bare, *lanes[24:], *others[10:])
    tip = _tip(bare)
    answers: list[bool] = []

    def delete(number: int) -> None:
        own = open_repository(bare.path)
        answers.extend(delete_ref(own, name, expected=tip) for name in lanes[number::8])

    assert _together(8, delete) == []
    assert answers == [True] * len(lanes)
    assert sorted(refs(bare.path)) == sorted([_MAIN, *others])
    assert not list(bare.common_dir.rglob("*.lock"))


def test_of_many_deleters_of_one_ref_exactly_one_wins(bare: OpenRepository) -> None:
    """The others learn that it is gone."""
    _create(bare, _LANE)
    _pack(bare)
    tip = _tip(bare)
    answers: list[bool] = []

    def delete(_: int) -> None:
        answers.append(delete_ref(open_repository(bare.path), _LANE, expected=tip))

    assert _together(6, delete) == []
    assert sorted(answers) == [False] * 5 + [True]


def test_creating_beside_deleting_loses_no_new_ref(bare: OpenRepository) -> None:
    """Directories vanish under a creator's feet, and its ref is there in the end."""
    gone = [f"refs/heads/agentrelay/nightly/old-{number}/integration" for number in range(24)]
    new = [name.replace("old", "new") for name in gone]
    _create(bare, *gone)
    _pack(bare)
    tip = _tip(bare)

    def work(number: int) -> None:
        own = open_repository(bare.path)
        for name in (gone if number % 2 else new)[number // 2 :: 2]:
            if number % 2:
                assert delete_ref(own, name, expected=tip)
            else:
                assert create_ref(own, name, tip, message="branch: lane")

    assert _together(4, work) == []
    assert sorted(refs(bare.path)) == sorted([_MAIN, *new])


# --- tracking refs and listings ---------------------------------------------------------


def test_a_tracking_ref_follows_the_remote(bare: OpenRepository) -> None:
    """It is made, moved in any direction and removed, as the remote did."""
    ref = f"refs/remotes/origin/{_LANE[11:]}"
    for commit_id in (_tip(bare), _parent(bare), _tip(bare), None, None):
        set_tracking_ref(bare, ref, commit_id)
        assert bare.resolve(ref) == commit_id
    assert sorted(refs(bare.path)) == [_MAIN]


def test_refs_below_a_prefix_are_listed_in_order(bare: OpenRepository) -> None:
    """Loose and packed refs alike, full names, and only those below."""
    _create(bare, "refs/agentrelay/rescue/g/a/2", "refs/agentrelay/rescue/g/ab/1")
    _pack(bare)
    _create(bare, "refs/agentrelay/rescue/g/a/1")
    assert refs_below(bare, "refs/agentrelay/rescue/g/a/") == [
        "refs/agentrelay/rescue/g/a/1",
        "refs/agentrelay/rescue/g/a/2",
    ]
    assert refs_below(bare, "refs/nothing/") == []


def test_a_new_ref_can_be_read_by_whom_the_umask_lets_in(bare: OpenRepository) -> None:
    """A shared repository stays shared: the file is like any that a program makes."""
    plain = bare.path / "plain"
    plain.touch()
    assert create_ref(bare, _LANE, _tip(bare), message="made")
    assert (bare.common_dir / _LANE).stat().st_mode == plain.stat().st_mode


def test_a_ref_that_is_locked_while_it_is_made_by_another_is_not_made_twice(
    bare: OpenRepository,
) -> None:
    """Whether it exists is asked under the lock: the answer before it may be out of date."""
    path = bare.common_dir / _LANE
    path.parent.mkdir(parents=True)
    results: list[bool] = []

    def create() -> None:
        results.append(create_ref(open_repository(bare.path), _LANE, _tip(bare), message="late"))

    # As another program does it: locked, written, renamed into place.
    lock = path.with_name(path.name + ".lock")
    lock.write_text(f"{_tip(bare)}\n")
    thread = threading.Thread(target=create)
    thread.start()
    lock.replace(path)
    thread.join(timeout=30.0)
    assert results == [False]
    assert not bare.common_dir.joinpath("logs", _LANE).exists()


# --- many at once -----------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_many_refs_are_deleted_each_with_its_own_result(
    bare: OpenRepository, *, packed: bool
) -> None:
    """More than one group of them; one moved, one is gone, one is locked, the others go."""
    names = [f"refs/heads/many/{number:03}" for number in range(150)]
    _create(bare, *names, "refs/heads/many-not")
    if packed:
        _pack(bare)
    moved, gone, locked = names[10], names[70], names[149]
    bare.handle.references.create(moved, _parent(bare), force=True)
    delete_ref(bare, gone, expected=_tip(bare))
    lock = bare.common_dir / f"{locked}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("somebody's")
    results = delete_refs(bare, dict.fromkeys(names, _tip(bare)))
    assert set(results) == set(names)
    assert isinstance(results.pop(moved), LaneConflictError)
    assert isinstance(results.pop(locked), LaneBusyError)
    assert results.pop(gone) is False
    assert set(results.values()) == {True}
    assert refs(bare.path) == {
        _MAIN: _tip(bare),
        moved: _parent(bare),
        locked: _tip(bare),
        "refs/heads/many-not": _tip(bare),
    }
    assert lock.read_text() == "somebody's"
    assert not list((bare.own_dir / "held").iterdir())


def test_a_ref_that_is_packed_just_before_it_is_deleted_goes_and_no_other_does(
    bare: OpenRepository, mocker: MockerFixture
) -> None:
    """A garbage collection comes between the look at the packed refs and the locks."""
    _create(bare, _LANE, "refs/heads/other")
    link, packed = os.link, list[str]()

    def packing(source: str, target: str) -> None:
        if target.endswith("/integration.lock") and not packed:
            packed.append(target)
            _pack(bare)
        link(source, target)

    mocker.patch("os.link", packing)
    assert delete_ref(bare, _LANE, expected=_tip(bare)) is True
    assert packed
    assert sorted(refs(bare.path)) == [_MAIN, "refs/heads/other"]
    assert _LANE not in (bare.common_dir / "packed-refs").read_text()


def test_packed_refs_of_any_length_are_read_to_their_end(bare: OpenRepository) -> None:
    """There may be thousands."""
    tip = _tip(bare)
    lines = [f"{tip} refs/heads/branch-{number:05}\n" for number in range(3000)]
    (bare.common_dir / "packed-refs").write_text("# pack-refs with: sorted\n" + "".join(lines))
    for number in (0, 1500, 2999):
        assert bare.resolve(f"refs/heads/branch-{number:05}") == tip
    assert bare.resolve("refs/heads/branch-03000") is None


def test_a_packed_ref_is_found_by_its_whole_name(bare: OpenRepository) -> None:
    """Names that begin or end alike, and the line of a peeled tag, are others'."""
    _create(bare, "refs/heads/a", "refs/heads/ab", "refs/heads/x/refs/heads/a")
    tag = bare.handle.create_tag(
        "v1", bare.handle[_tip(bare)].id, pygit2.enums.ObjectType.COMMIT,
        pygit2.Signature("A", "a@example.invalid"), "v1",
    )  # fmt: skip
    _pack(bare)
    wanted = ["refs/heads/a", "refs/heads/b", "refs/heads/ab", "refs/tags/v1", "refs/tags/v"]
    assert read_refs(bare.common_dir, wanted) == {
        "refs/heads/a": _tip(bare),
        "refs/heads/ab": _tip(bare),
        "refs/tags/v1": str(tag),
    }


def test_a_symbolic_branch_of_a_path_remote_is_followed(tmp_path: Path) -> None:
    """Only libgit2 follows it; a branch beside it is read as it is."""
    bare = create_bare_repository(tmp_path / "bare.git")
    handle = pygit2.Repository(str(bare))
    handle.references.create("refs/heads/alias", "refs/heads/main")
    end = open_remote(open_repository(clone_repository(bare, tmp_path / "clone")), RemoteAccess())
    tip = refs(bare)[_MAIN]
    assert end.fetch(["alias", "main", "none"]) == {"alias": tip, "main": tip, "none": None}
    newer = commit_files(bare, {"new": "1"}, message="new", branch="main")
    assert end.fetch(["main"]) == {"main": newer}
    assert refs(tmp_path / "clone")["refs/remotes/origin/main"] == newer
