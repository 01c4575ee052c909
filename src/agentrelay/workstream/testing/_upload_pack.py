"""The answering side of a fetch: what is on offer, what is common, and the pack.

Source:
    gitprotocol-pack(5), "Packfile Negotiation"; gitprotocol-http(5), "Smart Service
    git-upload-pack".
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pygit2
from pygit2.enums import ObjectType, SortMode

from agentrelay.workstream.testing._git_protocol import ProtocolError, UploadRequest, advertise
from agentrelay.workstream.testing._packs import TREE, PackError, tree_entries
from agentrelay.workstream.testing._pktline import BAND_PACK, FLUSH, PktLineError, frame, side_band

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

__all__ = ["advertisement", "answer_fetch"]

_NO_OBJECTS: Final = b"PACK" + (2).to_bytes(4) + (0).to_bytes(4)


def advertisement(repo: pygit2.Repository, service: str) -> bytes:
    """Return the answer to ``GET info/refs``.

    Args:
        repo: The repository.
        service: ``git-upload-pack``, or ``git-receive-pack``, which is shown neither
            HEAD nor what tags lead to.
    """
    entries: list[tuple[str, str]] = []
    symrefs: dict[str, str] = {}
    fetches = service == "git-upload-pack"
    for name, oid in _refs(repo):
        entries.append((name, oid))
        if fetches and name.startswith("refs/tags/"):
            item = repo[oid]
            # Asked for "anything else", libgit2 would peel a commit to its tree.
            if isinstance(item, pygit2.Tag):
                entries.append((f"{name}^{{}}", str(item.peel(None).id)))
    if fetches:
        # From the refs just read, not from HEAD again: somebody may be moving them.
        head = repo.lookup_reference("HEAD").target
        tip = dict(entries).get(head) if isinstance(head, str) else str(head)
        if tip is not None:
            entries.insert(0, ("HEAD", tip))
            if isinstance(head, str):
                symrefs["HEAD"] = head
    return advertise(service, entries, symrefs=symrefs)


def answer_fetch(repo: pygit2.Repository, body: bytes) -> bytes:
    """Return the answer to ``POST git-upload-pack``.

    Args:
        repo: The repository.
        body: The request.
    """
    try:
        request = UploadRequest.parse(body)
        if not request.wants:
            return b""
        _refuse_strangers(repo, request.wants)
        wants, tags = _peeled(repo, request.wants)
        common = [oid for oid in request.haves if oid in repo]
        answer, edge = b"", request.shallow
        if request.depth is not None:
            edge = frozenset(_reach(repo, wants, depth=request.depth)[1])
            answer += _shallow_lines(repo, request, wants, edge)
        answer += b"".join(map(frame, _acknowledgements(repo, request, wants)))
        if not request.done:
            return answer
        pack = _pack(repo, [*tags, *_needed(repo, request, wants, common, edge)])
    except (ProtocolError, PktLineError, PackError, KeyError) as error:
        # KeyError: this repository is damaged and lacks an object it should have.
        return frame(f"ERR upload-pack: {error}")
    if "side-band-64k" in request.capabilities:
        return answer + side_band(BAND_PACK, pack) + FLUSH
    return answer + pack


def _refs(repo: pygit2.Repository) -> Iterator[tuple[str, str]]:
    """Yield the refs by name, without broken ones, which git does not show either."""
    for name in sorted(repo.references):
        try:
            oid = repo.lookup_reference(name).resolve().target
        except (KeyError, pygit2.GitError):
            continue
        if oid in repo:
            yield name, str(oid)


def _refuse_strangers(repo: pygit2.Repository, wants: Iterable[str]) -> None:
    """Refuse what no ref leads to.

    A commit below a tip is allowed: a ref may have moved between a client's two
    requests, and git accepts it over HTTP for the same reason.

    Raises:
        ProtocolError: In git's words.
    """
    tips = {oid for _, oid in _refs(repo)}
    if repo.head_is_detached:
        tips.add(str(repo.head.target))
    for want in wants:
        if want in tips:
            continue
        # Only a commit can be below another one; for the rest there is no such question.
        if want in repo and repo.odb.read_header(want)[0] == ObjectType.COMMIT:
            commits = _peeled(repo, tips)[0]
            if any(repo.descendant_of(tip, want) for tip in commits):
                continue
        raise ProtocolError(f"not our ref {want}")


def _peeled(repo: pygit2.Repository, ids: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the commits that ids lead to, and every other object on the way."""
    commits: list[str] = []
    others: list[str] = []
    for oid in ids:
        item = repo[oid]
        while isinstance(item, pygit2.Tag):
            others.append(str(item.id))
            item = item.get_object()
        is_commit = item.type == ObjectType.COMMIT
        (commits if is_commit else others).append(str(item.id))
    return commits, others


def _reach(
    repo: pygit2.Repository,
    starts: Iterable[str],
    *,
    cut: Collection[str] = (),
    depth: int | None = None,
) -> tuple[set[str], set[str]]:
    """Return the commits reached from ``starts``, and those at the end of ``depth``.

    Args:
        repo: The repository.
        starts: Commits to start from; generation 1.
        cut: Commits whose parents are not followed.
        depth: Last generation, or ``None`` for all.
    """
    reached: set[str] = set()
    edge: set[str] = set()
    level, generation = set(starts), 1
    while level:
        reached |= level
        following: set[str] = set()
        for oid in level:
            parents = (
                [] if oid in cut else [str(parent) for parent in _commit(repo, oid).parent_ids]
            )
            if parents and generation == depth:
                edge.add(oid)
            else:
                following.update(parents)
        level = following - reached
        generation += 1
    return reached, edge


def _commit(repo: pygit2.Repository, oid: str) -> pygit2.Commit:
    return repo[oid].peel(pygit2.Commit)


def _shallow_lines(
    repo: pygit2.Repository, request: UploadRequest, wants: list[str], edge: frozenset[str]
) -> bytes:
    """Say where the client's history will be cut, and where it no longer is."""
    inside = _reach(repo, wants, depth=request.depth)[0]
    grown = (request.shallow & inside) - edge
    lines = [f"shallow {oid}" for oid in sorted(edge - request.shallow)]
    lines += [f"unshallow {oid}" for oid in sorted(grown)]
    return b"".join(map(frame, lines)) + FLUSH


def _acknowledgements(
    repo: pygit2.Repository, request: UploadRequest, wants: list[str]
) -> Iterator[str]:
    """Yield the lines that tell the client what is common, in the dialect it chose."""
    detailed = "multi_ack_detailed" in request.capabilities
    multiple = detailed or "multi_ack" in request.capabilities
    word = " common" if detailed else " continue" if multiple else ""
    common: list[str] = []
    last = len(request.rounds) - 1
    for number, haves in enumerate(request.rounds):
        found = [oid for oid in haves if oid in repo]
        # The plain dialect names the first one and then keeps silent.
        named = found if multiple else found[: 0 if common else 1]
        yield from (f"ACK {oid}{word}\n" for oid in named)
        common += found
        if request.done and number == last:
            break
        if detailed and common and _settled(repo, wants, common):
            yield f"ACK {common[-1]} ready\n"
        if multiple or not common:
            yield "NAK\n"
    if request.done and not common:
        yield "NAK\n"
    elif request.done and multiple:
        yield f"ACK {common[-1]}\n"


def _settled(repo: pygit2.Repository, wants: list[str], common: list[str]) -> bool:
    """Tell whether every wanted commit leads to a common one: more haves add nothing."""
    return all(
        any(want == oid or repo.descendant_of(want, oid) for oid in common) for want in wants
    )


def _needed(
    repo: pygit2.Repository,
    request: UploadRequest,
    wants: list[str],
    common: list[str],
    edge: frozenset[str],
) -> Iterator[str]:
    """Yield the objects the client lacks."""
    there: set[str] | None = None
    seen: set[str] = set()
    if request.shallow or edge:
        # Where history is cut there may be no parent to compare with, but what the
        # client's own commits hold it still has.
        for oid in common:
            seen.update(_new_in_tree(repo, str(_commit(repo, oid).tree_id), [], seen))
        held = _reach(repo, common, cut=request.shallow)[0]
        sent: Iterable[str] = _reach(repo, wants, cut=edge)[0] - held
        there = held.union(sent)
    else:
        # libgit2's walker stops early where everything left is common.
        walker = repo.walk(None, SortMode.NONE)
        for oid in wants:
            walker.push(oid)
        for oid in common:
            walker.hide(oid)
        sent = (str(commit.id) for commit in walker)
    for oid in sent:
        commit = _commit(repo, oid)
        parents = [parent for parent in commit.parent_ids if there is None or str(parent) in there]
        trees = [str(_commit(repo, str(parent)).tree_id) for parent in parents]
        yield oid
        yield from _new_in_tree(repo, str(commit.tree_id), trees, seen)


def _new_in_tree(
    repo: pygit2.Repository, tree: str, olds: list[str], seen: set[str]
) -> Iterator[str]:
    """Yield a tree and what it holds, except what stands in the same place in ``olds``."""
    if tree in seen or tree in olds:
        return
    seen.add(tree)
    yield tree
    before = [{name: oid for name, _, oid in tree_entries(repo.odb.read(old)[1])} for old in olds]
    for name, kind, oid in tree_entries(repo.odb.read(tree)[1]):
        places = [names[name] for names in before if name in names]
        if kind is None or oid in places:
            continue
        if kind == TREE:
            trees = [old for old in places if repo.odb.read_header(old)[0] == ObjectType.TREE]
            yield from _new_in_tree(repo, oid, trees, seen)
        elif oid not in seen:
            seen.add(oid)
            yield oid


def _pack(repo: pygit2.Repository, ids: Iterable[str]) -> bytes:
    """Return a pack of objects; libgit2 chooses the deltas."""
    builder = pygit2.PackBuilder(repo)
    # Repositories of tests are small: starting threads would take longer than packing.
    builder.set_threads(1)
    for oid in ids:
        builder.add(pygit2.Oid(hex=oid))
    if not len(builder):
        return _NO_OBJECTS + hashlib.sha1(_NO_OBJECTS, usedforsecurity=False).digest()
    with tempfile.TemporaryDirectory(prefix="agentrelay-pack-") as folder:
        builder.write(folder)
        (pack,) = Path(folder).glob("*.pack")
        return pack.read_bytes()
