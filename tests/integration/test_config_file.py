"""The lane's section in the configuration: there, gone, and nothing else touched."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from pathlib import Path

import pygit2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pygit2.enums import ConfigLevel

from agentrelay.workstream._git import locks
from agentrelay.workstream._git.config import (
    drop_upstream,
    drop_upstreams,
    set_upstream,
    set_upstreams,
)
from agentrelay.workstream._git.config_names import config_names
from agentrelay.workstream._git.remotes import RemoteAccess, open_remote
from agentrelay.workstream._git.repository import OpenRepository, open_repository
from agentrelay.workstream.errors import LaneBusyError, RepositoryError
from agentrelay.workstream.testing.repositories import clone_repository, create_bare_repository

_LANE = "agentrelay/nightly/parser/integration"
_SECTION = f'[branch "{_LANE}"]\n\tremote = origin\n\tmerge = refs/heads/{_LANE}\n'.encode()
_CORE = b"[core]\n\tbare = true\n\trepositoryformatversion = 0\n"


@pytest.fixture
def bare(tmp_path: Path) -> OpenRepository:
    """A bare repository whose configuration a test may write as it likes."""
    return open_repository(create_bare_repository(tmp_path / "bare.git"))


def _config(repository: OpenRepository) -> Path:
    return repository.common_dir / "config"


def _values(repository: OpenRepository, key: str) -> list[str]:
    """Return all values of a key as libgit2 reads them from the file."""
    found = pygit2.Config(str(_config(repository))).get_multivar(key)
    return [str(value) for value in found]


# --- what git reads ---------------------------------------------------------------------


def test_the_branch_tracks_its_namesake_on_the_remote(tmp_path: Path) -> None:
    """libgit2 and git read remote and branch from what was written."""
    checkout = clone_repository(create_bare_repository(tmp_path / "b.git"), tmp_path / "clone")
    repository = open_repository(checkout)
    tip = repository.resolve("refs/heads/main")
    assert tip is not None
    repository.handle.references.create(f"refs/heads/{_LANE}", tip)
    repository.handle.references.create(f"refs/remotes/origin/{_LANE}", tip)
    set_upstream(repository, _LANE, remote="origin")
    branch = pygit2.Repository(str(checkout)).branches.local[_LANE]
    assert branch.upstream_name == f"refs/remotes/origin/{_LANE}"
    drop_upstream(repository, _LANE)
    assert pygit2.Repository(str(checkout)).branches.local[_LANE].upstream is None


@pytest.mark.parametrize("remote", ["origin", "up-stream/2", "a;b", "a#b", 'a"b', "a\\b", " a "])
def test_any_name_of_a_remote_is_read_back_as_it_was(bare: OpenRepository, remote: str) -> None:
    """What git would take for a comment, a quote or an escape is quoted."""
    set_upstream(bare, _LANE, remote=remote)
    assert _values(bare, f"branch.{_LANE}.remote") == [remote]
    set_upstream(bare, _LANE, remote=remote)
    assert _config(bare).read_text().count("[branch") == 1


def test_another_remote_replaces_the_first(bare: OpenRepository) -> None:
    """There is one upstream; no second value is left for ``git pull`` to find."""
    set_upstream(bare, _LANE, remote="origin")
    set_upstream(bare, _LANE, remote="backup")
    assert _values(bare, f"branch.{_LANE}.remote") == ["backup"]
    assert _values(bare, f"branch.{_LANE}.merge") == [f"refs/heads/{_LANE}"]


def test_keys_somebody_added_to_the_lanes_section_survive_a_second_prepare(
    bare: OpenRepository,
) -> None:
    """Descriptions, ``rebase`` and what editors note there are not ours to drop."""
    set_upstream(bare, _LANE, remote="origin")
    with _config(bare).open("ab") as stream:
        stream.write(b"\tdescription = the parser\n\trebase = true\n")
    set_upstream(bare, _LANE, remote="origin")
    assert _values(bare, f"branch.{_LANE}.description") == ["the parser"]
    assert _values(bare, f"branch.{_LANE}.rebase") == ["true"]
    set_upstream(bare, _LANE, remote="backup")
    assert _values(bare, f"branch.{_LANE}.rebase") == ["true"]
    assert _values(bare, f"branch.{_LANE}.remote") == ["backup"]


@pytest.mark.parametrize(
    "header",
    [
        f'[branch "{_LANE}"] # by hand',
        f'[branch "{_LANE}"]; by hand',
        f'[Branch "{_LANE}"]',
        f'[branch  "{_LANE}"]',
        f'[branch "{_LANE}"] rebase = true',
    ],
)
def test_a_section_somebody_spelled_differently_is_still_the_lanes(
    bare: OpenRepository, header: str
) -> None:
    """Git takes these for the same section, so no second upstream may appear beside it."""
    text = f"{header}\n\tremote = old\n\tmerge = refs/heads/old\n"
    _config(bare).write_bytes(_CORE + text.encode())
    set_upstream(bare, _LANE, remote="origin")
    assert _values(bare, f"branch.{_LANE}.merge") == [f"refs/heads/{_LANE}"]
    assert _values(bare, f"branch.{_LANE}.remote") == ["origin"]
    drop_upstream(bare, _LANE)
    assert _values(bare, f"branch.{_LANE}.remote") == []


# --- everything else, byte for byte -----------------------------------------------------

_OTHERS = {
    "plain": _CORE,
    "no final newline": _CORE + b'[user]\n\tname = "Robin"',
    "crlf": b"[core]\r\n\tbare = true\r\n[user]\r\n\tname = Robin\r\n",
    "comments": b"# top\n; also\n" + _CORE + b"\t# within\n[alias]\n\tx = y ; why\n\n# last\n",
    "odd bytes": _CORE + b"[x]\n\ty = \xff\xfe caf\xc3\xa9\n\tz = a\\\n  b\n",
    "byte order mark": b"\xef\xbb\xbf" + _CORE,
    "neighbours": _CORE
    + f'[branch "{_LANE}2"]\n\tremote = a\n[branch "{_LANE[:-1]}"]\n\tremote = b\n'.encode()
    + f'[branch "{_LANE.upper()}"]\n\tremote = c\n[remote "{_LANE}"]\n\turl = d\n'.encode(),
    "empty": b"",
}


@pytest.mark.parametrize("before", _OTHERS.values(), ids=_OTHERS.keys())
def test_setting_appends_one_section_and_changes_no_other_byte(
    bare: OpenRepository, before: bytes
) -> None:
    """What was there stays in front; doing it again changes nothing at all."""
    _config(bare).write_bytes(before)
    set_upstream(bare, _LANE, remote="origin")
    after = _config(bare).read_bytes()
    assert after.startswith(before)
    assert after.removeprefix(before) in {_SECTION, b"\n" + _SECTION}
    assert _values(bare, f"branch.{_LANE}.remote") == ["origin"]
    set_upstream(bare, _LANE, remote="origin")
    assert _config(bare).read_bytes() == after


@pytest.mark.parametrize("before", _OTHERS.values(), ids=_OTHERS.keys())
@pytest.mark.parametrize("tail", [b"", b"[z]\n\ty = x\n", b"[z]\r\n\ty = x\r\n", b"[z]\n\ty"])
def test_dropping_removes_the_section_and_changes_no_other_byte(
    bare: OpenRepository, before: bytes, tail: bytes
) -> None:
    """First, last or in between: only the lane's lines go."""
    gap = b"\n" if before and not before.endswith(b"\n") else b""
    _config(bare).write_bytes(before + gap + _SECTION + tail)
    drop_upstream(bare, _LANE)
    assert _config(bare).read_bytes() == before + gap + tail
    drop_upstream(bare, _LANE)
    assert _config(bare).read_bytes() == before + gap + tail


@settings(max_examples=50, deadline=None)
@given(
    lines=st.lists(
        st.sampled_from(
            [
                b"[core]",
                b"\tbare = true",
                b"# comment",
                b"",
                b"[a] b = c",
                b'[branch "main"]',
                b"\tx = \xff",
                b"\ty = [branch",
            ]
        ),
        max_size=12,
    ),
    end=st.sampled_from([b"\n", b"\r\n"]),
    last=st.booleans(),
)
def test_setting_and_dropping_restores_any_configuration(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], end: bytes, *, last: bool
) -> None:
    """A lane that came and went leaves at most a final line end behind."""
    path = tmp_path_factory.mktemp("repository")
    repository = open_repository(create_bare_repository(path / "bare.git"))
    before = end.join(lines) + (end if last else b"")
    _config(repository).write_bytes(before)
    set_upstream(repository, _LANE, remote="origin")
    drop_upstream(repository, _LANE)
    after = _config(repository).read_bytes()
    assert after == before or (after == before + b"\n" and not before.endswith(b"\n"))


def test_comments_inside_the_lanes_section_outlive_it(bare: OpenRepository) -> None:
    """What a person wrote is theirs, wherever they wrote it."""
    noted = _SECTION + b"\t# asked for by Robin\n; and this\n"
    _config(bare).write_bytes(_CORE + noted)
    drop_upstream(bare, _LANE)
    assert _config(bare).read_bytes() == _CORE + b"\t# asked for by Robin\n; and this\n"


def test_a_value_that_looks_like_the_section_is_a_value(bare: OpenRepository) -> None:
    """A continued line may begin with anything; it is still part of the value above."""
    before = _CORE + f'[alias]\n\tx = a \\\n[branch "{_LANE}"]\n\ty = b\n'.encode()
    _config(bare).write_bytes(before)
    assert _values(bare, "alias.y") == ["b"]
    drop_upstream(bare, _LANE)
    assert _config(bare).read_bytes() == before


# --- the file itself --------------------------------------------------------------------


def test_an_unchanged_configuration_is_not_written(bare: OpenRepository) -> None:
    """The same file stays in place, so nobody's caches or watchers notice."""
    set_upstream(bare, _LANE, remote="origin")
    before = _config(bare).stat()
    set_upstream(bare, _LANE, remote="origin")
    drop_upstream(bare, "agentrelay/nightly/other/integration")
    after = _config(bare).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_section_with_more_after_it_is_left_where_it_is(bare: OpenRepository) -> None:
    """A lane that is prepared again does not shuffle the configuration."""
    before = _CORE + _SECTION + b"[z]\n\ty = x\n"
    _config(bare).write_bytes(before)
    set_upstream(bare, _LANE, remote="origin")
    assert _config(bare).read_bytes() == before


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_permissions_stay(bare: OpenRepository, mode: int) -> None:
    """A private or a shared configuration stays private or shared."""
    _config(bare).chmod(mode)
    set_upstream(bare, _LANE, remote="origin")
    assert _config(bare).stat().st_mode & 0o777 == mode
    drop_upstream(bare, _LANE)
    assert _config(bare).stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "relative"])
def test_a_linked_configuration_is_written_where_it_leads(
    bare: OpenRepository, tmp_path: Path, *, absolute: bool
) -> None:
    """The link stays a link, and the shared file has the section."""
    shared = tmp_path / "shared-config"
    _config(bare).rename(shared)
    _config(bare).symlink_to(shared if absolute else Path("..") / shared.name)
    set_upstream(bare, _LANE, remote="origin")
    assert _config(bare).is_symlink()
    assert shared.read_bytes().endswith(_SECTION)
    assert not list(tmp_path.rglob("*.lock"))


def test_a_missing_configuration_is_an_error_that_names_it(bare: OpenRepository) -> None:
    """It is not made up: a repository without one is damaged."""
    _config(bare).unlink()
    with pytest.raises(RepositoryError, match="set the upstream") as caught:
        set_upstream(bare, _LANE, remote="origin")
    assert str(caught.value.path) == str(_config(bare).resolve())


# --- other writers ----------------------------------------------------------------------


def test_a_lock_that_stays_is_busy_in_bounded_time(
    bare: OpenRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, it is kept, and the configuration is what it was."""
    hurried = functools.partial(locks.Backoff, deadline_s=0.05, longest_s=0.01)
    monkeypatch.setattr(locks, "Backoff", hurried)
    lock = bare.common_dir / "config.lock"
    lock.write_text("theirs")
    before = _config(bare).read_bytes()
    with pytest.raises(LaneBusyError, match=r"config\.lock"):
        set_upstream(bare, _LANE, remote="origin")
    assert lock.read_text() == "theirs"
    assert _config(bare).read_bytes() == before
    # What is there already needs no lock.
    drop_upstream(bare, _LANE)


def test_eight_threads_at_once_lose_no_section(bare: OpenRepository) -> None:
    """Each sets and drops its own lanes beside the others, and beside the user's keys."""
    lanes = [f"agentrelay/nightly/lane-{number:02}/integration" for number in range(24)]
    for lane in lanes[:8]:
        set_upstream(bare, lane, remote="origin")
    start = threading.Barrier(8)
    raised: list[BaseException] = []

    def work(number: int) -> None:
        own = open_repository(bare.path)
        start.wait(timeout=30.0)
        try:
            drop_upstream(own, lanes[number])
            for lane in lanes[8 + number :: 8]:
                set_upstream(own, lane, remote="origin")
        except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
            raised.append(error)

    before = _config(bare).read_bytes().split(b"[branch")[0]
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []
    assert _config(bare).read_bytes().startswith(before)
    for lane in lanes[:8]:
        assert _values(bare, f"branch.{lane}.remote") == []
    for lane in lanes[8:]:
        assert _values(bare, f"branch.{lane}.remote") == ["origin"]
        assert _values(bare, f"branch.{lane}.merge") == [f"refs/heads/{lane}"]
    assert not (bare.common_dir / "config.lock").exists()


# --- many branches at once --------------------------------------------------------------

_MANY = [f"agentrelay/nightly/lane{number}/integration" for number in range(12)]


@pytest.mark.parametrize("before", _OTHERS.values(), ids=_OTHERS.keys())
def test_many_upstreams_are_set_and_dropped_like_each_by_itself(
    bare: OpenRepository, before: bytes
) -> None:
    """Whatever else is in the file; and some have a section already, spelled by hand."""
    path = _config(bare)
    by_hand = f'[branch "{_MANY[3]}"] rebase = true\n\tremote = old\n'.encode()
    start = before + (b"" if before.endswith(b"\n") or not before else b"\n") + by_hand
    path.write_bytes(start)
    for branch in _MANY:
        set_upstream(bare, branch, remote="origin")
    one_by_one = path.read_bytes()
    path.write_bytes(start)
    set_upstreams(bare, _MANY, remote="origin")
    assert path.read_bytes() == one_by_one
    drop_upstreams(bare, _MANY[:7])
    together = path.read_bytes()
    path.write_bytes(one_by_one)
    for branch in _MANY[:7]:
        drop_upstream(bare, branch)
    assert path.read_bytes() == together
    drop_upstreams(bare, _MANY)
    assert path.read_bytes().rstrip() == before.rstrip()


@pytest.mark.parametrize(
    "tail",
    [
        "\trebase = true\n",
        "# a note\n",
        '[core]\n\tx = "y"\n',
        f'[branch "{_LANE}2"]\n\tremote = other\n',
        f'[branch "other"]\n\tmerge = refs/heads/{_LANE}\n',
        "",
    ],
)
@pytest.mark.parametrize("head", ["", "[a]\n\tb = c \\\n", '[x "a\\b"]\n\ty = z\n'])
def test_a_section_goes_whatever_stands_around_it(
    bare: OpenRepository, head: str, tail: str
) -> None:
    """Its keys are gone, a comment and everybody else's keys are there, however it is cut out."""
    text = f"{head}{_SECTION.decode()}{tail}"
    _config(bare).write_bytes(_CORE + text.encode())
    others = {
        entry.name: entry.value
        for entry in pygit2.Config(str(_config(bare)))
        if not entry.name.startswith(f"branch.{_LANE}.")
    }
    drop_upstream(bare, _LANE)
    left = {entry.name: entry.value for entry in pygit2.Config(str(_config(bare)))}
    assert left == others
    assert ("# a note" in _config(bare).read_text()) == ("# a note" in text)


def test_what_an_included_file_says_of_a_remote_counts(tmp_path: Path) -> None:
    """A rewritten address, and a promisor: neither is looked for in the one file only."""
    origin = create_bare_repository(tmp_path / "real" / "b.git")
    checkout = clone_repository(origin, tmp_path / "clone", url="alias:b.git")
    more = tmp_path / "more"
    more.write_text(f'[url "{tmp_path}/real/"]\n\tinsteadOf = "alias:"\n')
    with (checkout / ".git" / "config").open("a") as stream:
        stream.write(f'[include]\n\tpath = "{more}"\n')
    end = open_remote(open_repository(checkout), RemoteAccess())
    assert end.url == str(origin)
    assert end.look(["main"]) == {"main": open_repository(origin).resolve("refs/heads/main")}
    more.write_text('[remote "origin"]\n\tpromisor = true\n')
    with pytest.raises(RepositoryError, match="partial clone"):
        open_repository(checkout)


# --- the names that matter --------------------------------------------------------------


@pytest.fixture
def defaults(tmp_path: Path) -> Iterator[Path]:
    """A directory whose files hold for all repositories."""
    before = pygit2.settings.search_path[ConfigLevel.GLOBAL]
    pygit2.settings.search_path[ConfigLevel.GLOBAL] = str(tmp_path / "home")
    (tmp_path / "home").mkdir()
    yield tmp_path / "home"
    pygit2.settings.search_path[ConfigLevel.GLOBAL] = before


_RULE = '[url "https://there.example/"]\n\tinsteadOf = here:\n'
_NAME = "url.https://there.example/.insteadof"


@pytest.mark.parametrize("where", ["own", "of all", "both", "taken in"])
def test_a_rule_for_addresses_is_found_wherever_it_is(
    bare: OpenRepository, defaults: Path, where: str
) -> None:
    """In the repository's file, in the user's, or in one that is included."""
    if where in {"own", "both"}:
        _config(bare).write_bytes(_CORE + _RULE.encode())
    if where in {"of all", "both"}:
        (defaults / ".gitconfig").write_text(_RULE)
    if where == "taken in":
        (defaults / "more").write_text(_RULE)
        (defaults / ".gitconfig").write_text(f"[include]\n\tpath = {defaults / 'more'}\n")
    opened = open_repository(bare.path)
    assert _NAME in opened.config.names
    assert opened.config.is_plain == (where != "taken in")


def test_without_any_rule_nothing_is_read_entry_by_entry(
    bare: OpenRepository, defaults: Path
) -> None:
    """However many lanes have a section."""
    (defaults / ".gitconfig").write_text("[user]\n\tname = A\n")
    set_upstreams(bare, _MANY, remote="origin")
    opened = open_repository(bare.path)
    assert opened.config.names == ()
    assert opened.config.is_plain


def test_settings_of_worktrees_are_not_the_repositorys(bare: OpenRepository) -> None:
    """With ``extensions.worktreeConfig`` each may have its own."""
    _config(bare).write_bytes(_CORE + b"[extensions]\n\tworktreeConfig = true\n")
    assert not open_repository(bare.path).config.is_plain


def test_a_file_that_cannot_be_read_may_hold_anything(bare: OpenRepository, tmp_path: Path) -> None:
    """Nobody guesses what is in it: libgit2 is asked for all that it knows."""
    (tmp_path / "closed" / "config").mkdir(parents=True)
    found = config_names(bare.handle, tmp_path / "closed", (b"insteadof",))
    assert "core.bare" in found.names
    assert not found.is_plain
