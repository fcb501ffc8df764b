"""A small real trainer, without any retention of its own: what `ckptctl demo` runs, in processes of its own.

It is a program and no part of the tool: nothing imports it. It saves with `tf.train.Checkpoint.save` under a
new name each time, so the state file lists one checkpoint while the directory holds them all.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    """Trains and saves, or restores the newest checkpoint and tells its step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("train", "restore"))
    parser.add_argument("directory")
    parser.add_argument("--saves", type=int, default=10)
    parser.add_argument("--pause", type=float, default=0.4, help="seconds of training between two saves")
    parser.add_argument("--wait-after", type=int, help="after so many saves, wait for a line on stdin")
    args = parser.parse_args()

    import keras  # noqa: PLC0415 - after the log level is set, and after a usage error
    import tensorflow as tf  # noqa: PLC0415 - the same

    model = keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(256), keras.layers.Dense(64)])
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, step=step)

    if args.action == "restore":
        path = tf.train.latest_checkpoint(args.directory)
        checkpoint.restore(path).assert_consumed()
        sys.stdout.write(
            f"{os.path.basename(path)} restores, every value in its place: step {step.numpy()}\n"
        )
        return

    batch = tf.random.normal((32, 64))
    for save in range(1, args.saves + 1):
        until = tf.timestamp() + args.pause
        while tf.timestamp() < until:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(model(batch) - batch))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            step.assign_add(1)
        checkpoint.save(os.path.join(args.directory, f"after_{step.numpy()}_steps"))
        sys.stdout.write(f"saved {save}\n")
        sys.stdout.flush()
        if save == args.wait_after:
            sys.stdin.readline()


if __name__ == "__main__":
    main()
