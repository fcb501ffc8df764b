"""Byte for byte against TensorFlow: what it saves is read here as it reads it itself.

Run as a program, this file makes the checkpoints with TensorFlow and says what TensorFlow reads in them; the
tests run it so, in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ckptctl.bundle.dtypes import DTYPES
from ckptctl.bundle.findings import Report
from ckptctl.bundle.graph import read_object_graph
from ckptctl.bundle.index import IndexReader, read_index
from ckptctl.bundle.source import FileSource
from ckptctl.bundle.step import read_step
from ckptctl.bundle.v1 import check_v1, is_v1, read_v1, read_v1_step
from ckptctl.bundle.values import iter_values, read_tensor
from ckptctl.bundle.verification import verify_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ckptctl.bundle.index import Index
    from ckptctl.bundle.source import Source

Said = dict[str, Any]

BUNDLES = ["dtypes", "partitioned", "sharded", "merged", "keras3-1", "keras2", "saver-42"]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[FileSource]:
    """A source over a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield FileSource.of(descriptor, path.name)
    finally:
        os.close(descriptor)


def shards_of(prefix: Path) -> Callable[[int, int], AbstractContextManager[Source]]:
    """Opens the shards of a checkpoint."""
    return lambda shard, count: opened(Path(f"{prefix}.data-{shard:05d}-of-{count:05d}"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of checkpoints that TensorFlow has written, with `said.json`: what it reads in them."""
    path = tmp_path_factory.mktemp("tensorflow")
    subprocess.run([sys.executable, __file__, path], check=True, capture_output=True, timeout=200)
    return path


@pytest.fixture(scope="module")
def said(directory: Path) -> Said:
    """What TensorFlow reads, by checkpoint and tensor."""
    said: Said = json.loads((directory / "said.json").read_text())
    return said


def index_of(directory: Path, name: str) -> Index:
    """The index of a checkpoint."""
    with opened(directory / f"{name}.index") as source:
        return read_index(source)


@pytest.mark.parametrize("name", BUNDLES)
def test_names_dtypes_and_shapes(directory: Path, said: Said, name: str) -> None:
    """Names, dtypes and shapes are those of `tf.train.load_checkpoint`."""
    tensors = {
        entry.name: {"dtype": entry.dtype_name, "shape": list(entry.shape)}
        for entry in index_of(directory, name).tensors()
    }
    assert tensors == {
        key: {"dtype": tensor["dtype"], "shape": tensor["shape"]} for key, tensor in said[name].items()
    }


@pytest.mark.parametrize("name", BUNDLES)
def test_values(directory: Path, said: Said, name: str) -> None:
    """Values are those that TensorFlow reads, to the byte; streamed they are the same."""
    index = index_of(directory, name)
    open_shard = shards_of(directory / name)
    for entry in index.tensors():
        expected = said[name][entry.name]
        values = read_tensor(index, entry, open_shard)
        assert values.shape == tuple(expected["shape"])
        if expected["dtype"] == "string":
            assert [element.hex() for element in values.flat] == expected["values"]
        elif expected["dtype"] == "variant":
            assert len(values.flat[0]) > 10
        else:
            assert values.tobytes().hex() == expected["values"], entry.name
            assert values.dtype.name == expected["numpy"]
            if not entry.slices:
                pieces = [piece.tobytes() for piece in iter_values(index, entry, open_shard)]
                assert b"".join(pieces).hex() == expected["values"]


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("workers", [1, 2])
def test_whole_checkpoints_pass(directory: Path, name: str, workers: int) -> None:
    """Nothing is found in a checkpoint as TensorFlow wrote it."""
    with opened(directory / f"{name}.index") as source:
        verification = verify_bundle(source, shards_of(directory / name), finite=True, workers=workers)
    assert verification.findings == ()
    assert verification.index is not None
    assert verification.checked_bytes == verification.index.data_bytes


def test_every_dtype(said: Said) -> None:
    """Every dtype that this TensorFlow knows and can save is among those tested."""
    tested = {tensor["dtype"] for tensor in said["dtypes"].values()}
    assert tested == set(said["known dtypes"]) - {"resource"}
    assert {dtype.name for dtype in DTYPES.values()} >= tested - {"string", "variant"}


def test_partitioned_keys(directory: Path, said: Said) -> None:
    """A partitioned tensor is one tensor, whose slices are known by their ranges."""
    index = index_of(directory, "partitioned")
    (table,) = (entry for entry in index.tensors() if entry.name == "table")
    assert [str(part) for part in table.slices] == ["0,4:-", "4,6:-"]
    assert [entry.label for entry in index.parts(table)] == ["table [0,4:-]", "table [4,6:-]"]
    assert index.tensor_bytes(table) == len(said["partitioned"]["table"]["values"]) // 2


def test_shards(directory: Path) -> None:
    """A checkpoint that was split by size has its tensors in several shards."""
    index = index_of(directory, "sharded")
    assert index.header.num_shards > 2
    assert len({entry.shard_id for entry in index.stored()}) == index.header.num_shards


@pytest.mark.parametrize(
    ("name", "step", "key"),
    [
        ("keras3-1", 7, "step"),
        ("keras2", 1, "optimizer/_iterations"),
        ("saver-42", 42, "global_step"),
        ("sharded", 1, "save_counter"),
        ("dtypes", None, None),
    ],
)
def test_step(directory: Path, name: str, step: int | None, key: str | None) -> None:
    """The step is the trainer's own, else the optimizer's, else the save counter; TF1's is `global_step`."""
    with opened(directory / f"{name}.index") as source:
        found = read_step(IndexReader(source), shards_of(directory / name))
    assert (found and found.value, found and found.source) == (step, key)


def test_object_graph(directory: Path) -> None:
    """The object graph leads from the root to the keys of the index, and TF1's checkpoints have none."""
    index = index_of(directory, "keras3-1")
    graph = read_object_graph(index, shards_of(directory / "keras3-1"))
    assert graph is not None
    paths = graph.paths()
    assert paths[0] == ""
    keys = {value.checkpoint_key for node in graph.nodes for value in node.attributes}
    assert keys == {entry.name for entry in index.tensors()} - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    assert {"step", "save_counter", "model", "optimizer"} <= set(graph.nodes[0].children)
    assert read_object_graph(index_of(directory, "saver-42"), shards_of(directory / "saver-42")) is None


def test_slot_variables(directory: Path) -> None:
    """Slot variables of an optimizer of Keras 2 lead to the variables that they belong to."""
    index = index_of(directory, "slots-1")
    graph = read_object_graph(index, shards_of(directory / "slots-1"))
    assert graph is not None
    slots = [slot for node in graph.nodes for slot in node.slot_variables]
    assert {slot.name for slot in slots} == {"momentum"}
    paths = graph.paths()
    assert {paths[slot.original_variable] for slot in slots} == {"variable"}


@pytest.mark.parametrize("name", ["v1-42", "v1s-42-00000-of-00001"])
def test_v1(directory: Path, said: Said, name: str) -> None:
    """A V1 checkpoint lists the tensors that TensorFlow lists, passes, and has its step."""
    with opened(directory / name) as source:
        assert is_v1(source)
        tensors = read_v1([source])
        report = Report()
        assert check_v1(source, report) == len(tensors)
        step = read_v1_step([source])
    assert report.findings == []
    assert step is not None
    assert step.value == 42
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == said["v1"]


def test_v2_is_not_v1(directory: Path) -> None:
    """An index of today's format is a table too, and not taken for a V1 checkpoint."""
    for file in ("dtypes.index", "dtypes.data-00000-of-00001"):
        with opened(directory / file) as source:
            assert not is_v1(source)


# --- what runs with TensorFlow --------------------------------------------------------------------------


def _write(path: Path) -> None:
    """Writes the checkpoints, and what TensorFlow reads in them."""
    import tensorflow as tf  # noqa: PLC0415 - in a process of its own

    said: Said = {}
    _write_dtypes(tf, path, said)
    _write_partitioned(tf, path)
    _write_objects(tf, path)
    for name in BUNDLES[:-1]:
        said[name] = _read(tf, str(path / name))
    graph = tf.Graph()
    with graph.as_default():
        _write_names(tf.compat.v1, path)
    said["saver-42"] = _read(tf, str(path / "saver-42"))
    reader = tf.compat.v1.train.NewCheckpointReader(str(path / "v1-42"))
    said["v1"] = reader.get_variable_to_shape_map()
    (path / "said.json").write_text(json.dumps(said))


def _read(tf: Any, prefix: str) -> Said:
    reader = tf.train.load_checkpoint(prefix)
    said: Said = {}
    dtypes = reader.get_variable_to_dtype_map()
    for name, shape in reader.get_variable_to_shape_map().items():
        said[name] = {"dtype": dtypes[name].name, "shape": shape}
        if dtypes[name] == tf.variant:
            continue  # TensorFlow cannot show these to Python
        values = reader.get_tensor(name)
        if dtypes[name] == tf.string:
            flat = [values] if isinstance(values, bytes) else values.ravel().tolist()
            said[name]["values"] = [element.hex() for element in flat]
        else:
            said[name]["values"] = values.tobytes().hex()
            said[name]["numpy"] = values.dtype.name
    return said


def _write_dtypes(tf: Any, path: Path, said: Said) -> None:
    """One tensor of each dtype, with all bits set somewhere; strings, a variant, scalars, nothing."""
    from tensorflow.core.framework import types_pb2  # noqa: PLC0415 - see above

    known = [tf.dtypes.as_dtype(number) for number in types_pb2.DataType.values() if 0 < number < 100]
    said["known dtypes"] = [dtype.name for dtype in known]
    tensors = {
        "string": tf.constant([[b"", b"a"], [b"\xff\x00" * 200, "é".encode()]]),
        "variant": tf.raw_ops.TensorListFromTensor(tensor=tf.ones([2, 3]), element_shape=[3]),
        "no string": tf.constant([], dtype=tf.string),
        "one string": tf.constant(b"one"),
        "scalar": tf.constant(1.5),
        "nothing": tf.zeros([2, 0, 3]),
        "name with \n and é": tf.constant([1, 2]),
    }
    for dtype in known:
        if dtype.name not in {"string", "variant", "resource"}:
            tensors[dtype.name] = _numbers(tf, dtype)
    tf.raw_ops.SaveV2(
        prefix=str(path / "dtypes"),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )


def _numbers(tf: Any, dtype: Any) -> Any:
    import numpy as np  # noqa: PLC0415 - see above

    if dtype == tf.bool:
        return tf.constant([[True, False], [False, True]])
    if dtype.is_quantized:
        plain = tf.constant([[0, 1], [2, 127]], dtype={1: tf.uint8, 2: tf.uint16, 4: tf.int32}[dtype.size])
        return tf.bitcast(plain, dtype)
    values = np.array([[0, 1], [-1 if dtype.min < 0 else 1, 1]] if not dtype.is_complex else [[1j, 2 - 3j]])
    return tf.constant(values.astype(dtype.as_numpy_dtype))


def _write_partitioned(tf: Any, path: Path) -> None:
    whole = tf.reshape(tf.range(30, dtype=tf.float32), [10, 3])
    tf.raw_ops.SaveV2(
        prefix=str(path / "partitioned"),
        tensor_names=["table", "table", "whole"],
        shape_and_slices=["10 3 0,4:-", "10 3 4,6:-", "10 3 -:-"],
        tensors=[whole[:4], whole[4:], whole],
    )
    parts = [str(path / "part-0"), str(path / "part-1")]
    for prefix, names in zip(parts, (["a"], ["b", "c"]), strict=True):
        tf.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[whole] * len(names),
        )
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(path / "merged"))


def _write_objects(tf: Any, path: Path) -> None:
    import numpy as np  # noqa: PLC0415 - see above

    options = tf.train.CheckpointOptions(
        experimental_sharding_callback=tf.train.experimental.MaxShardSizePolicy(300)
    )
    variables = {f"v{number}": tf.Variable(tf.random.normal([10, 5])) for number in range(3)}
    saved = tf.train.Checkpoint(**variables).save(str(path / "sharded"), options=options)
    for file in path.glob(Path(saved).name + ".*"):
        file.rename(path / file.name.replace("sharded-1", "sharded"))

    model = tf.keras.Sequential([tf.keras.layers.Input((2,)), tf.keras.layers.Dense(3)])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 3)), verbose=0)
    step = tf.Variable(7, dtype=tf.int64)
    tf.train.Checkpoint(model=model, optimizer=model.optimizer, step=step).save(str(path / "keras3"))

    import tf_keras  # noqa: PLC0415 - see above

    model = tf_keras.Sequential([tf_keras.layers.Input((2,)), tf_keras.layers.Dense(3)])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 3)), verbose=0)
    model.save_weights(str(path / "keras2"), save_format="tf")

    variable = tf.Variable([1.0, 2.0])
    optimizer = tf_keras.optimizers.legacy.SGD(0.1, momentum=0.9)
    optimizer.apply_gradients([(tf.ones([2]), variable)])
    tf.train.Checkpoint(variable=variable, optimizer=optimizer).save(str(path / "slots"))


def _write_names(tf1: Any, path: Path) -> None:
    """What TF1 writes: by name, in either format."""
    with tf1.Session() as session:
        tf1.train.get_or_create_global_step()
        tf1.get_variable("weights", shape=[30, 50])
        tf1.get_variable("large", shape=[500, 1200])
        tf1.get_variable("table", shape=[10, 3], partitioner=tf1.fixed_size_partitioner(3))
        session.run(tf1.global_variables_initializer())
        session.run(tf1.train.get_global_step().assign(42))
        for version, sharded, name in ((1, False, "v1"), (1, True, "v1s"), (2, False, "saver")):
            saver = tf1.train.Saver(write_version=version, sharded=sharded)
            saver.save(session, str(path / name), global_step=42)


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
