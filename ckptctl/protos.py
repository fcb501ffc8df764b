"""TensorFlow's own messages, loaded without TensorFlow.

TensorFlow's generated modules need protobuf and each other, and nothing else of TensorFlow.
Python would run `tensorflow/__init__.py` first all the same, which takes seconds and hundreds of megabytes.
So bare package objects stand in for the packages while the modules are imported (30 ms, 15 MB, no native
library), and everything that was put into `sys.modules` is taken out again. A later `import tensorflow`
then starts from nothing, as ever; the descriptor pool knows the files already, and hands out the very same
message classes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import threading
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckptctl.errors import BundleError, TensorFlowError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGES = ("core", "core.framework", "core.protobuf", "core.util", "python", "python.training")
_ROOT = "tensorflow"

_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Protos:
    """The messages that checkpoints are made of; each attribute is TensorFlow's class of that name."""

    CheckpointState: Any
    BundleHeaderProto: Any
    BundleEntryProto: Any
    SavedTensorSlices: Any
    TrackableObjectGraph: Any


@functools.cache
def load() -> Protos:
    """Loads the messages, once in a process; a TensorFlow that is already imported is asked for its own.

    Safe to call from several threads. No other thread should be importing TensorFlow meanwhile.

    Raises:
        TensorFlowError: TensorFlow is not installed, or its modules cannot be imported.
    """
    with _lock:
        return _load()


def parse(message: Any, data: bytes, where: str) -> Any:
    """Parses a message.

    Args:
        message: Its class, one of `Protos`.
        data: It, serialized.
        where: What the error calls the place that it is from.

    Raises:
        BundleError: It is no such message.
    """
    try:
        return message.FromString(data)
    except Exception as error:  # what protobuf raises depends on its implementation
        raise BundleError(f"{where}: expected a {message.DESCRIPTOR.name}: {error}") from error


@functools.cache
def _load() -> Protos:
    try:
        with _bare_packages():
            state = importlib.import_module("tensorflow.python.training.checkpoint_state_pb2")
            bundle = importlib.import_module("tensorflow.core.protobuf.tensor_bundle_pb2")
            slices = importlib.import_module("tensorflow.core.util.saved_tensor_slice_pb2")
            graph = importlib.import_module("tensorflow.core.protobuf.trackable_object_graph_pb2")
    except Exception as error:
        raise TensorFlowError(
            f"TensorFlow's messages cannot be loaded ({error}): "
            "see that `python -c 'import tensorflow'` works"
        ) from error
    return Protos(
        CheckpointState=state.CheckpointState,
        BundleHeaderProto=bundle.BundleHeaderProto,
        BundleEntryProto=bundle.BundleEntryProto,
        SavedTensorSlices=slices.SavedTensorSlices,
        TrackableObjectGraph=graph.TrackableObjectGraph,
    )


@contextlib.contextmanager
def _bare_packages() -> Iterator[None]:
    """Lets TensorFlow's generated modules be imported without running any `__init__.py` of its packages."""
    if _ROOT in sys.modules:
        yield
        return
    spec = importlib.util.find_spec(_ROOT)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("no package named tensorflow")
    before = _loaded()
    root = list(spec.submodule_search_locations)
    _stand_in(_ROOT, root)
    for package in _PACKAGES:
        _stand_in(f"{_ROOT}.{package}", [os.path.join(path, *package.split(".")) for path in root])
    try:
        yield
    finally:
        for name in _loaded() - before:
            del sys.modules[name]


def _stand_in(name: str, paths: list[str]) -> None:
    """Puts a bare package into `sys.modules`, unless the true one is there."""
    if name in sys.modules:
        return
    package = types.ModuleType(name)
    package.__path__ = paths
    package.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    sys.modules[name] = package


def _loaded() -> set[str]:
    return {name for name in sys.modules if name == _ROOT or name.startswith(_ROOT + ".")}
