"""What a checkpoint says of its tensors, one row each, whatever its format. No tensor's data are read."""

from __future__ import annotations

import contextlib
import difflib
import math
import shlex
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ckptctl.bundle.dtypes import DTYPES, dtype_name
from ckptctl.bundle.index import Index, read_index
from ckptctl.bundle.v1 import read_v1
from ckptctl.errors import UnreadableError
from ckptctl.model import Format
from ckptctl.opened import OpenCheckpoint, open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    from ckptctl.bundle.entries import TensorEntry

VALUE_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
"""How the keys of variables end in an object-based checkpoint."""

SLOT_MARK = "/.OPTIMIZER_SLOT/"
"""What stands in a slot's key between its variable and itself, where the optimizer is of TF1 or Keras 2."""

_NEAREST = 3
_SEARCHED = 20_000
_SEARCHED_LENGTH = 200


class Tensor(NamedTuple):
    """A tensor of a checkpoint; a partitioned one is one tensor.

    Attributes:
        name: Its key, in full.
        dtype: As `tf.DType.name` has it.
        shape: Of the whole tensor.
        parameters: How many elements it has, if they are numbers; else 0.
        bytes: How many it takes in the shards, all slices together; None in a V1 checkpoint.
        parts: The entries that hold its bytes: itself, or its slices; none in a V1 checkpoint.
        entry: Its entry in the index; None in a V1 checkpoint.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    parameters: int
    bytes: int | None
    parts: tuple[TensorEntry, ...]
    entry: TensorEntry | None

    @property
    def place(self) -> tuple[int, int]:
        """In which shard its first byte is, and where there."""
        return min(((part.shard_id, part.offset) for part in self.parts), default=(0, 0))


SORT_KEYS: dict[str, Callable[[Tensor], tuple[int, int] | str | int]] = {
    "name": lambda tensor: tensor.name,
    "size": lambda tensor: tensor.bytes or 0,
    "parameters": lambda tensor: tensor.parameters,
    "offset": lambda tensor: tensor.place,
    "dtype": lambda tensor: tensor.dtype,
}
"""What tensors can be sorted by."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A checkpoint whose tensors are known, and whose data can be read while its directory is held open.

    Attributes:
        checkpoint: It.
        tensors: By name, in the order of the names.
        index: Its index; None in a V1 checkpoint.
    """

    checkpoint: OpenCheckpoint
    tensors: dict[str, Tensor]
    index: Index | None

    @property
    def path(self) -> str:
        """The checkpoint's prefix, as TensorFlow takes it."""
        return self.checkpoint.path

    def is_slot(self, tensor: Tensor) -> bool:
        """Whether a tensor is an optimizer's slot for another one, as far as the keys tell."""
        return variable_of_slot(tensor.name, self.tensors) is not None

    def matching(self, pattern: str) -> list[Tensor]:
        """The tensors whose name, in full or without `VALUE_SUFFIX`, fits a pattern of `*`, `?` and `[]`."""
        return [
            tensor
            for name, tensor in self.tensors.items()
            if fnmatchcase(name, pattern) or fnmatchcase(name.removesuffix(VALUE_SUFFIX), pattern)
        ]

    def called(self, pattern: str, variables: Mapping[str, str]) -> list[Tensor]:
        """The tensors of variables whose own name fits a pattern.

        Args:
            pattern: See `matching`.
            variables: What they are called, by the name of the tensor.
        """
        return [
            tensor
            for name, tensor in self.tensors.items()
            if name in variables and fnmatchcase(variables[name], pattern)
        ]

    def find(self, name: str, variables: Callable[[], Mapping[str, str]]) -> Tensor:
        """The tensor of a name, in full or without `VALUE_SUFFIX`, or else that of a variable of that name.

        Args:
            name: The name.
            variables: Tells what the variables are called, by the name of the tensor.

        Raises:
            UnreadableError: There is none, or several variables are called so; the message names the nearest.
        """
        found = self.tensors.get(name) or self.tensors.get(name + VALUE_SUFFIX)
        if found is None:
            own = variables()
            called = [tensor for tensor in self.tensors.values() if own.get(tensor.name) == name]
            if len(called) == 1:
                return called[0]
            names = [tensor.name for tensor in called] or (
                _nearest(name, self.tensors) or _nearest(name, own.values())
            )
            near = " or ".join(names)
            hint = f"did you mean {near}?" if near else f"`ckptctl show {shlex.quote(self.path)}` lists them"
            raise UnreadableError(f"{self.path}: no tensor {name}; {hint}")
        return found


@contextlib.contextmanager
def open_listing(path: str) -> Iterator[Listing]:
    """Finds the checkpoint that a user means, and lists its tensors.

    Args:
        path: Its prefix, or the path of any of its files.

    Raises:
        UnreadableError: There is none, or it cannot be read.
        BundleError: Its index is damaged.
    """
    with open_checkpoint(path) as checkpoint:
        yield list_tensors(checkpoint)


def list_tensors(checkpoint: OpenCheckpoint) -> Listing:
    """Lists the tensors of a checkpoint.

    Raises:
        UnreadableError: It cannot be read.
        BundleError: Its index is damaged, or a V1 file of it.
    """
    if checkpoint.format is Format.V1:
        with checkpoint.open_data() as sources:
            tensors = [
                _tensor(one.name, one.dtype, one.shape, None, (), None) for one in read_v1(sources).values()
            ]
        return Listing(checkpoint, {tensor.name: tensor for tensor in tensors}, None)
    with checkpoint.index() as source:
        index = read_index(source)
    rows = {}
    for entry in index.tensors():
        name = entry.name
        parts = index.parts(entry) if entry.slices else (entry,)
        size = sum([part.size for part in parts]) if entry.slices else entry.size
        rows[name] = _tensor(name, entry.dtype, entry.shape, size, parts, entry)
    return Listing(checkpoint, rows, index)


def variable_of_slot(name: str, names: Container[str]) -> str | None:
    """The variable that a tensor is a slot of, as far as the keys tell.

    layer/kernel/.OPTIMIZER_SLOT/optimizer/m/…    layer/kernel
    layer/kernel/Adam_1                           layer/kernel, of TF1, if there is a tensor of that name

    Args:
        name: The tensor's.
        names: Those of all tensors.
    """
    variable, mark, _ = name.partition(SLOT_MARK)
    if mark:
        return variable
    variable = name.rpartition("/")[0]
    return variable if variable in names else None


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Names without `VALUE_SUFFIX`, but for those that would then be called like another."""
    known = dict.fromkeys(names, "")
    for name in known:
        short = name.removesuffix(VALUE_SUFFIX)
        known[name] = name if short in known else short
    return known


def _tensor(
    name: str,
    dtype: int,
    shape: tuple[int, ...],
    size: int | None,
    parts: tuple[TensorEntry, ...],
    entry: TensorEntry | None,
) -> Tensor:
    elements = math.prod(shape) if dtype in DTYPES else 0
    return Tensor(name, dtype_name(dtype), shape, elements, size, parts, entry)


def _nearest(name: str, names: Iterable[str]) -> list[str]:
    """Names that hold what was asked for, or else look like it."""
    known = [short for short in short_names(names).values() if len(short) <= _SEARCHED_LENGTH]
    holding = list(islice((short for short in known if name in short), _NEAREST))
    return holding or difflib.get_close_matches(name[:_SEARCHED_LENGTH], known[:_SEARCHED], _NEAREST)
