"""The slices of a partitioned tensor: which part of it each one is, and the key under which it is stored.

    key of a slice, all in ordered code:   0, name (string), rank,
                                           then for each dimension: start, length (signed)

A dimension that is taken whole has start 0 and length -1. All keys of slices begin with the byte 0, so that
they come before every name.

Answers to `tensorflow/core/framework/tensor_slice.cc` and `tensorflow/core/util/saved_tensor_slice_util.cc`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckptctl.bundle.coding import (
    CodingError,
    read_number,
    read_signed,
    read_string,
    write_number,
    write_signed,
    write_string,
)
from ckptctl.errors import BundleError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WHOLE = -1
"""The length of an extent that is a whole dimension."""

MAX_RANK = 254
"""TensorFlow's `TensorShape` has no more dimensions."""

MAX_SLICES = 100_000
"""The most slices of a tensor."""

_SHOWN_EXTENTS = 16

# Slices along one dimension are compared with their neighbours only. A grid takes more, and never this many.
_MAX_COMPARISONS = 4_000_000


@dataclass(frozen=True, slots=True)
class TensorSlice:
    """A part of a tensor.

    Attributes:
        extents: Start and length in each dimension; length `WHOLE` for all of it.
    """

    extents: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        """As TensorFlow writes it: `0,10:-` are ten rows with all their columns."""
        shown = self.extents[:_SHOWN_EXTENTS]
        more = ":…" if len(shown) < len(self.extents) else ""
        return ":".join("-" if length == WHOLE else f"{start},{length}" for start, length in shown) + more

    @classmethod
    def from_proto(cls, proto: Any, rank: int) -> TensorSlice:
        """Takes over a TensorSliceProto.

        Raises:
            BundleError: It is none of a tensor of that rank.
        """
        if len(proto.extent) != rank:
            raise BundleError(f"a slice has {len(proto.extent)} dimensions, the tensor has {rank}")
        return cls(
            tuple(
                (extent.start, extent.length) if extent.HasField("length") else (0, WHOLE)
                for extent in proto.extent
            )
        )

    def ranges(self, shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Where it begins and ends in each dimension of a tensor of that shape.

        Raises:
            BundleError: It has another rank, or reaches beyond the tensor.
        """
        if len(self.extents) != len(shape):
            raise BundleError(f"slice {self} has {len(self.extents)} dimensions, the tensor has {len(shape)}")
        ranges = tuple(
            (0, size) if length == WHOLE else (start, start + length)
            for (start, length), size in zip(self.extents, shape, strict=True)
        )
        for (begin, end), size in zip(ranges, shape, strict=True):
            if not 0 <= begin <= end <= size:
                raise BundleError(f"slice {self} reaches beyond the shape {list(shape)}")
        return ranges


def parse_slices(protos: Any, rank: int) -> tuple[TensorSlice, ...]:
    """Takes over the slices that a tensor of that rank is said to have.

    Raises:
        BundleError: One has another rank.
        UnsupportedError: There are more than `MAX_SLICES`.
    """
    if len(protos) > MAX_SLICES:
        raise UnsupportedError(f"has {len(protos)} slices, expected at most {MAX_SLICES}")
    return tuple([TensorSlice.from_proto(proto, rank) for proto in protos])


def slice_key(name: bytes, tensor_slice: TensorSlice) -> bytes:
    """The key under which a slice is stored."""
    numbers = (write_signed(number) for extent in tensor_slice.extents for number in extent)
    return b"".join((write_number(0), write_string(name), write_number(len(tensor_slice.extents)), *numbers))


def parse_slice_key(key: bytes) -> tuple[bytes, TensorSlice] | None:
    """The tensor's name and the slice that a key stands for; None for a key that is a plain name."""
    if not key.startswith(b"\x00"):
        return None
    try:
        name, position = read_string(key, 1)
        rank, position = read_number(key, position)
        if rank > MAX_RANK:
            return None
        extents = []
        for _ in range(rank):
            start, position = read_signed(key, position)
            length, position = read_signed(key, position)
            extents.append((start, length) if length >= 0 else (0, WHOLE))
    except CodingError:
        return None
    return (name, TensorSlice(tuple(extents))) if position == len(key) else None


def check_cover(shape: Sequence[int], slices: Iterable[TensorSlice]) -> None:
    """Makes sure that slices make up a tensor, each element once.

    Raises:
        BundleError: They overlap, leave a gap, or reach beyond it.
        UnsupportedError: There are too many to tell.
    """
    covered = check_disjoint(shape, slices)
    elements = math.prod(shape)
    if covered != elements:
        raise BundleError(f"the slices have {covered} elements, the tensor has {elements}")


def check_disjoint(shape: Sequence[int], slices: Iterable[TensorSlice]) -> int:
    """Makes sure that slices lie in a tensor, and that none has an element of another.

    They need not make it up: where each worker saves the part of a variable that it holds, a checkpoint has
    that part, and TensorFlow restores it.

    Returns:
        How many elements they have.

    Raises:
        BundleError: They overlap, or reach beyond it.
        UnsupportedError: There are too many to tell.
    """
    boxes = [box for box in (part.ranges(shape) for part in slices) if all(a < b for a, b in box)]
    if len(boxes) > 1:
        _compare_boxes(boxes)
    return sum(math.prod(end - begin for begin, end in box) for box in boxes)


def _compare_boxes(boxes: list[tuple[tuple[int, int], ...]]) -> None:
    # Swept along the dimension with the most cuts, so that few boxes are open at a time.
    rank = len(boxes[0])
    if not rank:
        raise BundleError(f"{len(boxes)} slices of one number")
    axis = max(range(rank), key=lambda dimension: len({box[dimension][0] for box in boxes}))
    boxes.sort(key=lambda box: box[axis])
    active: list[tuple[tuple[int, int], ...]] = []
    comparisons = 0
    for box in boxes:
        begin = box[axis][0]
        active = [other for other in active if other[axis][1] > begin]
        comparisons += len(active)
        if comparisons > _MAX_COMPARISONS:
            raise UnsupportedError(f"{len(boxes)} slices are too many to compare")
        for other in active:
            if all(a < d and c < b for (a, b), (c, d) in zip(box, other, strict=True)):
                raise BundleError(f"slices overlap: {list(box)} and {list(other)}")
        active.append(box)
