"""Rows of the fault matrix: files somebody tampered with, and servers that lie."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pygit2

from agentrelay.workstream import RemoteUnavailableError, RepositoryError, WorkstreamError
from agentrelay.workstream.testing import Fault, commit_files, refs
from tests.fault._injectors import Inject, written
from tests.fault._matrix import BRANCH, REF, Place, Row, Seen, Step

__all__ = ["ROWS"]

_TAMPERED: Final = "Tampered files of a lane"
_LIES: Final = "Servers that lie"


def garbage(name: str, data: bytes, *, in_entry: bool = False) -> Inject:
    """Let a file of git hold garbage for a while."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        with written((place.admin_dir if in_entry else place.git_dir) / name, data):
            yield

    return inject


def _steps(place: Place, steps: Sequence[Step], spoil: Callable[[], None]) -> set[str]:
    """Prepare a lane, spoil something of it before each step, and say how they end."""
    place.do("prepare")
    commit_files(place.worktree, {"work.py": "pass\n"}, message="work")
    ends = set()
    for step in steps:
        spoil()
        seen = place.do(step)
        error = seen.error
        assert error is None or isinstance(error, (WorkstreamError, OSError)), repr(error)
        assert error is None or isinstance(error, WorkstreamError), (step, repr(error))
        ends.add("success" if error is None else type(error).__name__)
    return ends


def _clear(place: Place) -> None:
    """Take everything of the lane away, for the next round."""
    place.do("teardown")
    for path in (place.lane.signal_dir, place.worktree):
        if path.is_dir():
            _remove(path)
    if place.admin_dir.is_dir():
        _remove(place.admin_dir)
    for repo in (place.repo, place.bare):
        handle = pygit2.Repository(str(repo))
        for name in refs(repo):
            if "agentrelay" in name:
                handle.references.delete(name)
    place.runtime = type(place.runtime)(place.spec)


def _remove(path: Path) -> None:
    for inner in path.iterdir():
        if inner.is_dir() and not inner.is_symlink():
            _remove(inner)
        else:
            inner.unlink()
    path.rmdir()


_WRONG: Final[tuple[Any, ...]] = (
    None,
    ["list"],
    "/etc/passwd",
    "../../../neighbour",
    "refs/heads/main",
    "agentrelay/nightly/other/integration",
)


def wrong_field(key: str) -> Callable[[Place], Seen]:
    """Give a field of the record every wrong value, before each step."""

    def act(place: Place) -> Seen:
        ends: set[str] = set()
        main = refs(place.repo)["refs/heads/main"]
        # Integrating reads the names alone.
        is_name = key.endswith("branch") or key in {"branch_name", "workstream_id"}
        steps: tuple[Step, ...] = ("prepare", "teardown")
        steps = ("prepare", "integrate", "teardown") if is_name else steps
        for value in _WRONG:

            def spoil(value: Any = value) -> None:
                path = place.lane.signal_dir / "lane.json"
                record = json.loads(path.read_text())
                path.write_text(json.dumps({**record, key: value}))

            ends |= _steps(place, steps, spoil)
            here = refs(place.repo)
            assert here["refs/heads/main"] == main
            assert not any(tip.startswith("ref:") for ref, tip in here.items() if "heads" in ref)
            _clear(place)
        return Seen(None, (f"each value: {' or '.join(sorted(ends))}",))

    return act


def a_ref_for_a_commit(place: Place) -> Seen:
    """Let the record name the user's branch where a commit's id belongs, and need that id."""
    place.do("prepare")
    for repo in (place.repo, place.bare):
        pygit2.Repository(str(repo)).references.delete(REF)
    path = place.lane.signal_dir / "lane.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_commit": "refs/heads/main"}))
    seen = place.do("prepare")
    assert refs(place.repo)[REF] == refs(place.bare)["refs/heads/main"]
    commit_files(place.worktree, {"work.py": "pass\n"}, message="work")
    return seen


def a_log_of_garbage(place: Place) -> Seen:
    """Let the worktree's log be garbage, and be needed to find the branch again."""
    place.do("prepare")
    for repo in (place.repo, place.bare):
        pygit2.Repository(str(repo)).references.delete(REF)
    log = place.admin_dir / "logs" / "HEAD"
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(b"0 " + b"z" * 40 + b" somebody\n")
    return place.do("prepare")


_KINDS: Final[Mapping[str, Callable[[Path], object]]] = {
    "gigantic": lambda path: path.write_bytes(b"x" * (2 << 20)),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "a pipe": os.mkfifo,
    "a link that leads elsewhere": lambda path: path.symlink_to("/etc/passwd"),
    "a directory": lambda path: path.mkdir(),
}


def odd_file(kind: str) -> Callable[[Place], Seen]:
    """Let each signal be something else than a small file, before each step."""

    def act(place: Place) -> Seen:
        ends: set[str] = set()
        for name in ("lane.json", "pending", "failed", "pr_created", "merged", "history.jsonl"):

            def spoil(name: str = name) -> None:
                path = place.lane.signal_dir / name
                if path.is_dir() and not path.is_symlink():
                    path.rmdir()
                path.unlink(missing_ok=True)
                _KINDS[kind](path)

            ends |= _steps(place, ("prepare", "integrate", "teardown"), spoil)
            _clear(place)
        return Seen(None, (f"each signal: {' or '.join(sorted(ends))}",))

    return act


@contextmanager
def nothing(_: Place) -> Iterator[None]:
    """Do nothing beforehand: the act does it all."""
    yield


def advertising(*lines: str) -> Inject:
    """Let the server list other refs than it has."""

    @contextmanager
    def inject(place: Place) -> Iterator[None]:
        first, *rest = [line.format(main=refs(place.bare)["refs/heads/main"]) for line in lines]
        framed = ["# service=git-upload-pack\n", "", f"{first}\0side-band-64k ofs-delta\n"]
        framed += [f"{line}\n" for line in rest] + [""]
        body = "".join(f"{len(line) + 4:04x}{line}" if line else "0000" for line in framed)
        kind = "application/x-git-upload-pack-advertisement"
        place.world.git.faults.add(
            Fault.status(200, body=body, content_type=kind, path="info/refs.*upload", times=9)
        )
        token, place.world.git._token = place.world.git._token, None
        yield
        place.world.git._token = token
        place.world.git.faults.clear()

    return inject


@contextmanager
def foreign_pulls(place: Place) -> Iterator[None]:
    """Let GitHub answer with what looks like the lane's pull request, of other repositories."""
    host = place.world.github.url
    pull = {
        "number": 9,
        "html_url": f"{host}/octo/widgets/pull/9",
        "state": "open",
        "title": "Integrate workstream parser",
        "body": None,
        "merged_at": None,
        "head": {"ref": BRANCH, "sha": "0" * 40, "repo": {"full_name": "octo/widgets"}},
        "base": {"ref": "main"},
    }
    forged = [
        pull | {"html_url": "https://evil.example/octo/widgets/pull/9"},
        pull | {"head": {"ref": BRANCH, "sha": "0" * 40, "repo": {"full_name": "evil/widgets"}}},
        pull | {"html_url": f"{host}/evil/widgets/pull/9"},
    ]
    place.world.github.faults.add(Fault.status(200, body=json.dumps(forged), method="GET"))
    yield
    assert place.runtime.artifacts.merge_pr_url is None


def _rows() -> Iterator[Row]:
    """Yield the rows, in the page's order."""

    def row(
        step: Step,
        fault: str,
        inject: Inject,
        error: type[WorkstreamError] | None,
        *says: str,
        **more: Any,
    ) -> Row:
        return Row(part, fault, step, inject, error, says, **more)

    wrong = RepositoryError
    life: Step = "whole life"
    part = _TAMPERED
    yield row(
        life,
        "lane.json: base_commit is 'refs/heads/main', and the branches are gone",
        nothing,
        None,
        act=a_ref_for_a_commit,
        comparable=False,
        over="path",
    )
    for key in (
        "format",
        "graph",
        "workstream_id",
        "base_branch",
        "merge_target_branch",
        "branch_name",
        "worktree_path",
        "base_commit",
        "remote",
        "claim",
        "attempt",
    ):
        yield row(
            life,
            f"lane.json: {key} has every wrong value",
            nothing,
            None,
            act=wrong_field(key),
            comparable=False,
            over="path",
        )
    for odd in _KINDS:
        yield row(
            life,
            f"each signal in turn is {odd}",
            nothing,
            None,
            act=odd_file(odd),
            comparable=False,
            over="path",
        )
    noise = bytes(range(1, 256))
    yield row("prepare", "FETCH_HEAD is garbage", garbage("FETCH_HEAD", noise), None)
    yield row("prepare", "packed-refs is garbage", garbage("packed-refs", noise), wrong)
    yield row(
        "prepare",
        "the branch's reflog is garbage",
        garbage(f"logs/{REF}", noise),
        None,
        comparable=False,
    )
    yield row(
        "prepare",
        "the base's ref is garbage",
        garbage("refs/remotes/origin/main", noise),
        wrong,
        "refs/remotes/origin/main",
    )
    yield row("integrate", "the lane's ref is garbage", garbage(REF, noise), wrong, BRANCH)
    yield row("teardown", "the lane's ref is garbage", garbage(REF, noise), wrong, BRANCH)
    letters = b"z" * 40
    yield row(
        "teardown",
        "the entry's MERGE_HEAD holds 40 letters that are no id",
        garbage("MERGE_HEAD", letters, in_entry=True),
        None,
    )
    yield row(
        life,
        "the branches are gone, and the entry's log holds 40 letters that are no id",
        nothing,
        None,
        act=a_log_of_garbage,
        comparable=False,
        over="path",
    )
    for name in ("HEAD", "gitdir", "index"):
        yield row(
            "teardown", f"the entry's {name} is garbage", garbage(name, noise, in_entry=True), wrong
        )

    part = _LIES
    tip = "{main} refs/heads/main"
    yield row(
        "prepare",
        "the list of refs holds names that lead elsewhere",
        advertising(tip, "{main} refs/heads/../../../evil", "{main} /etc/evil"),
        None,
        comparable=False,
    )
    yield row(
        "prepare",
        "the list of refs holds a commit the pack does not",
        advertising(f"{'1' * 40} refs/heads/main"),
        RemoteUnavailableError,
    )
    yield row(
        "integrate",
        "GitHub lists pull requests of other repositories",
        foreign_pulls,
        RemoteUnavailableError,
        "is not a pull request of",
    )
    yield row(
        "prepare", "the list of refs is no list", advertising("nonsense"), RemoteUnavailableError
    )


ROWS: Final = tuple(_rows())
