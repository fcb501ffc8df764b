"""Real TensorFlow trainers, each a small program that runs in a process of its own.

    python tests/trainers.py NAME DIRECTORY [--saves N] [--delay SECONDS] [--max-to-keep N]
        [--report] [--gate]

Each begins as a real trainer does: it restores the newest checkpoint of the directory, if there is one,
proves that every value in it was used, and then goes on to save. With `--report` it prints what TensorFlow
found in the directory as one JSON object, which makes `--saves 0 --report` the oracle of the tests.
With `--gate` it writes a line before each save, and waits for one.

The models are linear and their gradients constant, so that the optimizer (Adam with a learning rate of 1)
moves each weight by 1 a step: the weights themselves say at which step they were saved.

TensorFlow is imported by the trainer functions alone: to import this module costs nothing.
"""
# ruff: noqa: PLC0415  # see the docstring's last sentence

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LATEST_FILENAME = "my_state"
"""What `saver-latest-filename` calls its state file."""

BACKUP_DIRECTORY = "chief"
"""Where below its directory `keras2-backup` keeps its checkpoint."""

STEPS_PER_SAVE = 10
"""How many steps the trainers that count steps of their own train before each save."""

TIMEOUT = 120.0
"""Seconds after which a trainer is taken to hang; on an idle machine each needs about five."""


# --- What the tests call -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """What TensorFlow found in a directory before the trainer saved anything there.

    Attributes:
        latest: `tf.train.latest_checkpoint`.
        listed: `all_model_checkpoint_paths` of the state file, as `tf.train.get_checkpoint_state` gives them.
        missing: Those of `listed` of which `tf.compat.v1.train.checkpoint_exists` finds nothing.
        restored: The prefix (or the weights file) that was restored, with every value asserted to be used.
        step: The training step that its values belong to.
    """

    latest: str | None
    listed: tuple[str, ...]
    missing: tuple[str, ...]
    restored: str
    step: int


def run_trainer(
    name: str,
    directory: str | os.PathLike[str],
    *,
    saves: int = 6,
    delay: float = 0.0,
    max_to_keep: int | None = None,
) -> None:
    """Runs a trainer to its end.

    Args:
        name: One of `TRAINERS`.
        directory: Where it writes; it goes on from what it finds there.
        saves: How many checkpoints it makes.
        delay: Seconds between two saves.
        max_to_keep: How many it keeps; 0 for all, None for what the trainer does if nothing is said.

    Raises:
        RuntimeError: It failed; the message holds what it wrote to stderr.
    """
    finish_trainer(start_trainer(name, directory, saves=saves, delay=delay, max_to_keep=max_to_keep))


def restore_and_train(
    name: str, directory: str | os.PathLike[str], *, saves: int = 0, max_to_keep: int | None = None
) -> Found:
    """Restores the newest checkpoint in a new process, and goes on training there.

    Args:
        name: One of `TRAINERS`: the one that wrote the directory.
        directory: Where it wrote.
        saves: How many further checkpoints it makes after that.
        max_to_keep: As for `run_trainer`.

    Returns:
        What TensorFlow found before the first of those saves.

    Raises:
        RuntimeError: There is nothing to restore, it does not restore, or training fails.
    """
    return found_in(
        finish_trainer(start_trainer(name, directory, saves=saves, max_to_keep=max_to_keep, report=True))
    )


def found_in(report: str) -> Found:
    """What a trainer found, by what it printed."""
    found = json.loads(report)
    return Found(
        latest=found["latest"],
        listed=tuple(found["listed"]),
        missing=tuple(found["missing"]),
        restored=found["restored"],
        step=found["step"],
    )


def start_trainer(  # the options of the command line
    name: str,
    directory: str | os.PathLike[str],
    *,
    saves: int = 6,
    delay: float = 0.0,
    max_to_keep: int | None = None,
    report: bool = False,
    gate: bool = False,
) -> subprocess.Popen[str]:
    """Starts a trainer; see `run_trainer` for the arguments.

    Args:
        name: One of `TRAINERS`.
        directory: Where it writes.
        saves: How many checkpoints it makes.
        delay: Seconds between two saves.
        max_to_keep: How many it keeps.
        report: Whether it prints what it found, as one line of JSON.
        gate: Whether it writes a line to stdout before each save, and waits for one on stdin.

    Returns:
        Its process, with stdout and stderr captured, for `finish_trainer`.
    """
    command = [sys.executable, __file__, name, os.fspath(directory), f"--saves={saves}", f"--delay={delay}"]
    if max_to_keep is not None:
        command.append(f"--max-to-keep={max_to_keep}")
    if report:
        command.append("--report")
    if gate:
        command.append("--gate")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE if gate else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **quiet},
    )


def finish_trainer(process: subprocess.Popen[str]) -> str:
    """Waits for a trainer that `start_trainer` started.

    Args:
        process: Its process.

    Returns:
        What it wrote to stdout.

    Raises:
        RuntimeError: It failed; the message holds what it wrote to stderr.
    """
    with process:
        try:
            output, errors = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            errors += f"\nkilled after {TIMEOUT} s"
    if process.returncode != 0:
        command = " ".join(cast("list[str]", process.args)[1:])
        raise RuntimeError(f"{command}: exit status {process.returncode}\n{errors}")
    return output


# --- What the trainers share ---------------------------------------------------------------------------


@dataclass(slots=True)
class _Run:
    """One run of a trainer.

    Attributes:
        directory: Where it writes.
        saves: How many checkpoints it is to make.
        delay: Seconds between two saves.
        max_to_keep: How many it is to keep; 0 for all, None for the trainer's own default.
        report: Whether to print what was found.
        gate: Whether to wait for a line before each save.
        found: What was found, apart from what the trainer itself has to tell.
    """

    directory: str
    saves: int
    delay: float
    max_to_keep: int | None
    report: bool
    gate: bool
    found: dict[str, Any] = field(default_factory=dict)

    def look(self, directory: str | None = None, latest_filename: str | None = None) -> str | None:
        """Looks at the state as it is before anything is saved.

        Args:
            directory: Where the state file lies, if that is not the trainer's directory.
            latest_filename: Its name, if it is not `checkpoint`.

        Returns:
            `tf.train.latest_checkpoint`.
        """
        import tensorflow as tf

        directory = self.directory if directory is None else directory
        latest = cast("str | None", tf.train.latest_checkpoint(directory, latest_filename))
        state = tf.train.get_checkpoint_state(directory, latest_filename)
        listed = [] if state is None else list(state.all_model_checkpoint_paths)
        exists = tf.compat.v1.train.checkpoint_exists
        missing = [path for path in listed if not exists(path)]
        self.found = {"latest": latest, "listed": listed, "missing": missing}
        return latest

    def restored(self, path: str, step: int) -> None:
        """Tells what was restored, once it is proven."""
        if self.report:
            print(json.dumps({**self.found, "restored": path, "step": step}), flush=True)  # noqa: T201
            self.report = False

    def keep(self, default: int | None) -> int | None:
        """How many checkpoints to keep, None for all; `default` if nothing was said."""
        return default if self.max_to_keep is None else self.max_to_keep or None

    def turns(self) -> Iterator[None]:
        """One turn for each save, with the delay between them."""
        for turn in range(self.saves):
            self.pace(first=not turn)
            yield

    def pace(self, *, first: bool) -> None:
        """Waits before a save, as long as it is to."""
        if self.delay and not first:
            time.sleep(self.delay)
        if self.gate:
            print(flush=True)  # noqa: T201 - that is the word
            sys.stdin.readline()


class _KerasWork:
    """A Keras model and Adam, for `tf.train.Checkpoint`; trained with a GradientTape.

    Args:
        keras: The module of that name, or of Keras 2, `tf_keras`.
    """

    def __init__(self, keras: str = "keras") -> None:
        import tensorflow as tf

        self._tf = tf
        module: Any = importlib.import_module(keras)
        self.model = _dense(module)
        self.optimizer = module.optimizers.Adam(learning_rate=1.0)
        self.optimizer.build(self.model.trainable_variables)

    def train(self, steps: int = 1) -> None:
        for _ in range(steps):
            with self._tf.GradientTape() as tape:
                loss = -self._tf.reduce_sum(self.model(self._tf.ones((1, 2))))
            weights = self.model.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    @property
    def step(self) -> int:
        """The optimizer's count of steps, which must be what the weights say."""
        return _agreed(int(self.optimizer.iterations), self.model.get_weights())

    def restore(self, run: _Run, checkpoint: Any, path: str | None) -> None:
        """Restores a checkpoint, if there is one, and asserts that all of it was used."""
        if path is not None:
            checkpoint.restore(path).assert_consumed()
            run.restored(path, self.step)


def _dense(keras: Any) -> Any:
    """A model of one small layer, all weights 0, with Keras 2 or Keras 3."""
    return keras.Sequential(
        [keras.layers.InputLayer((2,)), keras.layers.Dense(4, kernel_initializer="zeros", name="dense")]
    )


def _agreed(step: int, weights: list[Any]) -> int:
    """The step, after a look at weights that have moved by 1 in each."""
    for array in weights:
        assert abs(array - step).max() < 0.01, f"the weights are not those of step {step}: {array}"
    return step


# --- tf.train.Checkpoint and tf.train.CheckpointManager ------------------------------------------------


def manager(run: _Run) -> None:
    """A Keras model and Adam under CheckpointManager(max_to_keep=3): the guide's training loop.

    On disk: `ckpt-1`, `ckpt-2`, …, each an index and one shard; the state file holds relative names,
    timestamps and `last_preserved_timestamp`. The manager itself deletes all but the newest three.
    """
    import tensorflow as tf

    work = _KerasWork()
    checkpoint = tf.train.Checkpoint(model=work.model, optimizer=work.optimizer)
    manager = tf.train.CheckpointManager(checkpoint, run.directory, max_to_keep=run.keep(3))
    work.restore(run, checkpoint, run.look())
    for _ in run.turns():
        work.train()
        manager.save()


def manager_step(run: _Run) -> None:
    """As `manager`, with a step counter of the trainer's own in the checkpoint.

    On disk: the number in `ckpt-6` is the save counter; the step, 60, is inside only.
    """
    import tensorflow as tf

    work = _KerasWork()
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step, model=work.model, optimizer=work.optimizer)
    manager = tf.train.CheckpointManager(checkpoint, run.directory, max_to_keep=run.keep(3))
    work.restore(run, checkpoint, run.look())
    assert int(step) == work.step
    for _ in run.turns():
        work.train(STEPS_PER_SAVE)
        step.assign_add(STEPS_PER_SAVE)
        manager.save()


def own_names(run: _Run) -> None:
    """`Checkpoint.save` with a file prefix of its own each time.

    On disk: `checkpoint_step_10-1`, `checkpoint_step_20-2`, …: TensorFlow appends the save counter. The state
    lists the newest only, and nothing is ever deleted.
    """
    import tensorflow as tf

    work = _KerasWork()
    checkpoint = tf.train.Checkpoint(model=work.model, optimizer=work.optimizer)
    work.restore(run, checkpoint, run.look())
    for _ in run.turns():
        work.train(STEPS_PER_SAVE)
        checkpoint.save(file_prefix=os.path.join(run.directory, f"checkpoint_step_{work.step}"))


def manager_own_name(run: _Run) -> None:
    """CheckpointManager(checkpoint_name="weights", max_to_keep=None), numbered by the step.

    On disk: `weights-10`, `weights-20`, …; the state lists all of them, with timestamps, and nothing is ever
    deleted.
    """
    import tensorflow as tf

    work = _KerasWork()
    checkpoint = tf.train.Checkpoint(model=work.model, optimizer=work.optimizer)
    manager = tf.train.CheckpointManager(
        checkpoint, run.directory, max_to_keep=run.keep(None), checkpoint_name="weights"
    )
    work.restore(run, checkpoint, run.look())
    for _ in run.turns():
        work.train(STEPS_PER_SAVE)
        manager.save(checkpoint_number=work.step)


def preserved(run: _Run) -> None:
    """CheckpointManager(max_to_keep=3, keep_checkpoint_every_n_hours=…) with an interval of no time at all.

    On disk: each checkpoint that falls out of the newest three is preserved: its files stay, the state does
    not name it any more, and `last_preserved_timestamp` becomes its time.
    """
    import tensorflow as tf

    work = _KerasWork()
    checkpoint = tf.train.Checkpoint(model=work.model, optimizer=work.optimizer)
    manager = tf.train.CheckpointManager(
        checkpoint, run.directory, max_to_keep=run.keep(3), keep_checkpoint_every_n_hours=1e-12
    )
    work.restore(run, checkpoint, run.look())
    for _ in run.turns():
        work.train()
        manager.save()


def write(run: _Run) -> None:
    """`Checkpoint.write`, as a trainer does that keeps its own book.

    On disk: `model-1`, `model-2`, … and no state file at all.
    """
    import tensorflow as tf

    work = _KerasWork()
    checkpoint = tf.train.Checkpoint(model=work.model, optimizer=work.optimizer)
    run.look()
    prefix = os.path.join(run.directory, "model-")
    steps = [
        int(file.removeprefix(prefix).removesuffix(".index")) for file in tf.io.gfile.glob(f"{prefix}*.index")
    ]
    if steps:
        newest = f"{prefix}{max(steps)}"
        checkpoint.read(newest).assert_consumed()  # what `write` wrote has no save counter to restore
        run.restored(newest, work.step)
    for _ in run.turns():
        work.train()
        checkpoint.write(f"{prefix}{work.step}")


def sharded(run: _Run) -> None:
    """CheckpointManager(max_to_keep=None) with MaxShardSizePolicy: shards of 64 bytes at most.

    On disk: `ckpt-1.data-00000-of-0000N` and so on; tensors larger than a shard are cut into slices.
    """
    import tensorflow as tf

    work = _KerasWork()
    checkpoint = tf.train.Checkpoint(model=work.model, optimizer=work.optimizer)
    manager = tf.train.CheckpointManager(checkpoint, run.directory, max_to_keep=run.keep(None))
    work.restore(run, checkpoint, run.look())
    policy = tf.train.experimental.MaxShardSizePolicy(max_shard_size=64)
    options = tf.train.CheckpointOptions(experimental_sharding_callback=policy)
    for _ in run.turns():
        work.train()
        manager.save(options=options)


def asynchronous(run: _Run) -> None:
    """CheckpointManager(max_to_keep=None) with `experimental_enable_async_checkpoint`.

    On disk: as `manager`, written by a background thread. The save counter in each file is 0, since the
    thread saves one that nobody increments. So a second run begins again with `ckpt-1`: the numbers tell
    nothing about age, the state's order does. (The model is Keras 2: of Keras 3, the second save raises.)
    """
    import tensorflow as tf

    work = _KerasWork("tf_keras")
    checkpoint = tf.train.Checkpoint(model=work.model, optimizer=work.optimizer)
    manager = tf.train.CheckpointManager(checkpoint, run.directory, max_to_keep=run.keep(None))
    work.restore(run, checkpoint, run.look())
    options = tf.train.CheckpointOptions(experimental_enable_async_checkpoint=True)
    for _ in run.turns():
        work.train()
        manager.save(options=options)
        if run.gate:
            manager.sync()  # before it says that it has saved
    manager.sync()


# --- TF1: tf.compat.v1.train.Saver ---------------------------------------------------------------------


class _GraphWork:
    """TF1's way: a graph with a layer on each device, Adam, a global step, and a session."""

    def __init__(self, devices: int = 1) -> None:
        import tensorflow as tf

        self.v1 = tf.compat.v1
        self.graph = tf.Graph()
        self.config = self.v1.ConfigProto(device_count={"CPU": devices})
        with self.graph.as_default():
            with tf.device("/cpu:0"):
                self.global_step = self.v1.train.get_or_create_global_step()
            self.weights = []
            for device in range(devices):
                with tf.device(f"/cpu:{device}"), self.v1.variable_scope(f"layer_{device}"):
                    zeros = self.v1.zeros_initializer()
                    self.weights.append(self.v1.get_variable("kernel", (2, 4), initializer=zeros))
            loss = -tf.add_n([tf.reduce_sum(weights) for weights in self.weights])
            adam = self.v1.train.AdamOptimizer(learning_rate=1.0)
            self.train_op = adam.minimize(loss, global_step=self.global_step)

    def step(self, session: Any) -> int:
        """The global step, which must be what the weights say."""
        step, weights = session.run([self.global_step, self.weights])
        return _agreed(int(step), weights)


def _train_with_saver(
    run: _Run, saver_options: dict[str, Any], *, devices: int = 1, latest_filename: str | None = None
) -> None:
    work = _GraphWork(devices)
    latest = run.look(latest_filename=latest_filename)
    with work.graph.as_default(), work.v1.Session(graph=work.graph, config=work.config) as session:
        saver = work.v1.train.Saver(**saver_options)
        session.run(work.v1.global_variables_initializer())
        if latest is not None:
            saver.restore(session, latest)
            run.restored(latest, work.step(session))
        prefix = os.path.join(os.path.abspath(run.directory), "model.ckpt")
        for _ in run.turns():
            session.run(work.train_op)
            saver.save(session, prefix, global_step=work.global_step, latest_filename=latest_filename)


def saver(run: _Run) -> None:
    """TF1's Saver, max_to_keep=5.

    On disk: `model.ckpt-1`, … with a `.meta` each; the state holds absolute paths and no timestamps. A new
    Saver knows nothing of the run before: it neither lists nor deletes its checkpoints.
    """
    _train_with_saver(run, {"max_to_keep": run.keep(5)})


def saver_unlimited(run: _Run) -> None:
    """TF1's Saver(max_to_keep=0).

    On disk: every checkpoint; the state lists the newest only.
    """
    _train_with_saver(run, {"max_to_keep": 0})


def saver_sharded(run: _Run) -> None:
    """TF1's Saver(sharded=True) over three CPU devices.

    On disk: a shard for each device, all below one index.
    """
    _train_with_saver(run, {"sharded": True, "max_to_keep": run.keep(5)}, devices=3)


def saver_v1(run: _Run) -> None:
    """TF1's Saver(write_version=SaverDef.V1).

    On disk: one data file under the bare prefix, `model.ckpt-1`, and its `.meta`; no index.
    """
    from tensorflow.core.protobuf.saver_pb2 import SaverDef

    _train_with_saver(run, {"write_version": SaverDef.V1, "max_to_keep": run.keep(5)})


def saver_v1_sharded(run: _Run) -> None:
    """TF1's Saver(write_version=SaverDef.V1, sharded=True) over two CPU devices.

    On disk: `model.ckpt-1-00000-of-00002` and so on; the state names it `model.ckpt-1-?????-of-00002`.
    """
    from tensorflow.core.protobuf.saver_pb2 import SaverDef

    options = {"write_version": SaverDef.V1, "sharded": True, "max_to_keep": run.keep(5)}
    _train_with_saver(run, options, devices=2)


def saver_latest_filename(run: _Run) -> None:
    """TF1's Saver with `latest_filename`.

    On disk: as `saver`, but the state file is called `my_state` and there is no `checkpoint`.
    """
    _train_with_saver(run, {"max_to_keep": run.keep(5)}, latest_filename=LATEST_FILENAME)


def monitored(run: _Run) -> None:
    """MonitoredTrainingSession(save_checkpoint_steps=1) with the Saver that an Estimator makes for it.

    On disk: what TF1's Saver writes, but with relative names in the state; beside it `graph.pbtxt` and an
    events file. A session begins by saving the step that it starts from: `model.ckpt-0` comes first, and a
    second run writes the newest name again. It adopts the checkpoints that the state lists.
    """
    work = _GraphWork()
    latest = run.look()
    with work.graph.as_default():
        saver = work.v1.train.Saver(
            sharded=True, max_to_keep=run.keep(5), defer_build=True, save_relative_paths=True
        )
        work.v1.add_to_collection(work.v1.GraphKeys.SAVERS, saver)
        with work.v1.train.MonitoredTrainingSession(
            checkpoint_dir=run.directory,
            save_checkpoint_steps=1,
            log_step_count_steps=None,
            config=work.config,
        ) as session:
            if latest is not None:
                step = session.run_step_fn(lambda step_context: work.step(step_context.session))
                run.restored(latest, step)
            for _ in run.turns():
                session.run(work.train_op)


# --- Keras callbacks -----------------------------------------------------------------------------------


class _FitWork:
    """A Keras model and Adam, trained with `fit`, one step an epoch.

    Args:
        run: The run.
        keras: Keras 2 or 3, as a module.
    """

    def __init__(self, run: _Run, keras: Any) -> None:
        self._run = run
        self._keras = keras
        self.model = _dense(keras)
        # Not the mean that Keras would take: that would give the bias another gradient than the kernel.
        self.model.compile(
            optimizer=keras.optimizers.Adam(learning_rate=1.0), loss=lambda _, predicted: -predicted
        )
        self.model.optimizer.build(self.model.trainable_variables)

    @property
    def step(self) -> int:
        """The optimizer's count of steps, which must be what the weights say."""
        return _agreed(int(self.model.optimizer.iterations), self.model.get_weights())

    def fit(self, callback: Any, *, epochs: int, initial_epoch: int = 0) -> list[int]:
        """Trains up to `epochs`; returns the epochs that were really trained."""
        import tensorflow as tf

        pace = self._run.pace
        trained: list[int] = []

        class Pace(self._keras.callbacks.Callback):  # type: ignore[misc,name-defined]
            def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
                del logs
                pace(first=not trained)
                trained.append(epoch)

        batch = tf.data.Dataset.from_tensors((tf.ones((1, 2)), tf.zeros((1, 4))))
        callbacks = [callback, Pace()]
        self.model.fit(batch, epochs=epochs, initial_epoch=initial_epoch, callbacks=callbacks, verbose=0)
        return trained

    def resume(self, callback: Any, saved: str | None, epoch: int) -> None:
        """Trains with a callback that restores by itself, and asserts that training went on at `epoch`."""
        trained = self.fit(callback, epochs=epoch + self._run.saves)
        assert trained == list(range(epoch, epoch + self._run.saves)), f"{trained}, not from {epoch} on"
        assert self.step == epoch + self._run.saves, f"the weights of step {epoch} were not restored"
        if saved is not None:
            self._run.restored(saved, epoch)


def keras2_model_checkpoint(run: _Run) -> None:
    """Keras 2's ModelCheckpoint(save_weights_only=True) in TensorFlow's format, a file name for each epoch.

    On disk: `cp-0001.ckpt`, `cp-0002.ckpt`, … as in TensorFlow's tutorial: the names end in no number.
    The state lists the newest only, and nothing is ever deleted.
    """
    import tf_keras

    work = _FitWork(run, tf_keras)
    epoch = 0
    if (latest := run.look()) is not None:
        work.model.load_weights(latest).assert_consumed()
        epoch = work.step
        run.restored(latest, epoch)
    callback = tf_keras.callbacks.ModelCheckpoint(
        os.path.join(run.directory, "cp-{epoch:04d}.ckpt"), save_weights_only=True
    )
    work.fit(callback, epochs=epoch + run.saves, initial_epoch=epoch)


def keras2_backup(run: _Run) -> None:
    """Keras 2's BackupAndRestore, as a training leaves it that was interrupted.

    On disk: one checkpoint, in the subdirectory `chief`, under a CheckpointManager(max_to_keep=1).
    """
    import tensorflow as tf
    import tf_keras

    epoch = 0
    if (latest := run.look(os.path.join(run.directory, BACKUP_DIRECTORY))) is not None:
        epoch = int(tf.train.load_variable(latest, "ckpt_saved_epoch/.ATTRIBUTES/VARIABLE_VALUE")) + 1
    callback = tf_keras.callbacks.BackupAndRestore(run.directory, delete_checkpoint=False)
    _FitWork(run, tf_keras).resume(callback, latest, epoch)


def keras3_backup(run: _Run) -> None:
    """Keras 3's BackupAndRestore, as a training leaves it that was interrupted.

    On disk: `latest.weights.h5` and `training_metadata.json`: no TensorFlow checkpoint, and no state.
    """
    import keras

    run.look()
    epoch = 0
    weights = os.path.join(run.directory, "latest.weights.h5")
    saved = weights if os.path.exists(weights) else None
    if saved is not None:
        with open(os.path.join(run.directory, "training_metadata.json"), encoding="utf-8") as metadata:
            epoch = int(json.load(metadata)["epoch"])
    callback = keras.callbacks.BackupAndRestore(run.directory, delete_checkpoint=False)
    _FitWork(run, keras).resume(callback, saved, epoch)


# --- The command line ----------------------------------------------------------------------------------


TRAINERS: dict[str, Callable[[_Run], None]] = {
    "manager": manager,
    "manager-step": manager_step,
    "own-names": own_names,
    "manager-own-name": manager_own_name,
    "preserved": preserved,
    "write": write,
    "sharded": sharded,
    "async": asynchronous,
    "saver": saver,
    "saver-unlimited": saver_unlimited,
    "saver-sharded": saver_sharded,
    "saver-v1": saver_v1,
    "saver-v1-sharded": saver_v1_sharded,
    "saver-latest-filename": saver_latest_filename,
    "monitored": monitored,
    "keras2-model-checkpoint": keras2_model_checkpoint,
    "keras2-backup": keras2_backup,
    "keras3-backup": keras3_backup,
}
"""The trainers by the name under which the command line knows them."""


def main() -> None:
    """Runs one trainer, in this process."""
    parser = argparse.ArgumentParser(description="Runs a small real TensorFlow trainer.")
    parser.add_argument("name", choices=sorted(TRAINERS))
    parser.add_argument("directory")
    parser.add_argument("--saves", type=int, default=6, help="how many checkpoints to make")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds between two saves")
    parser.add_argument(
        "--max-to-keep", type=int, help="how many to keep, 0 for all (default: the trainer's)"
    )
    parser.add_argument("--report", action="store_true", help="print what was found and restored, as JSON")
    parser.add_argument("--gate", action="store_true", help="before each save write a line, and wait for one")
    arguments = vars(parser.parse_args())
    name = arguments.pop("name")
    run = _Run(**arguments)
    os.makedirs(run.directory, exist_ok=True)
    # A V1 saver warns at every save; of thousands nobody may be reading, and a full pipe would stop it.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    TRAINERS[name](run)
    if run.report:
        sys.exit(f"{run.directory}: nothing to restore")


if __name__ == "__main__":
    main()
