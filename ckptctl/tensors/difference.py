"""How far two tensors of numbers are from each other, in one pass over both and in bounded memory.

NumPy is imported when the first tensor is read, not before.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ckptctl.bundle.dtypes import DTYPES, NumberKind
from ckptctl.tensors.compare import Kind
from ckptctl.tensors.elements import check_decodable, in_rows, stream_elements

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from ckptctl.tensors.compare import Diff
    from ckptctl.tensors.listing import Listing, Tensor

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the second tensor is from the first, computed in float64.

    Attributes:
        norm: The Euclidean norm of `b - a`.
        relative: That norm over the norm of `a`; None if `a` is all zeros.
        max_abs: The largest absolute value in `b - a`.
        differing: How many elements differ. Two NaN do not.
        non_finite: How many elements differ and are NaN or infinite in one of the two; they count for nothing
            in the norms.
    """

    norm: float
    relative: float | None
    max_abs: float
    differing: int
    non_finite: int


def measure(a: Listing, b: Listing, diff: Diff) -> tuple[Diff, dict[str, Difference | None]]:
    """Reads the tensors whose values differ, or may differ, from both checkpoints.

    Args:
        a: The first.
        b: The second.
        diff: What their indexes say.

    Returns:
        What is known now: what was unknown is the same or not, wherever it can be put side by side. And how
        far the tensors are from each other, by name.

    Raises:
        UnreadableError: One cannot be read; or a checkpoint is V1.
        BundleError: One is damaged.
    """
    check_decodable(a)
    check_decodable(b)
    numbers: dict[str, Difference | None] = {}
    comparisons = []
    for one in diff.comparisons:
        known = one
        if one.kind in {Kind.VALUES, Kind.UNKNOWN} and one.a is not None and one.b is not None:
            found = numbers[one.name] = difference((a, one.a), (b, one.b))
            if one.kind is Kind.UNKNOWN and found is not None:
                known = one._replace(kind=Kind.VALUES if found.differing else Kind.SAME)
        comparisons.append(known)
    return replace(diff, comparisons=tuple(comparisons)), numbers


def difference(a: tuple[Listing, Tensor], b: tuple[Listing, Tensor]) -> Difference | None:
    """Reads two tensors side by side.

    Args:
        a: The first, in its checkpoint.
        b: The second.

    Returns:
        None where there is no such number: for strings and variants, for another dtype or shape, for V1,
        and for tensors that are partitioned in different ways across their rows.

    Raises:
        UnreadableError: One cannot be read.
        BundleError: One is damaged.
    """
    kind = _common_kind(a[1], b[1])
    if kind is None:
        return None
    running = _Running()
    with contextlib.closing(stream_elements(*a)) as ours, contextlib.closing(stream_elements(*b)) as others:
        for pair in _in_step(ours, others):
            running.add(*pair, kind)
    return running.result()


def _common_kind(a: Tensor, b: Tensor) -> NumberKind | None:
    """What the elements of both are; None if they cannot be put side by side."""
    if a.entry is None or b.entry is None or (a.entry.dtype, a.shape) != (b.entry.dtype, b.shape):
        return None
    if set(a.entry.slices) != set(b.entry.slices) and not (in_rows(a.entry) and in_rows(b.entry)):
        return None
    dtype = DTYPES.get(a.entry.dtype)
    return None if dtype is None else dtype.kind


def _in_step(a: Iterator[Array], b: Iterator[Array]) -> Iterator[tuple[Array, Array]]:
    """Yields pieces of the same length; a stream is asked for more once its piece is used up."""
    ours = others = None
    while True:
        if ours is None or not len(ours):
            ours = next(a, None)
        if others is None or not len(others):
            others = next(b, None)
        if ours is None or others is None:
            return  # both: they have the same number of elements
        length = min(len(ours), len(others))
        yield ours[:length], others[:length]
        ours, others = ours[length:], others[length:]


class _Running:
    """The difference of the elements so far."""

    def __init__(self) -> None:
        self._squares = self._base_squares = self._max = 0.0
        self._differing = self._non_finite = 0

    def add(self, a: Array, b: Array, kind: NumberKind) -> None:
        """Takes in two pieces of the same length."""
        import numpy as np  # noqa: PLC0415 - numpy costs more than most commands

        with np.errstate(over="ignore"):  # what is beyond float64 is infinite
            if kind is NumberKind.FLOAT:
                base, b = self._finite(a.astype(np.float64), b.astype(np.float64))
                distance = np.abs(b - base)
            elif kind is NumberKind.COMPLEX:
                a, b = self._finite(a.astype(np.complex128), b.astype(np.complex128))
                base, distance = np.abs(a), np.abs(b - a)
            else:
                base, distance = a.astype(np.float64), _integer_distance(a, b)
            self._differing += int(np.count_nonzero(distance))
            self._squares += float(np.einsum("i,i", distance, distance))
            self._base_squares += float(np.einsum("i,i", base, base))
            self._max = max(self._max, float(distance.max(initial=0.0)))

    def _finite(self, a: Array, b: Array) -> tuple[Array, Array]:
        """The elements that are finite in both; the others are counted if they differ."""
        import numpy as np  # noqa: PLC0415 - see above

        finite = np.isfinite(a) & np.isfinite(b)
        if finite.all():
            return a, b
        ours, others = a[~finite], b[~finite]
        unlike = int(np.count_nonzero((ours != others) & ~(np.isnan(ours) & np.isnan(others))))
        self._non_finite += unlike
        self._differing += unlike
        return a[finite], b[finite]

    def result(self) -> Difference:
        """What all of it comes to."""
        norm = math.sqrt(self._squares)
        base = math.sqrt(self._base_squares)
        relative = norm / base if base else None
        return Difference(norm, relative, self._max, self._differing, self._non_finite)


def _integer_distance(a: Array, b: Array) -> Array:
    """How far integers are apart: exact up to the last step, where float64 rounds what has over 53 bits."""
    import numpy as np  # noqa: PLC0415 - see above

    if a.dtype != np.uint64:
        a, b = a.astype(np.int64), b.astype(np.int64)
    # In 64 bits without sign the greater less the smaller is right, however far below 0 they were.
    apart: Array = np.maximum(a, b).astype(np.uint64) - np.minimum(a, b).astype(np.uint64)
    return apart.astype(np.float64)
