"""Restores an object-based checkpoint: its tree is rebuilt, and `tf.train.Checkpoint` restores into that.

The tree has the checkpoint's own edges, so objects that are shared, and cycles, are what they were. Slot
variables hang on no edge: TensorFlow asks the optimizer for them once it has come to the variable they
belong to, and ours hands out the one that was rebuilt for the node.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ckptctl.bundle.findings import Finding, FindingKind
from ckptctl.restoring.nodes import Rebuilt, brief, rebuild
from ckptctl.restoring.stored import array

if TYPE_CHECKING:
    from ckptctl.bundle.findings import Report
    from ckptctl.bundle.graph import ObjectGraph
    from ckptctl.restoring.stored import Stored

_COUNTER = "save_counter"
_INT64 = 9


def restore(prefix: str, graph: ObjectGraph, stored: Stored, report: Report) -> set[str]:
    """Rebuilds the tree, restores it, and compares every value.

    Args:
        prefix: The checkpoint's.
        graph: Its objects.
        stored: What its files hold.
        report: Takes what cannot be rebuilt, and what does not restore.

    Returns:
        The names of the tensors whose restored values were compared.
    """
    labels = _labels(graph)
    if not _has_all_tensors(graph, labels, stored, report):
        return set()
    objects: list[Rebuilt] = []
    for number, node in enumerate(graph.nodes):
        objects.append(rebuild(node, lambda number: objects[number].trackable, stored.specs))
        if objects[-1].doubt:
            message = f"object {labels[number]!r} {objects[-1].doubt}"
            report.add(Finding(FindingKind.NOT_REBUILT, message))
    counter = _save_counter(graph, stored)
    for number, node in enumerate(graph.nodes):
        parent = objects[number].trackable
        for name, child in node.children.items():
            if (number, child) != (0, counter):
                parent._track_trackable(objects[child].trackable, name, overwrite=True)  # noqa: SLF001
    checkpoint = tf.train.Checkpoint(root=objects[0].trackable)
    try:
        # `read` is what `restore` begins with. It is the one for what `write` wrote, without a save counter,
        # and the one that opens a checkpoint, and no SavedModel, where a directory has the same name.
        restoring = counter is not None and not os.path.isdir(prefix)
        status = checkpoint.restore(prefix) if restoring else checkpoint.read(prefix)
    except Exception as error:  # noqa: BLE001 - whatever TensorFlow raises is what we are here to hear
        report.add(Finding(FindingKind.NOT_REBUILT, f"the tree of objects does not restore: {brief(error)}"))
        return set()
    if counter is not None:
        objects[counter] = _of_checkpoint(checkpoint, graph.nodes[counter].attributes[0].checkpoint_key)
    _assert_consumed(status, report)
    compared: set[str] = set()
    for one in objects:
        compared |= one.compare(stored, report)
    return compared


def _assert_consumed(status: Any, report: Report) -> None:
    try:
        status.assert_consumed()
    except Exception as error:  # noqa: BLE001 - see above
        status.expect_partial()
        message = f"the restore did not use all that was saved: {brief(error)}"
        report.add(Finding(FindingKind.NOT_REBUILT, message))


def _labels(graph: ObjectGraph) -> list[str]:
    """What messages call each object: its path, or of a slot variable whose it is."""
    paths = graph.paths()
    labels = [paths.get(number, f"node {number}") for number in range(len(graph.nodes))]
    for number, node in enumerate(graph.nodes):
        for slot in node.slot_variables:
            if slot.slot_variable not in paths:
                labels[slot.slot_variable] = f"{labels[slot.original_variable]}/{labels[number]}/{slot.name}"
    return labels


def _has_all_tensors(graph: ObjectGraph, labels: list[str], stored: Stored, report: Report) -> bool:
    """Reports objects whose tensors are not in the checkpoint: no program can restore these."""
    complete = True
    for label, node in zip(labels, graph.nodes, strict=True):
        for one in node.attributes:
            if one.checkpoint_key not in stored.specs:
                complete = False
                message = f"object {label!r}: its tensor {one.checkpoint_key!r} is not in the index"
                report.add(Finding(FindingKind.RESTORE, message, one.checkpoint_key))
    return complete


def _save_counter(graph: ObjectGraph, stored: Stored) -> int | None:
    """The node that `tf.train.Checkpoint` has a variable of its own for; None where that is not so."""
    number = graph.nodes[0].children.get(_COUNTER) if graph.nodes else None
    if number is None:
        return None
    uses = Counter(child for node in graph.nodes for child in node.children.values())
    uses.update(slot.slot_variable for node in graph.nodes for slot in node.slot_variables)
    node = graph.nodes[number]
    plain = len(node.attributes) == 1 and not node.children and uses[number] == 1
    if not plain:
        return None
    spec = stored.specs[node.attributes[0].checkpoint_key]
    return number if (spec.dtype, spec.shape) == (_INT64, ()) else None


def _of_checkpoint(checkpoint: Any, key: str) -> Rebuilt:
    counter = checkpoint.save_counter
    return Rebuilt(counter, lambda: {key: array(counter.numpy())})
