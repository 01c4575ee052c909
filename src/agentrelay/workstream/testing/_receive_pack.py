"""The answering side of a push: objects, rules, and one verdict for each ref.

Source:
    gitprotocol-pack(5), "Pushing Data To a Server"; git-config(1), ``receive.*``. The
    words of refusals are git's own, because clients and people look for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pygit2

from agentrelay.workstream.testing._git_protocol import PushRequest, RefUpdate, push_report
from agentrelay.workstream.testing._packs import COMMIT, PackedObject, PackError, links, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

__all__ = ["PushRules", "answer_push"]

_ATOMIC = "atomic push failure"
_NOT_UPDATED = "failed to update ref"


@dataclass(frozen=True)
class PushRules:
    """What the server refuses.

    Attributes:
        deny_non_fast_forwards: Branches only grow (``receive.denyNonFastForwards``).
        deny_deletes: Nothing is deleted (``receive.denyDeletes``).
        deny_delete_current: The branch HEAD names stays (``receive.denyDeleteCurrent``).
        hooks: Get the updates no rule refused, and return reasons by ref.
        planned: Returns the reason of a planned refusal of a ref, or ``None``.
    """

    deny_non_fast_forwards: bool
    deny_deletes: bool
    deny_delete_current: bool
    hooks: Sequence[Callable[[Sequence[RefUpdate]], Mapping[str, str]]]
    planned: Callable[[str], str | None]


def answer_push(
    repo: pygit2.Repository, body: bytes, *, rules: PushRules, lock: AbstractContextManager[object]
) -> bytes:
    """Carry out a push and return the answer.

    Args:
        repo: The repository.
        body: The body of ``POST git-receive-pack``.
        rules: What is refused.
        lock: Held while refs are compared and moved.

    Raises:
        ProtocolError: The commands are not commands.
        PktLineError: The request is cut off before its pack.
    """
    request = PushRequest.parse(body)
    if not request.updates:
        return b""  # git knocks with an empty request before it sends a large one.
    push = _Push(repo, request, rules)
    try:
        push.read_pack()
    except PackError as error:
        refusals = {update.ref: "unpacker error" for update in request.updates}
        return push_report(
            request.updates, refusals, capabilities=request.capabilities, unpack=str(error)
        )
    with lock:
        push.judge()
        push.apply()
    return push_report(
        request.updates, push.refusals, capabilities=request.capabilities, messages=push.messages
    )


class _Push:
    """One push while it is being decided."""

    def __init__(self, repo: pygit2.Repository, request: PushRequest, rules: PushRules) -> None:
        self.repo = repo
        self.request = request
        self.rules = rules
        self.refusals: dict[str, str] = {}
        self.messages: list[str] = []
        self._incoming: dict[str, PackedObject] = {}

    def read_pack(self) -> None:
        """Unpack into memory, checking nothing but the pack itself.

        Raises:
            PackError: The pack is damaged or missing.
        """
        if any(update.new_id for update in self.request.updates):
            self._incoming = unpack(self.request.pack, self._stored)

    def _stored(self, oid: str) -> PackedObject | None:
        if oid not in self.repo:
            return None
        kind, data = self.repo.odb.read(oid)
        return PackedObject(int(kind), data)

    @property
    def _alive(self) -> list[RefUpdate]:
        return [update for update in self.request.updates if update.ref not in self.refusals]

    def judge(self) -> None:
        """Decide about every update; nothing is written."""
        for update in self._alive:
            reason = self._rule_broken_by(update)
            if reason is not None:
                self.refusals[update.ref] = reason
        for hook in self.rules.hooks:
            for ref, text in hook(tuple(self._alive)).items():
                reason, *said = text.splitlines() or [""]
                self.refusals[ref] = reason or "pre-receive hook declined"
                self.messages += said
        for update in self._alive:
            reason = self.rules.planned(update.ref)
            if reason is not None:
                self.refusals[update.ref] = reason
        for update in self._alive:
            self._compare(update)

    def _rule_broken_by(self, update: RefUpdate) -> str | None:
        if not update.ref.startswith("refs/") or not pygit2.reference_is_valid_name(update.ref):
            return "funny refname"
        if update.new_id is None:
            return self._deletion_refused(update.ref)
        try:
            if not self._is_whole(update.new_id):
                return "missing necessary objects"
        except PackError as error:
            self.messages.append(f"error: {error}")
            return "missing necessary objects"
        if update.ref.startswith("refs/heads/"):
            return self._branch_update_refused(update.ref, update.old_id, update.new_id)
        return None

    def _deletion_refused(self, ref: str) -> str | None:
        if self.rules.deny_deletes:
            return "deletion prohibited"
        if self.rules.deny_delete_current and ref == self.repo.lookup_reference("HEAD").target:
            return "deletion of the current branch prohibited"
        return None

    def _branch_update_refused(self, ref: str, old_id: str | None, new_id: str) -> str | None:
        item = self._incoming.get(new_id) or self._stored(new_id)
        if item is None or item.kind != COMMIT:
            self.messages.append(f"error: cannot update ref '{ref}': not a commit")
            return _NOT_UPDATED
        if old_id is None or not self.rules.deny_non_fast_forwards:
            return None
        return None if self._leads_to(new_id, old_id) else "non-fast-forward"

    def _is_whole(self, oid: str) -> bool:
        """Tell whether everything an object needs is in the pack or here already.

        What is here already is taken as whole: it came in through the same check.
        """
        pending, seen = [oid], {oid}
        while pending:
            item = self._incoming.get(pending[-1])
            if item is None:
                if pending.pop() not in self.repo:
                    return False
                continue
            pending.pop()
            needed = [link for link in links(item) if link not in seen]
            seen.update(needed)
            pending += needed
        return True

    def _leads_to(self, new_id: str, old_id: str) -> bool:
        """Tell whether ``old_id`` is ``new_id`` or one of its ancestors."""
        pending, seen = [new_id], {new_id}
        while pending:
            oid = pending.pop()
            if oid == old_id:
                return True
            item = self._incoming.get(oid)
            if item is not None:
                parents = [link for link in links(item)[1:] if link not in seen]
                seen.update(parents)
                pending += parents
            elif old_id in self.repo and self.repo.descendant_of(oid, old_id):
                return True
        return False

    def _compare(self, update: RefUpdate) -> None:
        """Refuse an update whose client looked at the ref before somebody else moved it."""
        try:
            found = str(self.repo.lookup_reference(update.ref).resolve().target)
        except KeyError:
            if update.new_id is None:
                self.messages.append("warning: deleting a non-existent ref")
                return
            found = None
        if found == update.old_id or (update.old_id is None and update.new_id is None):
            return
        detail = f"is at {found} but expected {update.old_id}"
        if update.old_id is None:
            detail = "reference already exists"
        elif found is None:
            detail = f"unable to resolve reference '{update.ref}'"
        self._fail(update, detail)

    def _fail(self, update: RefUpdate, detail: str) -> None:
        self.refusals[update.ref] = _NOT_UPDATED
        self.messages.append(f"error: cannot lock ref '{update.ref}': {detail}")

    def apply(self) -> None:
        """Store the objects and move the refs that nothing speaks against."""
        if self.refusals and "atomic" in self.request.capabilities:
            self.refusals |= {update.ref: _ATOMIC for update in self._alive}
        accepted = self._alive
        if any(update.new_id for update in accepted):
            for oid, item in self._incoming.items():
                if oid not in self.repo:
                    self.repo.odb.write(item.kind, item.data)
        for update in accepted:
            try:
                self._move(update)
            except (pygit2.GitError, OSError, KeyError, ValueError) as error:
                # A name in the way (a/b beside a), or a writer that is not this server.
                self._fail(update, str(error))

    def _move(self, update: RefUpdate) -> None:
        """Move one ref.

        libgit2 itself notices a writer outside this server that comes between its look
        at the ref and its write; only the moment since our own look is not covered.
        """
        references = self.repo.references
        if update.new_id is None:
            if update.ref in references:
                references[update.ref].delete()
        elif update.old_id is None:
            references.create(update.ref, update.new_id)
        else:
            references[update.ref].set_target(update.new_id)
