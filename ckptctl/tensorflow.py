"""The one door to TensorFlow: its function that reads a state file, and its message that writes one.

Nothing else in the package imports TensorFlow, and nothing here loads it before it is needed.

`tf.train.get_checkpoint_state` is defined in `tensorflow.python.checkpoint.checkpoint_management`. A command
line needs that module and not the two seconds of Keras, datasets and distribution strategies that
`import tensorflow` brings along. So the command line asks for it *alone*: a bare module object stands in for
the package `tensorflow` while the one module is imported, and is taken out again, after which a full
`import tensorflow` works as ever and finds the identical function. (Binding its library lazily would save a
tenth of a second, and make the full import crash.) A program that uses the Python API gets the ordinary
import: a package that is half there would be a trap for whatever else it runs.

Whoever asks for `Reader.PROTOBUF` gets the same reading from TensorFlow's message and protobuf's text parser
alone, in a tenth of the time: TensorFlow's function does no more than that, and tests hold the two together.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import gc
import importlib
import importlib.util
import os
import sys
import threading
import types
from typing import TYPE_CHECKING, Any

from ckptctl import protos
from ckptctl.errors import TensorFlowError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Reader(enum.Enum):
    """What reads a state file."""

    TENSORFLOW = "tensorflow"
    """`tf.train.get_checkpoint_state`: TensorFlow's own reading is the one that counts."""
    PROTOBUF = "protobuf"
    """The same without TensorFlow's native library."""


_MANAGEMENT = "tensorflow.python.checkpoint.checkpoint_management"

_alone = False
_reader = Reader.TENSORFLOW
_lock = threading.Lock()


def load_alone() -> None:
    """Asks for quiet, cheap loading from here on; for a process that is ours from start to end."""
    global _alone  # noqa: PLW0603 - how a process loads TensorFlow is a fact of that process
    _alone = True


def use(reader: Reader) -> None:
    """Chooses what reads state files from here on, in this process."""
    global _reader  # noqa: PLW0603 - the same
    _reader = reader


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
    if _reader is Reader.PROTOBUF:
        return _get_checkpoint_state(directory, latest_filename)
    return _management().get_checkpoint_state(directory, latest_filename)


def checkpoint_state(**fields: Any) -> str:
    """The text of a CheckpointState with these fields, as TensorFlow itself writes it."""
    from google.protobuf import text_format  # noqa: PLC0415 - costs as much as a command does

    home = protos.load() if _reader is Reader.PROTOBUF else _management()
    text: str = text_format.MessageToString(home.CheckpointState(**fields))
    return text


def preload() -> None:
    """Loads what the functions above need, so that a later call does not pay for it.

    Raises:
        TensorFlowError: TensorFlow cannot be loaded.
    """
    if _reader is Reader.PROTOBUF:
        protos.load()
    else:
        _management()


def _get_checkpoint_state(directory: str, latest_filename: str) -> Any | None:
    """Does what TensorFlow's function does."""
    from google.protobuf import text_format  # noqa: PLC0415 - see above

    state = protos.load().CheckpointState()
    try:
        with open(os.path.join(directory, latest_filename), "rb") as file:
            text_format.Merge(file.read().decode(), state)
    except (OSError, text_format.ParseError):
        return None
    if not state.model_checkpoint_path:
        raise ValueError(f"{directory}: the state file names no latest checkpoint")
    state.model_checkpoint_path = os.path.join(directory, state.model_checkpoint_path)
    for at, path in enumerate(state.all_model_checkpoint_paths):
        state.all_model_checkpoint_paths[at] = os.path.join(directory, path)
    return state


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
            import logging  # noqa: PLC0415 - the other reader does without

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
