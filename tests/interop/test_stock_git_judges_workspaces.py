"""The stock git program looks at the same worktree, and must say the same."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pygit2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentrelay.workstream import (
    GitWorkstreamPreparer,
    LaneConflictError,
    LaneWorkspace,
    NothingToCommitError,
    WorkstreamRuntime,
    WorkstreamSpec,
    clone,
    open_lane,
)
from agentrelay.workstream._git.comparing import diff_between
from agentrelay.workstream._git.fast_forward import fast_forward
from agentrelay.workstream._git.repository import open_repository
from agentrelay.workstream.implementations._commit_message import compose_message
from agentrelay.workstream.testing import World
from agentrelay.workstream.testing.repositories import clone_repository, create_bare_repository
from tests._examples import tries
from tests.interop._stock_git import GIT, IDENTITY, run_git

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(GIT is None, reason="there is no git program to judge"),
]


def git(cwd: Path, *arguments: str, index: Path | None = None, given: str = "") -> str:
    """Run the stock git without any of the machine's configuration."""
    variables = {"GIT_LITERAL_PATHSPECS": "1", **IDENTITY}
    if index is not None:
        variables["GIT_INDEX_FILE"] = str(index)
    done = run_git(cwd, *arguments, given=given, **variables)
    if done.returncode:
        # Not an assertion: pytest shortens what it shows, and a caller reads it.
        raise AssertionError(f"{arguments}: {done.stderr!r}")
    return done.stdout


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> LaneWorkspace:
    """Return the workspace of a lane; each example resets it."""
    root = tmp_path_factory.mktemp("judged")
    repo = clone_repository(create_bare_repository(root / "origin.git"), root / "clone")
    runtime = WorkstreamRuntime(WorkstreamSpec("parser"))
    GitWorkstreamPreparer(repo, "nightly").prepare_workstream(runtime)
    return open_lane(runtime)


# Few names, so that files, folders and links meet under one name; one has a space.
_NAMES = ("a", "b c", "ü.txt", "x.log", "keep.txt")
_FOLDERS = ("", "a/", "d/", "d/e/")
_CONTENTS = ("", "one\n", "one\ntwo\n", "one\r\ntwo\r\n", "one\r\ntwo\n", "\0\r\n", "two")
_IGNORES = ("*.log\n", "d/\n", "d/*\n!d/a\n", "/a\n", "e/\n*.txt\n!keep.txt\n")
_ATTRIBUTES = (
    "* text=auto\n",
    "* text=auto eol=crlf\n",
    "a text\n",
    "*.txt -text\n",
    "*.txt text eol=lf\n",
    "d/* binary\n",
    "a ident\n",
)

_paths = st.builds(
    lambda folder, name: folder + name, st.sampled_from(_FOLDERS), st.sampled_from(_NAMES)
)
# No link leads to itself: git passes over what is tracked behind one, with an error message.
_edits = st.one_of(
    st.tuples(st.just("write"), _paths, st.sampled_from(_CONTENTS)),
    st.tuples(st.just("write"), _paths, st.sampled_from(_CONTENTS)),
    st.tuples(st.just("write"), st.just(".gitignore"), st.sampled_from(_IGNORES)),
    st.tuples(st.just("link"), _paths, st.sampled_from(("nowhere", "../b c", "."))),
    st.tuples(st.just("mode"), _paths, st.just("")),
    st.tuples(st.just("delete"), _paths, st.just("")),
    st.tuples(st.just("rename"), _paths, _paths),
    st.tuples(st.just("stage"), _paths, st.just("")),
    st.tuples(st.just("unstage"), _paths, st.just("")),
    st.tuples(st.just("announce"), _paths, st.just("")),
)
# In the first commit only: whether git sees what a later change of the rules means for files
# that were not touched depends on the clock (gitattributes(5), "renormalize").
_rules = st.tuples(st.just("write"), st.just(".gitattributes"), st.sampled_from(_ATTRIBUTES))
Edit = tuple[str, str, str]


def _make_way(root: Path, path: str) -> Path:
    """Remove what is in the way of a path, and make its folders."""
    target = root / path
    for parent in (*reversed(target.relative_to(root).parents), Path(path)):
        full = root / parent
        if full == root:
            continue
        if full.is_symlink() or full.is_file():
            full.unlink()
        elif full == target and full.is_dir():
            shutil.rmtree(full)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _apply(root: Path, edit: Edit) -> None:
    """Do one thing an agent, or a person with git, may do."""
    kind, path, more = edit
    target = root / path
    plain = target.is_file() and not any(parent.is_symlink() for parent in target.parents)
    if kind == "write":
        _make_way(root, path).write_bytes(more.encode())
    elif kind == "link":
        _make_way(root, path).symlink_to(more)
    elif kind == "mode" and plain and not target.is_symlink():
        target.chmod(target.stat().st_mode ^ 0o111)
    elif kind == "delete" and plain:
        target.unlink()
    elif kind == "rename" and plain and path != more and not more.startswith(f"{path}/"):
        data = target.read_bytes()
        target.unlink()
        _make_way(root, more).write_bytes(data)
    elif kind in {"stage", "announce"} and plain:
        more_arguments = ["-N"] if kind == "announce" else []
        git(root, "add", "--force", *more_arguments, "--", path)
    elif kind == "unstage":
        git(root, "rm", "-q", "-r", "--cached", "--ignore-unmatch", "--", path)


def _start_over(workspace: LaneWorkspace, edits: list[Edit]) -> Path:
    """Bring the lane back to its base, with a first commit of some edits on it."""
    root = workspace.path
    git(root, "reset", "-q", "--hard", str(workspace.runtime.state.base_commit))
    git(root, "clean", "-qfdx")
    for edit in edits:
        _apply(root, edit)
    git(root, "add", "-A")
    git(root, "commit", "-qm", "start", "--allow-empty")
    return root


def _lines(root: Path) -> list[list[str]]:
    """Return the records of git's status, in fields."""
    text = git(
        root, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--no-renames"
    )
    return [record.split(" ", 8) for record in text.split("\0") if record]


_KINDS = {"A": "added", "M": "modified", "D": "deleted", "T": "type_changed"}


def _said_by_git(root: Path) -> dict[str, object]:
    """Return git's status in our words."""
    said: dict[str, list[object]] = {"staged": [], "unstaged": [], "untracked": [], "ab": []}
    for fields in _lines(root):
        if fields[:2] == ["#", "branch.ab"]:
            said["ab"] = [int(fields[2]), -int(fields[3])]
        elif fields[0] == "?":
            said["untracked"].append(" ".join(fields[1:]))
        elif fields[0] == "1":
            for place, letter in zip(("staged", "unstaged"), fields[1], strict=True):
                if letter != ".":
                    said[place].append((fields[8], _KINDS[letter]))
    return {key: sorted(value) if key != "ab" else value for key, value in said.items()}  # type: ignore[type-var]  # of one kind each


def _said_by_us(workspace: LaneWorkspace) -> dict[str, object]:
    status = workspace.status()
    assert status.remote is not None
    return {
        "staged": sorted((change.path, change.kind) for change in status.staged),
        "unstaged": sorted((change.path, change.kind) for change in status.unstaged),
        "untracked": sorted(status.untracked),
        "ab": [status.remote.ahead, status.remote.behind],
    }


def _tree_git_would_commit(root: Path, paths: list[str] | None) -> str:
    """Return the tree of "git add" and "git commit", in an index of its own."""
    own = Path(git(root, "rev-parse", "--absolute-git-dir").strip())
    index = own / "judge-index"
    try:
        if paths is None:
            shutil.copyfile(own / "index", index)
            git(root, "add", "-A", index=index)
        else:
            git(root, "read-tree", "HEAD", index=index)
            # By force: what somebody staged by force is only in the other index.
            git(root, "add", "-A", "--force", "--", *paths, index=index)
        return git(root, "write-tree", index=index).strip()
    finally:
        index.unlink(missing_ok=True)


@given(st.lists(st.one_of(_rules, _edits), max_size=6), st.lists(_edits, min_size=1, max_size=8))
@example(
    [("write", "d/e/a", "")],
    [("write", "d/e/keep.txt", ""), ("write", ".gitignore", "e/\n*.txt\n!keep.txt\n")],
)
@tries(30)
def test_status_and_commit_are_gits(
    workspace: LaneWorkspace, before: list[Edit], after: list[Edit]
) -> None:
    """Whatever was done to files and index, git lists the same and would write the same tree."""
    root = _start_over(workspace, before)
    for edit in after:
        _apply(root, edit)
    assert _said_by_us(workspace) == _said_by_git(root)
    expected = _tree_git_would_commit(root, None)
    if expected == git(root, "rev-parse", "HEAD^{tree}").strip():
        with pytest.raises(NothingToCommitError):
            workspace.commit("all of it")
        return
    made = workspace.commit("all of it")
    assert git(root, "rev-parse", f"{made.commit_id}^{{tree}}").strip() == expected
    assert git(root, "rev-parse", "HEAD").strip() == made.commit_id
    assert [line for line in _lines(root) if line[0] != "#"] == []
    assert workspace.status().is_clean


@given(
    st.lists(st.one_of(_rules, _edits), max_size=6),
    st.lists(_edits, min_size=1, max_size=8),
    st.data(),
)
@tries(20)
def test_commit_of_named_paths_is_gits(
    workspace: LaneWorkspace, before: list[Edit], after: list[Edit], data: st.DataObject
) -> None:
    """Named files and folders are committed as they lie there, and what else is staged stays."""
    root = _start_over(workspace, before)
    for edit in after:
        _apply(root, edit)
    status = workspace.status()
    changed = {change.path for change in (*status.staged, *status.unstaged)}
    # Git looks for a name in the index or in the worktree, and finds no other one.
    tracked = git(root, "ls-files", "-z").split("\0")
    all_of_it = {*changed, *status.untracked}
    there = [path for path in sorted(all_of_it) if path in {*tracked, *status.untracked}]
    if not there:
        return
    paths = data.draw(st.lists(st.sampled_from(there), min_size=1, max_size=3, unique=True))
    expected = _tree_git_would_commit(root, paths)
    if expected == git(root, "rev-parse", "HEAD^{tree}").strip():
        with pytest.raises(NothingToCommitError):
            workspace.commit("a part of it", paths)
        return
    made = workspace.commit("a part of it", paths)
    assert git(root, "rev-parse", f"{made.commit_id}^{{tree}}").strip() == expected
    left = workspace.status()
    kept = {change.path for change in (*left.staged, *left.unstaged)} | {*left.untracked}
    chosen = tuple(f"{path}/" for path in paths)
    # A file that a chosen one's folder has replaced is gone with it, in the index as well.
    replaced = {path for path in all_of_it if any(one.startswith(f"{path}/") for one in chosen)}
    others = {path for path in all_of_it if not f"{path}/".startswith(chosen)}
    assert kept == others - replaced
    assert _said_by_us(workspace) == _said_by_git(root)


_words = st.sampled_from(
    ("Fix it", "Key: value", "  indented", "", "", "Signed-off-by: A <a@b>", "x: y", "-- ")
)


@given(
    st.lists(_words, min_size=1, max_size=7),
    st.lists(
        st.tuples(
            st.sampled_from(("Key", "x", "Co-authored-by")),
            st.sampled_from(("value", "y", "A <a@b>")),
        ),
        max_size=3,
    ),
)
@example(["Fix", "", "prose", "Signed-off-by: A <a@b>"], [("Key", "value")])
@example(["Fix", "", "Key: value"], [("key", "value")])
@tries(40)
def test_messages_and_trailers_are_gits(
    workspace: LaneWorkspace, lines: list[str], trailers: list[tuple[str, str]]
) -> None:
    """A message is cleaned as "git commit" does, and trailers join it as git adds them."""
    root = workspace.path
    text = "\n".join(["Subject", *lines])
    arguments = [f"--trailer={key}: {value}" for key, value in trailers]
    stripped = "".join(f"{line}\n" for line in git(root, "stripspace", given=text).splitlines())
    expected = git(root, "interpret-trailers", "--no-divider", *arguments, given=stripped)
    assert compose_message(text, trailers) == (expected if trailers else stripped)


def test_commits_beside_gits_own_all_stay(workspace: LaneWorkspace) -> None:
    """While git commits in the same worktree, no commit and no file of either side is lost."""
    root = _start_over(workspace, [])
    failures: list[str] = []

    def theirs() -> None:
        for number in range(8):
            (root / f"git{number}").write_text("git\n")
            while True:
                # Git does not wait for the index: whoever types it would type it again.
                try:
                    git(root, "add", "--", f"git{number}")
                    git(root, "commit", "-qm", f"git {number}", "--", f"git{number}")
                    break
                except AssertionError as failure:
                    if "index.lock" not in str(failure) and "cannot lock ref" not in str(failure):
                        failures.append(str(failure))
                        break

    beside = threading.Thread(target=theirs)
    beside.start()
    for number in range(8):
        (root / f"ours{number}").write_text("ours\n")
        workspace.commit(f"ours {number}", [f"ours{number}"])
    beside.join()
    assert failures == []
    names = {f"{who}{number}" for who in ("git", "ours") for number in range(8)}
    assert names <= set(git(root, "ls-tree", "--name-only", "HEAD").split())
    subjects = git(root, "log", "--format=%s", "-n", "16").splitlines()
    assert sorted(subjects) == sorted(f"{name[:-1]} {name[-1]}" for name in names)
    assert workspace.status().is_clean
    git(root, "fsck", "--strict")


def _files(root: Path) -> dict[str, bytes]:
    """Return what is in a worktree, links as what they say."""
    found: dict[str, bytes] = {}
    for path in root.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(root))] = b"-> " + os.fsencode(path.readlink())
        elif path.is_file() and path.name != ".git":
            found[str(path.relative_to(root))] = (
                oct(path.stat().st_mode).encode() + path.read_bytes()
            )
    return found


@given(
    st.lists(st.one_of(_rules, _edits), max_size=6),
    st.lists(_edits, min_size=1, max_size=6),
    # What was announced alone is a mark on the index, and stays where it is.
    st.lists(_edits.filter(lambda edit: edit[0] != "announce"), max_size=2),
)
@tries(25)
def test_moving_forward_loses_nothing_and_leaves_what_git_would(
    workspace: LaneWorkspace, before: list[Edit], after: list[Edit], drafts: list[Edit]
) -> None:
    """Either everything is as it was, or git sees the new commit and the drafts beside it."""
    root = _start_over(workspace, before)
    start = git(root, "rev-parse", "HEAD").strip()
    for edit in after:
        _apply(root, edit)
    git(root, "add", "-A")
    git(root, "commit", "-qm", "theirs", "--allow-empty")
    target = git(root, "rev-parse", "HEAD").strip()
    expected: dict[str, bytes] = {}
    for commit in (start, target, start):
        # As git writes them, line endings and all.
        expected = _files(root) if commit == start else expected
        git(root, "reset", "-q", "--hard", commit)
        git(root, "clean", "-qfdx")
    for edit in drafts:
        _apply(root, edit)
    as_it_was = _lines(root), _files(root)
    kept = {path: data for path, data in as_it_was[1].items() if path not in _tracked(root)}
    repository = open_repository(root)
    ref = f"refs/heads/{workspace.branch}"
    try:
        fast_forward(repository, ref, tip=start, target=target, message="pull")
    except LaneConflictError:
        assert (_lines(root), _files(root)) == as_it_was
        assert drafts
        return
    assert git(root, "rev-parse", "HEAD").strip() == target
    assert [line for line in _lines(root) if line[0] not in "#?"] == []
    assert _files(root) == {**expected, **kept}


def _tracked(root: Path) -> set[str]:
    return set(git(root, "ls-files", "-z").split("\0"))


@given(st.lists(_edits, max_size=6), st.lists(_edits, min_size=1, max_size=6))
@tries(25)
def test_diffs_are_gits(workspace: LaneWorkspace, before: list[Edit], after: list[Edit]) -> None:
    """Files, renames and numbers of lines are git's, and the text applies with git."""
    root = _start_over(workspace, before)
    base = git(root, "rev-parse", "HEAD").strip()
    for edit in after:
        _apply(root, edit)
    git(root, "add", "-A")
    git(root, "commit", "-qm", "ours", "--allow-empty")
    head = git(root, "rev-parse", "HEAD").strip()
    shown = diff_between(open_repository(root), base, head)
    counted = git(root, "diff", "--numstat", "-z", "--no-renames", base, head)
    said = {
        line.split("\t")[2]: tuple(line.split("\t")[:2]) for line in counted.split("\0") if line
    }
    sources = {file.old_path for file in shown.files if file.old_path is not None}
    ours = {
        file.path: ("-", "-") if file.is_binary else (str(file.additions), str(file.deletions))
        for file in shown.files
        # Of a file that became a link libgit2 may find the old half elsewhere; git does not look.
        if file.old_path is None and file.path not in sources
    }
    assert ours.items() <= said.items()
    assert set(said) == {file.path for file in shown.files} | sources
    if any(file.is_binary for file in shown.files):
        return
    git(root, "reset", "-q", "--hard", base)
    git(root, "apply", "--cached", "--allow-empty", "--whitespace=nowarn", "-", given=shown.text)
    assert git(root, "write-tree").strip() == git(root, "rev-parse", f"{head}^{{tree}}").strip()


@pytest.mark.parametrize("settings", [(), ("--depth=1",)])
def test_a_clone_is_gits(agentrelay_world: World, settings: tuple[str, ...]) -> None:
    """Refs, branch settings, files and shallowness are those of "git clone"."""
    world = agentrelay_world
    origin = pygit2.Repository(str(world.remote_path))
    origin.references.create("refs/tags/v1", origin.references["refs/heads/main"].target)
    origin.references.create("refs/heads/other", origin.references["refs/heads/main"].target)
    ours = clone(
        world.remote_url, world.root / "ours", token=world.token, depth=1 if settings else None
    )
    url = world.remote_url.replace("://", f"://x:{world.token}@")
    git(world.root, "clone", "-q", *settings, url, "theirs")
    theirs = world.root / "theirs"
    for question in (
        ("for-each-ref", "--format=%(refname) %(objectname) %(symref) %(upstream)"),
        ("status", "--porcelain=v2", "--branch"),
        ("rev-list", "--all", "--count"),
        ("rev-parse", "--is-shallow-repository"),
        ("ls-files", "-s"),
        ("config", "--get-all", "remote.origin.fetch"),
    ):
        said = git(theirs, *question)
        if settings and question[0] == "for-each-ref":
            # Git fetches the tag of a commit it fetches anyway; of a shallow clone we do not.
            said = said.replace(next(line for line in said.splitlines(True) if "v1" in line), "")
        assert git(ours, *question) == said
    git(ours, "fsck", "--strict")
