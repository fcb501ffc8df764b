"""Restores a name-based checkpoint with its `.meta`: the graph is imported, and its Saver restores a session.

A `.meta` is a program, and as little to be trusted as any other file of the directory: the operation that it
names for a restore might write files or run Python. So nothing of it is imported but what that operation
depends on, and only if every operation among that is one that a Saver restores with. The rest of the graph,
its functions and its collections stay outside; that a model has an operation which is not known here is no
obstacle either.

Answers to `tensorflow/python/training/saver.py`.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ckptctl import naming
from ckptctl.restoring.nodes import brief
from ckptctl.restoring.stored import array

if TYPE_CHECKING:
    from ckptctl.restoring.outcome import Outcome
    from ckptctl.restoring.stored import Array, Stored

MAX_META_BYTES = 1 << 30
"""The largest `.meta` that is read: TensorFlow's limit is twice that, real ones have tens of megabytes."""

MAX_CONSTANT = 1 << 22
"""How many elements a constant may have: a Saver's are the names of its tensors, one for each at most."""

ALLOWED = frozenset(
    {
        "Assign", "AssignVariableOp", "Const", "Identity", "NoOp", "Placeholder", "PlaceholderWithDefault",
        "Reshape", "RestoreV2", "VarHandleOp", "Variable", "VariableV2",
    }
)  # fmt: skip
"""The operations that a Saver restores variables with."""

_ASSIGN = frozenset({"Assign", "AssignVariableOp"})
_PASS_ON = frozenset({"Identity", "Reshape"})


class NotRestorableError(Exception):
    """A graph restores in no way that is carried out here; the message says why."""


@dataclass(frozen=True, slots=True)
class _Assignment:
    """A variable, and what is restored into it.

    Attributes:
        variable: The name of its node.
        tensor: The name of the tensor in the checkpoint.
        part: Which part of it, as RestoreV2 takes it; "" for all.
    """

    variable: str
    tensor: str
    part: str


def restore(prefix: str, meta: bytes, stored: Stored, outcome: Outcome) -> set[str]:
    """Restores all variables of the graph in a session, and compares every value.

    Args:
        prefix: The checkpoint's, or the pattern of the files of a sharded V1 checkpoint.
        meta: What the `.meta` holds.
        stored: What the checkpoint's files hold.
        outcome: Takes what does not restore.

    Returns:
        The names of the tensors whose restored values were compared as a whole.
    """
    try:
        message = tf.compat.v1.MetaGraphDef.FromString(meta)
        nodes = _restoring(message)
        _check_paths(nodes, message.saver_def.filename_tensor_name)
        assignments = _assignments(nodes)
    except NotRestorableError as error:
        outcome.doubt(f"the .meta's graph: {error}")
        return set()
    except Exception as error:  # noqa: BLE001 - no MetaGraphDef, or one that holds together in no way
        outcome.doubt(f"the .meta is none that a Saver wrote: {brief(error)}")
        return set()
    lacking = [one.tensor for one in assignments if one.tensor not in stored.specs]
    if lacking:
        outcome.fail(
            f"the .meta's graph restores tensor {lacking[0]!r}, which is not in the index", lacking[0]
        )
        return set()
    try:
        values = _run(prefix, message, nodes, assignments)
    except Exception as error:  # noqa: BLE001 - whatever TensorFlow raises is what we are here to hear
        outcome.fail(f"the .meta's graph does not restore: {brief(error)}")
        return set()
    restored: Counter[str] = Counter()
    for one, value in zip(assignments, values, strict=True):
        shape = tf.TensorShape(nodes[one.variable].attr["shape"].shape)
        if not shape.is_compatible_with(value.shape):  # which TensorFlow does not look at
            outcome.fail(
                f"variable {one.variable!r} of shape {shape} is restored with {value.shape}", one.tensor
            )
        stored.compare(one.tensor, value, outcome, functools.partial(_part, one.part, value.shape))
        restored[one.tensor] += value.size
    return {name for name, size in restored.items() if size >= stored.specs[name].elements}


def _name(reference: str) -> str:
    """The node that an input, an operation or a tensor's name refers to."""
    return reference.removeprefix("^").split(":")[0]


def _restoring(meta: Any) -> dict[str, Any]:
    """The nodes that the restore operation depends on, itself among them."""
    if not meta.HasField("saver_def"):
        raise NotRestorableError("has no Saver")
    nodes = {node.name: node for node in meta.graph_def.node}
    found: dict[str, Any] = {}
    waiting = [_name(meta.saver_def.restore_op_name), _name(meta.saver_def.filename_tensor_name)]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if name not in nodes:
            raise NotRestorableError(f"has no operation {name!r}, which restoring needs")
        node = nodes[name]
        if node.op == "Const" and math.prod(one.size for one in _shape(node)) > MAX_CONSTANT:
            raise NotRestorableError(f"has a constant that is larger than any Saver's, {name!r}")
        if node.op not in ALLOWED:
            raise NotRestorableError(
                f"restores with {node.op!r} ({name!r}), and {node.op!r} is not carried out here"
            )
        found[name] = node
        waiting.extend(_name(reference) for reference in node.input)
    return found


def _check_paths(nodes: dict[str, Any], path: str) -> None:
    """Sees that whatever restores does so from the path that the session is given, and from no other.

    Of a sharded Saver too each operation takes that path: the prefix, to which the reader adds the shards.
    """
    for node in nodes.values():
        if node.op != "RestoreV2":
            continue
        source, seen = (*node.input, "")[0], 0
        while source and source.removesuffix(":0") != path.removesuffix(":0"):
            before = nodes[_name(source)]
            if before.op != "Identity" or seen > len(nodes):
                raise NotRestorableError(f"restores from a path of its own ({node.name!r})")
            source, seen = (*before.input, "")[0], seen + 1
        if not source:
            raise NotRestorableError(f"restores from no path ({node.name!r})")


def _shape(node: Any) -> Any:
    return node.attr["value"].tensor.tensor_shape.dim


def _assignments(nodes: dict[str, Any]) -> list[_Assignment]:
    made = []
    for node in nodes.values():
        if node.op not in _ASSIGN:
            continue
        variable, source = (*node.input, "", "")[:2]
        seen = 0
        while nodes[_name(source)].op in _PASS_ON and seen <= len(nodes):
            source = (*nodes[_name(source)].input, "")[0]
            seen += 1
        restoring = nodes[_name(source)]
        if restoring.op != "RestoreV2":
            raise NotRestorableError(f"assigns to {_name(variable)!r} what no RestoreV2 gives")
        number = int(source.partition(":")[2] or 0)
        names, parts = (_strings(nodes, reference) for reference in restoring.input[1:3])
        made.append(_Assignment(_name(variable), names[number].decode(), parts[number].decode()))
    if not made:
        raise NotRestorableError("restores no variable")
    return made


def _strings(nodes: dict[str, Any], reference: str) -> list[bytes]:
    node = nodes[_name(reference)]
    if node.op != "Const":
        raise NotRestorableError(f"computes {node.name!r}, the names of what it restores")
    return [*tf.make_ndarray(node.attr["value"].tensor).reshape(-1)]


def _run(prefix: str, meta: Any, nodes: dict[str, Any], assignments: list[_Assignment]) -> list[Array]:
    """Imports the nodes, restores, and returns the variables' values."""
    kept = tf.compat.v1.MetaGraphDef()
    kept.CopyFrom(meta)
    kept.ClearField("collection_def")
    kept.ClearField("signature_def")
    kept.ClearField("object_graph_def")
    kept.ClearField("asset_file_def")
    kept.graph_def.Clear()
    kept.graph_def.versions.CopyFrom(meta.graph_def.versions)
    for node in nodes.values():
        added = kept.graph_def.node.add()
        added.CopyFrom(node)
        added.attr.pop("_class", None)  # where to place it: beside nodes that may not be here
    with tf.Graph().as_default() as graph:
        saver = tf.compat.v1.train.import_meta_graph(kept, clear_devices=True)
        fetches = []
        for one in assignments:
            variable = graph.get_operation_by_name(one.variable)
            value = variable.outputs[0]
            if variable.type == "VarHandleOp":
                value = tf.raw_ops.ReadVariableOp(resource=value, dtype=variable.get_attr("dtype"))
            fetches.append(value)
        with tf.compat.v1.Session(graph=graph) as session:
            saver.restore(session, naming.to_text(prefix))
            return [array(session.run(value)) for value in fetches]


def _part(part: str, shape: tuple[int, ...], stored: Array) -> Array:
    """The part of a stored tensor that a variable is restored from, in the variable's shape."""
    if part:
        ranges = []
        for extent in part.rpartition(" ")[2].split(":"):
            start, _, length = extent.partition(",")
            ranges.append(slice(None) if start == "-" else slice(int(start), int(start) + int(length)))
        stored = stored[tuple(ranges)]
    return stored.reshape(shape) if stored.size == math.prod(shape) else stored
