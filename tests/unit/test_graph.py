"""A graph of workstreams is sound once it exists, and knows who is above whom."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import FrozenInstanceError
from pathlib import Path

import pygit2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.workstream import LaneNameError, WorkstreamGraph, WorkstreamSpec
from agentrelay.workstream._lane import Lane, task_branch
from tests._examples import tries


def spec(workstream_id: str, parent: str | None = None, **more: str) -> WorkstreamSpec:
    """Return a specification."""
    return WorkstreamSpec(workstream_id, parent, **more)


def ids(specs: tuple[WorkstreamSpec, ...]) -> list[str]:
    """Return the ids of workstreams."""
    return [each.id for each in specs]


TREE = WorkstreamGraph(
    "nightly",
    [
        spec("a.1.x", "a.1"),
        spec("b"),
        spec("a.1", "a"),
        spec("a"),
        spec("a.2", "a"),
    ],
    task_ids=["write", "review"],
)


def test_parents_come_first_and_the_rest_stays_in_order() -> None:
    """A lane is never before the one it is cut from; nothing else is moved about."""
    assert ids(TREE.ordered()) == ["a", "a.1", "a.1.x", "b", "a.2"]
    assert ids(TREE.specs) == ["a.1.x", "b", "a.1", "a", "a.2"]


def test_relations_are_told() -> None:
    """Tops, children in order, and ancestors from the nearest on."""
    assert ids(TREE.roots()) == ["b", "a"]
    assert ids(TREE.children("a")) == ["a.1", "a.2"]
    assert TREE.children("b") == ()
    assert ids(TREE.ancestors("a.1.x")) == ["a.1", "a"]
    assert TREE.ancestors("a") == ()


def test_a_child_is_cut_from_its_parent_and_targets_it() -> None:
    """The derived specification names the parent's integration branch twice; a top stays."""
    branch = "agentrelay/nightly/a/integration"
    assert TREE.branch_of("a") == branch == Lane.of(Path("x"), "nightly", "a").branch
    assert TREE.spec_for("a.1") == spec("a.1", "a", base_branch=branch, merge_target_branch=branch)
    assert TREE.spec_for("b") is TREE.spec("b")


def test_children_of_a_merged_workstream_move_up() -> None:
    """They get its parent and its target; it stays without children, the others as they were."""
    top = WorkstreamGraph(
        "nightly",
        [*(each for each in TREE.specs if each.id != "a"), spec("a", merge_target_branch="next")],
        task_ids=TREE.task_ids,
    )
    after = top.after_merge("a")
    assert ids(after.specs) == ids(top.specs)
    assert after.task_ids == top.task_ids
    for name in ("a.1", "a.2"):
        moved = spec(name, base_branch="next", merge_target_branch="next")
        assert after.spec(name) == after.spec_for(name) == moved
    assert after.children("a") == ()
    assert after.spec_for("a.1.x") == top.spec_for("a.1.x")
    below = TREE.after_merge("a.1")
    branch = TREE.branch_of("a")
    assert below.spec_for("a.1.x") == spec(
        "a.1.x", "a", base_branch=branch, merge_target_branch=branch
    )
    assert TREE.after_merge("b") == TREE


def test_a_graph_of_derived_specifications_is_sound() -> None:
    """What the graph derives, a graph accepts."""
    again = WorkstreamGraph("nightly", [TREE.spec_for(each.id) for each in TREE.ordered()])
    assert ids(again.ordered()) == ids(TREE.ordered())


def test_a_graph_is_a_value() -> None:
    """It is equal to its like, hashable, survives pickling and cannot be changed."""
    twin = WorkstreamGraph(TREE.name, list(TREE.specs), task_ids=["write", "review"])
    assert twin == TREE
    assert hash(twin) == hash(TREE)
    again = pickle.loads(pickle.dumps(TREE))  # noqa: S301 - made in the line itself
    assert again.ordered() == TREE.ordered()
    assert WorkstreamGraph("empty", []).ordered() == ()
    with pytest.raises(FrozenInstanceError):
        TREE.name = "x"  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize(
    "ask", ["spec", "spec_for", "branch_of", "children", "ancestors", "after_merge"]
)
def test_an_unknown_id_is_refused_by_name(ask: str) -> None:
    """No question about a workstream that is not there has an answer."""
    with pytest.raises(LaneNameError, match="'nightly'") as caught:
        getattr(TREE, ask)("A")
    assert caught.value.name == "A"


@pytest.mark.parametrize(
    ("specs", "tasks", "name", "rule"),
    [
        ([spec("a"), spec("a")], [], "a", "ids must be unique"),
        ([spec("a"), spec("A")], [], "A", "'a' differs by case only"),
        ([spec("a", "b")], [], "b", "id of a workstream of the same graph"),
        ([spec("a", 5)], [], "5", "id of a workstream of the same graph"),  # type: ignore[arg-type]
        ([spec("a", "a")], [], "a", "a -> a"),
        (
            [spec("x", "a"), spec("a", "b"), spec("b", "c"), spec("c", "a")],
            [],
            "a",
            "a -> b -> c -> a",
        ),
        ([spec("a/b")], [], "a/b", "must not contain '/'"),
        ([spec("a")], ["t", "t"], "t", "ids must be unique"),
        ([spec("a")], ["t", "T"], "T", "'t' differs by case only"),
        ([spec("a")], ["x.lock"], "x.lock", "'.lock'"),
        ([spec("a")], ["a"], "a", "'agentrelay/g/a' would be where"),
        ([spec("a")], ["A"], "A", "'agentrelay/g/A' would be where"),
        ([spec("a", base_branch="x..y")], [], "x..y", "git refuses"),
        ([spec("a", merge_target_branch="")], [], "", "must not be empty"),
        ([spec("a", base_branch="agentrelay/g/a/integration")], [], None, "own integration branch"),
        (
            [spec("a", merge_target_branch="agentrelay/g/b/integration"), spec("b", "a")],
            [],
            None,
            "of 'b', which is below",
        ),
        ([spec("a", base_branch="agentrelay/g/a")], [], None, "need a directory of that name"),
        ([spec("a", base_branch="AgentRelay")], [], None, "need a directory of that name"),
        ([spec("a", base_branch="agentrelay/g/A/integration")], [], None, "by case only"),
        ([spec("a", base_branch="agentrelay/g/t/x")], ["t"], None, "'agentrelay/g/t' is a branch"),
        (
            [spec("a", base_branch="agentrelay/g/a/integration/x")],
            [],
            None,
            "nothing can be below it",
        ),
    ],
)
def test_a_broken_rule_is_named_with_who_breaks_it(
    specs: list[WorkstreamSpec], tasks: list[str], name: str | None, rule: str
) -> None:
    """The message and the fields tell the id or branch, and what is wrong with it."""
    with pytest.raises(LaneNameError) as caught:
        WorkstreamGraph("g", specs, task_ids=tasks)
    assert rule in caught.value.rule
    assert rule in str(caught.value)
    assert caught.value.hint
    assert caught.value.name == (name if name is not None else _branch(specs))


def _branch(specs: list[WorkstreamSpec]) -> str:
    """Return the branch of a case that is not an ordinary one."""
    (found,) = {
        branch
        for each in specs
        for branch in (each.base_branch, each.merge_target_branch)
        if branch != "main"
    }
    return found


def test_a_long_cycle_is_named_in_short() -> None:
    """A thousand workstreams in a ring are refused in one readable line."""
    ring = [spec(f"w{number}", f"w{(number + 1) % 1000}") for number in range(1000)]
    with pytest.raises(LaneNameError, match=r"w0 -> w1 -> .* -> \.\.\. -> w0$") as caught:
        WorkstreamGraph("g", ring)
    assert len(str(caught.value)) < 400


def test_a_bad_graph_name_is_refused() -> None:
    """The graph's name is in every branch, so it is checked like an id."""
    with pytest.raises(LaneNameError, match="graph name"):
        WorkstreamGraph("a/b", [])


def test_a_chain_of_thousands_is_no_trouble() -> None:
    """Depth costs no recursion."""
    chain = [spec("w0"), *(spec(f"w{n}", f"w{n - 1}") for n in range(1, 3000))]
    graph = WorkstreamGraph("g", reversed(chain))
    assert ids(graph.ordered()) == [each.id for each in chain]


@given(
    parents=st.lists(st.integers(min_value=-1, max_value=11), min_size=1, max_size=12),
    tasks=st.lists(st.sampled_from(["t0", "t1", "w1", "W2", "x"]), max_size=3),
)
@tries(60)
def test_what_is_accepted_can_be_made(
    parents: list[int], tasks: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every branch of an accepted graph can exist beside the others, and the order holds."""
    specs = [
        spec(f"w{number}", None if parent < 0 else f"w{parent}")
        for number, parent in enumerate(parents)
    ]
    try:
        graph = WorkstreamGraph("g", specs, task_ids=tasks)
    except LaneNameError:
        return
    placed: set[str] = set()
    for each in graph.ordered():
        assert each.parent_workstream_id is None or each.parent_workstream_id in placed
        placed.add(each.id)
    assert len(placed) == len(specs)
    where = tmp_path_factory.mktemp("graph")
    repo = pygit2.init_repository(str(where), bare=True)
    tree = repo.TreeBuilder().write()
    who = pygit2.Signature("A", "a@example.invalid", 1)
    tip = repo.create_commit(None, who, who, "start", tree, [])
    for branch in [*map(graph.branch_of, placed), *(task_branch("g", task) for task in tasks)]:
        repo.references.create(f"refs/heads/{branch}", tip)
    shutil.rmtree(where)


@given(parents=st.lists(st.integers(min_value=-1, max_value=11), min_size=1, max_size=12))
@tries(60)
def test_relations_agree_with_each_other(parents: list[int]) -> None:
    """Children and ancestors are two sides of one thing, and each lane targets the nearest."""
    specs = [
        spec(f"w{number}", f"w{parent}" if 0 <= parent < number else None)
        for number, parent in enumerate(parents)
    ]
    graph = WorkstreamGraph("g", specs)
    for each in graph.specs:
        above = graph.ancestors(each.id)
        assert (each in graph.roots()) == (not above)
        for below in graph.children(each.id):
            assert graph.ancestors(below.id) == (each, *above)
        target = graph.spec_for(each.id).merge_target_branch
        assert target == (graph.branch_of(above[0].id) if above else "main")
    everybody = [each.id for each in graph.specs if each not in graph.roots()]
    assert sorted(everybody) == sorted(
        child.id for each in graph.specs for child in graph.children(each.id)
    )


@given(
    parents=st.lists(st.integers(min_value=-1, max_value=11), min_size=1, max_size=12),
    data=st.data(),
)
@tries(60)
def test_merging_all_from_the_top_leaves_everybody_at_the_top(
    parents: list[int], data: st.DataObject
) -> None:
    """In whatever order that has parents first, each merge keeps the graph sound."""
    specs = [
        spec(f"w{number}", f"w{parent}" if 0 <= parent < number else None)
        for number, parent in enumerate(parents)
    ]
    graph = WorkstreamGraph("g", data.draw(st.permutations(specs)))
    for each in graph.ordered():
        # Its ancestors were merged, so it goes where they went.
        assert graph.spec_for(each.id).merge_target_branch == "main"
        graph = graph.after_merge(each.id)
    assert graph.roots() == graph.specs
    assert set(ids(graph.specs)) == {each.id for each in specs}
