"""The stock git program looks at the lanes we make, on every kind of remote."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pygit2
import pytest

from agentrelay.workstream import (
    CredentialsRejectedError,
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    PushRejectedError,
    RemoteUnavailableError,
    WorkstreamRuntime,
    WorkstreamSpec,
    prepare_all,
    teardown_all,
)
from agentrelay.workstream.testing.repositories import (
    clone_repository,
    commit_files,
    create_bare_repository,
    read_tree,
    refs,
)
from tests.interop._stock_git import GIT, IDENTITY, run_git

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin")
KEYGEN = shutil.which("ssh-keygen")
BRANCH = "agentrelay/nightly/parser/integration"
REF = f"refs/heads/{BRANCH}"

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(GIT is None, reason="there is no git program to judge"),
]


def git(cwd: Path, *arguments: str, check: bool = True) -> str:
    """Run the stock git without any of the machine's configuration."""
    done = run_git(cwd, *arguments, **IDENTITY)
    if check:
        assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return a bare repository that plays the remote."""
    return create_bare_repository(tmp_path / "served" / "origin.git")


@pytest.fixture
def repo(bare: Path, tmp_path: Path) -> Path:
    """Return a clone of it."""
    return clone_repository(bare, tmp_path / "clone")


def prepare(repo: Path, workstream_id: str = "parser", **settings: Any) -> WorkstreamRuntime:
    """Prepare a lane and return its runtime."""
    runtime = WorkstreamRuntime(WorkstreamSpec(workstream_id))
    GitWorkstreamPreparer(repo, "nightly", **settings).prepare_workstream(runtime)
    return runtime


def test_git_finds_nothing_odd_about_a_batch(repo: Path, bare: Path) -> None:
    """Every lane of one is a worktree like any other, tracks, is clean, and goes without trace."""
    config = (repo / ".git" / "config").read_bytes()
    runtimes = [WorkstreamRuntime(WorkstreamSpec(f"lane{number}")) for number in range(7)]
    for result in prepare_all(runtimes, GitWorkstreamPreparer(repo, "nightly")):
        assert result.error is None
    git(repo, "pack-refs", "--all")
    listed = git(repo, "worktree", "list", "--porcelain")
    for runtime in runtimes:
        worktree, branch = runtime.state.worktree_path, runtime.state.branch_name
        assert worktree is not None
        head = (
            f"worktree {worktree}\nHEAD {runtime.state.base_commit}\nbranch refs/heads/{branch}\n"
        )
        assert head in listed
        assert git(worktree, "status", "--porcelain", "--branch") == (
            f"## {branch}...origin/{branch}\n"
        )
        assert git(worktree, "push", "--dry-run").strip() == "Everything up-to-date"
    assert git(repo, "worktree", "prune", "-v", "--dry-run") == ""
    for path in (repo, bare):
        assert "error" not in git(path, "fsck", "--full", "--strict")

    for result in teardown_all(runtimes, GitWorkstreamTeardown(repo)):
        assert (result.error, result.runtime.artifacts.concerns) == (None, [])
    assert git(repo, "worktree", "list", "--porcelain").count("worktree ") == 1
    assert "agentrelay" not in git(repo, "for-each-ref") + git(bare, "for-each-ref")
    assert (repo / ".git" / "config").read_bytes() == config
    for path in (repo, bare):
        assert "error" not in git(path, "fsck", "--full", "--strict")


def test_git_finds_nothing_odd_about_a_lane(repo: Path, bare: Path) -> None:
    """List, status, fsck and prune see a worktree like any other."""
    runtime = prepare(repo)
    worktree = runtime.state.worktree_path
    assert worktree is not None
    listed = git(repo, "worktree", "list", "--porcelain")
    assert f"worktree {worktree}\nHEAD {runtime.state.base_commit}\nbranch {REF}\n" in listed
    assert "prunable" not in listed
    assert "locked" not in listed
    assert git(repo, "worktree", "prune", "-v") == ""
    assert git(repo, "status", "--porcelain") == ""
    assert git(worktree, "status", "--porcelain=v2", "--branch").splitlines() == [
        f"# branch.oid {runtime.state.base_commit}",
        f"# branch.head {BRANCH}",
        f"# branch.upstream origin/{BRANCH}",
        "# branch.ab +0 -0",
    ]
    for where in (repo, bare):
        assert git(where, "fsck", "--strict") == ""
    assert git(worktree, "diff-files", "--quiet") == ""


def test_a_plain_push_from_the_worktree_goes_to_the_lanes_branch(repo: Path, bare: Path) -> None:
    """An agent with git types ``git push`` and nothing else."""
    worktree = prepare(repo).state.worktree_path
    assert worktree is not None
    (worktree / "work.py").write_text("pass\n")
    git(worktree, "add", "-A")
    git(worktree, "commit", "-qm", "work")
    git(worktree, "push", "-q")
    assert refs(bare)[REF] == git(worktree, "rev-parse", "HEAD").strip()
    assert refs(bare)["refs/heads/main"] != refs(bare)[REF]


def test_git_removes_a_lane_we_made_and_we_remove_what_git_made(repo: Path, bare: Path) -> None:
    """A lane made by ``git worktree add`` is adopted and torn down like ours."""
    prepare(repo)
    git(repo, "worktree", "remove", ".worktrees/nightly/parser")
    assert "parser" not in git(repo, "worktree", "list")
    git(repo, "worktree", "add", "-q", ".worktrees/nightly/parser", BRANCH)
    runtime = prepare(repo)
    GitWorkstreamTeardown(repo).teardown_workstream(runtime)
    assert runtime.artifacts.concerns == []
    assert git(repo, "worktree", "list").count("\n") == 1
    assert REF not in refs(repo)
    assert REF not in refs(bare)
    assert git(repo, "fsck", "--strict") == ""


def test_rescued_work_survives_gits_garbage_collection(repo: Path) -> None:
    """What a teardown kept is still there after ``git gc --prune=now``."""
    runtime = prepare(repo)
    worktree = runtime.state.worktree_path
    assert worktree is not None
    commit_files(worktree, {"work.py": "pass"}, message="work")
    (worktree / "draft.txt").write_text("draft")
    GitWorkstreamTeardown(repo).teardown_workstream(runtime)
    git(repo, "reflog", "expire", "--expire=now", "--all")
    git(repo, "gc", "-q", "--prune=now")
    kept = {ref: read_tree(repo, ref) for ref in refs(repo) if "/rescue/" in ref}
    assert any(tree.get("work.py") == b"pass" for tree in kept.values())
    assert any(tree.get("draft.txt") == b"draft" for tree in kept.values())
    assert git(repo, "fsck", "--strict") == ""


def test_lanes_made_by_threads_beside_git_packing_refs_are_all_whole(
    repo: Path, bare: Path
) -> None:
    """Twelve lanes come and go while git packs refs and prunes; no branch is lost."""
    handle = pygit2.Repository(str(repo))
    for number in range(40):
        handle.references.create(f"refs/heads/theirs/{number}", handle.head.target)
    done = threading.Event()
    failures: list[BaseException] = []

    def disturb() -> None:
        while not done.is_set():
            git(repo, "pack-refs", "--all", check=False)
            git(repo, "worktree", "prune", check=False)

    def work(number: int) -> None:
        try:
            runtime = prepare(repo, f"lane{number}")
            GitWorkstreamTeardown(repo).teardown_workstream(runtime)
            assert runtime.artifacts.concerns == []
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    disturber = threading.Thread(target=disturb)
    workers = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    disturber.start()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    done.set()
    disturber.join()
    assert failures == []
    names = set(refs(repo))
    assert {f"refs/heads/theirs/{number}" for number in range(40)} <= names
    left = [
        name for name in [*refs(repo), *(f"remote {ref}" for ref in refs(bare))] if "lane" in name
    ]
    assert left == []
    assert git(repo, "fsck", "--strict") == ""


# -- a stock git http-backend as the remote -------------------------------------------


class _Backend(BaseHTTPRequestHandler):
    """Runs ``git http-backend`` as a CGI program, behind Basic authentication."""

    protocol_version = "HTTP/1.1"
    root: Path

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

    def do_GET(self) -> None:
        """Serve one request."""
        self._serve()

    def do_POST(self) -> None:
        """Serve one request."""
        self._serve()

    def _serve(self) -> None:
        body = self._body()
        wanted = "Basic " + base64.b64encode(b"x-access-token:right").decode()
        if self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        done = subprocess.run(
            [str(GIT), "http-backend"],
            input=body,
            capture_output=True,
            check=False,
            timeout=120,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "GIT_PROJECT_ROOT": str(self.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": os.devnull,
                "REMOTE_USER": "agent",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            },
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().strip(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


@pytest.fixture
def backend_url(bare: Path) -> Iterator[str]:
    """Serve the remote by ``git http-backend`` on loopback."""
    handler = type("Handler", (_Backend,), {"root": bare.parent})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/origin.git"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_whole_lane_over_gits_own_http_backend(repo: Path, bare: Path, backend_url: str) -> None:
    """Prepare and teardown work against git's own server, with a token."""
    pygit2.Repository(str(repo)).remotes.set_url("origin", backend_url)
    runtime = prepare(repo, token="right")
    assert refs(bare)[REF] == runtime.state.base_commit
    GitWorkstreamTeardown(repo, token="right").teardown_workstream(runtime)
    assert runtime.artifacts.concerns == []
    assert REF not in refs(bare)
    with pytest.raises(CredentialsRejectedError, match="token argument") as caught:
        prepare(repo, token="wrong-secret")
    assert "wrong-secret" not in repr(caught.value)


def test_what_a_hook_declines_is_an_error_in_its_own_words(
    repo: Path, bare: Path, backend_url: str
) -> None:
    """A refused ref is never taken for a success, and the hook's words are repeated."""
    hook = bare / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        '#!/bin/sh\ncase "$1" in *parser*) echo "lanes are closed" >&2; exit 1;; esac\n'
    )
    hook.chmod(0o755)
    pygit2.Repository(str(repo)).remotes.set_url("origin", backend_url)
    with pytest.raises(PushRejectedError) as caught:
        prepare(repo, token="right")
    assert caught.value.ref == REF
    assert "hook declined" in caught.value.reason
    assert "lanes are closed" in str(caught.value)
    assert REF not in refs(bare)
    hook.unlink()
    prepare(repo, token="right")
    assert REF in refs(bare)


# -- a stock OpenSSH server as the remote -----------------------------------------------


@pytest.fixture
def ssh(bare: Path, tmp_path: Path) -> Iterator[tuple[str, Path, Path]]:
    """Serve the remote by sshd on loopback; return its URL, a good key and its host key."""
    if SSHD is None or KEYGEN is None:
        pytest.skip("there is no OpenSSH server")
    for name in ("host", "good"):
        key = str(tmp_path / name)
        subprocess.run([KEYGEN, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    with suppress(PermissionError):  # where only root may make it, only root needs it
        Path("/run/sshd").mkdir(exist_ok=True)
    for _ in range(5):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        # Somebody else may take the port before it does.
        server = _start_sshd(SSHD, tmp_path, port)
        if server is not None:
            break
    else:
        pytest.skip("sshd does not start here")
    assert server.stderr is not None
    drain = threading.Thread(target=server.stderr.read, daemon=True)
    drain.start()
    user = os.environ.get("USER") or "root"
    yield f"ssh://{user}@127.0.0.1:{port}{bare}", tmp_path / "good", tmp_path / "host.pub"
    server.terminate()
    server.wait()
    drain.join()
    server.stderr.close()


def _start_sshd(program: str, tmp_path: Path, port: int) -> subprocess.Popen[str] | None:
    """Start an ssh server, and return it once it listens; ``None`` if it does not."""
    config = tmp_path / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path / 'host'}\n"
        f"AuthorizedKeysFile {tmp_path / 'good.pub'}\nStrictModes no\nPidFile none\n"
        "PasswordAuthentication no\nPermitRootLogin yes\nLogLevel INFO\n"
    )
    server = subprocess.Popen(
        [program, "-D", "-e", "-f", str(config)], stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    for line in server.stderr:
        if "Server listening" in line:
            return server
    server.wait()
    server.stderr.close()
    return None


@pytest.fixture
def known_hosts(tmp_path: Path) -> Iterator[Path]:
    """Return a known_hosts file that libgit2 reads; it looks its home up once, at its start."""
    before = pygit2.settings.homedir
    home = tmp_path / "ssh-home"
    (home / ".ssh").mkdir(parents=True)
    pygit2.settings.homedir = str(home)
    yield home / ".ssh" / "known_hosts"
    pygit2.settings.homedir = before or ""


def test_a_whole_lane_over_ssh_to_a_known_host(
    repo: Path, bare: Path, ssh: tuple[str, Path, Path], known_hosts: Path
) -> None:
    """With an explicit key and the host's key on file, a lane comes and goes."""
    url, key, host_key = ssh
    port = url.split(":")[2].split("/")[0]
    pygit2.Repository(str(repo)).remotes.set_url("origin", url)

    known_hosts.write_text(f"[127.0.0.1]:{port} {key.with_suffix('.pub').read_text()}")
    with pytest.raises(RemoteUnavailableError, match="hostkey") as caught:
        prepare(repo, ssh_key=key)
    assert "known_hosts" in str(caught.value.hint)
    assert REF not in refs(bare)

    known_hosts.write_text(f"[127.0.0.1]:{port} {host_key.read_text()}")
    runtime = prepare(repo, ssh_key=key)
    assert refs(bare)[REF] == runtime.state.base_commit
    GitWorkstreamTeardown(repo, ssh_key=key).teardown_workstream(runtime)
    assert runtime.artifacts.concerns == []
    assert REF not in refs(bare)


def test_an_ssh_key_nobody_authorized_is_refused_by_name(
    repo: Path, ssh: tuple[str, Path, Path], known_hosts: Path, tmp_path: Path
) -> None:
    """Each key is offered once, and the error says where the last one came from."""
    url, _, host_key = ssh
    port = url.split(":")[2].split("/")[0]
    known_hosts.write_text(f"[127.0.0.1]:{port} {host_key.read_text()}")
    pygit2.Repository(str(repo)).remotes.set_url("origin", url)
    wrong = tmp_path / "wrong"
    assert KEYGEN is not None
    subprocess.run([KEYGEN, "-q", "-t", "ed25519", "-N", "", "-f", str(wrong)], check=True)
    with pytest.raises(CredentialsRejectedError, match="the last from the ssh key argument"):
        prepare(repo, ssh_key=wrong)
