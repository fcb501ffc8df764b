"""Real runs that write checkpoints and events, all in one process: TensorFlow takes longest to load.

    python tests/keras_runs.py DIRECTORY

Each Keras run trains eight epochs with learning rates that make the loss rise and fall, and saves its history
with numpy. `tensorboard.json` holds what TensorBoard's own loader reads of all events.
"""
# ruff: noqa: PLC0415  # TensorFlow loads in the process that trains alone

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCHS = 8
RATES = (0.3, 0.3, 2.5, 0.1, 0.3, 2.2, 0.05, 0.3)
EPOCH_SECONDS = 0.08


def fit(
    kind: Any,
    directory: str,
    saver: Any,
    *,
    save_first: bool,
    validate: bool,
    then: Callable[[], object] = lambda: None,
) -> None:
    """Trains with the TensorBoard callback and another that saves; `then` is called after each epoch."""
    import numpy as np

    x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    y = 3 * x
    kind.utils.set_random_seed(1)
    model = kind.Sequential([kind.layers.Dense(1)])
    model.compile(kind.optimizers.SGD(0.3), "mse")
    board = kind.callbacks.TensorBoard(f"{directory}/logs", write_graph=False)
    done = model.fit(
        x,
        y,
        batch_size=16,
        epochs=EPOCHS,
        verbose=0,
        validation_data=(x, y + 0.1) if validate else None,
        callbacks=[
            kind.callbacks.LearningRateScheduler(lambda epoch, _: RATES[epoch]),
            kind.callbacks.LambdaCallback(on_epoch_begin=lambda *_: time.sleep(EPOCH_SECONDS)),
            *([saver, board] if save_first else [board, saver]),
            kind.callbacks.LambdaCallback(on_epoch_end=lambda *_: then()),
        ],
    )
    np.savez(
        f"{directory}/history.npz",
        allow_pickle=False,
        **{name: np.array(v) for name, v in done.history.items()},
    )


def keras_runs(root: str) -> None:
    """Keras 2 with its ModelCheckpoint, Keras 3 with a CheckpointManager; callbacks in both orders."""
    import keras
    import tensorflow as tf
    import tf_keras

    class Manager(keras.callbacks.Callback):  # type: ignore[misc]
        """Saves at the end of each epoch."""

        def __init__(self, directory: str) -> None:
            super().__init__()
            self.directory = directory

        def on_train_begin(self, logs: object = None) -> None:  # noqa: ARG002 - Keras calls it so
            checkpoint = tf.train.Checkpoint(model=self.model, optimizer=self.model.optimizer)
            self.manager = tf.train.CheckpointManager(checkpoint, self.directory, max_to_keep=None)

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
            self.manager.save()

    for name, save_first, validate in (
        ("keras2-board-first", False, False),
        ("keras2-save-first", True, True),
    ):
        path = f"{root}/{name}"
        saver = tf_keras.callbacks.ModelCheckpoint(f"{path}/cp-{{epoch:04d}}.ckpt", save_weights_only=True)
        fit(tf_keras, path, saver, save_first=save_first, validate=validate)
    path = f"{root}/keras3-save-first"
    fit(keras, path, Manager(path), save_first=True, validate=True)
    for name, save_first in (("pruned-board-first", False), ("pruned-save-first", True)):
        path = f"{root}/{name}"
        pruned = Pruned(path)
        fit(keras, path, Manager(path), save_first=save_first, validate=False, then=pruned)
        with open(f"{path}/pruned.json", "w", encoding="utf-8") as file:
            json.dump(pruned.deleted, file)


class Pruned:
    """Prunes beside the training, as a watcher does: the last values are still in the trainer's memory."""

    def __init__(self, directory: str) -> None:
        from ckptctl.events import Events

        self.directory = directory
        self.events = Events(directory)
        self.deleted: list[str] = []

    def __call__(self) -> None:
        """Keeps the two best."""
        import ckptctl
        from ckptctl.policy import Best

        try:
            rule = Best(2, "epoch_loss", self.events.values("epoch_loss"))
        except ckptctl.UnreadableError:  # nothing has been written yet
            return
        self.deleted += ckptctl.prune(self.directory, ckptctl.Policy((rule,))).deleted


def estimator_run(root: str) -> None:
    """What TF1's Estimator leaves: the training's loss and the Saver's checkpoints, and `eval` below."""
    import tensorflow as tf
    from tensorboard.plugins.scalar import summary as scalar

    v1 = tf.compat.v1
    path = f"{root}/estimator"
    with tf.Graph().as_default(), v1.Session() as session:
        step = v1.train.get_or_create_global_step()
        train = v1.assign_add(step, 10)
        saver = v1.train.Saver(max_to_keep=None)
        session.run(v1.global_variables_initializer())
        writer, evaluation = v1.summary.FileWriter(path), v1.summary.FileWriter(f"{path}/eval")
        for loss in (0.5, 0.2, 0.4, 0.3):
            number = session.run(train)
            values = [v1.Summary.Value(tag="loss", simple_value=loss)]
            values.append(v1.Summary.Value(tag="weights", histo=v1.HistogramProto(num=1, bucket=[1.0])))
            writer.add_summary(v1.Summary(value=values), number)
            saver.save(session, f"{path}/model.ckpt", global_step=step)
            evaluation.add_summary(
                v1.Summary(value=[v1.Summary.Value(tag="loss", simple_value=1 - loss)]), number
            )
            evaluation.add_summary(scalar.pb("as_a_tensor", loss), number)
        writer.close()
        evaluation.close()


def plain_run(root: str) -> None:
    """What TF2's writers write besides scalars."""
    import tensorflow as tf

    with tf.summary.create_file_writer(f"{root}/plain").as_default():
        for step in range(3):
            tf.summary.scalar("group/loss", 1.0 / (step + 1), step=step)
            tf.summary.scalar("whole", tf.constant(step, tf.int64), step=step)
            tf.summary.histogram("weights", tf.zeros([10]), step=step)
            tf.summary.image("image", tf.zeros([1, 4, 4, 3]), step=step)
            tf.summary.text("text", "1.5", step=step)
            tf.summary.write("tensor", tf.zeros([3]), step=step)


def as_tensorboard_reads(root: str) -> list[tuple[str, str, list[tuple[int, float, float]]]]:
    """The file's directory, the tag, and the steps, times and values of each scalar."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util import tensor_util

    found: dict[tuple[str, str], list[tuple[int, float, float]]] = {}
    for path, _, names in os.walk(root):
        for name in [name for name in names if "tfevents" in name]:
            for event in EventFileLoader(os.path.join(path, name)).Load():
                for value in event.summary.value:
                    key = os.path.relpath(path, root), value.tag
                    # TF1's writer says what a tensor is at its first value alone.
                    if value.metadata.plugin_data.plugin_name == "scalars" or key in found:
                        number = tensor_util.make_ndarray(value.tensor).item()
                        found.setdefault(key, []).append((event.step, event.wall_time, number))
    return [(*key, points) for key, points in found.items()]


if __name__ == "__main__":
    keras_runs(sys.argv[1])
    estimator_run(sys.argv[1])
    plain_run(sys.argv[1])
    with open(f"{sys.argv[1]}/tensorboard.json", "w", encoding="utf-8") as file:
        json.dump(as_tensorboard_reads(sys.argv[1]), file)
