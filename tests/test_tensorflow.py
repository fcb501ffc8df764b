"""Tests of the door to TensorFlow: its function alone, and all of TensorFlow after it in the same process."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import fabricate
import pytest

if TYPE_CHECKING:
    from pathlib import Path

ALONE = """
import sys
from ckptctl import tensorflow as door
flags = sys.getdlopenflags()
door.load_alone()
state = door.get_checkpoint_state(sys.argv[1], "checkpoint")
assert state.model_checkpoint_path.endswith("ckpt-3"), state
assert "tensorflow" not in sys.modules
assert sys.getdlopenflags() == flags
"""
WHOLE = """
import tensorflow as tf
assert tf.__version__ and tf.keras
assert tf.train.get_checkpoint_state is door._management().get_checkpoint_state
assert type(state) is type(tf.train.get_checkpoint_state(sys.argv[1]))
x = tf.Variable([1.0, 2.0])
manager = tf.train.CheckpointManager(tf.train.Checkpoint(x=x), sys.argv[1] + "/own", max_to_keep=2)
for _ in range(3):
    manager.save()
    x.assign_add([1.0, 1.0])
manager.checkpoint.restore(manager.latest_checkpoint).assert_consumed()
assert x.numpy().tolist() == [3.0, 4.0]
assert tf.function(lambda a: tf.linalg.matmul(a, a))(tf.eye(3)).numpy().trace() == 3
model = tf.keras.Sequential([tf.keras.layers.Input((2,)), tf.keras.layers.Dense(1)])
model.compile("adam", "mse")
model.fit(tf.zeros((4, 2)), tf.zeros((4, 1)), verbose=0)
again = door.get_checkpoint_state(sys.argv[1] + "/own", "checkpoint")
assert again.model_checkpoint_path == manager.latest_checkpoint
"""
REFUSE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow.python.checkpoint.checkpoint_options":
            import tensorflow
            if not hasattr(tensorflow, "__file__"):
                raise ImportError("not by halves")
sys.meta_path.insert(0, Refuse())
from ckptctl import tensorflow as door
door.load_alone()
state = door.get_checkpoint_state(sys.argv[1], "checkpoint")
assert state.model_checkpoint_path.endswith("ckpt-3"), state
import tensorflow
assert tensorflow.__file__
assert sys.modules["tensorflow.python.checkpoint.checkpoint_management"] is door._management()
"""


@pytest.mark.parametrize(
    "program",
    [ALONE, ALONE + WHOLE, REFUSE],
    ids=["alone", "the whole after it", "the whole where it cannot be loaded alone"],
)
def test_loaded_alone(tmp_path: Path, program: str) -> None:
    """The function works and leaves nothing behind, and all of TensorFlow trains, saves and restores."""
    fabricate.run(tmp_path, 3)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
