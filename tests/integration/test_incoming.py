"""What is fetched comes by a place of its own: others' objects are found, the dead's are swept."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from agentrelay.workstream import WorkstreamRuntime, WorkstreamSpec
from agentrelay.workstream._git.incoming import Incoming, Marks
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream.testing import World, commit_files, read_tree, refs
from fixtures.crowd import ref_of

_REF = ref_of("parser")
_MARK = "agentrelay-workstream fetch\n"


@pytest.fixture
def repo(agentrelay_world: World) -> Path:
    """Return a clone, whose remote has news."""
    clone = agentrelay_world.clone()
    commit_files(agentrelay_world.remote_path, {"news.txt": "news"}, message="News")
    return clone


def prepare(world: World, repo: Path) -> None:
    """Prepare a lane, for which the news are fetched."""
    world.preparer(repo).prepare_workstream(WorkstreamRuntime(WorkstreamSpec("parser")))
    assert read_tree(repo, _REF)["news.txt"] == b"news"


def test_what_killed_fetches_left_goes_and_what_lives_or_is_others_stays(
    agentrelay_world: World, repo: Path
) -> None:
    """The kernel knows who lives; a mark of git's own fetch is git's."""
    pack_dir, places = repo / ".git/objects/pack", repo / ".git/agentrelay/fetch"
    for name in ("dead", "alive"):
        (places / f"objects-{name}" / "pack").mkdir(parents=True)
        (pack_dir / f"pack-{name}.keep").write_text(_MARK)
    (pack_dir / "pack-theirs.keep").write_text("fetch-pack 7 on a machine\n")
    living = [places / "objects-alive", pack_dir / "pack-alive.keep"]
    descriptors = [os.open(path, os.O_RDONLY) for path in living]
    for descriptor in descriptors:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    prepare(agentrelay_world, repo)
    for descriptor in descriptors:
        os.close(descriptor)
    assert {path.name for path in places.glob("objects-*")} == {"objects-alive"}
    assert {path.name for path in pack_dir.glob("*.keep")} == {
        "pack-alive.keep",
        "pack-theirs.keep",
    }


@pytest.mark.parametrize("how", ["absolute", "relative"])
def test_objects_that_are_borrowed_from_another_repository_are_found(
    agentrelay_world: World, repo: Path, how: str
) -> None:
    """``git clone --shared`` keeps all of them elsewhere, and says where."""
    objects = repo / ".git/objects"
    elsewhere = repo.parent / "borrowed" / "objects"
    shutil.copytree(objects, elsewhere)
    for path in objects.iterdir():
        shutil.rmtree(path)
    for name in ("info", "pack"):
        (objects / name).mkdir()
    text = str(elsewhere) if how == "absolute" else "../../../borrowed/objects"
    (objects / "info/alternates").write_text(f"# lent\n{text}\n")
    prepare(agentrelay_world, repo)
    branch = _REF.removeprefix("refs/heads/")
    assert refs(repo)[f"refs/remotes/origin/{branch}"] == refs(repo)[_REF]


def test_a_mark_of_another_fetch_of_the_same_objects_stays(
    agentrelay_world: World, repo: Path
) -> None:
    """Two lanes may fetch the same pack; the mark of who is not done yet is not ours to remove."""
    repository = open_repository(repo)
    marks = [Marks(), Marks()]
    with Incoming(repository) as first, Incoming(repository) as second:
        for incoming in (first, second):
            handle = repository.fetching_handle()
            incoming.receive(handle)
            remote = handle.remotes.create_anonymous(str(agentrelay_world.remote_path))
            remote.fetch(["refs/heads/main"])
        for incoming, mark in zip((first, second), marks, strict=True):
            incoming.admit(mark)
    pack_dir = repo / ".git/objects/pack"
    (keep,) = pack_dir.glob("*.keep")
    marks[0].remove()
    assert keep.exists()
    marks[1].remove()
    assert not keep.exists()
    assert keep.with_suffix(".idx").exists()


@pytest.mark.parametrize("moved", ["objects", "objects/pack"])
def test_objects_on_another_file_system_are_added_to(
    agentrelay_world: World, repo: Path, moved: str
) -> None:
    """A link leads to a larger disk, where nothing can be renamed to; a killed fetch goes there."""
    here = repo.stat().st_dev
    names = ("/dev/shm", "/var/tmp", "/tmp")  # noqa: S108 - only asked for what they are on
    places = [Path(name) for name in names]
    others = [path for path in places if os.access(path, os.W_OK) and path.stat().st_dev != here]
    if not others:
        pytest.skip("there is one file system only")
    with tempfile.TemporaryDirectory(dir=others[0]) as disk:
        objects = repo / ".git" / moved
        shutil.move(objects, f"{disk}/moved")
        objects.symlink_to(f"{disk}/moved")
        dead = repo / ".git/objects/pack/agentrelay-fetch/objects-dead"
        dead.mkdir(parents=True)
        prepare(agentrelay_world, repo)
        assert not dead.exists()
        assert not list(dead.parent.iterdir())
