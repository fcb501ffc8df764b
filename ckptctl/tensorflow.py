"""The one door to TensorFlow: its function that reads a state file, and its message that writes one.

Nothing else in the package imports TensorFlow, and nothing here loads it before it is needed.

`tf.train.get_checkpoint_state` is defined in `tensorflow.python.checkpoint.checkpoint_management`. A command
line needs that module and not the two seconds of Keras, datasets and distribution strategies that
`import tensorflow` brings along. So the command line asks for it *alone*: a bare module object stands in for
the package `tensorflow` while the one module is imported, and is taken out again, after which a full
`import tensorflow` works as ever and finds the identical function. A program that uses the Python API gets
the ordinary import: a package that is half there would be a trap for whatever else it runs.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import importlib.util
import logging
import os
import sys
import threading
import types
from typing import TYPE_CHECKING, Any

from ckptctl.errors import TensorFlowError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MANAGEMENT = "tensorflow.python.checkpoint.checkpoint_management"

_alone = False
_lock = threading.Lock()


def load_alone() -> None:
    """Asks for quiet, cheap loading from here on; for a process that is ours from start to end."""
    global _alone  # noqa: PLW0603 - how a process loads TensorFlow is a fact of that process
    _alone = True


def get_checkpoint_state(directory: str, latest_filename: str) -> Any | None:
    """Calls `tf.train.get_checkpoint_state`.

    Args:
        directory: The directory of checkpoints; relative paths in the state come back joined onto it.
        latest_filename: The state file's name.

    Returns:
        A CheckpointState, or None if the file is absent *or* cannot be parsed.

    Raises:
        ValueError: The state names no latest checkpoint, or is not UTF-8 (UnicodeDecodeError).
        TensorFlowError: TensorFlow cannot be loaded.
    """
    return _management().get_checkpoint_state(directory, latest_filename)


def checkpoint_state(**fields: Any) -> str:
    """The text of a CheckpointState with these fields, as TensorFlow itself writes it."""
    management = _management()
    text: str = management.text_format.MessageToString(management.CheckpointState(**fields))
    return text


def preload() -> None:
    """Loads what the functions above need, so that a later call does not pay for it.

    Raises:
        TensorFlowError: TensorFlow cannot be loaded.
    """
    _management()


@functools.cache
def _load() -> Any:
    if not _alone:
        return _import_module()
    with _silence():
        try:
            with _bare_package():
                return importlib.import_module(_MANAGEMENT)
        except Exception:  # noqa: BLE001 - whatever a half-loaded package ran into, the whole one may not
            for name in [name for name in sys.modules if name.startswith("tensorflow.")]:
                del sys.modules[name]
            return _import_module()
        finally:
            # What it logs is a verdict on the state file, and that verdict is reported by us.
            logging.getLogger("tensorflow").setLevel(logging.ERROR)
            # TensorFlow's objects stay for good: the collector need not go through them again and again.
            gc.freeze()
            gc.set_threshold(100_000)  # nor often through ours, which live to the end of a scan


def _management() -> Any:
    with _lock:
        return _load()


def _import_module() -> Any:
    try:
        importlib.import_module("tensorflow")
        return importlib.import_module(_MANAGEMENT)
    except Exception as error:
        raise TensorFlowError(
            f"TensorFlow cannot be loaded ({error}): see that `python -c 'import tensorflow'` works"
        ) from error


@contextlib.contextmanager
def _bare_package() -> Iterator[None]:
    """Lets modules below `tensorflow` be imported without running `tensorflow/__init__.py`."""
    if "tensorflow" in sys.modules:
        yield
        return
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("no package named tensorflow")
    package = types.ModuleType("tensorflow")
    package.__path__ = list(spec.submodule_search_locations)
    package.__spec__ = spec
    sys.modules["tensorflow"] = package
    try:
        yield
    finally:
        del sys.modules["tensorflow"]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps what native code prints while it loads off the terminal; Python's errors are raised."""
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
