"""What a checkpoint's files hold, read without TensorFlow: what every restored value is compared with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ckptctl.bundle.dtypes import DTYPES, STRING
from ckptctl.bundle.index import read_index
from ckptctl.bundle.source import CHUNK_BYTES
from ckptctl.bundle.v1 import read_v1
from ckptctl.bundle.values import read_tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckptctl.bundle.index import Index
    from ckptctl.opened import OpenCheckpoint
    from ckptctl.restoring.outcome import Outcome

    Array = np.ndarray[Any, Any]

COPIES = 4
"""How often the values are in memory at most: as the variables were made, as they are restored, as they are
read for the comparison, and as they are stored. A checkpoint of one tensor takes 3.1 times what it has."""

_STRING_BYTES = 128
"""What an element of a string tensor takes at most beside its bytes, in TensorFlow and in Python together."""

_TENSOR_BYTES = 1 << 16
"""What an object and a variable take beside the values."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What a tensor is.

    Attributes:
        dtype: Its number in `types.proto`.
        shape: The whole tensor's.
    """

    dtype: int
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Stored:
    """The tensors of a checkpoint.

    Attributes:
        specs: What they are, by name.
        value: Reads one. Raises BundleError, OSError or UnreadableError if that is not possible.
        index: The index; None for V1.
    """

    specs: dict[str, Spec]
    value: Callable[[str], Array]
    index: Index | None = None

    def memory(self, file_bytes: int) -> int:
        """How many bytes it takes to hold the values as they are restored, and beside those the stored ones.

        Args:
            file_bytes: How many the files have.
        """
        strings = sum(spec.elements for spec in self.specs.values() if spec.dtype == STRING)
        return COPIES * (file_bytes + strings * _STRING_BYTES) + len(self.specs) * _TENSOR_BYTES

    def compare(
        self, name: str, restored: Array, outcome: Outcome, take: Callable[[Array], Array] | None = None
    ) -> None:
        """Reports a value that is not what the files hold.

        Args:
            name: The tensor's.
            restored: The value as TensorFlow has it.
            outcome: Takes the finding.
            take: Gives what is to be compared with it, of the whole tensor; None for all.
        """
        stored = self.value(name)
        if not same(stored if take is None else take(stored), restored):
            message = f"tensor {name!r}: TensorFlow has another value than the files"
            outcome.fail(message, name)


def read_v2(checkpoint: OpenCheckpoint) -> Stored:
    """The tensors of a bundle.

    Raises:
        BundleError: The index does not hold together.
        OSError, UnreadableError: It cannot be read.
    """
    with checkpoint.index() as source:
        index = read_index(source)
    entries = {entry.name: entry for entry in index.tensors()}
    specs = {name: Spec(one.dtype, one.shape) for name, one in entries.items()}
    return Stored(specs, lambda name: read_tensor(index, entries[name], checkpoint.shard), index)


def read_v1_with(reader: Any, checkpoint: OpenCheckpoint) -> Stored:
    """The tensors of a V1 checkpoint; their values are those of TensorFlow's reader, our own reads none.

    Args:
        reader: TensorFlow's.
        checkpoint: It.

    Raises:
        BundleError: The files do not hold together.
        OSError, UnreadableError: They cannot be read.
    """
    with checkpoint.open_data() as sources:
        tensors = read_v1(sources)
    specs = {name: Spec(one.dtype, one.shape) for name, one in tensors.items()}
    return Stored(specs, lambda name: array(reader.get_tensor(name)))


def array(value: Any) -> Array:
    """What TensorFlow gives for a value, as an array; strings as objects."""
    return np.asarray(value, dtype=object) if isinstance(value, bytes) else np.asarray(value)


def same(stored: Array, restored: Array) -> bool:
    """Whether two arrays hold the same bytes."""
    if stored.shape != restored.shape or (stored.dtype == object) != (restored.dtype == object):
        return False
    if stored.dtype == object:
        return bool(np.all(stored == restored))
    if stored.itemsize != restored.itemsize:
        return False
    one, other = _bytes(stored), _bytes(restored)
    # Piece by piece, since the comparison of two arrays makes a third.
    return all(
        np.array_equal(one[begin : begin + CHUNK_BYTES], other[begin : begin + CHUNK_BYTES])
        for begin in range(0, one.size, CHUNK_BYTES)
    )


def _bytes(values: Array) -> Array:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def known(dtype: int) -> bool:
    """Whether values of this type can be compared: variants and resources are more than their bytes."""
    return dtype in DTYPES or dtype == STRING
