"""Proves one checkpoint: restores it the way it was saved, and reads what that did not restore."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ckptctl import naming, posix
from ckptctl.bundle.dtypes import dtype_name
from ckptctl.bundle.graph import OBJECT_GRAPH_KEY, read_object_graph
from ckptctl.errors import BundleError, UnreadableError
from ckptctl.model import Format
from ckptctl.restoring import graphs, objects
from ckptctl.restoring.nodes import brief
from ckptctl.restoring.stored import COPIES, array, known, read_v1_with, read_v2

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckptctl.opened import OpenCheckpoint
    from ckptctl.restoring.outcome import Outcome
    from ckptctl.restoring.stored import Stored


def prove(checkpoint: OpenCheckpoint, outcome: Outcome, need: Callable[[int], None]) -> None:
    """Has TensorFlow restore a checkpoint.

    TensorFlow takes paths for patterns, so that it finds nothing in a directory called `run[1]`. From inside
    the directory it does.

    Args:
        checkpoint: Which; the current directory is its.
        outcome: Takes what does not restore, and what is not proven to.
        need: Told how many bytes of memory it takes, before TensorFlow has opened anything.
    """
    prefix = _prefix(checkpoint)
    try:
        if checkpoint.format is Format.V2:
            stored = read_v2(checkpoint)
            need(stored.memory(0 if stored.index is None else stored.index.data_bytes))
            reader = _open(prefix)
        else:
            with checkpoint.open_data() as sources:
                need(COPIES * sum(source.size for source in sources))
            reader = _open(prefix)
            stored = read_v1_with(reader, checkpoint)
        done = _restore(prefix, checkpoint, stored, outcome)
        left = [name for name in stored.specs if name not in done]
        if left and not outcome.all():
            message = f"{len(left)} of {len(stored.specs)} tensors are restored by nothing, {left[0]!r} first"
            outcome.doubt(message)
        for name in left:
            _read(reader, name, stored, outcome)
    except BundleError as error:
        outcome.fail(str(error))
    except UnreadableError as error:
        outcome.lose(str(error))
    except OSError as error:
        outcome.lose(f"{error.filename} cannot be read: {posix.reason(error)}")
    except tf.errors.OpError as error:
        outcome.fail(f"TensorFlow cannot open it: {brief(error)}")


def _prefix(checkpoint: OpenCheckpoint) -> str:
    """The path that TensorFlow takes, seen from the directory; a sharded V1 checkpoint is a pattern to it."""
    path = os.path.join(os.curdir, checkpoint.name)
    parsed = naming.parse(checkpoint.data[0]) if checkpoint.data else None
    if parsed is None or parsed.role is not naming.Role.V1_SHARD:
        return path
    return f"{path}-?????-of-{parsed.shards:05d}"


def _open(prefix: str) -> Any:
    # Not `tf.train.load_checkpoint`, which looks into a directory of that name first.
    return tf.compat.v1.train.NewCheckpointReader(os.fsencode(prefix))


def _restore(prefix: str, checkpoint: OpenCheckpoint, stored: Stored, outcome: Outcome) -> set[str]:
    """Restores, and returns the names of the tensors that were compared after it."""
    graph = None if stored.index is None else read_object_graph(stored.index, checkpoint.shard)
    if graph is not None:
        return objects.restore(os.fsencode(prefix), graph, stored, outcome) | {OBJECT_GRAPH_KEY.decode()}
    try:
        with checkpoint.open_file(f"{checkpoint.name}.meta") as source:
            meta = source.pread(min(source.size, graphs.MAX_META_BYTES), 0)
    except FileNotFoundError:
        message = "it is name-based and has no .meta: there is no graph to restore into"
        outcome.doubt(message)
        return set()
    except (OSError, UnreadableError) as error:
        outcome.doubt(f"{checkpoint.name}.meta cannot be read: {error}")
        return set()
    return graphs.restore(prefix, meta, stored, outcome)


def _read(reader: Any, name: str, stored: Stored, outcome: Outcome) -> None:
    """Reads a tensor with TensorFlow, and compares it."""
    spec = stored.specs[name]
    if not known(spec.dtype):
        message = f"tensor {name!r} is a {dtype_name(spec.dtype)}, which is not read"
        outcome.doubt(message, name)
        return
    try:
        stored.compare(name, array(reader.get_tensor(name.encode(errors="surrogateescape"))), outcome)
    except Exception as error:  # noqa: BLE001 - the types vary: DataLossError, IndexError, UnicodeError
        outcome.fail(f"tensor {name!r} cannot be read: {brief(error)}", name)
