"""Asking GitHub what became of lanes' pull requests, for many lanes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Optional

from agentrelay.workstream._commits import CommitFacts
from agentrelay.workstream._git.history import local_commit, local_history
from agentrelay.workstream._git.remotes import RemoteAccess, open_remote
from agentrelay.workstream._git.repository import OpenRepository, open_repository
from agentrelay.workstream._github.client import GitHubClient
from agentrelay.workstream._github.limits import pause_of
from agentrelay.workstream._github.listing import (
    commits_of_pull,
    contains,
    latest_commits,
    latest_pulls,
    pulls_of,
)
from agentrelay.workstream._github.memory import Memory
from agentrelay.workstream._github.reading import PullRequest
from agentrelay.workstream._lane import BRANCH_PREFIX, Lane
from agentrelay.workstream.core.merge import MergeCheck, MergeVerdict
from agentrelay.workstream.core.runtime import WorkstreamRuntime
from agentrelay.workstream.errors import WorkstreamError
from agentrelay.workstream.implementations._access import ApiAccess, renamed
from agentrelay.workstream.implementations._merge_method import tell_method

__all__ = [
    "Found",
    "Inquiry",
    "Question",
    "cannot_tell",
    "check_lanes",
    "put_question",
    "with_reason",
]

# What is further back than three hundred is asked for lane by lane.
_MOST_PAGES: Final = 3

# A pull request GitHub can rebase has a hundred commits; older ones cost nothing here.
_HISTORY: Final = 400

# How it was merged is worth a few requests of its own, and not one for each lane.
_MOST_SINGLE: Final = 3

_SHORT: Final = 12


@dataclass(frozen=True)
class Question:
    """What is asked about one lane.

    Attributes:
        branch: The lane's branch.
        target: Branch it is to be merged into.
        tip: Hex id of the commit the branch is at here, ``None`` where it is gone.
        is_known: Whether a pull request of this lane is on record; else those there are
            may be an earlier lane's of the same name.
        is_fresh: Whether none is, and the lane holds no commits of its own either.
    """

    branch: str
    target: str
    tip: Optional[str]
    is_known: bool = True
    is_fresh: bool = False


@dataclass(frozen=True)
class Found:
    """A verdict, and the pull request it rests on."""

    verdict: MergeVerdict
    pull: Optional[PullRequest] = None
    reason: Optional[str] = None


def cannot_tell(reason: str, *, url: str | None = None) -> MergeCheck:
    """Return the answer that says nothing about the merge."""
    return MergeCheck(MergeVerdict.CANNOT_TELL, url=url, reason=reason)


def with_reason(check: MergeCheck, more: str | None) -> MergeCheck:
    """Return an answer that says one thing more, if there is one."""
    if more is None:
        return check
    return replace(check, reason="; ".join(filter(None, [check.reason, more])))


def _elsewhere(question: Question, pull: PullRequest) -> Found:
    """Return what a pull request into another branch says about a lane: nothing, but where."""
    reason = (
        f"{pull.url} is {pull.state}, but into '{pull.base_branch}' instead of '{question.target}'"
    )
    return Found(MergeVerdict.CANNOT_TELL, pull, reason)


def check_lanes(
    repo_path: Path,
    runtimes: Sequence[WorkstreamRuntime],
    *,
    access: RemoteAccess,
    api: ApiAccess,
    memory: Memory,
) -> list[MergeCheck]:
    """Look at lanes; see ``GhIntegrationMergeChecker.check_all``.

    Raises:
        RepositoryError: As documented there.
    """
    repository = open_repository(repo_path)
    url = open_remote(repository, access).url
    answers: dict[int, MergeCheck] = {}
    questions: dict[int, Question] = {}
    for index, runtime in enumerate(runtimes):
        try:
            questions[index] = put_question(repository, repo_path, runtime)
        except WorkstreamError as error:
            answers[index] = cannot_tell(str(error), url=runtime.artifacts.merge_pr_url)
    if questions:
        address = api.address(url)
        known = memory.address if memory.known_as == address else None
        with api.client(known or address) as client:
            inquiry = Inquiry(repository, client, memory, head_full_name=api.head_full_name)
            found = inquiry.answer(list(questions.values()))
            if client.renamed_from is not None:
                memory.known_as, memory.address = address, client.address
            moved = renamed(client, known_as=address.full_name)
        found = [with_reason(check, moved) for check in found]
        answers.update(zip(questions, found, strict=True))
    return [answers[index] for index in range(len(runtimes))]


def put_question(
    repository: OpenRepository, repo_path: Path, runtime: WorkstreamRuntime
) -> Question:
    """Put a lane into the words of a question.

    Raises:
        WorkstreamError: It was never prepared, is no lane of this repository, or its
            branch is broken.
    """
    spec, branch = runtime.spec, runtime.state.branch_name
    if branch is None:
        message = f"workstream '{spec.id}' has no integration branch"
        raise WorkstreamError(message, hint="Prepare the workstream first.")
    lane = Lane.from_branch(repo_path, branch, spec.id)
    tip = repository.resolve(lane.branch_ref)
    is_known = runtime.artifacts.merge_pr_url is not None
    is_fresh = not is_known and tip is not None and tip == runtime.state.base_commit
    return Question(lane.branch, spec.merge_target_branch, tip, is_known, is_fresh)


class Inquiry:
    """One round of questions to one repository."""

    def __init__(
        self,
        repository: OpenRepository,
        client: GitHubClient,
        memory: Memory,
        *,
        head_full_name: str | None,
    ) -> None:
        """Begin a round; nothing is asked yet."""
        self._repository = repository
        self._client = client
        self._memory = memory
        self._head_full_name = head_full_name
        self._singles = 0

    def answer(self, questions: Sequence[Question]) -> list[MergeCheck]:
        """Answer each question.

        One question is asked by the branch's name. More are asked together: of what
        changed last, a hundred at a time, and by name only for what is not among it. After
        a failure nothing more is asked, and what is not answered yet cannot be told.
        """
        wanted = list(dict.fromkeys(questions))
        found: dict[Question, Found] = {}
        try:
            self._ask(wanted, found)
        except WorkstreamError as error:
            reason = " ".join(filter(None, [f"{error.message}.", error.hint]))
            if (pause_s := pause_of(error)) is not None:
                self._memory.quiet_until = self._client.policy.monotonic() + pause_s
                self._memory.quiet_reason = reason
            for question in wanted:
                found.setdefault(question, Found(MergeVerdict.CANNOT_TELL, None, reason))
        checks = self.explain(found)
        return [checks[question] for question in questions]

    def explain(self, found: dict[Question, Found]) -> dict[Question, MergeCheck]:
        """Make answers of what was found; how merges were done is learnt if it can be."""
        self._learn_commits(list(found), found)
        return {question: self._check(each) for question, each in found.items()}

    def _ask(self, wanted: list[Question], found: dict[Question, Found]) -> None:
        """Find the answers, one after the other."""
        if len(wanted) > 1:
            self._look_at_latest(wanted, found)
        for question in wanted:
            if question not in found:
                found[question] = self.look(question)

    def look(self, question: Question) -> Found:
        """Answer one question.

        Raises:
            WorkstreamError: GitHub did not answer, or not usably.
        """
        pulls = pulls_of(
            self._client,
            self._memory,
            head_branch=question.branch,
            head_full_name=self._head_full_name,
        )
        return self._judge(question, pulls) or self._judge_rest(question, pulls)

    def _look_at_latest(self, wanted: list[Question], found: dict[Question, Found]) -> None:
        """Answer what the pull requests that changed last can answer for certain."""
        seen: list[PullRequest] = []
        for number in range(1, _MOST_PAGES + 1):
            page = latest_pulls(
                self._client,
                self._memory,
                prefix=BRANCH_PREFIX,
                head_full_name=self._head_full_name,
                page=number,
            )
            seen += page.items
            for question in wanted:
                if question in found:
                    continue
                pulls = [pull for pull in seen if pull.head_branch == question.branch]
                pulls.sort(key=lambda pull: -pull.number)
                verdict = self._judge(question, pulls)
                # Between two pages a pull request that changes slips past both.
                if verdict is None and number == 1 and not page.has_next:
                    verdict = self._judge_rest(question, pulls)
                if verdict is not None:
                    found[question] = verdict
            if len(found) == len(wanted):
                return

    def _judge(self, question: Question, pulls: list[PullRequest]) -> Found | None:
        """Return what holds whatever other pull requests there are, newest first."""
        mine = [pull for pull in pulls if pull.base_branch == question.target]
        for pull in mine:
            if pull.state == "open":
                return Found(MergeVerdict.OPEN, pull)
        if question.is_fresh:
            return None
        for pull in mine:
            if pull.state == "merged" and self._has_all(question.tip, pull.head_sha):
                return Found(MergeVerdict.MERGED, pull)
        return None

    def _judge_rest(self, question: Question, pulls: list[PullRequest]) -> Found:
        """Return what follows when these are all there are."""
        mine = [pull for pull in pulls if pull.base_branch == question.target]
        astray = next((pull for pull in pulls if pull.state == "open"), None)
        if astray is not None and (not mine or astray.number > mine[0].number):
            # It would have been found before if it were into the target.
            return _elsewhere(question, astray)
        is_at = mine and question.tip in {None, mine[0].head_sha}
        if mine and (question.is_fresh or not (question.is_known or is_at)):
            return Found(
                MergeVerdict.CANNOT_TELL,
                mine[0],
                f"nothing says that {mine[0].url} is of this lane: it may be of an earlier one "
                f"that was called '{question.branch}' too",
            )
        if mine and mine[0].state == "closed":
            return Found(MergeVerdict.CLOSED, mine[0])
        if mine:
            at = mine[0].head_sha[:_SHORT]
            return Found(
                MergeVerdict.CANNOT_TELL,
                mine[0],
                f"{mine[0].url} was merged at {at}, and '{question.branch}' holds work besides",
            )
        if pulls:
            return _elsewhere(question, pulls[0])
        return Found(
            MergeVerdict.CANNOT_TELL, None, f"'{question.branch}' has no pull request at GitHub"
        )

    def _has_all(self, tip: str | None, head: str) -> bool:
        """Tell whether the lane's branch holds nothing that a pull request's head lacks."""
        if tip is None or tip == head or self._repository.contains(tip, head):
            return True
        if local_commit(self._repository, head) is not None:
            return False
        # Somebody added to it at GitHub, and that was never fetched.
        return contains(self._client, tip, head)

    def _learn_commits(self, wanted: list[Question], found: dict[Question, Found]) -> None:
        """Read the commits that merges have left, together; one alone by its name."""
        missing: dict[str, str] = {}
        for question in wanted:
            pull = found[question].pull
            merged = found[question].verdict is MergeVerdict.MERGED
            commit = pull.merge_commit_sha if merged and pull is not None else None
            if commit is None or pull is None or (commit, pull.head_sha) in self._memory.methods:
                continue
            if self._find(commit) is None:
                missing[commit] = question.target
        try:
            if len(missing) == 1:
                latest_commits(self._client, self._memory, start=next(iter(missing)))
                return
            for target in dict.fromkeys(missing.values()):
                for number in range(1, _MOST_PAGES + 1):
                    page = latest_commits(self._client, self._memory, start=target, page=number)
                    left = [sha for sha, of in missing.items() if of == target]
                    if not page.has_next or all(sha in self._memory.commits for sha in left):
                        break
        except WorkstreamError:
            # That they were merged is known; how is what cannot be told.
            return

    def _check(self, found: Found) -> MergeCheck:
        """Make the answer."""
        pull = found.pull
        check = MergeCheck(
            found.verdict,
            url=None if pull is None else pull.url,
            head=None if pull is None else pull.head_sha,
            reason=found.reason,
        )
        if pull is None or found.verdict is not MergeVerdict.MERGED:
            return check
        if pull.merge_commit_sha is None:
            return check
        known = self._memory.methods
        method, before = known.get((pull.merge_commit_sha, pull.head_sha), (None, None))
        if method is None:
            method, before = tell_method(
                pull.merge_commit_sha, pull.head_sha, find=self._find, brought=self._brought(pull)
            )
        if method is not None and before is not None:
            known[pull.merge_commit_sha, pull.head_sha] = (method, before)
        return replace(
            check, method=method, target_before=before, merge_commit=pull.merge_commit_sha
        )

    def _find(self, sha: str) -> CommitFacts | None:
        """Look a commit up: here, or among those that were read."""
        return local_commit(self._repository, sha) or self._memory.commits.get(sha)

    def _brought(self, pull: PullRequest) -> Callable[[], Optional[Iterable[CommitFacts]]]:
        """Return how to learn the commits of a pull request."""

        def brought() -> Optional[Iterable[CommitFacts]]:
            here = local_history(self._repository, pull.head_sha, most=_HISTORY)
            if here is not None:
                return here
            merge = (str(pull.merge_commit_sha), pull.head_sha)
            if self._singles >= _MOST_SINGLE:
                self._memory.put_off.add(merge)
                return None
            self._singles += 1
            self._memory.put_off.discard(merge)
            try:
                return commits_of_pull(self._client, self._memory, pull.number)
            except WorkstreamError:
                return None

        return brought
