"""Restores an object-based checkpoint: its tree is rebuilt, and `tf.train.Checkpoint` restores into that.

The tree has the checkpoint's own edges, so objects that are shared, and cycles, are what they were. Slot
variables hang on no edge: TensorFlow asks the optimizer for them once it has come to the variable they
belong to, and ours hands out the one that was rebuilt for the node.
"""

from __future__ import annotations

import bisect
import itertools
import os
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ckptctl.bundle.graph import OBJECT_GRAPH_KEY
from ckptctl.restoring.nodes import ATTRIBUTES, Rebuilt, brief, rebuild
from ckptctl.restoring.stored import Spec, array

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckptctl.bundle.graph import ObjectGraph
    from ckptctl.restoring.outcome import Outcome
    from ckptctl.restoring.stored import Stored

_COUNTER = "save_counter"
_INT64 = 9


def restore(prefix: bytes, graph: ObjectGraph, stored: Stored, outcome: Outcome) -> set[str]:
    """Rebuilds the tree, restores it, and compares every value.

    Args:
        prefix: The checkpoint's.
        graph: Its objects.
        stored: What its files hold.
        outcome: Takes what cannot be rebuilt, and what does not restore.

    Returns:
        The names of the tensors whose restored values were compared.
    """
    if not graph.nodes:
        outcome.fail("its graph has no objects", OBJECT_GRAPH_KEY.decode())
        return set()
    labels = _labels(graph)
    tensors = _tensors(graph, labels, stored, outcome)
    if tensors is None:
        return set()
    objects = _objects(graph, labels, tensors, outcome)
    # `read` is what `restore` begins with. It is the one for what `write` wrote, without a save counter, and
    # the one that opens a checkpoint, and no SavedModel, where a directory has the same name: the counter is
    # then a variable like any other.
    counter = None if os.path.isdir(prefix) else _save_counter(graph, tensors)
    _connect(graph, objects, counter)
    # A reference, since a root that is a variable would be asked whether it is true.
    checkpoint = tf.train.Checkpoint(root=weakref.ref(objects[0].trackable))
    restoring = checkpoint.read if counter is None else checkpoint.restore
    if not _consumed(restoring, prefix, outcome):
        return set()
    if counter is not None:
        objects[counter] = _of_checkpoint(checkpoint, *tensors[counter])
    compared: set[str] = set()
    for one in objects:
        compared |= one.compare(stored, outcome)
    return compared


def _objects(
    graph: ObjectGraph, labels: list[str], tensors: list[dict[str, Spec]], outcome: Outcome
) -> list[Rebuilt]:
    """Makes every object, and notes which are not those that were saved."""
    objects: list[Rebuilt] = []
    for label, node, saved in zip(labels, graph.nodes, tensors, strict=True):
        objects.append(rebuild(node, saved, lambda number: objects[number].trackable))
        if objects[-1].doubt:
            outcome.doubt(f"object {label!r} {objects[-1].doubt}")
    return objects


def _connect(graph: ObjectGraph, objects: list[Rebuilt], counter: int | None) -> None:
    """Gives every object its children, but the root its save counter: the checkpoint brings that."""
    for number, node in enumerate(graph.nodes):
        parent = objects[number].trackable
        for name, child in node.children.items():
            if (number, child) != (0, counter):
                parent._track_trackable(objects[child].trackable, name, overwrite=True)  # noqa: SLF001


def _consumed(restoring: Callable[[bytes], Any], prefix: bytes, outcome: Outcome) -> bool:
    """Restores, and tells whether everything that was saved was used."""
    try:
        status = restoring(prefix)
    except Exception as error:  # noqa: BLE001 - whatever TensorFlow raises is what we are here to hear
        # An object that stands in for another one may be the reason, unless all are what was saved.
        tell = outcome.doubt if outcome.doubts.findings else outcome.fail
        tell(f"the tree of objects does not restore: {brief(error)}")
        return False
    try:
        status.assert_consumed()
    except Exception as error:  # noqa: BLE001 - the same
        status.expect_partial()
        if not outcome.doubts.findings:  # what is not rebuilt cannot be restored, which is said already
            outcome.doubt(f"the restore did not use all that was saved: {brief(error)}")
        return False
    return True


def _labels(graph: ObjectGraph) -> list[str]:
    """What messages call each object: its path, or of a slot variable whose it is."""
    paths = graph.paths()
    labels = [paths.get(number, f"node {number}") for number in range(len(graph.nodes))]
    for number, node in enumerate(graph.nodes):
        for slot in node.slot_variables:
            if slot.slot_variable not in paths:
                labels[slot.slot_variable] = f"{labels[slot.original_variable]}/{labels[number]}/{slot.name}"
    return labels


def _tensors(
    graph: ObjectGraph, labels: list[str], stored: Stored, outcome: Outcome
) -> list[dict[str, Spec]] | None:
    """What each object saved, by key; None if there is one whose tensors are not there.

    An attribute names a tensor, or what the names of several begin with: a table's `table` stands for
    `table-keys` and `table-values`.
    """
    names = sorted(stored.specs)
    found: list[dict[str, Spec]] = []
    complete = True
    for label, node in zip(labels, graph.nodes, strict=True):
        found.append({})
        for one in node.attributes:
            key = one.checkpoint_key
            keys = [key] if key in stored.specs else _beginning_with(key, names)
            found[-1].update((key, stored.specs[key]) for key in keys)
            if not keys:
                complete = False
                message = f"object {label!r}: its tensor {key!r} is not in the index"
                outcome.fail(message, key)
    return found if complete else None


def _beginning_with(key: str, names: list[str]) -> list[str]:
    """Those of the sorted names that begin with a key."""
    if ATTRIBUTES not in key:
        return []
    begin = bisect.bisect_left(names, key)
    return list(itertools.takewhile(lambda name: name.startswith(key), itertools.islice(names, begin, None)))


def _save_counter(graph: ObjectGraph, tensors: list[dict[str, Spec]]) -> int | None:
    """The node that `tf.train.Checkpoint` has a variable of its own for; None where that is not so."""
    number = graph.nodes[0].children.get(_COUNTER)
    if number is None:
        return None
    uses = Counter(child for node in graph.nodes for child in node.children.values())
    uses.update(slot.slot_variable for node in graph.nodes for slot in node.slot_variables)
    plain = [Spec(_INT64, ())] == list(tensors[number].values())
    return number if plain and not graph.nodes[number].children and uses[number] == 1 else None


def _of_checkpoint(checkpoint: Any, key: str) -> Rebuilt:
    counter = checkpoint.save_counter
    return Rebuilt(counter, lambda: {key: array(counter.numpy())})
