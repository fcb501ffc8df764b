"""The object graph of an object-based checkpoint: which object holds which variable under which key.

It is stored as a string tensor without dimensions, `_CHECKPOINTABLE_OBJECT_GRAPH`: a serialized
TrackableObjectGraph, a list of nodes that refer to each other by their place in it. Node 0 is the
`tf.train.Checkpoint`. Name-based checkpoints (TF1) have none.

Answers to `tensorflow/core/protobuf/trackable_object_graph.proto`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckptctl import protos
from ckptctl.bundle.dtypes import STRING
from ckptctl.bundle.parts import expect_few, split
from ckptctl.bundle.strings import read_strings
from ckptctl.errors import BundleError, UnsupportedError

if TYPE_CHECKING:
    from ckptctl.bundle.index import Index, IndexReader
    from ckptctl.bundle.source import OpenShard

OBJECT_GRAPH_KEY = b"_CHECKPOINTABLE_OBJECT_GRAPH"

MAX_GRAPH_BYTES = 1 << 27
"""The largest graph that is read; 20,000 variables take about 4 MB."""

MAX_PARTS = 1_000_000
"""The most nodes, children, attributes and slots of a graph in all; 20,000 variables have some 200,000."""

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Attribute:
    """A value that an object saves.

    Attributes:
        name: What the object calls it: `VARIABLE_VALUE` for a variable.
        full_name: The variable's own name, as TF1 would have saved it.
        checkpoint_key: The key of its tensor in the index.
    """

    name: str
    full_name: str
    checkpoint_key: str


@dataclass(frozen=True, slots=True)
class SlotVariable:
    """A variable that an optimizer keeps beside another one.

    Attributes:
        original_variable: The node of the variable it belongs to.
        name: What the optimizer calls it: `m`, `v`, `momentum`.
        slot_variable: The node of the slot variable itself.
    """

    original_variable: int
    name: str
    slot_variable: int


@dataclass(frozen=True, slots=True)
class Node:
    """A saved object.

    Attributes:
        children: The objects it refers to, by the name of the reference.
        attributes: The values it saves.
        slot_variables: Those it keeps, if it is an optimizer (of Keras 2 or TF1).
        registered_saver: The name under which its class registered a saver of its own; mostly empty.
    """

    children: dict[str, int]
    attributes: tuple[Attribute, ...]
    slot_variables: tuple[SlotVariable, ...]
    registered_saver: str


_EMPTY = Node({}, (), (), "")


@dataclass(frozen=True, slots=True)
class ObjectGraph:
    """What was saved, as objects.

    Attributes:
        nodes: Every object; node 0 is the root.
    """

    nodes: tuple[Node, ...]

    def paths(self) -> dict[int, str]:
        """The shortest path from the root to each node that can be reached: `model/layer-1/kernel`."""
        paths = {0: ""} if self.nodes else {}
        queue = deque(paths)
        while queue:
            node = queue.popleft()
            for name, child in self.nodes[node].children.items():
                if child not in paths:
                    paths[child] = f"{paths[node]}/{name}" if paths[node] else name
                    queue.append(child)
        return paths


def read_object_graph(index: Index | IndexReader, open_shard: OpenShard) -> ObjectGraph | None:
    """Reads the object graph of a checkpoint.

    Args:
        index: Its index, whole or not: one entry is looked up.
        open_shard: Opens a shard, given its number and the number of shards.

    Returns:
        None for a checkpoint that has none.

    Raises:
        BundleError: The tensor is not a graph, or fails its checksum.
        OSError: The shard cannot be opened.
        UnreadableError: The system refuses.
    """
    entry = index.get(OBJECT_GRAPH_KEY)
    if entry is None:
        return None
    where = f"{index.name}: tensor {entry.name!r}"
    if entry.dtype != STRING or entry.shape or entry.slices or entry.size > MAX_GRAPH_BYTES:
        raise BundleError(
            f"{where}: expected one string of at most {MAX_GRAPH_BYTES} bytes, found {entry.dtype_name} "
            f"of shape {list(entry.shape)} with {entry.size} bytes"
        )
    with open_shard(entry.shard_id, index.header.num_shards) as source:
        strings = read_strings(source, entry, big_endian=index.header.big_endian)
    if len(strings) != 1:
        raise BundleError(f"{where}: expected one string, found {len(strings)}")
    return parse_object_graph(strings[0], where)


def parse_object_graph(data: bytes, where: str) -> ObjectGraph:
    """Decodes a serialized TrackableObjectGraph.

    Args:
        data: The serialized message.
        where: What messages call the place that it is from.

    Raises:
        BundleError: It is none, or a node refers to one that is not there.
        UnsupportedError: It has more than `MAX_PARTS`.
    """
    message = protos.load().TrackableObjectGraph
    nodes: list[Node] = []
    parts = 0
    for piece in split(data, _PIECE_BYTES):
        expect_few(message, piece, MAX_PARTS, where)
        graph = protos.parse(message, piece, where).nodes
        parts += len(graph)
        for proto in graph if parts <= MAX_PARTS else ():
            node, more = _node(proto)
            nodes.append(node)
            parts += more
        if parts > MAX_PARTS:
            raise UnsupportedError(f"{where}: has more than {MAX_PARTS:,} nodes, children and attributes")
    for number, node in enumerate(nodes):
        _check_targets(node, len(nodes), where, number)
    return ObjectGraph(tuple(nodes))


def _node(proto: Any) -> tuple[Node, int]:
    """A node, and of how many parts it is made: children of one name are one, and cost as many."""
    children, attributes, slots = proto.children, proto.attributes, proto.slot_variables
    if not (children or attributes or slots or proto.HasField("registered_saver")):
        return _EMPTY, 0
    node = Node(
        {child.local_name: child.node_id for child in children},
        tuple([Attribute(value.name, value.full_name, value.checkpoint_key) for value in attributes]),
        tuple(
            [
                SlotVariable(slot.original_variable_node_id, slot.slot_name, slot.slot_variable_node_id)
                for slot in slots
            ]
        ),
        proto.registered_saver.name,
    )
    return node, len(children) + len(attributes) + len(slots)


def _check_targets(node: Node, count: int, where: str, number: int) -> None:
    targets = list(node.children.values())
    for slot in node.slot_variables:
        targets += slot.original_variable, slot.slot_variable
    for target in targets:
        if not 0 <= target < count:
            raise BundleError(f"{where}: node {number}: refers to node {target}, there are {count}")
