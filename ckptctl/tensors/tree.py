"""A checkpoint's tensors as a tree: of its objects, or, where it has no object graph, of its names.

In the object graph an object may have several names, and may lead back to itself. Here it stands once, with
what it holds below it, under the shortest path that does not lead through an optimizer; under other names
there is a reference to that place. An optimizer's slots stand under the variables that they belong to.
Objects that hold no tensor are left out. However a graph is made, the tree is bounded.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckptctl.tensors.slots import is_optimizer, slots_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from ckptctl.bundle.graph import Node, ObjectGraph

MAX_DEPTH = 64
"""How deep the tree goes; what lies deeper is left out."""

MAX_LINES = 500_000
"""How many lines the tree has at most."""

SLOTS = " (slots)"
"""What stands behind a layer where the optimizer's slots for it are meant."""

_VALUE = "VARIABLE_VALUE"
_MAX_PATH = 400


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the tree.

    Attributes:
        depth: How far it is from the root, whose children have 0.
        name: What the object above calls it.
        tensor: The key of the tensor that it is; None for an object that is no variable.
        variable: The variable's own name; empty if it is none.
        slot: Whether it is an optimizer's slot of the variable above.
        same_as: The path of the line where the object stands with all that it holds, if that is not here.
    """

    depth: int
    name: str
    tensor: str | None = None
    variable: str = ""
    slot: bool = False
    same_as: str | None = None


@dataclass(frozen=True, slots=True)
class Tree:
    """The lines, from the top.

    Attributes:
        lines: They.
        cut: Whether there would have been more of them, or deeper ones.
    """

    lines: tuple[Line, ...]
    cut: bool = False


@dataclass(slots=True)
class _Home:
    """Where an object stands: under which other one, and called what."""

    parent: int
    name: str
    depth: int
    slot: bool = False


def object_tree(graph: ObjectGraph, names: Iterable[str]) -> Tree:
    """The tree of an object graph.

    Args:
        graph: It.
        names: The keys of all tensors; those that no object has stand at the end.
    """
    tree = _Objects(graph)
    lines = list(tree.lines())
    shown = {line.tensor for line in lines}
    lines += [Line(0, name, name) for name in names if name not in shown]
    return Tree(tuple(lines[:MAX_LINES]), cut=tree.cut or len(lines) > MAX_LINES)


def layers_of(graph: ObjectGraph) -> dict[str, str]:
    """The path of the object that holds each tensor's variable; of a slot with `SLOTS` behind it."""
    return dict(_Objects(graph).layers())


def name_tree(names: Iterable[str]) -> Tree:
    """The tree of names that slashes divide."""
    lines: list[Line] = []
    above: list[str] = []
    cut = False
    for name in sorted(names, key=lambda name: name.split("/", MAX_DEPTH)):
        *path, last = name.split("/", MAX_DEPTH)
        common = 0
        while common < min(len(path), len(above)) and path[common] == above[common]:
            common += 1
        lines += [Line(common + at, part) for at, part in enumerate(path[common:])]
        lines.append(Line(len(path), last, name))
        above = [*path, last]
        if len(lines) > MAX_LINES:
            cut = True
            break
    return Tree(tuple(lines[:MAX_LINES]), cut)


class _Objects:
    """Objects, each with its place in the tree."""

    def __init__(self, graph: ObjectGraph) -> None:
        self._nodes = graph.nodes
        self._homes: dict[int, _Home] = {}
        self._slots: dict[int, list[int]] = {}
        self.cut = False
        if graph.nodes:
            self._settle(graph)
        self._holding = self._hold()

    def lines(self) -> Iterator[Line]:
        """The tree from the top; without recursion, which a graph could drive too deep."""
        stack: list[Line | int] = [0] if self._nodes else []
        count = 0
        while stack:
            item = stack.pop()
            line = self._line(item) if isinstance(item, int) else item
            if isinstance(item, int):
                stack += reversed(list(self._below(item)))
            if line is None:
                continue
            count += 1
            if count > MAX_LINES:
                self.cut = True
                return
            yield line

    def layers(self) -> Iterator[tuple[str, str]]:
        """Yields the key of each tensor and its layer."""
        for node, home in self._homes.items():
            above = self._homes[home.parent].parent if home.slot else home.parent
            layer = self._path(above) + (SLOTS if home.slot else "")
            for attribute in self._nodes[node].attributes:
                yield attribute.checkpoint_key, layer.lstrip()

    def _settle(self, graph: ObjectGraph) -> None:
        """Gives each object that can be reached its home."""
        self._homes[0] = _Home(0, "", -1)
        owners = {slot: (variable, name) for variable, name, slot in slots_of(graph)}
        self._spread([0], owners)
        attached = []
        for slot, (variable, name) in owners.items():
            if variable in self._homes and slot not in self._homes:
                self._homes[slot] = _Home(variable, name, self._homes[variable].depth + 1, slot=True)
                self._slots.setdefault(variable, []).append(slot)
                attached.append(slot)
        self._spread(attached, owners)
        self._spread(list(self._homes), ())  # slots whose variables cannot be reached

    def _spread(self, nodes: Iterable[int], passed_over: Container[int]) -> None:
        """Gives homes to what some objects lead to, breadth first; optimizers open after everything else."""
        queue, optimizers = deque(nodes), deque[int]()
        while queue or optimizers:
            node = queue.popleft() if queue else optimizers.popleft()
            depth = self._homes[node].depth + 1
            for name, child in self._nodes[node].children.items():
                if child not in self._homes and child not in passed_over:
                    self._homes[child] = _Home(node, name, depth)
                    (optimizers if is_optimizer(self._nodes[child]) else queue).append(child)

    def _hold(self) -> set[int]:
        """The objects that are a variable, or have one below them."""
        holding = set()
        for node, home in reversed(self._homes.items()):  # those below come before those above
            if self._nodes[node].attributes or node in holding:
                if home.depth > MAX_DEPTH:
                    self.cut = True
                else:
                    holding |= {node, home.parent}
        return holding

    def _below(self, node: int) -> Iterator[Line | int]:
        depth = self._homes[node].depth + 1
        for attribute in self._nodes[node].attributes:
            if attribute.name != _VALUE:
                yield Line(depth, attribute.name, attribute.checkpoint_key, attribute.full_name)
        yield from self._slots.get(node, ())
        for name, child in self._nodes[node].children.items():
            home = self._homes[child]
            if child not in self._holding:
                continue
            if (home.parent, home.name) == (node, name) and not home.slot:
                yield child
            else:
                yield Line(depth, name, same_as=self._path(child))

    def _line(self, node: int) -> Line | None:
        home = self._homes[node]
        if home.depth < 0:
            return None
        value = _value(self._nodes[node])
        if value is None:
            return Line(home.depth, home.name, slot=home.slot)
        key, full_name = value
        return Line(home.depth, home.name, key, full_name, slot=home.slot)

    def _path(self, node: int) -> str:
        """Where an object stands, from the root; no longer than a reader can use."""
        parts: list[str] = []
        length = 0
        while node and length < _MAX_PATH:
            home = self._homes[node]
            parts.append(home.name[:_MAX_PATH])
            length += len(parts[-1]) + 1
            node = home.parent
        if node:
            parts.append("…")
        return "/".join(reversed(parts))


def _value(node: Node) -> tuple[str, str] | None:
    """The key and the own name of the variable that a node is, if it is one."""
    for attribute in node.attributes:
        if attribute.name == _VALUE:
            return attribute.checkpoint_key, attribute.full_name
    return None
