"""The doctor on machine, repository and disk: everything is broken for real, nothing mended."""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import os
import resource
import shutil
import struct
import sys
import time
from dataclasses import FrozenInstanceError
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pygit2
import pytest
from pygit2.enums import ConfigLevel

from agentrelay.workstream import (
    FindingLevel,
    LaneNameError,
    RepositoryError,
    WorkstreamRuntime,
    WorkstreamSpec,
    diagnose,
)
from agentrelay.workstream._lane import RESCUE_PREFIX
from agentrelay.workstream.testing import refs
from tests.integration._doctor import ask, levels, picture, problems, skipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

    from agentrelay.workstream.testing import World

_LONG_AGO = 1_600_000_000
# What stands on a repository that opens.
_OF_THE_REPOSITORY = {
    "history",
    "index",
    "sparse-checkout",
    "file-system",
    "places",
    "disk-space",
    "inodes",
    "locks",
    "leftovers",
    "remote",
    "ssh-key",
    "ssh-host",
    "ignored-settings",
    "remote-read",
    "remote-push",
    "base-branch",
    "merge-target",
}


def _config(repo: Path) -> Any:
    return pygit2.Repository(str(repo)).config


def _age(*paths: Path) -> None:
    """Make files look as if nobody had touched them for years."""
    for path in paths:
        os.utime(path, (_LONG_AGO, _LONG_AGO), follow_symlinks=False)


def _litter(repo: Path) -> dict[str, Path]:
    """Leave what killed runs leave, each thing by what it is."""
    own = repo / ".git" / "agentrelay"
    left = {
        "an entry that was never finished": own / "new-abc",
        "a removed entry that is not unlinked yet": own / "trash" / "gone-1",
        "a removed worktree that is not unlinked yet": repo / ".worktrees" / ".trash" / "gone-2",
        "a worktree that is half made": repo / ".git" / "worktrees" / "half",
    }
    for path in left.values():
        path.mkdir(parents=True)
    (repo / ".git" / "worktrees" / "half" / "locked").write_text("initializing")
    dead = left["a lock whose holder is gone"] = own / "held" / "dead"
    dead.parent.mkdir(exist_ok=True)
    dead.touch()
    log = left["the log of a rescue ref that is not there"] = _logs_of_rescue(repo) / "gone"
    log.parent.mkdir(parents=True)
    log.touch()
    _age(*left.values())
    return left


def _logs_of_rescue(repo: Path) -> Path:
    return repo / ".git" / "logs" / RESCUE_PREFIX


def test_a_healthy_repository_has_no_problem(agentrelay_world: World, cloned_repo: Path) -> None:
    """Every check is made, and what GitHub does not show of a token is all that is left open."""
    found = ask(agentrelay_world, cloned_repo)
    assert problems(found) == set()
    assert skipped(found) == {"push-permission", "pull-permission"}
    assert {name for name, one in found.items() if one.level is not FindingLevel.OK} == skipped(
        found
    )
    for error in (FrozenInstanceError, AttributeError):
        with pytest.raises(error):
            found["api"].name = "other"  # type: ignore[misc]  # it is frozen


def test_a_diagnosis_changes_nothing(agentrelay_world: World, cloned_repo: Path) -> None:
    """Not a byte, a mode or a time, here or at the remote; it asks, with GET alone."""
    world = agentrelay_world
    lane = WorkstreamRuntime(WorkstreamSpec("parser"))
    world.runner(cloned_repo).prepare(lane)
    (cloned_repo / "untracked.txt").write_text("mine")
    _litter(cloned_repo)
    lock = cloned_repo / ".git" / "config.lock"
    lock.touch()
    _age(lock)
    world.git.clear()
    world.github.clear()
    before, at_remote = picture(world.root), refs(world.remote_path)
    found = ask(world, cloned_repo)
    assert picture(world.root) == before
    assert refs(world.remote_path) == at_remote
    assert {"locks"} == problems(found)
    assert [request.method for request in world.github.requests] == ["GET", "GET"]
    assert {request.method for request in world.git.requests} == {"GET"}
    assert {request.path.partition("?")[0] for request in world.git.requests} == {
        f"/{world.full_name}.git/info/refs"
    }


def test_the_same_names_come_in_the_same_order_whatever_is_found(
    agentrelay_world: World, cloned_repo: Path, tmp_path: Path
) -> None:
    """A program can rely on each of them."""
    healthy, broken = ask(agentrelay_world, cloned_repo), ask(agentrelay_world, tmp_path)
    assert list(healthy) == list(broken)
    assert list(healthy) == [finding.name for finding in diagnose(tmp_path / "nowhere")]


def _nothing(repo: Path) -> Path:
    return repo.parent / "nowhere"


def _folder(repo: Path) -> Path:
    (repo.parent / "plain").mkdir()
    return repo.parent / "plain"


def _below(repo: Path) -> Path:
    (repo / "below").mkdir()
    return repo / "below"


def _broken_config(repo: Path) -> Path:
    (repo / ".git" / "config").write_text("[core\n")
    return repo


def _extension(name: str, value: str) -> Callable[[Path], Path]:
    def change(repo: Path) -> Path:
        config = _config(repo)
        config["core.repositoryformatversion"] = 1
        config[f"extensions.{name}"] = value
        return repo

    return change


def _promisor(repo: Path) -> Path:
    _config(repo)["remote.origin.promisor"] = "true"
    return repo


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_nothing, "is not a directory"),
        (_folder, "is not a git repository"),
        (_below, "is not a git repository"),
        (_broken_config, "cannot open the repository"),
        (_extension("refstorage", "reftable"), "the reftable ref format"),
        (_extension("objectformat", "sha256"), "SHA-256 object names"),
        (_extension("partialclone", "origin"), "partial clones"),
        (_promisor, "partial clones"),
    ],
    ids=["nothing", "no repository", "below it", "config", "reftable", "sha256", "partial", "old"],
)
def test_a_repository_that_does_not_open_is_named_and_the_rest_goes_on(
    agentrelay_world: World, cloned_repo: Path, change: Callable[[Path], Path], words: str
) -> None:
    """What stands on it says that it was not checked; machine and GitHub are looked at."""
    found = ask(agentrelay_world, change(cloned_repo))
    assert problems(found) == {"repository"}
    assert words in found["repository"].sentence
    assert skipped(found) >= _OF_THE_REPOSITORY
    assert levels(found, "libgit2", "certificates", "api", "clock") == ["ok"] * 4


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_repository_of_another_user_is_told_from_a_trusted_one(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """libgit2 refuses the first; ``safe.directory`` makes it the second."""
    for path in (cloned_repo, cloned_repo / ".git"):
        os.chown(path, 12345, 12345)
    found = ask(agentrelay_world, cloned_repo)
    assert problems(found) == {"ownership"}
    assert "safe.directory" in str(found["ownership"].fix)
    assert skipped(found) >= _OF_THE_REPOSITORY | {"repository"}
    home = Path(os.environ["HOME"])
    (home / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    kept = pygit2.settings.search_path[ConfigLevel.GLOBAL]
    pygit2.settings.search_path[ConfigLevel.GLOBAL] = str(home)
    try:
        trusted = ask(agentrelay_world, cloned_repo)
    finally:
        pygit2.settings.search_path[ConfigLevel.GLOBAL] = kept
    assert levels(trusted, "repository", "ownership") == ["ok", "note"]


def test_a_bare_repository_will_do(agentrelay_world: World) -> None:
    """It has no index, and lacks nothing else."""
    bare = agentrelay_world.remote_path
    pygit2.Repository(str(bare)).remotes.create("origin", agentrelay_world.remote_url)
    found = ask(agentrelay_world, bare)
    assert problems(found) == set()
    assert "bare repository" in found["repository"].sentence
    assert "has none" in found["index"].sentence


def test_a_shallow_clone_is_a_note_and_with_a_path_for_its_remote_a_problem(
    agentrelay_world: World,
) -> None:
    """Over a network lanes work; with a path libgit2 would damage it."""
    for by, expected in (("http", "ok"), ("path", "problem")):
        repo = agentrelay_world.clone(f"shallow-{by}", by=by)  # type: ignore[arg-type]  # of two
        tip = refs(repo)["refs/heads/main"]
        (repo / ".git" / "shallow").write_text(f"{tip}\n")
        found = ask(agentrelay_world, repo)
        assert levels(found, "history", "remote") == ["note", expected]
        assert ("remote-read" in skipped(found)) == (by == "path")


def _index_with(extension: bytes) -> bytes:
    """Return an empty index with an extension git must understand."""
    data = b"DIRC" + struct.pack(">LL", 2, 0) + extension + struct.pack(">L", 20) + bytes(20)
    return data + hashlib.sha1(data).digest()  # noqa: S324 - gitformat-index(5)


@pytest.mark.parametrize("extension", [b"link", b"sdir"], ids=["split", "sparse"])
def test_an_index_libgit2_cannot_read_is_a_problem(
    agentrelay_world: World, cloned_repo: Path, extension: bytes
) -> None:
    """The fix names git's own commands; inodes are counted without it."""
    (cloned_repo / ".git" / "index").write_bytes(_index_with(extension))
    found = ask(agentrelay_world, cloned_repo)
    assert problems(found) == {"index"}
    assert "--no-split-index" in str(found["index"].fix)
    assert levels(found, "inodes") == ["ok"]


def test_a_sparse_checkout_is_a_note(agentrelay_world: World, cloned_repo: Path) -> None:
    """Lanes hold all files all the same; a switch with an odd value is off."""
    for value, expected in (("true", "note"), ("odd", "ok")):
        _config(cloned_repo)["core.sparseCheckout"] = value
        assert levels(ask(agentrelay_world, cloned_repo), "sparse-checkout") == [expected]


def test_a_file_system_that_ignores_case_is_recognised(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """There the repository's ``HEAD`` answers to another spelling too."""
    (cloned_repo / ".git" / "head").symlink_to("HEAD")
    assert levels(ask(agentrelay_world, cloned_repo), "file-system") == ["note"]


def test_what_is_in_the_place_of_lanes_is_a_problem(
    agentrelay_world: World, cloned_repo: Path, tmp_path: Path
) -> None:
    """A link could lead out of the repository, a file holds no lanes."""
    link, file = cloned_repo / ".worktrees", cloned_repo / ".workflow"
    link.symlink_to(tmp_path)
    assert str(link) in ask(agentrelay_world, cloned_repo)["places"].sentence
    link.unlink()
    file.touch()
    found = ask(agentrelay_world, cloned_repo)
    assert problems(found) == {"places"}
    assert str(file) in found["places"].sentence


def test_places_that_cannot_be_written_to_are_named(
    agentrelay_world: World, cloned_repo: Path, mocker: MockerFixture
) -> None:
    """Permissions count, and so does a read-only mount, where permissions say yes to root."""
    # The tests may run as root, whom no permission stops, and mounting takes more than that.
    objects = cloned_repo / ".git" / "objects"
    access = os.access
    mocker.patch("os.access", side_effect=lambda path, mode: path != objects and access(path, mode))
    found = ask(agentrelay_world, cloned_repo)
    assert problems(found) == {"places"}
    assert str(objects) in found["places"].sentence
    mocker.stopall()
    statvfs = os.statvfs(cloned_repo)
    read_only = SimpleNamespace(f_flag=os.ST_RDONLY, f_files=1, f_favail=statvfs.f_favail)
    mocker.patch("os.statvfs", return_value=read_only)
    assert problems(ask(agentrelay_world, cloned_repo)) == {"places"}


@pytest.mark.parametrize(("free_mib", "expected"), [(5, "problem"), (500, "note"), (5000, "ok")])
def test_too_little_disk_space_is_told(
    agentrelay_world: World,
    cloned_repo: Path,
    mocker: MockerFixture,
    free_mib: int,
    expected: str,
) -> None:
    """A full disk cannot be provoked here."""
    mocker.patch("shutil.disk_usage", return_value=SimpleNamespace(free=free_mib << 20))
    found = ask(agentrelay_world, cloned_repo)["disk-space"]
    assert found.level.value == expected
    assert f"{free_mib} MiB" in found.sentence


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((1000, 10), "problem"), ((10_000, 2000), "note"), ((10**6, 10**5), "ok"), ((0, 0), "ok")],
)
def test_too_few_inodes_are_told(
    agentrelay_world: World,
    cloned_repo: Path,
    mocker: MockerFixture,
    counts: tuple[int, int],
    expected: str,
) -> None:
    """A lane takes one for each file; a file system without a limit says 0 of 0."""
    stat = SimpleNamespace(f_flag=0, f_files=counts[0], f_favail=counts[1])
    mocker.patch("os.statvfs", return_value=stat)
    assert levels(ask(agentrelay_world, cloned_repo), "inodes") == [expected]


@pytest.mark.parametrize(
    ("soft", "expected"),
    [(32, "problem"), (200, "note"), (1024, "ok"), (resource.RLIM_INFINITY, "ok")],
)
def test_too_few_open_files_are_told(
    tmp_path: Path, mocker: MockerFixture, soft: int, expected: str
) -> None:
    """A limit that low would end the test itself."""
    mocker.patch("resource.getrlimit", return_value=(soft, resource.RLIM_INFINITY))
    found = {finding.name: finding for finding in diagnose(tmp_path)}
    assert levels(found, "open-files") == [expected]


def test_a_check_that_breaks_is_its_own_finding(
    agentrelay_world: World, cloned_repo: Path, mocker: MockerFixture
) -> None:
    """The system's word is passed on, and every other check is made."""
    mocker.patch("shutil.disk_usage", side_effect=OSError(5, "Input/output error"))
    found = ask(agentrelay_world, cloned_repo)
    assert found["disk-space"].sentence == "not checked: OSError: Input/output error"
    mocker.patch("shutil.disk_usage", side_effect=ZeroDivisionError("ghp_secretsecret"))
    again = ask(agentrelay_world, cloned_repo)
    assert again["disk-space"].sentence == "not checked: ZeroDivisionError"
    assert problems(again) == set()


def test_lock_files_that_git_left_are_named(agentrelay_world: World, cloned_repo: Path) -> None:
    """Each kind is found once it is older than a minute, and none before."""
    git = cloned_repo / ".git"
    locks = [git / f"{name}.lock" for name in ("HEAD", "config", "packed-refs", "index")]
    locks += [git / "refs" / "heads" / "deep" / "x.lock", git / "worktrees" / "w" / "HEAD.lock"]
    for lock in locks:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    assert levels(ask(agentrelay_world, cloned_repo), "locks") == ["ok"]
    for lock in locks:
        _age(lock)
        found = ask(agentrelay_world, cloned_repo)
        assert problems(found) == {"locks"}
        assert str(lock) in found["locks"].sentence
        lock.unlink()
    for lock in locks:
        lock.touch()
    later = ask(agentrelay_world, cloned_repo, clock=lambda: time.time() + 61)
    assert "and 3 more" in later["locks"].sentence


def test_leftovers_are_named_for_what_they_are(agentrelay_world: World, cloned_repo: Path) -> None:
    """Each kind is found by itself; none is a problem, and none that is young is told."""
    left = _litter(cloned_repo)
    for what, path in left.items():
        for other in left.values():
            os.utime(other)
        assert levels(ask(agentrelay_world, cloned_repo), "leftovers") == ["ok"]
        _age(path)
        found = ask(agentrelay_world, cloned_repo)
        assert problems(found) == set()
        assert found["leftovers"].level is FindingLevel.NOTE
        assert f"'{path}' ({what})" in found["leftovers"].sentence
    _age(*left.values())
    assert "and 3 more" in ask(agentrelay_world, cloned_repo)["leftovers"].sentence


def test_a_lane_that_somebody_is_making_is_no_leftover(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """Writing the files of a large one takes longer than a minute."""
    _litter(cloned_repo)
    lock = cloned_repo / ".git" / "agentrelay" / "lanes" / "half.lock"
    lock.parent.mkdir()
    lock.touch()
    later = {"clock": lambda: time.time() + 3600}
    shutil.rmtree(cloned_repo / ".worktrees")
    shutil.rmtree(_logs_of_rescue(cloned_repo))
    for name in ("new-abc", "trash", "held"):
        shutil.rmtree(lock.parent.parent / name)
    with lock.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert levels(ask(agentrelay_world, cloned_repo, **later), "leftovers") == ["ok"]
    assert levels(ask(agentrelay_world, cloned_repo, **later), "leftovers") == ["note"]


def test_a_link_in_the_place_of_the_trash_is_not_looked_into(
    agentrelay_world: World, cloned_repo: Path, tmp_path: Path
) -> None:
    """What lies where it leads to is somebody's."""
    (tmp_path / "mine").touch()
    _age(tmp_path / "mine")
    (cloned_repo / ".worktrees").mkdir()
    (cloned_repo / ".worktrees" / ".trash").symlink_to(tmp_path)
    assert levels(ask(agentrelay_world, cloned_repo), "leftovers") == ["ok"]


def test_a_lock_of_our_own_is_a_leftover_once_its_holder_is_gone(
    agentrelay_world: World, cloned_repo: Path
) -> None:
    """It is no other program's, and while somebody holds it it is nothing at all."""
    held = cloned_repo / ".git" / "agentrelay" / "held" / "one"
    held.parent.mkdir(parents=True)
    held.touch()
    os.link(held, cloned_repo / ".git" / "config.lock")
    _age(held)
    with held.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        found = ask(agentrelay_world, cloned_repo)
        assert levels(found, "locks", "leftovers") == ["ok", "ok"]
    found = ask(agentrelay_world, cloned_repo)
    assert levels(found, "locks", "leftovers") == ["ok", "note"]
    held.rename(held.with_name("link-target"))
    held.symlink_to("link-target")
    (held.parent / "link-target").unlink()
    _age(held)
    assert levels(ask(agentrelay_world, cloned_repo), "leftovers") == ["ok"]


def test_an_old_libgit2_is_a_problem(
    agentrelay_world: World, cloned_repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lacks fixes of security holes; versions are compared as numbers."""
    for version, expected in (("1.9.4", "problem"), ("1.10.0", "ok"), ("2.0", "ok")):
        monkeypatch.setattr(pygit2, "LIBGIT2_VERSION", version)
        found = ask(agentrelay_world, cloned_repo)["libgit2"]
        assert found.level.value == expected
        assert version in found.sentence


def test_without_libgit2_everything_else_is_still_looked_at(
    agentrelay_world: World,
    cloned_repo: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """What needs it says so, and GitHub is asked."""
    world = agentrelay_world
    # Only now: the world itself takes libgit2.
    request.getfixturevalue("fresh_package")
    monkeypatch.setitem(sys.modules, "pygit2", None)
    settings = {"token": world.token, "api_url": world.github.api_url, "full_name": "octo/widgets"}
    fresh = importlib.import_module("agentrelay.workstream")
    found = {finding.name: finding for finding in fresh.diagnose(cloned_repo, **settings)}
    assert [name for name, one in found.items() if one.level == "problem"] == ["libgit2"]
    assert "pygit2" in found["libgit2"].sentence
    skips = {name for name, one in found.items() if one.sentence.startswith("not checked: ")}
    assert skips >= _OF_THE_REPOSITORY | {"repository", "ownership"}
    assert levels(found, "api", "github-repository") == ["ok", "ok"]


def test_settings_that_cannot_be_are_refused_before_anything_is_looked_at(tmp_path: Path) -> None:
    """An endless wait, a branch that cannot be one."""
    with pytest.raises(RepositoryError, match="network_timeout_s"):
        diagnose(tmp_path, network_timeout_s=float("inf"))
    with pytest.raises(RepositoryError, match="api_timeout_s"):
        diagnose(tmp_path, api_timeout_s=0)
    for settings in ({"base_branch": "a..b"}, {"merge_target_branch": "a b"}):
        with pytest.raises(LaneNameError):
            diagnose(tmp_path, **settings)  # type: ignore[arg-type]  # two names of branches
