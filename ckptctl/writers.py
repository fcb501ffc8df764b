"""Which of TensorFlow's savers wrote a checkpoint, as far as its files tell. Pure.

V1, or no object graph          tf.compat.v1.train.Saver; so do Estimators and MonitoredTrainingSession
object graph, save_counter      CheckpointManager if the state file has timestamps, else Checkpoint.save
object graph of a Keras model   Keras: save_weights, ModelCheckpoint
any other object graph          Checkpoint.write
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckptctl.model import Checkpoint, State


def writer_of(checkpoint: Checkpoint, state: State) -> str | None:
    """Names the saver.

    Args:
        checkpoint: A checkpoint that was scanned with its details.
        state: Its directory's state.

    Returns:
        None if its contents are not known.
    """
    details = checkpoint.details
    if details is None:
        return None
    if not details.object_based:
        return "Saver"
    if details.counted:
        timed = any(entry.timestamp is not None for entry in state.entries)
        return "CheckpointManager" if timed else "Checkpoint.save"
    return "Keras" if details.layers else "Checkpoint.write"
