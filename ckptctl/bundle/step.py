"""The step at which a checkpoint was saved, from what the trainer saved in it.

The number behind the dash in a checkpoint's name is whatever its writer counted: steps for a TF1 Saver,
saves for a CheckpointManager. What a person means by the step is how often the weights were updated, so the
first of these that a checkpoint has is taken:

    1. `step`, then `global_step`, saved as an object's attribute: the trainer's own word
    2. `global_step` by name, as TF1 and Estimator save it
    3. the optimizer's count of updates: `_iterations` (Keras 3), then `iter` (Keras 2), of an `optimizer`
       that is saved beside the model, then of the model's own
    4. `save_counter`: how often this trainer has saved; steps it does not count, but it never runs backwards.
       A CheckpointManager that saves asynchronously leaves it at 0, which is then no step

Only these keys are looked up: no other part of the index is read, and of the data a few bytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ckptctl.bundle.checksum import crc32c
from ckptctl.bundle.dtypes import DTYPES, NumberKind
from ckptctl.bundle.source import read_exactly
from ckptctl.errors import BundleError

if TYPE_CHECKING:
    from ckptctl.bundle.entries import BundleHeader, TensorEntry
    from ckptctl.bundle.source import OpenShard

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"

STEP_KEYS = tuple(
    key.encode()
    for key in (
        f"step{_VALUE}",
        f"global_step{_VALUE}",
        "global_step",
        f"optimizer/_iterations{_VALUE}",
        f"optimizer/iter{_VALUE}",
        f"model/optimizer/_iterations{_VALUE}",
        f"model/optimizer/iter{_VALUE}",
        f"save_counter{_VALUE}",
    )
)
"""Where a step is looked for, in this order."""

_MOST = float(1 << 63)
"""What is no longer a step: no integer that TensorFlow counts with goes so far."""

_SAVE_COUNTER = STEP_KEYS[-1]

_FLOATS = {"float16": "e", "float32": "f", "float64": "d"}


class Entries(Protocol):
    """An index, or as much of one as can be asked for `STEP_KEYS`."""

    @property
    def header(self) -> BundleHeader:
        """See `Index.header`."""

    def get(self, key: bytes) -> TensorEntry | None:
        """See `Index.get`."""


class Step(NamedTuple):
    """A step.

    Attributes:
        value: The number.
        key: The key in the index that it is from.
    """

    value: int
    key: str

    @property
    def source(self) -> str:
        """The key without what all keys of variables end in: `optimizer/iter`."""
        return self.key.removesuffix(_VALUE)


def read_step(index: Entries, open_shard: OpenShard) -> Step | None:
    """Finds the step of a checkpoint.

    Args:
        index: Its index; of an `IndexReader` only the blocks that may have one of `STEP_KEYS` are read.
        open_shard: Opens a shard, given its number and the number of shards.

    Returns:
        None if no key of `STEP_KEYS` holds a single whole number that can be a step.

    Raises:
        BundleError: The first key that there is cannot be read, or fails its checksum. Going on to the next
            would give a number that counts something else.
        OSError: The shard cannot be opened.
        UnreadableError: The system refuses.
    """
    for key in STEP_KEYS:
        entry = index.get(key)
        if entry is None or entry.elements != 1 or entry.slices or entry.size != entry.expected_size:
            continue
        value = _read_number(index, entry, open_shard)
        if value is not None and (value > 0 or key != _SAVE_COUNTER):
            return Step(value, key.decode())
    return None


def _read_number(index: Entries, entry: TensorEntry, open_shard: OpenShard) -> int | None:
    dtype = DTYPES[entry.dtype]
    integer = dtype.kind is NumberKind.INTEGER
    if not integer and dtype.name not in _FLOATS:
        return None
    with open_shard(entry.shard_id, index.header.num_shards) as source:
        data = read_exactly(source, entry.size, entry.offset, f"tensor {entry.name!r}")
        if crc32c(data) != entry.crc32c:
            raise BundleError(
                f"{source.name}: tensor {entry.name!r} at byte {entry.offset} fails its checksum"
            )
    if integer:
        signed = not dtype.numpy.startswith("u")
        return int.from_bytes(data, "big" if index.header.big_endian else "little", signed=signed)
    (number,) = struct.unpack(f"{'>' if index.header.big_endian else '<'}{_FLOATS[dtype.name]}", data)
    return int(number) if float(number).is_integer() and abs(number) < _MOST else None
