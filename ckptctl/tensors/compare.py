"""Two checkpoints beside each other, by what their indexes say: names, dtypes, shapes, checksums.

No tensor's data are read. Values are taken for the same if the stored CRC32C of every part agrees, and its
size.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ckptctl.bundle.dtypes import DTYPES
from ckptctl.tensors.listing import variable_of_slot
from ckptctl.tensors.tree import SLOTS

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from ckptctl.bundle.entries import TensorEntry
    from ckptctl.bundle.slices import TensorSlice
    from ckptctl.tensors.listing import Listing, Tensor


class Kind(enum.Enum):
    """What can be said of a tensor in two checkpoints."""

    ADDED = "added"
    REMOVED = "removed"
    DTYPE = "dtype"
    """Another dtype, and perhaps another shape too."""
    SHAPE = "shape"
    VALUES = "values"
    UNKNOWN = "unknown"
    """Dtype and shape are the same; of the values the two indexes do not tell."""
    SAME = "same"


class Comparison(NamedTuple):
    """A tensor in two checkpoints.

    Attributes:
        kind: What became of it.
        name: Its key, in full.
        a: As the first has it; None if it does not.
        b: As the second has it; None if it does not.
    """

    kind: Kind
    name: str
    a: Tensor | None
    b: Tensor | None

    @property
    def parameters(self) -> int:
        """How many it has: in the second checkpoint, if it is there."""
        tensor = self.b or self.a
        return 0 if tensor is None else tensor.parameters


@dataclass(slots=True)
class Share:
    """How much of something differs; what is unknown counts as not different.

    Attributes:
        tensors: How many there are, in either checkpoint.
        changed_tensors: How many of them were added, removed or changed.
        parameters: How many the tensors have.
        changed_parameters: How many of them are in the tensors that differ.
    """

    tensors: int = 0
    changed_tensors: int = 0
    parameters: int = 0
    changed_parameters: int = 0

    def add(self, one: Comparison) -> None:
        """Takes in a tensor."""
        parameters = one.parameters
        self.tensors += 1
        self.parameters += parameters
        if one.kind is not Kind.SAME and one.kind is not Kind.UNKNOWN:
            self.changed_tensors += 1
            self.changed_parameters += parameters


@dataclass(frozen=True, slots=True)
class Diff:
    """What came of comparing two checkpoints.

    Attributes:
        a: The path of the first.
        b: The path of the second.
        comparisons: One for each tensor of either, in the order of the names.
        layers: The layers that are known better than by `layer_of`.
    """

    a: str
    b: str
    comparisons: tuple[Comparison, ...]
    layers: Mapping[str, str]

    def of(self, *kinds: Kind) -> list[Comparison]:
        """The tensors of which one of these holds."""
        return [one for one in self.comparisons if one.kind in kinds]

    @property
    def same(self) -> bool:
        """Whether the two hold the same, as far as can be told: what is unknown is not the same."""
        return all(one.kind is Kind.SAME for one in self.comparisons)

    def total(self) -> Share:
        """How much differs in all."""
        share = Share()
        for one in self.comparisons:
            share.add(one)
        return share

    def by_layer(self) -> dict[str, Share]:
        """How much of each layer differs, in the order of the layers' names."""
        shares: dict[str, Share] = {}
        names = {one.name for one in self.comparisons}
        for one in self.comparisons:
            layer = self.layers.get(one.name)
            if layer is None:
                layer = layer_of(one.name, names)
            share = shares.get(layer)
            if share is None:
                share = shares[layer] = Share()
            share.add(one)
        return dict(sorted(shares.items()))


def compare(a: Listing, b: Listing, layers: Mapping[str, str] | None = None) -> Diff:
    """Compares two checkpoints.

    Args:
        a: The first.
        b: The second.
        layers: The layer of tensors whose keys do not tell it.
    """
    return Diff(a.path, b.path, tuple(_comparisons(a, b)), layers or {})


def layer_of(name: str, names: Container[str] = ()) -> str:
    """The layer that a tensor belongs to: the path of the object that holds its variable.

    model/layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE      model/layer_with_weights-0
    model/layer_with_weights-0/kernel/.OPTIMIZER_SLOT/optimizer/m/…   model/layer_with_weights-0 (slots)
    dense/kernel                                                      dense
    dense/kernel/Adam, if there is a dense/kernel                     dense (slots)
    step/.ATTRIBUTES/VARIABLE_VALUE                                   (empty)

    Args:
        name: The tensor's.
        names: Those of all tensors.
    """
    variable = variable_of_slot(name, names)
    layer = (name if variable is None else variable).partition("/.")[0].rpartition("/")[0]
    return layer if variable is None else f"{layer}{SLOTS}".lstrip()


def _comparisons(a: Listing, b: Listing) -> Iterator[Comparison]:
    byte_order_differs = (
        a.index is not None and b.index is not None and a.index.header.big_endian != b.index.header.big_endian
    )
    for name in sorted(a.tensors.keys() | b.tensors.keys()):
        one, other = a.tensors.get(name), b.tensors.get(name)
        yield Comparison(_kind(one, other, byte_order_differs=byte_order_differs), name, one, other)


def _kind(a: Tensor | None, b: Tensor | None, *, byte_order_differs: bool) -> Kind:
    if a is None:
        return Kind.ADDED
    if b is None:
        return Kind.REMOVED
    if a.dtype != b.dtype:
        return Kind.DTYPE
    if a.shape != b.shape:
        return Kind.SHAPE
    if byte_order_differs and _width(b) != 1:
        return Kind.UNKNOWN
    return _kind_of_parts(a.parts, b.parts)


def _kind_of_parts(a: Sequence[TensorEntry], b: Sequence[TensorEntry]) -> Kind:
    """What the checksums say; in V1 there are none, and those of other slices do not compare."""
    if len(a) == len(b) == 1 and a[0].slice == b[0].slice:  # nearly always, and the others cost more
        (one,), (other,) = a, b
        return Kind.SAME if one.crc32c == other.crc32c and one.size == other.size else Kind.VALUES
    ours, others = _stored(a), _stored(b)
    if not ours or ours.keys() != others.keys():
        return Kind.UNKNOWN
    return Kind.SAME if ours == others else Kind.VALUES


def _stored(parts: Sequence[TensorEntry]) -> dict[TensorSlice | None, tuple[int, int]]:
    return {part.slice: (part.size, part.crc32c) for part in parts}


def _width(tensor: Tensor) -> int | None:
    """How many bytes an element has in the byte order of the machine; None for strings and the like."""
    dtype = None if tensor.entry is None else DTYPES.get(tensor.entry.dtype)
    return None if dtype is None else dtype.size
