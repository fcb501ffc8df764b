"""Tests of trees: the shapes that real graphs have, and the shapes that none should have."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptctl.bundle.graph import Attribute, Node, ObjectGraph, SlotVariable
from ckptctl.tensors import tree
from ckptctl.tensors.slots import is_optimizer, slots_of
from ckptctl.tensors.tree import layers_of, name_tree, object_tree


def node(
    children: dict[str, int] | None = None, own_name: str = "", slots: tuple[SlotVariable, ...] = ()
) -> Node:
    """An object; one with a name is a variable, whose key is the name and `!`."""
    attributes = (Attribute("VARIABLE_VALUE", own_name, f"{own_name}!"),) if own_name else ()
    return Node(children or {}, attributes, slots, "")


def drawn(*nodes: Node) -> list[str]:
    """The tree of a graph, two spaces a level."""
    return [
        f"{'  ' * line.depth}{'slot ' if line.slot else ''}{line.name}"
        f"{f' -> {line.same_as}' if line.same_as is not None else ''}"
        for line in object_tree(ObjectGraph(nodes), ()).lines
    ]


def test_shared_object() -> None:
    """An object with two names stands under the shorter path, and is referred to from the other."""
    lines = drawn(
        node({"long": 1, "short": 2}), node({"way": 3}), node(own_name="v"), node({"to": 2, "own": 4}),
        node(own_name="w"),
    )  # fmt: skip
    assert lines == ["long", "  way", "    to -> short", "    own", "short"]


def test_cycles() -> None:
    """Objects that lead back to themselves are referred to, not walked again."""
    lines = drawn(node({"a": 1, "self": 0}), node({"root": 0, "me": 1, "v": 2}), node(own_name="v"))
    assert lines == ["a", "  root -> ", "  me -> a", "  v", "self -> "]


def test_objects_that_hold_nothing_are_left_out() -> None:
    """Only what has a tensor below it is shown."""
    assert drawn(node({"empty": 1, "v": 3}), node({"more": 2}), node(), node(own_name="v")) == ["v"]
    assert drawn(node({"empty": 1}), node()) == []
    assert drawn() == []


def test_optimizer_opens_last() -> None:
    """Variables stand under the model, though the way through the optimizer comes first and is shorter."""
    optimizer = node({"_variables": 3, "_iterations": 4, "_trainable_variables": 5})
    lines = drawn(
        node({"optimizer": 1, "model": 2}),
        optimizer,
        node({"layers": 6}),
        node({"0": 4, "1": 8}),
        node(own_name="adam/iteration"),
        node({"0": 7}),
        node({"0": 9}),
        node(own_name="d/kernel"),
        node(own_name="adam/d_kernel_momentum"),
        node({"_kernel": 7}),
    )
    assert lines == [
        "optimizer",
        "  _iterations",
        "model",
        "  layers",
        "    0",
        "      _kernel",
        "        slot momentum",
    ]


def test_optimizer_alone() -> None:
    """Without a model the variables stand under the optimizer, with their slots."""
    lines = drawn(
        node({"_variables": 1, "_iterations": 2, "_trainable_variables": 3}),
        node({"0": 2, "1": 5}),
        node(own_name="sgd/iteration"),
        node({"0": 4}),
        node(own_name="d/kernel"),
        node(own_name="sgd/d_kernel_momentum"),
    )
    assert lines == ["_iterations", "_trainable_variables", "  0", "    slot momentum"]


@pytest.mark.parametrize(
    ("own_name", "slot"),
    [
        ("adam/a_b_kernel_momentum", (2, "momentum")),
        ("adam/a_b_kernel_max_velocity", (2, "max_velocity")),
        ("Adam/m/a/b/kernel", (2, "m")),
        ("m/a/b/kernel", (2, "m")),
        ("adam/a_b_kernel", None),
        ("adam/other_momentum", None),
        ("a_b_kernel_momentum", None),
        ("adam/twice_momentum", None),
        ("Adam/m/twice", None),
        ("adam/iteration", None),
        ("", None),
    ],
)
def test_slots_by_name(own_name: str, slot: tuple[int, str] | None) -> None:
    """A slot is told by its name, of Keras 3 or 2; where two variables have the same, there is no telling."""
    graph = ObjectGraph(
        (
            node({"_variables": 1, "_iterations": 5}),
            node({"0": 5}),
            node(own_name="a/b/kernel"),
            node(own_name="twice"),
            node(own_name="twice"),
            node(own_name=own_name),
        )
    )
    assert [(variable, name) for variable, name, _ in slots_of(graph)] == ([slot] if slot else [])


def test_slots_by_node() -> None:
    """Slots that a node names need no name of their own, and make it an optimizer."""
    optimizer = node(slots=(SlotVariable(1, "m", 2),))
    graph = ObjectGraph((node({"v": 1, "o": 3}), node(own_name="v"), node(own_name="s"), optimizer))
    assert is_optimizer(optimizer)
    assert list(slots_of(graph)) == [(1, "m", 2)]
    assert drawn(*graph.nodes) == ["v", "  slot m"]


def test_slots_of_each_other() -> None:
    """Slots that belong to each other, or to themselves, or to what cannot be reached, do no harm."""
    slots = (
        SlotVariable(1, "a", 2),
        SlotVariable(2, "b", 1),
        SlotVariable(3, "c", 3),
        SlotVariable(4, "d", 5),
    )
    nodes = [node({"x": 1, "y": 3, "o": 6, "z": 5}), *(node(own_name=f"v{n}") for n in range(1, 6))]
    assert drawn(*nodes, node(slots=slots)) == ["x", "y", "z"]


def test_other_attributes() -> None:
    """An object may save values that are no variable's; each is a line of its own."""
    table = Node({}, (Attribute("table-keys", "", "k"), Attribute("table-values", "", "v")), (), "")
    lines = object_tree(ObjectGraph((node({"table": 1}), table)), ["k", "v", "rest"]).lines
    assert [(line.depth, line.name, line.tensor) for line in lines] == [
        (0, "table", None),
        (1, "table-keys", "k"),
        (1, "table-values", "v"),
        (0, "rest", "rest"),
    ]


def test_layers() -> None:
    """A layer is the path of the object that holds the variable."""
    slots = (SlotVariable(3, "m", 4),)
    graph = ObjectGraph(
        (
            node({"model": 1, "step": 5, "o": 6}),
            node({"dense": 2}),
            node({"kernel": 3}),
            node(own_name="k"),
            node(own_name="m"),
            node(own_name="s"),
            node(slots=slots),
        )
    )
    assert layers_of(graph) == {"k!": "model/dense", "m!": "model/dense (slots)", "s!": ""}


def test_names() -> None:
    """Names are taken apart at slashes; a tensor may have others below it, as TF1's slots do."""
    lines = name_tree(["b/w", "a-x/y", "a/w/Adam", "a/w", "a", "c//d", "/e"]).lines
    assert [f"{'  ' * line.depth}{line.name}{' *' if line.tensor else ''}" for line in lines] == [
        "",
        "  e *",
        "a *",
        "  w *",
        "    Adam *",
        "a-x",
        "  y *",
        "b",
        "  w *",
        "c",
        "  ",
        "    d *",
    ]


# --- graphs that no trainer makes ------------------------------------------------------------------------


def test_deep_graph() -> None:
    """A chain of a hundred thousand objects is cut, soon."""
    count = 100_000
    chain = [node({"next": at + 1}) for at in range(count)]
    began = time.monotonic()
    made = object_tree(ObjectGraph((*chain, node(own_name="v"))), ["v!"])
    assert made.cut
    assert [line.tensor for line in made.lines] == ["v!"]  # at the end, with what has no place
    assert layers_of(ObjectGraph((*chain, node(own_name="v"))))["v!"].startswith("…/next/")
    assert time.monotonic() - began < 20


def test_deep_objects_that_hold_nothing() -> None:
    """Nothing is cut off where there is nothing to show."""
    made = object_tree(ObjectGraph((*(node({"next": at + 1}) for at in range(100)), node())), ())
    assert made == tree.Tree(())


def test_wide_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pair of objects refers to each other: the tree ends at the line that it may have at most."""
    monkeypatch.setattr(tree, "MAX_LINES", 1000)
    count = 200
    everyone = {f"n{at}": at for at in range(count)}
    nodes = [Node(everyone, node(own_name=f"v{at}").attributes, (), "") for at in range(count)]
    made = object_tree(ObjectGraph(tuple(nodes)), ())
    assert made.cut
    assert len(made.lines) == 1000


def test_many_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree of names ends there too."""
    monkeypatch.setattr(tree, "MAX_LINES", 100)
    made = name_tree(f"{at}/x" for at in range(1000))
    assert made.cut
    assert len(made.lines) == 100


def test_deep_name() -> None:
    """A name of slashes alone goes no deeper than the tree may; its rest stands in one line."""
    lines = name_tree(["/" * 10_000]).lines
    assert max(line.depth for line in lines) == tree.MAX_DEPTH
    assert len(lines[-1].name) == 10_000 - tree.MAX_DEPTH


def test_long_names_are_cut_in_references() -> None:
    """A long name that many objects refer to does not make the output many times as long as the graph."""
    name = "x" * 100_000
    nodes = [
        node({name: 1, "list": 2}),
        node(own_name="v"),
        node({**{str(at): 1 for at in range(100)}, "own": 3}),
    ]
    lines = object_tree(ObjectGraph((*nodes, node(own_name="w"))), ()).lines
    assert len(lines) == 103
    assert sum(len(line.same_as or "") for line in lines) < 50_000


@st.composite
def graphs(draw: st.DrawFn) -> ObjectGraph:
    """Graphs of a few objects, with whatever leads wherever."""
    count = draw(st.integers(1, 8))
    place = st.integers(0, count - 1)
    names = st.sampled_from(["a", "b", "_variables", "_iterations", "0", "1"])
    slot = st.builds(SlotVariable, place, st.just("m"), place)
    nodes = []
    for at in range(count):
        own_name = draw(st.sampled_from(["", f"v{at}", f"opt/v{at - 1}_m", f"opt/m/v{at + 1}"]))
        slots = tuple(draw(st.lists(slot, max_size=2)))
        children = draw(st.dictionaries(names, place, max_size=4))
        key = (Attribute("VARIABLE_VALUE", own_name, f"key {at}"),) if own_name else ()
        nodes.append(Node(children, key, slots, ""))
    return ObjectGraph(tuple(nodes))


@given(graphs())
@settings(max_examples=500, deadline=None)
def test_any_graph(graph: ObjectGraph) -> None:
    """Wherever objects lead, each tensor stands in the tree once, and no line skips a level."""
    keys = [attribute.checkpoint_key for one in graph.nodes for attribute in one.attributes]
    made = object_tree(graph, keys)
    shown = [line.tensor for line in made.lines if line.tensor is not None]
    assert sorted(shown) == sorted(keys)
    depth = -1
    for line in made.lines:
        assert 0 <= line.depth <= depth + 1
        depth = line.depth
    assert not made.cut
    assert layers_of(graph).keys() <= set(keys)
