"""TensorFlow's messages are loaded without TensorFlow, and get along with it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from ckptctl import protos
from ckptctl.errors import BundleError, TensorFlowError

CHECK = """
import ckptctl.protos as protos
import ckptctl.tensorflow as door
def both(tf):
    from tensorflow.core.protobuf import tensor_bundle_pb2, trackable_object_graph_pb2
    from tensorflow.core.util import saved_tensor_slice_pb2
    known = protos.load()
    entry = known.BundleEntryProto(dtype=1, offset=5, shape={"dim": [{"size": 3}]})
    assert tensor_bundle_pb2.BundleEntryProto.FromString(entry.SerializeToString()) == entry
    assert known.BundleHeaderProto is tensor_bundle_pb2.BundleHeaderProto
    assert known.SavedTensorSlices is saved_tensor_slice_pb2.SavedTensorSlices
    assert known.TrackableObjectGraph is trackable_object_graph_pb2.TrackableObjectGraph
    assert tf.TensorShape([3]).as_proto() == entry.shape
    assert tf.io.gfile is tf.io.gfile and int(tf.constant(2) + 3) == 5
"""


def run(program: str) -> str:
    """Runs a program in a process of its own; returns what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_loads_nothing_else() -> None:
    """Loading the messages leaves no module of TensorFlow's behind, and brings in neither it nor numpy."""
    printed = run(
        """
        import sys
        from ckptctl import protos; from ckptctl.bundle import index, verification, v1, graph, step, values
        assert "numpy" not in sys.modules and "google.protobuf" not in sys.modules
        before = set(sys.modules)
        protos.load()
        new = {name.split(".")[0] for name in set(sys.modules) - before}
        print("tensorflow" in new, "numpy" in new, "ml_dtypes" in new)
        with open("/proc/self/maps") as maps:
            print("tensorflow" in maps.read())
        """
    )
    assert printed.split() == ["False"] * 4


@pytest.mark.parametrize(
    "order",
    [
        "protos.load(); import tensorflow as tf; both(tf)",
        "import tensorflow as tf; protos.load(); both(tf)",
        "door.load_alone(); door.preload(); protos.load(); import tensorflow as tf; both(tf)",
    ],
    ids=["before", "after", "beside-the-state-reader"],
)
def test_coexists_with_tensorflow(order: str) -> None:
    """TensorFlow works in the same process, imported before or after, with the very same classes."""
    run(CHECK + order)


def test_is_loaded_once() -> None:
    """Any number of threads get the same classes."""
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda _: protos.load(), range(32)))
    assert len({id(each) for each in loaded}) == 1


def test_no_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TensorFlow the error says what to try."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    protos.load.cache_clear()
    protos._load.cache_clear()
    try:
        with pytest.raises(TensorFlowError, match="import tensorflow"):
            protos.load()
    finally:
        monkeypatch.undo()
        protos.load()


def test_parse_names_the_place() -> None:
    """Bytes that are no message are an error with the place, whatever protobuf raised."""
    with pytest.raises(BundleError, match=r"P\.index: the header: expected a BundleHeaderProto"):
        protos.parse(protos.load().BundleHeaderProto, b"\xff\xff", "P.index: the header")
